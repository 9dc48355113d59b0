//! Who has a place in the house, and who gives it up when it is full.
//!
//! Clients of Supervisor keep a connection open for their whole life and ask once an hour, so a connection that is idle
//! between two requests is never closed for being idle. It is closed when somebody else needs its place: the one that has been
//! idle longest goes first. One that has not yet said what it wants has a time limit instead (`Life`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// All places.
#[derive(Debug)]
pub struct Seats {
    all: usize,
    onlookers: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    seats: HashMap<u64, Sitter>,
    next: u64,
    /// Counts the beginnings of idleness, so that they can be compared.
    order: u64,
}

#[derive(Debug)]
struct Sitter {
    onlooker: bool,
    /// The number of the moment since when it is idle.
    idle: Option<u64>,
    leave: Arc<Notify>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    number: u64,
    seats: Arc<Seats>,
    leave: Arc<Notify>,
}

impl Seats {
    /// `onlookers`: how many of `all` places those may have who only look on, or of whom nothing is known.
    pub fn new(all: usize, onlookers: usize) -> Seats {
        Seats { all, onlookers, taken: Mutex::default() }
    }

    /// A place; `None` if the house is full of people who are busy. An onlooker never takes an operator's.
    pub fn take(self: &Arc<Seats>, onlooker: bool) -> Option<Seat> {
        let mut taken = self.lock();
        let looking_on = taken.seats.values().filter(|sitter| sitter.onlooker).count();
        if taken.seats.len() >= self.all || onlooker && looking_on >= self.onlookers {
            let idle = taken.seats.iter().filter(|(_, sitter)| sitter.onlooker || !onlooker);
            // Onlookers first.
            let first = idle.filter_map(|(number, sitter)| Some((!sitter.onlooker, sitter.idle?, *number))).min();
            let (_, _, number) = first?;
            if let Some(sitter) = taken.seats.remove(&number) {
                sitter.leave.notify_one();
            }
        }
        let (number, leave) = (taken.next, Arc::new(Notify::new()));
        taken.next += 1;
        taken.seats.insert(number, Sitter { onlooker, idle: None, leave: Arc::clone(&leave) });
        drop(taken);
        Some(Seat { number, seats: Arc::clone(self), leave })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Comes back when somebody else needs the place.
    pub async fn must_leave(&self) {
        self.leave.notified().await;
    }

    fn set_idle(&self, is_idle: bool) {
        let mut taken = self.seats.lock();
        taken.order += 1;
        let order = taken.order;
        if let Some(sitter) = taken.seats.get_mut(&self.number) {
            sitter.idle = is_idle.then_some(order);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().seats.remove(&self.number);
    }
}

/// What a connection is doing.
#[derive(Debug)]
pub struct Life {
    stage: AtomicU8,
    changed: Notify,
    pub seat: Seat,
}

/// It owes us the head of a request, from its first byte on; the first request from the beginning.
const OWES_HEAD: u8 = 0;
const BUSY: u8 = 1;
const IDLE: u8 = 2;

impl Life {
    pub fn new(seat: Seat) -> Life {
        Life { stage: AtomicU8::new(OWES_HEAD), changed: Notify::new(), seat }
    }

    /// Bytes have come in.
    pub fn heard(&self) {
        if self.stage.compare_exchange(IDLE, OWES_HEAD, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.seat.set_idle(false);
            self.changed.notify_one();
        }
    }

    /// A request's head is complete. It is busy until what is returned is dropped.
    pub fn begin(self: &Arc<Life>) -> Busy {
        self.stage.store(BUSY, Ordering::Release);
        self.seat.set_idle(false);
        self.changed.notify_one();
        Busy(Arc::clone(self))
    }

    /// Comes back when a head has been owed for `patience`.
    pub async fn overdue(&self, patience: std::time::Duration) {
        loop {
            if self.stage.load(Ordering::Acquire) == OWES_HEAD {
                tokio::select! {
                    () = tokio::time::sleep(patience) => return,
                    () = self.changed.notified() => {}
                }
            } else {
                self.changed.notified().await;
            }
        }
    }
}

/// A request in hand, up to the last byte of its answer.
#[derive(Debug)]
pub struct Busy(Arc<Life>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.stage.store(IDLE, Ordering::Release);
        self.0.seat.set_idle(true);
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn leaves(life: &Life) -> bool {
        life.seat.must_leave().now_or_never().is_some()
    }

    #[test]
    fn a_full_house_asks_the_one_to_leave_who_has_been_idle_longest() {
        let seats = Arc::new(Seats::new(3, 2));
        let take = |onlooker| seats.take(onlooker).map(|seat| Arc::new(Life::new(seat)));
        let (first, second) = (take(true).expect("free"), take(true).expect("free"));
        assert!(take(true).is_none(), "both onlookers are busy");
        let operator = take(false).expect("free");
        assert!(take(false).is_none(), "all are busy");
        drop(operator.begin());
        drop(second.begin());
        drop(first.begin());
        let third = take(true).expect("one makes way");
        assert!(leaves(&second) && !leaves(&first) && !leaves(&operator));
        let _fourth = take(false).expect("an onlooker makes way before an operator");
        assert!(leaves(&first) && !leaves(&operator));
        assert!(take(true).is_none(), "an onlooker never takes an operator's place");
        drop((second, third));
        assert!(take(true).is_some());
    }
}
