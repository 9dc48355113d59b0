//! What is Supervisor's about how we begin and end: limits, privileges, the background, the pid file, left-over AUTO logs.
//!
//! In force only with a `supervisord.conf`. Each step says what is wrong in Supervisor's words where it has some.

use crate::daemon::journal::{self, Paper};
use crate::daemon::supervisor_log::{self, Level};
use crate::model::plan::{DaemonSpec, Plan, SupervisordSpec};
use crate::os::background::{self, Herald, Least, Side};
use crate::os::host;
use std::path::{Path, PathBuf};

/// The file that says our pid; it goes with us.
pub struct PidFile(PathBuf);

/// What was said before there was a log to say it in.
#[derive(Default)]
pub struct Remarks(Vec<(Level, String)>);

impl Remarks {
    fn put(&mut self, level: Level, text: String) {
        self.0.push((level, text));
    }

    /// Into our log: what is critical first, as Supervisor has it.
    pub fn record(mut self) {
        self.0.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
        self.0.into_iter().for_each(journal::record_as_supervisor);
    }
}

/// Raises our limits and becomes the user of the file. Before any thread. `Err`: why we cannot be what the file wants.
pub fn settle(spec: &SupervisordSpec, plan: &Plan) -> Result<Remarks, String> {
    let mut remarks = Remarks::default();
    for line in supervisor_log::criticals(spec, host::uid() == 0) {
        remarks.put(Level::Critical, line);
    }
    for warning in &plan.warnings {
        remarks.put(Level::Warn, warning.clone());
    }
    for (which, least, name, words, key) in [
        (Least::Files, spec.minfds, "RLIMIT_NOFILE", "file descriptors", "minfds"),
        (Least::Processes, spec.minprocs, "RLIMIT_NPROC", "available processes", "minprocs"),
    ] {
        match background::at_least(which, least) {
            Ok(false) => {}
            Ok(true) => remarks.put(Level::Info, format!("Increased {name} limit to {least}")),
            Err(hard) => {
                return Err(format!(
                    "The minimum number of {words} required to run this process is {least} as per the \"{key}\" command-line argument or \
                     config file setting. The current environment will only allow you to open {hard}. Either raise the limit in your \
                     environment or lower {key} in the config file to allow the process to start."
                ));
            }
        }
    }
    if let Some(user) = &spec.user {
        background::become_user(user)?;
        remarks.put(Level::Info, format!("Set uid to user {} succeeded", user.uid));
    }
    Ok(remarks)
}

/// Goes into the background, and to the directory and umask that hold there.
pub fn go_into_the_background(spec: &SupervisordSpec, remarks: &mut Remarks) -> std::io::Result<Side> {
    let side = background::go()?;
    if matches!(side, Side::Daemon(_)) {
        remarks.put(Level::Info, "daemonizing the supervisord process".to_owned());
        if let Some(directory) = &spec.directory {
            match std::env::set_current_dir(directory) {
                Ok(()) => remarks.put(Level::Info, format!("set current directory: '{directory}'")),
                Err(e) => remarks.put(Level::Critical, format!("can't chdir into '{directory}': {e}")),
            }
        }
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(spec.umask));
    }
    Ok(side)
}

/// Where our log is written to. `silent` and `nodaemon` as they are in force.
pub fn paper(daemon: &DaemonSpec, spec: &SupervisordSpec, in_background: bool) -> Paper {
    let file = daemon.log_file.as_ref().filter(|path| path.as_str() != "syslog").map(PathBuf::from);
    Paper { file, max_bytes: spec.log_max_bytes.0, backups: spec.log_backups, stdout: spec.nodaemon && !spec.silent && !in_background }
}

/// Writes our pid. A file that cannot be written is told, and no reason not to run.
pub fn write_pid_file(path: &str) -> Option<PidFile> {
    let pid = std::process::id();
    match std::fs::write(path, format!("{pid}\n")) {
        Ok(()) => {
            journal::record_as_supervisor((Level::Info, format!("supervisord started with pid {pid}")));
            Some(PidFile(PathBuf::from(path)))
        }
        Err(_) => {
            journal::record_as_supervisor((Level::Critical, format!("could not write pidfile {path}")));
            None
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Another daemon may have written its own pid there: that one stays.
        let ours = std::fs::read_to_string(&self.0).is_ok_and(|text| text.trim() == std::process::id().to_string());
        if ours {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

/// Removes AUTO logs that an earlier run of the same identifier has left.
pub fn clear_auto_logs(spec: &SupervisordSpec) {
    let Ok(entries) = std::fs::read_dir(&spec.child_log_dir) else {
        return journal::record_as_supervisor((Level::Warn, "Could not clear childlog dir".to_owned()));
    };
    let mark = format!("---{}-", spec.identifier);
    for entry in entries.flatten() {
        let name = entry.file_name();
        if is_auto_log(&name.to_string_lossy(), &mark) && std::fs::remove_file(entry.path()).is_err() {
            journal::record_as_supervisor((Level::Warn, format!("Failed to clean up '{}'", entry.path().display())));
        }
    }
}

/// Supervisor's `.+?---IDENTIFIER-\S+\.log\.{0,1}\d{0,4}`.
fn is_auto_log(name: &str, mark: &str) -> bool {
    name.match_indices(mark).any(|(at, _)| {
        let rest = &name[at + mark.len()..];
        let word = rest.split(char::is_whitespace).next().unwrap_or(rest);
        at > 0 && word.find(".log").is_some_and(|dot| dot > 0)
    })
}

/// Tells the starter, and ends the wait.
pub fn announce(herald: Option<Herald>, outcome: Result<(), &str>) {
    match (herald, outcome) {
        (Some(herald), Ok(())) => herald.is_up(),
        (Some(herald), Err(text)) => herald.failed(2, text),
        (None, _) => {}
    }
}

/// As Supervisor ends when it is called wrongly.
pub fn usage(program: &Path, text: &str) {
    eprintln!("Error: {text}\nFor help, use {} -h", program.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_auto_logs_of_our_identifier_are_cleared() {
        let mark = "---supervisor-";
        for name in ["w-stdout---supervisor-abc12.log", "w-stderr---supervisor-w.log.3", "a b---supervisor-x.log"] {
            assert!(is_auto_log(name, mark), "{name}");
        }
        for name in ["w.log", "w-stdout---other-abc.log", "---supervisor-abc.log", "w-stdout---supervisor-.log", "w---supervisor-abc.txt"] {
            assert!(!is_auto_log(name, mark), "{name}");
        }
    }

    #[test]
    fn a_pid_file_of_somebody_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.pid");
        let held = PidFile(path.clone());
        std::fs::write(&path, "1\n").unwrap();
        drop(held);
        assert!(path.exists());
        let held = PidFile(path.clone());
        std::fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        drop(held);
        assert!(!path.exists());
    }
}
