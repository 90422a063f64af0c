//! Names of things. Each is its own type, so that one can't be handed in for another.

use crate::bytes::byte_newtype;
use serde::{Deserialize, Serialize};

/// A member of the DAO: 1, 2, … as in the manifest. It is also the member's Shamir index, so it is never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberId(pub u16);

/// A pool's number in the pool manager contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PoolId(pub u32);

impl core::fmt::Display for MemberId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "member {}", self.0)
    }
}

impl core::fmt::Display for PoolId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "pool {}", self.0)
    }
}

byte_newtype!(
    /// SHA-256 of a manifest's canonical form: which DAO, under which rules.
    ManifestHash, 32
);
byte_newtype!(
    /// One run of one protocol: a hash over everything that its participants must agree on before they start.
    CeremonyId, 32
);
byte_newtype!(
    /// SHA-256 of something; what, the field says.
    Digest, 32
);
byte_newtype!(
    /// A verifier's fresh random challenge.
    Nonce, 32
);
byte_newtype!(
    /// An SNP chip's identity, as in the report's `CHIP_ID`.
    ChipId, 64
);
byte_newtype!(
    /// An SNP launch measurement: SHA-384 over the initial memory of the VM.
    Measurement, 48
);
byte_newtype!(
    /// An Ethereum account or contract.
    Address, 20
);
