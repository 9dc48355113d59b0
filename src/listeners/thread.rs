//! The listeners' thread: one task that deals out events, reads answers and makes TICKs.
//!
//! It sleeps until it is told something, a listener says something, a pause is over, or a TICK that somebody subscribes to
//! is due. Nothing is read from a listener that is not judged at once, so nothing piles up; of what is written to one there
//! is at most one event.

use crate::listeners::Load;
use crate::listeners::payload::{Event, EventType, Subscription};
use crate::listeners::pool::{Pool, Word};
use crate::model::name::{GroupName, ProgramName, SlotId};
use crate::model::spec::ListenerSpec;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, SystemTime};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

/// What is read of a listener at once.
const BUFFER: usize = 4096;
/// What is read at most of one that is gone: more than a pipe holds.
const LAST_WORDS: usize = 1024 * 1024;
/// Orders that are carried out before listeners are looked at again.
const ORDERS: usize = 256;

/// What the thread is told.
#[derive(Debug)]
pub enum Order {
    Plan(Vec<(ProgramName, GroupName, ListenerSpec)>),
    Attach {
        slot: SlotId,
        pid: i32,
        stdin: OwnedFd,
        stdout: OwnedFd,
    },
    Detach(SlotId),
    /// Whether a listener's worker is RUNNING.
    Runs(SlotId, bool),
    Event(Event),
}

pub fn start(identifier: String, queue: UnboundedReceiver<Order>, load: Arc<Load>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let run = move || {
        // Signals are the main thread's.
        let _ = nix::sys::signal::SigSet::all().thread_block();
        runtime.block_on(Dealer::new(identifier, load).run(queue));
    };
    std::thread::Builder::new().name("listeners".to_owned()).spawn(run)?;
    Ok(())
}

/// The pipes of one listener's life.
#[derive(Debug)]
struct Wire {
    stdin: Sender,
    stdout: Receiver,
    /// What is still to be written of the event that it gets.
    owed: Vec<u8>,
    written: usize,
    /// Its end was read, or it cannot be read.
    ended: bool,
}

struct Dealer {
    identifier: String,
    load: Arc<Load>,
    pools: BTreeMap<ProgramName, Pool>,
    wires: BTreeMap<SlotId, Wire>,
    serial: u64,
    born: Instant,
    ticks: Ticks,
}

/// What may wake us.
enum Wake {
    Order(Option<Order>),
    Wire(SlotId),
    Time,
}

impl Dealer {
    fn new(identifier: String, load: Arc<Load>) -> Dealer {
        // tokio's clock: pauses are only ours, and are waited for by its timers.
        let born = Instant::now();
        Dealer { identifier, load, pools: BTreeMap::new(), wires: BTreeMap::new(), serial: 0, born, ticks: Ticks::default() }
    }

    /// Until the last handle is dropped.
    async fn run(mut self, mut queue: UnboundedReceiver<Order>) {
        loop {
            let wait = self.wait();
            let wake = tokio::select! {
                order = queue.recv() => Wake::Order(order),
                slot = stirred(&self.wires) => Wake::Wire(slot),
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => Wake::Time,
            };
            match wake {
                Wake::Order(None) => return,
                Wake::Order(Some(order)) => {
                    self.obey(order);
                    for _ in 1..ORDERS {
                        let Ok(order) = queue.try_recv() else { break };
                        self.obey(order);
                    }
                }
                Wake::Wire(slot) => {
                    self.read(&slot);
                    self.write(&slot);
                }
                Wake::Time => {}
            }
            for (kind, when) in self.ticks.due(epoch_ms()) {
                self.accept(Event::tick(kind, when));
            }
            self.deal();
            let dropped = self.load.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                tracing::error!("{dropped} event(s) for listeners were dropped: they came faster than they can be dealt out");
            }
        }
    }

    fn now(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    /// How long there is nothing to do by ourselves.
    fn wait(&self) -> Option<Duration> {
        let now = self.now();
        let pauses = self.pools.values().filter_map(Pool::pause).map(|until| until.saturating_sub(now));
        // A pause that is over and finds nobody ready waits for a word, not for time.
        pauses.filter(|left| *left > 0).chain(self.ticks.next(epoch_ms())).min().map(Duration::from_millis)
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Plan(listeners) => self.plan(listeners),
            Order::Attach { slot, pid, stdin, stdout } => self.attach(slot, pid, stdin, stdout),
            Order::Detach(slot) => self.detach(&slot),
            Order::Runs(slot, running) => {
                if let Some(pool) = self.pools.get_mut(&slot.program) {
                    pool.runs(&slot, running);
                }
            }
            Order::Event(event) => {
                self.load.events.fetch_sub(1, Ordering::Relaxed);
                self.load.bytes.fetch_sub(event.payload.len(), Ordering::Relaxed);
                self.accept(event);
            }
        }
    }

    fn plan(&mut self, listeners: Vec<(ProgramName, GroupName, ListenerSpec)>) {
        let mut old = std::mem::take(&mut self.pools);
        let mut all = Subscription::default();
        for (program, group, spec) in listeners {
            let subscription = Subscription::read(&spec.events);
            all = all.with(subscription);
            let (name, buffer_size) = (group.as_str().to_owned(), spec.buffer_size as usize);
            let pool = match old.remove(&program) {
                Some(mut pool) => {
                    (pool.name, pool.subscription, pool.buffer_size) = (name, subscription, buffer_size);
                    pool
                }
                None => Pool::new(name, subscription, buffer_size),
            };
            self.pools.insert(program, pool);
        }
        self.wires.retain(|slot, _| self.pools.contains_key(&slot.program));
        self.ticks.follow(all, epoch_ms());
    }

    fn attach(&mut self, slot: SlotId, pid: i32, stdin: OwnedFd, stdout: OwnedFd) {
        self.detach(&slot);
        let now = self.now();
        let Some(pool) = self.pools.get_mut(&slot.program) else { return };
        let wire = Sender::from_owned_fd(stdin).and_then(|stdin| Ok((stdin, Receiver::from_owned_fd(stdout)?)));
        match wire {
            Ok((stdin, stdout)) => {
                tell(pool.attach(slot.clone(), format!("{slot} (pid {pid})"), now));
                self.wires.insert(slot, Wire { stdin, stdout, owed: Vec::new(), written: 0, ended: false });
            }
            Err(error) => tracing::error!("{slot}: its pipes cannot be watched, so it gets no events in this life: {error}"),
        }
    }

    fn detach(&mut self, slot: &SlotId) {
        // It may have taken an event before it went.
        self.read_last_words(slot);
        let now = self.now();
        self.wires.remove(slot);
        if let Some(pool) = self.pools.get_mut(&slot.program) {
            tell(pool.detach(slot, now));
        }
    }

    fn accept(&mut self, event: Event) {
        let now = self.now();
        // As with Supervisor, an event that nobody gets has no number.
        let mut taken = false;
        for pool in self.pools.values_mut().filter(|pool| pool.subscription.has(event.kind)) {
            tell(pool.accept(event.clone(), self.serial, now));
            taken = true;
        }
        self.serial += u64::from(taken);
        // Not only at the end of a round: a burst must not overflow a buffer whose listeners wait for work.
        self.deal();
    }

    fn deal(&mut self) {
        let now = self.now();
        let mut busy = Vec::new();
        for pool in self.pools.values_mut() {
            while let Some((slot, envelope)) = pool.next(&self.identifier, now) {
                if let Some(wire) = self.wires.get_mut(&slot) {
                    (wire.owed, wire.written) = (envelope.into_bytes(), 0);
                }
                busy.push(slot);
            }
        }
        for slot in busy {
            self.write(&slot);
        }
    }

    /// Reads what a listener has said, if it is known to have said something; once, so that none holds up the others.
    fn read(&mut self, slot: &SlotId) {
        let now = self.now();
        let (Some(wire), Some(pool)) = (self.wires.get_mut(slot), self.pools.get_mut(&slot.program)) else { return };
        let mut buffer = [0; BUFFER];
        match wire.stdout.try_read(&mut buffer) {
            Ok(0) => wire.ended = true,
            Ok(bytes) => pool.heard(slot, &buffer[..bytes], now).into_iter().for_each(|word| tell(Some(word))),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                tracing::warn!("{slot}: what it says cannot be read: {error}");
                wire.ended = true;
            }
        }
    }

    /// Reads all that a listener said before it went.
    fn read_last_words(&mut self, slot: &SlotId) {
        let now = self.now();
        let (Some(wire), Some(pool)) = (self.wires.get_mut(slot), self.pools.get_mut(&slot.program)) else { return };
        let mut buffer = [0; BUFFER];
        for _ in 0..LAST_WORDS / BUFFER {
            // Straight from the pipe: what tokio knows of its readiness may be older than these words.
            match nix::unistd::read(wire.stdout.as_fd(), &mut buffer) {
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => return,
                Ok(bytes) => pool.heard(slot, &buffer[..bytes], now).into_iter().for_each(|word| tell(Some(word))),
            }
        }
    }

    /// Writes what a listener is owed, as far as it goes.
    fn write(&mut self, slot: &SlotId) {
        let now = self.now();
        let Some(wire) = self.wires.get_mut(slot) else { return };
        while wire.written < wire.owed.len() {
            match wire.stdin.try_write(&wire.owed[wire.written..]) {
                Ok(bytes) => wire.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!("{slot}: an event cannot be sent to it: {error}");
                    wire.owed = Vec::new();
                    if let Some(pool) = self.pools.get_mut(&slot.program) {
                        tell(pool.deafened(slot, now));
                    }
                    return;
                }
            }
        }
        wire.owed = Vec::new();
    }
}

/// Comes back with a listener that has said something, or that can be written to again.
async fn stirred(wires: &BTreeMap<SlotId, Wire>) -> SlotId {
    std::future::poll_fn(|cx| {
        for (slot, wire) in wires {
            let says = !wire.ended && wire.stdout.poll_read_ready(cx).is_ready();
            let hears = wire.written < wire.owed.len() && wire.stdin.poll_write_ready(cx).is_ready();
            if says || hears {
                return Poll::Ready(slot.clone());
            }
        }
        Poll::Pending
    })
    .await
}

fn tell(word: Option<Word>) {
    match word {
        None => {}
        Some(Word::Warn(text)) => tracing::warn!("{text}"),
        Some(Word::Error(text)) => tracing::error!("{text}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "TICKs are moments of the wall clock; nothing else here looks at it")]
fn epoch_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The TICKs that somebody subscribes to, each with the multiple of its period that lies behind.
#[derive(Debug, Default)]
struct Ticks(Vec<(EventType, u64)>);

impl Ticks {
    fn follow(&mut self, subscription: Subscription, now_ms: u64) {
        let old = std::mem::take(&mut self.0);
        let known = |kind: EventType| old.iter().find(|(other, _)| *other == kind).map(|(_, last)| *last);
        self.0 = EventType::ALL
            .into_iter()
            .filter(|kind| subscription.has(*kind))
            .filter_map(|kind| Some((kind, known(kind).unwrap_or(slice(kind.period()?, now_ms)))))
            .collect();
    }

    /// Milliseconds until the next.
    fn next(&self, now_ms: u64) -> Option<u64> {
        let left = |(kind, _): &(EventType, u64)| kind.period().map(|period| period * 1000 - now_ms % (period * 1000));
        self.0.iter().filter_map(left).min()
    }

    /// Those whose time has come; each once, however many were slept through, as with Supervisor. A clock that was set back
    /// makes one, too.
    fn due(&mut self, now_ms: u64) -> Vec<(EventType, u64)> {
        let mut due = Vec::new();
        for (kind, last) in &mut self.0 {
            let this = kind.period().map_or(*last, |period| slice(period, now_ms));
            if this != *last {
                *last = this;
                due.push((*kind, this));
            }
        }
        due
    }
}

/// The multiple of `period` seconds that lies behind.
fn slice(period: u64, now_ms: u64) -> u64 {
    let secs = now_ms / 1000;
    secs - secs % period
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_come_at_multiples_of_their_periods_while_somebody_subscribes() {
        let subscribe = |names: &[&str]| Subscription::read(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let mut ticks = Ticks::default();
        assert_eq!(ticks.next(1234), None);
        ticks.follow(subscribe(&["TICK_5", "TICK_60"]), 118_000);
        assert_eq!(ticks.next(118_000), Some(2000));
        assert_eq!(ticks.due(119_999), []);
        assert_eq!(ticks.due(120_000), [(EventType::Tick5, 120), (EventType::Tick60, 120)]);
        assert_eq!(ticks.due(121_000), []);
        assert_eq!(ticks.due(137_000), [(EventType::Tick5, 135)]);
        ticks.follow(subscribe(&["EVENT"]), 139_000);
        assert_eq!(ticks.due(140_000), [(EventType::Tick5, 140)], "what goes on is not begun anew");
        ticks.follow(subscribe(&["PROCESS_STATE"]), 140_000);
        assert_eq!(ticks.next(140_000), None);
    }

    /// Without the loop, so that nothing is read before the end is heard of.
    #[test]
    fn an_event_that_was_taken_with_the_last_words_is_not_sent_again() {
        use nix::fcntl::OFlag;
        use nix::unistd::{pipe2, write};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let pipe = || pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
            let slot = SlotId::new(&ProgramName::new("tape"), 0);
            let spec = ListenerSpec { events: vec!["TICK".into()], buffer_size: 10 };
            let mut dealer = Dealer::new("s".into(), Arc::default());
            dealer.obey(Order::Plan(vec![(slot.program.clone(), GroupName::new("tape"), spec)]));
            for last_words in ["RESULT 2\nOK", "RESULT 2\nO"] {
                let ((_stdin, ours_in), (ours_out, stdout)) = (pipe(), pipe());
                dealer.obey(Order::Attach { slot: slot.clone(), pid: 1, stdin: ours_in, stdout: ours_out });
                dealer.obey(Order::Runs(slot.clone(), true));
                write(&stdout, b"READY\n").unwrap();
                dealer.read_last_words(&slot);
                dealer.accept(Event::tick(EventType::Tick5, 5));
                write(&stdout, last_words.as_bytes()).unwrap();
                dealer.obey(Order::Detach(slot.clone()));
                let waits = dealer.pools.values().map(Pool::waiting).sum::<usize>();
                assert_eq!(waits, usize::from(last_words != "RESULT 2\nOK"), "{last_words}");
            }
        });
    }
}
