//! Everything that changes an enclave's state. The state is a function of its changes, in their order: what was judged
//! with the machine's help (evidence, randomness) is in here as its result.

use crate::crypto::secret::SecretBytes;
use postern_shared::agreement::{Mark, Subject, Voters};
use postern_shared::bytes::variable;
use postern_shared::codec;
use postern_shared::epoch::{PoolManager, SignedEpoch};
use postern_shared::events::ChainEvent;
use postern_shared::identity::Identity;
use postern_shared::ids::{CeremonyId, ChipId, MemberId, Nonce};
use postern_shared::message::{Attestation, Broadcast, Envelope, PeerMessage};
use postern_shared::record::LogId;
use postern_shared::wire::RefusedMember;
use postern_shared::witness::SignedNote;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// See the module. Part of what is sealed: a build never reads another's records, so variants may be renumbered.
#[derive(Serialize, Deserialize)]
pub(crate) enum Change {
    /// The enclave was started.
    Begun(Box<Genesis>),
    /// Something happened on a chain.
    Observed(ChainEvent),
    /// The host wants to go on without these.
    Without(Vec<MemberId>),
    /// The host wants to leave the attempt at a decision.
    GivenUp(Subject),
    /// Time has passed, and ceremonies went on because of it.
    Ticked,
    /// It is this enclave's turn to collect shares for a release.
    Collect(CeremonyId),
    /// A peer said something in a ceremony or an agreement.
    Heard(Heard),
    /// A peer's evidence was accepted.
    Admitted(Box<Admitted>),
    /// A peer has proved that it is no longer acceptable.
    CutOff(RefusedMember),
    /// A member asks to act, as this ballot, and nothing is against it.
    Promised(SignedNote),
    /// A member's log has come so far.
    Noted(SignedNote),
    /// Others have shown what they remember of members.
    Learnt(Vec<SignedNote>),
    /// Wallets have signed an epoch, which is to be agreed on.
    Signed(Box<SignedEpoch>),
    /// The manifest has a new epoch.
    Amended(Box<SignedEpoch>),
    /// So many outputs that were held back have left.
    LetOut(u32),
    /// The enclave asks to act, as this incarnation.
    Returned(u64, Nonce),
    /// The enclave takes part again; so far the others have adopted keys.
    Resumed(Vec<Mark>),
    /// The enclave ends: a successor is given its state.
    HandedOver,
}

/// What a peer can say that changes the state. Sealed as the message that it came in.
pub(crate) enum Heard {
    Broadcast(Broadcast),
    Envelope(Envelope),
}

impl Serialize for Heard {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = match self {
            Self::Broadcast(statement) => PeerMessage::Broadcast(statement.clone()),
            Self::Envelope(envelope) => PeerMessage::Envelope(envelope.clone()),
        };
        variable::serialize(&codec::encode(&message), serializer)
    }
}

impl<'de> Deserialize<'de> for Heard {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match codec::decode(&variable::deserialize(deserializer)?) {
            Ok(PeerMessage::Broadcast(statement)) => Ok(Self::Broadcast(statement)),
            Ok(PeerMessage::Envelope(envelope)) => Ok(Self::Envelope(envelope)),
            _ => Err(D::Error::custom("neither a statement nor an envelope")),
        }
    }
}

/// What an enclave begins with.
#[derive(Serialize, Deserialize)]
pub(crate) struct Genesis {
    /// Canonical form of the newest manifest.
    #[serde(with = "postern_shared::bytes::variable")]
    pub(crate) manifest: Vec<u8>,
    pub(crate) member: MemberId,
    /// Which of the member's machines this is.
    pub(crate) machine: u32,
    /// What all coins come from: 32 bytes.
    pub(crate) seed: SecretBytes,
    pub(crate) nonce: Nonce,
    pub(crate) log: LogId,
    /// Of this manifest and of all before it.
    pub(crate) pool_managers: Vec<PoolManager>,
    /// By this manifest and by all before it.
    pub(crate) voters: Vec<Voters>,
    /// The enclaves that all these have named.
    pub(crate) identities: Vec<Identity>,
}

/// A peer, and the guest that it is.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Admitted {
    pub(crate) attestation: Attestation,
    pub(crate) guest: Guest,
}

/// Which guest of which chip.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Guest {
    /// Zeros if the chip hides.
    pub(crate) chip: ChipId,
    /// By the chip's word: another chip may copy it.
    pub(crate) report_id: [u8; 32],
}

impl Guest {
    /// Whether both may be one guest: of chips that hide, only the report's id tells.
    pub(crate) fn may_be(&self, other: &Self) -> bool {
        let hidden = ChipId([0; 64]);
        let same_chip = self.chip == other.chip || self.chip == hidden || other.chip == hidden;
        same_chip && self.report_id == other.report_id
    }
}
