//! A plan written down as TOML: what `gangerd --import supervisord.conf` prints.
//!
//! The same fleet, said in the native dialect: only what is not the native default is written, so that a short file comes
//! out. Where the two dialects have different defaults (`leftovers`, `stop_resend`) the old behaviour is written out.
//! What TOML cannot say (listeners, FastCGI, capture, Supervisor's own servers) is told in comments, not dropped in
//! silence.

use crate::model::plan::{DoorAt, Plan, SupervisordSpec};
use crate::model::signal::Signal;
use crate::model::spec::{
    Autorestart, BackoffRule, FcgiSocket, JobCount, Kind, Leftovers, LockSpec, Policy, ProgramSpec, Rlimit, Sink, Stdin, StreamSpec,
};
use crate::model::template::{Piece, Template};
use crate::model::time::Span;
use crate::model::units::Bytes;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

/// The fleet of `plan` as a `ganger.toml`, with comments on what is different there.
pub fn to_toml(plan: &Plan) -> String {
    let mut out = Out(String::from("# Made by gangerd --import.\n"));
    daemon(plan, &mut out);
    for spec in plan.programs.values() {
        program(spec, plan, &mut out);
    }
    groups(plan, &mut out);
    out.0
}

struct Out(String);

impl Out {
    fn line(&mut self, text: impl Display) {
        writeln!(self.0, "{text}").expect("a String takes all");
    }

    fn comment(&mut self, text: impl Display) {
        for line in text.to_string().lines() {
            self.line(format_args!("# {line}"));
        }
    }

    fn table(&mut self, name: impl Display) {
        self.line(format_args!("\n[{name}]"));
    }

    fn key(&mut self, key: &str, value: impl Display) {
        self.line(format_args!("{key} = {value}"));
    }

    /// The key, unless its value is what it would be without it.
    fn unless<T: PartialEq + Copy>(&mut self, default: &T, value: &T, key: &str, write: impl Fn(T) -> String) {
        if default != value {
            self.key(key, write(*value));
        }
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => write!(out, "\\u{:04X}", u32::from(c)).expect("a String takes all"),
            c => out.push(c),
        }
    }
    out + "\""
}

/// A text that will be expanded when it is read.
fn escaped(text: &str) -> String {
    text.replace('%', "%%")
}

fn template(template: &Template) -> String {
    let mut text = String::new();
    for piece in &template.0 {
        match *piece {
            Piece::Text(ref part) => text.push_str(&escaped(part)),
            Piece::Number { zero, width } => {
                let zero = if zero { "0" } else { "" };
                let width = if width == 0 { String::new() } else { width.to_string() };
                write!(text, "%(process_num){zero}{width}d").expect("a String takes all");
            }
        }
    }
    quoted(&text)
}

fn name(text: &str) -> String {
    let bare = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if bare { text.to_owned() } else { quoted(text) }
}

/// Whole seconds as a number, as people know it from Supervisor.
fn span(span: Span) -> String {
    if span.0.is_multiple_of(1000) { (span.0 / 1000).to_string() } else { format!("\"{}ms\"", span.0) }
}

fn bytes(size: Bytes) -> String {
    for (unit, factor) in [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)] {
        if size.0 > 0 && size.0.is_multiple_of(factor) {
            return format!("\"{}{unit}\"", size.0 / factor);
        }
    }
    // TOML's numbers end before ours do.
    if i64::try_from(size.0).is_ok() { size.0.to_string() } else { format!("\"{}\"", size.0) }
}

fn flag(flag: bool) -> String {
    flag.to_string()
}

/// A number with a fraction, which TOML wants to see.
fn fraction(number: f64) -> String {
    format!("{number:?}")
}

fn daemon(plan: &Plan, out: &mut Out) {
    let daemon = &plan.daemon;
    out.table("daemon");
    out.key("runtime_dir", quoted(&escaped(&daemon.runtime_dir)));
    out.key("log_dir", quoted(&escaped(&daemon.log_dir)));
    if let Some(path) = &daemon.log_file {
        out.key("log_file", quoted(&escaped(path)));
    }
    out.key("log_level", quoted(&daemon.log_level));
    out.unless(&1000, &daemon.ring_lines, "ring_lines", |lines| lines.to_string());
    if let Some(spec) = &daemon.supervisord {
        supervisord(spec, out);
    }
    out.table("server");
    out.key("socket", quoted(&escaped(&daemon.socket.path)));
    out.key("mode", format_args!("\"0{:o}\"", daemon.socket.mode));
    if let Some((uid, gid)) = daemon.socket.owner {
        out.key("owner", format_args!("\"{uid}:{gid}\""));
    }
}

/// What a native file does not say.
fn supervisord(spec: &SupervisordSpec, out: &mut Out) {
    for door in &spec.doors {
        match &door.at {
            DoorAt::Unix(socket) => out.comment(format_args!(
                "[{}] file={}: not in this dialect yet. gangerctl uses the socket below; supervisorctl and XML-RPC clients need the old file.",
                door.section, socket.path
            )),
            DoorAt::Tcp { host, port } => {
                out.comment(format_args!("[{}] port={host}:{port}: not in this dialect yet; XML-RPC clients need the old file.", door.section));
            }
        }
    }
    out.comment(format_args!("pidfile={}: a service manager needs none.", spec.pid_file));
    out.comment(format_args!(
        "logfile_maxbytes={}, logfile_backups={}: leave the rotation of the daemon's own log to logrotate, or log to stderr.",
        spec.log_max_bytes.0, spec.log_backups
    ));
    out.comment(format_args!(
        "minfds={}, minprocs={}: set the limits of the service (LimitNOFILE=, LimitNPROC=).",
        spec.minfds, spec.minprocs
    ));
    if spec.identifier != "supervisor" {
        out.comment(format_args!("identifier={}: only for XML-RPC and event listeners.", spec.identifier));
    }
    if let Some(user) = &spec.user {
        out.comment(format_args!("user={}: run the service as that user, or name it in every program.", user.name));
    }
    if let Some(directory) = &spec.directory {
        out.comment(format_args!("directory={directory}: WorkingDirectory= of the service, or directory of every program."));
    }
}

fn groups(plan: &Plan, out: &mut Out) {
    let mut members: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for spec in plan.programs.values() {
        members.entry(spec.group.as_str()).or_default().push(spec.name.as_str());
    }
    for (group, programs) in &members {
        let priority = plan.groups.iter().find(|(name, _)| name.as_str() == *group).map(|(_, priority)| *priority);
        // A program alone is a group of its own name by itself.
        if priority.is_none() && *programs == [*group] {
            continue;
        }
        out.table(format_args!("group.{}", name(group)));
        out.key("programs", format_args!("[{}]", programs.iter().map(|program| quoted(program)).collect::<Vec<_>>().join(", ")));
        out.unless(&999, &priority.unwrap_or(999), "priority", |priority| priority.to_string());
    }
    for empty in plan.groups.keys().filter(|group| !members.contains_key(group.as_str())) {
        out.comment(format_args!("[group:{empty}] has no programs."));
    }
}

fn program(spec: &ProgramSpec, plan: &Plan, out: &mut Out) {
    let table = format!("program.{}", name(spec.name.as_str()));
    let default = ProgramSpec::new(spec.name.as_str(), Vec::new());
    let (launch, policy) = (&spec.launch, &spec.policy);
    out.table(&table);
    kind(spec, out);
    out.key("command", format_args!("[{}]", launch.command.iter().map(template).collect::<Vec<_>>().join(", ")));
    if !spec.process_name.0.is_empty() {
        out.key("process_name", template(&spec.process_name));
    }
    if let Some(directory) = &launch.directory {
        out.key("directory", template(directory));
    }
    match (&launch.user, plan.daemon.supervisord.as_ref().and_then(|spec| spec.user.as_ref())) {
        (Some(user), _) => out.key("user", quoted(&escaped(&user.name))),
        (None, Some(user)) => out.key("user", quoted(&escaped(&user.name))),
        (None, None) => out.line("#user = \"root\"  # Whoever the daemon runs as; if that is root, it must be said."),
    }
    if let Some(bits) = launch.umask {
        out.key("umask", format_args!("\"{bits:03o}\""));
    }
    for (key, value) in [("nice", launch.nice), ("oom_score_adj", launch.oom_score_adj)] {
        if let Some(value) = value {
            out.key(key, value);
        }
    }
    out.unless(&false, &launch.no_new_privs, "no_new_privs", flag);
    out.unless(&false, &launch.session, "session", flag);
    out.unless(&false, &launch.redirect_stderr, "redirect_stderr", flag);
    if let Some(watchdog) = launch.watchdog {
        out.key("watchdog", span(watchdog));
    }
    rules(policy, &default.policy, out);
    out.unless(&false, &spec.output.strip_ansi, "strip_ansi", flag);
    let most = policy.numprocs.max(policy.scale.min).max(policy.scale.max.unwrap_or(0));
    stream("stdout", &spec.output.stdout, most, out);
    if !launch.redirect_stderr {
        stream("stderr", &spec.output.stderr, most, out);
    }
    if launch.stdin == Stdin::Pipe {
        out.key("stdin", "\"pipe\"");
    }
    if !launch.environment.is_empty() {
        out.table(format_args!("{table}.environment"));
        for (key, value) in &launch.environment {
            out.key(&name(key), template(value));
        }
    }
    if !launch.rlimits.is_empty() {
        out.table(format_args!("{table}.rlimits"));
        for (limit, (soft, hard)) in &launch.rlimits {
            let word = |limit: &Option<u64>| limit.map_or_else(|| String::from("\"unlimited\""), |limit| bytes(Bytes(limit)));
            out.key(rlimit(*limit), format_args!("[{}, {}]", word(soft), word(hard)));
        }
    }
    if let Some(lock) = &launch.lock {
        out.table(format_args!("{table}.singleton"));
        match lock {
            LockSpec::Port(port) => out.key("lock", format_args!("\"port:{port}\"")),
            LockSpec::File(path) => out.key("lock", template(path).replacen('"', "\"file:", 1)),
            LockSpec::Name(name) => out.key("lock", template(name)),
        }
    }
    tables(&table, policy, &default.policy, out);
}

/// What only Supervisor's dialect can say of a program.
fn kind(spec: &ProgramSpec, out: &mut Out) {
    match &spec.kind {
        Kind::Program => {}
        Kind::Listener(listener) => out.comment(format_args!(
            "NOT THE SAME: it was [eventlistener:{}] with events={} and buffer_size={}, and here it is an ordinary program that hears of no events. \
             Keep it in the old file, or follow `gangerctl events --json` instead.",
            spec.name,
            listener.events.join(","),
            listener.buffer_size
        )),
        Kind::Fcgi(fcgi) => {
            let socket = match &fcgi.socket {
                FcgiSocket::Tcp { host, port } => format!("tcp://{host}:{port}"),
                FcgiSocket::Unix { path } => format!("unix://{path}"),
            };
            out.comment(format_args!(
                "NOT THE SAME: it was [fcgi-program:{}] with socket={socket}, and here it gets no socket. Keep it in the old file.",
                spec.name
            ));
        }
    }
    if spec.name.as_str().contains('@') {
        out.comment("It is in several groups, and so is defined once for each.");
    }
}

fn rules(policy: &Policy, default: &Policy, out: &mut Out) {
    // Written even where it is the default: people look for it.
    out.key("numprocs", policy.numprocs);
    out.unless(&default.numprocs_start, &policy.numprocs_start, "numprocs_start", |n| n.to_string());
    out.unless(&default.priority, &policy.priority, "priority", |n| n.to_string());
    out.unless(&default.autostart, &policy.autostart, "autostart", flag);
    out.unless(&default.autorestart, &policy.autorestart, "autorestart", |rule| {
        String::from(match rule {
            Autorestart::Never => "false",
            Autorestart::Unexpected => "\"unexpected\"",
            Autorestart::Always => "true",
        })
    });
    out.unless(&default.startsecs, &policy.startsecs, "startsecs", span);
    out.unless(&default.startretries, &policy.startretries, "startretries", |n| {
        n.map_or_else(|| String::from("\"forever\""), |n| n.to_string())
    });
    if policy.exitcodes != default.exitcodes {
        out.key("exitcodes", format_args!("{:?}", policy.exitcodes));
    }
    if let Some(pause) = policy.restart_pause {
        out.key("restart_pause", span(pause));
    }
    let stop = &policy.stop;
    match stop.rungs.as_slice() {
        [only] => {
            out.key("stopsignal", quoted(&signal(only.signal)));
            out.key("stopwaitsecs", span(only.wait));
        }
        rungs => {
            let rungs: Vec<String> = rungs.iter().map(|rung| format!("{} {}ms", signal(rung.signal), rung.wait.0)).collect();
            out.key("stopsignal", quoted(&rungs.join(", ")));
        }
    }
    // Where the dialects differ, the old way is written out; leave the line out for the new one.
    out.unless(&default.stop.resend, &stop.resend, "stop_resend", |resend| resend.map_or_else(|| String::from("\"off\""), span));
    out.unless(&default.stop.leftovers, &stop.leftovers, "leftovers", |leftovers| {
        String::from(match leftovers {
            Leftovers::Kill => "\"kill\"",
            Leftovers::Leave => "\"leave\"",
        })
    });
    out.unless(&false, &stop.as_group, "stopasgroup", flag);
    if stop.kill_as_group != stop.as_group {
        out.key("killasgroup", stop.kill_as_group);
    }
    out.unless(&false, &policy.ready.notify, "ready", |_| String::from("\"notify\""));
    out.unless(&default.ready.timeout, &policy.ready.timeout, "ready_timeout", span);
}

/// `TERM`, or a number where it has no name.
fn signal(signal: Signal) -> String {
    let text = signal.to_string();
    text.strip_prefix("SIG").map_or_else(|| signal.number().to_string(), str::to_owned)
}

fn rlimit(limit: Rlimit) -> &'static str {
    match limit {
        Rlimit::Nofile => "nofile",
        Rlimit::Nproc => "nproc",
        Rlimit::Core => "core",
        Rlimit::Cpu => "cpu",
        Rlimit::Data => "data",
        Rlimit::Fsize => "fsize",
        Rlimit::Stack => "stack",
        Rlimit::As => "as",
        Rlimit::Memlock => "memlock",
    }
}

/// `most`: how many processes there may be.
fn stream(stream: &str, spec: &StreamSpec, most: u32, out: &mut Out) {
    match spec.sinks.first() {
        None => out.key(&format!("{stream}_logfile"), "\"NONE\""),
        Some(Sink::File(file)) => {
            let mut path = file.path.clone();
            if most > 1 && !path.depends_on_number() && !path.render(0).starts_with("/dev/") {
                out.comment(format_args!("{stream}_logfile was one file for all processes, which rotated it away from each other."));
                path.0.extend([Piece::Text(String::from(".")), Piece::Number { zero: true, width: 2 }]);
            }
            out.key(&format!("{stream}_logfile"), template(&path));
            out.unless(&Bytes::mib(50), &file.max_bytes, &format!("{stream}_logfile_maxbytes"), bytes);
            out.unless(&10, &file.backups, &format!("{stream}_logfile_backups"), |n| n.to_string());
        }
    }
    if spec.capture_max.0 > 0 {
        out.comment(format_args!(
            "{stream}_capture_maxbytes={}: only for event listeners, which this dialect does not have yet.",
            spec.capture_max.0
        ));
    }
    if spec.events {
        out.comment(format_args!("{stream}_events_enabled: only for event listeners, which this dialect does not have yet."));
    }
}

fn tables(table: &str, policy: &Policy, default: &Policy, out: &mut Out) {
    let (old, new) = (&default.recycle, &policy.recycle);
    if old != new {
        out.table(format_args!("{table}.recycle"));
        if let Some((low, high)) = new.max_jobs {
            out.key("max_jobs", if low == high { low.to_string() } else { format!("\"{low}-{high}\"") });
        }
        if let Some(memory) = new.max_memory {
            out.key("max_memory", bytes(memory));
        }
        out.unless(&old.memory_samples, &new.memory_samples, "memory_samples", |(over, all)| format!("\"{over} of {all}\""));
        out.unless(&old.sample_interval, &new.sample_interval, "sample_interval", span);
        if let Some(lifetime) = new.max_lifetime {
            out.key("max_lifetime", span(lifetime));
        }
        out.unless(&old.lifetime_jitter, &new.lifetime_jitter, "lifetime_jitter", fraction);
        out.unless(&old.min_lifetime, &new.min_lifetime, "min_lifetime", span);
        out.unless(&old.concurrency, &new.concurrency, "concurrency", |n| n.to_string());
        out.unless(&old.patience, &new.patience, "patience", span);
    }
    if policy.jobs != default.jobs {
        out.table(format_args!("{table}.jobs"));
        match &policy.jobs.count {
            JobCount::Notify => {}
            JobCount::Lines { done, failed, running } => {
                let parts = [("done", done), ("failed", failed), ("running", running)];
                let parts: Vec<String> =
                    parts.iter().filter_map(|(key, regex)| regex.as_ref().map(|regex| format!("{key} = {}", quoted(regex)))).collect();
                out.key("count", format_args!("{{{}}}", parts.join(", ")));
            }
        }
        if let Some(timeout) = policy.jobs.timeout {
            out.key("timeout", span(timeout));
        }
    }
    if policy.scale != default.scale {
        out.table(format_args!("{table}.scale"));
        out.unless(&0, &policy.scale.min, "min", |n| n.to_string());
        if let Some(max) = policy.scale.max {
            out.key("max", max);
        }
    }
    if policy.backoff != default.backoff {
        out.table(format_args!("{table}.backoff"));
        match policy.backoff.rule {
            BackoffRule::Linear => {}
            BackoffRule::Exponential { initial, max, factor, jitter } => {
                out.key("initial", span(initial));
                out.key("max", span(max));
                out.key("factor", fraction(factor));
                out.key("jitter", fraction(jitter));
            }
        }
        if let Some(reset) = policy.backoff.reset_after {
            out.key("reset_after", span(reset));
        }
        if let Some(retry) = policy.backoff.retry_after_fatal {
            out.key("retry_after_fatal", span(retry));
        }
    }
}
