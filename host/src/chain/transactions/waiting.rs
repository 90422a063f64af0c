//! What keeps a transaction from being final, for people.

use std::fmt::{Display, Formatter, Result as Written};

/// After so many blocks it should be known what has a nonce.
const LONG: u64 = 50;

/// After so many blocks, five epochs, a block should be final: it takes two to three.
const UNFINAL: u64 = 160;

/// What a transaction waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// To be sent.
    Sending,
    /// To be mined.
    Block,
    /// For another transaction of the wallet, which has to be mined before.
    Turn,
    /// For its block to be final, as most nodes see it.
    Finality {
        /// For so many blocks.
        blocks: u64,
    },
    /// One node shows how it ended, and as many that have that block say otherwise.
    Disputed,
    /// Another transaction of the wallet may have its nonce; whether for good is not known yet.
    Nonce {
        /// For so many blocks.
        blocks: u64,
    },
    /// For a nonce before its own that no open transaction has. What this host knows of those was sent again.
    Gap {
        /// The wallet's, in the newest block's state.
        nonce: u64,
    },
    /// It offers what others offer and is not mined.
    Stuck {
        /// Blocks since it was signed.
        blocks: u64,
    },
    /// It would take a higher offer than the rules allow.
    Limit {
        /// Wei for each gas, now.
        offered: u128,
    },
    /// It would take more than is left of the day's budget.
    Budget,
    /// The wallet can't pay, in the node's words.
    Funds(String),
    /// The node does not take it, in its words.
    Refused(String),
    /// It can't be advanced: a node or the signer does not answer as it should.
    Failure(String),
}

impl Waiting {
    /// Whether a person should know of it.
    pub fn is_wrong(&self) -> bool {
        match self {
            Self::Sending | Self::Block | Self::Turn => false,
            Self::Finality { blocks } => *blocks >= UNFINAL,
            Self::Nonce { blocks } => *blocks >= LONG,
            _ => true,
        }
    }

    /// Whether another node may say more: this one may not see what the chain does, or not tell.
    pub(super) fn may_be_a_node_s_fault(&self) -> bool {
        let is_the_chain_s = matches!(self, Self::Finality { .. } | Self::Nonce { .. } | Self::Stuck { .. });
        is_the_chain_s && self.is_wrong()
    }
}

impl Display for Waiting {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        match self {
            Self::Sending => f.write_str("to be sent"),
            Self::Block => f.write_str("to be mined"),
            Self::Turn => f.write_str("another transaction has to be mined before"),
            Self::Finality { blocks } if *blocks >= UNFINAL => {
                write!(f, "mined; its block is not final after {blocks} blocks")
            }
            Self::Finality { .. } => f.write_str("mined; its block is not final yet"),
            Self::Disputed => f.write_str("execution nodes disagree on whether and how it ended"),
            Self::Nonce { blocks } => {
                write!(f, "another transaction may have its nonce, for {blocks} blocks")
            }
            Self::Gap { nonce } => {
                write!(
                    f,
                    "the wallet's nonce is {nonce}: transactions before it were not mined, or forgotten"
                )
            }
            Self::Stuck { blocks } => {
                write!(f, "stuck: it offers what others offer, and is not mined for {blocks} blocks")
            }
            Self::Limit { offered } => {
                write!(f, "offers {offered} wei for each gas; more is above the limits of [fees]")
            }
            Self::Budget => f.write_str("the day's budget of [fees] leaves no room for a higher offer"),
            Self::Funds(words) => write!(f, "the wallet can't pay: {words}"),
            Self::Refused(words) => write!(f, "the execution node refuses it: {words}"),
            Self::Failure(words) => f.write_str(words),
        }
    }
}
