//! Definition files as people write them: good ones with the plan they give, bad ones with the very lines that
//! are shown, the shipped examples, and noise.

use super::*;
use crate::model::name::{GroupName, ProgramName};
use crate::model::rng::Rng;
use crate::model::signal::Signal;
use crate::model::spec::{Autorestart, BackoffRule, JobCount, Leftovers, LockSpec, LogFile, ProgramSpec, Rlimit, Rung, Sink, StreamSpec};
use crate::model::template::{Piece, Template};
use crate::model::time::Span;
use crate::model::units::Bytes;
use std::collections::BTreeSet;

/// A file system of texts. Directories are what the files lie in, and `/srv/shop` with `/var/log`.
pub struct Shelf(BTreeMap<PathBuf, Vec<u8>>);

impl Shelf {
    pub fn of(files: &[(&str, &str)]) -> Shelf {
        Shelf(files.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec())).collect())
    }
}

impl Files for Shelf {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(&self.absolute(path)).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let below = self.0.keys().filter_map(|path| path.strip_prefix(directory).ok()?.components().next());
        Ok(below.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn is_directory(&self, path: &Path) -> bool {
        ["/srv/shop", "/var/log", "/dev", "/"].iter().any(|known| Path::new(known) == path)
            || self.0.keys().any(|file| file.strip_prefix(path).is_ok_and(|rest| rest.components().next().is_some()))
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        Path::new("/etc/ganger").join(path)
    }
}

fn user(name: &str, uid: u32) -> User {
    let home = if uid == 0 { String::from("/root") } else { format!("/home/{name}") };
    User { name: name.into(), uid, gid: uid, groups: vec![uid], home, shell: "/bin/sh".into() }
}

pub fn look_up(name: &str) -> Result<Option<User>, String> {
    Ok(Some(match name {
        "root" | "0" => user("root", 0),
        "root:adm" => User { gid: 4, ..user("root", 0) },
        "www-data" | "33" => user("www-data", 33),
        "www-data:adm" => User { gid: 4, ..user("www-data", 33) },
        "anna" | "1000" => user("anna", 1000),
        "ldap" => return Err("the directory server does not answer".into()),
        _ => return Ok(None),
    }))
}

/// Loads `fleet.toml` from `shelf` as the ordinary user anna, or as root.
fn load_from(shelf: &Shelf, uid: u32) -> Result<Plan, Vec<ConfigError>> {
    let env = BTreeMap::from([("HOME", "/home/anna"), ("QUEUE", "low prio"), ("PCT", "100%")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    let home = if uid == 0 { "/root" } else { "/home/anna" };
    let around = Surroundings { env: &env, hostname: "box", uid, gid: uid, home, users: &look_up, files: shelf };
    load(Path::new("fleet.toml"), &around)
}

fn lines(result: Result<Plan, Vec<ConfigError>>) -> String {
    match result {
        Ok(plan) => plan.warnings.iter().map(|line| format!("warning: {line}\n")).collect(),
        Err(errors) => errors.iter().map(|error| format!("{error}\n")).collect(),
    }
}

/// The plan of a file that must be good and give no warnings.
fn plan(text: &str) -> Plan {
    let plan = load_from(&Shelf::of(&[("/etc/ganger/fleet.toml", text)]), 1000).unwrap_or_else(|errors| panic!("{}", lines(Err(errors))));
    assert_eq!(plan.warnings, Vec::<String>::new(), "{text}");
    plan
}

/// The program `w` of such a file.
fn program(text: &str) -> ProgramSpec {
    (*plan(text).programs[&ProgramName::new("w")]).clone()
}

/// The one program `w` with these lines in its table.
fn with(keys: &str) -> ProgramSpec {
    program(&format!("[program.w]\ncommand = \"true\"\n{keys}\n"))
}

fn numbered(before: &str, after: &str) -> Template {
    let mut pieces = vec![Piece::Text(before.into()), Piece::Number { zero: true, width: 2 }];
    pieces.extend((!after.is_empty()).then(|| Piece::Text(after.into())));
    Template(pieces)
}

fn log(path: Template) -> StreamSpec {
    StreamSpec { sinks: vec![Sink::File(LogFile { path, max_bytes: Bytes::mib(50), backups: 10 })], ..StreamSpec::default() }
}

/// What a definition is that says no more than its command: the defaults, with what follows from its name.
fn plain_spec(name: &str, log_dir: &str) -> ProgramSpec {
    let mut spec = ProgramSpec::new(name, vec![Template::text("true")]);
    spec.output.stdout = log(Template::text(&format!("{log_dir}/{name}.stdout.log")));
    spec.output.stderr = log(Template::text(&format!("{log_dir}/{name}.stderr.log")));
    spec.policy.scale.max = Some(1);
    spec
}

#[test]
fn a_command_alone_gives_the_defaults() {
    assert_eq!(with(""), plain_spec("w", "/home/anna/.local/state/ganger/log"));
}

#[test]
fn the_daemon_has_directories_of_its_user() {
    let text = "[program.w]\ncommand = \"true\"\nuser = \"root\"\n";
    let root = load_from(&Shelf::of(&[("/etc/ganger/fleet.toml", text)]), 0).expect("good").daemon;
    assert_eq!((root.runtime_dir.as_str(), root.log_dir.as_str()), ("/run/ganger", "/var/log/ganger"));
    assert_eq!((root.socket.path.as_str(), root.socket.mode, root.socket.owner), ("/run/ganger/ganger.sock", 0o660, None));
    assert_eq!((root.log_level.as_str(), root.ring_lines, root.log_file), ("info", 1000, None));
    let anna = plan("[program.w]\ncommand = \"true\"\n").daemon;
    assert_eq!(anna.runtime_dir, "/home/anna/.local/state/ganger/run");

    let said = plan(
        "[daemon]\nruntime_dir = \"run\"\nlog_dir = \"~/log\"\nlog_file = \"%(here)s/%(host_node_name)s.log\"\nlog_level = \"debug\"\nring_lines = 5\n\
         [server]\nmode = \"0600\"\nowner = \"www-data:adm\"\n[program.w]\ncommand = \"true\"",
    );
    assert_eq!(said.daemon.runtime_dir, "/etc/ganger/run");
    assert_eq!(said.daemon.socket.path, "/etc/ganger/run/ganger.sock");
    assert_eq!((said.daemon.socket.mode, said.daemon.socket.owner), (0o600, Some((33, 4))));
    assert_eq!((said.daemon.log_dir.as_str(), said.daemon.log_file.as_deref()), ("/home/anna/log", Some("/etc/ganger/box.log")));
    assert_eq!((said.daemon.log_level.as_str(), said.daemon.ring_lines), ("debug", 5));
}

#[test]
fn launch_keys_mean_what_they_say() {
    let spec = with(
        "directory = \"app\"\numask = \"022\"\nnice = -5\noom_score_adj = 500\nno_new_privs = true\nsession = true\nredirect_stderr = true\nwatchdog = \"30s\"\n\
         [program.w.rlimits]\nnofile = [1024, 4096]\ncore = \"unlimited\"\nas = \"1GB\"\n\
         [program.w.environment]\nB = 1.5\nA = \"x y\"\nC = true\nD = \"%(program_name)s on %(host_node_name)s, 100%%\"",
    );
    let launch = &spec.launch;
    assert_eq!(launch.directory, Some(Template::text("/etc/ganger/app")));
    assert_eq!((launch.umask, launch.nice, launch.oom_score_adj), (Some(0o22), Some(-5), Some(500)));
    assert_eq!((launch.no_new_privs, launch.session, launch.redirect_stderr), (true, true, true));
    assert_eq!(launch.watchdog, Some(Span::secs(30)));
    assert_eq!(
        launch.rlimits,
        BTreeMap::from([
            (Rlimit::Nofile, (Some(1024), Some(4096))),
            (Rlimit::Core, (None, None)),
            (Rlimit::As, (Some(1 << 30), Some(1 << 30)))
        ])
    );
    let environment: Vec<(&str, String)> = launch.environment.iter().map(|(name, value)| (name.as_str(), value.render(0))).collect();
    assert_eq!(environment, [("A", "x y".into()), ("B", "1.5".into()), ("C", "true".into()), ("D", "w on box, 100%".into())]);
    assert_eq!(spec.output.stderr, StreamSpec::default());
    assert_eq!(with("umask = 0o027").launch.umask, Some(0o27));
}

#[test]
fn commands_are_expanded_then_split_and_lists_are_taken_as_they_are() {
    let argv = |text: &str| program(text).launch_of(3).argv;
    assert_eq!(
        argv("[program.w]\ncommand = \"php 'my worker.php' --n=%(process_num)02d %(ENV_QUEUE)s %(here)s\"\nnumprocs = 2"),
        ["php", "my worker.php", "--n=03", "low", "prio", "/etc/ganger"]
    );
    assert_eq!(argv("[program.w]\ncommand = [\"php\", \"a b\", \"%(ENV_QUEUE)s\", \"\"]"), ["php", "a b", "low prio", ""]);
    assert_eq!(
        argv("[program.w]\ncommand = \"echo %(ENV_OWN)s\"\nnumprocs = 2\nenvironment = {OWN = \"q%(process_num)d\"}"),
        ["echo", "q3"]
    );
    assert_eq!(argv("[program.w]\ncommand = \"echo %(ENV_PCT)s\""), ["echo", "100%"]);
}

#[test]
fn policy_keys_mean_what_they_say() {
    let policy = with(
        "priority = -1\nautostart = false\nautorestart = true\nstartsecs = 0\nstartretries = \"forever\"\nexitcodes = [2, 0]\nrestart_pause = \"1m\"\n\
         ready = \"notify\"\nready_timeout = 5\nleftovers = \"leave\"\nnumprocs_start = 7",
    )
    .policy;
    assert_eq!((policy.priority, policy.autostart, policy.autorestart), (-1, false, Autorestart::Always));
    assert_eq!((policy.startsecs, policy.startretries, policy.exitcodes), (Span::ZERO, None, vec![0, 2]));
    assert_eq!((policy.restart_pause, policy.ready.notify, policy.ready.timeout), (Some(Span::secs(60)), true, Span::secs(5)));
    assert_eq!((policy.stop.leftovers, policy.numprocs_start), (Leftovers::Leave, 7));
    assert_eq!(with("autorestart = false\nexitcodes = 3").policy.exitcodes, [3]);
    assert_eq!(with("autorestart = \"unexpected\"").policy.autorestart, Autorestart::Unexpected);
}

#[test]
fn the_stop_ladder_is_read_from_old_keys_and_new() {
    let rungs = |keys: &str| with(keys).policy.stop.rungs;
    let rung = |signal, secs| Rung { signal, wait: Span::secs(secs) };
    assert_eq!(rungs("stopsignal = \"SIGQUIT\""), [rung(Signal::QUIT, 10)]);
    assert_eq!(rungs("stopsignal = \"usr1\"\nstopwaitsecs = 60"), [rung(Signal::USR1, 60)]);
    assert_eq!(rungs("stopwaitsecs = \"2m\""), [rung(Signal::TERM, 120)]);
    assert_eq!(rungs("stopsignal = \"TERM 10s, INT 5s, KILL\""), [rung(Signal::TERM, 10), rung(Signal::INT, 5)]);
    assert_eq!(rungs("stopsignal = \"KILL\""), [rung(Signal::KILL, 10)]);
    assert_eq!(rungs("stopsignal = \"TERM, INT 1s\"\nstopwaitsecs = 30"), [rung(Signal::TERM, 30), rung(Signal::INT, 1)]);
    assert_eq!(rungs("stopsignal = 15"), [rung(Signal::TERM, 10)]);
    let group = |keys: &str| (with(keys).policy.stop.as_group, with(keys).policy.stop.kill_as_group);
    assert_eq!(group("stopasgroup = true"), (true, true));
    assert_eq!(group("killasgroup = true"), (false, true));
    assert_eq!(with("stop_resend = \"off\"").policy.stop.resend, None);
    assert_eq!(with("stop_resend = \"500ms\"").policy.stop.resend, Some(Span::millis(500)));
}

#[test]
fn tables_mean_what_they_say() {
    let policy = with(
        "[program.w.recycle]\nmax_jobs = \"1000-2000\"\nmax_memory = \"128MB\"\nmemory_samples = \"3 of 5\"\nsample_interval = \"2s\"\nmax_lifetime = \"6h\"\n\
         lifetime_jitter = 0\nmin_lifetime = \"30s\"\nconcurrency = 2\npatience = \"1m\"\n\
         [program.w.jobs]\ncount = {done = \"^done\", running = 'run (\\d+)'}\ntimeout = \"5m\"",
    )
    .policy;
    let recycle = &policy.recycle;
    assert_eq!((recycle.max_jobs, recycle.max_memory, recycle.memory_samples), (Some((1000, 2000)), Some(Bytes::mib(128)), (3, 5)));
    assert_eq!((recycle.sample_interval, recycle.max_lifetime, recycle.lifetime_jitter), (Span::secs(2), Some(Span::secs(21_600)), 0.0));
    assert_eq!((recycle.min_lifetime, recycle.concurrency, recycle.patience), (Span::secs(30), 2, Span::secs(60)));
    assert_eq!(policy.jobs.count, JobCount::Lines { done: Some("^done".into()), failed: None, running: Some("run (\\d+)".into()) });
    assert_eq!(policy.jobs.timeout, Some(Span::secs(300)));
    assert_eq!(with("recycle.max_jobs = 5").policy.recycle.max_jobs, Some((5, 5)));
    assert!(matches!(with("jobs.count = \"laravel\"").policy.jobs.count, JobCount::Lines { .. }));
}

#[test]
fn backoff_is_linear_until_its_shape_is_said() {
    let backoff = |keys: &str| with(keys).policy.backoff;
    assert_eq!(backoff("backoff.retry_after_fatal = \"5m\"\nbackoff.reset_after = 60").rule, BackoffRule::Linear);
    assert_eq!(backoff("backoff.retry_after_fatal = \"5m\"").retry_after_fatal, Some(Span::secs(300)));
    assert_eq!(
        backoff("backoff.initial = \"2s\"").rule,
        BackoffRule::Exponential { initial: Span::secs(2), max: Span::secs(60), factor: 2.0, jitter: 0.1 }
    );
    assert_eq!(
        backoff("backoff = {max = \"5m\", factor = 1.5, jitter = 0}").rule,
        BackoffRule::Exponential { initial: Span::secs(1), max: Span::secs(300), factor: 1.5, jitter: 0.0 }
    );
}

#[test]
fn locks_are_ports_files_or_names() {
    let lock = |text: &str| with(&format!("singleton.lock = \"{text}\"")).launch.lock.clone();
    assert_eq!(lock("port:3801"), Some(LockSpec::Port(3801)));
    assert_eq!(lock("file:/run/lock/%(program_name)s"), Some(LockSpec::File(Template::text("/run/lock/w"))));
    assert_eq!(lock("file:w.lock"), Some(LockSpec::File(Template::text("/etc/ganger/w.lock"))));
    assert_eq!(lock("mail"), Some(LockSpec::Name(Template::text("mail"))));
}

#[test]
fn names_and_logs_are_numbered_where_there_may_be_more_than_one() {
    let logs = "/home/anna/.local/state/ganger/log";
    for keys in ["numprocs = 2", "scale.max = 3", "scale.min = 1", "numprocs = 0"] {
        let spec = with(keys);
        assert_eq!(spec.process_name, numbered("w_", ""), "{keys}");
        assert_eq!(spec.output.stdout, log(numbered(&format!("{logs}/w.w_"), ".stdout.log")), "{keys}");
    }
    let one = with("scale.max = 1");
    assert_eq!((one.process_name, one.policy.scale.max), (Template::text("w"), Some(1)));
    assert_eq!(with("numprocs = 2").policy.scale.max, None);
    assert_eq!(with("scale = {min = 2, max = 20}").policy.numprocs, 2);
    // One slot now, and room for more, unless the log file leaves none.
    let named = with("process_name = \"n%(process_num)d\"");
    assert_eq!((named.label(1), named.policy.scale.max), ("w:n1".into(), None));
    let bound = with("process_name = \"n%(process_num)d\"\nstdout_logfile = \"/var/log/w.log\"");
    assert_eq!(bound.policy.scale.max, Some(1));
}

#[test]
fn log_files_go_where_they_are_sent() {
    let spec = with(
        "stdout_logfile = \"w.log\"\nstdout_logfile_maxbytes = \"1MB\"\nstdout_logfile_backups = 0\nstderr_logfile = \"none\"\nstrip_ansi = true",
    );
    let file = LogFile { path: Template::text("/etc/ganger/w.log"), max_bytes: Bytes::mib(1), backups: 0 };
    assert_eq!(spec.output.stdout, StreamSpec { sinks: vec![Sink::File(file)], ..StreamSpec::default() });
    assert_eq!(spec.output.stderr, StreamSpec::default());
    assert!(spec.output.strip_ansi);
    let devices = with("numprocs = 3\nstdout_logfile = \"/dev/stdout\"");
    let file = LogFile { path: Template::text("/dev/stdout"), max_bytes: Bytes(0), backups: 10 };
    assert_eq!(
        devices.output.stdout,
        StreamSpec { sinks: vec![Sink::File(file)], ..StreamSpec::default() },
        "a device is neither numbered nor rotated"
    );
}

#[test]
fn defaults_lie_under_every_program_key_by_key() {
    let text = "[defaults]\nstartsecs = 5\nstopwaitsecs = 30\n[defaults.environment]\nA = \"1\"\nB = \"2\"\n[defaults.recycle]\nmax_jobs = 10\nmax_memory = \"1MB\"\n\
                [program.w]\ncommand = \"true\"\nstartsecs = 2\n[program.w.environment]\nB = \"own\"\n[program.w.recycle]\nmax_jobs = 20\n\
                [program.v]\ncommand = \"true\"\n";
    let plan = plan(text);
    let (w, v) = (&plan.programs[&ProgramName::new("w")], &plan.programs[&ProgramName::new("v")]);
    assert_eq!((w.policy.startsecs, v.policy.startsecs), (Span::secs(2), Span::secs(5)));
    assert_eq!((w.policy.recycle.max_jobs, v.policy.recycle.max_jobs), (Some((20, 20)), Some((10, 10))));
    assert_eq!(w.policy.recycle.max_memory, Some(Bytes::mib(1)));
    assert_eq!(w.policy.stop.rungs[0].wait, Span::secs(30));
    assert_eq!(w.launch.environment, [("A".to_owned(), Template::text("1")), ("B".to_owned(), Template::text("own"))]);
}

#[test]
fn groups_name_and_order_their_programs() {
    let plan = plan(
        "[group.shop]\nprograms = [\"w\", \"v\"]\npriority = 5\n[program.w]\ncommand = \"true\"\n[program.v]\ncommand = \"true\"\nnumprocs = 2\n[program.u]\ncommand = \"true\"",
    );
    let label = |name: &str| plan.programs[&ProgramName::new(name)].label(1);
    assert_eq!((label("w"), label("v"), label("u")), ("shop:w".into(), "shop:v_01".into(), "u".into()));
    assert_eq!(plan.groups, BTreeMap::from([(GroupName::new("shop"), 5)]));
    let w = &plan.programs[&ProgramName::new("w")];
    assert_eq!(w.output.stdout, log(Template::text("/home/anna/.local/state/ganger/log/shop.w.stdout.log")));
}

#[test]
fn users_are_looked_up_when_the_file_is_read() {
    let text = "[program.w]\ncommand = \"true\"\nuser = \"www-data\"\n[program.v]\ncommand = \"true\"\nuser = 0\n";
    let plan = load_from(&Shelf::of(&[("/etc/ganger/fleet.toml", text)]), 0).expect("good");
    assert_eq!(plan.programs[&ProgramName::new("w")].launch.user, Some(user("www-data", 33)));
    assert_eq!(plan.programs[&ProgramName::new("v")].launch.user, Some(user("root", 0)));
    // Nothing to change where it is who we are already.
    assert_eq!(with("user = \"anna\"").launch.user, None);
}

#[test]
fn included_files_are_read_in_order_and_paths_belong_to_their_own_file() {
    let shelf = Shelf::of(&[
        ("/etc/ganger/fleet.toml", "include = [\"programs.d/*.toml\", \"programs.d/a.toml\"]\n[defaults]\ndirectory = \"x\""),
        ("/etc/ganger/programs.d/b.toml", "[program.b]\ncommand = \"%(here)s/run\"\ndirectory = \"../y\""),
        ("/etc/ganger/programs.d/a.toml", "[program.a]\ncommand = \"true\""),
        ("/etc/ganger/programs.d/.hidden.toml", "[program.h]\ncommand = \"true\""),
    ]);
    let plan = load_from(&shelf, 1000).expect("good");
    assert_eq!(plan.warnings, Vec::<String>::new());
    assert_eq!(plan.programs.keys().map(ProgramName::as_str).collect::<Vec<_>>(), ["a", "b"]);
    let launch = |name: &str| plan.programs[&ProgramName::new(name)].launch_of(0);
    assert_eq!(launch("a").directory.as_deref(), Some("/etc/ganger/x"));
    assert_eq!(launch("b").directory.as_deref(), Some("/etc/ganger/programs.d/../y"));
    assert_eq!(launch("b").argv, ["/etc/ganger/programs.d/run"]);
}

/// Cases of `tests/fixtures/config/bad.txt`: `==== what it shows` (`as root` if the title says so), the text of
/// `fleet.toml` (and, after `>>>> path`, of other files), then `----` and what must be shown, to the letter.
#[test]
fn every_bad_file_is_told_with_its_place_what_was_found_and_what_was_expected() {
    let cases: Vec<&str> = include_str!("../../tests/fixtures/config/bad.txt").split("==== ").skip(1).collect();
    assert!(cases.len() >= 60, "{}", cases.len());
    let mut wrong = String::new();
    for case in cases {
        let (title, rest) = case.split_once('\n').expect("a title");
        let (text, expected) = rest.split_once("----\n").expect("a line of dashes");
        let mut files = text.split(">>>> ");
        let main = ("/etc/ganger/fleet.toml".to_owned(), files.next().unwrap_or_default().to_owned());
        let others = files.map(|file| {
            let (path, text) = file.split_once('\n').expect("a path");
            (format!("/etc/ganger/{path}"), text.to_owned())
        });
        let all: Vec<(String, String)> = std::iter::once(main).chain(others).collect();
        let shelf = Shelf::of(&all.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect::<Vec<_>>());
        let got = lines(load_from(&shelf, if title.contains("as root") { 0 } else { 1000 }));
        if got.trim_end() != expected.trim_end() {
            wrong += &format!("==== {title}\n{text}----\n{got}\n");
        }
    }
    assert!(wrong.is_empty(), "these give something else:\n{wrong}");
}

#[test]
fn a_missing_or_unreadable_main_file_is_one_clear_line() {
    assert_eq!(lines(load_from(&Shelf::of(&[]), 1000)), "fleet.toml: cannot be read: no such file\n");
    let env = BTreeMap::new();
    let shelf = Shelf::of(&[]);
    let around = Surroundings { env: &env, hostname: "box", uid: 0, gid: 0, home: "/root", users: &look_up, files: &shelf };
    assert_eq!(lines(load(Path::new("/etc/supervisord.conf"), &around)), "/etc/supervisord.conf: cannot be read: no such file\n");
    let latin = Shelf(BTreeMap::from([(PathBuf::from("/etc/ganger/fleet.toml"), b"a = 1\n# gr\xfc\xdfe\n".to_vec())]));
    assert_eq!(lines(load_from(&latin, 1000)), "fleet.toml:2:1: this line is no UTF-8 text, and TOML files are\n");
}

const SHIPPED: &str = include_str!("../../config/ganger.toml");

const EXAMPLES: [(&str, &str); 5] = [
    ("mailer", include_str!("../../config/programs.d/mailer.toml")),
    ("billing", include_str!("../../config/programs.d/billing.toml")),
    ("imports", include_str!("../../config/programs.d/imports.toml")),
    ("laravel", include_str!("../../config/programs.d/laravel.toml")),
    ("spool", include_str!("../../config/programs.d/spool.toml")),
];

/// The shipped file with its commented settings in force: `#key = …` shows a default, `#e.g. key = …` is an
/// example of what is off by default, `# ` is prose.
fn uncommented(examples_too: bool) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        None => line.to_owned(),
        Some(rest) if rest.starts_with("e.g. ") => {
            if examples_too {
                rest["e.g. ".len()..].to_owned()
            } else {
                String::new()
            }
        }
        Some(rest) if rest.starts_with(' ') || rest.is_empty() => String::new(),
        Some(rest) => rest.to_owned(),
    };
    let key = |text: &'static str| text.split_once('=').map(|(key, _)| key.trim());
    let examples: BTreeSet<Option<&str>> = SHIPPED.lines().filter_map(|text| text.strip_prefix("#e.g. ")).map(key).collect();
    // Where there is both a default and an example, one of the two can be in force.
    let hidden = |text: &'static str| {
        examples_too && text.strip_prefix('#').is_some_and(|rest| key(rest).is_some() && examples.contains(&key(rest)))
    };
    SHIPPED.lines().map(|text| if hidden(text) { String::from("\n") } else { line(text) + "\n" }).collect()
}

#[test]
fn the_shipped_file_shows_the_real_defaults() {
    let shelf = Shelf::of(&[("/etc/ganger/fleet.toml", &uncommented(false)), ("/var/log/ganger/x", "")]);
    let plan = load_from(&shelf, 0).unwrap_or_else(|errors| panic!("{}", lines(Err(errors))));
    let mut expected = plain_spec("NAME", "/var/log/ganger");
    expected.launch = plan.programs[&ProgramName::new("NAME")].launch.clone();
    assert_eq!(*plan.programs[&ProgramName::new("NAME")], expected);
    // The user must be said where root runs it; all else of the launch is as `ProgramSpec::new` has it.
    let launch = crate::model::spec::LaunchSpec { user: None, ..(*expected.launch).clone() };
    assert_eq!(launch, *ProgramSpec::new("NAME", vec![Template::text("true")]).launch);
    let bare = load_from(&Shelf::of(&[("/etc/ganger/fleet.toml", "")]), 0).expect("good");
    assert_eq!(plan.daemon, bare.daemon);
}

#[test]
fn the_shipped_file_shows_every_key_and_its_examples_are_good() {
    let text = uncommented(true);
    let shelf = Shelf::of(&[("/etc/ganger/fleet.toml", &text), ("/var/log/ganger/x", "")]);
    let plan = load_from(&shelf, 0).unwrap_or_else(|errors| panic!("{}", lines(Err(errors))));
    assert!(plan.programs.contains_key(&ProgramName::new("NAME")));
    let shown: BTreeSet<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0.trim())).collect();
    let tables: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("[defaults.")?.strip_suffix(']')).collect();
    for key in native::all_keys() {
        assert!(shown.contains(key) || tables.contains(key), "config/ganger.toml does not show \"{key}\"");
    }
}

#[test]
fn the_shipped_file_and_its_examples_load_without_warnings() {
    let mut files = vec![("/etc/ganger/fleet.toml".to_owned(), SHIPPED), ("/var/log/ganger/x".to_owned(), "")];
    files.extend(EXAMPLES.map(|(name, text)| (format!("/etc/ganger/programs.d/{name}.toml"), text)));
    let shelf = Shelf::of(&files.iter().map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>());
    assert_eq!(lines(load_from(&shelf, 0)), "");
    for (name, text) in EXAMPLES {
        assert_eq!(lines(load_from(&Shelf::of(&[("/etc/ganger/fleet.toml", text)]), 0)), "", "{name}");
    }
}

#[test]
fn the_real_file_system_is_read_as_the_shelf_is() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    std::fs::create_dir(at("d")).expect("a directory");
    std::fs::write(at("fleet.toml"), "include = [\"d/*.toml\"]\n").expect("written");
    std::fs::write(at("d/b.toml"), "[program.b]\ncommand = \"true\"\nnice = 99\n").expect("written");
    std::fs::write(at("d/a.toml"), "[program.a]\ncommand = \"true\"\n").expect("written");
    let env = BTreeMap::new();
    let around = Surroundings { env: &env, hostname: "box", uid: 1000, gid: 1000, home: "/home/anna", users: &look_up, files: &OsFiles };
    let got = lines(load(&at("fleet.toml"), &around));
    let file = at("d/b.toml");
    assert_eq!(got, format!("{}:3:8: program.b.nice: found 99, expected a whole number from -20 to 19\n", file.display()));
    std::fs::remove_file(file).expect("removed");
    let plan = load(&at("fleet.toml"), &around).unwrap_or_else(|errors| panic!("{}", lines(Err(errors))));
    assert_eq!(plan.programs.keys().map(ProgramName::as_str).collect::<Vec<_>>(), ["a"]);
    assert_eq!(lines(load(&at("d"), &around)), format!("{}: cannot be read: it is a directory\n", at("d").display()));
}

#[test]
fn a_thousand_programs_are_one_plan() {
    let text: String = (0..1000).map(|n| format!("[program.p{n}]\ncommand = \"php w.php --n=%(process_num)d\"\nnumprocs = 10\n")).collect();
    assert_eq!(plan(&text).programs.len(), 1000);
}

#[test]
fn noise_is_refused_and_never_panics() {
    let seeds: Vec<String> = std::iter::once(uncommented(true)).chain(EXAMPLES.map(|(_, text)| text.to_owned())).collect();
    let mut rng = Rng::seeded(7);
    let mut below = |n: usize| usize::try_from(rng.between(0, n.saturating_sub(1) as u64)).expect("small");
    for round in 0..400 {
        let mut bytes = seeds[round % seeds.len()].clone().into_bytes();
        // Half the rounds work on a piece, so that a fault does not always end the reading early.
        if round % 2 == 0 {
            let from = below(bytes.len());
            bytes = bytes[from..(from + 600).min(bytes.len())].to_vec();
        }
        for _ in 0..=below(8) {
            let at = below(bytes.len().max(1)).min(bytes.len());
            match below(4) {
                0 => bytes.insert(at, b"\"'[]{}=.%(#\\\n0-\xff\0"[below(17)]),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 if at < bytes.len() => bytes[at] = u8::try_from(below(256)).expect("a byte"),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let shelf = Shelf(BTreeMap::from([(PathBuf::from("/etc/ganger/fleet.toml"), bytes)]));
        for error in load_from(&shelf, 0).err().unwrap_or_default() {
            assert!(!error.to_string().is_empty());
        }
    }
}
