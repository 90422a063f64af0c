//! The DAO's constitution: members, thresholds, chain, contracts, and which enclaves are acceptable.
//!
//! People write it in TOML; its identity is the SHA-256 of its canonical `postcard` form. It changes by epochs
//! ([`crate::epoch`]), each of which names the one before it.

use crate::bytes::byte_newtype;
use crate::codec::{self, DecodeError};
use crate::committee;
use crate::eip712::Domain;
use crate::ethereum::Network;
use crate::hash::Transcriber;
use crate::identity::{EnclaveKeys, Identity};
use crate::ids::{Address, ChipId, Digest, ManifestHash, MemberId, PoolId};
use crate::policy::AttestationRules;
use crate::witness::{Ballot, Place};
use alloc::{format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// The only version of the format that this build reads.
pub const MANIFEST_VERSION: u16 = 6;
/// Fewest members that a DAO can have: of two, none could be away without the other one standing still.
pub const MIN_MEMBERS: usize = 3;
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
    /// The member whose host sends transactions before others' hosts do, and whose enclave proposes first.
    pub leader: MemberId,
    /// Where it comes from: nothing in epoch 0, and something in every other.
    #[serde(default)]
    pub history: Option<History>,
    /// The chain.
    pub network: Network,
    /// The DAO's contracts on it.
    pub contracts: Contracts,
    /// How many must act together.
    pub thresholds: Thresholds,
    /// How many must agree.
    pub agreement: Agreement,
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
    /// Keccak-256 of the code by which it creates pools: with it a pool's address follows from its number, and no host has to
    /// be believed.
    pub pool_code: Digest,
    /// The block in which the pool manager was deployed, or an earlier one. Hosts look for its events from there on.
    pub start_block: u64,
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
    /// Enclaves that prove to the pool manager what it may do. At least as many as the other two, and more than half of all.
    pub proof: u16,
}

/// What members remember for each other, and how many of them it takes. See `postern-enclave`, `witness`.
///
/// [`Thresholds`] are about secrets: fewer than that many broken enclaves learn and sign nothing. Everything that is *agreed*
/// (where a log stands, one key for a pool) holds for [`Quorum::broken`] broken enclaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// q: more than half of all members, and fewer than all.
    pub quorum: u16,
    /// Whether enclaves that have all lost their power find back by themselves when all are there. Then half of all hosts
    /// and one more, together, can take everything back in time.
    #[serde(default)]
    pub automatic_return: bool,
    /// The newest cut, if there ever was one.
    #[serde(default)]
    pub cut: Option<Cut>,
}

/// A way back that the DAO has taken upon itself: so many enclaves were restored at a time that no quorum was left to ask.
/// The DAO says which copy of each may act, and from where. What others remember of the time before counts no more, so it
/// must be sure that these are the newest states, and that no quorum of others goes on unseen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The epoch that made it.
    pub epoch: u64,
    /// One for each member whose machine that epoch did not replace.
    pub members: Vec<Resumed>,
}

/// A copy of an enclave that may act: one that acts already, or one that was restored and whose claim the DAO has judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resumed {
    /// Whose.
    pub member: MemberId,
    /// Which copy: its nonce is fresh.
    pub ballot: Ballot,
    /// The place at which the last before it acted.
    pub place: Place,
}

/// How many members it takes to agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorum {
    members: usize,
    quorum: usize,
    automatic: bool,
}

impl Quorum {
    /// q of n members, if that is a quorum: more than half, and fewer than all.
    pub const fn new(members: usize, quorum: usize) -> Option<Self> {
        if quorum > members / 2 && quorum < members {
            Some(Self { members, quorum, automatic: false })
        } else {
            None
        }
    }

    /// n.
    pub const fn members(&self) -> usize {
        self.members
    }

    /// Other members that must remember a place in a log before anything that depends on it leaves the enclave. With the
    /// enclave itself q.
    pub const fn to_act(&self) -> usize {
        self.quorum.saturating_sub(1)
    }

    /// Other members that must know of nothing newer before a restored enclave acts again.
    pub const fn to_return(&self) -> usize {
        self.quorum
    }

    /// b: enclaves that may be broken, forget and lie, without an honest one being taken back in time.
    pub const fn broken(&self) -> usize {
        self.quorum.saturating_mul(2).saturating_sub(self.members).saturating_sub(1)
    }

    /// Members that may be away while nobody restarts.
    pub const fn away(&self) -> usize {
        self.members.saturating_sub(self.quorum)
    }

    /// Members that may be away while another one restarts.
    pub const fn away_at_return(&self) -> usize {
        self.members.saturating_sub(self.quorum).saturating_sub(1)
    }

    /// The same without finding back after a total loss of power.
    pub const fn governed(self) -> Self {
        Self { automatic: false, ..self }
    }

    /// Whether all together find back after a total loss of power.
    pub const fn is_automatic(&self) -> bool {
        self.automatic
    }
}

/// One organisation of the DAO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its number, which is its Shamir index too.
    pub id: MemberId,
    /// What people call it.
    pub name: String,
    /// The account that pays for its transactions. Its key lies on the host.
    pub wallet: Address,
    /// The account that governs: it signs epochs. Its key is never on a host: who had enough of them could admit code of
    /// its own, and have all state handed over.
    pub governance: Address,
    /// Its host's key.
    pub host_key: HostKey,
    /// Counts how often its machine was replaced. A new number means that the enclave known so far is gone for good, and
    /// that another, with an identity of its own, is admitted in its place.
    #[serde(default)]
    pub machine: u32,
    /// The keys of its enclave on that machine. In epoch 0 nobody has any: enclaves are made for that manifest. Epoch 1 founds
    /// the DAO by naming them all, and no other enclave is ever a member's.
    #[serde(default)]
    pub enclave: Option<EnclaveKeys>,
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
        // First, because another version has other fields.
        check_version(codec::decode_beginning(bytes).map_err(ManifestError::Decode)?)?;
        let manifest: Self = codec::decode(bytes).map_err(ManifestError::Decode)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// Reads TOML and checks it.
    #[cfg(feature = "toml")]
    pub fn from_toml(text: &str) -> Result<Self, ManifestError> {
        if let Ok(Versioned { version }) = toml::from_str(text) {
            check_version(version)?;
        }
        let manifest: Self = toml::from_str(text)
            .map_err(|error| ManifestError::Text(crate::toml_fault::describe_in(text, &error)))?;
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

    /// For whom wallets and enclaves sign.
    pub fn domain(&self) -> Domain {
        Domain { chain_id: self.network.chain_id, verifying_contract: self.contracts.pool_manager }
    }

    /// Whether the DAO is founded: its members' enclaves are named.
    pub fn is_founded(&self) -> bool {
        self.epoch > 0
    }

    /// The enclave that is a member's.
    pub fn identity(&self, id: MemberId) -> Option<Identity> {
        let entry = self.member(id)?;
        entry.enclave.map(|keys| keys.identity(id, entry.machine))
    }

    /// The enclaves that it names.
    pub fn identities(&self) -> impl Iterator<Item = Identity> {
        self.members.iter().filter_map(|member| Some(member.enclave?.identity(member.id, member.machine)))
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

    /// How many members it takes to agree.
    pub fn quorum(&self) -> Quorum {
        let (members, quorum) = (self.members.len(), self.agreement.quorum.into());
        Quorum { members, quorum, automatic: self.agreement.automatic_return }
    }

    /// The epoch of the newest cut; 0 if there was none. Part of every ballot since.
    pub fn era(&self) -> u64 {
        self.agreement.cut.as_ref().map_or(0, |cut| cut.epoch)
    }

    /// The least quorum by which what members agree on holds for as many broken enclaves as secrets do: ⌈(n+t)/2⌉ for the
    /// higher threshold t. It may be more than there can be.
    pub fn quorum_for_thresholds(&self) -> usize {
        let threshold = self.thresholds.operator.max(self.thresholds.guardian);
        committee::least(self.members.len(), threshold.into())
    }

    /// Whether these operators, ascending, may make a key without the others: see [`committee::least`].
    pub fn is_operator_committee(&self, members: &[MemberId]) -> bool {
        let all = self.operators();
        let least = committee::least(all.len(), self.thresholds.operator.into());
        are_some(members, &all) && members.len() >= least
    }

    /// Whether these guardians, ascending, may be given an exit without the others: enough for the threshold, and more than
    /// half of all. That there may be several such committees does no harm: all are given the same exit.
    pub fn is_guardian_committee(&self, members: &[MemberId]) -> bool {
        let all = self.guardians();
        let least = usize::from(self.thresholds.guardian).max((all.len() / 2).saturating_add(1));
        are_some(members, &all) && members.len() >= least
    }

    /// Checks everything that can be checked without asking anybody.
    pub fn validate(&self) -> Result<(), ManifestError> {
        check_version(self.version)?;
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
        self.validate_proof()?;
        self.validate_agreement()?;
        if self.member(self.leader).is_none() {
            return field("leader", format!("{} is not a member", self.leader));
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

    /// Whoever makes proofs can have any key deposited: that takes no fewer enclaves than to sign with a key.
    fn validate_proof(&self) -> Result<(), ManifestError> {
        let Thresholds { operator, guardian, proof } = self.thresholds;
        let members = self.members.len();
        let least = usize::from(operator.max(guardian)).max((members / 2).saturating_add(1));
        if (least..=members).contains(&proof.into()) {
            return Ok(());
        }
        field("thresholds.proof", format!("{least} to {members} of {members} members wanted, {proof} found"))
    }

    fn validate_agreement(&self) -> Result<(), ManifestError> {
        let (members, quorum) = (self.members.len(), self.agreement.quorum.into());
        if Quorum::new(members, quorum).is_none() {
            let least = (members / 2).saturating_add(1);
            let reason = format!(
                "{least} to {} of {members} members wanted, {quorum} found",
                members.saturating_sub(1)
            );
            return field("agreement.quorum", reason);
        }
        let Some(cut) = &self.agreement.cut else { return Ok(()) };
        if !(1..=self.epoch).contains(&cut.epoch) {
            return field("agreement.cut.epoch", format!("{} is no epoch so far but the first", cut.epoch));
        }
        for (position, resumed) in cut.members.iter().enumerate() {
            let path = format!("agreement.cut.members[{position}].member");
            if self.member(resumed.member).is_none() {
                return field(path, format!("there is no member {}", resumed.member));
            }
            if cut.members.iter().take(position).any(|other| other.member == resumed.member) {
                return field(path, "another entry has the same");
            }
        }
        Ok(())
    }

    fn validate_members(&self) -> Result<(), ManifestError> {
        if self.members.len() < MIN_MEMBERS || self.members.len() > MAX_MEMBERS {
            return field(
                "members",
                format!("{MIN_MEMBERS} to {MAX_MEMBERS} wanted, {} found", self.members.len()),
            );
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
            match (self.epoch, member.enclave) {
                (0, Some(_)) => return field(path("enclave"), "epoch 0 is before any enclave"),
                (1.., None) => return field(path("enclave"), "every epoch but the first names all enclaves"),
                _ => {}
            }
            if !member.operator && !member.guardian {
                return field(path("operator"), "neither operator nor guardian");
            }
            let earlier = || self.members.iter().take(position);
            let duplicates = [
                ("name", earlier().any(|other| other.name == member.name)),
                ("wallet", earlier().any(|other| other.wallet == member.wallet)),
                ("governance", earlier().any(|other| other.governance == member.governance)),
                ("host_key", earlier().any(|other| other.host_key == member.host_key)),
                (
                    "enclave",
                    member.enclave.is_some_and(|keys| {
                        earlier()
                            .any(|other| other.enclave.is_some_and(|other| other.shares_a_key_with(&keys)))
                    }),
                ),
                (
                    "chip_ids",
                    earlier().any(|other| other.chip_ids.iter().any(|chip| member.chip_ids.contains(chip))),
                ),
            ];
            if self.members.iter().any(|other| other.governance == member.wallet) {
                return field(path("wallet"), "the account that pays must not govern, for any member");
            }
            // The pool manager takes no such council, and would be stuck before the epoch that names it.
            if member.governance == Address([0; 20]) {
                return field(path("governance"), "nobody's account");
            }
            if let Some(keys) = member.enclave
                && (keys.signer == Address([0; 20])
                    || self.members.iter().any(|other| other.governance == keys.signer))
            {
                return field(
                    path("enclave"),
                    "its signer must be an account of its own, and no governance wallet",
                );
            }
            if let Some((name, _)) = duplicates.iter().find(|(_, duplicate)| *duplicate) {
                return field(path(name), "another member has the same");
            }
        }
        Ok(())
    }
}

/// What every version of the format has, in TOML.
#[cfg(feature = "toml")]
#[derive(Deserialize)]
struct Versioned {
    version: u16,
}

fn check_version(found: u16) -> Result<(), ManifestError> {
    match found {
        MANIFEST_VERSION => Ok(()),
        other => field("version", format!("this build reads version {MANIFEST_VERSION}, not {other}")),
    }
}

/// Whether these are members of a role, each once, ascending.
fn are_some(members: &[MemberId], all: &[MemberId]) -> bool {
    let ascending = members.windows(2).all(|pair| pair.first() < pair.last());
    ascending && members.iter().all(|member| all.contains(member))
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
