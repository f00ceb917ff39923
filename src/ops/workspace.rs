//! The folder of one crate's job: all that survives between its steps. Dropping it frees the disk.
//!
//! What a step makes anew is not removed by it: the old folder gets another name and goes to the [`Removal`].
//!
//! ```text
//! source/          the crate, pristine after `prepare`; lower layer of every toolchain's overlay
//! source-N/        the same for a toolchain with patches, whose lockfile differs
//! cargo/home/      cargo's home: its configuration, and git checkouts where there are any
//! cargo/vendor/    a link per dependency, into sources/
//! cargo/sources    a link to the shared store, for commands that run outside a cell of their own root
//! 0/, 1/, …        of each toolchain: upper/ and work/ of the overlay, target/ and target-work/ of the one over base/
//! N/base/          links to layers of compiled dependencies, made anew for each op
//! N/ahead/         while dependencies are compiled ahead of the crate: an outline of the crate, a stand-in for rustc,
//!                  upper/ and work/ of the target folder, and outside/, the folders that a cell has to itself
//! scratch/         of the cell that is open now
//! live             what the command that runs now has printed, for `maar logs --follow`
//! ```

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::removal::{Doomed, Removal};
use crate::ops::withheld::LeftOut;
use crate::outcome::Outcome;
use crate::owner::Owner;
use crate::sandbox::{Door, Found, User, remove_folder};

/// How large a manifest or lockfile may be, in bytes: those of the largest workspaces have less than one MiB.
pub(super) const MAX_SOURCE: u64 = 16 << 20;

/// A file in a folder that only maar writes to, if tests of the crate can't be built.
const UNUSABLE_TESTS: &str = "unusable-tests.json";

/// The name of the file with the output of the command that runs now.
const LIVE: &str = "live";

/// The folder of one crate's job.
#[derive(Debug)]
pub struct Workspace {
    dir: Doomed,
    /// Who the job's commands are to the host. Given back when the folder is gone, and all that was moved out of it.
    user: User,
    left_out: OnceLock<LeftOut>,
    removal: Removal<Doomed>,
    /// How many folders have been made anew.
    renewals: AtomicU64,
}

/// A folder of a workspace that couldn't be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what} {path}: {source}")]
pub struct WorkspaceError {
    what: &'static str,
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

/// The files that the jobs in `jobs`, a folder of one run, write their commands' output to.
pub fn live_files(jobs: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(jobs).into_iter().flatten().flatten();
    folders.map(|folder| folder.path().join(LIVE)).filter(|file| file.is_file()).collect()
}

impl Workspace {
    /// Makes an empty workspace in `jobs`, an existing folder. Cells write to it as `user`.
    ///
    /// `sources` is the shared store of unpacked dependencies.
    pub fn new(jobs: &Path, sources: &Path, user: User, removal: Removal<Doomed>) -> Result<Self, WorkspaceError> {
        let dir = tempfile::Builder::new()
            .prefix("job-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(jobs)
            .map_err(failed("make a folder in", jobs))?
            .keep();
        let dir = Doomed::new(dir, &user);
        let workspace = Self { dir, user, removal, renewals: AtomicU64::new(0), left_out: OnceLock::new() };
        workspace.make(&workspace.cargo())?;
        workspace.make_owned(&workspace.cargo_home())?;
        workspace.make(&workspace.scratch())?;
        let link = workspace.cargo().join("sources");
        symlink(sources, &link).map_err(failed("make", &link))?;
        Ok(workspace)
    }

    /// The crate's sources. Made by whoever unpacks them.
    pub(crate) fn source(&self) -> PathBuf {
        self.dir.path.join("source")
    }

    /// The crate's sources with the lockfile of a toolchain that has patches. Made by whoever unpacks them.
    pub(crate) fn patched_source(&self, toolchain: usize) -> PathBuf {
        self.dir.path.join(format!("source-{toolchain}"))
    }

    /// The crate's sources as ops with a toolchain see them.
    pub(crate) fn source_of(&self, toolchain: usize) -> PathBuf {
        let patched = self.patched_source(toolchain);
        if patched.exists() { patched } else { self.source() }
    }

    /// The crate's sources as a folder that a cell of `prepare` has written to.
    pub(crate) fn source_door(&self) -> io::Result<Door> {
        Door::open(&self.source())
    }

    /// The text of a file of the crate's sources.
    pub(crate) fn read_source(&self, path: &Path) -> io::Result<String> {
        read_below(&self.source(), path)
    }

    /// Makes `target` in the crate's sources, which a target folder is mounted on, whatever else has that name. Of what a
    /// package brings along in it nothing is seen.
    pub(crate) fn make_target(&self, source: &Path) -> io::Result<()> {
        let (door, name) = (Door::open(source)?, Path::new("target"));
        match door.look(name) {
            Ok(Found::Folder) => return Ok(()),
            Ok(Found::Nothing) => {}
            Ok(_) => door.remove(name)?,
            Err(error) => return Err(error),
        }
        door.make_folder("target", self.owner())
    }

    /// Notes what comes of tests, which need a package that can't be used.
    pub(crate) fn note_unusable_tests(&self, outcome: &Outcome) -> io::Result<()> {
        Door::open(&self.cargo())?.write(UNUSABLE_TESTS, &serde_json::to_vec(outcome)?, None)
    }

    /// What was noted.
    pub(crate) fn unusable_tests(&self) -> Option<Outcome> {
        let note = Door::open(&self.cargo()).and_then(|door| door.read(Path::new(UNUSABLE_TESTS), MAX_SOURCE));
        serde_json::from_slice(&note.ok()?).ok()
    }

    /// Notes why no op runs with a toolchain: its patches are not in the build.
    pub(crate) fn note_unpatched(&self, toolchain: usize, outcome: &Outcome) -> io::Result<()> {
        Door::open(&self.cargo())?.write(&unpatched(toolchain), &serde_json::to_vec(outcome)?, None)
    }

    /// What was noted.
    pub(crate) fn unpatched(&self, toolchain: usize) -> Option<Outcome> {
        let name = unpatched(toolchain);
        let note = Door::open(&self.cargo()).and_then(|door| door.read(Path::new(&name), MAX_SOURCE));
        serde_json::from_slice(&note.ok()?).ok()
    }

    /// Keeps what `prepare` left out of the sources.
    pub(crate) fn set_left_out(&self, left_out: LeftOut) {
        // A second `prepare` in one workspace leaves out the same.
        let _ = self.left_out.set(left_out);
    }

    /// What `prepare` left out of the sources.
    pub(crate) fn left_out(&self) -> &LeftOut {
        self.left_out.get_or_init(LeftOut::default)
    }

    pub(crate) fn cargo(&self) -> PathBuf {
        self.dir.path.join("cargo")
    }

    pub(crate) fn cargo_home(&self) -> PathBuf {
        self.cargo().join("home")
    }

    /// Made by whoever vendors the dependencies.
    pub(crate) fn vendor(&self) -> PathBuf {
        self.cargo().join("vendor")
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.path.join("scratch")
    }

    pub(crate) fn user(&self) -> &User {
        &self.user
    }

    /// The output of the command that runs now, as it comes.
    pub(crate) fn live(&self) -> PathBuf {
        self.dir.path.join(LIVE)
    }

    pub(crate) fn owner(&self) -> Option<Owner> {
        self.user.owner()
    }

    /// The folders of a toolchain, by its place in the experiment's list; made when first asked for.
    pub(crate) fn toolchain(&self, index: usize) -> Result<ToolchainDirs, WorkspaceError> {
        let dir = self.dir.path.join(index.to_string());
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

    /// Forgets what ops left of any toolchain. No cell may be open.
    pub(crate) async fn restart(&self, toolchains: usize) -> Result<(), WorkspaceError> {
        for toolchain in 0..toolchains {
            self.forget(toolchain).await?;
        }
        Ok(())
    }

    /// Forgets what ops left of a toolchain. No cell may be open.
    pub(crate) async fn forget(&self, toolchain: usize) -> Result<(), WorkspaceError> {
        self.banish(&self.dir.path.join(toolchain.to_string())).await
    }

    /// Whether no op of a toolchain has changed the crate's sources. `false` where that can't be found out.
    pub(crate) fn has_pristine_sources(&self, index: usize) -> bool {
        let Ok(dirs) = self.toolchain(index) else { return false };
        Door::open(&dirs.upper).and_then(|upper| upper.names(Path::new("."), 0)).is_ok_and(|names| names.is_some())
    }

    /// Takes back what ops of a toolchain changed of the crate's sources, and keeps what they compiled. No cell may be open.
    pub(crate) async fn restore_sources(&self, index: usize) -> Result<(), WorkspaceError> {
        let dirs = self.toolchain(index)?;
        self.renew(&dirs.upper, For::Cells).await?;
        self.renew(&dirs.work, For::Cells).await
    }

    /// Makes an empty folder, whatever was there before.
    pub(crate) async fn renew(&self, path: &Path, made_for: For) -> Result<(), WorkspaceError> {
        self.banish(path).await?;
        match made_for {
            For::Cells => self.make_owned(path),
            For::Maar => self.make(path),
        }
    }

    /// Hands itself over to be removed.
    pub async fn retire(self) {
        self.removal.take(self.dir).await;
    }

    /// Moves a folder out of the workspace, so that whoever removes the one is not in the way of whoever removes the other.
    async fn banish(&self, path: &Path) -> Result<(), WorkspaceError> {
        let mut elsewhere = self.dir.path.clone().into_os_string();
        elsewhere.push(format!("-old-{}", self.renewals.fetch_add(1, Ordering::Relaxed)));
        let elsewhere = PathBuf::from(elsewhere);
        match fs::rename(path, &elsewhere) {
            Ok(()) => {
                self.removal.offer(Doomed::new(elsewhere, &self.user)).await;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // Its owner may have closed it, in a cell.
            Err(_) => remove_folder(path).map_err(failed("remove", path)),
        }
    }

    fn make(&self, path: &Path) -> Result<(), WorkspaceError> {
        fs::create_dir(path).map_err(failed("make", path))
    }

    fn make_owned(&self, path: &Path) -> Result<(), WorkspaceError> {
        self.make(path)?;
        match self.owner() {
            Some(Owner { uid, gid }) => {
                std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(failed("change the owner of", path))
            }
            None => Ok(()),
        }
    }
}

/// The name of a note beside [`UNUSABLE_TESTS`].
fn unpatched(toolchain: usize) -> String {
    format!("unpatched-{toolchain}.json")
}

/// The text of a file below a folder that a cell of `prepare` has written to.
pub(super) fn read_below(folder: &Path, path: &Path) -> io::Result<String> {
    let bytes = Door::open(folder)?.read(path, MAX_SOURCE)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WorkspaceError {
    let path = path.to_owned();
    move |source| WorkspaceError { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_made_anew_is_removed_by_others_unless_they_have_too_much_to_do() {
        let jobs = tempfile::tempdir().unwrap();
        let (removal, waiting) = Removal::stuck(2);
        let workspace = Workspace::new(jobs.path(), Path::new("/sources"), User::shared(None), removal).unwrap();
        let dirs = workspace.toolchain(0).unwrap();
        let write = |folder: &Path| fs::write(folder.join("file"), "").unwrap();
        let folders = || fs::read_dir(jobs.path()).unwrap().count();

        write(&dirs.target);
        workspace.renew(&dirs.target, For::Cells).await.unwrap();
        assert!(dirs.target.exists() && !dirs.target.join("file").exists());
        workspace.forget(0).await.unwrap();
        assert!(!dirs.target.exists());
        assert_eq!(folders(), 3, "nothing is removed yet");
        // The queue is full.
        let dirs = workspace.toolchain(0).unwrap();
        write(&dirs.target);
        workspace.restart(1).await.unwrap();
        assert!(!dirs.target.exists());
        assert_eq!(folders(), 3);

        let doomed: Vec<Doomed> = std::iter::from_fn(|| waiting.try_recv().ok()).collect();
        assert!(doomed[0].path.join("file").exists());
        drop(doomed);
        assert_eq!(folders(), 1);
        drop(waiting);
        workspace.retire().await;
        assert_eq!(folders(), 0);
    }

    #[tokio::test]
    async fn a_jobs_user_is_given_back_after_the_last_folder_that_it_owns_is_removed() {
        let jobs = tempfile::tempdir().unwrap();
        let (removal, waiting) = Removal::stuck(2);
        let user = User::shared(None);
        let workspace = Workspace::new(jobs.path(), Path::new("/sources"), user.clone(), removal).unwrap();
        workspace.toolchain(0).unwrap();
        workspace.forget(0).await.unwrap();
        workspace.retire().await;

        let doomed: Vec<Doomed> = std::iter::from_fn(|| waiting.try_recv().ok()).collect();

        assert_eq!((doomed.len(), user.holders()), (2, 3));
        drop(doomed);
        assert_eq!(user.holders(), 1);
    }
}
