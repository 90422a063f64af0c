//! Sends this host's transactions, each exactly once.
//!
//! # Flow
//! [`Transactions::submit`] gives the call a nonce, signs it and **stores the signed bytes before anything is sent**.
//! [`Transactions::drive`], called by a timer, does the rest: sends, sends again after a restart (the same bytes), raises
//! the fees under the same nonce while nobody mines it, and reports the outcome once it is final.
//!
//! # State and restart
//! All state is in the rows of a [`TransactionStore`]. A key stands for one intent ('hand in pool 7's deposit'), so
//! submitting a key again, after whatever crash, changes nothing.

mod decision;
mod driver;
mod node;
mod refusal;
#[cfg(all(test, feature = "devnet"))]
mod tests;

pub use driver::Transactions;

use postern_shared::bytes::variable;
use postern_shared::ids::{Address, Digest};
use serde::{Deserialize, Serialize};

/// What the store's implementation says when it fails.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// Where rows are kept, durably: `save` must not return before the row would survive a power cut.
pub trait TransactionStore: Send + Sync {
    /// Every row ever saved, in its newest form.
    fn load(&self) -> Result<Vec<TransactionRow>, StoreError>;
    /// Inserts or replaces the row with this row's key.
    fn save(&self, row: &TransactionRow) -> Result<(), StoreError>;
}

/// One intended call and everything that was signed for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRow {
    /// The intent's name, chosen by the submitter.
    pub key: String,
    /// Whom it calls.
    pub to: Address,
    /// With what.
    #[serde(with = "variable")]
    pub calldata: Vec<u8>,
    /// The wallet's nonce that it uses.
    pub nonce: u64,
    /// Everything signed under that nonce, oldest first: at most one of them can be mined.
    pub versions: Vec<SignedVersion>,
    /// How far it is.
    pub state: TransactionState,
}

/// A signed transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedVersion {
    /// Its hash.
    pub hash: Digest,
    /// As it is sent.
    #[serde(with = "variable")]
    pub raw: Vec<u8>,
    /// Gas that it may use.
    pub gas_limit: u64,
    /// Wei.
    pub max_fee_per_gas: u128,
    /// Wei.
    pub max_priority_fee_per_gas: u128,
    /// The head's number when a node first took it; `None` when none has yet.
    pub sent_at_block: Option<u64>,
}

/// How far a transaction is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionState {
    /// Signed and stored; no node has taken it yet.
    Prepared,
    /// A node has it.
    Sent,
    /// In a finalised block, with success. The end.
    Mined {
        /// Which version.
        hash: Digest,
        /// The block's number.
        block: u64,
    },
    /// In a finalised block, without success. The end: it is not tried again under this key.
    Reverted {
        /// Which version.
        hash: Digest,
        /// The block's number.
        block: u64,
        /// What the contract said.
        reason: String,
    },
}

impl TransactionState {
    /// Whether nothing more will happen.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Mined { .. } | Self::Reverted { .. })
    }
}

/// How a transaction ended, or what keeps it from ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The intent's name.
    pub key: String,
    /// How far it is now.
    pub state: TransactionState,
}

/// When to be how generous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeeRules {
    /// Blocks to wait for a version to be mined before the fees are raised.
    pub raise_after_blocks: u64,
    /// Never offer more than this, in wei for each gas.
    pub max_fee_per_gas: u128,
    /// Offer at least this to the block's maker, in wei for each gas.
    pub min_priority_fee_per_gas: u128,
}

impl Default for FeeRules {
    fn default() -> Self {
        Self {
            raise_after_blocks: 5,
            max_fee_per_gas: 1_000_000_000_000,
            min_priority_fee_per_gas: 100_000_000,
        }
    }
}

/// Why a transaction could not be prepared or advanced.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// The wallet's secret key is none.
    #[error("the wallet's secret key is not a secp256k1 scalar")]
    Wallet,
    /// The key stands for another call already.
    #[error("transaction `{0}` was submitted before with other content")]
    KeyReused(String),
    /// The contract would refuse the call now; nothing was signed.
    #[error("transaction `{key}` would revert: {reason}")]
    WouldRevert {
        /// The intent's name.
        key: String,
        /// What the contract says.
        reason: String,
    },
    /// The node can't be reached, or refused.
    #[error("execution node, {request}: {reason}")]
    Node {
        /// What was asked.
        request: &'static str,
        /// What came instead of an answer.
        reason: String,
    },
    /// Signing failed.
    #[error("signing failed: {0}")]
    Signing(String),
    /// The store failed.
    #[error("transaction store: {0}")]
    Store(#[source] StoreError),
}
