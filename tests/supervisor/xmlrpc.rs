//! XML-RPC side by side: the same fleet under supervisord 4.3.0 and under gangerd, the same calls to both, and the answers
//! compared byte by byte, once pids, times and directories are masked. Each call is one `Step`; what differs because we want it
//! so is in `differences.md` and asserted at the end of this file.

use regex::Regex;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a condition may take to come true; generous, as the machine may be busy.
const LIMIT: Duration = Duration::from_secs(30);

const FLEET: &str = r#"
[unix_http_server]
file=@DIR@/s.sock

[inet_http_server:locked]
port=127.0.0.1:@PORT@
username=ada
password={SHA}522b276a356bdf39013dfabea2cd43e141ecc9e8

[supervisord]
logfile=@DIR@/main.log
pidfile=@DIR@/s.pid
childlogdir=@DIR@
identifier=side
nodaemon=true
silent=true

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[program:cat]
command=cat
stdout_logfile=@DIR@/cat.log
stdout_logfile_maxbytes=1MB
stdout_logfile_backups=2
stderr_logfile=NONE

[program:words]
command=sh -c 'printf "0123456789\nwords\n"; printf "wrong\n" >&2; exec sleep 1000'
stdout_logfile=@DIR@/words.log
stderr_logfile=@DIR@/words.err
priority=5

[program:off]
command=sleep 1000
autostart=false
redirect_stderr=true
stdout_logfile=@DIR@/off.log
stopsignal=INT
exitcodes=0,2
environment=A="1"
directory=/
user=root

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

[program:dir]
command=@DIR@/
autostart=false
stdout_logfile=NONE
stderr_logfile=NONE

[program:quick]
command=false
autostart=false
startretries=0
stdout_logfile=NONE
stderr_logfile=NONE

[program:bad]
command=sh -c 'exit 3'
autostart=false
autorestart=false
startsecs=0
stdout_logfile=NONE
stderr_logfile=NONE

[program:slow]
command=sh -c 'trap "" TERM; while :; do sleep 0.05; done'
autostart=false
stopwaitsecs=1
killasgroup=true
stopasgroup=true
stdout_logfile=NONE
stderr_logfile=NONE

[program:pool]
command=sleep 1000
process_name=%(program_name)s_%(process_num)02d
numprocs=3
numprocs_start=1
stdout_logfile=NONE
stderr_logfile=NONE

[program:left]
command=sleep 1000
priority=20
autostart=false
startsecs=0
stdout_logfile=NONE
stderr_logfile=NONE

[program:right]
command=sleep 1000
priority=10
autostart=false
startsecs=0
stdout_logfile=NONE
stderr_logfile=NONE

[group:team]
programs=left,right
priority=7
"#;

/// Written in place of `[program:off]`'s beginning for `reloadConfig`.
const NEW: &str =
    "[program:new]\ncommand=sleep 1000\nstartsecs=0\nstdout_logfile=NONE\nstderr_logfile=NONE\n\n[program:off]\nstartsecs=3\n";

/// One of the two servers.
struct Server {
    name: &'static str,
    dir: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Server {
    fn start(name: &'static str, mut command: Command) -> Server {
        let dir = tempfile::Builder::new().prefix("side-").tempdir().expect("a directory");
        // Free now; nobody else takes a port of this kind in the meantime on purpose.
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        fs::write(dir.path().join("plain"), "#!/bin/sh\n").expect("written");
        let conf = dir.path().join("s.conf");
        fs::write(&conf, fleet(dir.path(), port)).expect("written");
        let journal = fs::File::create(dir.path().join("journal")).expect("created");
        command.args(["-n", "-c"]).arg(&conf).current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(journal.try_clone().expect("a descriptor")).stderr(journal);
        command.env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let server = Server { name, dir, port, child };
        server.until("answers", || UnixStream::connect(server.socket()).is_ok());
        for process in ["cat", "words", "pool:pool_01", "pool:pool_02", "pool:pool_03"] {
            server.until_state(process, "RUNNING");
        }
        server
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("s.sock")
    }

    fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            let journal = fs::read_to_string(self.dir.path().join("journal")).unwrap_or_default();
            assert!(start.elapsed() < LIMIT, "{}: waited in vain: {what}\n{journal}", self.name);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn until_state(&self, process: &str, state: &str) {
        let wanted = format!("<name>statename</name>\n<value><string>{state}<");
        self.until(&format!("{process} is {state}"), || self.call("supervisor.getProcessInfo", &[S(process)]).contains(&wanted));
    }

    /// Head and body of the answer to one request.
    fn ask(&self, request: &[u8]) -> (String, String) {
        let mut stream = UnixStream::connect(self.socket()).expect("the socket is open");
        exchange(&mut stream, request)
    }

    fn call(&self, method: &str, params: &[P]) -> String {
        self.ask(&post(&body(method, params), "")).1
    }

    /// What is not the same in two runs is made the same.
    fn masked(&self, answer: &str) -> String {
        let answer = answer.replace(&self.dir.path().display().to_string(), "@DIR@").replace(&self.port.to_string(), "@PORT@");
        let counted = Regex::new(r"<name>(start|stop|now|pid)</name>\n<value><int>[1-9]\d*<").expect("a pattern");
        let answer = counted.replace_all(&answer, "<name>$1</name>\n<value><int>N<");
        let uptime = Regex::new(r"pid \d+, uptime \d:\d\d:\d\d").expect("a pattern");
        let answer = uptime.replace_all(&answer, "pid N, uptime T");
        let date = Regex::new(r"[A-Z][a-z]{2} \d\d \d\d:\d\d [AP]M").expect("a pattern");
        date.replace_all(&answer, "DATE").into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), nix::sys::signal::Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fleet(dir: &Path, port: u16) -> String {
    FLEET.replace("@DIR@", &dir.display().to_string()).replace("@PORT@", &port.to_string())
}

fn exchange(stream: &mut (impl Read + Write), request: &[u8]) -> (String, String) {
    // It may answer before it has read all.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned())).unwrap_or((text, String::new()))
}

fn post(body: &str, headers: &str) -> Vec<u8> {
    format!("POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// A parameter.
#[derive(Clone, Copy, Debug)]
enum P<'a> {
    S(&'a str),
    I(i64),
    B(bool),
    /// XML as it is.
    X(&'a str),
}
use P::{B, I, S, X};

fn body(method: &str, params: &[P]) -> String {
    let mut text = format!("<?xml version='1.0'?>\n<methodCall>\n<methodName>{method}</methodName>\n<params>\n");
    for param in params {
        let value = match param {
            S(text) => format!("<string>{text}</string>"),
            I(number) => format!("<int>{number}</int>"),
            B(truth) => format!("<boolean>{}</boolean>", i32::from(*truth)),
            X(xml) => (*xml).to_owned(),
        };
        writeln!(text, "<param>\n<value>{value}</value>\n</param>").expect("a String takes all");
    }
    text + "</params>\n</methodCall>\n"
}

/// What is done to both servers.
enum Step {
    Call(&'static str, Vec<P<'static>>),
    /// Results in any order: Supervisor gives them as they come in.
    Unordered(&'static str, Vec<P<'static>>),
    Until(&'static str, &'static str),
    /// The definitions get a new program, and a changed one.
    Redefine,
    Mend,
}
use Step::{Call, Mend, Redefine, Unordered, Until};

fn run(server: &Server, steps: &[Step]) -> Vec<(String, String)> {
    let conf = server.dir.path().join("s.conf");
    let mut said = Vec::new();
    for step in steps {
        match step {
            Call(method, params) => said.push((format!("{method}{params:?}"), server.masked(&server.call(method, params)))),
            Unordered(method, params) => {
                let answer = server.masked(&server.call(method, params));
                let mut parts: Vec<&str> = answer.split("<value><struct>").collect();
                // All but head and end.
                let last = parts.len() - 1;
                let tail = parts[last].split_once("</struct></value>\n").map_or("", |(_, tail)| tail).to_owned();
                let mut rows: Vec<String> = parts.drain(1..).map(|row| row.replace(&tail, "")).collect();
                rows.sort();
                said.push((format!("{method}{params:?}"), format!("{}{}{tail}", parts[0], rows.concat())));
            }
            Until(process, state) => server.until_state(process, state),
            Redefine => {
                let text = fleet(server.dir.path(), server.port).replace("[program:off]\n", NEW);
                fs::write(&conf, text).expect("written");
            }
            Mend => fs::write(&conf, fleet(server.dir.path(), server.port)).expect("written"),
        }
    }
    said
}

/// Both, side by side.
fn both() -> (Server, Server) {
    let venv = std::env::var_os("GANGER_SUPERVISOR_VENV").expect("GANGER_SUPERVISOR_VENV names supervisor 4.3.0; tests/run makes it");
    let original = PathBuf::from(venv).join("bin/supervisord");
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| Server::start("supervisord", Command::new(original)));
        let ours = Server::start("gangerd", Command::new(env!("CARGO_BIN_EXE_gangerd")));
        (theirs.join().expect("supervisord starts"), ours)
    })
}

fn compare(steps: &[Step]) {
    let (theirs, ours) = both();
    let (said, answered) = std::thread::scope(|scope| {
        let said = scope.spawn(|| run(&theirs, steps));
        let answered = run(&ours, steps);
        (said.join().expect("supervisord's run"), answered)
    });
    let mut faults = String::new();
    for ((what, theirs), (_, ours)) in said.iter().zip(&answered).filter(|(theirs, ours)| theirs != ours) {
        let line = theirs.lines().zip(ours.lines()).find(|(theirs, ours)| theirs != ours);
        writeln!(faults, "== {what}\nfirst line that differs: {line:?}\n-- supervisord\n{theirs}-- gangerd\n{ours}")
            .expect("a String takes all");
    }
    assert!(faults.is_empty(), "{faults}");
    assert_eq!(said.len(), answered.len());
}

#[test]
fn what_is_told_is_the_same() {
    let mut steps = vec![
        Call("supervisor.getAPIVersion", vec![]),
        Call("supervisor.getVersion", vec![]),
        Call("supervisor.getSupervisorVersion", vec![]),
        Call("supervisor.getIdentification", vec![]),
        Call("supervisor.getState", vec![]),
        Call("supervisor.getAllProcessInfo", vec![]),
        Call("supervisor.getProcessInfo", vec![S("cat")]),
        Call("supervisor.getProcessInfo", vec![S("team:left")]),
        Call("supervisor.getProcessInfo", vec![S("team:*")]),
        Call("supervisor.getProcessInfo", vec![S("left")]),
        Call("supervisor.getProcessInfo", vec![S("nope")]),
        Call("supervisor.getProcessInfo", vec![S("nope:x")]),
        Call("supervisor.getProcessInfo", vec![S("")]),
        Call("supervisor.getProcessInfo", vec![]),
        Call("supervisor.getProcessInfo", vec![S("cat"), S("cat")]),
        Call("system.listMethods", vec![]),
        Call("system.methodSignature", vec![S("nope")]),
        Call("system.methodHelp", vec![S("nope")]),
        Call("system.nope", vec![]),
        Call("supervisor.nope", vec![]),
        Call("supervisor._update", vec![S("x")]),
        Call("supervisor.supervisord.options", vec![]),
        Call("supervisor", vec![]),
        Call("nope.nope", vec![]),
    ];
    // Of every method, what it takes and gives, and that one parameter too many is refused.
    for method in METHODS {
        steps.push(Call("system.methodSignature", vec![S(method)]));
        steps.push(Call(method, vec![I(1), I(2), I(3), I(4), I(5)]));
    }
    compare(&steps);
}

const METHODS: [&str; 41] = [
    "supervisor.addProcessGroup",
    "supervisor.clearAllProcessLogs",
    "supervisor.clearLog",
    "supervisor.clearProcessLog",
    "supervisor.clearProcessLogs",
    "supervisor.getAPIVersion",
    "supervisor.getAllConfigInfo",
    "supervisor.getAllProcessInfo",
    "supervisor.getIdentification",
    "supervisor.getPID",
    "supervisor.getProcessInfo",
    "supervisor.getState",
    "supervisor.getSupervisorVersion",
    "supervisor.getVersion",
    "supervisor.readLog",
    "supervisor.readMainLog",
    "supervisor.readProcessLog",
    "supervisor.readProcessStderrLog",
    "supervisor.readProcessStdoutLog",
    "supervisor.reloadConfig",
    "supervisor.removeProcessGroup",
    "supervisor.restart",
    "supervisor.sendProcessStdin",
    "supervisor.sendRemoteCommEvent",
    "supervisor.shutdown",
    "supervisor.signalAllProcesses",
    "supervisor.signalProcess",
    "supervisor.signalProcessGroup",
    "supervisor.startAllProcesses",
    "supervisor.startProcess",
    "supervisor.startProcessGroup",
    "supervisor.stopAllProcesses",
    "supervisor.stopProcess",
    "supervisor.stopProcessGroup",
    "supervisor.tailProcessLog",
    "supervisor.tailProcessStderrLog",
    "supervisor.tailProcessStdoutLog",
    "system.listMethods",
    "system.methodHelp",
    "system.methodSignature",
    "system.multicall",
];

#[test]
fn starting_and_stopping_is_the_same() {
    compare(&[
        Call("supervisor.startProcess", vec![S("cat")]),
        Call("supervisor.startProcess", vec![S("nope")]),
        Call("supervisor.startProcess", vec![S("nope:*")]),
        Call("supervisor.startProcess", vec![S("absent")]),
        Call("supervisor.startProcess", vec![S("plain")]),
        Call("supervisor.startProcess", vec![S("dir")]),
        Call("supervisor.startProcess", vec![S("quick")]),
        Until("quick", "FATAL"),
        Call("supervisor.getProcessInfo", vec![S("quick")]),
        Call("supervisor.stopProcess", vec![S("quick")]),
        Call("supervisor.startProcess", vec![S("bad"), B(false)]),
        Until("bad", "EXITED"),
        Call("supervisor.getProcessInfo", vec![S("bad")]),
        Call("supervisor.startProcess", vec![S("off")]),
        Call("supervisor.getProcessInfo", vec![S("off")]),
        Call("supervisor.startProcess", vec![S("off")]),
        Call("supervisor.stopProcess", vec![S("off")]),
        Call("supervisor.getProcessInfo", vec![S("off")]),
        Call("supervisor.stopProcess", vec![S("off")]),
        Call("supervisor.stopProcess", vec![S("nope")]),
        Call("supervisor.startProcess", vec![S("off"), B(false)]),
        Call("supervisor.getProcessInfo", vec![S("off")]),
        Call("supervisor.stopProcess", vec![S("off"), B(false)]),
        Until("off", "STOPPED"),
        Call("supervisor.startProcess", vec![S("slow")]),
        Call("supervisor.stopProcess", vec![S("slow"), B(false)]),
        Call("supervisor.getProcessInfo", vec![S("slow")]),
        Call("supervisor.stopProcess", vec![S("slow")]),
        Until("slow", "STOPPED"),
        Call("supervisor.getProcessInfo", vec![S("slow")]),
        Call("supervisor.startProcessGroup", vec![S("team")]),
        Call("supervisor.startProcessGroup", vec![S("team")]),
        Unordered("supervisor.stopProcessGroup", vec![S("team")]),
        Call("supervisor.stopProcessGroup", vec![S("team")]),
        Call("supervisor.stopProcessGroup", vec![S("nope")]),
        Call("supervisor.startProcess", vec![S("team:*")]),
        Unordered("supervisor.stopProcess", vec![S("team:")]),
        Unordered("supervisor.stopProcessGroup", vec![S("pool")]),
        Unordered("supervisor.startProcessGroup", vec![S("pool"), B(false)]),
        Until("pool:pool_01", "RUNNING"),
        Until("pool:pool_02", "RUNNING"),
        Until("pool:pool_03", "RUNNING"),
        Unordered("supervisor.stopAllProcesses", vec![]),
        Unordered("supervisor.stopAllProcesses", vec![B(true)]),
        Unordered("supervisor.startAllProcesses", vec![]),
        Until("quick", "FATAL"),
        Call("supervisor.getAllProcessInfo", vec![]),
    ]);
}

#[test]
fn signals_and_input_are_the_same() {
    compare(&[
        Call("supervisor.signalProcess", vec![S("cat"), S("CONT")]),
        Call("supervisor.signalProcess", vec![S("cat"), S("SIGCONT")]),
        Call("supervisor.signalProcess", vec![S("cat"), S("18")]),
        Call("supervisor.signalProcess", vec![S("cat"), I(18)]),
        Call("supervisor.signalProcess", vec![S("cat"), S("NOPE")]),
        Call("supervisor.signalProcess", vec![S("cat"), S("99")]),
        Call("supervisor.signalProcess", vec![S("off"), S("CONT")]),
        Call("supervisor.signalProcess", vec![S("off"), S("NOPE")]),
        Call("supervisor.signalProcess", vec![S("nope"), S("CONT")]),
        Call("supervisor.signalProcess", vec![S("pool:*"), S("CONT")]),
        Call("supervisor.signalProcessGroup", vec![S("pool"), S("CONT")]),
        Call("supervisor.signalProcessGroup", vec![S("pool"), S("NOPE")]),
        Call("supervisor.signalProcessGroup", vec![S("nope"), S("CONT")]),
        Call("supervisor.signalAllProcesses", vec![S("CONT")]),
        Call("supervisor.signalAllProcesses", vec![S("NOPE")]),
        Call("supervisor.sendProcessStdin", vec![S("cat"), S("hello &amp; grüße\n")]),
        Call("supervisor.sendProcessStdin", vec![S("cat"), I(5)]),
        Call("supervisor.sendProcessStdin", vec![S("off"), S("x")]),
        Call("supervisor.sendProcessStdin", vec![S("nope"), S("x")]),
        Call("supervisor.sendProcessStdin", vec![S("pool:*"), S("x")]),
        Call("supervisor.sendRemoteCommEvent", vec![S("type"), S("data")]),
    ]);
}

#[test]
fn logs_are_read_the_same() {
    let mut steps = Vec::new();
    for (offset, length) in [(0, 0), (0, 4), (4, 3), (12, 100), (16, 0), (16, 1), (99, 0), (-4, 0), (-99, 0), (-4, 2), (2, -2), (-4, -2)] {
        for method in ["supervisor.readProcessStdoutLog", "supervisor.readProcessLog", "supervisor.readProcessStderrLog"] {
            steps.push(Call(method, vec![S("words"), I(offset), I(length)]));
        }
        for method in ["supervisor.tailProcessStdoutLog", "supervisor.tailProcessLog", "supervisor.tailProcessStderrLog"] {
            steps.push(Call(method, vec![S("words"), I(offset), I(length)]));
        }
    }
    for name in ["off", "absent", "nope", "pool:*"] {
        steps.push(Call("supervisor.readProcessStdoutLog", vec![S(name), I(0), I(0)]));
        steps.push(Call("supervisor.readProcessStderrLog", vec![S(name), I(0), I(0)]));
        steps.push(Call("supervisor.tailProcessStdoutLog", vec![S(name), I(3), I(5)]));
    }
    steps.extend([
        Call("supervisor.readProcessStdoutLog", vec![S("words"), S("2"), X("<double>3.7</double>")]),
        Call("supervisor.readLog", vec![I(-1), I(1)]),
        Call("supervisor.readMainLog", vec![I(0), I(-1)]),
        Call("supervisor.clearProcessLogs", vec![S("words")]),
        Call("supervisor.readProcessStdoutLog", vec![S("words"), I(0), I(0)]),
        Call("supervisor.readProcessStderrLog", vec![S("words"), I(0), I(0)]),
        Call("supervisor.clearProcessLog", vec![S("off")]),
        Call("supervisor.clearProcessLog", vec![S("nope")]),
        Call("supervisor.clearProcessLog", vec![S("pool:*")]),
        Call("supervisor.clearLog", vec![]),
        Unordered("supervisor.clearAllProcessLogs", vec![]),
    ]);
    compare(&steps);
}

#[test]
fn definitions_and_groups_are_the_same() {
    compare(&[
        Call("supervisor.getAllConfigInfo", vec![]),
        Call("supervisor.reloadConfig", vec![]),
        Call("supervisor.addProcessGroup", vec![S("cat")]),
        Call("supervisor.addProcessGroup", vec![S("nope")]),
        Call("supervisor.removeProcessGroup", vec![S("nope")]),
        Call("supervisor.removeProcessGroup", vec![S("cat")]),
        Redefine,
        Call("supervisor.addProcessGroup", vec![S("new")]),
        Call("supervisor.reloadConfig", vec![]),
        Call("supervisor.addProcessGroup", vec![S("new")]),
        Until("new", "RUNNING"),
        Call("supervisor.addProcessGroup", vec![S("new")]),
        Call("supervisor.reloadConfig", vec![]),
        Call("supervisor.removeProcessGroup", vec![S("off")]),
        Call("supervisor.getProcessInfo", vec![S("off")]),
        Call("supervisor.addProcessGroup", vec![S("off")]),
        Call("supervisor.reloadConfig", vec![]),
        Call("supervisor.removeProcessGroup", vec![S("new")]),
        Mend,
        Call("supervisor.reloadConfig", vec![]),
        Unordered("supervisor.stopProcessGroup", vec![S("new")]),
        Call("supervisor.removeProcessGroup", vec![S("new")]),
        Call("supervisor.removeProcessGroup", vec![S("new")]),
    ]);
}

#[test]
fn multicalls_are_the_same() {
    const CALLS: &str = "<array><data>\
        <value><struct><member><name>methodName</name><value>supervisor.getAPIVersion</value></member></struct></value>\
        <value><struct><member><name>methodName</name><value>supervisor.getProcessInfo</value></member>\
        <member><name>params</name><value><array><data><value>nope</value></data></array></value></member></struct></value>\
        <value><struct><member><name>methodName</name><value>supervisor.startProcess</value></member>\
        <member><name>params</name><value><array><data><value>off</value></data></array></value></member></struct></value>\
        <value><struct><member><name>methodName</name><value>supervisor.stopProcess</value></member>\
        <member><name>params</name><value><array><data><value>off</value></data></array></value></member></struct></value>\
        <value><struct><member><name>methodName</name><value>system.multicall</value></member>\
        <member><name>params</name><value><array><data/></array></value></member></struct></value>\
        <value><struct><member><name>params</name><value><array><data/></array></value></member></struct></value>\
        <value><struct/></value>\
        <value><struct><member><name>methodName</name><value>nope</value></member></struct></value>\
        </data></array>";
    compare(&[
        Call("system.multicall", vec![X(CALLS)]),
        Call("system.multicall", vec![X("<array><data/></array>")]),
        Call("system.multicall", vec![]),
        Call("supervisor.getProcessInfo", vec![X("bare")]),
        Call("supervisor.getProcessInfo", vec![X("cat")]),
        Call("supervisor.getProcessInfo", vec![X("<base64>Y2F0</base64>")]),
        Call("supervisor.getProcessInfo", vec![X("<string>c<![CDATA[a]]>&#116;</string>")]),
    ]);
}

/// The status line and what is told about it, of requests that are no calls.
#[test]
fn what_is_no_call_is_refused_the_same() {
    let (theirs, ours) = both();
    let api = body("supervisor.getAPIVersion", &[]);
    let without_params = "<methodCall><methodName>supervisor.getAPIVersion</methodName></methodCall>";
    let raw = |text: &str| text.as_bytes().to_vec();
    let long = format!("POST /RPC2/and/on?x=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{api}", api.len());
    let old = format!("POST /RPC2 HTTP/1.0\r\nContent-Type: anything\r\nContent-Length: {}\r\n\r\n{api}", api.len());
    let requests: Vec<(&str, Vec<u8>)> = vec![
        ("a call", post(&api, "")),
        ("no params", post(without_params, "")),
        ("HTTP/1.0", raw(&old)),
        ("a longer path", raw(&long)),
        ("GET", raw("GET /RPC2 HTTP/1.0\r\n\r\n")),
        ("no XML", post("junk", "")),
        ("an unclosed element", post("<methodCall><methodName>x</methodName>", "")),
        ("no method", post("<methodCall/>", "")),
        ("an empty method", post("<methodCall><methodName></methodName></methodCall>", "")),
        ("a number that is none", post(&body("supervisor.readLog", &[X("<int>five</int>"), I(0)]), "")),
        ("an undefined entity", post("<methodCall><methodName>&x;</methodName></methodCall>", "")),
    ];
    for (what, request) in &requests {
        let code = |head: &str| head.split(' ').nth(1).unwrap_or("").to_owned();
        let ((their_head, their_body), (our_head, our_body)) = (theirs.ask(request), ours.ask(request));
        assert_eq!(code(&our_head), code(&their_head), "{what}: {our_head}\n{our_body}");
        if code(&our_head) == "200" {
            assert_eq!(our_body, their_body, "{what}");
            for header in ["content-type: text/xml", &format!("content-length: {}", our_body.len())] {
                assert!(our_head.to_ascii_lowercase().contains(header), "{what}: {our_head}");
            }
        } else {
            assert!(!our_body.is_empty(), "{what}: refused in words");
        }
    }
}

#[test]
fn the_door_with_a_password_is_the_same() {
    let (theirs, ours) = both();
    for (what, header, expected) in [
        ("nothing", "", "401"),
        ("right", "Authorization: Basic YWRhOmFsaWNl\r\n", "200"),
        ("wrong", "Authorization: Basic YWRhOmJvYg==\r\n", "401"),
        ("another user", "Authorization: Basic ZXZlOmFsaWNl\r\n", "401"),
        ("another scheme", "Authorization: Bearer YWRhOmFsaWNl\r\n", "401"),
    ] {
        for server in [&theirs, &ours] {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).expect("it listens");
            let (head, body) = exchange(&mut stream, &post(&body("supervisor.getAPIVersion", &[]), header));
            assert_eq!(head.split(' ').nth(1), Some(expected), "{}: {what}: {head}\n{body}", server.name);
            if expected == "401" {
                assert!(head.to_ascii_lowercase().contains("www-authenticate: basic realm=\"default\""), "{}: {head}", server.name);
            }
        }
    }
}

#[test]
fn log_tails_are_the_same() {
    let (theirs, ours) = both();
    for server in [&theirs, &ours] {
        let open = |path: &str| {
            let mut stream = UnixStream::connect(server.socket()).expect("the socket is open");
            stream.set_read_timeout(Some(LIMIT)).expect("a socket takes a time-out");
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
            stream
        };
        /// Reads on until `mark` has come.
        fn until(stream: &mut UnixStream, text: &mut String, mark: &str) {
            let mut buffer = [0; 4096];
            while !text.contains(mark) {
                let read = stream.read(&mut buffer).unwrap_or_else(|error| panic!("{mark:?} did not come: {error}: {text}"));
                assert!(read > 0, "{mark:?} did not come: {text}");
                text.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        }
        let log = server.dir.path().join("words.log");
        fs::write(&log, "x".repeat(2000) + "THE END\n").expect("written");
        let mut stream = open("/logtail/words");
        let mut text = String::new();
        until(&mut stream, &mut text, "THE END\n");
        let head = text.split("\r\n\r\n").next().unwrap_or("").to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{}: {head}", server.name);
        for header in ["content-type: text/plain;charset=utf-8", "transfer-encoding: chunked", "x-accel-buffering: no", "last-modified: "] {
            assert!(head.contains(header), "{}: {header} is not in {head}", server.name);
        }
        let shown = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert_eq!(shown.matches('x').count(), 1024 - "THE END\n".len(), "{}", server.name);
        fs::OpenOptions::new().append(true).open(&log).and_then(|mut log| log.write_all(b"MORE\n")).expect("written");
        until(&mut stream, &mut text, "MORE\n");
        fs::write(&log, "").expect("written");
        until(&mut stream, &mut text, "==> File truncated <==\n");
        fs::OpenOptions::new().append(true).open(&log).and_then(|mut log| log.write_all(b"ANEW\n")).expect("written");
        until(&mut stream, &mut text, "ANEW\n");
        for path in ["/logtail/words/stderr", "/logtail/words%2Fstdout", "/logtail/words:words", "/mainlogtail"] {
            let mut text = String::new();
            until(&mut open(path), &mut text, "\r\n");
            assert!(text.starts_with("HTTP/1.1 200 "), "{}: {path}: {text}", server.name);
        }
        for (request, code) in [
            ("GET /logtail/nope", "404"),
            ("GET /logtail/nope:x", "404"),
            ("GET /logtail/absent", "404"),
            ("GET /logtail/words/nope", "404"),
            ("POST /logtail/words", "400"),
            ("POST /mainlogtail", "400"),
        ] {
            let (head, _) = server.ask(format!("{request} HTTP/1.0\r\nContent-Length: 0\r\n\r\n").as_bytes());
            assert_eq!(head.split(' ').nth(1), Some(code), "{}: {request}: {head}", server.name);
        }
    }
}

#[test]
fn shutting_down_is_answered_first() {
    let (mut theirs, mut ours) = both();
    let yes = theirs.call("supervisor.shutdown", &[]);
    assert_eq!(ours.call("supervisor.shutdown", &[]), yes);
    for server in [&mut theirs, &mut ours] {
        let start = Instant::now();
        while server.child.try_wait().expect("our child").is_none() {
            assert!(start.elapsed() < LIMIT, "{} ends", server.name);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!server.socket().exists(), "{} takes its socket away", server.name);
    }
}

/// What `differences.md` lists under XML-RPC, each as it is here and there.
#[test]
fn what_differs_is_listed_and_differs() {
    let (theirs, ours) = both();
    let differs = |what: &str, method: &str, params: &[P], their_words: &str, our_words: &str| {
        let ((their_head, their_body), (our_head, our_body)) =
            (theirs.ask(&post(&body(method, params), "")), ours.ask(&post(&body(method, params), "")));
        let (their, our) = (format!("{their_head}\n{their_body}"), format!("{our_head}\n{our_body}"));
        assert!(their.contains(their_words), "{what}: supervisord: {their}");
        assert!(our.contains(our_words), "{what}: gangerd: {our}");
    };
    for server in [&theirs, &ours] {
        fs::write(server.dir.path().join("words.log"), "ä€𝄞\n\x1b[31mred\n").expect("written");
    }
    differs("a wrong type", "supervisor.getProcessInfo", &[I(5)], "500 Internal", "INCORRECT_PARAMETERS");
    differs("a cut character", "supervisor.readProcessStdoutLog", &[S("words"), I(0), I(3)], "500 Internal", "<string>ä€</string>");
    differs("the rest of it", "supervisor.readProcessStdoutLog", &[S("words"), I(3), I(2)], "500 Internal", "<string></string>");
    differs("control characters", "supervisor.readProcessStdoutLog", &[S("words"), I(10), I(9)], "\x1b[31mred", "\u{fffd}[31mred");
    differs("help", "system.methodHelp", &[S("supervisor.getPID")], "Return the PID of supervisord", "The daemon's process id.");
    for server in [&theirs, &ours] {
        let conf = fleet(server.dir.path(), server.port).replace("stopwaitsecs=1", "stopwaitsecs=never");
        fs::write(server.dir.path().join("s.conf"), conf).expect("written");
        let answer = server.call("supervisor.reloadConfig", &[]);
        assert!(answer.contains("<int>92</int>") && answer.contains("CANT_REREAD: "), "{}: {answer}", server.name);
    }
    let doctype = "<!DOCTYPE methodCall [<!ENTITY e 'supervisor.getAPIVersion'>]><methodCall><methodName>&amp;e;</methodName></methodCall>";
    let doctype = doctype.replace("&amp;e;", "&e;");
    assert!(theirs.ask(&post(&doctype, "")).1.contains("3.0"));
    let (head, words) = ours.ask(&post(&doctype, ""));
    assert!(head.starts_with("HTTP/1.1 400 ") && words.contains("DOCTYPE"), "{head}\n{words}");
    let no_utf8 = [b"POST /RPC2 HTTP/1.0\r\nContent-Length: 4\r\n\r\n".as_slice(), b"<\xff/>"].concat();
    assert_eq!(theirs.ask(&no_utf8).0, "", "closed without a word");
    let (head, words) = ours.ask(&no_utf8);
    assert!(head.starts_with("HTTP/1.0 400 ") && words.contains("UTF-8"), "{head}\n{words}");
}

/// Large, deep, slow: refused in words, and the next call is answered.
#[test]
fn hostile_calls_are_refused_in_words() {
    let ours = Server::start("gangerd", Command::new(env!("CARGO_BIN_EXE_gangerd")));
    let large = body("supervisor.getProcessInfo", &[S(&"x".repeat(10 * 1024 * 1024))]);
    let (head, words) = ours.ask(&post(&large, ""));
    assert!(head.starts_with("HTTP/1.1 413 ") && words.contains("bytes at most"), "{head}\n{words}");
    let endless = "POST /RPC2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()
        + &format!("100000\r\n{}\r\n", "x".repeat(0x10_0000)).repeat(10);
    assert!(ours.ask(endless.as_bytes()).0.starts_with("HTTP/1.1 413 "));
    let deep = body("x", &[X(&("<array><data><value>".repeat(100_000)))]);
    let (head, words) = ours.ask(&post(&deep, ""));
    assert!(head.starts_with("HTTP/1.1 400 ") && words.contains("nested deeper"), "{head}\n{words}");
    assert!(ours.call("supervisor.getAPIVersion", &[]).contains("3.0"));
}

/// A client that keeps its connection and asks again after longer than any limit for a request's head.
#[test]
fn a_connection_that_is_idle_for_long_is_still_good() {
    let ours = Server::start("gangerd", Command::new(env!("CARGO_BIN_EXE_gangerd")));
    let mut stream = UnixStream::connect(ours.socket()).expect("the socket is open");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket takes a time-out");
    for round in 0..2 {
        let call = String::from_utf8(post(&body("supervisor.getAPIVersion", &[]), "")).expect("UTF-8").replace("Connection: close\r\n", "");
        stream.write_all(call.as_bytes()).expect("it reads");
        let mut text = String::new();
        let mut buffer = [0; 1024];
        while !text.ends_with("</methodResponse>\n") {
            let read = stream.read(&mut buffer).expect("it answers");
            assert!(read > 0, "round {round}: closed");
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        if round == 0 {
            std::thread::sleep(Duration::from_secs(12));
        }
    }
}
