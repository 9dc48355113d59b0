//! The process in a slot, as far as the engine knows it: who it is, what it told, what was read of it, and its limits.
//!
//! Facts only. Whether it is trusted, hung or due is asked by `health` and `recycle`; what follows is done in `slot`.

use super::stop::Stop;
use crate::model::name::RunId;
use crate::model::signal::Signal;
use crate::model::time::{Moment, Now, Span, Stamp};
use crate::model::units::Bytes;
use serde::{Deserialize, Serialize};

/// The process in a slot: one pid, one life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Worker {
    pub(super) run: RunId,
    pub(super) pid: i32,
    pub(super) started: Moment,
    /// When it began to be RUNNING.
    pub(super) trusted: Option<Moment>,
    pub(super) watchdog: Option<Span>,
    /// The last sign of life, or when we began to wait for one.
    pub(super) watched_since: Option<Moment>,
    pub(super) heartbeat: Option<Stamp>,
    pub(super) said_stopping: Option<Moment>,
    /// More time that it asked for.
    pub(super) extended: Option<Moment>,
    pub(super) status: Option<String>,
    pub(super) jobs: u64,
    pub(super) errors: u64,
    /// The job in hand; empty: idle; `None`: it does not tell.
    pub(super) job: Option<String>,
    pub(super) job_since: Option<Moment>,
    pub(super) job_since_at: Option<Stamp>,
    /// When the number of jobs last grew without a word of a next one.
    pub(super) finished_at: Option<Moment>,
    pub(super) max_jobs: Option<u64>,
    pub(super) max_lifetime: Option<Span>,
    pub(super) memory: Option<Bytes>,
    pub(super) cpu: Option<Span>,
    /// The last 64 samples as bits, newest lowest: over the limit or not.
    pub(super) samples_over: u64,
    pub(super) stop: Option<Stop>,
}

impl Worker {
    pub(super) fn new(run: RunId, pid: i32, now: Now) -> Worker {
        Worker {
            run,
            pid,
            started: now.moment,
            trusted: None,
            watchdog: None,
            watched_since: None,
            heartbeat: None,
            said_stopping: None,
            extended: None,
            status: None,
            jobs: 0,
            errors: 0,
            job: None,
            job_since: None,
            job_since_at: None,
            finished_at: None,
            max_jobs: None,
            max_lifetime: None,
            memory: None,
            cpu: None,
            samples_over: 0,
            stop: None,
        }
    }

    pub(super) fn has_job_in_hand(&self) -> bool {
        self.job.as_ref().is_some_and(|job| !job.is_empty())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.job.as_ref().is_some_and(String::is_empty)
    }

    /// As far as it tells: without a job in hand, or having finished one in this very step.
    pub(super) fn is_between_jobs(&self, now: Moment) -> bool {
        !self.has_job_in_hand() || self.finished_at == Some(now)
    }

    /// What to say of a worker that was asked to go and did not: three different things to a tired operator.
    pub(super) fn deafness(&self, asked: Signal, waited: Span, now: Moment) -> String {
        let job = self.job.as_deref().unwrap_or_default();
        if self.has_job_in_hand() {
            let since = self.job_since.map_or(Span::ZERO, |at| now.since(at));
            format!("was busy with job {job} for {since}; {asked} was sent {waited} ago")
        } else if self.is_idle() {
            format!("idle, waiting in a blocked reserve: did not react to {asked} for {waited}")
        } else {
            format!("did not react to {asked} for {waited}")
        }
    }
}
