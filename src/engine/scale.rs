//! A wanted count becomes slots: which numbers come, and which go.
//!
//! Slots that stay are not touched. New ones get the lowest free numbers. Those that go are first the idle ones, as far as
//! workers tell, then the highest numbers: a scale-down should not cost a job. They are stopped softly, and forgotten
//! when they are empty; one that is called back before that just starts again.

use super::Engine;
use super::effect::Effect;
use super::program::{MOST_SLOTS, Program};
use super::slot::{Cause, Slot, Want};
use super::worker::Worker;
use crate::model::command::{Refusal, ScaleTo};
use crate::model::name::{ProgramName, SlotId};
use crate::model::notice::Why;
use crate::model::time::Now;

/// The count that `to` asks for, or why it may not be.
pub(super) fn target(program: &Program, to: ScaleTo) -> Result<u32, Refusal> {
    let bounds = &program.spec.policy.scale;
    let (min, max) = (bounds.min, bounds.max.unwrap_or(MOST_SLOTS));
    let asked = match to {
        ScaleTo::Exactly(n) => n,
        ScaleTo::Up(n) => program.wanted().saturating_add(n),
        ScaleTo::Down(n) => program.wanted().saturating_sub(n),
        ScaleTo::Default => return Ok(program.spec.policy.numprocs),
    };
    if asked < min || asked > max {
        return Err(Refusal::OutOfBounds { asked, min, max: bounds.max.unwrap_or(if asked > max { max } else { u32::MAX }) });
    }
    if asked > 1 && !program.spec.process_name.depends_on_number() {
        let why = format!("{} can have one worker only: its process_name has no %(process_num)d to tell them apart", program.spec.name);
        return Err(Refusal::Malformed { why });
    }
    Ok(asked)
}

/// Who goes when `count` of the program must: idle workers first, then the highest numbers.
pub(super) fn leavers(program: &Program, count: usize) -> Vec<u32> {
    let mut order: Vec<(bool, u32)> =
        program.staying().map(|slot| (slot.worker.as_ref().is_some_and(Worker::is_idle), slot.id.number)).collect();
    order.sort_unstable_by(|a, b| b.cmp(a));
    order.into_iter().take(count).map(|(_, number)| number).collect()
}

impl Engine {
    /// Makes the slots of a program as many as are wanted. `text`: why, in words, for those who go.
    pub(super) fn resize(&mut self, name: &ProgramName, text: &str, now: Now, effects: &mut Vec<Effect>) {
        let Some(program) = self.programs.get_mut(name) else { return };
        let spec = program.spec.clone();
        let start = spec.policy.numprocs_start;
        let wanted = usize::try_from(program.wanted()).unwrap_or(usize::MAX);
        let mut leaving: Vec<u32> = program.staying().map(|slot| slot.id.number).filter(|number| *number < start).collect();
        let staying = program.staying().count() - leaving.len();
        if staying > wanted {
            let below = leaving.len();
            let more: Vec<u32> = leavers(program, staying - wanted + below).into_iter().filter(|number| *number >= start).collect();
            leaving.extend(more.into_iter().take(staying - wanted));
        }
        let mut missing = wanted.saturating_sub(staying);
        // Where nothing of a program was to start by itself, more of it do not either.
        let want = if spec.policy.autostart || program.staying().any(|slot| slot.want == Want::Up) { Want::Up } else { Want::Down };
        let mut coming = Vec::new();
        let mut number = start;
        while missing > 0 {
            match program.slots.get_mut(&number) {
                Some(slot) if slot.leaving.is_none() => {}
                Some(slot) => {
                    slot.leaving = None;
                    slot.want = want;
                    coming.push(number);
                    missing -= 1;
                }
                None => {
                    let reason = if want == Want::Down { "not started: autostart is off".to_owned() } else { String::new() };
                    program.slots.insert(number, Box::new(Slot::new(&spec, number, want, reason, now)));
                    coming.push(number);
                    missing -= 1;
                }
            }
            let Some(next) = number.checked_add(1) else { break };
            number = next;
        }
        program.shown.mark_all();
        self.shown.mark(name);
        for number in coming {
            self.mark(SlotId::new(name, number));
        }
        let cause = Cause::new(Why::Scale, text.to_owned());
        for number in leaving {
            self.with(&SlotId::new(name, number), now, effects, |slot, _, _| slot.leaving = Some(cause.clone()));
        }
        self.mark_program(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::RunId;
    use crate::model::spec::{ProgramSpec, ScaleSpec};
    use crate::model::template::{Piece, Template};
    use std::sync::Arc;

    fn program(slots: u32) -> Program {
        let mut spec = ProgramSpec::new("mail", vec![Template::text("true")]);
        spec.process_name = Template(vec![Piece::Text("mail_".into()), Piece::Number { zero: true, width: 2 }]);
        spec.policy.numprocs = slots;
        spec.policy.scale = ScaleSpec { min: 1, max: Some(8) };
        let mut program = Program::new(Arc::new(spec));
        for number in 0..slots {
            let slot = Slot::new(&program.spec, number, Want::Up, String::new(), Now::default());
            program.slots.insert(number, Box::new(slot));
        }
        program
    }

    #[test]
    fn idle_workers_leave_first_then_the_highest_numbers() {
        let mut program = program(5);
        for (number, job) in [(0, Some("a")), (1, Some("")), (2, None), (3, Some("")), (4, Some("b"))] {
            let mut worker = Worker::new(RunId(1), 1, Now::default());
            worker.job = job.map(str::to_owned);
            program.slots.get_mut(&number).unwrap().worker = Some(worker);
        }
        assert_eq!(leavers(&program, 4), [3, 1, 4, 2]);
    }

    #[test]
    fn bounds_are_kept_and_named() {
        let program = program(4);
        assert_eq!(target(&program, ScaleTo::Up(4)), Ok(8));
        assert_eq!(target(&program, ScaleTo::Up(5)), Err(Refusal::OutOfBounds { asked: 9, min: 1, max: 8 }));
        assert_eq!(target(&program, ScaleTo::Down(9)), Err(Refusal::OutOfBounds { asked: 0, min: 1, max: 8 }));
        assert_eq!(target(&program, ScaleTo::Default), Ok(4));
    }
}
