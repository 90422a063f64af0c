//! Keygen: broadcast-everything Joint-Feldman; commit, open, confirm, all or blame. See `postern_shared::keygen` for
//! the statements and why they are as they are.
//!
//! # Phases
//! | phase | leaves when | by saying |
//! | --- | --- | --- |
//! | Committing | all n commits are in | own deal (said before anybody may know it: never) |
//! | Dealing | all n deals are in | a verdict: accept these deals, or a proof against somebody |
//! | Judging | all n verdicts accept the same deals | a confirmation with the new share |
//! | Confirming | all n confirmations hold | nothing: there is a key |
//! | Made | the members have agreed that it is the pool's (`agreement`) | a partial signature over the deposit |
//! | Signing | t partial signatures hold | the signed deposit and the transcript |
//!
//! A fault that is proved before the own verdict aborts the ceremony, and the verdict tells the others; so does a verdict
//! that rejects, or accepts other deals. Any other wrong statement is from then on only named: others may have finished
//! already, and a good one may still come by another way. A verdict that rejects is judged as soon as the statements that
//! it names are here; until then it stands in its speaker's slot, and without an acceptance from everybody nothing goes on.
//!
//! # What others can make this enclave do
//! Keep: one statement in each slot, each of a size that the terms give (a rejection has a few hundred bytes), and the
//! first fault. A member is convicted once in a ceremony; what else it says that is wrong leaves no trace.
//! Sign: a commit, a deal, a verdict, a confirmation and a partial deposit, once each. Whoever chooses a deal learns from
//! the verdict whether its own ciphertexts were good, and if not the keys to them, which it knew (`sealed_shares`). A
//! confirmation is a signature with the new share over the hash of all deals, under a hash-to-curve domain of its own: it
//! verifies as nothing else. The deposit's message follows from the terms, which all operators' hosts have to agree on.
//!
//! # State and restart
//! The polynomial and all else are functions of coins and terms: a machine that starts again says the same bytes. So
//! [`SavedKeygen`] is what was heard and how far it went; the rest is computed anew. A
//! member that is no operator runs the same machine as an observer: it learns the certificate, and says nothing.

use super::dealing::seal_shares;
use super::statements::Statements;
use super::{Ceremony, Label, Scene, Taken, report_missing};
use crate::crypto::keys::Me;
use crate::crypto::secret::SecretBytes;
use crate::crypto::sharing::{self, Polynomial};
use crate::effects::Effects;
use postern_shared::bls::{Commitments, G1, G2, PublicKey, Scalar};
use postern_shared::codec;
use postern_shared::court::{Conviction, Court, Judgement, Protocol as _, Statements as _};
use postern_shared::ethereum::{DepositData, DepositMessage};
use postern_shared::events::DepositRequest;
use postern_shared::fault::{Fault, Proof};
use postern_shared::identity::Roster;
use postern_shared::ids::{CeremonyId, Digest, MemberId, PoolId};
use postern_shared::keygen::{
    Commit, Confirm, Deal, DealtKey, KeygenCertificate, KeygenProceedings, KeygenTerms, OpenDeal,
    PartialDeposit, Verdict, possession_message, share_is_good,
};
use postern_shared::message::{Broadcast, SignedDigest, Slot, Step};
use postern_shared::sealed_shares::Pair;
use postern_shared::transcript::Proceedings;
use postern_shared::wire::{Artifact, CeremonyKind, Notice, Rejection};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A validator's key as this enclave knows it, once all operators have confirmed it.
pub struct ValidatorKey {
    /// The public side.
    pub public: DealtKey,
    /// This enclave's share; none of an observer.
    pub(crate) share: Option<Scalar>,
}

/// A run as snapshots keep it, beside its statements.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedKeygen {
    terms: KeygenTerms,
    roster: Roster,
    phase: SavedPhase,
    fault: Option<Fault>,
    convicted: BTreeSet<MemberId>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum SavedPhase {
    Committing,
    Dealing,
    Judging,
    Confirming,
    Made,
    Signing,
    Done,
    Aborted,
}

/// A key that is made, as the vault keeps it.
#[derive(Serialize, Deserialize)]
pub(crate) struct SettledKeygen {
    terms: KeygenTerms,
    certificate: KeygenCertificate,
    share: Option<SecretBytes>,
}

impl SettledKeygen {
    pub(crate) fn ceremony(&self) -> CeremonyId {
        self.certificate.ceremony
    }

    pub(crate) fn request(&self) -> &DepositRequest {
        &self.terms.request
    }

    pub(crate) fn pubkey(&self) -> PublicKey {
        self.certificate.pubkey()
    }

    pub(crate) fn deposit_message(&self) -> DepositMessage {
        self.terms.deposit_message(self.pubkey())
    }

    /// The key as it was.
    pub(crate) fn key(&self) -> Option<ValidatorKey> {
        let certificate = self.certificate.clone();
        let polynomial = Commitments::decode(&certificate.commitments, self.terms.threshold.into()).ok()?;
        let share = match &self.share {
            Some(bytes) => Some(Scalar::from_bytes(bytes.expose().try_into().ok()?)?),
            None => None,
        };
        Some(ValidatorKey { public: DealtKey { certificate, polynomial }, share })
    }
}

/// One run.
pub struct Keygen {
    label: Label,
    terms: KeygenTerms,
    roster: Roster,
    statements: Statements,
    /// The deals among them, checked.
    open_deals: BTreeMap<MemberId, OpenDeal>,
    /// Whose verdicts accuse somebody, and wait for the statements that they name.
    accusers: BTreeSet<MemberId>,
    phase: Phase,
    /// The first cheat that was proved.
    fault: Option<Fault>,
    /// Everybody who was.
    convicted: BTreeSet<MemberId>,
}

enum Phase {
    Committing,
    Dealing,
    Judging(Judged),
    Confirming(Judged),
    Made(ValidatorKey),
    Signing(ValidatorKey),
    Done(ValidatorKey),
    Aborted,
}

/// What all good deals make together.
struct Judged {
    deals: Vec<SignedDigest>,
    key: ValidatorKey,
}

impl Ceremony for Keygen {
    fn id(&self) -> CeremonyId {
        self.label.ceremony
    }

    fn pool(&self) -> PoolId {
        self.label.pool
    }
}

impl Keygen {
    /// Begins with the own commit.
    pub(crate) fn start(terms: KeygenTerms, roster: Roster, scene: &mut Scene<'_>) -> Self {
        let label =
            Label { ceremony: terms.ceremony(), kind: CeremonyKind::Keygen, pool: terms.request.pool };
        let mut keygen = Self {
            label,
            terms,
            roster,
            statements: Statements::default(),
            open_deals: BTreeMap::new(),
            accusers: BTreeSet::new(),
            phase: Phase::Committing,
            fault: None,
            convicted: BTreeSet::new(),
        };
        if keygen.takes_part(&scene.me())
            && let Some(deal) = keygen.own_deal(&scene.me())
        {
            let commit = Commit { deal: deal.signed_digest().digest };
            keygen.say(scene.me().state(label.ceremony, Step::Commit, 0, &commit), scene.effects);
        }
        keygen
    }

    /// What snapshots keep.
    pub(crate) fn save(&self) -> SavedKeygen {
        let phase = match self.phase {
            Phase::Committing => SavedPhase::Committing,
            Phase::Dealing => SavedPhase::Dealing,
            Phase::Judging(_) => SavedPhase::Judging,
            Phase::Confirming(_) => SavedPhase::Confirming,
            Phase::Made(_) => SavedPhase::Made,
            Phase::Signing(_) => SavedPhase::Signing,
            Phase::Done(_) => SavedPhase::Done,
            Phase::Aborted => SavedPhase::Aborted,
        };
        SavedKeygen {
            terms: self.terms.clone(),
            roster: self.roster.clone(),
            phase,
            fault: self.fault,
            convicted: self.convicted.clone(),
        }
    }

    /// What was said in it.
    pub(crate) fn statements(&self) -> impl Iterator<Item = &Broadcast> {
        self.statements.iter()
    }

    /// The run as it was saved, with what was said in it.
    pub(crate) fn restore(saved: SavedKeygen, statements: Vec<Broadcast>, me: &Me<'_>) -> Option<Self> {
        let SavedKeygen { terms, roster, phase, fault, convicted } = saved;
        let label =
            Label { ceremony: terms.ceremony(), kind: CeremonyKind::Keygen, pool: terms.request.pool };
        let deals = statements.iter().filter(|statement| statement.slot.step == Step::Deal);
        let open = |deal: &Broadcast| {
            let dealer = deal.slot.from;
            Some((dealer, terms.check_deal(dealer, &deal.body).ok()?))
        };
        let open_deals = deals.map(open).collect::<Option<_>>()?;
        let accusers = statements.iter().filter(|said| terms.accusation_in(said).is_some());
        let accusers = accusers.map(|said| said.slot.from).collect();
        let mut keygen = Self {
            label,
            terms,
            roster,
            open_deals,
            accusers,
            statements: Statements::of(statements),
            phase: Phase::Aborted,
            fault,
            convicted,
        };
        let judged = || keygen.add_up(me)?.ok();
        keygen.phase = match phase {
            SavedPhase::Committing => Phase::Committing,
            SavedPhase::Dealing => Phase::Dealing,
            SavedPhase::Judging => Phase::Judging(judged()?),
            SavedPhase::Confirming => Phase::Confirming(judged()?),
            SavedPhase::Made => Phase::Made(judged()?.key),
            SavedPhase::Signing => Phase::Signing(judged()?.key),
            SavedPhase::Done => Phase::Done(judged()?.key),
            SavedPhase::Aborted => Phase::Aborted,
        };
        Some(keygen)
    }

    /// What the vault keeps, once the key is made and its deposit signed.
    pub(crate) fn settle(&self) -> Option<SettledKeygen> {
        let Phase::Done(key) = &self.phase else { return None };
        Some(SettledKeygen {
            terms: self.terms.clone(),
            certificate: key.public.certificate.clone(),
            share: key.share.as_ref().map(|share| SecretBytes::of(&share.to_secret_bytes())),
        })
    }

    /// What was agreed on.
    pub fn terms(&self) -> &KeygenTerms {
        &self.terms
    }

    /// The key that this run has made, whether or not it counts.
    pub(crate) fn made(&self) -> Option<&KeygenCertificate> {
        match &self.phase {
            Phase::Made(key) | Phase::Signing(key) | Phase::Done(key) => Some(&key.public.certificate),
            _ => None,
        }
    }

    /// The key, once all operators have confirmed it and the members have agreed on it.
    pub fn key(&self) -> Option<&ValidatorKey> {
        match &self.phase {
            Phase::Signing(key) | Phase::Done(key) => Some(key),
            _ => None,
        }
    }

    /// Whether nothing can come of it any more.
    pub(crate) fn is_aborted(&self) -> bool {
        matches!(self.phase, Phase::Aborted)
    }

    /// Who has cheated in it.
    pub(crate) fn convicted(&self) -> impl Iterator<Item = MemberId> {
        self.convicted.iter().copied()
    }

    /// Whether this enclave has said what depends on what it has heard. Of such a run it may not forget what it has heard, as
    /// long as it may enter it again: it would say something else, and honest members would convict it.
    pub(crate) fn has_judged(&self, own: MemberId) -> bool {
        self.statements.get(Step::Verdict, own, 0).is_some()
    }

    /// Whether this enclave has said its confirmation, or an observer could: then others may decide on the key of this run.
    pub(crate) fn has_confirmed(&self) -> bool {
        matches!(self.phase, Phase::Confirming(_) | Phase::Made(_) | Phase::Signing(_) | Phase::Done(_))
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Takes an authentic statement.
    pub(crate) fn on_statement(&mut self, statement: Broadcast, scene: &mut Scene<'_>) -> Taken {
        if self.terms.position(statement.slot.from).is_none() {
            return Err(Rejection::NotAMember(statement.slot.from));
        }
        if statement.slot.item != 0 || statement.slot.step > Step::Deposit {
            return Err(Rejection::Invalid);
        }
        // It says no more, and what others say is of no use any more.
        if matches!(self.phase, Phase::Aborted) {
            return Err(Rejection::Aborted);
        }
        let culprit = statement.slot.from;
        let said = statement.signed_digest();
        // Before anything that costs more: what fills its slot already, or contradicts it.
        if self.statements.find(&said).is_some() {
            return Ok(());
        }
        if let Some(known) = self.statements.contradicting(&said) {
            let fault = Fault { culprit, proof: Proof::Equivocation(known, said) };
            self.name_or_accuse(fault, None, scene);
            return Err(Rejection::Invalid);
        }
        let open = match statement.slot.step {
            // Costs a pairing: checked once, kept.
            Step::Deal => self.terms.check_deal(culprit, &statement.body).ok().map(Some),
            _ => (!self.court().is_invalid(&statement)).then_some(None),
        };
        let Some(open) = open else {
            let fault = Fault { culprit, proof: Proof::InvalidStatement(said) };
            self.name_or_accuse(fault, Some(&statement), scene);
            return Err(Rejection::Invalid);
        };
        // A wrong confirmation or signature is found when all are there, and gives its slot free again: to somebody who has
        // cheated before it is shown when it comes.
        if self.convicted.contains(&culprit) && statement.slot.step > Step::Verdict {
            // Too early for that, it is not kept: if it is good, others have it, and it is asked for when its time comes.
            if self.partial_holds(&statement) != Some(true) {
                return Err(Rejection::Invalid);
            }
        }
        self.statements.insert(statement.clone());
        scene.effects.store(&statement);
        self.open_deals.extend(open.map(|open| (culprit, open)));
        if self.terms.accusation_in(&statement).is_some() {
            self.accusers.insert(culprit);
        }
        self.judge_accusations(scene);
        self.progress(statement.slot.step, scene.effects);
        self.advance(scene);
        if matches!(self.phase, Phase::Aborted) { Err(Rejection::Aborted) } else { Ok(()) }
    }

    /// Says what the current phase waits for.
    pub(crate) fn on_tick(&self, effects: &mut Effects) {
        let step = match self.phase {
            Phase::Committing => Step::Commit,
            Phase::Dealing => Step::Deal,
            Phase::Judging(_) => Step::Verdict,
            Phase::Confirming(_) => Step::Confirm,
            Phase::Signing(_) => Step::Deposit,
            Phase::Made(_) | Phase::Done(_) | Phase::Aborted => return,
        };
        report_missing(&self.label, &self.statements, step, &self.terms.operators, effects);
        let verdicts =
            self.accusers.iter().filter_map(|accuser| self.statements.get(Step::Verdict, *accuser, 0));
        let accusations = verdicts.filter_map(|verdict| self.terms.accusation_in(verdict));
        for fault in accusations {
            if let Judgement::Lacks(Slot { ceremony, from: member, step, .. }) = self.court().judge(&fault) {
                effects.notice(Notice::Missing { ceremony, step, member });
            }
        }
    }

    fn court(&self) -> Court<'_> {
        let (ceremony, terms) = (self.label.ceremony, &self.terms);
        Court { ceremony, terms, roster: &self.roster, statements: &self.statements }
    }

    fn takes_part(&self, me: &Me<'_>) -> bool {
        self.terms.position(me.id()).is_some()
    }

    fn threshold(&self) -> usize {
        self.terms.threshold.into()
    }

    fn say(&mut self, statement: Broadcast, effects: &mut Effects) {
        effects.broadcast(&statement);
        if statement.slot.step == Step::Deal
            && let Ok(open) = self.terms.check_deal(statement.slot.from, &statement.body)
        {
            self.open_deals.insert(statement.slot.from, open);
        }
        let step = statement.slot.step;
        self.statements.insert(statement);
        self.progress(step, effects);
    }

    fn progress(&self, step: Step, effects: &mut Effects) {
        let all = self.terms.operators.len();
        let have = all - self.statements.missing(step, &self.terms.operators).len();
        effects.notice(self.label.progress(step, have, all));
    }

    /// The own deal: the same bytes whenever it is asked for.
    fn own_deal(&self, me: &Me<'_>) -> Option<Broadcast> {
        let ceremony = self.label.ceremony;
        let polynomial = Polynomial::sample(
            me.coins.scalar("postern-keygen-secret-v1", &ceremony.0),
            self.threshold(),
            me.coins.stream("postern-keygen-polynomial-v1", &ceremony.0),
        )
        .ok()?;
        let secret = polynomial.constant();
        let possession = possession_message(ceremony, me.id(), &(G1::generator() * &secret)) * &secret;
        let rest = (polynomial.commitments(), possession.encode());
        let share = |recipient| Some(polynomial.evaluate(recipient).ok()?.to_secret_bytes());
        let slot = Slot::of(ceremony, me.id(), Step::Deal);
        let sealed = seal_shares(me.coins, slot, &self.roster, &self.terms.operators, &rest, share)?;
        let (commitments, possession) = rest;
        Some(me.state(ceremony, Step::Deal, 0, &Deal { commitments, possession, sealed }))
    }

    /// Runs through all phases whose conditions hold.
    fn advance(&mut self, scene: &mut Scene<'_>) {
        loop {
            let moved = match &self.phase {
                Phase::Committing => self.open(scene),
                Phase::Dealing => self.judge(scene),
                Phase::Judging(_) => self.confirm(scene),
                Phase::Confirming(_) => self.complete(scene),
                Phase::Signing(_) => self.sign(scene),
                Phase::Made(_) | Phase::Done(_) | Phase::Aborted => false,
            };
            if !moved {
                return;
            }
        }
    }

    /// Committing → Dealing: only when nobody can choose any more is the own polynomial shown.
    fn open(&mut self, scene: &mut Scene<'_>) -> bool {
        if self.statements.all(Step::Commit, &self.terms.operators).is_none() {
            return false;
        }
        self.phase = Phase::Dealing;
        if self.takes_part(&scene.me())
            && let Some(deal) = self.own_deal(&scene.me())
        {
            self.say(deal, scene.effects);
        }
        true
    }

    /// Dealing → Judging, by accepting all deals or proving one bad.
    fn judge(&mut self, scene: &mut Scene<'_>) -> bool {
        let judged = match self.add_up(&scene.me()) {
            None => return false,
            Some(Ok(judged)) => judged,
            Some(Err(fault)) => {
                self.accuse(*fault, None, scene);
                return true;
            }
        };
        let deals = judged.deals.clone();
        self.phase = Phase::Judging(judged);
        if self.takes_part(&scene.me()) {
            self.say(
                scene.me().state(self.label.ceremony, Step::Verdict, 0, &Verdict::Accept(deals)),
                scene.effects,
            );
        }
        true
    }

    /// What all deals make together, once they are there, or a proof that one is bad.
    fn add_up(&self, me: &Me<'_>) -> Option<Result<Judged, Box<Fault>>> {
        let operators = &self.terms.operators;
        let commits = self.statements.all(Step::Commit, operators)?;
        let deals = self.statements.all(Step::Deal, operators)?;
        // Whole from the start: a vector that grew would leave shares behind.
        let mut judged: Vec<(OpenDeal, Option<Scalar>)> = Vec::with_capacity(deals.len());
        for (commit, deal) in commits.iter().zip(&deals) {
            match self.judge_deal(commit, deal, me) {
                Ok(one) => judged.push(one),
                Err(fault) => return Some(Err(fault)),
            }
        }
        let signed: Vec<SignedDigest> = deals.iter().map(|deal| deal.signed_digest()).collect();
        let digests: Vec<(Digest, &Commitments)> =
            signed.iter().zip(&judged).map(|(deal, (open, _))| (deal.digest, &open.commitments)).collect();
        let key = ValidatorKey {
            public: self.terms.add_up(&digests),
            share: judged.iter().try_fold(Scalar::zero(), |sum, (_, share)| Some(sum + share.as_ref()?)),
        };
        Some(Ok(Judged { deals: signed, key }))
    }

    /// A deal is the one committed to, and the own share of it is good.
    fn judge_deal(
        &self,
        commit: &Broadcast,
        deal: &Broadcast,
        me: &Me<'_>,
    ) -> Result<(OpenDeal, Option<Scalar>), Box<Fault>> {
        let culprit = deal.slot.from;
        let said = deal.signed_digest();
        let fault = |proof| Box::new(Fault { culprit, proof });
        let promised = codec::decode::<Commit>(&commit.body).map(|commit| commit.deal);
        if promised != Ok(said.digest) {
            return Err(fault(Proof::BrokenCommitment { commit: commit.signed_digest(), deal: said }));
        }
        let open = self.open_deals.get(&culprit).cloned();
        let open = open.ok_or_else(|| fault(Proof::InvalidStatement(said)))?;
        let Some(position) = self.terms.position(me.id()) else {
            return Ok((open, None));
        };
        let dealer = self.roster.get(culprit).ok_or_else(|| fault(Proof::InvalidStatement(said)))?;
        let pair = Pair { slot: said.slot, dealer, recipient: me.keys.identity() };
        let plain = me.keys.open_share(&pair, &open.shares, position);
        match plain.and_then(|plain| share_is_good(&plain, me.id(), &open.commitments)) {
            Some(share) => Ok((open, Some(share))),
            None => {
                let opening = me.keys.disclose(me.coins, &pair, &open.shares);
                Err(fault(Proof::BadShare { statement: said, recipient: me.id(), opening }))
            }
        }
    }

    /// Judges rejections as far as the statements that they name are here: each convicts the accused or the accuser.
    fn judge_accusations(&mut self, scene: &mut Scene<'_>) {
        for accuser in self.accusers.clone() {
            let verdict = self.statements.get(Step::Verdict, accuser, 0);
            let judged = verdict.and_then(|said| self.statements.judge_accusation(said, &self.court()));
            let Some(proved) = judged else { continue };
            self.accusers.remove(&accuser);
            self.accuse(proved, None, scene);
        }
    }

    /// Whether a confirmation or a partial deposit is good. None if this enclave can't tell yet.
    fn partial_holds(&self, statement: &Broadcast) -> Option<bool> {
        let key = match &self.phase {
            Phase::Confirming(judged) => &judged.key,
            Phase::Made(key) | Phase::Signing(key) | Phase::Done(key) => key,
            _ => return None,
        };
        let by = statement.slot.from;
        Some(match statement.slot.step {
            Step::Confirm => {
                codec::decode::<Confirm>(&statement.body).is_ok_and(|said| key.public.is_confirmed(by, &said))
            }
            _ => codec::decode::<PartialDeposit>(&statement.body)
                .is_ok_and(|said| key.public.depositing(&self.terms).is_partial(by, &said.partial)),
        })
    }

    /// Judging → Confirming, when all accept the same deals.
    fn confirm(&mut self, scene: &mut Scene<'_>) -> bool {
        let Phase::Judging(judged) = &self.phase else { return false };
        let Some(verdicts) = self.statements.all(Step::Verdict, &self.terms.operators) else { return false };
        for verdict in verdicts {
            // Rejections were judged when they came, and lists of other than authentic deals were refused.
            let Ok(Verdict::Accept(theirs)) = codec::decode(&verdict.body) else { return false };
            let differing =
                judged.deals.iter().zip(&theirs).find(|(ours, theirs)| ours.digest != theirs.digest);
            if let Some((ours, theirs)) = differing {
                let proof = Proof::Equivocation(*ours, *theirs);
                self.accuse(Fault { culprit: ours.slot.from, proof }, None, scene);
                return true;
            }
        }
        let Phase::Judging(judged) = std::mem::replace(&mut self.phase, Phase::Aborted) else { return false };
        let certificate = judged.key.public.certificate.digest();
        let partial = judged.key.share.as_ref().map(|share| judged.key.public.confirming().message * share);
        self.phase = Phase::Confirming(judged);
        if let Some(partial) = partial {
            let confirm = Confirm { certificate, partial: partial.encode() };
            self.say(scene.me().state(self.label.ceremony, Step::Confirm, 0, &confirm), scene.effects);
        }
        true
    }

    /// Confirming → Made, when all confirmations hold.
    fn complete(&mut self, scene: &mut Scene<'_>) -> bool {
        if !matches!(self.phase, Phase::Confirming(_)) {
            return false;
        }
        // Each confirmation costs a pairing: check them once, together.
        if self.statements.all(Step::Confirm, &self.terms.operators).is_none() {
            return false;
        }
        if self.drop_bad(Step::Confirm, scene) {
            return false;
        }
        let Phase::Confirming(judged) = std::mem::replace(&mut self.phase, Phase::Aborted) else {
            return false;
        };
        self.phase = Phase::Made(judged.key);
        true
    }

    /// Made → Signing, when the members have agreed that this is the pool's key: from here on it counts.
    pub(crate) fn count(&mut self, scene: &mut Scene<'_>) {
        if !matches!(self.phase, Phase::Made(_)) {
            return;
        }
        let Phase::Made(key) = std::mem::replace(&mut self.phase, Phase::Aborted) else { return };
        scene.effects.change();
        let message = key.public.depositing(&self.terms).message;
        let partial = key.share.as_ref().map(|share| message * share);
        self.phase = Phase::Signing(key);
        if let Some(partial) = partial {
            let deposit = PartialDeposit { partial: partial.encode() };
            self.say(scene.me().state(self.label.ceremony, Step::Deposit, 0, &deposit), scene.effects);
        }
        self.advance(scene);
    }

    /// Signing → Done, with the first t good partial signatures.
    fn sign(&mut self, scene: &mut Scene<'_>) -> bool {
        if !matches!(self.phase, Phase::Signing(_)) {
            return false;
        }
        if self.terms.operators.len() - self.statements.missing(Step::Deposit, &self.terms.operators).len()
            < self.threshold()
        {
            return false;
        }
        self.drop_bad(Step::Deposit, scene);
        let partials: Vec<(MemberId, G2)> = self
            .terms
            .operators
            .iter()
            .filter_map(|member| self.statements.get(Step::Deposit, *member, 0))
            .filter_map(|said| {
                let partial = codec::decode::<PartialDeposit>(&said.body).ok()?.partial.decode().ok()?;
                Some((said.slot.from, partial))
            })
            .take(self.threshold())
            .collect();
        let Ok(signature) = sharing::combine(&partials, self.threshold()) else { return false };
        let Phase::Signing(key) = &self.phase else { return false };
        let message = self.terms.deposit_message(key.public.certificate.pubkey());
        let deposit = DepositData { message, signature: signature.encode() };
        if !key.public.depositing(&self.terms).is_whole(&deposit.signature) {
            return false;
        }
        let Phase::Signing(key) = std::mem::replace(&mut self.phase, Phase::Aborted) else { return false };
        self.phase = Phase::Done(key);
        // All statements count: each operator's commit, deal, acceptance and confirmation made the key, and of the partial
        // deposits those that do not hold were just dropped.
        let record = KeygenProceedings {
            terms: self.terms.clone(),
            statements: self.statements.iter().cloned().collect(),
            deposit,
        };
        self.publish(Proceedings::Keygen(record), scene);
        let (pool, operators) = (self.terms.request.pool, self.terms.operators.clone());
        scene.effects.publish(Artifact::Deposit { pool, data: deposit, operators });
        scene.effects.notice(self.label.finished());
        true
    }

    /// Removes, and convicts the speakers of, statements of a step that do not hold. Says whether there was one.
    fn drop_bad(&mut self, step: Step, scene: &mut Scene<'_>) -> bool {
        let of_step = self.statements.iter().filter(|statement| statement.slot.step == step);
        let bad: Vec<SignedDigest> = of_step
            .filter(|statement| self.partial_holds(statement) == Some(false))
            .map(Broadcast::signed_digest)
            .collect();
        let found = !bad.is_empty();
        for statement in bad {
            let culprit = statement.slot.from;
            if let Some(verdict) = self.statements.digest(Step::Verdict, culprit, 0) {
                let proof = Proof::InvalidPartial { verdict, statement };
                self.convict(Fault { culprit, proof }, None, false, scene);
            }
            self.statements.remove(step, culprit);
        }
        found
    }

    /// Acts on a statement that was not taken in. Once this enclave has accepted all deals it can tell the others no
    /// more, so it names the cheat and goes on: they may not have heard the same, and a good statement may still come. So it
    /// does with what belongs after the verdicts, however early it comes: a verdict may not name it.
    fn name_or_accuse(&mut self, fault: Fault, refused: Option<&Broadcast>, scene: &mut Scene<'_>) {
        let late = fault.proof.named().any(|said| said.slot.step > Step::Verdict);
        if late || matches!(self.phase, Phase::Judging(_)) {
            self.convict(fault, refused, false, scene);
        } else {
            self.accuse(fault, refused, scene);
        }
    }

    /// Acts on a proved cheat. Before the confirmations it ends the ceremony, for everybody.
    fn accuse(&mut self, fault: Fault, refused: Option<&Broadcast>, scene: &mut Scene<'_>) {
        let aborts = matches!(self.phase, Phase::Committing | Phase::Dealing | Phase::Judging(_));
        self.convict(fault, refused, aborts, scene);
        if aborts {
            if self.takes_part(&scene.me())
                && self.statements.get(Step::Verdict, scene.me().id(), 0).is_none()
            {
                self.say(
                    scene.me().state(self.label.ceremony, Step::Verdict, 0, &Verdict::Reject(fault)),
                    scene.effects,
                );
            }
            self.phase = Phase::Aborted;
        }
    }

    /// Makes a proved cheat known, once for each cheat; the first of a ceremony with its proof. `refused` is a statement that
    /// the proof names and that was not taken in: the host keeps it for others who need it to judge.
    fn convict(&mut self, fault: Fault, refused: Option<&Broadcast>, aborts: bool, scene: &mut Scene<'_>) {
        if !self.convicted.insert(fault.culprit) && !aborts {
            return;
        }
        scene.effects.change();
        scene.effects.notice(self.label.fault(fault.culprit, aborts));
        if let Some(refused) = refused {
            scene.effects.store(refused);
        }
        if self.fault.is_none() {
            let record = Conviction::new(&self.terms, fault, &self.court(), refused);
            self.publish(Proceedings::KeygenFault(record), scene);
            self.fault = Some(fault);
        }
    }

    fn publish(&self, record: Proceedings, scene: &mut Scene<'_>) {
        scene.publish(self.terms.manifest, &self.roster, record);
    }
}
