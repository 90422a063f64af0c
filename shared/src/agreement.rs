//! One agreement, for what members must never decide in two ways: which keygen makes a pool's key, which epoch follows on a
//! manifest. In public: the statements, and what they prove. The rules and the argument are in `postern-enclave`'s
//! `agreement`.
//!
//! Members vote in attempts. A quorum of votes makes a choice adoptable, a quorum of adoptions decides it, and a quorum of
//! members that have quit an attempt opens the next one, which repeats what any of them had adopted.

use crate::codec;
use crate::epoch::SignedEpoch;
use crate::hash::Transcriber;
use crate::identity::{IdentitySignature, Roster};
use crate::ids::{CeremonyId, Digest, ManifestHash, MemberId, PoolId};
use crate::keygen::KeygenCertificate;
use crate::manifest::Manifest;
use crate::message::{Broadcast, SignedDigest, Slot, Step};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What is decided once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Subject {
    /// Which epoch follows on this manifest. The choice is the next manifest's hash.
    Epoch(ManifestHash),
    /// Which keygen makes this pool's key. The choice is the digest of its certificate.
    Key(PoolId),
}

/// One try at a decision. A later one comes after an earlier one in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attempt {
    /// [`Voters::since`] of those who vote in it.
    pub generation: u64,
    /// Counts their attempts, from 0.
    pub number: u32,
}

/// Who votes, and how many decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voters {
    /// The epoch since which just these are in force.
    pub since: u64,
    /// The members' enclaves.
    pub enclaves: Roster,
    /// How many agree.
    pub quorum: u16,
}

/// What is voted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Choice {
    /// See [`Subject`].
    pub value: Digest,
    /// The attempt in which it came up.
    pub origin: Attempt,
}

/// A keygen to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Under this manifest.
    pub manifest: ManifestHash,
    /// Among these, ascending.
    pub operators: Vec<MemberId>,
}

/// How a key was made: the certificate shows that it is the one that was decided on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Under this manifest.
    pub manifest: ManifestHash,
    /// Among these, by a ceremony whose terms follow from what this says.
    pub certificate: KeygenCertificate,
}

/// What a proposer wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proposal {
    /// The newest choice that anybody has adopted who has quit the attempt before.
    Again(Choice),
    /// This manifest, which wallets have signed.
    Epoch(ManifestHash),
    /// The key that this run makes.
    Run(Run),
}

/// What opens an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propose {
    /// Who has quit the attempt before, with the digest of that statement: at least a quorum.
    pub quits: Vec<(MemberId, Digest)>,
    /// What is to be voted for.
    pub proposal: Proposal,
}

/// That a quorum said the same: each member's signature of that statement.
pub type Signatures = Vec<(MemberId, IdentitySignature)>;

/// A choice that its holder has adopted, or has seen that another had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// In which attempt.
    pub attempt: Attempt,
    /// Which.
    pub choice: Choice,
    /// A quorum of votes for it.
    pub votes: Signatures,
}

/// A choice that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// In which attempt.
    pub attempt: Attempt,
    /// Which.
    pub choice: Choice,
    /// A quorum of adoptions.
    pub adopts: Signatures,
}

/// A pool of which a key was adopted. Whoever comes later may not know it, and says nothing about pools up to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Which.
    pub pool: PoolId,
    /// So no member can invent one.
    pub proof: Proof,
}

/// That a choice was adopted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// By somebody: a quorum has voted for it.
    Adopted(Adopted),
    /// By a quorum.
    Decided(Decision),
}

/// What a member says in an agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// About what.
    pub subject: Subject,
    /// In which attempt; of a decision, the one that decided.
    pub attempt: Attempt,
    /// What.
    pub content: Content,
}

/// See [`Said`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// 'Let us vote for this.'
    Propose(Propose),
    /// 'I want this', once in an attempt.
    Vote(Choice),
    /// 'A quorum wants this.'
    Adopt(Choice),
    /// 'I say no more in this attempt or any before it.'
    Quit(Option<Adopted>),
    /// 'A quorum has adopted this.' Once for a subject. Of a key also how it was made, if the speaker knows.
    Decide(Decision, Option<Made>),
}

impl Subject {
    /// Where decisions are told.
    pub fn ceremony(&self) -> CeremonyId {
        CeremonyId(Transcriber::new("postern-agreement-v1").bytes(&codec::encode(self)).finish().0)
    }

    /// Where an attempt takes place.
    pub fn attempt(&self, attempt: Attempt) -> CeremonyId {
        let hash = Transcriber::new("postern-agreement-attempt-v1").bytes(&codec::encode(self));
        CeremonyId(hash.bytes(&codec::encode(&attempt)).finish().0)
    }
}

impl Attempt {
    /// The first among these voters.
    pub fn first(voters: &Voters) -> Self {
        Self { generation: voters.since, number: 0 }
    }

    /// The one after it, unless they are used up.
    pub fn next(self) -> Option<Self> {
        Some(Self { number: self.number.checked_add(1)?, ..self })
    }

    /// The one before it among the same voters.
    pub fn before(self) -> Option<Self> {
        Some(Self { number: self.number.checked_sub(1)?, ..self })
    }
}

impl Voters {
    /// Those whom a manifest names, if it names all.
    fn of(manifest: &Manifest) -> Option<Self> {
        let enclaves = manifest.members.iter().map(|member| manifest.identity(member.id));
        let enclaves = Roster::new(enclaves.collect::<Option<_>>()?);
        Some(Self { since: manifest.epoch, enclaves, quorum: manifest.agreement.quorum })
    }

    /// Those whom a manifest names, unless they are the same as those before, and as many decide.
    pub fn after(last: Option<&Self>, manifest: &Manifest) -> Option<Self> {
        let same = |next: &Self| {
            last.is_some_and(|last| last.enclaves == next.enclaves && last.quorum == next.quorum)
        };
        Self::of(manifest).filter(|next| !same(next))
    }

    /// Those of a chain of manifests, each once, from the first manifest on that names all.
    pub fn of_all(manifests: &[Manifest]) -> Vec<Self> {
        manifests.iter().fold(Vec::new(), |mut all, manifest| {
            all.extend(Self::after(all.last(), manifest));
            all
        })
    }

    /// Whether a quorum of these has signed this.
    pub fn have_signed(
        &self,
        subject: Subject,
        attempt: Attempt,
        content: Content,
        signatures: &Signatures,
    ) -> bool {
        let said = Said { subject, attempt, content };
        let digest = Broadcast::digest_of(&codec::encode(&said));
        let mut speakers = BTreeSet::new();
        // Each member counts once, so no list costs more than there are members.
        let good = |(from, signature): &(MemberId, IdentitySignature)| {
            let Some(enclave) = self.enclaves.get(*from) else { return false };
            let signed = SignedDigest { slot: said.slot(*from), digest, signature: *signature };
            speakers.insert(*from) && signed.verify(enclave)
        };
        attempt.generation == self.since
            && signatures.len() <= self.enclaves.identities().len()
            && signatures.iter().all(good)
            && speakers.len() >= usize::from(self.quorum)
    }
}

impl Adopted {
    /// Whether it could be adopted.
    pub fn holds(&self, subject: Subject, voters: &Voters) -> bool {
        let Self { attempt, choice, votes } = self;
        choice.origin <= *attempt && voters.have_signed(subject, *attempt, Content::Vote(*choice), votes)
    }
}

impl Decision {
    /// Whether it counts.
    pub fn holds(&self, subject: Subject, voters: &Voters) -> bool {
        let Self { attempt, choice, adopts } = self;
        choice.origin <= *attempt && voters.have_signed(subject, *attempt, Content::Adopt(*choice), adopts)
    }
}

impl Mark {
    /// Whether the proof holds, with the voters of each generation.
    pub fn holds(&self, voters: &BTreeMap<u64, Voters>) -> bool {
        let subject = Subject::Key(self.pool);
        let of = |attempt: &Attempt| voters.get(&attempt.generation);
        match &self.proof {
            Proof::Adopted(adopted) => {
                of(&adopted.attempt).is_some_and(|voters| adopted.holds(subject, voters))
            }
            Proof::Decided(decision) => {
                of(&decision.attempt).is_some_and(|voters| decision.holds(subject, voters))
            }
        }
    }
}

impl Said {
    /// Where it is said.
    pub fn slot(&self, from: MemberId) -> Slot {
        let (step, ceremony) = match self.content {
            Content::Propose(_) => (Step::Propose, self.subject.attempt(self.attempt)),
            Content::Vote(_) => (Step::Vote, self.subject.attempt(self.attempt)),
            Content::Adopt(_) => (Step::Adopt, self.subject.attempt(self.attempt)),
            Content::Quit(_) => (Step::Quit, self.subject.attempt(self.attempt)),
            Content::Decide(..) => (Step::Decide, self.subject.ceremony()),
        };
        Slot::of(ceremony, from, step)
    }

    /// What a statement says, if it is one of these and in its place.
    pub fn of(statement: &Broadcast) -> Option<Self> {
        let said: Self = codec::decode(&statement.body).ok()?;
        let decided = match &said.content {
            Content::Decide(decision, _) => decision.attempt == said.attempt,
            _ => true,
        };
        (decided && said.slot(statement.slot.from) == statement.slot).then_some(said)
    }
}

/// Two epochs that follow on the same manifest, both signed by a quorum of its members' wallets. It convicts whoever
/// signed both: two quorums always share somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The manifest, in canonical form.
    #[serde(with = "crate::bytes::variable")]
    pub manifest: Vec<u8>,
    /// One.
    pub one: SignedEpoch,
    /// The other.
    pub other: SignedEpoch,
}

impl Fork {
    /// Whose wallets signed both. Nobody, if this is no fork.
    pub fn culprits(&self) -> Vec<MemberId> {
        let signers = || {
            let manifest = Manifest::from_canonical(&self.manifest).ok()?;
            (self.one.verify(&manifest).ok()? != self.other.verify(&manifest).ok()?).then_some(())?;
            let others = self.other.signers(&manifest).ok()?;
            let mut signers = self.one.signers(&manifest).ok()?;
            signers.retain(|member| others.contains(member));
            Some(signers)
        };
        signers().unwrap_or_default()
    }
}
