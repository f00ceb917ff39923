//! Control groups: the limits of a command as a whole, and what it cost.
//!
//! Every command has a group of its own, so that peaks and counts are its own too. Groups are nested below maar's, or
//! below the root where a systemd host leaves root no other place. cgroups-rs writes the limits; finding and making
//! the groups is done here, because the crate enables every controller on the way down from the host's root and keeps
//! its failures to itself.

mod group;
mod hierarchy;
mod unified;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use self::group::{Group, KEEPERS};
use self::hierarchy::{Hierarchy, Version};
use super::{Limits, SandboxError};

/// What a control group can limit or account for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    Cpu,
    Memory,
    Pids,
    /// CPU time; a controller of version 1 only, version 2 always has it.
    CpuAccounting,
}

/// Where this process may make groups.
#[derive(Debug)]
pub(crate) struct Cgroups {
    places: Vec<Place>,
    /// The controllers that limit and can't be used, with the reason.
    missing: Vec<(Controller, String)>,
    next: AtomicU64,
}

/// A folder of this process's own in one hierarchy.
#[derive(Debug)]
struct Place {
    version: Version,
    folder: PathBuf,
    controllers: Vec<Controller>,
    /// Undoes what making it took besides the folder.
    undo: Option<unified::Undo>,
}

impl Controller {
    pub(crate) const LIMITING: [Self; 3] = [Self::Cpu, Self::Memory, Self::Pids];
    const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Pids, Self::CpuAccounting];

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::CpuAccounting => "cpuacct",
        }
    }

    /// What it means that it can't be used.
    fn loss(self) -> &'static str {
        match self {
            Self::Cpu => "a command may use more CPU than its limit",
            Self::Memory => "the memory limit holds for each process alone, not for a command as a whole",
            Self::Pids => "a command may start more processes than its limit",
            Self::CpuAccounting => "the CPU time of a command is sampled",
        }
    }
}

impl Cgroups {
    /// Finds out where groups can be made, and makes a folder there that goes when this value does.
    pub(crate) fn discover() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let hierarchies = hierarchy::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        Self::among(&hierarchies)
    }

    fn among(hierarchies: &[Hierarchy]) -> Self {
        // One for each sandbox of this process: a run has one, tests have many.
        static SANDBOXES: AtomicU64 = AtomicU64::new(0);
        let name = format!("maar-{}-{}", std::process::id(), SANDBOXES.fetch_add(1, Ordering::Relaxed));
        let mut reasons: Vec<(Controller, String)> = Vec::new();
        let mut places = Vec::new();
        for hierarchy in hierarchies {
            let made = match hierarchy.version {
                Version::One => make(&hierarchy.own.join(&name)).map(|folder| Place {
                    version: Version::One,
                    folder,
                    controllers: hierarchy.controllers.clone(),
                    undo: None,
                }),
                Version::Two => unified::make(hierarchy, &name),
            };
            match made {
                Ok(place) => places.push(place),
                Err(reason) => reasons.extend(hierarchy.controllers.iter().map(|&which| (which, reason.clone()))),
            }
        }
        let has = |which| places.iter().any(|place: &Place| place.controllers.contains(&which));
        let missing = Controller::LIMITING.into_iter().filter(|&which| !has(which)).map(|which| {
            let reason = reasons.iter().find(|(other, _)| *other == which).map(|(_, reason)| reason.clone());
            (which, reason.unwrap_or_else(|| "the host has no such controller".to_owned()))
        });
        Self { missing: missing.collect(), places, next: AtomicU64::new(0) }
    }

    /// Whether a controller may be used.
    pub(crate) fn has(&self, which: Controller) -> bool {
        self.places.iter().any(|place| place.controllers.contains(&which))
    }

    /// The limiting controllers that can't be used, by name, with the reason.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.missing.iter().map(|(which, reason)| (which.name(), reason.as_str()))
    }

    /// The limiting controllers that can be used, by name.
    pub(crate) fn usable(&self) -> impl Iterator<Item = &'static str> {
        Controller::LIMITING.into_iter().filter(|&which| self.has(which)).map(Controller::name)
    }

    /// The version of the hierarchies in use; `None`: there are none.
    pub(crate) fn version(&self) -> Option<u8> {
        self.places.iter().map(|place| place.version.number()).max()
    }

    /// Says in plain words which of these limits are not enforced.
    pub(crate) fn unenforced(&self, limits: &[Controller]) -> Vec<String> {
        let missing = self.missing.iter().filter(|(which, _)| limits.contains(which));
        missing.map(|(which, reason)| format!("{} ({}: {reason})", which.loss(), which.name())).collect()
    }

    /// Makes a group with these limits for one command.
    pub(crate) fn open(&self, label: &str, limits: &Limits) -> Result<Group, SandboxError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Group::open(&self.places, &format!("{label}-{number}"), limits)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for place in &self.places {
            remove(&place.folder);
            if let Some(undo) = &place.undo {
                undo.run();
            }
        }
    }
}

/// Removes a folder of a sandbox's, with the groups in it: a run that was dropped or killed may have left some, whose
/// processes are dying.
fn remove(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_dying(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(folder);
}

/// Removes the folders of sandboxes whose process is dead. Only a run that was killed leaves any.
fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix("maar-")?.split_once('-'));
        let Some(Ok(process)) = process.map(|(process, _)| process.parse::<u32>()) else { continue };
        if !Path::new("/proc").join(process.to_string()).exists() {
            remove(&entry.path());
        }
    }
}

/// Removes a group as soon as nobody is in it any more, which is soon or never.
fn remove_dying(group: &Path) {
    for _ in 0..100 {
        match std::fs::remove_dir(group) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(Duration::from_millis(5)),
            _ => return,
        }
    }
}

/// Makes a folder for groups, or takes over one that a dead process of the same number left; those of other dead
/// processes are removed.
fn make(folder: &Path) -> Result<PathBuf, String> {
    if let Some(parent) = folder.parent() {
        sweep(parent);
    }
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(format!("failed to make {}: {error}", folder.display()))
        }
        _ => Ok(folder.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_dead_processes_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let own = std::process::id();
        // Above the most that the kernel gives: PID_MAX_LIMIT is 2^22.
        let dead = (1 << 22) + 1;
        let kept = [format!("maar-{own}-0"), "maar-x-0".to_owned(), "maar".to_owned(), format!("other-{dead}-0")];
        for name in kept.iter().chain([&format!("maar-{dead}-0"), &format!("maar-{dead}-self")]) {
            std::fs::create_dir_all(dir.path().join(name).join("test-x-1")).unwrap();
        }
        sweep(dir.path());
        let mut left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut kept = kept;
        kept.sort();
        assert_eq!(left, kept);
    }
}
