//! Tokens: found by their id, kept as a digest.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::audit::{self, Change};
use crate::nearest::suggest;
use crate::store::read::time;
use crate::store::{Store, StoreError, epoch_millis};

/// The rights of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Takes jobs and reports results, and nothing else.
    Agent,
    /// Reads everything but tokens.
    Read,
    /// Creates experiments, and manages its own.
    Run,
    /// Everything.
    Admin,
}

/// Why a text is not a role.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is not a role; {}", .0.escape_debug(), suggest(.0, Role::ALL.map(Role::as_str)))]
pub struct BadRole(String);

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// The part of the token by which it is found.
    pub id: String,
    /// Its name, unique among tokens that aren't revoked.
    pub name: String,
    /// SHA-256 of the whole token.
    pub hash: [u8; 32],
    /// Its rights.
    pub role: Role,
    /// Whose experiments are its own.
    pub owner: String,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends.
    pub expires: Option<SystemTime>,
    /// When it was last used, to the minute.
    pub used: Option<SystemTime>,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Agent, Self::Run, Self::Read, Self::Admin];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Read => "read",
            Self::Run => "run",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = BadRole;

    fn from_str(text: &str) -> Result<Self, BadRole> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| BadRole(text.chars().take(80).collect()))
    }
}

const COLUMNS: &str = "id, name, hash, role, owner, created, expires, used";

impl Store {
    /// Keeps a new token. `false`: another token has its name.
    pub fn add_token(&mut self, token: &TokenRecord, change: &Change) -> Result<bool, StoreError> {
        let TokenRecord { id, name, hash, role, owner, created, expires, used: _ } = token;
        self.write("keep a token", |transaction| {
            let added = transaction.execute(
                "INSERT OR IGNORE INTO tokens (id, name, hash, role, owner, created, expires)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
                params![id, name, hash, role.as_str(), owner, epoch_millis(*created), expires.map(epoch_millis)],
            )?;
            if added > 0 {
                audit::note(transaction, change)?;
            }
            Ok(added > 0)
        })
    }

    /// The token of that id, unless it was revoked.
    pub fn token(&self, id: &str) -> Result<Option<TokenRecord>, StoreError> {
        self.connection
            .query_row(&format!("SELECT {COLUMNS} FROM tokens WHERE id = ? AND revoked IS NULL"), [id], record)
            .optional()
            .map_err(self.sql("read a token"))
    }

    /// All tokens that aren't revoked, by name.
    pub fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self
                .connection
                .prepare(&format!("SELECT {COLUMNS} FROM tokens WHERE revoked IS NULL ORDER BY name"))?;
            statement.query_map([], record)?.collect()
        };
        read().map_err(self.sql("list the tokens"))
    }

    /// Ends a token at once. `false`: the name is unknown.
    pub fn revoke_token(&mut self, name: &str, change: &Change) -> Result<bool, StoreError> {
        self.write("revoke a token", |transaction| {
            let now = epoch_millis(SystemTime::now());
            let revoked = transaction
                .execute("UPDATE tokens SET revoked = ? WHERE name = ? AND revoked IS NULL", params![now, name])?;
            if revoked > 0 {
                audit::note(transaction, change)?;
            }
            Ok(revoked > 0)
        })
    }

    /// Notes that a token was used, at most once a minute.
    pub fn touch_token(&mut self, token: &TokenRecord) -> Result<(), StoreError> {
        const STALE: std::time::Duration = std::time::Duration::from_secs(60);
        let now = SystemTime::now();
        if token.used.is_some_and(|used| now.duration_since(used).is_ok_and(|age| age < STALE)) {
            return Ok(());
        }
        self.write("note the use of a token", |transaction| {
            transaction.execute("UPDATE tokens SET used = ? WHERE id = ?", params![epoch_millis(now), token.id])
        })?;
        Ok(())
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<TokenRecord> {
    let role: String = row.get(3)?;
    let maybe = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.is_some());
    Ok(TokenRecord {
        id: row.get(0)?,
        name: row.get(1)?,
        hash: row.get(2)?,
        role: role.parse().map_err(|error: BadRole| {
            rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, error.into())
        })?,
        owner: row.get(4)?,
        created: time(row, 5)?,
        expires: if maybe(6)? { Some(time(row, 6)?) } else { None },
        used: if maybe(7)? { Some(time(row, 7)?) } else { None },
    })
}
