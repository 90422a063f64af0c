//! The known attacks on presigns.

use postern_enclave::sharing::{self, SharingError};
use postern_shared::bls::{DleqProof, G1, G2, Scalar, verify_point};
use postern_shared::codec;
use postern_shared::events::ChainEvent;
use postern_shared::ids::{MemberId, PoolId};
use postern_shared::message::{Broadcast, EnvelopeHeader, PeerMessage, SignedDigest, Slot, Step};
use postern_shared::presign::{Acknowledge, PresignTerms, Split};
use postern_shared::sealed_shares::Opening;
use postern_shared::transcript::{Claim, Proceedings};
use postern_shared::wire::Request;
use postern_tests::attack::{encrypt, proved, roster};
use postern_tests::cluster::{Cluster, deposit_requested, exit_requested, manifest, pool};
use postern_tests::corruption::Corrupt;

const LEADER: MemberId = MemberId(1);
const CULPRIT: MemberId = MemberId(2);
const POOL: PoolId = pool(1);

/// A DAO whose validator is made and has index 9; nothing of the presign is delivered yet.
fn before_presign() -> Cluster {
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 21);
    cluster.run(0);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(0);
    let pubkey = cluster.pubkey(POOL).unwrap();
    cluster.observe(ChainEvent::ValidatorIndexed { pool: POOL, pubkey, validator_index: 9 });
    cluster
}

fn presigned() -> Cluster {
    let mut cluster = before_presign();
    cluster.run(0);
    cluster
}

/// Delivers everything, the culprit's broadcasts through `attack`.
fn deliver_through(cluster: &mut Cluster, attack: impl Fn(&Corrupt, &Broadcast) -> Option<Broadcast>) {
    let corrupt = Corrupt::of(cluster.node(CULPRIT));
    for _ in 0..10_000 {
        let Some(mut packet) = cluster.packets.pop_front() else { return };
        if packet.from == CULPRIT
            && let Ok(PeerMessage::Broadcast(said)) = codec::decode(&packet.bytes)
            && let Some(other) = attack(&corrupt, &said)
        {
            packet.bytes = codec::encode(&PeerMessage::Broadcast(other));
        }
        cluster.deliver(packet);
    }
}

fn terms(cluster: &Cluster) -> PresignTerms {
    let presigned = cluster.node(LEADER).transcripts().find_map(|transcript| match &transcript.record {
        Proceedings::Presign(record) => Some(record.terms.clone()),
        Proceedings::PresignFault(record) => Some(record.terms.clone()),
        _ => None,
    });
    presigned.expect("a presign has come to something")
}

fn culprits(cluster: &Cluster) -> Vec<MemberId> {
    let mut named: Vec<MemberId> = cluster
        .claims()
        .into_iter()
        .filter_map(|claim| match claim {
            Claim::Cheated { culprit, .. } => Some(culprit),
            _ => None,
        })
        .collect();
    named.sort();
    named.dedup();
    named
}

/// The exit comes out although one operator cheated, and nobody else is accused.
#[track_caller]
fn assert_convicted_and_released(mut cluster: Cluster) {
    assert_eq!(culprits(&cluster), [CULPRIT]);
    // Some of the culprit's acknowledgements may be missing: a threshold of guardians is enough at a tick.
    cluster.run(1);
    cluster.observe(exit_requested(POOL.number));
    cluster.run(2);
    assert_eq!(cluster.exits(POOL).len(), 1);
    let presign = cluster.node(LEADER).transcripts().find_map(|transcript| match &transcript.record {
        Proceedings::Presign(record) => Some(record.operators.clone()),
        _ => None,
    });
    assert!(!presign.unwrap().contains(&CULPRIT), "the culprit's split does not count");
}

fn splitting(change: impl Fn(&Corrupt, &Broadcast, &mut Split)) -> Cluster {
    let mut cluster = before_presign();
    deliver_through(&mut cluster, |corrupt, said| {
        (said.slot.step == Step::Split).then(|| {
            let mut split: Split = codec::decode(&said.body).unwrap();
            change(corrupt, said, &mut split);
            // What is wrong is what was changed, not the proof of knowledge over it.
            let shares = split.sealed.shares.clone();
            split.sealed = proved(corrupt, said.slot, &split.commitments, &ephemeral(corrupt, said), shares);
            corrupt.restate(said, &split)
        })
    });
    cluster
}

fn ephemeral(corrupt: &Corrupt, said: &Broadcast) -> Scalar {
    postern_tests::attack::ephemeral(corrupt, said.slot)
}

/// The share that the culprit encrypts to everybody: an arbitrary point.
fn encrypting(share: G2) -> Cluster {
    let roster = roster(&before_presign());
    splitting(move |corrupt, said, split| {
        let ephemeral = ephemeral(corrupt, said);
        for (recipient, sealed) in roster.identities().iter().zip(&mut split.sealed.shares) {
            *sealed = encrypt(corrupt, said.slot, recipient, &ephemeral, &share.encode().0);
        }
    })
}

#[test]
fn a_share_that_is_no_signature_under_its_key_convicts_the_operator() {
    // Of another message, of another key, and the point at infinity.
    assert_convicted_and_released(encrypting(G2::hash(b"another message", b"any") * &Scalar::from_u64(5)));
    assert_convicted_and_released(encrypting(G2::identity()));
}

#[test]
fn a_share_that_does_not_decrypt_convicts_the_operator() {
    assert_convicted_and_released(splitting(|_, _, split| split.sealed.shares[3].0[0] ^= 1));
    assert_convicted_and_released(splitting(|_, _, split| split.sealed.shares.rotate_left(1)));
}

#[test]
fn commitments_of_another_split_or_degree_convict_the_operator() {
    assert_convicted_and_released(splitting(|_, _, split| {
        split.commitments[0] = (G1::generator() * &Scalar::from_u64(8)).encode();
    }));
    assert_convicted_and_released(splitting(|_, _, split| {
        split.commitments.pop();
    }));
    assert_convicted_and_released(splitting(|_, _, split| split.commitments.push(G1::generator().encode())));
    assert_convicted_and_released(splitting(|_, _, split| {
        *split.commitments.last_mut().unwrap() = G1::identity().encode();
    }));
    assert_convicted_and_released(splitting(|_, _, split| drop(split.sealed.shares.pop())));
}

#[test]
fn a_guardian_that_complains_of_a_good_share_is_convicted() {
    let mut cluster = before_presign();
    cluster.remember();
    let splits = cluster.said.iter().filter(|said| said.slot.step == Step::Split);
    let splits: Vec<SignedDigest> = splits.map(Broadcast::signed_digest).collect();
    deliver_through(&mut cluster, |corrupt, said| {
        let split = *splits.iter().find(|split| split.slot.from == MemberId(said.slot.item))?;
        if said.slot.step != Step::Acknowledge || said.slot.item == CULPRIT.0 {
            return None;
        }
        // A proof of something that is true, but not of what it would have to be.
        let shared = G1::generator() * &corrupt.coins.scalar("postern-key-dealing-v2", b"");
        let proof = DleqProof::prove(
            &corrupt.coins.scalar("postern-key-dealing-v2", b""),
            &G1::generator(),
            &Scalar::from_u64(5),
            b"",
        );
        let opening = Opening { shared: shared.encode(), proof };
        Some(corrupt.restate(said, &Acknowledge::Bad { split, opening }))
    });
    assert_convicted_and_released(cluster);
}

#[test]
fn silent_guardians_hold_up_nothing_once_a_threshold_has_acknowledged() {
    let mut cluster = before_presign();
    while let Some(packet) = cluster.packets.pop_front() {
        // Members 4 and 5 hear and say nothing.
        if packet.from.0 < 4 && packet.to.0 < 4 {
            cluster.deliver(packet);
        }
    }
    for id in [1, 2, 3].map(MemberId) {
        cluster.ask(id, Request::Tick);
    }
    for id in [1, 2, 3].map(MemberId) {
        cluster.ask(id, Request::Observe(exit_requested(POOL.number)));
    }
    while let Some(packet) = cluster.packets.pop_front() {
        if packet.from.0 < 4 && packet.to.0 < 4 {
            cluster.deliver(packet);
        }
    }
    assert_eq!(cluster.exits(POOL).len(), 1);
}

#[test]
fn shares_of_two_splits_or_too_few_do_not_combine() {
    // The mathematics alone: two splits of one signature with the same key and message.
    let cluster = presigned();
    let terms = terms(&cluster);
    let message = terms.exit_message();
    let secret = Scalar::from_u64(4242);
    let key = G1::generator() * &secret;
    let coins = cluster.node(LEADER).coins();
    let split = |context: &[u8], secret: Scalar| {
        let blinding = coins.stream("test", context);
        let polynomial = sharing::Polynomial::sample(Scalar::zero(), 3, blinding).unwrap();
        let message = message.clone();
        move |id: u16| (MemberId(id), &message * &(polynomial.evaluate(MemberId(id)).unwrap() + &secret))
    };
    let (first, second) = (split(b"first", secret.clone()), split(b"second", secret.clone()));
    let valid = |shares: &[(MemberId, G2)], threshold| {
        sharing::combine(shares, threshold).map(|sum| verify_point(&key, &message, &sum).is_ok())
    };
    assert_eq!(&message * &secret, sharing::combine(&[first(1), first(4), first(5)], 3).unwrap());
    assert_eq!(valid(&[first(1), first(4), first(5)], 3), Ok(true));
    assert_eq!(valid(&[first(1), first(4), second(5)], 3), Ok(false));
    assert_eq!(valid(&[first(1), first(4)], 2), Ok(false));
    assert_eq!(valid(&[first(1), first(4)], 3), Err(SharingError::Count { expected: 3, found: 2 }));
}

#[test]
fn an_exit_of_another_index_is_another_ceremony() {
    // Two hosts lie about the validator's index: their enclaves stand alone with it.
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 22);
    cluster.run(0);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(0);
    let pubkey = cluster.pubkey(POOL).unwrap();
    for id in cluster.ids() {
        let validator_index = if id.0 > 3 { 666 } else { 9 };
        cluster
            .ask(id, Request::Observe(ChainEvent::ValidatorIndexed { pool: POOL, pubkey, validator_index }));
    }
    cluster.run(2);
    cluster.observe(exit_requested(POOL.number));
    // Those who stand alone may come first in the circle, and have nothing to collect.
    cluster.run(12);
    let exits = cluster.exits(POOL);
    assert_eq!(exits.len(), 1);
    assert_eq!(exits[0].message.validator_index, 9);
}

#[test]
fn headers_are_part_of_what_is_sealed() {
    let cluster = presigned();
    let (one, two) = (Corrupt::of(cluster.node(LEADER)), cluster.node(CULPRIT).keys());
    let ceremony = terms(&cluster).ceremony();
    let slot = Slot { ceremony, from: LEADER, step: Step::Share, item: 0 };
    let header = EnvelopeHeader { slot, to: CULPRIT };
    let first = one.keys.seal(&one.coins, header, two.identity(), b"one").unwrap();
    let again = one.keys.seal(&one.coins, header, two.identity(), b"one").unwrap();
    let other = one.keys.seal(&one.coins, header, two.identity(), b"two").unwrap();
    assert_eq!(first, again, "the same content gives the same bytes");
    assert_ne!(first.encapsulated, other.encapsulated, "no ephemeral key is used for two contents");
}
