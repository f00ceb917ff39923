//! Unpacks the tarball of a package, which may be hostile, into a new folder.
//!
//! Only folders and plain files below `NAME-VERSION/` are made, with modes 0755 and 0644, in bounded size and number.
//! Everything else is refused rather than mended, links included: `cargo package` never writes one, and the default
//! registry takes no tarball that has one. Times are not restored: a time in the future would make cargo build for ever.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use bytesize::ByteSize;
use flate2::read::GzDecoder;
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::place::{self, Kind};
use crate::owner::Owner;

/// How many bytes a tarball may unpack to, headers and padding included: cargo's `MAX_UNPACK_SIZE`.
const MAX_UNPACKED: ByteSize = ByteSize::mib(512);
/// How many entries a tarball may have.
const MAX_ENTRIES: usize = 100_000;
/// How long the record of a long name may be, in bytes.
const MAX_NAME_RECORD: u64 = 64 << 10;
/// How long a path may be, in bytes: far below Linux's 4096, since it is unpacked and built below other folders.
const MAX_PATH: usize = 1024;
/// How long one name in a path may be, in bytes: Linux's `NAME_MAX`.
const MAX_NAME: usize = 255;
/// How deep folders may be.
const MAX_DEPTH: usize = 64;

/// What every package has.
const MANIFEST: &str = "Cargo.toml";

/// Why a tarball was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is no gzipped tarball, or a damaged one.
    #[error("damaged, or no gzipped tarball: {reason}")]
    Malformed {
        /// What the decoder says.
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
    /// An entry is a link.
    #[error("`{entry}` is a link")]
    Link {
        /// The entry.
        entry: String,
    },
    /// An entry is neither a file nor a folder.
    #[error("`{entry}` is neither a file nor a folder")]
    Special {
        /// The entry.
        entry: String,
    },
    /// An entry would replace another.
    #[error("`{entry}` is there twice")]
    Duplicate {
        /// The entry.
        entry: String,
    },
    /// A path can't be made on every host.
    #[error("`{entry}` {reason}")]
    Path {
        /// The entry.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It holds no package: there is no manifest at its top.
    #[error("has no {MANIFEST}")]
    NoManifest,
    /// It unpacks to too much.
    #[error("unpacks to more than {MAX_UNPACKED}")]
    TooLarge,
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
/// As [`unpack`], and when there is no manifest.
pub fn unpack_package(tarball: &Path, root: &str, into: &Path, owner: Option<Owner>) -> Result<(), UnpackError> {
    unpack(tarball, root, into, owner)?;
    let is_there = into.join(MANIFEST).symlink_metadata().is_ok_and(|file| file.is_file());
    if is_there { Ok(()) } else { Err(UnpackError::NoManifest) }
}

/// Unpacks what is below `root/` (that is, `NAME-VERSION/`) in a tarball into `into`, which must not exist yet.
///
/// # Errors
/// When the tarball is damaged or hostile or the host fails; `into` is then incomplete, and the caller's to remove.
pub fn unpack(tarball: &Path, root: &str, into: &Path, owner: Option<Owner>) -> Result<(), UnpackError> {
    let host = |path: &Path| {
        let path = path.to_owned();
        move |source| UnpackError::Io { path, source }
    };
    let file = File::open(tarball).map_err(host(tarball))?;
    place::dir(into, owner).map_err(host(into))?;
    let stream = Capped { inner: GzDecoder::new(BufReader::new(file)), left: MAX_UNPACKED.as_u64() };
    let mut unpacking = Unpacking { root, into, owner, dirs: HashSet::new() };
    let mut long_name = None;
    // Raw, since tar would read the records of long names into memory whole, however long they are.
    let mut archive = Archive::new(stream);
    for (count, entry) in archive.entries().map_err(unreadable)?.raw(true).enumerate() {
        let mut entry = entry.map_err(unreadable)?;
        if count == MAX_ENTRIES {
            return Err(UnpackError::TooMany);
        }
        match entry.header().entry_type() {
            EntryType::GNULongName => long_name = Some(gnu_name(&mut entry)?),
            EntryType::XHeader => long_name = pax_name(&mut entry)?.or(long_name),
            // The one says nothing of any one entry (`git archive` keeps a commit there); the other is followed by a
            // link, which is refused by its own name.
            EntryType::XGlobalHeader | EntryType::GNULongLink => {}
            _ => {
                let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
                unpacking.place(&name, &mut entry)?;
            }
        }
    }
    Ok(())
}

struct Unpacking<'a> {
    root: &'a str,
    into: &'a Path,
    owner: Option<Owner>,
    /// The folders made so far.
    dirs: HashSet<PathBuf>,
}

impl Unpacking<'_> {
    fn place<R: Read>(&mut self, name: &[u8], entry: &mut Entry<'_, R>) -> Result<(), UnpackError> {
        let path = checked_path(name, self.root)?;
        match entry.header().entry_type() {
            EntryType::Directory => self.dir(&path, name),
            // Tar's oldest format has no kind of its own for folders.
            EntryType::Regular if name.ends_with(b"/") => self.dir(&path, name),
            EntryType::Regular | EntryType::Continuous => self.file(&path, name, entry),
            EntryType::Symlink | EntryType::Link => Err(UnpackError::Link { entry: shown(name) }),
            _ => Err(UnpackError::Special { entry: shown(name) }),
        }
    }

    /// Makes a folder and those above it.
    fn dir(&mut self, dir: &Path, name: &[u8]) -> Result<(), UnpackError> {
        if dir.as_os_str().is_empty() || self.dirs.contains(dir) {
            return Ok(());
        }
        self.dir(dir.parent().unwrap_or(Path::new("")), name)?;
        let path = self.into.join(dir);
        place::dir(&path, self.owner).map_err(|source| taken(source, path, name))?;
        self.dirs.insert(dir.to_owned());
        Ok(())
    }

    fn file<R: Read>(&mut self, file: &Path, name: &[u8], entry: &mut Entry<'_, R>) -> Result<(), UnpackError> {
        let Some(dir) = file.parent() else {
            return Err(UnpackError::Path { entry: shown(name), reason: "is a file where the folder should be" });
        };
        self.dir(dir, name)?;
        let path = self.into.join(file);
        let kind = Kind::of_mode(entry.header().mode().map_err(unreadable)?);
        let mut out = place::file(&path, kind, self.owner).map_err(|source| taken(source, path.clone(), name))?;
        copy(entry, &mut out, &path)
    }
}

/// An error of making something: whatever is there already came from the same tarball, since the folder was new.
fn taken(source: io::Error, path: PathBuf, name: &[u8]) -> UnpackError {
    match source.kind() {
        io::ErrorKind::AlreadyExists => UnpackError::Duplicate { entry: shown(name) },
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

/// The path of an entry below the root; empty for the root itself.
fn checked_path(name: &[u8], root: &str) -> Result<PathBuf, UnpackError> {
    let refuse = |reason| Err(UnpackError::Path { entry: shown(name), reason });
    if name.len() > MAX_PATH {
        return refuse("is longer than 1024 bytes");
    }
    if name.contains(&0) {
        return refuse("has a NUL in it");
    }
    let outside = || UnpackError::Outside { entry: shown(name), root: root.to_owned() };
    let mut path = PathBuf::new();
    let mut components = Path::new(OsStr::from_bytes(name)).components();
    if components.next() != Some(Component::Normal(OsStr::new(root))) {
        return Err(outside());
    }
    for (depth, component) in components.enumerate() {
        match component {
            Component::Normal(part) if part.len() > MAX_NAME => return refuse("has a name of more than 255 bytes"),
            Component::Normal(_) if depth == MAX_DEPTH => return refuse("is more than 64 folders deep"),
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    Ok(path)
}

fn gnu_name<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, UnpackError> {
    let mut name = record(entry)?;
    // GNU tar ends the name with a NUL.
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn pax_name<R: Read>(entry: &mut Entry<'_, R>) -> Result<Option<Vec<u8>>, UnpackError> {
    let record = record(entry)?;
    let mut name = None;
    for extension in PaxExtensions::new(&record) {
        let extension = extension.map_err(unreadable)?;
        match extension.key_bytes() {
            b"path" => name = Some(extension.value_bytes().to_vec()),
            // A second opinion on where the next entry ends is how tarballs are made to look different to each reader.
            b"size" => {
                return Err(UnpackError::Malformed { reason: "the size of an entry is given twice".to_owned() });
            }
            _ => {}
        }
    }
    Ok(name)
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
        io::ErrorKind::FileTooLarge => UnpackError::TooLarge,
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
