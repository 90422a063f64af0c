//! Presign: every operator splits its partial exit signature among the guardians; the whole exists nowhere. See
//! `postern_shared::presign` for the mathematics and the statements.
//!
//! There are no phases: a split is judged when it comes, by each guardian for itself. The ceremony is finished when as
//! many operators as sign together have splits that all guardians acknowledge; at a tick a threshold of guardians is
//! enough, so that a few that are down can't hold it up (those catch up later: shares stay good). Ticks decide only when
//! the transcript is published and which operators a release goes by, never what is safe. An operator that is convicted
//! after it was chosen is left out, and others are chosen.
//!
//! # What others can make this enclave do
//! Keep: one split of each operator and one acknowledgement of each by each guardian, all of sizes that the terms give. A
//! member is convicted once in a presign; what else it says that is wrong leaves no trace.
//! Sign: its own split, and one acknowledgement of each operator's. A split shows points that are uniform and independent of
//! the partial signature to fewer than a threshold of guardians, whatever the guardians are: they follow from the terms, and
//! other terms give unrelated coins. An acknowledgement tells an operator whether its own ciphertext was good, and if not
//! the key to it, which it knew (`sealed_shares`).
//!
//! # State and restart
//! A split is a function of coins and terms, which name exit, guardians and roster: run again it is byte for byte the
//! same, and other guardians never meet the same polynomial.

use super::keygen::ValidatorKey;
use super::sealing::seal_shares;
use super::statements::Statements;
use super::{Ceremony, Label, Scene, Taken, report_missing};
use crate::crypto::coins::Coins;
use crate::crypto::keys::Me;
use crate::crypto::secret::SecretBytes;
use crate::crypto::sharing::Polynomial;
use crate::effects::Effects;
use postern_shared::bls::{self, Commitments, G2, PublicKey, Scalar};
use postern_shared::codec;
use postern_shared::court::{Conviction, Court, Statements as _};
use postern_shared::fault::{Fault, Proof};
use postern_shared::identity::Roster;
use postern_shared::ids::{CeremonyId, Digest, MemberId, PoolId};
use postern_shared::message::{Broadcast, SignedDigest, Slot, Step};
use postern_shared::presign::{
    Acknowledge, OpenSplit, PresignProceedings, PresignTerms, Split, exit_share_is_good,
};
use postern_shared::sealed_shares::Pair;
use postern_shared::transcript::Proceedings;
use postern_shared::wire::{CeremonyKind, Notice, Rejection};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A guardian's share of an exit: of one operator's part, or of the whole. Like the point in it, it is wiped on drop and
/// never printed; and it stays where it is when what holds it moves.
#[derive(Clone)]
pub(crate) struct ExitShare(Box<G2>);

impl ExitShare {
    pub(crate) fn new(point: G2) -> Self {
        Self(Box::new(point))
    }

    pub(crate) fn point(&self) -> &G2 {
        &self.0
    }
}

impl ExitShare {
    /// For what is sealed.
    pub(crate) fn save(&self) -> SecretBytes {
        SecretBytes::of(&self.0.to_secret_bytes())
    }

    /// As it was saved.
    pub(crate) fn restore(saved: &SecretBytes) -> Option<Self> {
        G2::from_bytes(saved.expose().try_into().ok()?).ok().map(Self::new)
    }
}

/// A run as snapshots keep it, beside its statements.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedPresign {
    terms: PresignTerms,
    roster: Roster,
    convicted: BTreeSet<MemberId>,
    finished: Option<Vec<MemberId>>,
}

/// A run that is over, as the vault keeps it: what a release needs.
#[derive(Serialize, Deserialize)]
pub(crate) struct SettledPresign {
    ceremony: CeremonyId,
    /// Without the certificate's commitments, which are the key's.
    terms: PresignTerms,
    finished: Option<Vec<MemberId>>,
    convicted: BTreeSet<MemberId>,
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

    /// Operators whose splits have not come, and may come yet.
    pub(crate) fn silent(&self) -> impl Iterator<Item = MemberId> {
        let heard = |operator: &MemberId| self.splits.iter().any(|(known, ..)| known == operator);
        let operators = self.terms.operators.iter().copied();
        operators.filter(move |operator| !heard(operator) && !self.convicted.contains(operator))
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
    /// The public keys of the shares of good splits, by operator.
    splits: BTreeMap<MemberId, Commitments>,
    /// The own verified shares, by operator.
    shares: BTreeMap<MemberId, ExitShare>,
    /// Who was proved to have cheated: an operator's split is left out.
    convicted: BTreeSet<MemberId>,
    finished: Option<Vec<MemberId>>,
}

impl Ceremony for Presign {
    fn id(&self) -> CeremonyId {
        self.label.ceremony
    }

    fn pool(&self) -> PoolId {
        self.label.pool
    }
}

impl Presign {
    /// Begins with the own split, if this enclave has a share of the key.
    pub(crate) fn start(
        terms: PresignTerms,
        roster: Roster,
        key: &ValidatorKey,
        scene: &mut Scene<'_>,
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
            convicted: BTreeSet::new(),
            finished: None,
        };
        if let Some(split) = key.share.as_ref().and_then(|share| presign.own_split(share, &scene.me()))
            && let Ok(open) = presign.terms.check_split(scene.me().id(), &split.body)
        {
            presign.say(split.clone(), scene.effects);
            presign.judge_split(&split, open, scene);
            presign.progress(Step::Split, scene.effects);
        }
        presign
    }

    /// What snapshots keep.
    pub(crate) fn save(&self) -> SavedPresign {
        SavedPresign {
            terms: self.terms.clone(),
            roster: self.roster.clone(),
            convicted: self.convicted.clone(),
            finished: self.finished.clone(),
        }
    }

    /// What was said in it.
    pub(crate) fn statements(&self) -> impl Iterator<Item = &Broadcast> {
        self.statements.iter()
    }

    /// The run as it was saved, with what was said in it.
    pub(crate) fn restore(saved: SavedPresign, statements: Vec<Broadcast>, me: &Me<'_>) -> Option<Self> {
        let SavedPresign { terms, roster, convicted, finished } = saved;
        let mut presign = Self {
            label: Label { ceremony: terms.ceremony(), kind: CeremonyKind::Presign, pool: terms.pool },
            message: terms.exit_message(),
            terms,
            roster,
            statements: Statements::default(),
            splits: BTreeMap::new(),
            shares: BTreeMap::new(),
            convicted,
            finished,
        };
        for statement in statements.iter().filter(|statement| statement.slot.step == Step::Split) {
            let operator = statement.slot.from;
            let split = presign.terms.check_split(operator, &statement.body).ok()?;
            if let Some(share) = presign.own_share(operator, &split, me) {
                presign.shares.insert(operator, share);
            }
            presign.splits.insert(operator, split.polynomial);
        }
        presign.statements = Statements::of(statements);
        Some(presign)
    }

    /// What the vault keeps. An operator that was silent so far may still speak: see `pools`.
    pub(crate) fn settle(&self) -> SettledPresign {
        let splits = self.splits.iter().map(|(operator, polynomial)| {
            let commitments = polynomial.encode().split_off(1);
            (*operator, commitments, self.shares.get(operator).map(ExitShare::save))
        });
        let mut terms = self.terms.clone();
        // The key has them.
        terms.certificate.commitments = Vec::new();
        terms.certificate.operators = Vec::new();
        SettledPresign {
            ceremony: self.label.ceremony,
            terms,
            finished: self.finished.clone(),
            convicted: self.convicted.clone(),
            splits: splits.collect(),
        }
    }

    /// A settled run, with the splits that have come since.
    pub(crate) fn revive(
        settled: SettledPresign,
        late: &[Broadcast],
        key: &ValidatorKey,
        roster: Roster,
        me: &Me<'_>,
    ) -> Option<Self> {
        let SettledPresign { ceremony, mut terms, finished, convicted, splits: settled } = settled;
        terms.certificate = key.public.certificate.clone();
        let (mut splits, mut shares) = (BTreeMap::new(), BTreeMap::new());
        for (operator, commitments, share) in settled {
            let rest = Commitments::decode(&commitments, commitments.len()).ok()?;
            splits.insert(
                operator,
                Commitments::with_constant(key.public.polynomial.evaluate(operator), &rest),
            );
            if let Some(share) = share {
                shares.insert(operator, ExitShare::restore(&share)?);
            }
        }
        let mut presign = Self {
            label: Label { ceremony, kind: CeremonyKind::Presign, pool: terms.pool },
            message: terms.exit_message(),
            terms,
            roster,
            statements: Statements::of(late.to_vec()),
            splits,
            shares,
            convicted,
            finished,
        };
        for statement in late {
            let split = presign.terms.check_split(statement.slot.from, &statement.body).ok()?;
            if let Some(share) = presign.own_share(statement.slot.from, &split, me) {
                presign.shares.insert(statement.slot.from, share);
            }
            presign.splits.insert(statement.slot.from, split.polynomial);
        }
        Some(presign)
    }

    /// Takes the split of an operator that was silent until the run was settled, and acknowledges it: whoever collects for a
    /// release may count it. Says whether it is to be kept.
    pub(crate) fn on_late_split(
        &mut self,
        statement: &Broadcast,
        scene: &mut Scene<'_>,
    ) -> Result<bool, Rejection> {
        let Slot { step, from, item, .. } = statement.slot;
        let silent = !self.splits.contains_key(&from) && !self.convicted.contains(&from);
        // Whatever else is said, nothing depends on it any more.
        if (step, item) != (Step::Split, 0) || !self.terms.operators.contains(&from) || !silent {
            return Ok(false);
        }
        let split = self.terms.check_split(from, &statement.body).map_err(|_| Rejection::Invalid)?;
        scene.effects.store(statement);
        self.judge_split(statement, split, scene);
        Ok(true)
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

    /// The own shares, each of one operator's split.
    pub(crate) fn shares(&self) -> &BTreeMap<MemberId, ExitShare> {
        &self.shares
    }

    /// Operators whose splits have given this guardian no good share, and may yet.
    pub(crate) fn lacking(&self) -> impl Iterator<Item = MemberId> {
        let lacks =
            |operator: &MemberId| !self.shares.contains_key(operator) && !self.convicted.contains(operator);
        self.terms.operators.iter().copied().filter(lacks)
    }

    /// Whether an operator's split is here, so that shares of it can be judged.
    pub(crate) fn knows(&self, operator: MemberId) -> bool {
        self.splits.contains_key(&operator)
    }

    /// Whether a share of an operator's split is good: of the split that is here, if its operator has made several.
    pub(crate) fn is_good(&self, operator: MemberId, guardian: MemberId, share: &G2) -> bool {
        self.splits.get(&operator).is_some_and(|polynomial| {
            bls::verify_point(&polynomial.evaluate(guardian), &self.message, share).is_ok()
        })
    }

    /// Takes an authentic statement.
    pub(crate) fn on_statement(&mut self, statement: Broadcast, scene: &mut Scene<'_>) -> Taken {
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
        let said = statement.signed_digest();
        // Before anything that costs more: what fills its slot already, or contradicts it.
        if self.statements.find(&said).is_some() {
            return Ok(());
        }
        if let Some(known) = self.statements.contradicting(&said) {
            let fault = Fault { culprit: slot.from, proof: Proof::Equivocation(known, said) };
            self.convict(fault, None, scene);
            return Err(Rejection::Invalid);
        }
        let split = match slot.step {
            // Costs two multiplications and more: checked once.
            Step::Split => self.terms.check_split(slot.from, &statement.body).ok().map(Some),
            _ => (!self.court().is_invalid(&statement)).then_some(None),
        };
        let Some(split) = split else {
            let fault = Fault { culprit: slot.from, proof: Proof::InvalidStatement(said) };
            self.convict(fault, Some(&statement), scene);
            return Err(Rejection::Invalid);
        };
        self.statements.insert(statement.clone());
        scene.effects.store(&statement);
        match split {
            Some(split) => {
                self.judge_split(&statement, split, scene);
                // Guardians may have complained about it before it was here.
                for guardian in self.terms.guardians.clone() {
                    self.judge_complaint(slot.from, guardian, scene);
                }
            }
            None => self.judge_complaint(MemberId(slot.item), slot.from, scene),
        }
        self.progress(slot.step, scene.effects);
        self.finish(self.terms.guardians.len(), scene);
        Ok(())
    }

    /// Says what is missing, and is content with a threshold of guardians.
    pub(crate) fn on_tick(&mut self, scene: &mut Scene<'_>) {
        if self.finished.is_some() {
            return;
        }
        self.finish(self.terms.guardian_threshold.into(), scene);
        report_missing(&self.label, &self.statements, Step::Split, &self.terms.operators, scene.effects);
        for operator in self.splits.keys() {
            for member in &self.terms.guardians {
                if self.statements.get(Step::Acknowledge, *member, operator.0).is_none() {
                    let (ceremony, member) = (self.label.ceremony, *member);
                    let step = Step::Acknowledge;
                    scene.effects.notice(Notice::Missing { ceremony, step, member });
                }
            }
        }
    }

    fn court(&self) -> Court<'_> {
        let (ceremony, terms) = (self.label.ceremony, &self.terms);
        Court { ceremony, terms, roster: &self.roster, statements: &self.statements }
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
        let plain = me.keys.open_share(&self.pair(operator, me)?, &split.shares, position)?;
        exit_share_is_good(&plain, me.id(), &split.polynomial, &self.message).map(ExitShare::new)
    }

    fn pair<'a>(&'a self, operator: MemberId, me: &'a Me<'_>) -> Option<Pair<'a>> {
        let slot = Slot::of(self.label.ceremony, operator, Step::Split);
        Some(Pair { slot, dealer: self.roster.get(operator)?, recipient: me.keys.identity() })
    }

    /// Takes the own share out of a split and says whether it is good.
    fn judge_split(&mut self, statement: &Broadcast, split: OpenSplit, scene: &mut Scene<'_>) {
        let operator = statement.slot.from;
        if self.terms.position(scene.me().id()).is_some()
            && let Some(pair) = self.pair(operator, &scene.me())
        {
            let said = statement.signed_digest();
            let judgement = match self.own_share(operator, &split, &scene.me()) {
                Some(share) => {
                    self.shares.insert(operator, share);
                    Acknowledge::Good(said.digest)
                }
                None => {
                    let opening = scene.me().keys.disclose(scene.me().coins, &pair, &split.shares);
                    let proof = Proof::BadShare { statement: said, recipient: scene.me().id(), opening };
                    self.convict(Fault { culprit: operator, proof }, Some(statement), scene);
                    Acknowledge::Bad { split: said, opening }
                }
            };
            self.say(
                scene.me().state(self.label.ceremony, Step::Acknowledge, operator.0, &judgement),
                scene.effects,
            );
            self.progress(Step::Acknowledge, scene.effects);
        }
        self.splits.insert(operator, split.polynomial);
    }

    /// A complaint convicts either the operator or the guardian, once the split is here that it is about; an
    /// acknowledgement of another split convicts, with the operator's signature on both, nobody yet: it just does not
    /// count.
    fn judge_complaint(&mut self, operator: MemberId, guardian: MemberId, scene: &mut Scene<'_>) {
        let said = self.statements.get(Step::Acknowledge, guardian, operator.0);
        if let Some(fault) = said.and_then(|said| self.statements.judge_accusation(said, &self.court())) {
            self.convict(fault, None, scene);
        }
    }

    /// Whether a guardian has said that it holds a good share of this operator's split, as it is here.
    pub(crate) fn acknowledged(&self, operator: MemberId, guardian: MemberId) -> bool {
        let Some(SignedDigest { digest, .. }) = self.statements.digest(Step::Split, operator, 0) else {
            return false;
        };
        self.statements
            .get(Step::Acknowledge, guardian, operator.0)
            .is_some_and(|said| codec::decode(&said.body) == Ok(Acknowledge::Good(digest)))
    }

    /// Publishes, once, when enough operators' splits are acknowledged by the same `wanted` guardians.
    fn finish(&mut self, wanted: usize, scene: &mut Scene<'_>) {
        if self.finished.is_some() {
            return;
        }
        let Some(operators) = self.choose(wanted) else { return };
        // Who has complained, or not spoken yet, of one of these splits holds no share of the exit: what it says of the others
        // proves nothing.
        let holds = |guardian| operators.iter().all(|operator| self.acknowledged(*operator, guardian));
        let counts = |statement: &&Broadcast| {
            let (slot, about) = (statement.slot, MemberId(statement.slot.item));
            match slot.step {
                Step::Split => operators.contains(&slot.from),
                _ => operators.contains(&about) && holds(slot.from),
            }
        };
        let record = PresignProceedings {
            terms: self.terms.clone(),
            operators: operators.clone(),
            statements: self.statements.iter().filter(counts).cloned().collect(),
        };
        let record = Proceedings::Presign(record);
        scene.effects.change();
        self.finished = Some(operators);
        self.publish(record, scene);
        scene.effects.notice(self.label.finished());
    }

    /// Operators, as many as sign together, whose splits the same `wanted` guardians all hold. A cheating operator can have
    /// its split held by just those guardians with whom no others come together, so no order of choosing is safe: all
    /// sets are tried, the first in order first.
    fn choose(&self, wanted: usize) -> Option<Vec<MemberId>> {
        let holders = |operator: &MemberId| {
            let held = |(place, guardian): (usize, &MemberId)| {
                u64::from(self.acknowledged(*operator, *guardian)) << place
            };
            self.terms.guardians.iter().enumerate().map(held).sum::<u64>()
        };
        let counted = self.splits.keys().filter(|operator| !self.convicted.contains(operator));
        let held: Vec<(MemberId, u64)> = counted.map(|operator| (*operator, holders(operator))).collect();
        let mut steps = MOST_SETS;
        let mut chosen = Vec::new();
        extend(&held, u64::MAX, self.terms.operator_threshold(), wanted, &mut chosen, &mut steps)
            .then_some(chosen)
    }

    /// Makes a proved cheat known, once for each cheat, the first with its proof. `refused` is a statement that the proof
    /// names and that was not taken in.
    fn convict(&mut self, fault: Fault, refused: Option<&Broadcast>, scene: &mut Scene<'_>) {
        let first = self.convicted.is_empty();
        if !self.convicted.insert(fault.culprit) {
            return;
        }
        scene.effects.change();
        scene.effects.notice(self.label.fault(fault.culprit, false));
        // A split that was good for some was not for others: the next tick chooses operators without its maker.
        if self.finished.as_ref().is_some_and(|operators| operators.contains(&fault.culprit)) {
            self.finished = None;
        }
        if let Some(refused) = refused {
            scene.effects.store(refused);
        }
        if first {
            let record = Conviction::new(&self.terms, fault, &self.court(), refused);
            self.publish(Proceedings::PresignFault(record), scene);
        }
    }

    fn publish(&self, record: Proceedings, scene: &mut Scene<'_>) {
        scene.publish(self.terms.manifest, &self.roster, record);
    }
}

/// Most sets of operators that are tried at a tick: all of them up to 16 members. Of more members, so many tries find one
/// unless cheats have arranged many sets against it; then the presign waits until more guardians have acknowledged.
const MOST_SETS: u32 = 20_000;

/// Adds operators to those chosen until there are `more`, such that `wanted` guardians of `common` hold all their splits.
fn extend(
    held: &[(MemberId, u64)],
    common: u64,
    more: usize,
    wanted: usize,
    chosen: &mut Vec<MemberId>,
    steps: &mut u32,
) -> bool {
    if more == 0 {
        return true;
    }
    for (place, (operator, holders)) in held.iter().enumerate() {
        let Some(left) = steps.checked_sub(1) else { return false };
        *steps = left;
        if held.len() - place < more {
            return false;
        }
        let common = common & holders;
        if (common.count_ones() as usize) < wanted {
            continue;
        }
        chosen.push(*operator);
        let rest = held.get(place + 1..).unwrap_or_default();
        if extend(rest, common, more - 1, wanted, chosen, steps) {
            return true;
        }
        chosen.pop();
    }
    false
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
    // The constant term is zero: its commitment is the identity and says nothing.
    let commitments = polynomial.commitments().split_off(1);
    // S_ji = S_j + f(i)·H(m) = (x_j + f(i))·H(m), f(0) = 0: one multiplication for each guardian, and the partial
    // signature itself is never computed.
    let exit_share = |recipient| {
        let exponent = polynomial.evaluate(recipient).ok()? + share;
        Some((message * &exponent).to_secret_bytes())
    };
    let slot = Slot::of(ceremony, operator, Step::Split);
    let sealed = seal_shares(coins, slot, roster, &terms.guardians, &commitments, exit_share)?;
    Some(Split { commitments, sealed })
}
