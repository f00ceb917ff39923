//! The stored parts of an experiment: results, logs, lockfiles, and the list of experiments.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytesize::ByteSize;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::de::DeserializeOwned;

use super::{Store, StoreError, packed};
use crate::compare::{CrateResults, OpResult, Results};
use crate::libtest::Tests;
use crate::ops::Tally;
use crate::outcome::{Outcome, OutcomeKind};
use crate::plan::{Attempt, Attempts, BadFingerprint, Fingerprint, LogId, Step};
use crate::sandbox::Output;
use crate::toolchain::Toolchain;

/// An experiment at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Its name.
    pub name: String,
    /// When it first began.
    pub created: SystemTime,
    /// When it last began or got a result.
    pub updated: SystemTime,
    /// Its toolchains, the baseline first.
    pub toolchains: Vec<Toolchain>,
    /// How many crates its plan has.
    pub crates: u64,
    /// How many steps its plan has.
    pub steps: u64,
    /// How many of them have a result.
    pub finished: u64,
}

/// Whether a result `r` has tests, and those of its crate failed somewhere: only then they have a say in a verdict.
const TESTS_DECIDE: &str = "(r.tests IS NOT NULL AND (r.crate, coalesce(r.version, '')) IN (
    SELECT f.crate, coalesce(f.version, '') FROM results f
    WHERE f.experiment = r.experiment AND f.tests IS NOT NULL AND f.kind = 'failed'))";

/// The outcomes of steps that count: of each, that of its last whole attempt. One that passed and failed, on the same
/// toolchain, passed.
#[derive(Debug, Default)]
pub(super) struct Finished {
    pub(super) outcomes: HashMap<Fingerprint, Outcome>,
    have_passed: HashSet<Fingerprint>,
}

impl Finished {
    /// Takes the next whole attempt of a step.
    pub(super) fn add(&mut self, fingerprint: Fingerprint, outcome: Outcome) {
        if outcome == Outcome::Passed {
            self.have_passed.insert(fingerprint);
        }
        let is_flaky = outcome.kind() == OutcomeKind::Failed && self.have_passed.contains(&fingerprint);
        self.outcomes.insert(fingerprint, if is_flaky { Outcome::Passed } else { outcome });
    }
}

impl Store {
    /// All experiments, the one that changed last first.
    pub fn experiments(&self) -> Result<Vec<Overview>, StoreError> {
        let doing = "list the experiments";
        let mut statement = self
            .connection
            .prepare(
                "SELECT name, created, updated, toolchains,
                     (SELECT count(*) FROM crates c WHERE c.experiment = e.id),
                     (SELECT count(*) FROM steps s WHERE s.experiment = e.id),
                     (SELECT count(*) FROM steps s JOIN results r
                          ON r.experiment = s.experiment AND r.fingerprint = s.fingerprint AND r.attempt = s.attempt
                      WHERE s.experiment = e.id)
                 FROM experiments e ORDER BY updated DESC, name",
            )
            .map_err(self.sql(doing))?;
        let mut rows = statement.query([]).map_err(self.sql(doing))?;
        let mut overviews = Vec::new();
        while let Some(row) = rows.next().map_err(self.sql(doing))? {
            overviews.push(Overview {
                name: row.get(0).map_err(self.sql(doing))?,
                created: time(row, 1).map_err(self.sql(doing))?,
                updated: time(row, 2).map_err(self.sql(doing))?,
                toolchains: self.decode(row, 3, "toolchain list")?,
                crates: count(row, 4).map_err(self.sql(doing))?,
                steps: count(row, 5).map_err(self.sql(doing))?,
                finished: count(row, 6).map_err(self.sql(doing))?,
            });
        }
        Ok(overviews)
    }

    /// The results of every step that ever ran, of its last whole attempt, also of steps that are no longer planned.
    /// One that passed and failed, on the same toolchain, passed.
    pub fn finished(&self, name: &str) -> Result<HashMap<Fingerprint, Outcome>, StoreError> {
        let doing = "read what is finished";
        let mut statement = self
            .connection
            .prepare(
                "SELECT fingerprint, outcome FROM results
                 WHERE experiment = (SELECT id FROM experiments WHERE name = ?) AND NOT partial
                 ORDER BY fingerprint, attempt",
            )
            .map_err(self.sql(doing))?;
        let mut rows = statement.query([name]).map_err(self.sql(doing))?;
        let mut finished = Finished::default();
        while let Some(row) = rows.next().map_err(self.sql(doing))? {
            let fingerprint = self.fingerprint(row, 0)?;
            let outcome: Outcome = self.decode(row, 1, "outcome")?;
            finished.add(fingerprint, outcome);
        }
        Ok(finished.outcomes)
    }

    /// When each step that has a result began, in its first attempt.
    pub fn started(&self, name: &str) -> Result<HashMap<Fingerprint, SystemTime>, StoreError> {
        let doing = "read when steps began";
        let mut statement = self
            .connection
            .prepare(
                "SELECT fingerprint, started FROM results
                 WHERE experiment = (SELECT id FROM experiments WHERE name = ?) AND attempt = 1",
            )
            .map_err(self.sql(doing))?;
        let mut rows = statement.query([name]).map_err(self.sql(doing))?;
        let mut started = HashMap::new();
        while let Some(row) = rows.next().map_err(self.sql(doing))? {
            started.insert(self.fingerprint(row, 0)?, time(row, 1).map_err(self.sql(doing))?);
        }
        Ok(started)
    }

    /// All results of the steps that have run more than once, and of crates with failed tests.
    pub fn attempts(&self, name: &str) -> Result<HashMap<Fingerprint, Attempts>, StoreError> {
        let doing = "read what was repeated";
        let mut statement = self
            .connection
            .prepare(&format!(
                "SELECT fingerprint, attempt, outcome, tests, tests_bytes FROM results AS r
                     WHERE experiment = (SELECT id FROM experiments WHERE name = ?) AND (EXISTS (
                         SELECT 1 FROM results
                         WHERE experiment = r.experiment AND fingerprint = r.fingerprint AND attempt > 1
                     ) OR {TESTS_DECIDE}) ORDER BY fingerprint, attempt"
            ))
            .map_err(self.sql(doing))?;
        let mut rows = statement.query([name]).map_err(self.sql(doing))?;
        let mut attempts: HashMap<_, Attempts> = HashMap::new();
        while let Some(row) = rows.next().map_err(self.sql(doing))? {
            let attempt = Attempt {
                number: row.get(1).map_err(self.sql(doing))?,
                outcome: self.decode(row, 2, "outcome")?,
                tests: self.tests(row, 3)?,
            };
            attempts.entry(self.fingerprint(row, 0)?).or_default().push(attempt);
        }
        Ok(attempts)
    }

    /// The plan of the experiment's latest run with all results there are; none if it never began. Of single tests,
    /// only those that verdicts need.
    pub fn results(&self, name: &str) -> Result<Option<Results>, StoreError> {
        self.results_with(name, &format!("r.tests IS NOT NULL AND {TESTS_DECIDE}"))
    }

    /// The same with all single tests.
    pub fn results_with_tests(&self, name: &str) -> Result<Option<Results>, StoreError> {
        self.results_with(name, "r.tests IS NOT NULL")
    }

    /// The same of some crates only, from one place in the plan on, and without the list of runs.
    #[cfg(feature = "server")]
    pub fn some_results(&self, name: &str, from: u64, most: u64) -> Result<Option<Results>, StoreError> {
        let range = from.cast_signed()..from.saturating_add(most).cast_signed();
        self.results_of(name, "r.tests IS NOT NULL", range)
    }

    /// `tests`: which of the results `r` have their tests read, in SQL.
    fn results_with(&self, name: &str, tests: &str) -> Result<Option<Results>, StoreError> {
        self.results_of(name, tests, 0..i64::MAX)
    }

    fn results_of(&self, name: &str, tests: &str, range: Range<i64>) -> Result<Option<Results>, StoreError> {
        let doing = "read the results";
        // One transaction, so that a plan that is replaced at the same time is seen either before or after.
        let transaction = self.connection.unchecked_transaction().map_err(self.sql(doing))?;
        let header: Option<(i64, String, String)> = transaction
            .query_row("SELECT id, toolchains, notes FROM experiments WHERE name = ?", [name], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()
            .map_err(self.sql(doing))?;
        let Some((id, toolchains, notes)) = header else { return Ok(None) };
        let mut crates = self.planned_crates(&transaction, id, &range)?;
        self.fill_in_steps(&transaction, id, tests, (&range, &mut crates))?;
        Ok(Some(Results {
            experiment: name.to_owned(),
            toolchains: parse(&self.path, &toolchains, "toolchain list")?,
            notes: parse(&self.path, &notes, "list of notes")?,
            crates,
            runs: self.runs(&transaction, id)?,
        }))
    }

    fn planned_crates(
        &self,
        transaction: &Transaction<'_>,
        id: i64,
        range: &Range<i64>,
    ) -> Result<Vec<CrateResults>, StoreError> {
        let doing = "read the crates";
        let mut statement = transaction
            .prepare(
                "SELECT selected FROM crates WHERE experiment = ? AND position >= ? AND position < ? ORDER BY position",
            )
            .map_err(self.sql(doing))?;
        let mut rows = statement.query([id, range.start, range.end]).map_err(self.sql(doing))?;
        let mut crates = Vec::new();
        while let Some(row) = rows.next().map_err(self.sql(doing))? {
            crates.push(CrateResults { krate: self.decode(row, 0, "selected crate")?, steps: Vec::new() });
        }
        Ok(crates)
    }

    fn fill_in_steps(
        &self,
        transaction: &Transaction<'_>,
        id: i64,
        tests: &str,
        (range, crates): (&Range<i64>, &mut [CrateResults]),
    ) -> Result<(), StoreError> {
        let doing = "read the steps";
        let mut statement = transaction
            .prepare(&format!(
                "SELECT s.crate, s.op, s.toolchain, coalesce(r.attempt, s.attempt), s.fingerprint,
                     r.outcome, r.started, r.wall, r.cpu, r.peak_memory, r.queued, r.worker,
                     r.compiled, r.reused, r.in_op, r.again,
                     CASE WHEN {tests} THEN r.tests END, r.tests_bytes
                 FROM steps s LEFT JOIN results r
                     ON r.experiment = s.experiment AND r.fingerprint = s.fingerprint
                 WHERE s.experiment = ? AND s.crate >= ? AND s.crate < ? ORDER BY s.crate, s.position, r.attempt",
            ))
            .map_err(self.sql(doing))?;
        let mut rows = statement.query([id, range.start, range.end]).map_err(self.sql(doing))?;
        while let Some(row) = rows.next().map_err(self.sql(doing))? {
            let position: i64 = row.get(0).map_err(self.sql(doing))?;
            let position = position - range.start;
            let step = Step {
                op: self.decode(row, 1, "op")?,
                toolchain: row.get::<_, Option<u32>>(2).map_err(self.sql(doing))?.map(|toolchain| toolchain as usize),
                attempt: row.get(3).map_err(self.sql(doing))?,
                fingerprint: self.fingerprint(row, 4)?,
            };
            let ran = row.get_ref(6).map_err(self.sql(doing))? != rusqlite::types::ValueRef::Null;
            let result = if ran { Some(self.op_result(row)?) } else { None };
            let krate = usize::try_from(position).ok().and_then(|position| crates.get_mut(position));
            let krate =
                krate.ok_or_else(|| StoreError::unreadable(&self.path, "plan")("a step belongs to no crate"))?;
            krate.steps.push((step, result));
        }
        Ok(())
    }

    fn op_result(&self, row: &Row<'_>) -> Result<OpResult, StoreError> {
        let doing = "read a result";
        Ok(OpResult {
            outcome: self.decode(row, 5, "outcome")?,
            started: time(row, 6).map_err(self.sql(doing))?,
            wall: Duration::from_micros(count(row, 7).map_err(self.sql(doing))?),
            cpu: Duration::from_micros(count(row, 8).map_err(self.sql(doing))?),
            peak_memory: row
                .get::<_, Option<i64>>(9)
                .map_err(self.sql(doing))?
                .map(|bytes| ByteSize(bytes.cast_unsigned())),
            waited: Duration::from_micros(count(row, 10).map_err(self.sql(doing))?),
            worker: row.get::<_, u32>(11).map_err(self.sql(doing))? as usize,
            units: Tally {
                compiled: row.get::<_, u32>(12).map_err(self.sql(doing))? as usize,
                reused: row.get::<_, u32>(13).map_err(self.sql(doing))? as usize,
                in_op: row.get::<_, u32>(14).map_err(self.sql(doing))? as usize,
                again: row.get::<_, u32>(15).map_err(self.sql(doing))? as usize,
            },
            tests: self.tests(row, 16)?,
        })
    }

    /// The output of a step; `None` if it never ran or printed nothing.
    pub fn log(&self, name: &str, LogId { step, attempt }: LogId) -> Result<Option<Output>, StoreError> {
        let packed = self
            .connection
            .query_row(
                "SELECT head, head_bytes, tail, tail_bytes, dropped FROM logs JOIN results ON id = result
                 WHERE experiment = (SELECT id FROM experiments WHERE name = ?) AND fingerprint = ? AND attempt = ?",
                params![name, step.to_string(), attempt],
                |row| {
                    let head: (Vec<u8>, u64) = (row.get(0)?, count(row, 1)?);
                    let tail: (Vec<u8>, u64) = (row.get(2)?, count(row, 3)?);
                    Ok((head, tail, count(row, 4)?))
                },
            )
            .optional()
            .map_err(self.sql("read a log"))?;
        let unpack = |(bytes, size): (Vec<u8>, u64)| {
            packed::unpack(&bytes, size).map_err(StoreError::unreadable(&self.path, "log"))
        };
        packed.map(|(head, tail, dropped)| Ok(Output { head: unpack(head)?, tail: unpack(tail)?, dropped })).transpose()
    }

    /// The settings of the latest run of an experiment, as JSON; `None` for an unknown experiment or if an older maar
    /// ran it.
    pub fn settings(&self, name: &str) -> Result<Option<String>, StoreError> {
        let settings = self
            .connection
            .query_row("SELECT settings FROM experiments WHERE name = ?", [name], |row| row.get(0))
            .optional()
            .map_err(self.sql("read the settings"))?;
        Ok(settings.flatten())
    }

    /// The toolchains of the latest run of an experiment, the baseline first. Empty if it never began.
    pub fn toolchains(&self, name: &str) -> Result<Vec<Toolchain>, StoreError> {
        let list: Option<String> = self
            .connection
            .query_row("SELECT toolchains FROM experiments WHERE name = ?", [name], |row| row.get(0))
            .optional()
            .map_err(self.sql("read the toolchains"))?;
        list.map_or(Ok(Vec::new()), |list| parse(&self.path, &list, "toolchain list"))
    }

    /// The lockfile that the step made, if it did.
    pub fn lockfile(&self, name: &str, prepare: &Fingerprint) -> Result<Option<Vec<u8>>, StoreError> {
        let packed: Option<(Vec<u8>, u64)> = self
            .connection
            .query_row(
                "SELECT content, bytes FROM lockfiles
                 WHERE experiment = (SELECT id FROM experiments WHERE name = ?) AND fingerprint = ?",
                [name, &prepare.to_string()],
                |row| Ok((row.get(0)?, count(row, 1)?)),
            )
            .optional()
            .map_err(self.sql("read a lockfile"))?;
        packed
            .map(|(content, size)| {
                packed::unpack(&content, size).map_err(StoreError::unreadable(&self.path, "lockfile"))
            })
            .transpose()
    }

    /// The tests of a result: a packed column, and the one after it with the size.
    pub(super) fn tests(&self, row: &Row<'_>, column: usize) -> Result<Option<Arc<Tests>>, StoreError> {
        let packed: Option<Vec<u8>> = row.get(column).map_err(self.sql("read tests"))?;
        let Some(packed) = packed else { return Ok(None) };
        let size = count(row, column + 1).map_err(self.sql("read tests"))?;
        let json = packed::unpack(&packed, size).map_err(StoreError::unreadable(&self.path, "tests"))?;
        serde_json::from_slice(&json).map(Some).map_err(StoreError::unreadable(&self.path, "tests"))
    }

    pub(super) fn fingerprint(&self, row: &Row<'_>, column: usize) -> Result<Fingerprint, StoreError> {
        let text = row.get_ref(column).and_then(|value| value.as_str().map_err(Into::into));
        let text = text.map_err(StoreError::unreadable(&self.path, "fingerprint"))?;
        text.parse().map_err(|error: BadFingerprint| StoreError::unreadable(&self.path, "fingerprint")(error))
    }

    pub(super) fn decode<T: DeserializeOwned>(
        &self,
        row: &Row<'_>,
        column: usize,
        what: &'static str,
    ) -> Result<T, StoreError> {
        let text = row.get_ref(column).and_then(|value| value.as_str().map_err(Into::into));
        parse(&self.path, text.map_err(StoreError::unreadable(&self.path, what))?, what)
    }
}

pub(super) fn parse<T: DeserializeOwned>(path: &Path, text: &str, what: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(StoreError::unreadable(path, what))
}

/// A number that is never negative.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<SystemTime> {
    Ok(UNIX_EPOCH + Duration::from_millis(count(row, column)?))
}
