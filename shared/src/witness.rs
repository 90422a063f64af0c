//! How members remember for each other where their logs stand, so that no host can put an old state in a new one's place.
//!
//! A log's place is what its enclave signs ([`Note`]): which incarnation of the enclave, and how far. The others keep the
//! newest note of each member, and prove with it what they say of it. See `postern-enclave`'s `witness` for the rules and
//! the quorum argument.

use crate::codec;
use crate::hash::Transcriber;
use crate::identity::{Identity, IdentitySignature};
use crate::ids::{ManifestHash, MemberId, Nonce};
use crate::record::LogHead;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Where a member's log stands, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Whose log.
    pub member: MemberId,
    /// Counts how often the enclave was restored from its log, from 0.
    pub incarnation: u64,
    /// Tells two that claim to be the same incarnation apart.
    pub nonce: Nonce,
    /// The newest record that the enclave wrote while it was acting: not while it was waiting to be let in again.
    pub head: LogHead,
    /// Whether this incarnation acts, or only asks to.
    pub acting: bool,
}

/// A note, with its member's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedNote {
    /// What is said.
    pub note: Note,
    /// By the member's enclave.
    pub signature: IdentitySignature,
}

/// What members say about logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Witness {
    /// 'My log stands here: remember it.'
    Advance(SignedNote),
    /// 'I remember this of yours, and so does my log.'
    Noted(Note),
    /// 'I was restored from this: is it the newest that you know of me?'
    Return(SignedNote),
    /// The answer.
    Known(Known),
}

/// What a member knows of logs, in answer to one that was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// What was claimed.
    pub claim: Note,
    /// Whether the one who answers acts itself, or has been restored and waits too.
    pub acting: bool,
    /// The epoch of the manifest that it goes by.
    pub epoch: u64,
    /// The newest notes of all members that it knows of, the asker's own among them.
    pub notes: Vec<SignedNote>,
}

/// Something said about logs, from one enclave to one or all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessMessage {
    /// Who speaks.
    pub from: MemberId,
    /// What it says.
    pub witness: Witness,
    /// By the speaker's enclave.
    pub signature: IdentitySignature,
}

impl SignedNote {
    /// What the signature is over.
    pub fn signed_bytes(dao: ManifestHash, note: &Note) -> [u8; 32] {
        Transcriber::new("postern-note-v1").bytes(&dao.0).bytes(&codec::encode(note)).finish().0
    }

    /// Whether the member itself signed this.
    pub fn verify(&self, dao: ManifestHash, member: &Identity) -> bool {
        self.note.member == member.member
            && member.verify(&Self::signed_bytes(dao, &self.note), &self.signature)
    }
}

impl WitnessMessage {
    /// What the signature is over.
    pub fn signed_bytes(dao: ManifestHash, from: MemberId, witness: &Witness) -> [u8; 32] {
        Transcriber::new("postern-witness-v1")
            .bytes(&dao.0)
            .number(from.0.into())
            .bytes(&codec::encode(witness))
            .finish()
            .0
    }

    /// Whether the speaker signed this.
    pub fn verify(&self, dao: ManifestHash, speaker: &Identity) -> bool {
        self.from == speaker.member
            && speaker.verify(&Self::signed_bytes(dao, self.from, &self.witness), &self.signature)
    }
}

/// How many other members must remember a place in a log before anything that depends on it leaves the enclave.
///
/// With the enclave itself a majority of `members`, so whoever may act may also remember.
pub const fn acting_quorum(members: usize) -> usize {
    members / 2
}

/// How many other members that are acting must say that they know of nothing newer before a restored enclave acts.
///
/// Any two such quorums share a member, and each shares one with every [`acting_quorum`]: there are `members - 1` others.
pub const fn returning_quorum(members: usize) -> usize {
    members.div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_meet() {
        for members in 2..=crate::manifest::MAX_MEMBERS {
            let others = members - 1;
            let (acting, returning) = (acting_quorum(members), returning_quorum(members));
            assert!(acting + returning > others, "what was remembered is told, of {members}");
            assert!(2 * returning > others, "one of two twins returns, of {members}");
            assert!((1..=others).contains(&acting) && returning <= others, "{members}");
            assert!(2 * (acting + 1) > members, "a majority remembers, of {members}");
        }
    }
}
