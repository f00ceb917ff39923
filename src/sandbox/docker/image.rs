//! The name of an image.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a local image, with its tag or digest if it has one, such as `maar` or `debian:12`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Image(String);

/// Why a text names no image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{}` is not the name of an image: lowercase letters, digits and `.`, `-`, `_` between them are allowed, with `/` \
     between parts, and a tag after `:` or a digest after `@`",
    .0.escape_debug()
)]
pub struct BadImage(String);

impl Image {
    /// The longest name, in bytes.
    const LONGEST: usize = 255;

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The repository and the tag, as an import wants them; without a tag, `latest`.
    pub(super) fn repository_and_tag(&self) -> (&str, &str) {
        match self.0.rsplit_once(':') {
            // A colon before a slash stands before the port of a registry.
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            Some(_) | None => (&self.0, "latest"),
        }
    }
}

impl Default for Image {
    /// What `maar image build` makes.
    fn default() -> Self {
        Self("maar".to_owned())
    }
}

impl FromStr for Image {
    type Err = BadImage;

    fn from_str(name: &str) -> Result<Self, BadImage> {
        let is_end = |c: char| c.is_ascii_alphanumeric();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '@');
        // The daemon knows the exact grammar. What counts here is that the name stays one in the path of a request.
        let is_part = |part: &str| part.starts_with(is_end) && part.ends_with(is_end) && part.chars().all(allowed);
        if name.len() <= Self::LONGEST && name.split('/').all(is_part) {
            Ok(Self(name.to_owned()))
        } else {
            Err(BadImage(name.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for Image {
    type Error = BadImage;

    fn try_from(name: String) -> Result<Self, BadImage> {
        name.parse()
    }
}

impl From<Image> for String {
    fn from(image: Image) -> Self {
        image.0
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_lead_a_request_astray_are_refused() {
        for name in ["", "/", "a/", "/a", "../containers", "a/../b", "a b", "a?x=1", "a#b", "a\n", "é", "%2e"] {
            assert!(name.parse::<Image>().is_err(), "{name:?}");
        }
        assert!("a".repeat(256).parse::<Image>().is_err());
    }

    #[test]
    fn a_name_is_split_into_repository_and_tag() {
        for (name, repository, tag) in [
            ("maar", "maar", "latest"),
            ("maar:12", "maar", "12"),
            ("localhost:5000/a/maar", "localhost:5000/a/maar", "latest"),
            ("localhost:5000/maar:v1.0_x", "localhost:5000/maar", "v1.0_x"),
        ] {
            assert_eq!(name.parse::<Image>().unwrap().repository_and_tag(), (repository, tag));
        }
    }
}
