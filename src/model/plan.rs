//! `Plan`: all definitions in force, checked; and the difference between two of them.

use crate::model::launch::User;
use crate::model::name::{GroupName, ProgramName};
use crate::model::spec::{LaunchSpec, Policy, ProgramSpec};
use crate::model::units::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub daemon: DaemonSpec,
    pub programs: BTreeMap<ProgramName, Arc<ProgramSpec>>,
    /// Priorities of groups; a group that is not here has its program's.
    pub groups: BTreeMap<GroupName, i32>,
    /// Worth telling, but no reason to refuse: each a whole line with file and line.
    pub warnings: Vec<String>,
}

/// What a definition file says of the daemon itself. Paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DaemonSpec {
    /// Sockets, FIFOs, image; private (0700).
    pub runtime_dir: String,
    /// Where `stdout_logfile = "AUTO"` puts files.
    pub log_dir: String,
    /// Our own log; `None`: stderr.
    pub log_file: Option<String>,
    /// `error warn info debug trace`.
    pub log_level: String,
    pub socket: SocketSpec,
    /// Lines of every slot's output that are kept in memory, whatever the sinks.
    pub ring_lines: u32,
    /// What only a `supervisord.conf` says; `None` for a native file.
    pub supervisord: Option<SupervisordSpec>,
}

/// What a `supervisord.conf` says of the daemon, with Supervisor's defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisordSpec {
    /// `[unix_http_server…]` and `[inet_http_server…]`, in the order of the file.
    pub doors: Vec<DoorSpec>,
    pub log_file: String,
    pub log_max_bytes: Bytes,
    pub log_backups: u32,
    pub pid_file: String,
    pub identifier: String,
    pub nodaemon: bool,
    pub silent: bool,
    pub minfds: u64,
    pub minprocs: u64,
    pub nocleanup: bool,
    /// Where AUTO logs are made.
    pub child_log_dir: String,
    /// Applied only when the daemon goes into the background.
    pub umask: u32,
    pub directory: Option<String>,
    pub user: Option<User>,
}

/// One of Supervisor's HTTP servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DoorSpec {
    /// The section's name, for messages.
    pub section: String,
    pub at: DoorAt,
    /// User and password that a client must give; `None`: nobody is asked.
    pub login: Option<(String, Password)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DoorAt {
    Unix(SocketSpec),
    /// An empty host: all addresses, IPv4.
    Tcp {
        host: String,
        port: u16,
    },
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Password {
    Plain(String),
    /// `{SHA}` and lower-case hex of the SHA-1.
    Sha1(String),
}

impl SupervisordSpec {
    /// What `serverurl = AUTO` means, the address that workers are told: the first unix server, or else the last on TCP.
    pub fn server_url(&self) -> Option<String> {
        let unix = self.doors.iter().find_map(|door| match &door.at {
            DoorAt::Unix(socket) => Some(format!("unix://{}", socket.path)),
            DoorAt::Tcp { .. } => None,
        });
        unix.or_else(|| {
            self.doors.iter().rev().find_map(|door| match &door.at {
                DoorAt::Tcp { host, port } => Some(format!("http://{}:{port}", if host.is_empty() { "localhost" } else { host })),
                DoorAt::Unix(_) => None,
            })
        })
    }
}

/// Never shows the secret: plans are printed in messages and tests.
impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Password::Plain(_) => "Plain(…)",
            Password::Sha1(_) => "Sha1(…)",
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SocketSpec {
    pub path: String,
    pub mode: u32,
    /// Numeric owner and group to give the socket to; `None`: ours.
    pub owner: Option<(u32, u32)>,
}

/// What a reload does to one program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Added,
    Removed,
    /// Takes effect in place; the keys that differ.
    Policy(Vec<String>),
    /// Workers must be replaced; the keys that differ.
    Launch(Vec<String>),
}

impl Plan {
    /// What changes from this plan to `new`, by program; programs that stay as they are do not occur.
    pub fn diff(&self, new: &Plan) -> BTreeMap<ProgramName, Change> {
        let mut changes = BTreeMap::new();
        for (name, old) in &self.programs {
            match new.programs.get(name) {
                None => {
                    changes.insert(name.clone(), Change::Removed);
                }
                Some(new) => {
                    if let Some(change) = difference(old, new) {
                        changes.insert(name.clone(), change);
                    }
                }
            }
        }
        for name in new.programs.keys().filter(|name| !self.programs.contains_key(*name)) {
            changes.insert(name.clone(), Change::Added);
        }
        changes
    }
}

/// Names the fields of `$old` and `$new` that differ.
macro_rules! differing {
    ($into:ident, $old:expr, $new:expr, $($field:ident => $key:literal),+ $(,)?) => {
        $(if $old.$field != $new.$field { $into.push(String::from($key)); })+
    };
}

fn difference(old: &ProgramSpec, new: &ProgramSpec) -> Option<Change> {
    let mut launch = Vec::new();
    // A new group or process name is a new label in the worker's environment, so it counts as launch.
    differing!(launch, old, new, group => "group", process_name => "process_name", kind => "kind");
    // Destructured, so that a new field must be put in one of the lists.
    let LaunchSpec {
        command: _,
        environment: _,
        directory: _,
        user: _,
        umask: _,
        nice: _,
        oom_score_adj: _,
        no_new_privs: _,
        rlimits: _,
        session: _,
        stdin: _,
        redirect_stderr: _,
        server_url: _,
        lock: _,
        watchdog: _,
    } = &*new.launch;
    differing!(launch, old.launch, new.launch, command => "command", environment => "environment", directory => "directory", user => "user", umask => "umask",
        nice => "nice", oom_score_adj => "oom_score_adj", no_new_privs => "no_new_privs", rlimits => "rlimits", session => "session",
        stdin => "stdin", redirect_stderr => "redirect_stderr", server_url => "serverurl", lock => "singleton.lock", watchdog => "watchdog");
    let mut policy = Vec::new();
    differing!(policy, old.output, new.output, stdout => "stdout_logfile", stderr => "stderr_logfile", strip_ansi => "strip_ansi");
    let Policy {
        numprocs: _,
        numprocs_start: _,
        priority: _,
        autostart: _,
        autorestart: _,
        startsecs: _,
        startretries: _,
        exitcodes: _,
        restart_pause: _,
        stop: _,
        backoff: _,
        ready: _,
        recycle: _,
        jobs: _,
        scale: _,
    } = &new.policy;
    differing!(policy, old.policy, new.policy, numprocs => "numprocs", numprocs_start => "numprocs_start", priority => "priority", autostart => "autostart",
        autorestart => "autorestart", startsecs => "startsecs", startretries => "startretries", exitcodes => "exitcodes", restart_pause => "restart_pause",
        stop => "stopsignal", backoff => "backoff", ready => "ready", recycle => "recycle", jobs => "jobs", scale => "scale");
    if !launch.is_empty() {
        launch.extend(policy);
        Some(Change::Launch(launch))
    } else if !policy.is_empty() {
        Some(Change::Policy(policy))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::template::Template;

    fn plan(specs: &[ProgramSpec]) -> Plan {
        Plan { programs: specs.iter().map(|s| (s.name.clone(), Arc::new(s.clone()))).collect(), ..Plan::default() }
    }

    #[test]
    fn a_diff_tells_added_removed_policy_and_launch_apart() {
        let spec = |name: &str| ProgramSpec::new(name, vec![Template::text("true")]);
        let old = plan(&[spec("gone"), spec("same"), spec("rules"), spec("cmd")]);
        let mut rules = spec("rules");
        rules.policy.numprocs = 4;
        let mut cmd = spec("cmd");
        cmd.launch = Arc::new(LaunchSpec { command: vec![Template::text("false")], ..(*cmd.launch).clone() });
        cmd.policy.priority = 1;
        let new = plan(&[spec("same"), rules, cmd, spec("fresh")]);

        let diff = old.diff(&new);
        let of = |name: &str| diff.get(&ProgramName::new(name));
        assert_eq!(of("gone"), Some(&Change::Removed));
        assert_eq!(of("fresh"), Some(&Change::Added));
        assert_eq!(of("rules"), Some(&Change::Policy(vec!["numprocs".into()])));
        assert_eq!(of("cmd"), Some(&Change::Launch(vec!["command".into(), "priority".into()])));
        assert_eq!(of("same"), None);
    }
}
