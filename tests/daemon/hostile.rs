//! Workers and machines at their worst. Each test holds what the operator sees, too.

use crate::harness::{Fleet, http, is_alive, processes_running, slot, until};
use ganger::model::exit::Exit;
use ganger::model::signal::Signal;
use ganger::model::state::State;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_worker_that_ignores_term_is_killed_and_the_words_say_why() {
    let fleet = Fleet::start(
        "[program.deaf]\ncommand = \"\"\"sh -c 'trap \"\" TERM; echo deaf; while :; do sleep 0.05; done'\"\"\"\nstopwaitsecs = 1\nstartsecs = 0\n",
    );
    until("it is deaf", || fleet.read("log/deaf.stdout.log").contains("deaf").then_some(()), || fleet.describe());
    fleet.ctl_ok(&["stop", "deaf"]);
    // The sleep that it was in the midst of may have to be ended first.
    let view = fleet.until("it is stopped", |view| slot(view, "deaf").state == State::Stopped);
    assert_eq!(slot(&view, "deaf").exit, Some(Exit::Signal(Signal::KILL)));
    let events = fleet.ctl_ok(&["events"]);
    assert!(events.contains("did not react to SIGTERM"), "{events}");
}

#[test]
fn a_worker_that_double_forks_and_setsids_does_not_escape() {
    let mut fleet = Fleet::prepare("[program.fork]\ncommand = \"@DIR@/escape.sh\"\nstartsecs = 0\n");
    // The grandchild has a session of its own and a parent that is gone.
    fleet.script("escape.sh", "#!/bin/sh\nsh -c 'setsid sleep 100077 & exit 0'\nexec sleep 100078\n");
    fleet.launch();
    fleet.until_all_run();
    until("the grandchild", || (!processes_running("sleep 100077").is_empty()).then_some(()), || fleet.describe());
    fleet.ctl_ok(&["stop", "fork"]);
    assert_eq!(processes_running("sleep 100077"), Vec::<i32>::new(), "{}", fleet.describe());
    let events = fleet.ctl_ok(&["events"]);
    assert!(events.contains("outlived"), "{events}");

    // And a wrapper that dies leaves no second worker in the slot.
    fleet.ctl_ok(&["start", "fork"]);
    let view = fleet.until_all_run();
    until("the grandchild again", || (processes_running("sleep 100077").len() == 1).then_some(()), || fleet.describe());
    let old = processes_running("sleep 100077")[0];
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(slot(&view, "fork").pid.expect("it runs")), nix::sys::signal::Signal::SIGKILL)
        .expect("it lives");
    fleet.until("the next life", |view| slot(view, "fork").starts == 3);
    assert!(!is_alive(old));
}

#[test]
fn what_may_stay_outlives_its_worker_and_the_daemon() {
    let mut fleet = Fleet::prepare("[program.fork]\ncommand = \"@DIR@/escape.sh\"\nstartsecs = 0\nleftovers = \"leave\"\n");
    fleet.script("escape.sh", "#!/bin/sh\nsh -c 'setsid sleep 100079 & exit 0'\nexec sleep 100078\n");
    fleet.launch();
    fleet.until_all_run();
    until("the grandchild", || (!processes_running("sleep 100079").is_empty()).then_some(()), || fleet.describe());
    fleet.ctl_ok(&["stop", "fork"]);
    assert_eq!(fleet.stop(), 0);
    let stayed = processes_running("sleep 100079");
    for pid in &stayed {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL).expect("it lives");
    }
    assert_eq!(stayed.len(), 1);
}

#[test]
fn a_storm_of_crashes_leaves_the_daemon_answering() {
    let mut programs =
        String::from("[defaults]\nuser = \"@ME@\"\nstartretries = \"forever\"\nbackoff = { initial = \"1ms\", max = \"5ms\" }\n");
    for n in 0..10 {
        programs += &format!("[program.p{n}]\ncommand = \"false\"\nnumprocs = 8\n");
    }
    let me = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("the user database").expect("we are somebody").name;
    let mut fleet = Fleet::start(&programs.replace("@ME@", &me));
    fleet.until("a storm", |view| view.slots().map(|slot| slot.starts).sum::<u64>() > 2000);
    let mut worst = Duration::ZERO;
    for _ in 0..100 {
        let start = Instant::now();
        fleet.view();
        worst = worst.max(start.elapsed());
    }
    // Far above what a healthy daemon needs on a busy machine, far below what a starved one takes.
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_gigabyte_without_a_newline_harms_nobody() {
    let fleet = Fleet::start(
        "[program.flood]\ncommand = \"sh -c 'head -c 1G /dev/zero; echo; echo end of flood; exec sleep 1000'\"\nstartsecs = 0\nstdout_logfile = \"@DIR@/flood.log\"\nstdout_logfile_maxbytes = \"1MB\"\nstdout_logfile_backups = 1\n[program.quiet]\ncommand = \"sh -c 'while :; do echo tick; sleep 0.05; done'\"\nstartsecs = 0\n",
    );
    until("the quiet one is heard", || fleet.read("log/quiet.stdout.log").contains("tick").then_some(()), || fleet.describe());
    until(
        "the end of the flood",
        || fleet.read("flood.log").ends_with("end of flood\n").then_some(()),
        || format!("{:?}", fleet.ctl(&["status"])),
    );
    let status = std::fs::read_to_string(format!("/proc/{}/status", fleet.pid())).expect("it lives");
    let peak: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|text| text.trim().trim_end_matches(" kB").parse().ok())
        .expect("a figure");
    assert!(peak < 100 * 1024, "{peak} kB at its peak");
    assert!(fleet.ctl_ok(&["tail", "flood"]).ends_with("end of flood\n"));
}

#[test]
fn too_few_descriptors_are_a_reason_and_no_crash() {
    let mut fleet = Fleet::prepare(
        "[program.w]\ncommand = \"sleep 1000\"\nnumprocs = 40\nstartsecs = 0\nstartretries = \"forever\"\nbackoff = { initial = \"50ms\", max = \"50ms\" }\n",
    );
    let mut command = Command::new("sh");
    command.arg("-c").arg("ulimit -n 100; exec \"$0\" -c \"$1\"").arg(env!("CARGO_BIN_EXE_gangerd")).arg(fleet.config());
    fleet.launch_as(command);
    let view = fleet.until("some run, some say why not", |view| {
        view.slots().any(|slot| slot.state == State::Running)
            && view.slots().any(|slot| slot.state == State::Backoff && slot.reason.to_lowercase().contains("open files"))
    });
    assert!(view.slots().count() == 40);
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_full_process_table_is_a_reason_and_passes() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root; tests/run says so");
    // Root is above the limit, so the daemon runs as a user of his own with few processes.
    let mut fleet = Fleet::prepare(
        "[defaults]\nstartsecs = 0\nstartretries = \"forever\"\nbackoff = { initial = \"50ms\", max = \"50ms\" }\n[program.w]\ncommand = \"sleep 1000\"\nnumprocs = 30\n",
    );
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&fleet.dir, std::fs::Permissions::from_mode(0o777)).expect("ours");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=34567", "--regid=34567", "--clear-groups", "bash", "-c", "ulimit -u 20; exec \"$0\" -c \"$1\""]);
    command.arg(env!("CARGO_BIN_EXE_gangerd")).arg(fleet.config()).env("HOME", &fleet.dir).env_remove("XDG_RUNTIME_DIR");
    fleet.launch_as(command);
    let view = fleet.until("some run, some say why not", |view| {
        view.slots().any(|slot| slot.state == State::Running)
            && view.slots().any(|slot| slot.state == State::Backoff && slot.reason.contains("fork"))
    });
    // As soon as there is room they start.
    let running: Vec<String> = view.slots().filter(|slot| slot.state == State::Running).map(|slot| slot.label()).collect();
    fleet.ctl_ok(&["stop", &running[0], &running[1]]);
    fleet.until("others take the room", |view| {
        view.slots().filter(|slot| slot.state == State::Running).any(|slot| !running.contains(&slot.label()))
    });
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_log_directory_that_vanishes_is_made_again() {
    let fleet = Fleet::start(
        "[program.w]\ncommand = \"sh -c 'while :; do echo line; sleep 0.02; done'\"\nstartsecs = 0\nstdout_logfile = \"@DIR@/logs/w.log\"\n",
    );
    until("a line", || fleet.read("logs/w.log").contains("line").then_some(()), || fleet.describe());
    std::fs::remove_dir_all(fleet.dir.join("logs")).expect("it is there");
    until("a line in the new file", || fleet.read("logs/w.log").contains("line").then_some(()), || fleet.describe());
    assert_eq!(slot(&fleet.view(), "w").starts, 1);
}

#[test]
fn a_full_disk_is_told_counted_and_healed() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root; tests/run says so");
    let mut fleet = Fleet::prepare(
        "[program.w]\ncommand = \"sh -c 'n=0; while :; do n=$((n+1)); echo line $n of a worker that talks much; sleep 0.001; done'\"\nstartsecs = 0\nstdout_logfile = \"@DIR@/small/w.log\"\nstdout_logfile_maxbytes = 0\n",
    );
    let small = fleet.dir.join("small");
    std::fs::create_dir(&small).expect("a directory");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&small).status().expect("mount runs");
    assert!(mounted.success());
    fleet.launch();
    let view = fleet.until("the trouble is shown", |view| view.slots().any(|slot| slot.log_trouble.is_some()));
    let trouble = slot(&view, "w").log_trouble.clone().expect("just seen");
    assert!(trouble.to_lowercase().contains("no space left"), "{trouble}");
    assert_eq!(slot(&view, "w").state, State::Running);
    assert!(fleet.ctl_ok(&["events"]).contains("cannot write its log"));

    std::fs::write(small.join("w.log"), "").expect("room is made");
    fleet.until("it is well again", |view| slot(view, "w").log_trouble.is_none());
    until("the gap is marked in the file", || fleet.read("small/w.log").contains("were lost here").then_some(()), || fleet.describe());
    assert_eq!(fleet.stop(), 0);
    assert!(Command::new("umount").arg(&small).status().expect("umount runs").success());
}

#[test]
fn bad_requests_are_refused_in_words() {
    let fleet = Fleet::start("[program.w]\ncommand = \"sleep 1000\"\nstartsecs = 0\n");
    fleet.until_all_run();
    for (method, path, body, expected) in [
        ("POST", "/api/v1/start", "{", 400),
        ("POST", "/api/v1/start", "{\"targets\":5}", 400),
        ("POST", "/api/v1/scale", "{\"program\":\"x\",\"to\":{\"exactly\":3}}", 404),
        ("GET", "/api/v1/start", "", 405),
        ("GET", "/api/v1/nothing", "", 404),
    ] {
        let (code, text) = http(&fleet.socket(), method, path, body);
        assert_eq!(code, expected, "{method} {path} {body}: {text}");
        assert!(text.len() > 10, "words: {text}");
    }
}
