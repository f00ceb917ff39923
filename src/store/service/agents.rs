//! Agents: found by their tokens, with their last introductions.

use std::time::SystemTime;

use rusqlite::{OptionalExtension, Row, params};

use super::audit::{self, Change, Via};
use crate::store::{Store, StoreError, epoch_millis};

/// An agent, as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRecord {
    /// Its number.
    pub id: u32,
    /// Its name: that of its token.
    pub name: String,
    /// Its last introduction, as JSON.
    pub hello: Option<String>,
    /// Whether it is given no more jobs.
    pub paused: bool,
    /// Whether it is refused altogether.
    pub banned: bool,
}

impl Store {
    /// The agent with this token, made if it isn't there.
    pub fn agent(&mut self, token: &str, name: &str) -> Result<AgentRecord, StoreError> {
        // Every request of an agent asks: only its first one has something to write.
        let known = self
            .connection
            .prepare_cached("SELECT id, name, hello, paused, banned FROM agents WHERE name = ? AND token = ?")
            .and_then(|mut statement| statement.query_row([name, token], record).optional())
            .map_err(self.sql("look an agent up"))?;
        if let Some(known) = known {
            return Ok(known);
        }
        self.write("look an agent up", |transaction| {
            transaction.execute(
                "INSERT INTO agents (name, token) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET token = ?2
                 WHERE token <> ?2",
                [name, token],
            )?;
            transaction.query_row("SELECT id, name, hello, paused, banned FROM agents WHERE name = ?", [name], record)
        })
    }

    /// All agents, by name.
    pub fn agents(&self) -> Result<Vec<AgentRecord>, StoreError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let query = "SELECT id, name, hello, paused, banned FROM agents ORDER BY name";
            self.connection.prepare(query)?.query_map([], record)?.collect()
        };
        read().map_err(self.sql("list the agents"))
    }

    /// Keeps the introduction of an agent.
    pub fn introduce(&mut self, agent: u32, hello: &str, labels: &str) -> Result<(), StoreError> {
        let now = epoch_millis(SystemTime::now());
        self.write("keep an agent's introduction", |transaction| {
            transaction.execute(
                "UPDATE agents SET hello = ?, labels = ?, seen = ? WHERE id = ?",
                params![hello, labels, now, agent],
            )
        })?;
        Ok(())
    }

    /// The name of an agent.
    pub fn agent_name(&self, agent: u32) -> Result<Option<String>, StoreError> {
        self.connection
            .query_row("SELECT name FROM agents WHERE id = ?", [agent], |row| row.get(0))
            .optional()
            .map_err(self.sql("look an agent up"))
    }

    /// Gives an agent no more jobs.
    pub fn pause_agent(&mut self, agent: u32, name: &str) -> Result<(), StoreError> {
        let change = Change::new("dispatcher", Via::Server, format!("agent {name}: pause"));
        self.write("pause an agent", |transaction| {
            transaction.execute("UPDATE agents SET paused = 1 WHERE id = ?", [agent])?;
            audit::note(transaction, &change)
        })
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<AgentRecord> {
    let (id, name, hello) = (row.get(0)?, row.get(1)?, row.get(2)?);
    Ok(AgentRecord { id, name, hello, paused: row.get(3)?, banned: row.get(4)? })
}
