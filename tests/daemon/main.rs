//! A real daemon in a temporary directory: the seams (fork, signals, sockets, files), a file per situation.

#![allow(clippy::disallowed_methods, reason = "a test starts daemons and looks at the clock")]

mod harness;

mod clients;
mod hostile;
mod identity;
mod logs;
mod notify;
mod pid1;
mod recycle;
mod reload;
mod restart;
mod scale;
mod shutdown;
mod singleton;
mod stop;
mod supervisord;
