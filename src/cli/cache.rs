//! `maar cache`: how much room compiled dependencies take, and `maar cache gc`, which makes some.

use std::io::Write;
use std::time::SystemTime;

use super::args::{CacheArgs, CacheCommand, GcArgs, crate_id};
use super::exit::{Exit, Misuse};
use super::{logs, stored};
use crate::cache::{self, Summary, Tally};
use crate::home::Home;
use crate::ops::UNSHARED;
use crate::printable::one_line;
use crate::report::figures::percent;
use crate::run;

/// Runs the subcommand.
pub(super) fn run(args: &CacheArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match &args.command {
        None if args.why.is_some() => why(args, out),
        None => show(&Home::open(args.home.folder.clone())?, out),
        Some(CacheCommand::Gc(args)) => collect(args, out),
    }
}

/// Prints a line per toolchain and host state, the sum last.
fn show(home: &Home, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let summaries = cache::summarise(&home.layers())?;
    if summaries.is_empty() {
        writeln!(out, "no compiled dependencies yet: `maar run` makes and shares them")?;
        return Ok(Exit::Fine);
    }
    writeln!(
        out,
        "{:>8}  {:>10}  {:>9}  {:>9}  {:>9}  {:>5}  TOOLCHAIN",
        "LAYERS", "SIZE", "USED", "COMPILED", "REUSED", "HITS"
    )?;
    let now = SystemTime::now();
    for Summary { toolchain, layers, size, last_used, tally } in &summaries {
        let ago = last_used.map_or_else(|| "never".to_owned(), |used| ago(now, used));
        let Tally { compiled, reused, .. } = tally;
        writeln!(
            out,
            "{layers:>8}  {:>10}  {ago:>9}  {compiled:>9}  {reused:>9}  {:>5}  {toolchain}",
            size.display().iec().to_string(),
            tally.hit_rate().map_or_else(|| "-".to_owned(), percent),
        )?;
    }
    let size = bytesize::ByteSize(summaries.iter().map(|summary| summary.size.as_u64()).sum());
    writeln!(out, "{} in all; `maar cache gc --budget SIZE` leaves no more than that", size.display().iec())?;
    Ok(Exit::Fine)
}

/// Prints a line for each dependency that an op of a crate compiled itself.
fn why(args: &CacheArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let Some([name, krate]) = args.why.as_deref() else { return Ok(Exit::Fine) };
    let (_, store) = stored::open(&args.home)?;
    let results = run::results(&store, name)?;
    let krate = logs::find(&results, &crate_id(krate).map_err(Misuse)?)?;
    let mut printed = false;
    for (step, result) in &krate.steps {
        let (Some(result), Some(log)) = (result, store.log(name, step.log_id())?) else { continue };
        let toolchain =
            step.toolchain.map(|index| format!("@{}", results.toolchains[index].label())).unwrap_or_default();
        let head = String::from_utf8_lossy(&log.head).into_owned();
        // The crate's output comes after its command.
        let notes = head.lines().take_while(|line| !line.starts_with("$ "));
        for line in notes.filter_map(|line| line.strip_prefix(UNSHARED)) {
            writeln!(out, "{}{toolchain}: {}", step.op.name(), one_line(line))?;
            printed = true;
        }
        let again = result.units.again;
        if again > 0 {
            let reason = "cargo found their layers stale: a build script of theirs runs in every build, or cargo and \
                          maar disagree";
            writeln!(out, "{}{toolchain}: {again} units with layers were compiled again: {reason}", step.op.name())?;
            printed = true;
        }
    }
    if !printed {
        writeln!(out, "no op of {} has compiled a dependency that crates may share", krate.krate.id)?;
    }
    Ok(Exit::Fine)
}

fn collect(args: &GcArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let home = Home::open(args.home.folder.clone())?;
    writeln!(out, "{}", cache::collect(&home.layers(), args.budget)?)?;
    Ok(Exit::Fine)
}

/// Such as `3h ago`.
fn ago(now: SystemTime, then: SystemTime) -> String {
    let seconds = now.duration_since(then).unwrap_or_default().as_secs();
    let (number, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "min"),
        3600..86400 => (seconds / 3600, "h"),
        _ => (seconds / 86400, "d"),
    };
    format!("{number}{unit} ago")
}
