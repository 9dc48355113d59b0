//! What is wrong with a definition: the place, the key, what was found, what was expected, and the way out.
//!
//! `Report` gathers them, so that one reading tells all that is wrong with all files. A fault found by way of
//! `[defaults]` comes up once for every program and is told once.

use crate::config::origin::Place;
use std::fmt;

/// One fault. Its `Display` is a whole line:
/// `fleet.toml:14:13: program.mailer.startsecs: found "fast", expected a duration such as "5s"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    pub place: Place,
    /// Dotted, from the top of the file; empty for the file as a whole.
    pub key: String,
    pub fault: Fault,
    /// The way out, where we know one: `did you mean "numprocs"?`.
    pub mend: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The file cannot be read, or is no TOML.
    Unreadable { why: String },
    /// Not the grammar of the file, or a key that is there twice.
    Syntax { why: String },
    /// A key that nobody knows there.
    UnknownKey,
    /// A value of a wrong type, or out of bounds.
    Value { found: String, expected: String },
    /// A key that must be there and is not.
    Missing { expected: String },
    /// Good in itself, but at odds with something else.
    Conflict { why: String },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        match &self.fault {
            Fault::Unreadable { why } | Fault::Syntax { why } | Fault::Conflict { why } => f.write_str(why)?,
            Fault::UnknownKey => f.write_str("unknown key")?,
            Fault::Value { found, expected } => write!(f, "found {found}, expected {expected}")?,
            Fault::Missing { expected } => write!(f, "found nothing, expected {expected}")?,
        }
        match &self.mend {
            Some(mend) => write!(f, "; {mend}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// All that came up while reading.
#[derive(Debug, Default)]
pub struct Report {
    errors: Vec<ConfigError>,
    warnings: Vec<(Place, String)>,
}

impl Report {
    pub fn error(&mut self, place: &Place, key: &str, fault: Fault, mend: Option<String>) {
        self.add(ConfigError { place: place.clone(), key: key.to_owned(), fault, mend });
    }

    pub fn add(&mut self, error: ConfigError) {
        self.errors.push(error);
    }

    pub fn extend(&mut self, errors: impl IntoIterator<Item = ConfigError>) {
        self.errors.extend(errors);
    }

    /// Worth telling, but no reason to refuse.
    pub fn warn(&mut self, place: &Place, key: &str, text: &str) {
        let line = if key.is_empty() { format!("{place}: {text}") } else { format!("{place}: {key}: {text}") };
        self.warnings.push((place.clone(), line));
    }

    pub fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// True if a file could not be read at all.
    pub fn has_unreadable_file(&self) -> bool {
        self.errors.iter().any(|error| matches!(error.fault, Fault::Unreadable { .. }))
    }

    /// True if there may be more in the files than could be read.
    pub fn has_broken_file(&self) -> bool {
        self.errors.iter().any(|error| matches!(error.fault, Fault::Syntax { .. } | Fault::Unreadable { .. }))
    }

    /// The errors in the order of the files, each once; or else the warnings.
    pub fn verdict(mut self) -> Result<Vec<String>, Vec<ConfigError>> {
        if self.errors.is_empty() {
            self.warnings.sort();
            self.warnings.dedup();
            return Ok(self.warnings.into_iter().map(|(_, line)| line).collect());
        }
        let broken: Vec<Place> =
            self.errors.iter().filter(|error| matches!(error.fault, Fault::Syntax { .. })).map(|error| error.place.clone()).collect();
        self.errors.retain(|error| !follows_from(&broken, error));
        self.errors.sort();
        self.errors.dedup();
        Err(self.errors)
    }
}

/// Whether a fault may only be there because the grammar is broken at one of those places: on the same line, or because
/// a table's head or a key was not understood.
fn follows_from(broken: &[Place], error: &ConfigError) -> bool {
    let mut here = broken.iter().filter(|place| place.origin == error.place.origin);
    match &error.fault {
        Fault::Syntax { .. } | Fault::Unreadable { .. } => false,
        Fault::Missing { .. } => here.next().is_some(),
        Fault::UnknownKey if !error.key.contains('.') => here.next().is_some(),
        Fault::UnknownKey | Fault::Value { .. } | Fault::Conflict { .. } => here.any(|place| place.line == error.place.line),
    }
}

/// `did you mean "numprocs"?`, if one of `known` is near enough to `word`.
pub fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        // A third of the word may be wrong; beyond that a guess is more confusing than none.
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(lower.chars().count()) / 3)
        .min()
        .map(|(_, near)| format!("did you mean \"{near}\"?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keyboard_is_guessed_and_a_strange_word_is_not() {
        let known = ["numprocs", "numprocs_start", "startsecs"];
        assert_eq!(did_you_mean("numproc", known).as_deref(), Some("did you mean \"numprocs\"?"));
        assert_eq!(did_you_mean("start_secs", known).as_deref(), Some("did you mean \"startsecs\"?"));
        assert_eq!(did_you_mean("colour", known), None);
    }
}
