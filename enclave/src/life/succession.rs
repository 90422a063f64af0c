//! Upgrade: an enclave hands its state over to newer code.
//!
//! Both run on the member's machine at the same time; their host carries what they say. Each proves itself to the other as
//! to any peer ([`Request::Introduce`], [`Request::Meet`]), the successor under keys that it makes for this only. The
//! manifest lists both measurements, so a quorum of the DAO has agreed, and the successor's as the newer one.
//!
//! What is handed over is the key to the log, and where it ends; the log itself stays where it is. The old enclave notes
//! the end in its state, writes a snapshot behind it, which is all that the successor reads (it need not understand the
//! changes before), and gives the key away when enough members remember that place. From then on it answers for nothing.
//! The successor goes on in a log of its own, under a key that the old build never has: nothing that it writes can be read
//! by the code that the DAO has retired. Its host takes that log for the enclave's when it is whole, with its slot.
//!
//! # Two owners
//! There are never two that act. The old enclave has stopped before the key leaves; restored from records before the end,
//! it is told that they are old, like after any rollback; restored from the end, it can do nothing but hand over again.
//! The successor begins another incarnation like any enclave that was restored, of which only one acts: two successors of
//! one end are two ballots with the same history (`witness`). Interrupted before
//! the end is noted, nothing has happened; afterwards the hand-over is repeated, with another successor too.
//!
//! [`Request::Introduce`]: postern_shared::wire::Request::Introduce
//! [`Request::Meet`]: postern_shared::wire::Request::Meet

use crate::admission::{Admission, RefusedEvidence, fresh_nonce};
use crate::crypto::coins::Coins;
use crate::crypto::keys::IdentityKeys;
use crate::dao::Dao;
use crate::effects::Turn;
use crate::log::journal::LogName;
use crate::log::seal::SavedKeys;
use crate::machine::platform::Platform;
use postern_shared::codec;
use postern_shared::hash::Transcriber;
use postern_shared::identity::Identity;
use postern_shared::ids::{CeremonyId, ManifestHash, Measurement, MemberId};
use postern_shared::manifest::Manifest;
use postern_shared::message::{Attestation, Certificates, Challenge, Envelope, EnvelopeHeader, Slot, Step};
use postern_shared::record::{LogHead, LogId};
use postern_shared::wire::{Introduction, Notice, Rejection};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What is handed over. Serialized only into an envelope.
#[derive(Serialize, Deserialize)]
pub(crate) struct Inheritance {
    pub(crate) log: LogId,
    pub(crate) keys: SavedKeys,
    /// The snapshot's last record.
    pub(crate) head: LogHead,
}

/// An enclave that is to take over.
pub(crate) struct Heir {
    manifest: Manifest,
    keys: IdentityKeys,
    admission: Admission,
    challenge: Challenge,
    pub(crate) certificates: Certificates,
    /// Whom it has met.
    predecessor: Option<Identity>,
}

impl Heir {
    /// Makes keys for this hand-over, and proves to itself that its evidence would do.
    pub(crate) fn new(
        manifest: Manifest,
        member: MemberId,
        certificates: Certificates,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<Self, Rejection> {
        let mut seed = Zeroizing::new([0; 32]);
        turn.platform.fill_random(&mut seed[..]).map_err(|_| Rejection::Platform)?;
        let machine = manifest.member(member).map(|entry| entry.machine).unwrap_or_default();
        let keys = IdentityKeys::derive(&Coins::new(seed), member, machine);
        let own = *keys.identity();
        let mut admission = Admission::new(&manifest, own, turn.platform.trust_anchor().clone());
        admission.renew(&manifest, certificates.clone(), turn.platform).map_err(|refused| match refused {
            RefusedEvidence::Own(refused) => {
                turn.outbox.notice(Notice::Refused(refused));
                Rejection::OwnEvidence
            }
            RefusedEvidence::Other(rejection) => rejection,
        })?;
        let challenge = keys.sign_challenge(manifest.genesis(), member, fresh_nonce(turn.platform)?);
        Ok(Self { manifest, keys, admission, challenge, certificates, predecessor: None })
    }

    pub(crate) fn challenge(&self) -> Challenge {
        self.challenge
    }

    /// Judges the enclave that is replaced, and answers it.
    pub(crate) fn meet(
        &mut self,
        introduction: &Introduction,
        platform: &mut impl Platform,
    ) -> Result<Attestation, Rejection> {
        let Introduction { attestation, challenge } = introduction;
        let own = self.keys.identity().member;
        if challenge.from != attestation.identity || challenge.to != own {
            return Err(Rejection::Misdirected);
        }
        if !challenge.verify(self.manifest.genesis()) {
            return Err(Rejection::NotAuthentic);
        }
        let theirs = self.admission.judge_kin(&self.manifest, attestation, self.challenge.nonce)?;
        must_upgrade(&self.manifest, theirs, self.admission.own_measurement())?;
        self.predecessor = Some(attestation.identity);
        self.admission.answer(Some(challenge.from), challenge.nonce, platform)
    }

    /// Opens what the enclave that it has met hands over.
    pub(crate) fn open(&self, envelope: &Envelope) -> Result<(LogName, Inheritance), Rejection> {
        let predecessor = self.predecessor.as_ref().ok_or(Rejection::NoSuccession)?;
        let (dao, own) = (self.manifest.genesis(), self.keys.identity());
        if envelope.header != header(dao, own) {
            return Err(Rejection::Misdirected);
        }
        let plaintext = self.keys.open(predecessor, envelope).ok_or(Rejection::NotAuthentic)?;
        let inheritance: Inheritance = postcard::from_bytes(&plaintext).map_err(|_| Rejection::Malformed)?;
        let name = LogName { dao, member: own.member, log: inheritance.log };
        Ok((name, inheritance))
    }
}

/// The enclave that is replaced judges its successor.
pub(crate) fn judge(
    Dao { admission, manifest, .. }: &mut Dao,
    successor: &Attestation,
) -> Result<(), Rejection> {
    let challenge = admission.asked_kin().ok_or(Rejection::NoSuccession)?;
    let theirs = admission.judge_kin(manifest, successor, challenge)?;
    must_upgrade(manifest, admission.own_measurement(), theirs)
}

/// Seals what is handed over to a successor that was judged.
pub(crate) fn hand_over(
    dao: &Dao,
    successor: &Identity,
    inheritance: &Inheritance,
) -> Result<Envelope, Rejection> {
    let plaintext = codec::encode_secret(inheritance);
    let header = header(dao.genesis, successor);
    dao.keys.seal(&dao.coins, header, successor, &plaintext).ok_or(Rejection::Malformed)
}

fn must_upgrade(
    manifest: &Manifest,
    from: Option<Measurement>,
    to: Option<Measurement>,
) -> Result<(), Rejection> {
    match (from, to) {
        (Some(from), Some(to)) if manifest.attestation.is_upgrade(from, to, manifest.epoch) => Ok(()),
        _ => Err(Rejection::NoUpgrade),
    }
}

/// One place for each successor.
fn header(dao: ManifestHash, successor: &Identity) -> EnvelopeHeader {
    let ceremony = Transcriber::new("postern-hand-over-v1").bytes(&dao.0).bytes(&successor.to_bytes());
    let member = successor.member;
    let slot =
        Slot { ceremony: CeremonyId(ceremony.finish().0), from: member, step: Step::HandOver, item: 0 };
    EnvelopeHeader { slot, to: member }
}
