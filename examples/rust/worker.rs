//! A beanstalkd worker in plain Rust, standard library only: takes a job, does it, deletes it, tells its supervisor.
//!
//! `cargo run --example worker -- 127.0.0.1:11300 TUBE`
//!
//! The twin of `examples/php/beanstalkd-worker.php`. What it does not do is catch TERM: without a crate Rust has no signal
//! handlers, so a stop ends it at once, and beanstalkd gives the job in hand to another worker (put `signal-hook` in for
//! more). The part to copy is `Supervisor`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "127.0.0.1:11300".into());
    let tube = arguments.next().unwrap_or_else(|| "jobs".into());

    let mut supervisor = Supervisor::from_env();
    let mut queue = Queue::connect(&server)?;
    queue.ask(&format!("watch {tube}"))?;
    if tube != "default" {
        queue.ask("ignore default")?;
    }
    supervisor.tell(&format!("READY=1\nSTATUS=watching {tube} at {server}\n"));
    loop {
        // Short waits: between them is where a sign of life goes out.
        let Some((id, body)) = queue.reserve(2)? else {
            supervisor.idle();
            continue;
        };
        supervisor.start(&id);
        if work(&body) {
            queue.ask(&format!("delete {id}"))?;
            supervisor.done(true);
        } else {
            queue.ask(&format!("bury {id} 0"))?;
            supervisor.done(false);
        }
    }
}

/// The stand-in for real work: whether the job succeeded.
fn work(body: &[u8]) -> bool {
    std::thread::sleep(Duration::from_millis(20));
    body != b"fail"
}

/// Whom we tell. Never blocks and never fails: a supervisor that is busy must not hold up a job. Each message carries totals
/// and the job in hand, so that a dropped one costs nothing.
struct Supervisor {
    socket: Option<(UnixDatagram, SocketAddr)>,
    jobs: u64,
    errors: u64,
    job: String,
}

impl Supervisor {
    /// `NOTIFY_SOCKET` is a path, or `@name` in the abstract namespace. Unset: nobody is told.
    fn from_env() -> Supervisor {
        let socket = std::env::var("NOTIFY_SOCKET").ok().and_then(|text| {
            let address = match text.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name).ok()?,
                None => SocketAddr::from_pathname(&text).ok()?,
            };
            // Not connected: so it reaches the new socket of a supervisor that was restarted.
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        Supervisor { socket, jobs: 0, errors: 0, job: String::new() }
    }

    fn start(&mut self, job: &str) {
        self.job = job.into();
        self.tell("");
    }

    fn done(&mut self, success: bool) {
        self.jobs += 1;
        self.errors += u64::from(!success);
        self.idle();
    }

    fn idle(&mut self) {
        self.job.clear();
        self.tell("");
    }

    /// Sends the whole state, after `first` (whole lines).
    fn tell(&mut self, first: &str) {
        if let Some((socket, address)) = &self.socket {
            let message = format!("{first}X_JOBS={}\nX_ERRORS={}\nX_JOB={}\nWATCHDOG=1\n", self.jobs, self.errors, self.job);
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

/// As much of beanstalkd's protocol as a worker needs; one command, one reply.
struct Queue {
    stream: BufReader<TcpStream>,
}

impl Queue {
    fn connect(server: &str) -> io::Result<Queue> {
        Ok(Queue { stream: BufReader::new(TcpStream::connect(server)?) })
    }

    /// The words of the reply to a command.
    fn ask(&mut self, command: &str) -> io::Result<Vec<String>> {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        let mut reply = String::new();
        if self.stream.read_line(&mut reply)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "beanstalkd has closed the connection"));
        }
        Ok(reply.split_whitespace().map(String::from).collect())
    }

    /// Id and body of the next job; `None` if none came in time.
    fn reserve(&mut self, seconds: u32) -> io::Result<Option<(String, Vec<u8>)>> {
        let reply = self.ask(&format!("reserve-with-timeout {seconds}"))?;
        match reply.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["RESERVED", id, length] => {
                let length: usize = length.parse().map_err(io::Error::other)?;
                let mut body = vec![0; length + 2];
                self.stream.read_exact(&mut body)?;
                body.truncate(length);
                Ok(Some((id.into(), body)))
            }
            ["TIMED_OUT" | "DEADLINE_SOON"] => Ok(None),
            _ => Err(io::Error::other(format!("beanstalkd answered {reply:?} to reserve"))),
        }
    }
}
