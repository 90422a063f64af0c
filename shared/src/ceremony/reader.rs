//! Reads the statements of a transcript, so that each of them is authentic and counts.
//!
//! A transcript passes through many hands. If a statement that is wrong or of no use were passed over, whoever hands the
//! transcript on could change what it says: one flipped bit in an acknowledgement, and a guardian less is named. And anybody
//! could add what nobody has checked. So verifications get at statements by a [`Reader`] alone, which
//! 1. refuses, before it gives any out, what is of another ceremony, what no participant has signed, and a second statement
//!    in a slot;
//! 2. gives a statement out only to be judged, and refuses it if it does not count;
//! 3. refuses, in the end, what was not asked for.
//!
//! Statements may stand in any order: it says nothing.

use super::basis::{Basis, TranscriptError};
use crate::codec;
use crate::ids::{CeremonyId, MemberId};
use crate::message::{Broadcast, Slot, Step};
use alloc::collections::BTreeMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The statements of a transcript that are not read yet.
pub(super) struct Reader<'a> {
    ceremony: CeremonyId,
    unread: BTreeMap<Slot, &'a Broadcast>,
}

impl<'a> Reader<'a> {
    /// Checks that all are authentic, and fill each a slot of its own.
    pub(super) fn new(
        basis: &Basis<'_>,
        ceremony: CeremonyId,
        statements: &'a [Broadcast],
    ) -> Result<Self, TranscriptError> {
        let mut unread = BTreeMap::new();
        for statement in statements {
            basis.authenticate(ceremony, statement)?;
            if unread.insert(statement.slot, statement).is_some() {
                return Err(TranscriptError::twice(&statement.slot));
            }
        }
        Ok(Self { ceremony, unread })
    }

    /// Reads a statement that may be there. `judge` gives what counts of it, or nothing if it does not count.
    pub(super) fn read<T>(
        &mut self,
        member: MemberId,
        step: Step,
        item: u16,
        judge: impl FnOnce(&Broadcast) -> Option<T>,
    ) -> Result<Option<T>, TranscriptError> {
        let slot = Slot { ceremony: self.ceremony, from: member, step, item };
        let Some(statement) = self.unread.remove(&slot) else { return Ok(None) };
        judge(statement).map(Some).ok_or(TranscriptError::Invalid { step, member })
    }

    /// Reads a statement that must be there, in the one slot of its step.
    pub(super) fn need<T>(
        &mut self,
        member: MemberId,
        step: Step,
        judge: impl FnOnce(&Broadcast) -> Option<T>,
    ) -> Result<T, TranscriptError> {
        self.read(member, step, 0, judge)?.ok_or(TranscriptError::Missing { step, member })
    }

    /// Checks that all were read.
    pub(super) fn finish(self) -> Result<(), TranscriptError> {
        self.unread.keys().next().map_or(Ok(()), |slot| Err(TranscriptError::unused(slot)))
    }
}

/// A judgement of what a statement says, for [`Reader::read`].
pub(super) fn says<T: Serialize + DeserializeOwned>(
    statement: &Broadcast,
    holds: impl FnOnce(T) -> bool,
) -> Option<()> {
    holds(codec::decode(&statement.body).ok()?).then_some(())
}
