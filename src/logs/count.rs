//! Jobs counted by the lines of unmodified workers.
//!
//! Up to three patterns: a job was done, a job failed, a job is running. A line is at most one of these, asked
//! in the order failed, done, running. The engine is linear (`regex`), so no pattern can stall the log thread.
//! The presets (`laravel`, `symfony`, `yii`) are the config's; here are only patterns.

use crate::logs::ansi::Stripper;
use crate::model::spec::{JobCount, JobsSpec};
use memchr::memchr;
use regex::bytes::{Regex, RegexBuilder};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// How much of a job's name is kept, in bytes.
const LONGEST_NAME: usize = 200;

/// Compiled patterns of one definition, shared by its slots.
#[derive(Debug)]
pub struct Patterns {
    done: Option<Regex>,
    failed: Option<Regex>,
    running: Option<Regex>,
}

/// What patterns are compiled from: done, failed, running.
type Sources = [Option<String>; 3];

/// The patterns in use. A thousand slots of a program compile theirs once.
#[derive(Debug, Default)]
pub struct PatternBook {
    known: HashMap<Sources, Weak<Patterns>>,
}

impl PatternBook {
    /// The patterns that `jobs` asks for; `None` where lines are not counted.
    pub fn of(&mut self, jobs: &JobsSpec) -> Option<Arc<Patterns>> {
        let sources: Sources = match &jobs.count {
            JobCount::Notify => return None,
            JobCount::Lines { done, failed, running } => [done.clone(), failed.clone(), running.clone()],
        };
        if let Some(known) = self.known.get(&sources).and_then(Weak::upgrade) {
            return Some(known);
        }
        self.known.retain(|_, patterns| patterns.strong_count() > 0);
        let [done, failed, running] = sources.each_ref().map(|source| source.as_deref().and_then(compile));
        let patterns = Arc::new(Patterns { done, failed, running });
        self.known.insert(sources, Arc::downgrade(&patterns));
        Some(patterns)
    }
}

/// Byte-wise where the pattern allows: then `.` and `\S` also take what is no UTF-8. Patterns that need Unicode classes get
/// them. The config has refused patterns that do not compile at all; such a one never matches.
fn compile(source: &str) -> Option<Regex> {
    let build = |unicode| RegexBuilder::new(source).unicode(unicode).build();
    build(false).or_else(|_| build(true)).ok()
}

/// The totals of one life.
#[derive(Debug)]
pub struct Counter {
    patterns: Arc<Patterns>,
    pub done: u64,
    pub failed: u64,
    /// The job in hand as the lines tell; `Some("")` is idle, `None` that they do not tell.
    pub job: Option<String>,
    changed: bool,
    scratch: Vec<u8>,
}

impl Counter {
    pub fn new(patterns: Arc<Patterns>) -> Counter {
        Counter { patterns, done: 0, failed: 0, job: None, changed: false, scratch: Vec::new() }
    }

    /// New rules for the life that is being counted; its totals stay.
    pub fn follow_rules(&mut self, patterns: Arc<Patterns>) {
        self.patterns = patterns;
    }

    /// Counts one line (without its line end).
    pub fn line(&mut self, line: &[u8]) {
        let mut stripped = std::mem::take(&mut self.scratch);
        let line = match memchr(0x1b, line) {
            None => line,
            Some(_) => Stripper::default().strip(line, &mut stripped),
        };
        let patterns = self.patterns.clone();
        let matches = |pattern: &Option<Regex>| pattern.as_ref().is_some_and(|pattern| pattern.is_match(line));
        if matches(&patterns.failed) {
            self.failed += 1;
            self.finished();
        } else if matches(&patterns.done) {
            self.done += 1;
            self.finished();
        } else if let Some(found) = patterns.running.as_ref().and_then(|pattern| pattern.captures(line)) {
            // `(?P<job>…)`, else the first group, else the matched text: some name is better than none.
            let name = found.name("job").or_else(|| found.get(1)).or_else(|| found.get(0)).map_or(&b""[..], |part| part.as_bytes());
            let name = String::from_utf8_lossy(&name[..name.len().min(LONGEST_NAME)]);
            let name = if name.trim().is_empty() { "?" } else { name.trim() };
            if self.job.as_deref() != Some(name) {
                self.job = Some(name.to_owned());
                self.changed = true;
            }
        }
        self.scratch = stripped;
    }

    fn finished(&mut self) {
        self.changed = true;
        // Where no line says that a job begins, none can say that nothing is in hand.
        if self.patterns.running.is_some() {
            self.job = Some(String::new());
        }
    }

    /// A new life: everything starts at zero.
    pub fn restart(&mut self) {
        (self.done, self.failed, self.job, self.changed) = (0, 0, None, false);
    }

    /// True once after each change.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(done: &str, failed: &str, running: &str) -> Counter {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let jobs = JobsSpec { count: JobCount::Lines { done: some(done), failed: some(failed), running: some(running) }, timeout: None };
        Counter::new(PatternBook::default().of(&jobs).expect("lines are counted"))
    }

    fn totals(counter: &Counter) -> (u64, u64, Option<&str>) {
        (counter.done, counter.failed, counter.job.as_deref())
    }

    const STAMP: &str = r"^  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d (\S+) .* ";

    #[test]
    fn laravel_lines_are_counted() {
        let mut counter = counter(&format!("{STAMP}DONE$"), &format!("{STAMP}FAIL$"), &format!("{STAMP}RUNNING$"));
        counter.line(b"");
        counter.line(b"   INFO  Processing jobs from the [default] queue.  ");
        assert!(!counter.take_changed());
        counter.line(b"  2024-05-01 10:00:00 App\\Jobs\\Mail ............................ RUNNING");
        assert_eq!(totals(&counter), (0, 0, Some("App\\Jobs\\Mail")));
        counter.line(b"  \x1b[90m2024-05-01\x1b[39m 10:00:01 App\\Jobs\\Mail ............ 5.12ms \x1b[32mDONE\x1b[39m");
        assert_eq!(totals(&counter), (1, 0, Some("")));
        counter.line(b"  2024-05-01 10:00:02 App\\Jobs\\\xffMail ...................... RUNNING");
        counter.line(b"  2024-05-01 10:00:02 App\\Jobs\\\xffMail ................. 1s 20ms FAIL");
        assert_eq!(totals(&counter), (1, 1, Some("")), "a name that is no UTF-8 does not matter");
        assert!(counter.take_changed() && !counter.take_changed());
    }

    #[test]
    fn laravel_json_and_old_lines_are_counted() {
        let mut json = counter("\"status\":\"success\"", "\"status\":\"(failed|released_after_exception)\"", "\"status\":\"starting\"");
        json.line(br#"{"level":"info","id":"7","job":"A","status":"starting"}"#);
        json.line(br#"{"level":"info","id":"7","job":"A","status":"success","duration":0.2}"#);
        json.line(br#"{"level":"warning","id":"8","job":"A","status":"released_after_exception"}"#);
        assert_eq!((json.done, json.failed), (1, 1));
        let mut old = counter(r"^\[[^\]]+\]\[[^\]]*\] Processed:\s+(\S+)", r"Failed:\s+", r"Processing:\s+(\S+)");
        old.line(b"[2019-01-01 10:00:00][12] Processing: App\\Jobs\\A");
        assert_eq!(old.job.as_deref(), Some("App\\Jobs\\A"));
        old.line(b"[2019-01-01 10:00:00][12] Processed:  App\\Jobs\\A");
        old.line(b"[2019-01-01 10:00:00][13] Failed:     App\\Jobs\\A");
        assert_eq!((old.done, old.failed), (1, 1));
    }

    #[test]
    fn symfony_lines_are_counted() {
        let mut counter = counter(
            r"\[messenger\] \S+ was handled successfully \(acknowledging to transport\)",
            r"\[messenger\] Error thrown while handling message",
            r"\[messenger\] Received message (?P<job>\S+)",
        );
        counter.line(b"10:00:00 INFO      [messenger] Received message App\\Message\\Mail [\"class\" => \"App\\Message\\Mail\"]");
        assert_eq!(counter.job.as_deref(), Some("App\\Message\\Mail"));
        counter.line(b"10:00:00 INFO      [messenger] App\\Message\\Mail was handled successfully (acknowledging to transport). [..]");
        counter.line(b"10:00:01 WARNING   [messenger] Error thrown while handling message App\\Message\\Mail. Sending for retry #1 ..");
        counter.line(b"10:00:02 INFO      [messenger] Worker stopped due to memory limit");
        assert_eq!(totals(&counter), (1, 1, Some("")));
    }

    #[test]
    fn yii_lines_are_counted() {
        let mut counter = counter(r"^\d{4}-.* - Done \([\d.]+ s", r"^\d{4}-.* - Error", r"^\d{4}-\S+ \S+ \[pid: \d+\] - (.*) - Started$");
        counter.line(b"2024-05-01 10:00:00 [pid: 99] - Worker is started");
        counter.line(b"2024-05-01 10:00:01 [1] app\\MailJob (attempt: 1, pid: 99) - Started");
        counter.line(b"2024-05-01 10:00:01 [1] app\\MailJob (attempt: 1, pid: 99) - Done (0.212 s, 4.00 MiB)");
        counter.line(b"2024-05-01 10:00:02 [2] app\\MailJob (attempt: 1, pid: 99) - Error (0.1 s)");
        assert_eq!((counter.done, counter.failed), (1, 1));
    }

    #[test]
    fn without_a_pattern_for_running_no_job_is_told() {
        let mut counter = counter("done", "", "");
        counter.line(b"job done");
        assert_eq!(totals(&counter), (1, 0, None));
        counter.restart();
        assert_eq!(totals(&counter), (0, 0, None));
    }

    #[test]
    fn slots_of_a_program_share_their_patterns() {
        let jobs =
            JobsSpec { count: JobCount::Lines { done: Some("é [[:alpha:]é]+".into()), failed: None, running: None }, timeout: None };
        let mut book = PatternBook::default();
        let (one, two) = (book.of(&jobs).unwrap(), book.of(&jobs).unwrap());
        assert!(Arc::ptr_eq(&one, &two));
        assert!(one.done.as_ref().unwrap().is_match("é né".as_bytes()), "Unicode classes where the pattern needs them");
        assert!(book.of(&JobsSpec { count: JobCount::Notify, timeout: None }).is_none());
    }
}
