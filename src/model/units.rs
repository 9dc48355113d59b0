//! Durations and sizes as people write them: `30s`, `1m30s`, `250ms`, `6h`; `128MB`, `64KB`, `1GB`.
//!
//! A bare number means what it means to Supervisor: seconds, bytes. `KB MB GB` are powers of 1024 in any
//! case, as in Supervisor's `byte_size`; `B`, `K`, `M`, `G` and `KiB MiB GiB` are taken as the same.

use crate::model::time::Span;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    pub const fn kib(n: u64) -> Bytes {
        Bytes(n * 1024)
    }

    pub const fn mib(n: u64) -> Bytes {
        Bytes(n * 1024 * 1024)
    }
}

/// As people read it: `900 B`, `64.0 KB`, `128.0 MB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0 as f64;
        if self.0 < 1024 {
            write!(f, "{} B", self.0)
        } else if self.0 < 1024 * 1024 {
            write!(f, "{:.1} KB", n / 1024.0)
        } else if self.0 < 1024 * 1024 * 1024 {
            write!(f, "{:.1} MB", n / 1024.0 / 1024.0)
        } else {
            write!(f, "{:.2} GB", n / 1024.0 / 1024.0 / 1024.0)
        }
    }
}

/// Reads a duration. `None` if it is not one. Units: `ms s m h d`, joined from large to small; a bare number is seconds
/// (a fraction is allowed: `0.5`).
pub fn span(text: &str) -> Option<Span> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return seconds(text.parse().ok()?);
    }
    let mut total: u64 = 0;
    let mut rest = text;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit: u64 = match rest[..letters].to_ascii_lowercase().as_str() {
            "ms" => 1,
            "s" | "sec" | "secs" => 1000,
            "m" | "min" | "mins" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            _ => return None,
        };
        if unit >= last_unit {
            return None;
        }
        last_unit = unit;
        let ms = number * unit as f64;
        if !ms.is_finite() || ms > MAX_SPAN_MS {
            return None;
        }
        total = total.checked_add(ms.round() as u64)?;
        rest = rest[letters..].trim_start();
    }
    Some(Span(total))
}

/// A number of seconds as a span; `None` if negative, not finite or beyond a thousand years.
pub fn seconds(secs: f64) -> Option<Span> {
    let ms = secs * 1000.0;
    (ms.is_finite() && (0.0..=MAX_SPAN_MS).contains(&ms)).then(|| Span(ms.round() as u64))
}

/// Reads a size. `None` if it is not one.
pub fn bytes(text: &str) -> Option<Bytes> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor: u64 = match text[digits..].trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor).map(Bytes)
}

/// A thousand years: beyond it a duration is a slip of the keyboard.
const MAX_SPAN_MS: f64 = 1000.0 * 365.25 * 86_400_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_written() {
        let cases = [
            ("5", 5_000),
            ("0.5", 500),
            ("5s", 5_000),
            ("250ms", 250),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("6h", 21_600_000),
            ("1.5h", 5_400_000),
            ("2d", 172_800_000),
        ];
        for (text, ms) in cases {
            assert_eq!(span(text), Some(Span(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "fast", "5x", "s", "-5", "5s5m", "1s1s", "1e400", "99999999999999h", "1..2"] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024_in_any_case() {
        for (text, n) in
            [("0", 0), ("50MB", 50 << 20), ("50mb", 50 << 20), ("10 MB", 10 << 20), ("1GB", 1 << 30), ("64KiB", 64 << 10), ("7", 7)]
        {
            assert_eq!(bytes(text), Some(Bytes(n)), "{text}");
        }
        for text in ["", "1.5MB", "MB", "-1", "10 QB", "99999999999999999999", "99999999999GB"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
