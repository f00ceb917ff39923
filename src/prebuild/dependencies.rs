//! The units of a command that other crates may share, and the code that runs in a build of each.
//!
//! The rule is an allow-list. A unit runs no code if rustc compiles it to a plain library: `lib` or `rlib`. All others
//! run code: a build script is started, a macro is loaded, and whatever is linked may steer the linker by its
//! attributes, as may every library that goes into it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::unit_graph::{PackageName, RawUnit, Target, UnitGraph};
use crate::cache::{Code, Unit, UnitKey};

/// A command with more packages shares nothing: few crates have a tenth of it, and the closures would take long.
const MAX_PACKAGES: usize = 2000;

/// Why a command shares nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has too many packages.
    #[error("it has more than {MAX_PACKAGES} packages")]
    TooLarge,
    /// A profile names a code generator or flags of its own, which a nightly cargo passes to rustc.
    #[error("a profile of its manifest uses unstable settings (`codegen-backend` or `rustflags`)")]
    UnstableProfile,
}

/// The units of a command that other crates may share.
#[derive(Debug, Clone, Default)]
pub struct Dependencies {
    units: Vec<Unit>,
    /// The contents of cargo's messages for each unit.
    faces: Vec<Face>,
}

/// A unit as cargo's messages show it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Face {
    pub(super) package_id: String,
    pub(super) kind: Kind,
}

/// cargo's action for a unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// It calls rustc.
    Compile {
        target: String,
        kind: Vec<String>,
        features: Vec<String>,
        opt_level: String,
        debuginfo: String,
        is_check: bool,
    },
    /// It runs a build script.
    Run,
}

impl Dependencies {
    /// Derives them from cargo's list of units.
    ///
    /// Leaves out units of packages that aren't the registry's, and units that depend on such.
    ///
    /// # Errors
    /// When nothing of this command may be shared.
    pub fn new(graph: &UnitGraph) -> Result<Self, Refusal> {
        let units = &graph.units;
        let is_unstable = |unit: &RawUnit| {
            ["codegen_backend", "rustflags"].iter().any(|name| {
                let value = unit.profile.get(*name);
                value.is_some_and(|value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()))
            })
        };
        if units.iter().any(is_unstable) {
            return Err(Refusal::UnstableProfile);
        }
        // In this order, a unit comes after all that it needs.
        let mut is_shared = Vec::with_capacity(units.len());
        for unit in units {
            is_shared.push(unit.package.is_some() && unit.needs.iter().all(|&need| is_shared[need]));
        }
        let packages = Packages::new(units, &is_shared)?;
        let mut keys: Vec<UnitKey> = Vec::with_capacity(units.len());
        let mut dependencies = Self::default();
        for (unit, is_shared) in units.iter().zip(is_shared) {
            let needs: Vec<&UnitKey> = unit.needs.iter().map(|&need| &keys[need]).collect();
            let below: Vec<String> = needs.iter().map(ToString::to_string).collect();
            let key = UnitKey::of(&format!("{}\n{}", unit.description, below.join(" ")));
            let needs: BTreeSet<UnitKey> = needs.into_iter().cloned().collect();
            keys.push(key.clone());
            let Some(package) = unit.package.as_ref().filter(|_| is_shared) else { continue };
            dependencies.units.push(Unit { key, package: folder(package), code: packages.code(package), needs });
            dependencies.faces.push(face(unit));
        }
        Ok(dependencies)
    }

    /// The units, each after those that it needs.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// The units that another command compiles, too.
    #[must_use]
    pub fn covered_by(&self, other: &Self) -> usize {
        let theirs: BTreeSet<&UnitKey> = other.units.iter().map(|unit| &unit.key).collect();
        self.units.iter().filter(|unit| theirs.contains(&unit.key)).count()
    }

    pub(super) fn faces(&self) -> impl Iterator<Item = (&Unit, &Face)> {
        self.units.iter().zip(&self.faces)
    }
}

/// `NAME-VERSION`.
fn folder(PackageName { name, version }: &PackageName) -> String {
    format!("{name}-{version}")
}

fn face(unit: &RawUnit) -> Face {
    let text = |name: &str| unit.profile.get(name).map(super::artifacts::plain).unwrap_or_default();
    let kind = if unit.mode == RUN {
        Kind::Run
    } else {
        let mut features = unit.features.clone();
        features.sort();
        Kind::Compile {
            target: unit.target.name.clone(),
            kind: unit.target.kind.clone(),
            features,
            opt_level: text("opt_level"),
            debuginfo: text("debuginfo"),
            is_check: unit.mode == "check",
        }
    };
    Face { package_id: unit.package_id.clone(), kind }
}

/// The mode of a unit that runs a build script.
const RUN: &str = "run-custom-build";

/// Whether a unit is compiled to a plain library, and nothing else happens.
fn is_plain_library(unit: &RawUnit) -> bool {
    let is_plain = |kind: &String| ["lib", "rlib"].contains(&kind.as_str());
    let Target { kind, crate_types, .. } = &unit.target;
    ["build", "check"].contains(&unit.mode.as_str())
        && !crate_types.is_empty()
        && crate_types.iter().all(is_plain)
        && kind.iter().all(is_plain)
}

/// The packages of a command, with the code that runs in a build of each.
struct Packages<'g> {
    code: BTreeMap<&'g PackageName, Arc<Code>>,
}

impl<'g> Packages<'g> {
    fn new(units: &'g [RawUnit], is_shared: &[bool]) -> Result<Self, Refusal> {
        let shared = || units.iter().zip(is_shared).filter(|(_, is_shared)| **is_shared).map(|(unit, _)| unit);
        let mut below: BTreeMap<&PackageName, BTreeSet<&PackageName>> = BTreeMap::new();
        for unit in shared() {
            let Some(package) = &unit.package else { continue };
            below
                .entry(package)
                .or_default()
                .extend(unit.needs.iter().filter_map(|&need| units[need].package.as_ref()));
        }
        if below.len() > MAX_PACKAGES {
            return Err(Refusal::TooLarge);
        }
        // An input of a running program can do the same as the program.
        let mut runs: BTreeMap<&PackageName, Code> = BTreeMap::new();
        for unit in shared().filter(|unit| !is_plain_library(unit)) {
            let Some(package) = &unit.package else { continue };
            let packages = units_below(unit, units).filter_map(|unit| unit.package.as_ref());
            let code = runs.entry(package).or_default();
            code.extend(packages.chain([package]).map(folder));
        }
        let code = below.keys().map(|package| {
            let reached = closure(package, &below);
            (*package, Arc::new(reached.iter().filter_map(|package| runs.get(package)).flatten().cloned().collect()))
        });
        Ok(Self { code: code.collect() })
    }

    fn code(&self, package: &PackageName) -> Arc<Code> {
        self.code.get(package).cloned().unwrap_or_default()
    }
}

/// All units that a unit depends on, directly or not.
fn units_below<'g>(unit: &'g RawUnit, units: &'g [RawUnit]) -> impl Iterator<Item = &'g RawUnit> {
    let (mut reached, mut ahead) = (BTreeSet::new(), unit.needs.clone());
    while let Some(next) = ahead.pop() {
        if reached.insert(next) {
            ahead.extend(&units[next].needs);
        }
    }
    reached.into_iter().map(|place| &units[place])
}

/// All packages that a package depends on, itself included.
fn closure<'g>(
    from: &'g PackageName,
    below: &BTreeMap<&'g PackageName, BTreeSet<&'g PackageName>>,
) -> BTreeSet<&'g PackageName> {
    let (mut reached, mut ahead) = (BTreeSet::from([from]), vec![from]);
    while let Some(next) = ahead.pop() {
        ahead.extend(below.get(next).into_iter().flatten().filter(|&&need| reached.insert(need)));
    }
    reached
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A unit for tests: `NAME KIND [NEEDS…]`, its package being `NAME` of version 1.0.0. A name that begins with `/`
    /// is that of a folder and not of the registry.
    pub(crate) fn graph(units: &[(&str, &str, &[usize])]) -> UnitGraph {
        let unit = |&(name, kind, needs): &(&str, &str, &[usize])| {
            let id = match name.strip_prefix('/') {
                Some(name) => format!("path+file:///{name}#1.0.0"),
                None => format!("registry+https://github.com/rust-lang/crates.io-index#{name}@1.0.0"),
            };
            let level = if kind == "run-otherwise" { "1" } else { "0" };
            let (mode, kind, types) = match kind {
                "script" => ("build", "custom-build", "bin"),
                "run" | "run-otherwise" => (RUN, "custom-build", "bin"),
                kind => ("build", if kind == "bin" { "lib" } else { kind }, kind),
            };
            let needs: Vec<serde_json::Value> = needs.iter().map(|need| serde_json::json!({ "index": need })).collect();
            serde_json::json!({
                "pkg_id": id, "mode": mode, "features": [], "platform": null, "dependencies": needs,
                "target": { "kind": [kind], "crate_types": [types], "name": name },
                "profile": { "opt_level": level, "debuginfo": 0, "codegen_backend": null, "rustflags": [] },
            })
        };
        let units: Vec<serde_json::Value> = units.iter().map(unit).collect();
        UnitGraph::parse(&serde_json::json!({ "version": 1, "units": units, "roots": [] }).to_string()).unwrap()
    }

    /// The code of each package that is shared.
    fn codes(units: &[(&str, &str, &[usize])]) -> BTreeMap<String, Vec<String>> {
        let dependencies = Dependencies::new(&graph(units)).unwrap();
        let code = |unit: &Unit| unit.code.iter().map(|package| package.replace("-1.0.0", "")).collect();
        dependencies.units().iter().map(|unit| (unit.package.replace("-1.0.0", ""), code(unit))).collect()
    }

    fn check(units: &[(&str, &str, &[usize])], expected: &[(&str, &[&str])]) {
        let expected = expected.iter().map(|(package, code)| {
            ((*package).to_owned(), code.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
        });
        assert_eq!(codes(units), expected.collect(), "{units:?}");
    }

    #[test]
    fn only_plain_libraries_run_no_code() {
        for kind in ["lib", "rlib"] {
            check(&[("a", kind, &[])], &[("a", &[])]);
        }
        for kind in ["bin", "dylib", "cdylib", "staticlib", "proc-macro", "script", "run", "whatever comes"] {
            check(&[("a", kind, &[])], &[("a", &["a"])]);
        }
    }

    #[test]
    fn a_package_has_the_code_of_all_that_is_built_below_it_and_of_all_that_goes_into_that() {
        check(
            &[
                ("helper", "lib", &[]),
                ("script", "script", &[0]),
                ("script", "run", &[1]),
                ("script", "lib", &[2]),
                ("plain", "lib", &[]),
                ("user", "lib", &[3, 4]),
            ],
            &[("helper", &[]), ("plain", &[]), ("script", &["helper", "script"]), ("user", &["helper", "script"])],
        );
    }

    #[test]
    fn all_units_of_a_package_have_the_same_code() {
        // The library is built twice, once with a macro.
        check(
            &[("macro", "proc-macro", &[]), ("a", "lib", &[]), ("a", "lib", &[0]), ("user", "lib", &[1])],
            &[("macro", &["macro"]), ("a", &["macro"]), ("user", &["macro"])],
        );
    }

    #[test]
    fn packages_that_need_one_of_no_registry_are_not_shared() {
        check(&[("/own", "run", &[]), ("a", "lib", &[0]), ("b", "lib", &[1]), ("c", "lib", &[])], &[("c", &[])]);
    }

    #[test]
    fn a_key_stands_for_the_unit_and_all_below_it() {
        let keys = |units: &[(&str, &str, &[usize])]| -> Vec<UnitKey> {
            Dependencies::new(&graph(units)).unwrap().units().iter().map(|unit| unit.key.clone()).collect()
        };
        let base = keys(&[("a", "lib", &[]), ("b", "lib", &[0])]);
        assert_eq!(base, keys(&[("a", "lib", &[]), ("b", "lib", &[0]), ("/own", "bin", &[1])]));
        let other = keys(&[("a", "rlib", &[]), ("b", "lib", &[0])]);
        assert!(base[0] != other[0] && base[1] != other[1]);
        assert_ne!(base[1], keys(&[("a", "lib", &[]), ("b", "lib", &[])])[1]);
    }

    #[test]
    fn the_name_of_a_profile_makes_no_other_unit_and_its_settings_do() {
        let key = |name: &str, level: &str| {
            let unit = serde_json::json!({
                "pkg_id": "registry+https://github.com/rust-lang/crates.io-index#a@1.0.0", "mode": "build",
                "features": [], "dependencies": [], "profile": { "name": name, "opt_level": level },
                "target": { "kind": ["lib"], "crate_types": ["lib"], "name": "a" },
            });
            let graph = UnitGraph::parse(&serde_json::json!({ "version": 1, "units": [unit] }).to_string()).unwrap();
            Dependencies::new(&graph).unwrap().units()[0].key.clone()
        };
        assert_eq!(key("dev", "0"), key("test", "0"));
        assert_ne!(key("dev", "0"), key("test", "3"));
    }

    #[test]
    fn a_profile_with_unstable_settings_shares_nothing() {
        for (setting, value) in [("codegen_backend", r#""x""#), ("rustflags", r#"["-Zx"]"#)] {
            let mut graph = graph(&[("a", "lib", &[])]);
            graph.units[0].profile.insert(setting.to_owned(), serde_json::from_str(value).unwrap());
            assert_eq!(Dependencies::new(&graph).unwrap_err(), Refusal::UnstableProfile);
        }
    }
}
