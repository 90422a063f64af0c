//! The three Ethereum messages that Postern signs, their SSZ roots, domains and signing roots.
//!
//! Only what consensus-specs fixes for ever: all containers are of fixed size, so each root is a few SHA-256 calls.
//! Deposits are signed under the genesis fork version and a zero root (phase0 `process_deposit`); exits under the
//! Capella fork version for ever (EIP-7044).

use crate::bls::{PublicKey, Signature};
use crate::bytes::byte_newtype;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

byte_newtype!(
    /// A 32-byte SSZ root, domain or signing root.
    Root, 32
);
byte_newtype!(
    /// A fork version of a network.
    ForkVersion, 4
);
byte_newtype!(
    /// Where a validator's stake goes: a prefix byte and an address (or a hash).
    WithdrawalCredentials, 32
);

/// The stake of one validator, in Gwei.
pub const VALIDATOR_STAKE_GWEI: u64 = 32_000_000_000;

const DOMAIN_DEPOSIT: [u8; 4] = [3, 0, 0, 0];
const DOMAIN_VOLUNTARY_EXIT: [u8; 4] = [4, 0, 0, 0];

/// What of a network goes into signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// EIP-155 chain id of the execution layer.
    pub chain_id: u64,
    /// `GENESIS_FORK_VERSION` of the beacon chain.
    pub genesis_fork_version: ForkVersion,
    /// `CAPELLA_FORK_VERSION` of the beacon chain.
    pub capella_fork_version: ForkVersion,
    /// `genesis_validators_root` of the beacon chain.
    pub genesis_validators_root: Root,
}

/// `DepositMessage` of consensus-specs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositMessage {
    /// The validator's key.
    pub pubkey: PublicKey,
    /// Where the stake goes.
    pub withdrawal_credentials: WithdrawalCredentials,
    /// Gwei.
    pub amount: u64,
}

/// `DepositData` of consensus-specs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositData {
    /// What is signed.
    pub message: DepositMessage,
    /// By the validator's key.
    pub signature: Signature,
}

/// `VoluntaryExit` of consensus-specs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoluntaryExit {
    /// The first epoch in which the exit is valid.
    pub epoch: u64,
    /// The validator's index on the beacon chain.
    pub validator_index: u64,
}

/// `SignedVoluntaryExit` of consensus-specs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedVoluntaryExit {
    /// What is signed.
    pub message: VoluntaryExit,
    /// By the validator's key.
    pub signature: Signature,
}

impl WithdrawalCredentials {
    /// `0x01` credentials: the stake goes to an execution-layer address.
    pub fn execution(address: crate::ids::Address) -> Self {
        let mut bytes = [0; 32];
        bytes[0] = 1;
        bytes[12..].copy_from_slice(&address.0);
        Self(bytes)
    }
}

impl DepositMessage {
    /// `hash_tree_root` of the container.
    pub fn hash_tree_root(&self) -> Root {
        merkleize([pubkey_root(&self.pubkey), self.withdrawal_credentials.0, uint64(self.amount), [0; 32]])
    }

    /// What the validator's key signs for a deposit on the network with this genesis fork version.
    pub fn signing_root(&self, genesis_fork_version: ForkVersion) -> Root {
        let domain = compute_domain(DOMAIN_DEPOSIT, genesis_fork_version, Root([0; 32]));
        compute_signing_root(self.hash_tree_root(), domain)
    }
}

impl DepositData {
    /// Whether its key has signed it, on the network with this genesis fork version.
    pub fn is_signed(&self, genesis_fork_version: ForkVersion) -> bool {
        let root = self.message.signing_root(genesis_fork_version);
        self.message.pubkey.verify(&root.0, &self.signature).is_ok()
    }

    /// `hash_tree_root` of the container: the deposit contract's `deposit_data_root`.
    pub fn hash_tree_root(&self) -> Root {
        let signature = &self.signature.0;
        let signature_root =
            merkleize([chunk(&signature[..32]), chunk(&signature[32..64]), chunk(&signature[64..]), [0; 32]]);
        merkleize([
            pubkey_root(&self.message.pubkey),
            self.message.withdrawal_credentials.0,
            uint64(self.message.amount),
            signature_root.0,
        ])
    }
}

impl VoluntaryExit {
    /// `hash_tree_root` of the container.
    pub fn hash_tree_root(&self) -> Root {
        merkleize([uint64(self.epoch), uint64(self.validator_index)])
    }

    /// What the validator's key signs for an exit (EIP-7044).
    pub fn signing_root(&self, capella_fork_version: ForkVersion, genesis_validators_root: Root) -> Root {
        let domain = compute_domain(DOMAIN_VOLUNTARY_EXIT, capella_fork_version, genesis_validators_root);
        compute_signing_root(self.hash_tree_root(), domain)
    }
}

/// `compute_domain` of consensus-specs.
pub fn compute_domain(
    domain_type: [u8; 4],
    fork_version: ForkVersion,
    genesis_validators_root: Root,
) -> Root {
    let fork_data_root = merkleize([chunk(&fork_version.0), genesis_validators_root.0]);
    let mut domain = [0; 32];
    domain[..4].copy_from_slice(&domain_type);
    domain[4..].copy_from_slice(&fork_data_root.0[..28]);
    Root(domain)
}

/// `compute_signing_root` of consensus-specs.
pub fn compute_signing_root(object_root: Root, domain: Root) -> Root {
    merkleize([object_root.0, domain.0])
}

fn pubkey_root(pubkey: &PublicKey) -> [u8; 32] {
    merkleize([chunk(&pubkey.0[..32]), chunk(&pubkey.0[32..])]).0
}

fn uint64(number: u64) -> [u8; 32] {
    chunk(&number.to_le_bytes())
}

/// Right-pads at most 32 bytes with zeros.
fn chunk(bytes: &[u8]) -> [u8; 32] {
    let mut chunk = [0; 32];
    chunk.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    chunk
}

/// Merkle root of a power of two of chunks.
fn merkleize<const N: usize>(mut chunks: [[u8; 32]; N]) -> Root {
    const { assert!(N.is_power_of_two()) };
    let mut width = N;
    while width > 1 {
        width /= 2;
        for parent in 0..width {
            let hash =
                sha2::Sha256::new().chain_update(chunks[2 * parent]).chain_update(chunks[2 * parent + 1]);
            chunks[parent] = hash.finalize().into();
        }
    }
    Root(chunks[0])
}
