//! The name a user may have meant, for error messages.

/// Names longer than this, in bytes, are not typos, and are not compared.
const LONGEST: usize = 128;

/// The candidate that `name` is most likely a typo of, if any is near: as in rustc, a third of the letters may differ.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            let longer = name.len().max(candidate.len());
            // Of a short name at least one letter has to be right.
            *distance <= longer.max(3) / 3 && *distance < longer
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean …?", if a candidate is near.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// "did you mean …?", or all candidates where none is near.
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    did_you_mean(name, candidates.clone()).unwrap_or_else(|| format!("known are {}", listed(candidates)))
}

/// The candidate in a text that ends like [`did_you_mean`].
pub fn meant_in(text: &str) -> Option<&str> {
    text.rsplit_once("did you mean `")?.1.strip_suffix("`?")
}

/// `` `a`, `b`, `c` ``.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_wins_and_far_ones_are_not_named() {
        let names = ["toolchains", "crates", "ops", "skip"];
        for (typo, meant) in [
            ("tolchains", Some("toolchains")),
            ("CRATES", Some("crates")),
            ("op", Some("ops")),
            ("weather", None),
            ("x", None),
        ] {
            assert_eq!(nearest(typo, names), meant, "{typo}");
        }
        assert_eq!(nearest(&"a".repeat(1 << 20), names), None);
        let words = did_you_mean("tolchains", names).unwrap();
        assert_eq!(meant_in(&format!("unknown key; {words}")), Some("toolchains"));
        assert_eq!(meant_in("known are `a`"), None);
    }
}
