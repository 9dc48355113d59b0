//! 5,000 jobs that leak, through a fleet that is scaled, rolled, recycled and shot at meanwhile.

use crate::beanstalkd::Beanstalkd;
use crate::journal::Journal;
use crate::rig::Rig;
use crate::watch::Watcher;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const JOBS: usize = 5_000;
const LIMIT: u64 = 64 * 1024 * 1024;
/// Two samples (one a second), and what the machine may take to carry them out.
const TWO_SAMPLES: Duration = Duration::from_millis(2_250);

#[test]
fn every_job_is_done_once_while_the_fleet_is_scaled_rolled_recycled_and_shot_at() {
    let queue = Beanstalkd::start();
    let mut rig = Rig::new("leaking");
    let journal = rig.path("journal");
    let worker = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/php/beanstalkd-worker.php");
    queue.connect().fill("leaky", JOBS);

    let watcher = Watcher::start(rig.mark(), TWO_SAMPLES);
    rig.start(&format!(
        r#"
        [program.leaky]
        command      = ["php", "{worker}", "--server={}", "--tube=leaky", "--work=30", "--leak=256", "--journal={}"]
        process_name = "leaky_%(process_num)02d"
        numprocs     = 4
        ready        = "notify"
        environment  = {{ STACK_MARK = "{}" }}

        [program.leaky.recycle]
        max_jobs     = "200-400"
        max_memory   = "64MB"
        concurrency  = 4
        "#,
        queue.address,
        journal.display(),
        rig.mark(),
    ));

    let over = AtomicBool::new(false);
    let killed: BTreeSet<String> = std::thread::scope(|scope| {
        let shooter = scope.spawn(|| shoot_one_each_second(&rig, &watcher, &over));
        // Whatever happens in here, the shooter must be told, or the scope would wait for it for ever.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let finished = |count: usize, limit: u64| {
                let end = Instant::now() + Duration::from_secs(limit);
                while Journal::read(&journal).finished() < count {
                    assert!(Instant::now() < end, "{count} jobs are not done within {limit} s\n{}", rig.words());
                    std::thread::sleep(Duration::from_millis(50));
                }
            };
            finished(1_000, 120);
            rig.ctl_ok(&["scale", "leaky", "8"]);
            finished(2_200, 120);
            roll_all(&rig, &watcher);
            finished(3_600, 120);
            rig.ctl_ok(&["scale", "leaky", "3"]);
            finished(JOBS, 240);
        }));
        over.store(true, Ordering::Relaxed);
        let killed = shooter.join().expect("the shooter");
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        killed
    });

    // A worker that was shot over the last job may still owe it: wait for the queue, not only for the journal.
    rig.wait("the queue is empty", Duration::from_secs(60), |_| {
        queue.connect().tube("leaky").is_some_and(|tube| {
            ["current-jobs-ready", "current-jobs-reserved", "current-jobs-delayed", "current-jobs-buried", "current-jobs-urgent"]
                .iter()
                .all(|key| tube[*key] == 0)
        })
    });
    let tube = queue.connect().tube("leaky").expect("workers watch it");
    assert_eq!(tube["total-jobs"], JOBS as u64);
    rig.wait("three slots run, the others are gone", Duration::from_secs(30), |rig| {
        let program = rig.program("leaky");
        let alive = watcher.seen().alive().len();
        alive == 3 && program["running"] == 3 && program["slots"].as_array().is_some_and(|slots| slots.len() == 3)
    });

    // Every job once, but for what shot workers had in hand.
    let told = Journal::read(&journal);
    let jobs: Vec<u64> = told.taken.keys().copied().collect();
    assert_eq!(jobs.len(), JOBS, "jobs that were ever taken");
    let verdict = told.judge(jobs.into_iter(), &killed);
    assert_eq!(verdict.lost, [0_u64; 0], "jobs lost");
    assert_eq!(verdict.twice, [0_u64; 0], "jobs done twice without need");
    assert_eq!(verdict.cut, [], "jobs cut in half by something else than our SIGKILL");
    assert!(killed.len() >= 5, "one worker was to be shot each second, and only {} were", killed.len());

    // Never two of one slot; memory within the limit and two samples' growth.
    let seen = watcher.seen();
    assert_eq!(seen.overlaps, [""; 0], "two workers of one slot alive together");
    assert_eq!(seen.most, 8, "most workers alive at once");
    let slots: BTreeSet<&str> = seen.lives.iter().map(|life| life.slot.as_str()).collect();
    assert_eq!(slots.len(), 8, "{slots:?}");
    let largest = seen.lives.iter().max_by_key(|life| life.peak).expect("some worker");
    let bound = LIMIT + seen.growth;
    assert!(largest.peak <= bound, "{largest:?} had {} bytes; the bound is {bound} ({} growth in two samples)", largest.peak, seen.growth);

    // What gangerd says of it: the same, and no recycle is a failure.
    let program = rig.program("leaky");
    let ended = |why: &str| program["ended"][why].as_u64().unwrap_or(0);
    assert!(ended("memory") + ended("jobs") > 0, "nobody was recycled: {program}");
    assert!(ended("memory") > 0, "jobs leak, and nobody was recycled for memory: {program}");
    assert!(ended("deploy") > 0, "the rolling restart replaced nobody: {program}");
    assert!(ended("scale") > 0, "scaling down ended nobody: {program}");
    for why in ["finished", "watchdog", "job_timeout", "not_ready"] {
        assert_eq!(ended(why), 0, "ended by {why}: {program}");
    }
    assert!(ended("crash") <= killed.len() as u64, "{} shot, and more crashes than that: {program}", killed.len());
    for notice in rig.notices() {
        let to = &notice["what"]["to"];
        assert!(to != "BACKOFF" && to != "FATAL", "a recycle or a shot was taken for a failed start: {notice}");
    }
    // Totals ride on every message, so at most a life's last message can be missed, and that one speaks of one job.
    let counted = program["jobs"].as_u64().expect("a count");
    let done: u64 = told.by_run.values().sum();
    let lives = seen.lives.len() as u64;
    assert!(counted <= done && counted + lives >= done, "gangerd counted {counted} jobs, the journal {done} in {lives} lives");

    println!(
        "{JOBS} jobs, {lives} lives, {} shot: {} jobs given back, {} done again; largest worker {:.1} MB of {:.1} allowed; \
         ended {}; {counted} of {done} counted; {} looks at /proc, longest gap {:?}",
        killed.len(),
        verdict.given_back,
        verdict.done_again,
        largest.peak as f64 / 1e6,
        bound as f64 / 1e6,
        program["ended"],
        seen.rounds,
        seen.longest_gap,
    );
    drop(seen);
    rig.stop();
}

/// Until `over`: each second SIGKILL to one worker that gangerd calls RUNNING. The runs that were shot.
fn shoot_one_each_second(rig: &Rig, watcher: &Watcher, over: &AtomicBool) -> BTreeSet<String> {
    let mut killed = BTreeSet::new();
    let mut next = Instant::now() + Duration::from_secs(1);
    let mut turn = 0;
    while !over.load(Ordering::Relaxed) {
        if Instant::now() < next {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        }
        next += Duration::from_secs(1);
        let program = rig.program("leaky");
        let slots = program["slots"].as_array().expect("slots");
        let mut running: Vec<(i64, i64)> = (slots.iter().filter(|slot| slot["state"] == "RUNNING"))
            .filter_map(|slot| Some((slot["started"].as_i64().unwrap_or(0), slot["pid"].as_i64()?)))
            .collect();
        if running.is_empty() {
            continue;
        }
        // Mostly the youngest, so that others live long enough to leak up to their limit; by turns any.
        running.sort_unstable();
        turn += 1;
        let victim = if turn % 4 == 0 { turn / 4 % running.len() } else { running.len() - 1 };
        let pid = i32::try_from(running[victim].1).expect("a pid");
        // Only if it is the one that we have seen: pids are used again.
        let life = watcher.seen().lives.iter().rev().find(|life| life.pid == pid && life.alive).cloned();
        if let Some(life) = life {
            killed.insert(life.run);
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    killed
}

/// `restart --rolling`, until none is left of those who were there before. A shot that hits a newcomer before it is ready
/// halts a rolling restart, as it should; then it is asked for again.
fn roll_all(rig: &Rig, watcher: &Watcher) {
    let before = watcher.seen().runs_alive();
    let mut said = Vec::new();
    for _ in 0..5 {
        let output = rig.ctl(&["restart", "--rolling", "--batch", "2", "--timeout", "60s", "leaky:*"]);
        said.push(format!("{output:?}"));
        if before.is_disjoint(&watcher.seen().runs_alive()) {
            return;
        }
    }
    panic!("after five rolling restarts some old workers still live:\n{}\n{}", said.join("\n"), rig.words());
}
