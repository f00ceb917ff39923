//! `maar ops`: every op with its stage and its command.

use std::io::Write;

use super::args::OpsArgs;
use super::exit::Exit;
use crate::experiment;
use crate::ops::Op;

/// Prints the built-in ops, then the user's own.
pub(super) fn run(args: &OpsArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let own = experiment::own_ops(args.file.as_deref(), &std::env::current_dir()?)?;
    let ops = Op::BUILT_IN.into_iter().chain(own.into_iter().map(Op::Command));
    let rows: Vec<[String; 3]> = ops.map(|op| [op.name().to_string(), op.stage().to_string(), runs(&op)]).collect();
    let width = rows.iter().map(|[name, ..]| name.len()).max().unwrap_or(0);
    writeln!(out, "{:width$}  STAGE  RUNS", "OP")?;
    for [name, stage, runs] in rows {
        writeln!(out, "{name:width$}  {stage:5}  {runs}")?;
    }
    Ok(Exit::Fine)
}

fn runs(op: &Op) -> String {
    match op {
        Op::Prepare => "download, unpack, lock, fetch dependencies: once for all toolchains".to_owned(),
        Op::Check => "cargo check".to_owned(),
        Op::Build => "cargo build; where test follows, cargo test --no-run".to_owned(),
        Op::BuildTests => "cargo test --no-run".to_owned(),
        Op::Test | Op::Retest(_) => "cargo test".to_owned(),
        Op::Clippy => "cargo clippy".to_owned(),
        Op::Doc => "cargo doc".to_owned(),
        Op::Command(command) => command.run.iter().map(|word| shown(word)).collect::<Vec<_>>().join(" "),
    }
}

/// A word as it is, or quoted where its ends would not be seen or it could steer the terminal.
fn shown(word: &str) -> String {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '\'');
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("{word:?}") }
}
