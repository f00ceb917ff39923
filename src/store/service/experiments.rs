//! The queue of experiments: each one as it was sent, its state and turn, and the verdicts so far.

use std::time::SystemTime;

use rusqlite::{OptionalExtension, Row, ToSql, Transaction, params, params_from_iter};

use super::audit::{self, Change};
use crate::store::read::{count, time};
use crate::store::{Store, StoreError, epoch_millis};

/// How far an experiment of a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum State {
    Planning,
    Invalid,
    Queued,
    Running,
    Confirming,
    Reporting,
    ReportFailed,
    Done,
    Aborting,
    Aborted,
}

/// An experiment as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// `toml` or `json`.
    pub form: String,
    /// The settings.
    pub text: String,
    /// Whether the next run forgets the results and versions of earlier ones.
    pub fresh: bool,
    /// Its Idempotency-Key.
    pub key: Option<String>,
    /// SHA-256 of the request, in hexadecimal digits.
    pub digest: String,
    /// The token's owner.
    pub owner: String,
}

/// How sending an experiment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It is new.
    Created,
    /// The same request came before, and made the experiment of this name.
    Repeated(String),
    /// Another request came with the same key.
    KeyReused,
    /// Another experiment has its name.
    Taken,
    /// The owner has as many open experiments as it may have.
    TooManyOpen(u64),
}

/// An experiment in the queue, or one of `maar run`.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// Its row.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: SystemTime,
    /// When it last began or got a result.
    pub updated: SystemTime,
    /// How far it is; `None`: `maar run` works on it.
    pub state: Option<State>,
    /// Raised by every rerun.
    pub generation: u64,
    /// The greatest is first.
    pub priority: i64,
    /// Its share among equal priorities.
    pub weight: f64,
    /// Whether it waits for its owner.
    pub paused: bool,
    /// The demands on a machine, as JSON.
    pub needs: String,
    /// Whether regressions are confirmed.
    pub confirm: Option<bool>,
    /// The people to notify of its end, as JSON.
    pub notify: String,
    /// The token's owner who created it.
    pub owner: Option<String>,
    /// Raised by every edit.
    pub etag: u64,
    /// When it was last queued.
    pub queued: Option<SystemTime>,
    /// When it was last done or aborted.
    pub ended: Option<SystemTime>,
    /// Why it is invalid, has no report or ended early.
    pub trouble: Option<String>,
    /// How many crates its plan has.
    pub crates: u64,
    /// The CPU time of all its ops, in microseconds.
    pub spent: u64,
}

/// A page of the list.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those of this owner.
    pub owner: Option<String>,
    /// Only those behind the one with this row, as the newest is first.
    pub before: Option<i64>,
    /// How many at most.
    pub most: usize,
}

/// An edit; absent: as before.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of `Served`")]
pub struct Edit {
    pub priority: Option<i64>,
    pub weight: Option<f64>,
    pub paused: Option<bool>,
    pub needs: Option<String>,
    pub notify: Option<String>,
}

/// The crates that a rerun repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those whose verdict is one of these.
    Verdicts(Vec<String>),
    /// Those of these names: `NAME` or `NAME@VERSION`.
    Names(Vec<String>),
}

impl State {
    /// All states.
    pub const ALL: [Self; 10] = [
        Self::Planning,
        Self::Invalid,
        Self::Queued,
        Self::Running,
        Self::Confirming,
        Self::Reporting,
        Self::ReportFailed,
        Self::Done,
        Self::Aborting,
        Self::Aborted,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Invalid => "invalid",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Confirming => "confirming",
            Self::Reporting => "reporting",
            Self::ReportFailed => "report-failed",
            Self::Done => "done",
            Self::Aborting => "aborting",
            Self::Aborted => "aborted",
        }
    }

    /// The state of that name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether the server has nothing more to do for it.
    pub fn is_settled(self) -> bool {
        match self {
            Self::Invalid | Self::ReportFailed | Self::Done | Self::Aborted => true,
            Self::Planning | Self::Queued | Self::Running | Self::Confirming | Self::Reporting | Self::Aborting => {
                false
            }
        }
    }
}

const COLUMNS: &str =
    "e.id, e.name, e.created, e.updated, e.state, e.generation, e.priority, e.weight, e.paused, e.needs,
     e.confirm, e.notify, e.owner, e.etag, e.queued, e.ended, e.trouble,
     (SELECT count(*) FROM crates c WHERE c.experiment = e.id),
     (SELECT coalesce(sum(r.cpu), 0) FROM results r WHERE r.experiment = e.id)";

const OPEN: &str = "state IN ('planning', 'queued', 'running', 'confirming', 'reporting', 'aborting')";

impl Store {
    /// Puts an experiment into the queue, to be planned. `most_open`: how many open ones its owner may have.
    pub fn submit(
        &mut self,
        name: &str,
        submission: &Submission,
        service: (&Edit, Option<bool>),
        most_open: Option<u64>,
    ) -> Result<Submitted, StoreError> {
        let Submission { form, text, fresh, key, digest, owner } = submission;
        let (Edit { priority, weight, paused: _, needs, notify }, confirm) = service;
        self.write("queue an experiment", |transaction| {
            if let Some(key) = key {
                let earlier: Option<(String, String)> = transaction
                    .query_row(
                        "SELECT e.name, s.digest FROM submissions s JOIN experiments e ON e.id = s.experiment
                         WHERE s.owner = ? AND s.key = ?",
                        [owner, key],
                        |row| Ok((row.get(0)?, row.get(1)?)),
                    )
                    .optional()?;
                match earlier {
                    Some((name, earlier)) if earlier == *digest => return Ok(Submitted::Repeated(name)),
                    Some(_) => return Ok(Submitted::KeyReused),
                    None => {}
                }
            }
            if transaction.prepare("SELECT 1 FROM experiments WHERE name = ?")?.exists([name])? {
                return Ok(Submitted::Taken);
            }
            let open: i64 = transaction.query_row(
                &format!("SELECT count(*) FROM experiments WHERE owner = ? AND {OPEN}"),
                [owner],
                |row| row.get(0),
            )?;
            let open = open.unsigned_abs();
            if most_open.is_some_and(|most| open >= most) {
                return Ok(Submitted::TooManyOpen(open));
            }
            let now = epoch_millis(SystemTime::now());
            transaction.execute(
                "INSERT INTO experiments (name, created, updated, toolchains, notes, state, priority, weight, needs,
                     confirm, notify, owner, queued)
                 VALUES (?1, ?2, ?2, '[]', '[]', 'planning', ?3, ?4, ?5, ?6, ?7, ?8, ?2)",
                params![
                    name,
                    now,
                    priority.unwrap_or(0),
                    weight.unwrap_or(1.0),
                    needs.as_deref().unwrap_or("{}"),
                    confirm,
                    notify.as_deref().unwrap_or("[]"),
                    owner,
                ],
            )?;
            let id = transaction.last_insert_rowid();
            transaction.execute(
                "INSERT INTO submissions (experiment, form, text, fresh, key, digest, owner)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
                params![id, form, text, fresh, key, digest, owner],
            )?;
            let what = format!("experiment {name}: create");
            audit::note(transaction, &Change::new(owner.as_str(), super::Via::Api, what))?;
            Ok(Submitted::Created)
        })
    }

    /// The experiment as it was sent; `None`: the name is unknown, or `maar run` made it.
    pub fn submission(&self, name: &str) -> Result<Option<Submission>, StoreError> {
        self.connection
            .query_row(
                "SELECT form, text, fresh, key, digest, s.owner FROM submissions s
                     JOIN experiments e ON e.id = s.experiment WHERE e.name = ?",
                [name],
                |row| {
                    Ok(Submission {
                        form: row.get(0)?,
                        text: row.get(1)?,
                        fresh: row.get(2)?,
                        key: row.get(3)?,
                        digest: row.get(4)?,
                        owner: row.get(5)?,
                    })
                },
            )
            .optional()
            .map_err(self.sql("read what was sent"))
    }

    /// The experiment of that name.
    pub fn served(&self, name: &str) -> Result<Option<Served>, StoreError> {
        self.connection
            .query_row(&format!("SELECT {COLUMNS} FROM experiments e WHERE e.name = ?"), [name], served)
            .optional()
            .map_err(self.sql("read an experiment"))
    }

    /// Whether an experiment of that name exists.
    pub fn has_experiment(&self, name: &str) -> Result<bool, StoreError> {
        let found = self.connection.prepare_cached("SELECT 1 FROM experiments WHERE name = ?");
        found.and_then(|mut statement| statement.exists([name])).map_err(self.sql("look for an experiment"))
    }

    /// The names of the newest 1,000 experiments.
    pub fn experiment_names(&self) -> Result<Vec<String>, StoreError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let query = "SELECT name FROM experiments ORDER BY id DESC LIMIT 1000";
            self.connection.prepare(query)?.query_map([], |row| row.get(0))?.collect()
        };
        read().map_err(self.sql("list the names of experiments"))
    }

    /// The newest experiments.
    pub fn list_served(&self, page: &Listed) -> Result<Vec<Served>, StoreError> {
        let Listed { state, owner, before, most } = page;
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self.connection.prepare(&format!(
                "SELECT {COLUMNS} FROM experiments e
                 WHERE (?1 IS NULL OR e.state = ?1) AND (?2 IS NULL OR e.owner = ?2) AND (?3 IS NULL OR e.id < ?3)
                 ORDER BY e.id DESC LIMIT ?4"
            ))?;
            let found = statement.query_map(params![state.map(State::as_str), owner, before, *most as i64], served)?;
            found.collect()
        };
        read().map_err(self.sql("list the experiments"))
    }

    /// The experiments that are not settled, the oldest first.
    pub fn open_experiments(&self) -> Result<Vec<Served>, StoreError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self
                .connection
                .prepare(&format!("SELECT {COLUMNS} FROM experiments e WHERE {OPEN} ORDER BY e.queued, e.id"))?;
            statement.query_map([], served)?.collect()
        };
        read().map_err(self.sql("list the queue"))
    }

    /// Edits an experiment, if its `etag` is as the caller believes. `false`: it isn't.
    pub fn edit(&mut self, name: &str, etag: Option<u64>, edit: &Edit, change: &Change) -> Result<bool, StoreError> {
        let Edit { priority, weight, paused, needs, notify } = edit;
        self.write("edit an experiment", |transaction| {
            let edited = transaction.execute(
                "UPDATE experiments SET priority = coalesce(?3, priority), weight = coalesce(?4, weight),
                     paused = coalesce(?5, paused), needs = coalesce(?6, needs), notify = coalesce(?7, notify),
                     etag = etag + 1
                 WHERE name = ?1 AND (?2 IS NULL OR etag = ?2)",
                params![name, etag.map(u64::cast_signed), priority, weight, paused, needs, notify],
            )?;
            if edited > 0 {
                audit::note(transaction, change)?;
            }
            Ok(edited > 0)
        })
    }

    /// Moves an experiment from one of some states to another. `false`: it is in none of them.
    pub fn turn(
        &mut self,
        name: &str,
        from: &[State],
        to: State,
        trouble: Option<&str>,
        change: Option<&Change>,
    ) -> Result<bool, StoreError> {
        self.write("change the state of an experiment", |transaction| {
            let turned = turn(transaction, name, from, to, trouble)?;
            if let (true, Some(change)) = (turned, change) {
                audit::note(transaction, change)?;
            }
            Ok(turned)
        })
    }

    /// Queues a settled experiment again, and forgets the results of the crates that it repeats. `false`: it isn't in
    /// one of the states.
    pub fn rerun(
        &mut self,
        name: &str,
        from: &[State],
        which: &Which,
        fresh: bool,
        change: &Change,
    ) -> Result<bool, StoreError> {
        self.write("queue an experiment again", |transaction| {
            if !turn(transaction, name, from, State::Planning, None)? {
                return Ok(false);
            }
            let id: i64 = transaction.query_row("SELECT id FROM experiments WHERE name = ?", [name], |row| row.get(0))?;
            transaction.execute(
                "UPDATE experiments SET generation = generation + 1, cursor = 0, paused = 0, etag = etag + 1, ended = NULL
                 WHERE id = ?",
                [id],
            )?;
            transaction.execute("DELETE FROM jobs WHERE experiment = ?", [id])?;
            transaction.execute("DELETE FROM handouts WHERE experiment = ?", [id])?;
            transaction.execute("UPDATE submissions SET fresh = ? WHERE experiment = ?", params![fresh, id])?;
            forget(transaction, id, which)?;
            audit::note(transaction, change)?;
            Ok(true)
        })
    }

    /// Notes that earlier results and versions were forgotten.
    pub fn used_fresh(&mut self, name: &str) -> Result<(), StoreError> {
        self.write("note that results were forgotten", |transaction| {
            let of = "experiment = (SELECT id FROM experiments WHERE name = ?)";
            transaction.execute(&format!("UPDATE submissions SET fresh = 0 WHERE {of}"), [name])
        })?;
        Ok(())
    }

    /// How many crates have each verdict so far.
    pub fn verdict_counts(&self, name: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self.connection.prepare(
                "SELECT verdict, count(*) FROM verdicts
                 WHERE experiment = (SELECT id FROM experiments WHERE name = ?) GROUP BY verdict",
            )?;
            statement.query_map([name], |row| Ok((row.get(0)?, count(row, 1)?)))?.collect()
        };
        read().map_err(self.sql("count the verdicts"))
    }

    /// Crates with their verdicts and reasons, in the order of their names: those with this verdict, behind `after`.
    pub fn verdicts(
        &self,
        name: &str,
        verdict: Option<&str>,
        after: &str,
        most: usize,
    ) -> Result<Vec<(String, String, Option<String>)>, StoreError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self.connection.prepare(
                "SELECT crate, verdict, reason FROM verdicts
                 WHERE experiment = (SELECT id FROM experiments WHERE name = ?1) AND (?2 IS NULL OR verdict = ?2)
                     AND crate > ?3 ORDER BY crate LIMIT ?4",
            )?;
            let found = statement.query_map(params![name, verdict, after, most as i64], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
            found.collect()
        };
        read().map_err(self.sql("list the verdicts"))
    }

    /// The most frequent reasons, with their verdicts and how many crates have them.
    pub fn causes(&self, name: &str, most: usize) -> Result<Vec<(String, String, u64)>, StoreError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self.connection.prepare(
                "SELECT verdict, reason, count(*) AS crates FROM verdicts
                 WHERE experiment = (SELECT id FROM experiments WHERE name = ?) AND reason IS NOT NULL
                     AND verdict != 'pending' GROUP BY verdict, reason ORDER BY crates DESC, verdict, reason LIMIT ?",
            )?;
            statement
                .query_map(params![name, most as i64], |row| Ok((row.get(0)?, row.get(1)?, count(row, 2)?)))?
                .collect()
        };
        read().map_err(self.sql("count the causes"))
    }

    /// Keeps verdicts: crate, verdict and reason. `replace`: they are all there are.
    pub fn keep_verdicts(
        &mut self,
        name: &str,
        verdicts: &[(String, String, Option<String>)],
        replace: bool,
    ) -> Result<(), StoreError> {
        self.write("keep verdicts", |transaction| {
            let id: Option<i64> = transaction
                .query_row("SELECT id FROM experiments WHERE name = ?", [name], |row| row.get(0))
                .optional()?;
            let Some(id) = id else { return Ok(()) };
            if replace {
                transaction.execute("DELETE FROM verdicts WHERE experiment = ?", [id])?;
            }
            let mut insert = transaction
                .prepare("INSERT OR REPLACE INTO verdicts (experiment, crate, verdict, reason) VALUES (?, ?, ?, ?)")?;
            for (krate, verdict, reason) in verdicts {
                insert.execute(params![id, krate, verdict, reason])?;
            }
            Ok(())
        })
    }

    /// The places in the plan of the crates of that name, and of that version if one is given.
    pub fn positions(&self, name: &str, krate: &str, version: Option<&str>) -> Result<Vec<u64>, StoreError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self.connection.prepare(
                "SELECT position FROM crates WHERE experiment = (SELECT id FROM experiments WHERE name = ?1)
                     AND json_extract(selected, '$.id.name') = ?2
                     AND (?3 IS NULL OR json_extract(selected, '$.id.version') = ?3) ORDER BY position",
            )?;
            statement.query_map(params![name, krate, version], |row| count(row, 0))?.collect()
        };
        read().map_err(self.sql("find a crate"))
    }
}

fn turn(
    transaction: &Transaction<'_>,
    name: &str,
    from: &[State],
    to: State,
    trouble: Option<&str>,
) -> rusqlite::Result<bool> {
    let now = epoch_millis(SystemTime::now());
    let queued = (to == State::Planning).then_some(now);
    let ended = matches!(to, State::Done | State::Aborted).then_some(now);
    let mut values: Vec<&dyn ToSql> = vec![&name];
    let (to, froms): (&str, Vec<&str>) = (to.as_str(), from.iter().map(|state| state.as_str()).collect());
    values.extend([&to as &dyn ToSql, &trouble, &queued, &ended]);
    values.extend(froms.iter().map(|state| state as &dyn ToSql));
    let places: Vec<String> = (6..6 + froms.len()).map(|place| format!("?{place}")).collect();
    let turned = transaction.execute(
        &format!(
            "UPDATE experiments SET state = ?2, trouble = ?3, queued = coalesce(?4, queued), ended = coalesce(?5, ended)
             WHERE name = ?1 AND state IN ({})",
            places.join(", ")
        ),
        params_from_iter(values),
    )?;
    Ok(turned > 0)
}

/// Deletes results and verdicts of the crates that are to run again.
fn forget(transaction: &Transaction<'_>, id: i64, which: &Which) -> rusqlite::Result<()> {
    let crates: Vec<String> = match which {
        Which::All => {
            transaction.execute("DELETE FROM results WHERE experiment = ?", [id])?;
            transaction.execute("DELETE FROM verdicts WHERE experiment = ?", [id])?;
            return Ok(());
        }
        Which::Names(names) => names.clone(),
        Which::Verdicts(verdicts) => {
            let mut found = Vec::new();
            for verdict in verdicts {
                let mut statement =
                    transaction.prepare("SELECT crate FROM verdicts WHERE experiment = ? AND verdict = ?")?;
                let rows = statement.query_map(params![id, verdict], |row| row.get::<_, String>(0))?;
                found.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
            }
            found
        }
    };
    for krate in crates {
        let (name, version) = match krate.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (krate.as_str(), None),
        };
        transaction.execute(
            "DELETE FROM results WHERE experiment = ?1 AND crate = ?2 AND (?3 IS NULL OR version = ?3)",
            params![id, name, version],
        )?;
        transaction.execute(
            "DELETE FROM verdicts WHERE experiment = ?1 AND (crate = ?2 OR (?3 IS NULL AND crate LIKE ?4 ESCAPE '\\'))",
            params![id, krate, version, format!("{}@%", name.replace('_', "\\_"))],
        )?;
    }
    Ok(())
}

fn served(row: &Row<'_>) -> rusqlite::Result<Served> {
    let maybe = |column| -> rusqlite::Result<Option<SystemTime>> {
        match row.get::<_, Option<i64>>(column)? {
            Some(_) => time(row, column).map(Some),
            None => Ok(None),
        }
    };
    let state: Option<String> = row.get(4)?;
    Ok(Served {
        id: row.get(0)?,
        name: row.get(1)?,
        created: time(row, 2)?,
        updated: time(row, 3)?,
        state: state.as_deref().and_then(State::of),
        generation: count(row, 5)?,
        priority: row.get(6)?,
        weight: row.get(7)?,
        paused: row.get(8)?,
        needs: row.get(9)?,
        confirm: row.get(10)?,
        notify: row.get(11)?,
        owner: row.get(12)?,
        etag: count(row, 13)?,
        queued: maybe(14)?,
        ended: maybe(15)?,
        trouble: row.get(16)?,
        crates: count(row, 17)?,
        spent: count(row, 18)?,
    })
}
