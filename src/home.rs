//! maar's folder: the database, the caches, the reports, and the folders of the jobs now running.
//!
//! Several runs may share a home, but only one at a time may work on an experiment. The files of a run that died
//! behind is swept by the next one, and only that: every run holds a lock on its folder, which dies with it.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use crate::sandbox::remove_folder;

/// maar's folder.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
}

/// The folder of one run's jobs. Dropping it removes it.
#[derive(Debug)]
pub struct Jobs {
    dir: PathBuf,
    _lock: File,
}

/// Keeps other processes off an experiment while it is held.
#[derive(Debug)]
pub struct ExperimentLock {
    _lock: File,
}

/// Errors of a home.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither given nor to be derived from the environment.
    #[error("no home folder: set HOME, or name one with --home DIR")]
    Unknown,
    /// A file or folder couldn't be used.
    #[error("failed to {what} {path}: {source}")]
    Io {
        /// The action that failed.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The disk of the home is full.
    #[error("no space left to write {path}; free some and run again, what is finished is kept")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Commands made it under ids that this process doesn't have.
    #[error(
        "failed to remove {path}: {source}; commands of an earlier run made files there under subordinate ids of yours: \
         `maar clean` removes them where newuidmap works, or `sudo rm -r {path}`"
    )]
    Foreign {
        /// The file or folder.
        path: PathBuf,
        /// Why it couldn't be removed.
        source: io::Error,
    },
    /// A run is using it.
    #[error("a run is using {0}; wait for it to end")]
    InUse(PathBuf),
    /// Another process works on the experiment.
    #[error("experiment `{0}` is being run by another process; wait for it, or give this one another --name")]
    Busy(String),
    /// Another server runs over it.
    #[error("another `maar serve` uses {0}; end it first, or choose another home with --home DIR")]
    Served(PathBuf),
}

impl Home {
    /// Opens `dir`, making it if need be; without one, `maar` in the user's data folder: `$XDG_DATA_HOME`, else
    /// `~/.local/share` ([XDG base directories](https://specifications.freedesktop.org/basedir-spec/latest/)).
    pub fn open(dir: Option<PathBuf>) -> Result<Self, HomeError> {
        let dir = match dir {
            Some(dir) => dir,
            None => default_dir().ok_or(HomeError::Unknown)?,
        };
        make(&dir)?;
        // Mounts want absolute paths without links.
        let dir = dir.canonicalize().map_err(|source| HomeError::Io { what: "find", path: dir.clone(), source })?;
        let home = Self { dir };
        for folder in [home.cache(), home.reports(), home.dir.join("jobs"), home.dir.join("locks")] {
            make(&folder)?;
        }
        Ok(home)
    }

    /// Opens a home that is there already, as [`open`](Self::open) would; none if it isn't. One that this user can't
    /// write to can still be read.
    pub fn existing(dir: Option<PathBuf>) -> Result<Option<Self>, HomeError> {
        let dir = dir.or_else(default_dir).ok_or(HomeError::Unknown)?;
        if !dir.exists() {
            return Ok(None);
        }
        match Self::open(Some(dir.clone())) {
            Err(HomeError::Io { source, .. }) if is_refused(&source) => {
                let dir = dir.canonicalize().map_err(|source| HomeError::Io { what: "find", path: dir, source })?;
                Ok(Some(Self { dir }))
            }
            opened => opened.map(Some),
        }
    }

    /// Checks that files can be made in the home, by making one.
    ///
    /// # Errors
    /// When they can't.
    pub fn check_writable(&self) -> Result<(), HomeError> {
        let made = tempfile::tempfile_in(&self.dir).map(drop);
        made.map_err(|source| HomeError::Io { what: "write to", path: self.dir.clone(), source })
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The database of results.
    pub fn database(&self) -> PathBuf {
        self.dir.join("maar.db")
    }

    /// Tarballs, index entries and unpacked dependencies; all of it can be fetched again.
    pub fn cache(&self) -> PathBuf {
        self.dir.join("cache")
    }

    /// The layers of compiled dependencies; all of it can be compiled again.
    pub fn layers(&self) -> PathBuf {
        self.cache().join("layers")
    }

    /// Locks on the ids that commands of an ordinary user have; made when first needed.
    pub fn users(&self) -> PathBuf {
        self.dir.join("users")
    }

    /// The HTML reports, a folder per experiment.
    pub fn reports(&self) -> PathBuf {
        self.dir.join("reports")
    }

    /// Makes the folder for this run's jobs, and removes those of runs that died.
    pub fn jobs(&self) -> Result<Jobs, HomeError> {
        let jobs = self.dir.join("jobs");
        close(&jobs)?;
        let _gate = gate(&jobs)?;
        sweep(&jobs)?;
        let dir = jobs.join(std::process::id().to_string());
        make(&dir)?;
        close(&dir)?;
        let path = dir.join(".lock");
        let lock = lock_file(&path)?;
        lock.try_lock().map_err(|error| HomeError::Io { what: "lock", path, source: error.into() })?;
        Ok(Jobs { dir, _lock: lock })
    }

    /// Whether there are folders of other runs, dead or alive.
    pub fn has_leftovers(&self) -> bool {
        fs::read_dir(self.dir.join("jobs"))
            .is_ok_and(|entries| entries.flatten().any(|entry| !entry.file_name().as_bytes().starts_with(b".")))
    }

    /// Removes the caches and the remains of dead runs, and returns the freed space.
    ///
    /// # Errors
    /// When a run is using them.
    pub fn clean(&self) -> Result<ByteSize, HomeError> {
        let jobs = self.dir.join("jobs");
        let _gate = gate(&jobs)?;
        let before = size(&self.dir);
        if sweep(&jobs)? == Swept::SomeAlive {
            return Err(HomeError::InUse(self.dir.clone()));
        }
        remove(&self.cache())?;
        make(&self.cache())?;
        Ok(ByteSize::b(before.saturating_sub(size(&self.dir))))
    }

    /// Removes the HTML report of an experiment, if there is one.
    pub fn remove_report(&self, experiment: &str) -> Result<(), HomeError> {
        remove(&self.reports().join(experiment))
    }

    /// The folder of the run that works on an experiment now; none if no run does.
    pub fn jobs_of(&self, experiment: &str) -> Option<PathBuf> {
        let folders = fs::read_dir(self.dir.join("jobs")).ok()?.flatten().map(|entry| entry.path());
        let is_alive = |folder: &PathBuf| File::open(folder.join(".lock")).is_ok_and(|lock| lock.try_lock().is_err());
        let mut of = folders.filter(|folder| fs::read_to_string(folder.join(OF)).is_ok_and(|name| name == experiment));
        of.find(is_alive)
    }

    /// Takes the home for the server of this process.
    #[cfg(feature = "server")]
    pub fn lock_server(&self) -> Result<ExperimentLock, HomeError> {
        // An experiment's name doesn't begin with a dot.
        self.lock(".server").map_err(|error| match error {
            HomeError::Busy(_) => HomeError::Served(self.dir.clone()),
            other => other,
        })
    }

    /// Takes the experiment for this process.
    pub fn lock(&self, experiment: &str) -> Result<ExperimentLock, HomeError> {
        let path = self.dir.join("locks").join(experiment);
        let lock = lock_file(&path)?;
        match lock.try_lock() {
            Ok(()) => Ok(ExperimentLock { _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(HomeError::Busy(experiment.to_owned())),
            Err(TryLockError::Error(source)) => Err(HomeError::Io { what: "lock", path, source }),
        }
    }
}

/// The file in a run's folder that names its experiment.
const OF: &str = ".experiment";

impl Jobs {
    /// Notes which experiment the run is of, for those who follow it.
    pub fn name(&self, experiment: &str) -> Result<(), HomeError> {
        let path = self.dir.join(OF);
        fs::write(&path, experiment).map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull => HomeError::Full { path },
            _ => HomeError::Io { what: "write", path, source },
        })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        // The next run sweeps the rest.
        let _ = remove_folder(&self.dir);
    }
}

fn default_dir() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))?;
    Some(data.join("maar"))
}

/// Whether the host refuses to write there, rather than failing to.
fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

fn make(path: &Path) -> Result<(), HomeError> {
    fs::create_dir_all(path).map_err(|source| HomeError::Io { what: "make", path: path.to_owned(), source })
}

/// Keeps other users out of a folder, against the umask or the mode that an older maar gave it: a set-id file of a cell
/// would be one on the host.
fn close(path: &Path) -> Result<(), HomeError> {
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(|source| HomeError::Io {
        what: "close to other users",
        path: path.to_owned(),
        source,
    })
}

/// Private, because a user who can open a lock can also take it, and keep maar out of its experiments.
fn lock_file(path: &Path) -> Result<File, HomeError> {
    File::options().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(|source| HomeError::Io {
        what: "open",
        path: path.to_owned(),
        source,
    })
}

/// Keeps other processes from sweeping, so that none removes a folder between its making and its locking.
fn gate(jobs: &Path) -> Result<File, HomeError> {
    let path = jobs.join(".lock");
    let gate = lock_file(&path)?;
    gate.lock().map_err(|source| HomeError::Io { what: "lock", path, source })?;
    Ok(gate)
}

#[derive(Debug, PartialEq, Eq)]
enum Swept {
    AllGone,
    SomeAlive,
}

/// Removes the folders of runs that hold no lock any more.
fn sweep(jobs: &Path) -> Result<Swept, HomeError> {
    let mut swept = Swept::AllGone;
    let entries = fs::read_dir(jobs).map_err(|source| HomeError::Io { what: "list", path: jobs.to_owned(), source })?;
    for entry in entries.flatten() {
        if entry.file_name().as_bytes().starts_with(b".") {
            continue;
        }
        if File::open(entry.path().join(".lock")).is_ok_and(|lock| lock.try_lock().is_err()) {
            swept = Swept::SomeAlive;
        } else {
            remove(&entry.path())?;
        }
    }
    Ok(swept)
}

fn remove(path: &Path) -> Result<(), HomeError> {
    match remove_folder(path) {
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            Err(HomeError::Foreign { path: path.to_owned(), source })
        }
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(HomeError::Io { what: "remove", path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The disk space of a tree, as far as it can be read.
fn size(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let own = metadata.blocks() * 512;
    match fs::read_dir(path) {
        Ok(entries) if metadata.is_dir() => entries.flatten().map(|entry| size(&entry.path())).sum::<u64>() + own,
        Ok(_) | Err(_) => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_runs_folder_is_swept_and_a_live_ones_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path().join("home"))).unwrap();
        let live = home.dir().join("jobs/1");
        fs::create_dir_all(&live).unwrap();
        let lock = lock_file(&live.join(".lock")).unwrap();
        lock.try_lock().unwrap();
        let dead = home.dir().join("jobs/2");
        fs::create_dir_all(dead.join("job-x/target")).unwrap();
        lock_file(&dead.join(".lock")).unwrap();

        let jobs = home.jobs().unwrap();

        assert!(live.exists() && !dead.exists());
        let own = jobs.dir().to_owned();
        assert!(own.exists());
        drop(jobs);
        assert!(!own.exists());
    }

    #[test]
    fn other_users_can_not_enter_the_folders_of_jobs() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path().join("home"))).unwrap();
        fs::set_permissions(home.dir().join("jobs"), Permissions::from_mode(0o777)).unwrap();
        let jobs = home.jobs().unwrap();
        for folder in [home.dir().join("jobs"), jobs.dir().to_owned()] {
            assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700, "{}", folder.display());
        }
    }

    #[test]
    fn an_experiment_is_run_by_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path().to_owned())).unwrap();
        let held = home.lock("demo").unwrap();
        assert!(matches!(home.lock("demo"), Err(HomeError::Busy(name)) if name == "demo"));
        home.lock("other").unwrap();
        drop(held);
        home.lock("demo").unwrap();
    }
}
