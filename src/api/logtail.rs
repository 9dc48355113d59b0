//! `/logtail/NAME[/stdout|stderr]` and `/mainlogtail`: the last 1024 bytes of a log file, and on, as `supervisorctl tail -f`
//! and `maintail -f` read them. Supervisor's codes: 400 for anything but GET, 404 for a name, channel or file that is not there.

use crate::api::follow::Follow;
use crate::api::rest::Desk;
use crate::api::serve::told_to_stop;
use crate::api::xmlrpc::{self, words};
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io;
use std::path::PathBuf;

/// How much of the end is shown at first.
const HEAD: u64 = 1024;

/// Answers `/mainlogtail`.
pub async fn main_log(desk: &Desk, method: &Method) -> Response {
    if let Some(refusal) = not_get(method) {
        return refusal;
    }
    match &desk.host.main_log {
        Some(path) => follow(desk, path.clone()).await,
        None => words(StatusCode::NOT_FOUND, "the main log is no file"),
    }
}

/// Answers `/logtail/…`.
pub async fn process_log(desk: &Desk, method: &Method, path: &str) -> Response {
    if let Some(refusal) = not_get(method) {
        return refusal;
    }
    match find(desk, path) {
        Ok(path) => follow(desk, path).await,
        Err(why) => words(StatusCode::NOT_FOUND, &why),
    }
}

fn not_get(method: &Method) -> Option<Response> {
    (method != Method::GET).then(|| words(StatusCode::BAD_REQUEST, "a log is read by GET"))
}

/// The log file that a path means.
fn find(desk: &Desk, path: &str) -> Result<PathBuf, String> {
    let path = unescaped(path);
    let rest = path.trim_start_matches('/').split_once('/').map(|(_, rest)| rest).ok_or("name a process: /logtail/NAME")?;
    let (name, channel) = rest.split_once('/').unwrap_or((rest, "stdout"));
    let (group, process) = name.split_once(':').unwrap_or((name, name));
    let view = desk.handle.view();
    let slot = view.slots().find(|slot| slot.group.as_str() == group && slot.process == process);
    let slot = slot.ok_or_else(|| format!("no such process: {name}"))?;
    let plan = desk.handle.plan();
    let spec = plan.programs.get(&slot.program).ok_or_else(|| format!("{name} has no definition any more"))?;
    let (stdout, stderr) = xmlrpc::logs(spec, slot.number);
    let path = match channel {
        "stdout" => stdout,
        "stderr" => stderr,
        other => return Err(format!("found channel {other:?}, expected stdout or stderr")),
    };
    path.map(PathBuf::from).ok_or_else(|| format!("the {channel} of {name} is written to no file"))
}

async fn follow(desk: &Desk, path: PathBuf) -> Response {
    let shown = path.display().to_string();
    let follow = match Follow::open(path, HEAD).await {
        Ok(follow) => follow,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return words(StatusCode::NOT_FOUND, &format!("there is no file {shown}")),
        // Too many are watched, or we may not.
        Err(error) => return words(StatusCode::SERVICE_UNAVAILABLE, &format!("cannot follow {shown}: {error}")),
    };
    let modified = Timestamp::try_from(follow.modified).unwrap_or_default();
    let modified = modified.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let chunks = futures_util::stream::unfold((follow, desk.closing.clone()), |(mut follow, mut closing)| async move {
        tokio::select! {
            biased;
            () = told_to_stop(&mut closing) => None,
            chunk = follow.next() => Some((chunk, (follow, closing))),
        }
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=utf-8"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    if let Ok(modified) = HeaderValue::from_str(&modified) {
        headers.insert(header::LAST_MODIFIED, modified);
    }
    response
}

/// `%41` is `A`; what is no escape stays.
fn unescaped(path: &str) -> String {
    let bytes = path.as_bytes();
    let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_in_paths_are_read() {
        assert_eq!(unescaped("/logtail/mail%3Amail_0%20x/std%6Fut"), "/logtail/mail:mail_0 x/stdout");
        assert_eq!(unescaped("/%/%4/%zz/%C3%A4"), "/%/%4/%zz/ä");
    }
}
