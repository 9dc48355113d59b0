//! `[program.NAME]` with `[defaults]` beneath it: one definition into one `ProgramSpec`.
//!
//! A key that is absent leaves what `ProgramSpec::new` says. What follows from the number of slots is decided
//! here as well: names and log files must differ from slot to slot wherever there may be more than one, and
//! where a definition can only have one, scaling it is bounded at one.

use crate::config::Surroundings;
use crate::config::error::{ConfigError, Fault, Report};
use crate::config::expand::{Names, Word};
use crate::config::native::table::{Entry, Layers};
use crate::config::native::values;
use crate::config::origin::Place;
use crate::config::tree::Value;
use crate::model::launch::User;
use crate::model::name::{self, GroupName};
use crate::model::spec::{BackoffRule, LaunchSpec, Leftovers, LockSpec, LogFile, Policy, ProgramSpec, Sink, Stdin, StreamSpec};
use crate::model::template::{Piece, Template};
use crate::model::time::Span;
use crate::model::units::Bytes;
use std::path::Path;
use std::sync::Arc;

/// All keys of a program, tables included.
pub const KEYS: [&str; 43] = [
    "autorestart",
    "autostart",
    "backoff",
    "command",
    "directory",
    "environment",
    "exitcodes",
    "jobs",
    "killasgroup",
    "leftovers",
    "nice",
    "no_new_privs",
    "numprocs",
    "numprocs_start",
    "oom_score_adj",
    "priority",
    "process_name",
    "ready",
    "ready_timeout",
    "recycle",
    "redirect_stderr",
    "restart_pause",
    "rlimits",
    "scale",
    "session",
    "singleton",
    "startretries",
    "startsecs",
    "stderr_logfile",
    "stderr_logfile_backups",
    "stderr_logfile_maxbytes",
    "stdout_logfile",
    "stdout_logfile_backups",
    "stdout_logfile_maxbytes",
    "stdin",
    "stop_resend",
    "stopasgroup",
    "stopsignal",
    "stopwaitsecs",
    "strip_ansi",
    "umask",
    "user",
    "watchdog",
];

/// The keys of a program's tables.
pub const TABLES: [(&str, &[&str]); 5] = [
    ("backoff", &["factor", "initial", "jitter", "max", "reset_after", "retry_after_fatal"]),
    ("jobs", &["count", "timeout"]),
    (
        "recycle",
        &[
            "concurrency",
            "lifetime_jitter",
            "max_jobs",
            "max_lifetime",
            "max_memory",
            "memory_samples",
            "min_lifetime",
            "patience",
            "sample_interval",
        ],
    ),
    ("scale", &["max", "min"]),
    ("singleton", &["lock"]),
];

/// No program has more slots than this; one more is a slip of the keyboard.
const MOST_SLOTS: i64 = 10_000;

/// What `[program.NAME]` is called and where it stands.
#[derive(Clone, Debug)]
pub struct Head<'h> {
    pub name: &'h str,
    pub group: &'h str,
    /// Dotted.
    pub key: &'h str,
    pub place: &'h Place,
    /// `false` for `[defaults]` read by itself, which needs no command.
    pub whole: bool,
}

/// A program, with the places that checks across programs want to name.
#[derive(Clone, Debug)]
pub struct Defined {
    pub spec: ProgramSpec,
    pub head: Spot,
    pub lock: Spot,
    pub stdout: Spot,
    pub stderr: Spot,
}

#[derive(Clone, Debug)]
pub struct Spot {
    pub key: String,
    pub place: Place,
}

/// Reads one program. Never fails: where a value is wrong its default goes on, and the report has the error.
pub fn read(head: &Head<'_>, table: &Layers<'_>, log_dir: &str, around: &Surroundings<'_>, report: &mut Report) -> Defined {
    Reader { head, table, around, log_dir }.read(report)
}

/// For the other dialect: how many processes there are and may be; true if the table `scale` speaks of more than none.
pub fn read_scale(head: &Head<'_>, table: &Layers<'_>, around: &Surroundings<'_>, policy: &mut Policy, report: &mut Report) -> bool {
    Reader { head, table, around, log_dir: "" }.scale(policy, report)
}

/// For the other dialect: everything else that Supervisor does not know. Keys that are absent leave what is there.
pub fn read_news(
    head: &Head<'_>,
    table: &Layers<'_>,
    names: &Names<'_>,
    around: &Surroundings<'_>,
    spec: (&mut LaunchSpec, &mut Policy),
    report: &mut Report,
) {
    let reader = Reader { head, table, around, log_dir: "" };
    reader.launch(spec.0, names, report);
    reader.policy(spec.1, report);
    reader.tables(spec.1, report);
    let most = spec.1.numprocs.max(spec.1.scale.min).max(spec.1.scale.max.unwrap_or(0));
    reader.check_lock(spec.0, most, report);
}

struct Reader<'r, 't> {
    head: &'r Head<'r>,
    table: &'r Layers<'t>,
    around: &'r Surroundings<'r>,
    log_dir: &'r str,
}

impl<'t> Reader<'_, 't> {
    fn read(&self, report: &mut Report) -> Defined {
        let table = self.table;
        table.reject_unknown(report, &KEYS, belongs_elsewhere);
        let mut policy = Policy::default();
        let scale_said = self.scale(&mut policy, report);
        let mut names = Names::new(self.around.env)
            .with("program_name", Word::Text(self.head.name.to_owned()))
            .with("group_name", Word::Text(self.head.group.to_owned()))
            .with("host_node_name", Word::Text(self.around.hostname.to_owned()))
            .with("numprocs", Word::Number(i64::from(policy.numprocs)))
            .with("process_num", Word::ProcessNum);

        let mut spec = ProgramSpec::new(self.head.name, Vec::new());
        spec.group = GroupName::new(self.head.group);
        let most = policy.numprocs.max(policy.scale.min).max(policy.scale.max.unwrap_or(0));
        let numbered = policy.numprocs != 1 || (scale_said && policy.scale.max != Some(1));
        spec.process_name = self.process_name(numbered, most, &names, report);

        let mut launch = (*spec.launch).clone();
        // Before the others, because a program's own variables may stand in its command and paths.
        self.environment(&mut launch, &mut names, report);
        self.launch(&mut launch, &names, report);
        self.policy(&mut policy, report);
        self.tables(&mut policy, report);

        let mut single = !spec.process_name.depends_on_number();
        table.set(report, "strip_ansi", &mut spec.output.strip_ansi, values::flag);
        spec.output.stdout = self.stream("stdout", &spec, most, &names, &mut single, report);
        let stderr = self.stream("stderr", &spec, most, &names, &mut single, report);
        if launch.redirect_stderr {
            if let Some(entry) =
                table.find("stderr_logfile").filter(|entry| entry.key.starts_with(self.head.key) && !stderr.sinks.is_empty())
            {
                report.warn(entry.place(), &entry.key, "has no effect, because redirect_stderr sends stderr to where stdout goes");
            }
        } else {
            spec.output.stderr = stderr;
        }
        // A second slot would take the first one's name or log file.
        if single && policy.scale.max.is_none() {
            policy.scale.max = Some(1);
        }
        self.check_lock(&launch, most, report);
        spec.launch = Arc::new(launch);
        spec.policy = policy;
        Defined {
            head: Spot { key: self.head.key.to_owned(), place: self.head.place.clone() },
            lock: self.spot(table.sub(&mut Report::default(), "singleton").find("lock")),
            stdout: self.spot(table.find("stdout_logfile")),
            stderr: self.spot(table.find("stderr_logfile")),
            spec,
        }
    }

    fn spot(&self, entry: Option<Entry<'t>>) -> Spot {
        match entry {
            Some(entry) => Spot { key: entry.key.clone(), place: entry.place().clone() },
            None => Spot { key: self.head.key.to_owned(), place: self.head.place.clone() },
        }
    }

    /// Reads how many there are and may be; true if `[…scale]` speaks of more than none.
    fn scale(&self, policy: &mut Policy, report: &mut Report) -> bool {
        let table = self.table;
        let scale = table.sub(report, "scale");
        scale.reject_unknown(report, keys_of("scale"), |_| None);
        let numprocs = table.read(report, "numprocs", values::whole(0..=MOST_SLOTS));
        table.set(report, "numprocs_start", &mut policy.numprocs_start, values::whole(0..=1_000_000));
        scale.set(report, "min", &mut policy.scale.min, values::whole(0..=MOST_SLOTS));
        scale.set_some(report, "max", &mut policy.scale.max, values::whole(1..=MOST_SLOTS));
        let (min, max) = (policy.scale.min, policy.scale.max.unwrap_or(u32::MAX));
        policy.numprocs = numprocs.unwrap_or(policy.numprocs.max(min));
        let said = |key| scale.find(key);
        if min > max {
            let at = said("min").or_else(|| said("max"));
            report.extend(at.map(|entry| entry.conflict(&format!("scale.min is {min}, above scale.max, which is {max}"), None)));
        } else if policy.numprocs < min || policy.numprocs > max {
            let count = policy.numprocs;
            let (bound, limit, key) = if count < min { ("below scale.min", min, "min") } else { ("above scale.max", max, "max") };
            let at = table.find("numprocs").or_else(|| said(key));
            report.extend(at.map(|entry| entry.conflict(&format!("numprocs is {count}, {bound}, which is {limit}"), None)));
        }
        // A least number of none is no more than the default.
        policy.scale.min > 0 || policy.scale.max.is_some()
    }

    fn process_name(&self, numbered: bool, most: u32, names: &Names<'_>, report: &mut Report) -> Template {
        let default = if numbered {
            Template(vec![Piece::Text(format!("{}_", self.head.name)), Piece::Number { zero: true, width: 2 }])
        } else {
            Template::text(self.head.name)
        };
        let said = self.table.read(report, "process_name", |entry| {
            let template = values::template(entry, names, "a name")?;
            if let Some(fault) = name::fault_in(&template.render(0)) {
                return Err(entry.wrong_but("a name for processes", Some(fault.to_owned())));
            }
            if most > 1 && !template.depends_on_number() {
                let why = format!("there may be {most} processes, and all would have this one name");
                return Err(entry.conflict(&why, Some("put %(process_num)02d into it")));
            }
            Ok(template)
        });
        said.unwrap_or(default)
    }

    fn environment<'n>(&self, launch: &mut LaunchSpec, names: &mut Names<'n>, report: &mut Report) {
        let before = names.clone();
        for entry in self.table.sub(report, "environment").entries() {
            let variable = entry.name.to_owned();
            if variable.is_empty() || variable.contains(['=', '\0']) {
                report.add(entry.conflict("a variable's name may not be empty, nor contain \"=\"", None));
                continue;
            }
            if variable.starts_with("GANGER_") || matches!(variable.as_str(), "NOTIFY_SOCKET" | "WATCHDOG_USEC" | "WATCHDOG_PID") {
                report.warn(entry.place(), &entry.key, "ganger sets this variable itself, so this value is not seen by the worker");
            }
            let value = match entry.value() {
                Value::Text(_) => values::template(&entry, &before, "a text, a number, true or false"),
                Value::Whole { .. } | Value::Fraction(_) | Value::Flag(_) => Ok(Template::text(&entry.item.node.found())),
                Value::List(_) | Value::Table(_) | Value::Other(_) => Err(entry.wrong("a text, a number, true or false")),
            };
            match value {
                Ok(value) => {
                    *names = std::mem::take(names).with(&format!("ENV_{variable}"), Word::Open(value.clone()));
                    launch.environment.push((variable, value));
                }
                Err(error) => report.add(error),
            }
        }
    }

    fn launch(&self, launch: &mut LaunchSpec, names: &Names<'_>, report: &mut Report) {
        let table = self.table;
        match table.find("command") {
            Some(_) => table.set(report, "command", &mut launch.command, |entry| values::command(entry, names)),
            None if self.head.whole => {
                let fault = Fault::Missing { expected: String::from("a command, such as command = \"php worker.php\"") };
                report.error(self.head.place, &format!("{}.command", self.head.key), fault, None);
            }
            None => {}
        }
        table.set_some(report, "directory", &mut launch.directory, |entry| values::path(entry, names, self.around));
        launch.user = self.user(names, report);
        table.set_some(report, "umask", &mut launch.umask, values::octal);
        table.set_some(report, "nice", &mut launch.nice, values::whole(-20..=19));
        table.set_some(report, "oom_score_adj", &mut launch.oom_score_adj, values::whole(-1000..=1000));
        table.set(report, "no_new_privs", &mut launch.no_new_privs, values::flag);
        table.set(report, "session", &mut launch.session, values::flag);
        table.set(report, "stdin", &mut launch.stdin, values::choice(&[("null", Stdin::Null), ("pipe", Stdin::Pipe)]));
        table.set(report, "redirect_stderr", &mut launch.redirect_stderr, values::flag);
        table.set_some(report, "watchdog", &mut launch.watchdog, values::time);

        let rlimits = table.sub(report, "rlimits");
        let known = values::RLIMITS.map(|(name, _)| name);
        rlimits.reject_unknown(report, &known, |_| None);
        for (name, limit) in values::RLIMITS {
            if let Some(value) = rlimits.read(report, name, values::rlimit) {
                launch.rlimits.insert(limit, value);
            }
        }

        let singleton = table.sub(report, "singleton");
        singleton.reject_unknown(report, keys_of("singleton"), |_| None);
        if let Some(lock) = singleton.read(report, "lock", |entry| self.lock(entry, names)) {
            launch.lock = Some(lock);
        }
    }

    /// Root has to say for every program who it runs as; anybody else can only run programs as himself.
    fn user(&self, names: &Names<'_>, report: &mut Report) -> Option<User> {
        if self.table.find("user").is_none() {
            if self.head.whole && self.around.uid == 0 {
                let expected = String::from("a user, because ganger runs as root and starts nothing as root unasked");
                let mend = String::from("write user = \"www-data\" or the like, or user = \"root\" if it must be root");
                report.error(self.head.place, &format!("{}.user", self.head.key), Fault::Missing { expected }, Some(mend));
            }
            return None;
        }
        self.table.read(report, "user", |entry| {
            let name = match entry.value() {
                Value::Whole { value, .. } => value.to_string(),
                _ => values::template(entry, names, "a user's name")?.render(0),
            };
            let user = match (self.around.users)(&name) {
                Ok(Some(user)) => user,
                Ok(None) => return Err(entry.wrong("a user (or \"user:group\") that this system knows")),
                Err(why) => return Err(entry.conflict(&format!("user \"{name}\" cannot be looked up: {why}"), None)),
            };
            match self.around.uid {
                0 => Ok(Some(user)),
                // A group that is not said is whatever we have.
                uid if uid == user.uid && (self.around.gid == user.gid || !name.contains(':')) => Ok(None),
                uid => {
                    let why = format!("ganger runs as uid {uid} and cannot start a program as \"{name}\"; only root can");
                    Err(entry.conflict(&why, Some("leave the key out, or run gangerd as root")))
                }
            }
        })?
    }

    fn lock(&self, entry: &Entry<'_>, names: &Names<'_>) -> Result<LockSpec, ConfigError> {
        let expected = "\"port:3801\", \"file:/run/lock/NAME\", or a bare name";
        let text = values::text(entry, expected)?;
        if let Some(port) = text.strip_prefix("port:") {
            return match port.parse::<u16>() {
                Ok(port) if port > 0 => Ok(LockSpec::Port(port)),
                Ok(_) | Err(_) => Err(entry.wrong_but(expected, Some(String::from("a port is a number from 1 to 65535")))),
            };
        }
        if let Some(path) = text.strip_prefix("file:") {
            return values::path_of(entry, path, names, self.around).map(LockSpec::File);
        }
        let template = values::template(entry, names, expected)?;
        match name::fault_in(&template.render(0)) {
            None => Ok(LockSpec::Name(template)),
            Some(fault) => Err(entry.wrong_but(expected, Some(fault.to_owned()))),
        }
    }

    fn policy(&self, policy: &mut Policy, report: &mut Report) {
        let table = self.table;
        table.set(report, "priority", &mut policy.priority, values::whole(i64::from(i32::MIN)..=i64::from(i32::MAX)));
        table.set(report, "autostart", &mut policy.autostart, values::flag);
        table.set(report, "autorestart", &mut policy.autorestart, values::autorestart);
        table.set(report, "startsecs", &mut policy.startsecs, values::span);
        table.set(report, "startretries", &mut policy.startretries, values::startretries);
        table.set(report, "exitcodes", &mut policy.exitcodes, values::exitcodes);
        table.set_some(report, "restart_pause", &mut policy.restart_pause, values::span);

        let mut wait = policy.stop.rungs.first().map_or(Span::secs(10), |rung| rung.wait);
        table.set(report, "stopwaitsecs", &mut wait, values::span);
        policy.stop.rungs.iter_mut().for_each(|rung| rung.wait = wait);
        table.set(report, "stopsignal", &mut policy.stop.rungs, |entry| values::ladder(entry, wait));
        let whole = policy.stop.rungs.iter().fold(Span::ZERO, |sum, rung| sum + rung.wait);
        if whole > Span::secs(86_400) {
            let entry = table.find("stopsignal").or_else(|| table.find("stopwaitsecs"));
            if let Some(entry) = entry {
                report.warn(entry.place(), &entry.key, &format!("a stop may take {whole} before the worker is killed"));
            }
        }
        table.set(report, "stop_resend", &mut policy.stop.resend, values::resend);
        table.set(
            report,
            "leftovers",
            &mut policy.stop.leftovers,
            values::choice(&[("kill", Leftovers::Kill), ("leave", Leftovers::Leave)]),
        );
        table.set(report, "stopasgroup", &mut policy.stop.as_group, values::flag);
        match table.read(report, "killasgroup", values::flag) {
            Some(false) if policy.stop.as_group => {
                let entry = table.find("killasgroup").expect("it was just read");
                report.add(
                    entry.conflict("stopasgroup = true needs killasgroup = true", Some("leave killasgroup out: it follows stopasgroup")),
                );
            }
            Some(kill) => policy.stop.kill_as_group = kill,
            None => policy.stop.kill_as_group = policy.stop.as_group,
        }
        table.set(report, "ready", &mut policy.ready.notify, values::choice(&[("startsecs", false), ("notify", true)]));
        table.set(report, "ready_timeout", &mut policy.ready.timeout, values::time);
    }

    fn tables(&self, policy: &mut Policy, report: &mut Report) {
        let recycle = self.table.sub(report, "recycle");
        recycle.reject_unknown(report, keys_of("recycle"), |_| None);
        let spec = &mut policy.recycle;
        recycle.set_some(report, "max_jobs", &mut spec.max_jobs, values::jobs_range);
        recycle.set_some(report, "max_memory", &mut spec.max_memory, values::some_size);
        recycle.set(report, "memory_samples", &mut spec.memory_samples, values::samples);
        recycle.set(report, "sample_interval", &mut spec.sample_interval, |entry| {
            values::span(entry).ok().filter(|span| *span >= Span::millis(100)).ok_or_else(|| entry.wrong("a duration of 100ms or more"))
        });
        recycle.set_some(report, "max_lifetime", &mut spec.max_lifetime, values::time);
        recycle.set(report, "lifetime_jitter", &mut spec.lifetime_jitter, values::number(0.0..=0.9));
        recycle.set(report, "min_lifetime", &mut spec.min_lifetime, values::span);
        recycle.set(report, "concurrency", &mut spec.concurrency, values::whole(1..=MOST_SLOTS));
        recycle.set(report, "patience", &mut spec.patience, values::span);
        if spec.max_lifetime.is_some_and(|max| max < spec.min_lifetime) {
            let entry = recycle.find("min_lifetime").expect("it is not its default, zero");
            report.add(entry.conflict("min_lifetime is longer than max_lifetime", None));
        }

        let jobs = self.table.sub(report, "jobs");
        jobs.reject_unknown(report, keys_of("jobs"), |_| None);
        jobs.set(report, "count", &mut policy.jobs.count, values::count);
        jobs.set_some(report, "timeout", &mut policy.jobs.timeout, values::time);

        let backoff = self.table.sub(report, "backoff");
        backoff.reject_unknown(report, keys_of("backoff"), |_| None);
        let (mut initial, mut max, mut factor, mut jitter) = (Span::secs(1), Span::secs(60), 2.0, 0.1);
        backoff.set(report, "initial", &mut initial, values::time);
        backoff.set(report, "max", &mut max, values::time);
        backoff.set(report, "factor", &mut factor, values::number(1.0..=100.0));
        backoff.set(report, "jitter", &mut jitter, values::number(0.0..=0.9));
        let shape = ["initial", "max", "factor", "jitter"].iter().find_map(|key| backoff.find(key));
        if let Some(entry) = shape {
            if initial > max {
                report.add(entry.conflict(&format!("backoff.initial ({initial}) is longer than backoff.max ({max})"), None));
            }
            policy.backoff.rule = BackoffRule::Exponential { initial, max, factor, jitter };
        }
        backoff.set_some(report, "reset_after", &mut policy.backoff.reset_after, values::span);
        backoff.set_some(report, "retry_after_fatal", &mut policy.backoff.retry_after_fatal, values::time);
    }

    /// `stdout_logfile` and its like. `single` becomes true if the file can only serve one slot.
    fn stream(&self, stream: &str, spec: &ProgramSpec, most: u32, names: &Names<'_>, single: &mut bool, report: &mut Report) -> StreamSpec {
        let table = self.table;
        let (file_key, size_key, backups_key) =
            (format!("{stream}_logfile"), format!("{stream}_logfile_maxbytes"), format!("{stream}_logfile_backups"));
        let mut file = LogFile { path: auto(spec, self.log_dir, stream), max_bytes: Bytes::mib(50), backups: 10 };
        table.set(report, &size_key, &mut file.max_bytes, values::size);
        table.set(report, &backups_key, &mut file.backups, values::whole(0..=10_000));
        let Some(entry) = table.find(&file_key) else { return StreamSpec { sinks: vec![Sink::File(file)], ..StreamSpec::default() } };
        match values::text(&entry, "\"AUTO\", \"NONE\" or a path").map(str::to_ascii_uppercase) {
            Ok(word) if word == "NONE" => return StreamSpec::default(),
            Ok(word) if word == "AUTO" => {}
            Err(error) => report.add(error),
            Ok(_) => match values::path(&entry, names, self.around) {
                Err(error) => report.add(error),
                Ok(path) => {
                    let rendered = path.render(0);
                    if rendered.starts_with("/dev/") {
                        // A device is not ours to rotate, and takes lines of everybody.
                        file.max_bytes = Bytes(0);
                    } else if !path.depends_on_number() {
                        *single = true;
                        if most > 1 {
                            let why = format!("there may be {most} processes, and all would write into this one file");
                            report.add(entry.conflict(&why, Some("put %(process_num)02d into it")));
                        }
                    }
                    if rendered.ends_with('/') || self.around.files.is_directory(Path::new(&rendered)) {
                        report.add(entry.wrong("the path of a file, not of a directory"));
                    }
                    if let Some(directory) = Path::new(&rendered).parent().filter(|directory| !self.around.files.is_directory(directory)) {
                        let text = format!("the directory {} does not exist; it will be made", directory.display());
                        report.warn(entry.place(), &entry.key, &text);
                    }
                    file.path = path;
                }
            },
        }
        StreamSpec { sinks: vec![Sink::File(file)], ..StreamSpec::default() }
    }

    fn check_lock(&self, launch: &LaunchSpec, most: u32, report: &mut Report) {
        let shared = match &launch.lock {
            None => false,
            Some(LockSpec::Port(_)) => true,
            Some(LockSpec::File(text) | LockSpec::Name(text)) => !text.depends_on_number(),
        };
        if shared && most > 1 {
            let spot = self.spot(self.table.sub(&mut Report::default(), "singleton").find("lock"));
            let text = format!("one lock for {most} processes: one runs, the others wait for it");
            report.warn(&spot.place, &spot.key, &text);
        }
    }
}

/// `{log_dir}/{group.process}.{stream}.log`, different for every slot because process names are.
fn auto(spec: &ProgramSpec, log_dir: &str, stream: &str) -> Template {
    let mut pieces = vec![Piece::Text(format!("{}/", log_dir.trim_end_matches('/')))];
    if spec.process_name != Template::text(spec.group.as_str()) {
        pieces.push(Piece::Text(format!("{}.", spec.group)));
    }
    pieces.extend(spec.process_name.0.iter().cloned());
    pieces.push(Piece::Text(format!(".{stream}.log")));
    joined(pieces)
}

/// Texts that stand side by side as one, so that equal templates are equal piece by piece.
pub fn joined(pieces: Vec<Piece>) -> Template {
    let mut out: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (out.last_mut(), piece) {
            (Some(Piece::Text(last)), Piece::Text(text)) => last.push_str(&text),
            (_, piece) => out.push(piece),
        }
    }
    Template(out)
}

fn keys_of(table: &str) -> &'static [&'static str] {
    TABLES.iter().find(|(name, _)| *name == table).map_or(&[], |(_, keys)| keys)
}

/// Whether a key that is no program's belongs to one of its tables.
fn belongs_elsewhere(key: &str) -> Option<String> {
    let (table, _) = TABLES.iter().find(|(_, keys)| keys.contains(&key))?;
    Some(format!("it belongs in the table \"{table}\""))
}
