//! Where words go, and how they look there: colours, columns, times.
//!
//! Everything that the tool shows passes through a `Screen`, so that a test can hold one, with a clock that
//! stands. In a pipe the text is plain and to the byte what supervisorctl's readers expect; on a terminal a state
//! has a colour, never only a colour.

use crate::model::state::State;
use crate::model::time::{Span, Stamp};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io::{self, Write};

pub struct Screen<'a> {
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    /// Colours on `out`.
    pub colour: bool,
    /// A line of progress on `err`, drawn over and over.
    pub progress: bool,
    /// JSON instead of text on `out`.
    pub json: bool,
    pub clock: &'a dyn Fn() -> Stamp,
    pub zone: TimeZone,
    /// Whether a line of progress stands on `err`.
    pub drawn: bool,
}

impl Screen<'_> {
    pub fn now(&self) -> Stamp {
        (self.clock)()
    }

    /// A line on stdout, at once: somebody may be waiting for it.
    pub fn say(&mut self, line: &str) -> io::Result<()> {
        self.wipe()?;
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }

    /// A line on stderr.
    pub fn note(&mut self, line: &str) -> io::Result<()> {
        self.wipe()?;
        writeln!(self.err, "{line}")
    }

    /// Draws the line of progress anew, where there is somebody to see it.
    pub fn show(&mut self, line: &str) -> io::Result<()> {
        if self.progress {
            write!(self.err, "\r\x1b[K{line}")?;
            self.err.flush()?;
            self.drawn = true;
        }
        Ok(())
    }

    /// Takes the line of progress away.
    pub fn wipe(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.drawn) {
            write!(self.err, "\r\x1b[K")?;
            self.err.flush()?;
        }
        Ok(())
    }

    /// A JSON document on stdout.
    pub fn json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        writeln!(self.out, "{value}")?;
        self.out.flush()
    }

    /// A state's word, padded to `width` and coloured where colours are.
    pub fn state(&self, state: State, width: usize) -> String {
        let word = state.word();
        let padded = format!("{word:<width$}");
        if !self.colour {
            return padded;
        }
        let code = match state {
            State::Running => "32",
            State::Starting | State::Launching | State::Stopping | State::Clearing => "33",
            State::Waiting => "36",
            State::Backoff => "1;33",
            State::Fatal => "1;31",
            State::Stopped | State::Exited => "2",
        };
        format!("\x1b[{code}m{padded}\x1b[0m")
    }

    /// Less important text.
    pub fn dim(&self, text: &str) -> String {
        if self.colour { format!("\x1b[2m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A wall-clock time as people read it, in local time.
    pub fn time(&self, at: Stamp) -> String {
        match Timestamp::from_millisecond(at.0) {
            Ok(at) => at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
            Err(_) => "?".to_owned(),
        }
    }

    /// How long ago `at` was; zero if it lies ahead (clocks jump).
    pub fn since(&self, at: Stamp) -> Span {
        Span(u64::try_from(self.now().0.saturating_sub(at.0)).unwrap_or(0))
    }
}

/// supervisorctl's `uptime`: `0:01:02`, `1 day, 2:03:04` (Python's timedelta).
pub fn uptime(span: Span) -> String {
    let secs = span.0 / 1000;
    let clock = format!("{}:{:02}:{:02}", secs % 86_400 / 3600, secs % 3600 / 60, secs % 60);
    match secs / 86_400 {
        0 => clock,
        1 => format!("1 day, {clock}"),
        days => format!("{days} days, {clock}"),
    }
}

/// Text of others (a worker's status, a job's name) without what would steer a terminal.
pub fn tame(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `1 worker`, `2 workers`.
pub fn plural(n: u32, noun: &str) -> String {
    if n == 1 { format!("{n} {noun}") } else { format!("{n} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_reads_as_supervisorctl_prints_it() {
        assert_eq!(uptime(Span::millis(62_900)), "0:01:02");
        assert_eq!(uptime(Span::secs(86_399)), "23:59:59");
        assert_eq!(uptime(Span::secs(86_400 + 7_384)), "1 day, 2:03:04");
        assert_eq!(uptime(Span::secs(10 * 86_400)), "10 days, 0:00:00");
    }

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(tame("a\x1b[31mb\nc"), "a [31mb c");
    }
}
