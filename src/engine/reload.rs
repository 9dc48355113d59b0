//! What a new `Plan` changes in the wants.
//!
//! Policy takes effect in place, under the running workers. A changed launch rolls through the program within its
//! recycling budget, and stops at the first new worker that fails; slots that had given up are tried again with it. What is no longer defined is stopped and forgotten.
//! What did not change is not touched. A plan with errors changes nothing at all.

use super::commands::reply;
use super::effect::Effect;
use super::event::Purpose;
use super::program::Program;
use super::recycle;
use super::slot::{Cause, Slot, Want};
use super::{Engine, Then};
use crate::model::command::{Action, Batch, ChangeRow, Changes, Refusal, Reply, Ticket};
use crate::model::name::{ProgramName, SlotId};
use crate::model::notice::{What, Why};
use crate::model::plan::{Change, Plan};
use crate::model::spec::ProgramSpec;
use crate::model::state::State;
use crate::model::time::Now;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Engine {
    /// The definitions were read, well or not.
    pub(super) fn plan_loaded(
        &mut self,
        ticket: Option<Ticket>,
        purpose: Purpose,
        result: Result<Box<Plan>, Vec<String>>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if self.closing.is_some() {
            return reply(ticket, Err(self.going_down()), effects);
        }
        let mut plan = match result {
            Ok(plan) => *plan,
            Err(faults) => {
                if matches!(purpose, Purpose::Reload | Purpose::Renew) {
                    self.faults.clone_from(&faults);
                    self.tell(now, "", None, What::LoadFailed { faults: faults.clone() }, effects);
                }
                return reply(ticket, Err(Refusal::BadConfig { faults }), effects);
            }
        };
        match purpose {
            Purpose::Reload | Purpose::DryRun => {
                let whole = self.leave_out(&mut plan);
                let diff = self.plan.diff(&plan);
                let changes = Changes { rows: self.rows(&plan, &diff), warnings: plan.warnings.clone() };
                if purpose == Purpose::Reload {
                    self.pending = whole;
                    self.adopt(plan, diff, now, effects);
                }
                reply(ticket, Ok(Reply::Changes(changes)), effects);
            }
            Purpose::Reread => {
                let groups = self.groups_changed(&plan);
                self.pending = Some(plan);
                reply(ticket, Ok(groups), effects);
            }
            Purpose::Renew => {
                self.faults.clear();
                self.stop_all(Then::Renew(Box::new(plan)));
                reply(ticket, Ok(Reply::Done), effects);
            }
        }
    }

    /// Makes `plan` the one in force, and its changes wants.
    pub(super) fn adopt(&mut self, plan: Plan, diff: BTreeMap<ProgramName, Change>, now: Now, effects: &mut Vec<Effect>) {
        let programs = u32::try_from(plan.programs.len()).unwrap_or(u32::MAX);
        let changed = u32::try_from(diff.len()).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut self.plan, plan);
        self.faults.clear();
        self.loaded = now.stamp;
        self.tell(now, "", None, What::Loaded { programs, changed }, effects);
        self.tell_groups(&before, now, effects);
        for (name, change) in diff {
            self.take_up(&name, change, now, effects);
        }
    }

    /// What the reload does, or would do, to every program; by action, then by name.
    fn rows(&self, new: &Plan, diff: &BTreeMap<ProgramName, Change>) -> Vec<ChangeRow> {
        let count = |name: &ProgramName| self.programs.get(name).map_or(0, |program| program.staying().count() as u32);
        let mut rows = Vec::new();
        for (name, change) in diff {
            let spec = new.programs.get(name);
            let old = self.plan.programs.get(name);
            let (action, workers, why) = match (change, spec) {
                (Change::Added, Some(spec)) if !spec.policy.autostart => {
                    (Action::Start, 0, "new; not started, autostart is off".to_owned())
                }
                (Change::Added, Some(spec)) => (Action::Start, spec.policy.numprocs, "new".to_owned()),
                (Change::Added | Change::Removed, _) => (Action::Stop, count(name), "no longer defined".to_owned()),
                (Change::Policy(keys), _) => (Action::Update, count(name), in_words(keys, old, spec)),
                (Change::Launch(keys), _) => {
                    let touched =
                        |slot: &&Slot| matches!(slot.state, State::Starting | State::Running | State::Fatal) && slot.want == Want::Up;
                    let workers = self.programs.get(name).map_or(0, |program| program.staying().filter(touched).count() as u32);
                    (Action::Restart, workers, in_words(keys, old, spec))
                }
            };
            rows.push(ChangeRow { program: name.as_str().to_owned(), action, workers, why });
        }
        for name in new.programs.keys().filter(|name| !diff.contains_key(*name)) {
            rows.push(ChangeRow {
                program: name.as_str().to_owned(),
                action: Action::Keep,
                workers: count(name),
                why: "unchanged".to_owned(),
            });
        }
        rows.sort_by(|a, b| (place(a.action), &a.program).cmp(&(place(b.action), &b.program)));
        rows
    }

    pub(super) fn take_up(&mut self, name: &ProgramName, change: Change, now: Now, effects: &mut Vec<Effect>) {
        let Some(spec) = self.plan.programs.get(name).cloned() else {
            return self.remove(name, now, effects);
        };
        let deploy = match &change {
            Change::Launch(keys) => Some(keys.clone()),
            Change::Policy(_) => None,
            // `remove` has it; a plan holds what it says.
            Change::Added | Change::Removed => None,
        };
        match self.programs.get_mut(name) {
            None => {
                self.programs.insert(name.clone(), Program::new(spec));
                self.shown.mark_all();
                self.resize(name, "", now, effects);
            }
            // Known, or removed a moment ago and not quite gone.
            Some(program) => {
                let old = std::mem::replace(&mut program.spec, spec.clone());
                program.removed = false;
                program.sample_at = None;
                if old.policy.numprocs != spec.policy.numprocs {
                    program.scaled = None;
                }
                let bounds = &spec.policy.scale;
                program.scaled = program.scaled.map(|count| count.min(bounds.max.unwrap_or(u32::MAX)).max(bounds.min));
                program.shown.mark_all();
                self.shown.mark(name);
                self.adopt_rules(name, &old, &spec, now, effects);
                let text = format!("numprocs {} -> {}", old.policy.numprocs, spec.policy.numprocs);
                self.resize(name, &text, now, effects);
                if let Some(keys) = deploy {
                    for id in self.ids(name) {
                        self.with(&id, now, effects, |slot, _, _| slot.give_another_chance());
                    }
                    let numbers =
                        self.programs.get(name).map(|program| program.staying().map(|slot| slot.id.number).collect()).unwrap_or_default();
                    let batch = Batch::Workers(spec.policy.recycle.concurrency);
                    self.begin_roll(name, &numbers, batch, &format!("its definition changed: {}", keys.join(", ")), now, effects);
                }
            }
        }
    }

    /// New rules for slots and workers that are there.
    fn adopt_rules(&mut self, name: &ProgramName, old: &Arc<ProgramSpec>, new: &Arc<ProgramSpec>, now: Now, effects: &mut Vec<Effect>) {
        let user = |spec: &ProgramSpec| spec.launch.user.as_ref().map(|user| (user.uid, user.gid));
        let named = old.group != new.group || old.process_name != new.process_name;
        let opened = named || old.output != new.output || old.policy.jobs != new.policy.jobs || user(old) != user(new);
        let limits = old.policy.recycle != new.policy.recycle;
        for id in self.ids(name) {
            self.with(&id, now, effects, |slot, spec, desk| {
                slot.label = spec.label(slot.id.number);
                slot.process = spec.process(slot.id.number);
                slot.take_backoff(old, spec, desk.now);
                if opened {
                    slot.open_again(spec, desk);
                }
                if limits {
                    draw_again(slot, spec, desk.rng);
                }
            });
        }
        self.mark_program(name);
    }

    pub(super) fn remove(&mut self, name: &ProgramName, now: Now, effects: &mut Vec<Effect>) {
        let Some(program) = self.programs.get_mut(name) else { return };
        program.removed = true;
        program.roll = None;
        program.scaled = None;
        for id in self.ids(name) {
            self.with(&id, now, effects, |slot, _, _| slot.leaving = Some(Cause::new(Why::Removed, "no longer defined".to_owned())));
        }
        self.mark_program(name);
    }

    pub(super) fn ids(&self, name: &ProgramName) -> Vec<SlotId> {
        self.programs.get(name).map(|program| program.slots.values().map(|slot| slot.id.clone()).collect()).unwrap_or_default()
    }
}

/// Limits that changed hold for the living, too; a mark that the old ones set is taken back.
fn draw_again(slot: &mut Slot, spec: &ProgramSpec, rng: &mut crate::model::rng::Rng) {
    let Some(worker) = &mut slot.worker else { return };
    recycle::draw(worker, &spec.policy.recycle, rng);
    let by_limit = slot.due.as_ref().is_some_and(|due| matches!(due.cause.why, Why::Jobs | Why::Memory | Why::Lifetime));
    if by_limit && slot.turn.is_none() {
        slot.unmark();
    }
}

fn place(action: Action) -> u8 {
    match action {
        Action::Start => 0,
        Action::Stop => 1,
        Action::Restart => 2,
        Action::Update => 3,
        Action::Keep => 4,
    }
}

/// `command, environment changed; numprocs 2 -> 4`.
fn in_words(keys: &[String], old: Option<&Arc<ProgramSpec>>, new: Option<&Arc<ProgramSpec>>) -> String {
    let named: Vec<&str> = keys.iter().map(String::as_str).filter(|key| *key != "numprocs").collect();
    let mut parts = Vec::new();
    if let (Some(old), Some(new)) = (old, new)
        && old.policy.numprocs != new.policy.numprocs
    {
        parts.push(format!("numprocs {} -> {}", old.policy.numprocs, new.policy.numprocs));
    }
    if !named.is_empty() {
        parts.push(format!("{} changed", named.join(", ")));
    }
    parts.join("; ")
}
