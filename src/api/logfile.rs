//! Slices of a log file, by bytes, as XML-RPC asks for them; whole characters only. Blocking.
//!
//! A slice that would cut a character gives it whole to the slice in which it begins: so a client that reads on and on by
//! fixed numbers of bytes gets every character once (Supervisor answers such a slice with an error). What is no UTF-8 at all
//! shows as U+FFFD.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Why there is no slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SliceFault {
    /// These offsets and lengths do not go together.
    BadArguments,
    /// The file cannot be read.
    Failed,
}

/// Bytes that one slice has at most, whatever is asked.
pub const MAX_SLICE: u64 = 64 * 1024 * 1024;

/// `length` bytes from `offset` on; a length of 0: all; a negative offset with length 0: the last bytes.
///
/// # Errors
/// `BadArguments` for a negative length, or a negative offset with a length; `Failed` if the file cannot be read.
pub fn read(path: &Path, offset: i64, length: i64) -> Result<String, SliceFault> {
    let (file, size) = open(path).map_err(|_| SliceFault::Failed)?;
    let (from, to) = match (offset, length) {
        (..0, 0) => (size.saturating_sub(offset.unsigned_abs()), size),
        (..0, _) | (0.., ..0) => return Err(SliceFault::BadArguments),
        (0.., 0) => (offset.unsigned_abs(), size),
        (0.., 1..) => (offset.unsigned_abs(), offset.unsigned_abs().saturating_add(length.unsigned_abs()).min(size)),
    };
    slice(&file, from, to).map_err(|_| SliceFault::Failed)
}

/// The end of the file in Supervisor's way: text, the file's size, and whether it is larger than `offset + length`. The
/// text is the last `length` bytes at most; `offset` only says up to where the client knows the file.
pub fn tail(path: &Path, offset: i64, length: i64) -> (String, i64, bool) {
    let nothing = (String::new(), offset, false);
    let Ok((file, size)) = open(path) else { return nothing };
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let (mut offset, mut length) = (offset, length);
    let overflow = size > offset.saturating_add(length);
    if overflow {
        offset = size - 1;
    }
    if offset.saturating_add(length) > size {
        if offset > size - 1 {
            length = 0;
        }
        offset = size.saturating_sub(length);
    }
    let (from, length) = (offset.max(0).unsigned_abs(), length.max(0).unsigned_abs());
    match slice(&file, from, from.saturating_add(length).min(size.unsigned_abs())) {
        Ok(text) => (text, size, overflow),
        Err(_) => nothing,
    }
}

/// The file and its size. What is no plain file has neither slices nor an end; a pipe would hold us for ever.
fn open(path: &Path) -> io::Result<(File, u64)> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn slice(file: &File, from: u64, to: u64) -> io::Result<String> {
    let to = to.min(from.saturating_add(MAX_SLICE));
    if from >= to {
        return Ok(String::new());
    }
    // A character has four bytes at most: so much is read before and behind to see whether the edges cut one.
    let begin = from.saturating_sub(3);
    let window = read_at(file, begin, to + 3 - begin)?;
    let inside = |at: u64| usize::try_from(at - begin).unwrap_or(usize::MAX).min(window.len());
    Ok(String::from_utf8_lossy(whole(&window, inside(from), inside(to))).into_owned())
}

fn read_at(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// The characters of `window` that begin in `from..to`. One that the window's end cuts is still being written, and left out.
fn whole(window: &[u8], from: usize, to: usize) -> &[u8] {
    let from = straddling(window, from).map_or(from, |(_, end)| end);
    let to = match straddling(window, to) {
        Some((begin, end)) if end > window.len() => begin,
        Some((_, end)) => end,
        None => to,
    };
    window.get(from..to).unwrap_or_default()
}

/// The character that begins before `at` and ends behind it.
fn straddling(window: &[u8], at: usize) -> Option<(usize, usize)> {
    let begin = (at.saturating_sub(3)..at).rev().find(|i| window[*i] & 0xc0 != 0x80)?;
    let length = match window[begin] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let end = begin + length;
    let there = &window[begin + 1..end.min(window.len())];
    (end > at && there.iter().all(|byte| byte & 0xc0 == 0x80)).then_some((begin, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        file
    }

    #[test]
    fn slices_are_cut_as_supervisor_cuts_them() {
        let log = log("0123456789");
        for (offset, length, expected) in [
            (0, 0, Ok("0123456789")),
            (0, 4, Ok("0123")),
            (4, 100, Ok("456789")),
            (8, 0, Ok("89")),
            (10, 1, Ok("")),
            (99, 0, Ok("")),
            (-3, 0, Ok("789")),
            (-99, 0, Ok("0123456789")),
            (-3, 1, Err(SliceFault::BadArguments)),
            (0, -1, Err(SliceFault::BadArguments)),
            (i64::MAX, i64::MAX, Ok("")),
            (i64::MIN, 0, Ok("0123456789")),
        ] {
            assert_eq!(read(log.path(), offset, length), expected.map(str::to_owned), "{offset} {length}");
        }
        assert_eq!(read(Path::new("/nowhere"), 0, 0), Err(SliceFault::Failed));
        assert_eq!(read(Path::new("/dev/null"), 0, 0), Err(SliceFault::Failed));
    }

    /// Expected values are what supervisor 4.3.0's `tailFile` gave for the same file.
    #[test]
    fn tails_are_supervisors_oddities_included() {
        let log = log("0123456789");
        for (offset, length, expected) in [
            (0, 4, ("6789", 10, true)),
            (0, 10, ("0123456789", 10, false)),
            (0, 100, ("0123456789", 10, false)),
            (4, 6, ("456789", 10, false)),
            (5, 8, ("23456789", 10, false)),
            (10, 5, ("", 10, false)),
            (12, 5, ("", 10, false)),
            (0, 0, ("", 10, true)),
            (-5, 3, ("789", 10, true)),
            (0, -1, ("", 10, true)),
            (i64::MAX, i64::MAX, ("", 10, false)),
            (i64::MIN, i64::MIN, ("", 10, true)),
        ] {
            let (text, size, overflow) = tail(log.path(), offset, length);
            assert_eq!((text.as_str(), size, overflow), expected, "{offset} {length}");
        }
        assert_eq!(tail(Path::new("/nowhere"), 7, 3), (String::new(), 7, false));
    }

    #[test]
    fn reading_on_by_any_number_of_bytes_gives_every_character_once() {
        let text = "aäb€c𝄞d…é\n";
        let log = log(text);
        for step in 1..=text.len() as i64 {
            let parts: String =
                (0..text.len() as i64).step_by(step as usize).map(|offset| read(log.path(), offset, step).expect("read")).collect();
            assert_eq!(parts, text, "by {step}");
        }
    }

    #[test]
    fn what_is_no_utf_8_is_replaced_and_a_character_that_is_still_being_written_is_left_out() {
        let log = log(b"a\xff\x80b\xe2\x82");
        assert_eq!(read(log.path(), 0, 0).expect("read"), "a\u{fffd}\u{fffd}b");
        assert_eq!(read(log.path(), 2, 2).expect("read"), "\u{fffd}b");
    }
}
