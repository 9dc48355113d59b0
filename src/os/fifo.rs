//! Named pipes for worker output.
//!
//! Both sides open them read-write, so there is never an end of file and never a SIGPIPE: when we die, a worker writes on
//! into the pipe's buffer, and whoever takes over reads on. Reader and writer are two open files, because O_NONBLOCK belongs
//! to the open file and a worker must never find its stdout non-blocking.

use crate::os::{fds, host};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat, mode_t};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// Makes the FIFO, or takes the one that is there, and gives it to its user: mode 0600, owner `uid`, group `gid` (`None`: ours).
/// What is at the path and is no FIFO is left as it is, and is an error.
pub fn make(path: &Path, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    match nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        // A new one is ours.
        Ok(()) if host::are_we(uid, gid) => return Ok(()),
        Ok(()) => {}
        Err(nix::Error::EEXIST) => {
            if !std::fs::symlink_metadata(path)?.file_type().is_fifo() {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is there and is no FIFO", path.display())));
            }
            // The umask cannot have made it wider than asked; somebody else can.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        }
        Err(fault) => return Err(fault.into()),
    }
    std::os::unix::fs::lchown(path, uid, gid)
}

/// The end that we read: non-blocking, and never at its end.
pub fn open_reader(path: &Path) -> io::Result<OwnedFd> {
    open_end(path, OFlag::O_NONBLOCK)
}

/// The end that a worker writes to: blocking, with a description of its own.
pub fn open_writer(path: &Path) -> io::Result<OwnedFd> {
    open_end(path, OFlag::empty())
}

/// Makes the buffer behind an end larger, as far as the system allows. Gives back its size.
pub fn grow(end: &OwnedFd, bytes: i32) -> i32 {
    fds::grow_pipe(end, bytes)
}

fn open_end(path: &Path, more: OFlag) -> io::Result<OwnedFd> {
    let fd = open(path, OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | more, Mode::empty())?;
    if fstat(&fd)?.st_mode & SFlag::S_IFMT.bits() as mode_t != SFlag::S_IFIFO.bits() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no FIFO", path.display())));
    }
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_is_written_waits_for_a_reader_and_there_is_no_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        make(&path, None, None).unwrap();
        make(&path, None, None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let mut reader = std::fs::File::from(open_reader(&path).unwrap());
        std::fs::File::from(open_writer(&path).unwrap()).write_all(b"last words").unwrap();
        let mut buffer = [0; 64];
        assert_eq!(reader.read(&mut buffer).unwrap(), 10);
        assert_eq!(reader.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_writer_blocks_though_the_reader_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        make(&path, None, None).unwrap();
        let (_reader, writer) = (open_reader(&path).unwrap(), open_writer(&path).unwrap());
        let flags = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert!(!OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK));
    }

    #[test]
    fn what_is_no_fifo_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        std::fs::write(&path, "dear").unwrap();
        assert!(make(&path, None, None).unwrap_err().to_string().ends_with("is there and is no FIFO"));
        assert!(open_writer(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"dear");
        let link = dir.path().join("link");
        let fifo = dir.path().join("fifo");
        make(&fifo, None, None).unwrap();
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        assert!(make(&link, None, None).is_err());
        assert!(open_writer(&link).is_err());
    }
}
