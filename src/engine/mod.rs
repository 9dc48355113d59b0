//! DECIDES: pure, no IO, no clock.
//!
//! `Engine::step(now, event)` takes one fact and gives the effects that follow from it, in two strokes: `absorb` changes facts
//! and wants, `reconcile` closes the gap between them. All state is data; it can be written down in mid-course, read
//! back equal, and goes on as if nothing had been. The engine neither waits nor logs nor asks what time it is.
//!
//! `slot` holds the table of facts (`worker`: the process in it), `reconcile` the table of wants; `commands`, `reload`, `groups`, `renew` and `scale` edit wants; `restart`,
//! `stop`, `health` and `recycle` are the arithmetic of the rules; `program`, `order` and `timers` keep the fleet;
//! `report` draws the picture.

mod commands;
mod desk;
pub mod effect;
pub mod event;
mod groups;
mod health;
mod order;
mod program;
mod reconcile;
mod recycle;
mod reload;
mod renew;
mod report;
mod restart;
mod scale;
mod slot;
mod stop;
#[cfg(test)]
mod tests;
mod timers;
mod worker;

use crate::model::name::{GroupName, ProgramName, RunId, SlotId};
use crate::model::notice::What;
use crate::model::notify::Notify;
use crate::model::plan::Plan;
use crate::model::rng::Rng;
use crate::model::spec::ProgramSpec;
use crate::model::state::State;
use crate::model::time::{Moment, Now, Stamp};
use desk::Desk;
use effect::Effect;
use event::{Event, Sample};
use program::{Before, Program};
use report::ShownAll;
use serde::{Deserialize, Serialize};
use slot::{Happening, Slot};
use std::collections::{BTreeMap, BTreeSet};
use timers::{Key, Timers};

/// All that the daemon knows of its fleet, and all that it is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    rng: Rng,
    started: Stamp,
    /// The number of the newest notice.
    seq: u64,
    /// The number of the newest life.
    runs_given: u64,
    plan: Plan,
    /// Definitions that were read and are not in force: groups are added from here.
    pending: Option<Plan>,
    /// Groups that a person removed; they stay out until he adds them.
    out: BTreeSet<GroupName>,
    loaded: Stamp,
    faults: Vec<String>,
    programs: BTreeMap<ProgramName, Program>,
    /// Whose worker a pid is.
    pids: BTreeMap<i32, SlotId>,
    /// Where a life is at home, from the asking for it until the last of its leftovers is gone.
    lives: BTreeMap<RunId, SlotId>,
    timers: Timers,
    closing: Option<Closing>,
    /// Slots to be reconciled; empty between two steps.
    #[serde(skip)]
    dirty: BTreeSet<SlotId>,
    /// Programs in which somebody's turn may have come; empty between two steps.
    #[serde(skip)]
    dirty_programs: BTreeSet<ProgramName>,
    #[serde(skip)]
    shown: ShownAll,
}

/// Everything is being stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Closing {
    /// Whose turn it is to stop.
    rank: Option<order::Rank>,
    then: Then,
}

/// What comes when all is stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Then {
    Quit,
    /// `Effect::Quit` has been given.
    Gone,
    /// Everything starts anew, with these definitions.
    Renew(Box<Plan>),
}

impl Engine {
    /// An engine without a plan; nothing runs. `seed`: where jitter and limits are drawn from.
    pub fn new(seed: u64, now: Now) -> Engine {
        Engine {
            rng: Rng::seeded(seed),
            started: now.stamp,
            seq: 0,
            runs_given: 0,
            plan: Plan::default(),
            pending: None,
            out: BTreeSet::new(),
            loaded: Stamp::default(),
            faults: Vec::new(),
            programs: BTreeMap::new(),
            pids: BTreeMap::new(),
            lives: BTreeMap::new(),
            timers: Timers::default(),
            closing: None,
            dirty: BTreeSet::new(),
            dirty_programs: BTreeSet::new(),
            shown: ShownAll::default(),
        }
    }

    /// Takes up one fact, and adds to `effects` all that follows from it, in the order in which it is to be done.
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        self.absorb(now, event, effects);
        self.reconcile(now, effects);
    }

    /// When to send `Event::Woke`. `None`: nothing is pending; sleep until something happens.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.timers.next()
    }

    /// All definitions in force.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    fn absorb(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::PlanLoaded { ticket, purpose, result } => self.plan_loaded(ticket, purpose, result, now, effects),
            Event::Asked { ticket, who, command } => self.asked(ticket, &who, command, now, effects),
            Event::Spawned { run, slot, pid } => self.spawned(run, &slot, pid, now, effects),
            Event::SpawnFailed { run, slot, fault } => self.answered(run, &slot, Happening::SpawnFailed { fault }, now, effects),
            Event::LockBusy { run, slot, holder } => self.answered(run, &slot, Happening::LockBusy { holder }, now, effects),
            Event::Ended { pid, exit, leftovers } => {
                // A pid that nobody holds is an orphan that came to us as subreaper.
                let Some(id) = self.pids.remove(&pid) else { return };
                let run = self.slot(&id).and_then(|slot| slot.run);
                self.happen(&id, Happening::Ended { exit, leftovers }, now, effects);
                if self.slot(&id).is_none_or(|slot| slot.state != State::Clearing) {
                    run.map(|run| self.lives.remove(&run));
                }
            }
            Event::Cleared { run } => {
                let clearing = self
                    .lives
                    .get(&run)
                    .filter(|id| self.slot(id).is_some_and(|slot| slot.run == Some(run) && slot.state == State::Clearing));
                if let Some(id) = clearing.cloned() {
                    self.lives.remove(&run);
                    self.happen(&id, Happening::Cleared, now, effects);
                }
            }
            Event::Notified { slot, pid, told } => self.notified(&slot, pid, told, now, effects),
            Event::Counted { slot, run, done, failed, job } => {
                if self.slot(&slot).is_some_and(|slot| slot.worker.as_ref().is_some_and(|worker| worker.run == run)) {
                    self.happen(&slot, Happening::Counted { done, failed, job }, now, effects);
                } else {
                    // The log is read by another thread, so the last lines of a worker may be counted after its end.
                    self.with(&slot, now, effects, |slot, _, desk| slot.count_late(run, done, failed, desk));
                }
            }
            Event::Measured { samples } => samples.into_iter().for_each(|sample| self.measured(sample, now, effects)),
            Event::LogChanged { slot, trouble, lost } => {
                self.with(&slot, now, effects, |slot, _, desk| {
                    let what = match (&trouble, &slot.log_trouble) {
                        (Some(text), _) => Some(What::LogTrouble { text: text.clone(), lost }),
                        (None, Some(_)) => Some(What::LogHealed { lost }),
                        (None, None) => None,
                    };
                    if let Some(what) = what {
                        desk.tell(&slot.label, Some(&slot.id), what);
                    }
                    slot.log_trouble = trouble;
                });
            }
            Event::Woke => self.woke(now, effects),
        }
    }

    fn spawned(&mut self, run: RunId, id: &SlotId, pid: i32, now: Now, effects: &mut Vec<Effect>) {
        if self.awaits(run, id)
            && let Some(other) = self.pids.insert(pid, id.clone())
        {
            // The kernel gives a pid away only when its last owner was reaped, and then we had been told.
            debug_assert!(false, "pid {pid} of {id} is held by {other}");
            let text = format!("pid {pid} was given to {id} while {other} seems to hold it; its end was missed");
            self.tell(now, "", None, What::Trouble { text }, effects);
        }
        self.answered(run, id, Happening::Spawned { pid }, now, effects);
    }

    /// The answer to a spawn.
    fn answered(&mut self, run: RunId, id: &SlotId, happening: Happening, now: Now, effects: &mut Vec<Effect>) {
        if !self.awaits(run, id) {
            let text = format!("an answer came for life {} of {id}, which nobody had asked for: {happening:?}", run.0);
            return self.tell(now, "", Some(id), What::Trouble { text }, effects);
        }
        match happening {
            Happening::SpawnFailed { .. } | Happening::LockBusy { .. } => {
                self.lives.remove(&run);
            }
            Happening::Spawned { .. }
            | Happening::Ended { .. }
            | Happening::Cleared
            | Happening::Told { .. }
            | Happening::Counted { .. }
            | Happening::Measured { .. }
            | Happening::Time => {}
        }
        self.happen(id, happening, now, effects);
    }

    fn awaits(&self, run: RunId, id: &SlotId) -> bool {
        self.slot(id).is_some_and(|slot| slot.state == State::Launching && slot.run == Some(run))
    }

    fn notified(&mut self, id: &SlotId, pid: i32, told: Notify, now: Now, effects: &mut Vec<Effect>) {
        let Some(slot) = self.slot(id) else { return };
        let own = slot.worker.as_ref().is_some_and(|worker| worker.pid == pid);
        // A child of the worker may speak for it (shell workers do). A worker of before, or of another slot, may not.
        let stranger = slot.history.iter().any(|end| end.pid == pid) || self.pids.contains_key(&pid);
        if own || !stranger {
            self.happen(id, Happening::Told { told }, now, effects);
        }
    }

    fn measured(&mut self, sample: Sample, now: Now, effects: &mut Vec<Effect>) {
        if let Some(id) = self.lives.get(&sample.run).cloned()
            && self.slot(&id).is_some_and(|slot| slot.run == Some(sample.run))
        {
            self.happen(&id, Happening::Measured { sample }, now, effects);
        }
    }

    fn woke(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut workers = Vec::new();
        for key in self.timers.take_due(now.moment) {
            match key {
                Key::Slot(id) => self.happen(&id, Happening::Time, now, effects),
                Key::Program(name) => {
                    if let Some(program) = self.programs.get_mut(&name) {
                        program.sample_at = None;
                        let live = program.all().filter(|slot| matches!(slot.state, State::Starting | State::Running));
                        workers.extend(live.filter_map(commands::measurable));
                    }
                    self.mark_program(&name);
                }
            }
        }
        if !workers.is_empty() {
            effects.push(Effect::Measure { workers });
        }
    }

    fn happen(&mut self, id: &SlotId, happening: Happening, now: Now, effects: &mut Vec<Effect>) {
        self.with(id, now, effects, |slot, spec, desk| slot.happen(happening, spec, desk));
    }

    /// Does something to one slot, and takes up in its program, the picture and the list of gaps what came of it.
    fn with<R>(
        &mut self,
        id: &SlotId,
        now: Now,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(&mut Slot, &ProgramSpec, &mut Desk) -> R,
    ) -> Option<R> {
        let program = self.programs.get_mut(&id.program)?;
        let slot = program.slots.get_mut(&id.number)?;
        let before = Before::of(slot);
        let mut desk = Desk { now, seq: &mut self.seq, rng: &mut self.rng, tally: &mut program.tally, effects };
        let result = act(slot, &program.spec, &mut desk);
        let (freed, turns) = program.settle(id.number, before, now, &mut self.seq, effects);
        self.shown.mark(&id.program);
        self.dirty.insert(id.clone());
        if turns {
            self.mark_program(&id.program);
        }
        for number in freed {
            self.dirty.insert(SlotId::new(&id.program, number));
        }
        Some(result)
    }

    fn slot(&self, id: &SlotId) -> Option<&Slot> {
        self.programs.get(&id.program)?.slots.get(&id.number).map(|slot| &**slot)
    }

    /// The slot is to be reconciled.
    fn mark(&mut self, id: SlotId) {
        self.dirty.insert(id);
    }

    /// Somebody's turn may have come in the program.
    fn mark_program(&mut self, name: &ProgramName) {
        if !self.dirty_programs.contains(name) {
            self.dirty_programs.insert(name.clone());
        }
    }

    /// All slots of the program are to be reconciled.
    fn mark_slots(&mut self, name: &ProgramName) {
        if let Some(program) = self.programs.get(name) {
            self.dirty.extend(program.slots.values().map(|slot| slot.id.clone()));
        }
    }

    fn tell(&mut self, now: Now, about: &str, slot: Option<&SlotId>, what: What, effects: &mut Vec<Effect>) {
        desk::tell(effects, &mut self.seq, now, about, slot, what);
    }
}
