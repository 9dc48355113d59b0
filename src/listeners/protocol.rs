//! What a listener says, byte by byte: Supervisor's event listener protocol (version 3.0) as a pure machine.
//!
//! A listener begins ACKNOWLEDGED. `READY\n` makes it READY; being sent an event makes it BUSY; `RESULT n\n` and n bytes make
//! it ACKNOWLEDGED again, and say whether it took the event (`OK`) or not (anything else). Whatever does not fit makes it
//! UNKNOWN: it is sent nothing until it is restarted, since nobody can tell which event a later word would be about.
//!
//! True to `dispatchers.PEventListenerDispatcher`, oddities included: a result line is not checked to begin with `RESULT `,
//! its first seven bytes are dropped, and the rest is read as Python's `int()` does. Beyond it: a result that is not `OK` is
//! counted and not kept, and a line has a longest length, so a listener cannot fill our memory; and a negative length is a
//! bad one (Supervisor slices with it).

const READY: &[u8] = b"READY\n";
/// What `RESULT ` takes.
const PREFIX: usize = 7;
/// No number that makes sense is longer.
const LONGEST_LINE: usize = 1024;
/// So much of a result that is not `OK` is shown.
const SHOWN: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// It owes us a `READY`.
    Acknowledged,
    Ready,
    /// It has an event in hand, and owes us a `RESULT`.
    Busy,
    /// It broke the protocol.
    Unknown,
}

/// What a listener's words came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It wants an event.
    Ready,
    /// It took the event in hand.
    Accepted,
    /// It did not; with the beginning of what it said.
    Rejected(String),
    /// It is UNKNOWN from now on; in words why. An event in hand is to be given to another.
    Lost(String),
}

#[derive(Debug)]
pub struct Protocol {
    talk: Talk,
    /// The beginning of a word or line that has not ended.
    begun: Vec<u8>,
    result: Option<Gathering>,
}

#[derive(Debug)]
struct Gathering {
    missing: u64,
    /// Its beginning.
    text: Vec<u8>,
    longer: bool,
}

impl Protocol {
    pub fn new() -> Protocol {
        Protocol { talk: Talk::Acknowledged, begun: Vec::new(), result: None }
    }

    pub fn talk(&self) -> Talk {
        self.talk
    }

    /// It is being sent an event. Only to be called when it is READY.
    pub fn sent(&mut self) {
        debug_assert_eq!(self.talk, Talk::Ready);
        self.talk = Talk::Busy;
    }

    /// Takes what was read from it, wherever the reads were cut, and calls `each` with what that comes to, in order.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Heard)) {
        while !bytes.is_empty() {
            match self.talk {
                Talk::Unknown => return,
                Talk::Acknowledged => {
                    let wanted = &READY[self.begun.len()..];
                    let taken = wanted.len().min(bytes.len());
                    self.begun.extend_from_slice(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    if self.begun.len() < READY.len() {
                        return;
                    }
                    let said = std::mem::take(&mut self.begun);
                    if said != READY {
                        return self.lose(format!("said {} where READY was expected", shown(&said)), each);
                    }
                    self.talk = Talk::Ready;
                    each(Heard::Ready);
                }
                Talk::Ready => return self.lose(format!("said {} though it was asked nothing", shown(bytes)), each),
                Talk::Busy => match self.result.take() {
                    None => {
                        let end = memchr::memchr(b'\n', bytes);
                        let taken = &bytes[..end.unwrap_or(bytes.len())];
                        if self.begun.len() + taken.len() > LONGEST_LINE {
                            self.begun.extend_from_slice(&taken[..taken.len().min(SHOWN)]);
                            let said = std::mem::take(&mut self.begun);
                            return self.lose(format!("bad result line: {}", shown(&said)), each);
                        }
                        self.begun.extend_from_slice(taken);
                        let Some(end) = end else { return };
                        bytes = &bytes[end + 1..];
                        let line = std::mem::take(&mut self.begun);
                        match length(line.get(PREFIX..).unwrap_or(b"")) {
                            None => return self.lose(format!("bad result line: {}", shown(&line)), each),
                            Some(0) => self.judge(b"", false, &mut each),
                            Some(missing) => self.result = Some(Gathering { missing, text: Vec::new(), longer: false }),
                        }
                    }
                    Some(mut result) => {
                        let taken = bytes.len().min(usize::try_from(result.missing).unwrap_or(usize::MAX));
                        let room = (SHOWN - result.text.len()).min(taken);
                        result.text.extend_from_slice(&bytes[..room]);
                        result.longer |= room < taken;
                        result.missing -= taken as u64;
                        bytes = &bytes[taken..];
                        if result.missing == 0 {
                            self.judge(&result.text, result.longer, &mut each);
                        } else {
                            self.result = Some(result);
                        }
                    }
                },
            }
        }
    }

    fn judge(&mut self, result: &[u8], longer: bool, each: &mut impl FnMut(Heard)) {
        self.talk = Talk::Acknowledged;
        each(match (result, longer) {
            (b"OK", false) => Heard::Accepted,
            (_, true | false) => Heard::Rejected(shown(result)),
        });
    }

    fn lose(&mut self, why: String, mut each: impl FnMut(Heard)) {
        (self.talk, self.begun, self.result) = (Talk::Unknown, Vec::new(), None);
        each(Heard::Lost(why));
    }
}

/// A length as Python's `int()` reads one: white space around it, a `+`, and single `_` between digits are allowed.
fn length(text: &[u8]) -> Option<u64> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let from = text.iter().position(|byte| !is_space(byte))?;
    let to = text.iter().rposition(|byte| !is_space(byte))?;
    let text = &text[from..=to];
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let mut number: u64 = 0;
    let mut digit_before = false;
    for byte in text {
        match byte {
            b'0'..=b'9' => {
                number = number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
                digit_before = true;
            }
            b'_' if digit_before => digit_before = false,
            _ => return None,
        }
    }
    digit_before.then_some(number)
}

/// The beginning of `bytes` in quotes.
fn shown(bytes: &[u8]) -> String {
    let dots = if bytes.len() > SHOWN { "…" } else { "" };
    format!("\"{}{dots}\"", bytes[..bytes.len().min(SHOWN)].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Heard::{Accepted, Lost, Ready, Rejected};

    /// Feeds `bytes` in pieces of `size`, sending an event whenever the listener is ready, if `eager`.
    fn hear(bytes: &[u8], size: usize) -> Vec<Heard> {
        let (mut protocol, mut all) = (Protocol::new(), Vec::new());
        for (at, piece) in bytes.chunks(size).enumerate() {
            protocol.feed(piece, |heard| all.push(heard));
            // A real listener does not answer before it is asked; so the event is sent at the end of a word, wherever it was cut.
            let upto = &bytes[..(at * size + piece.len()).min(bytes.len())];
            if protocol.talk() == Talk::Ready && upto.ends_with(b"READY\n") {
                protocol.sent();
            }
        }
        all
    }

    #[test]
    fn a_listener_is_ready_takes_and_rejects() {
        assert_eq!(
            hear(b"READY\nRESULT 2\nOKREADY\nRESULT 4\nFAILREADY\n", 1),
            [Ready, Accepted, Ready, Rejected("\"FAIL\"".into()), Ready]
        );
    }

    #[test]
    fn result_and_ready_may_come_in_one_write() {
        let mut protocol = Protocol::new();
        protocol.feed(b"READY\n", |_| {});
        protocol.sent();
        let mut all = Vec::new();
        protocol.feed(b"RESULT 2\nOKREADY\n", |heard| all.push(heard));
        assert_eq!((all, protocol.talk()), (vec![Accepted, Ready], Talk::Ready));
    }

    #[test]
    fn what_does_not_fit_loses_the_listener_until_it_is_restarted() {
        let lost = |bytes: &[u8], sent: bool| {
            let (mut protocol, mut all) = (Protocol::new(), Vec::new());
            if sent {
                protocol.feed(b"READY\n", |_| {});
                protocol.sent();
            }
            protocol.feed(bytes, |heard| all.push(heard));
            protocol.feed(b"READY\nREADY\n", |heard| panic!("it was lost, and yet: {heard:?}"));
            assert_eq!(protocol.talk(), Talk::Unknown);
            matches!(all.last(), Some(Lost(_)))
        };
        assert!(lost(b"hello!", false));
        assert!(lost(b"READY\r\n", false));
        assert!(lost(b"READY\nREADY\n", false), "it was asked nothing");
        for bad in ["READY\n", "RESULT \n", "RESULT x\n", "RESULT -1\n", "RESULT 1__0\n", "RESULT 1.0\n", "OK\n", "\n"] {
            assert!(lost(bad.as_bytes(), true), "{bad}");
        }
        assert!(lost(&[b'x'; 5000], true), "a line without end");
    }

    #[test]
    fn lengths_are_read_as_python_reads_them() {
        let read = |text: &str| length(text.as_bytes());
        assert_eq!(["2", " 2 ", "+2", "0_2", "002", "2\r"].map(read), [Some(2); 6]);
        assert_eq!(["", " ", "-2", "2 2", "_2", "2_", "0x2", "2.0", "99999999999999999999999"].map(read), [None; 9]);
    }

    #[test]
    fn the_first_seven_bytes_of_a_result_line_are_not_looked_at() {
        assert_eq!(hear(b"READY\nwhatev 2\nOK", 1), [Ready, Accepted]);
    }

    #[test]
    fn an_endless_result_takes_no_memory_and_is_rejected() {
        let mut protocol = Protocol::new();
        protocol.feed(b"READY\n", |_| {});
        protocol.sent();
        protocol.feed(b"RESULT 1000000\n", |_| {});
        let mut all = Vec::new();
        for _ in 0..1000 {
            protocol.feed(&[b'x'; 1000], |heard| all.push(heard));
        }
        assert!(matches!(&all[..], [Rejected(text)] if text.len() <= SHOWN + 8));
    }

    #[test]
    fn an_empty_result_is_a_rejection() {
        assert_eq!(hear(b"READY\nRESULT 0\nREADY\n", 1), [Ready, Rejected("\"\"".into()), Ready]);
    }

    /// A small generator, so that a failure comes again.
    fn next(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    #[test]
    fn mutated_words_in_random_pieces_never_panic_nor_grow_and_cuts_do_not_matter() {
        let mut seed = 0x9E37_79B9_7F4A_7C15;
        for _ in 0..20_000 {
            let mut bytes = b"RESULT 2\nOKREADY\n".to_vec();
            for _ in 0..next(&mut seed) % 4 {
                let at = next(&mut seed) as usize % bytes.len();
                match next(&mut seed) % 4 {
                    0 => bytes[at] = next(&mut seed) as u8,
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, b"0123456789\n "[next(&mut seed) as usize % 12]),
                    _ => bytes.extend_from_within(at..),
                }
                if bytes.is_empty() {
                    bytes.push(b'\n');
                }
            }
            let heard = |pieces: &mut dyn FnMut(usize) -> usize| {
                let (mut protocol, mut all, mut rest) = (Protocol::new(), Vec::new(), &bytes[..]);
                protocol.feed(b"READY\n", |_| {});
                protocol.sent();
                while !rest.is_empty() {
                    let (piece, left) = rest.split_at(pieces(rest.len()));
                    protocol.feed(piece, |heard| all.push(heard));
                    rest = left;
                }
                assert!(protocol.begun.len() <= LONGEST_LINE + SHOWN);
                // The words in which a fault is told show what came with one read.
                let all: Vec<Heard> = all.into_iter().map(|heard| if let Lost(_) = heard { Lost(String::new()) } else { heard }).collect();
                (all, protocol.talk())
            };
            let whole = heard(&mut |left| left);
            let cut = heard(&mut |left| 1 + next(&mut seed) as usize % left);
            assert_eq!(whole, cut, "{}", bytes.escape_ascii());
        }
    }
}
