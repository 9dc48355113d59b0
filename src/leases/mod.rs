//! LEASES: one of a kind on this host.
//!
//! A lease is a descriptor. The worker inherits it and we close ours, so the lock lives exactly as long as any process of the
//! worker has it: longer than we do, and never longer than its work. Nobody waits here; who finds it held tries again later.

pub mod file;
pub mod holder;
pub mod port;

use crate::model::launch::Lock;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The right to run. Close-on-exec until it is handed to a worker (`os/spawn` makes it the worker's descriptor 3).
#[derive(Debug)]
pub struct Lease {
    pub fd: OwnedFd,
}

/// Why there is no lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoLease {
    /// Somebody has it; no fault. `holder`: a process that has it, where the kernel tells us.
    Busy { holder: Option<i32> },
    /// It could not even be tried.
    Fault(String),
}

impl fmt::Display for NoLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoLease::Busy { holder: Some(pid) } => write!(f, "held by process {pid}"),
            NoLease::Busy { holder: None } => f.write_str("held by another process"),
            NoLease::Fault(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for NoLease {}

/// Tries to take a lock, without waiting. `uid`: of the worker that will hold it (a port's address depends on it).
/// `lock_dir`: where bare names live (`default_lock_dir`).
pub fn take(lock: &Lock, uid: u32, lock_dir: &Path) -> Result<Lease, NoLease> {
    match lock {
        Lock::Port(port) => port::take(*port, uid),
        Lock::File(path) => file::take(Path::new(path)),
        Lock::Name(name) => file::take(&file::named(name, lock_dir)?),
    }
}

/// Where bare names live: `/run/lock/ganger` for root; for others a directory of their own, since names are theirs too.
pub fn default_lock_dir(uid: u32) -> PathBuf {
    if uid == 0 {
        return PathBuf::from("/run/lock/ganger");
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir).join("ganger-locks"),
        _ => PathBuf::from(format!("/tmp/ganger-locks-{uid}")),
    }
}

impl Lease {
    /// Lets the lease pass through an exec of this very process, as `solo` does.
    pub fn keep_over_exec(&self) -> std::io::Result<()> {
        nix::fcntl::fcntl(&self.fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
        Ok(())
    }
}
