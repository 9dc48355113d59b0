//! `events`: what has happened, and what happens.

use crate::ctl::client::{Client, Trouble, escaped};
use crate::ctl::screen::{Screen, tame};
use crate::ctl::watch::{Told, Watch};
use crate::model::name::Target;
use crate::model::notice::Notice;
use crate::model::time::Stamp;
use crate::model::units;
use serde_json::Value;
use std::io;

/// Where to begin.
#[derive(Clone, Copy, Debug)]
pub enum Since {
    /// The last notices that there are.
    Start,
    After(u64),
    At(Stamp),
}

impl Since {
    /// Reads `--since`: a bare number is a notice's, anything with a unit an age.
    pub fn read(text: Option<&str>, now: Stamp) -> Result<Since, Trouble> {
        let Some(text) = text else { return Ok(Since::Start) };
        if let Ok(seq) = text.parse() {
            return Ok(Since::After(seq));
        }
        match units::span(text) {
            Some(age) => Ok(Since::At(Stamp(now.0.saturating_sub(i64::try_from(age.0).unwrap_or(i64::MAX))))),
            None => Err(Trouble::Asked(format!("--since: found {text}, expected an age such as 10m, or a notice's number"))),
        }
    }

    fn includes(self, notice: &Notice) -> bool {
        match self {
            Since::Start => true,
            Since::After(seq) => notice.seq > seq,
            Since::At(at) => notice.at >= at,
        }
    }
}

/// `events [-f] [names]`: one line for each notice, oldest first; with `--json` one object a line.
pub async fn events(
    client: &Client,
    names: &[String],
    since: Since,
    limit: u32,
    follow: bool,
    screen: &mut Screen<'_>,
) -> Result<io::Result<i32>, Trouble> {
    // The stream first, so that nothing falls between the past and the present.
    let watch = if follow { Some(Watch::open(client, None).await?) } else { None };
    let about = match names {
        [name] if !name.contains('*') && Target::read(name) != Target::All => format!("&about={}", escaped(name)),
        _ => String::new(),
    };
    let past: Value = client.read(&format!("/api/v1/history?limit={limit}{about}")).await?;
    let mut seen = 0;
    for value in rows(&past).iter().rev() {
        let Ok(notice) = serde_json::from_value::<Notice>(value.clone()) else { continue };
        seen = seen.max(notice.seq);
        if since.includes(&notice)
            && is_about(&notice, names)
            && let Err(why) = print(&notice, &value.to_string(), screen)
        {
            return Ok(Err(why));
        }
    }
    let Some(mut watch) = watch else { return Ok(screen.out.flush().map(|()| 0)) };
    loop {
        if let Err(why) = screen.out.flush() {
            return Ok(Err(why));
        }
        match watch.next().await? {
            Told::Notice(notice, _) if notice.seq <= seen || !is_about(&notice, names) => {}
            Told::Notice(notice, json) => {
                if let Err(why) = print(&notice, &json, screen) {
                    return Ok(Err(why));
                }
            }
            // A new daemon may count from one again.
            Told::Resync => {
                seen = 0;
                if let Err(why) = screen.note("(some events may be missing here)") {
                    return Ok(Err(why));
                }
            }
        }
    }
}

/// The notices of a history, newest first: bare, or as the one list in an object.
fn rows(past: &Value) -> &[Value] {
    match past {
        Value::Array(rows) => rows,
        Value::Object(map) => map.values().find_map(|value| value.as_array()).map_or(&[], Vec::as_slice),
        _ => &[],
    }
}

fn is_about(notice: &Notice, names: &[String]) -> bool {
    let group = notice.about.split(':').next().unwrap_or("");
    names.is_empty()
        || names.iter().any(|name| match Target::read(name) {
            Target::All => true,
            Target::Group(wanted) => group == wanted,
            Target::Process { group, process } => notice.about == crate::model::name::label(&group, &process),
            Target::Bare(wanted) => {
                notice.about == wanted || group == wanted || notice.slot.as_ref().is_some_and(|slot| slot.program.as_str() == wanted)
            }
        })
}

fn print(notice: &Notice, json: &str, screen: &mut Screen<'_>) -> io::Result<()> {
    if screen.json {
        return writeln!(screen.out, "{json}");
    }
    let time = screen.dim(&screen.time(notice.at));
    writeln!(screen.out, "{time}  {}", tame(&notice.to_string()))
}
