//! The native dialect: `ganger.toml` and the files it includes.
//!
//! The main file may hold everything; included files hold programs and groups. What is wrong with one file hides
//! nothing in another, nor in the rest of itself: reading goes on with defaults where a value is bad, and only at
//! the end it is decided whether there is a plan.

mod daemon;
pub mod fleet;
mod include;
pub mod program;
pub mod table;
pub mod values;

use crate::config::error::{ConfigError, Fault, Report};
use crate::config::expand::{Names, Word};
use crate::config::native::program::{Defined, Head};
use crate::config::native::table::{Entry, Layers, dotted};
use crate::config::origin::{Origin, Place};
use crate::config::tree::{self, Item, Table, Value};
use crate::config::{Surroundings, origin_of};
use crate::model::name::{self, GroupName};
use crate::model::plan::Plan;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAIN_KEYS: [&str; 6] = ["daemon", "defaults", "group", "include", "program", "server"];
const INCLUDED_KEYS: [&str; 2] = ["group", "program"];
const GROUP_KEYS: [&str; 2] = ["priority", "programs"];

/// Priority of a group that says none, as in Supervisor.
const GROUP_PRIORITY: i32 = 999;

/// Reads `path` and all that it includes.
pub fn load(path: &Path, around: &Surroundings<'_>) -> Result<Plan, Vec<ConfigError>> {
    let mut report = Report::default();
    let main_origin = Arc::new(origin_of(path, around));
    let main = open(path, &main_origin, None, around, &mut report).unwrap_or_default();
    let top = Layers::one("", &main);
    top.reject_unknown(&mut report, &MAIN_KEYS, |key| {
        program_key_at_top(key).map(|()| String::from("it belongs in [program.NAME] or [defaults]"))
    });
    let included: Vec<Table> = included_files(&top, path, &main_origin, around, &mut report)
        .into_iter()
        .filter_map(|Included { path, origin, by }| {
            let table = open(&path, &origin, Some(&by), around, &mut report)?;
            Layers::one("", &table).reject_unknown(&mut report, &INCLUDED_KEYS, only_in_main);
            Some(table)
        })
        .collect();

    let daemon = daemon::read(&top.sub(&mut report, "daemon"), &top.sub(&mut report, "server"), around, &mut report);
    let defaults = top.sub(&mut report, "defaults");
    let files: Vec<&Table> = std::iter::once(&main).chain(&included).collect();
    let named = gather(&files, "program", &mut report);
    let groups = Groups::read(&gather(&files, "group", &mut report), &named, &mut report);

    check_alone(&defaults, &daemon.log_dir, around, &mut report);
    let mut programs = Vec::new();
    for entry in named.values() {
        let Value::Table(table) = entry.value() else {
            report.add(entry.wrong("a table"));
            continue;
        };
        let group = groups.of.get(entry.name).map_or(entry.name, String::as_str);
        let head = Head { name: entry.name, group, key: &entry.key, place: &entry.item.key, whole: true };
        let layers = Layers::one(&entry.key, table).over(defaults.clone());
        programs.push(program::read(&head, &layers, &daemon.log_dir, around, &mut report));
    }
    programs.sort_by(|a, b| a.head.place.cmp(&b.head.place));
    fleet::check(&programs, &mut report);
    if named.is_empty() && report.is_clean() {
        report.warn(&Place::whole(&main_origin), "", "no program is defined");
    }

    let warnings = report.verdict()?;
    let programs = programs.into_iter().map(|Defined { spec, .. }| (spec.name.clone(), Arc::new(spec))).collect();
    Ok(Plan { daemon, programs, groups: groups.priorities, warnings })
}

/// A file that `include` has found.
struct Included {
    path: PathBuf,
    origin: Arc<Origin>,
    /// Where it is included.
    by: Place,
}

/// Reads one file into a tree; `None` if there is nothing to be had from it.
fn open(path: &Path, origin: &Arc<Origin>, by: Option<&Place>, around: &Surroundings<'_>, report: &mut Report) -> Option<Table> {
    let unreadable = |report: &mut Report, place: &Place, why: String| {
        report.error(place, "", Fault::Unreadable { why }, by.map(|by| format!("it is included at {by}")));
    };
    match around.files.read(path) {
        Err(error) => unreadable(report, &Place::whole(origin), format!("cannot be read: {}", plain(&error))),
        Ok(bytes) => match std::str::from_utf8(&bytes) {
            Ok(text) => return Some(tree::from_toml(origin, text, report)),
            Err(error) => {
                let line = memchr::memchr_iter(b'\n', &bytes[..error.valid_up_to()]).count() + 1;
                let place = Place { line: u32::try_from(line).unwrap_or(u32::MAX), column: 1, ..Place::whole(origin) };
                unreadable(report, &place, String::from("this line is no UTF-8 text, and TOML files are"));
            }
        },
    }
    None
}

/// What the system says, without its number.
pub fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => String::from("no such file"),
        std::io::ErrorKind::PermissionDenied => String::from("permission denied"),
        std::io::ErrorKind::IsADirectory => String::from("it is a directory"),
        _ => error.to_string(),
    }
}

/// The files that `include` names, each once, and how messages call them.
fn included_files(
    top: &Layers<'_>,
    main: &Path,
    main_origin: &Arc<Origin>,
    around: &Surroundings<'_>,
    report: &mut Report,
) -> Vec<Included> {
    let Some(entry) = top.find("include") else { return Vec::new() };
    let expected = "a list of file name patterns, such as [\"programs.d/*.toml\"]";
    let patterns = match entry.value() {
        Value::List(list) => list.as_slice(),
        Value::Text(_) => std::slice::from_ref(&entry.item.node),
        _ => {
            report.add(entry.wrong(expected));
            return Vec::new();
        }
    };
    let names = Names::new(around.env).with("host_node_name", Word::Text(around.hostname.to_owned()));
    let mut seen = BTreeSet::from([around.files.absolute(main)]);
    let mut found = Vec::new();
    for node in patterns {
        let item = Item { key: node.place.clone(), node: node.clone() };
        let one = Entry { key: entry.key.clone(), name: entry.name, item: &item };
        let pattern = match values::fixed_path(&one, &names, around) {
            Ok(pattern) => pattern,
            Err(error) => {
                report.add(error);
                continue;
            }
        };
        let paths = match include::matching(&pattern, around.files) {
            Ok(paths) => paths,
            Err(expected) => {
                report.add(one.wrong(&expected));
                continue;
            }
        };
        if paths.is_empty() {
            report.warn(one.place(), &one.key, &format!("no file matches {pattern}"));
        }
        for path in paths {
            if !seen.insert(path.clone()) {
                continue;
            }
            let shown = path.strip_prefix(&main_origin.directory).map_or_else(|_| path.clone(), |rest| main.with_file_name("").join(rest));
            let directory = path.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
            let rank = u32::try_from(found.len() + 1).unwrap_or(u32::MAX);
            let origin = Origin { rank, file: shown.to_string_lossy().into_owned(), directory };
            if path.extension().is_none_or(|extension| extension != "toml") {
                report.add(one.conflict(&format!("{} does not end in .toml", origin.file), Some("only native files can be included")));
                continue;
            }
            found.push(Included { path, origin: Arc::new(origin), by: node.place.clone() });
        }
    }
    found
}

fn only_in_main(key: &str) -> Option<String> {
    if MAIN_KEYS.contains(&key) {
        return Some(format!("write \"{key}\" in the main file; included files hold programs and groups"));
    }
    program_key_at_top(key).map(|()| String::from("it belongs in [program.NAME]"))
}

fn program_key_at_top(key: &str) -> Option<()> {
    program::KEYS.contains(&key).then_some(())
}

/// `[kind.NAME]` of all files by name; a name that is there twice is told with both places.
fn gather<'t>(files: &[&'t Table], kind: &str, report: &mut Report) -> BTreeMap<&'t str, Entry<'t>> {
    let mut all: BTreeMap<&str, Entry<'_>> = BTreeMap::new();
    for table in files {
        for entry in Layers::one("", table).sub(report, kind).entries() {
            if let Some(fault) = name::fault_in(entry.name) {
                report.error(&entry.item.key, &entry.key, Fault::Conflict { why: fault.to_owned() }, None);
            } else if let Some(first) = all.get(entry.name) {
                let why = format!("defined twice, first at {}", first.item.key);
                report.error(&entry.item.key, &entry.key, Fault::Conflict { why }, Some(String::from("rename one of the two")));
            } else {
                all.insert(entry.name, entry);
            }
        }
    }
    all
}

/// Faults in `[defaults]` must show even if no program inherits the value.
fn check_alone(defaults: &Layers<'_>, log_dir: &str, around: &Surroundings<'_>, report: &mut Report) {
    let origin = Arc::new(Origin { rank: 0, file: String::new(), directory: String::from("/") });
    let head = Head { name: "defaults", group: "defaults", key: "defaults", place: &Place::whole(&origin), whole: false };
    let mut alone = Report::default();
    program::read(&head, defaults, log_dir, around, &mut alone);
    // A conflict between keys may be resolved in every program that inherits them; where it is not, it is told there.
    let errors = alone.verdict().err().unwrap_or_default();
    report.extend(errors.into_iter().filter(|error| !matches!(error.fault, Fault::Conflict { .. })));
}

/// `[group.NAME]`: who belongs where.
#[derive(Default)]
struct Groups {
    /// Group of every program that is in one.
    of: BTreeMap<String, String>,
    priorities: BTreeMap<GroupName, i32>,
}

impl Groups {
    fn read(named: &BTreeMap<&str, Entry<'_>>, programs: &BTreeMap<&str, Entry<'_>>, report: &mut Report) -> Groups {
        let mut groups = Groups::default();
        for (name, entry) in named {
            let Value::Table(table) = entry.value() else {
                report.add(entry.wrong("a table"));
                continue;
            };
            let layers = Layers::one(&entry.key, table);
            layers.reject_unknown(report, &GROUP_KEYS, |_| None);
            let mut priority = GROUP_PRIORITY;
            layers.set(report, "priority", &mut priority, values::whole(i64::from(i32::MIN)..=i64::from(i32::MAX)));
            groups.priorities.insert(GroupName::new(name), priority);
            match layers.find("programs") {
                Some(list) => groups.members(name, &list, programs, report),
                None => {
                    let fault = Fault::Missing { expected: String::from("a list of programs, such as programs = [\"mailer\"]") };
                    report.error(&entry.item.key, &dotted(&entry.key, "programs"), fault, None);
                }
            }
        }
        for (name, entry) in named.iter().filter(|(name, _)| programs.contains_key(*name) && !groups.of.contains_key(**name)) {
            let why = format!("there is a program \"{name}\" outside of this group, which is a group of that name by itself");
            report.error(
                &entry.item.key,
                &entry.key,
                Fault::Conflict { why },
                Some(String::from("rename the group, or take the program in")),
            );
        }
        groups
    }

    fn members(&mut self, group: &str, list: &Entry<'_>, programs: &BTreeMap<&str, Entry<'_>>, report: &mut Report) {
        let Value::List(members) = list.value() else {
            report.add(list.wrong("a list of programs, such as [\"mailer\"]"));
            return;
        };
        if members.is_empty() {
            report.add(list.conflict("a group needs a program", None));
        }
        for member in members {
            let Value::Text(name) = &member.value else {
                report.add(list.wrong_element(member, "the name of a program"));
                continue;
            };
            // In a file that could not be read there may be any program.
            if !programs.contains_key(name.as_str()) && !report.has_broken_file() {
                let mend = crate::config::error::did_you_mean(name, programs.keys().copied());
                report.add(ConfigError { mend, ..list.wrong_element(member, "the name of a program that is defined") });
            }
            match self.of.get(name).filter(|other| *other != group) {
                Some(other) => {
                    let why = format!("program \"{name}\" is already in group \"{other}\"");
                    let fault = Fault::Conflict { why };
                    report.add(ConfigError { place: member.place.clone(), key: list.key.clone(), fault, mend: None });
                }
                None => {
                    self.of.insert(name.clone(), group.to_owned());
                }
            }
        }
    }
}

/// Every key of every table, for the test that holds `config/ganger.toml` complete.
#[cfg(test)]
pub fn all_keys() -> impl Iterator<Item = &'static str> {
    let tables = program::TABLES.iter().flat_map(|(_, keys)| keys.iter().copied());
    [&daemon::DAEMON_KEYS[..], &daemon::SERVER_KEYS, &GROUP_KEYS, &program::KEYS, &["include"]].concat().into_iter().chain(tables)
}
