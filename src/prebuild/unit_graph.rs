//! Cargo's own list of the units of a command, as `--unit-graph` prints it:
//! <https://doc.rust-lang.org/cargo/reference/unstable.html#unit-graph>.
//!
//! Reads it into plain data, each unit after the units that it depends on. Draws no conclusions.

use serde::Deserialize;
use serde_json::{Map, Value};

/// The packages of the registry whose packages may be shared: cargo names its mirror like this, too.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// How many units a list may have: more than the largest workspaces.
const MAX_UNITS: usize = 20_000;

/// The units of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitGraph {
    /// Each after all that it depends on.
    pub(super) units: Vec<RawUnit>,
}

/// Why a list of units can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadUnitGraph {
    /// It isn't the JSON that maar knows.
    #[error("cargo's unit graph can't be read: {0}")]
    Json(#[from] serde_json::Error),
    /// It has a version that maar doesn't know.
    #[error("cargo's unit graph has version {0}, and maar knows only 1")]
    Version(u64),
    /// It is larger than that of any known crate.
    #[error("cargo's unit graph has {0} units, more than the {MAX_UNITS} that maar reads")]
    TooLarge(usize),
    /// A dependency that isn't in the list, or a unit that depends on itself.
    #[error("cargo's unit graph is not a graph without circles")]
    NotAGraph,
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawUnit {
    /// The identity of its package, as cargo spells it.
    pub(super) package_id: String,
    /// Its package; `None` if that isn't the registry's.
    pub(super) package: Option<PackageName>,
    pub(super) target: Target,
    pub(super) profile: Map<String, Value>,
    pub(super) mode: String,
    pub(super) features: Vec<String>,
    /// The places of the units that it depends on.
    pub(super) needs: Vec<usize>,
    /// All that cargo says of it, dependencies excepted, and of how it uses each dependency.
    pub(super) description: String,
}

/// Name and version of a package of the registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PackageName {
    pub(super) name: String,
    pub(super) version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Target {
    pub(super) kind: Vec<String>,
    pub(super) crate_types: Vec<String>,
    pub(super) name: String,
}

#[derive(Deserialize)]
struct Answer {
    version: u64,
    units: Vec<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Known {
    pkg_id: String,
    target: Target,
    profile: Map<String, Value>,
    mode: String,
    features: Vec<String>,
    dependencies: Vec<Map<String, Value>>,
}

/// The line of a command's output that is a unit graph.
pub fn find(output: &str) -> Option<&str> {
    output.lines().map(str::trim).find(|line| line.starts_with("{\"version\":"))
}

impl UnitGraph {
    /// Reads cargo's answer.
    ///
    /// # Errors
    /// When it has another form than maar knows.
    pub fn parse(text: &str) -> Result<Self, BadUnitGraph> {
        let Answer { version, units } = serde_json::from_str(text)?;
        if version != 1 {
            return Err(BadUnitGraph::Version(version));
        }
        if units.len() > MAX_UNITS {
            return Err(BadUnitGraph::TooLarge(units.len()));
        }
        let units = units.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { units: sorted(units)? })
    }
}

fn read(mut unit: Map<String, Value>) -> Result<RawUnit, BadUnitGraph> {
    let Known { pkg_id, target, profile, mode, features, dependencies } =
        serde_json::from_value(Value::Object(unit.clone()))?;
    let mut needs = Vec::new();
    let mut uses = Vec::new();
    for mut dependency in dependencies {
        let index = dependency.remove("index").and_then(|index| index.as_u64()).ok_or(BadUnitGraph::NotAGraph)?;
        needs.push(usize::try_from(index).map_err(|_| BadUnitGraph::NotAGraph)?);
        uses.push(Value::Object(dependency));
    }
    unit.insert("dependencies".to_owned(), Value::Array(uses));
    // Cargo compiles the same unit for two profiles that differ in their names alone.
    if let Some(profile) = unit.get_mut("profile").and_then(Value::as_object_mut) {
        profile.remove("name");
    }
    let package = package(&pkg_id);
    let description = Value::Object(unit).to_string();
    Ok(RawUnit { package_id: pkg_id, package, target, profile, mode, features, needs, description })
}

/// `registry+URL#NAME@VERSION`, or `NAME VERSION (registry+URL)` before cargo 1.77.
fn package(id: &str) -> Option<PackageName> {
    let (name, version) = match id.strip_prefix(REGISTRY).and_then(|rest| rest.strip_prefix('#')) {
        Some(package) => package.split_once('@')?,
        None => id.strip_suffix(&format!(" ({REGISTRY})"))?.split_once(' ')?,
    };
    // Both become part of a path.
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte));
    (is_plain(name) && is_plain(version)).then(|| PackageName { name: name.to_owned(), version: version.to_owned() })
}

/// Puts each unit after those that it depends on.
fn sorted(units: Vec<RawUnit>) -> Result<Vec<RawUnit>, BadUnitGraph> {
    let mut waiting: Vec<usize> = units.iter().map(|unit| unit.needs.len()).collect();
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); units.len()];
    for (place, unit) in units.iter().enumerate() {
        for &need in &unit.needs {
            users.get_mut(need).ok_or(BadUnitGraph::NotAGraph)?.push(place);
        }
    }
    let mut order: Vec<usize> = (0..units.len()).filter(|&place| waiting[place] == 0).collect();
    let mut next = 0;
    while let Some(&place) = order.get(next) {
        for &user in &users[place] {
            waiting[user] -= 1;
            if waiting[user] == 0 {
                order.push(user);
            }
        }
        next += 1;
    }
    if order.len() != units.len() {
        return Err(BadUnitGraph::NotAGraph);
    }
    let mut place_of = vec![0; units.len()];
    order.iter().enumerate().for_each(|(new, &old)| place_of[old] = new);
    let mut units: Vec<Option<RawUnit>> = units.into_iter().map(Some).collect();
    let moved = order.iter().filter_map(|&old| units[old].take());
    let renamed = moved.map(|mut unit| {
        unit.needs.iter_mut().for_each(|need| *need = place_of[*need]);
        unit
    });
    Ok(renamed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_the_registry_are_known_in_both_spellings() {
        let url = "https://github.com/rust-lang/crates.io-index";
        for (id, expected) in [
            (format!("registry+{url}#serde@1.0.1"), Some("serde 1.0.1")),
            (format!("serde 1.0.1+x (registry+{url})"), Some("serde 1.0.1+x")),
            ("path+file:///crate#0.1.0".to_owned(), None),
            ("serde 1.0.1 (path+file:///crate)".to_owned(), None),
            ("registry+https://elsewhere.example/index#serde@1.0.1".to_owned(), None),
            (format!("git+{url}#serde@1.0.1"), None),
            (format!("registry+{url}#../x@1.0.1"), None),
            (format!("registry+{url}#a@1' | '"), None),
        ] {
            let found = package(&id).map(|PackageName { name, version }| format!("{name} {version}"));
            assert_eq!(found.as_deref(), expected, "{id}");
        }
    }

    #[test]
    fn a_unit_comes_after_those_that_it_depends_on() {
        let unit = |name: &str, needs: &[usize]| {
            let needs: Vec<String> = needs.iter().map(|need| format!("{{\"index\":{need}}}")).collect();
            format!(
                "{{\"pkg_id\":\"{name}\",\"target\":{{\"kind\":[],\"crate_types\":[],\"name\":\"x\"}},\"profile\":{{}},\
                 \"mode\":\"build\",\"features\":[],\"dependencies\":[{}]}}",
                needs.join(",")
            )
        };
        let graph = |units: &[String]| UnitGraph::parse(&format!("{{\"version\":1,\"units\":[{}]}}", units.join(",")));
        let parsed = graph(&[unit("a", &[1, 2]), unit("b", &[2]), unit("c", &[])]).unwrap();
        let found: Vec<(&str, &[usize])> =
            parsed.units.iter().map(|unit| (unit.package_id.as_str(), unit.needs.as_slice())).collect();
        assert_eq!(found, [("c", &[][..]), ("b", &[0]), ("a", &[1, 0])]);
        assert!(matches!(graph(&[unit("a", &[1]), unit("b", &[0])]), Err(BadUnitGraph::NotAGraph)));
        assert!(matches!(graph(&[unit("a", &[7])]), Err(BadUnitGraph::NotAGraph)));
        assert!(matches!(UnitGraph::parse("{\"version\":2,\"units\":[]}"), Err(BadUnitGraph::Version(2))));
    }

    #[test]
    fn the_answer_is_found_between_other_lines() {
        assert_eq!(find("warning: x\r\n{\"version\":1,\"units\":[]}\r\n"), Some("{\"version\":1,\"units\":[]}"));
        assert_eq!(find("error: no\n"), None);
    }
}
