//! The end of a run on the terminal: the table, the page and the cost.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::exit::Exit;
use super::reused::Reused;
use crate::compare::{Conclusion, Report};
use crate::home::Home;
use crate::plan::LogId;
use crate::printable::crates;
use crate::registry::{IndexUrl, Upstream};
use crate::report::text::{self, Width};
use crate::report::{ReportError, figures, html};
use crate::sandbox::Output;
use crate::stop::StopLevel;
use crate::store::{Store, StoreError};

/// The last words of a run.
pub(super) struct Closing<'a> {
    pub(super) report: &'a Report,
    /// The first page of the HTML report.
    pub(super) page: Option<&'a Path>,
    pub(super) reused: Option<Reused>,
    pub(super) conclusion: Conclusion,
    pub(super) stopped: StopLevel,
}

impl Closing<'_> {
    /// Writes the table of crates, the cost of the run, the place of the page, and how to go on if it was stopped.
    pub(super) fn write(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let Self { report, page, reused, conclusion, stopped } = self;
        text::write(report, width(), out)?;
        writeln!(out)?;
        writeln!(out, "{:<8}{}", "name", report.experiment)?;
        if let Some(reused) = reused {
            writeln!(out, "{:<8}{}", "reused", reused.in_words())?;
        }
        let figures = report.runs.last().map(figures::figures).unwrap_or_default();
        for (label, text) in figures {
            writeln!(out, "{label:<8}{text}")?;
        }
        if let Some(page) = page {
            writeln!(out, "{:<8}{}", "report", page.display())?;
        }
        if *stopped > StopLevel::Run {
            writeln!(out, "stopped; the same command goes on from here")?;
        } else if let Some(why) = untested(*conclusion) {
            writeln!(out, "{:<8}{why}", "exit")?;
        }
        Ok(())
    }
}

/// Why a run that found no failure doesn't end with success.
fn untested(conclusion: Conclusion) -> Option<String> {
    match conclusion {
        Conclusion::Clean | Conclusion::Failures | Conclusion::HostFailed => None,
        Conclusion::SomeUntested(count) => Some(format!(
            "code {}: {} could not be tested; --fail-on chooses the verdicts that count",
            Exit::SomeUntested as u8,
            crates(count)
        )),
        Conclusion::NothingTested(_) => Some(format!("code {}: no crate could be tested", Exit::NothingTested as u8)),
    }
}

/// Writes the HTML report to the home, and returns the path of its first page.
pub(super) fn write_html(store: &Store, home: &Home, report: &Report) -> Result<PathBuf, ReportError> {
    write_pages(store, report, &home.reports().join(&report.experiment))
}

/// Writes the HTML report to a folder.
pub(super) fn write_pages(store: &Store, report: &Report, folder: &Path) -> Result<PathBuf, ReportError> {
    // Without cargo's configuration the report has no links.
    let index = Upstream::configured().ok().map(|upstream| upstream.index);
    let links = html::Links {
        registry: index.as_ref().and_then(IndexUrl::crate_pages),
        docs: index.as_ref().and_then(IndexUrl::doc_pages),
    };
    let lockfiles = |prepare| store.lockfile(&report.experiment, &prepare);
    let logs = logs_of(store, &report.experiment);
    html::write(report, &html::Attachments { logs: &logs, lockfiles: &lockfiles, links }, folder)
}

/// Where the reports of an experiment get the logs from.
pub(super) fn logs_of(store: &Store, experiment: &str) -> impl Fn(LogId) -> Result<Option<Output>, StoreError> {
    move |log| store.log(experiment, log)
}

/// The width of the terminal on stdout; a pipe or a file has none, and gets whole lines.
pub(super) fn width() -> Width {
    // `terminal_size()` would take that of stderr where stdout is a pipe.
    match terminal_size::terminal_size_of(std::io::stdout()) {
        Some((columns, _)) => Width::Columns(columns.0.into()),
        None => Width::Whole,
    }
}
