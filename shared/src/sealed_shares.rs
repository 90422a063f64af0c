//! Shares under encryption, one for each recipient, for everybody to see: the part that every dealing has. A recipient of
//! rubbish can open its share, and no other, to everybody.
//!
//! ECIES in G1: the dealer draws an ephemeral key `e` for the statement and publishes `E = e·G`; with the recipient's
//! dealing key `X = x·G` both know `K = e·X = x·E`. The share is encrypted with AES-256-GCM under HKDF-SHA256(`K`; the
//! statement's slot, both identities, `E`): one key, one message, so the nonce is fixed. A recipient that got rubbish publishes
//! `K` with a proof that it is right ([`DleqProof`]); that opens this one ciphertext and no other.
//!
//! # What a complaint gives to whoever provoked it
//! `K = x·E`, for an `E` that the dealer chose. If the dealer knows `e`, it could compute `e·X` itself and learns nothing.
//! If it did not have to, it could copy the `E` of an honest dealer, of this ceremony or any earlier one, complaints
//! would give it the keys to that dealer's shares, and one corrupted enclave would have the whole secret. So a dealer
//! proves that it knows `e` ([`KnowledgeProof`]), to everybody, before anything is opened. The proof names the slot and
//! covers the whole statement that it stands in, so it can't be copied either. In the algebraic group model
//! with a random oracle such proofs extract without rewinding (Fuchsbauer, Plouviez and Seurin, Eurocrypt 2020), so many
//! complaints at a time give no more than one.
//!
//! Nobody proves to know its `x`: who claims another's dealing key as its own can neither read what it is dealt nor
//! complain about it. The identities in the key's derivation keep its shares apart from the other's. This holds only as
//! long as a dealer never opens `e` or a `K` itself, so no dealing may have a step in which it does.

use crate::bls::{DleqProof, G1, KnowledgeProof, PublicKey, Scalar};
use crate::bytes::variable;
use crate::codec;
use crate::hash::Transcriber;
use crate::identity::Identity;
use crate::ids::Digest;
use crate::message::Slot;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Bytes that encryption adds.
pub const TAG_SIZE: usize = 16;

/// A share under encryption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptedShare(#[serde(with = "variable")] pub Vec<u8>);

/// All recipients' shares, as a dealer's statement has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedShares {
    /// `E`.
    pub ephemeral: PublicKey,
    /// That the dealer knows `e`.
    pub knowledge: KnowledgeProof,
    /// One for each recipient, in the order of the terms.
    pub shares: Vec<EncryptedShare>,
}

/// Sealed shares that pass every check that needs no secret.
#[derive(Debug, Clone)]
pub struct CheckedShares {
    ephemeral: Ephemeral,
    shares: Vec<EncryptedShare>,
}

/// `E`, as a point and as it is said: to encode a point costs an inversion, and every pair's key names it.
#[derive(Debug, Clone)]
struct Ephemeral {
    point: G1,
    encoded: PublicKey,
}

impl Ephemeral {
    fn of(secret: &Scalar) -> Self {
        let point = G1::generator() * secret;
        Self { encoded: point.encode(), point }
    }
}

/// Why sealed shares are refused.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealedSharesError {
    /// Not one ciphertext for each recipient, or one of a wrong size.
    #[error("{found} well-formed ciphertexts, not {expected}")]
    Count {
        /// Recipients.
        expected: usize,
        /// Ciphertexts of the right size.
        found: usize,
    },
    /// The ephemeral key is not a usable point.
    #[error("the ephemeral key is not a usable point")]
    Ephemeral,
    /// The dealer has not proved that it knows the ephemeral key's secret.
    #[error("the proof that the dealer knows its ephemeral secret does not hold")]
    Knowledge,
}

/// Between whom, in which statement.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The dealer's statement.
    pub slot: Slot,
    /// Who encrypts.
    pub dealer: &'a Identity,
    /// Who decrypts.
    pub recipient: &'a Identity,
}

/// A pair's key made public, with the proof that it is the pair's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// `K`.
    pub shared: PublicKey,
    /// That its discrete logarithm to the base `E` is that of the recipient's dealing key.
    pub proof: DleqProof,
}

impl SealedShares {
    /// Seals a share to each recipient, in their order. `rest` is all else in the statement; `blinding` draws the proof's
    /// secret for a context that it is given, and MUST draw another for another. `None` if a recipient's key is not a
    /// usable point.
    pub fn seal<'a>(
        slot: Slot,
        dealer: &Identity,
        rest: &impl Serialize,
        ephemeral: &Scalar,
        blinding: impl FnOnce(&[u8]) -> Scalar,
        shares: impl IntoIterator<Item = (&'a Identity, Zeroizing<Vec<u8>>)>,
    ) -> Option<Self> {
        let key = Ephemeral::of(ephemeral);
        let seal = |(recipient, share): (&Identity, Zeroizing<Vec<u8>>)| {
            let shared = recipient.dealing.decode().ok()? * ephemeral;
            Pair { slot, dealer, recipient }.seal(&key.encoded, &shared, &share)
        };
        let shares = shares.into_iter().map(seal).collect::<Option<_>>()?;
        Some(Self::prove_for(key, slot, rest, ephemeral, blinding, shares))
    }

    /// Shares that were sealed, with the proof that goes with them. See [`Self::seal`].
    pub fn prove(
        slot: Slot,
        rest: &impl Serialize,
        ephemeral: &Scalar,
        blinding: impl FnOnce(&[u8]) -> Scalar,
        shares: Vec<EncryptedShare>,
    ) -> Self {
        Self::prove_for(Ephemeral::of(ephemeral), slot, rest, ephemeral, blinding, shares)
    }

    fn prove_for(
        key: Ephemeral,
        slot: Slot,
        rest: &impl Serialize,
        secret: &Scalar,
        blinding: impl FnOnce(&[u8]) -> Scalar,
        shares: Vec<EncryptedShare>,
    ) -> Self {
        let context = context(slot, rest, &shares);
        let blinding = blinding(&codec::encode(&(&context, key.encoded)));
        let knowledge = KnowledgeProof::prove(secret, &key.point, &blinding, &context.0);
        Self { ephemeral: key.encoded, knowledge, shares }
    }

    /// Checks everything that needs no secret: `count` ciphertexts of plaintexts of `size` bytes, a usable ephemeral key,
    /// and that its dealer knows the secret of it. `rest` is all else in the statement.
    pub fn check(
        self,
        slot: Slot,
        rest: &impl Serialize,
        count: usize,
        size: usize,
    ) -> Result<CheckedShares, SealedSharesError> {
        let found = self.shares.iter().filter(|share| share.0.len() == size.saturating_add(TAG_SIZE)).count();
        if found != count || self.shares.len() != count {
            return Err(SealedSharesError::Count { expected: count, found });
        }
        let point = self.ephemeral.decode().map_err(|_| SealedSharesError::Ephemeral)?;
        let context = context(slot, rest, &self.shares);
        if !self.knowledge.verify(&point, &context.0) {
            return Err(SealedSharesError::Knowledge);
        }
        // What decodes is canonical: encoded again it is the same.
        let ephemeral = Ephemeral { point, encoded: self.ephemeral };
        Ok(CheckedShares { ephemeral, shares: self.shares })
    }
}

/// What a proof of knowledge is bound to: the slot, and all of the statement but the key, which the proof itself covers.
fn context(slot: Slot, rest: &impl Serialize, shares: &[EncryptedShare]) -> Digest {
    Transcriber::new("postern-sealed-shares-v1")
        .bytes(&codec::encode(&slot))
        .bytes(&codec::encode(rest))
        .bytes(&codec::encode(shares))
        .finish()
}

impl CheckedShares {
    /// Decrypts the share at `position`, the recipient's, with what its dealing secret makes of the ephemeral key. `None`
    /// if there is no such position, or the ciphertext is not authentic.
    pub fn open(
        &self,
        pair: &Pair<'_>,
        position: usize,
        shared: impl FnOnce(&G1) -> G1,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let Ephemeral { point, encoded } = &self.ephemeral;
        pair.open(encoded, &shared(point), self.shares.get(position)?)
    }

    /// Makes the pair's key public: for the recipient of a bad share, `secret` being its dealing secret. `blinding` is
    /// as in [`SealedShares::seal`].
    pub fn disclose(
        &self,
        pair: &Pair<'_>,
        secret: &Scalar,
        blinding: impl FnOnce(&[u8]) -> Scalar,
    ) -> Opening {
        let Ephemeral { point, encoded } = &self.ephemeral;
        let context = pair.info(encoded);
        let proof = DleqProof::prove(secret, point, &blinding(&context), &context);
        Opening { shared: (point * secret).encode(), proof }
    }

    /// What a recipient's opening shows: the decrypted share, if it decrypts at all. `None` if the opening itself does
    /// not hold: then it shows nothing.
    pub fn disclosed(
        &self,
        pair: &Pair<'_>,
        position: usize,
        opening: &Opening,
    ) -> Option<Option<Zeroizing<Vec<u8>>>> {
        let key = pair.recipient.dealing.decode().ok()?;
        let shared = opening.shared.decode().ok()?;
        let Ephemeral { point, encoded } = &self.ephemeral;
        let holds = opening.proof.verify(&key, point, &shared, &pair.info(encoded));
        holds.then(|| self.open(pair, position, |_| shared))
    }

    /// Whether a recipient's opening shows that its share is not `good`. One that does not hold shows nothing.
    pub fn shows_bad<T>(
        &self,
        pair: &Pair<'_>,
        position: usize,
        opening: &Opening,
        good: impl FnOnce(&[u8]) -> Option<T>,
    ) -> bool {
        let disclosed = self.disclosed(pair, position, opening);
        disclosed.is_some_and(|plain| plain.and_then(|plain| good(&plain)).is_none())
    }
}

impl Pair<'_> {
    /// What tells this pair's one key from all others.
    fn info(&self, ephemeral: &PublicKey) -> Vec<u8> {
        codec::encode(&(self.slot, self.dealer, self.recipient, ephemeral))
    }

    /// Encrypts under the point that the pair shares by the dealer's ephemeral key. `None` only of what no memory holds.
    pub fn seal(&self, ephemeral: &PublicKey, shared: &G1, plaintext: &[u8]) -> Option<EncryptedShare> {
        // With room for the tag: a buffer that grew would leave the plaintext behind.
        let mut buffer = Zeroizing::new(Vec::with_capacity(plaintext.len().saturating_add(TAG_SIZE)));
        buffer.extend_from_slice(plaintext);
        // Fails only for plaintexts beyond 2^36 bytes.
        self.cipher(ephemeral, shared).encrypt_in_place(&Nonce::default(), b"", &mut *buffer).ok()?;
        Some(EncryptedShare(core::mem::take(&mut *buffer)))
    }

    fn open(
        &self,
        ephemeral: &PublicKey,
        shared: &G1,
        ciphertext: &EncryptedShare,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let mut buffer = Zeroizing::new(ciphertext.0.clone());
        self.cipher(ephemeral, shared).decrypt_in_place(&Nonce::default(), b"", &mut *buffer).ok()?;
        Some(buffer)
    }

    fn cipher(&self, ephemeral: &PublicKey, shared: &G1) -> Aes256Gcm {
        let mut key = Zeroizing::new([0; 32]);
        let secret = shared.to_secret_bytes();
        let hkdf = hkdf::Hkdf::<sha2::Sha256>::new(Some(b"postern-sealed-share-v1"), &secret[..]);
        // 32 bytes are far below HKDF's limit, so this can't fail; the zero key would only make a share unreadable.
        let _ = hkdf.expand(&self.info(ephemeral), &mut key[..]);
        Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key))
    }
}
