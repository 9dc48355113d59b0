//! What the manual promises, one situation each.
//!
//! Each test is a sentence that an operator may rely on, and reads as given, when, after, expect. Numbers in names such as
//! `supervisor_177` are threads of other supervisors in which people asked for just this.

use crate::scene::{
    Scene, all_are, asked, count, ended, ends, exits, given, is, millis, next_deadline, numbers, reason, received, reload,
    reload_with_errors, restart, says, seconds, spawned, start, stop, told,
};
use crate::world::{Heeds, Remains, Work};
use ganger::engine::event::Event;
use ganger::model::command::{Action, Batch, Command, Refusal, Reply, ScaleTo};
use ganger::model::exit::Exit;
use ganger::model::launch::{Lock, SpawnFault, SpawnStep};
use ganger::model::name::{ProgramName, SlotId, Target};
use ganger::model::notice::{What, Why};
use ganger::model::notify::Notify;
use ganger::model::signal::Signal;
use ganger::model::spec::{Autorestart, BackoffRule, LaunchSpec, Leftovers, LockSpec, ProgramSpec, Rung, ScaleSpec};
use ganger::model::state::State::{Backoff, Clearing, Exited, Fatal, Running, Starting, Stopped, Stopping, Waiting};
use ganger::model::template::Template;
use ganger::model::time::{Span, Stamp};
use ganger::model::units::Bytes;
use std::sync::Arc;

fn scale(program: &str, to: ScaleTo) -> impl FnOnce(&mut Scene) {
    asked(Command::Scale { program: program.into(), to })
}

fn roll(target: &str, batch: Batch) -> impl FnOnce(&mut Scene) {
    asked(Command::Roll { targets: vec![Target::read(target)], batch })
}

fn recycle(target: &str) -> impl FnOnce(&mut Scene) {
    asked(Command::Recycle { targets: vec![Target::read(target)] })
}

fn shutdown() -> impl FnOnce(&mut Scene) {
    asked(Command::Shutdown)
}

fn new_command(word: &str) -> impl FnOnce(&mut ProgramSpec) {
    move |spec| spec.launch = Arc::new(LaunchSpec { command: vec![Template::text(word)], ..(*spec.launch).clone() })
}

fn with_launch(write: impl FnOnce(&mut LaunchSpec)) -> impl FnOnce(&mut ProgramSpec) {
    move |spec| write(Arc::make_mut(&mut spec.launch))
}

/// The refusal of the last answer: of the whole, or of its first outcome.
fn refused(expected: Option<Refusal>) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let found = match scene.answer.clone().expect("an answer") {
            Err(refusal) => Some(refusal),
            Ok(Reply::Outcomes(outcomes)) => outcomes.first().and_then(|outcome| outcome.refused.clone()),
            Ok(_) => None,
        };
        assert_eq!(found, expected);
    }
}

// Starting, failing, giving up.

#[test]
fn a_program_runs_after_it_outlived_startsecs() {
    given("mailer", 3).after(millis(900)).expect(all_are(Starting)).after(millis(200)).expect(all_are(Running)).expect(spawned(3));
}

#[test]
fn startsecs_of_zero_means_running_at_once() {
    given("mailer", 1).having(|spec| spec.policy.startsecs = Span::ZERO).after(Span::ZERO).expect(is(0, Running));
}

#[test]
fn a_running_worker_that_dies_is_replaced_at_once_and_uncounted() {
    given("mailer", 3)
        .after(seconds(2))
        .expect(spawned(3))
        .when(exits(1, 1))
        .expect(is(1, Starting))
        .expect(spawned(1))
        .expect(|scene| assert_eq!(scene.slot(1).tries, 0))
        .expect(ended(1, Why::Crash, "exited 1 after 2 s, which was not expected"))
        .after(seconds(2))
        .expect(all_are(Running));
}

#[test]
fn fatal_after_startretries_failures() {
    given("mailer", 1)
        .staffed_with(|worker| {
            worker.lives = Some(millis(200));
            worker.exit = Exit::Code(255);
        })
        .after(millis(250))
        .expect(is(0, Backoff))
        .expect(reason(0, "exited 255 after 0.2 s, 1st time"))
        // 1, 2, 3 seconds: four attempts with startretries 3, as Supervisor makes them.
        .after(seconds(1))
        .expect(spawned(2))
        .after(millis(2200))
        .expect(spawned(1))
        .after(millis(3400))
        .expect(spawned(1))
        .expect(is(0, Fatal))
        .expect(reason(0, "gave up after 4 failed starts: exited 255 after 0.2 s"))
        .after(seconds(86_400))
        .expect(spawned(0))
        .expect(next_deadline(None));
}

#[test]
fn only_a_person_lifts_fatal() {
    given("mailer", 1)
        .having(|spec| spec.policy.startretries = Some(0))
        .next_is(|worker| worker.lives = Some(millis(10)))
        .after(seconds(1))
        .expect(is(0, Fatal))
        .when(start("mailer"))
        .expect(refused(None))
        .after(seconds(2))
        .expect(is(0, Running));
}

#[test]
fn supervisor_487_retry_after_fatal_tries_again_by_itself() {
    given("mailer", 1)
        .having(|spec| {
            spec.policy.startretries = Some(0);
            spec.policy.backoff.retry_after_fatal = Some(seconds(300));
        })
        .next_is(|worker| worker.lives = Some(millis(10)))
        .after(seconds(1))
        .expect(is(0, Fatal))
        .expect(|scene| assert!(scene.slot(0).next_try.is_some(), "it is shown when"))
        .after(seconds(298))
        .expect(is(0, Fatal))
        .after(seconds(4))
        .expect(is(0, Running));
}

#[test]
fn backoff_grows_by_its_factor_up_to_its_bound() {
    let spawns = |scene: Scene, at: u64| scene.after(millis(at)).expect(spawned(1));
    let mut scene = given("mailer", 1)
        .having(|spec| {
            spec.policy.startretries = None;
            spec.policy.backoff.rule = BackoffRule::Exponential { initial: seconds(1), max: seconds(10), factor: 3.0, jitter: 0.0 };
        })
        .staffed_with(|worker| worker.lives = Some(Span::ZERO))
        .after(Span::ZERO)
        .expect(spawned(1));
    for wait in [1000, 3000, 9000, 10_000, 10_000] {
        scene = spawns(scene.after(millis(wait - 1)).expect(spawned(0)), 1);
    }
    scene.expect(is(0, Backoff)).expect(|scene| assert_eq!(scene.slot(0).tries, 6));
}

#[test]
fn with_reset_after_a_short_run_does_not_forget_the_failures_before_it() {
    given("mailer", 1)
        .having(|spec| {
            spec.policy.startretries = Some(1);
            spec.policy.backoff.reset_after = Some(seconds(60));
        })
        .next_is(|worker| worker.lives = Some(millis(10)))
        .next_is(|worker| {
            worker.lives = Some(seconds(5));
            worker.exit = Exit::Code(1);
        })
        .next_is(|worker| worker.lives = Some(millis(10)))
        // It failed, ran for five seconds and crashed, failed again: twice in a row.
        .after(seconds(10))
        .expect(is(0, Fatal))
        .when(start("mailer"))
        .after(seconds(70))
        .expect(is(0, Running))
        .expect(|scene| assert_eq!(scene.slot(0).tries, 0));
}

#[test]
fn a_start_that_cannot_be_made_is_a_failed_start_and_says_what_failed() {
    let text = "./worker.php: permission denied (user \"www\"); is the file executable?";
    given("mailer", 1)
        .when(|_| {})
        .when(|scene| scene.world.faults.push_back(SpawnFault { step: SpawnStep::Exec, text: text.into() }))
        .when(restart("mailer"))
        .after(seconds(1))
        .expect(told(&format!("cannot start mailer: {text}")))
        .expect(told(&format!("mailer: BACKOFF: {text}, 1st time")))
        .after(seconds(3))
        .expect(is(0, Running));
}

#[test]
fn an_expected_exit_is_not_restarted_and_an_unexpected_one_is() {
    given("mailer", 1)
        .after(seconds(2))
        .when(exits(0, 0))
        .expect(is(0, Exited))
        .expect(reason(0, "exited 0 after 2 s, as expected"))
        .after(seconds(3600))
        .expect(is(0, Exited))
        .when(start("mailer"))
        .after(seconds(2))
        .when(exits(0, 7))
        .expect(is(0, Starting));
}

#[test]
fn autorestart_rules_over_every_exit() {
    for (rule, after_zero, after_one) in
        [(Autorestart::Never, Exited, Exited), (Autorestart::Unexpected, Exited, Starting), (Autorestart::Always, Starting, Starting)]
    {
        let ran = || given("mailer", 1).having(|spec| spec.policy.autorestart = rule).after(seconds(2));
        ran().when(exits(0, 0)).expect(is(0, after_zero));
        ran().when(exits(0, 1)).expect(is(0, after_one));
    }
}

#[test]
fn an_exit_that_nobody_saw_is_neither_success_nor_failure() {
    given("mailer", 1).after(millis(100)).when(ends(0, Exit::Unknown)).expect(is(0, Starting)).expect(|scene| {
        assert_eq!(scene.slot(0).tries, 0);
    });
}

#[test]
fn restart_pause_rests_a_run_until_empty_worker_and_counts_no_failure() {
    given("events", 1)
        .having(|spec| spec.policy.restart_pause = Some(seconds(5)))
        .staffed_with(|worker| worker.lives = Some(millis(50)))
        .after(millis(60))
        .expect(is(0, Exited))
        .expect(reason(0, "finished: exited 0 after 0.05 s"))
        .expect(|scene| assert!(scene.slot(0).next_try.is_some()))
        .expect(spawned(1))
        .after(millis(4900))
        .expect(spawned(0))
        .after(millis(200))
        .expect(spawned(1))
        .after(seconds(600))
        .expect(|scene| assert_eq!(scene.slot(0).tries, 0));
}

#[test]
fn a_crash_of_a_run_until_empty_worker_is_still_a_crash() {
    given("events", 1)
        .having(|spec| spec.policy.restart_pause = Some(seconds(5)))
        .staffed_with(|worker| {
            worker.lives = Some(millis(50));
            worker.exit = Exit::Code(1);
        })
        .after(millis(60))
        .expect(is(0, Backoff));
}

#[test]
fn without_autostart_nothing_starts_by_itself() {
    given("mailer", 2)
        .having(|spec| spec.policy.autostart = false)
        .after(seconds(10))
        .expect(all_are(Stopped))
        .expect(reason(0, "not started: autostart is off"))
        .when(start("mailer:mailer_01"))
        .after(seconds(2))
        .expect(is(0, Stopped))
        .expect(is(1, Running));
}

// Stopping.

fn ladder(scene: Scene) -> Scene {
    scene.having(|spec| {
        spec.policy.stop.rungs = vec![Rung { signal: Signal::TERM, wait: seconds(10) }, Rung { signal: Signal::INT, wait: seconds(5) }];
        spec.policy.stop.resend = None;
    })
}

#[test]
fn the_ladder_asks_with_each_signal_and_then_kills() {
    ladder(given("mailer", 1))
        .staffed_with(|worker| worker.heeds = Heeds::Never)
        .after(seconds(2))
        .when(stop("mailer"))
        .expect(is(0, Stopping))
        .expect(received(0, &[Signal::TERM]))
        .after(millis(9900))
        .expect(received(0, &[Signal::TERM]))
        .after(millis(200))
        .expect(received(0, &[Signal::TERM, Signal::INT]))
        .after(millis(4700))
        .expect(is(0, Stopping))
        .after(millis(300))
        .expect(is(0, Stopped))
        .expect(told("sent SIGKILL to pid 101: did not react to SIGINT for 5 s"))
        .expect(|scene| assert_eq!(scene.slot(0).exit, Some(Exit::Signal(Signal::KILL))));
}

#[test]
fn the_stop_signal_is_sent_again_for_workers_that_lose_it() {
    given("amqp", 1)
        .having(|spec| spec.policy.stop.resend = Some(seconds(2)))
        .staffed_with(|worker| worker.heeds = Heeds::Nth(4))
        .after(seconds(2))
        .when(stop("amqp"))
        .after(millis(5900))
        .expect(received(0, &[Signal::TERM, Signal::TERM, Signal::TERM]))
        .after(millis(200))
        .expect(is(0, Stopped));
}

#[test]
fn kill_is_repeated_until_the_kernel_lets_go() {
    ladder(given("mailer", 1))
        .staffed_with(|worker| {
            worker.heeds = Heeds::Never;
            worker.dies_hard = seconds(25);
        })
        .after(seconds(2))
        .when(stop("mailer"))
        .after(seconds(39))
        .expect(is(0, Stopping))
        .after(seconds(2))
        .expect(is(0, Stopped));
}

#[test]
fn extend_timeout_moves_the_deadline() {
    ladder(given("mailer", 1))
        .staffed_with(|worker| {
            worker.heeds = Heeds::After(seconds(35));
            worker.extends = Some(seconds(40));
        })
        .after(seconds(2))
        .when(stop("mailer"))
        .after(seconds(34))
        .expect(received(0, &[Signal::TERM]))
        .after(seconds(2))
        .expect(is(0, Stopped))
        .expect(|scene| assert_eq!(scene.slot(0).exit, Some(Exit::Code(0))));
}

#[test]
fn an_extension_of_more_than_an_hour_is_ignored() {
    ladder(given("mailer", 1))
        .staffed_with(|worker| {
            worker.heeds = Heeds::Never;
            worker.extends = Some(seconds(3601));
        })
        .after(seconds(2))
        .when(stop("mailer"))
        .after(seconds(16))
        .expect(is(0, Stopped));
}

#[test]
fn all_slots_stop_in_parallel() {
    given("mailer", 20)
        .staffed_with(|worker| worker.heeds = Heeds::After(seconds(9)))
        .after(seconds(2))
        .when(stop("mailer:*"))
        .expect(all_are(Stopping))
        .after(millis(9010))
        .expect(all_are(Stopped));
}

#[test]
fn a_deaf_worker_a_busy_one_and_an_idle_one_are_told_apart() {
    let deaf = |job: Option<&str>| {
        let scene = ladder(given("mailer", 1)).staffed_with(|worker| worker.heeds = Heeds::Never).after(seconds(2));
        let scene = match job {
            Some(job) => scene.when(says(0, &format!("X_JOB={job}"))),
            None => scene,
        };
        scene.when(stop("mailer")).after(seconds(16)).expect(is(0, Stopped))
    };
    deaf(None).expect(told("did not react to SIGTERM for 10 s"));
    deaf(Some("mail-9")).expect(told("was busy with job mail-9"));
    deaf(Some("")).expect(told("idle, waiting in a blocked reserve"));
}

#[test]
fn a_stop_we_asked_for_is_never_a_failure_whatever_the_exit() {
    given("mailer", 1)
        .after(millis(100))
        .when(stop("mailer"))
        .when(exits(0, 255))
        .expect(is(0, Stopped))
        .expect(|scene| assert_eq!(scene.slot(0).tries, 0))
        .expect(|scene| assert_eq!(scene.slot(0).history[0].why, Why::Manual));
}

#[test]
fn stopping_what_backs_off_needs_no_signal() {
    given("mailer", 1)
        .staffed_with(|worker| worker.lives = Some(millis(10)))
        .after(millis(500))
        .expect(is(0, Backoff))
        .when(stop("mailer"))
        .expect(is(0, Stopped))
        .after(seconds(100))
        .expect(is(0, Stopped))
        .expect(spawned(1));
}

#[test]
fn a_start_during_a_stop_starts_again_when_the_worker_is_gone() {
    given("mailer", 1)
        .staffed_with(|worker| worker.heeds = Heeds::After(seconds(5)))
        .after(seconds(2))
        .when(stop("mailer"))
        .when(start("mailer"))
        .expect(refused(None))
        .expect(is(0, Stopping))
        .after(seconds(4))
        .expect(is(0, Stopping))
        .expect(spawned(1))
        .after(millis(1100))
        .expect(is(0, Starting));
}

#[test]
fn process_compose_347_two_restarts_at_once_make_one_worker() {
    given("mailer", 1)
        .staffed_with(|worker| worker.heeds = Heeds::After(seconds(1)))
        .after(seconds(2))
        .when(restart("mailer"))
        .when(restart("mailer"))
        .after(seconds(3))
        .expect(is(0, Running))
        .expect(spawned(2));
}

#[test]
fn what_a_worker_leaves_behind_is_ended_before_the_slot_starts_again() {
    given("mailer", 1)
        .staffed_with(|worker| worker.leaves = Some(Remains { count: 2, heeds_term: false, gone_after: None }))
        .after(seconds(2))
        .when(exits(0, 1))
        .expect(is(0, Clearing))
        .expect(told("2 process(es) outlived their worker"))
        .after(millis(1900))
        .expect(spawned(1))
        .after(millis(200))
        .expect(spawned(1))
        .expect(is(0, Starting));
}

#[test]
fn leftovers_are_let_alone_where_the_definition_says_so() {
    given("mailer", 1)
        .having(|spec| spec.policy.stop.leftovers = Leftovers::Leave)
        .staffed_with(|worker| worker.leaves = Some(Remains { count: 2, heeds_term: false, gone_after: None }))
        .after(seconds(2))
        .when(exits(0, 1))
        .expect(is(0, Starting));
}

#[test]
fn a_wrong_name_is_refused_with_the_one_that_was_meant() {
    let meant = |name: &str, nearest: &str| Some(Refusal::NoSuch { name: name.into(), nearest: Some(nearest.into()) });
    given("mailer", 1)
        .after(seconds(2))
        .when(start("malier"))
        .expect(refused(meant("malier", "mailer")))
        .when(start("mailer"))
        .expect(refused(Some(Refusal::AlreadyStarted)))
        .when(stop("mailer"))
        .after(seconds(1))
        .when(stop("mailer"))
        .expect(refused(Some(Refusal::NotRunning)));
}

// Recycling.

fn jobs(every: u64) -> Work {
    Work { takes: millis(every), rests: millis(100), tells_job: true }
}

#[test]
fn a_worker_that_has_done_its_jobs_is_replaced_and_nothing_failed() {
    given("mailer", 1)
        .having(|spec| spec.policy.recycle.max_jobs = Some((3, 3)))
        .staffed_with(|worker| worker.work = Some(jobs(900)))
        .after(millis(3020))
        .expect(spawned(2))
        .expect(|scene| assert_eq!(scene.slot(0).tries, 0))
        .expect(ended(0, Why::Jobs, "recycled: jobs 3 of 3"))
        .after(seconds(600))
        .expect(|scene| {
            let program = scene.world.view().programs[0].clone();
            assert!(program.ended.keys().all(|why| *why == Why::Jobs), "{:?}", program.ended);
        });
}

#[test]
fn a_reason_stays_although_the_limit_is_lifted_while_the_last_job_is_waited_for() {
    // Once found by seed 480521013299: "jobs 1240 of 10" without the word that it was recycled.
    given("mailer", 1)
        .having(|spec| spec.policy.recycle.max_jobs = Some((10, 10)))
        .after(seconds(2))
        .when(says(0, "X_JOBS=10\nX_JOB=mail-11"))
        .having(|spec| spec.policy.recycle.max_jobs = None)
        .when(reload(false))
        .when(says(0, "X_JOBS=11\nX_JOB="))
        .after(seconds(1))
        .expect(ended(0, Why::Jobs, "recycled: jobs 10 of 10"));
}

#[test]
fn memory_over_the_limit_in_k_of_n_samples_recycles() {
    given("mailer", 1)
        .having(|spec| {
            spec.policy.recycle.max_memory = Some(Bytes(128 << 20));
            spec.policy.recycle.memory_samples = (2, 3);
        })
        // 100 MB, and 2 MB more each second.
        .staffed_with(|worker| worker.memory = (100 << 20, 2 << 20))
        .after(seconds(14))
        .expect(spawned(1))
        .after(seconds(4))
        .expect(spawned(1))
        .expect(ended(0, Why::Memory, "recycled: memory 132.0 MB of 128.0 MB"));
}

#[test]
fn one_peak_of_memory_does_not_recycle() {
    let peak = |scene: &mut Scene| {
        let pid = scene.pid(0);
        scene.world.procs.get_mut(&pid).expect("it lives").character.memory = (500 << 20, 0);
    };
    let low = |scene: &mut Scene| {
        let pid = scene.pid(0);
        scene.world.procs.get_mut(&pid).expect("it lives").character.memory = (50 << 20, 0);
    };
    given("mailer", 1)
        .having(|spec| spec.policy.recycle.max_memory = Some(Bytes(128 << 20)))
        .after(millis(5500))
        .when(peak)
        .after(seconds(1))
        .when(low)
        .after(seconds(20))
        .expect(spawned(1));
}

#[test]
fn age_recycles_with_its_reason() {
    given("mailer", 1)
        .having(|spec| {
            spec.policy.recycle.max_lifetime = Some(seconds(6 * 3600));
            spec.policy.recycle.lifetime_jitter = 0.0;
        })
        .after(seconds(6 * 3600 - 1))
        .expect(spawned(1))
        .after(seconds(2))
        .expect(spawned(1))
        .expect(ended(0, Why::Lifetime, "recycled: age 6h00m of 6h00m"));
}

#[test]
fn lifetimes_are_spread_so_that_a_fleet_does_not_go_at_once() {
    given("mailer", 10)
        .having(|spec| {
            spec.policy.recycle.max_lifetime = Some(seconds(1000));
            spec.policy.recycle.lifetime_jitter = 0.5;
            spec.policy.recycle.concurrency = 10;
        })
        .after(seconds(499))
        .expect(spawned(10))
        .after(seconds(501))
        .expect(|scene| assert!((11..20).contains(&scene.world.spawns), "{}", scene.world.spawns))
        .after(seconds(502))
        .expect(|scene| assert!(scene.world.spawns >= 20));
}

#[test]
fn nobody_is_recycled_before_min_lifetime() {
    given("mailer", 1)
        .having(|spec| {
            spec.policy.recycle.max_jobs = Some((1, 1));
            spec.policy.recycle.min_lifetime = seconds(60);
        })
        .staffed_with(|worker| worker.work = Some(Work { takes: millis(10), rests: millis(500), tells_job: true }))
        .after(seconds(59))
        .expect(spawned(1))
        .after(seconds(2))
        .expect(spawned(1));
}

#[test]
fn the_budget_counts_workers_that_are_not_yet_ready() {
    given("mailer", 4)
        .having(|spec| {
            spec.policy.startsecs = seconds(30);
            spec.policy.recycle.concurrency = 1;
        })
        .after(seconds(31))
        .when(recycle("mailer:*"))
        .after(seconds(1))
        .expect(count(Running, 3))
        .after(seconds(28))
        .expect(count(Running, 3))
        .expect(spawned(5))
        .after(seconds(3))
        .expect(count(Running, 3))
        .expect(spawned(1))
        .after(seconds(100))
        .expect(all_are(Running))
        .expect(spawned(2));
}

#[test]
fn a_recycle_waits_for_the_end_of_the_job_in_hand() {
    given("mailer", 1)
        .after(seconds(2))
        .when(says(0, "X_JOBS=7\nX_JOB=mail-8"))
        .when(recycle("mailer"))
        .after(seconds(20))
        .expect(is(0, Running))
        .expect(|scene| assert_eq!(scene.slot(0).due.as_deref(), Some("recycled: asked for by root (uid 0)")))
        .when(says(0, "X_JOBS=8\nX_JOB="))
        .expect(is(0, Stopping));
}

#[test]
fn patience_with_a_long_job_ends() {
    given("mailer", 1)
        .having(|spec| spec.policy.recycle.patience = seconds(30))
        .after(seconds(2))
        .when(says(0, "X_JOB=endless"))
        .when(recycle("mailer"))
        .after(seconds(29))
        .expect(is(0, Running))
        .after(millis(1010))
        .expect(is(0, Stopping));
}

#[test]
fn a_worker_that_ends_itself_at_its_limit_follows_the_exit_rules() {
    given("laravel", 1)
        .having(|spec| {
            spec.policy.recycle.max_jobs = Some((2, 2));
            spec.policy.autorestart = Autorestart::Always;
        })
        .after(seconds(2))
        .when(exits(0, 0))
        .expect(is(0, Starting))
        .expect(|scene| assert_eq!(scene.slot(0).history[0].why, Why::Finished));
}

// Readiness, signs of life, time-outs.

#[test]
fn ready_promotes_at_once() {
    given("mailer", 1).having(|spec| spec.policy.startsecs = seconds(30)).after(seconds(1)).when(says(0, "READY=1")).expect(is(0, Running));
}

#[test]
fn with_notify_only_ready_promotes_and_its_absence_is_a_failed_start() {
    given("mailer", 1)
        .having(|spec| {
            spec.policy.ready.notify = true;
            spec.policy.ready.timeout = seconds(20);
        })
        .after(seconds(19))
        .expect(is(0, Starting))
        .after(millis(1010))
        .expect(is(0, Stopping))
        .after(millis(100))
        .expect(is(0, Backoff))
        .expect(ended(0, Why::NotReady, "did not say READY=1 within 20 s"))
        .after(seconds(2))
        .when(says(0, "READY=1"))
        .expect(is(0, Running))
        .expect(|scene| assert_eq!(scene.slot(0).tries, 0));
}

#[test]
fn a_worker_without_a_heartbeat_is_stopped_and_replaced_at_once() {
    given("mailer", 1)
        .having(with_launch(|launch| launch.watchdog = Some(seconds(10))))
        .staffed_with(|worker| worker.heartbeat = Some((seconds(3), seconds(30))))
        .after(seconds(39))
        .expect(is(0, Running))
        .after(seconds(2))
        .expect(is(0, Starting))
        .expect(spawned(2))
        .expect(ended(0, Why::Watchdog, "watchdog: no sign of life for 10 s"));
}

#[test]
fn a_worker_may_ask_to_be_treated_as_hung() {
    given("mailer", 1)
        .after(seconds(2))
        .when(says(0, "WATCHDOG=trigger"))
        .expect(is(0, Stopping))
        .after(seconds(1))
        .expect(is(0, Starting));
}

#[test]
fn a_worker_that_hangs_before_it_is_trusted_has_failed_to_start() {
    // Else a worker that dies of its watchdog at boot would be started again and again, uncounted and without a pause.
    let booting = |scene: Scene| {
        scene.when(says(0, "WATCHDOG=trigger")).after(millis(50)).expect(is(0, Backoff)).expect(|scene| assert_eq!(scene.slot(0).tries, 1))
    };
    booting(given("mailer", 1).after(millis(100)));
    given("mailer", 1)
        .having(|spec| {
            spec.policy.ready.notify = true;
            Arc::make_mut(&mut spec.launch).watchdog = Some(seconds(5));
        })
        .staffed_with(|worker| worker.heartbeat = Some((seconds(1), seconds(2))))
        .after(seconds(8))
        .expect(is(0, Backoff))
        .expect(ended(0, Why::Watchdog, "watchdog: no sign of life for 5 s"))
        .after(seconds(3600))
        .expect(is(0, Fatal));
}

#[test]
fn symfony_54698_said_it_was_stopping_and_did_not() {
    ladder(given("mailer", 1))
        .after(seconds(2))
        .when(says(0, "STOPPING=1"))
        .after(seconds(14))
        .expect(is(0, Running))
        .after(millis(1010))
        .expect(is(0, Stopping))
        .after(seconds(1))
        .expect(ended(0, Why::Watchdog, "said it was stopping 15 s ago and did not"));
}

#[test]
fn a_job_that_takes_too_long_stops_its_worker_and_another_one_starts() {
    given("mailer", 1)
        .having(|spec| spec.policy.jobs.timeout = Some(seconds(300)))
        .after(seconds(2))
        .when(says(0, "X_JOB=mail-1"))
        .after(seconds(200))
        .when(says(0, "X_JOBS=1\nX_JOB=mail-2"))
        .after(seconds(299))
        .expect(is(0, Running))
        .after(seconds(2))
        .expect(is(0, Starting))
        .expect(ended(0, Why::JobTimeout, "job mail-2 took 5m00s and was not done (jobs.timeout)"));
}

#[test]
fn a_datagram_of_an_earlier_worker_is_not_believed() {
    given("mailer", 1)
        .having(|spec| spec.policy.ready.notify = true)
        .after(millis(100))
        // Its pid is 101; the stranger takes it, so that the next worker gets another.
        .when(exits(0, 1))
        .when(|scene| scene.world.reserve(101))
        .after(seconds(2))
        .expect(|scene| assert_ne!(scene.pid(0), 101))
        .when(|scene| {
            let slot = SlotId::new(&ProgramName::new("mailer"), 0);
            scene.world.hear(Event::Notified { slot, pid: 101, told: Notify { ready: true, ..Notify::default() } });
        })
        .expect(is(0, Starting));
}

#[test]
fn totals_that_go_backwards_are_old_news() {
    given("mailer", 1)
        .after(seconds(2))
        .when(says(0, "X_JOBS=7"))
        .when(says(0, "X_JOBS=5"))
        .expect(|scene| assert_eq!(scene.slot(0).jobs, 7));
}

// Scaling.

#[test]
fn supervisor_177_scaling_leaves_the_other_workers_alone() {
    let pids = |scene: &mut Scene| (0..4).map(|number| scene.pid(number)).collect::<Vec<_>>();
    let mut scene = given("mailer", 4).after(seconds(2));
    let before = pids(&mut scene);
    scene
        .when(scale("mailer", ScaleTo::Exactly(8)))
        .after(seconds(2))
        .expect(numbers(&[0, 1, 2, 3, 4, 5, 6, 7]))
        .when(scale("mailer", ScaleTo::Exactly(4)))
        .after(seconds(2))
        .expect(numbers(&[0, 1, 2, 3]))
        .expect(all_are(Running))
        .expect(|scene| assert_eq!(pids(scene), before));
}

#[test]
fn scaling_down_takes_idle_workers_first_then_the_highest() {
    given("mailer", 5)
        .after(seconds(2))
        .when(says(0, "X_JOB=a"))
        .when(says(1, "X_JOB="))
        .when(says(2, "X_JOB=b"))
        .when(says(3, "X_JOB=c"))
        .when(says(4, "X_JOB=d"))
        .when(scale("mailer", ScaleTo::Exactly(3)))
        .after(seconds(1))
        .expect(numbers(&[0, 2, 3]));
}

#[test]
fn scaling_up_takes_the_lowest_free_numbers() {
    given("mailer", 3)
        .having(|spec| spec.policy.numprocs_start = 1)
        .after(seconds(2))
        .when(says(1, "X_JOB="))
        .when(scale("mailer", ScaleTo::Down(1)))
        .after(seconds(1))
        .expect(numbers(&[2, 3]))
        .when(scale("mailer", ScaleTo::Up(2)))
        .expect(numbers(&[1, 2, 3, 4]));
}

#[test]
fn scaling_keeps_the_bounds_of_the_definition() {
    given("mailer", 3)
        .having(|spec| spec.policy.scale = ScaleSpec { min: 2, max: Some(5) })
        .after(seconds(2))
        .when(scale("mailer", ScaleTo::Exactly(9)))
        .expect(refused(Some(Refusal::OutOfBounds { asked: 9, min: 2, max: 5 })))
        .when(scale("mailer", ScaleTo::Down(2)))
        .expect(refused(Some(Refusal::OutOfBounds { asked: 1, min: 2, max: 5 })))
        .expect(count(Running, 3));
}

#[test]
fn manual_scale_survives_a_reload_until_numprocs_itself_changes() {
    given("mailer", 2)
        .after(seconds(2))
        .when(scale("mailer", ScaleTo::Exactly(5)))
        .when(reload(false))
        .after(seconds(2))
        .expect(count(Running, 5))
        .having(|spec| spec.policy.numprocs = 3)
        .when(reload(false))
        .after(seconds(2))
        .expect(count(Running, 3));
}

#[test]
fn scaling_back_to_default_is_what_the_definition_says() {
    given("mailer", 2)
        .after(seconds(2))
        .when(scale("mailer", ScaleTo::Exactly(5)))
        .after(seconds(2))
        .when(scale("mailer", ScaleTo::Default))
        .after(seconds(2))
        .expect(numbers(&[0, 1]));
}

// Rolling.

#[test]
fn a_rolling_restart_replaces_a_batch_at_a_time_and_waits_until_it_is_ready() {
    given("mailer", 5)
        .after(seconds(2))
        .expect(spawned(5))
        .when(roll("mailer", Batch::Workers(2)))
        .expect(count(Running, 3))
        .after(millis(900))
        .expect(count(Running, 3))
        .expect(spawned(2))
        .after(millis(600))
        .expect(count(Running, 3))
        .expect(spawned(2))
        .after(seconds(5))
        .expect(all_are(Running))
        .expect(spawned(1))
        .expect(told("mailer: rolling restart: 5 of 5"))
        .expect(ended(0, Why::Deploy, "rolling restart by root (uid 0)"));
}

#[test]
fn a_batch_in_percent_is_rounded_up() {
    given("mailer", 5).after(seconds(2)).when(roll("mailer", Batch::Percent(25))).expect(count(Running, 3));
}

#[test]
fn a_rolling_restart_halts_at_the_first_failure_and_leaves_the_rest_alone() {
    given("mailer", 4)
        .after(seconds(2))
        .expect(spawned(4))
        .when(roll("mailer", Batch::Workers(1)))
        .next_is(|worker| {
            worker.lives = Some(millis(100));
            worker.exit = Exit::Code(255);
        })
        .after(millis(500))
        .expect(count(Running, 3))
        .expect(count(Backoff, 1))
        .expect(told("rolling restart halted at 0 of 4"))
        .after(seconds(60))
        // The one that failed came up in the end; nobody else was touched.
        .expect(all_are(Running))
        .expect(spawned(2))
        .expect(|scene| {
            let rolling = scene.world.view().programs[0].rolling.clone().expect("it is shown that it was halted");
            assert!(rolling.halted.is_some());
            assert!(scene.world.view().slots().all(|slot| slot.due.is_none()), "nobody is due any more");
        });
}

#[test]
fn two_rolling_restarts_of_one_program_do_not_mix() {
    given("mailer", 4)
        .after(seconds(2))
        .when(roll("mailer", Batch::Workers(1)))
        .when(roll("mailer", Batch::Workers(4)))
        .expect(refused(Some(Refusal::Busy { with: "a rolling restart of mailer".into() })))
        .expect(count(Running, 3));
}

// Reloading.

#[test]
fn reload_keeps_workers_whose_launch_did_not_change() {
    given("mailer", 3)
        .and("resizer", 1)
        .after(seconds(2))
        .expect(spawned(4))
        .having(|spec| spec.policy.startretries = Some(9))
        .when(reload(false))
        .after(seconds(10))
        .expect(spawned(0))
        .expect(all_are(Running));
}

#[test]
fn reload_rolls_a_changed_launch_through_the_recycling_budget() {
    given("mailer", 3)
        .after(seconds(2))
        .expect(spawned(3))
        .having(new_command("new-worker"))
        .when(reload(false))
        .expect(count(Running, 2))
        .after(seconds(10))
        .expect(all_are(Running))
        .expect(spawned(3));
}

#[test]
fn reload_halts_at_the_first_new_worker_that_fails() {
    given("mailer", 3)
        .after(seconds(2))
        .having(new_command("broken"))
        .when(reload(false))
        .staffed_with(|worker| worker.lives = Some(millis(10)))
        .after(seconds(60))
        .expect(count(Running, 2))
        .expect(count(Fatal, 1));
}

#[test]
fn reload_adds_and_removes_programs() {
    given("mailer", 2)
        .and("old", 2)
        .after(seconds(2))
        .without("old")
        .and("fresh", 1)
        .when(reload(false))
        .after(seconds(2))
        .expect(|scene| {
            let view = scene.world.view();
            let names: Vec<&str> = view.programs.iter().map(|program| program.name.as_str()).collect();
            assert_eq!(names, ["fresh", "mailer"]);
        })
        .expect(all_are(Running));
}

#[test]
fn reload_says_of_every_program_what_it_does_and_why() {
    given("mailer", 2)
        .and("resizer", 1)
        .and("old", 1)
        .after(seconds(2))
        .without("old")
        .when(|scene| scene.edit("mailer", |spec| spec.policy.numprocs = 4))
        .when(reload(true))
        .expect(|scene| {
            let Some(Ok(Reply::Changes(changes))) = scene.answer.clone() else { panic!("{:?}", scene.answer) };
            let rows: Vec<_> = changes.rows.iter().map(|row| (row.program.as_str(), row.action)).collect();
            let action_of = |name: &str| rows.iter().find(|(program, _)| *program == name).map(|(_, action)| *action);
            assert_eq!(action_of("old"), Some(Action::Stop));
            assert_eq!(action_of("resizer"), Some(Action::Keep));
            let mailer = changes.rows.iter().find(|row| row.program == "mailer").expect("every program has a row");
            assert!(mailer.why.contains("numprocs 2 -> 4"), "{}", mailer.why);
        })
        // It was a question only.
        .after(seconds(2))
        .expect(spawned(4));
}

#[test]
fn a_reload_with_errors_changes_nothing() {
    let line = "fleet.toml:14: program.mailer.startsecs: found \"fast\", expected a duration such as \"5s\"";
    given("mailer", 2)
        .after(seconds(2))
        .expect(spawned(2))
        .when(reload_with_errors(&[line]))
        .expect(refused(Some(Refusal::BadConfig { faults: vec![line.into()] })))
        .expect(|scene| assert_eq!(scene.world.view().faults, [line]))
        .after(seconds(5))
        .expect(all_are(Running))
        .expect(spawned(0))
        .when(reload(false))
        .expect(|scene| assert!(scene.world.view().faults.is_empty()));
}

#[test]
fn a_program_that_comes_back_while_it_is_being_removed_starts_again() {
    given("mailer", 1)
        .and("old", 1)
        .staffed_with(|worker| worker.heeds = Heeds::After(seconds(5)))
        .after(seconds(2))
        .without("old")
        .when(reload(false))
        .after(seconds(1))
        .and("old", 1)
        .when(reload(false))
        .after(seconds(10))
        .expect(all_are(Running))
        .expect(spawned(3));
}

#[test]
fn a_slot_that_a_person_stopped_stays_down_over_a_reload() {
    given("mailer", 2)
        .after(seconds(2))
        .when(stop("mailer:mailer_01"))
        .after(seconds(1))
        .having(|spec| spec.policy.startretries = Some(5))
        .when(reload(false))
        .after(seconds(5))
        .expect(is(0, Running))
        .expect(is(1, Stopped));
}

// Locks.

#[test]
fn a_slot_waits_for_its_lock_and_says_who_holds_it() {
    given("cron", 1)
        .having(with_launch(|launch| launch.lock = Some(LockSpec::Port(3801))))
        .when(|_| {})
        .when(stop("cron"))
        .after(seconds(1))
        .when(|scene| scene.world.stranger_takes(Lock::Port(3801), seconds(30)))
        .when(start("cron"))
        .expect(is(0, Waiting))
        .expect(reason(0, "lock port:3801 is held by pid 77; tries again every second"))
        .after(seconds(29))
        .expect(is(0, Waiting))
        .expect(|scene| assert_eq!(scene.slot(0).tries, 0))
        .after(seconds(4))
        .expect(is(0, Running));
}

#[test]
fn of_two_slots_with_one_lock_one_runs_and_the_other_takes_over() {
    given("cron", 2)
        .having(with_launch(|launch| launch.lock = Some(LockSpec::Name(Template::text("nightly")))))
        .after(seconds(3))
        .expect(is(0, Running))
        .expect(is(1, Waiting))
        .when(stop("cron:cron_00"))
        .after(seconds(3))
        .expect(is(0, Stopped))
        .expect(is(1, Running));
}

// Shutting down.

#[test]
fn a_shutdown_stops_the_highest_priority_first_and_waits_for_it() {
    let state = |scene: &mut Scene, name: &str| scene.world.slot(name, 0).state;
    given("first", 1)
        .having(|spec| spec.policy.priority = 1)
        .and("last", 1)
        .having(|spec| spec.policy.priority = 5)
        .and("middle", 1)
        .having(|spec| spec.policy.priority = 3)
        .staffed_with(|worker| worker.heeds = Heeds::After(seconds(2)))
        .after(seconds(3))
        .when(shutdown())
        .expect(|scene| assert_eq!(["last", "middle", "first"].map(|name| state(scene, name)), [Stopping, Running, Running]))
        .after(millis(2100))
        .expect(|scene| assert_eq!(["last", "middle", "first"].map(|name| state(scene, name)), [Stopped, Stopping, Running]))
        .after(millis(2100))
        .expect(|scene| assert_eq!(["last", "middle", "first"].map(|name| state(scene, name)), [Stopped, Stopped, Stopping]))
        .expect(|scene| assert!(!scene.world.quit))
        .after(millis(2100))
        .expect(|scene| assert!(scene.world.quit && scene.world.is_deserted()));
}

#[test]
fn starts_go_in_order_of_priority() {
    given("late", 2)
        .having(|spec| spec.policy.priority = 9)
        .and("soon", 1)
        .having(|spec| spec.policy.priority = 1)
        .when(|_| {})
        .expect(|scene| assert_eq!((scene.world.slot("soon", 0).pid, scene.world.slot("late", 0).pid), (Some(101), Some(102))));
}

#[test]
fn in_a_shutdown_people_are_refused_and_an_ending_worker_is_not_replaced() {
    given("mailer", 2)
        .staffed_with(|worker| worker.heeds = Heeds::After(seconds(5)))
        .after(seconds(2))
        .when(shutdown())
        .when(start("mailer:*"))
        .expect(refused(Some(Refusal::ShuttingDown)))
        .when(asked(Command::Refresh))
        .expect(refused(None))
        .when(exits(0, 1))
        .expect(is(0, Stopped))
        .after(seconds(6))
        .expect(|scene| assert!(scene.world.quit));
}

#[test]
fn an_empty_daemon_quits_at_once() {
    given("mailer", 0).when(shutdown()).expect(|scene| assert!(scene.world.quit));
}

// Idle costs nothing; clocks jump.

#[test]
fn a_fleet_at_rest_has_no_deadline_at_all() {
    given("mailer", 50).after(seconds(2)).expect(all_are(Running)).expect(next_deadline(None)).expect(|scene| {
        assert!(scene.world.next_turn().is_none(), "nothing at all will happen");
    });
}

#[test]
fn supervisor_281_the_wall_clock_may_jump_and_no_date_moves() {
    for jump in [-3_600_000_000_i64, 3_600_000_000, -1_700_000_000_000] {
        given("mailer", 1)
            .staffed_with(|worker| worker.lives = Some(millis(100)))
            .after(millis(200))
            .expect(is(0, Backoff))
            .when(|scene| scene.world.now.stamp = Stamp(scene.world.now.stamp.0 + jump))
            .after(millis(800))
            .expect(spawned(1))
            .after(millis(200))
            .expect(spawned(1));
    }
}

#[test]
fn a_view_that_did_not_change_is_the_same_view() {
    let mut scene = given("mailer", 3).after(seconds(2));
    let (first, second) = (scene.world.view(), scene.world.view());
    assert!(Arc::ptr_eq(&first, &second));
    let mut scene = scene.when(exits(1, 1));
    let third = scene.world.view();
    assert!(Arc::ptr_eq(&first.programs[0].slots[0], &third.programs[0].slots[0]), "a slot that did not change is shared");
    assert!(!Arc::ptr_eq(&first.programs[0].slots[1], &third.programs[0].slots[1]));
}

#[test]
fn the_engine_comes_back_from_json_in_the_middle_of_a_stop_and_goes_on() {
    ladder(given("mailer", 2))
        .staffed_with(|worker| worker.heeds = Heeds::Never)
        .after(seconds(2))
        .when(stop("mailer:mailer_00"))
        .after(seconds(4))
        .when(|scene| scene.world.hand_over())
        .after(seconds(12))
        .expect(is(0, Stopped))
        .expect(is(1, Running));
}

#[test]
fn a_backoff_factor_comes_back_from_json_to_the_last_bit() {
    // Once found by seed 4: a fast reading of floats is off by one bit for this one.
    given("mailer", 1)
        .having(|spec| {
            let (initial, max) = (millis(1872), millis(5946));
            spec.policy.backoff.rule = BackoffRule::Exponential { initial, max, factor: 2.2586046083968583, jitter: 0.3906835052828001 };
        })
        .after(seconds(2))
        .when(|scene| scene.world.hand_over());
}

#[test]
fn a_next_try_is_shown_the_same_after_a_jump_of_the_wall_clock_and_a_hand_over() {
    // Once found by seeds 1, 2 and 5.
    given("mailer", 1)
        .staffed_with(|worker| worker.lives = Some(millis(100)))
        .after(millis(200))
        .expect(is(0, Backoff))
        .when(|scene| scene.world.now.stamp = Stamp(scene.world.now.stamp.0 + 3_600_000))
        .when(|scene| scene.world.hand_over())
        .after(seconds(1))
        .expect(spawned(2));
}

#[test]
fn an_end_of_a_stranger_is_ignored() {
    given("mailer", 1)
        .after(seconds(2))
        .when(|scene| scene.world.hear(Event::Ended { pid: 4711, exit: Exit::Code(1), leftovers: 3 }))
        .expect(is(0, Running))
        .expect(next_deadline(None));
}

#[test]
fn a_full_disk_is_shown_and_told_until_it_is_over() {
    let slot = || SlotId::new(&ProgramName::new("mailer"), 0);
    given("mailer", 1)
        .after(seconds(2))
        .when(|scene| scene.world.hear(Event::LogChanged { slot: slot(), trouble: Some("no space left on device".into()), lost: 3 }))
        .expect(|scene| assert_eq!(scene.slot(0).log_trouble.as_deref(), Some("no space left on device")))
        .expect(|scene| assert!(scene.notices().iter().any(|notice| matches!(notice.what, What::LogTrouble { .. }))))
        .when(|scene| scene.world.hear(Event::LogChanged { slot: slot(), trouble: None, lost: 9 }))
        .expect(|scene| assert_eq!(scene.slot(0).log_trouble, None))
        .expect(told("9 lines were lost"));
}
