//! How a process ended: with a code, by a signal, or so that nobody can tell.

use crate::model::signal::Signal;
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    Code(i32),
    Signal(Signal),
    /// Adopted after our own death on a kernel that does not tell: neither success nor failure.
    Unknown,
}

/// `exited 255`, `killed by SIGKILL`, `ended, exit unknown`.
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exited {code}"),
            Exit::Signal(signal) => write!(f, "killed by {signal}"),
            Exit::Unknown => f.write_str("ended, exit unknown"),
        }
    }
}
