//! Supervisor's state codes and fault codes; they occur nowhere else.

use crate::model::command::Refusal;
use crate::model::state::State;
use std::fmt;

/// What a call may fail with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    UnknownMethod = 1,
    IncorrectParameters = 2,
    BadArguments = 3,
    SignatureUnsupported = 4,
    ShutdownState = 6,
    BadName = 10,
    BadSignal = 11,
    NoFile = 20,
    NotExecutable = 21,
    Failed = 30,
    AbnormalTermination = 40,
    SpawnError = 50,
    AlreadyStarted = 60,
    NotRunning = 70,
    AlreadyAdded = 90,
    StillRunning = 91,
    CantReread = 92,
}

/// The status of a process for which all went well, in the results for groups.
pub const SUCCESS: i64 = 80;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: Code,
    detail: Option<String>,
}

impl Fault {
    pub fn new(code: Code, detail: impl Into<String>) -> Fault {
        Fault { code, detail: Some(detail.into()) }
    }

    pub fn number(&self) -> i64 {
        self.code as i64
    }

    /// What it is about, without the name of the fault.
    pub fn detail(self) -> Option<String> {
        self.detail
    }

    /// What the engine's refusal of a wish about `name` is called here. What Supervisor has no number for is FAILED, in our words.
    pub fn of(refusal: &Refusal, name: &str) -> Fault {
        match refusal {
            Refusal::NoSuch { .. } => Fault::new(Code::BadName, name),
            Refusal::AlreadyStarted => Fault::new(Code::AlreadyStarted, name),
            Refusal::NotRunning => Fault::new(Code::NotRunning, name),
            Refusal::BadConfig { faults } => Fault::new(Code::CantReread, faults.join("\n")),
            Refusal::ShuttingDown => Fault::from(Code::ShutdownState),
            Refusal::AlreadyAdded { .. } => Fault::new(Code::AlreadyAdded, name),
            Refusal::StillRunning { .. } => Fault::new(Code::StillRunning, name),
            Refusal::NoStdin => Fault::new(Code::NoFile, name),
            Refusal::OutOfBounds { .. } | Refusal::Busy { .. } | Refusal::NotAllowed { .. } | Refusal::Malformed { .. } => {
                Fault::new(Code::Failed, refusal.to_string())
            }
        }
    }
}

impl From<Code> for Fault {
    fn from(code: Code) -> Fault {
        Fault { code, detail: None }
    }
}

/// As `faultString` has it: the name, and what it is about.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.code {
            Code::UnknownMethod => "UNKNOWN_METHOD",
            Code::IncorrectParameters => "INCORRECT_PARAMETERS",
            Code::BadArguments => "BAD_ARGUMENTS",
            Code::SignatureUnsupported => "SIGNATURE_UNSUPPORTED",
            Code::ShutdownState => "SHUTDOWN_STATE",
            Code::BadName => "BAD_NAME",
            Code::BadSignal => "BAD_SIGNAL",
            Code::NoFile => "NO_FILE",
            Code::NotExecutable => "NOT_EXECUTABLE",
            Code::Failed => "FAILED",
            Code::AbnormalTermination => "ABNORMAL_TERMINATION",
            Code::SpawnError => "SPAWN_ERROR",
            Code::AlreadyStarted => "ALREADY_STARTED",
            Code::NotRunning => "NOT_RUNNING",
            Code::AlreadyAdded => "ALREADY_ADDED",
            Code::StillRunning => "STILL_RUNNING",
            Code::CantReread => "CANT_REREAD",
        })?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// A state as old clients know it: number and name. WAITING (for a lock) they do not know; it shows as BACKOFF, which also
/// means that the next try comes by itself, and its reason stands in `spawnerr`.
pub fn state(state: State) -> (i64, &'static str) {
    match state {
        State::Stopped => (0, "STOPPED"),
        State::Launching | State::Starting => (10, "STARTING"),
        State::Running => (20, "RUNNING"),
        State::Backoff | State::Waiting => (30, "BACKOFF"),
        State::Stopping | State::Clearing => (40, "STOPPING"),
        State::Exited => (100, "EXITED"),
        State::Fatal => (200, "FATAL"),
    }
}

/// What Supervisor counts as running: what can be stopped and not be started.
pub fn is_running(state: State) -> bool {
    match state {
        State::Launching | State::Starting | State::Running | State::Backoff | State::Waiting => true,
        State::Stopped | State::Stopping | State::Clearing | State::Exited | State::Fatal => false,
    }
}

/// What can be signalled.
pub fn is_signallable(state: State) -> bool {
    match state {
        State::Launching | State::Starting | State::Running | State::Stopping | State::Clearing => true,
        State::Stopped | State::Waiting | State::Backoff | State::Exited | State::Fatal => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_read_as_supervisors() {
        let fault = Fault::new(Code::BadName, "nope:x");
        assert_eq!((fault.number(), fault.to_string().as_str()), (10, "BAD_NAME: nope:x"));
        assert_eq!(Fault::from(Code::ShutdownState).to_string(), "SHUTDOWN_STATE");
        let busy = Refusal::Busy { with: "a reload".into() };
        assert_eq!(Fault::of(&busy, "x").to_string(), "FAILED: busy with a reload");
    }
}
