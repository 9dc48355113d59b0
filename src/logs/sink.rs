//! A log file that rotates by size, and what happens when it cannot be written.
//!
//! Rotation as Supervisor's: after a write that brings the file to its size it is renamed to `.1`, older ones move
//! up to `.N`; without backups it is truncated. Beyond it: a file is cut at a line end where there is one
//! within 64 KiB. The size is our own count; a look (one `fstat`) at most four times a second finds files that
//! were deleted or truncated by others; what went to a deleted one since the last look is copied to the new one.
//!
//! Output is never lost in silence. A file that cannot be written has a *trouble*, in words; what it misses is
//! counted, it is tried again once a second while output comes, and when it works again it gets a line that says how
//! much is missing. A file that cannot be rotated grows on, and says so, rather than lose anything.
//!
//! Two streams that name one path share one `LogFile`, so that neither rotates it away from the other.

use crate::logs::lines::{self, LONGEST};
use memchr::memchr;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

/// How long a failing file is left alone between two tries, in milliseconds.
const RETRY_MS: u64 = 1000;
/// How often a file is looked at, at most, in milliseconds.
const LOOK_MS: u64 = 250;
/// How long a reader of a log that is no file (a FIFO, a terminal) may hold us up, in milliseconds.
const PATIENCE_MS: u16 = 50;

/// When to rotate, and how many old files to keep. `max_bytes` 0: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub max_bytes: u64,
    pub backups: u32,
}

/// All files in use, by path.
#[derive(Debug, Default)]
pub struct LogFiles {
    open: HashMap<PathBuf, Weak<RefCell<LogFile>>>,
    troubled: Rc<Cell<bool>>,
}

pub type SharedFile = Rc<RefCell<LogFile>>;

impl LogFiles {
    /// The file at `path`, opened (and its directories made) if it was not in use; `rules` are its rules from now on. One
    /// that cannot be opened has a trouble. `now` in milliseconds of a clock that does not jump.
    pub fn open(&mut self, path: PathBuf, rules: Rules, now: u64) -> SharedFile {
        if let Some(known) = self.open.get(&path).and_then(Weak::upgrade) {
            known.borrow_mut().rules = rules;
            return known;
        }
        self.open.retain(|_, file| file.strong_count() > 0);
        let file = Rc::new(RefCell::new(LogFile::open(path.clone(), rules, self.troubled.clone(), now)));
        self.open.insert(path, Rc::downgrade(&file));
        file
    }

    /// Closes and opens every file again.
    pub fn reopen(&mut self, now: u64) {
        for file in self.open.values().filter_map(Weak::upgrade) {
            file.borrow_mut().reopen(now);
        }
    }

    /// Streams have changed their files: troubles look different, though none began or ended.
    pub fn look_again(&self) {
        self.troubled.set(true);
    }

    /// True once after any file's trouble began, changed or ended.
    pub fn take_troubled(&self) -> bool {
        self.troubled.replace(false)
    }
}

#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    rules: Rules,
    file: Option<File>,
    /// A regular file: it can be rotated, truncated and deleted.
    regular: bool,
    size: u64,
    /// What was written last ended with its line.
    line_start: bool,
    trouble: Option<Trouble>,
    /// Why it cannot be rotated, and when that is tried again.
    stuck: Option<(String, u64)>,
    look_at: u64,
    /// Its size when it was seen to be in its directory.
    looked: u64,
    troubled: Rc<Cell<bool>>,
}

/// The file cannot be written.
#[derive(Debug)]
struct Trouble {
    /// `no space left on device`.
    why: String,
    /// With the path.
    text: String,
    lines: u64,
    bytes: u64,
    /// The last lost byte was inside a line; the rest of that line is not wanted.
    within_line: bool,
    retry_at: u64,
}

impl LogFile {
    fn open(path: PathBuf, rules: Rules, troubled: Rc<Cell<bool>>, now: u64) -> LogFile {
        let mut log = LogFile {
            path,
            rules,
            file: None,
            regular: false,
            size: 0,
            line_start: true,
            trouble: None,
            stuck: None,
            look_at: now + LOOK_MS,
            looked: 0,
            troubled,
        };
        if let Err(error) = log.reach() {
            log.fail(&error, now);
        }
        log
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It can be read back, unlike a terminal or a FIFO.
    pub fn is_regular(&self) -> bool {
        self.regular
    }

    /// What is wrong, in words: `no space left on device: /var/log/mailer.log`.
    pub fn trouble(&self) -> Option<&str> {
        match (&self.trouble, &self.stuck) {
            (Some(trouble), _) => Some(&trouble.text),
            (None, Some((text, _))) => Some(text),
            (None, None) => None,
        }
    }

    /// Appends `chunk`, rotating on the way. Gives how many lines of it were lost.
    pub fn put(&mut self, chunk: &[u8], now: u64) -> u64 {
        if now >= self.look_at {
            self.look(now);
        }
        let (mut rest, mut lost) = (chunk, 0);
        if self.trouble.is_some() {
            (rest, lost) = self.resume(chunk, now);
        }
        while !rest.is_empty() {
            if self.is_due(now) {
                self.rotate(now);
            }
            let piece = self.piece(rest);
            if let Err((written, error)) = self.write(&rest[..piece]) {
                self.fail(&error, now);
                return lost + self.lose(&rest[written..]);
            }
            if self.trouble.take().is_some() {
                self.troubled.set(true);
            }
            rest = &rest[piece..];
        }
        if self.is_due(now) {
            self.rotate(now);
        }
        lost
    }

    /// Tries a troubled file again, if it is time, and writes down what it has missed. Gives what is left to write of
    /// `chunk` and how many of its lines were lost. The trouble ends only with the first output that was really written: else a
    /// disk with room for just our own line would look well once a second.
    fn resume<'a>(&mut self, chunk: &'a [u8], now: u64) -> (&'a [u8], u64) {
        let Some(trouble) = &self.trouble else { return (chunk, 0) };
        if now < trouble.retry_at {
            return (&[], self.lose(chunk));
        }
        // Half a line would be worse than none; but what has no line end within reach is no line.
        let wanted = match trouble.within_line {
            true => memchr(b'\n', chunk).map_or(if chunk.len() < LONGEST { chunk.len() } else { 0 }, |end| end + 1),
            false => 0,
        };
        let lost = self.lose(&chunk[..wanted]);
        let rest = &chunk[wanted..];
        if rest.is_empty() {
            return (rest, lost);
        }
        let marker = self.trouble.as_ref().filter(|trouble| trouble.bytes > 0).map(|trouble| {
            let begin = if self.line_start { "" } else { "\n" };
            let verb = if trouble.lines == 1 { "was" } else { "were" };
            format!("{begin}ganger: {} {verb} lost here: {}\n", lines::amount(trouble.lines, trouble.bytes), trouble.why)
        });
        let tried = self.reach().map_err(|error| (0, error));
        if let Err((_, error)) = tried.and_then(|()| self.write(marker.unwrap_or_default().as_bytes())) {
            self.fail(&error, now);
            return (&[], lost + self.lose(rest));
        }
        if let Some(trouble) = &mut self.trouble {
            (trouble.lines, trouble.bytes, trouble.within_line) = (0, 0, false);
        }
        (rest, lost)
    }

    /// Counts `bytes` as lost; gives their lines.
    fn lose(&mut self, bytes: &[u8]) -> u64 {
        let Some(trouble) = &mut self.trouble else { return 0 };
        let ends = lines::ends(bytes);
        if let Some(last) = bytes.last() {
            trouble.lines += ends;
            trouble.bytes += bytes.len() as u64;
            trouble.within_line = *last != b'\n';
        }
        ends
    }

    /// Begins a trouble, or goes on with it. The file is closed: by the next try another may be there.
    fn fail(&mut self, error: &io::Error, now: u64) {
        self.file = None;
        let why = words(error);
        let text = format!("{why}: {}", self.path.display());
        if self.trouble.as_ref().is_none_or(|trouble| trouble.text != text) {
            self.troubled.set(true);
        }
        let (lines, bytes, within_line) = self.trouble.take().map_or((0, 0, false), |old| (old.lines, old.bytes, old.within_line));
        self.trouble = Some(Trouble { why, text, lines, bytes, within_line, retry_at: now + RETRY_MS });
    }

    /// Makes sure that the file is open.
    fn reach(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let file = match append_to(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if let Some(directory) = self.path.parent() {
                    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
                }
                append_to(&self.path)?
            }
            other => other?,
        };
        let found = file.metadata()?;
        self.regular = found.is_file();
        self.size = if self.regular { found.len() } else { 0 };
        self.looked = self.size;
        self.line_start |= self.size == 0 && self.regular;
        self.file = Some(file);
        Ok(())
    }

    /// Finds what others did to the file: deleted it (then it is made again), truncated it (then it is shorter).
    fn look(&mut self, now: u64) {
        self.look_at = now + LOOK_MS;
        let Some(file) = self.file.as_ref().filter(|_| self.regular) else { return };
        let Ok(found) = file.metadata() else { return };
        if found.nlink() == 0 {
            let (gone, from) = (self.file.take(), self.looked);
            self.reopen(now);
            if let Some(gone) = gone {
                self.rescue(&gone, from, now);
            }
        } else {
            self.size = found.len();
            self.looked = self.size;
            self.line_start |= self.size == 0;
        }
    }

    /// Copies to the new file what went to the deleted one since it was seen last.
    fn rescue(&mut self, gone: &File, from: u64, now: u64) {
        // Ours can only append; the kernel opens a deleted file once more by its descriptor.
        let (mut at, mut buffer) = (from, vec![0; LONGEST]);
        let Ok(gone) = File::open(format!("/proc/self/fd/{}", gone.as_raw_fd())) else { return };
        while let Ok(read @ 1..) = gone.read_at(&mut buffer, at) {
            at += read as u64;
            self.put(&buffer[..read], now);
        }
    }

    /// Closes the file and opens what is at its path now.
    pub fn reopen(&mut self, now: u64) {
        self.file = None;
        match self.reach() {
            Err(error) => self.fail(&error, now),
            Ok(()) => match &mut self.trouble {
                // What is lost is told with the next output, and there is nothing to wait for any more.
                Some(trouble) if trouble.bytes > 0 => trouble.retry_at = now,
                Some(_) => {
                    self.trouble = None;
                    self.troubled.set(true);
                }
                None => {}
            },
        }
    }

    /// Empties the file. Old rotated ones stay.
    pub fn clear(&mut self, now: u64) -> io::Result<()> {
        self.look(now);
        self.reach()?;
        if let Some(file) = self.file.as_ref().filter(|_| self.regular) {
            file.set_len(0)?;
            (self.size, self.looked, self.line_start) = (0, 0, true);
        }
        Ok(())
    }

    /// All of `bytes`, or how many were written and why no more.
    fn write(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let Some(file) = &mut self.file else { return Err((0, Errno::ENOENT.into())) };
        let (mut written, mut waited) = (0, false);
        let result = loop {
            if written == bytes.len() {
                break Ok(());
            }
            match file.write(&bytes[written..]) {
                Ok(0) => break Err((written, ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // No file but a FIFO or terminal whose reader is slow: a short patience, then it is a trouble like any other.
                Err(error) if error.kind() == ErrorKind::WouldBlock && !waited => {
                    let mut ready = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
                    waited = !matches!(poll(&mut ready, PollTimeout::from(PATIENCE_MS)), Ok(1));
                }
                Err(error) => break Err((written, error)),
            }
        };
        self.size += written as u64;
        if written > 0 {
            self.line_start = bytes[written - 1] == b'\n';
        }
        result
    }

    /// How much of `rest` goes into the file before it must be asked again whether it is full.
    fn piece(&self, rest: &[u8]) -> usize {
        let max = self.rules.max_bytes;
        let room = max.saturating_sub(self.size);
        if !self.regular || max == 0 || self.stuck.is_some() || rest.len() as u64 <= room {
            return rest.len();
        }
        // The first line end that makes it full; without one a line's length more, and then it is cut where it is.
        let most = (max + LONGEST as u64).saturating_sub(self.size).clamp(1, rest.len() as u64) as usize;
        let from = (room as usize).saturating_sub(1);
        memchr(b'\n', &rest[from..most]).map_or(most, |end| from + end + 1)
    }

    fn is_due(&self, now: u64) -> bool {
        let max = self.rules.max_bytes;
        self.regular
            && self.file.is_some()
            && max > 0
            && self.size >= max
            && (self.line_start || self.size >= max + LONGEST as u64)
            && self.stuck.as_ref().is_none_or(|(_, retry_at)| now >= *retry_at)
    }

    fn rotate(&mut self, now: u64) {
        let turned = match (&self.file, self.rules.backups) {
            (None, _) => return,
            (Some(file), 0) => file.set_len(0).map(|()| (self.size, self.looked, self.line_start) = (0, 0, true)),
            (Some(_), backups) => shift(&self.path, backups).map(|()| {
                self.line_start = true;
                self.reopen(now);
            }),
        };
        let stuck = turned.err().map(|error| (format!("cannot rotate {}: {}", self.path.display(), words(&error)), now + RETRY_MS));
        if self.stuck.as_ref().map(|(text, _)| text) != stuck.as_ref().map(|(text, _)| text) {
            self.troubled.set(true);
        }
        self.stuck = stuck;
    }
}

/// `base.N-1` to `base.N`, …, `base` to `base.1`. The first that cannot be moved ends it, so that none is overwritten by one
/// that should have moved on.
fn shift(base: &Path, backups: u32) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = base.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    let rename = |from: &Path, to: &Path| match fs::rename(from, to) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    for number in (1..backups).rev() {
        rename(&numbered(number), &numbered(number + 1))?;
    }
    rename(base, &numbered(1))
}

/// Never waits: a FIFO that nobody reads is an error (ENXIO), not a hang.
fn append_to(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    match (opened, path.to_str()) {
        // A socket, as systemd gives us for stdout, cannot be opened through its name.
        (Err(error), Some("/dev/stdout")) if error.raw_os_error() == Some(libc::ENXIO) => duplicate(io::stdout().as_fd()),
        (Err(error), Some("/dev/stderr")) if error.raw_os_error() == Some(libc::ENXIO) => duplicate(io::stderr().as_fd()),
        (opened, _) => opened,
    }
}

fn duplicate(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<File> {
    fd.try_clone_to_owned().map(File::from)
}

/// `no space left on device`: what the system says, as a fragment.
pub fn words(error: &io::Error) -> String {
    let text = match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    };
    // "No space" becomes "no space", "I/O error" stays.
    match text.char_indices().nth(1) {
        Some((at, second)) if second.is_lowercase() => text[..at].to_lowercase() + &text[at..],
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use tempfile::tempdir;

    fn rules(max_bytes: u64, backups: u32) -> Rules {
        Rules { max_bytes, backups }
    }

    fn open(path: &Path, rules: Rules) -> LogFile {
        LogFile::open(path.to_owned(), rules, Rc::default(), 0)
    }

    fn read(path: impl AsRef<Path>) -> String {
        fs::read_to_string(path).unwrap_or_else(|error| format!("({error})"))
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn rotation_keeps_the_newest_as_1_and_cuts_at_line_ends() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = open(&path, rules(20, 2));
        assert_eq!(log.put(b"first line\nsecond line\nthird line\nfourth line\n", 0), 0);
        assert_eq!(read(path.with_extension("1")), "third line\nfourth line\n");
        assert_eq!(read(path.with_extension("2")), "first line\nsecond line\n");
        assert_eq!(read(&path), "", "it was full after the write");
        log.put(b"fifth", 0);
        log.put(b" line\nsixth line\nseventh", 0);
        assert_eq!(names(dir.path()), ["log", "log.1", "log.2"]);
        assert_eq!(read(path.with_extension("1")), "fifth line\nsixth line\n");
        assert_eq!(read(path.with_extension("2")), "third line\nfourth line\n");
        assert_eq!(read(&path), "seventh");
    }

    #[test]
    fn exactly_max_bytes_is_full_and_less_is_not() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = open(&path, rules(10, 1));
        log.put(b"12345678\n", 0);
        assert_eq!(names(dir.path()), ["log"]);
        log.put(b"\n", 0);
        assert_eq!(read(path.with_extension("1")), "12345678\n\n");
    }

    #[test]
    fn without_backups_the_file_is_truncated() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = open(&path, rules(10, 0));
        log.put(b"first line\nsecond\n", 0);
        assert_eq!((read(&path).as_str(), names(dir.path()).len()), ("second\n", 1));
    }

    #[test]
    fn a_file_that_was_full_before_us_is_rotated_first() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "x".repeat(200_000)).unwrap();
        let mut log = open(&path, rules(100, 3));
        log.put(b"new\n", 0);
        assert_eq!((read(&path).as_str(), read(path.with_extension("1")).len()), ("new\n", 200_000));
    }

    #[test]
    fn output_without_line_ends_is_cut_64_kib_over_the_size() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = open(&path, rules(1000, 100));
        for _ in 0..10 {
            log.put(&[b'x'; 100_000], 0);
        }
        let sizes: Vec<u64> = names(dir.path()).iter().map(|name| fs::metadata(dir.path().join(name)).unwrap().len()).collect();
        assert_eq!(sizes.iter().sum::<u64>(), 1_000_000);
        assert!(sizes.iter().all(|size| *size <= 1000 + LONGEST as u64), "{sizes:?}");
    }

    #[test]
    fn a_file_that_cannot_be_rotated_grows_on_and_says_so() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("log");
        fs::create_dir_all(path.with_extension("1").join("in the way")).unwrap();
        let mut log = open(&path, rules(10, 1));
        assert_eq!(log.put(b"first line\nsecond line\n", 0), 0);
        assert_eq!(log.trouble().unwrap(), format!("cannot rotate {}: is a directory", path.display()));
        assert!(log.troubled.replace(false));
        fs::remove_dir_all(path.with_extension("1")).unwrap();
        log.put(b"third\n", RETRY_MS - 1);
        assert!(log.trouble().is_some());
        log.put(b"fourth\n", RETRY_MS);
        assert_eq!(log.trouble(), None);
        assert!(log.troubled.get());
        assert_eq!(read(path.with_extension("1")), "first line\nsecond line\nthird\n");
        assert_eq!(read(&path), "fourth\n");
    }

    #[test]
    fn a_device_without_space_is_a_trouble_and_a_count_and_is_tried_again() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut log = open(&path, rules(100, 1));
        assert_eq!(log.trouble(), None, "it opens");
        assert_eq!(log.put(b"one\ntwo\nthr", 0), 2);
        assert_eq!(log.trouble().unwrap(), format!("no space left on device: {}", path.display()));
        assert!(log.troubled.replace(false));
        assert_eq!(log.put(b"ee\nfour\n", 10), 2);
        fs::remove_file(&path).unwrap();
        assert_eq!(log.put(b"fi", 20), 0, "not tried before its time");
        assert!(!log.troubled.get(), "told once");
        assert_eq!(log.put(b"ve\nsix\n", RETRY_MS), 1, "the rest of a torn line is lost as well");
        assert_eq!(log.trouble(), None);
        assert!(log.troubled.get());
        assert_eq!(read(&path), "ganger: 5 lines (24 bytes) were lost here: no space left on device\nsix\n");
    }

    #[expect(clippy::disallowed_methods, reason = "mounting wants a tool")]
    fn run(tool: &str, words: &[&str], path: &Path) -> bool {
        Command::new(tool).args(words).arg(path).output().is_ok_and(|output| output.status.success())
    }

    /// Every line is in the file or in its counts, on a file system that really fills up.
    #[test]
    fn a_full_disk_loses_nothing_without_counting_it() {
        let dir = tempdir().unwrap();
        if !run("mount", &["-t", "tmpfs", "-o", "size=64k", "tmpfs"], dir.path()) {
            return; // no right to mount: /dev/full, above, has to do
        }
        let outcome = std::panic::catch_unwind(|| {
            let path = dir.path().join("log");
            let ballast = dir.path().join("ballast");
            fs::write(&ballast, vec![0; 32 * 1024]).unwrap();
            let mut log = open(&path, rules(0, 0));
            let (mut lost, mut now) = (0, 0);
            for number in 0..8000 {
                if number == 6000 {
                    fs::remove_file(&ballast).unwrap();
                    now += RETRY_MS;
                }
                lost += log.put(format!("line {number:05}.\n").as_bytes(), now);
            }
            let text = read(&path);
            let kept = text.lines().filter(|line| line.starts_with("line ") && line.ends_with('.')).count() as u64;
            assert!(lost > 100, "{lost}");
            assert_eq!(kept + lost, 8000);
            assert_eq!(log.trouble(), None);
            let marker = format!("ganger: {lost} lines (");
            assert_eq!(text.lines().filter(|line| line.starts_with(&marker)).count(), 1, "{}", &text[text.len() - 300..]);
        });
        assert!(run("umount", &[], dir.path()));
        outcome.unwrap();
    }

    #[test]
    fn a_deleted_directory_is_made_again() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("deep/er/log");
        let mut log = open(&path, rules(0, 0));
        log.put(b"one\n", 0);
        assert_eq!(read(&path), "one\n");
        log.put(b"seen\n", LOOK_MS);
        log.look(2 * LOOK_MS);
        fs::remove_dir_all(dir.path().join("deep")).unwrap();
        log.put(b"two\n", 2 * LOOK_MS + 1);
        log.put(b"three\n", 3 * LOOK_MS);
        assert_eq!(read(&path), "two\nthree\n", "what went to the deleted file before we looked is there too");
        assert_eq!(log.trouble(), None);
    }

    #[test]
    fn a_directory_that_cannot_be_is_a_trouble_from_the_start() {
        let dir = tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let path = dir.path().join("file/log");
        let mut log = open(&path, rules(0, 0));
        assert_eq!(log.trouble().unwrap(), format!("not a directory: {}", path.display()));
        assert!(log.troubled.get());
        assert_eq!(log.put(b"one\n", 1), 1);
        fs::remove_file(dir.path().join("file")).unwrap();
        assert_eq!(log.put(b"two\n", RETRY_MS), 0);
        assert_eq!(read(&path), "ganger: 1 line (4 bytes) was lost here: not a directory\ntwo\n");
    }

    #[test]
    fn reopen_leaves_a_renamed_file_and_makes_a_new_one() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("log");
        let mut files = LogFiles::default();
        let log = files.open(path.clone(), rules(0, 0), 0);
        log.borrow_mut().put(b"one\n", 0);
        fs::rename(&path, dir.path().join("old")).unwrap();
        log.borrow_mut().put(b"two\n", 1);
        files.reopen(2);
        log.borrow_mut().put(b"three\n", 2);
        assert_eq!((read(dir.path().join("old")).as_str(), read(&path).as_str()), ("one\ntwo\n", "three\n"));
    }

    #[test]
    fn a_path_that_two_streams_name_is_one_file() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("log");
        let mut files = LogFiles::default();
        let one = files.open(path.clone(), rules(8, 3), 0);
        let two = files.open(path.clone(), rules(8, 3), 0);
        assert!(Rc::ptr_eq(&one, &two));
        one.borrow_mut().put(b"one one\n", 0);
        two.borrow_mut().put(b"two\n", 0);
        assert_eq!((read(path.with_extension("1")).as_str(), read(&path).as_str()), ("one one\n", "two\n"));
    }

    #[test]
    fn truncation_by_others_is_seen() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = open(&path, rules(20, 1));
        log.put(b"0123456789abcde\n", 0);
        File::create(&path).unwrap();
        log.put(b"next\n", LOOK_MS);
        assert_eq!(names(dir.path()), ["log"], "copytruncate made it short: it is not full");
        assert_eq!(log.clear(LOOK_MS).map(|()| read(&path)).unwrap(), "");
    }

    #[test]
    fn a_fifo_that_nobody_reads_does_not_hang_us() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("log");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut log = open(&path, rules(10, 1));
        assert!(log.trouble().is_some());
        assert_eq!(log.put(b"one\n", 1), 1);
    }

    #[test]
    fn errors_are_fragments() {
        assert_eq!(words(&Errno::ENOSPC.into()), "no space left on device");
        assert_eq!(words(&Errno::EIO.into()), "I/O error");
        assert_eq!(words(&Errno::EROFS.into()), "read-only file system");
    }
}
