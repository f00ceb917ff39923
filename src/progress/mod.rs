//! Progress of a run: bars for a terminal, plain lines for a log, JSON lines for a program.
//!
//! Shows updates. Decides nothing, keeps nothing, and never fails: a reader that went away is not an error of the
//! run's.

mod bars;
mod board;
mod colour;
mod frame;
pub mod json;
mod lines;
mod narrowed;
mod plain;
mod tally;

use std::io::IsTerminal;
use std::time::{Duration, SystemTime};

use crate::compare::{RunReport, Verdict};
use crate::event::{EventKind, RunEvent, StepEvent};
use crate::ops::Activity;
use crate::outcome::OutcomeKind;
use crate::pipeline::Pool;

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Bars on a terminal, else plain lines
    #[default]
    Auto,
    /// Bars on stderr; plain lines where it is no terminal
    Bars,
    /// One line per finished crate, on stderr
    Plain,
    /// One JSON object per event, on stdout
    Json,
    /// Nothing
    None,
}

/// What lies ahead.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The pools; an update names them by their place in this list.
    pub pools: Vec<Pool>,
    /// All crates of the experiment.
    pub crates: usize,
    /// How many of them earlier runs have finished.
    pub already_done: usize,
}

/// Which step runs where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The crate, as `name@version`.
    pub krate: String,
    /// The op.
    pub op: String,
    /// The toolchain, if it is of one.
    pub toolchain: Option<String>,
    /// The pool.
    pub pool: usize,
    /// The worker's number in the pool, from 0.
    pub worker: usize,
    /// Its current activity.
    pub activity: Activity,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// A step waits for its pool.
    Queued {
        /// The pool.
        pool: usize,
    },
    /// A step waits no longer, and won't run.
    Dropped {
        /// The pool.
        pool: usize,
    },
    /// A step that waited runs.
    Started(Label),
    /// A step that ran ended.
    Finished {
        /// Which.
        label: Label,
        /// Its outcome; `None` if it was stopped.
        outcome: Option<OutcomeKind>,
        /// The outcome's reason.
        reason: Option<String>,
        /// How long it took.
        wall: Duration,
    },
    /// A crate is finished.
    Verdict {
        /// The crate, as `name@version`.
        krate: String,
        /// Its verdict; [`Verdict::Pending`] if a stop cut it short.
        verdict: Verdict,
        /// The verdict's reason.
        reason: Option<String>,
    },
    /// A crate that has nothing to run: earlier runs have finished it, or it has no ops.
    Known {
        /// The crate, as `name@version`.
        krate: String,
        /// Its verdict.
        verdict: Verdict,
        /// The verdict's reason.
        reason: Option<String>,
    },
    /// Something the user should know now.
    Note(String),
}

impl From<RunEvent> for Update {
    fn from(event: RunEvent) -> Self {
        let krate = event.krate.unwrap_or_default();
        match event.kind {
            EventKind::Queued(StepEvent { pool, .. }) => Self::Queued { pool },
            EventKind::Dropped(StepEvent { pool, .. }) => Self::Dropped { pool },
            EventKind::Started(step) => Self::Started(Label::of(krate, step)),
            EventKind::Finished { step, outcome, reason, wall } => {
                Self::Finished { label: Label::of(krate, step), outcome, reason, wall }
            }
            EventKind::Verdict { verdict, reason, ran: true } => Self::Verdict { krate, verdict, reason },
            EventKind::Verdict { verdict, reason, ran: false } => Self::Known { krate, verdict, reason },
            EventKind::Note { text } => Self::Note(text),
        }
    }
}

impl Label {
    fn of(krate: String, step: StepEvent) -> Self {
        let StepEvent { op, toolchain, attempt: _, pool, worker, activity } = step;
        // Steps that run have a worker.
        Self { krate, op, toolchain, pool, worker: worker.unwrap_or_default(), activity }
    }
}

/// Shows progress.
#[derive(Debug)]
pub struct Progress(Shown);

#[derive(Debug)]
enum Shown {
    Bars(bars::Bars),
    Plain(plain::Plain<std::io::Stderr>),
    Json(json::Json<std::io::Stdout>),
    Nothing,
}

impl Progress {
    /// Starts to show progress.
    pub fn new(kind: Kind, plan: Plan) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(match kind {
            Kind::Bars if terminal => Shown::bars(&plan),
            Kind::Auto if terminal && !dumb => Shown::bars(&plan),
            Kind::Auto | Kind::Bars | Kind::Plain => Shown::plain(&plan),
            Kind::Json => Shown::Json(json::Json::new(std::io::stdout(), plan, SystemTime::now())),
            Kind::None => Shown::Nothing,
        })
    }

    /// Shows what happened.
    pub fn update(&mut self, update: Update) {
        match &mut self.0 {
            Shown::Bars(bars) => bars.update(update),
            Shown::Plain(plain) => plain.update(update),
            Shown::Json(json) => json.update(update, SystemTime::now()),
            Shown::Nothing => {}
        }
    }

    /// Ends: takes the bars off the terminal, or prints the end of the run and its cost in JSON, if the run reached its
    /// end. A mere drop does the former only.
    pub fn finish(self, run: Option<&RunReport>) {
        match self.0 {
            Shown::Json(json) => json.finish(run, SystemTime::now()),
            Shown::Bars(_) | Shown::Plain(_) | Shown::Nothing => {}
        }
    }
}

impl Shown {
    fn bars(plan: &Plan) -> Self {
        match bars::Bars::start(plan) {
            Ok(bars) => Self::Bars(bars),
            // A host that can't spare one more thread gets plain lines.
            Err(_) => Self::plain(plan),
        }
    }

    fn plain(plan: &Plan) -> Self {
        Self::Plain(plain::Plain::new(std::io::stderr(), plan))
    }
}
