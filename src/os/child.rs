//! What runs between clone and exec.
//!
//! The child shares our memory until it execs (CLONE_VM), while the thread that made it stands still (CLONE_VFORK). So it may
//! do nothing but raw system calls on what was laid out before: no allocation, no lock, no unwinding, no std. glibc's wrappers
//! for setuid and the like are out too, since they signal *our* other threads. A failure is told through the shared memory
//! itself (`Order::failed_step`, `Order::errno`), which costs no pipe.
//!
//! It does not choose: everything it needs was decided, looked up and made into C strings in `spawn`.
#![allow(unsafe_code)]

use libc::{c_char, c_int, c_long, c_void};
use std::ptr;

/// A step, as the child reports it. Zero is "none failed".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Step {
    Session = 1,
    Descriptors,
    OomScore,
    Rlimit,
    Nice,
    Groups,
    Gid,
    Uid,
    NoNewPrivs,
    Chdir,
    Exec,
}

impl Step {
    pub(super) fn of(number: i32) -> Option<Step> {
        [
            Step::Session,
            Step::Descriptors,
            Step::OomScore,
            Step::Rlimit,
            Step::Nice,
            Step::Groups,
            Step::Gid,
            Step::Uid,
            Step::NoNewPrivs,
            Step::Chdir,
            Step::Exec,
        ]
        .into_iter()
        .find(|step| *step as i32 == number)
    }
}

/// One rlimit, as prlimit64 takes it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Limit {
    pub resource: c_int,
    pub value: libc::rlimit64,
}

/// Everything the child needs, in plain pointers that outlive it. Who it becomes: `None` leaves it as it is.
#[derive(Debug)]
pub(super) struct Order {
    pub path: *const c_char,
    pub argv: *const *const c_char,
    pub envp: *const *const c_char,
    pub session: bool,
    /// Sources of 0, 1, 2 and 3, all numbered above 3 and all below `private_from`.
    pub sources: [c_int; 4],
    /// How many of them are given.
    pub source_count: c_int,
    /// From here on nothing is needed by the child; with `unshare` this part of the table is not even copied.
    pub private_from: u32,
    pub unshare: bool,
    pub oom_path: *const c_char,
    /// Digits to write there; null: leave it.
    pub oom_score: *const c_char,
    pub oom_score_len: usize,
    pub limits: *const Limit,
    pub limit_count: usize,
    pub nice: Option<c_int>,
    pub identity: Option<Identity>,
    pub no_new_privs: bool,
    /// Null: stay.
    pub directory: *const c_char,
    pub umask: Option<u32>,
    /// Out: the step that failed, or 0; and its errno. For `Rlimit`, which one.
    pub failed_step: c_int,
    pub errno: c_int,
    pub failed_limit: c_int,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: *const u32,
    pub group_count: usize,
}

/// The child's whole life. Returns only if it failed, and then to clone's trampoline, which ends it.
pub(super) extern "C" fn main(order: *mut c_void) -> c_int {
    let order = order.cast::<Order>();
    // SAFETY: `spawn` passes its own Order, which outlives us: that thread stands still until we exec or end, so nobody else
    // reads or writes it. All pointers in it are to memory of that same frame.
    unsafe {
        let (step, errno) = become_worker(&mut *order);
        ptr::write_volatile(&raw mut (*order).failed_step, step as c_int);
        ptr::write_volatile(&raw mut (*order).errno, errno);
        libc::syscall(libc::SYS_exit_group, 127 as c_long);
    }
    127
}

/// Comes back only on failure.
///
/// # Safety
/// As `main` says. Only raw system calls.
unsafe fn become_worker(order: &mut Order) -> (Step, c_int) {
    // SAFETY: each call takes integers, or pointers into `order`'s memory, which is alive and laid out as the call wants it
    // (`spawn` made it so). `libc::syscall` writes errno into the thread-local of the thread that stands still for us.
    unsafe {
        // Every disposition to its default: what we ignore (SIGPIPE) would stay ignored over exec, and what we catch would run
        // our handlers, on our memory, in the child. All are blocked until just before exec. The kernel refuses KILL and STOP,
        // and that is right.
        let default = [0u64; 4]; // struct kernel_sigaction of all zeroes: SIG_DFL, no flags, empty mask
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal as c_long, default.as_ptr(), ptr::null::<u8>(), 8usize);
        }

        let rc = if order.session { libc::syscall(libc::SYS_setsid) } else { libc::syscall(libc::SYS_setpgid, 0, 0) };
        if rc < 0 {
            return (Step::Session, errno());
        }

        // Descriptors before the limits: under a low RLIMIT_NOFILE the kernel would refuse to number them.
        if order.unshare && libc::syscall(libc::SYS_close_range, order.private_from, u32::MAX, libc::CLOSE_RANGE_UNSHARE) < 0 {
            return (Step::Descriptors, errno());
        }
        for target in 0..order.source_count {
            if libc::syscall(libc::SYS_dup3, order.sources[target as usize], target, 0) < 0 {
                return (Step::Descriptors, errno());
            }
        }
        if order.unshare {
            // What is left between the worker's own and `private_from`. Closed, not marked: the next step needs a free number.
            libc::syscall(libc::SYS_close_range, order.source_count, u32::MAX, 0);
        }

        if !order.oom_score.is_null() {
            let fd = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, order.oom_path, libc::O_WRONLY | libc::O_CLOEXEC, 0);
            if fd < 0 || libc::syscall(libc::SYS_write, fd, order.oom_score, order.oom_score_len) < 0 {
                return (Step::OomScore, errno());
            }
            libc::syscall(libc::SYS_close, fd);
        }
        for i in 0..order.limit_count {
            let limit = &*order.limits.add(i);
            if libc::syscall(libc::SYS_prlimit64, 0, limit.resource, &raw const limit.value, ptr::null::<u8>()) < 0 {
                let refused = errno();
                ptr::write_volatile(&raw mut order.failed_limit, limit.resource);
                return (Step::Rlimit, refused);
            }
        }
        if let Some(nice) = order.nice
            && libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, nice) < 0
        {
            return (Step::Nice, errno());
        }

        if let Some(identity) = &order.identity {
            if libc::syscall(libc::SYS_setgroups, identity.group_count, identity.groups) < 0 {
                return (Step::Groups, errno());
            }
            if libc::syscall(libc::SYS_setresgid, identity.gid, identity.gid, identity.gid) < 0 {
                return (Step::Gid, errno());
            }
            if libc::syscall(libc::SYS_setresuid, identity.uid, identity.uid, identity.uid) < 0 {
                return (Step::Uid, errno());
            }
        }
        if order.no_new_privs && libc::syscall(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1usize, 0usize, 0usize, 0usize) < 0 {
            return (Step::NoNewPrivs, errno());
        }
        // As the worker's user, who may see more or less than we do.
        if !order.directory.is_null() && libc::syscall(libc::SYS_chdir, order.directory) < 0 {
            return (Step::Chdir, errno());
        }
        if let Some(umask) = order.umask {
            libc::syscall(libc::SYS_umask, umask);
        }

        // Last: a signal that came meanwhile now takes its default action.
        let none = 0u64;
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, ptr::null::<u8>(), 8usize);
        libc::syscall(libc::SYS_execve, order.path, order.argv, order.envp);
        (Step::Exec, errno())
    }
}

/// The errno of the last raw call.
unsafe fn errno() -> c_int {
    // SAFETY: the thread-local of the thread that stands still for us.
    unsafe { *libc::__errno_location() }
}
