//! Copies a folder that maar has made to where commands may change it, with owners, permissions and times: cargo
//! compares times.

use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{SandboxError, blocking};

/// How many bytes a folder may hold to be small.
const SMALL: u64 = 64 << 20;

/// Copies a folder, unless something is there from an earlier cell.
pub(super) async fn into_empty(from: PathBuf, to: PathBuf) -> Result<(), SandboxError> {
    blocking(move || copy_into_empty(&from, &to)).await
}

/// As [`into_empty`], but only a small folder. Returns whether the copy is there.
pub(super) async fn small_into_empty(from: PathBuf, to: PathBuf) -> Result<bool, SandboxError> {
    blocking(move || {
        if add_up(&from, 0)? > SMALL {
            return Ok(false);
        }
        copy_into_empty(&from, &to).map(|()| true)
    })
    .await
}

/// The size of a folder's files on top of `sum`, counted until it is clear that they are not small.
fn add_up(folder: &Path, mut sum: u64) -> Result<u64, SandboxError> {
    let failed = |source| SandboxError::Path { doing: "measure", path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if sum > SMALL {
            break;
        }
        let metadata = entry.metadata().map_err(failed)?;
        sum = if metadata.is_dir() { add_up(&entry.path(), sum)? } else { sum + metadata.len() };
    }
    Ok(sum)
}

fn copy_into_empty(from: &Path, to: &Path) -> Result<(), SandboxError> {
    let failed = |source| SandboxError::Path { doing: "copy to", path: to.to_owned(), source };
    if fs::read_dir(to).map_err(failed)?.next().is_none() { copy_folder(from, to) } else { Ok(()) }
}

/// Copies the entries of a folder, with owners, permissions and times.
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
                .and_then(|()| keep_owner(&source, &target))
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
            // Devices, pipes and sockets are not sources.
            continue;
        }
        keep_owner(&source, &target).map_err(failed(&target))?;
        let times = entry.metadata().and_then(|metadata| metadata.modified()).map_err(failed(&source))?;
        File::open(&target)
            .and_then(|file| file.set_times(FileTimes::new().set_modified(times)))
            .map_err(failed(&target))?;
    }
    Ok(())
}

/// Gives a copy the owner of the original: a job's user, where jobs have their own.
fn keep_owner(source: &Path, target: &Path) -> io::Result<()> {
    let (owner, made) = (source.symlink_metadata()?, target.symlink_metadata()?);
    if (owner.uid(), owner.gid()) == (made.uid(), made.gid()) {
        return Ok(());
    }
    std::os::unix::fs::lchown(target, Some(owner.uid()), Some(owner.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_is_not_small_is_counted_no_further() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/a"), [0; 1000]).unwrap();
        assert_eq!(add_up(dir.path(), 0).unwrap(), 1000);
        File::create(dir.path().join("sparse")).unwrap().set_len(SMALL).unwrap();
        assert!(add_up(dir.path(), 0).unwrap() >= SMALL);
    }
}
