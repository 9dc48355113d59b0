//! What one start needs, with nothing left open: a `ProgramSpec` rendered for one slot.

use crate::model::name::{GroupName, SlotId};
use crate::model::spec::{Kind, LaunchSpec};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A start of one slot, ready for the hands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    pub slot: SlotId,
    /// Whether its standard input and output are something of their own.
    pub kind: Kind,
    pub group: GroupName,
    /// The process's name within its group (`mailer_03`).
    pub process: String,
    /// Program and arguments. Without a `/` the program is searched in the PATH that the worker gets.
    pub argv: Vec<String>,
    /// Set over the daemon's own environment; the hands add `GANGER_*`, `NOTIFY_SOCKET` and the user's HOME.
    pub environment: Vec<(String, String)>,
    pub directory: Option<String>,
    pub lock: Option<Lock>,
    /// What does not differ from slot to slot.
    pub common: Arc<LaunchSpec>,
}

impl Launch {
    /// `group:process`, or one word where they are equal.
    pub fn label(&self) -> String {
        crate::model::name::label(self.group.as_str(), &self.process)
    }
}

/// A lock that one worker at a time may hold, on this host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lock {
    /// A bound TCP port on the loopback address of the worker's uid: the very address of Tim Kay's `solo`.
    Port(u16),
    /// An flock on this file, which is made if it is not there.
    File(String),
    /// A bare name: an flock on a file of that name in the host's lock directory.
    Name(String),
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lock::Port(port) => write!(f, "port:{port}"),
            Lock::File(path) => write!(f, "file:{path}"),
            Lock::Name(name) => f.write_str(name),
        }
    }
}

/// A user as the system knew him when the config was read: looked up then, because name services may block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// All groups, supplementary ones included.
    pub groups: Vec<u32>,
    pub home: String,
    pub shell: String,
}

/// Why a worker could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnFault {
    /// The step between "start" and "runs" that failed.
    pub step: SpawnStep,
    /// A sentence fragment that fits after "cannot start mailer:mailer_03: ", names the thing and a way out:
    /// `./worker.php: permission denied (user "www"); is the file executable?`
    pub text: String,
}

impl SpawnFault {
    /// True where the daemon or the host lacks something (descriptors, processes, memory), whatever the program is.
    pub fn is_ours(&self) -> bool {
        match self.step {
            SpawnStep::Wire | SpawnStep::Fork => true,
            SpawnStep::Find
            | SpawnStep::Lock
            | SpawnStep::Session
            | SpawnStep::Rlimit
            | SpawnStep::Nice
            | SpawnStep::OomScore
            | SpawnStep::User
            | SpawnStep::NoNewPrivs
            | SpawnStep::Chdir
            | SpawnStep::Descriptors
            | SpawnStep::Exec => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpawnStep {
    /// The program was not found in PATH, or is no file.
    Find,
    /// Pipes, FIFOs, sockets, descriptors (EMFILE and the like).
    Wire,
    /// The lock could not even be tried (bad path, no permission). "Held elsewhere" is no fault.
    Lock,
    /// clone itself: EAGAIN, ENOMEM. It passes.
    Fork,
    Session,
    Rlimit,
    Nice,
    OomScore,
    User,
    NoNewPrivs,
    Chdir,
    Descriptors,
    Exec,
}

impl fmt::Display for SpawnStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SpawnStep::Find => "find",
            SpawnStep::Wire => "wire",
            SpawnStep::Lock => "lock",
            SpawnStep::Fork => "fork",
            SpawnStep::Session => "session",
            SpawnStep::Rlimit => "rlimit",
            SpawnStep::Nice => "nice",
            SpawnStep::OomScore => "oom_score_adj",
            SpawnStep::User => "user",
            SpawnStep::NoNewPrivs => "no_new_privs",
            SpawnStep::Chdir => "chdir",
            SpawnStep::Descriptors => "descriptors",
            SpawnStep::Exec => "exec",
        })
    }
}
