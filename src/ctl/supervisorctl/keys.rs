//! The keyboard: lines from stdin, and ^C.
//!
//! Both can end a wait, so both are descriptors here. Lines are read byte by byte, so that whatever comes after the line is left
//! to whoever reads next; what people type is short. The editor of the prompt is not here.

use super::Halt;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Hears of ^C instead of being ended by it, from its making to the end of the process.
#[derive(Debug)]
pub struct Interrupts {
    pipe: UnixStream,
}

impl Interrupts {
    pub fn hear() -> io::Result<Interrupts> {
        let (pipe, write) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGINT, write)?;
        Ok(Interrupts { pipe })
    }

    /// Forgets what came before now.
    pub fn forget(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.pipe).read(&mut bytes), Ok(n) if n > 0) {}
    }

    /// For waits that are not of the runtime.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Waits for ^C.
    async fn came(&self) -> io::Result<()> {
        let pipe = tokio::net::UnixStream::from_std(self.pipe.try_clone()?)?;
        pipe.readable().await?;
        self.forget();
        Ok(())
    }
}

/// Waits for ^C, for ever if nobody hears of it here.
pub async fn interrupted(interrupts: Option<&Interrupts>) -> Halt {
    match interrupts {
        Some(interrupts) => match interrupts.came().await {
            Ok(()) => Halt::Interrupted,
            Err(why) => Halt::Gone(why),
        },
        None => std::future::pending().await,
    }
}

/// What came of waiting for a line.
#[derive(Debug, PartialEq)]
pub enum Typed {
    Line(String),
    /// No more will come.
    End,
    /// The other descriptor had something to say.
    Broken,
}

/// Reads a line from stdin, without its end; gives up when `until` can be read or is closed.
pub fn line(until: Option<BorrowedFd<'_>>) -> io::Result<Typed> {
    let stdin = io::stdin();
    let mut bytes = Vec::new();
    loop {
        let mut waiting = vec![PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        waiting.extend(until.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(why) => return Err(why.into()),
        }
        if waiting.get(1).is_some_and(|other| other.any() == Some(true)) {
            return Ok(Typed::Broken);
        }
        let mut byte = [0];
        match nix::unistd::read(stdin.as_fd(), &mut byte) {
            Ok(0) if bytes.is_empty() => return Ok(Typed::End),
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => bytes.push(byte[0]),
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
            Err(why) => return Err(why.into()),
        }
    }
    Ok(Typed::Line(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Lines from stdin as they are typed, read on a thread that ends with this.
#[derive(Debug)]
pub struct Lines {
    typed: tokio::sync::mpsc::UnboundedReceiver<String>,
    stop: Option<UnixStream>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Lines {
    pub fn listen() -> io::Result<Lines> {
        let (stop, stopped) = UnixStream::pair()?;
        let (sender, typed) = tokio::sync::mpsc::unbounded_channel();
        let reader = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            while let Ok(Typed::Line(line)) = line(Some(stopped.as_fd())) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        })?;
        Ok(Lines { typed, stop: Some(stop), reader: Some(reader) })
    }

    /// The next line; `None` when no more will come. May be given up: nothing is lost.
    pub async fn next(&mut self) -> Option<String> {
        self.typed.recv().await
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // Closing it wakes the reader, wherever it waits.
        drop(self.stop.take());
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Reads a line that is not shown, where the keyboard is a terminal.
pub fn hidden_line(until: Option<BorrowedFd<'_>>) -> io::Result<Typed> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let stdin = io::stdin();
    let Ok(before) = tcgetattr(&stdin) else { return line(until) };
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &silent)?;
    let typed = line(until);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &before)?;
    typed
}
