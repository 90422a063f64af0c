//! Validators that have left: put on record at their pool managers, with the enclaves' proof.
//!
//! It is a line in the log for those who watch only the contract: nothing there follows from it.

use super::calls;
use super::proofs::collect;
use super::{DaemonError, RETRY, Shared, council, events};
use crate::chain::profile::PoolEventKind;
use crate::status::PoolStatus;
use crate::store::{Store, StoreError};
use postern_shared::ids::PoolId;
use postern_shared::proof::{Council, ProofRequest, Provable};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// When too few enclaves can prove it: some have been replaced since, and know nothing of the pool, or their hosts have not seen
/// it yet. Nothing depends on it, so it is asked for again much later.
const UNPROVED: Duration = Duration::from_secs(3600);

/// Does so for ever.
pub(super) async fn follow(shared: Arc<Shared>) -> DaemonError {
    loop {
        if let Err(error) = round(&shared).await {
            return error;
        }
        tokio::time::sleep(shared.poll.max(RETRY)).await;
    }
}

async fn round(shared: &Shared) -> Result<(), DaemonError> {
    let pools = shared.store.pools_that(is_due)?.into_iter().map(|pool| pool.pool_id);
    let mut due = Vec::new();
    for pool in pools {
        let name = format!("exited-{}", pool.text());
        due.extend(calls::turn(shared, &name).await.map(|turn| (pool, name, turn)));
    }
    if due.is_empty() {
        return Ok(());
    }
    let manifests = council::in_force(shared).await;
    for (pool, name, turn) in due {
        // The store knows what those blocks say that this host has looked at; of those after them, whether one says it.
        let cursor = shared.store.cursor(pool.contract)?;
        let first = cursor.map_or_else(|| events::start_block(shared, pool.contract), |cursor| cursor.block);
        match shared.execution.transaction_of(PoolEventKind::Exited, pool, first).await {
            Ok(None) => {}
            Ok(Some(_)) => continue,
            Err(error) => {
                tracing::warn!(%pool, %error, "whether it is known that the validator has left can't be read");
                continue;
            }
        }
        let Some(manifest) = council::of(shared, manifests, pool.contract).await else { continue };
        let asked = ProofRequest { epoch: manifest.epoch, what: Provable::PoolExited(pool) };
        let Some(proof) = collect(shared, asked, &Council::of(manifest)).await else {
            shared.turns.put_off(&name, Instant::now() + UNPROVED);
            continue;
        };
        let call = shared.execution.profile().exited_call(pool.number, &proof);
        calls::make(shared, &turn, pool.contract, call).await?;
    }
    Ok(())
}

/// Whether its validator has left, and that is not on record for good.
fn is_due(pool: &PoolStatus) -> bool {
    pool.has_left && !pool.exit_reported
}

/// Whether the own enclave may be asked to say that a pool's validator has left, for whichever host: it believes this one.
pub(super) fn may_be_said(store: &Store, pool: PoolId) -> Result<bool, StoreError> {
    Ok(store.pool(pool)?.is_some_and(|known| known.has_left))
}
