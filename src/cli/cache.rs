//! `maar cache`: how much room compiled dependencies take, and `maar cache gc`, which makes some.

use std::io::Write;
use std::time::SystemTime;

use super::args::{CacheArgs, CacheCommand, GcArgs};
use super::exit::Exit;
use crate::cache::{self, Summary, Tally};
use crate::home::Home;
use crate::report::figures::percent;

/// Does what the arguments say.
pub(super) fn run(args: &CacheArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match &args.command {
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
        let Tally { compiled, reused } = tally;
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
