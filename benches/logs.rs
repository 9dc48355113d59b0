//! What capturing output costs: CPU seconds for a GB, MB/s, and lines lost; for one and fifty writers that write
//! line by line (100 bytes), and for big writes (64 KiB).
//!
//! `cargo bench --bench logs [-- MEGABYTES]`. The writers are processes of their own (this program again), so the CPU time
//! is that of the log thread, and of a main thread that waits. Wall times mean little on a busy machine.

use ganger::logs::{Logs, Report, Sources};
use ganger::model::name::{ProgramName, SlotId};
use ganger::model::spec::{JobCount, JobsSpec, LogFile, OutputSpec, Sink, StreamSpec};
use ganger::model::template::Template;
use ganger::model::units::Bytes;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::stat::Mode;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Instant;

const LINE: usize = 100;

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    match (words.next(), words.next(), words.next()) {
        (Some(fifo), Some(lines), Some(at_once)) => write_lines(&fifo, number(&lines), number(&at_once)),
        (megabytes, _, _) => {
            let megabytes = megabytes.map_or(1000, |word| number(&word));
            println!("{:28} {:>8} {:>8} {:>8}", format!("{megabytes} MB of 100-byte lines"), "CPU s/GB", "MB/s", "lost");
            measure("1 writer, line writes", 1, 1, megabytes, "");
            measure("50 writers, line writes", 50, 1, megabytes, "");
            measure("1 writer, big writes", 1, 655, megabytes, "");
            measure("50 writers, big writes", 50, 655, megabytes, "");
            measure("1 writer, jobs counted", 1, 1, megabytes, r"^  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d (\S+) .* DONE$");
        }
    }
}

fn number(word: &str) -> usize {
    word.parse().expect("a number")
}

fn measure(name: &str, writers: usize, at_once: usize, megabytes: usize, done: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let logs = Logs::start(100, Box::new(|_: Report| ())).expect("a log thread");
    let count = match done {
        "" => JobCount::Notify,
        done => JobCount::Lines { done: Some(done.to_owned()), failed: None, running: None },
    };
    let program = ProgramName::new("bench");
    let files: Vec<(PathBuf, PathBuf)> =
        (0..writers).map(|number| (dir.path().join(format!("{number}.fifo")), dir.path().join(format!("{number}.log")))).collect();
    for (number, (fifo, log)) in files.iter().enumerate() {
        nix::unistd::mkfifo(fifo, Mode::S_IRUSR | Mode::S_IWUSR).expect("a FIFO");
        let stdout = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(fifo).expect("our end").into();
        let path = Template::text(log.to_str().expect("a path in UTF-8"));
        let stdout_spec =
            StreamSpec { sinks: vec![Sink::File(LogFile { path, max_bytes: Bytes(0), backups: 0 })], ..StreamSpec::default() };
        let output = OutputSpec { stdout: stdout_spec, ..OutputSpec::default() };
        let jobs = JobsSpec { count: count.clone(), timeout: None };
        logs.open(SlotId::new(&program, number as u32), String::new(), output, jobs, Some(Sources { stdout, stderr: None }));
    }
    let lines = megabytes * 1_000_000 / LINE / writers;
    let (before, began) = (cpu(), now());
    let children: Vec<Child> = files.iter().map(|(fifo, _)| writer(fifo, lines, at_once)).collect();
    for mut child in children {
        assert!(child.wait().expect("our child").success());
    }
    logs.stop();
    let (wall, spent) = (began.elapsed().as_secs_f64(), cpu() - before);
    let gigabytes = (lines * LINE * writers) as f64 / 1e9;
    let kept: usize = files.iter().map(|(_, log)| whole_lines(log)).sum();
    println!("{name:28} {:8.2} {:8.0} {:8}", spent / gigabytes, gigabytes * 1000.0 / wall, lines * writers - kept);
}

/// What a worker does: writes `lines` lines, `at_once` in one call.
fn write_lines(fifo: &str, lines: usize, at_once: usize) {
    let mut out = OpenOptions::new().read(true).write(true).open(fifo).expect("the FIFO");
    let chunk = format!("{:>width$}\n", "line", width = LINE - 1).repeat(at_once);
    let mut left = lines;
    while left > 0 {
        let now = left.min(at_once);
        out.write_all(&chunk.as_bytes()[..now * LINE]).expect("a FIFO takes all");
        left -= now;
    }
}

fn whole_lines(log: &Path) -> usize {
    let (mut file, mut buffer, mut count) = (File::open(log).expect("a log"), vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer).expect("readable") {
            0 => return count,
            read => count += memchr::memchr_iter(b'\n', &buffer[..read]).count(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark starts writers itself")]
fn writer(fifo: &Path, lines: usize, at_once: usize) -> Child {
    let ourselves = std::env::current_exe().expect("our own path");
    Command::new(ourselves).arg(fifo).args([lines.to_string(), at_once.to_string()]).spawn().expect("a writer")
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time itself")]
fn now() -> Instant {
    Instant::now()
}

/// Processor time of this process so far, in seconds.
fn cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("our own usage");
    [usage.user_time(), usage.system_time()].iter().map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).sum()
}
