//! A `Notice` as the line that Supervisor would write: scripts and tests match these words.
//!
//! Pure. Supervisor names a process without its group. What Supervisor has no word for is told in ours.

use crate::model::exit::Exit;
use crate::model::notice::{Notice, What, Why};
use crate::model::plan::{Plan, SupervisordSpec};
use crate::model::signal::Signal;
use crate::model::spec::Policy;
use crate::model::state::State;

/// Supervisor's levels that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Blather,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

/// The line for a notice, without time and level; `None`: Supervisor says nothing. `plan`: the definitions in force.
pub fn line(notice: &Notice, plan: &Plan) -> Option<(Level, String)> {
    // `group:process`; a name may not hold a colon.
    let name = notice.about.rsplit(':').next().unwrap_or(&notice.about);
    let policy = notice.slot.as_ref().and_then(|slot| plan.programs.get(&slot.program)).map(|spec| &spec.policy);
    match &notice.what {
        What::Spawned { pid, .. } => Some((Level::Info, format!("spawned: '{name}' with pid {pid}"))),
        What::SpawnFailed { text } => Some((Level::Info, format!("spawnerr: {text}"))),
        What::State { to: State::Running, .. } => {
            let secs = startsecs(policy);
            let text = format!("success: {name} entered RUNNING state, process has stayed up for > than {secs} seconds (startsecs)");
            Some((Level::Info, text))
        }
        What::State { to: State::Fatal, .. } => {
            Some((Level::Info, format!("gave up: {name} entered FATAL state, too many start retries too quickly")))
        }
        What::State { from, to: State::Stopping, .. } if *from != State::Stopping => {
            Some((Level::Info, format!("waiting for {name} to stop")))
        }
        What::State { to: State::Waiting, reason, .. } => Some((Level::Info, format!("{name} waits for its lock: {reason}"))),
        What::State { .. } => None,
        What::Ended { exit, why, .. } => Some(ended(name, *exit, *why, policy)),
        What::Signalled { pid, signal, reason } if reason.starts_with("asked for") => {
            Some((Level::Debug, format!("sending {name} (pid {pid}) sig {signal}")))
        }
        What::Signalled { pid, signal: Signal::KILL, .. } => Some((Level::Warn, format!("killing '{name}' ({pid}) with SIGKILL"))),
        What::Signalled { .. } => Some((Level::Debug, notice.to_string())),
        What::Asked { .. } => Some((Level::Debug, notice.to_string())),
        What::LoadFailed { .. } | What::Trouble { .. } => Some((Level::Error, notice.to_string())),
        What::LogTrouble { .. } | What::Leftovers { .. } => Some((Level::Warn, notice.to_string())),
        What::GroupAdded { .. } | What::GroupRemoved { .. } | What::Loaded { .. } | What::Remote { .. } => {
            Some((Level::Debug, notice.to_string()))
        }
        What::Due { .. } | What::Scaled { .. } | What::Rolling { .. } | What::LogHealed { .. } | What::Daemon { .. } => {
            Some((Level::Info, notice.to_string()))
        }
    }
}

/// An end is `stopped` if we asked for it; else `exited`.
fn ended(name: &str, exit: Exit, why: Why, policy: Option<&Policy>) -> (Level, String) {
    let how = match exit {
        Exit::Code(code) => format!("exit status {code}"),
        Exit::Signal(signal) => format!("terminated by {signal}"),
        Exit::Unknown => "exit status unknown".to_owned(),
    };
    match why {
        Why::Finished if exit != Exit::Unknown => (Level::Info, format!("exited: {name} ({how}; expected)")),
        Why::Finished | Why::Crash => (Level::Warn, format!("exited: {name} ({how}; not expected)")),
        Why::Jobs
        | Why::Memory
        | Why::Lifetime
        | Why::Watchdog
        | Why::JobTimeout
        | Why::NotReady
        | Why::Manual
        | Why::Scale
        | Why::Deploy
        | Why::Removed
        | Why::Shutdown => {
            let expected = match exit {
                Exit::Code(code) => policy.map_or(code == 0, |policy| policy.exitcodes.contains(&code)),
                Exit::Signal(_) | Exit::Unknown => false,
            };
            (if expected { Level::Info } else { Level::Warn }, format!("stopped: {name} ({how})"))
        }
    }
}

/// Whole seconds as Supervisor has them; ours may be parts of one.
fn startsecs(policy: Option<&Policy>) -> String {
    let span = policy.map_or(1000, |policy| policy.startsecs.0);
    if span.is_multiple_of(1000) { (span / 1000).to_string() } else { (span as f64 / 1000.0).to_string() }
}

/// A signal that asks us to go, or to begin anew, or to open the logs again.
pub fn received(signal: Signal, shutting_down: bool) -> Option<(Level, String)> {
    match signal {
        Signal::TERM | Signal::INT | Signal::QUIT => Some((Level::Warn, format!("received {signal} indicating exit request"))),
        Signal::HUP if shutting_down => Some((Level::Warn, format!("ignored {signal} indicating restart request (shutdown in progress)"))),
        Signal::HUP => Some((Level::Warn, format!("received {signal} indicating restart request"))),
        Signal::USR2 => Some((Level::Info, format!("received {signal} indicating log reopen request"))),
        _ => None,
    }
}

/// Told when everything begins to stop. `None`: there is nothing to wait for.
pub fn waiting_for(processes: &[&str]) -> Option<(Level, String)> {
    (!processes.is_empty()).then(|| (Level::Info, format!("waiting for {} to die", processes.join(", "))))
}

/// What is wrong with how we were set up, in Supervisor's words.
pub fn criticals(spec: &SupervisordSpec, root: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if root && spec.user.is_none() {
        lines.push(AS_ROOT.to_owned());
    }
    for door in spec.doors.iter().filter(|door| door.login.is_none()) {
        lines.push(format!("Server '{}' running without any HTTP authentication checking", door.section));
    }
    lines
}

const AS_ROOT: &str = "Supervisor is running as root.  Privileges were not dropped because no user is specified in the config file.  If \
you intend to run as root, you can set user=root in the config file to avoid this message.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::{ProgramName, RunId, SlotId};
    use crate::model::spec::ProgramSpec;
    use crate::model::template::Template;
    use crate::model::time::{Span, Stamp};
    use std::sync::Arc;

    fn told(what: What) -> Option<(Level, String)> {
        let mut spec = ProgramSpec::new("cat", vec![Template::text("cat")]);
        spec.policy.exitcodes = vec![0, 2];
        spec.policy.startsecs = Span::secs(10);
        let plan = Plan { programs: [(spec.name.clone(), Arc::new(spec))].into(), ..Plan::default() };
        let slot = Some(SlotId::new(&ProgramName::new("cat"), 0));
        line(&Notice { seq: 1, at: Stamp(0), about: "pets:cat_00".into(), slot, what }, &plan)
    }

    fn state(from: State, to: State) -> Option<(Level, String)> {
        told(What::State { from, to, reason: "r".into(), pid: None, run: None, tries: 0 })
    }

    fn end(exit: Exit, why: Why) -> Option<(Level, String)> {
        told(What::Ended { pid: 7, run: RunId(1), exit, lived: Span(1), why, jobs: 0 })
    }

    fn says(level: Level, text: &str) -> Option<(Level, String)> {
        Some((level, text.to_owned()))
    }

    #[test]
    fn a_life_is_told_in_supervisors_words() {
        assert_eq!(told(What::Spawned { pid: 42, run: RunId(1) }), says(Level::Info, "spawned: 'cat_00' with pid 42"));
        assert_eq!(told(What::SpawnFailed { text: "can't".into() }), says(Level::Info, "spawnerr: can't"));
        assert_eq!(
            state(State::Starting, State::Running),
            says(Level::Info, "success: cat_00 entered RUNNING state, process has stayed up for > than 10 seconds (startsecs)")
        );
        assert_eq!(
            state(State::Backoff, State::Fatal),
            says(Level::Info, "gave up: cat_00 entered FATAL state, too many start retries too quickly")
        );
        assert_eq!(state(State::Running, State::Stopping), says(Level::Info, "waiting for cat_00 to stop"));
        for silent in [State::Stopped, State::Launching, State::Starting, State::Backoff, State::Exited] {
            assert_eq!(state(State::Running, silent), None, "{silent:?}");
        }
        let killed = What::Signalled { pid: 7, signal: Signal::KILL, reason: "did not stop within 10 s".into() };
        assert_eq!(told(killed), says(Level::Warn, "killing 'cat_00' (7) with SIGKILL"));
        let sent = What::Signalled { pid: 7, signal: Signal::USR1, reason: "asked for by root".into() };
        assert_eq!(told(sent), says(Level::Debug, "sending cat_00 (pid 7) sig SIGUSR1"));
    }

    #[test]
    fn an_end_says_whether_it_was_asked_for_or_expected() {
        let kill = Exit::Signal(Signal::KILL);
        assert_eq!(end(Exit::Code(2), Why::Finished), says(Level::Info, "exited: cat_00 (exit status 2; expected)"));
        assert_eq!(end(Exit::Code(0), Why::Crash), says(Level::Warn, "exited: cat_00 (exit status 0; not expected)"));
        assert_eq!(end(kill, Why::Crash), says(Level::Warn, "exited: cat_00 (terminated by SIGKILL; not expected)"));
        assert_eq!(end(Exit::Code(0), Why::Manual), says(Level::Info, "stopped: cat_00 (exit status 0)"));
        assert_eq!(end(Exit::Code(1), Why::Shutdown), says(Level::Warn, "stopped: cat_00 (exit status 1)"));
        assert_eq!(end(Exit::Signal(Signal::TERM), Why::Manual), says(Level::Warn, "stopped: cat_00 (terminated by SIGTERM)"));
    }

    #[test]
    fn signals_to_us_are_told() {
        assert_eq!(received(Signal::TERM, false), says(Level::Warn, "received SIGTERM indicating exit request"));
        assert_eq!(received(Signal::HUP, false), says(Level::Warn, "received SIGHUP indicating restart request"));
        assert_eq!(received(Signal::HUP, true), says(Level::Warn, "ignored SIGHUP indicating restart request (shutdown in progress)"));
        assert_eq!(received(Signal::USR2, false), says(Level::Info, "received SIGUSR2 indicating log reopen request"));
        assert_eq!(waiting_for(&["a", "b"]), says(Level::Info, "waiting for a, b to die"));
        assert_eq!(waiting_for(&[]), None);
    }
}
