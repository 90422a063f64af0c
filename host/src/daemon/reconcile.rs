//! Pools held against their events: what a pool manager says of a pool's status shows which events there must have been.
//!
//! A node that leaves a log out is not noticed by what it gives. The status is noticed: a pool that is full has asked for its
//! deposit, and one that is to leave has been asked to. The contract also knows in which blocks, so an event that is missing is
//! looked for there, and is the same at every member's host.

use super::events::{LookError, keep};
use crate::chain::execution::{Cursor, Execution, PoolBlocks, PoolEvent, PoolStatus as OnChain, Shown};
use crate::chain::profile::{PoolEventKind, Profile};
use crate::status::PoolStatus;
use crate::store::Store;
use postern_shared::ids::Address;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Formatter, Result as Written};

/// Most pools after the last one with an event that are looked at: a node can name any number.
const MOST_NEW: u32 = 10_000;
/// Most missing events that are looked for in one round. The next round goes on with others.
const MOST_SOUGHT: usize = 64;
/// Most pools at rest that are compared in one round, as many as one request asks about. The next round goes on with others.
const MOST_AT_REST: usize = 1_000;
/// Most pools that are named to people.
const MOST_NAMED: usize = 5;

/// An event that must have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Deposit,
    Exit,
}

/// An event of a pool that must have been, and is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Missing {
    pool: u32,
    event: Wanted,
}

/// The comparison of one pool manager's pools with their events.
#[derive(Debug, Default)]
pub(super) struct Reconciler {
    /// The block at which they were last compared.
    compared_at: Option<Cursor>,
    /// Counts how often they were.
    turn: usize,
    /// Counts how often something was looked for.
    seeks: usize,
    missing: Vec<Missing>,
}

/// Events that are missing and were not found either, for people.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lacking {
    pools: Vec<u32>,
    /// Who was asked.
    nodes: BTreeSet<String>,
}

impl Display for Lacking {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        let named = self.pools.iter().take(MOST_NAMED).map(u32::to_string).collect::<Vec<_>>().join(", ");
        let more = self.pools.len().saturating_sub(MOST_NAMED);
        write!(f, "pools {named}")?;
        if more > 0 {
            write!(f, " and {more} more")?;
        }
        let nodes = self.nodes.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        write!(
            f,
            " have a status without the event that leads to it; execution nodes that don't show it: {nodes}"
        )
    }
}

impl Reconciler {
    /// Compares all pools once for each finalised block, and looks for what is missing. What is missing still.
    pub(super) async fn round(
        &mut self,
        execution: &Execution,
        store: &Store,
        contract: Address,
        at: Cursor,
    ) -> Result<Option<Lacking>, LookError> {
        // The other contracts don't say in which blocks it was.
        if execution.profile() != Profile::Documents {
            return Ok(None);
        }
        if self.compared_at != Some(at) {
            self.compare(execution, store, contract, at).await?;
            self.compared_at = Some(at);
        }
        if self.missing.is_empty() {
            return Ok(None);
        }
        self.seek(execution, store, contract, at).await
    }

    async fn compare(
        &mut self,
        execution: &Execution,
        store: &Store,
        contract: Address,
        at: Cursor,
    ) -> Result<(), LookError> {
        let pools = store.pools()?.into_iter().filter(|pool| pool.pool_id.contract == contract);
        let known: BTreeMap<u32, PoolStatus> = pools.map(|pool| (pool.pool_id.number, pool)).collect();
        // Of many pools each has its turn, however often the host is started again.
        let turn = match self.compared_at {
            Some(_) => self.turn.wrapping_add(1),
            None => usize::try_from(at.block).unwrap_or_default(),
        };
        let Turn { part, node } = Turn::of(turn, parts(&known));
        let count = execution.pool_count(contract, at, node).await?;
        let open = of_part(open(&known, count), &known, part);
        let statuses = execution.statuses(contract, at, &open, node).await?;
        // A part that was not answered for has its turn again.
        self.turn = turn;
        self.take(&known, &open.into_iter().zip(statuses).collect());
        Ok(())
    }

    /// Takes in what pools were found to be. What is missing of the others stays so until it is known.
    fn take(&mut self, known: &BTreeMap<u32, PoolStatus>, found: &BTreeMap<u32, OnChain>) {
        self.missing.retain(|missing| !found.contains_key(&missing.pool) && !missing.is_known(known));
        for (&number, &status) in found {
            self.missing.extend(missing(number, known.get(&number), status));
        }
    }

    /// What to look for in this round. What can't be found, or fails, keeps nobody from looking for the rest in the next ones.
    fn next_sought(&mut self) -> Vec<Missing> {
        let sought: Vec<Missing> = self.missing.iter().copied().take(MOST_SOUGHT).collect();
        self.missing.rotate_left(sought.len());
        sought
    }

    /// Looks for missing events in the blocks in which they must be.
    async fn seek(
        &mut self,
        execution: &Execution,
        store: &Store,
        contract: Address,
        at: Cursor,
    ) -> Result<Option<Lacking>, LookError> {
        let sought = self.next_sought();
        let numbers: Vec<u32> = sought.iter().map(|missing| missing.pool).collect();
        // One that names no block, or a wrong one, is not asked again before all others were.
        self.seeks = self.seeks.wrapping_add(1);
        let blocks = execution.blocks_of(contract, at, &numbers, self.seeks).await?;
        let mut nodes = BTreeSet::new();
        let mut read = BTreeMap::new();
        for (missing, blocks) in sought.iter().zip(blocks) {
            let Some(block) = missing.block(blocks, at) else { continue };
            if let Entry::Vacant(entry) = read.entry(block) {
                let (events, shown) = execution.events_of(contract, block).await?;
                keep(store, &events, None)?;
                entry.insert((events, shown));
            }
            let Some((events, shown)) = read.get(&block) else { continue };
            nodes.extend(missing.left_out_by(shown));
            if missing.is_among(events) {
                tracing::warn!(%contract, pool = missing.pool, block, event = ?missing.event, "an event that a node left out");
                self.missing.retain(|known| known != missing);
            }
        }
        let pools: BTreeSet<u32> = self.missing.iter().map(|missing| missing.pool).collect();
        let lacking = Lacking { pools: pools.into_iter().collect(), nodes };
        Ok((!lacking.pools.is_empty()).then_some(lacking))
    }
}

impl Missing {
    /// Whether it is missing no more.
    fn is_known(self, known: &BTreeMap<u32, PoolStatus>) -> bool {
        known.get(&self.pool).is_some_and(|pool| match self.event {
            Wanted::Deposit => pool.deposit_requested,
            Wanted::Exit => pool.exit_requested,
        })
    }

    /// The block in which it was. If that is none, or one that is not final, the node contradicts itself.
    fn block(self, blocks: PoolBlocks, at: Cursor) -> Option<u64> {
        let block = match self.event {
            Wanted::Deposit => blocks.ready_at,
            Wanted::Exit => blocks.exit_requested_at,
        };
        (1..=at.block).contains(&block).then_some(block)
    }

    /// The nodes that don't show it where it must be.
    fn left_out_by(self, shown: &[Shown]) -> impl Iterator<Item = String> {
        shown.iter().filter(move |(_, events)| !self.is_among(events)).map(|(name, _)| name.clone())
    }

    fn is_among<'a>(self, events: impl IntoIterator<Item = &'a PoolEvent>) -> bool {
        let kind = match self.event {
            Wanted::Deposit => PoolEventKind::DepositRequested,
            Wanted::Exit => PoolEventKind::ExitRequested,
        };
        events.into_iter().any(|event| event.pool.number == self.pool && event.kind == kind)
    }
}

/// The pools of which events may be missing. Those that were refunded too: that it was so is one node's word.
fn open(known: &BTreeMap<u32, PoolStatus>, count: u32) -> Vec<u32> {
    let last_known = known.last_key_value().map_or(0, |(number, _)| *number);
    let last = count.min(last_known.saturating_add(MOST_NEW));
    // That its exit is on record says nothing of whether it was asked for.
    let is_complete = |pool: &PoolStatus| pool.deposit_requested && pool.exit_requested;
    (1..=last).filter(|number| !known.get(number).is_some_and(is_complete)).collect()
}

/// Whether a pool has asked for its deposit, as far as is known: nothing but an exit can be missing of it.
fn is_at_rest(known: &BTreeMap<u32, PoolStatus>, number: u32) -> bool {
    known.get(&number).is_some_and(|pool| pool.deposit_requested)
}

/// In how many parts those at rest are compared. What nodes say does not change it.
fn parts(known: &BTreeMap<u32, PoolStatus>) -> usize {
    known.keys().filter(|number| is_at_rest(known, **number)).count().div_ceil(MOST_AT_REST).max(1)
}

/// What is compared in a turn, and by whose word.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    /// Of the pools at rest.
    part: usize,
    /// The node that is asked first, counted from the first one and round again.
    node: usize,
}

impl Turn {
    /// All parts are asked of one node, and then of the next: so each part meets every node, whatever their numbers.
    fn of(turn: usize, parts: usize) -> Self {
        let parts = parts.max(1);
        Self { part: turn % parts, node: turn / parts }
    }
}

/// Those of them to be compared in a turn: all that have yet to ask for a deposit, as far as is known, and a part of those at rest.
fn of_part(open: Vec<u32>, known: &BTreeMap<u32, PoolStatus>, part: usize) -> Vec<u32> {
    let (resting, mut of_part): (Vec<u32>, Vec<u32>) =
        open.into_iter().partition(|number| is_at_rest(known, *number));
    of_part.extend(resting.chunks(MOST_AT_REST).nth(part).unwrap_or_default());
    of_part
}

/// What a pool's status shows to be missing.
fn missing(number: u32, known: Option<&PoolStatus>, status: OnChain) -> Vec<Missing> {
    let (deposit, exit) = known.map_or((false, false), |pool| (pool.deposit_requested, pool.exit_requested));
    let mut missing = Vec::new();
    if status >= OnChain::Ready && status != OnChain::Refunded && !deposit {
        missing.push(Missing { pool: number, event: Wanted::Deposit });
    }
    if status == OnChain::ExitRequested && !exit {
        missing.push(Missing { pool: number, event: Wanted::Exit });
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_shared::ids::{Digest, PoolId};

    fn pool(number: u32, deposit_requested: bool, exit_requested: bool) -> PoolStatus {
        let id = PoolId::new(1, Address([7; 20]), number);
        PoolStatus { deposit_requested, exit_requested, ..PoolStatus::new(id) }
    }

    #[test]
    fn a_status_shows_which_events_there_must_have_been() {
        use Wanted::{Deposit, Exit};
        for (known, status, expected) in [
            (None, OnChain::None, &[][..]),
            (None, OnChain::Ready, &[Deposit]),
            (None, OnChain::Deposited, &[Deposit]),
            (None, OnChain::ExitRequested, &[Deposit, Exit]),
            (None, OnChain::Refunded, &[]),
            (Some((false, true)), OnChain::ExitRequested, &[Deposit]),
            (Some((true, false)), OnChain::Ready, &[]),
            (Some((true, false)), OnChain::Deposited, &[]),
            (Some((true, false)), OnChain::ExitRequested, &[Exit]),
            (Some((true, true)), OnChain::ExitRequested, &[]),
            // A node that is behind, or lies: an event that is known stays known.
            (Some((true, true)), OnChain::None, &[]),
        ] {
            let known = known.map(|(deposit, exit)| pool(3, deposit, exit));
            let found: Vec<Wanted> =
                missing(3, known.as_ref(), status).iter().map(|missing| missing.event).collect();
            assert_eq!(found, expected, "{known:?} {status:?}");
        }
    }

    #[test]
    fn only_pools_of_which_something_can_be_missing_are_asked_about() {
        let known = [pool(1, true, true), pool(2, true, false), pool(3, false, true), pool(4, true, false)];
        let mut known: BTreeMap<u32, PoolStatus> =
            known.into_iter().map(|pool| (pool.pool_id.number, pool)).collect();
        assert_eq!(open(&known, 6), [2, 3, 4, 5, 6]);
        if let Some(pool) = known.get_mut(&4) {
            pool.exit_reported = true;
        }
        assert_eq!(open(&known, 6), [2, 3, 4, 5, 6], "it may be a lie that it has left");
    }

    #[test]
    fn of_many_pools_at_rest_each_has_its_turn_and_all_others_have_it_always() {
        let mut known: BTreeMap<u32, PoolStatus> =
            (1..=2_500).map(|number| (number, pool(number, true, false))).collect();
        known.insert(7, pool(7, false, false));
        let all: Vec<u32> = (1..=2_501).collect();
        let mut seen = BTreeSet::new();
        for turn in 9..12 {
            let Turn { part, .. } = Turn::of(turn, parts(&known));
            let of_part = of_part(all.clone(), &known, part);
            assert!(of_part.len() <= MOST_AT_REST + 2 && of_part.starts_with(&[7, 2_501]), "{turn}");
            seen.extend(of_part);
        }
        assert!(seen.into_iter().eq(all));
        let few = BTreeMap::from([(1, pool(1, true, false)), (2, pool(2, true, false))]);
        let Turn { part, .. } = Turn::of(5, parts(&few));
        assert_eq!(of_part(vec![1, 2], &few, part), [1, 2], "few are compared in each");
        assert_eq!(of_part(Vec::new(), &BTreeMap::new(), 0), [0; 0]);
    }

    #[test]
    fn each_part_of_the_pools_meets_every_node() {
        for parts in [1, 2, 3, 10] {
            for nodes in [1, 2, 3] {
                let turns = (7..7 + parts * nodes).map(|turn| Turn::of(turn, parts));
                let met: BTreeSet<(usize, usize)> =
                    turns.map(|Turn { part, node }| (part, node % nodes)).collect();
                assert_eq!(met.len(), parts * nodes, "{parts} parts, {nodes} nodes: {met:?}");
            }
        }
    }

    #[test]
    fn what_is_missing_of_one_part_stays_while_others_are_compared_until_it_is_known() {
        let mut known: BTreeMap<u32, PoolStatus> =
            (1..=3).map(|number| (number, pool(number, true, false))).collect();
        let mut reconciler = Reconciler::default();
        let exit = |pool| Missing { pool, event: Wanted::Exit };
        reconciler.take(&known, &BTreeMap::from([(1, OnChain::ExitRequested), (2, OnChain::ExitRequested)]));
        assert_eq!(reconciler.missing, [exit(1), exit(2)]);
        reconciler.take(&known, &BTreeMap::from([(3, OnChain::Deposited)]));
        assert_eq!(reconciler.missing, [exit(1), exit(2)], "they were not asked about");
        known.insert(1, pool(1, true, true));
        reconciler.take(&known, &BTreeMap::from([(3, OnChain::ExitRequested)]));
        assert_eq!(reconciler.missing, [exit(2), exit(3)], "one was found");
        reconciler.take(&known, &BTreeMap::from([(2, OnChain::Deposited)]));
        assert_eq!(reconciler.missing, [exit(3)], "what another node does not say is not sought");
        reconciler.take(&known, &BTreeMap::from([(2, OnChain::Refunded)]));
        assert_eq!(open(&known, 3), [2, 3], "a node that says that no more is to come has no last word");
        reconciler.take(&known, &BTreeMap::from([(2, OnChain::ExitRequested)]));
        assert_eq!(reconciler.missing, [exit(3), exit(2)]);
    }

    #[test]
    fn a_node_can_have_only_so_many_pools_asked_about() {
        let known = BTreeMap::from([(5, pool(5, true, false))]);
        assert_eq!(open(&known, u32::MAX).len(), 10_005);
        assert_eq!(open(&BTreeMap::new(), u32::MAX).len(), 10_000);
    }

    #[test]
    fn an_event_is_looked_for_in_the_final_block_that_the_contract_names() {
        let at = Cursor { block: 9, hash: Digest([1; 32]) };
        let block = |event, ready_at, exit_requested_at| {
            Missing { pool: 1, event }.block(PoolBlocks { ready_at, exit_requested_at }, at)
        };
        assert_eq!(block(Wanted::Deposit, 3, 0), Some(3));
        assert_eq!(block(Wanted::Exit, 3, 9), Some(9));
        for nowhere in [0, 10, u64::MAX] {
            assert_eq!(block(Wanted::Deposit, nowhere, 9), None);
            assert_eq!(block(Wanted::Exit, 3, nowhere), None);
        }
    }

    #[test]
    fn everything_that_is_missing_has_its_turn() {
        let missing: Vec<Missing> = (1..=200).map(|pool| Missing { pool, event: Wanted::Deposit }).collect();
        let mut reconciler = Reconciler { missing: missing.clone(), ..Reconciler::default() };
        let sought: BTreeSet<Missing> = (0..4).flat_map(|_| reconciler.next_sought()).collect();
        assert_eq!(sought, missing.into_iter().collect());
        assert_eq!(reconciler.next_sought().len(), MOST_SOUGHT);
    }

    #[test]
    fn what_is_missing_is_said_with_some_pools_and_all_nodes() {
        let nodes = BTreeSet::from(["http://a".to_owned(), "http://b".to_owned()]);
        let lacking = Lacking { pools: vec![1, 2, 3, 4, 5, 6, 7], nodes };
        let expected = "pools 1, 2, 3, 4, 5 and 2 more have a status without the event that leads to it; \
                        execution nodes that don't show it: http://a, http://b";
        assert_eq!(lacking.to_string(), expected);
    }
}
