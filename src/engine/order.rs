//! Who goes first: priorities, and their reverse when we shut down.
//!
//! Lower priorities start first and stop last; the group's priority counts before the program's, ties go by name and
//! number. As in Supervisor this is an order of starting, not of waiting. Shutting down does wait: the next lower
//! priority begins when the higher is empty.

use super::program::Program;
use crate::model::name::{ProgramName, SlotId};
use crate::model::plan::Plan;
use crate::model::spec::ProgramSpec;
use std::collections::{BTreeMap, BTreeSet};

/// Priority of the group, then of the program.
pub(super) type Rank = (i32, i32);

pub(super) fn rank(plan: &Plan, spec: &ProgramSpec) -> Rank {
    let own = spec.policy.priority;
    (plan.groups.get(&spec.group).copied().unwrap_or(own), own)
}

/// `slots` in the order in which they are to be started.
pub(super) fn sorted(slots: BTreeSet<SlotId>, plan: &Plan, programs: &BTreeMap<ProgramName, Program>) -> Vec<SlotId> {
    let mut ranked: Vec<(Option<Rank>, SlotId)> =
        slots.into_iter().map(|id| (programs.get(&id.program).map(|program| rank(plan, &program.spec)), id)).collect();
    // Stable: a set is sorted by name and number already.
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, id)| id).collect()
}

/// Whose turn it is to stop in a shutdown: the highest rank that is not empty yet. `None`: all are empty.
pub(super) fn stopping_rank(plan: &Plan, programs: &BTreeMap<ProgramName, Program>) -> Option<Rank> {
    programs.values().filter(|program| program.busy > 0).map(|program| rank(plan, &program.spec)).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::GroupName;
    use crate::model::template::Template;
    use std::sync::Arc;

    #[test]
    fn groups_count_before_programs_and_ties_go_by_name_and_number() {
        let mut plan = Plan::default();
        let mut programs = BTreeMap::new();
        for (name, group, priority) in [("a", "late", 1), ("b", "b", 5), ("c", "c", 5), ("d", "d", 2)] {
            let mut spec = ProgramSpec::new(name, vec![Template::text("true")]);
            spec.group = GroupName::new(group);
            spec.policy.priority = priority;
            programs.insert(spec.name.clone(), Program::new(Arc::new(spec)));
        }
        plan.groups.insert(GroupName::new("late"), 100);
        let id = |name: &str, number| SlotId::new(&ProgramName::new(name), number);
        let slots = BTreeSet::from([id("a", 0), id("b", 10), id("b", 9), id("c", 0), id("d", 0)]);
        assert_eq!(sorted(slots, &plan, &programs), [id("d", 0), id("b", 9), id("b", 10), id("c", 0), id("a", 0)]);
    }
}
