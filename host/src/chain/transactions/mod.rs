//! Sends this host's transactions, each exactly once.
//!
//! # Flow
//! [`Transactions::submit`] gives the call a nonce, signs it and **stores the signed bytes before anything is sent**.
//! [`Transactions::drive`], called by a timer, does the rest: sends, sends again after a restart and to a node that forgot
//! (the same bytes), follows the market under the same nonce while nobody mines it, and reports the outcome once it is
//! final. What to do is decided in [`decision`], what it may cost is in [`fees`] and [`budget`].
//!
//! # State and restart
//! All state is in the rows of a [`TransactionStore`]. A key stands for one intent ('hand in pool 7's deposit'), so
//! submitting a key again, after whatever crash, changes nothing. How patient this process is with a version begins again
//! when it starts.

mod budget;
mod decision;
mod driver;
mod fees;
mod listing;
mod node;
mod nodes;
mod refusal;
mod step;
#[cfg(all(test, feature = "devnet"))]
mod tests;
mod waiting;
mod wallet;
mod watch;

pub use driver::{GasMargin, Transactions};
pub use fees::FeeRules;
pub use listing::{Listed, ListedVersion};
pub use step::is_out_of_gas;
pub use waiting::Waiting;
pub use wallet::{RemoteSigner, SigningError, Wallet};

use self::fees::Fees;
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
    /// Whether a person wants it cancelled.
    #[serde(default)]
    pub cancel: bool,
    /// Whether a person wants the call made again: this row no longer counts as a try.
    #[serde(default)]
    pub retried: bool,
    /// Seconds since 1970 when it was submitted.
    #[serde(default)]
    pub submitted_at: u64,
    /// What became of it, once it is final.
    #[serde(default)]
    pub conclusion: Option<Conclusion>,
    /// What was signed under nonces that were given up, oldest first.
    #[serde(default)]
    pub displaced: Vec<Displaced>,
}

/// What was signed under a nonce that was given up. If nodes have lied of the nonce, one of it may be mined after all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Displaced {
    /// Seconds since 1970 when it was given up.
    pub at: u64,
    /// Which nonce. `None` in rows of hosts that did not write it down.
    #[serde(default)]
    pub nonce: Option<u64>,
    /// All of it, oldest first.
    pub versions: Vec<SignedVersion>,
}

/// What a transaction has cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conclusion {
    /// Seconds since 1970.
    pub at: u64,
    /// Gas that it took.
    pub gas_used: u64,
    /// Wei.
    pub cost: u128,
}

impl TransactionRow {
    /// A call that nothing was signed for yet.
    pub fn new(key: &str, to: Address, calldata: Vec<u8>, nonce: u64) -> Self {
        Self {
            key: key.to_owned(),
            to,
            calldata,
            nonce,
            versions: Vec::new(),
            state: TransactionState::Prepared,
            cancel: false,
            retried: false,
            submitted_at: 0,
            conclusion: None,
            displaced: Vec::new(),
        }
    }

    /// What it costs at most, whichever of its versions is mined.
    fn worst_case(&self) -> u128 {
        worst_case(&self.versions)
    }

    /// Whether its nonce is for none but it. One that is final and was to be cancelled has it only by what cancels: the call is not
    /// sent again.
    fn has_nonce(&self) -> bool {
        let is_kept = |newest: &SignedVersion| newest.cancels || !self.cancel;
        !self.state.is_final() || self.versions.last().is_some_and(is_kept)
    }

    /// Whether it ended, and counts for no day's budget any more.
    pub(crate) fn is_long_over(&self, now: u64) -> bool {
        let ended = self.conclusion.map_or(self.submitted_at, |conclusion| conclusion.at);
        let mut times = self.displaced.iter().map(|displaced| displaced.at).chain([ended]);
        self.state.is_final() && !times.any(|at| budget::is_of_a_day(at, now))
    }

    /// Gives its nonce up. What was given up more than a day ago is forgotten, so that a row does not grow for ever.
    fn displace(&mut self, now: u64) {
        self.displaced.retain(|displaced| budget::is_of_a_day(displaced.at, now));
        let versions = std::mem::take(&mut self.versions);
        if !versions.is_empty() {
            self.displaced.push(Displaced { at: now, nonce: Some(self.nonce), versions });
        }
    }
}

impl Displaced {
    /// What it costs at most, if one of it is mined.
    fn worst_case(&self) -> u128 {
        worst_case(&self.versions)
    }
}

fn worst_case(versions: &[SignedVersion]) -> u128 {
    versions.iter().map(SignedVersion::worst_case).max().unwrap_or_default()
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
    /// Why it was signed.
    #[serde(default)]
    pub why: Why,
    /// Whether it does not make the call, but takes its nonce.
    #[serde(default)]
    pub cancels: bool,
}

/// Why a version was signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It is the first one under its nonce.
    #[default]
    First,
    /// The market left the one before behind.
    Market,
    /// A node refused the one before.
    Refusal,
    /// The one before offered enough, and was not mined for long.
    Step,
    /// A person wants the transaction cancelled.
    Cancel,
}

impl Why {
    /// Whether such a version may offer more than the market.
    fn is_above_market(self) -> bool {
        !matches!(self, Self::First | Self::Market)
    }
}

/// Gas of a version that cancels: a transfer to an account.
const TRANSFER_GAS: u64 = 21_000;

impl SignedVersion {
    fn fees(&self) -> Fees {
        Fees { max: self.max_fee_per_gas, priority: self.max_priority_fee_per_gas }
    }

    fn worst_case(&self) -> u128 {
        self.fees().worst_case(self.gas_limit)
    }
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
    /// Its nonce was used by something else, as a person wanted. The end: the call was not made.
    Cancelled {
        /// The block's number.
        block: u64,
    },
}

impl TransactionState {
    /// Whether nothing more will happen.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Mined { .. } | Self::Reverted { .. } | Self::Cancelled { .. })
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

/// Why a transaction could not be prepared or advanced.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// There is no node to ask.
    #[error("no execution node")]
    NoNode,
    /// No transaction has this key.
    #[error("there is no transaction `{0}`")]
    Unknown(String),
    /// It is final, so nothing can be changed.
    #[error("transaction `{0}` is final")]
    Final(String),
    /// It is being cancelled.
    #[error("transaction `{0}` is being cancelled: it can be tried again once it is")]
    NotToRetry(String),
    /// What it may cost does not fit in the day's budget.
    #[error("it may cost {cost} wei, and {left} wei are left of the day's budget")]
    OverBudget {
        /// At most.
        cost: u128,
        /// What is left.
        left: u128,
    },
    /// The node counts transactions of the wallet that are not this host's, and they are not final.
    #[error(
        "the execution node counts {latest} transactions of the wallet, of which this host knows {known}: \
         waiting until they are final"
    )]
    Foreign {
        /// By the newest block.
        latest: u64,
        /// The first nonce that should be free.
        known: u64,
    },
    /// The key stands for another call already.
    #[error("transaction `{0}` was submitted before with other content")]
    KeyReused(String),
    /// The contract would refuse the call now, as most nodes say; nothing was signed.
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
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The store failed.
    #[error("transaction store: {0}")]
    Store(#[source] StoreError),
}

impl TransactionError {
    /// Whether it may be the fault of the one node that was asked.
    fn is_of_a_node(&self) -> bool {
        matches!(self, Self::Node { .. } | Self::Foreign { .. })
    }
}
