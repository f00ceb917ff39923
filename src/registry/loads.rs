//! Which cargo surely loads a manifest: known without running it, for nearly all that are published.
//!
//! Errs on the side of doubt: cargo itself is then asked.

use std::path::Path;

use semver::Version;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// The largest manifest that is looked at, in bytes.
const MAX_MANIFEST: u64 = 1 << 20;

/// Which cargos load a package's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Loads {
    /// This one and all that are newer.
    Since(Version),
    /// Only cargo knows.
    InDoubt,
}

impl Loads {
    /// Looks at an unpacked package.
    pub(super) fn of(dir: &Path) -> Self {
        let manifest = dir.join("Cargo.toml");
        let is_small = manifest.metadata().is_ok_and(|file| file.len() <= MAX_MANIFEST);
        let text = is_small.then(|| std::fs::read_to_string(&manifest).ok()).flatten();
        let table = text.and_then(|text| text.parse::<Table>().ok());
        table.and_then(|table| since(&table, dir)).map_or(Self::InDoubt, Self::Since)
    }

    /// Whether a cargo surely loads it.
    pub(super) fn surely_in(&self, cargo: &Version) -> bool {
        match self {
            Self::Since(first) => first <= cargo,
            Self::InDoubt => false,
        }
    }
}

fn since(manifest: &Table, dir: &Path) -> Option<Version> {
    let package = manifest.get("package")?.as_table()?;
    let is_plain = !manifest.contains_key("cargo-features")
        && !package.contains_key("workspace")
        && package.get("name")?.is_str()
        && package.get("version")?.is_str()
        && package.get("authors").is_none_or(is_texts)
        && targets_are_there(manifest, dir)
        && manifest
            .get("features")
            .is_none_or(|features| features.as_table().is_some_and(|features| features.values().all(is_texts)));
    let edition = match package.get("edition").map(Value::as_str) {
        None | Some(Some("2015")) => Version::new(1, 0, 0),
        Some(Some("2018")) => Version::new(1, 31, 0),
        Some(Some("2021")) => Version::new(1, 56, 0),
        Some(Some("2024")) => Version::new(1, 85, 0),
        Some(_) => return None,
    };
    let resolver = match package.get("resolver").map(Value::as_str) {
        None | Some(Some("1")) => Version::new(1, 0, 0),
        Some(Some("2")) => Version::new(1, 51, 0),
        Some(Some("3")) => Version::new(1, 84, 0),
        Some(_) => return None,
    };
    is_plain.then(|| edition.max(resolver))
}

fn is_texts(value: &Value) -> bool {
    value.as_array().is_some_and(|texts| texts.iter().all(Value::is_str))
}

/// Whether there is something to build, and every target that the manifest names has its file.
fn targets_are_there(manifest: &Table, dir: &Path) -> bool {
    let path_of = |target: &Value| target.get("path").and_then(Value::as_str).map(|path| dir.join(path).is_file());
    let is_there = |(kind, folder): (&str, &str)| {
        let Some(targets) = manifest.get(kind) else { return true };
        targets.as_array().is_some_and(|targets| {
            targets.iter().all(|target| {
                path_of(target).unwrap_or_else(|| {
                    let Some(name) = target.get("name").and_then(Value::as_str) else { return false };
                    let usual = [format!("{folder}/{name}.rs"), format!("{folder}/{name}/main.rs")];
                    usual.iter().any(|path| dir.join(path).is_file())
                })
            })
        })
    };
    let library = manifest.get("lib").and_then(path_of).unwrap_or_else(|| dir.join("src/lib.rs").is_file());
    let has_any = library || dir.join("src/main.rs").is_file() || manifest.contains_key("bin");
    let has_library = library || manifest.get("lib").is_none();
    let kinds = [("bin", "src/bin"), ("example", "examples"), ("test", "tests"), ("bench", "benches")];
    has_any && has_library && kinds.into_iter().all(is_there)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(manifest: &str, files: &[&str]) -> Loads {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        std::fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
        Loads::of(dir.path())
    }

    #[test]
    fn what_every_cargo_loads_is_told_from_what_only_cargo_knows() {
        let package = |rest: &str| format!("[package]\nname = 'a'\nversion = '1.0.0'\n{rest}");
        let lib = &["src/lib.rs"][..];
        let since = |minor| Loads::Since(Version::new(1, minor, 0));
        assert_eq!(loads(&package(""), lib), since(0));
        assert_eq!(loads(&package("edition = '2021'\n[dependencies]\nb = '1'"), lib), since(56));
        assert_eq!(loads(&package("edition = '2021'\nresolver = '3'"), lib), since(84));
        assert_eq!(loads(&package("[[bench]]\nname = 'b'"), &["src/lib.rs", "benches/b.rs"]), since(0));
        for (manifest, files) in [
            ("[package]\nname = 'a'\nversion = '1.0.0'\n[x]y".to_owned(), lib),
            (package("edition = '2030'"), lib),
            (package("authors = 'me'"), lib),
            (package("[[bench]]\nname = 'b'"), lib),
            (package("[lib]\npath = 'gone.rs'"), lib),
            (package(""), &[]),
            (package("").replace("[package]", "[project]"), lib),
            (package("").replace("[package]", "cargo-features = ['x']\n[package]"), lib),
        ] {
            assert_eq!(loads(&manifest, files), Loads::InDoubt, "{manifest}");
        }
    }
}
