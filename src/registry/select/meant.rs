//! The likely meaning of a text that is not a selection, as other tools write crates and folders.

use semver::VersionReq;

use crate::krate::CrateName;

/// How a selection is written that others write like this: a folder without its prefix, a version without its `@`,
/// several crates in one.
pub(super) fn meant(text: &str) -> Option<String> {
    /// No selection is longer.
    const LONGEST: usize = 1024;
    if text.len() > LONGEST {
        return None;
    }
    let shown = text.escape_debug();
    if text.contains('/') || text.starts_with(['.', '~']) {
        return Some(format!("a folder is selected with `path:{shown}`"));
    }
    if text.contains(',') && text.split(',').all(|name| name.trim().parse::<CrateName>().is_ok()) {
        return Some("several crates are selected by repeating `--crates`".to_owned());
    }
    meant_version(text).map(|meant| format!("did you mean `{meant}`?"))
}

/// The `NAME@VERSION` that is meant by `serde-1.0.200` as in the name of a tarball, `serde 1.0.200` as cargo prints it,
/// or `serde = "1"` as in a manifest.
pub fn meant_version(text: &str) -> Option<String> {
    let mut ends = text.match_indices(['-', ' ', '=', ':']).filter_map(|(at, _)| {
        let name = text[..at].trim_end().parse::<CrateName>().ok()?;
        let version = text[at + 1..].trim_matches(|c: char| c.is_whitespace() || matches!(c, '=' | '"' | '\'' | 'v'));
        let is_version = version.starts_with(|c: char| c.is_ascii_digit() || "^~>*".contains(c));
        (is_version && version.parse::<VersionReq>().is_ok()).then(|| format!("{name}@{version}"))
    });
    ends.next_back()
}
