//! Small views and notices for the tests of the doors.

use crate::model::name::{GroupName, ProgramName, RunId, SlotId};
use crate::model::notice::{Notice, What, Why};
use crate::model::state::State;
use crate::model::time::{Span, Stamp};
use crate::model::units::Bytes;
use crate::model::view::{ProgramView, SlotView, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A view of running programs: name, group, processes.
pub fn view(programs: &[(&str, &str, &[&str])]) -> View {
    let programs = programs.iter().map(|(name, group, processes)| Arc::new(program(name, group, processes))).collect();
    View { seq: 7, at: Stamp(1_000), started: Stamp(500), loaded: Stamp(600), programs, ..View::default() }
}

fn program(name: &str, group: &str, processes: &[&str]) -> ProgramView {
    let count = u32::try_from(processes.len()).expect("few");
    ProgramView {
        name: ProgramName::new(name),
        group: GroupName::new(group),
        command: "php worker.php".into(),
        priority: 999,
        wanted: count,
        numprocs: count,
        running: count,
        jobs: 12,
        errors: 2,
        ended: BTreeMap::from([(Why::Crash, 1), (Why::JobTimeout, 3)]),
        rolling: None,
        slots: processes.iter().zip(0..).map(|(process, number)| Arc::new(slot(name, group, process, number))).collect(),
    }
}

fn slot(program: &str, group: &str, process: &str, number: u32) -> SlotView {
    SlotView {
        program: ProgramName::new(program),
        number,
        group: GroupName::new(group),
        process: process.into(),
        state: State::Running,
        reason: String::new(),
        wanted: true,
        since: Stamp(900),
        pid: Some(4711),
        run: Some(RunId(3)),
        started: Stamp(1_500),
        stopped: Stamp(0),
        exit: None,
        tries: 0,
        next_try: None,
        jobs: 12,
        errors: 2,
        max_jobs: None,
        job: None,
        job_since: None,
        status: None,
        heartbeat: Some(Stamp(2_000)),
        memory: Some(Bytes::mib(32)),
        max_memory: None,
        cpu: Some(Span(1_250)),
        due: None,
        starts: 1,
        total_jobs: 12,
        log_trouble: None,
        history: Vec::new(),
    }
}

/// A notice about `group:process` of the program that is called like the group.
pub fn notice(seq: u64, about: &str) -> Arc<Notice> {
    let program = about.split(':').next().unwrap_or(about);
    let slot = Some(SlotId::new(&ProgramName::new(program), 0));
    Arc::new(Notice { seq, at: Stamp(1_000), about: about.into(), slot, what: What::Due { reason: format!("notice\n{seq}") } })
}
