//! Joint dealing: commit, open, confirm, all or blame; the part that keygen and reshare begin with. See
//! `postern_shared::dealing` for the statements and why they are as they are.
//!
//! # Phases
//! | phase | leaves when | by saying |
//! | --- | --- | --- |
//! | Committing | all dealers' commits are in | own deal (said before anybody may know it: never) |
//! | Dealing | all deals are in | a verdict: accept these deals, or a proof against somebody |
//! | Judging | as many recipients as have to accept the same deals | a confirmation with the new share |
//! | Confirming | as many confirmations as there have to be hold | nothing: there is a key |
//! | Made | the members have agreed that it counts (`agreement`) | nothing |
//! | InForce | the ceremony has done what it wants with the key | what the ceremony says |
//!
//! In keygen all operators have to accept and to confirm; in a reshare a few recipients may be silent.
//!
//! A fault that is proved before the own verdict aborts the ceremony, and the verdict tells the others; so does a verdict
//! that rejects, or accepts other deals. Any other wrong statement is from then on only named: others may have finished
//! already, and a good one may still come by another way. A verdict that rejects is judged as soon as the statements that
//! it names are here; until then it stands in its speaker's slot, and counts as if its speaker were silent.
//!
//! # What others can make this enclave do
//! Keep: one statement in each slot, each of a size that the terms give (a rejection has a few hundred bytes), and the
//! first fault. A member is convicted once in a ceremony; what else it says that is wrong leaves no trace.
//! Sign: a commit, a deal, a verdict and a confirmation, once each. Whoever chooses a deal learns from the verdict whether
//! its own ciphertexts were good, and if not the keys to them, which it knew (`sealed_shares`). A confirmation is a signature
//! with the new share over the hash of all deals, under a hash-to-curve domain of its own: it verifies as nothing else.
//!
//! # State and restart
//! The polynomial and all else are functions of coins, terms and the constant term that the ceremony gives: a machine that
//! starts again says the same bytes. So [`SavedDealing`] is what was agreed on, the first fault and how far it went; the rest
//! is computed anew of what was heard. Whoever has no part in it runs the same machine as an observer: it learns the key, and
//! says nothing.

use super::sealing::seal_shares;
use super::statements::Statements;
use super::{Label, Scene, report_missing};
use crate::crypto::coins::Coins;
use crate::crypto::keys::Me;
use crate::crypto::sharing::Polynomial;
use crate::effects::Effects;
use postern_shared::bls::{Commitments, G1, Scalar};
use postern_shared::codec;
use postern_shared::court::{Conviction, Court, Judgement, Protocol as _, Statements as _};
use postern_shared::dealing::{
    Certificate as _, Commit, Confirm, Deal, Dealing, DealingTerms, DealtKey, OpenDeal, PinnedDeal, Verdict,
    possession_message, share_is_good,
};
use postern_shared::fault::{Fault, Proof};
use postern_shared::identity::Roster;
use postern_shared::ids::{Digest, ManifestHash, MemberId};
use postern_shared::message::{Broadcast, SignedDigest, Slot, Step};
use postern_shared::sealed_shares::Pair;
use postern_shared::transcript::Proceedings;
use postern_shared::wire::{CeremonyKind, Notice, Rejection};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is particular to a ceremony that begins with a joint dealing, beside its terms.
pub trait Deals: DealingTerms + 'static {
    /// What notices call it.
    const KIND: CeremonyKind;

    /// Labels the coins of all coefficients but the constant term. Never one for two ceremonies.
    const COINS: &'static str;

    /// Under which manifest it began.
    fn manifest(&self) -> ManifestHash;

    /// The record of a cheat in it.
    fn conviction(record: Conviction<Self>) -> Proceedings;
}

/// A key as this enclave knows it. `C` certifies it.
pub struct HeldKey<C> {
    /// The public side.
    pub public: DealtKey<C>,
    /// This enclave's share; none of an observer.
    pub(crate) share: Option<Scalar>,
}

/// A run as snapshots keep it, beside its statements.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedDealing<T> {
    pub(crate) terms: T,
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
    InForce,
    Finished,
    Aborted,
}

/// One run.
pub(crate) struct JointDealing<T: DealingTerms> {
    label: Label,
    terms: T,
    roster: Roster,
    /// The polynomial of the key that is dealt again, if one is.
    previous: Option<Commitments>,
    /// The own deal, until everybody may know it.
    own_deal: Option<Broadcast>,
    statements: Statements,
    /// The deals among them, checked.
    open_deals: BTreeMap<MemberId, OpenDeal>,
    /// Whose verdicts accuse somebody, and wait for the statements that they name.
    accusers: BTreeSet<MemberId>,
    phase: Phase<T::Certificate>,
    /// The first cheat that was proved.
    fault: Option<Fault>,
    /// Everybody who was.
    convicted: BTreeSet<MemberId>,
}

enum Phase<C> {
    Committing,
    Dealing,
    Judging(Judged<C>),
    Confirming(Judged<C>),
    Made(Judged<C>),
    InForce(Judged<C>),
    Finished(Judged<C>),
    Aborted,
}

/// What all good deals make together.
struct Judged<C> {
    deals: Vec<SignedDigest>,
    key: HeldKey<C>,
}

impl<T: Deals> JointDealing<T> {
    /// Begins with the own commit, if this enclave deals. `constant` is what it deals shares of, `previous` the polynomial of
    /// the key that is dealt again.
    pub(crate) fn start(
        terms: T,
        roster: Roster,
        previous: Option<Commitments>,
        constant: Option<Scalar>,
        scene: &mut Scene<'_>,
    ) -> Self {
        let mut run = Self::empty(terms, roster, previous);
        run.own_deal = run.make_deal(constant, &scene.me());
        if let Some(deal) = &run.own_deal {
            let commit = Commit { deal: deal.signed_digest().digest };
            run.say(scene.me().state(run.label.ceremony, Step::Commit, 0, &commit), scene.effects);
        }
        run
    }

    fn empty(terms: T, roster: Roster, previous: Option<Commitments>) -> Self {
        let (ceremony, pool) = (DealingTerms::ceremony(&terms), DealingTerms::pool(&terms));
        Self {
            label: Label { ceremony, kind: T::KIND, pool },
            terms,
            roster,
            previous,
            own_deal: None,
            statements: Statements::default(),
            open_deals: BTreeMap::new(),
            accusers: BTreeSet::new(),
            phase: Phase::Committing,
            fault: None,
            convicted: BTreeSet::new(),
        }
    }

    /// What snapshots keep.
    pub(crate) fn save(&self) -> SavedDealing<T> {
        let phase = match self.phase {
            Phase::Committing => SavedPhase::Committing,
            Phase::Dealing => SavedPhase::Dealing,
            Phase::Judging(_) => SavedPhase::Judging,
            Phase::Confirming(_) => SavedPhase::Confirming,
            Phase::Made(_) => SavedPhase::Made,
            Phase::InForce(_) => SavedPhase::InForce,
            Phase::Finished(_) => SavedPhase::Finished,
            Phase::Aborted => SavedPhase::Aborted,
        };
        SavedDealing {
            terms: self.terms.clone(),
            roster: self.roster.clone(),
            phase,
            fault: self.fault,
            convicted: self.convicted.clone(),
        }
    }

    /// The run as it was saved, with what was said in it. `previous` and `constant` as at the start; `constant` is of use only
    /// if the own deal was not shown yet.
    pub(crate) fn restore(
        saved: SavedDealing<T>,
        statements: Vec<Broadcast>,
        previous: Option<Commitments>,
        constant: Option<Scalar>,
        me: &Me<'_>,
    ) -> Option<Self> {
        let SavedDealing { terms, roster, phase, fault, convicted } = saved;
        let mut run =
            Self { fault, convicted, phase: Phase::Aborted, ..Self::empty(terms, roster, previous) };
        for deal in statements.iter().filter(|statement| statement.slot.step == Step::Deal) {
            let open = run.check_deal(deal)?;
            run.open_deals.insert(deal.slot.from, open);
        }
        let accusers = statements.iter().filter(|said| run.terms.accusation_in(said).is_some());
        run.accusers = accusers.map(|said| said.slot.from).collect();
        run.statements = Statements::of(statements);
        let judged = || run.add_up(me)?.ok();
        run.phase = match phase {
            SavedPhase::Committing => Phase::Committing,
            SavedPhase::Dealing => Phase::Dealing,
            SavedPhase::Judging => Phase::Judging(judged()?),
            SavedPhase::Confirming => Phase::Confirming(judged()?),
            SavedPhase::Made => Phase::Made(judged()?),
            SavedPhase::InForce => Phase::InForce(judged()?),
            SavedPhase::Finished => Phase::Finished(judged()?),
            SavedPhase::Aborted => Phase::Aborted,
        };
        if matches!(run.phase, Phase::Committing) {
            run.own_deal = run.make_deal(constant, me);
        }
        Some(run)
    }

    pub(crate) fn label(&self) -> Label {
        self.label
    }

    pub(crate) fn terms(&self) -> &T {
        &self.terms
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    pub(crate) fn statements(&self) -> &Statements {
        &self.statements
    }

    /// The key that this run has made, whether or not it counts.
    pub(crate) fn made(&self) -> Option<&HeldKey<T::Certificate>> {
        match &self.phase {
            Phase::Made(judged) | Phase::InForce(judged) | Phase::Finished(judged) => Some(&judged.key),
            _ => None,
        }
    }

    /// The key, once it counts.
    pub(crate) fn in_force(&self) -> Option<&HeldKey<T::Certificate>> {
        match &self.phase {
            Phase::InForce(judged) | Phase::Finished(judged) => Some(&judged.key),
            _ => None,
        }
    }

    /// The key, once it counts and as long as the ceremony has something to do with it.
    pub(crate) fn in_use(&self) -> Option<&HeldKey<T::Certificate>> {
        match &self.phase {
            Phase::InForce(judged) => Some(&judged.key),
            _ => None,
        }
    }

    /// Whether nothing more is to be done.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished(_))
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
        self.judged().is_some()
    }

    /// Made → InForce, when the members have agreed on it. Says whether that is new.
    pub(crate) fn enter_force(&mut self, effects: &mut Effects) -> bool {
        if !matches!(self.phase, Phase::Made(_)) {
            return false;
        }
        let Phase::Made(judged) = std::mem::replace(&mut self.phase, Phase::Aborted) else { return false };
        effects.change();
        self.phase = Phase::InForce(judged);
        true
    }

    /// InForce → Finished, when the ceremony has done what it wants.
    pub(crate) fn finish(&mut self, scene: &mut Scene<'_>, record: Proceedings) {
        if !matches!(self.phase, Phase::InForce(_)) {
            return;
        }
        let Phase::InForce(judged) = std::mem::replace(&mut self.phase, Phase::Aborted) else { return };
        self.phase = Phase::Finished(judged);
        self.publish(record, scene);
    }

    /// Takes an authentic statement. Says whether it is new.
    pub(crate) fn on_statement(
        &mut self,
        statement: Broadcast,
        scene: &mut Scene<'_>,
    ) -> Result<bool, Rejection> {
        let Slot { step, from: culprit, item, .. } = statement.slot;
        if !self.terms.dealing().includes(culprit) {
            return Err(Rejection::NotAMember(culprit));
        }
        if item != 0 || step > T::LAST || !self.terms.dealing().may_speak(culprit, step) {
            return Err(Rejection::Invalid);
        }
        // It says no more, and what others say is of no use any more.
        if matches!(self.phase, Phase::Aborted) {
            return Err(Rejection::Aborted);
        }
        let said = statement.signed_digest();
        // Before anything that costs more: what fills its slot already, or contradicts it.
        if self.statements.find(&said).is_some() {
            return Ok(false);
        }
        if let Some(known) = self.statements.contradicting(&said) {
            let fault = Fault { culprit, proof: Proof::Equivocation(known, said) };
            self.name_or_accuse(fault, None, scene);
            return Err(Rejection::Invalid);
        }
        let open = match step {
            // Costs a pairing: checked once, kept.
            Step::Deal => self.check_deal(&statement).map(Some),
            _ => (!self.court().is_invalid(&statement)).then_some(None),
        };
        let Some(open) = open else {
            let fault = Fault { culprit, proof: Proof::InvalidStatement(said) };
            self.name_or_accuse(fault, Some(&statement), scene);
            return Err(Rejection::Invalid);
        };
        // A wrong confirmation or signature is found when enough are there, and gives its slot free again: to somebody who has
        // cheated before it is shown when it comes.
        if self.convicted.contains(&culprit) && step > Step::Verdict {
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
        // One that nothing waits for any more is looked at when it comes.
        if step == Step::Confirm && self.made().is_some() && self.drop_if_bad(step, culprit, scene) {
            return Err(Rejection::Invalid);
        }
        self.progress(step, scene.effects);
        self.advance(scene);
        if matches!(self.phase, Phase::Aborted) { Err(Rejection::Aborted) } else { Ok(true) }
    }

    /// Says what the current phase waits for.
    pub(crate) fn on_tick(&self, effects: &mut Effects) {
        let step = match self.phase {
            Phase::Committing => Step::Commit,
            Phase::Dealing => Step::Deal,
            Phase::Judging(_) => Step::Verdict,
            Phase::Confirming(_) => Step::Confirm,
            Phase::InForce(_) => T::LAST,
            Phase::Made(_) | Phase::Finished(_) | Phase::Aborted => return,
        };
        let waited_for = self.terms.dealing().speakers(step);
        report_missing(&self.label, &self.statements, step, waited_for, effects);
        let verdicts =
            self.accusers.iter().filter_map(|accuser| self.statements.get(Step::Verdict, *accuser, 0));
        let accusations = verdicts.filter_map(|verdict| self.terms.accusation_in(verdict));
        for fault in accusations {
            if let Judgement::Lacks(Slot { ceremony, from: member, step, .. }) = self.court().judge(&fault) {
                effects.notice(Notice::Missing { ceremony, step, member });
            }
        }
    }

    /// Says something of its own.
    pub(crate) fn say(&mut self, statement: Broadcast, effects: &mut Effects) {
        effects.broadcast(&statement);
        if statement.slot.step == Step::Deal
            && let Some(open) = self.check_deal(&statement)
        {
            self.open_deals.insert(statement.slot.from, open);
        }
        let step = statement.slot.step;
        self.statements.insert(statement);
        self.progress(step, effects);
    }

    /// How many of those that a step waits for have spoken.
    pub(crate) fn heard(&self, step: Step) -> usize {
        let all = self.terms.dealing();
        all.speakers(step).len().saturating_sub(self.statements.missing(step, all.speakers(step)).len())
    }

    /// Removes, and convicts the speakers of, statements of a step that do not hold. Says whether there was one.
    pub(crate) fn drop_bad(&mut self, step: Step, scene: &mut Scene<'_>) -> bool {
        let of_step = self.statements.iter().filter(|statement| statement.slot.step == step);
        let speakers: Vec<MemberId> = of_step.map(|statement| statement.slot.from).collect();
        speakers.into_iter().filter(|member| self.drop_if_bad(step, *member, scene)).count() > 0
    }

    fn drop_if_bad(&mut self, step: Step, member: MemberId, scene: &mut Scene<'_>) -> bool {
        let said = self.statements.get(step, member, 0);
        let bad = said.filter(|said| self.partial_holds(said) == Some(false)).map(Broadcast::signed_digest);
        let Some(statement) = bad else { return false };
        if let Some(verdict) = self.statements.digest(Step::Verdict, member, 0) {
            let fault = Fault { culprit: member, proof: Proof::InvalidPartial { verdict, statement } };
            self.convict(fault, None, false, scene);
        }
        self.statements.remove(step, member);
        true
    }

    /// Recipients that have accepted the deals and confirmed the key that was made of them.
    pub(crate) fn confirmed(&self) -> Vec<MemberId> {
        let Some(judged) = self.judged() else { return Vec::new() };
        let accepts = |member: &MemberId| {
            let verdict = self.statements.get(Step::Verdict, *member, 0);
            verdict
                .and_then(|said| codec::decode::<Verdict>(&said.body).ok())
                .is_some_and(|verdict| verdict.accepts(&judged.deals))
        };
        let recipients = self.terms.dealing().recipients.iter().copied();
        let confirmed = |member: &MemberId| self.statements.get(Step::Confirm, *member, 0).is_some();
        recipients.filter(|member| confirmed(member) && accepts(member)).collect()
    }

    /// What the deals make together, once enough have accepted them.
    fn judged(&self) -> Option<&Judged<T::Certificate>> {
        match &self.phase {
            Phase::Confirming(judged)
            | Phase::Made(judged)
            | Phase::InForce(judged)
            | Phase::Finished(judged) => Some(judged),
            _ => None,
        }
    }

    fn court(&self) -> Court<'_> {
        let (ceremony, terms) = (self.label.ceremony, &self.terms);
        Court { ceremony, terms, roster: &self.roster, statements: &self.statements }
    }

    fn check_deal(&self, deal: &Broadcast) -> Option<OpenDeal> {
        self.terms.check_deal_after(self.previous.as_ref(), deal.slot.from, &deal.body).ok()
    }

    fn progress(&self, step: Step, effects: &mut Effects) {
        let all = self.terms.dealing().speakers(step).len();
        effects.notice(self.label.progress(step, self.heard(step), all));
    }

    /// The own deal. None if this enclave does not deal.
    fn make_deal(&self, constant: Option<Scalar>, me: &Me<'_>) -> Option<Broadcast> {
        let body = deal(&self.terms, &self.roster, me.id(), constant?, me.coins)?;
        Some(me.keys.sign(Slot::of(self.label.ceremony, me.id(), Step::Deal), body))
    }

    /// Runs through all phases whose conditions hold.
    fn advance(&mut self, scene: &mut Scene<'_>) {
        loop {
            let moved = match &self.phase {
                Phase::Committing => self.open(scene),
                Phase::Dealing => self.judge(scene),
                Phase::Judging(_) => self.confirm(scene),
                Phase::Confirming(_) => self.complete(scene),
                Phase::Made(_) | Phase::InForce(_) | Phase::Finished(_) | Phase::Aborted => false,
            };
            if !moved {
                return;
            }
        }
    }

    /// Committing → Dealing: only when nobody can choose any more is the own polynomial shown.
    fn open(&mut self, scene: &mut Scene<'_>) -> bool {
        if self.statements.all(Step::Commit, self.terms.dealing().dealers).is_none() {
            return false;
        }
        self.phase = Phase::Dealing;
        if let Some(deal) = self.own_deal.take() {
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
        if self.terms.dealing().position(scene.me().id()).is_some() {
            self.say(
                scene.me().state(self.label.ceremony, Step::Verdict, 0, &Verdict::Accept(deals)),
                scene.effects,
            );
        }
        true
    }

    /// What all deals make together, once they are there, or a proof that one is bad.
    fn add_up(&self, me: &Me<'_>) -> Option<Result<Judged<T::Certificate>, Box<Fault>>> {
        let dealing = self.terms.dealing();
        let commits = self.statements.all(Step::Commit, dealing.dealers)?;
        let deals = self.statements.all(Step::Deal, dealing.dealers)?;
        // Whole from the start: a vector that grew would leave shares behind.
        let mut judged: Vec<(OpenDeal, Option<Scalar>)> = Vec::with_capacity(deals.len());
        for (commit, deal) in commits.iter().zip(&deals) {
            match self.judge_deal(commit, deal, &dealing, me) {
                Ok(one) => judged.push(one),
                Err(fault) => return Some(Err(fault)),
            }
        }
        let signed: Vec<SignedDigest> = deals.iter().map(|deal| deal.signed_digest()).collect();
        let digests: Vec<(Digest, &Commitments)> =
            signed.iter().zip(&judged).map(|(deal, (open, _))| (deal.digest, &open.commitments)).collect();
        let weights = dealing.weights()?;
        let key = HeldKey {
            // Terms and deals that were checked make a key: if these made another, nobody would confirm it.
            public: self.terms.add_up(&digests).ok()?,
            share: judged
                .iter()
                .zip(&weights)
                .try_fold(Scalar::zero(), |sum, ((_, share), weight)| Some(sum + share.clone()? * weight)),
        };
        Some(Ok(Judged { deals: signed, key }))
    }

    /// A deal is the one committed to, and the own share of it is good.
    fn judge_deal(
        &self,
        commit: &Broadcast,
        deal: &Broadcast,
        dealing: &Dealing<'_>,
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
        let Some(position) = dealing.position(me.id()) else {
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

    /// Whether what is signed with a new share is good. None if this enclave can't tell yet.
    fn partial_holds(&self, statement: &Broadcast) -> Option<bool> {
        self.terms.partial_holds(&self.judged()?.key.public, statement)
    }

    /// Judging → Confirming, when enough accept the same deals.
    fn confirm(&mut self, scene: &mut Scene<'_>) -> bool {
        let Phase::Judging(judged) = &self.phase else { return false };
        let dealing = self.terms.dealing();
        if self.heard(Step::Verdict) < dealing.confirmations {
            return false;
        }
        let verdicts =
            dealing.recipients.iter().filter_map(|member| self.statements.get(Step::Verdict, *member, 0));
        // Rejections were judged when they came, and lists of other than authentic deals were refused.
        let accepted = verdicts.filter_map(|verdict| match codec::decode(&verdict.body) {
            Ok(Verdict::Accept(deals)) => Some(deals),
            _ => None,
        });
        let accepted: Vec<Vec<SignedDigest>> = accepted.collect();
        if accepted.len() < dealing.confirmations {
            return false;
        }
        for theirs in accepted {
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

    /// Confirming → Made, when enough confirmations hold.
    fn complete(&mut self, scene: &mut Scene<'_>) -> bool {
        let enough = self.terms.dealing().confirmations;
        // Each confirmation costs a pairing: check them once, together.
        if self.heard(Step::Confirm) < enough || self.confirmed().len() < enough {
            return false;
        }
        if self.drop_bad(Step::Confirm, scene) && self.confirmed().len() < enough {
            return false;
        }
        let Phase::Confirming(judged) = std::mem::replace(&mut self.phase, Phase::Aborted) else {
            return false;
        };
        self.phase = Phase::Made(judged);
        true
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
            let own = scene.me().id();
            if self.terms.dealing().may_speak(own, Step::Verdict) && !self.has_judged(own) {
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
            self.publish(T::conviction(record), scene);
            self.fault = Some(fault);
        }
    }

    fn publish(&self, record: Proceedings, scene: &mut Scene<'_>) {
        scene.publish(self.terms.manifest(), &self.roster, record);
    }
}

/// The body of a dealer's deal, whose shares are shares of `constant`: the same bytes whenever it is made. None if the terms
/// name another dealer, or recipients that are not in the roster.
pub fn deal<T: Deals>(
    terms: &T,
    roster: &Roster,
    dealer: MemberId,
    constant: Scalar,
    coins: &Coins,
) -> Option<Vec<u8>> {
    let (ceremony, dealing) = (DealingTerms::ceremony(terms), terms.dealing());
    if !dealing.dealers.contains(&dealer) {
        return None;
    }
    let stream = coins.stream(T::COINS, &ceremony.0);
    let polynomial = Polynomial::sample(constant, dealing.threshold.into(), stream).ok()?;
    let commitments = polynomial.commitments();
    let slot = Slot::of(ceremony, dealer, Step::Deal);
    let share = |recipient| Some(polynomial.evaluate(recipient).ok()?.to_secret_bytes());
    if dealing.previous.is_some() {
        let sealed = seal_shares(coins, slot, roster, dealing.recipients, &commitments, share)?;
        return Some(codec::encode(&PinnedDeal { commitments, sealed }));
    }
    let secret = polynomial.constant();
    let possession = possession_message(ceremony, dealer, &(G1::generator() * &secret)) * &secret;
    let rest = (commitments, possession.encode());
    let sealed = seal_shares(coins, slot, roster, dealing.recipients, &rest, share)?;
    let (commitments, possession) = rest;
    Some(codec::encode(&Deal { commitments, possession, sealed }))
}
