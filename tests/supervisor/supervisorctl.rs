//! supervisorctl side by side: the original 4.3.0 and `gangerctl` under its name, both against the original supervisord and
//! against gangerd. The same lines to each, on a fleet of its own; what is printed and the exit codes are compared to the letter,
//! once pids, times and directories are masked. Our help has our own words, so of a misused verb only the complaint is compared.

use nix::pty::openpty;
use regex::Regex;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a condition may take to come true; generous, as the machine may be busy.
const LIMIT: Duration = Duration::from_secs(60);

const FLEET: &str = r#"
[unix_http_server]
file=@DIR@/s.sock

[inet_http_server]
port=127.0.0.1:@PORT@
username=ada
password=secret ; not very

[supervisord]
logfile=@DIR@/main.log
pidfile=@DIR@/s.pid
childlogdir=@DIR@
nodaemon=true

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://%(here)s/s.sock ; where
prompt=fleet

[program:cat]
command=cat
stdout_logfile=@DIR@/cat.log
stderr_logfile=NONE

[program:off]
command=sleep 1000
autostart=false
stdout_logfile=@DIR@/off.log
stderr_logfile=NONE

[program:absent]
command=/nowhere/at/all
autostart=false
startretries=0
stdout_logfile=NONE
stderr_logfile=NONE

[program:plain]
command=@DIR@/plain
autostart=false
stdout_logfile=NONE
stderr_logfile=NONE

[program:quick]
command=false
autostart=false
startretries=0
stdout_logfile=NONE
stderr_logfile=NONE

[program:pool]
command=sleep 1000
process_name=%(program_name)s_%(process_num)02d
numprocs=2
startsecs=0
stdout_logfile=NONE
stderr_logfile=NONE

[program:left]
command=sleep 1000
startsecs=0
stdout_logfile=NONE
stderr_logfile=NONE

[program:right]
command=sleep 1000
startsecs=0
stdout_logfile=NONE
stderr_logfile=NONE

[group:team]
programs=left,right
"#;

/// A line to be compared.
enum Step {
    /// To the letter.
    Run(&'static [&'static str]),
    /// The lines may come in any order: both servers answer as things happen.
    Any(&'static [&'static str]),
    /// The first line and the exit code: the rest is help.
    Complaint(&'static [&'static str]),
    /// The beginning of the first line, and the exit code: the rest is the server's.
    Verdict(&'static [&'static str]),
    /// Lines typed at the prompt, through a pipe.
    Typed(&'static [&'static str], &'static str),
    /// A change of the file: text, and what stands there instead.
    Edit(&'static str, &'static str),
    /// Waits for a file below the directory to hold a text.
    Holds(&'static str, &'static str),
}

use Step::{Any, Complaint, Edit, Holds, Run, Typed, Verdict};

/// `%` stands for `-c` and the file.
const STEPS: &[Step] = &[
    Run(&["%", "status"]),
    Run(&["%", "status", "cat"]),
    Run(&["%", "status", "cat", "off"]),
    Run(&["%", "status cat", "team:* "]),
    Run(&["%", "status", "nope", "team:nope", "nope:*", "cat"]),
    Run(&["%", "status", "nope", "off"]),
    Run(&["%", "version"]),
    Run(&["%", "avail"]),
    Run(&["%", "pid", "cat", "off", "nope"]),
    Run(&["%", "pid"]),
    Any(&["%", "pid", "all"]),
    Run(&["%", "start", "off"]),
    Run(&["%", "start", "off", "cat"]),
    Run(&["%", "start", "absent"]),
    Run(&["%", "start", "plain", "nope"]),
    Run(&["%", "start", "quick"]),
    Run(&["%", "start", "nope:*"]),
    Run(&["%", "start", "team:nope"]),
    Run(&["%", "start", "team:*"]),
    Run(&["%", "stop", "off"]),
    Run(&["%", "stop", "off", "nope"]),
    Run(&["%", "stop", "nope:*"]),
    Any(&["%", "stop", "team:"]),
    Any(&["%", "start", "team:*"]),
    Run(&["%", "restart", "cat"]),
    Run(&["%", "restart", "nope"]),
    Run(&["%", "restart", "off"]),
    Run(&["%", "signal USR1", "nope"]),
    Run(&["%", "signal", "CONT", "cat", "team:*"]),
    Run(&["%", "signal", "NOSUCH", "cat"]),
    Run(&["%", "signal", "CONT", "absent"]),
    Run(&["%", "signal", "CONT", "nope:*"]),
    Typed(&["%", "fg", "cat"], "hello\nwörld\n"),
    Holds("cat.log", "wörld\n"),
    Run(&["%", "tail", "cat"]),
    Run(&["%", "tail", "-7", "cat", "stdout"]),
    Run(&["%", "tail", "cat", "stderr"]),
    Run(&["%", "tail", "nope"]),
    Run(&["%", "tail", "cat", "MIDDLE"]),
    Run(&["%", "tail", "-x", "cat"]),
    Run(&["%", "tail", "-f"]),
    Run(&["%", "tail", "-99999999999", "cat"]),
    Complaint(&["%", "tail"]),
    Complaint(&["%", "tail", "a", "b", "c", "d"]),
    Run(&["%", "maintail", "-1"]),
    Run(&["%", "maintail", "x"]),
    Run(&["%", "clear", "cat", "nope"]),
    Run(&["%", "tail", "cat"]),
    Any(&["%", "clear", "all"]),
    Run(&["%", "fg", "off", "cat"]),
    Run(&["%", "fg", "absent"]),
    Run(&["%", "fg", "nope"]),
    Complaint(&["%", "start"]),
    Complaint(&["%", "stop"]),
    Complaint(&["%", "restart"]),
    Complaint(&["%", "signal", "HUP"]),
    Complaint(&["%", "clear"]),
    Complaint(&["%", "fg"]),
    Complaint(&["%", "avail", "x"]),
    Complaint(&["%", "version", "x"]),
    Complaint(&["%", "shutdown", "x"]),
    Complaint(&["%", "reread", "x"]),
    Run(&["%", "reread"]),
    Run(&["%", "add", "cat", "nope"]),
    Run(&["%", "remove", "cat", "nope"]),
    Edit("[program:off]\ncommand=sleep 1000", "[program:off]\ncommand=sleep 2000"),
    Edit("[program:left]", "[program:new]\ncommand=sleep 1000\nstartsecs=0\nstdout_logfile=NONE\nstderr_logfile=NONE\n\n[program:left]"),
    Edit("[program:quick]", "[program:quicker]"),
    Run(&["%", "reread"]),
    Run(&["%", "update", "nothing"]),
    Run(&["%", "update", "off"]),
    Run(&["%", "add", "new"]),
    Run(&["%", "update"]),
    Run(&["%", "update", "all"]),
    Run(&["%", "stop", "new"]),
    Run(&["%", "remove", "new"]),
    Run(&["%", "update"]),
    Edit("[program:pool]\ncommand=sleep 1000", "[program:pool]\ncommand=%(nothing)s"),
    // The text of the fault is the server's own.
    Verdict(&["%", "reread"]),
    Verdict(&["%", "update"]),
    Edit("%(nothing)s", "sleep 1000"),
    Run(&["%", "foo", "bar"]),
    Run(&["%", "!ls"]),
    Run(&["%", ""]),
    Run(&["%", "help"]),
    Run(&["%", "?"]),
    Run(&["%", "help", "nothing"]),
    Run(&["%", "open", "ftp://x"]),
    Run(&["%", "quit"]),
    Typed(&["%"], "status cat\nfoo\n\npid nope\nstart off\nexit\nstatus"),
    Typed(&["%"], "open http://127.0.0.1:1\nversion"),
    Typed(&["%", "-i", "shutdown"], "n\n"),
    Run(&["-s", "http://127.0.0.1:@PORT@", "-u", "ada", "-p", "secret", "status", "cat"]),
    Run(&["-s", "http://127.0.0.1:@PORT@", "-u", "ada", "-p", "wrong", "status", "cat"]),
    Run(&["-s", "http://127.0.0.1:@PORT@", "avail"]),
    Run(&["-s", "http://127.0.0.1:1", "status"]),
    Run(&["-s", "http://127.0.0.1:1", "stop", "all"]),
    Run(&["-s", "http://127.0.0.1:1/x", "reread"]),
    Run(&["-s", "unix:///nowhere/s.sock", "status"]),
    Run(&["-s", "unix:///nowhere/s.sock", "restart", "all"]),
    Run(&["-s", "unix:///nowhere/s.sock", "update"]),
    Run(&["-s", "unix:///nowhere/s.sock", "shutdown"]),
    Run(&["-s", "ftp://x", "status"]),
    Run(&["-s", "words", "status"]),
    Run(&["-c", "/nowhere/s.conf", "status"]),
    Run(&["-x"]),
    Run(&["--serverurl"]),
    Run(&["-i", "-i"]),
    Any(&["%", "stop", "all"]),
    Run(&["%", "shutdown"]),
];

/// A fleet under one of the two daemons, in a directory of its own.
struct Server {
    dir: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), nix::sys::signal::Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool, tell: impl Fn() -> String) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "waited in vain: {what}\n{}", tell());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The environment in which the original lives; what is missing is a failure, never a skip.
fn original(program: &str) -> PathBuf {
    let home = std::env::var_os("GANGER_SUPERVISOR_VENV").map(PathBuf::from);
    let home = home.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/supervisor"));
    let path = home.join("bin").join(program);
    assert!(path.exists(), "no {}: tests/run installs it, or set GANGER_SUPERVISOR_VENV", path.display());
    path
}

#[derive(Clone, Copy, Debug)]
enum Tool {
    Original,
    Ours,
}

impl Tool {
    fn command(self, dir: &Path) -> Command {
        let mut command = match self {
            Tool::Original => Command::new(original("supervisorctl")),
            Tool::Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_gangerctl"));
                command.arg0(original("supervisorctl"));
                command
            }
        };
        command.current_dir(dir).env("LANG", "C.UTF-8").env("PYTHONIOENCODING", "utf-8").env("PYTHONUNBUFFERED", "1");
        command
    }
}

impl Server {
    fn start(daemon: &Path) -> Server {
        let dir = tempfile::Builder::new().prefix("sctl-").tempdir().expect("a directory");
        // Free now; nobody else takes a port of this kind in the meantime on purpose.
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        fs::write(dir.path().join("plain"), "#!/bin/sh\n").expect("written");
        fs::create_dir(dir.path().join("empty")).expect("made");
        let conf = dir.path().join("s.conf");
        let text = FLEET.replace("@DIR@", &dir.path().display().to_string()).replace("@PORT@", &port.to_string());
        fs::write(&conf, text).expect("written");
        let journal = File::create(dir.path().join("journal")).expect("created");
        let mut command = Command::new(daemon);
        command.args(["-n", "-c"]).arg(&conf).current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(journal.try_clone().expect("a descriptor")).stderr(journal);
        command.env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
        let child = command.spawn().unwrap_or_else(|error| panic!("{} cannot be started: {error}", daemon.display()));
        let server = Server { dir, port, child };
        let socket = server.dir.path().join("s.sock");
        until("the server answers", || UnixStream::connect(&socket).is_ok(), || server.journal());
        let up = |line: &str| ["cat ", "pool:pool_00 ", "team:right "].iter().all(|name| line.contains(name));
        let mut status = String::new();
        until(
            "all run",
            || {
                status = server.run(Tool::Ours, &["%", "status"], "").0;
                up(&status.lines().filter(|line| line.contains("RUNNING")).collect::<String>())
            },
            || server.journal(),
        );
        server
    }

    fn journal(&self) -> String {
        fs::read_to_string(self.dir.path().join("journal")).unwrap_or_default()
    }

    /// What a line prints (stdout, then stderr), and its exit code.
    fn run(&self, tool: Tool, words: &[&str], input: &str) -> (String, i32) {
        // The file is not found from here, so that only what a step names counts.
        let mut command = tool.command(&self.dir.path().join("empty"));
        for word in words {
            match *word {
                "%" => command.arg("-c").arg(self.dir.path().join("s.conf")),
                word => command.arg(word.replace("@PORT@", &self.port.to_string())),
            };
        }
        // Into files, so that what has been printed can be seen while the tool runs.
        let (out, err) = (tempfile::NamedTempFile::new().expect("a file"), tempfile::NamedTempFile::new().expect("a file"));
        let to = |file: &tempfile::NamedTempFile| Stdio::from(file.reopen().expect("a descriptor"));
        let mut child = command.stdin(Stdio::piped()).stdout(to(&out)).stderr(to(&err)).spawn().expect("the tool starts");
        // It may have ended already.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        let text = |file: &tempfile::NamedTempFile| String::from_utf8_lossy(&fs::read(file.path()).expect("read")).into_owned();
        let start = Instant::now();
        let code = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break status.code().unwrap_or(-1);
            }
            // The original's `fg` waits for more output before it ends, for ever if there is none.
            let lingers = matches!(tool, Tool::Original) && text(&out).contains("Exiting foreground");
            let late = start.elapsed() > LIMIT;
            if lingers || late {
                child.kill().expect("it runs");
                child.wait().expect("it ends");
                assert!(!late, "{tool:?} does not come back: {words:?}\n{}{}", text(&out), text(&err));
                break 0;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        (text(&out) + &text(&err), code)
    }

    fn transcript(&self, tool: Tool) -> Vec<String> {
        STEPS.iter().filter_map(|step| self.step(tool, step)).collect()
    }

    fn step(&self, tool: Tool, step: &Step) -> Option<String> {
        let (words, input) = match step {
            Run(words) | Any(words) | Complaint(words) | Verdict(words) => (*words, ""),
            Typed(words, input) => (*words, *input),
            Edit(from, to) => {
                let conf = self.dir.path().join("s.conf");
                let text = fs::read_to_string(&conf).expect("read");
                assert!(text.contains(from), "nothing to edit: {from}");
                fs::write(&conf, text.replace(from, to)).expect("written");
                return None;
            }
            Holds(file, wanted) => {
                let path = self.dir.path().join(file);
                let holds = || fs::read_to_string(&path).unwrap_or_default().contains(wanted);
                until(wanted, holds, || self.journal());
                return None;
            }
        };
        let (out, code) = self.run(tool, words, input);
        let mut lines: Vec<String> = self.masked(&out).lines().map(str::to_owned).collect();
        match step {
            Any(_) => lines.sort(),
            Complaint(_) => lines.truncate(1),
            Verdict(_) => {
                lines.truncate(1);
                lines.iter_mut().for_each(|line| line.truncate(line.find("92").or(line.find("REREAD")).map_or(line.len(), |at| at + 2)));
            }
            Typed(["%", "fg", ..], _) => lines.retain(|line| line.starts_with("==>") || line.starts_with("Exiting")),
            Run(_) | Typed(..) | Edit(..) | Holds(..) => {}
        }
        let mut seen = format!("$ supervisorctl {}\n", words.join(" "));
        for line in lines {
            writeln!(seen, "{line}").expect("text grows");
        }
        writeln!(seen, "[exit {code}]").expect("text grows");
        Some(seen)
    }

    fn masked(&self, text: &str) -> String {
        let dir = self.dir.path().display().to_string();
        let mut text = text.replace(&dir, "DIR").replace(&self.port.to_string(), "PORT");
        for (pattern, mask) in [
            (r"pid \d+, uptime \d+:\d\d:\d\d", "pid N, uptime T"),
            (r"(?m)^[1-9]\d+$", "N"),
            (r"[A-Z][a-z]{2} \d\d \d\d:\d\d [AP]M", "DATE"),
            // The original tells where in its source.
            (r": file: \S+ line: \d+", ""),
        ] {
            text = Regex::new(pattern).expect("a pattern").replace_all(&text, mask).into_owned();
        }
        text
    }
}

fn compare(daemon: &Path) -> Vec<String> {
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| Server::start(daemon).transcript(Tool::Original));
        let ours = Server::start(daemon).transcript(Tool::Ours);
        (theirs.join().expect("the original's transcript"), ours)
    });
    let differ: Vec<String> =
        theirs.iter().zip(&ours).filter(|(a, b)| a != b).map(|(a, b)| format!("--- supervisorctl\n{a}+++ gangerctl\n{b}")).collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    ours
}

#[test]
fn both_tools_say_the_same_of_supervisord() {
    compare(&original("supervisord"));
}

#[test]
fn both_tools_say_the_same_of_gangerd() {
    compare(Path::new(env!("CARGO_BIN_EXE_gangerd")));
}

/// A tool at a terminal: what it shows grows in `shown`.
struct Terminal {
    keys: File,
    child: Child,
    shown: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Terminal {
    fn open(server: &Server, words: &[&str]) -> Terminal {
        let pty = openpty(None, None).expect("a terminal");
        let side = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        let mut command = Tool::Ours.command(&server.dir.path().join("empty"));
        command.arg("-c").arg(server.dir.path().join("s.conf")).args(words);
        command.stdin(side()).stdout(side()).stderr(side()).env("TERM", "xterm");
        // It is not its controlling terminal, so ^C comes as a signal from the test.
        let child = command.spawn().expect("the tool starts");
        drop(command);
        let keys = File::from(pty.master);
        let mut screen = keys.try_clone().expect("a descriptor");
        let shown = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let grows = shown.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = screen.read(&mut bytes) {
                grows.lock().expect("a lock").push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        });
        Terminal { keys, child, shown }
    }

    fn shows(&self, text: &str) {
        let tell = || self.shown.lock().expect("a lock").clone();
        until(text, || tell().contains(text), || format!("{:?}", tell()));
        self.shown.lock().expect("a lock").clear();
    }

    fn types(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).expect("keys");
    }

    fn interrupt(&self) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), nix::sys::signal::Signal::SIGINT).expect("it runs");
    }
}

#[test]
fn the_prompt_completes_remembers_and_survives_the_interrupt() {
    let server = Server::start(Path::new(env!("CARGO_BIN_EXE_gangerd")));
    let history = server.dir.path().join("history");
    let mut terminal = Terminal::open(&server, &["-r", history.to_str().expect("a path")]);
    terminal.shows("fleet> ");
    terminal.types("stat\t tea\tle\t\r");
    terminal.shows("team:left                        RUNNING");
    terminal.types("tail -f cat\r");
    terminal.shows("==> Press Ctrl-C to exit <==");
    terminal.interrupt();
    terminal.shows("fleet> ");
    terminal.types("fg cat\r");
    terminal.shows("==> Press Ctrl-C to exit <==");
    terminal.types("typed\n");
    let log = server.dir.path().join("cat.log");
    until("the line has arrived", || fs::read_to_string(&log).unwrap_or_default().contains("typed"), || server.journal());
    let began = Instant::now();
    terminal.interrupt();
    terminal.shows("Exiting foreground");
    // The original lingers up to 30 s.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    terminal.types("shutdown\r");
    terminal.shows("y/N?");
    terminal.types("n\r");
    terminal.shows("fleet> ");
    terminal.types("\x04");
    let mut status = None;
    until(
        "it ends",
        || {
            status = terminal.child.try_wait().expect("a child");
            status.is_some()
        },
        String::new,
    );
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    assert!(fs::read_to_string(&history).expect("a history").contains("tail -f cat"));
}
