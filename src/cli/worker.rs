//! The worker of `maar serve`: runs experiments of the queue as [`run::Session`](crate::run::Session)s.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::install::Installer;
use super::{closing, components};
use crate::event::RunEvent;
use crate::experiment::{Form, Host, Installing, Loaded, Sent};
use crate::home::Home;
use crate::printable::with_causes;
use crate::progress::{self, Update};
use crate::registry::{RegistryError, Watch};
use crate::run::{self, Bench, Enforcement, Request, Reuse, SelectedBy, Session, SessionError};
use crate::serve::worker::{Runner, Trouble, Verdict, Watcher};
use crate::stop::{Stop, Stopper};
use crate::store::service::Submission;
use crate::store::{Store, StoreError};
use crate::toolchain::ToolchainSpec;

/// Runs experiments on this host.
pub(super) struct InProcess {
    bench: Arc<Bench>,
    runtime: Handle,
}

impl InProcess {
    /// A worker over a bench, within the current runtime.
    pub(super) fn new(bench: Bench) -> Self {
        Self { bench: Arc::new(bench), runtime: Handle::current() }
    }

    fn home(&self) -> &Home {
        self.bench.home()
    }

    fn load(&self, name: &str, submission: &Submission) -> Result<Request, Trouble> {
        let installer = Installer(Installing::Nothing);
        let find = |spec: Option<&ToolchainSpec>, installing| installer.find(spec, installing);
        let host = Host { cores: self.bench.cores(), folder: Path::new("/"), toolchain: &find };
        let form = Form::of(&submission.form).unwrap_or(Form::Toml);
        let loaded = Sent { form, text: &submission.text }.load(&host);
        let (mut loaded, _) = loaded.map_err(|error| Trouble::Invalid(error.to_string()))?;
        // Its name may come from the URL, or from the crates.
        loaded.experiment.name = name.to_owned();
        components::check(&loaded, installer).map_err(|error| Trouble::Invalid(error.to_string()))?;
        Ok(Self::request(loaded, submission))
    }

    fn request(loaded: Loaded, submission: &Submission) -> Request {
        Request {
            loaded,
            selected_by: SelectedBy::File,
            reuse: if submission.fresh { Reuse::Nothing } else { Reuse::Everything },
            limits: Enforcement::WherePossible,
            dump: None,
        }
    }
}

impl Runner for InProcess {
    fn plan(&self, name: &str, submission: &Submission, stop: &Stop) -> Result<(), Trouble> {
        let request = self.load(name, submission)?;
        let quiet: Watch = Arc::new(|_: &str| {});
        self.runtime.block_on(async {
            let session = Session::open(&self.bench, request, &quiet, stop).await.map_err(|error| trouble(&error))?;
            match session {
                Some(session) => session.begin(Stop::never()).map(drop).map_err(|error| trouble(&error)),
                None => Ok(()),
            }
        })?;
        if submission.fresh {
            // Once: the next turn goes on with the results of this one.
            self.store()?.used_fresh(name).map_err(|error| Trouble::Host(error.to_string()))?;
        }
        Ok(())
    }

    fn run(
        &self,
        name: &str,
        submission: &Submission,
        mut watcher: Watcher,
        (stopper, stop): (&Stopper, &Stop),
    ) -> Result<(), Trouble> {
        let request = self.load(name, submission)?;
        let quiet: Watch = Arc::new(|_: &str| {});
        self.runtime.block_on(async {
            let session = Session::open(&self.bench, request, &quiet, stop).await.map_err(|error| trouble(&error))?;
            let Some(session) = session else { return Ok(()) };
            let begun = session.begin(Stop::never()).map_err(|error| trouble(&error))?;
            let (crates, left) = (begun.planned().plans().len(), begun.planned().to_run());
            let pools = begun.shape().pools();
            watcher.begin(&progress::Plan { pools, crates, already_done: crates - left });
            for note in begun.notes() {
                watcher.update(&Update::Note(note.clone()));
            }
            let mut events = move |event: RunEvent| watcher.update(&event.into());
            let driven = begun.drive(&mut events, None, (stopper, stop)).await;
            let mut driven = driven.map_err(|error| trouble(&error))?;
            // It notes the cost of the run.
            driven.report().map(drop).map_err(|error| trouble(&error))
        })
    }

    fn report(&self, name: &str) -> Result<Vec<Verdict>, Trouble> {
        let store = self.store()?;
        let host = |error: &dyn std::error::Error| Trouble::Host(error.to_string());
        let results = run::results(&store, name).map_err(|error| host(&error))?;
        let report = run::report(&store, &results).map_err(|error| host(&error))?;
        closing::write_html(&store, self.home(), &report).map_err(|error| host(&error))?;
        let verdict = |krate: &crate::compare::CrateReport| {
            let version = krate.version.as_ref().map(|version| format!("@{version}")).unwrap_or_default();
            (format!("{}{version}", krate.name), krate.verdict.to_string(), krate.verdict_reason.clone())
        };
        Ok(report.crates.iter().map(verdict).collect())
    }
}

impl InProcess {
    fn store(&self) -> Result<Store, Trouble> {
        Store::open(&self.home().database()).map_err(|error: StoreError| Trouble::Host(error.to_string()))
    }
}

/// Whose fault an error is.
fn trouble(error: &SessionError) -> Trouble {
    match error {
        SessionError::Misuse(why) => Trouble::Invalid(why.clone()),
        // With the causes, such as the answer of the registry.
        SessionError::Registry(RegistryError::Network { .. }) => Trouble::Host(with_causes(error)),
        SessionError::Registry(_) | SessionError::Lockfile(_) => Trouble::Invalid(with_causes(error)),
        SessionError::Provide(_)
        | SessionError::NoSandbox(_)
        | SessionError::Unenforced(_)
        | SessionError::Sandbox(_)
        | SessionError::Home(_)
        | SessionError::Store(_)
        | SessionError::Upstream(_)
        | SessionError::Cache(_)
        | SessionError::Settings(_)
        | SessionError::Vanished(_)
        | SessionError::Run(_) => Trouble::Host(with_causes(error)),
    }
}
