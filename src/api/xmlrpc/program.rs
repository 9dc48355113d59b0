//! Whether a program is there and may be run, looked at as Supervisor does before it starts one, in its words. Blocking.
//!
//! The engine would find out by itself; but the faults 20 and 21 are told before anything is tried.

use crate::api::xmlrpc::faults::{Code, Fault};
use crate::model::launch::Launch;
use nix::unistd::AccessFlags;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Looks for the program that `launch` names.
///
/// # Errors
/// `NoFile` if it is not there, `NotExecutable` if it cannot be run.
pub fn check(launch: &Launch) -> Result<(), Fault> {
    let Some(word) = launch.argv.first() else { return Err(Fault::new(Code::NotExecutable, "command is empty")) };
    let found = if word.contains('/') { seen_from(launch, word) } else { searched(launch, word) };
    let Some((path, meta)) = found else { return Err(Fault::new(Code::NoFile, format!("can't find command {}", repr(word)))) };
    let shown = repr(&path.to_string_lossy());
    if meta.is_dir() {
        Err(Fault::new(Code::NotExecutable, format!("command at {shown} is a directory")))
    } else if meta.permissions().mode() & 0o111 == 0 {
        Err(Fault::new(Code::NotExecutable, format!("command at {shown} is not executable")))
    } else if nix::unistd::access(&path, AccessFlags::X_OK).is_err() {
        Err(Fault::new(Code::NotExecutable, format!("no permission to run command {shown}")))
    } else {
        Ok(())
    }
}

/// A relative path is seen from the worker's directory, where exec will look. Supervisor looks only from its own.
fn seen_from(launch: &Launch, word: &str) -> Option<(PathBuf, fs::Metadata)> {
    let from_there = launch.directory.as_ref().map(|directory| Path::new(directory).join(word));
    let meta = fs::metadata(word).ok().or_else(|| fs::metadata(from_there?).ok())?;
    Some((PathBuf::from(word), meta))
}

fn searched(launch: &Launch, word: &str) -> Option<(PathBuf, fs::Metadata)> {
    let own = launch.environment.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.clone());
    let path = own.or_else(|| std::env::var("PATH").ok().filter(|path| !path.is_empty())).unwrap_or("/bin:/usr/bin:/usr/local/bin".into());
    path.split(':').map(|directory| Path::new(directory).join(word)).find_map(|path| {
        let meta = fs::metadata(&path).ok()?;
        Some((path, meta))
    })
}

/// A text as Python's `%r` shows it.
pub fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::ProgramSpec;
    use crate::model::template::Template;

    fn launch(command: &str) -> Launch {
        ProgramSpec::new("x", vec![Template::text(command)]).launch_of(0)
    }

    #[test]
    fn faults_are_told_as_supervisor_tells_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let plain = dir.path().join("plain");
        fs::write(&plain, "#!/bin/sh\n").expect("written");
        let said = |launch: &Launch| check(launch).err().map(|fault| fault.to_string());
        assert_eq!(said(&launch("sh")), None);
        assert_eq!(said(&launch("/bin/sh")), None);
        assert_eq!(said(&launch("/nowhere/x")).as_deref(), Some("NO_FILE: can't find command '/nowhere/x'"));
        assert_eq!(said(&launch("nowhere-at-all")).as_deref(), Some("NO_FILE: can't find command 'nowhere-at-all'"));
        let shown = plain.display();
        assert_eq!(
            said(&launch(&shown.to_string())).as_deref(),
            Some(format!("NOT_EXECUTABLE: command at '{shown}' is not executable").as_str())
        );
        assert_eq!(said(&launch("/bin/")).as_deref(), Some("NOT_EXECUTABLE: command at '/bin/' is a directory"));
        let mut with_path = launch("plain");
        with_path.environment.push(("PATH".into(), dir.path().to_str().expect("UTF-8").into()));
        assert!(said(&with_path).expect("found there").contains("is not executable"));
        let mut relative = launch("./plain");
        assert!(said(&relative).expect("not here").starts_with("NO_FILE"));
        relative.directory = Some(dir.path().to_str().expect("UTF-8").into());
        assert!(said(&relative).expect("there").starts_with("NOT_EXECUTABLE"));
    }

    #[test]
    fn texts_are_shown_as_python_shows_them() {
        assert_eq!(["a", "it's", "\"it's\"", "a\\b\n"].map(repr), ["'a'", "\"it's\"", "'\"it\\'s\"'", "'a\\\\b\\n'"]);
    }
}
