//! Finds out which files of a target folder belong to which unit, from cargo's messages:
//! <https://doc.rust-lang.org/cargo/reference/external-tools.html#json-messages>.
//!
//! A cell's code can forge messages, and so make one of its own units look like another one. That code runs in the
//! build of each crate that would be given the unit, as all units of a cell have the same code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::dependencies::{Dependencies, Face, Kind};
use crate::cache::{self, Fingerprint, Made, Unit, UnitKey};

/// A unit that cargo found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    face: Face,
    /// Its hash in the target folder.
    hash: String,
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    package_id: String,
    target: Option<MessageTarget>,
    profile: Option<MessageProfile>,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    out_dir: Option<PathBuf>,
}

#[derive(Deserialize)]
struct MessageTarget {
    kind: Vec<String>,
    name: String,
}

#[derive(Deserialize)]
struct MessageProfile {
    opt_level: Value,
    debuginfo: Value,
}

/// A value of a profile as text, the same for a number and for the text of it; cargo has used both.
pub(super) fn plain(value: &Value) -> String {
    match value {
        // No debug information.
        Value::Null => "0".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// The units in cargo's messages, between other output, for a target folder at `target`.
pub fn artifacts(output: &str, target: &Path) -> Vec<Artifact> {
    let messages = output.lines().filter_map(|line| serde_json::from_str::<Message>(line.trim()).ok());
    messages.filter_map(|message| artifact(message, target)).collect()
}

fn artifact(message: Message, in_target: &Path) -> Option<Artifact> {
    let Message { reason, package_id, target, profile, mut features, filenames, out_dir } = message;
    let (kind, file) = match reason.as_str() {
        "compiler-artifact" => {
            let (target, profile) = (target?, profile?);
            features.sort();
            let is_metadata = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "rmeta");
            let kind = Kind::Compile {
                target: target.name,
                kind: target.kind,
                features,
                opt_level: plain(&profile.opt_level),
                debuginfo: plain(&profile.debuginfo),
                is_check: filenames.iter().all(is_metadata),
            };
            (kind, filenames.into_iter().next()?)
        }
        "build-script-executed" => (Kind::Run, out_dir?),
        _ => return None,
    };
    let hash = cache::unit_hash(file.strip_prefix(in_target).ok()?)?.to_owned();
    Some(Artifact { face: Face { package_id, kind }, hash })
}

/// Finds the units of a command among those that cargo found or made, each after those that it needs. `laid` are the
/// units whose hashes are known. Units that look the same in messages are distinguished by the units that they need or
/// that need them, as far as those are known.
pub fn identify(
    dependencies: &Dependencies,
    artifacts: &[Artifact],
    laid: &BTreeMap<UnitKey, String>,
    fingerprint: impl Fn(&str) -> Option<Fingerprint>,
) -> Vec<Made> {
    let mut hashes: BTreeMap<&Face, BTreeSet<&str>> = BTreeMap::new();
    for Artifact { face, hash } in artifacts {
        hashes.entry(face).or_default().insert(hash);
    }
    let mut alike: BTreeMap<&Face, usize> = BTreeMap::new();
    dependencies.faces().for_each(|(_, face)| *alike.entry(face).or_default() += 1);
    let mut known: BTreeMap<UnitKey, String> =
        laid.iter().map(|(key, name)| (key.clone(), hash(name).to_owned())).collect();
    let mut fingerprints: BTreeMap<String, Option<Fingerprint>> = BTreeMap::new();
    let mut made = Vec::new();
    for (unit, face) in dependencies.faces().filter(|(unit, _)| !laid.contains_key(&unit.key)) {
        let name = |hash: &str| format!("{}-{hash}", unit.name());
        let taken: BTreeSet<&str> = known.values().map(String::as_str).collect();
        let mut candidates: Vec<&str> =
            hashes.get(face).into_iter().flatten().copied().filter(|hash| !taken.contains(hash)).collect();
        if alike.get(face).is_some_and(|&count| count > 1) {
            let mut number = |hash: &str, unit: &Unit| {
                let name = format!("{}-{hash}", unit.name());
                fingerprints.entry(name.clone()).or_insert_with(|| fingerprint(&name)).clone()
            };
            let needs = dependencies.units().iter().filter(|other| unit.needs.contains(&other.key));
            let needs: Option<BTreeSet<u64>> =
                needs.map(|need| Some(number(known.get(&need.key)?, need)?.own)).collect();
            candidates.retain(|hash| {
                needs.as_ref().is_some_and(|needs| number(hash, unit).is_some_and(|it| it.needs == *needs))
            });
            // Two runs of one build script need the same, but the libraries that use them don't look alike.
            for (user, face) in dependencies.faces().filter(|(user, _)| user.needs.contains(&unit.key)) {
                let is_alone = alike.get(face).is_some_and(|&count| count == 1);
                let found: Vec<&str> = hashes.get(face).into_iter().flatten().copied().collect();
                let ([hash], true) = (&found[..], is_alone && candidates.len() > 1) else { continue };
                let Some(used) = number(hash, user) else { continue };
                candidates.retain(|hash| number(hash, unit).is_some_and(|it| used.needs.contains(&it.own)));
            }
        }
        if let [hash] = candidates[..] {
            known.insert(unit.key.clone(), hash.to_owned());
            made.push(Made { unit: unit.clone(), name: name(hash) });
        }
    }
    made
}

/// `PACKAGE-HASH` → hash.
fn hash(unit: &str) -> &str {
    unit.rsplit_once('-').map_or(unit, |(_, hash)| hash)
}

#[cfg(test)]
mod tests {
    use super::super::dependencies::tests::graph;
    use super::*;

    const ID: &str = "registry+https://github.com/rust-lang/crates.io-index#";

    fn compiled(package: &str, kind: &str, file: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","package_id":"{ID}{package}@1.0.0","target":{{"kind":["{kind}"],"name":"{package}"}},"profile":{{"opt_level":"0","debuginfo":null}},"features":[],"filenames":["/crate/target/debug/{file}"],"fresh":false}}"#
        )
    }

    fn ran(package: &str, hash: &str) -> String {
        format!(
            r#"{{"reason":"build-script-executed","package_id":"{ID}{package}@1.0.0","out_dir":"/crate/target/debug/build/{package}-{hash}/out"}}"#
        )
    }

    fn check(
        units: &[(&str, &str, &[usize])],
        output: &str,
        fingerprints: &[(&str, u64, &[u64])],
        expected: &[(usize, &str)],
    ) {
        let dependencies = Dependencies::new(&graph(units)).unwrap();
        let output = output.replace("1111", "1111111111111111").replace("2222", "2222222222222222");
        let output = output.replace("3333", "3333333333333333").replace("4444", "4444444444444444");
        let fingerprint = |name: &str| {
            let found = fingerprints.iter().find(|(short, ..)| name.starts_with(short));
            found.map(|(_, own, needs)| Fingerprint { own: *own, needs: needs.iter().copied().collect() })
        };
        let made =
            identify(&dependencies, &artifacts(&output, Path::new("/crate/target")), &BTreeMap::new(), fingerprint);
        let place = |key: &UnitKey| dependencies.units().iter().position(|unit| unit.key == *key).unwrap();
        let found: Vec<(usize, &str)> = made.iter().map(|made| (place(&made.unit.key), &made.name[..6])).collect();
        assert_eq!(found, expected, "{output}");
    }

    #[test]
    fn units_are_found_between_other_lines() {
        let output = [
            "       Fresh a v1.0.0\r".to_owned(),
            compiled("a", "lib", "deps/liba-1111.rlib"),
            compiled("b", "custom-build", "build/b-2222/build-script-build"),
            ran("b", "3333"),
            compiled("b", "lib", "deps/libb-4444.rlib"),
            compiled("a", "lib", "deps/liba.rlib"),
            "{\"reason\":\"build-finished\",\"success\":false}".to_owned(),
            "{\"filenames\":".to_owned(),
        ];
        let units: &[(&str, &str, &[usize])] =
            &[("a", "lib", &[]), ("b", "script", &[]), ("b", "run", &[1]), ("b", "lib", &[2])];
        check(units, &output.join("\n"), &[], &[(0, "a-1111"), (1, "b-2222"), (2, "b-3333"), (3, "b-4444")]);
    }

    #[test]
    fn runs_of_one_script_are_told_apart_by_the_libraries_that_use_them() {
        let units: &[(&str, &str, &[usize])] = &[
            ("b", "script", &[]),
            ("b", "run", &[0]),
            ("b", "run-otherwise", &[0]),
            ("b", "lib", &[1]),
            ("b", "rlib", &[2]),
        ];
        let output = [
            compiled("b", "custom-build", "build/b-5555/build-script-build").replace("5555", "5555555555555555"),
            ran("b", "1111"),
            ran("b", "2222"),
            compiled("b", "lib", "deps/libb-3333.rlib"),
            compiled("b", "rlib", "deps/libb-4444.rlib"),
        ]
        .join("\n");
        let fingerprints: &[(&str, u64, &[u64])] =
            &[("b-5555", 5, &[]), ("b-1111", 1, &[5]), ("b-2222", 2, &[5]), ("b-3333", 3, &[2]), ("b-4444", 4, &[1])];
        let expected = &[(0, "b-5555"), (1, "b-2222"), (2, "b-1111"), (3, "b-3333"), (4, "b-4444")];
        check(units, &output, fingerprints, expected);
    }

    #[test]
    fn units_that_look_alike_are_told_apart_by_their_needs_or_not_at_all() {
        // Two copies of `b`, on either copy of `a`, which differ in the kind of library.
        let units: &[(&str, &str, &[usize])] =
            &[("a", "lib", &[]), ("a", "rlib", &[]), ("b", "lib", &[0]), ("b", "lib", &[1])];
        let output = [
            compiled("a", "lib", "deps/liba-1111.rlib"),
            compiled("a", "rlib", "deps/liba-2222.rlib"),
            compiled("b", "lib", "deps/libb-3333.rlib"),
            compiled("b", "lib", "deps/libb-4444.rlib"),
        ]
        .join("\n");
        let fingerprints: &[(&str, u64, &[u64])] =
            &[("a-1111", 1, &[]), ("a-2222", 2, &[]), ("b-3333", 3, &[2]), ("b-4444", 4, &[1])];
        let expected = &[(0, "a-1111"), (1, "a-2222"), (2, "b-4444"), (3, "b-3333")];
        check(units, &output, fingerprints, expected);
        check(units, &output, &[], &expected[..2]);
    }
}
