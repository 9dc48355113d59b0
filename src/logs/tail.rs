//! Looking at a log: the last bytes of its file, and following on.
//!
//! A follower gets what comes from now on through a bounded queue. One that is too slow never holds up the pump: it loses
//! chunks, and when there is room again gets a line of ours that says how much. Reading the end of a file is done by whoever
//! asks, not by the log thread: the disk may be slow.

use crate::logs::lines;
use bytes::Bytes;
use memchr::memchr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc::{self, error::TrySendError};

/// How many chunks may wait for a follower.
const MOST_CHUNKS: usize = 1024;
/// How many bytes may wait for a follower.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// One reader of a stream; the sending end.
#[derive(Debug)]
pub struct Follower {
    chunks: mpsc::Sender<Bytes>,
    /// Bytes that were sent and not yet dropped by the reader.
    waiting: Arc<AtomicUsize>,
    missed: Missed,
    /// What he got last ended with its line.
    line_start: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Missed {
    lines: u64,
    bytes: u64,
}

/// Bytes on their way to a follower; gives the room back when he drops them.
struct Waiting {
    bytes: Vec<u8>,
    waiting: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Waiting {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

impl Follower {
    pub fn new() -> (Follower, mpsc::Receiver<Bytes>) {
        let (chunks, receiver) = mpsc::channel(MOST_CHUNKS);
        (Follower { chunks, waiting: Arc::default(), missed: Missed::default(), line_start: true }, receiver)
    }

    /// Passes `chunk` on if there is room. False: he has gone.
    pub fn send(&mut self, chunk: &[u8]) -> bool {
        if self.chunks.is_closed() {
            return false;
        }
        if self.missed.bytes == 0 {
            return match self.try_send(chunk.to_vec()) {
                Ok(()) => true,
                Err(gone) => {
                    self.miss(chunk);
                    !gone
                }
            };
        }
        // He goes on at the beginning of a line, behind the line that tells what he missed. Room for a quarter of the queue
        // first: else a reader who stays too slow would get such a line for every chunk.
        let room = self.waiting.load(Ordering::Relaxed) < MOST_BYTES * 3 / 4 && self.chunks.capacity() > MOST_CHUNKS / 4;
        let Some(end) = memchr(b'\n', chunk).filter(|_| room) else {
            self.miss(chunk);
            return true;
        };
        let Missed { mut lines, mut bytes } = self.missed;
        (lines, bytes) = (lines + 1, bytes + end as u64 + 1);
        let begin = if self.line_start { "" } else { "\n" };
        let mut text = format!("{begin}ganger: {} missing here: this reader was too slow\n", lines::amount(lines, bytes)).into_bytes();
        text.extend_from_slice(&chunk[end + 1..]);
        match self.try_send(text) {
            Ok(()) => {
                self.missed = Missed::default();
                true
            }
            Err(gone) => {
                self.miss(chunk);
                !gone
            }
        }
    }

    pub fn has_gone(&self) -> bool {
        self.chunks.is_closed()
    }

    fn miss(&mut self, chunk: &[u8]) {
        self.missed.lines += lines::ends(chunk);
        self.missed.bytes += chunk.len() as u64;
    }

    /// `Err(true)`: he has gone; `Err(false)`: no room.
    fn try_send(&mut self, bytes: Vec<u8>) -> Result<(), bool> {
        let size = bytes.len();
        if self.waiting.load(Ordering::Relaxed) + size > MOST_BYTES {
            return Err(false);
        }
        let line_start = bytes.last() == Some(&b'\n');
        self.waiting.fetch_add(size, Ordering::Relaxed);
        match self.chunks.try_send(Bytes::from_owner(Waiting { bytes, waiting: self.waiting.clone() })) {
            Ok(()) => {
                self.line_start = line_start;
                Ok(())
            }
            Err(TrySendError::Full(_)) => Err(false),
            Err(TrySendError::Closed(_)) => Err(true),
        }
    }
}

/// The last `count` bytes of the file at `path`. Blocking. At most 64 MiB, whatever is asked.
pub fn last_bytes(path: &Path, count: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let count = count.min(size).min(64 * 1024 * 1024);
    let mut bytes = vec![0; count as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        // A file that is truncated while we read simply has no more.
        match file.read_at(&mut bytes[filled..], size - count + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_follower_loses_chunks_and_is_told_once() {
        let (mut follower, mut receiver) = Follower::new();
        for number in 0..MOST_CHUNKS + 500 {
            assert!(follower.send(format!("line {number}\n").as_bytes()));
        }
        let mut got = String::new();
        while let Ok(chunk) = receiver.try_recv() {
            got.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        assert_eq!(got.lines().count(), MOST_CHUNKS);
        assert!(follower.send(b"torn\nwhole\n"));
        assert!(follower.send(b"on\n"));
        let marker = receiver.try_recv().unwrap();
        assert_eq!(marker, "ganger: 501 lines (5005 bytes) missing here: this reader was too slow\nwhole\n");
        assert_eq!(receiver.try_recv().unwrap(), "on\n");
    }

    #[test]
    fn a_follower_is_bounded_in_bytes() {
        let (mut follower, mut receiver) = Follower::new();
        let chunk = vec![b'x'; MOST_BYTES / 3];
        for _ in 0..5 {
            follower.send(&chunk);
        }
        assert_eq!(follower.waiting.load(Ordering::Relaxed), 3 * chunk.len());
        while receiver.try_recv().is_ok() {}
        assert_eq!(follower.waiting.load(Ordering::Relaxed), 0);
        follower.send(b"end\nnext\n");
        let marker = receiver.try_recv().unwrap();
        assert!(marker.starts_with(b"\nganger: 1 line (1398104 bytes) missing here"), "{marker:?}");
    }

    #[test]
    fn a_follower_that_has_gone_is_noticed() {
        let (mut follower, receiver) = Follower::new();
        drop(receiver);
        assert!(!follower.send(b"x"));
    }

    #[test]
    fn the_end_of_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\ntwo\n").unwrap();
        assert_eq!(last_bytes(file.path(), 4).unwrap(), b"two\n");
        assert_eq!(last_bytes(file.path(), u64::MAX).unwrap(), b"one\ntwo\n");
    }
}
