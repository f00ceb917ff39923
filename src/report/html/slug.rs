//! The file names of crates' pages: safe on every file system, and no two alike.

use std::collections::HashSet;

use crate::compare::CrateReport;

/// The longest part of a version that a name takes, so that names stay far below the 255 bytes of file systems.
const MAX_VERSION: usize = 80;

/// A name without extension for each crate, such as `itoa-1.0.18`.
pub(super) fn slugs(crates: &[CrateReport]) -> Vec<String> {
    // Folded, since some file systems don't tell cases apart.
    let mut taken = HashSet::new();
    crates
        .iter()
        .map(|krate| {
            let base = base(krate);
            let numbered = (2..).map(|number| format!("{base}~{number}"));
            let free = std::iter::once(base.clone()).chain(numbered).find(|name| taken.insert(name.to_lowercase()));
            free.unwrap_or(base)
        })
        .collect()
}

fn base(krate: &CrateReport) -> String {
    let Some(version) = &krate.version else { return krate.name.to_string() };
    // Some servers take a plus in an address for a space.
    let version: String = version.to_string().replace('+', "_").chars().take(MAX_VERSION).collect();
    format!("{}-{version}", krate.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{compare, sample};

    #[test]
    fn no_two_crates_share_a_page() {
        let long = format!("1.0.0-{}", "a".repeat(200));
        let named = [("a", "1.0.0+x.1"), ("a", "1.0.0"), ("A", "1.0.0"), ("a", "1.0.0"), ("b", &long), ("b", &long)];
        let mut crates: Vec<_> =
            named.iter().map(|(name, version)| sample::named(name, version, 'p', &["p"])).collect();
        crates.push(sample::missing_crate("gone"));
        let cut = &long[..MAX_VERSION];
        let expected = [
            "a-1.0.0_x.1".to_owned(),
            "a-1.0.0".to_owned(),
            "A-1.0.0~2".to_owned(),
            "a-1.0.0~3".to_owned(),
            format!("b-{cut}"),
            format!("b-{cut}~2"),
            "absent".to_owned(),
        ];
        assert_eq!(slugs(&compare(&sample::results(1, crates)).crates), expected);
    }
}
