//! The Docker back end: every crate's commands with one toolchain in one container, through the daemon's own interface.
//!
//! Process 1 of a container is maar's own binary, the steward. It takes commands over a socket, gives each a terminal
//! that maar made, and kills all processes that a command leaves. So limits, output, times and ends are supervised by
//! the same code as in the native sandbox, and a container ends when maar does, even without an order to.
//!
//! A container is kept when its cell is closed, for the next cell with the same scratch folder that looks the same,
//! until [`Sandbox::release`](super::Sandbox::release).

mod container;
mod daemon;
mod door;
mod error;
mod image;
mod import;
mod label;
mod request;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::container::Container;
use self::daemon::Daemon;
pub use self::error::DockerError;
pub use self::image::{BadImage, Image};
pub use self::import::{Built, build_image};
use self::label::Label;
use self::request::Common;
use super::cores::CorePool;
use super::users::Users;
use super::{Command, Console, Cores, Exit, Outlet, SandboxError, Spec, User};
use crate::stop::Stop;

/// The configuration of a Docker sandbox.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the daemon listens, as `DOCKER_HOST` has it; none: where it usually does.
    pub host: Option<String>,
    /// The image whose files commands see.
    pub image: Image,
    /// The program that serves as steward: maar itself, whose `main` calls [`super::helper_main_if_asked`].
    pub helper: PathBuf,
}

/// Opens cells that are containers.
#[derive(Debug, Clone)]
pub struct Docker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    daemon: Daemon,
    common: Common,
    cores: CorePool,
    /// Containers whose cell is closed, by scratch folder.
    kept: Mutex<HashMap<PathBuf, Container>>,
}

/// A cell that is a container.
#[derive(Debug)]
pub struct DockerCell {
    shared: Arc<Shared>,
    spec: Spec,
    /// None once it failed: its state is then unknown.
    container: Option<Container>,
}

impl Config {
    /// This program and the daemon that the environment names.
    pub fn new(image: Image) -> Self {
        let helper = super::native::Config::default().helper;
        Self { host: std::env::var("DOCKER_HOST").ok(), image, helper }
    }
}

impl Docker {
    /// Finds the daemon of this host and the image, and clears away what dead runs left.
    ///
    /// # Errors
    /// When no daemon answers this user, or the image doesn't exist.
    pub async fn connect(config: Config) -> Result<Self, SandboxError> {
        let Config { host, image, helper } = config;
        // The daemon must find it by itself.
        let helper = fs::canonicalize(&helper).map_err(|source| SandboxError::Helper {
            doing: "find",
            path: helper.clone(),
            source,
        })?;
        let daemon = Daemon::find(host).await?;
        if daemon.image_id(&image).await?.is_none() {
            return Err(DockerError::NoImage(image).into());
        }
        let label = Label::of_this_process();
        daemon.sweep(&label).await?;
        let users_of_host = Users::find(None);
        let common = Common { image, helper, users_of_host, label, cores: daemon.cores, users: daemon.users };
        Ok(Self {
            shared: Arc::new(Shared { daemon, common, cores: CorePool::of_this_process(), kept: Mutex::default() }),
        })
    }

    pub(super) fn user(&self) -> User {
        self.shared.common.users_of_host.lease()
    }

    pub(super) fn unenforced(&self, cores: Cores) -> Vec<String> {
        let missing = self.shared.daemon.missing.iter();
        let missing =
            missing.map(|(name, loss)| format!("{loss} ({name}: the Docker daemon can't limit it on this host)"));
        // A container outlives the turn of its command, and with it the lease of the cores.
        let cores = (cores == Cores::Own)
            .then(|| "a command may leave the cores that it was given (cpuset: not set for containers)".to_owned());
        missing.chain(cores).chain(self.shared.common.users_of_host.unenforced()).collect()
    }

    pub(super) async fn open(&self, spec: Spec) -> Result<DockerCell, SandboxError> {
        let kept = self.shared.kept().remove(&spec.scratch);
        let container = match kept {
            Some(container) if container.fits(&spec) => container,
            kept => {
                if let Some(other) = kept {
                    other.end(&self.shared).await?;
                }
                Container::start(&self.shared, &spec).await?
            }
        };
        Ok(DockerCell { shared: Arc::clone(&self.shared), spec, container: Some(container) })
    }

    pub(super) async fn release(&self, scratch: &Path) -> Result<(), SandboxError> {
        let kept = self.shared.kept().remove(scratch);
        match kept {
            Some(container) => container.end(&self.shared).await,
            None => Ok(()),
        }
    }
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, HashMap<PathBuf, Container>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DockerCell {
    pub(super) async fn run(
        &mut self,
        command: &Command,
        stop: &Stop,
        console: Option<&mut Console>,
        outlet: Option<Outlet>,
    ) -> Result<Exit, SandboxError> {
        // Out of the cell for the time of the command: dropping this future ends the container.
        let mut container = self.container.take().ok_or(DockerError::Lost)?;
        match container.run(&self.shared, &self.spec, command, stop, console, outlet).await {
            Ok(exit) => {
                self.container = Some(container);
                Ok(exit)
            }
            Err(error) => {
                // The first error is more useful than one of the removal.
                let _ = container.end(&self.shared).await;
                Err(error)
            }
        }
    }

    pub(super) fn close(self) {
        if let Some(container) = self.container {
            self.shared.kept().insert(self.spec.scratch, container);
        }
    }
}
