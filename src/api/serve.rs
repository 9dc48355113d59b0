//! Connections: accepted, counted, served, and ended.
//!
//! hyper's own connection is driven here instead of `axum::serve`, which has neither a time limit for a request's
//! head nor a bound on connections. Each connection is a task of its own; one that stalls or panics harms
//! nobody else. No timer runs while nobody is connected, nor for one that is idle between requests.

use crate::api::access::{Peer, Role};
use crate::api::door::{Door, Listener, Rules};
use crate::api::peer;
use crate::api::rest::Desk;
use crate::api::seats::{Busy, Life, Seats};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

/// What clients may take up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    /// Of these, for callers who only look on, or of whom we know nothing yet: they can never keep an operator out.
    pub onlookers: usize,
    /// For a request's line and headers, from its first byte on; for the first request, from the connection on.
    pub head_patience: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 1_024, onlookers: 768, head_patience: Duration::from_secs(10) }
    }
}

impl Limits {
    pub fn seats(&self) -> Arc<Seats> {
        Arc::new(Seats::new(self.connections, self.onlookers))
    }
}

/// Comes back when `stop` says so, or when nobody is left who could say it.
pub async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    while !*stop.borrow_and_update() {
        if stop.changed().await.is_err() {
            return;
        }
    }
}

/// A connection of either kind.
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.try_write(bytes),
            Stream::Tcp(stream) => stream.try_write(bytes),
        }
    }
}

async fn one(listener: &Listener) -> io::Result<(Stream, Option<Peer>)> {
    match listener {
        Listener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            // Who cannot be known cannot be let in; in practice he is gone already.
            let peer = peer::of(stream.as_fd()).ok().map(Peer::Unix);
            Ok((Stream::Unix(stream), peer))
        }
        Listener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            // Answers are small, and are waited for. Where it cannot be set, they come a little later.
            let _ = stream.set_nodelay(true);
            Ok((Stream::Tcp(stream), Some(Peer::Tcp(address))))
        }
    }
}

/// Serves `router` at `door` until `stop`; then no new connection is taken, and comes back with those that are
/// still open.
pub async fn accept(
    door: Door,
    seats: Arc<Seats>,
    router: Router,
    desk: Arc<Desk>,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) -> JoinSet<()> {
    let Door { listener, rules } = door;
    let mut connections = JoinSet::new();
    let mut in_trouble = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = told_to_stop(&mut stop) => return connections,
            Some(ended) = connections.join_next() => {
                mourn(ended);
                continue;
            }
            accepted = one(&listener) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                in_trouble = false;
                let Some(peer) = peer else { continue };
                let onlooker = rules.asks_later(&peer) || desk.access.caller(peer.clone()).role < Some(Role::Operate);
                let Some(seat) = seats.take(onlooker) else {
                    turn_away(&stream);
                    continue;
                };
                let visit = Visit {
                    life: Arc::new(Life::new(seat)),
                    peer,
                    rules: rules.clone(),
                    router: TowerToHyperService::new(router.clone()),
                    desk: Arc::clone(&desk),
                };
                let (patience, closing) = (limits.head_patience, desk.closing.clone());
                connections.spawn(async move {
                    match stream {
                        Stream::Unix(stream) => attend(stream, visit, patience, closing).await,
                        Stream::Tcp(stream) => attend(stream, visit, patience, closing).await,
                    }
                });
            }
            Err(error) if is_shortage(&error) => {
                if !in_trouble {
                    tracing::error!("cannot take connections: {error}; trying again every {} ms", SHORTAGE_PAUSE.as_millis());
                }
                in_trouble = true;
                // The waiting connection keeps the listener readable: without a pause this would spin.
                tokio::time::sleep(SHORTAGE_PAUSE).await;
            }
            // One connection that failed before it was ours (ECONNABORTED and the like).
            Err(error) => tracing::debug!("a connection was lost before it was taken: {error}"),
        }
    }
}

/// Waits for the connections that are left, but not for ever.
pub async fn finish(mut connections: JoinSet<()>) {
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            mourn(ended);
        }
    };
    if tokio::time::timeout(LAST_WORDS, all_ended).await.is_err() {
        tracing::info!("{} connection(s) did not end in time and are cut", connections.len());
    }
}

/// One connection and all that its requests need.
struct Visit {
    life: Arc<Life>,
    peer: Peer,
    rules: Rules,
    router: TowerToHyperService<Router>,
    desk: Arc<Desk>,
}

impl Visit {
    async fn answer(self: Arc<Visit>, request: Request<Incoming>) -> Result<Response<Watched>, Infallible> {
        let busy = self.life.begin();
        let (mut parts, body) = request.into_parts();
        let response = match self.rules.admit(&self.desk.access, &self.peer, &parts) {
            Ok(caller) => {
                parts.extensions.insert(caller);
                match self.router.call(Request::from_parts(parts, body)).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
            Err(denied) => denied.into_response(),
        };
        Ok(response.map(|body| Watched { body, _busy: busy }))
    }
}

async fn attend<S>(stream: S, visit: Visit, head_patience: Duration, mut closing: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let life = Arc::clone(&visit.life);
    let visit = Arc::new(visit);
    let service = service_fn(move |request| Arc::clone(&visit).answer(request));
    let mut http = http1::Builder::new();
    // hyper's own limit would also close what is only idle.
    http.header_read_timeout(None).max_buf_size(MAX_HEAD);
    let stream = TokioIo::new(Heard { stream, life: Arc::clone(&life) });
    let mut connection = pin!(http.serve_connection(stream, service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = told_to_stop(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = life.seat.must_leave() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = life.overdue(head_patience) => return,
    };
    if let Err(error) = served {
        tracing::debug!("a connection ended early: {error}");
    }
}

/// A stream that tells when something has come in.
struct Heard<S> {
    stream: S,
    life: Arc<Life>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.life.heard();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// An answer on its way; when it is gone, its connection is no longer busy.
struct Watched {
    body: Body,
    _busy: Busy,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Says that the house is full. One try, without waiting: who does not read it sees the connection closed.
fn turn_away(stream: &Stream) {
    const BODY: &str = r#"{"code":"busy","with":"connections","message":"too many connections; try again soon"}"#;
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close";
    let _ = stream.try_write(format!("{head}\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len()).as_bytes());
}

fn mourn(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection panicked: {error}");
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Request line and headers, in bytes; room for a status of some thousand names.
const MAX_HEAD: usize = 256 * 1024;
const SHORTAGE_PAUSE: Duration = Duration::from_millis(200);
/// For requests in hand when the daemon goes.
const LAST_WORDS: Duration = Duration::from_secs(2);
