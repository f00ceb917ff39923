//! A moment of the past, as of which crates and their dependencies are resolved.
//!
//! Later yanks stay in force: neither the index nor the dump has the time of a yank.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// A moment in UTC, to the second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AsOf(String);

/// The text is not a moment of the past.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}`: expected a day of the past such as `2026-06-01`, or a time such as `2026-06-01T12:00:00Z`", .0.escape_debug())]
pub struct BadAsOf(String);

/// How long `2026-06-01T12:00:00` is.
const LENGTH: usize = 19;

impl AsOf {
    /// Whether something that was published then was there; none if the text is no time. A time is as the index
    /// (`2026-06-01T12:00:00Z`) or the dump (`2026-06-01 12:00:00.123+00`) writes it: both are in UTC.
    pub(super) fn includes(&self, published: &[u8]) -> Option<bool> {
        let text = std::str::from_utf8(published.get(..LENGTH)?).ok()?.replacen(' ', "T", 1);
        is_moment(&text).then(|| text <= self.0)
    }
}

/// Whether a text has the shape `2026-06-01T12:00:00`, so that texts compare as times do.
fn is_moment(text: &str) -> bool {
    text.len() == LENGTH
        && text.bytes().zip("0000-00-00T00:00:00".bytes()).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        })
}

impl FromStr for AsOf {
    type Err = BadAsOf;

    /// A day means its end: everything that was published on it was there.
    fn from_str(text: &str) -> Result<Self, BadAsOf> {
        let bad = || BadAsOf(text.chars().take(80).collect());
        let day = format!("{text}T23:59:59");
        let moment = if is_moment(&day) { &day } else { text.trim_end_matches('Z') };
        let time = humantime::parse_rfc3339_weak(moment).map_err(|_| bad())?;
        let today = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        if !is_moment(moment) || (time > SystemTime::now() && !today.starts_with(text)) {
            return Err(bad());
        }
        Ok(Self(moment.to_owned()))
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}Z", self.0)
    }
}

impl TryFrom<String> for AsOf {
    type Error = BadAsOf;

    fn try_from(text: String) -> Result<Self, BadAsOf> {
        text.parse()
    }
}

impl From<AsOf> for String {
    fn from(as_of: AsOf) -> Self {
        as_of.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_includes_all_of_itself_in_either_spelling() {
        let as_of: AsOf = "2024-06-01".parse().unwrap();
        assert_eq!(as_of.includes(b"2024-06-01T23:59:59Z"), Some(true));
        assert_eq!(as_of.includes(b"2024-06-01 08:00:00.123456+00"), Some(true));
        assert_eq!(as_of.includes(b"2024-06-02 00:00:00"), Some(false));
        assert_eq!(as_of.includes(b"yesterday, at about noon"), None);
        assert_eq!(as_of.includes(b""), None);
        let noon: AsOf = "2024-06-01T12:00:00Z".parse().unwrap();
        assert_eq!(noon.includes(b"2024-06-01T12:00:01Z"), Some(false));
        assert_eq!(noon.to_string().parse::<AsOf>(), Ok(noon));
    }

    #[test]
    fn what_is_no_day_of_the_past_is_refused() {
        for text in ["", "2024-13-01", "2024-06", "June", "9999-01-01", "2024-06-01T12", "1969-01-01", "2024-06-01+02"]
        {
            assert!(text.parse::<AsOf>().is_err(), "{text}");
        }
    }
}
