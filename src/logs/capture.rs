//! Supervisor's capture: text between two tokens is no log, but an event.
//!
//! What a worker writes between `<!--XSUPERVISOR:BEGIN-->` and `<!--XSUPERVISOR:END-->` is kept, at most so many bytes (then
//! the oldest go), and handed over at the end token. A token may be cut by the border of two reads; only as much as could be
//! the beginning of one is held back. (Supervisor holds back everything that is shorter than a token.) A token looks like any
//! other text where no capture is wanted.

use memchr::memmem;

const BEGIN: &[u8] = b"<!--XSUPERVISOR:BEGIN-->";
const END: &[u8] = b"<!--XSUPERVISOR:END-->";

/// A part of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// It belongs into the log.
    Log(&'a [u8]),
    /// It was captured. (It is still output, so it is in PROCESS_LOG events, as with Supervisor.)
    Inside(&'a [u8]),
    /// The end token came: all that was kept since the begin token.
    Captured(Vec<u8>),
}

#[derive(Debug)]
pub struct Capture {
    max: usize,
    inside: bool,
    /// How much of the token that is looked for was the end of the last chunk.
    held: usize,
    kept: Vec<u8>,
    /// Where in `kept` the newest `max` bytes begin. Older ones are moved out now and then, not byte by byte.
    first: usize,
}

impl Capture {
    pub fn new(max: u64) -> Capture {
        Capture { max: usize::try_from(max).unwrap_or(usize::MAX), inside: false, held: 0, kept: Vec::new(), first: 0 }
    }

    pub fn set_max(&mut self, max: u64) {
        self.max = usize::try_from(max).unwrap_or(usize::MAX);
    }

    /// Calls `each` with the parts of `chunk` (and of what was held back), in order.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(Piece<'_>)) {
        if self.held == 0 {
            return self.take(chunk, &mut each);
        }
        let token = self.token();
        let wanted = &token[self.held..];
        let agree = wanted.iter().zip(chunk).take_while(|(a, b)| a == b).count();
        if agree == wanted.len() {
            self.held = 0;
            self.toggle(&mut each);
            self.take(&chunk[agree..], &mut each);
        } else if agree == chunk.len() {
            self.held += agree;
        } else {
            // It was none. A token may begin within what was held back only if a token's end repeats its beginning; none does, but
            // the next `<` may be in the chunk.
            let held = std::mem::take(&mut self.held);
            self.pass(&token[..held], &mut each);
            self.take(chunk, &mut each);
        }
    }

    /// The life is over: what was held back is text, and what was captured was not ended and is lost, as with Supervisor.
    pub fn finish(&mut self, mut each: impl FnMut(Piece<'_>)) {
        let held = std::mem::take(&mut self.held);
        if held > 0 && !self.inside {
            each(Piece::Log(&BEGIN[..held]));
        }
        (self.inside, self.kept, self.first) = (false, Vec::new(), 0);
    }

    fn token(&self) -> &'static [u8] {
        if self.inside { END } else { BEGIN }
    }

    fn take(&mut self, mut chunk: &[u8], each: &mut impl FnMut(Piece<'_>)) {
        while !chunk.is_empty() {
            let token = self.token();
            if let Some(at) = memmem::find(chunk, token) {
                self.pass(&chunk[..at], each);
                self.toggle(each);
                chunk = &chunk[at + token.len()..];
                continue;
            }
            let longest = (token.len() - 1).min(chunk.len());
            self.held = (1..=longest).rev().find(|n| chunk.ends_with(&token[..*n])).unwrap_or(0);
            return self.pass(&chunk[..chunk.len() - self.held], each);
        }
    }

    fn pass(&mut self, text: &[u8], each: &mut impl FnMut(Piece<'_>)) {
        match (text, self.inside) {
            ([], _) => {}
            (text, false) => each(Piece::Log(text)),
            (text, true) => {
                self.keep(text);
                each(Piece::Inside(text));
            }
        }
    }

    fn keep(&mut self, text: &[u8]) {
        let text = &text[text.len().saturating_sub(self.max)..];
        self.kept.extend_from_slice(text);
        self.first = self.first.max(self.kept.len().saturating_sub(self.max));
        if self.first > self.max.max(64 * 1024) {
            self.kept.drain(..self.first);
            self.first = 0;
        }
    }

    fn toggle(&mut self, each: &mut impl FnMut(Piece<'_>)) {
        self.inside = !self.inside;
        if !self.inside {
            let mut kept = std::mem::take(&mut self.kept);
            kept.drain(..std::mem::take(&mut self.first));
            each(Piece::Captured(kept));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The log, what was captured, and all that is output.
    fn in_pieces(text: &[u8], size: usize, max: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (mut capture, mut log, mut captured) = (Capture::new(max), Vec::new(), Vec::new());
        let mut sort = |piece: Piece<'_>| match piece {
            Piece::Log(text) => log.extend_from_slice(text),
            Piece::Inside(text) => assert!(!text.is_empty()),
            Piece::Captured(data) => captured.push(data),
        };
        text.chunks(size).for_each(|chunk| capture.feed(chunk, &mut sort));
        capture.finish(&mut sort);
        (log, captured)
    }

    #[test]
    fn captures_are_the_same_wherever_a_read_cuts_them() {
        let text = b"a<!--XSUPERVISOR:BEGIN-->one<!--XSUPER<!--XSUPERVISOR:END-->b<!--XSUPERVISOR:BEG<<!--XSUPERVISOR:BEGIN--><!--XSUPERVISOR:END-->c<!--";
        for size in 1..=text.len() {
            let (log, captured) = in_pieces(text, size, 100);
            assert_eq!(log, b"ab<!--XSUPERVISOR:BEG<c<!--", "in pieces of {size}");
            assert_eq!(captured, [&b"one<!--XSUPER"[..], b""], "in pieces of {size}");
        }
    }

    #[test]
    fn the_newest_bytes_are_kept_and_memory_is_bounded() {
        let mut capture = Capture::new(1000);
        capture.feed(BEGIN, |_| {});
        for n in 0..10_000u32 {
            capture.feed(format!("{n:>100}").as_bytes(), |_| {});
        }
        assert!(capture.kept.capacity() < 512 * 1024);
        let mut seen = Vec::new();
        capture.feed(END, |piece| {
            if let Piece::Captured(data) = piece {
                seen = data
            }
        });
        assert_eq!(seen.len(), 1000);
        assert!(seen.ends_with(b"9999") && seen[..100].ends_with(b"9990"));
        assert_eq!(in_pieces(b"<!--XSUPERVISOR:BEGIN-->12345<!--XSUPERVISOR:END-->", 99, 3).1, [b"345"]);
    }

    #[test]
    fn a_capture_that_is_never_ended_is_no_log() {
        assert_eq!(in_pieces(b"x<!--XSUPERVISOR:BEGIN-->lost<!--XSUP", 7, 100), (b"x".to_vec(), vec![]));
    }
}
