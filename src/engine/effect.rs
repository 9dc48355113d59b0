//! `Effect`: everything we can do. Imperatives; each is carried out by one pair of hands in `daemon/perform`.

use crate::engine::event::Purpose;
use crate::model::command::{Answer, Ticket};
use crate::model::launch::Launch;
use crate::model::name::{RunId, SlotId};
use crate::model::notice::Notice;
use crate::model::signal::Signal;
use crate::model::spec::{JobsSpec, OutputSpec};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Open a slot's ways (FIFOs, notify socket, log sinks), or give open ones new rules. Always before its first `Spawn`.
    Open {
        slot: SlotId,
        label: String,
        output: Box<OutputSpec>,
        jobs: JobsSpec,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    /// The slot is forgotten: close and remove its ways.
    Close {
        slot: SlotId,
    },
    /// Take the lock if there is one, then start. Answered at once by exactly one of `Spawned`, `SpawnFailed`, `LockBusy`.
    Spawn {
        slot: SlotId,
        run: RunId,
        launch: Arc<Launch>,
    },
    /// Send a signal to a worker, or to its whole process group.
    Signal {
        slot: SlotId,
        run: RunId,
        pid: i32,
        signal: Signal,
        group: bool,
    },
    /// Send a signal to everything that is left of a life whose worker has ended.
    SignalLeftovers {
        run: RunId,
        signal: Signal,
    },
    /// Whatever is left of that life shall be let alone: no `Cleared` is wanted.
    ForgetLeftovers {
        run: RunId,
    },
    /// Read memory and processor time of these workers, with their children; answered by `Measured`.
    Measure {
        workers: Vec<(RunId, i32)>,
    },
    /// Write to a worker's standard input; the hands answer the ticket: `Done`, or `NoStdin`.
    Feed {
        ticket: Option<Ticket>,
        run: RunId,
        pid: i32,
        text: String,
    },
    /// Read the definitions again; answered by `PlanLoaded` with the same ticket and `purpose`.
    LoadPlan {
        ticket: Option<Ticket>,
        purpose: Purpose,
    },
    Reply {
        ticket: Ticket,
        answer: Box<Answer>,
    },
    Tell(Notice),
    /// All workers are gone and we were asked to shut down.
    Quit,
}
