//! Names of things. Each is its own type, so that one can't be handed in for another.

use crate::bytes::byte_newtype;
use crate::eip712::{keccak, word};
use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A member of the DAO: 1, 2, … as in the manifest. It is also the member's Shamir index, so it is never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberId(pub u16);

/// A pool's full name. The number alone names nothing: each contract counts its own pools, and a DAO's pool manager may
/// change ([`crate::epoch`]).
///
/// Its text is `CHAIN-CONTRACT-NUMBER`, as in `1-0x00000000219ab540356cbb839cbe05303d7705fa-3`, the same in JSON, in file
/// names and in keys; [`Display`](fmt::Display) is for people who know the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId {
    /// EIP-155 chain id.
    pub chain: u64,
    /// The pool manager that it is a pool of.
    pub contract: Address,
    /// Its number there.
    pub number: u32,
}

/// Text that names no pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a pool's full name: CHAIN-CONTRACT-NUMBER, as in 1-0x00000000219ab540356cbb839cbe05303d7705fa-3"
)]
pub struct PoolNameError;

/// The binary form.
#[derive(Serialize, Deserialize)]
#[serde(rename = "PoolId")]
struct PoolParts {
    chain: u64,
    contract: Address,
    number: u32,
}

impl PoolId {
    /// A contract's pool of this number.
    pub const fn new(chain: u64, contract: Address, number: u32) -> Self {
        Self { chain, contract, number }
    }

    /// Its address: what CREATE2 gives a manager that salts with the pool's number. `code` is the hash of the code by which it
    /// creates pools.
    pub fn address(&self, code: &Digest) -> Address {
        let salt = word(&self.number.to_be_bytes());
        let [_, _, _, _, _, _, _, _, _, _, _, _, address @ ..] =
            keccak(&[&[0xff], &self.contract.0[..], &salt, &code.0].concat());
        Address(address)
    }

    /// The text that every script can read, and that [`FromStr`] reads again.
    pub fn text(&self) -> String {
        alloc::format!("{}-{}-{}", self.chain, self.contract, self.number)
    }
}

impl FromStr for PoolId {
    type Err = PoolNameError;

    fn from_str(text: &str) -> Result<Self, PoolNameError> {
        let (chain, rest) = text.split_once('-').ok_or(PoolNameError)?;
        let (contract, number) = rest.split_once('-').ok_or(PoolNameError)?;
        let pool = Self {
            chain: chain.parse().map_err(|_| PoolNameError)?,
            contract: contract.parse().map_err(|_| PoolNameError)?,
            number: number.parse().map_err(|_| PoolNameError)?,
        };
        // One pool, one name: people may copy an address with capitals, and nothing else is spelt in two ways.
        if pool.text().eq_ignore_ascii_case(text) { Ok(pool) } else { Err(PoolNameError) }
    }
}

impl Serialize for PoolId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.text())
        } else {
            let Self { chain, contract, number } = *self;
            PoolParts { chain, contract, number }.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PoolId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            let PoolParts { chain, contract, number } = PoolParts::deserialize(deserializer)?;
            Ok(Self { chain, contract, number })
        }
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {}", self.0)
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool {} of {}", self.number, self.contract)
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
