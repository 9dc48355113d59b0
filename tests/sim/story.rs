//! The story of a run as a page one can read, with the seed on top.
//!
//! Only the last page is kept, unless one seed is replayed (`SIM_SEED=n`): then it is printed as it happens. Lines are
//! made when they are read, because a million of them are not.

use ganger::engine::effect::Effect;
use ganger::engine::event::Event;
use ganger::model::time::Now;
use std::collections::VecDeque;

pub struct Story {
    seed: u64,
    lines: VecDeque<(Now, Line)>,
    aloud: bool,
}

enum Line {
    Heard(Box<Event>),
    Did(Box<Effect>),
}

impl Story {
    pub fn new(seed: u64) -> Story {
        Story { seed, lines: VecDeque::new(), aloud: false }
    }

    /// From now on every line is printed at once.
    pub fn read_aloud(&mut self) {
        self.aloud = true;
        println!("seed {}", self.seed);
    }

    pub fn heard(&mut self, now: Now, event: &Event) {
        // A whole plan is no line.
        let event = match event {
            Event::PlanLoaded { ticket, purpose, result: Ok(plan) } => {
                let names = plan.programs.iter().map(|(name, spec)| format!("{name}*{}", spec.policy.numprocs)).collect();
                Event::PlanLoaded { ticket: *ticket, purpose: *purpose, result: Err(names) }
            }
            other => other.clone(),
        };
        self.put(now, Line::Heard(Box::new(event)));
    }

    pub fn did(&mut self, now: Now, effect: &Effect) {
        self.put(now, Line::Did(Box::new(effect.clone())));
    }

    fn put(&mut self, now: Now, line: Line) {
        if self.aloud {
            println!("{}", read(now, &line));
        }
        if self.lines.len() == PAGE {
            self.lines.pop_front();
        }
        self.lines.push_back((now, line));
    }

    pub fn last_page(&self) -> String {
        let lines: Vec<String> = self.lines.iter().map(|(now, line)| read(*now, line)).collect();
        format!("---- the end of the story; seed {} (SIM_SEED={} replays a random run) ----\n{}", self.seed, self.seed, lines.join("\n"))
    }
}

fn read(now: Now, line: &Line) -> String {
    let ms = now.moment.0;
    let clock = format!("{:>6}.{:03}", ms / 1000, ms % 1000);
    match line {
        Line::Heard(event) => format!("{clock} > {}", spoken(event)),
        Line::Did(effect) => match &**effect {
            Effect::Tell(notice) => format!("{clock}     {notice}"),
            Effect::Open { slot, .. } => format!("{clock}   * open {slot}"),
            Effect::Spawn { slot, run, .. } => format!("{clock}   * spawn {slot}, run {}", run.0),
            other => format!("{clock}   * {other:?}"),
        },
    }
}

fn spoken(event: &Event) -> String {
    match event {
        Event::PlanLoaded { ticket, purpose, result } => match result {
            Ok(_) => "the plan was read".into(),
            Err(lines) => format!("the plan was read (ticket {ticket:?}, {purpose:?}): {lines:?}"),
        },
        Event::Asked { ticket, who, command } => format!("{who} asks ({ticket:?}): {command:?}"),
        Event::Spawned { run, slot, pid } => format!("{slot} spawned, run {}, pid {pid}", run.0),
        Event::Notified { slot, pid, told } => format!("{slot} was told by pid {pid}: {}", said(told)),
        other => format!("{other:?}"),
    }
}

fn said(told: &ganger::model::notify::Notify) -> String {
    let mut words = Vec::new();
    let flags = [(told.ready, "READY"), (told.stopping, "STOPPING"), (told.watchdog, "WATCHDOG"), (told.trigger, "trigger")];
    words.extend(flags.iter().filter(|(set, _)| *set).map(|(_, word)| (*word).to_owned()));
    words.extend(told.extend_timeout.map(|span| format!("EXTEND {span}")));
    words.extend(told.jobs.map(|jobs| format!("X_JOBS={jobs}")));
    words.extend(told.job.as_ref().map(|job| format!("X_JOB={job}")));
    words.join(" ")
}

/// Lines on the last page.
const PAGE: usize = 160;
