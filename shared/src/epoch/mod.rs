//! How a DAO changes its manifest: epoch by epoch, each naming the one before it and signed by the governance wallets of
//! *that* one's members.
//!
//! 1. [`changes`] says, line by line, what a manifest changes in its predecessor, and refuses what no epoch may change.
//! 2. Each member's wallet signs those lines and both hashes ([`EpochMessage`], EIP-712), so that it shows what it signs.
//! 3. [`SignedEpoch::verify`] works the lines out anew and counts wallets: more than half of the predecessor's members,
//!    and as many as the higher threshold. Two quorums have a member in common, so a DAO does not split by itself.
//!    Epoch 1, which names the members' enclaves, takes all of them.
//! 4. [`follow`] goes along a chain of such epochs. Whoever knows any manifest of the chain can follow it, as an enclave
//!    does that was launched long ago.
//!
//! What this can't show is that there is no later epoch: a host may keep one back.

mod change;
mod cut;
mod message;
mod rules;

pub use change::{Change, changes};
pub use cut::{CutError, Waiting, cut};
pub use message::EpochMessage;

use crate::bytes::variable;
use crate::codec::{self, DecodeError};
use crate::ecdsa::{EthereumSignature, SignatureFault, recover};
use crate::identity::Identity;
use crate::ids::{Address, Digest, ManifestHash, MemberId};
use crate::manifest::{Contracts, MAX_MEMBERS, Manifest, ManifestError};
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Longest signed epoch that is read, in bytes. The largest manifest takes about a third of it.
pub const MAX_SIGNED_EPOCH: usize = 128 * 1024;

/// A manifest, and who of its predecessor's members want it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedEpoch {
    /// The manifest's canonical form.
    #[serde(with = "variable")]
    pub manifest: Vec<u8>,
    /// One for each member that signed, in any order.
    pub signatures: Vec<WalletSignature>,
}

/// A member's signature, by the wallet that the predecessor names for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalletSignature {
    /// Who.
    pub member: MemberId,
    /// Of [`EpochMessage::digest`].
    pub signature: EthereumSignature,
}

/// Why a manifest does not follow another.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// Not the form of a signed epoch.
    #[error("signed epoch: {0}")]
    Decode(DecodeError),
    /// More bytes than any signed epoch has.
    #[error("signed epoch: at most {MAX_SIGNED_EPOCH} bytes wanted, {0} found")]
    TooLong(usize),
    /// The manifest by itself is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Epochs count one by one.
    #[error("epoch {found} where {expected} is due")]
    Epoch {
        /// The next one.
        expected: u64,
        /// The manifest's.
        found: u64,
    },
    /// It names another manifest as the one before it.
    #[error("the predecessor is {found}, not {expected}")]
    Predecessor {
        /// The one before it.
        expected: ManifestHash,
        /// The one it names.
        found: ManifestHash,
    },
    /// It is of another DAO.
    #[error("the genesis is {found}, not {expected}")]
    Genesis {
        /// This DAO's.
        expected: ManifestHash,
        /// The one it names.
        found: ManifestHash,
    },
    /// What is what it is for ever.
    #[error("`{0}` can't be changed by any epoch")]
    Fixed(&'static str),
    /// Ids are Shamir indices, so nobody leaves the list.
    #[error("{0} is missing: members can't be removed")]
    MemberRemoved(MemberId),
    /// Ids are Shamir indices, so nobody takes another's place.
    #[error("{to} has wallet or host key of {from}: members can't change places")]
    MemberMoved {
        /// Whose they were.
        from: MemberId,
        /// Whose they would be.
        to: MemberId,
    },
    /// An enclave is named once for each machine, and another machine has another.
    #[error("the enclave of {0} changes with its machine, and only then")]
    Enclave(MemberId),
    /// A cut names who acts, and from where, for all.
    #[error(
        "the cut of epoch {epoch} must name the enclave of {member} as it is, if that had one before, and only then"
    )]
    Cut {
        /// Which.
        epoch: u64,
        /// Who is missing, or too much.
        member: MemberId,
    },
    /// Machines count up one by one, from 0.
    #[error("machine {found} of {member} where {lowest} to {highest} may be")]
    Machine {
        /// Whose.
        member: MemberId,
        /// The least it may be.
        lowest: u32,
        /// The most it may be.
        highest: u32,
        /// What it is.
        found: u32,
    },
    /// A key of an enclave before comes back: the pool manager never takes one that was replaced, nor any epoch after that.
    #[error("the enclave of {0} has a key of another one before it")]
    KeyReturns(MemberId),
    /// An earlier pool manager comes back. It was told of no epoch since it was replaced, and can be told of none now.
    #[error("{0} was the pool manager before, and has missed epochs since")]
    ManagerReturns(Address),
    /// Measurements stay listed, so that retired ones are known for ever.
    #[error("measurement `{0}` is missing: give it an `until_epoch` instead")]
    MeasurementRemoved(String),
    /// A measurement's entry says something else than before.
    #[error("measurement `{name}`: `{field}` can't be changed")]
    MeasurementAltered {
        /// Its name.
        name: String,
        /// What of it.
        field: &'static str,
    },
    /// What was no longer acceptable would be so again.
    #[error("downgrade: {0}")]
    Downgrade(String),
    /// The same as before.
    #[error("the epoch changes nothing")]
    NoChange,
    /// A signer that the predecessor does not know.
    #[error("{0} signed and is no member of the epoch before")]
    UnknownSigner(MemberId),
    /// A signer counted twice.
    #[error("{0} signed twice")]
    SignedTwice(MemberId),
    /// Not the one form of a wallet's signature.
    #[error("signature of {member}: {fault}")]
    Signature {
        /// Whose it would be.
        member: MemberId,
        /// What is wrong with it.
        fault: SignatureFault,
    },
    /// A signature by another key, or of another message.
    #[error("signature of {member}: by wallet {found} or of something else, not by {expected} of this epoch")]
    OtherWallet {
        /// Whose it would be.
        member: MemberId,
        /// The wallet in the predecessor.
        expected: Address,
        /// Whom the signature gives for this message.
        found: Address,
    },
    /// No quorum.
    #[error("signed by {found} members, {needed} are needed")]
    TooFewSigners {
        /// More than half, and the higher threshold.
        needed: usize,
        /// Good signatures.
        found: usize,
    },
}

/// Which epoch of a chain does not follow the one before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("epoch {epoch}: {source}")]
pub struct ChainError {
    /// The one that was due.
    pub epoch: u64,
    /// Why it is refused.
    pub source: EpochError,
}

impl SignedEpoch {
    /// Nobody has signed yet.
    pub fn unsigned(manifest: &Manifest) -> Self {
        Self { manifest: manifest.to_canonical(), signatures: Vec::new() }
    }

    /// Reads the one form of a signed epoch, without judging what it says.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EpochError> {
        if bytes.len() > MAX_SIGNED_EPOCH {
            return Err(EpochError::TooLong(bytes.len()));
        }
        codec::decode(bytes).map_err(EpochError::Decode)
    }

    /// The form to store and to send.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// What the wallets sign; refuses a manifest that may not follow.
    pub fn message(&self, predecessor: &Manifest) -> Result<EpochMessage, EpochError> {
        Ok(self.successor(predecessor)?.1)
    }

    fn successor(&self, predecessor: &Manifest) -> Result<(Manifest, EpochMessage), EpochError> {
        let manifest = Manifest::from_canonical(&self.manifest)?;
        let message = EpochMessage::new(predecessor, &manifest)?;
        Ok((manifest, message))
    }

    /// Checks everything but whether enough signed; says who did, ascending.
    pub fn signers(&self, predecessor: &Manifest) -> Result<Vec<MemberId>, EpochError> {
        self.check_signatures(predecessor, &self.message(predecessor)?)
    }

    /// The manifest, if it may follow and a quorum of the predecessor's members signed it. One bad signature spoils all:
    /// nobody should send them around.
    pub fn verify(&self, predecessor: &Manifest) -> Result<Manifest, EpochError> {
        let (manifest, message) = self.successor(predecessor)?;
        let found = self.check_signatures(predecessor, &message)?.len();
        let needed = quorum(predecessor);
        if found < needed {
            return Err(EpochError::TooFewSigners { needed, found });
        }
        Ok(manifest)
    }

    fn check_signatures(
        &self,
        predecessor: &Manifest,
        message: &EpochMessage,
    ) -> Result<Vec<MemberId>, EpochError> {
        let digest = message.digest();
        // Hostile lists end at the first unknown or repeated signer, so no more is recovered than there are members.
        let mut signers: Vec<MemberId> = Vec::with_capacity(self.signatures.len().min(MAX_MEMBERS));
        for &WalletSignature { member, signature } in &self.signatures {
            let entry = predecessor.member(member).ok_or(EpochError::UnknownSigner(member))?;
            let Err(place) = signers.binary_search(&member) else {
                return Err(EpochError::SignedTwice(member));
            };
            let found =
                recover(&digest, &signature).map_err(|fault| EpochError::Signature { member, fault })?;
            if found != entry.governance {
                return Err(EpochError::OtherWallet { member, expected: entry.governance, found });
            }
            signers.insert(place, member);
        }
        Ok(signers)
    }
}

/// How many members of a manifest must sign the one after it. All of them found the DAO: each has compared its own enclave's
/// fingerprint, and nobody else could.
pub fn quorum(manifest: &Manifest) -> usize {
    let (thresholds, members) = (manifest.thresholds, manifest.members.len());
    if !manifest.is_founded() {
        return members;
    }
    let majority = members / 2 + 1;
    majority.max(usize::from(thresholds.operator.max(thresholds.guardian)))
}

/// The newest manifest of a chain that begins after `start`.
pub fn follow(start: &Manifest, epochs: &[SignedEpoch]) -> Result<Manifest, ChainError> {
    epochs.iter().try_fold(start.clone(), |manifest, next| next_of(&manifest, next))
}

/// All manifests of a chain that begins with `start`, the newest last.
pub fn chain(start: &Manifest, epochs: &[SignedEpoch]) -> Result<Vec<Manifest>, ChainError> {
    let mut manifests = alloc::vec![start.clone()];
    epochs.iter().try_fold(start.clone(), |manifest, next| {
        let manifest = next_of(&manifest, next)?;
        manifests.push(manifest.clone());
        Ok(manifest)
    })?;
    Ok(manifests)
}

/// A pool manager that a DAO has named: pools of all of them are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolManager {
    /// Which.
    pub contract: Address,
    /// What it creates pools by.
    pub pool_code: Digest,
    /// Its events are in this block or later ones.
    pub start_block: u64,
    /// The epoch that has named it.
    pub since: u64,
    /// The last epoch that it can be told of, since that follows on a manifest which names it; 0 before there is one, and nothing
    /// is founded there.
    pub epoch: u64,
}

impl PoolManager {
    /// Whether it goes by this epoch, or did: enclaves prove in that one what it may do.
    pub fn goes_by(&self, epoch: u64) -> bool {
        self.since < epoch && epoch <= self.epoch
    }

    /// Whether an epoch that follows on a manifest is to be told to it.
    fn learns_from(&self, before: &Manifest) -> bool {
        before.contracts.pool_manager == self.contract
    }
}

/// The pool managers of a chain, each once, the oldest first.
pub fn pool_managers(manifests: &[Manifest]) -> Vec<PoolManager> {
    let mut managers = Vec::new();
    let mut before = None;
    for manifest in manifests {
        follow_manager(&mut managers, before, manifest);
        before = Some(manifest);
    }
    managers
}

/// What a manifest that follows on another changes in the pool managers so far.
pub fn follow_manager(managers: &mut Vec<PoolManager>, before: Option<&Manifest>, next: &Manifest) {
    if let Some(before) = before {
        for manager in managers.iter_mut().filter(|manager| manager.learns_from(before)) {
            manager.epoch = next.epoch;
        }
    }
    let Contracts { pool_manager: contract, pool_code, start_block, deposit: _ } = next.contracts;
    if !managers.iter().any(|known| known.contract == contract) {
        managers.push(PoolManager { contract, pool_code, start_block, since: next.epoch, epoch: 0 });
    }
}

/// Refuses what `next` brings back of what was replaced before `current`: keys, by all enclaves that are `known`, and pool managers.
/// The one in force that was told of the replacement could never be told of such an epoch, nor of any after it.
pub fn check_returns(
    known: impl IntoIterator<Item = Identity>,
    managers: &[PoolManager],
    current: &Manifest,
    next: &Manifest,
) -> Result<(), EpochError> {
    for before in known {
        for after in &next.members {
            let same = (before.member, before.machine) == (after.id, after.machine);
            if !same && after.enclave.is_some_and(|keys| keys.shares_a_key_with(&before.keys())) {
                return Err(EpochError::KeyReturns(after.id));
            }
        }
    }
    let named = next.contracts.pool_manager;
    let returns =
        named != current.contracts.pool_manager && managers.iter().any(|manager| manager.contract == named);
    if returns { Err(EpochError::ManagerReturns(named)) } else { Ok(()) }
}

fn next_of(manifest: &Manifest, next: &SignedEpoch) -> Result<Manifest, ChainError> {
    next.verify(manifest).map_err(|source| ChainError { epoch: manifest.epoch.saturating_add(1), source })
}
