//! READING: definition files into one checked `Plan`, or into *all* the errors of all files at once.
//!
//! Pure but for `OsFiles`: what a file may depend on (environment, host name, users, other files) comes in by
//! `Surroundings`. `native` is the TOML dialect, `supervisord` is Supervisor's (`ini` its grammar). Both are read into
//! a `tree` whose values know their places (`origin`), and share the expansion of `%(name)s` (`expand`) and the
//! splitting of command lines (`words`). No default is decided here but those of `[daemon]`, `[server]` and
//! `[supervisord]`: the others are `ProgramSpec::new`'s. `import` writes a plan down again, as TOML.

pub mod error;
mod expand;
pub mod import;
mod ini;
mod native;
pub mod origin;
mod presets;
mod supervisord;
mod tree;
mod words;

use crate::config::error::ConfigError;
use crate::config::origin::Origin;
use crate::model::launch::User;
use crate::model::plan::Plan;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Everything that a definition may depend on and that no file says.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The daemon's own environment, for `%(ENV_X)s` and `XDG_RUNTIME_DIR`.
    pub env: &'a BTreeMap<String, String>,
    /// For `%(host_node_name)s`.
    pub hostname: &'a str,
    /// Our effective user and group.
    pub uid: u32,
    pub gid: u32,
    /// Our home directory, for `~` and the default directories of an ordinary user.
    pub home: &'a str,
    /// Looks a user up: a name or a number, with `:group` behind it if the group is not the user's own.
    /// `Ok(None)`: there is no such user (or group); `Err`: the name service failed, in words.
    pub users: &'a dyn Fn(&str) -> Result<Option<User>, String>,
    pub files: &'a dyn Files,
}

/// The little that reading asks of a file system.
pub trait Files {
    /// The whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The names in a directory, in any order.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    fn is_directory(&self, path: &Path) -> bool;
    /// The path with the working directory before it, if it is relative.
    fn absolute(&self, path: &Path) -> PathBuf;
}

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFiles;

impl Files for OsFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
    }
}

/// Reads the definitions that begin at `path`: a checked plan with its warnings, or every error of every file in
/// the order of files and lines. Asks `around` and nothing else; name services and disks may make it slow, so the
/// daemon calls it off its main thread.
pub fn load(path: &Path, around: &Surroundings<'_>) -> Result<Plan, Vec<ConfigError>> {
    if path.extension().is_some_and(|extension| extension == "toml") {
        return native::load(path, around);
    }
    supervisord::load(path, around)
}

/// How messages call a file, and what its relative paths belong to.
fn origin_of(path: &Path, around: &Surroundings<'_>) -> Origin {
    let absolute = around.files.absolute(path);
    let directory = absolute.parent().unwrap_or(Path::new("/"));
    Origin { rank: 0, file: path.to_string_lossy().into_owned(), directory: directory.to_string_lossy().into_owned() }
}

/// The home directory of `user`, ours if the name is empty; or else what was expected, in words.
fn home_of(user: &str, around: &Surroundings<'_>) -> Result<String, String> {
    if user.is_empty() {
        return Ok(around.home.to_owned());
    }
    match (around.users)(user) {
        Ok(Some(user)) => Ok(user.home),
        Ok(None) => Err(format!("a path; there is no user \"{user}\"")),
        Err(why) => Err(format!("a path; user \"{user}\" cannot be looked up: {why}")),
    }
}

#[cfg(test)]
mod tests;
