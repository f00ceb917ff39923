//! The thread that keeps results: fed by a bounded channel, it commits all queued results as one transaction.
//!
//! Decides nothing about results. The first failure ends the thread; every later call returns its cause.

use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::SystemTime;

use async_channel::{Receiver, Sender};
use rusqlite::{Statement, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::packed::pack;
use super::plan::json;
use super::{Store, StoreError, epoch_millis, micros};
use crate::compare::OpResult;
use crate::krate::CrateId;
use crate::plan::{Fingerprint, Step};
use crate::sandbox::Output;

/// How many records may wait, and how many a transaction takes at most.
///
/// Each may hold a whole log, so that this bounds the memory; and other processes wait while a transaction is open.
const BATCH: usize = 16;

/// All that is kept of one step that ran.
#[derive(Debug, Clone)]
pub struct Record {
    /// The experiment's name; it must have begun.
    pub experiment: String,
    /// The step.
    pub step: Step,
    /// Whose step it was.
    pub krate: CrateId,
    /// The toolchain it ran with, as the user named it, and its identity; none for all.
    pub toolchain: Option<(String, String)>,
    /// Its outcome.
    pub result: OpResult,
    /// Its output.
    pub output: Output,
    /// The lockfile that it made.
    pub lockfile: Option<Vec<u8>>,
    /// The lockfiles that it made for toolchains with patches, each with its key.
    pub patched: Vec<(Fingerprint, Vec<u8>)>,
}

/// The sending side of the thread. Dropping it waits until all records are kept, but can't say if that failed:
/// [`flush`](Self::flush) first.
#[derive(Debug)]
pub struct Writer {
    sender: Sender<Message>,
    failure: Arc<OnceLock<Arc<StoreError>>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Message {
    Append(Box<Record>),
    Flush(oneshot::Sender<()>),
}

impl Writer {
    pub(super) fn start(store: Store) -> Result<Self, StoreError> {
        let (sender, receiver) = async_channel::bounded(BATCH);
        let failure = Arc::new(OnceLock::new());
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn({
                let failure = Arc::clone(&failure);
                let inbox = Inbox(receiver);
                move || {
                    if let Err(error) = keep_all(store, &inbox.0) {
                        failure.get_or_init(|| Arc::new(error));
                    }
                    // Closed after the reason is known, so that a caller that finds it closed finds the reason too.
                    drop(inbox);
                }
            })
            .map_err(StoreError::Thread)?;
        Ok(Self { sender, failure, thread: Some(thread) })
    }

    /// Hands a record over, waiting while too many are on their way. A record of the same experiment, fingerprint and
    /// attempt is replaced.
    ///
    /// Errors when an earlier record could not be kept.
    pub async fn append(&self, record: Record) -> Result<(), StoreError> {
        self.sender.send(Message::Append(Box::new(record))).await.map_err(|_| self.why_stopped())
    }

    /// Waits until all records handed over so far are committed.
    ///
    /// Errors when one of them, or an earlier one, could not be kept.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let (done, committed) = oneshot::channel();
        self.sender.send(Message::Flush(done)).await.map_err(|_| self.why_stopped())?;
        committed.await.map_err(|_| self.why_stopped())
    }

    fn why_stopped(&self) -> StoreError {
        self.failure.get().map_or(StoreError::Panicked, |error| StoreError::Stopped(Arc::clone(error)))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.sender.close();
        if let Some(thread) = self.thread.take() {
            // A panic has been printed, and a failure is for `flush` to tell.
            drop(thread.join());
        }
    }
}

/// The receiving side. Its end, be it a panic, ends each wait for a flush: messages left in a channel
/// would live as long as the sending side.
struct Inbox(Receiver<Message>);

impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.close();
        while self.0.try_recv().is_ok() {}
    }
}

fn keep_all(mut store: Store, receiver: &Receiver<Message>) -> Result<(), StoreError> {
    while let Ok(first) = receiver.recv_blocking() {
        keep_batch(&mut store, first, receiver)?;
    }
    Ok(())
}

/// Commits `first` and the messages behind it, then answers requests for a flush.
fn keep_batch(store: &mut Store, first: Message, receiver: &Receiver<Message>) -> Result<(), StoreError> {
    let Store { path, connection, .. } = store;
    let failed = || StoreError::sql(path, "keep results");
    let mut flushes = Vec::new();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed())?;
    {
        let mut inserts = Inserts::prepare(&transaction).map_err(failed())?;
        let waiting = std::iter::from_fn(|| receiver.try_recv().ok());
        for message in std::iter::once(first).chain(waiting).take(BATCH) {
            match message {
                Message::Flush(done) => flushes.push(done),
                Message::Append(record) => match inserts.insert(&record) {
                    Ok(()) => (),
                    Err(rusqlite::Error::QueryReturnedNoRows) => {
                        return Err(StoreError::Unknown { path: path.clone(), name: record.experiment });
                    }
                    Err(error) => return Err(failed()(error)),
                },
            }
        }
    }
    transaction.commit().map_err(failed())?;
    for done in flushes {
        // The caller may have been dropped since.
        let _ = done.send(());
    }
    Ok(())
}

pub(super) struct Inserts<'t> {
    touch: Statement<'t>,
    result: Statement<'t>,
    outdated: Statement<'t>,
    log: Statement<'t>,
    no_log: Statement<'t>,
    lockfile: Statement<'t>,
}

impl<'t> Inserts<'t> {
    pub(super) fn prepare(transaction: &'t Transaction<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            touch: transaction.prepare("UPDATE experiments SET updated = ? WHERE name = ? RETURNING id")?,
            result: transaction.prepare(
                "INSERT INTO results (experiment, fingerprint, attempt, crate, version, op, stage, toolchain,
                     toolchain_identity, kind, outcome, reason, started, queued, wall, cpu, peak_memory, worker,
                     compiled, reused, in_op, again, tests, tests_bytes, partial)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
                     ?20, ?21, ?22, ?23, ?24, ?25)
                 ON CONFLICT (experiment, fingerprint, attempt) DO UPDATE SET
                     crate = ?4, version = ?5, op = ?6, stage = ?7, toolchain = ?8, toolchain_identity = ?9,
                     kind = ?10, outcome = ?11, reason = ?12, started = ?13, queued = ?14, wall = ?15, cpu = ?16,
                     peak_memory = ?17, worker = ?18, compiled = ?19, reused = ?20, in_op = ?21, again = ?22,
                     tests = ?23, tests_bytes = ?24, partial = ?25
                 RETURNING id",
            )?,
            outdated: transaction
                .prepare("DELETE FROM results WHERE experiment = ? AND fingerprint = ? AND attempt > ?")?,
            log: transaction.prepare(
                "INSERT OR REPLACE INTO logs (result, head, head_bytes, tail, tail_bytes, dropped)
                 VALUES (?, ?, ?, ?, ?, ?)",
            )?,
            no_log: transaction.prepare("DELETE FROM logs WHERE result = ?")?,
            lockfile: transaction.prepare(
                "INSERT OR REPLACE INTO lockfiles (experiment, fingerprint, content, bytes) VALUES (?, ?, ?, ?)",
            )?,
        })
    }

    /// Errors with `QueryReturnedNoRows` for an unknown experiment.
    pub(super) fn insert(&mut self, record: &Record) -> rusqlite::Result<()> {
        let Record { step, krate, result, output, .. } = record;
        let now = epoch_millis(SystemTime::now());
        let experiment: i64 = self.touch.query_row(params![now, record.experiment], |row| row.get(0))?;
        let outcome = json(&result.outcome)?;
        let tests = result.tests.as_deref().map(json).transpose()?;
        // A repetition is of the attempts before it. When one of those runs again, the repetition is void.
        self.outdated.execute(params![experiment, step.fingerprint.to_string(), step.attempt])?;
        let id: i64 = self.result.query_row(
            params![
                experiment,
                step.fingerprint.to_string(),
                step.attempt,
                krate.name.as_str(),
                krate.version.as_ref().map(ToString::to_string),
                step.op.name().as_str(),
                step.op.stage().as_str(),
                record.toolchain.as_ref().map(|(label, _)| label.as_str()),
                record.toolchain.as_ref().map(|(_, identity)| identity),
                result.outcome.kind().as_str(),
                outcome,
                result.outcome.reason(),
                epoch_millis(result.started),
                micros(result.waited),
                micros(result.wall),
                micros(result.cpu),
                result.peak_memory.map(|bytes| bytes.as_u64().cast_signed()),
                result.worker as i64,
                result.units.compiled as i64,
                result.units.reused as i64,
                result.units.in_op as i64,
                result.units.again as i64,
                tests.as_ref().map(|tests| pack(tests.as_bytes())),
                tests.as_ref().map(|tests| tests.len() as i64),
                result.is_partial(),
            ],
            |row| row.get(0),
        )?;
        if output.head.is_empty() && output.tail.is_empty() {
            self.no_log.execute([id])?;
        } else {
            self.log.execute(params![
                id,
                pack(&output.head),
                output.head.len() as i64,
                pack(&output.tail),
                output.tail.len() as i64,
                output.dropped.cast_signed(),
            ])?;
        }
        let of_all = record.lockfile.as_ref().map(|lockfile| (step.fingerprint, lockfile));
        let of_patched = record.patched.iter().map(|(key, lockfile)| (*key, lockfile));
        for (key, lockfile) in of_all.into_iter().chain(of_patched) {
            self.lockfile.execute(params![experiment, key.to_string(), pack(lockfile), lockfile.len() as i64])?;
        }
        Ok(())
    }
}
