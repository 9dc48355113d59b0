//! Descriptors: what is inherited, how many we may have, and the one way to hand them to the runtime.
//!
//! Every descriptor of ours is born close-on-exec. Those that were open before we were (a shell's, a wrapper's) are marked at
//! start. A worker gets exactly 0, 1, 2 and, where it has a lock, 3.
#![allow(unsafe_code)]

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Raises our soft limit of open files to the hard limit. Gives back what both were before, so that workers get the
/// original: a limit of a million makes every close loop of PHP and Python slow.
///
/// A refusal is harmless (the old limit stays) and is not reported.
pub fn raise_nofile() -> (u64, u64) {
    let (soft, hard) = nofile();
    if soft < hard {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    (soft, hard)
}

/// Our limit of open files: soft, hard.
pub fn nofile() -> (u64, u64) {
    getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024))
}

/// Sets or clears close-on-exec.
pub fn set_cloexec(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(if on { FdFlag::FD_CLOEXEC } else { FdFlag::empty() }))?;
    Ok(())
}

/// A second descriptor of the same open file, close-on-exec, numbered `least` or higher.
pub fn duplicate(fd: BorrowedFd<'_>, least: i32) -> io::Result<OwnedFd> {
    let raw = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(least))?;
    // SAFETY: F_DUPFD_CLOEXEC has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Opens `/dev/null` for reading and writing, close-on-exec.
pub fn dev_null() -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())?)
}

/// Sees to it that 0, 1 and 2 are open, with `/dev/null` where they were not: else the next socket would become somebody's
/// "stdout". To be called before anything else is opened.
pub fn ensure_stdio_open() -> io::Result<()> {
    loop {
        // Not close-on-exec: these three are inherited by nature. The kernel always gives the lowest free number.
        let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR, nix::sys::stat::Mode::empty())?;
        if null.as_raw_fd() > 2 {
            return Ok(());
        }
        std::mem::forget(null);
    }
}

/// Marks everything from `first` on that happens to be open as close-on-exec. Kernels before 5.11 cannot; then what we
/// inherited from our own parent stays inheritable, as it was.
pub fn set_cloexec_from(first: u32) {
    // SAFETY: changes flags of our own descriptors only, and none of them counts on being inherited.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Hands a descriptor that can be polled to the runtime, for reading. Must be called within the runtime.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open as long as it lives and its number never changes; the AsyncFd owns it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(|fault| fault.into_parts().1)
}

/// A pidfd of a process, which need not be our child. ESRCH if there is no such process.
pub fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    if pid <= 1 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: plain integers go in; what comes back is a new descriptor or -1.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

/// Adopts descriptors that came out of a control message.
pub(super) fn own(raw: i32) -> OwnedFd {
    // SAFETY: called only with numbers that recvmsg has just put into our table for us (SCM_RIGHTS).
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// A blocking or non-blocking pipe end's size is raised to `bytes` as far as the system allows; gives back what it is now.
pub fn grow_pipe(fd: impl AsFd, bytes: i32) -> i32 {
    let mut wanted = bytes;
    // EPERM: over the user's allowance (pipe-user-pages-soft) or pipe-max-size; half of it may still go.
    while wanted > 65536 {
        if let Ok(now) = fcntl(fd.as_fd(), FcntlArg::F_SETPIPE_SZ(wanted)) {
            return now;
        }
        wanted /= 2;
    }
    fcntl(fd.as_fd(), FcntlArg::F_GETPIPE_SZ).unwrap_or(65536)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_on_exec_can_be_set_and_cleared() {
        let fd = dev_null().unwrap();
        let flag = || FdFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFD).unwrap());
        assert!(flag().contains(FdFlag::FD_CLOEXEC));
        set_cloexec(fd.as_fd(), false).unwrap();
        assert!(!flag().contains(FdFlag::FD_CLOEXEC));
        set_cloexec(fd.as_fd(), true).unwrap();
        assert!(flag().contains(FdFlag::FD_CLOEXEC));
    }

    #[test]
    fn a_duplicate_stays_above_the_asked_number() {
        let fd = dev_null().unwrap();
        assert!(duplicate(fd.as_fd(), 100).unwrap().as_raw_fd() >= 100);
    }

    #[test]
    fn no_pidfd_of_nobody() {
        for pid in [-1, 0, 1] {
            assert_eq!(open_pidfd(pid).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        }
        assert!(open_pidfd(std::process::id() as i32).is_ok());
    }

    #[test]
    fn a_pipe_grows() {
        let (read, _write) = nix::unistd::pipe().unwrap();
        assert!(grow_pipe(&read, 1 << 18) >= 65536);
    }
}
