//! What transcripts are checked against, and why one proves nothing.

use super::reshare::ReshareError;
use crate::ethereum::Network;
use crate::identity::Roster;
use crate::ids::{CeremonyId, Digest, ManifestHash, MemberId, PoolId};
use crate::manifest::{Manifest, ManifestError};
use crate::message::{Broadcast, Slot, Step};

/// The manifest that a ceremony began under, and its participants.
#[derive(Debug, Clone, Copy)]
pub struct Basis<'a> {
    /// The manifest.
    pub manifest: &'a Manifest,
    /// The participants.
    pub roster: &'a Roster,
}

/// Why a transcript proves nothing.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    /// The manifest inside is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Terms that the manifest or the roster does not give.
    #[error("the terms do not follow from manifest and roster: {what}")]
    Terms {
        /// Which part.
        what: &'static str,
    },
    /// Terms by which no key is dealt again.
    #[error(transparent)]
    Reshare(#[from] ReshareError),
    /// A statement that is not there.
    #[error("{step:?} of {member} is missing")]
    Missing {
        /// Which step.
        step: Step,
        /// Whose.
        member: MemberId,
    },
    /// A statement that is wrong, or about something else than what the transcript proves.
    #[error("{step:?} of {member} is invalid")]
    Invalid {
        /// Which step.
        step: Step,
        /// Whose.
        member: MemberId,
    },
    /// A statement of another ceremony.
    #[error("{step:?} of {member} is of another ceremony")]
    OtherCeremony {
        /// Which step.
        step: Step,
        /// Whose.
        member: MemberId,
    },
    /// A statement of somebody who is not in the roster.
    #[error("{step:?} of {member}, which does not take part")]
    NotAParticipant {
        /// Which step.
        step: Step,
        /// Whose.
        member: MemberId,
    },
    /// A statement that its speaker did not sign.
    #[error("{step:?} of {member} is not signed by it")]
    NotAuthentic {
        /// Which step.
        step: Step,
        /// Whose.
        member: MemberId,
    },
    /// A second statement in one slot.
    #[error("{step:?} of {member} is there twice")]
    Twice {
        /// Which step.
        step: Step,
        /// Whose.
        member: MemberId,
    },
    /// A statement that the proof does not use.
    #[error("{step:?} of {member} proves nothing here")]
    Unused {
        /// Which step.
        step: Step,
        /// Whose.
        member: MemberId,
    },
    /// A participant with more than one attestation.
    #[error("{member} is attested twice")]
    AttestedTwice {
        /// Who.
        member: MemberId,
    },
    /// Fewer than the threshold.
    #[error("{found} members took part where {expected} are needed")]
    TooFew {
        /// The threshold.
        expected: usize,
        /// Members found.
        found: usize,
    },
    /// The result does not verify under the validator's key.
    #[error("the result's signature is invalid")]
    Result,
    /// The accusation does not hold.
    #[error(transparent)]
    Unproved(#[from] Unproved),
}

impl TranscriptError {
    /// There is more than one statement in this slot.
    pub(super) fn twice(slot: &Slot) -> Self {
        Self::Twice { step: slot.step, member: slot.from }
    }

    /// What is in this slot is of no use.
    pub(super) fn unused(slot: &Slot) -> Self {
        Self::Unused { step: slot.step, member: slot.from }
    }
}

/// A proof that proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the accusation of {0} is not proved")]
pub struct Unproved(pub MemberId);

/// Refuses terms of which a part does not follow.
pub(super) fn require(holds: bool, what: &'static str) -> Result<(), TranscriptError> {
    if holds { Ok(()) } else { Err(TranscriptError::Terms { what }) }
}

/// Refuses fewer than a threshold.
pub(super) fn at_least(expected: usize, found: usize) -> Result<(), TranscriptError> {
    if found < expected { Err(TranscriptError::TooFew { expected, found }) } else { Ok(()) }
}

impl Basis<'_> {
    /// Checks what the terms of all ceremonies have. Their contract may be an earlier manifest's, so the claim names it and a
    /// verifier judges it.
    pub(super) fn require(
        &self,
        manifest: ManifestHash,
        network: &Network,
        roster: Digest,
        pool: PoolId,
    ) -> Result<(), TranscriptError> {
        require(manifest == self.manifest.hash(), "manifest")?;
        require(*network == self.manifest.network, "network")?;
        require(pool.chain == self.manifest.network.chain_id, "chain of the pool")?;
        require(roster == self.roster.digest(), "roster")
    }

    /// Refuses a statement that no participant has made in this ceremony.
    pub(super) fn authenticate(
        &self,
        ceremony: CeremonyId,
        statement: &Broadcast,
    ) -> Result<(), TranscriptError> {
        let Slot { from: member, step, .. } = statement.slot;
        if statement.slot.ceremony != ceremony {
            return Err(TranscriptError::OtherCeremony { step, member });
        }
        let speaker = self.roster.get(member).ok_or(TranscriptError::NotAParticipant { step, member })?;
        if statement.signed_digest().verify(speaker) {
            Ok(())
        } else {
            Err(TranscriptError::NotAuthentic { step, member })
        }
    }
}
