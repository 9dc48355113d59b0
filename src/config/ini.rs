//! The grammar of `supervisord.conf`: what Python's `RawConfigParser` reads, as Supervisor sets it up
//! (`inline_comment_prefixes=(';', '#')`, `strict=False`).
//!
//! No crate reads it so: continuation lines with blank lines in them, comments that begin at `;` or `#` after white
//! space and nowhere else, repeated sections that merge, keys in any case, `[DEFAULT]` beneath every section. What
//! Python has not is kept here, the place of every key and value. Quotes, backslashes and `%` mean nothing at this
//! layer.

use crate::config::error::{Fault, Report};
use crate::config::origin::{Origin, Place};
use crate::config::tree::{Item, Node, Table, Value};
use std::sync::Arc;

/// All that has been read so far; files are read one after another into the same one.
#[derive(Debug, Default)]
pub struct Ini {
    /// In the order in which their names first came up.
    pub sections: Vec<Section>,
    /// `[DEFAULT]`.
    pub defaults: Table,
}

#[derive(Debug)]
pub struct Section {
    /// Exactly what stands between the brackets.
    pub name: String,
    /// Where its head first stands.
    pub place: Place,
    /// Keys in lower case; every value is a text.
    pub table: Table,
}

/// White space as Python's `str.isspace` sees it.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Where the values of the lines that follow go.
#[derive(Clone, Copy)]
enum Into {
    Nowhere,
    Defaults,
    Section(usize),
}

impl Ini {
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Reads `text` over what is there. What is wrong goes to `report`; the rest is read all the same.
    pub fn read(&mut self, origin: &Arc<Origin>, text: &str, report: &mut Report) {
        Reader { ini: self, origin, into: Into::Nowhere, open: None, indent: 0, lost: false }.read(text, report);
    }
}

struct Reader<'r> {
    ini: &'r mut Ini,
    origin: &'r Arc<Origin>,
    into: Into,
    /// The key whose value may go on, with the lines of it.
    open: Option<Open>,
    /// How deep the last section or key was indented.
    indent: usize,
    /// True once lines before the first section have been told of.
    lost: bool,
}

struct Open {
    key: String,
    key_place: Place,
    value_place: Place,
    lines: Vec<String>,
}

impl Reader<'_> {
    fn read(mut self, text: &str, report: &mut Report) {
        let text = match text.strip_prefix('\u{feff}') {
            None => text,
            Some(rest) => {
                let why = String::from("the file begins with a byte order mark, which Supervisor does not take either");
                report.error(&self.at(1, 0, ""), "", Fault::Syntax { why }, Some(String::from("save it as UTF-8 without one")));
                rest
            }
        };
        // As Python's universal newlines.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut number = 0;
        for line in text.split('\n') {
            number += 1;
            self.line(number, line, report);
        }
        self.close();
    }

    fn at(&self, line: u32, bytes: usize, text: &str) -> Place {
        let column = text[..bytes].chars().count() + 1;
        Place { origin: self.origin.clone(), line, column: u32::try_from(column).unwrap_or(u32::MAX) }
    }

    fn line(&mut self, number: u32, line: &str, report: &mut Report) {
        let comment = comment_start(line);
        let value = line[..comment.unwrap_or(line.len())].trim_matches(is_space);
        if value.is_empty() {
            // An empty line may be part of a value; a comment is not there at all.
            if let (None, Some(open)) = (comment, &mut self.open) {
                open.lines.push(String::new());
            }
            return;
        }
        let indent = line.len() - line.trim_start_matches(is_space).len();
        let depth = line[..indent].chars().count();
        if let Some(open) = self.open.as_mut().filter(|_| depth > self.indent) {
            open.lines.push(value.to_owned());
            return;
        }
        self.indent = depth;
        if let Some(name) = section_name(value) {
            self.close();
            let place = self.at(number, indent, line);
            self.into = self.enter(name, place);
        } else if matches!(self.into, Into::Nowhere) {
            if !self.lost {
                self.lost = true;
                let why = String::from("this line stands before the first [section]");
                report.error(&self.at(number, indent, line), "", Fault::Syntax { why }, None);
            }
        } else {
            self.close();
            self.key(number, line, indent, value, report);
        }
    }

    fn enter(&mut self, name: &str, place: Place) -> Into {
        if name == "DEFAULT" {
            return Into::Defaults;
        }
        let at = self.ini.sections.iter().position(|section| section.name == name).unwrap_or_else(|| {
            self.ini.sections.push(Section { name: name.to_owned(), place, table: Table::default() });
            self.ini.sections.len() - 1
        });
        Into::Section(at)
    }

    fn key(&mut self, number: u32, line: &str, indent: usize, value: &str, report: &mut Report) {
        let key_place = self.at(number, indent, line);
        match value.find(['=', ':']) {
            Some(at) if at > 0 => {
                let text = value[at + 1..].trim_start_matches(is_space);
                let value_at = indent + value.len() - text.len();
                self.open = Some(Open {
                    key: value[..at].trim_end_matches(is_space).to_lowercase(),
                    key_place,
                    value_place: self.at(number, value_at, line),
                    lines: vec![text.to_owned()],
                });
            }
            Some(_) => {
                let why = String::from("there is no key before the value");
                report.error(&key_place, "", Fault::Syntax { why }, None);
            }
            None => {
                let why = format!("found {:?}, expected \"key = value\" or \"[section]\"", value.chars().take(60).collect::<String>());
                let mend = Some(String::from("a line that goes on from the one above must be indented deeper than its key"));
                report.error(&key_place, "", Fault::Syntax { why }, mend);
            }
        }
    }

    /// The value at hand is complete.
    fn close(&mut self) {
        let Some(Open { key, key_place, value_place, lines }) = self.open.take() else { return };
        let text = lines.join("\n").trim_end_matches(is_space).to_owned();
        let item = Item { key: key_place, node: Node { place: value_place, value: Value::Text(text) } };
        match self.into {
            Into::Nowhere => {}
            Into::Defaults => {
                self.ini.defaults.0.insert(key, item);
            }
            Into::Section(at) => {
                self.ini.sections[at].table.0.insert(key, item);
            }
        }
    }
}

/// Where a comment begins: at a line's first character, or behind white space.
fn comment_start(line: &str) -> Option<usize> {
    if line.trim_start_matches(is_space).starts_with(['#', ';']) {
        return Some(0);
    }
    let mut before = None;
    for (at, c) in line.char_indices() {
        if matches!(c, ';' | '#') && before.is_none_or(is_space) {
            return Some(at);
        }
        before = Some(c);
    }
    None
}

/// `[name]`, up to the last bracket; what follows it does not count.
fn section_name(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let end = inner.rfind(']')?;
    (end > 0).then(|| &inner[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Ini, String) {
        let origin = Arc::new(Origin { rank: 0, file: "s.conf".into(), directory: "/".into() });
        let mut report = Report::default();
        let mut ini = Ini::default();
        ini.read(&origin, text, &mut report);
        let errors = report.verdict().err().unwrap_or_default();
        (ini, errors.iter().map(|error| format!("{error}\n")).collect())
    }

    /// `section.key=value` for all of them, in order.
    fn flat(text: &str) -> Vec<String> {
        let (ini, errors) = read(text);
        assert_eq!(errors, "", "{text}");
        let all = ini.sections.iter().flat_map(|section| section.table.0.iter().map(|(key, item)| (section.name.clone(), key, item)));
        all.map(|(section, key, item)| match &item.node.value {
            Value::Text(text) => format!("{section}.{key}={text}"),
            other => panic!("{other:?}"),
        })
        .collect()
    }

    /// Expected values are what Python 3.11 `RawConfigParser(inline_comment_prefixes=(';', '#'), strict=False)` gives.
    #[test]
    fn lines_read_as_python_reads_them() {
        let cases: &[(&str, &[&str])] = &[
            ("k=v;x", &["a.k=v;x"]),
            ("k=v#x", &["a.k=v#x"]),
            ("k=v ;c", &["a.k=v"]),
            ("k=v #c", &["a.k=v"]),
            ("k = a ; b # c", &["a.k=a"]),
            ("k: v", &["a.k=v"]),
            ("k = v = w", &["a.k=v = w"]),
            ("k=a:b", &["a.k=a:b"]),
            ("k=one\n\n  two", &["a.k=one\n\ntwo"]),
            ("k=one\n\ntwo=2", &["a.k=one", "a.two=2"]),
            ("k=\n  x\n  y ; c", &["a.k=\nx\ny"]),
            ("k=one\n  ; no\n  two", &["a.k=one\ntwo"]),
            ("k=one\n# no\n  two", &["a.k=one\ntwo"]),
            ("  j=x\n   i=y", &["a.j=x\ni=y"]),
            ("  j=x\n  i=y", &["a.i=y", "a.j=x"]),
            ("K=1\nk=2", &["a.k=2"]),
            ("k=1\n[b]\nk=2\n[a]\nj=3\nk=4", &["a.j=3", "a.k=4", "b.k=2"]),
            ("k=1\r\n j=2\r\nl=3\r\n", &["a.k=1\nj=2", "a.l=3"]),
            ("k=1\rj=2", &["a.j=2", "a.k=1"]),
            ("k=[x]\n[c] ; d\nl=1\n[d]] e\nm=2", &["a.k=[x]", "c.l=1", "d].m=2"]),
            ("k=\"a ; b\"", &["a.k=\"a"]),
            ("k=ä\u{a0};c", &["a.k=ä"]),
            ("[ b ]\nk=1", &[" b .k=1"]),
            ("k=", &["a.k="]),
            ("k : = v", &["a.k== v"]),
        ];
        for (text, expected) in cases {
            assert_eq!(flat(&format!("[a]\n{text}")), *expected, "{text:?}");
        }
    }

    #[test]
    fn defaults_are_kept_apart() {
        let (ini, errors) = read("[DEFAULT]\nuser=anna\n[a]\nk=1\n");
        assert_eq!(errors, "");
        assert_eq!(ini.defaults.0.keys().collect::<Vec<_>>(), ["user"]);
        assert_eq!(ini.sections.len(), 1);
    }

    #[test]
    fn all_bad_lines_are_told_with_their_places() {
        let (ini, errors) = read("x=1\ny=2\n[a]\n  nonsense\n=v\nk = fine\n");
        assert_eq!(
            errors,
            "s.conf:1:1: this line stands before the first [section]\n\
             s.conf:4:3: found \"nonsense\", expected \"key = value\" or \"[section]\"; a line that goes on from the one above must be indented deeper than its key\n\
             s.conf:5:1: there is no key before the value\n"
        );
        assert_eq!(ini.section("a").expect("read").table.0["k"].node.place.to_string(), "s.conf:6:5");
        assert!(read("\u{feff}[a]\nk=1").1.starts_with("s.conf:1:1: the file begins with a byte order mark"));
    }
}
