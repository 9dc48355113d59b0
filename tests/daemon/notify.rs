//! The service manager above us and the workers below us: both speak sd_notify.

use crate::harness::{Fleet, LIMIT, slot, until};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Instant;

/// A service manager's end of NOTIFY_SOCKET.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn over(fleet: &mut Fleet) -> Manager {
        let path = fleet.dir.join("manager.sock");
        let socket = UnixDatagram::bind(&path).expect("a socket can be bound");
        socket.set_read_timeout(Some(LIMIT)).expect("a socket takes a time-out");
        let mut command = Command::new("env");
        command.arg(format!("NOTIFY_SOCKET={}", path.display())).arg("WATCHDOG_USEC=400000");
        command.arg(env!("CARGO_BIN_EXE_gangerd")).arg("-c").arg(fleet.config());
        fleet.launch_as(command);
        Manager { socket, heard: Vec::new() }
    }

    /// Listens until a message has `word` in it, and gives that message.
    fn hears(&mut self, word: &str) -> String {
        let mut buffer = [0; 4096];
        let start = Instant::now();
        loop {
            // Signs of life alone are no answer.
            assert!(start.elapsed() < LIMIT, "no {word}; heard {:?}", self.heard);
            let len = self.socket.recv(&mut buffer).unwrap_or_else(|e| panic!("no {word}: {e}; heard {:?}", self.heard));
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            self.heard.push(text.clone());
            if text.contains(word) {
                return text;
            }
        }
    }
}

#[test]
fn the_service_manager_is_told_what_it_needs() {
    let mut fleet = Fleet::prepare("[program.w]\ncommand = \"sleep 1000\"\nnumprocs = 2\nstartsecs = 0\n");
    let mut manager = Manager::over(&mut fleet);
    manager.hears("READY=1");
    assert!(manager.heard.concat().contains("STATUS=2 of 2 workers running in 1 programs"), "{:?}", manager.heard);
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");

    fleet.signal(nix::sys::signal::Signal::SIGHUP);
    assert!(manager.hears("RELOADING=1").contains("MONOTONIC_USEC="));
    manager.hears("READY=1");

    // A file with errors is an answer, too: the manager must not wait for ever.
    std::fs::write(fleet.config(), "bad = [\n").expect("it can be written");
    fleet.signal(nix::sys::signal::Signal::SIGHUP);
    manager.hears("RELOADING=1");
    manager.hears("READY=1");
    assert!(fleet.ctl(&["status"]).err.contains("the last reload was refused"));

    fleet.signal(nix::sys::signal::Signal::SIGTERM);
    manager.hears("STOPPING=1");
    manager.hears("STATUS=shutting down");
    assert_eq!(fleet.wait_for_end(), 0);
}

#[test]
fn a_hundred_thousand_datagrams_of_one_worker_disturb_nobody() {
    let mut fleet = Fleet::prepare("");
    let spam = r#"
use Socket;
socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die $!;
connect($s, sockaddr_un($ENV{NOTIFY_SOCKET})) or die $!;
send($s, "X_JOBS=$_\nX_JOB=job-$_\nSTATUS=at $_", 0) for 1..100_000;
send($s, $_, 0) for "", "\0" x 5000, "X_JOBS=-1", "X_JOBS=99999999999999999999999", "=\n=", "\xff\xfe=\xff", "EXTEND_TIMEOUT_USEC=x";
send($s, "STATUS=done\nX_JOB=", 0);
sleep 1000;
"#;
    std::fs::write(fleet.dir.join("spam.pl"), spam).expect("a script can be written");
    fleet.define("[program.spam]\ncommand = \"perl @DIR@/spam.pl\"\n[program.calm]\ncommand = \"sleep 1000\"\nstartsecs = 0\n");
    fleet.launch();
    // Asked again and again while they come: every answer is there at once, or this would not get far.
    let view = fleet.until("all is counted", |view| slot(view, "spam").status.as_deref() == Some("done"));
    assert_eq!(slot(&view, "spam").jobs, 100_000);
    assert_eq!(slot(&view, "spam").job.as_deref(), Some(""));
    assert_eq!(slot(&view, "calm").starts, 1);
    fleet.ctl_ok(&["stop", "calm"]);
    until("the spammer still runs", || slot(&fleet.view(), "spam").pid, || fleet.describe());
}
