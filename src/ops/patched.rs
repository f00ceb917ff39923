//! The lockfiles of toolchains with patches: that of all toolchains, changed as little as each patch needs.
//!
//! All toolchains share what `prepare` resolves. For one with patches, cargo then takes this lockfile and the patches,
//! so that the patched packages, and what only they need, are the one difference. The lockfile also proves that a patch
//! is in the build: a package that it replaces has the registry as its source no longer. Where it isn't, no op runs
//! with that toolchain: a pass would say nothing about the patch.

use std::path::Path;

use super::cell;
use super::prepare::{Clock, PrepareError, Transcript};
use super::{classify, workspace};
use crate::krate::series;
use crate::ops::{Tools, Workspace};
use crate::outcome::{Cause, Outcome};
use crate::registry::lockfile::{Locked, Lockfile};
use crate::sandbox::Door;
use crate::toolchain::{Patch, Patched};

/// How a patch stands in a lockfile.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// A package comes from it.
    Used,
    /// Nothing depends on a package of that name.
    Absent,
    /// Something does, on these versions, which the registry has.
    Unused(Vec<semver::Version>),
}

/// The result of the patches of one toolchain.
pub(super) enum Resolved {
    /// They are in the build, by this lockfile.
    Patched(Lockfile),
    /// They are not, and this is the outcome of all ops.
    Unpatched(Outcome),
}

/// Makes the lockfile in the sources of a toolchain with patches, which begin with that of all toolchains, `shared`.
/// `saved`: the lockfile is that of an earlier run.
///
/// # Errors
/// Those of `prepare`.
pub(super) async fn resolve(
    (tools, workspace, clock): (&Tools, &Workspace, &Clock<'_>),
    place: usize,
    shared: &Lockfile,
    saved: bool,
    transcript: &mut Transcript,
) -> Result<Resolved, PrepareError> {
    let toolchain = &tools.toolchains[place];
    let work = Work { tools, workspace, clock, place };
    if !saved {
        let refused = Box::pin(work.cargo(&["update", "--workspace"], transcript)).await?;
        if let Some(outcome) = refused {
            return Ok(Resolved::Unpatched(outcome));
        }
    }
    let mut lockfile = work.lockfile()?;
    if !saved {
        // Cargo keeps a version that is locked, although a patch has another that fits as well.
        for (name, locked, version) in to_move(&toolchain.patches, shared, &lockfile) {
            let spec = format!("{name}@{locked}");
            let argv = ["update", "--package", &spec, "--precise", &version.to_string()];
            // A refusal leaves the patch unused, which is found below.
            let refused = Box::pin(work.cargo(&argv, transcript)).await?;
            if refused.is_none() {
                lockfile = work.lockfile()?;
            }
        }
    }
    let standings: Vec<(&Patch, Standing)> =
        toolchain.patches.iter().map(|patch| (patch, standing(patch, shared, &lockfile))).collect();
    for (patch, standing) in &standings {
        transcript.note(&format!("maar: {}: {}", toolchain.label(), in_words(patch, standing)));
    }
    let unused = standings.iter().find(|(_, standing)| matches!(standing, Standing::Unused(_)));
    let is_any_used = standings.iter().any(|(_, standing)| *standing == Standing::Used);
    Ok(match (unused, is_any_used) {
        (Some((patch, standing)), _) => Resolved::Unpatched(unpatched(in_words(patch, standing))),
        (None, false) => {
            let words: Vec<String> = standings.iter().map(|(patch, standing)| in_words(patch, standing)).collect();
            Resolved::Unpatched(unpatched(words.join("; ")))
        }
        (None, true) => Resolved::Patched(lockfile),
    })
}

/// Fetches the packages of a toolchain's lockfile that come from git repositories. Returns cargo's refusal; `None`: all
/// is there.
pub(super) async fn fetch(
    (tools, workspace, clock): (&Tools, &Workspace, &Clock<'_>),
    place: usize,
    transcript: &mut Transcript,
) -> Result<Option<Outcome>, PrepareError> {
    Box::pin(Work { tools, workspace, clock, place }.cargo(&["fetch", "--locked"], transcript)).await
}

pub(super) fn unpatched(why: String) -> Outcome {
    Outcome::Inconclusive(Cause::Unpatched(why))
}

struct Work<'a> {
    tools: &'a Tools,
    workspace: &'a Workspace,
    clock: &'a Clock<'a>,
    place: usize,
}

impl Work<'_> {
    /// Runs cargo with the patches on the toolchain's own sources. Returns its refusal, judged; `None`: it did it.
    async fn cargo(&self, args: &[&str], transcript: &mut Transcript) -> Result<Option<Outcome>, PrepareError> {
        let Self { tools, workspace, clock, place } = self;
        let order = clock.rest()?;
        let argv = ["cargo"].iter().chain(args).map(|&word| word.to_owned()).collect();
        let source = workspace.patched_source(*place);
        let toolchain = &tools.toolchains[*place];
        let run = cell::resolve(tools, workspace, &order, (toolchain, &source), argv);
        let (exit, denials) = Box::pin(run).await?;
        let outcome = classify::of_resolution(exit.end, &exit.output, &denials, &order.limits);
        transcript.append(exit);
        match outcome {
            Some(Outcome::Passed) => Ok(None),
            Some(Outcome::Broken(breakage)) => Ok(Some(unpatched(format!("cargo refuses the patch: {breakage}")))),
            Some(Outcome::Failed(failure)) => Ok(Some(unpatched(format!("cargo refuses the patch: {failure}")))),
            Some(other) => Ok(Some(other)),
            None => Err(PrepareError::Stopped),
        }
    }

    fn lockfile(&self) -> Result<Lockfile, PrepareError> {
        let source = self.workspace.patched_source(self.place);
        let text = workspace::read_below(&source, Path::new("Cargo.lock"))
            .map_err(super::prepare::at("read", &source.join("Cargo.lock")))?;
        Ok(Lockfile::parse(&text, Path::new("Cargo.lock"))?)
    }
}

/// Writes a lockfile into the sources of a toolchain.
pub(super) fn write(workspace: &Workspace, place: usize, text: &[u8]) -> Result<(), PrepareError> {
    let source = workspace.patched_source(place);
    let path = source.join("Cargo.lock");
    let failed = || super::prepare::at("write", &path);
    let door = Door::open(&source).map_err(failed())?;
    door.remove(Path::new("Cargo.lock")).map_err(failed())?;
    door.write("Cargo.lock", text, workspace.owner()).map_err(failed())
}

/// How many packages of this name come from no registry, and their versions.
fn from_elsewhere<'l>(patch: &'l Patch, lockfile: &'l Lockfile) -> impl Iterator<Item = &'l Locked> {
    lockfile.packages.iter().filter(|locked| match (locked, &patch.source) {
        (Locked::Local { name, .. }, Patched::Folder { .. }) => *name == patch.name,
        (Locked::Foreign { name, origin, .. }, Patched::Git { url, .. }) => {
            *name == patch.name && origin.strip_prefix("git+").is_some_and(|origin| origin.starts_with(url.as_str()))
        }
        (Locked::Registry { .. } | Locked::Local { .. } | Locked::Foreign { .. }, _) => false,
    })
}

/// The versions of the registry's that a lockfile has of a package.
fn of_registry<'l>(name: &'l str, lockfile: &'l Lockfile) -> impl Iterator<Item = &'l semver::Version> {
    lockfile.packages.iter().filter_map(move |locked| match locked {
        Locked::Registry { name: of, version, .. } if of.as_str() == name => Some(version),
        Locked::Registry { .. } | Locked::Local { .. } | Locked::Foreign { .. } => None,
    })
}

fn standing(patch: &Patch, shared: &Lockfile, lockfile: &Lockfile) -> Standing {
    // The crate itself may have the name.
    if from_elsewhere(patch, lockfile).count() > from_elsewhere(patch, shared).count() {
        return Standing::Used;
    }
    let versions: Vec<_> = of_registry(&patch.name, lockfile).cloned().collect();
    if versions.is_empty() { Standing::Absent } else { Standing::Unused(versions) }
}

/// The locked packages that a patch of another, compatible version could replace: name, locked version, the patch's.
fn to_move<'p>(
    patches: &'p [Patch],
    shared: &Lockfile,
    lockfile: &Lockfile,
) -> Vec<(&'p str, semver::Version, &'p semver::Version)> {
    let mut moves = Vec::new();
    for patch in patches.iter().filter(|patch| standing(patch, shared, lockfile) != Standing::Used) {
        let Patched::Folder { version, .. } = &patch.source else { continue };
        let fitting = of_registry(&patch.name, lockfile).filter(|locked| series(locked) == series(version));
        moves.extend(fitting.map(|locked| (patch.name.as_str(), locked.clone(), version)));
    }
    moves
}

fn in_words(patch: &Patch, standing: &Standing) -> String {
    let Patch { name, source } = patch;
    let what = match source {
        Patched::Git { url, rev } => format!("{url}#{rev}"),
        Patched::Folder { version, .. } => version.to_string(),
    };
    match standing {
        Standing::Used => format!("patch `{name}` ({what}) is in the build"),
        Standing::Absent => format!("patch `{name}` is not in the build: no dependency has that name"),
        Standing::Unused(versions) => {
            let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
            format!(
                "patch `{name}` ({what}) is not in the build: the requirements lead to {} of the registry",
                versions.join(" and ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "version = 4\n[[package]]\nname = \"app\"\nversion = \"1.0.0\"\ndependencies = [\"dep\"]\n";

    fn lockfile(dep: &str) -> Lockfile {
        let registry = format!("registry+{}", crates_index::git::URL);
        let text = format!("{LOCK}{}", dep.replace("REGISTRY", &format!("source = \"{registry}\"")));
        Lockfile::parse(&text, Path::new("Cargo.lock")).unwrap()
    }

    fn patch(version: &str) -> Patch {
        let (root, digest) = ("/p".into(), String::new());
        let source = Patched::Folder { root, member: "".into(), version: version.parse().unwrap(), digest, copy: None };
        Patch { name: "dep".to_owned(), source }
    }

    #[test]
    fn a_lockfile_shows_whether_a_patch_is_in_the_build() {
        let of_registry = lockfile("[[package]]\nname = \"dep\"\nversion = \"1.2.0\"\nREGISTRY\n");
        let local = lockfile("[[package]]\nname = \"dep\"\nversion = \"1.3.0\"\n");
        let none = lockfile("");
        let patch = patch("1.3.0");
        let shown = |lockfile| in_words(&patch, &standing(&patch, &of_registry, lockfile));
        assert_eq!(shown(&local), "patch `dep` (1.3.0) is in the build");
        assert_eq!(
            shown(&of_registry),
            "patch `dep` (1.3.0) is not in the build: the requirements lead to 1.2.0 of the registry"
        );
        assert_eq!(shown(&none), "patch `dep` is not in the build: no dependency has that name");
        // A crate of that name is not the patch.
        assert_eq!(standing(&patch, &local, &local), Standing::Absent);
    }

    #[test]
    fn only_a_compatible_version_is_moved_to_the_patch() {
        let shared = lockfile("[[package]]\nname = \"dep\"\nversion = \"1.2.0\"\nREGISTRY\n");
        let moved = |version: &str| to_move(&[patch(version)], &shared, &shared).len();
        assert_eq!((moved("1.3.0"), moved("1.1.0"), moved("2.0.0")), (1, 1, 0));
        for (one, other, expected) in [("0.1.2", "0.1.9", true), ("0.1.2", "0.2.0", false), ("0.0.1", "0.0.2", false)] {
            let [one, other] = [one, other].map(|text| text.parse().unwrap());
            assert_eq!(series(&one) == series(&other), expected, "{one} {other}");
        }
    }
}
