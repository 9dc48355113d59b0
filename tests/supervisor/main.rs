//! What must be as it is in Supervisor: the same inputs to both, and the answers compared. `differences.md` lists where
//! they differ because we want it so.

#![allow(clippy::disallowed_methods, reason = "a test starts daemons and looks at the clock")]

mod conf;
mod supervisorctl;
mod xmlrpc;
