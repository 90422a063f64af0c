//! What pool managers say on the execution layer: written down in order, compared with what they say of their pools, and told to
//! the enclave.

use super::alerts::{self, Alert};
use super::commands::Outcome;
use super::reconcile::Reconciler;
use super::troubles::Troubles;
use super::{DaemonError, RETRY, Shared};
use crate::chain::execution::{ChainError, Cursor, Execution, PoolEvent};
use crate::chain::profile::PoolEventKind;
use crate::status::Subject;
use crate::store::{Store, StoreError, StoredEvent};
use postern_shared::epoch::{PoolManager, pool_managers};
use postern_shared::events::ChainEvent;
use postern_shared::ids::Address;
use postern_shared::wire::{Rejection, Reply, Request};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Most steps of one contract in one look, so that a host far behind keeps no other contract waiting.
const MAX_STEPS: usize = 20;

/// How this process follows each pool manager.
#[derive(Default)]
pub(super) struct Followed(Mutex<BTreeMap<Address, Following>>);

#[derive(Default)]
struct Following {
    /// Whether a person has to look before it goes on.
    is_stopped: bool,
    reconciler: Reconciler,
}

/// What following takes.
pub(super) struct Follower<'a> {
    pub(super) execution: &'a Execution,
    pub(super) store: &'a Store,
    pub(super) troubles: &'a Troubles,
    pub(super) data_dir: &'a Path,
    pub(super) followed: &'a Followed,
}

/// Looks at the pool managers for ever.
pub(super) async fn follow(shared: Arc<Shared>) -> DaemonError {
    let managers = pool_managers(&shared.manifests);
    loop {
        if let Err(error) = follower(&shared).look(&managers).await {
            return error.into();
        }
        tokio::time::sleep(shared.poll).await;
    }
}

/// Has all pool managers read again from a block on, also those that a person had to look at.
pub(super) async fn rescan(shared: &Shared, from: u64) -> Result<Outcome, StoreError> {
    follower(shared).rescan(&pool_managers(&shared.manifests), from).await
}

/// The block before which a pool manager has said nothing.
pub(super) fn start_block(shared: &Shared, contract: Address) -> u64 {
    let managers = pool_managers(&shared.manifests);
    managers.iter().find(|manager| manager.contract == contract).map_or(0, |manager| manager.start_block)
}

fn follower(shared: &Shared) -> Follower<'_> {
    let Shared { execution, store, troubles, data_dir, followed, .. } = shared;
    Follower { execution, store, troubles, data_dir, followed }
}

/// Why a look at one contract has ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Chain(#[from] ChainError),
}

impl Follower<'_> {
    /// Looks at every pool manager that the DAO has ever named. What can't be read of one keeps nobody from the others.
    pub(super) async fn look(&self, managers: &[PoolManager]) -> Result<(), StoreError> {
        for manager in managers {
            for _ in 0..MAX_STEPS {
                if !self.step(manager).await? {
                    break;
                }
            }
        }
        for (node, trouble) in self.execution.troubles() {
            self.troubles.show(Subject::ExecutionNode(node), trouble);
        }
        Ok(())
    }

    /// One step of a contract, with which no rescan interferes. Whether there may be more to read.
    async fn step(&self, manager: &PoolManager) -> Result<bool, StoreError> {
        let contract = manager.contract;
        let mut followed = self.followed.0.lock().await;
        let following = followed.entry(contract).or_default();
        if following.is_stopped {
            return Ok(false);
        }
        match self.read(manager, &mut following.reconciler).await {
            Ok(has_moved) => Ok(has_moved),
            Err(LookError::Store(error)) => Err(error),
            Err(LookError::Chain(error)) => {
                following.is_stopped = self.say(contract, &error);
                Ok(false)
            }
        }
    }

    /// Stores a contract's events of some newly finalised blocks with the cursor behind them; looks for what is missing, if there are
    /// no more. Whether the cursor has moved.
    async fn read(&self, manager: &PoolManager, reconciler: &mut Reconciler) -> Result<bool, LookError> {
        let contract = manager.contract;
        let cursor: Cursor = match self.store.cursor(contract)? {
            Some(cursor) => cursor,
            // The cursor is the last block that was searched.
            None => self.execution.cursor_at(manager.start_block.saturating_sub(1)).await?,
        };
        let (events, next) = self.execution.poll(contract, cursor).await?;
        if next != cursor {
            keep(self.store, &events, Some((contract, next)))?;
            return Ok(true);
        }
        self.reconcile(contract, cursor, reconciler).await?;
        Ok(false)
    }

    async fn reconcile(
        &self,
        contract: Address,
        cursor: Cursor,
        reconciler: &mut Reconciler,
    ) -> Result<(), LookError> {
        let lacking = reconciler.round(self.execution, self.store, contract, cursor).await?;
        self.troubles.show(Subject::Events(contract), lacking);
        Ok(())
    }

    /// Says what keeps a contract from being read. Whether a person has to look: then it is let be until a rescan.
    fn say(&self, contract: Address, error: &ChainError) -> bool {
        let subject = Subject::Events(contract);
        let Some(alert) = alert(contract, error) else {
            self.troubles.set(subject, error);
            return false;
        };
        self.troubles.set(subject, format!("{error}; read no further until `postern rescan`"));
        alerts::raise(self.data_dir, &alert)
    }

    /// Puts all cursors before a block. Only those that a person had to look at are put forward: others would pass over what they
    /// have not read.
    pub(super) async fn rescan(&self, managers: &[PoolManager], from: u64) -> Result<Outcome, StoreError> {
        let cursor = match self.execution.cursor_at(from.saturating_sub(1)).await {
            Ok(cursor) => cursor,
            Err(error) => return Ok(Outcome::Later(error.to_string())),
        };
        let mut followed = self.followed.0.lock().await;
        // When the host has just started, it is not known yet which those are.
        if managers.iter().any(|manager| !followed.contains_key(&manager.contract)) {
            return Ok(Outcome::Later("the pool managers have not been looked at yet".to_owned()));
        }
        for PoolManager { contract, .. } in managers {
            let following = followed.entry(*contract).or_default();
            let read = self.store.cursor(*contract)?;
            if !following.is_stopped && read.is_none_or(|read| read.block < cursor.block) {
                continue;
            }
            self.store.keep_events(&[], Some((*contract, cursor)))?;
            *following = Following::default();
            self.troubles.clear(&Subject::Events(*contract));
        }
        Ok(Outcome::Done)
    }
}

/// What a person has to look at, if an error is of that kind.
fn alert(contract: Address, error: &ChainError) -> Option<Alert> {
    match *error {
        ChainError::Log { block, error } => Some(Alert::MalformedLog { contract, block, error }),
        ChainError::FinalisedBlockChanged { block, expected, found } => {
            Some(Alert::FinalisedBlockChanged { contract, block, expected, found })
        }
        _ => None,
    }
}

/// Stores events, with the cursor behind them if they are all up to it.
pub(super) fn keep(
    store: &Store,
    events: &[PoolEvent],
    cursor: Option<(Address, Cursor)>,
) -> Result<(), StoreError> {
    for event in events.iter().filter(|event| event.kind == PoolEventKind::Exited) {
        // Of no use to enclaves.
        store.change_pool(event.pool, |status| status.exit_reported = true)?;
    }
    let claims: Vec<ChainEvent> = events.iter().filter_map(|event| event.claim()).collect();
    for event in store.keep_events(&claims, cursor)? {
        tracing::info!(pool = %event.pool(), ?event, "pool event");
    }
    Ok(())
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
