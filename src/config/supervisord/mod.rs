//! Supervisor's dialect: `supervisord.conf` and the files it includes, read unchanged.
//!
//! What Supervisor refuses is refused here, but with its place, and all of it at once; what it takes is taken, with the
//! few differences that `tests/supervisor/differences.md` lists. What it silently ignores (a slip of the keyboard in a
//! key) is a warning. Our own keys may stand in a section: plain ones under their native name, those of the native
//! tables dotted (`recycle.max_jobs = 1000-2000`); Supervisor does not see them.
//!
//! A program that is in two groups or more has slots in each of them. It is then called `PROGRAM@GROUP` inside; people
//! see `group:process` anyway.

mod daemon;
mod environment;
mod include;
mod program;
mod values;

use crate::config::Surroundings;
use crate::config::error::{ConfigError, Fault, Report, did_you_mean};
use crate::config::expand::{Names, Word};
use crate::config::ini::{Ini, Section};
use crate::config::native::fleet;
use crate::config::native::plain;
use crate::config::native::program::Defined;
use crate::config::native::table::{Entry, Layers};
use crate::config::origin::{Origin, Place};
use crate::config::origin_of;
use crate::config::supervisord::daemon::Base;
use crate::config::supervisord::program::Sort;
use crate::config::tree::Value;
use crate::model::name::{self, GroupName};
use crate::model::plan::Plan;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Priority of a group that says none.
const GROUP_PRIORITY: i64 = 999;
/// The same of a pool of listeners: started first, stopped last.
const LISTENER_PRIORITY: i64 = -1;

/// Reads `path` and all that it includes.
pub fn load(path: &Path, around: &Surroundings<'_>) -> Result<Plan, Vec<ConfigError>> {
    let mut report = Report::default();
    let main_origin = Arc::new(origin_of(path, around));
    let mut ini = Ini::default();
    open(path, &main_origin, &mut ini, around, &mut report);
    read_included(path, &main_origin, &mut ini, around, &mut report);
    let whole = Place::whole(&main_origin);
    if report.has_unreadable_file() && ini.sections.is_empty() {
        return Err(report.verdict().err().unwrap_or_default());
    }
    let (daemon, base) = daemon::read(&ini, &whole, around, &mut report);
    let mut fleet = Fleet { ini: &ini, base: &base, around, report: &mut report, programs: Vec::new(), priorities: BTreeMap::new() };
    fleet.sections();
    let in_groups = fleet.groups();
    fleet.alone(&in_groups);
    let Fleet { mut programs, priorities, .. } = fleet;
    for (place, fault) in same_names(&programs) {
        report.add(ConfigError { place, ..fault });
    }
    programs.sort_by(|a, b| a.head.place.cmp(&b.head.place));
    fleet::check(&programs, &mut report);
    let warnings = report.verdict()?;
    let programs = programs.into_iter().map(|Defined { spec, .. }| (spec.name.clone(), Arc::new(spec))).collect();
    Ok(Plan { daemon, programs, groups: priorities, warnings })
}

/// Reads one file over what is there.
fn open(path: &Path, origin: &Arc<Origin>, ini: &mut Ini, around: &Surroundings<'_>, report: &mut Report) {
    let unreadable = |report: &mut Report, place: &Place, why: String| report.error(place, "", Fault::Unreadable { why }, None);
    match around.files.read(path) {
        Err(error) => unreadable(report, &Place::whole(origin), format!("cannot be read: {}", plain(&error))),
        Ok(bytes) => match std::str::from_utf8(&bytes) {
            Ok(text) => ini.read(origin, text, report),
            Err(error) => {
                let line = memchr::memchr_iter(b'\n', &bytes[..error.valid_up_to()]).count() + 1;
                let place = Place { line: u32::try_from(line).unwrap_or(u32::MAX), column: 1, ..Place::whole(origin) };
                unreadable(report, &place, String::from("this line is no UTF-8 text"));
            }
        },
    }
}

/// `[include] files`. Included files cannot include others.
fn read_included(main: &Path, main_origin: &Arc<Origin>, ini: &mut Ini, around: &Surroundings<'_>, report: &mut Report) {
    let Some(section) = ini.section("include") else { return };
    let defaults = Layers::one("DEFAULT", &ini.defaults);
    let layers = Layers::one(&section.name, &section.table).over(defaults);
    warn_unknown(section, &["files"], report);
    let Some(entry) = layers.find("files") else {
        let fault = Fault::Missing { expected: String::from("patterns of files, such as files = conf.d/*.conf") };
        report.error(&section.place, "include.files", fault, None);
        return;
    };
    let names = Names::new(around.env).with("host_node_name", Word::Text(around.hostname.to_owned()));
    let patterns = match values::text(&entry, &names) {
        Ok(patterns) => patterns,
        Err(error) => {
            report.add(error);
            return;
        }
    };
    let mut found: Vec<(PathBuf, Arc<Origin>)> = Vec::new();
    for pattern in patterns.split_whitespace() {
        let absolute = if pattern.starts_with('/') { pattern.to_owned() } else { format!("{}/{pattern}", main_origin.directory) };
        let paths = include::matching(&absolute, around.files);
        if paths.is_empty() {
            report.warn(entry.place(), &entry.key, &format!("no file matches {absolute}"));
        }
        for path in paths {
            // Read twice it would say the same again.
            if found.iter().any(|(other, _)| *other == path) {
                continue;
            }
            let shown = path.strip_prefix(&main_origin.directory).map_or_else(|_| path.clone(), |rest| main.with_file_name("").join(rest));
            let directory = path.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
            let rank = u32::try_from(found.len() + 1).unwrap_or(u32::MAX);
            let origin = Origin { rank, file: shown.to_string_lossy().into_owned(), directory };
            found.push((path, Arc::new(origin)));
        }
    }
    for (path, origin) in found {
        let before = ini.section("include").map(|section| section.table.0.len());
        let had = ini.section("include").and_then(|section| section.table.0.get("files")).map(|item| item.key.clone());
        open(&path, &origin, ini, around, report);
        let now = ini.section("include").and_then(|section| section.table.0.get("files")).map(|item| item.key.clone());
        if had != now || before != ini.section("include").map(|section| section.table.0.len()) {
            report.warn(&Place::whole(&origin), "include", "has no effect here: included files cannot include others");
        }
    }
}

/// A key that nobody knows is a warning, because Supervisor passes over it in silence.
fn warn_unknown(section: &Section, known: &[&str], report: &mut Report) {
    for (key, item) in &section.table.0 {
        if !known.contains(&key.as_str()) {
            let mend = did_you_mean(key, known.iter().copied()).map_or_else(String::new, |mend| format!("; {mend}"));
            report.warn(&item.key, &format!("{}.{key}", section.name), &format!("unknown key, which has no effect{mend}"));
        }
    }
}

/// Two definitions of one name: inside there can be only one.
fn same_names(programs: &[Defined]) -> Vec<(Place, ConfigError)> {
    let mut seen: BTreeMap<&str, &Defined> = BTreeMap::new();
    let mut faults = Vec::new();
    for program in programs {
        match seen.get(program.spec.name.as_str()) {
            Some(first) => {
                let why = format!("the name \"{}\" is taken by {} ({})", program.spec.name, first.head.key, first.head.place);
                let mend = Some(String::from("rename one of the two"));
                let place = program.head.place.clone();
                let error = ConfigError { place: place.clone(), key: program.head.key.clone(), fault: Fault::Conflict { why }, mend };
                faults.push((place, error));
            }
            None => {
                seen.insert(program.spec.name.as_str(), program);
            }
        }
    }
    faults
}

/// Sections into programs and groups.
struct Fleet<'f, 'e> {
    ini: &'f Ini,
    base: &'f Base<'e>,
    around: &'f Surroundings<'e>,
    report: &'f mut Report,
    programs: Vec<Defined>,
    priorities: BTreeMap<GroupName, i32>,
}

/// A `[group:x]` with its members, each a section and its name.
struct Group<'f> {
    name: String,
    section: &'f Section,
    members: Vec<(&'f Section, Sort, String)>,
}

impl<'f> Fleet<'f, '_> {
    /// Warns of what has no effect.
    fn sections(&mut self) {
        for section in &self.ini.sections {
            let name = section.name.as_str();
            let kind = name.split_once(':').map_or(name, |(kind, _)| kind);
            match kind {
                "supervisord" if name == kind => warn_unknown(section, &daemon::SUPERVISORD_KEYS, self.report),
                "group" => warn_unknown(section, &["priority", "programs"], self.report),
                "program" | "eventlistener" | "fcgi-program" if name != kind => {}
                "rpcinterface" if name != kind => self.rpc_interface(section),
                "ctlplugin" if name != kind => {
                    let text = "plugins for supervisorctl are Python code that ganger cannot run; \
                                `gangerctl --json` and the REST API are for scripts of your own";
                    self.report.warn(&section.place, name, text);
                }
                // supervisorctl's own affairs, and gangerctl's.
                "supervisorctl" | "include" if name == kind => {}
                _ if name.starts_with("unix_http_server") => warn_unknown(section, &daemon::UNIX_KEYS, self.report),
                _ if name.starts_with("inet_http_server") => warn_unknown(section, &daemon::INET_KEYS, self.report),
                _ => {
                    let known = [
                        "supervisord",
                        "supervisorctl",
                        "include",
                        "program",
                        "group",
                        "eventlistener",
                        "fcgi-program",
                        "rpcinterface",
                        "ctlplugin",
                        "unix_http_server",
                        "inet_http_server",
                    ];
                    let mend = did_you_mean(kind, known).map_or_else(String::new, |mend| format!("; {mend}"));
                    let text = if known.contains(&kind) {
                        format!("[{name}] has no effect; did you mean [{kind}:NAME]?")
                    } else {
                        format!("unknown section [{name}], which has no effect{mend}")
                    };
                    self.report.warn(&section.place, "", &text);
                }
            }
        }
    }

    fn rpc_interface(&mut self, section: &Section) {
        let layers = self.layers(section);
        let key = "supervisor.rpcinterface_factory";
        let Some(entry) = layers.find(key) else {
            let fault = Fault::Missing { expected: format!("{key} = MODULE:FUNCTION") };
            self.report.error(&section.place, &section.name, fault, None);
            return;
        };
        let factory = self.read(&entry, values::text);
        if factory.is_some_and(|factory| factory != "supervisor.rpcinterface:make_main_rpcinterface") {
            let text = "this plugin is Python code that ganger cannot run; its methods are not there. \
                        The methods of supervisor.* and system.* always are, and the REST API has more";
            self.report.warn(entry.place(), &section.name, text);
        }
    }

    fn layers(&self, section: &'f Section) -> Layers<'f> {
        Layers::one(&section.name, &section.table).over(Layers::one("DEFAULT", &self.ini.defaults))
    }

    fn read<T>(&mut self, entry: &Entry<'_>, read: impl FnOnce(&Entry<'_>, &Names<'_>) -> Result<T, ConfigError>) -> Option<T> {
        read(entry, &self.base.names).map_err(|error| self.report.add(error)).ok()
    }

    /// The name behind the colon, if it is a good one.
    fn name_of(&mut self, section: &Section) -> Option<String> {
        let name = section.name.split_once(':').map_or("", |(_, name)| name).trim();
        match name::fault_in(name) {
            None => Some(name.to_owned()),
            Some(fault) => {
                self.report.error(&section.place, &section.name, Fault::Conflict { why: fault.to_owned() }, None);
                None
            }
        }
    }

    fn priority(&mut self, section: &'f Section, default: i64) -> i32 {
        let layers = self.layers(section);
        let read = values::whole(i64::from(i32::MIN)..=i64::from(i32::MAX), &self.base.names);
        layers.read(self.report, "priority", read).unwrap_or(i32::try_from(default).expect("our own defaults are small"))
    }

    /// Reads all `[group:x]` and the programs in them; returns the names of the sections that are members.
    fn groups(&mut self) -> BTreeSet<&'f str> {
        let ini = self.ini;
        let mut groups = Vec::new();
        for section in ini.sections.iter().filter(|section| section.name.starts_with("group:")) {
            let Some(name) = self.name_of(section) else { continue };
            let priority = self.priority(section, GROUP_PRIORITY);
            self.priorities.insert(GroupName::new(&name), priority);
            let members = self.members(section);
            groups.push(Group { name, section, members });
        }
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for (section, ..) in groups.iter().flat_map(|group| &group.members) {
            *times.entry(section.name.as_str()).or_default() += 1;
        }
        for group in &groups {
            for (section, sort, program) in &group.members {
                let name = if times[section.name.as_str()] > 1 { format!("{program}@{}", group.name) } else { program.clone() };
                let layers = self.layers(section);
                let head = program::Head { section, sort: *sort, program, name: &name, group: &group.name };
                self.programs.push(program::read(&head, &layers, self.base, self.around, self.report));
            }
        }
        let members: BTreeSet<&str> = times.into_keys().collect();
        for group in &groups {
            let alone = ini.sections.iter().find(|section| {
                Sort::of(&section.name).is_some_and(|(_, name)| name.trim() == group.name) && !members.contains(section.name.as_str())
            });
            if let Some(other) = alone {
                let why = format!("[{}] ({}) is a group of that name by itself", other.name, other.place);
                let mend = Some(String::from("rename the group, or take the program in"));
                self.report.error(&group.section.place, &group.section.name, Fault::Conflict { why }, mend);
            }
        }
        members
    }

    fn members(&mut self, section: &'f Section) -> Vec<(&'f Section, Sort, String)> {
        let ini = self.ini;
        let layers = self.layers(section);
        let mut members: Vec<(&Section, Sort, String)> = Vec::new();
        let Some(entry) = layers.find("programs") else {
            self.report.warn(&section.place, &section.name, "there is no program in this group");
            return members;
        };
        for name in values::list(&self.read(&entry, values::text).unwrap_or_default()) {
            let program = ini.section(&format!("program:{name}"));
            let fcgi = ini.section(&format!("fcgi-program:{name}"));
            let (member, sort) = match (program, fcgi) {
                (Some(_), Some(_)) => {
                    let why = format!("there are [program:{name}] and [fcgi-program:{name}], and it cannot be told which is meant");
                    self.report.add(entry.conflict(&why, Some("rename one of the two")));
                    continue;
                }
                (None, None) => {
                    let known = ini.sections.iter().filter_map(|section| Sort::of(&section.name)).map(|(_, name)| name);
                    let mend = did_you_mean(&name, known);
                    let fault =
                        Fault::Value { found: format!("{name:?}"), expected: String::from("the name of a program that is defined") };
                    if !self.report.has_broken_file() {
                        self.report.error(entry.place(), &entry.key, fault, mend);
                    }
                    continue;
                }
                (Some(section), None) => (section, Sort::Program),
                (None, Some(section)) => (section, Sort::Fcgi),
            };
            if members.iter().any(|(other, ..)| other.name == member.name) {
                continue;
            }
            if let Some(name) = self.name_of(member) {
                members.push((member, sort, name));
            }
        }
        members
    }

    /// Reads the programs that are in no group, each of which is one by itself, and the listeners.
    fn alone(&mut self, members: &BTreeSet<&str>) {
        let ini = self.ini;
        for section in &ini.sections {
            let Some((sort, _)) = Sort::of(&section.name) else { continue };
            if members.contains(section.name.as_str()) {
                continue;
            }
            let Some(name) = self.name_of(section) else { continue };
            if sort == Sort::Listener {
                let priority = self.priority(section, LISTENER_PRIORITY);
                self.priorities.insert(GroupName::new(&name), priority);
            }
            let layers = self.layers(section);
            let head = program::Head { section, sort, program: &name, name: &name, group: &name };
            self.programs.push(program::read(&head, &layers, self.base, self.around, self.report));
        }
    }
}

/// The text of an entry, unexpanded.
fn raw<'e>(entry: &'e Entry<'_>) -> &'e str {
    match entry.value() {
        Value::Text(text) => text,
        Value::Whole { .. } | Value::Fraction(_) | Value::Flag(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => "",
    }
}

#[cfg(test)]
mod tests;
