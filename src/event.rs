//! The events of a run, as one stream of plain data: progress on a terminal and programs elsewhere read the same.
//!
//! Times of events are the clock's of the machine that runs them. Output and single tests are not in the stream; the
//! store has them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use crate::compare::Verdict;
use crate::ops::Activity;
use crate::outcome::OutcomeKind;

/// One event of a run. As JSON it is one flat object, whose `event` names its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunEvent {
    /// When, in milliseconds since 1970.
    #[serde(serialize_with = "epoch_millis")]
    pub at: SystemTime,
    /// The experiment, if it is about one: a process may run several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
    /// The crate as `name@version`, if it is about one.
    #[serde(rename = "crate", skip_serializing_if = "Option::is_none")]
    pub krate: Option<String>,
    /// Its kind, with the particulars.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The step of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepEvent {
    /// The op.
    pub op: String,
    /// The toolchain; none for an op of all toolchains.
    pub toolchain: Option<String>,
    /// Which time the op runs: 1 is the first.
    pub attempt: u32,
    /// The place of the pool.
    pub pool: usize,
    /// The worker's number in the pool, from 0, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<usize>,
    /// The op's present activity; of use in this process alone.
    #[serde(skip)]
    pub activity: Activity,
}

/// The kind of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// A step waits for its pool.
    Queued(StepEvent),
    /// A step that waited won't run.
    Dropped(StepEvent),
    /// A worker took a step that waited.
    Started(StepEvent),
    /// A step that ran ended.
    Finished {
        /// The step.
        #[serde(flatten)]
        step: StepEvent,
        /// Its outcome; none if it was stopped.
        outcome: Option<OutcomeKind>,
        /// The outcome's reason.
        reason: Option<String>,
        /// How long it took.
        #[serde(rename = "wall_ms", serialize_with = "millis")]
        wall: Duration,
    },
    /// The last step of a crate ended.
    Verdict {
        /// Its verdict; [`Verdict::Pending`] if a stop cut it short.
        verdict: Verdict,
        /// The verdict's reason.
        reason: Option<String>,
        /// Whether the crate ran; if not, earlier runs finished it, or it has no steps.
        ran: bool,
    },
    /// Something the user should know now.
    Note {
        /// In words.
        text: String,
    },
}

impl RunEvent {
    /// A note about the whole run, now.
    pub fn note(text: impl Into<String>) -> Self {
        let kind = EventKind::Note { text: text.into() };
        Self { at: SystemTime::now(), experiment: None, krate: None, kind }
    }

    /// The verdict on a crate, now.
    pub fn verdict(
        experiment: &str,
        krate: &impl fmt::Display,
        (verdict, reason): (Verdict, Option<String>),
        ran: bool,
    ) -> Self {
        Self {
            at: SystemTime::now(),
            experiment: Some(experiment.to_owned()),
            krate: Some(krate.to_string()),
            kind: EventKind::Verdict { verdict, reason, ran },
        }
    }
}

fn epoch_millis<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    millis(&at.duration_since(UNIX_EPOCH).unwrap_or_default(), serializer)
}

fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object() {
        let at = UNIX_EPOCH + Duration::from_millis(1500);
        let step = StepEvent {
            op: "build".to_owned(),
            toolchain: Some("nightly".to_owned()),
            attempt: 2,
            pool: 1,
            worker: Some(3),
            activity: Activity::default(),
        };
        let kind = EventKind::Finished {
            step,
            outcome: Some(OutcomeKind::Failed),
            reason: Some("exit code 101".to_owned()),
            wall: Duration::from_millis(70),
        };
        let krate = Some("a@1.0.0".to_owned());
        let event = RunEvent { at, experiment: Some("e".to_owned()), krate, kind };
        let expected = r#"{"at":1500,"experiment":"e","crate":"a@1.0.0","event":"finished","op":"build","toolchain":"nightly","attempt":2,"pool":1,"worker":3,"outcome":"failed","reason":"exit code 101","wall_ms":70}"#;
        assert_eq!(serde_json::to_string(&event).unwrap(), expected);
        let note = RunEvent { at, ..RunEvent::note("stopping") };
        assert_eq!(serde_json::to_string(&note).unwrap(), r#"{"at":1500,"event":"note","text":"stopping"}"#);
    }
}
