//! `maar report`: the report of an experiment in one of the formats.

use std::fs::File;
use std::io::{BufWriter, Write};

use anstream::StripStream;
use anyhow::Context;

use super::args::{Format, ReportArgs};
use super::exit::Exit;
use super::{closing, stored};
use crate::compare;
use crate::report::text::{self, Width};
use crate::report::{json, markdown, retry};
use crate::run;

/// Writes the report; the folder of an HTML one is printed.
pub(super) fn run(args: &ReportArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (home, store) = stored::open(&args.home)?;
    let results = match args.format {
        Format::Json => run::results_with_tests(&store, &args.name)?,
        Format::Html | Format::Markdown | Format::Retry | Format::Text => run::results(&store, &args.name)?,
    };
    let report = run::report(&store, &results)?;
    let log = closing::logs_of(&store, &args.name);
    if args.format == Format::Html {
        let folder = args.output.clone().unwrap_or_else(|| home.reports().join(&args.name));
        let page = closing::write_pages(&store, &report, &folder);
        let page = match &args.output {
            Some(_) => page?,
            None => page.context("failed to write to the home; `-o FOLDER` writes the pages elsewhere")?,
        };
        writeln!(out, "{}", page.display())?;
        return Ok(Exit::Fine);
    }
    let mut file;
    let out: &mut dyn Write = match &args.output {
        Some(path) => {
            let created = File::create(path).with_context(|| format!("failed to create {}", path.display()))?;
            // Colours are for terminals.
            file = BufWriter::new(StripStream::new(created));
            &mut file
        }
        None => out,
    };
    match args.format {
        Format::Html => unreachable!("written above"),
        Format::Retry => {
            let lockfile = |retry: &compare::Retry<'_>| {
                let lockfile = retry.prepare.map(|prepare| store.lockfile(&args.name, &prepare)).transpose()?;
                Ok(lockfile.flatten())
            };
            let folder = args.output.as_ref().map(|path| path.with_added_extension("lockfiles"));
            retry::write(&compare::retries(&results, &report), &lockfile, folder.as_deref(), out)?;
        }
        Format::Json => json::write(&report, out)?,
        Format::Markdown => markdown::write(&report, &log, out)?,
        Format::Text => {
            let width = if args.output.is_some() { Width::Whole } else { closing::width() };
            text::write(&report, width, out)?;
        }
    }
    out.flush()?;
    Ok(Exit::Fine)
}
