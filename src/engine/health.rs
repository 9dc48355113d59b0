//! Readiness and signs of life: when a worker may be trusted, and when it must be thought hung.
//!
//! Only dates and verdicts on one `Worker`; what follows of them is done in `slot`. A watchdog begins with the first
//! sign of life or with RUNNING, not with the start: booting is what readiness is for.

use super::restart::SHORTEST;
use super::slot::Cause;
use super::stop::{LONGEST_EXTENSION, whole_wait};
use super::worker::Worker;
use crate::model::notice::Why;
use crate::model::spec::Policy;
use crate::model::time::{Moment, Span};

/// What a date in the starting phase leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// It is to be trusted then.
    Trust(Moment),
    /// Without READY=1 until then it has failed.
    GiveUp(Moment),
}

/// What a starting worker is waiting for.
pub(super) fn trial(worker: &Worker, policy: &Policy) -> Trial {
    if policy.ready.notify {
        let asked = worker.started + policy.ready.timeout.max(SHORTEST);
        Trial::GiveUp(worker.extended.map_or(asked, |extended| extended.max(asked)))
    } else {
        // Supervisor: RUNNING when it has lived *longer* than startsecs.
        Trial::Trust(worker.started + policy.startsecs + SHORTEST)
    }
}

/// True if a worker that ended after `lived` had been up long enough, whether or not we had come round to say so.
/// (Supervisor's `finish`: "too quickly" is less than startsecs.)
pub(super) fn had_been_up(policy: &Policy, lived: Span) -> bool {
    !policy.ready.notify && lived >= policy.startsecs
}

/// The dates at which `hung` must be asked.
pub(super) fn dates(worker: &Worker, policy: &Policy) -> impl Iterator<Item = Moment> {
    [watchdog_date(worker), stopping_date(worker, policy), job_date(worker, policy)].into_iter().flatten()
}

/// Why the worker must be thought hung at `now`, if so.
pub(super) fn hung(worker: &Worker, policy: &Policy, now: Moment) -> Option<Cause> {
    let over = |date: Option<Moment>| date.is_some_and(|at| now >= at);
    if over(stopping_date(worker, policy)) {
        let ago = worker.said_stopping.map_or(Span::ZERO, |at| now.since(at));
        return Some(Cause::new(Why::Watchdog, format!("said it was stopping {ago} ago and did not")));
    }
    if over(watchdog_date(worker)) {
        let silent = worker.watched_since.map_or(Span::ZERO, |at| now.since(at));
        return Some(Cause::new(Why::Watchdog, format!("watchdog: no sign of life for {silent}")));
    }
    if over(job_date(worker, policy)) {
        let took = worker.job_since.map_or(Span::ZERO, |at| now.since(at));
        let job = worker.job.as_deref().unwrap_or_default();
        return Some(Cause::new(Why::JobTimeout, format!("job {job} took {took} and was not done (jobs.timeout)")));
    }
    None
}

/// The worker asks for more time: moves the date that it is waiting for, never back, and at most an hour in one go.
pub(super) fn extend(worker: &mut Worker, now: Moment, span: Span) {
    if span > LONGEST_EXTENSION {
        return;
    }
    let at = (now + span).min(worker.said_stopping.unwrap_or(worker.started) + LONGEST_EXTENSION);
    worker.extended = Some(worker.extended.map_or(at, |old| old.max(at)));
}

fn watchdog_date(worker: &Worker) -> Option<Moment> {
    // Who is on his way out of his own will has another date, below.
    let span = worker.watchdog.filter(|_| worker.said_stopping.is_none())?;
    Some(worker.watched_since? + span.max(SHORTEST))
}

fn stopping_date(worker: &Worker, policy: &Policy) -> Option<Moment> {
    let said = worker.said_stopping?;
    let at = said + whole_wait(&policy.stop).max(SHORTEST);
    Some(worker.extended.map_or(at, |extended| extended.max(at)))
}

fn job_date(worker: &Worker, policy: &Policy) -> Option<Moment> {
    let timeout = policy.jobs.timeout?;
    worker.has_job_in_hand().then_some(())?;
    Some(worker.job_since? + timeout.max(SHORTEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::RunId;
    use crate::model::time::Now;

    fn worker() -> Worker {
        Worker::new(RunId(1), 100, Now { moment: Moment(1000), ..Now::default() })
    }

    #[test]
    fn startsecs_must_be_outlived_and_ready_makes_a_time_out_of_it() {
        let mut policy = Policy::default();
        assert_eq!(trial(&worker(), &policy), Trial::Trust(Moment(2001)));
        assert!(had_been_up(&policy, Span::secs(1)) && !had_been_up(&policy, Span::millis(999)));
        policy.ready.notify = true;
        assert_eq!(trial(&worker(), &policy), Trial::GiveUp(Moment(61_000)));
        assert!(!had_been_up(&policy, Span::secs(30)));
    }

    #[test]
    fn a_watchdog_begins_with_the_first_sign_of_life_and_ends_when_it_says_it_stops() {
        let policy = Policy::default();
        let mut worker = worker();
        worker.watchdog = Some(Span::secs(5));
        assert_eq!(dates(&worker, &policy).count(), 0);
        worker.watched_since = Some(Moment(2000));
        assert_eq!(hung(&worker, &policy, Moment(6999)), None);
        assert_eq!(hung(&worker, &policy, Moment(7000)).map(|c| c.text), Some("watchdog: no sign of life for 5 s".into()));
        worker.said_stopping = Some(Moment(6000));
        assert_eq!(hung(&worker, &policy, Moment(7000)), None);
        assert_eq!(hung(&worker, &policy, Moment(16_000)).map(|c| c.text), Some("said it was stopping 10 s ago and did not".into()));
    }

    #[test]
    fn a_job_that_takes_too_long_is_named() {
        let mut policy = Policy::default();
        policy.jobs.timeout = Some(Span::secs(5));
        let mut worker = worker();
        worker.job = Some("mail-9".into());
        worker.job_since = Some(Moment(3000));
        assert_eq!(hung(&worker, &policy, Moment(7999)), None);
        let cause = hung(&worker, &policy, Moment(8000));
        assert_eq!(cause, Some(Cause::new(Why::JobTimeout, "job mail-9 took 5 s and was not done (jobs.timeout)".into())));
        worker.job = Some(String::new());
        assert_eq!(hung(&worker, &policy, Moment(8000)), None);
    }

    #[test]
    fn an_extension_above_an_hour_is_ignored() {
        let mut worker = worker();
        extend(&mut worker, Moment(2000), Span::secs(3601));
        assert_eq!(worker.extended, None);
        extend(&mut worker, Moment(2000), Span::secs(100));
        assert_eq!(worker.extended, Some(Moment(102_000)));
    }
}
