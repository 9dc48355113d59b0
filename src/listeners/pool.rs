//! A pool: the workers of one listener program, and the events that wait for one of them. Pure; time comes in as milliseconds.
//!
//! Each event goes to one READY and RUNNING member, the oldest first. One that is not taken goes back to the head with its
//! numbers. When the buffer is full the oldest goes, and that is told.
//!
//! Where Supervisor sends a rejected event again at once and for ever (a listener that says FAIL takes a whole processor), the
//! pool waits: a second after the first rejection, twice as long after each further one of the same event, half a
//! minute at most. Later events wait behind it, so their order stays. A member that was lost or died has not rejected.

use crate::listeners::payload::{Event, Subscription};
use crate::listeners::protocol::{Heard, Protocol, Talk};
use crate::model::name::SlotId;
use std::collections::{BTreeMap, VecDeque};

/// The pause after a first rejection, in milliseconds.
const FIRST_PAUSE: u64 = 1000;
const LONGEST_PAUSE: u64 = 30_000;
/// Payloads that wait in one pool, in bytes. Supervisor has no such bound; a full one discards as a full buffer does.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// How often an overflow is told, in milliseconds.
const TELL_EVERY: u64 = 1000;

#[derive(Debug)]
pub struct Pool {
    pub name: String,
    pub subscription: Subscription,
    pub buffer_size: usize,
    next_serial: u64,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// The head was rejected: nothing is sent before.
    pause: Option<u64>,
    members: BTreeMap<SlotId, Member>,
    overflow: Overflow,
}

/// An event in this pool.
#[derive(Clone, Debug)]
struct Waiting {
    event: Event,
    serial: u64,
    pool_serial: u64,
    rejections: u32,
}

#[derive(Debug)]
struct Member {
    label: String,
    protocol: Protocol,
    running: bool,
    /// Its input is broken; it will not hear us in this life.
    deaf: bool,
    hand: Option<Waiting>,
}

/// What was discarded and not told of yet.
#[derive(Debug, Default)]
struct Overflow {
    untold: u64,
    tell_at: u64,
}

/// Something that people should read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    Warn(String),
    Error(String),
}

impl Pool {
    pub fn new(name: String, subscription: Subscription, buffer_size: usize) -> Pool {
        Pool {
            name,
            subscription,
            buffer_size,
            next_serial: 0,
            waiting: VecDeque::new(),
            bytes: 0,
            pause: None,
            members: BTreeMap::new(),
            overflow: Overflow::default(),
        }
    }

    /// Takes an event that it subscribes to. `serial`: its number among all events.
    pub fn accept(&mut self, event: Event, serial: u64, now: u64) -> Option<Word> {
        let pool_serial = self.next_serial;
        self.next_serial += 1;
        let word = self.make_room(event.payload.len(), now);
        self.bytes += event.payload.len();
        self.waiting.push_back(Waiting { event, serial, pool_serial, rejections: 0 });
        word
    }

    /// A new life in `slot`; it has to become RUNNING and say READY before it gets an event.
    pub fn attach(&mut self, slot: SlotId, label: String, now: u64) -> Option<Word> {
        let word = self.detach(&slot, now);
        self.members.insert(slot, Member { label, protocol: Protocol::default(), running: false, deaf: false, hand: None });
        word
    }

    /// The life is over. An event that it had in hand goes to another.
    pub fn detach(&mut self, slot: &SlotId, now: u64) -> Option<Word> {
        let hand = self.members.remove(slot).and_then(|member| member.hand);
        hand.and_then(|waiting| self.put_back(waiting, now))
    }

    /// Its program's rules for being up say so, or no longer.
    pub fn runs(&mut self, slot: &SlotId, running: bool) {
        if let Some(member) = self.members.get_mut(slot) {
            member.running = running;
        }
    }

    /// Takes what a member said.
    pub fn heard(&mut self, slot: &SlotId, bytes: &[u8], now: u64) -> Vec<Word> {
        let Some(member) = self.members.get_mut(slot) else { return Vec::new() };
        let (mut back, mut words) = (None, Vec::new());
        let (hand, label) = (&mut member.hand, &member.label);
        member.protocol.feed(bytes, |heard| match heard {
            Heard::Ready => {}
            Heard::Accepted => *hand = None,
            Heard::Rejected(said) => {
                if let Some(mut event) = hand.take() {
                    event.rejections += 1;
                    let pause = pause_after(event.rejections);
                    words.push(Word::Warn(format!(
                        "{label}: event was rejected: event {} ({said}), {} time(s); sent again in {} s",
                        event.serial,
                        event.rejections,
                        pause / 1000
                    )));
                    back = Some((event, Some(now + pause)));
                }
            }
            Heard::Lost(why) => {
                words.push(Word::Warn(format!("{label}: {why}")));
                words.push(Word::Warn(format!(
                    "{label}: has entered the UNKNOWN state and will no longer receive events, this usually indicates the process \
                     violated the eventlistener protocol"
                )));
                if let Some(event) = hand.take() {
                    back = Some((event, None));
                }
            }
        });
        if let Some((event, pause)) = back {
            words.extend(self.put_back(event, now));
            self.pause = pause.or(self.pause);
        }
        words
    }

    /// The next event and who gets it, if there is one to be sent now. The member is BUSY from now on.
    pub fn next(&mut self, identifier: &str, now: u64) -> Option<(SlotId, String)> {
        if self.waiting.is_empty() || self.pause.is_some_and(|until| now < until) {
            return None;
        }
        let is_free = |member: &Member| member.running && !member.deaf && member.protocol.talk() == Talk::Ready;
        let (slot, member) = self.members.iter_mut().find(|(_, member)| is_free(member))?;
        let waiting = self.waiting.pop_front()?;
        self.pause = None;
        self.bytes -= waiting.event.payload.len();
        let envelope = waiting.event.envelope(identifier, waiting.serial, &self.name, waiting.pool_serial);
        member.protocol.sent();
        member.hand = Some(waiting);
        Some((slot.clone(), envelope))
    }

    /// A member's input is broken: it is on its way out, and what it should have heard goes to another.
    pub fn deafened(&mut self, slot: &SlotId, now: u64) -> Option<Word> {
        let member = self.members.get_mut(slot)?;
        member.deaf = true;
        let hand = member.hand.take();
        hand.and_then(|waiting| self.put_back(waiting, now))
    }

    /// When there may be something to send again, though nothing happens meanwhile.
    pub fn pause(&self) -> Option<u64> {
        self.pause.filter(|_| !self.waiting.is_empty())
    }

    /// How many events wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn put_back(&mut self, waiting: Waiting, now: u64) -> Option<Word> {
        let word = self.make_room(waiting.event.payload.len(), now);
        self.bytes += waiting.event.payload.len();
        self.waiting.push_front(waiting);
        word
    }

    /// Discards the oldest until one more of `bytes` fits.
    fn make_room(&mut self, bytes: usize, now: u64) -> Option<Word> {
        let mut word = None;
        while self.waiting.len() >= self.buffer_size.max(1) || self.bytes + bytes > MOST_BYTES {
            let Some(discarded) = self.waiting.pop_front() else { break };
            self.bytes -= discarded.event.payload.len();
            // The pause was the head's.
            self.pause = None;
            self.overflow.untold += 1;
            if now >= self.overflow.tell_at {
                self.overflow.tell_at = now + TELL_EVERY;
                let more = match std::mem::take(&mut self.overflow.untold) - 1 {
                    0 => String::new(),
                    more => format!(" (and {more} before it)"),
                };
                word =
                    Some(Word::Error(format!("pool {} event buffer overflowed, discarding event {}{more}", self.name, discarded.serial)));
            }
        }
        word
    }
}

/// The pause after so many rejections of one event, in milliseconds.
fn pause_after(rejections: u32) -> u64 {
    FIRST_PAUSE.saturating_mul(1 << rejections.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listeners::payload::EventType;
    use crate::model::name::ProgramName;

    fn slot(number: u32) -> SlotId {
        SlotId::new(&ProgramName::new("mail"), number)
    }

    fn pool(members: u32, buffer_size: usize) -> Pool {
        let mut pool = Pool::new("mail".into(), Subscription::read(&["EVENT".into()]), buffer_size);
        for number in 0..members {
            pool.attach(slot(number), format!("mail:{number}"), 0);
            pool.runs(&slot(number), true);
            pool.heard(&slot(number), b"READY\n", 0);
        }
        pool
    }

    fn tick(pool: &mut Pool, serial: u64) -> Option<Word> {
        pool.accept(Event::tick(EventType::Tick5, serial), serial, 0)
    }

    fn sent(pool: &mut Pool, now: u64) -> Option<(u32, String)> {
        pool.next("s", now).map(|(slot, text)| {
            let words: Vec<&str> =
                text.split([' ', '\n']).filter(|w| w.contains("serial:")).map(|w| w.split_once(':').unwrap().1).collect();
            (slot.number, words.join("/"))
        })
    }

    fn some(number: u32, serials: &str) -> Option<(u32, String)> {
        Some((number, serials.to_owned()))
    }

    #[test]
    fn an_event_goes_to_one_ready_and_running_member() {
        let mut pool = pool(2, 10);
        for serial in 7..10 {
            assert_eq!(tick(&mut pool, serial), None);
        }
        assert_eq!(sent(&mut pool, 0), some(0, "7/0"));
        assert_eq!(sent(&mut pool, 0), some(1, "8/1"));
        assert_eq!(sent(&mut pool, 0), None);
        pool.heard(&slot(1), b"RESULT 2\nOKREADY\n", 0);
        pool.runs(&slot(1), false);
        assert_eq!(sent(&mut pool, 0), None, "it is being stopped");
        pool.runs(&slot(1), true);
        assert_eq!(sent(&mut pool, 0), some(1, "9/2"));
    }

    #[test]
    fn a_rejected_event_comes_again_with_its_numbers_but_not_in_a_busy_loop() {
        let mut pool = pool(1, 10);
        tick(&mut pool, 0);
        tick(&mut pool, 1);
        let mut now = 0;
        for pause in [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            assert_eq!(sent(&mut pool, now), some(0, "0/0"));
            let words = pool.heard(&slot(0), b"RESULT 4\nFAILREADY\n", now);
            assert!(matches!(&words[..], [Word::Warn(text)] if text.starts_with("mail:0: event was rejected")), "{words:?}");
            assert_eq!((sent(&mut pool, now + pause - 1), pool.pause()), (None, Some(now + pause)));
            now += pause;
        }
        assert_eq!(sent(&mut pool, now), some(0, "0/0"));
        pool.heard(&slot(0), b"RESULT 2\nOKREADY\n", now);
        assert_eq!(sent(&mut pool, now), some(0, "1/1"), "an event that was taken ends the pause");
    }

    #[test]
    fn a_full_buffer_discards_the_oldest_and_says_so() {
        let mut pool = pool(0, 2);
        assert_eq!((tick(&mut pool, 0), tick(&mut pool, 1)), (None, None));
        assert_eq!(tick(&mut pool, 2), Some(Word::Error("pool mail event buffer overflowed, discarding event 0".into())));
        assert_eq!(tick(&mut pool, 3), None, "once a second is enough");
        let late = pool.accept(Event::tick(EventType::Tick5, 0), 4, 5000);
        assert_eq!(late, Some(Word::Error("pool mail event buffer overflowed, discarding event 2 (and 1 before it)".into())));
        pool.attach(slot(0), "mail".into(), 0);
        pool.runs(&slot(0), true);
        pool.heard(&slot(0), b"READY\n", 0);
        assert_eq!(sent(&mut pool, 0), some(0, "3/3"));
    }

    #[test]
    fn payloads_that_wait_are_bounded_in_bytes() {
        let mut pool = pool(0, 1_000_000);
        for serial in 0..100 {
            pool.accept(Event::new(EventType::ProcessLogStdout, "x".repeat(1024 * 1024)), serial, 0);
        }
        assert_eq!(pool.waiting.len(), 64);
        pool.accept(Event::new(EventType::ProcessLogStdout, "x".repeat(MOST_BYTES + 1)), 100, 0);
        assert_eq!(pool.waiting.len(), 1, "one may be larger");
    }

    #[test]
    fn an_event_whose_listener_dies_or_is_lost_goes_to_another_at_once() {
        let mut pool = pool(2, 10);
        tick(&mut pool, 0);
        assert_eq!(sent(&mut pool, 0), some(0, "0/0"));
        pool.detach(&slot(0), 0);
        assert_eq!(sent(&mut pool, 0), some(1, "0/0"));
        let words = pool.heard(&slot(1), b"RESULT nonsense\n", 0);
        assert_eq!(words.len(), 2);
        assert_eq!(words[0], Word::Warn("mail:1: bad result line: \"RESULT nonsense\"".into()));
        assert_eq!(sent(&mut pool, 0), None, "nobody is left");
        pool.attach(slot(0), "mail:0".into(), 0);
        pool.heard(&slot(0), b"READY\n", 0);
        assert_eq!(sent(&mut pool, 0), None, "it is not RUNNING yet");
        pool.runs(&slot(0), true);
        assert_eq!(sent(&mut pool, 0), some(0, "0/0"));
        pool.deafened(&slot(0), 0);
        assert_eq!((sent(&mut pool, 0), pool.waiting.len()), (None, 1));
    }
}
