//! Going into the background, and becoming somebody else: what a daemon of the old school does before it begins.
//!
//! To be called while the process has one thread. Whoever started us waits until the daemon has said that it is up, or why
//! not: an init script that goes on may count on our socket. It is no spawn of a worker (`spawn`): our memory is copied, once.
#![allow(unsafe_code)]

use crate::model::launch::User;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

/// Which of the processes we are after `go`.
#[derive(Debug)]
pub enum Side {
    /// The one that was started; it ends with this code, having said this.
    Starter { code: i32, said: String },
    /// The daemon.
    Daemon(Herald),
}

/// Tells the starter how it went. Dropped without a word: it has failed.
#[derive(Debug)]
pub struct Herald(File);

impl Herald {
    pub fn is_up(mut self) {
        // A starter that has been killed meanwhile need not know.
        let _ = self.0.write_all(&[0]);
    }

    pub fn failed(mut self, code: u8, text: &str) {
        let _ = self.0.write_all(&[code]);
        let _ = self.0.write_all(text.as_bytes());
    }
}

/// Forks twice, with a session of its own in between, and puts `/dev/null` in place of 0, 1 and 2.
pub fn go() -> io::Result<Side> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    if fork()? {
        drop(write);
        return Ok(starter(read));
    }
    nix::unistd::setsid()?;
    if fork()? {
        leave();
    }
    let null = super::fds::dev_null()?;
    // Without close-on-exec: these three are inherited by nature.
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(Side::Daemon(Herald(File::from(write))))
}

fn starter(read: OwnedFd) -> Side {
    let mut said = Vec::new();
    let heard = File::from(read).read_to_end(&mut said);
    match (heard, said.split_first()) {
        (Ok(_), Some((code, text))) => Side::Starter { code: i32::from(*code), said: String::from_utf8_lossy(text).into_owned() },
        (Ok(_) | Err(_), _) => Side::Starter { code: 1, said: "the daemon ended before it was up".to_owned() },
    }
}

/// True in the parent.
fn fork() -> io::Result<bool> {
    // SAFETY: the process has one thread, so the child finds no lock taken and no structure half changed.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(false),
        _ => Ok(true),
    }
}

/// Ends the process in between, without running what belongs to the others.
fn leave() -> ! {
    // SAFETY: ends the process; nothing of it is needed by anybody.
    unsafe { libc::_exit(0) }
}

/// Becomes `user` for good, with all his groups. In words what is wrong, else.
pub fn become_user(user: &User) -> Result<(), String> {
    let we = Uid::current();
    if we.as_raw() == user.uid {
        return Ok(());
    }
    if !we.is_root() {
        return Err("Can't drop privilege as nonroot user".to_owned());
    }
    let says = |what: &'static str| move |errno: nix::Error| format!("cannot set the {what} of {}: {errno}", user.name);
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    nix::unistd::setgroups(&groups).map_err(says("groups"))?;
    nix::unistd::setgid(Gid::from_raw(user.gid)).map_err(says("group"))?;
    nix::unistd::setuid(Uid::from_raw(user.uid)).map_err(says("user"))
}

/// Which limit `at_least` raises.
#[derive(Clone, Copy, Debug)]
pub enum Least {
    Files,
    Processes,
}

/// Raises a soft limit to `least` (the hard one with it, where we may). `Ok(true)`: it was lower.
/// `Err`: the hard limit as it is.
pub fn at_least(which: Least, least: u64) -> Result<bool, u64> {
    let resource = match which {
        Least::Files => Resource::RLIMIT_NOFILE,
        Least::Processes => Resource::RLIMIT_NPROC,
    };
    let (soft, hard) = getrlimit(resource).map_err(|_| 0u64)?;
    if soft >= least {
        return Ok(false);
    }
    setrlimit(resource, least, hard.max(least)).map(|()| true).map_err(|_| hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starter_hears_what_the_daemon_says() {
        let heard = |speak: &dyn Fn(Herald)| {
            let (read, write) = nix::unistd::pipe().unwrap();
            speak(Herald(File::from(write)));
            match starter(read) {
                Side::Starter { code, said } => (code, said),
                Side::Daemon(_) => unreachable!("it is the starter's side"),
            }
        };
        assert_eq!(heard(&Herald::is_up), (0, String::new()));
        assert_eq!(heard(&|herald| herald.failed(2, "no socket")), (2, "no socket".to_owned()));
        assert_eq!(heard(&|herald| drop(herald)).0, 1);
    }

    #[test]
    fn a_limit_that_is_high_enough_is_left_alone() {
        assert_eq!(at_least(Least::Files, 1), Ok(false));
    }
}
