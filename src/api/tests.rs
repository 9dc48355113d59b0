//! The doors as a client finds them: a real socket, a real HTTP client, and an engine that is a script.

use crate::api::access::{Access, Caller, Peer, Role};
use crate::api::handle::{Ask, Handle};
use crate::api::peer::UnixPeer;
use crate::api::rest::{self, Desk};
use crate::api::serve::Limits;
use crate::api::stream::Ring;
use crate::api::{Doors, HostInfo, samples};
use crate::logs::{Logs, Sources};
use crate::model::command::{Answer, Batch, Changes, Command, Outcome, Refusal, Reply, ScaleTo};
use crate::model::name::{ProgramName, SlotId, Target};
use crate::model::notice::Notice;
use crate::model::plan::SocketSpec;
use crate::model::signal::Signal;
use crate::model::spec::{JobCount, JobsSpec, OutputSpec};
use crate::model::view::View;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, watch};

/// Longer than anything here takes, on any machine; reaching it is a failure.
const LIMIT: Duration = Duration::from_secs(60);

struct House {
    dir: tempfile::TempDir,
    doors: Option<Doors>,
    view: watch::Sender<Arc<View>>,
    notices: broadcast::Sender<Arc<Notice>>,
    asked: Arc<Mutex<Vec<(String, Command)>>>,
    logs: Logs,
}

impl House {
    fn open() -> House {
        House::open_within(Limits::default())
    }

    fn open_within(limits: Limits) -> House {
        let dir = tempfile::tempdir().expect("a directory");
        let (asks, mut asked_for) = mpsc::channel::<Ask>(16);
        let fleet = samples::view(&[("cron", "cron", &["cron"]), ("mailer", "mail", &["mailer_00", "mailer_01"])]);
        let (view, views) = watch::channel(Arc::new(fleet));
        let (notices, _) = broadcast::channel(64);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Some(Ask { who, command, answer }) = asked_for.recv().await {
                let _ = answer.send(script(&command));
                seen.lock().expect("whole").push((who, command));
            }
        });
        let logs = Logs::start(100, Box::new(|_| {})).expect("logs start");
        let handle = Handle::new(asks, views, no_plan(), notices.clone(), logs.clone());
        let path = dir.path().join("ganger.sock");
        let spec = SocketSpec { path: path.to_str().expect("UTF-8").into(), mode: 0o660, owner: None };
        let host = HostInfo {
            version: "1.2.3".into(),
            pid: 42,
            config: "/etc/ganger.toml".into(),
            footing: vec!["no keeper".into()],
            ..HostInfo::default()
        };
        let doors = Doors::open_within(limits, handle, spec, Vec::new(), None, host).expect("the doors open");
        House { dir, doors: Some(doors), view, notices, asked, logs }
    }

    /// A desk of its own over the same engine, for a router without a socket.
    fn desk(&self) -> Desk {
        let (asks, _) = mpsc::channel(1);
        let handle = Handle::new(asks, self.view.subscribe(), no_plan(), self.notices.clone(), self.logs.clone());
        let (_, closing) = watch::channel(true);
        Desk::new(handle, HostInfo::default(), Access::new(0, 0, 0), Arc::new(Ring::new(7)), closing)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ganger.sock")
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path()).await.expect("somebody listens")
    }

    /// Sends one request on a connection of its own.
    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = TokioIo::new(self.connect().await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.expect("HTTP");
        tokio::spawn(connection);
        tokio::time::timeout(LIMIT, sender.send_request(request)).await.expect("in time").expect("an answer")
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> (StatusCode, Bytes) {
        let request = Request::builder().method(method).uri(path).header("host", "ganger").body(Full::from(body.to_owned()));
        let response = self.send(request.expect("a request")).await;
        let status = response.status();
        (status, tokio::time::timeout(LIMIT, response.collect()).await.expect("in time").expect("whole").to_bytes())
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let (status, body) = self.call(Method::GET, path, "").await;
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let (status, body) = self.call(Method::POST, path, &body.to_string()).await;
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    async fn events(&self, path: &str, last_event_id: Option<&str>) -> Events {
        let mut request = Request::builder().uri(path).header("host", "ganger");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = self.send(request.body(Full::default()).expect("a request")).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { body: response.into_body(), text: String::new() }
    }

    fn tell(&self, seq: u64, about: &str) {
        self.notices.send(samples::notice(seq, about)).expect("the doors listen");
    }

    /// Waits until the doors have taken notice `seq`.
    async fn settle(&self, seq: u64) {
        let taken = async {
            while self.get("/api/v1/history?limit=1").await.1[0]["seq"] != json!(seq) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, taken).await.expect("in time");
    }

    /// Closes the doors while the engine goes on, as the daemon does.
    async fn close(&mut self) {
        let doors = self.doors.take().expect("open");
        tokio::task::spawn_blocking(move || doors.close()).await.expect("closed");
    }

    fn last_asked(&self) -> (String, Command) {
        self.asked.lock().expect("whole").last().expect("something was asked").clone()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(doors) = self.doors.take() {
            doors.close();
        }
    }
}

/// What the engine of these tests says.
fn script(command: &Command) -> Answer {
    match command {
        Command::Start { targets } | Command::Stop { targets } => match targets.first() {
            Some(Target::Bare(name)) if name == "busy" => Err(Refusal::Busy { with: "a reload".into() }),
            Some(Target::Bare(name)) if name == "late" => Err(Refusal::ShuttingDown),
            _ => Ok(Reply::Outcomes(
                targets
                    .iter()
                    .map(|t| Outcome { name: t.to_string(), refused: (t.to_string() == "up").then_some(Refusal::AlreadyStarted) })
                    .collect(),
            )),
        },
        Command::Scale { to: ScaleTo::Exactly(asked), .. } if *asked > 9 => Err(Refusal::OutOfBounds { asked: *asked, min: 1, max: 9 }),
        Command::Scale { program, .. } => Ok(Reply::Scaled { program: program.clone(), from: 2, to: 4 }),
        Command::Reload { dry: false } => Err(Refusal::BadConfig { faults: vec!["fleet.toml:1: nonsense".into()] }),
        Command::Reload { dry: true } => Ok(Reply::Changes(Changes::default())),
        Command::Restart { .. } | Command::Roll { .. } | Command::Recycle { .. } | Command::Signal { .. } => {
            Ok(Reply::Outcomes(Vec::new()))
        }
        Command::Reread
        | Command::AddGroup { .. }
        | Command::RemoveGroup { .. }
        | Command::Feed { .. }
        | Command::Renew
        | Command::Remote { .. }
        | Command::Refresh
        | Command::Shutdown => Ok(Reply::Done),
    }
}

/// A stream of events, read one by one.
struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    /// The next frame as (event, id, data); `None` at the end.
    async fn next(&mut self) -> Option<(String, Option<u64>, Value)> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
                let data = serde_json::from_str(&field("data: ").expect("data")).expect("JSON");
                return Some((field("event: ").expect("named"), field("id: ").map(|id| id.parse().expect("a number")), data));
            }
            let frame = tokio::time::timeout(LIMIT, self.body.frame()).await.expect("in time")?.expect("whole");
            self.text.push_str(std::str::from_utf8(&frame.into_data().expect("data")).expect("UTF-8"));
        }
    }

    /// Names and ids of the next `count` frames.
    async fn names(&mut self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..count {
            let (event, id, _) = self.next().await.expect("not at its end");
            names.push(format!("{event}{}", id.map(|id| format!(" {id}")).unwrap_or_default()));
        }
        names
    }
}

#[tokio::test]
async fn questions_are_answered_from_the_view() {
    let house = House::open();
    assert_eq!(house.call(Method::GET, "/healthz", "").await, (StatusCode::OK, Bytes::from("ok\n")));
    let (status, version) = house.get("/api/v1/version").await;
    assert_eq!(status, StatusCode::OK);
    let footing = json!({"name": "ganger", "version": "1.2.3", "api": "1", "pid": 42, "config": "/etc/ganger.toml", "started": 500, "footing": ["no keeper"]});
    assert_eq!(version, footing);

    let (_, body) = house.call(Method::GET, "/api/v1/status", "").await;
    let read: View = serde_json::from_slice(&body).expect("a status is a view");
    assert_eq!(read, **house.view.borrow());
    let (_, some) = house.get("/api/v1/status?name=mail%3Amailer_01&name=mialer").await;
    assert_eq!(some["programs"][0]["slots"].as_array().map(Vec::len), Some(1));
    assert_eq!(some["programs"][0]["slots"][0]["process"], "mailer_01");
    assert_eq!(some["unknown"], json!(["mialer"]));
    let (_, brief) = house.get("/api/v1/status?brief=1&name=mail%3Amailer_01&name=mialer").await;
    assert_eq!(brief["unknown"], json!(["mialer"]));
    let (short, long) = (&brief["programs"][0]["slots"][0], &some["programs"][0]["slots"][0]);
    let short = short.as_object().expect("a worker");
    assert!(short.iter().all(|(key, value)| long[key] == *value && !value.is_null()), "{short:?} is not in {long}");
    assert!(["group", "process", "state", "since", "started", "starts"].iter().all(|key| short.contains_key(*key)));

    for label in ["mail:mailer_01", "mail%3Amailer_01"] {
        let (status, slot) = house.get(&format!("/api/v1/workers/{label}")).await;
        assert_eq!((status, &slot["pid"]), (StatusCode::OK, &json!(4711)));
    }
    let (_, metrics) = house.call(Method::GET, "/metrics", "").await;
    assert!(metrics.starts_with(b"# HELP ganger_up"));
}

#[tokio::test]
async fn a_status_is_as_new_as_the_view_and_refreshed_when_asked() {
    let house = House::open();
    assert_eq!(house.get("/api/v1/status").await.1["seq"], 7);
    assert!(house.asked.lock().expect("whole").is_empty(), "a status disturbs nobody");
    house.view.send_modify(|view| *view = Arc::new(View { seq: 8, ..View::clone(view) }));
    assert_eq!(house.get("/api/v1/status").await.1["seq"], 8);
    house.get("/api/v1/status?refresh=1").await;
    assert_eq!(house.last_asked().1, Command::Refresh);
}

#[tokio::test]
async fn every_wish_reaches_the_engine_as_its_command() {
    let house = House::open();
    let all = || vec![Target::All];
    let cases = [
        ("start", json!({"targets": ["all"]}), Command::Start { targets: all() }),
        ("stop", json!({"targets": ["mail:*"]}), Command::Stop { targets: vec![Target::Group("mail".into())] }),
        ("restart", json!({"targets": ["all"]}), Command::Restart { targets: all() }),
        ("roll", json!({"targets": ["all"]}), Command::Roll { targets: all(), batch: Batch::Workers(1) }),
        ("roll", json!({"targets": ["all"], "batch": {"percent": 25}}), Command::Roll { targets: all(), batch: Batch::Percent(25) }),
        ("recycle", json!({"targets": ["all"]}), Command::Recycle { targets: all() }),
        ("scale", json!({"program": "mailer", "to": {"up": 2}}), Command::Scale { program: "mailer".into(), to: ScaleTo::Up(2) }),
        ("scale", json!({"program": "mailer", "to": "default"}), Command::Scale { program: "mailer".into(), to: ScaleTo::Default }),
        ("signal", json!({"targets": ["all"], "signal": "usr1"}), Command::Signal { targets: all(), signal: Signal::USR1 }),
        ("reload", json!({"dry": true}), Command::Reload { dry: true }),
        ("plan", json!({}), Command::Reload { dry: true }),
        ("refresh", json!({}), Command::Refresh),
        ("shutdown", json!({}), Command::Shutdown),
    ];
    for (verb, body, command) in cases {
        let (status, reply) = house.post(&format!("/api/v1/{verb}"), &body).await;
        assert_eq!(status, StatusCode::OK, "{verb}: {reply}");
        serde_json::from_value::<Reply>(reply).expect("an answer is a reply");
        let (who, asked) = house.last_asked();
        assert_eq!(asked, command, "{verb}");
        assert!(who.ends_with(&format!("pid {})", std::process::id())), "{who}");
    }
    assert_eq!(house.call(Method::POST, "/api/v1/shutdown", "").await.0, StatusCode::OK, "an empty body stands for {{}}");
}

#[tokio::test]
async fn refusals_come_in_words_and_with_a_fitting_status() {
    let house = House::open();
    let cases = [
        ("start", json!({"targets": ["busy"]}), 409, "busy", "busy with a reload"),
        ("start", json!({"targets": ["late"]}), 503, "shutting_down", "the daemon is shutting down"),
        (
            "scale",
            json!({"program": "mailer", "to": {"exactly": 10}}),
            422,
            "out_of_bounds",
            "10 is outside of 1..9 (scale.min, scale.max)",
        ),
        ("reload", json!({}), 422, "bad_config", "the definitions have 1 error(s); nothing was changed"),
        ("start", json!({"targets": []}), 400, "malformed", "targets is empty; name at least one, or \"all\""),
        (
            "roll",
            json!({"targets": ["all"], "batch": {"workers": 0}}),
            400,
            "malformed",
            "a batch of 0 workers would never end; expected 1 or more",
        ),
    ];
    for (verb, body, status, code, message) in cases {
        let (found, refusal) = house.post(&format!("/api/v1/{verb}"), &body).await;
        assert_eq!((found.as_u16(), &refusal["code"], &refusal["message"]), (status, &json!(code), &json!(message)));
        serde_json::from_value::<Refusal>(refusal).expect("it reads as a refusal");
    }
    for (verb, body, part) in [
        ("start", json!({"targets": ["all"], "force": true}), "unknown field `force`"),
        ("start", json!({}), "missing field `targets`"),
        ("start", json!({"targets": "all"}), "expected a sequence"),
        ("signal", json!({"targets": ["all"], "signal": "NOPE"}), "found \"NOPE\", expected a signal"),
        ("plan", json!({"dry": true}), "unknown field `dry`"),
        ("stop", json!(null), "invalid type: null"),
    ] {
        let (status, refusal) = house.post(&format!("/api/v1/{verb}"), &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(refusal["message"].as_str().expect("words").contains(part), "{refusal}");
    }
    let (status, outcomes) = house.post("/api/v1/start", &json!({"targets": ["up"]})).await;
    assert_eq!(
        (status, &outcomes["outcomes"][0]["refused"]["code"]),
        (StatusCode::OK, &json!("already_started")),
        "inside, it stays a 200"
    );
    assert_eq!(house.asked.lock().expect("whole").len(), 5, "nothing malformed reached the engine");
}

#[tokio::test]
async fn unknown_paths_methods_names_and_parameters_are_said() {
    let house = House::open();
    for (method, path, status, message) in [
        (Method::GET, "/api/v1/nothing", 404, "there is nothing at /api/v1/nothing"),
        (Method::GET, "/api/v1/start", 405, "/api/v1/start does not take GET"),
        (Method::POST, "/api/v1/status", 405, "/api/v1/status does not take POST"),
        (Method::GET, "/api/v1/workers/mail:mailer_7", 404, "no such process or group: mail:mailer_7; did you mean mail:mailer_00?"),
        (Method::GET, "/api/v1/workers/%ff", 400, "Invalid URL: Invalid UTF-8 in `label`"),
        (Method::GET, "/api/v1/status?nam=x", 400, "unknown parameter \"nam\", expected one of: name, refresh, brief"),
        (Method::GET, "/api/v1/status?refresh=maybe", 400, "refresh: found \"maybe\", expected 1 or 0"),
        (Method::GET, "/api/v1/events?since=-1", 400, "since: found \"-1\", expected a whole number"),
        (Method::GET, "/api/v1/history?limit=x", 400, "limit: found \"x\", expected a whole number"),
        (Method::GET, "/api/v1/logs/cron/stdin", 400, "found \"stdin\", expected \"stdout\" or \"stderr\""),
        (Method::GET, "/api/v1/logs/corn/stdout", 404, "no such process or group: corn; did you mean cron?"),
        (Method::GET, "/api/v1/logs/cron/stdout?bytes=1&lines=1", 400, "either bytes or lines, and once"),
        (Method::GET, "/api/v1/logs/cron/stdout?bytes=999999999", 400, "16777216 bytes at most"),
    ] {
        let (found, body) = house.call(method, path, "").await;
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(found.as_u16(), status, "{path}: {body}");
        assert_eq!(body["message"], message);
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_or_no_json_is_refused() {
    let house = House::open();
    let (status, body) = house.call(Method::POST, "/api/v1/start", &format!("\"{}\"", "x".repeat(1024 * 1024))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(String::from_utf8_lossy(&body).contains("1048576 bytes at most"));
    assert_eq!(house.call(Method::POST, "/api/v1/start", "targets=all").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(house.call(Method::POST, "/api/v1/start", &"[".repeat(100_000)).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(house.call(Method::GET, "/healthz", "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn clearing_logs_answers_for_each_name() {
    let house = House::open();
    let (status, reply) = house.post("/api/v1/logs/clear", &json!({"targets": ["mail", "nobody"]})).await;
    assert_eq!(status, StatusCode::OK);
    let names: Vec<_> = reply["outcomes"].as_array().expect("outcomes").iter().map(|outcome| outcome["name"].as_str()).collect();
    assert_eq!(names, [Some("mail:mailer_00"), Some("mail:mailer_01"), Some("nobody")]);
    assert_eq!(reply["outcomes"][2]["refused"]["code"], "no_such");
}

#[tokio::test]
async fn a_log_that_nobody_has_opened_is_refused_and_not_an_empty_stream() {
    let house = House::open();
    for path in ["/api/v1/logs/cron/stdout", "/api/v1/logs/cron/stdout?follow=1&lines=10"] {
        let (status, refusal) = house.get(path).await;
        assert_eq!((status, &refusal["code"]), (StatusCode::NOT_FOUND, &json!("no_such")), "{path}");
    }
}

#[tokio::test]
async fn a_log_shows_its_end_and_then_what_is_written() {
    let mut house = House::open();
    let fifo = house.dir.path().join("stdout");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let open = || OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&fifo).expect("it opens");
    let mut worker = open();
    let slot = SlotId::new(&ProgramName::new("cron"), 0);
    let jobs = JobsSpec { count: JobCount::Notify, timeout: None };
    house.logs.open(slot, "cron".into(), OutputSpec::default(), jobs, Some(Sources { stdout: open().into(), stderr: None }));

    worker.write_all(b"one\ntwo\nthree\n").expect("written");
    house.logs.drain().await;
    let (status, body) = house.call(Method::GET, "/api/v1/logs/cron/stdout?lines=2", "").await;
    assert_eq!((status, body), (StatusCode::OK, Bytes::from("two\nthree\n")));
    let (status, refusal) = house.get("/api/v1/logs/cron/stderr").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(refusal["message"], "cron: its stderr is written to stdout (redirect_stderr)");

    let request = Request::builder().uri("/api/v1/logs/cron/stdout?follow=1&lines=1").header("host", "ganger").body(Full::default());
    let mut follow = house.send(request.expect("a request")).await.into_body();
    let mut read = String::new();
    for line in ["four\n", "five\n"] {
        worker.write_all(line.as_bytes()).expect("written");
        while !read.ends_with(line) {
            let frame = tokio::time::timeout(LIMIT, follow.frame()).await.expect("in time").expect("not at its end").expect("whole");
            read.push_str(std::str::from_utf8(&frame.into_data().expect("data")).expect("UTF-8"));
        }
    }
    assert_eq!(read, "three\nfour\nfive\n");
    house.close().await;
    assert!(follow.frame().await.is_none(), "closing ends it in good order");
}

#[tokio::test]
async fn one_who_only_looks_on_changes_nothing_by_any_route() {
    let house = House::open();
    let desk = Arc::new(house.desk());
    let router = TowerToHyperService::new(rest::router(desk));
    let guest = UnixPeer { uid: 1000, gid: 1000, pid: 7, groups: Vec::new() };
    let caller = Caller { peer: Peer::Unix(guest), role: Some(Role::View), user: None };
    let ask = async |method: &Method, path: &str, caller: Option<&Caller>| {
        let mut request = Request::builder().method(method).uri(path).body(axum::body::Body::empty()).expect("a request");
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller.clone());
        }
        hyper::service::Service::call(&router, request).await.expect("infallible").status()
    };
    for verb in ["start", "stop", "restart", "roll", "recycle", "scale", "signal", "reload", "plan", "shutdown", "logs/clear"] {
        let path = format!("/api/v1/{verb}");
        assert_eq!(ask(&Method::POST, &path, Some(&caller)).await, StatusCode::FORBIDDEN, "{verb}");
        assert_eq!(ask(&Method::POST, &path, None).await, StatusCode::FORBIDDEN, "{verb}");
    }
    for path in ["/healthz", "/metrics", "/api/v1/status", "/api/v1/version", "/api/v1/history", "/api/v1/events"] {
        assert_eq!(ask(&Method::GET, path, Some(&caller)).await, StatusCode::OK, "{path}");
        assert_eq!(ask(&Method::GET, path, None).await, StatusCode::FORBIDDEN, "{path}");
    }
    assert!(house.asked.lock().expect("whole").is_empty());
}

#[tokio::test]
async fn events_come_live_and_again_from_where_a_client_was() {
    let house = House::open();
    let mut live = house.events("/api/v1/events", None).await;
    let (event, id, data) = live.next().await.expect("hello");
    assert_eq!((event.as_str(), id, data), ("hello", None, json!({"seq": 7})));
    for seq in 8..=10 {
        house.tell(seq, "mail:mailer_00");
    }
    let (event, id, data) = live.next().await.expect("a notice");
    assert_eq!((event.as_str(), id), ("notice", Some(8)));
    assert_eq!(data["text"], "mail:mailer_00: due to be replaced: notice\n8");
    assert_eq!(serde_json::from_value::<Notice>(data).expect("it reads as a notice"), *samples::notice(8, "mail:mailer_00"));
    assert_eq!(live.names(2).await, ["notice 9", "notice 10"]);

    assert_eq!(house.events("/api/v1/events?since=8", None).await.names(3).await, ["hello", "notice 9", "notice 10"]);
    let mut again = house.events("/api/v1/events?since=8", Some("9")).await;
    assert_eq!(again.names(2).await, ["hello", "notice 10"], "Last-Event-ID is newer than the address");
    house.tell(11, "mail:mailer_00");
    assert_eq!(again.names(1).await, ["notice 11"]);
    assert_eq!(live.names(1).await, ["notice 11"]);
}

#[tokio::test]
async fn a_client_of_another_life_or_with_a_gap_is_told_to_resync() {
    let house = House::open();
    house.tell(8, "cron");
    house.settle(8).await;
    let mut lost = house.events("/api/v1/events", Some("4000")).await;
    assert_eq!(lost.names(2).await, ["hello", "resync"]);
    let mut old = house.events("/api/v1/events?since=2", None).await;
    assert_eq!(old.names(3).await, ["hello", "resync", "notice 8"]);
    house.tell(12, "cron");
    assert_eq!(lost.names(2).await, ["resync", "notice 12"]);
    assert_eq!(old.names(2).await, ["resync", "notice 12"]);
}

#[tokio::test]
async fn history_tells_of_a_process_a_group_or_a_program() {
    let house = House::open();
    for (seq, about) in [(8, "cron"), (9, "mail:mailer_00"), (10, "mail:mailer_01")] {
        house.tell(seq, about);
    }
    house.settle(10).await;
    for (query, expected) in [
        ("", vec![10, 9, 8]),
        ("?limit=2", vec![10, 9]),
        ("?before=10", vec![9, 8]),
        ("?about=mail", vec![10, 9]),
        ("?about=mail:*", vec![10, 9]),
        ("?about=mail:mailer_00", vec![9]),
        ("?about=cron", vec![8]),
        ("?about=nobody", vec![]),
    ] {
        let (status, found) = house.get(&format!("/api/v1/history{query}")).await;
        let seqs: Vec<_> = found.as_array().expect("an array").iter().map(|notice| notice["seq"].as_u64().expect("a number")).collect();
        assert_eq!((status, seqs), (StatusCode::OK, expected), "{query}");
        assert!(found[0].is_null() || found[0]["text"].is_string());
    }
}

#[tokio::test]
async fn closing_tells_streams_all_that_happened_and_to_come_back() {
    let mut house = House::open();
    let mut live = house.events("/api/v1/events", None).await;
    assert_eq!(live.names(1).await, ["hello"]);
    let idle = house.connect().await;
    house.tell(8, "cron");
    house.close().await;
    assert_eq!(live.names(2).await, ["notice 8", "bye"]);
    assert!(live.next().await.is_none());
    assert!(!house.path().exists());
    assert!(UnixStream::connect(house.path()).await.is_err());
    drop(idle);
}

#[tokio::test]
async fn a_client_that_never_ends_its_request_is_let_go_and_others_do_not_wait() {
    let house = House::open_within(Limits { head_patience: Duration::from_millis(300), ..Limits::default() });
    let mut slow = house.connect().await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: gan").await.expect("written");
    assert_eq!(house.call(Method::GET, "/healthz", "").await.0, StatusCode::OK);
    let mut rest = Vec::new();
    tokio::time::timeout(LIMIT, slow.read_to_end(&mut rest)).await.expect("let go in time").expect("closed");
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{rest:?}");
}

#[tokio::test]
async fn garbage_is_answered_with_400_and_harms_nobody() {
    let house = House::open();
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"GET\r\n\r\n", &[b'x'; 300 * 1024]] {
        let mut stream = house.connect().await;
        // It may be cut off before it has said all.
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("in time");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(house.call(Method::GET, "/healthz", "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_house_is_full_in_words_and_open_again_when_someone_leaves() {
    let house = House::open_within(Limits { connections: 2, ..Limits::default() });
    let first = house.events("/api/v1/events", None).await;
    let _second = house.events("/api/v1/events", None).await;
    let mut turned_away = house.connect().await;
    let mut answer = String::new();
    tokio::time::timeout(LIMIT, turned_away.read_to_string(&mut answer)).await.expect("in time").expect("closed");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 503 ") && head.ends_with(&format!("content-length: {}", body.len())), "{head}");
    assert_eq!(serde_json::from_str::<Value>(body).expect("JSON")["code"], "busy");
    drop(first);
    let freed = async {
        loop {
            let mut stream = house.connect().await;
            let mut answer = String::new();
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: ganger\r\nconnection: close\r\n\r\n").await;
            let _ = stream.read_to_string(&mut answer).await;
            if answer.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, freed).await.expect("a place became free");
}

#[tokio::test]
async fn ten_thousand_short_connections_are_all_answered() {
    let house = House::open();
    for _ in 0..200 {
        let calls = (0..50).map(|_| async {
            let mut stream = house.connect().await;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: ganger\r\nconnection: close\r\n\r\n").await.expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("read");
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        });
        tokio::time::timeout(LIMIT, futures_util::future::join_all(calls)).await.expect("in time");
    }
}

#[tokio::test]
async fn a_second_daemon_at_the_same_socket_is_refused_and_the_first_goes_on() {
    let house = House::open();
    let (asks, _asked) = mpsc::channel(1);
    let (_view, views) = watch::channel(Arc::new(View::default()));
    let logs = Logs::start(100, Box::new(|_| {})).expect("logs start");
    let handle = Handle::new(asks, views, no_plan(), broadcast::channel(1).0, logs);
    let spec = SocketSpec { path: house.path().to_str().expect("UTF-8").into(), mode: 0o660, owner: None };
    let error = Doors::open(handle, spec, Vec::new(), None, HostInfo::default()).expect_err("it is taken");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(house.path().to_str().expect("UTF-8")), "{error}");
    assert_eq!(house.call(Method::GET, "/healthz", "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_inherited_listener_is_served_and_its_file_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ganger.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("it binds");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    let (asks, _asked) = mpsc::channel(1);
    let (_view, views) = watch::channel(Arc::new(View::default()));
    let logs = Logs::start(100, Box::new(|_| {})).expect("logs start");
    let handle = Handle::new(asks, views, no_plan(), broadcast::channel(1).0, logs);
    let spec = SocketSpec { path: path.to_str().expect("UTF-8").into(), mode: 0o660, owner: None };
    let doors = Doors::open(handle, spec, Vec::new(), Some(listener), HostInfo::default()).expect("they open");
    let mut stream = UnixStream::connect(&path).await.expect("somebody listens");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: ganger\r\nconnection: close\r\n\r\n").await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    doors.close();
    assert!(path.exists());
}

#[tokio::test]
async fn a_panic_in_a_handler_is_a_500_and_the_next_request_is_answered() {
    let panics = axum::routing::get(async || -> &'static str { panic!("a fault") });
    let router = axum::Router::new().route("/", panics).layer(axum::middleware::from_fn(rest::survive));
    let router = TowerToHyperService::new(router);
    for _ in 0..2 {
        let request = Request::new(axum::body::Body::empty());
        let response = hyper::service::Service::call(&router, request).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}

fn no_plan() -> watch::Receiver<Arc<crate::model::plan::Plan>> {
    watch::channel(Arc::default()).1
}

// ---- XML-RPC ----

fn rpc(method: &str, params: &str) -> String {
    format!("<methodCall><methodName>{method}</methodName><params>{params}</params></methodCall>")
}

const CRON: &str = "<param><value>cron</value></param>";

impl House {
    async fn rpc(&self, method: &str, params: &str) -> String {
        let (status, body) = self.call(Method::POST, "/RPC2", &rpc(method, params)).await;
        assert_eq!(status, StatusCode::OK);
        String::from_utf8(body.to_vec()).expect("UTF-8")
    }

    /// Changes the first slot of the fleet (`cron`), as the engine would.
    fn change(&self, edit: impl FnOnce(&mut crate::model::view::SlotView)) {
        self.view.send_modify(|view| {
            let view = Arc::make_mut(view);
            let program = Arc::make_mut(&mut view.programs[0]);
            edit(Arc::make_mut(&mut program.slots[0]));
        });
    }
}

#[tokio::test]
async fn one_who_only_looks_on_may_read_by_xml_rpc_and_is_refused_the_rest() {
    use crate::api::xmlrpc;
    let house = House::open();
    let desk = house.desk();
    let guest = UnixPeer { uid: 1000, gid: 1000, pid: 7, groups: Vec::new() };
    let caller = Caller { peer: Peer::Unix(guest), role: Some(Role::View), user: None };
    let ask = async |method: &str, params: &str| {
        let request = Request::builder().method(Method::POST).body(axum::body::Body::from(rpc(method, params))).expect("a request");
        let response = xmlrpc::serve(&desk, &caller, request).await;
        String::from_utf8(response.into_body().collect().await.expect("whole").to_bytes().to_vec()).expect("UTF-8")
    };
    assert!(ask("supervisor.getProcessInfo", CRON).await.contains("<string>RUNNING</string>"));
    for (method, params) in [("supervisor.stopProcess", CRON), ("supervisor.shutdown", ""), ("supervisor.reloadConfig", "")] {
        let answer = ask(method, params).await;
        assert!(answer.contains("<int>30</int>") && answer.contains("uid 1000 may look but not change"), "{method}: {answer}");
    }
}

#[tokio::test]
async fn a_stop_that_waits_is_answered_when_the_view_says_so() {
    let house = House::open();
    let mut stop = std::pin::pin!(house.rpc("supervisor.stopProcess", CRON));
    // Asked, and not yet answered: the process still runs.
    let asked = async {
        while house.asked.lock().expect("whole").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = stop.as_mut() => panic!("answered too early: {answer}"),
        () = asked => {}
    }
    house.change(|slot| slot.state = crate::model::state::State::Stopping);
    house.change(|slot| (slot.state, slot.wanted) = (crate::model::state::State::Stopped, false));
    let answer = tokio::time::timeout(LIMIT, stop).await.expect("in time");
    assert!(answer.contains("<boolean>1</boolean>"), "{answer}");
    let target = Target::Process { group: "cron".into(), process: "cron".into() };
    assert_eq!(house.last_asked().1, Command::Stop { targets: vec![target] });
    assert!(house.rpc("supervisor.stopProcess", CRON).await.contains("NOT_RUNNING: cron"));
}

#[tokio::test]
async fn a_stop_is_done_also_if_somebody_has_started_it_again_before_we_looked() {
    let house = House::open();
    let stop = house.rpc("supervisor.stopProcess", CRON);
    let restart = async {
        while house.asked.lock().expect("whole").is_empty() {
            tokio::task::yield_now().await;
        }
        house.change(|slot| slot.starts += 1);
    };
    let (answer, ()) = tokio::time::timeout(LIMIT, async { tokio::join!(stop, restart) }).await.expect("in time");
    assert!(answer.contains("<boolean>1</boolean>"), "{answer}");
}

#[tokio::test]
async fn after_a_shutdown_was_asked_for_everything_but_remote_events_is_refused() {
    let house = House::open();
    house.view.send_modify(|view| Arc::make_mut(view).mood = crate::model::view::Mood::ShuttingDown);
    for method in ["supervisor.getState", "supervisor.getAllProcessInfo", "supervisor.shutdown"] {
        assert!(house.rpc(method, "").await.contains("<string>SHUTDOWN_STATE</string>"), "{method}");
    }
    let words = "<param><value>type</value></param><param><value>data</value></param>";
    assert!(house.rpc("supervisor.sendRemoteCommEvent", words).await.contains("<boolean>1</boolean>"));
    assert_eq!(house.last_asked().1, Command::Remote { event: "type".into(), data: "data".into() });
    assert!(house.rpc("system.listMethods", "").await.contains("system.multicall"));
}

#[tokio::test]
async fn an_idle_connection_stays_and_makes_way_when_the_house_is_full() {
    let limits = Limits { connections: 1, onlookers: 1, head_patience: Duration::from_millis(50) };
    let house = House::open_within(limits);
    let mut idle = house.connect().await;
    let mut buffer = [0; 1024];
    for _ in 0..2 {
        idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: ganger\r\n\r\n").await.expect("written");
        let read = tokio::time::timeout(LIMIT, idle.read(&mut buffer)).await.expect("in time").expect("read");
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&buffer[..read]));
        // Longer than a head may take.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(house.call(Method::GET, "/healthz", "").await.0, StatusCode::OK);
    assert_eq!(tokio::time::timeout(LIMIT, idle.read(&mut buffer)).await.expect("in time").unwrap_or(0), 0, "it made way");
}
