//! A real gangerd in a temporary directory, and the eyes to watch it with.
//!
//! Tests wait for conditions with a limit, never for a time. What a test sees is what any reader sees: the
//! REST door and `gangerctl`.

use ganger::model::state::State;
use ganger::model::view::{SlotView, View};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a condition may take to come true; generous, as the machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(30);

pub struct Fleet {
    pub dir: PathBuf,
    _keep: tempfile::TempDir,
    pub daemon: Option<Child>,
}

/// What a finished `gangerctl` left.
#[derive(Debug)]
pub struct Told {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Fleet {
    /// Writes `programs` (TOML) under a head with private directories, starts gangerd, and waits until it answers.
    pub fn start(programs: &str) -> Fleet {
        let mut fleet = Fleet::prepare(programs);
        fleet.launch();
        fleet
    }

    /// Everything but the daemon.
    pub fn prepare(programs: &str) -> Fleet {
        let keep = tempfile::Builder::new().prefix("ganger-test-").tempdir().expect("a temporary directory");
        let fleet = Fleet { dir: keep.path().to_owned(), _keep: keep, daemon: None };
        fleet.define(programs);
        fleet
    }

    /// Replaces the definitions; the daemon is not told.
    pub fn define(&self, programs: &str) {
        let dir = self.dir.display();
        let me = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("the user database").expect("we are somebody").name;
        let head = if programs.contains("[defaults]") { String::new() } else { format!("[defaults]\nuser = \"{me}\"\n") };
        let text = format!(
            "[daemon]\nruntime_dir = \"{dir}/run\"\nlog_dir = \"{dir}/log\"\n{head}\n{}",
            programs.replace("@DIR@", &dir.to_string())
        );
        fs::write(self.config(), text).expect("the definitions can be written");
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("ganger.toml")
    }

    /// Starts the daemon that `prepare` left out.
    pub fn launch(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gangerd"));
        command.arg("-c").arg(self.config());
        self.launch_as(command);
    }

    /// Starts the daemon by a command line of the test's own (under limits, as another user).
    pub fn launch_as(&mut self, mut command: Command) {
        let journal = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("journal")).expect("the journal can be written");
        command.stdin(Stdio::null()).stdout(journal.try_clone().expect("a descriptor")).stderr(journal);
        command.env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
        self.daemon = Some(command.spawn().expect("gangerd can be started"));
        let socket = self.socket();
        until("gangerd answers", || UnixStream::connect(&socket).ok(), || self.journal());
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("run/ganger.sock")
    }

    pub fn pid(&self) -> i32 {
        self.daemon.as_ref().expect("the daemon was started").id() as i32
    }

    /// Our own log so far.
    pub fn journal(&self) -> String {
        fs::read_to_string(self.dir.join("journal")).unwrap_or_default()
    }

    pub fn view(&self) -> View {
        let (code, body) = http(&self.socket(), "GET", "/api/v1/status", "");
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("the status is no View: {e}\n{body}"))
    }

    /// The picture in which `condition` holds.
    pub fn until(&self, what: &str, condition: impl Fn(&View) -> bool) -> View {
        until(what, || Some(self.view()).filter(|view| condition(view)), || self.describe())
    }

    /// Waits until all slots of all programs are RUNNING.
    pub fn until_all_run(&self) -> View {
        self.until("all slots run", |view| view.slots().count() > 0 && view.slots().all(|slot| slot.state == State::Running))
    }

    /// For messages of failed tests.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for slot in self.view().slots() {
            writeln!(text, "{} {} pid {:?} {:?}", slot.label(), slot.state, slot.pid, slot.reason).expect("a String takes all");
        }
        let journal = self.journal();
        let tail: Vec<&str> = journal.lines().rev().take(60).collect();
        tail.iter().rev().for_each(|line| writeln!(text, "  {line}").expect("a String takes all"));
        text
    }

    pub fn ctl(&self, args: &[&str]) -> Told {
        let out = Command::new(env!("CARGO_BIN_EXE_gangerctl"))
            .arg("-s")
            .arg(self.socket())
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("gangerctl runs");
        Told {
            code: out.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&out.stdout).into_owned(),
            err: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    }

    /// Runs `gangerctl` and insists that it went well.
    pub fn ctl_ok(&self, args: &[&str]) -> String {
        let told = self.ctl(args);
        assert_eq!(told.code, 0, "gangerctl {args:?}: {told:?}\n{}", self.describe());
        told.out
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).expect("the daemon lives");
    }

    /// Asks the daemon to end by TERM; its exit code.
    pub fn stop(&mut self) -> i32 {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.wait_for_end()
    }

    /// The exit code of the daemon, once it has ended by itself.
    pub fn wait_for_end(&mut self) -> i32 {
        let mut daemon = self.daemon.take().expect("the daemon was started");
        let journal = self.dir.join("journal");
        until(
            "gangerd ends",
            || daemon.try_wait().expect("we may wait for our child").map(|status| status.code().unwrap_or(-1)),
            || fs::read_to_string(&journal).unwrap_or_default(),
        )
    }

    /// A file in the fleet's directory, as it is now; empty if it is not there.
    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join(name)).unwrap_or_default()).into_owned()
    }

    /// Writes a script and makes it executable.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.join(name);
        fs::write(&path, text).expect("a script can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a script can be made executable");
        path
    }
}

/// A test that failed must not leave a fleet behind.
impl Drop for Fleet {
    fn drop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.id() as i32), nix::sys::signal::Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(15) {
            if matches!(daemon.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = daemon.kill();
        let _ = daemon.wait();
    }
}

/// The slot of that label.
pub fn slot<'v>(view: &'v View, label: &str) -> &'v SlotView {
    view.slots().find(|slot| slot.label() == label).unwrap_or_else(|| panic!("no slot {label}"))
}

/// Waits for `probe` to find something, with a limit; `describe` tells what was there instead.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>, describe: impl Fn() -> String) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} in vain: {what}\n{}", describe());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One request over the unix socket: status code and body.
pub fn http(socket: &Path, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).expect("the daemon's socket is open");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket takes a time-out");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: ganger\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the daemon reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the daemon answers");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no status line: {head}"));
    (code, body.to_owned())
}

/// True while a process of that pid runs (a zombie does not).
pub fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

/// Pids of running processes whose command line contains `word`.
pub fn processes_with(word: &str) -> Vec<i32> {
    processes(|line| line.contains(word))
}

/// Pids of running processes with just this command line.
pub fn processes_running(command: &str) -> Vec<i32> {
    processes(|line| line.trim_end() == command)
}

fn processes(is_meant: impl Fn(&str) -> bool) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("there is /proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        if is_meant(&String::from_utf8_lossy(&line).replace('\0', " ")) && is_alive(pid) && pid != std::process::id() as i32 {
            found.push(pid);
        }
    }
    found
}
