//! Who an enclave is: four public keys made inside it, bound to its code by attestation.

use crate::bls::PublicKey;
use crate::bytes::byte_newtype;
use crate::codec;
use crate::hash::Transcriber;
use crate::ids::{Address, Digest, MemberId};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

byte_newtype!(
    /// An Ed25519 public key.
    SigningKey, 32
);
byte_newtype!(
    /// An Ed25519 signature.
    IdentitySignature, 64
);
byte_newtype!(
    /// An X25519 public key, for envelopes (HPKE).
    AgreementKey, 32
);

/// The public keys of an enclave, as a manifest names them for a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnclaveKeys {
    /// [`Identity::signing`].
    pub signing: SigningKey,
    /// [`Identity::agreement`].
    pub agreement: AgreementKey,
    /// [`Identity::dealing`].
    pub dealing: PublicKey,
    /// [`Identity::signer`].
    pub signer: Address,
}

impl EnclaveKeys {
    /// Of this member's enclave on this machine.
    pub fn identity(self, member: MemberId, machine: u32) -> Identity {
        let Self { signing, agreement, dealing, signer } = self;
        Identity { member, machine, signing, agreement, dealing, signer }
    }

    /// Whether any key is in both: two enclaves never have one in common.
    pub fn shares_a_key_with(&self, other: &Self) -> bool {
        self.signing == other.signing
            || self.agreement == other.agreement
            || self.dealing == other.dealing
            || self.signer == other.signer
    }
}

/// The public keys of one member's enclave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Whose enclave this is.
    pub member: MemberId,
    /// Which of the member's machines it was started for, as the manifest counts them. Another machine's enclave is
    /// another identity for good, even to those who have never met the first.
    pub machine: u32,
    /// Signs broadcasts.
    pub signing: SigningKey,
    /// Opens envelopes.
    pub agreement: AgreementKey,
    /// Opens the member's part of a deal. In G1, so that a bad deal can be opened to everybody with a proof that the
    /// key is the right one.
    pub dealing: PublicKey,
    /// The account of its secp256k1 key: proves to the pool manager what it may do.
    pub signer: Address,
}

/// The identities that take part in a ceremony, by ascending member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster(Vec<Identity>);

impl Identity {
    /// The keys alone.
    pub fn keys(&self) -> EnclaveKeys {
        let Self { signing, agreement, dealing, signer, .. } = *self;
        EnclaveKeys { signing, agreement, dealing, signer }
    }

    /// What people compare: of member, machine and keys.
    pub fn fingerprint(&self) -> Digest {
        Transcriber::new("postern-identity-v1").bytes(&self.to_bytes()).finish()
    }

    /// The bytes that attestation binds.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Whether `signature` is this enclave's over `message`. Strict: no small-order keys, no malleable signatures.
    pub fn verify(&self, message: &[u8], signature: &IdentitySignature) -> bool {
        ed25519_dalek::VerifyingKey::from_bytes(&self.signing.0).is_ok_and(|key| {
            key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok()
        })
    }
}

impl Roster {
    /// Sorts identities by member; of two of one member the first counts.
    pub fn new(mut identities: Vec<Identity>) -> Self {
        identities.sort_by_key(|identity| identity.member);
        identities.dedup_by_key(|identity| identity.member);
        Self(identities)
    }

    /// The identity of a member.
    pub fn get(&self, member: MemberId) -> Option<&Identity> {
        self.0.iter().find(|identity| identity.member == member)
    }

    /// All members, ascending.
    pub fn members(&self) -> impl Iterator<Item = MemberId> {
        self.0.iter().map(|identity| identity.member)
    }

    /// All identities, ascending.
    pub fn identities(&self) -> &[Identity] {
        &self.0
    }

    /// Which identities these are.
    pub fn digest(&self) -> Digest {
        Transcriber::new("postern-roster-v1").bytes(&codec::encode(self)).finish()
    }
}
