//! Why the execution layer could not be read.

use crate::chain::profile::LogError;
use crate::chain::url::UrlError;
use postern_shared::ids::{Address, Digest, PoolId};

/// Why the execution layer could not be read. None of it holds a node's URL, which may be secret.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The URL of a node is none.
    #[error("execution node URL: {0}")]
    Url(#[from] UrlError),
    /// No node is configured.
    #[error("no execution node is configured")]
    NoNodes,
    /// The HTTP client could not be set up.
    #[error("HTTP client: {0}")]
    Client(String),
    /// The node serves another chain.
    #[error("the execution node {node} is of chain {found}, the manifest of chain {expected}")]
    WrongChain {
        /// Which node.
        node: String,
        /// The manifest's chain id.
        expected: u64,
        /// The node's.
        found: u64,
    },
    /// The pool is of another chain than the nodes.
    #[error("pool {pool} is not of chain {chain}")]
    OtherPool {
        /// Which pool.
        pool: PoolId,
        /// The nodes' chain id.
        chain: u64,
    },
    /// The node can't be reached, or refused.
    #[error("execution node, {request}: {reason}")]
    Node {
        /// What was asked.
        request: &'static str,
        /// What came instead of an answer.
        reason: String,
    },
    /// The node has no block that it says it has.
    #[error("the execution node does not have block {0}")]
    MissingBlock(String),
    /// What was looked for is not in the logs after this block, and before it nobody looks: it takes too many requests.
    #[error("not found in the logs after block {0}, and not looked for any further")]
    TooFar(u64),
    /// A block that was final has changed: the node lies, or finality was broken. A person must look.
    #[error("finalised block changed: block {block} was {expected}, the node now says {found}")]
    FinalisedBlockChanged {
        /// The cursor's block.
        block: u64,
        /// The hash stored with the cursor.
        expected: Digest,
        /// The node's.
        found: Digest,
    },
    /// The node's newest finalised block is before the cursor, or before most nodes': it is behind, ask again later.
    #[error(
        "the execution node's finalised block {finalised} is before block {cursor}, which was final already"
    )]
    Behind {
        /// The node's newest finalised block.
        finalised: u64,
        /// The cursor's, or most nodes'.
        cursor: u64,
    },
    /// The node's answer contradicts itself or the request.
    #[error("inconsistent answer of the execution node: {0}")]
    Inconsistent(String),
    /// More than half of the nodes say something else than this one.
    #[error("most execution nodes contradict this one on {0}")]
    Contradicted(String),
    /// No answer has more than half of the nodes that answered behind it.
    #[error("execution nodes disagree on {0}")]
    Disagreement(String),
    /// Those that answer say the same, but they are too few for what can't be taken back.
    #[error("{agreed} of {configured} execution nodes answer for {what}, fewer than half")]
    TooFew {
        /// For what.
        what: String,
        /// How many.
        agreed: usize,
        /// How many there are.
        configured: usize,
    },
    /// There is nothing at a pool manager's address, as far as a node knows that has not got the whole chain yet.
    #[error("there is no contract at {0}, as far as the execution node has come")]
    NoContractYet(Address),
    /// There is nothing at a pool manager's address.
    #[error("there is no contract at {0}, where the manifest has its pool manager")]
    NoContract(Address),
    /// What is at a pool manager's address does not answer as one.
    #[error("the contract at {contract} is no pool manager: it does not answer `{call}`")]
    NoManager {
        /// Where.
        contract: Address,
        /// What it was asked.
        call: &'static str,
    },
    /// The manifest has the pool manager's events begin after the contract was there.
    #[error(
        "`contracts.start_block` of the manifest is {start_block}, but {contract} is there in block {head} already"
    )]
    StartBlock {
        /// Which.
        contract: Address,
        /// The manifest's.
        start_block: u64,
        /// A block that has it.
        head: u64,
    },
    /// The pool manager is not what the manifest says.
    #[error(
        "the pool manager {contract} deposits at {deposit} and creates pools by code {code}: not what the manifest says"
    )]
    OtherManager {
        /// Which.
        contract: Address,
        /// Where it deposits.
        deposit: Address,
        /// Hash of its code for pools.
        code: Digest,
    },
    /// A log of the pool manager that is not what its topic says.
    #[error("pool manager log in block {block}: {error}")]
    Log {
        /// Where.
        block: u64,
        /// What is wrong.
        error: LogError,
    },
}

impl ChainError {
    /// Whether the same question may be answered later, by the same node.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Node { .. }
                | Self::MissingBlock(_)
                | Self::NoContractYet(_)
                | Self::Behind { .. }
                | Self::Inconsistent(_)
                | Self::Contradicted(_)
                | Self::Disagreement(_)
                | Self::TooFew { .. }
        )
    }
}

/// What it amounts to that every one of the configured nodes has failed: something that lasts only if more than half of
/// them say so, so that no single one among several can stop what depends on it.
pub(super) fn conclude(errors: Vec<ChainError>) -> ChainError {
    let lasting = errors.iter().filter(|error| !error.is_transient()).count();
    let lasts = 2 * lasting > errors.len();
    errors.into_iter().find(|error| error.is_transient() != lasts).unwrap_or(ChainError::NoNodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_more_than_half_of_all_nodes_can_say_something_that_lasts() {
        let lasting = || ChainError::FinalisedBlockChanged {
            block: 1,
            expected: Digest([1; 32]),
            found: Digest([2; 32]),
        };
        let transient = || ChainError::MissingBlock("1".to_owned());
        for (nodes, lasts) in [
            (vec![lasting()], true),
            (vec![transient()], false),
            (vec![lasting(), transient()], false),
            (vec![lasting(), lasting()], true),
            (vec![lasting(), transient(), transient()], false),
            (vec![transient(), lasting(), lasting()], true),
        ] {
            assert_eq!(!conclude(nodes).is_transient(), lasts);
        }
        assert!(matches!(conclude(vec![]), ChainError::NoNodes));
    }
}
