//! What pool managers say on the execution layer: written down in order, then told to the enclave.

use super::{DaemonError, RETRY, Shared};
use crate::chain::execution::{ChainError, Cursor, Execution};
use crate::chain::profile::PoolEventKind;
use crate::store::{Store, StoreError, StoredEvent};
use postern_shared::epoch::pool_managers;
use postern_shared::events::ChainEvent;
use postern_shared::ids::Address;
use postern_shared::wire::{Rejection, Reply, Request};
use std::sync::Arc;

/// Looks at the pool managers for ever.
pub(super) async fn follow(shared: Arc<Shared>) -> DaemonError {
    let Shared { execution, store, manifests, start_block, .. } = &*shared;
    // Pools of an earlier one are served like those of the one in force.
    let contracts: Vec<Address> = pool_managers(manifests).iter().map(|manager| manager.contract).collect();
    loop {
        if let Err(error) = look(execution, store, &contracts, *start_block).await {
            return error;
        }
        tokio::time::sleep(shared.poll).await;
    }
}

/// Looks at every pool manager that the DAO has ever named. What can't be read of one keeps nobody from the others.
pub(super) async fn look(
    execution: &Execution,
    store: &Store,
    contracts: &[Address],
    start_block: u64,
) -> Result<(), DaemonError> {
    for contract in contracts {
        match look_at(execution, store, *contract, start_block).await {
            Ok(()) => {}
            Err(LookError::Store(error)) => return Err(error.into()),
            Err(LookError::Chain(error)) if !error.is_transient() => return Err(DaemonError::Chain(error)),
            Err(LookError::Chain(error)) => {
                tracing::warn!(%contract, %error, "the execution layer can't be read");
            }
        }
    }
    Ok(())
}

enum LookError {
    Store(StoreError),
    Chain(ChainError),
}

impl From<StoreError> for LookError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ChainError> for LookError {
    fn from(error: ChainError) -> Self {
        Self::Chain(error)
    }
}

/// Stores a contract's events of newly finalised blocks with the cursor behind them.
async fn look_at(
    execution: &Execution,
    store: &Store,
    contract: Address,
    start_block: u64,
) -> Result<(), LookError> {
    let cursor: Cursor = match store.cursor(contract)? {
        Some(cursor) => cursor,
        // The cursor is behind the last block that was searched. A contract that an epoch has only now named may have
        // spoken before: it is searched from the beginning too.
        None => execution.cursor_at(start_block.saturating_sub(1)).await?,
    };
    let (events, next) = execution.poll(contract, cursor).await?;
    if next == cursor {
        return Ok(());
    }
    for event in &events {
        tracing::info!(pool = %event.pool, kind = ?event.kind, block = event.block_number, "pool event");
        // Of no use to enclaves.
        if event.kind == PoolEventKind::Exited {
            store.change_pool(event.pool, |status| status.exit_reported = true)?;
        }
    }
    let claims: Vec<ChainEvent> = events.iter().filter_map(|event| event.claim()).collect();
    Ok(store.keep_events(&claims, Some((contract, next)))?)
}

/// Tells the enclave every event, in order; all again whenever the connection was made anew.
pub(super) async fn tell(shared: Arc<Shared>) -> DaemonError {
    let mut connections = shared.enclave.connections();
    let mut told = 0;
    loop {
        let mut changed = std::pin::pin!(shared.store.changed.notified());
        changed.as_mut().enable();
        let untold = match shared.store.events_after(told) {
            Ok(untold) => untold,
            Err(error) => return error.into(),
        };
        for StoredEvent { id, event } in untold {
            match shared.enclave.ask(&Request::Observe(event)).await {
                Ok(Reply::Rejected(rejection)) if rejection.is_transient() => {
                    tokio::time::sleep(RETRY).await;
                    break;
                }
                Ok(reply) => {
                    // One that has handed over is done for good; its successor is told all of it again.
                    if let Reply::Rejected(rejection) = reply
                        && rejection != Rejection::HandedOver
                    {
                        tracing::error!(%rejection, ?event, "the enclave does not take an event");
                    }
                    told = id;
                }
                Err(error) if error.is_lasting() => return DaemonError::Enclave(error),
                Err(_) => {
                    tokio::time::sleep(RETRY).await;
                    break;
                }
            }
        }
        tokio::select! {
            () = changed => {}
            Ok(()) = connections.changed() => told = 0,
            () = tokio::time::sleep(shared.tick) => {}
        }
    }
}
