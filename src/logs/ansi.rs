//! ANSI escape sequences removed from a stream of bytes (`strip_ansi`).
//!
//! As Supervisor does it (`dispatchers.stripEscapes`): a sequence begins with `ESC [` and ends with one of
//! `HfABCDRsuJKhlpm`. Two differences, both on purpose: a sequence that is cut by the border of two reads is
//! still removed, and a line end ends a sequence that was never finished, so that garbage cannot eat lines.
//! Not a terminal emulator: other escapes pass through.

use memchr::memchr;

const ESC: u8 = 0x1b;

/// Removes sequences chunk by chunk; remembers where the last chunk ended.
#[derive(Debug, Default)]
pub struct Stripper {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// An `ESC` was seen, and is owed to the output if no `[` follows.
    Escape,
    Sequence,
}

impl Stripper {
    /// `chunk` without its sequences: the chunk itself where there is nothing to remove, else written to `scratch`.
    pub fn strip<'a>(&mut self, chunk: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
        if self.state == State::Text && memchr(ESC, chunk).is_none() {
            return chunk;
        }
        scratch.clear();
        let mut at = 0;
        while at < chunk.len() {
            match self.state {
                State::Text => {
                    let rest = &chunk[at..];
                    let plain = memchr(ESC, rest).unwrap_or(rest.len());
                    scratch.extend_from_slice(&rest[..plain]);
                    at += plain;
                    if at < chunk.len() {
                        self.state = State::Escape;
                        at += 1;
                    }
                }
                State::Escape => {
                    if chunk[at] == b'[' {
                        self.state = State::Sequence;
                        at += 1;
                    } else {
                        scratch.push(ESC);
                        self.state = State::Text;
                    }
                }
                State::Sequence => {
                    let byte = chunk[at];
                    if byte == b'\n' {
                        self.state = State::Text; // kept: it is the line's end
                    } else {
                        if b"HfABCDRsuJKhlpm".contains(&byte) {
                            self.state = State::Text;
                        }
                        at += 1;
                    }
                }
            }
        }
        scratch
    }

    /// The stream pauses for good (a life is over): what is still owed to the output.
    pub fn flush(&mut self) -> &'static [u8] {
        let owed: &'static [u8] = match self.state {
            State::Escape => &[ESC],
            State::Text | State::Sequence => &[],
        };
        self.state = State::Text;
        owed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pieces(text: &[u8], size: usize) -> Vec<u8> {
        let (mut stripper, mut scratch, mut out) = (Stripper::default(), Vec::new(), Vec::new());
        for piece in text.chunks(size) {
            out.extend_from_slice(stripper.strip(piece, &mut scratch));
        }
        out.extend_from_slice(stripper.flush());
        out
    }

    #[test]
    fn sequences_are_removed_wherever_a_read_cuts_them() {
        let text = b"a\x1b[32mgreen\x1b[0m b\x1b[2;5Hc\x1b]d\x1b\x1b[Ke\n";
        for size in 1..=text.len() {
            assert_eq!(in_pieces(text, size), b"agreen bc\x1b]d\x1be\n", "in pieces of {size}");
        }
    }

    #[test]
    fn plain_text_is_not_copied() {
        let (mut stripper, mut scratch) = (Stripper::default(), Vec::new());
        let text = b"plain".as_slice();
        assert!(std::ptr::eq(stripper.strip(text, &mut scratch), text));
    }

    #[test]
    fn an_unfinished_sequence_does_not_eat_the_line_end() {
        assert_eq!(in_pieces(b"a\x1b[12\nb\n", 3), b"a\nb\n");
    }

    #[test]
    fn an_escape_at_the_very_end_is_not_lost() {
        assert_eq!(in_pieces(b"a\x1b", 10), b"a\x1b");
    }
}
