//! A crate's own manifest, as far as the build depends on it: whether it leaves the dependencies to cargo, and where
//! its targets are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Value;

/// The parts of a manifest that are looked at here.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Manifest {
    #[serde(alias = "project")]
    package: Option<Package>,
    lib: Option<Value>,
    #[serde(default)]
    bin: Vec<Value>,
    #[serde(default)]
    test: Vec<Value>,
    #[serde(default)]
    example: Vec<Value>,
    #[serde(default)]
    bench: Vec<Value>,
    /// Unstable features, which only a nightly cargo knows: `metabuild`, `profile-rustflags`, and future ones.
    #[serde(alias = "cargo_features")]
    cargo_features: Option<Value>,
}

#[derive(Deserialize)]
struct Package {
    build: Option<Value>,
    /// Where another manifest is that has the last word on how everything is compiled.
    workspace: Option<Value>,
}

/// Whether the manifest of a crate leaves it to cargo how the dependencies are compiled, as far as code can come of it:
/// on a nightly, a profile can name a code generator that rustc loads. A manifest that can't be understood doesn't.
pub fn compiles_as_usual(manifest: &str) -> bool {
    toml::from_str::<Manifest>(manifest).is_ok_and(|manifest| {
        manifest.cargo_features.is_none() && manifest.package.is_some_and(|package| package.workspace.is_none())
    })
}

/// The files that a manifest names as targets, below its folder. Those that cargo finds by itself are not among them.
pub fn target_files(manifest: &str) -> BTreeSet<PathBuf> {
    let Ok(Manifest { package, lib, bin, test, example, bench, .. }) = toml::from_str(manifest) else {
        return BTreeSet::new();
    };
    let path = |target: Value| target.get("path").and_then(Value::as_str).map(str::to_owned);
    let targets = lib.into_iter().chain(bin).chain(test).chain(example).chain(bench).filter_map(path);
    let scripts = package.and_then(|package| package.build).into_iter().flat_map(|build| match build {
        Value::Array(scripts) => scripts,
        script => vec![script],
    });
    let scripts = scripts.filter_map(|script| script.as_str().map(str::to_owned));
    let files = targets.chain(scripts).map(PathBuf::from);
    files.filter(|path| path.iter().all(|part| part != "..") && Path::new(path).is_relative()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_that_has_a_say_in_how_others_are_compiled_is_known() {
        for (manifest, expected) in [
            ("[package]\nname = 'a'\n[profile.dev]\nopt-level = 1\n[workspace]", true),
            ("cargo-features = ['profile-rustflags']\n[package]\n[profile.dev]\nrustflags = ['-Zx']", false),
            ("\"cargo\\u002dfeatures\" = []\n[package]", false),
            ("[package]\nworkspace = 'sub'", false),
            ("[workspace]", false),
            ("[package", false),
        ] {
            assert_eq!(compiles_as_usual(manifest), expected, "{manifest}");
        }
    }

    #[test]
    fn the_files_of_targets_are_found_wherever_they_are() {
        let check = |manifest: &str, expected: &[&str]| {
            assert_eq!(target_files(manifest), expected.iter().map(PathBuf::from).collect(), "{manifest}");
        };
        check("[package]\nname = 'a'", &[]);
        check("[package]\nbuild = 'make.rs'\n[lib]\npath = 'x/y.txt'", &["make.rs", "x/y.txt"]);
        check(
            "[package]\nbuild = ['a.rs', 'b.rs']\n[[bin]]\nname = 'b'\n[[test]]\npath = 't.rs'",
            &["a.rs", "b.rs", "t.rs"],
        );
        check("[package]\nbuild = false\n[[example]]\npath = '../x.rs'\n[[bench]]\npath = '/x.rs'", &[]);
        check("[package", &[]);
    }
}
