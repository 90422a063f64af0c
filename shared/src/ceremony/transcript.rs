//! The public record of a ceremony, which anybody can check offline, knowing nothing secret.
//!
//! A transcript holds its manifest, the attested identities of its participants, and their signed statements.
//! [`Transcript::verify`] checks all but the attestation evidence itself, which is `postern-attestation`'s matter:
//! [`Transcript::roster`] hands it out. What a verifier must bring is the manifest's hash; everything else follows.

pub use super::basis::TranscriptError;
use super::basis::{Basis, require};
use super::court::{Conviction, Protocol};
use super::fault::Fault;
use super::keygen::{KeygenCertificate, KeygenProceedings, KeygenTerms};
use super::presign::{PresignProceedings, PresignTerms};
use super::release::ReleaseProceedings;
use super::reshare::{KeyCertificate, ReshareCertificate, ReshareProceedings, ReshareTerms};
use crate::bls::PublicKey;
use crate::bytes::variable;
use crate::ethereum::{DepositData, SignedVoluntaryExit, VoluntaryExit};
use crate::identity::{Identity, Roster};
use crate::ids::{MemberId, PoolId};
use crate::manifest::Manifest;
use crate::message::Attestation;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The record of one ceremony.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// Canonical form of the manifest in force.
    #[serde(with = "variable")]
    pub manifest: Vec<u8>,
    /// The participants, with the evidence by which an enclave admitted them.
    pub roster: Vec<Attestation>,
    /// What they did.
    pub record: Proceedings,
}

/// What the participants did. This is the list of all ceremonies that leave a transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proceedings {
    /// A key was made and its deposit signed.
    Keygen(KeygenProceedings),
    /// An exit was signed and split.
    Presign(PresignProceedings),
    /// An exit was released.
    Release(ReleaseProceedings),
    /// A keygen ended because somebody cheated.
    KeygenFault(Conviction<KeygenTerms>),
    /// Somebody cheated in a presign.
    PresignFault(Conviction<PresignTerms>),
    /// The shares of a key were dealt again.
    Reshare(ReshareProceedings),
    /// Somebody cheated in a reshare.
    ReshareFault(Conviction<ReshareTerms>),
}

/// What a transcript proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// These operators made this key together; t of them are needed to use it.
    Key {
        /// The pool.
        pool: PoolId,
        /// The key.
        certificate: KeygenCertificate,
        /// Who has shares.
        operators: Vec<MemberId>,
        /// How many sign.
        threshold: u16,
        /// The signed deposit.
        deposit: DepositData,
    },
    /// These guardians hold good shares of this exit.
    Presigned {
        /// The pool.
        pool: PoolId,
        /// The key that signed, as keygen certified it.
        certificate: KeygenCertificate,
        /// The exit.
        exit: VoluntaryExit,
        /// Who said that its share is good.
        guardians: Vec<MemberId>,
        /// How many release.
        threshold: u16,
    },
    /// This exit was released and is valid.
    Released {
        /// The pool.
        pool: PoolId,
        /// The validator's key.
        pubkey: PublicKey,
        /// The exit.
        exit: SignedVoluntaryExit,
        /// Who authorised it.
        guardians: Vec<MemberId>,
    },
    /// These operators have new shares of a key; t of them are needed to use it.
    Reshared {
        /// The pool.
        pool: PoolId,
        /// The key, with the shares that it had before. That they were in force, another transcript proves.
        before: KeyCertificate,
        /// The key, with its new shares.
        certificate: ReshareCertificate,
        /// Who has shares.
        operators: Vec<MemberId>,
        /// Who of them has confirmed.
        confirmed: Vec<MemberId>,
        /// How many sign.
        threshold: u16,
    },
    /// This member cheated.
    Cheated {
        /// The pool.
        pool: PoolId,
        /// Who.
        culprit: MemberId,
    },
}

impl Transcript {
    /// The manifest inside.
    pub fn manifest(&self) -> Result<Manifest, TranscriptError> {
        Ok(Manifest::from_canonical(&self.manifest)?)
    }

    /// The participants, to check their evidence.
    pub fn roster(&self) -> &[Attestation] {
        &self.roster
    }

    /// Checks everything but attestation evidence, and whether the manifest is the DAO's. A statement that is not authentic, or
    /// that the proof does not use, is refused: a transcript says what it says, or nothing.
    pub fn verify(&self) -> Result<Claim, TranscriptError> {
        let manifest = self.manifest()?;
        let roster = Roster::new(self.roster.iter().map(|attested| attested.identity).collect());
        // Of two of one member a roster has the first, and nothing would be said of the other.
        let mut attested = BTreeSet::new();
        for member in self.roster.iter().map(|attested| attested.identity.member) {
            if !attested.insert(member) {
                return Err(TranscriptError::AttestedTwice { member });
            }
        }
        let named = |identity: &Identity| manifest.identity(identity.member) == Some(*identity);
        require(roster.identities().iter().all(named), "enclaves")?;
        self.record.verify(&Basis { manifest: &manifest, roster: &roster })
    }
}

impl Proceedings {
    /// What the participants had agreed on.
    pub fn terms(&self) -> &dyn Protocol {
        match self {
            Self::Keygen(KeygenProceedings { terms, .. }) | Self::KeygenFault(Conviction { terms, .. }) => {
                terms
            }
            Self::Presign(PresignProceedings { terms, .. })
            | Self::PresignFault(Conviction { terms, .. }) => terms,
            Self::Release(ReleaseProceedings { terms, .. }) => terms,
            Self::Reshare(ReshareProceedings { terms, .. })
            | Self::ReshareFault(Conviction { terms, .. }) => terms,
        }
    }

    /// Of which ceremony they are, and what came of it. Names are stable: files are called so.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Keygen(_) => "keygen",
            Self::Presign(_) => "presign",
            Self::Release(_) => "release",
            Self::KeygenFault(_) => "keygen-fault",
            Self::PresignFault(_) => "presign-fault",
            Self::Reshare(_) => "reshare",
            Self::ReshareFault(_) => "reshare-fault",
        }
    }

    /// The proof that somebody cheated, if that is what came of it.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::KeygenFault(Conviction { fault, .. })
            | Self::PresignFault(Conviction { fault, .. })
            | Self::ReshareFault(Conviction { fault, .. }) => Some(fault),
            Self::Keygen(_) | Self::Presign(_) | Self::Release(_) | Self::Reshare(_) => None,
        }
    }

    /// What they prove on this basis.
    fn verify(&self, basis: &Basis<'_>) -> Result<Claim, TranscriptError> {
        let pool = self.terms().pool();
        let cheated = |fault: &Fault| Claim::Cheated { pool, culprit: fault.culprit };
        match self {
            Self::Keygen(record) => record.verify(basis).map(|certificate| Claim::Key {
                pool,
                certificate,
                operators: record.terms.operators.clone(),
                threshold: record.terms.threshold,
                deposit: record.deposit,
            }),
            Self::Presign(record) => record.verify(basis).map(|guardians| Claim::Presigned {
                pool,
                certificate: record.terms.certificate.clone(),
                exit: record.terms.exit,
                guardians,
                threshold: record.terms.guardian_threshold,
            }),
            Self::Release(record) => record.verify(basis).map(|guardians| Claim::Released {
                pool,
                pubkey: record.terms.presign.certificate.pubkey(),
                exit: record.exit,
                guardians,
            }),
            Self::Reshare(record) => record.verify(basis).map(|certificate| Claim::Reshared {
                pool,
                before: record.terms.before.clone(),
                certificate,
                operators: record.terms.operators.clone(),
                confirmed: record.confirmed.clone(),
                threshold: record.terms.threshold,
            }),
            Self::KeygenFault(record) => record.verify(basis).map(|()| cheated(&record.fault)),
            Self::PresignFault(record) => record.verify(basis).map(|()| cheated(&record.fault)),
            Self::ReshareFault(record) => record.verify(basis).map(|()| cheated(&record.fault)),
        }
    }
}
