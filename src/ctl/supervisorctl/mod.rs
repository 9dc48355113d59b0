//! `supervisorctl` 4.3.0 to the letter, for every server that speaks Supervisor's XML-RPC, ours or the original.
//!
//! | file | subject |
//! |---|---|
//! | `options` | the command line and `[supervisorctl]` |
//! | `ini` | that section, out of a `supervisord.conf` |
//! | `rpc`, `wire` | calls and answers; HTTP and XML-RPC |
//! | `verbs` | what is done with processes |
//! | `groups` | `avail`, `reread`, `add`, `remove`, `update`, `reload`, `shutdown` |
//! | `follow` | `tail`, `maintail`, `fg` |
//! | `prompt` | the prompt: history, completion, questions |
//! | `keys` | lines and ^C from the keyboard |
//! | `help` | `help` |
//!
//! Scripts, Ansible and Salt read these words and columns, so they stay as they are, oddities included. What is mended: `-r`
//! works; a `tail -f` that cannot be comes back instead of hanging; ^C ends `fg` at once; log bytes pass unchanged. An
//! error that Python would tell with a class and a line of its source has the class and the text.

mod follow;
mod groups;
mod help;
mod ini;
mod keys;
mod options;
mod prompt;
mod rpc;
mod verbs;
mod wire;

use self::keys::Interrupts;
use self::options::{Around, Options, Stop};
use self::rpc::{Rpc, Trouble, fault};
use self::wire::Value;
use std::ffi::OsString;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Runs supervisorctl with this process's surroundings, called by the name `called`, with these further words. Gives back
/// the exit code.
pub fn main(called: &OsString, args: &[OsString]) -> i32 {
    let env = std::env::vars_os().map(|(key, value)| (key.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())).collect();
    let program = whole_path(Path::new(called));
    let here = std::env::current_dir().unwrap_or_default();
    let args: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let shown =
        if program.ends_with("supervisorctl") { program.display().to_string() } else { format!("{} supervisorctl", program.display()) };
    let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    let options = match Options::read(&args, &Around { program: &program, env: &env, here: &here }) {
        Ok(options) => options,
        Err(Stop::Help) => {
            let written = write!(out, "{}", help::usage(&shown)).and_then(|()| out.flush());
            return i32::from(written.is_err());
        }
        Err(Stop::Usage(why)) => {
            eprintln!("Error: {why}\nFor help, use {shown} -h");
            return 2;
        }
        Err(Stop::Unreadable(why)) => {
            eprintln!("Error: {why}");
            return 1;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            eprintln!("supervisorctl: cannot run: {why}");
            return 1;
        }
    };
    for warning in &options.warnings {
        eprintln!("supervisorctl: {warning}");
    }
    let mut session = Session {
        rpc: Rpc::new(options.url, options.username, options.password),
        out: &mut out,
        err: &mut io::stderr(),
        interactive: options.interactive,
        exit: exit::SUCCESS,
        interrupts: None,
    };
    let done = if options.words.is_empty() {
        prompt::shell(&runtime, &mut session, &options.prompt, options.history.as_deref())
    } else {
        let line = options.words.join(" ");
        runtime.block_on(session.command(&line)).map(|_| ())
    };
    // Whoever reads names in the background (getaddrinfo) shall not hold us up.
    runtime.shutdown_background();
    let code = match done.and_then(|()| session.out.flush().map_err(Halt::Gone)) {
        // The prompt has nothing to tell its shell.
        Ok(()) if options.words.is_empty() => 0,
        Ok(()) => session.exit,
        Err(Halt::Interrupted) => 130,
        // `supervisorctl … | head`: nobody listens any more. What a shell shows for SIGPIPE.
        Err(Halt::Gone(why)) if why.kind() == ErrorKind::BrokenPipe => 141,
        Err(Halt::Gone(why)) => {
            eprintln!("supervisorctl: cannot write: {why}");
            1
        }
        Err(Halt::Trouble(why)) => unreachable!("told in `command`: {why}"),
    };
    drop(out);
    code
}

/// The path of a program that may have been found by `$PATH`; Python's scripts know their whole path.
fn whole_path(called: &Path) -> PathBuf {
    if called.components().count() > 1 || called.is_absolute() {
        return called.to_owned();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(called)).find(|file| file.is_file()).unwrap_or_else(|| called.to_owned())
}

/// The LSB's exit codes, as supervisorctl uses them.
mod exit {
    pub const SUCCESS: i32 = 0;
    pub const GENERIC: i32 = 1;
    pub const INVALID_ARGS: i32 = 2;
    pub const UNIMPLEMENTED: i32 = 3;
    pub const NO_RIGHT: i32 = 4;
    pub const NOT_INSTALLED: i32 = 5;
    pub const NOT_RUNNING: i32 = 7;
    /// `status`: something does not run.
    pub const STATUS_DOWN: i32 = 3;
    /// `status`: unknown name, or no server.
    pub const STATUS_UNKNOWN: i32 = 4;
}

/// Why a command ends before its end.
#[derive(Debug)]
enum Halt {
    /// Python's exception: told in one line, exit code 1.
    Trouble(Trouble),
    /// Our own output is gone.
    Gone(io::Error),
    /// ^C.
    Interrupted,
}

impl From<Trouble> for Halt {
    fn from(why: Trouble) -> Halt {
        Halt::Trouble(why)
    }
}

impl From<io::Error> for Halt {
    fn from(why: io::Error) -> Halt {
        Halt::Gone(why)
    }
}

/// A server, a screen, and the exit code so far.
struct Session<'a> {
    rpc: Rpc,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    interactive: bool,
    exit: i32,
    /// ^C, from when we want to hear of it; before, it ends us.
    interrupts: Option<Interrupts>,
}

impl Session<'_> {
    /// Carries out a line; true if it was the last one. What goes wrong has been told.
    async fn command(&mut self, line: &str) -> Result<bool, Halt> {
        let line = line.trim();
        let line = &match line.strip_prefix('?') {
            Some(rest) => format!("help {rest}"),
            None => line.to_owned(),
        };
        if line.is_empty() {
            return Ok(false);
        }
        let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(line.len());
        let (verb, arg) = line.split_at(end);
        self.rpc.hang_up();
        loop {
            let why = match self.verb(verb, arg.trim(), line).await {
                Ok(last) => return Ok(last),
                Err(Halt::Trouble(why)) => why,
                Err(halt) => return Err(halt),
            };
            if matches!(why, Trouble::Protocol { status: 401, .. }) {
                self.say("Server requires authentication")?;
                if self.interactive && prompt::log_in(self)? {
                    continue;
                }
            }
            self.say(&format!("error: <class '{}'>, {why}", why.class()))?;
            self.exit = exit::GENERIC;
            return Ok(false);
        }
    }

    async fn verb(&mut self, verb: &str, arg: &str, line: &str) -> Result<bool, Halt> {
        match verb {
            "status" => self.status(arg).await?,
            "pid" => self.pid(arg).await?,
            "start" => self.start(arg).await?,
            "stop" => self.stop(arg).await?,
            "restart" => self.restart(arg).await?,
            "signal" => self.signal(arg).await?,
            "clear" => self.clear(arg).await?,
            "tail" => self.tail(arg).await?,
            "maintail" => self.maintail(arg).await?,
            "fg" => self.foreground(arg).await?,
            "avail" => self.avail(arg).await?,
            "reread" => self.reread(arg).await?,
            "add" => self.add(arg).await?,
            "remove" => self.remove(arg).await?,
            "update" => self.update(arg).await?,
            "reload" => self.reload(arg).await?,
            "shutdown" => self.shutdown(arg).await?,
            "version" => self.version(arg).await?,
            "open" => self.open(arg).await?,
            "help" => self.help(arg)?,
            "quit" | "exit" | "EOF" => {
                self.say("")?;
                return Ok(true);
            }
            _ => {
                self.say(&format!("*** Unknown syntax: {line}"))?;
                self.exit = exit::GENERIC;
            }
        }
        Ok(false)
    }

    fn say(&mut self, line: &str) -> Result<(), Halt> {
        writeln!(self.out, "{line}").map_err(Halt::Gone)
    }

    /// Says what is wrong with the arguments, and how the verb is used.
    fn misused(&mut self, error: &str, verb: &str, code: i32) -> Result<(), Halt> {
        self.say(error)?;
        self.exit = code;
        self.explain(verb)
    }

    /// Calls `supervisor.method`. What has been said is shown before: the answer may take long.
    async fn ask(&mut self, method: &str, params: &[Value]) -> Result<Value, Halt> {
        self.out.flush()?;
        let method = format!("supervisor.{method}");
        tokio::select! {
            answer = self.rpc.call(&method, params) => answer.map_err(Halt::Trouble),
            halt = keys::interrupted(self.interrupts.as_ref()) => Err(halt),
        }
    }

    /// Whether the server is there and one that we know. If not, it has been told.
    async fn is_up(&mut self) -> Result<bool, Halt> {
        let why = match self.ask("getVersion", &[]).await {
            Ok(version) if version.text() == API_VERSION => return Ok(true),
            Ok(version) => {
                let version = version.text();
                self.say(&format!(
                    "Sorry, this version of supervisorctl expects to talk to a server with API version {API_VERSION}, but the remote \
                     version is {version}."
                ))?;
                self.exit = exit::NOT_INSTALLED;
                return Ok(false);
            }
            Err(Halt::Trouble(why)) => why,
            Err(halt) => return Err(halt),
        };
        let url = self.rpc.url().to_owned();
        let code = match &why {
            Trouble::Fault { code: fault::UNKNOWN_METHOD, .. } => {
                self.say(
                    "Sorry, supervisord responded but did not recognize the supervisor namespace commands that supervisorctl uses to \
                     control it.  Please check that the [rpcinterface:supervisor] section is enabled in the configuration file (see \
                     sample.conf).",
                )?;
                exit::UNIMPLEMENTED
            }
            Trouble::Io(io) if io.kind() == ErrorKind::ConnectionRefused => {
                self.say(&format!("{url} refused connection"))?;
                exit::NO_RIGHT
            }
            Trouble::Io(io) if io.kind() == ErrorKind::NotFound => {
                self.say(&format!("{url} no such file"))?;
                exit::NOT_RUNNING
            }
            Trouble::Fault { .. } | Trouble::Protocol { .. } | Trouble::Io(_) | Trouble::Odd(_) | Trouble::Value(_) | Trouble::TooLarge => {
                self.exit = exit::GENERIC;
                return Err(Halt::Trouble(why));
            }
        };
        self.exit = code;
        Ok(false)
    }
}

/// The version of Supervisor's interface, in all releases since 3.0.
const API_VERSION: &str = "3.0";
