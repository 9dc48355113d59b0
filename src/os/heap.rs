//! How much memory we hold: how the C library's allocator behaves for us, and what is given back after the start.
//!
//! Left alone, it gives every thread an arena of its own, each with its own waste; the arenas of all but the first thread grow
//! a page or two at a time, a system call each, and give back what they will ask for again a moment later. A daemon of
//! four threads that mostly sleep is better off with one arena. It is a matter of cost and never of meaning: where the C library is another one,
//! nothing is done here. Not an allocator of ours: the system's is good, and others keep more for themselves than a thousand slots need.
#![allow(unsafe_code)]

/// To be called before the first thread is started.
pub fn frugal() {
    #[cfg(target_env = "gnu")]
    for (what, value) in [
        (libc::M_ARENA_MAX, 1),
        // Steps in which the heap grows, and how much of its end must be free before it is given back.
        (libc::M_TOP_PAD, 256 * 1024),
        (libc::M_TRIM_THRESHOLD, 1024 * 1024),
        // Blocks of this size (a whole status written out) come from the kernel and go back to it. Set, or the
        // threshold would rise with the first of them.
        (libc::M_MMAP_THRESHOLD, 256 * 1024),
    ] {
        // SAFETY: mallopt takes two integers, and there is no other thread yet. A value that it refuses changes nothing.
        unsafe { libc::mallopt(what, value) };
    }
}

/// Gives back what only a start needs: free pages of the heap, and the program's code and constants, most of which (reading definitions,
/// the tool) are not used again; what is, is mapped again as it is touched, from memory that the kernel has anyway. Some hundred microseconds.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks; may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0)
    };
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for (start, end) in maps.lines().filter_map(never_written) {
        // SAFETY: a private mapping of a file that nobody has written to (see there): dropped pages come back from the file with
        // the same content. Where the kernel refuses, nothing has changed.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// Where a line of `/proc/self/maps` shows a part of a program or library that was never written to: code, since there are no text
/// relocations, and the first part of a file, which holds its header and constants. Other parts that cannot be written *now* were
/// while addresses were put into them, and would lose those.
fn never_written(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (may, offset) = (words.next()?, words.next()?);
    let first_part = may == "r--p" && offset.bytes().all(|digit| digit == b'0');
    if !(may == "r-xp" || first_part) || !words.nth(2)?.starts_with('/') {
        return None;
    }
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_written_is_given_back() {
        let line = "7f2a10000000-7f2a10021000 r-xp 00001000 fe:00 1234                       /usr/bin/gangerd";
        let there = Some((0x7f2a_1000_0000, 0x7f2a_1002_1000));
        assert_eq!(never_written(line), there);
        assert_eq!(never_written(&line.replace("r-xp", "r--p")), None, "it holds addresses that were put in at the start");
        assert_eq!(never_written(&line.replace("r-xp", "r--p").replace("00001000 fe", "00000000 fe")), there);
        assert_eq!(never_written("7ffd0fcfb000-7ffd0fcfd000 r-xp 00000000 00:00 0                          [vdso]"), None);
        assert_eq!(never_written("7fdeb0000000-7fdeb03f3000 rw-p 00000000 00:00 0"), None);
    }

    #[test]
    fn we_run_on_after_it() {
        give_back();
        assert_eq!(std::hint::black_box("still").len(), 5);
    }
}
