//! A small fleet at one moment: what the screens show.

use ganger::model::exit::Exit;
use ganger::model::name::{GroupName, ProgramName, RunId, SlotId};
use ganger::model::notice::{Notice, What, Why};
use ganger::model::state::State;
use ganger::model::time::{Span, Stamp};
use ganger::model::units::Bytes;
use ganger::model::view::{EndView, Mood, ProgramView, SlotView, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// 2027-01-15 08:00:00 UTC.
pub const NOW: Stamp = Stamp(1_800_000_000_000);

/// So many milliseconds before `NOW`.
pub fn ago(ms: i64) -> Stamp {
    Stamp(NOW.0 - ms)
}

pub fn slot(program: &str, process: &str, number: u32, state: State) -> SlotView {
    let worker = state.holds_worker();
    SlotView {
        program: ProgramName::new(program),
        number,
        group: GroupName::new(program),
        process: process.to_owned(),
        state,
        reason: String::new(),
        wanted: state != State::Stopped,
        since: ago(3_723_000),
        pid: worker.then_some(1000 + number as i32),
        run: worker.then_some(RunId(u64::from(number) + 1)),
        started: ago(3_724_500),
        stopped: Stamp(0),
        exit: None,
        tries: 0,
        next_try: None,
        jobs: 0,
        errors: 0,
        max_jobs: None,
        job: None,
        job_since: None,
        status: None,
        heartbeat: None,
        memory: None,
        max_memory: None,
        cpu: None,
        due: None,
        starts: 1,
        total_jobs: 0,
        log_trouble: None,
        history: Vec::new(),
    }
}

pub fn program(name: &str, slots: Vec<SlotView>) -> ProgramView {
    ProgramView {
        name: ProgramName::new(name),
        group: GroupName::new(name),
        command: format!("php {name}.php"),
        priority: 999,
        wanted: slots.len() as u32,
        numprocs: slots.len() as u32,
        running: slots.iter().filter(|slot| slot.state == State::Running).count() as u32,
        jobs: 0,
        errors: 0,
        ended: BTreeMap::new(),
        rolling: None,
        slots: slots.into_iter().map(Arc::new).collect(),
    }
}

pub fn view(programs: Vec<ProgramView>) -> View {
    View {
        seq: 100,
        at: NOW,
        started: ago(86_400_000),
        mood: Mood::Running,
        loaded: ago(86_400_000),
        faults: Vec::new(),
        programs: programs.into_iter().map(Arc::new).collect(),
    }
}

/// Four mail workers of which `n` are in this state, the others run.
pub fn mailers(n: u32, state: State) -> ProgramView {
    let slots = (0..4).map(|i| slot("mailer", &format!("mailer_{i:02}"), i, if i < n { state } else { State::Running }));
    program("mailer", slots.collect())
}

/// One of everything.
pub fn zoo() -> View {
    let mut busy = slot("mailer", "mailer_00", 0, State::Running);
    busy = SlotView {
        jobs: 1377,
        errors: 3,
        max_jobs: Some(1412),
        job: Some("mail-4711".into()),
        job_since: Some(ago(4_200)),
        heartbeat: Some(ago(1_900)),
        status: Some("sending to \x1b[31mexample.org".into()),
        memory: Some(Bytes::mib(61)),
        max_memory: Some(Bytes::mib(128)),
        cpu: Some(Span::secs(62)),
        starts: 7,
        total_jobs: 9_120,
        history: vec![
            end(3_725_000, 991, Exit::Code(0), 7_300_000, Why::Jobs, "recycled: jobs 1290 of 1290"),
            end(11_100_000, 870, Exit::Signal("SEGV".parse().unwrap()), 90_000, Why::Crash, "killed by SIGSEGV after 1m30s"),
        ],
        ..busy
    };
    let mut due = slot("mailer", "mailer_01", 1, State::Running);
    due.due = Some("memory 131.0 MB over 128.0 MB".into());
    due.job = Some(String::new());
    due.started = ago(2 * 86_400_000 + 10_500);
    due.log_trouble = Some("/var/log/mailer_01.log: no space left on device, 12 lines lost".into());
    let mut backoff = slot("import", "import", 0, State::Backoff);
    backoff.reason = "exited 255 after 0.2 s, 3rd time".into();
    backoff.next_try = Some(Stamp(NOW.0 + 3_400));
    let mut fatal = slot("geo", "geo", 0, State::Fatal);
    fatal.reason = "cannot start geo: ./geo.php: permission denied (user \"www-data\"); is the file executable?".into();
    let mut waiting = slot("cleanup", "cleanup", 0, State::Waiting);
    waiting.reason = "lock port:3801 held by pid 3117".into();
    waiting.next_try = Some(Stamp(NOW.0 + 900));
    let mut exited = slot("once", "once", 0, State::Exited);
    exited.reason = "exited 0 after 2m05s".into();
    let mut stopped = slot("report", "report", 0, State::Stopped);
    stopped.reason = "stopped by root (uid 0)".into();
    let mut never = slot("spare", "spare", 0, State::Stopped);
    never.starts = 0;
    let mut stopping = slot("video", "video_00", 0, State::Stopping);
    stopping.reason = "SIGTERM sent, SIGKILL in 8 s; to be replaced: lifetime".into();
    let mut starting = slot("video", "video_01", 1, State::Starting);
    starting.reason = "waiting for READY=1".into();
    view(vec![
        program("cleanup", vec![waiting]),
        program("geo", vec![fatal]),
        program("import", vec![backoff]),
        program("mailer", vec![busy, due]),
        program("once", vec![exited]),
        program("report", vec![stopped]),
        program("spare", vec![never]),
        program("video", vec![stopping, starting]),
    ])
}

fn end(ago_ms: i64, pid: i32, exit: Exit, lived_ms: u64, why: Why, text: &str) -> EndView {
    EndView { at: ago(ago_ms), pid, exit, lived: Span(lived_ms), why, text: text.into() }
}

/// A change of state as the daemon tells it.
pub fn went(seq: u64, label: &str, from: State, to: State, run: Option<u64>, reason: &str) -> Notice {
    notice(seq, label, What::State { from, to, reason: reason.into(), pid: None, run: run.map(RunId), tries: 0 })
}

pub fn notice(seq: u64, label: &str, what: What) -> Notice {
    let program = label.split(':').next().unwrap();
    let slot = (!program.is_empty()).then(|| SlotId::new(&ProgramName::new(program), 0));
    Notice { seq, at: ago((110 - i64::try_from(seq).unwrap()) * 5_000), about: label.into(), slot, what }
}
