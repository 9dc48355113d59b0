//! A status for lists: of each worker what one line of a list says, and of that what there is.
//!
//! The whole view has thirty fields to a worker, most of them null; who only lists a thousand workers spends more
//! time on reading nulls than on everything else. This is no second view: fields have the same names and values, those that
//! are null, empty or zero are left out, and whoever wants more asks for the whole.

use crate::model::state::State;
use crate::model::time::Stamp;
use crate::model::view::{Mood, ProgramView, RollingView, SlotView, View};
use serde::Serialize;

#[derive(Serialize)]
pub struct Brief<'a> {
    seq: u64,
    mood: Mood,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    faults: &'a [String],
    programs: Vec<Section<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    unknown: &'a [String],
}

#[derive(Serialize)]
struct Section<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rolling: Option<&'a RollingView>,
    slots: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    group: &'a str,
    process: &'a str,
    state: State,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    since: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    started: Stamp,
    #[serde(skip_serializing_if = "is_never")]
    stopped: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try: Option<Stamp>,
    starts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_trouble: Option<&'a str>,
}

impl<'a> Brief<'a> {
    pub fn of(view: &'a View, unknown: &'a [String]) -> Brief<'a> {
        let programs = view.programs.iter().map(|program| section(program)).collect();
        Brief { seq: view.seq, mood: view.mood, faults: &view.faults, programs, unknown }
    }
}

fn section(program: &ProgramView) -> Section<'_> {
    Section { name: program.name.as_str(), rolling: program.rolling.as_ref(), slots: program.slots.iter().map(|slot| row(slot)).collect() }
}

fn row(slot: &SlotView) -> Row<'_> {
    Row {
        group: slot.group.as_str(),
        process: &slot.process,
        state: slot.state,
        reason: &slot.reason,
        since: slot.since,
        pid: slot.pid,
        started: slot.started,
        stopped: slot.stopped,
        next_try: slot.next_try,
        starts: slot.starts,
        log_trouble: slot.log_trouble.as_deref(),
    }
}

fn is_never(stamp: &Stamp) -> bool {
    *stamp == Stamp(0)
}
