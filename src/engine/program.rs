//! One program: its definition in force, what is wanted of it, its slots, and who of them is away.
//!
//! `settle` is called after anything happened to a slot and keeps what is counted over slots: how many are busy, who
//! waits for a turn, who is away on our account, and how far a rolling restart has come. It starts and stops nothing.

use super::desk::{Tally, tell};
use super::effect::Effect;
use super::report::Shown;
use super::slot::{Slot, Want};
use crate::model::notice::{What, Why};
use crate::model::spec::ProgramSpec;
use crate::model::state::State;
use crate::model::time::{Moment, Now};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Program {
    pub(super) spec: Arc<ProgramSpec>,
    /// How many a person asked for; `None`: as defined.
    pub(super) scaled: Option<u32>,
    /// No longer defined: to be forgotten with its last slot.
    pub(super) removed: bool,
    /// Boxed: a tree that grew in order is half empty, and a slot is large.
    pub(super) slots: BTreeMap<u32, Box<Slot>>,
    /// Slots that are due to be replaced, in the order in which they became so.
    pub(super) due: BTreeMap<u64, u32>,
    /// Slots that were taken away, from their turn until their next worker is RUNNING (or the slot rests).
    pub(super) away: BTreeSet<u32>,
    pub(super) roll: Option<Roll>,
    pub(super) tally: Tally,
    /// Slots that are not empty.
    pub(super) busy: u32,
    pub(super) running: u32,
    /// Slots with a worker that is STARTING or RUNNING.
    pub(super) live: u32,
    /// When memory is read next.
    pub(super) sample_at: Option<Moment>,
    #[serde(skip)]
    pub(super) shown: Shown,
}

/// A rolling restart, under way or halted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Roll {
    pub(super) batch: u32,
    pub(super) total: u32,
    /// Those who are still to go, or away.
    pub(super) left: BTreeSet<u32>,
    pub(super) halted: Option<String>,
}

/// What `settle` must know of a slot as it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    state: State,
    due: Option<u64>,
    deploy: bool,
}

impl Before {
    pub(super) fn of(slot: &Slot) -> Before {
        Before { state: slot.state, due: slot.due.as_ref().map(|due| due.order), deploy: is_due_for_deploy(slot) }
    }
}

impl Roll {
    pub(super) fn done(&self) -> u32 {
        self.total.saturating_sub(u32::try_from(self.left.len()).unwrap_or(u32::MAX))
    }
}

impl Program {
    pub(super) fn new(spec: Arc<ProgramSpec>) -> Program {
        Program {
            spec,
            scaled: None,
            removed: false,
            slots: BTreeMap::new(),
            due: BTreeMap::new(),
            away: BTreeSet::new(),
            roll: None,
            tally: Tally::default(),
            busy: 0,
            running: 0,
            live: 0,
            sample_at: None,
            shown: Shown::default(),
        }
    }

    /// How many slots are wanted.
    pub(super) fn wanted(&self) -> u32 {
        if self.removed { 0 } else { self.scaled.unwrap_or(self.spec.policy.numprocs).min(MOST_SLOTS) }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values().map(|slot| &**slot)
    }

    /// The slots that are to stay.
    pub(super) fn staying(&self) -> impl Iterator<Item = &Slot> {
        self.all().filter(|slot| slot.leaving.is_none())
    }

    pub(super) fn is_rolling(&self) -> bool {
        self.roll.as_ref().is_some_and(|roll| roll.halted.is_none())
    }

    /// Brings the counts up to date after something happened to slot `number`. Returns the slots that a halted roll let go.
    /// The second value is true if somebody's turn may have come.
    pub(super) fn settle(&mut self, number: u32, before: Before, now: Now, seq: &mut u64, effects: &mut Vec<Effect>) -> (Vec<u32>, bool) {
        self.shown.mark(number);
        let Some(slot) = self.slots.get(&number) else { return (Vec::new(), true) };
        let after = Before::of(slot);
        let was_away = self.away.contains(&number);
        if before.due != after.due {
            before.due.map(|order| self.due.remove(&order));
            after.due.map(|order| self.due.insert(order, number));
        }
        let rolls = self.roll.as_ref().is_some_and(|roll| roll.halted.is_none() && roll.left.contains(&number));
        if rolls && before.deploy && !after.deploy {
            // It ended by itself before its turn: what comes next is the new launch all the same, and is watched like the others.
            self.away.insert(number);
        }
        // Only who has the new launch may fail the roll: a worker of before that dies while it waits is what is being mended.
        let failed = before.state != after.state && matches!(after.state, State::Backoff | State::Fatal);
        if rolls && failed && was_away && !before.deploy {
            let why = format!("{}: {}", slot.label, slot.reason);
            let freed = self.halt(number, why, now, seq, effects);
            self.count(before.state, after.state);
            return (freed, true);
        }
        if is_back(slot) {
            self.away.remove(&number);
        }
        if rolls && !after.deploy && !self.away.contains(&number) {
            self.roll_on(number, now, seq, effects);
        }
        self.count(before.state, after.state);
        (Vec::new(), before.state != after.state || before.due != after.due || was_away != self.away.contains(&number))
    }

    /// Takes slot `number` out of everything.
    pub(super) fn forget(&mut self, number: u32, now: Now, seq: &mut u64, effects: &mut Vec<Effect>) -> Option<Slot> {
        let slot = self.slots.remove(&number)?;
        if let Some(due) = &slot.due {
            self.due.remove(&due.order);
        }
        self.away.remove(&number);
        self.shown.mark_all();
        if self.roll.as_ref().is_some_and(|roll| roll.halted.is_none() && roll.left.contains(&number)) {
            self.roll_on(number, now, seq, effects);
        }
        Some(*slot)
    }

    fn roll_on(&mut self, number: u32, now: Now, seq: &mut u64, effects: &mut Vec<Effect>) {
        let Some(roll) = &mut self.roll else { return };
        roll.left.remove(&number);
        let what = What::Rolling { done: roll.done(), total: roll.total, halted: None };
        if roll.left.is_empty() {
            self.roll = None;
        }
        tell(effects, seq, now, self.spec.name.as_str(), None, what);
    }

    /// The first failure ends a roll: whoever has not gone yet stays as he is.
    fn halt(&mut self, failed: u32, why: String, now: Now, seq: &mut u64, effects: &mut Vec<Effect>) -> Vec<u32> {
        let Some(roll) = &mut self.roll else { return Vec::new() };
        let mut freed = Vec::new();
        for number in &roll.left {
            let Some(slot) = self.slots.get_mut(number) else { continue };
            let not_gone = matches!(slot.state, State::Starting | State::Running) && slot.replace.is_none();
            if *number != failed && not_gone && is_due_for_deploy(slot) {
                if let Some(due) = &slot.due {
                    self.due.remove(&due.order);
                }
                slot.unmark();
                self.shown.mark(*number);
                if slot.state == State::Running {
                    self.away.remove(number);
                }
                freed.push(*number);
            }
        }
        if self.slots.get(&failed).is_some_and(|slot| is_back(slot)) {
            self.away.remove(&failed);
        }
        roll.halted = Some(why.clone());
        let what = What::Rolling { done: roll.done(), total: roll.total, halted: Some(why) };
        tell(effects, seq, now, self.spec.name.as_str(), None, what);
        freed
    }

    fn count(&mut self, before: State, after: State) {
        let turn = |counter: &mut u32, was: bool, is: bool| match (was, is) {
            (false, true) => *counter += 1,
            (true, false) => *counter = counter.saturating_sub(1),
            (true, true) | (false, false) => {}
        };
        turn(&mut self.busy, !before.is_empty(), !after.is_empty());
        turn(&mut self.running, before == State::Running, after == State::Running);
        let live = |state| matches!(state, State::Starting | State::Running);
        turn(&mut self.live, live(before), live(after));
    }
}

fn is_due_for_deploy(slot: &Slot) -> bool {
    slot.due.as_ref().is_some_and(|due| due.cause.why == Why::Deploy)
}

/// True if a slot that was taken away is away no more: its new worker is trusted, or it rests.
fn is_back(slot: &Slot) -> bool {
    match slot.state {
        State::Running => slot.turn.is_none() && slot.replace.is_none(),
        State::Exited | State::Fatal => !slot.fresh,
        State::Stopped => slot.want == Want::Down,
        // Somebody else has its lock, for as long as he likes; the others must not grow without bound meanwhile.
        State::Waiting => true,
        // A start that fails keeps its place: to recycle on would empty the pool.
        State::Launching | State::Starting | State::Backoff | State::Stopping | State::Clearing => false,
    }
}

/// More slots of one program than any machine can run; a slip of the keyboard must not fill our memory.
pub(super) const MOST_SLOTS: u32 = 10_000;
