//! What a wallet signs (EIP-712), in words that it can show.

use super::change::changes;
use super::wallet::keccak;
use super::{Change, EpochError};
use crate::ids::{Address, ManifestHash};
use crate::manifest::Manifest;
use alloc::{
    string::{String, ToString},
    vec::Vec,
};

/// One new epoch of one DAO. Everything in here follows from the two manifests, so that nobody can make a wallet show
/// something else than what it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochMessage {
    /// Of the domain: the chain.
    pub chain_id: u64,
    /// Of the domain: the predecessor's pool manager.
    pub verifying_contract: Address,
    /// The DAO's name, as the predecessor knows it.
    pub dao: String,
    /// The new epoch.
    pub epoch: u64,
    /// Hash of the manifest in force.
    pub predecessor: ManifestHash,
    /// Hash of the new one.
    pub manifest: ManifestHash,
    /// What it changes, a line each.
    pub changes: String,
}

impl EpochMessage {
    /// `name` of the domain.
    pub const DOMAIN_NAME: &str = "Postern";
    /// `version` of the domain.
    pub const DOMAIN_VERSION: &str = "1";
    /// The domain's type, as EIP-712 encodes it.
    pub const DOMAIN_TYPE: &str =
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
    /// The message's type, as EIP-712 encodes it.
    pub const TYPE: &str =
        "ManifestEpoch(string dao,uint64 epoch,bytes32 predecessor,bytes32 manifest,string changes)";

    /// Refuses a manifest that may not follow.
    pub fn new(predecessor: &Manifest, manifest: &Manifest) -> Result<Self, EpochError> {
        let lines: Vec<String> = changes(predecessor, manifest)?.iter().map(Change::to_string).collect();
        Ok(Self {
            chain_id: predecessor.network.chain_id,
            verifying_contract: predecessor.contracts.pool_manager,
            dao: predecessor.name.clone(),
            epoch: manifest.epoch,
            predecessor: predecessor.hash(),
            manifest: manifest.hash(),
            changes: lines.join("\n"),
        })
    }

    /// What goes into the signature.
    pub fn digest(&self) -> [u8; 32] {
        let domain = keccak(
            &[
                keccak(Self::DOMAIN_TYPE.as_bytes()),
                keccak(Self::DOMAIN_NAME.as_bytes()),
                keccak(Self::DOMAIN_VERSION.as_bytes()),
                right_aligned(&self.chain_id.to_be_bytes()),
                right_aligned(&self.verifying_contract.0),
            ]
            .concat(),
        );
        let message = keccak(
            &[
                keccak(Self::TYPE.as_bytes()),
                keccak(self.dao.as_bytes()),
                right_aligned(&self.epoch.to_be_bytes()),
                self.predecessor.0,
                self.manifest.0,
                keccak(self.changes.as_bytes()),
            ]
            .concat(),
        );
        keccak(&[&[0x19, 0x01], &domain[..], &message[..]].concat())
    }
}

/// Numbers and addresses fill a word from its end.
fn right_aligned<const N: usize>(bytes: &[u8; N]) -> [u8; 32] {
    let mut word = [0; 32];
    for (to, from) in word.iter_mut().rev().zip(bytes.iter().rev()) {
        *to = *from;
    }
    word
}
