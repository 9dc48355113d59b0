//! Tables that lie over one another: a program's own over `[defaults]`. The upper one wins, key by key and deep.
//!
//! Every key that is read goes through here, so that an entry always knows its dotted name and its place, and
//! a fault in it goes to the report instead of ending the reading.

use crate::config::error::{ConfigError, Fault, Report, did_you_mean};
use crate::config::origin::Place;
use crate::config::tree::{Item, Node, Table, Value};
use std::collections::BTreeMap;

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Entry<'t> {
    /// Dotted, from the top of its file.
    pub key: String,
    /// The last part of it, as it is meant (without quotes).
    pub name: &'t str,
    pub item: &'t Item,
}

impl Entry<'_> {
    pub fn place(&self) -> &Place {
        &self.item.node.place
    }

    pub fn value(&self) -> &Value {
        &self.item.node.value
    }

    /// The directory of the file it stands in.
    pub fn here(&self) -> &str {
        &self.item.node.place.origin.directory
    }

    pub fn wrong(&self, expected: &str) -> ConfigError {
        let fault = Fault::Value { found: self.item.node.found(), expected: expected.to_owned() };
        ConfigError { place: self.place().clone(), key: self.key.clone(), fault, mend: None }
    }

    pub fn wrong_but(&self, expected: &str, mend: Option<String>) -> ConfigError {
        ConfigError { mend, ..self.wrong(expected) }
    }

    /// A fault in one element of a list.
    pub fn wrong_element(&self, node: &Node, expected: &str) -> ConfigError {
        let fault = Fault::Value { found: node.found(), expected: expected.to_owned() };
        ConfigError { place: node.place.clone(), key: self.key.clone(), fault, mend: None }
    }

    pub fn conflict(&self, why: &str, mend: Option<&str>) -> ConfigError {
        let fault = Fault::Conflict { why: why.to_owned() };
        ConfigError { place: self.place().clone(), key: self.key.clone(), fault, mend: mend.map(str::to_owned) }
    }
}

/// Tables, the uppermost first.
#[derive(Clone, Debug, Default)]
pub struct Layers<'t> {
    layers: Vec<Layer<'t>>,
}

#[derive(Clone, Debug)]
struct Layer<'t> {
    /// Dotted name of the table; empty at the top of a file.
    path: String,
    table: &'t Table,
}

impl<'t> Layers<'t> {
    pub fn one(path: &str, table: &'t Table) -> Layers<'t> {
        Layers { layers: vec![Layer { path: path.to_owned(), table }] }
    }

    /// These over those.
    pub fn over(mut self, mut lower: Layers<'t>) -> Layers<'t> {
        self.layers.append(&mut lower.layers);
        self
    }

    pub fn find(&self, key: &str) -> Option<Entry<'t>> {
        self.layers.iter().find_map(|layer| layer.entry(key))
    }

    /// Reads a key if it is there; what is wrong with it goes to the report.
    pub fn read<T>(&self, report: &mut Report, key: &str, read: impl FnOnce(&Entry<'t>) -> Result<T, ConfigError>) -> Option<T> {
        match read(&self.find(key)?) {
            Ok(value) => Some(value),
            Err(error) => {
                report.add(error);
                None
            }
        }
    }

    /// Reads a key into `target`, which keeps its default if the key is not there or is wrong.
    pub fn set<T>(&self, report: &mut Report, key: &str, target: &mut T, read: impl FnOnce(&Entry<'t>) -> Result<T, ConfigError>) {
        if let Some(value) = self.read(report, key, read) {
            *target = value;
        }
    }

    /// As `set`, for what is off unless it is said.
    pub fn set_some<T>(
        &self,
        report: &mut Report,
        key: &str,
        target: &mut Option<T>,
        read: impl FnOnce(&Entry<'t>) -> Result<T, ConfigError>,
    ) {
        if let Some(value) = self.read(report, key, read) {
            *target = Some(value);
        }
    }

    /// The sub-tables of that name, from every layer that has one.
    pub fn sub(&self, report: &mut Report, key: &str) -> Layers<'t> {
        let mut layers = Vec::new();
        for entry in self.layers.iter().filter_map(|layer| layer.entry(key)) {
            match &entry.item.node.value {
                Value::Table(table) => layers.push(Layer { path: entry.key, table }),
                Value::Text(_) | Value::Whole { .. } | Value::Fraction(_) | Value::Flag(_) | Value::List(_) | Value::Other(_) => {
                    report.add(entry.wrong("a table"));
                }
            }
        }
        Layers { layers }
    }

    /// Every key once, in alphabetical order, each from the uppermost layer that has it.
    pub fn entries(&self) -> Vec<Entry<'t>> {
        let mut entries = BTreeMap::new();
        for layer in self.layers.iter().rev() {
            for (key, item) in &layer.table.0 {
                entries.insert(key, Entry { key: dotted(&layer.path, key), name: key, item });
            }
        }
        entries.into_values().collect()
    }

    /// Reports every key that is not in `known`; `elsewhere` may know where it belongs.
    pub fn reject_unknown(&self, report: &mut Report, known: &[&str], elsewhere: impl Fn(&str) -> Option<String>) {
        for layer in &self.layers {
            for (key, item) in &layer.table.0 {
                if !known.contains(&key.as_str()) {
                    let mend = elsewhere(key).or_else(|| did_you_mean(key, known.iter().copied()));
                    report.error(&item.key, &dotted(&layer.path, key), Fault::UnknownKey, mend);
                }
            }
        }
    }
}

impl<'t> Layer<'t> {
    fn entry(&self, key: &str) -> Option<Entry<'t>> {
        self.table.0.get_key_value(key).map(|(name, item)| Entry { key: dotted(&self.path, key), name, item })
    }
}

/// `path.key`, the key in quotes where TOML wants them.
pub fn dotted(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
