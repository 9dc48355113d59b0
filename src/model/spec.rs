//! `ProgramSpec`: everything a definition says, already checked; it cannot hold nonsense.
//!
//! Three parts, by what a change of them costs on reload: `launch` (workers must be replaced), `output` (the
//! sinks are changed under the running worker), `policy` (takes effect in place). Defaults are Supervisor's;
//! what Supervisor does not know is off by default. `ProgramSpec::new` is the one home of the defaults.

use crate::model::launch::{Launch, Lock, User};
use crate::model::name::{GroupName, ProgramName, SlotId};
use crate::model::signal::Signal;
use crate::model::template::Template;
use crate::model::time::Span;
use crate::model::units::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgramSpec {
    pub name: ProgramName,
    pub group: GroupName,
    pub kind: Kind,
    /// The process's name within its group; differs from slot to slot when there may be more than one.
    pub process_name: Template,
    pub launch: Arc<LaunchSpec>,
    pub output: OutputSpec,
    pub policy: Policy,
}

/// What a program is for. Supervisor's sections of that name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Program,
    /// `[eventlistener:x]`: its stdin and stdout are the event protocol, its stdout is no log.
    Listener(ListenerSpec),
    /// `[fcgi-program:x]`: a listening socket, shared by its workers, is their descriptor 0.
    Fcgi(FcgiSpec),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerSpec {
    /// Names of event types as the file gives them, upper-case, known ones only (`PROCESS_STATE`, `TICK_60`, …).
    pub events: Vec<String>,
    /// Events that may wait; then the oldest is discarded.
    pub buffer_size: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FcgiSpec {
    pub socket: FcgiSocket,
    pub backlog: Option<u32>,
    /// Numeric owner and group, and mode, of a unix socket.
    pub owner: Option<(u32, u32)>,
    pub mode: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FcgiSocket {
    Tcp { host: String, port: u16 },
    Unix { path: String },
}

/// What a worker finds on its standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    #[default]
    Null,
    /// A pipe that doors can write to (Supervisor's `sendProcessStdin`, `fg`).
    Pipe,
}

/// What a worker is started with. Any difference here means: running workers must be replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// Program and arguments, already split into words.
    pub command: Vec<Template>,
    /// In the order given; over the daemon's own environment.
    pub environment: Vec<(String, Template)>,
    pub directory: Option<Template>,
    /// `None`: as the daemon itself.
    pub user: Option<User>,
    pub umask: Option<u32>,
    pub nice: Option<i32>,
    pub oom_score_adj: Option<i32>,
    pub no_new_privs: bool,
    /// By name as in `setrlimit` (`nofile`, `core`, …): soft and hard; `None` is unlimited.
    pub rlimits: BTreeMap<Rlimit, (Option<u64>, Option<u64>)>,
    /// A session of its own (setsid) instead of only a process group (setpgid, as Supervisor).
    pub session: bool,
    pub stdin: Stdin,
    /// stderr goes where stdout goes.
    pub redirect_stderr: bool,
    /// Told to the worker as SUPERVISOR_SERVER_URL.
    pub server_url: Option<String>,
    pub lock: Option<LockSpec>,
    /// A sign of life must come at least this often; told to the worker in WATCHDOG_USEC.
    pub watchdog: Option<Span>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockSpec {
    Port(u16),
    File(Template),
    Name(Template),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rlimit {
    Nofile,
    Nproc,
    Core,
    Cpu,
    Data,
    Fsize,
    Stack,
    As,
    Memlock,
}

/// Where output goes. A change is applied under the running worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OutputSpec {
    pub stdout: StreamSpec,
    pub stderr: StreamSpec,
    /// Remove ANSI escape sequences before writing.
    pub strip_ansi: bool,
}

/// One stream's sinks; none at all still leaves the ring of last lines in memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamSpec {
    pub sinks: Vec<Sink>,
    /// Text between Supervisor's capture tokens is no log but a PROCESS_COMMUNICATION event; so much of it is kept. 0: off.
    pub capture_max: Bytes,
    /// Output is also made into PROCESS_LOG events.
    pub events: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sink {
    File(LogFile),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogFile {
    pub path: Template,
    /// Rotate when the file has reached this size; 0 means never.
    pub max_bytes: Bytes,
    /// How many old files are kept as `.1` (newest) … `.N`; 0 means: truncate.
    pub backups: u32,
}

/// The rules. A change takes effect in place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub numprocs: u32,
    pub numprocs_start: u32,
    /// Lower starts first and stops last.
    pub priority: i32,
    pub autostart: bool,
    pub autorestart: Autorestart,
    pub startsecs: Span,
    /// Failed starts in a row that are forgiven; one more is FATAL. `None`: never give up.
    pub startretries: Option<u32>,
    /// Exit codes that are expected (0..=255).
    pub exitcodes: Vec<i32>,
    /// Pause before the next start after an expected exit (run-until-empty workers); neither crash nor backoff.
    pub restart_pause: Option<Span>,
    pub stop: StopSpec,
    pub backoff: BackoffSpec,
    pub ready: ReadySpec,
    pub recycle: RecycleSpec,
    pub jobs: JobsSpec,
    pub scale: ScaleSpec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Autorestart {
    Never,
    /// Only when the exit code is not in `exitcodes`; death by signal is always unexpected.
    Unexpected,
    Always,
}

/// The stop ladder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopSpec {
    /// Asked in this order; after the last wait KILL, repeated until the worker is gone. Never empty. KILL is in it
    /// only as the first and last (`stopsignal = KILL`).
    pub rungs: Vec<Rung>,
    /// The signal of a rung is sent again this often while waiting; `None`: once.
    pub resend: Option<Span>,
    /// Stop signals go to the whole process group.
    pub as_group: bool,
    /// KILL goes to the whole process group.
    pub kill_as_group: bool,
    /// What happens to processes of a worker's life that outlive it.
    pub leftovers: Leftovers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    pub signal: Signal,
    pub wait: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leftovers {
    /// TERM, a moment, KILL; the slot is started again only when they are gone.
    Kill,
    /// They are let alone, as Supervisor does.
    Leave,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackoffSpec {
    pub rule: BackoffRule,
    /// A worker that ran this long has proved itself: the count of failed starts is forgotten.
    /// `None`: as soon as it is RUNNING, as in Supervisor.
    pub reset_after: Option<Span>,
    /// A FATAL slot is tried again after this time. `None`: only a person lifts it.
    pub retry_after_fatal: Option<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackoffRule {
    /// Supervisor's: 1, 2, 3 … seconds.
    Linear,
    /// `initial`, then `factor` times longer each time, at most `max`; each ± `jitter` (0.1 = ± 10 %).
    Exponential { initial: Span, max: Span, factor: f64, jitter: f64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadySpec {
    /// READY=1 alone makes it RUNNING; having lived `startsecs` is not enough.
    pub notify: bool,
    /// With `notify`: no READY=1 within this time is a failed start.
    pub timeout: Span,
}

/// When a worker has had enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecycleSpec {
    /// Drawn anew from this range for every worker.
    pub max_jobs: Option<(u64, u64)>,
    pub max_memory: Option<Bytes>,
    /// Over the limit in `.0` of the last `.1` samples.
    pub memory_samples: (u8, u8),
    /// How often memory is read while `max_memory` is set.
    pub sample_interval: Span,
    pub max_lifetime: Option<Span>,
    /// The lifetime is drawn from ± this share (0.1 = ± 10 %).
    pub lifetime_jitter: f64,
    /// No worker is recycled by a limit before this age, against recycle storms.
    pub min_lifetime: Span,
    /// How many of the program may be away at once (on their way out, or not yet ready).
    pub concurrency: u32,
    /// How long to wait for the end of a job that the worker told of before the stop signal is sent.
    pub patience: Span,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobsSpec {
    pub count: JobCount,
    /// A job that takes longer: its worker is stopped.
    pub timeout: Option<Span>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobCount {
    /// The worker tells by notify datagrams.
    Notify,
    /// Counted by matching lines of its output; each a regular expression (ANSI escapes are removed first).
    Lines { done: Option<String>, failed: Option<String>, running: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaleSpec {
    pub min: u32,
    /// `None`: no upper bound but the kernel's.
    pub max: Option<u32>,
}

impl ProgramSpec {
    /// A definition that says only its name and command; everything else is at its default.
    pub fn new(name: &str, command: Vec<Template>) -> ProgramSpec {
        ProgramSpec {
            name: ProgramName::new(name),
            group: GroupName::new(name),
            kind: Kind::Program,
            process_name: Template::text(name),
            launch: Arc::new(LaunchSpec {
                command,
                environment: Vec::new(),
                directory: None,
                user: None,
                umask: None,
                nice: None,
                oom_score_adj: None,
                no_new_privs: false,
                rlimits: BTreeMap::new(),
                session: false,
                stdin: Stdin::Null,
                redirect_stderr: false,
                server_url: None,
                lock: None,
                watchdog: None,
            }),
            output: OutputSpec::default(),
            policy: Policy::default(),
        }
    }

    /// The process name of slot `number`.
    pub fn process(&self, number: u32) -> String {
        self.process_name.render(number)
    }

    /// `group:process` of slot `number`, or one word where the two are equal.
    pub fn label(&self, number: u32) -> String {
        crate::model::name::label(self.group.as_str(), &self.process(number))
    }

    /// Everything that a start of slot `number` needs.
    pub fn launch_of(&self, number: u32) -> Launch {
        let common = &self.launch;
        Launch {
            slot: SlotId::new(&self.name, number),
            kind: self.kind.clone(),
            group: self.group.clone(),
            process: self.process(number),
            argv: common.command.iter().map(|word| word.render(number)).collect(),
            environment: common.environment.iter().map(|(key, value)| (key.clone(), value.render(number))).collect(),
            directory: common.directory.as_ref().map(|dir| dir.render(number)),
            lock: common.lock.as_ref().map(|lock| match lock {
                LockSpec::Port(port) => Lock::Port(*port),
                LockSpec::File(path) => Lock::File(path.render(number)),
                LockSpec::Name(name) => Lock::Name(name.render(number)),
            }),
            common: common.clone(),
        }
    }
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            numprocs: 1,
            numprocs_start: 0,
            priority: 999,
            autostart: true,
            autorestart: Autorestart::Unexpected,
            startsecs: Span::secs(1),
            startretries: Some(3),
            exitcodes: vec![0],
            restart_pause: None,
            stop: StopSpec {
                rungs: vec![Rung { signal: Signal::TERM, wait: Span::secs(10) }],
                resend: Some(Span::secs(2)),
                as_group: false,
                kill_as_group: false,
                leftovers: Leftovers::Kill,
            },
            backoff: BackoffSpec { rule: BackoffRule::Linear, reset_after: None, retry_after_fatal: None },
            ready: ReadySpec { notify: false, timeout: Span::secs(60) },
            recycle: RecycleSpec {
                max_jobs: None,
                max_memory: None,
                memory_samples: (2, 3),
                sample_interval: Span::secs(1),
                max_lifetime: None,
                lifetime_jitter: 0.1,
                min_lifetime: Span::ZERO,
                concurrency: 1,
                patience: Span::secs(30),
            },
            jobs: JobsSpec { count: JobCount::Notify, timeout: None },
            scale: ScaleSpec { min: 0, max: None },
        }
    }
}
