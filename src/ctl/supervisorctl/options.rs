//! supervisorctl's command line and the `[supervisorctl]` section: where the server is, and who asks.
//!
//! The command line beats the file, the file the defaults. Options end at the first other word (Python's getopt). One thing is
//! mended: `-r FILE` keeps a history there, which the original takes and forgets.

use super::ini;
use super::rpc::repr;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// What was asked for.
#[derive(Debug, Default, PartialEq)]
pub struct Options {
    pub url: String,
    pub username: Option<String>,
    pub password: Option<String>,
    pub prompt: String,
    pub history: Option<PathBuf>,
    /// Asks before great deeds, and for a password; with no words it is always so.
    pub interactive: bool,
    /// The command, as it came.
    pub words: Vec<String>,
    /// What could not be done as the file says, for stderr.
    pub warnings: Vec<String>,
}

/// Why there is nothing to do.
#[derive(Debug, PartialEq)]
pub enum Stop {
    /// `-h`.
    Help,
    /// A bad option or file; told with a hint at `-h`, exit code 2.
    Usage(String),
    /// A file that is no INI file; exit code 1.
    Unreadable(String),
}

/// The surroundings: the environment and where relative paths start.
pub struct Around<'a> {
    /// How we were called, with a path where there is one.
    pub program: &'a Path,
    pub env: &'a BTreeMap<String, String>,
    pub here: &'a Path,
}

impl Options {
    /// Reads the words after the program's name, and the file that they name or that is found.
    pub fn read(args: &[String], around: &Around<'_>) -> Result<Options, Stop> {
        let (given, words) = getopt(args)?;
        let mut options = Options { url: "http://localhost:9001".to_owned(), prompt: "supervisor".to_owned(), words, ..Options::default() };
        let said: BTreeMap<&str, &String> = given.iter().map(|(key, value)| (*key, value)).collect();
        if let Some(file) = said.get("configuration").map(|file| PathBuf::from(file.as_str())).or_else(|| found(around)) {
            options.take_file(&file, around)?;
        }
        for (key, value) in said {
            match key {
                "serverurl" => options.url = value.clone(),
                "username" => options.username = Some(value.clone()),
                "password" => options.password = Some(value.clone()),
                "history_file" => options.history = Some(normal(value, around)),
                "interactive" => options.interactive = true,
                _ => {}
            }
        }
        options.interactive |= options.words.is_empty();
        Ok(options)
    }

    fn take_file(&mut self, file: &Path, around: &Around<'_>) -> Result<(), Stop> {
        let shown = file.display();
        if !around.here.join(file).exists() {
            return Err(Stop::Usage(format!("could not find config file {shown}")));
        }
        let bytes = std::fs::read(around.here.join(file)).map_err(|_| Stop::Usage(format!("could not read config file {shown}")))?;
        let sections = ini::read(&String::from_utf8_lossy(&bytes)).map_err(|why| Stop::Unreadable(format!("{shown}: {why}")))?;
        let Some(section) = sections.get("supervisorctl") else {
            return Err(Stop::Usage(".ini file does not include supervisorctl section".to_owned()));
        };
        let mut names: BTreeMap<String, String> = around.env.iter().map(|(key, value)| (format!("ENV_{key}"), value.clone())).collect();
        let value = |key: &str, names: &BTreeMap<String, String>| match section.get(key) {
            Some(text) => ini::expand(text, names, &format!("supervisorctl.{key}")).map(Some).map_err(Stop::Usage),
            None => Ok(None),
        };
        if let Some(prompt) = value("prompt", &names)? {
            self.prompt = prompt;
        }
        self.username = value("username", &names)?;
        self.password = value("password", &names)?;
        let whole = normal(&file.to_string_lossy(), around);
        names.insert("here".to_owned(), whole.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned());
        if let Some(url) = value("serverurl", &names)? {
            self.url = match url.strip_prefix("unix://") {
                Some(path) => format!("unix://{}", normal(path, around).display()),
                None => url,
            };
        }
        self.history = value("history_file", &names)?.filter(|path| !path.is_empty()).map(|path| normal(&path, around));
        for plugin in sections.keys().filter(|name| name.starts_with("ctlplugin:")) {
            let hint = "gangerctl's own verbs (gangerctl help) may do what it is for";
            self.warnings.push(format!("{shown}: [{plugin}] is left out: Python plugins cannot be loaded here; {hint}"));
        }
        Ok(())
    }
}

/// The file in one of Supervisor's places.
fn found(around: &Around<'_>) -> Option<PathBuf> {
    let near = around.program.parent().and_then(Path::parent).unwrap_or(Path::new(""));
    [
        near.join("etc/supervisord.conf"),
        near.join("supervisord.conf"),
        PathBuf::from("supervisord.conf"),
        PathBuf::from("etc/supervisord.conf"),
        PathBuf::from("/etc/supervisord.conf"),
        PathBuf::from("/etc/supervisor/supervisord.conf"),
    ]
    .into_iter()
    .find(|path| around.here.join(path).exists())
}

/// A whole path without `.` and `..`, and with the home of `~`.
fn normal(path: &str, around: &Around<'_>) -> PathBuf {
    let home = match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            around.env.get("HOME").map(|home| format!("{}{rest}", home.trim_end_matches('/')))
        }
        Some(rest) => {
            let (user, rest) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            nix::unistd::User::from_name(user).ok().flatten().map(|user| format!("{}{rest}", user.dir.display()))
        }
        None => None,
    };
    let mut normal = PathBuf::new();
    for part in around.here.join(home.as_deref().unwrap_or(path)).components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            Component::RootDir | Component::Normal(_) | Component::Prefix(_) => normal.push(part),
        }
    }
    normal
}

/// The options: short, long, and whether a value follows.
const KNOWN: [(char, &str, bool); 7] = [
    ('c', "configuration", true),
    ('h', "help", false),
    ('i', "interactive", false),
    ('p', "password", true),
    ('r', "history_file", true),
    ('s', "serverurl", true),
    ('u', "username", true),
];

type Given = Vec<(&'static str, String)>;

/// Python's getopt: options up to the first other word, long ones by any prefix that is clear.
fn getopt(args: &[String]) -> Result<(Given, Vec<String>), Stop> {
    let mut given: Given = Vec::new();
    let mut rest = args.iter();
    let mut words = Vec::new();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            break;
        }
        if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value.to_owned())));
            let known = known(name)?;
            let value = match (known.2, value) {
                (true, Some(value)) => value,
                (true, None) => rest.next().cloned().ok_or_else(|| Stop::Usage(format!("option --{} requires argument", known.1)))?,
                (false, Some(_)) => return Err(Stop::Usage(format!("option --{} must not have an argument", known.1))),
                (false, None) => String::new(),
            };
            take(&mut given, &format!("--{}", known.1), known.1, value)?;
            continue;
        }
        let Some(letters) = arg.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            words.push(arg.clone());
            break;
        };
        let mut letters = letters.chars();
        while let Some(letter) = letters.next() {
            let letter = if letter == '?' { 'h' } else { letter };
            let known = KNOWN.iter().find(|known| known.0 == letter);
            let known = known.ok_or_else(|| Stop::Usage(format!("option -{letter} not recognized")))?;
            let value = match (known.2, letters.as_str()) {
                (true, "") => rest.next().cloned().ok_or_else(|| Stop::Usage(format!("option -{letter} requires argument")))?,
                (true, value) => value.to_owned(),
                (false, _) => String::new(),
            };
            if known.2 {
                letters = "".chars();
            }
            take(&mut given, &format!("-{letter}"), known.1, value)?;
        }
    }
    words.extend(rest.cloned());
    Ok((given, words))
}

fn known(name: &str) -> Result<&'static (char, &'static str, bool), Stop> {
    let near: Vec<_> = KNOWN.iter().filter(|known| known.1.starts_with(name)).collect();
    match near.as_slice() {
        [] => Err(Stop::Usage(format!("option --{name} not recognized"))),
        [one] => Ok(one),
        several => {
            several.iter().find(|known| known.1 == name).copied().ok_or_else(|| Stop::Usage(format!("option --{name} not a unique prefix")))
        }
    }
}

fn take(given: &mut Given, spelled: &str, name: &'static str, value: String) -> Result<(), Stop> {
    if name == "help" {
        return Err(Stop::Help);
    }
    if name == "serverurl" && !is_url(&value) {
        return Err(Stop::Usage(format!("invalid value for {spelled} {}: value {} is not a URL", repr(&value), repr(&value))));
    }
    if given.iter().any(|(other, _)| *other == name) {
        return Err(Stop::Usage(format!("conflicting command line option {}", repr(spelled))));
    }
    given.push((name, value));
    Ok(())
}

/// A scheme, and something after it.
fn is_url(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        let scheme_is_one =
            scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        scheme_is_one && !rest.is_empty() && !rest.starts_with(['?', '#'])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str], dir: &Path) -> Result<Options, Stop> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let env = BTreeMap::from([("HOME".to_owned(), "/home/u".to_owned())]);
        Options::read(&args, &Around { program: Path::new("/nowhere/bin/supervisorctl"), env: &env, here: dir })
    }

    #[test]
    fn the_command_line_beats_the_file_and_the_file_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let text = "[supervisorctl]\nserverurl = unix://%(here)s/../x/./s.sock\nusername=%(ENV_HOME)s\npassword=p%%\nhistory_file=~/.h\n\
                    prompt=fleet\n[ctlplugin:x]\n";
        std::fs::write(dir.path().join("etc/supervisord.conf"), text).unwrap();
        // The file is found below the directory we are in.
        let options = read(&["-u", "me", "--pass=q", "tail", "-f", "x"], dir.path()).unwrap();
        assert_eq!(options.url, format!("unix://{}/x/s.sock", dir.path().display()));
        assert_eq!((options.username.as_deref(), options.password.as_deref()), (Some("me"), Some("q")));
        assert_eq!((options.prompt.as_str(), options.history.as_deref()), ("fleet", Some(Path::new("/home/u/.h"))));
        assert_eq!((options.words.join(" ").as_str(), options.interactive, options.warnings.len()), ("tail -f x", false, 1));
        let options = read(&["-shttp://other", "-r", "mine"], dir.path()).unwrap();
        assert_eq!((options.url.as_str(), options.username.as_deref(), options.interactive), ("http://other", Some("/home/u"), true));
        assert_eq!(options.history, Some(dir.path().join("mine")));
    }

    #[test]
    fn bad_options_are_told_as_getopt_does() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("empty"), "[supervisord]\n").unwrap();
        std::fs::write(dir.path().join("odd"), "words\n").unwrap();
        let usage = |args: &[&str]| match read(args, dir.path()) {
            Err(Stop::Usage(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(usage(&["-x"]), "option -x not recognized");
        assert_eq!(usage(&["--no"]), "option --no not recognized");
        assert_eq!(usage(&["--h"]), "option --h not a unique prefix");
        assert_eq!(usage(&["--serv"]), "option --serverurl requires argument");
        assert_eq!(usage(&["-c"]), "option -c requires argument");
        assert_eq!(usage(&["--inter=1"]), "option --interactive must not have an argument");
        assert_eq!(usage(&["-s", "foo"]), "invalid value for -s 'foo': value 'foo' is not a URL");
        assert_eq!(usage(&["-i", "-i"]), "conflicting command line option '-i'");
        assert_eq!(usage(&["-c", "none"]), "could not find config file none");
        assert_eq!(usage(&["-c", "empty"]), ".ini file does not include supervisorctl section");
        assert!(matches!(read(&["-c", "odd"], dir.path()), Err(Stop::Unreadable(_))));
        assert_eq!(read(&["-ih"], dir.path()), Err(Stop::Help));
        assert_eq!(read(&["-?"], dir.path()), Err(Stop::Help));
    }
}
