//! The fields of a report, in the shape of the JSON report. docs/report.md describes every field.

use std::fmt::Write as _;
use std::time::SystemTime;

use semver::Version;
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

use super::account::{RunReport, account};
use super::{CrateResults, Deciding, Finding, NotRun, OpResult, Results, Standing, TestName, Verdict, judge};
use crate::krate::{CrateId, CrateName, Origin, Selected};
use crate::libtest::{Target, TestResult, Tests};
use crate::ops::{OpName, Stage, Tally};
use crate::outcome::{Failure, Outcome, OutcomeKind};
use crate::plan::{LogId, Step};
use crate::toolchain::{Toolchain, ToolchainSpec};

/// The version of the JSON's schema: raised when a field changes or goes, not when one is added.
const SCHEMA: u32 = 1;

/// The report of an experiment.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    schema: u32,
    /// Its name.
    pub experiment: String,
    /// When its first step started; none if none has.
    #[serde(serialize_with = "rfc3339")]
    pub started: Option<SystemTime>,
    /// When its last step so far ended.
    #[serde(serialize_with = "rfc3339")]
    pub finished: Option<SystemTime>,
    /// Its toolchains, the baseline first.
    pub toolchains: Vec<ToolchainIdentity>,
    /// Notes for the reader.
    pub notes: Vec<String>,
    /// How many crates got each verdict.
    pub summary: Summary,
    /// The crates in the order of the selection.
    pub crates: Vec<CrateReport>,
    /// What its runs took, the first one first.
    pub runs: Vec<RunReport>,
}

/// A toolchain of an experiment.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the fields are those of `Toolchain`")]
pub struct ToolchainIdentity {
    pub spec: ToolchainSpec,
    pub label: String,
    pub version: Version,
    pub identity: String,
}

/// How many crates got each verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary([usize; Verdict::ALL.len()]);

/// The report of one crate.
#[derive(Debug, Clone, Serialize)]
pub struct CrateReport {
    /// Its name.
    #[serde(rename = "crate")]
    pub name: CrateName,
    /// Its version, where one is known.
    pub version: Option<Version>,
    /// Where it comes from.
    pub source: Source,
    /// Its verdict.
    pub verdict: Verdict,
    /// Why, in one line, such as `build@nightly: does not compile: E0554`; none when there is nothing to explain.
    pub verdict_reason: Option<String>,
    /// Whether its failure is expected: it is marked `broken`.
    #[serde(skip_serializing_if = "is_news")]
    pub expected: bool,
    /// Its results on each toolchain.
    pub results: Vec<ToolchainReport>,
    /// The steps whose logs show why, the most telling first.
    #[serde(skip)]
    pub evidence: Vec<LogId>,
}

/// Where a crate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The registry, or nowhere.
    Registry,
    /// A local folder.
    Path,
}

/// The results of one crate on one toolchain.
#[derive(Debug, Clone, Serialize)]
pub struct ToolchainReport {
    /// The label of the toolchain.
    pub toolchain: String,
    /// The outcome of the first op that did not pass, or `passed`.
    #[serde(flatten)]
    pub standing: Standing,
    /// The ops that ran, in order, those that run once for all toolchains included.
    pub ops: Vec<OpReport>,
}

/// The result of one op.
#[derive(Debug, Clone, Serialize)]
pub struct OpReport {
    /// Its name.
    pub op: OpName,
    /// The pool that ran it.
    pub stage: Stage,
    /// Its outcome.
    #[serde(flatten)]
    pub standing: Standing,
    /// 1, and more for a repetition.
    pub attempt: u32,
    /// How long it took.
    pub wall_ms: u64,
    /// User and system time of all its processes.
    pub cpu_ms: u64,
    /// Its memory peak in bytes; `None` where the host doesn't account for it.
    pub peak_memory_bytes: Option<u64>,
    /// How long it waited until it could start.
    pub waited_ms: u64,
    /// Its dependencies that crates share.
    pub units: Tally,
    /// The results of its tests, if it ran any and the caller wants them.
    pub tests: Option<TestsReport>,
    /// Under which its log is kept.
    #[serde(skip)]
    pub log: LogId,
}

/// The results of an op's tests, one by one.
#[derive(Debug, Clone, Serialize)]
pub struct TestsReport {
    /// How many passed.
    pub ok: usize,
    /// How many failed.
    pub failed: usize,
    /// How many were not run, as they are ignored.
    pub ignored: usize,
    /// Whether some results are missing, as there were too many or not all output was kept.
    pub cut: bool,
    /// Whether only tests that differ were run, to repeat them.
    pub selected: bool,
    /// The targets, with their tests.
    pub targets: Vec<Target>,
}

/// The conclusion of an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    /// Every crate was tested, and nothing regressed; with one toolchain, nothing failed.
    Clean,
    /// Something regressed; with one toolchain, something failed.
    Failures,
    /// maar or its host failed on a crate, so that there is no statement about all.
    HostFailed,
    /// So many crates could not be tested.
    SomeUntested(usize),
    /// So many crates could not be tested, and these are all.
    NothingTested(usize),
}

/// Judges every crate and counts the verdicts.
pub fn compare(results: &Results) -> Report {
    let crates: Vec<CrateReport> =
        results.crates.iter().map(|krate| report_crate(krate, &results.toolchains)).collect();
    let ran = || results.crates.iter().flat_map(|krate| &krate.steps).filter_map(|(_, result)| result.as_ref());
    Report {
        schema: SCHEMA,
        experiment: results.experiment.clone(),
        started: ran().map(|result| result.started).min(),
        finished: ran().filter_map(|result| result.started.checked_add(result.wall)).max(),
        toolchains: results.toolchains.iter().map(ToolchainIdentity::from).collect(),
        notes: results.notes.clone(),
        summary: Summary::of(crates.iter().map(|krate| krate.verdict)),
        crates,
        runs: account(results),
    }
}

/// Concludes an experiment. `fail_on` are the verdicts that count as failures instead of the usual ones; then it makes
/// no difference whether some of the crates could not be tested.
pub fn conclude(report: &Report, fail_on: Option<&[Verdict]>) -> Conclusion {
    let host_failed = |krate: &CrateReport| match krate.verdict {
        Verdict::Error => true,
        Verdict::Inconclusive => krate.results.iter().any(|result| match &result.standing {
            Standing::Known(Outcome::Inconclusive(cause)) => cause.is_of_host(),
            Standing::Known(_) | Standing::Pending => false,
        }),
        Verdict::Regressed
        | Verdict::BuildFail
        | Verdict::TestFail
        | Verdict::Broken
        | Verdict::Fixed
        | Verdict::Pending
        | Verdict::Skipped
        | Verdict::Pass => false,
    };
    let failures: &[Verdict] = match (fail_on, report.toolchains.len()) {
        (Some(verdicts), _) => verdicts,
        (None, 0 | 1) => &[Verdict::BuildFail, Verdict::TestFail],
        (None, _) => &[Verdict::Regressed],
    };
    // An expected failure is neither a failure nor a gap.
    let count = |verdicts: &[Verdict]| {
        report.crates.iter().filter(|krate| !krate.expected && verdicts.contains(&krate.verdict)).count()
    };
    let untested = count(&[Verdict::Inconclusive, Verdict::Broken, Verdict::Pending, Verdict::Error]);
    let tested = report.summary.total() - untested - report.summary.count(Verdict::Skipped);
    // A failure that was found stays true, even if other crates could not be tested.
    if count(failures) > 0 {
        Conclusion::Failures
    } else if report.crates.iter().any(host_failed) {
        Conclusion::HostFailed
    } else if untested > 0 && tested == 0 {
        Conclusion::NothingTested(untested)
    } else if untested > 0 && fail_on.is_none() {
        Conclusion::SomeUntested(untested)
    } else {
        Conclusion::Clean
    }
}

/// Judges one crate.
pub fn report_crate(krate: &CrateResults, toolchains: &[Toolchain]) -> CrateReport {
    let Selected { id, origin } = &krate.krate;
    let judgement = judge(krate, toolchains.len());
    let flaky = failed_once(krate);
    let verdict_reason = match (&judgement.deciding, origin) {
        (Some(deciding), _) => {
            let reason = explain(&narrowed(krate, deciding), toolchains);
            let note = reservation(krate, judgement.verdict, deciding, toolchains);
            match (reason, note) {
                (Some(reason), Some(note)) => Some(format!("{reason} ({note})")),
                (reason, _) => reason,
            }
        }
        (None, Origin::Missing(what) | Origin::Unusable(what) | Origin::Unavailable(what)) => Some(what.clone()),
        (None, Origin::Skipped { reason, .. }) => Some(reason.clone()),
        (None, Origin::Registry { .. } | Origin::Path { .. }) => {
            flaky.and_then(|step| explain(&krate.steps[step], toolchains)).map(|reason| format!("flaky: {reason}"))
        }
    };
    // A step that has not run decides, but has no output.
    let told = judgement.deciding.as_ref().filter(|_| verdict_reason.is_some());
    let telling = told.map_or([flaky, None], |deciding| [Some(deciding.step), deciding.counterpart]);
    CrateReport {
        name: id.name.clone(),
        version: id.version.clone(),
        source: match origin.source() {
            Origin::Registry { .. } | Origin::Skipped { .. } | Origin::Missing(_) | Origin::Unavailable(_) => {
                Source::Registry
            }
            Origin::Path { .. } | Origin::Unusable(_) => Source::Path,
        },
        verdict: judgement.verdict,
        verdict_reason,
        expected: false,
        evidence: telling.into_iter().flatten().map(|step| krate.steps[step].0.log_id()).collect(),
        results: toolchains
            .iter()
            .zip(judgement.standings)
            .enumerate()
            .map(|(place, (toolchain, standing))| ToolchainReport {
                toolchain: toolchain.label().to_owned(),
                standing,
                ops: krate.steps.iter().filter_map(|step| report_op(step, place)).collect(),
            })
            .collect(),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_news(expected: &bool) -> bool {
    !expected
}

/// What speaks against relying on the reason, in a few words.
fn reservation(
    krate: &CrateResults,
    verdict: Verdict,
    deciding: &Deciding,
    toolchains: &[Toolchain],
) -> Option<String> {
    let counterpart = deciding.counterpart?;
    let spec = |step: usize| Some(toolchains.get(krate.steps[step].0.toolchain?)?.label());
    match verdict {
        Verdict::Regressed | Verdict::Fixed => {
            let elsewhere = others_that_failed(krate, deciding).filter(|count| *count > 0);
            let elsewhere = elsewhere
                .and_then(|count| Some(format!("{count} more failed that {} doesn't pass", spec(counterpart)?)));
            let not_repeated = (!deciding.is_repeated(krate)).then(|| "not repeated".to_owned());
            let notes: Vec<String> = elsewhere.into_iter().chain(not_repeated).collect();
            (!notes.is_empty()).then(|| notes.join("; "))
        }
        Verdict::BuildFail | Verdict::TestFail if krate.is_flaky(counterpart) => {
            Some(format!("flaky on {}", spec(counterpart)?))
        }
        Verdict::BuildFail | Verdict::TestFail => match &deciding.finding {
            Finding::NotRun(NotRun::Ignored) => Some(format!("ignored on {}", spec(counterpart)?)),
            Finding::NotRun(NotRun::Absent) => Some(format!("not there on {}", spec(counterpart)?)),
            Finding::NotRun(NotRun::Mixed) => Some(format!("not run on {}", spec(counterpart)?)),
            Finding::Shared => Some(format!(
                "no test failed each time on {} and passed on {}",
                spec(deciding.step)?,
                spec(counterpart)?
            )),
            Finding::Unknown | Finding::Differs(_) => None,
        },
        Verdict::Inconclusive
        | Verdict::Broken
        | Verdict::Skipped
        | Verdict::Error
        | Verdict::Pending
        | Verdict::Pass => None,
    }
}

/// The deciding step, whose reason names only the tests that differ if tests do.
fn narrowed(krate: &CrateResults, deciding: &Deciding) -> (Step, Option<OpResult>) {
    let (step, mut result) = krate.steps[deciding.step].clone();
    if let (Finding::Differs(tests), Some(result)) = (&deciding.finding, &mut result) {
        let names: Vec<String> = tests.iter().map(|test: &TestName| test.name.clone()).collect();
        let more = names.len().saturating_sub(Failure::MAX_TESTS);
        let names = names.into_iter().take(Failure::MAX_TESTS).collect();
        result.outcome = Outcome::Failed(Failure::Tests { names, more });
    }
    (step, result)
}

/// How many tests failed at the deciding step besides those that differ; none if the tests don't decide.
fn others_that_failed(krate: &CrateResults, deciding: &Deciding) -> Option<usize> {
    let Finding::Differs(differ) = &deciding.finding else { return None };
    let tests = krate.steps[deciding.step].1.as_ref()?.tests.as_ref()?;
    Some(tests.count(TestResult::Failed).saturating_sub(differ.len()))
}

/// An attempt that failed at what passed another time.
fn failed_once(krate: &CrateResults) -> Option<usize> {
    let failed = |place| krate.kind(place) == Some(OutcomeKind::Failed);
    (0..krate.steps.len()).find(|&place| failed(place) && krate.is_flaky(place))
}

/// Why a step decided a verdict, in one line; none for a step that has no reason, as it hasn't run.
fn explain((step, result): &(Step, Option<OpResult>), toolchains: &[Toolchain]) -> Option<String> {
    let reason = result.as_ref()?.outcome.reason()?;
    let op = step.op.name();
    Some(match step.toolchain.and_then(|place| toolchains.get(place)) {
        Some(toolchain) => format!("{op}@{}: {reason}", toolchain.label()),
        None => format!("{op}: {reason}"),
    })
}

fn report_op((step, result): &(Step, Option<OpResult>), toolchain: usize) -> Option<OpReport> {
    let result = result.as_ref().filter(|_| step.toolchain.is_none_or(|of| of == toolchain))?;
    Some(OpReport {
        op: step.op.name(),
        stage: step.op.stage(),
        standing: Standing::Known(result.outcome.clone()),
        attempt: step.attempt,
        wall_ms: millis(result.wall),
        cpu_ms: millis(result.cpu),
        peak_memory_bytes: result.peak_memory.map(|bytes| bytes.as_u64()),
        waited_ms: millis(result.waited),
        units: result.units,
        tests: result.tests.as_deref().map(TestsReport::from),
        log: step.log_id(),
    })
}

pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl CrateReport {
    /// The crate's name and version.
    pub fn id(&self) -> CrateId {
        CrateId { name: self.name.clone(), version: self.version.clone() }
    }
}

impl From<&Tests> for TestsReport {
    fn from(tests: &Tests) -> Self {
        let Tests { targets, cut, selected, accounted: _ } = tests;
        Self {
            ok: tests.count(TestResult::Ok),
            failed: tests.count(TestResult::Failed),
            ignored: tests.count(TestResult::Ignored),
            cut: *cut,
            selected: *selected,
            targets: targets.clone(),
        }
    }
}

impl From<&Toolchain> for ToolchainIdentity {
    fn from(toolchain: &Toolchain) -> Self {
        let Toolchain { spec, version, identity, .. } = toolchain;
        let label = toolchain.label().to_owned();
        Self { spec: spec.clone(), label, version: version.clone(), identity: identity.clone() }
    }
}

impl Summary {
    fn of(verdicts: impl Iterator<Item = Verdict>) -> Self {
        let mut summary = Self::default();
        for verdict in verdicts {
            summary.0[verdict as usize] += 1;
        }
        summary
    }

    /// How many crates got this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.0[verdict as usize]
    }

    /// How many crates there are.
    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }

    /// Every verdict with its count, in the order of reports, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (Verdict, usize)> {
        Verdict::ALL.into_iter().map(|verdict| (verdict, self.count(verdict)))
    }
}

impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Verdict::ALL.len()))?;
        for (verdict, count) in self.iter() {
            map.serialize_entry(verdict.as_str(), &count)?;
        }
        map.end()
    }
}

/// As the two fields `outcome` and `reason`.
impl Serialize for Standing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Standing", 2)?;
        fields.serialize_field("outcome", self.as_str())?;
        fields.serialize_field("reason", &self.reason())?;
        fields.end()
    }
}

pub(super) fn rfc3339<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    time.and_then(timestamp).serialize(serializer)
}

/// A time as RFC 3339 in UTC, to the second; none for years that the format doesn't know.
pub(crate) fn timestamp(time: SystemTime) -> Option<String> {
    let mut text = String::new();
    // humantime's formatter panics in `to_string` when it can't write a time.
    write!(text, "{}", humantime::format_rfc3339_seconds(time)).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::compare::sample;
    use crate::outcome::{Cause, Failure, Part};

    /// Concludes an experiment whose crates came out like the letters of [`sample::crate_of`].
    fn concluded(crates: &[&[&str]]) -> Conclusion {
        let crates: Vec<CrateResults> = crates.iter().map(|toolchains| sample::crate_of('p', toolchains)).collect();
        let toolchains = crates[0].steps.iter().filter_map(|(step, _)| step.toolchain).max().unwrap() + 1;
        conclude(&compare(&sample::results(toolchains, crates)), None)
    }

    #[test]
    fn a_reason_names_the_op_and_the_toolchain() {
        let mut krate = sample::crate_of('p', &["p", "f"]);
        let codes = vec!["E0554".to_owned()];
        krate.steps[2].1.as_mut().unwrap().outcome =
            Outcome::Failed(Failure::Compile { part: Part::Crate, codes, first: None });
        let report = compare(&sample::results(2, vec![krate, sample::missing_crate("no crate named `x`")]));
        assert_eq!(
            report.crates[0].verdict_reason.as_deref(),
            Some("build@nightly: does not compile: E0554 (not repeated)")
        );
        assert_eq!(report.crates[1].verdict_reason.as_deref(), Some("no crate named `x`"));
    }

    #[test]
    fn the_evidence_of_a_regression_is_the_failure_then_what_passed() {
        let krate = sample::crate_of('p', &["pp", "pf"]);
        let logs = [4, 2].map(|place: usize| krate.steps[place].0.log_id());
        assert_eq!(compare(&sample::results(2, vec![krate])).crates[0].evidence, logs);
    }

    #[test]
    fn a_difference_counts_as_repeated_when_both_sides_are() {
        let check = |repeated: &[usize], expected: bool| {
            let mut krate = sample::crate_of('p', &["pp", "pf"]);
            for &place in repeated {
                let (mut again, result) = krate.steps[place].clone();
                again.attempt = 2;
                krate.steps.push((again, result));
            }
            let report = compare(&sample::results(2, vec![krate])).crates.remove(0);
            assert_eq!(report.verdict, Verdict::Regressed);
            assert_eq!(!report.verdict_reason.unwrap().ends_with(" (not repeated)"), expected, "{repeated:?}");
        };
        check(&[], false);
        check(&[1, 2, 3], false);
        check(&[1, 2, 3, 4], true);
    }

    #[test]
    fn what_failed_once_and_passed_when_repeated_is_flaky_and_named() {
        let mut krate = sample::crate_of('p', &["pp", "pf"]);
        let (mut again, mut result) = krate.steps[4].clone();
        again.attempt = 2;
        result.as_mut().unwrap().outcome = Outcome::Passed;
        let reason = krate.steps[4].1.as_ref().unwrap().outcome.reason().unwrap();
        let failed = krate.steps[4].0.log_id();
        krate.steps.push((again, result));
        let report = compare(&sample::results(2, vec![krate])).crates.remove(0);
        assert_eq!(report.verdict, Verdict::Pass);
        assert_eq!(report.verdict_reason, Some(format!("flaky: test@nightly: {reason}")));
        assert_eq!(report.evidence, [failed]);
    }

    #[test]
    fn an_experiment_with_two_toolchains_fails_by_its_regressions_only() {
        assert_eq!(concluded(&[&["pp", "pp"]]), Conclusion::Clean);
        assert_eq!(concluded(&[&["f-", "f-"], &["f-", "pp"]]), Conclusion::Clean);
        assert_eq!(concluded(&[&["pp", "pp"], &["pp", "f-"]]), Conclusion::Failures);
    }

    #[test]
    fn an_experiment_with_one_toolchain_fails_by_its_failures() {
        assert_eq!(concluded(&[&["pp"], &["pp"]]), Conclusion::Clean);
        assert_eq!(concluded(&[&["pp"], &["f-"]]), Conclusion::Failures);
        assert_eq!(concluded(&[&["pf"]]), Conclusion::Failures);
    }

    #[test]
    fn crates_that_could_not_be_tested_are_no_success() {
        for (crates, expected) in [
            (&[&["pp"][..], &["b-"]][..], Conclusion::SomeUntested(1)),
            (&[&["pp"], &["i-"], &["pi"]], Conclusion::SomeUntested(2)),
            (&[&["pp"], &["p-"]], Conclusion::SomeUntested(1)),
            (&[&["i-"], &["b-"]], Conclusion::NothingTested(2)),
            (&[&["f-"], &["b-"]], Conclusion::Failures),
            (&[&["f-", "f-"], &["b-", "b-"]], Conclusion::SomeUntested(1)),
            (&[&["i-", "i-"]], Conclusion::NothingTested(1)),
        ] {
            assert_eq!(concluded(crates), expected, "{crates:?}");
        }
        // Of a crate that is skipped nothing was asked.
        let skipped = || sample::crate_of('s', &["ss"]);
        let missing = || sample::missing_crate("no crate named `x`");
        let of = |crates| conclude(&compare(&sample::results(1, crates)), None);
        assert_eq!(of(vec![skipped()]), Conclusion::Clean);
        assert_eq!(of(vec![skipped(), missing()]), Conclusion::NothingTested(1));
    }

    #[test]
    fn chosen_verdicts_replace_the_usual_failures() {
        let conclude_on = |crates: &[&[&str]], verdicts: &[Verdict]| {
            let crates = crates.iter().map(|toolchains| sample::crate_of('p', toolchains)).collect();
            conclude(&compare(&sample::results(1, crates)), Some(verdicts))
        };
        use Verdict::{Broken, BuildFail, Inconclusive, Regressed};
        assert_eq!(conclude_on(&[&["pp"], &["b-"]], &[Inconclusive, Broken]), Conclusion::Failures);
        assert_eq!(conclude_on(&[&["pp"], &["b-"], &["f-"]], &[Regressed]), Conclusion::Clean);
        assert_eq!(conclude_on(&[&["pp"], &["f-"]], &[BuildFail]), Conclusion::Failures);
        // That nothing was tested, or that the host failed, is never a success.
        assert_eq!(conclude_on(&[&["b-"], &["i-"]], &[Regressed]), Conclusion::NothingTested(2));
        assert_eq!(conclude_on(&[&["pp"], &["e-"]], &[Regressed]), Conclusion::HostFailed);
    }

    #[test]
    fn regressions_outweigh_a_host_that_failed_and_a_limit_is_neither() {
        assert_eq!(concluded(&[&["pp", "f-"], &["e-", "pp"]]), Conclusion::Failures);
        assert_eq!(concluded(&[&["e-", "pp"]]), Conclusion::HostFailed);
        // The sample's inconclusive ops are those of a limit.
        assert_eq!(concluded(&[&["pp", "f-"], &["i-", "pp"]]), Conclusion::Failures);
        assert_eq!(concluded(&[&["i-", "pp"], &["pp", "pp"]]), Conclusion::SomeUntested(1));
        let mut krate = sample::crate_of('p', &["pp", "i-"]);
        krate.steps[3].1.as_mut().unwrap().outcome = Outcome::Inconclusive(Cause::Network("refused".into()));
        assert_eq!(conclude(&compare(&sample::results(2, vec![krate])), None), Conclusion::HostFailed);
    }

    #[test]
    fn the_summary_has_every_verdict_in_order() {
        let counts: Vec<Verdict> = Summary::default().iter().map(|(verdict, _)| verdict).collect();
        assert_eq!(counts, Verdict::ALL);
        for (place, verdict) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!(verdict as usize, place);
        }
    }

    #[test]
    fn a_time_beyond_the_format_is_left_out_and_not_a_panic() {
        assert_eq!(timestamp(SystemTime::UNIX_EPOCH).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40)), None);
    }
}
