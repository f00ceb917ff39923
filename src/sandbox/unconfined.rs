//! No sandbox: commands run on the host as maar's own user. For trusted crates only.
//!
//! Limits, output and the death of every process are as in a cell. Files are not kept apart: an overlay is a copy. Nor is
//! the network: an outlet is a port of the host's loopback, and nothing makes a command use it.

use std::fs::{self, File, FileTimes};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::cgroup::Controller;
use super::helper::protocol::Isolation;
use super::launch::{Launch, Launcher, Opening};
use super::native::Config;
use super::outlet;
use super::{Command, Console, Cores, Exit, Mount, MountKind, Network, Outlet, SandboxError, Spec};
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
    /// A sandbox that is none.
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
            let MountKind::Overlay { lower, upper, .. } = mount.what.clone() else { continue };
            let copied = tokio::task::spawn_blocking(move || copy_into_empty(&lower, &upper)).await;
            copied.unwrap_or_else(|error| {
                Err(SandboxError::Path { doing: "copy to", path: mount.at.clone(), source: io::Error::other(error) })
            })?;
        }
        let listener = match spec.network {
            Network::Loopback => None,
            Network::Outlet => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(SandboxError::Outlet)?),
        };
        Ok(UnconfinedCell { launcher: self.launcher.clone(), spec, listener })
    }
}

impl UnconfinedCell {
    pub(super) fn path(&self, at: &Path) -> PathBuf {
        host_path(&self.spec.mounts, at)
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
            owner: None,
            writes_to: self.spec.written_folders().collect(),
            stop,
            console,
            outlet,
        };
        self.launcher.run(launch).await
    }
}

/// Where the host has what a cell would have at `at`.
fn host_path(mounts: &[Mount], at: &Path) -> PathBuf {
    // A later mount lies over an earlier one.
    let found = mounts.iter().rev().find_map(|mount| {
        let rest = at.strip_prefix(&mount.at).ok()?;
        let host = match &mount.what {
            MountKind::ReadOnly(path) | MountKind::Writable(path) | MountKind::Overlay { upper: path, .. } => path,
        };
        Some(if rest.as_os_str().is_empty() { host.clone() } else { host.join(rest) })
    });
    found.unwrap_or_else(|| at.to_owned())
}

/// Copies a folder, unless something is there from an earlier cell.
fn copy_into_empty(from: &Path, to: &Path) -> Result<(), SandboxError> {
    let failed = |source| SandboxError::Path { doing: "copy to", path: to.to_owned(), source };
    if fs::read_dir(to).map_err(failed)?.next().is_none() { copy_folder(from, to) } else { Ok(()) }
}

/// Copies what is in a folder, with permissions and times: cargo compares times.
fn copy_folder(from: &Path, to: &Path) -> Result<(), SandboxError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SandboxError::Path { doing: "copy", path, source }
    };
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let entry = entry.map_err(failed(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(failed(&source))?;
        if kind.is_symlink() {
            fs::read_link(&source)
                .and_then(|link| std::os::unix::fs::symlink(link, &target))
                .map_err(failed(&source))?;
            continue;
        }
        if kind.is_dir() {
            fs::create_dir(&target).map_err(failed(&target))?;
            copy_folder(&source, &target)?;
            let permissions = entry.metadata().map_err(failed(&source))?.permissions();
            fs::set_permissions(&target, permissions).map_err(failed(&target))?;
        } else if kind.is_file() {
            fs::copy(&source, &target).map_err(failed(&source))?;
        } else {
            // Devices, pipes and sockets are no sources of anything.
            continue;
        }
        let times = entry.metadata().and_then(|metadata| metadata.modified()).map_err(failed(&source))?;
        File::open(&target)
            .and_then(|file| file.set_times(FileTimes::new().set_modified(times)))
            .map_err(failed(&target))?;
    }
    Ok(())
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

    #[test]
    fn an_overlay_is_copied_once_with_links_and_times() {
        let dir = tempfile::tempdir().unwrap();
        let (lower, upper) = (dir.path().join("lower"), dir.path().join("upper"));
        fs::create_dir_all(lower.join("src")).unwrap();
        fs::create_dir(&upper).unwrap();
        fs::write(lower.join("src/lib.rs"), "1").unwrap();
        std::os::unix::fs::symlink("nowhere", lower.join("link")).unwrap();
        copy_into_empty(&lower, &upper).unwrap();
        let modified = |path: PathBuf| fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(modified(lower.join("src/lib.rs")), modified(upper.join("src/lib.rs")));
        assert_eq!(fs::read_link(upper.join("link")).unwrap(), Path::new("nowhere"));

        fs::write(upper.join("src/lib.rs"), "2").unwrap();
        copy_into_empty(&lower, &upper).unwrap();
        assert_eq!(fs::read_to_string(upper.join("src/lib.rs")).unwrap(), "2");
        assert_eq!(fs::read_to_string(lower.join("src/lib.rs")).unwrap(), "1");
    }
}
