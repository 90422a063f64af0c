//! How members remember for each other where their logs stand, so that no host can put an old state in a new one's place.
//!
//! Each running copy of an enclave has a [`Ballot`] of its own, and signs where its log stands ([`Note`]). The others
//! keep two notes of each member: the highest ballot that has asked to act, and the newest place at which one acted.
//! They prove with them what they say of it. See `postern-enclave`'s `witness` for the rules and the argument.

use crate::agreement::Mark;
use crate::codec;
use crate::hash::Transcriber;
use crate::identity::{Identity, IdentitySignature};
use crate::ids::{Digest, ManifestHash, MemberId, Nonce};
use crate::manifest::Resumed;
use crate::record::{LogHead, LogId};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Most [`End`]s in a claim, so that it fits a message. An enclave that was restored more often forgets the oldest.
pub const MAX_ENDS: usize = 512;

/// One running copy of a member's enclave: no two have the same. A later one takes an earlier one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ballot {
    /// Which of the member's machines.
    pub machine: u32,
    /// The epoch of the newest cut (`postern_shared::manifest::Cut`), 0 without any: what was said before it counts no more.
    pub era: u64,
    /// Counts how often the enclave was restored from its log, from 0.
    pub incarnation: u64,
    /// Fresh randomness: tells two that were restored from one log apart.
    pub nonce: Nonce,
}

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Which log.
    pub log: LogId,
    /// The newest record that its enclave wrote while it was acting: not while it was waiting to be let in again.
    pub head: LogHead,
}

/// Where a copy's log stands, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Whose log.
    pub member: MemberId,
    /// Which copy.
    pub ballot: Ballot,
    /// How far it has come.
    pub place: Place,
    /// Whether this copy acts, or only asks to.
    pub acting: bool,
    /// Of the list of [`End`]s that the copy goes on from.
    pub ends: Digest,
}

/// A note, with its member's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedNote {
    /// What is said.
    pub note: Note,
    /// By the member's enclave.
    pub signature: IdentitySignature,
}

/// Where an earlier copy that acted came to its end, in the log that a later one goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Which copy.
    pub ballot: Ballot,
    /// The last place in this log at which it acted.
    pub place: Place,
}

/// The manifest that a speaker goes by. What is said under one counts under no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// Its epoch.
    pub epoch: u64,
    /// It.
    pub manifest: ManifestHash,
}

/// What members say about logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Witness {
    /// 'I act, and my log stands here: remember it.'
    Advance(Advance),
    /// 'I remember this of yours, and so does my log.'
    Noted(Noted),
    /// 'I have not seen what this ballot goes on from: show me.'
    Unknown(Ballot),
    /// 'I was restored, and go on from this: may I act?'
    Return(Claim),
    /// 'I know of nothing against it.' What is known of all members.
    Known(Known),
    /// 'No: you yourself have signed this.'
    Refused(SignedNote),
}

/// A place that others are to remember.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advance {
    /// The place.
    pub note: SignedNote,
    /// The manifest that the speaker goes by.
    pub in_force: InForce,
    /// The highest ballot of each other member that the speaker knows of.
    pub ballots: Vec<(MemberId, Ballot)>,
}

/// That a place is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// Which.
    pub note: Note,
    /// The manifest that the speaker goes by.
    pub in_force: InForce,
    /// Which copy remembers it.
    pub by: SignedNote,
    /// Later ballots of members than [`Advance::ballots`] says.
    pub later: Vec<SignedNote>,
}

/// What an enclave that was restored goes on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Its ballot, and the newest place at which an earlier one acted. It binds the ends.
    pub note: SignedNote,
    /// The copies before it that acted, in their order; at most [`MAX_ENDS`].
    pub ends: Vec<End>,
}

/// What is remembered of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The highest ballot that has asked to act, or acted.
    pub promised: SignedNote,
    /// The newest place at which one acted.
    pub accepted: Option<SignedNote>,
}

/// What a member knows of logs, in answer to one that was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// What was claimed.
    pub claim: Note,
    /// The manifest that the speaker goes by.
    pub in_force: InForce,
    /// Which copy answers, whether it acts, and where its log stands.
    pub by: SignedNote,
    /// Of all members that it knows of, as it was before this claim.
    pub memories: Vec<Memory>,
    /// Of each pool manager, the pool with the highest number of which it knows that a key was adopted.
    pub adopted: Vec<Mark>,
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
        Transcriber::new("postern-note-v2").bytes(&dao.0).bytes(&codec::encode(note)).finish().0
    }

    /// Whether the enclave of this identity signed this, of itself.
    pub fn verify(&self, dao: ManifestHash, enclave: &Identity) -> bool {
        (self.note.member, self.note.ballot.machine) == (enclave.member, enclave.machine)
            && enclave.verify(&Self::signed_bytes(dao, &self.note), &self.signature)
    }
}

impl End {
    /// What a note binds of a list of ends.
    pub fn digest(ends: &[Self]) -> Digest {
        Transcriber::new("postern-ends-v1").bytes(&codec::encode(ends)).finish()
    }
}

impl Claim {
    /// Whether this is a claim, and its list the one that its note binds. The signature is checked elsewhere.
    pub fn is_whole(&self) -> bool {
        !self.note.note.acting
            && self.ends.len() <= MAX_ENDS
            && End::digest(&self.ends) == self.note.note.ends
    }

    /// Whether what the claimant goes on from contains a place at which a copy acted. A machine that an epoch has given up
    /// has left nothing to go on from, and what was before a cut counts no more.
    pub fn contains(&self, acted: &Note) -> bool {
        let own = self.note.note.ballot;
        let ended = |end: &End| {
            end.ballot == acted.ballot
                && end.place.log == acted.place.log
                && acted.place.head.number <= end.place.head.number
        };
        let past = (acted.ballot.machine, acted.ballot.era) < (own.machine, own.era);
        acted.ballot == own || past || self.ends.iter().any(ended)
    }

    /// Whether the claimant is a copy that a cut has let in, or goes on from the very place of that one.
    pub fn goes_on_from(&self, resumed: &Resumed) -> bool {
        let own = self.note.note.ballot;
        let nothing = resumed.place.head == LogHead::START;
        own.machine > resumed.ballot.machine
            || own == resumed.ballot
            || own > resumed.ballot && (nothing || self.ends.iter().any(|end| end.place == resumed.place))
    }
}

impl WitnessMessage {
    /// What the signature is over.
    pub fn signed_bytes(dao: ManifestHash, from: MemberId, witness: &Witness) -> [u8; 32] {
        Transcriber::new("postern-witness-v2")
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
