//! The log thread: one epoll over all FIFOs, rounds of one turn each, orders in between.
//!
//! With nothing to read and nothing ordered it sleeps without a time-out: idle is zero wake-ups. Under load it is the
//! wake-ups that cost, not the copying (a line-wise writer wakes its reader for every line), so after some rounds in quick
//! succession it naps half a millisecond before it looks again, and finds more in each pipe. The first line after a pause is
//! still read at once. A pipe that is found half full is made larger, and is not napped upon.

use crate::logs::count::PatternBook;
use crate::logs::pump::{Bench, SlotLog, Stream, Told, Turn};
use crate::logs::sink::{LogFiles, words};
use crate::logs::tail::Follower;
use crate::logs::{Channel, Last, Report, Sources, TailError};
use crate::model::name::{RunId, SlotId};
use crate::model::spec::{JobsSpec, OutputSpec};
use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use nix::sys::signal::SigSet;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// The one read buffer. Large reads are what makes big writes cheap.
const BUFFER: usize = 256 * 1024;
/// How many streams have a turn in one round.
const ROUND: usize = 256;
/// Rounds that follow each other faster than this are a streak; one that has to wait longer ends it.
const QUICK: Duration = Duration::from_micros(300);
/// After so many quick rounds it is worth while to nap.
const STREAK: u32 = 4;
const NAP: Duration = Duration::from_micros(500);
/// How many pipes may be made large: root may have many; an ordinary user's pipes share 64 MiB (pipe-user-pages-soft), and
/// new ones shrink to a page when that is spent.
const LARGE_PIPES: (u32, u32) = (1024, 32);

const BELL: u64 = u64::MAX;

/// What the thread is told to do.
#[derive(Debug)]
pub enum Order {
    Open { slot: SlotId, output: OutputSpec, jobs: JobsSpec, sources: Option<Sources>, life: Option<RunId> },
    Begin { slot: SlotId, run: RunId },
    Close { slot: SlotId },
    Reopen,
    Clear { slot: SlotId, answer: oneshot::Sender<Result<(), TailError>> },
    Tail { slot: SlotId, channel: Channel, last: Last, answer: oneshot::Sender<Result<Found, TailError>> },
    Follow { slot: SlotId, channel: Channel, answer: oneshot::Sender<Result<mpsc::Receiver<Bytes>, TailError>> },
    Drain { answer: oneshot::Sender<()> },
    Stop,
}

/// The end of a log, or where to read it.
#[derive(Debug)]
pub enum Found {
    Bytes(Vec<u8>),
    File(PathBuf, u64),
}

/// What may fail, done before the thread is started.
pub struct Prepared {
    queue: Receiver<Order>,
    bell: Arc<EventFd>,
    epoll: Epoll,
}

impl Prepared {
    pub fn new(queue: Receiver<Order>, bell: Arc<EventFd>) -> io::Result<Prepared> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        Ok(Prepared { queue, bell, epoll })
    }
}

pub struct Thread {
    queue: Receiver<Order>,
    bell: Arc<EventFd>,
    epoll: Epoll,
    report: Box<dyn Fn(Report) + Send>,
    ring_lines: u32,
    clock: Clock,
    bench: Bench,
    files: LogFiles,
    patterns: PatternBook,
    /// By the number that is in an epoll token: twice the number, plus the channel.
    logs: Vec<Option<SlotLog>>,
    numbers: HashMap<SlotId, usize>,
}

/// Milliseconds since the thread began.
#[derive(Clone, Copy, Debug)]
struct Clock(Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this thread's own pace and retries; no other room sees these times")]
    fn start() -> Clock {
        Clock(Instant::now())
    }

    fn now(self) -> Duration {
        self.0.elapsed()
    }
}

impl Thread {
    pub fn new(prepared: Prepared, ring_lines: u32, report: Box<dyn Fn(Report) + Send>) -> Thread {
        let Prepared { queue, bell, epoll } = prepared;
        let large_pipes = if nix::unistd::geteuid().is_root() { LARGE_PIPES.0 } else { LARGE_PIPES.1 };
        Thread {
            queue,
            bell,
            epoll,
            report,
            ring_lines,
            clock: Clock::start(),
            bench: Bench { buffer: vec![0; BUFFER], stripped: Vec::new(), logged: Vec::new(), now: 0, large_pipes },
            files: LogFiles::default(),
            patterns: PatternBook::default(),
            logs: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// Until it is told to stop.
    pub fn run(mut self) {
        // Signals are the main thread's.
        let _ = SigSet::all().thread_block();
        let mut events = vec![EpollEvent::empty(); ROUND];
        let mut touched = Vec::new();
        let mut streak = 0;
        loop {
            let before = self.clock.now();
            let ready = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(error) => panic!("epoll_wait on our own descriptors: {error}"),
            };
            let after = self.tick();
            streak = if after.saturating_sub(before) > QUICK { 0 } else { streak + 1 };
            let (mut rung, mut behind) = (false, false);
            for event in &events[..ready] {
                match event.data() {
                    BELL => rung = true,
                    token => {
                        behind |= self.turn(token);
                        touched.push((token / 2) as usize);
                    }
                }
            }
            touched.sort_unstable();
            touched.dedup();
            for number in touched.drain(..) {
                self.tell(number);
            }
            self.tell_troubles();
            if rung && self.obey().is_break() {
                return;
            }
            if streak >= STREAK && !behind {
                std::thread::sleep(NAP);
            }
        }
    }

    fn tick(&mut self) -> Duration {
        let now = self.clock.now();
        self.bench.now = now.as_millis() as u64;
        now
    }

    /// One turn of one stream. True: its pipe was full enough that its writer should not wait.
    fn turn(&mut self, token: u64) -> bool {
        let channel = if token.is_multiple_of(2) { Channel::Stdout } else { Channel::Stderr };
        let Some(log) = self.logs.get_mut((token / 2) as usize).and_then(Option::as_mut) else { return false };
        let turn = log.turn(channel, &mut self.bench);
        tell_output(log, &*self.report);
        match turn {
            Turn::Took { bytes: _, behind } => behind,
            Turn::Empty => false,
            Turn::Ended => {
                // No FIFO that is open read-write ends; a pipe would, and must not keep us awake.
                if let Some(source) = log.stream(channel).and_then(|stream| stream.release(&mut self.bench)) {
                    let _ = self.epoll.delete(source);
                }
                false
            }
        }
    }

    /// Reports what changed in a slot since it was told last.
    fn tell(&mut self, number: usize) {
        let Some(log) = self.logs.get_mut(number).and_then(Option::as_mut) else { return };
        tell_output(log, &*self.report);
        if let (Some(counter), Some(run)) = (&mut log.counter, log.run)
            && counter.take_changed()
        {
            let (slot, job) = (log.slot.clone(), counter.job.clone());
            (self.report)(Report::Counted { slot, run, done: counter.done, failed: counter.failed, job });
        }
    }

    /// Reports troubles that began, changed or ended. Seldom; so it may look at all slots, since several may share a file.
    fn tell_troubles(&mut self) {
        if !self.files.take_troubled() {
            return;
        }
        for log in self.logs.iter_mut().flatten() {
            let trouble = log.trouble();
            if trouble != log.told {
                (self.report)(Report::Changed { slot: log.slot.clone(), trouble: trouble.clone(), lost: log.lost });
                if trouble.is_none() {
                    log.lost = 0;
                }
                log.told = trouble;
            }
        }
    }

    fn obey(&mut self) -> std::ops::ControlFlow<()> {
        // Before the queue: what is ordered after this rings again.
        let _ = self.bell.read();
        while let Ok(order) = self.queue.try_recv() {
            self.tick();
            match order {
                Order::Open { slot, output, jobs, sources, life } => self.open(slot, &output, &jobs, sources, life),
                Order::Begin { slot, run } => self.begin(&slot, run),
                Order::Close { slot } => self.close(&slot),
                Order::Reopen => self.files.reopen(self.bench.now),
                // Nobody may be waiting for an answer any more; that is his business.
                Order::Clear { slot, answer } => drop(answer.send(self.clear(&slot))),
                Order::Tail { slot, channel, last, answer } => drop(answer.send(self.tail(&slot, channel, last))),
                Order::Follow { slot, channel, answer } => drop(answer.send(self.follow(&slot, channel))),
                Order::Drain { answer } => {
                    self.drain();
                    self.tell_troubles();
                    let _ = answer.send(());
                }
                Order::Stop => {
                    self.drain();
                    self.tell_troubles();
                    return std::ops::ControlFlow::Break(());
                }
            }
            self.tell_troubles();
        }
        std::ops::ControlFlow::Continue(())
    }

    fn log(&mut self, slot: &SlotId) -> Option<(usize, &mut SlotLog, &mut Bench)> {
        let number = *self.numbers.get(slot)?;
        Some((number, self.logs[number].as_mut()?, &mut self.bench))
    }

    fn open(&mut self, slot: SlotId, output: &OutputSpec, jobs: &JobsSpec, sources: Option<Sources>, life: Option<RunId>) {
        let number = match (self.numbers.get(&slot), &sources) {
            (Some(number), _) => *number,
            (None, None) => return, // new rules for a slot that was closed meanwhile
            (None, Some(_)) => {
                let number = self.logs.iter().position(Option::is_none).unwrap_or(self.logs.len());
                if number == self.logs.len() {
                    self.logs.push(None);
                }
                self.logs[number] = Some(SlotLog::new(slot.clone()));
                self.numbers.insert(slot.clone(), number);
                number
            }
        };
        if let Some(Sources { stdout, stderr }) = sources {
            // Out of the old pipes; the new ones hold nothing that is not the new life's.
            match life {
                Some(run) => self.begin(&slot, run),
                None => drop(self.log(&slot).map(|(_, log, bench)| log.drain(bench))),
            }
            let Some(log) = &mut self.logs[number] else { unreachable!("numbers point to open logs") };
            for (channel, source) in [(Channel::Stdout, Some(stdout)), (Channel::Stderr, stderr)] {
                let token = number as u64 * 2 + channel as u64;
                if let Some(old) = log.stream(channel).and_then(|stream| stream.release(&mut self.bench)) {
                    let _ = self.epoll.delete(old);
                }
                let Some(source) = source else {
                    log.streams[channel as usize] = None;
                    continue;
                };
                if let Err(error) = watch(&self.epoll, &source, token) {
                    let trouble = Some(format!("its output cannot be read: {}", words(&error)));
                    (self.report)(Report::Changed { slot: slot.clone(), trouble, lost: 0 });
                }
                match log.stream(channel) {
                    Some(stream) => stream.read_from(source),
                    None => log.streams[channel as usize] = Some(Stream::new(source, self.ring_lines)),
                }
            }
        }
        let Some(log) = &mut self.logs[number] else { unreachable!("numbers point to open logs") };
        log.follow_rules(output, self.patterns.of(jobs), &mut self.files, self.bench.now);
        // It may have come to share a file that is in trouble already, or have left one.
        self.files.look_again();
        self.tell(number);
    }

    fn begin(&mut self, slot: &SlotId, run: RunId) {
        let Some((number, log, bench)) = self.log(slot) else { return };
        // A first life has no predecessor: whatever was read so far is its own, however late we hear of its beginning.
        if log.run.is_none() {
            log.run = Some(run);
            return self.tell(number);
        }
        // What is in the pipe is taken for the last words of the life before. The new worker may have begun to write, but then
        // its first lines are only counted to its predecessor, and the totals stay right.
        log.drain(bench);
        log.finish(bench.now);
        self.tell(number);
        if let Some((_, log, _)) = self.log(slot) {
            log.run = Some(run);
            if let Some(counter) = &mut log.counter {
                counter.restart();
            }
        }
    }

    fn close(&mut self, slot: &SlotId) {
        let Some((number, log, bench)) = self.log(slot) else { return };
        log.drain(bench);
        log.finish(bench.now);
        self.tell(number);
        self.tell_troubles();
        self.numbers.remove(slot);
        let streams = self.logs[number].take().map(|log| log.streams);
        for mut stream in streams.into_iter().flatten().flatten() {
            // Not left to closing: others may hold the same open FIFO.
            if let Some(source) = stream.release(&mut self.bench) {
                let _ = self.epoll.delete(source);
            }
        }
    }

    fn clear(&mut self, slot: &SlotId) -> Result<(), TailError> {
        let Some((number, log, bench)) = self.log(slot) else { return Err(TailError::NoSuchSlot) };
        log.drain(bench);
        let mut result = Ok(());
        for stream in log.streams.iter_mut().flatten() {
            stream.ring.clear();
            for file in &stream.files {
                let mut file = file.borrow_mut();
                if let Err(error) = file.clear(bench.now) {
                    result = Err(TailError::Unreadable(format!("{}: {}", file.path().display(), words(&error))));
                }
            }
        }
        self.tell(number);
        result
    }

    fn tail(&mut self, slot: &SlotId, channel: Channel, last: Last) -> Result<Found, TailError> {
        let Some((number, log, bench)) = self.log(slot) else { return Err(TailError::NoSuchSlot) };
        log.drain(bench);
        let stream = log.stream(channel).ok_or(TailError::NoSuchChannel)?;
        let file = stream.files.iter().map(|file| file.borrow()).find(|file| file.is_regular()).map(|file| file.path().to_owned());
        let found = match (last, file) {
            (Last::Bytes(count), Some(path)) => Found::File(path, count),
            (Last::Bytes(count), None) => Found::Bytes(stream.ring.last_bytes(count)),
            (Last::Lines(count), _) => Found::Bytes(stream.ring.last_lines(count)),
        };
        self.tell(number);
        Ok(found)
    }

    fn follow(&mut self, slot: &SlotId, channel: Channel) -> Result<mpsc::Receiver<Bytes>, TailError> {
        let Some((number, log, bench)) = self.log(slot) else { return Err(TailError::NoSuchSlot) };
        log.drain(bench);
        let (follower, receiver) = Follower::new();
        log.stream(channel).ok_or(TailError::NoSuchChannel)?.add_follower(follower);
        self.tell(number);
        Ok(receiver)
    }

    fn drain(&mut self) {
        for number in 0..self.logs.len() {
            if let Some(log) = &mut self.logs[number] {
                log.drain(&mut self.bench);
                self.tell(number);
            }
        }
    }
}

/// Hands over what listeners are to be told of.
fn tell_output(log: &mut SlotLog, report: &(dyn Fn(Report) + Send)) {
    for (channel, told) in log.take_told() {
        let (Some(run), slot) = (log.run, log.slot.clone()) else { return };
        report(match told {
            Told::Output(data) => Report::Output { slot, run, channel, data },
            Told::Captured(data) => Report::Captured { slot, run, channel, data },
        });
    }
}

/// Has `source` in the epoll set, and sees to it that reading never waits.
fn watch(epoll: &Epoll, source: &OwnedFd, token: u64) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(source, FcntlArg::F_GETFL)?);
    if !flags.contains(OFlag::O_NONBLOCK) {
        fcntl(source, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    }
    epoll.add(source, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::logs::{Channel, Last, Logs, Report, Sources, TailError};
    use crate::model::name::{ProgramName, RunId, SlotId};
    use crate::model::spec::{JobCount, JobsSpec, LogFile, OutputSpec, Sink, StreamSpec};
    use crate::model::template::Template;
    use crate::model::units::Bytes;
    use nix::sys::stat::Mode;
    use std::fs::{self, File, OpenOptions};
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::{Path, PathBuf};
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;
    use tempfile::{TempDir, tempdir};

    /// A log thread with one slot, as a daemon would have it.
    struct Rig {
        dir: TempDir,
        logs: Logs,
        reports: Receiver<Report>,
        runtime: tokio::runtime::Runtime,
    }

    fn slot() -> SlotId {
        SlotId::new(&ProgramName::new("mailer"), 3)
    }

    fn to_file(path: &Path) -> StreamSpec {
        let path = Template::text(path.to_str().unwrap());
        StreamSpec { sinks: vec![Sink::File(LogFile { path, max_bytes: Bytes(0), backups: 0 })], ..StreamSpec::default() }
    }

    fn counting() -> JobsSpec {
        let text = |text: &str| Some(text.to_owned());
        JobsSpec { count: JobCount::Lines { done: text("^done"), failed: text("^failed"), running: text("^running (.*)") }, timeout: None }
    }

    fn silent() -> JobsSpec {
        JobsSpec { count: JobCount::Notify, timeout: None }
    }

    impl Rig {
        fn new() -> Rig {
            let (send, reports) = channel();
            let logs = Logs::start(100, Box::new(move |report| drop(send.send(report)))).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            Rig { dir: tempdir().unwrap(), logs, reports, runtime }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// A FIFO as the daemon opens it, and as the worker does.
        fn fifo(&self, name: &str) -> (std::os::fd::OwnedFd, File) {
            let path = self.path(name);
            nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
            let ours = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
            (ours.into(), OpenOptions::new().read(true).write(true).open(&path).unwrap())
        }

        fn open(&self, output: OutputSpec, jobs: JobsSpec) -> (File, File) {
            let ((stdout, out), (stderr, err)) = (self.fifo("out.fifo"), self.fifo("err.fifo"));
            self.logs.open(slot(), "mailer:mailer_03".into(), output, jobs, Some(Sources { stdout, stderr: Some(stderr) }));
            (out, err)
        }

        /// A new life; it writes only when the thread knows of it, as a worker does that has to be started first.
        fn begin(&self, run: u64) {
            self.logs.begin(slot(), RunId(run));
            self.drain();
        }

        fn drain(&self) {
            self.runtime.block_on(self.logs.drain());
        }

        fn lines(&self, count: u32) -> String {
            let tail = self.runtime.block_on(self.logs.tail(slot(), Channel::Stdout, Last::Lines(count))).unwrap();
            String::from_utf8(tail).unwrap()
        }

        fn report(&self) -> Report {
            self.reports.recv_timeout(Duration::from_secs(10)).expect("a report was due")
        }

        fn counted(run: u64, done: u64, failed: u64, job: Option<&str>) -> Report {
            Report::Counted { slot: slot(), run: RunId(run), done, failed, job: job.map(str::to_owned) }
        }
    }

    #[test]
    fn bytes_go_from_fifo_to_file_ring_and_follower() {
        let rig = Rig::new();
        let (log, errors) = (rig.path("new/dir/out.log"), rig.path("err.log"));
        let (mut out, mut err) = rig.open(OutputSpec { stdout: to_file(&log), stderr: to_file(&errors), strip_ansi: true }, silent());
        let mut follower = rig.runtime.block_on(rig.logs.follow(slot(), Channel::Stdout)).unwrap();
        out.write_all(b"one\n\x1b[1mt\0wo\x1b[0m\n").unwrap();
        err.write_all(b"oh\n").unwrap();
        rig.drain();
        assert_eq!(fs::read(&log).unwrap(), b"one\nt\0wo\n");
        assert_eq!(fs::read(&errors).unwrap(), b"oh\n");
        assert_eq!(rig.lines(1), "t\0wo\n");
        assert_eq!(rig.runtime.block_on(follower.recv()).unwrap(), "one\nt\0wo\n");
        let tail = |channel, last| rig.runtime.block_on(rig.logs.tail(slot(), channel, last));
        assert_eq!(tail(Channel::Stdout, Last::Bytes(5)).unwrap(), b"t\0wo\n");
        assert_eq!(tail(Channel::Stderr, Last::Lines(5)).unwrap(), b"oh\n");
        rig.runtime.block_on(rig.logs.clear(slot())).unwrap();
        assert_eq!((fs::read(&log).unwrap(), fs::read(&errors).unwrap(), rig.lines(9)), (vec![], vec![], String::new()));
        rig.logs.close(slot());
        assert_eq!(rig.runtime.block_on(follower.recv()), None);
        assert_eq!(rig.runtime.block_on(rig.logs.clear(slot())), Err(TailError::NoSuchSlot));
        rig.logs.stop();
    }

    #[test]
    fn the_last_words_of_a_life_are_counted_for_it_and_the_next_starts_at_zero() {
        let rig = Rig::new();
        let (mut out, _err) = rig.open(OutputSpec::default(), counting());
        rig.begin(1);
        out.write_all(b"running App\\Mail\n").unwrap();
        assert_eq!(rig.report(), Rig::counted(1, 0, 0, Some("App\\Mail")));
        out.write_all(b"done\nfailed\ndone\nrunning x\n").unwrap();
        assert_eq!(rig.report(), Rig::counted(1, 2, 1, Some("x")));
        out.write_all(b"done").unwrap(); // its line end never comes
        rig.logs.begin(slot(), RunId(2));
        assert_eq!(rig.report(), Rig::counted(1, 3, 1, Some("")));
        rig.drain();
        out.write_all(b"done\n").unwrap();
        assert_eq!(rig.report(), Rig::counted(2, 1, 0, Some("")));
        out.write_all(b"failed\n").unwrap();
        rig.logs.close(slot());
        assert_eq!(rig.report(), Rig::counted(2, 1, 1, Some("")));
        rig.logs.stop();
        assert!(rig.reports.try_recv().is_err());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_once_and_counting_goes_on() {
        let rig = Rig::new();
        let log = rig.path("out.log");
        std::os::unix::fs::symlink("/dev/full", &log).unwrap();
        let (mut out, _err) = rig.open(OutputSpec { stdout: to_file(&log), ..OutputSpec::default() }, counting());
        rig.begin(1);
        out.write_all(b"done\nx\n").unwrap();
        let trouble = Some(format!("no space left on device: {}", log.display()));
        let mut first = [rig.report(), rig.report()];
        first.sort_by_key(|report| matches!(report, Report::Changed { .. }));
        assert_eq!(first, [Rig::counted(1, 1, 0, Some("")), Report::Changed { slot: slot(), trouble, lost: 2 }]);
        out.write_all(b"y\n").unwrap();
        rig.drain();
        assert_eq!(rig.lines(2), "x\ny\n");
        fs::remove_file(&log).unwrap();
        rig.logs.reopen(); // no need to wait for the next try
        rig.drain();
        out.write_all(b"z\n").unwrap();
        assert_eq!(rig.report(), Report::Changed { slot: slot(), trouble: None, lost: 3 });
        assert_eq!(fs::read_to_string(&log).unwrap(), "ganger: 3 lines (9 bytes) were lost here: no space left on device\nz\n");
        rig.logs.stop();
    }

    #[test]
    fn a_life_that_begins_with_its_pipes_is_counted_from_its_first_line() {
        let rig = Rig::new();
        for run in 1..=2 {
            let ((stdout, mut out), (stderr, _err)) = (rig.fifo(&format!("out{run}")), rig.fifo(&format!("err{run}")));
            rig.logs.open_for(slot(), OutputSpec::default(), counting(), Sources { stdout, stderr: Some(stderr) }, RunId(run));
            // Nobody has woken the thread yet.
            out.write_all(b"done\ndone\n").unwrap();
            rig.logs.ring();
            assert_eq!(rig.report(), Rig::counted(run, 2, 0, Some("")));
        }
        rig.logs.stop();
    }

    #[test]
    fn new_rules_change_the_file_under_a_running_worker() {
        let rig = Rig::new();
        let (mut out, _err) = rig.open(OutputSpec { stdout: to_file(&rig.path("a")), ..OutputSpec::default() }, counting());
        rig.begin(1);
        out.write_all(b"done\n").unwrap();
        assert_eq!(rig.report(), Rig::counted(1, 1, 0, Some("")));
        let output = OutputSpec { stdout: to_file(&rig.path("b")), ..OutputSpec::default() };
        rig.logs.open(slot(), "mailer:mailer_03".into(), output, counting(), None);
        rig.drain();
        out.write_all(b"done\n").unwrap();
        assert_eq!(rig.report(), Rig::counted(1, 2, 0, Some("")));
        assert_eq!(rig.lines(9), "done\ndone\n");
        assert_eq!([rig.path("a"), rig.path("b")].map(|path| fs::read_to_string(path).unwrap()), ["done\n", "done\n"]);
        rig.logs.stop();
    }

    #[test]
    fn captured_text_is_an_event_and_no_log() {
        let rig = Rig::new();
        let log = rig.path("out.log");
        let stdout = StreamSpec { capture_max: Bytes(100), events: true, ..to_file(&log) };
        let (mut out, _err) = rig.open(OutputSpec { stdout, ..OutputSpec::default() }, silent());
        rig.begin(7);
        out.write_all(b"a<!--XSUPERVISOR:BEGIN-->secret<!--XSUPERVISOR:END-->b\n").unwrap();
        rig.drain();
        let output = |data: &[u8]| Report::Output { slot: slot(), run: RunId(7), channel: Channel::Stdout, data: data.to_vec() };
        assert_eq!(rig.report(), output(b"a"));
        assert_eq!(rig.report(), output(b"secret"), "as Supervisor's PROCESS_LOG");
        let captured = Report::Captured { slot: slot(), run: RunId(7), channel: Channel::Stdout, data: b"secret".to_vec() };
        assert_eq!(rig.report(), captured);
        assert_eq!(rig.report(), output(b"b\n"));
        assert_eq!(fs::read_to_string(&log).unwrap(), "ab\n");
        assert_eq!(rig.lines(9), "ab\n");
        // Half a token at the end of a life was text after all.
        out.write_all(b"<!--XSUP").unwrap();
        rig.begin(8);
        assert_eq!(rig.report(), output(b"<!--XSUP"));
        assert_eq!(fs::read_to_string(&log).unwrap(), "ab\n<!--XSUP");
        rig.logs.stop();
    }

    #[test]
    fn merged_stderr_is_no_channel() {
        let rig = Rig::new();
        let (stdout, _out) = rig.fifo("out.fifo");
        rig.logs.open(slot(), String::new(), OutputSpec::default(), silent(), Some(Sources { stdout, stderr: None }));
        let tail = rig.runtime.block_on(rig.logs.tail(slot(), Channel::Stderr, Last::Lines(1)));
        assert_eq!(tail, Err(TailError::NoSuchChannel));
    }

    /// Two writers, one of them without a line end: every byte arrives, the other's lines among them.
    #[test]
    fn a_flood_without_line_ends_loses_nothing_and_starves_nobody() {
        let rig = Rig::new();
        let (log, errors) = (rig.path("out.log"), rig.path("err.log"));
        let (mut out, mut err) = rig.open(OutputSpec { stdout: to_file(&log), stderr: to_file(&errors), strip_ansi: false }, counting());
        rig.begin(1);
        let flood = std::thread::spawn(move || {
            let chunk = vec![b'x'; 65536];
            (0..1024).for_each(|_| out.write_all(&chunk).unwrap());
            out
        });
        for _ in 0..100 {
            err.write_all(b"done\n").unwrap();
        }
        let counted = std::iter::from_fn(|| Some(rig.report())).find(|report| matches!(report, Report::Counted { done: 100, .. }));
        assert!(counted.is_some());
        let _out = flood.join().unwrap();
        rig.drain();
        assert_eq!(fs::metadata(&log).unwrap().len(), 64 * 1024 * 1024);
        assert_eq!(fs::read(&errors).unwrap(), b"done\n".repeat(100));
        rig.logs.stop();
    }

    #[test]
    fn the_thread_ends_with_its_last_handle_and_drains_first() {
        let rig = Rig::new();
        let log = rig.path("out.log");
        let (mut out, _err) = rig.open(OutputSpec { stdout: to_file(&log), ..OutputSpec::default() }, silent());
        rig.drain();
        out.write_all(b"last words\n").unwrap();
        let Rig { dir: _dir, logs, reports, runtime: _runtime } = rig;
        drop(logs);
        // The report's sender lives in the thread: its end is the thread's.
        assert!(matches!(reports.recv_timeout(Duration::from_secs(10)), Err(std::sync::mpsc::RecvTimeoutError::Disconnected)));
        assert_eq!(fs::read_to_string(&log).unwrap(), "last words\n");
    }
}
