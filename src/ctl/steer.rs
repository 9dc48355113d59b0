//! `start`, `stop`, `restart`, `recycle`, `signal`, `shutdown`: what shall be.
//!
//! The daemon answers a command at once with what it set going. Who waits for the end is this file: it opens the
//! stream of notices *before* it asks, so that nothing is missed, and judges each slot by the states it goes
//! through. There is no polling. Words and exit codes are supervisorctl's.

use crate::ctl::client::{Client, Trouble};
use crate::ctl::screen::Screen;
use crate::ctl::status::{self, Picture, picture};
use crate::ctl::watch::{Told, Watch};
use crate::model::command::{Batch, Command, Outcome, Refusal, Reply};
use crate::model::name::{RunId, Target};
use crate::model::notice::{Notice, What};
use crate::model::signal::Signal;
use crate::model::state::State;
use crate::model::time::{Span, Stamp};
use crate::model::view::SlotView;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What is waited for, in every slot that was set going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    Started,
    Stopped,
    /// Stopped first, both told, as supervisorctl's `restart`.
    Restarted,
    /// Replaced by another worker, one after the other.
    Rolled,
    Recycled,
}

/// How long to wait for the goal.
#[derive(Clone, Copy, Debug)]
pub enum Patience {
    None,
    Until(Option<Span>),
}

/// A line of the outcome.
#[derive(Debug)]
struct Line {
    name: String,
    /// `started`, or why not.
    word: &'static str,
    error: bool,
    /// More, in words; empty if there is none.
    reason: String,
}

/// `start`, `stop`, `restart`, `restart --rolling`, `recycle`.
pub async fn steer(
    client: &Client,
    names: &[String],
    goal: Goal,
    batch: Batch,
    patience: Patience,
    screen: &mut Screen<'_>,
) -> Result<io::Result<i32>, Trouble> {
    let targets: Vec<Target> = names.iter().map(|name| Target::read(name)).collect();
    let command = match goal {
        Goal::Started => Command::Start { targets },
        Goal::Stopped => Command::Stop { targets },
        Goal::Restarted => Command::Restart { targets },
        Goal::Rolled => Command::Roll { targets, batch },
        Goal::Recycled => Command::Recycle { targets },
    };
    let mut report =
        Report { goal, whole: names.iter().all(|name| !matches!(Target::read(name), Target::Process { .. })), lines: Vec::new(), code: 0 };
    let Patience::Until(limit) = patience else {
        let outcomes = outcomes(client.ask(&command).await?)?;
        return Ok(report.answered(&outcomes, None, screen).and_then(|_| report.close(screen)));
    };
    let mut watch = Watch::open(client, None).await?;
    let before = picture(client, names, false).await?;
    let outcomes = outcomes(client.ask(&command).await?)?;
    let mut awaited = match report.answered(&outcomes, Some(&before), screen) {
        Ok(awaited) => awaited,
        Err(why) => return Ok(Err(why)),
    };
    let total = awaited.len();
    let clock = alarm(limit);
    tokio::pin!(clock);
    // STOPPED is on the way of every restart, and the end of it where somebody else stops what we want to run: only the
    // picture tells which.
    let mut beat = tokio::time::interval(std::time::Duration::from_secs(1));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut look = true;
    // What was told up to the picture that we compare with is old news.
    let mut old = before.seq;
    loop {
        if look {
            let now = picture(client, names, false).await?;
            if let Err(why) = report.looked(&mut awaited, &now, &before, screen) {
                return Ok(Err(why));
            }
            look = false;
        }
        if awaited.is_empty() {
            break;
        }
        if let Err(why) = screen.show(&progress(&awaited, total)) {
            return Ok(Err(why));
        }
        let told = tokio::select! {
            told = watch.next() => told?,
            _ = beat.tick(), if awaited.iter().any(|one| one.state == State::Stopped) => {
                look = true;
                continue;
            }
            () = &mut clock => {
                let told = report.late(&awaited, limit, screen);
                return Ok(told.and_then(|()| report.close(screen)));
            }
        };
        match told {
            // Perhaps a new daemon, which may count from one again.
            Told::Resync => (look, old) = (true, 0),
            Told::Notice(notice, _) if notice.seq <= old => {}
            Told::Notice(notice, _) => {
                if let Err(why) = report.heard(&mut awaited, &notice, screen) {
                    return Ok(Err(why));
                }
            }
        }
    }
    Ok(report.close(screen))
}

/// A slot that was set going.
#[derive(Debug)]
struct Awaited {
    label: String,
    program: String,
    /// How it was before we asked.
    before: Option<Arc<SlotView>>,
    state: State,
    /// Its old worker is gone (`restart`).
    gone: bool,
    /// The start failed before there was a process.
    spawn_failed: bool,
}

/// What a slot has come to.
enum Verdict {
    Pending,
    Done,
    Failed(&'static str),
}

impl Awaited {
    /// Judges a state that the slot is in now.
    fn judge(&mut self, goal: Goal, state: State, run: Option<RunId>) -> Verdict {
        self.state = state;
        let failed = if self.spawn_failed { "spawn error" } else { "abnormal termination" };
        match goal {
            Goal::Stopped => match state {
                State::Stopped | State::Exited | State::Fatal => Verdict::Done,
                State::Launching
                | State::Waiting
                | State::Starting
                | State::Running
                | State::Backoff
                | State::Stopping
                | State::Clearing => Verdict::Pending,
            },
            Goal::Started | Goal::Restarted | Goal::Rolled | Goal::Recycled => {
                // The old worker's own end is not what we wait for.
                let old = self.before.as_ref().and_then(|slot| slot.run);
                let replaced = goal == Goal::Started || old.is_none() || run != old;
                match state {
                    State::Running if replaced => Verdict::Done,
                    State::Backoff | State::Fatal | State::Exited => Verdict::Failed(failed),
                    State::Waiting => Verdict::Failed("waiting for its lock"),
                    State::Running | State::Stopped | State::Launching | State::Starting | State::Stopping | State::Clearing => {
                        Verdict::Pending
                    }
                }
            }
        }
    }
}

/// What is told of an errand, and the exit code that comes of it.
struct Report {
    goal: Goal,
    /// Only groups and `all` were named: then who is already there goes without saying.
    whole: bool,
    lines: Vec<Line>,
    code: i32,
}

impl Report {
    /// Tells what was refused; gives back what was set going.
    fn answered(&mut self, outcomes: &[Outcome], before: Option<&Picture>, screen: &mut Screen<'_>) -> io::Result<Vec<Awaited>> {
        let many = outcomes.len() > 1;
        let mut awaited = Vec::new();
        for outcome in outcomes {
            match &outcome.refused {
                None if before.is_none() => self.tell(&outcome.name, self.goal.asked(), None, "", screen)?,
                None => {
                    let slot = before.and_then(|picture| picture.slot(&outcome.name)).cloned();
                    let ran = slot.as_ref().is_some_and(|slot| slot.state.holds_worker() || slot.state == State::Backoff);
                    if self.goal == Goal::Restarted && !ran && !(self.whole && many) {
                        self.tell(&outcome.name, "not running", Some(0), "", screen)?;
                    }
                    awaited.push(Awaited {
                        label: outcome.name.clone(),
                        program: slot.as_ref().map(|slot| slot.program.to_string()).unwrap_or_default(),
                        state: slot.as_ref().map_or(State::Stopped, |slot| slot.state),
                        gone: !ran,
                        before: slot,
                        spawn_failed: false,
                    });
                }
                Some(Refusal::NoSuch { name, nearest }) => {
                    self.code = match Target::read(name) {
                        Target::Group(_) if self.goal == Goal::Started => 2,
                        Target::Group(_) | Target::All | Target::Process { .. } | Target::Bare(_) => 1,
                    };
                    self.lines.push(Line { name: name.clone(), word: "no such process", error: true, reason: String::new() });
                    if !screen.json {
                        status::tell_unknown(name, nearest.as_deref(), screen)?;
                    }
                }
                Some(Refusal::AlreadyStarted | Refusal::NotRunning) if self.whole && many => {}
                Some(Refusal::AlreadyStarted) => self.tell(&outcome.name, "already started", Some(0), "", screen)?,
                Some(Refusal::NotRunning) => self.tell(&outcome.name, "not running", Some(0), "", screen)?,
                Some(other) => self.tell(&outcome.name, "refused", Some(1), &other.to_string(), screen)?,
            }
        }
        Ok(awaited)
    }

    /// Judges by a look at the view. A slot that is as it was before we asked may simply not have been reached yet.
    fn looked(&mut self, awaited: &mut Vec<Awaited>, now: &Picture, before: &Picture, screen: &mut Screen<'_>) -> io::Result<()> {
        for mut one in std::mem::take(awaited) {
            let Some(slot) = now.slot(&one.label) else {
                match self.goal {
                    Goal::Stopped => self.tell(&one.label, "stopped", None, "", screen)?,
                    Goal::Started | Goal::Restarted | Goal::Rolled | Goal::Recycled => {
                        self.tell(&one.label, "no such process", Some(1), "it was scaled away, or its definition is gone", screen)?;
                    }
                }
                continue;
            };
            if one.before.as_ref().is_some_and(|b| (b.state, b.since, b.run) == (slot.state, slot.since, slot.run)) {
                awaited.push(one);
                continue;
            }
            if self.goal != Goal::Stopped && slot.state == State::Stopped && !slot.wanted {
                self.tell(&one.label, "stopped meanwhile", Some(1), &slot.reason, screen)?;
                continue;
            }
            one.spawn_failed |= slot.state.is_empty() && one.before.as_ref().is_some_and(|b| b.started == slot.started);
            let next = slot.next_try;
            self.settle(awaited, one, slot.state, slot.run, &with_next(&slot.reason, next, screen), screen)?;
        }
        let halted: Vec<_> = now
            .programs
            .iter()
            .filter_map(|program| {
                let rolling = program.rolling.as_ref().filter(|_| self.goal == Goal::Rolled)?;
                let earlier = before.program(program.name.as_str()).and_then(|b| b.rolling.as_ref());
                let why = rolling.halted.clone().filter(|_| earlier != Some(rolling))?;
                Some((program.name.to_string(), rolling.done, rolling.total, why))
            })
            .collect();
        for (program, done, total, why) in halted {
            self.halted(awaited, &program, done, total, &why, screen)?;
        }
        Ok(())
    }

    /// Judges by a notice.
    fn heard(&mut self, awaited: &mut Vec<Awaited>, notice: &Notice, screen: &mut Screen<'_>) -> io::Result<()> {
        if let (What::Rolling { done, total, halted: Some(why) }, Goal::Rolled) = (&notice.what, self.goal) {
            return self.halted(awaited, &notice.about, *done, *total, why, screen);
        }
        let Some(at) = awaited.iter().position(|one| one.label == notice.about) else { return Ok(()) };
        match &notice.what {
            What::SpawnFailed { .. } => awaited[at].spawn_failed = true,
            What::Spawned { .. } => awaited[at].spawn_failed = false,
            What::State { to, reason, run, .. } => {
                let one = awaited.remove(at);
                self.settle(awaited, one, *to, *run, reason, screen)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Tells what came of a slot, or puts it back.
    fn settle(
        &mut self,
        awaited: &mut Vec<Awaited>,
        mut one: Awaited,
        state: State,
        run: Option<RunId>,
        reason: &str,
        screen: &mut Screen<'_>,
    ) -> io::Result<()> {
        let verdict = one.judge(self.goal, state, run);
        let over = state.is_empty() || matches!(verdict, Verdict::Done | Verdict::Failed(_)) || state == State::Launching;
        if self.goal == Goal::Restarted && !one.gone && over {
            one.gone = true;
            self.tell(&one.label, "stopped", None, "", screen)?;
        }
        match verdict {
            Verdict::Pending => {
                awaited.push(one);
                Ok(())
            }
            Verdict::Done => self.tell(&one.label, self.goal.done(), None, "", screen),
            Verdict::Failed(word) => self.tell(&one.label, word, Some(7), &format!("{state}: {reason}"), screen),
        }
    }

    fn halted(
        &mut self,
        awaited: &mut Vec<Awaited>,
        program: &str,
        done: u32,
        total: u32,
        why: &str,
        screen: &mut Screen<'_>,
    ) -> io::Result<()> {
        let (hit, rest) = std::mem::take(awaited).into_iter().partition(|one| one.program == program);
        *awaited = rest;
        for one in hit {
            self.tell(&one.label, "not restarted", Some(1), "", screen)?;
        }
        self.code = 1;
        screen.note(&format!("rolling restart of {program} halted at {done} of {total}: {why}; the others were left running as they were"))
    }

    /// The time is up.
    fn late(&mut self, awaited: &[Awaited], limit: Option<Span>, screen: &mut Screen<'_>) -> io::Result<()> {
        let limit = limit.unwrap_or_default();
        for one in awaited {
            self.tell(&one.label, "timeout", Some(1), &format!("still {} after {limit}; the daemon goes on with it", one.state), screen)?;
        }
        Ok(())
    }

    /// A line: `x: started`, or with a code `x: ERROR (…)`.
    fn tell(&mut self, name: &str, word: &'static str, error: Option<i32>, reason: &str, screen: &mut Screen<'_>) -> io::Result<()> {
        if let Some(code) = error.filter(|code| *code != 0) {
            self.code = code;
        }
        self.lines.push(Line { name: name.to_owned(), word, error: error.is_some(), reason: reason.to_owned() });
        if screen.json {
            return Ok(());
        }
        match error {
            None => screen.say(&format!("{name}: {word}"))?,
            Some(_) => screen.say(&format!("{name}: ERROR ({word})"))?,
        }
        if reason.is_empty() {
            Ok(())
        } else if reason.contains(name) {
            // A reason such as `cannot start mailer:mailer_03: …` names it already.
            screen.note(&format!("  {reason}"))
        } else {
            screen.note(&format!("  {name}: {reason}"))
        }
    }

    fn close(&mut self, screen: &mut Screen<'_>) -> io::Result<i32> {
        screen.wipe()?;
        if screen.json {
            let rows: Vec<_> = self
                .lines
                .iter()
                .map(|line| serde_json::json!({ "name": line.name, "ok": !line.error, "result": line.word, "reason": line.reason }))
                .collect();
            screen.json(&serde_json::json!({ "outcomes": rows }))?;
        } else if self.lines.is_empty() {
            screen.note(self.goal.nothing())?;
        }
        Ok(self.code)
    }
}

impl Goal {
    fn done(self) -> &'static str {
        match self {
            Goal::Started | Goal::Restarted => "started",
            Goal::Stopped => "stopped",
            Goal::Rolled => "restarted",
            Goal::Recycled => "recycled",
        }
    }

    /// What is said when nobody waits.
    fn asked(self) -> &'static str {
        match self {
            Goal::Started => "starting",
            Goal::Stopped => "stopping",
            Goal::Restarted => "restarting",
            Goal::Rolled | Goal::Recycled => "to be replaced",
        }
    }

    fn nothing(self) -> &'static str {
        match self {
            Goal::Started => "nothing to start: all of them run",
            Goal::Stopped => "nothing to stop: none of them runs",
            Goal::Restarted | Goal::Rolled | Goal::Recycled => "nothing to replace: none of them runs",
        }
    }
}

fn outcomes(reply: Reply) -> Result<Vec<Outcome>, Trouble> {
    match reply {
        Reply::Outcomes(outcomes) => Ok(outcomes),
        Reply::Scaled { .. } | Reply::Changes(_) | Reply::Groups { .. } | Reply::Done => Err(odd(&reply)),
    }
}

pub fn odd(reply: &Reply) -> Trouble {
    Trouble::Odd { path: "a command".to_owned(), status: 200, text: format!("{reply:?}") }
}

fn with_next(reason: &str, next: Option<Stamp>, screen: &Screen<'_>) -> String {
    match next.map(|next| next.0.saturating_sub(screen.now().0)) {
        Some(left) if left > 0 => format!("{reason}; next try in {}", Span::secs((left as u64).div_ceil(1000))),
        Some(_) | None => reason.to_owned(),
    }
}

fn progress(awaited: &[Awaited], total: usize) -> String {
    let first = &awaited[0];
    format!("{} of {total} done; {} is {}", total - awaited.len(), first.label, first.state)
}

/// Comes back when the time is up; never without a limit.
pub async fn alarm(limit: Option<Span>) {
    match limit {
        Some(limit) => tokio::time::sleep(Duration::from_millis(limit.0)).await,
        None => std::future::pending().await,
    }
}

/// `signal SIG names`.
pub async fn signal(client: &Client, signal: &str, names: &[String], screen: &mut Screen<'_>) -> Result<io::Result<i32>, Trouble> {
    let Ok(read) = signal.parse::<Signal>() else {
        return Ok((|| {
            for name in names {
                screen.say(&format!("{name}: ERROR (bad signal name)"))?;
            }
            screen.note(&format!("  found {signal}, expected a signal such as HUP, SIGHUP or 1"))?;
            Ok(1)
        })());
    };
    let targets = names.iter().map(|name| Target::read(name)).collect();
    let outcomes = outcomes(client.ask(&Command::Signal { targets, signal: read }).await?)?;
    Ok(print_outcomes(&outcomes, "signalled", screen))
}

/// One line for each process: `word`, or why not.
pub fn print_outcomes(outcomes: &[Outcome], word: &str, screen: &mut Screen<'_>) -> io::Result<i32> {
    let mut code = 0;
    let mut rows = Vec::new();
    for outcome in outcomes {
        let name = &outcome.name;
        let result = outcome.refused.as_ref().map_or(word.to_owned(), |refusal| refusal.to_string());
        rows.push(serde_json::json!({ "name": name, "ok": outcome.refused.is_none(), "result": result, "reason": "" }));
        match &outcome.refused {
            None if screen.json => {}
            None => screen.say(&format!("{name}: {word}"))?,
            Some(refusal) => {
                code = if matches!(refusal, Refusal::NotRunning) { 7 } else { 1 };
                match refusal {
                    _ if screen.json => {}
                    Refusal::NoSuch { name, nearest } => status::tell_unknown(name, nearest.as_deref(), screen)?,
                    other => screen.say(&format!("{name}: ERROR ({other})"))?,
                }
            }
        }
    }
    if screen.json {
        screen.json(&serde_json::json!({ "outcomes": rows }))?;
    }
    Ok(code)
}

/// `shutdown`.
pub async fn shutdown(client: &Client, wait: bool, screen: &mut Screen<'_>) -> Result<io::Result<i32>, Trouble> {
    let watch = if wait { Some(Watch::open(client, None).await?) } else { None };
    client.ask(&Command::Shutdown).await?;
    if let Some(watch) = watch {
        if let Err(why) = screen.show("waiting for the workers to end") {
            return Ok(Err(why));
        }
        watch.end().await;
    }
    let said = if screen.json { screen.json(&serde_json::json!({ "ok": true })) } else { screen.say("Shut down") };
    Ok(said.map(|()| 0))
}
