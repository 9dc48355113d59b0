//! Old files with what ganger makes of them. What Supervisor makes of three hundred snippets is compared in
//! `tests/supervisor`; here is what only we do: places, warnings, our own keys, the import.

use crate::config::error::ConfigError;
use crate::config::import::to_toml;
use crate::config::tests::{Shelf, look_up};
use crate::config::{Surroundings, load};
use crate::model::name::{GroupName, ProgramName};
use crate::model::plan::Plan;
use crate::model::rng::Rng;
use crate::model::signal::Signal;
use crate::model::spec::{
    Autorestart, BackoffRule, JobCount, Kind, LaunchSpec, Leftovers, LockSpec, OutputSpec, ProgramSpec, Rlimit, Rung, Sink, Stdin,
};
use crate::model::template::{Piece, Template};
use crate::model::time::Span;
use crate::model::units::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

fn load_as(shelf: &Shelf, path: &str, uid: u32) -> Result<Plan, Vec<ConfigError>> {
    let env = BTreeMap::from([("HOME", "/home/anna"), ("QUEUE", "low")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    let home = if uid == 0 { "/root" } else { "/home/anna" };
    let around = Surroundings { env: &env, hostname: "box", uid, gid: uid, home, users: &look_up, files: shelf };
    load(Path::new(path), &around)
}

fn lines(result: Result<Plan, Vec<ConfigError>>) -> String {
    match result {
        Ok(plan) => plan.warnings.iter().map(|line| format!("warning: {line}\n")).collect(),
        Err(errors) => errors.iter().map(|error| format!("{error}\n")).collect(),
    }
}

fn load_text(text: &str) -> Result<Plan, Vec<ConfigError>> {
    load_as(&Shelf::of(&[("/etc/ganger/s.conf", text), ("/tmp/there", "")]), "s.conf", 0)
}

/// The plan of a file that must be good and give no warnings.
fn plan(text: &str) -> Plan {
    let plan = load_text(text).unwrap_or_else(|errors| panic!("{}", lines(Err(errors))));
    assert_eq!(plan.warnings, Vec::<String>::new(), "{text}");
    plan
}

/// The program `w` with these lines in its section.
fn with(keys: &str) -> ProgramSpec {
    let plan = plan(&format!("[supervisord]\n[program:w]\ncommand = true\n{keys}\n"));
    (*plan.programs[&ProgramName::new("w")]).clone()
}

/// What a file with this in `[program:w]` is told.
fn told(keys: &str) -> String {
    lines(load_text(&format!("[supervisord]\n[program:w]\ncommand = true\n{keys}\n")))
}

#[test]
fn the_story_of_the_slides_is_ten_workers() {
    let text = "[program:worker]\ncommand=php /path/to/worker.php %(process_num)d\nprocess_name=%(program_name)s_%(process_num)d\n\
                stdout_capture_maxbytes=512MB\nstdout_logfile_backups=3\nredirect_stderr=true\nnumprocs=10\nnumprocs_start=0\n";
    let shelf = Shelf::of(&[
        ("/etc/supervisor/supervisord.conf", "[supervisord]\n[include]\nfiles = /etc/supervisor/conf.d/*.conf\n"),
        ("/etc/supervisor/conf.d/worker.conf", text),
        ("/tmp/there", ""),
    ]);
    let plan = load_as(&shelf, "/etc/supervisor/supervisord.conf", 0).unwrap_or_else(|errors| panic!("{}", lines(Err(errors))));
    assert_eq!(plan.warnings, Vec::<String>::new());
    let spec = &plan.programs[&ProgramName::new("worker")];
    assert_eq!((spec.policy.numprocs, spec.policy.numprocs_start), (10, 0));
    let labels: Vec<String> = (0..10).map(|number| spec.label(number)).collect();
    assert_eq!((labels[0].as_str(), labels[9].as_str()), ("worker:worker_0", "worker:worker_9"));
    assert_eq!(spec.launch_of(7).argv, ["php", "/path/to/worker.php", "7"]);
    assert_eq!(spec.output.stdout.capture_max, Bytes::mib(512));
    let [Sink::File(log)] = spec.output.stdout.sinks.as_slice() else { panic!("{:?}", spec.output) };
    assert_eq!((log.path.render(3).as_str(), log.backups), ("/tmp/worker_3-stdout---supervisor-worker.log", 3));
    assert_eq!(spec.output.stderr.sinks, []);
}

#[test]
fn without_our_keys_it_is_as_in_supervisor() {
    let spec = with("");
    assert_eq!(spec.launch.stdin, Stdin::Pipe);
    assert_eq!(spec.launch.user, None);
    assert_eq!((spec.policy.autorestart, spec.policy.startsecs, spec.policy.exitcodes), (Autorestart::Unexpected, Span::secs(1), vec![0]));
    assert_eq!(spec.policy.stop.rungs, [Rung { signal: Signal::TERM, wait: Span::secs(10) }]);
    assert_eq!((spec.policy.stop.resend, spec.policy.stop.leftovers), (None, Leftovers::Leave));
    assert_eq!(spec.policy.backoff.rule, BackoffRule::Linear);
    for keys in ["killasgroup = true", "stopasgroup = yes"] {
        assert_eq!(with(keys).policy.stop.leftovers, Leftovers::Kill, "{keys}");
    }
    assert_eq!(with("killasgroup = true\nleftovers = leave").policy.stop.leftovers, Leftovers::Leave);
    assert_eq!(with("stopsignal = KILL").policy.stop.rungs, [Rung { signal: Signal::KILL, wait: Span::secs(10) }]);
}

#[test]
fn our_own_keys_mean_what_they_mean_in_toml() {
    let spec = with(
        "recycle.max_jobs = 1000-2000\nrecycle.max_memory = 128MB\nrecycle.lifetime_jitter = 0.2\nrecycle.memory_samples = 1 of 2\n\
         jobs.count = laravel\njobs.timeout = 5m\nbackoff.max = 1m\nbackoff.jitter = 0\nscale.max = 20\nsingleton.lock = %(program_name)s-%(process_num)d\n\
         rlimits.nofile = 1024:4096\nrlimits.core = unlimited\nnice = -5\nstop_resend = off\nleftovers = kill\nready = notify\nwatchdog = 30s\n\
         restart_pause = 30s\nno_new_privs = yes\nstrip_ansi = true\nstopsignal = TERM 10s, INT 5s, KILL\nstartretries = forever\nstopwaitsecs = 2m",
    );
    assert_eq!(spec.policy.recycle.max_jobs, Some((1000, 2000)));
    assert_eq!((spec.policy.recycle.max_memory, spec.policy.recycle.memory_samples), (Some(Bytes::mib(128)), (1, 2)));
    assert!(matches!(spec.policy.jobs.count, JobCount::Lines { .. }));
    assert!(matches!(spec.policy.backoff.rule, BackoffRule::Exponential { max, .. } if max == Span::secs(60)));
    assert_eq!((spec.policy.scale.max, spec.process(3).as_str()), (Some(20), "w_03"));
    assert!(matches!(&spec.launch.lock, Some(LockSpec::Name(name)) if name.render(2) == "w-2"));
    assert_eq!(spec.launch.rlimits, BTreeMap::from([(Rlimit::Nofile, (Some(1024), Some(4096))), (Rlimit::Core, (None, None))]));
    assert_eq!((spec.launch.nice, spec.launch.no_new_privs, spec.launch.watchdog), (Some(-5), true, Some(Span::secs(30))));
    assert_eq!((spec.policy.stop.rungs.len(), spec.policy.stop.leftovers), (2, Leftovers::Kill));
    assert_eq!((spec.policy.startretries, spec.output.strip_ansi, spec.policy.ready.notify), (None, true, true));
    let own = with("jobs.count.done = ^done\njobs.count.failed = ^failed: 100%%");
    assert_eq!(own.policy.jobs.count, JobCount::Lines { done: Some("^done".into()), failed: Some("^failed: 100%".into()), running: None });
    assert_eq!(
        told("recycle.max_jobs = many"),
        "s.conf:4:20: program:w.recycle.max_jobs: found \"many\", expected a whole number of 1 or more, or a range such as \"1000-2000\"\n"
    );
}

#[test]
fn a_slip_of_the_keyboard_is_a_warning_with_a_guess() {
    assert_eq!(
        told("numproc = 4"),
        "warning: s.conf:4:1: program:w.numproc: unknown key, which has no effect; did you mean \"numprocs\"?\n"
    );
    assert_eq!(
        told("recycle.max_job = 4"),
        "warning: s.conf:4:1: program:w.recycle.max_job: unknown key, which has no effect; did you mean \"recycle.max_jobs\"?\n"
    );
    assert_eq!(
        told("[programm:x]\ncommand = true"),
        "warning: s.conf:4:1: unknown section [programm:x], which has no effect; did you mean \"program\"?\n"
    );
    assert_eq!(
        told("stdout_syslog = true\ncommand = sh -c \"a ; b\""),
        "warning: s.conf:4:17: program:w.stdout_syslog: output goes to no syslog yet; its last lines are kept in memory\n\
         warning: s.conf:5:11: program:w.command: this program cannot be started: found \"sh -c \\\"a\", expected a closing \"; \" ;\" and \" #\" begin a comment even within quotes\n"
    );
    assert!(told("[ctlplugin:x]\nsupervisor.ctl_factory = a:b").contains("Python code"));
    assert!(told("[rpcinterface:x]\nsupervisor.rpcinterface_factory = a:b").contains("Python code"));
    assert!(told("[eventlistener:l]\ncommand = x\nevents = TICK\nresult_handler = a:b").contains("Python code"));
}

#[test]
fn all_that_is_wrong_with_all_files_comes_at_once_with_its_places() {
    let shelf = Shelf::of(&[
        (
            "/etc/ganger/s.conf",
            "[supervisord]\nloglevel = warning\nnonsense\n[include]\nfiles = d/*.conf none/*.conf\n[inet_http_server]\nport = x\n",
        ),
        ("/etc/ganger/d/a.conf", "[program:a]\nstartsecs = fast\nstopsignal = TREM\nenvironment = A=a,b\n"),
        ("/etc/ganger/d/b.conf", "[group:g]\nprograms = a, c\n[eventlistener:l]\ncommand = x\nevents = TICK_6\n"),
        ("/tmp/there", ""),
    ]);
    assert_eq!(
        lines(load_as(&shelf, "s.conf", 0)),
        "s.conf:2:12: supervisord.loglevel: found \"warning\", expected critical, error, warn, info, debug, trace or blather; did you mean \"warn\"?\n\
         s.conf:3:1: found \"nonsense\", expected \"key = value\" or \"[section]\"; a line that goes on from the one above must be indented deeper than its key\n\
         s.conf:7:8: inet_http_server.port: found \"x\", expected a port from 1 to 65535, or host:port\n\
         d/a.conf:1:1: program:a.command: found nothing, expected a command, such as command = php worker.php\n\
         d/a.conf:2:13: program:a.startsecs: found \"fast\", expected a whole number of seconds\n\
         d/a.conf:3:14: program:a.stopsignal: found \"TREM\", expected a signal such as TERM; did you mean \"TERM\"?\n\
         d/a.conf:4:15: program:a.environment: found \"A=a,b\", expected pairs such as KEY=\"value\",OTHER=\"value\"; put values with anything but letters, digits and _/.+-(): in double quotes\n\
         d/b.conf:5:10: eventlistener:l.events: found \"TICK_6\", expected a type of event that there is; did you mean \"TICK_5\"?\n"
    );
}

#[test]
fn the_daemon_lies_beside_its_socket() {
    let of = |text: &str| plan(&format!("[supervisord]\n{text}\n")).daemon;
    let daemon = of("[unix_http_server]\nfile = /run/supervisor.sock\n[inet_http_server]\nport = 9001");
    assert_eq!(
        (daemon.runtime_dir.as_str(), daemon.socket.path.as_str()),
        ("/run/supervisor.ganger", "/run/supervisor.ganger/ganger.sock")
    );
    assert_eq!(daemon.supervisord.expect("one").doors.len(), 2);
    assert_eq!(of("pidfile = /tmp/x.pid").runtime_dir, "/tmp/x.ganger");
    assert_eq!(of("runtime_dir = /run/mine").socket.path, "/run/mine/ganger.sock");
    assert_eq!(of("").log_dir, "/tmp");
    assert_eq!(of("").log_file.as_deref(), Some("/etc/ganger/supervisord.log"));
}

#[test]
fn a_program_in_two_groups_has_slots_in_each() {
    let plan = plan(
        "[supervisord]\n[program:a]\ncommand = echo %(group_name)s\n[program:b]\ncommand = true\npriority = 3\n\
         [group:g]\nprograms = a,b\npriority = 7\n[group:h]\nprograms = a\n[eventlistener:l]\ncommand = x\nevents = tick\n",
    );
    let names: Vec<&str> = plan.programs.keys().map(ProgramName::as_str).collect();
    assert_eq!(names, ["a@g", "a@h", "b", "l"]);
    let a = &plan.programs[&ProgramName::new("a@h")];
    assert_eq!((a.label(0).as_str(), a.launch_of(0).argv[1].as_str()), ("h:a", "h"));
    assert_eq!(plan.groups, BTreeMap::from([("g", 7), ("h", 999), ("l", -1)].map(|(name, priority)| (GroupName::new(name), priority))));
    assert_eq!(plan.programs[&ProgramName::new("b")].policy.priority, 3);
    assert!(matches!(&plan.programs[&ProgramName::new("l")].kind, Kind::Listener(spec) if spec.events == ["TICK"]));
}

#[test]
fn names_that_meet_are_refused() {
    let errors = told("[eventlistener:w]\ncommand = x\nevents = TICK");
    assert!(errors.contains("the name \"w\" is taken by program:w (s.conf:2:1)"), "{errors}");
    let errors = told("[program:v]\ncommand = true\n[group:w]\nprograms = v");
    assert!(errors.contains("[program:w] (s.conf:2:1) is a group of that name by itself"), "{errors}");
    let errors = told("process_name = x\n[program:v]\ncommand = true\nprocess_name = x\n[group:g]\nprograms = v,w");
    assert!(errors.contains("the name g:x is taken"), "{errors}");
}

#[test]
fn a_user_that_we_cannot_become_is_a_warning() {
    let shelf = Shelf::of(&[("/etc/ganger/s.conf", "[supervisord]\n[program:w]\ncommand = true\nuser = www-data\n"), ("/tmp/there", "")]);
    let text = lines(load_as(&shelf, "s.conf", 1000));
    assert_eq!(
        text,
        "warning: s.conf:4:8: program:w.user: ganger runs as uid 1000 and cannot start a program as \"www-data\"; only root can\n"
    );
}

/// The specification without what the native dialect cannot say, and without the order of variables.
fn sayable(spec: &ProgramSpec) -> ProgramSpec {
    let mut spec = spec.clone();
    let mut environment = spec.launch.environment.clone();
    environment.sort_by(|a, b| a.0.cmp(&b.0));
    spec.launch = Arc::new(LaunchSpec { environment, server_url: None, ..(*spec.launch).clone() });
    spec.kind = Kind::Program;
    for stream in [&mut spec.output.stdout, &mut spec.output.stderr] {
        stream.capture_max = Bytes(0);
        stream.events = false;
    }
    spec
}

/// Writes `old` as TOML, reads that, and holds the fleets equal.
fn import(old: &Plan) -> String {
    let toml = to_toml(old);
    // Root has to say who its programs run as; the old file had not, and the comment shows how.
    let said = toml.replace("#user = \"root\"", "user = \"root\"");
    let shelf = Shelf::of(&[("/etc/ganger/fleet.toml", &said), ("/tmp/there", "")]);
    let new = load_as(&shelf, "fleet.toml", 0).unwrap_or_else(|errors| panic!("{}\n{toml}", lines(Err(errors))));
    assert_eq!(new.programs.keys().collect::<Vec<_>>(), old.programs.keys().collect::<Vec<_>>());
    for (name, old) in &old.programs {
        let mut new = sayable(&new.programs[name]);
        if old.launch.user.is_none() {
            new.launch = Arc::new(LaunchSpec { user: None, ..(*new.launch).clone() });
        }
        assert_eq!(new, sayable(old), "{toml}");
    }
    for (group, priority) in &old.groups {
        assert_eq!(new.groups.get(group), Some(priority), "{group}\n{toml}");
    }
    let (old, new) = (&old.daemon, &new.daemon);
    assert_eq!((&new.runtime_dir, &new.log_dir, &new.log_file, &new.socket), (&old.runtime_dir, &old.log_dir, &old.log_file, &old.socket));
    assert_eq!((&new.log_level, new.ring_lines), (&old.log_level, old.ring_lines));
    toml
}

#[test]
fn an_imported_file_is_the_same_fleet() {
    for keys in [
        "",
        "stopsignal = KILL\nkillasgroup = true\nstdout_logfile = NONE\nredirect_stderr = true",
        "numprocs = 3\nnumprocs_start = 8\nprocess_name = %(program_name)s_%(process_num)03d\nstdout_logfile = /tmp/w-%(process_num)d.log\nuser = www-data",
        "environment = B=\"100%% \\ 'x'\",A=2\ndirectory = rel\numask = 022\npriority = -3\nautostart = no\nautorestart = true\nexitcodes = 0,2",
        "recycle.max_jobs = 5-9\nrecycle.max_lifetime = 90m\nrecycle.lifetime_jitter = 0\nrecycle.max_memory = 1000\njobs.count = yii\njobs.timeout = 500\nbackoff.factor = 1.5\nbackoff.reset_after = 0",
        "scale.min = 2\nscale.max = 5\nsingleton.lock = file:/run/%(process_num)d\nrlimits.as = 1048576:unlimited\nwatchdog = 1m\nready = notify\nready_timeout = 5",
        "stopsignal = TERM 10s, INT 5s\nstop_resend = 1\nleftovers = kill\nstartsecs = 0\nstartretries = forever\nstopasgroup = true\nstrip_ansi = on\nnice = 3",
        "stopsignal = RTMIN\nstopwaitsecs = 0\nstdout_events_enabled = true\nstderr_capture_maxbytes = 1KB\nstdout_logfile_maxbytes = 0\nstdout_logfile_backups = 0",
        "[program:v]\ncommand = echo \"a b\" 'c\"d' \\\\ 100%% %(ENV_QUEUE)s\n[group:g]\nprograms = v,w\npriority = 5\n[group:h]\nprograms = w",
        "[eventlistener:l]\ncommand = x\nevents = TICK\n[fcgi-program:f]\ncommand = y\nsocket = tcp://x:1",
    ] {
        import(
            &load_text(&format!("[supervisord]\n[program:w]\ncommand = true\n{keys}\n"))
                .unwrap_or_else(|errors| panic!("{}", lines(Err(errors)))),
        );
    }
}

#[test]
fn what_toml_cannot_say_is_told_in_comments() {
    let toml = import(&plan(
        "[supervisord]\nidentifier = mine\n[unix_http_server]\nfile = /run/s.sock\n[program:w]\ncommand = true\nstdout_capture_maxbytes = 1MB\n\
         [eventlistener:l]\ncommand = x\nevents = TICK,PROCESS_STATE\n[fcgi-program:f]\ncommand = y\nsocket = unix:///run/f.sock\n",
    ));
    for part in [
        "[unix_http_server] file=/run/s.sock",
        "identifier=mine",
        "events=TICK,PROCESS_STATE",
        "socket=unix:///run/f.sock",
        "stdout_capture_maxbytes=1048576",
    ] {
        assert!(toml.lines().any(|line| line.starts_with('#') && line.contains(part)), "{part}\n{toml}");
    }
}

#[test]
fn one_log_file_for_many_becomes_one_for_each_on_import() {
    let old = load_text(
        "[supervisord]\n[program:w]\ncommand = true\nnumprocs = 2\nprocess_name = w%(process_num)d\nstdout_logfile = /tmp/w.log\n",
    )
    .expect("good");
    assert!(old.warnings[0].contains("2 processes write into this one file"), "{:?}", old.warnings);
    let toml = to_toml(&old);
    assert!(toml.contains("stdout_logfile = \"/tmp/w.log.%(process_num)02d\""), "{toml}");
}

#[test]
fn the_shipped_file_is_the_fleet_of_the_toml_examples() {
    let shelf = Shelf::of(&[
        ("/etc/ganger/supervisord.conf", include_str!("../../../config/supervisord.conf")),
        ("/etc/ganger/fleet.toml", "include = [\"programs.d/*.toml\"]"),
        ("/etc/ganger/programs.d/billing.toml", include_str!("../../../config/programs.d/billing.toml")),
        ("/etc/ganger/programs.d/imports.toml", include_str!("../../../config/programs.d/imports.toml")),
        ("/etc/ganger/programs.d/laravel.toml", include_str!("../../../config/programs.d/laravel.toml")),
        ("/etc/ganger/programs.d/mailer.toml", include_str!("../../../config/programs.d/mailer.toml")),
        ("/etc/ganger/programs.d/spool.toml", include_str!("../../../config/programs.d/spool.toml")),
        ("/var/run/there", ""),
        ("/tmp/there", ""),
    ]);
    let [old, new] =
        ["supervisord.conf", "fleet.toml"].map(|path| load_as(&shelf, path, 0).unwrap_or_else(|e| panic!("{}", lines(Err(e)))));
    assert_eq!(old.warnings, Vec::<String>::new());
    assert_eq!(old.programs.keys().collect::<Vec<_>>(), new.programs.keys().collect::<Vec<_>>());
    for (name, old) in &old.programs {
        // Log files lie elsewhere, Supervisor's workers have a pipe as their stdin, and a ladder is not its to read.
        let comparable = |spec: &ProgramSpec| {
            let mut spec = sayable(spec);
            let trimmed = |word: &Template| match word.0.as_slice() {
                // The lines of a script lose their indentation in an old file.
                [Piece::Text(text)] => {
                    Template::text(&text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n"))
                }
                _ => word.clone(),
            };
            let command = spec.launch.command.iter().map(trimmed).collect();
            spec.launch = Arc::new(LaunchSpec { stdin: Stdin::Null, command, ..(*spec.launch).clone() });
            spec.output = OutputSpec { strip_ansi: spec.output.strip_ansi, ..OutputSpec::default() };
            spec.policy.stop.rungs.truncate(1);
            spec
        };
        assert_eq!(comparable(old), comparable(&new.programs[name]));
    }
}

/// A file may hold anything, and be cut anywhere.
#[test]
fn noise_never_panics() {
    let sample = include_str!("../../../config/supervisord.conf");
    let scraps = [
        "[",
        "]",
        "=",
        ":",
        "%",
        "%(",
        "%(process_num)",
        "\n",
        "\n  ",
        ";",
        " #",
        "\"",
        "'",
        "\\",
        "[program:",
        "environment=",
        "\u{feff}",
        "é",
        ",",
        "0",
        "-1",
        "99999999999999999999",
    ];
    let mut rng = Rng::seeded(7);
    let mut below = |n: usize| usize::try_from(rng.between(0, n as u64 - 1)).expect("small");
    for round in 0..400 {
        let mut text: String = sample.chars().take(below(sample.len())).collect();
        for _ in 0..below(8) {
            let at = text.floor_char_boundary(below(text.len() + 1));
            text.insert_str(at, scraps[below(scraps.len())]);
        }
        let result = load_text(&text);
        if let Ok(plan) = &result {
            to_toml(plan);
        }
        assert!(!matches!(&result, Err(errors) if errors.is_empty()), "round {round}");
    }
}
