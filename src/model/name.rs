//! Names: of programs, groups and slots; `group:name_03` read and printed.
//!
//! A *slot* is a numbered place of a program and is known inside by program and number (`SlotId`). People
//! know it by its label `group:process`, which the spec renders (`ProgramSpec::label`); a bare `name` stands
//! for `name:name`, as in Supervisor.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A program's name: not empty, without white space, `:`, `/` or `*` (checked by `checked`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProgramName(pub Arc<str>);

/// A group's name; the same rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupName(pub Arc<str>);

impl ProgramName {
    pub fn new(text: &str) -> ProgramName {
        ProgramName(Arc::from(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl GroupName {
    pub fn new(text: &str) -> GroupName {
        GroupName(Arc::from(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is wrong with `text` as the name of a program, group or process; `None` if it is a good one.
pub fn fault_in(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("a name may not be empty")
    } else if text.len() > 128 {
        Some("a name may have 128 bytes at most")
    } else if text == "all" {
        Some("\"all\" stands for every program and cannot be a name")
    } else if text.starts_with('-') || text.starts_with('.') {
        Some("a name may not begin with \"-\" or \".\"")
    } else if text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, ':' | '/' | '*')) {
        Some("a name may not contain white space, \":\", \"/\" or \"*\"")
    } else {
        None
    }
}

/// A numbered place of a program; it stays while workers come and go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotId {
    pub program: ProgramName,
    pub number: u32,
}

impl SlotId {
    pub fn new(program: &ProgramName, number: u32) -> SlotId {
        SlotId { program: program.clone(), number }
    }
}

/// One life of one worker: unique for the life of the fleet, also over restarts of ours. Printed into `GANGER_RUN` with the
/// daemon's mark before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub u64);

/// What a person names: everything, a group (or program), or one process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    All,
    /// `group:*`, `group:`.
    Group(String),
    /// `group:process`.
    Process {
        group: String,
        process: String,
    },
    /// A bare word: the process `name:name` if there is one, else the program or group of that name.
    Bare(String),
}

impl Target {
    /// Reads what a person typed. Never fails: whether it exists is the engine's to say.
    pub fn read(text: &str) -> Target {
        match text.split_once(':') {
            _ if text == "all" || text == "*" => Target::All,
            None => Target::Bare(text.to_owned()),
            Some((group, "" | "*")) => Target::Group(group.to_owned()),
            Some((group, process)) => Target::Process { group: group.to_owned(), process: process.to_owned() },
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::All => f.write_str("all"),
            Target::Group(group) => write!(f, "{group}:*"),
            Target::Process { group, process } => write!(f, "{group}:{process}"),
            Target::Bare(name) => f.write_str(name),
        }
    }
}

/// As the text that a person types.
impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Target, D::Error> {
        Ok(Target::read(&String::deserialize(deserializer)?))
    }
}

/// A process's full name as Supervisor prints it: `group:process`, or just the name where the two are equal.
pub fn label(group: &str, process: &str) -> String {
    if group == process { process.to_owned() } else { format!("{group}:{process}") }
}

impl fmt::Display for ProgramName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `program#3`: for our own log and for tests; people see the label.
impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.program, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_and_print_as_supervisorctl_takes_them() {
        for (text, target) in [
            ("all", Target::All),
            ("mail", Target::Bare("mail".into())),
            ("mail:*", Target::Group("mail".into())),
            ("mail:", Target::Group("mail".into())),
            ("mail:mail_03", Target::Process { group: "mail".into(), process: "mail_03".into() }),
        ] {
            assert_eq!(Target::read(text), target);
            assert_eq!(Target::read(&target.to_string()), target);
        }
    }

    #[test]
    fn names_that_would_confuse_are_refused() {
        for bad in ["", "a b", "a:b", "a/b", "all", "-x", ".x", "a*"] {
            assert!(fault_in(bad).is_some(), "{bad}");
        }
        for good in ["mailer", "mailer_03", "größe", "a.b-c"] {
            assert!(fault_in(good).is_none(), "{good}");
        }
    }
}
