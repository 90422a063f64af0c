//! Release: guardians give their shares of an exit to one enclave, which puts it together and makes it public.
//!
//! The leader names operators whose splits it has finished with ([`ReleaseRequest`]). Each guardian whose own host saw
//! the DAO's wish on chain combines its shares over those operators, seals the result to the leader's enclave, and says
//! so in public ([`Authorise`]). The leader checks every share under its public key, combines exactly a threshold, and
//! verifies the exit under the validator's key before anything leaves.
//!
//! # What others can make this enclave do
//! Keep: one request, one authorisation of each guardian, and one share of each if it leads. Sign: one authorisation. Give:
//! its share over the operators that the leader names, sealed to the leader, once; and only because its own host saw the
//! DAO's wish. Whoever chooses the operators can take out what it has dealt itself, and is left with a share of the rest:
//! still one share, of one guardian, of which a threshold is needed. Shares depend on the operators and not on the wish: those
//! that guardians gave for different wishes add up. So the wish that a guardian has authorised for can't be corrected any more,
//! and one that was corrected before is not authorised.
//!
//! # State and restart
//! Nothing here is random but envelopes, which are functions of coins and content. Shares that came before the leader's
//! own wish are kept; a share that fails is dropped and its sender named. The leader forgets the shares when it has the exit.

use super::presign::{ExitShare, Presign};
use super::statements::Statements;
use super::{Ceremony, Label, Scene, Taken, report_missing};
use crate::crypto::secret::SecretBytes;
use crate::crypto::sharing;
use crate::effects::Effects;
use postern_shared::bls::{self, Commitments, G2};
use postern_shared::codec;
use postern_shared::court::{Court, Statements as _};
use postern_shared::ethereum::SignedVoluntaryExit;
use postern_shared::ids::{CeremonyId, MemberId, PoolId};
use postern_shared::message::{Broadcast, Envelope, EnvelopeHeader, PeerMessage, Slot, Step};
use postern_shared::presign::exit_share_is_good;
use postern_shared::release::{Authorise, ReleaseProceedings, ReleaseRequest, ReleaseTerms};
use postern_shared::transcript::Proceedings;
use postern_shared::wire::{Artifact, CeremonyKind, Rejection};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A run as snapshots keep it, beside its statements.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedRelease {
    terms: ReleaseTerms,
    shares: Vec<(MemberId, SecretBytes)>,
    finished: bool,
}

/// One run.
pub struct Release {
    label: Label,
    terms: ReleaseTerms,
    statements: Statements,
    /// Only the leader's: verified shares by guardian.
    shares: BTreeMap<MemberId, ExitShare>,
    finished: bool,
    /// Whose wrong statements people were told of. Not part of the state: nothing depends on it.
    named: BTreeSet<MemberId>,
}

impl Ceremony for Release {
    fn id(&self) -> CeremonyId {
        self.label.ceremony
    }

    fn pool(&self) -> PoolId {
        self.label.pool
    }
}

impl Release {
    /// Begins; the leader asks at once.
    pub(crate) fn start(terms: ReleaseTerms, presign: &Presign, scene: &mut Scene<'_>) -> Self {
        let label =
            Label { ceremony: terms.ceremony(), kind: CeremonyKind::Release, pool: terms.presign.pool };
        let mut release = Self {
            label,
            terms,
            statements: Statements::default(),
            shares: BTreeMap::new(),
            finished: false,
            named: BTreeSet::new(),
        };
        if release.terms.leader == scene.me().id()
            && let Some(operators) = presign.finished()
        {
            let request = ReleaseRequest { operators: operators.to_vec() };
            release.say(scene.me().state(label.ceremony, Step::Request, 0, &request), scene.effects);
            release.authorise(presign, scene);
        }
        release
    }

    /// What snapshots keep.
    pub(crate) fn save(&self) -> SavedRelease {
        SavedRelease {
            terms: self.terms.clone(),
            shares: self.shares.iter().map(|(guardian, share)| (*guardian, share.save())).collect(),
            finished: self.finished,
        }
    }

    /// What was said in it.
    pub(crate) fn statements(&self) -> impl Iterator<Item = &Broadcast> {
        self.statements.iter()
    }

    /// The run as it was saved, with what was said in it.
    pub(crate) fn restore(saved: SavedRelease, statements: Vec<Broadcast>) -> Option<Self> {
        let SavedRelease { terms, shares, finished } = saved;
        let label =
            Label { ceremony: terms.ceremony(), kind: CeremonyKind::Release, pool: terms.presign.pool };
        let shares = shares.iter().map(|(guardian, share)| Some((*guardian, ExitShare::restore(share)?)));
        let shares = shares.collect::<Option<_>>()?;
        let (statements, named) = (Statements::of(statements), BTreeSet::new());
        Some(Self { label, terms, statements, shares, finished, named })
    }

    /// What was agreed on.
    pub fn terms(&self) -> &ReleaseTerms {
        &self.terms
    }

    /// Whether this enclave has put the exit together.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Takes an authentic statement.
    pub(crate) fn on_statement(
        &mut self,
        statement: Broadcast,
        presign: &Presign,
        scene: &mut Scene<'_>,
    ) -> Taken {
        let slot = statement.slot;
        let may_speak = match slot.step {
            Step::Request => slot.from == self.terms.leader,
            _ => self.terms.presign.guardians.contains(&slot.from),
        };
        let good = slot.item == 0 && may_speak && !self.court(presign).is_invalid(&statement);
        if !good {
            self.name(slot.from, scene.effects);
            return Err(Rejection::Invalid);
        }
        let said = statement.signed_digest();
        if self.statements.find(&said).is_some() {
            return Ok(());
        }
        if self.statements.contradicting(&said).is_some() {
            self.name(slot.from, scene.effects);
            return Err(Rejection::Invalid);
        }
        scene.effects.store(&statement);
        self.statements.insert(statement);
        if slot.step == Step::Request {
            self.authorise(presign, scene);
        }
        self.progress(scene.effects);
        self.combine(presign, scene);
        Ok(())
    }

    /// Takes a guardian's share, opened and authentic. Only the leader gets any.
    pub(crate) fn on_share(
        &mut self,
        from: MemberId,
        plaintext: &[u8],
        presign: &Presign,
        scene: &mut Scene<'_>,
    ) -> Taken {
        if self.terms.leader != scene.me().id() || !self.terms.presign.guardians.contains(&from) {
            return Err(Rejection::NotAMember(from));
        }
        if self.finished {
            return Ok(());
        }
        let (request, polynomial) = self.request(presign).ok_or(Rejection::TooEarly)?;
        let share = exit_share_is_good(plaintext, from, &polynomial, presign.message());
        let Some(share) = share else {
            // Of another split than ours, if its operator made two: then the guardian is not to blame.
            if presign.holds(from, &request) {
                self.name(from, scene.effects);
            }
            return Err(Rejection::Invalid);
        };
        self.shares.entry(from).or_insert_with(|| {
            scene.effects.change();
            ExitShare::new(share)
        });
        self.combine(presign, scene);
        Ok(())
    }

    /// Says what is missing. The leader asks when it had to wait for the presign.
    pub(crate) fn on_tick(&mut self, presign: &Presign, scene: &mut Scene<'_>) {
        if self.finished {
            return;
        }
        if self.terms.leader == scene.me().id()
            && self.statements.get(Step::Request, scene.me().id(), 0).is_none()
            && let Some(operators) = presign.finished()
        {
            let request = ReleaseRequest { operators: operators.to_vec() };
            self.say(scene.me().state(self.label.ceremony, Step::Request, 0, &request), scene.effects);
        }
        // The own shares may have been incomplete when the request came.
        self.authorise(presign, scene);
        report_missing(&self.label, &self.statements, Step::Request, &[self.terms.leader], scene.effects);
        report_missing(
            &self.label,
            &self.statements,
            Step::Authorise,
            &self.terms.presign.guardians,
            scene.effects,
        );
    }

    /// Whether a statement is here already.
    pub(crate) fn has_heard(&self, statement: &Broadcast) -> bool {
        self.statements.find(&statement.signed_digest()).is_some()
    }

    fn court<'a>(&'a self, presign: &'a Presign) -> Court<'a> {
        let (ceremony, roster) = (self.label.ceremony, presign.roster());
        Court { ceremony, terms: &self.terms, roster, statements: &self.statements }
    }

    /// Tells people, once, that a member has said something wrong.
    fn name(&mut self, culprit: MemberId, effects: &mut Effects) {
        if self.named.insert(culprit) {
            effects.notice(self.label.fault(culprit, false));
        }
    }

    fn say(&mut self, statement: Broadcast, effects: &mut Effects) {
        effects.broadcast(&statement);
        self.statements.insert(statement);
    }

    fn progress(&self, effects: &mut Effects) {
        let guardians = &self.terms.presign.guardians;
        let have = guardians.len() - self.statements.missing(Step::Authorise, guardians).len();
        effects.notice(self.label.progress(Step::Authorise, have, guardians.len()));
    }

    /// The request, and the public keys of the shares that it asks for.
    fn request(&self, presign: &Presign) -> Option<(ReleaseRequest, Commitments)> {
        let statement = self.statements.get(Step::Request, self.terms.leader, 0)?;
        let request: ReleaseRequest = codec::decode(&statement.body).ok()?;
        let polynomial = presign.exit_polynomial(&request)?;
        Some((request, polynomial))
    }

    /// Gives the own share, once, if this enclave is a guardian and has it.
    fn authorise(&mut self, presign: &Presign, scene: &mut Scene<'_>) {
        let (leader, ceremony) = (self.terms.leader, self.label.ceremony);
        if self.statements.get(Step::Authorise, scene.me().id(), 0).is_some() {
            return;
        }
        let Some(asked) = self.statements.get(Step::Request, leader, 0) else { return };
        let digest = Broadcast::digest_of(&asked.body);
        let Some(share) =
            codec::decode(&asked.body).ok().and_then(|request: ReleaseRequest| presign.exit_share(&request))
        else {
            return;
        };
        let statement = scene.me().state(ceremony, Step::Authorise, 0, &Authorise { request: digest });
        if leader == scene.me().id() {
            self.shares.insert(leader, share);
        } else {
            let slot = Slot { ceremony, from: scene.me().id(), step: Step::Authorise, item: 0 };
            let plaintext = share.point().to_secret_bytes();
            let Some(recipient) = presign.roster().get(leader) else { return };
            let header = EnvelopeHeader { slot, to: leader };
            let Some(envelope) = scene.me().keys.seal(scene.me().coins, header, recipient, &plaintext[..])
            else {
                return;
            };
            scene.effects.send_to(leader, &PeerMessage::Envelope(envelope));
        }
        self.say(statement, scene.effects);
        self.progress(scene.effects);
    }

    /// Whether a guardian has said in public that it answers this request.
    fn authorised(&self, guardian: MemberId) -> bool {
        let Some(request) = self.statements.get(Step::Request, self.terms.leader, 0) else { return false };
        let wanted = Authorise { request: Broadcast::digest_of(&request.body) };
        self.statements
            .get(Step::Authorise, guardian, 0)
            .is_some_and(|said| codec::decode(&said.body) == Ok(wanted))
    }

    /// With a threshold of good shares and public words: the exit.
    fn combine(&mut self, presign: &Presign, scene: &mut Scene<'_>) {
        let threshold = usize::from(self.terms.presign.guardian_threshold);
        if self.finished || self.terms.leader != scene.me().id() {
            return;
        }
        // Whole from the start: a vector that grew would leave shares behind.
        let mut shares: Vec<(MemberId, G2)> = Vec::with_capacity(threshold);
        let good = self.shares.iter().filter(|(guardian, _)| self.authorised(**guardian)).take(threshold);
        shares.extend(good.map(|(guardian, share)| (*guardian, share.point().clone())));
        let Ok(signature) = sharing::combine(&shares, threshold) else { return };
        let pubkey = self.terms.presign.certificate.pubkey();
        let good =
            pubkey.decode().is_ok_and(|key| bls::verify_point(&key, presign.message(), &signature).is_ok());
        if !good {
            return;
        }
        let exit = SignedVoluntaryExit { message: self.terms.presign.exit, signature: signature.encode() };
        self.finished = true;
        self.shares.clear();
        // Words about another request prove nothing.
        let counts = |said: &&Broadcast| said.slot.step == Step::Request || self.authorised(said.slot.from);
        let record = ReleaseProceedings {
            terms: self.terms.clone(),
            statements: self.statements.iter().filter(counts).cloned().collect(),
            exit,
        };
        scene.publish(presign.terms().manifest, presign.roster(), Proceedings::Release(record));
        scene.effects.publish(Artifact::Exit { pool: self.terms.presign.pool, exit });
        scene.effects.notice(self.label.finished());
    }

    /// An envelope's place in this ceremony is right.
    pub(crate) fn expects(&self, envelope: &Envelope) -> bool {
        let slot = envelope.header.slot;
        slot.step == Step::Authorise && slot.item == 0 && slot.ceremony == self.label.ceremony
    }
}
