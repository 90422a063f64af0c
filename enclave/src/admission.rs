//! Whom this enclave talks to: peers whose evidence it has verified against the manifest, over its own fresh challenge.
//!
//! A peer that has been admitted stays so until it proves, in answer to a new challenge, that it is no longer acceptable:
//! then it is cut off. Bad evidence that anybody could have made cuts off nobody.

use crate::effects::Effects;
use crate::keys::IdentityKeys;
use crate::platform::Platform;
use postern_attestation::{Binding, Launch, Time, VerifiedReport, Verifier};
use postern_shared::check::Check;
use postern_shared::identity::{Identity, Roster};
use postern_shared::ids::{ManifestHash, MemberId, Nonce};
use postern_shared::manifest::Manifest;
use postern_shared::message::{Attestation, Certificates, Challenge, Evidence, PeerMessage};
use postern_shared::wire::{Notice, RefusedMember, Rejection};
use std::collections::BTreeMap;

/// Peers by what is known of them.
pub(crate) struct Admission {
    manifest: ManifestHash,
    certificates: Certificates,
    verifier: Verifier,
    /// Challenges not yet answered: at most one for each member.
    open: BTreeMap<MemberId, Nonce>,
    admitted: BTreeMap<MemberId, Admitted>,
    /// Why those that are not admitted are not, as far as they have shown evidence.
    refused: BTreeMap<MemberId, RefusedMember>,
}

/// A peer, and the guest that it is.
struct Admitted {
    attestation: Attestation,
    report_id: [u8; 32],
}

impl Admission {
    /// Begins with the own evidence, which must satisfy the manifest like anybody's.
    pub(crate) fn start(
        manifest: &Manifest,
        certificates: Certificates,
        keys: &IdentityKeys,
        platform: &mut impl Platform,
        effects: &mut Effects,
    ) -> Result<Self, Rejection> {
        let rules = manifest.attestation.clone();
        // The enclave has no clock: all that it knows is when its rules were written.
        let time = Time::NotBefore(rules.not_before);
        let mut admission = Self {
            manifest: manifest.hash(),
            certificates: certificates.clone(),
            verifier: Verifier::new(platform.trust_anchor().clone(), rules, time),
            open: BTreeMap::new(),
            admitted: BTreeMap::new(),
            refused: BTreeMap::new(),
        };
        admission.renew(manifest, certificates, keys, platform, effects)?;
        Ok(admission)
    }

    /// Uses other certificates from now on, if the own evidence satisfies the manifest with them.
    pub(crate) fn renew(
        &mut self,
        manifest: &Manifest,
        certificates: Certificates,
        keys: &IdentityKeys,
        platform: &mut impl Platform,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        let own = keys.identity();
        if self.identity(own.member).is_some() && self.certificates == certificates {
            return Ok(());
        }
        let challenge = fresh_nonce(platform)?;
        let attestation = self.attest(own, Some(*own), challenge, certificates.clone(), platform)?;
        match self.verify(manifest, &attestation)? {
            Ok(report) => self.admit(attestation, &report),
            Err(refused) => {
                let refused = RefusedMember { member: own.member, checks: refused.checks, cut_off: false };
                effects.notice(Notice::Refused(refused));
                return Err(Rejection::OwnEvidence);
            }
        }
        self.certificates = certificates;
        Ok(())
    }

    /// The verified identity of a member.
    pub(crate) fn identity(&self, member: MemberId) -> Option<&Identity> {
        self.admitted.get(&member).map(|admitted| &admitted.attestation.identity)
    }

    /// Admitted members, this one included.
    pub(crate) fn members(&self) -> impl Iterator<Item = MemberId> {
        self.admitted.keys().copied()
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
            let attestation = &self.admitted.get(&identity.member)?.attestation;
            (attestation.identity == *identity).then(|| attestation.clone())
        };
        roster.identities().iter().filter_map(attested).collect()
    }

    /// Asks every member that is not admitted; repeats open challenges.
    pub(crate) fn challenge_missing(
        &mut self,
        manifest: &Manifest,
        keys: &IdentityKeys,
        platform: &mut impl Platform,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        for member in manifest.members.iter().map(|member| member.id) {
            if self.identity(member).is_none() || self.open.contains_key(&member) {
                self.challenge(member, keys, platform, effects)?;
            }
        }
        Ok(())
    }

    /// Asks a member for evidence, admitted or not. The own evidence is not asked for: see [`Self::renew`].
    pub(crate) fn challenge(
        &mut self,
        member: MemberId,
        keys: &IdentityKeys,
        platform: &mut impl Platform,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        if member == keys.identity().member {
            return Ok(());
        }
        let nonce = match self.open.get(&member) {
            Some(nonce) => *nonce,
            None => fresh_nonce(platform)?,
        };
        self.open.insert(member, nonce);
        let challenge = Challenge { from: *keys.identity(), to: member, nonce };
        effects.send_to(member, &PeerMessage::Challenge(challenge));
        Ok(())
    }

    /// Answers a challenge, and challenges back a peer that is new or claims new keys.
    pub(crate) fn on_challenge(
        &mut self,
        challenge: &Challenge,
        keys: &IdentityKeys,
        platform: &mut impl Platform,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        let asker = challenge.from.member;
        let certificates = self.certificates.clone();
        let answer =
            self.attest(keys.identity(), Some(challenge.from), challenge.nonce, certificates, platform)?;
        if self.identity(asker) != Some(&challenge.from) && !self.open.contains_key(&asker) {
            self.challenge(asker, keys, platform, effects)?;
        }
        effects.send_to(asker, &PeerMessage::Evidence(Box::new(answer)));
        Ok(())
    }

    /// Admits a peer whose evidence answers an open challenge and satisfies the manifest, or cuts it off.
    pub(crate) fn on_evidence(
        &mut self,
        manifest: &Manifest,
        answer: Attestation,
        keys: &IdentityKeys,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        let member = answer.identity.member;
        // Mirrored, redirected, or meant for an auditor.
        if answer.verifier != Some(*keys.identity()) || member == keys.identity().member {
            return Err(Rejection::Misdirected);
        }
        let repeated = self.admitted.get(&member).is_some_and(|known| {
            let known = &known.attestation;
            known.identity == answer.identity && known.challenge == answer.challenge
        });
        if repeated {
            return Ok(());
        }
        if self.open.get(&member) != Some(&answer.challenge) {
            return Err(Rejection::StaleEvidence);
        }
        match self.verify(manifest, &answer)? {
            Ok(report) => {
                self.open.remove(&member);
                self.refused.remove(&member);
                self.admit(answer, &report);
                effects.notice(Notice::Admitted(member));
                Ok(())
            }
            Err(Refused { checks, authentic }) => {
                // Once cut off, it stays so until its evidence is good.
                let cut_off =
                    self.not_cut_off(member).is_err() || authentic && self.admitted.remove(&member).is_some();
                let refused = RefusedMember { member, checks, cut_off };
                if !self.admitted.contains_key(&member) {
                    self.refused.insert(member, refused.clone());
                }
                effects.notice(Notice::Refused(refused));
                Err(Rejection::Evidence)
            }
        }
    }

    /// Proves who this enclave is to somebody that is no enclave.
    pub(crate) fn attest_to_anybody(
        &self,
        keys: &IdentityKeys,
        challenge: Nonce,
        platform: &mut impl Platform,
    ) -> Result<Attestation, Rejection> {
        self.attest(keys.identity(), None, challenge, self.certificates.clone(), platform)
    }

    fn admit(&mut self, attestation: Attestation, report: &VerifiedReport) {
        let admitted = Admitted { report_id: *report.report_id(), attestation };
        self.admitted.insert(admitted.attestation.identity.member, admitted);
    }

    /// Judges evidence; whoever it is from.
    fn verify(
        &mut self,
        manifest: &Manifest,
        answer: &Attestation,
    ) -> Result<Result<VerifiedReport, Refused>, Rejection> {
        let member = answer.identity.member;
        let entry = manifest.member(member).ok_or(Rejection::NotAMember(member))?;
        // Nothing could be dealt to such a peer, so nobody else would be dealt anything either.
        answer.identity.dealing.decode().map_err(|_| Rejection::Malformed)?;
        let launch = Launch { epoch: manifest.epoch, host_data: self.manifest.0, chip_ids: &entry.chip_ids };
        let report_data = Binding::of(self.manifest, answer).report_data();
        Ok(match self.verifier.verify(&answer.evidence, &launch, &report_data) {
            // One guest posing as two members would hold two shares.
            Ok(report) if self.is_another_member(member, &report) => {
                Err(Refused { checks: vec![Check::Distinct], authentic: true })
            }
            Ok(report) => Ok(report),
            Err(refusal) => Err(Refused {
                checks: refusal.failed().iter().map(|finding| finding.check).collect(),
                authentic: refusal.is_authentic(),
            }),
        })
    }

    fn is_another_member(&self, member: MemberId, report: &VerifiedReport) -> bool {
        self.admitted.iter().any(|(other, known)| *other != member && known.report_id == *report.report_id())
    }

    fn attest(
        &self,
        own: &Identity,
        verifier: Option<Identity>,
        challenge: Nonce,
        certificates: Certificates,
        platform: &mut impl Platform,
    ) -> Result<Attestation, Rejection> {
        let response = fresh_nonce(platform)?;
        let binding = Binding {
            manifest: self.manifest,
            prover: own,
            verifier: verifier.as_ref(),
            challenge,
            response,
        };
        let report = platform.report(&binding.report_data()).map_err(|_| Rejection::Platform)?;
        let evidence = Evidence { report, certificates };
        Ok(Attestation { identity: *own, verifier, challenge, response, evidence })
    }
}

/// Why evidence was refused.
struct Refused {
    checks: Vec<Check>,
    /// Whether nobody but the peer itself can have made it.
    authentic: bool,
}

fn fresh_nonce(platform: &mut impl Platform) -> Result<Nonce, Rejection> {
    let mut nonce = [0; 32];
    platform.fill_random(&mut nonce).map_err(|_| Rejection::Platform)?;
    Ok(Nonce(nonce))
}
