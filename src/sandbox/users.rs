//! The users of commands on the host: an id for each job, so that jobs don't share the limits that the kernel has for a
//! user.
//!
//! An id is leased for as long as its [`User`] lives. A file is locked for as long, because several maars may run at
//! the same time. A maar that isn't root has no ids to give away: there commands are maar's own user.

use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::helper::protocol::Identity;
use super::id_map::{self, IdMap};
use crate::owner::Owner;

/// Ids that nothing hands out, the preferred ones first.
///
/// Source: [systemd's table](https://systemd.io/UIDS-GIDS/) of all users and groups lists 1879048192-2147352575 and
/// 60706-61183 as unused; the latter lie between the greeters of a display manager and the users of services. The first
/// range here is a part of the former, above SSSD's ids (`ldap_idmap_range_max` of sssd-ldap(5): 2000200000). The
/// second is for namespaces that map 16 bits. `useradd` gives out accounts up to 60000 and subordinate ids up to
/// 600100000 (login.defs(5)).
const UNCLAIMED: [RangeInclusive<u32>; 2] = [0x7a6d_0000..=0x7a6d_0fff, 60_706..=61_183];

/// How many ids a namespace must map, from 0 on, to have some that are unclaimed.
pub(super) const NEEDED: u32 = *UNCLAIMED[1].end() + 1;

/// Where ids are locked. Only root can make this folder, so that no other user can hold a lock.
const LOCKS: &str = "/run/maar/users";

/// The part of a limit of the kernel that one cell may use where cells share a user: a quarter.
pub(super) const SHARERS: u64 = 4;

/// The users that a sandbox lends to jobs.
#[derive(Debug, Clone)]
pub(super) struct Users(Arc<Pool>);

#[derive(Debug)]
enum Pool {
    /// maar's own user, which can't become another.
    Own(Owner),
    /// Root has these ids. Each job gets one of `sharers` parts of the kernel's limits for a user.
    Many { ids: RangeInclusive<u32>, sharers: u64, locks: PathBuf, next: AtomicU32 },
    /// Root has one id to give, for this reason.
    One { id: u32, reason: String },
}

/// The user namespace that maar runs in.
struct Namespace {
    /// maar's own user.
    own: Owner,
    uids: IdMap,
    gids: IdMap,
    /// Into how many parts limits are divided, even if each job has its own user. Inotify, pending signals, message
    /// queues and locked memory of a namespace count as those of the user who made the namespace, too.
    sharers: u64,
}

/// A user that commands are to the host, held until this value and all its clones are dropped.
#[derive(Debug, Clone)]
pub struct User(Arc<Lease>);

#[derive(Debug)]
enum Lease {
    /// maar's own user.
    Maars,
    /// A user that no other job has while the file is locked.
    Alone { owner: Owner, sharers: u64, _lock: File },
    /// A user that other jobs have too.
    Shared(Owner),
}

impl User {
    /// maar's own user.
    pub(super) fn of_maar() -> Self {
        Self(Arc::new(Lease::Maars))
    }

    /// Who must own the files that commands change; `None`: maar's user, who makes them.
    pub fn owner(&self) -> Option<Owner> {
        match *self.0 {
            Lease::Maars => None,
            Lease::Alone { owner, .. } | Lease::Shared(owner) => Some(owner),
        }
    }

    /// Whether no other job has this user.
    pub(super) fn is_alone(&self) -> bool {
        matches!(*self.0, Lease::Alone { .. })
    }

    /// Into how many parts a limit that the kernel counts by user is divided. One cell gets one of them.
    pub(super) fn sharers(&self) -> u64 {
        match *self.0 {
            Lease::Alone { sharers, .. } => sharers,
            Lease::Maars | Lease::Shared(_) => SHARERS,
        }
    }

    /// How many values and clones hold this user.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// A user without a lock.
    #[cfg(test)]
    pub(crate) fn shared(owner: Option<Owner>) -> Self {
        owner.map_or_else(Self::of_maar, |owner| Self(Arc::new(Lease::Shared(owner))))
    }
}

impl Users {
    /// The users that this process can give to commands. In a user namespace, `locks` is the folder for locks on ids
    /// where neither `/run` nor `$XDG_RUNTIME_DIR` is maar's to write to.
    pub(super) fn find(locks: Option<&Path>) -> Self {
        let own = Owner { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
        let (sharers, folders) = if id_map::is_initial() {
            (1, vec![PathBuf::from(LOCKS)])
        } else {
            (SHARERS, folders_in_namespace(std::env::var_os("XDG_RUNTIME_DIR"), locks))
        };
        let namespace = Namespace { own, uids: IdMap::of_users(), gids: IdMap::of_groups(), sharers };
        Self(Arc::new(Pool::new(&namespace, &folders)))
    }

    /// Who the commands of a user are to the host.
    pub(super) fn identity(&self, user: &User) -> Identity {
        match (user.owner(), &*self.0) {
            (Some(owner), _) => Identity::Unprivileged(owner),
            (None, Pool::Own(owner)) => Identity::Rootless(*owner),
            // Never root, not even for a spec that names no user.
            (None, Pool::Many { ids, .. }) => Identity::Unprivileged(both(*ids.start())),
            (None, Pool::One { id, .. }) => Identity::Unprivileged(both(*id)),
        }
    }

    /// Who root in a cell is to the host: the owner of the cell's own folders, whom no process is. `None`: no id is
    /// free.
    pub(super) fn roots(&self) -> Option<Owner> {
        match &*self.0 {
            Pool::Many { ids, .. } => Some(both(*ids.end())),
            Pool::Own(_) | Pool::One { .. } => None,
        }
    }

    /// A user that no other job has, or, where all are taken, one that others have too.
    pub(super) fn lease(&self) -> User {
        User(Arc::new(match &*self.0 {
            Pool::Own(_) => Lease::Maars,
            Pool::One { id, .. } => Lease::Shared(both(*id)),
            Pool::Many { ids, sharers, locks, next } => {
                // The last one is the root of cells.
                let count = ids.end() - ids.start() - 1;
                // Not the one that was given back last: the kernel may still be clearing up after it. The first is
                // shared when all others are taken.
                let turn = || ids.start() + 1 + next.fetch_add(1, Ordering::Relaxed) % count;
                (0..count)
                    .map(|_| turn())
                    .find_map(|id| Some(Lease::Alone { owner: both(id), sharers: *sharers, _lock: lock(locks, id)? }))
                    .unwrap_or(Lease::Shared(both(*ids.start())))
            }
        }))
    }

    /// Describes the limits that jobs share where they can't have their own users.
    pub(super) fn unenforced(&self) -> Option<String> {
        match &*self.0 {
            Pool::Own(_) | Pool::Many { .. } => None,
            Pool::One { reason, .. } => Some(format!(
                "crates share the limits that the kernel counts by user, such as those of inotify and pipes (users: {reason})"
            )),
        }
    }
}

impl Pool {
    fn new(namespace: &Namespace, folders: &[PathBuf]) -> Self {
        let Namespace { own, uids, gids, sharers } = namespace;
        let in_both = |id: &u32| [uids, gids].iter().all(|map| map.inside().any(|range| range.contains(id)));
        let highest = uids.inside().map(|range| *range.end()).filter(|id| *id > 0 && in_both(id)).max();
        let (0, Some(highest)) = (own.uid, highest) else { return Self::Own(*own) };
        let is_whole = |block: &&RangeInclusive<u32>| {
            let holds = |range: RangeInclusive<u32>| range.contains(block.start()) && range.contains(block.end());
            uids.inside().any(holds) && gids.inside().any(holds)
        };
        let Some(ids) = UNCLAIMED.iter().find(is_whole).cloned() else {
            let reason = "the user namespace that maar runs in maps too few ids; map 65536".to_owned();
            return Self::One { id: highest, reason };
        };
        match find_locks(folders) {
            Ok(locks) => Self::Many { ids, sharers: *sharers, locks, next: AtomicU32::new(std::process::id()) },
            Err(reason) => Self::One { id: *ids.start(), reason },
        }
    }
}

/// The user and the group of an id.
fn both(id: u32) -> Owner {
    Owner { uid: id, gid: id }
}

/// The folders for locks in a user namespace, best first. All maars of one user should find the same one.
fn folders_in_namespace(runtime: Option<OsString>, last: Option<&Path>) -> Vec<PathBuf> {
    let runtime = runtime.map(PathBuf::from).filter(|folder| folder.is_absolute());
    let runtime = runtime.map(|folder| folder.join("maar/users"));
    [Some(PathBuf::from(LOCKS)), runtime, last.map(Path::to_owned)].into_iter().flatten().collect()
}

/// The first of some folders that can hold locks, or why none can.
fn find_locks(folders: &[PathBuf]) -> Result<PathBuf, String> {
    let mut reasons = Vec::new();
    for folder in folders {
        match open_locks(folder) {
            Ok(()) => return Ok(folder.clone()),
            Err(error) => reasons.push(format!("{} can't hold locks: {error}", folder.display())),
        }
    }
    Err(reasons.join("; "))
}

/// Makes the folder of locks, or takes the existing one if no other user can write to it.
fn open_locks(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let metadata = folder.symlink_metadata()?;
    if metadata.is_dir() && metadata.uid() == nix::unistd::geteuid().as_raw() && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::other("it must belong to maar's user, and no other user may write to it; remove it"))
}

/// Takes an id, if no other job has it. The files stay: to remove one would let two jobs lock the same name.
fn lock(folder: &Path, id: u32) -> Option<File> {
    let path = folder.join(id.to_string());
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path).ok()?;
    file.try_lock().ok().map(|()| file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Owner = Owner { uid: 0, gid: 0 };
    const WHOLE: &str = "         0          0 4294967295\n";

    fn namespace(own: Owner, map: &str) -> Namespace {
        Namespace { own, uids: IdMap::parse(map), gids: IdMap::parse(map), sharers: 1 }
    }

    fn pool(own: Owner, map: &str, locks: &Path) -> Users {
        Users(Arc::new(Pool::new(&namespace(own, map), &[locks.to_owned()])))
    }

    #[track_caller]
    fn check(map: &str, expected: Option<u32>) {
        let dir = tempfile::tempdir().unwrap();
        let id = match &*pool(ROOT, map, &dir.path().join("locks")).0 {
            Pool::Own(_) => None,
            Pool::Many { ids, .. } => Some(*ids.start()),
            Pool::One { id, .. } => Some(*id),
        };
        assert_eq!(id, expected, "{map:?}");
    }

    #[test]
    fn commands_get_ids_that_the_host_maps_and_that_are_not_roots() {
        check(WHOLE, Some(0x7a6d_0000));
        check("0 100000 65536\n", Some(60_706));
        check("0 1000 1\n1 100000 65536\n", Some(60_706));
        check("0 1000 1\n1 100000 5\n", Some(5));
        check("0 1000 1\n", None);
        check("", None);
        check("x y z\n0 0 0\n", None);
    }

    #[test]
    fn an_ordinary_user_has_none_to_give() {
        let dir = tempfile::tempdir().unwrap();
        let own = Owner { uid: 7, gid: 8 };
        let users = pool(own, WHOLE, dir.path());
        assert_eq!(users.identity(&users.lease()), Identity::Rootless(own));
        assert_eq!(users.unenforced(), None);
    }

    #[test]
    fn root_is_no_commands_user() {
        let dir = tempfile::tempdir().unwrap();
        for map in [WHOLE, "0 1000 1\n1 100000 5\n"] {
            let users = pool(ROOT, map, &dir.path().join("locks"));
            for user in [User::of_maar(), users.lease()] {
                let Identity::Unprivileged(owner) = users.identity(&user) else { panic!("{map}") };
                assert_ne!((owner.uid, owner.gid), (0, 0));
            }
        }
    }

    #[test]
    fn no_two_jobs_have_one_user_not_even_of_two_maars() {
        let dir = tempfile::tempdir().unwrap();
        let locks = dir.path().join("locks");
        let maars = [pool(ROOT, WHOLE, &locks), pool(ROOT, WHOLE, &locks)];
        let users: Vec<User> = (0..40).map(|turn| maars[turn % 2].lease()).collect();
        let ids: std::collections::BTreeSet<u32> = users.iter().map(|user| user.owner().unwrap().uid).collect();
        assert_eq!(ids.len(), users.len());
        assert!(users.iter().all(|user| user.sharers() == 1));
    }

    #[test]
    fn a_user_is_given_back_when_the_last_clone_is_dropped_and_shared_when_all_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let users = pool(ROOT, "60706 0 478\n", &dir.path().join("locks"));
        let all: Vec<User> = (0..476).map(|_| users.lease()).collect();
        let (shared, clone) = (users.lease(), all[7].clone());
        assert_eq!((shared.owner().unwrap().uid, shared.sharers()), (60_706, SHARERS));
        drop(all);
        let ids: Vec<u32> = (0..476).map(|_| users.lease().owner().unwrap().uid).collect();
        let others = [clone.owner().unwrap().uid, 60_706, users.roots().unwrap().uid];
        assert!(others.iter().all(|id| !ids.contains(id)));
    }

    #[test]
    fn users_of_a_namespace_share_the_limits_of_its_maker() {
        let dir = tempfile::tempdir().unwrap();
        let nested = Namespace { sharers: SHARERS, ..namespace(ROOT, "0 100000 65536\n") };
        let users = Users(Arc::new(Pool::new(&nested, &[dir.path().join("locks")])));
        let [one, two] = [users.lease(), users.lease()];
        assert_ne!(one.owner(), two.owner());
        assert_eq!([one.sharers(), two.sharers()], [SHARERS; 2]);
    }

    #[test]
    fn in_a_namespace_locks_are_where_the_user_may_write() {
        let dir = tempfile::tempdir().unwrap();
        let [file, runtime, home] = ["file", "runtime", "home"].map(|name| dir.path().join(name));
        std::fs::write(&file, "").unwrap();
        let found = |runtime: &Path| {
            let folders = folders_in_namespace(Some(runtime.into()), Some(&home));
            assert_eq!(folders[0], Path::new(LOCKS));
            find_locks(&folders[1..])
        };
        assert_eq!(found(&runtime), Ok(runtime.join("maar/users")));
        assert_eq!(found(&file), Ok(home.clone()));
        assert_eq!(found(Path::new("relative")), Ok(home.clone()));
        let reason = find_locks(&[file.join("a"), file.clone()]).unwrap_err();
        assert!(reason.contains("file/a can't hold locks: ") && reason.contains("; "), "{reason}");
    }

    #[test]
    fn without_locks_that_are_roots_alone_there_is_one_user_and_the_run_says_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let users = pool(ROOT, WHOLE, dir.path());
        assert_eq!(users.lease().owner(), users.lease().owner());
        assert!(
            users
                .unenforced()
                .unwrap()
                .contains("it must belong to maar's user, and no other user may write to it; remove it")
        );
        assert!(pool(ROOT, "0 1000 1\n1 100000 5\n", dir.path()).unenforced().unwrap().contains("map 65536"));
    }
}
