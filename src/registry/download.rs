//! The cache of tarballs, named by their contents: `<sha256>.crate`.
//!
//! A tarball is hashed the first time that a run uses it, so that one which a power loss left damaged is fetched again.
//! Nothing is ever evicted.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytesize::ByteSize;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::error::RegistryError;
use super::flight::Flights;
use super::http::Http;
use super::index::Index;
use super::package::{Checksum, Package};
use super::tree;

/// The largest tarball accepted; the default registry takes 10 MiB, and a little more from a few crates.
const MAX_TARBALL: ByteSize = ByteSize::mib(256);
/// How often a tarball is downloaded before its contents are believed to be wrong.
const ATTEMPTS: u32 = 2;

/// The cache.
#[derive(Debug)]
pub(super) struct Tarballs {
    dir: PathBuf,
    http: Arc<Http>,
    /// Those that this run has verified.
    verified: Flights<Checksum, PathBuf>,
}

struct Partial {
    file: NamedTempFile,
    hasher: Sha256,
}

impl Tarballs {
    /// Opens the cache in `dir`, which is made if absent.
    pub(super) fn open(dir: PathBuf, http: Arc<Http>) -> Result<Self, RegistryError> {
        std::fs::create_dir_all(&dir).map_err(RegistryError::io("create", &dir))?;
        Ok(Self { dir, http, verified: Flights::default() })
    }

    /// Where they are.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The tarball of a package, downloaded if need be.
    pub(super) async fn get(&self, index: &Index, package: &Package) -> Result<PathBuf, RegistryError> {
        let path = self.dir.join(format!("{}.crate", package.checksum));
        self.verified.get(package.checksum, self.obtain(index, package, path)).await
    }

    async fn obtain(&self, index: &Index, package: &Package, path: PathBuf) -> Result<PathBuf, RegistryError> {
        let cached = path.clone();
        let found = tokio::task::spawn_blocking(move || hash(&cached)).await?;
        match found {
            Ok(checksum) if checksum == package.checksum => return Ok(path),
            // Damaged: the rename below replaces it.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(RegistryError::io("read", &path)(error)),
        }
        let url = index.download_url(package).await?;
        let mut attempts = 1;
        loop {
            let Partial { file, hasher } = self.download(&url).await?;
            let actual = Checksum::from_hasher(hasher);
            if actual == package.checksum {
                file.persist(&path).map_err(|error| RegistryError::io("create", &path)(error.error))?;
                return Ok(path);
            }
            if attempts == ATTEMPTS {
                let (package, expected) = (package.to_string(), package.checksum);
                return Err(RegistryError::Mismatch { package, expected, actual });
            }
            attempts += 1;
        }
    }

    async fn download(&self, url: &str) -> Result<Partial, RegistryError> {
        let begin = || {
            let file = NamedTempFile::new_in(&self.dir).map_err(RegistryError::io("create a file in", &self.dir))?;
            Ok(Partial { file, hasher: Sha256::new() })
        };
        // Written in place rather than by a blocking thread: a chunk is some KiB, and goes to the page cache.
        let write = |partial: &mut Partial, chunk: &[u8]| {
            partial.hasher.update(chunk);
            partial.file.write_all(chunk).map_err(RegistryError::io("write", partial.file.path()))
        };
        self.http.download(url, MAX_TARBALL, begin, write).await
    }
}

fn hash(path: &Path) -> io::Result<Checksum> {
    tree::hash(File::open(path)?)
}
