//! DOORS: everyone who asks.
//!
//! `Doors` opens the control socket and Supervisor's servers, and serves them on a thread of its own with a small tokio
//! runtime. Whatever happens here (a flood of clients, a panic in a handler) the engine and the workers do not notice: all that a
//! door holds is a `Handle`.
//!
//! | file | subject |
//! |---|---|
//! | `handle` | ask, view, notices, logs: what every door holds |
//! | `socket` | the socket as a file |
//! | `door` | where a door listens, and whom it lets in |
//! | `peer`, `access` | who is there, and what he may do |
//! | `serve`, `seats` | connections: limits, time-outs, the end |
//! | `rest` | the table of routes and what they answer |
//! | `stream` | notices: server-sent events and history |
//! | `find` | targets looked up in a view |
//! | `metrics` | a view as Prometheus reads it |
//! | `xmlrpc` | Supervisor's XML-RPC |
//! | `logtail`, `follow`, `bell`, `logfile` | log files: followed, and in slices |

pub mod access;
mod bell;
mod brief;
mod door;
mod find;
mod follow;
pub mod handle;
mod logfile;
mod logtail;
mod metrics;
mod peer;
mod rest;
#[cfg(test)]
mod samples;
mod seats;
mod serve;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod xmlrpc;

use crate::api::access::Access;
use crate::api::door::Door;
use crate::api::handle::Handle;
use crate::api::rest::Desk;
use crate::api::serve::Limits;
use crate::api::socket::SocketFile;
use crate::api::stream::Ring;
use crate::model::notice::Notice;
use crate::model::plan::{DoorSpec, SocketSpec};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{broadcast, watch};

/// What the doors tell about the daemon that no view holds.
#[derive(Clone, Debug)]
pub struct HostInfo {
    pub version: String,
    pub pid: i32,
    /// The path of the definitions.
    pub config: String,
    /// What we stand on, a line each: keeper, systemd, control groups.
    pub footing: Vec<String>,
    /// The file of our own log, if it is one.
    pub main_log: Option<PathBuf>,
    /// What `supervisord.conf` calls us.
    pub identifier: String,
    /// The Supervisor whose clients are to feel at home.
    pub supervisor_version: String,
}

impl Default for HostInfo {
    fn default() -> HostInfo {
        HostInfo {
            version: String::new(),
            pid: 0,
            config: String::new(),
            footing: Vec::new(),
            main_log: None,
            identifier: "supervisor".to_owned(),
            supervisor_version: "4.3.0".to_owned(),
        }
    }
}

/// The open doors.
#[derive(Debug)]
pub struct Doors {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
    /// Not that of a listener that was inherited: it belongs to whoever keeps it open.
    files: Vec<SocketFile>,
}

impl Doors {
    /// Opens the control socket that `native` describes and Supervisor's servers, `others`, and starts the API thread. With
    /// `inherited`, that listener is served instead of a new one; it must be the one at `native.path`.
    ///
    /// # Errors
    /// Each names the path or address: no directory, no permission, too long, or `AddrInUse` where another daemon listens.
    /// Then no door is left open.
    pub fn open(
        handle: Handle,
        native: SocketSpec,
        others: Vec<DoorSpec>,
        inherited: Option<UnixListener>,
        host: HostInfo,
    ) -> io::Result<Doors> {
        Doors::open_within(Limits::default(), handle, native, others, inherited, host)
    }

    fn open_within(
        limits: Limits,
        handle: Handle,
        native: SocketSpec,
        others: Vec<DoorSpec>,
        inherited: Option<UnixListener>,
        host: HostInfo,
    ) -> io::Result<Doors> {
        // Blocking threads look up user names and read the ends of log files; what hangs there gets a few and no more.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()?;
        let mut files = Vec::new();
        let doors = {
            let _inside = runtime.enter();
            open_all(&native, &others, inherited, &mut files)
        };
        let (doors, (uid, gid)) = match doors.and_then(|doors| Ok((doors, owner(&native)?))) {
            Ok(opened) => opened,
            Err(error) => {
                files.into_iter().for_each(SocketFile::remove);
                // Merely dropped, it would wait, which a caller that is in a runtime himself may not.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let access = Access::new(nix::unistd::geteuid().as_raw(), uid, gid);
        // Subscribed before the view is read, so that what is told between is in both and not in neither; and now
        // rather than on the thread, so that nothing is missed from here on.
        let notices = handle.notices();
        let ring = Arc::new(Ring::new(handle.view().seq));
        let (stop, stopped) = watch::channel(false);
        let (close, closing) = watch::channel(false);
        let desk = Arc::new(Desk::new(handle, host, access, ring, closing));
        let thread = std::thread::Builder::new().name("ganger-api".into()).spawn(move || {
            runtime.block_on(run(doors, limits, desk, notices, stopped, close));
            // A name service may hang; it is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Doors { stop, thread, files })
    }

    /// Closes the doors: no new connection, streams are told to come back, requests in hand may finish (2 s at
    /// most), the socket files go if we made them, the thread ends. Blocking.
    pub fn close(self) {
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            tracing::error!("the API thread had panicked");
        }
        // Last, so that whoever sees a file gone knows that nobody serves it any more.
        self.files.into_iter().for_each(SocketFile::remove);
    }
}

/// Whose the control socket is.
fn owner(native: &SocketSpec) -> io::Result<(u32, u32)> {
    let meta = fs::metadata(&native.path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot look at the control socket {}: {error}", native.path)))?;
    Ok((meta.uid(), meta.gid()))
}

fn open_all(
    native: &SocketSpec,
    others: &[DoorSpec],
    inherited: Option<UnixListener>,
    files: &mut Vec<SocketFile>,
) -> io::Result<Vec<Door>> {
    let mut doors = Vec::new();
    let (door, file) = door::native(native, inherited)?;
    doors.push(door);
    files.extend(file);
    for spec in others {
        let (door, file) = door::supervisor(spec)?;
        doors.push(door);
        files.extend(file);
    }
    Ok(doors)
}

async fn run(
    doors: Vec<Door>,
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
    let seats = limits.seats();
    let serving = doors
        .into_iter()
        .map(|door| tokio::spawn(serve::accept(door, Arc::clone(&seats), router.clone(), Arc::clone(&desk), limits, stop.clone())));
    let mut open = Vec::new();
    for door in futures_util::future::join_all(serving).await {
        match door {
            Ok(connections) => open.push(connections),
            Err(error) => tracing::error!("a door panicked: {error}"),
        }
    }
    // First let the ring take what was told before we were asked to stop, for streams to read it as their last.
    if let Err(error) = collector.await {
        tracing::error!("the collector of notices panicked: {error}");
    }
    close.send_replace(true);
    futures_util::future::join_all(open.into_iter().map(serve::finish)).await;
}
