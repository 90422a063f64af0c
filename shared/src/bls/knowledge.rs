//! Proof of knowledge of a discrete logarithm (Schnorr 1991, Fiat-Shamir over SHA-256).
//!
//! Its one use: a dealer proves that it knows the secret of the ephemeral key under which it deals. A recipient that
//! complains publishes `x_i·E`; about an `E` whose secret the dealer knows, that tells the dealer nothing new, and about
//! one that it has copied from somebody else, it tells it everything.

use super::{G1, Scalar, ScalarBytes, challenge};
use serde::{Deserialize, Serialize};

/// That whoever made it knows the secret of a public key, in one context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnowledgeProof {
    challenge: ScalarBytes,
    response: ScalarBytes,
}

impl KnowledgeProof {
    /// Proves knowledge of the secret of `key`, which is `secret·G`. `blinding` must be uniform, secret, and another for
    /// each pair of secret and context; `context` is bound into the proof. One multiplication.
    pub fn prove(secret: &Scalar, key: &G1, blinding: &Scalar, context: &[u8]) -> Self {
        let challenge = challenge(LABEL, context, &[key, &(G1::generator() * blinding)]);
        let response = blinding.clone() + challenge.clone() * secret;
        Self { challenge: ScalarBytes(challenge.to_bytes()), response: ScalarBytes(response.to_bytes()) }
    }

    /// Whether its maker knew the secret of `key`. Two multiplications.
    pub fn verify(&self, key: &G1, context: &[u8]) -> bool {
        let (Some(claimed), Some(response)) =
            (Scalar::from_bytes(&self.challenge.0), Scalar::from_bytes(&self.response.0))
        else {
            return false;
        };
        let blinding = G1::generator() * &response - key * &claimed;
        challenge(LABEL, context, &[key, &blinding]) == claimed
    }
}

const LABEL: &str = "postern-knowledge-v1";
