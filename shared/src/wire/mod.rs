//! The protocol between a host and its own enclave.
//!
//! The host connects and sends a [`Hello`]; the enclave answers with its own, and both sides refuse a version that they
//! don't speak. Then strictly one [`Request`], one [`Response`], in frames (a length, then so many bytes) of `postcard`.
//!
//! # State and restart
//! Every [`Output`] has a sequence number and is repeated (`Request::Resume`) until the host has acknowledged it, which
//! it must do only after it has stored it durably. Every request is idempotent, so a broken link costs a retry.

mod frame;
mod hello;

pub use frame::{FrameDecoder, FrameError, MAX_FRAME, MAX_WRITE, encode_frame};
pub use hello::{Hello, HelloError, PROTOCOL_VERSION};

use crate::agreement::{Attempt, Fork, Subject};
use crate::bytes::variable;
use crate::check::Check;
use crate::ecdsa::EthereumSignature;
use crate::epoch::{SignedEpoch, Waiting};
use crate::ethereum::{DepositData, SignedVoluntaryExit};
use crate::events::ChainEvent;
use crate::identity::Identity;
use crate::ids::{Address, CeremonyId, ManifestHash, MemberId, Nonce, PoolId};
use crate::message::{Attestation, Broadcast, Certificates, Challenge, Envelope, Step};
use crate::proof::ProofRequest;
use crate::record::{KeySlot, LogHead, SealedError, SealedRecord};
use crate::transcript::Transcript;
use alloc::{boxed::Box, vec::Vec};
use serde::{Deserialize, Serialize};

/// What a host asks of its enclave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Where do you stand? Changes nothing.
    Status,
    /// Take part in the DAO of this manifest as this member. Repeating it with the same content is harmless.
    Start {
        /// The first one, in canonical form: what `HOST_DATA` of the launch says.
        #[serde(with = "variable")]
        manifest: Vec<u8>,
        /// What has changed since, in order.
        epochs: Vec<SignedEpoch>,
        /// Which member this enclave serves.
        member: MemberId,
        /// The chip's chain: untrusted, handed on with evidence.
        certificates: Certificates,
    },
    /// A claim about the chains.
    Observe(ChainEvent),
    /// A message from another enclave: the encoding of a [`crate::message::PeerMessage`].
    Deliver(#[serde(with = "variable")] Vec<u8>),
    /// Some time has passed: ask again for what is missing.
    Tick,
    /// Leave the attempt at this decision: it takes too long.
    GiveUp(Subject),
    /// Take no part until an epoch makes a cut: its list must name the copy that [`Status::waiting`] then shows.
    AwaitCut,
    /// Repeat every output that was not acknowledged.
    Resume,
    /// Outputs up to this sequence number are stored. Refused if the last of them was not handed out on this connection.
    Acknowledge(u64),
    /// Give a report over zeros, which proves nothing about anybody: it says which certificates the machine needs.
    Report,
    /// Prove to whoever sent this nonce, which is no enclave, who you are.
    Attest(Nonce),
    /// Use other certificates from now on: after a firmware update, or with a new revocation list.
    Renew(Certificates),
    /// Go on without these members, as far as they are not admitted and enough others are. Replaces what was said before;
    /// a member that is admitted takes part in whatever begins afterwards.
    GoOnWithout(Vec<MemberId>),
    /// Ask members for fresh evidence: this one, or all. Who turns out to be unacceptable is cut off.
    Reattest(Option<MemberId>),
    /// Go on from sealed state: this slot holds its key. The records follow ([`Request::Records`]). Begins again if it has
    /// begun before; refused once the enclave has state of its own.
    Restore {
        /// The newest that the host has.
        slot: Box<KeySlot>,
        /// The chip's chain, as in [`Request::Start`].
        certificates: Certificates,
    },
    /// The next records of the log, in their order: as many as fit a frame.
    Records(Vec<SealedRecord>),
    /// There are no more records: the state is whole.
    Restored,
    /// Get ready to take over from this member's enclave, whose code a newer one replaces.
    Succeed {
        /// As in [`Request::Start`].
        #[serde(with = "variable")]
        manifest: Vec<u8>,
        /// As in [`Request::Start`].
        epochs: Vec<SignedEpoch>,
        /// Which member's.
        member: MemberId,
        /// The chip's chain, as in [`Request::Start`].
        certificates: Certificates,
    },
    /// To the enclave that is replaced: prove to this successor who you are, and have it prove itself.
    Introduce(Challenge),
    /// To the successor: this is the enclave that is replaced, and what it asks.
    Meet(Box<Introduction>),
    /// To the enclave that is replaced: hand everything over to this successor, and end.
    HandOver(Box<Attestation>),
    /// To the successor: here is what was handed over. The records follow, as after [`Request::Restore`].
    TakeOver(Envelope),
    /// The manifest's next epoch. One that is known is passed over.
    Amend(SignedEpoch),
    /// Sign something for a pool manager, if it is so.
    Prove(ProofRequest),
}

/// An enclave that is to be replaced proves itself to its successor, and asks it to do the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Proof.
    pub attestation: Attestation,
    /// The question.
    pub challenge: Challenge,
}

/// An enclave's answer: the reply, then the outputs that the request caused, to be acted on in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// To the request itself.
    pub reply: Reply,
    /// Numbered, ascending: for each change of state first its sealed record, then what depends on it. A host MUST store
    /// all of a response in one transaction: what came with a record that is there was stored with it.
    pub outputs: Vec<NumberedOutput>,
    /// Whether more outputs wait than fit a frame: [`Request::Resume`] has them.
    pub more: bool,
}

/// To a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done, or already done.
    Done,
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// Refused; nothing has changed.
    Rejected(Rejection),
    /// To [`Request::Report`].
    Report(#[serde(with = "variable")] Vec<u8>),
    /// To [`Request::Prove`]: signed in the epoch that was asked about.
    Proved(EthereumSignature),
    /// To [`Request::Attest`] and [`Request::Meet`].
    Attestation(Box<Attestation>),
    /// To [`Request::Succeed`].
    Challenge(Challenge),
    /// To [`Request::Introduce`].
    Introduction(Box<Introduction>),
}

/// Most decisions that a status lists.
pub const MAX_UNDECIDED: usize = 256;

/// Where an enclave stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its identity, once started.
    pub identity: Option<Identity>,
    /// Its manifest, once started: the newest that it was told of.
    pub manifest: Option<ManifestHash>,
    /// That manifest's epoch.
    pub epoch: u64,
    /// Members whose evidence it has accepted, itself included.
    pub admitted: Vec<MemberId>,
    /// Members whose latest evidence it has refused, and that are not admitted.
    pub refused: Vec<RefusedMember>,
    /// Sequence number of its newest output, 0 before the first. Numbers start again when the enclave does.
    pub newest_output: u64,
    /// Whether it takes part.
    pub standing: Standing,
    /// How often it was restored from its log.
    pub incarnation: u64,
    /// Where its log stands.
    pub head: LogHead,
    /// While it waits for a cut: what that must say of it (`postern_shared::manifest::Cut`).
    pub waiting: Option<Box<Waiting>>,
    /// What is to be decided, and the attempt at it that this enclave is in and may leave: the first [`MAX_UNDECIDED`].
    pub undecided: Vec<(Subject, Attempt)>,
}

/// Whether an enclave takes part in what the DAO does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It waits to be started, or restored.
    Idle,
    /// It is being restored.
    Restoring {
        /// Number of the record that is due.
        next: u64,
    },
    /// It was restored, and asks the others whether its state is the newest.
    Returning {
        /// Members that act, and know of nothing newer.
        acting: u16,
        /// So many of them are enough.
        wanted: u16,
        /// Members that were restored too, and know of nothing newer.
        waiting: u16,
        /// Whether it is enough if all others answer, acting or not.
        automatic: bool,
    },
    /// It takes no part until an epoch makes a cut that names this copy of it.
    AwaitingCut,
    /// It takes part.
    Acting,
    /// Its state is not the newest: it takes no part.
    Stale(StaleLog),
    /// It is made, and waits for the DAO to name it.
    Candidate,
    /// It waits for what it is to take over.
    Succeeding,
    /// It has handed its state over: it takes no part any more.
    HandedOver,
    /// The DAO has given this machine up: another enclave is the member now.
    Replaced,
}

impl core::fmt::Display for Standing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Idle => f.write_str("waits to be started or restored"),
            Self::Restoring { next } => write!(f, "is being restored: record {next} is due"),
            Self::Returning { acting, wanted, waiting, automatic } => {
                write!(
                    f,
                    "was restored and WAITS: {acting} of {wanted} required active members have confirmed that they know of nothing newer; {waiting} others are also waiting"
                )?;
                if *automatic { f.write_str(" (all others together are enough)") } else { Ok(()) }
            }
            Self::AwaitingCut => f.write_str("WAITS for a cut: an epoch that names this copy"),
            Self::Acting => f.write_str("acts"),
            Self::Stale(StaleLog { kind, own, known, told_by, .. }) => {
                let kind = match kind {
                    StaleKind::RolledBack => "records are missing at its end",
                    StaleKind::Forked => "it is another history",
                    StaleKind::Superseded => "another enclave was restored from the log since",
                };
                write!(f, "has OLD STATE, up to record {own}: {kind}; {told_by} knows of record {known}")
            }
            Self::Candidate => f.write_str("is a CANDIDATE: the DAO has not named it in an epoch yet"),
            Self::Succeeding => f.write_str("waits for what it is to take over"),
            Self::HandedOver => f.write_str("has HANDED its state OVER"),
            Self::Replaced => f.write_str("is DEAD: the manifest has replaced its machine"),
        }
    }
}

/// What is wrong with a state that was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StaleKind {
    /// Records are missing at the end: the log goes on after its newest.
    RolledBack,
    /// Another history: the log has another record in its newest one's place.
    Forked,
    /// Another enclave was restored from the same log, and is the member now.
    Superseded,
}

/// What shows that a state is not the newest: the enclave's own signed note, which another member remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaleLog {
    /// What is wrong.
    pub kind: StaleKind,
    /// Whose log.
    pub member: MemberId,
    /// The record at which this state stands.
    pub own: u64,
    /// The record at which the log is known to have stood.
    pub known: u64,
    /// By whom.
    pub told_by: MemberId,
}

/// A member that is not admitted, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedMember {
    /// Who.
    pub member: MemberId,
    /// Every check that its evidence failed.
    pub checks: Vec<Check>,
    /// Whether it had been admitted before, and has proved since that it is no longer acceptable.
    pub cut_off: bool,
}

/// An output and its place in the order of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberedOutput {
    /// Counts from 1, without gaps.
    pub sequence: u64,
    /// What to do.
    pub output: Output,
}

/// What an enclave wants done. The host must not act on one before it has stored those that come before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Keep this durably, and give it to peers' hosts that lack it.
    Store(Record),
    /// Carry a message to other enclaves.
    Send {
        /// To whom.
        to: Recipient,
        /// The encoding of a [`crate::message::PeerMessage`].
        #[serde(with = "variable")]
        message: Vec<u8>,
    },
    /// A public result.
    Publish(Artifact),
    /// Something to show people.
    Notice(Notice),
    /// For the successor of this enclave, which ends.
    HandOver(Envelope),
}

/// What the host keeps for its enclave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A broadcast, this enclave's own or one that it has accepted: any member's host can serve it to one whose copy
    /// was lost, so that no relay can make it look as if the speaker had been silent.
    Broadcast(Broadcast),
    /// The enclave's own state: the next record of its log.
    Sealed(Box<SealedRecord>),
    /// The key to the log.
    Slot(Box<KeySlot>),
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recipient {
    /// Every other member.
    Everyone,
    /// One member.
    One(MemberId),
}

/// A public result of a ceremony.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Artifact {
    /// The record of a ceremony that ended well.
    Transcript(Box<Transcript>),
    /// A signed deposit, for the pool manager.
    Deposit {
        /// The pool.
        pool: PoolId,
        /// To hand in.
        data: DepositData,
        /// Who holds shares of the key, ascending.
        operators: Vec<MemberId>,
    },
    /// A released exit, for the beacon chain.
    Exit {
        /// The pool.
        pool: PoolId,
        /// To post.
        exit: SignedVoluntaryExit,
    },
    /// Wallets that have signed two epochs in one's place.
    Fork(Box<Fork>),
}

/// Which protocol a ceremony runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CeremonyKind {
    /// Makes a validator's key and signs its deposit.
    Keygen,
    /// Splits the validator's exit among the guardians.
    Presign,
    /// Puts it together again.
    Release,
    /// Deals the shares of a validator's key again.
    Reshare,
}

/// News for people and dashboards. A closed list without free text, so that nothing can hide in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// A peer's evidence is accepted.
    Admitted(MemberId),
    /// A peer's evidence is refused.
    Refused(RefusedMember),
    /// A ceremony has heard `have` of the `of` statements of a step.
    Progress {
        /// Which run.
        ceremony: CeremonyId,
        /// Of which protocol.
        kind: CeremonyKind,
        /// For which pool.
        pool: PoolId,
        /// Which step.
        step: Step,
        /// Statements heard.
        have: u16,
        /// Statements wanted.
        of: u16,
    },
    /// A ceremony lacks a member's statement (said at each tick).
    Missing {
        /// Which run.
        ceremony: CeremonyId,
        /// Which step.
        step: Step,
        /// Whose statement.
        member: MemberId,
    },
    /// A ceremony has ended well.
    Finished {
        /// Which run.
        ceremony: CeremonyId,
        /// Of which protocol.
        kind: CeremonyKind,
        /// For which pool.
        pool: PoolId,
    },
    /// A member was caught cheating; the proof is in the transcript.
    Fault {
        /// Where.
        ceremony: CeremonyId,
        /// Of which protocol.
        kind: CeremonyKind,
        /// For which pool.
        pool: PoolId,
        /// By whom.
        culprit: MemberId,
        /// Whether the ceremony ended because of it.
        aborted: bool,
    },
    /// The enclave was restored and takes part again, as this incarnation.
    Returned(u64),
    /// The enclave was restored from a state that is not the newest.
    Stale(StaleLog),
    /// A peer was restored from a state that is not the newest, and was told so.
    StalePeer(StaleLog),
    /// A secret for this member's enclave was withheld: the manifest has declared that enclave dead.
    Withheld(MemberId),
    /// A member has said two things in one place of an agreement.
    TwoFaced(MemberId),
}

/// Why a request was refused.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// The enclave has no manifest yet.
    #[error("the enclave has not been started")]
    NotStarted,
    /// It was started with other content before.
    #[error("the enclave was started already, with another manifest or member")]
    StartedOtherwise,
    /// The manifest does not decode or validate.
    #[error("the manifest is invalid")]
    InvalidManifest,
    /// The manifest trusts another root than the platform's.
    #[error("the manifest's root of trust is not this platform's")]
    WrongTrust,
    /// No such member, or not in the role that this needs.
    #[error("{0} is not in the manifest, or not in the role that this needs")]
    NotAMember(MemberId),
    /// The enclave's own evidence would not satisfy its peers.
    #[error("the enclave's own report does not satisfy the manifest")]
    OwnEvidence,
    /// The platform failed.
    #[error("the platform gave no report or no randomness")]
    Platform,
    /// Bytes that are no message.
    #[error("the message does not decode")]
    Malformed,
    /// Longer than anything that an honest enclave says: it counts as not said.
    #[error("longer than any honest message of its kind")]
    TooLong,
    /// A message for somebody else.
    #[error("the message is for another member")]
    Misdirected,
    /// The evidence does not hold.
    #[error("the evidence was refused")]
    Evidence,
    /// The evidence answers no open challenge of ours.
    #[error("the evidence answers no open challenge")]
    StaleEvidence,
    /// The sender is not admitted (yet).
    #[error("{0} is not admitted")]
    NotAdmitted(MemberId),
    /// A signature or an envelope's authentication does not hold.
    #[error("the message is not authentic")]
    NotAuthentic,
    /// A ceremony that this enclave does not know (yet).
    #[error("unknown ceremony")]
    UnknownCeremony,
    /// The ceremony is not at that step yet.
    #[error("too early for this step of the ceremony")]
    TooEarly,
    /// The ceremony was aborted.
    #[error("the ceremony was aborted")]
    Aborted,
    /// The statement is wrong; its speaker is named in a notice.
    #[error("the statement is invalid")]
    Invalid,
    /// A claim that contradicts an earlier one.
    #[error("the event contradicts an earlier one")]
    ContradictoryEvent,
    /// An event of another chain than the manifest's.
    #[error("the event is of chain {0}, not of the manifest's")]
    OtherChain(u64),
    /// An event of a contract that is none of the DAO's pool managers, now or in any epoch that this enclave knows.
    ///
    /// Not transient, though an epoch that is still to come may name the contract: a host hands every epoch that it knows
    /// to its enclave before it reports events, and reports all of them again whenever it has connected again. To wait
    /// would hold up the events behind this one.
    #[error("the event is of contract {0}, which no epoch so far names as pool manager")]
    OtherContract(Address),
    /// There is no attempt to leave: nothing is to be decided, or it is decided, or this enclave may not say so (yet).
    #[error("there is no attempt to leave")]
    NothingToLeave,
    /// Sealed state that can't be restored; what was given of it is forgotten.
    #[error(transparent)]
    Sealed(SealedError),
    /// Records without a slot before them.
    #[error("records without a key slot")]
    NotRestoring,
    /// The enclave was restored and waits for its peers.
    #[error("the enclave waits for its peers to say that its state is the newest")]
    Returning,
    /// The enclave was restored from an old state.
    #[error("the enclave's state is not the newest: take it from the newest records")]
    Stale,
    /// The enclave has handed its state over to a successor.
    #[error("the enclave has handed its state over to a successor")]
    HandedOver,
    /// The manifest has replaced the machine that this enclave runs on.
    #[error("the manifest has replaced this machine: another enclave is the member now")]
    Replaced,
    /// Not the manifest's next epoch, or not signed by a quorum.
    #[error("the epoch does not follow on the manifest, or is not signed by a quorum of its members")]
    InvalidEpoch,
    /// An enclave that has never acted is listed in no cut: nobody has told it what was said in its place before.
    #[error(
        "this enclave has never acted: the cut has to name another one in its place, with the next machine number"
    )]
    Newcomer,
    /// A cut in the place of an epoch that this enclave has voted for, which may be in force.
    #[error("this enclave has voted for another epoch in its place: make the cut on top of that one")]
    VotedOtherwise,
    /// An epoch with new members: they would need shares.
    #[error("members can't join yet: nothing would give them shares")]
    NewMembers,
    /// A peer is at a later epoch of the manifest.
    #[error("the DAO is at epoch {0} of its manifest, this enclave at an earlier one")]
    Behind(u64),
    /// The successor is no newer than what it is to replace.
    #[error("the successor's code is not listed in the manifest as newer")]
    NoUpgrade,
    /// What is to be proved is not so, as far as this enclave knows.
    #[error("this enclave knows of nothing that it could sign for the pool manager here")]
    NothingToProve,
    /// Nothing was asked that this would answer.
    #[error("there is nothing to hand over or take over")]
    NoSuccession,
    /// Another enclave than the one that the manifest names for this member.
    #[error("the manifest names another enclave of {0}")]
    OtherEnclave(MemberId),
    /// The DAO has not named this enclave yet.
    #[error("the DAO has not named this enclave yet")]
    Candidate,
    /// An epoch has let in a later copy of the speaker's enclave.
    #[error("an epoch has let in a later copy of it")]
    Superseded,
    /// The speaker goes by another manifest: what it says counts under that one only.
    #[error("it goes by another manifest")]
    OtherManifest,
    /// More questions of one member than are answered between two ticks. It asks again at its own next tick.
    #[error("too many challenges of one member")]
    TooOften,
    /// Too much is open: acknowledge outputs first.
    #[error("too many open outputs or ceremonies")]
    Busy,
    /// An acknowledgement of outputs that the host can't have stored.
    #[error("outputs can't be acknowledged that were not handed out on this connection")]
    NotHandedOut,
}

impl Rejection {
    /// Whether the same message may be accepted later, so that its carrier should keep it.
    pub fn is_transient(self) -> bool {
        use Rejection::*;
        matches!(
            self,
            NotStarted
                | Platform
                | NotAdmitted(_)
                | UnknownCeremony
                | TooEarly
                | Busy
                | Returning
                | Candidate
                | Behind(_)
        )
    }
}
