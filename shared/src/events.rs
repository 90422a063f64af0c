//! What a host tells its enclave about the chains: claims, until enough members' hosts have made the same one.

use crate::bls::PublicKey;
use crate::ids::{Digest, PoolId};
use serde::{Deserialize, Serialize};

/// A log's place on the execution layer: unique for ever on a finalised chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventSource {
    /// Hash of the block.
    pub block: Digest,
    /// Index of the log within the block.
    pub log_index: u64,
}

/// Something that happened on a chain, finally.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChainEvent {
    /// A pool is full: make a validator for it.
    DepositRequested(DepositRequest),
    /// The beacon chain has given the pool's validator an index.
    ValidatorIndexed {
        /// The pool.
        pool: PoolId,
        /// The validator.
        pubkey: PublicKey,
        /// Its index.
        validator_index: u64,
    },
    /// The DAO wants the pool's validator out.
    ExitRequested {
        /// The log.
        source: EventSource,
        /// The pool.
        pool: PoolId,
    },
}

impl ChainEvent {
    /// Which pool it is about.
    pub fn pool(&self) -> PoolId {
        match self {
            Self::DepositRequested(request) => request.pool,
            Self::ValidatorIndexed { pool, .. } | Self::ExitRequested { pool, .. } => *pool,
        }
    }
}

/// `PoolDepositRequested`. Where the stake goes follows from the pool ([`PoolId::address`]): no host is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DepositRequest {
    /// The log.
    pub source: EventSource,
    /// The pool.
    pub pool: PoolId,
}
