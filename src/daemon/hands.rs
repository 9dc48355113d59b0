//! The hands of the daemon: everything that `perform` needs to carry out an effect, kept in one place.
//!
//! It knows which pid is which life, holds the pidfds, and wires a worker to its log, its notify socket and
//! its lock. It decides nothing: a failure becomes an event, and the engine judges it.

use crate::daemon::stdin::{self, Feeder};
use crate::engine::event::{Event, Sample};
use crate::leases;
use crate::listeners::Pools;
use crate::logs::{Logs, Sources};
use crate::model::command::{Answer, Refusal, Reply};
use crate::model::launch::{Launch, Lock, SpawnFault, SpawnStep};
use crate::model::name::{ProgramName, RunId, SlotId};
use crate::model::signal::Signal;
use crate::model::spec::{FcgiSpec, JobCount, JobsSpec, Kind, OutputSpec, Stdin};
use crate::os::listen::Listening;
use crate::os::meter::Meter;
use crate::os::notify::Sockets;
use crate::os::reap::Reaped;
use crate::os::spawn::{Spawner, Stdio};
use crate::os::tree::Tree;
use crate::os::{fds, fifo, kill, tree};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

pub struct Hands {
    pub logs: Logs,
    pub sockets: Sockets,
    spawner: Spawner,
    tree: Tree,
    meter: Meter,
    /// `fifo/` and `notify/` in the runtime directory.
    fifos: PathBuf,
    notify: PathBuf,
    /// Goes before the run number in `GANGER_RUN`, so that no other fleet's worker is taken for ours.
    fleet: String,
    /// Boxed, since half of a large table is empty.
    ways: HashMap<SlotId, Box<Way>>,
    /// How many of them are wired.
    wired: u64,
    workers: HashMap<i32, Worker>,
    /// Lives whose leftovers may stay (`leftovers = "leave"`).
    left_alone: BTreeSet<RunId>,
    null: File,
    /// Sockets of fcgi programs; they live as long as a worker holds them.
    listening: HashMap<ProgramName, Weak<Listening>>,
    /// Whom event listeners' pipes are given to; `None` where nobody can define one.
    pools: Option<Pools>,
    /// Since the log thread was last told of it.
    newly_wired: bool,
}

/// How a slot is wired; it stays while workers come and go.
struct Way {
    output: OutputSpec,
    jobs: JobsSpec,
    uid: Option<u32>,
    gid: Option<u32>,
    /// `None` until the first start; then whether stderr has a FIFO of its own.
    wired: Option<bool>,
    /// The log thread has it.
    logged: bool,
}

struct Worker {
    run: RunId,
    pidfd: OwnedFd,
    input: Held,
}

/// What we hold of a worker's standard input while it lives.
enum Held {
    Nothing,
    /// The end that we write to.
    Pipe(Feeder),
    /// The socket that it shares with the others of its program.
    Socket {
        _shared: Arc<Listening>,
    },
    /// `listeners` has its ends; this is its slot.
    Protocol(SlotId),
}

/// What becomes a worker's standard input, and of an event listener its output, too.
enum Input {
    Null,
    Pipe(OwnedFd, Feeder),
    Socket(Arc<Listening>),
    /// The worker's ends, then ours.
    Protocol {
        stdin: OwnedFd,
        stdout: OwnedFd,
        ours: (OwnedFd, OwnedFd),
    },
}

/// What the hands are made of.
pub struct Tools {
    pub logs: Logs,
    pub spawner: Spawner,
    pub sockets: Sockets,
    pub tree: Tree,
    /// Private; the workers' output goes through here.
    pub fifos: PathBuf,
    /// Can be walked through by others: their notify sockets are here.
    pub notify: PathBuf,
    pub fleet: String,
    pub pools: Option<Pools>,
}

impl Hands {
    pub fn new(tools: Tools) -> io::Result<Hands> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        Ok(Hands {
            logs: tools.logs,
            sockets: tools.sockets,
            spawner: tools.spawner,
            tree: tools.tree,
            meter: Meter::new(),
            fifos: tools.fifos,
            notify: tools.notify,
            fleet: tools.fleet,
            ways: HashMap::new(),
            wired: 0,
            workers: HashMap::new(),
            left_alone: BTreeSet::new(),
            null,
            listening: HashMap::new(),
            pools: tools.pools,
            newly_wired: false,
        })
    }

    pub fn open(&mut self, slot: SlotId, label: String, output: OutputSpec, jobs: JobsSpec, uid: Option<u32>, gid: Option<u32>) {
        // One that was never started is unknown to the log thread: it is told with the first start.
        if self.ways.get(&slot).is_some_and(|way| way.logged) {
            self.logs.open(slot.clone(), label, output.clone(), jobs.clone(), None);
        }
        let way = self
            .ways
            .entry(slot)
            .or_insert_with(|| Box::new(Way { output: OutputSpec::default(), jobs: jobs.clone(), uid, gid, wired: None, logged: false }));
        // Another user cannot open the FIFO of the last one: it is made anew at the next start.
        if (way.uid, way.gid) != (uid, gid) {
            self.wired -= u64::from(way.wired.take().is_some());
        }
        (way.output, way.jobs, way.uid, way.gid) = (output, jobs, uid, gid);
    }

    pub fn close(&mut self, slot: &SlotId) {
        self.logs.close(slot.clone());
        self.sockets.unbind(slot);
        if let Some(way) = self.ways.remove(slot) {
            self.wired -= u64::from(way.wired.is_some());
        }
        for path in [self.fifo_path(slot, "stdout"), self.fifo_path(slot, "stderr"), self.notify_path(slot)] {
            // It may never have been made.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Starts a worker; whatever comes of it is the event.
    pub fn spawn(&mut self, slot: SlotId, run: RunId, launch: &Launch) -> Event {
        // Before anything is opened, so that whatever runs out is told in the same words.
        if let Err(fault) = self.check_room(&slot) {
            return Event::SpawnFailed { run, slot, fault };
        }
        let lease = match &launch.lock {
            None => None,
            Some(lock) => match self.lease(lock, launch) {
                Ok(lease) => Some(lease),
                Err(leases::NoLease::Busy { holder }) => return Event::LockBusy { run, slot, holder },
                Err(leases::NoLease::Fault(text)) => {
                    return Event::SpawnFailed { run, slot, fault: SpawnFault { step: SpawnStep::Lock, text } };
                }
            },
        };
        match self.start(&slot, run, launch, lease) {
            Ok(pid) => Event::Spawned { run, slot, pid },
            Err(fault) => Event::SpawnFailed { run, slot, fault },
        }
    }

    fn lease(&self, lock: &Lock, launch: &Launch) -> Result<leases::Lease, leases::NoLease> {
        let uid = launch.common.user.as_ref().map_or_else(|| nix::unistd::geteuid().as_raw(), |user| user.uid);
        // Named locks are the host's, so that cron's `solo -name=` and a daemon of any user meet there.
        leases::take(lock, uid, &leases::default_lock_dir(nix::unistd::geteuid().as_raw()))
    }

    fn start(&mut self, slot: &SlotId, run: RunId, launch: &Launch, lease: Option<leases::Lease>) -> Result<i32, SpawnFault> {
        let wire = |what: &str, e: io::Error| SpawnFault { step: SpawnStep::Wire, text: format!("cannot make its {what}: {e}") };
        // Before the worker can write: the counts of the last life end here.
        if !self.wire(slot, run, launch).map_err(|e| wire("output pipe", e))? {
            match self.ways.get(slot) {
                Some(way) if way.jobs.count == JobCount::Notify && !way.output.strip_ansi => self.logs.begin_uncounted(slot.clone(), run),
                Some(_) | None => self.logs.begin(slot.clone(), run),
            }
        }
        let stdout = fifo::open_writer(&self.fifo_path(slot, "stdout")).map_err(|e| wire("output pipe", e))?;
        let stderr = match launch.common.redirect_stderr {
            true => None,
            false => Some(fifo::open_writer(&self.fifo_path(slot, "stderr")).map_err(|e| wire("error output pipe", e))?),
        };
        let mut extra = vec![
            ("GANGER_PROGRAM".to_owned(), slot.program.to_string()),
            ("GANGER_WORKER".to_owned(), format!("{}:{}", launch.group, launch.process)),
            ("GANGER_SLOT".to_owned(), slot.number.to_string()),
            (tree::VARIABLE.to_owned(), tree::mark(&self.fleet, run)),
            ("NOTIFY_SOCKET".to_owned(), self.notify_path(slot).to_string_lossy().into_owned()),
            ("SUPERVISOR_ENABLED".to_owned(), "1".to_owned()),
            ("SUPERVISOR_PROCESS_NAME".to_owned(), launch.process.clone()),
            ("SUPERVISOR_GROUP_NAME".to_owned(), launch.group.to_string()),
        ];
        if let Some(watchdog) = launch.common.watchdog {
            extra.push(("WATCHDOG_USEC".to_owned(), watchdog.0.saturating_mul(1000).to_string()));
        }
        if let Some(url) = &launch.common.server_url {
            extra.push(("SUPERVISOR_SERVER_URL".to_owned(), url.clone()));
        }
        let input = self.input(slot, launch).map_err(|e| wire("input", e))?;
        let (stdin, stdout) = match &input {
            Input::Null => (self.null.as_fd(), stdout.as_fd()),
            Input::Pipe(read, _) => (read.as_fd(), stdout.as_fd()),
            Input::Socket(shared) => (shared.socket(), stdout.as_fd()),
            Input::Protocol { stdin, stdout, .. } => (stdin.as_fd(), stdout.as_fd()),
        };
        let stdio = Stdio { stdin, stdout, stderr: stderr.as_ref().map_or(stdout, |stderr| stderr.as_fd()) };
        let spawned = self.spawner.spawn(launch, &extra, stdio, lease.as_ref().map(|lease| lease.fd.as_fd()))?;
        self.tree.began(spawned.pid);
        let input = match input {
            Input::Null => Held::Nothing,
            Input::Pipe(_, feeder) => Held::Pipe(feeder),
            Input::Socket(shared) => Held::Socket { _shared: shared },
            Input::Protocol { ours: (to, from), .. } => {
                if let Some(pools) = &self.pools {
                    pools.attach(slot.clone(), spawned.pid, to, from);
                }
                Held::Protocol(slot.clone())
            }
        };
        self.workers.insert(spawned.pid, Worker { run, pidfd: spawned.pidfd, input });
        Ok(spawned.pid)
    }

    fn input(&mut self, slot: &SlotId, launch: &Launch) -> io::Result<Input> {
        match &launch.kind {
            Kind::Program if launch.common.stdin == Stdin::Null => Ok(Input::Null),
            Kind::Program => stdin::pipe().map(|(read, feeder)| Input::Pipe(read, feeder)),
            Kind::Listener(_) => {
                let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
                let ((stdin, to), (from, stdout)) = (pipe()?, pipe()?);
                Ok(Input::Protocol { stdin, stdout, ours: (to, from) })
            }
            Kind::Fcgi(spec) => self.listening(&slot.program, spec).map(Input::Socket),
        }
    }

    /// The socket of an fcgi program: the one that its workers hold, or a new one.
    fn listening(&mut self, program: &ProgramName, spec: &FcgiSpec) -> io::Result<Arc<Listening>> {
        if let Some(held) = self.listening.get(program).and_then(Weak::upgrade).filter(|held| held.spec == *spec) {
            return Ok(held);
        }
        let fresh = Arc::new(Listening::open(spec)?);
        self.listening.retain(|_, held| held.strong_count() > 0);
        self.listening.insert(program.clone(), Arc::downgrade(&fresh));
        Ok(fresh)
    }

    /// Refuses a slot for which there are not enough descriptors, so that some are left for those who ask what is wrong.
    /// Counted and not tried, since the log thread opens its files a moment later.
    fn check_room(&self, slot: &SlotId) -> Result<(), SpawnFault> {
        if self.ways.get(slot).is_some_and(|way| way.wired.is_some()) {
            return Ok(());
        }
        let (limit, _) = fds::nofile();
        if OURS + FOR_A_SLOT * (self.wired + 1) <= limit {
            return Ok(());
        }
        let text = format!(
            "too many open files in the daemon (its limit is {limit}, a worker takes {FOR_A_SLOT}); raise LimitNOFILE= or ulimit -n"
        );
        Err(SpawnFault { step: SpawnStep::Wire, text })
    }

    /// Makes the slot's FIFOs and notify socket if they are not there as this launch needs them. True: they are new, and the life
    /// was begun with them.
    fn wire(&mut self, slot: &SlotId, run: RunId, launch: &Launch) -> io::Result<bool> {
        let own_stderr = !launch.common.redirect_stderr;
        let (out, err, told) = (self.fifo_path(slot, "stdout"), self.fifo_path(slot, "stderr"), self.notify_path(slot));
        let Some(way) = self.ways.get_mut(slot) else {
            return Err(io::Error::other("the slot was never opened"));
        };
        if way.wired == Some(own_stderr) {
            return Ok(false);
        }
        let read_end = |path: &PathBuf| {
            fifo::make(path, way.uid, way.gid)?;
            fifo::open_reader(path)
        };
        let sources = Sources { stdout: read_end(&out)?, stderr: if own_stderr { Some(read_end(&err)?) } else { None } };
        self.sockets.bind(slot, &told, way.uid, way.gid)?;
        self.newly_wired = true;
        self.logs.open_for(slot.clone(), way.output.clone(), way.jobs.clone(), sources, run);
        self.wired += u64::from(way.wired.replace(own_stderr).is_none());
        way.logged = true;
        Ok(true)
    }

    /// To be called when a turn's starts are done: output of those who started first in their slots is read from now on.
    pub fn wired(&mut self) {
        if std::mem::take(&mut self.newly_wired) {
            self.logs.ring();
        }
    }

    pub fn signal(&mut self, pid: i32, signal: Signal, group: bool) {
        let Some(worker) = self.workers.get(&pid) else { return };
        // A worker that is gone already costs nothing: its exit is on its way to the engine.
        let sent = match group {
            true => kill::signal_group(pid, signal),
            false => kill::signal_process(pid, Some(worker.pidfd.as_fd()), signal),
        };
        if let Err(e) = sent {
            tracing::warn!("cannot send {signal} to pid {pid}: {e}");
        }
    }

    /// Writes to a worker's standard input.
    pub fn feed(&mut self, pid: i32, run: RunId, text: &[u8]) -> Answer {
        let worker = self.workers.get_mut(&pid).filter(|worker| worker.run == run).ok_or(Refusal::NotRunning)?;
        let Held::Pipe(stdin) = &worker.input else { return Err(Refusal::NoStdin) };
        match stdin.feed(text) {
            Ok(()) => Ok(Reply::Done),
            Err(e) => {
                tracing::warn!("cannot write to the standard input of pid {pid}: {e}");
                Err(Refusal::NoStdin)
            }
        }
    }

    /// Children that were reaped, as events; bystanders (orphans we inherited) are among them.
    pub fn ended(&mut self, reaped: Vec<Reaped>) -> Vec<Event> {
        let mut lives = Vec::new();
        for Reaped { pid, .. } in &reaped {
            self.tree.gone(*pid);
            if let Some(worker) = self.workers.remove(pid) {
                self.meter.forget(worker.run);
                lives.push((worker.run, *pid));
                if let (Held::Protocol(slot), Some(pools)) = (worker.input, &self.pools) {
                    pools.detach(slot);
                }
            }
        }
        let left: HashMap<RunId, u32> = self.tree.after_reap(&lives).into_iter().collect();
        let run_of: HashMap<i32, RunId> = lives.iter().map(|(run, pid)| (*pid, *run)).collect();
        let mut events: Vec<Event> = reaped
            .into_iter()
            .map(|Reaped { pid, exit }| {
                let leftovers = run_of.get(&pid).and_then(|run| left.get(run)).copied().unwrap_or(0);
                Event::Ended { pid, exit, leftovers }
            })
            .collect();
        // An orphan that we have just reaped may have been the last of a life that is being cleared.
        events.extend(self.cleared());
        events
    }

    fn cleared(&mut self) -> Vec<Event> {
        let lives: Vec<RunId> = self.tree.lives().collect();
        lives.into_iter().filter(|run| self.tree.still_there(*run) == 0).map(|run| Event::Cleared { run }).collect()
    }

    pub fn signal_leftovers(&mut self, run: RunId, signal: Signal) -> Vec<Event> {
        self.tree.signal(run, signal);
        if self.tree.still_there(run) == 0 { vec![Event::Cleared { run }] } else { Vec::new() }
    }

    pub fn forget_leftovers(&mut self, run: RunId) {
        self.tree.forget(run);
        self.left_alone.insert(run);
        if self.left_alone.len() > MOST_LEFT_ALONE {
            self.left_alone.pop_first();
        }
    }

    /// The very end: what still carries our mark and was not to be let alone is killed. Ended lives have been looked after
    /// one by one; this is for whatever slipped through, since nobody comes after us.
    pub fn sweep(&self) {
        for (pid, run) in self.tree.all_with_fleet_mark() {
            if !self.left_alone.contains(&run) {
                tracing::warn!("pid {pid} of an ended worker is still there and is killed");
                // It may be gone by now.
                let _ = kill::signal_process(pid, None, Signal::KILL);
            }
        }
    }

    pub fn measure(&mut self, workers: &[(RunId, i32)]) -> Event {
        let samples = self.meter.measure(workers).into_iter().map(|(run, memory, cpu)| Sample { run, memory, cpu }).collect();
        Event::Measured { samples }
    }

    /// What workers told since the last call, at most `limit` datagrams; true if more may be waiting.
    pub fn told(&mut self, limit: usize, inbox: &mut VecDeque<Event>) -> bool {
        let mut datagrams = Vec::new();
        let more = self.sockets.drain(limit, &mut datagrams);
        inbox.extend(datagrams.into_iter().map(|d| Event::Notified { slot: d.slot, pid: d.pid, told: d.told }));
        more
    }

    fn fifo_path(&self, slot: &SlotId, stream: &str) -> PathBuf {
        self.fifos.join(format!("{}.{}.{stream}", slot.program, slot.number))
    }

    fn notify_path(&self, slot: &SlotId) -> PathBuf {
        self.notify.join(format!("{}.{}", slot.program, slot.number))
    }
}

/// Descriptors of the daemon itself, with connections and definitions that are read.
const OURS: u64 = 48;
/// The oldest are forgotten, and then killed with us if they still run.
const MOST_LEFT_ALONE: usize = 10_000;
/// Two FIFOs, a notify socket, two log files, a pidfd, its memory's file, its input.
const FOR_A_SLOT: u64 = 8;
