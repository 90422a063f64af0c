//! A proposal: an epoch on its way through the members' hands.

use super::{ManifestFileError, read, replace, write_new};
use postern_shared::bytes::variable;
use postern_shared::ecdsa::EthereumSignature;
use postern_shared::eip712::Domain;
use postern_shared::epoch::{EpochMessage, SignedEpoch, WalletSignature, quorum};
use postern_shared::ids::MemberId;
use postern_shared::manifest::Manifest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// See the module. What it shows was checked against the manifests in it, and so was every signature.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// The manifest in force, as the proposal says: `apply` compares.
    pub predecessor: Manifest,
    /// The manifest that is proposed.
    pub manifest: Manifest,
    /// What wallets sign.
    pub message: EpochMessage,
    /// The proposed epoch, with the signatures so far.
    pub signed: SignedEpoch,
    /// Who signed, ascending.
    pub signers: Vec<MemberId>,
}

/// The file, as written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProposalFile {
    /// Canonical form of the manifest in force.
    #[serde(with = "variable")]
    predecessor: Vec<u8>,
    /// Canonical form of the proposed one.
    #[serde(with = "variable")]
    manifest: Vec<u8>,
    /// For people.
    changes: Vec<String>,
    /// For wallets: the second parameter of `eth_signTypedData_v4`.
    typed_data: Value,
    signatures: Vec<WalletSignature>,
}

/// What `eth_signTypedData_v4` takes.
pub fn typed_data(message: &EpochMessage) -> Value {
    let fields = |types: &[(&str, &str)]| -> Value {
        types.iter().map(|(name, kind)| json!({ "name": name, "type": kind })).collect()
    };
    json!({
        "types": {
            "EIP712Domain": fields(&[
                ("name", "string"),
                ("version", "string"),
                ("chainId", "uint256"),
                ("verifyingContract", "address"),
            ]),
            "ManifestEpoch": fields(&[
                ("dao", "string"),
                ("epoch", "uint64"),
                ("predecessor", "bytes32"),
                ("manifest", "bytes32"),
                ("council", "bytes32"),
                ("changes", "string"),
            ]),
        },
        "primaryType": "ManifestEpoch",
        "domain": {
            "name": Domain::NAME,
            "version": Domain::VERSION,
            "chainId": message.domain.chain_id,
            "verifyingContract": message.domain.verifying_contract,
        },
        "message": {
            "dao": message.dao,
            // As text: wallets written in JavaScript round large numbers.
            "epoch": message.epoch.to_string(),
            "predecessor": message.predecessor,
            "manifest": message.manifest,
            "council": message.council,
            "changes": message.changes,
        },
    })
}

impl Proposal {
    /// Nobody has signed yet.
    pub fn new(predecessor: Manifest, manifest: Manifest) -> Result<Self, postern_shared::epoch::EpochError> {
        let message = EpochMessage::new(&predecessor, &manifest)?;
        let signed = SignedEpoch::unsigned(&manifest);
        Ok(Self { predecessor, manifest, message, signed, signers: Vec::new() })
    }

    /// Reads a file and checks everything in it but whether enough signed.
    pub fn read(path: &Path) -> Result<Self, ManifestFileError> {
        Self::parse(path, &read(path)?)
    }

    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ManifestFileError> {
        let path = || path.to_owned();
        let epoch = |source| ManifestFileError::Epoch { path: path(), source };
        let file: ProposalFile = serde_json::from_slice(bytes).map_err(|error| ManifestFileError::Text {
            path: path(),
            what: "a proposal",
            reason: error.to_string(),
        })?;
        let manifest = |bytes: &[u8]| Manifest::from_canonical(bytes).map_err(|error| epoch(error.into()));
        let (predecessor, manifest) = (manifest(&file.predecessor)?, manifest(&file.manifest)?);
        let proposal = Self::new(predecessor, manifest).map_err(epoch)?;
        let altered = |field| Err(ManifestFileError::Altered { path: path(), field });
        if file.changes.join("\n") != proposal.message.changes {
            return altered("changes");
        }
        if file.typed_data != typed_data(&proposal.message) {
            return altered("typed_data");
        }
        let signed = SignedEpoch { signatures: file.signatures, ..proposal.signed };
        let signers = signed.signers(&proposal.predecessor).map_err(epoch)?;
        Ok(Self { signed, signers, ..proposal })
    }

    /// Adds a member's signature; refuses one that its wallet did not make. Whether it was missing.
    pub fn add(
        &mut self,
        member: MemberId,
        signature: EthereumSignature,
    ) -> Result<bool, postern_shared::epoch::EpochError> {
        let mut alone = SignedEpoch::unsigned(&self.manifest);
        alone.signatures.push(WalletSignature { member, signature });
        alone.signers(&self.predecessor)?;
        let Err(place) = self.signers.binary_search(&member) else { return Ok(false) };
        self.signers.insert(place, member);
        self.signed.signatures.append(&mut alone.signatures);
        self.signed.signatures.sort_by_key(|signature| signature.member);
        Ok(true)
    }

    /// How many must sign.
    pub fn needed(&self) -> usize {
        quorum(&self.predecessor)
    }

    /// Members that have not signed.
    pub fn missing(&self) -> Vec<MemberId> {
        let members = self.predecessor.members.iter().map(|member| member.id);
        members.filter(|id| !self.signers.contains(id)).collect()
    }

    /// Writes a file that must not be there yet.
    pub fn write_new(&self, path: &Path) -> Result<(), ManifestFileError> {
        write_new(path, &self.to_json(path)?)
    }

    /// Writes the file anew.
    pub fn replace(&self, path: &Path) -> Result<(), ManifestFileError> {
        replace(path, &self.to_json(path)?)
    }

    fn to_json(&self, path: &Path) -> Result<Vec<u8>, ManifestFileError> {
        let file = ProposalFile {
            predecessor: self.predecessor.to_canonical(),
            manifest: self.signed.manifest.clone(),
            changes: self.message.changes.lines().map(str::to_owned).collect(),
            typed_data: typed_data(&self.message),
            signatures: self.signed.signatures.clone(),
        };
        let text = serde_json::to_vec_pretty(&file)
            .map_err(|error| ManifestFileError::Write { path: path.to_owned(), source: error.into() })?;
        Ok([text, b"\n".to_vec()].concat())
    }
}
