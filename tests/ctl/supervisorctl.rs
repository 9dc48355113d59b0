//! supervisorctl's words for every answer that a server can give, those included that a real one gives seldom: canned XML-RPC
//! answers, one after another. What both tools say of real servers is compared in `tests/supervisor`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A server that gives these answers in order, and tells the methods that were called.
struct Canned {
    dir: tempfile::TempDir,
    called: std::thread::JoinHandle<Vec<String>>,
}

impl Canned {
    /// An answer is a whole HTTP answer's head and body, or just a body.
    fn new(answers: Vec<String>) -> Canned {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s.sock")).unwrap();
        let called = std::thread::spawn(move || {
            let mut called = Vec::new();
            let mut answers = answers.into_iter();
            let mut answer = answers.next();
            // A connection serves as many calls as it has.
            while answer.is_some() {
                let (stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream);
                while answer.is_some() {
                    let Some(body) = request(&mut reader) else { break };
                    let method = body.split("<methodName>").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or("").to_owned();
                    let params: Vec<&str> = body.split("<value><").skip(1).filter_map(|v| v.split(['>', '<']).nth(1)).collect();
                    called.push(format!("{method}({})", params.join(", ")));
                    let text = answer.take().unwrap();
                    answer = answers.next();
                    let text = match text.starts_with("HTTP/") {
                        true => text,
                        false => format!("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{text}", text.len()),
                    };
                    reader.get_mut().write_all(text.as_bytes()).unwrap();
                }
            }
            called
        });
        Canned { dir, called }
    }

    /// Runs a line; gives stdout with the socket's path masked, the exit code, and the calls.
    fn run(self, words: &[&str]) -> (String, i32, Vec<String>) {
        let url = format!("unix://{}", self.dir.path().join("s.sock").display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_gangerctl"));
        command.arg0("/nowhere/bin/supervisorctl").args(["-s", &url]).args(words).current_dir(self.dir.path()).stdin(Stdio::null());
        let output = command.output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap().replace(&url, "URL");
        (out, output.status.code().unwrap(), self.called.join().unwrap())
    }
}

/// The body of the next request; `None` at the end.
fn request(reader: &mut impl BufRead) -> Option<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

fn value(inner: &str) -> String {
    format!("<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value>{inner}</value>\n</param>\n</params>\n</methodResponse>\n")
}

fn fault(code: i64, text: &str) -> String {
    format!(
        "<?xml version='1.0'?>\n<methodResponse>\n<fault>\n<value><struct>\n<member>\n<name>faultCode</name>\n<value><int>{code}</int></value>\n\
         </member>\n<member>\n<name>faultString</name>\n<value><string>{text}</string></value>\n</member>\n</struct></value>\n</fault>\n</methodResponse>\n"
    )
}

fn results(all: &[(&str, &str, i64, &str)]) -> String {
    let item = |(group, name, code, text): &(&str, &str, i64, &str)| {
        format!(
            "<value><struct><member><name>group</name><value>{group}</value></member><member><name>name</name><value>{name}</value></member>\
             <member><name>status</name><value><i4>{code}</i4></value></member>\
             <member><name>description</name><value>{text}</value></member></struct></value>"
        )
    };
    value(&format!("<array><data>{}</data></array>", all.iter().map(item).collect::<String>()))
}

fn good() -> String {
    value("<string>3.0</string>")
}

fn yes() -> String {
    value("<boolean>1</boolean>")
}

/// The line and exit code for one fault, after the greeting that most verbs begin with.
fn said(words: &[&str], code: i64, text: &str) -> (String, i32) {
    let (out, exit, _) = Canned::new(vec![good(), fault(code, text)]).run(words);
    (out, exit)
}

#[test]
fn every_fault_of_start_has_its_words_and_exit_code() {
    for (code, words, exit) in [
        (10, "x: ERROR (no such process)", 1),
        (20, "x: ERROR (no such file)", 1),
        (21, "x: ERROR (file is not executable)", 1),
        (60, "x: ERROR (already started)", 0),
        (50, "x: ERROR (spawn error)", 7),
        (40, "x: ERROR (abnormal termination)", 7),
        (6, "error: <class 'ValueError'>, Unknown result code 6 for x", 1),
    ] {
        assert_eq!(said(&["start", "x"], code, "X"), (format!("{words}\n"), exit), "{code}");
    }
}

#[test]
fn every_fault_of_stop_and_signal_has_its_words_and_exit_code() {
    for (verb, code, words, exit) in [
        (&["stop", "g:x"], 10, "g:x: ERROR (no such process)", 1),
        (&["stop", "g:x"], 70, "g:x: ERROR (not running)", 0),
        (&["stop", "g:x"], 30, "FAILED: why", 1),
        (&["signal HUP", "g:x"], 70, "g:x: ERROR (not running)", 7),
        (&["signal HUP", "g:x"], 11, "g:x: ERROR (bad signal name)", 1),
        (&["signal HUP", "g:*"], 10, "g: ERROR (no such group)", 1),
        (&["stop", "g:"], 10, "g: ERROR (no such group)", 1),
        (&["start", "g:"], 10, "g: ERROR (no such group)", 2),
        (&["clear", "x"], 30, "x: ERROR (failed)", 1),
        (&["tail", "x"], 20, "x: ERROR (no log file)", 1),
        (&["tail", "x"], 30, "x: ERROR (unknown error reading log)", 1),
        (&["maintail", "-5"], 20, "supervisord: ERROR (no log file)", 1),
    ] {
        assert_eq!(said(verb, code, "FAILED: why"), (format!("{words}\n"), exit), "{verb:?} {code}");
    }
}

#[test]
fn results_of_many_are_told_one_by_one_and_the_last_failure_decides() {
    let many = results(&[("a", "a", 80, "OK"), ("g", "b", 70, ""), ("g", "c", 30, "FAILED: no"), ("g", "d", 50, "")]);
    let (out, exit, called) = Canned::new(vec![good(), many.clone()]).run(&["start", "all"]);
    // 70 and 30 have no words for start: the assertion ends it.
    assert_eq!((out.as_str(), exit), ("a: started\nerror: <class 'ValueError'>, Unknown result code 70 for g:b\n", 1));
    assert_eq!(called, ["supervisor.getVersion()", "supervisor.startAllProcesses()"]);
    let many = results(&[("a", "a", 80, "OK"), ("g", "b", 70, ""), ("g", "c", 30, "FAILED: no")]);
    let (out, exit, _) = Canned::new(vec![good(), many]).run(&["stop", "all", "x"]);
    assert_eq!((out.as_str(), exit), ("a: stopped\ng:b: ERROR (not running)\nFAILED: no\n", 1));
}

#[test]
fn all_are_stopped_before_any_is_started() {
    let answers = vec![good(), good(), yes(), fault(70, "NOT_RUNNING"), good(), yes(), fault(50, "SPAWN_ERROR")];
    let (out, exit, called) = Canned::new(answers).run(&["restart", "a", "g:b"]);
    assert_eq!(out, "a: stopped\ng:b: ERROR (not running)\na: started\ng:b: ERROR (spawn error)\n");
    assert_eq!(exit, 7);
    assert_eq!(called[2..4], ["supervisor.stopProcess(a)", "supervisor.stopProcess(g:b)"]);
    assert_eq!(called[5..], ["supervisor.startProcess(a)", "supervisor.startProcess(g:b)"]);
}

#[test]
fn update_leaves_a_group_that_will_not_stop_and_goes_on() {
    let names = |list: &[&str]| {
        let items: String = list.iter().map(|name| format!("<value><string>{name}</string></value>")).collect();
        format!("<value><array><data>{items}</data></array></value>")
    };
    let changes = value(&format!(
        "<array><data><value><array><data>{}{}{}</data></array></value></data></array>",
        names(&["new"]),
        names(&["other"]),
        names(&["stuck", "gone"])
    ));
    let stuck = results(&[("stuck", "s", 30, "FAILED")]);
    let none = results(&[]);
    let answers = vec![changes, stuck, none.clone(), yes(), none, yes(), yes(), yes()];
    let (out, exit, called) = Canned::new(answers).run(&["update"]);
    assert_eq!(
        out,
        "stuck: stopped\nstuck: has problems; not removing\ngone: stopped\ngone: removed process group\n\
         other: stopped\nother: updated process group\nnew: added process group\n"
    );
    assert_eq!(exit, 1);
    assert_eq!(
        called[4..7],
        ["supervisor.stopProcessGroup(other)", "supervisor.removeProcessGroup(other)", "supervisor.addProcessGroup(other)"]
    );
}

#[test]
fn a_server_on_its_way_out_is_told_verb_by_verb() {
    for (verb, words, exit) in [
        ("avail", "ERROR: supervisor shutting down", 1),
        ("reread", "ERROR: supervisor shutting down", 1),
        ("add x", "ERROR: shutting down", 1),
        ("update", "ERROR: already shutting down", 1),
        ("reload", "ERROR: already shutting down", 1),
        ("shutdown", "ERROR: already shutting down", 0),
        ("remove x", "error: <class 'xmlrpc.client.Fault'>, <Fault 6: 'SHUTDOWN_STATE'>", 1),
    ] {
        let (out, code, _) = Canned::new(vec![fault(6, "SHUTDOWN_STATE")]).run(&[verb]);
        assert_eq!((out, code), (format!("{words}\n"), exit), "{verb}");
    }
}

#[test]
fn a_server_of_another_kind_is_told_apart() {
    let (out, exit, _) = Canned::new(vec![value("<string>4.0</string>")]).run(&["version"]);
    assert_eq!((out.contains("API version 3.0, but the remote version is 4.0."), exit), (true, 5), "{out}");
    let (out, exit, _) = Canned::new(vec![fault(1, "UNKNOWN_METHOD")]).run(&["version"]);
    assert_eq!((out.starts_with("Sorry, supervisord responded but did not recognize"), exit), (true, 3), "{out}");
    let (out, exit, _) = Canned::new(vec!["HTTP/1.1 500 Oh Dear\r\nContent-Length: 0\r\n\r\n".into()]).run(&["version"]);
    assert_eq!(out, "error: <class 'xmlrpc.client.ProtocolError'>, <ProtocolError for 127.0.0.1/RPC2: 500 Oh Dear>\n");
    assert_eq!(exit, 1);
    let (out, exit, _) = Canned::new(vec!["<html>no</html>".into()]).run(&["status"]);
    assert_eq!(
        (out.starts_with("error: <class 'xmlrpc.client.ResponseError'>, cannot read the answer: found <html>"), exit),
        (true, 1),
        "{out}"
    );
}

#[test]
fn a_status_is_as_wide_as_its_longest_name() {
    let process = |group: &str, name: &str, state: i64, word: &str, text: &str| {
        format!(
            "<value><struct><member><name>group</name><value>{group}</value></member><member><name>name</name><value>{name}</value></member>\
             <member><name>state</name><value><int>{state}</int></value></member><member><name>statename</name><value>{word}</value></member>\
             <member><name>description</name><value>{text}</value></member></struct></value>"
        )
    };
    let long = "ä_name_of_more_than_thirty_characters";
    let all = format!(
        "<array><data>{}{}</data></array>",
        process("g", long, 40, "STOPPING", ""),
        process("b", "b", 30, "BACKOFF", "why &amp; how")
    );
    let (out, exit, _) = Canned::new(vec![good(), value(&all)]).run(&["status"]);
    // Neither counts as stopped.
    assert_eq!(exit, 0);
    assert_eq!(out, format!("g:{long}   STOPPING  \n{:<42}BACKOFF   why & how\n", "b"));
}
