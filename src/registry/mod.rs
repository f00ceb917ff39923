//! The registry: which crates there are, and their sources.
//!
//! [`Registry`] is the whole of it: it selects crates, downloads tarballs and vendors the packages of a lockfile. Its
//! [`Gate`] serves the index to cells, and decides what else of the network they reach. Has no part in ops, pools or
//! sandboxes. Every future here may be dropped at any time: nothing half done is ever seen under its final name.

mod as_of;
mod catalogue;
mod download;
mod error;
mod flight;
mod folder;
mod gate;
mod http;
mod index;
mod loads;
pub mod lockfile;
mod package;
mod packed;
mod place;
mod plain;
mod query;
mod resolve;
mod search;
pub mod select;
mod sources;
mod stand_in;
pub mod tree;
pub mod unpack;
mod upstream;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytesize::ByteSize;
use semver::Version;

use crate::krate::{CrateName, Selected};
use crate::owner::Owner;

pub use self::as_of::{AsOf, BadAsOf};
pub use self::catalogue::{Catalogue, DumpError, read as read_dump};
pub use self::error::RegistryError;
pub use self::gate::{AllowedHost, BadHost, Denial, Gate};
pub use self::package::{BadChecksum, Checksum, Package};
pub use self::upstream::{BadIndexUrl, IndexUrl, Upstream, UpstreamError, cargo_bin};

use self::catalogue::Dumps;
use self::download::Tarballs;
use self::http::{Encoding, Http, Reply};
use self::index::Index;
use self::lockfile::Lockfile;
use self::packed::Packed;
use self::select::{Query, Selection};
use self::sources::Sources;
pub use self::sources::{InDoubt, Vendored};

/// The settings of a registry.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the registry is.
    pub upstream: Upstream,
    /// A folder that only maar writes, made if absent; registries of several processes may share it.
    pub cache: PathBuf,
    /// Whether anything is fetched.
    pub access: Access,
}

/// Whether a registry asks the network for what its cache lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// It does.
    #[default]
    Online,
    /// It answers from the cache only.
    Offline,
}

/// Hears what takes a while, in words for the user.
pub type Watch = Arc<dyn Fn(&str) + Send + Sync>;

/// A registry, its caches included. Clones are the same registry.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: Arc<Http>,
    index: Index,
    tarballs: Tarballs,
    sources: Sources,
    dumps: Dumps,
    ca_file: Option<PathBuf>,
}

impl Registry {
    /// Opens a registry: makes its folders, but asks the network nothing.
    ///
    /// # Errors
    /// When a folder can't be made, or the host has no certificates that TLS could trust.
    pub fn open(config: Config) -> Result<Self, RegistryError> {
        Self::open_as_of(config, None)
    }

    /// Opens a registry as it was at a moment: versions that were published later are not there.
    ///
    /// # Errors
    /// As [`Registry::open`].
    pub fn open_as_of(config: Config, as_of: Option<AsOf>) -> Result<Self, RegistryError> {
        let http = Arc::new(Http::new(&config.upstream, config.access)?);
        let (index, tarballs) = (config.cache.join("index"), config.cache.join("crates"));
        Ok(Self(Arc::new(Inner {
            index: Index::open(&config.upstream.index, (&index, &tarballs), Arc::clone(&http), as_of)?,
            tarballs: Tarballs::open(tarballs, Arc::clone(&http))?,
            sources: Sources::open(config.cache.join("sources"))?,
            dumps: Dumps::new(config.cache.join("dumps"), Arc::clone(&http)),
            http,
            ca_file: config.upstream.ca_file,
        })))
    }

    /// Asks the registry for its configuration, to learn whether it can be reached.
    ///
    /// # Errors
    /// When it can't, or answers nonsense.
    pub async fn check(&self) -> Result<(), RegistryError> {
        self.0.index.config().await.map(drop)
    }

    /// Finds the crate that a user means. A crate or version that doesn't exist is [`crate::krate::Origin::Missing`].
    ///
    /// # Errors
    /// When the registry can't be reached or answers nonsense, and when a folder can't be read.
    pub async fn select(&self, selection: &Selection) -> Result<Selected, RegistryError> {
        resolve::resolve(&self.0.index, selection).await
    }

    /// Every unyanked version of a crate, the newest first; pre-releases only where there is nothing else.
    ///
    /// # Errors
    /// As [`Registry::select`].
    pub async fn versions(&self, name: &CrateName) -> Result<Vec<Selected>, RegistryError> {
        resolve::versions(&self.0.index, name).await
    }

    /// The facts of a database dump about all crates: the user's file, else the registry's dump, which is fetched
    /// when it is missing or old.
    ///
    /// # Errors
    /// When the dump is missing, damaged or hostile.
    pub async fn catalogue(&self, dump: Option<&Path>, watch: &Watch) -> Result<Catalogue, RegistryError> {
        self.0.dumps.catalogue(&self.0.index, dump, self.0.index.as_of(), watch).await
    }

    /// The downloaded packages whose sources match a regular expression, by name.
    ///
    /// # Errors
    /// When the cache can't be read, or the registry can't be reached.
    pub async fn search(&self, pattern: &str) -> Result<Vec<Selected>, RegistryError> {
        search::selected(&self.0.index, self.0.tarballs.dir(), pattern).await
    }

    /// The selections of a list on another host, without lists and files.
    ///
    /// # Errors
    /// When it can't be fetched, or a line selects nothing.
    pub async fn list(&self, url: &str) -> Result<Vec<Selection>, RegistryError> {
        let body = match self.0.http.get(url, None, ByteSize(select::MAX_LIST)).await? {
            Reply::File { body, encoding: Encoding::Identity, .. } => body,
            Reply::File { body, encoding: Encoding::Gzip, .. } => {
                let malformed =
                    |error: std::io::Error| RegistryError::Malformed { url: url.to_owned(), reason: error.to_string() };
                Packed::from_gzip(body).and_then(|packed| packed.unpack()).map_err(malformed)?
            }
            // No tag was sent.
            Reply::Unchanged => Vec::new(),
        };
        select::parse_fetched(&String::from_utf8_lossy(&body), url)
            .map_err(|error| RegistryError::List(Arc::new(error)))
    }

    /// Looks up one published version; none if the registry doesn't have it.
    ///
    /// # Errors
    /// When the registry can't be reached or answers nonsense.
    pub async fn package(&self, name: &CrateName, version: &Version) -> Result<Option<Package>, RegistryError> {
        self.0.index.package(name, version).await
    }

    /// Fetches the tarball of a package into the cache, unless it is there, and returns its path. Its contents have
    /// been verified.
    ///
    /// # Errors
    /// When it can't be downloaded, or is not the one that the checksum names.
    pub async fn tarball(&self, package: &Package) -> Result<PathBuf, RegistryError> {
        self.0.tarballs.get(&self.0.index, package).await
    }

    /// Unpacks the sources of a package into `into`, which must not exist yet.
    ///
    /// # Errors
    /// As [`Registry::tarball`], and when the tarball is hostile; `into` is then incomplete, and the caller's to
    /// remove.
    pub async fn unpack(&self, package: &Package, into: &Path, owner: Option<Owner>) -> Result<(), RegistryError> {
        let tarball = self.tarball(package).await?;
        let (package, into) = (package.to_string(), into.to_owned());
        let unpacked = tokio::task::spawn_blocking(move || {
            unpack::unpack_package(&tarball, &package, &into, owner)
                .map_err(|source| RegistryError::Unpack { package, source: Arc::new(source) })
        });
        unpacked.await?
    }

    /// Makes `into`, a folder of links `NAME-VERSION` → `../sources/…`, one for every registry package of `lock`, whose
    /// targets are in [`Registry::sources_dir`]; `into` must not exist yet. With a link `sources` beside
    /// it, `into` is one of cargo's directory sources. A package that can't be unpacked has a stand-in there.
    ///
    /// # Errors
    /// When a package can't be fetched; `into` is then incomplete, and the caller's to remove. Packages from elsewhere
    /// than the registry are left out.
    pub async fn vendor(&self, lock: &Lockfile, into: &Path) -> Result<Vendored, RegistryError> {
        sources::vendor(self, lock, None, into).await
    }

    /// Puts the packages of another lockfile beside those of `present`, which are in `into` already.
    ///
    /// # Errors
    /// As [`Registry::vendor`].
    pub async fn vendor_beside(
        &self,
        lock: &Lockfile,
        present: &Lockfile,
        into: &Path,
    ) -> Result<Vendored, RegistryError> {
        sources::vendor(self, lock, Some(present), into).await
    }

    /// Puts a stand-in in the place of the package in a `folder` of `vendor`, because of `why`.
    ///
    /// # Errors
    /// When the index doesn't have it, or it can't be written.
    pub async fn stand_in(&self, lock: &Lockfile, folder: &str, vendor: &Path, why: &str) -> Result<(), RegistryError> {
        Box::pin(sources::replace(self, lock, folder, vendor, Some(why))).await
    }

    /// Takes a stand-in away again.
    ///
    /// # Errors
    /// As [`Registry::vendor`].
    pub async fn relink(&self, lock: &Lockfile, folder: &str, vendor: &Path) -> Result<(), RegistryError> {
        Box::pin(sources::replace(self, lock, folder, vendor, None)).await
    }

    /// The folder of the last vendored package in one of cargo's messages, such as `.../vendor/serde-1.0.0/Cargo.toml`.
    pub fn named_in(&self, lock: &Lockfile, text: &str) -> Option<String> {
        sources::named_in(lock, text)
    }

    /// The store of unpacked packages, which cells mount as `sources`; never changed, only added to.
    pub fn sources_dir(&self) -> &Path {
        self.0.sources.dir()
    }

    /// The certificates that are trusted besides the system's, if the user has any.
    pub fn ca_file(&self) -> Option<&Path> {
        self.0.ca_file.as_deref()
    }

    /// Whether it asks the network.
    pub fn access(&self) -> Access {
        self.0.http.access()
    }

    /// How many bytes came over the network so far, index included.
    pub fn downloaded_bytes(&self) -> u64 {
        self.0.http.downloaded_bytes()
    }
}

impl Catalogue {
    /// The crates that a query means, the most important first. `seed` is for a query that leaves the choice to maar.
    ///
    /// # Errors
    /// When the query names a crate, keyword or category that the catalogue doesn't have.
    pub fn answer(&self, query: &Query, seed: u64) -> Result<Vec<Selected>, RegistryError> {
        let places = query::answer(self, query, seed)
            .map_err(|error| RegistryError::Query { query: query.to_string(), reason: error.to_string() })?;
        Ok(places.into_iter().map(|place| self.selected(place)).collect())
    }
}
