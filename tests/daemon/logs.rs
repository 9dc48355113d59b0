//! Output of real workers, on its way to files and readers.

use crate::harness::{Fleet, slot, until};

#[test]
fn last_words_are_written_and_rotation_keeps_the_old_files() {
    let fleet = Fleet::start(
        "[program.w]\ncommand = \"sh -c 'seq 1 20000; echo last words'\"\nautorestart = false\nstartsecs = 0\nstdout_logfile = \"@DIR@/w.log\"\nstdout_logfile_maxbytes = \"20KB\"\nstdout_logfile_backups = 9\n",
    );
    until("the last words", || fleet.read("w.log").ends_with("last words\n").then_some(()), || fleet.describe());
    let mut all = String::new();
    for n in (1..=9).rev() {
        all += &fleet.read(&format!("w.log.{n}"));
    }
    all += &fleet.read("w.log");
    let expected: String = (1..=20000).map(|n| format!("{n}\n")).chain(["last words\n".to_owned()]).collect();
    assert_eq!(all, expected);
    assert_eq!(slot(&fleet.view(), "w").starts, 1);
}

#[test]
fn usr2_opens_the_files_again() {
    let fleet = Fleet::start(
        "[program.w]\ncommand = \"sh -c 'while :; do echo line; sleep 0.02; done'\"\nstartsecs = 0\nstdout_logfile = \"@DIR@/w.log\"\n",
    );
    until("a line", || fleet.read("w.log").contains("line").then_some(()), || fleet.describe());
    std::fs::rename(fleet.dir.join("w.log"), fleet.dir.join("w.old")).expect("logrotate moves it");
    fleet.signal(nix::sys::signal::Signal::SIGUSR2);
    until("a line in the new file", || fleet.read("w.log").contains("line").then_some(()), || fleet.describe());
}

#[test]
fn stderr_goes_its_own_way_or_with_stdout() {
    let fleet = Fleet::start(
        "[program.two]\ncommand = \"sh -c 'echo out; echo err >&2; exec sleep 1000'\"\nstartsecs = 0\n[program.one]\ncommand = \"sh -c 'echo out; echo err >&2; exec sleep 1000'\"\nstartsecs = 0\nredirect_stderr = true\n",
    );
    until("both lines in one", || (fleet.read("log/one.stdout.log") == "out\nerr\n").then_some(()), || fleet.describe());
    until(
        "a file each",
        || (fleet.read("log/two.stdout.log") == "out\n" && fleet.read("log/two.stderr.log") == "err\n").then_some(()),
        || fleet.describe(),
    );
    assert_eq!(fleet.ctl_ok(&["tail", "two", "stderr"]), "err\n");
}

#[test]
fn a_worker_may_open_its_stdout_by_path_as_another_user() {
    // Supervisor#1648 and its kin: /dev/stdout of a pipe belongs to root there.
    assert!(nix::unistd::geteuid().is_root(), "this test needs root; tests/run says so");
    let fleet = Fleet::start(
        "[program.w]\ncommand = \"sh -c 'echo by path >/dev/stdout; echo again >/proc/self/fd/2; exec sleep 1000'\"\nuser = \"nobody\"\ndirectory = \"/\"\nstartsecs = 0\n",
    );
    until(
        "both lines",
        || (fleet.read("log/w.stdout.log") == "by path\n" && fleet.read("log/w.stderr.log") == "again\n").then_some(()),
        || fleet.describe(),
    );
}

#[test]
fn tail_f_follows_and_clear_empties() {
    let fleet =
        Fleet::start("[program.w]\ncommand = \"sh -c 'n=0; while :; do n=$((n+1)); echo line $n; sleep 0.02; done'\"\nstartsecs = 0\n");
    fleet.until_all_run();
    let mut tail = std::process::Command::new(env!("CARGO_BIN_EXE_gangerctl"))
        .arg("-s")
        .arg(fleet.socket())
        .args(["tail", "-f", "w"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("gangerctl runs");
    let out = tail.stdout.take().expect("piped");
    let lines: Vec<String> = std::io::BufRead::lines(std::io::BufReader::new(out))
        .map(|line| line.expect("text"))
        .filter(|line| line.starts_with("line"))
        .take(20)
        .collect();
    assert_eq!(lines.len(), 20);
    tail.kill().expect("it runs");
    tail.wait().expect("it is ours");

    fleet.ctl_ok(&["stop", "w"]);
    assert!(!fleet.read("log/w.stdout.log").is_empty());
    fleet.ctl_ok(&["clear", "w"]);
    assert_eq!(fleet.read("log/w.stdout.log"), "");
}
