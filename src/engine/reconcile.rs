//! The one place where want and fact are compared, and the gap becomes effects.
//!
//! `gap` is a table, (wish, state), without a wildcard: what is asked for, in a state, calls for which step. Only slots that
//! something happened to are looked at, in start order; a step in one of ten thousand does not walk the rest.

use super::effect::Effect;
use super::slot::{Cause, Slot, Want};
use super::timers::Key;
use super::{Engine, Then, order, recycle};
use crate::model::name::{ProgramName, RunId, SlotId};
use crate::model::notice::Why;
use crate::model::spec::RecycleSpec;
use crate::model::state::State;
use crate::model::time::{Moment, Now, Span};

/// What all that anyone wants of a slot comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// A worker shall be in it, as the rules of restart have it.
    Up,
    /// A worker shall be in it, whatever lies behind the slot.
    Fresh,
    /// The worker in it shall go, and another come.
    Replace,
    Down,
    /// We are shutting down and its turn has not come: what runs may run, nothing starts.
    Hold,
    /// Empty, and then forgotten.
    Gone,
}

/// What closes the gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Launch,
    Stop,
    /// To STOPPED, as there is no worker.
    Rest,
    Forget,
}

impl Engine {
    /// Closes every gap that there is.
    pub(super) fn reconcile(&mut self, now: Now, effects: &mut Vec<Effect>) {
        // Each round acts on what the last one changed. A slot takes a few rounds at most (ended, stopped, launched).
        loop {
            if self.dirty.is_empty() && self.dirty_programs.is_empty() {
                self.close_down(now, effects);
                if self.dirty.is_empty() && self.dirty_programs.is_empty() {
                    return;
                }
            }
            let slots = std::mem::take(&mut self.dirty);
            for id in order::sorted(slots, &self.plan, &self.programs) {
                self.close_gap(&id, now, effects);
            }
            for name in std::mem::take(&mut self.dirty_programs) {
                self.give_turns(&name, now, effects);
                self.plan_sampling(&name, now);
            }
        }
    }

    fn close_gap(&mut self, id: &SlotId, now: Now, effects: &mut Vec<Effect>) {
        let Some(program) = self.programs.get(&id.program) else { return };
        let Some(slot) = program.slots.get(&id.number) else { return };
        // `Some(true)`: we are shutting down, and it is this rank's turn.
        let closing = self.closing.as_ref().map(|closing| closing.rank.is_some_and(|rank| order::rank(&self.plan, &program.spec) >= rank));
        let wish = wish(slot, closing);
        match gap(wish, slot) {
            Step::Nothing => {
                let deadline = slot.deadline(&program.spec, now.moment);
                self.timers.set(Key::Slot(id.clone()), deadline);
            }
            Step::Launch => {
                self.runs_given += 1;
                let run = RunId(self.runs_given);
                self.lives.insert(run, id.clone());
                self.with(id, now, effects, |slot, spec, desk| slot.launch(spec, run, desk));
            }
            Step::Stop => {
                let cause = cause_of_stop(slot, self.why_all_stop());
                self.with(id, now, effects, |slot, spec, desk| slot.stop(cause, spec, desk));
            }
            Step::Rest => {
                let reason = cause_of_stop(slot, self.why_all_stop()).text;
                self.with(id, now, effects, |slot, _, desk| slot.rest(reason, desk));
            }
            Step::Forget => self.forget(id, now, effects),
        }
    }

    fn forget(&mut self, id: &SlotId, now: Now, effects: &mut Vec<Effect>) {
        self.timers.set(Key::Slot(id.clone()), None);
        self.shown.mark(&id.program);
        let Some(program) = self.programs.get_mut(&id.program) else { return };
        if program.forget(id.number, now, &mut self.seq, effects).is_some_and(|slot| slot.opened) {
            effects.push(Effect::Close { slot: id.clone() });
        }
        self.mark_program(&id.program);
    }

    /// Gives turns to due slots as far as the budget goes, and forgets a removed program with its last slot.
    fn give_turns(&mut self, name: &ProgramName, now: Now, effects: &mut Vec<Effect>) {
        let Some(program) = self.programs.get_mut(name) else { return };
        if program.removed && program.slots.is_empty() {
            self.programs.remove(name);
            self.timers.set(Key::Program(name.clone()), None);
            self.shown.mark_all();
            return;
        }
        if self.closing.is_some() {
            return;
        }
        for number in recycle::give_turns(program, now) {
            self.with(&SlotId::new(name, number), now, effects, |slot, spec, desk| slot.take_turn(spec, desk));
        }
    }

    /// Memory is read only where there is a limit and somebody to measure: an idle fleet sets no date.
    fn plan_sampling(&mut self, name: &ProgramName, now: Now) {
        let Some(program) = self.programs.get_mut(name) else { return };
        let recycle = &program.spec.policy.recycle;
        if recycle.max_memory.is_none() || program.live == 0 {
            program.sample_at = None;
        } else if program.sample_at.is_none() {
            program.sample_at = Some(next_beat(recycle, now.moment));
        }
        self.timers.set(Key::Program(name.clone()), program.sample_at);
    }

    /// When everything stops: whose turn it is now, and what comes when it is done.
    fn close_down(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(closing) = &mut self.closing else { return };
        match order::stopping_rank(&self.plan, &self.programs) {
            Some(rank) if closing.rank == Some(rank) => {}
            Some(rank) => {
                closing.rank = Some(rank);
                let turn: Vec<ProgramName> = self
                    .programs
                    .iter()
                    .filter(|(_, program)| program.busy > 0 && order::rank(&self.plan, &program.spec) >= rank)
                    .map(|(name, _)| name.clone())
                    .collect();
                for name in turn {
                    self.mark_slots(&name);
                }
            }
            None => match std::mem::replace(&mut closing.then, Then::Gone) {
                Then::Quit => effects.push(Effect::Quit),
                Then::Gone => {}
                Then::Renew(plan) => self.begin_anew(*plan, now, effects),
            },
        }
    }
}

/// `closing`: as in `close_gap`.
fn wish(slot: &Slot, closing: Option<bool>) -> Wish {
    if slot.leaving.is_some() {
        return Wish::Gone;
    }
    match (slot.want, closing) {
        (Want::Down, None | Some(_)) | (Want::Up, Some(true)) => Wish::Down,
        (Want::Up, None | Some(false)) if slot.replace.is_some() => Wish::Replace,
        (Want::Up, Some(false)) => Wish::Hold,
        (Want::Up, None) if slot.fresh => Wish::Fresh,
        (Want::Up, None) => Wish::Up,
    }
}

fn gap(wish: Wish, slot: &Slot) -> Step {
    let has_date = slot.until.is_some();
    match (wish, slot.state) {
        (Wish::Up, State::Stopped) => Step::Launch,
        // They have a date, or wait for a person.
        (Wish::Up, State::Waiting | State::Backoff | State::Exited | State::Fatal) => Step::Nothing,
        (Wish::Fresh, State::Stopped | State::Waiting | State::Backoff | State::Exited | State::Fatal) => Step::Launch,
        (Wish::Up | Wish::Fresh | Wish::Hold, State::Starting | State::Running) => Step::Nothing,
        (Wish::Replace | Wish::Down | Wish::Gone, State::Starting | State::Running) => Step::Stop,
        // A wish to replace goes with the worker whom it meant: `ended` and `launch` clear it.
        (Wish::Replace, State::Stopped | State::Waiting | State::Backoff | State::Exited | State::Fatal) => {
            debug_assert!(false, "nobody to replace in {}", slot.id);
            Step::Nothing
        }
        (Wish::Down | Wish::Hold, State::Waiting | State::Backoff) => Step::Rest,
        (Wish::Down | Wish::Hold, State::Exited) if has_date => Step::Rest,
        // Who holds a retry back asks for a stop; a shutdown leaves FATAL as it is, since nothing is started then.
        (Wish::Down, State::Fatal) if has_date && slot.want == Want::Down => Step::Rest,
        (Wish::Down | Wish::Hold, State::Stopped | State::Exited | State::Fatal) => Step::Nothing,
        (Wish::Gone, State::Stopped | State::Waiting | State::Backoff | State::Exited | State::Fatal) => Step::Forget,
        // The spawn's answer, the worker's end, the end of what it left behind: a fact must come first.
        (
            Wish::Up | Wish::Fresh | Wish::Replace | Wish::Down | Wish::Hold | Wish::Gone,
            State::Launching | State::Stopping | State::Clearing,
        ) => Step::Nothing,
    }
}

/// Why a slot is stopped. The strongest reason is named: it goes for good, a person asked, the worker must go, we all go.
fn cause_of_stop(slot: &Slot, text_of_closing: &str) -> Cause {
    if let Some(cause) = &slot.leaving {
        cause.clone()
    } else if slot.want == Want::Down {
        Cause::new(Why::Manual, slot.stopped_by.clone())
    } else if let Some(cause) = &slot.replace {
        cause.clone()
    } else {
        Cause::new(Why::Shutdown, text_of_closing.to_owned())
    }
}

/// The next moment of a beat that all programs of one interval share, so that they wake us together.
fn next_beat(recycle: &RecycleSpec, now: Moment) -> Moment {
    let every = recycle.sample_interval.max(SHORTEST_BEAT).0;
    Moment(now.0 / every * every) + Span(every)
}

/// Reading memory more often than this would be a load of its own.
const SHORTEST_BEAT: Span = Span::millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::ProgramSpec;
    use crate::model::template::Template;

    const STATES: [State; 10] = [
        State::Stopped,
        State::Launching,
        State::Waiting,
        State::Starting,
        State::Running,
        State::Backoff,
        State::Stopping,
        State::Clearing,
        State::Exited,
        State::Fatal,
    ];

    fn slot(state: State) -> Slot {
        let spec = ProgramSpec::new("x", vec![Template::text("true")]);
        let mut slot = Slot::new(&spec, 0, Want::Up, String::new(), Now::default());
        slot.state = state;
        slot
    }

    #[test]
    fn nothing_is_launched_into_a_slot_that_is_not_empty() {
        for wish in [Wish::Up, Wish::Fresh, Wish::Down, Wish::Hold, Wish::Gone] {
            for state in STATES {
                let step = gap(wish, &slot(state));
                assert!(step != Step::Launch || state.is_empty(), "{wish:?} {state:?}");
                assert!(step != Step::Forget || state.is_empty(), "{wish:?} {state:?}");
                assert!(step != Step::Stop || state.holds_worker(), "{wish:?} {state:?}");
            }
        }
    }

    #[test]
    fn only_a_fresh_wish_lifts_fatal_and_exited() {
        for state in [State::Fatal, State::Exited, State::Backoff, State::Waiting] {
            assert_eq!(gap(Wish::Up, &slot(state)), Step::Nothing);
            assert_eq!(gap(Wish::Fresh, &slot(state)), Step::Launch);
        }
    }
}
