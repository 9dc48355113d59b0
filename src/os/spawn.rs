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
use std::collections::HashSet;
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
    /// Each variable once.
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
    pub fn new(original_nofile: (u64, u64), mut base_env: Vec<(OsString, OsString)>) -> io::Result<Spawner> {
        let mut known = HashSet::new();
        base_env.retain(|(key, _)| known.insert(key.clone()));
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
        let mut strings = Strings::with_room(3 + launch.argv.len() + environment.len());
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
        // Most variables are of the base, and differ among themselves: they are looked for among the others only.
        let others = all.len();
        for (key, value) in &self.base_env {
            if !all[..others].iter().any(|(known, _)| *known == key.as_bytes()) {
                all.push((key.as_bytes(), value.as_bytes()));
            }
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
struct Strings {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Strings {
    /// For about so many strings.
    fn with_room(count: usize) -> Strings {
        Strings { bytes: Vec::with_capacity(count * COMMON_LENGTH), starts: Vec::with_capacity(count) }
    }

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
    let text = io::Error::from_raw_os_error(errno).to_string();
    let mut letters = text.split(" (os error").next().unwrap_or(&text).chars();
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

/// Of a variable with its name, or an argument; only room is set aside by it.
const COMMON_LENGTH: usize = 48;

/// Far more than the child's few frames need.
const STACK_BYTES: usize = 256 * 1024;

/// One page where pages are largest (64 KiB on some arm64 kernels). What is never touched costs address space only.
const GUARD_BYTES: usize = 64 * 1024;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::exit::Exit;
    use crate::model::spec::{LaunchSpec, ProgramSpec};
    use crate::model::template::Template;
    use std::io::{Read, Seek};
    use std::sync::Arc;

    fn launch(argv: &[&str], change: impl FnOnce(&mut LaunchSpec)) -> Launch {
        let mut spec = ProgramSpec::new("w", argv.iter().map(|word| Template::text(word)).collect());
        change(Arc::make_mut(&mut spec.launch));
        spec.launch_of(0)
    }

    fn spawner() -> Spawner {
        Spawner::new(fds::nofile(), vec![("PATH".into(), "/usr/bin:/bin".into()), ("BASE".into(), "1".into())]).unwrap()
    }

    /// Runs it to its end; gives back what it said on stdout and stderr, and how it ended.
    fn run_with(spawner: &mut Spawner, launch: &Launch, extra: &[(String, String)], lock: Option<BorrowedFd<'_>>) -> (String, Exit) {
        let null = fds::dev_null().unwrap();
        let mut out = tempfile::tempfile().unwrap();
        let stdio = Stdio { stdin: null.as_fd(), stdout: out.as_fd(), stderr: out.as_fd() };
        let spawned = spawner.spawn(launch, extra, stdio, lock).unwrap_or_else(|fault| panic!("{fault:?}"));
        let exit = reap::collect(spawned.pid).expect("it is our child").exit;
        let mut text = String::new();
        out.rewind().unwrap();
        out.read_to_string(&mut text).unwrap();
        (text, exit)
    }

    fn run(launch: &Launch) -> (String, Exit) {
        run_with(&mut spawner(), launch, &[], None)
    }

    fn sh(script: &str, change: impl FnOnce(&mut LaunchSpec)) -> String {
        let (text, exit) = run(&launch(&["sh", "-c", script], change));
        assert_eq!(exit, Exit::Code(0), "{text}");
        text.trim_end().to_owned()
    }

    fn fault(launch: &Launch) -> SpawnFault {
        let null = fds::dev_null().unwrap();
        let stdio = Stdio { stdin: null.as_fd(), stdout: null.as_fd(), stderr: null.as_fd() };
        spawner().spawn(launch, &[], stdio, None).map(|spawned| spawned.pid).expect_err("it cannot be started")
    }

    fn root() -> bool {
        host::uid() == 0
    }

    fn nobody() -> User {
        User { name: "nobody".into(), uid: 65534, gid: 65534, groups: vec![65534, 4], home: "/home/x".into(), shell: "/bin/sh".into() }
    }

    #[test]
    fn exit_codes_and_signals_come_back() {
        assert_eq!(run(&launch(&["sh", "-c", "exit 7"], |_| {})).1, Exit::Code(7));
        assert_eq!(run(&launch(&["sh", "-c", "kill -KILL $$"], |_| {})).1.to_string(), "killed by SIGKILL");
    }

    #[test]
    fn the_environment_is_base_then_user_then_definition_then_ours() {
        let mut launch = launch(&["env"], |_| {});
        launch.environment = vec![("A".into(), "old".into()), ("A".into(), "new".into()), ("BASE".into(), "2".into())];
        let extra = [("GANGER_RUN".to_owned(), "f-1".to_owned()), ("A".to_owned(), "ours".to_owned())];
        let (text, _) = run_with(&mut spawner(), &launch, &extra, None);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["A=ours", "BASE=2", "GANGER_RUN=f-1", "PATH=/usr/bin:/bin"]);
    }

    #[test]
    fn a_worker_has_its_user_with_all_groups_and_his_home() {
        if !root() {
            return;
        }
        let text = sh("id -u; id -g; id -G; echo $HOME $USER $LOGNAME $SHELL", |spec| spec.user = Some(nobody()));
        assert_eq!(text, "65534\n65534\n65534 4\n/home/x nobody nobody /bin/sh");
        assert!(nix::sys::prctl::get_dumpable().unwrap(), "we are as dumpable as before");
        assert_eq!(host::uid(), 0, "and as much root");
    }

    #[test]
    fn limits_niceness_umask_and_directory_are_set() {
        let text = sh("ulimit -Sn; ulimit -Hn; ulimit -c; umask; cut -d' ' -f19 /proc/$$/stat; cat /proc/$$/oom_score_adj", |spec| {
            spec.rlimits.insert(Rlimit::Nofile, (Some(77), Some(99)));
            spec.rlimits.insert(Rlimit::Core, (Some(0), Some(0)));
            spec.umask = Some(0o27);
            spec.nice = Some(5);
            spec.oom_score_adj = Some(300);
        });
        assert_eq!(text, "77\n99\n0\n0027\n5\n300");
        let mut launch = launch(&["pwd"], |_| {});
        launch.directory = Some("/usr/bin".into());
        assert_eq!(run(&launch).0, "/usr/bin\n");
    }

    #[test]
    fn a_worker_gets_the_original_limit_of_open_files() {
        let (text, _) = run_with(
            &mut Spawner::new((64, 128), vec![("PATH".into(), "/bin:/usr/bin".into())]).unwrap(),
            &launch(&["sh", "-c", "ulimit -Sn; ulimit -Hn"], |_| {}),
            &[],
            None,
        );
        assert_eq!(text, "64\n128\n");
    }

    #[test]
    fn a_worker_leads_its_own_group_or_session_and_keeps_no_privileges_if_told() {
        let fields = "set -- $(cut -d' ' -f1,5,6 /proc/$$/stat); echo $(($1 == $2)) $(($1 == $3)); grep NoNewPrivs /proc/$$/status";
        assert_eq!(sh(fields, |_| {}), "1 0\nNoNewPrivs:\t0");
        let both = |spec: &mut LaunchSpec| {
            spec.session = true;
            spec.no_new_privs = true;
        };
        assert_eq!(sh(fields, both), "1 1\nNoNewPrivs:\t1");
    }

    #[test]
    fn signals_are_at_their_defaults_and_none_is_blocked() {
        // Rust's runtime ignores SIGPIPE in us; a worker must not.
        let (text, _) = run(&launch(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"], |_| {}));
        assert_eq!(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
        let ours = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(ours.contains("SigBlk:\t0000000000000000"), "our own mask is put back");
    }

    #[test]
    fn no_descriptor_strays_into_a_worker_and_the_lock_is_its_third() {
        // One that was opened by somebody careless, without close-on-exec.
        let stray = tempfile::tempfile().unwrap();
        fds::set_cloexec(stray.as_fd(), false).unwrap();
        // The last one is the directory that `ls` itself reads.
        let list = launch(&["ls", "/proc/self/fd"], |_| {});
        assert_eq!(run(&list).0, "0\n1\n2\n3\n");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = std::fs::File::create(&path).unwrap();
        let mut spawner = spawner();
        assert_eq!(run_with(&mut spawner, &list, &[], Some(lock.as_fd())).0, "0\n1\n2\n3\n4\n");
        let third = launch(&["readlink", "/proc/self/fd/3"], |_| {});
        assert_eq!(run_with(&mut spawner, &third, &[], Some(lock.as_fd())).0, format!("{}\n", path.display()));
        // And we keep no copy of it.
        let held =
            std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == path));
        assert_eq!(held.count(), 1);
    }

    #[test]
    fn programs_are_searched_in_the_path_of_the_worker() {
        let dir = tempfile::tempdir().unwrap();
        let tool = dir.path().join("tool");
        std::fs::write(&tool, "#!/bin/sh\necho found\n").unwrap();
        let mut launch = launch(&["tool"], |_| {});
        launch.environment = vec![("PATH".into(), format!("/nowhere:{}", dir.path().display()))];
        let refused = fault(&launch);
        assert_eq!(refused.step, SpawnStep::Find);
        assert!(refused.text.contains("is not executable"), "{}", refused.text);
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(run(&launch).0, "found\n");
        // Relative ones are seen from the worker's directory.
        launch.directory = Some(dir.path().to_string_lossy().into_owned());
        launch.environment[0].1 = ".".into();
        assert_eq!(run(&launch).0, "found\n");
        launch.argv[0] = "./tool".into();
        assert_eq!(run(&launch).0, "found\n");
    }

    #[test]
    fn each_step_that_fails_says_which_and_why() {
        let said = |launch: &Launch| {
            let fault = fault(launch);
            (fault.step, fault.text)
        };
        let (step, text) = said(&launch(&["no-such-program"], |_| {}));
        assert_eq!((step, text.as_str()), (SpawnStep::Find, "no-such-program: not found in PATH (/usr/bin:/bin)"));
        let (step, text) = said(&launch(&[], |_| {}));
        assert_eq!((step, text.as_str()), (SpawnStep::Find, "the command is empty"));
        let (step, text) = said(&launch(&["/no/such/program"], |_| {}));
        assert_eq!((step, text.as_str()), (SpawnStep::Exec, "/no/such/program: no such file or directory"));
        let (step, text) = said(&launch(&["/usr/bin"], |_| {}));
        assert_eq!((step, text.as_str()), (SpawnStep::Exec, "/usr/bin: is a directory, not a program"));
        let (step, text) = said(&launch(&["echo", "a\0b"], |_| {}));
        assert_eq!((step, text.as_str()), (SpawnStep::Find, "a NUL byte in \"a\\\\0b\""));
        let mut elsewhere = launch(&["pwd"], |_| {});
        elsewhere.directory = Some("/srv/no-such".into());
        let (step, text) = said(&elsewhere);
        assert_eq!((step, text.as_str()), (SpawnStep::Chdir, "cannot change to directory /srv/no-such: no such file or directory"));
        let (step, text) = said(&launch(&["pwd"], |spec| {
            spec.rlimits.insert(Rlimit::Core, (Some(2), Some(1)));
        }));
        let expected = "rlimit core = 2:1: invalid argument; the soft limit may not be above the hard one";
        assert_eq!((step, text.as_str()), (SpawnStep::Rlimit, expected));
        let (step, text) = said(&launch(&["pwd"], |spec| spec.oom_score_adj = Some(5000)));
        assert_eq!((step, text.as_str()), (SpawnStep::OomScore, "oom_score_adj = 5000: invalid argument"));
    }

    #[test]
    fn what_is_wrong_with_a_script_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str, mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let mut launch = launch(&[&format!("./{name}")], |_| {});
            launch.directory = Some(dir.path().to_string_lossy().into_owned());
            let fault = fault(&launch);
            assert_eq!(fault.step, SpawnStep::Exec);
            fault.text
        };
        assert_eq!(script("a", "#!/bin/sh\n", 0o644), "./a: permission denied; is the file executable?");
        assert_eq!(script("b", "#!/no/php -q\n", 0o755), "./b: its interpreter \"/no/php\" (line 1) does not exist");
        let windows = script("c", "#!/bin/sh\r\necho\r\n", 0o755);
        assert_eq!(windows, "./c: its interpreter \"/bin/sh\\r\" (line 1) does not exist; the script has Windows line ends");
        assert_eq!(script("d", "echo no mark\n", 0o755), "./d: exec format error; does the script begin with #! and its interpreter?");
    }

    #[test]
    fn a_user_that_may_not_run_the_program_is_named() {
        if !root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        let text = fault(&launch(&[&path.to_string_lossy()], |spec| spec.user = Some(nobody()))).text;
        assert!(text.contains("permission denied (user \"nobody\"); may the user reach and execute it"), "{text}");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut there = launch(&["pwd"], |spec| spec.user = Some(nobody()));
        there.directory = Some(dir.path().to_string_lossy().into_owned());
        assert_eq!(fault(&there).text, format!("cannot change to directory {}: permission denied (user \"nobody\")", dir.path().display()));
    }

    #[test]
    fn a_kernel_that_gives_no_process_is_quoted_with_the_reason() {
        let said = |errno| {
            let fault = fork_fault(&io::Error::from_raw_os_error(errno));
            (fault.step, fault.text)
        };
        let again = "fork: resource temporarily unavailable (process limit of the user or the control group)";
        assert_eq!(said(libc::EAGAIN), (SpawnStep::Fork, again.to_owned()));
        assert_eq!(said(libc::ENOMEM), (SpawnStep::Fork, "fork: cannot allocate memory".to_owned()));
        assert_eq!(said(libc::EMFILE).0, SpawnStep::Wire);
    }

    #[test]
    fn nothing_is_left_of_a_start_that_failed() {
        let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
        for _ in 0..200 {
            fault(&launch(&["/no/such/program"], |_| {}));
        }
        let after = std::fs::read_dir("/proc/self/fd").unwrap().count();
        // Other tests of this process open and close files meanwhile.
        assert!(after < before + 200, "{before} {after}");
    }
}
