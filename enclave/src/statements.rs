//! The signed statements of one ceremony, one for each slot.

use postern_shared::fault::{Fault, Proof};
use postern_shared::ids::MemberId;
use postern_shared::message::{Broadcast, Step};
use std::collections::BTreeMap;

/// Authentic statements by slot. Bounded by the number of members, steps and items.
#[derive(Default)]
pub(crate) struct Statements {
    by_slot: BTreeMap<(Step, MemberId, u16), Broadcast>,
}

/// What became of a statement.
pub(crate) enum Inserted {
    /// It fills its slot.
    New,
    /// It was there already.
    Same,
    /// Its speaker has said something else in this slot before.
    Conflict(Box<Fault>),
}

impl Statements {
    /// Those that were kept.
    pub(crate) fn of(statements: Vec<Broadcast>) -> Self {
        let slot = |statement: &Broadcast| (statement.slot.step, statement.slot.from, statement.slot.item);
        Self { by_slot: statements.into_iter().map(|statement| (slot(&statement), statement)).collect() }
    }

    /// Adds a statement whose signature was verified.
    pub(crate) fn insert(&mut self, statement: Broadcast) -> Inserted {
        let slot = statement.slot;
        let key = (slot.step, slot.from, slot.item);
        match self.by_slot.get(&key) {
            None => {
                self.by_slot.insert(key, statement);
                Inserted::New
            }
            Some(known) if known.body == statement.body => Inserted::Same,
            Some(known) => Inserted::Conflict(Box::new(Fault {
                culprit: slot.from,
                proof: Proof::Equivocation(known.signed_digest(), statement.signed_digest()),
            })),
        }
    }

    pub(crate) fn remove(&mut self, step: Step, from: MemberId, item: u16) {
        self.by_slot.remove(&(step, from, item));
    }

    pub(crate) fn get(&self, step: Step, from: MemberId, item: u16) -> Option<&Broadcast> {
        self.by_slot.get(&(step, from, item))
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
        self.by_slot.values()
    }
}
