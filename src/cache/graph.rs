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
            let reached = closure(lockfile, place);
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

    /// The name of a package, without its version.
    pub(super) fn name(&self, folder: &str) -> Option<&str> {
        self.packages.get(folder).map(|package| package.name.as_str())
    }

    /// All that a package depends on, itself included.
    pub(super) fn closure(&self, folder: &str) -> Option<&BTreeSet<String>> {
        self.packages.get(folder).map(|package| &package.closure)
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

/// The places of all that a package depends on, itself included.
fn closure(lockfile: &Lockfile, place: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::from([place]);
    let mut ahead = vec![place];
    while let Some(place) = ahead.pop() {
        ahead.extend(lockfile.dependencies[place].iter().copied().filter(|&next| reached.insert(next)));
    }
    reached
}

/// The parts of a manifest that say whether the package runs code when it is compiled.
#[derive(Deserialize)]
struct Manifest {
    #[serde(alias = "project")]
    package: About,
    lib: Option<Lib>,
}

#[derive(Deserialize)]
struct About {
    build: Option<toml::Value>,
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
    let read = || {
        let mut text = String::new();
        File::open(folder.join("Cargo.toml")).ok()?.take(MAX_MANIFEST).read_to_string(&mut text).ok()?;
        toml::from_str::<Manifest>(&text).ok()
    };
    let Some(Manifest { package, lib }) = read() else { return true };
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
        assert!(runs_code(Path::new("/nowhere")));
    }
}
