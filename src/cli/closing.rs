//! How a run ends on the terminal: the table, the page, and what it took.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::compare::Report;
use crate::home::Home;
use crate::plan::LogId;
use crate::report::{ReportError, figures, html, text};
use crate::sandbox::Output;
use crate::stop::StopLevel;
use crate::store::{Store, StoreError};

/// Writes the closing table, what the run took, where the page is, and how to go on if it was stopped.
pub(super) fn write(
    report: &Report,
    page: Option<&Path>,
    stopped: StopLevel,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    text::write(report, columns(), out)?;
    writeln!(out)?;
    let figures = report.runs.last().map(figures::figures).unwrap_or_default();
    for (label, text) in figures {
        writeln!(out, "{label:<8}{text}")?;
    }
    if let Some(page) = page {
        writeln!(out, "{:<8}{}", "report", page.display())?;
    }
    if stopped > StopLevel::Run {
        writeln!(out, "stopped; the same command goes on from here")?;
    }
    Ok(())
}

/// Writes the HTML report to the home, and says where its first page is.
pub(super) fn write_html(store: &Store, home: &Home, report: &Report) -> Result<PathBuf, ReportError> {
    html::write(report, &logs_of(store, &report.experiment), &home.reports().join(&report.experiment))
}

/// Where the reports of an experiment get the logs from.
pub(super) fn logs_of(store: &Store, experiment: &str) -> impl Fn(LogId) -> Result<Option<Output>, StoreError> {
    move |log| store.log(experiment, log)
}

/// The width of the terminal; where stdout is none, that of a page.
pub(super) fn columns() -> usize {
    const PAGE: usize = 120;
    terminal_size::terminal_size().map_or(PAGE, |(width, _)| width.0.into())
}
