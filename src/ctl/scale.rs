//! `scale`: how many workers of a program there shall be.
//!
//! It is settled when none of the program's slots is on its way in or out any more; those that then do not run are
//! told with their reasons. Like `steer`, it listens first and asks then.

use crate::ctl::client::{Client, Trouble};
use crate::ctl::screen::Screen;
use crate::ctl::status::{self, picture};
use crate::ctl::steer::{Patience, alarm, odd};
use crate::ctl::watch::{Told, Watch};
use crate::model::command::{Command, Refusal, Reply, ScaleTo};
use crate::model::notice::Notice;
use crate::model::state::State;
use crate::model::time::Span;
use crate::model::view::{ProgramView, SlotView};
use std::io;
use std::sync::Arc;

/// `scale NAME N`.
pub async fn scale(
    client: &Client,
    name: &str,
    to: ScaleTo,
    patience: Patience,
    screen: &mut Screen<'_>,
) -> Result<io::Result<i32>, Trouble> {
    let mut watch = match patience {
        Patience::None => None,
        Patience::Until(_) => Some(Watch::open(client, None).await?),
    };
    let reply = match client.ask(&Command::Scale { program: name.to_owned(), to }).await {
        Ok(reply) => reply,
        Err(Trouble::Refused(refusal)) => return Ok(refused(name, &refusal, screen)),
        Err(trouble) => return Err(trouble),
    };
    let Reply::Scaled { program, from, to } = reply else { return Err(odd(&reply)) };
    if !screen.json {
        let line = if from == to { format!("{program}: already {to}") } else { format!("{program}: scaled from {from} to {to}") };
        if let Err(why) = screen.say(&line) {
            return Ok(Err(why));
        }
    }
    let limit = match patience {
        Patience::None => None,
        Patience::Until(limit) => limit,
    };
    let clock = alarm(limit);
    tokio::pin!(clock);
    let mut left = Vec::new();
    let mut late = false;
    while let Some(watch) = watch.as_mut() {
        let Some(view) = program_view(client, &program).await? else { break };
        let unsettled = view.slots.iter().filter(|slot| is_unsettled(slot)).count();
        if view.wanted != to {
            // The answer came after the picture that goes with it: somebody has asked for another count since.
            return Ok(overtaken(&program, from, to, view.wanted, screen));
        }
        let drawn = view.slots.len() >= to as usize;
        left = view
            .slots
            .iter()
            .filter(|slot| slot.wanted && is_down(slot.state))
            .map(|slot| (slot.label(), slot.state, slot.reason.clone()))
            .collect();
        if drawn && unsettled == 0 || late {
            late = late && !(drawn && unsettled == 0);
            break;
        }
        if let Err(why) = screen.show(&format!("{program}: {} of {to} run", view.running)) {
            return Ok(Err(why));
        }
        // Wait for something that concerns the program; what came in the meantime is in the next picture.
        loop {
            let told = tokio::select! {
                told = watch.next() => told?,
                () = &mut clock => { late = true; break }
            };
            match told {
                Told::Resync => break,
                Told::Notice(notice, _) if concerns(&notice, &program) => break,
                Told::Notice(..) => {}
            }
        }
        watch.skip_read();
    }
    Ok(close_scale(&program, from, to, &left, late, limit, screen))
}

/// The program as it is now. Its group mostly has its name, which saves reading the whole fleet.
async fn program_view(client: &Client, program: &str) -> Result<Option<Arc<ProgramView>>, Trouble> {
    let of_group = picture(client, &[format!("{program}:*")], false).await?.program(program).cloned();
    match of_group {
        Some(view) => Ok(Some(view)),
        None => Ok(picture(client, &[], false).await?.program(program).cloned()),
    }
}

/// Somebody else has scaled it meanwhile; what we asked for will never come.
fn overtaken(program: &str, from: u32, to: u32, now: u32, screen: &mut Screen<'_>) -> io::Result<i32> {
    screen.wipe()?;
    screen.note(&format!("  {program}: {now} are wanted by now: it was scaled again, or its definition changed"))?;
    if screen.json {
        screen.json(
            &serde_json::json!({ "program": program, "from": from, "to": to, "not_running": [], "timeout": false, "overtaken_by": now }),
        )?;
    }
    Ok(1)
}

fn close_scale(
    program: &str,
    from: u32,
    to: u32,
    left: &[(String, State, String)],
    late: bool,
    limit: Option<Span>,
    screen: &mut Screen<'_>,
) -> io::Result<i32> {
    screen.wipe()?;
    for (label, state, reason) in left {
        screen.note(&format!("  {label}: {state}: {reason}"))?;
    }
    if late {
        screen.note(&format!("  {program}: not all are there after {}; the daemon goes on with it", limit.unwrap_or_default()))?;
    }
    if screen.json {
        let down: Vec<_> = left
            .iter()
            .map(|(label, state, reason)| serde_json::json!({ "name": label, "state": state.word(), "reason": reason }))
            .collect();
        screen.json(&serde_json::json!({ "program": program, "from": from, "to": to, "not_running": down, "timeout": late }))?;
    }
    Ok(if late {
        1
    } else if left.is_empty() {
        0
    } else {
        7
    })
}

fn concerns(notice: &Notice, program: &str) -> bool {
    notice.about == program || notice.slot.as_ref().is_some_and(|slot| slot.program.as_str() == program)
}

/// On its way in or out.
fn is_unsettled(slot: &SlotView) -> bool {
    match slot.state {
        State::Launching | State::Starting | State::Stopping | State::Clearing => true,
        State::Running => !slot.wanted,
        State::Stopped => slot.wanted,
        State::Waiting | State::Backoff | State::Exited | State::Fatal => false,
    }
}

/// Not running, and not because somebody wants it so.
fn is_down(state: State) -> bool {
    match state {
        State::Waiting | State::Backoff | State::Fatal => true,
        State::Stopped | State::Launching | State::Starting | State::Running | State::Stopping | State::Clearing | State::Exited => false,
    }
}

/// A whole request that was refused: one line about `name`.
fn refused(name: &str, refusal: &Refusal, screen: &mut Screen<'_>) -> io::Result<i32> {
    if screen.json {
        screen.json(&serde_json::json!({ "name": name, "error": refusal.to_string(), "refused": refusal }))?;
        return Ok(1);
    }
    match refusal {
        Refusal::NoSuch { name, nearest } => status::tell_unknown(name, nearest.as_deref(), screen)?,
        other => screen.say(&format!("{name}: ERROR ({other})"))?,
    }
    Ok(1)
}
