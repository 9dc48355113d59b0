//! Logs: `tail`, `maintail`, and `fg`, which also feeds a process its stdin.
//!
//! The last bytes come by XML-RPC; a followed log is a `GET` that does not end (`/logtail`, `/mainlogtail`). Bytes go through
//! as they are. A log that cannot be followed is told on stderr and nothing more, as there.

use super::keys::{self, Interrupts, Lines};
use super::rpc::{Rpc, Trouble, fault, repr};
use super::wire::Value;
use super::{Halt, Session, exit};
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// What comes of a followed log.
enum Heard {
    Data(Bytes),
    /// It cannot be followed; for stderr.
    Fault(String),
}

/// Follows a log on a task of its own, which ends when nobody listens any more.
fn followed(rpc: Rpc, path: String) -> Receiver<Heard> {
    let (sender, heard) = channel(16);
    tokio::spawn(async move {
        let url = format!("{}{path}", rpc.url());
        let fault = match follow(&rpc, &path, &sender).await {
            Ok(()) => return,
            Err(Trouble::Protocol { status, .. }) => format!("{url} Cannot read, status code {status}"),
            Err(why) => format!("{url} Cannot connect, error: <class '{}'> ({why})", why.class()),
        };
        // If nobody listens any more, nobody wants to know.
        let _ = sender.send(Heard::Fault(fault)).await;
    });
    heard
}

async fn follow(rpc: &Rpc, path: &str, sender: &Sender<Heard>) -> Result<(), Trouble> {
    let mut body = rpc.follow(path).await?;
    while let Some(frame) = body.frame().await {
        // A server that goes away is an end like any other.
        let Ok(frame) = frame else { return Ok(()) };
        if let Ok(data) = frame.into_data()
            && sender.send(Heard::Data(data)).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

impl Session<'_> {
    /// Hears of ^C from now on, which ends what is followed and not us.
    fn hear_interrupts(&mut self) -> Result<(), Halt> {
        match &self.interrupts {
            Some(interrupts) => interrupts.forget(),
            None => self.interrupts = Some(Interrupts::hear()?),
        }
        Ok(())
    }

    fn show(&mut self, heard: Heard) -> Result<(), Halt> {
        match heard {
            Heard::Data(data) => {
                self.out.write_all(&data)?;
                self.out.flush()?;
            }
            Heard::Fault(text) => {
                self.out.flush()?;
                writeln!(self.err, "{text}")?;
            }
        }
        Ok(())
    }

    async fn follow(&mut self, path: String) -> Result<(), Halt> {
        self.hear_interrupts()?;
        self.say("==> Press Ctrl-C to exit <==")?;
        self.out.flush()?;
        let mut log = followed(self.rpc.twin(), path);
        loop {
            let heard = tokio::select! {
                heard = log.recv() => heard,
                halt = keys::interrupted(self.interrupts.as_ref()) => match halt {
                    Halt::Interrupted => return self.say(""),
                    Halt::Trouble(_) | Halt::Gone(_) => return Err(halt),
                },
            };
            match heard {
                Some(heard) => self.show(heard)?,
                None => return Ok(()),
            }
        }
    }

    pub(super) async fn tail(&mut self, arg: &str) -> Result<(), Halt> {
        if !self.is_up().await? {
            return Ok(());
        }
        let mut words: Vec<&str> = arg.split_whitespace().collect();
        if words.is_empty() {
            return self.misused("Error: too few arguments", "tail", exit::GENERIC);
        }
        if words.len() > 3 {
            return self.misused("Error: too many arguments", "tail", exit::GENERIC);
        }
        let modifier = words[0].starts_with('-').then(|| words.remove(0));
        let channel = match words.as_slice() {
            [_] => "stdout".to_owned(),
            [_, .., channel] => channel.to_lowercase(),
            [] => {
                self.exit = exit::GENERIC;
                return self.say("Error: tail requires process name");
            }
        };
        if !matches!(channel.as_str(), "stdout" | "stderr") {
            self.exit = exit::GENERIC;
            return self.say(&format!("Error: bad channel {}", repr(&channel)));
        }
        let name = words[0];
        let count = match modifier {
            None => DEFAULT,
            Some("-f") => return self.follow(format!("/logtail/{name}/{channel}")).await,
            Some(modifier) => match integer(&modifier[1..]) {
                Some(count) => count,
                None => {
                    self.exit = exit::GENERIC;
                    return self.say(&format!("Error: bad argument {modifier}"));
                }
            },
        };
        let method = if channel == "stdout" { "readProcessStdoutLog" } else { "readProcessStderrLog" };
        let params = [Value::Text(name.to_owned()), Value::Int(count.saturating_neg()), Value::Int(0)];
        match self.ask(method, &params).await {
            Ok(text) => self.say(text.text()),
            Err(halt) => {
                let error = |why: &str| format!("{name}: ERROR ({why})");
                let (no_file, failed, unknown) = (error("no log file"), error("unknown error reading log"), error("no such process name"));
                self.refused(halt, &[(fault::NO_FILE, &no_file), (fault::FAILED, &failed), (fault::BAD_NAME, &unknown)])
            }
        }
    }

    pub(super) async fn maintail(&mut self, arg: &str) -> Result<(), Halt> {
        if !self.is_up().await? {
            return Ok(());
        }
        let words: Vec<&str> = arg.split_whitespace().collect();
        let count = match words.as_slice() {
            [] => DEFAULT,
            ["-f"] => return self.follow("/mainlogtail".to_owned()).await,
            [word] => match word.strip_prefix('-').and_then(integer) {
                Some(count) => count,
                None => {
                    self.exit = exit::GENERIC;
                    return self.say(&format!("Error: bad argument {word}"));
                }
            },
            [_, _, ..] => return self.misused("Error: too many arguments", "maintail", exit::GENERIC),
        };
        match self.ask("readLog", &[Value::Int(count.saturating_neg()), Value::Int(0)]).await {
            Ok(text) => self.say(text.text()),
            Err(halt) => {
                let words = [
                    (fault::NO_FILE, "supervisord: ERROR (no log file)"),
                    (fault::FAILED, "supervisord: ERROR (unknown error reading log)"),
                ];
                self.refused(halt, &words)
            }
        }
    }

    /// Both of a process's channels on the screen, and the keyboard on its stdin.
    pub(super) async fn foreground(&mut self, arg: &str) -> Result<(), Halt> {
        if !self.is_up().await? {
            return Ok(());
        }
        let names: Vec<&str> = arg.split_whitespace().collect();
        let name = match names.as_slice() {
            [] => return self.misused("ERROR: no process name supplied", "fg", exit::GENERIC),
            [name] => *name,
            [_, _, ..] => {
                self.exit = exit::GENERIC;
                return self.say("ERROR: too many process names supplied");
            }
        };
        match self.runs(name).await {
            Ok(true) => {}
            Ok(false) => {
                self.exit = exit::GENERIC;
                return self.say("ERROR: process not running");
            }
            Err(Halt::Trouble(Trouble::Fault { code: fault::BAD_NAME, .. })) => {
                self.exit = exit::GENERIC;
                return self.say("ERROR: bad process name supplied");
            }
            Err(Halt::Trouble(why @ Trouble::Fault { .. })) => return self.say(&format!("ERROR: {why}")),
            Err(halt) => return Err(halt),
        }
        self.hear_interrupts()?;
        self.say("==> Press Ctrl-C to exit <==")?;
        self.out.flush()?;
        let end = self.attached(name).await;
        match end {
            Ok(()) | Err(Halt::Interrupted) => self.say("Exiting foreground"),
            Err(halt) => Err(halt),
        }
    }

    /// The middle of `fg`, until the keyboard or the process ends.
    async fn attached(&mut self, name: &str) -> Result<(), Halt> {
        let mut lines = Lines::listen()?;
        let mut stdout = followed(self.rpc.twin(), format!("/logtail/{name}/stdout"));
        let mut stderr = followed(self.rpc.twin(), format!("/logtail/{name}/stderr"));
        loop {
            let line = tokio::select! {
                Some(heard) = stdout.recv() => {
                    self.show(heard)?;
                    continue;
                }
                Some(heard) = stderr.recv() => {
                    self.show(heard)?;
                    continue;
                }
                line = lines.next() => line,
                halt = keys::interrupted(self.interrupts.as_ref()) => return Err(halt),
            };
            let Some(line) = line else { return Ok(()) };
            match self.ask("sendProcessStdin", &[Value::Text(name.to_owned()), Value::Text(format!("{line}\n"))]).await {
                Ok(_) if self.runs(name).await? => {}
                Ok(_) | Err(Halt::Trouble(Trouble::Fault { code: fault::NOT_RUNNING, .. })) => return self.say("Process got killed"),
                Err(Halt::Trouble(why @ Trouble::Fault { .. })) => return self.say(&format!("ERROR: {why}")),
                Err(halt) => return Err(halt),
            }
        }
    }

    async fn runs(&mut self, name: &str) -> Result<bool, Halt> {
        Ok(self.ask("getProcessInfo", &[Value::Text(name.to_owned())]).await?.at("state").int() == RUNNING)
    }
}

/// Python's `int` for what can stand in one word.
fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let well = !digits.is_empty() && digits.split('_').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    if !well {
        return None;
    }
    // What is too large for us is too large for XML-RPC, and refused there.
    let size = digits.replace('_', "").parse::<i64>().unwrap_or(i64::MAX);
    Some(if text.starts_with('-') { -size } else { size })
}

/// Bytes, if nothing else is said.
const DEFAULT: i64 = 1600;

/// Supervisor's code for the state.
const RUNNING: i64 = 20;

#[cfg(test)]
mod tests {
    use super::integer;

    #[test]
    fn numbers_are_read_as_python_does() {
        assert_eq!(integer("100"), Some(100));
        assert_eq!(integer("-5"), Some(-5));
        assert_eq!(integer("1_000"), Some(1000));
        assert_eq!(integer("99999999999999999999"), Some(i64::MAX));
        for bad in ["", "x", "_1", "1__0", "1.5", "-"] {
            assert_eq!(integer(bad), None, "{bad}");
        }
    }
}
