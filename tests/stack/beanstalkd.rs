//! A beanstalkd of our own on a free loopback port, and what we ask of it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Beanstalkd {
    process: Child,
    pub address: String,
}

impl Beanstalkd {
    /// Starts one; it is reachable on return.
    pub fn start() -> Beanstalkd {
        // Debian keeps it in /usr/bin; some others in /usr/sbin.
        for _ in 0..5 {
            // Somebody else may take the port between our asking and beanstalkd's binding: then it ends, and we ask again.
            let port = TcpListener::bind("127.0.0.1:0").expect("a loopback port").local_addr().expect("its number").port();
            let mut process = Command::new("beanstalkd")
                .args(["-l", "127.0.0.1", "-p", &port.to_string()])
                .stdin(Stdio::null())
                .spawn()
                .expect("beanstalkd is needed: apt-get install beanstalkd");
            let address = format!("127.0.0.1:{port}");
            let limit = Instant::now() + Duration::from_secs(10);
            while Instant::now() < limit && process.try_wait().expect("our child").is_none() {
                if TcpStream::connect(&address).is_ok() {
                    return Beanstalkd { process, address };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("beanstalkd does not answer on loopback");
    }

    pub fn connect(&self) -> Queue {
        Queue { stream: BufReader::new(TcpStream::connect(&self.address).expect("beanstalkd listens")) }
    }
}

impl Drop for Beanstalkd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One connection.
pub struct Queue {
    stream: BufReader<TcpStream>,
}

impl Queue {
    /// Puts `count` jobs into a tube. Each may be in hand for ten minutes, so none comes back but by a closed connection.
    pub fn fill(&mut self, tube: &str, count: usize) {
        assert_eq!(self.ask(&format!("use {tube}")), format!("USING {tube}"));
        for number in 0..count {
            let body = format!("job {number}");
            let reply = self.ask(&format!("put 100 0 600 {}\r\n{body}", body.len()));
            assert!(reply.starts_with("INSERTED "), "beanstalkd answered {reply:?} to put");
        }
    }

    /// The figures of a tube; `None` when there is no such tube (it goes when it is empty and nobody watches).
    pub fn tube(&mut self, tube: &str) -> Option<BTreeMap<String, u64>> {
        let reply = self.ask(&format!("stats-tube {tube}"));
        let Some(length) = reply.strip_prefix("OK ") else {
            assert_eq!(reply, "NOT_FOUND");
            return None;
        };
        let mut text = vec![0; length.parse::<usize>().expect("a length") + 2];
        self.stream.read_exact(&mut text).expect("the figures");
        let text = String::from_utf8(text).expect("text");
        let pairs = text.lines().filter_map(|line| line.split_once(": "));
        Some(pairs.filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?))).collect())
    }

    fn ask(&mut self, command: &str) -> String {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).expect("beanstalkd reads");
        let mut reply = String::new();
        self.stream.read_line(&mut reply).expect("beanstalkd answers");
        reply.trim_end().to_owned()
    }
}
