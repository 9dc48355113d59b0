//! Signals to a worker or to its whole group.
//!
//! The guard stands here and nowhere else: 0, 1 and negative numbers are never signalled, since to `kill` they mean "my own
//! group", "init" and "everybody".
#![allow(unsafe_code)]

use crate::model::signal::Signal;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends a signal to one process; by its pidfd where there is one, which can never hit a stranger with a recycled pid.
/// `Ok(false)`: there is no such process any more, which is no fault.
pub fn signal_process(pid: i32, pidfd: Option<BorrowedFd<'_>>, signal: Signal) -> io::Result<bool> {
    if pid <= 1 {
        return Err(nobody(pid));
    }
    // SAFETY: plain integers; the descriptor is borrowed and open for the length of the call.
    let rc = unsafe {
        match pidfd {
            Some(fd) => libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal.number(), std::ptr::null::<u8>(), 0),
            None => i64::from(libc::kill(pid, signal.number())),
        }
    };
    answer(rc)
}

/// Sends a signal to every process of a group. `Ok(false)`: the group is empty.
pub fn signal_group(pgid: i32, signal: Signal) -> io::Result<bool> {
    if pgid <= 1 {
        return Err(nobody(pgid));
    }
    // SAFETY: plain integers; greater than 1, so -pgid is one group and never "everybody".
    answer(i64::from(unsafe { libc::kill(-pgid, signal.number()) }))
}

/// True if there is any process in the group, zombies included. One system call.
pub fn group_exists(pgid: i32) -> bool {
    if pgid <= 1 {
        return false;
    }
    // SAFETY: signal 0 only asks.
    let rc = unsafe { libc::kill(-pgid, 0) };
    // EPERM: it is there, but another user's.
    rc == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

fn answer(rc: i64) -> io::Result<bool> {
    if rc == 0 {
        return Ok(true);
    }
    let fault = io::Error::last_os_error();
    if fault.raw_os_error() == Some(libc::ESRCH) { Ok(false) } else { Err(fault) }
}

fn nobody(pid: i32) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("process {pid} is never signalled"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_everybody_and_init_are_never_signalled() {
        for pid in [i32::MIN, -1, 0, 1] {
            assert!(signal_process(pid, None, Signal::CONT).is_err(), "{pid}");
            assert!(signal_group(pid, Signal::CONT).is_err(), "{pid}");
            assert!(!group_exists(pid));
        }
    }

    #[test]
    fn a_process_that_is_gone_is_no_fault() {
        // Beyond the largest pid there can be (PID_MAX_LIMIT).
        assert!(!signal_process(1 << 23, None, Signal::CONT).unwrap());
        assert!(!signal_group(1 << 23, Signal::CONT).unwrap());
    }
}
