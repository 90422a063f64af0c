//! The rollback guard: members remember for each other where their logs stand.
//!
//! A host can give its enclave an old state back. The enclave would then say, in good faith, other things than it has said
//! before: confirm another key for a pool, say. Sealing does not help, since the old state is as genuine as the new.
//! So nothing that others may rely on leaves an enclave before enough other members remember how far its log has come, and
//! an enclave that was restored does nothing before enough of them have said that they know of nothing newer.
//!
//! # Acting
//! Outputs that others may rely on are held back. The enclave signs a [`Note`] of its newest record and sends it to all;
//! whoever records it says so ([`Witness::Noted`]). When [`acting_quorum`] others have, the outputs leave. One note is on
//! its way at a time, so that many changes share one round.
//!
//! # Returning
//! An enclave that was restored begins a new incarnation with a fresh nonce, proves itself to all others anew, and claims
//! the newest place in its log at which it acted ([`Witness::Return`]). Each of them that finds nothing against it records
//! the claim, and answers with all the notes that it has, signed by whoever they are about. From those the enclave
//! - learns whether it is old itself: one note of its own, signed by itself, that is newer than its claim, proves it;
//! - learns again what it may have forgotten of others, before it remembers anything for anybody.
//!
//! It acts again when [`returning_quorum`] *acting* others have answered, or when *all* others have, acting or not: so a
//! DAO in which every machine lost its power finds back together when all are there.
//!
//! # Why that is enough
//! Of n members, a place in a log that anything depends on is remembered by ⌊n/2⌋ others, and ⌈n/2⌉ others answer: of
//! n-1, so they share one. Those who act have not forgotten what they noted, however often their hosts took them back in
//! the meantime: they could act again only by learning it from such a quorum of others.
//!
//! Two enclaves restored from one log claim the same incarnation with different nonces; a member notes one of them, two
//! quorums of ⌈n/2⌉ share a member, so at most one acts. Incarnations are like Paxos' ballots: whoever finds that another
//! has asked as this one, but never acted, asks again as a later one (so somebody who first restores an old copy by mistake,
//! and then the newest, is not locked out); from then on nothing that the other wants to do is noted by enough members.
//!
//! If all lost their power together, nobody who acts is there to ask. Then the ⌊n/2⌋ that remembered a place are asked,
//! since all are: hosts that would take a state back unnoticed have to take back all of those too, in the same moment, so
//! a majority of the DAO. Against that nothing in here helps; coins still do (the same question never gets two answers),
//! and so do the shares that were made. An enclave that is broken open and forgets on purpose counts among those hosts.
//!
//! An enclave that takes a lost machine's place (`Member::machine`) knows nothing of what the lost one noted. It asks like
//! one that was restored, and acts when it has learnt it.
//!
//! Notes are signed, not encrypted: there is nothing secret in them, and a signature proves to everybody what an envelope
//! would prove to one.

use crate::change::Change;
use postern_shared::ids::{MemberId, Nonce};
use postern_shared::message::Envelope;
use postern_shared::record::LogHead;
use postern_shared::wire::{StaleKind, StaleLog, Standing};
use postern_shared::witness::{Note, SignedNote, acting_quorum, returning_quorum};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[cfg(doc)]
use postern_shared::witness::Witness;

/// What is remembered: part of the state.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Notes {
    own: Note,
    /// Earlier incarnations of this log, and the number of the last record at which each acted.
    past: Vec<(Nonce, u64)>,
    others: BTreeMap<MemberId, SignedNote>,
}

/// What goes on: gone with the enclave's memory.
#[derive(Default)]
pub(crate) struct Watch {
    in_flight: Option<InFlight>,
    returning: Option<Returning>,
    pub(crate) stale: Option<StaleLog>,
    /// What leaves when enough members remember the end of a log that is handed over.
    farewell: Option<Envelope>,
    /// Peers that were restored, and have to prove themselves before they are answered.
    pub(crate) returned: BTreeMap<MemberId, SignedNote>,
}

/// A note on its way.
struct InFlight {
    note: SignedNote,
    /// Outputs that it lets out, from the front.
    covers: usize,
    noted_by: BTreeSet<MemberId>,
}

/// An own claim that waits for answers.
struct Returning {
    claim: SignedNote,
    acting: BTreeSet<MemberId>,
    waiting: BTreeSet<MemberId>,
}

/// What a peer's note is to what is remembered of it.
pub(crate) enum Compared {
    /// To be remembered in its place.
    Newer,
    /// The same.
    Same,
    /// An older one of the same incarnation: a message that comes late.
    Late,
    /// It can't be that both are of one enclave's one history.
    Stale(StaleKind),
}

/// What the own state is, as far as a note shows.
pub(crate) enum OwnState {
    /// It has everything that the note is about.
    Newest,
    /// Another enclave with an older part of this log has asked to act as this incarnation, and did not: a later one may.
    Outbid(u64),
    /// It is not the newest.
    Stale(StaleKind),
}

impl Notes {
    /// Of an enclave that begins. The first of its member has nothing to have forgotten; one that takes a lost machine's
    /// place has to learn first what the lost one remembered of others.
    pub(crate) fn begin(member: MemberId, machine: u32, nonce: Nonce) -> Self {
        let own = Note { member, incarnation: 0, nonce, head: LogHead::START, acting: machine == 0 };
        Self { own, past: Vec::new(), others: BTreeMap::new() }
    }

    /// A member has another enclave, with another log.
    pub(crate) fn forget(&mut self, member: MemberId) {
        self.others.remove(&member);
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Returned(incarnation, nonce) => {
                self.past.push((self.own.nonce, self.own.head.number));
                self.own = Note { incarnation: *incarnation, nonce: *nonce, acting: false, ..self.own };
            }
            Change::Resumed => self.own.acting = true,
            Change::Noted(signed) => {
                self.others.insert(signed.note.member, *signed);
            }
            _ => {}
        }
    }

    /// The log has come to `head`. While the enclave does not act, that is nothing to claim: a host could make its log
    /// as long as it likes by starting it again and again.
    pub(crate) fn recorded(&mut self, head: LogHead) {
        if self.own.acting {
            self.own.head = head;
        }
    }

    pub(crate) fn own(&self) -> Note {
        self.own
    }

    pub(crate) fn is_acting(&self) -> bool {
        self.own.acting
    }

    /// The newest notes of others.
    pub(crate) fn others(&self) -> impl Iterator<Item = &SignedNote> {
        self.others.values()
    }

    /// What a peer's note is to what is remembered of it.
    pub(crate) fn compare(&self, note: &Note) -> Compared {
        let Some(SignedNote { note: known, .. }) = self.others.get(&note.member) else {
            return Compared::Newer;
        };
        if known == note {
            return Compared::Same;
        }
        if (known.incarnation, known.nonce) == (note.incarnation, note.nonce) {
            let newer = (note.head.number, note.acting) > (known.head.number, known.acting);
            return if newer { Compared::Newer } else { Compared::Late };
        }
        if known.head.number > note.head.number {
            Compared::Stale(StaleKind::RolledBack)
        } else if known.head.number == note.head.number && known.head.digest != note.head.digest {
            Compared::Stale(StaleKind::Forked)
        } else if known.incarnation >= note.incarnation {
            Compared::Stale(StaleKind::Superseded)
        } else {
            Compared::Newer
        }
    }

    /// What the own state is in the light of a note that this enclave, or another with its log, has signed.
    pub(crate) fn judge_own(&self, known: &Note) -> OwnState {
        let end = self.past.iter().find(|(nonce, _)| *nonce == known.nonce).map(|(_, end)| *end);
        if known.nonce == self.own.nonce || end.is_some_and(|end| known.head.number <= end) {
            return OwnState::Newest;
        }
        let own = self.own;
        if end.is_some() || known.head.number > own.head.number {
            return OwnState::Stale(StaleKind::RolledBack);
        }
        if known.head.number == own.head.number && known.head.digest != own.head.digest {
            return OwnState::Stale(StaleKind::Forked);
        }
        match known.acting {
            true => OwnState::Stale(StaleKind::Superseded),
            false if known.incarnation >= own.incarnation => OwnState::Outbid(known.incarnation),
            false => OwnState::Newest,
        }
    }
}

impl Watch {
    /// A note goes on its way, for so many outputs that are held back.
    pub(crate) fn send(&mut self, note: SignedNote, covers: usize) {
        self.in_flight = Some(InFlight { note, covers, noted_by: BTreeSet::new() });
    }

    pub(crate) fn in_flight(&self) -> Option<&SignedNote> {
        self.in_flight.as_ref().map(|in_flight| &in_flight.note)
    }

    /// A member remembers the note that is on its way; says how many outputs may leave when enough do.
    pub(crate) fn noted(&mut self, by: MemberId, note: &Note, members: usize) -> Option<usize> {
        let in_flight = self.in_flight.as_mut().filter(|in_flight| in_flight.note.note == *note)?;
        in_flight.noted_by.insert(by);
        let enough = in_flight.noted_by.len() >= acting_quorum(members);
        if enough { self.in_flight.take().map(|in_flight| in_flight.covers) } else { None }
    }

    /// The log ends with this note: nothing but the envelope leaves from now on.
    pub(crate) fn end(&mut self, note: SignedNote, envelope: Envelope) {
        self.send(note, 0);
        self.farewell = Some(envelope);
    }

    /// What leaves when the end is remembered, if the log has ended.
    pub(crate) fn farewell(&self) -> Option<&Envelope> {
        self.farewell.as_ref()
    }

    /// A claim goes out.
    pub(crate) fn claim(&mut self, claim: SignedNote) {
        // What an earlier incarnation had on its way is of no use any more.
        self.in_flight = None;
        let (acting, waiting) = (BTreeSet::new(), BTreeSet::new());
        self.returning = Some(Returning { claim, acting, waiting });
    }

    /// The claim that waits for answers.
    pub(crate) fn claimed(&self) -> Option<&SignedNote> {
        self.returning.as_ref().map(|returning| &returning.claim)
    }

    /// A member knows of nothing newer; says whether enough have said so, and is then done with it.
    pub(crate) fn known(&mut self, by: MemberId, acting: bool, members: usize) -> bool {
        let Some(returning) = &mut self.returning else { return false };
        if acting {
            returning.waiting.remove(&by);
            returning.acting.insert(by);
        } else if !returning.acting.contains(&by) {
            returning.waiting.insert(by);
        }
        let all = returning.acting.len().saturating_add(returning.waiting.len()).saturating_add(1) >= members;
        let enough = returning.acting.len() >= returning_quorum(members) || all;
        if enough {
            self.returning = None;
        }
        enough
    }

    pub(crate) fn standing(&self, members: usize) -> Standing {
        match (&self.stale, &self.returning) {
            _ if self.farewell.is_some() => Standing::HandedOver,
            (Some(stale), _) => Standing::Stale(*stale),
            // Members are few.
            (None, Some(returning)) => Standing::Returning {
                acting: returning.acting.len() as u16,
                wanted: returning_quorum(members) as u16,
                waiting: returning.waiting.len() as u16,
            },
            (None, None) => Standing::Acting,
        }
    }
}
