//! When a worker has had enough (jobs, memory, age), whose turn it is, and whether it is between two jobs.
//!
//! A limit makes a slot *due*; a due slot keeps working until its program's budget has room, gets its *turn*, is let
//! finish the job in hand, and only then is stopped. A rolling restart is the same road with a budget of its own. The
//! budget counts a slot as away from its turn until its new worker is RUNNING, so that a slow warm-up cannot empty
//! the pool. The stop itself is `stop`'s; that it is never a failure is seen to in `slot`.

use super::program::Program;
use super::slot::{Cause, Turn};
use super::worker::Worker;
use crate::model::notice::Why;
use crate::model::rng::Rng;
use crate::model::spec::RecycleSpec;
use crate::model::state::State;
use crate::model::time::{Moment, Now};
use crate::model::units::Bytes;

/// Draws the limits of one worker anew.
pub(super) fn draw(worker: &mut Worker, spec: &RecycleSpec, rng: &mut Rng) {
    worker.max_jobs = spec.max_jobs.map(|(low, high)| rng.between(low, high));
    worker.max_lifetime = spec.max_lifetime.map(|span| span.times(1.0 + spec.lifetime_jitter * (2.0 * rng.unit() - 1.0)));
}

/// Notes one reading of memory.
pub(super) fn note_memory(worker: &mut Worker, spec: &RecycleSpec, memory: Bytes) {
    worker.memory = Some(memory);
    let over = spec.max_memory.is_some_and(|limit| memory > limit);
    worker.samples_over = worker.samples_over << 1 | u64::from(over);
}

/// The limit that the worker has reached, if it is old enough to be recycled at all.
pub(super) fn limit_reached(worker: &Worker, spec: &RecycleSpec, now: Moment) -> Option<Cause> {
    (now >= worker.started + spec.min_lifetime).then(|| over_limit(worker, spec, now)).flatten()
}

/// When a limit may be reached without any word from the worker: by age, or because it has just grown old enough.
pub(super) fn date(worker: &Worker, spec: &RecycleSpec, now: Moment) -> Option<Moment> {
    let age = worker.max_lifetime.map(|lifetime| worker.started + lifetime.max(spec.min_lifetime));
    let floor = worker.started + spec.min_lifetime;
    let grown = (now < floor && over_limit(worker, spec, now).is_some()).then_some(floor);
    [age, grown].into_iter().flatten().min()
}

/// The words of a cause, brought up to date: it may have waited for its turn.
pub(super) fn words(cause: &Cause, worker: &Worker, spec: &RecycleSpec, now: Moment) -> String {
    // The limit may have changed on a reload, or memory come down; then what was so when it fell due is what counts.
    let now_so = match cause.why {
        Why::Jobs => jobs_words(worker).filter(|_| worker.max_jobs.is_some_and(|limit| worker.jobs >= limit)),
        Why::Memory => memory_words(worker, spec).filter(|_| memory_is_over(worker, spec)),
        Why::Lifetime => {
            let is_old = worker.max_lifetime.is_some_and(|limit| now.since(worker.started) >= limit);
            age_words(worker, now).filter(|_| is_old)
        }
        Why::Crash
        | Why::Finished
        | Why::Watchdog
        | Why::JobTimeout
        | Why::NotReady
        | Why::Manual
        | Why::Scale
        | Why::Deploy
        | Why::Removed
        | Why::Shutdown => return cause.text.clone(),
    };
    format!("recycled: {}", now_so.as_ref().unwrap_or(&cause.text))
}

/// Gives turns to due slots of `program` while its budgets have room. Returns the numbers of those who got one.
pub(super) fn give_turns(program: &mut Program, now: Now) -> Vec<u32> {
    let mut given = Vec::new();
    if program.due.is_empty() {
        return given;
    }
    let policy = &program.spec.policy;
    let own = as_count(policy.recycle.concurrency);
    let rolling = program.roll.as_ref().filter(|roll| roll.halted.is_none()).map_or(own, |roll| as_count(roll.batch));
    for number in program.due.values() {
        if program.away.len() >= own.max(rolling) {
            break;
        }
        let Some(slot) = program.slots.get_mut(number) else { continue };
        let Some(due) = slot.due.as_ref().filter(|_| slot.may_be_replaced()) else { continue };
        let budget = if due.cause.why == Why::Deploy { rolling } else { own };
        if program.away.len() < budget {
            slot.turn =
                Some(Turn { until: now.moment + policy.recycle.patience, jobs: slot.worker.as_ref().map_or(0, |worker| worker.jobs) });
            program.away.insert(*number);
            given.push(*number);
        }
    }
    given
}

/// True if the worker may be stopped now without cutting a job in half, as far as it tells; or patience is over.
pub(super) fn is_ripe(worker: &Worker, turn: &Turn, state: State, now: Moment) -> bool {
    state != State::Running || worker.is_between_jobs(now) || worker.jobs > turn.jobs || now >= turn.until
}

/// How many at once; a budget of none would keep a due worker for ever.
fn as_count(budget: u32) -> usize {
    usize::try_from(budget.max(1)).unwrap_or(usize::MAX)
}

fn over_limit(worker: &Worker, spec: &RecycleSpec, now: Moment) -> Option<Cause> {
    if worker.max_jobs.is_some_and(|limit| worker.jobs >= limit) {
        return jobs_words(worker).map(|words| Cause::new(Why::Jobs, words));
    }
    if memory_is_over(worker, spec) {
        return memory_words(worker, spec).map(|words| Cause::new(Why::Memory, words));
    }
    if worker.max_lifetime.is_some_and(|limit| now.since(worker.started) >= limit) {
        return age_words(worker, now).map(|words| Cause::new(Why::Lifetime, words));
    }
    None
}

fn memory_is_over(worker: &Worker, spec: &RecycleSpec) -> bool {
    let (k, n) = spec.memory_samples;
    let window = u64::MAX >> (64 - u32::from(n.clamp(1, 64)));
    spec.max_memory.is_some() && (worker.samples_over & window).count_ones() >= u32::from(k.clamp(1, n.max(1)))
}

fn jobs_words(worker: &Worker) -> Option<String> {
    worker.max_jobs.map(|limit| format!("jobs {} of {limit}", worker.jobs))
}

fn memory_words(worker: &Worker, spec: &RecycleSpec) -> Option<String> {
    let (memory, limit) = (worker.memory?, spec.max_memory?);
    Some(format!("memory {memory} of {limit}"))
}

fn age_words(worker: &Worker, now: Moment) -> Option<String> {
    worker.max_lifetime.map(|limit| format!("age {} of {limit}", now.since(worker.started)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::RunId;
    use crate::model::spec::Policy;
    use crate::model::time::Span;

    fn worker() -> Worker {
        Worker::new(RunId(1), 100, Now::default())
    }

    fn spec() -> RecycleSpec {
        Policy::default().recycle
    }

    #[test]
    fn the_limit_is_drawn_anew_within_its_range() {
        let spec = RecycleSpec { max_jobs: Some((1000, 2000)), max_lifetime: Some(Span::secs(1000)), ..spec() };
        let mut rng = Rng::seeded(3);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let mut worker = worker();
            draw(&mut worker, &spec, &mut rng);
            let jobs = worker.max_jobs.unwrap();
            let age = worker.max_lifetime.unwrap().0;
            assert!((1000..=2000).contains(&jobs) && (900_000..=1_100_000).contains(&age), "{jobs} {age}");
            seen.insert(jobs);
        }
        assert!(seen.len() > 50);
    }

    #[test]
    fn each_limit_names_itself() {
        let spec = RecycleSpec { max_memory: Some(Bytes::mib(128)), ..spec() };
        let mut worker = worker();
        worker.max_jobs = Some(1412);
        worker.jobs = 1411;
        assert_eq!(limit_reached(&worker, &spec, Moment(5)), None);
        worker.jobs = 1412;
        assert_eq!(limit_reached(&worker, &spec, Moment(5)).map(|c| c.text), Some("jobs 1412 of 1412".into()));
        worker.max_jobs = None;
        note_memory(&mut worker, &spec, Bytes::mib(131));
        assert_eq!(limit_reached(&worker, &spec, Moment(5)), None, "one sample is not enough");
        note_memory(&mut worker, &spec, Bytes::mib(100));
        note_memory(&mut worker, &spec, Bytes::mib(131));
        assert_eq!(limit_reached(&worker, &spec, Moment(5)).map(|c| c.text), Some("memory 131.0 MB of 128.0 MB".into()));
        worker.samples_over = 0;
        worker.max_lifetime = Some(Span::secs(6 * 3600));
        let cause = limit_reached(&worker, &spec, Moment(21_720_000)).unwrap();
        assert_eq!(words(&cause, &worker, &spec, Moment(21_720_000)), "recycled: age 6h02m of 6h00m");
    }

    #[test]
    fn min_lifetime_holds_every_limit_back_and_sets_a_date() {
        let spec = RecycleSpec { min_lifetime: Span::secs(60), ..spec() };
        let mut worker = worker();
        worker.max_jobs = Some(1);
        worker.jobs = 5;
        assert_eq!(limit_reached(&worker, &spec, Moment(59_999)), None);
        assert_eq!(date(&worker, &spec, Moment(1)), Some(Moment(60_000)));
        assert!(limit_reached(&worker, &spec, Moment(60_000)).is_some());
    }

    #[test]
    fn a_worker_that_tells_is_stopped_between_jobs_or_when_patience_is_over() {
        let turn = Turn { until: Moment(30_000), jobs: 0 };
        let mut worker = worker();
        assert!(is_ripe(&worker, &turn, State::Running, Moment(1)), "who tells nothing is not waited for");
        worker.job = Some("mail-9".into());
        assert!(!is_ripe(&worker, &turn, State::Running, Moment(1)));
        assert!(is_ripe(&worker, &turn, State::Running, Moment(30_000)));
        worker.jobs = 1;
        assert!(is_ripe(&worker, &turn, State::Running, Moment(1)));
    }
}
