//! Crates that the user expects to fail: their failures don't count, and their recovery is reported.

use super::{Report, Verdict};
use crate::krate::CrateName;

/// Marks the crates of a report that are expected to fail. One that passes has healed, which its reason notes.
///
/// A crate that a later toolchain breaks is a regression all the same: it did pass.
pub fn expect_failures(report: &mut Report, is_broken: impl Fn(&CrateName) -> bool) {
    for krate in report.crates.iter_mut().filter(|krate| is_broken(&krate.name)) {
        match krate.verdict {
            Verdict::BuildFail | Verdict::TestFail | Verdict::Broken => krate.expected = true,
            Verdict::Pass | Verdict::Fixed => {
                krate.verdict_reason = Some("healed: it is marked `broken` and passes".to_owned());
            }
            Verdict::Regressed | Verdict::Error | Verdict::Inconclusive | Verdict::Pending | Verdict::Skipped => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Conclusion, compare, conclude, sample};
    use crate::krate::Origin;

    #[test]
    fn a_failure_that_is_expected_is_no_news_and_a_recovery_is() {
        let crates =
            vec![sample::named("broken", "1.0.0", 'p', &["f-"]), sample::named("healed", "1.0.0", 'p', &["pp"])];
        let mut report = compare(&sample::results(1, crates));
        assert_eq!(conclude(&report, None), Conclusion::Failures);
        expect_failures(&mut report, |_| true);
        assert_eq!(conclude(&report, None), Conclusion::Clean);
        assert_eq!(report.crates[0].verdict, Verdict::BuildFail);
        assert!(report.crates[0].expected);
        assert_eq!(report.crates[1].verdict_reason.as_deref(), Some("healed: it is marked `broken` and passes"));
        report = compare(&sample::results(1, vec![sample::named("a", "1.0.0", 'p', &["f-"])]));
        assert_eq!(conclude(&report, Some(&[Verdict::BuildFail])), Conclusion::Failures);
        expect_failures(&mut report, |_| true);
        assert_eq!(conclude(&report, Some(&[Verdict::BuildFail])), Conclusion::Clean);
        let mut regressed = compare(&sample::results(2, vec![sample::named("a", "1.0.0", 'p', &["pp", "f-"])]));
        expect_failures(&mut regressed, |_| true);
        assert_eq!(conclude(&regressed, None), Conclusion::Failures);
    }

    #[test]
    fn a_crate_that_is_expected_to_be_broken_is_no_gap() {
        let broken = |name: &str| {
            let mut krate = sample::named(name, "1.0.0", 'p', &[]);
            krate.krate.origin = Origin::Missing("gone".to_owned());
            krate
        };
        let crates = vec![broken("expected"), broken("b"), sample::named("c", "1.0.0", 'p', &["pp"])];
        let mut report = compare(&sample::results(1, crates));
        assert_eq!(conclude(&report, None), Conclusion::SomeUntested(2));
        expect_failures(&mut report, |name| name.as_str() == "expected");
        assert_eq!(conclude(&report, None), Conclusion::SomeUntested(1));
        expect_failures(&mut report, |name| name.as_str() != "c");
        assert_eq!(conclude(&report, None), Conclusion::Clean);
    }
}
