//! Encryption of one dealt share to one recipient, openable to everybody when the share is bad.
//!
//! ECIES in G1: the dealer draws an ephemeral key `e` for the ceremony and publishes `E = e·G`; with the recipient's
//! dealing key `X = x·G` both know `K = e·X = x·E`. The share is encrypted with AES-256-GCM under
//! HKDF-SHA256(K; ceremony, dealer, recipient): one key, one message, so the nonce is fixed. A recipient that got
//! rubbish publishes `K` with a proof that it is right ([`DleqProof`]); that opens this one ciphertext and no other.

use crate::bls::{DleqProof, G1, PublicKey, Scalar};
use crate::bytes::variable;
use crate::codec;
use crate::ids::{CeremonyId, MemberId};
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Bytes that encryption adds.
pub const TAG_SIZE: usize = 16;

/// Between whom, in which ceremony.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The ceremony.
    pub ceremony: CeremonyId,
    /// Who encrypts.
    pub dealer: MemberId,
    /// Who decrypts.
    pub recipient: MemberId,
}

/// A share under encryption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptedShare(#[serde(with = "variable")] pub Vec<u8>);

/// A pair's key made public, with the proof that it is the pair's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// `K`.
    pub shared: PublicKey,
    /// That its discrete logarithm to the base `E` is that of the recipient's dealing key.
    pub proof: DleqProof,
}

impl Pair {
    /// Encrypts under the pair's shared point.
    pub fn seal(&self, shared: &G1, plaintext: &[u8]) -> EncryptedShare {
        let mut buffer = plaintext.to_vec();
        match self.cipher(shared).encrypt_in_place(&Nonce::default(), b"", &mut buffer) {
            Ok(()) => EncryptedShare(buffer),
            // Only for plaintexts beyond 2^36 bytes; the recipient refuses it.
            Err(_) => EncryptedShare(Vec::new()),
        }
    }

    /// Decrypts under the pair's shared point; `None` if the ciphertext is not authentic.
    pub fn open(&self, shared: &G1, ciphertext: &EncryptedShare) -> Option<Zeroizing<Vec<u8>>> {
        let mut buffer = Zeroizing::new(ciphertext.0.clone());
        self.cipher(shared).decrypt_in_place(&Nonce::default(), b"", &mut *buffer).ok()?;
        Some(buffer)
    }

    /// Makes the pair's key public: for the recipient of a bad share, `secret` being its dealing secret.
    pub fn disclose(&self, secret: &Scalar, ephemeral: &G1, blinding: &Scalar) -> Opening {
        let shared = *ephemeral * secret;
        let proof = DleqProof::prove(secret, ephemeral, blinding, &codec::encode(self));
        Opening { shared: shared.encode(), proof }
    }

    /// The shared point of an opening, if its proof holds for the recipient's dealing key.
    pub fn check_opening(&self, opening: &Opening, dealing: &PublicKey, ephemeral: &G1) -> Option<G1> {
        let key = dealing.decode().ok()?;
        let shared = opening.shared.decode().ok()?;
        opening.proof.verify(&key, ephemeral, &shared, &codec::encode(self)).then_some(shared)
    }

    fn cipher(&self, shared: &G1) -> Aes256Gcm {
        let mut key = Zeroizing::new([0; 32]);
        let secret = Zeroizing::new(shared.encode().0);
        let hkdf = hkdf::Hkdf::<sha2::Sha256>::new(Some(b"postern-pairwise-v1"), &secret[..]);
        // 32 bytes are far below HKDF's limit, so this can't fail; the zero key would only make a share unreadable.
        let _ = hkdf.expand(&codec::encode(self), &mut key[..]);
        Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key))
    }
}
