//! The execution nodes that transactions go through. All that is asked together is asked of one of them: of two, one may be behind.
//! What can't be taken back takes most of them.

use super::decision::Receipt;
use super::fees::Market;
use super::node::{Echo, Loss, Node, Sent};
use super::{TransactionError, TransactionRow};
use crate::chain::execution::Connection;
use alloy::primitives::Address as AlloyAddress;
use futures::future::join_all;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How long a node may take to answer what others are asked too.
const VOTE_TIMEOUT: Duration = Duration::from_secs(5);

/// The configured nodes.
pub(super) struct Nodes {
    first: Arc<Node>,
    others: Vec<Arc<Node>>,
    /// How often another one's turn has come.
    turns: AtomicUsize,
}

/// Whose turn it was when something was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked(usize);

/// What nodes make of a receipt that another one shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backing {
    /// As many of those that have its block say that it did not end so as say that it did, the one that shows it included: who is
    /// right is open.
    pub(super) is_disputed: bool,
    /// No more than half of the others say that it has cost something else.
    pub(super) is_cost_sure: bool,
}

impl Backing {
    /// Of what so many others have said, as far as they have.
    fn of(said: &[Echo], others: usize) -> Self {
        let count = |wanted: &[Echo]| said.iter().filter(|echo| wanted.contains(echo)).count();
        let with = 1 + count(&[Echo::Same, Echo::OtherCost]);
        let is_cost_sure = 2 * (said.len() - count(&[Echo::Same])) <= others;
        Self { is_disputed: count(&[Echo::Otherwise]) >= with, is_cost_sure }
    }
}

impl Nodes {
    /// The first is asked as long as it answers.
    pub(super) fn new(
        nodes: Vec<Connection>,
        chain_id: u64,
        wallet: AlloyAddress,
    ) -> Result<Self, TransactionError> {
        let node = |connection| Arc::new(Node::new(connection, chain_id, wallet));
        let mut nodes = nodes.into_iter().map(node);
        let first = nodes.next().ok_or(TransactionError::NoNode)?;
        Ok(Self { first, others: nodes.collect(), turns: AtomicUsize::new(0) })
    }

    /// The one that is asked now.
    pub(super) fn current(&self) -> &Node {
        self.all().nth(self.place()).unwrap_or(&self.first)
    }

    /// Before something is asked: for [`Self::turn_from`].
    pub(super) fn asked(&self) -> Asked {
        Asked(self.turns.load(Relaxed))
    }

    /// From now on the next one is asked, unless that has happened meanwhile.
    pub(super) fn turn_from(&self, Asked(turns): Asked) {
        // That it has happened is as good.
        let _ = self.turns.compare_exchange(turns, turns.wrapping_add(1), Relaxed, Relaxed);
    }

    /// What it takes to be mined: the middle one of what nodes say, so that no single one of several makes it. Those that
    /// rest have no say, unless all do.
    pub(super) async fn market(&self) -> Result<Market, TransactionError> {
        let late =
            |_| TransactionError::Node { request: "fee history", reason: "no answer in time".to_owned() };
        let ask = |node: &Arc<Node>| {
            let node = Arc::clone(node);
            async move { tokio::time::timeout(VOTE_TIMEOUT, node.market()).await.map_err(late)? }
        };
        let mut asked: Vec<&Arc<Node>> = self.all().filter(|node| !node.rests()).collect();
        if asked.is_empty() {
            asked = self.all().collect();
        }
        let answers = join_all(asked.into_iter().map(ask)).await;
        let said: Vec<Market> = answers.iter().filter_map(|answer| answer.as_ref().ok().copied()).collect();
        match (Market::middle(&said), answers.into_iter().next()) {
            (Some(market), _) => Ok(market),
            (None, Some(Err(error))) => Err(error),
            (None, _) => Err(TransactionError::NoNode),
        }
    }

    /// Tells all nodes of a transaction. What the one says that is asked now counts; nobody waits for the others.
    pub(super) async fn send(&self, raw: &[u8]) -> Result<Sent, TransactionError> {
        for other in self.not_asked() {
            let (other, raw) = (Arc::clone(other), raw.to_vec());
            tokio::spawn(async move { other.send(&raw).await.map(drop) });
        }
        self.current().send(raw).await
    }

    /// Whether more than half of all nodes say that a row has lost its nonce and that none of its versions is mined. One node's
    /// word would have the call made twice.
    pub(super) async fn most_say_lost(&self, row: &TransactionRow, loss: Loss) -> bool {
        let ask = |node: &Arc<Node>| {
            let node = Arc::clone(node);
            async move { tokio::time::timeout(VOTE_TIMEOUT, node.says_lost(row, loss)).await }
        };
        let said = join_all(self.all().map(ask)).await;
        2 * said.iter().filter(|answer| matches!(answer, Ok(Ok(true)))).count() > said.len()
    }

    /// What the other nodes make of a receipt by which a row would end.
    pub(super) async fn backing(&self, row: &TransactionRow, receipt: &Receipt) -> Backing {
        let ask = |node: &Arc<Node>| {
            let node = Arc::clone(node);
            async move { tokio::time::timeout(VOTE_TIMEOUT, node.echo(row, receipt)).await }
        };
        let said = join_all(self.not_asked().map(ask)).await;
        let said: Vec<Echo> = said.into_iter().filter_map(|answer| answer.ok()?.ok()).collect();
        Backing::of(&said, self.others.len())
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Node>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn not_asked(&self) -> impl Iterator<Item = &Arc<Node>> {
        let current = self.place();
        self.all().enumerate().filter(move |(place, _)| *place != current).map(|(_, node)| node)
    }

    /// The place of the one that is asked now.
    fn place(&self) -> usize {
        self.turns.load(Relaxed) % (self.others.len() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_disputed_if_as_many_nodes_contradict_it_as_show_it() {
        use Echo::{NotYet, OtherCost, Otherwise, Same};
        for (said, others, is_disputed, is_cost_sure) in [
            (&[][..], 0, false, true),
            // Of two: the other one is down, agrees, is behind, or contradicts.
            (&[], 1, false, true),
            (&[Same], 1, false, true),
            (&[OtherCost], 1, false, false),
            (&[NotYet], 1, false, false),
            (&[Otherwise], 1, true, false),
            // Of three.
            (&[Same, Otherwise], 2, false, true),
            (&[OtherCost, Otherwise], 2, false, false),
            (&[Otherwise, Otherwise], 2, true, false),
            (&[NotYet, Otherwise], 2, true, false),
            (&[Otherwise], 2, true, true),
            // Of five.
            (&[Same, Same, Otherwise, Otherwise], 4, false, true),
            (&[Same, Otherwise, Otherwise, Otherwise], 4, true, false),
        ] {
            assert_eq!(
                Backing::of(said, others),
                Backing { is_disputed, is_cost_sure },
                "{said:?} of {others}"
            );
        }
    }
}
