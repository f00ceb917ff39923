//! `maar run --dry-run`: the crates and their cost, as a list that `-c list:FILE` reads.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use crate::krate::{Origin, Selected};
use crate::ops::Stage;
use crate::plan;
use crate::printable::{crates, duration, one_line, thousands};
use crate::run::Session;

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
pub(super) fn write(session: &Session, out: &mut dyn Write) -> io::Result<()> {
    for note in session.notes() {
        writeln!(out, "# {}", one_line(note))?;
    }
    for plan in session.plans() {
        writeln!(out, "{}", line(&plan.krate))?;
    }
    let Cost { crates: left, ops, known, by_stage } = cost(session);
    let workers = session.experiment().workers;
    let of = |stage| by_stage.get(&stage).copied().unwrap_or_default();
    let work: Duration = Stage::ALL.into_iter().map(of).sum();
    let wall =
        Stage::ALL.into_iter().map(|stage| of(stage) / u32::try_from(workers.of(stage)).unwrap_or(u32::MAX)).max();
    writeln!(out, "# {}, {} with work left: {} ops", crates(session.plans().len()), thousands(left), thousands(ops))?;
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

fn cost(session: &Session) -> Cost {
    let mut cost = Cost::default();
    for plan in session.plans() {
        let left = plan::remaining(session.experiment(), plan, session.finished());
        let name = &plan.krate.id.name;
        cost.crates += usize::from(!left.is_empty());
        cost.ops += left.len();
        for step in &left {
            *cost.by_stage.entry(step.op.stage()).or_default() += session.expectations().wall(name, step, None);
            cost.known += usize::from(session.expectations().is_recorded(name, step));
        }
    }
    cost
}
