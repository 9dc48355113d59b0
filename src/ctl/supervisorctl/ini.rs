//! `supervisord.conf` as far as supervisorctl needs it: one section's values.
//!
//! Python's RawConfigParser as Supervisor sets it up: sections and keys given twice (the last wins), comments, inline comments
//! after white space, continuation lines, `[DEFAULT]`; then `%(name)s`. Includes are not followed, as supervisorctl does not.
//! The daemon's reader (`config`) knows the rest and tells where an error stands; the tool must find the door even if a
//! program's definition is wrong.

use std::collections::BTreeMap;

/// Every section with its keys, in small letters.
pub type Sections = BTreeMap<String, BTreeMap<String, String>>;

/// Reads a file's text. The error says what Python's parser could not take.
pub fn read(text: &str) -> Result<Sections, String> {
    let mut sections = Sections::new();
    let mut section: Option<String> = None;
    let mut key: Option<String> = None;
    let mut indent = 0;
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let bare = without_comment(line);
        let value = bare.trim();
        if value.is_empty() {
            // An empty line belongs to a value that goes on; a comment does not.
            if line.trim().is_empty()
                && let Some(last) = at(&mut sections, &section, &key)
            {
                last.push('\n');
            }
            if line.trim().is_empty() && key.is_none() {
                indent = 0;
            }
            continue;
        }
        let deep = line.len() - line.trim_start().len();
        if deep > indent
            && let Some(last) = at(&mut sections, &section, &key)
        {
            last.push('\n');
            last.push_str(value);
            continue;
        }
        indent = deep;
        if let Some(name) = value.strip_prefix('[').and_then(|rest| rest.rfind(']').filter(|end| *end > 0).map(|end| &rest[..end])) {
            sections.entry(name.to_owned()).or_default();
            (section, key) = (Some(name.to_owned()), None);
            continue;
        }
        let Some(name) = &section else {
            return Err(format!("File contains no section headers.\nfile: line: {number}\n{}", super::rpc::repr(line)));
        };
        let Some((option, rest)) = value.find(['=', ':']).map(|at| (value[..at].trim_end(), value[at + 1..].trim_start())) else {
            return Err(format!("Source contains parsing errors\n\t[line {number:2}]: {}", super::rpc::repr(line)));
        };
        let option = option.to_lowercase();
        sections.entry(name.clone()).or_default().insert(option.clone(), rest.to_owned());
        key = Some(option);
    }
    if let Some(defaults) = sections.remove("DEFAULT") {
        for values in sections.values_mut() {
            for (key, value) in &defaults {
                values.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    }
    for value in sections.values_mut().flat_map(BTreeMap::values_mut) {
        *value = value.trim_end().to_owned();
    }
    Ok(sections)
}

fn at<'a>(sections: &'a mut Sections, section: &Option<String>, key: &Option<String>) -> Option<&'a mut String> {
    sections.get_mut(section.as_ref()?)?.get_mut(key.as_ref()?)
}

/// A line up to its comment: `#` or `;` first in the line, or after white space.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if (c == ';' || c == '#') && before.is_whitespace() {
            return &line[..at];
        }
        before = c;
    }
    line
}

/// Python's `text % names`, where every value is a string. `what` names the value in errors.
pub fn expand(text: &str, names: &BTreeMap<String, String>, what: &str) -> Result<String, String> {
    let bad = |why: &str| format!("Format string {} for {} is badly formatted: {why}", super::rpc::repr(text), super::rpc::repr(what));
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            expanded.push('%');
            rest = after;
            continue;
        }
        let Some(inner) = rest.strip_prefix('(') else {
            return Err(bad(if rest.is_empty() { "incomplete format" } else { "format requires a mapping" }));
        };
        let Some(end) = inner.find(')') else { return Err(bad("incomplete format key")) };
        let name = &inner[..end];
        let Some(value) = names.get(name) else {
            let known: Vec<&str> = names.keys().map(String::as_str).collect();
            return Err(format!(
                "Format string {} for {} contains names ({}) which cannot be expanded. Available names: {}",
                super::rpc::repr(text),
                super::rpc::repr(what),
                super::rpc::repr(name),
                known.join(", ")
            ));
        };
        rest = &inner[end + 1..];
        let left = rest.starts_with(['-', '+', ' ', '#', '0'])
            && rest[..rest.len() - rest.trim_start_matches(['-', '+', ' ', '#', '0']).len()].contains('-');
        rest = rest.trim_start_matches(['-', '+', ' ', '#', '0']);
        let width = number(&mut rest);
        let precision = rest.strip_prefix('.').map(|after| {
            rest = after;
            number(&mut rest)
        });
        match rest.chars().next() {
            Some('s' | 'r' | 'a') => {
                let cut: String = value.chars().take(precision.unwrap_or(usize::MAX)).collect();
                let cut = if rest.starts_with('s') { cut } else { super::rpc::repr(&cut) };
                expanded.push_str(&if left { format!("{cut:<width$}") } else { format!("{cut:>width$}") });
                rest = &rest[1..];
            }
            Some(kind @ ('d' | 'i' | 'u')) => return Err(bad(&format!("%{kind} format: a real number is required, not str"))),
            Some(kind) => {
                return Err(bad(&format!("unsupported format character {} (0x{:x})", super::rpc::repr(&kind.to_string()), kind as u32)));
            }
            None => return Err(bad("incomplete format")),
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// The digits that `rest` begins with, as a number with a bound.
fn number(rest: &mut &str) -> usize {
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let value = rest[..digits].parse().unwrap_or(0).min(WIDEST);
    *rest = &rest[digits..];
    value
}

/// No address or name needs more.
const WIDEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, key: &str) -> Option<String> {
        read(text).unwrap().get("supervisorctl").and_then(|s| s.get(key).cloned())
    }

    #[test]
    fn the_dialect_is_the_raw_config_parsers() {
        let text = "; head\n# head\n[program:x]\ncommand = a ; b\n[supervisorctl] ; here\nServerURL = http://a;b#c ; comment\n\
                    prompt: two\n  lines\n\n  and more\nusername=one\n[x]\n[supervisorctl]\nusername = two\n";
        assert_eq!(value(text, "serverurl").as_deref(), Some("http://a;b#c"));
        assert_eq!(value(text, "prompt").as_deref(), Some("two\nlines\n\nand more"));
        assert_eq!(value(text, "username").as_deref(), Some("two"));
        assert_eq!(value(text, "password"), None);
    }

    #[test]
    fn default_values_serve_every_section() {
        let text = "[DEFAULT]\nusername=d\nprompt=d\n[supervisorctl]\nprompt=own\n";
        assert_eq!(value(text, "username").as_deref(), Some("d"));
        assert_eq!(value(text, "prompt").as_deref(), Some("own"));
    }

    #[test]
    fn what_is_no_ini_file_is_an_error() {
        assert!(read("a=b\n").unwrap_err().starts_with("File contains no section headers"));
        assert!(read("[a]\njust words\n").unwrap_err().starts_with("Source contains parsing errors"));
    }

    #[test]
    fn names_are_expanded_and_errors_name_them() {
        let names = BTreeMap::from([("here".to_owned(), "/etc".to_owned()), ("ENV_A".to_owned(), "x".to_owned())]);
        let expand = |text: &str| expand(text, &names, "supervisorctl.serverurl");
        assert_eq!(expand("unix://%(here)s/s.%(ENV_A)3s%%").unwrap(), "unix:///etc/s.  x%");
        assert_eq!(
            expand("%(no)s").unwrap_err(),
            "Format string '%(no)s' for 'supervisorctl.serverurl' contains names ('no') which cannot be expanded. Available names: ENV_A, here"
        );
        for bad in ["%", "100%x", "%(here)", "%(here", "%(here)d", "%(here)y"] {
            assert!(expand(bad).unwrap_err().contains("badly formatted"), "{bad}");
        }
    }
}
