//! What a rule needs at hand while it works on one slot: the time, chance, the way out for effects, and the counters of
//! the program. It decides nothing.

use super::effect::Effect;
use crate::model::name::SlotId;
use crate::model::notice::{Notice, What, Why};
use crate::model::rng::Rng;
use crate::model::time::Now;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(super) struct Desk<'a> {
    pub(super) now: Now,
    pub(super) seq: &'a mut u64,
    pub(super) rng: &'a mut Rng,
    pub(super) tally: &'a mut Tally,
    pub(super) effects: &'a mut Vec<Effect>,
}

/// Counters of one program over all its workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) jobs: u64,
    pub(super) errors: u64,
    pub(super) ended: BTreeMap<Why, u64>,
}

impl Desk<'_> {
    /// Tells what has happened.
    pub(super) fn tell(&mut self, about: &str, slot: Option<&SlotId>, what: What) {
        tell(self.effects, self.seq, self.now, about, slot, what);
    }

    /// A number that is larger than every one before: the place in a queue. (Every mark is told, so the count of
    /// notices serves.)
    pub(super) fn next_number(&self) -> u64 {
        *self.seq + 1
    }
}

/// Numbers a notice and sends it out.
pub(super) fn tell(effects: &mut Vec<Effect>, seq: &mut u64, now: Now, about: &str, slot: Option<&SlotId>, what: What) {
    *seq += 1;
    effects.push(Effect::Tell(Notice { seq: *seq, at: now.stamp, about: about.to_owned(), slot: slot.cloned(), what }));
}
