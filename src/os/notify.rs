//! The notify sockets: a datagram, and the kernel's word on who sent it.
//!
//! One socket for every slot, so that the *socket* says whom it is about and nobody's pid need be traced. The kernel stamps
//! each datagram with pid and uid of its sender (SO_PASSCRED); the text is never believed on that. All sockets hang in one
//! epoll instance, which alone is registered with the runtime.
//!
//! Who may write: the file is 0600 and the worker's own. A datagram whose uid is neither root's, ours nor the worker's is
//! dropped all the same, since a descriptor can be handed on. What a datagram means is `model/notify`'s and the engine's word.
#![allow(unsafe_code)]

use crate::model::name::SlotId;
use crate::model::notify::Notify;
use crate::os::{fds, host};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket, sockopt};
use nix::sys::stat::{Mode, fchmod};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;

/// What a worker told. `pid` and `uid` are the kernel's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub slot: SlotId,
    pub pid: i32,
    pub uid: u32,
    pub told: Notify,
}

/// The sockets of all slots.
#[derive(Debug)]
pub struct Sockets {
    epoll: Epoll,
    watched: AsyncFd<OwnedFd>,
    tokens: BTreeMap<SlotId, u64>,
    sockets: HashMap<u64, Socket>,
    next_token: u64,
    buffer: Vec<u8>,
    /// Datagrams that were dropped because of their sender, since the start.
    pub refused: u64,
}

#[derive(Debug)]
struct Socket {
    slot: SlotId,
    fd: OwnedFd,
    path: PathBuf,
    uid: u32,
}

impl Sockets {
    /// Must be called within the runtime that will wait on it.
    pub fn new() -> io::Result<Sockets> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let watched = fds::watch(fds::duplicate(epoll.0.as_fd(), 3)?)?;
        Ok(Sockets {
            epoll,
            watched,
            tokens: BTreeMap::new(),
            sockets: HashMap::new(),
            next_token: 0,
            buffer: vec![0; MAX_DATAGRAM],
            refused: 0,
        })
    }

    /// Makes the slot's socket at `path`: mode 0600, belonging to the worker (`None`: to us). A socket that is there already is
    /// replaced; anything else at the path is left, and is an error. Its directory must let the worker through (0711).
    pub fn bind(&mut self, slot: &SlotId, path: &Path, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        self.unbind(slot);
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is there and is no socket", path.display()))),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => {}
            Err(fault) => return Err(fault),
        }
        let address = UnixAddr::new(path)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{} is too long for a socket (107 bytes)", path.display())))?;
        let fd = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        setsockopt(&fd, sockopt::PassCred, &true)?;
        // Before bind: the kernel makes the file with this mode, so it is never wider, not for a moment.
        fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
        bind(fd.as_raw_fd(), &address)?;
        if !host::are_we(uid, gid)
            && let Err(fault) = std::os::unix::fs::lchown(path, uid, gid)
        {
            let _ = std::fs::remove_file(path);
            return Err(fault);
        }
        self.watch(slot, fd, path, uid)
    }

    /// Takes over a socket that was bound by our predecessor.
    pub fn adopt(&mut self, slot: &SlotId, fd: OwnedFd, path: &Path, uid: Option<u32>) -> io::Result<()> {
        self.watch(slot, fd, path, uid)
    }

    /// The slot is forgotten: its socket is closed and its file removed.
    pub fn unbind(&mut self, slot: &SlotId) {
        if let Some(socket) = self.tokens.remove(slot).and_then(|token| self.sockets.remove(&token)) {
            let _ = self.epoll.delete(&socket.fd);
            let _ = std::fs::remove_file(&socket.path);
        }
    }

    /// Waits until there is something to drain. May be given up at any time.
    pub async fn readable(&self) {
        loop {
            // Fails only when the runtime goes away; then nothing will come any more.
            let Ok(mut guard) = self.watched.readable().await else { return std::future::pending().await };
            let mut one = [EpollEvent::empty()];
            match self.epoll.wait(&mut one, EpollTimeout::ZERO) {
                Ok(0) => guard.clear_ready(),
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Takes at most `limit` datagrams, a few from each socket in turn, so that a talkative worker cannot keep the others from
    /// being heard. Never waits. `true`: there may be more.
    ///
    /// Descriptors that come along (BARRIER=1, or a worker's mistake) are closed when the batch has been read, which is what
    /// the sender of a barrier waits for.
    pub fn drain(&mut self, limit: usize, into: &mut Vec<Datagram>) -> bool {
        let mut barriers = Vec::new();
        let mut left = limit;
        let mut events = [EpollEvent::empty(); SOCKETS_A_ROUND];
        while left > 0 {
            let Ok(ready @ 1..) = self.epoll.wait(&mut events, EpollTimeout::ZERO) else { return false };
            for event in &events[..ready] {
                let Some(socket) = self.sockets.get(&event.data()) else { continue };
                for _ in 0..DATAGRAMS_A_TURN.min(left) {
                    let Some(read) = receive(&socket.fd, &mut self.buffer, &mut barriers) else { break };
                    left -= 1;
                    if barriers.len() > MAX_BARRIERS {
                        barriers.clear();
                    }
                    let Some((length, pid, uid)) = read else { continue };
                    if uid != 0 && uid != socket.uid && uid != host::uid() {
                        self.refused += 1;
                        continue;
                    }
                    let told = Notify::parse(&self.buffer[..length]);
                    if !told.is_silent() {
                        into.push(Datagram { slot: socket.slot.clone(), pid, uid, told });
                    }
                }
            }
        }
        true
    }

    fn watch(&mut self, slot: &SlotId, fd: OwnedFd, path: &Path, uid: Option<u32>) -> io::Result<()> {
        let token = self.next_token;
        self.next_token += 1;
        // Level-triggered: the kernel then hands ready sockets round in turn.
        self.epoll.add(&fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        self.tokens.insert(slot.clone(), token);
        let uid = uid.unwrap_or_else(host::uid);
        self.sockets.insert(token, Socket { slot: slot.clone(), fd, path: path.to_owned(), uid });
        Ok(())
    }
}

/// How many datagrams the kernel keeps for a socket before senders must wait (`net.unix.max_dgram_qlen`). Below some hundreds it
/// is worth a warning: a worker that sends in blocking mode stands still while we are busy.
pub fn queue_length() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").ok()?.trim().parse().ok()
}

/// One datagram: its length, and its sender's pid and uid. `None`: nothing is there. `Some(None)`: one came that cannot be used
/// (cut off, or without credentials).
///
/// By hand and not through nix, which does not show the descriptors of a message whose control part was cut off (we have no
/// free numbers left): they would stay open for ever.
fn receive(socket: &OwnedFd, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> Option<Option<(usize, i32, u32)>> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes is a valid msghdr; then it is pointed at memory of this frame and the caller's, with true lengths. The
    // control buffer is aligned for cmsghdr, and the CMSG macros walk it by the lengths that the kernel wrote.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        let length = loop {
            let rc = libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC);
            if rc >= 0 {
                break rc as usize;
            }
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return None;
            }
        };
        let mut sender = None;
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let data = libc::CMSG_DATA(header);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => {
                    let who: libc::ucred = data.cast::<libc::ucred>().read_unaligned();
                    sender = Some((who.pid, who.uid));
                }
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                    for i in 0..bytes / size_of::<i32>() {
                        descriptors.push(fds::own(data.cast::<i32>().add(i).read_unaligned()));
                    }
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        // Half a number would be a wrong number: what was cut off is not read at all.
        let whole = message.msg_flags & libc::MSG_TRUNC == 0;
        Some(sender.filter(|_| whole).map(|(pid, uid)| (length, pid, uid)))
    }
}

/// Far beyond what sd_notify senders send; longer ones are dropped.
const MAX_DATAGRAM: usize = 16 * 1024;

/// Room for credentials and for as many descriptors as the kernel lets through at once (SCM_MAX_FD, 253).
const CONTROL_WORDS: usize = 160;

const SOCKETS_A_ROUND: usize = 64;

const DATAGRAMS_A_TURN: usize = 16;

const MAX_BARRIERS: usize = 256;
