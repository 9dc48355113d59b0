//! `[include] files`: patterns into files, as Python's `glob.glob` finds them.
//!
//! `*`, `?` and `[…]` match within one directory, `**` is no more than `*`, braces are ordinary characters, a
//! bracket that never closes as well, and nothing matches a hidden file but a pattern that begins with a dot.

use crate::config::Files;
use std::path::{Path, PathBuf};

/// What `pattern` (absolute) matches and is no directory, in order of the names.
pub fn matching(pattern: &str, files: &dyn Files) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    let parts: Vec<&str> = pattern.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        if !part.contains(['*', '?', '[']) {
            found.iter_mut().for_each(|path| path.push(part));
            if last {
                found.retain(|path| exists(path, files));
            }
            continue;
        }
        let mut next = Vec::new();
        for directory in found {
            // A directory that is not there, or that we may not read, matches nothing.
            let names = files.list(&directory).unwrap_or_default();
            let fits = |name: &&String| (!name.starts_with('.') || part.starts_with('.')) && fits(part, name);
            next.extend(names.iter().filter(fits).map(|name| directory.join(name)));
        }
        found = next;
    }
    found.retain(|path| !files.is_directory(path));
    found.sort();
    found
}

/// Whether a plain name is there, asked of its directory, because a file need not be readable to be there.
fn exists(path: &Path, files: &dyn Files) -> bool {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return false };
    files.list(directory).is_ok_and(|names| names.iter().any(|other| name.to_string_lossy() == other.as_str()))
}

/// Python's `fnmatch`, without regard to case of the platform: Linux has none.
fn fits(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Where to go on if the last `*` has to take one character more.
    let mut again: Option<(usize, usize)> = None;
    let (mut p, mut n) = (0, 0);
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                again = Some((p, n));
                p += 1;
                continue;
            }
            Some('?') => Some(p + 1),
            Some('[') => match class(&pattern[p + 1..], name[n]) {
                Some((true, length)) => Some(p + 1 + length),
                Some((false, _)) => None,
                None => (name[n] == '[').then_some(p + 1),
            },
            Some(c) => (*c == name[n]).then_some(p + 1),
            None => None,
        };
        match (step, again) {
            (Some(next), _) => (p, n) = (next, n + 1),
            (None, Some((star, taken))) => {
                again = Some((star, taken + 1));
                (p, n) = (star + 1, taken + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// What follows a `[`: whether `c` is in it, and its length with the `]`. `None` if it never closes.
fn class(text: &[char], c: char) -> Option<(bool, usize)> {
    let negated = text.first() == Some(&'!');
    let start = usize::from(negated);
    // A bracket that comes first is a member.
    let end = (start + 1..text.len()).find(|at| text[*at] == ']')?;
    let members = &text[start..end];
    let mut inside = false;
    let mut at = 0;
    while at < members.len() {
        match members[at..] {
            [low, '-', high, ..] => {
                inside |= (low..=high).contains(&c);
                at += 3;
            }
            _ => {
                inside |= members[at] == c;
                at += 1;
            }
        }
    }
    Some((inside != negated, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::Shelf;

    /// Expected values are what Python 3.11 `fnmatch.fnmatchcase` gives.
    #[test]
    fn names_match_as_python_matches_them() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.ini", false),
            ("a**b", "axxb", true),
            ("[!a]*", "b1", true),
            ("[!a]*", "a1", false),
            ("[a-c]x", "bx", true),
            ("[]x]y", "]y", true),
            ("[x", "[x", true),
            ("{a,b}", "{a,b}", true),
            ("{a,b}", "a", false),
            ("?", "", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_find_files_sorted_and_no_hidden_ones_nor_directories() {
        let shelf =
            Shelf::of(&[("/e/d/b.conf", ""), ("/e/d/a.conf", ""), ("/e/d/.h.conf", ""), ("/e/d/x.conf/y", ""), ("/e/f/c.conf", "")]);
        let found = |pattern| matching(pattern, &shelf).iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(found("/e/d/*.conf"), ["/e/d/a.conf", "/e/d/b.conf"]);
        assert_eq!(found("/e/*/*.conf"), ["/e/d/a.conf", "/e/d/b.conf", "/e/f/c.conf"]);
        assert_eq!(found("/e/d/a.conf"), ["/e/d/a.conf"]);
        assert_eq!(found("/e/d/none.conf"), [""; 0]);
        assert_eq!(found("/none/*"), [""; 0]);
    }
}
