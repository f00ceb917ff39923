//! Where the hierarchies of control groups are mounted, and where in them this process is.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use super::Controller;

/// The generation of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// One hierarchy for some controllers.
    One,
    /// The unified hierarchy.
    Two,
}

/// A mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// Where it is mounted.
    pub(super) mounted: PathBuf,
    /// The folder of this process's own group.
    pub(super) own: PathBuf,
    /// Its controllers. Version 2 lists them in its files, not here: all those that no hierarchy of version 1 has.
    pub(super) controllers: Vec<Controller>,
}

impl Version {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    pub(super) fn is_two(self) -> bool {
        self == Self::Two
    }
}

impl Hierarchy {
    /// The least that this process's group, or one above it, may use of memory; none if nothing limits it.
    pub(super) fn memory_limit(&self) -> Option<ByteSize> {
        if !self.controllers.contains(&Controller::Memory) {
            return None;
        }
        let file = match self.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        // Without a limit, version 2 shows `max`, and version 1 a number larger than any host's memory.
        let limit = |group: &Path| std::fs::read_to_string(group.join(file)).ok()?.trim().parse().ok();
        let groups = self.own.ancestors().take_while(|group| group.starts_with(&self.mounted));
        groups.filter_map(limit).min().map(ByteSize)
    }
}

/// The hierarchies of this host.
pub(super) fn here() -> Vec<Hierarchy> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`, as described in proc(5) and cgroups(7).
pub(super) fn parse(mountinfo: &str, own_groups: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    let mut unified = None;
    for line in mountinfo.lines() {
        let Some((mount, file_system)) = line.split_once(" - ") else { continue };
        let mount: Vec<&str> = mount.split(' ').collect();
        let file_system: Vec<&str> = file_system.split(' ').collect();
        let (&[_, _, _, root, mounted, ..], &[kind, _, options, ..]) = (&mount[..], &file_system[..]) else { continue };
        let (root, mounted) = (unescape(root), unescape(mounted));
        if kind == "cgroup2" && unified.is_none() {
            unified = own(own_groups, "").and_then(|path| below(&mounted, &root, path)).map(|own| (mounted, own));
        } else if kind == "cgroup" {
            let is_new = |which: &Controller| found.iter().all(|other| !other.controllers.contains(which));
            let is_here = |which: &Controller| options.split(',').any(|option| option == which.name());
            let controllers: Vec<_> =
                Controller::ALL.into_iter().filter(|which| is_here(which) && is_new(which)).collect();
            let Some(first) = controllers.first() else { continue };
            let Some(own) = own(own_groups, first.name()).and_then(|path| below(&mounted, &root, path)) else {
                continue;
            };
            found.push(Hierarchy { version: Version::One, mounted, own, controllers });
        }
    }
    if let Some((mounted, own)) = unified {
        let is_left = |which: &Controller| found.iter().all(|other| !other.controllers.contains(which));
        let controllers: Vec<_> = Controller::LIMITING.into_iter().filter(is_left).collect();
        if !controllers.is_empty() {
            found.push(Hierarchy { version: Version::Two, mounted, own, controllers });
        }
    }
    found
}

/// This process's group in the hierarchy of a controller; the unified one has an empty name.
fn own<'a>(groups: &'a str, controller: &str) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        names.split(',').any(|name| name == controller).then_some(path)
    })
}

/// The folder of a group in a hierarchy of which `root` is mounted; `None`: it is not below that.
fn below(mounted: &Path, root: &Path, group: &str) -> Option<PathBuf> {
    let relative = Path::new(group).strip_prefix(root).ok()?;
    // A group outside this process's cgroup namespace is shown as `/..`.
    let climbs = relative.components().any(|component| component == std::path::Component::ParentDir);
    (!climbs).then(|| mounted.join(relative))
}

/// Undoes the octal escapes of mountinfo: space, tab, newline and backslash.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mountinfo: &str, groups: &str, expected: &[(Version, &str, &[Controller])]) {
        let found = parse(mountinfo, groups);
        let found: Vec<_> =
            found.iter().map(|h| (h.version, h.own.to_str().unwrap(), h.controllers.as_slice())).collect();
        assert_eq!(found, expected, "{mountinfo}\n{groups}");
    }

    #[test]
    fn the_least_memory_limit_on_the_way_up_counts() {
        let mounted = tempfile::tempdir().unwrap();
        let own = mounted.path().join("maar.slice/run.scope");
        std::fs::create_dir_all(&own).unwrap();
        let limit = |group: &Path, text: &str| std::fs::write(group.join("memory.max"), text).unwrap();
        let hierarchy = |controllers: &[Controller]| Hierarchy {
            version: Version::Two,
            mounted: mounted.path().to_owned(),
            own: own.clone(),
            controllers: controllers.to_vec(),
        };
        assert_eq!(hierarchy(&[Memory]).memory_limit(), None);
        limit(&own, "max\n");
        assert_eq!(hierarchy(&[Memory]).memory_limit(), None);
        limit(own.parent().unwrap(), "1073741824\n");
        assert_eq!(hierarchy(&[Memory]).memory_limit(), Some(ByteSize::gib(1)));
        limit(&own, "4096\n");
        assert_eq!(hierarchy(&[Memory]).memory_limit(), Some(ByteSize::kib(4)));
        assert_eq!(hierarchy(&[Cpu]).memory_limit(), None);
    }

    use Controller::{Cpu, CpuAccounting, CpuSet, Memory, Pids};

    #[test]
    fn a_unified_host_has_one_hierarchy() {
        check(
            "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate",
            "0::/user.slice/session-2.scope\n",
            &[(Version::Two, "/sys/fs/cgroup/user.slice/session-2.scope", &[Cpu, Memory, Pids, CpuSet])],
        );
    }

    #[test]
    fn a_hybrid_host_uses_version_1_and_leaves_an_empty_version_2_alone() {
        check(
            "32 31 0:29 / /cg/cpu\\040x rw shared:1 - cgroup cgroup rw,cpuacct,cpu\n\
             35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n\
             38 31 0:35 / /cg/cpuset rw - cgroup cgroup rw,cpuset\n\
             39 31 0:36 / /cg/pids rw - cgroup cgroup rw,pids\n\
             40 31 0:37 / /cg/systemd rw - cgroup cgroup rw,name=systemd\n\
             41 31 0:38 / /cg/unified rw - cgroup2 cgroup2 rw\n",
            "9:name=systemd:/\n5:cpuset:/\n4:memory:/a:b/c\n3:cpuacct,cpu:/\n2:pids:/p\n0::/\n",
            &[
                (Version::One, "/cg/cpu x/", &[Cpu, CpuAccounting]),
                (Version::One, "/cg/memory/a:b/c", &[Memory]),
                (Version::One, "/cg/cpuset/", &[CpuSet]),
                (Version::One, "/cg/pids/p", &[Pids]),
            ],
        );
    }

    #[test]
    fn a_container_sees_the_part_that_is_mounted() {
        check(
            "35 31 0:32 /docker/x /cg/memory rw - cgroup cgroup rw,memory",
            "4:memory:/docker/x/y\n",
            &[(Version::One, "/cg/memory/y", &[Memory])],
        );
        check("35 31 0:32 /docker/x /cg/memory rw - cgroup cgroup rw,memory", "4:memory:/other\n", &[]);
        check("35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory", "4:memory:/../other\n", &[]);
    }

    #[test]
    fn nonsense_is_no_hierarchy() {
        check("", "", &[]);
        check("x - cgroup\n - \n1 2 3", "::\nx", &[]);
    }
}
