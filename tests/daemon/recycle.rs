//! Replacement of workers that have had enough: soft, one at a time, never a failure.

use crate::harness::{Fleet, slot, until};
use ganger::model::notice::Why;
use ganger::model::state::State;

/// A worker that does a job every 10 ms, tells of it, and heeds TERM between jobs.
fn busy_worker(fleet: &Fleet) {
    let ctl = env!("CARGO_BIN_EXE_gangerctl");
    fleet.script(
        "busy.sh",
        &format!("#!/bin/sh\ntrap 'exit 0' TERM\nn=0\nwhile :; do n=$((n+1)); sleep 0.01; echo \"$GANGER_RUN $n\" >>{}/done; {ctl} notify X_JOBS=$n X_JOB=; done\n", fleet.dir.display()),
    );
}

#[test]
fn a_worker_is_replaced_after_its_jobs_and_that_is_no_failure() {
    let mut fleet =
        Fleet::prepare("[program.w]\ncommand = \"@DIR@/busy.sh\"\nnumprocs = 2\nstartsecs = 0\nrecycle = { max_jobs = \"5-9\" }\n");
    busy_worker(&fleet);
    fleet.launch();
    let view = fleet.until("three lives each", |view| view.slots().count() == 2 && view.slots().all(|slot| slot.starts >= 3));
    for slot in view.slots() {
        assert_eq!(slot.tries, 0);
        let end = &slot.history[0];
        assert_eq!(end.why, Why::Jobs);
        assert!(end.text.starts_with("recycled: jobs "), "{}", end.text);
    }
}

#[test]
fn a_worker_is_replaced_when_it_has_grown_too_large() {
    let fleet = Fleet::start(
        "[program.w]\ncommand = \"\"\"perl -e '$SIG{TERM}=sub{exit 0}; while(1){$x.=\"y\"x500000; select(undef,undef,undef,0.01)}'\"\"\"\nstartsecs = 0\nrecycle = { max_memory = \"40MB\", sample_interval = \"100ms\", memory_samples = \"1 of 1\" }\n",
    );
    let view = fleet.until("a second life", |view| slot(view, "w").starts >= 2);
    let end = &slot(&view, "w").history[0];
    assert_eq!(end.why, Why::Memory);
    assert!(end.text.contains("of 40.0 MB"), "{}", end.text);
}

#[test]
fn memory_of_children_counts() {
    let fleet = Fleet::start(
        "[program.w]\ncommand = \"\"\"sh -c 'perl -e \"\\\\$x=q(y)x60000000; sleep 1000\" & wait'\"\"\"\nstartsecs = 0\nstopasgroup = true\nrecycle = { max_memory = \"50MB\", sample_interval = \"100ms\", memory_samples = \"1 of 1\" }\n",
    );
    let view = fleet.until("a second life", |view| slot(view, "w").starts >= 2);
    assert_eq!(slot(&view, "w").history[0].why, Why::Memory);
}

#[test]
fn a_rolling_restart_replaces_all_and_waits_for_each() {
    let fleet = Fleet::start("[program.w]\ncommand = \"sleep 1000\"\nnumprocs = 4\nstartsecs = \"50ms\"\n");
    let before: Vec<_> = fleet.until_all_run().slots().map(|slot| slot.pid).collect();
    fleet.ctl_ok(&["restart", "--rolling", "w"]);
    let view = fleet.until_all_run();
    assert!(view.slots().all(|slot| !before.contains(&slot.pid) && slot.starts == 2));
    assert!(view.slots().all(|slot| slot.history[0].why == Why::Deploy));
}

#[test]
fn a_rolling_restart_stops_at_the_first_failure_and_says_so() {
    let fleet = Fleet::start(
        "[program.w]\ncommand = \"sh -c '[ -e @DIR@/broken ] && exit 3; exec sleep 1000'\"\nnumprocs = 4\nstartsecs = \"100ms\"\nstartretries = 0\n",
    );
    fleet.until_all_run();
    std::fs::write(fleet.dir.join("broken"), "").expect("a file can be made");
    let told = fleet.ctl(&["restart", "--rolling", "w"]);
    assert_ne!(told.code, 0, "{told:?}");
    let view = fleet.view();
    assert_eq!(view.slots().filter(|slot| slot.state == State::Running).count(), 3, "the rest is left alone");
    assert!(view.programs[0].rolling.as_ref().is_some_and(|rolling| rolling.halted.is_some()));
}

#[test]
fn jobs_of_an_unmodified_worker_are_counted_by_its_lines() {
    let fleet = Fleet::start(
        "[program.w]\ncommand = \"sh -c 'for n in 1 2 3; do echo \\\"  2026-01-01 10:00:0$n App.Mail ..... RUNNING\\\"; echo \\\"  2026-01-01 10:00:0$n App.Mail ..... 5.12ms DONE\\\"; done; echo \\\"  2026-01-01 10:00:09 App.Mail ..... 1s FAIL\\\"; exec sleep 1000'\"\nstartsecs = 0\njobs = { count = \"laravel\" }\n",
    );
    let view = fleet.until("four jobs are counted", |view| slot(view, "w").jobs + slot(view, "w").errors >= 4);
    assert_eq!(slot(&view, "w").errors, 1);
}

#[test]
fn a_job_in_hand_is_finished_before_its_worker_is_recycled() {
    let ctl = env!("CARGO_BIN_EXE_gangerctl");
    let mut fleet = Fleet::prepare(
        "[program.w]\ncommand = \"@DIR@/slow.sh\"\nstartsecs = 0\nrecycle = { max_lifetime = \"300ms\", lifetime_jitter = 0 }\n",
    );
    // It dies at once of TERM, so only patience saves the job.
    fleet.script(
        "slow.sh",
        &format!("#!/bin/sh\ncd {}\nwhile :; do {ctl} notify X_JOB=slow; echo began >>jobs; sleep 1; echo ended >>jobs; {ctl} notify X_JOB=; sleep 0.3; done\n", fleet.dir.display()),
    );
    fleet.launch();
    fleet.until("two lives have ended", |view| slot(view, "w").starts >= 3);
    fleet.ctl_ok(&["stop", "w"]);
    let jobs = until("the file", || Some(fleet.read("jobs")), String::new);
    let lines: Vec<&str> = jobs.lines().collect();
    // The last may have been cut by our own stop, which does not wait.
    for pair in lines.chunks(2).take(2) {
        assert_eq!(pair, ["began", "ended"], "{lines:?}");
    }
}
