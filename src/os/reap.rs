//! The one place that waits.
//!
//! SIGCHLDs merge: one may stand for many children. So one call takes what has ended until nothing is left, but never more
//! than a turn's worth, and says if there may be more. Orphans that we inherited are taken like our own.
#![allow(unsafe_code)]

use crate::model::exit::Exit;
use crate::model::signal::Signal;

/// A child whose pid is free now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    pub pid: i32,
    pub exit: Exit,
}

/// Reaps at most `limit` children that have ended; never waits. `true`: there may be more.
pub fn reap(limit: usize) -> (Vec<Reaped>, bool) {
    let mut reaped = Vec::new();
    while reaped.len() < limit {
        match wait(-1, libc::WNOHANG) {
            Some(child) => reaped.push(child),
            None => return (reaped, false),
        }
    }
    (reaped, true)
}

/// Waits for a child that could not become a worker and has already ended, or is about to.
pub(super) fn collect(pid: i32) -> Option<Reaped> {
    wait(pid, 0)
}

/// `None`: no such child, or none that has ended.
fn wait(pid: i32, options: i32) -> Option<Reaped> {
    // libc and not nix: nix fails after the fact for a death by a real-time signal, and the status would be lost.
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours and lives through the call.
        match unsafe { libc::waitpid(pid, &raw mut status, options) } {
            0 => return None,
            -1 if std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            -1 => return None,
            pid => return Some(Reaped { pid, exit: exit_of(status) }),
        }
    }
}

/// A wait status in our words.
pub fn exit_of(status: i32) -> Exit {
    if libc::WIFEXITED(status) {
        Exit::Code(libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) {
        Signal::from_number(libc::WTERMSIG(status)).map_or(Exit::Unknown, Exit::Signal)
    } else {
        // Stopped or continued: not asked for.
        Exit::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_read_as_exits() {
        assert_eq!(exit_of(0), Exit::Code(0));
        assert_eq!(exit_of(255 << 8), Exit::Code(255));
        assert_eq!(exit_of(9), Exit::Signal(Signal::KILL));
        assert_eq!(exit_of(15 | 0x80), Exit::Signal(Signal::TERM), "with a core dump");
        assert_eq!(exit_of(35).to_string(), "killed by signal 35");
    }
}
