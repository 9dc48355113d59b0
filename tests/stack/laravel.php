<?php

/**
 * A worker that has never heard of us: prints what `artisan queue:work` prints (Laravel 10 and later), colours and all, and
 * heeds TERM between jobs. Every tenth job fails.
 */

declare(strict_types=1);

$stop = false;
pcntl_async_signals(true);
pcntl_signal(SIGTERM, static function () use (&$stop): void {
    $stop = true;
});

echo "\n   INFO  Processing jobs from the [default] queue.\n\n";
for ($n = 1; !$stop; $n++) {
    $at = date('Y-m-d H:i:s');
    $job = 'App\\Jobs\\Mail' . $n % 3;
    echo "  \e[90m$at\e[39m $job ", str_repeat('.', 40), " \e[33;1mRUNNING\e[39;22m\n";
    usleep(10_000);
    $time = $n % 7 === 0 ? '1s 20ms' : '10.12ms';
    echo "  \e[90m$at\e[39m $job ", str_repeat('.', 40), " \e[90m$time\e[39m ", $n % 10 === 0 ? "\e[31;1mFAIL\e[39;22m" : "\e[32;1mDONE\e[39;22m", "\n";
}
