//! Deaths and what follows.

use crate::harness::{Fleet, slot};
use ganger::model::exit::Exit;
use ganger::model::signal::Signal;
use ganger::model::state::State;

#[test]
fn a_killed_worker_is_replaced_and_its_end_is_told() {
    let fleet = Fleet::start("[program.w]\ncommand = \"sleep 1000\"\nstartsecs = 0\n");
    let pid = slot(&fleet.until_all_run(), "w").pid.expect("it runs");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it lives");
    let view = fleet.until("a new worker", |view| slot(view, "w").pid.is_some_and(|new| new != pid));
    assert_eq!(slot(&view, "w").history[0].exit, Exit::Signal(Signal::KILL));
    assert_eq!(slot(&view, "w").starts, 2);
}

#[test]
fn a_worker_that_fails_at_once_is_given_up_after_four_attempts_with_its_reason() {
    let fleet =
        Fleet::start("[program.w]\ncommand = \"sh -c 'exit 7'\"\nstartretries = 3\nbackoff = { initial = \"10ms\", max = \"20ms\" }\n");
    let view = fleet.until("FATAL", |view| slot(view, "w").state == State::Fatal);
    let slot = slot(&view, "w");
    assert_eq!(slot.starts, 4);
    assert!(slot.reason.contains("exited 7"), "{}", slot.reason);
    let told = fleet.ctl(&["status"]);
    assert_eq!(told.code, 3);
    assert!(told.out.contains("FATAL") && told.out.contains("exited 7"), "{}", told.out);
}

#[test]
fn the_failed_step_of_a_start_is_named() {
    let fleet = Fleet::start(
        "[program.nofile]\ncommand = \"/nonexistent/worker\"\n[program.nodir]\ncommand = \"true\"\ndirectory = \"/nonexistent\"\n[program.noexec]\ncommand = \"/etc/passwd\"\n",
    );
    let view = fleet.until("three reasons", |view| view.slots().all(|slot| matches!(slot.state, State::Backoff | State::Fatal)));
    for (label, word) in [("nofile", "/nonexistent/worker"), ("nodir", "/nonexistent"), ("noexec", "executable")] {
        let reason = &slot(&view, label).reason;
        assert!(reason.contains(word), "{label}: {reason}");
    }
}

#[test]
fn a_run_until_empty_worker_pauses_between_runs() {
    let fleet = Fleet::start("[program.w]\ncommand = \"true\"\nautorestart = true\nrestart_pause = \"50ms\"\n");
    let view = fleet.until("three runs", |view| slot(view, "w").starts >= 3);
    assert_ne!(slot(&view, "w").state, State::Fatal);
    assert_eq!(slot(&view, "w").tries, 0);
}

#[test]
fn ready_by_notify_makes_it_running_and_silence_does_not() {
    let fleet = Fleet::prepare("");
    let ctl = env!("CARGO_BIN_EXE_gangerctl");
    fleet.script("ready.sh", &format!("#!/bin/sh\n{ctl} notify READY=1 X_JOBS=5 STATUS=fine\nexec sleep 1000\n"));
    fleet.define("[program.r]\ncommand = \"@DIR@/ready.sh\"\nready = \"notify\"\nready_timeout = \"20s\"\n[program.s]\ncommand = \"sleep 1000\"\nready = \"notify\"\nready_timeout = \"100ms\"\nstartretries = 0\n");
    let mut fleet = fleet;
    fleet.launch();
    let view =
        fleet.until("one ready, one given up", |view| slot(view, "r").state == State::Running && slot(view, "s").state == State::Fatal);
    assert_eq!(slot(&view, "r").jobs, 5);
    assert_eq!(slot(&view, "r").status.as_deref(), Some("fine"));
}

#[test]
fn a_worker_that_gives_no_sign_of_life_is_replaced() {
    let fleet = Fleet::prepare("");
    let ctl = env!("CARGO_BIN_EXE_gangerctl");
    fleet.script("hung.sh", &format!("#!/bin/sh\n{ctl} notify READY=1 WATCHDOG=1\nexec sleep 1000\n"));
    fleet.define("[program.w]\ncommand = \"@DIR@/hung.sh\"\nwatchdog = \"500ms\"\n");
    let mut fleet = fleet;
    fleet.launch();
    let view = fleet.until("a second life", |view| slot(view, "w").starts >= 2);
    assert_eq!(slot(&view, "w").history[0].why, ganger::model::notice::Why::Watchdog);
}
