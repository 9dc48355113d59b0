//! A locked file: flock, so that `flock(1)` in a crontab and we keep each other out.
//!
//! flock and not fcntl: it belongs to the open file, so it passes to the worker with the descriptor, and closing some other
//! descriptor of the same file does not lose it. The file stays when the lock goes; removing it would let two holders in, one on
//! the old file and one on the new.

use crate::leases::{Lease, NoLease, holder};
use nix::errno::Errno;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub(super) fn take(path: &Path) -> Result<Lease, NoLease> {
    let shown = path.display();
    let open = |write: bool| {
        // O_NONBLOCK: a FIFO at the path must not hold us up. Opening for reading is enough for flock, where the file is another's.
        OpenOptions::new().read(true).write(write).create(write).truncate(false).mode(0o644).custom_flags(libc::O_NONBLOCK).open(path)
    };
    let file = match open(true) {
        Err(fault) if fault.kind() == ErrorKind::PermissionDenied => open(false),
        opened => opened,
    }
    .map_err(|fault| NoLease::Fault(format!("the lock file {shown} cannot be opened: {fault}")))?;
    let found = file.metadata().map_err(|fault| NoLease::Fault(format!("the lock file {shown} cannot be read: {fault}")))?;
    let fd = OwnedFd::from(file);
    match flock(&fd) {
        Ok(()) => Ok(Lease { fd }),
        Err(Errno::EWOULDBLOCK) => Err(NoLease::Busy { holder: holder::of_file(found.dev(), found.ino()) }),
        Err(errno) => Err(NoLease::Fault(format!("the lock file {shown} cannot be locked: {}", errno.desc().to_lowercase()))),
    }
}

/// The file of a bare name. Makes the directory if it is not there; refuses one that others could have prepared.
pub(super) fn named(name: &str, dir: &Path) -> Result<PathBuf, NoLease> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(NoLease::Fault(format!("{name:?} is no name for a lock; a path is written as \"file:/path\"")));
    }
    let shown = dir.display();
    let fault = |what: &str, fault: std::io::Error| NoLease::Fault(format!("the lock directory {shown} cannot be {what}: {fault}"));
    if let Some(above) = dir.parent() {
        std::fs::create_dir_all(above).map_err(|e| fault("made", e))?;
    }
    let root = nix::unistd::geteuid().is_root();
    // Root's locks may be seen (and asked for) by all, as /run/lock is; a user's are his own.
    let mode = if root { 0o755 } else { 0o700 };
    match DirBuilder::new().mode(mode).create(dir) {
        // The umask may have taken too much.
        Ok(()) => std::fs::set_permissions(dir, Permissions::from_mode(mode)).map_err(|e| fault("made", e))?,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(fault("made", e)),
    }
    let found = std::fs::symlink_metadata(dir).map_err(|e| fault("read", e))?;
    let us = nix::unistd::geteuid().as_raw();
    if !found.is_dir() || (found.uid() != us && found.uid() != 0) {
        return Err(NoLease::Fault(format!("the lock directory {shown} is not ours (it belongs to uid {}, or is a link)", found.uid())));
    }
    if found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0 {
        return Err(NoLease::Fault(format!("the lock directory {shown} can be written by others (mode {:o})", found.mode() & 0o7777)));
    }
    Ok(dir.join(name))
}

/// nix's `flock` wants to own the file and unlocks when dropped; this lock must outlive us.
#[allow(unsafe_code)]
fn flock(fd: &OwnedFd) -> Result<(), Errno> {
    loop {
        // SAFETY: a plain call on a descriptor that is open.
        match Errno::result(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leases;
    use crate::model::launch::Lock;

    #[test]
    fn one_holder_at_a_time_and_he_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::File(dir.path().join("x.lock").to_string_lossy().into_owned());
        let lease = leases::take(&lock, 0, dir.path()).unwrap();
        assert_eq!(leases::take(&lock, 0, dir.path()).unwrap_err(), NoLease::Busy { holder: Some(std::process::id() as i32) });
        drop(lease);
        assert!(leases::take(&lock, 0, dir.path()).is_ok());
    }

    #[test]
    fn a_bare_name_is_a_file_in_the_lock_directory() {
        let dir = tempfile::tempdir().unwrap();
        let locks = dir.path().join("made/locks");
        let _lease = leases::take(&Lock::Name("mailer".into()), 0, &locks).unwrap();
        assert!(locks.join("mailer").exists());
        for bad in ["", "../x", "a/b", ".x"] {
            assert!(matches!(leases::take(&Lock::Name(bad.into()), 0, &locks), Err(NoLease::Fault(_))), "{bad}");
        }
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let refused = leases::take(&Lock::Name("x".into()), 0, dir.path()).unwrap_err().to_string();
        assert!(refused.ends_with("can be written by others (mode 777)"), "{refused}");
    }

    #[test]
    fn a_lock_that_cannot_be_tried_is_a_fault_and_not_busy() {
        let lock = Lock::File("/no/such/directory/x".into());
        assert!(matches!(leases::take(&lock, 0, Path::new("/tmp")), Err(NoLease::Fault(_))));
    }
}
