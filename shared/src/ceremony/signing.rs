//! Partial signatures with the shares of one key over one message: the part of every ceremony that signs.

use crate::bls::{self, Commitments, G1, G2, Signature};
use crate::ids::MemberId;

/// A message that holders of shares sign, hashed to the curve, and the public keys of these shares.
#[derive(Debug, Clone)]
pub struct Signing<'a> {
    /// What all sign.
    pub message: G2,
    /// The shared polynomial in the exponent.
    pub polynomial: &'a Commitments,
}

impl Signing<'_> {
    /// Whether a member has signed with its share.
    pub fn is_partial(&self, member: MemberId, partial: &Signature) -> bool {
        is_good(&self.polynomial.evaluate(member), &self.message, partial)
    }

    /// Whether this is the signature of the key itself.
    pub fn is_whole(&self, signature: &Signature) -> bool {
        is_good(&self.polynomial.constant(), &self.message, signature)
    }
}

fn is_good(key: &G1, message: &G2, signature: &Signature) -> bool {
    signature.decode().is_ok_and(|signature| bls::verify_point(key, message, &signature).is_ok())
}
