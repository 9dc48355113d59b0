//! What an end means, and how long to wait: backoff, jitter, the FATAL rule. Arithmetic only.
//!
//! Where a definition says nothing it is Supervisor's: waits of 1, 2, 3 … seconds after failed starts, `startretries` of
//! them forgiven, and a restart at once, uncounted, of a worker that had been RUNNING. That a slot *does* start again is
//! for `reconcile`; that a stop was asked for is known in `slot`, and such an end never comes here.

use crate::model::exit::Exit;
use crate::model::rng::Rng;
use crate::model::spec::{Autorestart, BackoffRule, Policy};
use crate::model::time::Span;
use serde::{Deserialize, Serialize};

/// What to do after a worker ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// At once, without counting it.
    Again,
    /// After a pause; neither crash nor backoff (`restart_pause`).
    After(Span),
    /// Not by itself.
    Rest,
}

/// True if the exit is one that the definition expects. Death by signal never is.
pub(super) fn is_expected(policy: &Policy, exit: Exit) -> bool {
    match exit {
        Exit::Code(code) => policy.exitcodes.contains(&code),
        Exit::Signal(_) | Exit::Unknown => false,
    }
}

/// The judgement on a worker that was trusted.
pub(super) fn verdict(policy: &Policy, exit: Exit) -> Verdict {
    let expected = is_expected(policy, exit);
    match (policy.autorestart, policy.restart_pause) {
        (Autorestart::Never, _) => Verdict::Rest,
        (Autorestart::Unexpected | Autorestart::Always, Some(pause)) if expected => Verdict::After(pause.max(SHORTEST)),
        (Autorestart::Unexpected, _) if expected => Verdict::Rest,
        (Autorestart::Unexpected | Autorestart::Always, _) => Verdict::Again,
    }
}

/// True if this exit, before the worker was trusted, counts as a failed start.
pub(super) fn fails_start(policy: &Policy, exit: Exit) -> bool {
    match exit {
        // Run-until-empty: it found nothing to do and said so with its exit code.
        Exit::Code(_) => !(policy.restart_pause.is_some() && is_expected(policy, exit)),
        Exit::Signal(_) => true,
        // We were not there to see it: neither success nor failure.
        Exit::Unknown => false,
    }
}

/// True if after `failures` failed starts in a row no other is tried. `startretries=3` gives four attempts, as in Supervisor.
pub(super) fn gives_up(startretries: Option<u32>, failures: u32) -> bool {
    startretries.is_some_and(|retries| failures > retries)
}

/// The wait after the `failures`th failed start in a row (1 is the first).
pub(super) fn delay(rule: &BackoffRule, failures: u32, rng: &mut Rng) -> Span {
    let n = failures.max(1);
    match *rule {
        BackoffRule::Linear => Span::secs(u64::from(n)),
        BackoffRule::Exponential { initial, max, factor, jitter } => {
            let power = i32::try_from(n - 1).unwrap_or(i32::MAX);
            let (initial, max) = (initial.0 as f64, max.0 as f64);
            let grown = (initial * factor.powi(power)).max(initial).min(max);
            // Even ± jitter, so that workers which fell together do not rise together.
            let wait = grown * (1.0 + jitter * (2.0 * rng.unit() - 1.0));
            // Rounded up, once; `as` saturates.
            Span(wait.ceil() as u64).max(SHORTEST)
        }
    }
}

/// `1st`, `2nd`, `3rd`, `4th`, `11th` …
pub(super) fn nth(n: u32) -> String {
    let ending = match (n % 10, n % 100) {
        (1, rest) if rest != 11 => "st",
        (2, rest) if rest != 12 => "nd",
        (3, rest) if rest != 13 => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

/// No date lies nearer than this: a wait of nothing would be due again in the step that sets it.
pub(super) const SHORTEST: Span = Span::millis(1);

/// How long to wait before a start that we had no room for is tried again. Thousands of slots may be waiting for it.
pub(super) const NO_ROOM_RETRY: Span = Span::secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::signal::Signal;

    #[test]
    fn the_linear_rule_is_supervisors_one_two_three_seconds() {
        let mut rng = Rng::seeded(1);
        let waits: Vec<Span> = (1..=4).map(|n| delay(&BackoffRule::Linear, n, &mut rng)).collect();
        assert_eq!(waits, [Span::secs(1), Span::secs(2), Span::secs(3), Span::secs(4)]);
    }

    #[test]
    fn startretries_three_gives_four_attempts() {
        assert_eq!((1..=5).map(|n| gives_up(Some(3), n)).collect::<Vec<_>>(), [false, false, false, true, true]);
        assert!(gives_up(Some(0), 1));
        assert!(!gives_up(None, u32::MAX));
    }

    #[test]
    fn the_exponential_rule_grows_to_its_bound_and_jitter_stays_within() {
        let mut rng = Rng::seeded(2);
        let rule = |jitter| BackoffRule::Exponential { initial: Span::secs(1), max: Span::secs(60), factor: 2.0, jitter };
        let waits: Vec<u64> = [1, 2, 3, 7, 99, u32::MAX].iter().map(|n| delay(&rule(0.0), *n, &mut rng).0).collect();
        assert_eq!(waits, [1000, 2000, 4000, 60_000, 60_000, 60_000]);
        for _ in 0..1000 {
            let wait = delay(&rule(0.1), 3, &mut rng).0;
            assert!((3600..=4400).contains(&wait), "{wait}");
        }
    }

    #[test]
    fn exits_are_judged_by_autorestart_and_exitcodes() {
        let killed = Exit::Signal(Signal::KILL);
        let with = |autorestart, pause| Policy { autorestart, restart_pause: pause, ..Policy::default() };
        let unexpected = with(Autorestart::Unexpected, None);
        assert_eq!(verdict(&unexpected, Exit::Code(0)), Verdict::Rest);
        assert_eq!(verdict(&unexpected, Exit::Code(1)), Verdict::Again);
        assert_eq!(verdict(&unexpected, killed), Verdict::Again);
        assert_eq!(verdict(&unexpected, Exit::Unknown), Verdict::Again);
        assert_eq!(verdict(&with(Autorestart::Always, None), Exit::Code(0)), Verdict::Again);
        assert_eq!(verdict(&with(Autorestart::Never, None), killed), Verdict::Rest);
        let paused = with(Autorestart::Unexpected, Some(Span::secs(5)));
        assert_eq!(verdict(&paused, Exit::Code(0)), Verdict::After(Span::secs(5)));
        assert_eq!(verdict(&paused, Exit::Code(1)), Verdict::Again);
    }

    #[test]
    fn a_clean_exit_too_early_fails_the_start_unless_there_is_a_restart_pause() {
        let plain = Policy::default();
        assert!(fails_start(&plain, Exit::Code(0)) && fails_start(&plain, Exit::Code(1)));
        assert!(!fails_start(&plain, Exit::Unknown));
        let paused = Policy { restart_pause: Some(Span::secs(5)), ..Policy::default() };
        assert!(!fails_start(&paused, Exit::Code(0)) && fails_start(&paused, Exit::Code(1)));
    }

    #[test]
    fn ordinals_read_as_people_say_them() {
        assert_eq!([1, 2, 3, 4, 11, 12, 13, 21, 112].map(nth), ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th"]);
    }
}
