//! What an experiment is called: checked where the user says it, made from the file's name where not.

use std::path::Path;

use super::problem::BadValue;

/// The longest name, in bytes: it becomes part of a path.
const LONGEST: usize = 64;

/// The name of an experiment that has neither a name nor a file.
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
    fn names_that_could_leave_a_folder_are_refused() {
        for name in ["", "..", ".a", "a/b", "a b", "-a", "é", &"a".repeat(65)] {
            assert!(check(name).is_err(), "{name:?} was accepted");
        }
    }
}
