//! The two forms of `build`, and which one a crate's plan has: the one that has been answered already. Pure.
//!
//! `build` asks whether a package builds. Alone it is `cargo build`; where `test` follows it is `cargo test --no-run`,
//! with `cargo build` only if that fails ([`Op::BuildTests`]). A result of either form answers the question, so that
//! editing an op list doesn't repeat a build.

use std::collections::HashMap;

use super::fingerprint::{Fingerprint, Particulars};
use super::{CratePlan, Step, is_settled};
use crate::experiment::Experiment;
use crate::ops::Op;
use crate::outcome::Outcome;
use crate::toolchain::Toolchain;

/// Puts the other form of `build` into the plans of crates that have results of that form only.
///
/// Toolchains are compared, so that all of a crate's have the same form: that of more results, else the planned one.
pub fn adopt(
    plans: &mut [CratePlan],
    experiment: &Experiment,
    toolchains: &[Toolchain],
    finished: &HashMap<Fingerprint, Outcome>,
) {
    for plan in plans {
        let limits = experiment.limits_of(&plan.krate.id.name, &Op::Build.name());
        let is_answered =
            |step: &Step| finished.get(&step.fingerprint).is_some_and(|outcome| is_settled(outcome, &limits));
        let planned = || plan.steps.iter().enumerate().filter(|(_, step)| other_form(&step.op).is_some());
        let other: Vec<(usize, Step)> =
            planned().filter_map(|(place, step)| Some((place, other(plan, step, experiment, toolchains)?))).collect();
        let answered = planned().filter(|(_, step)| is_answered(step)).count();
        if other.iter().filter(|(_, step)| is_answered(step)).count() > answered {
            other.into_iter().for_each(|(place, step)| plan.steps[place] = step);
        }
    }
}

fn other_form(op: &Op) -> Option<Op> {
    match op {
        Op::Build => Some(Op::BuildTests),
        Op::BuildTests => Some(Op::Build),
        Op::Prepare | Op::Check | Op::Test | Op::Retest(_) | Op::Clippy | Op::Doc | Op::Command(_) => None,
    }
}

/// The step in the other form.
fn other(plan: &CratePlan, step: &Step, experiment: &Experiment, toolchains: &[Toolchain]) -> Option<Step> {
    let op = other_form(&step.op)?;
    let ops = experiment.ops_of(&plan.krate.id.name);
    let place = ops.iter().position(|listed| *listed == Op::Build)?;
    let particulars = Particulars { op: &op, before: &ops[..place], toolchains, toolchain: Some(step.toolchain?) };
    let fingerprint = Fingerprint::new(experiment, &plan.krate, particulars);
    Some(Step { op, fingerprint, ..step.clone() })
}
