//! The part of a run that belongs to the host and outlives experiments: the folder of jobs, sandboxes, cores and memory.
//!
//! Opened once by a process, which may then run many experiments on it. Knows none of them.

use bytesize::ByteSize;
use tokio::sync::Mutex;

use super::error::SessionError;
use crate::cache::Layers;
use crate::experiment::{Caching, Experiment, SandboxKind};
use crate::home::{Home, HomeError, Jobs};
use crate::host;
use crate::ops::{self, Tools};
use crate::registry::{self, Access, AsOf, Gate, Registry, Upstream};
use crate::sandbox::Sandbox;
use crate::sandbox::docker::{self, Docker};
use crate::sandbox::native::{self, Native};
use crate::sandbox::probe::{self, Check, Status};
use crate::sandbox::unconfined::Unconfined;
use crate::toolchain::Toolchain;

/// The part of this host that every run of this process shares.
#[derive(Debug)]
pub struct Bench {
    home: Home,
    jobs: Jobs,
    access: Access,
    cores: usize,
    memory: Option<ByteSize>,
    /// Those that were opened. Each experiment names one kind, and few of them name a kind of their own.
    sandboxes: Mutex<Vec<(SandboxKind, Sandbox)>>,
}

impl Bench {
    /// Makes the folder of this process's jobs, and removes those of processes that died.
    ///
    /// # Errors
    /// The home can't be written to.
    pub fn open(home: Home, access: Access) -> Result<Self, HomeError> {
        let jobs = home.jobs()?;
        let sandboxes = Mutex::default();
        Ok(Self { home, jobs, access, cores: host::cores(), memory: host::memory(), sandboxes })
    }

    /// maar's folder.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The folder of this process's jobs.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// How many cores the host has.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// How much memory the host has; `None` where it can't tell.
    pub fn memory(&self) -> Option<ByteSize> {
        self.memory
    }

    /// The sandbox of a kind, opened the first time that an experiment names it.
    ///
    /// # Errors
    /// This host can't make sandboxes of that kind.
    pub async fn sandbox(&self, kind: &SandboxKind) -> Result<Sandbox, SessionError> {
        let mut opened = self.sandboxes.lock().await;
        if let Some((_, sandbox)) = opened.iter().find(|(of, _)| of == kind) {
            return Ok(sandbox.clone());
        }
        let sandbox = self.open_sandbox(kind).await?;
        opened.push((kind.clone(), sandbox.clone()));
        Ok(sandbox)
    }

    async fn open_sandbox(&self, kind: &SandboxKind) -> Result<Sandbox, SessionError> {
        let config = native::Config { locks: Some(self.home.users()), ..native::Config::default() };
        Ok(match kind {
            SandboxKind::Native => {
                let native = Native::new(config);
                let mut failed = probe::probe(&native, self.home.dir()).await;
                failed.retain(|check| check.status == Status::Fail);
                if !failed.is_empty() {
                    return Err(SessionError::NoSandbox(failed));
                }
                Sandbox::Native(native)
            }
            SandboxKind::Docker(image) => Sandbox::Docker(Docker::connect(docker::Config::new(image.clone())).await?),
            SandboxKind::None => Sandbox::Unconfined(Unconfined::new(config)),
        })
    }

    /// The registry that the user's cargo is configured for, as of a moment. Each experiment has one of its own, so that
    /// all of its crates see one snapshot of the index.
    ///
    /// # Errors
    /// cargo's configuration or the cache can't be read.
    pub fn registry(&self, as_of: Option<AsOf>) -> Result<Registry, SessionError> {
        let upstream = Upstream::configured()?;
        let config = registry::Config { upstream, cache: self.home.cache(), access: self.access };
        Ok(Registry::open_as_of(config, as_of)?)
    }

    /// The layers of compiled dependencies that the crates of an experiment share.
    ///
    /// # Errors
    /// The cache can't be read.
    pub fn layers(
        &self,
        experiment: &Experiment,
        sandbox: &Sandbox,
        toolchains: &[Toolchain],
    ) -> Result<Vec<Layers>, SessionError> {
        match experiment.cache {
            Caching::On => {
                let index = Upstream::configured()?.index;
                Ok(ops::layers(&self.home.layers(), sandbox, index.as_str(), toolchains)?)
            }
            Caching::Off => Ok(Vec::new()),
        }
    }

    /// The tools for the ops of an experiment.
    pub fn tools(
        &self,
        experiment: &Experiment,
        sandbox: Sandbox,
        registry: Registry,
        toolchains: Vec<Toolchain>,
        layers: Vec<Layers>,
    ) -> Tools {
        let gate = Gate::new(registry.clone(), &experiment.allow_hosts);
        Tools { sandbox, registry, gate, toolchains, layers, cargo_bin: registry::cargo_bin() }
    }
}

/// Checks of the host that failed, one below the other.
pub(super) fn in_lines(failed: &[Check]) -> String {
    let line = |Check { name, status: _, detail, remedy }: &Check| {
        let remedy = remedy.iter().map(|remedy| format!("\n      {:12} {remedy}", "")).collect::<String>();
        format!("FAIL  {name:<12} {detail}{remedy}\n")
    };
    failed.iter().map(line).collect()
}
