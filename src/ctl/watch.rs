//! Follows the daemon's notices: server-sent events, parsed.
//!
//! A `Watch` outlives an upgrade of the daemon: when the stream ends it is opened again for a while, and the
//! reader is told to look at the view anew (`Told::Resync`), because something may have been missed.

use crate::ctl::client::{Client, Flow, Trouble};
use crate::model::notice::Notice;
use std::collections::VecDeque;
use std::time::Duration;

/// What the stream told.
#[derive(Debug)]
pub enum Told {
    /// A notice, and its JSON as it came.
    Notice(Box<Notice>, String),
    /// Something may have been missed: read the view again.
    Resync,
}

#[derive(Debug)]
pub struct Watch {
    client: Client,
    flow: Flow,
    parser: Parser,
    told: VecDeque<Told>,
    /// The newest notice that came by, for opening the stream again.
    seen: Option<u64>,
}

impl Watch {
    /// Opens the stream, from the notice after `since` on, and waits until the daemon greets: from then on nothing is missed.
    pub async fn open(client: &Client, since: Option<u64>) -> Result<Watch, Trouble> {
        let flow = client.open(&path(since)).await?;
        let mut watch = Watch { client: client.clone(), flow, parser: Parser::default(), told: VecDeque::new(), seen: since };
        while !watch.parser.greeted {
            if !watch.pull().await? {
                break;
            }
        }
        Ok(watch)
    }

    /// The next thing told. Waits; fails when the daemon is gone and does not come back.
    pub async fn next(&mut self) -> Result<Told, Trouble> {
        loop {
            if let Some(told) = self.told.pop_front() {
                if let Told::Notice(notice, _) = &told {
                    self.seen = Some(notice.seq);
                }
                return Ok(told);
            }
            if !matches!(self.pull().await, Ok(true)) {
                self.reopen().await?;
                return Ok(Told::Resync);
            }
        }
    }

    /// Leaves out what has come in already, for a reader who is about to look at the view anyway.
    pub fn skip_read(&mut self) {
        self.told.clear();
    }

    /// Comes back when the stream has ended.
    pub async fn end(mut self) {
        while matches!(self.pull().await, Ok(true)) {
            self.told.clear();
        }
    }

    /// Reads a piece; false at the end.
    async fn pull(&mut self) -> Result<bool, Trouble> {
        let Some(bytes) = self.flow.chunk().await? else { return Ok(false) };
        self.parser.push(&bytes, &mut self.told);
        Ok(!self.parser.left)
    }

    async fn reopen(&mut self) -> Result<(), Trouble> {
        let mut tries = 0;
        loop {
            match self.client.open(&path(self.seen)).await {
                Ok(flow) => {
                    self.flow = flow;
                    self.parser = Parser::default();
                    return Ok(());
                }
                Err(trouble) if tries == RETRIES => return Err(trouble),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn path(since: Option<u64>) -> String {
    match since {
        Some(seq) => format!("/api/v1/events?since={seq}"),
        None => "/api/v1/events".to_owned(),
    }
}

/// Bytes to events (WHATWG HTML, 9.2.6), as far as the daemon uses it.
#[derive(Debug, Default)]
struct Parser {
    buffer: Vec<u8>,
    event: String,
    data: String,
    greeted: bool,
    left: bool,
}

impl Parser {
    fn push(&mut self, bytes: &[u8], told: &mut VecDeque<Told>) {
        self.buffer.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(end) = memchr::memchr(b'\n', &self.buffer[start..]).map(|at| start + at) {
            let line = String::from_utf8_lossy(&self.buffer[start..end]).into_owned();
            start = end + 1;
            self.line(line.trim_end_matches('\r'), told);
        }
        self.buffer.drain(..start);
    }

    fn line(&mut self, line: &str, told: &mut VecDeque<Told>) {
        if line.is_empty() {
            let (event, data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
            match event.as_str() {
                "hello" => self.greeted = true,
                "bye" => self.left = true,
                "resync" => told.push_back(Told::Resync),
                // A kind of notice that we do not know comes from a newer daemon; it cannot be one that we wait for.
                "notice" => told.extend(serde_json::from_str(&data).ok().map(|notice| Told::Notice(Box::new(notice), data))),
                _ => {}
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // A comment (an empty field), `id`, `retry`.
            _ => {}
        }
    }
}

/// Together ten seconds: an upgrade takes less.
const RETRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_the_bytes_are_cut() {
        let notice = r#"{"seq":7,"at":5,"about":"a","slot":null,"what":{"kind":"daemon","text":"hi"},"text":"a: hi"}"#;
        let text = format!(
            ":ping\n\nevent: hello\ndata: {{\"seq\":6}}\n\nid: 7\nevent: notice\ndata: {notice}\r\n\r\nevent: notice\ndata: {{\"new\":1}}\n\nevent: resync\ndata: {{}}\n\nevent: bye\ndata:\n\n"
        );
        for size in [1, 3, 1000] {
            let (mut parser, mut told) = (Parser::default(), VecDeque::new());
            for piece in text.as_bytes().chunks(size) {
                parser.push(piece, &mut told);
            }
            assert!(parser.greeted && parser.left);
            assert!(
                matches!(&told.make_contiguous()[..2], [Told::Notice(n, _), Told::Resync] if n.seq == 7) && told.len() == 2,
                "{told:?}"
            );
        }
    }
}
