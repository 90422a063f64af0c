//! Feldman commitments: a polynomial in the exponent.

use super::{G1, PointError, PublicKey};
use crate::ids::MemberId;
use alloc::vec::Vec;

/// Commitments `C_k = a_k·G` to a polynomial of exactly degree t-1: decoded, subgroup-checked, `C_{t-1}` not the
/// identity (a lower degree would lower the threshold).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commitments(Vec<G1>);

/// Why a list of points is no commitment to a polynomial of the wanted degree.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitmentsError {
    /// Another number of points than the threshold.
    #[error("expected {expected} commitments, found {found}")]
    Count {
        /// The threshold.
        expected: usize,
        /// Points found.
        found: usize,
    },
    /// A point that is none.
    #[error("commitment {position}: {error}")]
    Point {
        /// Which coefficient.
        position: usize,
        /// What is wrong with it.
        error: PointError,
    },
}

impl Commitments {
    /// Reads `threshold` points. The first must not be the identity when the polynomial's constant term is a secret of
    /// its own (keygen), and the last never.
    pub fn decode(points: &[PublicKey], threshold: usize) -> Result<Self, CommitmentsError> {
        if points.len() != threshold {
            return Err(CommitmentsError::Count { expected: threshold, found: points.len() });
        }
        let decode = |(position, point): (usize, &PublicKey)| {
            point.decode().map_err(|error| CommitmentsError::Point { position, error })
        };
        points.iter().enumerate().map(decode).collect::<Result<_, _>>().map(Self)
    }

    /// Puts a known constant term before the commitments to the other coefficients.
    pub fn with_constant(constant: G1, rest: &Commitments) -> Self {
        Self(core::iter::once(constant).chain(rest.0.iter().cloned()).collect())
    }

    /// The compressed points.
    pub fn encode(&self) -> Vec<PublicKey> {
        self.0.iter().map(G1::encode).collect()
    }

    /// The polynomial at 0: the public key of the shared secret.
    pub fn constant(&self) -> G1 {
        self.0.first().cloned().unwrap_or_default()
    }

    /// The polynomial at a member's index, by Horner's rule: t-1 short multiplications.
    pub fn evaluate(&self, member: MemberId) -> G1 {
        self.0.iter().rev().fold(G1::identity(), |sum, coefficient| sum.times(member.0) + coefficient)
    }

    /// The sum of several polynomials of one degree, coefficient by coefficient.
    pub fn sum<'a>(polynomials: impl IntoIterator<Item = &'a Commitments>) -> Self {
        let mut total: Vec<G1> = Vec::new();
        for polynomial in polynomials {
            total.resize(total.len().max(polynomial.0.len()), G1::identity());
            total.iter_mut().zip(&polynomial.0).for_each(|(sum, point)| *sum += point);
        }
        Self(total)
    }

    /// Every coefficient times a short public number.
    pub fn times(&self, number: u128) -> Self {
        Self(self.0.iter().map(|point| point.times(number)).collect())
    }

    /// Every coefficient with the other sign.
    pub fn negate(&self) -> Self {
        Self(self.0.iter().map(|point| -point).collect())
    }

    /// Every coefficient times a public scalar.
    pub fn scale(&self, factor: &super::Scalar) -> Self {
        Self(self.0.iter().map(|point| point * factor).collect())
    }
}
