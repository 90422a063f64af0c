//! What the host knows of the chains.

use super::database::{Database, values};
use super::{Store, StoreError, decode, from_json, prune, to_json};
use crate::blocking;
use crate::chain::execution::Cursor;
use crate::chain::transactions::{StoreError as RowError, TransactionRow, TransactionStore};
use crate::status::PoolStatus;
use postern_shared::codec;
use postern_shared::events::ChainEvent;
use postern_shared::ids::{Address, PoolId};
use std::sync::PoisonError;

/// An event, with its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its row: later events have higher ones.
    pub id: i64,
    /// What happened.
    pub event: ChainEvent,
}

impl Store {
    /// The last finalised block whose events, of this contract, are all stored.
    pub fn cursor(&self, contract: Address) -> Result<Option<Cursor>, StoreError> {
        let sql = "SELECT cursor FROM cursors WHERE contract = ?1";
        let row = self.query_one(sql, values![&contract.0[..]])?;
        row.map(|row| decode("cursors", row.bytes(0)?)).transpose()
    }

    /// Stores events and the cursor of their contract behind them, all or none; events that are known are passed over. Those that
    /// were not known.
    pub fn keep_events(
        &self,
        events: &[ChainEvent],
        cursor: Option<(Address, Cursor)>,
    ) -> Result<Vec<ChainEvent>, StoreError> {
        let kept = self.transaction(|database| {
            let mut new = Vec::new();
            for event in events {
                let sql = "INSERT INTO events (event) VALUES (?1) ON CONFLICT DO NOTHING";
                if database.execute(sql, values![codec::encode(event)])? > 0 {
                    new.push(*event);
                }
                change(database, event.pool(), |status| match event {
                    ChainEvent::DepositRequested(_) => status.deposit_requested = true,
                    ChainEvent::ValidatorIndexed { validator_index, .. } => {
                        status.validator_index = Some(*validator_index);
                    }
                    ChainEvent::ExitRequested { .. } => status.exit_requested = true,
                })?;
            }
            if let Some((contract, cursor)) = cursor {
                let sql =
                    "INSERT INTO cursors VALUES (?1, ?2) ON CONFLICT (contract) DO UPDATE SET cursor = ?2";
                database.execute(sql, values![&contract.0[..], codec::encode(&cursor)])?;
            }
            Ok(new)
        });
        if !events.is_empty() {
            self.forget_read_pools();
        }
        let new = kept?;
        self.changed.notify_waiters();
        Ok(new)
    }

    /// Events after a row, oldest first.
    pub fn events_after(&self, id: i64) -> Result<Vec<StoredEvent>, StoreError> {
        let rows = self.query("SELECT id, event FROM events WHERE id > ?1 ORDER BY id", values![id])?;
        rows.iter()
            .map(|row| Ok(StoredEvent { id: row.integer(0)?, event: decode("events", row.bytes(1)?)? }))
            .collect()
    }

    /// All pools, by ascending id. They are read again only once one has changed: many tasks ask, and there may be thousands.
    pub fn pools(&self) -> Result<Vec<PoolStatus>, StoreError> {
        self.with_read_pools(|known| {
            if let Some(pools) = known {
                return Ok(pools.clone());
            }
            let pools = self.read_all_pools()?;
            *known = Some(pools.clone());
            Ok(pools)
        })
    }

    fn forget_read_pools(&self) {
        self.with_read_pools(|known| *known = None);
    }

    /// Nobody else has them while they are read, so that no change that comes in between is missed; that may take long.
    fn with_read_pools<T>(&self, body: impl FnOnce(&mut Option<Vec<PoolStatus>>) -> T) -> T {
        blocking::run(|| body(&mut self.read_pools.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn read_all_pools(&self) -> Result<Vec<PoolStatus>, StoreError> {
        let rows = self.query("SELECT pool, status FROM pools", values![])?;
        let pools = rows.iter().map(|row| from_json("pools", row.text(0)?, row.text(1)?));
        let mut pools = pools.collect::<Result<Vec<PoolStatus>, _>>()?;
        // As text, pool 10 would come before pool 2.
        pools.sort_unstable_by_key(|status| status.pool_id);
        Ok(pools)
    }

    /// One pool.
    pub fn pool(&self, pool: PoolId) -> Result<Option<PoolStatus>, StoreError> {
        let name = pool.text();
        let row = self.query_one("SELECT status FROM pools WHERE pool = ?1", values![name.as_str()])?;
        row.map(|row| from_json("pools", &name, row.text(0)?)).transpose()
    }

    /// Changes what is known of a pool.
    pub fn change_pool(
        &self,
        pool: PoolId,
        change_to: impl FnOnce(&mut PoolStatus),
    ) -> Result<(), StoreError> {
        let changed = self.transaction(|database| change(database, pool, change_to));
        if !matches!(changed, Ok(false)) {
            self.forget_read_pools();
        }
        if changed? {
            self.changed.notify_waiters();
        }
        Ok(())
    }
}

fn change(
    database: &mut Database,
    pool: PoolId,
    change_to: impl FnOnce(&mut PoolStatus),
) -> Result<bool, StoreError> {
    let name = pool.text();
    let before = database.query_one("SELECT status FROM pools WHERE pool = ?1", values![name.as_str()])?;
    let before = before.as_ref().map(|row| row.text(0)).transpose()?;
    let mut status = match before {
        Some(text) => from_json("pools", &name, text)?,
        None => PoolStatus::new(pool),
    };
    let was_over = status.is_over();
    change_to(&mut status);
    let after = to_json("pools", &status)?;
    if before == Some(&after) {
        return Ok(false);
    }
    let sql = "INSERT INTO pools VALUES (?1, ?2) ON CONFLICT (pool) DO UPDATE SET status = ?2";
    database.execute(sql, values![name, after])?;
    if status.is_over() && !was_over {
        prune::forget_statements(database, pool)?;
    }
    Ok(true)
}

impl TransactionStore for Store {
    fn load(&self) -> Result<Vec<TransactionRow>, RowError> {
        let rows = self.query("SELECT key, body FROM transactions ORDER BY key", values![])?;
        rows.iter().map(|row| Ok(from_json("transactions", row.text(0)?, row.text(1)?)?)).collect()
    }

    fn save(&self, row: &TransactionRow) -> Result<(), RowError> {
        let body = to_json("transactions", row)?;
        let sql = "INSERT INTO transactions VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET body = ?2";
        self.execute(sql, values![row.key.as_str(), body])?;
        Ok(())
    }
}
