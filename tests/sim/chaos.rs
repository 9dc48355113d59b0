//! Everything that goes wrong, drawn from a seed: fleets, workers, people, datagrams, clocks.
//!
//! `Weather` answers the questions that the fake kernel asks (does this spawn fail? does this datagram arrive?) and strikes
//! now and then by itself. When it is `calm`, the same world is kind: good workers, no mischief, no loss. Nothing here knows
//! what the engine should do about it.

use crate::world::{Character, Heeds, Remains, Work, World};
use ganger::engine::event::{Event, Sample};
use ganger::model::command::{Batch, Command, ScaleTo};
use ganger::model::exit::Exit;
use ganger::model::launch::{Lock, SpawnFault, SpawnStep};
use ganger::model::name::{GroupName, ProgramName, RunId, SlotId, Target};
use ganger::model::notify::Notify;
use ganger::model::plan::Plan;
use ganger::model::rng::Rng;
use ganger::model::signal::Signal;
use ganger::model::spec::{Autorestart, BackoffRule, JobCount, LaunchSpec, Leftovers, LockSpec, Policy, ProgramSpec, Rung, ScaleSpec};
use ganger::model::template::{Piece, Template};
use ganger::model::time::{Span, Stamp};
use ganger::model::units::Bytes;
use std::sync::Arc;

/// How large a fleet is.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    pub programs: u64,
    /// Workers of a program, at most.
    pub widest: u64,
    /// Mean time between two strokes of mischief.
    pub peace: Span,
    /// One step in so many is followed by a hand-over.
    pub handover: u64,
    /// No rule of a program falls due by the clock while all its workers run.
    pub timeless: bool,
}

pub struct Weather {
    rng: Rng,
    fleet: Fleet,
    pub calm: bool,
    /// One spawn in so many fails; 0: none.
    spawns_fail: u64,
    /// One datagram in so many is lost, doubled, late.
    datagrams_fail: u64,
}

impl Weather {
    pub fn new(seed: u64, fleet: Fleet) -> Weather {
        Weather { rng: Rng::seeded(seed), fleet, calm: false, spawns_fail: 12, datagrams_fail: 10 }
    }

    pub fn oversleeps(&mut self) -> Span {
        if !self.calm && self.rng.one_in(20) { self.span(1, 3000) } else { Span::ZERO }
    }

    /// When the copies of a datagram arrive; none at all if it is lost.
    pub fn journeys(&mut self) -> Vec<Span> {
        if self.calm || !self.rng.one_in(self.datagrams_fail) {
            return vec![Span::ZERO];
        }
        match self.rng.between(0, 2) {
            0 => Vec::new(),
            1 => vec![Span::ZERO, self.span(0, 2000)],
            _ => vec![self.span(1, 30_000)],
        }
    }

    pub fn spawn_fault(&mut self) -> Option<SpawnFault> {
        if self.calm || !self.rng.one_in(self.spawns_fail) {
            return None;
        }
        let (step, text) = match self.rng.between(0, 2) {
            0 => (SpawnStep::Fork, "too many processes (EAGAIN)"),
            1 => (SpawnStep::Exec, "./worker.php: permission denied; is the file executable?"),
            _ => (SpawnStep::Wire, "too many open files"),
        };
        Some(SpawnFault { step, text: text.to_owned() })
    }

    pub fn hands_over(&mut self) -> bool {
        self.rng.one_in(self.fleet.handover)
    }

    pub fn reading_takes(&mut self) -> Span {
        if self.calm { Span::ZERO } else { self.span(0, 1500) }
    }

    fn span(&mut self, low_ms: u64, high_ms: u64) -> Span {
        Span(self.rng.between(low_ms, high_ms))
    }

    /// Short lives are as likely as long ones: evenly in the number of digits.
    fn long_span(&mut self, high_ms: u64) -> Span {
        let high = (high_ms as f64).ln();
        Span((self.rng.unit() * high).exp() as u64)
    }

    fn exit(&mut self) -> Exit {
        match self.rng.between(0, 9) {
            0..=3 => Exit::Code(0),
            4..=6 => Exit::Code(1),
            7 => Exit::Code(2),
            8 => Exit::Signal(Signal::KILL),
            _ => Exit::Unknown,
        }
    }

    /// What a new worker of this program is like.
    pub fn character(&mut self, spec: &ProgramSpec) -> Character {
        let watchdog = spec.launch.watchdog;
        let beats = watchdog.map(|span| (Span(span.0 / 3 + 1), Span(u64::MAX)));
        if self.calm {
            return Character { ready: Some(Span::millis(300)), heartbeat: beats, ..Character::good() };
        }
        let lives = match self.rng.between(0, 9) {
            0 => Some(Span(self.rng.between(0, 900))),
            1..=5 => Some(self.long_span(3_600_000)),
            _ => None,
        };
        let heeds = match self.rng.between(0, 11) {
            0..=4 => Heeds::After(self.long_span(8000)),
            5..=7 => Heeds::BetweenJobs,
            8 => Heeds::Nth(usize::try_from(self.rng.between(2, 4)).unwrap_or(2)),
            9 => Heeds::Only(if self.rng.one_in(2) { Signal::INT } else { Signal::QUIT }),
            _ => Heeds::Never,
        };
        let ready = match self.rng.between(0, 5) {
            0 => None,
            1 => Some(self.span(0, 90_000)),
            _ => Some(self.span(0, 3000)),
        };
        let heartbeat = beats.filter(|_| !self.rng.one_in(6)).map(|(every, _)| {
            let until = if self.rng.one_in(3) { self.long_span(1_800_000) } else { Span(u64::MAX) };
            (every, until)
        });
        let longest_job = if self.rng.one_in(8) { 120_000 } else { 20_000 };
        let work = (!self.rng.one_in(3)).then(|| Work {
            takes: self.long_span(longest_job) + Span(20),
            rests: self.long_span(60_000) + Span(20),
            tells_job: self.rng.one_in(2),
        });
        let leaves = self.rng.one_in(7).then(|| Remains {
            count: self.rng.between(1, 3) as u32,
            heeds_term: self.rng.one_in(2),
            gone_after: self.rng.one_in(2).then(|| self.long_span(20_000)),
        });
        Character {
            lives,
            exit: self.exit(),
            heeds,
            ready,
            heartbeat,
            work,
            memory: (self.rng.between(10, 40) << 20, if self.rng.one_in(3) { self.rng.between(1, 4) << 18 } else { 0 }),
            leaves,
            says_stopping: !self.fleet.timeless && self.rng.one_in(4),
            extends: self.rng.one_in(8).then(|| self.long_span(30_000)),
            zombie: if self.rng.one_in(5) { self.span(1, 400) } else { Span::ZERO },
            dies_hard: if self.rng.one_in(15) { self.span(1, 25_000) } else { Span::ZERO },
        }
    }

    // Definitions.

    pub fn plan(&mut self) -> Plan {
        let mut plan = Plan::default();
        for index in 0..self.fleet.programs {
            let spec = self.spec(index);
            plan.programs.insert(spec.name.clone(), Arc::new(spec));
        }
        self.regroup(&mut plan);
        plan
    }

    /// What the definitions say when they are read again at a bad time.
    pub fn reads(&mut self, old: &Plan) -> Result<Plan, Vec<String>> {
        if self.calm {
            return Ok(old.clone());
        }
        if self.rng.one_in(5) {
            return Err(vec!["fleet.toml:3: program.p0.startsecs: found \"fast\", expected a duration such as \"5s\"".into()]);
        }
        let mut plan = old.clone();
        for _ in 0..self.rng.between(0, 3) {
            let index = self.rng.between(0, self.fleet.programs + 2);
            let name = ProgramName::new(&format!("p{index}"));
            let Some(old) = plan.programs.get(&name).cloned() else {
                let spec = self.spec(index);
                plan.programs.insert(name, Arc::new(spec));
                continue;
            };
            let mut spec = (*old).clone();
            match self.rng.between(0, 9) {
                0 => {
                    plan.programs.remove(&name);
                    continue;
                }
                1..=3 => {
                    let word = format!("version-{}", self.rng.between(1, 99));
                    spec.launch =
                        Arc::new(LaunchSpec { command: vec![Template::text("worker"), Template::text(&word)], ..(*spec.launch).clone() });
                }
                4..=6 => {
                    spec.policy.numprocs = self.rng.between(0, self.fleet.widest) as u32;
                    spec.policy.scale = ScaleSpec { min: 0, max: None };
                }
                7 => spec.policy.numprocs_start = 1 - spec.policy.numprocs_start.min(1),
                _ => {
                    let kept = (spec.policy.numprocs, spec.policy.numprocs_start);
                    spec.policy = self.policy();
                    (spec.policy.numprocs, spec.policy.numprocs_start) = kept;
                }
            }
            plan.programs.insert(name, Arc::new(spec));
        }
        self.regroup(&mut plan);
        Ok(plan)
    }

    fn regroup(&mut self, plan: &mut Plan) {
        if self.rng.one_in(3) {
            plan.groups.insert(GroupName::new("gang"), self.rng.between(1, 3) as i32);
        }
    }

    fn spec(&mut self, index: u64) -> ProgramSpec {
        let name = format!("p{index}");
        let mut spec = ProgramSpec::new(&name, vec![Template::text("worker"), Template::text(&name)]);
        if self.rng.one_in(4) {
            spec.group = GroupName::new("gang");
        }
        spec.process_name = Template(vec![Piece::Text(format!("{name}_")), Piece::Number { zero: true, width: 2 }]);
        spec.policy = self.policy();
        let mut launch = (*spec.launch).clone();
        launch.watchdog = (!self.fleet.timeless && self.rng.one_in(4)).then(|| self.span(2000, 30_000));
        launch.lock = self.rng.one_in(10).then(|| match self.rng.between(0, 2) {
            // One for all slots of the program, or one for each, or one that other programs want as well.
            0 => LockSpec::Port(3800 + index as u16),
            1 => LockSpec::File(Template(vec![Piece::Text(format!("/lock/{name}-")), Piece::Number { zero: false, width: 0 }])),
            _ => LockSpec::Name(Template::text("shared")),
        });
        spec.launch = Arc::new(launch);
        spec
    }

    fn policy(&mut self) -> Policy {
        let mut policy = Policy::default();
        let widest = if self.rng.one_in(3) { self.fleet.widest } else { 3.min(self.fleet.widest) };
        let least = u64::from(!self.rng.one_in(12));
        policy.numprocs = self.rng.between(least, widest) as u32;
        policy.numprocs_start = self.rng.between(0, 1) as u32;
        policy.priority = self.rng.between(1, 4) as i32;
        policy.autostart = !self.rng.one_in(10);
        policy.autorestart = match self.rng.between(0, 5) {
            0 => Autorestart::Never,
            1..=2 => Autorestart::Always,
            _ => Autorestart::Unexpected,
        };
        policy.startsecs = if self.rng.one_in(4) { Span::ZERO } else { self.span(1000, 5000) };
        policy.startretries = (!self.rng.one_in(6)).then(|| self.rng.between(0, 4) as u32);
        policy.restart_pause = self.rng.one_in(5).then(|| self.span(0, 20_000));
        let stop = &mut policy.stop;
        stop.rungs = [Signal::TERM, Signal::INT, Signal::QUIT]
            .into_iter()
            .take(self.rng.between(1, 3) as usize)
            .map(|signal| Rung { signal, wait: Span(self.rng.between(0, 8000)) })
            .collect();
        stop.resend = self.rng.one_in(2).then(|| Span(self.rng.between(200, 3000)));
        stop.as_group = self.rng.one_in(4);
        stop.kill_as_group = stop.as_group || self.rng.one_in(4);
        stop.leftovers = if self.rng.one_in(4) { Leftovers::Leave } else { Leftovers::Kill };
        if self.rng.one_in(2) {
            policy.backoff.rule = BackoffRule::Exponential {
                initial: Span(self.rng.between(100, 2000)),
                max: Span(self.rng.between(5000, 60_000)),
                factor: 1.0 + self.rng.unit() * 2.0,
                jitter: self.rng.unit() / 2.0,
            };
        }
        policy.backoff.reset_after = self.rng.one_in(4).then(|| Span(self.rng.between(1000, 60_000)));
        policy.backoff.retry_after_fatal = self.rng.one_in(3).then(|| Span(self.rng.between(1000, 300_000)));
        policy.ready.notify = self.rng.one_in(4);
        policy.ready.timeout = self.span(1000, 60_000);
        let recycle = &mut policy.recycle;
        recycle.max_jobs = self.rng.one_in(3).then(|| (self.rng.between(1, 5), self.rng.between(5, 60)));
        recycle.max_memory = self.rng.one_in(5).then_some(Bytes(64 << 20));
        recycle.sample_interval = Span(self.rng.between(1000, 20_000));
        recycle.max_lifetime = self.rng.one_in(4).then(|| Span(self.rng.between(10_000, 900_000)));
        recycle.min_lifetime = if self.rng.one_in(3) { Span(self.rng.between(1, 60_000)) } else { Span::ZERO };
        recycle.concurrency = self.rng.between(1, 3) as u32;
        recycle.patience = Span(self.rng.between(0, 40_000));
        policy.jobs.timeout = self.rng.one_in(4).then(|| Span(self.rng.between(1000, 60_000)));
        if self.rng.one_in(3) {
            policy.jobs.count = JobCount::Lines { done: Some("DONE".into()), failed: Some("FAIL".into()), running: Some("RUN".into()) };
        }
        if self.fleet.timeless {
            policy.recycle.max_lifetime = None;
            policy.recycle.max_memory = None;
            policy.recycle.min_lifetime = Span::ZERO;
            policy.jobs.timeout = None;
            policy.backoff.reset_after = None;
        }
        policy
    }

    // People.

    fn targets(&mut self) -> Vec<Target> {
        let count = if self.rng.one_in(4) { self.rng.between(0, 3) } else { 1 };
        (0..count).map(|_| self.target()).collect()
    }

    fn target(&mut self) -> Target {
        let index = self.rng.between(0, self.fleet.programs);
        let number = self.rng.between(0, self.fleet.widest);
        let name = format!("p{index}");
        Target::read(&match self.rng.between(0, 19) {
            0 => "all".to_owned(),
            1 => "gang:*".to_owned(),
            2 => format!("gang:{name}_{number:02}"),
            3 => "nobody".to_owned(),
            4 => "nobody:*".to_owned(),
            5 => format!("{name}:{name}"),
            6..=8 => name,
            9..=11 => format!("{name}:*"),
            _ => format!("{name}:{name}_{number:02}"),
        })
    }

    fn command(&mut self) -> Command {
        match self.rng.between(0, 29) {
            0..=3 => Command::Start { targets: self.targets() },
            4..=6 => Command::Stop { targets: self.targets() },
            7..=9 => Command::Restart { targets: self.targets() },
            10..=11 => {
                let batch = if self.rng.one_in(2) {
                    Batch::Workers(self.rng.between(0, 3) as u32)
                } else {
                    Batch::Percent(self.rng.between(0, 120) as u32)
                };
                Command::Roll { targets: self.targets(), batch }
            }
            12..=13 => Command::Recycle { targets: self.targets() },
            14..=17 => {
                let few = self.rng.between(0, self.fleet.widest) as u32;
                let to = match self.rng.between(0, 5) {
                    0 => ScaleTo::Default,
                    1 => ScaleTo::Up(few.min(3)),
                    2 => ScaleTo::Down(few.min(3)),
                    _ => ScaleTo::Exactly(few),
                };
                let program =
                    if self.rng.one_in(20) { "nobody".to_owned() } else { format!("p{}", self.rng.between(0, self.fleet.programs)) };
                Command::Scale { program, to }
            }
            18..=19 => {
                let all = [Signal::USR1, Signal::HUP, Signal::TERM, Signal::KILL, Signal::STOP, Signal::CONT];
                let signal = all[self.rng.between(0, all.len() as u64 - 1) as usize];
                Command::Signal { targets: self.targets(), signal }
            }
            20..=22 => Command::Reload { dry: self.rng.one_in(3) },
            23 => Command::Reread,
            24..=25 => Command::AddGroup { name: self.group() },
            26..=27 => Command::RemoveGroup { name: self.group() },
            28 => match self.rng.between(0, 3) {
                0 => Command::Renew,
                1 => Command::Remote { event: "deploy".to_owned(), data: "1.2".to_owned() },
                _ => Command::Feed { target: self.target(), text: "go\n".to_owned() },
            },
            _ => Command::Refresh,
        }
    }

    fn group(&mut self) -> String {
        if self.rng.one_in(4) { "gang".to_owned() } else { format!("p{}", self.rng.between(0, self.fleet.programs)) }
    }

    /// One stroke of mischief, and the date of the next.
    pub fn strike(&mut self, world: &mut World) {
        if self.calm {
            return;
        }
        let next = Span((-(1.0 - self.rng.unit()).ln() * self.fleet.peace.0 as f64) as u64);
        world.mischief_in(next);
        let pids = world.pids();
        let victim = (!pids.is_empty()).then(|| pids[self.rng.between(0, pids.len() as u64 - 1) as usize]);
        match self.rng.between(0, 39) {
            0..=13 => {
                let who = ["root (uid 0)", "alice (uid 1000)", "web", "cron"][self.rng.between(0, 3) as usize];
                let command = self.command();
                if self.rng.one_in(10) {
                    world.hear_in(Span::ZERO, Event::Asked { ticket: None, who: "SIGHUP".into(), command });
                } else {
                    world.ask_later(who, command);
                }
                // Somebody else presses the same button in the same moment.
                if self.rng.one_in(6) {
                    let command = self.command();
                    world.ask_later("mallory (uid 1001)", command);
                }
            }
            14..=16 => {
                let jump = self.rng.between(0, 20_000_000_000) as i64 - 10_000_000_000;
                world.now.stamp = Stamp((world.now.stamp.0 + jump).max(0));
            }
            17 => world.hear_in(
                Span::ZERO,
                Event::Ended { pid: 900_000 + self.rng.between(0, 9) as i32, exit: self.exit(), leftovers: self.rng.between(0, 1) as u32 },
            ),
            18..=19 => {
                // A datagram of somebody who is long dead, or never lived.
                let slot = SlotId::new(
                    &ProgramName::new(&format!("p{}", self.rng.between(0, self.fleet.programs))),
                    self.rng.between(0, 3) as u32,
                );
                let told =
                    Notify { ready: true, jobs: Some(self.rng.next_u64()), job: Some("ghost".into()), trigger: true, ..Notify::default() };
                world.hear_in(Span::ZERO, Event::Notified { slot, pid: 800_000, told });
            }
            20..=23 => world.hear_in(Span::ZERO, Event::Woke),
            24 => {
                let slot = victim.and_then(|pid| world.procs.get(&pid)).map(|proc| proc.slot.clone());
                if let Some(slot) = slot {
                    let trouble = self.rng.one_in(2).then(|| "no space left on device".to_owned());
                    world.hear_in(Span::ZERO, Event::LogChanged { slot, trouble, lost: self.rng.between(0, 99) });
                }
            }
            25..=26 => {
                let lock = if self.rng.one_in(2) {
                    Lock::Name("shared".into())
                } else {
                    Lock::Port(3800 + self.rng.between(0, self.fleet.programs) as u16)
                };
                let span = self.long_span(300_000);
                world.stranger_takes(lock, span);
            }
            27 => {
                self.spawns_fail = [0, 30, 12, 4, 1][self.rng.between(0, 4) as usize];
                self.datagrams_fail = [0, 30, 5, 2][self.rng.between(0, 3) as usize];
            }
            28..=33 => {
                if let Some((pid, run)) = victim.and_then(|pid| world.procs.get(&pid).map(|proc| (pid, proc.run))) {
                    world.dies_in(Span::ZERO, pid, run, Exit::Signal(Signal::KILL));
                }
            }
            34 => {
                // The whole fleet falls over: its database is down.
                if self.rng.one_in(8) {
                    let all: Vec<_> = world.procs.iter().map(|(pid, proc)| (*pid, proc.run)).collect();
                    for (pid, run) in all {
                        world.dies_in(self.span(0, 200), pid, run, Exit::Code(255));
                    }
                }
            }
            35..=36 => {
                if let Some(pid) = victim {
                    let told = Notify {
                        trigger: self.rng.one_in(3),
                        stopping: !self.fleet.timeless && self.rng.one_in(3),
                        extend_timeout: self.rng.one_in(2).then(|| self.long_span(10_000_000)),
                        status: Some("strange".into()),
                        ..Notify::default()
                    };
                    world.tell(pid, told);
                }
            }
            37 => world.hear_in(Span::ZERO, Event::Cleared { run: RunId(1_000_000_000 + self.rng.between(1, 50)) }),
            38 => {
                let sample = Sample { run: RunId(self.rng.between(1, 50)), memory: Bytes(u64::MAX), cpu: Span(u64::MAX) };
                world.hear_in(Span::ZERO, Event::Measured { samples: vec![sample] });
            }
            _ => {
                if let Some(slot) = victim.and_then(|pid| world.procs.get(&pid)).map(|proc| proc.slot.clone()) {
                    let event = Event::Counted { slot, run: RunId(1), done: u64::MAX, failed: u64::MAX, job: None };
                    world.hear_in(Span::ZERO, event);
                }
            }
        }
    }
}
