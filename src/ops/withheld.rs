//! The parts of an author's machine that a cell lacks, and the failures that may result.
//!
//! `prepare` notes what it leaves out; a failure's own words decide which of it a reason names. Names causes, and never
//! changes whether a crate failed.

use std::path::{Path, PathBuf};

use crate::krate::Origin;
use crate::ops::LockfileMode;
use crate::ops::classify::plain_text;
use crate::outcome::{Breakage, Cause, Failure, Outcome, Withheld};
use crate::sandbox::{Door, Found, Output};

/// How large a configuration or manifest may be that is looked into, in bytes.
const MAX_READ: u64 = 1 << 20;

/// What `prepare` left out of a crate's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    source: Source,
    /// Configuration of cargo's that can change a build.
    configs: Vec<String>,
    /// Files that choose a toolchain.
    toolchains: Vec<String>,
    git: Git,
    /// Links that lead out of the folder, and entries that aren't files.
    links: Vec<PathBuf>,
    lockfile: Shipped,
    /// The manifest's text.
    manifest: String,
}

/// Where the sources came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Source {
    #[default]
    Registry,
    /// A folder of the user's, with surroundings that are not copied.
    Folder,
}

/// Whether the crate lies in a repository whose `.git` is not copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Git {
    #[default]
    Nothing,
    LeftOut,
}

/// Whether the crate has a lockfile of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Shipped {
    #[default]
    Nothing,
    /// One that is in the way of the newest dependencies.
    LeftOut,
}

impl LeftOut {
    /// Looks into a crate's folder before the `redirecting` files are removed from it.
    pub(crate) fn look(
        source: &Door,
        origin: &Origin,
        mode: LockfileMode,
        redirecting: &[&str],
        links: Vec<PathBuf>,
    ) -> Self {
        let read = |name: &str| source.read(Path::new(name), MAX_READ).ok();
        let text = |name: &str| read(name).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let there =
            redirecting.iter().filter(|name| !matches!(source.look(Path::new(name)), Ok(Found::Nothing) | Err(_)));
        let (toolchains, configs): (Vec<&str>, Vec<&str>) = there.partition(|name| name.starts_with("rust-toolchain"));
        let configs = configs.into_iter().filter(|name| changes_builds(&text(name))).map(str::to_owned);
        let has_git = |dir: &Path| dir.ancestors().any(|dir| dir.join(".git").exists());
        let git = match origin {
            Origin::Path { dir, .. }
                if has_git(dir) && matches!(source.look(Path::new(".git")), Ok(Found::Nothing)) =>
            {
                Git::LeftOut
            }
            Origin::Path { .. }
            | Origin::Registry { .. }
            | Origin::Missing(_)
            | Origin::Unusable(_)
            | Origin::Skipped { .. }
            | Origin::Unavailable(_) => Git::Nothing,
        };
        let lockfile = match (mode, read("Cargo.lock")) {
            (LockfileMode::Latest, Some(_)) => Shipped::LeftOut,
            (LockfileMode::Latest, None) | (LockfileMode::Packaged, _) => Shipped::Nothing,
        };
        Self {
            source: if matches!(origin, Origin::Path { .. }) { Source::Folder } else { Source::Registry },
            configs: configs.collect(),
            toolchains: toolchains.into_iter().map(str::to_owned).collect(),
            git,
            links,
            lockfile,
            manifest: text("Cargo.toml"),
        }
    }

    /// The outcome, with a reason that also names its likely cause.
    pub(crate) fn annotate(&self, outcome: Outcome, output: &Output) -> Outcome {
        match outcome {
            Outcome::Failed(failure) => {
                let withheld = self.suspects_of(&failure, &plain_text(output));
                Outcome::Failed(match withheld.is_empty() {
                    true => failure,
                    false => Failure::Without { failure: Box::new(failure), withheld },
                })
            }
            Outcome::Broken(breakage) => self.annotate_broken(breakage, &plain_text(output)),
            Outcome::Passed | Outcome::Inconclusive(_) | Outcome::Skipped | Outcome::Error(_) => outcome,
        }
    }

    fn suspects_of(&self, failure: &Failure, text: &str) -> Vec<Withheld> {
        let mut suspects = self.configs();
        match failure {
            Failure::Compile { .. } | Failure::BuildScript { .. } | Failure::Cargo(_) => {
                suspects.extend(self.toolchains.iter().cloned().map(Withheld::File));
            }
            Failure::Tests { .. }
            | Failure::Target { .. }
            | Failure::Exit(_)
            | Failure::Signal(_)
            | Failure::Without { .. } => {}
        }
        if self.git == Git::LeftOut && has_word(text, "git") {
            suspects.push(Withheld::Git);
        }
        suspects.extend(self.links_in(text));
        if NO_NETWORK.iter().any(|words| text.contains(words)) {
            suspects.push(Withheld::Network);
        }
        if text.contains("no such command: `+") || has_word(text, "rustup") {
            suspects.push(Withheld::Rustup);
        }
        if CROSSES_DEVICES.iter().any(|words| text.contains(words)) {
            suspects.push(Withheld::Renames);
        }
        suspects
    }

    fn annotate_broken(&self, breakage: Breakage, text: &str) -> Outcome {
        if self.source == Source::Folder
            && let Breakage::MissingDependency(name) = &breakage
            && let Some(path) = outside_dependency(&self.manifest, name)
        {
            return Outcome::Inconclusive(Cause::Refused(format!(
                "dependency `{name}` is at `{path}`, outside the crate's folder, and maar copies only that folder"
            )));
        }
        if self.lockfile == Shipped::LeftOut
            && let Breakage::Unresolvable(why) = &breakage
            && text.contains(" is yanked")
        {
            let hint = "the crate's own Cargo.lock may still work: set `lockfile = \"packaged\"`";
            return Outcome::Broken(Breakage::Unresolvable(format!("{why}; {hint}")));
        }
        let mut withheld = self.configs();
        if self.source == Source::Folder && has_word(text, "workspace") && needs_workspace(&self.manifest) {
            withheld.push(Withheld::Workspace);
        }
        withheld.extend(self.links_in(text));
        Outcome::Broken(match withheld.is_empty() {
            true => breakage,
            false => Breakage::Without { breakage: Box::new(breakage), withheld },
        })
    }

    fn configs(&self) -> Vec<Withheld> {
        self.configs.iter().cloned().map(Withheld::File).collect()
    }

    /// The links that a text names.
    fn links_in(&self, text: &str) -> impl Iterator<Item = Withheld> {
        let named = self.links.iter().filter(|link| link.to_str().is_some_and(|link| text.contains(link)));
        named.map(|link| Withheld::Link(crate::printable::one_line(&link.display().to_string())))
    }
}

/// What programs print that find no network.
const NO_NETWORK: [&str; 6] = [
    "Could not resolve host",
    "Network is unreachable",
    "Name or service not known",
    "Temporary failure in name resolution",
    "dns error",
    "failed to lookup address information",
];

/// Rust's words for EXDEV.
const CROSSES_DEVICES: [&str; 2] = ["Invalid cross-device link (os error 18)", "kind: CrossesDevices"];

/// Whether a text has a word, and not only as a part of others.
fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|found| found == word)
}

/// Whether a configuration of cargo's says how something is built. One that doesn't parse may.
fn changes_builds(config: &str) -> bool {
    const BUILDS: [&str; 11] =
        ["build", "env", "host", "patch", "paths", "profile", "registries", "registry", "source", "target", "unstable"];
    match config.parse::<toml::Table>() {
        Ok(table) => table.keys().any(|key| BUILDS.contains(&key.as_str())),
        Err(_) => true,
    }
}

/// Whether a manifest takes anything from a workspace that is not its own.
fn needs_workspace(manifest: &str) -> bool {
    fn inherits(value: &toml::Value) -> bool {
        match value {
            toml::Value::Table(table) => {
                table.get("workspace").is_some_and(|value| value.as_bool() == Some(true) || value.is_str())
                    || table.values().any(inherits)
            }
            toml::Value::Array(values) => values.iter().any(inherits),
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_) => false,
        }
    }
    manifest.parse::<toml::Table>().is_ok_and(|table| inherits(&toml::Value::Table(table)))
}

/// The path of a dependency, if the manifest names one that leads out of the crate's folder.
fn outside_dependency(manifest: &str, name: &str) -> Option<String> {
    fn find(table: &toml::Table, name: &str) -> Option<String> {
        table.iter().find_map(|(key, value)| {
            let value = value.as_table()?;
            let is_it = key == name || value.get("package").and_then(toml::Value::as_str) == Some(name);
            let path = value.get("path").and_then(toml::Value::as_str);
            path.filter(|path| is_it && leads_outside(path)).map(str::to_owned).or_else(|| find(value, name))
        })
    }
    let path = find(&manifest.parse().ok()?, name)?;
    Some(crate::printable::one_line(&path))
}

fn leads_outside(path: &str) -> bool {
    use std::path::Component;

    let mut depth = 0_i32;
    for part in Path::new(path).components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth -= 1,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return true,
        }
        if depth < 0 {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Part;

    fn output(text: &str) -> Output {
        Output { head: text.as_bytes().to_vec(), ..Output::default() }
    }

    fn compile() -> Outcome {
        Outcome::Failed(Failure::Compile { part: Part::Crate, codes: Vec::new(), first: None })
    }

    /// What maar left out of a folder of the user's that has everything.
    fn everything() -> LeftOut {
        LeftOut {
            source: Source::Folder,
            configs: vec![".cargo/config.toml".to_owned()],
            toolchains: vec!["rust-toolchain".to_owned()],
            git: Git::LeftOut,
            links: vec!["data/shared.txt".into()],
            lockfile: Shipped::LeftOut,
            manifest:
                "[package]\nname = \"a\"\nedition.workspace = true\n[dev-dependencies]\nb = { path = \"../b\" }\n\
                       [target.'cfg(unix)'.dependencies]\nc = { package = \"real\", path = \"x/../../c\" }\n\
                       [dependencies]\ninside = { path = \"x/../y\" }\n"
                    .to_owned(),
        }
    }

    fn reason(outcome: Outcome, text: &str) -> String {
        everything().annotate(outcome, &output(text)).reason().unwrap()
    }

    #[test]
    fn a_reason_names_what_was_left_out_if_the_output_speaks_of_it() {
        for (text, expected) in [
            ("", "does not compile (not in the cell: `.cargo/config.toml`, `rust-toolchain`)"),
            (
                "fatal: not a git repository",
                "does not compile (not in the cell: `.cargo/config.toml`, `rust-toolchain`, `.git`)",
            ),
            // A word that only contains it.
            ("digit legit", "does not compile (not in the cell: `.cargo/config.toml`, `rust-toolchain`)"),
            (
                "couldn't read `data/shared.txt`",
                "does not compile (not in the cell: `.cargo/config.toml`, `rust-toolchain`, \
                 the link `data/shared.txt` out of the folder)",
            ),
            (
                "curl: (6) Could not resolve host: x",
                "does not compile (not in the cell: `.cargo/config.toml`, `rust-toolchain`, the network)",
            ),
            (
                "error: no such command: `+nightly`",
                "does not compile (not in the cell: `.cargo/config.toml`, `rust-toolchain`, rustup and `cargo +TOOLCHAIN`)",
            ),
            (
                "Os { code: 18, kind: CrossesDevices, message: \"..\" }",
                "does not compile (not in the cell: `.cargo/config.toml`, `rust-toolchain`, \
                 some renames, between two file systems)",
            ),
        ] {
            assert_eq!(reason(compile(), text), expected, "{text}");
        }
    }

    #[test]
    fn nothing_is_named_that_was_not_left_out() {
        let outcome = LeftOut::default().annotate(compile(), &output("fatal: not a git repository"));
        assert_eq!(outcome, compile());
    }

    #[test]
    fn limits_and_passes_stay_what_they_are() {
        for outcome in [Outcome::Passed, Outcome::Inconclusive(Cause::OutOfDisk)] {
            assert_eq!(everything().annotate(outcome.clone(), &output("git")), outcome);
        }
    }

    #[test]
    fn a_dependency_outside_the_folder_is_a_restriction_and_not_a_broken_crate() {
        let missing = |name: &str| Outcome::Broken(Breakage::MissingDependency(name.to_owned()));
        for (name, path) in [("b", "../b"), ("c", "x/../../c"), ("real", "x/../../c")] {
            let expected = format!(
                "dependency `{name}` is at `{path}`, outside the crate's folder, and maar copies only that folder"
            );
            let outcome = everything().annotate(missing(name), &output(""));
            assert_eq!(outcome, Outcome::Inconclusive(Cause::Refused(expected)));
        }
        let inside = everything().annotate(missing("inside"), &output(""));
        assert_eq!(
            inside.reason().unwrap(),
            "dependency `inside` does not exist (not in the cell: `.cargo/config.toml`)"
        );
        let published = LeftOut { source: Source::Registry, configs: Vec::new(), ..everything() };
        assert_eq!(published.annotate(missing("b"), &output("")), missing("b"));
    }

    #[test]
    fn a_yanked_dependency_points_at_the_lockfile_that_the_crate_ships() {
        let yanked = || Outcome::Broken(Breakage::Unresolvable("every version that fits is yanked".to_owned()));
        let text = "error: failed\n  version 0.4.0 is yanked\n";
        let expected = "dependencies can't be resolved: every version that fits is yanked; \
                        the crate's own Cargo.lock may still work: set `lockfile = \"packaged\"`";
        assert_eq!(reason(yanked(), text), expected);
        assert_eq!(LeftOut::default().annotate(yanked(), &output(text)), yanked());
    }

    #[test]
    fn a_workspace_above_is_named_where_the_manifest_needs_it() {
        let inherits = Outcome::Broken(Breakage::Manifest("failed to find a workspace root".to_owned()));
        let expected = "bad manifest: failed to find a workspace root \
                        (not in the cell: `.cargo/config.toml`, the workspace above the folder)";
        assert_eq!(reason(inherits.clone(), "failed to find a workspace root"), expected);
        let alone = LeftOut { manifest: "[package]\nname = \"a\"\n".to_owned(), configs: Vec::new(), ..everything() };
        assert_eq!(alone.annotate(inherits.clone(), &output("failed to find a workspace root")), inherits);
    }

    #[test]
    fn a_configuration_that_builds_nothing_is_not_named() {
        for (config, expected) in [
            ("[alias]\nb = \"build\"\n[term]\nquiet = true\n", false),
            ("[build]\nrustflags = []\n", true),
            ("[target.x86_64-unknown-linux-gnu]\nlinker = \"x\"\n", true),
            ("[registries.mine]\nindex = \"x\"\n", true),
            ("not toml", true),
        ] {
            assert_eq!(changes_builds(config), expected, "{config}");
        }
    }
}
