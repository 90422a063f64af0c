//! What survives: one SQLite file, or a schema in PostgreSQL, written through to the disk before anything depends on it.
//!
//! The store is the host's only memory. Everything that the host does is driven by what is in here, so that after a
//! `kill -9` at any moment it goes on where it was.
//!
//! Whoever asks waits for the answer, without `async`: for a disk, or for a server. On the daemon's runtime only the task that
//! asks waits, and those that want the store too; every other task goes on (`crate::blocking`).

mod chain;
mod check;
pub mod command;
mod database;
mod log;
mod migration;
mod outputs;
mod place;
mod postgres;
mod prune;
mod schema;
mod sqlite;
mod transfer;

pub use chain::StoredEvent;
pub use check::{LogCheck, LogFault};
pub use migration::NumberedPools;
pub use outputs::{Incarnation, LONGEST_DELAY, Outgoing, StoredArtifact};
pub use place::Place;
pub use postgres::PostgresPlace;
pub use transfer::TransferError;

use crate::blocking;
use crate::status::{PoolStatus, Progress};
use database::{Database, Row, Value};
use postern_shared::ids::{MemberId, PoolId};
use postern_shared::record::SealedError;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Why the store failed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite failed.
    #[error("store: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL failed, or the connection to it.
    #[error("store: PostgreSQL: {0}")]
    Postgres(String),
    /// PostgreSQL does not let this host in.
    #[error("store: {place}: {reason}")]
    Unreachable {
        /// Which database.
        place: String,
        /// Why.
        reason: String,
    },
    /// PostgreSQL is set up to lose what it has said that it keeps, or not to take all that is to be kept.
    #[error("store: PostgreSQL has `{setting} = {found}`; {expected} is needed, to lose nothing")]
    Setting {
        /// Which setting.
        setting: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// Another host of this member has begun to use the store; this one must end.
    #[error("store: another host has taken it over (generation {found}; this host is generation {own})")]
    TakenOver {
        /// This host's generation.
        own: i64,
        /// The newest.
        found: i64,
    },
    /// The directory can't be made or used.
    #[error("store {path}: {source}", path = path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Another process has the store open: two of them would spend the wallet's nonces twice.
    #[error("store: {place} is in use by another process")]
    InUse {
        /// Where.
        place: String,
    },
    /// The store was written by a later build, or one that is too old.
    #[error("store: its tables have version {found}, this build reads versions {oldest} to {newest}")]
    Schema {
        /// The oldest that this build reads.
        oldest: i64,
        /// This build's.
        newest: i64,
        /// The store's.
        found: i64,
    },
    /// The store is of version 2 or earlier, and nobody has said which pool manager's pools it numbers.
    #[error(
        "store: it knows pools by their number alone; opened without a manifest, nobody says whose they are"
    )]
    Nameless,
    /// The store can't be made into one of this build's version yet.
    #[error(
        "store: a result waits (row {id} of `artifacts`) in a form that this build does not know: \
         start the build that wrote it until it has done with it"
    )]
    Unfinished {
        /// The result's row.
        id: i64,
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
    /// A column of another kind than the tables have.
    #[error("store: column {column} of an answer is of another kind")]
    Column {
        /// Which, from 0.
        column: usize,
    },
    /// A row that does not decode: the store is damaged, or not ours.
    #[error("store: a row of `{table}` does not decode")]
    Damaged {
        /// Which table.
        table: &'static str,
    },
    /// A row with a name that does not decode: the store is damaged, or not ours.
    #[error("store: row `{key}` of `{table}` does not decode")]
    DamagedRow {
        /// Which table.
        table: &'static str,
        /// Which row: its primary key.
        key: String,
    },
}

/// See the module.
pub struct Store {
    database: Mutex<Database>,
    /// News of no consequence, for people; not kept.
    news: Mutex<News>,
    /// All pools, as they were last read, until one changes.
    read_pools: Mutex<Option<Vec<PoolStatus>>>,
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
    /// Opens or makes a store, which one process at a time may do. One of an earlier version is made into one of this build's, as
    /// long as that knew pools by their full names: others take [`Self::open_of`].
    pub fn open(place: &Place) -> Result<Self, StoreError> {
        blocking::run(|| Self::open_and_upgrade(place, None))
    }

    /// The same. In a store that knows pools by their number alone, `pools` says whose they are.
    pub fn open_of(place: &Place, pools: NumberedPools) -> Result<Self, StoreError> {
        blocking::run(|| Self::open_and_upgrade(place, Some(pools)))
    }

    fn open_and_upgrade(place: &Place, pools: Option<NumberedPools>) -> Result<Self, StoreError> {
        let mut database = match place {
            Place::Directory(directory) => Database::Sqlite(sqlite::Sqlite::open(directory)?),
            Place::Postgres(place) => Database::Postgres(postgres::Server::open(place)?),
        };
        migration::upgrade(&mut database, pools)?;
        Ok(Self {
            database: Mutex::new(database),
            news: Mutex::new(News::default()),
            read_pools: Mutex::new(None),
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

    /// Does something with the database, however long its disk or its server takes. A panic elsewhere leaves it consistent: an open
    /// transaction is undone.
    fn with<T>(&self, body: impl FnOnce(&mut Database) -> T) -> T {
        blocking::run(|| body(&mut self.database.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn query(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.with(|database| database.query(sql, values))
    }

    fn query_one(&self, sql: &str, values: Vec<Value>) -> Result<Option<Row>, StoreError> {
        self.with(|database| database.query_one(sql, values))
    }

    fn execute(&self, sql: &str, values: Vec<Value>) -> Result<u64, StoreError> {
        self.transaction(|database| database.execute(sql, values))
    }

    fn transaction<T>(
        &self,
        body: impl FnOnce(&mut Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|database| database.transaction(body))
    }
}

fn decode<T: serde::Serialize + serde::de::DeserializeOwned>(
    table: &'static str,
    bytes: &[u8],
) -> Result<T, StoreError> {
    postern_shared::codec::decode(bytes).map_err(|_| StoreError::Damaged { table })
}

/// What a row holds as JSON; `key` is the row's primary key.
fn from_json<T: serde::de::DeserializeOwned>(
    table: &'static str,
    key: &str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::DamagedRow { table, key: key.to_owned() })
}

fn to_json<T: serde::Serialize>(table: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::Damaged { table })
}

#[cfg(test)]
mod tests;
