//! Several execution nodes: one answers, and for what can't be taken back most of them must say the same.
//!
//! A whole step goes to one node, because answers of two nodes don't fit together: a number from one that is ahead and logs from
//! one that is behind lose events. That is why alloy's own fall-back layer does not do here: it mixes nodes' answers, and takes
//! the first refusal for an answer.

mod asking;

use super::error::ChainError;
use super::managers::PoolBlocks;
use super::node::Node;
use super::votes::{majority, reached_by_most};
use super::{Cursor, InForce, Pool, PoolEvent, PoolStatus};
use crate::chain::profile::{PoolEventKind, Profile};
use crate::chain::url::NodeUrl;
use alloy::eips::BlockNumberOrTag;
use alloy::providers::DynProvider;
use asking::{Answers, CONFIRMATION, in_time, late, voices};
use futures::future::join_all;
use postern_shared::ids::{Address, Digest, PoolId};
use postern_shared::manifest::Contracts;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a node may take to answer what others are asked too, such as whether one of them is right: who takes longer has no vote.
pub(crate) const VOTE_TIMEOUT: Duration = Duration::from_secs(5);

/// The same where they have to search, with many requests.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a node may take for what it is asked before anything is begun; and for the remarks once more.
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);

/// Two epochs: a node whose finalised block is so many blocks behind another's stands still, or finality does where it is.
const STANDSTILL: u64 = 64;

/// How long a head may stay the same without that counting against its node: a slot of mainnet.
const LOOK: Duration = Duration::from_secs(12);

/// After so many polls without anything new, the other nodes are asked whether there is: the first one may stand still.
const IDLE_POLLS: u32 = 7;

/// After so long they are asked anyway. At rest a host looks a little less often, and so asks them at every look: six times in an epoch
/// of mainnet, one request to each.
const LONGEST_IDLE: Duration = Duration::from_secs(60);

/// The configured execution nodes.
#[derive(Debug, Clone)]
pub struct Execution {
    first: Arc<Node>,
    /// All of them, the first included, in the order of the configuration.
    nodes: Vec<Arc<Node>>,
    idle: Arc<Mutex<Idle>>,
    /// Between two looks at whether a node stands still.
    look: Duration,
    chain_id: u64,
    profile: Profile,
}

/// Since the other nodes were asked what is final.
#[derive(Debug)]
struct Idle {
    /// Polls without anything new.
    polls: u32,
    since: Instant,
}

impl Idle {
    /// Whether a poll is to ask them. That counts as asked.
    fn ends(&mut self, is_new: bool, now: Instant) -> bool {
        self.polls = self.polls.saturating_add(1);
        let is_long = now.saturating_duration_since(self.since) >= LONGEST_IDLE;
        let ends = is_new || self.polls >= IDLE_POLLS || is_long;
        if ends {
            (self.polls, self.since) = (0, now);
        }
        ends
    }
}

/// One of the nodes, for [`crate::chain::transactions::Transactions`], which asks it other questions.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Node>);

impl Connection {
    /// Where it is.
    pub fn url(&self) -> &NodeUrl {
        self.0.url()
    }

    /// What it is asked through.
    pub fn provider(&self) -> &DynProvider {
        &self.0.provider
    }

    /// Whether it is let alone for a while: it has failed, or most of the others contradict it.
    pub fn rests(&self) -> bool {
        self.0.health().rests_until(Instant::now()).is_some()
    }

    /// Whether its head has not moved for long, while another node's has: others do without it.
    pub fn stands_still(&self) -> bool {
        self.0.health().stands_still()
    }

    /// Notes that it has not answered a request in time: it is let alone for a while.
    pub fn hangs(&self, request: &'static str) {
        self.0.failed(&ChainError::Node { request, reason: "no answer in time".to_owned() });
    }

    /// To a node that nothing is known of.
    #[cfg(test)]
    pub(crate) fn unchecked(url: &NodeUrl, chain_id: u64) -> Self {
        Self(Arc::new(Node::new(url, chain_id, Profile::default()).unwrap()))
    }

    /// What is wrong with it, if it does not work.
    #[cfg(test)]
    pub(crate) fn trouble(&self) -> Option<String> {
        self.0.health().trouble()
    }

    /// Has it rest for minutes.
    #[cfg(test)]
    pub(crate) fn fail_often(&self) {
        (0..20).for_each(|_| self.0.failed(&ChainError::NoNodes));
    }
}

/// What one node says before anything is begun.
#[derive(Debug)]
pub struct Checked {
    /// Scheme, host and port.
    pub name: String,
    /// Why it can't be relied on, if it can't.
    pub error: Option<ChainError>,
    /// What is not as the manifests say, if it can, and keeps nobody from beginning.
    pub remarks: Vec<ChainError>,
}

/// What one node shows of a block.
pub type Shown = (String, HashSet<PoolEvent>);

impl Execution {
    /// Connects to one node with the `documents` profile. Refuses a node of another chain than the manifest's.
    pub async fn connect(url: &str, chain_id: u64) -> Result<Self, ChainError> {
        Self::connect_all(&[NodeUrl::parse(url)?], chain_id, Profile::default()).await
    }

    /// Connects to several nodes. Refuses if all are of another chain, or none of the right one answers; those that don't may do so
    /// later.
    pub async fn connect_all(urls: &[NodeUrl], chain_id: u64, profile: Profile) -> Result<Self, ChainError> {
        let execution = Self::new(urls, chain_id, profile)?;
        let found = execution.check(&[]).await;
        if found.iter().all(|checked| checked.error.is_some()) {
            let mut errors: Vec<ChainError> = found.into_iter().filter_map(|checked| checked.error).collect();
            // One that is down may be of the right chain.
            errors.sort_by_key(|error| !error.is_transient());
            return Err(errors.into_iter().next().unwrap_or(ChainError::NoNodes));
        }
        Ok(execution)
    }

    /// Does not connect yet.
    pub fn new(urls: &[NodeUrl], chain_id: u64, profile: Profile) -> Result<Self, ChainError> {
        let nodes = urls.iter().map(|url| Node::new(url, chain_id, profile).map(Arc::new));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let first = Arc::clone(nodes.first().ok_or(ChainError::NoNodes)?);
        let idle = Arc::new(Mutex::new(Idle { polls: 0, since: Instant::now() }));
        Ok(Self { first, nodes, idle, look: LOOK, chain_id, profile })
    }

    /// How each node is, in the order of the configuration: whether it answers, is of the right chain, and says of the pool managers
    /// what the manifests do, the newest manifest's first. Each is asked once, all at the same time.
    pub async fn check(&self, managers: &[Contracts]) -> Vec<Checked> {
        let checks = self.nodes.iter().map(|node| async move {
            let error = in_time("check", CHECK_TIMEOUT, node.check(managers.first())).await.err();
            let remarks = match &error {
                Some(error) => {
                    node.failed(error);
                    Vec::new()
                }
                None => {
                    node.health().worked();
                    remarks(node, managers).await
                }
            };
            Checked { name: node.name().to_owned(), error, remarks }
        });
        join_all(checks).await
    }

    /// Asks those nodes again that were not as the manifests say when they were asked last, or have not been asked because they did not
    /// work: until they are, [`Self::troubles`] shows it. Those that do not work now have their turn once they do.
    pub async fn check_remarks(&self, managers: &[Contracts]) {
        let is_due = |node: &&Arc<Node>| {
            let health = node.health();
            health.works() && !health.is_as_said()
        };
        join_all(self.nodes.iter().filter(is_due).map(|node| remarks(node, managers))).await;
    }

    /// The same with another pause between two looks at whether a node stands still.
    #[cfg(test)]
    pub(crate) fn looking_every(self, look: Duration) -> Self {
        Self { look, ..self }
    }

    /// The connection to the first node.
    pub fn provider(&self) -> &DynProvider {
        &self.first.provider
    }

    /// All nodes, the first one first.
    pub fn connections(&self) -> Vec<Connection> {
        self.nodes.iter().map(|node| Connection(Arc::clone(node))).collect()
    }

    /// The contract profile.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What is wrong with each node, by its name; `None` if it works.
    pub fn troubles(&self) -> BTreeMap<String, Option<String>> {
        let mut troubles = BTreeMap::new();
        for node in &self.nodes {
            let trouble = node.health().trouble();
            let known: &mut Option<String> = troubles.entry(node.name().to_owned()).or_default();
            *known = known.take().or(trouble);
        }
        troubles
    }

    /// Whether a node is far behind another, and it is open whether it stands still.
    pub fn watches_a_lag(&self) -> bool {
        self.nodes.iter().any(|node| {
            let health = node.health();
            health.is_lagging() && !health.stands_still()
        })
    }

    /// A block that more than half of the nodes have finalised, as they say: where to begin when nothing was processed yet, after
    /// that block (0: from the chain's start).
    pub async fn cursor_at(&self, block: u64) -> Result<Cursor, ChainError> {
        self.with_node(|node| async move {
            let finalised = node.finalised().await?.block;
            if finalised < block {
                return Err(ChainError::Behind { finalised, cursor: block });
            }
            if self.finalised_by_most(&node, finalised, 0).await? < block {
                return Err(ChainError::Disagreement(format!("whether block {block} is final")));
            }
            let cursor = node.cursor_at(block).await?;
            self.confirm_block(&node, cursor, 0).await?;
            Ok(cursor)
        })
        .await
    }

    /// The block after which to begin with a contract whose events begin at `start_block`: the one before it, or the newest one that
    /// most nodes have finalised, if that is earlier. So nobody waits for a block that may never come.
    pub async fn cursor_before(&self, start_block: u64) -> Result<Cursor, ChainError> {
        let finalised = self.finalised_as_most_say().await?;
        self.cursor_at(start_block.saturating_sub(1).min(finalised)).await
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
        let finalised = self.newest_final(node, finalised, cursor).await?;
        if finalised.block <= cursor.block {
            return Ok((Vec::new(), cursor));
        }
        let (events, next) = node.events(contract, cursor, finalised).await?;
        self.confirm_block(node, next, cursor.block).await?;
        self.confirm_events(node, contract, &events, cursor.block).await?;
        Ok((events, next))
    }

    /// The newest block that most nodes have finalised; asks the others only if this one says something new, has not for long, or
    /// was behind them the last time.
    async fn newest_final(
        &self,
        node: &Arc<Node>,
        own: Cursor,
        cursor: Cursor,
    ) -> Result<Cursor, ChainError> {
        let is_new = own.block > cursor.block;
        // Nothing is done under the lock that could leave it half done.
        let ends = self.idle.lock().unwrap_or_else(PoisonError::into_inner).ends(is_new, Instant::now());
        if !ends && !node.health().is_lagging() {
            return Ok(own);
        }
        match self.finalised_by_most(node, own.block, cursor.block).await? {
            block if block <= cursor.block => Ok(cursor),
            block if block < own.block => node.cursor_at(block).await,
            block if !is_new && block > own.block => {
                Err(ChainError::Behind { finalised: own.block, cursor: block })
            }
            _ => Ok(own),
        }
    }

    /// The newest block that more than half of the nodes have finalised that answer, of which one has finalised `own`. Those
    /// don't count that are before a block that was final already, or that stand still: else one of two could hold everything up.
    /// That a node only says less than another is no reason: the other may take blocks for final that are not.
    async fn finalised_by_most(
        &self,
        node: &Arc<Node>,
        own: u64,
        already_final: u64,
    ) -> Result<u64, ChainError> {
        let ask = |other: Arc<Node>| async move {
            match other.finalised().await {
                // It has none yet.
                Err(ChainError::MissingBlock(_)) => Ok(0),
                found => found.map(|found| found.block),
            }
        };
        let counts = |node: &Arc<Node>, finalised| node.health().counts(finalised, already_final);
        let counted = |shown: &[(Arc<Node>, u64)]| -> Vec<u64> {
            let counted = shown.iter().filter(|(node, finalised)| counts(node, *finalised));
            counted.map(|(_, finalised)| *finalised).collect()
        };
        // Not if those that have not said anything can have come further than what is reached so far.
        let is_settled = |answers: &Answers<u64>| {
            let mut blocks = counted(&answers.given);
            blocks.extend(counts(node, own).then_some(own));
            let so_far = reached_by_most(blocks.clone()).map(|(block, _)| block);
            blocks.resize(self.nodes.len(), u64::MAX);
            reached_by_most(blocks).map(|(block, _)| block) == so_far
        };
        let mut shown = self.others(node, ask, is_settled).await.given;
        shown.push((Arc::clone(node), own));
        self.look_at_lags(&shown).await;
        let (block, agreed) = reached_by_most(counted(&shown)).unwrap_or_default();
        if 2 * agreed < self.nodes.len() {
            return Err(self.too_few("the newest final block", agreed));
        }
        Ok(block)
    }

    /// Sees whether nodes that are far behind another follow the chain all the same.
    async fn look_at_lags(&self, shown: &[(Arc<Node>, u64)]) {
        let furthest = shown.iter().map(|(_, finalised)| *finalised).max().unwrap_or_default();
        let looks = shown.iter().map(|(node, finalised)| async move {
            if furthest.saturating_sub(*finalised) <= STANDSTILL {
                return node.health().keeps_up();
            }
            match in_time(CONFIRMATION, VOTE_TIMEOUT, node.reached(*finalised)).await {
                Ok(reached) => node.health().lags(reached, furthest, Instant::now(), self.look),
                Err(error) => node.failed(&error),
            }
        });
        join_all(looks).await;
    }

    /// Refuses a block of which most of the other nodes say that it is another, or don't say yet that it is this one.
    async fn confirm_block(
        &self,
        node: &Arc<Node>,
        block: Cursor,
        already_final: u64,
    ) -> Result<(), ChainError> {
        let ask = move |other: Arc<Node>| async move {
            Ok(HashSet::from([other.cursor_at(block.block).await?.hash]))
        };
        let own = HashSet::from([block.hash]);
        let others = self.votes(node, &own, already_final, ask).await;
        self.confirm(node, &own, others, already_final, &format!("block {}", block.block))
    }

    /// Whether the cursor's block has changed, or one node only says so: it takes more than half of all nodes.
    async fn confirm_change(&self, node: &Arc<Node>, cursor: Cursor, changed: ChainError) -> ChainError {
        let ask = move |other: Arc<Node>| async move { other.cursor_at(cursor.block).await };
        let has_changed = |others: &Answers<Cursor>| {
            let say_so = 1 + others.given.iter().filter(|(_, found)| found.hash != cursor.hash).count();
            2 * say_so > self.nodes.len()
        };
        let others = self.others(node, ask, has_changed).await;
        if has_changed(&others) {
            changed
        } else {
            ChainError::Contradicted(format!("block {}", cursor.block))
        }
    }

    /// Refuses events that most of the other nodes don't show in their blocks, or that show more there.
    async fn confirm_events(
        &self,
        node: &Arc<Node>,
        contract: Address,
        events: &[PoolEvent],
        already_final: u64,
    ) -> Result<(), ChainError> {
        let mut blocks: BTreeMap<u64, (Digest, HashSet<PoolEvent>)> = BTreeMap::new();
        for event in events {
            let (_, of_block) =
                blocks.entry(event.block_number).or_insert((event.source.block, HashSet::new()));
            of_block.insert(*event);
        }
        for (number, (hash, own)) in blocks {
            let block = Cursor { block: number, hash };
            let answers = self.events_by_others(node, &own, contract, block, already_final).await;
            let what = format!("the logs of block {number}");
            self.confirm(node, &own, answers, already_final, &what)?;
        }
        Ok(())
    }

    async fn events_by_others(
        &self,
        node: &Arc<Node>,
        own: &HashSet<PoolEvent>,
        contract: Address,
        block: Cursor,
        already_final: u64,
    ) -> Answers<HashSet<PoolEvent>> {
        let ask = move |other: Arc<Node>| async move {
            Ok(other.events_of(contract, block).await?.into_iter().collect::<HashSet<PoolEvent>>())
        };
        self.votes(node, own, already_final, ask).await
    }

    /// A contract's events of one finalised block, as more than half of the nodes say that have it, and at least half of all; and
    /// what each of these shows.
    pub async fn events_of(
        &self,
        contract: Address,
        number: u64,
    ) -> Result<(Vec<PoolEvent>, Vec<Shown>), ChainError> {
        let block = self.cursor_at(number).await?;
        self.with_node(|node| async move {
            let own: HashSet<PoolEvent> = node.events_of(contract, block).await?.into_iter().collect();
            let Answers { given, silent } = self.events_by_others(&node, &own, contract, block, 0).await;
            let (mut names, mut answers) = (vec![node.name().to_owned()], vec![own]);
            for (other, events) in given {
                names.push(other.name().to_owned());
                answers.push(events);
            }
            let (agreed, configured) = (answers.len(), self.nodes.len());
            if 2 * agreed < configured {
                return Err(self.too_few(&format!("the logs of block {number}"), agreed));
            }
            let mut events: Vec<PoolEvent> =
                majority(&answers, voices(&silent, 0), configured).into_iter().collect();
            events.sort_unstable_by_key(|event| event.source.log_index);
            Ok((events, names.into_iter().zip(answers).collect()))
        })
        .await
    }

    /// The newest finalised block.
    pub async fn finalised(&self) -> Result<Cursor, ChainError> {
        self.with_node(|node| async move { node.finalised().await }).await
    }

    /// The newest block that most nodes have finalised.
    pub async fn finalised_as_most_say(&self) -> Result<u64, ChainError> {
        self.with_node(|node| async move {
            let own = node.finalised().await?.block;
            self.finalised_by_most(&node, own, 0).await
        })
        .await
    }

    /// What a pool's own pool manager says about it, at the newest finalised block (`finalised`) or at the head, as one node says.
    pub async fn pool(&self, pool: PoolId, finalised: bool) -> Result<Pool, ChainError> {
        self.pool_in_turn(pool, finalised, 0).await
    }

    /// Likewise. Each `turn` begins with another node, so that what one node leaves out of a pool stays unseen for one turn only.
    pub async fn pool_in_turn(&self, pool: PoolId, finalised: bool, turn: usize) -> Result<Pool, ChainError> {
        self.check_pool(pool)?;
        let at = if finalised { BlockNumberOrTag::Finalized } else { BlockNumberOrTag::Latest };
        self.with_node_of(turn, |node| async move { node.pool(pool, at).await }).await
    }

    /// The same at the newest block that most nodes have finalised, as they say: for what can't be taken back.
    pub async fn pool_for_good(&self, pool: PoolId) -> Result<Pool, ChainError> {
        self.check_pool(pool)?;
        self.with_node(|node| async move {
            let newest = node.finalised().await?;
            let block = self.finalised_by_most(&node, newest.block, 0).await?;
            let at = if block < newest.block { node.cursor_at(block).await? } else { newest };
            let own = node.pool_at(pool, at).await?;
            let said = HashSet::from([own]);
            let ask =
                move |other: Arc<Node>| async move { Ok(HashSet::from([other.pool_at(pool, at).await?])) };
            let others = self.votes(&node, &said, 0, ask).await;
            self.confirm(&node, &said, others, 0, &format!("pool {pool}"))?;
            Ok(own)
        })
        .await
    }

    /// The same at the head, if most nodes say the same.
    pub async fn pool_as_most_say(&self, pool: PoolId) -> Result<Pool, ChainError> {
        self.check_pool(pool)?;
        let ask = |node: Arc<Node>| async move { node.pool(pool, BlockNumberOrTag::Latest).await };
        self.as_most_say(&format!("pool {pool}"), VOTE_TIMEOUT, ask).await
    }

    fn check_pool(&self, pool: PoolId) -> Result<(), ChainError> {
        if pool.chain == self.chain_id {
            return Ok(());
        }
        Err(ChainError::OtherPool { pool, chain: self.chain_id })
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

    /// The blocks of pools' first events as known at a block, in the order asked. For turns see [`Self::pool_count`].
    pub async fn blocks_of(
        &self,
        contract: Address,
        at: Cursor,
        numbers: &[u32],
        turn: usize,
    ) -> Result<Vec<PoolBlocks>, ChainError> {
        self.with_node_of(turn, |node| async move { node.blocks_of(contract, at, numbers).await }).await
    }

    /// The transaction of a pool's newest event of a kind, if it has one from block `first` on, and if most nodes say the same. Looked
    /// for from the head back, but not for ever.
    pub async fn transaction_of(
        &self,
        kind: PoolEventKind,
        pool: PoolId,
        first: u64,
    ) -> Result<Option<Digest>, ChainError> {
        self.check_pool(pool)?;
        let ask = |node: Arc<Node>| async move { node.transaction_of(kind, pool, first).await };
        self.as_most_say(&format!("the last {kind:?} of pool {pool}"), SEARCH_TIMEOUT, ask).await
    }

    /// Which members a pool manager knows now, and whether wallets want others, as one node says.
    pub async fn in_force_at(&self, contract: Address) -> Result<InForce, ChainError> {
        self.in_force_in_turn(contract, 0).await
    }

    /// Likewise. For turns see [`Self::pool_in_turn`].
    pub async fn in_force_in_turn(&self, contract: Address, turn: usize) -> Result<InForce, ChainError> {
        self.with_node_of(turn, |node| async move { node.in_force_at(contract).await }).await
    }

    /// The same, if most nodes say the same.
    pub async fn in_force_as_most_say(&self, contract: Address) -> Result<InForce, ChainError> {
        let ask = |node: Arc<Node>| async move { node.in_force_at(contract).await };
        self.as_most_say(&format!("the members at pool manager {contract}"), VOTE_TIMEOUT, ask).await
    }
}

/// What a node that works says that is not as the manifests say: kept for people.
async fn remarks(node: &Node, managers: &[Contracts]) -> Vec<ChainError> {
    let Some((newest, earlier)) = managers.split_first() else { return Vec::new() };
    let remarks = tokio::time::timeout(CHECK_TIMEOUT, node.remarks(newest, earlier)).await;
    let remarks = remarks.unwrap_or_else(|_| vec![late("check")]);
    node.health().remarked(remarks.iter().map(ToString::to_string).collect());
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_nodes_are_asked_after_some_polls_and_at_every_look_at_rest() {
        let start = Instant::now();
        let mut idle = Idle { polls: 0, since: start };
        let asked: Vec<bool> = (0..14).map(|_| idle.ends(false, start)).collect();
        assert_eq!(asked, [[false; 6].as_slice(), &[true]].concat().repeat(2));
        for look in 1..5 {
            assert!(idle.ends(false, start + look * Duration::from_secs(64)), "{look}");
        }
        assert!(idle.ends(true, start), "what is new always is");
    }
}
