//! `maar logs`: what the ops of a crate printed.

use std::io::Write;

use anyhow::bail;

use super::args::LogsArgs;
use super::exit::Exit;
use super::stored;
use crate::compare::{CrateResults, Results};
use crate::krate::CrateId;
use crate::plan::Step;

/// Prints the logs of all ops that ran, or of those that the arguments name.
pub(super) fn run(args: &LogsArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (_, store) = stored::open(&args.home)?;
    let results = stored::results(&store, &args.name)?;
    let krate = find(&results, &args.krate)?;
    let of_interest = |step: &Step| {
        let toolchain = step.toolchain.map(|index| &results.toolchains[index].spec);
        let fits = args.toolchain.as_ref().is_none_or(|wanted| toolchain.is_none_or(|spec| spec == wanted));
        fits && args.op.as_ref().is_none_or(|wanted| *wanted == step.op.name())
    };
    if let Some(wanted) = &args.toolchain
        && !results.toolchains.iter().any(|toolchain| toolchain.spec == *wanted)
    {
        let specs: Vec<&str> = results.toolchains.iter().map(|toolchain| toolchain.spec.as_str()).collect();
        bail!("experiment `{}` has no toolchain `{wanted}`, only {}", args.name, specs.join(", "));
    }
    let mut printed = false;
    for (step, result) in krate.steps.iter().filter(|(step, _)| of_interest(step)) {
        let Some(result) = result else { continue };
        let Some(log) = store.log(&args.name, &step.fingerprint)? else { continue };
        let toolchain = step.toolchain.map(|index| format!("@{}", results.toolchains[index].spec)).unwrap_or_default();
        let reason = result.outcome.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
        writeln!(out, "== {}{toolchain}: {}{reason}", step.op.name(), result.outcome.kind())?;
        out.write_all(&log.head)?;
        if log.dropped > 0 {
            writeln!(out, "\n== {} bytes were not kept", log.dropped)?;
        }
        out.write_all(&log.tail)?;
        writeln!(out)?;
        printed = true;
    }
    if !printed {
        bail!("no such op of {} has run yet; `maar report {}` shows what has", krate.krate.id, args.name);
    }
    Ok(Exit::Fine)
}

fn find<'a>(results: &'a Results, wanted: &CrateId) -> anyhow::Result<&'a CrateResults> {
    let mut named = results.crates.iter().filter(|krate| {
        let id = &krate.krate.id;
        id.name == wanted.name && (wanted.version.is_none() || id.version == wanted.version)
    });
    match (named.next(), named.next()) {
        (Some(only), None) => Ok(only),
        (Some(first), Some(second)) => bail!(
            "several versions of `{}` are in experiment `{}`: name one, such as `{}` or `{}`",
            wanted.name,
            results.experiment,
            first.krate.id,
            second.krate.id
        ),
        (None, _) => {
            let names = results.crates.iter().map(|krate| krate.krate.id.name.as_str());
            let hint = crate::nearest::nearest(wanted.name.as_str(), names)
                .map(|name| format!("; did you mean `{name}`?"))
                .unwrap_or_default();
            bail!("`{wanted}` is not in experiment `{}`{hint}", results.experiment)
        }
    }
}
