//! The sparse index: which versions of a crate there are.
//!
//! Every file is requested once per run, for all crates that need it, and kept on disk with its ETag for the next run.
//! It keeps each answer for the whole run, so that all crates of a run resolve against one state of the registry.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytesize::ByteSize;
use crates_index::{IndexConfig, SparseIndex};
use semver::Version;
use serde::Deserialize;

use super::Access;
use super::as_of::AsOf;
use super::error::RegistryError;
use super::flight::Flights;
use super::http::{Encoding, Http, Reply};
use super::package::{Checksum, Package};
use super::packed::{MAX_UNPACKED, Packed};
use super::stand_in;
use super::upstream::IndexUrl;
use crate::krate::CrateName;

/// The newest version of index lines that is understood: cargo's `INDEX_V_MAX`.
const MAX_LINE_VERSION: u32 = 2;

/// A client of one index.
#[derive(Debug)]
pub(super) struct Index {
    http: Arc<Http>,
    layout: SparseIndex,
    cache: PathBuf,
    /// Later versions are absent.
    as_of: Option<AsOf>,
    /// Where the tarballs are, by which offline the versions are chosen.
    tarballs: PathBuf,
    /// By path below the index; none for a file that doesn't exist.
    files: Flights<String, Option<Packed>>,
}

/// The index entry of one crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The name as published, which may differ in case from the one that was asked for.
    pub(super) name: CrateName,
    /// Its versions, in no order; never empty.
    pub(super) versions: Vec<Published>,
}

/// One published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) version: Version,
    pub(super) checksum: Checksum,
    pub(super) yanked: bool,
}

/// The part of an index line that is needed here.
#[derive(Deserialize)]
struct Line {
    name: CrateName,
    vers: Version,
    cksum: String,
    #[serde(default)]
    yanked: bool,
    #[serde(default = "first_line_version")]
    v: u32,
}

fn first_line_version() -> u32 {
    1
}

impl Index {
    /// A client that keeps files below `cache`.
    pub(super) fn open(
        url: &IndexUrl,
        (cache, tarballs): (&Path, &Path),
        http: Arc<Http>,
        as_of: Option<AsOf>,
    ) -> Result<Self, RegistryError> {
        // One folder per registry: two registries may have different crates of the same name.
        let cache = cache.join(Checksum::of(url.as_str()).short());
        std::fs::create_dir_all(&cache).map_err(RegistryError::io("create", &cache))?;
        let layout = SparseIndex::at_path(cache.clone(), url.to_string());
        Ok(Self { http, layout, cache, as_of, tarballs: tarballs.to_owned(), files: Flights::default() })
    }

    /// The configuration of the registry.
    pub(super) async fn config(&self) -> Result<IndexConfig, RegistryError> {
        let url = format!("{}config.json", self.layout.url());
        let malformed = |reason| RegistryError::Malformed { url: url.clone(), reason };
        let Some(file) = self.file("config.json").await? else {
            return Err(malformed("it doesn't exist, so that this is no sparse registry".to_owned()));
        };
        let raw = unpack(&url, &file)?;
        serde_json::from_slice(&raw).map_err(|error| malformed(error.to_string()))
    }

    /// The moment as of which the index is read, if it isn't now.
    pub(super) fn as_of(&self) -> Option<&AsOf> {
        self.as_of.as_ref()
    }

    /// The index file of a crate, byte for byte but for the lines of later versions; `None` if the index lacks the
    /// crate.
    pub(super) async fn raw(&self, name: &CrateName) -> Result<Option<Vec<u8>>, RegistryError> {
        let path = self.path_of(name);
        let Some(file) = self.file(&path).await? else { return Ok(None) };
        let url = format!("{}{path}", self.layout.url());
        let mut raw = unpack(&url, &file)?;
        if let Some(as_of) = &self.as_of {
            raw = lines_of(&raw, as_of)
                .map_err(|version| RegistryError::Undated { url, package: format!("{name}-{version}") })?;
            // A crate that had no version yet wasn't there.
            if raw.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(match self.http.access() {
            Access::Online => raw,
            Access::Offline => self.cached_versions(raw),
        }))
    }

    /// The lines of the versions whose tarballs are in the cache, so that cargo chooses among these, too. Where there
    /// are none, all lines: of an optional package or one for another platform, no tarball may be needed.
    fn cached_versions(&self, raw: Vec<u8>) -> Vec<u8> {
        let is_cached = |line: &&[u8]| {
            let line = serde_json::from_slice::<Line>(line).ok();
            let checksum = line.and_then(|line| line.cksum.parse::<Checksum>().ok());
            checksum.is_some_and(|checksum| self.tarballs.join(format!("{checksum}.crate")).exists())
        };
        let cached: Vec<&[u8]> = raw.split_inclusive(|&byte| byte == b'\n').filter(is_cached).collect();
        if cached.is_empty() { raw } else { cached.concat() }
    }

    /// The index entry of a crate; `None` for an unknown crate.
    pub(super) async fn entry(&self, name: &CrateName) -> Result<Option<Entry>, RegistryError> {
        let Some(raw) = self.raw(name).await? else { return Ok(None) };
        let entry = parse(name, &raw).map_err(|reason| RegistryError::Malformed {
            url: format!("{}{}", self.layout.url(), self.path_of(name)),
            reason,
        })?;
        Ok(Some(entry))
    }

    /// One published version; `None` for an unknown one. Only its build metadata may be left out.
    pub(super) async fn package(&self, name: &CrateName, version: &Version) -> Result<Option<Package>, RegistryError> {
        let entry = self.entry(name).await?;
        Ok(entry.and_then(|entry| {
            let Published { version, checksum, .. } = entry.find(version)?.clone();
            Some(Package { name: entry.name, version, checksum })
        }))
    }

    /// The index's entry for one version; `None` without an entry that can be parsed.
    pub(super) async fn line(&self, package: &Package) -> Result<Option<stand_in::Line>, RegistryError> {
        let raw = self.raw(&package.name).await?.unwrap_or_default();
        let lines = raw.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        Ok(lines.into_iter().find(|line: &stand_in::Line| line.vers == package.version))
    }

    /// Where the tarball of a package is.
    pub(super) async fn download_url(&self, package: &Package) -> Result<String, RegistryError> {
        let (name, version) = (package.name.as_str(), package.version.to_string());
        let config = self.config().await?;
        config.download_url_with_checksum(name, &version, package.checksum.as_bytes()).ok_or_else(|| {
            RegistryError::Malformed {
                url: format!("{}config.json", self.layout.url()),
                reason: format!("its `dl` gives no URL for {package}"),
            }
        })
    }

    /// Where a file would be at the root of the host that serves tarballs: of the default registry, the database dump
    /// is.
    pub(super) async fn dump_url(&self, name: &str) -> Result<String, RegistryError> {
        let config = self.config().await?;
        let url = reqwest::Url::parse(&config.dl).ok().and_then(|url| url.join(&format!("/{name}")).ok());
        url.map(String::from).ok_or_else(|| RegistryError::Malformed {
            url: format!("{}config.json", self.layout.url()),
            reason: "its `dl` is not a URL".to_owned(),
        })
    }

    /// The path of a crate's file below the index, such as `se/rd/serde`.
    pub(super) fn path_of(&self, name: &CrateName) -> String {
        let url = self.layout.crate_url(name.as_str()).unwrap_or_default();
        url.strip_prefix(self.layout.url()).unwrap_or_default().to_owned()
    }

    async fn file(&self, path: &str) -> Result<Option<Packed>, RegistryError> {
        self.files.get(path.to_owned(), self.fetch(path)).await
    }

    async fn fetch(&self, path: &str) -> Result<Option<Packed>, RegistryError> {
        let url = format!("{}{path}", self.layout.url());
        let kept = self.cache.join(path);
        let known = read_kept(&kept);
        if let (Access::Offline, Some((_, file))) = (self.http.access(), &known) {
            return Ok(Some(file.clone()));
        }
        let etag = known.as_ref().map(|(etag, _)| etag.as_str()).filter(|etag| !etag.is_empty());
        let reply = match self.http.get(&url, etag, ByteSize(MAX_UNPACKED)).await {
            Err(RegistryError::NotFound { .. }) => return Ok(None),
            reply => reply?,
        };
        let (file, etag) = match reply {
            // Only answered where a tag was sent, so that the file is known.
            Reply::Unchanged => return Ok(known.map(|(_, file)| file)),
            Reply::File { body, encoding: Encoding::Identity, etag } => (Packed::pack(&body), etag),
            Reply::File { body, encoding: Encoding::Gzip, etag } => (Packed::from_gzip(body), etag),
        };
        let file = file.map_err(|error| RegistryError::Malformed { url, reason: error.to_string() })?;
        // Without a tag it is fetched again by the next run, but an offline run still finds it.
        let etag = etag.filter(|etag| is_keepable(etag)).unwrap_or_default();
        keep(&kept, &etag, &file).map_err(RegistryError::io("write", &kept))?;
        Ok(Some(file))
    }
}

impl Entry {
    /// The version that equals `version`; else the one that does but for its build metadata, if `version` has none.
    pub(super) fn find(&self, version: &Version) -> Option<&Published> {
        let same = self.versions.iter().find(|published| published.version == *version);
        same.or_else(|| {
            let but_for_build = |of: &Version| (of.major, of.minor, of.patch, of.pre.clone());
            let wanted = but_for_build(version);
            self.versions.iter().find(|it| version.build.is_empty() && but_for_build(&it.version) == wanted)
        })
    }
}

/// Reads the lines of an index file. Lines that are not understood are passed over, as cargo does: they may be of a
/// newer format.
fn parse(name: &CrateName, raw: &[u8]) -> Result<Entry, String> {
    let mut entry: Option<Entry> = None;
    let mut first_error = None;
    for (number, line) in raw.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let published = serde_json::from_slice::<Line>(line).map_err(|error| error.to_string()).and_then(|line| {
            let checksum = line.cksum.parse::<Checksum>().map_err(|error| error.to_string())?;
            if line.v > MAX_LINE_VERSION {
                return Err(format!("format {} is newer than maar", line.v));
            }
            if !line.name.as_str().eq_ignore_ascii_case(name.as_str()) {
                return Err(format!("it is about `{}`", line.name));
            }
            Ok((line.name, Published { version: line.vers, checksum, yanked: line.yanked }))
        });
        match published {
            Ok((name, published)) => {
                entry.get_or_insert(Entry { name, versions: Vec::new() }).versions.push(published);
            }
            Err(error) => {
                first_error.get_or_insert_with(|| format!("line {}: {error}", number + 1));
            }
        }
    }
    entry.ok_or_else(|| first_error.unwrap_or_else(|| "it is empty".to_owned()))
}

/// The lines of an index file that were there at a moment, or the version of one that doesn't tell. Lines that are not
/// understood are left out, as they are when they are read.
fn lines_of(raw: &[u8], as_of: &AsOf) -> Result<Vec<u8>, Version> {
    #[derive(Deserialize)]
    struct Dated {
        vers: Version,
        pubtime: Option<String>,
    }
    let mut kept = Vec::new();
    for line in raw.split_inclusive(|&byte| byte == b'\n') {
        let Ok(Dated { vers, pubtime }) = serde_json::from_slice(line) else { continue };
        match pubtime.and_then(|published| as_of.includes(published.as_bytes())) {
            Some(true) => kept.extend_from_slice(line),
            Some(false) => {}
            None => return Err(vers),
        }
    }
    Ok(kept)
}

fn unpack(url: &str, file: &Packed) -> Result<Vec<u8>, RegistryError> {
    file.unpack().map_err(|error| RegistryError::Malformed { url: url.to_owned(), reason: error.to_string() })
}

/// Whether a tag fits the first line of a kept file, and a header.
fn is_keepable(etag: &str) -> bool {
    etag.len() <= 256 && etag.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Writes a file for the next run: its tag, which may be empty, a newline, its gzipped bytes.
fn keep(path: &Path, etag: &str, file: &Packed) -> io::Result<()> {
    let dir = path.parent().unwrap_or(path);
    std::fs::create_dir_all(dir)?;
    let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
    temporary.write_all(etag.as_bytes())?;
    temporary.write_all(b"\n")?;
    temporary.write_all(file.as_gzip())?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Reads a file of an earlier run. One that is damaged is as good as none: it is fetched again.
fn read_kept(path: &Path) -> Option<(String, Packed)> {
    let bytes = std::fs::read(path).ok()?;
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let etag = std::str::from_utf8(&bytes[..end]).ok().filter(|etag| is_keepable(etag))?;
    let file = Packed::from_gzip(bytes[end + 1..].to_vec()).ok()?;
    Some((etag.to_owned(), file))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn name(text: &str) -> CrateName {
        text.parse().unwrap()
    }

    fn line(name: &str, vers: &str, rest: &str) -> String {
        format!("{{\"name\":\"{name}\",\"vers\":\"{vers}\",\"cksum\":\"{SUM}\",\"deps\":[]{rest}}}\n")
    }

    #[test]
    fn lines_of_a_newer_format_are_passed_over() {
        let raw = [line("Foo", "1.0.0", ""), line("Foo", "1.1.0", ",\"v\":3"), "{\"new\":1}\n".into()].concat();
        let entry = parse(&name("foo"), raw.as_bytes()).unwrap();
        assert_eq!(entry.name.as_str(), "Foo");
        assert_eq!(entry.versions.iter().map(|it| it.version.to_string()).collect::<Vec<_>>(), ["1.0.0"]);
    }

    #[test]
    fn a_file_without_a_usable_line_says_what_is_wrong_with_the_first() {
        let cases = [
            ("".into(), "it is empty"),
            (line("bar", "1.0.0", ""), "line 1: it is about `bar`"),
            (line("foo", "1.0", ""), "line 1: unexpected end of input while parsing minor version number"),
            ("\u{0}".into(), "line 1: expected value at line 1 column 1"),
        ];
        for (raw, expected) in cases {
            let error = parse(&name("foo"), String::as_bytes(&raw)).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn as_of_a_moment_later_versions_are_not_there_and_an_undated_one_is_an_error() {
        let dated = |vers, time| line("foo", vers, &format!(",\"pubtime\":\"{time}\""));
        let (old, new) = (dated("1.0.0", "2020-01-01T00:00:00Z"), dated("1.1.0", "2021-01-01T00:00:00Z"));
        let as_of: AsOf = "2020-06-01".parse().unwrap();
        let raw = [old.as_str(), "{\"new\":1}\n", &new].concat();
        assert_eq!(lines_of(raw.as_bytes(), &as_of), Ok(old.into_bytes()));
        assert_eq!(lines_of(new.as_bytes(), &as_of), Ok(Vec::new()));
        assert_eq!(lines_of(line("foo", "1.2.0", "").as_bytes(), &as_of), Err(Version::new(1, 2, 0)));
        assert_eq!(lines_of(dated("1.3.0", "soon").as_bytes(), &as_of), Err(Version::new(1, 3, 0)));
    }

    #[test]
    fn build_metadata_may_be_left_out_but_not_mistaken() {
        let raw = line("foo", "1.0.0+zlib.1", "");
        let entry = parse(&name("foo"), raw.as_bytes()).unwrap();
        let find = |text: &str| entry.find(&text.parse().unwrap()).is_some();
        assert!(find("1.0.0+zlib.1") && find("1.0.0"));
        assert!(!find("1.0.0+zlib.2") && !find("1.0.0-zlib.1") && !find("1.0.1"));
    }

    #[test]
    fn a_kept_file_is_read_back_and_a_damaged_one_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("se/rd/serde");
        keep(&path, "W/\"a\"", &Packed::pack(b"hello").unwrap()).unwrap();
        let (etag, file) = read_kept(&path).unwrap();
        assert_eq!((etag.as_str(), file.unpack().unwrap().as_slice()), ("W/\"a\"", b"hello".as_slice()));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(read_kept(&path).is_none());
    }
}
