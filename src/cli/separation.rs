//! User ids for commands, where the user who starts maar has some to give. Comes before the first thread.

use std::path::PathBuf;

use super::args;
use crate::experiment::SandboxKind;
use crate::home::Home;
use crate::sandbox::subordinate::{self, WhyShared};
use crate::toolchain::Toolchain;

/// Gets ids for the commands of a run, if the user has any and the sandbox can use them. Otherwise commands share
/// maar's user, and `maar doctor` prints the reason.
pub(super) fn seek(kind: &SandboxKind, toolchains: &[Toolchain], home: &args::Home) -> anyhow::Result<()> {
    match kind {
        SandboxKind::Native => {
            let _ = enter(toolchains);
        }
        SandboxKind::Docker(_) | SandboxKind::None => {
            // Files that cells of a dead run left belong to ids that this run will not have.
            let home = Home::open(home.folder.clone())?;
            if home.has_leftovers() {
                subordinate::within(|| drop(home.jobs()));
            }
        }
    }
    Ok(())
}

/// Enters a namespace with ids for commands that run with these toolchains.
pub(super) fn enter(toolchains: &[Toolchain]) -> Result<(), WhyShared> {
    let shown: Vec<PathBuf> = toolchains
        .iter()
        .flat_map(|toolchain| {
            let others = [&toolchain.cargo, &toolchain.rustdoc].into_iter().flatten().map(|other| &other.sysroot);
            let of_others = others.flat_map(|other| ["", "bin"].map(|name| other.join(name)));
            let own = ["", "bin", "bin/rustc", "lib"].map(|name| toolchain.sysroot.join(name));
            own.into_iter().chain(of_others).collect::<Vec<_>>()
        })
        .collect();
    subordinate::enter(&shown)
}
