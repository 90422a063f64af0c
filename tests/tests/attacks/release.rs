//! The known attacks on releases: shares that leave too early or to the wrong enclave, and exits that are held up.

use postern_shared::bls::{G2, Scalar};
use postern_shared::codec;
use postern_shared::ethereum::VoluntaryExit;
use postern_shared::events::{ChainEvent, EventSource};
use postern_shared::ids::{Digest, MemberId, PoolId};
use postern_shared::message::{Broadcast, Envelope, PeerMessage, Slot, Step};
use postern_shared::presign::Acknowledge;
use postern_shared::release::{Call, Released};
use postern_shared::transcript::{Claim, Proceedings};
use postern_shared::wire::{Notice, Rejection, Reply, Request};
use postern_tests::attack::{key_share, keygen_terms, message, named, roster, split, statement};
use postern_tests::cluster::{Cluster, Packet, deposit_requested, exit_requested, manifest, pool};
use postern_tests::corruption::Corrupt;
use std::collections::BTreeMap;

const POOL: PoolId = pool(1);
const CULPRIT: MemberId = MemberId(2);
const INDEX: u64 = 9;

/// A DAO whose validator is made and has an index; nothing of the presign is delivered yet.
fn made(members: u16, threshold: u16, seed: u64) -> Cluster {
    let mut cluster = Cluster::launch(manifest(members, threshold, threshold), seed);
    cluster.run(0);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(0);
    let pubkey = cluster.pubkey(POOL).unwrap();
    cluster.observe(ChainEvent::ValidatorIndexed { pool: POOL, pubkey, validator_index: INDEX });
    cluster
}

fn presigned(members: u16, threshold: u16, seed: u64) -> Cluster {
    let mut cluster = made(members, threshold, seed);
    cluster.run(0);
    cluster
}

fn envelope(packet: &Packet) -> Option<Envelope> {
    match codec::decode(&packet.bytes) {
        Ok(PeerMessage::Envelope(envelope)) => Some(envelope),
        _ => None,
    }
}

fn is_of(packet: &Packet, step: Step) -> bool {
    statement(packet).is_some_and(|said| said.slot.step == step)
}

/// Who has called for shares so far, in their order.
fn collectors(cluster: &Cluster) -> Vec<MemberId> {
    let calls = cluster.said.iter().filter(|said| said.slot.step == Step::Call);
    calls.map(|said| said.slot.from).collect()
}

/// Whether no enclave has given shares to another.
fn gave_nothing(cluster: &Cluster) -> bool {
    cluster.sealed.iter().all(|header| header.slot.step != Step::Share)
}

/// Delivers until shares are on their way; gives them.
fn shares_on_their_way(cluster: &mut Cluster) -> Vec<Packet> {
    let mut held = Vec::new();
    while let Some(packet) = cluster.packets.pop_front() {
        if envelope(&packet).is_some() {
            held.push(packet);
        } else {
            cluster.deliver(packet);
        }
    }
    held
}

/// There is one exit, and it is the validator's.
#[track_caller]
fn assert_released(cluster: &Cluster) {
    let exits = cluster.exits(POOL);
    assert_eq!(exits.len(), 1);
    let network = cluster.manifest.network;
    let root = exits[0].message.signing_root(network.capella_fork_version, network.genesis_validators_root);
    cluster.pubkey(POOL).unwrap().verify(&root.0, &exits[0].signature).expect("the validator's");
    assert_eq!(exits[0].message, VoluntaryExit { epoch: 0, validator_index: INDEX });
}

#[test]
fn one_guardian_fewer_than_the_threshold_releases_nothing_and_gives_nothing() {
    let mut cluster = presigned(5, 3, 22);
    for id in [1, 3].map(MemberId) {
        cluster.ask(id, Request::Observe(exit_requested(POOL.number)));
    }
    cluster.run(30);
    // Whatever hosts repeat and send to whom.
    let packets: Vec<Packet> = cluster.packets.drain(..).collect();
    assert!(gave_nothing(&cluster), "a share has left");
    for packet in packets {
        for to in cluster.ids() {
            cluster.deliver(Packet { to, ..packet.clone() });
        }
    }
    cluster.run(1);
    assert!(cluster.exits(POOL).is_empty());
    assert_eq!(collectors(&cluster), []);
    cluster.ask(MemberId(5), Request::Observe(exit_requested(POOL.number)));
    cluster.run(20);
    assert_released(&cluster);
}

#[test]
fn errors_of_single_hosts_about_different_wishes_do_not_add_up() {
    let mut cluster = presigned(5, 3, 23);
    for (id, block) in [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)] {
        let source = EventSource { block: Digest([block; 32]), log_index: 0 };
        let wish = ChainEvent::ExitRequested { source, pool: POOL };
        assert_eq!(cluster.ask(MemberId(id), Request::Observe(wish)), Reply::Done);
    }
    cluster.run(30);
    assert!(cluster.exits(POOL).is_empty());
    assert_eq!(collectors(&cluster), []);
    assert!(gave_nothing(&cluster));
}

#[test]
fn a_corrupted_collector_gets_nothing_before_a_threshold_has_authorised() {
    let mut cluster = presigned(5, 3, 24);
    let corrupt = Corrupt::of(cluster.node(CULPRIT));
    for id in [CULPRIT, MemberId(3)] {
        cluster.ask(id, Request::Observe(exit_requested(POOL.number)));
    }
    cluster.run(0);
    let authorised = cluster.said.iter().find(|said| said.slot.step == Step::Authorise).cloned();
    let slot = authorised.expect("guardians authorise").slot;
    let call = corrupt.keys.sign(Slot { from: CULPRIT, step: Step::Call, ..slot }, codec::encode(&Call));
    for id in cluster.ids() {
        cluster.ask(id, Request::Deliver(message(call.clone())));
    }
    cluster.remember();
    assert!(gave_nothing(&cluster), "too early");
    // With the third it gets shares of those that have authorised, and of nobody else.
    cluster.ask(MemberId(4), Request::Observe(exit_requested(POOL.number)));
    let mut givers = Vec::new();
    for _ in 0..2 {
        let mut idle = 0;
        while idle <= cluster.packets.len() {
            let Some(packet) = cluster.packets.pop_front() else { break };
            if let Some(envelope) = envelope(&packet).filter(|envelope| envelope.header.to == CULPRIT) {
                givers.push(envelope.header.slot.from);
            }
            let waits = matches!(cluster.deliver(packet), Reply::Rejected(reason) if reason.is_transient());
            idle = if waits { idle + 1 } else { 0 };
        }
        cluster.ids().into_iter().for_each(|id| drop(cluster.ask(id, Request::Tick)));
    }
    givers.sort_unstable();
    givers.dedup();
    assert!(!givers.contains(&MemberId(1)) && !givers.contains(&MemberId(5)), "{givers:?}");
    assert!(!givers.is_empty());
}

#[test]
fn wrong_shares_are_dropped_and_named_and_others_release() {
    // t-1 guardians give points that are none of theirs, one of them too few bytes at first.
    let culprits = [CULPRIT, MemberId(3)];
    let mut cluster = presigned(5, 3, 25);
    cluster.observe(exit_requested(POOL.number));
    let corrupt: Vec<Corrupt> = culprits.iter().map(|id| Corrupt::of(cluster.node(*id))).collect();
    for round in 0..20 {
        let mut idle = 0;
        while idle <= cluster.packets.len() {
            let Some(mut packet) = cluster.packets.pop_front() else { break };
            let liar = corrupt.iter().find(|corrupt| corrupt.keys.identity().member == packet.from);
            if let (Some(liar), Some(sealed)) = (liar, envelope(&packet)) {
                let mut given = Vec::new();
                for operator in 1..=5_u16 {
                    given.extend(operator.to_be_bytes());
                    given.extend((G2::generator() * &Scalar::from_u64(77)).encode().0);
                }
                let to = cluster.node(packet.to).keys();
                let wrong = liar.keys.seal(&liar.coins, sealed.header, to.identity(), &given).unwrap();
                packet.bytes = codec::encode(&PeerMessage::Envelope(wrong));
                let garbled = liar.keys.seal(&liar.coins, sealed.header, to.identity(), &given[1..]).unwrap();
                let garbled = codec::encode(&PeerMessage::Envelope(garbled));
                let reply = cluster.ask(packet.to, Request::Deliver(garbled));
                assert!(matches!(reply, Reply::Rejected(Rejection::Invalid) | Reply::Done), "{reply:?}");
            }
            let waits = matches!(cluster.deliver(packet), Reply::Rejected(reason) if reason.is_transient());
            idle = if waits { idle + 1 } else { 0 };
        }
        if !cluster.exits(POOL).is_empty() {
            assert!(round < 15);
            break;
        }
        cluster.ids().into_iter().for_each(|id| drop(cluster.ask(id, Request::Tick)));
    }
    assert_released(&cluster);
    for id in cluster.ids() {
        assert!(named(&cluster, id).iter().all(|name| culprits.contains(name)), "{id}");
    }
}

#[test]
fn what_one_guardian_gives_again_and_again_leaves_no_trace() {
    let mut cluster = presigned(5, 3, 26);
    cluster.observe(exit_requested(POOL.number));
    let held = shares_on_their_way(&mut cluster);
    let first = held.first().expect("shares are sent").clone();
    let (from, to) = (first.from, first.to);
    let corrupt = Corrupt::of(cluster.node(from));
    let header = envelope(&first).unwrap().header;
    let records = cluster.node(to).records.len();
    let identity = *cluster.node(to).keys().identity();
    for round in 0..20_u64 {
        for count in [1, 3, 5_u16, 2] {
            let mut given = Vec::new();
            for operator in 1..=count {
                given.extend(operator.to_be_bytes());
                given.extend((G2::generator() * &Scalar::from_u64(round * 8 + u64::from(count))).encode().0);
            }
            let wrong = corrupt.keys.seal(&corrupt.coins, header, &identity, &given).unwrap();
            cluster.ask(to, Request::Deliver(codec::encode(&PeerMessage::Envelope(wrong))));
        }
    }
    let grown = cluster.node(to).records.len() - records;
    assert!(grown <= 5, "{grown} records");
    for packet in held.into_iter().skip(1) {
        cluster.deliver(packet);
    }
    cluster.run(8);
    assert_released(&cluster);
}

#[test]
fn envelopes_open_for_nobody_else_and_in_no_other_place() {
    let mut cluster = presigned(5, 3, 27);
    cluster.observe(exit_requested(POOL.number));
    let sealed = shares_on_their_way(&mut cluster);
    let sealed: Vec<Envelope> = sealed.iter().filter_map(envelope).collect();
    let collector = collectors(&cluster)[0];
    let other = cluster.ids().into_iter().find(|id| *id != collector).unwrap();
    let envelope = sealed.iter().find(|sealed| sealed.header.slot.from != other).unwrap().clone();
    let ask = |cluster: &mut Cluster, to, envelope| {
        cluster.ask(to, Request::Deliver(codec::encode(&PeerMessage::Envelope(envelope))))
    };
    assert_eq!(ask(&mut cluster, other, envelope.clone()), Reply::Rejected(Rejection::Misdirected));
    let mut redirected = envelope.clone();
    redirected.header.to = other;
    assert_eq!(ask(&mut cluster, other, redirected), Reply::Rejected(Rejection::NotAuthentic));
    let mut another_sender = envelope.clone();
    another_sender.header.slot.from = other;
    assert_eq!(ask(&mut cluster, collector, another_sender), Reply::Rejected(Rejection::NotAuthentic));
    let mut altered = envelope.clone();
    altered.ciphertext[3] ^= 4;
    assert_eq!(ask(&mut cluster, collector, altered), Reply::Rejected(Rejection::NotAuthentic));
    for (step, item) in [(Step::Authorise, 0), (Step::Call, 0), (Step::Share, 1)] {
        let mut elsewhere = envelope.clone();
        (elsewhere.header.slot.step, elsewhere.header.slot.item) = (step, item);
        assert!(matches!(ask(&mut cluster, collector, elsewhere), Reply::Rejected(_)));
    }
    for envelope in sealed {
        assert_eq!(ask(&mut cluster, collector, envelope), Reply::Done);
    }
    cluster.remember();
    assert_released(&cluster);
}

#[test]
fn wrong_words_are_refused_and_name_their_speaker() {
    let mut cluster = presigned(5, 3, 28);
    cluster.observe(exit_requested(POOL.number));
    cluster.remember();
    let authorised = cluster.said.iter().find(|said| said.slot.step == Step::Authorise).cloned();
    let slot = authorised.expect("guardians authorise").slot;
    let corrupt = Corrupt::of(cluster.node(CULPRIT));
    let to = MemberId(4);
    let records = cluster.node(to).records.len();
    let nobody =
        Released { signature: (G2::generator() * &Scalar::from_u64(5)).encode(), authorised: Vec::new() };
    let wrong = [
        (Step::Authorise, 0, vec![0]),
        (Step::Authorise, 1, vec![]),
        (Step::Call, 0, vec![7]),
        (Step::Call, 1, codec::encode(&Call)),
        (Step::Released, 0, codec::encode(&nobody)),
        (Step::Released, 0, vec![]),
        (Step::Share, 0, vec![]),
        (Step::Split, 0, vec![]),
    ];
    for (step, item, body) in wrong {
        let said = corrupt.keys.sign(Slot { from: CULPRIT, step, item, ..slot }, body);
        let reply = cluster.ask(to, Request::Deliver(message(said)));
        assert_eq!(reply, Reply::Rejected(Rejection::Invalid), "{step:?} {item}");
    }
    assert_eq!(named(&cluster, to), [CULPRIT]);
    assert_eq!(cluster.node(to).records.len(), records, "nothing is kept");
    assert!(cluster.exits(POOL).is_empty());
    cluster.run(2);
    assert_released(&cluster);
}

#[test]
fn words_of_an_enclave_that_the_dao_has_given_up_do_not_count() {
    let mut cluster = presigned(5, 3, 29);
    let lost = MemberId(5);
    // The lost machine's enclave authorises, and another hears it; then its member gets another machine.
    for id in [lost, MemberId(1), MemberId(3)] {
        cluster.ask(id, Request::Observe(exit_requested(POOL.number)));
    }
    cluster.remember();
    let is_held = |packet: &Packet| packet.from == MemberId(1) && is_of(packet, Step::Authorise);
    let (held, others): (Vec<Packet>, Vec<Packet>) = cluster.packets.drain(..).partition(is_held);
    assert!(!held.is_empty());
    cluster.packets.extend(others);
    cluster.deliver_only(|packet| packet.to == MemberId(3));
    cluster.replace(lost, 40);
    cluster.run(3);
    // Now a third guardian's word comes, beside that of the enclave that is nobody's.
    cluster.packets.extend(held);
    cluster.run(30);
    assert!(cluster.exits(POOL).is_empty(), "two of three, and one that is nobody's any more");
    assert!(gave_nothing(&cluster));
    cluster.ask(MemberId(4), Request::Observe(exit_requested(POOL.number)));
    cluster.run(20);
    assert_released(&cluster);
    for claim in cluster.claims() {
        if let Claim::Released { guardians, .. } = claim {
            assert!(guardians.len() >= 3);
        }
    }
}

/// Runs a release from which `lost` members are cut off for good: who collects first after `steps` packets of it were
/// delivered, and the next collectors as soon as they call, as long as a threshold is left.
fn release_with_losses(members: u16, threshold: u16, seed: u64, steps: usize) -> (Cluster, Vec<MemberId>) {
    let mut cluster = presigned(members, threshold, seed);
    let first = {
        let mut trial = presigned(members, threshold, seed);
        trial.observe(exit_requested(POOL.number));
        trial.run(0);
        collectors(&trial)[0]
    };
    let mut lost: Vec<MemberId> = Vec::new();
    cluster.observe(exit_requested(POOL.number));
    for _ in 0..steps {
        let Some(packet) = cluster.packets.pop_front() else { break };
        cluster.deliver(packet);
    }
    lost.push(first);
    for _ in 0..80 {
        let mut idle = 0;
        while idle <= cluster.packets.len() {
            let Some(packet) = cluster.packets.pop_front() else { break };
            let most = usize::from(members - threshold);
            if is_of(&packet, Step::Call) && lost.len() < most && !lost.contains(&packet.from) {
                lost.push(packet.from);
            }
            if lost.contains(&packet.from) || lost.contains(&packet.to) {
                continue;
            }
            let waits = matches!(cluster.deliver(packet), Reply::Rejected(reason) if reason.is_transient());
            idle = if waits { idle + 1 } else { 0 };
        }
        for id in cluster.ids().into_iter().filter(|id| !lost.contains(id)) {
            cluster.ask(id, Request::Tick);
        }
    }
    (cluster, lost)
}

#[track_caller]
fn assert_out_at_all_others(cluster: &Cluster, lost: &[MemberId], steps: usize) {
    for id in cluster.ids().into_iter().filter(|id| !lost.contains(id)) {
        let released = cluster.node(id).transcripts().any(|transcript| {
            matches!(transcript.record, Proceedings::Release(_)) && transcript.verify().is_ok()
        });
        assert!(released, "{id} has no exit, with {lost:?} lost after {steps} packets");
    }
    assert_released(cluster);
}

#[test]
fn whoever_collects_is_lost_at_any_step_and_the_exit_comes_out_all_the_same() {
    let mut ends = false;
    for steps in (0..400).step_by(5) {
        let (cluster, lost) = release_with_losses(3, 2, 30, steps);
        assert_out_at_all_others(&cluster, &lost, steps);
        // All of the release was delivered before the loss: what follows would be the same.
        if ends {
            return;
        }
        ends = collectors(&cluster).len() == 1;
    }
    panic!("a release of more packets than that");
}

#[test]
fn with_a_threshold_of_guardians_left_the_exit_comes_out() {
    for (members, threshold, steps) in [(5, 3, 0), (5, 3, 25), (7, 4, 10)] {
        let (cluster, lost) = release_with_losses(members, threshold, 31, steps);
        assert_eq!(lost.len(), usize::from(members - threshold));
        assert_out_at_all_others(&cluster, &lost, steps);
    }
}

#[test]
fn a_turn_that_has_come_is_remembered_through_a_restart() {
    let mut cluster = presigned(5, 3, 32);
    cluster.observe(exit_requested(POOL.number));
    let mut lost = None;
    let mut second = None;
    for round in 0..60 {
        let mut idle = 0;
        while idle <= cluster.packets.len() {
            let Some(packet) = cluster.packets.pop_front() else { break };
            if is_of(&packet, Step::Call) {
                match lost {
                    None => lost = Some(packet.from),
                    Some(lost) if lost != packet.from && second.is_none() => second = Some(packet.from),
                    _ => {}
                }
            }
            // The second's call waits until it has been restarted.
            let held = second == Some(packet.from) && is_of(&packet, Step::Call);
            if held || [Some(packet.from), Some(packet.to)].contains(&lost) {
                continue;
            }
            let waits = matches!(cluster.deliver(packet), Reply::Rejected(reason) if reason.is_transient());
            idle = if waits { idle + 1 } else { 0 };
        }
        if let Some(second) = second {
            cluster.crash(second, 50 + round);
            break;
        }
        cluster.ids().into_iter().filter(|id| Some(*id) != lost).for_each(|id| {
            cluster.ask(id, Request::Tick);
        });
    }
    let (lost, second) = (lost.expect("somebody collects"), second.expect("then another"));
    let passes = |packet: &Packet| packet.from != lost && packet.to != lost;
    cluster.carry(60, passes);
    let out = |id: MemberId| {
        cluster.node(id).transcripts().any(|transcript| matches!(transcript.record, Proceedings::Release(_)))
    };
    assert!(out(second));
}

/// Two operators, who are guardians too, give each honest guardian a split that no other has, each good by itself, and say
/// to each that they hold it; in a release they authorise, give nothing and collect nothing.
#[test]
fn operators_that_give_every_guardian_another_split_hold_up_no_exit() {
    let culprits = [MemberId(1), CULPRIT];
    let mut cluster = made(5, 3, 33);
    let (terms, roster) = (keygen_terms(&cluster, POOL), roster(&cluster));
    let network = cluster.manifest.network;
    let exit = VoluntaryExit { epoch: 0, validator_index: INDEX };
    let root = exit.signing_root(network.capella_fork_version, network.genesis_validators_root);
    let hashed = G2::hash(&root.0, postern_shared::bls::ETHEREUM_DST);
    let keys: BTreeMap<MemberId, Scalar> =
        culprits.iter().map(|id| (*id, key_share(&cluster, &terms, *id))).collect();
    let corrupt: BTreeMap<MemberId, Corrupt> =
        culprits.iter().map(|id| (*id, Corrupt::of(cluster.node(*id)))).collect();
    let other_split = |slot: Slot, to: MemberId| -> Broadcast {
        let corrupt = &corrupt[&slot.from];
        // No polynomial of their degree has all these shares.
        let other = u64::from(slot.from.0) * u64::from(to.0).pow(3);
        let blinding = [Scalar::from_u64(other), Scalar::from_u64(12)];
        let split = split(corrupt, slot, &roster, (&keys[&slot.from], &hashed), &blinding);
        corrupt.keys.sign(slot, codec::encode(&split))
    };
    let mut ask_for_exit = true;
    for _ in 0..40 {
        let mut idle = 0;
        while idle <= cluster.packets.len() {
            let Some(mut packet) = cluster.packets.pop_front() else { break };
            if culprits.contains(&packet.from) {
                let collects = is_of(&packet, Step::Call) || is_of(&packet, Step::Released);
                if envelope(&packet).is_some() || collects {
                    continue;
                }
                let to = packet.to;
                match statement(&packet) {
                    Some(said) if said.slot.step == Step::Split && !culprits.contains(&to) => {
                        packet.bytes = message(other_split(said.slot, to));
                    }
                    Some(said) if said.slot.step == Step::Acknowledge && !culprits.contains(&to) => {
                        let operator = MemberId(said.slot.item);
                        // So that honest splits are not all acknowledged before those of the culprits are counted.
                        if operator.0 > 3 {
                            continue;
                        }
                        if culprits.contains(&operator) {
                            let slot = Slot { from: operator, step: Step::Split, item: 0, ..said.slot };
                            let digest = other_split(slot, to).signed_digest().digest;
                            let lie = corrupt[&packet.from].restate(&said, &Acknowledge::Good(digest));
                            packet.bytes = message(lie);
                        }
                    }
                    _ => {}
                }
            }
            let waits = matches!(cluster.deliver(packet), Reply::Rejected(reason) if reason.is_transient());
            idle = if waits { idle + 1 } else { 0 };
        }
        cluster.ids().into_iter().for_each(|id| drop(cluster.ask(id, Request::Tick)));
        if std::mem::take(&mut ask_for_exit) {
            cluster.observe(exit_requested(POOL.number));
        }
    }
    assert_released(&cluster);
    // The attack was one: all honest enclaves have counted the culprits' splits.
    for node in cluster.nodes.iter().filter(|node| !culprits.contains(&node.id)) {
        let counted = node.transcripts().any(|transcript| match &transcript.record {
            Proceedings::Presign(record) => culprits.iter().all(|id| record.operators.contains(id)),
            _ => false,
        });
        assert!(counted, "{}", node.id);
    }
    for id in cluster.ids().into_iter().filter(|id| !culprits.contains(id)) {
        assert!(named(&cluster, id).iter().all(|name| culprits.contains(name)), "{id}");
        let faults = cluster.node(id).notices.iter().filter(|notice| matches!(notice, Notice::Fault { .. }));
        assert!(faults.count() <= 4);
    }
}
