//! The name of an experiment: checked if the user gives it, else made from the file's name.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::problem::BadValue;

/// The longest name, in bytes: it becomes part of a path.
const LONGEST: usize = 64;

/// The name of an experiment whose file gives none.
pub(super) const DEFAULT: &str = "default";

/// A name as the user wrote it.
pub fn check(name: &str) -> Result<String, BadValue> {
    if is_allowed(name) {
        return Ok(name.to_owned());
    }
    let help =
        format!("ASCII letters, digits, `-`, `_` and `.` are allowed, a letter or digit first, {LONGEST} at most");
    let shown: String = name.chars().take(80).collect();
    Err(BadValue::new(format!("`{}` can't be the name of an experiment", shown.escape_debug()), help))
}

/// The name of a run without a file: the first crate, how many more there are, and a digest that tells apart what
/// begins alike. The same crates have the same name, in whichever order; those of files only from the same folder.
/// Exclusions come last, as the name is about what is run.
pub(super) fn of_selections(selections: &[String], folder: &Path) -> String {
    const FIRST: usize = 40;
    let mut sorted: Vec<&str> = selections.iter().map(String::as_str).collect();
    sorted.sort_unstable_by_key(|selection| (selection.starts_with('!'), *selection));
    sorted.dedup();
    let mut digest = Sha256::new();
    for selection in &sorted {
        digest.update((selection.len() as u64).to_le_bytes());
        digest.update(selection);
    }
    if sorted.iter().any(|selection| names_a_file(selection)) {
        digest.update(folder.as_os_str().as_encoded_bytes());
    }
    let digest: String = digest.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    // Of `list:crates/top.txt` it is `top.txt`, and of `top:100` all of it.
    let first = sorted.first().copied().unwrap_or_default();
    let first = first.split_once(':').filter(|_| names_a_file(first)).map_or(first, |(_, path)| path);
    let first = first.rsplit('/').find(|part| part.contains(is_name_char)).unwrap_or_default();
    let first = first.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let first: String = first.chars().take(FIRST).map(|c| if is_name_char(c) { c } else { '-' }).collect();
    match (first.as_str(), sorted.len()) {
        ("", _) => format!("crates-{digest}"),
        (first, 0 | 1) => format!("{first}-{digest}"),
        (first, count) => format!("{first}-and-{}-{digest}", count - 1),
    }
}

fn names_a_file(selection: &str) -> bool {
    ["list:", "lock:", "path:"].iter().any(|prefix| selection.starts_with(prefix))
}

/// The name that a file gives: its own, or its folder's if it is called `maar.toml`, with `-` for what isn't allowed.
pub(super) fn of_file(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default();
    let name = if stem == "maar" { file.parent().and_then(Path::file_name).unwrap_or_default() } else { stem };
    let name = name.to_string_lossy();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let name: String = name.chars().take(LONGEST).map(|c| if is_name_char(c) { c } else { '-' }).collect();
    if name.is_empty() { DEFAULT.to_owned() } else { name }
}

fn is_allowed(name: &str) -> bool {
    name.len() <= LONGEST && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_name_char)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_a_name_that_is_allowed() {
        for (file, name) in [
            ("/work/top100.toml", "top100"),
            ("/work/serde family/maar.toml", "serde-family"),
            ("/work/.hidden.toml", "hidden"),
            ("/work/été.toml", "t-"),
            ("/work/---.toml", "default"),
            ("/maar.toml", "default"),
        ] {
            assert_eq!(of_file(Path::new(file)), name, "{file}");
            check(name).unwrap();
        }
    }

    #[test]
    fn crates_of_the_command_line_give_a_name_of_their_own() {
        let name = |selections: &[&str], folder: &str| {
            let selections: Vec<String> = selections.iter().map(|&selection| selection.to_owned()).collect();
            let name = of_selections(&selections, Path::new(folder));
            check(&name).unwrap();
            name
        };
        let without_digest = |name: &str| name.rsplit_once('-').unwrap().0.to_owned();
        for (selections, expected) in [
            (&["itoa"][..], "itoa"),
            (&["semver@^1"], "semver--1"),
            (&["itoa", "semver"], "itoa-and-1"),
            (&["path:../mine/"], "mine"),
            (&["list:lists/top 100.txt"], "top-100.txt"),
            (&["list:https://example.org/top.txt"], "top.txt"),
            (&["top:100"], "top-100"),
            (&["all", "!openssl-sys"], "all-and-1"),
            (&["path:.."], "crates"),
            (&["path:é"], "crates"),
            (&[&"x".repeat(100)], &"x".repeat(40)),
        ] {
            assert_eq!(without_digest(&name(selections, "/work")), expected, "{selections:?}");
        }
        let same = name(&["a", "b"], "/work");
        assert_eq!(name(&["a", "b", "b"], "/else"), same);
        assert_ne!(name(&["a", "c"], "/work"), same);
        assert_eq!(name(&["b", "a"], "/work"), same);
        assert_eq!(name(&["top:9"], "/else"), name(&["top:9"], "/work"));
        assert_ne!(name(&["path:a"], "/work"), name(&["path:a"], "/else"));
    }

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for name in ["", "..", ".a", "a/b", "a b", "-a", "é", &"a".repeat(65)] {
            assert!(check(name).is_err(), "{name:?} was accepted");
        }
    }
}
