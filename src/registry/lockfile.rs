//! Reads a `Cargo.lock`, of any of cargo's formats: which packages it pins, where they come from, and
//! which depends on which.
//!
//! Doesn't know which of these dependencies a build really has: features, platforms and kinds are cargo's business.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use semver::Version;
use serde::Deserialize;

use super::package::{BadChecksum, Checksum};
use super::plain;
use crate::krate::{BadCrateName, CrateName};

/// The largest lockfile that is read, in bytes; those of the largest workspaces have less than one MiB.
const MAX_SIZE: u64 = 16 << 20;
/// The newest format that is understood.
const MAX_FORMAT: u32 = 4;

/// The packages that a lockfile pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lockfile {
    /// In the order of the file.
    pub packages: Vec<Locked>,
    /// The dependencies of each package, by their places in `packages`.
    pub dependencies: Vec<Vec<usize>>,
}

/// One package of a lockfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locked {
    /// A package of the default registry.
    Registry {
        /// Its name.
        name: CrateName,
        /// Its version.
        version: Version,
        /// The SHA-256 of its tarball; absent in lockfiles that leave it out.
        checksum: Option<Checksum>,
    },
    /// A package of another registry or of a git repository.
    Foreign {
        /// Its name.
        name: String,
        /// Its version.
        version: Version,
        /// Where it comes from, as the lockfile spells it.
        origin: String,
    },
    /// A package of the workspace itself, or of a folder beside it.
    Local {
        /// Its name.
        name: String,
        /// Its version.
        version: Version,
    },
}

/// Why a lockfile can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LockfileError {
    /// The file can't be read.
    #[error("failed to read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is too large to be one.
    #[error("{} is larger than 16 MiB, which no lockfile is", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not TOML, or not that of a lockfile.
    #[error("{}: {source}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// It is of a format that came after this version of maar.
    #[error("{}: lockfile format {format} is newer than maar, which reads up to {MAX_FORMAT}", .path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// A package of the registry has a name that no registry accepts.
    #[error("{}: {source}", .path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// Which, and why.
        source: BadCrateName,
    },
    /// A checksum is malformed.
    #[error("{}: the checksum of {package}: {source}", .path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Which package.
        package: String,
        /// Its actual value.
        source: BadChecksum,
    },
}

#[derive(Deserialize)]
struct RawLockfile {
    version: Option<u32>,
    #[serde(default)]
    package: Vec<RawPackage>,
    /// Where the first format keeps checksums: `checksum NAME VERSION (SOURCE)`.
    #[serde(default)]
    metadata: BTreeMap<String, toml::Value>,
}

#[derive(Deserialize)]
struct RawPackage {
    name: String,
    version: Version,
    source: Option<String>,
    checksum: Option<String>,
    /// Each `NAME`, `NAME VERSION` or `NAME VERSION (SOURCE)`, as long as it must be to be unambiguous.
    #[serde(default)]
    dependencies: Vec<String>,
}

impl Locked {
    /// The name of its folder among the vendored ones; `None`: it has none there.
    pub fn folder(&self) -> Option<String> {
        match self {
            Self::Registry { name, version, .. } => Some(format!("{name}-{version}")),
            Self::Foreign { .. } | Self::Local { .. } => None,
        }
    }
}

impl Lockfile {
    /// Whether a package comes from another registry or a git repository, which only cargo itself can fetch.
    pub fn has_foreign_sources(&self) -> bool {
        self.packages.iter().any(|package| matches!(package, Locked::Foreign { .. }))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it can't be read, or is not a lockfile.
    pub fn read(path: &Path) -> Result<Self, LockfileError> {
        Self::parse(&Self::read_text(path)?, path)
    }

    /// Reads the text of a file, whether or not it is a lockfile.
    ///
    /// # Errors
    /// When it can't be read, or is too large to be one.
    pub fn read_text(path: &Path) -> Result<String, LockfileError> {
        let read = |source| LockfileError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        plain::open(path).map_err(read)?.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(read)?;
        if text.len() as u64 > MAX_SIZE {
            return Err(LockfileError::TooLarge { path: path.to_owned() });
        }
        Ok(text)
    }

    /// Reads the text of the file at `path`.
    ///
    /// # Errors
    /// When it is not a lockfile.
    pub fn parse(text: &str, path: &Path) -> Result<Self, LockfileError> {
        let raw: RawLockfile = toml::from_str(text)
            .map_err(|source| LockfileError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        if let Some(format) = raw.version.filter(|&format| format > MAX_FORMAT) {
            return Err(LockfileError::TooNew { path: path.to_owned(), format });
        }
        let dependencies = edges(&raw.package);
        let packages = raw.package.into_iter().map(|package| locked(package, &raw.metadata, path));
        Ok(Self { packages: packages.collect::<Result<_, _>>()?, dependencies })
    }
}

/// The places that every package's dependencies name. What fits several packages means all of them, and what fits none
/// means none: cargo, which reads the file too, will say so.
fn edges(packages: &[RawPackage]) -> Vec<Vec<usize>> {
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, package) in packages.iter().enumerate() {
        by_name.entry(&package.name).or_default().push(place);
    }
    let places = |dependency: &String| {
        let mut words = dependency.split(' ');
        let namesakes = words.next().and_then(|name| by_name.get(name)).map_or(&[][..], Vec::as_slice);
        let version = words.next().map(str::to_owned);
        let source = words.next().map(|source| source.trim_matches(['(', ')']).to_owned());
        let fits = move |&&place: &&usize| {
            let package = &packages[place];
            version.as_ref().is_none_or(|version| package.version.to_string() == *version)
                && source.as_deref().is_none_or(|source| package.source.as_deref() == Some(source))
        };
        namesakes.iter().filter(fits).copied().collect::<Vec<_>>()
    };
    packages.iter().map(|package| package.dependencies.iter().flat_map(places).collect()).collect()
}

fn locked(package: RawPackage, metadata: &BTreeMap<String, toml::Value>, path: &Path) -> Result<Locked, LockfileError> {
    let RawPackage { name, version, source, checksum, dependencies: _ } = package;
    let Some(origin) = source else { return Ok(Locked::Local { name, version }) };
    if !is_default_registry(&origin) {
        return Ok(Locked::Foreign { name, version, origin });
    }
    let in_metadata = || metadata.get(&format!("checksum {name} {version} ({origin})"))?.as_str();
    // `<none>` is the first format's word for a missing checksum.
    let checksum = checksum.as_deref().or_else(in_metadata).filter(|&text| text != "<none>");
    let checksum = checksum.map(str::parse).transpose().map_err(|source| LockfileError::Checksum {
        path: path.to_owned(),
        package: format!("{}-{version}", name.escape_debug()),
        source,
    })?;
    let name = name.parse().map_err(|source| LockfileError::Name { path: path.to_owned(), source })?;
    Ok(Locked::Registry { name, version, checksum })
}

/// Whether a source is the default registry, however it was reached: lockfiles name its git index even where cargo used
/// the sparse one or a replacement.
fn is_default_registry(source: &str) -> bool {
    source.strip_prefix("registry+") == Some(crates_index::git::URL)
        || source.trim_end_matches('/') == crates_index::sparse::URL.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn parse(text: &str) -> Result<Vec<Locked>, String> {
        // The default registry's URLs are the library's, so the texts here only refer to them.
        let text = text.replace("GIT", crates_index::git::URL).replace("SPARSE", crates_index::sparse::URL);
        let lockfile = Lockfile::parse(&text.replace("SUM", SUM), Path::new("Cargo.lock"));
        lockfile.map(|lockfile| lockfile.packages).map_err(|error| error.to_string())
    }

    fn registry(name: &str, version: &str, checksum: Option<&str>) -> Locked {
        let checksum = checksum.map(|text| text.parse().unwrap());
        Locked::Registry { name: name.parse().unwrap(), version: version.parse().unwrap(), checksum }
    }

    #[test]
    fn todays_format_is_read_and_sources_are_told_apart() {
        let packages = parse(
            r#"
            version = 4
            [[package]]
            name = "a"
            version = "1.0.0"
            source = "registry+GIT"
            checksum = "SUM"
            dependencies = ["b 2.0.0"]
            [[package]]
            name = "b"
            version = "2.0.0+x"
            source = "SPARSE"
            [[package]]
            name = "c"
            version = "0.1.0"
            source = "git+https://example.org/c?rev=1#abc"
            [[package]]
            name = "d"
            version = "0.1.0"
            source = "registry+https://example.org/index"
            [[package]]
            name = "_me"
            version = "0.0.0"
            "#,
        );
        let version = |text: &str| text.parse().unwrap();
        let foreign = |name: &str, origin: &str| Locked::Foreign {
            name: name.into(),
            version: version("0.1.0"),
            origin: origin.into(),
        };
        assert_eq!(
            packages.unwrap(),
            [
                registry("a", "1.0.0", Some(SUM)),
                registry("b", "2.0.0+x", None),
                foreign("c", "git+https://example.org/c?rev=1#abc"),
                foreign("d", "registry+https://example.org/index"),
                Locked::Local { name: "_me".into(), version: version("0.0.0") },
            ]
        );
    }

    #[test]
    fn dependencies_lead_to_the_packages_that_they_name() {
        let text = r#"
            package = [
                { name = "a", version = "1.0.0", dependencies = ["b 1.0.0", "c", "gone"] },
                { name = "b", version = "1.0.0", source = "x" },
                { name = "b", version = "2.0.0", source = "x", dependencies = ["b 1.0.0 (x)", "b 1.0.0 (y)"] },
                { name = "c", version = "0.1.0", dependencies = ["b 2.0.0"] },
            ]
        "#;
        let lockfile = Lockfile::parse(text, Path::new("Cargo.lock")).unwrap();
        assert_eq!(lockfile.dependencies, [vec![1, 3], vec![], vec![1], vec![2]]);
    }

    #[test]
    fn the_first_format_keeps_checksums_in_its_metadata() {
        let packages = parse(
            r#"
            [[package]]
            name = "a"
            version = "1.0.0"
            source = "registry+GIT"
            [[package]]
            name = "b"
            version = "1.0.0"
            source = "registry+GIT"
            [metadata]
            "checksum a 1.0.0 (registry+GIT)" = "SUM"
            "checksum b 1.0.0 (registry+GIT)" = "<none>"
            "#,
        );
        assert_eq!(packages.unwrap(), [registry("a", "1.0.0", Some(SUM)), registry("b", "1.0.0", None)]);
    }

    #[test]
    fn an_empty_file_pins_nothing() {
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("version = 3").unwrap(), []);
    }

    #[test]
    fn what_is_no_lockfile_says_where() {
        let package = |rest: &str| format!("[[package]]\nsource = 'registry+GIT'\n{rest}");
        let cases = [
            ("version = 5".into(), "Cargo.lock: lockfile format 5 is newer than maar, which reads up to 4"),
            ("[[package]".into(), "Cargo.lock: TOML parse error at line 1"),
            (package("name = 'a'"), "Cargo.lock: TOML parse error at line 1, column 1"),
            (package("name = 'a'\nversion = '1'"), "Cargo.lock: TOML parse error at line 4"),
            (package("name = '../a'\nversion = '1.0.0'"), "Cargo.lock: `../a` is not a crate name"),
            (
                package("name = 'a'\nversion = '1.0.0'\nchecksum = 'x'"),
                "Cargo.lock: the checksum of a-1.0.0: `x` is not a SHA-256",
            ),
        ];
        for (text, expected) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_SIZE + 1).unwrap();
        assert!(matches!(Lockfile::read(file.path()), Err(LockfileError::TooLarge { .. })));
        let missing = Lockfile::read(Path::new("/nowhere/Cargo.lock"));
        assert!(matches!(missing, Err(LockfileError::Read { .. })));
    }
}
