//! `gangerd --demo`: a small fleet to look at, that needs nothing but `sh`.
//!
//! A producer drops jobs into a spool directory; a pool of workers takes them, reports each, leaks, and is
//! recycled for it; a singleton of which two are wanted and one runs; and one that keeps crashing. All of it
//! lives in a temporary directory and is gone after ^C.

use crate::daemon::Call;
use crate::daemon::options::{Options, Overrides};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Sets the fleet up, runs it, and cleans up behind it.
pub fn run() -> i32 {
    let dir = std::env::temp_dir().join(format!("ganger-demo-{}", std::process::id()));
    let code = match lay_out(&dir) {
        Ok(config) => {
            print!("{}", introduction(&dir));
            super::serve(&Call {
                config: config.clone(),
                overrides: Overrides::new(Options { log_level: Some("info".to_owned()), ..Options::default() }, None),
                program: "gangerd".into(),
                may_go_into_background: false,
            })
        }
        Err(e) => {
            eprintln!("gangerd: cannot set up the demo in {}: {e}", dir.display());
            1
        }
    };
    if let Err(e) = fs::remove_dir_all(&dir) {
        eprintln!("gangerd: cannot remove {}: {e}", dir.display());
        return 1;
    }
    println!("The demo has ended; {} is gone.", dir.display());
    code
}

fn lay_out(dir: &Path) -> io::Result<PathBuf> {
    fs::DirBuilder::new().mode(0o700).create(dir)?;
    for part in ["bin", "spool", "run", "log"] {
        fs::create_dir(dir.join(part))?;
    }
    // One program under several names: called as gangerctl it is the tool.
    symlink(std::env::current_exe()?, dir.join("bin/gangerctl"))?;
    for (name, text) in SCRIPTS {
        let path = dir.join("bin").join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let me = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map_or_else(|| "root".to_owned(), |user| user.name);
    let config = dir.join("ganger.toml");
    fs::write(&config, CONFIG.replace("@DIR@", &dir.to_string_lossy()).replace("@USER@", &me))?;
    Ok(config)
}

fn introduction(dir: &Path) -> String {
    let ctl = format!("{}/bin/gangerctl -s {}/run/ganger.sock", dir.display(), dir.display());
    format!(
        "A demo fleet is starting: a producer, a pool of mailers that leak and are recycled, a singleton, and one that crashes.\n\
         \n\
         Look at it from another terminal:\n\
         \n\
         \x20 alias g='{ctl}'\n\
         \x20 g status -v                  who runs, with jobs, memory and reasons\n\
         \x20 g events -f                  what happens, as it happens\n\
         \x20 g tail -f mailer:mailer_00   the output of one worker\n\
         \x20 g scale mailer 6             more workers; the others are not touched\n\
         \x20 g restart --rolling mailer   one after the other, each waited for\n\
         \n\
         ^C ends it and leaves nothing behind.\n\
         \n"
    )
}

const CONFIG: &str = r#"[daemon]
runtime_dir = "@DIR@/run"
log_dir = "@DIR@/log"

[defaults]
user = "@USER@"
directory = "@DIR@/spool"
environment = { PATH = "@DIR@/bin:%(ENV_PATH)s" }

[program.producer]
command = "producer.sh"

[program.mailer]
command = "mailer.sh"
numprocs = 3

[program.mailer.recycle]
max_jobs = "20-40"
max_memory = "8MB"
sample_interval = "1s"

[program.mailer.scale]
max = 10

[program.nightly]
command = "nightly.sh"
numprocs = 2
singleton = { lock = "file:@DIR@/run/nightly.lock" }

[program.crasher]
command = "crasher.sh"
startretries = "forever"

[program.crasher.backoff]
initial = "1s"
max = "30s"
"#;

/// Every job is a file. `mv` within a directory tree is atomic, so two workers never take the same one.
const SCRIPTS: [(&str, &str); 4] = [
    (
        "producer.sh",
        r#"#!/bin/sh
# Drops a job into the spool every 0.2 s, while fewer than 50 are waiting.
trap 'exit 0' TERM
n=0
while :; do
    n=$((n + 1))
    set -- job-*
    if [ $# -lt 50 ]; then
        echo "mail number $n" >".new-$$" && mv ".new-$$" "job-$n"
        echo "queued job-$n"
    fi
    sleep 0.2
done
"#,
    ),
    (
        "mailer.sh",
        r#"#!/bin/sh
# Takes jobs from the spool, tells of each, and leaks 100 KB a job.
stop=
trap 'stop=1' TERM
mine=".taken-by-$GANGER_SLOT"
done=0
leak=
chunk=$(printf '%0102400d' 0)
gangerctl notify READY=1
while [ -z "$stop" ]; do
    for job in job-*; do
        [ -n "$stop" ] && break
        mv "$job" "$mine" 2>/dev/null || continue
        gangerctl notify X_JOB="$job"
        sleep 0.2
        echo "sent $(cat "$mine")"
        rm -f "$mine"
        leak=$leak$chunk
        done=$((done + 1))
        gangerctl notify X_JOBS=$done X_JOB= WATCHDOG=1
    done
    sleep 0.1
done
echo "asked to stop; $done jobs done, none cut in half"
"#,
    ),
    (
        "nightly.sh",
        r#"#!/bin/sh
trap 'exit 0' TERM
echo "I am the only one"
while :; do sleep 1; done
"#,
    ),
    (
        "crasher.sh",
        r#"#!/bin/sh
echo "cannot reach the database" >&2
sleep 0.2
exit 255
"#,
    ),
];
