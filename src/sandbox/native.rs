//! The default back end: every command in new namespaces, with a private root and cgroups. Needs no daemon.
//!
//! The helper sets up the inside. This is the side that stays outside.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::cgroup::{Cgroups, Controller};
use super::helper::protocol::{Identity, Isolation, Namespaces};
use super::id_map;
use super::launch::{Launch, Launcher, Opening};
use super::users::Users;
use super::{Command, Console, Cores, Exit, Mount, MountKind, Outlet, SandboxError, Spec, User, copy, remove_folder};
use crate::stop::Stop;

/// The configuration of a native sandbox.
#[derive(Debug, Clone)]
pub struct Config {
    /// The program that serves as helper: maar itself, whose `main` calls [`super::helper_main_if_asked`].
    pub helper: PathBuf,
    /// A folder for locks on user ids, used in a user namespace where neither `/run` nor `$XDG_RUNTIME_DIR` can hold
    /// them.
    pub locks: Option<PathBuf>,
}

/// Opens cells that are namespaces.
#[derive(Debug, Clone)]
pub struct Native {
    launcher: Launcher,
    users: Users,
}

/// A cell made of namespaces, which are created for each command from the same spec.
#[derive(Debug)]
pub struct NativeCell {
    sandbox: Native,
    spec: Spec,
    /// The mount point of the cell's root.
    root: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self { helper: PathBuf::from("/proc/self/exe"), locks: None }
    }
}

impl Native {
    /// A sandbox for this process's user. Its cgroups are removed when it and all its cells are dropped, which
    /// `std::process::exit` doesn't do. Whether the host allows namespaces is found out when the first command runs.
    pub fn new(config: Config) -> Self {
        Self { launcher: Launcher::new(config.helper), users: Users::find(config.locks.as_deref()) }
    }

    /// As [`new`](Self::new), but without cgroups, as on a host that lacks them: shows their cost.
    pub fn without_cgroups(config: Config) -> Self {
        Self { launcher: Launcher::with(Cgroups::none(), config.helper), users: Users::find(config.locks.as_deref()) }
    }

    pub(super) fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    pub(super) fn user(&self) -> User {
        self.users.lease()
    }

    pub(super) fn unenforced(&self, cores: Cores) -> Vec<String> {
        // The kernel counts the processes of the cell's own user namespace even without a controller.
        let mut unenforced = self.launcher.unenforced(&[Controller::Cpu, Controller::Memory], cores);
        unenforced.extend(self.users.unenforced());
        unenforced
    }

    pub(super) async fn open(&self, mut spec: Spec) -> Result<NativeCell, SandboxError> {
        // The kernel lets only root's overlays rename a folder of a lower layer: a copy has no lower layer.
        if !id_map::is_initial() || matches!(self.users.identity(&spec.user), Identity::Rootless(_)) {
            for mount in &mut spec.mounts {
                copy_if_small(mount, &spec.scratch).await?;
            }
        }
        let root = spec.scratch.join("root");
        fs::create_dir(&root).map_err(|source| SandboxError::Path {
            doing: "make the cell's folder",
            path: root.clone(),
            source,
        })?;
        Ok(NativeCell { sandbox: self.clone(), spec, root })
    }
}

/// Fills the upper folder of a small [`MountKind::Copy`], and puts an empty folder below it.
async fn copy_if_small(mount: &mut Mount, scratch: &Path) -> Result<(), SandboxError> {
    let MountKind::Copy { lower, upper, work } = mount.what.clone() else { return Ok(()) };
    if !copy::small_into_empty(lower, upper.clone()).await? {
        return Ok(());
    }
    let nothing = scratch.join("nothing");
    let doing = "make the folder below a copy,";
    fs::create_dir_all(&nothing).map_err(|source| SandboxError::Path { doing, path: nothing.clone(), source })?;
    mount.what = MountKind::Overlay { lower: nothing, upper, work };
    Ok(())
}

impl NativeCell {
    pub(super) async fn run(
        &mut self,
        command: &Command,
        stop: &Stop,
        console: Option<&mut Console>,
        outlet: Option<Outlet>,
    ) -> Result<Exit, SandboxError> {
        let Spec { label, limits, mounts, network, user, after, live, .. } = &self.spec;
        let namespaces = Namespaces {
            identity: self.sandbox.users.identity(user),
            roots: self.sandbox.users.roots(),
            root: self.root.clone(),
            mounts: mounts.clone(),
            memory: self.spec.private_space(),
        };
        let launch = Launch {
            label,
            limits,
            after: *after,
            command,
            isolation: Isolation::Namespaces(namespaces),
            network: *network,
            user,
            writes_to: self.spec.written_folders().collect(),
            stop,
            console,
            live: live.as_ref(),
            outlet: outlet.map(Opening::Inside),
        };
        self.sandbox.launcher.run(launch).await
    }

    pub(super) fn close(mut self) -> Result<(), SandboxError> {
        self.clean()
    }

    /// Removes what mounting left behind on the host. The mounts themselves went with the command.
    fn clean(&mut self) -> Result<(), SandboxError> {
        let failed = |doing, path: PathBuf| move |source| SandboxError::Path { doing, path, source };
        for mount in &self.spec.mounts {
            let (MountKind::Overlay { work, .. } | MountKind::Copy { work, .. }) = &mount.what else { continue };
            // overlayfs makes folders without any permission, so that not even their owner can remove them.
            for entry in fs::read_dir(work).map_err(failed("read", work.clone()))?.flatten() {
                let path = entry.path();
                remove_folder(&path).map_err(failed("remove", path))?;
            }
        }
        for folder in [self.root.clone(), self.spec.scratch.join("nothing")] {
            match fs::remove_dir(&folder) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", folder)(source));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for NativeCell {
    fn drop(&mut self) {
        // A caller that wants the error calls `close`. Cleaning twice does no harm.
        let _ = self.clean();
    }
}
