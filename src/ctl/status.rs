//! `status`, `pid`, `version`: what is.
//!
//! The columns are supervisorctl's (`%-Ns%-10s%s`), because scripts split them; what stands in the third is
//! ours: why a worker is where it is, and when it is tried again.

use crate::ctl::client::{self, Client, Trouble};
use crate::ctl::screen::{Screen, plural, tame, uptime};
use crate::model::name::{Target, label};
use crate::model::state::State;
use crate::model::time::{Span, Stamp};
use crate::model::units::Bytes;
use crate::model::view::{EndView, Mood, ProgramView, RollingView, SlotView};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::io;
use std::sync::Arc;

/// The view as the door tells it.
#[derive(Debug, Deserialize)]
pub struct Picture {
    pub seq: u64,
    pub programs: Vec<Arc<ProgramView>>,
    /// Names that were asked for and mean nothing.
    #[serde(default)]
    pub unknown: Vec<Unknown>,
}

/// The view as `status` reads it. The model's own types would do, but `status` of a thousand workers shall cost next
/// to nothing: the brief form is asked for where it will do, text is borrowed from the answer, and what is not shown (`H`: the last ends)
/// is skipped unread.
#[derive(Debug, Deserialize)]
struct Page<'a, H> {
    #[serde(default)]
    mood: Mood,
    #[serde(default)]
    faults: Vec<String>,
    #[serde(borrow, bound(deserialize = "H: Deserialize<'de> + Default"))]
    programs: Vec<Section<'a, H>>,
    #[serde(default)]
    unknown: Vec<Unknown>,
}

#[derive(Debug, Deserialize)]
struct Section<'a, H> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    rolling: Option<RollingView>,
    #[serde(borrow, bound(deserialize = "H: Deserialize<'de> + Default"))]
    slots: Vec<Row<'a, H>>,
}

#[derive(Debug, Deserialize)]
struct Row<'a, H> {
    #[serde(borrow)]
    group: Cow<'a, str>,
    #[serde(borrow)]
    process: Cow<'a, str>,
    state: State,
    #[serde(borrow, default)]
    reason: Cow<'a, str>,
    since: Stamp,
    pid: Option<i32>,
    started: Stamp,
    #[serde(default)]
    stopped: Stamp,
    next_try: Option<Stamp>,
    #[serde(default)]
    jobs: u64,
    #[serde(default)]
    errors: u64,
    max_jobs: Option<u64>,
    #[serde(borrow)]
    job: Option<Cow<'a, str>>,
    job_since: Option<Stamp>,
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
    heartbeat: Option<Stamp>,
    memory: Option<Bytes>,
    max_memory: Option<Bytes>,
    cpu: Option<Span>,
    #[serde(borrow)]
    due: Option<Cow<'a, str>>,
    starts: u64,
    #[serde(default)]
    total_jobs: u64,
    #[serde(borrow)]
    log_trouble: Option<Cow<'a, str>>,
    /// Nobody reads it of the brief form.
    #[serde(default, bound(deserialize = "H: Deserialize<'de> + Default"))]
    history: H,
}

impl<H> Page<'_, H> {
    fn rows(&self) -> impl Iterator<Item = &Row<'_, H>> {
        self.programs.iter().flat_map(|program| &program.slots)
    }
}

impl<H> Row<'_, H> {
    fn label(&self) -> Cow<'_, str> {
        if self.group == self.process { Cow::Borrowed(&self.process) } else { Cow::Owned(label(&self.group, &self.process)) }
    }
}

/// An unknown name, alone or with what it might have meant.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Unknown {
    Name(String),
    Near { name: String, nearest: Option<String> },
}

impl Picture {
    pub fn slots(&self) -> impl Iterator<Item = &Arc<SlotView>> {
        self.programs.iter().flat_map(|program| &program.slots)
    }

    pub fn slot(&self, label: &str) -> Option<&Arc<SlotView>> {
        self.slots().find(|slot| slot.label() == label)
    }

    pub fn program(&self, name: &str) -> Option<&Arc<ProgramView>> {
        self.programs.iter().find(|program| program.name.as_str() == name)
    }
}

/// Reads the view of what `names` mean; of everything if there are none. `fresh`: memory and processor time are measured first.
pub async fn picture(client: &Client, names: &[String], fresh: bool) -> Result<Picture, Trouble> {
    client.read(&path(names, fresh)).await
}

fn path(names: &[String], fresh: bool) -> String {
    let query = if names.iter().any(|name| Target::read(name) == Target::All) { String::new() } else { client::named(names) };
    match (fresh, query.is_empty()) {
        (false, _) => format!("/api/v1/status{query}"),
        (true, true) => "/api/v1/status?refresh=1".to_owned(),
        (true, false) => format!("/api/v1/status{query}&refresh=1"),
    }
}

/// `status [names]`: 0 if everything shown runs, 3 if not, 4 if a name is unknown.
pub async fn status(client: &Client, names: &[String], verbose: bool, screen: &mut Screen<'_>) -> Result<io::Result<i32>, Trouble> {
    let mut path = path(names, verbose);
    if !verbose && !screen.json {
        path.push_str(if path.contains('?') { "&brief=1" } else { "?brief=1" });
    }
    let body = client.fetch(&path).await?;
    if verbose { shown::<Vec<EndView>>(client, &body, screen).await } else { shown::<IgnoredAny>(client, &body, screen).await }
}

async fn shown<'a, H: Deserialize<'a> + Default + Ends>(
    client: &Client,
    body: &'a [u8],
    screen: &mut Screen<'_>,
) -> Result<io::Result<i32>, Trouble> {
    let page: Page<'a, H> =
        serde_json::from_slice(body).map_err(|why| Trouble::Odd { path: "/api/v1/status".into(), status: 200, text: why.to_string() })?;
    let unknown = if page.unknown.is_empty() { Vec::new() } else { nearest(client, &page.unknown).await };
    Ok(print(&page, body, &unknown, screen))
}

/// The last ends of a slot, newest first, where they were read at all: only `-v` does.
trait Ends {
    fn ends(&self) -> Option<&[EndView]>;
}

impl Ends for IgnoredAny {
    fn ends(&self) -> Option<&[EndView]> {
        None
    }
}

impl Ends for Vec<EndView> {
    fn ends(&self) -> Option<&[EndView]> {
        Some(self)
    }
}

fn print<H: Ends>(page: &Page<'_, H>, body: &[u8], unknown: &[(String, Option<String>)], screen: &mut Screen<'_>) -> io::Result<i32> {
    let mut code = if page.rows().all(|slot| is_well(slot.state)) { 0 } else { 3 };
    if !unknown.is_empty() {
        code = 4;
    }
    if screen.json {
        screen.out.write_all(body)?;
        writeln!(screen.out)?;
        return Ok(code);
    }
    for (name, near) in unknown {
        tell_unknown(name, near.as_deref(), screen)?;
    }
    let width = 3 + page.rows().map(|slot| slot.label().chars().count()).max().unwrap_or(0).max(30);
    let mut text = String::new();
    for slot in page.rows() {
        let label = slot.label();
        let row = format!("{label:<width$}{}{}", screen.state(slot.state, 10), about(slot, screen));
        text.push_str(row.trim_end());
        text.push('\n');
        if let Some(ends) = slot.history.ends() {
            details(slot, ends, screen, &mut text);
        }
    }
    screen.out.write_all(text.as_bytes())?;
    screen.out.flush()?;
    if page.rows().next().is_none() && unknown.is_empty() {
        screen.note("no workers: the definitions name no program")?;
    }
    if page.mood == Mood::ShuttingDown {
        screen.note("gangerd is shutting down")?;
    }
    for program in &page.programs {
        if let Some(rolling) = &program.rolling {
            let at = format!("rolling restart of {}: {} of {}", program.name, rolling.done, rolling.total);
            match &rolling.halted {
                None => screen.note(&at)?,
                Some(why) => screen.note(&format!("{at}, halted: {why}"))?,
            }
        }
    }
    if !page.faults.is_empty() {
        screen.note(&format!(
            "the last reload was refused ({}); the definitions before it are in force:",
            plural(page.faults.len() as u32, "error")
        ))?;
        for fault in &page.faults {
            screen.note(&format!("  {fault}"))?;
        }
    }
    Ok(code)
}

/// True for what `status` counts as running: Supervisor's RUNNING, STARTING and BACKOFF, and a singleton that stands by.
fn is_well(state: State) -> bool {
    match state {
        State::Running | State::Starting | State::Launching | State::Backoff | State::Waiting => true,
        State::Stopped | State::Stopping | State::Clearing | State::Exited | State::Fatal => false,
    }
}

/// The third column: why a slot is where it is.
fn about<H>(slot: &Row<'_, H>, screen: &Screen<'_>) -> String {
    let mut text = match (slot.state, slot.pid) {
        (State::Running, Some(pid)) => format!("pid {pid}, uptime {}", uptime(screen.since(slot.started))),
        (State::Stopped, _) if slot.reason.is_empty() && slot.starts == 0 => "Not started".to_owned(),
        (State::Stopped | State::Exited | State::Fatal, _) if slot.reason.is_empty() && slot.stopped != Stamp(0) => {
            format!("since {}", screen.time(slot.since))
        }
        _ => tame(&slot.reason),
    };
    if let Some(next) = slot.next_try {
        let left = next.0.saturating_sub(screen.now().0);
        // Rounded up to whole seconds, so that it never promises too early.
        let left = crate::model::time::Span::secs(u64::try_from(left).unwrap_or(0).div_ceil(1000));
        let when = if left.is_zero() { "next try now".to_owned() } else { format!("next try in {left}") };
        text = if text.is_empty() { when } else { format!("{text}; {when}") };
    }
    if let Some(trouble) = &slot.log_trouble {
        text = format!("{text}; log: {}", tame(trouble));
    }
    text
}

/// What `-v` adds under a row.
fn details<H>(slot: &Row<'_, H>, ends: &[EndView], screen: &Screen<'_>, page: &mut String) {
    let mut line = |text: String| {
        page.push_str("    ");
        page.push_str(&screen.dim(&text));
        page.push('\n');
    };
    let mut now = Vec::new();
    if slot.pid.is_some() {
        match slot.max_jobs {
            Some(max) => now.push(format!("jobs {} of {max}", slot.jobs)),
            None if slot.jobs > 0 || slot.job.is_some() => now.push(format!("jobs {}", slot.jobs)),
            // One that does not tell of jobs.
            None => {}
        }
        if slot.errors > 0 {
            now.push(format!("errors {}", slot.errors));
        }
        match (slot.memory, slot.max_memory) {
            (Some(memory), Some(max)) => now.push(format!("memory {memory} of {max}")),
            (Some(memory), None) => now.push(format!("memory {memory}")),
            (None, _) => {}
        }
        if let Some(cpu) = slot.cpu {
            now.push(format!("cpu {cpu}"));
        }
        match (slot.job.as_deref(), slot.job_since) {
            (None, _) => {}
            (Some(""), _) => now.push("idle".to_owned()),
            (Some(job), None) => now.push(format!("job {}", tame(job))),
            (Some(job), Some(at)) => now.push(format!("job {} for {}", tame(job), screen.since(at))),
        }
        if let Some(at) = slot.heartbeat {
            now.push(format!("heartbeat {} ago", screen.since(at)));
        }
        if !now.is_empty() {
            line(now.join(", "));
        }
        if let Some(status) = &slot.status {
            line(format!("says: {}", tame(status)));
        }
        if let Some(due) = &slot.due {
            line(format!("to be replaced: {}", tame(due)));
        }
    }
    if slot.starts > 1 || slot.total_jobs > 0 {
        line(format!("in all {} starts, {} jobs", slot.starts, slot.total_jobs));
    }
    for end in ends.iter().take(HISTORY_SHOWN) {
        line(format!("{}  pid {} after {}: {}", screen.time(end.at), end.pid, end.lived, tame(&end.text)));
    }
}

/// `pid [names]`: the daemon's, or each worker's, one number a line; 0 for one that does not run.
pub async fn pid(client: &Client, names: &[String], screen: &mut Screen<'_>) -> Result<io::Result<i32>, Trouble> {
    if names.is_empty() {
        let version: Version = client.read("/api/v1/version").await?;
        return Ok(screen.say(&version.pid.to_string()).map(|()| 0));
    }
    let picture = picture(client, names, false).await?;
    let unknown = nearest(client, &picture.unknown).await;
    Ok(print_pids(&picture, &unknown, screen))
}

fn print_pids(picture: &Picture, unknown: &[(String, Option<String>)], screen: &mut Screen<'_>) -> io::Result<i32> {
    let mut code = 0;
    let pids: Vec<(String, i32)> = picture.slots().map(|slot| (slot.label(), slot.pid.unwrap_or(0))).collect();
    if pids.iter().any(|(_, pid)| *pid == 0) {
        code = 7;
    }
    if screen.json {
        let rows: serde_json::Map<_, _> = pids.into_iter().map(|(name, pid)| (name, pid.into())).collect();
        screen.json(&rows.into())?;
    } else {
        for (_, pid) in pids {
            screen.say(&pid.to_string())?;
        }
    }
    for (name, near) in unknown {
        if screen.json {
            screen.note(&format!("No such process {name}"))?;
        } else {
            screen.say(&format!("No such process {name}"))?;
        }
        suggest(near.as_deref(), screen)?;
        code = 1;
    }
    Ok(code)
}

#[derive(Debug, Deserialize)]
struct Version {
    version: String,
    pid: i32,
}

/// `version`: the daemon's, as supervisorctl does.
pub async fn version(client: &Client, screen: &mut Screen<'_>) -> Result<io::Result<i32>, Trouble> {
    let body = client.fetch("/api/v1/version").await?;
    let odd = |why: serde_json::Error| Trouble::Odd { path: "/api/v1/version".into(), status: 200, text: why.to_string() };
    if screen.json {
        let value: serde_json::Value = serde_json::from_slice(&body).map_err(odd)?;
        return Ok(screen.json(&value).map(|()| 0));
    }
    let daemon: Version = serde_json::from_slice(&body).map_err(odd)?;
    let ours = env!("CARGO_PKG_VERSION");
    Ok((|| {
        screen.say(&daemon.version)?;
        if daemon.version != ours {
            screen.note(&format!("(this gangerctl is {ours})"))?;
        }
        Ok(0)
    })())
}

/// Each unknown name with what it might have meant. Costs a question, but only when somebody has mistyped.
pub async fn nearest(client: &Client, unknown: &[Unknown]) -> Vec<(String, Option<String>)> {
    let all = if unknown.iter().any(|name| matches!(name, Unknown::Name(_))) { picture(client, &[], false).await.ok() } else { None };
    let near = |name: &str| all.as_ref().and_then(|picture| resembling(name, picture));
    unknown
        .iter()
        .map(|unknown| match unknown {
            Unknown::Name(name) => (name.clone(), near(name)),
            Unknown::Near { name, nearest } => (name.clone(), nearest.clone()),
        })
        .collect()
}

/// The program, group or process whose name comes nearest to what was typed, if any is near at all.
fn resembling(name: &str, picture: &Picture) -> Option<String> {
    let typed = name.trim_end_matches(":*").trim_end_matches(':');
    let names = picture.programs.iter().flat_map(|program| {
        let own = [program.name.to_string(), program.group.to_string()];
        own.into_iter().chain(program.slots.iter().flat_map(|slot| [slot.label(), slot.process.clone()]))
    });
    names
        .map(|candidate| (strsim::damerau_levenshtein(typed, &candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count().max(3)) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Says that nothing has that name, in supervisorctl's words, and below what it might have meant.
pub fn tell_unknown(name: &str, near: Option<&str>, screen: &mut Screen<'_>) -> io::Result<()> {
    let line = match Target::read(name) {
        Target::Group(group) => format!("{group}: ERROR (no such group)"),
        Target::All | Target::Process { .. } | Target::Bare(_) => format!("{name}: ERROR (no such process)"),
    };
    screen.say(&line)?;
    suggest(near, screen)
}

pub fn suggest(near: Option<&str>, screen: &mut Screen<'_>) -> io::Result<()> {
    match near {
        Some(near) => screen.note(&format!("  did you mean {near}?")),
        None => Ok(()),
    }
}

/// Ends that `-v` shows of each slot.
const HISTORY_SHOWN: usize = 3;
