//! Memory and processor time of workers, with their children.
//!
//! Cheap enough to be asked every second for a thousand workers: `statm` is kept open for each (a read is a microsecond, opening
//! it anew costs five), and processor time comes from the process's own clock (`clock_getcpuclockid`), which is no file at all.
//! Of a worker with children, each child counts without its shared pages (program, libraries, shared memory), or they would
//! be counted twice. Heap that a fork still shares by copy-on-write is "anonymous" to the kernel and counts for both.
//!
//! Not exact, and not meant to be: resident pages, not PSS (which walks page tables: milliseconds for one PHP process).
//! Children are those of a worker's first thread, and below; a worker that forks from other threads is undercounted.

use crate::model::name::RunId;
use crate::model::time::Span;
use crate::model::units::Bytes;
use crate::os::{fds, tree};
use nix::time::ClockId;
use nix::unistd::{SysconfVar, sysconf};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Keeps what makes reading cheap.
#[derive(Debug)]
pub struct Meter {
    page: u64,
    open: HashMap<RunId, Kept>,
    /// How many descriptors may be kept open; beyond that files are opened for each reading.
    most_kept: usize,
}

#[derive(Debug)]
struct Kept {
    pid: i32,
    statm: Option<File>,
    children: Option<File>,
    /// The most it ever was: children that end take their time with them, and a total does not fall.
    cpu: Span,
}

impl Meter {
    /// To be made after `fds::raise_nofile`: an eighth of the limit of open files is used at most.
    pub fn new() -> Meter {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
        Meter { page: page as u64, open: HashMap::new(), most_kept: fds::nofile().0 as usize / 8 }
    }

    /// Reads these workers: resident memory with children, processor time of the life so far. One that cannot be read (it has
    /// just ended) is left out.
    pub fn measure(&mut self, workers: &[(RunId, i32)]) -> Vec<(RunId, Bytes, Span)> {
        workers.iter().filter_map(|(run, pid)| self.one(*run, *pid)).collect()
    }

    /// The life is over: what was kept for it is closed.
    pub fn forget(&mut self, run: RunId) {
        self.open.remove(&run);
    }

    fn one(&mut self, run: RunId, pid: i32) -> Option<(RunId, Bytes, Span)> {
        let room = self.open.len() * FILES_A_WORKER + FILES_A_WORKER <= self.most_kept;
        let kept = self.open.entry(run).or_insert_with(|| Kept { pid, statm: None, children: None, cpu: Span::ZERO });
        if kept.pid != pid {
            *kept = Kept { pid, statm: None, children: None, cpu: Span::ZERO };
        }
        let (resident, _) = statm_of(&read(&mut kept.statm, room, || format!("/proc/{pid}/statm")).ok()?)?;
        let mut pages = resident;
        let mut cpu = cpu_of(pid)?;
        let mut below = Vec::new();
        if let Ok(text) = read(&mut kept.children, room, || format!("/proc/{pid}/task/{pid}/children")) {
            tree::pids(&text, &mut below);
        }
        let mut next = 0;
        while next < below.len() && next < MAX_CHILDREN {
            let child = below[next];
            next += 1;
            let read_whole = |name: &str| std::fs::read(format!("/proc/{child}/{name}")).ok();
            if let Some((resident, shared)) = read_whole("statm").as_deref().and_then(statm_of) {
                pages += resident.saturating_sub(shared);
                cpu = cpu + cpu_of(child).unwrap_or(Span::ZERO);
                if let Some(text) = read_whole(&format!("task/{child}/children")) {
                    tree::pids(&text, &mut below);
                }
            }
        }
        kept.cpu = kept.cpu.max(cpu);
        Some((run, Bytes(pages * self.page), kept.cpu))
    }
}

impl Default for Meter {
    fn default() -> Meter {
        Meter::new()
    }
}

/// A proc file's text, from its start; opened if it is not, and kept open if there is room.
fn read(kept: &mut Option<File>, room: bool, path: impl Fn() -> String) -> io::Result<Vec<u8>> {
    let opened;
    let file = match kept {
        Some(file) => file,
        None if room => kept.insert(File::open(path())?),
        None => {
            opened = File::open(path())?;
            &opened
        }
    };
    let mut text = vec![0; CHUNK];
    let mut filled = 0;
    loop {
        // ESRCH: the process behind a kept file is gone.
        let n = file.read_at(&mut text[filled..], filled as u64)?;
        filled += n;
        if n == 0 || filled < text.len() {
            text.truncate(filled);
            return Ok(text);
        }
        text.resize(filled + CHUNK, 0);
    }
}

/// Resident and shared pages.
fn statm_of(text: &[u8]) -> Option<(u64, u64)> {
    let mut fields = std::str::from_utf8(text).ok()?.split_ascii_whitespace().skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn cpu_of(pid: i32) -> Option<Span> {
    // What clock_getcpuclockid(3) gives for a process: part of the kernel's ABI. The library call asks the kernel once more.
    let used = ClockId::from_raw((!pid << 3) | 2).now().ok()?;
    Some(Span(u64::try_from(used.tv_sec()).ok()? * 1000 + used.tv_nsec() as u64 / 1_000_000))
}

const FILES_A_WORKER: usize = 2;

/// What a worker's own fork bomb may cost us.
const MAX_CHILDREN: usize = 256;

const CHUNK: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured_and_its_processor_time_never_falls() {
        let mut meter = Meter::new();
        let us = std::process::id() as i32;
        let first = meter.measure(&[(RunId(1), us)]);
        assert!(first[0].1 > Bytes::kib(500), "{first:?}");
        let second = meter.measure(&[(RunId(1), us)]);
        assert!(second[0].2 >= first[0].2);
    }

    #[test]
    fn who_is_not_there_is_left_out() {
        assert_eq!(Meter::new().measure(&[(RunId(1), 1 << 23)]), []);
    }
}
