//! Our own log: each `Notice` as one line, written by a thread of its own.
//!
//! The main thread must never wait for a disk, or for a pipe that nobody reads, so it only hands over bytes.
//! The queue is bounded: when the reader of our log is that slow, whole batches are dropped and counted, and
//! the count is the first thing he reads afterwards. Not the workers' output: that is `logs`.

use crate::model::notice::{Notice, What, Why};
use crate::model::state::State;
use crate::model::time::Stamp;
use std::cell::RefCell;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

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
    /// Starts the writer and makes it the process's `tracing` subscriber. `file: None` is stderr.
    pub fn start(file: Option<PathBuf>, level: &str, times: bool) -> io::Result<Journal> {
        let sink = match &file {
            Some(path) => Some(open(path).map_err(|e| io::Error::new(e.kind(), format!("cannot open the log {}: {e}", path.display())))?),
            None => None,
        };
        let (batches, inbox) = sync_channel(QUEUE);
        let shared = Arc::new(Shared { batches, dropped: AtomicU64::new(0), reopen: AtomicBool::new(false) });
        let writer = shared.clone();
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || write_out(inbox, sink, file, &writer))?;
        let level: tracing::Level = level.parse().unwrap_or(tracing::Level::INFO);
        let builder = tracing_subscriber::fmt().with_max_level(level).with_target(false).with_ansi(false).with_writer(Pen(shared.clone()));
        // A second subscriber can only be asked for by a second daemon in one process; the first one keeps its place.
        let _ = if times { builder.with_timer(Utc).try_init() } else { builder.without_time().try_init() };
        COLLECTS.with(|collects| *collects.borrow_mut() = true);
        Ok(Journal { shared, times, thread: Some(thread) })
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
        What::Daemon { .. } => Level::Info,
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn hand_over(shared: &Shared) {
    let lines = PENDING.with(|pending| std::mem::take(&mut *pending.borrow_mut()));
    if !lines.is_empty() && shared.batches.try_send(Batch::Lines(lines)).is_err() {
        shared.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn write_out(inbox: Receiver<Batch>, mut sink: Option<File>, path: Option<PathBuf>, shared: &Shared) {
    while let Ok(Batch::Lines(lines)) = inbox.recv() {
        if shared.reopen.swap(false, Ordering::Relaxed)
            && let Some(path) = &path
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
    }
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
