//! Who has a lock: for people only ("held by process 1234"), never a ground for a decision.
//!
//! A port that is bound and not listened on stands in no table of `/proc/net`, so its holder is found by looking at the sockets
//! themselves: each is borrowed for a moment (`pidfd_getfd`) and asked for its name. Read from the outside, so it can be late by
//! a moment; and other users' processes may be closed to us: then it is `None`.
#![allow(unsafe_code)]

use nix::sys::socket::{SockaddrIn, getsockname};
use std::cell::Cell;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A process that has the socket bound at that address.
pub(super) fn of_port(address: SocketAddrV4) -> Option<i32> {
    // `solo` and we put it on descriptor 3: one try for each process finds nearly all. Who was it last is asked first, since a slot
    // that waits for its lock asks again and again.
    let last = LAST.get();
    let found = Some(last)
        .filter(|pid| *pid > 0 && bound(*pid, Some(USUAL), address))
        .or_else(|| pids().find(|pid| bound(*pid, Some(USUAL), address)))
        .or_else(|| pids().find(|pid| bound(*pid, None, address)));
    LAST.set(found.unwrap_or(0));
    found
}

/// A process that has a file open which is flocked.
pub(super) fn of_file(device: u64, inode: u64) -> Option<i32> {
    // `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`. The pid there is who took it, and may have gone, with a child keeping it.
    let identity = format!("{:02x}:{:02x}:{inode}", libc::major(device), libc::minor(device));
    let table = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let taker = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let flock = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&identity.as_str());
        flock.then(|| fields.get(4)?.parse::<i32>().ok()).flatten()
    });
    // Having the file open is not having the lock (we have it open just now): a descriptor's fdinfo tells its locks.
    let locked = |path: &Path| {
        let info = path.to_string_lossy().replacen("/fd/", "/fdinfo/", 1);
        std::fs::read_to_string(info).is_ok_and(|text| text.lines().any(|line| line.starts_with("lock:") && line.contains("FLOCK")))
    };
    let same = |path: &Path| std::fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (device, inode));
    let holds = |pid: &i32| descriptors(*pid).any(|path| same(&path) && locked(&path));
    taker.filter(holds).or_else(|| pids().find(holds))
}

/// True if that descriptor of the process (or any) is a socket bound at the address.
fn bound(pid: i32, number: Option<i32>, address: SocketAddrV4) -> bool {
    let numbers: Vec<i32> = match number {
        Some(number) => vec![number],
        None => descriptors(pid).filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect(),
    };
    let socket = |number: &i32| {
        std::fs::read_link(format!("/proc/{pid}/fd/{number}")).is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
    };
    let Some(process) = numbers.iter().any(socket).then(|| pidfd(pid)).flatten() else { return false };
    numbers.into_iter().filter(socket).any(|number| {
        borrowed(&process, number)
            .is_some_and(|fd| getsockname::<SockaddrIn>(fd.as_raw_fd()).is_ok_and(|name| SocketAddrV4::from(name) == address))
    })
}

fn pidfd(pid: i32) -> Option<OwnedFd> {
    // SAFETY: integers in; a new descriptor of ours or -1 out.
    unsafe {
        let raw = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        (raw >= 0).then(|| OwnedFd::from_raw_fd(raw as i32))
    }
}

/// A copy of another process's descriptor, close-on-exec.
fn borrowed(process: &OwnedFd, number: i32) -> Option<OwnedFd> {
    // SAFETY: as above.
    unsafe {
        let raw = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0);
        (raw >= 0).then(|| OwnedFd::from_raw_fd(raw as i32))
    }
}

fn pids() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn descriptors(pid: i32) -> impl Iterator<Item = std::path::PathBuf> {
    std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Where `solo` has its lock, and our workers theirs.
const USUAL: i32 = 3;

thread_local! {
    /// The last one found: a hint, checked each time.
    static LAST: Cell<i32> = const { Cell::new(0) };
}
