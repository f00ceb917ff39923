//! The closing table for a terminal: crates that need attention first, then the counts.
//!
//! Writes ANSI colours; give it a stream of anstream's, which takes them off where they are not wanted.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::ReportError;
use crate::compare::{CrateReport, Report, Verdict};
use crate::printable::{crates, one_line, thousands, truncate};

/// How wide the table may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// For a terminal of so many columns, which cuts longer lines.
    Columns(usize),
    /// As wide as it takes: a file keeps names and reasons whole.
    Whole,
}

/// The narrowest table, in columns: narrower terminals wrap it.
const MIN_WIDTH: usize = 80;

/// Up to how many crates of a verdict that needs no look are listed; more are only counted.
const MAX_QUIET: usize = 20;

/// The widest column of crates; longer names are cut.
const MAX_CRATE: usize = 40;

/// The widest column of a toolchain: its longest outcome.
const MAX_OUTCOME: usize = 12;

/// The narrowest column of reasons worth having; the columns of toolchains yield to it.
const MIN_REASON: usize = 20;

/// Writes the report as a table.
pub fn write(report: &Report, width: Width, out: &mut dyn Write) -> Result<(), ReportError> {
    let width = match width {
        Width::Columns(columns) => Width::Columns(columns.max(MIN_WIDTH)),
        Width::Whole => Width::Whole,
    };
    let rows: Vec<Row<'_>> =
        report.summary.iter().flat_map(|(verdict, count)| rows_of(report, verdict, count)).collect();
    if !rows.is_empty() {
        write_table(report, &rows, width, out)?;
    }
    for note in &report.notes {
        writeln!(out, "note: {}", one_line(note))?;
    }
    write_summary(report, width, out)?;
    Ok(())
}

/// A line of the table: one crate, or how many there are of a verdict.
struct Row<'a> {
    name: String,
    verdict: Verdict,
    krate: Option<&'a CrateReport>,
}

fn rows_of(report: &Report, verdict: Verdict, count: usize) -> Vec<Row<'_>> {
    if is_quiet(verdict) && count > MAX_QUIET {
        return vec![Row { name: crates(count), verdict, krate: None }];
    }
    let of_verdict = report.crates.iter().filter(|krate| krate.verdict == verdict);
    of_verdict.map(|krate| Row { name: krate.id().to_string(), verdict, krate: Some(krate) }).collect()
}

/// Whether crates with this verdict need no attention.
fn is_quiet(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Pending | Verdict::Skipped | Verdict::Pass => true,
        Verdict::Regressed
        | Verdict::Error
        | Verdict::BuildFail
        | Verdict::TestFail
        | Verdict::Inconclusive
        | Verdict::Broken
        | Verdict::Fixed => false,
    }
}

fn write_table(report: &Report, rows: &[Row<'_>], width: Width, out: &mut dyn Write) -> io::Result<()> {
    let (columns, most_of_a_name) = match width {
        Width::Columns(columns) => (columns, MAX_CRATE),
        Width::Whole => (usize::MAX, usize::MAX),
    };
    let names = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).clamp("crate".len(), most_of_a_name);
    let verdicts = rows.iter().map(|row| row.verdict.as_str().len()).max().unwrap_or(0).max("verdict".len());
    let mut outcomes: Vec<usize> =
        (0..report.toolchains.len()).map(|toolchain| outcome_width(report, rows, toolchain, width)).collect();
    let taken = |outcomes: &[usize]| names + 2 + verdicts + 2 + outcomes.iter().map(|width| width + 2).sum::<usize>();
    if taken(&outcomes) + MIN_REASON > columns {
        // The reason names the toolchain.
        outcomes.clear();
    }
    let reasons = columns.saturating_sub(taken(&outcomes));

    let heading = Style::new().bold();
    write!(out, "{heading}{:names$}  {:verdicts$}", "crate", "verdict")?;
    for (toolchain, width) in report.toolchains.iter().zip(&outcomes) {
        write!(out, "  {:width$}", truncate(&toolchain.label, *width))?;
    }
    writeln!(out, "  reason{heading:#}")?;
    for Row { name, verdict, krate } in rows {
        let style = style_of(*verdict);
        write!(out, "{:names$}  {style}{verdict}{style:#}", truncate(name, names))?;
        // Padding goes before a cell and not behind it, so that no line ends in blanks.
        let mut padding = verdicts - verdict.as_str().len();
        for (result, width) in krate.iter().flat_map(|krate| &krate.results).zip(&outcomes) {
            let outcome = result.standing.as_str();
            write!(out, "{:padding$}  {outcome}", "")?;
            padding = width.saturating_sub(outcome.len());
        }
        if let Some(reason) = krate.and_then(|krate| krate.verdict_reason.as_deref()) {
            write!(out, "{:padding$}  {}", "", truncate(&one_line(reason), reasons))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The width of a toolchain's column.
fn outcome_width(report: &Report, rows: &[Row<'_>], toolchain: usize, width: Width) -> usize {
    let results = rows.iter().filter_map(|row| row.krate?.results.get(toolchain));
    let widest = results.map(|result| result.standing.as_str().len()).max().unwrap_or(0);
    let widest = widest.max(report.toolchains[toolchain].label.len());
    match width {
        Width::Columns(_) => widest.min(MAX_OUTCOME),
        Width::Whole => widest,
    }
}

fn write_summary(report: &Report, width: Width, out: &mut dyn Write) -> io::Result<()> {
    let columns = match width {
        Width::Columns(columns) => columns,
        Width::Whole => usize::MAX,
    };
    let total = crates(report.summary.total());
    write!(out, "{total}")?;
    let mut column = total.len();
    let mut separator = ": ";
    for (verdict, count) in report.summary.iter().filter(|(_, count)| *count > 0) {
        let item = format!("{} {verdict}", thousands(count));
        // The separator that follows may need a column too.
        if column + separator.len() + item.len() + 1 > columns {
            separator = ",\n  ";
            column = 0;
        }
        let style = style_of(verdict);
        write!(out, "{separator}{style}{item}{style:#}")?;
        column += 2 + item.len();
        separator = ", ";
    }
    writeln!(out)
}

fn style_of(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Regressed | Verdict::Error => AnsiColor::Red.on_default().bold(),
        Verdict::BuildFail | Verdict::TestFail => AnsiColor::Red.on_default(),
        Verdict::Inconclusive | Verdict::Broken => AnsiColor::Yellow.on_default(),
        Verdict::Fixed => AnsiColor::Cyan.on_default(),
        Verdict::Pending | Verdict::Skipped => Style::new().dimmed(),
        Verdict::Pass => AnsiColor::Green.on_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{compare, sample};
    use crate::outcome::{Failure, Outcome};
    use crate::printable::width;

    fn plain(report: &Report, columns: usize) -> String {
        let mut bytes = Vec::new();
        write(report, Width::Columns(columns), &mut bytes).unwrap();
        anstream::adapter::strip_str(std::str::from_utf8(&bytes).unwrap()).to_string()
    }

    #[test]
    fn what_needs_a_look_comes_first_and_every_line_fits() {
        let text = plain(&compare(&sample::every_verdict()), 80);
        let expected = "\
crate                  verdict       stable   nightly       reason
beta@2.1.0             regressed     passed   failed        test@nightly: tests…
zeta@3.0.0             error         error    passed        build@stable: the w…
delta@0.1.0            build-fail    failed   failed        build@stable: does …
epsilon@0.2.0          test-fail     failed   failed        test@stable: tests …
hostile@0.1.0-a.b+c.d  inconclusive  passed   inconclusive  build@nightly: host…
absent                 broken        broken   broken        the registry has no…
gamma@0.3.7            fixed         failed   passed        build@stable: does …
eta@1.0.0              pending       passed   pending
theta@1.0.0            skipped       skipped  skipped
alpha@1.0.18           pass          passed   passed
note: this host can't limit memory
10 crates: 1 regressed, 1 error, 1 build-fail, 1 test-fail, 1 inconclusive,
  1 broken, 1 fixed, 1 pending, 1 skipped, 1 pass
";
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| width(line) <= 80));
    }

    #[test]
    fn a_wide_terminal_shows_whole_reasons_and_no_escapes_of_others() {
        let text = plain(&compare(&sample::every_verdict()), 200);
        assert!(text.contains("tests failed: tests::parses, tests::prints\n"), "{text}");
        assert!(text.contains("``` \u{fffd}@all"), "{text}");
        assert_eq!(text.chars().filter(|c| c.is_control() && *c != '\n').count(), 0);
    }

    #[test]
    fn a_file_keeps_names_toolchains_and_reasons_whole() {
        let name = "a".repeat(60);
        let mut krate = sample::named(&name, "1.0.0", 'p', &["f-"]);
        let long: Vec<String> = (0..5).map(|n| format!("tests::module_{n}::{}", "x".repeat(150))).collect();
        let tests = Failure::Tests { names: long.clone(), more: 2 };
        krate.steps[1].1.as_mut().unwrap().outcome = Outcome::Failed(tests);
        let mut results = sample::results(1, vec![krate]);
        results.toolchains[0].spec = "nightly-2026-01-01-x86_64-unknown-linux-gnu".parse().unwrap();
        crate::toolchain::label(&mut results.toolchains);
        let mut bytes = Vec::new();
        write(&compare(&results), Width::Whole, &mut bytes).unwrap();
        let text = anstream::adapter::strip_str(std::str::from_utf8(&bytes).unwrap()).to_string();
        let reason = format!("tests failed: {} and 2 more\n", long.join(", "));
        assert!(text.contains(&reason) && !text.contains('…'), "{text}");
        assert!(text.contains(&format!("{name}@1.0.0  build-fail  failed")), "{text}");
        assert!(text.contains("  nightly-2026-01-01-x86_64-unknown-linux-gnu  reason\n"), "{text}");
    }

    #[test]
    fn many_passes_are_only_counted() {
        let mut crates = vec![sample::named("bad", "1.0.0", 'p', &["f-"])];
        crates.extend((0..1000).map(|n| sample::named(&format!("good{n}"), "1.0.0", 'p', &["pp"])));
        let expected = "\
crate         verdict     stable  reason
bad@1.0.0     build-fail  failed  build@stable: does not compile: E0308
1,000 crates  pass
note: this host can't limit memory
1,001 crates: 1 build-fail, 1,000 pass
";
        assert_eq!(plain(&compare(&sample::results(1, crates)), 80), expected);
    }

    #[test]
    fn columns_of_toolchains_yield_to_the_reason() {
        let name = "a".repeat(60);
        let crates = vec![sample::named(&name, "1.0.0", 'p', &["pp", "f-", "pp"])];
        let text = plain(&compare(&sample::results(3, crates)), 80);
        let cut = "a".repeat(39);
        assert!(text.contains(&format!("{cut}…  regressed  build@nightly: does not co…\n")), "{text}");
    }

    #[test]
    fn an_experiment_without_crates_says_so() {
        assert!(plain(&compare(&sample::results(1, Vec::new())), 80).ends_with("0 crates\n"));
    }
}
