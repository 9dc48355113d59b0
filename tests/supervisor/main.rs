//! What must be as it is in Supervisor: the same inputs to both, and the answers compared. `differences.md` lists where
//! they differ because we want it so.

mod conf;
mod supervisorctl;
mod xmlrpc;
