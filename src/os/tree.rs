//! What is left of a life whose worker has ended: its process group, and children that went away with setsid.
//!
//! Every worker carries a mark in its environment, `GANGER_RUN=<fleet>-<run>`, and hands it down. Since we are a subreaper,
//! whatever a worker leaves behind becomes *our* child the moment it dies. So nothing needs to be searched in all of `/proc`:
//! one question to the kernel for the group (`kill(-pgid, 0)`), and one read of a list of our own children, in which only those
//! that are no workers are looked at.
//!
//! Which list: the kernel gives orphans to the first thread of a process, and keeps children by the thread that made them. So if
//! workers are spawned from any *other* thread (one that never ends), the first thread's list holds orphans and nothing else, and
//! reading it costs some microseconds however many workers there are. If the first thread spawns, all is still right, but each
//! batch of exits reads a line of all workers: 190 µs for a thousand.
//!
//! A leftover is known by its mark, by its process group or by its session (a process that
//! rewrites its title, as PHP can, may lose its environment), and everything below a leftover is one too.
//!
//! Zombies do not count: they are on their way to `reap`. It does not decide what is to become of leftovers.

use crate::model::name::RunId;
use crate::model::signal::Signal;
use crate::os::{fds, kill};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;

/// The variable that carries the mark.
pub const VARIABLE: &str = "GANGER_RUN";

/// The mark of one life: what `GANGER_RUN` is set to. `fleet` is an id that no other daemon on this host has.
pub fn mark(fleet: &str, run: RunId) -> String {
    format!("{fleet}-{}", run.0)
}

/// Lives being cleared, and who is no leftover.
#[derive(Debug)]
pub struct Tree {
    fleet: String,
    /// Live workers: children of ours that need no second look.
    workers: HashSet<i32>,
    /// Lives of which something is left; by the pid of their worker, which was their group.
    lives: BTreeMap<RunId, i32>,
    /// Marks that were read from children of ours. A child's pid is its own until we reap it.
    marks: HashMap<i32, RunId>,
    /// Children without an environment, by pid and start.
    blank: HashMap<i32, u64>,
    /// The list of our own children: kept open, since it is read after every exit.
    children: Option<File>,
}

impl Tree {
    pub fn new(fleet: &str) -> Tree {
        Tree {
            fleet: fleet.to_owned(),
            workers: HashSet::new(),
            lives: BTreeMap::new(),
            marks: HashMap::new(),
            blank: HashMap::new(),
            children: None,
        }
    }

    /// A worker was started (or adopted). If this is left out, everything is still right, but slower.
    pub fn began(&mut self, pid: i32) {
        self.workers.insert(pid);
    }

    /// Any child of ours was reaped: its pid may soon be somebody else's.
    pub fn gone(&mut self, pid: i32) {
        self.marks.remove(&pid);
        self.blank.remove(&pid);
    }

    /// These workers were reaped; called once for a whole batch. Tells for each how many processes of its life are still there,
    /// in the same order. Lives with leftovers are remembered until `still_there` says 0, or `forget`.
    pub fn after_reap(&mut self, ended: &[(RunId, i32)]) -> Vec<(RunId, u32)> {
        if ended.is_empty() {
            return Vec::new();
        }
        for (run, pid) in ended {
            self.workers.remove(pid);
            self.lives.insert(*run, *pid);
        }
        let found = self.scan(ended);
        ended
            .iter()
            .map(|(run, _)| {
                let left = found.get(run).map_or(0, Vec::len);
                if left == 0 {
                    self.lives.remove(run);
                }
                (*run, left as u32)
            })
            .collect()
    }

    /// How many processes of that life are there now. 0 also for lives that were never remembered; then it is forgotten.
    pub fn still_there(&mut self, run: RunId) -> u32 {
        let left = self.members(run).len();
        if left == 0 {
            self.lives.remove(&run);
        }
        left as u32
    }

    /// Sends a signal to everything that is left of that life; tells how many got it. KILL looks again until nothing new turns
    /// up, since a process can fork faster than one look.
    pub fn signal(&mut self, run: RunId, signal: Signal) -> u32 {
        let mut done = HashSet::new();
        let passes = if signal == Signal::KILL { KILL_PASSES } else { 1 };
        for _ in 0..passes {
            let new: Vec<Process> = self.members(run).into_iter().filter(|member| !done.contains(&(member.pid, member.started))).collect();
            if new.is_empty() {
                break;
            }
            for member in new {
                done.insert((member.pid, member.started));
                // Only our own children keep their pids until we reap; for those below: hold it first, then look if it is still
                // the one that was meant.
                let Ok(pidfd) = fds::open_pidfd(member.pid) else { continue };
                if Process::read(member.pid).is_some_and(|now| now.started == member.started) {
                    let _ = kill::signal_process(member.pid, Some(pidfd.as_fd()), signal);
                }
            }
        }
        done.len() as u32
    }

    /// Lets that life be.
    pub fn forget(&mut self, run: RunId) {
        self.lives.remove(&run);
    }

    /// The lives of which something is left.
    pub fn lives(&self) -> impl Iterator<Item = RunId> + '_ {
        self.lives.keys().copied()
    }

    /// Every process on this host that carries a mark of this fleet, with the life it belongs to: for the end of a shutdown, and
    /// for a start after our own death. Walks all of `/proc` (some ten milliseconds for a thousand processes), to the end: whoever
    /// was missed here would be doubled.
    pub fn all_with_fleet_mark(&self) -> Vec<(i32, RunId)> {
        all_pids().filter_map(|pid| Some((pid, self.mark_of(pid)?))).collect()
    }

    fn members(&mut self, run: RunId) -> Vec<Process> {
        let Some(pgid) = self.lives.get(&run).copied() else { return Vec::new() };
        self.scan(&[(run, pgid)]).remove(&run).unwrap_or_default()
    }

    /// Who is left of these lives.
    fn scan(&mut self, wanted: &[(RunId, i32)]) -> HashMap<RunId, Vec<Process>> {
        let mut before = HashSet::new();
        for _ in 0..MAX_LOOKS {
            let (found, zombies) = self.look(wanted);
            // One that died while we looked has given its children to us after we had read who our children are. By the
            // time it is seen dead they are ours, so the next look finds them.
            if zombies.is_subset(&before) {
                return found;
            }
            before.extend(zombies);
        }
        self.look(wanted).0
    }

    /// One look: who is left, and which of our children were dead or vanished meanwhile.
    fn look(&mut self, wanted: &[(RunId, i32)]) -> (HashMap<RunId, Vec<Process>>, HashSet<i32>) {
        let mut found: HashMap<RunId, Vec<Process>> = HashMap::new();
        let mut zombies = HashSet::new();
        let mut dead = HashSet::new();
        let children = self.own_children();
        for pid in children {
            if self.workers.contains(&pid) {
                continue;
            }
            let known = self.marks.get(&pid).copied();
            // A stray of a life that nobody asks for: the usual daemonised helper of a worker that lives on.
            if known.is_some_and(|run| !wanted.iter().any(|(asked, _)| *asked == run)) {
                continue;
            }
            let Some(process) = Process::read(pid) else {
                dead.insert(pid);
                continue;
            };
            if process.zombie {
                dead.insert(pid);
                zombies.insert(process.group);
                self.marks.remove(&pid);
                continue;
            }
            let marked = known.or_else(|| self.mark_of_young(&process));
            if let Some(run) = marked {
                self.marks.insert(pid, run);
            }
            let of = match marked {
                Some(run) => wanted.iter().find(|(asked, _)| *asked == run),
                None => wanted.iter().find(|(_, pgid)| process.group == *pgid || process.session == *pgid),
            };
            if let Some((run, _)) = of {
                let members = found.entry(*run).or_default();
                below(&process, members);
            }
        }
        for (run, pgid) in wanted {
            if !kill::group_exists(*pgid) || zombies.contains(pgid) || found.get(run).is_some_and(|m| m.iter().any(|p| p.group == *pgid)) {
                continue;
            }
            // Somebody is in the group who is neither our child nor below one: only if we are no subreaper, or if another
            // subreaper stands between. Rare enough to look at everything.
            let others = all_pids().filter_map(Process::read).filter(|process| process.group == *pgid && !process.zombie);
            found.entry(*run).or_default().extend(others);
        }
        (found, dead)
    }

    /// The life whose mark a child carries. In the midst of an exec a process shows no environment at all, and one that was
    /// about to run away into a session of its own would be missed; so an empty one is looked at again for a moment.
    fn mark_of_young(&mut self, process: &Process) -> Option<RunId> {
        if self.blank.get(&process.pid) == Some(&process.started) {
            return None;
        }
        for _ in 0..MAX_GLANCES {
            match environment(process.pid) {
                Ok(environment) if environment.is_empty() => std::thread::yield_now(),
                Ok(environment) => return marked(&environment, &self.fleet),
                Err(_) => return None,
            }
        }
        // Somebody who really has none; he need not be asked each time.
        self.blank.insert(process.pid, process.started);
        None
    }

    /// The children of our first thread.
    fn own_children(&mut self) -> Vec<i32> {
        let mut children = Vec::new();
        if self.children.is_none() {
            self.children = File::open(format!("/proc/self/task/{}/children", std::process::id())).ok();
        }
        let Some(file) = &mut self.children else { return children };
        let mut text = Vec::new();
        let read = file.rewind().and_then(|()| file.read_to_end(&mut text));
        match read {
            Ok(_) => pids(&text, &mut children),
            Err(_) => self.children = None,
        }
        children
    }

    /// The life of this fleet whose mark a process carries.
    fn mark_of(&self, pid: i32) -> Option<RunId> {
        // A zombie's is empty, another user's is closed to us (if we are not root): neither has a mark.
        marked(&environment(pid).ok()?, &self.fleet)
    }
}

fn environment(pid: i32) -> std::io::Result<Vec<u8>> {
    let mut environment = Vec::new();
    File::open(format!("/proc/{pid}/environ"))?.take(MAX_ENVIRON).read_to_end(&mut environment)?;
    Ok(environment)
}

/// The run in an environment block.
fn marked(environment: &[u8], fleet: &str) -> Option<RunId> {
    let key = format!("{VARIABLE}={fleet}-");
    memchr::memmem::find_iter(environment, key.as_bytes()).find_map(|at| {
        if at > 0 && environment[at - 1] != 0 {
            return None;
        }
        let rest = &environment[at + key.len()..];
        let end = memchr::memchr(0, rest).unwrap_or(rest.len());
        std::str::from_utf8(&rest[..end]).ok()?.parse().ok().map(RunId)
    })
}

/// One process as its stat line tells.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    zombie: bool,
    parent: i32,
    group: i32,
    session: i32,
    /// In ticks since boot: with the pid a name that is never used twice.
    started: u64,
}

impl Process {
    fn read(pid: i32) -> Option<Process> {
        Process::parse(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name in brackets may hold anything, brackets too: fields are counted from the last one.
    fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
        let after = &stat[memchr::memrchr(b')', stat)? + 1..];
        let fields: Vec<&str> = std::str::from_utf8(after).ok()?.split_ascii_whitespace().collect();
        Some(Process {
            pid,
            zombie: matches!(*fields.first()?, "Z" | "X" | "x"),
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

/// A process and everything below it.
fn below(top: &Process, into: &mut Vec<Process>) {
    let mut next = into.len();
    into.push(top.clone());
    while next < into.len() && into.len() < MAX_MEMBERS {
        for child in children_of_all_threads(into[next].pid) {
            if let Some(process) = Process::read(child).filter(|process| !process.zombie)
                && !into.iter().any(|known| known.pid == child)
            {
                into.push(process);
            }
        }
        next += 1;
    }
}

/// The children of a process, whichever of its threads made them.
pub(super) fn children_of_all_threads(pid: i32) -> Vec<i32> {
    let mut children = Vec::new();
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return children };
    let mut text = Vec::new();
    for thread in threads.flatten() {
        text.clear();
        if let Ok(mut file) = File::open(thread.path().join("children")) {
            let _ = file.read_to_end(&mut text);
            pids(&text, &mut children);
        }
    }
    children
}

/// Reads `12 34 56 `.
pub(super) fn pids(text: &[u8], into: &mut Vec<i32>) {
    let mut number = 0i32;
    for byte in text {
        match byte {
            b'0'..=b'9' => number = number.wrapping_mul(10).wrapping_add(i32::from(byte - b'0')),
            _ if number > 0 => {
                into.push(number);
                number = 0;
            }
            _ => {}
        }
    }
    if number > 0 {
        into.push(number);
    }
}

/// Of processes with their lives, those that no other of the same life has started: the workers, not their helpers.
pub fn tops(found: &[(i32, RunId)]) -> Vec<i32> {
    let lives: HashMap<i32, RunId> = found.iter().copied().collect();
    let is_top = |&(pid, run): &(i32, RunId)| Process::read(pid).is_none_or(|process| lives.get(&process.parent) != Some(&run));
    found.iter().copied().filter(is_top).map(|(pid, _)| pid).collect()
}

fn all_pids() -> impl Iterator<Item = i32> {
    let us = std::process::id() as i32;
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(move |pid| *pid != us && *pid > 1)
}

const MAX_ENVIRON: u64 = 2 << 20;

/// How often the list of our children is read again because one of them died meanwhile.
const MAX_LOOKS: usize = 8;
/// How often an empty environment is looked at again; an exec takes some ten microseconds.
const MAX_GLANCES: usize = 200;
/// A fork bomb is found, not counted to its end.
const MAX_MEMBERS: usize = 10_000;

const KILL_PASSES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_only_where_it_is_a_variable_of_this_fleet() {
        let run = |text: &str| marked(text.replace('|', "\0").as_bytes(), "f1");
        assert_eq!(run("A=1|GANGER_RUN=f1-17|B=2"), Some(RunId(17)));
        assert_eq!(run("GANGER_RUN=f1-17"), Some(RunId(17)));
        assert_eq!(run("A=GANGER_RUN=f1-17|B=2"), None);
        assert_eq!(run("XGANGER_RUN=f1-17"), None);
        assert_eq!(run("GANGER_RUN=f2-17"), None);
        assert_eq!(run("GANGER_RUN=f1-17x"), None);
        assert_eq!(run(""), None);
    }

    #[test]
    fn a_stat_line_is_read_past_any_name() {
        let line = b"42 (a) Z (b) S 1 40 39 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let process = Process::parse(42, line).unwrap();
        assert_eq!(process, Process { pid: 42, zombie: false, parent: 1, group: 40, session: 39, started: 12345 });
        assert_eq!(Process::parse(1, b"rubbish"), None);
    }

    #[test]
    fn children_lists_are_read() {
        let mut found = Vec::new();
        pids(b"12 345 6", &mut found);
        assert_eq!(found, [12, 345, 6]);
    }
}
