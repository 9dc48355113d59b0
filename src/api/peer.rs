//! Who is at the other end of a unix socket, as the kernel saw him when he connected.
//!
//! `SO_PEERCRED` tells user, group and pid; `SO_PEERGROUPS` the supplementary groups. Both were fixed at
//! connect(), so nobody can change them afterwards, and no pid is looked up that may long be another's. This
//! is the only unsafe code of the doors: neither std nor nix reads `SO_PEERGROUPS`. What a peer may do is not
//! decided here but in `access`.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A process that connected to our socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixPeer {
    pub uid: u32,
    pub gid: u32,
    /// 0 when the peer lives in another pid namespace.
    pub pid: i32,
    /// Supplementary groups; empty where the kernel does not tell (before Linux 4.13).
    pub groups: Vec<u32>,
}

impl UnixPeer {
    /// True if the peer's process had `gid` among its groups.
    pub fn is_in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

/// Asks the kernel who is at the other end of `socket`.
///
/// # Errors
/// What getsockopt says for `SO_PEERCRED`. Groups that cannot be read are no error but no groups: that takes
/// rights away, it never gives any.
pub fn of(socket: BorrowedFd<'_>) -> io::Result<UnixPeer> {
    let cred = nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::PeerCredentials)?;
    Ok(UnixPeer { uid: cred.uid(), gid: cred.gid(), pid: cred.pid(), groups: groups(socket).unwrap_or_default() })
}

fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 32];
    // Twice is enough: too small a buffer is answered with the size that is needed, and the list does not change.
    for _ in 0..2 {
        let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice())).expect("a few KiB at most");
        // SAFETY: the descriptor is open for as long as `socket` is borrowed. `groups` is owned, initialised and
        // `bytes` long, which the kernel is told and never exceeds; it writes plain integers, of which every bit
        // pattern is valid. `bytes` outlives the call.
        let result = unsafe {
            libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERGROUPS, groups.as_mut_ptr().cast(), &raw mut bytes)
        };
        let count = bytes as usize / size_of::<libc::gid_t>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // NGROUPS_MAX is 65,536: what is beyond is not believed.
        if error.raw_os_error() != Some(libc::ERANGE) || count > 65_536 {
            return Err(error);
        }
        groups.resize(count, 0);
    }
    Err(io::Error::from_raw_os_error(libc::ERANGE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_kernel_tells_user_pid_and_all_groups_of_the_peer() {
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let peer = of(ours.as_fd()).expect("credentials");
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.gid, nix::unistd::getegid().as_raw());
        assert_eq!(peer.pid, nix::unistd::getpid().as_raw());
        let mut told = groups(ours.as_fd()).expect("groups");
        let mut ours: Vec<u32> = nix::unistd::getgroups().expect("groups").into_iter().map(nix::unistd::Gid::as_raw).collect();
        told.sort_unstable();
        ours.sort_unstable();
        assert_eq!(told, ours);
    }

    #[test]
    fn main_and_supplementary_groups_count_alike() {
        let peer = UnixPeer { uid: 1000, gid: 1000, pid: 1, groups: vec![27, 33] };
        assert!(peer.is_in_group(1000) && peer.is_in_group(33));
        assert!(!peer.is_in_group(0));
    }
}
