//! What a worker is: user, groups, environment, limits, session and descriptors, as it sees them itself.

use crate::harness::{Fleet, slot, until};
use std::process::Command;

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can start workers as other users");
    }
    root
}

const TELL: &str = r#"#!/bin/sh
echo "id=$(id -u):$(id -g):$(id -G)"
echo "home=$HOME user=$USER logname=$LOGNAME"
echo "umask=$(umask) nice=$(nice) nofile=$(ulimit -Sn):$(ulimit -Hn) oom=$(cat /proc/self/oom_score_adj)"
sed -n 's/^NoNewPrivs:\t/no_new_privs=/p; s/^SigIgn:\t/ignored=/p; s/^SigBlk:\t/blocked=/p' /proc/self/status
echo "leads=$([ "$(cut -d' ' -f6 /proc/$$/stat)" = $$ ] && echo session || echo group)"
echo "fds=$(cd /proc/$$/fd && echo *)"
echo "who=$GANGER_PROGRAM,$GANGER_WORKER,$GANGER_SLOT,$SUPERVISOR_PROCESS_NAME,$SUPERVISOR_GROUP_NAME,$WATCHDOG_USEC,$MAINPID"
echo told
sleep 1000
"#;

fn told(programs: &str) -> String {
    let mut fleet = Fleet::prepare("");
    fleet.script("tell.sh", TELL);
    // Another user must be able to reach the script.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&fleet.dir, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    fleet.define(programs);
    fleet.launch();
    until("it has told", || fleet.read("log/w.stdout.log").contains("told\n").then_some(()), || fleet.describe());
    fleet.read("log/w.stdout.log")
}

#[test]
fn a_worker_is_what_its_definition_says() {
    if !is_root() {
        return;
    }
    let text = told(
        "[program.w]\ncommand = \"@DIR@/tell.sh\"\nuser = \"games\"\numask = \"027\"\nnice = 5\noom_score_adj = 500\nno_new_privs = true\n\
         session = true\nwatchdog = \"1h\"\nrlimits = { nofile = [300, 400] }\n",
    );
    let games = nix::unistd::User::from_name("games").expect("the user database").expect("Debian has it");
    for line in [
        format!("id={}:{}:{}", games.uid, games.gid, games.gid),
        format!("home={} user=games logname=games", games.dir.display()),
        "umask=0027 nice=5 nofile=300:400 oom=500".to_owned(),
        "no_new_privs=1".to_owned(),
        "ignored=0000000000000000".to_owned(),
        "blocked=0000000000000000".to_owned(),
        "leads=session".to_owned(),
        "fds=0 1 10 2 3".to_owned(),
        "who=w,w:w,0,w,w,3600000000,".to_owned(),
    ] {
        // The shell keeps its script open as 10, and lists the directory by 3.
        assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
    }
}

#[test]
fn a_worker_that_says_nothing_of_it_gets_a_group_and_no_privilege_is_taken() {
    let text = told("[program.w]\ncommand = \"@DIR@/tell.sh\"\n");
    for line in ["no_new_privs=0", "leads=group", "umask=0022", "fds=0 1 10 2 3"] {
        assert!(text.lines().any(|found| found.starts_with(line)), "no {line:?} in\n{text}");
    }
}

#[test]
fn as_root_a_program_without_a_user_is_refused_with_the_way_out() {
    if !is_root() {
        return;
    }
    let fleet = Fleet::prepare("[defaults]\n[program.w]\ncommand = \"sleep 1000\"\n");
    let out = Command::new(env!("CARGO_BIN_EXE_gangerd")).arg("-c").arg(fleet.config()).output().expect("gangerd runs");
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{text}");
    assert!(text.contains("program.w.user: found nothing") && text.contains("user = \"root\""), "{text}");
}

#[test]
fn an_ordinary_user_has_a_gangerd_of_his_own_which_others_may_not_steer() {
    if !is_root() {
        return;
    }
    let mut fleet = Fleet::prepare("[defaults]\n[program.w]\ncommand = \"sleep 1000\"\nstartsecs = 0\n");
    let as_user = |uid: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", uid, "--regid", uid, "--clear-groups"]);
        command
    };
    std::os::unix::fs::chown(&fleet.dir, Some(5), Some(5)).expect("we are root");
    let mut command = as_user("5");
    command.arg(env!("CARGO_BIN_EXE_gangerd")).arg("-c").arg(fleet.config());
    fleet.launch_as(command);
    let pid = slot(&fleet.until_all_run(), "w").pid.expect("it runs");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{pid}")).expect("it lives"));
    assert_eq!(owner, 5);

    let socket = fleet.socket();
    std::os::unix::fs::chown(&fleet.dir, Some(5), Some(5)).expect("we are root");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&fleet.dir, std::fs::Permissions::from_mode(0o755)).expect("we are root");
    let stranger =
        as_user("65534").arg(env!("CARGO_BIN_EXE_gangerctl")).arg("-s").arg(&socket).args(["stop", "w"]).output().expect("it runs");
    assert_eq!(stranger.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&stranger.stderr).contains("permission denied; its owner and group may use it, you are uid 65534"));
    assert_eq!(slot(&fleet.view(), "w").pid, Some(pid));
}
