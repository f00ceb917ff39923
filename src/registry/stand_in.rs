//! What stands in for a package that can't be used, in a directory source: cargo loads every package of such a source,
//! and one that no build needs must not keep it from loading the others.
//!
//! A stand-in has the name, version, dependencies and features that the index gives, from which the lockfile was made,
//! so that cargo finds the lockfile up to date. It doesn't compile.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use semver::Version;
use serde::Deserialize;
use serde_json::json;
use toml::{Table, Value};

use super::error::RegistryError;
use super::place::{self, Kind};
use crate::krate::CrateName;

/// The index's entry for one version, as far as a manifest has its fields:
/// <https://doc.rust-lang.org/cargo/reference/registry-index.html#json-schema>.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    name: CrateName,
    pub(super) vers: Version,
    #[serde(default)]
    deps: Vec<Dependency>,
    #[serde(default)]
    features: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    features2: Option<BTreeMap<String, Vec<String>>>,
    #[serde(default)]
    links: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    req: String,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default = "yes")]
    default_features: bool,
    target: Option<String>,
    kind: Option<String>,
    registry: Option<String>,
    package: Option<String>,
}

fn yes() -> bool {
    true
}

/// Makes the folder of a stand-in, which must not exist yet. A build that compiles it prints `why`.
pub(super) fn write(line: &Line, checksum: &str, dir: &Path, why: &str) -> Result<(), RegistryError> {
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        let written = place::file(&path, Kind::Plain, None).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(RegistryError::io("write", &path))
    };
    for folder in [dir.to_owned(), dir.join("src")] {
        place::dir(&folder, None).map_err(RegistryError::io("create", &folder))?;
    }
    let manifest = toml::to_string(&manifest(line)).map_err(io::Error::other);
    file("Cargo.toml", &manifest.map_err(RegistryError::io("write", &dir.join("Cargo.toml")))?)?;
    file("build.rs", "fn main() {}\n")?;
    file("src/lib.rs", &format!("compile_error!({:?});\n", format!("maar: {why}")))?;
    file(".cargo-checksum.json", &json!({ "package": checksum, "files": {} }).to_string())
}

fn manifest(line: &Line) -> Table {
    let Line { name, vers, deps, features, features2, links } = line;
    let mut package = Table::new();
    package.insert("name".to_owned(), name.as_str().into());
    package.insert("version".to_owned(), vers.to_string().into());
    // Cargo has it that what links has a build script.
    package.insert("build".to_owned(), "build.rs".into());
    package.extend(links.iter().map(|links| ("links".to_owned(), links.as_str().into())));
    let mut manifest = Table::from_iter([("package".to_owned(), Value::Table(package))]);
    for dependency in deps {
        let table = match dependency.kind.as_deref() {
            // The tests of a dependency are never built.
            Some("dev") => continue,
            Some("build") => "build-dependencies",
            Some(_) | None => "dependencies",
        };
        let above = match &dependency.target {
            Some(target) => table_in(table_in(&mut manifest, "target"), target),
            None => &mut manifest,
        };
        table_in(above, table).insert(dependency.name.clone(), dependency.specification());
    }
    let both = features.iter().chain(features2.iter().flatten());
    let feature = |(name, parts): (&String, &Vec<String>)| (name.clone(), parts.clone().into());
    let features: Table = both.map(feature).collect();
    manifest.insert("features".to_owned(), Value::Table(features));
    manifest
}

impl Dependency {
    fn specification(&self) -> Value {
        let texts = [
            ("version", Some(&self.req)),
            ("package", self.package.as_ref()),
            ("registry-index", self.registry.as_ref()),
        ];
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), Value::String(text?.clone()))));
        let mut table: Table = texts.collect();
        table.insert("features".to_owned(), self.features.clone().into());
        table.insert("optional".to_owned(), self.optional.into());
        table.insert("default-features".to_owned(), self.default_features.into());
        Value::Table(table)
    }
}

/// The table of a name in another, made where it is missing.
fn table_in<'a>(table: &'a mut Table, name: &str) -> &'a mut Table {
    let entry = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
    match entry {
        Value::Table(table) => table,
        _ => unreachable!("nothing but tables is put where tables are looked for"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_has_the_dependencies_and_features_of_the_index() {
        let line = json!({
            "name": "a", "vers": "1.0.0", "cksum": "", "links": "z",
            "deps": [
                { "name": "b", "req": "^1", "features": ["f"], "optional": true, "default_features": false,
                  "target": "cfg(windows)", "kind": "normal", "package": "real-b" },
                { "name": "cc", "req": "^1", "features": [], "optional": false, "default_features": true, "kind": "build" },
                { "name": "t", "req": "^1", "features": [], "optional": false, "default_features": true, "kind": "dev" },
            ],
            "features": { "x": ["b"] }, "features2": { "y": ["dep:b"] },
        });
        let text = toml::to_string(&manifest(&serde_json::from_value(line).unwrap())).unwrap();
        let expected: Table = toml::from_str(
            "[package]\nname = 'a'\nversion = '1.0.0'\nbuild = 'build.rs'\nlinks = 'z'\n\
             [target.'cfg(windows)'.dependencies]\n\
             b = { version = '^1', package = 'real-b', features = ['f'], optional = true, default-features = false }\n\
             [build-dependencies]\n\
             cc = { version = '^1', features = [], optional = false, default-features = true }\n\
             [features]\nx = ['b']\ny = ['dep:b']\n",
        )
        .unwrap();
        assert_eq!(toml::from_str::<Table>(&text).unwrap(), expected);
    }
}
