//! A crate's page: its verdict, what every op cost, and the logs, the telling ones first.

use std::path::Path;
use std::time::Duration;

use maud::{Markup, PreEscaped, html};

use super::excerpt::excerpt;
use super::page::{self, Script, verdict_class};
use super::runs::{Run, runs};
use super::{ansi, write_file};
use crate::compare::{CrateReport, Report, Standing};
use crate::outcome::OutcomeKind;
use crate::printable::{bytes, duration, one_line, thousands};
use crate::report::{Logs, ReportError};
use crate::sandbox::Output;

/// Writes the page, and beside it the logs that it can't show whole.
pub(super) fn write(
    report: &Report,
    krate: &CrateReport,
    logs: &Logs<'_>,
    folder: &Path,
    slug: &str,
) -> Result<(), ReportError> {
    let runs = runs(krate);
    let mut shown = Vec::new();
    for (place, run) in runs.iter().enumerate() {
        let log = match logs(run.op.log)? {
            Some(log) => {
                let file = format!("{slug}.{}-{place}.log", run.op.op);
                render(&log, &file, folder)?
            }
            None => html! { p.empty { "It printed nothing." } },
        };
        shown.push(log);
    }
    let body = html! {
        header.top {
            p.kicker { a href="../index.html" { "← " (report.experiment) } }
            h1 {
                (krate.name)
                @if let Some(version) = &krate.version { " " span.soft { (version) } }
            }
            p.headline { span class={ "verdict " (verdict_class(krate.verdict)) } { (krate.verdict) } }
            @if let Some(reason) = &krate.verdict_reason { p.why { (one_line(reason)) } }
        }
        main {
            @if runs.is_empty() {
                p.empty { "No op of it has run." }
            } @else {
                (ops(report, &runs))
                (logs_in_order(report, krate, &runs, &shown))
            }
        }
    };
    let title = format!("{}: {} · {} · maar", krate.id(), krate.verdict, report.experiment);
    let html = page::shell(&title, Script::None, &body).into_string();
    write_file(&folder.join(format!("{slug}.html")), html.as_bytes())
}

fn ops(report: &Report, runs: &[Run<'_>]) -> Markup {
    html! {
        div.scroll {
            table.ops {
                caption { "Ops in the order in which they ran" }
                thead {
                    tr {
                        th scope="col" { "Op" }
                        th scope="col" { "Toolchain" }
                        th scope="col" { "Outcome" }
                        th scope="col" { "Reason" }
                        th.number scope="col" { "Wall" }
                        th.number scope="col" { "CPU" }
                        th.number scope="col" { "Peak memory" }
                        th.number scope="col" { "Units compiled" }
                        th.number scope="col" { "Units reused" }
                        th.number scope="col" { "Units in the op" }
                        th.number scope="col" { "Units again" }
                    }
                }
                tbody {
                    @for (place, run) in runs.iter().enumerate() {
                        tr {
                            th scope="row" {
                                a href={ "#log-" (place) } { (run.op.op) }
                                @if run.op.attempt > 1 { " " span.soft { "attempt " (run.op.attempt) } }
                            }
                            td { (toolchains(report, run)) }
                            td { (page::outcome(&run.op.standing)) }
                            td.reason { @if let Some(reason) = run.op.standing.reason() { (one_line(&reason)) } }
                            td.number { (duration(Duration::from_millis(run.op.wall_ms))) }
                            td.number { (duration(Duration::from_millis(run.op.cpu_ms))) }
                            td.number {
                                @match run.op.peak_memory_bytes {
                                    Some(peak) => (bytes(peak)),
                                    None => span.soft { "unknown" },
                                }
                            }
                            td.number { (thousands(run.op.units.compiled)) }
                            td.number { (thousands(run.op.units.reused)) }
                            td.number { (thousands(run.op.units.in_op)) }
                            td.number { (thousands(run.op.units.again)) }
                        }
                    }
                }
            }
        }
    }
}

/// The evidence side by side, the baseline on the left, then everything else as it ran.
fn logs_in_order(report: &Report, krate: &CrateReport, runs: &[Run<'_>], shown: &[Markup]) -> Markup {
    let (evidence, rest): (Vec<usize>, Vec<usize>) =
        (0..runs.len()).partition(|place| krate.evidence.contains(&runs[*place].op.log));
    html! {
        @if !evidence.is_empty() {
            h2 { @if evidence.len() > 1 { "Where the toolchains part" } @else { "What decided" } }
            div.evidence {
                @for place in evidence { (log(report, &runs[place], place, &shown[place], Shown::Open)) }
            }
        }
        @if !rest.is_empty() {
            h2 { @if rest.len() < runs.len() { "Other logs" } @else { "Logs" } }
            @for place in rest {
                (log(report, &runs[place], place, &shown[place], Shown::by_outcome(&runs[place].op.standing)))
            }
        }
    }
}

/// Whether a reader sees a log without asking for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Open,
    Folded,
}

impl Shown {
    fn by_outcome(standing: &Standing) -> Self {
        match standing.kind() {
            None | Some(OutcomeKind::Passed | OutcomeKind::Skipped) => Self::Folded,
            Some(OutcomeKind::Failed | OutcomeKind::Broken | OutcomeKind::Inconclusive | OutcomeKind::Error) => {
                Self::Open
            }
        }
    }
}

fn log(report: &Report, run: &Run<'_>, place: usize, content: &Markup, shown: Shown) -> Markup {
    html! {
        details.log id={ "log-" (place) } open[shown == Shown::Open] {
            summary {
                strong { (run.op.op) }
                " " span.soft { (toolchains(report, run)) }
                " " (page::outcome(&run.op.standing))
                " " span.soft { (duration(Duration::from_millis(run.op.wall_ms))) }
            }
            (content)
        }
    }
}

fn toolchains(report: &Report, run: &Run<'_>) -> Markup {
    html! {
        @if report.toolchains.len() > 1 && run.toolchains.len() == report.toolchains.len() {
            "all"
        } @else {
            @for (place, toolchain) in run.toolchains.iter().enumerate() {
                @if place > 0 { ", " }
                (toolchain)
            }
        }
    }
}

/// The log as a page shows it; one that is too large is written whole to `file` too.
fn render(log: &Output, file: &str, folder: &Path) -> Result<Markup, ReportError> {
    let shown = excerpt(log);
    if shown.left_out > 0 {
        let mut whole = log.head.clone();
        if log.dropped > 0 {
            whole.extend_from_slice(format!("\n[{} bytes were not kept]\n", log.dropped).as_bytes());
        }
        whole.extend_from_slice(&log.tail);
        write_file(&folder.join(file), &whole)?;
    }
    Ok(html! {
        // A scrolling region needs a focus to be scrolled by keys.
        div.screen tabindex="0" role="region" aria-label="Log" {
            pre {
                (PreEscaped(ansi::to_html(shown.head)))
                @if shown.left_out > 0 {
                    span.gap {
                        (bytes(shown.left_out)) " left out here; "
                        a href=(file) { "what was kept, as plain text" }
                    }
                }
                (PreEscaped(ansi::to_html(shown.tail)))
            }
        }
    })
}
