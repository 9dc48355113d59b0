//! One of a kind: locks that the worker itself holds.

use crate::harness::{Fleet, slot};
use ganger::model::state::State;

#[test]
fn of_two_slots_with_one_lock_one_runs_and_the_other_waits_for_it_by_pid() {
    let fleet = Fleet::start(
        "[program.one]\ncommand = \"sleep 1000\"\nnumprocs = 2\nstartsecs = 0\nsingleton = { lock = \"file:@DIR@/the.lock\" }\n",
    );
    let view = fleet.until("one runs, one waits", |view| {
        view.slots().filter(|s| s.state == State::Running).count() == 1 && view.slots().filter(|s| s.state == State::Waiting).count() == 1
    });
    let holder = view.slots().find(|s| s.state == State::Running).expect("one runs");
    let waiter = view.slots().find(|s| s.state == State::Waiting).expect("one waits");
    assert!(waiter.reason.contains(&holder.pid.expect("it runs").to_string()), "the holder is named: {}", waiter.reason);

    fleet.ctl_ok(&["stop", &holder.label()]);
    fleet.until("the other takes over", |view| slot(view, &waiter.label()).state == State::Running);
}

/// A port that nobody has now, below the range that outgoing connections take theirs from.
fn free_port() -> u16 {
    (20_000..30_000)
        .skip(std::process::id() as usize % 5_000)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

#[test]
fn the_lock_of_solo_keeps_a_singleton_waiting() {
    let port = free_port();
    let mut fleet =
        Fleet::prepare(&format!("[program.one]\ncommand = \"sleep 1000\"\nstartsecs = 0\nsingleton = {{ lock = \"port:{port}\" }}\n"));
    let solo = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gangerctl"));
        command.args(["solo", &format!("-port={port}")]);
        command
    };
    let mut holder = Guard(solo().args(["sleep", "1000"]).spawn().expect("solo runs"));
    crate::harness::until("solo holds the port", || std::net::TcpListener::bind(("127.0.0.1", port)).is_err().then_some(()), String::new);
    fleet.launch();
    let view = fleet.until("it waits", |view| slot(view, "one").state == State::Waiting);
    assert!(slot(&view, "one").reason.contains(&format!("port:{port} is held by pid {}", holder.0.id())), "{}", slot(&view, "one").reason);
    holder.end();
    fleet.until("it starts when the port is free", |view| slot(view, "one").state == State::Running);

    // And the other way round: cron's solo finds the daemon's worker.
    let late = solo().arg("true").output().expect("solo runs");
    assert_eq!(late.status.code(), Some(98));
    assert_eq!(String::from_utf8_lossy(&late.stderr), format!("solo({port}): Address already in use\n"));
}

/// Ends with the test, however that ends.
struct Guard(std::process::Child);

impl Guard {
    fn end(&mut self) {
        // It may have been ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
    }
}
