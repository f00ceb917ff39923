//! Control groups: the limits of a command as a whole, and its cost.
//!
//! Every command has its own group, and so its own peaks and counts. Groups are nested below maar's, or
//! below the root where a systemd host leaves root no other place. cgroups-rs writes the limits; finding and making
//! the groups is done here, because the crate enables every controller on the way down from the host's root and keeps
//! its failures to itself.

mod group;
mod hierarchy;
mod scope;
mod sweep;
mod unified;

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use bytesize::ByteSize;

pub(crate) use self::group::{Entrances, Group, KEEPERS};
use self::hierarchy::{Hierarchy, Version};
use super::{Limits, SandboxError};

/// The resources that a control group can limit or account for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    Cpu,
    Memory,
    Pids,
    /// Which cores.
    CpuSet,
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
    /// The lock that marks this process as alive.
    _lock: File,
    /// Undoes what making it took besides the folder.
    undo: Option<unified::Undo>,
}

/// The least memory that this process's group, or one above it, may use together; none if nothing limits it.
pub fn memory_limit() -> Option<ByteSize> {
    hierarchy::here().iter().filter_map(Hierarchy::memory_limit).min()
}

impl Controller {
    pub(crate) const LIMITING: [Self; 4] = [Self::Cpu, Self::Memory, Self::Pids, Self::CpuSet];
    const ALL: [Self; 5] = [Self::Cpu, Self::Memory, Self::Pids, Self::CpuSet, Self::CpuAccounting];

    /// As the kernel calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::CpuSet => "cpuset",
            Self::CpuAccounting => "cpuacct",
        }
    }

    /// The effect of its absence on limits.
    fn loss(self) -> &'static str {
        match self {
            Self::Cpu => "a command may use more CPU than its limit",
            Self::Memory => "the memory limit holds for each process alone, not for a command as a whole",
            Self::Pids => "a command may start more processes than its limit",
            Self::CpuSet => "a command that wants to may leave the cores it was given",
            Self::CpuAccounting => "the CPU time of a command is sampled",
        }
    }
}

impl Cgroups {
    /// Finds out where groups can be made, sweeps away those of dead maars, and makes a folder there that goes when
    /// this value does.
    pub(crate) fn discover() -> Self {
        Self::among(&hierarchy::here())
    }

    /// As on a host without hierarchies.
    pub(crate) fn none() -> Self {
        Self::among(&[])
    }

    fn among(hierarchies: &[Hierarchy]) -> Self {
        // One for each sandbox of this process: a run has one, tests have many.
        static SANDBOXES: AtomicU64 = AtomicU64::new(0);
        let name = format!("maar-{}-{}", std::process::id(), SANDBOXES.fetch_add(1, Ordering::Relaxed));
        let mut reasons: Vec<(Controller, String)> = Vec::new();
        let mut places = Vec::new();
        for hierarchy in hierarchies {
            let made = match hierarchy.version {
                Version::One => make_version_1(hierarchy, &name),
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
            (which, reason.unwrap_or_else(|| "no group that maar may use has this controller".to_owned()))
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

    /// The version of the hierarchies in use; `None`: none are in use.
    pub(crate) fn version(&self) -> Option<u8> {
        self.places.iter().map(|place| place.version.number()).max()
    }

    /// Describes the limits that are not enforced.
    pub(crate) fn unenforced(&self, limits: &[Controller]) -> Vec<String> {
        let missing = self.missing.iter().filter(|(which, _)| limits.contains(which));
        missing.map(|(which, reason)| format!("{} ({}: {reason})", which.loss(), which.name())).collect()
    }

    /// Makes a group with these limits for one command, on these cores, or on any if the list is empty.
    pub(crate) fn open(&self, label: &str, limits: &Limits, cores: &[usize]) -> Result<Group, SandboxError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Group::open(&self.places, &format!("{label}-{number}"), limits, cores)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for place in &self.places {
            // A dropped run may have left groups behind, whose processes are dying.
            for entry in std::fs::read_dir(&place.folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    sweep::remove(&entry.path());
                }
            }
            let _ = std::fs::remove_dir(&place.folder);
            if let Some(undo) = &place.undo {
                undo.run();
            }
        }
    }
}

fn make_version_1(hierarchy: &Hierarchy, name: &str) -> Result<Place, String> {
    sweep::sweep(&hierarchy.own);
    let folder = hierarchy.own.join(name);
    let lock = sweep::make(&folder)?;
    let controllers = hierarchy.controllers.clone();
    let place = Place { version: Version::One, folder, controllers, _lock: lock, undo: None };
    if place.controllers.contains(&Controller::CpuSet) {
        // A new group has no cores and no memory nodes, and takes no process before it has.
        group::inherit_cores(&hierarchy.own, &place.folder).map_err(|error| {
            let _ = std::fs::remove_dir(&place.folder);
            format!("failed to give {} its cores: {error}", place.folder.display())
        })?;
    }
    Ok(place)
}
