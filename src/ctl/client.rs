//! Speaks HTTP to the daemon over its unix socket.
//!
//! One connection to a request: on a unix socket that costs less than keeping one in order. Errors are told in
//! words that name the socket and the likely cause, because "connection refused" at night helps nobody. Where
//! the socket is, is found here too; what the answers mean is not.

use crate::model::command::{Command, Refusal, Reply};
use crate::model::name::Target;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer, or a refusal instead of one.
#[derive(Debug)]
pub enum Trouble {
    /// The socket cannot be reached.
    Unreachable {
        socket: PathBuf,
        why: io::Error,
    },
    /// The daemon took the request and did not answer in time.
    Silent {
        socket: PathBuf,
    },
    /// The connection broke.
    Broken {
        socket: PathBuf,
        why: String,
    },
    Refused(Refusal),
    /// An answer that we cannot read; perhaps the daemon is of another version.
    Odd {
        path: String,
        status: u16,
        text: String,
    },
    /// Our own side: a bad option, an unreadable file.
    Asked(String),
}

impl Trouble {
    /// supervisorctl's exit code; `reading`: it was asked by `status`.
    pub fn exit_code(&self, reading: bool) -> i32 {
        match self {
            Trouble::Unreachable { .. } if reading => 4,
            Trouble::Unreachable { why, .. } if why.kind() == ErrorKind::NotFound => 7,
            Trouble::Unreachable { .. } | Trouble::Silent { .. } | Trouble::Broken { .. } => 4,
            Trouble::Refused(Refusal::NotAllowed { .. }) => 4,
            Trouble::Refused(Refusal::Malformed { .. } | Refusal::BadConfig { .. }) | Trouble::Asked(_) => 2,
            Trouble::Refused(
                Refusal::NoSuch { .. }
                | Refusal::AlreadyStarted
                | Refusal::NotRunning
                | Refusal::OutOfBounds { .. }
                | Refusal::AlreadyAdded { .. }
                | Refusal::StillRunning { .. }
                | Refusal::NoStdin
                | Refusal::ShuttingDown
                | Refusal::Busy { .. },
            )
            | Trouble::Odd { .. } => 1,
        }
    }
}

/// The kernel answers "connection refused" for any file that is none, too.
fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Unreachable { socket, why } => {
                let at = socket.display();
                match why.kind() {
                    ErrorKind::NotFound => write!(f, "no daemon at {at}: no such file; is gangerd running? (-s SOCKET names another)"),
                    ErrorKind::ConnectionRefused if !is_socket(socket) => {
                        write!(f, "no daemon at {at}: that is no socket; -s SOCKET (or -c FILE) names the daemon's")
                    }
                    ErrorKind::ConnectionRefused => {
                        write!(
                            f,
                            "no daemon at {at}: connection refused; the gangerd that made this socket is gone: start it again, or wait if one is just starting"
                        )
                    }
                    ErrorKind::PermissionDenied => {
                        write!(
                            f,
                            "cannot open {at}: permission denied; its owner and group may use it, you are uid {}",
                            nix::unistd::geteuid()
                        )
                    }
                    _ => write!(f, "cannot reach the daemon at {at}: {why}"),
                }
            }
            Trouble::Silent { socket } => {
                write!(f, "the daemon at {} does not answer ({} s); it may hang, see its log", socket.display(), PATIENCE.as_secs())
            }
            Trouble::Broken { socket, why } => write!(f, "lost the daemon at {}: {why}", socket.display()),
            Trouble::Refused(refusal) => refusal.fmt(f),
            Trouble::Odd { path, status, text } => {
                write!(f, "cannot read the daemon's answer to {path} (HTTP {status}): {text}; are gangerd and gangerctl of one version?")
            }
            Trouble::Asked(text) => f.write_str(text),
        }
    }
}

impl Client {
    pub fn new(socket: PathBuf) -> Client {
        Client { socket }
    }

    /// The body of `GET path`; anything but a 2xx is a `Trouble`.
    pub async fn fetch(&self, path: &str) -> Result<Bytes, Trouble> {
        self.whole(path, Method::GET, Bytes::new()).await
    }

    /// `GET path`, read as JSON.
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        parsed(path, &self.fetch(path).await?)
    }

    /// Asks for a command; the answer says what was set going.
    pub async fn ask(&self, command: &Command) -> Result<Reply, Trouble> {
        let (verb, fields) = spoken(command);
        self.post(&format!("/api/v1/{verb}"), &fields).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, fields: &serde_json::Value) -> Result<T, Trouble> {
        let body = self.whole(path, Method::POST, Bytes::from(fields.to_string())).await?;
        parsed(path, &body)
    }

    /// Opens an answer that comes bit by bit.
    pub async fn open(&self, path: &str) -> Result<Flow, Trouble> {
        let response = self.send(path, Method::GET, Bytes::new()).await?;
        Ok(Flow { socket: self.socket.clone(), body: response.into_body() })
    }

    async fn whole(&self, path: &str, method: Method, body: Bytes) -> Result<Bytes, Trouble> {
        let answer = async {
            let response = self.send(path, method, body).await?;
            response.into_body().collect().await.map(|all| all.to_bytes()).map_err(|why| self.broken(&why))
        };
        tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(Trouble::Silent { socket: self.socket.clone() }))
    }

    /// Sends a request and waits for the head of the answer.
    async fn send(&self, path: &str, method: Method, body: Bytes) -> Result<Response<Incoming>, Trouble> {
        let stream =
            tokio::net::UnixStream::connect(&self.socket).await.map_err(|why| Trouble::Unreachable { socket: self.socket.clone(), why })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|why| self.broken(&why))?;
        // Its errors come back through the request as well.
        tokio::spawn(connection);
        let mut request = Request::builder().method(&method).uri(path).header("host", "ganger");
        if method == Method::POST {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(body)).map_err(|why| Trouble::Asked(format!("cannot ask for {path}: {why}")))?;
        let answered = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
        let response = answered.map_err(|_| Trouble::Silent { socket: self.socket.clone() })?.map_err(|why| self.broken(&why))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let text = response.into_body().collect().await.map(|all| all.to_bytes()).unwrap_or_default();
        Err(refused(path, status, &text))
    }

    fn broken(&self, why: &hyper::Error) -> Trouble {
        Trouble::Broken { socket: self.socket.clone(), why: why.to_string() }
    }
}

/// An answer that comes bit by bit.
#[derive(Debug)]
pub struct Flow {
    socket: PathBuf,
    body: Incoming,
}

impl Flow {
    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Trouble> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                // Trailers say nothing to us.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_) => continue,
                },
                Some(Err(why)) => return Err(Trouble::Broken { socket: self.socket.clone(), why: why.to_string() }),
            }
        }
    }
}

/// A command as the door takes it: its verb, and its fields as an object.
fn spoken(command: &Command) -> (String, serde_json::Value) {
    let empty = || serde_json::Value::Object(serde_json::Map::new());
    match serde_json::to_value(command) {
        Ok(serde_json::Value::Object(map)) => map.into_iter().next().unwrap_or_else(|| (String::new(), empty())),
        Ok(serde_json::Value::String(verb)) => (verb, empty()),
        other => unreachable!("a command is a word or one word with fields: {other:?}"),
    }
}

fn parsed<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T, Trouble> {
    serde_json::from_slice(body).map_err(|why| Trouble::Odd { path: path.to_owned(), status: 200, text: why.to_string() })
}

/// What a status that is no success means: a refusal in our own words if it is one, else what the body says.
fn refused(path: &str, status: u16, body: &[u8]) -> Trouble {
    if let Ok(refusal) = serde_json::from_slice::<Refusal>(body) {
        return Trouble::Refused(refusal);
    }
    let value = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
    let text = match value.get("message").and_then(|m| m.as_str()) {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(&body[..body.len().min(300)]).trim().to_owned(),
    };
    Trouble::Odd { path: path.to_owned(), status, text }
}

/// `?name=…&name=…` for these targets; empty for none.
pub fn named(names: &[String]) -> String {
    let pairs: Vec<String> = names.iter().map(|name| format!("name={}", escaped(&Target::read(name).to_string()))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// Percent-encodes everything that is not unreserved (RFC 3986, 2.3).
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte as char),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Finds the daemon's socket. What is said on the command line goes before the environment; `env` reads that.
pub fn find_socket(socket: Option<&str>, config: Option<&str>, env: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf, Trouble> {
    if let Some(text) = socket {
        return spelled(text);
    }
    if let Some(file) = config {
        return of_config(file);
    }
    if let Some(text) = env("GANGER_SOCKET").filter(|text| !text.is_empty()) {
        return spelled(&text);
    }
    let system = PathBuf::from("/run/ganger/ganger.sock");
    if nix::unistd::geteuid().is_root() {
        return Ok(system);
    }
    let runtime = env("XDG_RUNTIME_DIR").map(|dir| Path::new(&dir).join("ganger/ganger.sock"));
    let state = env("HOME").map(|dir| Path::new(&dir).join(".local/state/ganger/run/ganger.sock"));
    Ok(runtime.into_iter().chain(state).find(|path| path.exists()).unwrap_or(system))
}

fn spelled(text: &str) -> Result<PathBuf, Trouble> {
    if let Some((scheme, _)) = text.split_once("://").filter(|(scheme, _)| *scheme != "unix") {
        return Err(Trouble::Asked(format!("found {scheme}:// in {text}, expected the path of a unix socket or unix://PATH")));
    }
    Ok(PathBuf::from(text.strip_prefix("unix://").unwrap_or(text)))
}

/// Reads one key of a definition file. `config` reads them properly; the tool must not need the whole fleet to be
/// free of errors just to find the door.
fn of_config(file: &str) -> Result<PathBuf, Trouble> {
    let fault = |why: String| Trouble::Asked(format!("cannot take the socket from {file}: {why}; -s SOCKET names it directly"));
    if !file.ends_with(".toml") {
        return Err(fault("it is no .toml file".to_owned()));
    }
    let text = std::fs::read_to_string(file)
        .map_err(|why| fault(if why.kind() == ErrorKind::NotFound { "no such file".to_owned() } else { why.to_string() }))?;
    let table: toml::Table = text.parse().map_err(|why: toml::de::Error| fault(why.message().to_owned()))?;
    let key = |table_name: &str, key: &str| table.get(table_name).and_then(|t| t.get(key)).and_then(|v| v.as_str()).map(str::to_owned);
    // As the daemon does: relative paths stand beside the file.
    let beside = |path: PathBuf| Path::new(file).parent().map(|dir| dir.join(&path)).unwrap_or(path);
    match (key("server", "socket"), key("daemon", "runtime_dir")) {
        (Some(socket), _) => spelled(&socket).map(beside),
        (None, Some(dir)) => Ok(beside(PathBuf::from(dir)).join("ganger.sock")),
        (None, None) => find_socket(None, None, &|key| std::env::var(key).ok().filter(|_| key != "GANGER_SOCKET")),
    }
}

/// How long the daemon may take to answer. It answers in milliseconds; reading definitions may take a while.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_spoken_as_the_door_takes_it() {
        let (verb, fields) = spoken(&Command::Stop { targets: vec![Target::read("mailer")] });
        assert_eq!((verb.as_str(), fields.to_string().as_str()), ("stop", r#"{"targets":["mailer"]}"#));
        let (verb, fields) = spoken(&Command::Shutdown);
        assert_eq!((verb.as_str(), fields.to_string().as_str()), ("shutdown", "{}"));
    }

    #[test]
    fn the_socket_is_the_one_said_nearest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fleet.toml");
        std::fs::write(&file, "[server]\nsocket = \"run/a.sock\"\n[program.x]\ncommand = 7\n").unwrap();
        let file = file.to_str().unwrap();
        let env = |key: &str| (key == "GANGER_SOCKET").then(|| "unix:///env".to_owned());
        assert_eq!(find_socket(Some("unix:///said"), Some(file), &env).unwrap(), PathBuf::from("/said"));
        assert_eq!(find_socket(None, Some(file), &env).unwrap(), dir.path().join("run/a.sock"));
        assert_eq!(find_socket(None, None, &env).unwrap(), PathBuf::from("/env"));
        assert!(find_socket(Some("http://127.0.0.1:9001"), None, &env).unwrap_err().to_string().contains("expected the path"));
    }

    #[test]
    fn labels_are_escaped_in_paths() {
        assert_eq!(escaped("mailer:größe_1"), "mailer%3Agr%C3%B6%C3%9Fe_1");
        assert_eq!(named(&["mailer:".to_owned()]), "?name=mailer%3A%2A");
    }

    #[test]
    fn a_file_that_is_no_socket_is_called_so() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let why = std::os::unix::net::UnixStream::connect(file.path()).expect_err("it is no socket");
        let text = Trouble::Unreachable { socket: file.path().to_owned(), why }.to_string();
        assert!(text.ends_with("that is no socket; -s SOCKET (or -c FILE) names the daemon's"), "{text}");
    }
}
