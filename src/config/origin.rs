//! Where a value stands: file, line and column, for every message about it.
//!
//! A `Place` also knows the directory of its file, because relative paths and `%(here)s` belong to the file in
//! which they are written and not to the one that includes it. Nothing here knows a dialect.

use std::fmt;
use std::sync::Arc;

/// A definition file, as messages call it and as paths in it are resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// 0 is the main file, then included ones as they are read: the order in which faults are told.
    pub rank: u32,
    /// As it was given or found (`fleet.toml`, `programs.d/mailer.toml`).
    pub file: String,
    /// Its directory, absolute.
    pub directory: String,
}

/// A place in a file. Line and column count from 1, the column in characters; line 0 means the file as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub origin: Arc<Origin>,
    pub line: u32,
    pub column: u32,
}

impl Place {
    /// The file as a whole.
    pub fn whole(origin: &Arc<Origin>) -> Place {
        Place { origin: origin.clone(), line: 0, column: 0 }
    }
}

/// `fleet.toml:14:13`, or just the file.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { f.write_str(&self.origin.file) } else { write!(f, "{}:{}:{}", self.origin.file, self.line, self.column) }
    }
}

/// Turns byte offsets of one text into places.
#[derive(Clone, Debug)]
pub struct Lines<'t> {
    origin: Arc<Origin>,
    text: &'t str,
    /// Offset of the first byte of every line.
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub fn new(origin: &Arc<Origin>, text: &'t str) -> Lines<'t> {
        let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1)).collect();
        Lines { origin: origin.clone(), text, starts }
    }

    /// The place of byte `offset`; offsets beyond the end or within a character are taken to the nearest one before.
    pub fn place(&self, offset: usize) -> Place {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let column = self.text[start..offset].chars().count() + 1;
        Place { origin: self.origin.clone(), line: number(line), column: number(column) }
    }

    /// What stands at `span`, as written.
    pub fn slice(&self, span: std::ops::Range<usize>) -> &'t str {
        let (from, to) = (self.text.floor_char_boundary(span.start), self.text.floor_char_boundary(span.end));
        &self.text[from.min(to)..to]
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let origin = Arc::new(Origin { rank: 0, file: "f.toml".into(), directory: "/".into() });
        let lines = Lines::new(&origin, "ab\nçé = 1\n");
        let at = |offset| lines.place(offset).to_string();
        assert_eq!(at(0), "f.toml:1:1");
        assert_eq!(at(2), "f.toml:1:3");
        assert_eq!(at(3), "f.toml:2:1");
        assert_eq!(at(4), "f.toml:2:1", "the middle of a character is its beginning");
        assert_eq!(at(8), "f.toml:2:4");
        assert_eq!(at(999), "f.toml:3:1");
        assert_eq!(Place::whole(&origin).to_string(), "f.toml");
    }
}
