//! The folder of one crate's job: all that survives between its steps. Dropping it frees the disk.
//!
//! ```text
//! source/          the crate, pristine after `prepare`; lower layer of every toolchain's overlay
//! cargo/home/      cargo's home: its configuration, and git checkouts where there are any
//! cargo/vendor/    a link per dependency, into sources/
//! cargo/sources    a link to the shared store, for commands that run outside a cell of their own root
//! 0/, 1/, …        of each toolchain: upper/ and work/ of the overlay, target/ and target-work/ of the one over base/
//! N/base/          links to layers of compiled dependencies, made anew for each op
//! N/ahead/         while dependencies are compiled ahead of the crate: an outline of the crate, a stand-in for rustc,
//!                  upper/ and work/ of the target folder, and outside/, the folders that a cell has to itself
//! scratch/         of the cell that is open now
//! ```

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::owner::Owner;
use crate::sandbox::{Door, remove_folder};

/// How large a manifest or lockfile may be, in bytes: those of the largest workspaces have less than one MiB.
pub(super) const MAX_SOURCE: u64 = 16 << 20;

/// The folder of one crate's job.
#[derive(Debug)]
pub struct Workspace {
    dir: PathBuf,
    owner: Option<Owner>,
}

/// A folder of a workspace that couldn't be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to make {path}: {source}")]
pub struct WorkspaceError {
    path: PathBuf,
    source: io::Error,
}

/// Who writes to a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    Cells,
    Maar,
}

/// The folders of one toolchain.
#[derive(Debug, Clone)]
pub(crate) struct ToolchainDirs {
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) target_work: PathBuf,
    /// Not made here.
    pub(crate) base: PathBuf,
    /// Not made here.
    pub(crate) ahead: PathBuf,
}

impl Workspace {
    /// Makes an empty workspace in `jobs`, an existing folder. Cells write to it as `owner`.
    ///
    /// `sources` is the shared store of unpacked dependencies.
    pub fn new(jobs: &Path, sources: &Path, owner: Option<Owner>) -> Result<Self, WorkspaceError> {
        let dir = tempfile::Builder::new()
            .prefix("job-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(jobs)
            .map_err(|source| WorkspaceError { path: jobs.to_owned(), source })?
            .keep();
        let workspace = Self { dir, owner };
        workspace.make(&workspace.cargo())?;
        workspace.make_owned(&workspace.cargo_home())?;
        workspace.make(&workspace.scratch())?;
        let link = workspace.cargo().join("sources");
        symlink(sources, &link).map_err(|source| WorkspaceError { path: link, source })?;
        Ok(workspace)
    }

    /// The crate's sources. Made by whoever unpacks them.
    pub(crate) fn source(&self) -> PathBuf {
        self.dir.join("source")
    }

    /// The crate's sources as a folder that a cell of `prepare` has written to.
    pub(crate) fn source_door(&self) -> io::Result<Door> {
        Door::open(&self.source())
    }

    /// The text of a file at the top of the crate's sources.
    pub(crate) fn read_source(&self, name: &str) -> io::Result<String> {
        let bytes = self.source_door()?.read(Path::new(name), MAX_SOURCE)?;
        String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    pub(crate) fn cargo(&self) -> PathBuf {
        self.dir.join("cargo")
    }

    pub(crate) fn cargo_home(&self) -> PathBuf {
        self.cargo().join("home")
    }

    /// Made by whoever vendors the dependencies.
    pub(crate) fn vendor(&self) -> PathBuf {
        self.cargo().join("vendor")
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.join("scratch")
    }

    pub(crate) fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// The folders of a toolchain, by its place in the experiment's list; made when first asked for.
    pub(crate) fn toolchain(&self, index: usize) -> Result<ToolchainDirs, WorkspaceError> {
        let dir = self.dir.join(index.to_string());
        let dirs = ToolchainDirs {
            upper: dir.join("upper"),
            work: dir.join("work"),
            target: dir.join("target"),
            target_work: dir.join("target-work"),
            base: dir.join("base"),
            ahead: dir.join("ahead"),
        };
        if !dir.exists() {
            self.make(&dir)?;
            self.make_owned(&dirs.upper)?;
            self.make_owned(&dirs.work)?;
            self.make_owned(&dirs.target)?;
            self.make_owned(&dirs.target_work)?;
        }
        Ok(dirs)
    }

    /// Removes what ops left of any toolchain. No cell may be open.
    pub(crate) fn restart(&self, toolchains: usize) -> Result<(), WorkspaceError> {
        (0..toolchains)
            .map(|index| self.dir.join(index.to_string()))
            .try_for_each(|path| remove_folder(&path).map_err(|source| WorkspaceError { path, source }))
    }

    /// Makes an empty folder, whatever was there before.
    pub(crate) fn renew(&self, path: &Path, made_for: For) -> Result<(), WorkspaceError> {
        remove_folder(path).map_err(|source| WorkspaceError { path: path.to_owned(), source })?;
        match made_for {
            For::Cells => self.make_owned(path),
            For::Maar => self.make(path),
        }
    }

    fn make(&self, path: &Path) -> Result<(), WorkspaceError> {
        fs::create_dir(path).map_err(|source| WorkspaceError { path: path.to_owned(), source })
    }

    fn make_owned(&self, path: &Path) -> Result<(), WorkspaceError> {
        self.make(path)?;
        match self.owner {
            Some(Owner { uid, gid }) => std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .map_err(|source| WorkspaceError { path: path.to_owned(), source }),
            None => Ok(()),
        }
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What can't be removed now is swept by the next run.
        let _ = remove_folder(&self.dir);
    }
}
