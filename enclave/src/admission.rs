//! Whom this enclave talks to: peers whose evidence it has verified against the manifest, over its own fresh challenge.

use crate::effects::Effects;
use crate::keys::IdentityKeys;
use crate::platform::Platform;
use postern_attestation::{Binding, CertificateChain, Expected, Measurement, ReportData, verify};
use postern_shared::identity::{Identity, Roster};
use postern_shared::ids::{ManifestHash, MemberId, Nonce};
use postern_shared::manifest::Manifest;
use postern_shared::message::{Certificates, Challenge, Evidence, EvidenceMessage, PeerMessage};
use postern_shared::transcript::AttestedIdentity;
use postern_shared::wire::{Notice, Rejection};
use std::collections::BTreeMap;

/// Peers by what is known of them.
pub(crate) struct Admission {
    manifest: ManifestHash,
    measurements: Vec<Measurement>,
    certificates: Certificates,
    /// Challenges not yet answered: at most one for each member.
    open: BTreeMap<MemberId, Nonce>,
    admitted: BTreeMap<MemberId, AttestedIdentity>,
}

impl Admission {
    /// Begins with the own evidence, which must satisfy the manifest like anybody's.
    pub(crate) fn start(
        manifest: &Manifest,
        certificates: Certificates,
        keys: &IdentityKeys,
        platform: &mut impl Platform,
    ) -> Result<Self, Rejection> {
        let measurements =
            manifest.attestation.measurements.iter().map(|listed| Measurement(listed.0)).collect();
        let mut admission = Self {
            manifest: manifest.hash(),
            measurements,
            certificates,
            open: BTreeMap::new(),
            admitted: BTreeMap::new(),
        };
        let own = *keys.identity();
        let nonce = fresh_nonce(platform)?;
        let evidence = admission.evidence(&own, own.member, nonce, platform)?;
        let answer = EvidenceMessage { to: own.member, nonce, identity: own, evidence };
        admission.verify(manifest, &answer, platform).map_err(|_| Rejection::OwnEvidence)?;
        admission.admit(answer);
        Ok(admission)
    }

    /// The verified identity of a member.
    pub(crate) fn identity(&self, member: MemberId) -> Option<&Identity> {
        self.admitted.get(&member).map(|attested| &attested.identity)
    }

    /// Admitted members, this one included.
    pub(crate) fn members(&self) -> impl Iterator<Item = MemberId> {
        self.admitted.keys().copied()
    }

    /// The identities of all these members, if all are admitted.
    pub(crate) fn roster(&self, members: &[MemberId]) -> Option<Roster> {
        members.iter().map(|member| self.identity(*member).copied()).collect::<Option<_>>().map(Roster::new)
    }

    /// The evidence by which a roster's members were admitted.
    pub(crate) fn attested(&self, roster: &Roster) -> Vec<AttestedIdentity> {
        let attested = |identity: &Identity| {
            self.admitted.get(&identity.member).filter(|attested| attested.identity == *identity).cloned()
        };
        roster.identities().iter().filter_map(attested).collect()
    }

    /// Asks every member that is not admitted yet; repeats open challenges.
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

    fn challenge(
        &mut self,
        member: MemberId,
        keys: &IdentityKeys,
        platform: &mut impl Platform,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
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
        let evidence = self.evidence(keys.identity(), asker, challenge.nonce, platform)?;
        if self.identity(asker) != Some(&challenge.from) && !self.open.contains_key(&asker) {
            self.challenge(asker, keys, platform, effects)?;
        }
        let identity = *keys.identity();
        let answer = EvidenceMessage { to: asker, nonce: challenge.nonce, identity, evidence };
        effects.send_to(asker, &PeerMessage::Evidence(answer));
        Ok(())
    }

    /// Admits a peer whose evidence answers an open challenge and satisfies the manifest.
    pub(crate) fn on_evidence(
        &mut self,
        manifest: &Manifest,
        answer: EvidenceMessage,
        platform: &impl Platform,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        let member = answer.identity.member;
        let repeated = self
            .admitted
            .get(&member)
            .is_some_and(|known| known.identity == answer.identity && known.nonce == answer.nonce);
        if repeated {
            return Ok(());
        }
        if self.open.get(&member) != Some(&answer.nonce) {
            return Err(Rejection::StaleEvidence);
        }
        if let Err(rejection) = self.verify(manifest, &answer, platform) {
            effects.notice(Notice::Refused(member, rejection));
            return Err(rejection);
        }
        self.open.remove(&member);
        self.admit(answer);
        effects.notice(Notice::Admitted(member));
        Ok(())
    }

    fn admit(&mut self, answer: EvidenceMessage) {
        let EvidenceMessage { to, nonce, identity, evidence } = answer;
        self.admitted.insert(identity.member, AttestedIdentity { identity, verifier: to, nonce, evidence });
    }

    fn verify(
        &self,
        manifest: &Manifest,
        answer: &EvidenceMessage,
        platform: &impl Platform,
    ) -> Result<(), Rejection> {
        let member = answer.identity.member;
        let entry = manifest.member(member).ok_or(Rejection::NotAMember(member))?;
        // Nothing could be dealt to such a peer, so nobody else would be dealt anything either.
        answer.identity.dealing.decode().map_err(|_| Rejection::Evidence)?;
        let expected = Expected {
            report_data: self.binding(&answer.identity, answer.to, answer.nonce),
            measurements: &self.measurements,
            host_data: self.manifest.0,
            chip_id: entry.chip_id.0,
        };
        let Certificates { ark, ask, vcek } = answer.evidence.certificates.clone();
        let chain = CertificateChain { ark, ask, vcek };
        // Without a trusted clock, validity periods can't be judged here.
        verify(&answer.evidence.report, &chain, platform.trust_anchor(), &expected, None)
            .map(|_| ())
            .map_err(|_| Rejection::Evidence)
    }

    fn evidence(
        &self,
        own: &Identity,
        verifier: MemberId,
        nonce: Nonce,
        platform: &mut impl Platform,
    ) -> Result<Evidence, Rejection> {
        let report = platform.report(&self.binding(own, verifier, nonce)).map_err(|_| Rejection::Platform)?;
        Ok(Evidence { report, certificates: self.certificates.clone() })
    }

    fn binding(&self, prover: &Identity, verifier: MemberId, nonce: Nonce) -> ReportData {
        Binding {
            identity: &prover.to_bytes(),
            prover: prover.member.0,
            verifier: verifier.0,
            manifest_hash: self.manifest.0,
            nonce: nonce.0,
        }
        .report_data()
    }
}

fn fresh_nonce(platform: &mut impl Platform) -> Result<Nonce, Rejection> {
    let mut nonce = [0; 32];
    platform.fill_random(&mut nonce).map_err(|_| Rejection::Platform)?;
    Ok(Nonce(nonce))
}
