//! inotify as something to wait for. Apart, because registering a descriptor with tokio takes a promise that the compiler
//! cannot check; which files are watched and what a ring means is `follow`'s business.

#![allow(unsafe_code)]

use nix::sys::inotify::{InitFlags, Inotify};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An inotify instance, non-blocking.
#[derive(Debug)]
pub struct Bell(Inotify);

impl Bell {
    pub fn new() -> io::Result<Bell> {
        Ok(Bell(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?))
    }

    pub fn inotify(&self) -> &Inotify {
        &self.0
    }

    /// Registers it with the runtime that we are in.
    pub fn watched(self) -> io::Result<AsyncFd<Bell>> {
        // SAFETY: `Inotify` owns its descriptor from `init` until it is dropped and never exchanges it, and nothing of ours can:
        // it is private here and only lent. The AsyncFd owns it.
        unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }.map_err(|fault| fault.into_parts().1)
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
