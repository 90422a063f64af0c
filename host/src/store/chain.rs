//! What the host knows of the chains.

use super::{Store, StoreError, decode, from_json, to_json};
use crate::chain::execution::Cursor;
use crate::chain::transactions::{StoreError as RowError, TransactionRow, TransactionStore};
use crate::status::PoolStatus;
use postern_shared::codec;
use postern_shared::events::ChainEvent;
use postern_shared::ids::PoolId;
use rusqlite::{OptionalExtension, Transaction, params};

/// An event, with its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its row: later events have higher ones.
    pub id: i64,
    /// What happened.
    pub event: ChainEvent,
}

impl Store {
    /// The last finalised block whose events are all stored.
    pub fn cursor(&self) -> Result<Option<Cursor>, StoreError> {
        let sql = "SELECT value FROM meta WHERE key = 'cursor'";
        let bytes: Option<Vec<u8>> = self.lock().query_row(sql, [], |row| row.get(0)).optional()?;
        bytes.map(|bytes| decode("meta", &bytes)).transpose()
    }

    /// Stores events and the cursor behind them, all or none; events that are known are passed over.
    pub fn keep_events(&self, events: &[ChainEvent], cursor: Option<Cursor>) -> Result<(), StoreError> {
        {
            let mut connection = self.lock();
            let transaction = connection.transaction()?;
            for event in events {
                transaction.execute(
                    "INSERT OR IGNORE INTO events (event) VALUES (?1)",
                    params![codec::encode(event)],
                )?;
                let pool = match event {
                    ChainEvent::DepositRequested(request) => request.pool,
                    ChainEvent::ValidatorIndexed { pool, .. } | ChainEvent::ExitRequested { pool, .. } => {
                        *pool
                    }
                };
                change(&transaction, pool, |status| match event {
                    ChainEvent::DepositRequested(_) => {}
                    ChainEvent::ValidatorIndexed { validator_index, .. } => {
                        status.validator_index = Some(*validator_index);
                    }
                    ChainEvent::ExitRequested { .. } => status.exit_requested = true,
                })?;
            }
            if let Some(cursor) = cursor {
                let sql = "INSERT INTO meta VALUES ('cursor', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1";
                transaction.execute(sql, params![codec::encode(&cursor)])?;
            }
            transaction.commit()?;
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// Events after a row, oldest first.
    pub fn events_after(&self, id: i64) -> Result<Vec<StoredEvent>, StoreError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT id, event FROM events WHERE id > ?1 ORDER BY id")?;
        let rows =
            statement.query_map(params![id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        rows.map(|row| {
            let (id, bytes) = row?;
            Ok(StoredEvent { id, event: decode("events", &bytes)? })
        })
        .collect()
    }

    /// All pools, by ascending id.
    pub fn pools(&self) -> Result<Vec<PoolStatus>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT status FROM pools ORDER BY pool")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|row| from_json("pools", &row?)).collect()
    }

    /// Changes what is known of a pool.
    pub fn change_pool(
        &self,
        pool: PoolId,
        change_to: impl FnOnce(&mut PoolStatus),
    ) -> Result<(), StoreError> {
        let changed = {
            let mut connection = self.lock();
            let transaction = connection.transaction()?;
            let changed = change(&transaction, pool, change_to)?;
            transaction.commit()?;
            changed
        };
        if changed {
            self.changed.notify_waiters();
        }
        Ok(())
    }
}

fn change(
    transaction: &Transaction<'_>,
    pool: PoolId,
    change_to: impl FnOnce(&mut PoolStatus),
) -> Result<bool, StoreError> {
    let sql = "SELECT status FROM pools WHERE pool = ?1";
    let before: Option<String> = transaction.query_row(sql, params![pool.0], |row| row.get(0)).optional()?;
    let mut status = match &before {
        Some(text) => from_json("pools", text)?,
        None => PoolStatus::new(pool),
    };
    change_to(&mut status);
    let after = to_json("pools", &status)?;
    if before.as_ref() == Some(&after) {
        return Ok(false);
    }
    let sql = "INSERT INTO pools VALUES (?1, ?2) ON CONFLICT (pool) DO UPDATE SET status = ?2";
    transaction.execute(sql, params![pool.0, after])?;
    Ok(true)
}

impl TransactionStore for Store {
    fn load(&self) -> Result<Vec<TransactionRow>, RowError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT body FROM transactions ORDER BY key")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|row| Ok(from_json("transactions", &row?)?)).collect()
    }

    fn save(&self, row: &TransactionRow) -> Result<(), RowError> {
        let body = to_json("transactions", row)?;
        let sql = "INSERT INTO transactions VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET body = ?2";
        self.lock().execute(sql, params![row.key, body])?;
        Ok(())
    }
}
