//! Our own log: each `Notice` as one line, written by a thread of its own.
//!
//! The main thread must never wait for a disk, or for a pipe that nobody reads, so it only hands over bytes.
//! The queue is bounded: when the reader of our log is that slow, whole batches are dropped and counted, and
//! the count is the first thing he reads afterwards. Not the workers' output: that is `logs`.

use crate::daemon::supervisor_log;
use crate::model::notice::{Notice, What, Why};
use crate::model::state::State;
use crate::model::time::Stamp;
use std::cell::RefCell;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// What our log is written on.
#[derive(Clone, Debug, Default)]
pub struct Paper {
    /// `None` is stderr.
    pub file: Option<PathBuf>,
    /// The file is rotated at this size; 0: never.
    pub max_bytes: u64,
    /// Old files that are kept; 0: it is truncated.
    pub backups: u32,
    /// And a copy to stdout.
    pub stdout: bool,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Ours.
    Times,
    /// Whoever takes our stderr puts the time before it.
    NoTimes,
    /// `2026-11-25 02:05:06,123 INFO text`.
    Supervisor,
}

/// The target of an event that Supervisor calls critical; `tracing` has no such level.
pub const CRITICAL: &str = "critical";

/// The writing end; `flush` after each turn of the main loop.
pub struct Journal {
    shared: Arc<Shared>,
    times: bool,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    batches: SyncSender<Batch>,
    /// Batches that found the queue full.
    dropped: AtomicU64,
    reopen: AtomicBool,
}

enum Batch {
    Lines(Vec<u8>),
    End,
}

thread_local! {
    /// Lines of this thread that have not been handed over yet.
    static PENDING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Only the main thread collects; others hand over each line at once.
    static COLLECTS: RefCell<bool> = const { RefCell::new(false) };
}

/// Batches that may wait for the writer.
const QUEUE: usize = 256;
/// Bytes that the main thread collects before it hands them over in mid-turn.
const BATCH: usize = 64 * 1024;

impl Journal {
    /// Starts the writer and makes it the process's `tracing` subscriber.
    pub fn start(paper: Paper, level: &str, style: Style) -> io::Result<Journal> {
        let sink = match &paper.file {
            Some(path) => Some(open(path).map_err(|e| io::Error::new(e.kind(), format!("cannot open the log {}: {e}", path.display())))?),
            None => None,
        };
        let (batches, inbox) = sync_channel(QUEUE);
        let shared = Arc::new(Shared { batches, dropped: AtomicU64::new(0), reopen: AtomicBool::new(false) });
        let writer = shared.clone();
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || write_out(inbox, sink, &paper, &writer))?;
        let level: tracing::Level = match level {
            "critical" => tracing::Level::ERROR,
            "blather" => tracing::Level::TRACE,
            level => level.parse().unwrap_or(tracing::Level::INFO),
        };
        let builder = tracing_subscriber::fmt().with_max_level(level).with_target(false).with_ansi(false).with_writer(Pen(shared.clone()));
        // A second subscriber can only be asked for by a second daemon in one process; the first one keeps its place.
        let _ = match style {
            Style::Times => builder.with_timer(Utc).try_init(),
            Style::NoTimes => builder.without_time().try_init(),
            Style::Supervisor => builder.event_format(Supervisors).try_init(),
        };
        COLLECTS.with(|collects| *collects.borrow_mut() = true);
        Ok(Journal { shared, times: style == Style::Times, thread: Some(thread) })
    }

    /// Writes one notice into our log, at the level that it deserves.
    ///
    /// The line is the one that `tracing` would write, at a fifth of the price: notices are by far the most of our log, and each
    /// end and start of a worker makes three. What would have to be escaped takes the long way.
    pub fn record(&self, notice: &Notice) {
        let level = level_of(&notice.what);
        if !level.is_wanted() {
            return;
        }
        let text = notice.to_string();
        if text.chars().any(char::is_control) {
            return level.trace(&text);
        }
        let waiting = PENDING.with(|pending| {
            let mut pending = pending.borrow_mut();
            // Writing into memory does not fail.
            if self.times {
                let _ = write!(pending, "{} ", Time(notice.at));
            }
            let _ = writeln!(pending, "{:>5} {text}", level.word());
            pending.len()
        });
        if waiting > BATCH {
            hand_over(&self.shared);
        }
    }

    /// Hands over what this thread has written since the last call.
    pub fn flush(&self) {
        hand_over(&self.shared);
    }

    /// Closes and opens the log file again before the next line (SIGUSR2).
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Relaxed);
    }

    /// Writes everything and ends the thread.
    pub fn stop(mut self) {
        self.flush();
        // Blocks until there is room: this is the end, and the last lines matter most.
        let _ = self.shared.batches.send(Batch::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Writes a line that is Supervisor's.
pub fn record_as_supervisor((level, text): (supervisor_log::Level, String)) {
    use supervisor_log::Level;
    match level {
        Level::Critical => tracing::error!(target: CRITICAL, "{text}"),
        Level::Error => tracing::error!("{text}"),
        Level::Warn => tracing::warn!("{text}"),
        Level::Info => tracing::info!("{text}"),
        Level::Debug => tracing::debug!("{text}"),
        Level::Blather => tracing::trace!("{text}"),
    }
}

enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl Level {
    fn is_wanted(&self) -> bool {
        match self {
            Level::Error => tracing::enabled!(tracing::Level::ERROR),
            Level::Warn => tracing::enabled!(tracing::Level::WARN),
            Level::Info => tracing::enabled!(tracing::Level::INFO),
            Level::Debug => tracing::enabled!(tracing::Level::DEBUG),
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Level::Error => "ERROR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
        }
    }

    fn trace(&self, text: &str) {
        match self {
            Level::Error => tracing::error!("{text}"),
            Level::Warn => tracing::warn!("{text}"),
            Level::Info => tracing::info!("{text}"),
            Level::Debug => tracing::debug!("{text}"),
        }
    }
}

fn level_of(what: &What) -> Level {
    match what {
        What::State { to: State::Fatal, .. } | What::LoadFailed { .. } | What::Trouble { .. } => Level::Error,
        What::State { to: State::Backoff, .. } | What::SpawnFailed { .. } | What::LogTrouble { .. } | What::Leftovers { .. } => Level::Warn,
        What::Ended { why: Why::Crash | Why::Watchdog | Why::JobTimeout | Why::NotReady, .. } => Level::Warn,
        What::State { to: State::Launching | State::Starting, .. } => Level::Debug,
        What::State { .. } | What::Spawned { .. } | What::Ended { .. } | What::Due { .. } | What::Scaled { .. } => Level::Info,
        What::Signalled { .. } | What::Rolling { .. } | What::Asked { .. } | What::Loaded { .. } | What::LogHealed { .. } => Level::Info,
        What::GroupAdded { .. } | What::GroupRemoved { .. } | What::Remote { .. } | What::Daemon { .. } => Level::Info,
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn hand_over(shared: &Shared) {
    let lines = PENDING.with(|pending| std::mem::take(&mut *pending.borrow_mut()));
    if !lines.is_empty() && shared.batches.try_send(Batch::Lines(lines)).is_err() {
        shared.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn write_out(inbox: Receiver<Batch>, mut sink: Option<File>, paper: &Paper, shared: &Shared) {
    let path = &paper.file;
    while let Ok(Batch::Lines(lines)) = inbox.recv() {
        if shared.reopen.swap(false, Ordering::Relaxed)
            && let Some(path) = path
            // The old file is kept when the new one cannot be opened: better a rotated log than none.
            && let Ok(file) = open(path)
        {
            sink = Some(file);
        }
        let dropped = shared.dropped.swap(0, Ordering::Relaxed);
        let mut out: Box<dyn Write> = match &sink {
            Some(file) => Box::new(file),
            None => Box::new(io::stderr().lock()),
        };
        // There is nobody to tell when our own log cannot be written.
        if dropped > 0 {
            let _ = writeln!(out, "WARN {dropped} batches of log lines were dropped: whoever reads this log was too slow");
        }
        let _ = out.write_all(&lines);
        let _ = out.flush();
        drop(out);
        if paper.stdout {
            let mut copy = io::stdout().lock();
            let _ = copy.write_all(&lines);
            let _ = copy.flush();
        }
        if let (Some(path), Some(file)) = (path, &sink)
            && paper.max_bytes > 0
            && file.metadata().is_ok_and(|found| found.is_file() && found.len() >= paper.max_bytes)
        {
            sink = Some(rotate(path, paper.backups)).and_then(Result::ok).or(sink);
        }
    }
}

/// `.1` is the newest of the old ones.
fn rotate(path: &Path, backups: u32) -> io::Result<File> {
    let old = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    for n in (1..backups).rev() {
        // There need not be so many yet.
        let _ = std::fs::rename(old(n), old(n + 1));
    }
    if backups > 0 {
        std::fs::rename(path, old(1))?;
    } else {
        std::fs::remove_file(path)?;
    }
    open(path)
}

/// Gives `tracing` a place to write to.
struct Pen(Arc<Shared>);

struct Line<'a>(&'a Shared);

impl<'a> MakeWriter<'a> for Pen {
    type Writer = Line<'a>;
    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let waiting = PENDING.with(|pending| {
            let mut pending = pending.borrow_mut();
            pending.extend_from_slice(bytes);
            pending.len()
        });
        if waiting > BATCH || !COLLECTS.with(|collects| *collects.borrow()) {
            hand_over(self.0);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `2026-11-25 02:05:06,123 INFO text`, by the local clock.
struct Supervisors;

impl<S, N> FormatEvent<S, N> for Supervisors
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut w: Writer<'_>, event: &tracing::Event<'_>) -> fmt::Result {
        let stamp = crate::os::clock::now().stamp;
        match jiff::Timestamp::from_millisecond(stamp.0) {
            Ok(time) => {
                let local = time.to_zoned(jiff::tz::TimeZone::system());
                write!(w, "{} ", local.strftime("%Y-%m-%d %H:%M:%S,%3f"))?;
            }
            Err(_) => w.write_str("- ")?,
        }
        let meta = event.metadata();
        w.write_str(match *meta.level() {
            tracing::Level::ERROR if meta.target() == CRITICAL => "CRIT ",
            tracing::Level::ERROR => "ERRO ",
            tracing::Level::WARN => "WARN ",
            tracing::Level::INFO => "INFO ",
            tracing::Level::DEBUG => "DEBG ",
            tracing::Level::TRACE => "BLAT ",
        })?;
        context.format_fields(w.by_ref(), event)?;
        writeln!(w)
    }
}

/// `2026-11-25T02:14:33.120Z`.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{}", Time(crate::os::clock::now().stamp))
    }
}

struct Time(Stamp);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_becomes_dot_one_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.log");
        for n in 0..4 {
            std::fs::write(&path, format!("{n}")).unwrap();
            rotate(&path, 2).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).ok();
        assert_eq!(
            [read("s.log"), read("s.log.1"), read("s.log.2"), read("s.log.3")],
            [Some(String::new()), Some("3".into()), Some("2".into()), None]
        );
        std::fs::write(&path, "x").unwrap();
        rotate(&path, 0).unwrap();
        assert_eq!((read("s.log"), read("s.log.1")), (Some(String::new()), Some("3".into())), "without backups it is truncated");
    }
}
