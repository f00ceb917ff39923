//! A crate's page: its verdict, the cost of each op, and the logs, the deciding ones first.

use std::path::Path;
use std::time::Duration;

use maud::{Markup, PreEscaped, html};

use super::excerpt::excerpt;
use super::page::{self, Script, verdict_class};
use super::runs::{Run, runs};
use super::{Attachments, Links, ansi, write_file};
use crate::compare::{CrateReport, Report, Source, Standing};
use crate::ops::Stage;
use crate::outcome::OutcomeKind;
use crate::printable::{bytes, duration, one_line, thousands};
use crate::report::ReportError;
use crate::sandbox::Output;

/// One crate's page.
pub(super) struct Page<'a> {
    pub(super) report: &'a Report,
    /// The names of all crates' pages.
    pub(super) slugs: &'a [String],
    /// The crate's place in the report.
    pub(super) krate: usize,
    /// The places of the crates before and behind it, in the order of the table.
    pub(super) neighbours: [Option<usize>; 2],
}

impl Page<'_> {
    /// Writes the page, and beside it the lockfile and the logs that it can't show whole.
    pub(super) fn write(&self, attachments: &Attachments<'_>, folder: &Path) -> Result<(), ReportError> {
        let (report, krate, slug) = (self.report, &self.report.crates[self.krate], &self.slugs[self.krate]);
        let runs = runs(krate);
        let mut shown = Vec::new();
        for (place, run) in runs.iter().enumerate() {
            let log = match (attachments.logs)(run.op.log)? {
                Some(log) => {
                    let file = format!("{slug}.{}-{place}.log", run.op.op);
                    render(&log, &file, folder)?
                }
                None => html! { p.empty { "It printed nothing." } },
            };
            shown.push(log);
        }
        let lockfile = self.lockfile(&runs, attachments, folder)?;
        let body = html! {
            header.top {
                (self.navigation())
                h1 {
                    (krate.name)
                    @if let Some(version) = &krate.version { " " span.soft { (version) } }
                }
                p.headline { span class={ "verdict " (verdict_class(krate.verdict)) } { (krate.verdict) } }
                @if let Some(reason) = &krate.verdict_reason { p.why { (one_line(reason)) } }
                (self.facts(&attachments.links, lockfile.as_deref()))
                (self.commands(&runs))
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

    /// Back to the table, and on to its other crates.
    fn navigation(&self) -> Markup {
        let link = |place: Option<usize>, rel: &str, arrow: [&str; 2]| {
            html! {
                @if let Some(place) = place {
                    a rel=(rel) href={ (self.slugs[place]) ".html" } {
                        (arrow[0]) (self.report.crates[place].id()) (arrow[1])
                    }
                }
            }
        };
        let [before, behind] = self.neighbours;
        html! {
            nav.kicker aria-label="Crates" {
                a href="../index.html" { (self.report.experiment) }
                span.steps {
                    (link(before, "prev", ["← ", ""]))
                    (link(behind, "next", ["", " →"]))
                }
            }
        }
    }

    /// The toolchains, the pages of other sites, and the lockfile.
    fn facts(&self, links: &Links, lockfile: Option<&str>) -> Markup {
        let krate = &self.report.crates[self.krate];
        let of_registry = krate.source == Source::Registry;
        let page = |base: &Option<String>| {
            let version = krate.version.as_ref().filter(|_| of_registry)?;
            base.as_ref().map(|base| format!("{base}{}/{version}", krate.name))
        };
        html! {
            dl.facts {
                (page::toolchains(self.report))
                @if let Some(url) = page(&links.registry) { div { dt { "Registry" } dd { a href=(url) { "Its page" } } } }
                @if let Some(url) = page(&links.docs) { div { dt { "Documentation" } dd { a href=(url) { "Its pages" } } } }
                @if let Some(file) = lockfile { div { dt { "Dependencies" } dd { a href=(file) { "Cargo.lock" } } } }
            }
        }
    }

    /// How to see the same once more: in the cell of the op that decided, else of the last one.
    fn commands(&self, runs: &[Run<'_>]) -> Markup {
        let krate = &self.report.crates[self.krate];
        let decided = runs.iter().find(|run| krate.evidence.first() == Some(&run.op.log));
        let run = decided.or(runs.last()).filter(|run| run.op.stage != Stage::Fetch);
        let (experiment, id) = (&self.report.experiment, krate.id());
        html! {
            @if let Some((run, toolchain)) = run.and_then(|run| Some((run, run.toolchains.first()?))) {
                p.repeat { span.soft { "Repeat it: " } code { "maar shell " (experiment) " " (id) " -t " (quoted(toolchain)) " --run " (run.op.op) } }
            }
        }
    }

    /// Writes the lockfile beside the page, and returns its name; `None` without a lockfile.
    fn lockfile(
        &self,
        runs: &[Run<'_>],
        attachments: &Attachments<'_>,
        folder: &Path,
    ) -> Result<Option<String>, ReportError> {
        let Some(prepare) = runs.iter().find(|run| run.op.stage == Stage::Fetch) else { return Ok(None) };
        let Some(text) = (attachments.lockfiles)(prepare.op.log.step)? else { return Ok(None) };
        let name = format!("{}.Cargo.lock", self.slugs[self.krate]);
        write_file(&folder.join(&name), &text)?;
        Ok(Some(name))
    }
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
            h2 { (evidence_heading(&evidence.iter().map(|place| &runs[*place]).collect::<Vec<_>>())) }
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

/// The text of the logs that decided the verdict.
fn evidence_heading(runs: &[&Run<'_>]) -> &'static str {
    match runs {
        [first, rest @ ..] if rest.iter().any(|run| run.op.standing.kind() != first.op.standing.kind()) => {
            "Where the toolchains part"
        }
        [_, _, ..] => "What decided, the same on both toolchains",
        [] | [_] => "What decided",
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
                @if run.op.attempt > 1 { " " span.soft { "attempt " (run.op.attempt) } }
                " " span.soft { (toolchains(report, run)) }
                " " (page::outcome(&run.op.standing))
                " " span.soft { (duration(Duration::from_millis(run.op.wall_ms))) }
            }
            (content)
        }
    }
}

/// A label as a shell takes it.
fn quoted(label: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:+=/".contains(c);
    if label.chars().all(is_plain) { label.to_owned() } else { format!("'{}'", label.replace('\'', "'\\''")) }
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
