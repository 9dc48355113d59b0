//! The prompt: lines edited, remembered and completed; and the questions that are asked at it.
//!
//! On a terminal rustyline edits the line. In a pipe lines are read as they are and the prompt is written before each, as
//! Python does, since scripts feed commands that way. The exit code of a prompt says nothing: it is 0.

use super::keys::{self, Interrupts, Typed};
use super::rpc::Rpc;
use super::wire::Value;
use super::{Halt, Session};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Shows the status, then carries out lines until there are no more.
pub fn shell(runtime: &Runtime, session: &mut Session<'_>, name: &str, history: Option<&Path>) -> Result<(), Halt> {
    let prompt = format!("{name}> ");
    session.interrupts = Some(Interrupts::hear()?);
    let mut editor = if io::stdin().is_terminal() && io::stdout().is_terminal() { editor(runtime) } else { None };
    if let (Some(editor), Some(file)) = (&mut editor, history) {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    let done = lines(runtime, session, &prompt, editor.as_mut());
    if let (Some(editor), Some(file)) = (&mut editor, history)
        && let Err(why) = editor.save_history(file)
    {
        writeln!(session.err, "supervisorctl: cannot keep the history in {}: {why}", file.display())?;
    }
    done
}

fn lines(runtime: &Runtime, session: &mut Session<'_>, prompt: &str, mut editor: Option<&mut Prompt<'_>>) -> Result<(), Halt> {
    let mut line = "status".to_owned();
    loop {
        match runtime.block_on(session.command(&line)) {
            Ok(false) => {}
            Ok(true) => return Ok(()),
            Err(Halt::Interrupted) => return session.say(""),
            Err(halt) => return Err(halt),
        }
        session.out.flush()?;
        let typed = match &mut editor {
            Some(editor) => edited(editor, session, prompt)?,
            None => asked(session, prompt)?,
        };
        line = match typed {
            Typed::Line(line) => line,
            Typed::End => "EOF".to_owned(),
            Typed::Broken => return session.say(""),
        };
    }
}

/// A line from stdin after a prompt, without an editor.
fn asked(session: &mut Session<'_>, prompt: &str) -> Result<Typed, Halt> {
    write!(session.out, "{prompt}")?;
    session.out.flush()?;
    Ok(keys::line(session.interrupts.as_ref().map(Interrupts::fd))?)
}

fn edited(editor: &mut Prompt<'_>, session: &Session<'_>, prompt: &str) -> Result<Typed, Halt> {
    if let Some(names) = editor.helper() {
        names.ask_anew(session.rpc.twin());
    }
    match editor.readline(prompt) {
        Ok(line) => {
            if !line.trim().is_empty() {
                // An entry too many or twice is no fault.
                let _ = editor.add_history_entry(&line);
            }
            Ok(Typed::Line(line))
        }
        Err(ReadlineError::Eof) => Ok(Typed::End),
        Err(ReadlineError::Interrupted) => Ok(Typed::Broken),
        Err(ReadlineError::Io(why)) => Err(Halt::Gone(why)),
        Err(why) => Err(Halt::Gone(io::Error::other(why.to_string()))),
    }
}

/// Asks a question; yes begins with y.
pub fn agrees(session: &mut Session<'_>, question: &str) -> Result<bool, Halt> {
    match asked(session, question)? {
        Typed::Line(answer) => Ok(answer.to_lowercase().starts_with('y')),
        Typed::End => Ok(false),
        Typed::Broken => Err(Halt::Interrupted),
    }
}

/// Asks who it is; false if nobody answers.
pub fn log_in(session: &mut Session<'_>) -> Result<bool, Halt> {
    let Typed::Line(username) = asked(session, "Username:")? else { return Ok(false) };
    write!(session.out, "Password:")?;
    session.out.flush()?;
    let typed = keys::hidden_line(session.interrupts.as_ref().map(Interrupts::fd))?;
    session.say("")?;
    let Typed::Line(password) = typed else { return Ok(false) };
    session.rpc.log_in(username, password);
    Ok(true)
}

type Prompt<'a> = Editor<Names<'a>, DefaultHistory>;

fn editor(runtime: &Runtime) -> Option<Prompt<'_>> {
    let config = Config::builder().completion_type(CompletionType::List).max_history_size(1000).ok()?.build();
    let mut editor = Editor::with_config(config).ok()?;
    editor.set_helper(Some(Names { runtime, rpc: RefCell::new(None), known: RefCell::new(None) }));
    Some(editor)
}

/// Completes verbs, and the names that the server knows; asked once a line.
struct Names<'a> {
    runtime: &'a Runtime,
    rpc: RefCell<Option<Rpc>>,
    /// Group and process.
    known: RefCell<Option<Vec<(String, String)>>>,
}

impl Names<'_> {
    fn ask_anew(&self, rpc: Rpc) {
        self.rpc.replace(Some(rpc));
        self.known.replace(None);
    }

    fn known(&self) -> Vec<(String, String)> {
        if self.known.borrow().is_none() {
            let mut rpc = self.rpc.borrow_mut();
            let infos = rpc.as_mut().map(|rpc| {
                // Whoever types will not wait for a server that hangs.
                self.runtime.block_on(async { tokio::time::timeout(PATIENCE, rpc.call("supervisor.getAllProcessInfo", &[])).await })
            });
            let infos = infos.and_then(Result::ok).and_then(Result::ok).unwrap_or(Value::Nil);
            let names = infos.items().iter().map(|info| (info.at("group").text().to_owned(), info.at("name").text().to_owned()));
            self.known.replace(Some(names.collect()));
        }
        self.known.borrow().clone().unwrap_or_default()
    }
}

const PATIENCE: Duration = Duration::from_secs(2);

/// The completions of the last word of `line`.
fn completions(line: &str, known: impl FnOnce() -> Vec<(String, String)>) -> Vec<String> {
    let word = line.rsplit(char::is_whitespace).next().unwrap_or("");
    let verb = line.split_whitespace().next().unwrap_or("");
    let mut all: Vec<String> = Vec::new();
    if line.trim_start() == word || verb == "help" {
        all.extend(super::help::VERBS.iter().map(|verb| (*verb).to_owned()));
    } else if matches!(verb, "add" | "remove" | "update") {
        all.extend(known().into_iter().map(|(group, _)| group));
    } else if matches!(verb, "clear" | "fg" | "pid" | "restart" | "signal" | "start" | "status" | "stop" | "tail") {
        for (group, process) in known() {
            if word.contains(':') || group != process {
                all.push(format!("{group}:{process}"));
                all.push(format!("{group}:*"));
            } else {
                all.push(process);
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|name| name.starts_with(word) && seen.insert(name.clone()));
    all.iter().map(|name| format!("{name} ")).collect()
}

impl Completer for Names<'_> {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let line = &line[..pos];
        let start = line.rfind(char::is_whitespace).map_or(0, |at| at + line[at..].chars().next().map_or(1, char::len_utf8));
        Ok((start, completions(line, || self.known())))
    }
}

impl Hinter for Names<'_> {
    type Hint = String;
}
impl Highlighter for Names<'_> {}
impl Validator for Names<'_> {}
impl Helper for Names<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(line: &str) -> Vec<String> {
        let known = || [("cat", "cat"), ("grp", "a"), ("grp", "b")].map(|(group, process)| (group.to_owned(), process.to_owned())).to_vec();
        completions(line, known)
    }

    #[test]
    fn verbs_and_names_are_completed() {
        assert_eq!(complete("sta"), ["start ", "status "]);
        assert_eq!(complete("").len(), super::super::help::VERBS.len());
        assert_eq!(complete("help ma"), ["maintail "]);
        assert_eq!(complete("stop "), ["cat ", "grp:a ", "grp:* ", "grp:b "]);
        assert_eq!(complete("stop cat g"), ["grp:a ", "grp:* ", "grp:b "]);
        assert_eq!(complete("stop grp:b"), ["grp:b "]);
        assert_eq!(complete("stop cat:"), ["cat:cat ", "cat:* "]);
        assert_eq!(complete("update "), ["cat ", "grp "]);
        assert_eq!(complete("version "), [""; 0]);
    }
}
