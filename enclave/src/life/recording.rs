//! How changes of an enclave's state become records of its log.

use super::started::Started;
use crate::effects::{Effects, Turn};
use crate::log::change::Change;
use crate::log::journal::{Journal, VaultContent, fresh_salt};
use crate::log::snapshot::Cutter;
use crate::machine::platform::Platform;
use postern_shared::record::LogId;
use postern_shared::wire::{Output, Rejection};

/// Bytes of settled pools that make a vault record; one pool may be longer by itself.
const VAULT_SIZE: usize = 256 << 10;

impl Started {
    /// Applies a change, and seals it into the log if the state is another.
    pub(crate) fn commit(
        &mut self,
        change: Change,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        // First, so that a machine without randomness, or a change that no record holds, changes nothing.
        let salt = fresh_salt(turn.platform)?;
        let content = Journal::content(&change)?;
        let mut effects = Effects::default();
        let result = self.state.apply(&change, &mut effects);
        let changed = effects.has_changed();
        let (gated, free) = effects.into_parts();
        if !changed {
            turn.outbox.outputs(free);
            return result;
        }
        let record = self.journal.change(&content, salt)?;
        self.state.recorded(record.head(), gated);
        turn.outbox.record(record, free);
        self.advance(turn.outbox);
        result
    }

    /// Goes on with what was handed over, in a log of its own, which begins with a snapshot. Its host has the old log for the
    /// enclave's until it has all of that snapshot; then it has the slot too, in one piece.
    pub(crate) fn take_over(self, turn: &mut Turn<'_, impl Platform>) -> Result<Self, Rejection> {
        let Self { mut state, journal, watch } = self;
        let mut log = [0; 32];
        turn.platform.fill_random(&mut log).map_err(|_| Rejection::Platform)?;
        let journal = journal.succeeded(LogId(log), turn.platform).map_err(|_| Rejection::Platform)?;
        state.take_over(LogId(log));
        let mut started = Self { state, journal, watch };
        let slot = started.journal.make_slot(turn.platform)?;
        started.write_snapshot_with(vec![slot], turn)?;
        Ok(started)
    }

    /// Writes a snapshot if the log has grown by so many bytes, and by twice the size of the last.
    pub(crate) fn write_snapshot_if_due(&mut self, after: usize, turn: &mut Turn<'_, impl Platform>) {
        if self.state.notes.is_acting() && self.journal.wants_snapshot(after) {
            // What was asked is done in any case; a snapshot that failed is tried again.
            let _ = self.write_snapshot(turn);
        }
    }

    /// Writes everything anew, so that the records before may be forgotten. If the machine fails in the middle, what was
    /// written is part of the log like any other, and of no consequence.
    pub(crate) fn write_snapshot(&mut self, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        self.write_snapshot_with(Vec::new(), turn)
    }

    /// Writes a snapshot; what is to be stored with its end, in one piece, goes along.
    fn write_snapshot_with(
        &mut self,
        along: Vec<Output>,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        loop {
            let settled = self.state.settled(VAULT_SIZE);
            if settled.is_empty() {
                break;
            }
            let salt = fresh_salt(turn.platform)?;
            let content = VaultContent { follows: self.state.pools.vault.head(), settled };
            let record = self.journal.vault(&content, salt)?;
            self.state.pools.keep_settled(content.settled);
            self.state.recorded(record.head(), Vec::new());
            turn.outbox.record(record, Vec::new());
        }
        let first = self.journal.head().number.saturating_add(1);
        let mut cutter = Cutter::default();
        self.state.items().for_each(|item| cutter.add(&item));
        let mut size = 0_usize;
        for part in cutter.finish() {
            let salt = fresh_salt(turn.platform)?;
            let record = self.journal.part(&part, salt)?;
            size = size.saturating_add(record.ciphertext.len());
            self.state.recorded(record.head(), Vec::new());
            turn.outbox.record(record, Vec::new());
        }
        let salt = fresh_salt(turn.platform)?;
        let record = self.journal.snapshot(first, size, self.state.pools.vault.head(), salt)?;
        self.state.recorded(record.head(), Vec::new());
        turn.outbox.record(record, along);
        Ok(())
    }
}
