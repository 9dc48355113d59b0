//! What each `Command` changes in the wants, and the answer.
//!
//! Nothing is started or stopped here: a command edits wants, and `reconcile` does the rest in the same step. So an answer
//! says what was set going, and is given at once. Only a reload is answered later, when the definitions were read.

use super::effect::Effect;
use super::event::Purpose;
use super::program::{Program, Roll};
use super::slot::{Cause, Slot, Want};
use super::{Closing, Engine, Then, order, scale};
use crate::model::command::{Answer, Batch, Command, Outcome, Refusal, Reply, ScaleTo, Ticket};
use crate::model::name::{ProgramName, SlotId, Target};
use crate::model::notice::{What, Why};
use crate::model::signal::Signal;
use crate::model::state::State;
use crate::model::time::Now;
use std::collections::{BTreeMap, BTreeSet};

impl Engine {
    /// Somebody asked.
    pub(super) fn asked(&mut self, ticket: Option<Ticket>, who: &str, command: Command, now: Now, effects: &mut Vec<Effect>) {
        match &command {
            // The tool asks for it on its own account, often.
            Command::Refresh => {}
            Command::Start { .. }
            | Command::Stop { .. }
            | Command::Restart { .. }
            | Command::Roll { .. }
            | Command::Recycle { .. }
            | Command::Scale { .. }
            | Command::Signal { .. }
            | Command::Reload { .. }
            | Command::Reread
            | Command::AddGroup { .. }
            | Command::RemoveGroup { .. }
            | Command::Feed { .. }
            | Command::Renew
            | Command::Remote { .. }
            | Command::Shutdown => {
                let what = What::Asked { who: who.to_owned(), command: in_words(&command) };
                self.tell(now, "", None, what, effects);
            }
        }
        let answer = match command {
            Command::Refresh => {
                let workers = self.programs.values().flat_map(Program::all).filter_map(measurable).collect::<Vec<_>>();
                if !workers.is_empty() {
                    effects.push(Effect::Measure { workers });
                }
                Ok(Reply::Done)
            }
            Command::Shutdown => {
                self.shut_down();
                Ok(Reply::Done)
            }
            Command::Start { .. }
            | Command::Stop { .. }
            | Command::Restart { .. }
            | Command::Roll { .. }
            | Command::Recycle { .. }
            | Command::Scale { .. }
            | Command::Signal { .. }
            | Command::Reload { .. }
            | Command::Reread
            | Command::AddGroup { .. }
            | Command::RemoveGroup { .. }
            | Command::Feed { .. }
            | Command::Renew
            | Command::Remote { .. }
                if self.closing.is_some() =>
            {
                Err(self.going_down())
            }
            Command::Start { targets } => Ok(self.each(&targets, now, effects, start)),
            Command::Stop { targets } => {
                let by = format!("stopped by {who}");
                Ok(self.each(&targets, now, effects, |slot| stop(slot, &by)))
            }
            Command::Restart { targets } => {
                let by = format!("restarted by {who}");
                Ok(self.each(&targets, now, effects, |slot| restart(slot, &by)))
            }
            Command::Recycle { targets } => Ok(self.recycle(&targets, who, now, effects)),
            Command::Roll { targets, batch } => Ok(self.roll(&targets, batch, who, now, effects)),
            Command::Signal { targets, signal } => Ok(self.signal(&targets, signal, who, now, effects)),
            Command::Scale { program, to } => self.scale(&program, to, who, now, effects),
            // These are answered when the definitions were read.
            Command::Reload { dry } => {
                let purpose = if dry { Purpose::DryRun } else { Purpose::Reload };
                return effects.push(Effect::LoadPlan { ticket, purpose });
            }
            Command::Reread => return effects.push(Effect::LoadPlan { ticket, purpose: Purpose::Reread }),
            Command::Renew => return effects.push(Effect::LoadPlan { ticket, purpose: Purpose::Renew }),
            Command::AddGroup { name } => self.add_group(&name, now, effects),
            Command::RemoveGroup { name } => self.remove_group(&name, now, effects),
            Command::Feed { target, text } => match self.feedable(&target) {
                Ok((run, pid)) => return effects.push(Effect::Feed { ticket, run, pid, text }),
                Err(refusal) => Err(refusal),
            },
            Command::Remote { event, data } => {
                self.tell(now, "", None, What::Remote { event, data }, effects);
                Ok(Reply::Done)
            }
        };
        reply(ticket, answer, effects);
    }

    fn shut_down(&mut self) {
        match &mut self.closing {
            // Instead of starting again afterwards.
            Some(closing) => {
                if matches!(closing.then, Then::Renew(_)) {
                    closing.then = Then::Quit;
                    self.shown.mark_all();
                }
            }
            None => self.stop_all(Then::Quit),
        }
    }

    /// Begins to stop everything, by priority.
    pub(super) fn stop_all(&mut self, then: Then) {
        self.closing = Some(Closing { rank: order::stopping_rank(&self.plan, &self.programs), then });
        self.shown.mark_all();
        let names: Vec<ProgramName> = self.programs.keys().cloned().collect();
        for name in names {
            self.mark_slots(&name);
        }
    }

    /// Why nothing is served while everything stops.
    pub(super) fn going_down(&self) -> Refusal {
        match self.closing.as_ref().map(|closing| &closing.then) {
            Some(Then::Renew(_)) => Refusal::Busy { with: "starting everything anew".to_owned() },
            Some(Then::Quit | Then::Gone) | None => Refusal::ShuttingDown,
        }
    }

    /// The one worker that `target` means, if it can be written to.
    fn feedable(&self, target: &Target) -> Result<(crate::model::name::RunId, i32), Refusal> {
        let found = self.resolve(std::slice::from_ref(target));
        if let Some(refusal) = found.unknown.into_iter().find_map(|outcome| outcome.refused) {
            return Err(refusal);
        }
        let mut slots = found.slots.iter();
        let (Some(id), None) = (slots.next(), slots.next()) else {
            return Err(Refusal::Malformed { why: format!("{target} is not one process; name the one to write to") });
        };
        let slot = self.slot(id).filter(|slot| matches!(slot.state, State::Starting | State::Running));
        slot.and_then(measurable).ok_or(Refusal::NotRunning)
    }

    /// Does `edit` to the want of every process that the targets mean.
    fn each(&mut self, targets: &[Target], now: Now, effects: &mut Vec<Effect>, edit: impl Fn(&mut Slot) -> Option<Refusal>) -> Reply {
        let found = self.resolve(targets);
        self.outcomes(found, now, effects, |engine, id, now, effects| engine.with(id, now, effects, |slot, _, _| edit(slot)).flatten())
    }

    fn outcomes(
        &mut self,
        found: Found,
        now: Now,
        effects: &mut Vec<Effect>,
        mut act: impl FnMut(&mut Engine, &SlotId, Now, &mut Vec<Effect>) -> Option<Refusal>,
    ) -> Reply {
        let mut outcomes = Vec::new();
        for id in &found.slots {
            let name = self.slot(id).map(|slot| slot.label.clone()).unwrap_or_default();
            outcomes.push(Outcome { name, refused: act(self, id, now, effects) });
        }
        outcomes.extend(found.unknown);
        Reply::Outcomes(outcomes)
    }

    fn recycle(&mut self, targets: &[Target], who: &str, now: Now, effects: &mut Vec<Effect>) -> Reply {
        let cause = Cause::new(Why::Manual, format!("recycled: asked for by {who}"));
        let found = self.resolve(targets);
        self.outcomes(found, now, effects, |engine, id, now, effects| {
            let marked = engine.with(id, now, effects, |slot, _, desk| match slot.state {
                State::Starting | State::Running | State::Launching => {
                    slot.mark_due(cause.clone(), desk);
                    None
                }
                // The next worker is on its way already.
                State::Stopping | State::Clearing if slot.want == Want::Up && slot.leaving.is_none() => None,
                State::Stopped | State::Waiting | State::Backoff | State::Stopping | State::Clearing | State::Exited | State::Fatal => {
                    Some(Refusal::NotRunning)
                }
            });
            marked.flatten()
        })
    }

    fn roll(&mut self, targets: &[Target], batch: Batch, who: &str, now: Now, effects: &mut Vec<Effect>) -> Reply {
        let found = self.resolve(targets);
        let mut by_program: BTreeMap<ProgramName, BTreeSet<u32>> = BTreeMap::new();
        for id in &found.slots {
            by_program.entry(id.program.clone()).or_default().insert(id.number);
        }
        let mut busy = BTreeSet::new();
        for (name, numbers) in by_program {
            if self.programs.get(&name).is_some_and(|program| program.is_rolling()) {
                busy.insert(name);
            } else {
                self.begin_roll(&name, &numbers, batch, &format!("rolling restart by {who}"), now, effects);
            }
        }
        self.outcomes(found, now, effects, |_, id, _, _| {
            busy.contains(&id.program).then(|| Refusal::Busy { with: format!("a rolling restart of {}", id.program) })
        })
    }

    /// Marks those of `numbers` that have a worker due, as one roll. Who has none takes the new launch when he starts.
    pub(super) fn begin_roll(
        &mut self,
        name: &ProgramName,
        numbers: &BTreeSet<u32>,
        batch: Batch,
        text: &str,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(program) = self.programs.get_mut(name) else { return };
        let rolls =
            |slot: &&Slot| slot.leaving.is_none() && slot.want == Want::Up && matches!(slot.state, State::Starting | State::Running);
        let chosen: BTreeSet<u32> =
            program.all().filter(|slot| numbers.contains(&slot.id.number)).filter(rolls).map(|slot| slot.id.number).collect();
        let mut left = chosen.clone();
        if program.is_rolling() {
            // A deployment on the heels of another: those still away belong to it.
            left.extend(program.away.iter().copied());
        }
        let total = u32::try_from(left.len()).unwrap_or(u32::MAX);
        program.roll = None;
        program.shown.mark(0);
        self.shown.mark(name);
        if total == 0 {
            return;
        }
        let batch = match batch {
            Batch::Workers(workers) => workers.max(1),
            Batch::Percent(percent) => u32::try_from((u64::from(total) * u64::from(percent)).div_ceil(100)).unwrap_or(u32::MAX).max(1),
        };
        program.roll = Some(Roll { batch, total, left, halted: None });
        for number in chosen {
            let cause = Cause::new(Why::Deploy, text.to_owned());
            self.with(&SlotId::new(name, number), now, effects, |slot, _, desk| slot.mark_due(cause, desk));
        }
        self.tell(now, name.as_str(), None, What::Rolling { done: 0, total, halted: None }, effects);
        self.mark_program(name);
    }

    fn signal(&mut self, targets: &[Target], signal: Signal, who: &str, now: Now, effects: &mut Vec<Effect>) -> Reply {
        let found = self.resolve(targets);
        self.outcomes(found, now, effects, |engine, id, now, effects| {
            let sent = engine.with(id, now, effects, |slot, _, desk| {
                let Some(worker) = &slot.worker else { return Some(Refusal::NotRunning) };
                let what = What::Signalled { pid: worker.pid, signal, reason: format!("asked for by {who}") };
                let effect = Effect::Signal { slot: slot.id.clone(), run: worker.run, pid: worker.pid, signal, group: false };
                desk.tell(&slot.label, Some(&slot.id), what);
                desk.effects.push(effect);
                None
            });
            sent.flatten()
        })
    }

    fn scale(&mut self, name: &str, to: ScaleTo, who: &str, now: Now, effects: &mut Vec<Effect>) -> Answer {
        let name = ProgramName::new(name);
        let Some(program) = self.programs.get_mut(&name).filter(|program| !program.removed) else {
            return Err(Refusal::NoSuch { name: name.as_str().to_owned(), nearest: self.nearest(name.as_str()) });
        };
        let from = program.wanted();
        let count = scale::target(program, to)?;
        program.scaled = match to {
            ScaleTo::Default => None,
            ScaleTo::Exactly(_) | ScaleTo::Up(_) | ScaleTo::Down(_) => Some(count),
        };
        let count = program.wanted();
        self.resize(&name, &format!("scaled from {from} to {count} by {who}"), now, effects);
        if from != count {
            self.tell(now, name.as_str(), None, What::Scaled { from, to: count, who: who.to_owned() }, effects);
        }
        Ok(Reply::Scaled { program: name.as_str().to_owned(), from, to: count })
    }

    /// Finds the slots that the targets mean.
    fn resolve(&self, targets: &[Target]) -> Found {
        let mut found = Found::default();
        for target in targets {
            let hit = match target {
                Target::All => {
                    self.programs.keys().for_each(|name| self.take_staying(name, &mut found.slots));
                    true
                }
                Target::Group(group) => self.take_group(group, &mut found.slots),
                Target::Process { group, process } => self.take_process(group, process, &mut found.slots),
                Target::Bare(name) => self.take_process(name, name, &mut found.slots) || self.take_group(name, &mut found.slots),
            };
            if !hit {
                let name = target.to_string();
                let nearest = self.nearest(name.trim_end_matches([':', '*']));
                found.unknown.push(Outcome { name: name.clone(), refused: Some(Refusal::NoSuch { name, nearest }) });
            }
        }
        found
    }

    fn take_staying(&self, name: &ProgramName, into: &mut BTreeSet<SlotId>) {
        if let Some(program) = self.programs.get(name) {
            into.extend(program.staying().map(|slot| slot.id.clone()));
        }
    }

    /// The programs of a group; or the one program of that name, wherever it is grouped.
    fn take_group(&self, group: &str, into: &mut BTreeSet<SlotId>) -> bool {
        let members: Vec<&ProgramName> =
            self.programs.iter().filter(|(_, program)| program.spec.group.as_str() == group).map(|(name, _)| name).collect();
        let members = match (members.is_empty(), self.programs.get_key_value(&ProgramName::new(group))) {
            (true, Some((name, _))) => vec![name],
            (true, None) => return false,
            (false, _) => members,
        };
        members.into_iter().for_each(|name| self.take_staying(name, into));
        true
    }

    fn take_process(&self, group: &str, process: &str, into: &mut BTreeSet<SlotId>) -> bool {
        let of_group = self.programs.values().filter(|program| program.spec.group.as_str() == group);
        let mut slots = of_group.flat_map(|program| program.slots.values()).filter(|slot| slot.process == process);
        match slots.next() {
            Some(slot) => {
                into.insert(slot.id.clone());
                into.extend(slots.map(|slot| slot.id.clone()));
                true
            }
            None => false,
        }
    }

    /// A name that `typed` might have meant.
    pub(super) fn nearest(&self, typed: &str) -> Option<String> {
        let names = self.programs.values().flat_map(|program| {
            let spec = &program.spec;
            let own = [spec.group.as_str().to_owned(), spec.name.as_str().to_owned()];
            own.into_iter().chain(program.staying().take(MOST_COMPARED).map(|slot| slot.label.clone()))
        });
        let far = 2.max(typed.chars().count() / 3);
        // A beginning is as good as the worst slip that still counts.
        let slips =
            |name: &str| if !typed.is_empty() && name.starts_with(typed) { far.min(distance(typed, name)) } else { distance(typed, name) };
        let near = names.map(|name| (slips(&name), name)).filter(|(slips, _)| *slips <= far);
        near.min().map(|(_, name)| name)
    }
}

/// What the targets of a command mean.
#[derive(Default)]
struct Found {
    /// In display order.
    slots: BTreeSet<SlotId>,
    unknown: Vec<Outcome>,
}

/// A worker whose memory can be read.
pub(super) fn measurable(slot: &Slot) -> Option<(crate::model::name::RunId, i32)> {
    slot.worker.as_ref().map(|worker| (worker.run, worker.pid))
}

fn start(slot: &mut Slot) -> Option<Refusal> {
    if let Some(refusal) = going(slot) {
        return Some(refusal);
    }
    match slot.state {
        State::Launching | State::Starting | State::Running => return Some(Refusal::AlreadyStarted),
        State::Stopped | State::Waiting | State::Backoff | State::Exited | State::Fatal => {
            slot.failures = 0;
            slot.until = None;
            slot.fresh = true;
        }
        // It starts again when the worker is gone, whatever that end would mean otherwise.
        State::Stopping | State::Clearing => slot.fresh = true,
    }
    slot.want = Want::Up;
    None
}

fn stop(slot: &mut Slot, by: &str) -> Option<Refusal> {
    if slot.leaving.is_some() && !slot.state.is_empty() {
        return None;
    }
    let was_paused = slot.until.is_some();
    slot.want = Want::Down;
    slot.fresh = false;
    slot.stopped_by = by.to_owned();
    match slot.state {
        // It would have come back by itself: so there is something to stop.
        State::Exited | State::Fatal if was_paused => None,
        State::Stopped | State::Exited | State::Fatal => Some(Refusal::NotRunning),
        State::Launching | State::Waiting | State::Starting | State::Running | State::Backoff | State::Stopping | State::Clearing => None,
    }
}

fn restart(slot: &mut Slot, by: &str) -> Option<Refusal> {
    if let Some(refusal) = going(slot) {
        return Some(refusal);
    }
    slot.want = Want::Up;
    match slot.state {
        State::Starting | State::Running => {
            slot.replace = Some(Cause::new(Why::Manual, by.to_owned()));
        }
        State::Stopped
        | State::Launching
        | State::Waiting
        | State::Backoff
        | State::Stopping
        | State::Clearing
        | State::Exited
        | State::Fatal => {
            slot.failures = 0;
            slot.until = slot.until.filter(|_| !slot.state.is_empty());
            slot.fresh = true;
        }
    }
    None
}

/// A slot that is on its way out cannot be called back one by one.
fn going(slot: &Slot) -> Option<Refusal> {
    slot.leaving.as_ref().map(|cause| Refusal::Busy { with: format!("its removal ({})", cause.text) })
}

pub(super) fn reply(ticket: Option<Ticket>, answer: Answer, effects: &mut Vec<Effect>) {
    if let Some(ticket) = ticket {
        effects.push(Effect::Reply { ticket, answer: Box::new(answer) });
    }
}

/// As one would type it.
fn in_words(command: &Command) -> String {
    let list = |targets: &[Target]| {
        let mut text: Vec<String> = targets.iter().take(MOST_NAMED).map(Target::to_string).collect();
        if targets.len() > MOST_NAMED {
            text.push(format!("and {} more", targets.len() - MOST_NAMED));
        }
        text.join(" ")
    };
    match command {
        Command::Start { targets } => format!("start {}", list(targets)),
        Command::Stop { targets } => format!("stop {}", list(targets)),
        Command::Restart { targets } => format!("restart {}", list(targets)),
        Command::Roll { targets, batch: Batch::Workers(workers) } => format!("restart --rolling --batch {workers} {}", list(targets)),
        Command::Roll { targets, batch: Batch::Percent(percent) } => format!("restart --rolling --batch {percent}% {}", list(targets)),
        Command::Recycle { targets } => format!("recycle {}", list(targets)),
        Command::Scale { program, to: ScaleTo::Exactly(n) } => format!("scale {program} {n}"),
        Command::Scale { program, to: ScaleTo::Up(n) } => format!("scale {program} +{n}"),
        Command::Scale { program, to: ScaleTo::Down(n) } => format!("scale {program} -{n}"),
        Command::Scale { program, to: ScaleTo::Default } => format!("scale {program} default"),
        Command::Signal { targets, signal } => format!("signal {signal} {}", list(targets)),
        Command::Reload { dry: false } => "reload".to_owned(),
        Command::Reload { dry: true } => "plan".to_owned(),
        Command::Reread => "reread".to_owned(),
        Command::AddGroup { name } => format!("add {name}"),
        Command::RemoveGroup { name } => format!("remove {name}"),
        Command::Feed { target, .. } => format!("write to {target}"),
        Command::Renew => "restart everything".to_owned(),
        Command::Remote { event, .. } => format!("tell listeners of {event}"),
        Command::Refresh => "refresh".to_owned(),
        Command::Shutdown => "shutdown".to_owned(),
    }
}

/// Levenshtein's distance, in characters, letters in any case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).take(LONGEST_COMPARED).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().flat_map(char::to_lowercase).take(LONGEST_COMPARED).enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = corner + usize::from(ca != *cb);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Targets that a notice names.
const MOST_NAMED: usize = 8;

/// Processes of a program that a mistyped name is compared with.
const MOST_COMPARED: usize = 200;

/// Characters of a name that are compared; names have 128 at most.
const LONGEST_COMPARED: usize = 260;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_slips_of_the_finger() {
        assert_eq!(distance("mailer", "mailer"), 0);
        assert_eq!(distance("malier", "mailer"), 2);
        assert_eq!(distance("Mailer", "mailers"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
