//! Unpacks the tarball of a package, which may be hostile, into a new folder.
//!
//! Unpacks a tarball as cargo does: the last of two equal entries wins, an entry with `..` is passed over, an
//! entry of an unknown kind is a file, and files keep the archive's times, which `make` compares. Refuses what cargo
//! refuses, and what could do harm: links out of the package, sparse files, absurd sizes, numbers and depths.
//!
//! Differs from cargo where no build can depend on it: modes become 0755 and 0644, and a time in the future becomes the
//! present, since cargo would never stop building.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use flate2::read::GzDecoder;
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::place::{self, Kind};
use super::tree::stays_inside;
use crate::owner::Owner;

/// How many bytes any tarball may unpack to, headers and padding included: cargo's `MAX_UNPACK_SIZE`.
const MAX_UNPACKED: u64 = 512 << 20;
/// How many times its own size a larger tarball may unpack to: cargo's `MAX_COMPRESSION_RATIO`.
const MAX_RATIO: u64 = 20;
/// How many entries a tarball may have.
const MAX_ENTRIES: usize = 100_000;
/// How long the record of a long name may be, in bytes.
const MAX_NAME_RECORD: u64 = 64 << 10;
/// How long a path may be, in bytes: far below Linux's 4096, since it is unpacked and built below other folders.
const MAX_PATH: usize = 3072;
/// How long one name in a path may be, in bytes: Linux's `NAME_MAX`.
const MAX_NAME: usize = 255;
/// How deep folders may be: far deeper than in any package, and shallow enough for functions that call themselves.
pub(super) const MAX_DEPTH: usize = 256;

/// The file that every package has.
const MANIFEST: &str = "Cargo.toml";
/// Cargo's own mark of a package that it has unpacked, which no tarball may bring along.
const CARGOS_MARK: &str = ".cargo-ok";

/// Why a tarball was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is not a gzipped tarball, or a damaged one.
    #[error("damaged, or no gzipped tarball: {reason}")]
    Malformed {
        /// The decoder's error.
        reason: String,
    },
    /// An entry lies outside the one folder that the tarball may have.
    #[error("`{entry}` is not in `{root}/`")]
    Outside {
        /// The entry.
        entry: String,
        /// The folder.
        root: String,
    },
    /// An entry is a link to a place outside the package, or to none.
    #[error("`{entry}` is a link out of the package, or to a file that isn't there")]
    Link {
        /// The entry.
        entry: String,
    },
    /// An entry has holes, and could fill the disk.
    #[error("`{entry}` is a sparse file")]
    Sparse {
        /// The entry.
        entry: String,
    },
    /// A file and a folder would have the same path.
    #[error("`{entry}` is at the path of an earlier entry, and one of them is not a folder")]
    Clash {
        /// The entry.
        entry: String,
    },
    /// A path can't be made on every host.
    #[error("`{entry}` {reason}")]
    Path {
        /// The entry.
        entry: String,
        /// Its fault.
        reason: &'static str,
    },
    /// It does not hold a package: its top folder has no manifest.
    #[error("has no {MANIFEST}")]
    NoManifest,
    /// It unpacks to too much.
    #[error("unpacks to more than {}, as no package may", .limit.display().iec())]
    TooLarge {
        /// How many bytes it may unpack to.
        limit: ByteSize,
    },
    /// It has too many entries.
    #[error("has more than {MAX_ENTRIES} entries")]
    TooMany,
    /// The host's file system fails.
    #[error("failed to write {}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// As [`unpack`], of a package, which has a manifest.
///
/// # Errors
/// As [`unpack`], and without a manifest.
pub fn unpack_package(tarball: &Path, root: &str, into: &Path, owner: Option<Owner>) -> Result<(), UnpackError> {
    unpack(tarball, root, into, owner)?;
    // Followed, since no link leads out of the package.
    let is_there = into.join(MANIFEST).metadata().is_ok_and(|file| file.is_file());
    if is_there { Ok(()) } else { Err(UnpackError::NoManifest) }
}

/// Unpacks the entries below `root/` (that is, `NAME-VERSION/`) of a tarball into `into`, which must not exist yet.
///
/// # Errors
/// When the tarball is damaged or hostile or the host fails; `into` is then incomplete, and the caller's to remove.
pub fn unpack(tarball: &Path, root: &str, into: &Path, owner: Option<Owner>) -> Result<(), UnpackError> {
    let host = |path: &Path| {
        let path = path.to_owned();
        move |source| UnpackError::Io { path, source }
    };
    let file = File::open(tarball).map_err(host(tarball))?;
    let limit = max_unpacked(file.metadata().map_err(host(tarball))?.len());
    place::dir(into, owner).map_err(host(into))?;
    let stream = Capped { inner: GzDecoder::new(BufReader::new(file)), left: limit };
    let mut unpacking = Unpacking { root, into, owner, now: SystemTime::now(), dirs: HashSet::new() };
    unpacking.all(&mut Archive::new(stream)).map_err(|error| match error {
        UnpackError::TooLarge { .. } => UnpackError::TooLarge { limit: ByteSize(limit) },
        error => error,
    })
}

/// How many bytes a tarball of this size may unpack to.
fn max_unpacked(size: u64) -> u64 {
    MAX_UNPACKED.max(size.saturating_mul(MAX_RATIO))
}

struct Unpacking<'a> {
    root: &'a str,
    into: &'a Path,
    owner: Option<Owner>,
    /// When it began: no file is newer.
    now: SystemTime,
    /// The folders made so far.
    dirs: HashSet<PathBuf>,
}

/// What records before an entry give in place of its header's fields.
#[derive(Default)]
struct Record {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Unpacking<'_> {
    fn all<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<(), UnpackError> {
        let mut record = Record::default();
        // Raw, since tar would read the records of long names into memory whole, however long they are.
        for (count, entry) in archive.entries().map_err(unreadable)?.raw(true).enumerate() {
            let mut entry = entry.map_err(unreadable)?;
            if count == MAX_ENTRIES {
                return Err(UnpackError::TooMany);
            }
            match entry.header().entry_type() {
                EntryType::GNULongName => record.name = Some(gnu_name(&mut entry)?),
                EntryType::GNULongLink => record.link = Some(gnu_name(&mut entry)?),
                EntryType::XHeader => record.read_pax(&mut entry)?,
                // Gives nothing of any one entry: `git archive` keeps a commit there.
                EntryType::XGlobalHeader => {}
                _ => self.place(std::mem::take(&mut record), &mut entry)?,
            }
        }
        Ok(())
    }

    fn place<R: Read>(&mut self, record: Record, entry: &mut Entry<'_, R>) -> Result<(), UnpackError> {
        let name = record.name.unwrap_or_else(|| entry.path_bytes().into_owned());
        // Two opinions on where the next entry begins are how a tarball looks different to each reader.
        if record.size.is_some_and(|size| entry.header().entry_size().ok() != Some(size)) {
            return Err(UnpackError::Malformed { reason: format!("two sizes of `{}`", shown(&name)) });
        }
        let Some(path) = checked_path(&name, self.root)? else { return Ok(()) };
        if path.file_name().is_some_and(|name| name == CARGOS_MARK) {
            return Ok(());
        }
        let link = || record.link.clone().or_else(|| entry.link_name_bytes().map(|name| name.into_owned()));
        match entry.header().entry_type() {
            EntryType::Directory => self.dir(&path, &name),
            // Tar's oldest format has no entry type for folders.
            EntryType::Regular if name.ends_with(b"/") && entry.header().as_ustar().is_none() => self.dir(&path, &name),
            EntryType::GNUSparse => Err(UnpackError::Sparse { entry: shown(&name) }),
            EntryType::Symlink => self.symlink(&path, &name, &link().unwrap_or_default()),
            EntryType::Link => self.hard_link(&path, &name, &link().unwrap_or_default()),
            // POSIX has readers take kinds that they don't support for files, and tar does with devices as well.
            _ => self.file(&path, &name, entry),
        }
    }

    /// Makes a folder and those above it.
    fn dir(&mut self, dir: &Path, name: &[u8]) -> Result<(), UnpackError> {
        if dir.as_os_str().is_empty() || self.dirs.contains(dir) {
            return Ok(());
        }
        self.dir(dir.parent().unwrap_or(Path::new("")), name)?;
        let path = self.into.join(dir);
        // Every folder here is in `dirs`: what exists is a file or a link, which no entry may pass through.
        place::dir(&path, self.owner).map_err(|source| clash(source, path, name))?;
        self.dirs.insert(dir.to_owned());
        Ok(())
    }

    fn file<R: Read>(&mut self, file: &Path, name: &[u8], entry: &mut Entry<'_, R>) -> Result<(), UnpackError> {
        let path = self.clear(file, name)?;
        let kind = Kind::of_mode(entry.header().mode().map_err(unreadable)?);
        let mut out = place::file(&path, kind, self.owner).map_err(|source| clash(source, path.clone(), name))?;
        copy(entry, &mut out, &path)?;
        match entry.header().mtime() {
            // As tar: some programs don't accept the time 0.
            Ok(seconds) => {
                let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.max(1)));
                let time = time.unwrap_or(self.now).min(self.now);
                out.set_modified(time).map_err(|source| UnpackError::Io { path, source })
            }
            Err(_) => Ok(()),
        }
    }

    fn symlink(&mut self, link: &Path, name: &[u8], target: &[u8]) -> Result<(), UnpackError> {
        let path = self.clear(link, name)?;
        let target = Path::new(OsStr::from_bytes(target));
        let depth = link.components().count().saturating_sub(1);
        if target.as_os_str().is_empty() || !stays_inside(target, depth) {
            return Err(UnpackError::Link { entry: shown(name) });
        }
        place::link(target, &path, self.owner).map_err(|source| clash(source, path, name))
    }

    fn hard_link(&mut self, link: &Path, name: &[u8], target: &[u8]) -> Result<(), UnpackError> {
        let refused = || UnpackError::Link { entry: shown(name) };
        let target = checked_path(target, self.root).ok().flatten().ok_or_else(refused)?;
        let target = self.into.join(target);
        if !target.symlink_metadata().is_ok_and(|file| file.is_file()) {
            return Err(refused());
        }
        let path = self.clear(link, name)?;
        std::fs::hard_link(&target, &path).map_err(|source| match source.kind() {
            // Its own target, which is gone by now.
            io::ErrorKind::NotFound => refused(),
            _ => clash(source, path, name),
        })
    }

    /// Makes room for a file or link: an earlier one at the same path goes.
    fn clear(&mut self, file: &Path, name: &[u8]) -> Result<PathBuf, UnpackError> {
        let Some(dir) = file.parent() else {
            return Err(UnpackError::Path { entry: shown(name), reason: "is a file where the folder should be" });
        };
        self.dir(dir, name)?;
        let path = self.into.join(file);
        if !self.dirs.contains(file)
            && let Err(source) = std::fs::remove_file(&path)
            && source.kind() != io::ErrorKind::NotFound
        {
            return Err(UnpackError::Io { path, source });
        }
        Ok(path)
    }
}

/// An error of making an entry. The folder was new, so an existing entry came from the same tarball.
fn clash(source: io::Error, path: PathBuf, name: &[u8]) -> UnpackError {
    match source.kind() {
        io::ErrorKind::AlreadyExists => UnpackError::Clash { entry: shown(name) },
        _ => UnpackError::Io { path, source },
    }
}

/// Copies the contents of an entry, telling the tarball's failures from the host's.
fn copy<R: Read>(entry: &mut Entry<'_, R>, out: &mut File, path: &Path) -> Result<(), UnpackError> {
    let mut left = entry.header().entry_size().map_err(unreadable)?;
    let mut buffer = [0; 16 << 10];
    while left > 0 {
        let read = entry.read(&mut buffer).map_err(unreadable)?;
        if read == 0 {
            return Err(unreadable(io::ErrorKind::UnexpectedEof.into()));
        }
        left = left.saturating_sub(read as u64);
        io::Write::write_all(out, &buffer[..read])
            .map_err(|source| UnpackError::Io { path: path.to_owned(), source })?;
    }
    Ok(())
}

/// The path of an entry below the root; empty for the root itself. `None`: it has a `..` below the root, and cargo
/// passes over it.
fn checked_path(name: &[u8], root: &str) -> Result<Option<PathBuf>, UnpackError> {
    let refuse = |reason| Err(UnpackError::Path { entry: shown(name), reason });
    if name.len() > MAX_PATH {
        return refuse("is longer than 3072 bytes");
    }
    if name.contains(&0) {
        return refuse("has a NUL in it");
    }
    let mut path = PathBuf::new();
    let mut components = Path::new(OsStr::from_bytes(name)).components();
    if components.next() != Some(Component::Normal(OsStr::new(root))) {
        return Err(UnpackError::Outside { entry: shown(name), root: root.to_owned() });
    }
    for (depth, component) in components.enumerate() {
        match component {
            Component::Normal(part) if part.len() > MAX_NAME => return refuse("has a name of more than 255 bytes"),
            Component::Normal(_) if depth == MAX_DEPTH => return refuse("is more than 256 folders deep"),
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Ok(None),
        }
    }
    Ok(Some(path))
}

fn gnu_name<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, UnpackError> {
    let mut name = record(entry)?;
    // GNU tar ends the name with a NUL.
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

impl Record {
    fn read_pax<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), UnpackError> {
        for extension in PaxExtensions::new(&record(entry)?) {
            let extension = extension.map_err(unreadable)?;
            let value = || extension.value_bytes().to_vec();
            match extension.key_bytes() {
                b"path" => self.name = Some(value()),
                b"linkpath" => self.link = Some(value()),
                b"size" => {
                    let size = extension.value().ok().and_then(|text| text.parse().ok());
                    let bad = || UnpackError::Malformed { reason: "a size that is not a number".to_owned() };
                    self.size = Some(size.ok_or_else(bad)?);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn record<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, UnpackError> {
    let mut record = Vec::new();
    entry.take(MAX_NAME_RECORD + 1).read_to_end(&mut record).map_err(unreadable)?;
    if record.len() as u64 > MAX_NAME_RECORD {
        return Err(UnpackError::Path { entry: shown(&record), reason: "is longer than 64 KiB" });
    }
    Ok(record)
}

/// An error of reading the tarball. Its bytes were hashed a moment ago, so that it isn't the disk's.
fn unreadable(error: io::Error) -> UnpackError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => UnpackError::TooLarge { limit: ByteSize(MAX_UNPACKED) },
        _ => UnpackError::Malformed { reason: error.to_string() },
    }
}

/// A name from a tarball as a message shows it.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).escape_debug().take(200).collect()
}

/// A reader that fails once it has given all it may.
struct Capped<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
