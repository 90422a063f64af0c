//! Nobody honest can be made to look like a cheat, and every proof that an honest enclave publishes holds.

use ed25519_dalek::SigningKey;
use postern_shared::bls::{DleqProof, G1, G2, Scalar};
use postern_shared::codec;
use postern_shared::dealing::{Commit, Confirm, DealingTerms as _, Verdict};
use postern_shared::events::ChainEvent;
use postern_shared::fault::{Fault, Proof};
use postern_shared::identity::IdentitySignature;
use postern_shared::ids::{Digest, MemberId, PoolId};
use postern_shared::message::{Broadcast, SignedDigest, Slot, Step};
use postern_shared::sealed_shares::Pair;
use postern_shared::wire::Request;
use postern_tests::attack::{
    counter_accusation, culprits, deliver_through, deposits, judge, key_share, keygen_terms, message, named,
    roster, say, split, statement,
};
use postern_tests::cluster::{Cluster, deposit_requested, exit_requested, manifest, pool};
use postern_tests::corruption::Corrupt;
use sha2::Digest as _;
use std::ops::{Add, Mul};

const CULPRIT: MemberId = MemberId(2);
const WITNESS: MemberId = MemberId(3);
const VICTIM: MemberId = MemberId(4);
const POOL: PoolId = pool(1);

/// A DAO at the beginning of a keygen.
fn beginning() -> Cluster {
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 7);
    cluster.run(0);
    cluster.observe(deposit_requested(POOL.number));
    cluster.remember();
    cluster
}

#[test]
fn accusations_of_accusations_frame_nobody_at_any_depth() {
    for depth in 0..6 {
        let mut cluster = beginning();
        let (corrupt, terms) = (Corrupt::of(cluster.node(CULPRIT)), keygen_terms(&cluster, POOL));
        // At the bottom a baseless accusation, then each accuses the one below.
        let nonsense = say(&corrupt, &terms, Step::Confirm, &1);
        let baseless = Fault { culprit: VICTIM, proof: Proof::InvalidStatement(nonsense.signed_digest()) };
        let mut accusation = say(&corrupt, &terms, Step::Verdict, &Verdict::Reject(baseless));
        for _ in 0..depth {
            accusation = counter_accusation(&corrupt, &terms, &accusation);
        }
        cluster.packets.clear();
        let heard = accusation.clone();
        cluster.ask(VICTIM, Request::Deliver(message(accusation)));
        cluster.remember();
        let answer = cluster.packets.iter().filter(|packet| packet.to == WITNESS).find_map(statement);
        let answer = answer.expect("the victim answers with a verdict of its own");
        assert_eq!((answer.slot.from, answer.slot.step), (VICTIM, Step::Verdict));

        // What an honest enclave holds for proved, nobody may call a false accusation.
        let proof = Proof::FalseAccusation(answer.signed_digest());
        let framed = Fault { culprit: VICTIM, proof };
        let exhibits = [answer.clone(), heard];
        assert!(judge(&cluster, &terms, &framed, &exhibits).is_err(), "depth {depth}: the victim is framed");
        let framing = counter_accusation(&corrupt, &terms, &answer);
        cluster.ask(WITNESS, Request::Deliver(message(framing)));
        // Nobody is named on the word of the one accuser; the other's shows that it has said two things.
        assert!(named(&cluster, WITNESS).is_empty(), "depth {depth}");
        cluster.ask(WITNESS, Request::Deliver(message(answer)));
        assert_eq!(named(&cluster, WITNESS), [CULPRIT], "depth {depth}");
        assert_eq!(culprits(&cluster), [CULPRIT], "depth {depth}");
    }
}

/// An integer modulo the order of Ed25519's group, out of little-endian bytes, where its type can't be named.
fn reduce<S: Copy + From<u8> + Add<Output = S> + Mul<Output = S>>(_of: S, bytes: &[u8]) -> S {
    let base = S::from(128) + S::from(128);
    bytes.iter().rev().fold(S::from(0), |sum, byte| sum * base + S::from(*byte))
}

/// The same statement with another signature that is just as valid: who has the key may choose its nonce.
fn sign_anew(corrupt: &Corrupt, statement: &Broadcast) -> Broadcast {
    let key = SigningKey::from_bytes(&corrupt.coins.bytes("postern-key-signing-v1", b""));
    let nonce = SigningKey::from_bytes(&[0x77; 32]);
    let commitment = nonce.verifying_key().to_bytes();
    let signed = SignedDigest::signed_bytes(&statement.slot, &Broadcast::digest_of(&statement.body));
    let challenge = sha2::Sha512::new()
        .chain_update(commitment)
        .chain_update(key.verifying_key().to_bytes())
        .chain_update(signed)
        .finalize();
    let challenge = reduce(key.to_scalar(), &challenge);
    let response = nonce.to_scalar() + challenge * key.to_scalar();
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&commitment);
    signature[32..].copy_from_slice(&response.to_bytes());
    let other = Broadcast { signature: IdentitySignature(signature), ..statement.clone() };
    assert_ne!(other.signature, statement.signature);
    assert!(other.signed_digest().verify(corrupt.keys.identity()));
    other
}

#[test]
fn a_deal_signed_in_two_ways_spoils_nobodys_transcript() {
    let mut cluster = beginning();
    deliver_through(&mut cluster, &[CULPRIT], |corrupt, said, to| {
        let other = said.slot.step == Step::Deal && to == VICTIM;
        vec![if other { sign_anew(corrupt, said) } else { said.clone() }]
    });
    assert_eq!(deposits(&cluster), 5, "its content is one and the same");
    assert!(culprits(&cluster).is_empty(), "and every transcript verifies");
}

#[test]
fn a_bad_confirmation_is_proved_although_its_speaker_signed_its_deal_in_two_ways() {
    let mut cluster = beginning();
    deliver_through(&mut cluster, &[CULPRIT], |corrupt, said, to| {
        vec![match said.slot.step {
            Step::Deal if to == VICTIM => sign_anew(corrupt, said),
            Step::Confirm => {
                let confirm: Confirm = codec::decode(&said.body).unwrap();
                let partial = (G2::generator() * &Scalar::from_u64(6)).encode();
                corrupt.restate(said, &Confirm { partial, ..confirm })
            }
            _ => said.clone(),
        }]
    });
    assert_eq!(deposits(&cluster), 0);
    assert_eq!(culprits(&cluster), [CULPRIT], "every proof verifies");
    assert_eq!(named(&cluster, VICTIM), [CULPRIT]);
}

/// What comes after the verdicts comes early, and is wrong or said in two ways: a verdict that named it would be none, and
/// would convict the honest enclave that says it.
#[test]
fn wrong_statements_of_later_steps_that_come_early_frame_nobody() {
    for step in [Step::Confirm, Step::Deposit] {
        for twice in [false, true] {
            let mut cluster = beginning();
            let (corrupt, terms) = (Corrupt::of(cluster.node(CULPRIT)), keygen_terms(&cluster, POOL));
            let confirm = |number| Confirm {
                certificate: Digest([number; 32]),
                partial: (G2::generator() * &Scalar::from_u64(6)).encode(),
            };
            let early = match twice {
                true => vec![
                    say(&corrupt, &terms, Step::Confirm, &confirm(1)),
                    say(&corrupt, &terms, Step::Confirm, &confirm(2)),
                ],
                false => vec![corrupt.keys.sign(Slot::of(terms.ceremony(), CULPRIT, step), vec![0xff])],
            };
            for said in early {
                cluster.ask(VICTIM, Request::Deliver(message(said)));
            }
            assert_eq!(named(&cluster, VICTIM), [CULPRIT]);
            cluster.run(2);
            for id in cluster.ids() {
                assert!(named(&cluster, id).iter().all(|name| *name == CULPRIT), "{step:?} {twice} {id}");
            }
            assert_eq!(culprits(&cluster), [CULPRIT]);
            // Everything else that was said is good, so there is a key; where the slot is taken by the wrong one, all but the
            // victim have it at once.
            assert!(deposits(&cluster) >= 4, "{step:?} {twice}");
        }
    }
}

#[test]
fn a_verdict_over_a_deal_of_another_slot_convicts_its_speaker() {
    let mut cluster = beginning();
    deliver_through(&mut cluster, &[CULPRIT], |corrupt, said, _| {
        if said.slot.step != Step::Verdict {
            return vec![said.clone()];
        }
        let Ok(Verdict::Accept(mut deals)) = codec::decode(&said.body) else { return vec![said.clone()] };
        let own = deals.iter_mut().find(|deal| deal.slot.from == CULPRIT).unwrap();
        // Signed by the dealer itself, but no deal of this ceremony.
        *own = corrupt.keys.sign(Slot { item: 1, ..own.slot }, vec![1, 2, 3]).signed_digest();
        vec![corrupt.restate(said, &Verdict::Accept(deals))]
    });
    assert_eq!(deposits(&cluster), 0);
    assert_eq!(culprits(&cluster), [CULPRIT], "every proof verifies");
}

#[test]
fn a_verdict_over_deals_in_another_order_or_one_of_them_twice_convicts_its_speaker() {
    for change in [
        |deals: &mut Vec<SignedDigest>| deals.swap(0, 3),
        |deals: &mut Vec<SignedDigest>| deals[2] = deals[3],
        |deals: &mut Vec<SignedDigest>| deals.push(deals[0]),
        |deals: &mut Vec<SignedDigest>| deals.truncate(4),
        |deals: &mut Vec<SignedDigest>| deals[3].slot.from = MemberId(9),
        |deals: &mut Vec<SignedDigest>| deals[3].slot.step = Step::Commit,
        |deals: &mut Vec<SignedDigest>| deals[3].signature = deals[2].signature,
    ] {
        let mut cluster = beginning();
        deliver_through(&mut cluster, &[CULPRIT], |corrupt, said, _| {
            vec![match codec::decode(&said.body) {
                Ok(Verdict::Accept(mut deals)) if said.slot.step == Step::Verdict => {
                    change(&mut deals);
                    corrupt.restate(said, &Verdict::Accept(deals))
                }
                _ => said.clone(),
            }]
        });
        assert_eq!(deposits(&cluster), 0);
        assert_eq!(culprits(&cluster), [CULPRIT]);
    }
}

/// What an accuser of a good share may try with the one ciphertext that it can open.
#[test]
fn a_complaint_with_any_false_opening_of_a_good_share_convicts_the_complainer() {
    type Change = fn(&Corrupt, &mut Proof);
    let shared: Change = |_, proof| {
        let Proof::BadShare { opening, .. } = proof else { return };
        opening.shared = (G1::generator() * &Scalar::from_u64(3)).encode();
    };
    let infinite: Change = |_, proof| {
        let Proof::BadShare { opening, .. } = proof else { return };
        opening.shared = G1::identity().encode();
    };
    let of_another_pair: Change = |corrupt, proof| {
        let Proof::BadShare { statement, opening, .. } = proof else { return };
        // The proof is right, but about another slot.
        opening.proof = DleqProof::prove(
            &corrupt.coins.scalar("postern-key-dealing-v2", b""),
            &G1::generator(),
            &Scalar::from_u64(5),
            &codec::encode(&statement.slot),
        );
    };
    let of_anothers_share: Change = |_, proof| {
        let Proof::BadShare { recipient, .. } = proof else { return };
        *recipient = WITNESS;
    };
    let of_a_strangers_share: Change = |_, proof| {
        let Proof::BadShare { recipient, .. } = proof else { return };
        *recipient = MemberId(9);
    };
    let altered: Change = |_, proof| {
        let Proof::BadShare { statement, .. } = proof else { return };
        statement.digest.0[0] ^= 1;
    };
    for change in [shared, infinite, of_another_pair, of_anothers_share, of_a_strangers_share, altered] {
        let mut cluster = beginning();
        let (terms, roster) = (keygen_terms(&cluster, POOL), roster(&cluster));
        let mut dealt = None;
        let mut accused = 0;
        deliver_through(&mut cluster, &[CULPRIT, VICTIM], |corrupt, said, _| {
            if said.slot.from == VICTIM {
                // The victim is honest; its deal is only overheard here.
                dealt = dealt.take().or_else(|| (said.slot.step == Step::Deal).then(|| said.clone()));
                return vec![said.clone()];
            }
            let (Step::Verdict, Some(deal)) = (said.slot.step, &dealt) else { return vec![said.clone()] };
            let open = terms.check_deal(VICTIM, &deal.body).unwrap();
            let pair = Pair {
                slot: deal.slot,
                dealer: roster.get(VICTIM).unwrap(),
                recipient: corrupt.keys.identity(),
            };
            let opening = corrupt.keys.disclose(&corrupt.coins, &pair, &open.shares);
            let statement = deal.signed_digest();
            let mut proof = Proof::BadShare { statement, recipient: CULPRIT, opening };
            change(corrupt, &mut proof);
            accused += 1;
            vec![corrupt.restate(said, &Verdict::Reject(Fault { culprit: VICTIM, proof }))]
        });
        assert!(accused > 0);
        assert_eq!(culprits(&cluster), [CULPRIT]);
        // If there is a key, the others have made it without it.
        let keygen = cluster.node(VICTIM).core.keygen(POOL).unwrap();
        let (made, operators) = (keygen.key().is_some(), &keygen.terms().operators);
        assert!(!made || !operators.contains(&CULPRIT), "{operators:?}");
    }
}

#[test]
fn honest_statements_of_other_ceremonies_or_steps_prove_nothing() {
    let mut cluster = beginning();
    let (terms, mut heard) = (keygen_terms(&cluster, POOL), Vec::new());
    deliver_through(&mut cluster, &[VICTIM], |_, said, to| {
        heard.extend((to == CULPRIT).then(|| said.clone()));
        vec![said.clone()]
    });
    // What everybody else said: all deals are there to judge by.
    let said = std::mem::take(&mut cluster.said);
    cluster.observe(deposit_requested(2));
    cluster.remember();
    let others: Vec<Broadcast> = cluster
        .packets
        .iter()
        .filter(|packet| packet.from == VICTIM && packet.to == CULPRIT)
        .filter_map(statement)
        .collect();
    assert!(heard.len() >= 5 && !others.is_empty());
    let exhibits: Vec<Broadcast> = heard.iter().chain(&others).chain(&said).cloned().collect();
    let unproved = |proof| {
        let fault = Fault { culprit: VICTIM, proof };
        assert!(judge(&cluster, &terms, &fault, &exhibits).is_err(), "{fault:?}");
    };
    for one in heard.iter().chain(&others).map(Broadcast::signed_digest) {
        unproved(Proof::InvalidStatement(one));
        unproved(Proof::FalseAccusation(one));
        for other in heard.iter().chain(&others).map(Broadcast::signed_digest) {
            unproved(Proof::Equivocation(one, other));
            unproved(Proof::BrokenCommitment { commit: one, deal: other });
            unproved(Proof::InvalidPartial { verdict: one, statement: other });
        }
    }
    // Nor does anything that the victim never signed.
    let corrupt = Corrupt::of(cluster.node(CULPRIT));
    let forged = say(&corrupt, &terms, Step::Commit, &Commit { deal: Broadcast::digest_of(b"") });
    let forged = Broadcast { slot: heard[0].slot, ..forged };
    unproved(Proof::Equivocation(heard[0].signed_digest(), forged.signed_digest()));
    let altered = Broadcast { body: vec![0xff], ..heard[0].clone() }.signed_digest();
    unproved(Proof::InvalidStatement(altered));
}

#[test]
fn an_operator_that_splits_in_two_ways_makes_no_guardian_look_like_a_cheat() {
    let mut cluster = beginning();
    cluster.run(0);
    let pubkey = cluster.pubkey(POOL).unwrap();
    cluster.observe(ChainEvent::ValidatorIndexed { pool: POOL, pubkey, validator_index: 9 });
    // Both splits are good. The victim alone hears the second; an honest relay may bring the first never.
    let (terms, roster) = (keygen_terms(&cluster, POOL), roster(&cluster));
    let key = key_share(&cluster, &terms, CULPRIT);
    let network = cluster.manifest.network;
    let exit = postern_shared::ethereum::VoluntaryExit { epoch: 0, validator_index: 9 };
    let root = exit.signing_root(network.capella_fork_version, network.genesis_validators_root);
    let hashed = G2::hash(&root.0, postern_shared::bls::ETHEREUM_DST);
    // Relays are slow with two others' splits, so that the culprit's is among those that others end with.
    deliver_through(&mut cluster, &[CULPRIT, VICTIM, MemberId(5)], |corrupt, said, to| {
        match said.slot.step {
            Step::Split if said.slot.from != CULPRIT => return vec![],
            Step::Split if to == VICTIM => {}
            _ => return vec![said.clone()],
        }
        let blinding = [Scalar::from_u64(11), Scalar::from_u64(12)];
        let split = split(corrupt, said.slot, &roster, (&key, &hashed), &blinding);
        vec![corrupt.restate(said, &split)]
    });
    assert!(named(&cluster, VICTIM).is_empty(), "the second split is good by itself");
    cluster.run(1);
    cluster.observe(exit_requested(POOL.number));
    cluster.run(2);
    assert_eq!(cluster.exits(POOL).len(), 1);
    for id in cluster.ids() {
        let named = named(&cluster, id);
        assert!(named.iter().all(|name| *name == CULPRIT), "{id} names {named:?}");
    }
}
