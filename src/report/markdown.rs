//! The report as GitHub-flavoured Markdown, to paste into a pull request: short enough for a comment, logs collapsed.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write;

use super::{Logs, ReportError, terminal};
use crate::compare::{CrateReport, Report, Verdict};
use crate::printable::{crates, one_line, thousands, truncate};

/// How long the table of crates and the logs may get, in bytes: both together stay below the 65,536 characters that
/// GitHub accepts in a comment.
const MAX_TABLE: usize = 24_000;
const MAX_LOGS: usize = 32_000;

/// How many lines of a log's end are shown, and how many characters of each.
const LOG_LINES: usize = 30;
const LOG_COLUMNS: usize = 200;

/// Writes the report with the ends of the logs that show why crates failed.
pub fn write(report: &Report, logs: &Logs<'_>, out: &mut dyn Write) -> Result<(), ReportError> {
    let mut text = String::new();
    push_summary(report, &mut text);
    push_table(report, &mut text);
    out.write_all(text.as_bytes())?;
    write_logs(report, logs, out)
}

fn push_summary(report: &Report, text: &mut String) {
    let _ = writeln!(text, "## maar: {}\n", code(&report.experiment));
    for (place, toolchain) in report.toolchains.iter().enumerate() {
        let role = if place == 0 && report.toolchains.len() > 1 { " (baseline)" } else { "" };
        let _ = writeln!(text, "- {}{role}: {}", code(&toolchain.label), code(&toolchain.identity));
    }
    for note in &report.notes {
        let _ = writeln!(text, "- Note: {}", code(note));
    }
    let _ = write!(text, "\n**{}**", crates(report.summary.total()));
    for (verdict, count) in report.summary.iter().filter(|(_, count)| *count > 0) {
        let _ = write!(text, " · {} {verdict}", thousands(count));
    }
    text.push('\n');
}

/// Every crate that did not pass, as long as there is room.
fn push_table(report: &Report, text: &mut String) {
    let mut rows = Vec::new();
    for (verdict, _) in report.summary.iter().filter(|(verdict, _)| *verdict != Verdict::Pass) {
        rows.extend(report.crates.iter().filter(|krate| krate.verdict == verdict));
    }
    if rows.is_empty() {
        return;
    }
    text.push_str("\n| crate | verdict |");
    for toolchain in &report.toolchains {
        let _ = write!(text, " {} |", heading(&toolchain.label));
    }
    let _ = writeln!(text, " reason |\n|{}", " --- |".repeat(report.toolchains.len() + 3));
    let end = text.len() + MAX_TABLE;
    for (place, krate) in rows.iter().enumerate() {
        let mut row = format!("| {} | {} |", code(&krate.id().to_string()), krate.verdict);
        for result in &krate.results {
            let _ = write!(row, " {} |", result.standing.as_str());
        }
        let reason = krate.verdict_reason.as_deref().map(cell).unwrap_or_default();
        let _ = writeln!(row, " {reason} |");
        if text.len() + row.len() > end {
            let _ = writeln!(text, "\n… and {} that did not pass.", crates(rows.len() - place));
            return;
        }
        text.push_str(&row);
    }
}

/// The end of the most telling log of every crate that someone should look at, as long as there is room.
fn write_logs(report: &Report, logs: &Logs<'_>, out: &mut dyn Write) -> Result<(), ReportError> {
    let shown = [Verdict::Regressed, Verdict::Error, Verdict::BuildFail, Verdict::TestFail];
    let failed: Vec<&CrateReport> =
        shown.iter().flat_map(|verdict| report.crates.iter().filter(move |krate| krate.verdict == *verdict)).collect();
    let mut room = MAX_LOGS;
    for (place, krate) in failed.iter().enumerate() {
        let log = krate.evidence.first().copied().map(logs).transpose()?.flatten();
        let Some(log) = log else { continue };
        let mut end = last_lines(&log.head);
        for line in last_lines(&log.tail) {
            push_last(&mut end, line);
        }
        let section = section(krate, end.make_contiguous());
        let Some(rest) = room.checked_sub(section.len()) else {
            writeln!(out, "\nThe logs of {} are left out here.", crates(failed.len() - place))?;
            return Ok(());
        };
        room = rest;
        out.write_all(section.as_bytes())?;
    }
    Ok(())
}

fn section(krate: &CrateReport, log: &[String]) -> String {
    let reason = krate.verdict_reason.as_deref().map(one_line).unwrap_or_default();
    let title = format!("{} {}: {}", krate.id(), krate.verdict, reason);
    let longest = log.iter().map(|line| longest_run(line)).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest + 1));
    let log = log.join("\n");
    format!("\n<details><summary>{}</summary>\n\n{fence}text\n{log}\n{fence}\n\n</details>\n", escape(&title))
}

/// The last lines, as a terminal would show them without colours.
fn last_lines(bytes: &[u8]) -> VecDeque<String> {
    let mut last = VecDeque::new();
    terminal::lines(bytes, &mut |line| {
        let line: String = line.iter().map(|glyph| glyph.c).collect();
        push_last(&mut last, truncate(line.trim_end(), LOG_COLUMNS));
    });
    last
}

fn push_last(lines: &mut VecDeque<String>, line: String) {
    if lines.len() == LOG_LINES {
        lines.pop_front();
    }
    lines.push_back(line);
}

/// The text as a code span, in which nothing is markup, a mention or a reference.
fn code(text: &str) -> String {
    let text = one_line(text);
    let fence = "`".repeat(longest_run(&text) + 1);
    // A space keeps a backtick at either end apart from the fence; Markdown takes it off again.
    let pad = if text.is_empty() || text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// A toolchain's label, as code where Markdown could read something else in it.
fn heading(label: &str) -> String {
    let is_plain = label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    if is_plain { label.to_owned() } else { cell(label) }
}

/// A reason as a code span in a cell, where a bar would end the cell even so.
fn cell(reason: &str) -> String {
    code(&one_line(reason)).replace('|', "\\|")
}

/// The length of the longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// The text as the content of an HTML element within Markdown, where nothing is markup, a mention or a reference.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '.' | ',' | ':' | '-') {
            let _ = write!(escaped, "&#{};", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Results, compare, sample};
    use crate::plan::LogId;
    use crate::sandbox::Output;
    use crate::store::StoreError;

    fn written(results: &Results, log: &[u8]) -> String {
        let logs = |_: LogId| -> Result<_, StoreError> {
            Ok(Some(Output { head: log.to_vec(), tail: Vec::new(), dropped: 0 }))
        };
        let mut bytes = Vec::new();
        write(&compare(results), &logs, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_regression_is_told_with_the_end_of_its_log() {
        let crates = vec![sample::crate_of('p', &["pp", "pf"]), sample::named("fine", "1.0.0", 'p', &["pp", "pp"])];
        let log: String = (1..=40).map(|n| format!("\x1b[1mline {n}\x1b[0m\r\n")).collect();
        let end: Vec<String> = (11..=40).map(|n| format!("line {n}")).collect();
        let expected = format!(
            "## maar: `sample`

- `stable` (baseline): `rustc 1.95.0 (0123456789 2026-05-15)`
- `nightly`: `rustc 1.97.0-nightly (0123456789 2026-05-15)`
- Note: `this host can't limit memory`

**2 crates** · 1 regressed · 1 pass

| crate | verdict | stable | nightly | reason |
| --- | --- | --- | --- | --- |
| `sample@1.0.0` | regressed | passed | failed | `test@nightly: tests failed: tests::parses, tests::prints (not repeated)` |

<details><summary>sample&#64;1.0.0 regressed: test&#64;nightly: tests failed: tests::parses, tests::prints &#40;not repeated&#41;</summary>

```text
{}
```

</details>
",
            end.join("\n")
        );
        assert_eq!(written(&sample::results(2, crates), log.as_bytes()), expected);
    }

    #[test]
    fn hostile_text_stays_inside_its_cell_and_its_fence() {
        let text = written(&sample::every_verdict(), b"````\n</details>\n@all\n");
        let reason = "<script>alert(1)</script> \\| `x` ``` \u{fffd}@all &amp; #1```` |\n";
        assert!(text.contains(reason), "{text}");
        assert!(text.contains("\n`````text\n````\n</details>\n@all\n`````\n"), "{text}");
        assert_eq!(escape("<a>@b #1"), "&#60;a&#62;&#64;b &#35;1");
    }

    #[test]
    fn a_report_of_many_crates_still_fits_into_a_comment() {
        let crates = (0..2000).map(|n| sample::named(&format!("krate{n}"), "1.0.0", 'p', &["pp", "f-"])).collect();
        let text = written(&sample::results(2, crates), "x".repeat(10_000).as_bytes());
        assert!(text.chars().count() < 65_536, "{}", text.len());
        assert!(text.contains("\n… and 1,"), "{text}");
        assert!(text.ends_with(" are left out here.\n"), "{text}");
    }
}
