//! The daemon's own flags, as `gangerd` and as `supervisord`; and where its definition file is when nobody says.
//!
//! The flags of `supervisord` win over the file, and the file wins over the defaults: `Overrides` is put over every plan
//! that is read, the first one and those of reloads. Nothing is started here.

use crate::model::launch::User;
use crate::model::plan::{Plan, SupervisordSpec};
use crate::model::spec::{ProgramSpec, Sink, StreamSpec};
use crate::model::template::Piece;
use crate::model::units::{self, Bytes};
use clap::{ArgAction, Parser};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The foreman of a gang of queue workers. Called by the name supervisord it behaves as Supervisor's daemon.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "gangerd", disable_version_flag = true, about, max_term_width = 100)]
pub struct Options {
    /// The definition file (default: /etc/ganger/ganger.toml; for an ordinary user ~/.config/ganger/ganger.toml;
    /// as supervisord: where Supervisor looks)
    #[arg(short = 'c', long = "configuration", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Say all that is wrong with the definitions, start nothing; exit 0 or 2
    #[arg(long)]
    pub check: bool,

    /// Print a supervisord.conf as ganger's own TOML, with comments on what changes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["check", "config", "demo"])]
    pub import: Option<PathBuf>,

    /// Run a fleet of small shell workers in a temporary directory, to look at; leaves nothing behind
    #[arg(long, conflicts_with_all = ["check", "config"])]
    pub demo: bool,

    /// How much our own log says: critical, error, warn, info, debug, trace, blather (default: what the definitions
    /// say, else info)
    #[arg(short = 'e', long = "loglevel", value_name = "LEVEL", value_parser = ["critical", "error", "warn", "info", "debug", "trace", "blather"])]
    pub log_level: Option<String>,

    /// Stay in the foreground (gangerd always does; supervisord goes into the background without it)
    #[arg(short = 'n', long = "nodaemon")]
    pub nodaemon: bool,

    /// Do not copy our own log to stdout
    #[arg(short = 's', long = "silent")]
    pub silent: bool,

    /// Run as this user, by name or number
    #[arg(short = 'u', long = "user", value_name = "USER")]
    pub user: Option<String>,

    /// The umask when we go into the background, octal
    #[arg(short = 'm', long = "umask", value_name = "UMASK", value_parser = octal)]
    pub umask: Option<u32>,

    /// The directory to change to when we go into the background
    #[arg(short = 'd', long = "directory", value_name = "DIRECTORY", value_parser = directory)]
    pub directory: Option<PathBuf>,

    /// Our own log
    #[arg(short = 'l', long = "logfile", value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// Rotate our own log at this size; 0: never
    #[arg(short = 'y', long = "logfile_maxbytes", value_name = "BYTES", value_parser = bytes)]
    pub log_max_bytes: Option<Bytes>,

    /// How many old files of our own log are kept
    #[arg(short = 'z', long = "logfile_backups", value_name = "NUM")]
    pub log_backups: Option<u32>,

    /// Where our pid is written
    #[arg(short = 'j', long = "pidfile", value_name = "FILE")]
    pub pid_file: Option<PathBuf>,

    /// What we call ourselves to listeners and clients
    #[arg(short = 'i', long = "identifier", value_name = "STR")]
    pub identifier: Option<String>,

    /// Where AUTO logs of workers are made
    #[arg(short = 'q', long = "childlogdir", value_name = "DIRECTORY", value_parser = directory)]
    pub child_log_dir: Option<PathBuf>,

    /// Leave AUTO logs of an earlier run where they are
    #[arg(short = 'k', long = "nocleanup")]
    pub nocleanup: bool,

    /// The limit of open files that we need to start
    #[arg(short = 'a', long = "minfds", value_name = "NUM")]
    pub minfds: Option<u64>,

    /// The limit of processes that we need to start
    #[arg(long = "minprocs", value_name = "NUM")]
    pub minprocs: Option<u64>,

    /// Remove ANSI escape sequences from workers' output
    #[arg(short = 't', long = "strip_ansi")]
    pub strip_ansi: bool,

    /// Accepted, and without effect: there is no Python here to profile
    #[arg(long = "profile_options", value_name = "OPTIONS", hide = true)]
    pub profile_options: Option<String>,

    /// Print the version and exit
    #[arg(short = 'v', long = "version", short_alias = 'V', action = ArgAction::SetTrue)]
    pub version: bool,
}

/// What the command line says over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    options: Options,
    /// `-u`, looked up.
    user: Option<User>,
}

impl Overrides {
    /// `user`: who `-u` is.
    pub fn new(options: Options, user: Option<User>) -> Overrides {
        Overrides { options, user }
    }

    /// Puts the command line over what was read.
    pub fn apply(&self, plan: &mut Plan) {
        let options = &self.options;
        if let Some(level) = &options.log_level {
            plan.daemon.log_level.clone_from(level);
        }
        if options.strip_ansi {
            self.edit(plan, |spec| spec.output.strip_ansi = true);
        }
        let Some(spec) = &mut plan.daemon.supervisord else {
            if let Some(path) = &options.log_file {
                plan.daemon.log_file = Some(absolute(path));
            }
            return;
        };
        let before = (spec.child_log_dir.clone(), spec.identifier.clone());
        self.settle(spec);
        let after = (spec.child_log_dir.clone(), spec.identifier.clone());
        plan.daemon.log_file = Some(spec.log_file.clone());
        plan.daemon.log_dir.clone_from(&spec.child_log_dir);
        if before != after {
            self.edit(plan, |spec| {
                move_auto_logs(&mut spec.output.stdout, &before, &after);
                move_auto_logs(&mut spec.output.stderr, &before, &after);
            });
        }
    }

    fn settle(&self, spec: &mut SupervisordSpec) {
        let options = &self.options;
        let put = |into: &mut String, path: &Option<PathBuf>| {
            if let Some(path) = path {
                *into = absolute(path);
            }
        };
        match &options.log_file {
            Some(path) if path.as_os_str() == "syslog" => spec.log_file = "syslog".to_owned(),
            path => put(&mut spec.log_file, path),
        }
        put(&mut spec.pid_file, &options.pid_file);
        put(&mut spec.child_log_dir, &options.child_log_dir);
        if let Some(directory) = &options.directory {
            spec.directory = Some(absolute(directory));
        }
        spec.log_max_bytes = options.log_max_bytes.unwrap_or(spec.log_max_bytes);
        spec.log_backups = options.log_backups.unwrap_or(spec.log_backups);
        spec.minfds = options.minfds.unwrap_or(spec.minfds);
        spec.minprocs = options.minprocs.unwrap_or(spec.minprocs);
        spec.umask = options.umask.unwrap_or(spec.umask);
        spec.nodaemon |= options.nodaemon;
        spec.silent |= options.silent;
        spec.nocleanup |= options.nocleanup;
        if let Some(identifier) = &options.identifier {
            spec.identifier.clone_from(identifier);
        }
        if self.user.is_some() {
            spec.user.clone_from(&self.user);
        }
    }

    fn edit(&self, plan: &mut Plan, edit: impl Fn(&mut ProgramSpec)) {
        plan.programs.values_mut().for_each(|spec| edit(Arc::make_mut(spec)));
    }
}

/// The file named an AUTO log's directory and identifier before the command line was heard.
fn move_auto_logs(stream: &mut StreamSpec, before: &(String, String), after: &(String, String)) {
    let (old_dir, new_dir) = (format!("{}/", before.0.trim_end_matches('/')), format!("{}/", after.0.trim_end_matches('/')));
    let (old_mark, new_mark) = (format!("---{}-", before.1), format!("---{}-", after.1));
    for Sink::File(file) in &mut stream.sinks {
        let pieces = &mut file.path.0;
        let is_auto = matches!(pieces.first(), Some(Piece::Text(text)) if text.starts_with(&old_dir))
            && pieces.iter().any(|piece| matches!(piece, Piece::Text(text) if text.contains(&old_mark)));
        if !is_auto {
            continue;
        }
        for (i, piece) in pieces.iter_mut().enumerate() {
            if let Piece::Text(text) = piece {
                if i == 0 {
                    *text = text.replacen(&old_dir, &new_dir, 1);
                }
                *text = text.replacen(&old_mark, &new_mark, 1);
            }
        }
    }
}

fn absolute(path: &Path) -> String {
    let text = path.to_string_lossy();
    let path = match text.strip_prefix("~/") {
        Some(rest) => Path::new(&std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(rest),
        None => path.to_owned(),
    };
    std::path::absolute(&path).unwrap_or(path).to_string_lossy().into_owned()
}

fn octal(text: &str) -> Result<u32, String> {
    let digits = text.trim().trim_start_matches("0o");
    u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mask| *mask <= 0o777)
        .ok_or_else(|| format!("{text:?} can not be converted to an octal type"))
}

fn bytes(text: &str) -> Result<Bytes, String> {
    units::bytes(text).ok_or_else(|| format!("found {text:?}, expected a size such as \"50MB\""))
}

fn directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_dir() { Ok(path) } else { Err(format!("{text} is not an existing directory")) }
}

/// True if we were called by Supervisor's name.
pub fn is_supervisord(program: &OsStr) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == "supervisord")
}

/// The definition file that is read when none is named.
pub fn default_config(uid: u32, home: &str) -> PathBuf {
    if uid == 0 { PathBuf::from("/etc/ganger/ganger.toml") } else { Path::new(home).join(".config/ganger/ganger.toml") }
}

/// Where Supervisor looks for its file, in its order. `program`: as we were called.
pub fn search_path(program: &Path) -> Vec<PathBuf> {
    let here = match program.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        // Called by a bare name: a shell has found us in PATH.
        _ => std::env::var_os("PATH")
            .and_then(|path| std::env::split_paths(&path).find(|dir| dir.join(program).is_file()))
            .unwrap_or_else(|| PathBuf::from(".")),
    };
    let mut places = vec![here.join("../etc/supervisord.conf"), here.join("../supervisord.conf")];
    places.extend(
        ["supervisord.conf", "etc/supervisord.conf", "/etc/supervisord.conf", "/etc/supervisor/supervisord.conf"].map(PathBuf::from),
    );
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::plan::DaemonSpec;
    use crate::model::spec::LogFile;
    use crate::model::template::Template;

    fn parse(words: &[&str]) -> Options {
        Options::try_parse_from([&["supervisord"], words].concat()).unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    fn spec() -> SupervisordSpec {
        SupervisordSpec {
            doors: Vec::new(),
            log_file: "/var/log/s.log".into(),
            log_max_bytes: Bytes::mib(50),
            log_backups: 10,
            pid_file: "/run/s.pid".into(),
            identifier: "supervisor".into(),
            nodaemon: false,
            silent: false,
            minfds: 1024,
            minprocs: 200,
            nocleanup: false,
            child_log_dir: "/tmp".into(),
            umask: 0o022,
            directory: None,
            user: None,
        }
    }

    #[test]
    fn every_flag_of_supervisord_is_taken_short_and_long() {
        let short = "-c f -n -s -l /l -y 1MB -z 3 -e debug -j /p -u root -m 077 -d / -i me -q / -k -t -a 99 --minprocs 5";
        let long = "--configuration f --nodaemon --silent --logfile /l --logfile_maxbytes=1MB --logfile_backups=3 --loglevel=debug \
            --pidfile=/p --user=root --umask=077 --directory=/ --identifier=me --childlogdir=/ --nocleanup --strip_ansi --minfds=99 --minprocs=5";
        let parse = |line: &str| format!("{:?}", parse(&line.split_whitespace().collect::<Vec<_>>()));
        assert_eq!(parse(short), parse(long));
        assert!(super::tests::parse(&["-v"]).version && super::tests::parse(&["--version"]).version);
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let mut plan = Plan { daemon: DaemonSpec { supervisord: Some(spec()), ..DaemonSpec::default() }, ..Plan::default() };
        Overrides::default().apply(&mut plan);
        assert_eq!(plan.daemon.supervisord, Some(spec()), "and says nothing where nothing was said");
        let line = "-n -s -l /l -y 1MB -z 3 -e blather -j /p -m 077 -d /usr -i me -q /usr -k -a 99";
        let options = parse(&line.split_whitespace().collect::<Vec<_>>());
        Overrides::new(options, None).apply(&mut plan);
        let expected = SupervisordSpec {
            log_file: "/l".into(),
            log_max_bytes: Bytes::mib(1),
            log_backups: 3,
            pid_file: "/p".into(),
            identifier: "me".into(),
            nodaemon: true,
            silent: true,
            minfds: 99,
            nocleanup: true,
            child_log_dir: "/usr".into(),
            umask: 0o077,
            directory: Some("/usr".into()),
            ..spec()
        };
        assert_eq!(plan.daemon.supervisord, Some(expected));
        assert_eq!((plan.daemon.log_level.as_str(), plan.daemon.log_dir.as_str()), ("blather", "/usr"));
    }

    #[test]
    fn auto_logs_move_with_the_directory_and_the_identifier_and_others_do_not() {
        let log = |path: &str| StreamSpec {
            sinks: vec![Sink::File(LogFile { path: Template::text(path), max_bytes: Bytes(0), backups: 0 })],
            ..StreamSpec::default()
        };
        let moved = |path: &str| {
            let mut stream = log(path);
            move_auto_logs(&mut stream, &("/tmp".into(), "supervisor".into()), &("/var/log".into(), "me".into()));
            stream
        };
        assert_eq!(moved("/tmp/w-stdout---supervisor-w.log"), log("/var/log/w-stdout---me-w.log"));
        assert_eq!(moved("/tmp/w.log"), log("/tmp/w.log"));
    }

    #[test]
    fn the_file_is_searched_where_supervisor_does() {
        let places = search_path(Path::new("/opt/bin/supervisord"));
        assert_eq!(places[0], Path::new("/opt/bin/../etc/supervisord.conf"));
        assert_eq!(places[5], Path::new("/etc/supervisor/supervisord.conf"));
        assert!(is_supervisord(OsStr::new("/usr/bin/supervisord")) && !is_supervisord(OsStr::new("gangerd")));
    }
}
