//! Asks what time it is; nobody else does.
//!
//! Deadlines run on CLOCK_MONOTONIC, which does not count the time a machine sleeps: after a suspend no worker is "hung"
//! for eight hours. What people read is the wall clock.

use crate::model::time::{Moment, Now, Stamp};
use nix::time::{ClockId, clock_gettime};

/// Both clocks, read together. Never fails: these two clocks exist on every Linux.
pub fn now() -> Now {
    let moment = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has a monotonic clock");
    let stamp = clock_gettime(ClockId::CLOCK_REALTIME).expect("Linux has a wall clock");
    Now {
        moment: Moment(u64::try_from(moment.tv_sec()).unwrap_or(0) * 1000 + moment.tv_nsec() as u64 / 1_000_000),
        stamp: Stamp(stamp.tv_sec() * 1000 + stamp.tv_nsec() / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_run_forward_and_know_the_century() {
        let (a, b) = (now(), now());
        assert!(b.moment >= a.moment);
        assert!(a.stamp > Stamp(1_700_000_000_000));
    }
}
