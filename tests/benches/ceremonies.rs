//! What the ceremonies cost, beside the group operations that they can't do without, timed in the same run.
//!
//! `cargo bench -p postern-tests` prints medians. Samples of the two sides alternate, so that whatever else the machine
//! does falls on both.

use postern_enclave::ceremony::presign::split;
use postern_enclave::coins::Coins;
use postern_enclave::keys::IdentityKeys;
use postern_shared::bls::{ETHEREUM_DST, G1, G2, KnowledgeProof, PublicKey, Scalar, pairings_equal};
use postern_shared::codec;
use postern_shared::ethereum::VoluntaryExit;
use postern_shared::identity::Roster;
use postern_shared::ids::{CeremonyId, Digest, ManifestHash, MemberId};
use postern_shared::keygen::KeygenCertificate;
use postern_shared::message::{PeerMessage, Slot, Step};
use postern_shared::presign::{PresignTerms, exit_share_is_good};
use postern_shared::sealed_shares::Pair;
use postern_tests::cluster::{Cluster, deposit_requested, manifest, pool};
use std::hint::black_box;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// (threshold, members), as in the tables of comparable systems.
const SIZES: [(u16, u16); 4] = [(3, 5), (5, 7), (9, 13), (14, 20)];

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples[samples.len() / 2]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    black_box(work());
    started.elapsed()
}

/// Medians of two things, sampled in turn.
fn compare<A, B>(
    samples: usize,
    mut one: impl FnMut() -> A,
    mut other: impl FnMut() -> B,
) -> (Duration, Duration) {
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for _ in 0..samples {
        ones.push(time(&mut one));
        others.push(time(&mut other));
    }
    (median(ones), median(others))
}

struct Scene {
    terms: PresignTerms,
    roster: Roster,
    share: Scalar,
    coins: Coins,
    keys: IdentityKeys,
}

/// A presign among `members` guardians.
fn scene(threshold: u16, members: u16) -> Scene {
    let coins = |id: u16| Coins::new(Zeroizing::new([id as u8; 32]));
    let ids: Vec<MemberId> = (1..=members).map(MemberId).collect();
    let identity = |id: &MemberId| *IdentityKeys::derive(&coins(id.0), *id, 0).identity();
    let roster = Roster::new(ids.iter().map(identity).collect());
    let scalar = |number| Coins::new(Zeroizing::new([number; 32])).scalar("bench", b"");
    let commitments: Vec<PublicKey> =
        (1..=3).map(|number| (G1::generator() * &scalar(number)).encode()).collect();
    // The operator is member 1: its share is the polynomial at 1.
    let share = (1..=3).fold(Scalar::zero(), |sum, number| sum + scalar(number));
    let terms = PresignTerms {
        manifest: ManifestHash([0; 32]),
        roster: roster.digest(),
        network: manifest(5, 3, 3).network,
        pool: pool(1),
        certificate: KeygenCertificate {
            ceremony: CeremonyId([0; 32]),
            operators: ids.iter().copied().take(3).collect(),
            deals: Digest([0; 32]),
            commitments,
        },
        operators: ids.iter().copied().take(3).collect(),
        guardians: ids,
        guardian_threshold: threshold,
        exit: VoluntaryExit { epoch: 0, validator_index: 1 },
    };
    Scene { terms, roster, share, coins: coins(1), keys: IdentityKeys::derive(&coins(1), MemberId(1), 0) }
}

/// The group operations of a split: n multiplications in G2 for the shares, n in G1 for the pairwise keys (each of a
/// recipient's key that is decoded and checked), t-1 in G1 for the commitments and one for the ephemeral key.
fn group_operations(scene: &Scene, message: &G2) {
    for identity in scene.roster.identities() {
        black_box(message * &scene.share);
        black_box(identity.dealing.decode().map(|key| key * &scene.share).ok());
    }
    for _ in 0..scene.terms.guardian_threshold {
        black_box(G1::generator() * &scene.share);
    }
}

fn splits() {
    println!("verifiable split of one exit        split µs   its group operations µs   ratio");
    for (threshold, members) in SIZES {
        let scene = scene(threshold, members);
        let message = scene.terms.exit_message();
        let (whole, parts) = compare(
            200,
            || split(&scene.terms, &scene.roster, &message, MemberId(1), &scene.share, &scene.coins),
            || group_operations(&scene, &message),
        );
        println!(
            "  t = {threshold:2}, n = {members:2} {:26.0} {:25.0} {:7.2}",
            micros(whole),
            micros(parts),
            whole.as_secs_f64() / parts.as_secs_f64()
        );
    }
}

fn checks() {
    println!("\nchecking one share                  check µs   product of two pairings µs   ratio");
    for (threshold, members) in SIZES {
        let scene = scene(threshold, members);
        let message = scene.terms.exit_message();
        let made =
            split(&scene.terms, &scene.roster, &message, MemberId(1), &scene.share, &scene.coins).unwrap();
        let open = scene.terms.check_split(MemberId(1), &codec::encode(&made)).unwrap();
        let slot = Slot::of(scene.terms.ceremony(), MemberId(1), Step::Split);
        let own = scene.keys.identity();
        let plain =
            scene.keys.open_share(&Pair { slot, dealer: own, recipient: own }, &open.shares, 0).unwrap();
        assert!(exit_share_is_good(&plain, MemberId(1), &open.polynomial, &message).is_some());
        let point = G2::hash(b"bench", ETHEREUM_DST);
        let (check, product) = compare(
            200,
            || exit_share_is_good(&plain, MemberId(1), &open.polynomial, &message),
            || pairings_equal(&G1::generator(), &point, &G1::generator(), &message),
        );
        println!(
            "  t = {threshold:2}, n = {members:2} {:26.0} {:28.0} {:7.2}",
            micros(check),
            micros(product),
            check.as_secs_f64() / product.as_secs_f64()
        );
    }
}

/// The proof that a dealer knows its ephemeral secret, beside the multiplications that it is made of.
fn knowledge() {
    println!("\nproof of knowledge                  µs   multiplications µs   ratio");
    let scene = scene(3, 5);
    let key = G1::generator() * &scene.share;
    let blinding = scene.share.clone() + Scalar::from_u64(1);
    let proof = KnowledgeProof::prove(&scene.share, &key, &blinding, b"bench");
    assert!(proof.verify(&key, b"bench"));
    let made = compare(
        500,
        || KnowledgeProof::prove(&scene.share, &key, &blinding, b"bench"),
        || G1::generator() * &scene.share,
    );
    let checked = compare(
        500,
        || proof.verify(&key, b"bench"),
        || (G1::generator() * &scene.share, &key * &scene.share),
    );
    for (what, (proof, parts)) in [("made, one ", made), ("checked, two", checked)] {
        let ratio = proof.as_secs_f64() / parts.as_secs_f64();
        println!("  {what:12} {:23.0} {:20.0} {ratio:7.2}", micros(proof), micros(parts));
    }
}

/// One member's time in a whole keygen, from the event to the signed deposit.
fn keygens() {
    println!("\nkeygen, one member's computation     whole ms   of it judging deals ms   to confirm ms");
    for (threshold, members) in [(3, 4), (5, 7), (9, 13), (14, 20)] {
        let mut samples: Vec<[Duration; 3]> = Vec::new();
        for seed in 0..5 {
            let mut cluster = Cluster::launch(manifest(members, threshold, threshold), seed);
            cluster.run(0);
            let mut spent = [Duration::ZERO; 3];
            for id in cluster.ids() {
                let observed =
                    time(|| cluster.ask(id, postern_shared::wire::Request::Observe(deposit_requested(1))));
                if id == MemberId(1) {
                    spent[0] += observed;
                }
            }
            while let Some(packet) = cluster.packets.pop_front() {
                let step = match codec::decode(&packet.bytes) {
                    Ok(PeerMessage::Broadcast(said)) => Some(said.slot.step),
                    _ => None,
                };
                let mine = packet.to == MemberId(1);
                let took = time(|| cluster.deliver(packet));
                if mine {
                    spent[0] += took;
                    spent[1] += if step == Some(Step::Deal) { took } else { Duration::ZERO };
                    spent[2] += if step == Some(Step::Confirm) { took } else { Duration::ZERO };
                }
            }
            assert!(cluster.pubkey(pool(1)).is_some());
            samples.push(spent);
        }
        let of = |position: usize| {
            median(samples.iter().map(|spent| spent[position]).collect()).as_secs_f64() * 1e3
        };
        println!("  t = {threshold:2}, n = {members:2} {:27.1} {:24.1} {:15.1}", of(0), of(1), of(2));
    }
    println!(
        "  Each member checks n proofs of possession, n confirmations and t deposits, a pairing product each, and"
    );
    println!("  n signatures on each of n verdicts: growth is n pairings plus n² Ed25519 checks.");
}

fn main() {
    splits();
    checks();
    knowledge();
    keygens();
}
