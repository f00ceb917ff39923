//! Jobs and handouts: which crates wait, who was given which, and whose report counts.
//!
//! The first complete report on a crate does: [`Store::accept`] changes the row of a job that waits, or nothing.

use std::collections::HashSet;
use std::time::SystemTime;

use rusqlite::{OptionalExtension, Transaction, params};

use crate::plan::Step;
use crate::store::writer::Inserts;
use crate::store::{Record, Store, StoreError, epoch_millis};

/// An experiment whose jobs are handed out.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Which time it runs.
    pub generation: u32,
    /// Higher ones go first.
    pub priority: i64,
    /// Its share among those of its priority.
    pub weight: f64,
    /// What its jobs need of a host, as JSON.
    pub needs: String,
    /// How many of its jobs the engine was given, by their ranks.
    pub cursor: u32,
}

/// A job, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// The experiment's number.
    pub experiment: u32,
    /// Which time it runs.
    pub generation: u32,
    /// The crate's position in the plan.
    pub position: u32,
}

/// A job to be laid out, in the order of handouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// The crate's position in the plan.
    pub position: u32,
    /// Its lane.
    pub lane: String,
    /// Its shard.
    pub shard: u8,
}

/// A job that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingJob {
    /// Its place in the order of handouts.
    pub rank: u32,
    /// The crate's position in the plan.
    pub position: u32,
    /// Its lane.
    pub lane: String,
    /// Its shard.
    pub shard: u8,
}

/// The record of a delivered job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFacts {
    /// Whether it waits, and its experiment hands out jobs of this generation.
    pub waits: bool,
    /// The agents that were lost with it, in order, the holder of an open handout not counted.
    pub lost: Vec<u32>,
    /// Its handout without an end: the number, the agent's, and when it began.
    pub open: Option<(i64, u32, SystemTime)>,
}

/// How a handout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those in the database")]
pub enum How {
    Accepted,
    Refused,
    Returned,
    Lost,
    Dropped,
}

/// The counts of a generation's jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Those without a result.
    pub waiting: u32,
    /// All others.
    pub ended: u32,
}

/// A report that was checked.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The job.
    pub job: JobKey,
    /// The handout under which it was run.
    pub handout: i64,
    /// The agent's number.
    pub agent: u32,
    /// The agent's environment, as a digest.
    pub environment: String,
    /// The SHA-256 of the bundle of logs.
    pub bundle: Option<String>,
    /// The results of all steps that ran.
    pub records: Vec<Record>,
}

impl How {
    /// As the database keeps it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Returned => "returned",
            Self::Lost => "lost",
            Self::Dropped => "dropped",
        }
    }
}

impl Store {
    /// The experiments whose jobs are handed out, by their numbers.
    pub fn handed_out(&self) -> Result<Vec<Running>, StoreError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self.connection.prepare_cached(
                "SELECT id, name, generation, priority, weight, needs, cursor FROM experiments
                 WHERE state IN ('running', 'confirming') AND NOT paused ORDER BY id",
            )?;
            let row = |row: &rusqlite::Row<'_>| {
                Ok(Running {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    generation: row.get(2)?,
                    priority: row.get(3)?,
                    weight: row.get(4)?,
                    needs: row.get(5)?,
                    cursor: row.get(6)?,
                })
            };
            statement.query_map([], row)?.collect()
        };
        read().map_err(self.sql("list the experiments that run"))
    }

    /// The number and the generation of an experiment; `None` for an unknown name.
    pub fn generation(&self, name: &str) -> Result<Option<(u32, u32)>, StoreError> {
        self.connection
            .query_row("SELECT id, generation FROM experiments WHERE name = ?", [name], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
            .map_err(self.sql("look an experiment up"))
    }

    /// The name of an experiment, if it is in this generation.
    pub fn name_of(&self, experiment: u32, generation: u32) -> Result<Option<String>, StoreError> {
        self.connection
            .query_row(
                "SELECT name FROM experiments WHERE id = ? AND generation = ?",
                [experiment, generation],
                |row| row.get(0),
            )
            .optional()
            .map_err(self.sql("look an experiment up"))
    }

    /// Lays out the jobs of a generation, in the order of handouts. Jobs that are there stay, with their results; so
    /// the same call again, after a crash, is harmless.
    pub fn lay_out(&mut self, experiment: u32, generation: u32, jobs: &[NewJob]) -> Result<(), StoreError> {
        self.write("lay out jobs", |transaction| {
            let there: i64 = transaction.query_row(
                "SELECT count(*) FROM jobs WHERE experiment = ? AND generation = ?",
                [experiment, generation],
                |row| row.get(0),
            )?;
            if there > 0 {
                return Ok(());
            }
            transaction.execute("UPDATE experiments SET cursor = 0 WHERE id = ?", [experiment])?;
            let mut insert = transaction.prepare(
                "INSERT INTO jobs (experiment, generation, position, lane, shard, rank) VALUES (?, ?, ?, ?, ?, ?)",
            )?;
            for (rank, NewJob { position, lane, shard }) in jobs.iter().enumerate() {
                insert.execute(params![experiment, generation, position, lane, shard, rank as i64])?;
            }
            Ok(())
        })
    }

    /// Lays out the jobs of an experiment that has a plan, and has them handed out from now on.
    ///
    /// Errors with [`StoreError::Unknown`] for an unknown name.
    pub fn distribute(&mut self, name: &str, jobs: &[NewJob]) -> Result<(u32, u32), StoreError> {
        let unknown = || StoreError::Unknown { path: self.path.clone(), name: name.to_owned() };
        let (experiment, generation) = self.generation(name)?.ok_or_else(unknown)?;
        self.lay_out(experiment, generation, jobs)?;
        // Without jobs there is only the report to make.
        let state = if jobs.is_empty() { "reporting" } else { "running" };
        self.write("begin to hand out jobs", |transaction| {
            transaction
                .execute("UPDATE experiments SET state = ?, etag = etag + 1 WHERE id = ?", params![state, experiment])
        })?;
        Ok((experiment, generation))
    }

    /// The experiments that are planned and wait: their numbers, generations and names.
    pub fn queued(&self) -> Result<Vec<(u32, u32, String)>, StoreError> {
        self.in_state("SELECT id, generation, name FROM experiments WHERE state = 'queued' AND NOT paused ORDER BY id")
    }

    /// The experiments that are being aborted.
    pub fn aborting(&self) -> Result<Vec<(u32, u32, String)>, StoreError> {
        self.in_state("SELECT id, generation, name FROM experiments WHERE state = 'aborting' ORDER BY id")
    }

    fn in_state(&self, query: &str) -> Result<Vec<(u32, u32, String)>, StoreError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self.connection.prepare_cached(query)?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
        };
        read().map_err(self.sql("list experiments"))
    }

    /// Notes that an experiment hands out nothing any more, since it was aborted.
    pub fn aborted(&mut self, experiment: u32) -> Result<(), StoreError> {
        let now = epoch_millis(SystemTime::now());
        self.write("end an experiment", |transaction| {
            transaction.execute(
                "UPDATE experiments SET state = 'aborted', ended = ?, etag = etag + 1 WHERE id = ? AND state = 'aborting'",
                params![now, experiment],
            )
        })?;
        Ok(())
    }

    /// Has the reports made of experiments that run and whose jobs have all ended, and returns their numbers,
    /// generations and names.
    pub fn conclude_jobs(&mut self) -> Result<Vec<(u32, u32, String)>, StoreError> {
        self.write("end experiments", |transaction| {
            let mut statement = transaction.prepare_cached(
                "UPDATE experiments SET state = 'reporting', etag = etag + 1
                 WHERE state IN ('running', 'confirming') AND EXISTS (
                         SELECT 1 FROM jobs j WHERE j.experiment = id AND j.generation = experiments.generation)
                     AND NOT EXISTS (
                         SELECT 1 FROM jobs j WHERE j.experiment = id AND j.generation = experiments.generation
                             AND j.state = 'waiting')
                 RETURNING id, generation, name",
            )?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
        })
    }

    /// How many jobs of a generation wait, and how many have ended.
    pub fn job_counts(&self, experiment: u32, generation: u32) -> Result<JobCounts, StoreError> {
        self.connection
            .query_row(
                "SELECT count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state <> 'waiting')
                 FROM jobs WHERE experiment = ? AND generation = ?",
                [experiment, generation],
                |row| Ok(JobCounts { waiting: row.get(0)?, ended: row.get(1)? }),
            )
            .map_err(self.sql("count jobs"))
    }

    /// The settings and the toolchains of an experiment, as JSON, if it is in this generation.
    pub fn assigned(&self, experiment: u32, generation: u32) -> Result<Option<(String, String)>, StoreError> {
        self.connection
            .query_row(
                "SELECT settings, toolchains FROM experiments
                 WHERE id = ? AND generation = ? AND settings IS NOT NULL",
                [experiment, generation],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
            .map_err(self.sql("read an experiment"))
    }

    /// The experiments whose crates may go on: those that run, whether or not they are paused.
    pub fn generations_alive(&self) -> Result<HashSet<(u32, u32)>, StoreError> {
        let read = || -> rusqlite::Result<HashSet<_>> {
            let mut statement = self
                .connection
                .prepare_cached("SELECT id, generation FROM experiments WHERE state IN ('running', 'confirming')")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        read().map_err(self.sql("list the experiments that run"))
    }

    /// Jobs that wait, from a rank on, at most so many.
    pub fn waiting_from(
        &self,
        experiment: u32,
        generation: u32,
        rank: u32,
        most: usize,
    ) -> Result<Vec<WaitingJob>, StoreError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self.connection.prepare_cached(
                "SELECT rank, position, lane, shard FROM jobs
                 WHERE experiment = ? AND generation = ? AND rank >= ? AND state = 'waiting' ORDER BY rank LIMIT ?",
            )?;
            let row = |row: &rusqlite::Row<'_>| {
                Ok(WaitingJob { rank: row.get(0)?, position: row.get(1)?, lane: row.get(2)?, shard: row.get(3)? })
            };
            statement.query_map(params![experiment, generation, rank, most as i64], row)?.collect()
        };
        read().map_err(self.sql("read the jobs that wait"))
    }

    /// Notes how many jobs the engine was given.
    pub fn set_cursor(&mut self, experiment: u32, cursor: u32) -> Result<(), StoreError> {
        self.write("note the jobs that are published", |transaction| {
            transaction.execute("UPDATE experiments SET cursor = ? WHERE id = ?", [cursor, experiment])
        })?;
        Ok(())
    }

    /// The record of a job.
    pub fn job_facts(&self, job: JobKey) -> Result<JobFacts, StoreError> {
        let JobKey { experiment, generation, position } = job;
        let read = || -> rusqlite::Result<JobFacts> {
            let mut statement = self.connection.prepare_cached(
                "SELECT j.state = 'waiting' AND e.state IN ('running', 'confirming') AND e.generation = j.generation
                 FROM jobs j JOIN experiments e ON e.id = j.experiment
                 WHERE j.experiment = ? AND j.generation = ? AND j.position = ?",
            )?;
            let waits = statement.query_row([experiment, generation, position], |row| row.get(0)).optional()?;
            let mut facts = JobFacts { waits: waits.unwrap_or(false), ..JobFacts::default() };
            let mut statement = self.connection.prepare_cached(
                "SELECT id, agent, at, how FROM handouts
                 WHERE experiment = ? AND generation = ? AND position = ? ORDER BY id",
            )?;
            let mut rows = statement.query([experiment, generation, position])?;
            while let Some(row) = rows.next()? {
                let (id, agent, how): (i64, u32, Option<String>) = (row.get(0)?, row.get(1)?, row.get(3)?);
                match how.as_deref() {
                    None => facts.open = Some((id, agent, crate::store::read::time(row, 2)?)),
                    Some("lost") => facts.lost.push(agent),
                    Some(_) => {}
                }
            }
            Ok(facts)
        };
        read().map_err(self.sql("read a job"))
    }

    /// Begins a handout, and returns its number. An earlier one without an end is lost.
    pub fn hand_out(&mut self, job: JobKey, agent: u32) -> Result<i64, StoreError> {
        let JobKey { experiment, generation, position } = job;
        let now = epoch_millis(SystemTime::now());
        self.write("begin a handout", |transaction| {
            end_open(transaction, job, How::Lost, now)?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO handouts (experiment, generation, position, agent, at) VALUES (?, ?, ?, ?, ?)",
            )?;
            insert.execute(params![experiment, generation, position, agent, now])?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// Ends a handout. One that has ended stays as it is.
    pub fn end_handout(&mut self, handout: i64, how: How) -> Result<(), StoreError> {
        let now = epoch_millis(SystemTime::now());
        self.write("end a handout", |transaction| {
            transaction.execute(
                "UPDATE handouts SET ended = ?, how = ? WHERE id = ? AND ended IS NULL",
                params![now, how.as_str(), handout],
            )
        })?;
        Ok(())
    }

    /// Keeps the report of an agent if it is the first on the crate, all of it or nothing. `false`: it isn't.
    pub fn accept(&mut self, report: &Accepted) -> Result<bool, StoreError> {
        let Accepted { job, handout, agent, environment, bundle, records } = report;
        let JobKey { experiment, generation, position } = *job;
        let now = epoch_millis(SystemTime::now());
        self.write("keep a report", |transaction| {
            let first = transaction
                .prepare_cached(
                    "UPDATE jobs SET state = 'done', agent = ?, bundle = ?, accepted = ?
                     WHERE experiment = ? AND generation = ? AND position = ? AND state = 'waiting'
                         AND (SELECT generation FROM experiments WHERE id = ?4) = ?5",
                )?
                .execute(params![agent, bundle, now, experiment, generation, position])?;
            let how = if first > 0 { How::Accepted } else { How::Refused };
            transaction
                .prepare_cached("UPDATE handouts SET ended = ?, how = ? WHERE id = ?")?
                .execute(params![now, how.as_str(), handout])?;
            if first == 0 {
                return Ok(false);
            }
            end_open(transaction, *job, How::Dropped, now)?;
            let mut inserts = Inserts::prepare(transaction)?;
            let mut found_by = transaction.prepare_cached(
                "UPDATE results SET agent = ?, environment = ? WHERE experiment = ? AND fingerprint = ? AND attempt = ?",
            )?;
            for record in records {
                inserts.insert(record)?;
                let Step { fingerprint, attempt, .. } = &record.step;
                found_by.execute(params![agent, environment, experiment, fingerprint.to_string(), attempt])?;
            }
            Ok(true)
        })
    }

    /// Gives a job up, with the result of its next step. `false`: it waits no more.
    pub fn poison(&mut self, job: JobKey, record: Option<&Record>) -> Result<bool, StoreError> {
        let JobKey { experiment, generation, position } = job;
        let now = epoch_millis(SystemTime::now());
        self.write("give a job up", |transaction| {
            let poisoned = transaction.execute(
                "UPDATE jobs SET state = 'poisoned', accepted = ?
                 WHERE experiment = ? AND generation = ? AND position = ? AND state = 'waiting'",
                params![now, experiment, generation, position],
            )?;
            end_open(transaction, job, How::Lost, now)?;
            if let Some(record) = record.filter(|_| poisoned > 0) {
                Inserts::prepare(transaction)?.insert(record)?;
            }
            Ok(poisoned > 0)
        })
    }

    /// Withdraws all jobs of an experiment that wait, and ends their handouts. Results stay.
    pub fn withdraw(&mut self, experiment: u32, generation: u32) -> Result<(), StoreError> {
        let now = epoch_millis(SystemTime::now());
        self.write("withdraw jobs", |transaction| {
            transaction.execute(
                "UPDATE jobs SET state = 'withdrawn' WHERE experiment = ? AND generation = ? AND state = 'waiting'",
                [experiment, generation],
            )?;
            transaction.execute(
                "UPDATE handouts SET ended = ?, how = 'dropped'
                 WHERE experiment = ? AND generation = ? AND ended IS NULL",
                params![now, experiment, generation],
            )
        })?;
        Ok(())
    }
}

/// Ends the open handouts of a job.
fn end_open(transaction: &Transaction<'_>, job: JobKey, how: How, now: i64) -> rusqlite::Result<()> {
    let JobKey { experiment, generation, position } = job;
    transaction
        .prepare_cached(
            "UPDATE handouts SET ended = ?, how = ?
             WHERE experiment = ? AND generation = ? AND position = ? AND ended IS NULL",
        )?
        .execute(params![now, how.as_str(), experiment, generation, position])?;
    Ok(())
}
