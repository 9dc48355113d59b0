//! `supervisord.conf`: what the real Supervisor makes of some three hundred snippets (recorded by `record_conf.py`), and
//! what we make of them. A snippet that one refuses the other must refuse; one that it takes must give the same fleet.

use ganger::config::{Files, OsFiles, Surroundings, load};
use ganger::model::launch::User;
use ganger::model::plan::{DoorAt, Password, Plan, SupervisordSpec};
use ganger::model::spec::{Autorestart, FcgiSocket, Kind, ProgramSpec, Sink, StreamSpec};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

const CASES: &str = include_str!("../fixtures/supervisor/conf-cases.json");
const DIFFERENCES: &str = include_str!("differences.md");

/// The real file system, with another working directory.
struct At<'d>(&'d Path);

impl Files for At<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        OsFiles.read(&self.absolute(path))
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        OsFiles.list(directory)
    }
    fn is_directory(&self, path: &Path) -> bool {
        OsFiles.is_directory(&self.absolute(path))
    }
    fn absolute(&self, path: &Path) -> PathBuf {
        self.0.join(path)
    }
}

/// The users of the recording.
fn look_up(name: &str) -> Result<Option<User>, String> {
    let user = |name: &str, id: u32, home: &str| User {
        name: name.into(),
        uid: id,
        gid: id,
        groups: vec![id],
        home: home.into(),
        shell: "/bin/sh".into(),
    };
    let (name, group) = name.split_once(':').map_or((name, None), |(name, group)| (name, Some(group)));
    let mut found = match name {
        "root" | "0" => user("root", 0, "/root"),
        "www-data" | "33" => user("www-data", 33, "/var/www"),
        "daemon" | "1" => user("daemon", 1, "/usr/sbin"),
        _ => return Ok(None),
    };
    match group {
        None => {}
        Some("daemon" | "1") => found.gid = 1,
        Some(_) => return Ok(None),
    }
    Ok(Some(found))
}

fn stream(spec: &StreamSpec) -> Value {
    let file = spec.sinks.first().map(|Sink::File(file)| file);
    json!({
        "logfile": file.map(|file| file.path.render(0)),
        "maxbytes": file.map(|file| file.max_bytes.0),
        "backups": file.map(|file| file.backups),
        "capture": spec.capture_max.0,
        "events": spec.events,
    })
}

/// A process as the recording has it.
fn process(spec: &ProgramSpec, number: u32) -> Value {
    let launch = spec.launch_of(number);
    let of = |stream_spec: &StreamSpec, name: &str| {
        let mut value = stream(stream_spec);
        if let Some(Sink::File(file)) = stream_spec.sinks.first() {
            let path = file.path.render(number);
            // Its AUTO names have a random part, ours have none.
            value["logfile"] = if path.contains(&format!("-{name}---")) { json!("AUTO") } else { json!(path) };
        }
        value
    };
    json!({
        "name": launch.process,
        "command": launch.argv,
        "directory": launch.directory,
        "uid": launch.common.user.as_ref().map(|user| user.uid),
        "umask": launch.common.umask,
        "priority": spec.policy.priority,
        "autostart": spec.policy.autostart,
        "autorestart": match spec.policy.autorestart {
            Autorestart::Never => "false",
            Autorestart::Unexpected => "unexpected",
            Autorestart::Always => "true",
        },
        "startsecs": spec.policy.startsecs.0 / 1000,
        "startretries": spec.policy.startretries,
        "exitcodes": spec.policy.exitcodes,
        "stopsignal": spec.policy.stop.rungs[0].signal.number(),
        "stopwaitsecs": spec.policy.stop.rungs[0].wait.0 / 1000,
        "stopasgroup": spec.policy.stop.as_group,
        "killasgroup": spec.policy.stop.kill_as_group,
        "redirect_stderr": launch.common.redirect_stderr,
        "environment": launch.environment.iter().cloned().collect::<BTreeMap<String, String>>(),
        "serverurl": launch.common.server_url,
        "strip_ansi": spec.output.strip_ansi,
        "stdout": of(&spec.output.stdout, "stdout"),
        "stderr": if launch.common.redirect_stderr { Value::Null } else { of(&spec.output.stderr, "stderr") },
    })
}

fn groups(plan: &Plan) -> Vec<Value> {
    let mut groups: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (name, priority) in &plan.groups {
        let group = groups.entry(name.to_string()).or_default();
        group.insert("priority".into(), json!(priority));
    }
    for spec in plan.programs.values() {
        let group = groups.entry(spec.group.to_string()).or_default();
        group.entry("priority").or_insert(json!(spec.policy.priority));
        let start = spec.policy.numprocs_start;
        let new = (start..start + spec.policy.numprocs).map(|number| process(spec, number));
        let processes = group.entry("processes").or_insert(json!([])).as_array_mut().expect("a list");
        processes.extend(new);
        processes.sort_by_key(|process| process["name"].as_str().map(str::to_owned));
        match &spec.kind {
            Kind::Program => {}
            Kind::Listener(listener) => {
                group.insert("events".into(), json!(listener.events.iter().collect::<BTreeSet<_>>()));
                group.insert("buffer_size".into(), json!(listener.buffer_size));
            }
            Kind::Fcgi(fcgi) => {
                group.insert("backlog".into(), json!(fcgi.backlog));
                match &fcgi.socket {
                    FcgiSocket::Tcp { host, port } => {
                        group.insert("socket".into(), json!(format!("tcp://{host}:{port}")));
                    }
                    FcgiSocket::Unix { path } => {
                        group.insert("socket".into(), json!(format!("unix://{path}")));
                        group.insert("mode".into(), json!(fcgi.mode));
                        group.insert("owner".into(), json!(fcgi.owner));
                    }
                }
            }
        }
    }
    let named = groups.into_iter().map(|(name, mut group)| {
        group.entry("processes").or_insert(json!([]));
        group.insert("name".into(), json!(name));
        Value::Object(group)
    });
    named.collect()
}

fn servers(spec: &SupervisordSpec) -> Vec<Value> {
    let mut servers: Vec<Value> = spec
        .doors
        .iter()
        .map(|door| {
            let (user, password) = door.login.as_ref().map_or((None, None), |(user, password)| {
                let password = match password {
                    Password::Plain(text) => text.clone(),
                    Password::Sha1(hash) => format!("{{SHA}}{hash}"),
                };
                (Some(user), Some(password))
            });
            let mut value = json!({"section": door.section, "username": user, "password": password});
            match &door.at {
                DoorAt::Unix(socket) => {
                    value["file"] = json!(socket.path);
                    value["chmod"] = json!(socket.mode);
                    value["chown"] = json!(socket.owner);
                }
                DoorAt::Tcp { host, port } => {
                    value["host"] = json!(host);
                    value["port"] = json!(port);
                }
            }
            value
        })
        .collect();
    servers.sort_by_key(|server| server["section"].as_str().map(str::to_owned));
    servers
}

/// Our answer in the recording's words.
fn answer(plan: &Plan) -> Value {
    let spec = plan.daemon.supervisord.as_ref().expect("it was a supervisord.conf");
    json!({
        "groups": groups(plan),
        "servers": servers(spec),
        "supervisord": {
            "childlogdir": spec.child_log_dir,
            "directory": spec.directory,
            "identifier": spec.identifier,
            "logfile": spec.log_file,
            "logfile_backups": spec.log_backups,
            "logfile_maxbytes": spec.log_max_bytes.0,
            "loglevel": plan.daemon.log_level,
            "minfds": spec.minfds,
            "minprocs": spec.minprocs,
            "nocleanup": spec.nocleanup,
            "nodaemon": spec.nodaemon,
            "pidfile": spec.pid_file,
            "silent": spec.silent,
            "strip_ansi": plan.programs.values().any(|spec| spec.output.strip_ansi),
            "umask": spec.umask,
            "user": spec.user.as_ref().map(|user| &user.name),
        },
    })
}

/// Its seven levels of log messages as our five.
fn five_levels(answer: &mut Value) {
    if let Some(level) = answer.pointer_mut("/supervisord/loglevel") {
        *level = json!(match level.as_i64() {
            Some(40 | 50) => "error",
            Some(30) => "warn",
            Some(20) => "info",
            Some(10) => "debug",
            Some(3 | 5) => "trace",
            other => panic!("a log level of {other:?}"),
        });
    }
}

/// Where two values differ, one line each.
fn compare(at: &str, theirs: &Value, ours: &Value, into: &mut String) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for key in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
                let null = Value::Null;
                compare(&format!("{at}/{key}"), theirs.get(key).unwrap_or(&null), ours.get(key).unwrap_or(&null), into);
            }
        }
        (Value::Array(theirs), Value::Array(ours)) if theirs.len() == ours.len() => {
            for (index, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
                compare(&format!("{at}/{index}"), theirs, ours, into);
            }
        }
        _ if theirs == ours => {}
        _ => into.push_str(&format!("    {at}: Supervisor {theirs}, ganger {ours}\n")),
    }
}

/// The cases of the table under "Configuration", by name.
fn wanted() -> BTreeSet<String> {
    let rows = DIFFERENCES.lines().filter_map(|line| line.strip_prefix("| `conf: "));
    rows.map(|row| row.split_once('`').expect("a name in backquotes").0.to_owned()).collect()
}

#[test]
fn snippets_give_what_supervisor_gives_or_are_refused_as_it_refuses_them() {
    let recorded: Value = serde_json::from_str(CASES).expect("the recording is JSON");
    let env: BTreeMap<String, String> = serde_json::from_value(recorded["environment"].clone()).expect("texts");
    let cases = recorded["cases"].as_array().expect("a list");
    assert!(cases.len() >= 150, "{}", cases.len());
    let wanted = wanted();
    let mut seen = BTreeSet::new();
    let mut wrong = String::new();
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let temporary = tempfile::tempdir().expect("a directory");
        let directory = temporary.path().canonicalize().expect("it is there");
        for (file, text) in case["files"].as_object().expect("files") {
            let path = directory.join(file);
            std::fs::create_dir_all(path.parent().expect("below")).expect("made");
            std::fs::write(path, text.as_str().expect("a text")).expect("written");
        }
        let files = At(&directory);
        let around = Surroundings { env: &env, hostname: "box", uid: 0, gid: 0, home: "/root", users: &look_up, files: &files };
        let result = load(&directory.join("supervisord.conf"), &around);
        let here = directory.to_str().expect("a path in UTF-8");
        let mut theirs = case["answer"].clone();
        let mut differences = String::new();
        match (&theirs["error"], result) {
            (Value::Null, Err(errors)) => errors.iter().for_each(|error| differences.push_str(&format!("    refused: {error}\n"))),
            (Value::Null, Ok(plan)) => {
                five_levels(&mut theirs);
                let ours = answer(&plan).to_string().replace(here, "@DIR@");
                compare("", &theirs, &serde_json::from_str(&ours).expect("it was JSON"), &mut differences);
            }
            (Value::String(error), Ok(_)) => differences.push_str(&format!("    taken, and Supervisor says: {error}\n")),
            (_, Err(errors)) => {
                // Each of our refusals says where.
                for error in errors.iter().filter(|error| !error.to_string().starts_with(here)) {
                    differences.push_str(&format!("    without a place: {error}\n"));
                }
            }
            (other, Ok(_)) => panic!("an error that is no text: {other}"),
        }
        if !differences.is_empty() {
            seen.insert(name.to_owned());
            if !wanted.contains(name) {
                wrong.push_str(&format!("{name}\n{differences}"));
            }
        }
    }
    let gone: Vec<&String> = wanted.difference(&seen).collect();
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(gone.is_empty(), "listed as different, and not different: {gone:?}");
}
