//! The execution nodes that transactions go through. All that is asked together is asked of one of them: of two, one may be behind.
//! What can't be taken back takes most of them.

use super::decision::Receipt;
use super::fees::Market;
use super::node::{Echo, Estimate, Loss, Node, Sent};
use super::{TransactionError, TransactionRow};
use crate::chain::execution::{self, Connection, VOTE_TIMEOUT};
use alloy::eips::BlockNumberOrTag;
use alloy::primitives::Address as AlloyAddress;
use futures::future::join_all;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// A node whose head is more than so many blocks behind is not the one that is asked: two minutes of mainnet.
const MAX_BEHIND: u64 = 10;

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

/// What nodes make of a receipt that another one shows in a block which that one has finalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backing {
    /// More than half of the configured nodes have finalised that block and show the same there.
    Agreed {
        /// As many show the same cost.
        is_cost_sure: bool,
    },
    /// Too few do, so far.
    TooFew,
    /// As many of those that have finalised its block say that it did not end so as say that it did, the one that shows it
    /// included: who is right is open.
    Disputed,
}

impl Backing {
    /// Of what so many other configured nodes have said, as far as they have. Of two nodes, one that says nothing stops nothing.
    fn of(said: &[Echo], others: usize) -> Self {
        let count = |wanted: &[Echo]| said.iter().filter(|echo| wanted.contains(echo)).count();
        let are_most = |votes| 2 * votes > others + 1 || others == 1 && said.is_empty();
        let with = 1 + count(&[Echo::Same, Echo::OtherCost]);
        if are_most(with) {
            Self::Agreed { is_cost_sure: are_most(1 + count(&[Echo::Same])) }
        } else if count(&[Echo::Otherwise]) >= with {
            Self::Disputed
        } else {
            Self::TooFew
        }
    }
}

/// What nodes say that a call would do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Estimates {
    /// So much gas, as those in the middle say: the lower one of two, and the higher one.
    Gas([u64; 2]),
    /// The contract would refuse it, as more than half of those that answer say.
    Reverts(String),
}

impl Estimates {
    fn of(answers: Vec<Result<Estimate, TransactionError>>) -> Result<Self, TransactionError> {
        let (mut gas, mut reasons, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for answer in answers {
            match answer {
                Ok(Estimate::Gas(estimate)) => gas.push(estimate),
                Ok(Estimate::Reverts(reason)) => reasons.push(reason),
                Err(error) => errors.push(error),
            }
        }
        gas.sort_unstable();
        let count = reasons.len();
        if let Some(reason) = reasons.into_iter().next().filter(|_| count > gas.len()) {
            return Ok(Self::Reverts(reason));
        }
        let lower = gas.get(gas.len().saturating_sub(1) / 2).copied();
        match lower.zip(gas.get(gas.len() / 2).copied()) {
            Some((lower, higher)) => Ok(Self::Gas([lower, higher])),
            None => Err(errors.into_iter().next().unwrap_or(TransactionError::NoNode)),
        }
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

    /// From now on a node is asked that neither rests nor stands still, if there is one.
    pub(super) fn turn_to_awake(&self) -> Asked {
        self.turn_to(|node| node.is_awake());
        self.asked()
    }

    /// The newest block that more than half of those nodes show that answer; of two, the older one. From now on a node is asked
    /// that is not far behind it, if there is one: what another says of a transaction would be old.
    pub(super) async fn head(&self) -> Result<u64, TransactionError> {
        let voters = self.awake_or_all();
        let ask = |node: Arc<Node>| async move { node.checked_head().await };
        let answers = ask_at_once(&voters, "head", ask).await;
        let shown: Vec<Option<u64>> = answers.iter().map(|answer| answer.as_ref().ok().copied()).collect();
        let head = reached_by_most(answers)?;
        let keeps_up =
            |shown: &Option<u64>| shown.is_some_and(|shown| shown.saturating_add(MAX_BEHIND) >= head);
        let fit = voters.iter().zip(&shown).filter(|(_, shown)| keeps_up(shown));
        let fit: Vec<&Arc<Node>> = fit.map(|(node, _)| node).collect();
        self.turn_to(|node| fit.iter().any(|fit| Arc::ptr_eq(fit, node)));
        Ok(head)
    }

    /// Below which the wallet's nonces are used, as more than half of those nodes say that answer; of two, the one that says less.
    pub(super) async fn nonce(&self, block: BlockNumberOrTag) -> Result<u64, TransactionError> {
        let ask = |node: Arc<Node>| async move { node.checked_nonce(block).await };
        reached_by_most(ask_at_once(&self.awake_or_all(), "nonce", ask).await)
    }

    /// Before something is asked: for [`Self::turn_from`].
    pub(super) fn asked(&self) -> Asked {
        Asked(self.turns.load(Relaxed))
    }

    /// From now on the next one is asked, unless that has happened meanwhile.
    pub(super) fn turn_from(&self, asked: Asked) {
        self.turn_by(asked, 1);
    }

    /// Goes so many places on from the one whose turn it was, unless another's turn has come meanwhile: that is as good.
    fn turn_by(&self, Asked(turns): Asked, places: usize) {
        let _ = self.turns.compare_exchange(turns, turns.wrapping_add(places), Relaxed, Relaxed);
    }

    /// What it takes to be mined: the middle one of what nodes say, so that no single one of several makes it. Those that
    /// rest have no say, unless all do.
    pub(super) async fn market(&self) -> Result<Market, TransactionError> {
        let ask = |node: Arc<Node>| async move { node.market().await };
        let answers = ask_at_once(&self.awake_or_all(), "fee history", ask).await;
        let said: Vec<Market> = answers.iter().filter_map(|answer| answer.as_ref().ok().copied()).collect();
        match (Market::middle(&said), answers.into_iter().next()) {
            (Some(market), _) => Ok(market),
            (None, Some(Err(error))) => Err(error),
            (None, _) => Err(TransactionError::NoNode),
        }
    }

    /// What a call would do now. One node's word stops no call, and has none made with far too little gas.
    pub(super) async fn estimate(&self, row: &TransactionRow) -> Result<Estimates, TransactionError> {
        let ask = |node: Arc<Node>| async move { node.checked_estimate(row.to, &row.calldata).await };
        Estimates::of(ask_at_once(&self.awake_or_all(), "gas estimate", ask).await)
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
        let ask = |node: Arc<Node>| async move { node.says_lost(row, loss).await };
        let said = ask_at_once(&self.awake_or_all(), "nonce", ask).await;
        2 * said.iter().filter(|answer| matches!(answer, Ok(true))).count() > self.count()
    }

    /// What the other nodes make of a receipt by which a row would end.
    pub(super) async fn backing(&self, row: &TransactionRow, receipt: &Receipt) -> Backing {
        let ask = |node: Arc<Node>| async move { node.echo(row, receipt).await };
        let others: Vec<Arc<Node>> = self.not_asked().filter(|node| node.is_awake()).cloned().collect();
        let said = ask_at_once(&others, "receipt", ask).await;
        let said: Vec<Echo> = said.into_iter().filter_map(Result::ok).collect();
        Backing::of(&said, self.others.len())
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Node>> + Clone {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn not_asked(&self) -> impl Iterator<Item = &Arc<Node>> {
        let current = self.place();
        self.all().enumerate().filter(move |(place, _)| *place != current).map(|(_, node)| node)
    }

    /// Those that neither rest nor stand still, unless none is left.
    fn awake_or_all(&self) -> Vec<Arc<Node>> {
        let awake: Vec<Arc<Node>> = self.all().filter(|node| node.is_awake()).cloned().collect();
        if awake.is_empty() { self.all().cloned().collect() } else { awake }
    }

    /// From now on the first one that will do is asked, from the current one on; the current one if none will.
    fn turn_to(&self, will_do: impl Fn(&Arc<Node>) -> bool) {
        let asked = self.asked();
        let mut from_current = self.all().cycle().skip(self.place()).take(self.count());
        if let Some(places) = from_current.position(will_do) {
            self.turn_by(asked, places);
        }
    }

    /// The place of the one that is asked now.
    fn place(&self) -> usize {
        self.turns.load(Relaxed) % self.count()
    }

    /// How many are configured.
    fn count(&self) -> usize {
        self.others.len() + 1
    }
}

/// How far more than half of the nodes are that answer; of two, the one that is behind.
fn reached_by_most(answers: Vec<Result<u64, TransactionError>>) -> Result<u64, TransactionError> {
    let reached = answers.iter().filter_map(|answer| answer.as_ref().ok().copied()).collect();
    match execution::reached_by_most(reached) {
        Some((by_most, _)) => Ok(by_most),
        None => Err(answers.into_iter().find_map(Result::err).unwrap_or(TransactionError::NoNode)),
    }
}

/// Asks nodes at once. One that does not answer in time rests: else each question would wait for it again.
async fn ask_at_once<T, A: Future<Output = Result<T, TransactionError>>>(
    nodes: &[Arc<Node>],
    request: &'static str,
    ask: impl Fn(Arc<Node>) -> A,
) -> Vec<Result<T, TransactionError>> {
    let answers = nodes.iter().map(|node| {
        let answer = tokio::time::timeout(VOTE_TIMEOUT, ask(Arc::clone(node)));
        async move { answer.await.unwrap_or_else(|_| Err(node.hangs(request))) }
    });
    join_all(answers).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_nodes_say_what_a_call_would_do_and_the_middle_one_how_much_gas_it_takes() {
        let no = || Err(TransactionError::NoNode);
        let reverts = || Ok(Estimate::Reverts("no".to_owned()));
        let gas = |gas| Ok(Estimate::Gas(gas));
        let refused = || Some(Estimates::Reverts("no".to_owned()));
        for (answers, expected) in [
            (vec![gas(5)], Some(Estimates::Gas([5, 5]))),
            (vec![gas(9), gas(5)], Some(Estimates::Gas([5, 9]))),
            (vec![gas(900), gas(5), gas(1)], Some(Estimates::Gas([5, 5]))),
            (vec![gas(7), gas(1), gas(900), gas(5)], Some(Estimates::Gas([5, 7]))),
            (vec![no(), gas(5)], Some(Estimates::Gas([5, 5]))),
            (vec![reverts()], refused()),
            (vec![reverts(), no(), no()], refused()),
            // Of two nobody can say who is right: it is tried.
            (vec![reverts(), gas(5)], Some(Estimates::Gas([5, 5]))),
            (vec![reverts(), gas(5), gas(6)], Some(Estimates::Gas([5, 6]))),
            (vec![gas(5), reverts(), reverts()], refused()),
            (vec![no(), no()], None),
            (vec![], None),
        ] {
            assert_eq!(Estimates::of(answers).ok(), expected);
        }
    }

    #[test]
    fn a_receipt_counts_if_most_nodes_have_finalised_it() {
        use Backing::{Disputed, TooFew};
        use Echo::{NotYet, OtherCost, Otherwise, Same};
        let sure = Backing::Agreed { is_cost_sure: true };
        let dear = Backing::Agreed { is_cost_sure: false };
        for (said, others, backing) in [
            (&[][..], 0, sure),
            // Of two: the other one is down, agrees, is behind, or contradicts.
            (&[], 1, sure),
            (&[Same], 1, sure),
            (&[OtherCost], 1, dear),
            (&[NotYet], 1, TooFew),
            (&[Otherwise], 1, Disputed),
            // Of three.
            (&[], 2, TooFew),
            (&[NotYet, NotYet], 2, TooFew),
            (&[Same], 2, sure),
            (&[Same, NotYet], 2, sure),
            (&[Same, Otherwise], 2, sure),
            (&[OtherCost, Otherwise], 2, dear),
            (&[Otherwise, Otherwise], 2, Disputed),
            (&[NotYet, Otherwise], 2, Disputed),
            (&[Otherwise], 2, Disputed),
            // Of four, two are not most.
            (&[Same], 3, TooFew),
            (&[Same, OtherCost], 3, dear),
            // Of five.
            (&[], 4, TooFew),
            (&[Same, Same], 4, sure),
            (&[Same, Same, Otherwise, Otherwise], 4, sure),
            (&[Same, Otherwise, Otherwise, Otherwise], 4, Disputed),
        ] {
            assert_eq!(Backing::of(said, others), backing, "{said:?} of {others}");
        }
    }
}
