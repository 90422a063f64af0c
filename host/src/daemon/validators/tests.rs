use super::*;
use crate::chain::beacon::test_exits::{NETWORK, pubkey};
use crate::chain::beacon::test_node::{Lie, TestNode};
use crate::chain::url::NodeUrl;
use crate::store::Place;
use ValidatorStatus::{ActiveExiting, ActiveOngoing, ExitedUnslashed, PendingQueued, WithdrawalDone};
use postern_shared::bls::Signature;
use postern_shared::ethereum::{DepositMessage, SignedVoluntaryExit, VoluntaryExit, WithdrawalCredentials};
use postern_shared::ids::{Address, PoolId};
use std::collections::BTreeSet;

const POLL: Duration = Duration::from_secs(6);

fn pool(number: u32) -> PoolId {
    PoolId::new(1, Address([2; 20]), number)
}

fn deposit(number: u32, credentials: u8) -> DepositData {
    let withdrawal_credentials = WithdrawalCredentials([credentials; 32]);
    let message =
        DepositMessage { pubkey: pubkey(number.into()), withdrawal_credentials, amount: 32_000_000_000 };
    DepositData { message, signature: Signature([1; 96]) }
}

fn at_rest(number: u32) -> PoolStatus {
    PoolStatus {
        pubkey: Some(pubkey(number.into())),
        deposit: Some(deposit(number, 1)),
        validator_index: Some(number.into()),
        beacon_status: Some(ActiveOngoing),
        final_status: Some(ActiveOngoing),
        ..PoolStatus::new(pool(number))
    }
}

#[test]
fn validators_at_rest_are_looked_at_rarely_and_those_that_are_gone_never() {
    let message = VoluntaryExit { epoch: 3, validator_index: 12 };
    let exit = Some(SignedVoluntaryExit { message, signature: Signature([1; 96]) });
    let with = |change: &dyn Fn(&mut PoolStatus)| {
        let mut pool = at_rest(1);
        change(&mut pool);
        pool
    };
    let cases = [
        (PoolStatus::new(pool(1)), Interest::None),
        (at_rest(1), Interest::Rare),
        (with(&|pool| pool.validator_index = None), Interest::Often),
        (with(&|pool| pool.exit_requested = true), Interest::Often),
        (with(&|pool| pool.exit = exit), Interest::Often),
        (with(&|pool| pool.beacon_status = Some(PendingQueued)), Interest::Often),
        (with(&|pool| pool.final_status = Some(ActiveExiting)), Interest::Often),
        (with(&|pool| pool.final_status = Some(ExitedUnslashed)), Interest::Often),
        (with(&|pool| (pool.final_status, pool.exit) = (Some(WithdrawalDone), exit)), Interest::None),
    ];
    for (pool, expected) in cases {
        assert_eq!(interest(&pool), expected, "{pool:?}");
    }
}

#[test]
fn many_validators_are_looked_at_only_as_often_as_finality_moves() {
    let (pace, start) = (Pace::default(), Instant::now());
    let mut looks = Looks::default();
    let both = Due { often: true, rare: true };
    assert_eq!(looks.due(1, POLL, pace, start), both);
    looks.done(both, start);
    let due = |often, after| looks.due(often, POLL, pace, start + after);
    assert_eq!(due(FEW, POLL / 2), Due { often: false, rare: false });
    assert_eq!(due(FEW, POLL), Due { often: true, rare: false });
    assert_eq!(due(FEW + 1, POLL * 10), Due { often: false, rare: false });
    assert_eq!(due(FEW + 1, pace.epoch / 2), Due { often: true, rare: false });
    assert_eq!(due(0, pace.epoch * 8), both);
}

struct Bench {
    store: Store,
    folder: tempfile::TempDir,
    nodes: Vec<TestNode>,
    beacon: BeaconNodes,
}

impl Bench {
    /// A host that knows one pool, whose deposit has credentials `1`, and these nodes, which know its validator.
    async fn start(lies: &[Option<Lie>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Place::Directory(folder.path().to_owned())).unwrap();
        let data = deposit(1, 1);
        store
            .change_pool(pool(1), |pool| {
                (pool.pubkey, pool.deposit) = (Some(data.message.pubkey), Some(data));
            })
            .unwrap();
        let mut nodes = Vec::new();
        for lie in lies {
            nodes.push(TestNode::start(&[pubkey(1)], *lie).await);
        }
        let urls: Vec<NodeUrl> = nodes.iter().map(TestNode::node_url).collect();
        let beacon = BeaconNodes::new(&urls, NETWORK).unwrap();
        Self { store, folder, nodes, beacon }
    }

    async fn look(&self) -> PoolStatus {
        self.look_with(&mut Looks::default()).await
    }

    async fn look_with(&self, looks: &mut Looks) -> PoolStatus {
        let watcher = Watcher { store: &self.store, beacon: &self.beacon, data_dir: self.folder.path() };
        let _ = watcher.look(looks, POLL).await;
        self.store.pool(pool(1)).unwrap().unwrap()
    }

    fn all_say(&self, status: ValidatorStatus) {
        for node in &self.nodes {
            node.known().validators.get_mut(&pubkey(1)).unwrap().status = status;
        }
    }

    fn alerts(&self) -> Vec<String> {
        alerts::all(self.folder.path())
    }
}

/// How a node lies beside honest ones, and what this host makes of it in one look: index, status at the head, finalised status.
#[tokio::test]
async fn one_lying_node_among_three_changes_nothing_and_among_two_makes_nobody_believe_it() {
    let truth = (Some(1), Some(ActiveOngoing), Some(ActiveOngoing));
    let nothing = (None, None, None);
    let cases = [
        (Lie::Html404, truth, truth),
        (Lie::State404, truth, truth),
        (Lie::Validator404, truth, truth),
        (Lie::EmptyValidators, truth, truth),
        (Lie::Syncing, truth, truth),
        (Lie::Optimistic, truth, truth),
        (Lie::NumberIndex, truth, truth),
        (Lie::WrongNetwork, truth, truth),
        (Lie::NoPost, truth, truth),
        (Lie::BehindBy(40), truth, truth),
        (Lie::HeadSays(ActiveExiting), truth, truth),
        (Lie::FinalSays(WithdrawalDone), truth, truth),
        (Lie::OtherIndex, nothing, truth),
        (Lie::OtherCredentials, nothing, truth),
    ];
    for (lie, of_two, of_three) in cases {
        for (lies, expected) in [(vec![Some(lie), None], of_two), (vec![None, Some(lie), None], of_three)] {
            let bench = Bench::start(&lies).await;
            let seen = bench.look().await;
            let seen = (seen.validator_index, seen.beacon_status, seen.final_status);
            assert_eq!(seen, expected, "{lies:?}");
            assert_eq!(bench.alerts(), [""; 0], "{lies:?}");
        }
    }
}

#[tokio::test]
async fn a_validator_is_indexed_only_with_the_pools_own_credentials_and_a_known_deposit() {
    let thiefs = Bench::start(&[Some(Lie::OtherCredentials); 3]).await;
    assert_eq!(thiefs.look().await.validator_index, None);
    assert_eq!(thiefs.alerts(), [format!("other-credentials-pool-{}", pool(1).text())]);
    // An earlier deposit of the key was seen: even if all is well now, a person has to look first.
    thiefs.nodes.iter().for_each(|node| node.known().lie = None);
    assert_eq!(thiefs.look().await.validator_index, None);

    let unknown = Bench::start(&[None]).await;
    unknown.store.change_pool(pool(1), |pool| pool.deposit = None).unwrap();
    assert_eq!(unknown.look().await.validator_index, None);
    assert_eq!(unknown.alerts(), [""; 0]);
}

#[tokio::test]
async fn only_the_finalised_state_says_that_a_validator_has_left() {
    let bench = Bench::start(&[None, None]).await;
    bench.look().await;
    bench.nodes.iter().for_each(|node| node.known().lie = Some(Lie::HeadSays(WithdrawalDone)));
    let seen = bench.look().await;
    assert_eq!((seen.beacon_status, seen.final_status), (Some(WithdrawalDone), Some(ActiveOngoing)));
    assert!(!seen.has_left);
    bench.nodes.iter().for_each(|node| node.known().lie = None);
    bench.all_say(ActiveExiting);
    assert_eq!(bench.look().await.final_status, Some(ActiveExiting));
    // A reorganisation, or nodes that lied.
    bench.all_say(ActiveOngoing);
    assert_eq!(bench.look().await.final_status, Some(ActiveOngoing));
    bench.all_say(ExitedUnslashed);
    assert!(bench.look().await.has_left);
    bench.all_say(WithdrawalDone);
    assert_eq!(bench.look().await.final_status, Some(WithdrawalDone));
    let asked = bench.nodes[0].asked().len();
    bench.look().await;
    assert_eq!(bench.nodes[0].asked().len(), asked, "it is gone for good");
}

#[tokio::test]
async fn that_nothing_is_left_to_do_is_not_believed_of_fewer_than_half_of_the_nodes() {
    let lies = [Some(Lie::FinalSays(WithdrawalDone)), Some(Lie::Html404), Some(Lie::Html404)];
    let bench = Bench::start(&lies).await;
    assert_eq!(bench.look().await.final_status, None);
    let alone = Bench::start(&lies[..1]).await;
    assert_eq!(alone.look().await.final_status, Some(WithdrawalDone), "there is nobody else to ask");
    // Half of them is enough for its index, and not for what ends something.
    let half = Bench::start(&lies[..2]).await;
    let seen = half.look().await;
    assert_eq!((seen.validator_index, seen.final_status, seen.has_left), (Some(1), None, false));
    let half = Bench::start(&[Some(Lie::FinalSays(ExitedUnslashed)), Some(Lie::Html404)]).await;
    let seen = half.look().await;
    assert_eq!((seen.final_status, seen.has_left), (Some(ExitedUnslashed), false));
}

#[tokio::test]
async fn what_too_few_nodes_say_gives_nobody_an_index_and_accuses_nobody() {
    let down = Some(Lie::Html404);
    let bench = Bench::start(&[Some(Lie::OtherCredentials), down, down]).await;
    assert_eq!((bench.look().await.validator_index, bench.alerts()), (None, vec![]));
    let bench = Bench::start(&[Some(Lie::OtherIndex), down, down]).await;
    assert_eq!(bench.look().await.validator_index, None);
}

/// Two nodes, of which one does not know the validator: nothing goes on, and that is said.
#[tokio::test]
async fn nodes_that_disagree_for_long_are_a_trouble_until_they_agree() {
    let bench = Bench::start(&[None, None]).await;
    let hidden = bench.nodes[1].known().validators.remove(&pubkey(1)).unwrap();
    let (mut looks, pace) = (Looks::default(), bench.beacon.pace());
    bench.look_with(&mut looks).await;
    let now = Instant::now();
    assert_eq!(looks.disputed(pace, now), None, "they may be at different checkpoints");
    let long = now + pace.epoch * DISPUTE_EPOCHS;
    let said = looks.disputed(pace, long).unwrap();
    let there = format!("{}: index 1", bench.nodes[0].url());
    let not_there = format!("{}: not there", bench.nodes[1].url());
    assert!(said.contains(&there) && said.contains(&not_there), "{said}");
    bench.nodes[1].known().validators.insert(pubkey(1), hidden);
    looks.often = None;
    assert_eq!(bench.look_with(&mut looks).await.validator_index, Some(1));
    assert_eq!(looks.disputed(pace, long), None);
}

/// The figure that is wanted: under 20 requests to each node in an epoch, for 10,000 pools at rest.
#[tokio::test]
#[ignore = "measures: 10,000 pools"]
async fn ten_thousand_pools_at_rest_cost_few_requests() {
    let numbers: Vec<u32> = (1..=10_000).collect();
    let keys: BTreeSet<PublicKey> = numbers.iter().map(|number| pubkey((*number).into())).collect();
    assert_eq!(keys.len(), numbers.len());
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&Place::Directory(folder.path().to_owned())).unwrap();
    for number in &numbers {
        store.change_pool(pool(*number), |known| *known = at_rest(*number)).unwrap();
    }
    let keys: Vec<PublicKey> = numbers.iter().map(|number| pubkey((*number).into())).collect();
    let node = TestNode::start(&keys, None).await;
    let beacon = BeaconNodes::new(&[node.node_url()], NETWORK).unwrap();
    let watcher = Watcher { store: &store, beacon: &beacon, data_dir: folder.path() };
    let mut looks = Looks::default();
    beacon.check().await;
    let first = node.asked().len();
    let begun = Instant::now();
    watcher.look(&mut looks, POLL).await.unwrap();
    let (one_look, took) = (node.asked().len() - first, begun.elapsed());
    let begun = Instant::now();
    for _ in 0..10 {
        watcher.look(&mut looks, POLL).await.unwrap();
    }
    println!(
        "a poll with nothing due: {:?}, {} requests",
        begun.elapsed() / 10,
        node.asked().len() - first - one_look
    );
    // Two more in each epoch say how far the node is.
    let in_an_epoch = one_look as f64 / f64::from(REST_EPOCHS) + 2.0;
    println!("a look at 10,000: {one_look} requests, {took:?}; {in_an_epoch:.1} requests in an epoch");
    assert!(in_an_epoch < 20.0);
}
