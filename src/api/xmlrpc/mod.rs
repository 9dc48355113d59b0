//! The `/RPC2` door: XML-RPC as Supervisor speaks it, on every socket.
//!
//! | file | subject |
//! |---|---|
//! | `wire` | the text, both ways; pure |
//! | `table` | the methods: what each takes, gives and needs |
//! | `methods` | what each does |
//! | `info` | slots and definitions in Supervisor's terms; pure |
//! | `program` | whether a program could be started at all |
//! | `faults` | fault and state codes |
//!
//! Any path that begins with `/RPC2` is taken, and any Content-Type. A fault of a method is a 200, as the protocol has it; what
//! is no call at all is a 400, in words. Bodies have a bound in bytes and in time, and so has the memory of all of them
//! together.

mod faults;
mod info;
mod methods;
mod program;
mod table;
mod wire;

use crate::api::access::Caller;
use crate::api::rest::Desk;
use crate::api::xmlrpc::methods::Rpc;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use std::time::Duration;
use tokio::sync::Semaphore;

pub use crate::api::xmlrpc::info::logs;

/// Bytes of one call.
pub const MAX_BODY: usize = 8 * 1024 * 1024;
/// From the head to the last byte of a body.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// Calls larger than this wait for each other: so many large ones at once.
const SMALL: u64 = 64 * 1024;
const LARGE_AT_ONCE: usize = 8;
static LARGE: Semaphore = Semaphore::const_new(LARGE_AT_ONCE);

/// Answers one request.
pub async fn serve(desk: &Desk, caller: &Caller, request: Request) -> Response {
    if request.method() != Method::POST {
        return words(StatusCode::BAD_REQUEST, &format!("XML-RPC is asked by POST, not {}", request.method()));
    }
    let body = request.into_body();
    // Held until the call is read: then its values are bounded by themselves.
    let _turn = match body.size_hint().upper() {
        Some(..=SMALL) => None,
        Some(size) if size > MAX_BODY as u64 => return too_large(),
        Some(_) | None => match tokio::time::timeout(BODY_PATIENCE, LARGE.acquire()).await {
            Ok(turn) => turn.ok(),
            Err(_) => return words(StatusCode::SERVICE_UNAVAILABLE, "too many large calls at once; try again soon"),
        },
    };
    let limited = Limited::new(body, MAX_BODY).collect();
    let body: Bytes = match tokio::time::timeout(BODY_PATIENCE, limited).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return too_large(),
        Ok(Err(error)) => return words(StatusCode::BAD_REQUEST, &format!("the call broke off: {error}")),
        Err(_) => {
            let why = format!("the call did not come within {} s", BODY_PATIENCE.as_secs());
            return words(StatusCode::REQUEST_TIMEOUT, &why);
        }
    };
    let call = match wire::read(&body) {
        Ok(call) => call,
        Err(why) => return words(StatusCode::BAD_REQUEST, &format!("the call cannot be read: {why}")),
    };
    drop((body, _turn));
    let text = match (Rpc { desk, caller }).serve(call).await {
        Ok(value) => wire::answer(&value),
        Err(fault) => wire::fault(fault.number(), &fault.to_string()),
    };
    ([(header::CONTENT_TYPE, "text/xml")], text).into_response()
}

fn too_large() -> Response {
    words(StatusCode::PAYLOAD_TOO_LARGE, &format!("a call may have {MAX_BODY} bytes at most"))
}

/// A refusal of what is no call at all.
pub fn words(status: StatusCode, why: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{why}\n")).into_response()
}
