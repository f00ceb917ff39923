//! What `cargo test` printed → [`Tests`]. Pure.
//!
//! Lines of tests may have other output before, in and behind them: of children of a test, or of the threads of several
//! tests at once. So the names of failed tests are also read from the list at the end of a target, and a target counts
//! as complete only if as many results were found as it announced.

use std::collections::HashMap;

use super::{Target, TargetFlag, Test, TestResult, Tests};

/// How many bytes of names are kept of one command: a crate with 10,000 tests has less than half of it. Failed tests
/// get as much again.
pub const MAX_BYTES: usize = 1 << 20;

/// The longest name that is kept.
const MAX_NAME: usize = 1024;

/// The most targets that are kept.
const MAX_TARGETS: usize = 1000;

/// Reads the results from plain text, without escape sequences. `None`: no target has run.
pub fn parse(text: &str) -> Option<Tests> {
    let mut reader = Reader::default();
    text.lines().for_each(|line| reader.line(line.trim_end_matches('\r')));
    reader.end_group();
    if reader.targets.is_empty() {
        return None;
    }
    let failed: Vec<&Reading> = reader.targets.iter().filter(|target| target.has_failed).collect();
    let accounted = !failed.is_empty() && failed.iter().all(|target| target.is_accounted());
    let targets = reader.targets.into_iter().map(Reading::finish).collect();
    Some(Tests { targets, cut: reader.cut, selected: false, accounted })
}

/// A target that is being read.
#[derive(Debug)]
struct Reading {
    name: String,
    flag: Option<TargetFlag>,
    tests: Vec<Test>,
    places: HashMap<String, usize>,
    /// Whether cargo lists it as failed.
    has_failed: bool,
    /// Whether it ended otherwise than a harness with failed tests does.
    is_odd: bool,
    /// How many groups of tests it announced; documentation tests can come in several.
    groups: usize,
    /// How many of them ended as announced.
    whole_groups: usize,
    /// The sum of failed tests in the summaries.
    failed: usize,
}

/// A group that has been announced and has not ended: `running 3 tests`.
#[derive(Debug, Default)]
struct Group {
    /// Where its tests begin among those of the target.
    first: usize,
    announced: usize,
    seen: usize,
    /// A test that has begun, and whose result has not come.
    pending: Option<String>,
    /// Tests that another one followed before their result came.
    unresolved: Vec<String>,
    /// The names below the last `failures:`.
    listed: Vec<String>,
    part: Part,
}

/// The parts of a group's output.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// A line for each test.
    #[default]
    Results,
    /// What failed tests printed.
    Details,
    /// The names of those that failed.
    List,
}

#[derive(Debug, Default)]
struct Reader {
    targets: Vec<Reading>,
    group: Option<Group>,
    bytes: usize,
    cut: bool,
}

impl Reader {
    fn line(&mut self, line: &str) {
        if let Some(name) = header(line) {
            self.end_group();
            self.begin_target(name);
        } else if let Some((before, flag)) = failed_target(line) {
            // A crash can leave the line of a test without an end.
            self.result(before);
            self.end_group();
            if let Some(target) = self.targets.last_mut() {
                target.has_failed = true;
                target.flag = TargetFlag::read(flag);
            }
        } else if line.starts_with("  process didn't exit successfully: ") {
            if let Some(target) = self.targets.last_mut().filter(|target| target.has_failed) {
                target.is_odd = true;
            }
        } else if let Some(announced) = announcement(line) {
            self.end_group();
            if let Some(target) = self.targets.last_mut() {
                target.groups += 1;
                self.group = Some(Group { first: target.tests.len(), announced, ..Group::default() });
            }
        } else if let Some(summary) = summary(line) {
            self.summary(&summary);
        } else {
            self.inside(line);
        }
    }

    fn begin_target(&mut self, name: String) {
        if self.targets.len() == MAX_TARGETS || name.len() > MAX_NAME {
            self.cut = true;
            return;
        }
        self.targets.push(Reading {
            name,
            flag: None,
            tests: Vec::new(),
            places: HashMap::new(),
            has_failed: false,
            is_odd: false,
            groups: 0,
            whole_groups: 0,
            failed: 0,
        });
    }

    /// A line of a group.
    fn inside(&mut self, line: &str) {
        let Some(group) = &mut self.group else { return };
        match group.part {
            Part::Results | Part::Details | Part::List if line == "failures:" || line == "successes:" => {
                group.listed.clear();
                group.part = if line == "failures:" { Part::List } else { Part::Details };
            }
            Part::Results => self.result(line),
            Part::Details => {}
            Part::List => match line.strip_prefix("    ") {
                Some(name) => group.listed.push(without_mode(name).to_owned()),
                None if line.is_empty() => {}
                None => {
                    group.listed.clear();
                    group.part = Part::Details;
                }
            },
        }
    }

    /// A line that may have the name of a test, its result, or both.
    fn result(&mut self, line: &str) {
        let Some(group) = &mut self.group else { return };
        let (name, rest) = match named(line) {
            Some((name, rest)) => {
                group.unresolved.extend(group.pending.take());
                (Some(without_mode(name.trim_end()).to_owned()), rest)
            }
            None => (group.pending.take(), line),
        };
        let Some(name) = name else { return };
        match result(rest) {
            Some(result) => self.add(name, result),
            None => group.pending = Some(name),
        }
    }

    fn add(&mut self, name: String, result: TestResult) {
        let (Some(group), Some(target)) = (&mut self.group, self.targets.last_mut()) else { return };
        if let Some(&place) = target.places.get(&name) {
            // The list at the end repeats an earlier line.
            target.tests[place].result = target.tests[place].result.max(result);
            return;
        }
        group.seen += 1;
        let room = if result == TestResult::Failed { 2 * MAX_BYTES } else { MAX_BYTES };
        if name.len() > MAX_NAME || self.bytes + name.len() > room {
            self.cut = true;
            return;
        }
        self.bytes += name.len();
        target.places.insert(name.clone(), target.tests.len());
        target.tests.push(Test { name, result });
    }

    /// The end of a group as its harness prints it.
    fn summary(&mut self, summary: &Summary) {
        let Some(group) = &mut self.group else { return };
        for name in std::mem::take(&mut group.listed) {
            self.add(name, TestResult::Failed);
        }
        let Some(group) = &mut self.group else { return };
        let last = group.pending.take();
        let hidden: Vec<String> = std::mem::take(&mut group.unresolved).into_iter().chain(last).collect();
        // Noise has hidden the results of these. Had they failed, they would have been in the list.
        if group.seen + hidden.len() == group.announced {
            hidden.into_iter().for_each(|name| self.add(name, TestResult::Ok));
        }
        let (Some(group), Some(target)) = (self.group.take(), self.targets.last_mut()) else { return };
        target.failed += summary.failed;
        let strangers = if group.seen > group.announced { target.remove_strangers(&group) } else { 0 };
        if group.seen - strangers == group.announced && summary.total() == group.announced {
            target.whole_groups += 1;
        }
    }

    /// The end of a group that printed no summary.
    fn end_group(&mut self) {
        self.group = None;
    }
}

impl Reading {
    /// Removes output of a test that looks like a harness's, such as trybuild: `test tests/ui/a.rs ... ok`. Only if the
    /// rest are as many tests as the group announced, and named like functions. Returns how many are removed.
    fn remove_strangers(&mut self, group: &Group) -> usize {
        let is_path = |name: &str| name.split("::").all(|part| !part.is_empty() && part.chars().all(is_of_name));
        let own = self.tests[group.first..].iter().filter(|test| is_path(&test.name)).count();
        if own != group.announced {
            return 0;
        }
        let of_group = self.tests.split_off(group.first);
        let strangers = of_group.len() - own;
        self.tests.extend(of_group.into_iter().filter(|test| is_path(&test.name)));
        self.places = (0..).zip(&self.tests).map(|(place, test)| (test.name.clone(), place)).collect();
        strangers
    }

    /// Whether failed tests are the reason for which it failed.
    fn is_accounted(&self) -> bool {
        let failed = self.tests.iter().filter(|test| test.result == TestResult::Failed).count();
        !self.is_odd && failed > 0 && failed == self.failed
    }

    fn finish(self) -> Target {
        let complete = self.groups > 0 && self.whole_groups == self.groups;
        Target { target: self.name, flag: self.flag, complete, tests: self.tests }
    }
}

/// The name of the target that cargo runs next: `     Running tests/ui.rs (target/debug/deps/ui-0123456789abcdef)`.
fn header(line: &str) -> Option<String> {
    const RUNNING: &str = "     Running ";
    const DOC: &str = "   Doc-tests ";
    // An earlier program may have left a line without an end.
    if let Some((_, name)) = line.rsplit_once(DOC) {
        return Some(format!("{}{name}", Target::DOC));
    }
    let (_, what) = line.rsplit_once(RUNNING)?;
    let (shown, path) = match what.strip_suffix(')').and_then(|what| what.rsplit_once(" (")) {
        Some((shown, path)) => (shown, path),
        // Before cargo 1.56.
        None => ("", what),
    };
    let (_, file) = path.rsplit_once("/deps/")?;
    let (binary, hash) = file.rsplit_once('-')?;
    if hash.is_empty() || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(match shown {
        "" => binary.to_owned(),
        // Before cargo 1.59.
        "unittests" => format!("unittests {binary}"),
        _ => shown.to_owned(),
    })
}

/// The text before cargo's error about a failed target, and the flag that selects the target.
fn failed_target(line: &str) -> Option<(&str, &str)> {
    let (before, rest) = line
        .split_once("error: test failed, to rerun pass ")
        .or_else(|| line.split_once("error: doctest failed, to rerun pass "))?;
    Some((before, rest.trim_matches(['`', '\''])))
}

/// How many tests a group has: `running 3 tests`.
fn announcement(line: &str) -> Option<usize> {
    let rest = line.strip_prefix("running ")?;
    rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test"))?.parse().ok()
}

/// `test result: FAILED. 5 passed; 2 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.40s`
struct Summary {
    passed: usize,
    failed: usize,
    ignored: usize,
    measured: usize,
}

impl Summary {
    fn total(&self) -> usize {
        [self.passed, self.failed, self.ignored, self.measured].into_iter().fold(0, usize::saturating_add)
    }
}

fn summary(line: &str) -> Option<Summary> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = counts.split("; ");
    let mut count = |what: &str| counts.next()?.strip_suffix(what)?.trim_end().parse().ok();
    Some(Summary {
        passed: count("passed")?,
        failed: count("failed")?,
        ignored: count("ignored")?,
        measured: count("measured")?,
    })
}

/// The name in `test NAME ... REST`, and the rest. Other output may come before it.
fn named(line: &str) -> Option<(&str, &str)> {
    let line = if line.starts_with("test ") { line } else { &line[line.find("test ")?..] };
    line.strip_prefix("test ")?.split_once(" ... ").filter(|(name, _)| !name.is_empty())
}

/// The result that a line ends with.
fn result(rest: &str) -> Option<TestResult> {
    // With `--report-time`, a time follows.
    let word = rest.split_once(" <").map_or(rest, |(word, _)| word).trim_end();
    if word == "ignored" || word.starts_with("ignored, ") {
        Some(TestResult::Ignored)
    } else if word.ends_with("FAILED") || word.ends_with("FAILED (time limit exceeded)") {
        Some(TestResult::Failed)
    } else if word.ends_with("ok") || word.starts_with("bench: ") {
        Some(TestResult::Ok)
    } else {
        None
    }
}

/// Whether a character can stand in the name of a function.
fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '#'
}

/// The name without what libtest adds for the way in which a test is run.
fn without_mode(name: &str) -> &str {
    const MODES: [&str; 3] = [" - should panic", " - compile fail", " - compile"];
    MODES.iter().find_map(|mode| name.strip_suffix(mode)).unwrap_or(name)
}
