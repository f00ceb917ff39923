//! The page of how an experiment was run: for each run its figures, a lane for every worker, the load of every pool.
//!
//! Drawn with inline SVG that stretches with the page; text stays outside of it, and so isn't stretched.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::lanes::{Bar, Load, bars, load};
use super::page::{self, Script};
use crate::compare::{PoolReport, Report, RunReport, Span};
use crate::outcome::OutcomeKind;
use crate::printable::{duration, thousands};
use crate::report::figures::{figures, percent};

/// The most bars that all runs are drawn with, unless they had very many workers: browsers stay quick, and the page
/// some MB.
const BARS: usize = 20_000;
/// How finely the load of a pool is drawn.
const LOAD_COLUMNS: usize = 200;
/// The height of a pool's load, in pixels.
const LOAD_HEIGHT: f64 = 36.0;

/// What all that is drawn on the page needs.
struct Context<'a> {
    report: &'a Report,
    /// The names of the crates' pages.
    slugs: &'a [String],
    /// The most bars of one run.
    bars: usize,
}

pub(super) fn page(report: &Report, slugs: &[String]) -> Markup {
    let runs: Vec<&RunReport> = report.runs.iter().rev().filter(|run| run.ops() > 0).collect();
    let context = Context { report, slugs, bars: BARS / runs.len().max(1) };
    let body = html! {
        header.top {
            p.kicker { a href="index.html" { "maar · " (report.experiment) } }
            h1 { "How it ran" }
        }
        main {
            @for run in &runs { (section(&context, run)) }
            @if runs.is_empty() { p.empty { "No op has run." } }
        }
    };
    page::shell(&format!("How {} ran · maar", report.experiment), Script::None, &body)
}

fn section(context: &Context<'_>, run: &RunReport) -> Markup {
    html! {
        section.run {
            h2 { "Run of " @if let Some(started) = run.started { (page::time(started)) } }
            dl.facts {
                // The other figures are given for each pool.
                @for (label, text) in figures(run).into_iter().take(2) { div { dt { (label) } dd { (text) } } }
            }
            @for pool in run.pools.iter().filter(|pool| pool.workers > 0) { (pool_of(context, run, pool)) }
            (axis_and_legend(run))
        }
    }
}

fn axis_and_legend(run: &RunReport) -> Markup {
    let outcomes: BTreeSet<OutcomeKind> = run.spans.iter().map(|span| span.outcome).collect();
    html! {
        div.axis aria-hidden="true" {
            @for quarter in 0..=4 { span { (duration(run.wall * quarter / 4)) } }
        }
        p.legend {
            @for outcome in outcomes {
                span { svg.lanes viewBox="0 0 20 10" aria-hidden="true" { rect class={ "k-" (outcome) } width="20" height="10" {} } (outcome) }
            }
        }
    }
}

fn pool_of(context: &Context<'_>, run: &RunReport, pool: &PoolReport) -> Markup {
    // Spans are sorted by pool, worker and time.
    let of_pool = part(&run.spans, |span| span.stage.cmp(&pool.stage));
    let all_workers: usize = run.pools.iter().map(|pool| pool.workers).sum();
    let columns = (context.bars / all_workers.max(1)).clamp(50, 1000);
    let height = match pool.workers {
        0..=16 => 14.0,
        17..=64 => 7.0,
        65.. => (448.0 / pool.workers as f64).max(2.0),
    };
    let whole = height * pool.workers as f64;
    let workers = if pool.workers == 1 { "worker" } else { "workers" };
    html! {
        figure.pool {
            figcaption {
                b { (pool.stage) } " "
                span.soft {
                    (thousands(pool.workers)) " " (workers) ", " (percent(pool.utilisation(run.wall))) " busy, "
                    (thousands(pool.ops)) " ops, which waited " (duration(pool.mean_wait())) " on average"
                }
            }
            svg.load viewBox={ "0 0 " (LOAD_COLUMNS) " " (LOAD_HEIGHT) } style={ "height:" (LOAD_HEIGHT) "px" }
                preserveAspectRatio="none" role="img" aria-label={ "busy workers of " (pool.stage) " over time" } {
                @for (column, load) in load(of_pool, run.wall, LOAD_COLUMNS).into_iter().enumerate() {
                    (load_column(run, pool, column, load))
                }
            }
            svg.lanes viewBox={ "0 0 " (columns) " " (whole) } style={ "height:" (whole) "px" }
                preserveAspectRatio="none" role="img" aria-label={ "ops of each worker of " (pool.stage) " over time" } {
                @for worker in 0..pool.workers {
                    g transform={ "translate(0 " (height * worker as f64) ")" } {
                        @for bar in bars(part(of_pool, |span| span.worker.cmp(&worker)), run.wall, columns) {
                            (draw(context, &bar, height))
                        }
                    }
                }
            }
        }
    }
}

/// The spans that compare equal, which are in one piece.
fn part(spans: &[Span], compare: impl Fn(&Span) -> std::cmp::Ordering) -> &[Span] {
    let from = spans.partition_point(|span| compare(span).is_lt());
    let to = spans.partition_point(|span| compare(span).is_le());
    spans.get(from..to).unwrap_or_default()
}

fn load_column(run: &RunReport, pool: &PoolReport, column: usize, load: Load) -> Markup {
    let height = LOAD_HEIGHT * (load.busy / pool.workers as f64).clamp(0.0, 1.0);
    let at = run.wall.mul_f64(column as f64 / LOAD_COLUMNS as f64);
    html! {
        g {
            // So that the whole column can be pointed at.
            rect.reach x=(column) width="1" height=(LOAD_HEIGHT) {}
            rect x=(column) y=(short(LOAD_HEIGHT - height)) width="1.02" height=(short(height)) {}
            title {
                "at " (duration(at)) ": " (short(load.busy)) " of " (pool.workers) " busy, "
                (short(load.waiting)) " waiting"
            }
        }
    }
}

fn draw(context: &Context<'_>, bar: &Bar<'_>, height: f64) -> Markup {
    let drawn = html! {
        rect class={ "k-" (bar.worst) } x=(short(bar.from)) width=(short((bar.to - bar.from).max(0.6)))
            height=(short(height * 0.86)) {
            title { (describe(context.report, bar)) }
        }
    };
    match context.slugs.get(bar.first.krate) {
        // Not for the tab key: there may be thousands, and the table of crates links to the same pages.
        Some(slug) if bar.ops == 1 => html! { a href={ "crates/" (slug) ".html" } tabindex="-1" { (drawn) } },
        Some(_) | None => drawn,
    }
}

fn describe(report: &Report, bar: &Bar<'_>) -> String {
    if bar.ops > 1 {
        return format!("{} ops, {} together, the gravest {}", thousands(bar.ops), duration(bar.busy), bar.worst);
    }
    let Span { krate, op, toolchain, outcome, from, .. } = bar.first;
    let krate = report.crates.get(*krate).map(|krate| krate.id().to_string()).unwrap_or_default();
    let toolchain = toolchain.and_then(|place| report.toolchains.get(place));
    let op = toolchain.map_or_else(|| op.to_string(), |toolchain| format!("{op}@{}", toolchain.label));
    format!("{krate} {op}: {outcome} in {}, from {}", duration(bar.busy), duration(*from))
}

/// A number with at most two decimals, so that the page stays small.
fn short(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::compare::{Results, compare, sample};

    fn written(results: Results) -> String {
        let report = compare(&results);
        let slugs: Vec<String> = report.crates.iter().map(|krate| krate.name.to_string()).collect();
        page(&report, &slugs).into_string()
    }

    #[test]
    fn every_op_is_a_bar_that_says_what_it_was_and_leads_to_its_crate() {
        let mut results = sample::results(2, vec![sample::named("itoa", "1.0.18", 'p', &["pp", "pf"])]);
        for (place, (_, result)) in results.crates[0].steps.iter_mut().enumerate() {
            result.as_mut().unwrap().started += Duration::from_secs(100 * place as u64);
        }
        let html = written(Results { runs: vec![sample::run()], ..results });
        assert_eq!(html.matches("<a href=\"crates/itoa.html\"").count(), 5);
        assert!(html.contains("itoa@1.0.18 test@nightly: failed in 1 min 01 s, from 6 min 40 s"), "{html}");
        assert!(html.contains("<dt>units</dt><dd>5 compiled, 100 reused</dd>"), "{html}");
        assert!(html.contains("2 workers, 10 % busy, 2 ops, which waited 5 ms on average"), "{html}");
    }

    #[test]
    fn ten_thousand_ops_make_a_page_of_bounded_size() {
        let crates = (0..5000).map(|n| {
            let mut krate = sample::named(&format!("c{n}"), "1.0.0", 'p', &["p"]);
            for (_, result) in &mut krate.steps {
                let result = result.as_mut().unwrap();
                result.started += Duration::from_millis(120 * n);
                result.wall = Duration::from_millis(110);
            }
            krate
        });
        let html = written(Results { runs: vec![sample::run()], ..sample::results(1, crates.collect()) });
        assert!(html.len() < 2_000_000, "{}", html.len());
        assert!(html.contains("the gravest passed"));
    }

    #[test]
    fn an_experiment_that_never_ran_says_so() {
        assert!(written(sample::results(1, Vec::new())).contains("No op has run."));
    }
}
