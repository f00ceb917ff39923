//! A place for groups in the unified hierarchy, where a group has either processes or groups with controllers.
//!
//! Never moves a process that is not this one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::hierarchy::{Hierarchy, Version};
use super::scope::{self, NoScope};
use super::{Controller, Place, sweep};
use crate::sandbox::id_map;

/// The change to maar's own group that made room.
#[derive(Debug)]
pub(super) struct Undo {
    /// The group that was maar's.
    own: PathBuf,
    /// The leaf that maar moved to.
    leaf: PathBuf,
    _lock: File,
    enabled: Vec<Controller>,
}

/// Makes a folder for groups below maar's own group or, where that has other processes too, below one that systemd
/// gives; below the root without systemd, for root only: other users may not write there.
pub(super) fn make(hierarchy: &Hierarchy, name: &str) -> Result<Place, String> {
    let root = id_map::caller().is_root().then_some(hierarchy.mounted.as_path());
    // Another sandbox of this process may have made room already.
    let own = hierarchy.own.parent().filter(|_| hierarchy.own.ends_with(leaf_name())).unwrap_or(&hierarchy.own);
    [Some(own), root].into_iter().flatten().for_each(sweep::sweep);
    make_in(own, root, scope::enter, &hierarchy.controllers, name)
}

/// As [`make`]; `ask` gets a group from systemd.
fn make_in(
    own: &Path,
    root: Option<&Path>,
    ask: impl FnOnce() -> Result<PathBuf, NoScope>,
    wanted: &[Controller],
    name: &str,
) -> Result<Place, String> {
    let in_scope = |reason| match ask() {
        Ok(scope) => place(&scope, wanted, name),
        Err(NoScope::NoManager) => Err(reason),
        Err(error) => Err(format!("{reason}; {error}")),
    };
    let in_root = |reason| match root {
        Some(root) if root != own => place(root, wanted, name).map_err(|of_root| format!("{reason}; {of_root}")),
        _ => Err(reason),
    };
    place(own, wanted, name).or_else(in_scope).or_else(in_root)
}

fn place(parent: &Path, wanted: &[Controller], name: &str) -> Result<Place, String> {
    let available = controllers(&parent.join("cgroup.controllers"))?;
    let wanted: Vec<_> = wanted.iter().copied().filter(|which| available.contains(&which.name().to_owned())).collect();
    if wanted.is_empty() {
        return Err(format!("{} has no controllers to give; a delegated group has", parent.display()));
    }
    let folder = parent.join(name);
    let lock = sweep::make(&folder)?;
    // Controllers of threads, such as `cpu`, can be given to a group that has processes: the groups below are then good
    // for nothing. Only the root of the hierarchy is free of this.
    let made_room = if is_root(parent) || is_empty(parent) {
        enable(parent, &wanted).map(|()| None)
    } else {
        make_room(parent, &wanted).map(Some)
    };
    let undo = match made_room {
        Ok(undo) => undo,
        Err(reason) => {
            let _ = fs::remove_dir(&folder);
            return Err(reason);
        }
    };
    let made = enable(&folder, &wanted);
    let place = Place { version: Version::Two, folder, controllers: wanted, _lock: lock, undo };
    match made {
        Ok(()) => Ok(place),
        Err(reason) => {
            let _ = fs::remove_dir(&place.folder);
            if let Some(undo) = &place.undo {
                undo.run();
            }
            Err(reason)
        }
    }
}

/// Moves this process to a leaf, if it is alone in the group, so that the group may have controllers for its children.
fn make_room(own: &Path, wanted: &[Controller]) -> Result<Undo, String> {
    let pid = std::process::id().to_string();
    if processes(own) != pid {
        return Err(format!("{} has other processes too: run maar in a group of its own", own.display()));
    }
    let leaf = own.join(leaf_name());
    let lock = sweep::make(&leaf)?;
    let undo = Undo { own: own.to_owned(), leaf, _lock: lock, enabled: wanted.to_vec() };
    let moved = fs::write(undo.leaf.join("cgroup.procs"), &pid)
        .map_err(|error| format!("failed to move to {}: {error}", undo.leaf.display()))
        .and_then(|()| enable(own, wanted));
    match moved {
        Ok(()) => Ok(undo),
        Err(reason) => {
            undo.run();
            Err(reason)
        }
    }
}

/// Whether a group is the root of its hierarchy, which has no type.
fn is_root(group: &Path) -> bool {
    !group.join("cgroup.type").exists()
}

fn is_empty(group: &Path) -> bool {
    processes(group).is_empty()
}

fn processes(group: &Path) -> String {
    fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().trim().to_owned()
}

/// The name of the leaf that this process moves to.
fn leaf_name() -> String {
    format!("maar-{}-self", std::process::id())
}

impl Undo {
    /// Moves this process back.
    pub(super) fn run(&self) {
        for which in &self.enabled {
            let _ = fs::write(self.own.join("cgroup.subtree_control"), format!("-{}", which.name()));
        }
        let _ = fs::write(self.own.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(&self.leaf);
    }
}

/// Lets the children of a group have controllers: all of them, or none.
fn enable(group: &Path, wanted: &[Controller]) -> Result<(), String> {
    let file = group.join("cgroup.subtree_control");
    let enabled = controllers(&file)?;
    let missing = wanted.iter().map(|which| which.name()).filter(|name| enabled.iter().all(|other| other != name));
    let orders: Vec<String> = missing.map(|name| format!("+{name}")).collect();
    if orders.is_empty() {
        return Ok(());
    }
    let orders = orders.join(" ");
    fs::write(&file, &orders).map_err(|error| format!("failed to write {orders} to {}: {error}", file.display()))
}

fn controllers(file: &Path) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("failed to read {}: {error}", file.display()))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like a group: regular files keep the last thing written.
    fn group(path: &Path, controllers: &str, enabled: &str, procs: &str) {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join("cgroup.controllers"), controllers).unwrap();
        fs::write(path.join("cgroup.subtree_control"), enabled).unwrap();
        fs::write(path.join("cgroup.procs"), procs).unwrap();
    }

    fn no_manager() -> Result<PathBuf, NoScope> {
        Err(NoScope::NoManager)
    }

    #[test]
    fn groups_go_below_the_own_group_where_controllers_are_delegated() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        group(&own, "cpu cpuset memory pids\n", "cpu cpuset memory pids\n", "");
        group(&own.join("maar-1"), "cpu cpuset memory pids\n", "", "");
        let place = make_in(&own, None, no_manager, &Controller::LIMITING, "maar-1").unwrap();
        assert_eq!(place.folder, own.join("maar-1"));
        assert_eq!(place.controllers, Controller::LIMITING);
        assert_eq!(
            fs::read_to_string(own.join("maar-1/cgroup.subtree_control")).unwrap(),
            "+cpu +memory +pids +cpuset"
        );
    }

    #[test]
    fn a_group_with_others_in_it_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        group(&own, "cpu memory\n", "", "1\n2\n");
        fs::write(own.join("cgroup.type"), "domain\n").unwrap();
        let reason = make_in(&own, None, no_manager, &Controller::LIMITING, "maar-1").unwrap_err();
        assert_eq!(reason, format!("{} has other processes too: run maar in a group of its own", own.display()));
        assert_eq!(fs::read_to_string(own.join("cgroup.subtree_control")).unwrap(), "");
        assert!(!own.join("maar-1").exists());
    }

    #[test]
    fn a_scope_takes_the_place_of_a_group_with_others_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let (own, scope) = (dir.path().join("session.scope"), dir.path().join("maar-1-2.scope"));
        group(dir.path(), "cpu memory\n", "cpu memory\n", "");
        group(&own, "cpu memory\n", "", "1\n2\n");
        fs::write(own.join("cgroup.type"), "domain\n").unwrap();
        group(&scope, "cpu memory\n", "cpu memory\n", "");
        group(&scope.join("maar-1"), "cpu memory\n", "", "");
        let ask = || Ok(scope.clone());
        let place = make_in(&own, Some(dir.path()), ask, &Controller::LIMITING, "maar-1").unwrap();
        assert_eq!(place.folder, scope.join("maar-1"));
    }

    #[test]
    fn why_there_is_no_scope_is_told_beside_why_one_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        group(&own, "\n", "\n", "1\n2\n");
        let ask = || Err(NoScope::NotMoved { scope: "maar-1-2.scope".to_owned() });
        let reason = make_in(&own, None, ask, &Controller::LIMITING, "maar-1").unwrap_err();
        let expected = "has no controllers to give; a delegated group has; \
                        systemd did not move maar to maar-1-2.scope: see its journal for the reason";
        assert_eq!(reason, format!("{} {expected}", own.display()));
    }

    #[test]
    fn root_falls_back_to_the_root_of_the_hierarchy_and_others_say_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        group(&own, "\n", "\n", "1\n2\n");
        group(dir.path(), "io cpu memory\n", "cpu memory\n", "");
        group(&dir.path().join("maar-1"), "cpu memory\n", "", "");
        let place = make_in(&own, Some(dir.path()), no_manager, &Controller::LIMITING, "maar-1").unwrap();
        assert_eq!(place.folder, dir.path().join("maar-1"));
        assert_eq!(place.controllers, [Controller::Cpu, Controller::Memory]);

        let reason = make_in(&own, None, no_manager, &Controller::LIMITING, "maar-1").unwrap_err();
        assert_eq!(reason, format!("{} has no controllers to give; a delegated group has", own.display()));
    }
}
