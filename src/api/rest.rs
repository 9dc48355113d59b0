//! The REST door: one table of routes, and what each answers.
//!
//! A body of a POST is the fields of a `Command`, an answer is a `Reply`, a refusal is a `Refusal` with its
//! words beside it: `{"code":"no_such","name":"mialer","nearest":"mailer","message":"…"}`. A refusal of the whole
//! request has a fitting status; refusals of single processes are outcomes, and the answer is a 200.
//!
//! Nothing is decided here. A question is answered from the newest `View`, from the ring of notices, or by the
//! log thread; a wish goes to the engine as it is. Unknown fields and parameters are refused, so that a slip of
//! the keyboard never means something else than its author thinks.

use crate::api::access::{Access, Caller, Role};
use crate::api::brief::Brief;
use crate::api::handle::Handle;
use crate::api::stream::{Ring, Shown};
use crate::api::{HostInfo, find, logtail, metrics, serve, xmlrpc};
use crate::logs::{Channel, Last, TailError};
use crate::model::command::{Batch, Command, Outcome, Refusal, Reply, ScaleTo};
use crate::model::name::{SlotId, Target};
use crate::model::signal::Signal;
use crate::model::time::Stamp;
use crate::model::view::{Mood, View};
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, http};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// What every handler has before it.
#[derive(Debug)]
pub struct Desk {
    pub handle: Handle,
    pub host: HostInfo,
    pub access: Access,
    pub ring: Arc<Ring>,
    /// True when streams are to end and connections to finish.
    pub closing: watch::Receiver<bool>,
    /// The last status of everything, written out, in full and in brief: as long as the view is the same, so is its text.
    status: Mutex<[Kept; 2]>,
}

impl Desk {
    pub fn new(handle: Handle, host: HostInfo, access: Access, ring: Arc<Ring>, closing: watch::Receiver<bool>) -> Desk {
        Desk { handle, host, access, ring, closing, status: Mutex::default() }
    }

    /// Asks the engine in the caller's name.
    pub async fn ask(&self, caller: &Caller, command: Command) -> Result<Reply, Refusal> {
        self.handle.ask(self.access.who(caller).await, command).await
    }
}

/// A text, and what it was made of.
type Kept = Option<(Arc<View>, Bytes)>;
type Desked = State<Arc<Desk>>;
type Answered = Result<Response, Refused>;

/// One line of the table.
struct Route {
    path: &'static str,
    role: Role,
    handler: MethodRouter<Arc<Desk>>,
}

/// Everything there is to ask.
fn routes() -> Vec<Route> {
    let route = |path, role, handler| Route { path, role, handler };
    vec![
        route("/healthz", Role::View, get(healthz)),
        route("/metrics", Role::View, get(scrape)),
        route("/api/v1/version", Role::View, get(version)),
        route("/api/v1/status", Role::View, get(status)),
        route("/api/v1/workers/{label}", Role::View, get(worker)),
        route("/api/v1/events", Role::View, get(events)),
        route("/api/v1/history", Role::View, get(history)),
        route("/api/v1/logs/{label}/{channel}", Role::View, get(log)),
        route("/api/v1/logs/clear", Role::Operate, post(clear)),
        route("/api/v1/start", Role::Operate, wish::<Start>()),
        route("/api/v1/stop", Role::Operate, wish::<Stop>()),
        route("/api/v1/restart", Role::Operate, wish::<Restart>()),
        route("/api/v1/roll", Role::Operate, wish::<Roll>()),
        route("/api/v1/recycle", Role::Operate, wish::<Recycle>()),
        route("/api/v1/scale", Role::Operate, wish::<Scale>()),
        route("/api/v1/signal", Role::Operate, wish::<SendSignal>()),
        route("/api/v1/reload", Role::Operate, wish::<Reload>()),
        route("/api/v1/plan", Role::Operate, wish::<Plan>()),
        route("/api/v1/refresh", Role::View, wish::<Refresh>()),
        route("/api/v1/shutdown", Role::Operate, wish::<Shutdown>()),
    ]
}

/// The router of all doors. Every request must bear its `Caller` as an extension.
pub fn router(desk: Arc<Desk>) -> Router {
    let mut router = Router::new();
    for Route { path, role, handler } in routes() {
        router = router.route(path, handler.layer(from_fn(move |request, next| admit(role, request, next))));
    }
    router.fallback(elsewhere).method_not_allowed_fallback(wrong_method).layer(from_fn(survive)).with_state(desk)
}

/// Lets in who has the role.
async fn admit(role: Role, request: Request, next: Next) -> Response {
    // A request without a caller is a fault of ours, and the answer to that is no.
    let allowed = match request.extensions().get::<Caller>() {
        Some(caller) => caller.may(role),
        None => Err(Refusal::NotAllowed { why: "nobody knows who asks".into() }),
    };
    match allowed {
        Ok(()) => next.run(request).await,
        Err(refusal) => Refused::from(refusal).into_response(),
    }
}

/// A panic in a handler is a fault of ours and is loud, but it is one request's misfortune.
pub async fn survive(request: Request, next: Next) -> Response {
    let asked = format!("{} {}", request.method(), request.uri().path());
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            tracing::error!("answering {asked:?} panicked: {}", words.unwrap_or("without a word"));
            json(StatusCode::INTERNAL_SERVER_ERROR, &Fault { code: "fault", message: "a fault of ours; the daemon's log tells more" })
        }
    }
}

/// What is on no line of the table: Supervisor's own paths, which are beginnings; or nothing.
async fn elsewhere(State(desk): Desked, request: Request) -> Response {
    let path = request.uri().path();
    // A request without a caller is a fault of ours, and the answer to that is no.
    let Some(caller) = request.extensions().get::<Caller>().cloned() else {
        return Refused::from(Refusal::NotAllowed { why: "nobody knows who asks".into() }).into_response();
    };
    if path.starts_with("/RPC2") {
        // It asks method by method what the caller may.
        return xmlrpc::serve(&desk, &caller, request).await;
    }
    let (is_main, is_log) = (path.starts_with("/mainlogtail"), path.starts_with("/logtail"));
    if !is_main && !is_log {
        return nowhere(request.uri());
    }
    let (asked, _) = request.into_parts();
    match caller.may(Role::View) {
        Err(refusal) => Refused::from(refusal).into_response(),
        Ok(()) if is_main => logtail::main_log(&desk, &asked.method).await,
        Ok(()) => logtail::process_log(&desk, &asked.method, asked.uri.path()).await,
    }
}

fn nowhere(uri: &Uri) -> Response {
    json(StatusCode::NOT_FOUND, &Fault { code: "no_such_path", message: &format!("there is nothing at {}", uri.path()) })
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    json(StatusCode::METHOD_NOT_ALLOWED, &Fault { code: "wrong_method", message: &format!("{} does not take {method}", uri.path()) })
}

// ---- questions ----

async fn healthz(State(desk): Desked) -> Response {
    match desk.handle.view().mood {
        Mood::Running => text(StatusCode::OK, "ok\n"),
        Mood::Renewing => text(StatusCode::SERVICE_UNAVAILABLE, "starting everything anew\n"),
        Mood::ShuttingDown => text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
    }
}

async fn scrape(State(desk): Desked) -> Response {
    let body = metrics::text(desk.handle.view(), &desk.host.version);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], body).into_response()
}

#[derive(Serialize)]
struct Version<'a> {
    name: &'static str,
    version: &'a str,
    api: &'static str,
    pid: i32,
    config: &'a str,
    started: Stamp,
    footing: &'a [String],
}

async fn version(State(desk): Desked) -> Response {
    let HostInfo { version, pid, config, footing, main_log: _, identifier: _, supervisor_version: _ } = &desk.host;
    let started = desk.handle.view().started;
    json(StatusCode::OK, &Version { name: "ganger", version, api: "1", pid: *pid, config, started, footing })
}

/// The view, and the names that were asked for and mean nothing.
#[derive(Serialize)]
struct Status<'a> {
    #[serde(flatten)]
    view: &'a View,
    unknown: &'a [String],
}

/// `?name=TARGET` (as often as wanted; none is all), `?refresh=1`: measures memory and processor time first; `?brief=1`: only
/// what a list shows.
async fn status(State(desk): Desked, Extension(caller): Extension<Caller>, query: Params) -> Answered {
    let mut targets = Vec::new();
    let (mut refresh, mut brief) = (false, false);
    for (key, value) in params(query)? {
        match key.as_str() {
            "name" if targets.len() >= MAX_NAMES => return Err(malformed(format!("{MAX_NAMES} names at most"))),
            "name" => targets.push(Target::read(&value)),
            "refresh" => refresh = flag(&key, &value)?,
            "brief" => brief = flag(&key, &value)?,
            _ => return Err(unknown_param(&key, "name, refresh, brief")),
        }
    }
    if refresh {
        desk.ask(&caller, Command::Refresh).await?;
    }
    let view = desk.handle.view();
    if !targets.is_empty() {
        let (programs, unknown) = find::select(&view, &targets);
        // All but the programs is small.
        let View { seq, at, started, mood, loaded, faults, programs: _ } = &*view;
        let view = View { seq: *seq, at: *at, started: *started, mood: *mood, loaded: *loaded, faults: faults.clone(), programs };
        return Ok(json_bytes(StatusCode::OK, status_text(&view, &unknown, brief)));
    }
    let mut kept = desk.status.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = &mut kept[usize::from(brief)];
    let body = match &*kept {
        Some((of, body)) if Arc::ptr_eq(of, &view) => body.clone(),
        Some(_) | None => {
            let body = status_text(&view, &[], brief);
            *kept = Some((view, body.clone()));
            body
        }
    };
    Ok(json_bytes(StatusCode::OK, body))
}

fn status_text(view: &View, unknown: &[String], brief: bool) -> Bytes {
    Bytes::from(if brief { written(&Brief::of(view, unknown)) } else { written(&Status { view, unknown }) })
}

async fn worker(State(desk): Desked, label: Result<Path<String>, PathRejection>) -> Answered {
    let Path(label) = label.map_err(|error| malformed(error.body_text()))?;
    let view = desk.handle.view();
    match find::slot(&view, &label) {
        Some(slot) => Ok(json(StatusCode::OK, slot)),
        None => Err(no_such(&view, label)),
    }
}

/// `?since=SEQ`, or the header `Last-Event-ID`, which wins: browsers send it when they come back.
async fn events(State(desk): Desked, headers: HeaderMap, query: Params) -> Answered {
    let mut since = None;
    for (key, value) in params(query)? {
        match key.as_str() {
            "since" => since = Some(number::<u64>(&key, &value)?),
            _ => return Err(unknown_param(&key, "since")),
        }
    }
    if let Some(last) = headers.get("last-event-id") {
        since = Some(number("Last-Event-ID", last.to_str().unwrap_or("bytes that are no text"))?);
    }
    let stream = desk.ring.stream(since, desk.handle.view().seq, desk.closing.clone());
    Ok(streamed("text/event-stream", Body::from_stream(stream)))
}

/// `?about=NAME` (a process, program or group), `?limit=N` (100), `?before=SEQ`: an array, newest first.
async fn history(State(desk): Desked, query: Params) -> Answered {
    let (mut about, mut limit, mut before) = (None, 100, None);
    for (key, value) in params(query)? {
        match key.as_str() {
            "about" => about = Some(value),
            "limit" => limit = number::<usize>(&key, &value)?,
            "before" => before = Some(number::<u64>(&key, &value)?),
            _ => return Err(unknown_param(&key, "about, limit, before")),
        }
    }
    let about = about.as_deref().map(Target::read);
    let found = desk.ring.history(limit, before, |notice| {
        let (group, process) = notice.about.split_once(':').unwrap_or((&notice.about, &notice.about));
        let program = || notice.slot.as_ref().map(|slot| slot.program.as_str());
        match &about {
            None | Some(Target::All) => true,
            Some(Target::Group(name)) => group == name,
            Some(Target::Process { group: g, process: p }) => group == g && process == p,
            Some(Target::Bare(name)) => group == name || program() == Some(name),
        }
    });
    Ok(json(StatusCode::OK, &found.iter().map(|notice| Shown::new(notice)).collect::<Vec<_>>()))
}

// ---- logs ----

/// The end of a log, as it is: `?bytes=N` or `?lines=N` (1,600 bytes, as supervisorctl shows), `?follow=1`: and what is
/// written from then on.
async fn log(State(desk): Desked, place: Result<Path<(String, String)>, PathRejection>, query: Params) -> Answered {
    let Path((label, channel)) = place.map_err(|error| malformed(error.body_text()))?;
    let channel = match channel.as_str() {
        "stdout" => Channel::Stdout,
        "stderr" => Channel::Stderr,
        other => return Err(malformed(format!("found {other:?}, expected \"stdout\" or \"stderr\""))),
    };
    let (mut last, mut follow) = (None, false);
    for (key, value) in params(query)? {
        let wanted = match key.as_str() {
            "bytes" => Last::Bytes(number(&key, &value)?),
            "lines" => Last::Lines(number(&key, &value)?),
            "follow" => {
                follow = flag(&key, &value)?;
                continue;
            }
            _ => return Err(unknown_param(&key, "bytes, lines, follow")),
        };
        if last.replace(wanted).is_some() {
            return Err(malformed("either bytes or lines, and once".into()));
        }
    }
    let last = last.unwrap_or(Last::Bytes(1_600));
    if matches!(last, Last::Bytes(bytes) if bytes > MAX_TAIL) {
        return Err(malformed(format!("{MAX_TAIL} bytes at most")));
    }
    let view = desk.handle.view();
    let Some(slot) = find::slot(&view, &label) else { return Err(no_such(&view, label)) };
    let slot = SlotId::new(&slot.program, slot.number);
    let logs = desk.handle.logs();
    if !follow {
        let bytes = logs.tail(slot, channel, last).await.map_err(|error| log_refusal(error, &label))?;
        return Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], bytes).into_response());
    }
    // Asked in one breath, the follower first: what comes between shows twice rather than never.
    let (chunks, bytes) = tokio::join!(logs.follow(slot.clone(), channel), logs.tail(slot, channel, last));
    let chunks = chunks.map_err(|error| log_refusal(error, &label))?;
    let bytes = bytes.map_err(|error| log_refusal(error, &label))?;
    let tail = futures_util::stream::iter((!bytes.is_empty()).then(|| Bytes::from(bytes)));
    let following = futures_util::stream::unfold((chunks, desk.closing.clone()), |(mut chunks, mut closing)| async move {
        tokio::select! {
            biased;
            chunk = chunks.recv() => chunk.map(|chunk| (chunk, (chunks, closing))),
            () = serve::told_to_stop(&mut closing) => None,
        }
    });
    Ok(streamed("text/plain; charset=utf-8", Body::from_stream(tail.chain(following).map(Ok::<_, Infallible>))))
}

async fn clear(State(desk): Desked, request: Request) -> Answered {
    let Targets { targets } = body::<Targets>(request).await?.checked()?;
    let view = desk.handle.view();
    let (programs, unknown) = find::select(&view, &targets);
    let mut outcomes: Vec<Outcome> = Vec::new();
    for slot in programs.iter().flat_map(|program| &program.slots) {
        let label = slot.label();
        let cleared = desk.handle.logs().clear(SlotId::new(&slot.program, slot.number)).await;
        let refused = cleared.err().map(|error| log_refusal(error, &label).0);
        outcomes.push(Outcome { name: label, refused });
    }
    outcomes.extend(unknown.into_iter().map(|name| Outcome { refused: Some(no_such(&view, name.clone()).0), name }));
    Ok(json(StatusCode::OK, &Reply::Outcomes(outcomes)))
}

// ---- wishes ----

/// The body of a POST that becomes a command.
trait Wish: DeserializeOwned + Send + 'static {
    /// The command; refused where its fields make no sense together.
    fn command(self) -> Result<Command, Refused>;
}

/// The handler of one wish.
fn wish<W: Wish>() -> MethodRouter<Arc<Desk>> {
    post(async |State(desk): Desked, Extension(caller): Extension<Caller>, request: Request| -> Answered {
        let command = body::<W>(request).await?.command()?;
        Ok(json(StatusCode::OK, &desk.ask(&caller, command).await?))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Targets {
    targets: Vec<Target>,
}

impl Targets {
    /// Nothing named is a slip, not a wish for everything.
    fn checked(self) -> Result<Targets, Refused> {
        match self.targets.len() {
            0 => Err(malformed("targets is empty; name at least one, or \"all\"".into())),
            1..=MAX_NAMES => Ok(self),
            _ => Err(malformed(format!("{MAX_NAMES} targets at most"))),
        }
    }
}

/// Wishes that are nothing but a list of targets.
macro_rules! targets_wish {
    ($($name:ident),*) => {$(
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct $name(Targets);

        impl Wish for $name {
            fn command(self) -> Result<Command, Refused> {
                Ok(Command::$name { targets: self.0.checked()?.targets })
            }
        }
    )*};
}

targets_wish!(Start, Stop, Restart, Recycle);

/// `batch`: `{"workers":2}` or `{"percent":25}`; one worker if absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Roll {
    targets: Vec<Target>,
    #[serde(default = "one_worker")]
    batch: Batch,
}

fn one_worker() -> Batch {
    Batch::Workers(1)
}

impl Wish for Roll {
    fn command(self) -> Result<Command, Refused> {
        match self.batch {
            Batch::Workers(0) => return Err(malformed("a batch of 0 workers would never end; expected 1 or more".into())),
            Batch::Percent(percent) if !(1..=100).contains(&percent) => {
                return Err(malformed(format!("found a batch of {percent} percent, expected 1 to 100")));
            }
            Batch::Workers(_) | Batch::Percent(_) => {}
        }
        Ok(Command::Roll { targets: Targets { targets: self.targets }.checked()?.targets, batch: self.batch })
    }
}

/// `to`: `{"exactly":8}`, `{"up":2}`, `{"down":1}` or `"default"`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scale {
    program: String,
    to: ScaleTo,
}

impl Wish for Scale {
    fn command(self) -> Result<Command, Refused> {
        Ok(Command::Scale { program: self.program, to: self.to })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendSignal {
    targets: Vec<Target>,
    signal: Signal,
}

impl Wish for SendSignal {
    fn command(self) -> Result<Command, Refused> {
        Ok(Command::Signal { targets: Targets { targets: self.targets }.checked()?.targets, signal: self.signal })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reload {
    #[serde(default)]
    dry: bool,
}

impl Wish for Reload {
    fn command(self) -> Result<Command, Refused> {
        Ok(Command::Reload { dry: self.dry })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {}

impl Wish for Plan {
    fn command(self) -> Result<Command, Refused> {
        Ok(Command::Reload { dry: true })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refresh {}

impl Wish for Refresh {
    fn command(self) -> Result<Command, Refused> {
        Ok(Command::Refresh)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shutdown {}

impl Wish for Shutdown {
    fn command(self) -> Result<Command, Refused> {
        Ok(Command::Shutdown)
    }
}

// ---- reading requests ----

type Params = Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>;

fn params(query: Params) -> Result<Vec<(String, String)>, Refused> {
    query.map(|Query(params)| params).map_err(|error| malformed(error.body_text()))
}

fn unknown_param(found: &str, expected: &str) -> Refused {
    malformed(format!("unknown parameter {found:?}, expected one of: {expected}"))
}

fn number<N: FromStr>(name: &str, value: &str) -> Result<N, Refused> {
    value.parse().map_err(|_| malformed(format!("{name}: found {value:?}, expected a whole number")))
}

fn flag(name: &str, value: &str) -> Result<bool, Refused> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(malformed(format!("{name}: found {value:?}, expected 1 or 0"))),
    }
}

/// Reads a JSON body. An empty one stands for `{}`.
async fn body<T: DeserializeOwned>(request: Request) -> Result<T, Refused> {
    let limited = Limited::new(request.into_body(), MAX_BODY).collect();
    let body = match tokio::time::timeout(BODY_PATIENCE, limited).await {
        Err(_) => return Err(malformed(format!("the body did not come within {} s", BODY_PATIENCE.as_secs()))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(malformed(format!("a body may have {MAX_BODY} bytes at most"))),
        Ok(Err(error)) => return Err(malformed(format!("the body broke off: {error}"))),
        Ok(Ok(body)) => body.to_bytes(),
    };
    let bytes: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(bytes).map_err(|error| malformed(format!("the body: {error}")))
}

// ---- writing answers ----

/// A refusal on its way out.
#[derive(Debug)]
struct Refused(Refusal);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused(refusal)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            Refusal::NoSuch { .. } => StatusCode::NOT_FOUND,
            Refusal::AlreadyStarted
            | Refusal::NotRunning
            | Refusal::AlreadyAdded { .. }
            | Refusal::StillRunning { .. }
            | Refusal::NoStdin
            | Refusal::Busy { .. } => StatusCode::CONFLICT,
            Refusal::OutOfBounds { .. } | Refusal::BadConfig { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::NotAllowed { .. } => StatusCode::FORBIDDEN,
            Refusal::Malformed { .. } => StatusCode::BAD_REQUEST,
        };
        json(status, &InWords { message: self.0.to_string(), refusal: &self.0 })
    }
}

#[derive(Serialize)]
struct InWords<'a> {
    #[serde(flatten)]
    refusal: &'a Refusal,
    message: String,
}

/// What is wrong with a request before it means anything.
#[derive(Serialize)]
struct Fault<'a> {
    code: &'static str,
    message: &'a str,
}

fn malformed(why: String) -> Refused {
    Refused(Refusal::Malformed { why })
}

fn no_such(view: &View, name: String) -> Refused {
    Refused(Refusal::NoSuch { nearest: find::nearest(view, &name), name })
}

fn log_refusal(error: TailError, label: &str) -> Refused {
    Refused(match error {
        TailError::NoSuchSlot => Refusal::NoSuch { name: label.to_owned(), nearest: None },
        TailError::NoSuchChannel => Refusal::Malformed { why: format!("{label}: {error}") },
        // The file is there, or was; the system does not let us have it.
        TailError::Unreadable(_) => Refusal::NotAllowed { why: format!("{label}: {error}") },
    })
}

fn written(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("keys are strings and numbers are finite")
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    json_bytes(status, Bytes::from(written(value)))
}

fn json_bytes(status: StatusCode, body: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

fn text(status: StatusCode, body: &'static str) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// An answer without an end. No proxy may keep it back.
fn streamed(content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(http::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

const MAX_BODY: usize = 1024 * 1024;
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// Of targets in one request: each is looked up among all slots.
const MAX_NAMES: usize = 4_096;
const MAX_TAIL: u64 = 16 * 1024 * 1024;
