//! Does cargo itself refuse a crate's manifest?
//!
//! A manifest can pass `cargo update` and be refused by `cargo build`, as when the file of an example is missing. What an
//! op printed is no proof of that, because the crate's own code may have printed it. So the question goes to the cargo of
//! every toolchain, on the pristine sources, in a cell where no rustc can run: there cargo's words are its own.

use crate::ops::cell::{self, CellError};
use crate::ops::classify;
use crate::ops::workspace::Workspace;
use crate::ops::{Order, Tools};
use crate::outcome::Breakage;
use crate::sandbox::Usage;

/// cargo's answer.
pub(super) struct Answer {
    /// Why no toolchain's cargo reads the manifest; none if one does.
    pub(super) breakage: Option<Breakage>,
    /// What asking cost.
    pub(super) usage: Usage,
}

/// Asks the cargo of every toolchain, until one reads the manifest.
pub(super) async fn ask(tools: &Tools, workspace: &Workspace, order: &Order<'_>) -> Result<Answer, CellError> {
    let mut answer = Answer { breakage: None, usage: Usage::default() };
    for place in 0..tools.toolchains.len() {
        let exit = cell::without_rustc(tools, workspace, order, place).await?;
        answer.usage = cell::sum(answer.usage, exit.usage);
        answer.breakage = classify::refused_manifest(exit.end, &exit.output).map(Breakage::Manifest);
        if answer.breakage.is_none() {
            break;
        }
    }
    Ok(answer)
}
