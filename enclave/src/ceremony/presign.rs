//! Presign: every operator splits its partial exit signature among the guardians; the whole exists nowhere. See
//! `postern_shared::presign` for the mathematics and the statements.
//!
//! There are no phases: a split is judged when it comes, by each guardian for itself. The ceremony is finished when as
//! many operators as sign together have splits that all guardians acknowledge; at a tick a threshold of guardians is
//! enough, so that a few that are down can't hold it up (those catch up later: shares stay good). Ticks decide only when
//! the transcript is published, never what is safe.
//!
//! # State and restart
//! A split is a function of coins and terms, which name exit, guardians and roster: run again it is byte for byte the
//! same, and other guardians never meet the same polynomial.

use super::{Label, Me, Setting, Taken, report_missing};
use crate::ceremony::keygen::ValidatorKey;
use crate::coins::Coins;
use crate::effects::Effects;
use crate::secret::SecretBytes;
use crate::sharing::Polynomial;
use crate::statements::{Inserted, Statements};
use postern_shared::bls::{Commitments, G1, G2, PublicKey, Scalar, Signature};
use postern_shared::codec;
use postern_shared::fault::{Court, Fault, Proof, TermsRef};
use postern_shared::identity::Roster;
use postern_shared::ids::{CeremonyId, Digest, MemberId};
use postern_shared::lagrange;
use postern_shared::message::{Broadcast, Step};
use postern_shared::pairwise::Pair;
use postern_shared::presign::{
    Acknowledge, OpenSplit, PresignTerms, Split, combine_polynomials, exit_share_is_good,
};
use postern_shared::release::ReleaseRequest;
use postern_shared::transcript::Record;
use postern_shared::wire::{CeremonyKind, Rejection};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zeroize::{Zeroize, Zeroizing};

/// A guardian's share of an exit: of one operator's part, or of the whole. Wiped on drop, never printed.
pub(crate) struct ExitShare(G2);

impl ExitShare {
    pub(crate) fn new(point: G2) -> Self {
        Self(point)
    }

    pub(crate) fn point(&self) -> &G2 {
        &self.0
    }
}

impl ExitShare {
    /// For what is sealed.
    pub(crate) fn save(&self) -> SecretBytes {
        SecretBytes::of(&Zeroizing::new(self.0.encode().0)[..])
    }

    /// As it was saved.
    pub(crate) fn restore(saved: &SecretBytes) -> Option<Self> {
        Signature(saved.expose().try_into().ok()?).decode().ok().map(Self)
    }
}

impl Drop for ExitShare {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A run as snapshots keep it.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedPresign {
    terms: PresignTerms,
    roster: Roster,
    statements: Vec<Broadcast>,
    excluded: Vec<MemberId>,
    finished: Option<Vec<MemberId>>,
    fault_published: bool,
}

/// A run that is over, as the vault keeps it: what a release needs.
#[derive(Serialize, Deserialize)]
pub(crate) struct SettledPresign {
    ceremony: CeremonyId,
    /// Without the certificate's commitments, which are the key's.
    terms: PresignTerms,
    finished: Vec<MemberId>,
    /// By operator: `r_k·G`, and the own share.
    splits: Vec<(MemberId, Vec<PublicKey>, Option<SecretBytes>)>,
}

impl SettledPresign {
    pub(crate) fn ceremony(&self) -> CeremonyId {
        self.ceremony
    }

    pub(crate) fn roster(&self) -> Digest {
        self.terms.roster
    }

    /// The validator that the exit is of.
    pub(crate) fn validator_index(&self) -> u64 {
        self.terms.exit.validator_index
    }
}

/// One run.
pub struct Presign {
    label: Label,
    terms: PresignTerms,
    roster: Roster,
    statements: Statements,
    /// `H(m)`, hashed once.
    message: G2,
    /// Good splits, by operator.
    splits: BTreeMap<MemberId, OpenSplit>,
    /// The own verified shares, by operator.
    shares: BTreeMap<MemberId, ExitShare>,
    /// Operators whose splits were proved bad.
    excluded: Vec<MemberId>,
    finished: Option<Vec<MemberId>>,
    fault_published: bool,
}

impl Presign {
    /// Begins with the own split, if this enclave has a share of the key.
    pub(crate) fn start(
        terms: PresignTerms,
        roster: Roster,
        key: &ValidatorKey,
        me: &Me<'_>,
        setting: &Setting<'_>,
        effects: &mut Effects,
    ) -> Self {
        let label = Label { ceremony: terms.ceremony(), kind: CeremonyKind::Presign, pool: terms.pool };
        let mut presign = Self {
            label,
            message: terms.exit_message(),
            terms,
            roster,
            statements: Statements::default(),
            splits: BTreeMap::new(),
            shares: BTreeMap::new(),
            excluded: Vec::new(),
            finished: None,
            fault_published: false,
        };
        if let Some(split) = key.share.as_ref().and_then(|share| presign.own_split(share, me)) {
            presign.say(split.clone(), effects);
            presign.judge_split(&split, me, setting, effects);
            presign.progress(Step::Split, effects);
        }
        presign
    }

    /// What snapshots keep.
    pub(crate) fn save(&self) -> SavedPresign {
        SavedPresign {
            terms: self.terms.clone(),
            roster: self.roster.clone(),
            statements: self.statements.iter().cloned().collect(),
            excluded: self.excluded.clone(),
            finished: self.finished.clone(),
            fault_published: self.fault_published,
        }
    }

    /// The run as it was saved.
    pub(crate) fn restore(saved: SavedPresign, me: &Me<'_>) -> Option<Self> {
        let SavedPresign { terms, roster, statements, excluded, finished, fault_published } = saved;
        let mut presign = Self {
            label: Label { ceremony: terms.ceremony(), kind: CeremonyKind::Presign, pool: terms.pool },
            message: terms.exit_message(),
            terms,
            roster,
            statements: Statements::default(),
            splits: BTreeMap::new(),
            shares: BTreeMap::new(),
            excluded,
            finished,
            fault_published,
        };
        for statement in statements.iter().filter(|statement| statement.slot.step == Step::Split) {
            let operator = statement.slot.from;
            let split = presign.terms.check_split(operator, &statement.body).ok()?;
            if let Some(share) = presign.own_share(operator, &split, me) {
                presign.shares.insert(operator, share);
            }
            presign.splits.insert(operator, split);
        }
        presign.statements = Statements::of(statements);
        Some(presign)
    }

    /// What the vault keeps, once nothing more is to be expected.
    pub(crate) fn settle(&self) -> Option<SettledPresign> {
        let finished = self.finished.clone()?;
        let heard =
            |operator: &MemberId| self.splits.contains_key(operator) || self.excluded.contains(operator);
        if !self.terms.operators.iter().all(heard) {
            return None;
        }
        let splits = self.splits.iter().map(|(operator, split)| {
            let commitments = split.polynomial.encode().split_off(1);
            (*operator, commitments, self.shares.get(operator).map(ExitShare::save))
        });
        let mut terms = self.terms.clone();
        terms.certificate.commitments = Vec::new();
        Some(SettledPresign { ceremony: self.label.ceremony, terms, finished, splits: splits.collect() })
    }

    /// A settled run, as far as a release needs it.
    pub(crate) fn revive(settled: SettledPresign, key: &ValidatorKey, roster: Roster) -> Option<Self> {
        let SettledPresign { ceremony, mut terms, finished, splits: settled } = settled;
        terms.certificate = key.certificate.clone();
        let (mut splits, mut shares) = (BTreeMap::new(), BTreeMap::new());
        for (operator, commitments, share) in settled {
            let rest = Commitments::decode(&commitments, commitments.len()).ok()?;
            let polynomial = Commitments::with_constant(key.polynomial.evaluate(operator), &rest);
            splits.insert(operator, OpenSplit { polynomial, ephemeral: G1::identity(), shares: Vec::new() });
            if let Some(share) = share {
                shares.insert(operator, ExitShare::restore(&share)?);
            }
        }
        Some(Self {
            label: Label { ceremony, kind: CeremonyKind::Presign, pool: terms.pool },
            message: terms.exit_message(),
            terms,
            roster,
            statements: Statements::default(),
            splits,
            shares,
            excluded: Vec::new(),
            finished: Some(finished),
            fault_published: true,
        })
    }

    /// What was agreed on.
    pub fn terms(&self) -> &PresignTerms {
        &self.terms
    }

    /// Operators whose splits all count, once finished.
    pub fn finished(&self) -> Option<&[MemberId]> {
        self.finished.as_deref()
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The own share of the whole exit over the splits of these operators, if there is one of each.
    pub(crate) fn exit_share(&self, request: &ReleaseRequest) -> Option<ExitShare> {
        if !request.fits(&self.terms) {
            return None;
        }
        let weights = lagrange::at_zero(&request.operators)?;
        let mut total = ExitShare(G2::identity());
        for (operator, weight) in request.operators.iter().zip(&weights) {
            total.0 += *self.shares.get(operator)?.point() * weight;
        }
        Some(total)
    }

    /// The public keys of guardians' shares of the whole exit over the splits of these operators.
    pub(crate) fn exit_polynomial(&self, request: &ReleaseRequest) -> Option<Commitments> {
        let split = |operator: &MemberId| Some((*operator, &self.splits.get(operator)?.polynomial));
        let splits: Vec<(MemberId, &Commitments)> =
            request.operators.iter().map(split).collect::<Option<_>>()?;
        combine_polynomials(&splits)
    }

    /// Whether a guardian has said that it holds good shares of these operators' splits, as this enclave knows them.
    pub(crate) fn holds(&self, guardian: MemberId, request: &ReleaseRequest) -> bool {
        request.operators.iter().all(|operator| self.acknowledged(*operator, guardian))
    }

    /// `H(m)`.
    pub(crate) fn message(&self) -> &G2 {
        &self.message
    }

    /// Takes an authentic statement.
    pub(crate) fn on_statement(
        &mut self,
        statement: Broadcast,
        me: &Me<'_>,
        setting: &Setting<'_>,
        effects: &mut Effects,
    ) -> Taken {
        let slot = statement.slot;
        let allowed = match slot.step {
            Step::Split => self.terms.operators.contains(&slot.from) && slot.item == 0,
            Step::Acknowledge => {
                self.terms.guardians.contains(&slot.from)
                    && self.terms.operators.contains(&MemberId(slot.item))
            }
            _ => false,
        };
        if !allowed {
            return Err(Rejection::NotAMember(slot.from));
        }
        if self.court().is_invalid(&statement) {
            let fault = Fault { culprit: slot.from, proof: Proof::InvalidStatement(statement) };
            self.convict(fault, setting, effects);
            return Err(Rejection::Invalid);
        }
        match self.statements.insert(statement.clone()) {
            Inserted::Same => return Ok(()),
            Inserted::Conflict(fault) => {
                self.convict(*fault, setting, effects);
                return Err(Rejection::Invalid);
            }
            Inserted::New => effects.store(&statement),
        }
        match slot.step {
            Step::Split => self.judge_split(&statement, me, setting, effects),
            _ => self.judge_acknowledgement(&statement, setting, effects),
        }
        self.progress(slot.step, effects);
        self.finish(self.terms.guardians.len(), setting, effects);
        Ok(())
    }

    /// Says what is missing, and is content with a threshold of guardians.
    pub(crate) fn on_tick(&mut self, setting: &Setting<'_>, effects: &mut Effects) {
        if self.finished.is_some() {
            return;
        }
        self.finish(self.terms.guardian_threshold.into(), setting, effects);
        report_missing(&self.label, &self.statements, Step::Split, &self.terms.operators, effects);
        for operator in self.splits.keys() {
            for member in &self.terms.guardians {
                if self.statements.get(Step::Acknowledge, *member, operator.0).is_none() {
                    let (ceremony, member) = (self.label.ceremony, *member);
                    let step = Step::Acknowledge;
                    effects.notice(postern_shared::wire::Notice::Missing { ceremony, step, member });
                }
            }
        }
    }

    fn court(&self) -> Court<'_> {
        Court { ceremony: self.label.ceremony, terms: TermsRef::Presign(&self.terms), roster: &self.roster }
    }

    fn say(&mut self, statement: Broadcast, effects: &mut Effects) {
        effects.broadcast(&statement);
        self.statements.insert(statement);
    }

    fn progress(&self, step: Step, effects: &mut Effects) {
        let operators = self.terms.operators.len();
        let all = if step == Step::Split { operators } else { operators * self.terms.guardians.len() };
        let have = self.statements.iter().filter(|statement| statement.slot.step == step).count();
        effects.notice(self.label.progress(step, have, all));
    }

    fn own_split(&self, share: &Scalar, me: &Me<'_>) -> Option<Broadcast> {
        let split = split(&self.terms, &self.roster, &self.message, me.id(), share, me.coins)?;
        Some(me.state(self.label.ceremony, Step::Split, 0, &split))
    }

    /// The own share of a split, if it is good.
    fn own_share(&self, operator: MemberId, split: &OpenSplit, me: &Me<'_>) -> Option<ExitShare> {
        let position = self.terms.position(me.id())?;
        let pair = Pair { ceremony: self.label.ceremony, dealer: operator, recipient: me.id() };
        let share = split.shares.get(position)?;
        let plain = pair.open(&me.keys.dealt_to_me(&split.ephemeral), share)?;
        exit_share_is_good(&plain, me.id(), &split.polynomial, &self.message).map(ExitShare::new)
    }

    /// Takes the own share out of a split and says whether it is good.
    fn judge_split(
        &mut self,
        statement: &Broadcast,
        me: &Me<'_>,
        setting: &Setting<'_>,
        effects: &mut Effects,
    ) {
        let operator = statement.slot.from;
        let Ok(split) = self.terms.check_split(operator, &statement.body) else { return };
        if self.terms.position(me.id()).is_some() {
            let share = self.own_share(operator, &split, me);
            let judgement = match share {
                Some(share) => {
                    self.shares.insert(operator, share);
                    Acknowledge::Good(statement.signed_digest().digest)
                }
                None => {
                    let pair = Pair { ceremony: self.label.ceremony, dealer: operator, recipient: me.id() };
                    let opening = me.keys.disclose(me.coins, &pair, &split.ephemeral);
                    let statement = statement.clone();
                    let proof = Proof::BadShare { statement, recipient: me.id(), opening };
                    let fault = Fault { culprit: operator, proof };
                    self.convict(fault.clone(), setting, effects);
                    Acknowledge::Bad(Box::new(fault))
                }
            };
            self.say(me.state(self.label.ceremony, Step::Acknowledge, operator.0, &judgement), effects);
            self.progress(Step::Acknowledge, effects);
        }
        self.splits.insert(operator, split);
    }

    /// A complaint convicts either the operator or the guardian; an acknowledgement of another split convicts, with
    /// the operator's signature on both, nobody yet: it just does not count.
    fn judge_acknowledgement(&mut self, statement: &Broadcast, setting: &Setting<'_>, effects: &mut Effects) {
        let Ok(Acknowledge::Bad(fault)) = codec::decode(&statement.body) else { return };
        let fault = match fault.verify(&self.court()) {
            Ok(()) => *fault,
            Err(_) => {
                let culprit = statement.slot.from;
                Fault { culprit, proof: Proof::FalseAccusation(Box::new(statement.clone())) }
            }
        };
        self.convict(fault, setting, effects);
    }

    /// Whether a guardian holds a good share of this operator's split.
    fn acknowledged(&self, operator: MemberId, guardian: MemberId) -> bool {
        let Some(split) = self.statements.get(Step::Split, operator, 0) else { return false };
        let digest = Broadcast::digest_of(&split.body);
        self.statements
            .get(Step::Acknowledge, guardian, operator.0)
            .is_some_and(|said| codec::decode(&said.body) == Ok(Acknowledge::Good(digest)))
    }

    /// Publishes, once, when enough operators' splits are acknowledged by the same `wanted` guardians.
    fn finish(&mut self, wanted: usize, setting: &Setting<'_>, effects: &mut Effects) {
        if self.finished.is_some() {
            return;
        }
        let Some(operators) = self.choose(wanted) else { return };
        // Complaints stay out: they prove nothing here, and their length is the complainer's choice.
        let counts = |statement: &&Broadcast| {
            let (slot, about) = (statement.slot, MemberId(statement.slot.item));
            match slot.step {
                Step::Split => operators.contains(&slot.from),
                _ => operators.contains(&about) && self.acknowledged(about, slot.from),
            }
        };
        let record = Record::Presign {
            terms: self.terms.clone(),
            operators: operators.clone(),
            statements: self.statements.iter().filter(counts).cloned().collect(),
        };
        effects.change();
        self.finished = Some(operators);
        self.publish(record, setting, effects);
        effects.notice(self.label.finished());
    }

    /// The first operators, as many as sign together, whose splits at least `wanted` guardians all hold.
    fn choose(&self, wanted: usize) -> Option<Vec<MemberId>> {
        let mut guardians = self.terms.guardians.clone();
        let mut operators = Vec::new();
        for operator in self.splits.keys().filter(|operator| !self.excluded.contains(operator)) {
            let holders: Vec<MemberId> = guardians
                .iter()
                .copied()
                .filter(|guardian| self.acknowledged(*operator, *guardian))
                .collect();
            if holders.len() >= wanted {
                guardians = holders;
                operators.push(*operator);
            }
            if operators.len() == self.terms.operator_threshold() {
                return Some(operators);
            }
        }
        None
    }

    /// Makes a proved cheat known, and leaves a cheating operator's split out.
    fn convict(&mut self, fault: Fault, setting: &Setting<'_>, effects: &mut Effects) {
        effects.change();
        effects.notice(self.label.fault(fault.culprit, false));
        if self.terms.operators.contains(&fault.culprit) && !self.excluded.contains(&fault.culprit) {
            self.excluded.push(fault.culprit);
        }
        if !self.fault_published {
            self.fault_published = true;
            self.publish(Record::PresignFault { terms: self.terms.clone(), fault }, setting, effects);
        }
    }

    fn publish(&self, record: Record, setting: &Setting<'_>, effects: &mut Effects) {
        effects.publish(setting.transcript(self.terms.manifest, &self.roster, record));
    }
}

/// An operator's partial exit signature, split among the guardians: a function of coins and terms, so the same bytes
/// whenever it is asked for. `message` is the terms' exit, hashed to the curve. `None` if the roster lacks a guardian.
pub fn split(
    terms: &PresignTerms,
    roster: &Roster,
    message: &G2,
    operator: MemberId,
    share: &Scalar,
    coins: &Coins,
) -> Option<Split> {
    let ceremony = terms.ceremony();
    let blinding = coins.stream("postern-presign-polynomial-v1", &ceremony.0);
    let polynomial = Polynomial::sample(Scalar::zero(), terms.guardian_threshold.into(), blinding).ok()?;
    let ephemeral = coins.scalar("postern-presign-ephemeral-v1", &ceremony.0);
    let encrypt = |recipient: &MemberId| {
        // S_ji = S_j + f(i)·H(m) = (x_j + f(i))·H(m), f(0) = 0: one multiplication for each guardian, and the partial
        // signature itself is never computed.
        let exponent = polynomial.evaluate(*recipient).ok()? + share;
        let exit_share = ExitShare(*message * &exponent);
        let plaintext = Zeroizing::new(exit_share.point().encode().0);
        let dealing = roster.get(*recipient)?.dealing.decode().ok()?;
        let pair = Pair { ceremony, dealer: operator, recipient: *recipient };
        Some(pair.seal(&(dealing * &ephemeral), &plaintext[..]))
    };
    let shares = terms.guardians.iter().map(encrypt).collect::<Option<_>>()?;
    // The constant term is zero: its commitment is the identity and says nothing.
    let commitments = polynomial.commitments().split_off(1);
    Some(Split { commitments, ephemeral: (G1::generator() * &ephemeral).encode(), shares })
}
