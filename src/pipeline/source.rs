//! Where the engine gets its jobs, and who learns that one has ended.
//!
//! The engine pulls: a source may take its time, ask another machine, and stay open for ever. It is told of the end of
//! every job that it handed out, so that it can give a lease back or count what is left.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use super::Work;

/// Hands out jobs, one at a time.
///
/// Both methods take `&self`, since the end of one job may come while the source waits for the next.
///
/// A source over a channel, such as one that a task fills over the network:
///
/// ```
/// use maar::pipeline::{Source, JobEnd, Work};
///
/// struct Leased<W: Work> {
///     jobs: async_channel::Receiver<W>,
///     ended: async_channel::Sender<(W::Tag, JobEnd)>,
/// }
///
/// impl<W: Work> Source for Leased<W> {
///     type Work = W;
///
///     async fn next(&self) -> Option<W> {
///         self.jobs.recv().await.ok()
///     }
///
///     fn ended(&self, tag: &W::Tag, end: JobEnd) {
///         // Unbounded: the task that gives leases back must not hold up the engine.
///         let _ = self.ended.try_send((tag.clone(), end));
///     }
/// }
/// ```
pub trait Source {
    /// The jobs.
    type Work: Work;

    /// Waits for the next job; `None` ends the run once all jobs have ended.
    ///
    /// The engine calls it only when there is room for one more job, never twice at a time, and not again after `None`.
    /// At a stop it drops the future: a source that has a job by then keeps it, or gives it back itself.
    fn next(&self) -> impl Future<Output = Option<Self::Work>>;

    /// Takes note that a job has ended, with the tag of its last step. Must not block.
    ///
    /// The engine has sent all events of the job, but their reader may not have seen them yet. So this is not the place
    /// to acknowledge that results are kept.
    fn ended(&self, tag: &<Self::Work as Work>::Tag, end: JobEnd) {
        let _ = (tag, end);
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobEnd {
    /// It had no further step. A step that a [`Kill`](crate::stop::StopLevel::Kill) cut short also ends its job like
    /// this; its report tells.
    Finished,
    /// A step panicked, or the job did when it was asked for its next one.
    Panicked,
    /// A stop came while it waited for its next step.
    Stopped,
    /// It named a pool that doesn't exist.
    Misplaced,
}

/// Hands out the items of an iterator, each taken when there is room for it.
pub fn each<I: IntoIterator>(jobs: I) -> Each<I::IntoIter>
where
    I::Item: Work,
{
    Each(Mutex::new(jobs.into_iter()))
}

/// The source that [`each`] makes.
#[derive(Debug)]
pub struct Each<I>(Mutex<I>);

impl<I> Source for Each<I>
where
    I: Iterator,
    I::Item: Work,
{
    type Work = I::Item;

    async fn next(&self) -> Option<I::Item> {
        // A panic of the iterator ends the run, so that no one comes back to it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}
