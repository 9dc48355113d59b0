//! `Notice`: what has happened, in order, numbered. Logs, metrics, listeners and browsers all live on it.

use crate::model::exit::Exit;
use crate::model::name::{RunId, SlotId};
use crate::model::signal::Signal;
use crate::model::state::State;
use crate::model::time::{Span, Stamp};
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Counts up by one; a gap means that a reader has missed some.
    pub seq: u64,
    pub at: Stamp,
    /// `group:process`, or a program's name, or empty for the daemon itself.
    pub about: String,
    pub slot: Option<SlotId>,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum What {
    /// A slot went from one state to another; `reason` in words, the same that the view shows.
    State {
        from: State,
        to: State,
        reason: String,
        pid: Option<i32>,
        run: Option<RunId>,
        /// Failed starts in a row, this one included where it is one.
        #[serde(default)]
        tries: u32,
    },
    Spawned {
        pid: i32,
        run: RunId,
    },
    SpawnFailed {
        text: String,
    },
    /// A worker was reaped. `why` says what led to it (crash, recycled, stopped, …).
    Ended {
        pid: i32,
        run: RunId,
        exit: Exit,
        lived: Span,
        why: Why,
        jobs: u64,
    },
    Signalled {
        pid: i32,
        signal: Signal,
        reason: String,
    },
    /// Processes of a worker's life outlived it and are being ended.
    Leftovers {
        count: u32,
    },
    /// A worker is due to be replaced; it may still have to wait for its turn.
    Due {
        reason: String,
    },
    Scaled {
        from: u32,
        to: u32,
        who: String,
    },
    /// A rolling restart went on, ended, or was halted.
    Rolling {
        done: u32,
        total: u32,
        halted: Option<String>,
    },
    /// A person asked; `who` as the door knows him.
    Asked {
        who: String,
        command: String,
    },
    Loaded {
        programs: u32,
        changed: u32,
    },
    LoadFailed {
        faults: Vec<String>,
    },
    /// Something is wrong with a slot's log: disk full, directory gone. `lost` lines since the trouble began.
    LogTrouble {
        text: String,
        lost: u64,
    },
    LogHealed {
        lost: u64,
    },
    GroupAdded {
        group: String,
    },
    GroupRemoved {
        group: String,
    },
    /// Something from outside for listeners (REMOTE_COMMUNICATION).
    Remote {
        event: String,
        data: String,
    },
    Daemon {
        text: String,
    },
    Trouble {
        text: String,
    },
}

/// Why a worker ended, as counted in `restarts_total{reason=…}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// By itself, unexpectedly (also before it was trusted).
    Crash,
    /// By itself, with an expected code.
    Finished,
    Jobs,
    Memory,
    Lifetime,
    Watchdog,
    JobTimeout,
    /// It did not say READY=1 in time.
    NotReady,
    /// Stopped, restarted or recycled by a person.
    Manual,
    Scale,
    /// Its definition changed, or a rolling restart.
    Deploy,
    Removed,
    Shutdown,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Crash => "crash",
            Why::Finished => "finished",
            Why::Jobs => "jobs",
            Why::Memory => "memory",
            Why::Lifetime => "lifetime",
            Why::Watchdog => "watchdog",
            Why::JobTimeout => "job timeout",
            Why::NotReady => "not ready",
            Why::Manual => "manual",
            Why::Scale => "scale",
            Why::Deploy => "deploy",
            Why::Removed => "removed",
            Why::Shutdown => "shutdown",
        })
    }
}

/// One line for our own log and for `gangerctl events`, without the time.
impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = &self.about;
        match &self.what {
            What::State { from, to, reason, .. } if from.word() == to.word() => write!(f, "{about}: {to}: {reason}"),
            What::State { to, reason, .. } if reason.is_empty() => write!(f, "{about}: {to}"),
            What::State { to, reason, .. } => write!(f, "{about}: {to}: {reason}"),
            What::Spawned { pid, .. } => write!(f, "{about}: spawned with pid {pid}"),
            What::SpawnFailed { text } => write!(f, "cannot start {about}: {text}"),
            What::Ended { pid, exit, lived, why, jobs, .. } => {
                write!(f, "{about}: pid {pid} {exit} after {lived} ({why}")?;
                if *jobs > 0 {
                    write!(f, ", {jobs} jobs")?;
                }
                f.write_str(")")
            }
            What::Signalled { pid, signal, reason } => write!(f, "{about}: sent {signal} to pid {pid}: {reason}"),
            What::Leftovers { count } => write!(f, "{about}: {count} process(es) outlived their worker and are being ended"),
            What::Due { reason } => write!(f, "{about}: due to be replaced: {reason}"),
            What::Scaled { from, to, who } => write!(f, "{about}: scaled from {from} to {to} by {who}"),
            What::Rolling { done, total, halted: None } => write!(f, "{about}: rolling restart: {done} of {total}"),
            What::Rolling { done, total, halted: Some(why) } => write!(f, "{about}: rolling restart halted at {done} of {total}: {why}"),
            What::Asked { who, command } => write!(f, "{who} asked: {command}"),
            What::Loaded { programs, changed } => write!(f, "definitions read: {programs} programs, {changed} changed"),
            What::LoadFailed { faults } => write!(f, "definitions not taken, {} error(s): {}", faults.len(), faults.join("; ")),
            What::LogTrouble { text, lost } => write!(f, "{about}: cannot write its log: {text} ({lost} lines lost so far)"),
            What::LogHealed { lost } => write!(f, "{about}: its log is written again; {lost} lines were lost"),
            What::GroupAdded { group } => write!(f, "group {group} added"),
            What::GroupRemoved { group } => write!(f, "group {group} removed"),
            What::Remote { event, .. } => write!(f, "remote event {event}"),
            What::Daemon { text } | What::Trouble { text } if about.is_empty() => f.write_str(text),
            What::Daemon { text } | What::Trouble { text } => write!(f, "{about}: {text}"),
        }
    }
}
