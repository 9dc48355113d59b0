//! A worker that knows nothing of us, counted and recycled by the lines that it prints.

use crate::rig::Rig;
use std::time::{Duration, Instant};

#[test]
fn a_laravel_worker_is_counted_by_its_lines_and_recycled_between_jobs() {
    let mut rig = Rig::new("laravel");
    let worker = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stack/laravel.php");
    let log = rig.path("log/%(program_name)s_%(process_num)d.out");
    rig.start(&format!(
        r#"
        [program.laravel]
        command        = ["php", "{worker}"]
        process_name   = "laravel_%(process_num)d"
        numprocs       = 2
        startsecs      = 0
        stdout_logfile = "{}"
        environment    = {{ STACK_MARK = "{}" }}

        [program.laravel.jobs]
        count = "laravel"

        [program.laravel.recycle]
        max_jobs = "40-60"
        "#,
        log.display(),
        rig.mark(),
    ));

    rig.wait("workers are recycled by counted jobs", Duration::from_secs(60), |rig| {
        rig.program("laravel")["ended"]["jobs"].as_u64().unwrap_or(0) >= 4
    });
    rig.ctl_ok(&["stop", "laravel:*"]);

    // The log is the evidence: each line that tells of the end of a job, whether done or failed.
    let mut text = String::new();
    for number in 0..2 {
        text += &std::fs::read_to_string(rig.path(&format!("log/laravel_{number}.out"))).expect("a log");
    }
    let plain = text.replace("\u{1b}[39;22m", "");
    let (done, failed) = (ending(&plain, "DONE"), ending(&plain, "FAIL"));
    assert!(done >= 150 && failed >= 12, "{done} done, {failed} failed");
    // Counts come from the log thread at their own beat; give them a while before they are held to the letter.
    let counted = |rig: &Rig| {
        let program = rig.program("laravel");
        (program["jobs"].as_u64().expect("a count"), program["errors"].as_u64().expect("a count"))
    };
    let end = Instant::now() + Duration::from_secs(10);
    while counted(&rig) != (done + failed, failed) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(
        counted(&rig),
        (done + failed, failed),
        "what gangerd counted, and what the log says: jobs done and failed\n{}",
        rig.words()
    );

    let program = rig.program("laravel");
    assert_eq!(program["ended"]["crash"].as_u64().unwrap_or(0), 0, "a recycle was taken for a crash: {program}");
    assert_eq!(ending(&plain, "RUNNING"), done + failed, "a job was cut in half");
    for notice in rig.notices() {
        let to = &notice["what"]["to"];
        assert!(to != "BACKOFF" && to != "FATAL", "a recycle was taken for a failed start: {notice}");
    }
    rig.stop();
}

fn ending(text: &str, word: &str) -> u64 {
    text.lines().filter(|line| line.ends_with(word)).count() as u64
}
