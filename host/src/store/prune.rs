//! What goes from the store, and when: rows grow with what is open, and for what is over little is left.
//!
//! A pool is over ([`PoolStatus::is_over`]) when its validator is withdrawn in a finalised state and the pool manager has that on
//! record. Then no enclave has anything to do for it any more: no key to make, no deposit to sign, no exit to split, to release
//! or to prove. A host that most of its nodes have deceived about that forgets copies of statements, which other members' hosts have
//! too; what its own enclave needs is in the enclave's log.
//!
//! | table | rows | when they go |
//! | --- | --- | --- |
//! | `outbox` | messages to members | once delivered, or replaced; at most [`MAX_WAITING`](super::outputs::MAX_WAITING) that can be had again wait for one member. Those that are said once stay |
//! | `records` | statements in ceremonies, which other members' hosts fetch that lack them | with the pool: until then a member that was away needs them to get its share of the key or of the exit. Statements of agreements stay: they prove to whoever comes later what was decided, and are about 3 kB for a pool |
//! | `ceremonies` | which pool a ceremony is of | with its records |
//! | `log` | what the enclave has sealed | as the enclave says: a snapshot takes the place of what it repeats. What is settled for good stays |
//! | `slots` | keys to the log | all but two |
//! | `artifacts` | results | once everything that follows from them is done. Transcripts are files, and stay |
//! | `events` | what has happened on the chains | never: the enclave is told all again when it is restored, and a row has about 70 bytes. About three for a pool |
//! | `cursors` | how far each pool manager was read | never; one for each |
//! | `pools` | what is known of each | never: this is what says that a pool is over, and its exit is asked for by others. About 1.5 kB |
//! | `transactions` | what the wallet has signed | when the host starts, those of pools that are over, if they ended more than a day before: the day's budget counts them, and what was signed is sent again should the chain break its word. Those of the council stay: one for each epoch |
//!
//! # What never goes
//! - All that a pool has, if its exit never comes on record: such a pool is never over. So it is where too few enclaves are left to
//!   prove the exit.
//! - Statements of some ceremonies from before version 4, when `ceremonies` began. [The upgrade](super::migration) knows a ceremony's
//!   pool from its transcript. One without a transcript here, such as a release that another member led, is of no pool, unless it
//!   goes on after the upgrade.

use super::database::{Database, values};
use super::{Store, StoreError, from_json};
use crate::chain::transactions::TransactionRow;
use crate::clock::now;
use crate::status::PoolStatus;
use postern_shared::ids::{CeremonyId, PoolId};
use std::collections::BTreeSet;

/// Keeps in mind which pool a ceremony is of.
pub(super) fn note_ceremony(
    database: &mut Database,
    ceremony: CeremonyId,
    pool: PoolId,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO ceremonies VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    database.execute(sql, values![&ceremony.0[..], pool.text()])?;
    Ok(())
}

/// Forgets the statements of a pool that is over.
pub(super) fn forget_statements(database: &mut Database, pool: PoolId) -> Result<(), StoreError> {
    let name = pool.text();
    let sql = "DELETE FROM records WHERE ceremony IN (SELECT ceremony FROM ceremonies WHERE pool = ?1)";
    database.execute(sql, values![name.as_str()])?;
    database.execute("DELETE FROM ceremonies WHERE pool = ?1", values![name])?;
    Ok(())
}

impl Store {
    /// Forgets what is left of pools that are over: what came late, and transactions. For a host that starts to serve: it can't go
    /// on with a row that does not decode, while whoever opens a store to look at it or to copy it can.
    pub(crate) fn prune(&self) -> Result<(), StoreError> {
        let over = self.pools()?.into_iter().filter(PoolStatus::is_over).map(|pool| pool.pool_id);
        let over: BTreeSet<PoolId> = over.collect();
        if over.is_empty() {
            return Ok(());
        }
        self.transaction(|database| {
            for row in database.query("SELECT DISTINCT pool FROM ceremonies", values![])? {
                if let Ok(pool) = row.text(0)?.parse()
                    && over.contains(&pool)
                {
                    forget_statements(database, pool)?;
                }
            }
            for row in database.query("SELECT key, body FROM transactions", values![])? {
                let key = row.text(0)?;
                if pool_of(key).is_some_and(|pool| over.contains(&pool)) {
                    let transaction: TransactionRow = from_json("transactions", key, row.text(1)?)?;
                    if transaction.is_long_over(now()) {
                        database.execute("DELETE FROM transactions WHERE key = ?1", values![key])?;
                    }
                }
            }
            Ok(())
        })
    }
}

/// Which pool a transaction is for: `WHAT-CHAIN-CONTRACT-NUMBER`, and whatever tells tries apart.
fn pool_of(key: &str) -> Option<PoolId> {
    let mut parts = key.split('-').skip(1);
    let name = [parts.next()?, parts.next()?, parts.next()?];
    name.join("-").parse().ok()
}
