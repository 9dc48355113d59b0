//! What is done with the configuration and the server: `avail`, `reread`, `add`, `remove`, `update`, `reload`, `shutdown`.

use super::rpc::{Trouble, fault};
use super::verbs::label;
use super::wire::Value;
use super::{Halt, Session, exit, prompt};
use std::collections::BTreeMap;
use std::io::ErrorKind;

/// What `reloadConfig` answers: names of groups.
struct Changes {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
}

impl Changes {
    fn read(answer: &Value) -> Changes {
        let lists = answer.items().first().map_or(&[][..], Value::items);
        let names = |at: usize| lists.get(at).map_or(&[][..], Value::items).iter().map(|name| name.text().to_owned()).collect();
        Changes { added: names(0), changed: names(1), removed: names(2) }
    }
}

fn name(name: &str) -> [Value; 1] {
    [Value::Text(name.to_owned())]
}

impl Session<'_> {
    pub(super) async fn avail(&mut self, arg: &str) -> Result<(), Halt> {
        if !arg.is_empty() {
            return self.misused("Error: avail accepts no arguments", "avail", exit::GENERIC);
        }
        match self.ask("getAllConfigInfo", &[]).await {
            Ok(infos) => {
                for info in infos.items() {
                    let label = label(info.at("group").text(), info.at("name").text());
                    let in_use = if info.at("inuse").int() != 0 { "in use" } else { "avail" };
                    let start = if info.at("autostart").int() != 0 { "auto" } else { "manual" };
                    let (group, process) = (info.at("group_prio").int(), info.at("process_prio").int());
                    self.say(&format!("{label:<32} {in_use:<9} {start:<9} {group}:{process}"))?;
                }
                Ok(())
            }
            Err(halt) => self.refused(halt, &[(fault::SHUTDOWN_STATE, "ERROR: supervisor shutting down")]),
        }
    }

    pub(super) async fn reread(&mut self, arg: &str) -> Result<(), Halt> {
        if !arg.is_empty() {
            return self.misused("Error: reread accepts no arguments", "reread", exit::GENERIC);
        }
        let changes = match self.ask("reloadConfig", &[]).await {
            Ok(answer) => Changes::read(&answer),
            Err(Halt::Trouble(Trouble::Fault { code: fault::CANT_REREAD, text })) => {
                self.exit = exit::GENERIC;
                return self.say(&format!("ERROR: {text}"));
            }
            Err(halt) => return self.refused(halt, &[(fault::SHUTDOWN_STATE, "ERROR: supervisor shutting down")]),
        };
        let mut words: BTreeMap<&str, &str> = BTreeMap::new();
        for (names, word) in [(&changes.added, "available"), (&changes.changed, "changed"), (&changes.removed, "disappeared")] {
            words.extend(names.iter().map(|name| (name.as_str(), word)));
        }
        if words.is_empty() {
            return self.say("No config updates to processes");
        }
        for (name, word) in words {
            self.say(&format!("{name}: {word}"))?;
        }
        Ok(())
    }

    pub(super) async fn add(&mut self, arg: &str) -> Result<(), Halt> {
        for group in arg.split_whitespace() {
            match self.ask("addProcessGroup", &name(group)).await {
                Ok(_) => self.say(&format!("{group}: added process group"))?,
                // It is there, which is what was asked for.
                Err(Halt::Trouble(Trouble::Fault { code: fault::ALREADY_ADDED, .. })) => {
                    self.say("ERROR: process group already active")?;
                }
                Err(halt) => {
                    let unknown = format!("ERROR: no such process/group: {group}");
                    self.refused(halt, &[(fault::SHUTDOWN_STATE, "ERROR: shutting down"), (fault::BAD_NAME, &unknown)])?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn remove(&mut self, arg: &str) -> Result<(), Halt> {
        for group in arg.split_whitespace() {
            match self.ask("removeProcessGroup", &name(group)).await {
                Ok(_) => self.say(&format!("{group}: removed process group"))?,
                Err(halt) => {
                    let running = format!("ERROR: process/group still running: {group}");
                    let unknown = format!("ERROR: no such process/group: {group}");
                    self.refused(halt, &[(fault::STILL_RUNNING, &running), (fault::BAD_NAME, &unknown)])?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn update(&mut self, arg: &str) -> Result<(), Halt> {
        let changes = match self.ask("reloadConfig", &[]).await {
            Ok(answer) => Changes::read(&answer),
            Err(halt) => return self.refused(halt, &[(fault::SHUTDOWN_STATE, "ERROR: already shutting down")]),
        };
        let mut wanted: Vec<&str> = Vec::new();
        for group in arg.split_whitespace() {
            if !wanted.contains(&group) {
                wanted.push(group);
            }
        }
        if wanted.contains(&"all") {
            wanted.clear();
        }
        if !wanted.is_empty() {
            let infos = self.ask("getAllProcessInfo", &[]).await?;
            for group in &wanted {
                let known = infos.items().iter().any(|info| info.at("group").text() == *group) || changes.added.iter().any(|a| a == group);
                if !known {
                    self.say(&format!("ERROR: no such group: {group}"))?;
                    self.exit = exit::GENERIC;
                }
            }
        }
        let meant = |group: &String| wanted.is_empty() || wanted.contains(&group.as_str());
        for group in changes.removed.iter().filter(|group| meant(group)) {
            let results = self.ask("stopProcessGroup", &name(group)).await?;
            self.say(&format!("{group}: stopped"))?;
            if results.items().iter().any(|result| result.at("status").int() == fault::FAILED) {
                self.say(&format!("{group}: has problems; not removing"))?;
                self.exit = exit::GENERIC;
                continue;
            }
            self.ask("removeProcessGroup", &name(group)).await?;
            self.say(&format!("{group}: removed process group"))?;
        }
        for group in changes.changed.iter().filter(|group| meant(group)) {
            self.ask("stopProcessGroup", &name(group)).await?;
            self.say(&format!("{group}: stopped"))?;
            self.ask("removeProcessGroup", &name(group)).await?;
            self.ask("addProcessGroup", &name(group)).await?;
            self.say(&format!("{group}: updated process group"))?;
        }
        for group in changes.added.iter().filter(|group| meant(group)) {
            self.ask("addProcessGroup", &name(group)).await?;
            self.say(&format!("{group}: added process group"))?;
        }
        Ok(())
    }

    pub(super) async fn reload(&mut self, arg: &str) -> Result<(), Halt> {
        if !arg.is_empty() {
            return self.misused("Error: reload accepts no arguments", "reload", exit::GENERIC);
        }
        if self.interactive && !prompt::agrees(self, "Really restart the remote supervisord process y/N? ")? {
            return Ok(());
        }
        match self.ask("restart", &[]).await {
            Ok(_) => self.say("Restarted supervisord"),
            Err(halt) => self.refused(halt, &[(fault::SHUTDOWN_STATE, "ERROR: already shutting down")]),
        }
    }

    pub(super) async fn shutdown(&mut self, arg: &str) -> Result<(), Halt> {
        if !arg.is_empty() {
            return self.misused("Error: shutdown accepts no arguments", "shutdown", exit::GENERIC);
        }
        if self.interactive && !prompt::agrees(self, "Really shut the remote supervisord process down y/N? ")? {
            return Ok(());
        }
        let why = match self.ask("shutdown", &[]).await {
            Ok(_) => return self.say("Shut down"),
            Err(Halt::Trouble(why)) => why,
            Err(halt) => return Err(halt),
        };
        let url = self.rpc.url().to_owned();
        match &why {
            // The exit code is success: it is what was asked for.
            Trouble::Fault { code: fault::SHUTDOWN_STATE, .. } => self.say("ERROR: already shutting down"),
            Trouble::Io(io) if io.kind() == ErrorKind::ConnectionRefused => {
                self.exit = exit::GENERIC;
                self.say(&format!("ERROR: {url} refused connection (already shut down?)"))
            }
            Trouble::Io(io) if io.kind() == ErrorKind::NotFound => {
                self.exit = exit::GENERIC;
                self.say(&format!("ERROR: {url} no such file (already shut down?)"))
            }
            Trouble::Fault { .. } | Trouble::Protocol { .. } | Trouble::Io(_) | Trouble::Odd(_) | Trouble::Value(_) | Trouble::TooLarge => {
                Err(Halt::Trouble(why))
            }
        }
    }

    /// Says the words for a fault that has some, exit code 1; anything else goes on.
    pub(super) fn refused(&mut self, halt: Halt, words: &[(i64, &str)]) -> Result<(), Halt> {
        let code = match &halt {
            Halt::Trouble(why) => why.code(),
            Halt::Gone(_) | Halt::Interrupted => None,
        };
        match words.iter().find(|(fault, _)| Some(*fault) == code) {
            Some((_, line)) => {
                self.exit = exit::GENERIC;
                self.say(line)
            }
            None => Err(halt),
        }
    }
}
