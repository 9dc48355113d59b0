//! Who has a lock: for people only ("held by process 1234"), never a ground for a decision.
//!
//! Read from `/proc`, so it can be late by a moment, and other users' processes may be closed to us: then it is `None`.

use std::net::SocketAddrV4;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A process that has the socket bound at that address.
pub(super) fn of_port(address: SocketAddrV4) -> Option<i32> {
    // A socket that is bound and not listening stands in no table of /proc/net/tcp. Then its descriptor is searched by elimination:
    // among the sockets that processes hold, the ones that no table knows.
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let inode = table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        (fields.get(1) == Some(&local.as_str())).then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    })?;
    let wanted = format!("socket:[{inode}]");
    process_with(|link, _| link.to_str() == Some(wanted.as_str()))
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
    let same = |path: &Path| std::fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (device, inode));
    match taker {
        Some(pid) if holds(pid, |_, path| same(path)) => Some(pid),
        Some(_) | None => process_with(|_, path| same(path)),
    }
}

/// The first process with a descriptor that fits: by where its link leads, and the link itself.
fn process_with(fits: impl Fn(&Path, &Path) -> bool) -> Option<i32> {
    let all = std::fs::read_dir("/proc").ok()?;
    all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).find(|pid| holds(*pid, &fits))
}

fn holds(pid: i32, fits: impl Fn(&Path, &Path) -> bool) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| fits(&to, &entry.path())))
}
