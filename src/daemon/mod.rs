//! THE HALL: the only room that knows all the others. It wires and decides nothing.
//!
//! Three threads: `main` (the engine, signals, fork and wait), `api` (whoever asks), `logs` (worker output);
//! besides them a writer for our own log, and now and then one that reads definitions.

pub mod boot;
pub mod demo;
pub mod hands;
pub mod journal;
pub mod mainloop;
pub mod options;
mod stdin;
pub mod supervisor;
pub mod supervisor_log;

use crate::api::{Doors, HostInfo};
use crate::daemon::hands::{Hands, Tools};
use crate::daemon::journal::{Journal, Paper, Style};
use crate::daemon::mainloop::{Foreman, Publisher, Sources, Waiting};
use crate::daemon::options::{Options, Overrides};
use crate::daemon::supervisor::Remarks;
use crate::engine::Engine;
use crate::listeners::Pools;
use crate::listeners::payload::{Chunk, Stream};
use crate::logs::{Channel, Logs, Report};
use crate::model::name::{RunId, SlotId};
use crate::model::plan::Plan;
use crate::model::signal::Signal;
use crate::model::time::Span;
use crate::model::view::{Mood, View};
use crate::os::background::{Herald, Side};
use crate::os::notify::Sockets;
use crate::os::signals::Signals;
use crate::os::spawn::Spawner;
use crate::os::tree::Tree;
use crate::os::{clock, fds, heap, host, runtime_dir, systemd};
use clap::Parser;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, watch};

/// Everything went as asked.
const OK: i32 = 0;
/// Something of ours failed; the reason is on stderr.
const FAILED: i32 = 1;
/// The flags or the definitions are wrong.
const MISUSED: i32 = 2;

/// The Supervisor that we stand in for.
const SUPERVISOR_VERSION: &str = "4.3.0";

/// In its words.
const ANOTHER_LISTENS: &str = "Another program is already listening on a port that one of our HTTP servers is configured to use.  Shut \
this program down first before starting supervisord.";

/// The daemon, from its command line to its exit code.
pub fn run(args: Vec<OsString>) -> i32 {
    let program = PathBuf::from(args.first().cloned().unwrap_or_else(|| "gangerd".into()));
    let as_supervisord = options::is_supervisord(program.as_os_str());
    let options = match Options::try_parse_from(args) {
        Ok(options) => options,
        Err(e) => {
            // Nobody to tell if even stderr is closed.
            let _ = e.print();
            return if e.use_stderr() { MISUSED } else { OK };
        }
    };
    if options.version {
        match as_supervisord {
            // Scripts compare it.
            true => println!("{SUPERVISOR_VERSION}"),
            false => println!("gangerd {}", env!("CARGO_PKG_VERSION")),
        }
        return OK;
    }
    if options.demo {
        return demo::run();
    }
    if let Some(file) = &options.import {
        return import(file);
    }
    let config = match find_config(&options, &program, as_supervisord) {
        Ok(config) => config,
        Err(text) => {
            supervisor::usage(&program, &text);
            return MISUSED;
        }
    };
    if options.check {
        return check(&config);
    }
    let user = match options.user.as_deref().map(host::user_by_name).transpose() {
        Ok(Some(None)) => {
            supervisor::usage(&program, &format!("Invalid user name {}", options.user.as_deref().unwrap_or_default()));
            return MISUSED;
        }
        Ok(user) => user.flatten(),
        Err(text) => {
            supervisor::usage(&program, &text);
            return MISUSED;
        }
    };
    let may_go_into_background = as_supervisord && !options.nodaemon;
    serve(&Call { config, overrides: Overrides::new(options, user), program, may_go_into_background })
}

fn find_config(options: &Options, program: &Path, as_supervisord: bool) -> Result<PathBuf, String> {
    if let Some(config) = &options.config {
        return Ok(config.clone());
    }
    if !as_supervisord {
        let home = std::env::var("HOME").unwrap_or_else(|_| "/".to_owned());
        return Ok(options::default_config(nix::unistd::geteuid().as_raw(), &home));
    }
    if nix::unistd::geteuid().is_root() {
        eprintln!(
            "Supervisord is running as root and it is searching for its configuration file in default locations (including its current \
             working directory); you probably want to specify a \"-c\" argument specifying an absolute path to a configuration file for \
             improved security."
        );
    }
    let places = options::search_path(program);
    places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| {
        let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        format!(
            "No config file found at default paths ({}); use the -c option to specify a config file at a different path",
            places.join(", ")
        )
    })
}

/// How we were called.
pub struct Call {
    pub config: PathBuf,
    pub overrides: Overrides,
    /// As the caller knows us.
    pub program: PathBuf,
    /// The definitions may still say otherwise.
    pub may_go_into_background: bool,
}

/// Says a file in our own dialect.
fn import(file: &Path) -> i32 {
    match boot::load(file) {
        Ok(plan) => {
            print!("{}", crate::config::import::to_toml(&plan));
            OK
        }
        Err(faults) => {
            complain(&faults);
            MISUSED
        }
    }
}

/// Says all that is wrong with a file.
fn check(config: &Path) -> i32 {
    match boot::load(config) {
        Ok(plan) => {
            for warning in &plan.warnings {
                eprintln!("warning: {warning}");
            }
            let workers: u32 = plan.programs.values().map(|spec| spec.policy.numprocs).sum();
            println!("{}: ok: {} programs, {workers} workers", config.display(), plan.programs.len());
            OK
        }
        Err(faults) => {
            complain(&faults);
            MISUSED
        }
    }
}

fn complain(faults: &[String]) {
    for fault in faults {
        eprintln!("{fault}");
    }
    eprintln!("{} error(s)", faults.len());
}

/// Runs the fleet that a file defines until somebody asks us to stop.
pub fn serve(call: &Call) -> i32 {
    heap::frugal();
    let mut plan = match boot::load(&call.config) {
        Ok(plan) => plan,
        Err(faults) => {
            complain(&faults);
            return MISUSED;
        }
    };
    call.overrides.apply(&mut plan);
    // Relative to where we are now, whatever directory we go to.
    let config = std::path::absolute(&call.config).unwrap_or_else(|_| call.config.clone());
    let mut start = Start { config, overrides: call.overrides.clone(), remarks: Remarks::default(), herald: None };
    let dialect = plan.daemon.supervisord.clone();
    if let Some(spec) = &dialect {
        match supervisor::settle(spec, &plan) {
            Ok(remarks) => start.remarks = remarks,
            Err(text) => {
                supervisor::usage(&call.program, &text);
                return MISUSED;
            }
        }
        if call.may_go_into_background && !spec.nodaemon {
            match supervisor::go_into_the_background(spec, &mut start.remarks) {
                Ok(Side::Daemon(herald)) => start.herald = Some(herald),
                Ok(Side::Starter { code: OK, .. }) => return OK,
                Ok(Side::Starter { code, said }) => {
                    supervisor::usage(&call.program, &said);
                    return code;
                }
                Err(e) => {
                    supervisor::usage(&call.program, &format!("cannot go into the background: {e}"));
                    return FAILED;
                }
            }
        }
    }
    let failed = if dialect.is_some() { MISUSED } else { FAILED };
    // Not on the process's first thread: the kernel gives orphans to that one, so its list of children then holds nothing
    // else, and what a dead worker left behind is found at once, however large the fleet is.
    let foreman = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("foreman".into()).spawn_scoped(scope, || start.go(plan));
        thread.map(|thread| thread.join())
    });
    match foreman {
        Ok(Ok(Ok(()))) => OK,
        Ok(Ok(Err(text))) if dialect.is_some() => {
            supervisor::usage(&call.program, &text);
            failed
        }
        Ok(Ok(Err(text))) => {
            eprintln!("gangerd: {text}");
            failed
        }
        Ok(Err(_)) => {
            eprintln!(
                "gangerd: a fault of ours ended the daemon; its workers still run, and the next gangerd will end them before it starts its own"
            );
            FAILED
        }
        Err(e) => {
            eprintln!("gangerd: cannot start a thread: {e}");
            FAILED
        }
    }
}

/// What the foreman's thread begins with.
struct Start {
    config: PathBuf,
    overrides: Overrides,
    remarks: Remarks,
    /// Whom to tell that we are up; `None` in the foreground.
    herald: Option<Herald>,
}

impl Start {
    fn go(mut self, plan: Plan) -> Result<(), String> {
        let herald = &mut self.herald.take();
        let result = self.open_log(&plan, herald.is_some()).and_then(|journal| {
            let remarks = std::mem::take(&mut self.remarks);
            serve_plan(self, plan, journal, remarks, herald)
        });
        if let Err(text) = &result {
            supervisor::announce(herald.take(), Err(text));
        }
        result
    }

    fn open_log(&self, plan: &Plan, in_background: bool) -> Result<Journal, String> {
        fds::ensure_stdio_open().map_err(|e| format!("cannot open /dev/null: {e}"))?;
        let daemon = &plan.daemon;
        let (paper, style) = match &daemon.supervisord {
            Some(spec) => (supervisor::paper(daemon, spec, in_background), Style::Supervisor),
            None => {
                let under_journal = std::env::var_os("JOURNAL_STREAM").is_some();
                let file = daemon.log_file.as_ref().map(PathBuf::from);
                (Paper { file, ..Paper::default() }, if under_journal { Style::NoTimes } else { Style::Times })
            }
        };
        Journal::start(paper, &daemon.log_level, style).map_err(|e| e.to_string())
    }
}

fn serve_plan(start: Start, plan: Plan, journal: Journal, remarks: Remarks, herald: &mut Option<Herald>) -> Result<(), String> {
    let says = |what: &'static str| move |e: std::io::Error| format!("cannot {what}: {e}");
    let dialect = plan.daemon.supervisord.clone();
    remarks.record();
    match &dialect {
        // Its umask is the caller's, or what it said when we went into the background.
        Some(spec) if !spec.nocleanup => supervisor::clear_auto_logs(spec),
        Some(_) => {}
        None => {
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        }
    }
    let config = &start.config;
    let dir = PathBuf::from(&plan.daemon.runtime_dir);
    let guard = runtime_dir::take(&dir).map_err(|e| e.to_string())?;
    // Members of the socket's group and workers of other users must get through; they cannot list it.
    guard.let_others_through().map_err(|e| e.to_string())?;
    let original_nofile = fds::raise_nofile();
    host::become_subreaper().map_err(says("become a subreaper"))?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(says("start the event loop"))?;
    let context = runtime.enter();
    // First thing: an exit that nobody listens for must not be lost.
    let mut signals = Signals::install().map_err(says("listen for signals"))?;
    let (fleet, before) = boot::name_fleet(&dir).map_err(says("name the fleet"))?;
    if !before.is_empty() {
        // As long as the slowest of them may take: a job in hand is worth no less because our predecessor died.
        let waits = plan.programs.values().map(|spec| spec.policy.stop.rungs.iter().fold(Span::ZERO, |sum, rung| sum + rung.wait));
        let grace = waits.max().unwrap_or(Span::secs(10));
        let mut told_to_end = || {
            // Nobody else writes our log out yet, and whoever waits wants to know for what.
            journal.flush();
            signals.pending().iter().any(|caught| matches!(caught.signal, Signal::TERM | Signal::INT | Signal::QUIT))
        };
        if !boot::end_the_left_behind(&before, grace, &mut told_to_end) {
            tracing::info!("told to end while waiting for the workers of an earlier gangerd; they are left to the next one");
            journal.stop();
            return Ok(());
        }
        boot::forget_earlier_fleets(&dir, &fleet).map_err(says("name the fleet"))?;
    }

    let pools = match &dialect {
        Some(spec) => Some(Pools::start(&spec.identifier).map_err(says("start the thread of event listeners"))?),
        None => None,
    };
    let (report, reports) = mpsc::unbounded_channel();
    let listeners = pools.clone();
    let hear = move |told| match (told, &listeners) {
        (Report::Output { slot, run, channel, data }, Some(pools)) => pools.output(&chunk(slot, run, channel, data)),
        (Report::Captured { slot, run, channel, data }, Some(pools)) => pools.captured(&chunk(slot, run, channel, data)),
        (Report::Output { .. } | Report::Captured { .. }, None) => {}
        // The receiver is gone only when we are on our way out.
        (told @ (Report::Counted { .. } | Report::Changed { .. }), _) => drop(report.send(told)),
    };
    let logs = Logs::start(plan.daemon.ring_lines, Box::new(hear)).map_err(says("start the log thread"))?;
    let (loaded, plans) = mpsc::unbounded_channel();
    let (asks, asked) = mpsc::channel(256);
    let now = clock::now();
    let mut engine = Engine::new(now.stamp.0 as u64 ^ u64::from(std::process::id()), now);
    let picture: Arc<View> = engine.view(now);
    let publisher = Publisher {
        view: watch::channel(picture).0,
        plan: watch::channel(Arc::default()).0,
        notices: broadcast::channel(4096).0,
        told: Vec::new(),
    };
    let loader = boot::Loader::new(config.to_owned(), start.overrides, plan.daemon.clone(), loaded);
    let hands = Hands::new(Tools {
        logs: logs.clone(),
        spawner: Spawner::new(original_nofile, host::base_environment()).map_err(says("prepare to start workers"))?,
        sockets: Sockets::new().map_err(says("make the notify sockets"))?,
        tree: Tree::new(&fleet),
        fifos: guard.subdirectory("fifo", false).map_err(|e| e.to_string())?,
        notify: guard.subdirectory("notify", true).map_err(|e| e.to_string())?,
        fleet,
        pools: pools.clone(),
    })
    .map_err(says("open /dev/null"))?;
    let mut foreman = Foreman {
        engine,
        hands,
        waiting: Waiting::new(loader),
        publisher,
        journal,
        reloading: false,
        rested: false,
        above: std::env::var_os("NOTIFY_SOCKET").is_some(),
        plan_is_new: false,
        as_supervisor: dialect.is_some(),
        mood: Mood::Running,
        pools,
    };
    let handle = foreman.handle(asks);
    let socket = plan.daemon.socket.clone();
    let host = HostInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id() as i32,
        config: config.display().to_string(),
        footing: Vec::new(),
        main_log: plan.daemon.log_file.as_ref().map(PathBuf::from),
        identifier: dialect.as_ref().map_or_else(|| HostInfo::default().identifier, |spec| spec.identifier.clone()),
        supervisor_version: SUPERVISOR_VERSION.to_owned(),
    };
    let others = plan.daemon.supervisord.as_ref().map(|spec| spec.doors.clone()).unwrap_or_default();
    // Nobody who comes in sees a fleet without workers, and none is started before the doors are known to open.
    let to_do = foreman.take_up(Box::new(plan));
    let doors = Doors::open(handle, socket.clone(), others, None, host).map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse if dialect.is_some() => format!("{ANOTHER_LISTENS} ({e})"),
        _ => e.to_string(),
    })?;
    let started = format!("gangerd {} with pid {}: {} on {}", env!("CARGO_PKG_VERSION"), std::process::id(), config.display(), socket.path);
    let pid_file = match &dialect {
        Some(spec) => {
            tracing::debug!("{started}");
            supervisor::write_pid_file(&spec.pid_file)
        }
        None => {
            tracing::info!("{started}");
            None
        }
    };

    let mut sources = Sources { signals, asks: asked, reports, loaded: plans };
    foreman.begin(to_do);
    systemd::ready();
    supervisor::announce(herald.take(), Ok(()));
    // Reading definitions leaves much behind.
    heap::give_back();
    drop(context);
    runtime.block_on(foreman.run(&mut sources));

    // Whoever still asks is told that we are going.
    drop(sources);
    doors.close();
    let Foreman { hands, journal, .. } = foreman;
    hands.sweep();
    boot::forget_fleet(&dir);
    drop(hands);
    logs.stop();
    match dialect {
        Some(_) => tracing::debug!("gangerd has ended"),
        None => tracing::info!("gangerd has ended"),
    }
    drop(pid_file);
    journal.stop();
    Ok(())
}

fn chunk(slot: SlotId, run: RunId, channel: Channel, data: Vec<u8>) -> Chunk {
    let stream = match channel {
        Channel::Stdout => Stream::Stdout,
        Channel::Stderr => Stream::Stderr,
    };
    Chunk { slot, run, stream, data }
}
