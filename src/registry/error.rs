//! Errors of a registry, and who is to blame for each.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytesize::ByteSize;

use super::catalogue::DumpError;
use super::package::Checksum;
use super::select::SelectError;
use super::tree::TreeError;
use super::unpack::UnpackError;
use crate::outcome::{Breakage, Cause, Outcome};

/// Why a request to the registry failed. Clones, since concurrent callers share one request and its error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// The TLS client can't be made, mostly for want of certificates.
    #[error(
        "can't set up TLS: {reason}; install your system's CA certificates, or name a file of them in SSL_CERT_FILE"
    )]
    Tls {
        /// The TLS library's message.
        reason: String,
    },
    /// The registry can't be reached, or keeps failing.
    #[error("can't fetch {url}: {reason}")]
    Network {
        /// The requested URL.
        url: String,
        /// The message of the network or the server.
        reason: String,
    },
    /// The cache lacks a file, and nothing is to be fetched.
    #[error("{url} is not in the cache, and --offline fetches nothing")]
    Offline {
        /// The object of the request.
        url: String,
    },
    /// The registry has no such file.
    #[error("{url} does not exist")]
    NotFound {
        /// The requested URL.
        url: String,
    },
    /// The registry serves more than it should.
    #[error("{url} is larger than {limit}")]
    TooLarge {
        /// The requested URL.
        url: String,
        /// The most that is accepted.
        limit: ByteSize,
    },
    /// What claims to be the registry serves nonsense.
    #[error("{url} is malformed: {reason}")]
    Malformed {
        /// The requested URL.
        url: String,
        /// The fault.
        reason: String,
    },
    /// A tarball is not the one that was published.
    #[error("the tarball of {package} has the SHA-256 {actual} where {expected} was expected")]
    Mismatch {
        /// Which package.
        package: String,
        /// The checksum of the index or the lockfile.
        expected: Checksum,
        /// That of the tarball.
        actual: Checksum,
    },
    /// A tarball is damaged or hostile.
    #[error("the tarball of {package}: {source}")]
    Unpack {
        /// Which package.
        package: String,
        /// The fault.
        source: Arc<UnpackError>,
    },
    /// A lockfile names a package that the registry doesn't have.
    #[error("the lockfile needs {package}, which the registry doesn't have")]
    Missing {
        /// Which package.
        package: String,
    },
    /// A local folder has a manifest without a package.
    #[error("{}: {reason}", .path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
    /// A local folder can't be read.
    #[error(transparent)]
    Tree(Arc<TreeError>),
    /// The host's file system fails.
    #[error("failed to {action} {}: {source}", .path.display())]
    Io {
        /// The action that failed: an infinitive.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: Arc<io::Error>,
    },
    /// The registry's database dump can't be used.
    #[error(transparent)]
    Dump(Arc<DumpError>),
    /// The registry has no database dump.
    #[error(
        "can't get the registry's database dump ({reason}): this selection needs one; download it and name it with \
         --dump FILE"
    )]
    NoDump {
        /// Why not.
        reason: String,
    },
    /// A list on another host is refused.
    #[error(transparent)]
    List(Arc<SelectError>),
    /// The index doesn't tell when a version was published.
    #[error("the index of {url} doesn't tell when `{package}` was published, which --as-of needs")]
    Undated {
        /// The crate's file in the index.
        url: String,
        /// Which version.
        package: String,
    },
    /// A query has no answer.
    #[error("`{query}`: {reason}")]
    Query {
        /// The query, as the user wrote it.
        query: String,
        /// Why, and what to do about it.
        reason: String,
    },
    /// An internal task panicked.
    #[error("a task of the registry panicked: {0}")]
    Panic(String),
}

impl RegistryError {
    /// Wraps an error of the file system: `.map_err(RegistryError::io("create", path))`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source: Arc::new(source) }
    }

    /// The outcome of the crate that needed the registry.
    pub fn outcome(&self) -> Outcome {
        let text = self.to_string();
        match self {
            // Nonsense in the index or in place of a tarball comes from something between us and the registry, such as
            // a hotel's login page.
            Self::Tls { .. }
            | Self::Network { .. }
            | Self::Offline { .. }
            | Self::Malformed { .. }
            | Self::Mismatch { .. } => Outcome::Inconclusive(Cause::Network(text)),
            Self::NotFound { .. } | Self::Missing { .. } => Outcome::Broken(Breakage::Missing(text)),
            Self::TooLarge { .. } => Outcome::Broken(Breakage::Archive(text)),
            Self::Manifest { .. } => Outcome::Broken(Breakage::Manifest(text)),
            Self::Query { .. } | Self::Dump(_) | Self::NoDump { .. } | Self::List(_) | Self::Undated { .. } => {
                Outcome::Inconclusive(Cause::Host(text))
            }
            Self::Unpack { source, .. } => match &**source {
                UnpackError::Io { source, .. } => of_host(source, text),
                _ => Outcome::Broken(Breakage::Archive(text)),
            },
            Self::Tree(error) => match &**error {
                TreeError::Io { source, .. } => of_host(source, text),
                TreeError::TooLarge { .. } | TreeError::TooMany { .. } | TreeError::TooDeep { .. } => {
                    Outcome::Broken(Breakage::Archive(text))
                }
            },
            Self::Io { source, .. } => of_host(source, text),
            Self::Panic(_) => Outcome::Error(text),
        }
    }
}

fn of_host(error: &io::Error, text: String) -> Outcome {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    Outcome::Inconclusive(if full { Cause::OutOfDisk } else { Cause::Host(text) })
}

impl From<DumpError> for RegistryError {
    fn from(error: DumpError) -> Self {
        Self::Dump(Arc::new(error))
    }
}

impl From<TreeError> for RegistryError {
    fn from(error: TreeError) -> Self {
        Self::Tree(Arc::new(error))
    }
}

impl From<tokio::task::JoinError> for RegistryError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Panic(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_dead_network_are_not_the_crates_doing() {
        let full = RegistryError::io("write", Path::new("x"))(io::ErrorKind::StorageFull.into());
        assert_eq!(full.outcome(), Outcome::Inconclusive(Cause::OutOfDisk));
        let dead = RegistryError::Network { url: "u".into(), reason: "refused".into() };
        assert_eq!(dead.outcome(), Outcome::Inconclusive(Cause::Network("can't fetch u: refused".into())));
    }

    #[test]
    fn a_hostile_tarball_is_broken_unless_the_host_failed_while_unpacking_it() {
        let unpack = |source| RegistryError::Unpack { package: "a-1.0.0".into(), source: Arc::new(source) };
        let hostile = unpack(UnpackError::Link { entry: "a-1.0.0/x".into() }).outcome();
        assert!(matches!(hostile, Outcome::Broken(Breakage::Archive(_))), "{hostile:?}");
        let host = UnpackError::Io { path: "x".into(), source: io::ErrorKind::PermissionDenied.into() };
        assert!(matches!(unpack(host).outcome(), Outcome::Inconclusive(Cause::Host(_))));
    }
}
