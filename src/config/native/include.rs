//! `include`: file name patterns into files, sorted; `*`, `?` and `[…]` match within one directory, never a
//! hidden file, as the shell and Python's `glob` do.

use crate::config::Files;
use std::path::{Component, Path, PathBuf};

/// True if `text` has anything but ordinary characters.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// The files that `pattern` (absolute) matches, in order of their names. The error is what is wrong with the pattern, in words.
pub fn matching(pattern: &str, files: &dyn Files) -> Result<Vec<PathBuf>, String> {
    let mut found = vec![PathBuf::from("/")];
    let parts: Vec<String> = Path::new(pattern)
        .components()
        .filter_map(|part| match part {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
            Component::ParentDir => Some(String::from("..")),
            Component::Normal(part) => Some(part.to_string_lossy().into_owned()),
        })
        .collect();
    for (index, part) in parts.iter().enumerate() {
        if !is_pattern(part) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        if part.contains("**") {
            return Err(String::from("a pattern without \"**\": includes do not go down into directories"));
        }
        let glob = globset::GlobBuilder::new(part).literal_separator(true).build();
        let glob = glob.map_err(|fault| format!("a file name pattern ({})", fault.kind()))?.compile_matcher();
        let last = index + 1 == parts.len();
        let mut next = Vec::new();
        for directory in found {
            // A directory that is not there, or that we may not read, matches nothing.
            let mut names = files.list(&directory).unwrap_or_default();
            names.sort();
            let fits = |name: &String| (!name.starts_with('.') || part.starts_with('.')) && glob.is_match(name);
            let paths = names.iter().filter(|name| fits(name)).map(|name| directory.join(name));
            next.extend(paths.filter(|path| files.is_directory(path) != last));
        }
        found = next;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::Shelf;

    #[test]
    fn patterns_match_sorted_and_no_hidden_files() {
        let shelf = Shelf::of(&[("/e/d/b.toml", ""), ("/e/d/a.toml", ""), ("/e/d/.h.toml", ""), ("/e/d/x.ini", ""), ("/e/f/c.toml", "")]);
        let found = |pattern| matching(pattern, &shelf).map(|paths| paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>());
        assert_eq!(found("/e/d/*.toml"), Ok(vec!["/e/d/a.toml".into(), "/e/d/b.toml".into()]));
        assert_eq!(found("/e/*/*.toml"), Ok(vec!["/e/d/a.toml".into(), "/e/d/b.toml".into(), "/e/f/c.toml".into()]));
        assert_eq!(found("/e/d/[!a].toml"), Ok(vec!["/e/d/b.toml".into()]));
        assert_eq!(found("/none/*.toml"), Ok(vec![]));
        assert!(found("/e/**/a.toml").is_err());
        assert!(found("/e/[").is_err());
    }
}
