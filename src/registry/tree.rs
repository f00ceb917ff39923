//! A user's folder, as a crate under test: copied for a run, and digested to know it again.
//!
//! `target` at the top is not part of it, nor are sockets, devices and links that lead out of it. A repository at the
//! top, `.git`, is copied along unless it is too large; of the digest only the commit is part. Nothing outside the
//! folder is ever read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use bytesize::ByteSize;
use sha2::{Digest, Sha256};

use super::package::Checksum;
use super::place::{self, Kind};
use super::unpack::MAX_DEPTH;
use crate::owner::Owner;

/// How large all files together may be; as much as any tarball may unpack to.
const MAX_BYTES: ByteSize = ByteSize::mib(512);
/// Where git keeps a repository.
const REPOSITORY: &str = ".git";
/// How many files and folders there may be; as many as a tarball may have.
const MAX_ITEMS: usize = 100_000;
/// Why a folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Its files are too large.
    #[error("{} is larger than {MAX_BYTES}, `target` and `.git` aside; remove what the crate doesn't need", .dir.display())]
    TooLarge {
        /// The folder.
        dir: PathBuf,
    },
    /// It has too many files.
    #[error("{} has more than {MAX_ITEMS} files, `target` and `.git` aside; remove what the crate doesn't need", .dir.display())]
    TooMany {
        /// The folder.
        dir: PathBuf,
    },
    /// A folder is too deep inside.
    #[error("{} is more than {MAX_DEPTH} folders deep", .dir.display())]
    TooDeep {
        /// The deep folder.
        dir: PathBuf,
    },
    /// The host's file system fails.
    #[error("failed to {action} {}: {source}", .path.display())]
    Io {
        /// The operation that failed: an infinitive.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// The entries of a folder, sorted, every folder before its contents.
#[derive(Debug, Default)]
struct Tree {
    items: Vec<Item>,
    left_out: Vec<PathBuf>,
    bytes: u64,
}

/// The parts of a folder that are read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// How much its files may hold.
    most: ByteSize,
    /// Whether this is the inside of a repository, where no name is special.
    is_repository: bool,
}

#[derive(Debug)]
struct Item {
    /// Below the top.
    path: PathBuf,
    kind: ItemKind,
    modified: SystemTime,
}

#[derive(Debug)]
enum ItemKind {
    Dir,
    File(Kind),
    Link(PathBuf),
}

/// Copies a folder to `into`, which must not exist yet, with the times of its files and folders: `make` compares them.
/// A time in the future becomes the present, since cargo would never stop building. Returns the paths below it that
/// were left out because they lead elsewhere or aren't files.
///
/// # Errors
/// When the folder is too large, or a file can't be read or written; `into` is then incomplete, and the caller's to
/// remove.
pub fn copy_tree(from: &Path, into: &Path, owner: Option<Owner>) -> Result<Vec<PathBuf>, TreeError> {
    let mut tree = Tree::read(from, MAX_BYTES)?;
    tree.add_repository(from);
    place::dir(into, owner).map_err(io_error("create", into))?;
    // The sources and the repository.
    let mut left = 2 * MAX_BYTES.as_u64();
    let now = SystemTime::now();
    for Item { path, kind, modified } in &tree.items {
        let to = into.join(path);
        match kind {
            ItemKind::Dir => place::dir(&to, owner).map_err(io_error("create", &to))?,
            ItemKind::Link(target) => place::link(target, &to, owner).map_err(io_error("create", &to))?,
            ItemKind::File(kind) => {
                let source = open(&from.join(path))?;
                let mut out = place::file(&to, *kind, owner).map_err(io_error("create", &to))?;
                // A file may have grown since it was measured.
                let copied = io::copy(&mut source.take(left + 1), &mut out).map_err(io_error("copy to", &to))?;
                left = left.checked_sub(copied).ok_or_else(|| TreeError::TooLarge { dir: from.to_owned() })?;
                out.set_modified((*modified).min(now)).map_err(io_error("set the time of", &to))?;
            }
        }
    }
    // A new entry changes the time of its folder; no more entries are made from here on.
    for Item { path, modified, .. } in tree.items.iter().filter(|item| matches!(item.kind, ItemKind::Dir)) {
        let to = into.join(path);
        let set = File::open(&to).and_then(|dir| dir.set_modified((*modified).min(now)));
        set.map_err(io_error("set the time of", &to))?;
    }
    Ok(tree.left_out)
}

/// The SHA-256 of all that [`copy_tree`] would copy: names, contents, execute bits and links.
///
/// # Errors
/// As [`copy_tree`].
pub fn digest(dir: &Path) -> Result<Checksum, TreeError> {
    let mut hasher = Sha256::new();
    let mut field = |tag: u8, bytes: &[u8]| {
        // The length first, so that no two trees spell the same bytes.
        hasher.update([tag]);
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for Item { path, kind, .. } in Tree::read(dir, MAX_BYTES)?.items {
        field(b'n', path.as_os_str().as_bytes());
        match kind {
            ItemKind::Dir => field(b'd', b""),
            ItemKind::Link(target) => field(b'l', target.as_os_str().as_bytes()),
            ItemKind::File(kind) => {
                let path = dir.join(path);
                let contents = hash(open(&path)?).map_err(io_error("read", &path))?;
                field(if kind == Kind::Executable { b'x' } else { b'f' }, contents.as_bytes());
            }
        }
    }
    if let Some(commit) = commit(dir) {
        field(b'c', commit.as_bytes());
    }
    Ok(Checksum::from_hasher(hasher))
}

/// The commit that a repository at the top of a folder has checked out, as a text that is another one for another
/// commit.
fn commit(dir: &Path) -> Option<String> {
    const MAX_REFS: u64 = 16 << 20;
    let read = |name: &str| {
        let path = dir.join(REPOSITORY).join(name);
        let is_file = path.symlink_metadata().is_ok_and(|file| file.is_file());
        let mut text = String::new();
        let file = is_file.then(|| File::open(&path).ok()).flatten()?;
        file.take(MAX_REFS).read_to_string(&mut text).ok()?;
        Some(text)
    };
    let head = read("HEAD")?;
    let Some(branch) = head.trim_end().strip_prefix("ref: ") else { return Some(head) };
    let is_inside = Path::new(branch).components().all(|part| matches!(part, Component::Normal(_)));
    if let Some(commit) = is_inside.then(|| read(branch)).flatten() {
        return Some(commit);
    }
    let packed = read("packed-refs")?;
    let line = packed.lines().find(|line| line.split_once(' ').is_some_and(|(_, name)| name == branch));
    line.map(str::to_owned)
}

/// How many files a folder has, and how many bytes they hold: enough to see that a power loss cut some of them short.
pub(super) fn measure(dir: &Path) -> Result<(usize, u64), TreeError> {
    // A tarball that is large itself may unpack to more than a user's folder may hold.
    let tree = Tree::read(dir, ByteSize(u64::MAX))?;
    Ok((tree.items.len(), tree.bytes))
}

/// The SHA-256 of all that a reader gives.
pub(super) fn hash(mut reader: impl Read) -> io::Result<Checksum> {
    let mut hasher = Sha256::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(Checksum::from_hasher(hasher)),
            read => hasher.update(&buffer[..read]),
        }
    }
}

impl Tree {
    fn read(top: &Path, most: ByteSize) -> Result<Self, TreeError> {
        let mut tree = Self::default();
        tree.walk(top, Path::new(""), 0, Reading { most, is_repository: false })?;
        Ok(tree)
    }

    /// Adds the repository at the top, if there is one that is not too large.
    fn add_repository(&mut self, top: &Path) {
        let path = top.join(REPOSITORY);
        let Ok(metadata) = path.symlink_metadata() else { return };
        let mut repository = Self::default();
        let reading = Reading { most: MAX_BYTES, is_repository: true };
        // A file in its place names a folder elsewhere.
        let is_whole = metadata.is_dir() && repository.walk(top, Path::new(REPOSITORY), 1, reading).is_ok();
        match (is_whole, metadata.modified()) {
            (true, Ok(modified)) => {
                self.items.push(Item { path: REPOSITORY.into(), kind: ItemKind::Dir, modified });
                self.items.append(&mut repository.items);
            }
            (_, _) => self.left_out.push(REPOSITORY.into()),
        }
    }

    fn walk(&mut self, top: &Path, below: &Path, depth: usize, reading: Reading) -> Result<(), TreeError> {
        let dir = top.join(below);
        if depth > MAX_DEPTH {
            return Err(TreeError::TooDeep { dir });
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).map_err(io_error("read", &dir))? {
            names.push(entry.map_err(io_error("read", &dir))?.file_name());
            if self.items.len() + names.len() > MAX_ITEMS {
                return Err(TreeError::TooMany { dir: top.to_owned() });
            }
        }
        names.sort();
        for name in names {
            if !reading.is_repository && (name == REPOSITORY || (depth == 0 && name == "target")) {
                continue;
            }
            let path = below.join(name);
            let on_disk = top.join(&path);
            let metadata = on_disk.symlink_metadata().map_err(io_error("read", &on_disk))?;
            let modified = metadata.modified().map_err(io_error("read the time of", &on_disk))?;
            if metadata.is_dir() {
                self.items.push(Item { path: path.clone(), kind: ItemKind::Dir, modified });
                self.walk(top, &path, depth + 1, reading)?;
            } else if metadata.is_file() {
                self.bytes += metadata.len();
                if self.bytes > reading.most.as_u64() {
                    return Err(TreeError::TooLarge { dir: top.to_owned() });
                }
                self.items.push(Item { path, kind: ItemKind::File(Kind::of_mode(metadata.mode())), modified });
            } else if metadata.is_symlink() {
                let target = fs::read_link(&on_disk).map_err(io_error("read", &on_disk))?;
                if stays_inside(&target, depth) {
                    self.items.push(Item { path, kind: ItemKind::Link(target), modified });
                } else {
                    self.left_out.push(path);
                }
            } else {
                self.left_out.push(path);
            }
        }
        Ok(())
    }
}

/// Whether a link in a folder `depth` below the top stays below the top.
///
/// All `..` must come first: they then climb real folders, and other links on the rest of the path stay inside
/// as well.
pub(super) fn stays_inside(target: &Path, depth: usize) -> bool {
    let climbs = target.components().take_while(|part| *part == Component::ParentDir).count();
    climbs <= depth
        && target.components().skip(climbs).all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

fn open(path: &Path) -> Result<File, TreeError> {
    File::open(path).map_err(io_error("read", path))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TreeError {
    let path = path.to_owned();
    move |source| TreeError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Duration;

    use super::*;

    fn write(dir: &Path, path: &str, contents: &str) {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    #[test]
    fn a_copy_has_the_sources_with_their_times_and_not_what_was_built_from_them() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for path in ["Cargo.toml", "src/target/mod.rs", "target/debug/x", ".git/HEAD", "sub/.git/HEAD", "sub/b.rs"] {
            write(&from, path, path);
        }
        fs::set_permissions(from.join("Cargo.toml"), fs::Permissions::from_mode(0o6700)).unwrap();
        let at =
            |path: &str, time| File::options().write(true).open(from.join(path)).unwrap().set_modified(time).unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        at("src/target/mod.rs", old);
        at("sub/b.rs", SystemTime::now() + Duration::from_secs(1_000_000));
        assert_eq!(copy_tree(&from, &to, None).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(fs::read_to_string(to.join("src/target/mod.rs")).unwrap(), "src/target/mod.rs");
        assert_eq!(to.join("Cargo.toml").metadata().unwrap().mode() & 0o7777, 0o755);
        let modified = |path: PathBuf| path.metadata().unwrap().modified().unwrap();
        assert_eq!(modified(to.join("src/target/mod.rs")), old);
        assert_eq!(modified(to.join("src")), modified(from.join("src")));
        assert!(modified(to.join("sub/b.rs")) <= SystemTime::now());
        assert!(!to.join("target").exists() && !to.join("sub/.git").exists());
        assert_eq!(digest(&from).unwrap(), digest(&to).unwrap());
    }

    #[test]
    fn a_repository_comes_along_and_its_commit_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for (path, text) in
            [(".git/HEAD", "ref: refs/heads/main"), (".git/refs/heads/main", "1"), (".git/target/.git", "x")]
        {
            write(&from, path, text);
        }
        assert_eq!(copy_tree(&from, &to, None).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(fs::read_to_string(to.join(".git/refs/heads/main")).unwrap(), "1");
        assert_eq!(fs::read_to_string(to.join(".git/target/.git")).unwrap(), "x");
        let first = digest(&from).unwrap();
        assert_eq!(first, digest(&to).unwrap());
        write(&from, ".git/index", "another time of a file");
        assert_eq!(digest(&from).unwrap(), first);
        write(&from, ".git/refs/heads/main", "2");
        let second = digest(&from).unwrap();
        assert_ne!(second, first);
        fs::remove_file(from.join(".git/refs/heads/main")).unwrap();
        write(&from, ".git/packed-refs", "# pack-refs\n3 refs/heads/main\n4 refs/heads/other\n");
        assert_ne!(digest(&from).unwrap(), second);
        fs::remove_dir_all(from.join(".git")).unwrap();
        write(&from, ".git", "gitdir: /elsewhere");
        assert_eq!(copy_tree(&from, &dir.path().join("again"), None).unwrap(), [PathBuf::from(".git")]);
    }

    #[test]
    fn links_stay_links_and_those_that_lead_out_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        write(&from, "sub/a", "a");
        for (target, link) in [
            ("sub/a", "in"),
            ("../in", "sub/up"),
            ("/etc", "abs"),
            ("..", "out"),
            ("../../x", "sub/out"),
            ("sub/../..", "sly"),
        ] {
            symlink(target, from.join(link)).unwrap();
        }
        let left_out = copy_tree(&from, &to, None).unwrap();
        assert_eq!(left_out, ["abs", "out", "sly", "sub/out"].map(PathBuf::from));
        assert_eq!(fs::read_link(to.join("sub/up")).unwrap(), Path::new("../in"));
        assert_eq!(fs::read_to_string(to.join("sub/up")).unwrap(), "a");
        assert!(to.join("abs").symlink_metadata().is_err());
    }

    #[test]
    fn a_digest_tells_apart_names_contents_modes_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        let mut seen = std::collections::BTreeSet::from([digest(top).unwrap()]);
        let mut is_new = || seen.insert(digest(top).unwrap());
        write(top, "a", "x");
        assert!(is_new());
        write(top, "a", "y");
        assert!(is_new());
        fs::rename(top.join("a"), top.join("b")).unwrap();
        assert!(is_new());
        fs::set_permissions(top.join("b"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_new());
        symlink("b", top.join("l")).unwrap();
        assert!(is_new());
        fs::create_dir(top.join("empty")).unwrap();
        assert!(is_new());
        write(top, "target/x", "x");
        assert!(!is_new());
    }

    #[test]
    fn a_folder_that_is_too_large_says_so_before_anything_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir(&from).unwrap();
        File::create(from.join("sparse")).unwrap().set_len(MAX_BYTES.as_u64() + 1).unwrap();
        assert!(matches!(copy_tree(&from, &dir.path().join("to"), None), Err(TreeError::TooLarge { .. })));
        assert!(!dir.path().join("to").exists());
        let deep = dir.path().join("deep");
        fs::create_dir_all(deep.join("d/".repeat(300))).unwrap();
        assert!(matches!(digest(&deep), Err(TreeError::TooDeep { .. })));
    }
}
