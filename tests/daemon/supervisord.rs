//! The daemon with a `supervisord.conf`: called by Supervisor's name, and by its own.

use crate::harness::{Fleet, http, is_alive, processes_with, slot, until};
use ganger::model::state::State;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A fleet whose definitions are Supervisor's.
fn prepare(programs: &str) -> Fleet {
    let fleet = Fleet::prepare("");
    define(&fleet, programs);
    fleet
}

fn conf(fleet: &Fleet) -> PathBuf {
    fleet.dir.join("supervisord.conf")
}

fn define(fleet: &Fleet, programs: &str) {
    let dir = fleet.dir.display();
    let head = "[unix_http_server]\nfile = @DIR@/s.sock\n[supervisord]\nlogfile = @DIR@/s.log\npidfile = @DIR@/s.pid\n\
        childlogdir = @DIR@\nminfds = 64\nminprocs = 16\nruntime_dir = @DIR@/run\n\
        [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n";
    let text = format!("{head}{programs}").replace("@DIR@", &dir.to_string());
    fs::write(conf(fleet), text).expect("the definitions can be written");
}

/// Starts gangerd in the foreground with it.
fn start(programs: &str) -> Fleet {
    let mut fleet = prepare(programs);
    let mut command = Command::new(env!("CARGO_BIN_EXE_gangerd"));
    command.arg("-c").arg(conf(&fleet)).arg("--silent");
    fleet.launch_as(command);
    fleet
}

/// Runs it by the name of supervisord until the starter ends.
fn supervisord(fleet: &Fleet, args: &[&str]) -> Output {
    let name = fleet.dir.join("supervisord");
    if !name.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_gangerd"), &name).expect("a link can be made");
    }
    let mut command = Command::new(name);
    command.env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM").stdin(Stdio::null());
    command.arg("-c").arg(conf(fleet)).args(args).output().expect("supervisord can be started")
}

/// One call of XML-RPC with strings for parameters; the answer as it came.
fn call(fleet: &Fleet, method: &str, params: &[&str]) -> String {
    let params: String = params.iter().map(|text| format!("<param><value><string>{text}</string></value></param>")).collect();
    let body = format!("<?xml version='1.0'?><methodCall><methodName>{method}</methodName><params>{params}</params></methodCall>");
    let (code, answer) = http(&fleet.dir.join("s.sock"), "POST", "/RPC2", &body);
    assert_eq!(code, 200, "{answer}");
    answer
}

fn until_logged(fleet: &Fleet, text: &str) -> String {
    until(text, || Some(fleet.read("s.log")).filter(|log| log.contains(text)), || fleet.read("s.log"))
}

#[test]
fn supervisord_is_up_when_its_starter_ends_and_takes_its_files_with_it() {
    let fleet = prepare("[program:w]\ncommand = sleep 1000\n");
    fs::write(fleet.dir.join("old-stdout---supervisor-x7.log"), "").expect("a file can be written");
    let out = supervisord(&fleet, &[]);
    assert!(out.status.success(), "{out:?}");
    let pid: i32 = fleet.read("s.pid").trim().parse().expect("the pid file says a pid");
    assert!(is_alive(pid));
    assert!(UnixStream::connect(fleet.dir.join("s.sock")).is_ok(), "it answers before anybody had to wait");
    assert!(!fleet.dir.join("old-stdout---supervisor-x7.log").exists(), "AUTO logs of an earlier run are gone");
    let session = nix::unistd::getsid(Some(Pid::from_raw(pid))).expect("it lives");
    assert_ne!(session, nix::unistd::getsid(None).expect("we live"), "it has left our session");
    let log = until_logged(&fleet, "success: w entered RUNNING state, process has stayed up for > than 1 seconds (startsecs)");
    for line in [
        "CRIT Server 'unix_http_server' running without any HTTP authentication checking",
        &format!("INFO supervisord started with pid {pid}"),
        "INFO spawned: 'w' with pid ",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
    // The same again: the place is taken, in Supervisor's words and with its code.
    let second = supervisord(&fleet, &[]);
    assert_eq!(second.status.code(), Some(2), "{second:?}");
    assert!(!second.stderr.is_empty() && is_alive(pid), "{second:?}");

    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it lives");
    until("supervisord ends", || (!is_alive(pid)).then_some(()), || fleet.read("s.log"));
    let log = fleet.read("s.log");
    for line in ["WARN received SIGTERM indicating exit request", "INFO waiting for w to die", "stopped: w (terminated by SIGTERM)"] {
        assert!(log.contains(line), "{line}\n{log}");
    }
    assert!(!fleet.dir.join("s.pid").exists() && !fleet.dir.join("s.sock").exists());
}

#[test]
fn the_command_line_wins_and_wrong_flags_end_with_two() {
    let fleet = prepare("");
    let log = fleet.dir.join("other.log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_gangerd"));
    let args = ["-n", "-j", "/no/such/dir/s.pid", "-l", log.to_str().expect("a temporary path is text")];
    command.arg("-c").arg(conf(&fleet)).args(args);
    let mut fleet = fleet;
    fleet.launch_as(command);
    until("the other log", || Some(fleet.read("other.log")).filter(|log| log.contains("CRIT could not write pidfile")), || fleet.journal());
    assert!(fleet.journal().contains("CRIT could not write pidfile /no/such/dir/s.pid"), "in the foreground stdout has a copy");
    fleet.stop();
    for args in [&["--minfds", "many"][..], &["-u", "nobody-of-that-name"], &["-x"], &["-q", "/no/such/directory"]] {
        let out = supervisord(&fleet, args);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {out:?}");
    }
    let version = supervisord(&fleet, &["-v"]);
    assert_eq!(String::from_utf8_lossy(&version.stdout), "4.3.0\n");
}

#[test]
fn hup_begins_everything_anew_and_a_broken_file_stops_nothing() {
    let mut fleet = start("[program:w]\ncommand = sleep 1000\n");
    let view = fleet.until_all_run();
    let first = slot(&view, "w").pid;
    define(&fleet, "[program:w]\ncommand = sleep 1000\n[program:x]\n");
    fleet.signal(Signal::SIGHUP);
    until_logged(&fleet, "ERRO definitions not taken");
    assert_eq!(slot(&fleet.view(), "w").pid, first, "a broken file stops nothing");

    define(&fleet, "[program:w]\ncommand = sleep 1000\n[program:x]\ncommand = sleep 1001\n");
    let daemon = fleet.pid();
    fleet.signal(Signal::SIGHUP);
    let view = fleet.until("all is new", |view| {
        view.slots().count() == 2 && view.slots().all(|slot| slot.state == State::Running) && slot(view, "w").pid != first
    });
    assert_eq!(view.slots().count(), 2);
    assert!(is_alive(daemon), "in the same process");
    fleet.stop();
}

#[test]
fn groups_are_read_removed_and_added_one_by_one() {
    let mut fleet = start("[program:a]\ncommand = sleep 1000\n[program:b]\ncommand = sleep 1000\n");
    let view = fleet.until_all_run();
    let b = slot(&view, "b").pid;
    define(&fleet, "[program:b]\ncommand = sleep 1000\n[program:c]\ncommand = sleep 1002\n");
    let read = call(&fleet, "supervisor.reloadConfig", &[]);
    let strings: Vec<&str> = read.split("<string>").skip(1).filter_map(|rest| rest.split("</string>").next()).collect();
    assert_eq!(strings, ["c", "a"], "added and removed; nothing changed: {read}");
    assert!(call(&fleet, "supervisor.removeProcessGroup", &["a"]).contains("STILL_RUNNING"));
    assert!(call(&fleet, "supervisor.addProcessGroup", &["b"]).contains("ALREADY_ADDED"));
    assert!(call(&fleet, "supervisor.addProcessGroup", &["nobody"]).contains("BAD_NAME"));
    assert!(call(&fleet, "supervisor.stopProcess", &["a"]).contains("<boolean>1"));
    assert!(call(&fleet, "supervisor.removeProcessGroup", &["a"]).contains("<boolean>1"));
    assert!(call(&fleet, "supervisor.addProcessGroup", &["c"]).contains("<boolean>1"));
    let view = fleet.until_all_run();
    let names: Vec<String> = view.slots().map(|slot| slot.label()).collect();
    assert_eq!(names, ["b", "c"]);
    assert_eq!(slot(&view, "b").pid, b, "what did not change was not touched");
    fleet.stop();
}

#[test]
fn what_is_typed_arrives_at_the_workers_standard_input() {
    let mut fleet = start("[program:cat]\ncommand = cat\nstdout_logfile = @DIR@/cat.log\n");
    fleet.until_all_run();
    assert!(call(&fleet, "supervisor.sendProcessStdin", &["cat", "grüße\n"]).contains("<boolean>1"));
    until("cat has said it", || Some(fleet.read("cat.log")).filter(|log| log == "grüße\n"), || fleet.read("cat.log"));
    fleet.stop();
}

#[test]
fn fcgi_workers_share_one_socket_that_lives_as_long_as_they_do() {
    let programs = "[fcgi-program:f]\ncommand = sh -c \"readlink /proc/self/fd/0; exec sleep 1000\"\nsocket = unix://@DIR@/f.sock\n\
        socket_mode = 0660\nnumprocs = 2\nprocess_name = f_%(process_num)d\nstdout_logfile = @DIR@/f_%(process_num)d.log\nautostart = false\n";
    let mut fleet = start(programs);
    let path = fleet.dir.join("f.sock");
    assert!(!path.exists(), "nobody listens before the first worker starts");
    call(&fleet, "supervisor.startProcess", &["f:*"]);
    fleet.until_all_run();
    let socket = |name: &str| until(name, || Some(fleet.read(name)).filter(|log| log.starts_with("socket:")), || fleet.read(name));
    assert_eq!(socket("f_0.log"), socket("f_1.log"), "descriptor 0 is the same socket");
    assert_eq!(fs::metadata(&path).expect("the socket is there").permissions().mode() & 0o777, 0o660);
    assert!(UnixStream::connect(&path).is_ok());
    call(&fleet, "supervisor.stopProcess", &["f:f_0"]);
    assert!(path.exists(), "one worker still has it");
    call(&fleet, "supervisor.stopProcess", &["f:f_1"]);
    until("the socket is gone", || (!path.exists()).then_some(()), || fleet.describe());
    fleet.stop();
}

#[test]
fn an_event_listener_hears_of_the_others_and_is_stopped_last() {
    let fleet = prepare(
        "[eventlistener:ear]\ncommand = sh @DIR@/ear.sh\nevents = PROCESS_STATE,SUPERVISOR_STATE_CHANGE,REMOTE_COMMUNICATION\n\
        buffer_size = 100\n[program:w]\ncommand = sh -c \"trap 'sleep 1; exit' TERM; while :; do sleep 0.1; done\"\n",
    );
    let script = "while :; do echo READY; read line || exit; len=${line##*len:}; body=$(head -c $len); \
        echo \"$line|$body\" | tr '\\n' ' ' >> @DIR@/heard; echo >> @DIR@/heard; printf 'RESULT 2\\nOK'; done\n";
    fs::write(fleet.dir.join("ear.sh"), script.replace("@DIR@", &fleet.dir.display().to_string())).expect("a script can be written");
    let mut fleet = fleet;
    let mut command = Command::new(env!("CARGO_BIN_EXE_gangerd"));
    command.arg("-c").arg(conf(&fleet)).args(["-s", "-i", "me"]);
    fleet.launch_as(command);
    fleet.until_all_run();
    call(&fleet, "supervisor.sendRemoteCommEvent", &["deploy", "1.2"]);
    let heard = |what: &str| until(what, || Some(fleet.read("heard")).filter(|text| text.contains(what)), || fleet.read("heard"));
    let text = heard("type:deploy");
    assert!(
        text.lines().next().is_some_and(|line| line.contains("server:me") && line.contains("SUPERVISOR_STATE_CHANGE_RUNNING")),
        "{text}"
    );
    assert!(text.contains("processname:w groupname:w from_state:STARTING pid:"), "{text}");
    assert_eq!(fleet.stop(), 0);
    let text = fleet.read("heard");
    assert!(text.contains("eventname:SUPERVISOR_STATE_CHANGE_STOPPING"), "{text}");
    assert!(text.contains("processname:w groupname:w from_state:RUNNING pid:"), "it still hears how the others stop: {text}");
}

#[test]
fn a_definition_file_is_printed_in_our_own_dialect() {
    let me = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("the user database").expect("we are somebody").name;
    let fleet = prepare(&format!("[program:w]\ncommand = sleep 1000\nnumprocs = 2\nprocess_name = w_%(process_num)d\nuser = {me}\n"));
    let out = Command::new(env!("CARGO_BIN_EXE_gangerd")).arg("--import").arg(conf(&fleet)).output().expect("gangerd runs");
    assert!(out.status.success(), "{out:?}");
    let path = fleet.dir.join("fleet.toml");
    fs::File::create(&path).and_then(|mut file| file.write_all(&out.stdout)).expect("a file can be written");
    let check = Command::new(env!("CARGO_BIN_EXE_gangerd")).arg("--check").arg("-c").arg(&path).output().expect("gangerd runs");
    assert!(check.status.success(), "{check:?}\n{}", String::from_utf8_lossy(&out.stdout));
    assert!(String::from_utf8_lossy(&check.stdout).contains("1 programs, 2 workers"), "{check:?}");
    let mark = fleet.dir.display().to_string();
    assert!(processes_with(&mark).is_empty(), "nothing was started");
}
