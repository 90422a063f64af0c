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
    let weights = at_zero(&members)?;
    let scaled: Vec<Commitments> =
        polynomials.iter().zip(&weights).map(|((_, polynomial), weight)| polynomial.scale(weight)).collect();
    Some(Commitments::sum(&scaled))
}
