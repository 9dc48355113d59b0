//! What must hold after every step, whoever did what.
//!
//! The ledger keeps its own books of who lives where, from events and effects alone, and holds the engine and its view
//! against them. It knows no clock but the one it is told, and where the engine has a choice it leaves it the choice: a
//! check here is a promise, not a second implementation.

use ganger::engine::Engine;
use ganger::engine::effect::Effect;
use ganger::engine::event::{Event, Purpose};
use ganger::model::command::{Answer, Batch, Command, Refusal, Reply, Ticket};
use ganger::model::exit::Exit;
use ganger::model::name::{ProgramName, RunId, SlotId};
use ganger::model::notice::{Notice, What, Why};
use ganger::model::signal::Signal;
use ganger::model::spec::{BackoffRule, Leftovers, Policy};
use ganger::model::state::State;
use ganger::model::time::{Moment, Now, Span};
use ganger::model::view::{ProgramView, SlotView, View};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What we know of a slot without asking the engine.
#[derive(Debug, Default)]
struct Facts {
    open: bool,
    launching: Option<RunId>,
    worker: Option<(RunId, i32)>,
    born: Moment,
    /// What is left of this life is being ended.
    clearing: Option<RunId>,
    told: Option<State>,
    /// A person stopped it, and nobody has asked for it since.
    held_down: bool,
    /// Failed starts in a row; never too few.
    failures: u32,
    /// The last start failed for want of descriptors, processes or memory.
    no_room: bool,
    /// No start before this moment.
    not_before: Moment,
    /// When a FATAL slot may be tried again by itself.
    retry: Option<Moment>,
    /// Taken away to be replaced, and no new worker is trusted yet.
    away: bool,
    due_since: Option<Moment>,
    last_why: Option<Why>,
}

#[derive(Debug, Default)]
pub struct Ledger {
    slots: HashMap<SlotId, Facts>,
    /// Every living worker by its pid.
    workers: HashMap<i32, SlotId>,
    last_run: Option<RunId>,
    /// Answers owed at the end of this step.
    owed: BTreeSet<Ticket>,
    /// Answers owed when the definitions have been read.
    loading: BTreeSet<Ticket>,
    seq: u64,
    pub shutting_down: bool,
    /// Everything is being stopped, to start anew.
    renewing: bool,
    quit: bool,
    steps: u64,
    view: Option<Arc<View>>,
    /// Of the step under way.
    cause: Cause,
    touched: Vec<SlotId>,
    /// The largest batch of rolling restarts asked for.
    batches: BTreeMap<ProgramName, u32>,
    /// A worker said that it stops; so there may be a date although all is quiet.
    said_stopping: bool,
    /// Programs of which a rolling restart was ever halted.
    pub halted: BTreeSet<ProgramName>,
    /// How often each thing was seen, for the proof that a run was worth its time.
    pub seen: BTreeMap<&'static str, u64>,
}

/// What the step under way is about.
#[derive(Debug, Default)]
enum Cause {
    #[default]
    World,
    Person(Command),
    Plan,
}

impl Ledger {
    pub fn before(&mut self, now: Now, event: &Event) {
        assert!(!self.quit, "nothing is heard after Quit");
        self.steps += 1;
        self.touched.clear();
        self.cause = Cause::World;
        match event {
            Event::PlanLoaded { ticket, purpose, result } => {
                if let Some(ticket) = ticket {
                    assert!(self.loading.remove(ticket), "the world answers only what was asked");
                    self.owed.insert(*ticket);
                }
                if *purpose == Purpose::Renew && result.is_ok() && !self.shutting_down {
                    self.renewing = true;
                }
                if *purpose == Purpose::Reload && result.is_ok() {
                    self.cause = Cause::Plan;
                    // Dates that were set by the old rules may stand.
                    self.excuse(|facts| {
                        facts.retry = Some(Moment(0));
                        facts.due_since = facts.due_since.map(|_| Moment(0));
                    });
                    self.batches.clear();
                }
            }
            Event::Asked { ticket, command, .. } => {
                self.owed.extend(*ticket);
                self.cause = Cause::Person(command.clone());
                self.person(*ticket, command);
            }
            Event::Spawned { run, slot, pid } => {
                let facts = self.slots.entry(slot.clone()).or_default();
                assert_eq!(facts.launching.take(), Some(*run));
                facts.worker = Some((*run, *pid));
                facts.born = now.moment;
                assert!(self.workers.insert(*pid, slot.clone()).is_none(), "pid {pid} is given out twice");
                self.touched.push(slot.clone());
            }
            Event::SpawnFailed { run, slot, fault } => {
                let facts = self.slots.entry(slot.clone()).or_default();
                assert_eq!(facts.launching.take(), Some(*run));
                // What the host has no room for is no failure of the program.
                facts.no_room = fault.is_ours();
                facts.failures += u32::from(!facts.no_room);
                self.touched.push(slot.clone());
            }
            Event::LockBusy { run, slot, .. } => {
                assert_eq!(self.slots.entry(slot.clone()).or_default().launching.take(), Some(*run));
                self.touched.push(slot.clone());
            }
            Event::Ended { pid, exit, leftovers } => {
                if let Some(slot) = self.workers.remove(pid) {
                    self.ended(&slot, *exit, *leftovers);
                    self.touched.push(slot);
                }
            }
            Event::Cleared { run } => {
                if let Some((slot, facts)) = self.slots.iter_mut().find(|(_, facts)| facts.clearing == Some(*run)) {
                    facts.clearing = None;
                    self.touched.push(slot.clone());
                }
            }
            Event::Notified { told, .. } => self.said_stopping |= told.stopping,
            Event::Counted { .. } | Event::Measured { .. } | Event::LogChanged { .. } | Event::Woke => {}
        }
    }

    fn ended(&mut self, slot: &SlotId, exit: Exit, leftovers: u32) {
        let state = self.view_of(slot).map(|view| view.state);
        let facts = self.slots.entry(slot.clone()).or_default();
        let (run, _) = facts.worker.take().expect("a pid in the books is a worker in a slot");
        if leftovers > 0 {
            facts.clearing = Some(run);
        }
        // Not yet trusted, and gone by itself. That it was stopped for not being ready is known by the notice.
        if state == Some(State::Starting) && exit != Exit::Unknown {
            facts.failures += 1;
        }
    }

    /// A person speaks: what he may lift is lifted for all, since whom he means is the engine's to say.
    fn person(&mut self, ticket: Option<Ticket>, command: &Command) {
        match command {
            Command::Start { .. } | Command::Restart { .. } => {
                self.excuse(|facts| facts.retry = Some(Moment(0)));
                if ticket.is_none() {
                    self.excuse(|facts| facts.held_down = false);
                }
            }
            Command::Scale { .. } => self.excuse(|facts| facts.held_down = false),
            Command::Stop { .. } => self.excuse(|_| {}),
            Command::Shutdown => {
                self.shutting_down = true;
                self.renewing = false;
            }
            // What begins anew is excused when it does (`anew`); a group that is removed is forgotten.
            Command::Renew | Command::AddGroup { .. } | Command::RemoveGroup { .. } => {}
            Command::Roll { .. }
            | Command::Recycle { .. }
            | Command::Signal { .. }
            | Command::Reload { .. }
            | Command::Reread
            | Command::Feed { .. }
            | Command::Remote { .. }
            | Command::Refresh => {}
        }
    }

    fn excuse(&mut self, also: impl Fn(&mut Facts)) {
        for facts in self.slots.values_mut() {
            facts.not_before = Moment(0);
            facts.away = false;
            also(facts);
        }
    }

    /// Holds one effect against the books, in the order in which the hands would carry them out.
    pub fn witness(&mut self, now: Now, effect: &Effect, engine: &Engine) {
        assert!(!self.quit, "nothing is done after Quit: {effect:?}");
        match effect {
            Effect::Open { slot, .. } => self.slots.entry(slot.clone()).or_default().open = true,
            Effect::Close { slot } => {
                let facts = self.slots.entry(slot.clone()).or_default();
                assert!(facts.open, "{slot} is closed but was not open");
                assert!(facts.is_empty(), "{slot} is closed with something in it: {facts:?}");
                *facts = Facts::default();
            }
            Effect::Spawn { slot, run, launch } => {
                assert!(!self.shutting_down && !self.renewing, "{slot} is started while everything stops");
                let facts = self.slots.entry(slot.clone()).or_default();
                assert!(facts.open, "{slot} is started before it was opened");
                assert!(facts.launching.is_none() && facts.worker.is_none(), "{slot} would have two workers: {facts:?}");
                assert!(facts.clearing.is_none(), "{slot} is started among what its last worker left behind");
                assert!(!facts.held_down, "{slot} was stopped by a person and is started by nobody");
                assert!(
                    now.moment >= facts.not_before,
                    "{slot} is started {} before its backoff is over",
                    facts.not_before.since(now.moment)
                );
                assert!(self.last_run.is_none_or(|last| last < *run), "run {run:?} comes after {:?}", self.last_run);
                let spec = engine.plan().programs.get(&slot.program).unwrap_or_else(|| panic!("{slot} is started and not in the plan"));
                assert_eq!(**launch, spec.launch_of(slot.number), "a start uses the definition in force");
                facts.launching = Some(*run);
                self.last_run = Some(*run);
                self.touched.push(slot.clone());
                self.count("spawn");
            }
            Effect::Signal { slot, run, pid, signal, group } => {
                let worker = self.slots.get(slot).and_then(|facts| facts.worker);
                assert_eq!(worker, Some((*run, *pid)), "{signal} to a stranger: {slot}, run {run:?}, pid {pid}");
                if *group && !matches!(self.cause, Cause::Person(Command::Signal { .. })) {
                    let stop = engine.plan().programs.get(&slot.program).map(|spec| &spec.policy.stop);
                    assert!(
                        stop.is_none_or(|stop| stop.as_group || (stop.kill_as_group && *signal == Signal::KILL)),
                        "{slot}: nobody asked for {signal} to the whole group"
                    );
                }
                self.count(if *signal == Signal::KILL { "kill" } else { "signal" });
            }
            Effect::SignalLeftovers { run, .. } => {
                assert!(self.slots.values().any(|facts| facts.clearing == Some(*run)), "{run:?} has left nothing behind");
                self.count("leftovers signalled");
            }
            Effect::ForgetLeftovers { run } => {
                let left = self.slots.iter_mut().find(|(_, facts)| facts.clearing == Some(*run));
                let (slot, facts) = left.unwrap_or_else(|| panic!("{run:?} has left nothing behind"));
                facts.clearing = None;
                let policy = engine.plan().programs.get(&slot.program).map(|spec| spec.policy.stop.leftovers);
                assert!(policy != Some(Leftovers::Kill), "{slot}: leftovers shall be ended, not let alone");
                self.count("leftovers let alone");
            }
            Effect::Measure { workers } => {
                let mut seen = BTreeSet::new();
                for (run, pid) in workers {
                    let worker = self.workers.get(pid).and_then(|slot| self.slots.get(slot)).and_then(|facts| facts.worker);
                    assert_eq!(worker, Some((*run, *pid)), "a stranger is measured");
                    assert!(seen.insert(*pid), "pid {pid} is measured twice");
                }
                self.count("measure");
            }
            Effect::Feed { ticket, run, pid, .. } => {
                let worker = self.workers.get(pid).and_then(|slot| self.slots.get(slot)).and_then(|facts| facts.worker);
                assert_eq!(worker, Some((*run, *pid)), "a stranger is written to");
                if let Some(ticket) = ticket {
                    assert!(self.owed.remove(ticket), "a ticket that nobody holds");
                }
                self.count("fed");
            }
            Effect::LoadPlan { ticket, .. } => {
                if let Some(ticket) = ticket {
                    assert!(self.owed.remove(ticket), "the definitions are read for a ticket that nobody holds");
                    self.loading.insert(*ticket);
                }
            }
            Effect::Reply { ticket, answer } => {
                assert!(self.owed.remove(ticket), "{ticket:?} is answered twice, or was never asked, or too early");
                self.answered(answer);
            }
            Effect::Tell(notice) => self.told(notice),
            Effect::Quit => {
                assert!(self.shutting_down, "nobody asked for a shutdown");
                assert!(self.workers.is_empty(), "Quit while {} workers live", self.workers.len());
                assert!(self.slots.values().all(Facts::is_empty), "Quit with slots that are not empty");
                self.quit = true;
            }
        }
    }

    fn answered(&mut self, answer: &Answer) {
        let Cause::Person(command) = &self.cause else { return };
        let (down, up) = (matches!(command, Command::Stop { .. }), matches!(command, Command::Start { .. } | Command::Restart { .. }));
        let Ok(Reply::Outcomes(outcomes)) = answer else { return };
        let Some(view) = self.view.clone() else { return };
        for outcome in outcomes {
            let Some(slot) = view.slots().find(|slot| slot.label() == outcome.name) else {
                assert!(
                    matches!(outcome.refused, Some(Refusal::NoSuch { .. })),
                    "{} is in no view, and was not refused as unknown: {command:?}",
                    outcome.name
                );
                continue;
            };
            let facts = self.slots.entry(SlotId::new(&slot.program, slot.number)).or_default();
            if down {
                facts.held_down = true;
            } else if up {
                facts.held_down = false;
            }
        }
    }

    /// All was stopped, and starts as if nothing had been.
    fn anew(&mut self) {
        assert!(self.workers.is_empty(), "all begins anew while {} workers live", self.workers.len());
        self.renewing = false;
        self.cause = Cause::Plan;
        self.batches.clear();
        self.excuse(|facts| {
            facts.held_down = false;
            facts.retry = Some(Moment(0));
            facts.due_since = None;
        });
        self.count("renewed");
    }

    fn told(&mut self, notice: &Notice) {
        assert_eq!(notice.seq, self.seq + 1, "notices are numbered without a gap");
        self.seq = notice.seq;
        match &notice.what {
            What::Loaded { .. } if self.renewing => self.anew(),
            What::Remote { .. } => self.count("remote"),
            What::GroupAdded { .. } => self.count("group added"),
            What::GroupRemoved { .. } => self.count("group removed"),
            _ => {}
        }
        if let What::Rolling { halted: Some(_), .. } = notice.what {
            self.halted.insert(ProgramName::new(&notice.about));
        }
        let Some(slot) = &notice.slot else { return };
        match &notice.what {
            What::State { from, to, .. } => {
                let facts = self.slots.entry(slot.clone()).or_default();
                if let Some(told) = facts.told {
                    assert_eq!(told.word(), from.word(), "{slot}: the story of its states has a hole: {notice}");
                }
                facts.told = Some(*to);
            }
            What::Ended { why, run, .. } => {
                let facts = self.slots.entry(slot.clone()).or_default();
                assert!(self.last_run.is_some_and(|last| *run <= last));
                facts.last_why = Some(*why);
                // Also of one who was trusted, and then it is one too many: never too few.
                if matches!(why, Why::NotReady | Why::Watchdog | Why::JobTimeout) {
                    facts.failures += 1;
                }
                self.count(match why {
                    Why::Crash => "crash",
                    Why::Finished => "finished",
                    Why::Jobs => "jobs",
                    Why::Memory => "memory",
                    Why::Lifetime => "lifetime",
                    Why::Watchdog => "watchdog",
                    Why::JobTimeout => "job timeout",
                    Why::NotReady => "not ready",
                    Why::Manual => "manual",
                    Why::Scale => "scale",
                    Why::Deploy => "deploy",
                    Why::Removed => "removed",
                    Why::Shutdown => "shutdown",
                });
            }
            What::Trouble { text } => panic!("the engine is in trouble: {text}"),
            What::Spawned { .. }
            | What::GroupAdded { .. }
            | What::GroupRemoved { .. }
            | What::Remote { .. }
            | What::SpawnFailed { .. }
            | What::Signalled { .. }
            | What::Leftovers { .. }
            | What::Due { .. }
            | What::Scaled { .. }
            | What::Rolling { .. }
            | What::Asked { .. }
            | What::Loaded { .. }
            | What::LoadFailed { .. }
            | What::LogTrouble { .. }
            | What::LogHealed { .. }
            | What::Daemon { .. } => {}
        }
    }

    /// Holds the whole engine, as its view shows it, against the books.
    pub fn after(&mut self, now: Now, view: &Arc<View>, engine: &Engine, effects: &[Effect]) {
        assert!(self.owed.is_empty(), "{:?} got no answer in their step", self.owed);
        assert_eq!(view.seq, self.seq, "the view is not up to date");
        let old = self.view.take();
        let nothing = View::default();
        let before = old.as_deref().unwrap_or(&nothing);
        if let Cause::Person(Command::Roll { batch, .. }) = &self.cause {
            let batch = *batch;
            self.note_batch(view, batch);
        }
        if matches!(self.cause, Cause::Plan) {
            // Who was scaled away or removed by the definitions is forgotten, also when he is called back before he was gone.
            for (slot, facts) in &mut self.slots {
                let kept = before.programs.iter().find(|program| program.name == slot.program).map(|program| program.numprocs);
                let asked = engine.plan().programs.get(&slot.program).map(|spec| spec.policy.numprocs);
                facts.held_down &= kept.is_some() && kept == asked;
            }
        }
        let mut gone = before.programs.iter().peekable();
        for program in &view.programs {
            while let Some(old) = gone.next_if(|old| old.name < program.name) {
                self.forgotten(old);
            }
            let old = gone.next_if(|old| old.name == program.name);
            if old.is_none_or(|old| !Arc::ptr_eq(old, program)) {
                self.check_program(now, old.map(|old| &**old), program, engine);
            }
        }
        for old in gone {
            self.forgotten(old);
        }
        for slot in std::mem::take(&mut self.touched) {
            let shown = slot_in(view, &slot);
            let facts = self.slots.entry(slot.clone()).or_default();
            match shown {
                Some(shown) => facts.agree(shown),
                None => assert!(facts.is_empty(), "{slot} is not shown and not empty: {facts:?}"),
            }
        }
        if let Cause::Person(Command::Scale { program, .. }) = &self.cause {
            check_scale(before, view, program, effects);
        }
        if self.steps.is_multiple_of(61) {
            self.check_dates(now, view, engine);
        }
        self.view = Some(view.clone());
    }

    fn note_batch(&mut self, view: &View, batch: Batch) {
        for program in &view.programs {
            let size = match batch {
                Batch::Workers(count) => count,
                Batch::Percent(percent) => (u64::from(program.wanted) * u64::from(percent)).div_ceil(100) as u32,
            };
            let most = self.batches.entry(program.name.clone()).or_default();
            *most = size.max(*most);
        }
    }

    fn forgotten(&mut self, program: &ProgramView) {
        for slot in &program.slots {
            self.forget(slot);
        }
    }

    fn forget(&mut self, slot: &SlotView) {
        let id = SlotId::new(&slot.program, slot.number);
        if let Some(facts) = self.slots.remove(&id) {
            assert!(facts.is_empty(), "{id} is forgotten and not empty: {facts:?}");
            assert!(!facts.open, "{id} is forgotten and its ways are still open");
        }
    }

    fn check_program(&mut self, now: Now, old: Option<&ProgramView>, program: &ProgramView, engine: &Engine) {
        let name = &program.name;
        let none = Vec::new();
        let mut gone = old.map_or(&none, |old| &old.slots).iter().peekable();
        let spec = engine.plan().programs.get(name);
        let mut running = 0;
        let mut taken = Vec::new();
        let mut last = None;
        for slot in &program.slots {
            assert!(last < Some(slot.number), "{name}: slots are shown in order of their numbers");
            last = Some(slot.number);
            running += u32::from(slot.state == State::Running);
            while let Some(old) = gone.next_if(|old| old.number < slot.number) {
                self.forget(old);
            }
            let old = gone.next_if(|old| old.number == slot.number);
            if old.is_none_or(|old| !Arc::ptr_eq(old, slot)) {
                let policy = spec.map(|spec| &spec.policy);
                if old.is_some_and(|old| is_taken(old, slot)) {
                    taken.push(slot.number);
                }
                self.check_slot(now, old.map(|old| &**old), slot, policy, engine);
            }
        }
        for old in gone {
            self.forget(old);
        }
        assert_eq!(program.running, running, "{name}: the count of running workers");
        if let Some(spec) = spec {
            assert_eq!(program.numprocs, spec.policy.numprocs, "{name}: numprocs");
            if !taken.is_empty() && !self.shutting_down && !self.renewing {
                let limit = spec.policy.recycle.concurrency.max(self.batches.get(name).copied().unwrap_or(0)).max(1);
                let is_away = |slot: &&Arc<SlotView>| self.slots.get(&SlotId::new(name, slot.number)).is_some_and(|facts| facts.away);
                let away: Vec<u32> = program.slots.iter().filter(is_away).map(|slot| slot.number).collect();
                assert!(
                    away.len() <= limit as usize,
                    "{name}: slots {taken:?} are taken away to be replaced, and {away:?} are away, where {limit} may be"
                );
            }
        }
        if let Some(old) = old {
            assert!(program.jobs >= old.jobs && program.errors >= old.errors, "{name}: totals never go back");
            assert!(old.ended.iter().all(|(why, count)| program.ended.get(why) >= Some(count)), "{name}: counts of ends never go back");
        }
    }

    fn check_slot(&mut self, now: Now, old: Option<&SlotView>, slot: &SlotView, policy: Option<&Policy>, engine: &Engine) {
        let id = SlotId::new(&slot.program, slot.number);
        let by_person = matches!(self.cause, Cause::Person(_) | Cause::Plan);
        let shutting_down = self.shutting_down || self.renewing;
        let mut seen = None;
        let facts = self.slots.entry(id.clone()).or_default();
        facts.agree(slot);
        if let Some(told) = facts.told {
            // A lock is tried again in silence.
            let silent = told == State::Waiting && slot.state == State::Launching;
            assert!(silent || told.word() == slot.state.word(), "{id}: people were told {told} and shown {}", slot.state);
        }
        assert!(slot.history.len() <= 10, "{id}: its history has a bound");
        assert!(slot.tries <= facts.failures, "{id}: {} tries are shown, {} starts failed in a row", slot.tries, facts.failures);
        let was = old.map_or(State::Stopped, |old| old.state);

        if slot.state == State::Fatal && was != State::Fatal {
            let retries = policy.and_then(|policy| policy.startretries);
            let retries = retries.unwrap_or_else(|| panic!("{id}: FATAL where it should never give up"));
            assert!(facts.failures > retries, "{id}: FATAL after {} failures with startretries {retries}", facts.failures);
            facts.retry = policy.and_then(|policy| policy.backoff.retry_after_fatal).map(|span| now.moment + span);
            assert_eq!(slot.next_try.is_some(), facts.retry.is_some(), "{id}: FATAL shows when it is tried again, or that it is not");
            seen = Some("fatal");
        }
        if was == State::Fatal && slot.state != State::Fatal && slot.state != State::Stopped && !by_person {
            assert!(facts.retry.is_some_and(|at| now.moment >= at), "{id}: FATAL was lifted by nobody");
        }
        if slot.state == State::Backoff && old.is_none_or(|old| old.state != State::Backoff || old.tries != slot.tries) {
            let policy = policy.unwrap_or_else(|| panic!("{id}: BACKOFF without a definition"));
            let (least, most) = match std::mem::take(&mut facts.no_room) {
                true => (Span::secs(5), Span::secs(5)),
                false => backoff_bounds(&policy.backoff.rule, slot.tries),
            };
            facts.not_before = now.moment + least;
            let date = engine.next_deadline();
            assert!(date.is_some_and(|at| at <= now.moment + most), "{id}: backoff of {most} at most, and the next date is {date:?}");
            assert!(slot.next_try.is_some(), "{id}: BACKOFF shows its next try");
            assert!(!shutting_down, "{id}: BACKOFF in a shutdown");
            seen = Some("backoff");
        }
        if matches!(slot.state, State::Backoff | State::Fatal) && matches!(was, State::Stopping | State::Clearing) {
            let why = facts.last_why;
            // It did not get ready, or it hung before it was ready.
            let failed = matches!(why, Some(Why::NotReady | Why::Crash | Why::Watchdog | Why::JobTimeout));
            assert!(failed, "{id}: a stop that we asked for ({why:?}) counts as a failure");
        }
        if slot.state.pending() {
            let date = engine.next_deadline();
            assert!(
                date.is_some_and(|at| at > Moment(0) && at <= now.moment + AN_HOUR),
                "{id}: {} with the next date at {date:?}",
                slot.state
            );
        }

        // Out of its place to be replaced, by a limit or by rolling.
        if slot.due.is_some() {
            facts.due_since.get_or_insert(now.moment);
        }
        if let Some(old) = old.filter(|old| is_taken(old, slot))
            && !by_person
            && !shutting_down
        {
            facts.away = true;
            let since = facts.due_since.unwrap_or(now.moment);
            let patience = policy.map_or(Span::ZERO, |policy| policy.recycle.patience);
            let busy = |slot: &SlotView| slot.job.as_ref().is_some_and(|job| !job.is_empty());
            let cut = busy(old) && busy(slot) && old.jobs == slot.jobs && old.job == slot.job;
            assert!(
                !cut || old.state != State::Running || now.moment.since(since) >= patience,
                "{id}: job {:?} is cut in half {} after it fell due, patience is {patience}",
                slot.job,
                now.moment.since(since)
            );
            seen = Some("taken away");
        }
        if slot.due.is_none() {
            facts.due_since = None;
        }
        match slot.state {
            State::Running => {
                facts.away = false;
                if was != State::Running && policy.is_none_or(|policy| policy.backoff.reset_after.is_none()) {
                    facts.failures = 0;
                }
            }
            State::Fatal | State::Exited | State::Stopped => facts.away = false,
            State::Launching | State::Waiting | State::Starting | State::Backoff | State::Stopping | State::Clearing => {}
        }
        if was != slot.state && slot.state == State::Waiting {
            seen = Some("waiting");
        }
        if let Some(what) = seen {
            self.count(what);
        }
    }

    /// Something pending has a date; nothing pending has none. Walks over all, so it is not asked in every step.
    fn check_dates(&mut self, now: Now, view: &View, engine: &Engine) {
        let date = engine.next_deadline();
        if let Some(slot) = view.slots().find(|slot| slot.state.pending()) {
            assert!(date.is_some(), "{} is {} and there is no date at all", slot.label(), slot.state);
        }
        let quiet =
            !self.shutting_down && !self.renewing && !self.said_stopping && view.programs.iter().all(|program| is_quiet(program, engine));
        assert!(!quiet || date.is_none(), "nothing is pending at {now:?} and yet there is a date: {date:?}");
        if quiet {
            self.count("at rest");
        }
        let shown = view.slots().filter(|slot| slot.state.holds_worker()).count();
        assert_eq!(shown, self.workers.len(), "as many workers are shown as live");
    }

    fn view_of(&self, slot: &SlotId) -> Option<&Arc<SlotView>> {
        slot_in(self.view.as_ref()?, slot)
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }
}

impl Facts {
    fn is_empty(&self) -> bool {
        self.launching.is_none() && self.worker.is_none() && self.clearing.is_none()
    }

    /// What is shown of a slot is what is in it.
    fn agree(&self, slot: &SlotView) {
        let name = slot.label();
        let shown = slot.state;
        assert_eq!(shown.holds_worker(), self.worker.is_some(), "{name} is shown as {shown}, and in it is {:?}", self.worker);
        assert_eq!(shown == State::Launching, self.launching.is_some(), "{name} is shown as {shown:?}, launching is {:?}", self.launching);
        assert_eq!(shown == State::Clearing, self.clearing.is_some(), "{name} is shown as {shown:?}, left behind is {:?}", self.clearing);
        assert_eq!(slot.pid, self.worker.map(|(_, pid)| pid), "{name}: the pid that is shown");
        if let Some((run, _)) = self.worker {
            assert_eq!(slot.run, Some(run), "{name}: the run that is shown");
        }
    }
}

trait Pending {
    fn pending(self) -> bool;
}

impl Pending for State {
    /// True where something must come of it in time, whatever the world does.
    fn pending(self) -> bool {
        match self {
            State::Starting | State::Backoff | State::Waiting | State::Stopping | State::Clearing => true,
            // Launching is answered at once by the hands.
            State::Launching | State::Stopped | State::Running | State::Exited | State::Fatal => false,
        }
    }
}

/// Asked to go, to be replaced within a budget; not for being hung.
fn is_taken(old: &SlotView, slot: &SlotView) -> bool {
    let hung = ["watchdog", "said ", "job ", "did not say"];
    old.state.holds_worker()
        && old.state != State::Stopping
        && slot.state == State::Stopping
        && old.due.is_some()
        && !hung.iter().any(|word| slot.reason.starts_with(word))
}

/// The shortest and the longest wait after the `tries`th failure.
fn backoff_bounds(rule: &BackoffRule, tries: u32) -> (Span, Span) {
    match *rule {
        BackoffRule::Linear => (Span::secs(u64::from(tries)), Span::secs(u64::from(tries))),
        BackoffRule::Exponential { initial, max, factor, jitter } => {
            let mut wait = initial.0 as f64;
            for _ in 1..tries.min(1000) {
                wait = (wait * factor).min(max.0 as f64);
            }
            let wait = wait.min(max.0 as f64);
            // A millisecond each way, for rounding on the way there.
            (Span(((wait - 1.0) * (1.0 - jitter)) as u64), Span((wait * (1.0 + jitter)).ceil() as u64))
        }
    }
}

/// Nothing of the program can fall due by the clock.
fn is_quiet(program: &ProgramView, engine: &Engine) -> bool {
    let Some(spec) = engine.plan().programs.get(&program.name) else { return false };
    let policy = &spec.policy;
    let timeless = policy.recycle.max_lifetime.is_none()
        && policy.recycle.max_memory.is_none()
        && policy.recycle.min_lifetime.is_zero()
        && policy.jobs.timeout.is_none()
        && policy.backoff.reset_after.is_none()
        && spec.launch.watchdog.is_none()
        && program.rolling.is_none();
    timeless
        && program.slots.iter().all(|slot| {
            let rests = matches!(slot.state, State::Running | State::Stopped | State::Exited | State::Fatal);
            rests && slot.due.is_none() && slot.next_try.is_none()
        })
}

/// A scaling takes away as many as it says, and touches no other.
fn check_scale(before: &View, after: &View, target: &str, effects: &[Effect]) {
    let scaled = effects.iter().find_map(|effect| match effect {
        Effect::Reply { answer, .. } => match &**answer {
            Ok(Reply::Scaled { from, to, program }) => Some((*from, *to, program.clone())),
            _ => None,
        },
        _ => None,
    });
    let (from, to) = scaled.as_ref().map_or((0, 0), |(from, to, _)| (*from, *to));
    for old in &before.programs {
        let Some(new) = after.programs.iter().find(|new| new.name == old.name) else { continue };
        let meant = scaled.as_ref().is_some_and(|(_, _, program)| program == old.name.as_str());
        if meant {
            assert_eq!((old.wanted, new.wanted), (from, to), "{target}: what the answer says is what is so");
        }
        let alive = |slot: &SlotView| slot.state.holds_worker() && slot.state != State::Stopping;
        let hit = old
            .slots
            .iter()
            .filter(|slot| alive(slot))
            .filter(|slot| number_in(&new.slots, slot.number).is_none_or(|new| (new.state, new.pid) != (slot.state, slot.pid)));
        let may = if meant { from.saturating_sub(to) } else { 0 };
        // Without a ticket there is no answer to compare with.
        if scaled.is_some() {
            assert!(hit.count() <= may as usize, "{}: scaling {target} from {from} to {to} touched others", old.name);
        }
    }
}

fn slot_in<'a>(view: &'a View, slot: &SlotId) -> Option<&'a Arc<SlotView>> {
    let program = view.programs.binary_search_by(|program| program.name.cmp(&slot.program)).ok()?;
    number_in(&view.programs[program].slots, slot.number)
}

fn number_in(slots: &[Arc<SlotView>], number: u32) -> Option<&Arc<SlotView>> {
    slots.binary_search_by_key(&number, |slot| slot.number).ok().map(|at| &slots[at])
}

/// No wait of the engine is longer: it is the longest extension that a worker may ask for, and a little.
const AN_HOUR: Span = Span::secs(3700);
