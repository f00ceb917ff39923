//! Where the registry is, according to cargo's own configuration.
//!
//! Reads `$CARGO_HOME/config.toml` and nothing else: a `.cargo/config.toml` above the working directory is about the
//! project there, and an experiment doesn't depend on where it is started.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

/// Where a registry is and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The root of its sparse index.
    pub index: IndexUrl,
    /// A PEM file of certificates to trust besides the system's: cargo's `http.cainfo`.
    pub ca_file: Option<PathBuf>,
}

/// The URL of a sparse index: `sparse+http://…/` or `sparse+https://…/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexUrl(String);

/// A text that is not the URL of a sparse index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a sparse index: a URL that begins with `sparse+https://` is needed", .0.escape_debug())]
pub struct BadIndexUrl(String);

/// Why cargo's configuration doesn't lead to a registry that maar can use.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Neither `CARGO_HOME` nor a home folder is known.
    #[error("can't find cargo's home: set CARGO_HOME or HOME")]
    NoHome,
    /// The file can't be read.
    #[error("failed to read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML, or a key has the wrong type.
    #[error("{}: {source}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A replacement names a source that isn't there.
    #[error("{}: `{key}` names `{name}`, but there is neither [source.{name}] nor [registries.{name}]", .path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The key with the name.
        key: String,
        /// The name.
        name: String,
    },
    /// Replacements go in a circle.
    #[error("{}: `{key}` leads back to `{name}`; end the circle of replacements", .path.display())]
    Circle {
        /// The file.
        path: PathBuf,
        /// The key that closes the circle.
        key: String,
        /// The source that was there before.
        name: String,
    },
    /// The registry is of a kind that maar doesn't speak.
    #[error(
        "{}: `{key}` is {what}, and maar needs a sparse registry: \
         let it name one, such as `registry = \"sparse+https://…/\"`", .path.display()
    )]
    NotSparse {
        /// The file.
        path: PathBuf,
        /// The key with the fault.
        key: String,
        /// Its actual value.
        what: String,
    },
}

/// The parts of cargo's configuration that name the source of crates. Other keys are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct CargoConfig {
    source: BTreeMap<String, SourceTable>,
    registries: BTreeMap<String, RegistryTable>,
    http: HttpTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct SourceTable {
    replace_with: Option<String>,
    registry: Option<String>,
    directory: Option<toml::Value>,
    local_registry: Option<toml::Value>,
    git: Option<toml::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RegistryTable {
    index: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HttpTable {
    cainfo: Option<PathBuf>,
}

/// Where `cargo install` puts subcommands, if there are any.
pub fn cargo_bin() -> Option<PathBuf> {
    cargo_home().map(|home| home.join("bin")).filter(|bin| bin.is_dir())
}

fn cargo_home() -> Option<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) if !home.is_empty() => Some(PathBuf::from(home)),
        _ => Some(std::env::home_dir()?.join(".cargo")),
    }
}

impl Upstream {
    /// The upstream that the user's cargo is configured for; the default registry if it isn't.
    ///
    /// # Errors
    /// When the configuration can't be read, or names a registry that is not a sparse one.
    pub fn configured() -> Result<Self, UpstreamError> {
        let home = cargo_home().ok_or(UpstreamError::NoHome)?;
        let mut upstream = Self::in_cargo_home(&home)?;
        if let Some(file) = std::env::var_os("CARGO_HTTP_CAINFO") {
            upstream.ca_file = Some(file.into());
        }
        Ok(upstream)
    }

    /// The upstream in the configuration of one cargo home, without the environment.
    ///
    /// # Errors
    /// As [`Upstream::configured`].
    pub fn in_cargo_home(home: &Path) -> Result<Self, UpstreamError> {
        // In cargo's order: it reads `config` if both are there.
        for name in ["config", "config.toml"] {
            let path = home.join(name);
            match std::fs::read_to_string(&path) {
                Ok(text) => return Self::from_config(&text, &path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(UpstreamError::Read { path, source }),
            }
        }
        Ok(Self { index: IndexUrl::default(), ca_file: None })
    }

    fn from_config(text: &str, path: &Path) -> Result<Self, UpstreamError> {
        let config: CargoConfig = toml::from_str(text)
            .map_err(|source| UpstreamError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        let index = index_of(&config, path)?;
        // Cargo takes relative paths of a configuration from the folder that holds the cargo home.
        let base = path.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        Ok(Self { index, ca_file: config.http.cainfo.map(|file| base.join(file)) })
    }
}

/// Follows the replacements of the default registry to their end.
fn index_of(config: &CargoConfig, path: &Path) -> Result<IndexUrl, UpstreamError> {
    let not_sparse =
        |key: String, what: &str| Err(UpstreamError::NotSparse { path: path.to_owned(), key, what: what.to_owned() });
    let mut name = "crates-io";
    let mut seen = BTreeSet::from([name]);
    loop {
        let source = config.source.get(name);
        let kind = |of: fn(&SourceTable) -> bool| source.is_some_and(of);
        if let Some(next) = source.and_then(|source| source.replace_with.as_deref()) {
            let key = format!("source.{name}.replace-with");
            if !config.source.contains_key(next) && !config.registries.contains_key(next) {
                return Err(UpstreamError::Unknown { path: path.to_owned(), key, name: next.to_owned() });
            }
            if !seen.insert(next) {
                return Err(UpstreamError::Circle { path: path.to_owned(), key, name: next.to_owned() });
            }
            name = next;
        } else if kind(|source| source.directory.is_some()) {
            return not_sparse(format!("source.{name}.directory"), "a folder of vendored crates");
        } else if kind(|source| source.local_registry.is_some()) {
            return not_sparse(format!("source.{name}.local-registry"), "a local registry");
        } else if kind(|source| source.git.is_some()) {
            return not_sparse(format!("source.{name}.git"), "a git repository");
        } else if let Some(url) = source.and_then(|source| source.registry.as_deref()) {
            let key = format!("source.{name}.registry");
            return url.parse().or_else(|_| not_sparse(key, &format!("the index `{}`", url.escape_debug())));
        } else if let Some(url) = config.registries.get(name).and_then(|registry| registry.index.as_deref()) {
            let key = format!("registries.{name}.index");
            return url.parse().or_else(|_| not_sparse(key, &format!("the index `{}`", url.escape_debug())));
        } else if name == "crates-io" {
            return Ok(IndexUrl::default());
        } else {
            return not_sparse(format!("source.{name}"), "empty");
        }
    }
}

impl IndexUrl {
    /// As cargo's configuration spells it, a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The start of the registry's own page about a crate, for the registry that cargo uses when nothing is configured.
    /// Other indexes don't give the address of such pages.
    pub fn crate_pages(&self) -> Option<String> {
        let host = crates_index::sparse::URL.strip_prefix("sparse+https://index.").filter(|_| *self == Self::default());
        host.map(|host| format!("https://{host}crates/"))
    }

    /// The start of the pages with a crate's documentation, which are about crates of the same registry only.
    pub fn doc_pages(&self) -> Option<String> {
        /// cargo's own default, `doc.extern-map.registries` of its configuration.
        const DOCS: &str = "https://docs.rs/";
        (*self == Self::default()).then(|| DOCS.to_owned())
    }

    /// Whether the index is served on this host's loopback interface.
    pub(super) fn is_loopback(&self) -> bool {
        let url = reqwest::Url::parse(self.0.trim_start_matches("sparse+")).ok();
        url.as_ref().and_then(reqwest::Url::host_str).is_some_and(|host| {
            host == "localhost"
                || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        })
    }
}

impl Default for IndexUrl {
    /// The registry that cargo uses when nothing is configured.
    fn default() -> Self {
        Self(crates_index::sparse::URL.to_owned())
    }
}

impl FromStr for IndexUrl {
    type Err = BadIndexUrl;

    fn from_str(text: &str) -> Result<Self, BadIndexUrl> {
        let bad = || BadIndexUrl(text.chars().take(200).collect());
        let url = text.strip_prefix("sparse+").ok_or_else(bad)?;
        let url = reqwest::Url::parse(url).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
            return Err(bad());
        }
        Ok(Self(format!("sparse+{}/", url.as_str().trim_end_matches('/'))))
    }
}

impl fmt::Display for IndexUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Upstream, String> {
        Upstream::from_config(text, Path::new("/home/me/.cargo/config.toml")).map_err(|error| error.to_string())
    }

    fn index(text: &str) -> String {
        read(text).unwrap().index.to_string()
    }

    #[test]
    fn without_replacements_it_is_the_default_registry() {
        assert_eq!(index(""), crates_index::sparse::URL);
        assert_eq!(
            index("[build]\njobs = 2\n[source.other]\nregistry = 'sparse+https://a/'"),
            crates_index::sparse::URL
        );
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(Upstream::in_cargo_home(empty.path()).unwrap().index, IndexUrl::default());
    }

    #[test]
    fn replacements_are_followed_to_their_end() {
        let two = "[source.crates-io]\nreplace-with = 'a'\n[source.a]\nreplace-with = 'b'\n";
        assert_eq!(
            index(&format!("{two}[source.b]\nregistry = 'sparse+http://127.0.0.1:1/x'")),
            "sparse+http://127.0.0.1:1/x/"
        );
        assert_eq!(index(&format!("{two}[registries.b]\nindex = 'sparse+https://b/i/'")), "sparse+https://b/i/");
    }

    #[test]
    fn replacements_that_maar_cannot_use_name_the_key() {
        let cases = [
            ("replace-with = 'b'", "`source.crates-io.replace-with` names `b`, but there is neither"),
            (
                "replace-with = 'b'\n[source.b]\ndirectory = 'vendor'",
                "`source.b.directory` is a folder of vendored crates",
            ),
            ("replace-with = 'b'\n[source.b]\nlocal-registry = 'x'", "`source.b.local-registry` is a local registry"),
            ("replace-with = 'b'\n[source.b]\ngit = 'x'", "`source.b.git` is a git repository"),
            (
                "replace-with = 'b'\n[source.b]\nregistry = 'https://b/g'",
                "`source.b.registry` is the index `https://b/g`",
            ),
            ("replace-with = 'b'\n[registries.b]\nindex = 'x'", "`registries.b.index` is the index `x`"),
            ("replace-with = 'b'\n[source.b]", "`source.b` is empty"),
            ("replace-with = 'b'\n[source.b]\nreplace-with = 'crates-io'", "leads back to `crates-io`"),
            ("replace-with = 1", "config.toml: TOML parse error at line 2, column 16"),
        ];
        for (text, expected) in cases {
            let error = read(&format!("[source.crates-io]\n{text}")).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(error.starts_with("/home/me/.cargo/config.toml: "), "{error}");
        }
    }

    #[test]
    fn a_certificate_file_is_taken_from_beside_the_cargo_home() {
        assert_eq!(read("http.cainfo = 'ca.pem'").unwrap().ca_file.unwrap(), Path::new("/home/me/ca.pem"));
        assert_eq!(read("http.cainfo = '/ca.pem'").unwrap().ca_file.unwrap(), Path::new("/ca.pem"));
    }

    #[test]
    fn only_http_urls_without_query_are_indexes() {
        for text in ["https://a/", "sparse+", "sparse+ftp://a/", "sparse+https://a/?q", "sparse+https://a/#f", ""] {
            assert!(text.parse::<IndexUrl>().is_err(), "{text}");
        }
        assert!("sparse+http://[::1]:9/".parse::<IndexUrl>().unwrap().is_loopback());
        assert!(!IndexUrl::default().is_loopback());
    }
}
