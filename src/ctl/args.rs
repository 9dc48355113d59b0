//! A command line to a verb.
//!
//! Two steps. First `respell`: Ansible and Salt hand several words over as one argument (`"signal USR1"`), and
//! supervisorctl joins its arguments with spaces and splits them again, so for the verbs that it has, we do too;
//! and its `tail -100` becomes `--bytes=100`. Then clap reads the words. What a verb does is not here.

use crate::model::command::{Batch, ScaleTo};
use crate::model::time::Span;
use crate::model::units;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;

#[derive(Debug, Parser)]
#[command(
    name = "gangerctl",
    // Fixed, so that help is the same text everywhere (and in its golden screen).
    term_width = 100,
    version,
    about = "Shows and steers the workers of gangerd",
    after_help = "NAME is a process (mailer:mailer_03), a program or group (mailer, mailer:*), or all.\n\
        The socket: -s, else the one in -c FILE, else $GANGER_SOCKET, else /run/ganger/ganger.sock \
        (an ordinary user: $XDG_RUNTIME_DIR/ganger/ganger.sock or ~/.local/state/ganger/run/ganger.sock first).\n\
        Exit codes are supervisorctl's: 0 well; 1 refused; 2 bad arguments; 3 status: something does not run; \
        4 unknown name in status, or no daemon; 7 not running, or did not start."
)]
pub struct Line {
    /// The daemon's socket: a path or unix://PATH
    #[arg(short = 's', long, value_name = "SOCKET", global = true)]
    pub socket: Option<String>,
    /// Take the socket from this ganger.toml
    #[arg(short = 'c', long, value_name = "FILE", global = true)]
    pub config: Option<String>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show workers: name, state, and why
    ///
    /// Exit code 3 if something shown does not run (STOPPED, STOPPING, EXITED, FATAL), 4 if a name is unknown.
    Status {
        /// More: jobs, memory, job in hand, heartbeat, last ends
        #[arg(short, long)]
        verbose: bool,
        /// Processes, programs or groups; without any: all
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Start workers and wait until they run
    Start {
        #[command(flatten)]
        wait: Waiting,
        /// Processes, programs or groups, or all
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Stop workers and wait until they are gone
    Stop {
        #[command(flatten)]
        wait: Waiting,
        /// Processes, programs or groups, or all
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Stop and start again; --rolling: a few at a time, each waited for
    Restart {
        #[command(flatten)]
        wait: Waiting,
        /// A batch at a time, the next only when the last are ready; halts at the first failure
        #[arg(long)]
        rolling: bool,
        /// With --rolling: how many of a program at once, a number or a share such as 25%
        #[arg(long, value_name = "N|P%", requires = "rolling", value_parser = batch)]
        batch: Option<Batch>,
        /// Processes, programs or groups, or all
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Replace workers softly, between jobs, within each program's recycling budget
    Recycle {
        #[command(flatten)]
        wait: Waiting,
        /// Processes, programs or groups, or all
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Change how many workers of a program there are; those that stay are not touched
    Scale {
        #[command(flatten)]
        wait: Waiting,
        /// A program
        name: String,
        /// A number, +N, -N, or default (what the definition says)
        #[arg(value_name = "N|+N|-N|default", value_parser = scale_to, allow_hyphen_values = true)]
        to: ScaleTo,
    },
    /// Send a signal to workers
    Signal {
        /// Such as HUP, SIGHUP or 1
        signal: String,
        /// Processes, programs or groups, or all
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Print the daemon's process id, or those of workers
    Pid {
        /// Processes, programs or groups, or all
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show the end of a worker's log
    Tail {
        /// Go on showing what is written (^C ends it)
        #[arg(short, long)]
        follow: bool,
        /// How many lines, from the lines kept in memory
        #[arg(short = 'n', long, value_name = "N", conflicts_with = "bytes")]
        lines: Option<u32>,
        /// How many bytes of the log file (also -N); without any: 1600
        #[arg(long, value_name = "N")]
        bytes: Option<u64>,
        /// A process
        name: String,
        /// stdout or stderr
        #[arg(default_value = "stdout")]
        channel: String,
    },
    /// Empty the logs of workers
    Clear {
        /// Processes, programs or groups, or all
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show what has happened
    #[command(alias = "history")]
    Events {
        /// Go on showing what happens (^C ends it)
        #[arg(short, long)]
        follow: bool,
        /// Only what is younger than this (10m), or came after this number
        #[arg(long, value_name = "AGE|NUMBER")]
        since: Option<String>,
        /// At most so many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
        limit: u32,
        /// Only about these
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Say what a reload would change, and why
    ///
    /// Exit code 0: nothing would change; 3: something would; 2: the definitions have errors.
    Plan,
    /// Read the definitions again; only what changed is touched
    ///
    /// Exit code 2 if the definitions have errors; then nothing has changed.
    Reload,
    /// Stop all workers and end the daemon
    Shutdown {
        /// Come back only when the daemon is gone
        #[arg(long)]
        wait: bool,
    },
    /// Print the daemon's version
    Version,
    /// For workers: tell the daemon (sd_notify), by $NOTIFY_SOCKET
    Notify {
        /// I am ready to work
        #[arg(long)]
        ready: bool,
        /// I am about to end
        #[arg(long)]
        stopping: bool,
        /// I am alive
        #[arg(long)]
        watchdog: bool,
        /// Jobs done by this process so far, a total
        #[arg(long, value_name = "N")]
        jobs: Option<u64>,
        /// Jobs failed in this process so far, a total
        #[arg(long, value_name = "N")]
        errors: Option<u64>,
        /// The job in hand; empty means idle
        #[arg(long, value_name = "ID")]
        job: Option<String>,
        /// What I am doing, in words
        #[arg(long, value_name = "TEXT")]
        status: Option<String>,
        /// Any other KEY=VALUE
        #[arg(value_name = "KEY=VALUE")]
        pairs: Vec<String>,
    },
    /// Run a command unless it runs already: solo -port=N COMMAND…
    ///
    /// Tim Kay's solo. Exit code 98 if it runs already (0 with -silent). `gangerctl solo` alone tells the rest.
    Solo {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Be supervisorctl, for this daemon or any supervisord: supervisorctl -c supervisord.conf status
    ///
    /// Supervisor's tool: its options, words and exit codes. `gangerctl supervisorctl -h` tells the rest.
    Supervisorctl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
pub struct Waiting {
    /// Come back at once, when it has been set going
    #[arg(long)]
    pub no_wait: bool,
    /// Wait until it is done (the default)
    #[arg(long, conflicts_with = "no_wait")]
    pub wait: bool,
    /// Wait no longer than this, such as 30s; what was set going goes on
    #[arg(long, value_name = "TIME", value_parser = span, conflicts_with = "no_wait")]
    pub timeout: Option<Span>,
}

/// Joins and splits the words after the options, as supervisorctl does, where the verb is one that it has.
/// `args` begins with the program's own name.
pub fn respell(args: &[OsString]) -> Vec<OsString> {
    let first = verb_at(args);
    let (head, words) = args.split_at(first);
    let mut line = head.to_vec();
    let texts: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
    let verb = words.first().and_then(|word| word.to_str()).and_then(|word| word.split_whitespace().next()).unwrap_or("");
    match texts {
        Some(texts) if SHARED.contains(&verb) => {
            let joined = texts.join(" ");
            line.extend(joined.split_whitespace().map(|word| match word.strip_prefix('-') {
                Some(n) if verb == "tail" && !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => format!("--bytes={n}").into(),
                _ => word.into(),
            }));
        }
        _ => line.extend_from_slice(words),
    }
    line
}

/// Where the verb stands, or the length of `args` if there is none.
pub fn verb_at(args: &[OsString]) -> usize {
    let mut at = 1;
    while let Some(arg) = args.get(at) {
        match arg.to_str() {
            Some("-s" | "-c" | "--socket" | "--config") => at += 2,
            Some(option) if option.starts_with('-') => at += 1,
            _ => break,
        }
    }
    at.min(args.len())
}

/// supervisorctl's verbs that we have under the same name.
const SHARED: [&str; 10] = ["status", "start", "stop", "restart", "signal", "pid", "tail", "clear", "shutdown", "version"];

fn span(text: &str) -> Result<Span, String> {
    units::span(text).ok_or_else(|| "expected a duration such as 30s or 5m".to_owned())
}

fn batch(text: &str) -> Result<Batch, String> {
    let read = match text.strip_suffix('%') {
        Some(share) => share.parse().ok().filter(|p| (1..=100).contains(p)).map(Batch::Percent),
        None => text.parse().ok().filter(|n| *n > 0).map(Batch::Workers),
    };
    read.ok_or_else(|| "expected a number of workers such as 2, or a share such as 25%".to_owned())
}

fn scale_to(text: &str) -> Result<ScaleTo, String> {
    let read = match text.as_bytes() {
        b"default" => Some(ScaleTo::Default),
        [b'+', ..] => text[1..].parse().ok().map(ScaleTo::Up),
        [b'-', ..] => text[1..].parse().ok().map(ScaleTo::Down),
        _ => text.parse().ok().map(ScaleTo::Exactly),
    };
    read.ok_or_else(|| "expected a number, +N, -N or default".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(args: &[&str]) -> Vec<String> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        respell(&args).into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn several_words_in_one_argument_are_split_as_supervisorctl_does() {
        assert_eq!(words(&["ctl", "-s", "/a b", "signal USR1", "mailer"]), ["ctl", "-s", "/a b", "signal", "USR1", "mailer"]);
        assert_eq!(words(&["ctl", "status mailer "]), ["ctl", "status", "mailer"]);
    }

    #[test]
    fn words_of_our_own_verbs_are_left_whole() {
        assert_eq!(words(&["ctl", "notify", "STATUS=two words"]), ["ctl", "notify", "STATUS=two words"]);
        assert_eq!(words(&["ctl", "solo", "-port=1", "sh", "-c", "a b"]), ["ctl", "solo", "-port=1", "sh", "-c", "a b"]);
    }

    #[test]
    fn tail_takes_a_number_of_bytes_as_supervisorctl_writes_it() {
        assert_eq!(words(&["ctl", "tail", "-100", "mailer"]), ["ctl", "tail", "--bytes=100", "mailer"]);
    }

    #[test]
    fn clap_finds_nothing_wrong_with_the_definitions() {
        use clap::CommandFactory;
        Line::command().debug_assert();
    }

    #[test]
    fn counts_and_shares_are_read_or_refused() {
        assert_eq!(scale_to("+2"), Ok(ScaleTo::Up(2)));
        assert_eq!(scale_to("-1"), Ok(ScaleTo::Down(1)));
        assert_eq!(scale_to("8"), Ok(ScaleTo::Exactly(8)));
        assert_eq!(scale_to("default"), Ok(ScaleTo::Default));
        assert_eq!(batch("25%"), Ok(Batch::Percent(25)));
        for bad in ["", "x", "--1", "+-2"] {
            assert!(scale_to(bad).is_err(), "{bad}");
        }
        for bad in ["0", "0%", "101%", "-1", "%"] {
            assert!(batch(bad).is_err(), "{bad}");
        }
    }
}
