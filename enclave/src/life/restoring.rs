//! An enclave that gets its state back: from its own log, or from the end of its predecessor's.

use super::check_trust;
use super::started::Started;
use super::succession::Heir;
use crate::effects::{Effects, Turn};
use crate::log::change::Change;
use crate::log::journal::{Content, LogName, Reader, VaultContent};
use crate::log::seal::{LogKeys, OwnLaunch};
use crate::machine::platform::Platform;
use crate::pools::vault::Vault;
use crate::state::State;
use crate::witness::Watch;
use postern_shared::message::{Certificates, Envelope};
use postern_shared::record::{KeySlot, LogHead, SealedError, SealedRecord};
use postern_shared::snp::RawTcb;
use postern_shared::wire::Rejection;

/// See the module.
pub(crate) struct Restoring {
    certificates: Certificates,
    /// The TCB that its slot is sealed at; none before there is a slot.
    tcb: Option<RawTcb>,
    /// Where the log was handed over, if it was.
    handed_over: Option<LogHead>,
    reader: Reader,
    /// Until there is a state to take it.
    vault: Vault,
    state: Option<State>,
}

impl Restoring {
    /// From the log that this slot opens.
    pub(super) fn of(
        slot: &KeySlot,
        certificates: Certificates,
        platform: &mut impl Platform,
    ) -> Result<Self, Rejection> {
        let own = OwnLaunch::read(platform).map_err(|_| Rejection::Platform)?;
        let keys = LogKeys::from_slot(slot, &own, platform).map_err(Rejection::Sealed)?;
        let reader = Reader::new(keys, LogName::of(&slot.header));
        let (tcb, handed_over) = (Some(slot.header.tcb), None);
        Ok(Self { certificates, tcb, handed_over, reader, vault: Vault::default(), state: None })
    }

    /// From what an heir is handed over.
    pub(super) fn inherited(heir: &Heir, envelope: &Envelope) -> Result<Self, Rejection> {
        let (name, inheritance) = heir.open(envelope)?;
        let keys = LogKeys::restore(&inheritance.keys).ok_or(Rejection::Malformed)?;
        let (tcb, handed_over, reader) = (None, Some(inheritance.head), Reader::new(keys, name));
        let certificates = heir.certificates.clone();
        Ok(Self { certificates, tcb, handed_over, reader, vault: Vault::default(), state: None })
    }

    /// Number of the record that is due, and where the log stands with what was read.
    pub(super) fn progress(&self) -> (u64, LogHead) {
        (self.reader.next(), self.reader.head())
    }

    /// Takes the next record.
    pub(super) fn read(
        &mut self,
        record: &SealedRecord,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        let number = record.header.number;
        let incomplete = Rejection::Sealed(SealedError::Incomplete);
        let mut gated = Vec::new();
        match self.reader.read(record).map_err(Rejection::Sealed)? {
            Content::Nothing => {}
            // Another build's changes: only what it packed for us is ours to read.
            Content::Change(_) if self.handed_over.is_some() => return Err(incomplete),
            Content::Change(change) => {
                if let (Change::Begun(genesis), None) = (&*change, &self.state) {
                    let state = State::begin(genesis, turn.platform.trust_anchor().clone());
                    self.begin(state.ok_or(incomplete)?, turn)?;
                }
                let state = self.state.as_mut().ok_or(incomplete)?;
                let mut effects = Effects::default();
                // What it refused then it refuses now.
                let _ = state.apply(&change, &mut effects);
                gated = effects.into_parts().0;
            }
            Content::Vault(VaultContent { settled, .. }) => match &mut self.state {
                Some(state) => state.pools.keep_settled(settled),
                None => self.vault.keep(settled),
            },
            Content::Snapshot(items) => {
                let vault = core::mem::take(&mut self.vault);
                let state = State::restore(items, vault, turn.platform.trust_anchor().clone());
                let state = state.ok_or(Rejection::Sealed(SealedError::Content { number }))?;
                self.begin(state, turn)?;
            }
        }
        // Like when it was written: every record of an enclave that acts is a place that it has come to.
        if let Some(state) = &mut self.state {
            state.recorded(self.reader.head(), gated);
        }
        Ok(())
    }

    /// All was read: the enclave goes on.
    pub(super) fn finish(self, turn: &mut Turn<'_, impl Platform>) -> Result<Started, Rejection> {
        let Self { tcb, handed_over, reader, state, .. } = self;
        if let Some(end) = handed_over.filter(|end| *end != reader.head()) {
            let (expected, found) = (end.number, reader.head().number);
            return Err(Rejection::Sealed(SealedError::HandedOverAt { expected, found }));
        }
        let (journal, vault) = reader.finish().map_err(Rejection::Sealed)?;
        let state = state.ok_or(Rejection::Sealed(SealedError::Incomplete))?;
        if state.pools.vault.head() != vault {
            let (expected, found) = (vault.count, state.pools.vault.head().count);
            return Err(Rejection::Sealed(SealedError::Vault { expected, found }));
        }
        check_trust(&state.dao.manifest, turn.platform)?;
        let mut started = Started { state, journal, watch: Watch::default() };
        if handed_over.is_some() {
            started = started.take_over(turn)?;
        } else {
            let own = OwnLaunch::read(turn.platform).map_err(|_| Rejection::Platform)?;
            if tcb != Some(own.committed_tcb) {
                // Firmware was updated: what is older must not open the log for ever.
                turn.outbox.output(started.journal.make_slot(turn.platform)?);
            }
        }
        started.come_back_restored(turn)?;
        Ok(started)
    }

    /// From here on there is an identity: with its evidence, what is restored can be shown to others.
    fn begin(&mut self, mut state: State, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        state.dao.renew(self.certificates.clone(), turn)?;
        self.state = Some(state);
        Ok(())
    }
}
