//! Whom this enclave talks to: peers whose evidence it has verified against the manifest, over its own fresh challenge.
//!
//! A peer that has been admitted stays so until it proves, in answer to a new challenge, that it is no longer acceptable:
//! then it is cut off. Bad evidence that anybody could have made, or spoilt, cuts off nobody ([`Refusal::convicts`]).
//!
//! # What others can make this enclave do
//! A challenge is signed with the keys of the identity that it names, so nobody has evidence sent to another enclave. Keys
//! are made up easily, so each member is answered only so often (`answers`). A challenge of this enclave is good for one
//! verification, whatever comes of it; the next tick asks with a fresh nonce. So between two ticks a member makes this
//! enclave verify evidence once, unless its own host wants it more often. A member that is cut off changes nothing more.
//!
//! # State and restart
//! Who was admitted with which enclave, and who was cut off, is part of the state. Challenges are not: an enclave that was
//! restored proves itself anew, and has all others do so.

mod answers;

use crate::crypto::keys::IdentityKeys;
use crate::effects::Turn;
use crate::log::change::{Admitted, Guest};
use crate::machine::platform::Platform;
use answers::{Answers, Asker, Due};
#[cfg(doc)]
use postern_attestation::Refusal;
use postern_attestation::{Binding, Launch, Time, TrustAnchor, UnverifiedReport, Verifier};
use postern_shared::check::Check;
use postern_shared::identity::{Identity, Roster};
use postern_shared::ids::{ChipId, ManifestHash, Measurement, MemberId, Nonce};
use postern_shared::manifest::Manifest;
use postern_shared::message::{Attestation, Certificates, Challenge, Evidence, PeerMessage};
use postern_shared::wire::{Introduction, RefusedMember, Rejection};
use std::collections::{BTreeMap, BTreeSet};

/// Peers by what is known of them.
pub(crate) struct Admission {
    /// The first manifest: what `HOST_DATA` says.
    dao: ManifestHash,
    own: Identity,
    verifier: Verifier,
    /// The own evidence of this launch, with the certificates that are handed on.
    own_evidence: Option<Admitted>,
    certificates: Option<Certificates>,
    /// What members were asked: at most one question for each.
    asked: BTreeMap<MemberId, Question>,
    answers: Answers,
    /// The challenge to an enclave of the own member that is to take over.
    kin: Option<Nonce>,
    /// Members that have proved themselves to this launch of this enclave.
    fresh: BTreeSet<MemberId>,
    /// Everybody's enclave, of those that have shown evidence: only a manifest brings another.
    enclaves: BTreeMap<MemberId, Admitted>,
    /// Enclaves that an epoch has replaced, by member and machine: transcripts of what they took part in show their evidence.
    former: BTreeMap<(MemberId, u32), Admitted>,
    /// Why those that are not admitted are not, as far as they have shown evidence.
    refused: BTreeMap<MemberId, RefusedMember>,
}

/// A challenge to a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    /// It waits for its answer.
    Open(Nonce),
    /// Evidence was verified for it since the last tick, so nothing more is until the next.
    Closed {
        /// Whether the next tick asks again.
        again: bool,
    },
}

/// What becomes of evidence.
pub(crate) enum Judgement {
    /// Nothing new.
    Known,
    /// Its member is admitted.
    Admit(Box<Admitted>),
    /// Its member was admitted, and is cut off.
    CutOff(RefusedMember),
    /// It is refused, and nothing else changes.
    Refuse(RefusedMember),
    /// It is refused for what its member was refused for before.
    RefuseAgain,
}

impl Admission {
    /// Knows nobody yet, and has no evidence of its own: see [`Self::renew`].
    pub(crate) fn new(manifest: &Manifest, own: Identity, anchor: TrustAnchor) -> Self {
        let rules = manifest.attestation.clone();
        // The enclave has no clock: all that it knows is when its rules were written.
        let time = Time::NotBefore(rules.not_before);
        Self {
            dao: manifest.genesis(),
            own,
            verifier: Verifier::new(anchor, rules, time),
            own_evidence: None,
            certificates: None,
            asked: BTreeMap::new(),
            answers: Answers::default(),
            kin: None,
            fresh: BTreeSet::new(),
            enclaves: BTreeMap::new(),
            former: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Uses these certificates from now on, if the own evidence satisfies the manifest with them like anybody's.
    pub(crate) fn renew(
        &mut self,
        manifest: &Manifest,
        certificates: Certificates,
        platform: &mut impl Platform,
    ) -> Result<(), RefusedEvidence> {
        if self.certificates.as_ref() == Some(&certificates) {
            return Ok(());
        }
        let own = self.own;
        let challenge = fresh_nonce(platform)?;
        let attestation = self.attest(Some(own), challenge, certificates.clone(), platform)?;
        match self.verify(manifest, &attestation)? {
            Ok(admitted) => self.own_evidence = Some(admitted),
            Err(Refused { checks, .. }) => {
                return Err(RefusedEvidence::Own(RefusedMember {
                    member: own.member,
                    checks,
                    cut_off: false,
                }));
            }
        }
        self.certificates = Some(certificates);
        self.answers.forget();
        Ok(())
    }

    /// The enclave that was admitted for a member, whether or not it still is.
    pub(crate) fn enclave(&self, member: MemberId) -> Option<&Identity> {
        if member == self.own.member {
            return Some(&self.own);
        }
        self.enclaves.get(&member).map(|admitted| &admitted.attestation.identity)
    }

    /// The verified identity of a member.
    pub(crate) fn identity(&self, member: MemberId) -> Option<&Identity> {
        self.enclave(member).filter(|_| self.not_cut_off(member).is_ok())
    }

    /// Admitted members, this one included.
    pub(crate) fn members(&self) -> Vec<MemberId> {
        let others = self.enclaves.keys().copied().filter(|member| self.not_cut_off(*member).is_ok());
        let mut members: Vec<MemberId> = others.chain([self.own.member]).collect();
        members.sort_unstable();
        members
    }

    /// Whether a member has proved itself since this enclave was launched.
    pub(crate) fn is_fresh(&self, member: MemberId) -> bool {
        self.fresh.contains(&member) && self.not_cut_off(member).is_ok()
    }

    /// Refuses a member that is cut off.
    pub(crate) fn not_cut_off(&self, member: MemberId) -> Result<(), Rejection> {
        match self.refused.get(&member) {
            Some(refused) if refused.cut_off => Err(Rejection::NotAdmitted(member)),
            _ => Ok(()),
        }
    }

    /// Who is not admitted, and why.
    pub(crate) fn refused(&self) -> impl Iterator<Item = &RefusedMember> {
        self.refused.values()
    }

    /// The identities of all these members, if all are admitted.
    pub(crate) fn roster(&self, members: &[MemberId]) -> Option<Roster> {
        members.iter().map(|member| self.identity(*member).copied()).collect::<Option<_>>().map(Roster::new)
    }

    /// The evidence by which a roster's members were admitted.
    pub(crate) fn attested(&self, roster: &Roster) -> Vec<Attestation> {
        let attested = |identity: &Identity| {
            let known = if identity.member == self.own.member {
                self.own_evidence.as_ref()
            } else {
                self.enclaves.get(&identity.member)
            };
            let former = self.former.get(&(identity.member, identity.machine));
            let mut attestations = known.into_iter().chain(former).map(|admitted| &admitted.attestation);
            attestations.find(|attestation| attestation.identity == *identity).cloned()
        };
        roster.identities().iter().filter_map(attested).collect()
    }

    /// Time has passed: members may be asked, and may ask, again.
    pub(crate) fn on_tick(&mut self) {
        self.answers.on_tick();
        self.asked.retain(|_, question| *question != Question::Closed { again: false });
    }

    /// Asks every member that has not proved itself to this launch; repeats open challenges.
    pub(crate) fn challenge_missing(
        &mut self,
        manifest: &Manifest,
        keys: &IdentityKeys,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        for member in manifest.members.iter().map(|member| member.id) {
            let wanted = match self.asked.get(&member) {
                Some(Question::Open(_)) => true,
                Some(Question::Closed { again }) => *again,
                None => !self.is_fresh(member),
            };
            if wanted {
                self.challenge(member, keys, turn)?;
            }
        }
        Ok(())
    }

    /// Asks a member for evidence, admitted or not. The own evidence is not asked for: see [`Self::renew`].
    pub(crate) fn challenge(
        &mut self,
        member: MemberId,
        keys: &IdentityKeys,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        if member == self.own.member {
            return Ok(());
        }
        let nonce = match self.asked.get(&member) {
            Some(Question::Open(nonce)) => *nonce,
            _ => fresh_nonce(turn.platform)?,
        };
        self.asked.insert(member, Question::Open(nonce));
        let challenge = keys.sign_challenge(self.dao, member, nonce);
        turn.outbox.send_to(member, &PeerMessage::Challenge(challenge));
        Ok(())
    }

    /// Asks a member that claims something only fresh evidence can support: an answer to what it was asked before it
    /// made a new claim proves nothing.
    pub(crate) fn challenge_claimant(
        &mut self,
        member: MemberId,
        is_new: bool,
        keys: &IdentityKeys,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        match self.asked.get_mut(&member) {
            Some(Question::Closed { again }) => {
                *again = true;
                return Ok(());
            }
            Some(Question::Open(_)) if is_new => {
                self.asked.remove(&member);
            }
            _ => {}
        }
        self.challenge(member, keys, turn)
    }

    /// Answers a challenge, and challenges back a peer that is new.
    pub(crate) fn on_challenge(
        &mut self,
        challenge: &Challenge,
        keys: &IdentityKeys,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        if !challenge.verify(self.dao) {
            return Err(Rejection::NotAuthentic);
        }
        let asker = challenge.from.member;
        let known = self.identity(asker) == Some(&challenge.from);
        let kind = if known { Asker::Admitted } else { Asker::Other };
        let answer = match self.answers.due(kind, challenge)? {
            Due::Nothing => return Ok(()),
            Due::Again(answer) => answer,
            Due::Report => {
                let answer = self.answer(Some(challenge.from), challenge.nonce, turn.platform)?;
                self.answers.keep(kind, asker, answer.clone());
                Box::new(answer)
            }
        };
        if !known && !self.asked.contains_key(&asker) {
            self.challenge(asker, keys, turn)?;
        }
        turn.outbox.send_to(asker, &PeerMessage::Evidence(answer));
        Ok(())
    }

    /// Judges a peer's evidence, which must answer an open challenge.
    pub(crate) fn on_evidence(
        &mut self,
        manifest: &Manifest,
        answer: &Attestation,
    ) -> Result<Judgement, Rejection> {
        let member = answer.identity.member;
        // Mirrored, redirected, or meant for an auditor.
        if answer.verifier != Some(self.own) || member == self.own.member {
            return Err(Rejection::Misdirected);
        }
        // A member has the one enclave that the DAO has named: another one, however well measured, knows nothing of what that
        // one has said.
        if manifest.identity(member) != Some(answer.identity) {
            return Err(Rejection::OtherEnclave(member));
        }
        let repeated = self.enclaves.get(&member).is_some_and(|known| {
            let known = &known.attestation;
            known.identity == answer.identity && known.challenge == answer.challenge
        });
        if repeated {
            return Ok(Judgement::Known);
        }
        if self.asked.get(&member) != Some(&Question::Open(answer.challenge)) {
            return Err(Rejection::StaleEvidence);
        }
        // Before it is verified: no two answers to one question cost anything.
        self.asked.insert(member, Question::Closed { again: true });
        match self.verify(manifest, answer)? {
            Ok(admitted) => {
                self.asked.insert(member, Question::Closed { again: false });
                self.fresh.insert(member);
                Ok(Judgement::Admit(Box::new(admitted)))
            }
            Err(refused) => Ok(self.refuse(answer, refused)),
        }
    }

    fn refuse(&mut self, answer: &Attestation, Refused { checks, convicts }: Refused) -> Judgement {
        let member = answer.identity.member;
        if let Some(admitted) = self.identity(member) {
            let cut_off = convicts && *admitted == answer.identity;
            let refused = RefusedMember { member, checks, cut_off };
            return if cut_off { Judgement::CutOff(refused) } else { Judgement::Refuse(refused) };
        }
        let before = self.refused.get(&member);
        if before.is_some_and(|before| before.checks == checks) {
            return Judgement::RefuseAgain;
        }
        // Whoever is cut off stays so until its evidence is good. That it fails other checks now is no news to the log.
        let cut_off = before.is_some_and(|before| before.cut_off);
        let refused = RefusedMember { member, checks, cut_off };
        self.refused.insert(member, refused.clone());
        Judgement::Refuse(refused)
    }

    /// Proves who this enclave is: to another, or to somebody that is no enclave.
    pub(crate) fn answer(
        &self,
        verifier: Option<Identity>,
        challenge: Nonce,
        platform: &mut impl Platform,
    ) -> Result<Attestation, Rejection> {
        let certificates = self.certificates.clone().ok_or(Rejection::OwnEvidence)?;
        self.attest(verifier, challenge, certificates, platform)
    }

    /// Proves itself to the enclave that is to take over, and asks it to do the same.
    pub(crate) fn introduce(
        &mut self,
        challenge: &Challenge,
        keys: &IdentityKeys,
        platform: &mut impl Platform,
    ) -> Result<Introduction, Rejection> {
        let own = self.own.member;
        if challenge.to != own || challenge.from.member != own {
            return Err(Rejection::Misdirected);
        }
        if !challenge.verify(self.dao) {
            return Err(Rejection::NotAuthentic);
        }
        let attestation = self.answer(Some(challenge.from), challenge.nonce, platform)?;
        let nonce = fresh_nonce(platform)?;
        self.kin = Some(nonce);
        Ok(Introduction { attestation, challenge: keys.sign_challenge(self.dao, own, nonce) })
    }

    /// The challenge to the enclave that is to take over.
    pub(crate) fn asked_kin(&self) -> Option<Nonce> {
        self.kin
    }

    /// Judges another enclave of the own member, on one of its chips; gives its measurement.
    pub(crate) fn judge_kin(
        &mut self,
        manifest: &Manifest,
        answer: &Attestation,
        challenge: Nonce,
    ) -> Result<Option<Measurement>, Rejection> {
        let kin = (answer.identity.member, answer.identity.machine);
        if answer.verifier != Some(self.own) || kin != (self.own.member, self.own.machine) {
            return Err(Rejection::Misdirected);
        }
        // Mirrored.
        if answer.identity == self.own {
            return Err(Rejection::Misdirected);
        }
        if answer.challenge != challenge {
            return Err(Rejection::StaleEvidence);
        }
        let kin = self.verify(manifest, answer)?.map_err(|_| Rejection::Evidence)?;
        Ok(measurement_of(&kin))
    }

    /// What this enclave was measured as, by its own evidence.
    pub(crate) fn own_measurement(&self) -> Option<Measurement> {
        self.own_evidence.as_ref().and_then(measurement_of)
    }

    /// From now on a member's enclave.
    pub(crate) fn admit(&mut self, admitted: Admitted) {
        let member = admitted.attestation.identity.member;
        self.refused.remove(&member);
        self.enclaves.insert(member, admitted);
    }

    /// Goes by a new epoch of the manifest: enclaves of machines that it replaces are dead for good. Says whose.
    ///
    /// What others have shown is judged by the new rules at once. Whoever does not satisfy them with it is cut off until it
    /// shows better: else an enclave whose code is retired would stay admitted for as long as it keeps silent.
    pub(crate) fn amend(&mut self, manifest: &Manifest, anchor: TrustAnchor) -> Amended {
        let rules = manifest.attestation.clone();
        let time = Time::NotBefore(rules.not_before);
        self.verifier = Verifier::new(anchor, rules, time);
        let lives = |admitted: &Admitted| {
            let identity = &admitted.attestation.identity;
            manifest.identity(identity.member).as_ref() == Some(identity)
        };
        let mut died = Vec::new();
        for (member, admitted) in self.enclaves.extract_if(.., |_, admitted| !lives(admitted)) {
            self.fresh.remove(&member);
            self.refused.remove(&member);
            self.former.insert((member, admitted.attestation.identity.machine), admitted);
            died.push(member);
        }
        let held: Vec<Attestation> =
            self.enclaves.values().map(|admitted| admitted.attestation.clone()).collect();
        let mut cut_off = Vec::new();
        for shown in held {
            let member = shown.identity.member;
            if self.not_cut_off(member).is_ok()
                && let Ok(Err(Refused { checks, .. })) = self.verify(manifest, &shown)
            {
                self.fresh.remove(&member);
                cut_off.push(RefusedMember { member, checks, cut_off: true });
            }
        }
        cut_off.iter().cloned().for_each(|refused| self.cut_off(refused));
        Amended { died, cut_off }
    }

    /// No longer: until its evidence is good again.
    pub(crate) fn cut_off(&mut self, refused: RefusedMember) {
        self.refused.insert(refused.member, refused);
    }

    /// What snapshots keep of members.
    pub(crate) fn enclaves(&self) -> impl Iterator<Item = &Admitted> {
        self.enclaves.values()
    }

    /// What snapshots keep of enclaves that were replaced.
    pub(crate) fn former(&self) -> impl Iterator<Item = &Admitted> {
        self.former.values()
    }

    /// Takes back what a snapshot has kept of an enclave that was replaced.
    pub(crate) fn remember(&mut self, former: Admitted) {
        let Identity { member, machine, .. } = former.attestation.identity;
        self.former.insert((member, machine), former);
    }

    /// Judges evidence; whoever it is from.
    fn verify(
        &mut self,
        manifest: &Manifest,
        answer: &Attestation,
    ) -> Result<Result<Admitted, Refused>, Rejection> {
        let member = answer.identity.member;
        let entry = manifest.member(member).ok_or(Rejection::NotAMember(member))?;
        // Nothing could be dealt to such a peer, so nobody else would be dealt anything either.
        answer.identity.dealing.decode().map_err(|_| Rejection::Malformed)?;
        let launch = Launch { epoch: manifest.epoch, host_data: self.dao.0, chip_ids: &entry.chip_ids };
        let report_data = Binding::of(self.dao, answer).report_data();
        let verified = if self.is_of_own_processor(answer) {
            self.verifier.verify_own(&answer.evidence, &launch, &report_data)
        } else {
            self.verifier.verify(&answer.evidence, &launch, &report_data)
        };
        Ok(match verified {
            Ok(report) => {
                let chip = ChipId(*report.chip_id());
                let guest = Guest { chip, report_id: *report.report_id() };
                // One guest posing as two members would hold two shares.
                if self.is_another_member(member, &guest) {
                    return Ok(Err(Refused { checks: vec![Check::Distinct], convicts: false }));
                }
                Ok(Admitted { attestation: answer.clone(), guest })
            }
            Err(refusal) => {
                let known = self.enclaves.get(&member).map(|known| &known.attestation.evidence.certificates);
                let known_issuers =
                    known.is_some_and(|known| known.has_issuers_of(&answer.evidence.certificates));
                Err(Refused {
                    checks: refusal.failed().iter().map(|finding| finding.check).collect(),
                    convicts: refusal.convicts(known_issuers),
                })
            }
        })
    }

    /// Whether evidence is this member's, of the processor that this enclave runs on: its own, or that of the enclave that is
    /// to take over. New firmware must stop neither.
    fn is_of_own_processor(&self, answer: &Attestation) -> bool {
        let Identity { member, machine, .. } = answer.identity;
        (member, machine) == (self.own.member, self.own.machine)
            && (answer.identity == self.own || self.is_beside_own(&answer.evidence))
    }

    /// Whether a report is signed by the very key that signs this enclave's own, for the very chip: a key that AMD has lent to
    /// a cloud provider serves any of its chips.
    fn is_beside_own(&self, evidence: &Evidence) -> bool {
        let Some(own) = &self.own_evidence else { return false };
        let chip = UnverifiedReport::parse(&evidence.report).map(|report| ChipId(report.chip_id));
        own.attestation.evidence.certificates.leaf == evidence.certificates.leaf
            && own.guest.chip != ChipId([0; 64])
            && chip == Ok(own.guest.chip)
    }

    fn is_another_member(&self, member: MemberId, guest: &Guest) -> bool {
        let known = self.enclaves.values().chain(&self.own_evidence);
        known
            .filter(|known| known.attestation.identity.member != member)
            .any(|known| known.guest.may_be(guest))
    }

    fn attest(
        &self,
        verifier: Option<Identity>,
        challenge: Nonce,
        certificates: Certificates,
        platform: &mut impl Platform,
    ) -> Result<Attestation, Rejection> {
        let response = fresh_nonce(platform)?;
        let binding = Binding {
            manifest: self.dao,
            prover: &self.own,
            verifier: verifier.as_ref(),
            challenge,
            response,
        };
        let report = platform.report(&binding.report_data()).map_err(|_| Rejection::Platform)?;
        let evidence = Evidence { report, certificates };
        Ok(Attestation { identity: self.own, verifier, challenge, response, evidence })
    }
}

/// Of evidence that was verified.
fn measurement_of(admitted: &Admitted) -> Option<Measurement> {
    UnverifiedReport::parse(&admitted.attestation.evidence.report).ok().map(|report| report.measurement)
}

/// Whom a new epoch takes out.
pub(crate) struct Amended {
    /// Whose enclaves are dead for good.
    pub(crate) died: Vec<MemberId>,
    /// Who has to show evidence that satisfies the new rules.
    pub(crate) cut_off: Vec<RefusedMember>,
}

/// Why the own evidence can't be used.
pub(crate) enum RefusedEvidence {
    /// It would not satisfy the peers.
    Own(RefusedMember),
    /// There is none.
    Other(Rejection),
}

impl From<Rejection> for RefusedEvidence {
    fn from(rejection: Rejection) -> Self {
        Self::Other(rejection)
    }
}

/// Why evidence was refused.
struct Refused {
    checks: Vec<Check>,
    /// Whether it proves that the peer itself is not acceptable.
    convicts: bool,
}

pub(crate) fn fresh_nonce(platform: &mut impl Platform) -> Result<Nonce, Rejection> {
    let mut nonce = [0; 32];
    platform.fill_random(&mut nonce).map_err(|_| Rejection::Platform)?;
    Ok(Nonce(nonce))
}
