//! The events of a run as clients get them, and back to updates of the progress.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::compare::Verdict;
use crate::ops::Activity;
use crate::outcome::OutcomeKind;
use crate::progress::{Label, Update};

/// An event of a run. Fields may be added, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum RunEvent {
    /// A step waits for its pool.
    Queued {
        /// The pool's place in the plan.
        pool: usize,
    },
    /// A step waits no longer, and won't run.
    Dropped {
        /// The pool's place in the plan.
        pool: usize,
    },
    /// A step that waited runs.
    Started(Op),
    /// A step that ran ended.
    Finished {
        /// Which.
        #[serde(flatten)]
        op: Op,
        /// Its outcome; none if it was stopped.
        outcome: Option<OutcomeKind>,
        /// The outcome's reason.
        reason: Option<String>,
        /// How long it took.
        wall_ms: u64,
    },
    /// A crate is finished.
    Verdict {
        /// The crate, as `NAME@VERSION`.
        #[serde(rename = "crate")]
        krate: String,
        /// Its verdict.
        verdict: String,
        /// The verdict's reason.
        reason: Option<String>,
        /// Whether it had anything to run.
        ran: bool,
    },
    /// Something the user should know.
    Note {
        /// In words.
        text: String,
    },
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// The crate, as `NAME@VERSION`.
    #[serde(rename = "crate")]
    pub krate: String,
    /// The op.
    pub op: String,
    /// The toolchain; none for an op of all toolchains.
    pub toolchain: Option<String>,
    /// The pool's place in the plan.
    pub pool: usize,
    /// The worker's number in the pool, from 0.
    pub worker: usize,
}

impl RunEvent {
    /// The event of an update.
    pub fn of(update: &Update) -> Self {
        match update {
            Update::Queued { pool } => Self::Queued { pool: *pool },
            Update::Dropped { pool } => Self::Dropped { pool: *pool },
            Update::Started(label) => Self::Started(op(label)),
            Update::Finished { label, outcome, reason, wall } => Self::Finished {
                op: op(label),
                outcome: *outcome,
                reason: reason.clone(),
                wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
            },
            Update::Verdict { krate, verdict, reason } => {
                Self::Verdict { krate: krate.clone(), verdict: verdict.to_string(), reason: reason.clone(), ran: true }
            }
            Update::Known { krate, verdict, reason } => {
                Self::Verdict { krate: krate.clone(), verdict: verdict.to_string(), reason: reason.clone(), ran: false }
            }
            Update::Note(text) => Self::Note { text: text.clone() },
        }
    }

    /// The kind of the event on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Queued { .. } | Self::Dropped { .. } | Self::Started(_) | Self::Finished { .. } => "op",
            Self::Verdict { .. } => "verdict",
            Self::Note { .. } => "log",
        }
    }

    /// The update of the event; none if this maar doesn't know its verdict.
    pub fn update(self) -> Option<Update> {
        Some(match self {
            Self::Queued { pool } => Update::Queued { pool },
            Self::Dropped { pool } => Update::Dropped { pool },
            Self::Started(op) => Update::Started(label(op)),
            Self::Finished { op, outcome, reason, wall_ms } => {
                Update::Finished { label: label(op), outcome, reason, wall: Duration::from_millis(wall_ms) }
            }
            Self::Verdict { krate, verdict, reason, ran } => {
                let verdict = Verdict::ALL.into_iter().find(|known| known.as_str() == verdict)?;
                match ran {
                    true => Update::Verdict { krate, verdict, reason },
                    false => Update::Known { krate, verdict, reason },
                }
            }
            Self::Note { text } => Update::Note(text),
        })
    }
}

fn op(Label { krate, op, toolchain, pool, worker, activity: _ }: &Label) -> Op {
    Op { krate: krate.clone(), op: op.clone(), toolchain: toolchain.clone(), pool: *pool, worker: *worker }
}

fn label(Op { krate, op, toolchain, pool, worker }: Op) -> Label {
    Label { krate, op, toolchain, pool, worker, activity: Activity::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_survives_the_way_to_a_client() {
        let label = Label {
            krate: "foo@1.2.3".into(),
            op: "build".into(),
            toolchain: Some("nightly".into()),
            pool: 1,
            worker: 2,
            activity: Activity::default(),
        };
        for update in [
            Update::Queued { pool: 1 },
            Update::Started(label.clone()),
            Update::Finished {
                label,
                outcome: Some(OutcomeKind::Failed),
                reason: None,
                wall: Duration::from_millis(5),
            },
            Update::Verdict { krate: "foo@1.2.3".into(), verdict: Verdict::Regressed, reason: Some("x".into()) },
            Update::Known { krate: "old@1.0.0".into(), verdict: Verdict::Pass, reason: None },
            Update::Note("stopping".into()),
        ] {
            let text = serde_json::to_string(&RunEvent::of(&update)).unwrap();
            assert_eq!(serde_json::from_str::<RunEvent>(&text).unwrap().update(), Some(update), "{text}");
        }
    }
}
