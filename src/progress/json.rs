//! Progress as JSON: one object per line.
//!
//! Every object has `"event"`, and `"time"` in milliseconds since 1970 (UTC). Fields may be added, never changed.
//!
//! | event | fields |
//! | --- | --- |
//! | `run-start` | `crates`, `already_done`: counts; `pools`: a list of `{"name", "workers"}` |
//! | `started` | `crate`: `name@version`; `op`; `toolchain`: a string, or null for an op of all toolchains; `pool`: its name; `worker`: from 0 |
//! | `finished` | those of `started`; `outcome`: `passed`, `failed`, `broken`, `inconclusive`, `skipped` or `error`, null if the op was stopped; `reason`: a string or null; `wall_ms` |
//! | `verdict` | `crate`; `verdict`: as in reports, `pending` for a crate that a stop cut short; `reason`: a string or null; `ran`: false for a crate that had nothing to run, which is reported at the beginning. Every crate has one |
//! | `note` | `text` |
//! | `run-end` | `crates`, `done`: counts, `done` with those of earlier runs; `verdicts`: a count for each verdict that this run reached; `wall_ms`; `run`: its cost, as in `runs[]` of the JSON report, null if an error ended it |
//!
//! Without `run-end` the run was killed, or could not begin or end its records. Texts are as crates wrote them; what
//! could act on a terminal is escaped as JSON allows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::lines::Lines;
use super::tally::Tally;
use super::{Label, Plan, Update};
use crate::compare::{RunReport, Verdict};
use crate::outcome::OutcomeKind;
use crate::pipeline::Pool;
use crate::printable::is_deceptive;

/// Writes JSON lines.
#[derive(Debug)]
pub(super) struct Json<W> {
    lines: Lines<W>,
    pools: Vec<Pool>,
    tally: Tally,
    began: SystemTime,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    event: Event<'a>,
    time: u64,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event<'a> {
    RunStart {
        crates: usize,
        already_done: usize,
        pools: Vec<PoolShape<'a>>,
    },
    Started(Step<'a>),
    Finished {
        #[serde(flatten)]
        step: Step<'a>,
        outcome: Option<OutcomeKind>,
        reason: Option<&'a str>,
        wall_ms: u64,
    },
    Verdict {
        #[serde(rename = "crate")]
        krate: &'a str,
        verdict: Verdict,
        reason: Option<&'a str>,
        ran: bool,
    },
    Note {
        text: &'a str,
    },
    RunEnd {
        crates: usize,
        done: usize,
        verdicts: &'a BTreeMap<Verdict, usize>,
        wall_ms: u64,
        run: Option<&'a RunReport>,
    },
}

#[derive(Serialize)]
struct PoolShape<'a> {
    name: &'a str,
    workers: usize,
}

#[derive(Serialize)]
struct Step<'a> {
    #[serde(rename = "crate")]
    krate: &'a str,
    op: &'a str,
    toolchain: Option<&'a str>,
    pool: Option<&'a str>,
    worker: usize,
}

impl<W: Write> Json<W> {
    pub(super) fn new(to: W, plan: Plan, now: SystemTime) -> Self {
        let mut lines = Lines::new(to);
        let pools = plan.pools.iter().map(|pool| PoolShape { name: &pool.name, workers: pool.workers }).collect();
        let start = Event::RunStart { crates: plan.crates, already_done: plan.already_done, pools };
        write(&mut lines, start, now);
        Self { lines, tally: Tally::new(&plan), pools: plan.pools, began: now }
    }

    pub(super) fn update(&mut self, update: Update, now: SystemTime) {
        let event = match &update {
            Update::Queued { .. } | Update::Dropped { .. } => return,
            Update::Started(label) => Event::Started(step(&self.pools, label)),
            Update::Finished { label, outcome, reason, wall } => Event::Finished {
                step: step(&self.pools, label),
                outcome: *outcome,
                reason: reason.as_deref(),
                wall_ms: millis(*wall),
            },
            Update::Verdict { krate, verdict, reason } => {
                self.tally.add(*verdict);
                Event::Verdict { krate, verdict: *verdict, reason: reason.as_deref(), ran: true }
            }
            Update::Known { krate, verdict, reason } => {
                Event::Verdict { krate, verdict: *verdict, reason: reason.as_deref(), ran: false }
            }
            Update::Note(text) => Event::Note { text },
        };
        write(&mut self.lines, event, now);
    }

    pub(super) fn finish(mut self, run: Option<&RunReport>, now: SystemTime) {
        let wall = now.duration_since(self.began).unwrap_or_default();
        let end = Event::RunEnd {
            crates: self.tally.crates,
            done: self.tally.done(),
            verdicts: self.tally.verdicts(),
            wall_ms: millis(wall),
            run,
        };
        write(&mut self.lines, end, now);
    }
}

fn step<'a>(pools: &'a [Pool], label: &'a Label) -> Step<'a> {
    Step {
        krate: &label.krate,
        op: &label.op,
        toolchain: label.toolchain.as_deref(),
        pool: pools.get(label.pool).map(|pool| pool.name.as_str()),
        worker: label.worker,
    }
}

fn write<W: Write>(lines: &mut Lines<W>, event: Event<'_>, now: SystemTime) {
    let time = millis(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    match serde_json::to_string(&Line { event, time }) {
        Ok(line) => lines.line(&escape(&line)),
        Err(error) => debug_assert!(false, "strings and numbers are always JSON: {error}"),
    }
}

/// Escapes what JSON would let through to a terminal. Such characters stand in strings only, where an escape is the
/// same text.
fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_deceptive(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string can't fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Activity;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn lines(updates: Vec<Update>) -> Vec<String> {
        let mut written = Vec::new();
        let pools = vec![Pool { name: "build".into(), workers: 2 }];
        let mut json = Json::new(&mut written, Plan { pools, crates: 3, already_done: 1 }, at(1000));
        for update in updates {
            json.update(update, at(1500));
        }
        json.finish(None, at(3000));
        String::from_utf8(written).unwrap().lines().map(Into::into).collect()
    }

    #[test]
    fn a_run_is_told_from_start_to_end() {
        let label = |toolchain: Option<&str>| Label {
            activity: Activity::default(),
            krate: "foo@1.2.3".into(),
            op: "build".into(),
            toolchain: toolchain.map(Into::into),
            pool: 0,
            worker: 1,
        };
        let told = lines(vec![
            Update::Queued { pool: 0 },
            Update::Started(label(None)),
            Update::Finished {
                label: label(Some("nightly")),
                outcome: Some(OutcomeKind::Failed),
                reason: Some("does not compile".into()),
                wall: Duration::from_millis(500),
            },
            Update::Verdict { krate: "foo@1.2.3".into(), verdict: Verdict::BuildFail, reason: None },
            Update::Known { krate: "old@1.0.0".into(), verdict: Verdict::Pass, reason: None },
            Update::Note("stopping".into()),
        ]);
        let expected = [
            r#"{"event":"run-start","crates":3,"already_done":1,"pools":[{"name":"build","workers":2}],"time":1000}"#,
            r#"{"event":"started","crate":"foo@1.2.3","op":"build","toolchain":null,"pool":"build","worker":1,"time":1500}"#,
            r#"{"event":"finished","crate":"foo@1.2.3","op":"build","toolchain":"nightly","pool":"build","worker":1,"outcome":"failed","reason":"does not compile","wall_ms":500,"time":1500}"#,
            r#"{"event":"verdict","crate":"foo@1.2.3","verdict":"build-fail","reason":null,"ran":true,"time":1500}"#,
            r#"{"event":"verdict","crate":"old@1.0.0","verdict":"pass","reason":null,"ran":false,"time":1500}"#,
            r#"{"event":"note","text":"stopping","time":1500}"#,
            r#"{"event":"run-end","crates":3,"done":2,"verdicts":{"build-fail":1},"wall_ms":2000,"run":null,"time":3000}"#,
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn hostile_text_arrives_whole_but_never_raw() {
        let text = "a\n\x1b[2J\u{9b}1m\u{202e}\u{e0001}\"\\é";
        let told = lines(vec![Update::Note(text.into())]);
        assert!(!told[1].chars().any(is_deceptive), "{}", told[1]);
        let parsed: serde_json::Value = serde_json::from_str(&told[1]).unwrap();
        assert_eq!(parsed["text"], text);
    }
}
