//! `tail` and `clear`: what workers wrote.
//!
//! Bytes go through as they are; a log is the worker's, and who pipes it wants it unchanged.

use crate::ctl::client::{Client, Trouble, escaped};
use crate::ctl::screen::Screen;
use crate::ctl::status::{self, Picture, picture};
use crate::ctl::steer;
use crate::model::command::{Refusal, Reply};
use crate::model::name::Target;
use crate::model::view::SlotView;
use std::io;

/// How much of the end of a log.
#[derive(Clone, Copy, Debug)]
pub enum Last {
    Lines(u32),
    Bytes(u64),
}

/// `tail [-f] NAME [stdout|stderr]`. ^C ends a `-f` by the signal's own way, which shells show as 130.
pub async fn tail(
    client: &Client,
    name: &str,
    channel: &str,
    last: Last,
    follow: bool,
    screen: &mut Screen<'_>,
) -> Result<io::Result<i32>, Trouble> {
    if !matches!(channel, "stdout" | "stderr") {
        return Ok(screen.say(&format!("Error: bad channel '{channel}'")).map(|()| 1));
    }
    let names = [name.to_owned()];
    let seen = picture(client, &names, false).await?;
    let slot = match one(&seen) {
        Ok(slot) => slot,
        Err(0) => {
            let near = status::nearest(client, &seen.unknown).await;
            let told = screen.say(&format!("{name}: ERROR (no such process name)"));
            return Ok(told.and_then(|()| status::suggest(near.first().and_then(|(_, near)| near.as_deref()), screen)).map(|()| 1));
        }
        Err(n) => {
            let some: Vec<String> = seen.slots().take(3).map(|slot| slot.label()).collect();
            let told = screen.say(&format!("{name}: ERROR (no such process name)"));
            let note = format!("  {name} is {n} workers; tail shows one: {}", some.join(", "));
            return Ok(told.and_then(|()| screen.note(&note)).map(|()| 1));
        }
    };
    let label = slot.label();
    let amount = match last {
        Last::Lines(n) => format!("lines={n}"),
        Last::Bytes(n) => format!("bytes={n}"),
    };
    let path = format!("/api/v1/logs/{}/{channel}?{amount}{}", escaped(&label), if follow { "&follow=1" } else { "" });
    let mut flow = match client.open(&path).await {
        Ok(flow) => flow,
        Err(trouble @ (Trouble::Refused(_) | Trouble::Odd { .. })) => {
            let why = match &trouble {
                Trouble::Odd { text, .. } => text.clone(),
                _ => trouble.to_string(),
            };
            return Ok(screen
                .say(&format!("{label}: ERROR (no log file)"))
                .and_then(|()| screen.note(&format!("  {label}: {why}")))
                .map(|()| 1));
        }
        Err(trouble) => return Err(trouble),
    };
    let mut last_byte = b'\n';
    while let Some(bytes) = flow.chunk().await? {
        last_byte = bytes.last().copied().unwrap_or(last_byte);
        if let Err(why) = screen.out.write_all(&bytes).and_then(|()| screen.out.flush()) {
            return Ok(Err(why));
        }
    }
    // A prompt of its own line, also after a log that ends in mid-line.
    let end = if last_byte == b'\n' { Ok(()) } else { writeln!(screen.out) };
    if follow {
        return Ok(end.and_then(|()| screen.note("the daemon has ended the stream")).map(|()| 4));
    }
    Ok(end.and_then(|()| screen.out.flush()).map(|()| 0))
}

/// The one slot of a picture, or how many there are instead.
fn one(picture: &Picture) -> Result<&SlotView, usize> {
    let mut slots = picture.slots();
    match (slots.next(), slots.next()) {
        (Some(slot), None) => Ok(slot),
        (None, _) => Err(0),
        (Some(_), Some(_)) => Err(picture.slots().count()),
    }
}

/// `clear NAME…|all`.
pub async fn clear(client: &Client, names: &[String], screen: &mut Screen<'_>) -> Result<io::Result<i32>, Trouble> {
    let targets: Vec<Target> = names.iter().map(|name| Target::read(name)).collect();
    match client.post("/api/v1/logs/clear", &serde_json::json!({ "targets": targets })).await {
        Ok(Reply::Outcomes(outcomes)) => Ok(steer::print_outcomes(&outcomes, "cleared", screen)),
        Ok(reply @ (Reply::Scaled { .. } | Reply::Changes(_) | Reply::Groups { .. } | Reply::Done)) => {
            Err(Trouble::Odd { path: "/api/v1/logs/clear".to_owned(), status: 200, text: format!("{reply:?}") })
        }
        Err(Trouble::Refused(Refusal::NoSuch { name, nearest })) => Ok(status::tell_unknown(&name, nearest.as_deref(), screen).map(|()| 1)),
        Err(trouble) => Err(trouble),
    }
}
