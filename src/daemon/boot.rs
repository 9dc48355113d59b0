//! Taking over: reading the definitions, and what an earlier daemon may have left behind.

use crate::config::{self, Surroundings};
use crate::daemon::options::Overrides;
use crate::engine::event::{Event, Purpose};
use crate::model::command::Ticket;
use crate::model::plan::{DaemonSpec, Plan};
use crate::model::signal::Signal;
use crate::model::time::{Moment, Span};
use crate::os::tree::{self, Tree};
use crate::os::{clock, host, kill, systemd};
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

/// A name for this fleet that no other has (the mark of its workers begins with it), and the names of fleets before it whose
/// workers may still run.
///
/// They are kept in the runtime directory, a line each, until `forget_earlier_fleets` says that nothing of them is left: a
/// daemon that dies while it is ending them must not take their names with it.
pub fn name_fleet(runtime_dir: &Path) -> io::Result<(String, Vec<String>)> {
    let text = match std::fs::read_to_string(runtime_dir.join(FLEET)) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e),
    };
    let before: Vec<String> = text.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let fleet: String = uuid.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    write_fleets(runtime_dir, std::iter::once(&fleet).chain(&before))?;
    Ok((fleet, before))
}

/// Nothing is left of the fleets before this one.
pub fn forget_earlier_fleets(runtime_dir: &Path, fleet: &String) -> io::Result<()> {
    write_fleets(runtime_dir, std::iter::once(fleet))
}

/// The fleet has ended in order: who starts next has nobody to look for.
pub fn forget_fleet(runtime_dir: &Path) {
    // If it stays, the next start looks in vain.
    let _ = std::fs::remove_file(runtime_dir.join(FLEET));
}

fn write_fleets<'a>(runtime_dir: &Path, names: impl Iterator<Item = &'a String>) -> io::Result<()> {
    let fresh = runtime_dir.join("fleet.new");
    std::fs::write(&fresh, names.fold(String::new(), |text, name| text + name + "\n"))?;
    std::fs::rename(fresh, runtime_dir.join(FLEET))
}

/// Ends the workers of fleets whose daemon died: a slot never has two workers. `grace`: how long they may take to finish
/// a job. False if `hurry` said in the meantime that we shall end.
///
/// Until a successor can adopt them, ending them is the only way to keep that promise. As in any stop they are asked, asked
/// again, and only then killed; and asked are the workers, not the helpers that they have started.
pub fn end_the_left_behind(fleets: &[String], grace: Span, mut hurry: impl FnMut() -> bool) -> bool {
    let trees: Vec<Tree> = fleets.iter().map(|fleet| Tree::new(fleet)).collect();
    let look = || trees.iter().flat_map(Tree::all_with_fleet_mark).collect::<Vec<_>>();
    let found = look();
    if found.is_empty() {
        return true;
    }
    let tops = tree::tops(&found).len();
    tracing::warn!(
        "{tops} worker(s) of an earlier gangerd that died are still running (pid {}); they are asked to stop and have {grace} \
         before they are killed; ours start when they are gone",
        found[0].0
    );
    systemd::starting(&format!("waiting for {tops} worker(s) of an earlier gangerd to end"), grace + INSIST + INSIST);
    let started = clock::now().moment;
    let mut asked: Option<Moment> = None;
    let mut killing = false;
    loop {
        let alive = look();
        if alive.is_empty() {
            tracing::info!("the workers of the earlier gangerd are gone");
            return true;
        }
        if hurry() {
            return false;
        }
        let now = clock::now().moment;
        let age = now.since(started);
        if age >= grace {
            if !killing {
                tracing::warn!("{} process(es) of the earlier gangerd did not end within {grace}: killed", alive.len());
                killing = true;
            }
            for (pid, _) in &alive {
                // It may be gone by now.
                let _ = kill::signal_process(*pid, None, Signal::KILL);
            }
        } else if asked.is_none_or(|at| now.since(at) >= ASK_AGAIN) {
            for pid in tree::tops(&alive) {
                // It may be gone by now.
                let _ = kill::signal_process(pid, None, Signal::TERM);
            }
            asked = Some(now);
        }
        if age >= grace + INSIST {
            tracing::error!(
                "{} process(es) of the earlier gangerd do not go away (pid {}); ours are started beside them",
                alive.len(),
                alive[0].0
            );
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Where the names of fleets are, in the runtime directory.
const FLEET: &str = "fleet";

/// How long KILL may take: not at all, but for a process that hangs in the kernel.
const INSIST: Span = Span::secs(10);

/// A signal can be lost in a worker (`engine/stop`).
const ASK_AGAIN: Span = Span::secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_dies_at_its_start_leaves_the_names_of_the_fleets_before_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (first, before) = name_fleet(dir.path()).expect("it can be named");
        assert!(before.is_empty());
        let (second, before) = name_fleet(dir.path()).expect("it can be named");
        assert_eq!(before, std::slice::from_ref(&first));
        // The second died before it had ended the first one's workers.
        let (third, before) = name_fleet(dir.path()).expect("it can be named");
        assert_eq!(before, [second, first]);
        forget_earlier_fleets(dir.path(), &third).expect("it can be written");
        assert_eq!(name_fleet(dir.path()).expect("it can be named").1, [third]);
        forget_fleet(dir.path());
        assert!(name_fleet(dir.path()).expect("it can be named").1.is_empty());
    }
}
