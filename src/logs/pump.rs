//! One slot's streams: from the FIFO to its files, ring, followers and job counter.
//!
//! A turn is one read and what follows from it, so that a noisy stream has its share of a round and no more; the
//! rounds are the thread's. A chunk is written before anything else is done with it. Nothing here looks for
//! line ends unless jobs are counted by lines, or a file must be rotated.

use crate::logs::Channel;
use crate::logs::ansi::Stripper;
use crate::logs::capture::{Capture, Piece};
use crate::logs::count::{Counter, Patterns};
use crate::logs::lines::Lines;
use crate::logs::ring::Ring;
use crate::logs::sink::{LogFiles, Rules, SharedFile};
use crate::logs::tail::Follower;
use crate::model::name::{RunId, SlotId};
use crate::model::spec::{OutputSpec, Sink, StreamSpec};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::read;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What a busy pipe may hold.
const BUSY_PIPE: usize = 1024 * 1024;

/// A piece of output that is told: what Supervisor reads at once.
const PIECE: usize = 128 * 1024;
/// Pieces that wait for a first life to be heard of. It takes one order.
const UNCLAIMED: usize = 64;

/// What every turn works with: the thread's buffers, its time, and what it may still spend on pipes.
#[derive(Debug)]
pub struct Bench {
    pub buffer: Vec<u8>,
    pub stripped: Vec<u8>,
    /// What is left for the log when captured text is taken out.
    pub logged: Vec<u8>,
    pub now: u64,
    /// How many more pipes may be made large.
    pub large_pipes: u32,
}

/// What a turn found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// So many bytes; `behind`: the pipe was half full or more, its writer may soon be waiting for us.
    Took {
        bytes: usize,
        behind: bool,
    },
    Empty,
    /// It cannot be read any more.
    Ended,
}

/// What listeners are to be told of.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Output(Vec<u8>),
    Captured(Vec<u8>),
}

/// One stream of a slot.
#[derive(Debug)]
pub struct Stream {
    source: Option<OwnedFd>,
    /// What the pipe holds.
    capacity: usize,
    /// It was not asked yet to become a large one.
    may_grow: bool,
    /// It became one, on the thread's budget.
    large: bool,
    pub files: Vec<SharedFile>,
    pub ring: Ring,
    followers: Vec<Follower>,
    lines: Lines,
    stripper: Option<Stripper>,
    capture: Option<Capture>,
    /// Output is told.
    events: bool,
    told: Vec<Told>,
}

/// One slot.
#[derive(Debug)]
pub struct SlotLog {
    pub slot: SlotId,
    /// The life whose jobs are counted; `None` before the first.
    pub run: Option<RunId>,
    pub streams: [Option<Stream>; 2],
    pub counter: Option<Counter>,
    /// Lines that its files have lost since the trouble began.
    pub lost: u64,
    /// The trouble that was reported last.
    pub told: Option<String>,
}

impl Stream {
    pub fn new(source: OwnedFd, ring_lines: u32) -> Stream {
        let mut stream = Stream {
            source: None,
            capacity: 0,
            may_grow: false,
            large: false,
            files: Vec::new(),
            ring: Ring::new(ring_lines),
            followers: Vec::new(),
            lines: Lines::default(),
            stripper: None,
            capture: None,
            events: false,
            told: Vec::new(),
        };
        stream.read_from(source);
        stream
    }

    /// Gives up its source. The caller takes it out of its epoll set.
    pub fn release(&mut self, bench: &mut Bench) -> Option<OwnedFd> {
        bench.large_pipes += u32::from(std::mem::take(&mut self.large));
        self.source.take()
    }

    /// Reads from `source` from now on.
    pub fn read_from(&mut self, source: OwnedFd) {
        self.capacity = fcntl(&source, FcntlArg::F_GETPIPE_SZ).map_or(64 * 1024, |size| size as usize);
        self.may_grow = self.capacity < BUSY_PIPE;
        self.source = Some(source);
    }

    /// Takes over new rules. Files that stay in use stay open.
    pub fn follow_rules(&mut self, slot: &SlotId, spec: &StreamSpec, strip: bool, files: &mut LogFiles, now: u64) {
        let open = |Sink::File(file): &Sink| {
            let rules = Rules { max_bytes: file.max_bytes.0, backups: file.backups };
            files.open(file.path.render(slot.number).into(), rules, now)
        };
        self.files = spec.sinks.iter().map(open).collect();
        self.stripper = strip.then(|| self.stripper.take().unwrap_or_default());
        self.events = spec.events;
        self.capture = match (spec.capture_max.0, self.capture.take()) {
            (0, _) => None,
            (max, None) => Some(Capture::new(max)),
            (max, Some(mut capture)) => {
                capture.set_max(max);
                Some(capture)
            }
        };
    }

    pub fn add_follower(&mut self, follower: Follower) {
        self.followers.retain(|old| !old.has_gone());
        self.followers.push(follower);
    }

    /// One read, and what follows from it. Gives also how many lines its files lost.
    fn turn(&mut self, bench: &mut Bench, counter: Option<&mut Counter>) -> (Turn, u64) {
        let Some(source) = &self.source else { return (Turn::Ended, 0) };
        let bytes = loop {
            match read(source, &mut bench.buffer) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return (Turn::Empty, 0),
                Ok(0) | Err(_) => return (Turn::Ended, 0),
                Ok(bytes) => break bytes,
            }
        };
        let behind = bytes >= bench.buffer.len().min(self.capacity / 2);
        if behind && self.may_grow && bench.large_pipes > 0 {
            self.may_grow = false;
            // Refused (EPERM: the user's share of pipe memory is spent) means that it stays as it is.
            if let Ok(size) = fcntl(source, FcntlArg::F_SETPIPE_SZ(BUSY_PIPE as i32)) {
                self.capacity = size as usize;
                bench.large_pipes -= 1;
                self.large = true;
            }
        }
        let chunk = &bench.buffer[..bytes];
        let chunk = match &mut self.stripper {
            Some(stripper) => stripper.strip(chunk, &mut bench.stripped),
            None => chunk,
        };
        let chunk = Self::sort_out(chunk, &mut self.capture, self.events, &mut self.told, &mut bench.logged);
        let lost = Self::pass_on(chunk, &self.files, &mut self.ring, &mut self.followers, bench.now);
        if let Some(counter) = counter {
            self.lines.feed(chunk, |line| counter.line(line));
        }
        (Turn::Took { bytes, behind }, lost)
    }

    /// What of `chunk` is log; the rest is put into `told`.
    fn sort_out<'a>(
        chunk: &'a [u8],
        capture: &mut Option<Capture>,
        events: bool,
        told: &mut Vec<Told>,
        logged: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        let Some(capture) = capture else {
            if events {
                tell(chunk, told);
            }
            return chunk;
        };
        logged.clear();
        capture.feed(chunk, |piece| match piece {
            Piece::Log(text) | Piece::Inside(text) => {
                if matches!(piece, Piece::Log(_)) {
                    logged.extend_from_slice(text);
                }
                if events {
                    tell(text, told);
                }
            }
            Piece::Captured(data) => told.push(Told::Captured(data)),
        });
        logged
    }

    fn pass_on(chunk: &[u8], files: &[SharedFile], ring: &mut Ring, followers: &mut Vec<Follower>, now: u64) -> u64 {
        let lost = files.iter().map(|file| file.borrow_mut().put(chunk, now)).max().unwrap_or(0);
        ring.push(chunk);
        if !followers.is_empty() {
            followers.retain_mut(|follower| follower.send(chunk));
        }
        lost
    }

    /// The life is over: what it began and did not end is a line, and what the stripper held back is text.
    fn finish(&mut self, counter: Option<&mut Counter>, now: u64) -> u64 {
        let owed = self.stripper.as_mut().map_or(&b""[..], |stripper| stripper.flush());
        let mut logged = Vec::new();
        let mut text = Self::sort_out(owed, &mut self.capture, self.events, &mut self.told, &mut logged).to_vec();
        if let Some(capture) = &mut self.capture {
            capture.finish(|piece| match piece {
                Piece::Log(owed) => {
                    text.extend_from_slice(owed);
                    if self.events {
                        tell(owed, &mut self.told);
                    }
                }
                Piece::Inside(_) | Piece::Captured(_) => {}
            });
        }
        let lost = match &text[..] {
            [] => 0,
            text => Self::pass_on(text, &self.files, &mut self.ring, &mut self.followers, now),
        };
        self.lines.finish(|line| {
            if let Some(counter) = counter {
                counter.line(line);
            }
        });
        lost
    }
}

/// Puts `text` into `told`, in pieces.
fn tell(text: &[u8], told: &mut Vec<Told>) {
    told.extend(text.chunks(PIECE).map(|piece| Told::Output(piece.to_vec())));
}

impl SlotLog {
    pub fn new(slot: SlotId) -> SlotLog {
        SlotLog { slot, run: None, streams: [None, None], counter: None, lost: 0, told: None }
    }

    pub fn stream(&mut self, channel: Channel) -> Option<&mut Stream> {
        self.streams[channel as usize].as_mut()
    }

    /// Takes over new rules, under the running worker. Counts so far stay.
    pub fn follow_rules(&mut self, output: &OutputSpec, patterns: Option<Arc<Patterns>>, files: &mut LogFiles, now: u64) {
        for (stream, spec) in self.streams.iter_mut().zip([&output.stdout, &output.stderr]) {
            if let Some(stream) = stream {
                stream.follow_rules(&self.slot, spec, output.strip_ansi, files, now);
            }
        }
        self.counter = match (patterns, self.counter.take()) {
            (None, _) => None,
            (Some(patterns), None) => Some(Counter::new(patterns)),
            (Some(patterns), Some(mut counter)) => {
                counter.follow_rules(patterns);
                Some(counter)
            }
        };
    }

    /// One turn of one stream.
    pub fn turn(&mut self, channel: Channel, bench: &mut Bench) -> Turn {
        let Some(stream) = &mut self.streams[channel as usize] else { return Turn::Ended };
        let (turn, lost) = stream.turn(bench, self.counter.as_mut());
        self.lost += lost;
        turn
    }

    /// What is to be told of, once: nothing before the first life is heard of.
    pub fn take_told(&mut self) -> Vec<(Channel, Told)> {
        let known = self.run.is_some();
        let mut all = Vec::new();
        for (stream, channel) in self.streams.iter_mut().zip([Channel::Stdout, Channel::Stderr]) {
            let Some(stream) = stream else { continue };
            if known {
                all.extend(stream.told.drain(..).map(|told| (channel, told)));
            } else {
                stream.told.truncate(UNCLAIMED);
            }
        }
        all
    }

    /// Everything that was in the pipes at the call. A writer that goes on writing cannot hold us: a pipe holds no more than
    /// its size.
    pub fn drain(&mut self, bench: &mut Bench) {
        for channel in [Channel::Stdout, Channel::Stderr] {
            let mut taken = 0;
            while let Turn::Took { bytes, .. } = self.turn(channel, bench) {
                taken += bytes;
                if self.streams[channel as usize].as_ref().is_none_or(|stream| taken >= stream.capacity) {
                    break;
                }
            }
        }
    }

    /// The life is over, and its last words are read.
    pub fn finish(&mut self, now: u64) {
        for stream in self.streams.iter_mut().flatten() {
            self.lost += stream.finish(self.counter.as_mut(), now);
        }
    }

    /// The first trouble of its files, in words.
    pub fn trouble(&self) -> Option<String> {
        let files = self.streams.iter().flatten().flat_map(|stream| &stream.files);
        files.filter_map(|file| file.borrow().trouble().map(str::to_owned)).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, write};

    fn bench() -> Bench {
        Bench { buffer: vec![0; 256 * 1024], stripped: Vec::new(), logged: Vec::new(), now: 0, large_pipes: 1 }
    }

    fn slot_log() -> (SlotLog, OwnedFd) {
        let (reader, writer) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap();
        let mut log = SlotLog::new(SlotId::new(&crate::model::name::ProgramName::new("p"), 0));
        log.streams[0] = Some(Stream::new(reader, 100));
        (log, writer)
    }

    #[test]
    fn a_busy_pipe_is_made_large() {
        let (mut log, writer) = slot_log();
        let mut bench = bench();
        let size = || fcntl(&writer, FcntlArg::F_GETPIPE_SZ).unwrap();
        write(&writer, b"calm\n").unwrap();
        assert_eq!(log.turn(Channel::Stdout, &mut bench), Turn::Took { bytes: 5, behind: false });
        assert!(size() <= 64 * 1024);
        let written = write(&writer, &[b'x'; 64 * 1024]).unwrap();
        assert_eq!(log.turn(Channel::Stdout, &mut bench), Turn::Took { bytes: written, behind: true });
        // An ordinary user whose share is spent gets none; then it stays.
        assert!(size() == BUSY_PIPE as i32 || !nix::unistd::geteuid().is_root());
    }

    #[test]
    fn a_life_ends_with_its_unfinished_line_and_escape() {
        let (mut log, writer) = slot_log();
        let jobs = crate::model::spec::JobsSpec {
            count: crate::model::spec::JobCount::Lines { done: Some("done".into()), failed: None, running: None },
            timeout: None,
        };
        let output = OutputSpec { strip_ansi: true, ..OutputSpec::default() };
        log.follow_rules(&output, crate::logs::count::PatternBook::default().of(&jobs), &mut LogFiles::default(), 0);
        write(&writer, b"done\n\x1b[1mdone\x1b").unwrap();
        log.drain(&mut bench());
        assert_eq!(log.counter.as_ref().unwrap().done, 1);
        log.finish(0);
        assert_eq!(log.counter.as_ref().unwrap().done, 2);
        assert_eq!(log.stream(Channel::Stdout).unwrap().ring.last_lines(5), b"done\ndone\x1b");
    }

    #[test]
    fn draining_ends_though_the_writer_does_not() {
        let (mut log, writer) = slot_log();
        let flood = std::thread::spawn(move || while matches!(write(&writer, &[b'x'; 4096]), Ok(_) | Err(Errno::EAGAIN)) {});
        log.drain(&mut bench());
        drop(log); // the flood ends by EPIPE
        flood.join().unwrap();
    }
}
