//! `Command`, `Reply`, `Refusal`: all that anyone may ask, whichever door he came by.
//!
//! These are also the bodies of the REST door, so their JSON is public.

use crate::model::name::Target;
use crate::model::signal::Signal;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The number under which an answer is owed. The daemon keeps the waiting door under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticket(pub u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    Start {
        targets: Vec<Target>,
    },
    Stop {
        targets: Vec<Target>,
    },
    /// Stops what runs, all at once, and starts each again when it is gone. What does not run is started.
    Restart {
        targets: Vec<Target>,
    },
    /// A rolling restart: a batch at a time, each waited for until ready; halts at the first failure.
    Roll {
        targets: Vec<Target>,
        batch: Batch,
    },
    /// Soft replacement within each program's recycling budget.
    Recycle {
        targets: Vec<Target>,
    },
    /// Changes how many workers of a program are wanted. Workers that stay are not touched.
    Scale {
        program: String,
        to: ScaleTo,
    },
    Signal {
        targets: Vec<Target>,
        signal: Signal,
    },
    /// Reads the definitions again. `dry`: says only what would change.
    Reload {
        dry: bool,
    },
    /// Supervisor's `reloadConfig`: reads the definitions and keeps them for `AddGroup`, without touching anything.
    Reread,
    /// Takes a group up from what was read last (`Reread`); its autostart programs start.
    AddGroup {
        name: String,
    },
    /// Forgets a group of which nothing runs.
    RemoveGroup {
        name: String,
    },
    /// Writes to a worker's standard input.
    Feed {
        target: Target,
        text: String,
    },
    /// Stops everything, reads the definitions again, and starts (Supervisor's `restart` and SIGHUP).
    Renew,
    /// Tells listeners of something from outside (REMOTE_COMMUNICATION).
    Remote {
        event: String,
        data: String,
    },
    /// Reads memory and processor time of every worker now.
    Refresh,
    Shutdown,
}

/// How many of a program may be away at once in a rolling restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Batch {
    Workers(u32),
    /// Rounded up, so never none.
    Percent(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleTo {
    Exactly(u32),
    Up(u32),
    Down(u32),
    /// Back to what the definition says.
    Default,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// One outcome for each process that the targets meant, in display order; unknown targets are refused one by one.
    Outcomes(Vec<Outcome>),
    Scaled {
        program: String,
        from: u32,
        to: u32,
    },
    /// What a reload changed (or, dry, would change).
    Changes(Changes),
    /// What `Reread` found, by group.
    Groups {
        added: Vec<String>,
        changed: Vec<String>,
        removed: Vec<String>,
    },
    Done,
}

/// What became of a request for one process. Asked for, not awaited: who wants to wait follows the view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What it is about: `group:process`, or the unknown target as it was typed.
    pub name: String,
    /// `None`: it has been set going.
    pub refused: Option<Refusal>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    pub rows: Vec<ChangeRow>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeRow {
    pub program: String,
    pub action: Action,
    /// How many workers it concerns.
    pub workers: u32,
    /// In words: `new in fleet.toml`, `command changed`, `numprocs 2 -> 4`.
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Start,
    Stop,
    /// Replaced one after the other, within the recycling budget.
    Restart,
    /// New rules, taken up by the running workers.
    Update,
    Keep,
}

/// An answer, not a failure: what was asked may not be, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "code")]
pub enum Refusal {
    /// No process or group of that name; `nearest` is a name that it might have meant.
    NoSuch {
        name: String,
        nearest: Option<String>,
    },
    AlreadyStarted,
    NotRunning,
    /// Scaling outside of the definition's bounds.
    OutOfBounds {
        asked: u32,
        min: u32,
        max: u32,
    },
    /// The definitions have errors; nothing was changed. Each a whole line.
    BadConfig {
        faults: Vec<String>,
    },
    ShuttingDown,
    /// A group of that name is active already.
    AlreadyAdded {
        name: String,
    },
    /// Something of the group still runs.
    StillRunning {
        name: String,
    },
    /// The worker has no standard input that can be written to.
    NoStdin,
    /// Another request of the kind is under way.
    Busy {
        with: String,
    },
    /// This door or this user may not.
    NotAllowed {
        why: String,
    },
    /// The request itself makes no sense.
    Malformed {
        why: String,
    },
}

/// Lower-case, fits after "cannot …: ".
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoSuch { name, nearest: None } => write!(f, "no such process or group: {name}"),
            Refusal::NoSuch { name, nearest: Some(near) } => write!(f, "no such process or group: {name}; did you mean {near}?"),
            Refusal::AlreadyStarted => f.write_str("already started"),
            Refusal::NotRunning => f.write_str("not running"),
            Refusal::OutOfBounds { asked, min, max } if *max == u32::MAX => write!(f, "{asked} is below the bound of {min} (scale.min)"),
            Refusal::OutOfBounds { asked, min, max } => write!(f, "{asked} is outside of {min}..{max} (scale.min, scale.max)"),
            Refusal::BadConfig { faults } => write!(f, "the definitions have {} error(s); nothing was changed", faults.len()),
            Refusal::AlreadyAdded { name } => write!(f, "group {name} is already active"),
            Refusal::StillRunning { name } => write!(f, "group {name} still has running workers; stop them first"),
            Refusal::NoStdin => f.write_str("it has no standard input that can be written to"),
            Refusal::ShuttingDown => f.write_str("the daemon is shutting down"),
            Refusal::Busy { with } => write!(f, "busy with {with}"),
            Refusal::NotAllowed { why } | Refusal::Malformed { why } => f.write_str(why),
        }
    }
}

/// What a door gets for a command.
pub type Answer = Result<Reply, Refusal>;
