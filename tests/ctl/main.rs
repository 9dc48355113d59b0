//! `gangerctl` as an operator sees it: every verb's words, JSON and exit code, pinned in `screens/*.txt`.
//!
//! The tool runs in this process against a fake daemon, with a clock that stands, so that a screen is the same every time.
//! `UPDATE_SCREENS=1` writes the screens anew; read the difference. In a screen `2>` begins a line on stderr.

#![expect(clippy::disallowed_methods, reason = "a test may start what it tests")]

mod fake;
mod fleet;
mod pipes;
mod solo;
mod supervisorctl;

use crate::fake::{Fake, Script};
use crate::fleet::{NOW, mailers, notice, program, slot, view, went, zoo};
use ganger::ctl::screen::Screen;
use ganger::model::command::{Action, Answer, ChangeRow, Changes, Outcome, Refusal, Reply};
use ganger::model::exit::Exit;
use ganger::model::name::RunId;
use ganger::model::notice::{What, Why};
use ganger::model::state::State;
use ganger::model::time::Span;
use ganger::model::view::{Mood, ProgramView, RollingView};
use jiff::tz::TimeZone;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// What came of a command line.
struct Seen {
    code: i32,
    out: String,
    err: String,
}

fn ctl(socket: &Path, args: &[&str], colour: bool) -> Seen {
    let words: Vec<OsString> = std::iter::once("gangerctl").chain(args.iter().copied()).map(OsString::from).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let socket_text = socket.to_str().unwrap().to_owned();
    let mut screen =
        Screen { out: &mut out, err: &mut err, colour, progress: false, json: false, clock: &|| NOW, zone: TimeZone::UTC, drawn: false };
    let code = ganger::ctl::run(&words, &mut screen, &|key| (key == "GANGER_SOCKET").then(|| socket_text.clone()));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&socket_text, "SOCKET").replace('\x1b', "\\e");
    Seen { code, out: text(out), err: text(err) }
}

/// A golden screen under construction.
#[derive(Default)]
struct Page(String);

impl Page {
    fn run(&mut self, script: Script, args: &[&str]) -> Fake {
        let fake = Fake::new(script);
        self.look(&fake.socket(), args, false);
        fake
    }

    fn look(&mut self, socket: &Path, args: &[&str], colour: bool) {
        let seen = ctl(socket, args, colour);
        writeln!(self.0, "$ gangerctl {}", args.join(" ")).unwrap();
        self.0.push_str(&seen.out);
        for line in seen.err.lines() {
            writeln!(self.0, "2> {line}").unwrap();
        }
        writeln!(self.0, "[exit {}]\n", seen.code).unwrap();
    }

    fn is(self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ctl/screens").join(name);
        if std::env::var_os("UPDATE_SCREENS").is_some() {
            std::fs::write(&path, &self.0).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(golden == self.0, "{} differs; now it is:\n{}", path.display(), self.0);
    }
}

fn showing(view: ganger::model::view::View) -> Script {
    Script { view, ..Script::default() }
}

fn done(names: &[&str]) -> Answer {
    Ok(Reply::Outcomes(names.iter().map(|name| Outcome { name: (*name).into(), refused: None }).collect()))
}

fn refused(pairs: &[(&str, Refusal)]) -> Answer {
    Ok(Reply::Outcomes(pairs.iter().map(|(name, why)| Outcome { name: (*name).into(), refused: Some(why.clone()) }).collect()))
}

fn no_such(name: &str, nearest: Option<&str>) -> (String, Refusal) {
    (name.into(), Refusal::NoSuch { name: name.into(), nearest: nearest.map(str::to_owned) })
}

#[test]
fn status_says_what_runs_and_why_the_rest_does_not() {
    let mut page = Page::default();
    let fake = page.run(showing(zoo()), &["status"]);
    let socket = fake.socket();
    for args in [
        &["status", "mailer"][..],
        &["status mailer:mailer_00"],
        &["status", "mailr", "import"],
        &["status", "nothing:*"],
        &["status", "-v"],
        &["status", "--json", "import"],
    ] {
        page.look(&socket, args, false);
    }
    page.0.push_str("On a terminal:\n");
    page.look(&socket, &["status"], true);
    page.run(showing(view(Vec::new())), &["status"]);
    let mut troubled = view(vec![mailers(0, State::Running)]);
    troubled.faults = vec!["fleet.toml:14:13: program.mailer.startsecs: found \"fast\", expected a duration such as \"5s\"".into()];
    troubled.mood = Mood::ShuttingDown;
    let rolling = RollingView { done: 2, total: 4, halted: Some("mailer:mailer_02 exited 1 after 0.1 s".into()) };
    Arc::get_mut(&mut troubled.programs[0]).unwrap().rolling = Some(rolling);
    page.run(showing(troubled), &["status"]);
    page.is("status.txt");
}

#[test]
fn start_and_stop_wait_and_speak_as_supervisorctl_does() {
    use State::{Backoff, Exited, Fatal, Launching, Running, Starting, Stopped, Stopping, Waiting};
    let mut page = Page::default();
    let a = "mailer:mailer_00";
    let down = || view(vec![mailers(2, Stopped)]);
    let steps = |then: Vec<ganger::model::notice::Notice>| Script { view: down(), answer: Some(done(&[a])), then, ..Script::default() };
    let up = || {
        vec![
            // Old news of somebody else's try: it must not count.
            went(99, a, Starting, Backoff, None, "exited 1 after 0.1 s"),
            went(101, a, Stopped, Launching, None, ""),
            went(102, a, Launching, Starting, Some(9), ""),
            went(103, a, Starting, Running, Some(9), ""),
        ]
    };
    page.run(steps(up()), &["start", a]);
    page.run(steps(up()), &["start", "--json", a]);
    page.run(steps(Vec::new()), &["start", "--no-wait", a]);
    page.run(steps(Vec::new()), &["start", "--timeout", "50ms", a]);
    page.run(
        steps(vec![
            went(102, a, Launching, Starting, Some(9), ""),
            went(103, a, Starting, Backoff, None, "exited 255 after 0.2 s, 1st time"),
        ]),
        &["start", a],
    );
    page.run(
        steps(vec![
            notice(102, a, What::SpawnFailed { text: "x".into() }),
            went(103, a, Launching, Fatal, None, "cannot start mailer:mailer_00: php: not found in PATH (/usr/bin:/bin)"),
        ]),
        &["start", a],
    );
    page.run(steps(vec![went(103, a, Launching, Waiting, None, "lock port:3801 held by pid 3117")]), &["start", a]);
    // The stream had a gap, so the view has the last word.
    let mut backoff = slot("mailer", "mailer_00", 0, Fatal);
    (backoff.reason, backoff.since, backoff.started) = ("exited 255 after 0.1 s, 4 times; given up".into(), NOW, NOW);
    page.run(Script { becomes: Some(view(vec![program("mailer", vec![backoff])])), ..steps(Vec::new()) }, &["start", a]);
    let (name, unknown) = no_such("mailr", Some("mailer"));
    page.run(Script { view: down(), answer: Some(refused(&[(&name, unknown)])), ..Script::default() }, &["start", "mailr"]);
    let (name, unknown) = no_such("nothing:*", None);
    page.run(Script { view: down(), answer: Some(refused(&[(&name, unknown)])), ..Script::default() }, &["start", "nothing:*"]);
    page.run(
        Script { view: down(), answer: Some(refused(&[("mailer:mailer_02", Refusal::AlreadyStarted)])), ..Script::default() },
        &["start", "mailer:mailer_02"],
    );
    let all = || refused(&[("mailer:mailer_02", Refusal::AlreadyStarted), ("mailer:mailer_03", Refusal::AlreadyStarted)]);
    page.run(Script { view: down(), answer: Some(all()), ..Script::default() }, &["start", "all"]);

    let b = "mailer:mailer_03";
    let running = || view(vec![mailers(0, Stopped)]);
    let end = || vec![went(101, b, Running, Stopping, Some(4), "SIGTERM sent"), went(102, b, Stopping, Stopped, None, "")];
    page.run(Script { view: running(), answer: Some(done(&[b])), then: end(), ..Script::default() }, &["stop", b]);
    page.run(Script { view: running(), answer: Some(refused(&[(a, Refusal::NotRunning)])), ..Script::default() }, &["stop", a]);
    let again = || {
        [
            end(),
            vec![
                went(103, b, Stopped, Launching, None, ""),
                went(104, b, Launching, Starting, Some(9), ""),
                went(105, b, Starting, Running, Some(9), ""),
            ],
        ]
        .concat()
    };
    page.run(Script { view: running(), answer: Some(done(&[b])), then: again(), ..Script::default() }, &["restart", b]);
    page.run(Script { then: up(), ..steps(Vec::new()) }, &["restart", a]);
    page.run(steps(vec![went(103, a, Starting, Exited, None, "exited 0 after 0.1 s")]), &["restart", a]);
    page.run(Script { view: running(), answer: Some(Err(Refusal::ShuttingDown)), ..Script::default() }, &["stop", b]);
    page.run(
        Script {
            view: running(),
            answer: Some(Err(Refusal::NotAllowed { why: "nobody (uid 65534) may look, but not steer".into() })),
            ..Script::default()
        },
        &["stop", b],
    );
    page.is("start-stop.txt");
}

#[test]
fn a_rolling_restart_is_followed_to_its_end_or_to_its_halt() {
    use State::{Running, Starting, Stopped, Stopping};
    let mut page = Page::default();
    let (a, b) = ("mailer:mailer_00", "mailer:mailer_01");
    let replaced = |seq, label: &str, run| {
        vec![
            went(seq, label, Running, Stopping, Some(run), ""),
            went(seq + 1, label, Stopping, Stopped, None, ""),
            went(seq + 2, label, Starting, Running, Some(run + 20), ""),
        ]
    };
    let script = |then| Script { view: view(vec![mailers(0, Stopped)]), answer: Some(done(&[a, b])), then, ..Script::default() };
    let fake = page.run(script([replaced(101, a, 1), replaced(105, b, 2)].concat()), &["restart", "--rolling", "--batch", "25%", "mailer"]);
    assert_eq!(fake.asked()[0], ("roll".into(), serde_json::json!({ "targets": ["mailer"], "batch": { "percent": 25 } })));
    let halt = notice(110, "mailer", What::Rolling { done: 1, total: 2, halted: Some("mailer:mailer_01 exited 1 after 0.1 s".into()) });
    page.run(script([replaced(101, a, 1), vec![halt]].concat()), &["restart", "--rolling", "mailer"]);
    page.run(script([replaced(101, a, 1), replaced(105, b, 2)].concat()), &["recycle", "mailer"]);
    page.run(script(Vec::new()), &["recycle", "--no-wait", "mailer"]);
    page.is("rolling.txt");
}

#[test]
fn scale_tells_from_and_to_and_who_does_not_run() {
    use State::{Backoff, Running, Stopped};
    let mut page = Page::default();
    let scaled = |from, to| Some(Ok(Reply::Scaled { program: "mailer".into(), from, to }));
    let six = |state| {
        let slots = (0..6).map(|i| slot("mailer", &format!("mailer_{i:02}"), i, if i > 4 { state } else { Running }));
        let mut slots: Vec<_> = slots.collect();
        slots[5].reason = "exited 255 after 0.2 s, 1st time".into();
        view(vec![program("mailer", slots)])
    };
    let four = || view(vec![mailers(0, Stopped)]);
    let fake = page
        .run(Script { view: four(), answer: scaled(4, 6), becomes: Some(six(Running)), ..Script::default() }, &["scale", "mailer", "+2"]);
    assert_eq!(fake.asked()[0], ("scale".into(), serde_json::json!({ "program": "mailer", "to": { "up": 2 } })));
    page.run(Script { view: four(), answer: scaled(4, 6), becomes: Some(six(Backoff)), ..Script::default() }, &["scale", "mailer", "6"]);
    page.run(
        Script { view: six(Running), answer: scaled(6, 4), becomes: Some(four()), ..Script::default() },
        &["scale", "mailer", "-2", "--json"],
    );
    page.run(Script { view: four(), answer: scaled(4, 4), ..Script::default() }, &["scale", "mailer", "default"]);
    let six_wanted = ProgramView { wanted: 6, ..mailers(0, Stopped) };
    page.run(
        Script { view: view(vec![six_wanted]), answer: scaled(4, 6), ..Script::default() },
        &["scale", "mailer", "6", "--timeout", "50ms"],
    );
    // Somebody else had another thought since.
    page.run(Script { view: four(), answer: scaled(4, 6), ..Script::default() }, &["scale", "mailer", "6"]);
    page.run(Script { view: four(), answer: scaled(4, 6), ..Script::default() }, &["scale", "mailer", "6", "--no-wait"]);
    page.run(
        Script { view: four(), answer: Some(Err(Refusal::OutOfBounds { asked: 50, min: 2, max: 20 })), ..Script::default() },
        &["scale", "mailer", "50"],
    );
    page.run(Script { view: four(), answer: Some(Err(no_such("mailr", Some("mailer")).1)), ..Script::default() }, &["scale", "mailr", "5"]);
    page.look(Path::new("/nowhere"), &["scale", "mailer", "many"], false);
    page.is("scale.txt");
}

#[test]
fn signal_pid_version_and_shutdown_speak_as_supervisorctl_does() {
    let mut page = Page::default();
    let fleet = || view(vec![mailers(1, State::Stopped)]);
    let fake = page.run(
        Script { view: fleet(), answer: Some(done(&["mailer:mailer_01"])), ..Script::default() },
        &["signal USR1", "mailer:mailer_01"],
    );
    assert_eq!(fake.asked()[0], ("signal".into(), serde_json::json!({ "targets": ["mailer:mailer_01"], "signal": "USR1" })));
    page.run(
        Script { view: fleet(), answer: Some(refused(&[("mailer:mailer_00", Refusal::NotRunning)])), ..Script::default() },
        &["signal", "HUP", "mailer:mailer_00"],
    );
    page.run(showing(fleet()), &["signal", "NOPE", "mailer:mailer_00"]);
    for args in [
        &["pid"][..],
        &["pid", "mailer:mailer_02"],
        &["pid", "all"],
        &["pid", "mailer:mailer_9"],
        &["pid", "--json", "mailer"],
        &["version"],
        &["version", "--json"],
    ] {
        page.run(showing(fleet()), args);
    }
    page.run(Script { view: fleet(), answer: Some(Ok(Reply::Done)), ..Script::default() }, &["shutdown"]);
    page.is("signal-pid-version.txt");
}

#[test]
fn tail_shows_bytes_as_they_are_and_says_why_it_cannot() {
    let mut page = Page::default();
    let fleet = || view(vec![mailers(0, State::Stopped)]);
    let with_log = |log: &str| Script { log: Some(log.into()), ..showing(fleet()) };
    let fake = page.run(with_log("one\ntwo\n"), &["tail", "mailer:mailer_00"]);
    assert_eq!(fake.asked()[0], ("mailer:mailer_00/stdout".into(), serde_json::json!({ "bytes": "1600" })));
    let fake = page.run(with_log("half a line"), &["tail", "-100", "mailer:mailer_00", "stderr"]);
    assert_eq!(fake.asked()[0], ("mailer:mailer_00/stderr".into(), serde_json::json!({ "bytes": "100" })));
    let fake = page.run(with_log("one\n"), &["tail", "-f", "-n", "5", "mailer:mailer_00"]);
    assert_eq!(fake.asked()[0].1, serde_json::json!({ "lines": "5", "follow": "1" }));
    page.run(showing(fleet()), &["tail", "mailer:mailer_00", "stderr"]);
    page.run(showing(fleet()), &["tail", "mailer"]);
    page.run(showing(fleet()), &["tail", "mailer:mailer_0"]);
    page.run(showing(fleet()), &["tail", "mailer:mailer_00", "stdlog"]);
    page.run(Script { answer: Some(done(&["mailer:mailer_00"])), ..showing(fleet()) }, &["clear", "mailer:mailer_00"]);
    page.is("tail.txt");
}

#[test]
fn events_are_told_oldest_first_with_their_time() {
    let mut page = Page::default();
    let a = "mailer:mailer_00";
    let history = || {
        vec![
            notice(95, "", What::Daemon { text: "gangerd 0.1.0 started".into() }),
            notice(
                96,
                a,
                What::Ended { pid: 991, run: RunId(1), exit: Exit::Code(0), lived: Span::secs(7300), why: Why::Jobs, jobs: 1290 },
            ),
            notice(97, a, What::Spawned { pid: 1000, run: RunId(2) }),
            went(98, "import", State::Starting, State::Backoff, None, "exited 255 after 0.2 s, 3rd time"),
        ]
    };
    let script = || Script { history: history(), ..Script::default() };
    page.run(script(), &["events"]);
    page.run(script(), &["events", "mailer"]);
    page.run(script(), &["events", "--since", "96", "--json"]);
    page.run(script(), &["events", "--since", "66s"]);
    page.run(script(), &["events", "--since", "yesterday"]);
    page.is("events.txt");
}

#[test]
fn plan_says_what_would_change_and_its_exit_code_says_whether() {
    let mut page = Page::default();
    let row = |program: &str, action, workers, why: &str| ChangeRow { program: program.into(), action, workers, why: why.into() };
    let changes = || {
        Some(Ok(Reply::Changes(Changes {
            rows: vec![
                row("cleanup", Action::Keep, 1, ""),
                row("import", Action::Stop, 2, "no longer defined"),
                row("mailer", Action::Restart, 4, "command changed"),
                row("report", Action::Update, 1, "numprocs 2 -> 1"),
                row("thumbnails", Action::Start, 8, "new in fleet.toml"),
            ],
            warnings: vec!["fleet.toml:3: stdout_capture_maxbytes is not used here".into()],
        })))
    };
    let kept = || Some(Ok(Reply::Changes(Changes { rows: vec![row("mailer", Action::Keep, 4, "")], warnings: Vec::new() })));
    let broken = || {
        Some(Err(Refusal::BadConfig {
            faults: vec![
                "fleet.toml:14:13: program.mailer.startsecs: found \"fast\", expected a duration such as \"5s\"".into(),
                "fleet.toml:20:1: program.mailer.numproc: no such key; did you mean numprocs?".into(),
            ],
        }))
    };
    let script = |answer| Script { answer, ..Script::default() };
    let fake = page.run(script(changes()), &["plan"]);
    assert_eq!(fake.asked()[0], ("reload".into(), serde_json::json!({ "dry": true })));
    page.run(script(kept()), &["plan"]);
    page.run(script(broken()), &["plan"]);
    page.run(script(changes()), &["reload"]);
    page.run(script(broken()), &["reload"]);
    page.run(script(kept()), &["plan", "--json"]);
    page.run(script(broken()), &["plan", "--json"]);
    page.run(script(Some(Err(Refusal::Busy { with: "another reload".into() }))), &["reload"]);
    page.is("plan.txt");
}

#[test]
fn without_a_daemon_one_line_names_the_socket_and_the_cause() {
    let mut page = Page::default();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("ganger.sock");
    page.look(&socket, &["status"], false);
    page.look(&socket, &["start", "mailer"], false);
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    page.look(&socket, &["status"], false);
    page.look(&socket, &["stop", "mailer"], false);
    page.look(&socket, &["-s", "http://127.0.0.1:9001", "status"], false);
    page.look(&socket, &["-c", "/nowhere/ganger.toml", "status"], false);
    page.look(&socket, &["-c", "/etc/supervisord.conf", "status"], false);
    page.is("no-daemon.txt");
}

#[test]
fn a_slip_of_the_tongue_is_answered_with_what_was_expected() {
    let mut page = Page::default();
    let nowhere = Path::new("/nowhere");
    for args in [
        &["statsu"][..],
        &["start"],
        &["restart", "--batch", "2", "x"],
        &["restart", "--rolling", "--batch", "0", "x"],
        &["--help"],
        &["restart", "--help"],
        &["plan", "--help"],
    ] {
        page.look(nowhere, args, false);
    }
    page.is("usage.txt");
}
