//! A complaint tells a dealer nothing: whoever deals under a key that it has copied from somebody is refused before anything
//! is opened, so no honest guardian's or operator's complaint ever opens an honest dealer's share.
//!
//! Found by a hostile reading: one corrupted enclave of three had the whole exit from one presign, and one of five, with the
//! presigns of four other pools, a validator's secret key.

use postern_shared::bls::{G1, KnowledgeProof, PublicKey};
use postern_shared::codec;
use postern_shared::dealing::{Commit, Deal, Verdict};
use postern_shared::fault::{Fault, Proof};
use postern_shared::ids::MemberId;
use postern_shared::message::{Broadcast, Step};
use postern_shared::presign::{Acknowledge, Split};
use postern_shared::sealed_shares::{EncryptedShare, SealedShares};
use postern_tests::attack::{culprits, deliver_through, deposits};
use postern_tests::cluster::{Cluster, deposit_requested, exit_requested, manifest, pool};
use postern_tests::corruption::Corrupt;

/// Members and both thresholds; the larger ones among the slow suites.
const SIZES: [(u16, u16); 2] = [(3, 2), (4, 3)];
const LARGE: [(u16, u16); 4] = [(5, 3), (7, 5), (10, 7), (13, 9)];

/// The ways to deal under a key that is somebody else's.
#[derive(Debug, Clone, Copy)]
enum Theft {
    /// Its key, with rubbish for ciphertexts and a proof of another key.
    Key,
    /// Its key and proof, with rubbish for ciphertexts.
    KeyAndProof,
    /// All of what it has sealed.
    Everything,
    /// A key that is known only together with the honest one: their sum.
    Sum,
}
const THEFTS: [Theft; 4] = [Theft::Key, Theft::KeyAndProof, Theft::Everything, Theft::Sum];

/// What a thief says in place of what it has sealed itself.
fn stolen(theft: Theft, own: &SealedShares, theirs: &SealedShares) -> SealedShares {
    let rubbish = || own.shares.iter().map(|share| EncryptedShare(vec![0; share.0.len()])).collect();
    match theft {
        Theft::Key => SealedShares { ephemeral: theirs.ephemeral, shares: rubbish(), ..own.clone() },
        Theft::KeyAndProof => SealedShares { shares: rubbish(), ..theirs.clone() },
        Theft::Everything => {
            let shares = theirs.shares.iter().take(own.shares.len()).cloned().collect();
            SealedShares { shares, ..theirs.clone() }
        }
        Theft::Sum => {
            let sum: G1 = own.ephemeral.decode().unwrap() + &theirs.ephemeral.decode().unwrap();
            SealedShares { ephemeral: sum.encode(), shares: rubbish(), ..own.clone() }
        }
    }
}

fn sealed(said: &Broadcast) -> Option<SealedShares> {
    match said.slot.step {
        Step::Deal => Some(codec::decode::<Deal>(&said.body).ok()?.sealed),
        Step::Split => Some(codec::decode::<Split>(&said.body).ok()?.sealed),
        _ => None,
    }
}

/// Members whose shares somebody honest has opened.
fn opened(said: &[Broadcast], thieves: &[MemberId]) -> Vec<MemberId> {
    let honest = said.iter().filter(|said| !thieves.contains(&said.slot.from));
    let opened = honest.filter_map(|said| match said.slot.step {
        Step::Verdict => match codec::decode(&said.body).ok()? {
            Verdict::Reject(Fault { culprit, proof: Proof::BadShare { .. } }) => Some(culprit),
            _ => None,
        },
        Step::Acknowledge => match codec::decode(&said.body).ok()? {
            Acknowledge::Bad { split, .. } => Some(split.slot.from),
            Acknowledge::Good(_) => None,
        },
        _ => None,
    });
    opened.collect()
}

fn thieves(threshold: u16) -> Vec<Vec<MemberId>> {
    let most = (2..2 + threshold - 1).map(MemberId).collect();
    vec![vec![MemberId(2)], most]
}

fn with_key(members: u16, threshold: u16, pools: u32) -> Cluster {
    let mut cluster = Cluster::launch(manifest(members, threshold, threshold), 5);
    cluster.run(0);
    for pool in 1..=pools {
        cluster.observe(deposit_requested(pool));
    }
    cluster.run(0);
    cluster
}

#[test]
fn corrupted_operators_get_no_share_of_an_honest_ones_exit_by_presigning_under_its_key() {
    for (members, threshold) in SIZES {
        for theft in THEFTS {
            presign_under_stolen_keys(members, threshold, &[MemberId(2)], theft, Step::Split);
        }
    }
    // Of the keygen before it: the key to shares of the validator's secret key.
    presign_under_stolen_keys(5, 3, &[MemberId(2), MemberId(4)], Theft::KeyAndProof, Step::Deal);
}

#[test]
#[ignore = "long: run in release by the slow suites"]
fn corrupted_enclaves_open_nothing_whatever_the_members_and_thresholds() {
    for (members, threshold) in LARGE {
        // Keygens grow with the square of the members.
        let thefts = if members > 7 { &THEFTS[1..2] } else { &THEFTS[..] };
        for thieves in thieves(threshold) {
            for theft in thefts.iter().copied() {
                for from in [Step::Split, Step::Deal] {
                    presign_under_stolen_keys(members, threshold, &thieves, theft, from);
                }
                deal_under_stolen_keys(members, threshold, &thieves, theft);
            }
        }
    }
}

fn presign_under_stolen_keys(members: u16, threshold: u16, thieves: &[MemberId], theft: Theft, from: Step) {
    let mut cluster = with_key(members, threshold, 1);
    let mut theirs: Vec<SealedShares> = Vec::new();
    let honest = |said: &&Broadcast| !thieves.contains(&said.slot.from) && said.slot.step == from;
    cluster.index(pool(1));
    cluster.remember();
    theirs.extend(cluster.said.iter().filter(honest).filter_map(sealed));
    assert!(!theirs.is_empty());
    let mut turn = 0;
    deliver_through(&mut cluster, thieves, |corrupt, said, _| {
        if said.slot.step != Step::Split {
            return vec![said.clone()];
        }
        let mut split: Split = codec::decode(&said.body).unwrap();
        turn += 1;
        split.sealed = stolen(theft, &split.sealed, &theirs[turn % theirs.len()]);
        vec![corrupt.restate(said, &split)]
    });
    let scene = format!("{threshold} of {members}, {} thieves, {theft:?} from {from:?}", thieves.len());
    assert_eq!(opened(&cluster.said, thieves), [], "{scene}");
    let convicted = culprits(&cluster);
    assert!(!convicted.is_empty() && convicted.iter().all(|culprit| thieves.contains(culprit)), "{scene}");
    // The honest operators are enough, if they are as many as sign together.
    if usize::from(members) - thieves.len() >= usize::from(threshold) {
        cluster.run(1);
        cluster.observe(exit_requested(1));
        cluster.run(2);
        assert_eq!(cluster.exits(pool(1)).len(), 1, "{scene}");
    }
}

#[test]
fn corrupted_operators_get_no_share_of_a_secret_key_by_dealing_under_an_honest_ones_key() {
    for (members, threshold) in SIZES {
        for theft in THEFTS {
            deal_under_stolen_keys(members, threshold, &[MemberId(2)], theft);
        }
    }
    deal_under_stolen_keys(5, 3, &[MemberId(2), MemberId(4)], Theft::Key);
}

fn deal_under_stolen_keys(members: u16, threshold: u16, thieves: &[MemberId], theft: Theft) {
    // Of an earlier keygen, whose key is made and counts.
    let mut cluster = with_key(members, threshold, 1);
    let honest = |said: &&Broadcast| !thieves.contains(&said.slot.from);
    let theirs: Vec<SealedShares> = cluster.said.iter().filter(honest).filter_map(sealed).collect();
    let keys = deposits(&cluster);
    cluster.said.clear();
    cluster.observe(deposit_requested(2));
    // Thieves know beforehand what their enclaves will deal, so they commit to what they will say.
    let corrupt: Vec<Corrupt> = thieves.iter().map(|id| Corrupt::of(cluster.node(*id))).collect();
    let terms = cluster.node(MemberId(1)).core.keygen(pool(2)).unwrap().terms().clone();
    let mut deals: Vec<(MemberId, Broadcast)> = Vec::new();
    for (thief, theirs) in corrupt.iter().zip(theirs.iter().cycle()) {
        let coefficients: Vec<_> =
            (0..threshold).map(|k| thief.coins.scalar("attack", &k.to_be_bytes())).collect();
        let mut deal = postern_tests::attack::deal(&cluster, &terms, thief, &coefficients);
        deal.sealed = stolen(theft, &deal.sealed, theirs);
        let said = postern_tests::attack::say(thief, &terms, Step::Deal, &deal);
        deals.push((thief.keys.identity().member, said));
    }
    let deal_of = |id: MemberId| &deals.iter().find(|(thief, _)| *thief == id).unwrap().1;
    deliver_through(&mut cluster, thieves, |corrupt, said, _| {
        vec![match said.slot.step {
            Step::Commit => {
                let deal = Broadcast::digest_of(&deal_of(said.slot.from).body);
                corrupt.restate(said, &Commit { deal })
            }
            Step::Deal => deal_of(said.slot.from).clone(),
            _ => said.clone(),
        }]
    });
    let scene = format!("{threshold} of {members}, {} thieves, {theft:?}", thieves.len());
    assert_eq!(opened(&cluster.said, thieves), [], "{scene}");
    let convicted = culprits(&cluster);
    assert!(!convicted.is_empty() && convicted.iter().all(|culprit| thieves.contains(culprit)), "{scene}");
    // The honest ones may make the key in a later attempt, without them, if they are enough for a committee.
    if deposits(&cluster) != keys {
        for node in &cluster.nodes {
            let operators = &node.core.keygen(pool(2)).unwrap().terms().operators;
            assert!(cluster.manifest.is_operator_committee(operators), "{scene}");
            assert!(!operators.iter().any(|operator| thieves.contains(operator)), "{scene}");
        }
    }
}

/// Presigns of several pools at a time, in which one corrupted operator deals under as many honest keys as there are.
#[test]
fn several_presigns_at_a_time_open_no_more_than_one() {
    let (thief, pools) = (MemberId(2), 4);
    let mut cluster = with_key(5, 3, pools);
    for number in 1..=pools {
        cluster.index(pool(number));
    }
    cluster.remember();
    let honest = |said: &&Broadcast| said.slot.from != thief;
    let theirs: Vec<SealedShares> = cluster.said.iter().filter(honest).filter_map(sealed).collect();
    assert!(theirs.len() >= 32, "four deals and four splits for each pool");
    let mut turn = 0;
    deliver_through(&mut cluster, &[thief], |corrupt, said, _| {
        if said.slot.step != Step::Split {
            return vec![said.clone()];
        }
        let mut split: Split = codec::decode(&said.body).unwrap();
        turn += 7;
        split.sealed = stolen(Theft::KeyAndProof, &split.sealed, &theirs[turn % theirs.len()]);
        vec![corrupt.restate(said, &split)]
    });
    assert_eq!(opened(&cluster.said, &[thief]), []);
    assert_eq!(culprits(&cluster), [thief]);
}

/// One key to some and another to others: whoever gets the stolen one opens nothing, and both together convict.
#[test]
fn equivocating_with_a_stolen_key_opens_nothing() {
    let (thief, victim) = (MemberId(2), MemberId(4));
    let mut cluster = with_key(5, 3, 1);
    cluster.index(pool(1));
    cluster.remember();
    let of = |from: MemberId| {
        let split = cluster.said.iter().find(|said| (said.slot.from, said.slot.step) == (from, Step::Split));
        sealed(split.unwrap()).unwrap()
    };
    let theirs: SealedShares = of(MemberId(1));
    deliver_through(&mut cluster, &[thief], |corrupt, said, to| {
        if said.slot.step != Step::Split || to != victim {
            return vec![said.clone()];
        }
        let mut split: Split = codec::decode(&said.body).unwrap();
        split.sealed = stolen(Theft::Key, &split.sealed, &theirs);
        vec![corrupt.restate(said, &split), said.clone()]
    });
    assert_eq!(opened(&cluster.said, &[thief]), []);
    assert_eq!(culprits(&cluster), [thief]);
}

/// What it rests on: that proof, of that key, in that statement.
#[test]
fn a_proof_of_knowledge_is_no_proof_of_another_key() {
    let secret = postern_shared::bls::Scalar::from_u64(7);
    let key = G1::generator() * &secret;
    let proof = KnowledgeProof::prove(&secret, &key, &postern_shared::bls::Scalar::from_u64(11), b"here");
    assert!(proof.verify(&key, b"here"));
    assert!(!proof.verify(&key, b"there"));
    let double: PublicKey = (key.clone() + &key).encode();
    assert!(!proof.verify(&double.decode().unwrap(), b"here"));
    assert!(!proof.verify(&(-key), b"here"));
}
