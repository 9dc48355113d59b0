//! `[program:x]`, `[eventlistener:x]` and `[fcgi-program:x]`: one section into one `ProgramSpec`.
//!
//! Supervisor's keys are read here with Supervisor's defaults. Ours are gathered into a table as the native dialect
//! has it and read by its readers, so that a key means the same in both.

use crate::config::Surroundings;
use crate::config::error::{ConfigError, Fault, Report, did_you_mean};
use crate::config::expand::{Names, Word};
use crate::config::ini::Section;
use crate::config::native::program::{self as native, Defined, Spot};
use crate::config::native::table::{Entry, Layers};
use crate::config::native::values as native_values;
use crate::config::origin::Place;
use crate::config::supervisord::daemon::{Base, user};
use crate::config::supervisord::{environment, raw, values};
use crate::config::tree::{Item, Node, Table, Value};
use crate::config::words;
use crate::model::name::{self, GroupName};
use crate::model::signal::Signal;
use crate::model::spec::{
    FcgiSocket, FcgiSpec, Kind, LaunchSpec, Leftovers, ListenerSpec, LogFile, Policy, ProgramSpec, Rung, Sink, Stdin, StreamSpec,
};
use crate::model::template::{Piece, Template};
use crate::model::time::Span;
use crate::model::units::Bytes;
use std::path::Path;
use std::sync::Arc;

/// Supervisor's keys of a program.
const KEYS: [&str; 32] = [
    "autorestart",
    "autostart",
    "command",
    "directory",
    "environment",
    "exitcodes",
    "killasgroup",
    "numprocs",
    "numprocs_start",
    "priority",
    "process_name",
    "redirect_stderr",
    "serverurl",
    "startretries",
    "startsecs",
    "stderr_capture_maxbytes",
    "stderr_events_enabled",
    "stderr_logfile",
    "stderr_logfile_backups",
    "stderr_logfile_maxbytes",
    "stderr_syslog",
    "stdout_capture_maxbytes",
    "stdout_events_enabled",
    "stdout_logfile",
    "stdout_logfile_backups",
    "stdout_logfile_maxbytes",
    "stdout_syslog",
    "stopasgroup",
    "stopsignal",
    "stopwaitsecs",
    "umask",
    "user",
];
const LISTENER_KEYS: [&str; 3] = ["buffer_size", "events", "result_handler"];
const FCGI_KEYS: [&str; 4] = ["socket", "socket_backlog", "socket_mode", "socket_owner"];

/// Ours, under their native names.
const NEWS: [&str; 11] = [
    "leftovers",
    "nice",
    "no_new_privs",
    "oom_score_adj",
    "ready",
    "ready_timeout",
    "restart_pause",
    "session",
    "stop_resend",
    "strip_ansi",
    "watchdog",
];

/// All event types that there are.
const EVENTS: [&str; 27] = [
    "EVENT",
    "PROCESS_COMMUNICATION",
    "PROCESS_COMMUNICATION_STDERR",
    "PROCESS_COMMUNICATION_STDOUT",
    "PROCESS_GROUP",
    "PROCESS_GROUP_ADDED",
    "PROCESS_GROUP_REMOVED",
    "PROCESS_LOG",
    "PROCESS_LOG_STDERR",
    "PROCESS_LOG_STDOUT",
    "PROCESS_STATE",
    "PROCESS_STATE_BACKOFF",
    "PROCESS_STATE_EXITED",
    "PROCESS_STATE_FATAL",
    "PROCESS_STATE_RUNNING",
    "PROCESS_STATE_STARTING",
    "PROCESS_STATE_STOPPED",
    "PROCESS_STATE_STOPPING",
    "PROCESS_STATE_UNKNOWN",
    "REMOTE_COMMUNICATION",
    "SUPERVISOR_STATE_CHANGE",
    "SUPERVISOR_STATE_CHANGE_RUNNING",
    "SUPERVISOR_STATE_CHANGE_STOPPING",
    "TICK",
    "TICK_3600",
    "TICK_5",
    "TICK_60",
];

/// What kind of section it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Program,
    Listener,
    Fcgi,
}

impl Sort {
    /// The kind and the name of a section that defines something to run.
    pub fn of(section: &str) -> Option<(Sort, &str)> {
        match section.split_once(':')? {
            ("program", name) => Some((Sort::Program, name)),
            ("eventlistener", name) => Some((Sort::Listener, name)),
            ("fcgi-program", name) => Some((Sort::Fcgi, name)),
            _ => None,
        }
    }
}

/// A section, and what is made of it where.
pub struct Head<'h> {
    pub section: &'h Section,
    pub sort: Sort,
    /// What the section calls it.
    pub program: &'h str,
    /// What it is called inside.
    pub name: &'h str,
    pub group: &'h str,
}

/// Reads one section. Never fails: where a value is wrong its default goes on, and the report has the error.
pub fn read(head: &Head<'_>, layers: &Layers<'_>, base: &Base<'_>, around: &Surroundings<'_>, report: &mut Report) -> Defined {
    let names = (base.names.clone())
        .with("program_name", Word::Text(head.program.to_owned()))
        .with("group_name", Word::Text(head.group.to_owned()));
    let news = news(head, layers, &names, report);
    Reader { head, layers, base, around, news: &news }.read(names, report)
}

struct Reader<'r, 't> {
    head: &'r Head<'r>,
    layers: &'r Layers<'t>,
    base: &'r Base<'r>,
    around: &'r Surroundings<'r>,
    /// Our keys, as the native dialect has them.
    news: &'r Table,
}

impl<'t> Reader<'_, 't> {
    fn read(&self, names: Names<'_>, report: &mut Report) -> Defined {
        let (head, layers) = (self.head, self.layers);
        let section = head.section;
        let news = Layers::one(&section.name, self.news);
        let native_head = native::Head { name: head.program, group: head.group, key: &section.name, place: &section.place, whole: false };

        let mut policy = Policy::default();
        let scale_said = native::read_scale(&native_head, &news, self.around, &mut policy, report);
        let mut names = names.with("numprocs", Word::Number(i64::from(policy.numprocs))).with("process_num", Word::ProcessNum);
        let most = policy.numprocs.max(policy.scale.min).max(policy.scale.max.unwrap_or(0));

        let mut spec = ProgramSpec::new(head.name, Vec::new());
        spec.group = GroupName::new(head.group);
        let mut launch = (*spec.launch).clone();
        // Before the others, because a program's own variables may stand in its command and paths.
        self.environment(&mut launch, &mut names, report);
        spec.process_name = self.process_name(most, scale_said && policy.scale.max != Some(1), policy.numprocs_start, &names, report);

        // Supervisor sends its signal once and lets be what it leaves behind.
        policy.stop.resend = None;
        policy.stop.leftovers = Leftovers::Leave;
        native::read_news(&native_head, &news, &names, self.around, (&mut launch, &mut policy), report);
        self.launch(&mut launch, &names, report);
        self.policy(&mut policy, news.find("leftovers").is_some(), &names, report);
        spec.kind = self.kind(&names, report);
        match &spec.kind {
            Kind::Program => launch.stdin = Stdin::Pipe,
            Kind::Listener(_) => {
                launch.stdin = Stdin::Pipe;
                if launch.redirect_stderr {
                    let entry = layers.find("redirect_stderr").expect("it is not its default");
                    report.add(entry.conflict("it would mix stderr into the protocol of event listeners, which is on stdout", None));
                }
            }
            // Its descriptor 0 is the shared socket.
            Kind::Fcgi(_) => launch.stdin = Stdin::Null,
        }

        spec.output.strip_ansi = self.base.strip_ansi;
        news.set(report, "strip_ansi", &mut spec.output.strip_ansi, native_values::flag);
        let mut one_file = false;
        spec.output.stdout = self.stream("stdout", &spec, most, &names, &mut one_file, report);
        if launch.redirect_stderr {
            if let Some(entry) = layers.find("stderr_logfile").filter(|entry| !is_word(raw(entry))) {
                report.warn(entry.place(), &entry.key, "has no effect, because redirect_stderr sends stderr to where stdout goes");
            }
        } else {
            spec.output.stderr = self.stream("stderr", &spec, most, &names, &mut one_file, report);
        }
        // A second slot would take the first one's name or log file.
        let single = !spec.process_name.depends_on_number() || (one_file && most <= 1);
        if single && policy.scale.max.is_none() {
            policy.scale.max = Some(1);
        }
        spec.launch = Arc::new(launch);
        spec.policy = policy;
        let lock = news.sub(&mut Report::default(), "singleton").find("lock");
        Defined {
            spec,
            head: Spot { key: section.name.clone(), place: section.place.clone() },
            lock: self.spot(lock),
            stdout: self.spot(layers.find("stdout_logfile")),
            stderr: self.spot(layers.find("stderr_logfile")),
        }
    }

    fn spot(&self, entry: Option<Entry<'_>>) -> Spot {
        match entry {
            Some(entry) => Spot { key: entry.key.clone(), place: entry.place().clone() },
            None => Spot { key: self.head.section.name.clone(), place: self.head.section.place.clone() },
        }
    }

    fn missing(&self, key: &str, expected: &str, report: &mut Report) {
        let section = self.head.section;
        report.error(&section.place, &format!("{}.{key}", section.name), Fault::Missing { expected: expected.to_owned() }, None);
    }

    /// `[supervisord] environment` with the program's own over it.
    fn environment<'n>(&self, launch: &mut LaunchSpec, names: &mut Names<'n>, report: &mut Report) {
        launch.environment = self.base.environment.clone();
        let before = names.clone();
        let own = self.layers.read(report, "environment", |entry| {
            environment::pairs(&values::template(entry, &before)?)
                .map_err(|mend| entry.wrong_but(environment::EXPECTED, Some(mend.to_owned())))
        });
        for (key, value) in own.unwrap_or_default() {
            if key.starts_with("GANGER_") || matches!(key.as_str(), "NOTIFY_SOCKET" | "WATCHDOG_USEC" | "WATCHDOG_PID") {
                let entry = self.layers.find("environment").expect("it was just read");
                report.warn(entry.place(), &entry.key, &format!("ganger sets {key} itself, so this value is not seen by the worker"));
            }
            *names = std::mem::take(names).with(&format!("ENV_{key}"), Word::Open(value.clone()));
            match launch.environment.iter_mut().find(|(other, _)| *other == key) {
                Some((_, old)) => *old = value,
                None => launch.environment.push((key, value)),
            }
        }
    }

    /// `numbered`: bounds for scaling ask for several names even where there is one process now.
    fn process_name(&self, most: u32, numbered: bool, first: u32, names: &Names<'_>, report: &mut Report) -> Template {
        let program = self.head.program;
        let said = self.layers.read(report, "process_name", |entry| {
            let template = values::template(entry, names)?;
            let written = raw(entry).trim();
            let fault = if written.contains([' ', ':', '/']) {
                Some("a name may not contain white space, \":\" or \"/\"")
            } else {
                name::fault_in(&template.render(first))
            };
            if let Some(fault) = fault {
                return Err(entry.wrong_but("a name for processes", Some(fault.to_owned())));
            }
            if most > 1 && !template.depends_on_number() {
                let why = format!("there may be {most} processes, and all would have this one name");
                return Err(entry.conflict(&why, Some("put %(process_num)d into it")));
            }
            Ok(template)
        });
        if let Some(template) = said {
            return template;
        }
        let written = self.layers.find("process_name").is_some();
        if numbered && !written {
            return Template(vec![Piece::Text(format!("{program}_")), Piece::Number { zero: true, width: 2 }]);
        }
        if most > 1 && !written {
            let expected = "a name with the number of the process in it, such as process_name = %(program_name)s_%(process_num)d";
            self.missing("process_name", expected, report);
        }
        Template::text(program)
    }

    fn launch(&self, launch: &mut LaunchSpec, names: &Names<'_>, report: &mut Report) {
        let layers = self.layers;
        if layers.find("command").is_none() {
            self.missing("command", "a command, such as command = php worker.php", report);
        }
        if let Some((entry, line)) = layers
            .find("command")
            .and_then(|entry| layers.read(report, "command", |entry| values::template(entry, names)).map(|line| (entry, line)))
        {
            launch.command = self.command(&entry, line, report);
        }
        layers.set_some(report, "directory", &mut launch.directory, |entry| {
            Ok(values::absolute(&values::template(entry, names)?, false, self.around))
        });
        // umask(2) looks at no other bits.
        layers.set_some(report, "umask", &mut launch.umask, |entry| values::octal(names)(entry).map(|bits| bits & 0o777));
        layers.set(report, "redirect_stderr", &mut launch.redirect_stderr, values::boolean(names));
        launch.user = layers.read(report, "user", |entry| user(entry, names, self.around));
        if let (Some(user), true) = (&launch.user, self.around.uid != 0) {
            if user.uid == self.around.uid {
                launch.user = None;
            } else {
                let entry = layers.find("user").expect("it was just read");
                let text = format!("ganger runs as uid {} and cannot start a program as \"{}\"; only root can", self.around.uid, user.name);
                report.warn(entry.place(), &entry.key, &text);
            }
        }
        launch.server_url = self.base.server_url.clone();
        if let Some(url) = layers.read(report, "serverurl", |entry| values::text(entry, names))
            && url.trim().to_uppercase() != "AUTO"
        {
            launch.server_url = Some(url).filter(|url| !url.is_empty());
        }
    }

    /// A command that cannot be split is no error: Supervisor finds out when it starts the program, and a fleet that lives
    /// with one broken program must not stand still for it. The start then fails by that very text.
    fn command(&self, entry: &Entry<'_>, line: Template, report: &mut Report) -> Vec<Template> {
        let fault = match words::split(&line) {
            Ok(words) if words.first().is_some_and(|program| !program.0.is_empty()) => return words,
            Ok(_) => String::from("the command is empty"),
            Err(fault) => format!("found {}, expected {}", entry.item.node.found(), fault.expected()),
        };
        let hint = if raw(entry).contains(['"', '\'']) { "; \" ;\" and \" #\" begin a comment even within quotes" } else { "" };
        report.warn(entry.place(), &entry.key, &format!("this program cannot be started: {fault}{hint}"));
        vec![line]
    }

    fn policy(&self, policy: &mut Policy, leftovers_said: bool, names: &Names<'_>, report: &mut Report) {
        let layers = self.layers;
        let all = i64::from(i32::MIN)..=i64::from(i32::MAX);
        layers.set(report, "priority", &mut policy.priority, values::whole(all, names));
        layers.set(report, "autostart", &mut policy.autostart, values::boolean(names));
        layers.set(report, "autorestart", &mut policy.autorestart, values::autorestart(names));
        layers.set(report, "startsecs", &mut policy.startsecs, values::seconds(names));
        layers.set(report, "startretries", &mut policy.startretries, |entry| match values::text(entry, names)?.as_str() {
            "forever" => Ok(None),
            _ => values::count(names)(entry).map(Some),
        });
        layers.set(report, "exitcodes", &mut policy.exitcodes, values::exitcodes(names));

        let mut wait = Span::secs(10);
        layers.set(report, "stopwaitsecs", &mut wait, values::seconds(names));
        policy.stop.rungs = vec![Rung { signal: Signal::TERM, wait }];
        layers.set(report, "stopsignal", &mut policy.stop.rungs, |entry| {
            let text = values::text(entry, names)?;
            match values::signal(&text) {
                Some(signal) => Ok(vec![Rung { signal, wait }]),
                // A ladder is ours; Supervisor has none.
                None if text.contains([',', ' ']) => native_values::ladder(entry, wait),
                None => {
                    let mend = did_you_mean(&text, ["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH", "KILL", "ABRT", "ALRM"]);
                    Err(entry.wrong_but("a signal such as TERM", mend))
                }
            }
        });
        layers.set(report, "stopasgroup", &mut policy.stop.as_group, values::boolean(names));
        policy.stop.kill_as_group = policy.stop.as_group;
        layers.set(report, "killasgroup", &mut policy.stop.kill_as_group, values::boolean(names));
        if policy.stop.as_group && !policy.stop.kill_as_group {
            let entry = layers.find("killasgroup").expect("else it follows stopasgroup");
            report
                .add(entry.conflict("stopasgroup = true needs killasgroup = true", Some("leave killasgroup out: it follows stopasgroup")));
        }
        // Who wants his whole group killed wants nothing of it left.
        if policy.stop.kill_as_group && !leftovers_said {
            policy.stop.leftovers = Leftovers::Kill;
        }
    }

    fn kind(&self, names: &Names<'_>, report: &mut Report) -> Kind {
        match self.head.sort {
            Sort::Program => Kind::Program,
            Sort::Listener => Kind::Listener(self.listener(names, report)),
            Sort::Fcgi => Kind::Fcgi(self.fcgi(names, report)),
        }
    }

    fn listener(&self, names: &Names<'_>, report: &mut Report) -> ListenerSpec {
        let layers = self.layers;
        let mut spec = ListenerSpec { events: Vec::new(), buffer_size: 10 };
        layers.set(report, "buffer_size", &mut spec.buffer_size, values::whole(1..=1_000_000, names));
        if let Some(entry) = layers.find("result_handler")
            && !matches!(raw(&entry), "supervisor.dispatchers:default_handler")
        {
            let text = "this handler is Python code that ganger cannot run; OK and FAIL are taken as Supervisor's own handler takes them";
            report.warn(entry.place(), &entry.key, text);
        }
        let expected = "names of events, such as events = PROCESS_STATE,TICK_60";
        let Some(entry) = layers.find("events") else {
            self.missing("events", expected, report);
            return spec;
        };
        let text = match values::text(&entry, names) {
            Ok(text) => text,
            Err(error) => {
                report.add(error);
                return spec;
            }
        };
        if text.is_empty() {
            report.add(entry.wrong(expected));
        }
        for event in values::list(&text) {
            let event = event.to_uppercase();
            if !EVENTS.contains(&event.as_str()) {
                let mend = did_you_mean(&event, EVENTS);
                let fault = Fault::Value { found: format!("{event:?}"), expected: String::from("a type of event that there is") };
                report.error(entry.place(), &entry.key, fault, mend);
            } else if !spec.events.contains(&event) {
                spec.events.push(event);
            }
        }
        spec
    }

    fn fcgi(&self, names: &Names<'_>, report: &mut Report) -> FcgiSpec {
        let layers = self.layers;
        let mut spec = FcgiSpec { socket: FcgiSocket::Unix { path: String::new() }, backlog: None, owner: None, mode: None };
        if layers.find("socket").is_none() {
            self.missing("socket", "a socket, such as socket = unix:///run/php.sock or tcp://127.0.0.1:9000", report);
        }
        layers.set(report, "socket", &mut spec.socket, |entry| self.fcgi_socket(entry, names));
        layers.set_some(report, "socket_backlog", &mut spec.backlog, values::whole(1..=65535, names));
        layers.set_some(report, "socket_owner", &mut spec.owner, |entry| values::owner(entry, names, self.around));
        layers.set_some(report, "socket_mode", &mut spec.mode, values::octal(names));
        match spec.socket {
            FcgiSocket::Unix { .. } => {
                spec.mode = spec.mode.or(Some(0o700));
                let own = layers.read(&mut Report::default(), "user", |entry| user(entry, names, self.around));
                let other = own.filter(|user| user.uid != self.around.uid).map(|user| (user.uid, user.gid));
                spec.owner = spec.owner.or(other);
            }
            FcgiSocket::Tcp { .. } => {
                for entry in ["socket_owner", "socket_mode"].iter().filter_map(|key| layers.find(key)) {
                    report.add(entry.conflict("only a unix socket has an owner and a mode", Some("leave it out for tcp://")));
                }
            }
        }
        spec
    }

    fn fcgi_socket(&self, entry: &Entry<'_>, names: &Names<'_>) -> Result<FcgiSocket, ConfigError> {
        let expected = "unix:///ABSOLUTE/PATH or tcp://HOST:PORT";
        let text = values::text(entry, names)?;
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(FcgiSocket::Unix { path: values::normalized(path, self.around) }),
                false => Err(entry.wrong_but(expected, Some(String::from("the path must be absolute")))),
            };
        }
        let address = text.strip_prefix("tcp://").and_then(|address| address.split_once(':'));
        let address = address.filter(|(host, port)| {
            !host.is_empty() && !host.contains(char::is_whitespace) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
        });
        let (host, port) = address.ok_or_else(|| entry.wrong(expected))?;
        match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(FcgiSocket::Tcp { host: host.to_lowercase(), port }),
            Ok(_) | Err(_) => Err(entry.wrong_but(expected, Some(String::from("a port is a number from 1 to 65535")))),
        }
    }

    /// `stdout_logfile` and its like. `one_file` becomes true if the file is the same for all processes.
    fn stream(
        &self,
        stream: &str,
        spec: &ProgramSpec,
        most: u32,
        names: &Names<'_>,
        one_file: &mut bool,
        report: &mut Report,
    ) -> StreamSpec {
        let layers = self.layers;
        let key = |what: &str| format!("{stream}_{what}");
        let mut out = StreamSpec::default();
        layers.set(report, &key("capture_maxbytes"), &mut out.capture_max, values::size(names));
        layers.set(report, &key("events_enabled"), &mut out.events, values::boolean(names));
        let mut file = LogFile { path: self.auto(spec, stream), max_bytes: Bytes::mib(50), backups: 10 };
        layers.set(report, &key("logfile_maxbytes"), &mut file.max_bytes, values::size(names));
        layers.set(report, &key("logfile_backups"), &mut file.backups, values::count(names));
        let mut syslog = false;
        layers.set(report, &key("syslog"), &mut syslog, values::boolean(names));
        if let (true, Some(entry)) = (syslog, layers.find(&key("syslog"))) {
            report.warn(entry.place(), &entry.key, NO_SYSLOG);
        }
        let Some(entry) = layers.find(&key("logfile")) else {
            out.sinks.push(Sink::File(file));
            return out;
        };
        let path = match values::template(&entry, names) {
            Ok(path) => path,
            Err(error) => {
                report.add(error);
                return out;
            }
        };
        let first = path.render(spec.policy.numprocs_start);
        match first.to_lowercase().as_str() {
            "" | "none" | "off" => return out,
            "syslog" => {
                report.warn(entry.place(), &entry.key, NO_SYSLOG);
                return out;
            }
            "auto" => {}
            _ => match self.path(&entry, &path, spec) {
                Err(error) => report.add(error),
                Ok(path) => {
                    if first.starts_with("/dev/") {
                        // A device is not ours to rotate, and takes lines of everybody.
                        file.max_bytes = Bytes(0);
                    } else if !path.depends_on_number() {
                        *one_file = true;
                        if most > 1 {
                            let text = format!(
                                "{most} processes write into this one file and rotate it away from each other; put %(process_num)d into it"
                            );
                            report.warn(entry.place(), &entry.key, &text);
                        }
                    }
                    file.path = path;
                }
            },
        }
        out.sinks.push(Sink::File(file));
        out
    }

    /// The path of a log file, absolute; its directory must be there.
    fn path(&self, entry: &Entry<'_>, path: &Template, spec: &ProgramSpec) -> Result<Template, ConfigError> {
        let numbers = spec.policy.numprocs_start..spec.policy.numprocs_start.saturating_add(spec.policy.numprocs.min(1000));
        let mut seen = String::new();
        for number in numbers {
            let rendered = path.render(number);
            let directory = rendered.rsplit_once('/').map_or("", |(directory, _)| directory);
            if directory != seen || number == spec.policy.numprocs_start {
                values::file_path(entry, &rendered, self.around)?;
                seen = directory.to_owned();
            }
        }
        let path = values::absolute(path, true, self.around);
        let rendered = path.render(spec.policy.numprocs_start);
        if rendered.ends_with('/') || self.around.files.is_directory(Path::new(&rendered)) {
            return Err(entry.wrong("the path of a file, not of a directory"));
        }
        Ok(path)
    }

    /// `CHILDLOGDIR/NAME-CHANNEL---IDENTIFIER-GROUP.log`. Supervisor has a random part in place of the group; ours is the
    /// same at every start, and is cleaned up by the same pattern.
    fn auto(&self, spec: &ProgramSpec, stream: &str) -> Template {
        let mut pieces = vec![Piece::Text(format!("{}/", self.base.child_log_dir.trim_end_matches('/')))];
        pieces.extend(spec.process_name.0.iter().cloned());
        pieces.push(Piece::Text(format!("-{stream}---{}-{}.log", self.base.identifier, spec.group)));
        native::joined(pieces)
    }
}

const NO_SYSLOG: &str = "output goes to no syslog yet; its last lines are kept in memory";

/// A word in place of a path.
fn is_word(text: &str) -> bool {
    matches!(text.to_lowercase().as_str(), "" | "none" | "off" | "auto" | "syslog")
}

/// Gathers our keys into a table as the native dialect has it, and warns of keys that nobody knows.
fn news(head: &Head<'_>, layers: &Layers<'_>, names: &Names<'_>, report: &mut Report) -> Table {
    let mut table = Table::default();
    let special: &[&str] = match head.sort {
        Sort::Program => &[],
        Sort::Listener => &LISTENER_KEYS,
        Sort::Fcgi => &FCGI_KEYS,
    };
    let dotted = dotted_keys();
    for entry in layers.entries() {
        let key = entry.name;
        let parts: Option<(&str, &str)> = key.split_once('.').filter(|_| dotted.iter().any(|known| known == key));
        if parts.is_none() && !NEWS.contains(&key) && !matches!(key, "numprocs" | "numprocs_start") {
            // What stands in [DEFAULT] is for all sections, and need not be for this one.
            let own = head.section.table.0.contains_key(key);
            if own && !KEYS.contains(&key) && !special.contains(&key) {
                let known = KEYS.iter().chain(&NEWS).chain(special).copied().chain(dotted.iter().map(String::as_str));
                let mend = did_you_mean(key, known).map_or_else(String::new, |mend| format!("; {mend}"));
                report.warn(&entry.item.key, &format!("{}.{key}", head.section.name), &format!("unknown key, which has no effect{mend}"));
            }
            continue;
        }
        let value = match value(key, &entry, names) {
            Ok(value) => value,
            Err(error) => {
                report.add(error);
                continue;
            }
        };
        let item = Item { key: entry.item.key.clone(), node: Node { place: entry.place().clone(), value } };
        match parts {
            None => {
                table.0.insert(key.to_owned(), item);
            }
            Some((outer, inner)) => match inner.split_once('.') {
                None => {
                    sub(&mut table, outer, &entry.item.key).0.insert(inner.to_owned(), item);
                }
                Some((middle, inner)) => {
                    sub(sub(&mut table, outer, &entry.item.key), middle, &entry.item.key).0.insert(inner.to_owned(), item);
                }
            },
        }
    }
    table
}

/// The table `name` in `table`, made if it is not there (or if a plain value stands in its place).
fn sub<'t>(table: &'t mut Table, name: &str, place: &Place) -> &'t mut Table {
    let empty = || Item { key: place.clone(), node: Node { place: place.clone(), value: Value::Table(Table::default()) } };
    let item = table.0.entry(name.to_owned()).or_insert_with(empty);
    if !matches!(item.node.value, Value::Table(_)) {
        *item = empty();
    }
    match &mut item.node.value {
        Value::Table(table) => table,
        Value::Text(_) | Value::Whole { .. } | Value::Fraction(_) | Value::Flag(_) | Value::List(_) | Value::Other(_) => {
            unreachable!("it was just made a table")
        }
    }
}

/// `recycle.max_jobs` and all the others.
fn dotted_keys() -> Vec<String> {
    let tables = native::TABLES.iter().flat_map(|(table, keys)| keys.iter().map(move |key| format!("{table}.{key}")));
    let rlimits = native_values::RLIMITS.iter().map(|(name, _)| format!("rlimits.{name}"));
    let counts = ["done", "failed", "running"].iter().map(|key| format!("jobs.count.{key}"));
    tables.chain(rlimits).chain(counts).collect()
}

/// A text as the native dialect would have it: a number, true or false, a list of two limits, or a text.
fn value(key: &str, entry: &Entry<'_>, names: &Names<'_>) -> Result<Value, ConfigError> {
    // Its names are filled in where it is read, because the number of the process may stand in it.
    if key == "singleton.lock" {
        return Ok(Value::Text(raw(entry).to_owned()));
    }
    let text = values::text(entry, names)?;
    if key.starts_with("jobs.count") {
        return Ok(Value::Text(text));
    }
    if matches!(key, "no_new_privs" | "session" | "strip_ansi") {
        return Ok(values::boolean_of(&text).map_or(Value::Text(text), Value::Flag));
    }
    if let (true, Some((soft, hard))) = (key.starts_with("rlimits."), text.split_once(':')) {
        let node = |text: &str| Node { place: entry.place().clone(), value: plain(text.trim()) };
        return Ok(Value::List(vec![node(soft), node(hard)]));
    }
    Ok(plain(&text))
}

fn plain(text: &str) -> Value {
    if let Some(value) = values::int(text) {
        return Value::Whole { value, octal: false };
    }
    let fraction = text.bytes().all(|b| b.is_ascii_digit() || b == b'.').then(|| text.parse().ok()).flatten();
    fraction.map_or_else(|| Value::Text(text.to_owned()), Value::Fraction)
}
