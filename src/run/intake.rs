//! Where a run gets its crates, and where it leaves their results: the seam that `maar run`, a server and an agent
//! fill differently.
//!
//! `maar run` takes crates from its own plan ([`Planned`](super::Planned)) and leaves results with the store's
//! [`Writer`]. An agent takes them from a server and sends the results back.

use std::sync::Arc;

use super::Bench;
use super::assignment::Task;
use super::error::KeepError;
use super::job::{Job, Tag};
use super::share::Left;
use crate::ops::removal::{Doomed, Removal};
use crate::pipeline::{JobEnd, Source};
use crate::store::{Record, Writer};

/// Hands out crates, one at a time; those of several experiments, if it likes, in an order of its own.
///
/// See [`Source`], whose rules hold here: at a stop, the future of `next` is dropped. The test
/// `crates_come_over_a_channel_and_results_go_over_another` is an example over channels.
pub trait Intake {
    /// Waits for the next crate; `None` ends the run once all crates have ended. A crate without remaining steps is
    /// passed over, and [`passed_over`](Self::passed_over) told.
    fn next(&self) -> impl Future<Output = Option<Next>>;

    /// A crate from `next` had no step left, so that it has no job and the keeper hears nothing of it. Must not block.
    fn passed_over(&self, task: &Task) {
        let _ = task;
    }

    /// The job of a crate has ended and makes room for another. Its results may be on their way still: only
    /// [`Keeper::end`] comes after them. Must not block.
    fn ended(&self, task: &Task, end: JobEnd) {
        let _ = (task, end);
    }
}

/// A crate that comes next.
#[derive(Debug)]
pub struct Next {
    /// The crate.
    pub task: Task,
    /// How many crates are left with it, for the shares of the host's cores.
    pub left: Left,
}

/// Takes the results of crates. One sink calls it, for one result after the other.
pub trait Keeper {
    /// Keeps the result of a step. May wait while others are on their way, and return before it is safe on a disk.
    ///
    /// # Errors
    /// This result, or an earlier one, can't be kept. The run ends then.
    fn keep(&self, task: &Arc<Task>, record: Record) -> impl Future<Output = Result<(), KeepError>>;

    /// A crate has ended, and all its results were handed over: the place to acknowledge a lease, or to give it back.
    ///
    /// # Errors
    /// As for [`keep`](Self::keep).
    fn end(&self, task: &Arc<Task>, end: CrateEnd) -> impl Future<Output = Result<(), KeepError>>;
}

/// How far a crate came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrateEnd {
    /// To its last step.
    Whole,
    /// Not so far: a stop came before. Results of steps that ended are kept, and the rest is for another run.
    Cut,
}

impl Keeper for Writer {
    async fn keep(&self, _: &Arc<Task>, record: Record) -> Result<(), KeepError> {
        self.append(record).await.map_err(KeepError::new)
    }

    async fn end(&self, _: &Arc<Task>, _: CrateEnd) -> Result<(), KeepError> {
        // The next run finds the missing steps in the database.
        Ok(())
    }
}

/// The crates of an intake as jobs for the engine.
pub(super) struct Jobs<'i, I> {
    pub(super) intake: &'i I,
    pub(super) bench: Arc<Bench>,
    pub(super) removal: Removal<Doomed>,
}

impl<I: Intake> Source for Jobs<'_, I> {
    type Work = Job;

    async fn next(&self) -> Option<Job> {
        loop {
            let Next { task, left } = self.intake.next().await?;
            match Job::new(&self.bench, task, left, &self.removal) {
                Ok(job) => return Some(job),
                Err(nothing_left) => self.intake.passed_over(&nothing_left),
            }
        }
    }

    fn ended(&self, tag: &Tag, end: JobEnd) {
        self.intake.ended(&tag.task, end);
    }
}
