//! Beacon nodes: several at once, because any of them may be down, behind or lying.

mod client;
mod majority;
mod refusal;

pub use client::BeaconNodes;
pub use refusal::ExitRefusal;

use postern_shared::ethereum::WithdrawalCredentials;
use serde::{Deserialize, Serialize};

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

/// What became of a posted exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitPosted {
    /// Nodes that took it, or had it already, or whose validator is leaving already.
    pub accepted: Vec<String>,
    /// Nodes that refused it, with why.
    pub refused: Vec<(String, ExitRefusal)>,
}

/// Why beacon nodes could not answer.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum BeaconError {
    /// No node is configured.
    #[error("no beacon node is configured")]
    NoNodes,
    /// A URL that is none.
    #[error("beacon node URL `{url}`: {reason}")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The HTTP client could not be set up.
    #[error("HTTP client: {0}")]
    Client(String),
    /// Every node is down or answers nonsense.
    #[error("no beacon node answers: {}", describe(.0))]
    AllDown(Vec<(String, NodeError)>),
    /// A node of another network.
    #[error("beacon node {node} is of another network: its {field} is {found}, the manifest's {expected}")]
    WrongNetwork {
        /// Which node.
        node: String,
        /// What differs.
        field: &'static str,
        /// The manifest's.
        expected: String,
        /// The node's.
        found: String,
    },
    /// No answer has more than half of the nodes that answered behind it.
    #[error("beacon nodes disagree on {subject}: {answers}")]
    Disagreement {
        /// What was asked.
        subject: String,
        /// Who said what.
        answers: String,
    },
    /// Nobody who answers knows the question, and others are down.
    #[error("no beacon node that answers can say {0}")]
    NoAnswer(&'static str),
    /// Every node refused the exit.
    #[error("the exit was refused: {refusal} (by {node})")]
    ExitRefused {
        /// The most telling refusal.
        refusal: ExitRefusal,
        /// Whose.
        node: String,
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
    #[error("status {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// The node's message.
        message: String,
    },
    /// An answer that is not what the Beacon API says.
    #[error("unreadable answer: {0}")]
    Unreadable(String),
}

fn describe(errors: &[(String, NodeError)]) -> String {
    let parts: Vec<String> = errors.iter().map(|(node, error)| format!("{node}: {error}")).collect();
    parts.join("; ")
}
