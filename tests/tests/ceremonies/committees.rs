//! Enough members go on without those whose evidence is missing or bad; too few, or two groups at once, never do.

use postern_shared::codec;
use postern_shared::events::ChainEvent;
use postern_shared::ids::{MemberId, PoolId};
use postern_shared::message::{PeerMessage, Step};
use postern_shared::transcript::Claim;
use postern_shared::wire::{Rejection, Reply, Request};
use postern_tests::cluster::{Cluster, Packet, deposit_requested, exit_requested, manifest, pool, pubkey};

const POOL: PoolId = pool(1);

fn ids(numbers: &[u16]) -> Vec<MemberId> {
    numbers.iter().copied().map(MemberId).collect()
}

/// Delivers everything but what these members say and hear, with a tick between rounds.
fn run_without(cluster: &mut Cluster, away: &[u16], rounds: usize) {
    let away = ids(away);
    let present: Vec<MemberId> = cluster.ids().into_iter().filter(|id| !away.contains(id)).collect();
    for _ in 0..rounds {
        let mut idle = 0;
        while idle <= cluster.packets.len() {
            let Some(packet) = cluster.packets.pop_front() else { break };
            if away.contains(&packet.from) || away.contains(&packet.to) {
                continue;
            }
            let waits = matches!(cluster.deliver(packet), Reply::Rejected(reason) if reason.is_transient());
            idle = if waits { idle + 1 } else { 0 };
        }
        for id in &present {
            cluster.ask(*id, Request::Tick);
        }
    }
}

fn go_on_without(cluster: &mut Cluster, away: &[u16]) {
    for id in cluster.ids() {
        if !away.contains(&id.0) {
            assert_eq!(cluster.ask(id, Request::GoOnWithout(ids(away))), Reply::Done);
        }
    }
}

fn index(cluster: &mut Cluster, pool: PoolId) {
    let pubkey = cluster.pubkey(pool).expect("a key");
    cluster.observe(ChainEvent::ValidatorIndexed { pool, pubkey, validator_index: 9 });
}

#[test]
fn four_of_five_go_the_whole_way() {
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 41);
    cluster.observe(deposit_requested(POOL.number));
    run_without(&mut cluster, &[5], 2);
    assert_eq!(cluster.pubkey(POOL), None, "nobody is left out unless somebody says so");
    go_on_without(&mut cluster, &[5]);
    run_without(&mut cluster, &[5], 2);
    index(&mut cluster, POOL);
    run_without(&mut cluster, &[5], 2);
    cluster.observe(exit_requested(POOL.number));
    run_without(&mut cluster, &[5], 2);
    assert_eq!(cluster.exits(POOL).len(), 1);
    for claim in cluster.claims() {
        match claim {
            Claim::Key { operators, .. } => assert_eq!(operators, ids(&[1, 2, 3, 4])),
            Claim::Presigned { guardians, .. } => assert!(!guardians.contains(&MemberId(5))),
            Claim::Released { .. } => {}
            Claim::Reshared { .. } => panic!("nothing begins a reshare"),
            Claim::Cheated { culprit, .. } => panic!("{culprit} did nothing wrong"),
        }
    }
}

#[test]
fn who_comes_back_takes_part_in_what_begins_afterwards() {
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 42);
    cluster.observe(deposit_requested(1));
    go_on_without(&mut cluster, &[5]);
    run_without(&mut cluster, &[5], 2);
    let first = cluster.pubkey(POOL);
    assert!(first.is_some());
    // Its evidence is good now. The hosts still say what they said.
    cluster.run(2);
    assert_eq!(cluster.pubkey(POOL), first, "no key is ever made anew");
    cluster.observe(deposit_requested(2));
    cluster.run(1);
    let operators = cluster.claims().into_iter().find_map(|claim| match claim {
        Claim::Key { pool: made, operators, .. } if made == pool(2) => Some(operators),
        _ => None,
    });
    assert_eq!(operators, Some(ids(&[1, 2, 3, 4, 5])));
}

#[test]
fn an_admitted_member_can_not_be_left_out() {
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 43);
    cluster.run(1);
    go_on_without(&mut cluster, &[4, 5]);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(1);
    assert_eq!(cluster.node(MemberId(1)).core.keygen(POOL).unwrap().terms().operators, cluster.ids());
    assert_eq!(
        cluster.ask(MemberId(1), Request::GoOnWithout(ids(&[9]))),
        Reply::Rejected(Rejection::NotAMember(MemberId(9)))
    );
}

#[test]
fn neither_too_few_for_the_threshold_nor_half_of_all_go_on() {
    for (threshold, away) in [(4, vec![4, 5]), (2, vec![3, 4, 5])] {
        let mut cluster = Cluster::launch(manifest(5, threshold, 2), 44);
        cluster.observe(deposit_requested(POOL.number));
        go_on_without(&mut cluster, &away);
        run_without(&mut cluster, &away, 2);
        assert!(cluster.node(MemberId(1)).core.keygen(POOL).is_none(), "{threshold} of 5 without {away:?}");
    }
}

#[test]
fn hosts_can_not_lead_two_committees_to_two_keys() {
    // All confirm the key of all five; only member 1 hears it from everybody, and one vote decides nothing.
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 45);
    cluster.run(0);
    cluster.observe(deposit_requested(POOL.number));
    let confirms = |packet: &Packet| matches!(codec::decode(&packet.bytes), Ok(PeerMessage::Broadcast(said)) if said.slot.step == Step::Confirm);
    while let Some(packet) = cluster.packets.pop_front() {
        if packet.to == MemberId(1) || !confirms(&packet) {
            cluster.deliver(packet);
        }
    }
    assert!(cluster.said.iter().any(|said| (said.slot.from, said.slot.step) == (MemberId(1), Step::Vote)));
    assert!((1..=5).all(|id| pubkey_of(&cluster, id).is_none()));
    // Then 1 and 5 can't be reached any more: both start anew elsewhere, and their hosts are silent.
    let identities: Vec<_> = [2, 3, 4].map(|id| *cluster.node(MemberId(id)).keys().identity()).to_vec();
    cut_off(&mut cluster, &[2, 3, 4], &[1, 5]);
    go_on_without(&mut cluster, &[1, 5]);
    run_without(&mut cluster, &[1, 5], 3);
    assert!((2..=4).all(|id| pubkey_of(&cluster, id).is_none()), "who has confirmed one key makes no other");
    assert_eq!([2, 3, 4].map(|id| *cluster.node(MemberId(id)).keys().identity()).to_vec(), identities);
}

fn pubkey_of(cluster: &Cluster, id: u16) -> Option<postern_shared::bls::PublicKey> {
    cluster
        .node(MemberId(id))
        .core
        .keygen(POOL)?
        .key()
        .map(|key| key.public.certificate.pubkey())
        .or_else(|| pubkey(cluster.node(MemberId(id)), POOL))
}

/// Makes some enclaves cut off others: by evidence that only the others' own machines can make.
fn cut_off(cluster: &mut Cluster, by: &[u16], victims: &[u16]) {
    use postern_attestation::{Binding, ReportData};
    use postern_enclave::platform::Platform;
    use postern_simulation::SoftwarePsp;

    for (verifier, prover) in by.iter().flat_map(|by| victims.iter().map(move |victim| (*by, *victim))) {
        let (verifier, prover) = (MemberId(verifier), MemberId(prover));
        cluster.packets.clear();
        cluster.ask(verifier, Request::Reattest(Some(prover)));
        let challenge = cluster.packets.pop_front().expect("a challenge");
        cluster.deliver(challenge);
        let answer = cluster.packets.drain(..).find_map(|packet| match codec::decode(&packet.bytes) {
            Ok(PeerMessage::Evidence(answer)) if packet.to == verifier => Some(*answer),
            _ => None,
        });
        let mut answer = answer.expect("an answer");
        let ReportData(data) = Binding::of(cluster.manifest.genesis(), &answer).report_data();
        let mut psp =
            SoftwarePsp::new(cluster.node(prover).machine).tamper(|fields| fields.policy |= 1 << 19);
        answer.evidence.report = psp.report(&ReportData(data)).expect("a report");
        let message = codec::encode(&PeerMessage::Evidence(Box::new(answer)));
        assert_eq!(cluster.ask(verifier, Request::Deliver(message)), Reply::Rejected(Rejection::Evidence));
    }
}
