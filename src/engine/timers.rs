//! One table of deadlines: who is to be looked at, and when.
//!
//! A timer here is a date, not a task that sleeps. Each slot and each program has at most one entry, the nearest of
//! its own dates; whoever falls due looks at all of them. So a timer cannot be forgotten or fire for a dead worker,
//! and the table is no larger than the fleet.

use crate::model::name::{ProgramName, SlotId};
use crate::model::time::Moment;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Whose date it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Key {
    Program(ProgramName),
    Slot(SlotId),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(Key, Moment)>", into = "Vec<(Key, Moment)>")]
pub(super) struct Timers {
    dates: BTreeMap<Key, Moment>,
    /// The same, by time.
    queue: BTreeSet<(Moment, Key)>,
}

impl Timers {
    /// Sets, moves or (`None`) removes the date of `key`.
    pub(super) fn set(&mut self, key: Key, at: Option<Moment>) {
        let old = match at {
            Some(at) if self.dates.get(&key) == Some(&at) => return,
            Some(at) => self.dates.insert(key.clone(), at),
            None => self.dates.remove(&key),
        };
        let key = match old {
            Some(old) => {
                let entry = (old, key);
                self.queue.remove(&entry);
                entry.1
            }
            None => key,
        };
        if let Some(at) = at {
            self.queue.insert((at, key));
        }
    }

    /// The nearest date of all.
    pub(super) fn next(&self) -> Option<Moment> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes out everything that is due at `now`.
    pub(super) fn take_due(&mut self, now: Moment) -> Vec<Key> {
        let mut due = Vec::new();
        while self.queue.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.queue.pop_first() {
                self.dates.remove(&key);
                due.push(key);
            }
        }
        due
    }
}

impl From<Vec<(Key, Moment)>> for Timers {
    fn from(entries: Vec<(Key, Moment)>) -> Timers {
        let mut timers = Timers::default();
        for (key, at) in entries {
            timers.set(key, Some(at));
        }
        timers
    }
}

impl From<Timers> for Vec<(Key, Moment)> {
    fn from(timers: Timers) -> Self {
        timers.dates.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::Program(ProgramName::new(name))
    }

    #[test]
    fn a_moved_date_leaves_no_trace_and_a_removed_one_never_falls_due() {
        let mut timers = Timers::default();
        timers.set(key("a"), Some(Moment(50)));
        timers.set(key("a"), Some(Moment(20)));
        timers.set(key("b"), Some(Moment(30)));
        timers.set(key("c"), Some(Moment(10)));
        timers.set(key("c"), None);
        assert_eq!(timers.next(), Some(Moment(20)));
        assert_eq!(timers.take_due(Moment(19)), []);
        assert_eq!(timers.take_due(Moment(60)), [key("a"), key("b")]);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn the_table_comes_back_equal_from_json() {
        let mut timers = Timers::default();
        timers.set(Key::Slot(SlotId::new(&ProgramName::new("a"), 3)), Some(Moment(7)));
        timers.set(key("b"), Some(Moment(5)));
        let text = serde_json::to_string(&timers).unwrap();
        assert_eq!(serde_json::from_str::<Timers>(&text).unwrap(), timers);
    }
}
