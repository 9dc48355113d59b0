//! The stop ladder: ask, wait, ask again, insist.
//!
//! A worker is asked with the signals of its rungs, each repeated while its wait lasts, because a signal can be lost in
//! a worker (php-amqp drops one that falls due in its time-out exception), until it shows that it has heard. After the last wait comes KILL, again and
//! again, so every stop ends. The ladder only computes the next act and its date: sending is an effect, and dying is a
//! fact that comes back as `Event::Ended`.

use super::restart::SHORTEST;
use crate::model::notice::Why;
use crate::model::signal::Signal;
use crate::model::spec::StopSpec;
use crate::model::time::{Moment, Span};
use serde::{Deserialize, Serialize};

/// A stop under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stop {
    pub(super) why: Why,
    /// In words, as shown: `recycled: jobs 1412 of 1412`.
    pub(super) text: String,
    pub(super) began: Moment,
    /// Index of the rung we stand on; beyond the last: KILL.
    rung: usize,
    rung_began: Moment,
    /// When this rung's wait is over.
    until: Moment,
    resend_at: Option<Moment>,
    /// In words, once we had to kill.
    pub(super) killed: Option<String>,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// The first signal of a rung. `after`: what was asked before it in vain, and how long ago; `None` on the first rung.
    Ask {
        signal: Signal,
        after: Option<(Signal, Span)>,
    },
    AskAgain {
        signal: Signal,
    },
    /// `first`: of the KILLs; `after` as above.
    Kill {
        first: bool,
        after: Option<(Signal, Span)>,
    },
}

impl Stop {
    /// Steps on the first rung.
    pub(super) fn begin(spec: &StopSpec, now: Moment, why: Why, text: String) -> (Stop, Act) {
        let mut stop = Stop { why, text, began: now, rung: 0, rung_began: now, until: now, resend_at: None, killed: None };
        let act = stop.stand(spec, now, None);
        (stop, act)
    }

    /// When to come back.
    pub(super) fn deadline(&self) -> Moment {
        self.resend_at.map_or(self.until, |resend| resend.min(self.until))
    }

    /// What is due at `now`, if anything is. The spec may have changed since the last call: the rungs that are there count.
    pub(super) fn due(&mut self, spec: &StopSpec, now: Moment) -> Option<Act> {
        if now >= self.until {
            let after = spec.rungs.get(self.rung).map(|rung| (rung.signal, now.since(self.rung_began)));
            self.rung = self.rung.saturating_add(1);
            Some(self.stand(spec, now, after))
        } else if self.resend_at.is_some_and(|at| now >= at) {
            let rung = spec.rungs.get(self.rung);
            self.resend_at = rung.and(next_resend(spec, now));
            rung.map(|rung| Act::AskAgain { signal: rung.signal })
        } else {
            None
        }
    }

    /// The worker asks for more time (EXTEND_TIMEOUT_USEC). Only ever prolongs the wait of a rung, and never beyond
    /// an hour after the stop began: a stop ends.
    pub(super) fn extend(&mut self, spec: &StopSpec, now: Moment, span: Span) {
        if self.rung < spec.rungs.len() && self.killed.is_none() {
            self.heard();
            let at = (now + span).min(self.began + LONGEST_EXTENSION);
            self.until = self.until.max(at);
        }
    }

    /// The worker has shown that it knows: asking again could only harm (to many a worker a second signal means "at once").
    pub(super) fn heard(&mut self) {
        self.resend_at = None;
    }

    fn stand(&mut self, spec: &StopSpec, now: Moment, after: Option<(Signal, Span)>) -> Act {
        self.rung_began = now;
        match spec.rungs.get(self.rung) {
            Some(rung) => {
                self.until = now + rung.wait.max(SHORTEST);
                self.resend_at = next_resend(spec, now);
                Act::Ask { signal: rung.signal, after }
            }
            None => {
                self.until = now + KILL_AGAIN;
                self.resend_at = None;
                Act::Kill { first: self.killed.is_none(), after }
            }
        }
    }
}

/// All the waits together: the longest that a stop takes before KILL.
pub(super) fn whole_wait(spec: &StopSpec) -> Span {
    spec.rungs.iter().fold(Span::ZERO, |sum, rung| sum + rung.wait)
}

fn next_resend(spec: &StopSpec, now: Moment) -> Option<Moment> {
    spec.resend.map(|every| now + every.max(SHORTEST_RESEND))
}

/// KILL cannot be refused, but a process in uninterruptible sleep takes its time.
const KILL_AGAIN: Span = Span::secs(10);

/// More often would be a flood.
const SHORTEST_RESEND: Span = Span::millis(100);

/// Longer requests are ignored as mistaken, and all of them together stay below this.
pub(super) const LONGEST_EXTENSION: Span = Span::secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::{Leftovers, Rung};

    fn spec(rungs: &[(Signal, u64)], resend: Option<u64>) -> StopSpec {
        StopSpec {
            rungs: rungs.iter().map(|(signal, secs)| Rung { signal: *signal, wait: Span::secs(*secs) }).collect(),
            resend: resend.map(Span::secs),
            as_group: false,
            kill_as_group: false,
            leftovers: Leftovers::Kill,
        }
    }

    /// Climbs for `secs` seconds and tells what was sent when, in seconds.
    fn climb(spec: &StopSpec, secs: u64) -> Vec<(u64, Signal)> {
        let (mut stop, act) = Stop::begin(spec, Moment(0), Why::Manual, String::new());
        let signal = |act| match act {
            Act::Ask { signal, .. } | Act::AskAgain { signal } => signal,
            Act::Kill { .. } => Signal::KILL,
        };
        let mut sent = vec![(0, signal(act))];
        while stop.deadline() <= Moment(secs * 1000) {
            let now = stop.deadline();
            sent.extend(stop.due(spec, now).map(|act| (now.0 / 1000, signal(act))));
            assert!(stop.deadline() > now, "a deadline must lie ahead");
        }
        sent
    }

    #[test]
    fn rungs_come_one_after_the_other_and_kill_repeats_until_gone() {
        let spec = spec(&[(Signal::TERM, 10), (Signal::INT, 5)], None);
        assert_eq!(climb(&spec, 35), [(0, Signal::TERM), (10, Signal::INT), (15, Signal::KILL), (25, Signal::KILL), (35, Signal::KILL)]);
    }

    #[test]
    fn the_signal_of_a_rung_is_sent_again_while_waiting() {
        let spec = spec(&[(Signal::TERM, 5)], Some(2));
        assert_eq!(climb(&spec, 6), [(0, Signal::TERM), (2, Signal::TERM), (4, Signal::TERM), (5, Signal::KILL)]);
    }

    #[test]
    fn an_extension_prolongs_a_wait_but_not_for_ever() {
        let spec = spec(&[(Signal::TERM, 10)], None);
        let (mut stop, _) = Stop::begin(&spec, Moment(0), Why::Manual, String::new());
        stop.extend(&spec, Moment(1000), Span::secs(2));
        assert_eq!(stop.deadline(), Moment(10_000), "an extension never shortens");
        stop.extend(&spec, Moment(5000), Span::secs(30));
        assert_eq!(stop.deadline(), Moment(35_000));
        stop.extend(&spec, Moment(3_500_000), Span::secs(3000));
        assert_eq!(stop.deadline(), Moment(3_600_000));
    }
}
