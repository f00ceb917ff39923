//! Progress as plain lines: one per finished crate, and the notes.

use std::io::Write;

use super::lines::Lines;
use super::tally::Tally;
use super::{Plan, Update};
use crate::printable::one_line;

/// Writes plain lines.
#[derive(Debug)]
pub(super) struct Plain<W> {
    lines: Lines<W>,
    tally: Tally,
}

impl<W: Write> Plain<W> {
    pub(super) fn new(to: W, plan: &Plan) -> Self {
        Self { lines: Lines::new(to), tally: Tally::new(plan) }
    }

    pub(super) fn update(&mut self, update: Update) {
        match update {
            Update::Queued { .. } | Update::Dropped { .. } | Update::Started(_) | Update::Finished { .. } => {}
            Update::Verdict { krate, verdict, reason } => {
                self.tally.add(verdict);
                let (done, all) = (self.tally.done(), self.tally.crates);
                let digits = all.to_string().len();
                let reason = reason.map(|reason| format!("  {}", one_line(&reason))).unwrap_or_default();
                self.lines.line(&format!("[{done:>digits$}/{all}] {verdict:<12}  {}{reason}", one_line(&krate)));
            }
            Update::Note(text) => self.lines.line(&one_line(&text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Verdict;

    #[test]
    fn a_finished_crate_is_a_line() {
        let mut written = Vec::new();
        let mut plain = Plain::new(&mut written, &Plan { pools: Vec::new(), crates: 100, already_done: 10 });
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
            "[ 11/100] pass          itoa@1.0.18\n\
             [ 12/100] regressed     foo@1.2.3  build@nightly: does not compile\n\
             [ 12/100] pending       bar@0.1.0\n\
             stopping soon\n"
        );
    }
}
