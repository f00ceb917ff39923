//! The target of a command's request, and the hosts that a user allows in spite of their address.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The port of https, the only one that is allowed unasked.
pub(super) const HTTPS: u16 = 443;

/// The longest name of a host that DNS has, in bytes.
const LONGEST: usize = 253;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    /// A name or an address, in lowercase; an IPv6 address without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// A host that crates may reach wherever it is: `HOST` or `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AllowedHost(Target);

/// A text that is not a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is not a host: a name or an address is needed, such as `git.corp.example`, `10.1.2.3:8443` or `[fd00::1]`",
    .0.escape_debug()
)]
pub struct BadHost(String);

impl Target {
    /// Reads `HOST:PORT`, or with a default port `HOST`. `None` if it is neither.
    pub(super) fn parse(text: &str, default_port: Option<u16>) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, port)
            }
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            // `parse` takes a sign.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None if port.is_empty() => default_port?,
            None => return None,
        };
        let is_address = text.starts_with('[');
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = !host.is_empty() && host.len() <= LONGEST && host.bytes().all(allowed);
        ((is_address || is_name) && port > 0).then(|| Self { host: host.to_ascii_lowercase(), port })
    }
}

impl AllowedHost {
    pub(super) fn is(&self, target: &Target) -> bool {
        self.0 == *target
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]")?
        } else {
            f.write_str(host)?
        }
        if *port == HTTPS { Ok(()) } else { write!(f, ":{port}") }
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AllowedHost {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        Target::parse(text, Some(HTTPS)).map(Self).ok_or_else(|| BadHost(text.chars().take(LONGEST).collect()))
    }
}

impl TryFrom<String> for AllowedHost {
    type Error = BadHost;

    fn try_from(text: String) -> Result<Self, BadHost> {
        text.parse()
    }
}

impl From<AllowedHost> for String {
    fn from(host: AllowedHost) -> Self {
        host.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_written_as_it_is_read() {
        for (text, expected) in [
            ("git.corp.example", "git.corp.example"),
            ("GIT.corp.example:443", "git.corp.example"),
            ("10.1.2.3:8443", "10.1.2.3:8443"),
            ("[FD00::1]", "[fd00::1]"),
            ("[::1]:8443", "[::1]:8443"),
        ] {
            assert_eq!(text.parse::<AllowedHost>().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn what_is_not_a_host_and_a_port_is_refused() {
        for text in [
            "",
            ":443",
            "a:",
            "a:0",
            "a:65536",
            "a:+443",
            "a:4 3",
            "a:b",
            "a:1:2",
            "::1",
            "::1:443",
            "[::1",
            "[::1]443",
            "[::1]x:443",
            "[]:443",
            "[a]:443",
            "[::1%lo]:443",
            "a/b:443",
            "a@b:443",
            "a b:443",
            "a\r\nb:443",
            "é:443",
        ] {
            assert_eq!(Target::parse(text, Some(HTTPS)), None, "{text:?}");
        }
        assert_eq!(Target::parse(&format!("{}:443", "a".repeat(254)), None), None);
        assert_eq!(Target::parse("a", None), None, "CONNECT names a port");
    }
}
