//! Beacon nodes: several at once, because any of them may be down, behind or lying.
//!
//! - [`nodes`]: asks all of them, and counts their answers by [`votes`].
//! - [`health`]: which of them count now.
//! - [`node`] and [`request`]: one node's side of the Beacon API.
//! - [`exit`] and [`refusal`]: whether an exit is good, and what nodes say of it.

mod exit;
mod health;
mod node;
mod nodes;
mod refusal;
mod request;
#[cfg(test)]
pub(crate) mod test_node;
mod votes;

#[cfg(test)]
pub(crate) use exit::tests as test_exits;
pub use exit::{ExitError, verify_exit};
pub use health::Unfit;
pub use nodes::{BeaconNodes, NodeStanding};
pub use refusal::ExitRefusal;

use crate::chain::url::UrlError;
use postern_shared::ethereum::WithdrawalCredentials;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A validator as a beacon node shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Validator {
    /// Its index.
    pub index: u64,
    /// Its status.
    pub status: ValidatorStatus,
    /// Where its stake goes.
    pub withdrawal_credentials: WithdrawalCredentials,
}

/// A validator's status in the words of the Beacon API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ValidatorStatus {
    PendingInitialized,
    PendingQueued,
    ActiveOngoing,
    ActiveExiting,
    ActiveSlashed,
    ExitedUnslashed,
    ExitedSlashed,
    WithdrawalPossible,
    WithdrawalDone,
}

impl ValidatorStatus {
    /// Whether its exit is on its way or done.
    pub fn is_leaving(self) -> bool {
        self >= Self::ActiveExiting
    }

    /// Whether it has exited.
    pub fn has_exited(self) -> bool {
        self >= Self::ExitedUnslashed
    }
}

impl std::fmt::Display for ValidatorStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PendingInitialized => "pending_initialized",
            Self::PendingQueued => "pending_queued",
            Self::ActiveOngoing => "active_ongoing",
            Self::ActiveExiting => "active_exiting",
            Self::ActiveSlashed => "active_slashed",
            Self::ExitedUnslashed => "exited_unslashed",
            Self::ExitedSlashed => "exited_slashed",
            Self::WithdrawalPossible => "withdrawal_possible",
            Self::WithdrawalDone => "withdrawal_done",
        })
    }
}

/// Which state of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateId {
    /// The newest that can't be undone.
    Finalized,
    /// The newest: for showing only.
    Head,
}

impl std::fmt::Display for StateId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Finalized => "finalized",
            Self::Head => "head",
        })
    }
}

/// What the nodes say of a validator: at least half of the configured ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is there.
    There(Validator, Votes),
    /// It is not there, or not yet.
    NotThere,
    /// No answer has more than half of the nodes that answered behind it, or half of the configured ones: who says what.
    Disputed(String),
}

/// How many nodes say what a validator's status is, or that it is further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Votes {
    /// So many do.
    pub agreed: usize,
    /// Of so many.
    pub configured: usize,
}

impl Votes {
    /// Whether they are more than half of the configured nodes: what ends something for good needs that.
    pub fn are_most(self) -> bool {
        2 * self.agreed > self.configured
    }
}

/// How fast the beacon chain goes. It decides how often things are done, never what is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long a slot lasts.
    pub slot: Duration,
    /// How long an epoch lasts.
    pub epoch: Duration,
}

impl Default for Pace {
    /// Mainnet's.
    fn default() -> Self {
        Self { slot: Duration::from_secs(12), epoch: Duration::from_secs(384) }
    }
}

/// What a node made of an exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitOutcome {
    /// It took it, or has it already, or its validator is leaving already.
    Taken,
    /// It did not.
    Refused(ExitRefusal),
}

/// Why beacon nodes could not answer.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum BeaconError {
    /// No node is configured.
    #[error("no beacon node is configured")]
    NoNodes,
    /// A URL that can't be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The HTTP client could not be set up.
    #[error("HTTP client: {0}")]
    Client(String),
    /// No node answers that counts.
    #[error("no beacon node can be used: {}", describe(.0))]
    NoneFit(Vec<(String, Unfit)>),
    /// No answer has more than half of the nodes that answered behind it.
    #[error("beacon nodes disagree on {subject}: {answers}")]
    Disagreement {
        /// What was asked.
        subject: String,
        /// Who said what.
        answers: String,
    },
    /// Too few nodes answer what stake depends on.
    #[error("{answered} of {configured} beacon nodes say which deposits wait, fewer than half")]
    TooFew {
        /// How many answer.
        answered: usize,
        /// How many there are.
        configured: usize,
    },
}

/// Why one node gave no usable answer.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// No connection, or no answer in time.
    #[error("{0}")]
    Unreachable(String),
    /// The answer exceeds the limit.
    #[error("an answer of more than {0} bytes")]
    TooLarge(usize),
    /// An error status.
    #[error("status {status}: {}", .message.as_deref().unwrap_or("not an answer of the Beacon API"))]
    Status {
        /// HTTP status.
        status: u16,
        /// The node's message. There is none if something else than a beacon node answers.
        message: Option<String>,
    },
    /// An answer that is not what the Beacon API says.
    #[error("unreadable answer: {0}")]
    Unreadable(String),
    /// An answer from blocks that the node has not executed.
    #[error("an answer from blocks that are not executed yet")]
    Optimistic,
    /// A list of validators that can't be whole.
    #[error("a list of validators without validator 0, which every network has")]
    Incomplete,
}

fn describe(errors: &[(String, Unfit)]) -> String {
    let parts: Vec<String> = errors.iter().map(|(node, error)| format!("{node}: {error}")).collect();
    parts.join("; ")
}
