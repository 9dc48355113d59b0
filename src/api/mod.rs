//! DOORS: everyone who asks.
//!
//! `Doors` opens the control socket and serves it on a thread of its own with a small tokio runtime. Whatever
//! happens here (a flood of clients, a panic in a handler) the engine and the workers do not notice: all that a
//! door holds is a `Handle`.
//!
//! | file | subject |
//! |---|---|
//! | `handle` | ask, view, notices, logs: what every door holds |
//! | `socket` | the socket as a file |
//! | `peer`, `access` | who is there, and what he may do |
//! | `serve` | connections: limits, time-outs, the end |
//! | `rest` | the table of routes and what they answer |
//! | `stream` | notices: server-sent events and history |
//! | `find` | targets looked up in a view |
//! | `metrics` | a view as Prometheus reads it |

pub mod access;
mod brief;
mod find;
pub mod handle;
mod metrics;
mod peer;
mod rest;
#[cfg(test)]
mod samples;
mod serve;
mod socket;
mod stream;
#[cfg(test)]
mod tests;

use crate::api::access::Access;
use crate::api::handle::Handle;
use crate::api::rest::Desk;
use crate::api::serve::Limits;
use crate::api::socket::SocketFile;
use crate::api::stream::Ring;
use crate::model::notice::Notice;
use crate::model::plan::SocketSpec;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{broadcast, watch};

/// What the doors tell about the daemon that no view holds.
#[derive(Clone, Debug, Default)]
pub struct HostInfo {
    pub version: String,
    pub pid: i32,
    /// The path of the definitions.
    pub config: String,
    /// What we stand on, a line each: keeper, systemd, control groups.
    pub footing: Vec<String>,
}

/// The open doors.
#[derive(Debug)]
pub struct Doors {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
    /// `None` where the listener was inherited: its file belongs to whoever keeps it open.
    file: Option<SocketFile>,
}

impl Doors {
    /// Opens the control socket that `socket` describes and starts the API thread. With `inherited`, that listener
    /// is served instead of a new one; it must be the one at `socket.path`.
    ///
    /// # Errors
    /// Each names the path: no directory, no permission, too long, or `AddrInUse` where another daemon listens.
    pub fn open(handle: Handle, socket: SocketSpec, inherited: Option<UnixListener>, host: HostInfo) -> io::Result<Doors> {
        Doors::open_within(Limits::default(), handle, socket, inherited, host)
    }

    fn open_within(
        limits: Limits,
        handle: Handle,
        socket: SocketSpec,
        inherited: Option<UnixListener>,
        host: HostInfo,
    ) -> io::Result<Doors> {
        let (listener, file) = match inherited {
            Some(listener) => (listener, None),
            None => {
                let (listener, file) = socket::open(&socket)?;
                (listener, Some(file))
            }
        };
        listener.set_nonblocking(true)?;
        let meta = fs::metadata(&socket.path)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot look at the control socket {}: {error}", socket.path)))?;
        let access = Access::new(nix::unistd::geteuid().as_raw(), meta.uid(), meta.gid());
        // Blocking threads look up user names and read the ends of log files; what hangs there gets a few and no more.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::from_std(listener)?
        };
        // Subscribed before the view is read, so that what is told between is in both and not in neither; and now
        // rather than on the thread, so that nothing is missed from here on.
        let notices = handle.notices();
        let ring = Arc::new(Ring::new(handle.view().seq));
        let (stop, stopped) = watch::channel(false);
        let (close, closing) = watch::channel(false);
        let desk = Arc::new(Desk::new(handle, host, access, ring, closing));
        let thread = std::thread::Builder::new().name("ganger-api".into()).spawn(move || {
            runtime.block_on(run(listener, limits, desk, notices, stopped, close));
            // A name service may hang; it is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Doors { stop, thread, file })
    }

    /// Closes the doors: no new connection, streams are told to come back, requests in hand may finish (2 s at
    /// most), the socket file goes if we made it, the thread ends. Blocking.
    pub fn close(self) {
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            tracing::error!("the API thread had panicked");
        }
        // Last, so that whoever sees the file gone knows that nobody serves it any more.
        if let Some(file) = self.file {
            file.remove();
        }
    }
}

async fn run(
    listener: tokio::net::UnixListener,
    limits: Limits,
    desk: Arc<Desk>,
    notices: broadcast::Receiver<Arc<Notice>>,
    stop: watch::Receiver<bool>,
    close: watch::Sender<bool>,
) {
    let collector = tokio::spawn({
        let (desk, stop) = (Arc::clone(&desk), stop.clone());
        async move { desk.ring.collect(notices, stop).await }
    });
    let router = rest::router(Arc::clone(&desk));
    let open = serve::accept(listener, &router, &desk, limits, stop).await;
    // First let the ring take what was told before we were asked to stop, for streams to read it as their last.
    if let Err(error) = collector.await {
        tracing::error!("the collector of notices panicked: {error}");
    }
    close.send_replace(true);
    serve::finish(open).await;
}
