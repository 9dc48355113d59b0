//! Bytes to lines, and what to do with one that is too long.
//!
//! Only the job counters need lines; files, the ring and followers take bytes as they come. A line that lies
//! whole in a chunk is passed on without a copy. The beginning of one that does not is kept, up to
//! `LONGEST`; the rest of a longer one is skipped, so a gigabyte without a line end costs 64 KiB.

use memchr::{memchr, memchr_iter};

/// What is seen of a line at most, in bytes. Files get it whole.
pub const LONGEST: usize = 64 * 1024;

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// The beginning of a line that has not ended yet. Unallocated while chunks end with their lines.
    begun: Vec<u8>,
}

impl Lines {
    /// Calls `each` with every line that ends in `chunk`, without its line end (`\n` or `\r\n`).
    pub fn feed(&mut self, mut chunk: &[u8], mut each: impl FnMut(&[u8])) {
        if !self.begun.is_empty() {
            let end = memchr(b'\n', chunk);
            self.keep(&chunk[..end.unwrap_or(chunk.len())]);
            match end {
                None => return,
                Some(end) => chunk = &chunk[end + 1..],
            }
            each(trimmed(&self.begun));
            self.begun.clear();
            self.begun.shrink_to(1024);
        }
        let mut from = 0;
        for end in memchr_iter(b'\n', chunk) {
            each(trimmed(&chunk[from..end.min(from + LONGEST)]));
            from = end + 1;
        }
        self.keep(&chunk[from..]);
    }

    /// No more will come: calls `each` with what was begun and not ended, if anything.
    pub fn finish(&mut self, each: impl FnOnce(&[u8])) {
        let begun = std::mem::take(&mut self.begun);
        if !begun.is_empty() {
            each(trimmed(&begun));
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LONGEST - self.begun.len();
        self.begun.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// How many lines end in `bytes`.
pub fn ends(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}

/// `1 line (4 bytes)`, `20 lines (2000 bytes)`.
pub fn amount(lines: u64, bytes: u64) -> String {
    let noun = if lines == 1 { "line" } else { "lines" };
    format!("{lines} {noun} ({bytes} bytes)")
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pieces(text: &[u8], size: usize) -> Vec<Vec<u8>> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in text.chunks(size) {
            lines.feed(piece, |line| out.push(line.to_vec()));
        }
        lines.finish(|line| out.push(line.to_vec()));
        out
    }

    #[test]
    fn lines_are_the_same_wherever_a_read_cuts_them() {
        let text = b"one\r\n\ntwo \xff\0three\nopen";
        for size in 1..=text.len() {
            assert_eq!(in_pieces(text, size), [b"one".as_slice(), b"", b"two \xff\0three", b"open"], "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_takes_64_kib_and_no_more() {
        let mut lines = Lines::default();
        let chunk = vec![b'x'; 100_000];
        for _ in 0..100 {
            lines.feed(&chunk, |_| panic!("it has not ended"));
        }
        assert_eq!(lines.begun.len(), LONGEST);
        assert!(lines.begun.capacity() <= 2 * LONGEST);
        let mut seen = Vec::new();
        lines.feed(b"tail\nnext\n", |line| seen.push(line.len()));
        assert_eq!(seen, [LONGEST, 4]);
    }

    #[test]
    fn a_long_line_within_one_chunk_is_cut_as_well() {
        let mut text = vec![b'x'; LONGEST + 10];
        text.push(b'\n');
        assert_eq!(in_pieces(&text, text.len())[0].len(), LONGEST);
    }
}
