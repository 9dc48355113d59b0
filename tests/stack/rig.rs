//! A gangerd in a temporary directory, and how we talk to it: by `gangerctl` and by REST, as people do.

use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Rig {
    dir: TempDir,
    mark: String,
    gangerd: Option<Child>,
}

impl Rig {
    /// An empty directory. Nothing runs yet.
    pub fn new(name: &str) -> Rig {
        // Short: a socket's path may have 107 bytes.
        let dir = tempfile::Builder::new().prefix("gg-").tempdir_in("/tmp").expect("a temporary directory");
        let mark = format!("{name}-{}-{}", std::process::id(), dir.path().file_name().expect("a name").to_string_lossy());
        Rig { dir, mark, gangerd: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Worth putting into the environment of the workers as `STACK_MARK`, so that they are known from outside.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Writes the definitions (after `[daemon]` and `[server]`, which are ours) and starts gangerd; on return it answers and knows
    /// its programs.
    pub fn start(&mut self, definitions: &str) {
        let dir = self.dir.path().display();
        // As root a program must say whom it runs as.
        let user = if nix::unistd::geteuid().is_root() { "user = \"root\"" } else { "" };
        let text = format!(
            "[daemon]\nruntime_dir = \"{dir}/run\"\nlog_dir = \"{dir}/log\"\n\n[server]\nsocket = \"{dir}/g.sock\"\n\n[defaults]\n{user}\n\n{definitions}"
        );
        let file = self.path("ganger.toml");
        std::fs::write(&file, text).expect("the definitions");
        std::fs::create_dir_all(self.path("log")).expect("a log directory");
        let said = std::fs::File::create(self.path("gangerd.out")).expect("a file for its words");
        let gangerd = Command::new(env!("CARGO_BIN_EXE_gangerd"))
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("a second handle"))
            .stderr(said)
            .spawn()
            .expect("gangerd starts");
        self.gangerd = Some(gangerd);
        self.wait("gangerd answers", Duration::from_secs(20), |rig| {
            if let Some(status) = rig.gangerd.as_mut().expect("started above").try_wait().expect("our child") {
                panic!("gangerd ended ({status}):\n{}", rig.words());
            }
            // It may answer a moment before it has read the definitions.
            rig.try_get("/api/v1/status").is_ok_and(|view| view["programs"].as_array().is_some_and(|programs| !programs.is_empty()))
        });
    }

    /// What gangerd has written, for the message of a failure.
    pub fn words(&self) -> String {
        let mut text = std::fs::read_to_string(self.path("gangerd.out")).unwrap_or_default();
        if text.len() > 8000 {
            let mut cut = text.len() - 8000;
            while !text.is_char_boundary(cut) {
                cut += 1;
            }
            text = text.split_off(cut);
        }
        text
    }

    /// Waits until `met`; a failure names what did not come to pass.
    pub fn wait(&mut self, what: &str, limit: Duration, mut met: impl FnMut(&mut Rig) -> bool) {
        let end = Instant::now() + limit;
        while !met(self) {
            assert!(Instant::now() < end, "not within {limit:?}: {what}\ngangerd's last words:\n{}", self.words());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs `gangerctl` to its end, whatever that is.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gangerctl"))
            .arg("-s")
            .arg(self.path("g.sock"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("gangerctl starts")
    }

    /// Runs `gangerctl`, which must succeed; its words.
    pub fn ctl_ok(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "gangerctl {arguments:?}: {}\n{out}{err}\ngangerd:\n{}", output.status, self.words());
        out.into_owned()
    }

    /// The view of one program.
    pub fn program(&self, name: &str) -> Value {
        let view = self.get("/api/v1/status");
        let programs = view["programs"].as_array().expect("programs in the view");
        programs.iter().find(|program| program["name"] == name).unwrap_or_else(|| panic!("no {name} in {view}")).clone()
    }

    /// All notices that are kept, newest first.
    pub fn notices(&self) -> Vec<Value> {
        self.get("/api/v1/history?limit=2000").as_array().expect("an array of notices").clone()
    }

    pub fn get(&self, path: &str) -> Value {
        self.try_get(path).unwrap_or_else(|error| panic!("GET {path}: {error}\ngangerd:\n{}", self.words()))
    }

    fn try_get(&self, path: &str) -> Result<Value, String> {
        get(&self.path("g.sock"), path)
    }

    /// Asks gangerd to end, and waits until it has and none of its workers is left.
    pub fn stop(&mut self) {
        let Some(mut gangerd) = self.gangerd.take() else { return };
        let pid = nix::unistd::Pid::from_raw(gangerd.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let end = Instant::now() + Duration::from_secs(40);
        let mut ended = false;
        while !ended && Instant::now() < end {
            ended = gangerd.try_wait().is_ok_and(|status| status.is_some());
            std::thread::sleep(Duration::from_millis(20));
        }
        if !ended {
            let _ = gangerd.kill();
            let _ = gangerd.wait();
        }
        let left = self.marked();
        for pid in &left {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
        }
        if !std::thread::panicking() {
            assert!(ended, "gangerd did not end within 40 s of TERM:\n{}", self.words());
            assert!(left.is_empty(), "workers outlived gangerd's stop: {left:?}");
        }
    }

    /// Processes that carry our mark.
    fn marked(&self) -> Vec<i32> {
        let mark = format!("STACK_MARK={}", self.mark);
        let pids = std::fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|pair| pair == mark.as_bytes())
        })
        .collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A whole HTTP request over a unix socket, in plain bytes: the proof should not lean on the client that it proves.
fn get(socket: &Path, path: &str) -> Result<Value, String> {
    let mut stream = UnixStream::connect(socket).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(|error| error.to_string())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: ganger\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| error.to_string())?;
    let split = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("an answer without a head")?;
    let head = String::from_utf8_lossy(&answer[..split]).to_ascii_lowercase();
    let body = &answer[split + 4..];
    if !head.starts_with("http/1.1 200") {
        return Err(format!("{head}\n{}", String::from_utf8_lossy(body)));
    }
    let body = if head.contains("transfer-encoding: chunked") { unchunked(body)? } else { body.to_vec() };
    serde_json::from_slice(&body).map_err(|error| format!("{error} in {}", String::from_utf8_lossy(&body)))
}

fn unchunked(mut body: &[u8]) -> Result<Vec<u8>, String> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|bytes| bytes == b"\r\n").ok_or("a chunk without a length")?;
        let length = usize::from_str_radix(&String::from_utf8_lossy(&body[..end]), 16).map_err(|error| error.to_string())?;
        if length == 0 {
            return Ok(whole);
        }
        let chunk = body.get(end + 2..end + 2 + length).ok_or("a chunk cut short")?;
        whole.extend_from_slice(chunk);
        body = &body[end + 4 + length..];
    }
}
