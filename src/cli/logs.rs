//! `maar logs`: the output of a crate's ops.

use std::io::Write;

use super::args::LogsArgs;
use super::exit::{Exit, Misuse};
use super::{follow, stored};
use crate::compare::{CrateResults, Results};
use crate::krate::CrateId;
use crate::nearest::{did_you_mean, listed, nearest};
use crate::ops::OpName;
use crate::plan::Step;
use crate::printable::one_line;
use crate::report::terminal;
use crate::run;
use crate::toolchain::{self, Toolchain};

/// Prints the logs of all ops that ran, or of those that the arguments name.
pub(super) fn run(args: &LogsArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (home, store) = stored::open(&args.home)?;
    let results = run::results(&store, &args.name)?;
    let krate = find(&results, &args.krate)?;
    let wanted = args.toolchain.as_deref().map(|wanted| toolchain(&results, &args.name, wanted)).transpose()?;
    let of_interest = |step: &Step| {
        let fits = wanted.is_none_or(|wanted| step.toolchain.is_none_or(|place| place == wanted));
        fits && args.op.as_ref().is_none_or(|wanted| *wanted == step.op.name())
    };
    if let Some(wanted) = &args.op {
        check_op(wanted, krate)?;
    }
    let mut printed = false;
    for (step, result) in krate.steps.iter().filter(|(step, _)| of_interest(step)) {
        let Some(result) = result else { continue };
        let Some(log) = store.log(&args.name, step.log_id())? else { continue };
        let toolchain =
            step.toolchain.map(|index| format!("@{}", results.toolchains[index].label())).unwrap_or_default();
        let reason = result.outcome.reason().map(|reason| format!(": {}", one_line(&reason))).unwrap_or_default();
        let again = if step.attempt > 1 { format!(", attempt {}", step.attempt) } else { String::new() };
        writeln!(out, "== {}{toolchain}{again}: {}{reason}", step.op.name(), result.outcome.kind())?;
        terminal::write(&log.head, out)?;
        if log.dropped > 0 {
            writeln!(out, "\n== {} bytes were not kept", log.dropped)?;
        }
        terminal::write(&log.tail, out)?;
        writeln!(out)?;
        printed = true;
    }
    if args.follow {
        let label = wanted.map(|place| results.toolchains[place].label());
        follow::follow(&home, args, (&krate.krate.id, label), out)?;
        return Ok(Exit::Fine);
    }
    if !printed {
        let hint = format!("`maar report {}` shows what has", args.name);
        return Err(Misuse(format!("no such op of {} has run yet; {hint}", krate.krate.id)).into());
    }
    Ok(Exit::Fine)
}

/// Rejects an op that the crate's plan doesn't have.
fn check_op(wanted: &OpName, krate: &CrateResults) -> Result<(), Misuse> {
    let planned: Vec<OpName> = krate.steps.iter().map(|(step, _)| step.op.name()).collect();
    let (id, mut names) = (&krate.krate.id, planned.iter().map(OpName::as_str).collect::<Vec<_>>());
    names.sort_unstable();
    names.dedup();
    if names.contains(&wanted.as_str()) {
        return Ok(());
    }
    let hint = match nearest(wanted.as_str(), names.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None if names.is_empty() => "it has none at all".to_owned(),
        None => format!("it has {}", listed(names)),
    };
    Err(Misuse(format!("no op `{wanted}` is planned for {id}; {hint}")))
}

/// The place of the toolchain that the user means, by its label or its spec.
pub(super) fn toolchain(results: &Results, experiment: &str, wanted: &str) -> Result<usize, Misuse> {
    let folder = std::env::current_dir().unwrap_or_default();
    toolchain::position(&results.toolchains, wanted, &folder).ok_or_else(|| {
        let labels: Vec<&str> = results.toolchains.iter().map(Toolchain::label).collect();
        let wanted = wanted.escape_debug();
        Misuse(format!("experiment `{experiment}` has no toolchain `{wanted}`, only {}", labels.join(", ")))
    })
}

pub(super) fn find<'a>(results: &'a Results, wanted: &CrateId) -> Result<&'a CrateResults, Misuse> {
    let named = |krate: &&CrateResults| {
        let id = &krate.krate.id;
        id.name == wanted.name && (wanted.version.is_none() || id.version == wanted.version)
    };
    let found: Vec<&CrateResults> = results.crates.iter().filter(named).collect();
    let experiment = &results.experiment;
    match found.as_slice() {
        [only] => Ok(only),
        [] => {
            let names = results.crates.iter().map(|krate| krate.krate.id.name.as_str());
            let hint = did_you_mean(wanted.name.as_str(), names).map(|hint| format!("; {hint}")).unwrap_or_default();
            Err(Misuse(format!("`{wanted}` is not in experiment `{experiment}`{hint}")))
        }
        several => {
            let ids: Vec<String> = several.iter().map(|krate| krate.krate.id.to_string()).collect();
            Err(Misuse(format!("experiment `{experiment}` has {}: name one of them", ids.join(", "))))
        }
    }
}
