//! New definitions under a running fleet.

use crate::harness::{Fleet, slot};
use ganger::model::state::State;

const TWO: &str = "[program.a]\ncommand = \"sleep 1001\"\nstartsecs = 0\n[program.b]\ncommand = \"sleep 1002\"\nstartsecs = 0\n";

#[test]
fn only_what_changed_is_touched() {
    let fleet = Fleet::start(TWO);
    let before = fleet.until_all_run();
    fleet.define("[program.a]\ncommand = \"sleep 1001\"\nstartsecs = 0\npriority = 5\n[program.b]\ncommand = \"sleep 1003\"\nstartsecs = 0\n[program.c]\ncommand = \"sleep 1004\"\nstartsecs = 0\n");

    let plan = fleet.ctl(&["plan"]);
    assert_eq!(plan.code, 3, "{plan:?}");
    for word in ["command", "priority", "b", "c"] {
        assert!(plan.out.contains(word), "{word}: {}", plan.out);
    }
    assert_eq!(fleet.view(), fleet.view(), "a plan changes nothing");

    fleet.ctl_ok(&["reload"]);
    let after = fleet.until("b is replaced, c is there", |view| {
        view.slots().count() == 3 && view.slots().all(|slot| slot.state == State::Running) && slot(view, "b").starts == 2
    });
    assert_eq!(slot(&after, "a").pid, slot(&before, "a").pid);
    assert_ne!(slot(&after, "b").pid, slot(&before, "b").pid);

    assert_eq!(fleet.ctl(&["plan"]).code, 0);
}

#[test]
fn broken_definitions_change_nothing_and_all_errors_are_told() {
    let fleet = Fleet::start(TWO);
    let before = fleet.until_all_run();
    fleet.define("[program.a]\ncommand = \"sleep 1001\"\nstartsecs = \"fast\"\n[program.b]\ncomand = \"sleep\"\n");
    let told = fleet.ctl(&["reload"]);
    assert_eq!(told.code, 2, "{told:?}");
    let text = told.out + &told.err;
    assert!(text.contains("program.a.startsecs") && text.contains("did you mean") && text.contains("command"), "{text}");

    fleet.signal(nix::sys::signal::Signal::SIGHUP);
    let view = fleet.until("the fault is shown", |view| view.faults.len() >= 2);
    for label in ["a", "b"] {
        assert_eq!(slot(&view, label).pid, slot(&before, label).pid);
    }
}

#[test]
fn check_says_all_errors_and_exits_2() {
    let fleet = Fleet::prepare("[program.a]\ncommand = \"sleep 1\"\nnumprocs = \"many\"\n[program.b]\nstopsignal = \"TERM\"\n");
    let check = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_gangerd"))
            .arg("--check")
            .arg("-c")
            .arg(fleet.config())
            .output()
            .expect("gangerd runs")
    };
    let out = check();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{text}");
    assert!(text.contains("program.a.numprocs") && text.contains("program.b"), "{text}");
    fleet.define(TWO);
    assert_eq!(check().status.code(), Some(0));
}

#[test]
fn a_removed_program_is_stopped_and_forgotten() {
    let fleet = Fleet::start(TWO);
    let pid = slot(&fleet.until_all_run(), "b").pid.expect("it runs");
    fleet.define("[program.a]\ncommand = \"sleep 1001\"\nstartsecs = 0\n");
    fleet.signal(nix::sys::signal::Signal::SIGHUP);
    fleet.until("b is gone", |view| view.slots().count() == 1);
    assert!(!crate::harness::is_alive(pid));
}
