//! Proof that a member's enclave cheated, which anybody can check who knows the ceremony's terms and roster, and has the
//! statements that the proof names: see [`court`](super::court).
//!
//! A proof names statements by digest and signature, and does not contain them: so an accusation is a few hundred bytes
//! whatever it is about, always fits a message, and an accusation of an accusation is no longer than the first. Whoever
//! judges finds the statements among those that it has heard; what it lacks, the accuser's host has. A published fault
//! brings them along.

use crate::ids::MemberId;
use crate::message::{SignedDigest, Step};
use crate::sealed_shares::Opening;
use serde::{Deserialize, Serialize};

/// Who cheated, and how one knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The cheat. All statements that the proof names are its own.
    pub culprit: MemberId,
    /// The proof.
    pub proof: Proof,
}

/// The ways to cheat that leave a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// Two different statements in one slot.
    Equivocation(SignedDigest, SignedDigest),
    /// A deal that is not the one committed to.
    BrokenCommitment {
        /// The commitment.
        commit: SignedDigest,
        /// Something else.
        deal: SignedDigest,
    },
    /// A statement that is wrong by itself: it does not decode, or fails a check that needs no secret.
    InvalidStatement(SignedDigest),
    /// An encrypted share that does not decrypt, or lies on another polynomial.
    BadShare {
        /// The deal or split.
        statement: SignedDigest,
        /// Whose share it is.
        recipient: MemberId,
        /// The key of this one ciphertext.
        opening: Opening,
    },
    /// A confirmation or partial signature that does not fit the deals which its own speaker accepted.
    InvalidPartial {
        /// The speaker's acceptance of all deals: without it an equivocating dealer could frame an honest member.
        verdict: SignedDigest,
        /// The confirmation or partial signature.
        statement: SignedDigest,
    },
    /// An accusation that does not hold.
    FalseAccusation(SignedDigest),
}

impl Proof {
    /// The statements that the proof names, all of them the culprit's.
    pub fn named(&self) -> impl Iterator<Item = &SignedDigest> + Clone {
        let (one, other) = match self {
            Self::Equivocation(one, other) => (one, Some(other)),
            Self::BrokenCommitment { commit, deal } => (commit, Some(deal)),
            Self::InvalidPartial { verdict, statement } => (verdict, Some(statement)),
            Self::BadShare { statement, .. } => (statement, None),
            Self::InvalidStatement(said) | Self::FalseAccusation(said) => (said, None),
        };
        core::iter::once(one).chain(other)
    }

    /// Whether the named statements are of the steps that such a proof is about.
    pub(super) fn fits(&self) -> bool {
        match self {
            Self::Equivocation(one, other) => one.slot == other.slot && one.digest != other.digest,
            Self::BrokenCommitment { commit, deal } => {
                (commit.slot.step, deal.slot.step) == (Step::Commit, Step::Deal)
            }
            Self::InvalidStatement(_) => true,
            Self::BadShare { statement, .. } => statement.slot.step.deals_shares(),
            Self::InvalidPartial { verdict, statement } => {
                verdict.slot.step == Step::Verdict && statement.slot.step.signs_with_a_share()
            }
            Self::FalseAccusation(said) => said.slot.step.may_accuse(),
        }
    }
}
