//! An sd_notify datagram, parsed: what a worker may tell us about itself.
//!
//! Newline-separated `KEY=VALUE`. Unknown keys are ignored, as the protocol asks; a malformed value is as
//! good as absent. Counters are totals of the process, not steps, so a lost datagram costs nothing.

use crate::model::time::Span;
use serde::{Deserialize, Serialize};

/// What one datagram said. `None` and `false` mean: it did not speak of that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    pub ready: bool,
    pub stopping: bool,
    pub reloading: bool,
    pub watchdog: bool,
    /// `WATCHDOG=trigger`: the worker asks to be treated as hung.
    pub trigger: bool,
    pub status: Option<String>,
    pub extend_timeout: Option<Span>,
    /// Jobs done by this process so far.
    pub jobs: Option<u64>,
    /// Jobs failed in this process so far (also counted in `jobs`, or not: the worker's choice).
    pub errors: Option<u64>,
    /// The job in hand; `Some("")` means idle.
    pub job: Option<String>,
}

impl Notify {
    /// Parses a datagram. Never fails: what cannot be understood is left out.
    pub fn parse(datagram: &[u8]) -> Notify {
        let mut told = Notify::default();
        for line in datagram.split(|b| *b == b'\n') {
            let Some(eq) = line.iter().position(|b| *b == b'=') else { continue };
            let value = String::from_utf8_lossy(&line[eq + 1..]);
            let number = || value.trim().parse::<u64>().ok();
            match &line[..eq] {
                b"READY" => told.ready |= value == "1",
                b"STOPPING" => told.stopping |= value == "1",
                b"RELOADING" => told.reloading |= value == "1",
                b"WATCHDOG" => match &*value {
                    "1" => told.watchdog = true,
                    "trigger" => told.trigger = true,
                    _ => {}
                },
                b"STATUS" => told.status = Some(clipped(&value)),
                b"EXTEND_TIMEOUT_USEC" => told.extend_timeout = number().map(|us| Span(us / 1000)),
                b"X_JOBS" => told.jobs = number().or(told.jobs),
                b"X_ERRORS" => told.errors = number().or(told.errors),
                b"X_JOB" => told.job = Some(clipped(&value)),
                _ => {}
            }
        }
        told
    }

    /// True if it says nothing that we understand.
    pub fn is_silent(&self) -> bool {
        *self == Notify::default()
    }
}

/// One line of bounded length without control characters: it is shown on terminals and pages.
fn clipped(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

/// Characters of a status or job name that are kept.
const MAX_TEXT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_of_many_keys_is_read_whole() {
        let told = Notify::parse(
            b"READY=1\nX_JOBS=17\nX_ERRORS=2\nX_JOB=mail-9\nSTATUS=sending\nWATCHDOG=1\nEXTEND_TIMEOUT_USEC=5000000\nFOO=bar",
        );
        let expected = Notify {
            ready: true,
            watchdog: true,
            status: Some("sending".into()),
            extend_timeout: Some(Span::secs(5)),
            jobs: Some(17),
            errors: Some(2),
            job: Some("mail-9".into()),
            ..Notify::default()
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn rubbish_says_nothing() {
        for bytes in [&b""[..], b"\n\n", b"READY", b"READY=yes", b"X_JOBS=-1", b"X_JOBS=abc", b"\xff\xfe=\x00", b"WATCHDOG=2"] {
            assert!(Notify::parse(bytes).is_silent(), "{bytes:?}");
        }
    }

    #[test]
    fn an_empty_job_means_idle_and_long_text_is_clipped() {
        assert_eq!(Notify::parse(b"X_JOB=").job, Some(String::new()));
        let long = [b"STATUS=".as_slice(), &[b'x'; 5000], b"\x1b[31m"].concat();
        assert_eq!(Notify::parse(&long).status.map(|s| s.len()), Some(MAX_TEXT));
    }
}
