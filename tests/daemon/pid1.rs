//! gangerd as the first process of a container.

use crate::harness::{Fleet, until};
use std::process::Command;

/// True if we may make a PID namespace; else the reason is printed and there is nothing to test.
fn may_unshare() -> bool {
    let may = Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).output().is_ok_and(|out| out.status.success());
    if !may {
        eprintln!("skipped: this user may not make a PID namespace");
    }
    may
}

#[test]
fn as_pid_1_it_reaps_orphans_and_ends_on_term() {
    if !may_unshare() {
        return;
    }
    // The worker's child goes away with a new session and an empty environment, has a child of its own and leaves it.
    let mut fleet = Fleet::prepare(
        "[program.w]\ncommand = \"\"\"sh -c '(setsid env -i sh -c \"sleep 0.3 & exit 0\" &); sleep 1000'\"\"\"\nstartsecs = 0\n",
    );
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).arg(env!("CARGO_BIN_EXE_gangerd")).arg("-c").arg(fleet.config());
    fleet.launch_as(command);
    fleet.until_all_run();
    assert_eq!(fleet.ctl_ok(&["pid"]), "1\n");

    // Seen from outside, gangerd is the child of unshare.
    let children = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let ganger = children(&fleet.pid().to_string()).trim().to_owned();
    let all_children = || {
        let tasks = std::fs::read_dir(format!("/proc/{ganger}/task")).expect("it lives").flatten();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
            .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    until("only the worker is left", || (all_children().len() == 1).then_some(()), || format!("{:?}", all_children()));

    let pid: i32 = ganger.parse().expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).expect("it lives");
    assert_eq!(fleet.wait_for_end(), 0);
    assert!(fleet.journal().contains("gangerd has ended"));
}

#[test]
fn it_starts_with_closed_standard_streams() {
    let mut fleet = Fleet::prepare("[program.w]\ncommand = \"sh -c 'echo to stdout; echo to stderr >&2; sleep 1000'\"\nstartsecs = 0\n");
    let mut command = Command::new("sh");
    command.arg("-c").arg("exec \"$0\" -c \"$1\" <&- >&- 2>&-").arg(env!("CARGO_BIN_EXE_gangerd")).arg(fleet.config());
    fleet.launch_as(command);
    fleet.until_all_run();
    until(
        "both streams are there",
        || (fleet.read("log/w.stdout.log") == "to stdout\n" && fleet.read("log/w.stderr.log") == "to stderr\n").then_some(()),
        || fleet.describe(),
    );
    assert_eq!(fleet.stop(), 0);
}
