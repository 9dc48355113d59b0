//! Notices as they come (server-sent events) and as they came (history).
//!
//! One task takes the engine's notices and keeps the last 2,000 (`Ring`). Every reader, a stream or a question,
//! reads from there at its own pace by sequence number, so a client that reads slowly costs nobody anything and
//! nothing is buffered for it: when it has fallen out of the ring, or asks for numbers that are not there, it is
//! told to look at the whole view again (`resync`) and goes on with the oldest notice that is left. An idle
//! stream wakes once a minute, so that a dead peer is noticed; without a client nothing wakes at all.

use crate::model::notice::Notice;
use bytes::Bytes;
use futures_util::Stream;
use serde::Serialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// The last notices, in order.
#[derive(Debug)]
pub struct Ring {
    kept: Mutex<Kept>,
    /// The newest number, for those who wait for a newer one.
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    /// What had been told before the ring began.
    base: u64,
    told: VecDeque<Arc<Told>>,
}

/// A notice with its frame, which is written at most once however many streams there are.
#[derive(Debug)]
struct Told {
    notice: Arc<Notice>,
    frame: OnceLock<Bytes>,
}

/// A notice as the doors show it: with its text for people.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    #[serde(flatten)]
    notice: &'a Notice,
    text: String,
}

impl<'a> Shown<'a> {
    pub fn new(notice: &'a Notice) -> Shown<'a> {
        Shown { notice, text: notice.to_string() }
    }
}

impl Told {
    fn frame(&self) -> &Bytes {
        self.frame.get_or_init(|| frame(Some(self.notice.seq), "notice", &Shown::new(&self.notice)))
    }
}

impl Ring {
    /// `base`: the newest number before the first notice that will be pushed.
    pub fn new(base: u64) -> Ring {
        Ring { kept: Mutex::new(Kept { base, told: VecDeque::new() }), newest: watch::Sender::new(base) }
    }

    /// Takes what the engine tells until it tells no more, or until `stop` says so and all that was told is taken.
    pub async fn collect(&self, mut notices: broadcast::Receiver<Arc<Notice>>, mut stop: watch::Receiver<bool>) {
        loop {
            let told = tokio::select! {
                biased;
                told = notices.recv() => told,
                () = crate::api::serve::told_to_stop(&mut stop) => return,
            };
            match told {
                Ok(notice) => self.push(notice),
                // The gap in the numbers tells the readers.
                Err(broadcast::error::RecvError::Lagged(missed)) => tracing::warn!("the doors missed {missed} notices"),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn push(&self, notice: Arc<Notice>) {
        let seq = notice.seq;
        let mut kept = self.lock();
        if kept.told.len() >= RING {
            kept.told.pop_front();
        }
        kept.told.push_back(Arc::new(Told { notice, frame: OnceLock::new() }));
        drop(kept);
        self.newest.send_replace(seq);
    }

    /// The newest number that is known here.
    pub fn newest(&self) -> u64 {
        let kept = self.lock();
        kept.told.back().map_or(kept.base, |told| told.notice.seq.max(kept.base))
    }

    /// Kept notices that `wanted` takes, newest first: at most `limit`, all older than `before`.
    pub fn history(&self, limit: usize, before: Option<u64>, wanted: impl Fn(&Notice) -> bool) -> Vec<Arc<Notice>> {
        let kept = self.lock();
        let older = kept.told.iter().rev().map(|told| &told.notice).filter(|notice| before.is_none_or(|before| notice.seq < before));
        older.filter(|notice| wanted(notice)).take(limit).cloned().collect()
    }

    /// The next few notices after number `after`, without a gap among them; and whether there is one before them.
    fn after(&self, after: u64) -> (bool, Vec<Arc<Told>>) {
        let kept = self.lock();
        let expected = after.saturating_add(1);
        let first = kept.told.partition_point(|told| told.notice.seq <= after);
        let Some(next) = kept.told.get(first).map(|told| told.notice.seq) else {
            // Nothing newer is here; but what lies below the base will never come.
            return (after < kept.base, Vec::new());
        };
        let unbroken = kept.told.range(first..).zip(next..).take_while(|(told, seq)| told.notice.seq == *seq);
        (next > expected, unbroken.take(BATCH).map(|(told, _)| Arc::clone(told)).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notices from number `since` on (exclusive; `None`: from now on) as frames of server-sent events: `hello`
    /// first, `resync` where some are missing, `bye` when `stop` says so. `known`: the newest number that anybody
    /// may have seen, in a view perhaps; a greater `since` is of another life of ours.
    pub fn stream(
        self: &Arc<Ring>,
        since: Option<u64>,
        known: u64,
        stop: watch::Receiver<bool>,
    ) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + use<> {
        let newest = self.newest();
        let mut reader = Reader {
            ring: Arc::clone(self),
            // Subscribed before the ring is read, so that nothing comes between.
            newer: self.newest.subscribe(),
            stop,
            after: newest,
            pending: VecDeque::from([frame(None, "hello", &Hello { seq: newest })]),
            over: false,
        };
        match since {
            None => {}
            Some(since) if since > newest.max(known) => reader.pending.push_back(frame(None, "resync", &Resync { next: newest + 1 })),
            Some(since) => reader.after = since,
        }
        futures_util::stream::unfold(reader, |mut reader| async move { reader.next().await.map(|frame| (Ok(frame), reader)) })
    }
}

/// One stream's place in the ring.
#[derive(Debug)]
struct Reader {
    ring: Arc<Ring>,
    newer: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    after: u64,
    pending: VecDeque<Bytes>,
    over: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.pending.pop_front() {
                return Some(frame);
            }
            if self.over {
                return None;
            }
            let (missed, told) = self.ring.after(self.after);
            if missed {
                let next = told.first().map_or_else(|| self.ring.newest() + 1, |told| told.notice.seq);
                self.pending.push_back(frame(None, "resync", &Resync { next }));
                self.after = next - 1;
            }
            if let Some(last) = told.last() {
                self.after = last.notice.seq;
                let joined: Vec<u8> = told.iter().flat_map(|told| told.frame()).copied().collect();
                self.pending.push_back(Bytes::from(joined));
            }
            if !self.pending.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                newer = self.newer.changed() => if newer.is_err() {
                    self.over = true;
                },
                () = crate::api::serve::told_to_stop(&mut self.stop) => {
                    self.pending.push_back(frame(None, "bye", &Bye {}));
                    self.over = true;
                }
                () = tokio::time::sleep(PING) => self.pending.push_back(Bytes::from_static(b": ping\n\n")),
            }
        }
    }
}

/// The number after which this stream begins, unless it begins earlier.
#[derive(Serialize)]
struct Hello {
    seq: u64,
}

/// Read the view again; the next notice has this number.
#[derive(Serialize)]
struct Resync {
    next: u64,
}

/// The daemon goes; come back in a moment.
#[derive(Serialize)]
struct Bye {}

fn frame(id: Option<u64>, event: &str, data: &impl Serialize) -> Bytes {
    // JSON has its line breaks escaped, so one `data` line takes it whole.
    let data = serde_json::to_string(data).expect("keys are strings and numbers are finite");
    Bytes::from(match id {
        Some(id) => format!("id: {id}\nevent: {event}\ndata: {data}\n\n"),
        // Without this, a browser comes back after three seconds.
        None => format!("retry: 1000\nevent: {event}\ndata: {data}\n\n"),
    })
}

/// How many notices are kept.
const RING: usize = 2_000;
/// How many are handed to a stream at once.
const BATCH: usize = 64;
/// How often an idle stream says so.
const PING: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use futures_util::StreamExt;
    use std::pin::pin;

    fn ring(base: u64, seqs: impl IntoIterator<Item = u64>) -> Arc<Ring> {
        let ring = Arc::new(Ring::new(base));
        seqs.into_iter().for_each(|seq| ring.push(samples::notice(seq, "mail:mail_0")));
        ring
    }

    /// Events and ids of what a stream says until it has nothing more to say; then it is told to stop.
    async fn said(ring: &Arc<Ring>, since: Option<u64>, known: u64) -> Vec<String> {
        let stop = watch::Sender::new(true);
        let text: Vec<u8> =
            ring.stream(since, known, stop.subscribe()).map(|frame| frame.expect("never fails")).collect::<Vec<_>>().await.concat();
        let text = String::from_utf8(text).expect("UTF-8");
        text.split_terminator("\n\n")
            .map(|frame| {
                let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
                format!("{}{}", field("event: ").expect("named"), field("id: ").map(|id| format!(" {id}")).unwrap_or_default())
            })
            .collect()
    }

    #[tokio::test]
    async fn a_new_stream_begins_now_and_an_old_one_where_it_was() {
        let ring = ring(7, 8..=10);
        assert_eq!(said(&ring, None, 10).await, ["hello", "bye"]);
        assert_eq!(said(&ring, Some(10), 10).await, ["hello", "bye"]);
        assert_eq!(said(&ring, Some(8), 10).await, ["hello", "notice 9", "notice 10", "bye"]);
        assert_eq!(said(&ring, Some(7), 10).await, ["hello", "notice 8", "notice 9", "notice 10", "bye"]);
    }

    #[tokio::test]
    async fn what_is_gone_or_never_was_is_answered_with_resync() {
        let ring = ring(7, 8..=9);
        assert_eq!(said(&ring, Some(3), 9).await, ["hello", "resync", "notice 8", "notice 9", "bye"], "before the ring");
        assert_eq!(said(&ring, Some(99), 9).await, ["hello", "resync", "bye"], "of another life");
        assert_eq!(said(&ring, Some(12), 12).await, ["hello", "bye"], "a view was ahead of the ring");
        assert_eq!(said(&self::ring(7, []), Some(3), 7).await, ["hello", "resync", "bye"], "nothing has come yet");
        assert_eq!(said(&self::ring(7, []), Some(7), 7).await, ["hello", "bye"]);
    }

    #[tokio::test]
    async fn a_gap_in_the_numbers_is_told_where_it_is() {
        assert_eq!(
            said(&ring(0, [1, 2, 5, 6]), Some(0), 6).await,
            ["hello", "notice 1", "notice 2", "resync", "notice 5", "notice 6", "bye"]
        );
    }

    #[tokio::test]
    async fn a_reader_that_falls_behind_loses_the_oldest_and_is_told() {
        let ring = ring(0, [1]);
        let stop = watch::Sender::new(false);
        let mut stream = pin!(ring.stream(None, 1, stop.subscribe()));
        let hello = stream.next().await.expect("hello").expect("never fails");
        assert_eq!(hello, "retry: 1000\nevent: hello\ndata: {\"seq\":1}\n\n");
        (2..=5_000).for_each(|seq| ring.push(samples::notice(seq, "mail:mail_0")));
        let resync = stream.next().await.expect("resync").expect("never fails");
        assert_eq!(resync, "retry: 1000\nevent: resync\ndata: {\"next\":3001}\n\n");
        let first = stream.next().await.expect("notices").expect("never fails");
        assert!(first.starts_with(b"id: 3001\nevent: notice\ndata: {\"seq\":3001,"));
        assert_eq!(ring.lock().told.len(), RING);
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken_by_the_next_notice() {
        let ring = ring(0, []);
        let stop = watch::Sender::new(false);
        let mut stream = pin!(ring.stream(None, 0, stop.subscribe()));
        stream.next().await.expect("hello").expect("never fails");
        let (frame, ()) = tokio::join!(stream.next(), async { ring.push(samples::notice(1, "mail:mail_0")) });
        let frame = String::from_utf8(frame.expect("a notice").expect("never fails").to_vec()).expect("UTF-8");
        assert!(frame.contains(r#""text":"mail:mail_0: due to be replaced: notice\n1""#), "{frame}");
    }

    #[test]
    fn history_is_newest_first_and_pages() {
        let ring = ring(0, 1..=10);
        let seqs = |limit, before| ring.history(limit, before, |notice| notice.seq % 2 == 0).iter().map(|n| n.seq).collect::<Vec<_>>();
        assert_eq!(seqs(3, None), [10, 8, 6]);
        assert_eq!(seqs(3, Some(6)), [4, 2]);
    }
}
