//! DATA PLANE: worker output, on its own thread.
//!
//! `Logs` is the handle to that thread; it is cheap to clone and never waits for a disk. Bytes of worker
//! output never meet the engine: they come in by a FIFO, go to sinks, the ring of last lines, followers, and
//! (as counts only) to the job counters.

mod ansi;
mod capture;
mod count;
mod lines;
mod pump;
mod ring;
mod sink;
mod tail;
mod thread;

use crate::logs::thread::{Found, Order, Thread};
use crate::model::name::{RunId, SlotId};
use crate::model::spec::{JobsSpec, OutputSpec};
use bytes::Bytes;
use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Which of a worker's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    Stdout,
    Stderr,
}

/// What the log thread tells the daemon. Called on the log thread; must not wait.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// Totals of the life `run`, at most once a round; `job`: the job in hand as the lines tell, `Some("")` is idle.
    Counted { slot: SlotId, run: RunId, done: u64, failed: u64, job: Option<String> },
    /// Writing fails (`Some`, in words) or works again (`None`); `lost` lines since the trouble began.
    Changed { slot: SlotId, trouble: Option<String>, lost: u64 },
    /// Output of a stream with `events`, a piece of at most 128 KiB as it was read, captured text among it. There may be as
    /// many as there is output: whoever takes them must drop what is too much.
    Output { slot: SlotId, run: RunId, channel: Channel, data: Vec<u8> },
    /// What the life `run` wrote between Supervisor's capture tokens (`StreamSpec::capture_max`).
    Captured { slot: SlotId, run: RunId, channel: Channel, data: Vec<u8> },
}

/// The ends that we read, opened read-write (so there is never an end of file) and non-blocking.
#[derive(Debug)]
pub struct Sources {
    pub stdout: OwnedFd,
    /// `None` where stderr goes where stdout goes.
    pub stderr: Option<OwnedFd>,
}

/// How much of the end of a log is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Bytes of the log file (the current one only), or of the ring where there is no file.
    Bytes(u64),
    /// Whole lines, from the ring of last lines.
    Lines(u32),
}

/// Why a log cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailError {
    NoSuchSlot,
    /// stderr is merged into stdout.
    NoSuchChannel,
    Unreadable(String),
}

impl fmt::Display for TailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TailError::NoSuchSlot => f.write_str("no such worker"),
            TailError::NoSuchChannel => f.write_str("its stderr is written to stdout (redirect_stderr)"),
            TailError::Unreadable(why) => f.write_str(why),
        }
    }
}

/// The handle: cheap to clone. The log thread drains and ends when the last one is dropped, or by `stop`.
#[derive(Clone, Debug)]
pub struct Logs {
    line: Arc<Line>,
}

/// The line to the log thread: a queue, and a bell that wakes it.
#[derive(Debug)]
struct Line {
    orders: Sender<Order>,
    bell: Arc<EventFd>,
    /// Orders since the last ring.
    unheard: AtomicU32,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How many orders may wait for `Logs::ring`.
const UNHEARD: u32 = 64;

impl Line {
    /// Orders given after the thread's end are dropped, and with them their answers.
    fn give(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            self.ring();
        }
    }

    /// An order that can wait a moment: it is heard with the next one that cannot, or when the bell is rung.
    fn leave(&self, order: Order) {
        if self.orders.send(order).is_ok() && self.unheard.fetch_add(1, Ordering::Relaxed) >= UNHEARD {
            self.ring();
        }
    }

    fn ring(&self) {
        self.unheard.store(0, Ordering::Relaxed);
        // It can fail only when the bell has rung 2^64 times unheard.
        let _ = self.bell.write(1);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.give(Order::Stop);
    }
}

impl Logs {
    /// Starts the log thread. `ring_lines`: how many last lines of each stream are kept in memory at most (16 KiB of bytes at
    /// least). `report` is called on the log thread and must not wait.
    pub fn start(ring_lines: u32, report: Box<dyn Fn(Report) + Send>) -> io::Result<Logs> {
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (orders, queue) = std::sync::mpsc::channel();
        let prepared = thread::Prepared::new(queue, bell.clone())?;
        let run = move || Thread::new(prepared, ring_lines, report).run();
        let thread = std::thread::Builder::new().name("logs".to_owned()).spawn(run)?;
        Ok(Logs { line: Arc::new(Line { orders, bell, unheard: AtomicU32::new(0), thread: Mutex::new(Some(thread)) }) })
    }

    /// Opens a slot's log, or gives an open one new rules (`sources: None`; then its streams, ring, followers and counts stay).
    /// Files and their directories are made at once; one that cannot be is reported as a trouble. The label is for sinks that
    /// name the worker; files do not.
    pub fn open(&self, slot: SlotId, _label: String, output: OutputSpec, jobs: JobsSpec, sources: Option<Sources>) {
        self.line.give(Order::Open { slot, output, jobs, sources, life: None });
    }

    /// `open` with new sources, and `begin` of the first life that writes to them, in one. The thread is not woken for it: when
    /// hundreds are started together that would cost more than all the rest. Call `ring` when the last is done.
    pub fn open_for(&self, slot: SlotId, output: OutputSpec, jobs: JobsSpec, sources: Sources, life: RunId) {
        self.line.leave(Order::Open { slot, output, jobs, sources: Some(sources), life: Some(life) });
    }

    /// Wakes the thread for what was left for it by `open_for`.
    pub fn ring(&self) {
        self.line.ring();
    }

    /// A new life begins in the slot: what is in its pipes is the last life's and counted for that; then counts start at zero.
    /// To be called before the worker is started.
    pub fn begin(&self, slot: SlotId, run: RunId) {
        self.line.give(Order::Begin { slot, run });
    }

    /// `begin` for a life whose lines nobody counts or changes: nothing hangs on the moment, so the thread is not woken for it.
    pub fn begin_uncounted(&self, slot: SlotId, run: RunId) {
        self.line.leave(Order::Begin { slot, run });
    }

    /// Writes what is still in the slot's pipes, then forgets it.
    pub fn close(&self, slot: SlotId) {
        self.line.give(Order::Close { slot });
    }

    /// Closes and opens all files again (SIGUSR2, logrotate).
    pub fn reopen(&self) {
        self.line.give(Order::Reopen);
    }

    /// Empties the slot's log files and rings; old rotated files stay.
    pub async fn clear(&self, slot: SlotId) -> Result<(), TailError> {
        self.ask(|answer| Order::Clear { slot, answer }).await?
    }

    /// The end of a log. A file is read aside, so that a slow disk holds up nobody else.
    pub async fn tail(&self, slot: SlotId, channel: Channel, last: Last) -> Result<Vec<u8>, TailError> {
        let (path, count) = match self.ask(|answer| Order::Tail { slot, channel, last, answer }).await?? {
            Found::Bytes(bytes) => return Ok(bytes),
            Found::File(path, count) => (path, count),
        };
        let read = move || {
            tail::last_bytes(&path, count).map_err(|error| TailError::Unreadable(format!("{}: {}", path.display(), sink::words(&error))))
        };
        aside(read).await.unwrap_or_else(|| Err(TailError::Unreadable("a fault of ours ended the reading".to_owned())))
    }

    /// What is written from now on. A follower that is too slow loses chunks and is told so in a line of ours. The receiver
    /// ends when the slot is closed.
    pub async fn follow(&self, slot: SlotId, channel: Channel) -> Result<mpsc::Receiver<Bytes>, TailError> {
        self.ask(|answer| Order::Follow { slot, channel, answer }).await?
    }

    /// Comes back when everything that was in the pipes at the call has been written.
    pub async fn drain(&self) {
        // No answer: the thread has ended, and it drains before it does.
        let _ = self.ask(|answer| Order::Drain { answer }).await;
    }

    /// Drains, then ends the thread and waits for it. Blocking.
    pub fn stop(self) {
        self.line.give(Order::Stop);
        let thread = self.line.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(thread) = thread {
            // Its panic has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, TailError> {
        let (answer, answered) = oneshot::channel();
        self.line.give(order(answer));
        answered.await.map_err(|_| TailError::Unreadable("the log thread has ended".to_owned()))
    }
}

/// Does what may block on a thread of its own, or here and now where the process limit leaves none. `None`: it panicked.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, answer) = tokio::sync::oneshot::channel();
    let work = Arc::new(Mutex::new(Some(work)));
    // In a cell, since a closure that was given to a thread which cannot be made is lost.
    let theirs = work.clone();
    let thread = std::thread::Builder::new().name("aside".into()).spawn(move || {
        let work: Option<_> = theirs.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        // Whoever asked may have gone away.
        let _ = work.map(|work| done.send(work()));
    });
    match thread {
        Ok(_) => answer.await.ok(),
        Err(_) => {
            let work = work.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
            work.map(|work| work())
        }
    }
}
