//! `build` where `test` follows: do the package and its tests compile?
//!
//! Tests are built with the features that dev-dependencies turn on, which dependents don't have; building for both
//! costs nearly twice as much. So the package is built for its dependents only where it doesn't build with its tests,
//! to tell the one from the other. What breaks only without dev-dependencies is found by lists that have no `test`.

use super::{Done, Op, Order, Tools, Workspace, cell};
use crate::cache::Tally;
use crate::outcome::Outcome;

pub(super) const ARGS: &[&str] = &["test", "--frozen", "--no-run"];

pub(super) async fn run(tools: &Tools, workspace: &Workspace, order: &Order<'_>) -> Done {
    let with_tests = Op::run_command(tools, workspace, order).await;
    if with_tests.doubt.is_some() && order.after.is_none() {
        return with_tests;
    }
    // A hit limit is not evidence about either.
    let why = match &with_tests.outcome {
        Some(Outcome::Failed(failure)) => failure.to_string(),
        Some(
            Outcome::Passed | Outcome::Broken(_) | Outcome::Inconclusive(_) | Outcome::Skipped | Outcome::Error(_),
        )
        | None => return with_tests,
    };
    let mut alone = Op::run_command(tools, workspace, &Order { op: &Op::Build, ..order.clone() }).await;
    let note = format!("maar: not built together with the tests ({why}), so that they are told apart:\n");
    alone.output.head.splice(0..0, note.into_bytes());
    Done {
        usage: cell::sum(with_tests.usage, alone.usage),
        // Units that the first command used are reused by the second one.
        dependencies: with_tests.dependencies.plus(Tally { reused: 0, ..alone.dependencies }),
        ..alone
    }
}
