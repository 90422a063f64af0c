//! The DAO's constitution: members, thresholds, chain, contracts, and which enclaves are acceptable.
//!
//! People write it in TOML; its identity is the SHA-256 of its canonical `postcard` form. It changes by epochs
//! ([`crate::epoch`]), each of which names the one before it.

use crate::bytes::byte_newtype;
use crate::codec::{self, DecodeError};
use crate::ethereum::Network;
use crate::hash::Transcriber;
use crate::ids::{Address, ChipId, ManifestHash, MemberId, PoolId};
use crate::policy::AttestationRules;
use alloc::{format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// The only version of the format that this build reads.
pub const MANIFEST_VERSION: u16 = 2;
/// Most members that a DAO can have. A keygen's transcript grows with the square of it and must fit half a frame.
pub const MAX_MEMBERS: usize = 40;
/// Most chips that a member can list: the machine in use, and those that may replace it.
pub const MAX_CHIPS: usize = 8;
/// Longest name, in bytes.
pub const MAX_NAME: usize = 64;

byte_newtype!(
    /// The Ed25519 public key by which a member's host is known to other hosts.
    HostKey, 32
);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub version: u16,
    /// What people call the DAO.
    pub name: String,
    /// Counts changes of the manifest, from 0.
    pub epoch: u64,
    /// The guardian whose host sends transactions and whose enclave combines releases.
    pub leader: MemberId,
    /// Where it comes from: nothing in epoch 0, and something in every other.
    #[serde(default)]
    pub history: Option<History>,
    /// The chain.
    pub network: Network,
    /// The DAO's contracts on it.
    pub contracts: Contracts,
    /// How many must agree.
    pub thresholds: Thresholds,
    /// Which enclaves are acceptable.
    pub attestation: AttestationRules,
    /// The members, with ids 1, 2, …
    pub members: Vec<Member>,
}

/// The manifests before this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// The manifest of epoch 0: the DAO's name for ever.
    pub genesis: ManifestHash,
    /// The manifest of the epoch before.
    pub predecessor: ManifestHash,
}

/// The contracts that Postern serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contracts {
    /// Emits pool events, takes deposits. Pools of those that earlier manifests named go on being served.
    pub pool_manager: Address,
    /// The beacon chain's deposit contract.
    pub deposit: Address,
}

/// How many of each role must agree. At least 2: one alone would hold the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Operators that sign together.
    pub operator: u16,
    /// Guardians that release together.
    pub guardian: u16,
}

/// One organisation of the DAO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its number, which is its Shamir index too.
    pub id: MemberId,
    /// What people call it.
    pub name: String,
    /// Its account on the execution layer.
    pub wallet: Address,
    /// Its host's key.
    pub host_key: HostKey,
    /// Counts how often its machine was replaced. A new number means that the enclave known so far is gone for good, and
    /// that another, with an identity of its own, is admitted in its place.
    #[serde(default)]
    pub machine: u32,
    /// The chips of its servers: the enclave must run on one of them.
    #[serde(default)]
    pub chip_ids: Vec<ChipId>,
    /// Holds shares of validators' keys.
    #[serde(default = "yes")]
    pub operator: bool,
    /// Holds shares of presigned exits.
    #[serde(default = "yes")]
    pub guardian: bool,
}

fn yes() -> bool {
    true
}

/// Why a manifest is not one. Names the field.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not the canonical form of any manifest.
    #[error("manifest: {0}")]
    Decode(DecodeError),
    /// Not TOML, or not the fields of a manifest.
    #[error("manifest: {0}")]
    Text(String),
    /// A field with a value that can't be.
    #[error("manifest field `{field}`: {reason}")]
    Field {
        /// Path of the field, as in TOML.
        field: String,
        /// What is wrong.
        reason: String,
    },
}

fn field<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, ManifestError> {
    Err(ManifestError::Field { field: field.into(), reason: reason.into() })
}

impl Manifest {
    /// Reads the canonical form and checks it.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = codec::decode(bytes).map_err(ManifestError::Decode)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// Reads TOML and checks it.
    #[cfg(feature = "toml")]
    pub fn from_toml(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text).map_err(|error| ManifestError::Text(format!("{error}")))?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// Writes TOML.
    #[cfg(feature = "toml")]
    pub fn to_toml(&self) -> Result<String, ManifestError> {
        toml::to_string(self).map_err(|error| ManifestError::Text(format!("{error}")))
    }

    /// The canonical form.
    pub fn to_canonical(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The manifest's identity.
    pub fn hash(&self) -> ManifestHash {
        ManifestHash(Transcriber::new("postern-manifest-v1").bytes(&self.to_canonical()).finish().0)
    }

    /// The DAO's identity, the same in all epochs: the hash of its first manifest.
    pub fn genesis(&self) -> ManifestHash {
        self.history.map_or_else(|| self.hash(), |history| history.genesis)
    }

    /// The full name of a pool of the pool manager in force.
    pub fn pool(&self, number: u32) -> PoolId {
        PoolId::new(self.network.chain_id, self.contracts.pool_manager, number)
    }

    /// A member's entry.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Who holds key shares, ascending.
    pub fn operators(&self) -> Vec<MemberId> {
        self.members.iter().filter(|member| member.operator).map(|member| member.id).collect()
    }

    /// Who holds exit shares, ascending.
    pub fn guardians(&self) -> Vec<MemberId> {
        self.members.iter().filter(|member| member.guardian).map(|member| member.id).collect()
    }

    /// Whether these operators, ascending, may make a key without the others.
    pub fn is_operator_committee(&self, members: &[MemberId]) -> bool {
        is_committee(members, &self.operators(), self.thresholds.operator)
    }

    /// Whether these guardians, ascending, may be given an exit without the others.
    pub fn is_guardian_committee(&self, members: &[MemberId]) -> bool {
        is_committee(members, &self.guardians(), self.thresholds.guardian)
    }

    /// Checks everything that can be checked without asking anybody.
    pub fn validate(&self) -> Result<(), ManifestError> {
        if self.version != MANIFEST_VERSION {
            return field(
                "version",
                format!("this build reads version {MANIFEST_VERSION}, not {}", self.version),
            );
        }
        check_name(&self.name).or_else(|reason| field("name", reason))?;
        self.validate_history()?;
        self.validate_members()?;
        self.validate_threshold(
            "thresholds.operator",
            self.thresholds.operator,
            self.operators().len(),
            "operators",
        )?;
        self.validate_threshold(
            "thresholds.guardian",
            self.thresholds.guardian,
            self.guardians().len(),
            "guardians",
        )?;
        // Guardians seal their shares to the leader's enclave, which must be one whose keys a release knows.
        if !self.guardians().contains(&self.leader) {
            return field("leader", format!("{} is not a guardian", self.leader));
        }
        self.attestation
            .validate(self.epoch)
            .map_err(|(field, reason)| ManifestError::Field { field, reason })?;
        if self.contracts.pool_manager == self.contracts.deposit {
            return field("contracts.pool_manager", "the same as contracts.deposit");
        }
        Ok(())
    }

    fn validate_history(&self) -> Result<(), ManifestError> {
        match (self.epoch, &self.history) {
            (0, Some(_)) => field("history", "epoch 0 has none"),
            (1.., None) => field("history", format!("epoch {} needs one", self.epoch)),
            // The first epoch after the genesis is the only one whose predecessor it is.
            (epoch, Some(history)) if (epoch == 1) != (history.genesis == history.predecessor) => {
                field("history.predecessor", "the genesis precedes epoch 1 and no other")
            }
            _ => Ok(()),
        }
    }

    fn validate_threshold(
        &self,
        name: &str,
        threshold: u16,
        count: usize,
        role: &str,
    ) -> Result<(), ManifestError> {
        if threshold < 2 {
            return field(name, format!("{threshold} is below 2: one alone would hold the secret"));
        }
        if usize::from(threshold) > count {
            return field(name, format!("{threshold} of only {count} {role}"));
        }
        Ok(())
    }

    fn validate_members(&self) -> Result<(), ManifestError> {
        if self.members.len() < 2 || self.members.len() > MAX_MEMBERS {
            return field("members", format!("2 to {MAX_MEMBERS} wanted, {} found", self.members.len()));
        }
        for (position, member) in self.members.iter().enumerate() {
            let path = |name: &str| format!("members[{position}].{name}");
            if usize::from(member.id.0) != position + 1 {
                return field(
                    path("id"),
                    format!("{} where {} is due: ids count from 1", member.id.0, position + 1),
                );
            }
            check_name(&member.name).or_else(|reason| field(path("name"), reason))?;
            if member.chip_ids.iter().any(|chip| chip.0 == [0; 64]) {
                return field(path("chip_ids"), "a masked chip identity names no chip");
            }
            if member.chip_ids.len() > MAX_CHIPS {
                let found = member.chip_ids.len();
                return field(path("chip_ids"), format!("at most {MAX_CHIPS} wanted, {found} found"));
            }
            if member.chip_ids.is_empty() && !self.attestation.chips_may_hide() {
                return field(path("chip_ids"), "none, and attestation.relax lets no chip hide");
            }
            if !member.operator && !member.guardian {
                return field(path("operator"), "neither operator nor guardian");
            }
            let earlier = || self.members.iter().take(position);
            let duplicates = [
                ("name", earlier().any(|other| other.name == member.name)),
                ("wallet", earlier().any(|other| other.wallet == member.wallet)),
                ("host_key", earlier().any(|other| other.host_key == member.host_key)),
                (
                    "chip_ids",
                    earlier().any(|other| other.chip_ids.iter().any(|chip| member.chip_ids.contains(chip))),
                ),
            ];
            if let Some((name, _)) = duplicates.iter().find(|(_, duplicate)| *duplicate) {
                return field(path(name), "another member has the same");
            }
        }
        Ok(())
    }
}

/// Enough for the threshold, and more than half of all: so any two committees have a member in common, and hosts can't
/// split a DAO into two that go their own ways.
fn is_committee(members: &[MemberId], all: &[MemberId], threshold: u16) -> bool {
    let ascending = members.windows(2).all(|pair| pair.first() < pair.last());
    let known = members.iter().all(|member| all.contains(member));
    let found = members.len();
    ascending && known && found >= usize::from(threshold) && found > all.len() / 2
}

/// What is wrong with a name, if anything.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!("1 to {MAX_NAME} bytes wanted, {} found", name.len()));
    }
    if name.chars().any(char::is_control) {
        return Err("control characters".into());
    }
    Ok(())
}
