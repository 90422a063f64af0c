//! What enclaves say to each other. Hosts carry it and can read broadcasts, never envelopes.

use crate::bytes::{byte_newtype, optional, variable};
use crate::codec;
use crate::epoch::SignedEpoch;
use crate::hash::Transcriber;
use crate::identity::{Identity, IdentitySignature};
use crate::ids::{CeremonyId, Digest, ManifestHash, MemberId, Nonce};
use crate::witness::WitnessMessage;
use alloc::{boxed::Box, vec::Vec};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

byte_newtype!(
    /// HPKE's encapsulated key.
    EncapsulatedKey, 32
);

/// A message from one enclave to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// 'Prove to me who you are.'
    Challenge(Challenge),
    /// 'This is who I am.'
    Evidence(Box<Attestation>),
    /// A signed public statement within a ceremony.
    Broadcast(Broadcast),
    /// A secret for one enclave.
    Envelope(Envelope),
    /// Where logs stand.
    Witness(Box<WitnessMessage>),
    /// An epoch to be agreed on: what wallets have signed proves itself.
    Epoch(Box<SignedEpoch>),
}

/// Asks a peer for evidence. A new one replaces what was asked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Who asks: lets the asked one notice that a peer has new keys. Whose keys these are, nothing proves yet.
    pub from: Identity,
    /// Who is asked.
    pub to: MemberId,
    /// To be bound into the report.
    pub nonce: Nonce,
    /// By the asker's enclave, so that nobody else has answers sent to it.
    pub signature: IdentitySignature,
}

/// An identity with evidence for it, made for one verifier: answers a challenge, and stays in transcripts for everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// Who proves.
    pub identity: Identity,
    /// To whom: the enclave that asked. None if it was no enclave: good for looking at, not for admission.
    pub verifier: Option<Identity>,
    /// The verifier's nonce.
    pub challenge: Nonce,
    /// The prover's nonce.
    pub response: Nonce,
    /// Proof.
    pub evidence: Evidence,
}

/// An SNP report with the certificates that vouch for it. Untrusted bytes until `postern-attestation` has checked them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The attestation report as the secure processor gave it.
    #[serde(with = "variable")]
    pub report: Vec<u8>,
    /// The chain.
    pub certificates: Certificates,
}

/// The certificates that vouch for a report's signature, each in DER. Whoever delivers them is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates {
    /// AMD Root Key.
    #[serde(with = "variable")]
    pub ark: Vec<u8>,
    /// The intermediate: AMD SEV Key (ASK), or ASVK over a VLEK.
    #[serde(with = "variable")]
    pub ask: Vec<u8>,
    /// The key that signs reports: the chip's own (VCEK), or a cloud provider's (VLEK).
    #[serde(with = "variable")]
    pub leaf: Vec<u8>,
    /// AMD's revocation list for the product line, if somebody has brought one.
    #[serde(with = "optional")]
    pub crl: Option<Vec<u8>>,
}

/// The kinds of statement that ceremonies make. The number is part of what is signed: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Dealing: hash of the deal to come.
    Commit,
    /// Dealing: commitments and encrypted shares.
    Deal,
    /// Dealing: all deals are good, or which is not.
    Verdict,
    /// Dealing: the new share works, and everybody has the same transcript.
    Confirm,
    /// Keygen: partial signature over the deposit.
    Deposit,
    /// Presign: an operator's partial exit signature, split among the guardians.
    Split,
    /// Presign: a guardian's share of one operator's split is good, or is not.
    Acknowledge,
    /// Release: a guardian collects shares.
    Call,
    /// Release: a guardian agrees.
    Authorise,
    /// Upgrade: an enclave gives its successor the key to its log.
    HandOver,
    /// Agreement: what to vote for.
    Propose,
    /// Agreement: what a member wants.
    Vote,
    /// Agreement: what a quorum wants.
    Adopt,
    /// Agreement: a member leaves an attempt.
    Quit,
    /// Agreement: what a quorum has adopted.
    Decide,
    /// Release: a guardian gives its shares, in an envelope.
    Share,
    /// Release: the exit.
    Released,
}

/// Where a broadcast belongs. An honest enclave fills each slot once; two different fillings prove that it cheated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// Which run of which protocol.
    pub ceremony: CeremonyId,
    /// Who speaks.
    pub from: MemberId,
    /// What about.
    pub step: Step,
    /// Which of several, where a step has several (the operator that an acknowledgement is about); else 0.
    pub item: u16,
}

/// Longest body of a broadcast, in bytes. The longest that an honest enclave makes is a split of the most members that a
/// DAO has, of about 6.6 KiB; a longer one is not heard at all. So one statement in each slot bounds what others can make
/// an enclave keep.
pub const MAX_BODY: usize = 8 << 10;

/// A signed public statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broadcast {
    /// Where it belongs.
    pub slot: Slot,
    /// The statement, as its step's type encodes it.
    #[serde(with = "variable")]
    pub body: Vec<u8>,
    /// By the speaker's enclave over slot and body digest.
    pub signature: IdentitySignature,
}

/// A broadcast without its body: enough to prove what its speaker said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedDigest {
    /// Where it belongs.
    pub slot: Slot,
    /// SHA-256 of the body.
    pub digest: Digest,
    /// By the speaker's enclave over slot and digest.
    pub signature: IdentitySignature,
}

/// A secret for one enclave: HPKE (RFC 9180) in authenticated mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Authenticated, not encrypted.
    pub header: EnvelopeHeader,
    /// HPKE's `enc`.
    pub encapsulated: EncapsulatedKey,
    /// HPKE's `ct`.
    #[serde(with = "variable")]
    pub ciphertext: Vec<u8>,
}

/// The associated data of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeHeader {
    /// The sender's place in the ceremony.
    pub slot: Slot,
    /// The recipient.
    pub to: MemberId,
}

impl Step {
    /// Whether it deals sealed shares.
    pub(crate) fn deals_shares(self) -> bool {
        matches!(self, Self::Deal | Self::Split)
    }

    /// Whether it signs with a share that was dealt.
    pub(crate) fn signs_with_a_share(self) -> bool {
        matches!(self, Self::Confirm | Self::Deposit)
    }

    /// Whether it may accuse somebody.
    pub(crate) fn may_accuse(self) -> bool {
        matches!(self, Self::Verdict | Self::Acknowledge)
    }

    /// Whether it is one of an agreement (`crate::agreement`), which all ceremonies have in common.
    pub fn is_of_an_agreement(self) -> bool {
        matches!(self, Self::Propose | Self::Vote | Self::Adopt | Self::Quit | Self::Decide)
    }
}

impl Slot {
    /// The one slot of a member at a step that has no items.
    pub fn of(ceremony: CeremonyId, from: MemberId, step: Step) -> Self {
        Self { ceremony, from, step, item: 0 }
    }
}

impl PeerMessage {
    /// The member whose host alone brings this message, because only its enclave may have sent it; none if anybody may
    /// hand it on.
    pub fn sender(&self) -> Option<MemberId> {
        match self {
            Self::Challenge(challenge) => Some(challenge.from.member),
            Self::Evidence(attestation) => Some(attestation.identity.member),
            Self::Envelope(envelope) => Some(envelope.header.slot.from),
            Self::Witness(message) => Some(message.from),
            // Hosts give each other statements that their speakers' own hosts withhold.
            Self::Broadcast(_) | Self::Epoch(_) => None,
        }
    }
}

impl Challenge {
    /// What the signature is over.
    pub fn signed_bytes(dao: ManifestHash, from: &Identity, to: MemberId, nonce: &Nonce) -> [u8; 32] {
        Transcriber::new("postern-challenge-v1")
            .bytes(&dao.0)
            .bytes(&from.to_bytes())
            .number(to.0.into())
            .bytes(&nonce.0)
            .finish()
            .0
    }

    /// Whether the asker's enclave signed this.
    pub fn verify(&self, dao: ManifestHash) -> bool {
        let signed = Self::signed_bytes(dao, &self.from, self.to, &self.nonce);
        self.from.verify(&signed, &self.signature)
    }
}

impl Certificates {
    /// Whether the certificates above the leaf are the same.
    pub fn has_issuers_of(&self, other: &Self) -> bool {
        self.ark == other.ark && self.ask == other.ask
    }
}

impl SignedDigest {
    /// What the signature is over.
    pub fn signed_bytes(slot: &Slot, digest: &Digest) -> [u8; 32] {
        Transcriber::new("postern-broadcast-v1").bytes(&codec::encode(slot)).bytes(&digest.0).finish().0
    }

    /// Whether the speaker signed this.
    pub fn verify(&self, speaker: &Identity) -> bool {
        self.slot.from == speaker.member
            && speaker.verify(&Self::signed_bytes(&self.slot, &self.digest), &self.signature)
    }
}

impl Broadcast {
    /// SHA-256 of a body.
    pub fn digest_of(body: &[u8]) -> Digest {
        Digest(sha2::Sha256::digest(body).into())
    }

    /// The statement's digest and signature.
    pub fn signed_digest(&self) -> SignedDigest {
        SignedDigest { slot: self.slot, digest: Self::digest_of(&self.body), signature: self.signature }
    }
}
