//! The first page: the result of the experiment, and the table of crates.

use std::time::Duration;

use maud::{Markup, html};

use super::page::{self, Script, verdict_class};
use super::runs;
use crate::compare::{CrateReport, Report, Source, Verdict};
use crate::printable::{crates, duration, one_line, thousands};

pub(super) fn page(report: &Report, slugs: &[String]) -> Markup {
    let body = html! {
        header.top {
            p.kicker { "maar · experiment" }
            h1 { (report.experiment) }
            p.headline { (headline(report)) }
            (facts(report))
            @for note in &report.notes {
                p.note { strong { "Note" } " " (one_line(note)) }
            }
        }
        main {
            (share_bar(report))
            (verdicts(report))
            (table(report, slugs))
        }
    };
    page::shell(&format!("{} · maar", report.experiment), Script::Table, &body)
}

/// The answer, in words.
fn headline(report: &Report) -> Markup {
    let count = |verdicts: &[Verdict]| verdicts.iter().map(|verdict| report.summary.count(*verdict)).sum::<usize>();
    let (bad, failed, fine) = match report.toolchains.len() {
        0 | 1 => (count(&[Verdict::BuildFail, Verdict::TestFail]), "failed", "Nothing failed"),
        _ => (count(&[Verdict::Regressed]), "regressed", "Nothing regressed"),
    };
    let total = report.summary.total();
    let passed = count(&[Verdict::Pass, Verdict::Fixed]);
    let asked = total - count(&[Verdict::Skipped]);
    html! {
        @if bad == 0 && passed == asked {
            strong.fine { (fine) }
            " in " (crates(total))
        } @else if bad == 0 {
            // Crates that could not be tested, or failed on both sides, are not good news.
            strong { (fine) }
            ", but only " (thousands(passed)) " of " (crates(asked)) " passed"
        } @else {
            strong.bad { (crates(bad)) " " (failed) }
            " of " (thousands(total))
        }
        @if report.summary.count(Verdict::Pending) > 0 { " so far" }
    }
}

fn facts(report: &Report) -> Markup {
    let cpu = report.crates.iter().map(|krate| runs::cpu(&runs::runs(krate)));
    let cpu = cpu.fold(Duration::ZERO, Duration::saturating_add);
    html! {
        dl.facts {
            (page::toolchains(report))
            @if let Some(started) = report.started {
                div { dt { "Started" } dd { (page::time(started)) } }
                @if let Some(span) = report.finished.and_then(|finished| finished.duration_since(started).ok()) {
                    div { dt { "First to last op" } dd { (duration(span)) } }
                }
                div { dt { "CPU time" } dd { (duration(cpu)) } }
                div { dt { "How it ran" } dd { a href="timeline.html" { "Timeline" } } }
            }
        }
    }
}

/// How the crates divide into verdicts, to scale. The numbers follow in [`verdicts`].
fn share_bar(report: &Report) -> Markup {
    html! {
        div.bar aria-hidden="true" {
            @for (verdict, count) in report.summary.iter().filter(|(_, count)| *count > 0) {
                span class=(verdict_class(verdict)) style={ "flex-grow:" (count) } {}
            }
        }
    }
}

/// A link to the first crate of every verdict, which the script makes a filter.
fn verdicts(report: &Report) -> Markup {
    html! {
        nav.verdicts aria-label="Verdicts" {
            @for (verdict, count) in report.summary.iter().filter(|(_, count)| *count > 0) {
                a class={ "chip " (verdict_class(verdict)) } href={ "#" (verdict) } data-verdict=(verdict) {
                    b { (thousands(count)) }
                    span { (verdict) }
                }
            }
        }
    }
}

/// The places of the crates in the order of the table: by verdict, those that need attention first.
pub(super) fn order(report: &Report) -> Vec<usize> {
    let mut order: Vec<usize> = (0..report.crates.len()).collect();
    order.sort_by_key(|place| report.crates[*place].verdict);
    order
}

fn table(report: &Report, slugs: &[String]) -> Markup {
    let rows: Vec<(&CrateReport, &String)> =
        order(report).into_iter().map(|place| (&report.crates[place], &slugs[place])).collect();
    html! {
        // Without the script there is nothing to search with.
        div.tools hidden {
            label { "Search" input type="search" id="search" placeholder="crate or reason" autocomplete="off"; }
            output id="shown" for="search" {}
        }
        div.scroll {
            table.crates {
                thead {
                    tr {
                        th scope="col" data-sort="text" { "Crate" }
                        th scope="col" data-sort="order" { "Verdict" }
                        @for toolchain in &report.toolchains {
                            th.outcome scope="col" data-sort="text" { (toolchain.label) }
                        }
                        th scope="col" data-sort="text" { "Reason" }
                        th.number scope="col" data-sort="number" { "Time" }
                    }
                }
                tbody {
                    @for (place, (krate, slug)) in rows.iter().enumerate() {
                        @let first = place == 0 || rows[place - 1].0.verdict != krate.verdict;
                        (row(krate, slug, first.then_some(krate.verdict)))
                    }
                }
            }
        }
        @if rows.is_empty() { p.empty { "The selection has no crates." } }
        p.more { button type="button" id="more" hidden {} }
    }
}

fn row(krate: &CrateReport, slug: &str, anchor: Option<Verdict>) -> Markup {
    let wall = runs::wall(&runs::runs(krate));
    html! {
        tr data-verdict=(krate.verdict) id=[anchor] {
            th scope="row" {
                a href={ "crates/" (slug) ".html" } { (krate.name) }
                @if let Some(version) = &krate.version { " " span.soft { (version) } }
                @match krate.source {
                    Source::Path => { " " span.tag { "path" } },
                    Source::Registry => {},
                }
            }
            td data-order=(krate.verdict as usize) { span class={ "verdict " (verdict_class(krate.verdict)) } { (krate.verdict) } }
            @for result in &krate.results { td.outcome { (page::outcome(&result.standing)) } }
            td.reason { @if let Some(reason) = &krate.verdict_reason { (one_line(reason)) } }
            td.number data-number=(wall.as_millis()) { @if !wall.is_zero() { (duration(wall)) } }
        }
    }
}
