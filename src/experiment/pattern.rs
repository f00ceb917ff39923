//! Names of crates with `*` in them, as `[crate."aws-*"]` has.

use serde::{Deserialize, Serialize};

use super::problem::BadValue;
use crate::krate::CrateName;

/// A name in which each `*` stands for any characters, or none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CratePattern(String);

impl CratePattern {
    /// Whether a text is a pattern rather than a name.
    pub(super) fn is_one(text: &str) -> bool {
        text.contains('*')
    }

    /// Reads a pattern.
    pub(super) fn parse(text: &str) -> Result<Self, BadValue> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*');
        if text.len() <= CrateName::MAX_LEN && text.chars().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        let help = "ASCII letters, digits, `-`, `_` and `*` are allowed, 64 at most".to_owned();
        let shown: String = text.escape_debug().take(80).collect();
        Err(BadValue::new(format!("`{shown}` is not a pattern of crate names"), help))
    }

    /// Whether it stands for this name.
    pub fn matches(&self, name: &CrateName) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.as_str().strip_prefix(first) else { return false };
        let mut parts = parts.peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            // The first place that fits leaves the most for what follows.
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.is_empty()
    }

    /// How many characters it names: of two that match, the one that names more goes over the other.
    pub(super) fn precision(&self) -> usize {
        self.0.chars().filter(|c| *c != '*').count()
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_or_none() {
        for (pattern, matching, other) in [
            ("aws-*", ["aws-", "aws-sdk-s3"], ["aws", "my-aws-x"]),
            ("*-sys", ["x-sys", "openssl-sys"], ["sys", "a-sys-b"]),
            ("a*b*c", ["abc", "a-b-b-c"], ["ac", "abcd"]),
            ("*", ["a", "b-c"], ["", ""]),
            ("*ab", ["ab", "aab"], ["abb", "b"]),
            ("a*a", ["aa", "aba"], ["a", "ab"]),
        ] {
            let pattern = CratePattern::parse(pattern).unwrap();
            let matches = |name: &str| name.parse().is_ok_and(|name| pattern.matches(&name));
            assert!(
                matching.iter().all(|name| !name.starts_with(|c: char| c.is_alphabetic()) || matches(name)),
                "{pattern:?}"
            );
            assert!(!other.iter().any(|name| matches(name)), "{pattern:?}");
        }
        assert!(CratePattern::parse("a/*").is_err());
    }
}
