//! The known attacks on keygen, each by a corrupted enclave inside an otherwise honest DAO, or by hosts.
//!
//! A corrupted enclave's attack must convict it by name, with a proof that verifies offline, and no key may count. A
//! host's forgery must be refused, convict nobody, and leave everything as it was.

use postern_enclave::coins::Coins;
use postern_enclave::keys::IdentityKeys;
use postern_shared::agreement::{Said, Subject};
use postern_shared::bls::{G1, G2, PublicKey, Scalar, Signature, verify_point};
use postern_shared::codec;
use postern_shared::dealing::{
    Certificate as _, Commit, Confirm, Deal, DealingTerms as _, OpenDeal, Verdict, possession_message,
};
use postern_shared::fault::{Fault, Proof};
use postern_shared::identity::Roster;
use postern_shared::ids::{CeremonyId, Digest, MemberId, PoolId};
use postern_shared::keygen::{KeygenTerms, PartialDeposit};
use postern_shared::message::{Broadcast, PeerMessage, Slot, Step};
use postern_shared::sealed_shares::{EncryptedShare, Pair, SealedShares};
use postern_shared::transcript::{Claim, Proceedings};
use postern_shared::wire::{Artifact, Notice, Rejection, Reply, Request};
use postern_tests::attack::{encrypt, ephemeral, proved, roster};
use postern_tests::cluster::{Cluster, Packet, deposit_requested, manifest, pool};
use postern_tests::corruption::Corrupt;
use zeroize::Zeroizing;

const CULPRIT: MemberId = MemberId(2);
const VICTIM: MemberId = MemberId(4);
const POOL: PoolId = pool(1);

fn cluster() -> Cluster {
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 7);
    cluster.run(0);
    cluster
}

/// Runs a keygen in which every broadcast of the culprit passes through `attack`, once for each recipient. The culprit's
/// own enclave stays honest; what it says is not what the others hear.
fn attacked(mut attack: impl FnMut(&Corrupt, &Broadcast, MemberId) -> Option<Broadcast>) -> Cluster {
    let mut cluster = cluster();
    let corrupt = Corrupt::of(cluster.node(CULPRIT));
    cluster.observe(deposit_requested(POOL.number));
    deliver_through(&mut cluster, &corrupt, &mut attack);
    cluster
}

/// A deal is bound by its commitment: to open another one undetected, the commitment must be changed with it.
fn dealt(change: impl Fn(&Corrupt, &Broadcast, Deal) -> Deal) -> Cluster {
    let mut cluster = cluster();
    let corrupt = Corrupt::of(cluster.node(CULPRIT));
    cluster.observe(deposit_requested(POOL.number));
    let terms = terms(&cluster);
    let honest = honest_deal(&corrupt, &terms, &cluster);
    let deal = change(&corrupt, &honest, codec::decode(&honest.body).unwrap());
    // What is wrong is what was changed, not the proof of knowledge over it.
    let deal = corrupt.restate(&honest, &reproved(&corrupt, honest.slot, deal));
    let commit = Commit { deal: Broadcast::digest_of(&deal.body) };
    deliver_through(&mut cluster, &corrupt, &mut |corrupt, said, _| match said.slot.step {
        Step::Commit => Some(corrupt.restate(said, &commit)),
        Step::Deal => Some(deal.clone()),
        _ => None,
    });
    cluster
}

fn deliver_through(
    cluster: &mut Cluster,
    corrupt: &Corrupt,
    attack: &mut dyn FnMut(&Corrupt, &Broadcast, MemberId) -> Option<Broadcast>,
) {
    for _ in 0..10_000 {
        let Some(mut packet) = cluster.packets.pop_front() else { return };
        if packet.from == CULPRIT
            && let Ok(PeerMessage::Broadcast(said)) = codec::decode(&packet.bytes)
            && let Some(other) = attack(corrupt, &said, packet.to)
        {
            packet.bytes = codec::encode(&PeerMessage::Broadcast(other));
        }
        cluster.deliver(packet);
    }
}

fn terms(cluster: &Cluster) -> KeygenTerms {
    cluster.node(MemberId(1)).core.keygen(POOL).expect("a keygen has started").terms().clone()
}

/// The deal that the culprit's enclave is going to make, computed from its coins as it would.
fn honest_deal(corrupt: &Corrupt, terms: &KeygenTerms, cluster: &Cluster) -> Broadcast {
    let ceremony = terms.ceremony();
    let polynomial = polynomial(corrupt, terms);
    let secret = polynomial.constant();
    let possession = possession_message(ceremony, CULPRIT, &(G1::generator() * &secret)) * &secret;
    let rest = (polynomial.commitments(), possession.encode());
    let roster = roster(cluster);
    let share = |id: &MemberId| {
        let share = polynomial.evaluate(*id).unwrap().to_secret_bytes();
        (roster.get(*id).unwrap(), share)
    };
    let slot = slot(ceremony, CULPRIT, Step::Deal);
    let blinding = |context: &[u8]| corrupt.coins.scalar("postern-ephemeral-knowledge-v1", context);
    let (dealer, ephemeral) = (corrupt.keys.identity(), ephemeral(corrupt, slot));
    let shares = terms.operators.iter().map(share);
    let sealed = SealedShares::seal(slot, dealer, &rest, &ephemeral, blinding, shares).unwrap();
    let (commitments, possession) = rest;
    corrupt.keys.sign(slot, codec::encode(&Deal { commitments, possession, sealed }))
}

/// A deal whose ciphertexts, or all else, were changed, with a proof of knowledge that holds for what it is now.
fn reproved(corrupt: &Corrupt, slot: Slot, deal: Deal) -> Deal {
    let shares = deal.sealed.shares.clone();
    let sealed = proved(corrupt, slot, &deal.rest(), &ephemeral(corrupt, slot), shares);
    Deal { sealed, ..deal }
}

fn polynomial(corrupt: &Corrupt, terms: &KeygenTerms) -> postern_enclave::sharing::Polynomial {
    let ceremony = terms.ceremony();
    postern_enclave::sharing::Polynomial::sample(
        corrupt.coins.scalar("postern-keygen-secret-v1", &ceremony.0),
        terms.threshold.into(),
        corrupt.coins.stream("postern-keygen-polynomial-v1", &ceremony.0),
    )
    .unwrap()
}

fn slot(ceremony: CeremonyId, from: MemberId, step: Step) -> Slot {
    Slot { ceremony, from, step, item: 0 }
}

fn broadcast(statement: Broadcast) -> Vec<u8> {
    codec::encode(&PeerMessage::Broadcast(statement))
}

fn deposits(cluster: &Cluster) -> usize {
    let artifacts = cluster.nodes.iter().flat_map(|node| &node.artifacts);
    artifacts.filter(|artifact| matches!(artifact, Artifact::Deposit { .. })).count()
}

fn culprits(cluster: &Cluster) -> Vec<MemberId> {
    let named = cluster.claims().into_iter().filter_map(|claim| match claim {
        Claim::Cheated { culprit, .. } => Some(culprit),
        _ => None,
    });
    named.collect()
}

/// Every honest enclave has a proof against the culprit, nobody against anybody else, and no key counts that the culprit has a
/// part in: the others make one without it.
#[track_caller]
fn assert_convicted_by_all(cluster: &Cluster, culprit: MemberId) {
    let named = culprits(cluster);
    assert!(named.iter().all(|name| *name == culprit), "{named:?}");
    for node in cluster.nodes.iter().filter(|node| node.id != CULPRIT) {
        let knows = node.notices.iter().any(
            |notice| matches!(notice, Notice::Fault { culprit: name, aborted: true, .. } if *name == culprit),
        );
        assert!(knows, "{} does not know", node.id);
        assert!(
            node.transcripts().any(|transcript| matches!(transcript.record, Proceedings::KeygenFault(_)))
        );
    }
    let made = cluster.nodes.iter().flat_map(|node| &node.artifacts).filter_map(|artifact| match artifact {
        Artifact::Deposit { operators, .. } => Some(operators),
        _ => None,
    });
    made.for_each(|operators| assert!(!operators.contains(&culprit), "{operators:?}"));
}

/// A convicted cheat does not spoil the next attempt.
#[track_caller]
fn assert_retry_works(cluster: &mut Cluster) {
    cluster.packets.clear();
    for id in cluster.ids() {
        // The culprit's own enclave may have seen nothing wrong.
        cluster.ask(id, Request::GiveUp(Subject::Key(POOL)));
    }
    cluster.run(1);
    assert!(terms(cluster).attempt.number > 0);
    assert_eq!(deposits(cluster), 5);
}

#[test]
fn without_an_attack_the_recomputed_deal_is_the_enclaves_own() {
    let mut cluster = cluster();
    let corrupt = Corrupt::of(cluster.node(CULPRIT));
    cluster.observe(deposit_requested(POOL.number));
    let mine = honest_deal(&corrupt, &terms(&cluster), &cluster);
    let mut seen = None;
    deliver_through(&mut cluster, &corrupt, &mut |_, said, _| {
        if said.slot.step == Step::Deal {
            seen = Some(said.clone());
        }
        None
    });
    assert_eq!(seen.as_ref(), Some(&mine), "what follows attacks the real protocol");
    assert_eq!(deposits(&cluster), 5);
}

#[test]
fn a_rogue_key_without_possession_is_convicted() {
    // C_0 = X - (sum of the others): the attacker knows no discrete logarithm of it.
    let cluster = dealt(|_, _, mut deal| {
        let others = deal.commitments[0].decode().unwrap();
        deal.commitments[0] = (G1::generator() * &Scalar::from_u64(5) - others).encode();
        deal
    });
    assert_convicted_by_all(&cluster, CULPRIT);
}

#[test]
fn a_proof_of_possession_of_another_dealer_or_ceremony_is_convicted() {
    for other in [0, 1] {
        let cluster = dealt(|corrupt, said, mut deal| {
            let (ceremony, dealer) = match other {
                0 => (said.slot.ceremony, MemberId(3)),
                _ => (CeremonyId([9; 32]), CULPRIT),
            };
            let secret = corrupt.coins.scalar("postern-keygen-secret-v1", &said.slot.ceremony.0);
            let constant = G1::generator() * &secret;
            deal.possession = (possession_message(ceremony, dealer, &constant) * &secret).encode();
            deal
        });
        assert_convicted_by_all(&cluster, CULPRIT);
    }
}

#[test]
fn a_deal_other_than_the_committed_one_is_convicted() {
    let mut cluster = attacked(|corrupt, said, _| {
        (said.slot.step == Step::Commit).then(|| corrupt.restate(said, &Commit { deal: Digest([1; 32]) }))
    });
    assert_convicted_by_all(&cluster, CULPRIT);
    // The culprit's own enclave, honest itself, has heard the others' verdicts.
    assert_retry_works(&mut cluster);
}

#[test]
fn no_deal_is_shown_before_all_commitments_are_in() {
    let mut cluster = cluster();
    cluster.observe(deposit_requested(POOL.number));
    let last = cluster.ids().len() as u16;
    // Everything is delivered but the last member's commitment to the victim.
    let mut withheld = Vec::new();
    while let Some(packet) = cluster.packets.pop_front() {
        if packet.from == MemberId(last) && packet.to == MemberId(1) {
            withheld.push(packet);
        } else {
            cluster.deliver(packet);
        }
        let shown = cluster.packets.iter().any(|packet| {
            packet.from == MemberId(1)
                && matches!(codec::decode(&packet.bytes),
                    Ok(PeerMessage::Broadcast(Broadcast { slot, .. })) if slot.step == Step::Deal)
        });
        assert!(!shown, "member 1 shows its polynomial while another may still choose");
    }
    withheld.into_iter().for_each(|packet| drop(cluster.deliver(packet)));
    cluster.run(0);
    assert_eq!(deposits(&cluster), 5);
}

#[test]
fn a_zero_secret_or_polynomial_is_convicted() {
    let infinity = G1::identity().encode();
    for all in [false, true] {
        let cluster = dealt(|_, _, mut deal| {
            let count = if all { deal.commitments.len() } else { 1 };
            deal.commitments[..count].fill(infinity);
            deal
        });
        assert_convicted_by_all(&cluster, CULPRIT);
    }
}

#[test]
fn a_polynomial_of_another_degree_is_convicted() {
    for count in [0, 2, 4, 103] {
        let cluster = dealt(|_, _, mut deal| {
            deal.commitments.resize(count, G1::generator().encode());
            deal
        });
        assert_convicted_by_all(&cluster, CULPRIT);
    }
    let cluster = dealt(|_, _, mut deal| {
        *deal.commitments.last_mut().unwrap() = G1::identity().encode();
        deal
    });
    assert_convicted_by_all(&cluster, CULPRIT);
}

#[test]
fn points_off_the_curve_outside_the_subgroup_or_not_canonical_are_convicted() {
    let good = G1::generator().encode().0;
    let mut uncompressed = good;
    uncompressed[0] &= 0x7f;
    let mut stray = G1::identity().encode().0;
    stray[47] = 1;
    let mut modulus = [0xff; 48];
    modulus[0] = 0x9a | 0x80;
    // x = 4 is on the curve, but of composite order; x = 1 is not on the curve.
    let (mut composite, mut off) = ([0; 48], [0; 48]);
    (composite[0], composite[47], off[0], off[47]) = (0x80, 4, 0x80, 1);
    for point in [uncompressed, stray, modulus, composite, off] {
        assert!(PublicKey(point).decode().is_err());
        let cluster = dealt(|_, _, mut deal| {
            deal.commitments[1] = PublicKey(point);
            deal
        });
        assert_convicted_by_all(&cluster, CULPRIT);
    }
}

/// Changes the victim's encrypted share.
fn with_bad_share(change: impl Fn(&Corrupt, &Broadcast, &mut Vec<EncryptedShare>, usize)) -> Cluster {
    let at = usize::from(VICTIM.0) - 1;
    dealt(|corrupt, said, mut deal| {
        change(corrupt, said, &mut deal.sealed.shares, at);
        deal
    })
}

#[test]
fn a_share_that_does_not_decrypt_convicts_the_dealer() {
    let cluster = with_bad_share(|_, _, shares, at| shares[at].0[0] ^= 1);
    assert_convicted_by_all(&cluster, CULPRIT);
    let cluster = with_bad_share(|_, _, shares, at| shares.swap(at, 0));
    assert_convicted_by_all(&cluster, CULPRIT);
}

#[test]
fn a_share_on_another_polynomial_convicts_the_dealer() {
    let scene = cluster();
    let cluster = with_bad_share(|corrupt, said, shares, at| {
        let (ephemeral, wrong) = (ephemeral(corrupt, said.slot), Scalar::from_u64(77).to_bytes());
        let victim = *scene.node(VICTIM).keys().identity();
        shares[at] = encrypt(corrupt, said.slot, &victim, &ephemeral, &wrong);
    });
    assert_convicted_by_all(&cluster, CULPRIT);
    let opened = cluster.node(VICTIM).transcripts().find_map(|transcript| match &transcript.record {
        Proceedings::KeygenFault(record) => {
            Some(matches!(record.fault.proof, Proof::BadShare { recipient, .. } if recipient == VICTIM))
        }
        _ => None,
    });
    assert_eq!(opened, Some(true), "the victim opens its one ciphertext to everybody");
}

#[test]
fn a_missing_or_cut_ciphertext_convicts_the_dealer() {
    let cluster = with_bad_share(|_, _, shares, at| drop(shares.remove(at)));
    assert_convicted_by_all(&cluster, CULPRIT);
    let cluster = with_bad_share(|_, _, shares, at| shares[at].0.truncate(20));
    assert_convicted_by_all(&cluster, CULPRIT);
}

/// The culprit complains of the victim's share: of its own deal, or of nothing that the victim said; with the right key, or
/// a wrong one.
fn falsely_accusing(complaint: impl Fn(&Corrupt, &OpenDeal, &Broadcast, &Roster) -> Fault) -> Cluster {
    let mut cluster = cluster();
    let corrupt = Corrupt::of(cluster.node(CULPRIT));
    cluster.observe(deposit_requested(POOL.number));
    let (terms, roster) = (terms(&cluster), roster(&cluster));
    let mut victims_deal = None;
    for _ in 0..10_000 {
        let Some(mut packet) = cluster.packets.pop_front() else { break };
        if let Ok(PeerMessage::Broadcast(said)) = codec::decode(&packet.bytes)
            && said.slot.ceremony == terms.ceremony()
        {
            if said.slot.from == VICTIM && said.slot.step == Step::Deal {
                victims_deal = Some(said.clone());
            }
            if said.slot.from == CULPRIT && said.slot.step == Step::Verdict {
                let statement = victims_deal.clone().expect("deals come before verdicts");
                let open = terms.check_deal(VICTIM, &statement.body).unwrap();
                let fault = complaint(&corrupt, &open, &statement, &roster);
                packet.bytes = broadcast(corrupt.restate(&said, &Verdict::Reject(fault)));
            }
        }
        cluster.deliver(packet);
    }
    cluster
}

#[test]
fn a_complaint_about_a_good_share_convicts_the_complainer_with_the_right_key_or_a_wrong_one() {
    for right in [true, false] {
        let cluster = falsely_accusing(|corrupt, open, statement, roster| {
            let pair = Pair {
                slot: statement.slot,
                dealer: roster.get(VICTIM).unwrap(),
                recipient: corrupt.keys.identity(),
            };
            let mut opening = corrupt.keys.disclose(&corrupt.coins, &pair, &open.shares);
            if !right {
                opening.shared = (G1::generator() * &Scalar::from_u64(3)).encode();
            }
            let statement = statement.signed_digest();
            let proof = Proof::BadShare { statement, recipient: CULPRIT, opening };
            Fault { culprit: VICTIM, proof }
        });
        assert_convicted_by_all(&cluster, CULPRIT);
    }
}

#[test]
fn a_complaint_about_what_nobody_said_convicts_the_complainer() {
    let cluster = falsely_accusing(|_, _, statement, _| {
        let made_up = Broadcast { body: vec![1], ..statement.clone() }.signed_digest();
        Fault { culprit: VICTIM, proof: Proof::InvalidStatement(made_up) }
    });
    // Not even well-formed: named without ending the run, to which a good verdict may still come.
    for id in cluster.ids().into_iter().filter(|id| *id != CULPRIT) {
        assert_eq!(postern_tests::attack::named(&cluster, id), [CULPRIT], "{id}");
    }
    assert!(culprits(&cluster).iter().all(|culprit| *culprit == CULPRIT));
    assert_eq!(deposits(&cluster), 0);
}

#[test]
fn a_statement_that_a_relay_lost_is_taken_from_any_peer() {
    let mut cluster = cluster();
    cluster.observe(deposit_requested(POOL.number));
    let mut lost = None;
    while let Some(packet) = cluster.packets.pop_front() {
        if let Ok(PeerMessage::Broadcast(said)) = codec::decode(&packet.bytes)
            && (said.slot.from, said.slot.step) == (CULPRIT, Step::Deal)
            && packet.to == VICTIM
        {
            lost = Some(packet.bytes);
            continue;
        }
        cluster.deliver(packet);
    }
    assert_eq!(deposits(&cluster), 0);
    cluster.ask(VICTIM, Request::Tick);
    let missing = cluster.node(VICTIM).notices.iter().any(
        |notice| matches!(notice, Notice::Missing { step: Step::Deal, member, .. } if *member == CULPRIT),
    );
    assert!(missing, "the victim says whose statement it lacks");
    // Any host's copy will do: the speaker's signature is what counts.
    cluster.deliver(Packet { from: MemberId(5), to: VICTIM, bytes: lost.expect("one deal was lost") });
    cluster.run(0);
    assert_eq!(deposits(&cluster), 5);
    assert!(culprits(&cluster).is_empty());
}

/// The culprit says one thing to the victim and another to the rest.
fn equivocating(step: Step, other: impl Fn(&Corrupt, &Broadcast) -> Broadcast) -> Cluster {
    attacked(move |corrupt, said, to| (said.slot.step == step && to == VICTIM).then(|| other(corrupt, said)))
}

#[test]
fn two_commitments_or_deals_convict_their_speaker() {
    let cluster =
        equivocating(Step::Commit, |corrupt, said| corrupt.restate(said, &Commit { deal: Digest([3; 32]) }));
    assert_convicted_by_all(&cluster, CULPRIT);
    let cluster = equivocating(Step::Deal, |corrupt, said| {
        let mut deal: Deal = codec::decode(&said.body).unwrap();
        deal.sealed.shares.rotate_left(1);
        corrupt.restate(said, &deal)
    });
    assert_convicted_by_all(&cluster, CULPRIT);
}

#[test]
fn equivocation_that_nobody_sees_alone_is_found_by_comparing_verdicts() {
    // Two complete, well-formed deals, each with its own commitment: only the victim gets the second pair.
    let mut cluster = cluster();
    let corrupt = Corrupt::of(cluster.node(CULPRIT));
    cluster.observe(deposit_requested(POOL.number));
    let first = honest_deal(&corrupt, &terms(&cluster), &cluster);
    let mut deal: Deal = codec::decode(&first.body).unwrap();
    // Another ephemeral key and ciphertexts: the same polynomial, and still another deal.
    let (ephemeral, roster) = (Scalar::from_u64(99), roster(&cluster));
    let polynomial = polynomial(&corrupt, &terms(&cluster));
    let share = |to: &MemberId| {
        let share = polynomial.evaluate(*to).unwrap().to_bytes();
        encrypt(&corrupt, first.slot, roster.get(*to).unwrap(), &ephemeral, &share)
    };
    let shares = terms(&cluster).operators.iter().map(share).collect();
    deal.sealed = proved(&corrupt, first.slot, &deal.rest(), &ephemeral, shares);
    let second = corrupt.restate(&first, &deal);
    let commit = Commit { deal: Broadcast::digest_of(&second.body) };
    deliver_through(&mut cluster, &corrupt, &mut |corrupt, said, to| match said.slot.step {
        Step::Commit if to == VICTIM => Some(corrupt.restate(said, &commit)),
        Step::Deal if to == VICTIM => Some(second.clone()),
        _ => None,
    });
    assert_convicted_by_all(&cluster, CULPRIT);
}

#[test]
fn two_verdicts_or_confirmations_convict_their_speaker_and_split_nobody() {
    let cluster = equivocating(Step::Verdict, |corrupt, said| {
        let proof = Proof::InvalidStatement(said.signed_digest());
        corrupt.restate(said, &Verdict::Reject(Fault { culprit: MemberId(1), proof }))
    });
    assert!(culprits(&cluster).contains(&CULPRIT));
    assert!(culprits(&cluster).iter().all(|culprit| *culprit == CULPRIT));
    assert_eq!(deposits(&cluster), 0);

    // A bad confirmation is named, and a good one from elsewhere still completes the key for everybody.
    let mut good = None;
    let mut cluster = attacked(|corrupt, said, to| {
        if said.slot.step != Step::Confirm || to != VICTIM {
            return None;
        }
        good = Some(said.clone());
        let confirm: Confirm = codec::decode(&said.body).unwrap();
        let partial = (G2::generator() * &Scalar::from_u64(6)).encode();
        Some(corrupt.restate(said, &Confirm { partial, ..confirm }))
    });
    assert_eq!(culprits(&cluster), [CULPRIT]);
    assert!(cluster.node(VICTIM).core.keygen(POOL).unwrap().key().is_none());
    let bytes = broadcast(good.expect("the culprit confirmed"));
    cluster.deliver(Packet { from: MemberId(3), to: VICTIM, bytes });
    cluster.run(0);
    assert_eq!(deposits(&cluster), 5);
    assert!(cluster.claims().iter().any(|claim| matches!(claim, Claim::Key { .. })));
}

#[test]
fn a_bad_partial_deposit_is_named_and_the_deposit_is_signed_without_it() {
    let cluster = attacked(|corrupt, said, _| {
        let partial = (G2::generator() * &Scalar::from_u64(6)).encode();
        (said.slot.step == Step::Deposit).then(|| corrupt.restate(said, &PartialDeposit { partial }))
    });
    assert_eq!(deposits(&cluster), 5);
    assert!(culprits(&cluster).iter().all(|culprit| *culprit == CULPRIT));
}

#[test]
fn forgeries_by_hosts_are_refused_and_convict_nobody() {
    let mut cluster = cluster();
    cluster.observe(deposit_requested(POOL.number));
    cluster.remember();
    let ceremony = terms(&cluster).ceremony();
    let packet = cluster
        .packets
        .iter()
        .find(|packet| packet.from == CULPRIT && packet.to == VICTIM)
        .expect("a commitment is on its way")
        .clone();
    let Ok(PeerMessage::Broadcast(commit)) = codec::decode(&packet.bytes) else { panic!("not a broadcast") };
    let refused = |cluster: &mut Cluster, statement: Broadcast, expected: Rejection| {
        let reply = cluster.ask(VICTIM, Request::Deliver(broadcast(statement)));
        assert_eq!(reply, Reply::Rejected(expected));
    };
    let with_slot = |slot: Slot| Broadcast { slot, ..commit.clone() };
    // Another speaker, another step, another ceremony, another item, another body.
    refused(&mut cluster, with_slot(slot(ceremony, MemberId(3), Step::Commit)), Rejection::NotAuthentic);
    refused(&mut cluster, with_slot(slot(ceremony, CULPRIT, Step::Deal)), Rejection::NotAuthentic);
    let elsewhere = slot(CeremonyId([5; 32]), CULPRIT, Step::Commit);
    refused(&mut cluster, with_slot(elsewhere), Rejection::UnknownCeremony);
    refused(&mut cluster, with_slot(Slot { item: 1, ..commit.slot }), Rejection::NotAuthentic);
    refused(&mut cluster, Broadcast { body: vec![1], ..commit.clone() }, Rejection::NotAuthentic);
    // Indices that nobody has.
    for stranger in [0, 6, u16::MAX] {
        let stranger = MemberId(stranger);
        refused(
            &mut cluster,
            with_slot(slot(ceremony, stranger, Step::Commit)),
            Rejection::NotAMember(stranger),
        );
    }
    // Signed, but by a key that no roster names.
    let coins = Coins::new(Zeroizing::new([0xee; 32]));
    let outsider = IdentityKeys::derive(&coins, CULPRIT, 0);
    refused(&mut cluster, outsider.sign(commit.slot, commit.body.clone()), Rejection::NotAuthentic);

    cluster.run(0);
    assert_eq!(deposits(&cluster), 5);
    assert!(culprits(&cluster).is_empty());
}

#[test]
fn a_deal_of_an_earlier_ceremony_says_nothing_in_a_later_one() {
    let mut cluster = cluster();
    cluster.observe(deposit_requested(POOL.number));
    let mut old = Vec::new();
    while let Some(packet) = cluster.packets.pop_front() {
        old.push(packet.clone());
        cluster.deliver(packet);
    }
    cluster.observe(deposit_requested(2));
    let other = cluster.node(VICTIM).core.keygen(pool(2)).unwrap().terms().ceremony();
    for packet in old {
        let Ok(PeerMessage::Broadcast(mut said)) = codec::decode(&packet.bytes) else { continue };
        if Said::of(&said).is_some() {
            continue;
        }
        said.slot.ceremony = other;
        let reply = cluster.ask(packet.to, Request::Deliver(broadcast(said)));
        assert_eq!(reply, Reply::Rejected(Rejection::NotAuthentic));
    }
    cluster.run(0);
    assert_eq!(deposits(&cluster), 10);
}

#[test]
fn duplicates_in_any_order_change_nothing_and_convict_nobody() {
    let mut cluster = cluster();
    cluster.observe(deposit_requested(POOL.number));
    let mut all = Vec::new();
    while let Some(packet) = cluster.packets.pop_back() {
        all.push(packet.clone());
        cluster.deliver(packet.clone());
        cluster.deliver(packet);
    }
    for packet in all {
        cluster.deliver(packet);
    }
    cluster.run(0);
    assert_eq!(deposits(&cluster), 5);
    assert!(culprits(&cluster).is_empty());
}

#[test]
fn a_silent_member_stops_the_ceremony_and_is_named() {
    let mut cluster = cluster();
    cluster.observe(deposit_requested(POOL.number));
    while let Some(packet) = cluster.packets.pop_front() {
        if packet.from != CULPRIT {
            cluster.deliver(packet);
        }
    }
    cluster.ask(VICTIM, Request::Tick);
    let missing = cluster.node(VICTIM).notices.iter().any(
        |notice| matches!(notice, Notice::Missing { step: Step::Commit, member, .. } if *member == CULPRIT),
    );
    assert!(missing);
    assert_eq!(deposits(&cluster), 0);
    // A host that is impatient has its enclave leave the attempt.
    assert_eq!(cluster.ask(VICTIM, Request::GiveUp(Subject::Key(POOL))), Reply::Done);
}

#[test]
fn a_key_is_made_once_whatever_hosts_repeat() {
    let mut cluster = cluster();
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(0);
    let pubkey = cluster.pubkey(POOL);
    cluster.observe(deposit_requested(POOL.number));
    for id in cluster.ids() {
        assert_eq!(
            cluster.ask(id, Request::GiveUp(Subject::Key(POOL))),
            Reply::Rejected(Rejection::NothingToLeave)
        );
    }
    cluster.run(1);
    assert_eq!((cluster.pubkey(POOL), deposits(&cluster)), (pubkey, 5));
}

#[test]
fn the_same_enclave_says_the_same_bytes_again_and_other_terms_other_bytes() {
    let corrupt = Corrupt::of(cluster().node(CULPRIT));
    let deal_of = |terms: &KeygenTerms| honest_deal(&corrupt, terms, &cluster()).body;
    let mut scene = cluster();
    scene.observe(deposit_requested(POOL.number));
    let terms = terms(&scene);
    assert_eq!(deal_of(&terms), deal_of(&terms));
    let commitments = |body: &[u8]| codec::decode::<Deal>(body).unwrap().commitments;
    let retry = KeygenTerms { attempt: terms.attempt.next().unwrap(), ..terms.clone() };
    let fewer = KeygenTerms { threshold: 2, ..terms.clone() };
    for other in [retry, fewer] {
        let (ours, theirs) = (commitments(&deal_of(&terms)), commitments(&deal_of(&other)));
        assert!(theirs.iter().all(|point| !ours.contains(point)), "no coefficient is used twice");
    }
}

#[test]
fn a_confirmation_is_no_signature_of_anything_else() {
    let mut cluster = cluster();
    cluster.observe(deposit_requested(POOL.number));
    let mut confirms: Vec<(MemberId, Signature)> = Vec::new();
    while let Some(packet) = cluster.packets.pop_front() {
        if let Ok(PeerMessage::Broadcast(said)) = codec::decode(&packet.bytes)
            && said.slot.step == Step::Confirm
        {
            confirms.push((said.slot.from, codec::decode::<Confirm>(&said.body).unwrap().partial));
        }
        cluster.deliver(packet);
    }
    let key = &cluster.node(VICTIM).core.keygen(POOL).unwrap().key().unwrap().public;
    for (member, partial) in confirms {
        let own = key.polynomial.evaluate(member).encode();
        // Under Ethereum's ciphersuite it verifies over nothing: not even over the very bytes that it confirms.
        assert!(own.verify(&key.certificate.digest().0, &partial).is_err());
        let point = partial.decode().unwrap();
        assert!(verify_point(&own.decode().unwrap(), &key.certificate.confirm_message(), &point).is_ok());
    }
}
