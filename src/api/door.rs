//! One door: where it listens, and who may come in by it.
//!
//! The native door is the control socket: `access` has its rules. The others are Supervisor's HTTP servers and have
//! Supervisor's rules: whom the file's mode lets in, or who gives the right user and password, may do everything. A door of
//! TCP that asks nobody for anything is open to programs as Supervisor's is, but not to web pages: a browser's request from
//! another origin is refused, and so is one by a host name that somebody may have pointed at us (DNS rebinding). The whole REST
//! API is behind such a door for callers of this host only.

use crate::api::access::{Access, Caller, Peer, Role};
use crate::api::socket::{self, SocketFile};
use crate::api::xmlrpc::words;
use crate::model::plan::{DoorAt, DoorSpec, Password, SocketSpec};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest, Sha1};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use subtle::{Choice, ConstantTimeEq};

/// Where a door listens.
#[derive(Debug)]
pub enum Listener {
    Unix(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener),
}

/// The rules of a door.
#[derive(Clone, Debug)]
pub enum Rules {
    /// The control socket.
    Native,
    /// One of Supervisor's servers; with a login where one must be given.
    Supervisor(Option<Arc<Login>>),
}

/// An open door.
#[derive(Debug)]
pub struct Door {
    pub listener: Listener,
    pub rules: Rules,
}

/// User and password that must be given.
#[derive(Debug)]
pub struct Login {
    user: Arc<str>,
    password: Password,
}

/// Opens the control socket, or takes the one that was handed to us; in a tokio runtime.
pub fn native(spec: &SocketSpec, inherited: Option<UnixListener>) -> io::Result<(Door, Option<SocketFile>)> {
    let (listener, file) = match inherited {
        Some(listener) => (listener, None),
        None => {
            let (listener, file) = socket::open(spec)?;
            (listener, Some(file))
        }
    };
    listener.set_nonblocking(true)?;
    Ok((Door { listener: Listener::Unix(tokio::net::UnixListener::from_std(listener)?), rules: Rules::Native }, file))
}

/// Opens one of Supervisor's servers; in a tokio runtime.
///
/// # Errors
/// Each names the section and the address.
pub fn supervisor(spec: &DoorSpec) -> io::Result<(Door, Option<SocketFile>)> {
    let login = spec.login.clone().map(|(user, password)| Arc::new(Login { user: user.into(), password }));
    let rules = Rules::Supervisor(login);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("[{}]: {error}", spec.section));
    match &spec.at {
        DoorAt::Unix(socket) => {
            let (listener, file) = socket::open(socket).map_err(named)?;
            listener.set_nonblocking(true)?;
            Ok((Door { listener: Listener::Unix(tokio::net::UnixListener::from_std(listener)?), rules }, Some(file)))
        }
        DoorAt::Tcp { host, port } => {
            let shown = format!("{}:{port}", if host.is_empty() { "*" } else { host });
            let failed = |error: io::Error| named(io::Error::new(error.kind(), format!("cannot listen on {shown}: {}", tcp_words(&error))));
            let listener = bind(host, *port).map_err(failed)?;
            listener.set_nonblocking(true)?;
            Ok((Door { listener: Listener::Tcp(tokio::net::TcpListener::from_std(listener)?), rules }, None))
        }
    }
}

/// IPv4 where a name has both, as Supervisor knows nothing else; an address is taken as it is.
fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    if host.is_empty() || host == "*" {
        return TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    }
    let mut all: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    all.sort_by_key(|address| !address.is_ipv4());
    let first = all.first().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
    TcpListener::bind(first)
}

fn tcp_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program is already listening there; shut it down first".to_owned(),
        _ => error.to_string(),
    }
}

impl Rules {
    /// The caller of one request of `peer`.
    ///
    /// # Errors
    /// The answer that he gets instead, in words.
    pub fn admit(&self, access: &Access, peer: &Peer, request: &Parts) -> Result<Caller, Denied> {
        let login = match self {
            Rules::Native => return Ok(access.caller(peer.clone())),
            Rules::Supervisor(login) => login,
        };
        if let Peer::Tcp(address) = peer {
            no_page_of_another(&request.headers)?;
            if login.is_none() {
                no_name_of_anothers(&request.headers)?;
                let path = request.uri.path();
                if !address.ip().is_loopback() && !is_for_clients(path) {
                    let why = format!(
                        "{path} is open here to this host only; ask over the unix socket, or give this server a username and password"
                    );
                    return Err(denied(StatusCode::FORBIDDEN, &why));
                }
            }
        }
        let user = match login {
            Some(login) => Some(login.check(&request.headers)?),
            None => None,
        };
        Ok(Caller { peer: peer.clone(), role: Some(Role::Operate), user })
    }

    /// True where whoever connects is, for all that is known then, nobody.
    pub fn asks_later(&self, peer: &Peer) -> bool {
        match (self, peer) {
            (Rules::Native, _) | (Rules::Supervisor(None), Peer::Unix(_)) => false,
            (Rules::Supervisor(_), Peer::Tcp(_)) | (Rules::Supervisor(Some(_)), Peer::Unix(_)) => true,
        }
    }
}

/// What Supervisor's clients ask for.
fn is_for_clients(path: &str) -> bool {
    path.starts_with("/RPC2") || path.starts_with("/logtail") || path.starts_with("/mainlogtail") || path == "/healthz"
}

impl Login {
    /// The user, if the request gives the right name and password.
    fn check(&self, headers: &HeaderMap) -> Result<Arc<str>, Denied> {
        let Some(given) = headers.get(header::AUTHORIZATION) else { return Err(unauthorized()) };
        let given = given.to_str().unwrap_or("");
        let Some((_, encoded)) = given.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic")) else {
            return Err(unauthorized());
        };
        let engine = GeneralPurpose::new(
            &base64::alphabet::STANDARD,
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
        );
        let decoded = engine.decode(encoded.trim()).unwrap_or_default();
        let Some(colon) = decoded.iter().position(|byte| *byte == b':') else {
            return Err(denied(StatusCode::BAD_REQUEST, "these credentials cannot be read: expected Basic and base64 of user:password"));
        };
        let (user, password) = (&decoded[..colon], &decoded[colon + 1..]);
        // Both are looked at, whatever comes of the first, and through a hash, so that neither content nor length shows in time.
        if bool::from(same(user, self.user.as_bytes()) & self.is_password(password)) {
            Ok(Arc::clone(&self.user))
        } else {
            Err(unauthorized())
        }
    }

    fn is_password(&self, given: &[u8]) -> Choice {
        match &self.password {
            Password::Plain(password) => same(given, password.as_bytes()),
            Password::Sha1(hex) => {
                let digest: String = Sha1::digest(given).iter().map(|byte| format!("{byte:02x}")).collect();
                digest.as_bytes().ct_eq(hex.as_bytes())
            }
        }
    }
}

fn same(a: &[u8], b: &[u8]) -> Choice {
    Sha1::digest(a).as_slice().ct_eq(Sha1::digest(b).as_slice())
}

fn unauthorized() -> Denied {
    denied(StatusCode::UNAUTHORIZED, "give the user and password of this server")
}

fn denied(status: StatusCode, why: &str) -> Denied {
    Denied { status, why: why.to_owned() }
}

/// Not let in, and why.
#[derive(Debug)]
pub struct Denied {
    status: StatusCode,
    why: String,
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let mut response = words(self.status, &self.why);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"default\""));
        }
        response
    }
}

/// Refuses what a browser sends for a page that is not ours: it would send along what its user has typed in here.
fn no_page_of_another(headers: &HeaderMap) -> Result<(), Denied> {
    let refuse = || denied(StatusCode::FORBIDDEN, "a page of another origin may not ask here");
    let text = |value: &HeaderValue| value.to_str().unwrap_or("").to_ascii_lowercase();
    if let Some(site) = headers.get("sec-fetch-site").map(text)
        && site != "same-origin"
        && site != "none"
    {
        return Err(refuse());
    }
    let Some(origin) = headers.get(header::ORIGIN).map(text) else { return Ok(()) };
    let host = headers.get(header::HOST).map(text).unwrap_or_default();
    let theirs = origin.split_once("://").map_or("", |(_, host)| host);
    if theirs.is_empty() || without_default_port(theirs) != without_default_port(&host) { Err(refuse()) } else { Ok(()) }
}

fn without_default_port(host: &str) -> &str {
    host.strip_suffix(":80").unwrap_or(host)
}

/// Refuses a request by a host name that is not this machine's own: anybody can point a name of his at our address, and a
/// browser then takes us for a part of his site.
fn no_name_of_anothers(headers: &HeaderMap) -> Result<(), Denied> {
    // Programs of old (HTTP/1.0) send none; browsers always do.
    let Some(host) = headers.get(header::HOST) else { return Ok(()) };
    let host = host.to_str().unwrap_or("").to_ascii_lowercase();
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host.as_str(), |(name, _)| name),
    };
    let ours = || nix::unistd::gethostname().is_ok_and(|ours| ours.to_string_lossy().eq_ignore_ascii_case(name));
    if name.is_empty() || name == "localhost" || name.parse::<IpAddr>().is_ok() || ours() {
        return Ok(());
    }
    let why = format!(
        "this server asks nobody for a password, so it answers by address, as localhost, or by this machine's own name only, not as {name:?}; \
         give it a username and password to reach it by any name"
    );
    Err(denied(StatusCode::FORBIDDEN, &why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::peer::UnixPeer;
    use axum::http::Request;

    const LOCAL: &str = "127.0.0.1:40000";
    const REMOTE: &str = "192.0.2.7:40000";

    fn tcp(address: &str) -> Peer {
        Peer::Tcp(address.parse().expect("an address"))
    }

    fn ask(rules: &Rules, peer: &Peer, path: &str, headers: &[(&str, &str)]) -> Result<Caller, u16> {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        rules.admit(&Access::new(1, 1, 1), peer, &parts).map_err(|denied| denied.status.as_u16())
    }

    fn with_login(password: Password) -> Rules {
        Rules::Supervisor(Some(Arc::new(Login { user: "ada".into(), password })))
    }

    fn basic(text: &str) -> String {
        format!("bAsic {}", base64::engine::general_purpose::STANDARD.encode(text))
    }

    #[test]
    fn a_login_takes_plain_and_hashed_passwords_and_nothing_else() {
        let sha1 = Password::Sha1("522b276a356bdf39013dfabea2cd43e141ecc9e8".into());
        for rules in [with_login(Password::Plain("a:b c".into())), with_login(sha1)] {
            let right = match &rules {
                Rules::Supervisor(Some(login)) if matches!(login.password, Password::Plain(_)) => "ada:a:b c",
                _ => "ada:alice",
            };
            let hers = ask(&rules, &tcp(REMOTE), "/api/v1/status", &[("authorization", &basic(right))]).expect("let in");
            assert_eq!((hers.role, hers.user.as_deref()), (Some(Role::Operate), Some("ada")));
            for wrong in ["ada:", "ada:A:B C", "eve:a:b c", ":", "ada:a:b c "] {
                assert_eq!(ask(&rules, &tcp(REMOTE), "/RPC2", &[("authorization", &basic(wrong))]), Err(401), "{wrong}");
            }
            assert_eq!(ask(&rules, &tcp(LOCAL), "/healthz", &[]), Err(401));
            assert_eq!(ask(&rules, &tcp(LOCAL), "/RPC2", &[("authorization", "Digest x")]), Err(401));
            assert_eq!(ask(&rules, &tcp(LOCAL), "/RPC2", &[("authorization", "Basic !!!")]), Err(400));
        }
        let refusal = unauthorized().into_response();
        assert_eq!(refusal.headers()["www-authenticate"], "Basic realm=\"default\"");
    }

    #[test]
    fn an_open_door_of_tcp_is_for_clients_and_not_for_pages() {
        let open = Rules::Supervisor(None);
        for host in ["127.0.0.1:9001", "localhost:9001", "[::1]:9001", "192.0.2.1", "LOCALHOST"] {
            assert!(ask(&open, &tcp(REMOTE), "/RPC2", &[("host", host)]).is_ok(), "{host}");
        }
        assert!(ask(&open, &tcp(REMOTE), "/RPC2", &[]).is_ok(), "HTTP/1.0");
        for host in ["evil.example:9001", "localhost.evil.example", "127.0.0.1.evil.example", "x"] {
            assert_eq!(ask(&open, &tcp(LOCAL), "/RPC2", &[("host", host)]), Err(403), "{host}");
        }
        let host = ("host", "127.0.0.1:9001");
        for page in
            [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site")]
        {
            assert_eq!(ask(&open, &tcp(LOCAL), "/RPC2", &[host, page]), Err(403), "{page:?}");
        }
        assert!(ask(&open, &tcp(LOCAL), "/RPC2", &[host, ("origin", "http://127.0.0.1:9001"), ("sec-fetch-site", "same-origin")]).is_ok());
        for path in ["/RPC2", "/RPC2/", "/logtail/x", "/mainlogtail", "/healthz"] {
            assert!(ask(&open, &tcp(REMOTE), path, &[host]).is_ok(), "{path}");
        }
        assert_eq!(ask(&open, &tcp(REMOTE), "/api/v1/status", &[host]), Err(403));
        assert!(ask(&open, &tcp(LOCAL), "/api/v1/status", &[host]).is_ok());
    }

    #[test]
    fn a_page_of_another_origin_is_refused_also_where_the_browser_knows_the_password() {
        let rules = with_login(Password::Plain("x".into()));
        let known = ("authorization", &*basic("ada:x"));
        assert_eq!(ask(&rules, &tcp(LOCAL), "/RPC2", &[known, ("host", "box:9001"), ("origin", "http://evil.example")]), Err(403));
        assert!(ask(&rules, &tcp(LOCAL), "/RPC2", &[known, ("host", "box:9001"), ("origin", "http://box:9001")]).is_ok());
    }

    #[test]
    fn whom_the_mode_of_a_supervisors_socket_lets_in_may_everything() {
        let peer = Peer::Unix(UnixPeer { uid: 1000, gid: 1000, pid: 1, groups: vec![] });
        assert_eq!(ask(&Rules::Supervisor(None), &peer, "/RPC2", &[("host", "x")]).expect("in").role, Some(Role::Operate));
        assert_eq!(ask(&Rules::Native, &peer, "/RPC2", &[]).expect("in").role, Some(Role::View));
        assert_eq!(ask(&with_login(Password::Plain("x".into())), &peer, "/RPC2", &[]), Err(401));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let at = DoorAt::Tcp { host: "127.0.0.1".into(), port };
        let error = supervisor(&DoorSpec { section: "inet_http_server".into(), at, login: None }).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&format!("[inet_http_server]: cannot listen on 127.0.0.1:{port}")), "{error}");
    }
}
