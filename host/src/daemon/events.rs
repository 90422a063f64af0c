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
use std::time::Duration;
use tokio::sync::{Mutex, Notify};

/// Most steps of one contract in one look, so that a host far behind keeps no other contract waiting.
const MAX_STEPS: usize = 20;
/// Looks in an epoch as long as everything is read. Finality moves once in an epoch, and is two epochs late anyway.
const LOOKS_AT_REST: u32 = 6;

/// How this process follows each pool manager.
#[derive(Default)]
pub(super) struct Followed {
    managers: Mutex<BTreeMap<Address, Following>>,
    /// A rescan begins at once.
    rescan: Notify,
}

impl Followed {
    /// Waits so long, or until a rescan is asked for, also one that was before.
    pub(super) async fn rest(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.rescan.notified() => {}
        }
    }
}

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
        let pause = match follower(&shared).look(&managers).await {
            Ok(Look::Complete) => shared.poll.max(shared.beacon.pace().epoch / LOOKS_AT_REST),
            Ok(Look::Lacking) => shared.poll,
            Err(error) => return error.into(),
        };
        shared.followed.rest(pause).await;
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

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Everything that is final was read, and nothing is missing.
    Complete,
    /// There is more to read, or something that could not be read, or is missing.
    Lacking,
}

/// What a step of a contract came to.
enum Step {
    /// There may be more to read.
    Moved,
    Ended(Look),
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
    pub(super) async fn look(&self, managers: &[PoolManager]) -> Result<Look, StoreError> {
        let mut is_complete = true;
        for manager in managers {
            is_complete &= self.look_at(manager).await? == Look::Complete;
        }
        for (node, trouble) in self.execution.troubles() {
            self.troubles.show(Subject::ExecutionNode(node), trouble);
        }
        // How long a node stands still counts in looks.
        Ok(if is_complete && !self.execution.watches_a_lag() { Look::Complete } else { Look::Lacking })
    }

    async fn look_at(&self, manager: &PoolManager) -> Result<Look, StoreError> {
        for _ in 0..MAX_STEPS {
            if let Step::Ended(look) = self.step(manager).await? {
                return Ok(look);
            }
        }
        Ok(Look::Lacking)
    }

    /// One step of a contract, with which no rescan interferes.
    async fn step(&self, manager: &PoolManager) -> Result<Step, StoreError> {
        let contract = manager.contract;
        let mut followed = self.followed.managers.lock().await;
        let following = followed.entry(contract).or_default();
        if following.is_stopped {
            return Ok(Step::Ended(Look::Complete));
        }
        match self.read(manager, &mut following.reconciler).await {
            Ok(step) => Ok(step),
            Err(LookError::Store(error)) => Err(error),
            Err(LookError::Chain(error)) => {
                following.is_stopped = self.say(contract, &error);
                Ok(Step::Ended(Look::Lacking))
            }
        }
    }

    /// Stores a contract's events of some newly finalised blocks with the cursor behind them; looks for what is missing, if there are
    /// no more.
    async fn read(&self, manager: &PoolManager, reconciler: &mut Reconciler) -> Result<Step, LookError> {
        let contract = manager.contract;
        let cursor: Cursor = match self.store.cursor(contract)? {
            Some(cursor) => cursor,
            // The cursor is the last block that was searched.
            None => self.begin(manager).await?,
        };
        let (events, next) = self.execution.poll(contract, cursor).await?;
        if next != cursor {
            keep(self.store, &events, Some((contract, next)))?;
            return Ok(Step::Moved);
        }
        Ok(Step::Ended(self.reconcile(contract, cursor, reconciler).await?))
    }

    /// Where to begin. If that is before the pool manager's first block, it is kept at once: what comes from now on is read.
    async fn begin(&self, manager: &PoolManager) -> Result<Cursor, LookError> {
        let cursor = self.execution.cursor_before(manager.start_block).await?;
        if cursor.block < manager.start_block.saturating_sub(1) {
            keep(self.store, &[], Some((manager.contract, cursor)))?;
        }
        Ok(cursor)
    }

    async fn reconcile(
        &self,
        contract: Address,
        cursor: Cursor,
        reconciler: &mut Reconciler,
    ) -> Result<Look, LookError> {
        let lacking = reconciler.round(self.execution, self.store, contract, cursor).await?;
        let look = if lacking.is_some() { Look::Lacking } else { Look::Complete };
        self.troubles.show(Subject::Events(contract), lacking);
        Ok(look)
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
        let mut followed = self.followed.managers.lock().await;
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
        self.followed.rescan.notify_one();
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

/// Events of pool managers that the enclave does not know. It may yet: an epoch is in force when the members have agreed on it,
/// some time after the host has handed it over.
#[derive(Default)]
struct Unknown(BTreeMap<Address, ChainEvent>);

impl Unknown {
    /// Takes note of what the enclave makes of an event. Of each pool manager the first one is enough.
    fn note(&mut self, event: &ChainEvent, reply: &Reply) {
        if let Reply::Rejected(Rejection::OtherContract(contract)) = reply {
            self.0.entry(*contract).or_insert(*event);
        }
    }

    /// Whether the enclave knows one of these pool managers by now: `ask` tells it an event of each once more. Then all is to
    /// be told again.
    async fn is_known<A: Future<Output = Option<Reply>>>(&mut self, ask: impl Fn(ChainEvent) -> A) -> bool {
        for event in self.0.values() {
            let known = match ask(*event).await {
                Some(Reply::Rejected(rejection)) => {
                    !rejection.is_transient() && !matches!(rejection, Rejection::OtherContract(_))
                }
                reply => reply.is_some(),
            };
            if known {
                self.0.clear();
                return true;
            }
        }
        false
    }
}

/// Tells the enclave every event, in order; all again whenever the connection was made anew, or the enclave has learnt of a pool
/// manager.
pub(super) async fn tell(shared: Arc<Shared>) -> DaemonError {
    let mut connections = shared.enclave.connections();
    let (mut told, mut unknown) = (0, Unknown::default());
    let enclave = &shared.enclave;
    let again = |event| async move { enclave.ask(&Request::Observe(event)).await.ok() };
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
                    unknown.note(&event, &reply);
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
            () = tokio::time::sleep(shared.tick) => {
                if unknown.is_known(&again).await {
                    told = 0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_shared::events::EventSource;
    use postern_shared::ids::{Digest, PoolId};
    use std::cell::Cell;

    #[tokio::test]
    async fn what_was_refused_of_a_pool_manager_is_told_again_when_the_enclave_knows_it() {
        let event = |contract, block| ChainEvent::ExitRequested {
            source: EventSource { block: Digest([block; 32]), log_index: 0 },
            pool: PoolId::new(1, Address([contract; 20]), 1),
        };
        let refused = |contract| Reply::Rejected(Rejection::OtherContract(Address([contract; 20])));
        let mut unknown = Unknown::default();
        unknown.note(&event(1, 1), &Reply::Done);
        let asked = Cell::new(0);
        let answers = |reply: Option<Reply>| {
            let asked = &asked;
            move |_| {
                asked.set(asked.get() + 1);
                std::future::ready(reply.clone())
            }
        };
        assert!(!unknown.is_known(answers(Some(Reply::Done))).await);
        assert_eq!(asked.get(), 0, "it has refused nothing");
        for block in 1..=3 {
            unknown.note(&event(2, block), &refused(2));
        }
        // It does not answer, does not know it yet, and is busy.
        for reply in [None, Some(refused(2)), Some(Reply::Rejected(Rejection::Returning))] {
            assert!(!unknown.is_known(answers(reply)).await);
        }
        assert_eq!(asked.get(), 3, "one event of a pool manager is enough");
        assert!(unknown.is_known(answers(Some(Reply::Done))).await);
        assert!(!unknown.is_known(answers(Some(Reply::Done))).await, "once");
    }
}
