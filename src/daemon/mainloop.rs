//! Wait, step, perform, publish.
//!
//! One turn takes one thing that happened, adds whatever else is ready (bounded, so that no source starves
//! another), and steps the engine through all of it. Exits come first but for the last words of the dead, and a pid is
//! forgotten by the hands as soon as it is reaped, so nobody signals one that was given back to the kernel. A spawn's answer enters the inbox before anything else, so no exit can
//! overtake it.

use crate::api::handle::{Ask, Handle};
use crate::daemon::boot::Loader;
use crate::daemon::hands::Hands;
use crate::daemon::journal::{self, Journal};
use crate::daemon::supervisor_log;
use crate::engine::Engine;
use crate::engine::effect::Effect;
use crate::engine::event::{Event, Purpose};
use crate::listeners::Pools;
use crate::logs::Report;
use crate::model::command::{Answer, Command, Ticket};
use crate::model::notice::{Notice, What};
use crate::model::plan::Plan;
use crate::model::signal::Signal;
use crate::model::spec::Kind;
use crate::model::state::State;
use crate::model::view::{Mood, SlotView, View};
use crate::os::signals::{Caught, Signals};
use crate::os::{clock, heap, reap, systemd};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::sync::{broadcast, oneshot, watch};

/// Everything the loop listens to.
pub struct Sources {
    pub signals: Signals,
    pub asks: Receiver<Ask>,
    pub reports: UnboundedReceiver<Report>,
    pub loaded: UnboundedReceiver<Event>,
}

/// Where what happened is told.
pub struct Publisher {
    pub view: watch::Sender<Arc<View>>,
    pub plan: watch::Sender<Arc<Plan>>,
    pub notices: broadcast::Sender<Arc<Notice>>,
    /// Told and not yet given out: each time costs the doors' thread a wake-up.
    pub told: Vec<Arc<Notice>>,
}

impl Publisher {
    fn tell(&mut self, notice: Notice) {
        self.told.push(Arc::new(notice));
        if self.told.len() >= NOTICES {
            self.give_out();
        }
    }

    fn give_out(&mut self) {
        for notice in self.told.drain(..) {
            // No receiver is no fault: nobody is looking.
            let _ = self.notices.send(notice);
        }
    }
}

/// Doors that wait for an answer, and what is under way outside of the engine.
pub struct Waiting {
    doors: HashMap<Ticket, oneshot::Sender<Answer>>,
    /// Given out once the picture that goes with them is published: who asks and then looks must see what he asked for.
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
    next: u64,
    loader: Loader,
    quitting: bool,
}

impl Waiting {
    pub fn new(loader: Loader) -> Waiting {
        Waiting { doors: HashMap::new(), answers: Vec::new(), next: 0, loader, quitting: false }
    }

    fn admit(&mut self, door: oneshot::Sender<Answer>) -> Ticket {
        self.next += 1;
        let ticket = Ticket(self.next);
        self.doors.insert(ticket, door);
        ticket
    }

    pub fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if let Some(door) = self.doors.remove(&ticket) {
            self.answers.push((door, answer));
        }
    }

    fn hand_out(&mut self) {
        for (door, answer) in self.answers.drain(..) {
            // Whoever asked may have gone away.
            let _ = door.send(answer);
        }
    }

    pub fn load_plan(&mut self, ticket: Option<Ticket>, purpose: Purpose) {
        self.loader.load(ticket, purpose);
    }

    pub fn quit(&mut self) {
        self.quitting = true;
    }
}

/// How much of each source one turn takes at most.
const ASKS: usize = 64;
const DATAGRAMS: usize = 512;
const REPORTS: usize = 1024;
const EXITS: usize = 256;
/// How many notices are given out together, well below what the channel holds.
const NOTICES: usize = 1024;

/// The fleet, from the first plan to the last exit.
pub struct Foreman {
    pub engine: Engine,
    pub hands: Hands,
    pub waiting: Waiting,
    pub publisher: Publisher,
    pub journal: Journal,
    /// The service manager was told that we are reading definitions, and not yet that we have.
    pub reloading: bool,
    /// There is a service manager that listens.
    pub above: bool,
    /// It has had nothing to wait for but the world, once.
    pub rested: bool,
    /// The definitions in force have changed since readers were shown them.
    pub plan_is_new: bool,
    /// The definitions are Supervisor's: so are our words, and HUP begins everything anew.
    pub as_supervisor: bool,
    /// As it was told last.
    pub mood: Mood,
    /// Event listeners; `None` where nobody can define one.
    pub pools: Option<Pools>,
}

impl Foreman {
    /// Runs until the engine says `Quit`.
    pub async fn run(&mut self, sources: &mut Sources) {
        let mut inbox = VecDeque::new();
        let mut more = Pending::default();
        let mut watchdog = systemd::watchdog().map(|span| tokio::time::interval(Duration::from_millis((span.0 / 2).max(1))));
        let mut told = String::new();
        while !self.waiting.quitting {
            if !more.any() {
                self.wait(sources, &mut inbox, &mut watchdog).await;
            }
            more = self.gather(sources, &mut inbox);
            self.work_off(&mut inbox);
            self.publish(&mut told);
        }
    }

    /// Takes up the first plan: what is to be done, not yet done. Readers see the slots from now on.
    pub fn take_up(&mut self, plan: Box<Plan>) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.engine.step(clock::now(), Event::PlanLoaded { ticket: None, purpose: Purpose::Reload, result: Ok(plan) }, &mut effects);
        self.publisher.plan.send_replace(Arc::new(self.engine.plan().clone()));
        self.publisher.view.send_replace(self.engine.view(clock::now()));
        effects
    }

    /// Carries out what `take_up` left to do.
    pub fn begin(&mut self, effects: Vec<Effect>) {
        let mut answers = VecDeque::new();
        self.show_listeners(true);
        for effect in effects {
            self.perform(effect, &mut answers);
        }
        self.work_off(&mut answers);
        self.publish(&mut String::new());
    }

    /// Steps the engine through everything that is in the inbox.
    fn work_off(&mut self, inbox: &mut VecDeque<Event>) {
        let mut effects = Vec::new();
        let mut answers = VecDeque::new();
        while let Some(event) = inbox.pop_front() {
            self.engine.step(clock::now(), event, &mut effects);
            self.note_mood();
            for effect in effects.drain(..) {
                self.perform(effect, &mut answers);
            }
            while let Some(answer) = answers.pop_back() {
                inbox.push_front(answer);
            }
        }
    }

    /// Tells of it when everything begins to stop, and when it has begun anew; before what follows from it is done.
    fn note_mood(&mut self) {
        let before = std::mem::replace(&mut self.mood, self.engine.mood());
        match (before, self.mood) {
            (Mood::Running, Mood::Renewing | Mood::ShuttingDown) => {
                if let Some(pools) = &self.pools {
                    pools.stopping();
                }
                if self.as_supervisor {
                    let view = self.publisher.view.borrow().clone();
                    let left = |slot: &&Arc<SlotView>| !matches!(slot.state, State::Stopped | State::Exited | State::Fatal);
                    let names: Vec<&str> = view.slots().filter(left).map(|slot| slot.process.as_str()).collect();
                    supervisor_log::waiting_for(&names).into_iter().for_each(journal::record_as_supervisor);
                }
            }
            (Mood::Renewing, Mood::Running) => self.show_listeners(true),
            (Mood::Running, Mood::Running)
            | (Mood::Renewing, Mood::Renewing | Mood::ShuttingDown)
            | (Mood::ShuttingDown, Mood::Running | Mood::Renewing | Mood::ShuttingDown) => {}
        }
    }

    /// The event listeners in force; `up`: and that we are up, which they hear first.
    fn show_listeners(&self, up: bool) {
        let Some(pools) = &self.pools else { return };
        let listeners = self.engine.plan().programs.values().filter_map(|spec| match &spec.kind {
            Kind::Listener(listener) => Some((spec.name.clone(), spec.group.clone(), listener.clone())),
            Kind::Program | Kind::Fcgi(_) => None,
        });
        pools.plan(listeners.collect());
        if up {
            pools.running();
        }
    }

    /// One `Effect` to one pair of hands: a flat `match`. Nothing is decided here.
    fn perform(&mut self, effect: Effect, answers: &mut VecDeque<Event>) {
        let hands = &mut self.hands;
        match effect {
            Effect::Open { slot, label, output, jobs, uid, gid } => hands.open(slot, label, *output, jobs, uid, gid),
            Effect::Close { slot } => hands.close(&slot),
            Effect::Spawn { slot, run, launch } => answers.push_back(hands.spawn(slot, run, &launch)),
            Effect::Signal { slot: _, run: _, pid, signal, group } => hands.signal(pid, signal, group),
            Effect::SignalLeftovers { run, signal } => answers.extend(hands.signal_leftovers(run, signal)),
            Effect::ForgetLeftovers { run } => hands.forget_leftovers(run),
            Effect::Measure { workers } => answers.push_back(hands.measure(&workers)),
            Effect::LoadPlan { ticket, purpose } => self.waiting.load_plan(ticket, purpose),
            Effect::Feed { ticket, run, pid, text } => {
                let answer = hands.feed(pid, run, text.as_bytes());
                if let Some(ticket) = ticket {
                    self.waiting.answer(ticket, answer);
                }
            }
            Effect::Reply { ticket, answer } => self.waiting.answer(ticket, *answer),
            Effect::Tell(notice) => self.tell(notice),
            Effect::Quit => self.waiting.quit(),
        }
    }

    fn tell(&mut self, notice: Notice) {
        match self.as_supervisor {
            true => supervisor_log::line(&notice, self.engine.plan()).into_iter().for_each(journal::record_as_supervisor),
            false => self.journal.record(&notice),
        }
        if matches!(notice.what, What::Loaded { .. } | What::GroupAdded { .. } | What::GroupRemoved { .. }) {
            self.plan_is_new = true;
            self.show_listeners(false);
        }
        if let Some(pools) = &self.pools {
            pools.notice(&notice);
        }
        self.publisher.tell(notice);
    }

    /// Sleeps until something happens or the engine has a date.
    async fn wait(&mut self, sources: &mut Sources, inbox: &mut VecDeque<Event>, watchdog: &mut Option<tokio::time::Interval>) {
        let deadline = self.engine.next_deadline();
        if deadline.is_none() && !std::mem::replace(&mut self.rested, true) {
            // The first time that nothing is on its way: everybody has started, and more is left of that than of any later day.
            heap::give_back();
        }
        let sleep = async {
            match deadline {
                Some(at) => tokio::time::sleep(Duration::from_millis(at.since(clock::now().moment).0)).await,
                None => std::future::pending().await,
            }
        };
        let beat = async {
            match watchdog {
                Some(interval) => interval.tick().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            caught = sources.signals.recv() => self.heed(caught, inbox),
            _ = self.hands.sockets.readable() => {}
            Some(ask) = sources.asks.recv() => self.admit(ask, inbox),
            Some(report) = sources.reports.recv() => inbox.push_back(told_by_logs(report)),
            Some(event) = sources.loaded.recv() => self.took(event, inbox),
            () = sleep => inbox.push_back(Event::Woke),
            _ = beat => systemd::ping(),
        }
    }

    /// Takes what is ready without waiting; says where more may be.
    fn gather(&mut self, sources: &mut Sources, inbox: &mut VecDeque<Event>) -> Pending {
        let mut more = Pending::default();
        let caught = sources.signals.pending();
        self.heed(caught, inbox);
        let (reaped, more_exits) = reap::reap(EXITS);
        more.exits = more_exits;
        let ended = if reaped.is_empty() { Vec::new() } else { self.hands.ended(reaped) };
        let mut told = VecDeque::new();
        more.datagrams = self.hands.told(DATAGRAMS, &mut told);
        // What the dead have told before they died, then their ends, then the rest.
        for event in told.into_iter().chain(ended).rev() {
            inbox.push_front(event);
        }
        for _ in 0..ASKS {
            let Ok(ask) = sources.asks.try_recv() else { break };
            self.admit(ask, inbox);
        }
        for _ in 0..REPORTS {
            let Ok(report) = sources.reports.try_recv() else { break };
            inbox.push_back(told_by_logs(report));
        }
        while let Ok(event) = sources.loaded.try_recv() {
            self.took(event, inbox);
        }
        if self.engine.next_deadline().is_some_and(|at| at <= clock::now().moment) {
            inbox.push_back(Event::Woke);
        }
        more
    }

    fn took(&mut self, loaded: Event, inbox: &mut VecDeque<Event>) {
        inbox.push_back(loaded);
        if std::mem::take(&mut self.reloading) {
            systemd::ready();
        }
    }

    fn admit(&mut self, ask: Ask, inbox: &mut VecDeque<Event>) {
        let ticket = self.waiting.admit(ask.answer);
        inbox.push_back(Event::Asked { ticket: Some(ticket), who: ask.who, command: ask.command });
    }

    /// Turns signals to us into what they ask for. SIGCHLD asks for nothing: every turn reaps.
    fn heed(&mut self, caught: Vec<Caught>, inbox: &mut VecDeque<Event>) {
        for Caught { signal, from } in caught {
            let who = match from {
                Some((pid, uid)) if pid > 0 => format!("{signal} from pid {pid} (uid {uid})"),
                _ => signal.to_string(),
            };
            if self.as_supervisor {
                let going = self.mood == Mood::ShuttingDown;
                supervisor_log::received(signal, going).into_iter().for_each(journal::record_as_supervisor);
            }
            let asked = |command| Event::Asked { ticket: None, who: who.clone(), command };
            match signal {
                Signal::TERM | Signal::INT | Signal::QUIT => {
                    systemd::stopping();
                    inbox.push_back(asked(Command::Shutdown));
                }
                Signal::HUP => {
                    systemd::reloading();
                    self.reloading = true;
                    inbox.push_back(asked(match self.as_supervisor {
                        true => Command::Renew,
                        false => Command::Reload { dry: false },
                    }));
                }
                Signal::USR2 => {
                    match self.as_supervisor {
                        true => tracing::info!("supervisord logreopen"),
                        false => tracing::info!("{who}: log files are opened again"),
                    }
                    self.hands.logs.reopen();
                    self.journal.reopen();
                }
                _ => {}
            }
        }
    }

    /// Shows readers the new picture, and the service manager one line of it.
    fn publish(&mut self, told: &mut String) {
        if std::mem::take(&mut self.plan_is_new) {
            self.publisher.plan.send_replace(Arc::new(self.engine.plan().clone()));
        }
        self.hands.wired();
        let view = self.engine.view(clock::now());
        if !Arc::ptr_eq(&view, &self.publisher.view.borrow()) {
            if self.above {
                let line = summary(&view);
                if line != *told {
                    systemd::status(&line);
                    *told = line;
                }
            }
            self.publisher.view.send_replace(view);
        }
        // After the picture: who hears that something has happened and then looks must see it.
        self.publisher.give_out();
        self.waiting.hand_out();
        self.journal.flush();
    }

    /// The handle that doors hold.
    pub fn handle(&self, asks: tokio::sync::mpsc::Sender<Ask>) -> Handle {
        Handle::new(
            asks,
            self.publisher.view.subscribe(),
            self.publisher.plan.subscribe(),
            self.publisher.notices.clone(),
            self.hands.logs.clone(),
        )
    }
}

#[derive(Default)]
struct Pending {
    exits: bool,
    datagrams: bool,
}

impl Pending {
    fn any(&self) -> bool {
        self.exits || self.datagrams
    }
}

fn told_by_logs(report: Report) -> Event {
    match report {
        Report::Counted { slot, run, done, failed, job } => Event::Counted { slot, run, done, failed, job },
        Report::Changed { slot, trouble, lost } => Event::LogChanged { slot, trouble, lost },
        // Output is for listeners, and is taken out before; the engine never meets it.
        Report::Output { .. } | Report::Captured { .. } => Event::Woke,
    }
}

/// `38 of 40 workers running in 3 programs`; on the way out, how many are waited for.
fn summary(view: &View) -> String {
    if view.mood == Mood::ShuttingDown {
        let left = view.slots().filter(|slot| !slot.state.is_empty()).count();
        return format!("shutting down: waiting for {left} workers to end");
    }
    let wanted: u32 = view.programs.iter().map(|program| program.wanted).sum();
    let running: u32 = view.programs.iter().map(|program| program.running).sum();
    format!("{running} of {wanted} workers running in {} programs", view.programs.len())
}
