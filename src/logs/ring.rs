//! The last bytes of a stream, whatever its sinks; cut into lines only when somebody asks.
//!
//! Pushing is a copy of bytes and never looks for a line end: the ring is filled for every line of every
//! worker and read for hardly any. A silent stream has allocated nothing.

use memchr::{memchr, memrchr_iter};
use std::collections::VecDeque;

/// What every stream may keep, however few lines are asked for.
const LEAST_BYTES: usize = 16 * 1024;
/// What no stream may exceed, however many lines are asked for.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// How many bytes are set aside for a line.
const LINE: usize = 128;

#[derive(Debug)]
pub struct Ring {
    bytes: VecDeque<u8>,
    most_lines: u32,
    /// The oldest byte is not the beginning of its line.
    torn: bool,
}

impl Ring {
    /// A ring of up to `most_lines` lines. Bounded in bytes as well: 128 for each line, within 16 KiB and 4 MiB.
    pub fn new(most_lines: u32) -> Ring {
        Ring { bytes: VecDeque::new(), most_lines, torn: false }
    }

    fn most_bytes(&self) -> usize {
        (self.most_lines as usize).saturating_mul(LINE).clamp(LEAST_BYTES, MOST_BYTES)
    }

    pub fn push(&mut self, chunk: &[u8]) {
        let most = self.most_bytes();
        if chunk.len() >= most {
            let from = chunk.len() - most;
            self.torn = match from {
                0 => self.bytes.back().map_or(self.torn, |byte| *byte != b'\n'),
                from => chunk[from - 1] != b'\n',
            };
            self.bytes.clear();
            self.bytes.extend(&chunk[from..]);
            return;
        }
        let over = (self.bytes.len() + chunk.len()).saturating_sub(most);
        if over > 0 {
            self.torn = self.bytes[over - 1] != b'\n';
            self.bytes.drain(..over);
        }
        self.bytes.extend(chunk);
    }

    pub fn clear(&mut self) {
        self.bytes = VecDeque::new();
        self.torn = false;
    }

    /// The last `count` bytes, or what there is.
    pub fn last_bytes(&self, count: u64) -> Vec<u8> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.range(self.bytes.len() - count..).copied().collect()
    }

    /// The last `count` lines, or what there is; a last line that has not ended yet counts as one. The oldest line is left
    /// out when its beginning is gone, unless it is the only one.
    pub fn last_lines(&self, count: u32) -> Vec<u8> {
        let count = count.min(self.most_lines) as usize;
        let mut bytes: Vec<u8> = self.bytes.iter().copied().collect();
        if count == 0 || bytes.is_empty() {
            return Vec::new();
        }
        let last = bytes.len() - 1;
        // The end of the line before the first that is wanted: the one that ends the last line does not count.
        let before = memrchr_iter(b'\n', &bytes[..last]).nth(count - 1);
        let from = match before {
            Some(end) => end + 1,
            None if self.torn => memchr(b'\n', &bytes[..last]).map_or(0, |end| end + 1),
            None => 0,
        };
        bytes.split_off(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_ring_holds_no_memory() {
        assert_eq!(Ring::new(1000).bytes.capacity(), 0);
    }

    #[test]
    fn the_last_lines_come_whole() {
        let mut ring = Ring::new(100);
        ring.push(b"one\ntw");
        ring.push(b"o\nthree\nopen");
        assert_eq!(ring.last_lines(2), b"three\nopen");
        assert_eq!(ring.last_lines(3), b"two\nthree\nopen");
        assert_eq!(ring.last_lines(50), b"one\ntwo\nthree\nopen");
        assert_eq!(ring.last_lines(0), b"");
        ring.push(b"\n");
        assert_eq!(ring.last_lines(1), b"open\n");
        assert_eq!(ring.last_bytes(6), b"\nopen\n");
        assert_eq!(ring.last_bytes(u64::MAX).len(), 19);
    }

    #[test]
    fn the_ring_is_bounded_in_lines_and_in_bytes() {
        let mut ring = Ring::new(3);
        for number in 0..10_000 {
            ring.push(format!("line {number}\n").as_bytes());
        }
        assert_eq!(ring.last_lines(10), b"line 9997\nline 9998\nline 9999\n");
        assert!(ring.bytes.len() <= LEAST_BYTES);
        let capacity = ring.bytes.capacity();
        ring.push(&vec![b'x'; 10 * LEAST_BYTES]);
        assert_eq!(ring.bytes.len(), LEAST_BYTES);
        assert!(capacity <= 2 * LEAST_BYTES && ring.bytes.capacity() <= 2 * LEAST_BYTES);
        assert_eq!(ring.last_lines(1).len(), LEAST_BYTES, "the only line is shown without its beginning");
    }

    #[test]
    fn a_line_that_lost_its_beginning_is_left_out() {
        let mut ring = Ring::new(1000);
        let bound = ring.most_bytes();
        ring.push(b"0123456789\n");
        ring.push(&vec![b'y'; bound - 7]);
        ring.push(b"\nz\n");
        assert!(ring.torn);
        assert!(ring.last_lines(1000).starts_with(b"yyy") && ring.last_lines(1000).ends_with(b"y\nz\n"));
    }
}
