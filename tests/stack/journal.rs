//! The workers' evidence: `take JOB RUN` and `done JOB RUN` lines, appended by all of them to one file, in the order in which
//! things happened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[derive(Debug, Default)]
pub struct Journal {
    /// Runs that have finished a job, by job, in order.
    pub done: BTreeMap<u64, Vec<String>>,
    /// Runs that have begun a job, by job, in order.
    pub taken: BTreeMap<u64, Vec<String>>,
    /// The last job that a run has begun.
    pub last: BTreeMap<String, u64>,
    /// Jobs finished, by run.
    pub by_run: BTreeMap<String, u64>,
}

/// What the journal says against the promise "done exactly once, but for what a killed worker had in hand".
#[derive(Debug, Default)]
pub struct Verdict {
    /// Jobs of `1..=jobs` that nobody has finished.
    pub lost: Vec<u64>,
    /// Finished more than once, and not because a killed worker could not say any more that it had finished.
    pub twice: Vec<u64>,
    /// Begun and not finished by a worker that nobody killed.
    pub cut: Vec<(u64, String)>,
    /// Begun by a worker that was killed over it, given back and taken by another: allowed, and counted.
    pub given_back: usize,
    /// Finished by a worker that was killed before it could delete the job, and finished again: allowed, and counted.
    pub done_again: usize,
}

impl Journal {
    /// Reads it whole. A file that does not exist yet is empty.
    pub fn read(path: &Path) -> Journal {
        match std::fs::read_to_string(path) {
            Ok(text) => Journal::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Journal::default(),
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }

    fn parse(text: &str) -> Journal {
        let mut journal = Journal::default();
        // The last line may still be on its way, as seen from a reader in mid-run; without its end it does not count.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, job, run] = words[..] else { panic!("a torn line in the journal: {line:?}") };
            let job: u64 = job.parse().unwrap_or_else(|_| panic!("a torn line in the journal: {line:?}"));
            match what {
                "take" => {
                    journal.taken.entry(job).or_default().push(run.into());
                    journal.last.insert(run.into(), job);
                }
                "done" => {
                    journal.done.entry(job).or_default().push(run.into());
                    *journal.by_run.entry(run.into()).or_default() += 1;
                }
                _ => panic!("a torn line in the journal: {line:?}"),
            }
        }
        journal
    }

    /// Jobs that were finished at least once.
    pub fn finished(&self) -> usize {
        self.done.len()
    }

    pub fn judge(&self, jobs: impl Iterator<Item = u64>, killed: &BTreeSet<String>) -> Verdict {
        let mut verdict = Verdict::default();
        let in_hand_of_killed = |job: u64, run: &String| killed.contains(run) && self.last.get(run) == Some(&job);
        for job in jobs {
            let done = self.done.get(&job).map(Vec::as_slice).unwrap_or_default();
            match done.split_last() {
                None => verdict.lost.push(job),
                // The last one counts; each before it must be the last deed of a killed worker.
                Some((_, before)) if before.iter().all(|run| in_hand_of_killed(job, run)) => verdict.done_again += before.len(),
                Some(_) => verdict.twice.push(job),
            }
        }
        for (&job, runs) in &self.taken {
            for run in runs {
                if self.done.get(&job).is_some_and(|done| done.contains(run)) {
                    continue;
                }
                if in_hand_of_killed(job, run) {
                    verdict.given_back += 1;
                } else {
                    verdict.cut.push((job, run.clone()));
                }
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str, jobs: u64, killed: &[&str]) -> Verdict {
        Journal::parse(text).judge(1..=jobs, &killed.iter().map(|run| run.to_string()).collect())
    }

    #[test]
    fn the_verdict_tells_lost_twice_and_cut_from_what_a_kill_excuses() {
        let good = judge("take 1 a\ndone 1 a\ntake 2 b\ntake 2 a\ndone 2 a\ntake 3 c\ndone 3 c\ntake 3 a\ndone 3 a\n", 3, &["b", "c"]);
        assert!(good.lost.is_empty() && good.twice.is_empty() && good.cut.is_empty(), "{good:?}");
        assert_eq!((good.given_back, good.done_again), (1, 1));

        assert_eq!(judge("take 1 a\ndone 1 a\n", 2, &[]).lost, [2]);
        assert_eq!(judge("take 1 a\ndone 1 a\ntake 1 b\ndone 1 b\n", 1, &[]).twice, [1]);
        // A kill excuses only the job in hand, not one that the worker had left behind.
        assert_eq!(judge("take 1 a\ndone 1 a\ntake 2 a\ndone 2 a\ntake 1 b\ndone 1 b\n", 2, &["a"]).twice, [1]);
        assert_eq!(judge("take 1 a\ntake 1 b\ndone 1 b\n", 1, &[]).cut, [(1, "a".to_owned())]);
    }
}
