//! The report as a folder of static pages that opens from disk: no network, no server, scripts only to filter and sort.
//!
//! `index.html` has the summary and the table of crates, `crates/` a page for each, `timeline.html` how it ran. All
//! text is escaped, and a content security policy forbids what escaping might have missed.

mod ansi;
mod excerpt;
mod index;
mod krate;
mod lanes;
mod page;
mod runs;
mod slug;
mod timeline;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Logs, ReportError};
use crate::compare::Report;
use crate::plan::Fingerprint;
use crate::store::StoreError;

/// A file of every report, by which a folder is known as one.
const MARKER: &str = ".maar-report";

/// The parts of a report besides the results.
pub struct Attachments<'a> {
    /// Where logs come from.
    pub logs: &'a Logs<'a>,
    /// Where lockfiles come from.
    pub lockfiles: &'a Lockfiles<'a>,
    /// Pages elsewhere about crates of the registry.
    pub links: Links,
}

/// Where other sites have pages about a crate; none for a registry without any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// The registry's: a name and a version behind it, with a slash between.
    pub registry: Option<String>,
    /// The documentation's, in the same way.
    pub docs: Option<String>,
}

/// Where the page gets the lockfile from that a step of `prepare` made; none if it made none.
pub type Lockfiles<'a> = dyn Fn(Fingerprint) -> Result<Option<Vec<u8>>, StoreError> + 'a;

/// Writes the report to `folder`, in place of an earlier report if there is one, and returns the path of its first
/// page. The folder appears whole or not at all.
///
/// Errors with [`ReportError::Occupied`] when `folder` is something else than a report or an empty folder.
pub fn write(report: &Report, attachments: &Attachments<'_>, folder: &Path) -> Result<PathBuf, ReportError> {
    check_replaceable(folder)?;
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(at(parent))?;
    let scratch = tempfile::Builder::new().prefix(".maar-report-").tempdir_in(parent).map_err(at(parent))?;
    // Inside the scratch folder, which is private, as a finished report need not be.
    let draft = scratch.path().join("new");
    write_pages(report, attachments, &draft)?;
    publish(&draft, folder, &scratch.path().join("old")).map_err(at(folder))?;
    Ok(folder.join("index.html"))
}

/// Puts `draft` in the place of `folder`, and moves the former folder to `old`.
fn publish(draft: &Path, folder: &Path, old: &Path) -> io::Result<()> {
    if !folder.exists() {
        return fs::rename(draft, folder);
    }
    fs::rename(folder, old)?;
    // If the new report can't take its place, the old one is better than none.
    fs::rename(draft, folder).inspect_err(|_| drop(fs::rename(old, folder)))
}

fn check_replaceable(folder: &Path) -> Result<(), ReportError> {
    if folder.join(MARKER).exists() {
        return Ok(());
    }
    match fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(ReportError::Occupied { path: folder.to_owned() }),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::NotADirectory => Err(ReportError::Occupied { path: folder.to_owned() }),
            _ => Err(at(folder)(error)),
        },
    }
}

fn write_pages(report: &Report, attachments: &Attachments<'_>, folder: &Path) -> Result<(), ReportError> {
    let crates = folder.join("crates");
    fs::create_dir_all(&crates).map_err(at(&crates))?;
    let slugs = slug::slugs(&report.crates);
    let order = index::order(report);
    for (place, &krate) in order.iter().enumerate() {
        let neighbour = |place: Option<usize>| place.and_then(|place| order.get(place)).copied();
        let neighbours = [neighbour(place.checked_sub(1)), neighbour(place.checked_add(1))];
        krate::Page { report, slugs: &slugs, krate, neighbours }.write(attachments, &crates)?;
    }
    write_file(&folder.join("index.html"), index::page(report, &slugs).into_string().as_bytes())?;
    write_file(&folder.join("timeline.html"), timeline::page(report, &slugs).into_string().as_bytes())?;
    write_file(&folder.join(MARKER), b"maar writes this folder anew with every report.\n")
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), ReportError> {
    fs::write(path, content).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ReportError {
    move |source| ReportError::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Results, compare, sample};
    use crate::ops::Tally;
    use crate::plan::LogId;
    use crate::sandbox::Output;

    /// Writes a report with these logs, a lockfile for every crate, and links.
    fn write_with(report: &Report, logs: &Logs<'_>, folder: &Path) -> Result<PathBuf, ReportError> {
        let links =
            Links { registry: Some("https://registry.example/".into()), docs: Some("https://docs.example/".into()) };
        let lockfiles = |_| Ok(Some(b"version = 4\n[[package]]\nname = \"a\"\n".to_vec()));
        write(report, &Attachments { logs, lockfiles: &lockfiles, links }, folder)
    }

    fn logs(log: &str) -> impl Fn(LogId) -> Result<Option<Output>, StoreError> {
        move |_| Ok(Some(Output { head: log.as_bytes().to_vec(), tail: Vec::new(), dropped: 0 }))
    }

    fn files(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_report_has_a_page_for_every_crate_and_leaves_nothing_else_behind() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("reports").join("sample");
        let report = compare(&sample::every_verdict());
        assert_eq!(write_with(&report, &logs("built\n"), &folder).unwrap(), folder.join("index.html"));
        assert_eq!(files(&home.path().join("reports")), ["sample"]);
        assert_eq!(files(&folder), [MARKER, "crates", "index.html", "timeline.html"]);
        let (pages, locks): (Vec<String>, Vec<String>) =
            files(&folder.join("crates")).into_iter().partition(|name| name.ends_with(".html"));
        assert_eq!(pages.len(), report.crates.len());
        assert!(locks.iter().all(|name| name.ends_with(".Cargo.lock")), "{locks:?}");
        let index = fs::read_to_string(folder.join("index.html")).unwrap();
        for page in pages {
            assert!(index.contains(&format!("href=\"crates/{page}\"")), "no link to {page}");
        }
    }

    #[test]
    fn hostile_text_is_nowhere_markup() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("report");
        let mut report = compare(&Results { runs: vec![sample::run()], ..sample::every_verdict() });
        report.notes.push("<script>alert(1)</script>".to_owned());
        write_with(&report, &logs("<script>alert(1)</script>\n"), &folder).unwrap();
        let mut pages = vec![folder.join("index.html"), folder.join("timeline.html")];
        let crates = files(&folder.join("crates")).into_iter().filter(|name| name.ends_with(".html"));
        pages.extend(crates.map(|page| folder.join("crates").join(page)));
        for page in pages {
            let html = fs::read_to_string(&page).unwrap();
            assert!(!html.contains("<script>alert"), "{}", page.display());
            assert!(!html.chars().any(|c| c.is_control() && c != '\n'), "{}", page.display());
            assert!(html.contains("default-src 'none'"), "{}", page.display());
        }
        let hostile = fs::read_to_string(folder.join("crates/hostile-0.1.0-a.b_c.d.html")).unwrap();
        assert!(hostile.contains("host: &lt;/code&gt;&lt;script&gt;alert(1)&lt;/script&gt;"), "{hostile}");
    }

    #[test]
    fn a_report_replaces_an_earlier_one_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let report = compare(&sample::every_verdict());
        let folder = home.path().join("report");
        fs::create_dir(&folder).unwrap();
        write_with(&report, &logs("one"), &folder).unwrap();
        fs::write(folder.join("crates").join("stale.html"), "").unwrap();
        write_with(&report, &logs("two"), &folder).unwrap();
        assert!(!folder.join("crates").join("stale.html").exists());
        assert_eq!(files(home.path()), ["report"]);

        let theirs = home.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("thesis.txt"), "irreplaceable").unwrap();
        for occupied in [&theirs, &theirs.join("thesis.txt")] {
            let error = write_with(&report, &logs("one"), occupied).unwrap_err();
            assert!(matches!(error, ReportError::Occupied { .. }), "{error}");
        }
        assert_eq!(files(&theirs), ["thesis.txt"]);
    }

    #[test]
    fn a_log_that_cannot_be_read_leaves_no_half_report() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("report");
        let broken = |_: LogId| Err(StoreError::Unknown { path: "maar.db".into(), name: "sample".to_owned() });
        assert!(write_with(&compare(&sample::every_verdict()), &broken, &folder).is_err());
        assert!(files(home.path()).is_empty());
    }

    #[test]
    fn a_huge_log_is_cut_in_the_page_and_whole_beside_it() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("report");
        let report = compare(&sample::results(2, vec![sample::crate_of('p', &["p", "f"])]));
        let line = "a line of output\n";
        write_with(&report, &logs(&line.repeat(100_000)), &folder).unwrap();
        let crates = folder.join("crates");
        let html = fs::read_to_string(crates.join("sample-1.0.0.html")).unwrap();
        assert!(html.len() < 1_000_000, "{}", html.len());
        assert!(html.contains("href=\"sample-1.0.0.build-1.log\""), "{html}");
        let whole = fs::read(crates.join("sample-1.0.0.build-1.log")).unwrap();
        assert_eq!(whole.len(), line.len() * 100_000);
    }

    #[test]
    fn the_evidence_of_a_regression_comes_before_other_logs() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("report");
        let crates = vec![sample::crate_of('p', &["pp", "pf"])];
        let by_step = |log: LogId| -> Result<_, StoreError> {
            Ok(Some(Output { head: format!("log of {}\n", log.step).into_bytes(), tail: Vec::new(), dropped: 0 }))
        };
        write_with(&compare(&sample::results(2, crates)), &by_step, &folder).unwrap();
        let html = fs::read_to_string(folder.join("crates").join("sample-1.0.0.html")).unwrap();
        let logs: Vec<&str> = html.split("log of ").skip(1).map(|rest| rest.lines().next().unwrap()).collect();
        let expected = ["test Some(0)", "test Some(1)", "prepare None", "build Some(0)", "build Some(1)"]
            .map(|step| Fingerprint::of(&format!("sample 1.0.0 {step}")).to_string());
        assert_eq!(logs, expected);
    }

    fn page(crates: Vec<crate::compare::CrateResults>, toolchains: usize, name: &str) -> String {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("report");
        write_with(&compare(&sample::results(toolchains, crates)), &logs("built"), &folder).unwrap();
        fs::read_to_string(folder.join(name)).unwrap()
    }

    #[test]
    fn toolchains_part_only_where_their_outcomes_differ() {
        for (ops, heading) in [
            (&["pp", "pf"][..], "<h2>Where the toolchains part</h2>"),
            (&["pf", "pf"], "<h2>What decided, the same on both toolchains</h2>"),
            (&["pf"], "<h2>What decided</h2>"),
        ] {
            let html = page(vec![sample::crate_of('p', ops)], ops.len(), "crates/sample-1.0.0.html");
            assert!(html.contains(heading), "{ops:?}: {html}");
        }
    }

    #[test]
    fn a_headline_is_green_only_where_every_crate_passed() {
        let named = |place: usize, ops: &[&str]| sample::named(&format!("c{place}"), "1.0.0", 'p', ops);
        let index = |crates| page(crates, 2, "index.html");
        let all = index((0..24).map(|place| named(place, &["pp", "pp"])).collect());
        assert!(all.contains("<strong class=\"fine\">Nothing regressed</strong> in 24 crates"), "{all}");
        let few =
            index((0..24).map(|place| named(place, if place < 3 { &["pp", "pp"] } else { &["i-", "i-"] })).collect());
        assert!(few.contains("<strong>Nothing regressed</strong>, but only 3 of 24 crates passed"), "{few}");
        let bad =
            index((0..24).map(|place| named(place, if place < 3 { &["pp", "pf"] } else { &["pp", "pp"] })).collect());
        assert!(bad.contains("<strong class=\"bad\">3 crates regressed</strong> of 24"), "{bad}");
    }

    #[test]
    fn a_crates_page_leads_on_and_says_how_to_repeat_it() {
        let krate = |name: &str, ops: &[&str]| sample::named(name, "1.0.0", 'p', ops);
        let crates = vec![krate("good", &["pp", "pp"]), krate("bad", &["pp", "pf"]), krate("fine", &["pp", "pp"])];
        let html = page(crates, 2, "crates/good-1.0.0.html");
        for part in [
            // The order is that of the table: what regressed comes first.
            "<a rel=\"prev\" href=\"bad-1.0.0.html\">",
            "<a rel=\"next\" href=\"fine-1.0.0.html\">",
            "href=\"https://registry.example/good/1.0.0\"",
            "href=\"https://docs.example/good/1.0.0\"",
            "href=\"good-1.0.0.Cargo.lock\"",
            "1.95.0",
            "maar shell sample good@1.0.0 -t nightly --run test",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
    }

    #[test]
    fn an_attempt_is_named_wherever_its_log_is() {
        let mut krate = sample::crate_of('p', &["pp", "pf"]);
        for place in [3, 4] {
            let mut again = krate.steps[place].clone();
            again.0.attempt = 2;
            krate.steps.push(again);
        }
        let html = page(vec![krate], 2, "crates/sample-1.0.0.html");
        assert!(html.matches("attempt 2").count() >= 4, "{html}");
    }

    #[test]
    fn every_op_says_what_was_compiled_for_it_and_what_was_there() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("report");
        let mut crates = vec![sample::crate_of('p', &["p"])];
        crates[0].steps[1].1.as_mut().unwrap().units = Tally { compiled: 2, reused: 1340, in_op: 3, again: 4 };
        write_with(&compare(&sample::results(1, crates)), &logs("built"), &folder).unwrap();
        let html = fs::read_to_string(folder.join("crates").join("sample-1.0.0.html")).unwrap();
        let units =
            |numbers: [&str; 4]| numbers.map(|number| format!("<td class=\"number\">{number}</td>")).concat() + "</tr>";
        assert!(html.contains(&units(["1", "20", "0", "0"])), "{html}");
        assert!(html.contains(&units(["2", "1,340", "3", "4"])), "{html}");
    }
}
