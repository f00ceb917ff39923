//! An experiment as clients see it, and who may manage it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use utoipa::ToSchema;

use crate::nearest::nearest;
use crate::serve::access::{Caller, Run};
use crate::serve::dispatch;
use crate::serve::problem::{Kind, Place, Problem};
use crate::serve::state::AppState;
use crate::serve::worker::Active;
use crate::store::Store;
use crate::store::service::{Served, State};

/// An experiment.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Experiment {
    #[serde(skip)]
    pub(super) id: i64,
    /// Its name.
    pub(super) name: String,
    /// `planning`, `invalid`, `queued`, `running`, `paused`, `reporting`, `report-failed`, `done`, `aborting`, `aborted`,
    /// or `local` for one of `maar run`.
    pub(super) state: String,
    /// Why it is invalid, has no report or ended early.
    pub(super) trouble: Option<String>,
    /// Its page.
    pub(super) url: String,
    /// Who created it.
    pub(super) owner: Option<String>,
    /// The greatest is first.
    pub(super) priority: i64,
    /// Its share among equal priorities.
    pub(super) weight: f64,
    /// Whether it waits until it is resumed.
    pub(super) paused: bool,
    /// Raised by every rerun.
    pub(super) generation: u64,
    /// Raised by every edit; the ETag.
    pub(super) etag: u64,
    /// Its place in the queue, from 1; none where it doesn't wait.
    pub(super) position: Option<usize>,
    /// When it was created.
    pub(super) created: String,
    /// When it was done or aborted.
    pub(super) ended: Option<String>,
    /// How many crates its plan has.
    pub(super) crates: u64,
    /// How many of them are finished.
    pub(super) done: u64,
    /// How many have each verdict.
    pub(super) verdicts: BTreeMap<String, u64>,
    /// The seconds that it will take, by its pace so far; none while that isn't known.
    pub(super) eta_s: Option<u64>,
    /// The CPU time of its ops so far, in milliseconds.
    pub(super) cpu_ms: u64,
    /// The ops that run now.
    pub(super) ops: Vec<Active>,
}

impl Experiment {
    /// Gathers all that is shown. `open`: the queue.
    pub(super) fn of(state: &AppState, store: &Store, served: &Served, open: &[Served]) -> Result<Self, Problem> {
        let verdicts: BTreeMap<String, u64> =
            store.verdict_counts(&served.name)?.into_iter().filter(|(verdict, _)| verdict != "pending").collect();
        let done = verdicts.values().sum();
        let running = state.worker().snapshot().filter(|running| running.name == served.name);
        let position = dispatch::order(open).iter().position(|waiting| waiting.name == served.name);
        let eta = running.as_ref().and_then(|running| eta(running.since, running.done_before, done, served.crates));
        Ok(Self {
            id: served.id,
            name: served.name.clone(),
            state: state_name(served).to_owned(),
            trouble: served.trouble.clone(),
            url: format!("/ex/{}", served.name),
            owner: served.owner.clone(),
            priority: served.priority,
            weight: served.weight,
            paused: served.paused,
            generation: served.generation,
            etag: served.etag,
            position: position.map(|position| position + 1),
            created: shown(served.created),
            ended: served.ended.map(shown),
            crates: served.crates,
            done,
            verdicts,
            eta_s: eta.map(|eta| eta.as_secs()),
            cpu_ms: served.spent / 1000,
            ops: running.map(|running| running.ops).unwrap_or_default(),
        })
    }
}

/// The state that users know: `paused` is one of theirs.
pub(super) fn state_name(served: &Served) -> &'static str {
    match served.state {
        Some(State::Queued) if served.paused => "paused",
        Some(state) => state.as_str(),
        None => "local",
    }
}

/// The rest of a run, if it goes on as it did in this turn.
fn eta(since: Duration, before: u64, done: u64, crates: u64) -> Option<Duration> {
    let finished = done.checked_sub(before).filter(|finished| *finished > 0)?;
    let left = crates.saturating_sub(done);
    Some(since.mul_f64(left as f64 / finished as f64))
}

pub(super) fn shown(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The experiment, or a problem with the nearest name.
pub(super) fn found(store: &Store, name: &str) -> Result<Served, Problem> {
    store.served(name)?.map_or_else(|| Err(absent(store, name)?), Ok)
}

/// Makes sure that there is such an experiment, for callers that need nothing else of it.
pub(super) fn ensure(store: &Store, name: &str) -> Result<(), Problem> {
    if store.has_experiment(name)? { Ok(()) } else { Err(absent(store, name)?) }
}

fn absent(store: &Store, name: &str) -> Result<Problem, Problem> {
    let names = store.experiment_names()?;
    let meant = nearest(name, names.iter().map(String::as_str));
    let shown: String = name.chars().take(80).collect();
    let hint = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
    Ok(Problem::new(Kind::NotFound, format!("no experiment is named `{}`{hint}", shown.escape_debug()))
        .at(Place::Path("name".to_owned()))
        .meant(meant))
}

/// The same, if the caller may manage it.
pub(super) fn manage(store: &Store, name: &str, caller: &Caller<Run>) -> Result<Served, Problem> {
    let served = found(store, name)?;
    if caller.is_admin() || served.owner.as_deref() == Some(caller.owner()) {
        return Ok(served);
    }
    let owner = served.owner.as_deref().unwrap_or("another user");
    Err(Problem::new(Kind::Forbidden, format!("`{name}` belongs to {owner}; its owner or an administrator manages it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_the_pace_of_this_turn_says() {
        let minute = Duration::from_secs(60);
        assert_eq!(eta(minute, 10, 40, 100), Some(Duration::from_secs(120)));
        assert_eq!(eta(minute, 10, 10, 100), None);
        assert_eq!(eta(minute, 20, 10, 100), None);
        assert_eq!(eta(minute, 0, 100, 100), Some(Duration::ZERO));
    }
}
