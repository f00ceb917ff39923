//! Bundles that agents have uploaded and whose reports haven't come yet: a folder of files named by their digests.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::wire::{Digest, MAX_BUNDLE};

/// How long a bundle without a report is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The folder of bundles.
#[derive(Debug, Clone)]
pub(super) struct Incoming(PathBuf);

/// Why an upload is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// The bytes are others than their name promises.
    #[error("the bytes have the digest {found}, not {named}")]
    Digest {
        /// The digest in the URL.
        named: Digest,
        /// The digest of the body.
        found: Digest,
    },
    /// The disk failed.
    #[error("the bundle can't be kept")]
    Io(#[from] io::Error),
}

impl Incoming {
    /// Opens the folder.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    /// Keeps a bundle. The same again changes nothing.
    pub(super) fn put(&self, named: Digest, bytes: &[u8]) -> Result<(), UploadError> {
        let found = Digest::of(bytes);
        if found != named {
            return Err(UploadError::Digest { named, found });
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
        file.write_all(bytes)?;
        file.persist(self.path(named)).map_err(|error| error.error)?;
        Ok(())
    }

    /// The bytes of a bundle; none if it wasn't uploaded.
    pub(super) fn get(&self, digest: Digest) -> io::Result<Option<Vec<u8>>> {
        match std::fs::metadata(self.path(digest)) {
            Ok(metadata) if metadata.len() > MAX_BUNDLE as u64 => Ok(None),
            Ok(_) => std::fs::read(self.path(digest)).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a bundle whose report was decided about.
    pub(super) fn remove(&self, digest: Digest) {
        // It may be gone, and goes later otherwise.
        let _ = std::fs::remove_file(self.path(digest));
    }

    /// Removes bundles whose reports never came.
    pub(super) fn tidy(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.0)? {
            let entry = entry?;
            let written = entry.metadata()?.modified()?;
            if SystemTime::now().duration_since(written).is_ok_and(|age| age > KEPT) {
                remove_old(&entry.path());
            }
        }
        Ok(())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.0.join(digest.to_string())
    }
}

fn remove_old(path: &Path) {
    // Another tidying may have been first.
    let _ = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_kept_under_its_own_digest_only() {
        let dir = tempfile::tempdir().unwrap();
        let incoming = Incoming::open(dir.path().join("incoming")).unwrap();
        let digest = Digest::of(b"logs");
        assert!(matches!(incoming.put(digest, b"other"), Err(UploadError::Digest { .. })));
        assert_eq!(incoming.get(digest).unwrap(), None);
        incoming.put(digest, b"logs").unwrap();
        incoming.put(digest, b"logs").unwrap();
        assert_eq!(incoming.get(digest).unwrap().unwrap(), b"logs");
        incoming.tidy().unwrap();
        assert!(incoming.get(digest).unwrap().is_some());
        incoming.remove(digest);
        assert_eq!(incoming.get(digest).unwrap(), None);
    }
}
