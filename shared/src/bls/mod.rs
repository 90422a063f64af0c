//! BLS12-381 as Ethereum uses it: public keys in G1, signatures in G2, proof-of-possession ciphersuite.
//!
//! [`PublicKey`] and [`Signature`] are compressed bytes as they travel; [`G1`], [`G2`] and [`Scalar`] are checked
//! elements to compute with. Decoding checks curve, subgroup and canonical form.

mod commitments;
mod dleq;
mod group;
mod knowledge;

pub use commitments::{Commitments, CommitmentsError};
pub use dleq::DleqProof;
pub use group::{G1, G2, PointError, Scalar, pairings_equal};
pub use knowledge::KnowledgeProof;

use crate::bytes::byte_newtype;
use crate::hash::Transcriber;

byte_newtype!(
    /// A compressed point of G1.
    PublicKey, 48
);
byte_newtype!(
    /// A compressed point of G2.
    Signature, 96
);
byte_newtype!(
    /// A public scalar, big-endian.
    ScalarBytes, 32
);

/// Hash-to-curve domain of Ethereum's signatures (consensus-specs, BLS signatures).
pub const ETHEREUM_DST: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

/// Why a signature was not accepted.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The public key is not a usable point.
    #[error("public key: {0}")]
    PublicKey(PointError),
    /// The signature is not a point.
    #[error("signature: {0}")]
    Signature(PointError),
    /// Both are well-formed, but the one was not made by the other over this message.
    #[error("the signature does not fit public key and message")]
    Mismatch,
}

impl PublicKey {
    /// The point, which is neither the identity nor outside the subgroup (`KeyValidate`).
    pub fn decode(&self) -> Result<G1, PointError> {
        let point = G1::decode(self)?;
        if point.is_identity() { Err(PointError::Identity) } else { Ok(point) }
    }

    /// Checks an Ethereum signature over `message` (usually a signing root).
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), VerifyError> {
        let key = self.decode().map_err(VerifyError::PublicKey)?;
        let point = signature.decode().map_err(VerifyError::Signature)?;
        verify_point(&key, &G2::hash(message, ETHEREUM_DST), &point)
    }
}

impl Signature {
    /// The point, which lies in the subgroup.
    pub fn decode(&self) -> Result<G2, PointError> {
        G2::decode(self)
    }
}

/// Checks `e(G, signature) = e(key, hashed)`: one product of two pairings.
pub fn verify_point(key: &G1, hashed: &G2, signature: &G2) -> Result<(), VerifyError> {
    if pairings_equal(&G1::generator(), signature, key, hashed) { Ok(()) } else { Err(VerifyError::Mismatch) }
}

/// The Fiat-Shamir challenge of a proof about these points, under a label of its own.
fn challenge(label: &'static str, context: &[u8], points: &[&G1]) -> Scalar {
    let half = |number: u64| {
        let start = Transcriber::new(label).number(number).bytes(context);
        points.iter().fold(start, |hash, point| hash.bytes(&point.encode().0)).finish()
    };
    let mut wide = [0; 64];
    wide[..32].copy_from_slice(&half(0).0);
    wide[32..].copy_from_slice(&half(1).0);
    Scalar::from_wide(&wide)
}
