//! The signed statements of one ceremony, one for each slot.

use postern_shared::court::{self, Court, Judgement};
use postern_shared::fault::{Fault, Proof};
use postern_shared::ids::{Digest, MemberId};
use postern_shared::message::{Broadcast, SignedDigest, Slot, Step};
use std::collections::BTreeMap;

/// Authentic statements by slot. Bounded by the number of members, steps and items, each by its longest body.
#[derive(Default)]
pub(crate) struct Statements {
    by_slot: BTreeMap<(Step, MemberId, u16), Heard>,
}

struct Heard {
    /// Of the body.
    digest: Digest,
    statement: Broadcast,
}

impl Statements {
    /// Those that were kept.
    pub(crate) fn of(statements: Vec<Broadcast>) -> Self {
        let heard = |statement: Broadcast| {
            let digest = Broadcast::digest_of(&statement.body);
            (key(&statement.slot), Heard { digest, statement })
        };
        Self { by_slot: statements.into_iter().map(heard).collect() }
    }

    /// Adds a statement whose signature was verified. What fills its slot already stays.
    pub(crate) fn insert(&mut self, statement: Broadcast) {
        let digest = Broadcast::digest_of(&statement.body);
        self.by_slot.entry(key(&statement.slot)).or_insert(Heard { digest, statement });
    }

    /// What its speaker has said here in the slot of something else that it has said.
    pub(crate) fn contradicting(&self, said: &SignedDigest) -> Option<SignedDigest> {
        let known = self.by_slot.get(&key(&said.slot)).filter(|known| known.digest != said.digest)?;
        Some(known.signed_digest())
    }

    /// Whom the accusation in a statement convicts: the accused, by its proof or by a statement here that contradicts one that
    /// it names; or the accuser. `None` while what it takes to judge it is not here, or if there is no accusation in it.
    pub(crate) fn judge_accusation(&self, accusation: &Broadcast, court: &Court<'_>) -> Option<Fault> {
        let fault = court.terms.accusation_in(accusation)?;
        let contradicted = fault
            .proof
            .named()
            .find_map(|named| self.contradicting(named).map(|known| Proof::Equivocation(known, *named)));
        match (court.judge(&fault), contradicted) {
            (Judgement::Proved, _) => Some(fault),
            (_, Some(proof)) => Some(Fault { proof, ..fault }),
            (Judgement::Refuted, None) => {
                let proof = Proof::FalseAccusation(accusation.signed_digest());
                Some(Fault { culprit: accusation.slot.from, proof })
            }
            (Judgement::Lacks(_), None) => None,
        }
    }

    pub(crate) fn remove(&mut self, step: Step, from: MemberId) {
        self.by_slot.remove(&(step, from, 0));
    }

    pub(crate) fn get(&self, step: Step, from: MemberId, item: u16) -> Option<&Broadcast> {
        self.by_slot.get(&(step, from, item)).map(|heard| &heard.statement)
    }

    /// The digest of a statement.
    pub(crate) fn digest(&self, step: Step, from: MemberId, item: u16) -> Option<SignedDigest> {
        self.by_slot.get(&(step, from, item)).map(Heard::signed_digest)
    }

    /// The statements of all these members at a step, in their order, if all are there.
    pub(crate) fn all<'a>(&'a self, step: Step, members: &[MemberId]) -> Option<Vec<&'a Broadcast>> {
        members.iter().map(|member| self.get(step, *member, 0)).collect()
    }

    /// Members without a statement at a step.
    pub(crate) fn missing(&self, step: Step, members: &[MemberId]) -> Vec<MemberId> {
        members.iter().copied().filter(|member| self.get(step, *member, 0).is_none()).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Broadcast> {
        self.by_slot.values().map(|heard| &heard.statement)
    }
}

impl court::Statements for Statements {
    fn find(&self, said: &SignedDigest) -> Option<&Broadcast> {
        let heard = self.by_slot.get(&key(&said.slot)).filter(|heard| heard.digest == said.digest);
        heard.map(|heard| &heard.statement)
    }
}

impl Heard {
    fn signed_digest(&self) -> SignedDigest {
        let Broadcast { slot, signature, .. } = self.statement;
        SignedDigest { slot, digest: self.digest, signature }
    }
}

fn key(slot: &Slot) -> (Step, MemberId, u16) {
    (slot.step, slot.from, slot.item)
}
