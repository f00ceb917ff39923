//! The runs of experiments: time, number of workers, and downloaded bytes.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use rusqlite::types::ValueRef::Null;
use rusqlite::{Transaction, params};

use super::read::{count, parse, time};
use super::{Store, StoreError, epoch_millis, micros};
use crate::compare::RunRecord;
use crate::ops::Stage;

/// The cost of a run besides its ops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunCost {
    /// How long its pools were at it.
    pub wall: Duration,
    /// How long removing the folders of its jobs took, summed over the threads that do it.
    pub removal: Duration,
    /// The downloaded bytes.
    pub downloaded: ByteSize,
}

/// A run that has begun.
#[derive(Debug)]
pub struct RunId(i64);

impl Store {
    /// Notes that a run of the experiment begins now.
    ///
    /// Errors with [`StoreError::Unknown`] without an experiment of that name.
    pub fn begin_run(&mut self, name: &str, workers: &BTreeMap<Stage, usize>) -> Result<RunId, StoreError> {
        let workers = super::plan::json(workers).map_err(self.sql("begin a run"))?;
        let begun = self.write("begin a run", |transaction| {
            transaction.execute(
                "INSERT INTO runs (experiment, started, workers) SELECT id, ?, ? FROM experiments WHERE name = ?",
                params![epoch_millis(SystemTime::now()), workers, name],
            )
        })?;
        match begun {
            0 => Err(StoreError::Unknown { path: self.path.clone(), name: name.to_owned() }),
            _ => Ok(RunId(self.connection.last_insert_rowid())),
        }
    }

    /// Notes that a run has ended, and its cost.
    pub fn end_run(&mut self, run: RunId, cost: RunCost) -> Result<(), StoreError> {
        let RunCost { wall, removal, downloaded } = cost;
        self.write("end a run", |transaction| {
            let cost = params![micros(wall), micros(removal), downloaded.as_u64().cast_signed(), run.0];
            transaction.execute("UPDATE runs SET wall = ?, removal = ?, downloaded = ? WHERE id = ?", cost)
        })?;
        Ok(())
    }

    /// All runs of an experiment, the first one first.
    pub(super) fn runs(&self, transaction: &Transaction<'_>, id: i64) -> Result<Vec<RunRecord>, StoreError> {
        let doing = "read the runs";
        let mut statement = transaction
            .prepare("SELECT started, workers, wall, downloaded, removal FROM runs WHERE experiment = ? ORDER BY started, id")
            .map_err(self.sql(doing))?;
        let mut rows = statement.query([id]).map_err(self.sql(doing))?;
        let mut runs = Vec::new();
        while let Some(row) = rows.next().map_err(self.sql(doing))? {
            let workers: String = row.get(1).map_err(self.sql(doing))?;
            let is_null = |column| Ok::<_, StoreError>(row.get_ref(column).map_err(self.sql(doing))? == Null);
            let number = |column| count(row, column).map_err(self.sql(doing));
            let (ended, timed) = (!is_null(2)?, !is_null(4)?);
            runs.push(RunRecord {
                started: time(row, 0).map_err(self.sql(doing))?,
                workers: parse(&self.path, &workers, "list of workers")?,
                wall: ended.then(|| number(2)).transpose()?.map(Duration::from_micros),
                removal: timed.then(|| number(4)).transpose()?.map(Duration::from_micros),
                downloaded: ended.then(|| number(3)).transpose()?.map(ByteSize),
            });
        }
        Ok(runs)
    }
}
