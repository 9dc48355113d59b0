//! A bound port, as Tim Kay's `solo` 1.7 has it: TCP, `127.(uid>>8).(uid&255).1:PORT`, bound and never listened on.
//!
//! The very same address, so that a crontab's `solo` and we keep each other out. No SO_REUSEADDR, for the same reason. From uid
//! 65536 on the address wraps in `solo`; we wrap with it. Its traps (port 0 is no lock at all, 70000 becomes 4464) are closed
//! in the config; here port 0 is refused once more.

use crate::leases::{Lease, NoLease, holder};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;

/// Where the lock of this port lives for that user. As root (uid 0) that is 127.0.0.1.
pub fn address(port: u16, uid: u32) -> SocketAddrV4 {
    let ip = match uid {
        0 => Ipv4Addr::LOCALHOST,
        _ => Ipv4Addr::new(127, (uid >> 8) as u8, uid as u8, 1),
    };
    SocketAddrV4::new(ip, port)
}

pub(super) fn take(port: u16, uid: u32) -> Result<Lease, NoLease> {
    if port == 0 {
        return Err(NoLease::Fault("port 0 is no lock: the kernel would choose another port each time".into()));
    }
    let address = address(port, uid);
    let fault = |errno: Errno| NoLease::Fault(format!("the lock {address} cannot be bound: {}", errno.desc().to_lowercase()));
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map_err(fault)?;
    match bind(fd.as_raw_fd(), &SockaddrIn::from(address)) {
        Ok(()) => Ok(Lease { fd }),
        Err(Errno::EADDRINUSE) => Err(NoLease::Busy { holder: holder::of_port(address) }),
        Err(errno) => Err(fault(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_solos() {
        for (uid, ip) in [(0, "127.0.0.1"), (33, "127.0.33.1"), (1000, "127.3.232.1"), (65535, "127.255.255.1"), (65536, "127.0.0.1")] {
            assert_eq!(address(3801, uid).to_string(), format!("{ip}:3801"), "{uid}");
        }
    }

    #[test]
    fn one_holder_at_a_time_and_he_is_named() {
        let lease = take(39811, 1000).unwrap();
        assert_eq!(take(39811, 1000).unwrap_err(), NoLease::Busy { holder: Some(std::process::id() as i32) });
        assert!(take(39811, 1001).is_ok(), "another user, another address");
        drop(lease);
        assert!(take(39811, 1000).is_ok());
    }

    #[test]
    fn port_zero_is_refused() {
        assert!(matches!(take(0, 0), Err(NoLease::Fault(_))));
    }
}
