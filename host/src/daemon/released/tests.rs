use super::*;
use crate::chain::beacon::test_exits::{NETWORK, pubkey, signed_exit};
use crate::chain::beacon::test_node::TestNode;
use crate::store::Place;
use postern_shared::ethereum::ForkVersion;
use postern_shared::ids::Address;

const POLL: Duration = Duration::from_secs(6);
const PEER: MemberId = MemberId(2);

fn pool(number: u32) -> PoolId {
    PoolId::new(1, Address([2; 20]), number)
}

fn released(number: u32) -> ReleasedExit {
    ReleasedExit { pool: pool(number), exit: signed_exit(number.into(), number.into(), &NETWORK) }
}

struct Bench {
    store: Store,
    beacon: BeaconNodes,
    troubles: Troubles,
    refused: Refused,
    _node: TestNode,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// A host that knows pools 1 to 3; the beacon chain has validators 1 and 2, with those indices.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Place::Directory(folder.path().to_owned())).unwrap();
        for number in 1..=3 {
            store.change_pool(pool(number), |pool| pool.pubkey = Some(pubkey(number.into()))).unwrap();
        }
        let node = TestNode::start(&[pubkey(1), pubkey(2)], None).await;
        let beacon = BeaconNodes::new(&[node.node_url()], NETWORK).unwrap();
        Self {
            store,
            beacon,
            troubles: Troubles::default(),
            refused: Refused::default(),
            _node: node,
            _folder: folder,
        }
    }

    async fn take(&self, exits: Vec<ReleasedExit>, keys: &BTreeMap<PoolId, PublicKey>) -> Vec<PoolId> {
        let Self { store, beacon, troubles, refused, .. } = self;
        Keeper { store, beacon, troubles, refused, network: NETWORK }.take(PEER, exits, keys).await.unwrap()
    }

    fn exit(&self, number: u32) -> Option<ReleasedExit> {
        known(&self.store, &[pool(number)]).unwrap().pop()
    }

    fn is_peer_named(&self) -> bool {
        self.troubles.all().iter().any(|trouble| trouble.subject == Subject::WrongExit(PEER))
    }
}

#[tokio::test]
async fn a_good_exit_is_kept_and_handed_on_to_whoever_asks() {
    let bench = Bench::start().await;
    let kept = bench.take(vec![released(1), released(2)], &BTreeMap::new()).await;
    assert_eq!(kept, [pool(1), pool(2)]);
    assert_eq!(known(&bench.store, &[pool(3), pool(2), pool(9)]).unwrap(), [released(2)]);
    assert!(!bench.is_peer_named());
    // Once more is no news, and nothing replaces what is here.
    let other = ReleasedExit { pool: pool(1), ..released(2) };
    assert_eq!(bench.take(vec![other], &BTreeMap::new()).await, [pool(1)]);
    assert_eq!(bench.exit(1), Some(released(1)));
}

#[tokio::test]
async fn whatever_is_wrong_with_an_exit_names_its_sender_and_is_not_kept() {
    let deneb = Network { capella_fork_version: ForkVersion([4, 0, 0, 1]), ..NETWORK };
    let of = |number, exit| ReleasedExit { pool: pool(number), exit };
    let cases = [
        ("another validator's", of(1, signed_exit(2, 2, &NETWORK))),
        ("another index", of(1, signed_exit(1, 2, &NETWORK))),
        ("another key", of(1, signed_exit(2, 1, &NETWORK))),
        ("another fork", of(1, signed_exit(1, 1, &deneb))),
    ];
    for (what, exit) in cases {
        let bench = Bench::start().await;
        assert_eq!(bench.take(vec![exit, released(2)], &BTreeMap::new()).await, [], "{what}");
        assert_eq!((bench.exit(1), bench.exit(2)), (None, None), "{what}");
        assert!(bench.is_peer_named(), "{what}");
        assert_eq!(bench.take(vec![released(1)], &BTreeMap::new()).await, [pool(1)], "{what}");
        assert!(!bench.is_peer_named(), "{what}");
    }
}

#[tokio::test]
async fn one_bad_exit_keeps_no_others_out_for_longer_than_one_offer() {
    let bench = Bench::start().await;
    let bad = ReleasedExit { pool: pool(1), exit: signed_exit(2, 2, &NETWORK) };
    let offer = || vec![bad, released(2)];
    assert_eq!(bench.take(offer(), &BTreeMap::new()).await, []);
    assert_eq!(bench.take(offer(), &BTreeMap::new()).await, [pool(2)]);
    assert!(bench.is_peer_named(), "it is offered still");
    // What was good before is no news, and the bad one is not there any more.
    assert_eq!(bench.take(vec![released(2)], &BTreeMap::new()).await, [pool(2)]);
    assert!(!bench.is_peer_named());
}

#[test]
fn only_so_many_bad_exits_are_kept_in_mind() {
    let refused = Refused::default();
    let one = |index| Unverified { offered: released(1), pubkey: pubkey(1), index };
    (0..=MOST_REFUSED as u64).for_each(|index| refused.add(PEER, one(index)));
    let known = |index| refused.without(PEER, vec![one(index)]).is_empty();
    assert!(!known(0) && known(1) && known(MOST_REFUSED as u64));
    assert_eq!(refused.without(MemberId(9), vec![one(1)]).len(), 1, "another member's are looked at");
}

#[tokio::test]
async fn what_can_not_be_told_yet_is_neither_kept_nor_held_against_anybody() {
    let bench = Bench::start().await;
    // A validator that is not final, and a pool that nobody has told this host of.
    assert_eq!(bench.take(vec![released(3), released(9)], &BTreeMap::new()).await, []);
    assert!(!bench.is_peer_named());
    assert!(bench.store.pool(pool(9)).unwrap().is_none());
}

#[tokio::test]
async fn a_new_machine_goes_by_the_key_that_the_pool_manager_has() {
    let bench = Bench::start().await;
    bench.store.change_pool(pool(1), |pool| pool.pubkey = None).unwrap();
    assert_eq!(bench.take(vec![released(1)], &BTreeMap::new()).await, [], "nobody knows its key");
    assert_eq!(bench.take(vec![released(1)], &BTreeMap::from([(pool(1), pubkey(2))])).await, []);
    assert_eq!(bench.take(vec![released(1)], &BTreeMap::from([(pool(1), pubkey(1))])).await, [pool(1)]);
    assert_eq!(bench.store.pool(pool(1)).unwrap().unwrap().pubkey, Some(pubkey(1)));
}

#[test]
fn a_host_is_offered_what_it_lacks_and_less_often_what_it_does_not_take() {
    let start = Instant::now();
    let exit = signed_exit(1, 1, &NETWORK);
    let exits: Vec<_> = (1..=300).map(|number| ReleasedExit { pool: pool(number), exit }).collect();
    let mut recipient = Recipient { has: BTreeSet::new(), pause: POLL, due: start };
    let pools = |exits: &[ReleasedExit]| exits.iter().map(|exit| exit.pool).collect::<Vec<_>>();
    let first = recipient.wants(&exits, start);
    assert_eq!(first.len(), MAX_EXITS);
    recipient.keeps(first.len(), &pools(&first), POLL, start);
    let second = recipient.wants(&exits, start);
    assert_eq!(pools(&second), pools(&exits[MAX_EXITS..]));
    recipient.keeps(second.len(), &[], POLL, start);
    assert_eq!(recipient.wants(&exits, start + POLL * 2 - Duration::from_millis(1)), []);
    assert_eq!(recipient.wants(&exits, start + POLL * 2), second);
    for _ in 0..20 {
        recipient.keeps(second.len(), &[], POLL, start);
    }
    assert_eq!(recipient.wants(&exits, start + LONGEST_PAUSE), second);
    recipient.keeps(second.len(), &pools(&second), POLL, start);
    assert_eq!(recipient.wants(&exits, start), []);
}

#[test]
fn every_member_is_asked_for_every_exit_that_lacks() {
    let others = [2, 3, 4].map(MemberId);
    let wanted: Vec<PoolId> = (1..=300).map(pool).collect();
    let asked: Vec<_> = (0..6).filter_map(|round| turn(&others, &wanted, round)).collect();
    let members: Vec<u16> = asked.iter().map(|(member, _)| member.0).collect();
    assert_eq!(members, [2, 3, 4, 2, 3, 4]);
    let sizes: Vec<usize> = asked.iter().map(|(_, pools)| pools.len()).collect();
    assert_eq!(sizes, [256, 256, 256, 44, 44, 44]);
    assert_eq!(turn(&others, &wanted, 6), turn(&others, &wanted, 0));
    assert!(turn(&others, &[], 3).is_none() && turn(&[], &wanted, 3).is_none());
}
