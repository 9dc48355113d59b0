//! The fake kernel: processes, pids, locks and the clock, around the production engine.
//!
//! A heap of dated happenings; time jumps to the next of them or to the engine's deadline, whichever is nearer. What the
//! engine wants done is done here as `daemon/perform` would do it: a spawn is answered before anything else is heard,
//! deaths, datagrams and leftovers come back later as events. Processes are `Character`s: how long they live, how they end,
//! what they heed, what they tell. It judges nothing: `invariants` does, after every step.

use crate::chaos::Weather;
use crate::invariants::Ledger;
use crate::story::Story;
use ganger::engine::Engine;
use ganger::engine::effect::Effect;
use ganger::engine::event::{Event, Purpose, Sample};
use ganger::model::command::{Answer, Command, Reply, Ticket};
use ganger::model::exit::Exit;
use ganger::model::launch::{Launch, Lock, SpawnFault};
use ganger::model::name::{RunId, SlotId};
use ganger::model::notice::Notice;
use ganger::model::notify::Notify;
use ganger::model::plan::Plan;
use ganger::model::signal::Signal;
use ganger::model::spec::JobCount;
use ganger::model::time::{Moment, Now, Span, Stamp};
use ganger::model::units::Bytes;
use ganger::model::view::{SlotView, View};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

/// What a worker is like.
#[derive(Clone, Debug)]
pub struct Character {
    /// How long until it ends by itself; `None`: never.
    pub lives: Option<Span>,
    /// How it ends then.
    pub exit: Exit,
    pub heeds: Heeds,
    /// When it says READY=1.
    pub ready: Option<Span>,
    /// Says WATCHDOG=1 this often, until it reaches this age.
    pub heartbeat: Option<(Span, Span)>,
    pub work: Option<Work>,
    /// Bytes at birth, and bytes more with every second.
    pub memory: (u64, u64),
    /// Processes that outlive it.
    pub leaves: Option<Remains>,
    /// Says STOPPING=1 at the first stop signal.
    pub says_stopping: bool,
    /// Asks for this much time at the first stop signal.
    pub extends: Option<Span>,
    /// How long it lies dead before it is reaped.
    pub zombie: Span,
    /// How long the kernel needs to end it by KILL (uninterruptible sleep).
    pub dies_hard: Span,
}

/// How a worker takes a signal that asks it to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heeds {
    /// Ends with 0 after so long.
    After(Span),
    /// At once when idle, else when the job in hand is done.
    BetweenJobs,
    /// Loses all before the nth.
    Nth(usize),
    Only(Signal),
    Never,
}

#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub takes: Span,
    pub rests: Span,
    /// It says X_JOB; else only the totals.
    pub tells_job: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Remains {
    pub count: u32,
    pub heeds_term: bool,
    /// Go by themselves after this; `None`: only by a signal.
    pub gone_after: Option<Span>,
}

impl Character {
    /// Lives for ever, says nothing, leaves at once when asked.
    pub fn good() -> Character {
        Character {
            lives: None,
            exit: Exit::Code(0),
            heeds: Heeds::After(Span::millis(20)),
            ready: None,
            heartbeat: None,
            work: None,
            memory: (20 << 20, 0),
            leaves: None,
            says_stopping: false,
            extends: None,
            zombie: Span::ZERO,
            dies_hard: Span::ZERO,
        }
    }
}

pub struct Proc {
    pub run: RunId,
    pub slot: SlotId,
    pub character: Character,
    /// What it was started with.
    pub launch: Arc<Launch>,
    pub born: Moment,
    pub jobs: u64,
    pub busy: bool,
    /// Stop signals received, in order.
    pub asked: Vec<Signal>,
    /// Leaves when the job in hand is done.
    leaving: bool,
    dead: Option<Exit>,
    frozen: bool,
    lock: Option<Lock>,
    counted_by_lines: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Run(RunId),
    /// Somebody outside of the fleet.
    Stranger(i32),
}

/// Dated things that will happen. A process is named by pid *and* run, since pids come back.
#[derive(Debug)]
enum Happening {
    Dies { pid: i32, run: RunId, exit: Exit },
    Reaped { pid: i32, run: RunId },
    SaysReady { pid: i32, run: RunId },
    Beats { pid: i32, run: RunId },
    JobBegins { pid: i32, run: RunId },
    JobEnds { pid: i32, run: RunId },
    RemainsGo { run: RunId },
    StrangerLetsGo { lock: Lock },
    Hears(Event),
    Mischief,
}

struct Due {
    at: Moment,
    seq: u64,
    what: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.seq == other.seq
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

struct Left {
    remains: Remains,
    lock: Option<Lock>,
    /// The engine said that it does not want to hear of them.
    forgotten: bool,
}

pub struct World {
    pub engine: Engine,
    pub now: Now,
    pub procs: BTreeMap<i32, Proc>,
    /// What the definitions say when they are read the next time.
    pub definitions: Result<Plan, Vec<String>>,
    /// What the next workers are like, before `usual` comes in.
    pub casting: VecDeque<Character>,
    pub usual: Character,
    /// Spawns that will fail, one after the other.
    pub faults: VecDeque<SpawnFault>,
    /// `None`: nothing goes wrong but what is asked for.
    pub weather: Option<Weather>,
    pub ledger: Ledger,
    pub story: Story,
    pub steps: u64,
    pub quit: bool,
    /// Answers that people got, by ticket.
    pub answers: BTreeMap<Ticket, Answer>,
    pub spawns: u64,
    /// All that was told, in fair weather only: a random run would tell too much.
    pub notices: Vec<Notice>,
    heap: BinaryHeap<Reverse<Due>>,
    seq: u64,
    left: BTreeMap<RunId, Left>,
    locks: BTreeMap<Lock, Holder>,
    free_pids: BTreeSet<i32>,
    next_pid: i32,
    next_ticket: u64,
    inbox: VecDeque<Event>,
    effects: Vec<Effect>,
    spent: Vec<Effect>,
}

impl World {
    pub fn new(seed: u64) -> World {
        let now = Now { moment: Moment(1_000_000), stamp: Stamp(1_700_000_000_000) };
        World {
            engine: Engine::new(seed, now),
            now,
            procs: BTreeMap::new(),
            definitions: Ok(Plan::default()),
            casting: VecDeque::new(),
            usual: Character::good(),
            faults: VecDeque::new(),
            weather: None,
            ledger: Ledger::default(),
            story: Story::new(seed),
            steps: 0,
            quit: false,
            answers: BTreeMap::new(),
            spawns: 0,
            notices: Vec::new(),
            heap: BinaryHeap::new(),
            seq: 0,
            left: BTreeMap::new(),
            locks: BTreeMap::new(),
            free_pids: BTreeSet::new(),
            next_pid: 100,
            next_ticket: 1,
            inbox: VecDeque::new(),
            effects: Vec::new(),
            spent: Vec::new(),
        }
    }

    /// Reads the definitions for the first time.
    pub fn boot(&mut self) {
        let result = self.definitions.clone().map(Box::new);
        self.hear(Event::PlanLoaded { ticket: None, purpose: Purpose::Reload, result });
    }

    pub fn view(&mut self) -> Arc<View> {
        self.engine.view(self.now)
    }

    /// The view of one slot; a test that names one which is not there is wrong.
    pub fn slot(&mut self, program: &str, number: u32) -> Arc<SlotView> {
        let view = self.view();
        let found = view.slots().find(|slot| slot.program.as_str() == program && slot.number == number);
        found.unwrap_or_else(|| panic!("no slot {program}#{number}")).clone()
    }

    /// A person asks; the answer, unless it has to wait for the definitions.
    pub fn ask(&mut self, who: &str, command: Command) -> (Ticket, Option<Answer>) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.hear(Event::Asked { ticket: Some(ticket), who: who.to_owned(), command });
        let answer = self.answers.remove(&ticket);
        (ticket, answer)
    }

    /// A person asks in this moment, after what is under way; his answer is nobody's business.
    pub fn ask_later(&mut self, who: &str, command: Command) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.plan(Span::ZERO, Happening::Hears(Event::Asked { ticket: Some(ticket), who: who.to_owned(), command }));
    }

    /// Somebody outside ends a process.
    pub fn dies_in(&mut self, span: Span, pid: i32, run: RunId, exit: Exit) {
        self.plan(span, Happening::Dies { pid, run, exit });
    }

    /// Puts something on the calendar of mischief.
    pub fn mischief_in(&mut self, span: Span) {
        self.plan(span, Happening::Mischief);
    }

    /// An event will be heard later (or now).
    pub fn hear_in(&mut self, span: Span, event: Event) {
        self.plan(span, Happening::Hears(event));
    }

    /// Goes on until `until`.
    pub fn run_until(&mut self, until: Moment) {
        while !self.quit && self.next_turn().is_some_and(|at| at <= until) {
            self.turn();
        }
        if !self.quit {
            self.pass_to(until);
        }
    }

    /// When something happens next.
    pub fn next_turn(&self) -> Option<Moment> {
        let heap = self.heap.peek().map(|Reverse(due)| due.at);
        let engine = self.engine.next_deadline();
        match (heap, engine) {
            (Some(a), Some(b)) => Some(a.min(b).max(self.now.moment)),
            (a, b) => a.or(b).map(|at| at.max(self.now.moment)),
        }
    }

    /// Lets the next thing happen. False if nothing ever will.
    pub fn turn(&mut self) -> bool {
        let due = self.heap.peek().map(|Reverse(due)| due.at);
        let deadline = self.engine.next_deadline();
        match (due, deadline) {
            (None, None) => return false,
            (due, Some(deadline)) if due.is_none_or(|at| deadline <= at) => {
                // The daemon oversleeps now and then; everything else may then come before the `Woke`.
                let late = self.weather.as_mut().map_or(Span::ZERO, Weather::oversleeps);
                if late.is_zero() || due.is_none_or(|at| deadline + late < at) {
                    self.pass_to(deadline + late);
                    self.hear(Event::Woke);
                    let next = self.engine.next_deadline();
                    let now = self.now.moment;
                    assert!(next.is_none_or(|at| at > now), "busy loop: woke at {now:?} and the next deadline is {next:?}");
                    return true;
                }
            }
            _ => {}
        }
        let Some(Reverse(due)) = self.heap.pop() else { return false };
        self.pass_to(due.at);
        self.happen(due.what);
        true
    }

    /// Time passes; the wall clock with it.
    fn pass_to(&mut self, at: Moment) {
        let span = at.since(self.now.moment);
        self.now.moment = self.now.moment + span;
        self.now.stamp = self.now.stamp + span;
    }

    fn plan(&mut self, span: Span, what: Happening) {
        self.seq += 1;
        self.heap.push(Reverse(Due { at: self.now.moment + span, seq: self.seq, what }));
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Dies { pid, run, exit } => self.die(pid, run, exit),
            Happening::Reaped { pid, run } => self.reap(pid, run),
            Happening::SaysReady { pid, run } => {
                if self.alive(pid, run) {
                    self.tell(pid, Notify { ready: true, ..Notify::default() });
                }
            }
            Happening::Beats { pid, run } => {
                let Some(proc) = self.procs.get(&pid).filter(|proc| proc.run == run && proc.dead.is_none()) else { return };
                let Some((every, until)) = proc.character.heartbeat else { return };
                if self.now.moment.since(proc.born) <= until {
                    if !proc.frozen {
                        self.tell(pid, Notify { watchdog: true, ..Notify::default() });
                    }
                    self.plan(every, Happening::Beats { pid, run });
                }
            }
            Happening::JobBegins { pid, run } => self.begin_job(pid, run),
            Happening::JobEnds { pid, run } => self.end_job(pid, run),
            Happening::RemainsGo { run } => self.remains_go(run),
            Happening::StrangerLetsGo { lock } => {
                if matches!(self.locks.get(&lock), Some(Holder::Stranger(_))) {
                    self.locks.remove(&lock);
                }
            }
            // The totals may have been counted of one who has died since; a daemon that shuts down hears no more.
            Happening::Hears(event) => self.hear(event),
            Happening::Mischief => {
                if let Some(mut weather) = self.weather.take() {
                    weather.strike(self);
                    self.weather = Some(weather);
                }
            }
        }
    }

    fn alive(&self, pid: i32, run: RunId) -> bool {
        self.procs.get(&pid).is_some_and(|proc| proc.run == run && proc.dead.is_none() && !proc.frozen)
    }

    /// A process ends now; it is reaped when its time as a zombie is over.
    pub fn die(&mut self, pid: i32, run: RunId, exit: Exit) {
        let Some(proc) = self.procs.get_mut(&pid).filter(|proc| proc.run == run && proc.dead.is_none()) else { return };
        proc.dead = Some(exit);
        let zombie = proc.character.zombie;
        if zombie.is_zero() {
            self.reap(pid, run);
        } else {
            self.plan(zombie, Happening::Reaped { pid, run });
        }
    }

    fn reap(&mut self, pid: i32, run: RunId) {
        let proc = self.procs.remove(&pid).expect("only a zombie is reaped, and once");
        assert_eq!(proc.run, run, "a pid is not given out again before it was reaped");
        self.free_pids.insert(pid);
        let exit = proc.dead.expect("only the dead are reaped");
        let mut leftovers = 0;
        if let Some(remains) = proc.character.leaves {
            leftovers = remains.count;
            // The lock is an inherited descriptor: whoever is left of that life holds it still.
            self.left.insert(run, Left { remains, lock: proc.lock, forgotten: false });
            if let Some(span) = remains.gone_after {
                self.plan(span, Happening::RemainsGo { run });
            }
        } else {
            self.free_lock(run, proc.lock);
        }
        self.hear(Event::Ended { pid, exit, leftovers });
    }

    fn free_lock(&mut self, run: RunId, lock: Option<Lock>) {
        if let Some(lock) = lock.filter(|lock| self.locks.get(lock) == Some(&Holder::Run(run))) {
            self.locks.remove(&lock);
        }
    }

    fn remains_go(&mut self, run: RunId) {
        let Some(left) = self.left.remove(&run) else { return };
        self.free_lock(run, left.lock);
        if !left.forgotten {
            self.hear(Event::Cleared { run });
        }
    }

    fn begin_job(&mut self, pid: i32, run: RunId) {
        let alive = self.alive(pid, run);
        let Some(proc) = self.procs.get_mut(&pid).filter(|_| alive) else { return };
        let Some(work) = proc.character.work else { return };
        proc.busy = true;
        let number = proc.jobs + 1;
        if work.tells_job {
            let job = Some(format!("job-{number}"));
            self.report(pid, job);
        }
        self.plan(work.takes, Happening::JobEnds { pid, run });
    }

    fn end_job(&mut self, pid: i32, run: RunId) {
        let alive = self.alive(pid, run);
        let Some(proc) = self.procs.get_mut(&pid).filter(|_| alive) else { return };
        let Some(work) = proc.character.work else { return };
        proc.busy = false;
        proc.jobs += 1;
        let leaving = proc.leaving;
        self.report(pid, work.tells_job.then(String::new));
        if leaving {
            self.plan(Span::ZERO, Happening::Dies { pid, run, exit: Exit::Code(0) });
        } else {
            self.plan(work.rests, Happening::JobBegins { pid, run });
        }
    }

    /// The worker's totals, by datagram or by its log lines.
    fn report(&mut self, pid: i32, job: Option<String>) {
        let Some(proc) = self.procs.get(&pid) else { return };
        let jobs = proc.jobs;
        if proc.counted_by_lines {
            let event = Event::Counted { slot: proc.slot.clone(), run: proc.run, done: jobs, failed: jobs / 10, job };
            self.plan(Span::ZERO, Happening::Hears(event));
        } else {
            self.tell(pid, Notify { jobs: Some(jobs), errors: Some(jobs / 10), job, ..Notify::default() });
        }
    }

    /// A datagram on its way; some get lost, doubled or late.
    pub fn tell(&mut self, pid: i32, told: Notify) {
        let Some(slot) = self.procs.get(&pid).map(|proc| proc.slot.clone()) else { return };
        let journeys = self.weather.as_mut().map_or_else(|| vec![Span::ZERO], Weather::journeys);
        for span in journeys {
            self.plan(span, Happening::Hears(Event::Notified { slot: slot.clone(), pid, told: told.clone() }));
        }
    }

    /// Somebody outside takes a lock, if it is free, for so long.
    pub fn stranger_takes(&mut self, lock: Lock, span: Span) {
        if !self.locks.contains_key(&lock) {
            self.locks.insert(lock.clone(), Holder::Stranger(77));
            self.plan(span, Happening::StrangerLetsGo { lock });
        }
    }

    /// All that anyone ever hears goes through here: one step, its effects, the checks; then the answers that are owed at once.
    pub fn hear(&mut self, event: Event) {
        self.step(event);
        while let Some(event) = self.inbox.pop_front() {
            self.step(event);
        }
    }

    fn step(&mut self, event: Event) {
        self.steps += 1;
        self.story.heard(self.now, &event);
        self.ledger.before(self.now, &event);
        let mut effects = std::mem::take(&mut self.effects);
        self.engine.step(self.now, event, &mut effects);
        let mut spent = std::mem::take(&mut self.spent);
        for effect in effects.drain(..) {
            self.story.did(self.now, &effect);
            self.ledger.witness(self.now, &effect, &self.engine);
            self.perform(&effect);
            spent.push(effect);
        }
        self.effects = effects;
        let view = self.engine.view(self.now);
        self.ledger.after(self.now, &view, &self.engine, &spent);
        spent.clear();
        self.spent = spent;
        if self.weather.as_mut().is_some_and(Weather::hands_over) {
            self.hand_over();
        }
    }

    /// Serialise, read back, compare, and go on with the copy.
    pub fn hand_over(&mut self) {
        let text = serde_json::to_string(&self.engine).expect("the engine can be written down");
        let mut copy: Engine = serde_json::from_str(&text).expect("and read back");
        if copy != self.engine {
            let again = serde_json::to_string(&copy).expect("the copy can be written down");
            let at = text.bytes().zip(again.bytes()).position(|(a, b)| a != b).unwrap_or(text.len().min(again.len()));
            let part = |text: &str| text.chars().skip(at.saturating_sub(200)).take(300).collect::<String>();
            panic!(
                "the engine came back different from its JSON: {}
---- and not ----
{}",
                part(&again),
                part(&text)
            );
        }
        let (old, new) = (self.engine.view(self.now), copy.view(self.now));
        assert_eq!(old.programs, new.programs, "and so did its view");
        self.engine = copy;
    }

    fn perform(&mut self, effect: &Effect) {
        match effect {
            Effect::Open { .. } | Effect::Close { .. } => {}
            Effect::Spawn { slot, run, launch } => {
                let answer = self.spawn(slot, *run, launch);
                self.inbox.push_back(answer);
            }
            Effect::Signal { run, pid, signal, .. } => self.signal(*pid, *run, *signal),
            Effect::SignalLeftovers { run, signal } => {
                if self.left.get(run).is_some_and(|left| left.remains.heeds_term || *signal == Signal::KILL) {
                    self.plan(Span::millis(5), Happening::RemainsGo { run: *run });
                }
            }
            Effect::ForgetLeftovers { run } => {
                if let Some(left) = self.left.get_mut(run) {
                    left.forgotten = true;
                }
            }
            Effect::Measure { workers } => {
                let samples = workers.iter().filter_map(|(run, pid)| self.measure(*run, *pid)).collect();
                self.inbox.push_back(Event::Measured { samples });
            }
            Effect::Feed { ticket, .. } => {
                if let Some(ticket) = ticket {
                    self.answers.insert(*ticket, Ok(Reply::Done));
                }
            }
            Effect::LoadPlan { ticket, purpose } => {
                let (ticket, purpose) = (*ticket, *purpose);
                let result = match self.weather.take() {
                    Some(mut weather) => {
                        let read = weather.reads(self.engine.plan());
                        self.weather = Some(weather);
                        read
                    }
                    None => self.definitions.clone(),
                };
                let span = self.weather.as_mut().map_or(Span::ZERO, Weather::reading_takes);
                self.plan(span, Happening::Hears(Event::PlanLoaded { ticket, purpose, result: result.map(Box::new) }));
            }
            // Nobody reads the answers of a random run; the ledger has seen them.
            Effect::Reply { .. } if self.weather.is_some() => {}
            Effect::Reply { ticket, answer } => {
                self.answers.insert(*ticket, (**answer).clone());
            }
            Effect::Tell(_) if self.weather.is_some() => {}
            Effect::Tell(notice) => self.notices.push(notice.clone()),
            Effect::Quit => self.quit = true,
        }
    }

    fn spawn(&mut self, slot: &SlotId, run: RunId, launch: &Arc<Launch>) -> Event {
        self.spawns += 1;
        if let Some(lock) = &launch.lock
            && let Some(holder) = self.locks.get(lock)
        {
            let holder = match holder {
                Holder::Run(run) => self.procs.iter().find(|(_, proc)| proc.run == *run).map(|(pid, _)| *pid),
                Holder::Stranger(pid) => Some(*pid),
            };
            return Event::LockBusy { run, slot: slot.clone(), holder };
        }
        let fault = self.faults.pop_front().or_else(|| self.weather.as_mut().and_then(Weather::spawn_fault));
        if let Some(fault) = fault {
            return Event::SpawnFailed { run, slot: slot.clone(), fault };
        }
        let spec = self.engine.plan().programs.get(&slot.program);
        let counted_by_lines = spec.is_some_and(|spec| matches!(spec.policy.jobs.count, JobCount::Lines { .. }));
        let cast = self.casting.pop_front();
        let character = cast.unwrap_or_else(|| match (&mut self.weather, spec) {
            (Some(weather), Some(spec)) => weather.character(spec),
            _ => self.usual.clone(),
        });
        // The lowest free pid: reused as soon as can be, which no kernel does, so that every mix-up shows.
        let pid = self.free_pids.pop_first().unwrap_or_else(|| {
            self.next_pid += 1;
            self.next_pid
        });
        if let Some(lock) = &launch.lock {
            self.locks.insert(lock.clone(), Holder::Run(run));
        }
        if let Some(span) = character.lives {
            self.plan(span, Happening::Dies { pid, run, exit: character.exit });
        }
        if let Some(span) = character.ready {
            self.plan(span, Happening::SaysReady { pid, run });
        }
        if let Some((every, _)) = character.heartbeat {
            self.plan(every, Happening::Beats { pid, run });
        }
        if let Some(work) = character.work {
            self.plan(work.rests, Happening::JobBegins { pid, run });
        }
        let proc = Proc {
            run,
            slot: slot.clone(),
            character,
            launch: launch.clone(),
            born: self.now.moment,
            jobs: 0,
            busy: false,
            asked: Vec::new(),
            leaving: false,
            dead: None,
            frozen: false,
            lock: launch.lock.clone(),
            counted_by_lines,
        };
        let before = self.procs.insert(pid, proc);
        assert!(before.is_none(), "the fake kernel gave out pid {pid} twice");
        Event::Spawned { run, slot: slot.clone(), pid }
    }

    fn measure(&self, run: RunId, pid: i32) -> Option<Sample> {
        let proc = self.procs.get(&pid).filter(|proc| proc.run == run && proc.dead.is_none())?;
        let age = self.now.moment.since(proc.born);
        let (base, leak) = proc.character.memory;
        Some(Sample { run, memory: Bytes(base + leak * age.0 / 1000), cpu: Span(age.0 / 10) })
    }

    fn signal(&mut self, pid: i32, run: RunId, signal: Signal) {
        // A zombie takes signals and does nothing.
        let Some(proc) = self.procs.get_mut(&pid).filter(|proc| proc.run == run && proc.dead.is_none()) else { return };
        if signal == Signal::KILL {
            let span = proc.character.dies_hard;
            return self.plan(span, Happening::Dies { pid, run, exit: Exit::Signal(signal) });
        }
        if signal == Signal::STOP {
            proc.frozen = true;
            return;
        }
        if signal == Signal::CONT {
            if std::mem::take(&mut proc.frozen) {
                // Its work and its beats stood still; they go on.
                let character = proc.character.clone();
                if !proc.asked.is_empty() && !matches!(character.heeds, Heeds::Never) {
                    return self.plan(Span::ZERO, Happening::Dies { pid, run, exit: Exit::Code(0) });
                }
                if let Some(work) = character.work {
                    proc.busy = false;
                    self.plan(work.rests, Happening::JobBegins { pid, run });
                }
            }
            return;
        }
        proc.asked.push(signal);
        if proc.frozen {
            return;
        }
        let first = proc.asked.len() == 1;
        let (says_stopping, extends) = (proc.character.says_stopping && first, proc.character.extends.filter(|_| first));
        let leaves_in = match proc.character.heeds {
            Heeds::After(span) => first.then_some(span),
            Heeds::BetweenJobs => {
                proc.leaving = true;
                (!proc.busy).then_some(Span::ZERO)
            }
            Heeds::Nth(n) => (proc.asked.len() == n).then_some(Span::ZERO),
            Heeds::Only(only) => (signal == only).then_some(Span::ZERO),
            Heeds::Never => None,
        };
        if says_stopping || extends.is_some() {
            self.tell(pid, Notify { stopping: says_stopping, extend_timeout: extends, ..Notify::default() });
        }
        if let Some(span) = leaves_in {
            self.plan(span, Happening::Dies { pid, run, exit: Exit::Code(0) });
        }
    }

    /// A free pid is given to somebody outside of the fleet.
    pub fn reserve(&mut self, pid: i32) {
        assert!(self.free_pids.remove(&pid), "pid {pid} is not free");
    }

    pub fn is_held(&self, lock: &Lock) -> bool {
        self.locks.contains_key(lock)
    }

    /// The pids of all workers that are not reaped.
    pub fn pids(&self) -> Vec<i32> {
        self.procs.keys().copied().collect()
    }

    /// True if nothing of any life is left.
    pub fn is_deserted(&self) -> bool {
        self.procs.is_empty() && self.left.values().all(|left| left.forgotten)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.story.last_page());
        }
    }
}
