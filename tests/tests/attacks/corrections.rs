//! A host that was told something wrong can correct it until something that left its enclave depends on it; and whatever it
//! claims and takes back, its enclave says nothing twice.

use postern_shared::bls::PublicKey;
use postern_shared::codec;
use postern_shared::dealing::Commit;
use postern_shared::events::{ChainEvent, DepositRequest, EventSource};
use postern_shared::ids::{Digest, MemberId, PoolId};
use postern_shared::message::{Broadcast, PeerMessage, Slot, Step};
use postern_shared::wire::{Notice, Rejection, Reply, Request};
use postern_tests::attack::{deliver_through, deposits, named};
use postern_tests::cluster::{Cluster, Packet, deposit_requested, exit_requested, manifest, pool};
use postern_tests::wallets::next;
use std::collections::BTreeMap;

const POOL: PoolId = pool(1);
const ERRING: MemberId = MemberId(4);

fn wrong_deposit() -> ChainEvent {
    let ChainEvent::DepositRequested(request) = deposit_requested(POOL.number) else { unreachable!() };
    let source = EventSource { block: Digest([0xee; 32]), log_index: 7 };
    ChainEvent::DepositRequested(DepositRequest { source, ..request })
}

fn wrong_exit() -> ChainEvent {
    ChainEvent::ExitRequested { source: EventSource { block: Digest([0xee; 32]), log_index: 7 }, pool: POOL }
}

fn indexed(pubkey: PublicKey, validator_index: u64) -> ChainEvent {
    ChainEvent::ValidatorIndexed { pool: POOL, pubkey, validator_index }
}

/// Nobody has filled a slot in two ways.
#[track_caller]
fn assert_said_once(said: &[Broadcast]) {
    let mut bodies: BTreeMap<Slot, &Vec<u8>> = BTreeMap::new();
    for one in said {
        assert_eq!(*bodies.entry(one.slot).or_insert(&one.body), &one.body, "{:?}", one.slot);
    }
}

#[test]
fn a_wrong_first_claim_of_each_kind_is_corrected() {
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 61);
    cluster.run(1);
    cluster.ask(ERRING, Request::Observe(wrong_deposit()));
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(2);
    assert_eq!(deposits(&cluster), 5);
    let key = cluster.pubkey(POOL).unwrap();
    cluster.ask(ERRING, Request::Observe(indexed(key, 666)));
    cluster.observe(indexed(key, 9));
    cluster.run(2);
    cluster.ask(ERRING, Request::Observe(wrong_exit()));
    cluster.observe(exit_requested(POOL.number));
    cluster.run(2);
    assert_eq!(cluster.exits(POOL)[0].message.validator_index, 9);
    let agreed =
        cluster.said.iter().any(|said| (said.slot.from, said.slot.step) == (ERRING, Step::Authorise));
    assert!(agreed, "it takes part like the others");
    assert_said_once(&cluster.said);
}

#[test]
fn what_an_enclave_has_confirmed_or_authorised_is_not_taken_back() {
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 62);
    cluster.run(1);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(1);
    let refused = Reply::Rejected(Rejection::ContradictoryEvent);
    assert_eq!(cluster.ask(ERRING, Request::Observe(wrong_deposit())), refused);
    let key = cluster.pubkey(POOL).unwrap();
    cluster.observe(indexed(key, 9));
    cluster.run(1);
    cluster.observe(exit_requested(POOL.number));
    cluster.run(1);
    // The DAO may ask again. Nothing is taken back, and nobody has more than one share to give.
    for wish in [wrong_exit(), exit_requested(POOL.number)] {
        assert_eq!(cluster.ask(ERRING, Request::Observe(wish)), Reply::Done);
    }
    cluster.run(1);
    assert_eq!(cluster.exits(POOL).len(), 1);
}

/// The governor may ask again, for instance because nothing seems to come of it. Whichever of its wishes a guardian's host has
/// seen, a threshold that has seen one of them releases; and a wish that comes later starts a release of its own.
#[test]
fn an_exit_that_is_asked_for_again_is_released() {
    let wish = |number: u8| ChainEvent::ExitRequested {
        source: EventSource { block: Digest([number; 32]), log_index: 1 },
        pool: POOL,
    };
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 64);
    cluster.run(1);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(1);
    let key = cluster.pubkey(POOL).unwrap();
    cluster.observe(indexed(key, 9));
    cluster.run(1);
    // Two have seen the first only, so nothing comes of it.
    for id in [1, 2].map(MemberId) {
        assert_eq!(cluster.ask(id, Request::Observe(wish(1))), Reply::Done);
    }
    cluster.run(2);
    assert_eq!(cluster.exits(POOL), []);
    // The second is seen by all, at the same time or later; the first then too.
    for id in cluster.ids() {
        assert_eq!(cluster.ask(id, Request::Observe(wish(2))), Reply::Done);
    }
    cluster.run(2);
    assert_eq!(cluster.exits(POOL).len(), 1);
    // More wishes than are kept are taken for what they are, whether or not the pool has been settled since.
    for number in 3..20 {
        cluster.observe(wish(number));
    }
    cluster.run(2);
    let exits = cluster.exits(POOL);
    assert!(exits.len() <= 4 && exits.iter().all(|exit| *exit == exits[0]), "{}", exits.len());
}

/// Claims something, hears one thing, claims something else and the first thing again, and hears another: found when the
/// design was attacked. An enclave that began the first run afresh would judge twice, and be convicted.
#[test]
fn an_enclave_that_is_told_one_thing_another_and_the_first_again_says_nothing_twice() {
    let culprit = MemberId(2);
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 63);
    cluster.run(0);
    cluster.observe(deposit_requested(POOL.number));
    // One commitment to the erring member and another to the rest, so that it finds the culprit out by itself, and rejects.
    deliver_through(&mut cluster, &[culprit], |corrupt, said, to| {
        vec![match said.slot.step {
            Step::Commit if to == ERRING => corrupt.restate(said, &Commit { deal: Digest([3; 32]) }),
            _ => said.clone(),
        }]
    });
    let verdicts = |cluster: &Cluster| {
        let judged = |said: &&Broadcast| (said.slot.from, said.slot.step) == (ERRING, Step::Verdict);
        cluster.said.iter().filter(judged).map(|said| said.slot.ceremony).collect::<Vec<_>>()
    };
    assert_eq!(verdicts(&cluster).len(), 2, "it rejects one run, and accepts the next without the culprit");
    for event in [wrong_deposit(), deposit_requested(POOL.number)] {
        cluster.ask(ERRING, Request::Observe(event));
    }
    // Now it hears what everybody else has heard.
    let everything = cluster.said.clone();
    for said in everything.into_iter().filter(|said| said.slot.from != ERRING) {
        cluster.ask(ERRING, Request::Deliver(postern_tests::attack::message(said)));
    }
    cluster.run(1);
    assert_said_once(&cluster.said);
    for id in cluster.ids() {
        assert!(named(&cluster, id).iter().all(|name| *name == culprit), "{id}");
    }
}

#[test]
fn no_share_goes_to_an_enclave_that_the_manifest_has_declared_dead_and_another_collects() {
    let presigned = || {
        let mut cluster = Cluster::launch(manifest(5, 3, 3), 64);
        cluster.run(1);
        cluster.observe(deposit_requested(POOL.number));
        cluster.run(1);
        cluster.index(POOL);
        cluster.run(2);
        cluster
    };
    let is_of = |packet: &Packet, step: Step| {
        postern_tests::attack::statement(packet).is_some_and(|said| said.slot.step == step)
    };
    let first = {
        let mut trial = presigned();
        trial.observe(exit_requested(POOL.number));
        trial.run(0);
        trial.said.iter().find(|said| said.slot.step == Step::Call).expect("somebody collects").slot.from
    };
    let mut cluster = presigned();
    // The DAO replaces the machine of who will collect; nobody has heard yet that enough have adopted that.
    let heir = cluster.another(first, 9, &cluster.epochs.clone());
    let second = next(&cluster.manifest, |next| {
        let member = next.members.iter_mut().find(|member| member.id == first).unwrap();
        (member.enclave, member.machine) = (Some(heir.keys(first, 1)), 1);
    });
    let epoch = cluster.sign(&second);
    for id in cluster.ids() {
        cluster.ask(id, Request::Amend(epoch.clone()));
    }
    let adopts = |packet: &Packet| is_of(packet, Step::Adopt) || is_of(packet, Step::Decide);
    let calls = |packet: &Packet| is_of(packet, Step::Call);
    cluster.deliver_only(|packet| !adopts(packet));
    let adoptions: Vec<Packet> = cluster.packets.drain(..).collect();
    assert!(!adoptions.is_empty());
    // Guardians hear the call, and their shares wait until others remember their logs.
    for id in cluster.ids() {
        cluster.ask(id, Request::Observe(exit_requested(POOL.number)));
    }
    cluster.deliver_only(|packet| !calls(packet));
    cluster.deliver_only(calls);
    let later: Vec<Packet> = cluster.packets.drain(..).collect();
    // Now they hear of the epoch, and the machine is lost.
    for packet in adoptions.into_iter().filter(|packet| packet.to != first) {
        cluster.deliver(packet);
    }
    cluster.take_place(first, 1, heir);
    cluster.ask(first, Request::Amend(epoch));
    cluster.packets.extend(later.into_iter().filter(|packet| packet.from != first));
    let mut secrets = 0;
    for _ in 0..30 {
        let mut idle = 0;
        while idle <= cluster.packets.len() {
            let Some(packet) = cluster.packets.pop_front() else { break };
            let secret = matches!(codec::decode(&packet.bytes), Ok(PeerMessage::Envelope(_)));
            assert!(!(secret && packet.to == first), "a share for the dead enclave");
            secrets += usize::from(secret);
            let waits = matches!(cluster.deliver(packet), Reply::Rejected(reason) if reason.is_transient());
            idle = if waits { idle + 1 } else { 0 };
        }
        for id in cluster.ids() {
            cluster.ask(id, Request::Tick);
        }
    }
    assert!(secrets > 0);
    assert_eq!(cluster.exits(POOL).len(), 1, "another collects");
    // What had waited to leave was withheld, and said to be.
    let withheld = |notice: &Notice| *notice == Notice::Withheld(first);
    assert!(cluster.nodes.iter().any(|node| node.notices.iter().any(withheld)));
}
