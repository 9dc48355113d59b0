//! The states of a slot: Supervisor's, and two of ours that people see under Supervisor's names.

use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Never started, or stopped by request, or just about to be started again.
    Stopped,
    /// Asked of the kernel, no pid yet. Shown as STARTING.
    Launching,
    /// Its lock is held elsewhere; it starts when the lock is free.
    Waiting,
    /// A worker lives but is not yet trusted.
    Starting,
    /// A worker lives and is trusted: it said READY=1, or outlived `startsecs`.
    Running,
    /// A start failed; the next try has a date.
    Backoff,
    /// The worker has been asked to go.
    Stopping,
    /// The worker itself is gone, children of its life are not; they are being ended. Shown as STOPPING.
    Clearing,
    /// Ended as it may, and not to be started again by itself.
    Exited,
    /// Given up; only a person (or `retry_after_fatal`) lifts it.
    Fatal,
}

impl State {
    /// The word that people see, in every door.
    pub fn word(self) -> &'static str {
        match self {
            State::Stopped => "STOPPED",
            State::Launching | State::Starting => "STARTING",
            State::Waiting => "WAITING",
            State::Running => "RUNNING",
            State::Backoff => "BACKOFF",
            State::Stopping | State::Clearing => "STOPPING",
            State::Exited => "EXITED",
            State::Fatal => "FATAL",
        }
    }

    /// True where a worker with a pid is in the slot.
    pub fn holds_worker(self) -> bool {
        matches!(self, State::Starting | State::Running | State::Stopping)
    }

    /// True where nothing of the last life is left and nothing is on its way in.
    pub fn is_empty(self) -> bool {
        matches!(self, State::Stopped | State::Waiting | State::Backoff | State::Exited | State::Fatal)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
