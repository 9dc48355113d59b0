//! Many people at once, each with a mind of his own: a slot never has two workers, and everybody gets an answer.

use crate::harness::{Fleet, is_alive, until};
use ganger::model::rng::Rng;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// For how long eight clients do as they like.
const SPELL: Duration = Duration::from_secs(6);

#[test]
fn eight_clients_at_once_never_make_two_workers_of_a_slot() {
    let fleet = Fleet::start(&programs(4, "sleep 100071"));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut looks = 0;
            while !over.load(Ordering::Relaxed) {
                assert_single(&fleet);
                looks += 1;
            }
            looks
        });
        let clients: Vec<_> = (0..8)
            .map(|seed| {
                scope.spawn({
                    let fleet = &fleet;
                    move || a_client(fleet, seed)
                })
            })
            .collect();
        let failed: Vec<_> = clients.into_iter().filter_map(|client| client.join().err()).collect();
        over.store(true, Ordering::Relaxed);
        assert!(watch.join().expect("the watch saw two workers of a slot") > 10);
        assert!(failed.is_empty(), "a client was let down");
    });

    // Whatever they did, the fleet can be brought back to what the file says.
    fleet.define(&programs(4, "sleep 100071"));
    fleet.ctl_ok(&["reload"]);
    for program in ["calm", "quick"] {
        fleet.ctl_ok(&["scale", program, "default"]);
    }
    fleet.ctl(&["signal", "CONT", "all"]);
    fleet.ctl_ok(&["start", "calm", "quick"]);
    fleet.until("eight run", |view| view.slots().filter(|slot| slot.program.as_str() != "crash" && slot.pid.is_some()).count() == 8);
    until("no stranger is left", || (workers(&fleet).values().map(Vec::len).sum::<usize>() <= 12).then_some(()), || fleet.describe());
}

fn programs(count: u32, command: &str) -> String {
    format!(
        "[program.calm]\ncommand = \"{command}\"\nnumprocs = {count}\nstartsecs = 0\nstopwaitsecs = 1\n\
         [program.quick]\ncommand = \"sh -c 'sleep 0.3; exit 0'\"\nautorestart = true\nnumprocs = {count}\nstartsecs = 0\n\
         [program.crash]\ncommand = \"false\"\nnumprocs = {count}\nstartretries = \"forever\"\nbackoff = {{ initial = \"10ms\", max = \"200ms\" }}\n"
    )
}

fn a_client(fleet: &Fleet, seed: u64) {
    let mut rng = Rng::seeded(seed);
    let end = Instant::now() + SPELL;
    let mut one_of = |words: &[&'static str]| words[rng.between(0, words.len() as u64 - 1) as usize];
    while Instant::now() < end {
        let name = one_of(&["calm", "quick", "crash", "all", "calm:calm_00", "quick:*", "quick:quick_02", "nobody"]);
        let told =
            match one_of(&["start", "stop", "restart", "recycle", "roll", "scale", "signal", "reload", "status", "pid", "clear", "tail"]) {
                "roll" => fleet.ctl(&["restart", "--rolling", "--batch", "50%", "--timeout", "3", name]),
                "scale" => fleet.ctl(&["scale", one_of(&["calm", "quick", "crash"]), one_of(&["0", "1", "3", "7", "default"])]),
                "signal" => fleet.ctl(&["signal", one_of(&["KILL", "STOP", "CONT", "TERM"]), name]),
                "reload" => {
                    fleet.define(&programs(3 + seed as u32 % 3, one_of(&["sleep 100071", "sleep 100072"])));
                    fleet.ctl(&["reload"])
                }
                "status" => fleet.ctl(&["status", "-v"]),
                "tail" => fleet.ctl(&["tail", name]),
                verb @ ("start" | "stop" | "restart") => fleet.ctl(&[verb, "--timeout", "3", name]),
                verb => fleet.ctl(&[verb, name]),
            };
        assert!([0, 1, 2, 3, 4, 7].contains(&told.code), "{told:?}");
        assert!(!told.err.contains("does not answer") && !told.err.contains("lost the daemon"), "{told:?}");
    }
}

/// Living workers of this fleet, by slot, as the kernel tells: children of gangerd that carry its runtime directory.
fn workers(fleet: &Fleet) -> BTreeMap<String, Vec<i32>> {
    let mine = format!("NOTIFY_SOCKET={}/run/", fleet.dir.display());
    let daemon = fleet.pid().to_string();
    let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").expect("there is /proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(environ) = std::fs::read(entry.path().join("environ")) else { continue };
        let environ = String::from_utf8_lossy(&environ);
        if !environ.split('\0').any(|line| line.starts_with(&mine)) {
            continue;
        }
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)).unwrap_or_default();
        if let Some(worker) = environ.split('\0').find_map(|line| line.strip_prefix("GANGER_WORKER="))
            && parent == daemon
            && is_alive(pid)
        {
            found.entry(worker.to_owned()).or_default().push(pid);
        }
    }
    found
}

fn assert_single(fleet: &Fleet) {
    for (worker, pids) in workers(fleet) {
        // Reading /proc takes a while: two that do not live together are no pair.
        let together = pids.iter().filter(|pid| is_alive(**pid)).count();
        assert!(pids.len() < 2 || together < 2, "{worker} has pids {pids:?}\n{}", fleet.describe());
    }
}
