//! Pool events from finalised blocks of the execution layer, and what pool managers say, over several nodes of which any may be down,
//! behind or lying.
//!
//! - `node`: one node; `managers`: its answers to calls of pool managers; `nodes`: several of them.
//! - `spans`: how much to ask for at a time; `votes`: what several answers amount to; `health`: whom to ask.
//!
//! # State and restart
//! [`Execution::poll`] is a function of contract and cursor. The caller stores the events and the contract's new cursor
//! together (one database transaction); then every event arrives, whatever crashes in between. Some arrive again: what was
//! read lately is read again, in case a node had left something out.

mod error;
mod health;
mod managers;
mod node;
mod nodes;
mod spans;
mod votes;

pub use error::ChainError;
pub use managers::PoolBlocks;
pub(crate) use nodes::VOTE_TIMEOUT;
pub use nodes::{Checked, Connection, Execution, Shown};
pub(crate) use votes::reached_by_most;

use crate::chain::profile::PoolEventKind;
use alloy::providers::DynProvider;
use postern_shared::bls::PublicKey;
use postern_shared::events::{ChainEvent, DepositRequest, EventSource};
use postern_shared::ids::{Address, Digest, ManifestHash, PoolId};
use serde::{Deserialize, Serialize};

/// The last finalised block whose events, of one contract, were all processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Its number.
    pub block: u64,
    /// Its hash.
    pub hash: Digest,
}

/// An event of a pool manager in a finalised block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PoolEvent {
    /// The log.
    pub source: EventSource,
    /// The block's number.
    pub block_number: u64,
    /// The pool.
    pub pool: PoolId,
    /// What happened.
    pub kind: PoolEventKind,
}

/// What the pool manager says about a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pool {
    /// The pool contract; `None` when there is no such pool.
    pub address: Option<Address>,
    /// Where it is in its life.
    pub status: PoolStatus,
    /// Its validator, once deposited.
    pub pubkey: Option<PublicKey>,
}

/// Where a pool is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PoolStatus {
    /// There is no such pool.
    None,
    /// Full, without a validator.
    Ready,
    /// Its deposit was made.
    Deposited,
    /// The DAO wants its validator out.
    ExitRequested,
    /// It never got a validator, and its stake went back.
    Refunded,
}

impl PoolEvent {
    /// The claim to make to the enclave; `None` for events that enclaves have no use for.
    pub fn claim(&self) -> Option<ChainEvent> {
        let Self { source, pool, kind, .. } = *self;
        match kind {
            PoolEventKind::DepositRequested => {
                Some(ChainEvent::DepositRequested(DepositRequest { source, pool }))
            }
            PoolEventKind::ExitRequested => Some(ChainEvent::ExitRequested { source, pool }),
            _ => None,
        }
    }
}

/// Which members a pool manager knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InForce {
    /// The epoch that it goes by: 0 until the DAO is founded there.
    pub epoch: u64,
    /// The manifest of that epoch.
    pub manifest: ManifestHash,
    /// That wallets want others.
    pub recovery: Option<Recovery>,
}

/// That wallets want other members at a pool manager, without their enclaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Recovery {
    /// Counts what was ever proposed there.
    pub number: u32,
    /// From which block on anybody may put it in force.
    pub ready_at: u64,
    /// The epoch that would be in force.
    pub epoch: u64,
    /// The manifest that names the members.
    pub manifest: ManifestHash,
    /// What the pool manager has to know of it ([`postern_shared::proof::Council::digest`]).
    pub council: Digest,
}

/// Connects to a node and checks that it is of the right chain.
pub(crate) async fn connect_provider(url: &str, chain_id: u64) -> Result<DynProvider, ChainError> {
    Ok(Execution::connect(url, chain_id).await?.provider().clone())
}

#[cfg(test)]
mod tests;
