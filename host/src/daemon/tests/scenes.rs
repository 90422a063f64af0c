//! Execution nodes that lie, in front of the embedded chain: what must be seen all the same, and within how many looks.

use super::*;
use crate::chain::execution::Cursor;
use crate::chain::profile::{PoolManager, Profile};
use crate::chain::url::NodeUrl;
use crate::daemon::commands::Outcome;
use crate::daemon::events::Look;
use crate::daemon::{alerts, deposits};
use crate::status::Subject;
use alloy::primitives::{Address as AlloyAddress, B256, keccak256};
use postern_devnet::liar::{ExecutionLie, Liar, Lie};
use postern_shared::bls::PublicKey;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A chain on which two pools are full, and one of them was asked to leave; it makes no block unless told to.
struct Chain {
    bench: Bench,
    /// What a host must come to know, whatever its nodes say.
    truth: BTreeSet<ChainEvent>,
}

impl Chain {
    async fn start() -> Self {
        let bench = Bench::start_with(Clock::Manual).await;
        let (pool, manager) = (bench.pool(0), &bench.managers[0]);
        // Further than what is read again behind a cursor.
        bench.devnet.advance(100);
        mined(&bench.devnet, manager.stake(2)).await.unwrap();
        let data = bench.deposit(pool, 7).await;
        bench.hand_in(pool, &data).await;
        mined(&bench.devnet, manager.request_exit(pool)).await.unwrap();
        let truth = bench.seen(&[bench.named(0)]).await.into_iter().collect();
        let chain = Self { bench, truth };
        assert_eq!(chain.truth.len(), 3);
        chain
    }

    /// A host with so many nodes, which are honest for now. It has seen nothing yet.
    async fn host(&self, nodes: usize) -> Host<'_> {
        let devnet = &self.bench.devnet;
        let mut liars = Vec::new();
        for _ in 0..nodes {
            liars.push(Liar::start(&devnet.execution_url(), &devnet.beacon_url()).await.unwrap());
        }
        let urls: Vec<NodeUrl> = liars.iter().map(|liar| NodeUrl::parse(&liar.url(NODE)).unwrap()).collect();
        let chain_id = Config::default().chain_id;
        let execution = Execution::connect_all(&urls, chain_id, Profile::Documents).await.unwrap();
        let execution = execution.looking_every(Duration::ZERO);
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Place::Directory(folder.path().to_owned())).unwrap();
        let (troubles, followed) = (Troubles::default(), Followed::default());
        Host { chain: self, liars, execution, store, troubles, followed, folder }
    }
}

/// What a node is called at its proxy.
const NODE: &str = "node";

struct Host<'a> {
    chain: &'a Chain,
    liars: Vec<Liar>,
    execution: Execution,
    store: Store,
    troubles: Troubles,
    followed: Followed,
    folder: tempfile::TempDir,
}

impl Host<'_> {
    fn contract(&self) -> Address {
        self.chain.bench.pool(0).contract
    }

    fn manager(&self) -> postern_shared::epoch::PoolManager {
        self.chain.bench.named(0)
    }

    fn follower(&self) -> Follower<'_> {
        Follower {
            execution: &self.execution,
            store: &self.store,
            troubles: &self.troubles,
            data_dir: self.folder.path(),
            followed: &self.followed,
        }
    }

    async fn look(&self) {
        self.follower().look(&[self.manager()]).await.unwrap();
    }

    /// How many looks it takes to see everything, if it is no more than this.
    async fn looks(&self, most: usize) -> Option<usize> {
        for looks in 1..=most {
            self.look().await;
            if self.seen() == self.chain.truth {
                return Some(looks);
            }
        }
        None
    }

    fn seen(&self) -> BTreeSet<ChainEvent> {
        self.store.events_after(0).unwrap().into_iter().map(|stored| stored.event).collect()
    }

    fn lie(&self, node: usize, lies: &[Lie]) {
        self.liars[node].set(NODE, lies.to_vec());
    }

    fn alerts(&self) -> Vec<String> {
        alerts::all(self.folder.path())
    }

    fn is_in_trouble(&self, subject: impl Fn(&Subject) -> bool) -> bool {
        self.troubles.all().iter().any(|trouble| subject(&trouble.subject))
    }
}

fn is_of_events(subject: &Subject) -> bool {
    matches!(subject, Subject::Events(_))
}

fn is_of_node(subject: &Subject) -> bool {
    matches!(subject, Subject::ExecutionNode(_))
}

fn exits() -> [u8; 32] {
    keccak256("PoolExitRequested(uint32)").0
}

/// A request for the exit of pool 2, which nobody has made, in some block.
fn forged_at(chain: &Chain, block: Cursor) -> Value {
    let contract = chain.bench.pool(0).contract;
    json!({
        "address": to_alloy(contract), "topics": [B256::from(exits())], "data": B256::from(U256::from(2)),
        "blockNumber": format!("{:#x}", block.block), "blockHash": B256::from(block.hash.0),
        "transactionHash": B256::ZERO, "transactionIndex": "0x0", "logIndex": "0x63", "removed": false,
    })
}

/// Likewise in the block of a real event.
async fn forged(chain: &Chain) -> Value {
    let pool = chain.bench.pool(0);
    let (events, _) = chain
        .bench
        .execution
        .poll(pool.contract, chain.bench.execution.cursor_at(0).await.unwrap())
        .await
        .unwrap();
    let event = events.last().unwrap();
    forged_at(chain, Cursor { block: event.block_number, hash: event.source.block })
}

/// What must come of a lie.
struct Scene {
    /// How many nodes the host has; which of them lie, and how.
    nodes: usize,
    liars: &'static [usize],
    lies: Vec<Lie>,
    /// Within how many looks everything is seen while they lie; `None` if it can't be.
    lying: Option<usize>,
}

/// Looks while somebody lies for whom nothing must come of it.
const LYING: usize = 3;

/// Scenes A and G, and all their kind. Nothing is lost, nothing is made up, and nobody has to do anything.
#[tokio::test]
async fn whatever_nodes_say_no_event_is_lost_and_none_is_made_up() {
    let chain = Chain::start().await;
    let execution = |lie: ExecutionLie| vec![Lie::Execution(lie)];
    let forged = forged(&chain).await;
    let mut scenes = Vec::new();
    // Each lie: whether one node alone can be seen through while it lies, the first of two, and the first of three.
    for (lies, [alone, of_two, of_three]) in [
        (vec![], [Some(1), Some(1), Some(1)]),
        (execution(ExecutionLie::NoLogs), [None, None, Some(1)]),
        (execution(ExecutionLie::LogsWithout(exits())), [None, None, Some(1)]),
        // It does not say in which block it was either.
        (
            vec![
                Lie::Execution(ExecutionLie::LogsWithout(exits())),
                Lie::Execution(ExecutionLie::CallSays(PoolManager::blocksOfCall::SELECTOR, vec![0; 64])),
            ],
            [None, None, Some(3)],
        ),
        (execution(ExecutionLie::LogsOfFork), [None, Some(1), Some(1)]),
        (execution(ExecutionLie::ForgedLog(forged)), [None, Some(1), Some(1)]),
        (execution(ExecutionLie::RangeLimit(1)), [Some(10), Some(10), Some(10)]),
        (execution(ExecutionLie::RangeLimit(10)), [Some(3), Some(3), Some(3)]),
        (execution(ExecutionLie::RangeLimit(500)), [Some(1), Some(1), Some(1)]),
        (execution(ExecutionLie::Behind(1_000)), [None, Some(25), Some(12)]),
        (execution(ExecutionLie::LatestAsFinal), [Some(1), Some(1), Some(1)]),
        (execution(ExecutionLie::MixedBackends(1_000)), [None, Some(1), Some(1)]),
        (execution(ExecutionLie::OtherBlocks), [None, None, Some(1)]),
        (execution(ExecutionLie::NoFinalised), [None, Some(1), Some(1)]),
        (vec![Lie::Status(429)], [None, Some(1), Some(1)]),
        (vec![Lie::Status(503)], [None, Some(1), Some(1)]),
        (vec![Lie::HtmlNotFound], [None, Some(1), Some(1)]),
        (vec![Lie::Truncated], [None, Some(1), Some(1)]),
    ] {
        scenes.push(Scene { nodes: 1, liars: &[0], lies: lies.clone(), lying: alone });
        scenes.push(Scene { nodes: 2, liars: &[0], lies: lies.clone(), lying: of_two });
        scenes.push(Scene { nodes: 3, liars: &[0], lies: lies.clone(), lying: of_three });
        // Whoever confirms may lie too.
        scenes.push(Scene { nodes: 3, liars: &[2], lies, lying: Some(12) });
    }
    for Scene { nodes, liars, lies, lying } in scenes {
        let scene = format!("{liars:?} of {nodes}: {lies:?}");
        let host = chain.host(nodes).await;
        liars.iter().for_each(|node| host.lie(*node, &lies));
        let looks = host.looks(lying.unwrap_or(LYING)).await;
        assert_eq!(looks.is_some(), lying.is_some(), "{scene}: {looks:?}, {:?}", host.troubles.all());
        assert!(host.seen().is_subset(&chain.truth), "{scene}");
        // One node alone that stands still shows nothing that would be wrong.
        let shows_nothing = nodes == 1 && matches!(lies[..], [Lie::Execution(ExecutionLie::Behind(_))]);
        if lying.is_none() && !shows_nothing {
            assert!(host.is_in_trouble(|_| true), "{scene}");
        }
        liars.iter().for_each(|node| host.lie(*node, &[]));
        assert!(host.looks(2).await.is_some(), "{scene}: {:?}", host.troubles.all());
        assert_eq!(host.seen(), chain.truth, "{scene}");
        assert_eq!(host.alerts(), [""; 0], "{scene}");
    }
}

/// A host looks less often as long as it has everything: not while something is missing or can't be read, or while it is open whether a
/// node stands still.
#[tokio::test]
async fn a_look_is_complete_only_if_nothing_is_missing_and_all_could_be_read() {
    let chain = Chain::start().await;
    let execution = |lie: ExecutionLie| vec![Lie::Execution(lie)];
    for (nodes, lies, expected) in [
        (1, vec![], Look::Complete),
        (3, vec![], Look::Complete),
        (1, execution(ExecutionLie::NoLogs), Look::Lacking),
        (1, execution(ExecutionLie::RangeLimit(1)), Look::Lacking),
        (1, vec![Lie::Status(503)], Look::Lacking),
        (2, execution(ExecutionLie::Behind(1_000)), Look::Lacking),
        // The others see to it.
        (3, vec![Lie::Status(503)], Look::Complete),
    ] {
        let host = chain.host(nodes).await;
        host.lie(0, &lies);
        let look = host.follower().look(&[host.manager()]).await.unwrap();
        assert_eq!(look, expected, "{nodes}: {lies:?}: {:?}", host.troubles.all());
        // A node that has failed is let alone for a while.
        host.lie(0, &[]);
        let mut looks = 0;
        while host.follower().look(&[host.manager()]).await.unwrap() != Look::Complete {
            looks += 1;
            assert!(looks < 200, "{nodes}: {lies:?}: {:?}", host.troubles.all());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(host.seen(), chain.truth, "{nodes}: {lies:?}");
    }
}

/// A log that is not what its topic says is either what one node made of it, or a person has to look.
#[tokio::test]
async fn a_malformed_log_stops_one_pool_manager_only_until_a_rescan_passes_it_over() {
    let chain = Chain::start().await;
    let malformed = [Lie::Execution(ExecutionLie::MalformedLogs)];
    // Several nodes: the one that shows it is passed over.
    let host = chain.host(3).await;
    host.lie(0, &malformed);
    assert_eq!(host.looks(1).await, Some(1));
    assert!(host.alerts().is_empty() && host.is_in_trouble(is_of_node));

    let host = chain.host(1).await;
    host.lie(0, &malformed);
    // The other pool manager has no pools: nothing of it is malformed.
    let managers = [host.manager(), chain.bench.named(1)];
    let contracts = managers.map(|manager| manager.contract);
    host.follower().look(&managers).await.unwrap();
    let [alert] = &host.alerts()[..] else { panic!("{:?}", host.alerts()) };
    assert!(alert.starts_with(&format!("malformed-log-{}-", contracts[0])), "{alert}");
    assert!(host.is_in_trouble(|subject| *subject == Subject::Events(contracts[0])));
    let cursors = contracts.map(|contract| host.store.cursor(contract).unwrap());
    assert!(cursors[0].is_none() && cursors[1].is_some(), "the other one goes on");
    // It is not even asked about until somebody has looked.
    host.lie(0, &[]);
    assert_eq!(host.looks(2).await, None);
    assert_eq!(host.follower().rescan(&managers, 1).await.unwrap(), Outcome::Done);
    assert_eq!(host.looks(1).await, Some(1));
    assert!(!host.is_in_trouble(is_of_events));

    // If it is really on the chain, the rescan begins after it.
    let host = chain.host(1).await;
    host.lie(0, &malformed);
    host.look().await;
    let finalised = host.execution.finalised().await.unwrap();
    let rescan = async || host.follower().rescan(&managers, finalised.block + 1).await.unwrap();
    assert!(matches!(rescan().await, Outcome::Later(_)), "the other one has not been looked at");
    host.follower().look(&managers).await.unwrap();
    // The other one is behind and works: it passes nothing over.
    let behind = host.execution.cursor_at(finalised.block - 1).await.unwrap();
    host.store.keep_events(&[], Some((contracts[1], behind))).unwrap();
    assert_eq!(rescan().await, Outcome::Done);
    assert_eq!(
        contracts.map(|contract| host.store.cursor(contract).unwrap()),
        [Some(finalised), Some(behind)]
    );
    chain.bench.devnet.advance(FINAL);
    host.look().await;
    assert!(host.store.cursor(contracts[0]).unwrap().unwrap().block > finalised.block);
}

#[tokio::test]
async fn a_final_block_that_changes_takes_most_nodes_to_stop_anything_and_a_person_to_go_on() {
    let chain = Chain::start().await;
    let lie = [Lie::Execution(ExecutionLie::OtherBlocks)];
    for (nodes, liars, stops) in
        [(1, &[0][..], true), (2, &[0], false), (2, &[0, 1], true), (3, &[0], false), (3, &[0, 2], true)]
    {
        let host = chain.host(nodes).await;
        assert_eq!(host.looks(1).await, Some(1));
        chain.bench.devnet.advance(FINAL);
        liars.iter().for_each(|node| host.lie(*node, &lie));
        host.look().await;
        host.look().await;
        let alerts = host.alerts();
        assert_eq!(alerts.len(), usize::from(stops), "{liars:?} of {nodes}: {alerts:?}");
        assert!(alerts.iter().all(|alert| alert.starts_with("finalised-block-changed-")), "{alerts:?}");
        liars.iter().for_each(|node| host.lie(*node, &[]));
        if stops {
            let before = host.store.cursor(host.contract()).unwrap();
            host.look().await;
            assert_eq!(host.store.cursor(host.contract()).unwrap(), before, "nothing goes on by itself");
            assert_eq!(host.follower().rescan(&[host.manager()], 1).await.unwrap(), Outcome::Done);
        }
        host.look().await;
        let finalised = host.execution.finalised().await.unwrap();
        assert_eq!(host.store.cursor(host.contract()).unwrap(), Some(finalised));
        assert_eq!(host.seen(), chain.truth);
    }
}

/// What an earlier version has lost is found by the pools' statuses; what no status shows, by a rescan.
#[tokio::test]
async fn what_was_lost_before_is_found_again() {
    let chain = Chain::start().await;
    for (events, looks) in [(0, Some(1)), (1, Some(1)), (3, Some(1))] {
        let host = chain.host(1).await;
        let cursor = host.execution.finalised().await.unwrap();
        let known: Vec<ChainEvent> = chain.truth.iter().copied().take(events).collect();
        host.store.keep_events(&known, Some((host.contract(), cursor))).unwrap();
        assert_eq!(host.looks(1).await, looks, "{events}");
        assert!(host.troubles.all().is_empty());
    }
    let host = chain.host(1).await;
    let beyond = host.execution.finalised().await.unwrap().block + 2;
    let rescan = host.follower().rescan(&[host.manager()], beyond).await.unwrap();
    assert!(matches!(rescan, Outcome::Later(_)), "what is not final has no cursor");
}

#[tokio::test]
async fn events_that_no_node_shows_are_a_trouble_that_names_pools_and_nodes() {
    let chain = Chain::start().await;
    let host = chain.host(2).await;
    (0..2).for_each(|node| host.lie(node, &[Lie::Execution(ExecutionLie::LogsWithout(exits()))]));
    host.look().await;
    let troubles = host.troubles.all();
    let [trouble] = &troubles[..] else { panic!("{troubles:?}") };
    assert_eq!(trouble.subject, Subject::Events(host.contract()));
    let named = host.liars.iter().all(|liar| trouble.reason.contains(liar.url("").trim_end_matches('/')));
    assert!(trouble.reason.starts_with("pools 1 have a status") && named, "{}", trouble.reason);
}

/// A lie about a pool or a pool manager would close a deposit for good, or have people look for a thief.
#[tokio::test]
async fn one_nodes_word_closes_no_deposit_and_accuses_nobody() {
    let chain = Chain::start().await;
    // Full, without a deposit.
    let pool = PoolId { number: 2, ..chain.bench.pool(0) };
    let deposited = PoolManager::getPoolReturn {
        pool: AlloyAddress::repeat_byte(9),
        status: 2,
        publicKey: vec![0xcd; 48].into(),
    };
    let deposited = PoolManager::getPoolCall::abi_encode_returns(&deposited);
    let epoch = PoolManager::epochCall::abi_encode_returns(&77);
    let lies = [
        Lie::Execution(ExecutionLie::CallSays(PoolManager::getPoolCall::SELECTOR, deposited)),
        Lie::Execution(ExecutionLie::CallSays(PoolManager::epochCall::SELECTOR, epoch)),
    ];
    let made = PublicKey([0xab; 48]);
    for (nodes, is_known) in [(2, false), (3, true)] {
        let host = chain.host(nodes).await;
        host.lie(0, &lies);
        assert_eq!(host.execution.pool(pool, true).await.unwrap().status, PoolStatus::Deposited);
        assert_eq!(host.execution.in_force_at(pool.contract).await.unwrap().epoch, 77);
        let found = deposits::both(&host.execution, pool, made, 0).await;
        assert_eq!(found.is_ok(), is_known, "{found:?}");
        for found in found.iter().flat_map(|(for_good, now)| [for_good, now]) {
            assert_eq!((found.status, found.pubkey), (PoolStatus::Ready, None));
        }
        let host = chain.host(nodes).await;
        host.lie(0, &lies);
        let in_force = host.execution.in_force_as_most_say(pool.contract).await;
        assert_eq!(in_force.is_ok(), is_known, "{in_force:?}");
        assert!(in_force.is_ok_and(|found| found.epoch != 77) == is_known);
    }
    // What all say is so.
    let host = chain.host(2).await;
    (0..2).for_each(|node| host.lie(node, &lies));
    let (for_good, now) = deposits::both(&host.execution, pool, made, 0).await.unwrap();
    let other = Some(PublicKey([0xcd; 48]));
    assert_eq!((for_good.status, for_good.pubkey, now.pubkey), (PoolStatus::Deposited, other, other));
}

/// What a node leaves out, at its turn, another one shows at the next; and what costs money takes most of them.
#[tokio::test]
async fn what_one_node_leaves_out_of_a_pool_is_seen_in_the_next_turn_and_has_nothing_paid() {
    let chain = Chain::start().await;
    let pool = chain.bench.pool(0);
    let ready = PoolManager::getPoolReturn {
        pool: AlloyAddress::repeat_byte(9),
        status: 1,
        publicKey: Vec::new().into(),
    };
    let ready = PoolManager::getPoolCall::abi_encode_returns(&ready);
    let epoch = PoolManager::epochCall::abi_encode_returns(&77);
    let host = chain.host(3).await;
    host.lie(
        0,
        &[
            Lie::Execution(ExecutionLie::CallSays(PoolManager::getPoolCall::SELECTOR, ready)),
            Lie::Execution(ExecutionLie::CallSays(PoolManager::epochCall::SELECTOR, epoch)),
        ],
    );
    let (mut waits, mut unknown) = (Vec::new(), Vec::new());
    for turn in 0..4 {
        let found = host.execution.pool_in_turn(pool, true, turn).await.unwrap();
        waits.push(found.status == PoolStatus::Ready);
        unknown.push(host.execution.in_force_in_turn(pool.contract, turn).await.unwrap().epoch == 77);
    }
    assert_eq!((&waits, &unknown), (&vec![true, false, false, true], &waits));
    assert!(!deposits::is_wanted(&host.execution, pool).await.unwrap(), "it was made");
    let open = PoolId { number: 2, ..pool };
    assert!(deposits::is_wanted(&host.execution, open).await.unwrap());
}

/// Of two nodes only one still leaves the event out: only that one is named.
#[tokio::test]
async fn only_those_nodes_are_named_that_don_t_show_an_event() {
    let chain = Chain::start().await;
    let host = chain.host(2).await;
    (0..2).for_each(|node| host.lie(node, &[Lie::Execution(ExecutionLie::LogsWithout(exits()))]));
    host.look().await;
    for liar in [0, 1] {
        (0..2).for_each(|node| host.lie(node, &[]));
        host.lie(liar, &[Lie::Execution(ExecutionLie::LogsWithout(exits()))]);
        host.look().await;
        let troubles = host.troubles.all();
        let reason = &troubles.iter().find(|trouble| is_of_events(&trouble.subject)).unwrap().reason;
        let is_named = |node: usize| reason.contains(host.liars[node].url("").trim_end_matches('/'));
        assert!(is_named(liar) && !is_named(1 - liar), "{liar}: {reason}");
    }
}

/// What is not final is not believed to be on the word of one of several, even for a moment.
#[tokio::test]
async fn a_node_that_takes_its_newest_block_for_final_has_nothing_read_too_early() {
    let chain = Chain::start().await;
    // A pool that is full, in a block that is not final yet.
    mined(&chain.bench.devnet, chain.bench.managers[0].stake(1)).await.unwrap();
    for (nodes, liar) in [(2, 0), (2, 1), (3, 0), (3, 2)] {
        let host = chain.host(nodes).await;
        host.lie(liar, &[Lie::Execution(ExecutionLie::LatestAsFinal)]);
        for _ in 0..20 {
            host.look().await;
            assert!(host.seen().is_subset(&chain.truth), "{liar} of {nodes}");
        }
        assert_eq!(host.seen(), chain.truth, "{liar} of {nodes}: {:?}", host.troubles.all());
    }
}

#[tokio::test]
async fn a_node_that_comes_back_shows_again_which_chain_it_is_of() {
    let chain = Chain::start().await;
    let host = chain.host(2).await;
    host.lie(0, &[Lie::Status(503)]);
    assert_eq!(host.looks(1).await, Some(1));
    host.lie(0, &[Lie::Execution(ExecutionLie::WrongChain(1))]);
    host.lie(1, &[Lie::Status(503)]);
    host.look().await;
    let reasons: Vec<String> = host.troubles.all().into_iter().map(|trouble| trouble.reason).collect();
    assert!(reasons.iter().any(|reason| reason.contains("is of chain 1,")), "{reasons:?}");
    (0..2).for_each(|node| host.lie(node, &[]));
    host.look().await;
    assert!(!host.is_in_trouble(is_of_events), "{:?}", host.troubles.all());
}

/// A node that never answers costs the wait for it once; then it rests.
#[tokio::test]
async fn a_node_that_hangs_keeps_nothing_from_going_on() {
    let chain = Chain::start().await;
    for hanging in [0, 2] {
        let host = chain.host(3).await;
        host.lie(hanging, &[Lie::Hang]);
        assert_eq!(host.looks(1).await, Some(1), "{hanging}");
        assert!(host.is_in_trouble(is_of_node));
        let begun = std::time::Instant::now();
        host.look().await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn nodes_are_asked_little_when_nothing_is_new() {
    let chain = Chain::start().await;
    let host = chain.host(3).await;
    assert_eq!(host.looks(1).await, Some(1));
    let count = |node: usize| host.liars[node].all_asked(NODE).values().sum::<usize>();
    let before = [0, 1, 2].map(count);
    for _ in 0..20 {
        host.look().await;
    }
    let asked: Vec<usize> = before.iter().enumerate().map(|(node, before)| count(node) - before).collect();
    let [first, others @ ..] = &asked[..] else { panic!("{asked:?}") };
    // On a slow machine once more, for they are asked every minute.
    let is_little = others.iter().all(|asked| (3..=4).contains(asked));
    assert!(*first == 20 && is_little, "one for each look, and of the others now and then: {asked:?}");
    let before = [0, 1, 2].map(count);
    chain.bench.devnet.advance(FINAL);
    host.look().await;
    let asked: Vec<usize> = before.iter().enumerate().map(|(node, before)| count(node) - before).collect();
    // Two of them say how the pools are, and whose turn that is depends on the block.
    let (all, least) = (asked.iter().sum::<usize>(), asked.iter().skip(1).min());
    assert_eq!(
        (all, least),
        (22, Some(&5)),
        "calls for a new final block, with three blocks of events near it: {asked:?}"
    );
}

#[tokio::test]
async fn a_cursor_does_not_move_on_the_word_of_a_node_without_the_blocks_or_of_one_of_two() {
    let chain = Chain::start().await;
    let host = chain.host(1).await;
    host.lie(0, &[Lie::Execution(ExecutionLie::MixedBackends(1_000))]);
    host.look().await;
    assert_eq!(host.store.cursor(host.contract()).unwrap(), None);

    let host = chain.host(2).await;
    host.lie(1, &[Lie::Execution(ExecutionLie::NoLogs)]);
    for _ in 0..LYING {
        host.look().await;
        assert_eq!(host.store.cursor(host.contract()).unwrap(), None);
    }
    assert!(host.is_in_trouble(is_of_events));
    host.lie(1, &[]);
    assert_eq!(host.looks(1).await, Some(1));
}

/// Enclaves keep a few wishes for each pool: so many made up would crowd the real one out.
#[tokio::test]
async fn a_log_that_one_node_makes_up_counts_for_nothing() {
    let chain = Chain::start().await;
    for (nodes, looks) in [(2, None), (3, Some(1))] {
        let host = chain.host(nodes).await;
        let finalised = host.execution.finalised().await.unwrap();
        host.lie(0, &[Lie::Execution(ExecutionLie::ForgedLog(forged_at(&chain, finalised)))]);
        assert_eq!(host.looks(LYING).await, looks, "{nodes}");
        assert!(host.seen().is_subset(&chain.truth));
        assert!(host.is_in_trouble(|_| true));
        host.lie(0, &[]);
        assert!(host.looks(1).await.is_some());
    }
}
