//! Makes a database ours, and brings an older one up to date.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::{BUSY_TIMEOUT, StoreError};

/// `maar` in ASCII; marks our databases (<https://www.sqlite.org/pragma.html#pragma_application_id>).
const APPLICATION_ID: i64 = 0x6d61_6172;

/// The steps from an empty database to the newest schema; `user_version` counts those that were taken.
const MIGRATIONS: &[&str] = &[
    include_str!("001_initial.sql"),
    include_str!("002_runs.sql"),
    include_str!("003_settings.sql"),
    include_str!("004_units.sql"),
    include_str!("005_removal.sql"),
    include_str!("006_tests.sql"),
    include_str!("007_queries.sql"),
    include_str!("008_in_op.sql"),
    include_str!("009_service.sql"),
    include_str!("010_ranks.sql"),
];

/// Prepares a fresh connection: its settings, and the schema if it isn't the newest.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    check_owner(connection, path)?;
    let settings = "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL;";
    connection.execute_batch(settings).map_err(StoreError::sql(path, "set up a connection"))?;
    migrate(connection, path, MIGRATIONS)
}

/// Refuses a database that another program made.
fn check_owner(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = || StoreError::sql(path, "read the header");
    // In this order: another process may create ours in between, which sets both at once.
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).map_err(failed())?;
    let id: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(failed())?;
    match (tables, id) {
        (0, 0) | (_, APPLICATION_ID) => Ok(()),
        _ => Err(StoreError::NotOurs { path: path.to_owned() }),
    }
}

fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    if pending(connection, path, migrations)?.is_empty() {
        return Ok(());
    }
    let failed = || StoreError::sql(path, "bring the schema up to date");
    set_file_format(connection).map_err(failed())?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed())?;
    // Asked again, now that no other process can be at it too.
    for migration in pending(&transaction, path, migrations)? {
        transaction.execute_batch(migration).map_err(failed())?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed())?;
    transaction.pragma_update(None, "user_version", migrations.len() as i64).map_err(failed())?;
    transaction.commit().map_err(failed())
}

/// Sets the options that can't change once there are tables, and can't be set inside a transaction.
fn set_file_format(connection: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;") {
            // SQLite's own timeout doesn't cover the switch to WAL, at which another process may be too.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

/// The migrations that the database has not seen.
fn pending<'m, 's>(
    connection: &Connection,
    path: &Path,
    migrations: &'m [&'s str],
) -> Result<&'m [&'s str], StoreError> {
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(StoreError::sql(path, "read the schema version"))?;
    usize::try_from(found).ok().and_then(|seen| migrations.get(seen..)).ok_or_else(|| StoreError::Newer {
        path: path.to_owned(),
        found,
        known: migrations.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> i64 {
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_older_schema_gets_the_migrations_that_it_lacks() {
        let mut connection = Connection::open_in_memory().unwrap();
        let first = "CREATE TABLE a (x);";
        let second = "ALTER TABLE a ADD COLUMN y; INSERT INTO a (x, y) VALUES (1, 2);";
        migrate(&mut connection, Path::new("db"), &[first]).unwrap();
        migrate(&mut connection, Path::new("db"), &[first, second]).unwrap();
        migrate(&mut connection, Path::new("db"), &[first, second]).unwrap();
        assert_eq!(version(&connection), 2);
        let rows: i64 = connection.query_row("SELECT sum(y) FROM a", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 2);
    }

    #[test]
    fn results_of_an_older_maar_have_no_units() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, Path::new("db"), &MIGRATIONS[..3]).unwrap();
        let old = "INSERT INTO experiments VALUES (1, 'x', 0, 0, '[]', '[]', NULL);
            INSERT INTO results (experiment, fingerprint, attempt, crate, op, stage, kind, outcome, started, queued, wall,
                cpu, worker) VALUES (1, 'f', 1, 'a', 'build', 'build', 'passed', '\"Passed\"', 0, 0, 0, 0, 0);";
        connection.execute_batch(old).unwrap();
        migrate(&mut connection, Path::new("db"), &MIGRATIONS[..4]).unwrap();
        let units = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let units: (i64, i64) = connection.query_row("SELECT compiled, reused FROM results", [], units).unwrap();
        assert_eq!(units, (0, 0));
    }

    #[test]
    fn results_of_an_older_maar_have_no_tests_and_speak_for_their_ops() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, Path::new("db"), &MIGRATIONS[..5]).unwrap();
        let old = "INSERT INTO experiments VALUES (1, 'x', 0, 0, '[]', '[]', NULL);
            INSERT INTO results (experiment, fingerprint, attempt, crate, op, stage, kind, outcome, started, queued, wall,
                cpu, worker) VALUES (1, 'f', 1, 'a', 'test', 'test', 'passed', '\"Passed\"', 0, 0, 0, 0, 0);";
        connection.execute_batch(old).unwrap();
        migrate(&mut connection, Path::new("db"), &MIGRATIONS[..6]).unwrap();
        let tests = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let tests: (Option<Vec<u8>>, i64) =
            connection.query_row("SELECT tests, partial FROM results", [], tests).unwrap();
        assert_eq!(tests, (None, 0));
    }

    #[test]
    fn a_migration_that_fails_leaves_the_schema_as_it_was() {
        let mut connection = Connection::open_in_memory().unwrap();
        let broken = "CREATE TABLE a (x); CREATE TABLE a (x);";
        assert!(migrate(&mut connection, Path::new("db"), &[broken]).is_err());
        assert_eq!(version(&connection), 0);
        check_owner(&connection, Path::new("db")).unwrap();
    }

    #[test]
    fn a_newer_schema_is_refused_and_named() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 11).unwrap();
        let error = prepare(&mut connection, Path::new("home/maar.db")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "home/maar.db was written by a newer maar (schema 11, this one knows up to 10); \
             use that one, or another home"
        );
    }

    #[test]
    fn a_database_of_another_program_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
        let error = prepare(&mut connection, Path::new("their.db")).unwrap_err();
        assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
    }
}
