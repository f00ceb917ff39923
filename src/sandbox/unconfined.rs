//! No sandbox: commands run on the host as maar's own user. For trusted crates only.
//!
//! Limits, output and the death of every process are as in a cell. Files are not kept apart: an overlay is a copy, and
//! the home folder a new one below the cell's own. Nor is the network: an outlet is a port on the host's loopback
//! interface, and nothing makes a command use it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::cgroup::Controller;
use super::helper::protocol::Isolation;
use super::launch::{Launch, Launcher, Opening};
use super::native::Config;
use super::{
    Command, Console, Cores, Exit, HOME, Mount, MountKind, Network, Outlet, SandboxError, Spec, remove_folder,
};
use super::{copy, outlet};
use crate::stop::Stop;

/// Opens cells that are nothing but folders of the host.
#[derive(Debug, Clone)]
pub struct Unconfined {
    launcher: Launcher,
}

/// A cell that is nothing but folders of the host.
#[derive(Debug)]
pub struct UnconfinedCell {
    launcher: Launcher,
    spec: Spec,
    /// What listens for [`Network::Outlet`].
    listener: Option<TcpListener>,
}

impl Unconfined {
    /// The absence of a sandbox.
    pub fn new(config: Config) -> Self {
        Self { launcher: Launcher::new(config.helper) }
    }

    pub(super) fn unenforced(&self, cores: Cores) -> Vec<String> {
        let mut words =
            vec!["no sandbox: crates run with your rights, and see your files, processes and network".to_owned()];
        words.extend(self.launcher.unenforced(&[Controller::Cpu, Controller::Memory, Controller::Pids], cores));
        words
    }

    pub(super) async fn open(&self, spec: Spec) -> Result<UnconfinedCell, SandboxError> {
        for mount in &spec.mounts {
            match mount.what.clone() {
                MountKind::ReadOnly(_) | MountKind::Writable(_) => {}
                MountKind::Overlay { lower, upper, .. } | MountKind::Copy { lower, upper, .. } => {
                    copy::into_empty(lower, upper).await?;
                }
            }
        }
        let home = home(&spec);
        let failed = |doing| {
            let path = home.clone();
            move |source| SandboxError::Path { doing, path, source }
        };
        remove_folder(&home).map_err(failed("remove the home folder of an earlier command,"))?;
        fs::create_dir(&home).map_err(failed("make the home folder"))?;
        let listener = match spec.network {
            Network::Loopback => None,
            Network::Outlet => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(SandboxError::Outlet)?),
        };
        Ok(UnconfinedCell { launcher: self.launcher.clone(), spec, listener })
    }
}

impl UnconfinedCell {
    pub(super) fn path(&self, at: &Path) -> PathBuf {
        match at.strip_prefix(HOME) {
            Ok(rest) if rest.as_os_str().is_empty() => home(&self.spec),
            Ok(rest) => home(&self.spec).join(rest),
            Err(_) => host_path(&self.spec.mounts, at),
        }
    }

    pub(super) fn outlet(&self) -> SocketAddr {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok()).unwrap_or(outlet::ADDRESS)
    }

    pub(super) async fn run(
        &mut self,
        command: &Command,
        stop: &Stop,
        console: Option<&mut Console>,
        outlet: Option<Outlet>,
    ) -> Result<Exit, SandboxError> {
        let outlet = match (&self.listener, outlet) {
            (Some(listener), Some(outlet)) => {
                Some(Opening::Outside(listener.try_clone().map_err(SandboxError::Outlet)?, outlet))
            }
            (_, _) => None,
        };
        let launch = Launch {
            label: &self.spec.label,
            limits: &self.spec.limits,
            after: self.spec.after,
            command,
            isolation: Isolation::None,
            network: self.spec.network,
            user: &self.spec.user,
            writes_to: self.spec.written_folders().collect(),
            stop,
            console,
            live: self.spec.live.as_ref(),
            outlet,
        };
        self.launcher.run(launch).await
    }
}

/// The home folder of commands, which goes with the cell's scratch folder.
fn home(spec: &Spec) -> PathBuf {
    spec.scratch.join("home")
}

/// The host's path of a cell's path `at`.
fn host_path(mounts: &[Mount], at: &Path) -> PathBuf {
    // A later mount lies over an earlier one.
    let found = mounts.iter().rev().find_map(|mount| {
        let rest = at.strip_prefix(&mount.at).ok()?;
        let host = match &mount.what {
            MountKind::ReadOnly(path)
            | MountKind::Writable(path)
            | MountKind::Overlay { upper: path, .. }
            | MountKind::Copy { upper: path, .. } => path,
        };
        Some(if rest.as_os_str().is_empty() { host.clone() } else { host.join(rest) })
    });
    found.unwrap_or_else(|| at.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_what_would_be_mounted_there() {
        let mounts = [
            Mount { at: "/cargo".into(), what: MountKind::ReadOnly("/host/cargo".into()) },
            Mount {
                at: "/src".into(),
                what: MountKind::Overlay { lower: "/l".into(), upper: "/u".into(), work: "/w".into() },
            },
            Mount { at: "/src/target".into(), what: MountKind::Writable("/t".into()) },
        ];
        for (at, expected) in [
            ("/cargo", "/host/cargo"),
            ("/cargo/bin/x", "/host/cargo/bin/x"),
            ("/src/lib.rs", "/u/lib.rs"),
            ("/src/target/debug", "/t/debug"),
            ("/srcs", "/srcs"),
            ("/tmp", "/tmp"),
        ] {
            assert_eq!(host_path(&mounts, Path::new(at)), Path::new(expected), "{at}");
        }
    }
}
