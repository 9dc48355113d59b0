//! `plan` and `reload`: what the definitions would change, and the taking up of it.

use crate::ctl::client::{Client, Trouble};
use crate::ctl::screen::{Screen, plural};
use crate::model::command::{Action, ChangeRow, Changes, Command, Refusal, Reply};
use std::io;

/// `plan` (`dry`) or `reload`. A plan that would change something gives 3, one with errors 2.
pub async fn reload(client: &Client, dry: bool, screen: &mut Screen<'_>) -> Result<io::Result<i32>, Trouble> {
    match client.ask(&Command::Reload { dry }).await {
        Ok(Reply::Changes(changes)) => Ok(print(&changes, dry, screen)),
        Ok(reply @ (Reply::Outcomes(_) | Reply::Scaled { .. } | Reply::Groups { .. } | Reply::Done)) => {
            Err(Trouble::Odd { path: "/api/v1/reload".to_owned(), status: 200, text: format!("{reply:?}") })
        }
        Err(Trouble::Refused(Refusal::BadConfig { faults })) => Ok(print_faults(&faults, dry, screen)),
        Err(trouble) => Err(trouble),
    }
}

fn print(changes: &Changes, dry: bool, screen: &mut Screen<'_>) -> io::Result<i32> {
    let changed = changes.rows.iter().filter(|row| row.action != Action::Keep).count();
    let code = if dry && changed > 0 { 3 } else { 0 };
    for warning in &changes.warnings {
        screen.note(&format!("warning: {warning}"))?;
    }
    if screen.json {
        let mut value = serde_json::to_value(changes)?;
        value["changed"] = changed.into();
        screen.json(&value)?;
        return Ok(code);
    }
    let width = changes.rows.iter().map(|row| row.program.chars().count()).max().unwrap_or(0);
    for row in &changes.rows {
        let (verb, colour) = shown(row.action);
        let verb = format!("{verb:<8}");
        let verb = if screen.colour { format!("\x1b[{colour}m{verb}\x1b[0m") } else { verb };
        let line = format!("{verb}{:<width$}  {:<11}  {}", row.program, plural(row.workers, "worker"), why(row));
        screen.say(line.trim_end())?;
    }
    let sum = match (changed, dry) {
        (0, _) => "nothing changes".to_owned(),
        (n, true) => format!("{} would change; `gangerctl reload` does it", plural(n as u32, "program")),
        (n, false) => format!("{} changed", plural(n as u32, "program")),
    };
    screen.say(&sum)?;
    Ok(code)
}

fn why(row: &ChangeRow) -> &str {
    if row.why.is_empty() && row.action == Action::Keep { "as it was" } else { &row.why }
}

fn shown(action: Action) -> (&'static str, &'static str) {
    match action {
        Action::Start => ("start", "32"),
        Action::Stop => ("stop", "31"),
        Action::Restart => ("restart", "33"),
        Action::Update => ("update", "36"),
        Action::Keep => ("keep", "2"),
    }
}

fn print_faults(faults: &[String], dry: bool, screen: &mut Screen<'_>) -> io::Result<i32> {
    if screen.json {
        screen.json(&serde_json::json!({ "faults": faults }))?;
        return Ok(2);
    }
    for fault in faults {
        screen.say(fault)?;
    }
    let end = if dry { "a reload would change nothing" } else { "nothing was changed" };
    screen.note(&format!("the definitions have {}; {end}", plural(faults.len() as u32, "error")))?;
    Ok(2)
}
