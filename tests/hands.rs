//! The hands on a real kernel, where they need a process to themselves: reaping takes any child, inheriting orphans is a
//! property of the whole process, and so are signals. One test at a time has the process (`ALONE`).

#![allow(clippy::disallowed_methods, reason = "tests may start processes; they stand for crontabs and strangers")]

use ganger::leases::{self, NoLease};
use ganger::model::exit::Exit;
use ganger::model::launch::Lock;
use ganger::model::name::{ProgramName, RunId, SlotId};
use ganger::model::signal::Signal;
use ganger::model::spec::ProgramSpec;
use ganger::model::template::Template;
use ganger::model::units::Bytes;
use ganger::os::fds;
use ganger::os::kill;
use ganger::os::meter::Meter;
use ganger::os::notify::{Datagram, Sockets};
use ganger::os::reap::{self, Reaped};
use ganger::os::signals::Signals;
use ganger::os::spawn::{Spawned, Spawner, Stdio};
use ganger::os::tree::{self, Tree};
use ganger::os::{clock, host};
use std::collections::HashMap;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    let guard = ALONE.lock().unwrap_or_else(|poison| poison.into_inner());
    host::become_subreaper().unwrap();
    guard
}

fn spawner() -> Spawner {
    Spawner::new(fds::nofile(), vec![("PATH".into(), "/usr/bin:/bin".into())]).unwrap()
}

fn start(spawner: &mut Spawner, run: u64, script: &str, lock: Option<BorrowedFd<'_>>) -> Spawned {
    let null = fds::dev_null().unwrap();
    let stdio = Stdio { stdin: null.as_fd(), stdout: null.as_fd(), stderr: null.as_fd() };
    let spec = ProgramSpec::new("w", ["sh", "-c", script].map(Template::text).to_vec());
    let extra = [(tree::VARIABLE.to_owned(), tree::mark("fleet", RunId(run)))];
    spawner.spawn(&spec.launch_of(0), &extra, stdio, lock).unwrap()
}

/// Looks again until it is so, ten seconds at most.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = clock::now().moment;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(clock::now().moment.since(began).0 < 10_000, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Reaps until that child has come, and gives all that came.
fn reap_until(pid: i32) -> HashMap<i32, Exit> {
    let mut all = HashMap::new();
    until("the child ends", || {
        all.extend(reap::reap(100).0.into_iter().map(|Reaped { pid, exit }| (pid, exit)));
        all.contains_key(&pid).then_some(())
    });
    all
}

#[test]
fn reaping_is_bounded_and_gets_every_status() {
    let _alone = alone();
    let mut spawner = spawner();
    let pids: Vec<i32> = (0..20).map(|code| start(&mut spawner, 1, &format!("exit {code}"), None).pid).collect();
    let mut exits = HashMap::new();
    until("all have ended", || {
        let (batch, more) = reap::reap(3);
        assert!(batch.len() <= 3 && (!more || batch.len() == 3));
        exits.extend(batch.into_iter().map(|child| (child.pid, child.exit)));
        // An orphan of another test may come along.
        pids.iter().all(|pid| exits.contains_key(pid)).then_some(())
    });
    for (code, pid) in pids.into_iter().enumerate() {
        assert_eq!(exits[&pid], Exit::Code(code as i32));
    }
    assert!(!reap::reap(3).1, "nothing is left");
}

#[test]
fn a_full_table_of_descriptors_is_said_and_passes() {
    let _alone = alone();
    let mut spawner = spawner();
    let launch = ProgramSpec::new("w", vec![Template::text("true")]).launch_of(0);
    let null = fds::dev_null().unwrap();
    let stdio = Stdio { stdin: null.as_fd(), stdout: null.as_fd(), stderr: null.as_fd() };
    let (soft, hard) = fds::nofile();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 100, hard).unwrap();
    let full: Vec<_> = std::iter::from_fn(|| fds::dev_null().ok()).collect();
    let refused = spawner.spawn(&launch, &[], stdio, None);
    drop(full);
    let passed = spawner.spawn(&launch, &[], stdio, None);
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert_eq!(refused.unwrap_err().text, "too many open files in the daemon (limit 100)");
    let worker = passed.unwrap();
    assert_eq!(reap_until(worker.pid)[&worker.pid], Exit::Code(0));
}

#[test]
fn a_life_without_leftovers_is_clear_at_once() {
    let _alone = alone();
    let mut tree = Tree::new("fleet");
    let worker = start(&mut spawner(), 1, "exit 0", None);
    tree.began(worker.pid);
    reap_until(worker.pid);
    assert_eq!(tree.after_reap(&[(RunId(1), worker.pid)]), [(RunId(1), 0)]);
    assert_eq!(tree.lives().count(), 0);
}

#[test]
fn leftovers_are_found_in_the_group_and_beyond_and_can_be_killed() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut spawner = spawner();
    let mut tree = Tree::new("fleet");
    // One left in the group; one that double-forks and leaves with setsid; and a child of that one, from which the mark is gone.
    let script = format!(
        "cd {0}; sleep 60 & setsid sh -c 'echo $$ > a; env -i sh -c \"echo \\$\\$ > b.new; mv b.new b; exec sleep 61\" & wait' & \
         while [ ! -e b ]; do sleep 0.01; done",
        dir.path().display()
    );
    let bystander = start(&mut spawner, 2, "setsid sleep 62 & wait", None);
    let worker = start(&mut spawner, 1, &script, None);
    tree.began(worker.pid);
    tree.began(bystander.pid);
    assert_eq!(reap_until(worker.pid)[&worker.pid], Exit::Code(0));
    assert!(tree.after_reap(&[(RunId(1), worker.pid)])[0].1 >= 3);
    // `mv` may still be on its way out.
    until("only the three are left", || (tree.still_there(RunId(1)) == 3).then_some(()));
    assert!(tree.all_with_fleet_mark().iter().filter(|(_, run)| *run == RunId(1)).count() >= 2);
    assert_eq!(tree.signal(RunId(1), Signal::KILL), 3);
    until("all are gone", || {
        reap::reap(100);
        (tree.still_there(RunId(1)) == 0).then_some(())
    });
    assert_eq!(tree.lives().count(), 0);
    // The other life is untouched.
    assert!(kill::signal_process(bystander.pid, Some(bystander.pidfd.as_fd()), Signal::TERM).unwrap());
    reap_until(bystander.pid);
    assert_eq!(tree.after_reap(&[(RunId(2), bystander.pid)]), [(RunId(2), 1)]);
    tree.signal(RunId(2), Signal::KILL);
    until("it is gone", || {
        reap::reap(100);
        (tree.still_there(RunId(2)) == 0).then_some(())
    });
}

#[test]
fn a_leftover_that_lost_its_mark_is_known_by_its_group() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut tree = Tree::new("fleet");
    let script = format!("cd {}; env -i sh -c ': > up; exec sleep 60' & while [ ! -e up ]; do sleep 0.01; done", dir.path().display());
    let worker = start(&mut spawner(), 1, &script, None);
    reap_until(worker.pid);
    assert_eq!(tree.after_reap(&[(RunId(1), worker.pid)]), [(RunId(1), 1)]);
    assert_eq!(tree.signal(RunId(1), Signal::TERM), 1);
    until("it is gone", || {
        reap::reap(100);
        (tree.still_there(RunId(1)) == 0).then_some(())
    });
}

#[test]
fn a_zombie_of_the_group_is_no_leftover() {
    let _alone = alone();
    let mut tree = Tree::new("fleet");
    // A child that has ended and that nobody has waited for (a shell would), when its parent dies.
    let perl = "exec perl -e 'if (fork == 0) { exit 3 } select(undef, undef, undef, 0.2); kill 9, $$; sleep 60'";
    let worker = start(&mut spawner(), 1, perl, None);
    tree.began(worker.pid);
    until("the worker ends", || {
        // Only this one: the zombie stays.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", worker.pid)).unwrap();
        stat.contains(") Z ").then_some(())
    });
    let first = until("it is reaped", || reap::reap(1).0.into_iter().find(|child| child.pid == worker.pid));
    assert_eq!(first.exit, Exit::Signal(Signal::KILL));
    assert!(kill::group_exists(worker.pid), "the zombie is there");
    assert_eq!(tree.after_reap(&[(RunId(1), worker.pid)]), [(RunId(1), 0)]);
    while !reap::reap(10).0.is_empty() {}
}

#[test]
fn signals_reach_a_whole_group() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let worker = start(&mut spawner(), 1, &format!("cd {}; sleep 60 & touch up; wait", dir.path().display()), None);
    until("it is up", || dir.path().join("up").exists().then_some(()));
    assert!(kill::group_exists(worker.pid));
    assert!(kill::signal_group(worker.pid, Signal::KILL).unwrap());
    until("the group is empty", || {
        reap::reap(10);
        (!kill::group_exists(worker.pid)).then_some(())
    });
    assert!(!kill::signal_process(worker.pid, Some(worker.pidfd.as_fd()), Signal::TERM).unwrap(), "gone is no fault");
}

#[test]
fn the_end_of_a_child_comes_as_a_signal() {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut signals = Signals::install().unwrap();
        let worker = start(&mut spawner(), 1, "exit 5", None);
        loop {
            let caught = tokio::time::timeout(Duration::from_secs(10), signals.recv()).await.expect("a signal comes");
            assert!(caught.iter().any(|c| c.signal.number() == libc::SIGCHLD && c.from.is_none()), "{caught:?}");
            if reap::reap(10).0.contains(&Reaped { pid: worker.pid, exit: Exit::Code(5) }) {
                break;
            }
        }
    });
}

fn slot(number: u32) -> SlotId {
    SlotId::new(&ProgramName::new("w"), number)
}

/// Runs a Perl line as a user, to its end.
fn as_user(uid: u32, script: &str, argument: &Path) -> bool {
    std::process::Command::new("setpriv")
        .args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups", "--inh-caps=-all", "perl", "-e", script])
        .arg(argument)
        .status()
        .unwrap()
        .success()
}

const SEND: &str =
    r#"use Socket; socket(S, AF_UNIX, SOCK_DGRAM, 0) or die; send(S, "X_JOBS=7\nSTATUS=of $$", 0, sockaddr_un($ARGV[0])) or die "$!""#;

#[test]
fn datagrams_come_with_the_kernels_word_on_who_sent_them() {
    let _alone = alone();
    let dir = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o711)).tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut got: Vec<Datagram> = Vec::new();
    runtime.block_on(async {
        let mut sockets = Sockets::new().unwrap();
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        sockets.bind(&slot(1), &one, None, None).unwrap();
        sockets.bind(&slot(2), &two, None, None).unwrap();
        sockets.bind(&slot(2), &two, None, None).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&one).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        assert!(!sockets.drain(10, &mut got) && got.is_empty());
        let client = UnixDatagram::unbound().unwrap();
        // A talkative one and a quiet one.
        client.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while client.send_to(b"WATCHDOG=1", &one).is_ok() {
            sent += 1;
        }
        client.send_to(b"READY=1\nX_JOBS=3", &two).unwrap();
        tokio::time::timeout(Duration::from_secs(10), sockets.readable()).await.expect("there is something");
        assert!(sockets.drain(2, &mut got));
        assert_eq!(got.len(), 2, "bounded");
        while sockets.drain(2, &mut got) {}
        assert_eq!(got.len(), sent + 1);
        let ready = got.iter().find(|datagram| datagram.told.ready).unwrap();
        assert_eq!((ready.slot.clone(), ready.pid, ready.uid, ready.told.jobs), (slot(2), host::pid(), host::uid(), Some(3)));
        // Nothing more: nobody is woken.
        assert!(tokio::time::timeout(Duration::from_millis(20), sockets.readable()).await.is_err());
        client.send_to(b"X_JOBS=4", &one).unwrap();
        tokio::time::timeout(Duration::from_secs(10), sockets.readable()).await.expect("there is something again");
        got.clear();
        sockets.drain(10, &mut got);
        assert_eq!(got[0].told.jobs, Some(4));
        sockets.unbind(&slot(1));
        assert!(!one.exists() && two.exists());
        assert!(client.send_to(b"X_JOBS=4", &one).is_err());
    });
}

#[test]
fn a_worker_reaches_its_own_socket_and_no_other_user_does() {
    let _alone = alone();
    if host::uid() != 0 {
        eprintln!("skipped: needs root to be two users");
        return;
    }
    let dir = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o711)).tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut sockets = Sockets::new().unwrap();
        let path = dir.path().join("w");
        sockets.bind(&slot(1), &path, Some(4001), Some(4001)).unwrap();
        assert!(as_user(4001, SEND, &path));
        assert!(!as_user(4002, SEND, &path), "the file is not his");
        let mut got = Vec::new();
        sockets.drain(10, &mut got);
        assert_eq!((got.len(), got[0].uid, got[0].told.jobs), (1, 4001, Some(7)));
        // Even one who got hold of the way in is not heard.
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        assert!(as_user(4002, SEND, &path));
        got.clear();
        sockets.drain(10, &mut got);
        assert_eq!((got.len(), sockets.refused), (0, 1));
    });
}

#[test]
fn descriptors_that_come_along_are_closed_and_a_barrier_is_seen() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut sockets = Sockets::new().unwrap();
        let path = dir.path().join("w");
        sockets.bind(&slot(1), &path, None, None).unwrap();
        let client = UnixDatagram::unbound().unwrap();
        client.connect(&path).unwrap();
        let (read, write) = std::io::pipe().unwrap();
        let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
        let part = [std::io::IoSlice::new(b"BARRIER=1")];
        let fd = [std::os::fd::AsRawFd::as_raw_fd(&write)];
        let control = [nix::sys::socket::ControlMessage::ScmRights(&fd)];
        let flags = nix::sys::socket::MsgFlags::empty();
        nix::sys::socket::sendmsg::<()>(std::os::fd::AsRawFd::as_raw_fd(&client), &part, &control, flags, None).unwrap();
        drop(write);
        let mut got = Vec::new();
        sockets.drain(10, &mut got);
        assert_eq!(got, []);
        // The sender of a barrier waits for its pipe to be closed.
        let mut end = read;
        assert_eq!(std::io::Read::read(&mut end, &mut [0; 1]).unwrap(), 0);
        assert_eq!(std::fs::read_dir("/proc/self/fd").unwrap().count(), before - 1);
    });
}

#[test]
fn a_lock_lives_as_long_as_any_process_of_the_worker() {
    let _alone = alone();
    let mut spawner = spawner();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.lock");
    for lock in [Lock::Port(39_877), Lock::File(file.to_string_lossy().into_owned())] {
        let lease = leases::take(&lock, 1234, dir.path()).unwrap();
        // The worker leaves; a child of its keeps the descriptor.
        let worker = start(&mut spawner, 7, "sleep 60 & exit 0", Some(lease.fd.as_fd()));
        drop(lease);
        reap_until(worker.pid);
        let NoLease::Busy { holder: Some(holder) } = leases::take(&lock, 1234, dir.path()).unwrap_err() else {
            panic!("held by the child, and told so")
        };
        let stat = std::fs::read_to_string(format!("/proc/{holder}/stat")).unwrap();
        let group = stat.rsplit(')').next().unwrap().split_whitespace().nth(2).unwrap().to_owned();
        assert_eq!((holder == worker.pid, group), (false, worker.pid.to_string()), "a child in the worker's group has it");
        assert!(kill::signal_group(worker.pid, Signal::KILL).unwrap());
        until("the lock is free", || {
            reap::reap(10);
            leases::take(&lock, 1234, dir.path()).ok()
        });
    }
}

#[test]
fn solo_and_flock_in_a_crontab_keep_us_out_and_we_them() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    // What solo 1.7 does (facts of the original: bind, no listen, no SO_REUSEADDR).
    let bind = r#"use Socket; socket(S, PF_INET, SOCK_STREAM, 0); my $u = $ARGV[0];
        my $a = pack("CnC", 127, $u, 1); bind(S, pack_sockaddr_in(39878, $a)) or exit($! + 0); exit 0"#;
    let solo = |uid: &str| std::process::Command::new("perl").args(["-e", bind, uid]).status().unwrap().code();
    let lease = leases::take(&Lock::Port(39_878), 1000, dir.path()).unwrap();
    assert_eq!(solo("1000"), Some(98), "EADDRINUSE");
    assert_eq!(solo("1001"), Some(0));
    drop(lease);
    assert_eq!(solo("1000"), Some(0));

    let path = dir.path().join("job.lock");
    let flock = || std::process::Command::new("flock").arg("-n").arg(&path).arg("true").status().unwrap().code();
    let lock = Lock::File(path.to_string_lossy().into_owned());
    let lease = leases::take(&lock, 0, dir.path()).unwrap();
    assert_eq!(flock(), Some(1));
    drop(lease);
    assert_eq!(flock(), Some(0));
    let ready = dir.path().join("ready");
    let mut holder =
        std::process::Command::new("flock").arg(&path).args(["sh", "-c", "touch \"$0\"; exec sleep 60"]).arg(&ready).spawn().unwrap();
    until("flock has it", || ready.exists().then_some(()));
    assert!(matches!(leases::take(&lock, 0, dir.path()), Err(NoLease::Busy { holder: Some(_) })));
    // flock(1) stays as the parent of its command.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.id())).unwrap();
    for child in children.split_whitespace() {
        kill::signal_process(child.parse().unwrap(), None, Signal::KILL).unwrap();
    }
    holder.wait().unwrap();
    assert!(leases::take(&lock, 0, dir.path()).is_ok());
}

#[test]
fn memory_is_measured_with_children_but_shared_pages_once() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut spawner = spawner();
    let up = |n: u32| dir.path().join(format!("up{n}"));
    let grow = r#"my $x = "x" x (40 << 20); if (fork == 0) { my $y = "y" x (20 << 20) if $ARGV[1]; open F, ">", $ARGV[0]; close F; sleep 60; exit } sleep 60"#;
    let worker = |spawner: &mut Spawner, n: u32, more: &str| {
        start(spawner, u64::from(n), &format!("exec perl -e '{grow}' {} {more}", up(n).display()), None)
    };
    let (lean, fat) = (worker(&mut spawner, 1, "0"), worker(&mut spawner, 2, "1"));
    until("both are up", || (up(1).exists() && up(2).exists()).then_some(()));
    let mut meter = Meter::new();
    let found = meter.measure(&[(RunId(1), lean.pid), (RunId(2), fat.pid)]);
    let memory = |run: u64| found.iter().find(|(r, ..)| *r == RunId(run)).unwrap().1;
    // What the children share by copy-on-write counts for both, which is the price of never walking page tables.
    assert!(memory(1) > Bytes::mib(40), "{found:?}");
    assert!(memory(2) > Bytes(memory(1).0 + Bytes::mib(15).0), "{found:?}");
    assert!(found.iter().all(|(.., cpu)| cpu.0 > 0), "{found:?}");
    for pid in [lean.pid, fat.pid] {
        kill::signal_group(pid, Signal::KILL).unwrap();
        reap_until(pid);
    }
    assert_eq!(meter.measure(&[(RunId(1), lean.pid)]), []);
    until("all are gone", || {
        reap::reap(10);
        (!kill::group_exists(lean.pid) && !kill::group_exists(fat.pid)).then_some(())
    });
}

/// Not a proof but a measurement: `cargo test --test hands -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, to be read by a person"]
fn what_a_thousand_workers_cost() {
    let _alone = alone();
    let original = fds::raise_nofile();
    let mut spawner = Spawner::new(original, vec![("PATH".into(), "/usr/bin:/bin".into())]).unwrap();
    // Processor time of this thread: what it costs us, whatever else the machine does.
    let clock = || nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    let micros = |began: nix::sys::time::TimeSpec, n: u32| {
        let spent = clock() - began;
        (spent.tv_sec() as f64 * 1e6 + spent.tv_nsec() as f64 / 1e3) / f64::from(n)
    };
    let mut tree = Tree::new("fleet");
    let mut meter = Meter::new();
    let null = fds::dev_null().unwrap();
    let stdio = Stdio { stdin: null.as_fd(), stdout: null.as_fd(), stderr: null.as_fd() };
    let launch = |words: &[&str]| ProgramSpec::new("w", words.iter().map(|w| Template::text(w)).collect()).launch_of(0);
    let (sleep, quick) = (launch(&["/bin/sleep", "60"]), launch(&["/bin/true"]));
    let began = clock();
    let workers: Vec<Spawned> = (0..1000).map(|_| spawner.spawn(&sleep, &[], stdio, None).unwrap()).collect();
    let mut out = std::io::stderr();
    writeln!(out, "spawn: {:.1} µs each", micros(began, 1000)).unwrap();
    workers.iter().for_each(|worker| tree.began(worker.pid));
    // What a daemon of that size has open.
    let open: Vec<_> = (0..5000).map_while(|_| fds::dev_null().ok()).collect();
    let began = clock();
    let quick: Vec<Spawned> = (0..200).map(|_| spawner.spawn(&quick, &[], stdio, None).unwrap()).collect();
    writeln!(out, "spawn with {} more open files: {:.1} µs each", open.len(), micros(began, 200)).unwrap();
    let mut ended = 0;
    until("all have ended", || {
        ended += reap::reap(256).0.len();
        (ended >= quick.len()).then_some(())
    });
    let began = clock();
    for run in 0..200 {
        assert_eq!(tree.after_reap(&[(RunId(run), 1 << 23)]), [(RunId(run), 0)]);
    }
    writeln!(out, "after_reap, nothing left, 1000 live workers: {:.1} µs a batch", micros(began, 200)).unwrap();
    let all: Vec<(RunId, i32)> = workers.iter().enumerate().map(|(i, worker)| (RunId(i as u64), worker.pid)).collect();
    for round in ["first", "second", "third"] {
        let began = clock();
        assert_eq!(meter.measure(&all).len(), 1000);
        writeln!(out, "measure 1000 workers, {round}: {:.2} ms", micros(began, 1) / 1000.0).unwrap();
    }
    let began = clock();
    tree.all_with_fleet_mark();
    writeln!(out, "walk all of /proc: {:.1} ms", micros(began, 1) / 1000.0).unwrap();
    for worker in &workers {
        kill::signal_process(worker.pid, Some(worker.pidfd.as_fd()), Signal::KILL).unwrap();
    }
    let mut gone = 0;
    until("all are gone", || {
        gone += reap::reap(256).0.len();
        (gone >= 1000).then_some(())
    });
}
