//! The control socket as a file: bound so that nobody gets in before its mode and owner are right, and removed
//! only if it is still ours.
//!
//! It is bound under a private name, given mode and owner, and only then listens and is renamed into place.
//! A connect before that is refused by the kernel, so there is no window for the umask to get wrong, and the
//! rename replaces a stale file in one step. A socket that somebody still listens on is never replaced.

use crate::model::plan::SocketSpec;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind as bind_to, connect, listen, socket};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// A socket file that we made.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Removes the file, unless another one has taken its place meanwhile.
    pub fn remove(self) {
        let still_ours = fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.dev() == self.device && meta.ino() == self.inode);
        if still_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("cannot remove the control socket {}: {error}", self.path.display());
        }
    }
}

/// Opens the listening socket that `spec` describes; non-blocking and close-on-exec.
///
/// # Errors
/// Each names the path. `AddrInUse` if somebody listens there or if what lies there is no socket.
pub fn open(spec: &SocketSpec) -> io::Result<(UnixListener, SocketFile)> {
    let path = Path::new(&spec.path);
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("cannot open the control socket {}: {error}", spec.path));
    clear_the_way(path).map_err(failed)?;
    let private = path.with_file_name(format!(".g{}", std::process::id()));
    let made = make(path, &private, spec);
    if made.is_err() {
        // It may not be there; and what could not be removed is no reason to say something else than `made` does.
        let _ = fs::remove_file(&private);
    }
    made.map_err(failed)
}

fn make(path: &Path, private: &Path, spec: &SocketSpec) -> io::Result<(UnixListener, SocketFile)> {
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "a path of a unix socket may have 107 bytes at most");
    UnixAddr::new(path).map_err(too_long)?;
    let address = UnixAddr::new(private).map_err(too_long)?;
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    match bind_to(fd.as_raw_fd(), &address) {
        // Left by one of the same pid that was killed here.
        Err(Errno::EADDRINUSE) => {
            fs::remove_file(private)?;
            bind_to(fd.as_raw_fd(), &address)?;
        }
        other => other?,
    }
    if let Some((uid, gid)) = spec.owner {
        chown(private, Some(uid), Some(gid))?;
    }
    fs::set_permissions(private, fs::Permissions::from_mode(spec.mode & 0o777))?;
    listen(&fd, Backlog::MAXCONN)?;
    let meta = fs::symlink_metadata(private)?;
    fs::rename(private, path)?;
    Ok((UnixListener::from(fd), SocketFile { path: path.to_owned(), device: meta.dev(), inode: meta.ino() }))
}

/// Makes sure that what lies at `path` may be replaced: nothing, or a socket that nobody listens on.
fn clear_the_way(path: &Path) -> io::Result<()> {
    let taken = |why: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, why.to_owned()));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(meta) if !meta.file_type().is_socket() => {
            return taken("there is a file of that name that is no socket; remove it, or name another");
        }
        Ok(_) => {}
    }
    // Non-blocking, for a live one with a full backlog would hold us here. It answers EAGAIN then.
    let probe = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(()),
        Ok(()) | Err(Errno::EAGAIN) => taken("another daemon listens there"),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn spec(path: &Path) -> SocketSpec {
        SocketSpec { path: path.to_str().expect("UTF-8").to_owned(), mode: 0o660, owner: None }
    }

    #[test]
    fn the_socket_has_its_mode_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ganger.sock");
        let (_listener, file) = open(&spec(&path)).expect("it opens");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o660);
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
        UnixStream::connect(&path).expect("it listens");
        file.remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ganger.sock");
        drop(UnixListener::bind(&path).expect("it binds"));
        assert!(path.exists());
        let (_listener, _file) = open(&spec(&path)).expect("it opens");
        UnixStream::connect(&path).expect("it listens");
    }

    #[test]
    fn a_live_socket_is_left_alone_and_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ganger.sock");
        let _other = UnixListener::bind(&path).expect("it binds");
        let error = open(&spec(&path)).expect_err("it is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(error.to_string(), format!("cannot open the control socket {}: another daemon listens there", path.display()));
        UnixStream::connect(&path).expect("the other one still listens");
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ganger.sock");
        fs::write(&path, "precious").expect("written");
        assert_eq!(open(&spec(&path)).expect_err("it is taken").kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).expect("readable"), b"precious");
    }

    #[test]
    fn a_successors_socket_is_not_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ganger.sock");
        let (listener, file) = open(&spec(&path)).expect("it opens");
        drop(listener);
        let (_listener, _successor) = open(&spec(&path)).expect("it opens again");
        file.remove();
        UnixStream::connect(&path).expect("the successor is still there");
    }

    #[test]
    fn a_path_that_is_too_long_and_a_missing_directory_are_named() {
        let long = PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
        assert!(open(&spec(&long)).expect_err("too long").to_string().contains("107 bytes"));
        let error = open(&spec(Path::new("/nowhere/ganger.sock"))).expect_err("no directory").to_string();
        assert!(error.starts_with("cannot open the control socket /nowhere/ganger.sock: "), "{error}");
    }
}
