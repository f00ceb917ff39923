//! The user namespace of this process: who started maar, and which user of the host an id is.
//!
//! Reads the kernel's maps and changes nothing. Their format is of user_namespaces(7): first id inside, first id
//! outside, how many.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;

use nix::unistd::{Uid, geteuid};

/// The ids that a user namespace has, and who they are outside of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdMap(Vec<Range>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

impl IdMap {
    /// The user ids of this process's namespace.
    pub(super) fn of_users() -> Self {
        Self::parse(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default())
    }

    /// The group ids of this process's namespace.
    pub(super) fn of_groups() -> Self {
        Self::parse(&fs::read_to_string("/proc/self/gid_map").unwrap_or_default())
    }

    /// Reads a map; leaves out lines that have another format.
    pub(super) fn parse(map: &str) -> Self {
        let range = |line: &str| {
            let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
            let range = Range { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? };
            range.inside.checked_add(range.count.checked_sub(1)?)?;
            Some(range)
        };
        Self(map.lines().filter_map(range).collect())
    }

    /// The ids inside, in ranges.
    pub(super) fn inside(&self) -> impl Iterator<Item = RangeInclusive<u32>> {
        self.0.iter().map(|range| range.inside..=range.inside + (range.count - 1))
    }

    /// Who an id is outside; the id itself where the map doesn't say.
    pub(super) fn outside(&self, id: u32) -> u32 {
        self.range_of(id).map_or(id, |range| range.outside + (id - range.inside))
    }

    /// Who started a process that is `id` here: a namespace that maps a single id for that user, as the one of
    /// [`subordinate`](super::subordinate) does, is another's only in name.
    fn starter(&self, id: u32) -> u32 {
        self.range_of(id).filter(|range| range.count == 1).map_or(id, |range| range.outside)
    }

    fn range_of(&self, id: u32) -> Option<&Range> {
        self.0.iter().find(|range| id.checked_sub(range.inside).is_some_and(|place| place < range.count))
    }
}

/// Whether this is the user namespace that the host began with.
pub(super) fn is_initial() -> bool {
    /// `PROC_USER_INIT_INO` of linux/proc_ns.h.
    const INITIAL: u64 = 0xEFFF_FFFD;
    fs::metadata("/proc/self/ns/user").is_ok_and(|namespace| namespace.ino() == INITIAL)
}

/// The user who started maar, as systemd and the folders of the host know them.
pub(super) fn caller() -> Uid {
    Uid::from_raw(IdMap::of_users().starter(geteuid().as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_of_a_namespace_of_ones_own_is_the_user_who_made_it() {
        let map = IdMap::parse("         0       1000          1\n         1     100000      65536\n");
        assert_eq!((map.starter(0), map.outside(0), map.outside(65536)), (1000, 1000, 165_535));
    }

    #[test]
    fn root_of_the_host_or_of_a_container_is_root() {
        let host = IdMap::parse("         0          0 4294967295\n");
        assert_eq!((host.starter(0), host.starter(1000), host.outside(1000)), (0, 1000, 1000));
        let container = IdMap::parse("0 100000 65536\n");
        assert_eq!((container.starter(0), container.outside(0)), (0, 100_000));
    }

    #[test]
    fn nonsense_maps_nothing() {
        let map = IdMap::parse("x y z\n1 2\n0 0 0\n2 0 4294967295\n");
        assert_eq!((map.starter(7), map.outside(7), map.inside().count()), (7, 7, 0));
    }
}
