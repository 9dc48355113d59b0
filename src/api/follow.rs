//! Following a log file: its last bytes, and then what is written to it, as the kernel tells (inotify); nothing polls.
//!
//! For `/logtail` and `/mainlogtail`, which show files as they are and not streams: a file that is cut short is told in
//! Supervisor's words, one that is replaced (rotated) is read to its end and then left for the new one.

use crate::api::bell::Bell;
use crate::logs::aside;
use bytes::Bytes;
use nix::sys::inotify::AddWatchFlags;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::io::unix::AsyncFd;

/// One reader of one file.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    name: OsString,
    bell: AsyncFd<Bell>,
    file: Arc<File>,
    /// How far it has been read.
    at: u64,
    /// When it was last written to, at the beginning.
    pub modified: SystemTime,
}

/// What a look at the file has found.
enum Look {
    Bytes(Vec<u8>),
    Truncated,
    /// Another file is there now.
    Replaced(File),
    /// All is read.
    Nothing,
}

/// Bytes that are handed out at once.
const CHUNK: usize = 256 * 1024;
/// Supervisor's words.
const TRUNCATED: &[u8] = b"==> File truncated <==\n";

impl Follow {
    /// Begins `last` bytes before the end of the file at `path`; in a tokio runtime.
    ///
    /// # Errors
    /// `NotFound` if there is no plain file; what the system says if it cannot be read or watched.
    pub async fn open(path: PathBuf, last: u64) -> io::Result<Follow> {
        let opened = aside(move || {
            // Watched first, so that nothing comes between.
            let bell = Bell::new()?;
            let name = path.file_name().ok_or(io::ErrorKind::NotFound)?.to_owned();
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            bell.inotify().add_watch(directory, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
            bell.inotify().add_watch(&path, AddWatchFlags::IN_MODIFY)?;
            let (file, meta) = open_plain(&path)?;
            Ok::<_, io::Error>((bell, name, path, file, meta))
        });
        let (bell, name, path, file, meta) = opened.await.unwrap_or_else(|| Err(io::Error::other("a fault of ours ended the reading")))?;
        Ok(Follow {
            path,
            name,
            bell: bell.watched()?,
            file: Arc::new(file),
            at: meta.len().saturating_sub(last),
            modified: meta.modified()?,
        })
    }

    /// What comes next, waiting for it.
    ///
    /// # Errors
    /// What the system says if the file cannot be read any more.
    pub async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            let (file, path, at) = (Arc::clone(&self.file), self.path.clone(), self.at);
            match aside(move || look(&file, &path, at)).await.unwrap_or_else(|| Err(io::Error::other("a fault of ours")))? {
                Look::Bytes(bytes) => {
                    self.at += bytes.len() as u64;
                    return Ok(bytes.into());
                }
                Look::Truncated => {
                    self.at = 0;
                    return Ok(Bytes::from_static(TRUNCATED));
                }
                Look::Replaced(file) => {
                    // The old watch goes with its file. The new one comes before the next look, so nothing is missed.
                    self.bell.get_ref().inotify().add_watch(&self.path, AddWatchFlags::IN_MODIFY)?;
                    (self.file, self.at) = (Arc::new(file), 0);
                }
                Look::Nothing => self.rung().await?,
            }
        }
    }

    /// Waits until something may have happened to our file.
    async fn rung(&self) -> io::Result<()> {
        loop {
            let mut ready = self.bell.readable().await?;
            match ready.try_io(|bell| bell.get_ref().inotify().read_events().map_err(io::Error::from)) {
                // Of the directory's other files there may be much to hear. No name: it is about the file itself, or the queue
                // ran over.
                Ok(Ok(events)) if events.iter().any(|event| event.name.as_ref().is_none_or(|name| *name == self.name)) => return Ok(()),
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

fn open_plain(path: &Path) -> io::Result<(File, std::fs::Metadata)> {
    // Asked before it is opened: a pipe would hold us.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let file = File::open(path)?;
    let meta = file.metadata()?;
    Ok((file, meta))
}

fn look(file: &File, path: &Path, at: u64) -> io::Result<Look> {
    let meta = file.metadata()?;
    if meta.len() < at {
        return Ok(Look::Truncated);
    }
    let mut bytes = vec![0; usize::try_from(meta.len() - at).unwrap_or(CHUNK).min(CHUNK)];
    let read = loop {
        match file.read_at(&mut bytes, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if read > 0 {
        bytes.truncate(read);
        return Ok(Look::Bytes(bytes));
    }
    match open_plain(path) {
        Ok((new, now)) if (now.dev(), now.ino()) != (meta.dev(), meta.ino()) => Ok(Look::Replaced(new)),
        // Removed, or unreadable for the moment: the old one is followed on.
        Ok(_) | Err(_) => Ok(Look::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::time::Duration;

    async fn next(follow: &mut Follow) -> String {
        let bytes = tokio::time::timeout(Duration::from_secs(30), follow.next()).await.expect("in time").expect("read");
        String::from_utf8(bytes.to_vec()).expect("UTF-8")
    }

    fn append(path: &Path, text: &str) {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).expect("opened");
        file.write_all(text.as_bytes()).expect("written");
    }

    #[tokio::test]
    async fn the_end_and_then_what_is_added_cut_short_and_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        append(&path, "0123456789");
        let mut follow = Follow::open(path.clone(), 4).await.expect("opened");
        assert_eq!(next(&mut follow).await, "6789");
        let (added, ()) = tokio::join!(next(&mut follow), async { append(&path, "more") });
        assert_eq!(added, "more");
        let (cut, ()) = tokio::join!(next(&mut follow), async { fs::write(&path, "").expect("written") });
        assert_eq!(cut, "==> File truncated <==\n");
        append(&path, "last words");
        fs::rename(&path, dir.path().join("log.1")).expect("renamed");
        append(&dir.path().join("other"), "noise");
        assert_eq!(next(&mut follow).await, "last words");
        let (new, ()) = tokio::join!(next(&mut follow), async { append(&path, "new") });
        assert_eq!(new, "new");
        let (on, ()) = tokio::join!(next(&mut follow), async { append(&path, " and on") });
        assert_eq!(on, " and on");
    }

    #[tokio::test]
    async fn what_is_no_plain_file_is_not_found() {
        let dir = tempfile::tempdir().expect("a directory");
        for path in [dir.path().join("nothing"), dir.path().to_owned(), PathBuf::from("/dev/null")] {
            assert_eq!(Follow::open(path, 1).await.expect_err("none").kind(), io::ErrorKind::NotFound);
        }
    }
}
