//! Validators that have left: put on record at their pool managers, with the enclaves' proof.
//!
//! It is a line in the log for those who watch only the contract: nothing there follows from it.

use super::calls::{self, Turn};
use super::proofs::collect;
use super::{DaemonError, RETRY, Shared, council, events, line};
use crate::chain::profile::PoolEventKind;
use crate::status::PoolStatus;
use crate::store::{Store, StoreError};
use postern_shared::ids::PoolId;
use postern_shared::manifest::Manifest;
use postern_shared::proof::{Council, Proof, ProofRequest, Provable};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// When it is looked at again that is on record and not final yet, or that too few enclaves can prove: some have been replaced since,
/// and know nothing of the pool, or their hosts have not seen it yet. Nothing depends on it.
const LATER: Duration = Duration::from_hours(1);

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
        due.extend(calls::turn(shared, &name).await.map(|turn| Due { pool, name, turn }));
    }
    if due.is_empty() {
        return Ok(());
    }
    let manifests = council::in_force(shared).await;
    line::see_to(due, |due| see_to(shared, manifests, due), |seen| make(shared, seen)).await
}

/// A report that is due, if it is not on record yet.
struct Due {
    pool: PoolId,
    name: String,
    turn: Turn,
}

/// What became of one that is not on record.
enum Seen {
    /// It is left to another host.
    Left,
    /// This host is to make it now.
    Proven { pool: PoolId, turn: Turn, proof: Proof },
}

/// Proves what is not on record, unless another host is at work on it.
async fn see_to(
    shared: &Shared,
    manifests: &[Manifest],
    Due { pool, name, turn }: Due,
) -> Result<Option<Seen>, DaemonError> {
    // The store knows what those blocks say that this host has looked at; of those after them, whether one says it.
    let cursor = shared.store.cursor(pool.contract)?;
    let first = cursor.map_or_else(|| events::start_block(shared, pool.contract), |cursor| cursor.block);
    match shared.execution.transaction_of(PoolEventKind::Exited, pool, first).await {
        Ok(None) => {}
        Ok(Some(_)) => {
            shared.turns.made_by_another(|known| known == name, Instant::now());
            shared.turns.put_off(&name, Instant::now() + LATER);
            return Ok(None);
        }
        Err(error) => {
            tracing::warn!(%pool, %error, "whether it is known that the validator has left can't be read");
            return Ok(None);
        }
    }
    if calls::is_left(shared, &turn) {
        return Ok(Some(Seen::Left));
    }
    let Some(manifest) = council::of(shared, manifests, pool.contract).await else { return Ok(None) };
    let asked = ProofRequest { epoch: manifest.epoch, what: Provable::PoolExited(pool) };
    let Some(proof) = collect(shared, asked, &Council::of(manifest)).await else {
        shared.turns.put_off(&name, Instant::now() + LATER);
        return Ok(None);
    };
    Ok(Some(Seen::Proven { pool, turn, proof }))
}

/// Makes the report, unless another host is at work, which may have shown only now: what comes after it is left to that one, too.
async fn make(shared: &Shared, seen: Seen) -> Result<ControlFlow<()>, DaemonError> {
    let Seen::Proven { pool, turn, proof } = seen else { return Ok(ControlFlow::Break(())) };
    if calls::is_left(shared, &turn) {
        return Ok(ControlFlow::Break(()));
    }
    let call = shared.execution.profile().exited_call(pool.number, &proof);
    calls::make(shared, &turn, pool.contract, call).await?;
    Ok(ControlFlow::Continue(()))
}

/// Whether its validator has left, and that is not on record for good.
fn is_due(pool: &PoolStatus) -> bool {
    pool.has_left && !pool.exit_reported
}

/// Whether the own enclave may be asked to say that a pool's validator has left, for whichever host: it believes this one.
pub(super) fn may_be_said(store: &Store, pool: PoolId) -> Result<bool, StoreError> {
    Ok(store.pool(pool)?.is_some_and(|known| known.has_left))
}
