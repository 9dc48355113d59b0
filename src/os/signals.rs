//! The signals sent to us, through one self-pipe.
//!
//! A handler may do next to nothing, so it writes one small record (which signal, from whom) into a pipe, and the main loop
//! reads it when it comes round. Children end by the thousand: SIGCHLD has at most one record in the pipe at a time, so that
//! no flood of exits can crowd out a SIGTERM. SIGPIPE stays ignored in us, as Rust's runtime sets it.
#![allow(unsafe_code)]

use crate::model::signal::Signal;
use nix::fcntl::OFlag;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::unix::pipe;

/// A signal that came, and who sent it where the kernel says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    pub signal: Signal,
    /// pid and uid of the sender; `None` if it was the kernel (a terminal's ^C, a child's end).
    pub from: Option<(i32, u32)>,
}

/// The receiving end. One per process; it stays installed until the process ends.
#[derive(Debug)]
pub struct Signals {
    pipe: pipe::Receiver,
    child_pending: Arc<AtomicBool>,
}

impl Signals {
    /// Catches CHLD, TERM, INT, QUIT, HUP, USR1 and USR2 from now on. Must be called within the runtime that will `recv`.
    pub fn install() -> io::Result<Signals> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let write = Arc::new(write);
        let child_pending = Arc::new(AtomicBool::new(false));
        for number in CAUGHT {
            let (write, child_pending) = (write.clone(), child_pending.clone());
            let handler = move |info: &libc::siginfo_t| on_signal(number, info, &write, &child_pending);
            // SAFETY: the handler uses an atomic and write(2) only, and gives errno back as it found it; both are allowed in
            // a signal handler. What it holds is dropped never, since it stays registered.
            unsafe { signal_hook_registry::register_sigaction(number, handler) }?;
        }
        Ok(Signals { pipe: pipe::Receiver::from_owned_fd(read)?, child_pending })
    }

    /// Waits until something has come, and gives all that has come. May be given up at any await: nothing is lost.
    pub async fn recv(&mut self) -> Vec<Caught> {
        loop {
            // The pipe's other end is ours for ever, so this fails only if the runtime goes away; then nothing comes any more.
            if self.pipe.readable().await.is_err() {
                std::future::pending::<()>().await;
            }
            let caught = self.pending();
            if !caught.is_empty() {
                return caught;
            }
        }
    }

    /// What has come by now, without waiting.
    pub fn pending(&mut self) -> Vec<Caught> {
        let mut caught = Vec::new();
        // A whole number of records: writes of less than PIPE_BUF are never split.
        let mut buffer = [0; RECORD * 64];
        while let Ok(n @ 1..) = self.pipe.try_read(&mut buffer) {
            for record in buffer[..n].chunks_exact(RECORD) {
                let word = |i: usize| i32::from_ne_bytes([record[i], record[i + 1], record[i + 2], record[i + 3]]);
                let (number, pid, uid) = (word(0), word(4), word(8));
                if number == libc::SIGCHLD {
                    // Before the caller reaps: a child that ends from here on makes a new record.
                    self.child_pending.store(false, Ordering::SeqCst);
                }
                if let Some(signal) = Signal::from_number(number) {
                    caught.push(Caught { signal, from: (pid > 0).then_some((pid, uid as u32)) });
                }
            }
            if n < buffer.len() {
                break;
            }
        }
        caught
    }
}

/// Runs in the signal handler.
fn on_signal(number: i32, info: &libc::siginfo_t, write: &OwnedFd, child_pending: &AtomicBool) {
    if number == libc::SIGCHLD && child_pending.swap(true, Ordering::SeqCst) {
        return;
    }
    // si_code > 0 is the kernel's own doing (CLD_EXITED, SI_KERNEL); only kill, tgkill and sigqueue tell of a sender.
    let (pid, uid) = match info.si_code {
        // SAFETY: for these codes the kernel fills in the sender (sigaction(2)).
        libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL => unsafe { (info.si_pid(), info.si_uid()) },
        _ => (0, 0),
    };
    let mut record = [0u8; RECORD];
    record[..4].copy_from_slice(&number.to_ne_bytes());
    record[4..8].copy_from_slice(&pid.to_ne_bytes());
    record[8..].copy_from_slice(&uid.to_ne_bytes());
    // SAFETY: plain system call on memory of this frame. errno belongs to whatever was interrupted, and is put back. If the
    // pipe is full (5,000 unread signals), the one too many is lost, as merged signals are.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(write.as_raw_fd(), record.as_ptr().cast(), RECORD);
        *libc::__errno_location() = errno;
    }
}

const CAUGHT: [i32; 7] = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];

const RECORD: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_signal_comes_with_its_sender_and_child_ends_merge() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut signals = Signals::install().unwrap();
            let me = nix::unistd::getpid();
            for _ in 0..3 {
                nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGUSR1).unwrap();
                nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGCHLD).unwrap();
            }
            let mut caught = Vec::new();
            while !caught.iter().any(|c: &Caught| c.signal == Signal::USR1) {
                caught.extend(tokio::time::timeout(Duration::from_secs(10), signals.recv()).await.expect("the signal comes"));
            }
            let usr1 = caught.iter().find(|c| c.signal == Signal::USR1).unwrap();
            assert_eq!(usr1.from, Some((me.as_raw(), nix::unistd::getuid().as_raw())));
            assert!(caught.iter().filter(|c| c.signal.number() == libc::SIGCHLD).count() <= 2, "{caught:?}");
            // A later one is told again.
            signals.pending();
            nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGCHLD).unwrap();
            let again = tokio::time::timeout(Duration::from_secs(10), signals.recv()).await.expect("the signal comes");
            assert_eq!(again[0].signal.number(), libc::SIGCHLD);
        });
    }
}
