//! HANDS: everything the kernel does for us. Nothing here decides.
//!
//! One file for one thing that may go wrong in one way: a fork lives in `spawn` (and `child`, its other side), a wait
//! in `reap`, the clock in `clock`. Rooms above say *what*; why the kernel wants it so is told here.
//!
//! It is not the policy: who is started, stopped or measured, and when, is the engine's word.

pub mod background;
pub mod child;
pub mod clock;
pub mod fds;
pub mod fifo;
pub mod heap;
pub mod host;
pub mod kill;
pub mod listen;
pub mod meter;
pub mod notify;
pub mod reap;
pub mod runtime_dir;
pub mod signals;
pub mod spawn;
pub mod systemd;
pub mod tree;
