//! DATA PLANE: worker output, on its own thread.
//!
//! `Logs` is the handle to that thread; it is cheap to clone and never waits for a disk. Bytes of worker
//! output never meet the engine: they come in by a FIFO, go to sinks, the ring of last lines, followers, and
//! (as counts only) to the job counters.

use crate::model::name::{RunId, SlotId};
use crate::model::spec::{JobsSpec, OutputSpec};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

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

#[derive(Clone, Debug)]
pub struct Logs {}

impl Logs {
    /// Starts the log thread.
    pub fn start(_ring_lines: u32, _report: Box<dyn Fn(Report) + Send>) -> io::Result<Logs> {
        Ok(Logs {})
    }

    /// Opens a slot's log, or gives an open one new rules (`sources: None`).
    pub fn open(&self, _slot: SlotId, _label: String, _output: OutputSpec, _jobs: JobsSpec, _sources: Option<Sources>) {}

    /// A new life begins in the slot: job counts start at zero.
    pub fn begin(&self, _slot: SlotId, _run: RunId) {}

    /// Writes what is still in the slot's pipes, then forgets it.
    pub fn close(&self, _slot: SlotId) {}

    /// Closes and opens all files again (SIGUSR2, logrotate).
    pub fn reopen(&self) {}

    /// Empties the slot's log files and rings; old rotated files stay.
    pub async fn clear(&self, _slot: SlotId) -> Result<(), TailError> {
        Err(TailError::NoSuchSlot)
    }

    /// The end of a log.
    pub async fn tail(&self, _slot: SlotId, _channel: Channel, _last: Last) -> Result<Vec<u8>, TailError> {
        Err(TailError::NoSuchSlot)
    }

    /// What is written from now on. A follower that is too slow loses chunks and is told so in a line of ours.
    pub async fn follow(&self, _slot: SlotId, _channel: Channel) -> Result<tokio::sync::mpsc::Receiver<Bytes>, TailError> {
        Err(TailError::NoSuchSlot)
    }

    /// Comes back when everything that was in the pipes at the call has been written.
    pub async fn drain(&self) {}

    /// Drains, then ends the thread and waits for it. Blocking.
    pub fn stop(self) {}
}
