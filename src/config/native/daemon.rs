//! `[daemon]` and `[server]`: the daemon's own affairs, and the one home of their defaults.

use crate::config::Surroundings;
use crate::config::error::{ConfigError, Fault, Report};
use crate::config::expand::{Names, Word};
use crate::config::native::table::{Entry, Layers};
use crate::config::native::values;
use crate::config::origin::{Origin, Place};
use crate::model::plan::{DaemonSpec, SocketSpec};
use std::sync::Arc;

pub const DAEMON_KEYS: [&str; 5] = ["log_dir", "log_file", "log_level", "ring_lines", "runtime_dir"];
pub const SERVER_KEYS: [&str; 3] = ["mode", "owner", "socket"];

/// What the kernel's `sun_path` holds, less the NUL at its end.
const LONGEST_SOCKET_PATH: usize = 107;

/// What the daemon does where no file says otherwise: system directories for root, the user's own for others.
fn defaults(around: &Surroundings<'_>) -> DaemonSpec {
    let state = format!("{}/.local/state/ganger", around.home.trim_end_matches('/'));
    let (runtime_dir, log_dir) = match around.env.get("XDG_RUNTIME_DIR") {
        _ if around.uid == 0 => (String::from("/run/ganger"), String::from("/var/log/ganger")),
        // A relative one is to be ignored, says the XDG specification.
        Some(run) if run.starts_with('/') => (format!("{}/ganger", run.trim_end_matches('/')), format!("{state}/log")),
        Some(_) | None => (format!("{state}/run"), format!("{state}/log")),
    };
    let socket = SocketSpec { path: String::new(), mode: 0o660, owner: None };
    DaemonSpec { runtime_dir, log_dir, log_file: None, log_level: String::from("info"), socket, ring_lines: 1000, supervisord: None }
}

/// Reads both tables.
pub fn read(daemon: &Layers<'_>, server: &Layers<'_>, around: &Surroundings<'_>, report: &mut Report) -> DaemonSpec {
    let names = Names::new(around.env).with("host_node_name", Word::Text(around.hostname.to_owned()));
    let path = |entry: &Entry<'_>| values::fixed_path(entry, &names, around);
    let mut spec = defaults(around);

    daemon.reject_unknown(report, &DAEMON_KEYS, |key| SERVER_KEYS.contains(&key).then(|| String::from("it belongs in [server]")));
    daemon.set(report, "runtime_dir", &mut spec.runtime_dir, path);
    daemon.set(report, "log_dir", &mut spec.log_dir, path);
    daemon.set_some(report, "log_file", &mut spec.log_file, path);
    let levels = ["error", "warn", "info", "debug", "trace"].map(|level| (level, level));
    if let Some(level) = daemon.read(report, "log_level", values::choice(&levels)) {
        spec.log_level = level.to_owned();
    }
    daemon.set(report, "ring_lines", &mut spec.ring_lines, values::whole(0..=100_000));

    server.reject_unknown(report, &SERVER_KEYS, |key| DAEMON_KEYS.contains(&key).then(|| String::from("it belongs in [daemon]")));
    spec.socket.path = format!("{}/ganger.sock", spec.runtime_dir.trim_end_matches('/'));
    server.set(report, "socket", &mut spec.socket.path, path);
    server.set(report, "mode", &mut spec.socket.mode, values::octal);
    server.set_some(report, "owner", &mut spec.socket.owner, |entry| owner(entry, &names, around));
    if spec.socket.path.len() > LONGEST_SOCKET_PATH {
        let length = spec.socket.path.len();
        let why = format!("the socket's path has {length} bytes, the kernel takes {LONGEST_SOCKET_PATH} at most: {}", spec.socket.path);
        let mend = Some("name a shorter one in server.socket");
        // Without either key it is our own default that is too long: a very long home.
        match server.find("socket").or_else(|| daemon.find("runtime_dir")) {
            Some(entry) => report.add(entry.conflict(&why, mend)),
            None => report.add(around_too_long(&why, mend)),
        }
    }
    spec
}

/// No file is at fault, so none is named.
fn around_too_long(why: &str, mend: Option<&str>) -> ConfigError {
    let origin = Arc::new(Origin { rank: 0, file: String::from("defaults"), directory: String::from("/") });
    let fault = Fault::Conflict { why: why.to_owned() };
    ConfigError { place: Place::whole(&origin), key: String::from("server.socket"), fault, mend: mend.map(str::to_owned) }
}

fn owner(entry: &Entry<'_>, names: &Names<'_>, around: &Surroundings<'_>) -> Result<(u32, u32), ConfigError> {
    let expected = "a user, or \"user:group\"";
    let name = values::template(entry, names, expected)?.render(0);
    match (around.users)(&name) {
        Ok(Some(user)) => Ok((user.uid, user.gid)),
        Ok(None) => Err(entry.wrong(&format!("{expected}, that this system knows"))),
        Err(why) => Err(entry.conflict(&format!("user \"{name}\" cannot be looked up: {why}"), None)),
    }
}
