//! The stop ladder, seen on real processes.

use crate::harness::{Fleet, is_alive, slot};
use ganger::model::notice::Why;
use ganger::model::state::State;

#[test]
fn a_stopped_worker_is_gone_and_stays_down_until_started() {
    let fleet = Fleet::start("[program.w]\ncommand = \"sleep 1000\"\nnumprocs = 2\nstartsecs = 0\n");
    let pid = slot(&fleet.until_all_run(), "w:w_00").pid.expect("it runs");

    assert_eq!(fleet.ctl_ok(&["stop", "w:w_00"]), "w:w_00: stopped\n");
    assert!(!is_alive(pid));
    let view = fleet.view();
    assert_eq!(slot(&view, "w:w_00").state, State::Stopped);
    assert_eq!(slot(&view, "w:w_01").state, State::Running);

    assert_eq!(fleet.ctl_ok(&["start", "w:w_00"]), "w:w_00: started\n");
    assert_eq!(slot(&fleet.view(), "w:w_00").state, State::Running);
}

#[test]
fn a_stop_climbs_the_ladder_of_signals() {
    let fleet = Fleet::prepare("");
    let script = fleet.script("worker.sh", "#!/bin/sh\ntrap 'echo got TERM >>@/said' TERM\ntrap 'echo got INT >>@/said; exit 0' INT\necho up >>@/said\nwhile :; do sleep 0.05; done\n");
    let text = std::fs::read_to_string(&script).expect("just written").replace('@', &fleet.dir.to_string_lossy());
    fleet.script("worker.sh", &text);
    fleet.define("[program.w]\ncommand = \"@DIR@/worker.sh\"\nstopsignal = \"TERM 1s, INT 10s, KILL\"\nstop_resend = \"off\"\n");
    let mut fleet = fleet;
    fleet.launch();
    crate::harness::until("the worker traps", || fleet.read("said").contains("up").then_some(()), || fleet.describe());

    fleet.ctl_ok(&["stop", "w"]);

    assert_eq!(fleet.read("said"), "up\ngot TERM\ngot INT\n");
    let view = fleet.view();
    assert_eq!(slot(&view, "w").history[0].why, Why::Manual);
}

#[test]
fn all_slots_stop_side_by_side() {
    // Each takes a second to go; one after the other they would take twenty.
    let fleet = Fleet::start(
        "[program.w]\ncommand = \"\"\"sh -c 'trap \"sleep 1; exit 0\" TERM; echo up; while :; do sleep 0.05; done'\"\"\"\nnumprocs = 20\nstartsecs = 0\n",
    );
    fleet.until_all_run();
    crate::harness::until(
        "all trap",
        || (0..20).all(|n| fleet.read(&format!("log/w.w_{n:02}.stdout.log")).contains("up")).then_some(()),
        || fleet.describe(),
    );
    let start = std::time::Instant::now();
    fleet.ctl_ok(&["stop", "all"]);
    assert!(start.elapsed() < std::time::Duration::from_secs(15), "one after the other: {:?}", start.elapsed());
    assert!(fleet.view().slots().all(|slot| slot.state == State::Stopped));
}
