//! `maar run --dry-run`: the crates and their cost, as a list that `-c list:FILE` reads.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use crate::experiment::Experiment;
use crate::krate::{Origin, Selected};
use crate::ops::Stage;
use crate::outcome::Outcome;
use crate::plan::{self, CratePlan, Fingerprint};
use crate::printable::{crates, duration, one_line, thousands};
use crate::schedule::Expectations;

/// The plan of a run.
pub(super) struct Ahead<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) plans: &'a [CratePlan],
    pub(super) finished: &'a HashMap<Fingerprint, Outcome>,
    pub(super) expectations: &'a Expectations,
    /// How the selection was made.
    pub(super) notes: &'a [String],
}

/// The remaining work.
#[derive(Default)]
struct Cost {
    /// Crates with something left to do.
    crates: usize,
    ops: usize,
    /// Those of them that ran before, so that their times are known.
    known: usize,
    by_stage: HashMap<Stage, Duration>,
}

/// Prints a crate a line, and the rest as comments.
pub(super) fn write(ahead: &Ahead<'_>, out: &mut dyn Write) -> io::Result<()> {
    for note in ahead.notes {
        writeln!(out, "# {}", one_line(note))?;
    }
    for plan in ahead.plans {
        writeln!(out, "{}", line(&plan.krate))?;
    }
    let Cost { crates: left, ops, known, by_stage } = cost(ahead);
    let workers = ahead.experiment.workers;
    let of = |stage| by_stage.get(&stage).copied().unwrap_or_default();
    let work: Duration = Stage::ALL.into_iter().map(of).sum();
    let wall =
        Stage::ALL.into_iter().map(|stage| of(stage) / u32::try_from(workers.of(stage)).unwrap_or(u32::MAX)).max();
    writeln!(out, "# {}, {} with work left: {} ops", crates(ahead.plans.len()), thousands(left), thousands(ops))?;
    let recorded = match ops - known {
        0 => "all by recorded times".to_owned(),
        rest => format!("{} of {} ops by guess, for want of recorded times", thousands(rest), thousands(ops)),
    };
    writeln!(out, "# {} of work ({recorded})", duration(work))?;
    let Some(wall) = wall else { return Ok(()) };
    let split = Stage::ALL.map(|stage| format!("{stage}={}", workers.of(stage))).join(",");
    writeln!(out, "# about {} with --workers {split}", duration(wall))
}

/// The crate as a selection; one that can't be run is a comment.
fn line(krate: &Selected) -> String {
    match &krate.origin {
        Origin::Registry { .. } => krate.id.to_string(),
        Origin::Path { dir, member, .. } if member.as_os_str().is_empty() => format!("path:{}", dir.display()),
        Origin::Path { dir, member, .. } => format!("path:{}", dir.join(member).display()),
        Origin::Skipped { reason: why, .. }
        | Origin::Missing(why)
        | Origin::Unusable(why)
        | Origin::Unavailable(why) => {
            format!("# {}: {}", krate.id, one_line(why))
        }
    }
}

fn cost(ahead: &Ahead<'_>) -> Cost {
    let mut cost = Cost::default();
    for plan in ahead.plans {
        let left = plan::remaining(ahead.experiment, plan, ahead.finished);
        let name = &plan.krate.id.name;
        cost.crates += usize::from(!left.is_empty());
        cost.ops += left.len();
        for step in &left {
            *cost.by_stage.entry(step.op.stage()).or_default() += ahead.expectations.wall(name, step, None);
            cost.known += usize::from(ahead.expectations.is_recorded(name, step));
        }
    }
    cost
}
