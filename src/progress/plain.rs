//! Progress as plain lines: one per finished crate, and the notes.

use std::io::Write;

use super::lines::Lines;
use super::tally::Tally;
use super::{Plan, Update};
use crate::compare::Verdict;
use crate::printable::one_line;

/// Writes plain lines.
#[derive(Debug)]
pub(super) struct Plain<W> {
    lines: Lines<W>,
    tally: Tally,
    /// How many crates with nothing to run have a line.
    known: usize,
}

impl<W: Write> Plain<W> {
    pub(super) fn new(to: W, plan: &Plan) -> Self {
        Self { lines: Lines::new(to), tally: Tally::new(plan), known: 0 }
    }

    pub(super) fn update(&mut self, update: Update) {
        match update {
            Update::Queued { .. } | Update::Dropped { .. } | Update::Started(_) | Update::Finished { .. } => {}
            Update::Verdict { krate, verdict, reason } => {
                self.tally.add(verdict);
                self.krate(self.tally.done(), verdict, &krate, reason.as_deref());
            }
            Update::Known { krate, verdict, reason } => {
                self.known += 1;
                self.krate(self.known, verdict, &krate, reason.as_deref());
            }
            Update::Note(text) => self.lines.line(&one_line(&text)),
        }
    }

    fn krate(&mut self, done: usize, verdict: Verdict, krate: &str, reason: Option<&str>) {
        let all = self.tally.crates;
        let digits = all.to_string().len();
        let reason = reason.map(|reason| format!("  {}", one_line(reason))).unwrap_or_default();
        self.lines.line(&format!("[{done:>digits$}/{all}] {verdict:<12}  {}{reason}", one_line(krate)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_crate_is_a_line() {
        let mut written = Vec::new();
        let mut plain = Plain::new(&mut written, &Plan { pools: Vec::new(), crates: 100, already_done: 2 });
        plain.update(Update::Known { krate: "old@1.0.0".into(), verdict: Verdict::Pass, reason: None });
        let reason = Some("no crate named `typo`".into());
        plain.update(Update::Known { krate: "typo".into(), verdict: Verdict::Broken, reason });
        let mut verdict = |krate: &str, verdict, reason: Option<&str>| {
            plain.update(Update::Verdict { krate: krate.into(), verdict, reason: reason.map(Into::into) });
        };
        verdict("itoa@1.0.18", Verdict::Pass, None);
        verdict("foo@1.2.3", Verdict::Regressed, Some("build@nightly: does not\n\x1b[1mcompile\x1b[0m"));
        verdict("bar@0.1.0", Verdict::Pending, None);
        plain.update(Update::Queued { pool: 0 });
        plain.update(Update::Note("stopping\nsoon".into()));
        assert_eq!(
            String::from_utf8(written).unwrap(),
            "[  1/100] pass          old@1.0.0\n\
             [  2/100] broken        typo  no crate named `typo`\n\
             [  3/100] pass          itoa@1.0.18\n\
             [  4/100] regressed     foo@1.2.3  build@nightly: does not compile\n\
             [  4/100] pending       bar@0.1.0\n\
             stopping soon\n"
        );
    }
}
