//! Hosts that take honest enclaves back in time: nothing that an enclave has answered for is ever answered otherwise.

use postern_shared::codec;
use postern_shared::epoch::{CutError, Waiting, cut};
use postern_shared::ids::{MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::message::PeerMessage;
use postern_shared::wire::{Notice, Rejection, Reply, Request, Standing, Status};
use postern_tests::cluster::{Cluster, Heir, Packet, deposit_requested, manifest, pool, pubkey};
use postern_tests::wallets::{next, signed};

const X: MemberId = MemberId(1);
const POOL: PoolId = pool(1);

fn status(cluster: &mut Cluster, id: MemberId) -> Status {
    match cluster.ask(id, Request::Status) {
        Reply::Status(status) => *status,
        other => panic!("no status: {other:?}"),
    }
}

fn is_witness(packet: &Packet) -> bool {
    matches!(codec::decode(&packet.bytes), Ok(PeerMessage::Witness(_)))
}

fn knows_its_key(cluster: &Cluster, id: MemberId) -> bool {
    cluster.node(id).core.keygen(POOL).is_some_and(|keygen| keygen.key().is_some())
}

/// A core that is not any member's for now.
fn aside(core: postern_enclave::core::Core<postern_tests::cluster::SpiedMachine>, cluster: &Cluster) -> Heir {
    Heir { core, ..Heir::launch(cluster.node(X).machine, 99) }
}

/// Two hostile hosts, those of X and Y. Y's first enclave goes on beside the second one, which has taken its place and has
/// remembered X's key; then the first one vouches for an old X.
fn a_superseded_enclave_vouches(members: u16) {
    let y = MemberId(2);
    let mut cluster = Cluster::launch(manifest(members, 2, 2), 31);
    cluster.run(2);
    let second = cluster.twin(y, 77);
    let first = cluster.adopt(y, second);
    cluster.run(3);
    assert_eq!(status(&mut cluster, y).incarnation, 1);
    let x_old = cluster.twin(X, 78);
    // X goes on. Only Y's second enclave, and as many others as the quorum wants, are told where X's log stands.
    let told: Vec<MemberId> =
        [y].into_iter().chain((3..=members).map(MemberId)).take(cluster.manifest.quorum().to_act()).collect();
    let untold: Vec<MemberId> = (3..=members).map(MemberId).filter(|id| !told.contains(id)).collect();
    cluster.observe(deposit_requested(POOL.number));
    cluster.carry(3, |packet| !(packet.from == X && is_witness(packet) && untold.contains(&packet.to)));
    assert!(pubkey(cluster.node(X), POOL).is_some(), "X has a key, and has signed the deposit");
    // The hosts of X and Y show the others the old enclaves.
    let x_new = cluster.adopt(X, x_old);
    let y_first = aside(first, &cluster);
    cluster.adopt(y, y_first);
    let honest: Vec<MemberId> = told.into_iter().filter(|id| *id != y).collect();
    let hidden = |packet: &Packet| {
        packet.from == X && honest.contains(&packet.to) || packet.to == X && honest.contains(&packet.from)
    };
    cluster.carry(5, |packet| !hidden(packet));
    assert_ne!(cluster.standing(X), Standing::Acting, "{members} members: old state acts");
    // With everybody honest again, the newest of it is X.
    let old = cluster.adopt(X, aside(x_new, &cluster));
    drop(old);
    cluster.run(4);
    assert!(knows_its_key(&cluster, X));
}

#[test]
fn an_enclave_whose_place_another_has_taken_vouches_for_nobody() {
    for members in [3, 4, 5, 7, 9] {
        a_superseded_enclave_vouches(members);
    }
}

/// One hostile host, that of X. A branch of X's log that was made longer in private is claimed after another branch has made a
/// key.
fn a_longer_branch(members: u16) {
    let mut cluster = Cluster::launch(manifest(members, 2, 2), 31);
    cluster.run(2);
    let copy = cluster.twin(X, 77);
    // The first enclave is fed events by its host alone, and nothing that it says leaves: its log grows while it acts.
    for number in 100..120 + 20 * u32::from(members) {
        cluster.ask(X, Request::Observe(deposit_requested(number)));
    }
    cluster.packets.clear();
    let long = cluster.node(X).records.clone();
    // The copy takes its place, rightly; it makes a key with the others.
    cluster.adopt(X, copy);
    cluster.run(3);
    assert_eq!(cluster.standing(X), Standing::Acting);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(3);
    assert!(pubkey(cluster.node(X), POOL).is_some(), "X has confirmed a key");
    assert!((status(&mut cluster, X).head.number as usize) < long.len());
    // Now the private branch, restored again and again so that its incarnation is a later one.
    for launch in 90..92 {
        assert_eq!(cluster.restore(X, launch, &long), Reply::Done);
        cluster.packets.clear();
        cluster.crash(X, launch + 10);
        cluster.run(4);
        assert_ne!(cluster.standing(X), Standing::Acting, "{members} members: the private branch acts");
    }
    assert!(cluster.nodes[1].notices.iter().any(|notice| matches!(notice, Notice::StalePeer(_))));
}

#[test]
fn one_host_takes_its_own_enclave_back_by_no_private_branch() {
    for members in [3, 4, 5, 7] {
        a_longer_branch(members);
    }
}

/// An enclave that an epoch has declared dead answers a return that waits while the epoch comes.
#[test]
fn the_answer_of_an_enclave_that_is_dead_now_does_not_count() {
    for members in [3_u16, 5, 6] {
        let y = MemberId(members);
        let mut cluster = Cluster::launch(manifest(members, 2, 2), 51);
        cluster.run(2);
        let x_old = cluster.twin(X, 78);
        cluster.launch_anew(y, 9);
        let replacement = cluster.replacement(y);
        let epoch = cluster.sign(&replacement);
        // Y's new enclave is named; its old one goes on beside it, and is shown to X only.
        let others: Vec<MemberId> = cluster.ids().into_iter().filter(|id| *id != X).collect();
        for id in others {
            assert_eq!(cluster.ask(id, Request::Amend(epoch.clone())), Reply::Done);
        }
        assert_eq!(cluster.ask(X, Request::Amend(epoch.clone())), Reply::Done);
        cluster.run(4);
        assert_eq!(cluster.standing(y), Standing::Acting, "the new one is let in");
        // X makes a key; all but Y's new enclave and as few as possible remember how far X has come.
        let told = cluster.manifest.quorum().to_act();
        let knows: Vec<MemberId> = cluster.ids().into_iter().rev().take(told).collect();
        cluster.observe(deposit_requested(POOL.number));
        cluster.carry(3, |packet| !(packet.from == X && is_witness(packet) && !knows.contains(&packet.to)));
        assert!(pubkey(cluster.node(X), POOL).is_some());
        // The old X, which has not heard of the epoch, asks those that know nothing.
        cluster.adopt(X, x_old);
        let asked: Vec<MemberId> =
            cluster.ids().into_iter().filter(|id| *id != X && !knows.contains(id)).collect();
        cluster.carry(4, |packet| {
            packet.from == X && asked.contains(&packet.to) || packet.to == X && asked.contains(&packet.from)
        });
        assert_ne!(cluster.standing(X), Standing::Acting, "{members} members");
        // If it has not been told yet that it is old.
        cluster.ask(X, Request::Amend(epoch));
        cluster.carry(4, |packet| {
            packet.from == X && asked.contains(&packet.to) || packet.to == X && asked.contains(&packet.from)
        });
        assert_ne!(cluster.standing(X), Standing::Acting, "{members} members");
    }
}

/// Nobody can return when so many were restored at a time. The DAO lists the copies that may go on.
fn dark(members: u16) -> Cluster {
    let mut cluster = Cluster::launch(manifest(members, 2, 2), 52);
    cluster.run(2);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(2);
    for (id, launch) in cluster.ids().into_iter().zip(1..) {
        cluster.crash(id, launch);
    }
    cluster.run(3);
    for id in cluster.ids() {
        assert!(matches!(cluster.standing(id), Standing::Returning { .. }), "nobody is there to ask");
    }
    cluster
}

fn copies(cluster: &mut Cluster) -> Vec<Waiting> {
    let ids = cluster.ids();
    let copy = |id| {
        assert_eq!(cluster.ask(id, Request::AwaitCut), Reply::Done);
        assert_eq!(cluster.standing(id), Standing::AwaitingCut);
        *status(cluster, id).waiting.expect("what the cut must say of it")
    };
    ids.into_iter().map(copy).collect()
}

fn with_cut(cluster: &Cluster, copies: &[Waiting]) -> Manifest {
    let cut = cut(&cluster.manifest, copies).expect("nothing noted is missing");
    next(&cluster.manifest, |next| next.agreement.cut = Some(cut))
}

#[test]
fn after_a_loss_of_power_of_all_the_dao_says_who_goes_on() {
    for members in [3, 5, 6] {
        let mut cluster = dark(members);
        let listed = copies(&mut cluster);
        // While they wait for it they take no part, and nobody lets them in.
        cluster.run(3);
        assert_eq!(
            cluster.ask(X, Request::Observe(deposit_requested(2))),
            Reply::Rejected(Rejection::Returning)
        );
        let manifest = with_cut(&cluster, &listed);
        cluster.amend(&manifest);
        cluster.run(2);
        for id in cluster.ids() {
            assert_eq!(cluster.standing(id), Standing::Acting, "{id} of {members}");
            assert!(knows_its_key(&cluster, id));
        }
        cluster.observe(deposit_requested(2));
        cluster.run(2);
        assert!(cluster.pubkey(pool(2)).is_some());
        // From here on all is as before: who is restored asks, and what is old is found out.
        let old = cluster.node(X).records.clone();
        cluster.observe(deposit_requested(3));
        cluster.run(2);
        cluster.crash(X, 40);
        cluster.run(3);
        assert_eq!(cluster.standing(X), Standing::Acting);
        assert_eq!(cluster.restore(X, 41, &old), Reply::Done);
        cluster.run(3);
        assert!(matches!(cluster.standing(X), Standing::Stale(_)));
    }
}

#[test]
fn a_copy_that_the_cut_does_not_name_is_not_let_in_by_it() {
    let mut cluster = dark(5);
    // Another branch of X's log, from before its key: it is older than the one that is listed.
    let listed = copies(&mut cluster);
    let manifest = with_cut(&cluster, &listed);
    let early = cluster.node(X).records[..12].to_vec();
    cluster.amend(&manifest);
    cluster.run(2);
    let newest = cluster.node(X).records.clone();
    assert_eq!(cluster.restore(X, 60, &early), Reply::Done);
    cluster.run(3);
    assert!(matches!(cluster.standing(X), Standing::Stale(_)), "{:?}", cluster.standing(X));
    assert_eq!(cluster.restore(X, 61, &newest), Reply::Done);
    cluster.run(3);
    assert_eq!(cluster.standing(X), Standing::Acting);
}

#[test]
fn an_enclave_that_was_restarted_after_it_was_listed_asks_like_any_other() {
    let mut cluster = dark(5);
    let listed = copies(&mut cluster);
    // It was listed with a nonce that nobody has any more.
    cluster.crash(X, 70);
    let manifest = with_cut(&cluster, &listed);
    cluster.amend(&manifest);
    cluster.run(4);
    for id in cluster.ids() {
        assert_eq!(cluster.standing(id), Standing::Acting, "{id}");
    }
}

#[test]
fn a_cut_names_everybody_and_takes_a_quorum() {
    let mut cluster = dark(5);
    let listed = copies(&mut cluster);
    let few = with_cut(&cluster, &listed[1..]);
    let unsigned = postern_shared::epoch::SignedEpoch::unsigned(&few);
    assert!(unsigned.message(&cluster.manifest).is_err(), "it leaves one out");
    let whole = with_cut(&cluster, &listed);
    let too_few = signed(&cluster.manifest, &whole, [1, 2].map(MemberId));
    assert_eq!(cluster.ask(X, Request::Amend(too_few)), Reply::Rejected(Rejection::InvalidEpoch));
    assert_eq!(cluster.standing(X), Standing::AwaitingCut);
}

/// Who took an answer to its claim before it was listed would be let in twice: by that, and by the cut.
#[test]
fn who_waits_for_a_cut_is_let_in_by_nothing_else() {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 53);
    cluster.run(2);
    cluster.crash(X, 1);
    // It has one answer too few; then it waits for a cut, and the other answer comes.
    let late = MemberId(3);
    cluster.ask(X, Request::Tick);
    let mut held = Vec::new();
    while let Some(packet) = cluster.packets.pop_front() {
        if packet.from == late && packet.to == X && is_witness(&packet) {
            held.push(packet);
        } else {
            cluster.deliver(packet);
        }
    }
    assert!(!held.is_empty());
    assert!(matches!(cluster.standing(X), Standing::Returning { acting: 1, .. }));
    assert_eq!(cluster.ask(X, Request::AwaitCut), Reply::Done);
    cluster.packets.extend(held);
    cluster.run(3);
    assert_eq!(cluster.standing(X), Standing::AwaitingCut);
}

#[test]
fn a_cut_lists_no_copy_that_lacks_what_others_have_noted() {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 54);
    cluster.run(2);
    let old = cluster.node(X).records.len();
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(2);
    // X's host has an old state listed; the others have noted what it had come to.
    let records = cluster.node(X).records[..old].to_vec();
    assert_eq!(cluster.restore(X, 1, &records), Reply::Done);
    cluster.packets.clear();
    let listed = copies(&mut cluster);
    let older = CutError::Older { member: X, noted_by: MemberId(2) };
    assert_eq!(cut(&cluster.manifest, &listed), Err(older));
    // Nor does it help to leave out of a claim what it goes on from, or to say more than was signed.
    let mut stripped = listed.clone();
    stripped[1].claim.ends.clear();
    assert_eq!(cut(&cluster.manifest, &stripped), Err(CutError::Forged(MemberId(2))));
    let mut stretched = listed;
    stretched[0].claim.note.note.place.head.number += 100;
    assert_eq!(cut(&cluster.manifest, &stretched), Err(CutError::Forged(X)));
}

/// A machine is lost with the power, and replaced in the very epoch that makes the cut.
#[test]
fn a_candidate_that_is_named_with_a_cut_is_let_in_by_those_that_it_lists() {
    let lost = MemberId(4);
    let mut cluster = dark(4);
    cluster.launch_anew(lost, 80);
    let ids: Vec<MemberId> = cluster.ids().into_iter().filter(|id| *id != lost).collect();
    let mut listed = Vec::new();
    for id in ids {
        assert_eq!(cluster.ask(id, Request::AwaitCut), Reply::Done);
        listed.push(*status(&mut cluster, id).waiting.expect("it waits"));
    }
    let mut manifest = cluster.replacement(lost);
    manifest.agreement.cut = Some(cut(&cluster.manifest, &listed).expect("nothing noted is missing"));
    cluster.amend(&manifest);
    cluster.run(4);
    for id in cluster.ids() {
        assert_eq!(cluster.standing(id), Standing::Acting, "{id}");
    }
    cluster.observe(deposit_requested(2));
    cluster.run(2);
    assert!(cluster.pubkey(pool(2)).is_some());
}
