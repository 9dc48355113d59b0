//! `[supervisord]` and the `[unix_http_server…]` and `[inet_http_server…]` sections: the daemon's own affairs.
//!
//! Relative paths belong to the working directory, as they do to Supervisor, not to the file.

use crate::config::Surroundings;
use crate::config::error::{ConfigError, Fault, Report};
use crate::config::expand::{Names, Word};
use crate::config::ini::{Ini, Section};
use crate::config::native::table::{Entry, Layers};
use crate::config::origin::Place;
use crate::config::supervisord::environment;
use crate::config::supervisord::values;
use crate::model::launch::User;
use crate::model::plan::{DaemonSpec, DoorAt, DoorSpec, Password, SocketSpec, SupervisordSpec};
use crate::model::template::Template;
use crate::model::units::Bytes;
use std::path::Path;

pub const SUPERVISORD_KEYS: [&str; 20] = [
    "childlogdir",
    "directory",
    "environment",
    "identifier",
    "logfile",
    "logfile_backups",
    "logfile_maxbytes",
    "loglevel",
    "minfds",
    "minprocs",
    "nocleanup",
    "nodaemon",
    "pidfile",
    "profile_options",
    "silent",
    "strip_ansi",
    "umask",
    "user",
    // Ours.
    "ring_lines",
    "runtime_dir",
];
pub const UNIX_KEYS: [&str; 5] = ["chmod", "chown", "file", "password", "username"];
pub const INET_KEYS: [&str; 3] = ["password", "port", "username"];

/// What the kernel's `sun_path` holds, less the NUL at its end.
const LONGEST_SOCKET_PATH: usize = 107;

/// So that a worker's socket in it, `notify/NAME.NUMBER`, has room for a name as well.
const LONGEST_RUNTIME_DIR: usize = 64;

/// What the programs need of it.
pub struct Base<'e> {
    /// `here`, the environment and the host's name; with the variables of `[supervisord] environment`.
    pub names: Names<'e>,
    pub environment: Vec<(String, Template)>,
    pub strip_ansi: bool,
    /// Where AUTO logs go, and the word in their names that tells whose they are.
    pub child_log_dir: String,
    pub identifier: String,
    /// What `serverurl = AUTO` is.
    pub server_url: Option<String>,
}

/// Reads all of it. Never fails: where a value is wrong its default goes on, and the report has the error.
pub fn read<'e>(ini: &Ini, main: &Place, around: &Surroundings<'e>, report: &mut Report) -> (DaemonSpec, Base<'e>) {
    let defaults = Layers::one("DEFAULT", &ini.defaults);
    let section = ini.section("supervisord");
    let layers = match section {
        Some(section) => Layers::one(&section.name, &section.table).over(defaults.clone()),
        None => {
            let fault = Fault::Missing { expected: String::from("a section [supervisord]") };
            report.error(main, "", fault, Some(String::from("it may be empty, but it must be there")));
            defaults.clone()
        }
    };
    let mut names = Names::new(around.env).with("host_node_name", Word::Text(around.hostname.to_owned()));
    let mut spec = general(&layers, &names, around, report);
    let environment = layers
        .read(report, "environment", |entry| {
            environment::pairs(&values::template(entry, &names)?)
                .map_err(|mend| entry.wrong_but(environment::EXPECTED, Some(mend.to_owned())))
        })
        .unwrap_or_default();
    for (key, value) in &environment {
        names = names.with(&format!("ENV_{key}"), Word::Text(value.render(0)));
    }
    let mut strip_ansi = false;
    layers.set(report, "strip_ansi", &mut strip_ansi, values::boolean(&names));

    for section in &ini.sections {
        let layers = Layers::one(&section.name, &section.table).over(defaults.clone());
        if section.name.starts_with("unix_http_server") {
            spec.doors.extend(unix(section, &layers, &names, around, report));
        } else if section.name.starts_with("inet_http_server") {
            spec.doors.extend(inet(section, &layers, &names, report));
        }
    }
    let server_url = spec.server_url();
    let (child_log_dir, identifier) = (spec.child_log_dir.clone(), spec.identifier.clone());
    let daemon = daemon(&layers, spec, &names, around, main, report);
    (daemon, Base { names, environment, strip_ansi, child_log_dir, identifier, server_url })
}

/// `[supervisord]` itself, doors left out.
fn general(layers: &Layers<'_>, names: &Names<'_>, around: &Surroundings<'_>, report: &mut Report) -> SupervisordSpec {
    let path = |entry: &Entry<'_>| values::file_path(entry, &values::text(entry, names)?, around);
    let mut spec = SupervisordSpec {
        doors: Vec::new(),
        log_file: String::from("supervisord.log"),
        log_max_bytes: Bytes::mib(50),
        log_backups: 10,
        pid_file: String::from("supervisord.pid"),
        identifier: String::from("supervisor"),
        nodaemon: false,
        silent: false,
        minfds: 1024,
        minprocs: 200,
        nocleanup: false,
        child_log_dir: temporary_directory(around),
        umask: 0o22,
        directory: None,
        user: None,
    };
    layers.set(report, "logfile", &mut spec.log_file, |entry| match values::text(entry, names)? {
        word if word == "syslog" => Ok(word),
        text => values::file_path(entry, &text, around),
    });
    if spec.log_file != "syslog" {
        spec.log_file = values::normalized(&spec.log_file, around);
    }
    layers.set(report, "logfile_maxbytes", &mut spec.log_max_bytes, values::size(names));
    layers.set(report, "logfile_backups", &mut spec.log_backups, values::count(names));
    layers.set(report, "pidfile", &mut spec.pid_file, path);
    spec.pid_file = values::normalized(&spec.pid_file, around);
    layers.set(report, "identifier", &mut spec.identifier, |entry| values::text(entry, names));
    layers.set(report, "nodaemon", &mut spec.nodaemon, values::boolean(names));
    layers.set(report, "silent", &mut spec.silent, values::boolean(names));
    layers.set(report, "minfds", &mut spec.minfds, values::whole(0..=i64::from(u32::MAX), names));
    layers.set(report, "minprocs", &mut spec.minprocs, values::whole(0..=i64::from(u32::MAX), names));
    layers.set(report, "nocleanup", &mut spec.nocleanup, values::boolean(names));
    layers.set(report, "childlogdir", &mut spec.child_log_dir, |entry| values::directory(entry, &values::text(entry, names)?, around));
    layers.set(report, "umask", &mut spec.umask, values::octal(names));
    layers.set_some(report, "directory", &mut spec.directory, |entry| values::directory(entry, &values::text(entry, names)?, around));
    layers.set_some(report, "user", &mut spec.user, |entry| user(entry, names, around));
    spec
}

/// A user by name or number.
pub fn user(entry: &Entry<'_>, names: &Names<'_>, around: &Surroundings<'_>) -> Result<User, ConfigError> {
    let name = values::text(entry, names)?;
    match (around.users)(&name) {
        Ok(Some(_)) if name.contains(':') => Err(entry.wrong("a user without a group")),
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(entry.wrong("a user that this system knows")),
        Err(why) => Err(entry.conflict(&format!("user \"{name}\" cannot be looked up: {why}"), None)),
    }
}

/// Python's `tempfile.gettempdir()`, as far as directories tell.
fn temporary_directory(around: &Surroundings<'_>) -> String {
    let named = ["TMPDIR", "TEMP", "TMP"].iter().filter_map(|key| around.env.get(*key).map(String::as_str));
    let mut candidates = named.filter(|path| !path.is_empty()).chain(["/tmp", "/var/tmp", "/usr/tmp"]);
    let found = candidates.find(|path| around.files.is_directory(&around.files.absolute(Path::new(path))));
    found.map_or_else(|| String::from("/tmp"), |path| values::normalized(path, around))
}

fn unix(section: &Section, layers: &Layers<'_>, names: &Names<'_>, around: &Surroundings<'_>, report: &mut Report) -> Option<DoorSpec> {
    let mut socket = SocketSpec { path: String::new(), mode: 0o700, owner: None };
    layers.set(report, "chmod", &mut socket.mode, values::octal(names));
    layers.set_some(report, "chown", &mut socket.owner, |entry| values::owner(entry, names, around));
    let login = login(section, layers, names, report);
    if layers.find("file").is_none() {
        missing(section, "file", "the path of a socket", report);
    }
    socket.path = layers.read(report, "file", |entry| {
        let path = values::normalized(values::text(entry, names)?.trim(), around);
        if path.len() > LONGEST_SOCKET_PATH {
            let why = format!("the socket's path has {} bytes, the kernel takes {LONGEST_SOCKET_PATH} at most", path.len());
            return Err(entry.conflict(&why, Some("name a shorter one")));
        }
        Ok(path)
    })?;
    Some(DoorSpec { section: section.name.clone(), at: DoorAt::Unix(socket), login })
}

fn inet(section: &Section, layers: &Layers<'_>, names: &Names<'_>, report: &mut Report) -> Option<DoorSpec> {
    let login = login(section, layers, names, report);
    if layers.find("port").is_none() {
        missing(section, "port", "a port, or host:port", report);
    }
    let (host, port) = layers.read(report, "port", |entry| {
        let text = values::text(entry, names)?;
        let (host, port) = text.rsplit_once(':').unwrap_or(("", &text));
        let port = values::int(port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        let port = port.ok_or_else(|| entry.wrong("a port from 1 to 65535, or host:port"))?;
        Ok((if host == "*" { String::new() } else { host.to_lowercase() }, port))
    })?;
    Some(DoorSpec { section: section.name.clone(), at: DoorAt::Tcp { host, port }, login })
}

fn missing(section: &Section, key: &str, expected: &str, report: &mut Report) {
    let fault = Fault::Missing { expected: expected.to_owned() };
    report.error(&section.place, &format!("{}.{key}", section.name), fault, None);
}

/// User and password: both or neither.
fn login(section: &Section, layers: &Layers<'_>, names: &Names<'_>, report: &mut Report) -> Option<(String, Password)> {
    let user = layers.read(report, "username", |entry| values::text(entry, names));
    let password = layers.read(report, "password", |entry| values::text(entry, names));
    let half = match (layers.find("username"), layers.find("password")) {
        (Some(entry), None) => Some((entry, "password")),
        (None, Some(entry)) => Some((entry, "username")),
        (Some(_), Some(_)) | (None, None) => None,
    };
    if let Some((entry, other)) = half {
        // Not `wrong`: that would show the password.
        let fault = Fault::Conflict { why: format!("without a {other} it lets nobody in") };
        report.error(&entry.item.key, &format!("{}.{}", section.name, entry.name), fault, Some(String::from("say both or neither")));
    }
    let password = match password?.strip_prefix("{SHA}") {
        Some(hash) => Password::Sha1(hash.to_lowercase()),
        None => Password::Plain(values::text(&layers.find("password")?, names).ok()?),
    };
    Some((user?, password))
}

/// What the native dialect says in `[daemon]` and `[server]`, taken from what Supervisor's says.
fn daemon(
    layers: &Layers<'_>,
    spec: SupervisordSpec,
    names: &Names<'_>,
    around: &Surroundings<'_>,
    main: &Place,
    report: &mut Report,
) -> DaemonSpec {
    let first = spec.doors.iter().find_map(|door| match &door.at {
        DoorAt::Unix(socket) => Some(socket.path.as_str()),
        DoorAt::Tcp { .. } => None,
    });
    let mut runtime_dir = beside(first.unwrap_or(&spec.pid_file));
    if layers.find("runtime_dir").is_some() {
        layers.set(report, "runtime_dir", &mut runtime_dir, |entry| Ok(values::normalized(&values::text(entry, names)?, around)));
    } else if runtime_dir.len() > LONGEST_RUNTIME_DIR {
        let other = elsewhere(&runtime_dir, around);
        report.warn(main, "", &format!("our own sockets lie in {other}, because the kernel takes no path as long as {runtime_dir}/…"));
        runtime_dir = other;
    }
    let mut ring_lines = 1000;
    layers.set(report, "ring_lines", &mut ring_lines, values::whole(0..=100_000, names));
    let levels = ["critical", "error", "warn", "info", "debug", "trace", "blather"];
    let level = layers.read(report, "loglevel", |entry| {
        let level = values::text(entry, names)?.to_lowercase();
        if levels.contains(&level.as_str()) {
            return Ok(level);
        }
        let mend = if level == "warning" { Some(String::from("did you mean \"warn\"?")) } else { None };
        Err(entry.wrong_but("critical, error, warn, info, debug, trace or blather", mend))
    });
    let log_level = match level.as_deref() {
        Some("critical") => "error",
        Some("blather") => "trace",
        Some(level) => level,
        None => "info",
    };
    let log_file = if spec.log_file == "syslog" {
        if let Some(entry) = layers.find("logfile") {
            report.warn(entry.place(), &entry.key, "our own log goes to no syslog yet; it goes to stderr");
        }
        None
    } else {
        Some(spec.log_file.clone())
    };
    let socket = SocketSpec { path: format!("{}/ganger.sock", runtime_dir.trim_end_matches('/')), mode: 0o660, owner: None };
    if socket.path.len() > LONGEST_SOCKET_PATH {
        let why = format!("the path of our own socket has {} bytes, the kernel takes {LONGEST_SOCKET_PATH} at most", socket.path.len());
        report.error(
            main,
            "supervisord.runtime_dir",
            Fault::Conflict { why },
            Some(String::from("write runtime_dir = a shorter directory into [supervisord]")),
        );
    }
    DaemonSpec {
        runtime_dir,
        log_dir: spec.child_log_dir.clone(),
        log_file,
        log_level: log_level.to_owned(),
        socket,
        ring_lines,
        supervisord: Some(spec),
    }
}

/// `/run/supervisor.sock` to `/run/supervisor.ganger`.
fn beside(path: &str) -> String {
    let path = Path::new(path);
    let name = path.file_stem().map_or_else(|| String::from("supervisor"), |stem| stem.to_string_lossy().into_owned());
    path.with_file_name(format!("{name}.ganger")).to_string_lossy().into_owned()
}

/// A short place that is the same at every start, and another for every `path`.
fn elsewhere(path: &str, around: &Surroundings<'_>) -> String {
    // FNV-1a: what matters is only that it never changes.
    let hash = path.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    match around.env.get("XDG_RUNTIME_DIR").filter(|run| run.starts_with('/')) {
        _ if around.uid == 0 => format!("/run/ganger.{hash:016x}"),
        Some(run) => format!("{}/ganger.{hash:016x}", run.trim_end_matches('/')),
        None => format!("{}/.local/state/ganger/run.{hash:016x}", around.home.trim_end_matches('/')),
    }
}
