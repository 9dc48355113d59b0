//! What is done with processes: `status`, `pid`, `start`, `stop`, `restart`, `signal`, `clear`, `version`, `open`.
//!
//! Each answer becomes the line and the exit code that supervisorctl has for it. Of several that go wrong the last one
//! decides the exit code, as there.

use super::rpc::{Trouble, fault};
use super::wire::Value;
use super::{Halt, Session, exit};

/// A name as it was typed: a group, and a process in it; none means the whole group.
pub struct Named<'a> {
    pub group: &'a str,
    pub process: Option<&'a str>,
}

impl<'a> Named<'a> {
    pub fn read(name: &'a str) -> Named<'a> {
        match name.split_once(':') {
            Some((group, "" | "*")) => Named { group, process: None },
            Some((group, process)) => Named { group, process: Some(process) },
            None => Named { group: name, process: Some(name) },
        }
    }
}

/// `group:process`, or one word if they are the same.
pub fn label(group: &str, process: &str) -> String {
    if group == process { process.to_owned() } else { format!("{group}:{process}") }
}

fn label_of(info: &Value) -> String {
    label(info.at("group").text(), info.at("name").text())
}

/// What can be asked of processes, whichever way they are named.
#[derive(Clone, Copy)]
enum Deed<'a> {
    Start,
    Stop,
    Signal(&'a str),
}

impl Deed<'_> {
    /// What becomes of the fault code `code`, in words. The error is supervisorctl's assertion.
    fn words(self, label: &str, code: i64, description: &str) -> Result<String, Trouble> {
        let error = |why: &str| Ok(format!("{label}: ERROR ({why})"));
        match (self, code) {
            (_, fault::BAD_NAME) => error("no such process"),
            (Deed::Start, fault::NO_FILE) => error("no such file"),
            (Deed::Start, fault::NOT_EXECUTABLE) => error("file is not executable"),
            (Deed::Start, fault::ALREADY_STARTED) => error("already started"),
            (Deed::Start, fault::SPAWN_ERROR) => error("spawn error"),
            (Deed::Start, fault::ABNORMAL_TERMINATION) => error("abnormal termination"),
            (Deed::Start, fault::SUCCESS) => Ok(format!("{label}: started")),
            (Deed::Stop | Deed::Signal(_), fault::BAD_SIGNAL) => error("bad signal name"),
            (Deed::Stop | Deed::Signal(_), fault::NOT_RUNNING) => error("not running"),
            (Deed::Stop | Deed::Signal(_), fault::FAILED) => Ok(description.to_owned()),
            (Deed::Stop, fault::SUCCESS) => Ok(format!("{label}: stopped")),
            (Deed::Signal(_), fault::SUCCESS) => Ok(format!("{label}: signalled")),
            (Deed::Start | Deed::Stop | Deed::Signal(_), code) => Err(unknown_code(code, label)),
        }
    }

    /// The fault that is no failure: what was asked for is so already.
    fn forgives(self) -> Option<i64> {
        match self {
            Deed::Start => Some(fault::ALREADY_STARTED),
            Deed::Stop => Some(fault::NOT_RUNNING),
            Deed::Signal(_) => None,
        }
    }

    /// Methods for one process, a group, and all.
    fn methods(self) -> [&'static str; 3] {
        match self {
            Deed::Start => ["startProcess", "startProcessGroup", "startAllProcesses"],
            Deed::Stop => ["stopProcess", "stopProcessGroup", "stopAllProcesses"],
            Deed::Signal(_) => ["signalProcess", "signalProcessGroup", "signalAllProcesses"],
        }
    }

    fn params(self, name: Option<&str>) -> Vec<Value> {
        let signal = match self {
            Deed::Start | Deed::Stop => None,
            Deed::Signal(signal) => Some(signal),
        };
        name.into_iter().chain(signal).map(|word| Value::Text(word.to_owned())).collect()
    }
}

fn unknown_code(code: i64, label: &str) -> Trouble {
    Trouble::Value(format!("Unknown result code {code} for {label}"))
}

impl Session<'_> {
    /// Takes over the exit code of a result.
    fn judge(&mut self, code: i64, forgiven: Option<i64>) {
        match code {
            fault::SUCCESS => {}
            _ if Some(code) == forgiven => {}
            fault::SPAWN_ERROR | fault::ABNORMAL_TERMINATION | fault::NOT_RUNNING => self.exit = exit::NOT_RUNNING,
            _ => self.exit = exit::GENERIC,
        }
    }

    pub(super) async fn status(&mut self, arg: &str) -> Result<(), Halt> {
        if !self.is_up().await? {
            self.exit = exit::STATUS_UNKNOWN;
            return Ok(());
        }
        let all = self.ask("getAllProcessInfo", &[]).await?;
        let names: Vec<&str> = arg.split_whitespace().collect();
        let mut shown: Vec<&Value> = Vec::new();
        if names.is_empty() || names.contains(&"all") {
            shown.extend(all.items());
        } else {
            for name in names {
                let wanted = Named::read(name);
                let before = shown.len();
                shown.extend(all.items().iter().filter(|info| {
                    info.at("group").text() == wanted.group && wanted.process.is_none_or(|process| info.at("name").text() == process)
                }));
                if shown.len() == before {
                    match wanted.process {
                        None => self.say(&format!("{}: ERROR (no such group)", wanted.group))?,
                        Some(_) => self.say(&format!("{name}: ERROR (no such process)"))?,
                    }
                    self.exit = exit::STATUS_UNKNOWN;
                }
            }
        }
        let labels: Vec<String> = shown.iter().map(|info| label_of(info)).collect();
        let width = labels.iter().map(|label| label.chars().count()).fold(30, usize::max) + 3;
        for (label, info) in labels.iter().zip(&shown) {
            self.say(&format!("{label:<width$}{:<10}{}", info.at("statename").text(), info.at("description").text()))?;
        }
        // STOPPED, EXITED, FATAL, UNKNOWN.
        if shown.iter().any(|info| matches!(info.at("state").int(), 0 | 100 | 200 | 1000)) {
            self.exit = exit::STATUS_DOWN;
        }
        Ok(())
    }

    pub(super) async fn pid(&mut self, arg: &str) -> Result<(), Halt> {
        if !self.is_up().await? {
            return Ok(());
        }
        let names: Vec<&str> = arg.split_whitespace().collect();
        if names.is_empty() {
            let pid = self.ask("getPID", &[]).await?.int();
            return self.say(&pid.to_string());
        }
        if names.contains(&"all") {
            for info in self.ask("getAllProcessInfo", &[]).await?.items() {
                self.say(&info.at("pid").int().to_string())?;
            }
            return Ok(());
        }
        for name in names {
            match self.ask("getProcessInfo", &[Value::Text(name.to_owned())]).await {
                Ok(info) => {
                    let pid = info.at("pid").int();
                    self.say(&pid.to_string())?;
                    if pid == 0 {
                        self.exit = exit::NOT_RUNNING;
                    }
                }
                Err(Halt::Trouble(Trouble::Fault { code: fault::BAD_NAME, .. })) => {
                    self.exit = exit::GENERIC;
                    self.say(&format!("No such process {name}"))?;
                }
                Err(halt) => return Err(halt),
            }
        }
        Ok(())
    }

    pub(super) async fn start(&mut self, arg: &str) -> Result<(), Halt> {
        if !self.is_up().await? {
            return Ok(());
        }
        if arg.is_empty() {
            return self.misused("Error: start requires a process name", "start", exit::INVALID_ARGS);
        }
        self.act(Deed::Start, arg, exit::INVALID_ARGS).await
    }

    pub(super) async fn stop(&mut self, arg: &str) -> Result<(), Halt> {
        if !self.is_up().await? {
            return Ok(());
        }
        if arg.is_empty() {
            return self.misused("Error: stop requires a process name", "stop", exit::GENERIC);
        }
        self.act(Deed::Stop, arg, exit::GENERIC).await
    }

    /// All are stopped before any is started.
    pub(super) async fn restart(&mut self, arg: &str) -> Result<(), Halt> {
        if !self.is_up().await? {
            return Ok(());
        }
        if arg.is_empty() {
            return self.misused("Error: restart requires a process name", "restart", exit::GENERIC);
        }
        self.stop(arg).await?;
        self.start(arg).await
    }

    pub(super) async fn signal(&mut self, arg: &str) -> Result<(), Halt> {
        if !self.is_up().await? {
            return Ok(());
        }
        match arg.split_once(char::is_whitespace) {
            Some((signal, names)) => self.act(Deed::Signal(signal), names, exit::GENERIC).await,
            None => self.misused("Error: signal requires a signal name and a process name", "signal", exit::GENERIC),
        }
    }

    /// Does it to every name; `no_group` is the exit code for a group that is none.
    async fn act(&mut self, deed: Deed<'_>, names: &str, no_group: i32) -> Result<(), Halt> {
        let [one, group, all] = deed.methods();
        if names.split_whitespace().any(|name| name == "all") {
            let results = self.ask(all, &deed.params(None)).await?;
            return self.tell(deed, &results);
        }
        for name in names.split_whitespace() {
            let wanted = Named::read(name);
            match wanted.process {
                None => match self.ask(group, &deed.params(Some(wanted.group))).await {
                    Ok(results) => self.tell(deed, &results)?,
                    Err(Halt::Trouble(Trouble::Fault { code: fault::BAD_NAME, .. })) => {
                        self.say(&format!("{}: ERROR (no such group)", wanted.group))?;
                        self.exit = no_group;
                    }
                    Err(halt) => return Err(halt),
                },
                Some(process) => {
                    let label = label(wanted.group, process);
                    let (code, text) = match self.ask(one, &deed.params(Some(name))).await {
                        Ok(_) => (fault::SUCCESS, String::new()),
                        Err(Halt::Trouble(Trouble::Fault { code, text })) => (code, text),
                        Err(halt) => return Err(halt),
                    };
                    self.say(&deed.words(&label, code, &text)?)?;
                    self.judge(code, deed.forgives());
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, deed: Deed<'_>, results: &Value) -> Result<(), Halt> {
        for result in results.items() {
            let code = result.at("status").int();
            self.say(&deed.words(&label_of(result), code, result.at("description").text())?)?;
            self.judge(code, deed.forgives());
        }
        Ok(())
    }

    pub(super) async fn clear(&mut self, arg: &str) -> Result<(), Halt> {
        if !self.is_up().await? {
            return Ok(());
        }
        if arg.is_empty() {
            return self.misused("Error: clear requires a process name", "clear", exit::GENERIC);
        }
        if arg.split_whitespace().any(|name| name == "all") {
            for result in self.ask("clearAllProcessLogs", &[]).await?.items() {
                self.cleared(&label_of(result), result.at("status").int())?;
            }
            return Ok(());
        }
        for name in arg.split_whitespace() {
            let wanted = Named::read(name);
            let code = match self.ask("clearProcessLogs", &[Value::Text(name.to_owned())]).await {
                Ok(_) => fault::SUCCESS,
                Err(Halt::Trouble(Trouble::Fault { code, .. })) => code,
                Err(halt) => return Err(halt),
            };
            // Of a whole group supervisorctl prints Python's None; no script can want that.
            self.cleared(&wanted.process.map_or_else(|| name.to_owned(), |process| label(wanted.group, process)), code)?;
        }
        Ok(())
    }

    fn cleared(&mut self, label: &str, code: i64) -> Result<(), Halt> {
        let line = match code {
            fault::BAD_NAME => format!("{label}: ERROR (no such process)"),
            fault::FAILED => format!("{label}: ERROR (failed)"),
            fault::SUCCESS => format!("{label}: cleared"),
            code => return Err(unknown_code(code, label).into()),
        };
        self.say(&line)?;
        self.judge(code, None);
        Ok(())
    }

    pub(super) async fn version(&mut self, arg: &str) -> Result<(), Halt> {
        if !arg.is_empty() {
            return self.misused("Error: version accepts no arguments", "version", exit::GENERIC);
        }
        if !self.is_up().await? {
            return Ok(());
        }
        let version = self.ask("getSupervisorVersion", &[]).await?;
        self.say(version.text())
    }

    /// Turns to another server and shows what runs there; the exit code stays as it was.
    pub(super) async fn open(&mut self, arg: &str) -> Result<(), Halt> {
        let scheme = arg.split_once(':').map_or("", |(scheme, _)| scheme);
        if !matches!(scheme, "http" | "unix") {
            self.exit = exit::GENERIC;
            return self.say("ERROR: url must be http:// or unix://");
        }
        self.rpc.turn_to(arg.to_owned());
        let before = self.exit;
        let shown = self.status("").await;
        self.exit = before;
        shown
    }
}
