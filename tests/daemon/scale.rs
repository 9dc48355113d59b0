//! More and fewer workers at run time.

use crate::harness::{Fleet, slot};
use ganger::model::state::State;
use std::collections::BTreeMap;

fn pids(fleet: &Fleet) -> BTreeMap<u32, i32> {
    fleet.view().slots().filter_map(|slot| Some((slot.number, slot.pid?))).collect()
}

/// Supervisor#177: changing numprocs there stops the whole group.
#[test]
fn supervisor_177_scaling_leaves_the_other_workers_alone() {
    let fleet = Fleet::start("[program.w]\ncommand = \"sleep 1000\"\nnumprocs = 3\nstartsecs = 0\nscale = { max = 8 }\n");
    fleet.until_all_run();
    let before = pids(&fleet);

    fleet.ctl_ok(&["scale", "w", "6"]);
    let view = fleet.until("six run", |view| view.slots().filter(|slot| slot.state == State::Running).count() == 6);
    assert_eq!(view.programs[0].wanted, 6);
    for (number, pid) in &before {
        assert_eq!(pids(&fleet).get(number), Some(pid));
    }

    fleet.ctl_ok(&["scale", "w", "-4"]);
    fleet.until("two are left", |view| view.slots().count() == 2);
    let after = pids(&fleet);
    assert_eq!(after, before.into_iter().filter(|(number, _)| *number < 2).collect());

    let told = fleet.ctl(&["scale", "w", "9"]);
    assert_ne!(told.code, 0);
    assert!((told.out + &told.err).contains("8"), "the bound is named");
    assert_eq!(slot(&fleet.view(), "w:w_00").state, State::Running);
}
