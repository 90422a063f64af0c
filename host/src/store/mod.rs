//! What survives: one SQLite file, written through to the disk before anything depends on it.
//!
//! The store is the host's only memory. Everything that the host does is driven by what is in here, so that after a
//! `kill -9` at any moment it goes on where it was.

mod chain;
mod check;
pub mod command;
mod log;
mod outputs;
mod schema;

pub use chain::StoredEvent;
pub use check::{LogCheck, LogFault};
pub use outputs::{Incarnation, Outgoing, StoredArtifact};

use crate::status::Progress;
use postern_shared::ids::{MemberId, PoolId};
use postern_shared::record::SealedError;
use rusqlite::{Connection, TransactionBehavior};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Why the store failed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite failed.
    #[error("store: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The directory can't be made or used.
    #[error("store {path}: {source}", path = path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Another process has the store open: two of them would spend the wallet's nonces twice.
    #[error("store {path} is in use by another process", path = path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// The file was written by another version of Postern.
    #[error("store: its schema has version {found}, this build reads version {expected}")]
    Schema {
        /// This build's.
        expected: i64,
        /// The file's.
        found: i64,
    },
    /// The enclave says another record than it said before: two enclaves, or one that lies.
    #[error("store: another record {number} of the enclave's log is stored already")]
    OtherRecord {
        /// Which.
        number: u64,
    },
    /// The enclave's next record is not the next one of the log that is stored.
    #[error("store: the enclave's log does not go on where the stored one ends: {0}")]
    Log(SealedError),
    /// A row that does not decode: the file is damaged, or not ours.
    #[error("store: a row of `{table}` does not decode")]
    Damaged {
        /// Which table.
        table: &'static str,
    },
}

/// See the module.
pub struct Store {
    /// Held for as long as the store is open; the operating system lets go of it when the process dies.
    _lock: File,
    connection: Mutex<Connection>,
    /// News of no consequence, for people; not kept.
    news: Mutex<News>,
    /// Wakes whoever waits for work.
    pub changed: Notify,
}

/// What the enclave said lately.
#[derive(Debug, Clone, Default)]
pub struct News {
    /// The latest step of each pool.
    pub progress: BTreeMap<PoolId, Progress>,
    /// Statements that ceremonies miss.
    pub missing: Vec<(postern_shared::ids::CeremonyId, postern_shared::message::Step, MemberId)>,
    /// Members caught cheating, by pool.
    pub faults: BTreeMap<PoolId, Vec<MemberId>>,
    /// What was wrong with the latest evidence that the enclave refused, as this host sees it.
    pub reasons: BTreeMap<MemberId, Vec<String>>,
}

impl Store {
    /// Opens or makes the file `postern.sqlite` in a directory, which one process at a time may do.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Directory { path: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let lock = File::create(directory.join("postern.lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::InUse { path: directory.to_owned() },
            TryLockError::Error(source) => failed(source),
        })?;
        let mut connection = Connection::open(directory.join("postern.sqlite"))?;
        schema::prepare(&connection)?;
        // SQLite waits for another program's lock only at the beginning of a transaction: a deferred one, which reads
        // before it writes, would fail at once.
        connection.set_transaction_behavior(TransactionBehavior::Immediate);
        Ok(Self {
            _lock: lock,
            connection: Mutex::new(connection),
            news: Mutex::new(News::default()),
            changed: Notify::new(),
        })
    }

    /// What the enclave said lately.
    pub fn news(&self) -> News {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the statements that ceremonies miss.
    pub fn take_missing(
        &self,
    ) -> Vec<(postern_shared::ids::CeremonyId, postern_shared::message::Step, MemberId)> {
        std::mem::take(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner).missing)
    }

    /// A panic elsewhere leaves SQLite's own state consistent: an open transaction is rolled back.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn decode<T: serde::Serialize + serde::de::DeserializeOwned>(
    table: &'static str,
    bytes: &[u8],
) -> Result<T, StoreError> {
    postern_shared::codec::decode(bytes).map_err(|_| StoreError::Damaged { table })
}

fn from_json<T: serde::de::DeserializeOwned>(table: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Damaged { table })
}

fn to_json<T: serde::Serialize>(table: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::Damaged { table })
}

#[cfg(test)]
mod tests;
