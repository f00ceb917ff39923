//! The registry's database dump: a gzipped tar of CSV files, read as a stream, twice.
//!
//! Tables come in no particular order, and that of dependencies, by far the longest, before that of versions. So the
//! first pass reads crates, versions and tags, and the second one only rows that are about the versions that count.
//! Memory grows with the number of versions, not with the size of the dump. Format: <https://crates.io/data-access>,
//! "Database dumps".

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use flate2::read::MultiGzDecoder;
use semver::{Version, VersionReq};
use tar::Archive;

use super::table::{number, quoted, rows};
use super::{Catalogue, Edge, Listed, Release, Tagged, canonical, day};
use crate::krate::{CrateName, series};
use crate::registry::as_of::AsOf;
use crate::registry::package::Checksum;
use crate::registry::plain;

/// The most that a dump may unpack to: several times the size of the default registry's.
const MAX_UNPACKED: u64 = 128 << 30;
/// The most files of a dump.
const MAX_FILES: usize = 10_000;
/// The most crates.
const MAX_CRATES: usize = 3_000_000;
/// The most versions.
const MAX_VERSIONS: usize = 20_000_000;
/// The most dependencies of newest versions, and the most keywords and categories that crates have together.
const MAX_PAIRS: usize = 60_000_000;
/// How far back downloads count.
const POPULAR_FOR: Duration = Duration::from_secs(90 * 24 * 3600);
/// How the table of dependencies writes a dev-dependency.
const DEV: &[u8] = b"2";

/// Why a file is not a dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The file can't be opened.
    #[error("failed to open the dump {}: {source}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is damaged, or no gzipped tar.
    #[error("the dump {} is damaged, or no gzipped tar: {source}", .path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// The decoder's error.
        source: io::Error,
    },
    /// A table can't be read.
    #[error("the dump's {file}: {source}")]
    Read {
        /// The table.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A table is missing.
    #[error("the dump {} has no {file}: is it the registry's database dump (db-dump.tar.gz)?", .path.display())]
    Missing {
        /// The dump.
        path: PathBuf,
        /// The table.
        file: &'static str,
    },
    /// A table lacks a column.
    #[error("the dump's {file} has no column `{column}`: it is older or newer than this maar understands")]
    Column {
        /// The table.
        file: String,
        /// The column.
        column: String,
    },
    /// A row is nonsense.
    #[error("the dump's {file}, line {line}: {reason}")]
    Row {
        /// The table.
        file: String,
        /// Counted from 1.
        line: u64,
        /// Its fault.
        reason: String,
    },
}

/// Reads a dump, as of a moment if one is given. `progress` gets the share that is read, from 0 to 1, and returns
/// whether to go on.
///
/// # Errors
/// When the file is not a dump, or larger than a dump can be.
pub fn read(path: &Path, as_of: Option<&AsOf>, progress: &dyn Fn(f64) -> bool) -> Result<Catalogue, DumpError> {
    let mut first = FirstPass { as_of, ..FirstPass::default() };
    each_file(path, &|share| progress(share / 2.0), &mut |file, entry| first.take(file, entry))?;
    let mut second = SecondPass::new(first, path)?;
    each_file(path, &|share| progress(0.5 + share / 2.0), &mut |file, entry| second.take(file, entry))?;
    second.finish(path)
}

type Take<'t> = dyn FnMut(&str, &mut dyn Read) -> Result<(), DumpError> + 't;

/// Hands every table to `take`, under its name without folders.
fn each_file(path: &Path, progress: &dyn Fn(f64) -> bool, take: &mut Take<'_>) -> Result<(), DumpError> {
    let open = |source| DumpError::Open { path: path.to_owned(), source };
    let archive = |source| DumpError::Archive { path: path.to_owned(), source };
    let file = plain::open(path).map_err(open)?;
    let size = file.metadata().map_err(open)?.len().max(1);
    let counted = Counted { file, read: 0, size, progress };
    let unpacked = MultiGzDecoder::new(BufReader::with_capacity(1 << 20, counted));
    let mut tar = Archive::new(unpacked.take(MAX_UNPACKED));
    // Raw: long names and other extensions of tar would be read into memory whole, and a dump has none.
    for (number, entry) in tar.entries().map_err(archive)?.raw(true).enumerate() {
        let mut entry = entry.map_err(archive)?;
        if number == MAX_FILES {
            return Err(archive(io::Error::other("it has too many files")));
        }
        let name = entry.path().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        if let (true, Some(name)) = (entry.header().entry_type().is_file(), name) {
            take(&name, &mut entry)?;
        }
    }
    Ok(())
}

/// Counts the bytes that are read of a file, and ends reading when the rest isn't needed.
struct Counted<'p> {
    file: File,
    read: u64,
    size: u64,
    progress: &'p dyn Fn(f64) -> bool,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read += read as u64;
        if !(self.progress)(self.read as f64 / self.size as f64) {
            return Err(io::Error::other("stopped"));
        }
        Ok(read)
    }
}

/// The result of the first pass, by the dump's ids.
#[derive(Default)]
struct FirstPass<'a> {
    as_of: Option<&'a AsOf>,
    taken: Option<u64>,
    crates: HashMap<u64, CrateName>,
    versions: Vec<RawVersion>,
    /// The crates that versions name, in the order in which they come.
    slots: HashMap<u64, u32>,
    categories: Tags,
    keywords: Tags,
    seen: Vec<&'static str>,
}

#[derive(Default)]
struct Tags {
    words: HashMap<u64, String>,
    /// Crate and tag.
    pairs: Vec<(u64, u64)>,
}

struct RawVersion {
    id: u64,
    /// Its crate's slot in the first pass, and its crate's place in the second.
    krate: u32,
    version: Version,
    checksum: [u8; 32],
    yanked: bool,
}

/// The tables without which nothing can be answered.
const NEEDED: [&str; 4] = ["crates.csv", "versions.csv", "dependencies.csv", "version_downloads.csv"];

fn at_most(count: usize, limit: usize, what: &str) -> Result<(), String> {
    if count < limit { Ok(()) } else { Err(format!("more than {limit} {what}, which no registry has")) }
}

impl FirstPass<'_> {
    fn take(&mut self, file: &str, entry: &mut dyn Read) -> Result<(), DumpError> {
        self.seen.extend(NEEDED.into_iter().find(|needed| *needed == file));
        match file {
            "metadata.json" => self.metadata(file, entry),
            "crates.csv" => rows(file, entry, ["id", "name"], |[id, name]| {
                at_most(self.crates.len(), MAX_CRATES, "crates")?;
                // A name that no registry accepts can't be asked for either.
                if let Some(name) = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()) {
                    self.crates.insert(number(id)?, name);
                }
                Ok(())
            }),
            "versions.csv" => {
                let columns = ["id", "crate_id", "num", "checksum", "yanked", "created_at"];
                rows(file, entry, columns, |[id, krate, num, checksum, yanked, created]| {
                    at_most(self.versions.len(), MAX_VERSIONS, "versions")?;
                    let yanked = boolean(yanked)?;
                    let was_there = self.as_of.map_or(Some(true), |as_of| as_of.includes(created));
                    let was_there = was_there.ok_or_else(|| format!("`{}` is not a time", quoted(created)))?;
                    let text = |field| std::str::from_utf8(field).ok();
                    let version = text(num).and_then(|num| num.parse::<Version>().ok());
                    let checksum = text(checksum).and_then(|checksum| checksum.parse::<Checksum>().ok());
                    if let (true, Some(version), Some(checksum)) = (was_there, version, checksum) {
                        let (id, next) = (number(id)?, u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
                        let krate = *self.slots.entry(number(krate)?).or_insert(next);
                        self.versions.push(RawVersion { id, krate, version, checksum: *checksum.as_bytes(), yanked });
                    }
                    Ok(())
                })
            }
            "categories.csv" => self.categories.words(file, entry, ["id", "slug"]),
            "crates_categories.csv" => self.categories.pairs(file, entry, ["crate_id", "category_id"]),
            "keywords.csv" => self.keywords.words(file, entry, ["id", "keyword"]),
            "crates_keywords.csv" => self.keywords.pairs(file, entry, ["crate_id", "keyword_id"]),
            _ => Ok(()),
        }
    }

    fn metadata(&mut self, file: &str, entry: &mut dyn Read) -> Result<(), DumpError> {
        #[derive(serde::Deserialize)]
        struct Metadata {
            timestamp: String,
        }
        let metadata: Option<Metadata> = serde_json::from_reader(entry.take(1 << 20)).ok();
        let time = metadata.and_then(|metadata| {
            // Fractions and the zone, which is UTC, are left out.
            humantime::parse_rfc3339_weak(metadata.timestamp.get(..19)?).ok()
        });
        let seconds = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs());
        let reason = || "no `timestamp` such as \"2026-06-01T02:00:00Z\"".to_owned();
        self.taken =
            Some(seconds.ok_or_else(|| DumpError::Row { file: file.to_owned(), line: 1, reason: reason() })?);
        Ok(())
    }
}

impl Tags {
    fn words(&mut self, file: &str, entry: &mut dyn Read, columns: [&str; 2]) -> Result<(), DumpError> {
        rows(file, entry, columns, |[id, word]| {
            at_most(self.words.len(), MAX_CRATES, "words")?;
            if let Some(word) = std::str::from_utf8(word).ok().filter(|word| word.len() <= 200) {
                self.words.insert(number(id)?, word.to_ascii_lowercase());
            }
            Ok(())
        })
    }

    fn pairs(&mut self, file: &str, entry: &mut dyn Read, columns: [&str; 2]) -> Result<(), DumpError> {
        rows(file, entry, columns, |[krate, tag]| {
            at_most(self.pairs.len(), MAX_PAIRS, "of them")?;
            self.pairs.push((number(krate)?, number(tag)?));
            Ok(())
        })
    }

    /// Each word with the places of its crates, by word.
    fn tagged(self, places: &HashMap<u64, u32>) -> Vec<Tagged> {
        let mut by_tag: HashMap<u64, Vec<u32>> = HashMap::new();
        for (krate, tag) in self.pairs {
            if let Some(&place) = places.get(&krate) {
                by_tag.entry(tag).or_default().push(place);
            }
        }
        let tagged = self.words.into_iter().map(|(id, tag)| {
            let mut crates = by_tag.remove(&id).unwrap_or_default();
            crates.sort_unstable();
            crates.dedup();
            Tagged { tag, crates }
        });
        let mut tagged: Vec<Tagged> = tagged.collect();
        tagged.sort_unstable_by(|one, other| one.tag.cmp(&other.tag));
        tagged
    }
}

fn boolean(field: &[u8]) -> Result<bool, String> {
    match field {
        b"t" => Ok(true),
        b"f" => Ok(false),
        other => Err(format!("`{}` is neither `t` nor `f`", quoted(other))),
    }
}

/// The additions of the second pass, by position.
struct SecondPass {
    taken: u64,
    /// The first day, as text, whose downloads count.
    since: String,
    places: HashMap<u64, u32>,
    crates: Vec<Listed>,
    /// By crate, then the newest first: releases before pre-releases.
    versions: Vec<RawVersion>,
    /// Where the versions of each crate begin; one more for the end.
    begins: Vec<usize>,
    version_places: HashMap<u64, u32>,
    /// The versions that each requirement matches, by crate and text.
    reached: HashMap<(u32, Box<[u8]>), Option<u32>>,
    edges: Vec<Edge>,
    categories: Vec<Tagged>,
    keywords: Vec<Tagged>,
}

impl SecondPass {
    fn new(first: FirstPass<'_>, path: &Path) -> Result<Self, DumpError> {
        if let Some(file) = NEEDED.into_iter().find(|file| !first.seen.contains(file)) {
            return Err(DumpError::Missing { path: path.to_owned(), file });
        }
        let taken = first.taken.ok_or(DumpError::Missing { path: path.to_owned(), file: "metadata.json" })?;
        let mut named: Vec<(u64, CrateName)> = first.crates.into_iter().collect();
        named.sort_by_cached_key(|(_, name)| canonical(name));
        // A registry has no two; a dump that has would make the search for a name ambiguous.
        named.dedup_by(|(_, one), (_, other)| canonical(one) == canonical(other));
        let places: HashMap<u64, u32> = (0..).zip(&named).map(|(place, (id, _))| (*id, place)).collect();
        let mut place_of_slot = vec![None; first.slots.len()];
        for (id, slot) in &first.slots {
            place_of_slot[*slot as usize] = places.get(id).copied();
        }
        let mut versions = first.versions;
        versions.retain_mut(|version| {
            let place = place_of_slot[version.krate as usize];
            version.krate = place.unwrap_or_default();
            place.is_some()
        });
        versions.sort_unstable_by(|one, other| {
            let is_release = |it: &RawVersion| it.version.pre.is_empty();
            let newer_first = || other.version.cmp(&one.version);
            one.krate.cmp(&other.krate).then_with(|| is_release(other).cmp(&is_release(one))).then_with(newer_first)
        });
        let mut begins = vec![0; named.len() + 1];
        for version in &versions {
            begins[version.krate as usize + 1] += 1;
        }
        (1..begins.len()).for_each(|place| begins[place] += begins[place - 1]);
        let version_places = (0..).zip(&versions).map(|(place, version)| (version.id, place)).collect();
        let crates = named.into_iter().enumerate().map(|(place, (_, name))| {
            let own = begins[place]..begins[place + 1];
            let newest = own.clone().find(|&place| !versions[place].yanked).and_then(|place| u32::try_from(place).ok());
            Listed { name, downloads: 0, newest }
        });
        Ok(Self {
            taken,
            since: day(taken.saturating_sub(POPULAR_FOR.as_secs())),
            crates: crates.collect(),
            categories: first.categories.tagged(&places),
            keywords: first.keywords.tagged(&places),
            places,
            versions,
            begins,
            version_places,
            reached: HashMap::new(),
            edges: Vec::new(),
        })
    }

    fn take(&mut self, file: &str, entry: &mut dyn Read) -> Result<(), DumpError> {
        match file {
            "dependencies.csv" => {
                rows(file, entry, ["version_id", "crate_id", "req", "kind"], |[version, on, req, kind]| {
                    let Some(dependent) = self.newest_of(number(version)?) else { return Ok(()) };
                    let on = self.places.get(&number(on)?).copied();
                    let (Some(on), true) = (on, kind != DEV) else { return Ok(()) };
                    at_most(self.edges.len(), MAX_PAIRS, "dependencies")?;
                    if let Some(on) = self.reach(on, req) {
                        self.edges.push(Edge { dependent, on });
                    }
                    Ok(())
                })
            }
            "version_downloads.csv" => {
                rows(file, entry, ["version_id", "downloads", "date"], |[version, downloads, date]| {
                    let (version, downloads) = (number(version)?, number(downloads)?);
                    if date >= self.since.as_bytes()
                        && let Some(&place) = self.version_places.get(&version)
                    {
                        let krate = self.versions[place as usize].krate;
                        let sum = &mut self.crates[krate as usize].downloads;
                        *sum = sum.saturating_add(downloads);
                    }
                    Ok(())
                })
            }
            _ => Ok(()),
        }
    }

    /// The crate whose newest version has this number.
    fn newest_of(&self, version: u64) -> Option<u32> {
        let place = *self.version_places.get(&version)?;
        let krate = self.versions[place as usize].krate;
        (self.crates[krate as usize].newest == Some(place)).then_some(krate)
    }

    /// The newest unyanked version of a crate that a requirement allows.
    fn reach(&mut self, on: u32, requirement: &[u8]) -> Option<u32> {
        let key = (on, requirement.into());
        if let Some(reached) = self.reached.get(&key) {
            return *reached;
        }
        let parsed = std::str::from_utf8(requirement).ok().and_then(|text| text.parse::<VersionReq>().ok());
        let own = self.begins[on as usize]..self.begins[on as usize + 1];
        let reached = parsed.and_then(|requirement| {
            own.into_iter().find(|&place| {
                let version = &self.versions[place];
                !version.yanked && requirement.matches(&version.version)
            })
        });
        let reached = reached.and_then(|place| u32::try_from(place).ok());
        self.reached.insert(key, reached);
        reached
    }

    /// The newest unyanked version that is compatible with this one.
    fn line(&self, place: u32) -> u32 {
        let version = &self.versions[place as usize];
        let krate = version.krate as usize;
        let wanted = series(&version.version);
        let mut own = self.begins[krate]..self.begins[krate + 1];
        let newest = own.find(|&other| {
            let other = &self.versions[other];
            !other.yanked && series(&other.version) == wanted
        });
        newest.and_then(|place| u32::try_from(place).ok()).unwrap_or(place)
    }

    fn finish(mut self, path: &Path) -> Result<Catalogue, DumpError> {
        // The kept versions in order, so that edges stay sorted by the crate depended on.
        let mut kept: Vec<u32> = self.crates.iter().filter_map(|listed| listed.newest).collect();
        kept.extend(self.edges.iter().map(|edge| edge.on));
        kept.sort_unstable();
        kept.dedup();
        let lines: Vec<u32> = kept.iter().map(|&place| self.line(place)).collect();
        kept.extend(&lines);
        kept.sort_unstable();
        kept.dedup();
        let new: HashMap<u32, u32> = kept.iter().copied().zip(0..).collect();
        let releases = kept.iter().map(|&place| {
            let RawVersion { krate, version, checksum, .. } = &self.versions[place as usize];
            let line = new[&self.line(place)];
            Release { krate: *krate, version: version.clone(), checksum: *checksum, line }
        });
        let releases: Vec<Release> = releases.collect();
        for listed in &mut self.crates {
            listed.newest = listed.newest.map(|place| new[&place]);
        }
        let on = |edge: &Edge| releases[edge.on as usize].krate;
        for edge in &mut self.edges {
            edge.on = new[&edge.on];
        }
        // A crate may depend on another several times, to build and to run with: of compatible versions the newest
        // counts.
        self.edges.sort_unstable_by_key(|edge| (on(edge), edge.dependent, edge.on));
        self.edges.dedup_by_key(|edge| (releases[edge.on as usize].line, edge.dependent));
        let catalogue = Catalogue {
            taken: self.taken,
            crates: self.crates,
            releases,
            edges: self.edges,
            categories: self.categories,
            keywords: self.keywords,
        };
        catalogue
            .checked()
            .map_err(|error| DumpError::Archive { path: path.to_owned(), source: io::Error::other(error) })
    }
}
