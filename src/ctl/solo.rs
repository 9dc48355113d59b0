//! `solo`: run a command unless it runs already.
//!
//! Tim Kay's `solo` 1.7 to the letter: the options (Perl's `-s`: single dash, up to the first other word or `--`), the
//! address that is bound, texts and exit codes, so that old and new exclude each other on one host. The lock is an
//! inherited descriptor, so it lives as long as any process that the command leaves behind. Ours beyond that: `-name=`,
//! `-lock=FILE`, `-wait=S`, who holds it; and two traps are mended that nobody can have built on: a command that cannot be
//! run says so (127, 126; it was silence and 0), and a port that is none is refused (70000 was 4464, 0 was no lock).

use crate::leases::{self, NoLease};
use crate::model::launch::Lock;
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// What was asked for.
#[derive(Debug, Default, PartialEq)]
struct Options {
    locks: Vec<Lock>,
    noport: bool,
    verbose: bool,
    silent: bool,
    /// Seconds; 0 is none.
    timeout: u32,
    sleep: u32,
    wait: u32,
    command: Vec<OsString>,
}

/// Runs solo under the name `called` with these arguments. Does not come back when the command runs: it takes our place.
pub fn main(called: &str, args: &[OsString]) -> i32 {
    match Options::read(args) {
        Err(Fault::Usage) => {
            eprintln!("Usage: {called} -port=PORT COMMAND");
            if called != "solo" && !called.ends_with("/solo") {
                eprint!("{MORE}");
            }
            255
        }
        Err(Fault::Text(text)) => {
            eprintln!("solo: {text}");
            255
        }
        Ok(options) => run(&options),
    }
}

fn run(options: &Options) -> i32 {
    if options.timeout > 0 {
        // Before the lock, as solo does; it stays armed in the command.
        nix::unistd::alarm::set(options.timeout);
    }
    let uid = nix::unistd::getuid().as_raw();
    for lock in &options.locks {
        if let (Lock::Port(port), true) = (lock, options.verbose) {
            // Perl's pack(CnC, 127, $<, 1). A reader that is gone is no reason not to run.
            let _ = writeln!(std::io::stdout(), "solo: bind 127.{}.{}.1:{port}", uid >> 8 & 255, uid & 255);
            if uid == 0 && EPHEMERAL.contains(port) {
                eprintln!("solo: port {port} may be taken by any outgoing connection of this host; -name=NAME is safer");
            }
        }
        if let Err(code) = hold(lock, uid, options) {
            return code;
        }
    }
    if options.sleep > 0 {
        std::thread::sleep(Duration::from_secs(options.sleep.into()));
    }
    become_command(&options.command)
}

/// Takes the lock and leaves it open for the command; or tells why not, as an exit code.
fn hold(lock: &Lock, uid: u32, options: &Options) -> Result<(), i32> {
    let mut pauses = options.wait.saturating_mul(PAUSES_A_SECOND);
    loop {
        match leases::take(lock, uid, &leases::default_lock_dir(uid)) {
            Ok(lease) => {
                if let Err(why) = lease.keep_over_exec() {
                    eprintln!("solo({}): cannot hand the lock on: {why}", shown(lock));
                    return Err(1);
                }
                // The command's now: never closed here.
                let _ = lease.fd.into_raw_fd();
                return Ok(());
            }
            Err(NoLease::Busy { .. }) if pauses > 0 => {
                pauses -= 1;
                std::thread::sleep(Duration::from_secs(1) / PAUSES_A_SECOND);
            }
            // With -silent any failure is silence and 0 (solo: `or $silent? exit: die`).
            Err(_) if options.silent => return Err(0),
            Err(NoLease::Busy { holder }) => {
                eprintln!("solo({}): Address already in use", shown(lock));
                match holder {
                    Some(pid) if options.verbose => eprintln!("solo: held by pid {pid}"),
                    Some(_) | None => {}
                }
                return Err(98);
            }
            Err(NoLease::Fault(text)) => {
                eprintln!("solo({}): {text}", shown(lock));
                return Err(if text.to_ascii_lowercase().contains("permission denied") { 13 } else { 1 });
            }
        }
    }
}

fn shown(lock: &Lock) -> String {
    match lock {
        Lock::Port(port) => port.to_string(),
        Lock::File(path) => path.clone(),
        Lock::Name(name) => name.clone(),
    }
}

/// Perl's `exec @ARGV`: one word with shell characters goes through sh, one without is split, several are taken as
/// they are. None at all is success, so that `solo -port=N` asks whether it runs.
#[expect(clippy::disallowed_methods, reason = "an exec in place, not a fork; std's also undoes the SIGPIPE that it ignores")]
fn become_command(words: &[OsString]) -> i32 {
    let words: Vec<OsString> = match words {
        [] => return 0,
        [line] if wants_shell(line.as_bytes()) => vec!["/bin/sh".into(), "-c".into(), line.clone()],
        [line] => {
            line.as_bytes().split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).map(|w| OsStr::from_bytes(w).to_owned()).collect()
        }
        several => several.to_vec(),
    };
    let Some((program, args)) = words.split_first() else { return 0 };
    let why = Command::new(program).args(args).exec();
    let name = program.to_string_lossy();
    match why.kind() {
        ErrorKind::NotFound if name.contains('/') => eprintln!("solo: cannot run {name}: no such file (or its #! interpreter is missing)"),
        ErrorKind::NotFound => eprintln!("solo: cannot run {name}: not found in PATH"),
        ErrorKind::PermissionDenied => eprintln!("solo: cannot run {name}: permission denied; is the file executable?"),
        _ => eprintln!("solo: cannot run {name}: {why}"),
    }
    if why.kind() == ErrorKind::NotFound { 127 } else { 126 }
}

/// Perl's rule for a command of one word (doio.c, do_exec3).
fn wants_shell(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    let space_at = |at: usize| line.get(at).is_some_and(u8::is_ascii_whitespace);
    let assigned = line.iter().position(|b| !(b.is_ascii_alphanumeric() || *b == b'_')).is_some_and(|at| line[at] == b'=');
    // A line break at the very end is none.
    let body = line.strip_suffix(b"\n").unwrap_or(line);
    line.starts_with(b".") && space_at(1)
        || line.starts_with(b"exec") && space_at(4)
        || assigned
        || body.iter().any(|b| b"$&*(){}[]'\";\\|?<>~`\n".contains(b))
}

#[derive(Debug, PartialEq)]
enum Fault {
    Usage,
    Text(String),
}

impl Options {
    fn read(args: &[OsString]) -> Result<Options, Fault> {
        let mut options = Options::default();
        let mut port = None;
        let mut at = 0;
        while let Some(switch) = args.get(at).and_then(|arg| arg.as_bytes().strip_prefix(b"-")).filter(|switch| !switch.is_empty()) {
            at += 1;
            if switch == b"-" {
                break;
            }
            let switch = String::from_utf8_lossy(switch);
            let (name, value) = switch.split_once('=').unwrap_or((&switch, "1"));
            // Perl's truth: all but the empty string and 0.
            let on = !value.is_empty() && value != "0";
            match name {
                "port" => port = Some(value.to_owned()),
                "noport" => options.noport = on,
                "verbose" => options.verbose = on,
                "silent" => options.silent = on,
                "timeout" => options.timeout = number(value),
                "sleep" => options.sleep = number(value),
                "wait" => options.wait = number(value),
                "name" => match crate::model::name::fault_in(value) {
                    None => options.locks.push(Lock::Name(value.to_owned())),
                    Some(fault) => return Err(Fault::Text(format!("-name={value}: {fault}"))),
                },
                "lock" if value.is_empty() || value == "1" && !switch.contains('=') => {
                    return Err(Fault::Text("-lock: expected a file, as -lock=FILE".to_owned()));
                }
                "lock" => options.locks.push(Lock::File(value.to_owned())),
                // A variable that nobody reads, in Perl.
                _ => {}
            }
        }
        options.command = args[at..].to_vec();
        match port.filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())) {
            Some(text) => match text.parse::<u16>() {
                Ok(port) if port > 0 => options.locks.insert(0, Lock::Port(port)),
                Ok(_) | Err(_) => return Err(Fault::Text(format!("-port={text}: expected a port from 1 to 65535"))),
            },
            None if options.noport || !options.locks.is_empty() => {}
            None => return Err(Fault::Usage),
        }
        Ok(options)
    }
}

/// The number that a text begins with, as Perl takes it; 0 if none.
fn number(text: &str) -> u32 {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().unwrap_or(if end > 0 { u32::MAX } else { 0 })
}

const MORE: &str = "  -noport            no lock
  -name=NAME         a named lock instead of a port; -lock=FILE: that file
  -wait=S            wait so many seconds for the lock
  -timeout=S         SIGALRM to the command after so many seconds
  -sleep=S           keep the lock so long before the command starts
  -silent            if it runs already: say nothing, exit code 0 (else 98)
  -verbose           say what is bound, and who holds it
";

/// Where Linux draws the ports of outgoing connections from, unless told otherwise.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32768..=60999;

/// A port cannot be waited for, so -wait asks again.
const PAUSES_A_SECOND: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Options, Fault> {
        Options::read(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn switches_end_where_perl_ends_them() {
        let options = read(&["-port=3801", "-silent", "-timeout=60", "php", "-verbose"]).unwrap();
        assert_eq!(options.locks, [Lock::Port(3801)]);
        assert!(options.silent && !options.verbose);
        assert_eq!((options.timeout, options.command.len()), (60, 2));
        assert_eq!(read(&["-port=1", "--", "-x"]).unwrap().command, ["-x"]);
        assert_eq!(read(&["-port=1", "-", "x"]).unwrap().command, ["-", "x"]);
        assert!(!read(&["-port=1", "-silent=0", "x"]).unwrap().silent);
    }

    #[test]
    fn what_solo_refuses_is_refused_and_so_is_a_port_that_is_none() {
        for bad in [&["x"][..], &["--port=1", "x"], &["-port=", "x"], &["-port=a", "x"], &[]] {
            assert_eq!(read(bad), Err(Fault::Usage), "{bad:?}");
        }
        for bad in ["-port=0", "-port=70000", "-port=99999999999999"] {
            assert!(matches!(read(&[bad, "x"]), Err(Fault::Text(text)) if text.contains("1 to 65535")), "{bad}");
        }
        assert!(read(&["-noport", "x"]).unwrap().locks.is_empty());
        assert_eq!(read(&["-name=mailer", "x"]).unwrap().locks, [Lock::Name("mailer".into())]);
        assert!(read(&["-name=a/b", "x"]).is_err());
    }

    #[test]
    fn one_word_goes_through_the_shell_when_perl_would() {
        for line in ["a; b", "A=1 b", "exec b", ". file", "a | b", "echo $HOME", "a 2>&1"] {
            assert!(wants_shell(line.as_bytes()), "{line}");
        }
        for line in ["true", "php worker.php --queue=a", "a\n", "executor b", "/bin/x"] {
            assert!(!wants_shell(line.as_bytes()), "{line}");
        }
    }
}
