//! Speaks to a Supervisor: XML-RPC calls and followed logs, by HTTP over TCP or a unix socket.
//!
//! It works with any server of the kind, so what goes wrong is told in the words that supervisorctl's readers know: the
//! class of Python's exception and its text. Where the server is comes from `options`; what answers mean is not here.

use super::wire::{self, Answer, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::io::{self, ErrorKind};
use tokio::net::{TcpStream, UnixStream};

/// Why there is no answer, or a fault instead of one.
#[derive(Debug)]
pub enum Trouble {
    Fault {
        code: i64,
        text: String,
    },
    /// A status that is no success.
    Protocol {
        status: u16,
        reason: String,
    },
    /// The server cannot be reached, or the connection broke.
    Io(io::Error),
    /// An answer that is none.
    Odd(String),
    /// What Python calls a ValueError: on our side, nothing was sent, or an answer without a meaning.
    Value(String),
    /// A number that XML-RPC cannot carry.
    TooLarge,
}

/// Supervisor's fault codes that decide about words and exit codes.
pub mod fault {
    pub const UNKNOWN_METHOD: i64 = 1;
    pub const SHUTDOWN_STATE: i64 = 6;
    pub const BAD_NAME: i64 = 10;
    pub const BAD_SIGNAL: i64 = 11;
    pub const NO_FILE: i64 = 20;
    pub const NOT_EXECUTABLE: i64 = 21;
    pub const FAILED: i64 = 30;
    pub const ABNORMAL_TERMINATION: i64 = 40;
    pub const SPAWN_ERROR: i64 = 50;
    pub const ALREADY_STARTED: i64 = 60;
    pub const NOT_RUNNING: i64 = 70;
    pub const SUCCESS: i64 = 80;
    pub const ALREADY_ADDED: i64 = 90;
    pub const STILL_RUNNING: i64 = 91;
    pub const CANT_REREAD: i64 = 92;
}

impl Trouble {
    /// The fault's code, if it is one.
    pub fn code(&self) -> Option<i64> {
        match self {
            Trouble::Fault { code, .. } => Some(*code),
            Trouble::Protocol { .. } | Trouble::Io(_) | Trouble::Odd(_) | Trouble::Value(_) | Trouble::TooLarge => None,
        }
    }

    /// The class of Python's exception.
    pub fn class(&self) -> &'static str {
        match self {
            Trouble::Fault { .. } => "xmlrpc.client.Fault",
            Trouble::Protocol { .. } => "xmlrpc.client.ProtocolError",
            Trouble::Odd(_) => "xmlrpc.client.ResponseError",
            Trouble::Value(_) => "ValueError",
            Trouble::TooLarge => "OverflowError",
            Trouble::Io(why) => match why.kind() {
                ErrorKind::NotFound => "FileNotFoundError",
                ErrorKind::PermissionDenied => "PermissionError",
                ErrorKind::ConnectionRefused => "ConnectionRefusedError",
                ErrorKind::ConnectionReset => "ConnectionResetError",
                ErrorKind::ConnectionAborted => "ConnectionAbortedError",
                ErrorKind::BrokenPipe => "BrokenPipeError",
                ErrorKind::TimedOut => "TimeoutError",
                ErrorKind::UnexpectedEof => "http.client.RemoteDisconnected",
                _ if why.to_string().starts_with(LOOKUP) => "socket.gaierror",
                _ => "OSError",
            },
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Fault { code, text } => write!(f, "<Fault {code}: {}>", repr(text)),
            Trouble::Protocol { status, reason } => write!(f, "<ProtocolError for 127.0.0.1/RPC2: {status} {reason}>"),
            Trouble::Odd(text) | Trouble::Value(text) => f.write_str(text),
            Trouble::TooLarge => f.write_str("int exceeds XML-RPC limits"),
            Trouble::Io(why) => match why.raw_os_error() {
                Some(number) => write!(f, "[Errno {number}] {}", nix::errno::Errno::from_raw(number).desc()),
                None => {
                    let text = why.to_string();
                    f.write_str(text.strip_prefix(LOOKUP).unwrap_or(&text))
                }
            },
        }
    }
}

/// What the resolver's errors begin with.
const LOOKUP: &str = "failed to lookup address information: ";

/// A text as Python's `repr` shows it.
pub fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut shown = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => shown.push_str("\\\\"),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if c == quote => shown.extend(['\\', c]),
            c if c.is_control() => shown.push_str(&format!("\\x{:02x}", c as u32)),
            c => shown.push(c),
        }
    }
    shown.push(quote);
    shown
}

/// A server and how to be let in. A connection is kept while it lasts.
#[derive(Debug)]
pub struct Rpc {
    url: String,
    user: Option<(String, String)>,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Rpc {
    pub fn new(url: String, username: Option<String>, password: Option<String>) -> Rpc {
        Rpc { url, user: username.zip(password), open: None }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same server and name, with a connection of its own.
    pub fn twin(&self) -> Rpc {
        Rpc { url: self.url.clone(), user: self.user.clone(), open: None }
    }

    /// Closes the connection: what was kept while nobody asked may be stale.
    pub fn hang_up(&mut self) {
        self.open = None;
    }

    /// Goes to another server, with the same name and password.
    pub fn turn_to(&mut self, url: String) {
        (self.url, self.open) = (url, None);
    }

    /// Another name and password from now on.
    pub fn log_in(&mut self, username: String, password: String) {
        (self.user, self.open) = (Some((username, password)), None);
    }

    /// Calls a method; it may take as long as it takes, since stopping does.
    pub async fn call(&mut self, method: &str, params: &[Value]) -> Result<Value, Trouble> {
        if params.iter().any(|param| matches!(param, Value::Int(n) if i32::try_from(*n).is_err())) {
            return Err(Trouble::TooLarge);
        }
        let response = self.send(Method::POST, "/RPC2", wire::call(method, params)).await?;
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        match wire::answer(&String::from_utf8_lossy(&body)).map_err(|why| Trouble::Odd(format!("cannot read the answer: {why}")))? {
            Answer::Value(value) => Ok(value),
            Answer::Fault { code, text } => Err(Trouble::Fault { code, text }),
        }
    }

    /// Opens a log that is followed.
    pub async fn follow(&self, path: &str) -> Result<Incoming, Trouble> {
        // A connection of its own: it lasts until the reader has had enough.
        self.twin().send(Method::GET, &visible(path), String::new()).await.map(Response::into_body)
    }

    async fn send(&mut self, method: Method, path: &str, body: String) -> Result<Response<Incoming>, Trouble> {
        let mut sender = match self.open.take() {
            Some(sender) if sender.is_ready() => sender,
            Some(_) | None => self.connect().await?,
        };
        let response = match sender.send_request(self.request(&method, path, &body)?).await {
            // It closed what was kept just as we spoke, and has not seen the request.
            Err(why) if why.is_canceled() => {
                sender = self.connect().await?;
                sender.send_request(self.request(&method, path, &body)?).await.map_err(broken)?
            }
            other => other.map_err(broken)?,
        };
        if response.status() != hyper::StatusCode::OK {
            let status = response.status();
            let said = response.extensions().get::<hyper::ext::ReasonPhrase>().map(|r| String::from_utf8_lossy(r.as_bytes()).into_owned());
            let reason = said.unwrap_or_else(|| status.canonical_reason().unwrap_or("").to_owned());
            return Err(Trouble::Protocol { status: status.as_u16(), reason });
        }
        self.open = Some(sender);
        Ok(response)
    }

    fn request(&self, method: &Method, path: &str, body: &str) -> Result<Request<Full<Bytes>>, Trouble> {
        let mut request = Request::builder().method(method).uri(path).header("host", self.host()).header("user-agent", "supervisorctl");
        if method == Method::POST {
            request = request.header("content-type", "text/xml").header("accept", "text/xml");
        }
        if let Some((username, password)) = &self.user {
            request = request.header("authorization", format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))));
        }
        request.body(Full::new(Bytes::from(body.to_owned()))).map_err(|why| Trouble::Value(format!("cannot ask for {path}: {why}")))
    }

    fn host(&self) -> &str {
        match self.url.strip_prefix("http://") {
            Some(rest) => authority(rest),
            None => "localhost",
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Trouble> {
        if let Some(path) = self.url.strip_prefix("unix://") {
            return shake(UnixStream::connect(path).await.map_err(Trouble::Io)?).await;
        }
        let Some(rest) = self.url.strip_prefix("http://") else {
            return Err(Trouble::Value(format!("Unknown protocol for serverurl {}", self.url)));
        };
        let (host, port) = address(rest).map_err(Trouble::Value)?;
        shake(TcpStream::connect((host, port)).await.map_err(Trouble::Io)?).await
    }
}

async fn shake<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static>(
    stream: S,
) -> Result<SendRequest<Full<Bytes>>, Trouble> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Its errors come back through the request as well.
    tokio::spawn(connection);
    Ok(sender)
}

fn broken(why: hyper::Error) -> Trouble {
    if why.is_incomplete_message() {
        return Trouble::Io(io::Error::new(ErrorKind::UnexpectedEof, "Remote end closed connection without response"));
    }
    let cause = std::error::Error::source(&why).and_then(|source| source.downcast_ref::<io::Error>());
    match cause.and_then(io::Error::raw_os_error) {
        Some(number) => Trouble::Io(io::Error::from_raw_os_error(number)),
        None => Trouble::Odd(why.to_string()),
    }
}

/// Host and port of a URL without its scheme, without a name and password in it.
fn authority(rest: &str) -> &str {
    let whole = rest.split(['/', '?', '#']).next().unwrap_or("");
    whole.rsplit('@').next().unwrap_or(whole)
}

fn address(rest: &str) -> Result<(&str, u16), String> {
    let whole = authority(rest);
    let (host, port) = match whole.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((host, port)) if !port.contains(']') => (host, port),
        Some(_) | None => (whole, ""),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match port {
        "" => Ok((host, 80)),
        text => text.parse().map(|port| (host, port)).map_err(|_| format!("Port could not be cast to integer value as {}", repr(text))),
    }
}

/// Percent-encodes what may not stand in a request line.
fn visible(path: &str) -> String {
    let mut visible = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' if !b"\"#<>?\\^`{|}".contains(&byte) => visible.push(byte as char),
            _ => visible.push_str(&format!("%{byte:02X}")),
        }
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_urls() {
        assert_eq!(address("localhost:9001"), Ok(("localhost", 9001)));
        assert_eq!(address("u:p@host/path:7"), Ok(("host", 80)));
        assert_eq!(address("[::1]:81/"), Ok(("::1", 81)));
        assert_eq!(address("[::1]"), Ok(("::1", 80)));
        assert!(address("host:x").is_err());
    }

    #[test]
    fn troubles_are_told_as_python_does() {
        let fault = Trouble::Fault { code: 92, text: "CANT_REREAD: it's \"bad\"\n".into() };
        assert_eq!(fault.to_string(), r#"<Fault 92: 'CANT_REREAD: it\'s "bad"\n'>"#);
        let refused = Trouble::Io(io::Error::from_raw_os_error(111));
        assert_eq!((refused.class(), refused.to_string().as_str()), ("ConnectionRefusedError", "[Errno 111] Connection refused"));
        assert_eq!(repr("it's"), "\"it's\"");
    }

    #[test]
    fn what_may_not_stand_in_a_request_line_is_escaped() {
        assert_eq!(visible("/logtail/a:b/stdout"), "/logtail/a:b/stdout");
        assert_eq!(visible("/logtail/ü ?"), "/logtail/%C3%BC%20%3F");
    }
}
