//! The algebra behind shares, splits and proofs, checked against its formulas for any numbers.

use postern_shared::bls::{
    Commitments, CommitmentsError, DleqProof, ETHEREUM_DST, G1, G2, PointError, PublicKey, Scalar,
    pairings_equal, verify_point,
};
use postern_shared::bytes::from_hex;
use postern_shared::codec;
use postern_shared::ids::{CeremonyId, MemberId};
use postern_shared::keygen::share_is_good;
use postern_shared::lagrange;
use postern_shared::pairwise::{EncryptedShare, Opening, Pair};
use postern_shared::presign::{combine_polynomials, exit_share_is_good};
use proptest::collection::vec;
use proptest::prelude::*;

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
        let (g1, g2) = (G1::generator(), G2::generator());
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
        let sum = (0..number).fold(G1::identity(), |sum, _| sum + point);
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
        secret in scalar(), ephemeral in scalar(), blinding in scalar(), ids in any::<([u8; 32], u16, u16)>(),
        share in vec(any::<u8>(), 0..100), place in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let pair = Pair { ceremony: CeremonyId(ids.0), dealer: MemberId(ids.1), recipient: MemberId(ids.2) };
        let (key, base) = (G1::generator() * &secret, G1::generator() * &ephemeral);
        let dealing = key.encode();
        let opening = pair.disclose(&secret, &base, &blinding);
        let shared = key * &ephemeral;
        prop_assert_eq!(pair.check_opening(&opening, &dealing, &base), Some(shared));
        let sealed = pair.seal(&shared, &share);
        prop_assert_eq!(pair.open(&shared, &sealed).map(|opened| opened.to_vec()), Some(share));

        // Another pair.
        let mut ceremony = pair.ceremony;
        ceremony.0[place.index(32)] ^= flip;
        for other in [
            Pair { ceremony, ..pair },
            Pair { dealer: MemberId(pair.dealer.0 ^ 1), ..pair },
            Pair { recipient: MemberId(pair.recipient.0 ^ 1), ..pair },
        ] {
            prop_assert_eq!(other.check_opening(&opening, &dealing, &base), None);
            prop_assert!(other.open(&shared, &sealed).is_none());
        }
        // Another key, base, shared point, or proof.
        let generator = G1::generator();
        prop_assert_eq!(pair.check_opening(&opening, &(key + generator).encode(), &base), None);
        prop_assert_eq!(pair.check_opening(&opening, &dealing, &(base + generator)), None);
        for point in [shared + generator, G1::identity()] {
            let moved = Opening { shared: point.encode(), ..opening };
            prop_assert_eq!(pair.check_opening(&moved, &dealing, &base), None);
        }
        let proof = codec::encode(&opening.proof);
        let at = place.index(proof.len());
        let mut changed = proof.clone();
        changed[at] ^= flip;
        let (challenge, response) = proof.split_at(32);
        // With a number spelt otherwise it would be a second proof of the same.
        for bytes in [changed, [&raised(challenge), response].concat(), [challenge, &raised(response)].concat()] {
            let proof = codec::decode::<DleqProof>(&bytes).unwrap();
            prop_assert_eq!(pair.check_opening(&Opening { proof, ..opening }, &dealing, &base), None);
        }
        // Another point, a changed or a shortened ciphertext.
        prop_assert!(pair.open(&(shared + generator), &sealed).is_none());
        let at = place.index(sealed.0.len());
        let mut changed = sealed.clone();
        changed.0[at] ^= flip;
        prop_assert!(pair.open(&shared, &changed).is_none());
        prop_assert!(pair.open(&shared, &EncryptedShare(sealed.0[..at].to_vec())).is_none());
    }
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
            combine_polynomials(&operators.iter().copied().zip(&committed).collect::<Vec<_>>()).unwrap();
        prop_assert_eq!(whole.constant(), public.constant());

        let weights = lagrange::at_zero(operators).unwrap();
        let mut shares = Vec::new();
        for guardian in &guardians {
            let mut share = G2::identity();
            for ((split, committed), weight) in splits.iter().zip(&committed).zip(&weights) {
                let part = message * &evaluate(split, *guardian);
                prop_assert!(exit_share_is_good(&part.encode().0, *guardian, committed, &message).is_some());
                let wrong = part + message;
                prop_assert!(exit_share_is_good(&wrong.encode().0, *guardian, committed, &message).is_none());
                share += part * weight;
            }
            prop_assert_eq!(verify_point(&whole.evaluate(*guardian), &message, &share), Ok(()));
            shares.push(share);
        }
        let combined = |count: usize| {
            let weights = lagrange::at_zero(&guardians[..count]).unwrap();
            shares.iter().zip(&weights).fold(G2::identity(), |sum, (share, weight)| sum + *share * weight)
        };
        prop_assert_eq!(combined(threshold), message * &key[0]);
        prop_assert_ne!(combined(threshold - 1), message * &key[0]);
        let pubkey = public.constant().encode();
        prop_assert_eq!(pubkey.verify(b"exit", &combined(threshold).encode()), Ok(()));
    }
}
