//! Supervisor's event listeners: programs that are told what happens, by its protocol.
//!
//! `Pools` is the handle to a thread of its own; it is cheap to clone and never waits. Notices are turned into events where
//! they are told (payloads name pids and states of that moment), and only those that somebody subscribes to travel
//! on. The thread deals them out, reads answers, and makes TICKs while somebody subscribes to them. Nobody else here knows of
//! Supervisor's event types, and this room knows nothing of how listeners are started: it is given the ends of their pipes.

pub mod payload;
mod pool;
pub mod protocol;
mod thread;

use crate::listeners::payload::{Chunk, Event, EventType, Subscription, Teller};
use crate::listeners::thread::Order;
use crate::model::name::{GroupName, ProgramName, SlotId};
use crate::model::notice::{Notice, What};
use crate::model::spec::ListenerSpec;
use crate::model::state::State;
use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::mpsc::{self, UnboundedSender};

/// Events on their way to the thread, and their bytes. More are dropped, counted, and told.
const MOST_EVENTS: usize = 10_000;
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The handle. The thread ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Pools {
    shared: Arc<Shared>,
    orders: UnboundedSender<Order>,
}

#[derive(Debug)]
struct Shared {
    /// What anybody subscribes to, as bits.
    wanted: AtomicU32,
    load: Arc<Load>,
    said: Mutex<Said>,
}

/// What has been told so far.
#[derive(Debug, Default)]
struct Said {
    teller: Teller,
    listeners: HashSet<ProgramName>,
}

/// What is on its way to the thread.
#[derive(Debug, Default)]
struct Load {
    events: AtomicUsize,
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl Pools {
    /// Starts the thread. `identifier`: `server:` in every event.
    pub fn start(identifier: &str) -> io::Result<Pools> {
        let (orders, queue) = mpsc::unbounded_channel();
        let load = Arc::new(Load::default());
        let shared = Shared { wanted: AtomicU32::new(0), load: load.clone(), said: Mutex::default() };
        thread::start(identifier.to_owned(), queue, load)?;
        Ok(Pools { shared: Arc::new(shared), orders })
    }

    /// The listeners in force. Pools that stay keep their numbers and what waits; those that are not named are gone.
    pub fn plan(&self, listeners: Vec<(ProgramName, GroupName, ListenerSpec)>) {
        let read = |spec: &ListenerSpec| Subscription::read(&spec.events);
        let wanted = listeners.iter().fold(Subscription::default(), |all, (_, _, spec)| all.with(read(spec)));
        self.said().listeners = listeners.iter().map(|(program, ..)| program.clone()).collect();
        self.give(Order::Plan(listeners));
        self.shared.wanted.store(wanted.bits(), Ordering::Release);
    }

    /// A listener's new life: the ends of its standard input and output that are ours. To be called before it is said to be RUNNING.
    pub fn attach(&self, slot: SlotId, pid: i32, stdin: OwnedFd, stdout: OwnedFd) {
        self.give(Order::Attach { slot, pid, stdin, stdout });
    }

    /// A listener's life is over. What it said last is still heard.
    pub fn detach(&self, slot: SlotId) {
        self.give(Order::Detach(slot));
    }

    /// Something happened. All notices are to be told, in order, also those of before the first plan.
    pub fn notice(&self, notice: &Notice) {
        let mut said = self.said();
        // Given while the lock is held, so that events keep the order of notices.
        said.teller.notice(notice, |event| self.tell(event));
        if let (What::State { to, .. }, Some(slot)) = (&notice.what, &notice.slot)
            && said.listeners.contains(&slot.program)
        {
            self.give(Order::Runs(slot.clone(), *to == State::Running));
        }
    }

    /// A piece of output of a stream with `events` (PROCESS_LOG).
    pub fn output(&self, chunk: &Chunk) {
        if self.wants(EventType::ProcessLogStdout) || self.wants(EventType::ProcessLogStderr) {
            let event = self.said().teller.output(chunk);
            event.into_iter().for_each(|event| self.tell(event));
        }
    }

    /// What a worker wrote between the capture tokens (PROCESS_COMMUNICATION).
    pub fn captured(&self, chunk: &Chunk) {
        if self.wants(EventType::ProcessCommunicationStdout) || self.wants(EventType::ProcessCommunicationStderr) {
            let event = self.said().teller.captured(chunk);
            event.into_iter().for_each(|event| self.tell(event));
        }
    }

    /// The daemon is up (SUPERVISOR_STATE_CHANGE_RUNNING): to be called once the first plan is in force.
    pub fn running(&self) {
        self.tell(Event::new(EventType::SupervisorStateChangeRunning, ""));
    }

    /// The daemon begins to shut down, or to start anew (SUPERVISOR_STATE_CHANGE_STOPPING).
    pub fn stopping(&self) {
        self.tell(Event::new(EventType::SupervisorStateChangeStopping, ""));
    }

    fn wants(&self, kind: EventType) -> bool {
        Subscription::of_bits(self.shared.wanted.load(Ordering::Acquire)).has(kind)
    }

    fn tell(&self, event: Event) {
        if !self.wants(event.kind) {
            return;
        }
        let (load, bytes) = (&self.shared.load, event.payload.len());
        if load.events.load(Ordering::Relaxed) >= MOST_EVENTS || load.bytes.load(Ordering::Relaxed) >= MOST_BYTES {
            load.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        load.events.fetch_add(1, Ordering::Relaxed);
        load.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.give(Order::Event(event));
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.shared.said.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn give(&self, order: Order) {
        // The thread ends only with the last handle.
        let _ = self.orders.send(order);
    }
}
