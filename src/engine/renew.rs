//! Everything anew in the same process: Supervisor's `restart` and its SIGHUP.
//!
//! The definitions are read first, so that a broken file stops nothing. Then everything stops, highest priority first, as in
//! a shutdown; and when all is empty it starts as if we had just come up: scaling, manual stops and given-up slots are
//! forgotten, autostart decides. A shutdown that is asked for meanwhile wins.

use super::effect::Effect;
use super::slot::Want;
use super::{Engine, Then};
use crate::model::name::ProgramName;
use crate::model::plan::Plan;
use crate::model::time::Now;
use crate::model::view::Mood;

impl Engine {
    /// All is stopped.
    pub(super) fn begin_anew(&mut self, plan: Plan, now: Now, effects: &mut Vec<Effect>) {
        self.closing = None;
        self.pending = None;
        self.out.clear();
        self.shown.mark_all();
        let diff = self.plan.diff(&plan);
        self.adopt(plan, diff, now, effects);
        let names: Vec<ProgramName> = self.programs.keys().cloned().collect();
        for name in names {
            let Some(program) = self.programs.get_mut(&name).filter(|program| !program.removed) else { continue };
            program.scaled = None;
            program.roll = None;
            let want = if program.spec.policy.autostart { Want::Up } else { Want::Down };
            self.resize(&name, "", now, effects);
            for id in self.ids(&name) {
                self.with(&id, now, effects, |slot, _, _| slot.begin_anew(want));
            }
            self.mark_program(&name);
        }
    }

    pub(super) fn mood(&self) -> Mood {
        match self.closing.as_ref().map(|closing| &closing.then) {
            None => Mood::Running,
            Some(Then::Renew(_)) => Mood::Renewing,
            Some(Then::Quit | Then::Gone) => Mood::ShuttingDown,
        }
    }

    /// What is said of a worker that stops because all do.
    pub(super) fn why_all_stop(&self) -> &'static str {
        match self.mood() {
            Mood::Renewing => "everything is started anew",
            Mood::Running | Mood::ShuttingDown => "the daemon is shutting down",
        }
    }
}
