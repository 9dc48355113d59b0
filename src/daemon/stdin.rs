//! What people type to a worker: the writing end of the pipe that is its standard input.
//!
//! A write never waits: what the pipe does not take is kept, up to `MOST`, and written by a task of the main loop as
//! the worker reads. Beyond that, and where the worker has closed its end, the writer is told.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

/// Bytes that may wait for a worker to read them.
const MOST: usize = 1024 * 1024;

/// The writing end; dropping it closes the pipe.
pub struct Feeder {
    pipe: Arc<pipe::Sender>,
    queue: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

/// Both ends of a new pipe: for the worker (blocking), and for us. Must be called within the runtime.
pub fn pipe() -> io::Result<(OwnedFd, Feeder)> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let pipe = Arc::new(pipe::Sender::from_owned_fd(write)?);
    let (queue, queued) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let task = tokio::spawn(write_out(pipe.clone(), queued, waiting.clone()));
    Ok((read, Feeder { pipe, queue, waiting, task }))
}

impl Feeder {
    /// Writes now what goes, and keeps the rest. Errors: `BrokenPipe` where nobody reads any more, `StorageFull` where
    /// too much waits already; then nothing of `bytes` is written.
    pub fn feed(&self, bytes: &[u8]) -> io::Result<()> {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if self.task.is_finished() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if waiting + bytes.len() > MOST {
            return Err(io::Error::new(io::ErrorKind::StorageFull, format!("{waiting} bytes wait for the worker to read them")));
        }
        let mut rest = bytes;
        // In order: nothing overtakes what is kept.
        while waiting == 0 && !rest.is_empty() {
            match nix::unistd::write(self.pipe.as_fd(), rest) {
                Ok(n) => rest = &rest[n..],
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => break,
                Err(fault) => return Err(fault.into()),
            }
        }
        if !rest.is_empty() {
            self.waiting.fetch_add(rest.len(), Ordering::Relaxed);
            // The task ends only on a broken pipe, and then the next call says so.
            let _ = self.queue.send(rest.to_vec());
        }
        Ok(())
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn write_out(pipe: Arc<pipe::Sender>, mut queued: mpsc::UnboundedReceiver<Vec<u8>>, waiting: Arc<AtomicUsize>) {
    while let Some(bytes) = queued.recv().await {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let written = match pipe.writable().await {
                Ok(()) => pipe.try_write(rest),
                Err(fault) => Err(fault),
            };
            match written {
                Ok(n) => rest = &rest[n..],
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
        waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn within<T>(work: impl AsyncFnOnce() -> T) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work())
    }

    #[test]
    fn what_the_pipe_does_not_take_waits_and_arrives_in_order() {
        within(async || {
            let (read, feeder) = pipe().unwrap();
            let all: Vec<u8> = (0..600_000u32).map(|i| (i % 251) as u8).collect();
            for part in all.chunks(50_000) {
                feeder.feed(part).unwrap();
            }
            let reader = std::thread::spawn(move || {
                let mut got = vec![0; 600_000];
                std::fs::File::from(read).read_exact(&mut got).unwrap();
                got
            });
            while !reader.is_finished() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            assert!(reader.join().unwrap() == all);
        });
    }

    #[test]
    fn a_worker_that_never_reads_costs_a_megabyte_and_no_more() {
        within(async || {
            let (_read, feeder) = pipe().unwrap();
            let part = vec![b'x'; 100_000];
            let fed = (0..40).take_while(|_| feeder.feed(&part).is_ok()).count();
            assert!((10..=12).contains(&fed), "{fed}");
            assert_eq!(feeder.feed(&part).unwrap_err().kind(), io::ErrorKind::StorageFull);
        });
    }

    #[test]
    fn a_closed_stdin_is_told_at_once() {
        within(async || {
            let (read, feeder) = pipe().unwrap();
            drop(read);
            assert_eq!(feeder.feed(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
    }
}
