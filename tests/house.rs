//! The floors hold: imports run downward, the words and the engine stay pure, and every room is on the map.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import what, floor by floor (ARCHITECTURE.md draws it). A room may always import itself.
const HOUSE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("engine", &["model"]),
    ("config", &["model"]),
    ("os", &["model"]),
    ("logs", &["model"]),
    ("leases", &["model"]),
    ("listeners", &["model"]),
    ("api", &["model", "logs"]),
    ("ctl", &["model", "leases"]),
    ("daemon", &["model", "engine", "config", "os", "logs", "leases", "listeners", "api"]),
    ("bin", &["daemon", "ctl"]),
];

/// What no file of a pure room may name, even in passing.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time",
    "std::env",
    "tokio",
    "nix::",
    "libc::",
    "tracing::",
    "println!",
    "unsafe ",
];

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the sources are there") {
        let path = entry.expect("a directory can be read").path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// Every source file below `src`, with its room and its text without comments.
fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    all.into_iter()
        .map(|path| {
            let room = path.strip_prefix(&src).expect("below src").components().next().expect("a file has a name").as_os_str();
            let text = fs::read_to_string(&path).expect("a source can be read");
            let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
            (room.to_string_lossy().into_owned(), path, code.join("\n"))
        })
        .filter(|(room, _, _)| room != "lib.rs")
        .collect()
}

/// The rooms that a text imports, by `crate::room` and `ganger::room`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for prefix in ["crate::", "ganger::"] {
        for (at, _) in code.match_indices(prefix) {
            let rest = &code[at + prefix.len()..];
            let word: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            rooms.insert(word);
        }
    }
    // `use crate::{a, b}` would hide rooms from this test, so it is not our way of importing.
    assert!(!code.contains("use crate::{"), "import from one room a line, so that the floors can be seen");
    rooms.retain(|room| HOUSE.iter().any(|(name, _)| name == room));
    rooms
}

#[test]
fn imports_run_downward() {
    let mut faults = Vec::new();
    for (room, path, code) in sources() {
        let Some((_, allowed)) = HOUSE.iter().find(|(name, _)| *name == room) else {
            faults.push(format!("{}: room {room} is not on the map in tests/house.rs", path.display()));
            continue;
        };
        for import in imports(&code) {
            if import != room && !allowed.contains(&import.as_str()) {
                faults.push(format!("{}: {room} imports {import}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn model_and_engine_touch_nothing_outside() {
    let mut faults = Vec::new();
    for (room, path, code) in sources() {
        if (room == "model" || room == "engine") && !path.ends_with("tests.rs") {
            for word in IMPURE.iter().filter(|word| code.contains(**word)) {
                faults.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_two_tables_have_no_wildcard_arm() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine");
    for (file, head) in [("slot.rs", "match (self.state, happening) {"), ("reconcile.rs", "match (wish, slot.state) {")] {
        let text = fs::read_to_string(src.join(file)).expect("a source can be read");
        let (before, table) = text.split_once(head).unwrap_or_else(|| panic!("{file}: its table begins with `{head}`"));
        let indent = before.len() - before.trim_end_matches(' ').len();
        let end = format!("\n{}}}\n", " ".repeat(indent));
        let (table, _) = table.split_once(&end).unwrap_or_else(|| panic!("{file}: the table ends"));
        for line in table.lines() {
            let arm = line.trim_start();
            assert!(!arm.starts_with("_ ") && !arm.starts_with("(_,") && !arm.contains(", _) "), "{file}: a wildcard in the table: {line}");
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    for path in all {
        let text = fs::read_to_string(&path).expect("a source can be read");
        let head = text.trim_start_matches("#![allow(unsafe_code)]").trim_start();
        assert!(head.starts_with("//!"), "{} opens with what it is", path.display());
    }
}
