//! The one place where a claim about the chains becomes something that this enclave acts on.
//!
//! Today the claim is the own host's. It is enough because no ceremony gets anywhere on one host's word: a keygen needs
//! all operators, and a presign or release a threshold, each with the same event from its own host's own nodes. An
//! in-enclave proof of the event would be checked here.
//!
//! A host may have been told something wrong by its node, so a claim can be corrected as long as nothing depends on it:
//! the caller knows ([`Pools::observe`](super::Pools::observe)). The DAO's wish to have a pool out is not corrected but repeated: any of a few that
//! the host has claimed is enough for this enclave to give its share, which it has only one of.

use postern_shared::bls::PublicKey;
use postern_shared::events::{ChainEvent, DepositRequest, EventSource};
use postern_shared::ids::PoolId;
use postern_shared::wire::Rejection;
use std::collections::{BTreeMap, BTreeSet};

/// Most pools that an enclave serves.
const MAX_POOLS: usize = 100_000;

/// Most wishes to have one pool out. The DAO may ask again, and any of them is enough. Wrong ones that this host was told of
/// stay, so there is room for many more than a DAO will have.
const MAX_WISHES: usize = 64;

/// What has happened on the chains, by pool.
#[derive(Default)]
pub(crate) struct Ledger {
    deposits: BTreeMap<PoolId, DepositRequest>,
    validators: BTreeMap<PoolId, (PublicKey, u64)>,
    exits: BTreeMap<PoolId, Vec<EventSource>>,
}

impl Ledger {
    /// Takes note of an event of a pool that is not settled, beside `settled` others that are; says whether it is new. A pool's
    /// deposit and its validator's index happen once: another one like it takes its place if `may_correct`, and is refused
    /// otherwise. Its exit can be asked for again.
    pub(crate) fn observe(
        &mut self,
        event: ChainEvent,
        settled: usize,
        may_correct: bool,
    ) -> Result<bool, Rejection> {
        let most = MAX_POOLS.saturating_sub(settled);
        match event {
            ChainEvent::DepositRequested(request) => {
                note(&mut self.deposits, request.pool, request, most, may_correct)
            }
            ChainEvent::ValidatorIndexed { pool, pubkey, validator_index } => {
                note(&mut self.validators, pool, (pubkey, validator_index), most, may_correct)
            }
            ChainEvent::ExitRequested { .. } => self.observe_settled(&event),
        }
    }

    /// Takes note of what a settled pool's events say that is new: only a wish to have it out can be.
    pub(crate) fn observe_settled(&mut self, event: &ChainEvent) -> Result<bool, Rejection> {
        let ChainEvent::ExitRequested { source, pool } = event else { return Ok(false) };
        if !self.exits.contains_key(pool) && self.exits.len() >= MAX_POOLS {
            return Err(Rejection::Busy);
        }
        let wishes = self.exits.entry(*pool).or_default();
        let is_new = !wishes.contains(source) && wishes.len() < MAX_WISHES;
        if is_new {
            wishes.push(*source);
        }
        Ok(is_new)
    }

    /// What made a pool is of no more use: it is settled.
    pub(crate) fn forget(&mut self, pool: PoolId) {
        self.deposits.remove(&pool);
        self.validators.remove(&pool);
    }

    /// All pools of which anything is noted.
    pub(crate) fn pools(&self) -> BTreeSet<PoolId> {
        self.deposits.keys().chain(self.validators.keys()).chain(self.exits.keys()).copied().collect()
    }

    /// By what a pool's deposit was asked for.
    pub(crate) fn deposit(&self, pool: PoolId) -> Option<&DepositRequest> {
        self.deposits.get(&pool)
    }

    /// The key of a pool's validator, and its index.
    pub(crate) fn validator(&self, pool: PoolId) -> Option<(PublicKey, u64)> {
        self.validators.get(&pool).copied()
    }

    /// Whether the DAO wants a pool out.
    pub(crate) fn wants_out(&self, pool: PoolId) -> bool {
        self.exits.contains_key(&pool)
    }

    /// The DAO's wishes to have a pool out.
    pub(crate) fn wishes(&self, pool: PoolId) -> &[EventSource] {
        self.exits.get(&pool).map(Vec::as_slice).unwrap_or_default()
    }

    /// All that is noted, to be noted again.
    pub(crate) fn events(&self) -> impl Iterator<Item = ChainEvent> {
        let deposits = self.deposits.values().map(|request| ChainEvent::DepositRequested(*request));
        let validators = self.validators.iter().map(|(pool, &(pubkey, validator_index))| {
            ChainEvent::ValidatorIndexed { pool: *pool, pubkey, validator_index }
        });
        let exits = self.exits.iter().flat_map(|(pool, wishes)| {
            wishes.iter().map(|source| ChainEvent::ExitRequested { source: *source, pool: *pool })
        });
        deposits.chain(validators).chain(exits)
    }
}

fn note<T: PartialEq>(
    events: &mut BTreeMap<PoolId, T>,
    pool: PoolId,
    event: T,
    most: usize,
    may_correct: bool,
) -> Result<bool, Rejection> {
    match events.get(&pool) {
        Some(known) if *known == event => Ok(false),
        Some(_) if !may_correct => Err(Rejection::ContradictoryEvent),
        None if events.len() >= most => Err(Rejection::Busy),
        _ => {
            events.insert(pool, event);
            Ok(true)
        }
    }
}
