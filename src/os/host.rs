//! The machine and our place on it: name, users, environment, totals, and being the one who inherits orphans.

use crate::model::launch::User;
use nix::unistd::{Gid, Group, Uid, getgrouplist};
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::io;

/// From now on the kernel makes every orphan among our descendants a child of ours, so that nothing a worker leaves behind
/// is lost from sight.
pub fn become_subreaper() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    Ok(())
}

/// The host's name, `localhost` where it has none that can be read.
pub fn hostname() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "localhost".into())
}

/// Our effective user id.
pub fn uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Our effective group id.
pub fn gid() -> u32 {
    nix::unistd::getegid().as_raw()
}

/// True if what we make belongs to this user and group without a word (`None`: ours).
pub fn are_we(uid: Option<u32>, gid: Option<u32>) -> bool {
    uid.is_none_or(|uid| uid == self::uid()) && gid.is_none_or(|gid| gid == self::gid())
}

/// Our own process id.
pub fn pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// What "boot id" the kernel gives this boot: a pid of another boot is nobody's.
pub fn boot_id() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|text| text.trim().to_owned())
}

/// Looks a user up: `www-data`, `33`, or either with `:group`. All his supplementary groups come with him; after `:group`
/// that group takes the place of his own first one.
///
/// `Ok(None)`: no such user. Asks the name services, which may block: never to be called while workers wait.
pub fn user_by_name(text: &str) -> Result<Option<User>, String> {
    let (who, group) = match text.split_once(':') {
        Some((who, group)) => (who, Some(group)),
        None => (text, None),
    };
    let looked_up = |fault: nix::Error| format!("user {who:?} cannot be looked up: {}", fault.desc());
    let found = match nix::unistd::User::from_name(who).map_err(looked_up)? {
        Some(user) => Some(user),
        None => match who.parse::<u32>() {
            Ok(uid) => nix::unistd::User::from_uid(Uid::from_raw(uid)).map_err(looked_up)?,
            Err(_) => None,
        },
    };
    let Some(found) = found else { return Ok(None) };
    let gid = match group {
        None => found.gid,
        Some(group) => match Group::from_name(group).map_err(|fault| format!("group {group:?} cannot be looked up: {}", fault.desc()))? {
            Some(group) => group.gid,
            None => Gid::from_raw(group.parse::<u32>().map_err(|_| format!("no such group: {group:?}"))?),
        },
    };
    let name = CString::new(found.name.as_str()).map_err(|_| format!("user {who:?}: a name with a NUL byte"))?;
    let mut groups: Vec<u32> = getgrouplist(&name, gid)
        .map_err(|fault| format!("the groups of user {who:?} cannot be listed: {}", fault.desc()))?
        .iter()
        .map(|gid| gid.as_raw())
        .collect();
    groups.sort_unstable();
    groups.dedup();
    Ok(Some(User {
        name: found.name,
        uid: found.uid.as_raw(),
        gid: gid.as_raw(),
        groups,
        home: found.dir.to_string_lossy().into_owned(),
        shell: found.shell.to_string_lossy().into_owned(),
    }))
}

/// The name of a uid for people: `www-data`, or `uid 1234` where it has none.
pub fn user_name(uid: u32) -> String {
    nix::unistd::User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name)
}

/// Our environment as a worker gets it: without what a service manager told *us* (its socket, its watchdog, its listening
/// descriptors), which a worker would take for its own.
pub fn base_environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os()
        .filter(|(key, _)| {
            let key = key.as_encoded_bytes();
            !OURS_ALONE.iter().any(|ours| ours.as_bytes() == key) && !key.starts_with(b"LISTEN_") && !key.starts_with(b"GANGER_")
        })
        .collect()
}

/// Our environment as text, for `%(ENV_X)s`; variables that are not UTF-8 are left out.
pub fn environment_map() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// What the host has and what is left of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    pub memory_total: u64,
    pub memory_available: u64,
    /// The load averages of 1, 5 and 15 minutes.
    pub load: [f64; 3],
    pub cpus: u32,
}

/// Reads the host's totals. What cannot be read is zero.
pub fn totals() -> Totals {
    let mut totals = Totals { cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32), ..Totals::default() };
    if let Ok(mut system) = sysinfo::System::new() {
        system.refresh_memory();
        totals.memory_total = system.total_memory();
        totals.memory_available = system.available_memory();
    }
    if let Ok(load) = sysinfo::System::load_average() {
        totals.load = [load.one, load.five, load.fifteen];
    }
    totals
}

/// Told to us by the service manager and meant for nobody else (sd_notify(3), sd_listen_fds(3), systemd.exec(5)).
const OURS_ALONE: [&str; 7] =
    ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "INVOCATION_ID", "JOURNAL_STREAM", "MAINPID", "SYSTEMD_EXEC_PID"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_by_number_and_with_another_group() {
        let root = user_by_name("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid, root.home.as_str()), (0, 0, "/root"));
        assert!(root.groups.contains(&0));
        assert_eq!(user_by_name("0").unwrap().unwrap(), root);
        let nobody = user_by_name("nobody:daemon").unwrap().unwrap();
        assert_eq!(nobody.gid, Group::from_name("daemon").unwrap().unwrap().gid.as_raw());
        assert!(nobody.groups.contains(&nobody.gid));
    }

    #[test]
    fn unknown_users_are_none_and_unknown_groups_say_so() {
        assert_eq!(user_by_name("no-such-user-here").unwrap(), None);
        assert_eq!(user_by_name("root:no-such-group-here").unwrap_err(), "no such group: \"no-such-group-here\"");
    }

    #[test]
    fn the_host_tells_its_totals() {
        let totals = totals();
        assert!(totals.memory_total > 0 && totals.memory_available > 0 && totals.cpus > 0, "{totals:?}");
    }
}
