//! The rules together, told as stories on a small fake world: given a program, when this happens, then that is done.
//!
//! The world answers a spawn at once with the next pid, as the daemon does. Everything else the story says itself. The
//! long random runs are the simulator's (`tests/sim`).

use super::Engine;
use super::effect::Effect;
use super::event::{Event, Purpose, Sample};
use crate::model::command::{Answer, Batch, Command, Outcome, Refusal, Reply, ScaleTo, Ticket};
use crate::model::exit::Exit;
use crate::model::launch::{SpawnFault, SpawnStep};
use crate::model::name::{ProgramName, RunId, SlotId, Target};
use crate::model::notice::{What, Why};
use crate::model::notify::Notify;
use crate::model::plan::Plan;
use crate::model::signal::Signal;
use crate::model::spec::{Autorestart, Leftovers, LockSpec, ProgramSpec, Rung};
use crate::model::state::State;
use crate::model::template::{Piece, Template};
use crate::model::time::{Moment, Now, Span, Stamp};
use crate::model::units::Bytes;
use crate::model::view::{Mood, SlotView};
use std::sync::Arc;

/// What a spawn comes to, until told otherwise.
#[derive(Clone, Copy, PartialEq)]
enum Kernel {
    Spawns,
    Fails,
    IsFull,
    LockHeldBy(i32),
}

struct World {
    engine: Engine,
    now: Moment,
    kernel: Kernel,
    next_pid: i32,
    /// Everything done since the last `take`.
    done: Vec<Effect>,
}

fn program(name: &str, numprocs: u32) -> ProgramSpec {
    let mut spec = ProgramSpec::new(name, vec![Template::text("worker")]);
    spec.process_name = Template(vec![Piece::Text(format!("{name}_")), Piece::Number { zero: true, width: 2 }]);
    spec.policy.numprocs = numprocs;
    spec.policy.stop.resend = None;
    spec
}

fn plan(specs: &[ProgramSpec]) -> Plan {
    Plan { programs: specs.iter().map(|spec| (spec.name.clone(), Arc::new(spec.clone()))).collect(), ..Plan::default() }
}

fn given(specs: &[ProgramSpec]) -> World {
    let now = Now { moment: Moment(1_000_000), stamp: Stamp(1_700_000_000_000) };
    let mut world = World { engine: Engine::new(7, now), now: now.moment, kernel: Kernel::Spawns, next_pid: 100, done: Vec::new() };
    world.load(plan(specs));
    world
}

impl World {
    fn now(&self) -> Now {
        Now { moment: self.now, stamp: Stamp(1_700_000_000_000) + self.now.since(Moment(1_000_000)) }
    }

    /// Steps, and answers every spawn before anything else. Every step is also done by a copy that was written down and read back.
    fn step(&mut self, event: Event) {
        let mut inbox = std::collections::VecDeque::from([event]);
        while let Some(event) = inbox.pop_front() {
            let text = serde_json::to_string(&self.engine).unwrap();
            let mut twin: Engine = serde_json::from_str(&text).unwrap();
            assert_eq!(twin, self.engine, "it must come back equal");
            let (mut effects, mut same) = (Vec::new(), Vec::new());
            self.engine.step(self.now(), event.clone(), &mut effects);
            twin.step(self.now(), event, &mut same);
            assert_eq!(effects, same);
            assert_eq!(twin, self.engine);
            for effect in effects {
                if let Effect::Spawn { slot, run, .. } = &effect {
                    let (slot, run) = (slot.clone(), *run);
                    inbox.push_back(match self.kernel {
                        Kernel::Spawns => {
                            self.next_pid += 1;
                            Event::Spawned { run, slot, pid: self.next_pid }
                        }
                        Kernel::Fails => {
                            let text = "./worker: permission denied; is the file executable?".to_owned();
                            Event::SpawnFailed { run, slot, fault: SpawnFault { step: SpawnStep::Exec, text } }
                        }
                        Kernel::IsFull => {
                            let text = "fork: resource temporarily unavailable".to_owned();
                            Event::SpawnFailed { run, slot, fault: SpawnFault { step: SpawnStep::Fork, text } }
                        }
                        Kernel::LockHeldBy(pid) => Event::LockBusy { run, slot, holder: Some(pid) },
                    });
                }
                self.done.push(effect);
            }
        }
    }

    fn load(&mut self, plan: Plan) {
        self.step(Event::PlanLoaded { ticket: None, purpose: Purpose::Reload, result: Ok(Box::new(plan)) });
    }

    /// Lets time pass, waking the engine at each of its dates.
    fn pass(&mut self, span: Span) {
        let end = self.now + span;
        while let Some(at) = self.engine.next_deadline().filter(|at| *at <= end) {
            assert!(at >= self.now, "a date in the past");
            self.now = self.now.max(at);
            self.step(Event::Woke);
            assert!(self.engine.next_deadline().is_none_or(|next| next > self.now), "a date that does not pass");
        }
        self.now = end;
    }

    fn secs(&mut self, secs: u64) {
        self.pass(Span::secs(secs));
    }

    fn ask(&mut self, command: Command) -> Answer {
        self.step(Event::Asked { ticket: Some(Ticket(1)), who: "root".into(), command });
        let mut answers = self.done.iter().filter_map(|effect| match effect {
            Effect::Reply { answer, .. } => Some((**answer).clone()),
            _ => None,
        });
        let answer = answers.next_back().unwrap();
        self.done.retain(|effect| !matches!(effect, Effect::Reply { .. }));
        answer
    }

    fn outcome(&mut self, command: Command) -> Option<Refusal> {
        match self.ask(command) {
            Ok(Reply::Outcomes(outcomes)) => outcomes.into_iter().next().unwrap().refused,
            other => panic!("{other:?}"),
        }
    }

    fn view(&mut self, name: &str, number: u32) -> SlotView {
        let view = self.engine.view(self.now());
        let program = view.programs.iter().find(|program| program.name.as_str() == name).unwrap();
        (**program.slots.iter().find(|slot| slot.number == number).unwrap()).clone()
    }

    fn states(&mut self, name: &str) -> Vec<State> {
        let view = self.engine.view(self.now());
        view.programs.iter().filter(|program| program.name.as_str() == name).flat_map(|p| p.slots.iter().map(|slot| slot.state)).collect()
    }

    fn numbers(&mut self, name: &str) -> Vec<u32> {
        let view = self.engine.view(self.now());
        view.programs.iter().filter(|program| program.name.as_str() == name).flat_map(|p| p.slots.iter().map(|slot| slot.number)).collect()
    }

    fn pid(&mut self, name: &str, number: u32) -> i32 {
        self.view(name, number).pid.unwrap()
    }

    fn exits(&mut self, name: &str, number: u32, code: i32) {
        let pid = self.pid(name, number);
        self.step(Event::Ended { pid, exit: Exit::Code(code), leftovers: 0 });
    }

    fn says(&mut self, name: &str, number: u32, text: &str) {
        let pid = self.pid(name, number);
        let slot = SlotId::new(&ProgramName::new(name), number);
        self.step(Event::Notified { slot, pid, told: Notify::parse(text.as_bytes()) });
    }

    fn weighs(&mut self, name: &str, number: u32, memory: Bytes) {
        let run = self.view(name, number).run.unwrap();
        self.step(Event::Measured { samples: vec![Sample { run, memory, cpu: Span::secs(1) }] });
    }

    fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.done)
    }

    /// Signals sent since the last asking, in order.
    fn signals(&mut self) -> Vec<(u32, Signal)> {
        let sent = self.take().into_iter();
        sent.filter_map(|effect| match effect {
            Effect::Signal { slot, signal, .. } => Some((slot.number, signal)),
            _ => None,
        })
        .collect()
    }

    fn words(&mut self) -> Vec<String> {
        let told = self.take().into_iter();
        told.filter_map(|effect| match effect {
            Effect::Tell(notice) => match notice.what {
                What::State { to, .. } => Some(to.word().to_owned()),
                _ => None,
            },
            _ => None,
        })
        .collect()
    }
}

fn target(text: &str) -> Vec<Target> {
    vec![Target::read(text)]
}

#[test]
fn a_slot_is_opened_once_before_its_first_spawn_and_runs_after_startsecs() {
    let mut world = given(&[program("mail", 1)]);
    let done = world.take();
    let place = |wanted: fn(&Effect) -> bool| done.iter().position(wanted).unwrap();
    assert!(place(|e| matches!(e, Effect::Open { .. })) < place(|e| matches!(e, Effect::Spawn { .. })));
    assert_eq!(world.states("mail"), [State::Starting]);
    world.secs(1);
    assert_eq!(world.states("mail"), [State::Starting], "it must outlive startsecs");
    world.pass(Span::millis(1));
    assert_eq!(world.states("mail"), [State::Running]);
    assert_eq!(world.engine.next_deadline(), None, "idle costs nothing");
    world.exits("mail", 0, 1);
    assert_eq!(world.words(), ["RUNNING", "EXITED", "STARTING"]);
    assert!(world.states("mail") == [State::Starting]);
}

#[test]
fn fatal_after_startretries_failures_is_four_attempts_with_supervisors_waits() {
    let mut world = given(&[program("mail", 1)]);
    for (n, wait) in [(1, 1), (2, 2), (3, 3)] {
        world.pass(Span::millis(200));
        world.exits("mail", 0, 255);
        let slot = world.view("mail", 0);
        assert_eq!((slot.state, slot.tries), (State::Backoff, n));
        assert_eq!(slot.reason, format!("exited 255 after 0.2 s, {} time", ["1st", "2nd", "3rd"][n as usize - 1]));
        assert_eq!(slot.next_try, Some(world.now().stamp + Span::secs(wait)));
        world.secs(wait);
        assert_eq!(world.states("mail"), [State::Starting]);
    }
    world.pass(Span::millis(200));
    world.exits("mail", 0, 255);
    let slot = world.view("mail", 0);
    assert_eq!((slot.state, slot.reason.as_str()), (State::Fatal, "gave up after 4 failed starts: exited 255 after 0.2 s"));
    assert_eq!(world.engine.next_deadline(), None);
    assert_eq!(world.outcome(Command::Start { targets: target("mail:mail_00") }), None);
    assert_eq!(world.states("mail"), [State::Starting]);
    assert_eq!(world.view("mail", 0).tries, 0);
}

#[test]
fn a_spawn_failure_is_a_failed_start_shown_whole() {
    let mut world = given(&[]);
    world.kernel = Kernel::Fails;
    world.load(plan(&[program("mail", 1)]));
    let slot = world.view("mail", 0);
    assert_eq!((slot.state, slot.pid), (State::Backoff, None));
    assert_eq!(slot.reason, "./worker: permission denied; is the file executable?, 1st time");
}

#[test]
fn a_start_that_the_host_has_no_room_for_is_never_fatal() {
    let mut world = given(&[]);
    world.kernel = Kernel::IsFull;
    world.load(plan(&[program("mail", 1)]));
    let slot = world.view("mail", 0);
    assert_eq!((slot.state, slot.tries), (State::Backoff, 0));
    assert_eq!(slot.reason, "fork: resource temporarily unavailable; not counted as a failure");
    world.secs(3600);
    assert_eq!(world.states("mail"), [State::Backoff]);
    world.kernel = Kernel::Spawns;
    world.secs(7);
    assert_eq!(world.states("mail"), [State::Running]);
}

#[test]
fn a_worker_that_showed_that_it_heard_is_not_asked_again() {
    for told in ["STOPPING=1", "EXTEND_TIMEOUT_USEC=20000000"] {
        let mut spec = program("mail", 1);
        spec.policy.stop.resend = Some(Span::secs(2));
        let mut world = given(&[spec]);
        world.secs(2);
        world.done.clear();
        assert_eq!(world.outcome(Command::Stop { targets: target("mail") }), None);
        world.secs(3);
        let signals = |world: &World| world.done.iter().filter(|effect| matches!(effect, Effect::Signal { .. })).count();
        assert_eq!(signals(&world), 2, "asked, and asked again after two seconds");
        world.says("mail", 0, told);
        world.secs(6);
        assert_eq!(signals(&world), 2, "and then no more");
        world.secs(60);
        assert!(signals(&world) > 2, "but killed in the end");
    }
}

#[test]
fn a_fatal_slot_is_tried_again_where_the_definition_says_so() {
    let mut spec = program("mail", 1);
    spec.policy.startretries = Some(0);
    spec.policy.backoff.retry_after_fatal = Some(Span::secs(300));
    let mut world = given(&[spec]);
    world.exits("mail", 0, 1);
    assert_eq!(world.states("mail"), [State::Fatal]);
    assert!(world.view("mail", 0).next_try.is_some());
    world.secs(300);
    assert_eq!(world.states("mail"), [State::Starting]);
    world.exits("mail", 0, 1);
    // It would come back by itself, so it can be stopped.
    assert_eq!(world.outcome(Command::Stop { targets: target("mail:*") }), None);
    world.secs(3000);
    assert_eq!(world.states("mail"), [State::Stopped]);
    assert_eq!(world.engine.next_deadline(), None);
}

#[test]
fn an_expected_exit_rests_and_a_restart_pause_brings_it_back() {
    let mut plain = program("plain", 1);
    plain.policy.autorestart = Autorestart::Unexpected;
    let mut paused = program("until_empty", 1);
    paused.policy.restart_pause = Some(Span::secs(5));
    let mut world = given(&[plain, paused]);
    // Too early for the one, just finished for the other.
    world.exits("until_empty", 0, 0);
    let slot = world.view("until_empty", 0);
    assert_eq!((slot.state, slot.tries, slot.reason.as_str()), (State::Exited, 0, "finished: exited 0 after 0 s"));
    assert_eq!(slot.next_try, Some(world.now().stamp + Span::secs(5)));
    world.secs(200);
    world.exits("plain", 0, 0);
    let slot = world.view("plain", 0);
    assert_eq!((slot.state, slot.reason.as_str()), (State::Exited, "exited 0 after 3m20s, as expected"));
    assert_eq!(world.states("until_empty"), [State::Running]);
}

#[test]
fn an_unknown_exit_is_neither_success_nor_failure() {
    let mut world = given(&[program("mail", 1)]);
    for _ in 0..10 {
        let pid = world.pid("mail", 0);
        world.step(Event::Ended { pid, exit: Exit::Unknown, leftovers: 0 });
        let slot = world.view("mail", 0);
        assert_eq!((slot.state, slot.tries), (State::Starting, 0));
    }
}

#[test]
fn a_deaf_worker_is_killed_after_the_ladder_and_the_words_say_what_it_did() {
    let mut spec = program("mail", 3);
    spec.policy.stop.rungs = vec![Rung { signal: Signal::TERM, wait: Span::secs(10) }, Rung { signal: Signal::INT, wait: Span::secs(5) }];
    let mut world = given(&[spec]);
    world.secs(2);
    world.says("mail", 1, "X_JOB=mail-9");
    world.says("mail", 2, "X_JOB=");
    world.take();
    world.ask(Command::Stop { targets: target("mail:*") }).unwrap();
    assert_eq!(world.signals(), [(0, Signal::TERM), (1, Signal::TERM), (2, Signal::TERM)], "all at once");
    world.secs(10);
    assert_eq!(world.signals(), [(0, Signal::INT), (1, Signal::INT), (2, Signal::INT)]);
    world.secs(5);
    let done = world.take();
    let told: Vec<String> = done
        .iter()
        .filter_map(|effect| match effect {
            Effect::Tell(notice) => Some(notice.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(
        told,
        [
            "mail:mail_00: sent SIGKILL to pid 101: did not react to SIGINT for 5 s",
            "mail:mail_01: sent SIGKILL to pid 102: was busy with job mail-9 for 15 s; SIGINT was sent 5 s ago",
            "mail:mail_02: sent SIGKILL to pid 103: idle, waiting in a blocked reserve: did not react to SIGINT for 5 s",
        ]
    );
    for number in 0..3 {
        let pid = world.pid("mail", number);
        world.step(Event::Ended { pid, exit: Exit::Signal(Signal::KILL), leftovers: 0 });
    }
    assert_eq!(world.states("mail"), [State::Stopped; 3]);
    let slot = world.view("mail", 0);
    assert_eq!(slot.reason, "stopped by root; killed: did not react to SIGINT for 5 s");
    assert!(!slot.wanted);
    assert_eq!(slot.history[0].why, Why::Manual);
    assert_eq!(world.engine.next_deadline(), None);
}

#[test]
fn leftovers_are_ended_before_the_slot_starts_again() {
    let mut world = given(&[program("mail", 1)]);
    world.secs(2);
    let (pid, run) = (world.pid("mail", 0), world.view("mail", 0).run.unwrap());
    world.take();
    world.step(Event::Ended { pid, exit: Exit::Code(1), leftovers: 2 });
    assert_eq!(world.states("mail"), [State::Clearing]);
    world.secs(4);
    let sent: Vec<Signal> = world
        .take()
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::SignalLeftovers { signal, .. } => Some(signal),
            _ => None,
        })
        .collect();
    assert_eq!(sent, [Signal::TERM, Signal::KILL, Signal::KILL]);
    world.step(Event::Cleared { run: RunId(99) });
    assert_eq!(world.states("mail"), [State::Clearing], "of another life");
    world.step(Event::Cleared { run });
    assert_eq!(world.states("mail"), [State::Starting]);

    let mut spec = program("mail", 1);
    spec.policy.stop.leftovers = Leftovers::Leave;
    let mut world = given(&[spec]);
    world.secs(2);
    let pid = world.pid("mail", 0);
    world.take();
    world.step(Event::Ended { pid, exit: Exit::Code(1), leftovers: 2 });
    assert!(world.take().iter().any(|effect| matches!(effect, Effect::ForgetLeftovers { .. })));
    assert_eq!(world.states("mail"), [State::Starting]);
}

#[test]
fn a_held_lock_is_waited_for_in_silence_and_names_its_holder() {
    let mut spec = program("one", 1);
    let launch = Arc::make_mut(&mut spec.launch);
    launch.lock = Some(LockSpec::Port(3801));
    let mut world = given(&[]);
    world.kernel = Kernel::LockHeldBy(123);
    world.load(plan(&[spec]));
    let slot = world.view("one", 0);
    assert_eq!((slot.state, slot.tries), (State::Waiting, 0));
    assert_eq!(slot.reason, "lock port:3801 is held by pid 123; tries again every second");
    assert_eq!(world.words(), ["STARTING", "WAITING"]);
    world.secs(5);
    assert_eq!(world.words(), Vec::<String>::new());
    assert_eq!(world.view("one", 0).since, slot.since);
    world.kernel = Kernel::Spawns;
    world.secs(1);
    assert_eq!(world.words(), ["STARTING"]);
    assert_eq!(world.view("one", 0).starts, 1);
}

#[test]
fn with_ready_notify_only_the_word_of_the_worker_makes_it_running() {
    let mut spec = program("mail", 1);
    spec.policy.ready.notify = true;
    spec.policy.ready.timeout = Span::secs(10);
    let mut world = given(&[spec]);
    world.secs(5);
    assert_eq!(world.states("mail"), [State::Starting]);
    world.says("mail", 0, "READY=1");
    assert_eq!(world.states("mail"), [State::Running]);
    world.exits("mail", 0, 1);
    world.secs(8);
    world.says("mail", 0, "EXTEND_TIMEOUT_USEC=5000000");
    world.secs(4);
    assert_eq!(world.states("mail"), [State::Starting], "it had asked for time");
    world.secs(1);
    assert_eq!(world.states("mail"), [State::Stopping]);
    assert_eq!(world.view("mail", 0).reason, "did not say READY=1 within 13 s");
    world.exits("mail", 0, 0);
    let slot = world.view("mail", 0);
    assert_eq!((slot.state, slot.tries, slot.history[0].why), (State::Backoff, 1, Why::NotReady));
}

#[test]
fn a_silent_worker_is_replaced_by_its_watchdog() {
    let mut spec = program("mail", 1);
    Arc::make_mut(&mut spec.launch).watchdog = Some(Span::secs(30));
    let mut world = given(&[spec]);
    world.secs(20);
    world.says("mail", 0, "WATCHDOG=1");
    world.secs(29);
    assert_eq!(world.states("mail"), [State::Running]);
    world.secs(1);
    assert_eq!(world.states("mail"), [State::Stopping]);
    world.exits("mail", 0, 0);
    let slot = world.view("mail", 0);
    assert_eq!((slot.state, slot.tries, slot.history[0].why), (State::Starting, 0, Why::Watchdog));
    world.says("mail", 0, "WATCHDOG=trigger");
    assert_eq!(world.states("mail"), [State::Stopping]);
}

#[test]
fn who_says_he_is_stopping_and_does_not_is_stopped() {
    let mut world = given(&[program("mail", 1)]);
    world.secs(2);
    world.says("mail", 0, "STOPPING=1");
    world.secs(10);
    assert_eq!(world.view("mail", 0).reason, "said it was stopping 10 s ago and did not");
    assert_eq!(world.states("mail"), [State::Stopping]);
}

#[test]
fn a_job_that_takes_too_long_ends_its_worker() {
    let mut spec = program("mail", 1);
    spec.policy.jobs.timeout = Some(Span::secs(60));
    let mut world = given(&[spec]);
    world.secs(2);
    world.says("mail", 0, "X_JOB=a");
    world.secs(50);
    world.says("mail", 0, "X_JOB=b\nX_JOBS=1");
    world.secs(59);
    assert_eq!(world.states("mail"), [State::Running]);
    world.secs(1);
    assert_eq!(world.states("mail"), [State::Stopping]);
    world.exits("mail", 0, 0);
    let slot = world.view("mail", 0);
    assert_eq!((slot.state, slot.history[0].why), (State::Starting, Why::JobTimeout));
    assert_eq!(slot.history[0].text, "job b took 1m00s and was not done (jobs.timeout)");
}

fn recycling() -> ProgramSpec {
    let mut spec = program("mail", 3);
    spec.policy.recycle.max_jobs = Some((10, 10));
    spec
}

#[test]
fn recycling_keeps_its_budget_counts_who_is_not_ready_and_is_no_failure() {
    let mut world = given(&[recycling()]);
    world.secs(2);
    world.take();
    for number in 0..3 {
        world.says("mail", number, "X_JOBS=10");
    }
    assert_eq!(world.signals(), [(0, Signal::TERM)]);
    assert_eq!(world.view("mail", 1).due.as_deref(), Some("jobs 10 of 10"));
    world.exits("mail", 0, 9);
    let slot = world.view("mail", 0);
    assert_eq!((slot.state, slot.tries, slot.history[0].text.as_str()), (State::Starting, 0, "recycled: jobs 10 of 10"));
    assert_eq!(world.signals(), [], "the first is not ready yet");
    world.secs(1);
    assert_eq!(world.signals(), []);
    world.pass(Span::millis(1));
    assert_eq!(world.signals(), [(1, Signal::TERM)]);
    world.exits("mail", 1, 0);
    world.secs(2);
    assert_eq!(world.signals(), [(2, Signal::TERM)]);
    let view = world.engine.view(world.now());
    assert_eq!((view.programs[0].jobs, view.programs[0].ended.get(&Why::Jobs)), (30, Some(&2)));
}

#[test]
fn a_due_worker_finishes_its_job_but_patience_has_an_end() {
    let mut world = given(&[recycling()]);
    world.secs(2);
    world.take();
    world.says("mail", 0, "X_JOBS=10\nX_JOB=next");
    assert_eq!(world.signals(), []);
    world.says("mail", 0, "X_JOBS=11\nX_JOB=another");
    assert_eq!(world.signals(), [(0, Signal::TERM)]);
    assert_eq!(world.view("mail", 0).reason, "recycled: jobs 11 of 10");
    world.exits("mail", 0, 0);
    world.secs(2);
    world.says("mail", 1, "X_JOBS=10\nX_JOB=long");
    world.take();
    world.secs(29);
    assert_eq!(world.signals(), []);
    world.secs(1);
    assert_eq!(world.signals(), [(1, Signal::TERM)]);
}

#[test]
fn memory_over_the_limit_in_two_of_three_samples_recycles() {
    let mut spec = program("mail", 1);
    spec.policy.recycle.max_memory = Some(Bytes::mib(128));
    let mut world = given(&[spec]);
    world.secs(3);
    assert!(world.take().iter().any(|effect| matches!(effect, Effect::Measure { workers } if workers.len() == 1)));
    for memory in [131, 100, 131] {
        world.weighs("mail", 0, Bytes::mib(memory));
    }
    assert_eq!(world.view("mail", 0).reason, "recycled: memory 131.0 MB of 128.0 MB");
    world.ask(Command::Stop { targets: target("all") }).unwrap();
    world.exits("mail", 0, 0);
    assert_eq!(world.engine.next_deadline(), None, "nobody to measure");
}

#[test]
fn lifetime_recycles_and_names_the_age() {
    let mut spec = program("mail", 1);
    spec.policy.recycle.max_lifetime = Some(Span::secs(6 * 3600));
    spec.policy.recycle.lifetime_jitter = 0.0;
    let mut world = given(&[spec]);
    world.secs(6 * 3600);
    assert_eq!(world.view("mail", 0).reason, "recycled: age 6h00m of 6h00m");
}

#[test]
fn scaling_leaves_the_other_workers_alone() {
    let mut world = given(&[program("mail", 2)]);
    world.secs(2);
    let before: Vec<i32> = (0..2).map(|n| world.pid("mail", n)).collect();
    let up = world.ask(Command::Scale { program: "mail".into(), to: ScaleTo::Exactly(4) });
    assert_eq!(up, Ok(Reply::Scaled { program: "mail".into(), from: 2, to: 4 }));
    assert_eq!(world.numbers("mail"), [0, 1, 2, 3]);
    world.secs(2);
    world.says("mail", 1, "X_JOB=");
    world.take();
    world.ask(Command::Scale { program: "mail".into(), to: ScaleTo::Down(2) }).unwrap();
    assert_eq!(world.signals(), [(1, Signal::TERM), (3, Signal::TERM)], "the idle one and the highest");
    world.exits("mail", 1, 0);
    world.exits("mail", 3, 0);
    assert_eq!(world.numbers("mail"), [0, 2]);
    assert_eq!(world.take().iter().filter(|effect| matches!(effect, Effect::Close { .. })).count(), 2);
    assert_eq!(world.pid("mail", 0), before[0]);
    assert_eq!(world.ask(Command::Scale { program: "mail".into(), to: ScaleTo::Up(1) }).map(|_| world.numbers("mail")), Ok(vec![0, 1, 2]));
    assert_eq!(
        world.ask(Command::Scale { program: "mial".into(), to: ScaleTo::Default }),
        Err(Refusal::NoSuch { name: "mial".into(), nearest: Some("mail".into()) })
    );
}

#[test]
fn a_rolling_restart_takes_a_batch_at_a_time_and_waits_until_ready() {
    let mut world = given(&[program("mail", 4)]);
    world.secs(2);
    world.take();
    world.ask(Command::Roll { targets: target("mail"), batch: Batch::Percent(50) }).unwrap();
    assert_eq!(world.signals(), [(0, Signal::TERM), (1, Signal::TERM)]);
    assert!(matches!(world.outcome(Command::Roll { targets: target("mail"), batch: Batch::Workers(1) }), Some(Refusal::Busy { .. })));
    world.exits("mail", 0, 0);
    world.exits("mail", 1, 0);
    assert_eq!(world.signals(), []);
    world.secs(2);
    assert_eq!(world.signals(), [(2, Signal::TERM), (3, Signal::TERM)]);
    let view = world.engine.view(world.now());
    assert_eq!(view.programs[0].rolling.as_ref().map(|roll| (roll.done, roll.total)), Some((2, 4)));
    world.exits("mail", 2, 0);
    world.exits("mail", 3, 0);
    world.secs(2);
    assert_eq!(world.states("mail"), [State::Running; 4]);
    assert_eq!(world.engine.view(world.now()).programs[0].rolling, None);
    assert!(world.view("mail", 3).history[0].why == Why::Deploy);
}

#[test]
fn the_first_failure_halts_a_roll_and_the_rest_run_on() {
    let mut world = given(&[program("mail", 3)]);
    world.secs(2);
    world.ask(Command::Roll { targets: target("mail"), batch: Batch::Workers(1) }).unwrap();
    world.exits("mail", 0, 0);
    world.exits("mail", 0, 255);
    world.secs(60);
    assert_eq!(world.states("mail")[1..], [State::Running; 2]);
    assert_eq!((world.view("mail", 1).due, world.view("mail", 2).due), (None, None));
    let view = world.engine.view(world.now());
    let roll = view.programs[0].rolling.clone().unwrap();
    assert_eq!((roll.done, roll.halted.as_deref()), (0, Some("mail:mail_00: exited 255 after 0 s, 1st time")));
    assert_eq!(world.outcome(Command::Roll { targets: target("mail"), batch: Batch::Workers(1) }), None, "it may be tried again");
}

#[test]
fn a_reload_touches_only_what_changed_and_rolls_a_changed_launch() {
    let specs = [program("gone", 1), program("mail", 2), program("same", 1)];
    let mut world = given(&specs);
    world.secs(2);
    let same = world.pid("same", 0);
    world.ask(Command::Scale { program: "same".into(), to: ScaleTo::Exactly(2) }).unwrap();
    world.secs(2);
    world.take();
    let mut mail = program("mail", 2);
    Arc::make_mut(&mut mail.launch).command = vec![Template::text("worker2")];
    let mut same2 = program("same", 1);
    same2.policy.priority = 5;
    let new = plan(&[mail, same2, program("fresh", 1)]);
    let text = |world: &mut World, purpose| {
        world.step(Event::PlanLoaded { ticket: Some(Ticket(3)), purpose, result: Ok(Box::new(new.clone())) });
        let reply = world.done.iter().find_map(|effect| match effect {
            Effect::Reply { answer, .. } => Some((**answer).clone()),
            _ => None,
        });
        match reply {
            Some(Ok(Reply::Changes(changes))) => {
                changes.rows.iter().map(|row| format!("{:?} {} {} {}", row.action, row.program, row.workers, row.why)).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    let expected =
        ["Start fresh 1 new", "Stop gone 1 no longer defined", "Restart mail 2 command changed", "Update same 2 priority changed"];
    assert_eq!(text(&mut world, Purpose::DryRun), expected);
    assert_eq!(world.states("mail"), [State::Running; 2], "dry changes nothing");
    world.take();
    assert_eq!(text(&mut world, Purpose::Reload), expected);
    assert_eq!(world.states("mail"), [State::Stopping, State::Running]);
    assert_eq!(world.states("gone"), [State::Stopping]);
    assert_eq!(world.states("fresh"), [State::Starting]);
    assert_eq!((world.pid("same", 0), world.numbers("same").len()), (same, 2), "scaling by hand survives");
    world.exits("gone", 0, 0);
    assert_eq!(world.states("gone"), []);
    world.take();
    world.exits("mail", 0, 0);
    let launched = world.take().into_iter().find_map(|effect| match effect {
        Effect::Spawn { launch, .. } => Some(launch.argv.clone()),
        _ => None,
    });
    assert_eq!(launched, Some(vec!["worker2".to_owned()]));
}

#[test]
fn a_mended_command_lifts_fatal_and_an_old_worker_that_dies_does_not_halt_its_roll() {
    let mut spec = program("mail", 3);
    spec.policy.startretries = Some(0);
    let mut world = given(std::slice::from_ref(&spec));
    world.exits("mail", 0, 1);
    world.pass(Span::millis(1500));
    assert_eq!(world.states("mail"), [State::Fatal, State::Running, State::Running]);
    world.exits("mail", 2, 1);
    Arc::make_mut(&mut spec.launch).command = vec![Template::text("mended")];
    world.load(plan(&[spec]));
    assert_eq!(world.states("mail"), [State::Starting, State::Stopping, State::Starting]);
    // Number 2 was started with the old command, and fails with it: that is held against nobody.
    world.take();
    world.exits("mail", 2, 1);
    assert_eq!(world.states("mail")[2], State::Starting);
    assert!(world.take().iter().any(|effect| matches!(effect, Effect::Spawn { launch, .. } if launch.argv == ["mended"])));
    let rolling = world.engine.view(world.now()).programs[0].rolling.clone();
    assert_eq!(rolling.map(|roll| roll.halted), Some(None));
}

#[test]
fn a_reload_with_errors_changes_nothing_and_says_so() {
    let mut world = given(&[program("mail", 1)]);
    world.secs(2);
    world.take();
    let faults = vec!["fleet.toml:14: program.mail.startsecs: found \"fast\"".to_owned()];
    world.step(Event::PlanLoaded { ticket: Some(Ticket(9)), purpose: Purpose::Reload, result: Err(faults.clone()) });
    let done = world.take();
    assert!(
        done.iter().any(
            |effect| matches!(effect, Effect::Reply { ticket: Ticket(9), answer } if matches!(**answer, Err(Refusal::BadConfig { .. })))
        )
    );
    assert!(done.iter().all(|effect| matches!(effect, Effect::Reply { .. } | Effect::Tell(_))));
    assert_eq!(world.engine.view(world.now()).faults, faults);
}

#[test]
fn shutdown_goes_by_descending_priority_and_quits_once() {
    let mut last = program("base", 1);
    last.policy.priority = 1;
    let mut world = given(&[last, program("mail", 2)]);
    world.secs(2);
    world.take();
    assert_eq!(world.ask(Command::Shutdown), Ok(Reply::Done));
    assert_eq!(world.states("base"), [State::Running]);
    assert_eq!(world.ask(Command::Start { targets: target("all") }), Err(Refusal::ShuttingDown));
    world.exits("mail", 0, 0);
    world.exits("mail", 1, 0);
    assert_eq!(world.states("base"), [State::Stopping]);
    assert_eq!(world.ask(Command::Shutdown), Ok(Reply::Done));
    assert!(!world.done.contains(&Effect::Quit));
    world.exits("base", 0, 0);
    world.secs(100);
    world.step(Event::Woke);
    assert_eq!(world.take().iter().filter(|effect| **effect == Effect::Quit).count(), 1);
}

#[test]
fn an_empty_fleet_quits_at_once() {
    let mut world = given(&[]);
    world.ask(Command::Shutdown).unwrap();
    assert!(world.done.contains(&Effect::Quit));
}

#[test]
fn restart_stops_and_starts_again_and_start_on_a_stopping_slot_calls_it_back() {
    let mut world = given(&[program("mail", 2)]);
    world.secs(2);
    world.take();
    world.ask(Command::Restart { targets: target("mail") }).unwrap();
    assert_eq!(world.signals(), [(0, Signal::TERM), (1, Signal::TERM)]);
    world.exits("mail", 0, 0);
    assert_eq!(world.states("mail"), [State::Starting, State::Stopping]);
    world.ask(Command::Stop { targets: target("mail:mail_01") }).unwrap();
    world.ask(Command::Start { targets: target("mail:mail_01") }).unwrap();
    world.exits("mail", 1, 0);
    assert_eq!(world.states("mail"), [State::Starting, State::Starting]);
    assert_eq!(world.outcome(Command::Start { targets: target("mail:mail_01") }), Some(Refusal::AlreadyStarted));
    let Ok(Reply::Outcomes(outcomes)) = world.ask(Command::Start { targets: target("mial:*") }) else { panic!() };
    assert_eq!(
        outcomes,
        [Outcome { name: "mial:*".into(), refused: Some(Refusal::NoSuch { name: "mial:*".into(), nearest: Some("mail".into()) }) }]
    );
}

#[test]
fn words_of_an_earlier_worker_and_ends_of_strangers_are_ignored() {
    let mut world = given(&[program("mail", 1)]);
    world.secs(2);
    let old = world.pid("mail", 0);
    world.exits("mail", 0, 1);
    let slot = SlotId::new(&ProgramName::new("mail"), 0);
    world.step(Event::Notified { slot: slot.clone(), pid: old, told: Notify::parse(b"X_JOBS=9\nREADY=1") });
    assert_eq!((world.view("mail", 0).jobs, world.view("mail", 0).state), (0, State::Starting));
    world.step(Event::Notified { slot, pid: 5555, told: Notify::parse(b"X_JOBS=9") });
    assert_eq!(world.view("mail", 0).jobs, 9, "a child may speak for its worker");
    world.says("mail", 0, "X_JOBS=3");
    assert_eq!(world.view("mail", 0).jobs, 9, "totals do not go backwards");
    world.step(Event::Ended { pid: old, exit: Exit::Code(0), leftovers: 0 });
    assert_eq!(world.states("mail"), [State::Starting]);
}

#[test]
fn the_picture_is_shared_where_nothing_changed() {
    let mut world = given(&[program("a", 3), program("b", 1)]);
    world.secs(2);
    let first = world.engine.view(world.now());
    assert!(Arc::ptr_eq(&first, &world.engine.view(world.now())));
    world.step(Event::Woke);
    assert!(Arc::ptr_eq(&first, &world.engine.view(world.now())));
    world.says("a", 1, "STATUS=sending");
    let second = world.engine.view(world.now());
    assert!(!Arc::ptr_eq(&first.programs[0].slots[1], &second.programs[0].slots[1]));
    assert!(Arc::ptr_eq(&first.programs[0].slots[0], &second.programs[0].slots[0]));
    assert!(Arc::ptr_eq(&first.programs[1], &second.programs[1]));
}

#[test]
fn autostart_off_leaves_slots_stopped_until_a_person_starts_them() {
    let mut spec = program("mail", 1);
    spec.policy.autostart = false;
    let mut world = given(&[spec]);
    let slot = world.view("mail", 0);
    assert_eq!((slot.state, slot.wanted, slot.reason.as_str()), (State::Stopped, false, "not started: autostart is off"));
    world.ask(Command::Start { targets: target("all") }).unwrap();
    assert_eq!(world.states("mail"), [State::Starting]);
}

#[test]
#[ignore = "prints figures"]
fn what_a_step_costs_in_a_wide_program() {
    #[expect(clippy::disallowed_methods, reason = "a measurement")]
    let clock = std::time::Instant::now;
    let now = Now { moment: Moment(1_000_000), stamp: Stamp(0) };
    for count in [1_000_u32, 10_000] {
        let mut engine = Engine::new(1, now);
        let mut effects = Vec::new();
        let begin = clock();
        engine.step(
            now,
            Event::PlanLoaded { ticket: None, purpose: Purpose::Reload, result: Ok(Box::new(plan(&[program("mail", count)]))) },
            &mut effects,
        );
        let mut pid = 0;
        let mut answers = std::mem::take(&mut effects);
        for effect in answers.drain(..) {
            if let Effect::Spawn { slot, run, .. } = effect {
                pid += 1;
                engine.step(now, Event::Spawned { run, slot, pid }, &mut effects);
            }
        }
        println!("{count}: start {:?}", begin.elapsed());
        let later = Now { moment: Moment(2_000_000), stamp: Stamp(1_000_000) };
        let begin = clock();
        engine.step(later, Event::Woke, &mut effects);
        println!("{count}: all become RUNNING {:?}", begin.elapsed());
        engine.view(later);
        let begin = clock();
        for pid in 1..=100 {
            engine.step(later, Event::Ended { pid, exit: Exit::Code(1), leftovers: 0 }, &mut effects);
        }
        println!("{count}: one end with restart {:?}", begin.elapsed() / 100);
        let begin = clock();
        engine.view(later);
        println!("{count}: a picture with 100 changes {:?}", begin.elapsed());
    }
}

/// A plan read for `purpose`, and the answer.
fn read(world: &mut World, purpose: Purpose, result: Result<Plan, Vec<String>>) -> Answer {
    world.take();
    world.step(Event::PlanLoaded { ticket: Some(Ticket(77)), purpose, result: result.map(Box::new) });
    let answer = world.done.iter().find_map(|effect| match effect {
        Effect::Reply { ticket: Ticket(77), answer } => Some((**answer).clone()),
        _ => None,
    });
    answer.expect("it is answered in the same step")
}

fn groups(added: &[&str], changed: &[&str], removed: &[&str]) -> Answer {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Ok(Reply::Groups { added: list(added), changed: list(changed), removed: list(removed) })
}

#[test]
fn a_reread_changes_nothing_and_compares_with_what_is_active() {
    let mut world = given(&[program("keep", 1), program("other", 1), program("gone", 1)]);
    world.secs(2);
    let mut other = program("other", 1);
    other.policy.priority = 7;
    let new = plan(&[program("keep", 1), other, program("fresh", 1)]);
    for _ in 0..2 {
        assert_eq!(read(&mut world, Purpose::Reread, Ok(new.clone())), groups(&["fresh"], &["other"], &["gone"]));
    }
    assert_eq!(world.states("gone"), [State::Running]);
    assert!(world.engine.plan().programs.len() == 3, "what is in force stays in force");
    let refused = read(&mut world, Purpose::Reread, Err(vec!["broken".into()]));
    assert_eq!(refused, Err(Refusal::BadConfig { faults: vec!["broken".into()] }));
}

#[test]
fn groups_are_added_from_what_was_read_and_removed_only_when_nothing_runs() {
    let mut world = given(&[program("a", 1)]);
    world.secs(2);
    read(&mut world, Purpose::Reread, Ok(plan(&[program("a", 2), program("b", 1)]))).unwrap();
    let add = |name: &str| Command::AddGroup { name: name.into() };
    let remove = |name: &str| Command::RemoveGroup { name: name.into() };
    assert_eq!(world.ask(add("a")), Err(Refusal::AlreadyAdded { name: "a".into() }));
    assert!(matches!(world.ask(add("x")), Err(Refusal::NoSuch { .. })));
    assert!(matches!(world.ask(remove("x")), Err(Refusal::NoSuch { .. })));
    assert_eq!(world.ask(add("b")), Ok(Reply::Done));
    assert_eq!(world.ask(remove("a")), Err(Refusal::StillRunning { name: "a".into() }));
    world.ask(Command::Stop { targets: vec![Target::read("a")] }).unwrap();
    let pid = world.pid("a", 0);
    world.step(Event::Ended { pid, exit: Exit::Code(0), leftovers: 0 });
    assert_eq!(world.ask(remove("a")), Ok(Reply::Done));
    assert!(!world.engine.plan().programs.contains_key(&ProgramName::new("a")));
    // A reload leaves it out, and says so; then it comes back as it was read.
    let answer = read(&mut world, Purpose::Reload, Ok(plan(&[program("a", 3), program("b", 1)])));
    assert!(matches!(answer, Ok(Reply::Changes(changes)) if changes.warnings.len() == 1));
    assert!(!world.engine.plan().programs.contains_key(&ProgramName::new("a")));
    assert_eq!(world.ask(add("a")), Ok(Reply::Done));
    world.secs(2);
    assert_eq!(world.states("a"), [State::Running; 3]);
}

#[test]
fn a_renewal_stops_by_priority_and_starts_with_what_was_read() {
    let (mut first, mut last) = (program("first", 1), program("last", 1));
    (first.policy.priority, last.policy.priority) = (1, 2);
    let mut world = given(&[first.clone(), last.clone()]);
    world.secs(2);
    assert_eq!(read(&mut world, Purpose::Renew, Err(vec!["broken".into()])), Err(Refusal::BadConfig { faults: vec!["broken".into()] }));
    assert_eq!((world.states("first"), world.states("last")), (vec![State::Running], vec![State::Running]), "a broken file stops nothing");

    last.policy.autostart = false;
    let pids = (world.pid("first", 0), world.pid("last", 0));
    assert_eq!(read(&mut world, Purpose::Renew, Ok(plan(&[first, last, program("new", 1)]))), Ok(Reply::Done));
    assert_eq!(world.engine.mood(), Mood::Renewing);
    assert_eq!((world.states("first"), world.states("last")), (vec![State::Running], vec![State::Stopping]));
    let busy = Refusal::Busy { with: "starting everything anew".into() };
    assert_eq!(world.ask(Command::Start { targets: vec![Target::All] }), Err(busy));
    world.step(Event::Ended { pid: pids.1, exit: Exit::Code(0), leftovers: 0 });
    assert_eq!(world.states("first"), [State::Stopping]);
    world.step(Event::Ended { pid: pids.0, exit: Exit::Code(0), leftovers: 0 });
    world.secs(2);
    assert_eq!(world.engine.mood(), Mood::Running);
    assert_eq!(world.states("first"), [State::Running]);
    assert_eq!(world.states("last"), [State::Stopped], "autostart decides, as at the very start");
    assert_eq!(world.states("new"), [State::Running]);
}

#[test]
fn a_shutdown_wins_over_a_renewal() {
    let mut world = given(&[program("mail", 1)]);
    world.secs(2);
    let pid = world.pid("mail", 0);
    read(&mut world, Purpose::Renew, Ok(plan(&[program("mail", 1)]))).unwrap();
    world.ask(Command::Shutdown).unwrap();
    world.step(Event::Ended { pid, exit: Exit::Code(0), leftovers: 0 });
    assert!(world.done.contains(&Effect::Quit));
}

#[test]
fn text_goes_to_one_running_worker() {
    let mut world = given(&[program("mail", 2)]);
    world.secs(2);
    let feed = |target: &str| Command::Feed { target: Target::read(target), text: "x".into() };
    let (pid, run) =
        (world.pid("mail", 1), world.engine.slot(&SlotId::new(&ProgramName::new("mail"), 1)).and_then(|slot| slot.run).unwrap());
    world.take();
    world.step(Event::Asked { ticket: Some(Ticket(9)), who: "root".into(), command: feed("mail:mail_01") });
    assert!(world.done.contains(&Effect::Feed { ticket: Some(Ticket(9)), run, pid, text: "x".into() }));
    assert!(matches!(world.ask(feed("mail:*")), Err(Refusal::Malformed { .. })));
    assert!(matches!(world.ask(feed("nobody")), Err(Refusal::NoSuch { .. })));
    world.ask(Command::Stop { targets: vec![Target::read("mail:mail_01")] }).unwrap();
    assert_eq!(world.ask(feed("mail:mail_01")), Err(Refusal::NotRunning));
}
