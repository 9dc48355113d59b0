//! The simulator: the production engine, a virtual clock, a fake kernel, chaos, and promises checked after every step.
//!
//! `cargo test --test sim` takes a million steps on fixed seeds, and plays the situations of the manual, which are written by
//! hand. `SIM_SEED=n cargo test --test sim replay -- --nocapture` tells the whole story of one seed; `SIM_STEPS=n` takes that many
//! steps instead (with `SIM_SEED` on that seed, without on fresh ones). A seed that failed once stays below, under a name.

mod chaos;
mod invariants;
mod manual;
mod scene;
mod story;
mod world;

use chaos::{Fleet, Weather};
use ganger::model::command::{Command, Reply};
use ganger::model::state::State;
use ganger::model::time::Span;
use ganger::model::view::{ProgramView, SlotView};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use world::World;

/// Few slots and much mischief, so that everything meets everything.
const SMALL: Fleet = Fleet { programs: 6, widest: 4, peace: Span::secs(4), handover: 400, timeless: false };

/// A few slots that are pestered without a pause.
const TINY: Fleet = Fleet { programs: 2, widest: 3, peace: Span::millis(700), handover: 100, timeless: false };

/// Nothing in it falls due by the clock, so that it comes to rest between two strokes.
const RESTING: Fleet = Fleet { peace: Span::secs(20), timeless: true, ..TINY };

/// 64 programs of up to 32.
const WIDE: Fleet = Fleet { programs: 64, widest: 32, peace: Span::millis(900), handover: 20_000, timeless: false };

type Seen = BTreeMap<&'static str, u64>;

fn fleet_of(seed: u64) -> Fleet {
    match seed % 8 {
        0 | 4 => WIDE,
        1 => TINY,
        5 => RESTING,
        _ => SMALL,
    }
}

/// One seed: chaos for so many steps; then it is calm and the facts must come to equal the wants; then everything ends.
fn live_through(seed: u64, steps: u64, aloud: bool) -> Seen {
    let mut world = World::new(seed);
    let mut weather = Weather::new(seed, fleet_of(seed));
    world.definitions = Ok(weather.plan());
    world.weather = Some(weather);
    if aloud {
        world.story.read_aloud();
    }
    world.mischief_in(Span::secs(1));
    world.boot();
    while world.steps < steps {
        assert!(world.turn(), "mischief never ends by itself");
    }
    calm_down(&mut world);
    shut_down(&mut world);
    std::mem::take(&mut world.ledger.seen)
}

fn calm_down(world: &mut World) {
    if let Some(weather) = &mut world.weather {
        weather.calm = true;
    }
    // Each program for itself: some recycle for ever, and in a wide fleet somebody is always away.
    let begin = world.now.moment;
    let mut restless: Vec<String> = world.view().programs.iter().map(|program| program.name.to_string()).collect();
    while !restless.is_empty() {
        let view = world.view();
        restless.retain(|name| {
            view.programs.iter().find(|program| program.name.as_str() == name).is_some_and(|program| !is_settled(world, program))
        });
        let waited = world.now.moment.since(begin);
        if waited > CONVERGED_WITHIN {
            let shown: Vec<_> = view.slots().filter(|slot| restless.contains(&slot.program.to_string())).collect();
            panic!("still not as wanted after {waited}: {restless:?}: {shown:#?}");
        }
        world.run_until(world.now.moment + Span::millis(997));
    }
}

/// Facts equal wants.
fn is_settled(world: &World, program: &ProgramView) -> bool {
    let Some(spec) = world.engine.plan().programs.get(&program.name) else { return false };
    let is_current = |slot: &SlotView| {
        let launch = slot.pid.and_then(|pid| world.procs.get(&pid)).map(|proc| &proc.launch);
        // A deployment that was halted leaves old workers alone, and a later roll need not mean all of them.
        world.ledger.halted.contains(&program.name) || launch.is_none_or(|launch| **launch == spec.launch_of(slot.number))
    };
    // One that was taken away and waits for its lock is still away, and holds up those who are due after it.
    let is_held_up = program.slots.iter().any(|slot| slot.state == State::Waiting);
    program.slots.len() == program.wanted as usize
        && program.slots.iter().all(|slot| is_held_up || (slot.due.is_none() && is_current(slot)))
        && program.slots.iter().all(|slot| match slot.state {
            State::Running => slot.wanted,
            State::Stopped => !slot.wanted,
            // At rest, and nothing is going to change that.
            State::Exited => slot.next_try.is_none(),
            State::Fatal => slot.next_try.is_none() && !(slot.wanted && spec.policy.backoff.retry_after_fatal.is_some()),
            State::Waiting => slot.wanted && spec.launch_of(slot.number).lock.is_some_and(|lock| world.is_held(&lock)),
            State::Launching | State::Starting | State::Backoff | State::Stopping | State::Clearing => false,
        })
}

fn shut_down(world: &mut World) {
    let (_, _) = world.ask("root (uid 0)", Command::Shutdown);
    let until = world.now.moment + GONE_WITHIN;
    world.run_until(until);
    assert!(world.quit, "a shutdown ends within {GONE_WITHIN}");
    assert!(world.is_deserted(), "and leaves nobody behind");
}

fn live_through_all(seeds: impl Iterator<Item = u64>, steps: u64) -> Seen {
    let mut seen = Seen::new();
    for seed in seeds {
        for (what, count) in live_through(seed, steps, false) {
            *seen.entry(what).or_default() += count;
        }
    }
    seen
}

/// True if this run is about one seed only, or about as many steps as one likes.
fn is_special_run() -> bool {
    number("SIM_SEED").is_some() || number("SIM_STEPS").is_some()
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: found {text:?}, expected a number")))
}

/// Another one each time, without a clock; a failure prints it.
fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 24
}

/// A test that sees nothing proves nothing.
fn assert_seen(seen: &Seen, all: &[&str]) {
    println!("{seen:?}");
    for what in all {
        assert!(seen.get(what).is_some_and(|count| *count > 0), "never seen: {what}, in {seen:?}");
    }
}

#[test]
fn promises_hold_in_small_fleets_where_everything_meets_everything() {
    if is_special_run() {
        return;
    }
    let seen = live_through_all([2, 3, 6, 7, 10, 11, 14, 15].into_iter(), 50_000);
    let all = [
        "spawn",
        "signal",
        "kill",
        "leftovers signalled",
        "leftovers let alone",
        "measure",
        "fatal",
        "backoff",
        "waiting",
        "taken away",
        "crash",
        "finished",
        "jobs",
        "memory",
        "lifetime",
        "watchdog",
        "job timeout",
        "not ready",
        "manual",
        "scale",
        "deploy",
        "removed",
        "shutdown",
        "fed",
        "remote",
        "group added",
        "group removed",
        "renewed",
    ];
    assert_seen(&seen, &all);
}

#[test]
fn promises_hold_in_tiny_fleets_that_are_never_left_in_peace() {
    if is_special_run() {
        return;
    }
    let seen = live_through_all([1, 5, 9, 13, 17, 21].into_iter(), 40_000);
    // The rule that nothing pending means no date was really put to the test.
    assert_seen(&seen, &["at rest"]);
}

#[test]
fn promises_hold_in_a_wide_fleet() {
    if is_special_run() {
        return;
    }
    live_through_all([4, 8, 12, 16].into_iter(), 90_000);
}

/// `SIM_SEED=n`, `SIM_STEPS=n`, or both.
#[test]
fn replay() {
    match (number("SIM_SEED"), number("SIM_STEPS")) {
        (None, None) => {}
        (Some(seed), steps) => {
            let steps = steps.unwrap_or(50_000);
            println!("{:?}", live_through(seed, steps, true));
        }
        (None, Some(steps)) => {
            let first = fresh_seed();
            println!("fresh seeds from {first} on");
            let runs = steps.div_ceil(50_000);
            println!("{:?}", live_through_all(first..first + runs, 50_000));
        }
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let tell = || {
        let mut world = World::new(5);
        let mut weather = Weather::new(5, TINY);
        world.definitions = Ok(weather.plan());
        world.weather = Some(weather);
        world.mischief_in(Span::secs(1));
        world.boot();
        while world.steps < 3000 {
            world.turn();
        }
        world.story.last_page()
    };
    assert_eq!(tell(), tell());
}

#[test]
fn a_second_shutdown_is_done_already() {
    let mut world = World::new(1);
    world.boot();
    world.definitions = Ok(Weather::new(1, TINY).plan());
    world.ask("root (uid 0)", Command::Reload { dry: false });
    world.run_until(world.now.moment + Span::millis(1));
    world.usual.heeds = world::Heeds::Never;
    let (_, first) = world.ask("root (uid 0)", Command::Shutdown);
    let (_, second) = world.ask("root (uid 0)", Command::Shutdown);
    assert_eq!((first, second), (Some(Ok(Reply::Done)), Some(Ok(Reply::Done))));
}

/// In calm weather everything has found its place by then: the longest retry after FATAL, the longest extension.
const CONVERGED_WITHIN: Span = Span::secs(2 * 3600);

/// Four priorities, each at worst with a worker that asked for the longest extension and then has to be killed.
const GONE_WITHIN: Span = Span::secs(4 * 3700);
