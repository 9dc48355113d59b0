//! Situations written by hand, which read like the manual: given, when, after, expect.
//!
//! A scene is a world in fair weather with one or a few programs. `given("mailer", 3)` begins it, `having` writes its
//! definition, `staffed_with` casts its workers, `when` does something, `after` lets time pass, `expect` looks. All promises
//! of `invariants` are checked in every step here too.

use crate::world::{Character, World};
use ganger::model::command::{Answer, Command};
use ganger::model::exit::Exit;
use ganger::model::name::Target;
use ganger::model::notice::{Notice, Why};
use ganger::model::notify::Notify;
use ganger::model::plan::Plan;
use ganger::model::signal::Signal;
use ganger::model::spec::ProgramSpec;
use ganger::model::state::State;
use ganger::model::template::{Piece, Template};
use ganger::model::time::{Moment, Span};
use ganger::model::view::SlotView;
use std::sync::Arc;

pub struct Scene {
    pub world: World,
    plan: Plan,
    program: String,
    begun: bool,
    /// The last answer that a person got.
    pub answer: Option<Answer>,
    /// How many spawns an `expect` has looked at.
    spawns_seen: u64,
}

/// A program of `count` slots, everything else at its default.
pub fn given(name: &str, count: u32) -> Scene {
    let scene = Scene { world: World::new(7), plan: Plan::default(), program: name.into(), begun: false, answer: None, spawns_seen: 0 };
    scene.and(name, count)
}

pub fn program(name: &str, count: u32) -> ProgramSpec {
    let mut spec = ProgramSpec::new(name, vec![Template::text("php"), Template::text("worker.php")]);
    if count != 1 {
        spec.process_name = Template(vec![Piece::Text(format!("{name}_")), Piece::Number { zero: true, width: 2 }]);
    }
    spec.policy.numprocs = count;
    spec
}

impl Scene {
    /// Another program; the sentences that follow are about this one.
    pub fn and(mut self, name: &str, count: u32) -> Scene {
        let spec = program(name, count);
        self.program = name.into();
        self.plan.programs.insert(spec.name.clone(), Arc::new(spec));
        self
    }

    /// Writes into the definition; before the begin, or for the next reload.
    pub fn having(mut self, write: impl FnOnce(&mut ProgramSpec)) -> Scene {
        let name = self.program.clone();
        self.edit(&name, write);
        self
    }

    pub fn edit(&mut self, name: &str, write: impl FnOnce(&mut ProgramSpec)) {
        let spec = self.plan.programs.values_mut().find(|spec| spec.name.as_str() == name);
        write(Arc::make_mut(spec.expect("the scene has that program")));
    }

    /// Takes a program out of the definitions.
    pub fn without(mut self, name: &str) -> Scene {
        self.plan.programs.retain(|key, _| key.as_str() != name);
        self
    }

    /// What all further workers are like.
    pub fn staffed_with(mut self, write: impl FnOnce(&mut Character)) -> Scene {
        self.world.usual = Character::good();
        write(&mut self.world.usual);
        self
    }

    /// What the next worker is like; later ones are as usual again.
    pub fn next_is(mut self, write: impl FnOnce(&mut Character)) -> Scene {
        let mut character = Character::good();
        write(&mut character);
        self.world.casting.push_back(character);
        self
    }

    fn begin(&mut self) {
        if !self.begun {
            self.begun = true;
            self.world.definitions = Ok(self.plan.clone());
            self.world.boot();
        }
    }

    /// Something happens now.
    pub fn when(mut self, act: impl FnOnce(&mut Scene)) -> Scene {
        self.begin();
        act(&mut self);
        self
    }

    /// Time passes.
    pub fn after(mut self, span: Span) -> Scene {
        self.begin();
        let until = self.world.now.moment + span;
        self.world.run_until(until);
        self
    }

    /// Looks, and panics with what it saw when it is not so.
    pub fn expect(mut self, look: impl FnOnce(&mut Scene)) -> Scene {
        self.begin();
        look(&mut self);
        self
    }

    pub fn slot(&mut self, number: u32) -> Arc<SlotView> {
        let name = self.program.clone();
        self.world.slot(&name, number)
    }

    pub fn pid(&mut self, number: u32) -> i32 {
        self.slot(number).pid.expect("a worker is in the slot")
    }

    pub fn notices(&self) -> Vec<Notice> {
        self.world.notices.clone()
    }
}

pub fn seconds(n: u64) -> Span {
    Span::secs(n)
}

pub fn millis(n: u64) -> Span {
    Span::millis(n)
}

// What may happen.

/// The worker in the slot ends with this code.
pub fn exits(number: u32, code: i32) -> impl FnOnce(&mut Scene) {
    ends(number, Exit::Code(code))
}

pub fn ends(number: u32, exit: Exit) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let pid = scene.pid(number);
        let run = scene.slot(number).run.expect("a life");
        scene.world.die(pid, run, exit);
    }
}

/// The worker in the slot sends a datagram.
pub fn says(number: u32, text: &str) -> impl FnOnce(&mut Scene) {
    let told = Notify::parse(text.as_bytes());
    move |scene| {
        let pid = scene.pid(number);
        scene.world.tell(pid, told);
        let now = scene.world.now.moment;
        scene.world.run_until(now);
    }
}

pub fn asked(command: Command) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let (ticket, answer) = scene.world.ask("root (uid 0)", command);
        let now = scene.world.now.moment;
        scene.world.run_until(now);
        scene.answer = answer.or_else(|| scene.world.answers.remove(&ticket));
    }
}

pub fn start(target: &str) -> impl FnOnce(&mut Scene) {
    asked(Command::Start { targets: vec![Target::read(target)] })
}

pub fn stop(target: &str) -> impl FnOnce(&mut Scene) {
    asked(Command::Stop { targets: vec![Target::read(target)] })
}

pub fn restart(target: &str) -> impl FnOnce(&mut Scene) {
    asked(Command::Restart { targets: vec![Target::read(target)] })
}

/// The definitions, as the scene has them now, are read again.
pub fn reload(dry: bool) -> impl FnOnce(&mut Scene) {
    move |scene| {
        scene.world.definitions = Ok(scene.plan.clone());
        asked(Command::Reload { dry })(scene);
    }
}

pub fn reload_with_errors(lines: &[&str]) -> impl FnOnce(&mut Scene) {
    let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    move |scene| {
        scene.world.definitions = Err(lines);
        asked(Command::Reload { dry: false })(scene);
    }
}

// What may be seen.

pub fn is(number: u32, state: State) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let slot = scene.slot(number);
        assert_eq!(slot.state, state, "slot {number}: {:?}", slot.reason);
    }
}

pub fn all_are(state: State) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let view = scene.world.view();
        let program = view.programs.iter().find(|program| program.name.as_str() == scene.program).expect("the program is shown");
        for slot in &program.slots {
            assert_eq!(slot.state, state, "{}: {:?}", slot.label(), slot.reason);
        }
    }
}

pub fn reason(number: u32, text: &str) -> impl FnOnce(&mut Scene) {
    move |scene| assert_eq!(scene.slot(number).reason, text)
}

/// So many spawns since the last time somebody looked.
pub fn spawned(count: u64) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let all = scene.world.spawns;
        assert_eq!(all - std::mem::replace(&mut scene.spawns_seen, all), count, "spawns since the last look");
    }
}

/// The worker in the slot has been sent just these.
pub fn received(number: u32, signals: &[Signal]) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let pid = scene.pid(number);
        assert_eq!(scene.world.procs[&pid].asked, signals);
    }
}

/// The newest end of the slot: why, and in words.
pub fn ended(number: u32, why: Why, text: &str) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let slot = scene.slot(number);
        let end = slot.history.first().expect("a worker has ended");
        assert_eq!((end.why, end.text.as_str()), (why, text));
    }
}

/// How many of the program are in this state.
pub fn count(state: State, count: usize) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let view = scene.world.view();
        let slots: Vec<_> = view.slots().filter(|slot| slot.program.as_str() == scene.program).collect();
        let shown: Vec<_> = slots.iter().map(|slot| (slot.number, slot.state)).collect();
        assert_eq!(slots.iter().filter(|slot| slot.state == state).count(), count, "{state}: {shown:?}");
    }
}

/// The numbers of the program's slots.
pub fn numbers(expected: &[u32]) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let view = scene.world.view();
        let shown: Vec<u32> = view.slots().filter(|slot| slot.program.as_str() == scene.program).map(|slot| slot.number).collect();
        assert_eq!(shown, expected);
    }
}

/// Somewhere in what was told so far there is this.
pub fn told(text: &str) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let lines: Vec<String> = scene.notices().iter().map(Notice::to_string).collect();
        assert!(lines.iter().any(|line| line.contains(text)), "{text:?} was never told in:\n{}", lines.join("\n"));
    }
}

pub fn next_deadline(at: Option<Moment>) -> impl FnOnce(&mut Scene) {
    move |scene| assert_eq!(scene.world.engine.next_deadline(), at)
}
