//! The algebra behind shares, splits and proofs, checked against its formulas for any numbers.

use postern_shared::bls::{
    Commitments, CommitmentsError, DleqProof, ETHEREUM_DST, G1, G2, KnowledgeProof, PointError, PublicKey,
    Scalar, pairings_equal, verify_point,
};
use postern_shared::bytes::from_hex;
use postern_shared::codec;
use postern_shared::dealing::share_is_good;
use postern_shared::identity::{AgreementKey, Identity, SigningKey};
use postern_shared::ids::{Address, CeremonyId, MemberId};
use postern_shared::lagrange;
use postern_shared::message::{Slot, Step};
use postern_shared::presign::exit_share_is_good;
use postern_shared::sealed_shares::{
    CheckedShares, EncryptedShare, Opening, Pair, SealedShares, SealedSharesError, TAG_SIZE,
};
use proptest::collection::vec;
use proptest::prelude::*;
use zeroize::Zeroizing;

/// The order of BLS12-381's groups (draft-irtf-cfrg-pairing-friendly-curves, section 4.2.1).
const ORDER: &str = "0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001";

/// Any scalar but zero.
fn scalar() -> impl Strategy<Value = Scalar> {
    any::<([u8; 32], [u8; 32])>()
        .prop_map(|(low, high)| Scalar::from_wide(&[low, high].concat().try_into().expect("64 bytes")))
        .prop_filter("zero", |scalar| !scalar.is_zero())
}

/// A polynomial, and members: more than it has coefficients, each once, in any order.
fn sharing() -> impl Strategy<Value = (Vec<Scalar>, Vec<MemberId>)> {
    (2usize..5).prop_flat_map(|threshold| {
        let ids = proptest::sample::subsequence((1..60).map(MemberId).collect::<Vec<_>>(), threshold + 1);
        (vec(scalar(), threshold), ids.prop_shuffle())
    })
}

fn evaluate(polynomial: &[Scalar], member: MemberId) -> Scalar {
    let index = Scalar::from_u64(member.0.into());
    polynomial.iter().rev().fold(Scalar::zero(), |sum, coefficient| sum * &index + coefficient)
}

fn commit(polynomial: &[Scalar]) -> Commitments {
    let points: Vec<PublicKey> = polynomial.iter().map(|one| (G1::generator() * one).encode()).collect();
    Commitments::decode(&points, points.len()).expect("points")
}

/// The polynomial at 0, from its values at these members.
fn interpolate(polynomial: &[Scalar], members: &[MemberId]) -> Scalar {
    let weights = lagrange::at_zero(members).expect("distinct members");
    let values = members.iter().map(|member| evaluate(polynomial, *member));
    values.zip(&weights).fold(Scalar::zero(), |sum, (value, weight)| sum + value * weight)
}

/// The same residue, spelt one order higher.
fn raised(scalar: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let mut sum: Vec<u8> = scalar
        .iter()
        .zip(&from_hex(ORDER).unwrap())
        .rev()
        .map(|(one, other)| {
            carry = (carry >> 8) + u16::from(*one) + u16::from(*other);
            carry as u8
        })
        .collect();
    sum.reverse();
    sum
}

#[test]
fn scalars_end_at_the_order() {
    let order: [u8; 32] = from_hex(ORDER).unwrap().try_into().unwrap();
    assert_eq!(Scalar::from_bytes(&order), None);
    let mut last = order;
    last[31] -= 1;
    assert!((Scalar::from_bytes(&last).unwrap() + Scalar::from_u64(1)).is_zero());
    assert_eq!(Scalar::zero().invert(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn scalars_are_a_field_and_points_its_modules(a in scalar(), b in scalar(), c in scalar()) {
        prop_assert_eq!((a.clone() + &b) * &c, a.clone() * &c + b.clone() * &c);
        prop_assert_eq!(a.clone() * &b, b.clone() * &a);
        prop_assert_eq!(a.clone() - &b + &b, a.clone());
        prop_assert_eq!(Scalar::from_bytes(&a.to_bytes()), Some(a.clone()));
        prop_assert_eq!(a.invert().map(|inverse| inverse * &a), Some(Scalar::from_u64(1)));
        let (g1, g2) = (&G1::generator(), &G2::generator());
        prop_assert_eq!(g1 * &a + g1 * &b, g1 * &(a.clone() + &b));
        prop_assert_eq!(g2 * &a * &b, g2 * &(a.clone() * &b));
        prop_assert_eq!((g1 * &a).encode().decode(), Ok(g1 * &a));
        prop_assert_eq!((g2 * &a).encode().decode(), Ok(g2 * &a));
        prop_assert!(pairings_equal(&(g1 * &a), &(g2 * &b), &(g1 * &b), &(g2 * &a)));
        prop_assert!(!pairings_equal(&(g1 * &a), &(g2 * &b), &(g1 * &b), &(g2 * &a + g2)));
    }

    #[test]
    fn small_multiples_are_sums(a in scalar(), number in 0u16..200) {
        let point = G1::generator() * &a;
        let sum = (0..number).fold(G1::identity(), |sum, _| sum + &point);
        prop_assert_eq!(point.times(number), sum);
    }

    #[test]
    fn enough_shares_give_the_secret_and_one_fewer_something_else((polynomial, members) in sharing()) {
        let threshold = polynomial.len();
        prop_assert_eq!(interpolate(&polynomial, &members), polynomial[0].clone());
        prop_assert_eq!(interpolate(&polynomial, &members[..threshold]), polynomial[0].clone());
        prop_assert_ne!(interpolate(&polynomial, &members[..threshold - 1]), polynomial[0].clone());
        prop_assert!(lagrange::at_zero(&[&members[..], &members[..1]].concat()).is_none());
        prop_assert!(lagrange::at_zero(&[&members[..], &[MemberId(0)]].concat()).is_none());
    }

    #[test]
    fn commitments_behave_like_their_polynomials(
        pairs in vec((scalar(), scalar()), 2..5), factor in scalar(), member in (1u16..).prop_map(MemberId),
    ) {
        let (one, other): (Vec<Scalar>, Vec<Scalar>) = pairs.into_iter().unzip();
        let committed = commit(&one);
        let (value, added) = (evaluate(&one, member), evaluate(&other, member));
        prop_assert_eq!(committed.evaluate(member), G1::generator() * &value);
        let sum = Commitments::sum([&committed, &commit(&other)]);
        prop_assert_eq!(sum.evaluate(member), G1::generator() * &(value.clone() + added));
        let scaled = committed.scale(&factor);
        prop_assert_eq!(scaled.evaluate(member), G1::generator() * &(value.clone() * &factor));
        prop_assert_eq!(&Commitments::with_constant(committed.constant(), &commit(&one[1..])), &committed);

        prop_assert_eq!(share_is_good(&value.to_bytes(), member, &committed), Some(value.clone()));
        let wrong = value.clone() + Scalar::from_u64(1);
        prop_assert_eq!(share_is_good(&wrong.to_bytes(), member, &committed), None);
        prop_assert_eq!(share_is_good(&value.to_bytes()[1..], member, &committed), None);

        let mut points = committed.encode();
        let (expected, found) = (points.len() + 1, points.len());
        prop_assert_eq!(Commitments::decode(&points, expected), Err(CommitmentsError::Count { expected, found }));
        let position = found - 1;
        points[position] = G1::identity().encode();
        let lower = CommitmentsError::Point { position, error: PointError::Identity };
        prop_assert_eq!(Commitments::decode(&points, found), Err(lower));
    }

    #[test]
    fn a_share_opens_for_its_pair_and_the_opening_proves_nothing_else(
        (secret, ephemeral) in (scalar(), scalar()), blinding in scalar(), slot in any_slot(),
        share in vec(any::<u8>(), 0..100), place in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let (dealer, recipient) = (identity(slot.from.0, &ephemeral), identity(slot.from.0 ^ 1, &secret));
        let other = identity(slot.from.0 ^ 2, &blinding);
        let pair = Pair { slot, dealer: &dealer, recipient: &recipient };
        let shares = [(&other, share.clone()), (&recipient, share.clone())];
        let dealt = shares.map(|(to, share)| (to, Zeroizing::new(share)));
        let sealed =
            SealedShares::seal(slot, &dealer, &"rest", &ephemeral, |_| blinding.clone(), dealt).unwrap();
        let checked = sealed.clone().check(slot, &"rest", 2, share.len()).unwrap();
        let opened = |shares: &CheckedShares, pair: &Pair<'_>, position| {
            shares.open(pair, position, |base| base * &secret).map(|opened| opened.to_vec())
        };
        prop_assert_eq!(opened(&checked, &pair, 1), Some(share.clone()));
        prop_assert_eq!(opened(&checked, &pair, 0), None);
        prop_assert_eq!(opened(&checked, &pair, 2), None);
        let opening = checked.disclose(&pair, &secret, |_| blinding.clone());
        let disclosed = |pair: &Pair<'_>, opening: &Opening| {
            checked.disclosed(pair, 1, opening).map(|plain| plain.map(|plain| plain.to_vec()))
        };
        prop_assert_eq!(disclosed(&pair, &opening), Some(Some(share)));

        // Another slot, dealer or recipient; and a recipient with the same key.
        let mut moved = slot;
        moved.ceremony.0[place.index(32)] ^= flip;
        let namesake = Identity { member: MemberId(slot.from.0 ^ 4), ..recipient };
        for other in [
            Pair { slot: moved, ..pair },
            Pair { slot: Slot { item: slot.item ^ 1, ..slot }, ..pair },
            Pair { dealer: &other, ..pair },
            Pair { recipient: &other, ..pair },
            Pair { recipient: &namesake, ..pair },
        ] {
            prop_assert_eq!(disclosed(&other, &opening), None);
            prop_assert_eq!(opened(&checked, &other, 1), None);
        }
        // Another shared point, or proof.
        let shared = opening.shared.decode().unwrap();
        for point in [shared + &G1::generator(), G1::identity()] {
            prop_assert_eq!(disclosed(&pair, &Opening { shared: point.encode(), ..opening }), None);
        }
        for proof in respelt(&codec::encode(&opening.proof), place, flip) {
            let proof = codec::decode::<DleqProof>(&proof).unwrap();
            prop_assert_eq!(disclosed(&pair, &Opening { proof, ..opening }), None);
        }
    }

    /// The check on which it rests that a complaint tells a dealer nothing.
    #[test]
    fn sealed_shares_are_refused_unless_their_dealer_knew_the_ephemeral_secret_in_this_very_statement(
        (ephemeral, theirs) in (scalar(), scalar()), blinding in scalar(), slot in any_slot(),
        share in vec(any::<u8>(), 1..100), place in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let dealer = identity(slot.from.0, &ephemeral);
        let dealt = || [(&dealer, Zeroizing::new(share.clone()))];
        let seal = |ephemeral: &Scalar| {
            SealedShares::seal(slot, &dealer, &"rest", ephemeral, |_| blinding.clone(), dealt()).unwrap()
        };
        let (sealed, honest) = (seal(&ephemeral), seal(&theirs));
        let check = |sealed: SealedShares, slot: Slot, rest: &str| {
            sealed.check(slot, &rest, 1, share.len()).map(|_| ())
        };
        prop_assert_eq!(check(sealed.clone(), slot, "rest"), Ok(()));
        let unknown = Err(SealedSharesError::Knowledge);
        // The key of somebody else, with or without its proof; a relation of it; rubbish in place of the ciphertexts.
        let copied = SealedShares { ephemeral: honest.ephemeral, ..sealed.clone() };
        prop_assert_eq!(check(copied, slot, "rest"), unknown);
        let related = (honest.ephemeral.decode().unwrap() + &(G1::generator() * &ephemeral)).encode();
        prop_assert_eq!(check(SealedShares { ephemeral: related, ..sealed.clone() }, slot, "rest"), unknown);
        let rubbish = vec![EncryptedShare(vec![0; share.len() + TAG_SIZE])];
        prop_assert_eq!(check(SealedShares { shares: rubbish, ..honest }, slot, "rest"), unknown);
        // Another place, or another statement around it.
        let mut moved = slot;
        moved.ceremony.0[place.index(32)] ^= flip;
        for other in [
            moved,
            Slot { from: MemberId(slot.from.0 ^ 1), ..slot },
            Slot { item: slot.item ^ 1, ..slot },
        ] {
            prop_assert_eq!(check(sealed.clone(), other, "rest"), unknown);
        }
        prop_assert_eq!(check(sealed.clone(), slot, "else"), unknown);
        for knowledge in respelt(&codec::encode(&sealed.knowledge), place, flip) {
            let knowledge = codec::decode::<KnowledgeProof>(&knowledge).unwrap();
            prop_assert_eq!(check(SealedShares { knowledge, ..sealed.clone() }, slot, "rest"), unknown);
        }
        let identity = G1::identity().encode();
        let unusable = check(SealedShares { ephemeral: identity, ..sealed.clone() }, slot, "rest");
        prop_assert_eq!(unusable, Err(SealedSharesError::Ephemeral));
        // Not one ciphertext of the right size for each.
        for shares in [
            Vec::new(),
            [&sealed.shares[..], &sealed.shares].concat(),
            vec![EncryptedShare(sealed.shares[0].0[1..].to_vec())],
        ] {
            let found = shares.iter().filter(|one| one.0.len() == share.len() + TAG_SIZE).count();
            let wrong = check(SealedShares { shares, ..sealed.clone() }, slot, "rest");
            prop_assert_eq!(wrong, Err(SealedSharesError::Count { expected: 1, found }));
        }
    }
}

fn any_slot() -> impl Strategy<Value = Slot> {
    any::<([u8; 32], u16, u16, bool)>().prop_map(|(ceremony, from, item, split)| {
        let step = if split { Step::Split } else { Step::Deal };
        Slot { ceremony: CeremonyId(ceremony), from: MemberId(from), step, item }
    })
}

fn identity(member: u16, dealing: &Scalar) -> Identity {
    Identity {
        member: MemberId(member),
        machine: 0,
        signing: SigningKey([7; 32]),
        agreement: AgreementKey([8; 32]),
        dealing: (G1::generator() * dealing).encode(),
        signer: Address([9; 20]),
    }
}

/// A proof of two numbers, changed somewhere, and with either number spelt otherwise: that would be a second proof of the
/// same.
fn respelt(proof: &[u8], place: prop::sample::Index, flip: u8) -> [Vec<u8>; 3] {
    let mut changed = proof.to_vec();
    changed[place.index(proof.len())] ^= flip;
    let (challenge, response) = proof.split_at(32);
    [changed, [&raised(challenge), response].concat(), [challenge, &raised(response)].concat()]
}

proptest! {
    // Many pairings each.
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// The design's central claim: operators' splits of their partial signatures combine into a split of the whole exit,
    /// whose shares are ordinary signatures, and of which the threshold gives the exit and one fewer does not.
    #[test]
    fn splits_of_partial_signatures_are_a_split_of_the_whole(
        (key, operators) in sharing(), (blinding, guardians) in sharing(), noise in vec(scalar(), 16),
    ) {
        let operators = &operators[..key.len()];
        let threshold = blinding.len();
        let message = G2::hash(b"exit", ETHEREUM_DST);
        let public = commit(&key);
        // Each operator's polynomial: its share of the key, then blinding of its own.
        let splits: Vec<Vec<Scalar>> = operators.iter().zip(noise.chunks(4)).map(|(operator, noise)| {
            [&[evaluate(&key, *operator)], &noise[..threshold - 1]].concat()
        }).collect();
        let committed: Vec<Commitments> = operators.iter().zip(&splits).map(|(operator, split)| {
            Commitments::with_constant(public.evaluate(*operator), &commit(&split[1..]))
        }).collect();
        let whole =
            lagrange::combine(&operators.iter().copied().zip(&committed).collect::<Vec<_>>()).unwrap();
        prop_assert_eq!(whole.constant(), public.constant());

        let weights = lagrange::at_zero(operators).unwrap();
        let mut shares = Vec::new();
        for guardian in &guardians {
            let mut share = G2::identity();
            for ((split, committed), weight) in splits.iter().zip(&committed).zip(&weights) {
                let part = &message * &evaluate(split, *guardian);
                prop_assert!(exit_share_is_good(&part.encode().0, *guardian, committed, &message).is_some());
                let wrong = part.clone() + &message;
                prop_assert!(exit_share_is_good(&wrong.encode().0, *guardian, committed, &message).is_none());
                share += part * weight;
            }
            prop_assert_eq!(verify_point(&whole.evaluate(*guardian), &message, &share), Ok(()));
            shares.push(share);
        }
        let combined = |count: usize| {
            let weights = lagrange::at_zero(&guardians[..count]).unwrap();
            shares.iter().zip(&weights).fold(G2::identity(), |sum, (share, weight)| sum + share * weight)
        };
        prop_assert_eq!(combined(threshold), &message * &key[0]);
        prop_assert_ne!(combined(threshold - 1), &message * &key[0]);
        let pubkey = public.constant().encode();
        prop_assert_eq!(pubkey.verify(b"exit", &combined(threshold).encode()), Ok(()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However long the coefficients are as fractions: near 0 they are short, far from it they are not.
    #[test]
    fn combined_polynomials_are_the_sum_of_those_that_lagrange_weights(
        ids in proptest::sample::subsequence((1..40).collect::<Vec<u16>>(), 2..20),
        spread in prop_oneof![Just(1u16), Just(7), Just(1601)],
        constants in vec(scalar(), 40),
    ) {
        let members: Vec<MemberId> = ids.iter().map(|id| MemberId(id * spread)).collect();
        let committed: Vec<Commitments> =
            members.iter().zip(constants.windows(2)).map(|(_, polynomial)| commit(polynomial)).collect();
        let dealt: Vec<(MemberId, &Commitments)> = members.iter().copied().zip(&committed).collect();
        let weights = lagrange::at_zero(&members).unwrap();
        let scaled: Vec<Commitments> =
            committed.iter().zip(&weights).map(|(polynomial, weight)| polynomial.scale(weight)).collect();
        prop_assert_eq!(lagrange::combine(&dealt), Some(Commitments::sum(&scaled)));
        let twice = [dealt.clone(), dealt[..1].to_vec()].concat();
        prop_assert_eq!(lagrange::combine(&twice), None);
        let zero = [dealt, std::vec![(MemberId(0), &committed[0])]].concat();
        prop_assert_eq!(lagrange::combine(&zero), None);
    }
}
