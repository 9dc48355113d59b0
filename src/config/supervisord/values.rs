//! What a value of `supervisord.conf` may be: Supervisor's `datatypes.py`, one reader for each kind.
//!
//! Every value is expanded first (`%(here)s`, `%(ENV_X)s`, …) and only then read, as Supervisor does it; messages
//! show it as it is written.

use crate::config::error::{ConfigError, did_you_mean};
use crate::config::expand::{ExpandFault, Names};
use crate::config::native::table::Entry;
use crate::config::native::values as native;
use crate::config::{Surroundings, home_of};
use crate::model::signal::Signal;
use crate::model::spec::Autorestart;
use crate::model::template::{Piece, Template};
use crate::model::time::Span;
use crate::model::units::Bytes;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};

/// The value with its names filled in; the slot's number may be left open.
pub fn template(entry: &Entry<'_>, names: &Names<'_>) -> Result<Template, ConfigError> {
    let text = native::text(entry, "a text")?;
    names.expand(text, entry.here()).map_err(|ExpandFault { expected, mend }| entry.wrong_but(&expected, mend))
}

/// The value with its names filled in, all of them.
pub fn text(entry: &Entry<'_>, names: &Names<'_>) -> Result<String, ConfigError> {
    let template = template(entry, names)?;
    if template.depends_on_number() {
        return Err(entry.wrong("a value that is the same for all processes, without %(process_num)…"));
    }
    Ok(template.render(0))
}

/// Python's `int()`: white space around it, a sign and underscores between digits are fine.
pub fn int(text: &str) -> Option<i64> {
    number(text, 10)
}

fn number(text: &str, radix: u32) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = match digits.strip_prefix("0o").or_else(|| digits.strip_prefix("0O")) {
        Some(rest) if radix == 8 => rest.strip_prefix('_').unwrap_or(rest),
        _ => digits,
    };
    let parts: Vec<&str> = digits.split('_').collect();
    if parts.iter().any(|part| part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let value = i64::from_str_radix(&parts.concat(), radix).ok()?;
    Some(if negative { -value } else { value })
}

/// A whole number within `range`.
pub fn whole<T: TryFrom<i64>>(range: RangeInclusive<i64>, names: &Names<'_>) -> impl Fn(&Entry<'_>) -> Result<T, ConfigError> {
    move |entry| {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let value = int(&text(entry, names)?).filter(|value| range.contains(value)).and_then(|value| T::try_from(value).ok());
        value.ok_or_else(|| entry.wrong(&expected))
    }
}

/// A whole number of which Supervisor takes negative ones as it takes 0.
pub fn count(names: &Names<'_>) -> impl Fn(&Entry<'_>) -> Result<u32, ConfigError> {
    move |entry| {
        let value = int(&text(entry, names)?).and_then(|value| u32::try_from(value.max(0)).ok());
        value.ok_or_else(|| entry.wrong("a whole number"))
    }
}

/// Whole seconds, or a duration such as `5m`, which Supervisor does not know.
pub fn seconds(names: &Names<'_>) -> impl Fn(&Entry<'_>) -> Result<Span, ConfigError> {
    move |entry| {
        let text = text(entry, names)?;
        let span = match int(&text) {
            Some(secs) => crate::model::units::seconds(secs.max(0) as f64),
            None if text.ends_with(|c: char| c.is_ascii_alphabetic()) => crate::model::units::span(&text),
            None => None,
        };
        span.ok_or_else(|| entry.wrong("a whole number of seconds"))
    }
}

pub fn boolean(names: &Names<'_>) -> impl Fn(&Entry<'_>) -> Result<bool, ConfigError> {
    move |entry| boolean_of(&text(entry, names)?).ok_or_else(|| entry.wrong("true or false (also yes, no, on, off, 1, 0)"))
}

/// Supervisor's words for it, in any case.
pub fn boolean_of(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Some(true),
        "no" | "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

pub fn autorestart(names: &Names<'_>) -> impl Fn(&Entry<'_>) -> Result<Autorestart, ConfigError> {
    move |entry| {
        let text = text(entry, names)?;
        match boolean_of(&text) {
            Some(true) => Ok(Autorestart::Always),
            Some(false) => Ok(Autorestart::Never),
            None if text.to_lowercase() == "unexpected" => Ok(Autorestart::Unexpected),
            None => Err(entry.wrong_but("true, false or unexpected", did_you_mean(&text, ["unexpected"]))),
        }
    }
}

/// Bytes, or so many `KB`, `MB` or `GB`. Less than nothing is taken as 0.
pub fn size(names: &Names<'_>) -> impl Fn(&Entry<'_>) -> Result<Bytes, ConfigError> {
    move |entry| {
        let text = text(entry, names)?.to_lowercase();
        let factor = match text.get(text.len().saturating_sub(2)..) {
            Some("kb") => 1 << 10,
            Some("mb") => 1 << 20,
            Some("gb") => 1 << 30,
            _ => 1,
        };
        let digits = if factor == 1 { &text[..] } else { &text[..text.len() - 2] };
        let size = int(digits).and_then(|number| u64::try_from(number.max(0)).ok()).and_then(|number| number.checked_mul(factor));
        size.map(Bytes).ok_or_else(|| entry.wrong("a number of bytes, or a size such as 50MB (KB, MB or GB)"))
    }
}

/// File permissions, base 8.
pub fn octal(names: &Names<'_>) -> impl Fn(&Entry<'_>) -> Result<u32, ConfigError> {
    move |entry| {
        let bits = number(&text(entry, names)?, 8).and_then(|bits| u32::try_from(bits).ok()).filter(|bits| *bits <= 0o7777);
        bits.ok_or_else(|| entry.wrong("an octal number such as 022 or 0700"))
    }
}

/// Exit codes; an empty list is none.
pub fn exitcodes(names: &Names<'_>) -> impl Fn(&Entry<'_>) -> Result<Vec<i32>, ConfigError> {
    move |entry| {
        let text = text(entry, names)?;
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let code = |part: &str| int(part).and_then(|code| i32::try_from(code).ok()).filter(|code| (0..=255).contains(code));
        let mut codes: Vec<i32> =
            text.split(',').map(code).collect::<Option<_>>().ok_or_else(|| entry.wrong("exit codes from 0 to 255, such as 0,2"))?;
        codes.sort_unstable();
        codes.dedup();
        Ok(codes)
    }
}

/// A signal as Supervisor takes it; `None` if it does not.
pub fn signal(text: &str) -> Option<Signal> {
    let upper = text.trim().to_uppercase();
    match upper.strip_prefix("SIG").unwrap_or(&upper) {
        "RTMIN" => Signal::from_number(34),
        "RTMAX" => Signal::from_number(64),
        _ => match int(text) {
            // glibc keeps the first two real-time signals for itself.
            Some(number) => i32::try_from(number).ok().filter(|number| !matches!(number, 32 | 33)).and_then(Signal::from_number),
            None => upper.parse().ok(),
        },
    }
}

/// A comma-separated list; every part without white space around it.
pub fn list(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(|part| part.trim().to_owned()).collect() }
}

/// `~` and `~user` at the beginning; an unknown user's stays as it is.
fn expand_user(path: &str, around: &Surroundings<'_>) -> String {
    let Some(rest) = path.strip_prefix('~') else { return path.to_owned() };
    let (user, rest) = rest.split_once('/').map_or((rest, ""), |(user, rest)| (user, rest));
    match home_of(user, around) {
        Ok(home) if rest.is_empty() => home,
        Ok(home) => format!("{}/{rest}", home.trim_end_matches('/')),
        Err(_) => path.to_owned(),
    }
}

/// Python's `normpath(abspath(expanduser(path)))`: relative paths belong to the working directory.
pub fn normalized(path: &str, around: &Surroundings<'_>) -> String {
    let mut out = PathBuf::from("/");
    for part in around.files.absolute(Path::new(&expand_user(path, around))).components() {
        match part {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::Normal(part) => out.push(part),
        }
    }
    out.to_string_lossy().into_owned()
}

/// A path whose directory must be there, as Supervisor's `existing_dirpath`; made absolute, but not tidied up.
pub fn file_path(entry: &Entry<'_>, path: &str, around: &Surroundings<'_>) -> Result<String, ConfigError> {
    let expanded = expand_user(path, around);
    if let Some((directory, _)) = expanded.rsplit_once('/') {
        let directory = if directory.is_empty() { "/" } else { directory };
        if !around.files.is_directory(&around.files.absolute(Path::new(directory))) {
            let why = format!("the directory {directory} does not exist");
            return Err(entry.conflict(&why, Some("make it, or name another")));
        }
    }
    Ok(around.files.absolute(Path::new(&expanded)).to_string_lossy().into_owned())
}

/// A directory that must be there.
pub fn directory(entry: &Entry<'_>, path: &str, around: &Surroundings<'_>) -> Result<String, ConfigError> {
    let expanded = around.files.absolute(Path::new(&expand_user(path, around)));
    if around.files.is_directory(&expanded) {
        return Ok(expanded.to_string_lossy().into_owned());
    }
    Err(entry.conflict(&format!("{path} is not an existing directory"), Some("make it, or name another")))
}

/// Makes a path absolute whose number may still be open: relative ones belong to the working directory.
pub fn absolute(path: &Template, home: bool, around: &Surroundings<'_>) -> Template {
    let mut path = path.clone();
    let here = around.files.absolute(Path::new("x")).parent().map_or_else(String::new, |dir| dir.to_string_lossy().into_owned());
    let here = format!("{}/", here.trim_end_matches('/'));
    match path.0.first_mut() {
        None => {}
        Some(Piece::Text(first)) => {
            if home {
                *first = expand_user(first, around);
            }
            if !first.starts_with('/') {
                first.insert_str(0, &here);
            }
        }
        Some(Piece::Number { .. }) => path.0.insert(0, Piece::Text(here)),
    }
    path
}

/// `user` or `user:group` as numbers; without a group it is ours, which is what a file has anyway.
pub fn owner(entry: &Entry<'_>, names: &Names<'_>, around: &Surroundings<'_>) -> Result<(u32, u32), ConfigError> {
    let expected = "a user, or user:group";
    let name = text(entry, names)?;
    match (around.users)(&name) {
        Ok(Some(user)) if name.contains(':') => Ok((user.uid, user.gid)),
        Ok(Some(user)) => Ok((user.uid, around.gid)),
        Ok(None) => Err(entry.wrong(&format!("{expected}, that this system knows"))),
        Err(why) => Err(entry.conflict(&format!("user \"{name}\" cannot be looked up: {why}"), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_python_reads_them() {
        for (text, value) in [("5", 5), (" 5 ", 5), ("1_000", 1000), ("-3", -3), ("+3", 3), ("007", 7)] {
            assert_eq!(int(text), Some(value), "{text}");
        }
        for text in ["", "5s", "1__0", "_1", "1_", "0x5", "1.0", "- 3", "0o7"] {
            assert_eq!(int(text), None, "{text}");
        }
        for (text, value) in [("022", 0o22), ("22", 0o22), ("0o22", 0o22), ("0O22", 0o22), ("0o_22", 0o22)] {
            assert_eq!(number(text, 8), Some(value), "{text}");
        }
        assert_eq!(number("9", 8), None);
    }

    #[test]
    fn signals_are_read_as_supervisor_reads_them() {
        for (text, number) in [("TERM", 15), ("sigusr1", 10), ("9", 9), ("SIGRTMIN", 34), ("rtmax", 64), ("CLD", 17)] {
            assert_eq!(signal(text).map(Signal::number), Some(number), "{text}");
        }
        for text in ["", "SIG", "NOPE", "0", "32", "65", "-1"] {
            assert_eq!(signal(text), None, "{text}");
        }
    }
}
