//! Where enclaves' logs stood when they let something out: nothing that comes later may come from a log that lacks it.

use crate::cluster::{Cluster, Node};
use postern_shared::codec;
use postern_shared::ids::MemberId;
use postern_shared::message::{Broadcast, PeerMessage, Slot, Step};
use postern_shared::record::{LogHead, SealedRecord};
use postern_shared::witness::{Advance, Witness};
use std::collections::{BTreeMap, BTreeSet};

/// What members have let out so far.
#[derive(Debug, Default)]
pub struct Places {
    heard: BTreeSet<Slot>,
    /// Up to which record others remembered a member's log when it last said something new.
    newest: BTreeMap<MemberId, LogHead>,
    /// Who has said something new from a log without that record.
    forgetful: Option<(MemberId, Slot)>,
}

impl Places {
    /// A member has said this, whose log has these records and was last noted at `noted`.
    pub fn hear(&mut self, statement: &Broadcast, noted: Option<LogHead>, records: &[SealedRecord]) {
        let slot = statement.slot;
        // A decision proves itself, and is told by whoever knows it.
        if slot.step == Step::Decide || !self.heard.insert(slot) {
            return;
        }
        if let Some(newest) = self.newest.get(&slot.from).filter(|newest| newest.number > 0)
            && !records.iter().rev().any(|record| record.head() == *newest)
        {
            self.forgetful.get_or_insert((slot.from, slot));
        }
        if let Some(noted) = noted {
            self.newest.insert(slot.from, noted);
        }
    }

    /// The first that has said something new from old state.
    pub fn forgetful(&self) -> Option<(MemberId, Slot)> {
        self.forgetful
    }
}

impl Cluster {
    /// A member's enclave hands this out.
    pub(crate) fn listen(&mut self, id: MemberId, message: &[u8]) {
        match codec::decode(message) {
            Ok(PeerMessage::Broadcast(statement)) => {
                let position = usize::from(id.0) - 1;
                let Node { noted, records, .. } = &self.nodes[position];
                if statement.slot.from == id {
                    self.places.hear(&statement, *noted, records);
                }
                self.said.push(statement);
            }
            Ok(PeerMessage::Witness(message)) => {
                if let Witness::Advance(Advance { note, .. }) = message.witness {
                    self.node_mut(id).noted = Some(note.note.place.head);
                }
            }
            Ok(PeerMessage::Envelope(envelope)) => self.sealed.push(envelope.header),
            _ => {}
        }
    }
}
