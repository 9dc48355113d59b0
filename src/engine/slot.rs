//! One slot: what a fact does to it.
//!
//! The heart is `happen`: one `match` over (state, happening) without a wildcard, so that a new state asks every question
//! again. Facts change state and counts, and may say that a worker must go (`replace`) or that a new start is called
//! for (`fresh`). They start and stop nothing: that is `reconcile`, which alone calls `launch` and `stop` below.

use super::desk::Desk;
use super::health::{self, Trial};
use super::restart::{self, Verdict};
use super::stop::{Act, LONGEST_EXTENSION, Stop};
use super::worker::Worker;
use super::{effect::Effect, event::Sample, recycle};
use crate::model::exit::Exit;
use crate::model::launch::SpawnFault;
use crate::model::name::{RunId, SlotId};
use crate::model::notice::{What, Why};
use crate::model::notify::Notify;
use crate::model::signal::Signal;
use crate::model::spec::{Autorestart, Leftovers, ProgramSpec};
use crate::model::state::State;
use crate::model::time::{Moment, Now, Span, Stamp};
use crate::model::view::EndView;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// A numbered place of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Slot {
    pub(super) id: SlotId,
    pub(super) label: String,
    pub(super) process: String,
    /// Its ways are open (`Effect::Open` has been given).
    pub(super) opened: bool,
    pub(super) state: State,
    /// The state that people were last told of. It differs only while a lock is tried again in silence.
    pub(super) told: State,
    pub(super) reason: String,
    pub(super) since: Stamp,
    /// What a person wants of it.
    pub(super) want: Want,
    /// It shall start as soon as it is empty, whatever lies behind it.
    pub(super) fresh: bool,
    /// It is to be forgotten as soon as it is empty.
    pub(super) leaving: Option<Cause>,
    /// The worker in it must go, and another come.
    pub(super) replace: Option<Cause>,
    /// Who asked for the stop, in words.
    pub(super) stopped_by: String,
    /// The current life (from the asking on), or the last one.
    pub(super) run: Option<RunId>,
    pub(super) worker: Option<Worker>,
    /// The totals of the worker before.
    past: Option<Past>,
    /// What the end of the last worker means, kept while its leftovers are ended.
    fate: Option<Fate>,
    /// The date of the state: the next try, the next KILL of leftovers.
    pub(super) until: Option<Moment>,
    /// The same by the clock of people, as far as it could be told when it was set.
    pub(super) next_try: Option<Stamp>,
    /// Failed starts in a row.
    pub(super) failures: u32,
    pub(super) due: Option<Due>,
    pub(super) turn: Option<Turn>,
    pub(super) started: Stamp,
    pub(super) stopped: Stamp,
    pub(super) exit: Option<Exit>,
    pub(super) starts: u64,
    pub(super) total_jobs: u64,
    pub(super) log_trouble: Option<String>,
    /// Newest first.
    pub(super) history: VecDeque<EndView>,
}

/// What a person wants of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Want {
    Up,
    Down,
}

/// Why, as a word to count by and in words to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cause {
    pub(super) why: Why,
    pub(super) text: String,
}

/// It is to be replaced when its turn comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Due {
    /// Its place in the program's queue.
    pub(super) order: u64,
    pub(super) cause: Cause,
}

/// Its turn has come; the job in hand is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) until: Moment,
    /// Jobs done when the turn came.
    pub(super) jobs: u64,
}

/// What a worker had done when it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Past {
    run: RunId,
    jobs: u64,
    errors: u64,
}

/// What an end comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    /// We asked for it.
    Stopped {
        text: String,
    },
    FailedStart {
        text: String,
    },
    Exited {
        text: String,
        verdict: Verdict,
    },
}

/// What can happen to a slot.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Spawned {
        pid: i32,
    },
    SpawnFailed {
        fault: SpawnFault,
    },
    LockBusy {
        holder: Option<i32>,
    },
    Ended {
        exit: Exit,
        leftovers: u32,
    },
    Cleared,
    Told {
        told: Notify,
    },
    Counted {
        done: u64,
        failed: u64,
        job: Option<String>,
    },
    Measured {
        sample: Sample,
    },
    /// Time has passed; a date may be due.
    Time,
}

impl Cause {
    pub(super) fn new(why: Why, text: String) -> Cause {
        Cause { why, text }
    }
}

impl Slot {
    /// A slot that has never run.
    pub(super) fn new(spec: &ProgramSpec, number: u32, want: Want, reason: String, now: Now) -> Slot {
        Slot {
            id: SlotId::new(&spec.name, number),
            label: spec.label(number),
            process: spec.process(number),
            opened: false,
            state: State::Stopped,
            told: State::Stopped,
            reason,
            since: now.stamp,
            want,
            fresh: false,
            leaving: None,
            replace: None,
            stopped_by: String::new(),
            run: None,
            worker: None,
            past: None,
            fate: None,
            until: None,
            next_try: None,
            failures: 0,
            due: None,
            turn: None,
            started: Stamp(0),
            stopped: Stamp(0),
            exit: None,
            starts: 0,
            total_jobs: 0,
            log_trouble: None,
            history: VecDeque::new(),
        }
    }

    /// A fact. Every cell is written down; those where nothing happens, too.
    pub(super) fn happen(&mut self, happening: Happening, spec: &ProgramSpec, desk: &mut Desk) {
        use Happening::*;
        use State::*;
        match (self.state, happening) {
            (Launching, Spawned { pid }) => self.spawned(pid, spec, desk),
            (Launching, SpawnFailed { fault }) => {
                desk.tell(&self.label, Some(&self.id), What::SpawnFailed { text: fault.text.clone() });
                match fault.is_ours() {
                    true => self.try_later(fault.text, desk),
                    false => self.failed_start(fault.text, spec, desk),
                }
            }
            (Launching, LockBusy { holder }) => self.lock_busy(holder, spec, desk),
            // The engine hands an answer on only to the slot that is waiting for just this life.
            (
                Stopped | Waiting | Starting | Running | Backoff | Stopping | Clearing | Exited | Fatal,
                Spawned { .. } | SpawnFailed { .. } | LockBusy { .. },
            ) => {
                unreachable!("no start was asked for in this state")
            }

            (Starting | Running | Stopping, Ended { exit, leftovers }) => self.ended(exit, leftovers, spec, desk),
            // Ends are found by pid, and a pid is forgotten with the end of its worker.
            (Stopped | Launching | Waiting | Backoff | Clearing | Exited | Fatal, Ended { .. }) => unreachable!("no worker in this state"),

            (Clearing, Cleared) => self.cleared(spec, desk),
            // The policy may have changed to `leave` meanwhile; then it is late news.
            (Stopped | Launching | Waiting | Starting | Running | Backoff | Stopping | Exited | Fatal, Cleared) => {}

            (Starting | Running | Stopping, Told { told }) => self.told(told, spec, desk),
            (Starting | Running | Stopping, Counted { done, failed, job }) => {
                self.count(Some(done.saturating_add(failed)), Some(failed), job, desk);
                self.weigh(spec, desk);
            }
            (Starting | Running | Stopping, Measured { sample }) => {
                if let Some(worker) = &mut self.worker {
                    recycle::note_memory(worker, &spec.policy.recycle, sample.memory);
                    worker.cpu = Some(sample.cpu);
                }
                self.weigh(spec, desk);
            }
            // Last words of a worker that is gone: its counts as they came before its end stand.
            (Stopped | Launching | Waiting | Backoff | Clearing | Exited | Fatal, Told { .. } | Counted { .. } | Measured { .. }) => {}

            (Starting, Time) => self.try_starting(spec, desk),
            (Running, Time) => self.weigh(spec, desk),
            (Stopping, Time) => self.climb(spec, desk),
            (Clearing, Time) => self.insist_on_leftovers(desk),
            (Waiting | Backoff | Exited | Fatal, Time) => {
                if self.until.is_some_and(|at| at <= desk.now.moment) {
                    self.until = None;
                    self.fresh = true;
                }
            }
            // The spawn answers in the same turn; a stopped slot waits for a person.
            (Stopped | Launching, Time) => {}
        }
    }

    /// The nearest date at which time alone changes something.
    pub(super) fn deadline(&self, spec: &ProgramSpec, now: Moment) -> Option<Moment> {
        let policy = &spec.policy;
        match (self.state, &self.worker) {
            (State::Starting, Some(worker)) => {
                let (Trial::Trust(at) | Trial::GiveUp(at)) = health::trial(worker, policy);
                health::dates(worker, policy).chain([at]).chain(self.turn.as_ref().map(|turn| turn.until)).min()
            }
            (State::Running, Some(worker)) => {
                let limit = if self.due.is_none() { recycle::date(worker, &policy.recycle, now) } else { None };
                let proved = self.proved_at(worker, spec);
                health::dates(worker, policy).chain(limit).chain(proved).chain(self.turn.as_ref().map(|turn| turn.until)).min()
            }
            (State::Stopping, Some(worker)) => worker.stop.as_ref().map(Stop::deadline),
            (State::Clearing | State::Waiting | State::Backoff | State::Exited | State::Fatal, _) => self.until,
            (State::Stopped | State::Launching, _) => None,
            // A worker is in the slot exactly in these states.
            (State::Starting | State::Running | State::Stopping, None) => None,
        }
    }

    /// True if a due worker in it may be given its turn.
    pub(super) fn may_be_replaced(&self) -> bool {
        matches!(self.state, State::Starting | State::Running) && self.turn.is_none() && self.leaving.is_none() && self.want == Want::Up
    }

    /// Marks the worker in it due to be replaced. `order`: its place in the queue. A reason that is there already stays,
    /// but for a deployment, which counts in its own roll.
    pub(super) fn mark_due(&mut self, cause: Cause, desk: &mut Desk) {
        let order = match &self.due {
            Some(due) if due.cause.why == Why::Deploy || cause.why != Why::Deploy => return,
            Some(due) => due.order,
            None => desk.next_number(),
        };
        desk.tell(&self.label, Some(&self.id), What::Due { reason: cause.text.clone() });
        self.due = Some(Due { order, cause });
    }

    /// It shall be replaced no more.
    pub(super) fn unmark(&mut self) {
        self.due = None;
        self.turn = None;
    }

    /// Ends a worker's turn by asking for its replacement, as soon as it is between jobs.
    pub(super) fn take_turn(&mut self, spec: &ProgramSpec, desk: &Desk) {
        let (Some(due), Some(turn), Some(worker)) = (&self.due, &self.turn, &self.worker) else { return };
        let now = desk.now.moment;
        if self.replace.is_none() && recycle::is_ripe(worker, turn, self.state, now) {
            let text = recycle::words(&due.cause, worker, &spec.policy.recycle, now);
            self.replace = Some(Cause::new(due.cause.why, text));
        }
    }

    /// Asks for a worker. Only `reconcile` calls this.
    pub(super) fn launch(&mut self, spec: &ProgramSpec, run: RunId, desk: &mut Desk) {
        self.open(spec, desk);
        if matches!(self.state, State::Fatal) {
            // Supervisor counts anew after giving up.
            self.failures = 0;
        }
        self.fresh = false;
        self.until = None;
        self.replace = None;
        self.run = Some(run);
        self.starts += 1;
        self.enter(State::Launching, String::new(), desk);
        desk.effects.push(Effect::Spawn { slot: self.id.clone(), run, launch: Arc::new(spec.launch_of(self.id.number)) });
    }

    /// Opens its ways, once.
    fn open(&mut self, spec: &ProgramSpec, desk: &mut Desk) {
        if !self.opened {
            self.opened = true;
            desk.effects.push(self.opening(spec));
        }
    }

    /// There are new rules of backoff: they hold for failures that lie behind it, too.
    pub(super) fn take_backoff(&mut self, old: &ProgramSpec, spec: &ProgramSpec, now: Now) {
        let retry = spec.policy.backoff.retry_after_fatal;
        if self.state == State::Fatal && self.want == Want::Up && retry != old.policy.backoff.retry_after_fatal {
            self.set_date(retry.map(|span| span.max(restart::SHORTEST)), now);
        }
        if self.state == State::Running && spec.policy.backoff.reset_after.is_none() {
            self.failures = 0;
        }
    }

    /// What failed has been changed: given up is tried again.
    pub(super) fn give_another_chance(&mut self) {
        if self.state == State::Fatal && self.want == Want::Up {
            self.failures = 0;
            self.until = None;
            self.fresh = true;
        }
    }

    /// As if it had never run; its counts and history stay.
    pub(super) fn begin_anew(&mut self, want: Want) {
        debug_assert!(self.state.is_empty(), "{} is begun anew with something in it", self.id);
        if self.leaving.is_none() {
            self.want = want;
            self.failures = 0;
            self.until = None;
            self.replace = None;
            self.fresh = want == Want::Up;
            self.unmark();
        }
    }

    /// Gives open ways new rules.
    pub(super) fn open_again(&mut self, spec: &ProgramSpec, desk: &mut Desk) {
        if self.opened {
            desk.effects.push(self.opening(spec));
        }
    }

    fn opening(&self, spec: &ProgramSpec) -> Effect {
        let user = spec.launch.user.as_ref();
        Effect::Open {
            slot: self.id.clone(),
            label: self.label.clone(),
            output: Box::new(spec.output.clone()),
            jobs: spec.policy.jobs.clone(),
            uid: user.map(|user| user.uid),
            gid: user.map(|user| user.gid),
        }
    }

    /// Begins to stop the worker. Only `reconcile` calls this.
    pub(super) fn stop(&mut self, cause: Cause, spec: &ProgramSpec, desk: &mut Desk) {
        let Some(worker) = &mut self.worker else { return };
        let (stop, act) = Stop::begin(&spec.policy.stop, desk.now.moment, cause.why, cause.text.clone());
        worker.stop = Some(stop);
        self.enter(State::Stopping, cause.text, desk);
        self.act(act, spec, desk);
    }

    /// From a state without a worker to STOPPED. Only `reconcile` calls this.
    pub(super) fn rest(&mut self, reason: String, desk: &mut Desk) {
        self.until = None;
        self.fresh = false;
        self.failures = 0;
        self.enter(State::Stopped, reason, desk);
    }

    fn spawned(&mut self, pid: i32, spec: &ProgramSpec, desk: &mut Desk) {
        let run = self.run.unwrap_or_default();
        let mut worker = Worker::new(run, pid, desk.now);
        worker.watchdog = spec.launch.watchdog;
        recycle::draw(&mut worker, &spec.policy.recycle, desk.rng);
        self.worker = Some(worker);
        self.started = desk.now.stamp;
        desk.tell(&self.label, Some(&self.id), What::Spawned { pid, run });
        self.enter(State::Starting, String::new(), desk);
        if spec.policy.startsecs.is_zero() && !spec.policy.ready.notify {
            self.trust(spec, desk);
        }
    }

    fn lock_busy(&mut self, holder: Option<i32>, spec: &ProgramSpec, desk: &mut Desk) {
        let lock = spec.launch_of(self.id.number).lock.map_or_else(|| "its lock".to_owned(), |lock| format!("lock {lock}"));
        let holder = holder.map_or_else(|| "elsewhere".to_owned(), |pid| format!("by pid {pid}"));
        // No start was made of it.
        self.starts = self.starts.saturating_sub(1);
        self.set_date(Some(LOCK_RETRY), desk.now);
        self.enter(State::Waiting, format!("{lock} is held {holder}; tries again every second"), desk);
    }

    fn try_starting(&mut self, spec: &ProgramSpec, desk: &mut Desk) {
        let Some(worker) = &self.worker else { return };
        let now = desk.now.moment;
        match health::trial(worker, &spec.policy) {
            Trial::Trust(at) if now >= at => self.trust(spec, desk),
            Trial::GiveUp(at) if now >= at => {
                let waited = now.since(worker.started);
                self.ask_replacement(Cause::new(Why::NotReady, format!("did not say READY=1 within {waited}")));
            }
            Trial::Trust(_) | Trial::GiveUp(_) => self.weigh(spec, desk),
        }
    }

    /// STARTING is over.
    fn trust(&mut self, spec: &ProgramSpec, desk: &mut Desk) {
        let Some(worker) = &mut self.worker else { return };
        let now = desk.now.moment;
        worker.trusted = Some(now);
        worker.extended = None;
        worker.watched_since.get_or_insert(now);
        if spec.policy.backoff.reset_after.is_none() {
            self.failures = 0;
        }
        self.enter(State::Running, String::new(), desk);
        self.weigh(spec, desk);
    }

    fn told(&mut self, told: Notify, spec: &ProgramSpec, desk: &mut Desk) {
        let now = desk.now;
        let Some(worker) = &mut self.worker else { return };
        if told.watchdog || told.ready {
            worker.watched_since = Some(now.moment);
        }
        if told.watchdog {
            worker.heartbeat = Some(now.stamp);
        }
        if told.status.is_some() {
            worker.status = told.status;
        }
        if told.stopping && worker.said_stopping.is_none() {
            worker.said_stopping = Some(now.moment);
            worker.extended = None;
        }
        if let (true, Some(stop)) = (told.stopping, &mut worker.stop) {
            stop.heard();
        }
        if let Some(span) = told.extend_timeout {
            match &mut worker.stop {
                Some(stop) if span <= LONGEST_EXTENSION => stop.extend(&spec.policy.stop, now.moment, span),
                Some(_) => {}
                None => health::extend(worker, now.moment, span),
            }
        }
        self.count(told.jobs, told.errors, told.job, desk);
        if told.trigger && self.state != State::Stopping {
            self.ask_replacement(Cause::new(Why::Watchdog, "said of itself that it hangs (WATCHDOG=trigger)".to_owned()));
        } else if told.ready && self.state == State::Starting {
            self.trust(spec, desk);
        } else {
            self.weigh(spec, desk);
        }
    }

    /// Takes up totals. One that goes backwards is of an old datagram and is ignored.
    fn count(&mut self, done: Option<u64>, failed: Option<u64>, job: Option<String>, desk: &mut Desk) {
        let Some(worker) = &mut self.worker else { return };
        let more = done.map_or(0, |done| done.saturating_sub(worker.jobs));
        let worse = failed.map_or(0, |failed| failed.saturating_sub(worker.errors));
        worker.jobs = worker.jobs.saturating_add(more);
        worker.errors = worker.errors.saturating_add(worse);
        self.total_jobs = self.total_jobs.saturating_add(more);
        desk.tally.jobs = desk.tally.jobs.saturating_add(more);
        desk.tally.errors = desk.tally.errors.saturating_add(worse);
        worker.finished_at = (more > 0 && job.is_none()).then_some(desk.now.moment);
        let job = job.map(|job| if job.chars().count() > MAX_JOB_NAME { job.chars().take(MAX_JOB_NAME).collect() } else { job });
        let renewed = more > 0 || (job.is_some() && job != worker.job);
        if job.is_some() {
            worker.job = job;
        }
        if renewed {
            worker.job_since = Some(desk.now.moment);
            worker.job_since_at = Some(desk.now.stamp);
        }
    }

    /// Totals of a worker that is gone: they still count for its slot and program.
    pub(super) fn count_late(&mut self, run: RunId, done: u64, failed: u64, desk: &mut Desk) {
        let Some(past) = self.past.as_mut().filter(|past| past.run == run) else { return };
        let more = done.saturating_add(failed).saturating_sub(past.jobs);
        let worse = failed.saturating_sub(past.errors);
        past.jobs = past.jobs.saturating_add(more);
        past.errors = past.errors.saturating_add(worse);
        self.total_jobs = self.total_jobs.saturating_add(more);
        desk.tally.jobs = desk.tally.jobs.saturating_add(more);
        desk.tally.errors = desk.tally.errors.saturating_add(worse);
    }

    /// Asks of a living worker whether it hangs, has had enough, or has come to the end of its turn.
    fn weigh(&mut self, spec: &ProgramSpec, desk: &mut Desk) {
        let now = desk.now.moment;
        let Some(worker) = &self.worker else { return };
        match self.state {
            State::Starting | State::Running => {}
            // On its way out already.
            State::Stopping => return,
            State::Stopped | State::Launching | State::Waiting | State::Backoff | State::Clearing | State::Exited | State::Fatal => {
                unreachable!("no worker in this state")
            }
        }
        if let Some(cause) = health::hung(worker, &spec.policy, now) {
            return self.ask_replacement(cause);
        }
        if self.state == State::Running {
            if self.proved_at(worker, spec).is_some_and(|at| now >= at) {
                self.failures = 0;
            }
            if self.due.is_none()
                && let Some(cause) = self.worker.as_ref().and_then(|worker| recycle::limit_reached(worker, &spec.policy.recycle, now))
            {
                self.mark_due(cause, desk);
            }
        }
        self.take_turn(spec, desk);
    }

    /// When the failures before it are forgotten (`reset_after`), if there are any.
    fn proved_at(&self, worker: &Worker, spec: &ProgramSpec) -> Option<Moment> {
        let after = spec.policy.backoff.reset_after.filter(|_| self.failures > 0)?;
        worker.trusted.map(|_| worker.started + after)
    }

    /// The first cause stands.
    fn ask_replacement(&mut self, cause: Cause) {
        self.replace.get_or_insert(cause);
    }

    fn climb(&mut self, spec: &ProgramSpec, desk: &mut Desk) {
        let act =
            self.worker.as_mut().and_then(|worker| worker.stop.as_mut()).and_then(|stop| stop.due(&spec.policy.stop, desk.now.moment));
        if let Some(act) = act {
            self.act(act, spec, desk);
        }
    }

    /// Carries out one act of the stop ladder.
    fn act(&mut self, act: Act, spec: &ProgramSpec, desk: &mut Desk) {
        let policy = &spec.policy.stop;
        let (signal, group, after) = match act {
            Act::Ask { signal, after } => (signal, policy.as_group, after),
            Act::AskAgain { signal } => (signal, policy.as_group, None),
            Act::Kill { after, first: _ } => (Signal::KILL, policy.as_group || policy.kill_as_group, after),
        };
        let Some(worker) = &mut self.worker else { return };
        if let Some((asked, waited)) = after {
            let reason = worker.deafness(asked, waited, desk.now.moment);
            desk.tell(&self.label, Some(&self.id), What::Signalled { pid: worker.pid, signal, reason: reason.clone() });
            match (act, &mut worker.stop) {
                (Act::Kill { first: true, .. }, Some(stop)) => stop.killed = Some(reason),
                (Act::Kill { first: false, .. } | Act::Ask { .. } | Act::AskAgain { .. }, _) | (Act::Kill { first: true, .. }, None) => {}
            }
        }
        desk.effects.push(Effect::Signal { slot: self.id.clone(), run: worker.run, pid: worker.pid, signal, group });
    }

    fn ended(&mut self, exit: Exit, leftovers: u32, spec: &ProgramSpec, desk: &mut Desk) {
        let now = desk.now;
        let lived = self.worker.as_ref().map_or(Span::ZERO, |worker| now.moment.since(worker.started));
        if self.state == State::Starting && health::had_been_up(&spec.policy, lived) {
            // It had outlived startsecs; we only had not come round to say so.
            self.trust(spec, desk);
        }
        let Some(worker) = self.worker.take() else { return };
        let (why, text, fate) = self.judge(&worker, exit, lived, spec);
        self.past = Some(Past { run: worker.run, jobs: worker.jobs, errors: worker.errors });
        self.replace = None;
        self.unmark();
        self.stopped = now.stamp;
        self.exit = Some(exit);
        self.history.push_front(EndView { at: now.stamp, pid: worker.pid, exit, lived, why, text });
        self.history.truncate(HISTORY);
        *desk.tally.ended.entry(why).or_default() += 1;
        desk.tell(&self.label, Some(&self.id), What::Ended { pid: worker.pid, run: worker.run, exit, lived, why, jobs: worker.jobs });
        match (leftovers, spec.policy.stop.leftovers) {
            (0, Leftovers::Kill | Leftovers::Leave) => self.meet(fate, spec, desk),
            (count, Leftovers::Kill) => {
                self.fate = Some(fate);
                self.until = Some(now.moment + LEFTOVERS_WAIT);
                desk.tell(&self.label, Some(&self.id), What::Leftovers { count });
                self.enter(State::Clearing, format!("{exit}; {count} process(es) that it left behind are being ended"), desk);
                desk.effects.push(Effect::SignalLeftovers { run: worker.run, signal: Signal::TERM });
            }
            (_, Leftovers::Leave) => {
                desk.effects.push(Effect::ForgetLeftovers { run: worker.run });
                self.meet(fate, spec, desk);
            }
        }
    }

    /// What the end of a worker means. It depends on the state that it ended in, so it is asked before anything changes.
    fn judge(&self, worker: &Worker, exit: Exit, lived: Span, spec: &ProgramSpec) -> (Why, String, Fate) {
        let policy = &spec.policy;
        let plain = format!("{exit} after {lived}");
        if let Some(stop) = &worker.stop {
            let text = match &stop.killed {
                Some(killed) => format!("{}; killed: {killed}", stop.text),
                None => stop.text.clone(),
            };
            let fate = match stop.why {
                Why::NotReady => Fate::FailedStart { text: text.clone() },
                // It hung before it was trusted. Restarted at once and uncounted, one that hangs at boot would do so for ever.
                Why::Watchdog | Why::JobTimeout if worker.trusted.is_none() => Fate::FailedStart { text: text.clone() },
                // A hung worker is a crashed one, and is judged like that.
                Why::Watchdog if policy.autorestart == Autorestart::Never => Fate::Exited { text: text.clone(), verdict: Verdict::Rest },
                Why::Watchdog
                | Why::Jobs
                | Why::Memory
                | Why::Lifetime
                | Why::JobTimeout
                | Why::Manual
                | Why::Scale
                | Why::Deploy
                | Why::Removed
                | Why::Shutdown
                | Why::Crash
                | Why::Finished => Fate::Stopped { text: text.clone() },
            };
            return (stop.why, text, fate);
        }
        let expected = restart::is_expected(policy, exit);
        let why = if expected || exit == Exit::Unknown { Why::Finished } else { Why::Crash };
        if worker.trusted.is_none() && restart::fails_start(policy, exit) {
            if self.due.as_ref().is_some_and(|due| due.cause.why == Why::Deploy) {
                // It was to be replaced anyway; that it failed says nothing of what comes now.
                return (Why::Crash, plain.clone(), Fate::Stopped { text: plain });
            }
            return (Why::Crash, plain.clone(), Fate::FailedStart { text: plain });
        }
        let verdict = restart::verdict(policy, exit);
        let text = match (verdict, expected) {
            (Verdict::After(_), true | false) => format!("finished: {plain}"),
            (Verdict::Again | Verdict::Rest, true) => format!("{plain}, as expected"),
            (Verdict::Again | Verdict::Rest, false) if exit == Exit::Unknown => plain,
            (Verdict::Again | Verdict::Rest, false) => format!("{plain}, which was not expected"),
        };
        (why, text.clone(), Fate::Exited { text, verdict })
    }

    fn cleared(&mut self, spec: &ProgramSpec, desk: &mut Desk) {
        self.until = None;
        let fate = self.fate.take().unwrap_or(Fate::Stopped { text: String::new() });
        self.meet(fate, spec, desk);
    }

    fn meet(&mut self, fate: Fate, spec: &ProgramSpec, desk: &mut Desk) {
        self.until = None;
        let fate = match fate {
            // Whoever asked for a stop gets STOPPED, whatever else the end would have meant.
            Fate::FailedStart { text } | Fate::Exited { text, .. } if self.want == Want::Down => Fate::Stopped { text },
            Fate::Stopped { .. } | Fate::FailedStart { .. } | Fate::Exited { .. } => fate,
        };
        match fate {
            Fate::Stopped { text } => {
                self.failures = 0;
                self.enter(State::Stopped, text, desk);
            }
            Fate::FailedStart { text } => self.failed_start(text, spec, desk),
            Fate::Exited { text, verdict } => {
                match verdict {
                    Verdict::Again => self.fresh = true,
                    Verdict::After(pause) => self.set_date(Some(pause), desk.now),
                    Verdict::Rest => {}
                }
                self.enter(State::Exited, text, desk);
            }
        }
    }

    fn failed_start(&mut self, text: String, spec: &ProgramSpec, desk: &mut Desk) {
        let policy = &spec.policy;
        self.failures = self.failures.saturating_add(1);
        if restart::gives_up(policy.startretries, self.failures) {
            self.set_date(policy.backoff.retry_after_fatal.map(|span| span.max(restart::SHORTEST)), desk.now);
            let starts = if self.failures == 1 { "start" } else { "starts" };
            self.enter(State::Fatal, format!("gave up after {} failed {starts}: {text}", self.failures), desk);
        } else {
            let wait = restart::delay(&policy.backoff.rule, self.failures, desk.rng);
            self.set_date(Some(wait), desk.now);
            self.enter(State::Backoff, format!("{text}, {} time", restart::nth(self.failures)), desk);
        }
    }

    /// The host or the daemon has run out of something: no fault of the program, and it passes. So it is tried again for as
    /// long as that takes, and the program's own count of failures stays.
    fn try_later(&mut self, text: String, desk: &mut Desk) {
        self.set_date(Some(restart::NO_ROOM_RETRY), desk.now);
        self.enter(State::Backoff, format!("{text}; not counted as a failure"), desk);
    }

    /// Sets the date of the next try, or none.
    fn set_date(&mut self, wait: Option<Span>, now: Now) {
        self.until = wait.map(|wait| now.moment + wait);
        self.next_try = wait.map(|wait| now.stamp + wait);
    }

    fn insist_on_leftovers(&mut self, desk: &mut Desk) {
        if self.until.is_some_and(|at| at <= desk.now.moment)
            && let Some(run) = self.run
        {
            self.until = Some(desk.now.moment + LEFTOVERS_WAIT);
            desk.effects.push(Effect::SignalLeftovers { run, signal: Signal::KILL });
        }
    }

    /// Goes to a state and tells of it, once for each word or reason that people see.
    fn enter(&mut self, state: State, reason: String, desk: &mut Desk) {
        self.state = state;
        if state == State::Launching && self.told == State::Waiting {
            // The lock is tried again. Unless it is free, nobody wants to hear of it every second.
            return;
        }
        let from = self.told;
        let new_word = from.word() != state.word();
        let new_reason = self.reason != reason && !reason.is_empty();
        self.told = state;
        self.reason = reason;
        if new_word {
            self.since = desk.now.stamp;
        }
        if new_word || new_reason {
            let pid = self.worker.as_ref().map(|worker| worker.pid);
            let what = What::State { from, to: state, reason: self.reason.clone(), pid, run: self.run, tries: self.failures };
            desk.tell(&self.label, Some(&self.id), what);
        }
    }
}

/// How often a lock that is held elsewhere is tried again.
const LOCK_RETRY: Span = Span::secs(1);

/// How long leftovers have between TERM and KILL, and between one KILL and the next.
const LEFTOVERS_WAIT: Span = Span::secs(2);

/// Ends that are kept.
const HISTORY: usize = 10;

/// Characters of a job's name that are kept.
const MAX_JOB_NAME: usize = 256;
