//! The one place where a claim about the chains becomes something that this enclave acts on.
//!
//! Today the claim is the own host's. It is enough because no ceremony gets anywhere on one host's word: a keygen needs
//! all operators, and a presign or release a threshold, each with the same event from its own host's own nodes. An
//! in-enclave proof of the event would be checked here.

use postern_shared::bls::PublicKey;
use postern_shared::events::{ChainEvent, DepositRequest, EventSource};
use postern_shared::ids::PoolId;
use postern_shared::wire::Rejection;
use std::collections::BTreeMap;

/// Most pools that an enclave serves.
const MAX_POOLS: usize = 100_000;

/// What has happened on the chains, by pool.
#[derive(Default)]
pub(crate) struct Ledger {
    deposits: BTreeMap<PoolId, DepositRequest>,
    validators: BTreeMap<PoolId, (PublicKey, u64)>,
    exits: BTreeMap<PoolId, EventSource>,
}

impl Ledger {
    /// Takes note of an event. A pool's event happens once: another one like it is refused.
    pub(crate) fn observe(&mut self, event: ChainEvent) -> Result<(), Rejection> {
        match event {
            ChainEvent::DepositRequested(request) => note(&mut self.deposits, request.pool, request),
            ChainEvent::ValidatorIndexed { pool, pubkey, validator_index } => {
                note(&mut self.validators, pool, (pubkey, validator_index))
            }
            ChainEvent::ExitRequested { source, pool } => note(&mut self.exits, pool, source),
        }
    }

    pub(crate) fn deposits(&self) -> impl Iterator<Item = &DepositRequest> {
        self.deposits.values()
    }

    pub(crate) fn validators(&self) -> impl Iterator<Item = (PoolId, PublicKey, u64)> {
        self.validators.iter().map(|(pool, (pubkey, index))| (*pool, *pubkey, *index))
    }

    pub(crate) fn exit(&self, pool: PoolId) -> Option<EventSource> {
        self.exits.get(&pool).copied()
    }
}

fn note<T: PartialEq>(events: &mut BTreeMap<PoolId, T>, pool: PoolId, event: T) -> Result<(), Rejection> {
    match events.get(&pool) {
        Some(known) if *known == event => Ok(()),
        Some(_) => Err(Rejection::ContradictoryEvent),
        None if events.len() >= MAX_POOLS => Err(Rejection::Busy),
        None => {
            events.insert(pool, event);
            Ok(())
        }
    }
}
