//! Who may ask what, and what he is called in notices.
//!
//! Two roles: `View` reads, `Operate` changes. On the unix socket the file's mode says who gets in, and the
//! kernel says who he is. Root, the user that we run as, the socket's owner and the members of its group
//! operate; anybody else whom the mode lets in (0666, say) looks on. These are the rules of the control socket; Supervisor's
//! servers have theirs in `door`. TCP peers are a kind of their own, so that tokens and cookies have their place here; until
//! there are any, none of them is let in by these rules.

use crate::api::peer::UnixPeer;
use crate::logs::aside;
use crate::model::command::Refusal;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a caller may do; each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    View,
    Operate,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::View => "view",
            Role::Operate => "operate",
        })
    }
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Unix(UnixPeer),
    Tcp(SocketAddr),
}

/// A peer together with what he may do; `None`: nothing at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub peer: Peer,
    pub role: Option<Role>,
    /// The name that he has logged in by.
    pub user: Option<Arc<str>>,
}

impl Caller {
    /// Says whether this caller may do what needs `role`.
    ///
    /// # Errors
    /// `Refusal::NotAllowed`, in words that name the way out.
    pub fn may(&self, needed: Role) -> Result<(), Refusal> {
        if self.role.is_some_and(|role| role >= needed) {
            return Ok(());
        }
        let why = match &self.peer {
            Peer::Unix(peer) => format!(
                "uid {} may look but not change anything; that takes root, the daemon's own user, or membership of the socket's group",
                peer.uid
            ),
            Peer::Tcp(address) => format!("{address} may not {needed}: this door takes nobody without credentials"),
        };
        Err(Refusal::NotAllowed { why })
    }
}

/// The rules of one socket.
#[derive(Debug)]
pub struct Access {
    our_uid: u32,
    owner: u32,
    group: u32,
    /// Names by uid. Name services may block and may be slow, so each is asked once.
    names: Mutex<HashMap<u32, Option<String>>>,
}

impl Access {
    /// `our_uid`: the daemon's user. `owner`, `group`: of the socket file.
    pub fn new(our_uid: u32, owner: u32, group: u32) -> Access {
        Access { our_uid, owner, group, names: Mutex::new(HashMap::new()) }
    }

    pub fn caller(&self, peer: Peer) -> Caller {
        let role = match &peer {
            Peer::Unix(peer) if peer.uid == 0 || peer.uid == self.our_uid || peer.uid == self.owner => Some(Role::Operate),
            Peer::Unix(peer) if peer.is_in_group(self.group) => Some(Role::Operate),
            Peer::Unix(_) => Some(Role::View),
            Peer::Tcp(_) => None,
        };
        Caller { peer, role, user: None }
    }

    /// The caller as notices name him: `root (uid 0, pid 123)`.
    pub async fn who(&self, caller: &Caller) -> String {
        match (&caller.peer, &caller.user) {
            (Peer::Tcp(address), Some(user)) => format!("{user} ({address})"),
            (Peer::Tcp(address), None) => address.to_string(),
            (Peer::Unix(peer), _) => match self.name(peer.uid).await {
                Some(name) => format!("{name} (uid {}, pid {})", peer.uid, peer.pid),
                None => format!("uid {} (pid {})", peer.uid, peer.pid),
            },
        }
    }

    async fn name(&self, uid: u32) -> Option<String> {
        if let Some(known) = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(&uid) {
            return known.clone();
        }
        let asked = aside(move || nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten());
        // A name service that hangs must not hold up a `stop`; the number does for it.
        let name = match tokio::time::timeout(NAME_PATIENCE, asked).await {
            Ok(user) => user.flatten().map(|user| user.name),
            Err(_) => None,
        };
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MAX_NAMES {
            names.clear();
        }
        names.insert(uid, name.clone());
        name
    }
}

const NAME_PATIENCE: Duration = Duration::from_secs(2);
/// Users are few; the bound is for the one who makes them up in a user namespace.
const MAX_NAMES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        Peer::Unix(UnixPeer { uid, gid, pid: 7, groups: groups.to_vec() })
    }

    #[test]
    fn root_ourselves_owner_and_group_operate_and_others_look_on() {
        let access = Access::new(500, 501, 33);
        for operator in [peer(0, 0, &[]), peer(500, 9, &[]), peer(501, 9, &[]), peer(1000, 33, &[]), peer(1000, 1000, &[4, 33])] {
            assert_eq!(access.caller(operator).role, Some(Role::Operate));
        }
        let guest = access.caller(peer(1000, 1000, &[4]));
        assert_eq!(guest.role, Some(Role::View));
        assert_eq!(guest.may(Role::View), Ok(()));
        let refusal = guest.may(Role::Operate).expect_err("a guest changes nothing");
        assert!(refusal.to_string().contains("uid 1000 may look but not change"), "{refusal}");
    }

    #[test]
    fn a_tcp_peer_without_credentials_may_nothing() {
        let access = Access::new(0, 0, 0);
        let caller = access.caller(Peer::Tcp("127.0.0.1:9".parse().expect("an address")));
        assert!(caller.may(Role::View).is_err() && caller.may(Role::Operate).is_err());
    }

    #[tokio::test]
    async fn callers_are_named_by_user_and_pid_and_unknown_ones_by_number() {
        let access = Access::new(0, 0, 0);
        assert_eq!(access.who(&access.caller(peer(0, 0, &[]))).await, "root (uid 0, pid 7)");
        assert_eq!(access.who(&access.caller(peer(3_999_999_999, 0, &[]))).await, "uid 3999999999 (pid 7)");
        assert_eq!(access.names.lock().expect("whole").len(), 2, "each was asked once and kept");
    }
}
