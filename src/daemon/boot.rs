//! Taking over: reading the definitions, and what an earlier daemon may have left behind.

use crate::config::{self, Surroundings};
use crate::daemon::options::Overrides;
use crate::engine::event::{Event, Purpose};
use crate::model::command::Ticket;
use crate::model::plan::{DaemonSpec, Plan};
use crate::os::host;
use crate::os::tree::Tree;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// Reads the definitions again, on a thread of its own: name services and disks may block.
pub struct Loader {
    config: PathBuf,
    /// The command line wins over every plan.
    overrides: Overrides,
    /// What was in force when we started; a change needs a restart of the daemon.
    daemon: DaemonSpec,
    loaded: UnboundedSender<Event>,
}

impl Loader {
    pub fn new(config: PathBuf, overrides: Overrides, daemon: DaemonSpec, loaded: UnboundedSender<Event>) -> Loader {
        Loader { config, overrides, daemon, loaded }
    }

    /// Answers with `Event::PlanLoaded`.
    pub fn load(&self, ticket: Option<Ticket>, purpose: Purpose) {
        let (config, overrides) = (self.config.clone(), self.overrides.clone());
        let (daemon, loaded) = (self.daemon.clone(), self.loaded.clone());
        let work = move || {
            let result = load(&config).map(|mut plan| {
                overrides.apply(&mut plan);
                if plan.daemon != daemon {
                    plan.warnings.push("[daemon] or [server] has changed: that takes effect when gangerd is started again".to_owned());
                }
                Box::new(plan)
            });
            // The receiver is gone only when we are on our way out.
            let _ = loaded.send(Event::PlanLoaded { ticket, purpose, result });
        };
        if let Err(e) = std::thread::Builder::new().name("load".into()).spawn(work) {
            let result = Err(vec![format!("cannot start a thread to read the definitions: {e}")]);
            let _ = self.loaded.send(Event::PlanLoaded { ticket, purpose, result });
        }
    }
}

/// Reads the definitions. `Err`: every error, each a whole line.
pub fn load(path: &Path) -> Result<Plan, Vec<String>> {
    let env: BTreeMap<String, String> =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    let home = env.get("HOME").cloned().unwrap_or_else(|| "/".to_owned());
    let around = Surroundings {
        env: &env,
        hostname: &host::hostname(),
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        home: &home,
        users: &host::user_by_name,
        files: &config::OsFiles,
    };
    config::load(path, &around).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

/// A name for this fleet that no other has: the mark of its workers begins with it.
///
/// It is kept in the runtime directory, so that the next daemon knows the workers of a fleet whose daemon was killed.
pub fn name_fleet(runtime_dir: &Path) -> io::Result<(String, Option<String>)> {
    let path = runtime_dir.join("fleet");
    let before = std::fs::read_to_string(&path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let fleet: String = uuid.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, &fleet)?;
    std::fs::rename(fresh, path)?;
    Ok((fleet, before))
}

/// Ends the workers of a fleet whose daemon died: a slot never has two workers.
///
/// Until a successor can adopt them, ending them is the only way to keep that promise. They are asked with
/// TERM first and have `GRACE` to finish a job.
pub fn end_the_left_behind(fleet: &str) {
    let tree = Tree::new(fleet);
    let found = tree.all_with_fleet_mark();
    if found.is_empty() {
        return;
    }
    tracing::warn!(
        "{} worker process(es) of an earlier gangerd that died are still running; they are ended before any is started",
        found.len()
    );
    let started = crate::os::clock::now().moment;
    let mut asked = false;
    loop {
        let alive = tree.all_with_fleet_mark();
        if alive.is_empty() {
            return;
        }
        let age = crate::os::clock::now().moment.since(started);
        let signal = if age >= GRACE { crate::model::signal::Signal::KILL } else { crate::model::signal::Signal::TERM };
        if !asked || age >= GRACE {
            for (pid, _) in &alive {
                // It may be gone by now.
                let _ = crate::os::kill::signal_process(*pid, None, signal);
            }
            asked = true;
        }
        if age >= GRACE + GRACE {
            tracing::error!("{} process(es) of the earlier gangerd do not go away (pid {})", alive.len(), alive[0].0);
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Supervisor's default for `stopwaitsecs`.
const GRACE: crate::model::time::Span = crate::model::time::Span::secs(10);
