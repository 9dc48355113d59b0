//! The end, and what an earlier daemon left behind.

use crate::harness::{Fleet, is_alive, processes_running, processes_with, slot, until};
use ganger::model::state::State;

#[test]
fn a_shutdown_ends_every_worker_and_leaves_nothing_behind() {
    let mut fleet = Fleet::start("[program.w]\ncommand = \"sleep 1000\"\nnumprocs = 5\nstartsecs = 0\n");
    let pids: Vec<i32> = fleet.until_all_run().slots().filter_map(|slot| slot.pid).collect();
    assert_eq!(fleet.stop(), 0);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    assert!(!fleet.socket().exists());
}

#[test]
fn shutdown_by_gangerctl_works_and_later_requests_find_nobody() {
    let mut fleet = Fleet::start("[program.w]\ncommand = \"sleep 1000\"\nstartsecs = 0\n");
    fleet.until_all_run();
    fleet.ctl_ok(&["shutdown"]);
    assert_eq!(fleet.wait_for_end(), 0);
    let told = fleet.ctl(&["status"]);
    assert_eq!(told.code, 4, "{told:?}");
    assert!((told.out + &told.err).contains("ganger.sock"));
}

#[test]
fn priorities_stop_in_reverse() {
    let mut fleet = Fleet::prepare("");
    fleet.script(
        "w.sh",
        &format!(
            "#!/bin/sh\ntrap 'echo $GANGER_PROGRAM >>{}/ends; exit 0' TERM\necho up\nwhile :; do sleep 0.02; done\n",
            fleet.dir.display()
        ),
    );
    fleet.define("[program.first]\ncommand = \"@DIR@/w.sh\"\npriority = 1\n[program.second]\ncommand = \"@DIR@/w.sh\"\npriority = 2\n[program.third]\ncommand = \"@DIR@/w.sh\"\npriority = 3\n");
    fleet.launch();
    until(
        "all trap",
        || ["first", "second", "third"].iter().all(|name| fleet.read(&format!("log/{name}.stdout.log")).contains("up")).then_some(()),
        || fleet.describe(),
    );
    assert_eq!(fleet.stop(), 0);
    assert_eq!(fleet.read("ends"), "third\nsecond\nfirst\n");
}

/// Every classic peer runs six workers for three after this.
#[test]
fn after_kill_9_of_the_daemon_a_new_one_never_doubles_the_fleet() {
    let mut fleet = Fleet::start("[program.w]\ncommand = \"sleep 100042\"\nnumprocs = 3\nstartsecs = 0\n");
    fleet.until_all_run();
    let mut daemon = fleet.daemon.take().expect("it was started");
    daemon.kill().expect("it lives");
    daemon.wait().expect("it is our child");
    fleet.launch();
    fleet.until("three run", |view| view.slots().filter(|slot| slot.state == State::Running).count() == 3);
    assert_eq!(processes_running("sleep 100042").len(), 3);
}

#[test]
fn who_is_left_behind_may_finish_with_its_helpers_and_the_next_daemon_waits_no_longer_than_the_definitions_say() {
    let mut fleet = Fleet::prepare("");
    // Its job is in the hands of a helper; the deaf one would never go.
    let busy = "#!/bin/sh\ntrap 'asked=1' TERM\necho up\nsh -c 'sleep 1.5; echo by the helper >>done'\n\
                while [ -z \"$asked\" ]; do sleep 0.05; done\necho by the worker >>done\n";
    fleet.script("busy.sh", busy);
    fleet.script("deaf.sh", "#!/bin/sh\ntrap '' TERM\necho up\nwhile :; do sleep 0.05; done\n");
    fleet.define(
        "[program.busy]\ncommand = \"@DIR@/busy.sh\"\ndirectory = \"@DIR@\"\nstopwaitsecs = 4\n[program.deaf]\ncommand = \"@DIR@/deaf.sh\"\nstopwaitsecs = 1\n",
    );
    fleet.launch();
    let log = |name: &str| fleet.read(&format!("log/{name}.stdout.log"));
    until("both are up", || (log("busy") == "up\n" && log("deaf") == "up\n").then_some(()), || fleet.describe());
    let mut daemon = fleet.daemon.take().expect("it was started");
    daemon.kill().expect("it lives");
    daemon.wait().expect("it is our child");
    let start = std::time::Instant::now();
    fleet.launch();
    assert!(start.elapsed() < std::time::Duration::from_secs(9), "four seconds are what the slowest may take: {:?}", start.elapsed());
    until(
        "the reason for the wait is told",
        || fleet.journal().contains("2 worker(s) of an earlier gangerd that died are still running").then_some(()),
        || fleet.journal(),
    );
    assert_eq!(fleet.read("done"), "by the helper\nby the worker\n");
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused_by_name() {
    let fleet = Fleet::start("[program.w]\ncommand = \"sleep 1000\"\nstartsecs = 0\n");
    let before = slot(&fleet.until_all_run(), "w").pid;
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_gangerd")).arg("-c").arg(fleet.config()).output().expect("gangerd runs");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains(&fleet.pid().to_string()), "{}", String::from_utf8_lossy(&second.stderr));
    assert_eq!(slot(&fleet.view(), "w").pid, before);
}

#[test]
fn the_demo_comes_alive_and_leaves_nothing_behind() {
    let mut demo = std::process::Command::new(env!("CARGO_BIN_EXE_gangerd"))
        .arg("--demo")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("gangerd runs");
    let dir = std::env::temp_dir().join(format!("ganger-demo-{}", demo.id()));
    let socket = dir.join("run/ganger.sock");
    let view = || {
        if !socket.exists() {
            return None;
        }
        let (_, body) = crate::harness::http(&socket, "GET", "/api/v1/status", "");
        serde_json::from_str::<ganger::model::view::View>(&body).ok()
    };
    until("its socket", || std::os::unix::net::UnixStream::connect(&socket).ok(), String::new);
    until(
        "jobs are done, a mailer was recycled, one waits for the lock, one crashes",
        || {
            let view = view()?;
            let recycled =
                view.slots().any(|s| s.program.as_str() == "mailer" && s.history.iter().any(|end| end.text.starts_with("recycled")));
            let waits = view.slots().any(|s| s.program.as_str() == "nightly" && s.state == State::Waiting);
            let crashes = view.slots().any(|s| s.program.as_str() == "crasher" && s.state == State::Backoff);
            (recycled && waits && crashes).then_some(())
        },
        || format!("{:#?}", view().map(|view| view.programs)),
    );
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(demo.id() as i32), nix::sys::signal::Signal::SIGINT).expect("it lives");
    assert!(demo.wait().expect("it is ours").success());
    assert!(!dir.exists());
    assert!(processes_with(&dir.to_string_lossy()).is_empty());
}
