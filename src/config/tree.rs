//! A definition file as a tree of values that know their places: what both dialects are read into.
//!
//! Not serde: one walk over a tree finds every fault of a file, a derived reader stops at the first, and
//! flattened or untagged parts lose their places. Syntax errors do not stop the walk either: what could be
//! read of a broken file is checked all the same.

use crate::config::error::{Fault, Report};
use crate::config::origin::{Lines, Origin, Place};
use std::collections::BTreeMap;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// A value and where it begins.
#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    /// `octal`: written as `0o…`, which is what file modes want.
    Whole {
        value: i64,
        octal: bool,
    },
    /// A number with a fraction; also infinities and NaN, which are numbers to TOML.
    Fraction(f64),
    Flag(bool),
    List(Vec<Node>),
    Table(Table),
    /// A date, or a whole number that no computer integer holds; as written.
    Other(String),
}

/// Keys in alphabetical order, each with its own place.
#[derive(Clone, Debug, Default)]
pub struct Table(pub BTreeMap<String, Item>);

#[derive(Clone, Debug)]
pub struct Item {
    /// Where the key stands.
    pub key: Place,
    pub node: Node,
}

impl Node {
    /// The value as a message calls it.
    pub fn found(&self) -> String {
        match &self.value {
            Value::Text(text) => shortened(&format!("{text:?}")),
            Value::Whole { value, octal: false } => value.to_string(),
            Value::Whole { value, octal: true } => format!("0o{value:o}"),
            Value::Fraction(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
            Value::List(_) => String::from("a list"),
            Value::Table(_) => String::from("a table"),
            Value::Other(text) => shortened(text),
        }
    }
}

/// At most some 60 characters of `text`.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Reads TOML. Syntax errors go to `report`; the tree holds what could be read.
pub fn from_toml(origin: &Arc<Origin>, text: &str, report: &mut Report) -> Table {
    let lines = Lines::new(origin, text);
    let (table, faults) = DeTable::parse_recoverable(text);
    for fault in faults {
        let place = match fault.span() {
            Some(span) => lines.place(span.start),
            None => Place::whole(origin),
        };
        let mut why = fault.message().replace('\n', ", ");
        if why == "duplicate key" {
            why = format!("the key {} is there twice", fault.span().map_or("", |span| lines.slice(span)));
        }
        report.error(&place, "", Fault::Syntax { why }, None);
    }
    convert_table(table.get_ref(), &lines)
}

fn convert_table(table: &DeTable<'_>, lines: &Lines<'_>) -> Table {
    let items = table.iter().map(|(key, value)| {
        let node = convert(value.get_ref(), value.span(), lines);
        (key.get_ref().to_string(), Item { key: lines.place(key.span().start), node })
    });
    Table(items.collect())
}

fn convert(value: &DeValue<'_>, span: std::ops::Range<usize>, lines: &Lines<'_>) -> Node {
    let place = lines.place(span.start);
    let value = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) => Value::Whole { value, octal: number.radix() == 8 },
            Err(_) => Value::Other(lines.slice(span).to_owned()),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(value) => Value::Fraction(value),
            Err(_) => Value::Other(lines.slice(span).to_owned()),
        },
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(date) => Value::Other(date.to_string()),
        DeValue::Array(list) => Value::List(list.iter().map(|item| convert(item.get_ref(), item.span(), lines)).collect()),
        DeValue::Table(table) => Value::Table(convert_table(table, lines)),
    };
    Node { place, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Table, Vec<String>) {
        let origin = Arc::new(Origin { rank: 0, file: "f.toml".into(), directory: "/".into() });
        let mut report = Report::default();
        let table = from_toml(&origin, text, &mut report);
        (table, report.verdict().err().unwrap_or_default().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn values_keep_their_places() {
        let (table, errors) = read("[program.a]\nnumprocs = 4\n\n[program.a.scale]\n  max = 0o17\n");
        assert_eq!(errors, Vec::<String>::new());
        let Value::Table(program) = &table.0["program"].node.value else { panic!("{table:?}") };
        let Value::Table(a) = &program.0["a"].node.value else { panic!("{program:?}") };
        assert_eq!(program.0["a"].key.to_string(), "f.toml:1:10");
        assert_eq!(a.0["numprocs"].key.to_string(), "f.toml:2:1");
        assert_eq!(a.0["numprocs"].node.place.to_string(), "f.toml:2:12");
        let Value::Table(scale) = &a.0["scale"].node.value else { panic!("{a:?}") };
        assert_eq!(scale.0["max"].node.found(), "0o17");
    }

    #[test]
    fn several_syntax_errors_come_at_once_and_the_rest_is_read() {
        let (table, errors) = read("a = \nb = 1\nc = [1,\n\nd = \"x\nb = 2\n");
        assert!(errors.len() >= 3, "{errors:?}");
        assert!(table.0.contains_key("b"), "{table:?}");
    }
}
