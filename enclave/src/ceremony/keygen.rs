//! Keygen: broadcast-everything Joint-Feldman; commit, open, confirm, all or blame. See `postern_shared::keygen` for
//! the statements and why they are as they are.
//!
//! # Phases
//! | phase | leaves when | by saying |
//! | --- | --- | --- |
//! | Committing | all n commits are in | own deal (said before anybody may know it: never) |
//! | Dealing | all n deals are in | a verdict: accept these deals, or a proof against somebody |
//! | Judging | all n verdicts accept the same deals | a confirmation with the new share |
//! | Confirming | all n confirmations hold | a partial signature over the deposit; the key now counts |
//! | Signing | t partial signatures hold | the signed deposit and the transcript |
//!
//! A fault that is proved before the own verdict aborts the ceremony, and the verdict tells the others; so does a verdict
//! that rejects, or accepts other deals. Any other wrong statement is from then on only named: others may have finished
//! already, and a good one may still come by another way.
//!
//! # State and restart
//! The polynomial and all else are functions of coins and terms: a machine that starts again says the same bytes. So
//! [`SavedKeygen`] is what was heard and how far it went; the rest is computed anew. A
//! member that is no operator runs the same machine as an observer: it learns the certificate, and says nothing.

use super::{Label, Me, Setting, Taken, report_missing};
use crate::effects::Effects;
use crate::secret::SecretBytes;
use crate::sharing::{self, Polynomial};
use crate::statements::{Inserted, Statements};
use postern_shared::bls::{Commitments, G1, G2, PublicKey, Scalar};
use postern_shared::codec;
use postern_shared::ethereum::DepositData;
use postern_shared::events::DepositRequest;
use postern_shared::fault::{Court, Fault, Proof, TermsRef, partial_is_good};
use postern_shared::identity::Roster;
use postern_shared::ids::{CeremonyId, Digest, MemberId};
use postern_shared::keygen::{
    Commit, Confirm, Deal, KeygenCertificate, KeygenTerms, OpenDeal, PartialDeposit, Verdict,
    possession_message, share_is_good,
};
use postern_shared::message::{Broadcast, SignedDigest, Step};
use postern_shared::pairwise::{EncryptedShare, Pair};
use postern_shared::transcript::Record;
use postern_shared::wire::{Artifact, CeremonyKind, Rejection};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// A validator's key as this enclave knows it, once all operators have confirmed it.
pub struct ValidatorKey {
    /// The public side.
    pub certificate: KeygenCertificate,
    /// The shared polynomial, decoded.
    pub polynomial: Commitments,
    /// This enclave's share; none of an observer.
    pub(crate) share: Option<Scalar>,
}

/// A run as snapshots keep it.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedKeygen {
    terms: KeygenTerms,
    roster: Roster,
    statements: Vec<Broadcast>,
    phase: SavedPhase,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum SavedPhase {
    Committing,
    Dealing,
    Judging,
    Confirming,
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

    /// The key as it was.
    pub(crate) fn key(&self) -> Option<ValidatorKey> {
        let certificate = self.certificate.clone();
        let polynomial = Commitments::decode(&certificate.commitments, self.terms.threshold.into()).ok()?;
        let share = match &self.share {
            Some(bytes) => Some(Scalar::from_bytes(bytes.expose().try_into().ok()?)?),
            None => None,
        };
        Some(ValidatorKey { certificate, polynomial, share })
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
    phase: Phase,
    /// The first cheat that was proved.
    fault: Option<Fault>,
}

enum Phase {
    Committing,
    Dealing,
    Judging(Judged),
    Confirming(Judged),
    Signing(ValidatorKey),
    Done(ValidatorKey),
    Aborted,
}

/// What all good deals make together.
struct Judged {
    deals: Vec<SignedDigest>,
    key: ValidatorKey,
}

impl Keygen {
    /// Begins with the own commit.
    pub(crate) fn start(terms: KeygenTerms, roster: Roster, me: &Me<'_>, effects: &mut Effects) -> Self {
        let label =
            Label { ceremony: terms.ceremony(), kind: CeremonyKind::Keygen, pool: terms.request.pool };
        let mut keygen = Self {
            label,
            terms,
            roster,
            statements: Statements::default(),
            open_deals: BTreeMap::new(),
            phase: Phase::Committing,
            fault: None,
        };
        if keygen.takes_part(me)
            && let Some(deal) = keygen.own_deal(me)
        {
            let commit = Commit { deal: deal.signed_digest().digest };
            keygen.say(me.state(label.ceremony, Step::Commit, 0, &commit), effects);
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
            Phase::Signing(_) => SavedPhase::Signing,
            Phase::Done(_) => SavedPhase::Done,
            Phase::Aborted => SavedPhase::Aborted,
        };
        SavedKeygen {
            terms: self.terms.clone(),
            roster: self.roster.clone(),
            statements: self.statements.iter().cloned().collect(),
            phase,
            fault: self.fault.clone(),
        }
    }

    /// The run as it was saved.
    pub(crate) fn restore(saved: SavedKeygen, me: &Me<'_>) -> Option<Self> {
        let SavedKeygen { terms, roster, statements, phase, fault } = saved;
        let label =
            Label { ceremony: terms.ceremony(), kind: CeremonyKind::Keygen, pool: terms.request.pool };
        let deals = statements.iter().filter(|statement| statement.slot.step == Step::Deal);
        let open = |deal: &Broadcast| {
            let dealer = deal.slot.from;
            Some((dealer, terms.check_deal(dealer, &deal.body).ok()?))
        };
        let open_deals = deals.map(open).collect::<Option<_>>()?;
        let mut keygen = Self {
            label,
            terms,
            roster,
            statements: Statements::of(statements),
            open_deals,
            phase: Phase::Aborted,
            fault,
        };
        let judged = || keygen.add_up(me)?.ok();
        keygen.phase = match phase {
            SavedPhase::Committing => Phase::Committing,
            SavedPhase::Dealing => Phase::Dealing,
            SavedPhase::Judging => Phase::Judging(judged()?),
            SavedPhase::Confirming => Phase::Confirming(judged()?),
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
            certificate: key.certificate.clone(),
            share: key.share.as_ref().map(|share| SecretBytes::of(&Zeroizing::new(share.to_bytes())[..])),
        })
    }

    pub(crate) fn id(&self) -> CeremonyId {
        self.label.ceremony
    }

    /// What was agreed on.
    pub fn terms(&self) -> &KeygenTerms {
        &self.terms
    }

    /// The key, once all operators have confirmed it.
    pub fn key(&self) -> Option<&ValidatorKey> {
        match &self.phase {
            Phase::Signing(key) | Phase::Done(key) => Some(key),
            _ => None,
        }
    }

    /// Whether this run can't end well any more, or hangs on a proved cheat.
    pub fn is_retryable(&self) -> bool {
        self.key().is_none() && self.fault.is_some()
    }

    /// Whether this enclave has said its confirmation: then others may have a key by this run, and it must not help to
    /// make another without them.
    pub(crate) fn has_confirmed(&self) -> bool {
        matches!(self.phase, Phase::Confirming(_) | Phase::Signing(_) | Phase::Done(_))
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Takes an authentic statement.
    pub(crate) fn on_statement(
        &mut self,
        statement: Broadcast,
        me: &Me<'_>,
        setting: &Setting<'_>,
        effects: &mut Effects,
    ) -> Taken {
        if self.terms.position(statement.slot.from).is_none() {
            return Err(Rejection::NotAMember(statement.slot.from));
        }
        if statement.slot.item != 0 || statement.slot.step > Step::Deposit {
            return Err(Rejection::Invalid);
        }
        let culprit = statement.slot.from;
        let open = match statement.slot.step {
            // Costs a pairing: checked once, kept.
            Step::Deal => self.terms.check_deal(culprit, &statement.body).ok().map(Some),
            _ => (!self.court().is_invalid(&statement)).then_some(None),
        };
        let Some(open) = open else {
            let fault = Fault { culprit, proof: Proof::InvalidStatement(statement) };
            self.name_or_accuse(fault, me, setting, effects);
            return Err(Rejection::Invalid);
        };
        match self.statements.insert(statement.clone()) {
            Inserted::Same => return Ok(()),
            Inserted::Conflict(fault) => {
                self.name_or_accuse(*fault, me, setting, effects);
                return Err(Rejection::Invalid);
            }
            Inserted::New => effects.store(&statement),
        }
        self.open_deals.extend(open.map(|open| (culprit, open)));
        if statement.slot.step == Step::Verdict {
            self.judge_verdict(&statement, me, setting, effects);
        }
        self.progress(statement.slot.step, effects);
        self.advance(me, setting, effects);
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
            Phase::Done(_) | Phase::Aborted => return,
        };
        report_missing(&self.label, &self.statements, step, &self.terms.operators, effects);
    }

    fn court(&self) -> Court<'_> {
        Court { ceremony: self.label.ceremony, terms: TermsRef::Keygen(&self.terms), roster: &self.roster }
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
        let ephemeral = me.coins.scalar("postern-keygen-ephemeral-v1", &ceremony.0);
        let encrypt = |recipient: &MemberId| {
            let share = Zeroizing::new(polynomial.evaluate(*recipient).ok()?.to_bytes());
            let dealing = self.roster.get(*recipient)?.dealing.decode().ok()?;
            let pair = Pair { ceremony, dealer: me.id(), recipient: *recipient };
            Some(pair.seal(&(dealing * &ephemeral), &share[..]))
        };
        let shares: Vec<EncryptedShare> = self.terms.operators.iter().map(encrypt).collect::<Option<_>>()?;
        let secret = polynomial.constant();
        let possession = possession_message(ceremony, me.id(), &(G1::generator() * &secret)) * &secret;
        let deal = Deal {
            commitments: polynomial.commitments(),
            possession: possession.encode(),
            ephemeral: (G1::generator() * &ephemeral).encode(),
            shares,
        };
        Some(me.state(ceremony, Step::Deal, 0, &deal))
    }

    /// Runs through all phases whose conditions hold.
    fn advance(&mut self, me: &Me<'_>, setting: &Setting<'_>, effects: &mut Effects) {
        loop {
            let moved = match &self.phase {
                Phase::Committing => self.open(me, effects),
                Phase::Dealing => self.judge(me, setting, effects),
                Phase::Judging(_) => self.confirm(me, setting, effects),
                Phase::Confirming(_) => self.complete(me, setting, effects),
                Phase::Signing(_) => self.sign(setting, effects),
                Phase::Done(_) | Phase::Aborted => false,
            };
            if !moved {
                return;
            }
        }
    }

    /// Committing → Dealing: only when nobody can choose any more is the own polynomial shown.
    fn open(&mut self, me: &Me<'_>, effects: &mut Effects) -> bool {
        if self.statements.all(Step::Commit, &self.terms.operators).is_none() {
            return false;
        }
        self.phase = Phase::Dealing;
        if self.takes_part(me)
            && let Some(deal) = self.own_deal(me)
        {
            self.say(deal, effects);
        }
        true
    }

    /// Dealing → Judging, by accepting all deals or proving one bad.
    fn judge(&mut self, me: &Me<'_>, setting: &Setting<'_>, effects: &mut Effects) -> bool {
        let judged = match self.add_up(me) {
            None => return false,
            Some(Ok(judged)) => judged,
            Some(Err(fault)) => {
                self.accuse(*fault, me, setting, effects);
                return true;
            }
        };
        let deals = judged.deals.clone();
        self.phase = Phase::Judging(judged);
        if self.takes_part(me) {
            self.say(me.state(self.label.ceremony, Step::Verdict, 0, &Verdict::Accept(deals)), effects);
        }
        true
    }

    /// What all deals make together, once they are there, or a proof that one is bad.
    fn add_up(&self, me: &Me<'_>) -> Option<Result<Judged, Box<Fault>>> {
        let operators = &self.terms.operators;
        let commits = self.statements.all(Step::Commit, operators)?;
        let deals = self.statements.all(Step::Deal, operators)?;
        let judged = commits.iter().zip(&deals).map(|(commit, deal)| self.judge_deal(commit, deal, me));
        let judged: Vec<(OpenDeal, Option<Scalar>)> = match judged.collect() {
            Ok(judged) => judged,
            Err(fault) => return Some(Err(fault)),
        };
        let signed: Vec<SignedDigest> = deals.iter().map(|deal| deal.signed_digest()).collect();
        let digests: Vec<(Digest, &Commitments)> =
            signed.iter().zip(&judged).map(|(deal, (open, _))| (deal.digest, &open.commitments)).collect();
        let key = ValidatorKey {
            certificate: self.terms.certificate(&digests),
            polynomial: Commitments::sum(judged.iter().map(|(open, _)| &open.commitments)),
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
        let fault = |proof| Box::new(Fault { culprit, proof });
        let promised = codec::decode::<Commit>(&commit.body).map(|commit| commit.deal);
        if promised != Ok(Broadcast::digest_of(&deal.body)) {
            return Err(fault(Proof::BrokenCommitment { commit: commit.clone(), deal: deal.clone() }));
        }
        let open = self.open_deals.get(&culprit).cloned();
        let open = open.ok_or_else(|| fault(Proof::InvalidStatement(deal.clone())))?;
        let Some(position) = self.terms.position(me.id()) else {
            return Ok((open, None));
        };
        let pair = Pair { ceremony: self.label.ceremony, dealer: culprit, recipient: me.id() };
        let share = open
            .shares
            .get(position)
            .and_then(|share| pair.open(&me.keys.dealt_to_me(&open.ephemeral), share))
            .and_then(|plain| share_is_good(&plain, me.id(), &open.commitments));
        match share {
            Some(share) => Ok((open, Some(share))),
            None => {
                let opening = me.keys.disclose(me.coins, &pair, &open.ephemeral);
                let statement = deal.clone();
                Err(fault(Proof::BadShare { statement, recipient: me.id(), opening }))
            }
        }
    }

    /// A rejection convicts either the accused or the accuser.
    fn judge_verdict(
        &mut self,
        verdict: &Broadcast,
        me: &Me<'_>,
        setting: &Setting<'_>,
        effects: &mut Effects,
    ) {
        let Ok(Verdict::Reject(fault)) = codec::decode(&verdict.body) else { return };
        let fault = match fault.verify(&self.court()) {
            Ok(()) => *fault,
            Err(_) => {
                Fault { culprit: verdict.slot.from, proof: Proof::FalseAccusation(Box::new(verdict.clone())) }
            }
        };
        self.accuse(fault, me, setting, effects);
    }

    /// Judging → Confirming, when all accept the same deals.
    fn confirm(&mut self, me: &Me<'_>, setting: &Setting<'_>, effects: &mut Effects) -> bool {
        let Phase::Judging(judged) = &self.phase else { return false };
        let Some(verdicts) = self.statements.all(Step::Verdict, &self.terms.operators) else { return false };
        for verdict in verdicts {
            // Rejections were judged when they came, and lists of other than authentic deals were refused.
            let Ok(Verdict::Accept(theirs)) = codec::decode(&verdict.body) else { return false };
            let differing =
                judged.deals.iter().zip(&theirs).find(|(ours, theirs)| ours.digest != theirs.digest);
            if let Some((ours, theirs)) = differing {
                let proof = Proof::Equivocation(*ours, *theirs);
                self.accuse(Fault { culprit: ours.slot.from, proof }, me, setting, effects);
                return true;
            }
        }
        let Phase::Judging(judged) = std::mem::replace(&mut self.phase, Phase::Aborted) else { return false };
        let certificate = judged.key.certificate.digest();
        let partial = judged.key.share.as_ref().map(|share| judged.key.certificate.confirm_message() * share);
        self.phase = Phase::Confirming(judged);
        if let Some(partial) = partial {
            let confirm = Confirm { certificate, partial: partial.encode() };
            self.say(me.state(self.label.ceremony, Step::Confirm, 0, &confirm), effects);
        }
        true
    }

    /// Confirming → Signing, when all confirmations hold: from here on the key counts.
    fn complete(&mut self, me: &Me<'_>, setting: &Setting<'_>, effects: &mut Effects) -> bool {
        let Phase::Confirming(judged) = &self.phase else { return false };
        // Each confirmation costs a pairing: check them once, together.
        if self.statements.all(Step::Confirm, &self.terms.operators).is_none() {
            return false;
        }
        let certificate = &judged.key.certificate;
        let (digest, message) = (certificate.digest(), certificate.confirm_message());
        let polynomial = judged.key.polynomial.clone();
        let bad = self.drop_bad(Step::Confirm, setting, effects, |statement| {
            codec::decode::<Confirm>(&statement.body).is_ok_and(|confirm| {
                let key = polynomial.evaluate(statement.slot.from);
                confirm.certificate == digest && partial_is_good(&key, &message, &confirm.partial)
            })
        });
        if bad {
            return false;
        }
        let Phase::Confirming(judged) = std::mem::replace(&mut self.phase, Phase::Aborted) else {
            return false;
        };
        let hashed = self.terms.deposit_hash(judged.key.certificate.pubkey());
        let partial = judged.key.share.as_ref().map(|share| hashed * share);
        self.phase = Phase::Signing(judged.key);
        if let Some(partial) = partial {
            let deposit = PartialDeposit { partial: partial.encode() };
            self.say(me.state(self.label.ceremony, Step::Deposit, 0, &deposit), effects);
        }
        true
    }

    /// Signing → Done, with the first t good partial signatures.
    fn sign(&mut self, setting: &Setting<'_>, effects: &mut Effects) -> bool {
        let Phase::Signing(key) = &self.phase else { return false };
        let pubkey = key.certificate.pubkey();
        let hashed = self.terms.deposit_hash(pubkey);
        let polynomial = key.polynomial.clone();
        if self.terms.operators.len() - self.statements.missing(Step::Deposit, &self.terms.operators).len()
            < self.threshold()
        {
            return false;
        }
        self.drop_bad(Step::Deposit, setting, effects, |statement| {
            codec::decode::<PartialDeposit>(&statement.body).is_ok_and(|said| {
                partial_is_good(&polynomial.evaluate(statement.slot.from), &hashed, &said.partial)
            })
        });
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
        let deposit =
            DepositData { message: self.terms.deposit_message(pubkey), signature: signature.encode() };
        if !partial_is_good(&polynomial.constant(), &hashed, &deposit.signature) {
            return false;
        }
        let Phase::Signing(key) = std::mem::replace(&mut self.phase, Phase::Aborted) else { return false };
        self.phase = Phase::Done(key);
        let record = Record::Keygen {
            terms: self.terms.clone(),
            statements: self.statements.iter().cloned().collect(),
            deposit,
        };
        self.publish(record, setting, effects);
        let (pool, operators) = (self.terms.request.pool, self.terms.operators.clone());
        effects.publish(Artifact::Deposit { pool, data: deposit, operators });
        effects.notice(self.label.finished());
        true
    }

    /// Removes, and convicts the speakers of, statements of a step that do not hold. Says whether there was one.
    fn drop_bad(
        &mut self,
        step: Step,
        setting: &Setting<'_>,
        effects: &mut Effects,
        holds: impl Fn(&Broadcast) -> bool,
    ) -> bool {
        let of_step = |statement: &&Broadcast| statement.slot.step == step;
        let bad: Vec<Broadcast> =
            self.statements.iter().filter(of_step).filter(|statement| !holds(statement)).cloned().collect();
        let found = !bad.is_empty();
        for statement in bad {
            let culprit = statement.slot.from;
            self.statements.remove(step, culprit, 0);
            let deals = self.statements.all(Step::Deal, &self.terms.operators).unwrap_or_default();
            let Some(verdict) = self.statements.get(Step::Verdict, culprit, 0).cloned() else { continue };
            let proof = Proof::InvalidPartial {
                deals: deals.into_iter().cloned().collect(),
                verdict: Box::new(verdict),
                statement,
            };
            self.convict(Fault { culprit, proof }, false, setting, effects);
        }
        found
    }

    /// Acts on a statement that was not taken in. Once this enclave has accepted all deals it can tell the others no
    /// more, so it names the cheat and goes on: they may not have heard the same, and a good statement may still come.
    fn name_or_accuse(&mut self, fault: Fault, me: &Me<'_>, setting: &Setting<'_>, effects: &mut Effects) {
        match self.phase {
            Phase::Judging(_) => self.convict(fault, false, setting, effects),
            _ => self.accuse(fault, me, setting, effects),
        }
    }

    /// Acts on a proved cheat. Before the confirmations it ends the ceremony, for everybody.
    fn accuse(&mut self, fault: Fault, me: &Me<'_>, setting: &Setting<'_>, effects: &mut Effects) {
        let aborts = matches!(self.phase, Phase::Committing | Phase::Dealing | Phase::Judging(_));
        self.convict(fault.clone(), aborts, setting, effects);
        if aborts {
            if self.takes_part(me) && self.statements.get(Step::Verdict, me.id(), 0).is_none() {
                self.say(
                    me.state(self.label.ceremony, Step::Verdict, 0, &Verdict::Reject(Box::new(fault))),
                    effects,
                );
            }
            self.phase = Phase::Aborted;
        }
    }

    /// Makes a proved cheat known; the first of a ceremony with its proof.
    fn convict(&mut self, fault: Fault, aborts: bool, setting: &Setting<'_>, effects: &mut Effects) {
        effects.change();
        effects.notice(self.label.fault(fault.culprit, aborts));
        if self.fault.is_none() {
            let record = Record::KeygenFault { terms: self.terms.clone(), fault: fault.clone() };
            self.publish(record, setting, effects);
            self.fault = Some(fault);
        }
    }

    fn publish(&self, record: Record, setting: &Setting<'_>, effects: &mut Effects) {
        effects.publish(setting.transcript(self.terms.manifest, &self.roster, record));
    }
}
