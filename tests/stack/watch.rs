//! A thread that watches the workers from outside, in /proc: who lives in which slot, and how much memory he has.
//!
//! It knows a worker by what is in his environment, and asks gangerd nothing: the promise that a slot never has two workers
//! is not to be proved by the one who gave it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker may take to come up, before its growth is taken for a leak.
const BOOT: Duration = Duration::from_secs(1);

/// One life of one worker.
#[derive(Clone, Debug)]
pub struct Life {
    pub pid: i32,
    /// In clock ticks since boot: with the pid, who it is.
    pub started: u64,
    pub slot: String,
    pub run: String,
    pub alive: bool,
    /// Largest resident memory, in bytes.
    pub peak: u64,
    /// Since when we know it.
    since: Instant,
    recent: VecDeque<(Instant, u64)>,
}

#[derive(Debug, Default)]
pub struct Seen {
    pub lives: Vec<Life>,
    /// Two workers of one slot alive at one moment, in words.
    pub overlaps: Vec<String>,
    /// The most that any worker's memory grew within the window.
    pub growth: u64,
    /// The most workers that were alive at once.
    pub most: usize,
    pub rounds: u64,
    /// The longest time between two looks.
    pub longest_gap: Duration,
}

impl Seen {
    /// Who is alive, by slot.
    pub fn alive(&self) -> BTreeMap<String, Life> {
        self.lives.iter().filter(|life| life.alive).map(|life| (life.slot.clone(), life.clone())).collect()
    }

    pub fn runs_alive(&self) -> BTreeSet<String> {
        self.lives.iter().filter(|life| life.alive).map(|life| life.run.clone()).collect()
    }
}

pub struct Watcher {
    seen: Arc<Mutex<Seen>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Watches all processes with `STACK_MARK=mark` in their environment. `window`: over which growth is measured.
    pub fn start(mark: &str, window: Duration) -> Watcher {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let end = Arc::new(AtomicBool::new(false));
        let mark = format!("STACK_MARK={mark}");
        let thread = std::thread::spawn({
            let (seen, end) = (seen.clone(), end.clone());
            move || {
                let mut strangers = HashMap::new();
                let mut last = Instant::now();
                while !end.load(Ordering::Relaxed) {
                    look(&mark, window, &seen, &mut strangers);
                    let now = Instant::now();
                    let mut seen = lock(&seen);
                    seen.rounds += 1;
                    seen.longest_gap = seen.longest_gap.max(now - last);
                    last = now;
                    drop(seen);
                    std::thread::sleep(Duration::from_millis(3));
                }
            }
        });
        Watcher { seen, end, thread: Some(thread) }
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the watcher is a failure of the test, unless it fails already.
            if thread.join().is_err() && !std::thread::panicking() {
                panic!("the watcher failed");
            }
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // A test that fails while it looks leaves the picture whole; its own message is the one to read.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One round. `strangers`: pids that are not ours, and since when we think so.
fn look(mark: &str, window: Duration, seen: &Mutex<Seen>, strangers: &mut HashMap<i32, Instant>) {
    let now = Instant::now();
    let pids: BTreeSet<i32> =
        fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    strangers.retain(|pid, _| pids.contains(pid));
    let mut seen = lock(seen);
    // The ones we know: are they still the same, and how big are they?
    let mut known = BTreeSet::new();
    let mut growth = seen.growth;
    for life in seen.lives.iter_mut().filter(|life| life.alive) {
        match Stat::read(life.pid) {
            Some(stat) if stat.started == life.started && stat.lives() => {
                known.insert(life.pid);
                life.peak = life.peak.max(stat.resident);
                // An interpreter that comes up grows by its own size; that is no leak.
                if now - life.since < BOOT {
                    continue;
                }
                life.recent.push_back((now, stat.resident));
                while life.recent.front().is_some_and(|(at, _)| now - *at > window) {
                    life.recent.pop_front();
                }
                let least = life.recent.iter().map(|(_, size)| *size).min().unwrap_or(stat.resident);
                growth = growth.max(stat.resident - least.min(stat.resident));
            }
            Some(_) | None => {
                life.alive = false;
                life.recent = VecDeque::new();
            }
        }
    }
    seen.growth = growth;
    // New ones. Between clone and exec a child still shows its parent's environment, so a young stranger is asked again.
    for pid in pids {
        if known.contains(&pid) || strangers.get(&pid).is_some_and(|since| now - *since > Duration::from_secs(3)) {
            continue;
        }
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let value = |key: &str| {
            let mut pairs = environment.split(|byte| *byte == 0).filter_map(|pair| std::str::from_utf8(pair).ok());
            pairs.find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=').map(String::from))
        };
        let ours = environment.split(|byte| *byte == 0).any(|pair| pair == mark.as_bytes());
        let (Some(slot), Some(run), true) = (value("GANGER_WORKER"), value("GANGER_RUN"), ours) else {
            strangers.entry(pid).or_insert(now);
            continue;
        };
        let Some(stat) = Stat::read(pid).filter(Stat::lives) else { continue };
        strangers.remove(&pid);
        let life = Life { pid, started: stat.started, slot, run, alive: true, peak: stat.resident, since: now, recent: VecDeque::new() };
        // We have just seen the new one alive. Is another of the slot alive *after* that? Then both were, at one moment.
        let twins: Vec<String> = (seen.lives.iter())
            .filter(|other| other.alive && other.slot == life.slot && other.pid != pid)
            .filter(|other| Stat::read(other.pid).is_some_and(|stat| stat.started == other.started && stat.lives()))
            .map(|other| format!("{}: pid {} (run {}) and pid {pid} (run {})", life.slot, other.pid, other.run, life.run))
            .collect();
        seen.overlaps.extend(twins);
        seen.lives.push(life);
    }
    seen.most = seen.most.max(seen.lives.iter().filter(|life| life.alive).count());
}

struct Stat {
    state: u8,
    started: u64,
    resident: u64,
}

impl Stat {
    /// `None`: no such process.
    fn read(pid: i32) -> Option<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in brackets and may hold anything, brackets too; what follows the last one is plain (proc(5)).
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let page = 4096;
        Some(Stat { state: fields[0].as_bytes()[0], started: fields[19].parse().ok()?, resident: fields[21].parse::<u64>().ok()? * page })
    }

    /// A zombie holds nothing and runs nothing: that slot is free.
    fn lives(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }
}
