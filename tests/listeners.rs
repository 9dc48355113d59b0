//! Event listeners over real pipes, and the events of a whole story beside what real supervisord sent of it.
//!
//! The test plays the listener: it holds the other ends of its pipes.

use ganger::listeners::Pools;
use ganger::listeners::payload::{Chunk, Stream};
use ganger::model::exit::Exit;
use ganger::model::name::{GroupName, ProgramName, RunId, SlotId};
use ganger::model::notice::{Notice, What, Why};
use ganger::model::spec::ListenerSpec;
use ganger::model::state::State;
use ganger::model::time::{Span, Stamp};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read, write};
use std::os::fd::{AsFd, OwnedFd};

/// A listener's life, seen from within it.
struct Life {
    stdin: OwnedFd,
    stdout: OwnedFd,
}

impl Life {
    fn say(&self, text: &str) {
        assert_eq!(write(&self.stdout, text.as_bytes()).unwrap(), text.len());
    }

    fn has_event(&self, wait_ms: u16) -> bool {
        let mut fds = [PollFd::new(self.stdin.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(wait_ms)).unwrap() > 0
    }

    /// The next event: its header and payload.
    fn hear(&self) -> (String, String) {
        let (mut text, mut byte) = (Vec::new(), [0]);
        let mut next = |text: &mut Vec<u8>| {
            assert!(self.has_event(20_000), "an event comes; so far: {}", String::from_utf8_lossy(text));
            assert_eq!(read(&self.stdin, &mut byte).unwrap(), 1);
            text.push(byte[0]);
        };
        while text.last() != Some(&b'\n') {
            next(&mut text);
        }
        let head = String::from_utf8(std::mem::take(&mut text)).unwrap().trim_end().to_owned();
        let len: usize = head.rsplit_once("len:").unwrap().1.parse().unwrap();
        // Characters, as a listener in Python reads them.
        while std::str::from_utf8(&text).map_or(0, |text| text.chars().count()) < len {
            next(&mut text);
        }
        (head, String::from_utf8(text).unwrap())
    }

    fn take(&self) -> (String, String) {
        self.say("READY\n");
        let event = self.hear();
        self.say("RESULT 2\nOK");
        event
    }
}

fn tape() -> SlotId {
    SlotId::new(&ProgramName::new("tape"), 0)
}

/// Begins a life of the listener in `slot`, without a word about its state.
fn attach(pools: &Pools, slot: &SlotId, pid: i32) -> Life {
    let (stdin, ours_in) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let (ours_out, stdout) = pipe2(OFlag::O_CLOEXEC).unwrap();
    for fd in [&ours_in, &ours_out] {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    }
    pools.attach(slot.clone(), pid, ours_in, ours_out);
    Life { stdin, stdout }
}

fn listeners(events: &str, buffer_size: u32) -> Vec<(ProgramName, GroupName, ListenerSpec)> {
    let events = events.split(',').map(str::to_owned).collect();
    vec![(ProgramName::new("tape"), GroupName::new("tape"), ListenerSpec { events, buffer_size })]
}

fn tell(pools: &Pools, about: &str, what: What) {
    let program = about.split(':').next().unwrap();
    let slot = (!program.is_empty()).then(|| SlotId::new(&ProgramName::new(program), 0));
    pools.notice(&Notice { seq: 0, at: Stamp(0), about: about.to_owned(), slot, what });
}

fn went(pools: &Pools, about: &str, from: State, to: State, pid: Option<i32>, tries: u32) {
    tell(pools, about, What::State { from, to, reason: String::new(), pid, run: Some(RunId(1)), tries });
}

fn spawned(pools: &Pools, about: &str, pid: i32) {
    went(pools, about, State::Stopped, State::Launching, None, 0);
    tell(pools, about, What::Spawned { pid, run: RunId(1) });
}

fn ended(pools: &Pools, about: &str, pid: i32, why: Why) {
    tell(pools, about, What::Ended { pid, run: RunId(1), exit: Exit::Code(3), lived: Span::secs(1), why, jobs: 0 });
}

fn remote(pools: &Pools, event: &str) {
    tell(pools, "", What::Remote { event: event.to_owned(), data: String::new() });
}

#[test]
fn a_story_is_told_as_real_supervisord_told_it() {
    use State::*;
    let pools = Pools::start("recorder").unwrap();
    pools.plan(listeners("EVENT", 1000));
    for group in ["tape", "hopeless", "short", "talker"] {
        tell(&pools, "", What::GroupAdded { group: group.into() });
    }
    pools.running();
    let life = attach(&pools, &tape(), 40_001);
    spawned(&pools, "tape", 40_001);
    went(&pools, "tape", Starting, Running, Some(40_001), 0);

    let talker = "talker:talker_00";
    spawned(&pools, talker, 40_002);
    went(&pools, talker, Starting, Running, Some(40_002), 0);
    let chunk = |stream, data: &[u8]| {
        let slot = SlotId::new(&ProgramName::new("talker"), 0);
        Chunk { slot, run: RunId(1), stream, data: data.to_vec() }
    };
    pools.output(&chunk(Stream::Stdout, b"plain line\n"));
    for text in ["grüße ☃".as_bytes(), b"\xff'\"\\\n"] {
        pools.output(&chunk(Stream::Stdout, text));
        pools.captured(&chunk(Stream::Stdout, text));
    }
    pools.output(&chunk(Stream::Stderr, b"to stderr\n"));
    went(&pools, talker, Running, Stopping, Some(40_002), 0);
    ended(&pools, talker, 40_002, Why::Manual);
    went(&pools, talker, Stopping, Stopped, None, 0);

    spawned(&pools, "short", 40_003);
    went(&pools, "short", Starting, Running, Some(40_003), 0);
    ended(&pools, "short", 40_003, Why::Crash);
    went(&pools, "short", Running, Exited, None, 0);

    spawned(&pools, "hopeless", 40_004);
    ended(&pools, "hopeless", 40_004, Why::Crash);
    went(&pools, "hopeless", Launching, Backoff, None, 1);
    went(&pools, "hopeless", Backoff, Launching, None, 1);
    ended(&pools, "hopeless", 40_005, Why::Crash);
    went(&pools, "hopeless", Launching, Fatal, None, 2);

    tell(&pools, "", What::Remote { event: "news".into(), data: "grüße\n☃".into() });
    tell(&pools, "", What::GroupRemoved { group: "short".into() });
    tell(&pools, "", What::GroupAdded { group: "short".into() });
    pools.stopping();

    let pid = regex::Regex::new(r"pid:[1-9]\d*").unwrap();
    let text = std::fs::read_to_string("tests/fixtures/supervisor/events.txt").unwrap();
    let recorded = text.lines().filter(|line| !line.contains("eventname:TICK_5"));
    for (serial, line) in recorded.enumerate() {
        let (head, payload) = line.split_once('\t').unwrap();
        let (_, name) = head.split_once("eventname:").unwrap();
        let name = name.split(' ').next().unwrap();
        let mut heard = life.take();
        while heard.0.contains("eventname:TICK_") {
            heard = life.take(); // the clock tells stories of its own
        }
        assert!(heard.0.contains(&format!(" eventname:{name} len:")), "{serial}: {line}\nheard: {heard:?}");
        assert!(heard.0.starts_with("ver:3.0 server:recorder serial:") && heard.0.contains(" pool:tape poolserial:"), "{}", heard.0);
        let payload: String = serde_json::from_str(payload).unwrap();
        assert_eq!(pid.replace_all(&heard.1, "pid:<pid>"), payload, "{serial}: {name}");
    }
}

#[test]
fn an_event_in_the_hand_of_a_listener_that_dies_is_given_to_its_successor() {
    let pools = Pools::start("supervisor").unwrap();
    pools.plan(listeners("REMOTE_COMMUNICATION", 10));
    let life = attach(&pools, &tape(), 1);
    went(&pools, "tape", State::Starting, State::Running, Some(1), 0);
    remote(&pools, "one");
    remote(&pools, "two");
    let first = life.take();
    assert_eq!(first.0, "ver:3.0 server:supervisor serial:0 pool:tape poolserial:0 eventname:REMOTE_COMMUNICATION len:9");
    life.say("READY\n");
    let second = life.hear();
    drop(life);
    pools.detach(tape());
    let life = attach(&pools, &tape(), 2);
    went(&pools, "tape", State::Starting, State::Running, Some(2), 0);
    assert_eq!(life.take(), second, "with the numbers that it had");
}

#[test]
fn the_last_words_of_a_listener_are_heard() {
    let pools = Pools::start("supervisor").unwrap();
    pools.plan(listeners("REMOTE_COMMUNICATION", 10));
    let life = attach(&pools, &tape(), 1);
    went(&pools, "tape", State::Starting, State::Running, Some(1), 0);
    remote(&pools, "one");
    life.take();
    drop(life);
    pools.detach(tape());
    let life = attach(&pools, &tape(), 2);
    went(&pools, "tape", State::Starting, State::Running, Some(2), 0);
    remote(&pools, "two");
    assert_eq!(life.take().1, "type:two\n", "the first was taken");
}

#[test]
fn a_rejected_event_comes_again_after_a_pause() {
    let pools = Pools::start("supervisor").unwrap();
    pools.plan(listeners("REMOTE_COMMUNICATION", 10));
    let life = attach(&pools, &tape(), 1);
    went(&pools, "tape", State::Starting, State::Running, Some(1), 0);
    remote(&pools, "one");
    life.say("READY\n");
    let event = life.hear();
    life.say("RESULT 4\nFAILREADY\n");
    assert!(!life.has_event(500), "not at once");
    assert_eq!(life.hear(), event);
}

#[test]
fn a_listener_gets_nothing_before_it_is_running_and_nothing_that_it_did_not_ask_for() {
    let pools = Pools::start("supervisor").unwrap();
    pools.plan(listeners("PROCESS_GROUP_REMOVED", 10));
    let life = attach(&pools, &tape(), 1);
    life.say("READY\n");
    tell(&pools, "", What::GroupAdded { group: "g".into() });
    tell(&pools, "", What::GroupRemoved { group: "g".into() });
    assert!(!life.has_event(200));
    went(&pools, "tape", State::Starting, State::Running, Some(1), 0);
    assert_eq!(life.hear().1, "groupname:g\n");
    assert!(!life.has_event(100));
}

/// A payload that is larger than the pipe is written as the listener reads.
#[test]
fn a_large_event_arrives_whole() {
    let pools = Pools::start("supervisor").unwrap();
    pools.plan(listeners("REMOTE_COMMUNICATION", 10));
    let life = attach(&pools, &tape(), 1);
    went(&pools, "tape", State::Starting, State::Running, Some(1), 0);
    tell(&pools, "", What::Remote { event: "big".into(), data: "x".repeat(100_000) });
    life.say("READY\n");
    let mut text = Vec::new();
    let mut buffer = [0; 65_536];
    while text.iter().filter(|byte| **byte == b'x').count() < 100_000 {
        assert!(life.has_event(20_000));
        let bytes = read(&life.stdin, &mut buffer).unwrap();
        text.extend_from_slice(&buffer[..bytes]);
    }
    assert!(text.ends_with(b"xxx"));
    life.say("RESULT 2\nOK");
    remote(&pools, "next");
    assert_eq!(life.take().1, "type:next\n");
}
