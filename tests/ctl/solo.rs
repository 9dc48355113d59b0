//! `solo` beside Perl: the two exclude each other, and speak alike.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

/// What a Perl solo does, written from its described behaviour: the address, the order, the texts.
const PERL: &str = r#"
use Socket;
our ($port, $silent, $verbose);
my $uid = $<;
my $host = pack("C4", 127, ($uid >> 8) & 255, $uid & 255, 1);
printf "solo: bind %s:%d\n", join(".", unpack("C4", $host)), $port if $verbose;
$^F = 10;
socket(my $lock, PF_INET, SOCK_STREAM, getprotobyname("tcp")) or die "socket: $!";
unless (bind($lock, sockaddr_in($port, $host))) {
    exit 0 if $silent;
    die "solo($port): $!\n";
}
exec @ARGV;
"#;

fn perl(args: &[&str]) -> Command {
    let mut command = Command::new("perl");
    command.args(["-s", "-e", PERL, "--"]).args(args);
    command
}

fn ours(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gangerctl"));
    command.arg0("/usr/bin/solo").args(args);
    command
}

/// A port that is free on solo's address, outside of what outgoing connections use.
fn free_port() -> u16 {
    let uid = nix::unistd::getuid().as_raw();
    let host = std::net::Ipv4Addr::new(127, (uid >> 8) as u8, uid as u8, 1);
    let start = 20_000 + (std::process::id() % 5_000) as u16;
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    loop {
        let port = start + NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if TcpListener::bind((host, port)).is_ok() {
            return port;
        }
    }
}

/// Starts a command that says when it runs and then waits for the end of its input.
fn hold(mut command: Command) -> Child {
    let mut child = command.args(["sh", "-c", "echo up; read x"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    child
}

fn let_go(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

fn text(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn perl_and_ours_exclude_each_other_on_one_address() {
    let port = free_port();
    let arg = format!("-port={port}");
    let busy = (Some(98), String::new(), format!("solo({port}): Address already in use\n"));
    let makers: [fn(&[&str]) -> Command; 2] = [perl, ours];
    for holder in makers {
        let child = hold(holder(&[&arg]));
        for other in makers {
            assert_eq!(text(&other(&[&arg, "echo", "no"]).output().unwrap()), busy);
            assert_eq!(text(&other(&[&arg, "-silent", "echo", "no"]).output().unwrap()), (Some(0), String::new(), String::new()));
        }
        let_go(child);
        for other in makers {
            assert_eq!(text(&other(&[&arg, "echo", "yes"]).output().unwrap()), (Some(0), "yes\n".into(), String::new()));
        }
    }
}

#[test]
fn verbose_says_what_perl_says_and_who_holds_it() {
    let arg = format!("-port={}", free_port());
    let said = |command: &mut Command| text(&command.output().unwrap());
    assert_eq!(said(&mut perl(&[&arg, "-verbose", "true"])), said(&mut ours(&[&arg, "-verbose", "true"])));
    let child = hold(ours(&[&arg]));
    let (code, _, err) = said(&mut ours(&[&arg, "-verbose", "true"]));
    assert_eq!(code, Some(98));
    assert!(err.contains(&format!("held by pid {}", child.id())), "{err}");
    let_go(child);
}

#[test]
fn the_command_takes_our_place_with_the_lock_and_its_own_exit_code() {
    let arg = format!("-port={}", free_port());
    assert_eq!(ours(&[&arg, "sh", "-c", "exit 7"]).output().unwrap().status.code(), Some(7));
    // One word with shell characters goes through sh, several do not.
    assert_eq!(text(&ours(&[&arg, "echo a; echo b"]).output().unwrap()).1, "a\nb\n");
    assert_eq!(text(&ours(&[&arg, "echo", "a; echo b"]).output().unwrap()).1, "a; echo b\n");
    // The descriptor is the command's, and so is the pid; SIGPIPE is as usual.
    let script = "readlink /proc/self/fd/3; grep SigIgn /proc/$$/status";
    let (_, out, _) = text(&ours(&[&arg, "sh", "-c", script]).output().unwrap());
    assert!(out.starts_with("socket:"), "{out}");
    let ignored = out.split("SigIgn:").nth(1).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    assert_eq!(ignored.map(|set| set & 1 << 12), Some(0), "SIGPIPE: {out}");
}

#[test]
fn a_grandchild_in_the_background_keeps_the_lock() {
    let arg = format!("-port={}", free_port());
    let mut child = ours(&[&arg, "sh", "-c", "sleep 600 & echo $!; exit 0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let grandchild = nix::unistd::Pid::from_raw(line.trim().parse().unwrap());
    assert!(child.wait().unwrap().success());
    assert_eq!(ours(&[&arg, "true"]).output().unwrap().status.code(), Some(98));
    nix::sys::signal::kill(grandchild, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(ours(&[&arg, "-wait=60", "true"]).output().unwrap().status.code(), Some(0));
}

#[test]
fn usage_and_traps_end_with_a_word() {
    let said = |args: &[&str]| text(&ours(args).output().unwrap());
    assert_eq!(said(&["true"]), (Some(255), String::new(), "Usage: /usr/bin/solo -port=PORT COMMAND\n".into()));
    assert_eq!(said(&["--port=3801", "true"]).0, Some(255));
    for port in ["0", "65536", "70000"] {
        let (code, _, err) = said(&[&format!("-port={port}"), "true"]);
        assert_eq!((code, err), (Some(255), format!("solo: -port={port}: expected a port from 1 to 65535\n")));
    }
    assert_eq!(
        said(&["-noport", "no-such-program-here"]),
        (Some(127), String::new(), "solo: cannot run no-such-program-here: not found in PATH\n".into())
    );
    assert_eq!(said(&["-noport", "/etc/passwd"]).0, Some(126));
    assert_eq!(said(&["-noport", "echo", "x"]).1, "x\n");
}

#[test]
fn a_timeout_is_an_alarm_in_the_command() {
    use std::os::unix::process::ExitStatusExt;
    let status = ours(&["-noport", "-timeout=1", "sleep", "60"]).status().unwrap();
    assert_eq!(status.signal(), Some(14));
}

#[test]
fn a_file_is_a_lock_too_and_can_be_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lock");
    let arg = format!("-lock={}", file.display());
    let child = hold(ours(&[&arg]));
    assert_eq!(
        text(&ours(&[&arg, "true"]).output().unwrap()),
        (Some(98), String::new(), format!("solo({}): Address already in use\n", file.display()))
    );
    let waiting = ours(&[&arg, "-wait=60", "echo", "mine"]).stdout(Stdio::piped()).spawn().unwrap();
    let_go(child);
    assert_eq!(text(&waiting.wait_with_output().unwrap()).1, "mine\n");
}
