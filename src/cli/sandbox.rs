//! The sandbox that an experiment names, ready for use, or why it can't be had.

use anyhow::bail;

use super::doctor;
use crate::experiment::SandboxKind;
use crate::home::Home;
use crate::sandbox::Sandbox;
use crate::sandbox::docker::{self, Docker};
use crate::sandbox::native::{self, Native};
use crate::sandbox::unconfined::Unconfined;

/// Opens it.
pub(super) async fn open(kind: &SandboxKind, home: &Home) -> anyhow::Result<Sandbox> {
    let config = native::Config { locks: Some(home.users()), ..native::Config::default() };
    Ok(match kind {
        SandboxKind::Native => {
            if let Some(why) = doctor::why_no_sandbox(home).await {
                bail!("this host can't make sandboxes:\n{why}");
            }
            Sandbox::Native(Native::new(config))
        }
        SandboxKind::Docker(image) => Sandbox::Docker(Docker::connect(docker::Config::new(image.clone())).await?),
        SandboxKind::None => Sandbox::Unconfined(Unconfined::new(config)),
    })
}
