//! Who changed what: one row a change, in the transaction of the change itself.

use std::time::SystemTime;

use rusqlite::{Transaction, params};

use crate::store::{Store, StoreError, epoch_millis};

/// How a change came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Via {
    Api,
    Cli,
    Github,
    Server,
}

/// A change, for the audit.
#[derive(Debug, Clone)]
pub struct Change {
    /// The token's owner, or the name of the part of the server.
    pub who: String,
    /// How it came in.
    pub via: Via,
    /// The change, such as `experiment NAME: abort`.
    pub what: String,
    /// The values before, as JSON.
    pub before: Option<String>,
    /// The values after it, as JSON.
    pub after: Option<String>,
}

impl Via {
    fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Cli => "cli",
            Self::Github => "github",
            Self::Server => "server",
        }
    }
}

impl Change {
    /// A change without values.
    pub fn new(who: impl Into<String>, via: Via, what: impl Into<String>) -> Self {
        Self { who: who.into(), via, what: what.into(), before: None, after: None }
    }
}

impl Store {
    /// Notes a change outside of any transaction.
    pub fn audit(&mut self, change: &Change) -> Result<(), StoreError> {
        self.write("write the audit", |transaction| note(transaction, change))
    }

    /// The latest changes, newest first: when, who, how and what.
    pub fn audited(&self, most: usize) -> Result<Vec<(i64, String, String, String)>, StoreError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement =
                self.connection.prepare("SELECT at, who, via, what FROM audit ORDER BY id DESC LIMIT ?")?;
            let rows =
                statement.query_map([most as i64], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
            rows.collect()
        };
        read().map_err(self.sql("read the audit"))
    }
}

/// Notes a change within its transaction.
pub(super) fn note(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    let Change { who, via, what, before, after } = change;
    transaction.execute(
        "INSERT INTO audit (at, who, via, what, before, after) VALUES (?, ?, ?, ?, ?, ?)",
        params![epoch_millis(SystemTime::now()), who, via.as_str(), what, before, after],
    )?;
    Ok(())
}
