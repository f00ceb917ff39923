//! The origin and the cache of dumps: the registry's dump, fetched when the cached one is old, or a user's file.
//!
//! The catalogue of a dump is kept beside it, so that only the first query of a new dump takes its time.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use tempfile::NamedTempFile;

use super::{Catalogue, dump};
use crate::registry::as_of::AsOf;
use crate::registry::error::RegistryError;
use crate::registry::http::Http;
use crate::registry::index::Index;
use crate::registry::package::Checksum;
use crate::registry::{Access, Watch};

/// The largest dump that is fetched; that of the default registry has 1.2 GB.
const MAX_DUMP: ByteSize = ByteSize::gib(16);
/// How old the registry's dump may get before it is fetched again. It is made once a day, and popularity changes
/// slowly.
const FRESH_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many catalogues are kept: that of the dump, and those as of other days.
const KEPT: usize = 4;
/// The first bytes of a kept catalogue: a newer format has another number.
const MAGIC: &[u8] = b"maar catalogue 1\n";
/// The name of the dump at the root of the host that serves tarballs, as the default registry has it.
const NAME: &str = "db-dump.tar.gz";

/// The dumps of one registry.
#[derive(Debug)]
pub(in crate::registry) struct Dumps {
    dir: PathBuf,
    http: Arc<Http>,
}

/// Ends reading when the future that waits for it is dropped.
pub(in crate::registry) struct EndsWith(pub(in crate::registry) Arc<AtomicBool>);

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Dumps {
    /// Dumps kept below `dir`, which is made when there is one.
    pub(in crate::registry) fn new(dir: PathBuf, http: Arc<Http>) -> Self {
        Self { dir, http }
    }

    /// The catalogue of a dump: the user's file, else the registry's own.
    pub(in crate::registry) async fn catalogue(
        &self,
        index: &Index,
        file: Option<&Path>,
        as_of: Option<&AsOf>,
        watch: &Watch,
    ) -> Result<Catalogue, RegistryError> {
        fs::create_dir_all(&self.dir).map_err(RegistryError::io("create", &self.dir))?;
        let path = match file {
            Some(file) => file.to_owned(),
            None => self.of_registry(index, watch).await?,
        };
        let (dir, as_of, watch) = (self.dir.clone(), as_of.cloned(), Arc::clone(watch));
        let dropped = Arc::new(AtomicBool::new(false));
        let _guard = EndsWith(Arc::clone(&dropped));
        tokio::task::spawn_blocking(move || open(&dir, &path, as_of.as_ref(), &watch, &dropped)).await?
    }

    /// The registry's dump, fetched if the cached one is missing or old.
    async fn of_registry(&self, index: &Index, watch: &Watch) -> Result<PathBuf, RegistryError> {
        let url = index.dump_url(NAME).await?;
        let path = self.dir.join(format!("{}.tar.gz", Checksum::of(&url).short()));
        let age = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok().map(|modified| {
            // A clock that was put back makes it fresh.
            SystemTime::now().duration_since(modified).unwrap_or_default()
        });
        if age.is_some_and(|age| age < FRESH_FOR) {
            return Ok(path);
        }
        // The note on a query includes the age of the dump.
        match (self.http.access(), age) {
            (Access::Online, _) => {}
            (Access::Offline, Some(_)) => return Ok(path),
            (Access::Offline, None) => {
                return Err(RegistryError::NoDump { reason: RegistryError::Offline { url }.to_string() });
            }
        }
        match (self.fetch(&url, &path, watch).await, age) {
            (Ok(()), _) => Ok(path),
            (Err(error), Some(_)) => {
                watch(&format!("using the old database dump: {error}"));
                Ok(path)
            }
            (Err(error), None) => Err(RegistryError::NoDump { reason: error.to_string() }),
        }
    }

    async fn fetch(&self, url: &str, path: &Path, watch: &Watch) -> Result<(), RegistryError> {
        const EVERY: u64 = 100 << 20;
        watch("fetching the registry's database dump, which may have more than a gigabyte");
        let begin = || {
            let file = NamedTempFile::new_in(&self.dir).map_err(RegistryError::io("create a file in", &self.dir))?;
            Ok((file, 0))
        };
        let write = |(file, size): &mut (NamedTempFile, u64), chunk: &[u8]| {
            let before = *size / EVERY;
            *size += chunk.len() as u64;
            if *size / EVERY > before {
                watch(&format!("fetching the registry's database dump: {}", ByteSize(*size).display().iec()));
            }
            file.write_all(chunk).map_err(RegistryError::io("write", file.path()))
        };
        let (file, _) = self.http.download(url, MAX_DUMP, begin, write).await?;
        file.persist(path).map_err(|error| RegistryError::io("create", path)(error.error))?;
        Ok(())
    }
}

/// The catalogue of a dump: the one that an earlier run kept, else made of it.
fn open(
    dir: &Path,
    path: &Path,
    as_of: Option<&AsOf>,
    watch: &Watch,
    dropped: &AtomicBool,
) -> Result<Catalogue, RegistryError> {
    let kept = dir.join(format!("{}.catalogue", key(path, as_of)?));
    if let Some(catalogue) = load(&kept) {
        return Ok(catalogue);
    }
    let tenths = AtomicU32::new(0);
    let progress = |share: f64| {
        let now = (share * 10.0) as u32;
        if tenths.fetch_max(now, Ordering::Relaxed) < now {
            watch(&format!("reading the registry's database dump: {now}0%"));
        }
        !dropped.load(Ordering::Relaxed)
    };
    let catalogue = dump::read(path, as_of, &progress)?;
    save(&catalogue, &kept, dir).map_err(RegistryError::io("write", &kept))?;
    prune(dir);
    Ok(catalogue)
}

/// The inputs of a kept catalogue: the dump's digest, and the moment.
fn key(path: &Path, as_of: Option<&AsOf>) -> Result<String, RegistryError> {
    let metadata = fs::metadata(path).map_err(RegistryError::io("open the dump", path))?;
    let moment = as_of.map(ToString::to_string).unwrap_or_default();
    let parts = (metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec(), moment);
    Ok(Checksum::of(format!("{parts:?}")).short())
}

/// A catalogue that is whole; none where there isn't one, or a damaged one.
fn load(path: &Path) -> Option<Catalogue> {
    let bytes = fs::read(path).ok()?;
    let body = bytes.strip_prefix(MAGIC)?;
    postcard::from_bytes::<Catalogue>(body).ok()?.checked().ok()
}

fn save(catalogue: &Catalogue, path: &Path, dir: &Path) -> std::io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, NamedTempFile::new_in(dir)?);
    file.write_all(MAGIC)?;
    postcard::to_io(catalogue, &mut file).map_err(std::io::Error::other)?;
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Removes all but the newest catalogues. One that can't be removed is tried again next time.
fn prune(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let catalogues = entries.filter(|path| path.extension().is_some_and(|extension| extension == "catalogue"));
    let modified = |path: &PathBuf| File::open(path).and_then(|file| file.metadata()?.modified()).ok();
    let mut catalogues: Vec<PathBuf> = catalogues.collect();
    catalogues.sort_by_cached_key(|path| std::cmp::Reverse(modified(path)));
    for path in catalogues.iter().skip(KEPT) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::catalogue::tests::{Dump, Krate};

    fn watch() -> Watch {
        Arc::new(|_: &str| ())
    }

    #[test]
    fn a_dump_is_read_once_and_a_damaged_catalogue_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump");
        Dump::of([Krate::new("a", &["1.0.0"])]).write(&path);
        let open = |as_of: Option<&AsOf>| open(dir.path(), &path, as_of, &watch(), &AtomicBool::new(false));
        let catalogue = open(None).unwrap();
        // Only the kept catalogue can answer now.
        let kept = dir.path().join(format!("{}.catalogue", key(&path, None).unwrap()));
        let bytes = fs::read(&kept).unwrap();
        assert_eq!(load(&kept).unwrap(), catalogue);
        for cut in [0, 1, MAGIC.len(), MAGIC.len() + 3, bytes.len() - 1] {
            fs::write(&kept, &bytes[..cut]).unwrap();
            assert!(load(&kept).is_none(), "{cut} bytes");
        }
        assert_eq!(open(None).unwrap(), catalogue);
        assert!(load(&kept).is_some());
        assert!(open(Some(&"2001-01-01".parse().unwrap())).unwrap().crates()[0].newest.is_none());
    }

    #[test]
    fn a_reader_that_nobody_waits_for_ends_and_keeps_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump");
        Dump::of([Krate::new("a", &["1.0.0"])]).write(&path);
        let error = open(dir.path(), &path, None, &watch(), &AtomicBool::new(true)).unwrap_err();
        assert!(error.to_string().ends_with("stopped"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_the_newest_catalogues_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..6 {
            let file = File::create(dir.path().join(format!("{number}.catalogue"))).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(number)).unwrap();
        }
        File::create(dir.path().join("dump.tar.gz")).unwrap();
        prune(dir.path());
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["2.catalogue", "3.catalogue", "4.catalogue", "5.catalogue", "dump.tar.gz"]);
    }
}
