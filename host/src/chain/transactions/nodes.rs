//! The execution nodes that transactions go through. All that is asked together is asked of one of them: of two, one may be behind.
//! What can't be taken back takes most of them.

use super::decision::Receipt;
use super::fees::Market;
use super::node::{Loss, Node, Sent};
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

    /// Whether half of all nodes show no such receipt, though they answer.
    pub(super) async fn is_contradicted(&self, row: &TransactionRow, receipt: &Receipt) -> bool {
        let ask = |node: &Arc<Node>| {
            let node = Arc::clone(node);
            async move { tokio::time::timeout(VOTE_TIMEOUT, node.receipt(row, true)).await }
        };
        let said = join_all(self.not_asked().map(ask)).await;
        let contradicts = |found: &Option<Receipt>| found.as_ref() != Some(receipt);
        let against =
            said.iter().filter(|found| matches!(found, Ok(Ok(found)) if contradicts(found))).count();
        2 * against > self.others.len()
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
