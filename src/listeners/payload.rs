//! Supervisor's events: their types, and their payloads to the byte.
//!
//! `Teller` turns what the engine tells (`Notice`) into the transitions that Supervisor would have made. Ours has states and
//! shortcuts that Supervisor has not: LAUNCHING is part of STARTING, CLEARING is told of when it is over, WAITING (for a lock) is
//! told as BACKOFF; and a slot that gives up at once is first told as BACKOFF, since a listener expects FATAL from there.
//! Nothing here decides who gets an event, or when.

use crate::model::name::{RunId, SlotId};
use crate::model::notice::{Notice, What, Why};
use crate::model::state::State;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

/// Concrete event types. The names of the abstract ones are in `parents`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    ProcessStateStarting,
    ProcessStateRunning,
    ProcessStateBackoff,
    ProcessStateStopping,
    ProcessStateExited,
    ProcessStateStopped,
    ProcessStateFatal,
    ProcessStateUnknown,
    ProcessCommunicationStdout,
    ProcessCommunicationStderr,
    ProcessLogStdout,
    ProcessLogStderr,
    RemoteCommunication,
    SupervisorStateChangeRunning,
    SupervisorStateChangeStopping,
    Tick5,
    Tick60,
    Tick3600,
    ProcessGroupAdded,
    ProcessGroupRemoved,
}

impl EventType {
    pub const ALL: [EventType; 20] = [
        EventType::ProcessStateStarting,
        EventType::ProcessStateRunning,
        EventType::ProcessStateBackoff,
        EventType::ProcessStateStopping,
        EventType::ProcessStateExited,
        EventType::ProcessStateStopped,
        EventType::ProcessStateFatal,
        EventType::ProcessStateUnknown,
        EventType::ProcessCommunicationStdout,
        EventType::ProcessCommunicationStderr,
        EventType::ProcessLogStdout,
        EventType::ProcessLogStderr,
        EventType::RemoteCommunication,
        EventType::SupervisorStateChangeRunning,
        EventType::SupervisorStateChangeStopping,
        EventType::Tick5,
        EventType::Tick60,
        EventType::Tick3600,
        EventType::ProcessGroupAdded,
        EventType::ProcessGroupRemoved,
    ];

    /// As in `eventname:` and in `events=`.
    pub fn name(self) -> &'static str {
        match self {
            EventType::ProcessStateStarting => "PROCESS_STATE_STARTING",
            EventType::ProcessStateRunning => "PROCESS_STATE_RUNNING",
            EventType::ProcessStateBackoff => "PROCESS_STATE_BACKOFF",
            EventType::ProcessStateStopping => "PROCESS_STATE_STOPPING",
            EventType::ProcessStateExited => "PROCESS_STATE_EXITED",
            EventType::ProcessStateStopped => "PROCESS_STATE_STOPPED",
            EventType::ProcessStateFatal => "PROCESS_STATE_FATAL",
            EventType::ProcessStateUnknown => "PROCESS_STATE_UNKNOWN",
            EventType::ProcessCommunicationStdout => "PROCESS_COMMUNICATION_STDOUT",
            EventType::ProcessCommunicationStderr => "PROCESS_COMMUNICATION_STDERR",
            EventType::ProcessLogStdout => "PROCESS_LOG_STDOUT",
            EventType::ProcessLogStderr => "PROCESS_LOG_STDERR",
            EventType::RemoteCommunication => "REMOTE_COMMUNICATION",
            EventType::SupervisorStateChangeRunning => "SUPERVISOR_STATE_CHANGE_RUNNING",
            EventType::SupervisorStateChangeStopping => "SUPERVISOR_STATE_CHANGE_STOPPING",
            EventType::Tick5 => "TICK_5",
            EventType::Tick60 => "TICK_60",
            EventType::Tick3600 => "TICK_3600",
            EventType::ProcessGroupAdded => "PROCESS_GROUP_ADDED",
            EventType::ProcessGroupRemoved => "PROCESS_GROUP_REMOVED",
        }
    }

    /// The abstract type that it is one of, under `EVENT`.
    fn parent(self) -> &'static str {
        match self {
            EventType::ProcessStateStarting
            | EventType::ProcessStateRunning
            | EventType::ProcessStateBackoff
            | EventType::ProcessStateStopping
            | EventType::ProcessStateExited
            | EventType::ProcessStateStopped
            | EventType::ProcessStateFatal
            | EventType::ProcessStateUnknown => "PROCESS_STATE",
            EventType::ProcessCommunicationStdout | EventType::ProcessCommunicationStderr => "PROCESS_COMMUNICATION",
            EventType::ProcessLogStdout | EventType::ProcessLogStderr => "PROCESS_LOG",
            EventType::RemoteCommunication => "REMOTE_COMMUNICATION",
            EventType::SupervisorStateChangeRunning | EventType::SupervisorStateChangeStopping => "SUPERVISOR_STATE_CHANGE",
            EventType::Tick5 | EventType::Tick60 | EventType::Tick3600 => "TICK",
            EventType::ProcessGroupAdded | EventType::ProcessGroupRemoved => "PROCESS_GROUP",
        }
    }

    /// The period of a TICK, in seconds.
    pub fn period(self) -> Option<u64> {
        match self {
            EventType::Tick5 => Some(5),
            EventType::Tick60 => Some(60),
            EventType::Tick3600 => Some(3600),
            _ => None,
        }
    }
}

/// A set of event types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscription(u32);

impl Subscription {
    /// What `events=` asks for, abstract types included. Unknown names ask for nothing; the config has refused them.
    pub fn read(names: &[String]) -> Subscription {
        let asked = |event: &EventType| names.iter().any(|name| name == "EVENT" || name == event.parent() || name == event.name());
        Subscription(EventType::ALL.iter().filter(|event| asked(event)).fold(0, |set, event| set | 1 << *event as u32))
    }

    pub fn has(self, event: EventType) -> bool {
        self.0 & (1 << event as u32) != 0
    }

    pub fn with(self, other: Subscription) -> Subscription {
        Subscription(self.0 | other.0)
    }

    pub fn bits(self) -> u32 {
        self.0
    }

    pub fn of_bits(bits: u32) -> Subscription {
        Subscription(bits)
    }
}

/// One thing that happened, as listeners hear of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventType,
    pub payload: Arc<str>,
}

impl Event {
    pub fn new(kind: EventType, payload: impl Into<Arc<str>>) -> Event {
        Event { kind, payload: payload.into() }
    }

    /// `when` in seconds since 1970, a multiple of the period.
    pub fn tick(kind: EventType, when: u64) -> Event {
        Event::new(kind, format!("when:{when}"))
    }

    /// The line and the payload as a listener gets them. `len` counts characters, as Supervisor's does: its listeners read text.
    pub fn envelope(&self, identifier: &str, serial: u64, pool: &str, pool_serial: u64) -> String {
        let (name, payload, len) = (self.kind.name(), &self.payload, self.payload.chars().count());
        format!("ver:3.0 server:{identifier} serial:{serial} pool:{pool} poolserial:{pool_serial} eventname:{name} len:{len}\n{payload}")
    }
}

/// Which of a worker's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// A piece of output, or of captured text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub slot: SlotId,
    pub run: RunId,
    pub stream: Stream,
    pub data: Vec<u8>,
}

/// What is known of a slot.
#[derive(Clone, Debug)]
struct Known {
    group: String,
    process: String,
    /// The state that listeners were told of last, as Supervisor's word for it; none before the first.
    state: Option<State>,
    /// The last lives, newest first: output may be told of after an end.
    lives: [Option<(RunId, i32)>; 2],
    /// Whether the last end was an expected one.
    expected: bool,
}

/// Turns notices into events. It has to hear of all of them, also while nobody listens: payloads name pids and states of before.
#[derive(Debug, Default)]
pub struct Teller {
    known: HashMap<SlotId, Known>,
}

/// More slots than this: those at rest are forgotten, and told of as if they were new.
const MANY: usize = 100_000;

impl Teller {
    /// Calls `each` with the events that `notice` comes to: none, one, or a few.
    pub fn notice(&mut self, notice: &Notice, mut each: impl FnMut(Event)) {
        match &notice.what {
            What::State { from, to, reason: _, pid, run: _, tries } => {
                if let Some(slot) = &notice.slot {
                    self.went(slot, &notice.about, (*from, *to), *pid, *tries, &mut each);
                }
            }
            What::Spawned { pid, run } => {
                if let Some(slot) = &notice.slot {
                    let known = self.slot(slot, &notice.about);
                    known.lives = [Some((*run, *pid)), known.lives[0]];
                }
            }
            What::Ended { pid, run, why, .. } => {
                if let Some(slot) = &notice.slot {
                    let known = self.slot(slot, &notice.about);
                    known.expected = *why != Why::Crash;
                    if known.lives[0].is_none() {
                        known.lives[0] = Some((*run, *pid));
                    }
                }
            }
            What::GroupAdded { group } => each(Event::new(EventType::ProcessGroupAdded, format!("groupname:{group}\n"))),
            What::GroupRemoved { group } => {
                self.known.retain(|_, known| known.group != *group);
                each(Event::new(EventType::ProcessGroupRemoved, format!("groupname:{group}\n")));
            }
            What::Remote { event, data } => each(Event::new(EventType::RemoteCommunication, format!("type:{event}\n{data}"))),
            What::SpawnFailed { .. }
            | What::Signalled { .. }
            | What::Leftovers { .. }
            | What::Due { .. }
            | What::Scaled { .. }
            | What::Rolling { .. }
            | What::Asked { .. }
            | What::Loaded { .. }
            | What::LoadFailed { .. }
            | What::LogTrouble { .. }
            | What::LogHealed { .. }
            | What::Daemon { .. }
            | What::Trouble { .. } => {}
        }
    }

    /// PROCESS_LOG of a chunk of output; `None` for a slot that was never heard of.
    pub fn output(&self, chunk: &Chunk) -> Option<Event> {
        let (kind, channel) = match chunk.stream {
            Stream::Stdout => (EventType::ProcessLogStdout, "stdout"),
            Stream::Stderr => (EventType::ProcessLogStderr, "stderr"),
        };
        let mut payload = self.names(chunk)?;
        let _ = writeln!(payload, " channel:{channel}"); // writing to a String cannot fail
        payload.push_str(&text(&chunk.data));
        Some(Event::new(kind, payload))
    }

    /// PROCESS_COMMUNICATION of captured text.
    pub fn captured(&self, chunk: &Chunk) -> Option<Event> {
        let kind = match chunk.stream {
            Stream::Stdout => EventType::ProcessCommunicationStdout,
            Stream::Stderr => EventType::ProcessCommunicationStderr,
        };
        let mut payload = self.names(chunk)?;
        payload.push('\n');
        payload.push_str(&text(&chunk.data));
        Some(Event::new(kind, payload))
    }

    fn names(&self, chunk: &Chunk) -> Option<String> {
        let known = self.known.get(&chunk.slot)?;
        let life = known.lives.iter().flatten().find(|(run, _)| *run == chunk.run);
        let pid = life.or(known.lives[0].as_ref()).map_or(0, |(_, pid)| *pid);
        Some(format!("processname:{} groupname:{} pid:{pid}", known.process, known.group))
    }

    fn slot(&mut self, slot: &SlotId, label: &str) -> &mut Known {
        if self.known.len() > MANY {
            self.known.retain(|_, known| !matches!(known.state, Some(State::Stopped | State::Exited | State::Fatal)));
        }
        let (group, process) = label.split_once(':').unwrap_or((label, label));
        let fresh = || Known { group: group.to_owned(), process: process.to_owned(), state: None, lives: [None, None], expected: true };
        let known = self.known.entry(slot.clone()).or_insert_with(fresh);
        if known.process != process || known.group != group {
            // It was renamed by a reload.
            (known.group, known.process) = (group.to_owned(), process.to_owned());
        }
        known
    }

    fn went(&mut self, slot: &SlotId, label: &str, (from, to): (State, State), pid: Option<i32>, tries: u32, each: &mut impl FnMut(Event)) {
        let known = self.slot(slot, label);
        let Some(to) = supervisors(to) else { return };
        let first = known.state.or_else(|| supervisors(from)).unwrap_or(State::Stopping);
        if first == to {
            known.state = Some(to);
            return;
        }
        let mut from = first;
        let mut step = |to: State, known: &Known| {
            // Supervisor's pid of a process that is stopped while it waits for its next try.
            let worker = match from {
                State::Backoff | State::Stopped | State::Exited | State::Fatal => 0,
                _ => pid.or(known.lives[0].map(|(_, pid)| pid)).unwrap_or(0),
            };
            each(transition(known, from, to, worker, tries));
            from = to;
        };
        match (first, to) {
            // It gave up at once.
            (State::Starting, State::Fatal) => step(State::Backoff, known),
            // It ended so early and yet so well that nobody had come round to calling it RUNNING.
            (State::Starting, State::Exited) => step(State::Running, known),
            _ => {}
        }
        step(to, known);
        known.state = Some(to);
    }
}

/// Supervisor's state for one of ours; `None` for one that it does not have and that passes.
fn supervisors(state: State) -> Option<State> {
    match state {
        State::Launching | State::Starting => Some(State::Starting),
        State::Waiting | State::Backoff => Some(State::Backoff),
        State::Stopped => Some(State::Stopped),
        State::Running => Some(State::Running),
        State::Stopping => Some(State::Stopping),
        State::Clearing => None,
        State::Exited => Some(State::Exited),
        State::Fatal => Some(State::Fatal),
    }
}

fn transition(known: &Known, from: State, to: State, pid: i32, tries: u32) -> Event {
    let mut payload = format!("processname:{} groupname:{} from_state:{}", known.process, known.group, from.word());
    let (kind, rest) = match to {
        State::Launching | State::Starting => (EventType::ProcessStateStarting, format!(" tries:{tries}")),
        State::Waiting | State::Backoff => (EventType::ProcessStateBackoff, format!(" tries:{tries}")),
        State::Running => (EventType::ProcessStateRunning, format!(" pid:{pid}")),
        State::Stopping | State::Clearing => (EventType::ProcessStateStopping, format!(" pid:{pid}")),
        State::Stopped => (EventType::ProcessStateStopped, format!(" pid:{pid}")),
        State::Exited => (EventType::ProcessStateExited, format!(" expected:{} pid:{pid}", u8::from(known.expected))),
        State::Fatal => (EventType::ProcessStateFatal, String::new()),
    };
    payload.push_str(&rest);
    Event::new(kind, payload)
}

/// Bytes as Supervisor shows them: as they are if they are UTF-8, else as Python writes bytes.
fn text(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("Undecodable: {}", python_bytes(data)),
    }
}

/// Python's `repr()` of bytes.
fn python_bytes(data: &[u8]) -> String {
    let quote = if data.contains(&b'\'') && !data.contains(&b'"') { '"' } else { '\'' };
    let mut out = format!("b{quote}");
    for byte in data {
        match byte {
            b'\t' => out.push_str("\\t"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' if char::from(*byte) == quote => out.extend(['\\', quote]),
            b' '..=b'~' => out.push(char::from(*byte)),
            other => {
                let _ = write!(out, "\\x{other:02x}"); // writing to a String cannot fail
            }
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::exit::Exit;
    use crate::model::name::ProgramName;
    use crate::model::time::{Span, Stamp};

    fn slot() -> SlotId {
        SlotId::new(&ProgramName::new("cat"), 0)
    }

    fn notice(about: &str, what: What) -> Notice {
        Notice { seq: 1, at: Stamp(0), about: about.into(), slot: Some(slot()), what }
    }

    fn state(from: State, to: State, pid: Option<i32>, tries: u32) -> What {
        What::State { from, to, reason: String::new(), pid, run: Some(RunId(1)), tries }
    }

    fn ended(why: Why) -> What {
        What::Ended { pid: 42, run: RunId(1), exit: Exit::Code(0), lived: Span::secs(1), why, jobs: 0 }
    }

    /// What a life is told as: `TYPE payload`, one a line.
    fn told(about: &str, all: &[What]) -> Vec<String> {
        let (mut teller, mut out) = (Teller::default(), Vec::new());
        for what in all {
            teller.notice(&notice(about, what.clone()), |event| {
                let (kind, rest) = (event.kind.name().trim_start_matches("PROCESS_STATE_"), event.payload.split_once(" from").unwrap().1);
                assert!(event.payload.starts_with("processname:cat_0 groupname:cat from_state:"), "{}", event.payload);
                out.push(format!("{kind} from{rest}"));
            });
        }
        out
    }

    #[test]
    fn a_life_is_told_as_supervisor_tells_it() {
        use State::*;
        let spawned = What::Spawned { pid: 42, run: RunId(1) };
        let stopped = [
            state(Stopped, Launching, None, 0),
            spawned.clone(),
            state(Starting, Running, Some(42), 0),
            state(Running, Stopping, Some(42), 0),
            ended(Why::Manual),
            state(Stopping, Stopped, None, 0),
        ];
        assert_eq!(
            told("cat:cat_0", &stopped),
            [
                "STARTING from_state:STOPPED tries:0",
                "RUNNING from_state:STARTING pid:42",
                "STOPPING from_state:RUNNING pid:42",
                "STOPPED from_state:STOPPING pid:42"
            ]
        );
        let exited = [
            state(Exited, Launching, None, 0),
            spawned.clone(),
            state(Starting, Running, Some(42), 0),
            ended(Why::Crash),
            state(Running, Clearing, None, 0),
            state(Clearing, Exited, None, 0),
            state(Exited, Launching, None, 0),
        ];
        assert_eq!(told("cat:cat_0", &exited)[2..], ["EXITED from_state:RUNNING expected:0 pid:42", "STARTING from_state:EXITED tries:0"]);
        let hopeless = [
            state(Stopped, Launching, None, 0),
            state(Launching, Backoff, None, 1),
            state(Backoff, Launching, None, 1),
            spawned,
            ended(Why::Crash),
            state(Launching, Fatal, None, 2),
        ];
        assert_eq!(
            told("cat:cat_0", &hopeless)[1..],
            [
                "BACKOFF from_state:STARTING tries:1",
                "STARTING from_state:BACKOFF tries:1",
                "BACKOFF from_state:STARTING tries:2",
                "FATAL from_state:BACKOFF"
            ]
        );
        let given_up = [state(Launching, Backoff, None, 1), state(Backoff, Stopped, None, 0)];
        assert_eq!(told("cat:cat_0", &given_up)[1..], ["STOPPED from_state:BACKOFF pid:0"]);
    }

    #[test]
    fn a_lock_that_is_tried_again_is_told_once() {
        use State::*;
        let locked = [
            state(Stopped, Launching, None, 0),
            state(Launching, Waiting, None, 0),
            state(Waiting, Waiting, None, 0),
            state(Waiting, Starting, Some(42), 0),
        ];
        assert_eq!(
            told("cat:cat_0", &locked),
            ["STARTING from_state:STOPPED tries:0", "BACKOFF from_state:STARTING tries:0", "STARTING from_state:BACKOFF tries:0"]
        );
    }

    #[test]
    fn output_is_told_with_the_pid_of_its_life() {
        let mut teller = Teller::default();
        for (run, pid) in [(1, 41), (2, 42)] {
            teller.notice(&notice("cat", What::Spawned { pid, run: RunId(run) }), |_| {});
        }
        let chunk = |run, data: &[u8]| Chunk { slot: slot(), run: RunId(run), stream: Stream::Stderr, data: data.to_vec() };
        let payload = |event: Option<Event>| event.unwrap().payload.to_string();
        assert_eq!(payload(teller.output(&chunk(1, b"late\n"))), "processname:cat groupname:cat pid:41 channel:stderr\nlate\n");
        assert_eq!(payload(teller.captured(&chunk(2, "ü".as_bytes()))), "processname:cat groupname:cat pid:42\nü");
        assert_eq!(
            payload(teller.captured(&chunk(2, b"\xff'\"\\\n\x00"))),
            "processname:cat groupname:cat pid:42\nUndecodable: b'\\xff\\'\"\\\\\\n\\x00'"
        );
        assert_eq!(teller.output(&Chunk { slot: SlotId::new(&ProgramName::new("new"), 0), ..chunk(1, b"") }), None);
    }

    #[test]
    fn bytes_are_written_as_python_writes_them() {
        assert_eq!(python_bytes(b"it's \xe9"), "b\"it's \\xe9\"");
        assert_eq!(python_bytes(b"say \"\xe9\"\t\x7f"), "b'say \"\\xe9\"\\t\\x7f'");
    }

    #[test]
    fn groups_remote_words_and_ticks() {
        let mut teller = Teller::default();
        let mut told = |what| {
            let mut all = Vec::new();
            teller.notice(&notice("", what), |event| all.push(event));
            all
        };
        assert_eq!(told(What::GroupAdded { group: "g".into() }), [Event::new(EventType::ProcessGroupAdded, "groupname:g\n")]);
        assert_eq!(told(What::GroupRemoved { group: "g".into() }), [Event::new(EventType::ProcessGroupRemoved, "groupname:g\n")]);
        let remote = What::Remote { event: "T".into(), data: "a\nb".into() };
        assert_eq!(told(remote), [Event::new(EventType::RemoteCommunication, "type:T\na\nb")]);
        assert_eq!(Event::tick(EventType::Tick60, 1_200).payload.as_ref(), "when:1200");
    }

    #[test]
    fn the_length_counts_characters() {
        let event = Event::new(EventType::RemoteCommunication, "type:t\ngrüße ☃");
        assert_eq!(
            event.envelope("supervisor", 21, "l", 10),
            "ver:3.0 server:supervisor serial:21 pool:l poolserial:10 eventname:REMOTE_COMMUNICATION len:14\ntype:t\ngrüße ☃"
        );
    }

    #[test]
    fn abstract_types_stand_for_their_kind() {
        let kinds = |name: &str| {
            let set = Subscription::read(&[name.to_owned()]);
            EventType::ALL.into_iter().filter(|kind| set.has(*kind)).count()
        };
        let counts = ["EVENT", "PROCESS_STATE", "PROCESS_LOG", "PROCESS_COMMUNICATION", "SUPERVISOR_STATE_CHANGE", "TICK", "PROCESS_GROUP"];
        assert_eq!(counts.map(kinds), [20, 8, 2, 2, 2, 3, 2]);
        assert_eq!(["REMOTE_COMMUNICATION", "TICK_5", "PROCESS_STATE_FATAL", "TICK_7", "PROCESS"].map(kinds), [1, 1, 1, 0, 0]);
    }
}
