//! Packages of a lockfile that can't be used: they decide the verdict only if the build needs them, as with cargo, which
//! looks at no other.
//!
//! Cargo loads every package of a directory source. So each that it refuses gets a stand-in, and cargo says at last which
//! packages it needs. Costs nothing where all packages are there and surely load.

use std::collections::BTreeMap;

use super::{Clock, PrepareError, Transcript, cell, classify, newest, plain_text};
use crate::ops::{Order, Tools, Workspace};
use crate::outcome::{Breakage, Outcome};
use crate::registry::Vendored;
use crate::registry::lockfile::Lockfile;
use crate::sandbox::End;
use crate::toolchain::Toolchain;

/// How many packages get a stand-in because cargo refuses them: each takes a cargo command to find.
const MOST: usize = 32;

/// Which of a toolchain's unusable packages the build needs.
#[derive(Default)]
struct Needed {
    /// By the package itself.
    always: Option<Outcome>,
    /// By its tests, examples and benches.
    for_tests: Option<Outcome>,
}

/// Gives stand-ins to packages that can't be used. Returns the outcome of the crate if it needs one of them.
pub(super) async fn settle(
    tools: &Tools,
    workspace: &Workspace,
    clock: &Clock<'_>,
    lockfile: &Lockfile,
    vendored: Vendored,
    transcript: &mut Transcript,
) -> Result<Option<Outcome>, PrepareError> {
    let Vendored { mut unusable, in_doubt } = vendored;
    let is_in_doubt =
        |toolchain: &Toolchain| in_doubt.iter().any(|doubt| !doubt.is_settled_for(toolchain.cargo_version()));
    let newest = newest(tools);
    // Of their rustcs, `prepare` runs none.
    if unusable.is_empty() && !tools.toolchains.iter().any(is_in_doubt) {
        return Ok(None);
    }
    let work = Work { tools, workspace, clock, lockfile };
    let needed = Box::pin(work.stand_in(newest, &mut unusable, transcript)).await?;
    if let Some(outcome) = needed.always {
        return Ok(Some(outcome));
    }
    if let Some(outcome) = needed.for_tests {
        workspace.note_unusable_tests(&outcome).map_err(super::at("write", &workspace.cargo()))?;
    }
    for older in tools
        .toolchains
        .iter()
        .filter(|toolchain| toolchain.cargo_path() != newest.cargo_path() && is_in_doubt(toolchain))
    {
        let mut also = BTreeMap::new();
        let needed = Box::pin(work.stand_in(older, &mut also, transcript)).await?;
        // What a newer cargo loads and the build needs is this toolchain's own failure, which its ops will show.
        if needed.always.is_some() || needed.for_tests.is_some() {
            let vendor = workspace.vendor();
            for folder in also.keys() {
                clock.within(async { Ok(tools.registry.relink(lockfile, folder, &vendor).await?) }).await?;
            }
        }
    }
    Ok(None)
}

struct Work<'a> {
    tools: &'a Tools,
    workspace: &'a Workspace,
    clock: &'a Clock<'a>,
    lockfile: &'a Lockfile,
}

impl Work<'_> {
    /// Has a toolchain's cargo load all packages, with a stand-in for each that it refuses, which is added to `unusable`.
    async fn stand_in(
        &self,
        toolchain: &Toolchain,
        unusable: &mut BTreeMap<String, Outcome>,
        transcript: &mut Transcript,
    ) -> Result<Needed, PrepareError> {
        let Self { tools, workspace, clock, lockfile } = self;
        for _ in 0..MOST {
            let (end, text, outcome) = Box::pin(self.tree(toolchain, &[], transcript)).await?;
            if end == End::Code(0) {
                return Box::pin(self.needed(toolchain, unusable, &text, transcript)).await;
            }
            // A cargo that fails for another reason, or has no such command, fails in the ops too.
            let Some(folder) = tools.registry.named_in(lockfile, &text) else { break };
            if unusable.contains_key(&folder) {
                break;
            }
            let reason = match outcome {
                Some(Outcome::Broken(Breakage::Manifest(reason))) => reason,
                Some(other) => other.reason().unwrap_or_default(),
                None => return Err(PrepareError::Stopped),
            };
            let vendor = workspace.vendor();
            clock.within(async { Ok(tools.registry.stand_in(lockfile, &folder, &vendor, &reason).await?) }).await?;
            let reason = format!("dependency {folder}: {reason}");
            unusable.insert(folder, Outcome::Broken(Breakage::Manifest(reason)));
        }
        Ok(Needed::default())
    }

    /// Which of the packages that have a stand-in are in cargo's `tree`.
    async fn needed(
        &self,
        toolchain: &Toolchain,
        unusable: &BTreeMap<String, Outcome>,
        tree: &str,
        transcript: &mut Transcript,
    ) -> Result<Needed, PrepareError> {
        let in_tree = |tree: &str| {
            let found =
                unusable.iter().find(|(folder, _)| tree.lines().any(|line| folder_of(line) == Some((*folder).clone())));
            found.map(|(_, outcome)| outcome.clone())
        };
        let Some(for_tests) = in_tree(tree) else { return Ok(Needed::default()) };
        let (_, tree, _) = Box::pin(self.tree(toolchain, &["--edges", "no-dev"], transcript)).await?;
        Ok(match in_tree(&tree) {
            Some(always) => Needed { always: Some(always), for_tests: None },
            None => Needed { always: None, for_tests: Some(for_tests) },
        })
    }

    /// The packages that the build needs on this platform with its features, a line each; or cargo's refusal, judged.
    async fn tree(
        &self,
        toolchain: &Toolchain,
        edges: &[&str],
        transcript: &mut Transcript,
    ) -> Result<(End, String, Option<Outcome>), PrepareError> {
        let order: Order<'_> = self.clock.rest()?;
        let words = ["cargo", "tree", "--frozen", "--prefix", "none", "--format", "{p}"];
        let argv = words.iter().chain(edges).map(|&word| word.to_owned()).chain(order.features.flags()).collect();
        let source = self.workspace.source();
        let (exit, denials) =
            Box::pin(cell::resolve(self.tools, self.workspace, &order, (toolchain, &source), argv)).await?;
        let text = plain_text(&exit.output);
        let outcome = classify::of_resolution(exit.end, &exit.output, &denials, &order.limits);
        let end = exit.end;
        // A list of packages is of no interest to anybody.
        if end != End::Code(0) {
            transcript.append(exit);
        }
        Ok((end, text, outcome))
    }
}

/// The folder of a package in a line such as `serde v1.0.0 (proc-macro)`: `serde-1.0.0`.
fn folder_of(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    Some(format!("{name}-{version}"))
}
