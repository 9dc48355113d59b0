//! The listening socket that the workers of an fcgi program share as their descriptor 0.
//!
//! Supervisor's rules: a socket file that is there is replaced; owner and mode are set after the bind; it is closed, and its
//! file removed, when the last worker that has it is gone (`Listening` is dropped). It accepts nothing itself.

use crate::model::spec::{FcgiSocket, FcgiSpec};
use nix::sys::socket::{Backlog, listen};
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

#[derive(Debug)]
pub struct Listening {
    pub spec: FcgiSpec,
    socket: OwnedFd,
    /// The socket's file, and which one it was when we made it.
    file: Option<(PathBuf, u64)>,
}

impl Listening {
    /// Opens the socket. A host name is looked up here and may block.
    pub fn open(spec: &FcgiSpec) -> io::Result<Listening> {
        let (socket, file): (OwnedFd, _) = match &spec.socket {
            FcgiSocket::Tcp { host, port } => (tcp(host, *port)?.into(), None),
            FcgiSocket::Unix { path } => {
                let path = PathBuf::from(path);
                let at = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
                match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(at(e)),
                    Ok(()) | Err(_) => {}
                }
                let listener = UnixListener::bind(&path).map_err(at)?;
                let inode = std::fs::metadata(&path).map_err(at)?.ino();
                // Our umask (022) leaves nobody else the right to connect until then.
                if let Some((uid, gid)) = spec.owner {
                    std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).map_err(at)?;
                }
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(spec.mode.unwrap_or(0o700))).map_err(at)?;
                (listener.into(), Some((path, inode)))
            }
        };
        let backlog = spec.backlog.and_then(|n| i32::try_from(n).ok()).map_or(Ok(Backlog::MAXCONN), Backlog::new);
        listen(&socket, backlog.unwrap_or(Backlog::MAXCONN))?;
        Ok(Listening { spec: spec.clone(), socket, file })
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Another may have been made at the same place meanwhile.
        if let Some((path, inode)) = &self.file
            && std::fs::metadata(path).is_ok_and(|found| found.ino() == *inode)
        {
            // A file that is left behind is replaced the next time.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// IPv4 first, as Supervisor knows only that; no host means all addresses.
fn tcp(host: &str, port: u16) -> io::Result<TcpListener> {
    let host = if host.is_empty() || host == "*" { "0.0.0.0" } else { host };
    let mut found: Vec<_> = (host, port).to_socket_addrs()?.collect();
    found.sort_by_key(|address| address.is_ipv6());
    TcpListener::bind(&found[..]).map_err(|e| io::Error::new(e.kind(), format!("{host}:{port}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_socket_has_its_mode_replaces_an_old_one_and_goes_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fcgi.sock");
        let socket = FcgiSocket::Unix { path: path.to_string_lossy().into_owned() };
        let spec = FcgiSpec { socket, backlog: Some(7), owner: None, mode: Some(0o660) };
        let first = Listening::open(&spec).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        let second = Listening::open(&spec).unwrap();
        drop(first);
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok(), "the second one's file stays");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_tcp_socket_listens_and_a_taken_port_is_named() {
        let spec = |port| FcgiSpec { socket: FcgiSocket::Tcp { host: "127.0.0.1".into(), port }, backlog: None, owner: None, mode: None };
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let fault = Listening::open(&spec(port)).unwrap_err().to_string();
        assert!(fault.contains(&format!("127.0.0.1:{port}")), "{fault}");
        drop(other);
        let held = Listening::open(&spec(port)).unwrap();
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        drop(held);
    }
}
