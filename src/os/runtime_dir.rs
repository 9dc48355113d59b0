//! The private runtime directory: sockets, FIFOs and the image live there, and one daemon at a time.
//!
//! 0700 and ours, or others could take the places of our sockets. But a worker that runs as another user must reach *its*
//! FIFO (`/dev/stdout` is opened by path) and *its* notify socket. So those two kinds live in a directory beside, 0711: it
//! can be walked through and not be listed, and each file in it belongs to its worker's user alone. The way there leads
//! through the runtime directory, which is 0711 for that reason as soon as a worker has a user of his own
//! (`let_others_through`); its secrets are then kept by their own modes (socket 0660, image 0600).

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The directory is ours as long as this lives. The lock is the kernel's: it goes when we do, however we go.
#[derive(Debug)]
pub struct Guard {
    pub path: PathBuf,
    _lock: Flock<File>,
}

/// Why there is no runtime directory.
#[derive(Debug)]
pub enum Fault {
    /// It cannot be made, read or locked.
    Io {
        path: PathBuf,
        what: &'static str,
        fault: std::io::Error,
    },
    /// A file, or a symbolic link, which could lead anywhere.
    NoDirectory {
        path: PathBuf,
    },
    NotOurs {
        path: PathBuf,
        owner: u32,
        us: u32,
    },
    /// Another daemon has it.
    Held {
        path: PathBuf,
        pid: Option<i32>,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Io { path, what, fault } => write!(f, "the runtime directory {} cannot be {what}: {fault}", path.display()),
            Fault::NoDirectory { path } => {
                write!(f, "{} is no directory (or a symbolic link); set runtime_dir to another place", path.display())
            }
            Fault::NotOurs { path, owner, us } => {
                write!(
                    f,
                    "the runtime directory {} belongs to uid {owner}, and we are uid {us}; set runtime_dir to a place of our own",
                    path.display()
                )
            }
            Fault::Held { path, pid: Some(pid) } => write!(f, "another gangerd (pid {pid}) runs in {}", path.display()),
            Fault::Held { path, pid: None } => write!(f, "another gangerd runs in {}", path.display()),
        }
    }
}

impl std::error::Error for Fault {}

/// Makes the directory (and those above it) if it is not there, checks that it is ours and nobody else's to write, and locks
/// it. Modes wider than 0700 are narrowed, but passage for others (0711) is left.
pub fn take(path: &Path) -> Result<Guard, Fault> {
    let io = |what: &'static str| move |fault: std::io::Error| Fault::Io { path: path.to_owned(), what, fault };
    private_dir(path, 0o700).map_err(|refused| match refused {
        Refused::Io(what, fault) => io(what)(fault),
        Refused::NoDirectory => Fault::NoDirectory { path: path.to_owned() },
        Refused::NotOurs(owner, us) => Fault::NotOurs { path: path.to_owned(), owner, us },
    })?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path.join(LOCK_FILE))
        .map_err(io("locked"))?;
    let mut held_by = String::new();
    let _ = file.read_to_string(&mut held_by);
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            // For people and for the error of the next one; the lock itself does not need it.
            let _ = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
            Ok(Guard { path: path.to_owned(), _lock: lock })
        }
        Err((_, Errno::EWOULDBLOCK)) => Err(Fault::Held { path: path.to_owned(), pid: held_by.trim().parse().ok() }),
        Err((_, errno)) => Err(io("locked")(errno.into())),
    }
}

impl Guard {
    /// A directory in it, made if it is not there: 0700, or 0711 where workers of other users must reach what is in it.
    pub fn subdirectory(&self, name: &str, others_pass: bool) -> Result<PathBuf, Fault> {
        let path = self.path.join(name);
        private_dir(&path, if others_pass { 0o711 } else { 0o700 }).map_err(|refused| match refused {
            Refused::Io(what, fault) => Fault::Io { path: path.clone(), what, fault },
            Refused::NoDirectory => Fault::NoDirectory { path: path.clone() },
            Refused::NotOurs(owner, us) => Fault::NotOurs { path: path.clone(), owner, us },
        })?;
        Ok(path)
    }

    /// Lets other users walk through (not list) the runtime directory: needed as soon as a worker has a user of his own.
    pub fn let_others_through(&self) -> Result<(), Fault> {
        std::fs::set_permissions(&self.path, Permissions::from_mode(0o711)).map_err(|fault| Fault::Io {
            path: self.path.clone(),
            what: "opened to its workers",
            fault,
        })
    }
}

enum Refused {
    Io(&'static str, std::io::Error),
    NoDirectory,
    NotOurs(u32, u32),
}

/// Makes or checks a directory that nobody but us may list or write.
fn private_dir(path: &Path, mode: u32) -> Result<(), Refused> {
    if let Some(above) = path.parent() {
        std::fs::create_dir_all(above).map_err(|fault| Refused::Io("made", fault))?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {}
        Err(fault) if fault.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(fault) => return Err(Refused::Io("made", fault)),
    }
    let found = std::fs::symlink_metadata(path).map_err(|fault| Refused::Io("read", fault))?;
    let us = nix::unistd::geteuid().as_raw();
    if !found.is_dir() {
        return Err(Refused::NoDirectory);
    }
    if found.uid() != us {
        return Err(Refused::NotOurs(found.uid(), us));
    }
    let now = found.mode() & 0o7777;
    let narrowed = (now & 0o711) | mode;
    if now != narrowed {
        std::fs::set_permissions(path, Permissions::from_mode(narrowed)).map_err(|fault| Refused::Io("made private", fault))?;
    }
    Ok(())
}

const LOCK_FILE: &str = "lock";

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_directory_is_private_and_one_daemon_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/run");
        let guard = take(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        let second = take(&path).unwrap_err().to_string();
        assert_eq!(second, format!("another gangerd (pid {}) runs in {}", std::process::id(), path.display()));
        drop(guard);
        let guard = take(&path).unwrap();
        assert_eq!(mode(&guard.subdirectory("notify", true).unwrap()), 0o711);
        assert_eq!(mode(&guard.subdirectory("fifo", false).unwrap()), 0o700);
    }

    #[test]
    fn a_wide_directory_is_narrowed_and_a_link_or_file_refused() {
        let dir = tempfile::tempdir().unwrap();
        let wide = dir.path().join("wide");
        std::fs::create_dir(&wide).unwrap();
        std::fs::set_permissions(&wide, Permissions::from_mode(0o777)).unwrap();
        drop(take(&wide).unwrap());
        assert_eq!(mode(&wide) & 0o066, 0);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&wide, &link).unwrap();
        assert!(matches!(take(&link), Err(Fault::NoDirectory { .. })));
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(take(&file), Err(Fault::NoDirectory { .. })));
    }

    #[test]
    fn another_users_directory_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        std::fs::create_dir(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        assert!(matches!(take(&path), Err(Fault::NotOurs { owner: 65534, .. })));
    }
}
