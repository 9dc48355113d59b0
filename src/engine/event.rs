//! `Event`: everything that can happen to us. Facts, in the past tense.

use crate::model::command::{Command, Ticket};
use crate::model::exit::Exit;
use crate::model::launch::SpawnFault;
use crate::model::name::{RunId, SlotId};
use crate::model::notify::Notify;
use crate::model::plan::Plan;
use crate::model::time::Span;
use crate::model::units::Bytes;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The definitions were read: at start (no ticket), or because `Effect::LoadPlan` asked. `Err`: all the
    /// errors, each a whole line. `purpose` as it was in the effect.
    PlanLoaded { ticket: Option<Ticket>, purpose: Purpose, result: Result<Box<Plan>, Vec<String>> },
    /// Somebody asked. Without a ticket nobody waits for the answer (a signal to the daemon, for example).
    /// `who` in words: `root (uid 0)`, `SIGHUP`.
    Asked { ticket: Option<Ticket>, who: String, command: Command },
    /// `Effect::Spawn` succeeded.
    Spawned { run: RunId, slot: SlotId, pid: i32 },
    /// `Effect::Spawn` failed; there is no process.
    SpawnFailed { run: RunId, slot: SlotId, fault: SpawnFault },
    /// `Effect::Spawn` found the lock held elsewhere; there is no process. `holder`: its pid, where it can be told.
    LockBusy { run: RunId, slot: SlotId, holder: Option<i32> },
    /// A child was reaped: the pid is free and no longer ours. `leftovers`: processes of its life that are still there
    /// (its process group, or escaped children that carry its mark). Also sent for pids that are no workers.
    Ended { pid: i32, exit: Exit, leftovers: u32 },
    /// The last of a life's leftovers is gone.
    Cleared { run: RunId },
    /// A datagram on the slot's notify socket. `pid`: the kernel's word on who sent it; whether he may was checked.
    Notified { slot: SlotId, pid: i32, told: Notify },
    /// Totals counted from the output of the life `run`; `job`: the job in hand as its lines tell, `Some("")` is idle.
    Counted { slot: SlotId, run: RunId, done: u64, failed: u64, job: Option<String> },
    /// What `Effect::Measure` found; a worker that could not be read is left out.
    Measured { samples: Vec<Sample> },
    /// The writing of a slot's log fails (`Some`, in words) or works again (`None`); `lost` lines so far.
    LogChanged { slot: SlotId, trouble: Option<String>, lost: u64 },
    /// A deadline may be due. Asking too early is harmless.
    Woke,
}

/// What definitions are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To be taken up.
    Reload,
    /// To say what a reload would change.
    DryRun,
    /// To be kept for `AddGroup`.
    Reread,
    /// To begin anew with them.
    Renew,
}

/// One worker with its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub run: RunId,
    pub memory: Bytes,
    /// Processor time of the life so far.
    pub cpu: Span,
}
