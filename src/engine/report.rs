//! State to `View`, only the parts that changed.
//!
//! Every slot's picture is behind an `Arc`, and so is every program's: a step in one worker among ten thousand draws one
//! slot anew and shares the rest. The pictures are no state: they are left out of an image and of comparisons.

use super::Engine;
use super::program::Program;
use super::slot::{Slot, Want};
use crate::model::name::ProgramName;
use crate::model::state::State;
use crate::model::time::Now;
use crate::model::view::{ProgramView, RollingView, SlotView, View};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A program's picture, and which of its slots must be drawn anew.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    view: Option<Arc<ProgramView>>,
    stale: BTreeSet<u32>,
}

/// The whole picture, and which programs must be drawn anew.
#[derive(Clone, Debug, Default)]
pub(super) struct ShownAll {
    view: Option<Arc<View>>,
    stale: BTreeSet<ProgramName>,
    all: bool,
}

/// Pictures are no state.
impl PartialEq for Shown {
    fn eq(&self, _: &Shown) -> bool {
        true
    }
}

/// Pictures are no state.
impl PartialEq for ShownAll {
    fn eq(&self, _: &ShownAll) -> bool {
        true
    }
}

impl Shown {
    pub(super) fn mark(&mut self, number: u32) {
        // Without a picture everything is drawn anyway.
        if self.view.is_some() {
            self.stale.insert(number);
        }
    }

    /// Slots came or went.
    pub(super) fn mark_all(&mut self) {
        self.view = None;
        self.stale.clear();
    }
}

impl ShownAll {
    pub(super) fn mark(&mut self, program: &ProgramName) {
        if self.view.is_some() && !self.stale.contains(program) {
            self.stale.insert(program.clone());
        }
    }

    /// Programs came or went.
    pub(super) fn mark_all(&mut self) {
        self.all = true;
    }
}

impl Engine {
    /// The picture that readers see. Only what changed since the last call is drawn anew, and the same `Arc` comes
    /// back if nothing did.
    pub fn view(&mut self, now: Now) -> Arc<View> {
        let old = self.shown.view.clone();
        if let Some(old) = &old
            && old.seq == self.seq
            && self.shown.stale.is_empty()
            && !self.shown.all
        {
            return old.clone();
        }
        let everything = old.is_none() || self.shown.all;
        let mut changed = everything;
        if everything {
            self.shown.stale.clear();
            for program in self.programs.values_mut() {
                draw_program(program);
            }
        } else {
            for name in std::mem::take(&mut self.shown.stale) {
                if let Some(program) = self.programs.get_mut(&name) {
                    changed |= draw_program(program);
                }
            }
        }
        self.shown.all = false;
        if let Some(old) = old
            && !changed
            && old.seq == self.seq
        {
            return old;
        }
        let view = Arc::new(View {
            seq: self.seq,
            at: now.stamp,
            started: self.started,
            mood: self.mood(),
            loaded: self.loaded,
            faults: self.faults.clone(),
            programs: self.programs.values().filter_map(|program| program.shown.view.clone()).collect(),
        });
        self.shown.view = Some(view.clone());
        view
    }
}

/// Draws what is stale of a program; true if anything differs from the last picture.
fn draw_program(program: &mut Program) -> bool {
    let old = program.shown.view.take();
    let stale = std::mem::take(&mut program.shown.stale);
    let slots = match &old {
        Some(old) => {
            let mut slots = old.slots.clone();
            for number in stale {
                let place = slots.binary_search_by_key(&number, |slot| slot.number);
                if let (Ok(place), Some(slot)) = (place, program.slots.get(&number)) {
                    let new = draw_slot(program, slot);
                    if *slots[place] != new {
                        slots[place] = Arc::new(new);
                    }
                }
            }
            slots
        }
        None => program.slots.values().map(|slot| Arc::new(draw_slot(program, slot))).collect(),
    };
    let spec = &program.spec;
    let policy = &spec.policy;
    let view = ProgramView {
        name: spec.name.clone(),
        group: spec.group.clone(),
        command: spec.launch.command.iter().map(|word| word.render(policy.numprocs_start)).collect::<Vec<_>>().join(" "),
        priority: policy.priority,
        wanted: program.wanted(),
        numprocs: policy.numprocs,
        running: program.running,
        jobs: program.tally.jobs,
        errors: program.tally.errors,
        ended: program.tally.ended.clone(),
        rolling: program.roll.as_ref().map(|roll| RollingView { done: roll.done(), total: roll.total, halted: roll.halted.clone() }),
        slots,
    };
    match old {
        Some(old) if *old == view => {
            program.shown.view = Some(old);
            false
        }
        Some(_) | None => {
            program.shown.view = Some(Arc::new(view));
            true
        }
    }
}

fn draw_slot(program: &Program, slot: &Slot) -> SlotView {
    let worker = slot.worker.as_ref();
    let policy = &program.spec.policy;
    let next_try = match slot.state {
        State::Waiting | State::Backoff | State::Exited | State::Fatal => slot.until.and(slot.next_try),
        State::Stopped | State::Launching | State::Starting | State::Running | State::Stopping | State::Clearing => None,
    };
    SlotView {
        program: slot.id.program.clone(),
        number: slot.id.number,
        group: program.spec.group.clone(),
        process: slot.process.clone(),
        state: slot.state,
        reason: slot.reason.clone(),
        wanted: slot.want == Want::Up && slot.leaving.is_none(),
        since: slot.since,
        pid: worker.map(|worker| worker.pid),
        run: worker.map(|worker| worker.run),
        started: slot.started,
        stopped: slot.stopped,
        exit: slot.exit,
        tries: slot.failures,
        next_try,
        jobs: worker.map_or(0, |worker| worker.jobs),
        errors: worker.map_or(0, |worker| worker.errors),
        max_jobs: worker.and_then(|worker| worker.max_jobs),
        job: worker.and_then(|worker| worker.job.clone()),
        job_since: worker.filter(|worker| worker.has_job_in_hand()).and_then(|worker| worker.job_since_at),
        status: worker.and_then(|worker| worker.status.clone()),
        heartbeat: worker.and_then(|worker| worker.heartbeat),
        memory: worker.and_then(|worker| worker.memory),
        max_memory: policy.recycle.max_memory,
        cpu: worker.and_then(|worker| worker.cpu),
        due: slot.due.as_ref().map(|due| due.cause.text.clone()),
        starts: slot.starts,
        total_jobs: slot.total_jobs,
        log_trouble: slot.log_trouble.clone(),
        history: slot.history.iter().cloned().collect(),
    }
}
