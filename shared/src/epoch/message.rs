//! What a wallet signs (EIP-712), in words that it can show.

use super::change::changes;
use super::{Change, EpochError};
use crate::eip712::{Domain, keccak, word};
use crate::ids::{Digest, ManifestHash};
use crate::manifest::Manifest;
use crate::proof::Council;
use alloc::{
    string::{String, ToString},
    vec::Vec,
};

/// One new epoch of one DAO. Everything in here follows from the two manifests, so that nobody can make a wallet show
/// something else than what it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochMessage {
    /// The predecessor's pool manager.
    pub domain: Domain,
    /// The DAO's name, as the predecessor knows it.
    pub dao: String,
    /// The new epoch.
    pub epoch: u64,
    /// Hash of the manifest in force.
    pub predecessor: ManifestHash,
    /// Hash of the new one.
    pub manifest: ManifestHash,
    /// What of it the pool manager has to know.
    pub council: Digest,
    /// What it changes, a line each.
    pub changes: String,
}

impl EpochMessage {
    /// The message's type, as EIP-712 encodes it.
    pub const TYPE: &str = "ManifestEpoch(string dao,uint64 epoch,bytes32 predecessor,bytes32 manifest,bytes32 council,string changes)";

    /// Refuses a manifest that may not follow.
    pub fn new(predecessor: &Manifest, manifest: &Manifest) -> Result<Self, EpochError> {
        let lines: Vec<String> = changes(predecessor, manifest)?.iter().map(Change::to_string).collect();
        Ok(Self {
            domain: predecessor.domain(),
            dao: predecessor.name.clone(),
            epoch: manifest.epoch,
            predecessor: predecessor.hash(),
            manifest: manifest.hash(),
            council: Council::of(manifest).digest(),
            changes: lines.join("\n"),
        })
    }

    /// What goes into the signature.
    pub fn digest(&self) -> [u8; 32] {
        self.domain.digest(
            Self::TYPE,
            &[
                keccak(self.dao.as_bytes()),
                word(&self.epoch.to_be_bytes()),
                self.predecessor.0,
                self.manifest.0,
                self.council.0,
                keccak(self.changes.as_bytes()),
            ],
        )
    }
}
