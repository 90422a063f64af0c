//! Release: guardians authorise in public, then give their shares of an exit to whichever of them collects. See
//! `postern_shared::release` for the statements, and why they are as they are.
//!
//! | what is said | by whom | when |
//! | --- | --- | --- |
//! | `Authorise` | a guardian | its own host saw the DAO's wish on chain |
//! | `Call` | a guardian | a threshold has authorised, and it is its turn |
//! | its shares, sealed to who calls | a guardian that has authorised | a threshold has authorised |
//! | `Released` | who has enough good shares | at once; whoever hears it is done |
//!
//! # Whose turn it is
//! Guardians stand in a circle, which begins at another one in each ceremony, so that many exits at a time are collected by
//! all. The first that is there collects at once. The next one's turn comes when the exit has not appeared for some ticks
//! ([`PATIENCE`]), and so on: nobody's loss holds up an exit while a threshold is left. Turns decide only when, never what is
//! safe: any guardian's call is answered.
//!
//! # What others can make this enclave do
//! Keep: one authorisation and one call of each guardian; and if it has called, one share of each operator's split by each
//! guardian, all of sizes that the terms give. Sign: one authorisation, one call, the exit. Give: its shares, to each guardian
//! that calls, and again when it has got more of them; and only after its own host saw the DAO's wish and a threshold of
//! guardians said in public that theirs did. Nobody chooses anything about what is given. It is sealed to an enclave that the
//! presign was among and that the DAO has not given up; words of those that it has given up don't count. Compute: a wrong
//! exit costs a pairing, and its speaker its name; wrong shares cost one for each operator and guardian, and are dropped.
//! The wish that a guardian has authorised for can't be corrected any more: a corrected one is another ceremony.
//!
//! # State and restart
//! Nothing here is random but envelopes, which are functions of coins and content. Ticks are counted in memory only: that a
//! turn has come is a change of its own ([`Change::Collect`](crate::log::change::Change)). Shares are forgotten, and all that
//! was said, when the exit is here.

use super::presign::{ExitShare, Presign};
use super::statements::Statements;
use super::{Ceremony, Label, Scene, Taken, report_missing};
use crate::crypto::secret::SecretBytes;
use crate::crypto::sharing;
use crate::dao::Dao;
use crate::effects::Effects;
use postern_shared::bls::{G2, Signature};
use postern_shared::codec;
use postern_shared::court::{Court, Statements as _};
use postern_shared::ethereum::SignedVoluntaryExit;
use postern_shared::identity::IdentitySignature;
use postern_shared::ids::{CeremonyId, MemberId, PoolId};
use postern_shared::message::{Broadcast, Envelope, EnvelopeHeader, PeerMessage, Slot, Step};
use postern_shared::presign::{EXIT_SHARE_SIZE, PresignTerms};
use postern_shared::release::{Authorise, Call, ReleaseProceedings, ReleaseTerms, Released};
use postern_shared::transcript::Proceedings;
use postern_shared::wire::{Artifact, CeremonyKind, Notice, Rejection};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use zeroize::Zeroizing;

/// So many ticks each guardian has for collecting, before the next one's turn comes.
const PATIENCE: u32 = 4;

/// A run as snapshots keep it, beside its statements.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedRelease {
    terms: ReleaseTerms,
    answered: BTreeMap<MemberId, usize>,
    given: Vec<SavedGiven>,
    finished: bool,
}

#[derive(Serialize, Deserialize)]
struct SavedGiven {
    guardian: MemberId,
    shares: Vec<(MemberId, SecretBytes)>,
    count: usize,
    verified: BTreeSet<MemberId>,
}

/// One guardian's shares, each of one operator's split.
type Shares = BTreeMap<MemberId, ExitShare>;

/// What one guardian has given to this enclave.
struct Given {
    /// Those that were not found bad.
    shares: Shares,
    /// How many it has given: next time it gives more, or nothing.
    count: usize,
    /// Of which operators' splits they were verified one by one. Others are by the exit that they make.
    verified: BTreeSet<MemberId>,
}

/// A share in an envelope: whose split it is of, and the point.
const GIVEN_SIZE: usize = size_of::<u16>() + EXIT_SHARE_SIZE;

/// One run.
pub struct Release {
    label: Label,
    terms: ReleaseTerms,
    /// What was presigned.
    presign: CeremonyId,
    statements: Statements,
    /// How many shares this enclave has given to whom.
    answered: BTreeMap<MemberId, usize>,
    /// What guardians have given to this enclave.
    given: BTreeMap<MemberId, Given>,
    /// Whether the exit is public, as far as this enclave knows.
    finished: bool,
    /// Ticks since a threshold has authorised, and whether it is this enclave's turn by them. Not part of the state.
    waited: u32,
    is_due: bool,
    /// Whose wrong statements people were told of. Not part of the state: only a costly check is spared by it.
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
    /// Begins: a guardian authorises at once.
    pub(crate) fn start(terms: ReleaseTerms, presign: &Presign, scene: &mut Scene<'_>) -> Self {
        let mut release = Self::new(terms, Statements::default());
        let own = scene.me().id();
        if release.is_guardian(own) && in_force(own, presign, scene.dao) {
            let said = scene.me().state(release.label.ceremony, Step::Authorise, 0, &Authorise);
            release.say(said, scene.effects);
            release.progress(scene.effects);
        }
        release.go_on(presign, scene);
        release
    }

    fn new(terms: ReleaseTerms, statements: Statements) -> Self {
        let label =
            Label { ceremony: terms.ceremony(), kind: CeremonyKind::Release, pool: terms.presign.pool };
        Self {
            label,
            presign: terms.presign.ceremony(),
            terms,
            statements,
            answered: BTreeMap::new(),
            given: BTreeMap::new(),
            finished: false,
            waited: 0,
            is_due: false,
            named: BTreeSet::new(),
        }
    }

    /// What snapshots keep.
    pub(crate) fn save(&self) -> SavedRelease {
        SavedRelease {
            terms: self.terms.clone(),
            answered: self.answered.clone(),
            given: self.given.iter().map(|(guardian, given)| given.save(*guardian)).collect(),
            finished: self.finished,
        }
    }

    /// What was said in it.
    pub(crate) fn statements(&self) -> impl Iterator<Item = &Broadcast> {
        self.statements.iter()
    }

    /// The run as it was saved, with what was said in it.
    pub(crate) fn restore(saved: SavedRelease, statements: Vec<Broadcast>) -> Option<Self> {
        let SavedRelease { terms, answered, given, finished } = saved;
        let given = given.iter().map(Given::restore).collect::<Option<_>>()?;
        Some(Self { answered, given, finished, ..Self::new(terms, Statements::of(statements)) })
    }

    /// Of which presign it is.
    pub(crate) fn presign(&self) -> CeremonyId {
        self.presign
    }

    /// Whether the exit is public.
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
        if self.finished {
            return Ok(());
        }
        let slot = statement.slot;
        let said = statement.signed_digest();
        if self.statements.find(&said).is_some() {
            return Ok(());
        }
        let contradicts = self.statements.contradicting(&said).is_some();
        if contradicts || self.court(presign).is_invalid(&statement) {
            self.name(slot.from, scene.effects);
            return Err(Rejection::Invalid);
        }
        scene.effects.store(&statement);
        if slot.step == Step::Released {
            if let Ok(released) = codec::decode(&statement.body) {
                self.finish(&released, presign, scene);
            }
            return Ok(());
        }
        self.statements.insert(statement);
        self.progress(scene.effects);
        self.go_on(presign, scene);
        Ok(())
    }

    /// Takes what a guardian gives to this enclave, opened and authentic.
    pub(crate) fn on_shares(
        &mut self,
        from: MemberId,
        plaintext: &[u8],
        presign: &Presign,
        scene: &mut Scene<'_>,
    ) -> Taken {
        if !self.is_guardian(from) {
            return Err(Rejection::NotAMember(from));
        }
        if self.finished {
            return Ok(());
        }
        if !self.is_said(Step::Call, scene.me().id()) {
            return Err(Rejection::TooEarly);
        }
        let operators = &self.terms.presign.operators;
        let Some(shares) =
            decode(plaintext).filter(|shares| shares.keys().all(|one| operators.contains(one)))
        else {
            self.name(from, scene.effects);
            return Err(Rejection::Invalid);
        };
        // Who has got more of them gives them again: at most as often as there are operators.
        if self.given.get(&from).is_none_or(|known| known.count < shares.len()) {
            scene.effects.change();
            self.given.insert(from, Given { count: shares.len(), shares, verified: BTreeSet::new() });
            self.combine(presign, scene);
        }
        Ok(())
    }

    /// Says what is missing, and counts how long the exit has not appeared.
    pub(crate) fn on_tick(&mut self, presign: &Presign, scene: &mut Scene<'_>) {
        if self.finished {
            return;
        }
        self.go_on(presign, scene);
        let guardians = &self.terms.presign.guardians;
        report_missing(&self.label, &self.statements, Step::Authorise, guardians, scene.effects);
        if !self.is_authorised(presign, scene.dao) {
            return;
        }
        self.waited = self.waited.saturating_add(1);
        let own = scene.me().id();
        let turns = self.circle(presign, scene.dao);
        let come = usize::try_from(self.waited / PATIENCE).unwrap_or(usize::MAX).saturating_add(1);
        let come: Vec<MemberId> = turns.into_iter().take(come).collect();
        self.is_due = come.contains(&own) && !self.is_said(Step::Call, own);
        let others: Vec<MemberId> = come.into_iter().filter(|guardian| *guardian != own).collect();
        report_missing(&self.label, &self.statements, Step::Call, &others, scene.effects);
        // Whoever has released it may have left since, and others took note: asked for is one after the other.
        let (waited, count) = (usize::try_from(self.waited).unwrap_or(0), guardians.len());
        let next = waited.checked_rem(count).and_then(|turn| guardians.get(turn));
        let next: Vec<MemberId> = next.copied().into_iter().filter(|guardian| *guardian != own).collect();
        report_missing(&self.label, &self.statements, Step::Released, &next, scene.effects);
        // Who is asked, and has not got all that it could give; or asks, and can't judge what it is given.
        let is_asked = guardians.iter().any(|guardian| self.is_said(Step::Call, *guardian));
        if is_asked && self.is_said(Step::Authorise, own) {
            for member in presign.lacking() {
                scene.effects.notice(Notice::Missing { ceremony: self.presign, step: Step::Split, member });
            }
        }
    }

    /// Whether it is this enclave's turn to collect, as of the last tick.
    pub(crate) fn is_due(&self) -> bool {
        self.is_due && !self.finished
    }

    /// Collects: this enclave's turn has come.
    pub(crate) fn collect(&mut self, presign: &Presign, scene: &mut Scene<'_>) {
        self.is_due = false;
        if !self.finished && self.is_authorised(presign, scene.dao) {
            self.call(presign, scene);
            self.go_on(presign, scene);
        }
    }

    /// Whether a statement is here already, or no more of use.
    pub(crate) fn has_heard(&self, statement: &Broadcast) -> bool {
        self.finished || self.statements.find(&statement.signed_digest()).is_some()
    }

    /// Whether a statement is by somebody who has said something wrong here: it is not looked at, which would cost a pairing.
    /// An honest guardian never has, and what depends on it others say.
    pub(crate) fn is_ignored(&self, statement: &Broadcast) -> bool {
        statement.slot.step == Step::Released && self.named.contains(&statement.slot.from)
    }

    /// An envelope's place in this ceremony is right.
    pub(crate) fn expects(&self, envelope: &Envelope) -> bool {
        let slot = envelope.header.slot;
        slot.step == Step::Share && slot.ceremony == self.label.ceremony
    }

    fn court<'a>(&'a self, presign: &'a Presign) -> Court<'a> {
        let (ceremony, roster) = (self.label.ceremony, presign.roster());
        Court { ceremony, terms: &self.terms, roster, statements: &self.statements }
    }

    fn is_guardian(&self, member: MemberId) -> bool {
        self.terms.presign.position(member).is_some()
    }

    /// Guardians that can collect, in the order of their turns.
    fn circle(&self, presign: &Presign, dao: &Dao) -> Vec<MemberId> {
        let guardians = &self.terms.presign.guardians;
        let [first, ..] = self.label.ceremony.0;
        let start = usize::from(first).checked_rem(guardians.len()).unwrap_or(0);
        let circle = guardians.iter().cycle().skip(start).take(guardians.len()).copied();
        circle.filter(|guardian| in_force(*guardian, presign, dao) && !dao.is_away(*guardian)).collect()
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
        let have = guardians.len().saturating_sub(self.statements.missing(Step::Authorise, guardians).len());
        effects.notice(self.label.progress(Step::Authorise, have, guardians.len()));
    }

    /// Whether a threshold has said in public that the DAO wants the exit, by enclaves that the DAO has not given up.
    fn is_authorised(&self, presign: &Presign, dao: &Dao) -> bool {
        let guardians = self.terms.presign.guardians.iter();
        let authorised = guardians
            .filter(|guardian| self.is_said(Step::Authorise, **guardian))
            .filter(|guardian| in_force(**guardian, presign, dao));
        authorised.count() >= usize::from(self.terms.presign.guardian_threshold)
    }

    fn is_said(&self, step: Step, by: MemberId) -> bool {
        self.statements.get(step, by, 0).is_some()
    }

    /// Does what the statements allow.
    fn go_on(&mut self, presign: &Presign, scene: &mut Scene<'_>) {
        if self.finished || !self.is_authorised(presign, scene.dao) {
            return;
        }
        if self.circle(presign, scene.dao).first() == Some(&scene.me().id()) {
            self.call(presign, scene);
        }
        self.answer(presign, scene);
        self.combine(presign, scene);
    }

    /// Asks for shares, once.
    fn call(&mut self, presign: &Presign, scene: &mut Scene<'_>) {
        let own = scene.me().id();
        if self.is_guardian(own) && in_force(own, presign, scene.dao) && !self.is_said(Step::Call, own) {
            self.say(scene.me().state(self.label.ceremony, Step::Call, 0, &Call), scene.effects);
        }
    }

    /// Gives the own shares to everybody who calls, if this enclave has authorised and a threshold has; once, and again when
    /// it has got more.
    fn answer(&mut self, presign: &Presign, scene: &mut Scene<'_>) {
        let (own, shares) = (scene.me().id(), presign.shares());
        if !self.is_said(Step::Authorise, own) {
            return;
        }
        for caller in self.terms.presign.guardians.clone() {
            let given = self.answered.get(&caller).copied().unwrap_or(0);
            if !self.is_said(Step::Call, caller)
                || given >= shares.len()
                || !in_force(caller, presign, scene.dao)
            {
                continue;
            }
            if caller == own {
                let verified = shares.keys().copied().collect();
                self.given.insert(own, Given { shares: shares.clone(), count: shares.len(), verified });
            } else {
                let slot = Slot::of(self.label.ceremony, own, Step::Share);
                let Some(recipient) = presign.roster().get(caller) else { continue };
                let (me, header) = (scene.me(), EnvelopeHeader { slot, to: caller });
                let Some(envelope) = me.keys.seal(me.coins, header, recipient, &encode(shares)) else {
                    continue;
                };
                scene.effects.send_to(caller, &PeerMessage::Envelope(envelope));
            }
            scene.effects.change();
            self.answered.insert(caller, shares.len());
        }
    }

    /// The exit, once there are shares enough.
    fn combine(&mut self, presign: &Presign, scene: &mut Scene<'_>) {
        while !self.finished
            && let Some(signature) = self.signature(presign)
        {
            if let Some(exit) = self.terms.exit(signature) {
                let released = Released { signature: exit.signature, authorised: self.authorised() };
                let said = scene.me().state(self.label.ceremony, Step::Released, 0, &released);
                scene.effects.broadcast(&said);
                self.finish(&released, presign, scene);
            } else if !self.verify(presign, scene) {
                return;
            }
        }
    }

    /// Who has authorised, with their signatures.
    fn authorised(&self) -> Vec<(MemberId, IdentitySignature)> {
        let guardians = self.terms.presign.guardians.iter();
        let said = guardians.filter_map(|guardian| self.statements.get(Step::Authorise, *guardian, 0));
        said.map(|said| (said.slot.from, said.signature)).collect()
    }

    /// The signature that the shares make, if there is a threshold of one split's for each of as many operators as sign
    /// together.
    fn signature(&self, presign: &Presign) -> Option<Signature> {
        let PresignTerms { operators, guardian_threshold, .. } = &self.terms.presign;
        let (guardians, count) = (usize::from(*guardian_threshold), self.terms.presign.operator_threshold());
        // Whole from the start: vectors that grew would leave shares behind.
        let mut partials: Vec<(MemberId, G2)> = Vec::with_capacity(count);
        for operator in operators.iter().filter(|operator| presign.knows(**operator)) {
            let mut shares: Vec<(MemberId, G2)> = Vec::with_capacity(guardians);
            let given = self.given.iter();
            let given = given.filter_map(|(guardian, given)| Some((*guardian, given.shares.get(operator)?)));
            shares.extend(given.take(guardians).map(|(guardian, share)| (guardian, share.point().clone())));
            if shares.len() == guardians && partials.len() < count {
                partials.push((*operator, sharing::combine(&shares, guardians).ok()?));
            }
        }
        Some(sharing::combine(&partials, count).ok()?.encode())
    }

    /// Verifies shares one by one, those that can be, and drops bad ones. Says whether there was anything to verify.
    fn verify(&mut self, presign: &Presign, scene: &mut Scene<'_>) -> bool {
        let (mut blamed, mut is_any) = (BTreeSet::new(), false);
        for (guardian, Given { shares, verified, .. }) in &mut self.given {
            shares.retain(|operator, share| {
                if verified.contains(operator) || !presign.knows(*operator) {
                    return true;
                }
                is_any = true;
                let is_good = presign.is_good(*operator, *guardian, share.point());
                if is_good {
                    verified.insert(*operator);
                } else if presign.acknowledged(*operator, *guardian) {
                    // Of another split than ours, if its operator made several, the guardian would not be to blame.
                    blamed.insert(*guardian);
                }
                is_good
            });
        }
        blamed.into_iter().for_each(|guardian| self.name(guardian, scene.effects));
        is_any
    }

    /// The exit is here, and was verified.
    fn finish(&mut self, released: &Released, presign: &Presign, scene: &mut Scene<'_>) {
        let exit = SignedVoluntaryExit { message: self.terms.presign.exit, signature: released.signature };
        let statements = self.terms.authorisations(&released.authorised);
        let record = ReleaseProceedings { terms: self.terms.clone(), statements, exit };
        scene.publish(presign.terms().manifest, presign.roster(), Proceedings::Release(record));
        scene.effects.publish(Artifact::Exit { pool: self.label.pool, exit });
        scene.effects.notice(self.label.finished());
        self.finished = true;
        self.given.clear();
        self.answered.clear();
        self.statements = Statements::default();
    }
}

/// Whether a member's enclave of the presign is still the member's, and not cut off.
fn in_force(member: MemberId, presign: &Presign, dao: &Dao) -> bool {
    let of_presign = presign.roster().get(member);
    of_presign.is_some() && dao.admission.identity(member) == of_presign
}

/// Shares as they are given: each as [`GIVEN_SIZE`] bytes, by operator.
fn encode(shares: &Shares) -> Zeroizing<Vec<u8>> {
    // Whole from the start: a vector that grew would leave shares behind.
    let mut plaintext = Zeroizing::new(Vec::with_capacity(shares.len().saturating_mul(GIVEN_SIZE)));
    for (operator, share) in shares {
        plaintext.extend_from_slice(&operator.0.to_be_bytes());
        plaintext.extend_from_slice(&share.point().to_secret_bytes());
    }
    plaintext
}

/// What was given, if it is well formed: each operator once.
fn decode(plaintext: &[u8]) -> Option<Shares> {
    let (chunks, rest) = plaintext.as_chunks::<GIVEN_SIZE>();
    let share = |chunk: &[u8; GIVEN_SIZE]| {
        let (operator, point) = chunk.split_first_chunk()?;
        let point = G2::from_bytes(point.try_into().ok()?).ok()?;
        Some((MemberId(u16::from_be_bytes(*operator)), ExitShare::new(point)))
    };
    let shares: Shares = chunks.iter().map(share).collect::<Option<_>>()?;
    (rest.is_empty() && shares.len() == chunks.len()).then_some(shares)
}

impl Given {
    fn save(&self, guardian: MemberId) -> SavedGiven {
        let Self { shares, count, verified } = self;
        let shares = shares.iter().map(|(operator, share)| (*operator, share.save())).collect();
        SavedGiven { guardian, shares, count: *count, verified: verified.clone() }
    }

    fn restore(saved: &SavedGiven) -> Option<(MemberId, Self)> {
        let SavedGiven { guardian, shares, count, verified } = saved;
        let share =
            |(operator, share): &(MemberId, SecretBytes)| Some((*operator, ExitShare::restore(share)?));
        let shares = shares.iter().map(share).collect::<Option<_>>()?;
        Some((*guardian, Self { shares, count: *count, verified: verified.clone() }))
    }
}
