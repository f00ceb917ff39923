//! Whose code runs while a package is compiled: read off a lockfile and the manifests of its packages.
//!
//! Errs on the side of code that doesn't run: optional dependencies and those of other platforms count. Says nothing
//! of units, which only cargo knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::registry::lockfile::{Locked, Lockfile};

/// Packages whose build scripts or macros run when something is compiled, as `NAME-VERSION`.
pub type Code = BTreeSet<String>;

/// The registry packages of a lockfile that need nothing but registry packages.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    packages: BTreeMap<String, Package>,
}

#[derive(Debug, Clone)]
struct Package {
    /// What cargo begins the names of its units with.
    name: String,
    /// All it depends on, itself included.
    closure: BTreeSet<String>,
    /// Those of `closure` that run code.
    code: Code,
}

/// Packages that are shared together or not at all.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group<'g> {
    pub(super) names: Vec<&'g str>,
    /// As `NAME-VERSION`.
    pub(super) packages: BTreeSet<String>,
}

/// A lockfile with more packages is left alone: few crates have a tenth of it, and the closures would take long.
const MAX_PACKAGES: usize = 2000;

/// The largest manifest that is looked at, in bytes.
const MAX_MANIFEST: u64 = 4 << 20;

impl Graph {
    /// Reads the packages of a lockfile, which are in `vendor` as `NAME-VERSION`.
    pub fn new(lockfile: &Lockfile, vendor: &Path) -> Self {
        if lockfile.packages.len() > MAX_PACKAGES {
            return Self::default();
        }
        let runs_code = |(folder, _): &(String, String)| runs_code(&vendor.join(folder));
        Self::with(lockfile, runs_code)
    }

    fn with(lockfile: &Lockfile, runs_code: impl Fn(&(String, String)) -> bool) -> Self {
        let folders: Vec<Option<(String, String)>> = lockfile.packages.iter().map(folder_and_name).collect();
        let code: Vec<bool> = folders.iter().map(|folder| folder.as_ref().is_some_and(&runs_code)).collect();
        let package = |place: usize| {
            let (folder, name) = folders[place].clone()?;
            let reached = closure(place, |place| lockfile.dependencies[place].iter().copied());
            let closure = reached.iter().map(|&place| Some(folders[place].as_ref()?.0.clone()));
            // One package that is no registry's, and the rest is nobody else's to reuse.
            let closure = closure.collect::<Option<BTreeSet<String>>>()?;
            let code = reached.iter().filter(|&&place| code[place]).filter_map(|&place| folders[place].clone());
            Some((folder, Package { name, closure, code: code.map(|(folder, _)| folder).collect() }))
        };
        Self { packages: (0..folders.len()).filter_map(package).collect() }
    }

    /// Whether there is nothing that could be shared.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    /// The packages with exactly this code, each as `NAME-VERSION`.
    pub fn with_code<'a>(&'a self, code: &'a Code) -> impl Iterator<Item = &'a str> {
        self.packages.iter().filter(move |(_, package)| package.code == *code).map(|(folder, _)| folder.as_str())
    }

    /// The code of a package; `None`: the lockfile has no such package, or it needs others than the registry's.
    pub fn code(&self, folder: &str) -> Option<&Code> {
        self.packages.get(folder).map(|package| &package.code)
    }

    /// All that a package depends on, itself included.
    pub(super) fn closure(&self, folder: &str) -> Option<&BTreeSet<String>> {
        self.packages.get(folder).map(|package| &package.closure)
    }

    /// The packages with exactly this code and a name that is wanted, each group after all that it needs.
    ///
    /// All versions of a name are in one group, as cargo's names of units have no version, and so are names whose versions
    /// need each other's, such as `a-2`, which needs `b`, which needs `a-1`.
    pub(super) fn groups(&self, code: &Code, is_wanted: impl Fn(&str) -> bool) -> Vec<Group<'_>> {
        let wanted = self.packages.iter().filter(|(_, package)| package.code == *code && is_wanted(&package.name));
        let name_of: BTreeMap<&str, &str> = wanted.map(|(folder, package)| (folder.as_str(), &*package.name)).collect();
        let mut needs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (folder, name) in &name_of {
            let below = self.packages[*folder].closure.iter().filter_map(|below| name_of.get(below.as_str()));
            needs.entry(name).or_default().extend(below);
        }
        let reached = |name| closure(name, |name| needs[name].iter().copied());
        let reach: BTreeMap<&str, BTreeSet<&str>> = needs.keys().map(|name| (*name, reached(*name))).collect();
        // What a name needs reaches less, unless it needs that name in turn.
        let mut names: Vec<&str> = reach.keys().copied().collect();
        names.sort_by_key(|name| reach[name].len());
        let mut grouped = BTreeSet::new();
        let mut groups = Vec::new();
        for name in names {
            let mates = reach[name].iter().copied().filter(|mate| reach[mate].contains(name));
            let names: Vec<&str> = mates.filter(|mate| grouped.insert(*mate)).collect();
            if !names.is_empty() {
                let packages = name_of.iter().filter(|(_, name)| names.contains(name));
                let packages = packages.map(|(folder, _)| (*folder).to_owned()).collect();
                groups.push(Group { names, packages });
            }
        }
        groups
    }

    /// The names of all packages, some more than once.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.packages.values().map(|package| package.name.as_str())
    }

    /// All packages, as `NAME-VERSION`.
    pub(super) fn folders(&self) -> impl Iterator<Item = &str> {
        self.packages.keys().map(String::as_str)
    }
}

fn folder_and_name(locked: &Locked) -> Option<(String, String)> {
    match locked {
        Locked::Registry { name, version, .. } => Some((format!("{name}-{version}"), name.to_string())),
        Locked::Foreign { .. } | Locked::Local { .. } => None,
    }
}

/// All that something needs, and what that needs, itself included.
fn closure<T: Copy + Ord, N: IntoIterator<Item = T>>(from: T, needs: impl Fn(T) -> N) -> BTreeSet<T> {
    let (mut reached, mut ahead) = (BTreeSet::from([from]), vec![from]);
    while let Some(next) = ahead.pop() {
        ahead.extend(needs(next).into_iter().filter(|&need| reached.insert(need)));
    }
    reached
}

/// The parts of a manifest that say whether the package runs code when it is compiled.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Manifest {
    #[serde(alias = "project")]
    package: About,
    lib: Option<Lib>,
    /// Unstable features, which only a nightly cargo knows: `metabuild`, `profile-rustflags`, whatever comes.
    #[serde(alias = "cargo_features")]
    cargo_features: Option<toml::Value>,
}

#[derive(Deserialize)]
struct About {
    build: Option<toml::Value>,
    /// Where another manifest is that has the last word on how everything is compiled.
    workspace: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Lib {
    #[serde(default, alias = "proc_macro")]
    proc_macro: bool,
    #[serde(default, alias = "crate_type")]
    crate_type: Option<toml::Value>,
    #[serde(default)]
    plugin: bool,
}

/// Whether a package has a build script, is a macro, or needs a linker. What can't be understood runs code.
fn runs_code(folder: &Path) -> bool {
    let Some(Manifest { package, lib, cargo_features: None }) = Manifest::read(&folder.join("Cargo.toml")) else {
        return true;
    };
    let has_script = match package.build {
        Some(build) => build != toml::Value::Boolean(false),
        None => folder.join("build.rs").exists(),
    };
    let is_loaded_or_linked = lib.is_some_and(|lib| {
        // Written as a text or a list. Linkers, which `dylib` and `cdylib` start, can be told to load plugins.
        let runs = |types: toml::Value| ["proc-macro", "dylib"].iter().any(|kind| types.to_string().contains(kind));
        lib.proc_macro || lib.plugin || lib.crate_type.is_some_and(runs)
    });
    has_script || is_loaded_or_linked
}

/// Whether the manifest of a crate leaves it to cargo how the dependencies are compiled, as far as code can come of it: on a
/// nightly, a profile can name a code generator that rustc loads. What can't be understood doesn't.
pub fn compiles_as_usual(manifest: &str) -> bool {
    toml::from_str::<Manifest>(manifest)
        .is_ok_and(|manifest| manifest.cargo_features.is_none() && manifest.package.workspace.is_none())
}

impl Manifest {
    /// `None`: it can't be read or understood, or is too long for that.
    fn read(path: &Path) -> Option<Self> {
        let mut text = String::new();
        let length = File::open(path).ok()?.take(MAX_MANIFEST + 1).read_to_string(&mut text).ok()?;
        // What isn't read could say anything.
        if length as u64 > MAX_MANIFEST { None } else { toml::from_str(&text).ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
        package = [
            { name = "me", version = "0.1.0", dependencies = ["derive", "plain", "tainted"] },
            { name = "plain", version = "1.0.0", source = "REGISTRY" },
            { name = "script", version = "1.0.0", source = "REGISTRY", dependencies = ["plain"] },
            { name = "derive", version = "1.0.0", source = "REGISTRY", dependencies = ["script"] },
            { name = "tainted", version = "1.0.0", source = "REGISTRY", dependencies = ["patched"] },
            { name = "patched", version = "1.0.0" },
        ]
    "#;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_package_has_the_code_of_all_it_depends_on() {
        let text = LOCK.replace("REGISTRY", &format!("registry+{}", crates_index::git::URL));
        let lockfile = Lockfile::parse(&text, Path::new("Cargo.lock")).unwrap();
        let graph = Graph::with(&lockfile, |(folder, _)| ["script-1.0.0", "derive-1.0.0"].contains(&folder.as_str()));
        assert_eq!(graph.code("plain-1.0.0"), Some(&set(&[])));
        assert_eq!(graph.code("script-1.0.0"), Some(&set(&["script-1.0.0"])));
        assert_eq!(graph.code("derive-1.0.0"), Some(&set(&["derive-1.0.0", "script-1.0.0"])));
        assert_eq!(graph.closure("script-1.0.0"), Some(&set(&["plain-1.0.0", "script-1.0.0"])));
        // What needs a patched package is as particular to this crate as the patch itself.
        assert_eq!(graph.code("tainted-1.0.0"), None);
        assert_eq!(graph.code("me-0.1.0"), None);
    }

    #[test]
    fn what_a_group_needs_comes_before_it() {
        let check = |packages: &[(&str, &[&str])], expected: &[&[&str]]| {
            let mut text = String::new();
            for (folder, needs) in packages {
                let (name, version) = folder.split_once('-').unwrap();
                let needs: Vec<String> = needs.iter().map(|need| need.replace('-', " ")).collect();
                let source = format!("registry+{}", crates_index::git::URL);
                text += &format!(
                    "[[package]]\nname = {name:?}\nversion = {version:?}\nsource = {source:?}\ndependencies = {needs:?}\n"
                );
            }
            let lockfile = Lockfile::parse(&text, Path::new("Cargo.lock")).unwrap();
            let graph = Graph::with(&lockfile, |_| false);
            let code = Code::new();
            let groups: Vec<Vec<&str>> =
                graph.groups(&code, |name| name != "unwanted").into_iter().map(|group| group.names).collect();
            assert_eq!(groups, expected, "{packages:?}");
        };
        check(&[("a-1.0.0", &["b-1.0.0"]), ("b-1.0.0", &[])], &[&["b"], &["a"]]);
        // The older version needs nothing, but the newer one does.
        check(&[("a-1.0.0", &[]), ("a-2.0.0", &["b-1.0.0"]), ("b-1.0.0", &[])], &[&["b"], &["a"]]);
        check(&[("a-1.0.0", &[]), ("a-2.0.0", &["b-1.0.0"]), ("b-1.0.0", &["a-1.0.0"])], &[&["a", "b"]]);
        // What `a` needs of `b` needs nothing, but another version of `b` needs `c`.
        check(
            &[("a-1.0.0", &["b-1.0.0"]), ("b-1.0.0", &[]), ("b-2.0.0", &["c-1.0.0"]), ("c-1.0.0", &[])],
            &[&["c"], &["b"], &["a"]],
        );
        check(&[("a-1.0.0", &[]), ("unwanted-1.0.0", &["a-1.0.0"])], &[&["a"]]);
    }

    #[test]
    fn whatever_may_run_when_it_is_compiled_runs_code() {
        let check = |manifest: &str, build_rs: Option<&str>, expected: bool| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
            if let Some(text) = build_rs {
                std::fs::write(dir.path().join("build.rs"), text).unwrap();
            }
            assert_eq!(runs_code(dir.path()), expected, "{manifest}");
        };
        check("[package]\nname = 'a'", None, false);
        check("[package]\nname = 'a'\n[lib]\npath = 'x.rs'\ncrate-type = ['lib']", None, false);
        check("[package]\nname = 'a'", Some("fn main() {}"), true);
        check("[package]\nname = 'a'\nbuild = false", Some("fn main() {}"), false);
        check("[package]\nbuild = 'x.rs'", None, true);
        check("[package]\nbuild = ['x.rs', 'y.rs']", None, true);
        check("[project]\nbuild = 'x.rs'", None, true);
        check("[package]\n[lib]\nproc-macro = true", None, true);
        check("[package]\n[lib]\nproc_macro = true", None, true);
        check("[package]\n[lib]\ncrate-type = ['proc-macro']", None, true);
        check("[package]\n[lib]\ncrate_type = 'proc-macro'", None, true);
        check("[package]\n[lib]\ncrate-type = ['cdylib', 'rlib']", None, true);
        check("[package", None, true);
        check("cargo-features = ['metabuild']\n[package]\nmetabuild = 'x'", None, true);
        check("'cargo\\u002dfeatures' = []\n[package]", None, false);
        check("\"cargo\\u002dfeatures\" = []\n[package]", None, true);
        // What cargo reads behind what is looked at.
        let long = format!("[package]\nname = 'a'\n{}build = 'x.rs'", "#\n".repeat(MAX_MANIFEST as usize / 2));
        check(&long, None, true);
        assert!(runs_code(Path::new("/nowhere")));
    }

    #[test]
    fn a_crate_that_has_a_say_in_how_others_are_compiled_is_known() {
        for (manifest, expected) in [
            ("[package]\nname = 'a'\n[profile.dev]\nopt-level = 1\n[workspace]", true),
            ("cargo-features = ['profile-rustflags']\n[package]\n[profile.dev]\nrustflags = ['-Zx']", false),
            ("[package]\nworkspace = 'sub'", false),
            ("[package", false),
        ] {
            assert_eq!(compiles_as_usual(manifest), expected, "{manifest}");
        }
    }
}
