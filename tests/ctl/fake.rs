//! A daemon that is not one: canned answers over a unix socket.
//!
//! It serves a `View`, keeps a history, and answers a command as it was told to, followed by the notices it was
//! given. Every type that it sends is the model's own, so that a screen cannot pass on JSON that no daemon would send.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ganger::model::command::{Answer, Refusal};
use ganger::model::name::Target;
use ganger::model::notice::Notice;
use ganger::model::view::{ProgramView, View};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::sync::broadcast;

#[derive(Default)]
pub struct Script {
    pub view: View,
    pub answer: Option<Answer>,
    /// Told after the answer.
    pub then: Vec<Notice>,
    /// The view after the answer, when that shall change; with a `resync` instead of notices.
    pub becomes: Option<View>,
    pub history: Vec<Notice>,
    pub log: Option<Vec<u8>>,
    /// What was asked: path and body.
    pub asked: Vec<(String, Value)>,
}

#[derive(Clone)]
struct Desk {
    script: Arc<Mutex<Script>>,
    stream: broadcast::Sender<String>,
}

pub struct Fake {
    dir: tempfile::TempDir,
    script: Arc<Mutex<Script>>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Fake {
    pub fn new(script: Script) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let script = Arc::new(Mutex::new(script));
        let desk = Desk { script: script.clone(), stream: broadcast::channel(1024).0 };
        let app = Router::new()
            .route("/api/v1/status", get(status))
            .route("/api/v1/version", get(version))
            .route("/api/v1/events", get(events))
            .route("/api/v1/history", get(history))
            .route("/api/v1/logs/{label}/{channel}", get(tail))
            .route("/api/v1/logs/{verb}", post(command))
            .route("/api/v1/{verb}", post(command))
            .with_state(desk);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::bind(dir.path().join("ganger.sock")).unwrap()
        };
        // Ends with the fake: the sender is dropped then.
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    served = axum::serve(listener, app) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Fake { dir, script, _stop: stop }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("ganger.sock")
    }

    pub fn asked(&self) -> Vec<(String, Value)> {
        self.script.lock().unwrap().asked.clone()
    }
}

async fn status(State(desk): State<Desk>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let view = desk.script.lock().unwrap().view.clone();
    let names: Vec<Target> = query.iter().filter(|(key, _)| key == "name").map(|(_, name)| Target::read(name)).collect();
    let unknown: Vec<String> =
        names.iter().filter(|name| !view.programs.iter().any(|p| !of(p, name).is_empty())).map(Target::to_string).collect();
    let programs: Vec<Arc<ProgramView>> = view
        .programs
        .iter()
        .map(|program| {
            let slots =
                program.slots.iter().filter(|slot| names.is_empty() || names.iter().any(|name| of(program, name).contains(&slot.label())));
            Arc::new(ProgramView { slots: slots.cloned().collect(), ..ProgramView::clone(program) })
        })
        .filter(|program| !program.slots.is_empty() || names.is_empty())
        .collect();
    let mut value = serde_json::to_value(View { programs, ..view }).unwrap();
    value["unknown"] = json!(unknown);
    value.to_string().into_response()
}

/// Labels of a program's slots that `target` means.
fn of(program: &ProgramView, target: &Target) -> Vec<String> {
    let labels = program.slots.iter().map(|slot| slot.label());
    match target {
        Target::All => labels.collect(),
        Target::Group(group) if program.group.as_str() == group => labels.collect(),
        Target::Bare(name) if program.name.as_str() == name => labels.collect(),
        Target::Process { .. } | Target::Bare(_) => labels.filter(|label| *label == target.to_string()).collect(),
        Target::Group(_) => Vec::new(),
    }
}

async fn version() -> String {
    json!({ "name": "ganger", "version": env!("CARGO_PKG_VERSION"), "api": "1", "pid": 4242, "config": "/etc/ganger/ganger.toml" })
        .to_string()
}

async fn events(State(desk): State<Desk>) -> Response {
    let stream = desk.stream.subscribe();
    let hello = futures_util::stream::iter([Ok::<_, Infallible>("event: hello\ndata: {\"seq\":100}\n\n".to_owned())]);
    let rest = futures_util::stream::unfold(stream, |mut stream| async move { stream.recv().await.ok().map(|frame| (Ok(frame), stream)) });
    Body::from_stream(futures_util::StreamExt::chain(hello, rest)).into_response()
}

async fn history(State(desk): State<Desk>) -> String {
    let script = desk.script.lock().unwrap();
    serde_json::to_string(&script.history.iter().rev().collect::<Vec<_>>()).unwrap()
}

async fn tail(
    State(desk): State<Desk>,
    Path((label, channel)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let mut script = desk.script.lock().unwrap();
    script.asked.push((format!("{label}/{channel}"), json!(query)));
    match script.log.clone() {
        Some(log) => log.into_response(),
        None => {
            (StatusCode::NOT_FOUND, json!({ "code": "no_log", "message": "its stderr is written to stdout (redirect_stderr)" }).to_string())
                .into_response()
        }
    }
}

async fn command(State(desk): State<Desk>, Path(verb): Path<String>, body: String) -> Response {
    let mut script = desk.script.lock().unwrap();
    script.asked.push((verb, serde_json::from_str(&body).expect("a JSON body")));
    for notice in std::mem::take(&mut script.then) {
        let data = serde_json::to_string(&notice).unwrap();
        let _ = desk.stream.send(format!("id: {}\nevent: notice\ndata: {data}\n\n", notice.seq));
    }
    if let Some(view) = script.becomes.take() {
        script.view = view;
        let _ = desk.stream.send("event: resync\ndata: {\"next\":200}\n\n".to_owned());
    }
    match script.answer.clone() {
        Some(Ok(reply)) => serde_json::to_string(&reply).unwrap().into_response(),
        Some(Err(refusal)) => {
            let mut value = serde_json::to_value(&refusal).unwrap();
            value["message"] = json!(refusal.to_string());
            (StatusCode::from_u16(status_of(&refusal)).unwrap(), value.to_string()).into_response()
        }
        None => (StatusCode::INTERNAL_SERVER_ERROR, "not in the script").into_response(),
    }
}

fn status_of(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::NoSuch { .. } => 404,
        Refusal::NotAllowed { .. } => 403,
        Refusal::BadConfig { .. } => 422,
        Refusal::ShuttingDown => 503,
        Refusal::Malformed { .. } | Refusal::OutOfBounds { .. } => 400,
        Refusal::Busy { .. }
        | Refusal::AlreadyAdded { .. }
        | Refusal::StillRunning { .. }
        | Refusal::NoStdin
        | Refusal::AlreadyStarted
        | Refusal::NotRunning => 409,
    }
}
