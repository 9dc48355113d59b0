//! Connections: accepted, counted, served, and ended.
//!
//! hyper's own connection is driven here instead of `axum::serve`, which has neither a time limit for a request's
//! head nor a bound on connections. Each connection is a task of its own; one that stalls or panics harms
//! nobody else. No timer runs while nobody is connected.

use crate::api::access::{Caller, Peer, Role};
use crate::api::peer;
use crate::api::rest::Desk;
use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

/// What clients may take up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    /// Of these, for callers who only look on: they can never keep an operator out.
    pub onlookers: usize,
    /// For a request's line and headers, and between requests.
    pub head_patience: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 1_024, onlookers: 768, head_patience: Duration::from_secs(10) }
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

/// Serves `router` on `listener` until `stop`; then no new connection is taken, and comes back with those that are
/// still open.
pub async fn accept(listener: UnixListener, router: &Router, desk: &Desk, limits: Limits, mut stop: watch::Receiver<bool>) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    let onlookers = Arc::new(AtomicUsize::new(0));
    let mut in_trouble = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = told_to_stop(&mut stop) => return connections,
            Some(ended) = connections.join_next() => {
                mourn(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                in_trouble = false;
                let Ok(peer) = peer::of(stream.as_fd()) else {
                    // Who cannot be known cannot be let in; in practice he is gone already.
                    continue;
                };
                let caller = desk.access.caller(Peer::Unix(peer));
                let operator = caller.role >= Some(Role::Operate);
                if connections.len() >= limits.connections || !operator && onlookers.load(Ordering::Relaxed) >= limits.onlookers {
                    turn_away(&stream);
                    continue;
                }
                let seat = (!operator).then(|| Seat::take(&onlookers));
                let (router, closing) = (router.clone(), desk.closing.clone());
                connections.spawn(async move {
                    let _seat = seat;
                    attend(stream, caller, router, limits.head_patience, closing).await;
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

async fn attend(stream: UnixStream, caller: Caller, router: Router, head_patience: Duration, mut closing: watch::Receiver<bool>) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        router.call(request)
    });
    let mut http = http1::Builder::new();
    // The limit also ends connections that are kept open and say nothing.
    http.timer(TokioTimer::new()).header_read_timeout(head_patience).max_buf_size(MAX_HEAD);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = told_to_stop(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!("a connection ended early: {error}");
    }
}

/// Says that the house is full. One try, without waiting: who does not read it sees the connection closed.
fn turn_away(stream: &UnixStream) {
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

/// A place among those who only look on, given back when dropped.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(taken: &Arc<AtomicUsize>) -> Seat {
        taken.fetch_add(1, Ordering::Relaxed);
        Seat(Arc::clone(taken))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Request line and headers, in bytes; room for a status of some thousand names.
const MAX_HEAD: usize = 256 * 1024;
const SHORTAGE_PAUSE: Duration = Duration::from_millis(200);
/// For requests in hand when the daemon goes.
const LAST_WORDS: Duration = Duration::from_secs(2);
