//! Groups one by one, as Supervisor's `update` does it: read, compare, remove, add.
//!
//! What was read last is kept beside what is in force (`pending`), and groups are added from there. A group that a
//! person removed stays out until he adds it: a reload leaves it out and says so. Nothing is stopped here: a group is
//! removed only when nothing of it runs.

use super::Engine;
use super::effect::Effect;
use crate::model::command::{Answer, Refusal, Reply};
use crate::model::name::{GroupName, ProgramName};
use crate::model::notice::What;
use crate::model::plan::{Change, Plan};
use crate::model::spec::ProgramSpec;
use crate::model::state::State;
use crate::model::time::Now;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Engine {
    /// Groups of `new` against the active ones; nothing is changed.
    pub(super) fn groups_changed(&self, new: &Plan) -> Reply {
        let (active, read) = (groups_of(&self.plan), groups_of(new));
        let named = |groups: &mut dyn Iterator<Item = &GroupName>| groups.map(|group| group.as_str().to_owned()).collect();
        Reply::Groups {
            added: named(&mut read.difference(&active)),
            changed: named(&mut read.intersection(&active).filter(|group| differs(group, &self.plan, new))),
            removed: named(&mut active.difference(&read)),
        }
    }

    pub(super) fn add_group(&mut self, name: &str, now: Now, effects: &mut Vec<Effect>) -> Answer {
        let group = GroupName::new(name);
        if groups_of(&self.plan).contains(&group) {
            return Err(Refusal::AlreadyAdded { name: name.to_owned() });
        }
        let read = self.pending.as_ref().unwrap_or(&self.plan);
        let members: Vec<Arc<ProgramSpec>> = members(read, &group).cloned().collect();
        let priority = read.groups.get(&group).copied();
        if members.is_empty() {
            let near = groups_of(read).into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name));
            return Err(Refusal::NoSuch { name: name.to_owned(), nearest: near.map(|near| near.as_str().to_owned()) });
        }
        if let Some((member, active)) = members.iter().find_map(|spec| Some((spec, self.plan.programs.get(&spec.name)?))) {
            return Err(Refusal::Busy { with: format!("program {} in group {}; remove that first", member.name, active.group) });
        }
        self.out.remove(&group);
        if let Some(priority) = priority {
            self.plan.groups.insert(group.clone(), priority);
        }
        self.tell(now, name, None, What::GroupAdded { group: name.to_owned() }, effects);
        for spec in members {
            let program = spec.name.clone();
            self.plan.programs.insert(program.clone(), spec);
            self.take_up(&program, Change::Added, now, effects);
        }
        Ok(Reply::Done)
    }

    pub(super) fn remove_group(&mut self, name: &str, now: Now, effects: &mut Vec<Effect>) -> Answer {
        let group = GroupName::new(name);
        let members: Vec<ProgramName> = members(&self.plan, &group).map(|spec| spec.name.clone()).collect();
        if members.is_empty() {
            return Err(Refusal::NoSuch { name: name.to_owned(), nearest: self.nearest(name) });
        }
        let slots = members.iter().filter_map(|member| self.programs.get(member)).flat_map(|program| program.slots.values());
        if slots.into_iter().any(|slot| !is_stopped(slot.state)) {
            return Err(Refusal::StillRunning { name: name.to_owned() });
        }
        // So that it can be added again.
        if self.pending.is_none() {
            self.pending = Some(self.plan.clone());
        }
        self.out.insert(group.clone());
        self.plan.groups.remove(&group);
        for member in members {
            self.plan.programs.remove(&member);
            self.remove(&member, now, effects);
        }
        self.tell(now, name, None, What::GroupRemoved { group: name.to_owned() }, effects);
        Ok(Reply::Done)
    }

    /// Takes the groups that a person removed out of a plan that was read; gives back the plan as it was if that changed it.
    pub(super) fn leave_out(&self, plan: &mut Plan) -> Option<Plan> {
        let left_out: Vec<&GroupName> = self.out.iter().filter(|group| members(plan, group).next().is_some()).collect();
        if left_out.is_empty() {
            return None;
        }
        let whole = plan.clone();
        for group in left_out {
            plan.programs.retain(|_, spec| spec.group != *group);
            plan.groups.remove(group);
            plan.warnings.push(format!("group {group} was removed by a person and stays out until it is added again"));
        }
        Some(whole)
    }

    /// Tells which groups have come and gone since `before` was in force.
    pub(super) fn tell_groups(&mut self, before: &Plan, now: Now, effects: &mut Vec<Effect>) {
        let (old, new) = (groups_of(before), groups_of(&self.plan));
        for gone in old.difference(&new) {
            self.tell(now, gone.as_str(), None, What::GroupRemoved { group: gone.as_str().to_owned() }, effects);
        }
        for come in new.difference(&old) {
            self.tell(now, come.as_str(), None, What::GroupAdded { group: come.as_str().to_owned() }, effects);
        }
    }
}

fn groups_of(plan: &Plan) -> BTreeSet<GroupName> {
    plan.programs.values().map(|spec| spec.group.clone()).collect()
}

fn members<'a>(plan: &'a Plan, group: &'a GroupName) -> impl Iterator<Item = &'a Arc<ProgramSpec>> {
    plan.programs.values().filter(move |spec| spec.group == *group)
}

/// Supervisor compares a group's priority and everything that its programs say.
fn differs(group: &GroupName, old: &Plan, new: &Plan) -> bool {
    old.groups.get(group) != new.groups.get(group) || !members(old, group).eq(members(new, group))
}

/// Supervisor's set of stopped states: what waits for a start of its own is none of them.
fn is_stopped(state: State) -> bool {
    match state {
        State::Stopped | State::Exited | State::Fatal => true,
        State::Launching | State::Waiting | State::Starting | State::Running | State::Backoff | State::Stopping | State::Clearing => false,
    }
}
