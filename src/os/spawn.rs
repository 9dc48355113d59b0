//! The one place that forks.
//!
//! A worker is made with `clone(CLONE_VM | CLONE_VFORK)`: our memory is never copied, so a start costs the same whether we have
//! ten megabytes or a thousand. With CLONE_FILES and a `close_range` that unshares, our table of descriptors is not copied
//! either: with a thousand workers it has thousands of rows, and copying and closing them would cost ten times the rest.
//! Everything is looked up and laid out here, before; `child` only carries out. A failure names its step and a way out.
//!
//! It does not decide, does not wait for workers (`reap`), and never sets a parent-death signal, which would be tied to the
//! thread that forked. One limit of the method: our thread stands still until the child execs, so a `directory` on a dead NFS
//! mount would hold us up.
#![allow(unsafe_code)]

use crate::model::launch::{Launch, SpawnFault, SpawnStep, User};
use crate::model::spec::Rlimit;
use crate::os::child::{self, Identity, Limit, Order, Step};
use crate::os::{fds, host, reap};
use libc::{c_char, c_int, c_void};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::ptr;

/// What becomes 0, 1 and 2 of a worker. Each keeps its own flags; they must be blocking.
#[derive(Clone, Copy, Debug)]
pub struct Stdio<'a> {
    pub stdin: BorrowedFd<'a>,
    pub stdout: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
}

/// A worker that runs: its exec has succeeded.
#[derive(Debug)]
pub struct Spawned {
    pub pid: i32,
    /// Readable when it has ended; signals through it never hit a stranger.
    pub pidfd: OwnedFd,
}

/// Makes workers, one after the other. Belongs to the thread that reaps.
#[derive(Debug)]
pub struct Spawner {
    /// What the limit of open files was before we raised ours.
    original_nofile: (u64, u64),
    base_env: Vec<(OsString, OsString)>,
    stack: Stack,
    null: OwnedFd,
    /// Four numbers above 3, ours for ever: where sources wait for the child. Between spawns they hold /dev/null.
    slots: [OwnedFd; 4],
    /// Whether the kernel has `close_range` (5.9).
    unshare: bool,
    /// Ours is below zero (a service manager shields us): workers shall not inherit the shield.
    shielded: bool,
    dumpable: bool,
    we: (u32, u32),
}

impl Spawner {
    /// `original_nofile`: what workers get as their limit of open files (`fds::raise_nofile` tells it). `base_env`: what every
    /// worker's environment begins with (`host::base_environment`).
    pub fn new(original_nofile: (u64, u64), base_env: Vec<(OsString, OsString)>) -> io::Result<Spawner> {
        let null = fds::dev_null()?;
        let slot = || fds::duplicate(null.as_fd(), 4);
        let slots = [slot()?, slot()?, slot()?, slot()?];
        // SAFETY: an empty range: asks only whether the call is there (a kernel before 5.9, or a filter, says no).
        let unshare = unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, 0) } == 0;
        let score = std::fs::read_to_string(OOM_SCORE).ok().and_then(|text| text.trim().parse::<i32>().ok());
        Ok(Spawner {
            original_nofile,
            base_env,
            stack: Stack::new()?,
            null,
            slots,
            unshare,
            shielded: score.is_some_and(|score| score < 0),
            dumpable: nix::sys::prctl::get_dumpable().unwrap_or(true),
            we: (host::uid(), host::gid()),
        })
    }

    /// Starts a worker. `extra_env` is set over everything else (`GANGER_*`, `NOTIFY_SOCKET`). `lock` becomes its descriptor 3.
    ///
    /// When this comes back with `Ok`, the program has been executed. On `Err` there is no process, and nothing to reap.
    pub fn spawn(
        &mut self,
        launch: &Launch,
        extra_env: &[(String, String)],
        stdio: Stdio<'_>,
        lock: Option<BorrowedFd<'_>>,
    ) -> Result<Spawned, SpawnFault> {
        let spec = &launch.common;
        let environment = self.environment(launch, extra_env);
        let program = find(launch, &environment)?;

        // One block for all strings: paths, arguments, environment.
        let mut strings = Strings::default();
        strings.add(&[program.as_os_str().as_bytes()])?;
        strings.add(&[OOM_SCORE.as_bytes()])?;
        strings.add(&[launch.directory.as_deref().unwrap_or("").as_bytes()])?;
        for word in &launch.argv {
            strings.add(&[word.as_bytes()])?;
        }
        for (key, value) in &environment {
            strings.add(&[key, b"=", value])?;
        }
        let pointers = strings.pointers();
        let [path, oom_path, directory, ref words @ ..] = pointers[..] else { unreachable!("three were added first") };
        let (arguments, variables) = words.split_at(launch.argv.len());
        let argv: Vec<_> = arguments.iter().copied().chain([ptr::null()]).collect();
        let envp: Vec<_> = variables.iter().copied().chain([ptr::null()]).collect();

        let oom_score = spec.oom_score_adj.or(self.shielded.then_some(0)).map(|score| score.to_string());
        let limits = self.limits(launch);
        let identity = self.identity(spec.user.as_ref());
        let source_count = self.wire(stdio, lock)?;
        let private_from = self.slots.iter().map(|slot| slot.as_raw_fd()).max().expect("there are four") as u32 + 1;

        let mut order = Order {
            path,
            argv: argv.as_ptr(),
            envp: envp.as_ptr(),
            session: spec.session,
            sources: [0, 1, 2, 3].map(|i: usize| self.slots[i].as_raw_fd()),
            source_count,
            private_from,
            unshare: self.unshare,
            oom_path,
            oom_score: oom_score.as_ref().map_or(ptr::null(), |text| text.as_ptr().cast()),
            oom_score_len: oom_score.as_ref().map_or(0, String::len),
            limits: limits.as_ptr(),
            limit_count: limits.len(),
            nice: spec.nice,
            identity,
            no_new_privs: spec.no_new_privs,
            directory: if launch.directory.is_some() { directory } else { ptr::null() },
            umask: spec.umask,
            failed_step: 0,
            errno: 0,
            failed_limit: 0,
        };
        let made = self.clone_child(&mut order);
        self.unwire(source_count);
        if self.dumpable && identity.is_some() {
            // The kernel marks the memory that it shared with us as not dumpable when the child changes its user.
            let _ = nix::sys::prctl::set_dumpable(true);
        }

        let (pid, pidfd) = made.map_err(|errno| fork_fault(&errno))?;
        match Step::of(order.failed_step) {
            None => Ok(Spawned { pid, pidfd }),
            Some(step) => {
                reap::collect(pid);
                Err(worded(step, order.errno, order.failed_limit, launch, &program))
            }
        }
    }

    /// What the worker gets, each variable once; the last word first: ours, the definition's, its user's, our own.
    fn environment<'a>(&'a self, launch: &'a Launch, extra: &'a [(String, String)]) -> Vec<(&'a [u8], &'a [u8])> {
        let mut all: Vec<(&[u8], &[u8])> =
            Vec::with_capacity(extra.len() + launch.environment.len() + USER_VARIABLES + self.base_env.len());
        let mut set = |key: &'a [u8], value: &'a [u8]| {
            if !all.iter().any(|(known, _)| *known == key) {
                all.push((key, value));
            }
        };
        // From the last backwards, so that of two equal keys the later one wins.
        for (key, value) in extra.iter().rev().chain(launch.environment.iter().rev()) {
            set(key.as_bytes(), value.as_bytes());
        }
        if let Some(user) = &launch.common.user {
            for (key, value) in [("HOME", &user.home), ("USER", &user.name), ("LOGNAME", &user.name), ("SHELL", &user.shell)] {
                set(key.as_bytes(), value.as_bytes());
            }
        }
        for (key, value) in &self.base_env {
            set(key.as_bytes(), value.as_bytes());
        }
        all
    }

    fn limits(&self, launch: &Launch) -> Vec<Limit> {
        let limit = |resource: u32, soft: Option<u64>, hard: Option<u64>| Limit {
            resource: resource as c_int,
            value: libc::rlimit64 { rlim_cur: soft.unwrap_or(libc::RLIM64_INFINITY), rlim_max: hard.unwrap_or(libc::RLIM64_INFINITY) },
        };
        let mut limits: Vec<Limit> =
            launch.common.rlimits.iter().map(|(which, (soft, hard))| limit(resource_of(*which), *soft, *hard)).collect();
        let (soft, hard) = self.original_nofile;
        if !launch.common.rlimits.contains_key(&Rlimit::Nofile) {
            limits.push(limit(libc::RLIMIT_NOFILE, Some(soft), Some(hard)));
        }
        limits
    }

    /// `None` where the worker stays what we are: no user given, or we are that very user and could not change it anyway.
    fn identity(&self, user: Option<&User>) -> Option<Identity> {
        let user = user?;
        if self.we.0 != 0 && self.we == (user.uid, user.gid) {
            return None;
        }
        Some(Identity { uid: user.uid, gid: user.gid, groups: user.groups.as_ptr(), group_count: user.groups.len() })
    }

    /// Puts the sources into their slots, from where the child takes them.
    fn wire(&mut self, stdio: Stdio<'_>, lock: Option<BorrowedFd<'_>>) -> Result<c_int, SpawnFault> {
        let sources = [Some(stdio.stdin), Some(stdio.stdout), Some(stdio.stderr), lock];
        let mut count = 0;
        for (slot, source) in self.slots.iter_mut().zip(sources) {
            let Some(source) = source else { break };
            nix::unistd::dup3(source, slot, nix::fcntl::OFlag::O_CLOEXEC)
                .map_err(|errno| SpawnFault { step: SpawnStep::Wire, text: format!("descriptors: {}", lower(errno as i32)) })?;
            count += 1;
        }
        Ok(count)
    }

    /// The slots must not keep a worker's lock or pipes open.
    fn unwire(&mut self, count: c_int) {
        for slot in self.slots.iter_mut().take(count as usize) {
            let _ = nix::unistd::dup3(&self.null, slot, nix::fcntl::OFlag::O_CLOEXEC);
        }
    }

    fn clone_child(&mut self, order: &mut Order) -> Result<(i32, OwnedFd), io::Error> {
        let mut flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
        if self.unshare {
            flags |= libc::CLONE_FILES;
        }
        let mut pidfd: c_int = -1;
        let all = u64::MAX;
        let mut before = 0u64;
        // SAFETY: the child runs on a stack of its own, on `order`, whose pointers all lead to memory of the caller that
        // outlives this call; CLONE_VFORK keeps this thread here until the child has execed or ended, and it tells failures
        // by writing into `order`, which we do not read before. All signals are blocked, so none of our handlers can run in
        // it (the raw call, since glibc's would leave two unblocked). The mask is put back as it was.
        let pid = unsafe {
            libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, &raw mut before, 8usize);
            let order: *mut Order = order;
            let pid = libc::clone(child::main, self.stack.top(), flags, order.cast::<c_void>(), &raw mut pidfd);
            let fault = io::Error::last_os_error();
            libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const before, ptr::null::<u8>(), 8usize);
            if pid < 0 {
                return Err(fault);
            }
            pid
        };
        // SAFETY: CLONE_PIDFD has just made it, close-on-exec, for us alone.
        Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
    }
}

/// The child's stack: mapped once, used by one child at a time, with a page below that nobody may touch.
#[derive(Debug)]
struct Stack {
    base: *mut c_void,
}

impl Stack {
    fn new() -> io::Result<Stack> {
        // SAFETY: a fresh private mapping, and its lowest page taken away from everybody.
        unsafe {
            let base = libc::mmap(
                ptr::null_mut(),
                STACK_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            );
            if base == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            if libc::mprotect(base, GUARD_BYTES, libc::PROT_NONE) != 0 {
                let fault = io::Error::last_os_error();
                libc::munmap(base, STACK_BYTES);
                return Err(fault);
            }
            Ok(Stack { base })
        }
    }

    /// Stacks grow downwards on every machine that we know; a page's end is aligned enough.
    fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping.
        unsafe { self.base.add(STACK_BYTES) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: ours, and no child runs on it: each spawn waits until its child has left it.
        unsafe { libc::munmap(self.base, STACK_BYTES) };
    }
}

/// Strings with an end mark, in one block.
#[derive(Default)]
struct Strings {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Strings {
    fn add(&mut self, parts: &[&[u8]]) -> Result<(), SpawnFault> {
        self.starts.push(self.bytes.len());
        for part in parts {
            if memchr::memchr(0, part).is_some() {
                let text = String::from_utf8_lossy(part).replace('\0', "\\0");
                return Err(SpawnFault { step: SpawnStep::Find, text: format!("a NUL byte in {text:?}") });
            }
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(0);
        Ok(())
    }

    /// Good until the next `add`.
    fn pointers(&self) -> Vec<*const c_char> {
        self.starts.iter().map(|start| self.bytes[*start..].as_ptr().cast()).collect()
    }
}

/// The program's path. With a `/` it is taken as it is (and is relative to `directory`, as exec will see it); a bare word is
/// searched in the PATH that the worker gets. Whether its user may run it is for exec to say.
fn find(launch: &Launch, environment: &[(&[u8], &[u8])]) -> Result<PathBuf, SpawnFault> {
    let fault = |text: String| SpawnFault { step: SpawnStep::Find, text };
    let Some(word) = launch.argv.first().filter(|word| !word.is_empty()) else {
        return Err(fault("the command is empty".into()));
    };
    if word.contains('/') {
        return Ok(PathBuf::from(word));
    }
    let path = environment.iter().find(|(key, _)| *key == b"PATH").map_or(DEFAULT_PATH.as_bytes(), |(_, value)| *value);
    let mut not_executable = None;
    for dir in path.split(|b| *b == b':') {
        let candidate = Path::new(OsStr::from_bytes(if dir.is_empty() { b"." } else { dir })).join(word);
        let Ok(found) = std::fs::metadata(seen_from(launch, &candidate)) else { continue };
        if found.is_file() && found.permissions().mode() & 0o111 != 0 {
            return Ok(candidate);
        }
        not_executable.get_or_insert(candidate);
    }
    Err(fault(match not_executable {
        Some(found) => {
            format!("{word}: {} is not executable, and there is no other in PATH ({})", found.display(), String::from_utf8_lossy(path))
        }
        None => format!("{word}: not found in PATH ({})", String::from_utf8_lossy(path)),
    }))
}

/// A path as the worker sees it, after its chdir.
fn seen_from(launch: &Launch, path: &Path) -> PathBuf {
    match &launch.directory {
        Some(directory) if path.is_relative() => Path::new(directory).join(path),
        Some(_) | None => path.to_owned(),
    }
}

/// The child's two numbers as a fault that a person can act on.
fn worded(step: Step, errno: i32, limit: i32, launch: &Launch, program: &Path) -> SpawnFault {
    let spec = &launch.common;
    let why = lower(errno);
    let user = spec.user.as_ref().map(|user| user.name.as_str()).unwrap_or("?");
    let (step, text) = match step {
        Step::Session => (SpawnStep::Session, format!("a session of its own: {why}")),
        Step::Descriptors => (SpawnStep::Descriptors, format!("descriptors 0 to 3: {why}")),
        Step::OomScore => {
            let wanted = spec.oom_score_adj.unwrap_or(0);
            (SpawnStep::OomScore, format!("oom_score_adj = {wanted}: {why}{}", way_out(errno, "only root may lower it")))
        }
        Step::Rlimit => {
            let name = spec.rlimits.keys().find(|which| resource_of(**which) as i32 == limit).map_or("nofile", |which| name_of(*which));
            let (soft, hard) = spec.rlimits.iter().find(|(which, _)| name_of(**which) == name).map_or((None, None), |(_, pair)| *pair);
            let shown = |n: Option<u64>| n.map_or("unlimited".to_owned(), |n| n.to_string());
            let hint = match errno {
                libc::EINVAL => "; the soft limit may not be above the hard one".to_owned(),
                _ => way_out(errno, "only root may raise a hard limit"),
            };
            (SpawnStep::Rlimit, format!("rlimit {name} = {}:{}: {why}{hint}", shown(soft), shown(hard)))
        }
        Step::Nice => (
            SpawnStep::Nice,
            format!("nice = {}: {why}{}", spec.nice.unwrap_or(0), way_out(errno, "only root may go below the daemon's own")),
        ),
        Step::Groups | Step::Gid | Step::Uid => {
            let hint = format!("only root may start workers as another user (the daemon runs as {})", host::user_name(host::uid()));
            (SpawnStep::User, format!("cannot become user {user:?}: {why}{}", way_out(errno, &hint)))
        }
        Step::NoNewPrivs => (SpawnStep::NoNewPrivs, format!("no_new_privs: {why}")),
        Step::Chdir => {
            let who = spec.user.as_ref().map_or(String::new(), |user| format!(" (user {:?})", user.name));
            let who = if errno == libc::EACCES { who } else { String::new() };
            (SpawnStep::Chdir, format!("cannot change to directory {}: {why}{who}", launch.directory.as_deref().unwrap_or("?")))
        }
        Step::Exec => (SpawnStep::Exec, exec_text(errno, launch, program)),
    };
    SpawnFault { step, text }
}

/// Why execve refused, looked at again from here: the kernel's ENOENT does not say *what* is not there.
fn exec_text(errno: i32, launch: &Launch, program: &Path) -> String {
    let shown = program.display();
    let why = lower(errno);
    let who = launch.common.user.as_ref().map_or(String::new(), |user| format!(" (user {:?})", user.name));
    let seen = seen_from(launch, program);
    match errno {
        libc::ENOENT if seen.exists() => match interpreter(&seen) {
            Some(interpreter) => {
                format!("{shown}: its interpreter {interpreter:?} (line 1) does not exist{}", carriage_return(&interpreter))
            }
            None => format!("{shown}: {why}, though the file is there; is its dynamic loader installed?"),
        },
        libc::ENOENT => match &launch.directory {
            Some(directory) if program.is_relative() => format!("{shown}: {why} (seen from directory {directory})"),
            Some(_) | None => format!("{shown}: {why}"),
        },
        libc::EACCES => match std::fs::metadata(&seen) {
            Ok(found) if found.is_dir() => format!("{shown}: is a directory, not a program"),
            Ok(found) if found.permissions().mode() & 0o111 == 0 => format!("{shown}: {why}{who}; is the file executable?"),
            Ok(_) | Err(_) => format!("{shown}: {why}{who}; may the user reach and execute it, and is the file system not mounted noexec?"),
        },
        libc::ENOEXEC => format!("{shown}: {why}; does the script begin with #! and its interpreter?"),
        libc::E2BIG => format!("{shown}: {why}; command line and environment are too large"),
        libc::EAGAIN => format!("{shown}: {why}; the user's limit of processes (nproc) is reached{who}"),
        _ => format!("{shown}: {why}{who}"),
    }
}

/// What a script's first line asks for.
fn interpreter(script: &Path) -> Option<String> {
    use std::io::Read;
    let mut head = [0; 256];
    let n = std::fs::File::open(script).ok()?.read(&mut head).ok()?;
    let line = head[..n].split(|b| *b == b'\n').next()?.strip_prefix(b"#!")?;
    let words = String::from_utf8_lossy(line);
    // Only blanks part the words for the kernel; a carriage return belongs to the name.
    words.split([' ', '\t']).find(|word| !word.is_empty()).map(str::to_owned)
}

fn carriage_return(interpreter: &str) -> &'static str {
    if interpreter.ends_with('\r') { "; the script has Windows line ends" } else { "" }
}

fn fork_fault(fault: &io::Error) -> SpawnFault {
    let errno = fault.raw_os_error().unwrap_or(0);
    let why = lower(errno);
    let (step, text) = match errno {
        libc::EMFILE => (SpawnStep::Wire, format!("too many open files in the daemon (limit {})", fds::nofile().0)),
        libc::ENFILE => (SpawnStep::Wire, "too many open files on this host (fs.file-max)".to_owned()),
        libc::EAGAIN => (SpawnStep::Fork, format!("fork: {why} (process limit of the user or the control group)")),
        libc::ENOMEM => (SpawnStep::Fork, format!("fork: {why}")),
        _ => (SpawnStep::Fork, format!("fork: {why}")),
    };
    SpawnFault { step, text }
}

/// Told after the kernel's own words, and only where rights are the reason.
fn way_out(errno: i32, hint: &str) -> String {
    match errno {
        libc::EPERM | libc::EACCES => format!("; {hint}"),
        _ => String::new(),
    }
}

/// The kernel's words for an errno, in lower case: `no such file or directory`.
fn lower(errno: i32) -> String {
    let text = nix::errno::Errno::from_raw(errno).desc();
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_ascii_lowercase().to_string() + letters.as_str())
}

fn resource_of(which: Rlimit) -> u32 {
    match which {
        Rlimit::Nofile => libc::RLIMIT_NOFILE,
        Rlimit::Nproc => libc::RLIMIT_NPROC,
        Rlimit::Core => libc::RLIMIT_CORE,
        Rlimit::Cpu => libc::RLIMIT_CPU,
        Rlimit::Data => libc::RLIMIT_DATA,
        Rlimit::Fsize => libc::RLIMIT_FSIZE,
        Rlimit::Stack => libc::RLIMIT_STACK,
        Rlimit::As => libc::RLIMIT_AS,
        Rlimit::Memlock => libc::RLIMIT_MEMLOCK,
    }
}

fn name_of(which: Rlimit) -> &'static str {
    match which {
        Rlimit::Nofile => "nofile",
        Rlimit::Nproc => "nproc",
        Rlimit::Core => "core",
        Rlimit::Cpu => "cpu",
        Rlimit::Data => "data",
        Rlimit::Fsize => "fsize",
        Rlimit::Stack => "stack",
        Rlimit::As => "as",
        Rlimit::Memlock => "memlock",
    }
}

/// `/proc/self` is the child's own here: it is a process, though it shares our memory.
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// Where programs are searched when the worker's environment has no PATH at all.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

const USER_VARIABLES: usize = 4;

/// Far more than the child's few frames need.
const STACK_BYTES: usize = 256 * 1024;

/// One page where pages are largest (64 KiB on some arm64 kernels). What is never touched costs address space only.
const GUARD_BYTES: usize = 64 * 1024;
