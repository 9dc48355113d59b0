//! `notify`: for workers in shell, what sd_notify is for others.

use crate::ctl::client::Trouble;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// What a worker wants to say; `None` and `false`: nothing about that.
#[derive(Debug, Default)]
pub struct Words<'a> {
    pub ready: bool,
    pub stopping: bool,
    pub watchdog: bool,
    pub jobs: Option<u64>,
    pub errors: Option<u64>,
    pub job: Option<&'a str>,
    pub status: Option<&'a str>,
    /// `KEY=VALUE`, passed on as they are.
    pub pairs: &'a [String],
}

/// Sends one datagram to `socket` (a path, or `@name` for an abstract one).
pub fn tell(words: &Words<'_>, socket: Option<&str>) -> Result<(), Trouble> {
    let datagram = datagram(words)?;
    let Some(path) = socket.filter(|path| !path.is_empty()) else {
        return Err(Trouble::Asked("NOTIFY_SOCKET is not set; notify is for workers that gangerd (or systemd) has started".to_owned()));
    };
    send(&datagram, path).map_err(|why| Trouble::Asked(format!("cannot notify {path}: {why}")))
}

fn datagram(words: &Words<'_>) -> Result<String, Trouble> {
    let mut lines = Vec::new();
    let mut add = |key: &str, value: String| lines.push(format!("{key}={}", value.replace('\n', " ")));
    if words.ready {
        add("READY", "1".to_owned());
    }
    if words.stopping {
        add("STOPPING", "1".to_owned());
    }
    if words.watchdog {
        add("WATCHDOG", "1".to_owned());
    }
    if let Some(n) = words.jobs {
        add("X_JOBS", n.to_string());
    }
    if let Some(n) = words.errors {
        add("X_ERRORS", n.to_string());
    }
    if let Some(job) = words.job {
        add("X_JOB", job.to_owned());
    }
    if let Some(status) = words.status {
        add("STATUS", status.to_owned());
    }
    for pair in words.pairs {
        match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => add(key, value.to_owned()),
            _ => return Err(Trouble::Asked(format!("found {pair}, expected KEY=VALUE such as X_JOBS=17"))),
        }
    }
    if lines.is_empty() {
        return Err(Trouble::Asked("nothing to tell: expected --ready, --jobs N, --job ID, --status TEXT or KEY=VALUE".to_owned()));
    }
    Ok(lines.join("\n"))
}

fn send(datagram: &str, path: &str) -> std::io::Result<()> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(Path::new(name).as_os_str().as_bytes())?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(datagram.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::notify::Notify;

    #[test]
    fn what_is_told_is_what_the_daemon_reads() {
        let pairs = ["WATCHDOG=1".to_owned()];
        let words = Words {
            ready: true,
            jobs: Some(17),
            errors: Some(2),
            job: Some(""),
            status: Some("two\nlines"),
            pairs: &pairs,
            ..Words::default()
        };
        let told = Notify::parse(datagram(&words).unwrap().as_bytes());
        let expected = Notify {
            ready: true,
            watchdog: true,
            jobs: Some(17),
            errors: Some(2),
            job: Some(String::new()),
            status: Some("two lines".to_owned()),
            ..Notify::default()
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn a_datagram_arrives_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("ganger-test-{}", std::process::id());
        let sockets = [
            (path.to_str().unwrap().to_owned(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}"), UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap()),
        ];
        for (spelled, socket) in sockets {
            tell(&Words { ready: true, ..Words::default() }, Some(&spelled)).unwrap();
            let mut buffer = [0; 100];
            let n = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], b"READY=1");
        }
    }

    #[test]
    fn nothing_to_tell_and_nobody_to_tell_it_to_are_refused() {
        assert!(tell(&Words::default(), Some("/x")).unwrap_err().to_string().contains("nothing to tell"));
        assert!(tell(&Words { ready: true, ..Words::default() }, None).unwrap_err().to_string().contains("NOTIFY_SOCKET is not set"));
        let pairs = ["READY".to_owned()];
        assert!(tell(&Words { pairs: &pairs, ..Words::default() }, Some("/x")).unwrap_err().to_string().contains("KEY=VALUE"));
    }
}
