<?php

declare(strict_types=1);

/**
 * What a PHP worker tells its supervisor, in one file and without any extension.
 *
 * Copy it into a project, `require` it, and call `ready()` once, `start($job)` before and `done()` or `failed()` after each
 * job. Under ganger this gives job counts, the job in hand, heartbeats and job time-outs; READY, STATUS and WATCHDOG are
 * understood by systemd too (the protocol is sd_notify; our own keys begin with `X_`, as it asks). Where nobody supervises,
 * every call returns at once.
 *
 * Three rules make it safe in a hot loop:
 *  - it never blocks: a supervisor that is busy or stopped must not hold up a job (the kernel queues few datagrams, often 10);
 *  - it never throws and never prints;
 *  - every message carries the whole truth (totals, the job in hand), so that a dropped one costs nothing: the next repeats it.
 *
 * What it is not: a log, or a queue client. Report from the process that does the jobs.
 */
final class Ganger
{
    private static int $jobs = 0;
    private static int $errors = 0;
    private static string $job = '';
    private static bool $stop = false;

    /** @var array<string, string> lines that must arrive at least once (READY, STOPPING, STATUS); kept until a message was taken */
    private static array $unsent = [];
    /** Whether the last message about jobs was dropped. */
    private static bool $stale = false;

    /** @var resource|null */
    private static $socket = null;
    private static int $pid = 0;

    /** Whether there is anybody to tell. */
    public static function supervised(): bool
    {
        return (string) getenv('NOTIFY_SOCKET') !== '';
    }

    /** This worker is set up and takes jobs now. */
    public static function ready(string $status = ''): bool
    {
        self::$unsent['READY'] = '1';
        if ($status !== '') {
            self::$unsent['STATUS'] = self::line($status);
        }
        return self::tell();
    }

    /** Job `$job` (an id or a name) is in hand from now on. */
    public static function start(string $job): bool
    {
        self::$job = self::line($job);
        return self::tell();
    }

    /** The job in hand is done. */
    public static function done(): bool
    {
        self::$jobs++;
        self::$job = '';
        return self::tell();
    }

    /** The job in hand has failed; it counts as a job and as an error. */
    public static function failed(): bool
    {
        self::$errors++;
        return self::done();
    }

    /** Nothing to do. Cheap: says something only if the last message was dropped, or to feed a watchdog. */
    public static function idle(): bool
    {
        self::$job = '';
        return self::$stale || self::$unsent !== [] || getenv('WATCHDOG_USEC') !== false ? self::tell() : true;
    }

    /** A sign of life. Call it within long jobs and while waiting, at least twice in `watchdog` seconds. */
    public static function heartbeat(): bool
    {
        return self::tell();
    }

    /** This worker takes no more jobs and will end by itself. */
    public static function stopping(): bool
    {
        self::$unsent['STOPPING'] = '1';
        return self::tell();
    }

    /** One line for people: what this worker is at. */
    public static function status(string $text): bool
    {
        self::$unsent['STATUS'] = self::line($text);
        return self::tell();
    }

    /** Asks for this much more time before the supervisor insists (while stopping or starting). */
    public static function extend(float $seconds): bool
    {
        return self::send('EXTEND_TIMEOUT_USEC=' . (int) ($seconds * 1e6));
    }

    /** Jobs done by this process, failed ones included. */
    public static function jobs(): int
    {
        return self::$jobs;
    }

    /**
     * Lets TERM, INT and QUIT end the worker between jobs instead of within one; ask `shouldStop()` before each job.
     * False without the pcntl extension: then a signal ends PHP at once.
     *
     * PHP goes on with a blocking read after a signal, so wait for jobs in short steps (a second or two), or an idle worker
     * will not hear that it should go.
     */
    public static function catchSignals(): bool
    {
        if (!function_exists('pcntl_async_signals')) {
            return false;
        }
        pcntl_async_signals(true);
        foreach ([SIGTERM, SIGINT, SIGQUIT] as $signal) {
            pcntl_signal($signal, static function (): void {
                self::$stop = true;
            });
        }
        return true;
    }

    public static function shouldStop(): bool
    {
        return self::$stop;
    }

    private static function tell(): bool
    {
        $lines = self::$unsent + [
            'X_JOBS' => (string) self::$jobs,
            'X_ERRORS' => (string) self::$errors,
            'X_JOB' => self::$job,
            'WATCHDOG' => '1',
        ];
        $text = '';
        foreach ($lines as $key => $value) {
            $text .= "$key=$value\n";
        }
        $taken = self::send($text);
        if ($taken) {
            self::$unsent = [];
        }
        self::$stale = !$taken;
        return $taken;
    }

    /** One datagram. True if the supervisor's socket took it. */
    public static function send(string $message): bool
    {
        $address = (string) getenv('NOTIFY_SOCKET');
        if ($address === '') {
            return false;
        }
        // Twice at most: a daemon that was restarted has a new socket, and the first write finds that out.
        for ($try = 0; $try < 2; $try++) {
            if (self::$socket === null || self::$pid !== getmypid()) { // the first call, or the first after a fork
                $name = $address[0] === '@' ? "\0" . substr($address, 1) : $address;
                self::$socket = @stream_socket_client('udg://' . $name) ?: null;
                if (self::$socket === null) {
                    return false;
                }
                stream_set_blocking(self::$socket, false);
                self::$pid = (int) getmypid();
            }
            $written = @fwrite(self::$socket, $message);
            if ($written === strlen($message)) {
                return true;
            }
            if ($written === 0) {
                return false; // EAGAIN: the queue is full
            }
            self::$socket = null; // ECONNREFUSED and the like
        }
        return false;
    }

    /** A value may not contain a line end: it would begin another key. */
    private static function line(string $text): string
    {
        return substr(strtr($text, "\r\n", '  '), 0, 256);
    }
}
