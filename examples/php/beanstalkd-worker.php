#!/usr/bin/env php
<?php

declare(strict_types=1);

/**
 * A beanstalkd worker in plain PHP: takes a job, does it, deletes it, tells its supervisor, and heeds TERM between jobs.
 *
 *   php beanstalkd-worker.php [--server=127.0.0.1:11300] [--tube=jobs] [--wait=1] [--work=20] [--leak=0] [--journal=FILE]
 *
 *   --wait     seconds that one reserve waits; an idle worker hears TERM after this long at the latest
 *   --work     milliseconds that a job takes
 *   --leak     KB of memory that each job loses, to show recycling by memory
 *   --journal  appends "take JOB RUN" and "done JOB RUN" lines (RUN is one life of a worker): evidence for tests
 *
 * The work itself is a stand-in: put yours into `work()`. A job whose body is "fail" is buried and counted as an error.
 */

require __DIR__ . '/Ganger.php';

/** As much of beanstalkd's protocol as a worker needs; one command, one reply. */
final class Beanstalkd
{
    /** @var resource */
    private $stream;

    public function __construct(string $server)
    {
        $stream = @stream_socket_client("tcp://$server", $errno, $error, 5.0);
        if ($stream === false) {
            throw new RuntimeException("cannot reach beanstalkd at $server: $error");
        }
        $this->stream = $stream;
    }

    public function watch(string $tube): void
    {
        $this->ask("watch $tube", 'WATCHING');
        if ($tube !== 'default') {
            $this->ask('ignore default', 'WATCHING');
        }
    }

    /**
     * The next job, or null if none came within `$seconds`.
     *
     * @return array{string, string}|null id and body
     */
    public function reserve(int $seconds): ?array
    {
        // The reply may take as long as we asked the server to wait, and a moment more.
        stream_set_timeout($this->stream, $seconds + 10);
        $reply = $this->command("reserve-with-timeout $seconds");
        if ($reply[0] === 'TIMED_OUT' || $reply[0] === 'DEADLINE_SOON') {
            return null;
        }
        if ($reply[0] !== 'RESERVED') {
            throw new RuntimeException('beanstalkd answered ' . implode(' ', $reply) . ' to reserve');
        }
        return [$reply[1], $this->body((int) $reply[2])];
    }

    public function delete(string $id): void
    {
        $this->ask("delete $id", 'DELETED');
    }

    public function bury(string $id): void
    {
        $this->ask("bury $id 0", 'BURIED');
    }

    /** Gives a job back, for another worker to take at once. */
    public function release(string $id): void
    {
        $this->ask("release $id 0 0", 'RELEASED');
    }

    private function ask(string $command, string $expected): void
    {
        $reply = $this->command($command);
        if ($reply[0] !== $expected) {
            throw new RuntimeException("beanstalkd answered {$reply[0]} to $command");
        }
    }

    /** @return list<string> the words of the reply */
    private function command(string $line): array
    {
        $line .= "\r\n";
        if (@fwrite($this->stream, $line) !== strlen($line)) {
            throw new RuntimeException('beanstalkd has closed the connection');
        }
        $reply = '';
        // A signal may cut a read short; only an end of file or a time-out ends the wait.
        while (!str_ends_with($reply, "\r\n")) {
            $part = fgets($this->stream);
            if ($part === false) {
                $this->complain();
                continue;
            }
            $reply .= $part;
        }
        return explode(' ', rtrim($reply));
    }

    private function body(int $length): string
    {
        $body = '';
        while (strlen($body) < $length + 2) {
            $part = fread($this->stream, $length + 2 - strlen($body));
            if ($part === false || $part === '') {
                $this->complain();
                continue;
            }
            $body .= $part;
        }
        return substr($body, 0, $length);
    }

    private function complain(): void
    {
        $state = stream_get_meta_data($this->stream);
        if ($state['timed_out']) {
            throw new RuntimeException('beanstalkd does not answer');
        }
        if (feof($this->stream)) {
            throw new RuntimeException('beanstalkd has closed the connection');
        }
    }
}

/** The stand-in for real work. Throws when the job fails. */
function work(string $body, int $milliseconds, int $leak): void
{
    static $lost = [];
    if ($leak > 0) {
        $lost[] = str_repeat('x', $leak * 1024);
    }
    // In steps: a signal ends usleep early, and the job must take its time all the same.
    $end = hrtime(true) + $milliseconds * 1_000_000;
    while (($left = $end - hrtime(true)) > 0) {
        usleep(max(1, intdiv($left, 1000)));
    }
    if ($body === 'fail') {
        throw new RuntimeException('this job was sent to fail');
    }
}

$options = getopt('', ['server:', 'tube:', 'wait:', 'work:', 'leak:', 'journal:']) ?: [];
$server = $options['server'] ?? '127.0.0.1:11300';
$tube = $options['tube'] ?? 'jobs';
$wait = (int) ($options['wait'] ?? 1);
$milliseconds = (int) ($options['work'] ?? 20);
$leak = (int) ($options['leak'] ?? 0);
// Append mode: each line goes out in one write, so lines of several workers never mix.
$journal = isset($options['journal']) ? fopen($options['journal'], 'a') : null;
$run = getenv('GANGER_RUN') ?: (string) getmypid();
$record = static function (string $what, string $id) use ($journal, $run): void {
    if ($journal) {
        fwrite($journal, "$what $id $run\n");
    }
};

Ganger::catchSignals();
try {
    $queue = new Beanstalkd($server);
    $queue->watch($tube);
    Ganger::ready("watching $tube at $server");

    while (!Ganger::shouldStop()) {
        $job = $queue->reserve($wait);
        if ($job === null) {
            Ganger::idle();
            continue;
        }
        [$id, $body] = $job;
        if (Ganger::shouldStop()) {
            // TERM came while we waited, and a job with it: it is not begun, so somebody else may have it.
            $queue->release($id);
            break;
        }
        Ganger::start($id);
        $record('take', $id);
        try {
            work($body, $milliseconds, $leak);
            $record('done', $id);
            $queue->delete($id);
            Ganger::done();
        } catch (RuntimeException $failure) {
            fwrite(STDERR, "job $id failed: {$failure->getMessage()}\n");
            $queue->bury($id);
            Ganger::failed();
        }
    }
    Ganger::stopping();
} catch (RuntimeException $trouble) {
    // Nothing can be mended here: say why, leave, and let the supervisor try again with its backoff.
    fwrite(STDERR, $trouble->getMessage() . "\n");
    exit(1);
}
