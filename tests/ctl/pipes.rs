//! The binary itself, at the end of a pipe.

use crate::fake::{Fake, Script};
use crate::fleet::{mailers, view};
use ganger::model::state::State;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let fake = Fake::new(Script { view: view(vec![mailers(0, State::Stopped)]), log: Some(vec![b'x'; 4_000_000]), ..Script::default() });
    let mut child = Command::new(env!("CARGO_BIN_EXE_gangerctl"))
        .arg("-s")
        .arg(fake.socket())
        .args(["tail", "-4000000", "mailer:mailer_00"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(141));
}

#[test]
fn a_pipe_has_no_colours_and_the_exit_code_is_the_tools() {
    let fake = Fake::new(Script { view: view(vec![mailers(1, State::Stopped)]), ..Script::default() });
    let output = Command::new(env!("CARGO_BIN_EXE_gangerctl")).env("GANGER_SOCKET", fake.socket()).arg("status").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(!output.stdout.contains(&0x1b));
    assert_eq!(output.stdout.iter().filter(|b| **b == b'\n').count(), 4);
}

#[test]
fn the_status_of_a_thousand_workers_is_whole_and_cheap() {
    let slots = (0..1000).map(|i| {
        let mut slot = crate::fleet::zoo().programs[3].slots[0].as_ref().clone();
        (slot.process, slot.number) = (format!("mailer_{i:04}"), i);
        slot.history.extend(slot.history.clone());
        slot
    });
    let fake = Fake::new(Script { view: view(vec![crate::fleet::program("mailer", slots.collect())]), ..Script::default() });
    let before = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap();
    for _ in 0..20 {
        let output = Command::new(env!("CARGO_BIN_EXE_gangerctl")).arg("-s").arg(fake.socket()).arg("status").output().unwrap();
        assert_eq!(output.stdout.iter().filter(|b| **b == b'\n').count(), 1000);
    }
    let after = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap();
    let spent = |r: &nix::sys::resource::Usage| {
        let ms = |t: nix::sys::time::TimeVal| t.tv_sec() * 1000 + t.tv_usec() / 1000;
        ms(r.user_time()) + ms(r.system_time())
    };
    let each = (spent(&after) - spent(&before)) / 20;
    // Without optimisation it is some 20 ms (an optimised one is held to 5); more means that it no longer grows with the fleet alone.
    // Other tests' children are counted in, so the bound is wide.
    assert!(each < 150, "{each} ms");
}

#[test]
fn events_follow_what_happens_and_end_quietly_by_the_interrupt() {
    use crate::fleet::{notice, went};
    let a = "mailer:mailer_00";
    let fake = Fake::new(Script {
        view: view(vec![mailers(1, State::Stopped)]),
        history: vec![notice(97, a, ganger::model::notice::What::Due { reason: "memory".into() })],
        answer: Some(Ok(ganger::model::command::Reply::Outcomes(Vec::new()))),
        // The first is in the history already, so it is not told twice.
        then: vec![went(97, a, State::Running, State::Stopping, None, "old"), went(98, a, State::Stopping, State::Stopped, None, "gone")],
        ..Script::default()
    });
    // A shell that runs us in the background ignores SIGINT for us; at a terminal nobody does.
    let mut child = Command::new("env")
        .args(["--default-signal=INT", env!("CARGO_BIN_EXE_gangerctl")])
        .arg("-s")
        .arg(fake.socket())
        .args(["events", "-f", "mailer"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // It has opened the stream when it shows the past.
    assert!(lines.next().unwrap().unwrap().ends_with("due to be replaced: memory"));
    crate::ctl(&fake.socket(), &["recycle", "--no-wait", a], false);
    assert!(lines.next().unwrap().unwrap().ends_with("mailer:mailer_00: STOPPED: gone"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    // A shell shows that as 130.
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
