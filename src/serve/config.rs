//! The settings of the server: `maar-server.toml`, checked. docs/server.md describes every one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use super::engine::EngineConfig;
use crate::nearest::did_you_mean;

/// The default address.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4242);

/// The largest settings file, in bytes.
const LONGEST: usize = 1 << 20;

/// All settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// How the server is reached.
    #[serde(default)]
    pub server: ServerConfig,
    /// The worker of this process.
    #[serde(default)]
    pub worker: WorkerConfig,
    /// Where jobs wait that agents run; none: no agents.
    pub engine: Option<EngineConfig>,
    /// Who may do how much.
    #[serde(default)]
    pub access: AccessConfig,
}

/// `[server]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ServerConfig {
    /// The address.
    pub listen: SocketAddr,
    /// The certificate chain, PEM. Relative paths begin at the file's folder.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// Whether everybody may read; else that takes a token.
    pub public: bool,
    /// The host names by which it is reached; a request for another one is refused.
    pub hosts: Vec<String>,
    /// The limits of requests.
    pub limits: LimitsConfig,
}

/// `[server.limits]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LimitsConfig {
    /// The largest body of a request.
    pub body: ByteSize,
    /// How many requests a second a token, or an address without one, may make for long.
    pub requests_per_second: u32,
    /// How many of its requests are answered at a time.
    pub concurrent_requests: usize,
    /// How many connections are open at a time.
    pub connections: usize,
    /// How many streams of events and results are open at a time.
    pub streams: usize,
}

/// `[worker]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct WorkerConfig {
    /// Whether this process runs experiments.
    pub enabled: bool,
    /// How long an experiment runs before another one of the same priority gets its turn.
    #[serde(deserialize_with = "duration")]
    pub slice: Duration,
}

/// `[access]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AccessConfig {
    /// The guard rails.
    pub guard: GuardConfig,
}

/// `[access.guard]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct GuardConfig {
    /// What tokens of the role `run` may not exceed. Administrators have no such limits.
    pub run: Guard,
}

/// `[access.guard.run]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Guard {
    /// The most crates of an experiment.
    pub max_crates: Option<u64>,
    /// The greatest priority.
    pub max_priority: Option<i64>,
    /// The most experiments of an owner that have not ended.
    pub open_experiments: Option<u64>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: DEFAULT_LISTEN,
            cert: None,
            key: None,
            public: true,
            hosts: Vec::new(),
            limits: LimitsConfig::default(),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            body: ByteSize::mib(4),
            requests_per_second: 20,
            concurrent_requests: 64,
            connections: 1024,
            streams: 256,
        }
    }
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self { enabled: true, slice: Duration::from_secs(600) }
    }
}

/// Why settings can't be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ConfigError {
    #[error("failed to read {}: {source}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is longer than {} KiB; it is not a file of settings", .path.display(), LONGEST >> 10)]
    TooLong { path: PathBuf },
    #[error("{}: {message}{}", .path.display(), .hint.as_ref().map(|hint| format!("help: {hint}")).unwrap_or_default())]
    Wrong { path: PathBuf, message: String, hint: Option<String> },
    #[error(
        "the server would send tokens unencrypted over the network, as {0} is not a loopback address: give `cert` and \
         `key` in [server], or listen on 127.0.0.1 and put a proxy with TLS in front of it"
    )]
    Unencrypted(SocketAddr),
    #[error("`{given}` in [server] needs `{missing}`: TLS takes a certificate and its key")]
    HalfTls { given: &'static str, missing: &'static str },
    #[error("`{setting}` in {table} must be at least 1; leave it out for the default")]
    Zero { table: &'static str, setting: &'static str },
}

impl Config {
    /// Reads and checks a file; none: the defaults. `listen` stands for the file's address.
    ///
    /// # Errors
    /// A file that can't be read, a key that isn't known, or settings that don't fit together.
    pub fn load(file: Option<&Path>, listen: Option<SocketAddr>) -> Result<Self, ConfigError> {
        let mut config = match file {
            Some(path) => Self::read(path)?,
            None => Self::default(),
        };
        if let Some(listen) = listen {
            config.server.listen = listen;
        }
        config.check()?;
        Ok(config)
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        if text.len() > LONGEST {
            return Err(ConfigError::TooLong { path: path.to_owned() });
        }
        let mut config: Self = toml::from_str(&text).map_err(|error| ConfigError::Wrong {
            path: path.to_owned(),
            message: error.to_string(),
            hint: meant(error.message()),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for file in [&mut config.server.cert, &mut config.server.key].into_iter().flatten() {
            *file = folder.join(&*file);
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let ServerConfig { listen, cert, key, limits, .. } = &self.server;
        match (cert, key) {
            (Some(_), None) => return Err(ConfigError::HalfTls { given: "cert", missing: "key" }),
            (None, Some(_)) => return Err(ConfigError::HalfTls { given: "key", missing: "cert" }),
            (None, None) if !listen.ip().is_loopback() => return Err(ConfigError::Unencrypted(*listen)),
            (None, None) | (Some(_), Some(_)) => {}
        }
        let table = "[server.limits]";
        for (setting, is_zero) in [
            ("body", limits.body.as_u64() == 0),
            ("requests-per-second", limits.requests_per_second == 0),
            ("concurrent-requests", limits.concurrent_requests == 0),
            ("connections", limits.connections == 0),
            ("streams", limits.streams == 0),
        ] {
            if is_zero {
                return Err(ConfigError::Zero { table, setting });
            }
        }
        if self.worker.slice.is_zero() {
            return Err(ConfigError::Zero { table: "[worker]", setting: "slice" });
        }
        Ok(())
    }
}

/// The known key nearest to an unknown one, from serde's message about it.
fn meant(message: &str) -> Option<String> {
    let mut names = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    let known: Vec<&str> = names.collect();
    did_you_mean(unknown, known.iter().copied())
}

pub(super) fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        serde::de::Error::custom(format!("`{}` is not a time such as \"10m\": {error}", text.escape_debug()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("maar-server.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path), None).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_file_the_server_is_on_loopback_and_may_be_read() {
        let config = Config::load(None, None).unwrap();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:4242");
        assert!(config.server.public && config.worker.enabled);
    }

    #[test]
    fn the_commented_example_is_the_defaults() {
        let text = include_str!("../../docs/server.toml");
        let config = load(text).unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
        // Every commented setting is one that is known, too.
        let uncommented: String = text
            .lines()
            .map(|line| {
                line.strip_prefix("# ")
                    .filter(|line| line.starts_with('[') || line.contains(" = ") && !line.contains("cert"))
            })
            .zip(text.lines())
            .map(|(setting, line)| format!("{}\n", setting.filter(|it| !it.contains("key = ")).unwrap_or(line)))
            .collect();
        load(&uncommented).unwrap();
    }

    #[test]
    fn an_address_of_the_network_takes_a_certificate() {
        let error = load("[server]\nlisten = \"0.0.0.0:4242\"").unwrap_err();
        assert!(error.contains("not a loopback address") && error.contains("`cert` and `key`"), "{error}");
        let config = load("[server]\nlisten = \"0.0.0.0:443\"\ncert = \"a.pem\"\nkey = \"/k.pem\"").unwrap();
        assert!(config.server.cert.unwrap().is_absolute());
        assert_eq!(config.server.key.unwrap(), Path::new("/k.pem"));
        assert!(load("[server]\ncert = \"a.pem\"").unwrap_err().contains("needs `key`"));
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_line_and_the_nearest_one() {
        let error = load("[server]\nlisten = \"127.0.0.1:1\"\npublik = false").unwrap_err();
        assert!(error.contains("line 3") && error.contains("did you mean `public`?"), "{error}");
        for (text, words) in [
            ("[worker]\nslice = \"soon\"", "is not a time such as"),
            ("[server.limits]\nbody = \"0B\"", "`body` in [server.limits] must be at least 1"),
            ("[server.limits]\nconnections = 0", "`connections`"),
            ("[server", "line 1"),
            ("[serve]", "did you mean `server`?"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
