//! Experiments and their plans: begin, continue, start over, delete.

use std::collections::HashSet;
use std::time::SystemTime;

use rusqlite::{Transaction, TransactionBehavior, params};
use serde::Serialize;

use super::{Store, StoreError, epoch_millis, packed};
use crate::krate::Selected;
use crate::plan::{CratePlan, Fingerprint};
use crate::toolchain::Toolchain;

/// An experiment as a run begins it.
#[derive(Debug, Clone)]
pub struct ExperimentRecord<'a> {
    /// Its name, the key of everything kept.
    pub name: String,
    /// Its toolchains, the baseline first.
    pub toolchains: Vec<Toolchain>,
    /// The settings of its runs, as JSON. The store doesn't look into it.
    pub settings: String,
    /// Notes for the reader.
    pub notes: Vec<String>,
    /// Each crate's plan, with the selection, as the user wrote it, that chose the crate.
    pub crates: Vec<(String, &'a CratePlan)>,
    /// The queries among the selections, each with all of its answer.
    pub queries: Vec<AnsweredQuery>,
}

/// A query of a selection, and its answer when it was first made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredQuery {
    /// The query, as the user wrote it.
    pub query: String,
    /// How it was answered, in words.
    pub note: Option<String>,
    /// The answer, in order.
    pub crates: Vec<Selected>,
}

impl Store {
    /// Puts the plan in place of the experiment's former one, if any. Results stay: those that the new plan has no use
    /// for are not shown.
    pub fn begin(&mut self, record: &ExperimentRecord<'_>) -> Result<(), StoreError> {
        self.write("replace the plan", |transaction| {
            let id: i64 = transaction.query_row(
                "INSERT INTO experiments (name, created, updated, toolchains, notes, settings)
                 VALUES (?1, ?2, ?2, ?3, ?4, ?5)
                 ON CONFLICT (name) DO UPDATE SET updated = ?2, toolchains = ?3, notes = ?4, settings = ?5
                 RETURNING id",
                params![
                    record.name,
                    epoch_millis(SystemTime::now()),
                    json(&record.toolchains)?,
                    json(&record.notes)?,
                    record.settings,
                ],
                |row| row.get(0),
            )?;
            transaction.execute("DELETE FROM steps WHERE experiment = ?", [id])?;
            transaction.execute("DELETE FROM crates WHERE experiment = ?", [id])?;
            insert_plan(transaction, id, record)?;
            record.queries.iter().try_for_each(|query| insert_query(transaction, id, query))
        })
    }

    /// Forgets all results of the experiment, and which versions it chose; no experiment of that name is fine too.
    pub fn fresh(&mut self, name: &str) -> Result<(), StoreError> {
        self.write("forget the results", |transaction| {
            for table in ["results", "lockfiles", "steps", "crates", "pins", "queries", "runs"] {
                let of_experiment = "experiment = (SELECT id FROM experiments WHERE name = ?)";
                transaction.execute(&format!("DELETE FROM {table} WHERE {of_experiment}"), [name])?;
            }
            Ok(())
        })?;
        self.shrink()
    }

    /// Deletes the experiment and all that is kept of it.
    ///
    /// Errors with [`StoreError::Unknown`] without an experiment of that name.
    pub fn delete(&mut self, name: &str) -> Result<(), StoreError> {
        let deleted = self.write("delete an experiment", |transaction| {
            transaction.execute("DELETE FROM experiments WHERE name = ?", [name])
        })?;
        match deleted {
            0 => Err(StoreError::Unknown { path: self.path.clone(), name: name.to_owned() }),
            _ => self.shrink(),
        }
    }

    /// The crates that the runs of the experiment chose, each with the selection that chose it, so that a continued run
    /// keeps to the versions chosen first, even if runs between them left some out. Empty if it never began.
    pub fn pins(&self, name: &str) -> Result<Vec<(String, Selected)>, StoreError> {
        let doing = "read the chosen versions";
        let mut statement = self
            .connection
            .prepare(
                "SELECT selection, selected FROM pins
                 WHERE experiment = (SELECT id FROM experiments WHERE name = ?) ORDER BY selection",
            )
            .map_err(self.sql(doing))?;
        let mut rows = statement.query([name]).map_err(self.sql(doing))?;
        let mut pins = Vec::new();
        while let Some(row) = rows.next().map_err(self.sql(doing))? {
            let selection = row.get(0).map_err(self.sql(doing))?;
            let selected: String = row.get(1).map_err(self.sql(doing))?;
            let selected =
                serde_json::from_str(&selected).map_err(StoreError::unreadable(&self.path, "selected crate"))?;
            pins.push((selection, selected));
        }
        Ok(pins)
    }

    /// The queries that the runs of the experiment answered. Empty if it never began.
    pub fn queries(&self, name: &str) -> Result<Vec<AnsweredQuery>, StoreError> {
        let doing = "read the answered queries";
        let mut statement = self
            .connection
            .prepare(
                "SELECT q.id, q.query, q.note, a.selected FROM queries q LEFT JOIN answers a ON a.query = q.id
                 WHERE q.experiment = (SELECT id FROM experiments WHERE name = ?) ORDER BY q.id, a.position",
            )
            .map_err(self.sql(doing))?;
        let mut rows = statement.query([name]).map_err(self.sql(doing))?;
        let mut queries: Vec<AnsweredQuery> = Vec::new();
        let mut last = None;
        while let Some(row) = rows.next().map_err(self.sql(doing))? {
            let id: i64 = row.get(0).map_err(self.sql(doing))?;
            if last != Some(id) {
                last = Some(id);
                let (query, note) = (row.get(1).map_err(self.sql(doing))?, row.get(2).map_err(self.sql(doing))?);
                queries.push(AnsweredQuery { query, note, crates: Vec::new() });
            }
            // A query may have no answer.
            let selected: Option<String> = row.get(3).map_err(self.sql(doing))?;
            if let (Some(selected), Some(query)) = (selected, queries.last_mut()) {
                let unreadable = StoreError::unreadable(&self.path, "selected crate");
                query.crates.push(serde_json::from_str(&selected).map_err(unreadable)?);
            }
        }
        Ok(queries)
    }

    /// Gives a step of one experiment the lockfile of a step of another, unless it has one.
    pub fn adopt_lockfile(
        &mut self,
        (name, step): (&str, Fingerprint),
        (other, made_by): (&str, Fingerprint),
    ) -> Result<(), StoreError> {
        self.write("adopt a lockfile", |transaction| {
            transaction.execute(
                "INSERT OR IGNORE INTO lockfiles (experiment, fingerprint, content, bytes)
                 SELECT (SELECT id FROM experiments WHERE name = ?1), ?2, content, bytes FROM lockfiles
                 WHERE experiment = (SELECT id FROM experiments WHERE name = ?3) AND fingerprint = ?4",
                params![name, step.to_string(), other, made_by.to_string()],
            )
        })?;
        Ok(())
    }

    /// Gives a step the text of a lockfile, unless it has one.
    pub fn keep_lockfile(&mut self, name: &str, step: Fingerprint, lockfile: &[u8]) -> Result<(), StoreError> {
        let packed = packed::pack(lockfile);
        self.write("keep a lockfile", |transaction| {
            transaction.execute(
                "INSERT OR IGNORE INTO lockfiles (experiment, fingerprint, content, bytes)
                 VALUES ((SELECT id FROM experiments WHERE name = ?1), ?2, ?3, ?4)",
                params![name, step.to_string(), packed, lockfile.len() as i64],
            )
        })?;
        Ok(())
    }

    /// Runs `work` in a transaction that waits for other writers first, and commits it.
    pub(in crate::store) fn write<T>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                let done = work(&transaction)?;
                transaction.commit()?;
                Ok(done)
            })
            .map_err(StoreError::sql(&self.path, doing))
    }

    /// Gives the space of deleted rows back to the file system.
    fn shrink(&self) -> Result<(), StoreError> {
        // A step of this pragma frees one page, and `execute_batch` takes one step.
        let vacuum = || -> rusqlite::Result<()> {
            let mut statement = self.connection.prepare("PRAGMA incremental_vacuum")?;
            let mut freed = statement.query([])?;
            while freed.next()?.is_some() {}
            Ok(())
        };
        vacuum().map_err(self.sql("give space back"))
    }
}

fn insert_query(transaction: &Transaction<'_>, id: i64, answered: &AnsweredQuery) -> rusqlite::Result<()> {
    let AnsweredQuery { query, note, crates } = answered;
    // The answer is the former one, except under `--update`.
    transaction.execute("DELETE FROM queries WHERE experiment = ? AND query = ?", params![id, query])?;
    transaction.execute("INSERT INTO queries (experiment, query, note) VALUES (?, ?, ?)", params![id, query, note])?;
    let query = transaction.last_insert_rowid();
    let mut insert = transaction.prepare("INSERT INTO answers (query, position, selected) VALUES (?, ?, ?)")?;
    for (position, selected) in crates.iter().enumerate() {
        insert.execute(params![query, position as i64, json(selected)?])?;
    }
    Ok(())
}

fn insert_plan(transaction: &Transaction<'_>, id: i64, record: &ExperimentRecord<'_>) -> rusqlite::Result<()> {
    let queries: HashSet<&str> = record.queries.iter().map(|answered| answered.query.as_str()).collect();
    let mut insert_crate =
        transaction.prepare("INSERT INTO crates (experiment, position, selection, selected) VALUES (?, ?, ?, ?)")?;
    let mut insert_step = transaction.prepare(
        "INSERT INTO steps (experiment, crate, position, op, toolchain, attempt, fingerprint)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?;
    let mut pin =
        transaction.prepare("INSERT OR REPLACE INTO pins (experiment, selection, selected) VALUES (?, ?, ?)")?;
    for (position, (selection, plan)) in record.crates.iter().enumerate() {
        let selected = json(&plan.krate)?;
        insert_crate.execute(params![id, position as i64, selection, selected])?;
        // A query pins all of its crates, in order.
        if !queries.contains(selection.as_str()) {
            // A crate that is skipped now keeps its version for a run that doesn't skip it.
            let pinned = Selected { id: plan.krate.id.clone(), origin: plan.krate.origin.source().clone() };
            pin.execute(params![id, selection, json(&pinned)?])?;
        }
        for (place, step) in plan.steps.iter().enumerate() {
            insert_step.execute(params![
                id,
                position as i64,
                place as i64,
                json(&step.op)?,
                step.toolchain.map(|toolchain| toolchain as i64),
                step.attempt,
                step.fingerprint.to_string(),
            ])?;
        }
    }
    Ok(())
}

pub(super) fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
