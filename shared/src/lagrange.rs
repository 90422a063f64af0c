//! Lagrange interpolation at 0, for public identifiers.

use crate::bls::{Commitments, Scalar};
use crate::ids::MemberId;
use alloc::vec::Vec;

/// For each member `i` of the set, `Π_{j≠i} j / (j - i)`. `None` if an index is 0 or appears twice.
pub fn at_zero(members: &[MemberId]) -> Option<Vec<Scalar>> {
    let index = |member: &MemberId| Scalar::from_u64(member.0.into());
    let coefficient = |i: &MemberId| {
        let others = || members.iter().filter(|j| *j != i);
        // A duplicate of `i` would be skipped above, so the count tells.
        if i.0 == 0 || others().count() + 1 != members.len() {
            return None;
        }
        let one = Scalar::from_u64(1);
        let numerator = others().fold(one.clone(), |product, j| product * index(j));
        let denominator = others().fold(one, |product, j| product * (index(j) - index(i)));
        Some(numerator * denominator.invert()?)
    };
    members.iter().map(coefficient).collect()
}

/// Members' polynomials, in the exponent, weighted by Lagrange. At 0 it is what their constant terms interpolate to at 0: the
/// key, if these are the public keys of as many shares of it as its threshold. `None` as for [`at_zero`].
pub fn combine(polynomials: &[(MemberId, &Commitments)]) -> Option<Commitments> {
    let members: Vec<MemberId> = polynomials.iter().map(|(member, _)| *member).collect();
    let all = || polynomials.iter().map(|(_, polynomial)| *polynomial);
    let Some(Fractions { numerators, denominator }) = Fractions::at_zero(&members) else {
        let weights = at_zero(&members)?;
        let scaled = all().zip(&weights).map(|(polynomial, weight)| polynomial.scale(weight));
        return Some(Commitments::sum(&scaled.collect::<Vec<_>>()));
    };
    let scaled = all().zip(&numerators).map(|(polynomial, numerator)| {
        let scaled = polynomial.times(numerator.magnitude);
        if numerator.is_negative { scaled.negate() } else { scaled }
    });
    let sum = Commitments::sum(&scaled.collect::<Vec<_>>());
    if denominator == 1 { Some(sum) } else { Some(sum.scale(&Scalar::from_u64(denominator).invert()?)) }
}

/// The coefficients of [`at_zero`] as fractions with one denominator. Members' numbers are small, so these are much shorter than
/// scalars, and a point is multiplied with them in a fraction of the time.
struct Fractions {
    numerators: Vec<Whole>,
    denominator: u64,
}

struct Whole {
    is_negative: bool,
    magnitude: u128,
}

impl Fractions {
    /// `None` if they are not that short, or as for [`at_zero`].
    fn at_zero(members: &[MemberId]) -> Option<Self> {
        let mut reduced = Vec::with_capacity(members.len());
        for i in members {
            let (mut is_negative, mut above, mut below) = (false, 1_u128, 1_u128);
            // Once for itself, else it is there twice.
            if i.0 == 0 || members.iter().filter(|j| *j == i).count() != 1 {
                return None;
            }
            for j in members.iter().filter(|j| *j != i) {
                is_negative ^= j < i;
                let (factor, divisor) = (u128::from(j.0), u128::from(j.0.abs_diff(i.0)));
                let common = gcd(factor, divisor);
                let (factor, divisor) = (factor.checked_div(common)?, divisor.checked_div(common)?);
                // What is above and what is below never have a factor in common: so they stay as short as can be.
                let (up, down) = (gcd(factor, below), gcd(divisor, above));
                above = above.checked_div(down)?.checked_mul(factor.checked_div(up)?)?;
                below = below.checked_div(up)?.checked_mul(divisor.checked_div(down)?)?;
            }
            reduced.push((is_negative, above, below));
        }
        let denominator = reduced
            .iter()
            .try_fold(1_u128, |all, (_, _, below)| all.checked_div(gcd(all, *below))?.checked_mul(*below))?;
        let whole = |(is_negative, above, below): (bool, u128, u128)| {
            Some(Whole { is_negative, magnitude: denominator.checked_div(below)?.checked_mul(above)? })
        };
        let numerators = reduced.into_iter().map(whole).collect::<Option<_>>()?;
        Some(Self { numerators, denominator: denominator.try_into().ok()? })
    }
}

/// The greatest common divisor of two numbers, of which the first is not 0.
fn gcd(one: u128, other: u128) -> u128 {
    let (mut one, mut other) = (one, other);
    while let Some(rest) = one.checked_rem(other) {
        (one, other) = (other, rest);
    }
    one
}
