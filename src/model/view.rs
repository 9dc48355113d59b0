//! `View`: the picture that readers see. Immutable; parts that did not change are shared by `Arc`.
//!
//! Its JSON is the public API. Words for people are made here by the engine once, so that every door says
//! the same: `reason` is a whole sentence fragment such as `exited 255 after 0.2 s, 3rd time; next try in 4 s`
//! without the countdown, which readers compute from `next_try`.

use crate::model::exit::Exit;
use crate::model::name::{GroupName, ProgramName, RunId};
use crate::model::notice::Why;
use crate::model::state::State;
use crate::model::time::{Span, Stamp};
use crate::model::units::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The number of the newest notice that this picture includes.
    pub seq: u64,
    /// When it was drawn.
    pub at: Stamp,
    /// When the daemon started.
    pub started: Stamp,
    pub mood: Mood,
    /// When definitions were last taken up.
    pub loaded: Stamp,
    /// Why the last reload was refused; empty when it was not.
    pub faults: Vec<String>,
    /// In display order (by name).
    pub programs: Vec<Arc<ProgramView>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mood {
    #[default]
    Running,
    /// Everything is being stopped, to be started anew with fresh definitions (Supervisor's RESTARTING).
    Renewing,
    ShuttingDown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramView {
    pub name: ProgramName,
    pub group: GroupName,
    pub command: String,
    pub priority: i32,
    /// How many workers are wanted now (scaled or defined); slots that a person stopped count.
    pub wanted: u32,
    /// How many the definition asks for.
    pub numprocs: u32,
    pub running: u32,
    /// Jobs done and failed by all its workers since the daemon first started.
    pub jobs: u64,
    pub errors: u64,
    /// Ended workers, by reason.
    pub ended: BTreeMap<Why, u64>,
    pub rolling: Option<RollingView>,
    /// In order of their numbers.
    pub slots: Vec<Arc<SlotView>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollingView {
    pub done: u32,
    pub total: u32,
    pub halted: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotView {
    pub program: ProgramName,
    pub number: u32,
    pub group: GroupName,
    /// The name within the group.
    pub process: String,
    pub state: State,
    /// Why it is in that state, in words; empty where there is nothing to say.
    pub reason: String,
    /// Whether somebody wants it to run.
    pub wanted: bool,
    /// Since when it is in that state.
    pub since: Stamp,
    pub pid: Option<i32>,
    pub run: Option<RunId>,
    /// Start of the current (or last) worker; 0 if there never was one.
    pub started: Stamp,
    /// End of the last worker; 0 if none has ended.
    pub stopped: Stamp,
    pub exit: Option<Exit>,
    /// Failed starts in a row.
    pub tries: u32,
    /// When the next start is due (BACKOFF, WAITING, a pause, a retry after FATAL).
    pub next_try: Option<Stamp>,
    /// Of the worker in it: jobs that ended (failed ones are among them where its log lines are counted), those that failed,
    /// and the limit that was drawn for it.
    pub jobs: u64,
    pub errors: u64,
    pub max_jobs: Option<u64>,
    /// The job in hand and since when, if the worker tells; an empty name is "idle".
    pub job: Option<String>,
    pub job_since: Option<Stamp>,
    /// What the worker says of itself (STATUS=).
    pub status: Option<String>,
    pub heartbeat: Option<Stamp>,
    /// Of the worker and its children; `None` until measured.
    pub memory: Option<Bytes>,
    pub max_memory: Option<Bytes>,
    pub cpu: Option<Span>,
    /// Why it is to be replaced when its turn comes.
    pub due: Option<String>,
    /// Of the slot, over all its lives.
    pub starts: u64,
    pub total_jobs: u64,
    pub log_trouble: Option<String>,
    /// The last ends, newest first; bounded.
    pub history: Vec<EndView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndView {
    pub at: Stamp,
    pub pid: i32,
    pub exit: Exit,
    pub lived: Span,
    pub why: Why,
    /// In words: `recycled: jobs 1412 of 1412`.
    pub text: String,
}

impl SlotView {
    pub fn label(&self) -> String {
        crate::model::name::label(self.group.as_str(), &self.process)
    }
}

impl View {
    pub fn slots(&self) -> impl Iterator<Item = &Arc<SlotView>> {
        self.programs.iter().flat_map(|program| &program.slots)
    }
}
