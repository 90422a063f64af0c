//! Several execution nodes: one answers, and for what can't be taken back most of them must say the same.
//!
//! A whole step goes to one node, because answers of two nodes don't fit together: a number from one that is ahead and logs from
//! one that is behind lose events. That is why alloy's own fall-back layer does not do here: it mixes nodes' answers, and takes
//! the first refusal for an answer.

use super::error::{ChainError, conclude};
use super::managers::PoolBlocks;
use super::node::Node;
use super::votes::{Verdict, finalised_by_most, judge, majority};
use super::{Cursor, InForce, Pool, PoolEvent, PoolStatus};
use crate::chain::profile::{PoolEventKind, Profile};
use crate::chain::url::NodeUrl;
use alloy::eips::BlockNumberOrTag;
use alloy::providers::DynProvider;
use futures::future::join_all;
use postern_shared::ids::{Address, Digest, PoolId};
use postern_shared::manifest::Contracts;
use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How long the other nodes may take to confirm what one has said: who takes longer has no vote.
const VOTE_TIMEOUT: Duration = Duration::from_secs(5);

/// After so many polls without anything new, the other nodes are asked whether there is: the first one may stand still.
const IDLE_POLLS: u32 = 10;

/// The configured execution nodes.
#[derive(Debug, Clone)]
pub struct Execution {
    first: Arc<Node>,
    /// All of them, the first included, in the order of the configuration.
    nodes: Vec<Arc<Node>>,
    /// Polls without anything new.
    idle: Arc<AtomicU32>,
    chain_id: u64,
    profile: Profile,
}

impl Execution {
    /// Connects to one node with the `documents` profile. Refuses a node of another chain than the manifest's.
    pub async fn connect(url: &str, chain_id: u64) -> Result<Self, ChainError> {
        Self::connect_all(&[NodeUrl::parse(url)?], chain_id, Profile::default()).await
    }

    /// Connects to several nodes. Refuses if one is of another chain, or none answers; those that don't may do so later.
    pub async fn connect_all(urls: &[NodeUrl], chain_id: u64, profile: Profile) -> Result<Self, ChainError> {
        let nodes = urls.iter().map(|url| Node::new(url, chain_id, profile).map(Arc::new));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let first = Arc::clone(nodes.first().ok_or(ChainError::NoNodes)?);
        let found = join_all(nodes.iter().map(|node| node.check_chain())).await;
        let (mut is_one_right, mut down) = (false, None);
        for (node, found) in nodes.iter().zip(found) {
            match found {
                Ok(()) => is_one_right = true,
                Err(error) if error.is_transient() => {
                    node.failed(&error);
                    down = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match down {
            Some(error) if !is_one_right => Err(error),
            _ => Ok(Self { first, nodes, idle: Arc::default(), chain_id, profile }),
        }
    }

    /// The connection to the first node, for [`crate::chain::transactions::Transactions`].
    pub fn provider(&self) -> &DynProvider {
        &self.first.provider
    }

    /// The connections to all nodes, the first one first.
    pub fn providers(&self) -> Vec<DynProvider> {
        self.nodes.iter().map(|node| node.provider.clone()).collect()
    }

    /// The contract profile.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What is wrong with each node, by its name; `None` if it works.
    pub fn troubles(&self) -> BTreeMap<String, Option<String>> {
        let mut troubles = BTreeMap::new();
        for node in &self.nodes {
            let trouble = node.health().trouble().map(str::to_owned);
            let known: &mut Option<String> = troubles.entry(node.name().to_owned()).or_default();
            *known = known.take().or(trouble);
        }
        troubles
    }

    /// A finalised block, as more than half of the nodes that have it say: where to begin when nothing was processed yet, after
    /// that block (0: from the chain's start).
    pub async fn cursor_at(&self, block: u64) -> Result<Cursor, ChainError> {
        self.with_node(|node| async move {
            let finalised = node.finalised().await?.block;
            if finalised < block {
                return Err(ChainError::Behind { finalised, cursor: block });
            }
            let cursor = node.cursor_at(block).await?;
            self.confirm_block(&node, cursor).await?;
            Ok(cursor)
        })
        .await
    }

    /// A contract's events of some finalised blocks after the cursor, in the chain's order, and the cursor behind them. Some before
    /// the cursor are given again.
    ///
    /// One call is one step, to be stored before the next; the cursor stays when there is nothing more to read.
    pub async fn poll(
        &self,
        contract: Address,
        cursor: Cursor,
    ) -> Result<(Vec<PoolEvent>, Cursor), ChainError> {
        self.with_node(|node| async move {
            match self.step(&node, contract, cursor).await {
                Err(error @ ChainError::FinalisedBlockChanged { .. }) => {
                    Err(self.confirm_change(&node, cursor, error).await)
                }
                step => step,
            }
        })
        .await
    }

    async fn step(
        &self,
        node: &Arc<Node>,
        contract: Address,
        cursor: Cursor,
    ) -> Result<(Vec<PoolEvent>, Cursor), ChainError> {
        let finalised = node.finalised().await?;
        if finalised.block < cursor.block {
            return Err(ChainError::Behind { finalised: finalised.block, cursor: cursor.block });
        }
        if finalised.block == cursor.block && finalised != cursor {
            node.check_cursor(cursor).await?;
        }
        let finalised = self.finalised_by_most(node, finalised, cursor).await?;
        if finalised.block <= cursor.block {
            return Ok((Vec::new(), cursor));
        }
        let (events, next) = node.events(contract, cursor, finalised).await?;
        self.confirm_block(node, next).await?;
        self.confirm_events(node, contract, &events).await?;
        Ok((events, next))
    }

    /// The newest block that most nodes have finalised; asks the others only if this one says something new, or has not for long.
    async fn finalised_by_most(
        &self,
        node: &Arc<Node>,
        own: Cursor,
        cursor: Cursor,
    ) -> Result<Cursor, ChainError> {
        let is_new = own.block > cursor.block;
        let idle = if is_new { self.idle.swap(0, Relaxed) } else { self.idle.fetch_add(1, Relaxed) };
        if !is_new && idle % IDLE_POLLS != IDLE_POLLS - 1 {
            return Ok(own);
        }
        let others = self.others(node, |other| async move { other.finalised().await }).await;
        let mut blocks: Vec<u64> = others.iter().map(|(_, finalised)| finalised.block).collect();
        blocks.push(own.block);
        match finalised_by_most(blocks) {
            Some(block) if block < cursor.block => Ok(cursor),
            Some(block) if block < own.block => node.cursor_at(block).await,
            Some(block) if !is_new && block > own.block => {
                Err(ChainError::Behind { finalised: own.block, cursor: block })
            }
            _ => Ok(own),
        }
    }

    /// Refuses a block of which the other nodes that have one of this number say that it is another.
    async fn confirm_block(&self, node: &Arc<Node>, block: Cursor) -> Result<(), ChainError> {
        let others = self.others(node, move |other| async move { other.cursor_at(block.block).await }).await;
        let answers = others.into_iter().map(|(other, found)| (other, HashSet::from([found.hash]))).collect();
        confirm(node, &HashSet::from([block.hash]), answers, &format!("block {}", block.block))
    }

    /// Whether the cursor's block has changed, or one node only says so: it takes more than half of all nodes.
    async fn confirm_change(&self, node: &Arc<Node>, cursor: Cursor, changed: ChainError) -> ChainError {
        let ask = move |other: Arc<Node>| async move { other.cursor_at(cursor.block).await };
        let others = self.others(node, ask).await;
        let say_so = 1 + others.iter().filter(|(_, found)| found.hash != cursor.hash).count();
        if 2 * say_so > self.nodes.len() {
            return changed;
        }
        ChainError::Contradicted(format!("block {}", cursor.block))
    }

    /// Refuses events that the other nodes that have their blocks don't show there, or that show more.
    async fn confirm_events(
        &self,
        node: &Arc<Node>,
        contract: Address,
        events: &[PoolEvent],
    ) -> Result<(), ChainError> {
        let mut blocks: BTreeMap<u64, (Digest, HashSet<PoolEvent>)> = BTreeMap::new();
        for event in events {
            let (_, of_block) =
                blocks.entry(event.block_number).or_insert((event.source.block, HashSet::new()));
            of_block.insert(*event);
        }
        for (number, (hash, own)) in blocks {
            let answers = self.events_by_others(node, contract, Cursor { block: number, hash }).await;
            confirm(node, &own, answers, &format!("the logs of block {number}"))?;
        }
        Ok(())
    }

    async fn events_by_others(
        &self,
        node: &Arc<Node>,
        contract: Address,
        block: Cursor,
    ) -> Vec<(Arc<Node>, HashSet<PoolEvent>)> {
        let ask = move |other: Arc<Node>| async move { other.events_of(contract, block).await };
        let others = self.others(node, ask).await.into_iter();
        others.map(|(other, events)| (other, events.into_iter().collect())).collect()
    }

    /// A contract's events of one finalised block, as more than half of the nodes that have it say; and which nodes these are.
    pub async fn events_of(
        &self,
        contract: Address,
        number: u64,
    ) -> Result<(Vec<PoolEvent>, Vec<String>), ChainError> {
        let block = self.cursor_at(number).await?;
        self.with_node(|node| async move {
            let own: HashSet<PoolEvent> = node.events_of(contract, block).await?.into_iter().collect();
            let (mut names, mut answers) = (vec![node.name().to_owned()], vec![own]);
            for (other, events) in self.events_by_others(&node, contract, block).await {
                names.push(other.name().to_owned());
                answers.push(events);
            }
            let mut events: Vec<PoolEvent> = majority(&answers).into_iter().collect();
            events.sort_unstable_by_key(|event| event.source.log_index);
            Ok((events, names))
        })
        .await
    }

    /// The newest finalised block.
    pub async fn finalised(&self) -> Result<Cursor, ChainError> {
        self.with_node(|node| async move { node.finalised().await }).await
    }

    /// What a pool's own pool manager says about it, at the newest finalised block (`finalised`) or at the head.
    pub async fn pool(&self, pool: PoolId, finalised: bool) -> Result<Pool, ChainError> {
        if pool.chain != self.chain_id {
            return Err(ChainError::OtherPool { pool, chain: self.chain_id });
        }
        let at = if finalised { BlockNumberOrTag::Finalized } else { BlockNumberOrTag::Latest };
        self.with_node(|node| async move { node.pool(pool, at).await }).await
    }

    /// How many pools a pool manager had at a block. Each `turn` begins with another node, so that one node's silence about a pool
    /// does not last.
    pub async fn pool_count(&self, contract: Address, at: Cursor, turn: usize) -> Result<u32, ChainError> {
        self.with_node_of(turn, |node| async move { node.pool_count(contract, at).await }).await
    }

    /// The statuses that pools had at a block, in the order asked. For turns see [`Self::pool_count`].
    pub async fn statuses(
        &self,
        contract: Address,
        at: Cursor,
        numbers: &[u32],
        turn: usize,
    ) -> Result<Vec<PoolStatus>, ChainError> {
        self.with_node_of(turn, |node| async move { node.statuses(contract, at, numbers).await }).await
    }

    /// The blocks of pools' first events as known at a block, in the order asked.
    pub async fn blocks_of(
        &self,
        contract: Address,
        at: Cursor,
        numbers: &[u32],
    ) -> Result<Vec<PoolBlocks>, ChainError> {
        self.with_node(|node| async move { node.blocks_of(contract, at, numbers).await }).await
    }

    /// Whether the pool manager is what the manifest says: in front of that deposit contract, with that code for pools.
    pub async fn check_manager(&self, contracts: &Contracts) -> Result<(), ChainError> {
        self.with_node(|node| async move { node.check_manager(contracts).await }).await
    }

    /// The transaction of a pool's newest event of a kind: looked for from the head back to block `first`, but not for ever.
    pub async fn transaction_of(
        &self,
        kind: PoolEventKind,
        pool: PoolId,
        first: u64,
    ) -> Result<Option<Digest>, ChainError> {
        self.with_node(|node| async move { node.transaction_of(kind, pool, first).await }).await
    }

    /// Which members a pool manager knows now, and whether wallets want others.
    pub async fn in_force_at(&self, contract: Address) -> Result<InForce, ChainError> {
        self.with_node(|node| async move { node.in_force_at(contract).await }).await
    }

    /// Has the first node do something that can; who can't is let alone for a while. Those that rest come last.
    async fn with_node<T, A: Future<Output = Result<T, ChainError>>>(
        &self,
        ask: impl Fn(Arc<Node>) -> A,
    ) -> Result<T, ChainError> {
        self.with_node_of(0, ask).await
    }

    /// Likewise, but beginning with another node each turn.
    async fn with_node_of<T, A: Future<Output = Result<T, ChainError>>>(
        &self,
        turn: usize,
        ask: impl Fn(Arc<Node>) -> A,
    ) -> Result<T, ChainError> {
        let now = Instant::now();
        let mut nodes = self.nodes.clone();
        let turn = turn.checked_rem(nodes.len()).unwrap_or_default();
        nodes.rotate_left(turn);
        // The sort is stable: of those that don't rest, the first one.
        nodes.sort_by_cached_key(|node| node.health().rests_until(now));
        let mut errors = Vec::new();
        for node in nodes {
            let asked = async {
                node.check_chain().await?;
                ask(Arc::clone(&node)).await
            };
            match asked.await {
                Ok(answer) => {
                    node.health().worked();
                    return Ok(answer);
                }
                // Who is right is open. The next one would decide without this one, or not even be asked about what it leaves out.
                Err(error @ ChainError::Disagreement(_)) => return Err(error),
                // Most nodes say so.
                Err(error @ ChainError::FinalisedBlockChanged { .. }) => return Err(error),
                Err(error) => {
                    tracing::debug!(node = node.name(), %error, "an execution node does not do");
                    node.failed(&error);
                    errors.push(error);
                }
            }
        }
        Err(conclude(errors))
    }

    /// Asks all other nodes that don't rest, at once. One that is down, or has not got what is asked for, is not in the answer.
    async fn others<T, A: Future<Output = Result<T, ChainError>>>(
        &self,
        leading: &Arc<Node>,
        ask: impl Fn(Arc<Node>) -> A,
    ) -> Vec<(Arc<Node>, T)> {
        let now = Instant::now();
        let others = self
            .nodes
            .iter()
            .filter(|node| !Arc::ptr_eq(node, leading) && node.health().rests_until(now).is_none());
        let asked = others.map(|node| {
            let asked = async {
                node.check_chain().await?;
                ask(Arc::clone(node)).await
            };
            async move { (Arc::clone(node), tokio::time::timeout(VOTE_TIMEOUT, asked).await) }
        });
        let mut answers = Vec::new();
        for (node, answer) in join_all(asked).await {
            match answer {
                Ok(Ok(answer)) => answers.push((node, answer)),
                // It is only behind.
                Ok(Err(ChainError::MissingBlock(_))) => {}
                Ok(Err(error)) => node.failed(&error),
                Err(_) => node.failed(&ChainError::Node {
                    request: "confirmation",
                    reason: "no answer in time".to_owned(),
                }),
            }
        }
        answers
    }
}

/// Holds a node's answer against the others'. Those that most contradict are let alone for a while.
fn confirm<T: Copy + Eq + Hash>(
    leading: &Node,
    own: &HashSet<T>,
    others: Vec<(Arc<Node>, HashSet<T>)>,
    what: &str,
) -> Result<(), ChainError> {
    let (nodes, answers): (Vec<Arc<Node>>, Vec<HashSet<T>>) = others.into_iter().unzip();
    match judge(own, &answers) {
        Verdict::Agreed => {
            for (node, answer) in nodes.iter().zip(&answers) {
                if answer == own {
                    node.health().worked();
                } else {
                    node.failed(&ChainError::Contradicted(what.to_owned()));
                }
            }
            Ok(())
        }
        Verdict::Contradicted => Err(ChainError::Contradicted(what.to_owned())),
        Verdict::Split => {
            let names = nodes.iter().map(|node| node.name()).chain([leading.name()]);
            let names = names.collect::<Vec<_>>().join(", ");
            Err(ChainError::Disagreement(format!("{what}: {names}")))
        }
    }
}
