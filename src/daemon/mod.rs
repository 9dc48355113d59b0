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

use crate::api::{Doors, HostInfo};
use crate::daemon::hands::{Hands, Tools};
use crate::daemon::journal::Journal;
use crate::daemon::mainloop::{Foreman, Publisher, Sources, Waiting};
use crate::daemon::options::Options;
use crate::engine::Engine;
use crate::logs::Logs;
use crate::model::plan::Plan;
use crate::model::signal::Signal;
use crate::model::time::Span;
use crate::model::view::View;
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

/// The daemon, from its command line to its exit code.
pub fn run(args: Vec<OsString>) -> i32 {
    let options = match Options::try_parse_from(args) {
        Ok(options) => options,
        Err(e) => {
            // Nobody to tell if even stderr is closed.
            let _ = e.print();
            return if e.use_stderr() { MISUSED } else { OK };
        }
    };
    if options.demo {
        return demo::run();
    }
    let home = std::env::var("HOME").unwrap_or_else(|_| "/".to_owned());
    let config = options.config.clone().unwrap_or_else(|| options::default_config(nix::unistd::geteuid().as_raw(), &home));
    if options.check {
        return check(&config);
    }
    serve(&config, options.log_level.as_deref())
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

/// Runs the fleet that `config` defines until somebody asks us to stop.
pub fn serve(config: &Path, log_level: Option<&str>) -> i32 {
    heap::frugal();
    let plan = match boot::load(config) {
        Ok(plan) => plan,
        Err(faults) => {
            complain(&faults);
            return MISUSED;
        }
    };
    // Not on the process's first thread: the kernel gives orphans to that one, so its list of children then holds nothing
    // else, and what a dead worker left behind is found at once, however large the fleet is.
    let foreman = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("foreman".into()).spawn_scoped(scope, || start(config, plan, log_level));
        thread.map(|thread| thread.join())
    });
    match foreman {
        Ok(Ok(Ok(()))) => OK,
        Ok(Ok(Err(text))) => {
            eprintln!("gangerd: {text}");
            FAILED
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

fn start(config: &Path, plan: Plan, log_level: Option<&str>) -> Result<(), String> {
    fds::ensure_stdio_open().map_err(|e| format!("cannot open /dev/null: {e}"))?;
    let under_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let level = log_level.unwrap_or(&plan.daemon.log_level).to_owned();
    let journal = Journal::start(plan.daemon.log_file.as_ref().map(PathBuf::from), &level, !under_journal).map_err(|e| e.to_string())?;
    serve_plan(config, plan, journal)
}

fn serve_plan(config: &Path, plan: Plan, journal: Journal) -> Result<(), String> {
    let says = |what: &'static str| move |e: std::io::Error| format!("cannot {what}: {e}");
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
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

    let (report, reports) = mpsc::unbounded_channel();
    // The receiver is gone only when we are on our way out.
    let logs = Logs::start(plan.daemon.ring_lines, Box::new(move |told| drop(report.send(told)))).map_err(says("start the log thread"))?;
    let (loaded, plans) = mpsc::unbounded_channel();
    let (asks, asked) = mpsc::channel(256);
    let now = clock::now();
    let mut engine = Engine::new(now.stamp.0 as u64 ^ u64::from(std::process::id()), now);
    let picture: Arc<View> = engine.view(now);
    let publisher = Publisher { view: watch::channel(picture).0, notices: broadcast::channel(4096).0, told: Vec::new() };
    let loader = boot::Loader::new(config.to_owned(), plan.daemon.clone(), loaded);
    let hands = Hands::new(Tools {
        logs: logs.clone(),
        spawner: Spawner::new(original_nofile, host::base_environment()).map_err(says("prepare to start workers"))?,
        sockets: Sockets::new().map_err(says("make the notify sockets"))?,
        tree: Tree::new(&fleet),
        fifos: guard.subdirectory("fifo", false).map_err(|e| e.to_string())?,
        notify: guard.subdirectory("notify", true).map_err(|e| e.to_string())?,
        fleet,
    })
    .map_err(says("open /dev/null"))?;
    let mut foreman = Foreman {
        engine,
        hands,
        waiting: Waiting::new(loader),
        publisher,
        journal,
        reloading: false,
        above: std::env::var_os("NOTIFY_SOCKET").is_some(),
    };
    let handle = foreman.handle(asks);
    let socket = plan.daemon.socket.clone();
    let host = HostInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id() as i32,
        config: config.display().to_string(),
        footing: Vec::new(),
    };
    // Nobody who comes in sees a fleet without workers, and none is started before the doors are known to open.
    let to_do = foreman.take_up(Box::new(plan));
    let doors = Doors::open(handle, socket.clone(), None, host).map_err(|e| e.to_string())?;
    tracing::info!("gangerd {} with pid {}: {} on {}", env!("CARGO_PKG_VERSION"), std::process::id(), config.display(), socket.path);

    let mut sources = Sources { signals, asks: asked, reports, loaded: plans };
    foreman.begin(to_do);
    systemd::ready();
    // Reading definitions and starting everybody at once leaves more behind than any later day.
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
    tracing::info!("gangerd has ended");
    journal.stop();
    Ok(())
}
