//! The default back end: every command in namespaces, a root and cgroups of its own. Needs no daemon.
//!
//! What is set up inside is the helper's business. This is the side that stays outside.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::cgroup::{Cgroups, Controller};
use super::helper::protocol::{Identity, Isolation, Namespaces};
use super::launch::{Launch, Launcher, Opening};
use super::{Command, Console, Cores, Exit, MountKind, Outlet, Owner, SandboxError, Spec, remove_folder};
use crate::stop::Stop;

/// Who commands are to the host when maar is root: no account of any distribution, and none that `useradd` hands out by
/// itself. systemd-nspawn may, to one of many containers. "maar" in ASCII.
const UNPRIVILEGED: u32 = 0x6d61_6172;

/// What a native sandbox is made from.
#[derive(Debug, Clone)]
pub struct Config {
    /// The program that serves as helper: maar itself, whose `main` calls [`super::helper_main_if_asked`].
    pub helper: PathBuf,
}

/// Opens cells that are namespaces.
#[derive(Debug, Clone)]
pub struct Native {
    launcher: Launcher,
    identity: Identity,
}

/// A cell that is namespaces, made anew for each command from the same spec.
#[derive(Debug)]
pub struct NativeCell {
    sandbox: Native,
    spec: Spec,
    /// What the root of the cell is mounted on.
    root: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self { helper: PathBuf::from("/proc/self/exe") }
    }
}

impl Native {
    /// A sandbox for this process's user. Its cgroups are removed when it and all its cells are dropped, which
    /// `std::process::exit` doesn't do. Whether the host allows namespaces is found out when the first command runs.
    pub fn new(config: Config) -> Self {
        Self { launcher: Launcher::new(config.helper), identity: choose_identity() }
    }

    /// As [`new`](Self::new), but with no cgroups, as on a host that has none: shows what they cost.
    pub fn without_cgroups(config: Config) -> Self {
        Self { launcher: Launcher::with(Cgroups::none(), config.helper), identity: choose_identity() }
    }

    pub(super) fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    pub(super) fn owner(&self) -> Option<Owner> {
        match self.identity {
            Identity::Unprivileged(owner) => Some(owner),
            Identity::Rootless(_) => None,
        }
    }

    pub(super) fn unenforced(&self, cores: Cores) -> Vec<String> {
        // The kernel counts the processes of the cell's own user namespace even without a controller.
        self.launcher.unenforced(&[Controller::Cpu, Controller::Memory], cores)
    }

    pub(super) fn open(&self, spec: Spec) -> Result<NativeCell, SandboxError> {
        let root = spec.scratch.join("root");
        fs::create_dir(&root).map_err(|source| SandboxError::Path {
            doing: "make the cell's folder",
            path: root.clone(),
            source,
        })?;
        Ok(NativeCell { sandbox: self.clone(), spec, root })
    }
}

impl NativeCell {
    pub(super) async fn run(
        &mut self,
        command: &Command,
        stop: &Stop,
        console: Option<&mut Console>,
        outlet: Option<Outlet>,
    ) -> Result<Exit, SandboxError> {
        let Spec { label, limits, mounts, network, after, .. } = &self.spec;
        let namespaces = Namespaces {
            identity: self.sandbox.identity,
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
            owner: self.sandbox.owner(),
            writes_to: self.spec.written_folders().collect(),
            stop,
            console,
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
            let MountKind::Overlay { work, .. } = &mount.what else { continue };
            // overlayfs makes folders that nobody may enter, not even an owner who wants to remove them.
            for entry in fs::read_dir(work).map_err(failed("read", work.clone()))?.flatten() {
                let path = entry.path();
                remove_folder(&path).map_err(failed("remove", path))?;
            }
        }
        match fs::remove_dir(&self.root) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("remove", self.root.clone())(source)),
            _ => Ok(()),
        }
    }
}

impl Drop for NativeCell {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`. Cleaning twice is nothing.
        let _ = self.clean();
    }
}

/// Root hands commands to a user that is nobody, as far as its user namespace has one to spare.
pub(super) fn choose_identity() -> Identity {
    let own = Owner { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
    let map = |file| fs::read_to_string(file).unwrap_or_default();
    let spare = (spare_id(&map("/proc/self/uid_map")), spare_id(&map("/proc/self/gid_map")));
    match spare {
        (Some(uid), Some(gid)) if own.uid == 0 => Identity::Unprivileged(Owner { uid, gid }),
        (_, _) => Identity::Rootless(own),
    }
}

/// An id that this user namespace maps: the preferred one, else the highest; never 0. The format is of
/// user_namespaces(7): first id inside, first id outside, how many.
fn spare_id(map: &str) -> Option<u32> {
    let ranges = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
        let (first, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some((first, first.checked_add(count.checked_sub(1)?)?))
    });
    let ranges: Vec<(u32, u32)> = ranges.collect();
    if ranges.iter().any(|&(first, last)| (first..=last).contains(&UNPRIVILEGED)) {
        return Some(UNPRIVILEGED);
    }
    ranges.iter().map(|&(_, last)| last).max().filter(|&last| last > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(map: &str, expected: Option<u32>) {
        assert_eq!(spare_id(map), expected, "{map:?}");
    }

    #[test]
    fn commands_get_an_id_that_the_host_maps_and_that_is_not_root() {
        check("         0          0 4294967295\n", Some(UNPRIVILEGED));
        check("0 100000 65536\n", Some(65535));
        check("0 1000 1\n1 100000 65536\n", Some(65536));
        check("0 1000 1\n", None);
        check("", None);
        check("x y z\n0 0 0\n", None);
    }
}
