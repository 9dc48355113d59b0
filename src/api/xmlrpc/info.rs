//! What `getProcessInfo` and `getAllConfigInfo` tell: a slot and a definition in Supervisor's terms. Pure.

use crate::api::xmlrpc::faults;
use crate::api::xmlrpc::wire::Value;
use crate::model::exit::Exit;
use crate::model::plan::{Plan, SupervisordSpec};
use crate::model::spec::{ProgramSpec, Sink, StreamSpec};
use crate::model::state::State;
use crate::model::time::{Span, Stamp};
use crate::model::view::SlotView;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What clock and calendar say.
#[derive(Clone, Debug)]
pub struct Today {
    pub now: Timestamp,
    pub zone: TimeZone,
}

impl Today {
    pub fn read() -> Today {
        Today { now: Timestamp::now(), zone: TimeZone::system() }
    }
}

/// One process as `getProcessInfo` has it. `spawnerr`: see [`spawnerr`].
pub fn process(slot: &SlotView, spec: Option<&ProgramSpec>, today: &Today, spawnerr: String) -> Value {
    let (code, name) = faults::state(slot.state);
    let (stdout, stderr) = spec.map(|spec| logs(spec, slot.number)).unwrap_or_default();
    let (stdout, stderr) = (stdout.unwrap_or_default(), stderr.unwrap_or_default());
    let description = description(slot, today, &spawnerr);
    Value::structure([
        ("name", Value::text(&slot.process)),
        ("group", Value::text(slot.group.as_str())),
        ("start", Value::Int(seconds(slot.started))),
        ("stop", Value::Int(seconds(slot.stopped))),
        ("now", Value::Int(today.now.as_second())),
        ("state", Value::Int(code)),
        ("statename", Value::text(name)),
        ("spawnerr", Value::Text(spawnerr)),
        ("exitstatus", Value::Int(exitstatus(slot))),
        ("logfile", Value::text(&stdout)),
        ("stdout_logfile", Value::Text(stdout)),
        ("stderr_logfile", Value::Text(stderr)),
        ("pid", Value::Int(i64::from(slot.pid.unwrap_or(0)))),
        ("description", Value::Text(description)),
    ])
}

/// Why it is not up, as Supervisor says it; empty where all is well. `no_start`: why it cannot even be started, in
/// Supervisor's words where it has words for it.
pub fn spawnerr(slot: &SlotView, spec: Option<&ProgramSpec>, no_start: Option<String>) -> String {
    match slot.state {
        State::Waiting => slot.reason.clone(),
        State::Backoff | State::Fatal if was_not_spawned(slot) => no_start.unwrap_or_else(|| slot.reason.clone()),
        State::Backoff | State::Fatal => "Exited too quickly (process log may have details)".to_owned(),
        State::Exited => match (slot.exit, spec) {
            (Some(Exit::Code(code)), Some(spec)) if !spec.policy.exitcodes.contains(&code) => format!("Bad exit code {code}"),
            (Some(Exit::Signal(_)), _) => "Bad exit code -1".to_owned(),
            (Some(Exit::Code(_) | Exit::Unknown) | None, _) => String::new(),
        },
        State::Stopped | State::Launching | State::Starting | State::Running | State::Stopping | State::Clearing => String::new(),
    }
}

/// True where the last start failed without a worker: the reason is then not that of the last worker's end.
pub fn was_not_spawned(slot: &SlotView) -> bool {
    let failed = matches!(slot.state, State::Backoff | State::Fatal);
    failed && !slot.history.first().is_some_and(|end| slot.reason.contains(&end.text))
}

fn exitstatus(slot: &SlotView) -> i64 {
    match slot.state {
        State::Stopped | State::Exited => match slot.exit {
            Some(Exit::Code(code)) => i64::from(code),
            Some(Exit::Signal(_)) => -1,
            Some(Exit::Unknown) | None => 0,
        },
        // One that ended too quickly has no exit status to Supervisor.
        State::Launching
        | State::Waiting
        | State::Starting
        | State::Running
        | State::Backoff
        | State::Stopping
        | State::Clearing
        | State::Fatal => 0,
    }
}

fn description(slot: &SlotView, today: &Today, spawnerr: &str) -> String {
    match slot.state {
        State::Running => {
            let uptime = today.now.as_second() - seconds(slot.started);
            format!("pid {}, uptime {}", slot.pid.unwrap_or(0), duration(uptime.max(0)))
        }
        State::Backoff | State::Fatal | State::Waiting if spawnerr.is_empty() => format!("unknown error (try \"tail {}\")", slot.process),
        State::Backoff | State::Fatal | State::Waiting => spawnerr.to_owned(),
        State::Stopped | State::Exited if slot.started == Stamp(0) => "Not started".to_owned(),
        State::Stopped | State::Exited => match Timestamp::from_second(seconds(slot.stopped)) {
            Ok(at) => at.to_zoned(today.zone.clone()).strftime("%b %d %I:%M %p").to_string(),
            Err(_) => String::new(),
        },
        State::Launching | State::Starting | State::Stopping | State::Clearing => String::new(),
    }
}

/// As Python prints a timedelta: `0:00:05`, `1 day, 2:03:04`, `3 days, 0:00:00`.
fn duration(seconds: i64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{}:{:02}:{:02}", rest / 3_600, rest % 3_600 / 60, rest % 60);
    match days {
        0 => clock,
        1 => format!("1 day, {clock}"),
        days => format!("{days} days, {clock}"),
    }
}

fn seconds(stamp: Stamp) -> i64 {
    stamp.0.div_euclid(1_000)
}

/// The files of stdout and stderr of slot `number`, where there are any.
pub fn logs(spec: &ProgramSpec, number: u32) -> (Option<String>, Option<String>) {
    let path = |stream: &StreamSpec| file(stream).map(|file| file.path.render(number));
    (path(&spec.output.stdout), if spec.launch.redirect_stderr { None } else { path(&spec.output.stderr) })
}

fn file(stream: &StreamSpec) -> Option<&crate::model::spec::LogFile> {
    stream.sinks.iter().map(|Sink::File(file)| file).next()
}

/// Every process of the definitions, sorted by its name. `inuse`: whether a group is active.
pub fn config(plan: &Plan, inuse: impl Fn(&str) -> bool) -> Value {
    let mut processes: Vec<(String, Value)> = Vec::new();
    for spec in plan.programs.values() {
        let first = spec.policy.numprocs_start;
        for number in first..first.saturating_add(spec.policy.numprocs) {
            processes.push((spec.process(number), one_config(plan, spec, number, inuse(spec.group.as_str()))));
        }
    }
    processes.sort_by(|a, b| a.0.cmp(&b.0));
    Value::Array(processes.into_iter().map(|(_, info)| info).collect())
}

fn one_config(plan: &Plan, spec: &ProgramSpec, number: u32, inuse: bool) -> Value {
    let (policy, launch) = (&spec.policy, spec.launch_of(number));
    let or_none = |text: Option<String>| Value::Text(text.unwrap_or_else(|| "none".to_owned()));
    let (stdout, stderr) = logs(spec, number);
    let rung = policy.stop.rungs.first();
    // Where nothing is said, the daemon's own address is told to the worker, and to Supervisor that is "nothing said".
    let auto = plan.daemon.supervisord.as_ref().and_then(SupervisordSpec::server_url);
    let server_url = spec.launch.server_url.clone().filter(|url| Some(url) != auto.as_ref());
    let bytes = |bytes: u64| Value::Int(i64::try_from(bytes).unwrap_or(i64::MAX));
    let rotation = |stream: &StreamSpec| file(stream).map_or((50 * 1024 * 1024, 10), |file| (file.max_bytes.0, file.backups));
    let (stdout_rotation, stderr_rotation) = (rotation(&spec.output.stdout), rotation(&spec.output.stderr));
    Value::structure([
        ("autostart", Value::Bool(policy.autostart)),
        ("directory", or_none(launch.directory)),
        ("uid", spec.launch.user.as_ref().map_or_else(|| Value::text("none"), |user| Value::Int(i64::from(user.uid)))),
        ("command", Value::Text(launch.argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))),
        ("exitcodes", Value::Array(policy.exitcodes.iter().map(|code| Value::Int(i64::from(*code))).collect())),
        ("group", Value::text(spec.group.as_str())),
        ("group_prio", Value::Int(i64::from(group_priority(plan, spec)))),
        ("inuse", Value::Bool(inuse)),
        ("killasgroup", Value::Bool(policy.stop.kill_as_group)),
        ("name", Value::Text(launch.process)),
        ("process_prio", Value::Int(i64::from(policy.priority))),
        ("redirect_stderr", Value::Bool(spec.launch.redirect_stderr)),
        ("startretries", Value::Int(policy.startretries.map_or(i64::MAX, i64::from))),
        ("startsecs", whole_seconds(policy.startsecs)),
        ("stdout_capture_maxbytes", bytes(spec.output.stdout.capture_max.0)),
        ("stdout_events_enabled", Value::Bool(spec.output.stdout.events)),
        ("stdout_logfile", or_none(stdout)),
        ("stdout_logfile_backups", Value::Int(i64::from(stdout_rotation.1))),
        ("stdout_logfile_maxbytes", bytes(stdout_rotation.0)),
        ("stdout_syslog", Value::Bool(false)),
        ("stopsignal", Value::Int(i64::from(rung.map_or(15, |rung| rung.signal.number())))),
        ("stopwaitsecs", whole_seconds(rung.map_or(Span::secs(10), |rung| rung.wait))),
        ("stderr_capture_maxbytes", bytes(spec.output.stderr.capture_max.0)),
        ("stderr_events_enabled", Value::Bool(spec.output.stderr.events)),
        ("stderr_logfile", or_none(stderr)),
        ("stderr_logfile_backups", Value::Int(i64::from(stderr_rotation.1))),
        ("stderr_logfile_maxbytes", bytes(stderr_rotation.0)),
        ("stderr_syslog", Value::Bool(false)),
        ("serverurl", or_none(server_url)),
    ])
}

/// A group that no `[group:x]` defines has its program's priority.
pub fn group_priority(plan: &Plan, spec: &ProgramSpec) -> i32 {
    plan.groups.get(&spec.group).copied().unwrap_or(spec.policy.priority)
}

/// Supervisor knows whole seconds only; a part of one is told as it is.
fn whole_seconds(span: Span) -> Value {
    if span.0.is_multiple_of(1_000) {
        Value::Int(i64::try_from(span.0 / 1_000).unwrap_or(i64::MAX))
    } else {
        Value::Double(span.as_secs_f64())
    }
}

/// A word as a shell takes it; the definition's own quotes are gone by now.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "@%_-+=:,./".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\"'\"'")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use crate::model::name::GroupName;
    use crate::model::notice::Why;
    use crate::model::spec::LogFile;
    use crate::model::template::{Piece, Template};
    use crate::model::units::Bytes;
    use crate::model::view::EndView;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn today(second: i64) -> Today {
        Today { now: Timestamp::from_second(second).expect("a time"), zone: TimeZone::UTC }
    }

    fn slot(state: State) -> SlotView {
        let view = samples::view(&[("mail", "mail", &["mail_0"])]);
        SlotView { state, started: Stamp(1_795_000_000_999), stopped: Stamp(0), ..SlotView::clone(&view.programs[0].slots[0]) }
    }

    fn said(slot: &SlotView) -> (String, String) {
        let why = spawnerr(slot, None, None);
        let info = process(slot, None, &today(1_795_100_000), why);
        let text = |name: &str| match info.member(name) {
            Some(Value::Text(text)) => text.clone(),
            other => panic!("{name}: {other:?}"),
        };
        (text("statename"), text("description"))
    }

    #[test]
    fn descriptions_are_supervisors() {
        assert_eq!(said(&slot(State::Running)), ("RUNNING".into(), "pid 4711, uptime 1 day, 3:46:40".into()));
        assert_eq!(said(&slot(State::Starting)), ("STARTING".into(), String::new()));
        assert_eq!(said(&slot(State::Launching)).0, "STARTING");
        assert_eq!(said(&SlotView { started: Stamp(0), ..slot(State::Stopped) }).1, "Not started");
        assert_eq!(said(&SlotView { stopped: Stamp(1_795_282_440_000), ..slot(State::Exited) }).1, "Nov 21 05:34 PM");
        let lock = SlotView { reason: "port 3801 is held by pid 7".into(), ..slot(State::Waiting) };
        assert_eq!(said(&lock), ("BACKOFF".into(), "port 3801 is held by pid 7".into()));
        let end =
            EndView { at: Stamp(0), pid: 1, exit: Exit::Code(1), lived: Span(10), why: Why::Crash, text: "exited 1 after 0.01 s".into() };
        let quick = SlotView {
            reason: "gave up after 4 failed starts: exited 1 after 0.01 s".into(),
            exit: Some(Exit::Code(1)),
            history: vec![end.clone()],
            ..slot(State::Fatal)
        };
        assert_eq!(said(&quick).1, "Exited too quickly (process log may have details)");
        assert_eq!(exitstatus(&quick), 0);
        let absent = SlotView { reason: "/nowhere: no such file, 2nd time".into(), history: vec![end], ..slot(State::Backoff) };
        assert_eq!(said(&absent).1, "/nowhere: no such file, 2nd time");
        assert_eq!(spawnerr(&absent, None, Some("can't find command '/nowhere'".into())), "can't find command '/nowhere'");
    }

    #[test]
    fn an_unexpected_exit_is_told_and_an_expected_one_is_not() {
        let spec = ProgramSpec::new("mail", vec![]);
        let ended = |exit| spawnerr(&SlotView { exit: Some(exit), ..slot(State::Exited) }, Some(&spec), None);
        assert_eq!(ended(Exit::Code(0)), "");
        assert_eq!(ended(Exit::Code(3)), "Bad exit code 3");
        assert_eq!(ended(Exit::Signal(crate::model::signal::Signal::KILL)), "Bad exit code -1");
    }

    #[test]
    fn durations_are_pythons() {
        let all = [0, 59, 3_600, 86_399, 86_400, 90_061, 864_000].map(duration);
        assert_eq!(all, ["0:00:00", "0:00:59", "1:00:00", "23:59:59", "1 day, 0:00:00", "1 day, 1:01:01", "10 days, 0:00:00"]);
    }

    #[test]
    fn definitions_are_told_by_process_with_every_key_of_supervisor() {
        let number = Piece::Number { zero: true, width: 2 };
        let mut spec = ProgramSpec::new("mail", ["php", "a b.php"].map(Template::text).to_vec());
        spec.process_name = Template(vec![Piece::Text("mail_".into()), number.clone()]);
        spec.policy.numprocs = 2;
        let path = Template(vec![Piece::Text("/log/".into()), number]);
        spec.output.stdout.sinks = vec![Sink::File(LogFile { path, max_bytes: Bytes(5), backups: 3 })];
        let programs = BTreeMap::from([(spec.name.clone(), Arc::new(spec))]);
        let plan = Plan { programs, groups: BTreeMap::from([(GroupName::new("mail"), 7)]), ..Plan::default() };
        let Value::Array(all) = config(&plan, |_| true) else { panic!("an array") };
        assert_eq!(all.len(), 2);
        let Value::Struct(members) = &all[1] else { panic!("a struct") };
        let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names.len(), 29);
        for (name, value) in [
            ("name", Value::text("mail_01")),
            ("command", Value::text("php 'a b.php'")),
            ("group_prio", Value::Int(7)),
            ("stdout_logfile", Value::text("/log/01")),
            ("stdout_logfile_backups", Value::Int(3)),
            ("stderr_logfile", Value::text("none")),
            ("stderr_logfile_maxbytes", Value::Int(52_428_800)),
            ("serverurl", Value::text("none")),
            ("stopsignal", Value::Int(15)),
            ("startsecs", Value::Int(1)),
        ] {
            assert_eq!(all[1].member(name), Some(&value), "{name}");
        }
    }
}
