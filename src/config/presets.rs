//! How workers that know nothing of us say that a job is done: regular expressions for their log lines.
//!
//! Taken from what the frameworks print (tried with Laravel 10 and 11, Symfony Messenger with `-vv`, Yii2 queue
//! with `--verbose`), after ANSI escapes are removed. Of Laravel both the text and the `--json` form are known.
//! In `running`, the first group that takes part is the job's name.

use crate::model::spec::JobCount;

/// The names of all presets, for messages.
pub const NAMES: [&str; 4] = ["notify", "laravel", "symfony", "yii"];

/// The rule of that name.
pub fn job_count(name: &str) -> Option<JobCount> {
    let (done, failed, running) = match name {
        "notify" => return Some(JobCount::Notify),
        "laravel" => (
            r#"^  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d (\S+) .* DONE$|"status":"success""#,
            r#"^  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d (\S+) .* FAIL$|"status":"(?:failed|released_after_exception)""#,
            r#"^  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d (\S+) .* RUNNING$|"status":"starting""#,
        ),
        "symfony" => (
            r"\[messenger\] \S+ was handled successfully \(acknowledging to transport\)",
            r"\[messenger\] Error thrown while handling message",
            r"\[messenger\] Received message (\S+)",
        ),
        "yii" => (r"^\d{4}-.* - Done \([\d.]+ s", r"^\d{4}-.* - Error", r"^\d{4}-\S+ \S+ (.*) - Started$"),
        _ => return None,
    };
    Some(JobCount::Lines { done: Some(done.into()), failed: Some(failed.into()), running: Some(running.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::bytes::Regex;

    fn matches(preset: &str, line: &str) -> (bool, bool, bool) {
        let Some(JobCount::Lines { done, failed, running }) = job_count(preset) else { panic!("no lines: {preset}") };
        let is_match = |pattern: Option<String>| Regex::new(&pattern.expect("all three")).expect("good").is_match(line.as_bytes());
        (is_match(done), is_match(failed), is_match(running))
    }

    #[test]
    fn presets_know_the_lines_of_their_frameworks() {
        let (done, failed, running, none) = ((true, false, false), (false, true, false), (false, false, true), (false, false, false));
        for (preset, line, expected) in [
            ("laravel", "  2026-11-20 10:00:01 App\\Jobs\\Mail ........... RUNNING", running),
            ("laravel", "  2026-11-20 10:00:01 App\\Jobs\\Mail ..... 5.12ms DONE", done),
            ("laravel", "  2026-11-20 10:00:01 App\\Jobs\\Mail ... 1s 20ms FAIL", failed),
            ("laravel", r#"{"level":"info","status":"success","job":"App\\Jobs\\Mail"}"#, done),
            ("laravel", r#"{"level":"warning","status":"released_after_exception"}"#, failed),
            ("laravel", r#"{"level":"info","status":"starting"}"#, running),
            ("laravel", "my own line: DONE", none),
            ("symfony", "10:00:01 INFO [messenger] Received message App\\Mail", running),
            ("symfony", "10:00:01 INFO [messenger] App\\Mail was handled successfully (acknowledging to transport).", done),
            ("symfony", "10:00:01 WARNING [messenger] Error thrown while handling message App\\Mail. Sending for retry #1", failed),
            ("yii", "2026-11-20 10:00:01 [12] app\\Mail (attempt: 1, pid: 3) - Started", running),
            ("yii", "2026-11-20 10:00:01 [12] app\\Mail (attempt: 1, pid: 3) - Done (0.012 s)", done),
            ("yii", "2026-11-20 10:00:01 [12] app\\Mail (attempt: 1, pid: 3) - Error (0.012 s)", failed),
        ] {
            assert_eq!(matches(preset, line), expected, "{preset}: {line}");
        }
        for name in NAMES {
            assert!(job_count(name).is_some(), "{name}");
        }
    }
}
