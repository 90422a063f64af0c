//! Proof that two points have the same discrete logarithm (Chaum and Pedersen 1992, Fiat-Shamir over SHA-256).
//!
//! Its one use: the recipient of a bad deal opens the key that it shares with the dealer, so that anybody can decrypt
//! that one ciphertext, and proves that the key is the right one.

use super::{G1, Scalar, ScalarBytes, challenge};
use serde::{Deserialize, Serialize};

/// `secret·G = key` and `secret·base = shared`, for one unknown secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DleqProof {
    challenge: ScalarBytes,
    response: ScalarBytes,
}

impl DleqProof {
    /// Proves that `shared = secret·base` for the secret of the public key `secret·G`. `blinding` must be uniform,
    /// secret and fresh for each pair of secret and base; `context` is bound into the proof.
    pub fn prove(secret: &Scalar, base: &G1, blinding: &Scalar, context: &[u8]) -> Self {
        let key = G1::generator() * secret;
        let shared = base * secret;
        let (first, second) = (G1::generator() * blinding, base * blinding);
        let challenge = challenge(LABEL, context, &[&key, base, &shared, &first, &second]);
        let response = blinding.clone() + challenge.clone() * secret;
        Self { challenge: ScalarBytes(challenge.to_bytes()), response: ScalarBytes(response.to_bytes()) }
    }

    /// Whether `shared` is `key`'s secret times `base`.
    pub fn verify(&self, key: &G1, base: &G1, shared: &G1, context: &[u8]) -> bool {
        let (Some(claimed), Some(response)) =
            (Scalar::from_bytes(&self.challenge.0), Scalar::from_bytes(&self.response.0))
        else {
            return false;
        };
        let first = G1::generator() * &response - key * &claimed;
        let second = base * &response - shared * &claimed;
        challenge(LABEL, context, &[key, base, shared, &first, &second]) == claimed
    }
}

const LABEL: &str = "postern-dleq-v1";
