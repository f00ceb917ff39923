//! One crate's results → its verdict. The tests hold the truth table.
//!
//! Only `Passed` and `Failed` may count as a regression or a fix: any other outcome on either side leaves the effect of
//! the toolchain unknown. An op that both passed and failed on one toolchain is flaky: it counts as passed, and
//! not as evidence against another toolchain.

use super::finding::{self, Finding};
use super::{CrateResults, OpResult, Verdict};
use crate::krate::Origin;
use crate::ops::Stage;
use crate::outcome::{Breakage, Cause, Outcome, OutcomeKind};
use crate::plan::Step;

/// The state of one op, or of one crate on one toolchain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has not run, or not all of it.
    Pending,
    /// It has.
    Known(Outcome),
}

/// The verdict on one crate, and its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// How the crate stands on each toolchain.
    pub standings: Vec<Standing>,
    /// The step that decided; none when everything passed or nothing could run.
    pub deciding: Option<Deciding>,
}

/// The step that decided a verdict: places in [`CrateResults::steps`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deciding {
    /// The step.
    pub step: usize,
    /// The same op on the other side of the comparison, if it was compared.
    pub counterpart: Option<usize>,
    /// What single tests say of the comparison.
    pub finding: Finding,
}

impl Deciding {
    /// Whether both sides had this result more than once.
    pub fn is_repeated(&self, krate: &CrateResults) -> bool {
        let times = |place: usize| krate.kinds(place).filter(|other| *other == krate.kind(place)).count();
        match (&self.finding, self.counterpart) {
            (Finding::Differs(tests), Some(other)) => finding::is_repeated(krate, tests, self.step, other),
            (_, other) => [Some(self.step), other].into_iter().flatten().all(|place| times(place) > 1),
        }
    }
}

impl Standing {
    /// The name of the outcome; none while pending.
    pub fn kind(&self) -> Option<OutcomeKind> {
        match self {
            Self::Pending => None,
            Self::Known(outcome) => Some(outcome.kind()),
        }
    }

    /// The name that reports use.
    pub fn as_str(&self) -> &'static str {
        self.kind().map_or("pending", OutcomeKind::as_str)
    }

    /// The reason in words, where there is one.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Pending => None,
            Self::Known(outcome) => outcome.reason(),
        }
    }
}

/// Derives a crate's verdict from its results on all toolchains, baseline first.
pub fn judge(krate: &CrateResults, toolchains: usize) -> Judgement {
    let without_steps = match &krate.krate.origin {
        Origin::Missing(what) => Some((Verdict::Broken, Outcome::Broken(Breakage::Missing(what.clone())))),
        Origin::Unusable(why) => Some((Verdict::Broken, Outcome::Broken(Breakage::Manifest(why.clone())))),
        Origin::Unavailable(why) => Some((Verdict::Inconclusive, Outcome::Inconclusive(Cause::Network(why.clone())))),
        Origin::Skipped { .. } => Some((Verdict::Skipped, Outcome::Skipped)),
        Origin::Registry { .. } | Origin::Path { .. } => None,
    };
    if let Some((verdict, outcome)) = without_steps {
        return Judgement { verdict, standings: vec![Standing::Known(outcome); toolchains], deciding: None };
    }
    let lines: Vec<Line<'_>> = (0..toolchains).map(|toolchain| Line::of(krate, toolchain)).collect();
    let (verdict, deciding) = match lines.as_slice() {
        [] => (Verdict::Skipped, None),
        [only] => judge_one(only),
        [baseline, others @ ..] => others
            .iter()
            .map(|other| judge_pair(baseline, other))
            .min_by_key(|(verdict, _)| precedence(*verdict))
            .unwrap_or((Verdict::Skipped, None)),
    };
    Judgement { verdict, standings: lines.iter().map(Line::standing).collect(), deciding }
}

/// The place of the first step that did not pass on a toolchain.
pub fn first_trouble(krate: &CrateResults, toolchain: usize) -> Option<usize> {
    Line::of(krate, toolchain).trouble()
}

/// Of the verdicts on several pairs of toolchains, which one is the crate's: the lowest.
fn precedence(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Regressed => 0,
        Verdict::Error => 1,
        Verdict::Inconclusive => 2,
        Verdict::Pending => 3,
        Verdict::Fixed => 4,
        Verdict::Broken => 5,
        Verdict::BuildFail => 6,
        Verdict::TestFail => 7,
        Verdict::Pass => 8,
        Verdict::Skipped => 9,
    }
}

/// A crate's way on one toolchain: the places of its steps, those for all toolchains included, one for each op.
struct Line<'a> {
    krate: &'a CrateResults,
    steps: Vec<usize>,
}

impl<'a> Line<'a> {
    fn of(krate: &'a CrateResults, toolchain: usize) -> Self {
        let mut steps: Vec<usize> = Vec::new();
        for (place, (step, result)) in krate.steps.iter().enumerate() {
            if step.toolchain.is_some_and(|of| of != toolchain) {
                continue;
            }
            match steps.iter_mut().find(|earlier| krate.steps[**earlier].0.op == step.op) {
                // The last repetition of the whole op speaks for it, once it has run.
                Some(earlier) if result.as_ref().is_some_and(|result| !result.is_partial()) => *earlier = place,
                Some(_) => (),
                None => steps.push(place),
            }
        }
        Self { krate, steps }
    }

    /// The outcome of an op. A flaky one passed.
    fn kind(&self, step: usize) -> Option<OutcomeKind> {
        let kind = self.krate.kind(step);
        let can_pass = kind == Some(OutcomeKind::Failed) && self.krate.is_flaky(step);
        if can_pass { Some(OutcomeKind::Passed) } else { kind }
    }

    fn stage(&self, step: usize) -> Stage {
        self.krate.steps[step].0.op.stage()
    }

    /// The first step that is not fine.
    fn trouble(&self) -> Option<usize> {
        self.steps.iter().copied().find(|step| !is_fine(self.kind(*step)))
    }

    fn anything_passed(&self) -> bool {
        self.steps.iter().any(|step| self.kind(*step) == Some(OutcomeKind::Passed))
    }

    fn standing(&self) -> Standing {
        match self.trouble() {
            Some(step) => match &self.krate.steps[step].1 {
                Some(result) => Standing::Known(result.outcome.clone()),
                None => Standing::Pending,
            },
            None if self.anything_passed() => Standing::Known(Outcome::Passed),
            None => Standing::Known(Outcome::Skipped),
        }
    }
}

impl CrateResults {
    /// Whether a step both passed and failed, among all times that it ran.
    pub(super) fn is_flaky(&self, step: usize) -> bool {
        let came_to = |wanted| self.kinds(step).any(|kind| kind == Some(wanted));
        came_to(OutcomeKind::Passed) && came_to(OutcomeKind::Failed)
    }

    /// The outcome of a step; `None` if it hasn't run.
    pub(super) fn kind(&self, step: usize) -> Option<OutcomeKind> {
        self.steps[step].1.as_ref().map(|result| result.outcome.kind())
    }

    /// Its outcomes, one for each time that it ran as a whole.
    fn kinds(&self, step: usize) -> impl Iterator<Item = Option<OutcomeKind>> {
        self.attempts(step).filter(|result| !result.is_partial()).map(|result| Some(result.outcome.kind()))
    }

    /// All results of a step.
    pub(super) fn attempts(&self, step: usize) -> impl Iterator<Item = &OpResult> {
        let same = move |other: &&(Step, Option<OpResult>)| other.0.fingerprint == self.steps[step].0.fingerprint;
        self.steps.iter().filter(same).filter_map(|(_, result)| result.as_ref())
    }
}

fn is_fine(kind: Option<OutcomeKind>) -> bool {
    matches!(kind, Some(OutcomeKind::Passed | OutcomeKind::Skipped))
}

fn judge_one(line: &Line<'_>) -> (Verdict, Option<Deciding>) {
    let Some(step) = line.trouble() else { return (all_fine(line), None) };
    let verdict = match line.kind(step) {
        None => Verdict::Pending,
        Some(OutcomeKind::Failed) => failed_in(line.stage(step)),
        Some(OutcomeKind::Broken) => Verdict::Broken,
        Some(OutcomeKind::Inconclusive) => Verdict::Inconclusive,
        Some(OutcomeKind::Error) => Verdict::Error,
        Some(OutcomeKind::Passed | OutcomeKind::Skipped) => all_fine(line),
    };
    (verdict, Some(Deciding { step, counterpart: None, finding: Finding::Unknown }))
}

/// Compares op by op; the first op that is not fine on both sides decides.
fn judge_pair(baseline: &Line<'_>, other: &Line<'_>) -> (Verdict, Option<Deciding>) {
    // A crate's plan has the same ops for all toolchains.
    for (&left, &right) in baseline.steps.iter().zip(&other.steps) {
        let Some((verdict, side)) = weigh(baseline.kind(left), other.kind(right), baseline.stage(left)) else {
            continue;
        };
        let (step, counterpart) = match side {
            Side::Baseline => (left, right),
            Side::Other => (right, left),
        };
        let krate = baseline.krate;
        let both_failed = [baseline.kind(left), other.kind(right)] == [Some(OutcomeKind::Failed); 2];
        // A step that is for all toolchains has no counterpart.
        if step == counterpart {
            return (verdict, Some(Deciding { step, counterpart: None, finding: Finding::Unknown }));
        }
        let decide = |verdict, step, counterpart, finding| {
            (verdict, Some(Deciding { step, counterpart: Some(counterpart), finding }))
        };
        if both_failed {
            return match finding::find(krate, right, left) {
                found @ Finding::Differs(_) => decide(Verdict::Regressed, right, left, found),
                _ => decide(verdict, step, counterpart, Finding::Unknown),
            };
        }
        if !matches!(verdict, Verdict::Regressed | Verdict::Fixed) {
            return decide(verdict, step, counterpart, Finding::Unknown);
        }
        let found = finding::find(krate, step, counterpart);
        let verdict = match &found {
            Finding::Differs(_) => verdict,
            // What passed there can fail, too.
            Finding::Unknown if krate.is_flaky(counterpart) => failed_in(baseline.stage(left)),
            Finding::Unknown => verdict,
            Finding::NotRun(_) | Finding::Shared => failed_in(baseline.stage(left)),
        };
        return decide(verdict, step, counterpart, found);
    }
    (all_fine(baseline), None)
}

fn all_fine(line: &Line<'_>) -> Verdict {
    if line.anything_passed() { Verdict::Pass } else { Verdict::Skipped }
}

/// The verdict on a crate whose op of this stage failed.
fn failed_in(stage: Stage) -> Verdict {
    match stage {
        // A crate that can't be prepared can't be built.
        Stage::Fetch => Verdict::Broken,
        Stage::Build => Verdict::BuildFail,
        Stage::Test => Verdict::TestFail,
    }
}

/// On which side the deciding step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Baseline,
    Other,
}

/// Compares the outcomes of one op on two toolchains. `None` if both are fine: compare the next op.
fn weigh(baseline: Option<OutcomeKind>, other: Option<OutcomeKind>, stage: Stage) -> Option<(Verdict, Side)> {
    use OutcomeKind::{Broken, Error, Failed, Inconclusive, Passed, Skipped};
    use Side::{Baseline, Other};

    let said = match (baseline, other) {
        (Some(Passed | Skipped), Some(Passed | Skipped)) => return None,
        (Some(Error), _) => (Verdict::Error, Baseline),
        (_, Some(Error)) => (Verdict::Error, Other),
        (Some(Inconclusive), _) => (Verdict::Inconclusive, Baseline),
        (_, Some(Inconclusive)) => (Verdict::Inconclusive, Other),
        (None, _) => (Verdict::Pending, Baseline),
        (_, None) => (Verdict::Pending, Other),
        (Some(Passed), Some(Failed)) => (Verdict::Regressed, Other),
        (Some(Failed), Some(Passed)) => (Verdict::Fixed, Baseline),
        (Some(Failed), Some(Failed)) => (failed_in(stage), Baseline),
        (Some(Broken), Some(Failed | Broken)) => (Verdict::Broken, Baseline),
        (Some(Failed), Some(Broken)) => (Verdict::Broken, Other),
        // "It can't be built at all", while the other side built it or was not asked: one of the two is mistaken, and
        // which one is unknown.
        (Some(Passed | Skipped), Some(Broken)) => (Verdict::Inconclusive, Other),
        (Some(Broken), Some(Passed | Skipped)) => (Verdict::Inconclusive, Baseline),
        // A failure with nothing to compare it with.
        (Some(Skipped), Some(Failed)) => (Verdict::Inconclusive, Other),
        (Some(Failed), Some(Skipped)) => (Verdict::Inconclusive, Baseline),
    };
    Some(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample::{crate_of, missing_crate};
    use crate::plan::Fingerprint;
    use Verdict::{Broken, BuildFail, Error, Fixed, Inconclusive, Pass, Pending, Regressed, Skipped, TestFail};

    /// Judges a crate whose build came out like the first letter and its tests like the second, for each toolchain:
    /// `p`assed, `f`ailed, `b`roken, `i`nconclusive, `e`rror, `s`kipped, `-` not run.
    fn verdict(toolchains: &[&str]) -> Verdict {
        judge(&crate_of('p', toolchains), toolchains.len()).verdict
    }

    #[test]
    fn the_truth_table_of_one_op_on_two_toolchains() {
        // Rows: the baseline. Columns: the other toolchain.
        let columns = ["p", "f", "b", "i", "e", "s", "-"];
        #[rustfmt::skip]
        let table = [
            ("p", [Pass,         Regressed,    Inconclusive, Inconclusive, Error, Pass,         Pending]),
            ("f", [Fixed,        BuildFail,    Broken,       Inconclusive, Error, Inconclusive, Pending]),
            ("b", [Inconclusive, Broken,       Broken,       Inconclusive, Error, Inconclusive, Pending]),
            ("i", [Inconclusive, Inconclusive, Inconclusive, Inconclusive, Error, Inconclusive, Inconclusive]),
            ("e", [Error,        Error,        Error,        Error,        Error, Error,        Error]),
            ("s", [Pass,         Inconclusive, Inconclusive, Inconclusive, Error, Pass,         Pending]),
            ("-", [Pending,      Pending,      Pending,      Inconclusive, Error, Pending,      Pending]),
        ];
        for (baseline, row) in table {
            for (other, expected) in columns.iter().zip(row) {
                assert_eq!(verdict(&[baseline, other]), expected, "baseline {baseline}, other {other}");
            }
        }
    }

    #[test]
    fn a_regression_takes_a_pass_and_a_failure_and_nothing_else() {
        let kinds = ['p', 'f', 'b', 'i', 'e', 's', '-'];
        for (baseline, other) in kinds.iter().flat_map(|a| kinds.iter().map(move |b| (*a, *b))) {
            let verdict = verdict(&[&baseline.to_string(), &other.to_string()]);
            assert_eq!(verdict == Regressed, (baseline, other) == ('p', 'f'), "{baseline}{other}");
            assert_eq!(verdict == Fixed, (baseline, other) == ('f', 'p'), "{baseline}{other}");
        }
    }

    #[test]
    fn one_toolchain_gives_the_first_trouble_by_its_stage() {
        for (ops, expected) in [
            ("pp", Pass),
            ("f-", BuildFail),
            ("pf", TestFail),
            ("pb", Broken),
            ("pi", Inconclusive),
            ("e-", Error),
            ("p-", Pending),
            ("sp", Pass),
        ] {
            assert_eq!(verdict(&[ops]), expected, "{ops}");
        }
    }

    #[test]
    fn ops_are_compared_in_order_until_one_differs() {
        for (baseline, other, expected) in [
            ("pp", "pf", Regressed),
            ("pp", "f-", Regressed),
            ("pf", "f-", Regressed),
            ("pf", "pf", TestFail),
            ("f-", "f-", BuildFail),
            ("f-", "pf", Fixed),
            ("pf", "pp", Fixed),
            ("pi", "pf", Inconclusive),
            ("pp", "p-", Pending),
        ] {
            assert_eq!(verdict(&[baseline, other]), expected, "{baseline} {other}");
        }
    }

    #[test]
    fn of_many_toolchains_the_gravest_comparison_with_the_baseline_counts() {
        for (toolchains, expected) in [
            (["pp", "pp", "pf"], Regressed),
            (["pp", "e-", "pf"], Regressed),
            (["pp", "i-", "e-"], Error),
            (["pp", "--", "i-"], Inconclusive),
            (["f-", "pp", "--"], Pending),
            (["f-", "f-", "pp"], Fixed),
            (["pf", "pf", "pf"], TestFail),
            (["pp", "pp", "pp"], Pass),
        ] {
            assert_eq!(verdict(&toolchains), expected, "{toolchains:?}");
        }
    }

    #[test]
    fn what_prepare_says_holds_for_all_toolchains() {
        for (prepare, expected) in [('b', Broken), ('f', Broken), ('i', Inconclusive), ('e', Error), ('-', Pending)] {
            for toolchains in [&["--"][..], &["--", "--"]] {
                let judgement = judge(&crate_of(prepare, toolchains), toolchains.len());
                assert_eq!(judgement.verdict, expected, "{prepare} {toolchains:?}");
                let deciding = Deciding { step: 0, counterpart: None, finding: Finding::Unknown };
                assert_eq!(judgement.deciding, Some(deciding));
            }
        }
    }

    #[test]
    fn a_missing_crate_is_broken_and_one_without_ops_is_skipped() {
        let missing = judge(&missing_crate("no crate named `x`"), 2);
        assert_eq!(missing.verdict, Broken);
        assert_eq!(missing.standings[1].reason().unwrap(), "no crate named `x`");
        let mut without_ops = crate_of('p', &["p"]);
        without_ops.steps.clear();
        assert_eq!(judge(&without_ops, 2).verdict, Skipped);
    }

    #[test]
    fn the_deciding_step_of_a_regression_is_the_failure_and_its_counterpart_the_baseline() {
        // Steps: prepare, build@0, test@0, build@1, test@1.
        let judgement = judge(&crate_of('p', &["pp", "pf"]), 2);
        let deciding = Deciding { step: 4, counterpart: Some(2), finding: Finding::Unknown };
        assert_eq!(judgement.deciding, Some(deciding));
    }

    #[test]
    fn a_repetition_that_ran_speaks_for_its_op() {
        let mut krate = crate_of('p', &["p", "f"]);
        let (mut again, mut result) = krate.steps[2].clone();
        again.attempt = 2;
        krate.steps.push((again.clone(), None));
        assert_eq!(judge(&krate, 2).verdict, Regressed);
        result.as_mut().unwrap().outcome = Outcome::Passed;
        krate.steps.push((again, result));
        assert_eq!(judge(&krate, 2).verdict, Pass);
    }

    /// Judges two toolchains whose only op came out like the letters, one after the other.
    fn repeated(baseline: &str, other: &str) -> (Verdict, [&'static str; 2]) {
        let mut krate = crate_of('p', &[]);
        for (toolchain, letters) in [baseline, other].into_iter().enumerate() {
            for (attempt, letter) in (1..).zip(letters.chars()) {
                let mut of = crate_of('p', &["-", &letter.to_string()]).steps.swap_remove(2);
                of.0.toolchain = Some(toolchain);
                of.0.attempt = attempt;
                of.0.fingerprint = Fingerprint::of(&toolchain.to_string());
                krate.steps.push(of);
            }
        }
        let judgement = judge(&krate, 2);
        (judgement.verdict, [0, 1].map(|toolchain| judgement.standings[toolchain].as_str()))
    }

    #[test]
    fn what_passed_once_and_failed_once_is_no_regression_and_no_fix() {
        for (baseline, other, expected) in [
            ("pp", "ff", Regressed),
            ("ff", "pp", Fixed),
            ("pp", "fp", Pass),
            ("fp", "pf", Pass),
            ("pf", "fp", Pass),
            ("pfp", "fpf", Pass),
            ("pf", "ff", BuildFail),
            ("fp", "ff", BuildFail),
            ("ff", "pf", BuildFail),
            ("pf", "fi", Inconclusive),
            ("pf", "-", Pending),
        ] {
            assert_eq!(repeated(baseline, other).0, expected, "{baseline} {other}");
        }
        assert_eq!(repeated("fp", "pf").1, ["passed", "passed"]);
        assert_eq!(repeated("pf", "ff").1, ["passed", "failed"]);
    }
}
