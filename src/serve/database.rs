//! The database for many requests at a time: a few connections, each used by one thread.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::store::{Store, StoreError};

/// How many requests use the database at a time: SQLite writes one at a time, and reads are short.
const CONNECTIONS: usize = 8;

/// Connections to one database.
#[derive(Debug, Clone)]
pub struct Database(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    idle: Mutex<Vec<Store>>,
    permits: Arc<Semaphore>,
}

impl Database {
    /// Opens the database, making it if need be.
    pub(super) fn open(path: PathBuf) -> Result<Self, StoreError> {
        let first = Store::open(&path)?;
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        Ok(Self(Arc::new(Inner { path, idle: Mutex::new(vec![first]), permits })))
    }

    /// Runs `work` on a thread that may block.
    pub async fn with<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        // Never closed. A caller that gives up leaves its permit with the thread.
        let permit = Arc::clone(&self.0.permits).acquire_owned().await;
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            inner.now(work)
        });
        match done.await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Panicked.into()),
        }
    }

    /// The same on this thread, which blocks.
    pub fn now<T, E: From<StoreError>>(&self, work: impl FnOnce(&mut Store) -> Result<T, E>) -> Result<T, E> {
        self.0.now(work)
    }
}

impl Inner {
    fn now<T, E: From<StoreError>>(&self, work: impl FnOnce(&mut Store) -> Result<T, E>) -> Result<T, E> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut store = match idle {
            Some(store) => store,
            None => Store::open(&self.path)?,
        };
        // A panic drops the connection, and with it the transaction.
        let result = work(&mut store);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(store);
        result
    }
}
