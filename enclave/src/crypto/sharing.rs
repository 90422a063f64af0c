//! Shamir's secret sharing over BLS12-381's scalar field, and interpolation in G2, by `vsss-rs` on blst's arithmetic.
//!
//! `vsss-rs` evaluates and interpolates; it checks little. The checks around it are here: indices are never 0 and never
//! double, the number of shares is exactly the threshold, polynomials are wiped.

use crate::crypto::coins::CoinStream;
use core::ops::{Deref, DerefMut, Mul};
use postern_shared::bls::{G1, G2, PublicKey, Scalar, Signature};
use postern_shared::ids::MemberId;
use rand_core::CryptoRng;
use subtle::Choice;
use vsss_rs::{Polynomial as _, ReadableShareSet, ShareElement, ShareIdentifier};
use zeroize::Zeroizing;

/// Why shares can't be made or combined.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SharingError {
    /// A threshold of 0 or 1 shares nothing.
    #[error("a threshold of {0} shares nothing")]
    Threshold(usize),
    /// Index 0 would be handed the secret itself.
    #[error("index 0 is the secret's")]
    ZeroIndex,
    /// An index twice.
    #[error("{0} appears twice")]
    DuplicateIndex(MemberId),
    /// Not exactly as many shares as the threshold.
    #[error("{found} shares where exactly {expected} are combined")]
    Count {
        /// The threshold.
        expected: usize,
        /// Shares found.
        found: usize,
    },
}

/// A secret polynomial. Its scalars wipe themselves on drop.
pub struct Polynomial {
    /// As `vsss-rs` keeps it: the constant term as the first pair's value, other coefficients as identifiers.
    coefficients: Vec<(Element, Element)>,
}

impl Polynomial {
    /// A polynomial with this constant term and uniform other coefficients, of degree `threshold - 1`.
    pub fn sample(constant: Scalar, threshold: usize, coins: CoinStream) -> Result<Self, SharingError> {
        if threshold < 2 {
            return Err(SharingError::Threshold(threshold));
        }
        let mut coefficients = Vec::<(Element, Element)>::create(threshold);
        coefficients.resize(threshold, Default::default());
        coefficients
            .fill(&Element(constant), coins, threshold)
            .map_err(|_| SharingError::Threshold(threshold))?;
        Ok(Self { coefficients })
    }

    /// The share of a member.
    pub fn evaluate(&self, member: MemberId) -> Result<Scalar, SharingError> {
        if member.0 == 0 {
            return Err(SharingError::ZeroIndex);
        }
        Ok(self.coefficients.evaluate(&Element::index(member), self.coefficients.len()).0)
    }

    /// Feldman commitments to all coefficients, the constant term first.
    pub fn commitments(&self) -> Vec<PublicKey> {
        let constant = self.coefficients.first().map(|(_, value)| &value.0);
        let rest = self.coefficients.iter().skip(1).map(|(coefficient, _)| &coefficient.0);
        constant.into_iter().chain(rest).map(|coefficient| (G1::generator() * coefficient).encode()).collect()
    }

    /// The constant term.
    pub fn constant(&self) -> Scalar {
        self.coefficients.first().map(|(_, value)| value.0.clone()).unwrap_or_default()
    }
}

/// Interpolates exactly `threshold` points of G2 at 0. The caller has verified each, and verifies the result.
pub fn combine(shares: &[(MemberId, G2)], threshold: usize) -> Result<G2, SharingError> {
    if threshold < 2 {
        return Err(SharingError::Threshold(threshold));
    }
    if shares.len() != threshold {
        return Err(SharingError::Count { expected: threshold, found: shares.len() });
    }
    let mut seen: Vec<MemberId> = Vec::with_capacity(shares.len());
    for (member, _) in shares {
        if member.0 == 0 {
            return Err(SharingError::ZeroIndex);
        }
        if seen.contains(member) {
            return Err(SharingError::DuplicateIndex(*member));
        }
        seen.push(*member);
    }
    let shares: Zeroizing<Vec<(Element, Point)>> = Zeroizing::new(
        shares.iter().map(|(member, share)| (Element::index(*member), Point(share.clone()))).collect(),
    );
    // vsss-rs refuses just what was refused above.
    let combined = ReadableShareSet::<(Element, Point)>::combine(&shares.as_slice());
    combined.map(|point| point.0).map_err(|_| SharingError::Threshold(threshold))
}

/// A field element as `vsss-rs` wants it: coefficient, share, or index.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Element(Scalar);

/// A point of G2 as `vsss-rs` wants it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Point(G2);

impl Element {
    fn index(member: MemberId) -> Self {
        Self(Scalar::from_u64(member.0.into()))
    }
}

impl zeroize::Zeroize for Element {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl zeroize::Zeroize for Point {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

macro_rules! newtype {
    ($name:ident, $inner:ty) => {
        impl Deref for $name {
            type Target = $inner;
            fn deref(&self) -> &$inner {
                &self.0
            }
        }
        impl DerefMut for $name {
            fn deref_mut(&mut self) -> &mut $inner {
                &mut self.0
            }
        }
        impl AsRef<$inner> for $name {
            fn as_ref(&self) -> &$inner {
                &self.0
            }
        }
        impl AsMut<$inner> for $name {
            fn as_mut(&mut self) -> &mut $inner {
                &mut self.0
            }
        }
        impl From<$inner> for $name {
            fn from(inner: $inner) -> Self {
                Self(inner)
            }
        }
    };
}
newtype!(Element, Scalar);
newtype!(Point, G2);

impl ShareElement for Element {
    type Serialization = [u8; 32];
    type Inner = Scalar;

    fn random(mut rng: impl CryptoRng) -> Self {
        let mut wide = Zeroizing::new([0; 64]);
        rng.fill_bytes(&mut wide[..]);
        Self(Scalar::from_wide(&wide))
    }

    fn zero() -> Self {
        Self::default()
    }

    fn one() -> Self {
        Self(Scalar::from_u64(1))
    }

    fn is_zero(&self) -> Choice {
        Choice::from(u8::from(self.0.is_zero()))
    }

    fn serialize(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    fn deserialize(serialized: &[u8; 32]) -> vsss_rs::VsssResult<Self> {
        Scalar::from_bytes(serialized).map(Self).ok_or(vsss_rs::Error::InvalidShare)
    }

    fn from_slice(slice: &[u8]) -> vsss_rs::VsssResult<Self> {
        slice.try_into().map_err(|_| vsss_rs::Error::InvalidShare).and_then(|bytes| Self::deserialize(&bytes))
    }

    fn to_vec(&self) -> Vec<u8> {
        self.serialize().to_vec()
    }
}

impl ShareIdentifier for Element {
    fn inc(&mut self, increment: &Self) {
        self.0 += &increment.0;
    }

    fn invert(&self) -> vsss_rs::VsssResult<Self> {
        self.0.invert().map(Self).ok_or(vsss_rs::Error::SharingInvalidIdentifier)
    }
}

impl ShareElement for Point {
    type Serialization = [u8; 96];
    type Inner = G2;

    fn random(rng: impl CryptoRng) -> Self {
        Self(G2::generator() * &Element::random(rng).0)
    }

    fn zero() -> Self {
        Self::default()
    }

    fn one() -> Self {
        Self(G2::generator())
    }

    fn is_zero(&self) -> Choice {
        Choice::from(u8::from(self.0.is_identity()))
    }

    fn serialize(&self) -> [u8; 96] {
        self.0.encode().0
    }

    fn deserialize(serialized: &[u8; 96]) -> vsss_rs::VsssResult<Self> {
        Signature(*serialized).decode().map(Self).map_err(|_| vsss_rs::Error::InvalidShare)
    }

    fn from_slice(slice: &[u8]) -> vsss_rs::VsssResult<Self> {
        slice.try_into().map_err(|_| vsss_rs::Error::InvalidShare).and_then(|bytes| Self::deserialize(&bytes))
    }

    fn to_vec(&self) -> Vec<u8> {
        self.serialize().to_vec()
    }
}

impl From<&Element> for Element {
    fn from(element: &Element) -> Self {
        element.clone()
    }
}

impl From<&Element> for Point {
    fn from(element: &Element) -> Self {
        Self(G2::generator() * &element.0)
    }
}

impl Mul<&Element> for Element {
    type Output = Self;
    fn mul(self, other: &Element) -> Self {
        Self(self.0 * &other.0)
    }
}

impl Mul<&Element> for Point {
    type Output = Self;
    fn mul(self, other: &Element) -> Self {
        Self(self.0 * &other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::coins::Coins;
    use postern_shared::bls::Commitments;
    use postern_shared::lagrange;

    fn polynomial(threshold: usize) -> Polynomial {
        let coins = Coins::new(Zeroizing::new([3; 32]));
        Polynomial::sample(Scalar::from_u64(42), threshold, coins.stream("test", b"")).unwrap()
    }

    #[test]
    fn any_threshold_of_shares_gives_the_secret_in_the_exponent_and_fewer_do_not() {
        let polynomial = polynomial(3);
        let share = |id| (MemberId(id), G2::generator() * &polynomial.evaluate(MemberId(id)).unwrap());
        let secret = G2::generator() * &Scalar::from_u64(42);
        for set in [[1, 2, 3], [5, 1, 4], [2, 7, 3]] {
            assert_eq!(combine(&set.map(share), 3).as_ref(), Ok(&secret));
        }
        assert_ne!(combine(&[1, 2].map(share), 2), Ok(secret));
    }

    #[test]
    fn shares_lie_on_the_committed_polynomial() {
        let polynomial = polynomial(4);
        let commitments = Commitments::decode(&polynomial.commitments(), 4).unwrap();
        for id in (1..=20).map(MemberId) {
            assert_eq!(G1::generator() * &polynomial.evaluate(id).unwrap(), commitments.evaluate(id));
        }
        assert_eq!(G1::generator() * &polynomial.constant(), commitments.constant());
    }

    #[test]
    fn interpolation_agrees_with_the_plain_formula() {
        let polynomial = polynomial(3);
        let members = [2, 9, 4].map(MemberId);
        let weights = lagrange::at_zero(&members).unwrap();
        let mut direct = G2::identity();
        let shares = members.map(|id| (id, G2::generator() * &polynomial.evaluate(id).unwrap()));
        for ((_, share), weight) in shares.iter().zip(&weights) {
            direct += share * weight;
        }
        assert_eq!(combine(&shares, 3), Ok(direct));
    }

    #[test]
    fn what_vsss_rs_lets_pass_is_refused() {
        let coins = Coins::new(Zeroizing::new([3; 32]));
        assert!(matches!(
            Polynomial::sample(Scalar::from_u64(1), 1, coins.stream("test", b"")),
            Err(SharingError::Threshold(1))
        ));
        assert_eq!(polynomial(3).evaluate(MemberId(0)), Err(SharingError::ZeroIndex));
        let share = |id| (MemberId(id), G2::generator());
        assert_eq!(combine(&[share(1), share(1)], 2), Err(SharingError::DuplicateIndex(MemberId(1))));
        assert_eq!(combine(&[share(0), share(1)], 2), Err(SharingError::ZeroIndex));
        assert_eq!(combine(&[share(1)], 2), Err(SharingError::Count { expected: 2, found: 1 }));
    }
}
