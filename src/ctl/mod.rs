//! THE TOOL: the other end of the API.
//!
//! | file | subject |
//! |---|---|
//! | `args` | a command line to a verb |
//! | `client` | HTTP over the unix socket, and where that is |
//! | `watch` | the daemon's notices as they come |
//! | `screen` | colours, columns, times |
//! | `status` | `status`, `pid`, `version` |
//! | `steer` | `start`, `stop`, `restart`, `recycle`, `signal`, `shutdown` |
//! | `scale` | `scale` |
//! | `reload` | `plan`, `reload` |
//! | `tail` | `tail`, `clear` |
//! | `events` | `events` |
//! | `tell` | `notify` |
//! | `solo` | `solo` |
//! | `supervisorctl` | `supervisorctl`, for any Supervisor |
//!
//! It knows the daemon by its JSON alone. Everything that happens goes to stdout and stderr through a `Screen`,
//! and the answer is an exit code: supervisorctl's where the verb is its.

mod args;
mod client;
mod events;
mod reload;
mod scale;
pub mod screen;
mod solo;
mod status;
mod steer;
mod supervisorctl;
mod tail;
mod tell;
mod watch;

use crate::ctl::args::{Line, Verb, Waiting};
use crate::ctl::client::{Client, Trouble};
use crate::ctl::events::Since;
use crate::ctl::screen::Screen;
use crate::ctl::steer::{Goal, Patience};
use crate::ctl::tail::Last;
use crate::model::command::Batch;
use crate::model::time::Stamp;
use clap::Parser;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::ffi::OsString;
use std::io::{self, BufWriter, ErrorKind, IsTerminal};
use std::path::Path;

/// Runs the tool with this process's surroundings. `args` begins with the program's name; under the names `solo` and
/// `supervisorctl` it is those. Gives back the exit code; `solo` does not come back when all is well.
pub fn main(args: Vec<OsString>) -> i32 {
    let name = args.first().map(|name| Path::new(name).file_name().unwrap_or(name).to_owned());
    match name.as_ref().and_then(|name| name.to_str()) {
        Some("solo") => return solo::main(&args[0].to_string_lossy(), &args[1..]),
        Some("supervisorctl") => return supervisorctl::main(&args[0], &args[1..]),
        Some(_) | None => {}
    }
    let verb = args::verb_at(&args);
    if args.get(verb).is_some_and(|word| word == "supervisorctl") {
        return supervisorctl::main(&args[0], &args[verb + 1..]);
    }
    if args.get(verb).is_some_and(|word| word == "solo") {
        return solo::main("gangerctl solo", &args[verb + 1..]);
    }
    let stdout = io::stdout();
    let (on_terminal, err_on_terminal) = (stdout.is_terminal(), io::stderr().is_terminal());
    let env = |key: &str| std::env::var(key).ok();
    let colour = on_terminal && env("NO_COLOR").is_none_or(|value| value.is_empty()) && env("TERM").is_none_or(|term| term != "dumb");
    let mut screen = Screen {
        out: &mut BufWriter::with_capacity(64 * 1024, stdout.lock()),
        err: &mut io::stderr(),
        colour,
        progress: err_on_terminal && env("TERM").is_none_or(|term| term != "dumb"),
        json: false,
        clock: &|| Stamp(Timestamp::now().as_millisecond()),
        zone: TimeZone::system(),
        drawn: false,
    };
    run(&args, &mut screen, &env)
}

/// Runs one command line on this screen; `env` reads the environment. Gives back the exit code.
pub fn run(args: &[OsString], screen: &mut Screen<'_>, env: &dyn Fn(&str) -> Option<String>) -> i32 {
    match carry_out(args, screen, env).and_then(|code| screen.out.flush().map(|()| code)) {
        Ok(code) => code,
        // `gangerctl … | head`: nobody listens any more. What a shell shows for SIGPIPE.
        Err(why) if why.kind() == ErrorKind::BrokenPipe => 141,
        Err(why) => {
            // Nothing is left to say it with if this fails too.
            let _ = screen.note(&format!("gangerctl: cannot write: {why}"));
            1
        }
    }
}

fn carry_out(args: &[OsString], screen: &mut Screen<'_>, env: &dyn Fn(&str) -> Option<String>) -> io::Result<i32> {
    let line = match Line::try_parse_from(args::respell(args)) {
        Ok(line) => line,
        Err(help) if !help.use_stderr() => {
            write!(screen.out, "{help}")?;
            return Ok(0);
        }
        Err(fault) => {
            write!(screen.err, "{fault}")?;
            return Ok(2);
        }
    };
    screen.json = line.json;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let reading = matches!(line.verb, Verb::Status { .. });
    match runtime.block_on(act(&line, screen, env)) {
        Ok(done) => done,
        Err(trouble) => {
            screen.wipe()?;
            if let (true, Trouble::Refused(refusal)) = (screen.json, &trouble) {
                screen.json(&serde_json::json!({ "error": trouble.to_string(), "refused": refusal }))?;
            } else {
                screen.out.flush()?;
                screen.note(&format!("gangerctl: {trouble}"))?;
            }
            Ok(trouble.exit_code(reading))
        }
    }
}

/// Carries out a verb. The outer error is the daemon's, the inner one our own output's.
async fn act(line: &Line, screen: &mut Screen<'_>, env: &dyn Fn(&str) -> Option<String>) -> Result<io::Result<i32>, Trouble> {
    if let Verb::Notify { ready, stopping, watchdog, jobs, errors, job, status, pairs } = &line.verb {
        let words = tell::Words {
            ready: *ready,
            stopping: *stopping,
            watchdog: *watchdog,
            jobs: *jobs,
            errors: *errors,
            job: job.as_deref(),
            status: status.as_deref(),
            pairs,
        };
        return tell::tell(&words, env("NOTIFY_SOCKET").as_deref()).map(|()| Ok(0));
    }
    let client = &Client::new(client::find_socket(line.socket.as_deref(), line.config.as_deref(), env)?);
    let whole = Batch::Workers(1);
    match &line.verb {
        Verb::Status { verbose, names } => status::status(client, names, *verbose, screen).await,
        Verb::Start { wait, names } => steer::steer(client, names, Goal::Started, whole, patience(wait), screen).await,
        Verb::Stop { wait, names } => steer::steer(client, names, Goal::Stopped, whole, patience(wait), screen).await,
        Verb::Restart { wait, rolling: true, batch, names } => {
            steer::steer(client, names, Goal::Rolled, batch.unwrap_or(Batch::Workers(1)), patience(wait), screen).await
        }
        Verb::Restart { wait, rolling: false, batch: _, names } => {
            steer::steer(client, names, Goal::Restarted, whole, patience(wait), screen).await
        }
        Verb::Recycle { wait, names } => steer::steer(client, names, Goal::Recycled, whole, patience(wait), screen).await,
        Verb::Scale { wait, name, to } => scale::scale(client, name, *to, patience(wait), screen).await,
        Verb::Signal { signal, names } => steer::signal(client, signal, names, screen).await,
        Verb::Pid { names } => status::pid(client, names, screen).await,
        Verb::Tail { follow, lines, bytes, name, channel } => {
            let last = lines.map_or(Last::Bytes(bytes.unwrap_or(TAIL_BYTES)), Last::Lines);
            tail::tail(client, name, channel, last, *follow, screen).await
        }
        Verb::Clear { names } => tail::clear(client, names, screen).await,
        Verb::Events { follow, since, limit, names } => {
            let since = Since::read(since.as_deref(), screen.now())?;
            events::events(client, names, since, *limit, *follow, screen).await
        }
        Verb::Plan => reload::reload(client, true, screen).await,
        Verb::Reload => reload::reload(client, false, screen).await,
        Verb::Shutdown { wait } => steer::shutdown(client, *wait, screen).await,
        Verb::Version => status::version(client, screen).await,
        Verb::Notify { .. } | Verb::Solo { .. } | Verb::Supervisorctl { .. } => unreachable!("needs no daemon; carried out before"),
    }
}

fn patience(wait: &Waiting) -> Patience {
    if wait.no_wait { Patience::None } else { Patience::Until(wait.timeout) }
}

/// supervisorctl's default for `tail`.
const TAIL_BYTES: u64 = 1600;
