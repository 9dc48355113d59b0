//! What a value may be: one reader for each kind, each with the words for what it expects.

use crate::config::error::{ConfigError, Fault, did_you_mean};
use crate::config::expand::{ExpandFault, Names};
use crate::config::native::table::{Entry, dotted};
use crate::config::presets;
use crate::config::tree::{Node, Value};
use crate::config::words;
use crate::config::{Surroundings, home_of};
use crate::model::signal::Signal;
use crate::model::spec::{Autorestart, JobCount, Rlimit, Rung};
use crate::model::template::{Piece, Template};
use crate::model::time::Span;
use crate::model::units::{self, Bytes};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

pub fn flag(entry: &Entry<'_>) -> Result<bool, ConfigError> {
    match entry.value() {
        Value::Flag(flag) => Ok(*flag),
        Value::Text(text) => {
            // Supervisor's words as well, since people come from there.
            let meant = match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Some("true"),
                "false" | "no" | "off" | "0" => Some("false"),
                _ => None,
            };
            Err(entry.wrong_but("true or false", meant.map(|word| format!("write {word} without quotes"))))
        }
        _ => Err(entry.wrong("true or false")),
    }
}

/// A whole number within `range`.
pub fn whole<T: TryFrom<i64>>(range: RangeInclusive<i64>) -> impl Fn(&Entry<'_>) -> Result<T, ConfigError> {
    move |entry| {
        let expected = if *range.end() == i64::MAX {
            format!("a whole number, {} or more", range.start())
        } else {
            format!("a whole number from {} to {}", range.start(), range.end())
        };
        match entry.value() {
            Value::Whole { value, .. } if range.contains(value) => T::try_from(*value).map_err(|_| entry.wrong(&expected)),
            Value::Text(text) if text.parse::<i64>().is_ok_and(|n| range.contains(&n)) => {
                Err(entry.wrong_but(&expected, Some(format!("write {} without quotes", text.trim()))))
            }
            _ => Err(entry.wrong(&expected)),
        }
    }
}

/// A number within `range`, with or without a fraction.
pub fn number(range: RangeInclusive<f64>) -> impl Fn(&Entry<'_>) -> Result<f64, ConfigError> {
    move |entry| {
        let value = match entry.value() {
            Value::Whole { value, .. } => *value as f64,
            Value::Fraction(value) => *value,
            _ => f64::NAN,
        };
        if range.contains(&value) { Ok(value) } else { Err(entry.wrong(&format!("a number from {} to {}", range.start(), range.end()))) }
    }
}

/// A duration; a bare number is seconds.
pub fn span(entry: &Entry<'_>) -> Result<Span, ConfigError> {
    span_of(&entry.item.node).ok_or_else(|| entry.wrong("a duration such as \"5s\""))
}

/// A duration that is not zero.
pub fn time(entry: &Entry<'_>) -> Result<Span, ConfigError> {
    span_of(&entry.item.node).filter(|span| !span.is_zero()).ok_or_else(|| entry.wrong("a duration longer than 0, such as \"5s\""))
}

fn span_of(node: &Node) -> Option<Span> {
    match &node.value {
        Value::Text(text) => units::span(text),
        Value::Whole { value, .. } => u64::try_from(*value).ok().and_then(|secs| units::seconds(secs as f64)),
        Value::Fraction(secs) => units::seconds(*secs),
        Value::Flag(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => None,
    }
}

/// A size; a bare number is bytes.
pub fn size(entry: &Entry<'_>) -> Result<Bytes, ConfigError> {
    size_of(&entry.item.node).ok_or_else(|| entry.wrong("a size such as \"50MB\""))
}

/// A size that is not zero.
pub fn some_size(entry: &Entry<'_>) -> Result<Bytes, ConfigError> {
    size_of(&entry.item.node).filter(|size| size.0 > 0).ok_or_else(|| entry.wrong("a size larger than 0, such as \"128MB\""))
}

fn size_of(node: &Node) -> Option<Bytes> {
    match &node.value {
        Value::Text(text) => units::bytes(text),
        Value::Whole { value, .. } => u64::try_from(*value).ok().map(Bytes),
        Value::Fraction(_) | Value::Flag(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => None,
    }
}

/// A text that may be handed to the kernel.
pub fn text<'e>(entry: &'e Entry<'_>, expected: &str) -> Result<&'e str, ConfigError> {
    match entry.value() {
        Value::Text(text) if text.contains('\0') => Err(entry.wrong("a text without NUL characters")),
        Value::Text(text) => Ok(text),
        _ => Err(entry.wrong(expected)),
    }
}

/// One of some words.
pub fn choice<T: Copy>(choices: &[(&str, T)]) -> impl Fn(&Entry<'_>) -> Result<T, ConfigError> {
    move |entry| {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let expected = listed(&names);
        match entry.value() {
            Value::Text(text) => match choices.iter().find(|(name, _)| name == text) {
                Some((_, choice)) => Ok(*choice),
                None => Err(entry.wrong_but(&expected, did_you_mean(text, choices.iter().map(|(name, _)| *name)))),
            },
            _ => Err(entry.wrong(&expected)),
        }
    }
}

/// `a, b or c`.
fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// A text with its names expanded.
pub fn template(entry: &Entry<'_>, names: &Names<'_>, expected: &str) -> Result<Template, ConfigError> {
    expand(entry, text(entry, expected)?, names)
}

fn expand(entry: &Entry<'_>, text: &str, names: &Names<'_>) -> Result<Template, ConfigError> {
    names.expand(text, entry.here()).map_err(|ExpandFault { expected, mend }| entry.wrong_but(&expected, mend))
}

/// A path, expanded and made absolute: relative ones belong to the directory of the file they are written in.
pub fn path(entry: &Entry<'_>, names: &Names<'_>, around: &Surroundings<'_>) -> Result<Template, ConfigError> {
    path_of(entry, text(entry, "a path")?, names, around)
}

/// The same of a part of the entry's text.
pub fn path_of(entry: &Entry<'_>, text: &str, names: &Names<'_>, around: &Surroundings<'_>) -> Result<Template, ConfigError> {
    let mut template = expand(entry, text, names)?;
    let first = match template.0.first_mut() {
        None => return Err(entry.wrong("a path")),
        Some(Piece::Number { .. }) => None,
        Some(Piece::Text(first)) => Some(first),
    };
    match first {
        Some(first) if first.starts_with('/') => {}
        Some(first) if first.starts_with('~') => {
            let (user, rest) = first[1..].split_once('/').unwrap_or((&first[1..], ""));
            let home = home_of(user, around).map_err(|expected| entry.wrong(&expected))?;
            *first = join(&home, rest);
        }
        Some(first) => *first = join(entry.here(), first),
        None => template.0.insert(0, Piece::Text(format!("{}/", entry.here().trim_end_matches('/')))),
    }
    Ok(template)
}

/// `directory/rest`, without a leading `./` in between.
fn join(directory: &str, rest: &str) -> String {
    let mut rest = rest;
    while let Some(shorter) = rest.strip_prefix("./") {
        rest = shorter;
    }
    match rest {
        "" | "." => directory.to_owned(),
        rest => format!("{}/{rest}", directory.trim_end_matches('/')),
    }
}

/// A path in which nothing is left open.
pub fn fixed_path(entry: &Entry<'_>, names: &Names<'_>, around: &Surroundings<'_>) -> Result<String, ConfigError> {
    Ok(path(entry, names, around)?.render(0))
}

/// A command line that is split as a shell would, or a list of words that are taken as they are.
pub fn command(entry: &Entry<'_>, names: &Names<'_>) -> Result<Vec<Template>, ConfigError> {
    let expected = "a command line, or a list of program and arguments";
    let words = match entry.value() {
        Value::List(list) => list
            .iter()
            .map(|node| match &node.value {
                Value::Text(text) if text.contains('\0') => Err(entry.wrong_element(node, "a text without NUL characters")),
                Value::Text(text) => names
                    .expand(text, entry.here())
                    .map_err(|fault| ConfigError { mend: fault.mend, ..entry.wrong_element(node, &fault.expected) }),
                _ => Err(entry.wrong_element(node, "a text")),
            })
            .collect::<Result<Vec<Template>, ConfigError>>()?,
        _ => {
            let line = template(entry, names, expected)?;
            words::split(&line).map_err(|fault| entry.wrong(&fault.expected()))?
        }
    };
    match words.first() {
        Some(program) if !program.0.is_empty() => Ok(words),
        _ => Err(entry.wrong_but(expected, Some(String::from("an empty command cannot be started")))),
    }
}

pub fn autorestart(entry: &Entry<'_>) -> Result<Autorestart, ConfigError> {
    let expected = "true, false or \"unexpected\"";
    match entry.value() {
        Value::Flag(true) => Ok(Autorestart::Always),
        Value::Flag(false) => Ok(Autorestart::Never),
        Value::Text(text) if text == "unexpected" => Ok(Autorestart::Unexpected),
        Value::Text(text) if text == "true" || text == "false" => {
            Err(entry.wrong_but(expected, Some(format!("write {text} without quotes"))))
        }
        Value::Text(text) => Err(entry.wrong_but(expected, did_you_mean(text, ["unexpected"]))),
        _ => Err(entry.wrong(expected)),
    }
}

/// How many failed starts in a row are forgiven; `None` for all.
pub fn startretries(entry: &Entry<'_>) -> Result<Option<u32>, ConfigError> {
    match entry.value() {
        Value::Text(text) if text == "forever" => Ok(None),
        Value::Whole { value, .. } if (0..=1_000_000).contains(value) => Ok(u32::try_from(*value).ok()),
        _ => Err(entry.wrong("a whole number from 0 to 1000000, or \"forever\"")),
    }
}

pub fn exitcodes(entry: &Entry<'_>) -> Result<Vec<i32>, ConfigError> {
    let expected = "an exit code from 0 to 255, or a list of them";
    let code = |node: &Node| match node.value {
        Value::Whole { value, .. } if (0..=255).contains(&value) => i32::try_from(value).ok(),
        _ => None,
    };
    match entry.value() {
        Value::List(list) => {
            let mut codes = Vec::new();
            for node in list {
                codes.push(code(node).ok_or_else(|| entry.wrong_element(node, "an exit code from 0 to 255"))?);
            }
            codes.sort_unstable();
            codes.dedup();
            Ok(codes)
        }
        _ => code(&entry.item.node).map(|code| vec![code]).ok_or_else(|| entry.wrong(expected)),
    }
}

/// The stop ladder: `TERM`, or `TERM 10s, INT 5s, KILL`. A rung without a wait has `default_wait`.
pub fn ladder(entry: &Entry<'_>, default_wait: Span) -> Result<Vec<Rung>, ConfigError> {
    let expected = "a signal such as \"TERM\", or a ladder such as \"TERM 10s, INT 5s, KILL\"";
    let one;
    let text = match entry.value() {
        Value::Text(text) => text,
        Value::Whole { value, .. } => {
            one = value.to_string();
            &one
        }
        _ => return Err(entry.wrong(expected)),
    };
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let mut rungs = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let (name, wait) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
        let signal: Signal = name.parse().map_err(|()| entry.wrong_but(expected, unknown_signal(name)))?;
        if signal == Signal::KILL {
            if index + 1 != parts.len() || !wait.is_empty() {
                return Err(entry.wrong_but(expected, Some(String::from("KILL ends a ladder, without a wait"))));
            }
            if parts.len() == 1 {
                // It is what was asked for: killed at once, and not asked before.
                rungs.push(Rung { signal, wait: default_wait });
            }
            break;
        }
        let wait = if wait.is_empty() {
            default_wait
        } else {
            units::span(wait)
                .filter(|wait| !wait.is_zero())
                .ok_or_else(|| entry.wrong_but(expected, Some(format!("\"{wait}\" is no duration longer than 0"))))?
        };
        rungs.push(Rung { signal, wait });
    }
    Ok(rungs)
}

fn unknown_signal(name: &str) -> Option<String> {
    let near = did_you_mean(name, ["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH", "KILL", "ABRT", "ALRM"]);
    near.or_else(|| Some(format!("there is no signal \"{name}\"")))
}

/// Length of time, or `"off"`.
pub fn resend(entry: &Entry<'_>) -> Result<Option<Span>, ConfigError> {
    match entry.value() {
        Value::Text(text) if text == "off" => Ok(None),
        _ => match span_of(&entry.item.node) {
            // Below this the worker does nothing else than to take signals.
            Some(span) if span >= Span::millis(100) => Ok(Some(span)),
            _ => Err(entry.wrong("a duration of 100ms or more, or \"off\"")),
        },
    }
}

/// Permission bits: `"022"`, `"0660"` or `0o660`.
pub fn octal(entry: &Entry<'_>) -> Result<u32, ConfigError> {
    let expected = "an octal text such as \"022\" or \"0660\", or a number such as 0o022";
    let bits = match entry.value() {
        Value::Text(text) => {
            let digits = text.strip_prefix("0o").unwrap_or(text);
            // Python's way of reading leaves no sign out; ours does.
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| u32::from_str_radix(digits, 8).ok()).flatten()
        }
        Value::Whole { value, octal } if *octal || *value == 0 => u32::try_from(*value).ok(),
        Value::Whole { value, .. } => {
            return Err(entry.wrong_but(expected, Some(format!("a decimal number is no file mode; did you mean 0o{value}?"))));
        }
        _ => None,
    };
    bits.filter(|bits| *bits <= 0o777).ok_or_else(|| entry.wrong(expected))
}

/// The limits of `[…rlimits]`: `nofile = 4096`, `core = "unlimited"`, `nofile = [1024, 4096]`.
pub fn rlimit(entry: &Entry<'_>) -> Result<(Option<u64>, Option<u64>), ConfigError> {
    let expected = "a number, a size, \"unlimited\", or a list of two (soft, hard)";
    let limit = |node: &Node| match &node.value {
        Value::Text(text) if text == "unlimited" => Some(None),
        _ => size_of(node).map(|size| Some(size.0)),
    };
    let (soft, hard) = match entry.value() {
        Value::List(list) => match list.as_slice() {
            [soft, hard] => (limit(soft), limit(hard)),
            _ => (None, None),
        },
        _ => (limit(&entry.item.node), limit(&entry.item.node)),
    };
    match (soft, hard) {
        (Some(soft), Some(hard)) if soft.unwrap_or(u64::MAX) <= hard.unwrap_or(u64::MAX) => Ok((soft, hard)),
        (Some(_), Some(_)) => Err(entry.conflict("the soft limit is above the hard limit", Some("write [soft, hard]"))),
        (None, _) | (_, None) => Err(entry.wrong(expected)),
    }
}

/// Names of limits, as in `setrlimit` and `ulimit`.
pub const RLIMITS: [(&str, Rlimit); 9] = [
    ("as", Rlimit::As),
    ("core", Rlimit::Core),
    ("cpu", Rlimit::Cpu),
    ("data", Rlimit::Data),
    ("fsize", Rlimit::Fsize),
    ("memlock", Rlimit::Memlock),
    ("nofile", Rlimit::Nofile),
    ("nproc", Rlimit::Nproc),
    ("stack", Rlimit::Stack),
];

/// `1000`, or a range such as `"1000-2000"`.
pub fn jobs_range(entry: &Entry<'_>) -> Result<(u64, u64), ConfigError> {
    let expected = "a whole number of 1 or more, or a range such as \"1000-2000\"";
    let range = match entry.value() {
        Value::Whole { value, .. } => u64::try_from(*value).ok().map(|n| (n, n)),
        Value::Text(text) => match text.split_once('-') {
            Some((low, high)) => low.trim().parse().ok().zip(high.trim().parse().ok()),
            None => text.trim().parse().ok().map(|n| (n, n)),
        },
        _ => None,
    };
    match range {
        Some((low, high)) if low >= 1 && low <= high => Ok((low, high)),
        Some((low, high)) if low > high && high >= 1 => {
            Err(entry.wrong_but(expected, Some(format!("the smaller number comes first: \"{high}-{low}\""))))
        }
        Some(_) | None => Err(entry.wrong(expected)),
    }
}

/// `"2 of 3"`.
pub fn samples(entry: &Entry<'_>) -> Result<(u8, u8), ConfigError> {
    let expected = "a text such as \"2 of 3\" (at most 60)";
    let Value::Text(text) = entry.value() else { return Err(entry.wrong(expected)) };
    let pair = text.split_once(" of ").and_then(|(over, all)| over.trim().parse::<u8>().ok().zip(all.trim().parse::<u8>().ok()));
    pair.filter(|(over, all)| *over >= 1 && over <= all && *all <= 60).ok_or_else(|| entry.wrong(expected))
}

/// How jobs are counted: a preset, or a table of regular expressions.
pub fn count(entry: &Entry<'_>) -> Result<JobCount, ConfigError> {
    let expected = "\"notify\", \"laravel\", \"symfony\", \"yii\", or a table {done = \"REGEX\", failed = \"REGEX\", running = \"REGEX\"}";
    match entry.value() {
        Value::Text(text) => presets::job_count(text).ok_or_else(|| entry.wrong_but(expected, did_you_mean(text, presets::NAMES))),
        Value::Table(table) => {
            let mut patterns = BTreeMap::new();
            for (key, item) in &table.0 {
                let inner = Entry { key: dotted(&entry.key, key), name: key, item };
                if !matches!(key.as_str(), "done" | "failed" | "running") {
                    let mend = did_you_mean(key, ["done", "failed", "running"]);
                    return Err(ConfigError { place: item.key.clone(), key: inner.key, fault: Fault::UnknownKey, mend });
                }
                let pattern = text(&inner, "a regular expression")?;
                // The same engine that will match them: linear in time, so no pattern can stall the logs.
                if let Err(fault) = regex::bytes::Regex::new(pattern) {
                    let why = fault.to_string();
                    let last = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                    return Err(inner.wrong_but("a regular expression", Some(last.to_owned())));
                }
                patterns.insert(key.as_str(), pattern.to_owned());
            }
            let (done, failed, running) = (patterns.remove("done"), patterns.remove("failed"), patterns.remove("running"));
            if done.is_none() && failed.is_none() {
                return Err(entry.wrong_but(expected, Some(String::from("without done or failed there is nothing to count"))));
            }
            Ok(JobCount::Lines { done, failed, running })
        }
        _ => Err(entry.wrong(expected)),
    }
}
