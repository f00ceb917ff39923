//! A published package, and the checksum that pins its contents.

use std::fmt;
use std::str::FromStr;

use semver::Version;
use sha2::{Digest, Sha256};

use crate::krate::CrateName;

/// The SHA-256 of a tarball.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checksum([u8; 32]);

/// A text that is not a checksum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a SHA-256: 64 hexadecimal digits are needed", .0.escape_debug())]
pub struct BadChecksum(String);

impl Checksum {
    /// The checksum of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The length and digest of hashed bytes.
    pub(super) fn from_hasher(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// Its 32 bytes.
    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 16 hexadecimal digits: enough to tell the contents of one version apart.
    pub(super) fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(16);
        text
    }
}

impl FromStr for Checksum {
    type Err = BadChecksum;

    fn from_str(text: &str) -> Result<Self, BadChecksum> {
        let bad = || BadChecksum(text.chars().take(80).collect());
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return Err(bad());
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let [high, low] = digits else { return Err(bad()) };
            *byte = digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low).ok_or_else(bad)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One published version of a crate, pinned by its contents.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Package {
    /// The crate.
    pub name: CrateName,
    /// Its version, build metadata included.
    pub version: Version,
    /// The SHA-256 of its tarball.
    pub checksum: Checksum,
}

impl fmt::Display for Package {
    /// `NAME-VERSION`, which is also the only folder in its tarball.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_reads_what_it_writes() {
        let checksum = Checksum::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(checksum.to_string(), text);
        assert_eq!(text.parse::<Checksum>().unwrap(), checksum);
        assert_eq!(text.to_uppercase().parse::<Checksum>().unwrap(), checksum);
        assert_eq!(checksum.short(), "ba7816bf8f01cfea");
    }

    #[test]
    fn what_is_not_64_digits_is_no_checksum() {
        for text in ["", "ba78", &"g".repeat(64), &"0".repeat(65), &"é".repeat(32), &"+1".repeat(32)] {
            assert!(text.parse::<Checksum>().is_err(), "{text}");
        }
    }
}
