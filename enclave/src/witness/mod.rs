//! The rollback guard: members remember for each other where their logs stand.
//!
//! A host can give its enclave an old state back. The enclave would then say, in good faith, other things than it has said
//! before: confirm another key for a pool, say. Sealing does not help, since the old state is as genuine as the new.
//! So nothing that others may rely on leaves an enclave before enough other members remember how far its log has come, and
//! an enclave that was restored does nothing before enough of them have said that they know of nothing newer.
//!
//! Here is what is remembered, and the rules; [`guard`](crate::witness::guard) says them to the others.
//!
//! # The rules
//! A [`Ballot`] is one running copy of an enclave: its machine, its incarnation, and a nonce that it drew when it was
//! restored. Ballots are ordered, and a later one takes an earlier one's place. The history of a copy is its log: for each
//! earlier ballot of that log that acted, where it ended ([`End`]).
//! Each member keeps of each other one *promise*, the highest ballot that has asked to act or acted, and one *acceptance*,
//! the newest place at which one acted. Both are signed by whom they are about. A claim never touches the acceptance.
//!
//! 1. *Return.* An enclave that was restored takes a later ballot and claims its history. A member refuses, and records
//!    nothing, if it has promised a later ballot or if its acceptance is not in that history: it shows which. Else it
//!    records the promise, and answers with its own ballot, whether it acts, and all its promises and acceptances as they
//!    were before.
//! 2. *Count.* The claimant learns at once what an answer shows. Answers count of members that act, go by the claimant's
//!    manifest, and of whom the claimant knows no later ballot than the one that answered. When q do, it acts.
//! 3. *Note.* An enclave that acts has its places noted. A member that acts and goes by the same manifest records a note as
//!    its acceptance if it has promised no later ballot, and knows that its acceptance so far is in this ballot's history.
//!    If it can't know that, it asks for the history first ([`Seen::Unknown`]). It acknowledges with its own ballot, and
//!    shows later ballots of others than the speaker knows.
//! 4. *Act.* Outputs leave when q-1 acknowledgements count, as answers do.
//! 5. Who is shown a later ballot of its own, or a place at which a copy acted and which is not in its history, stops.
//! 6. A new epoch empties all answers and acknowledgements that wait. Who acts has its place noted again: a higher quorum
//!    holds for what is noted under it.
//!
//! All this is by the identities that manifests name, so whatever anybody shows can be judged by everybody.
//! The first copy of an enclave acts when the DAO has named it; one that was restored before that asks like any other.
//!
//! # Why that is enough
//! Of n members ⌊n/2⌋ < q ≤ n-1 agree ([`Quorum`]). A place that anything depends on is remembered by q members, the
//! enclave itself among them; a claimant hears q of the n-1 others. They share 2q-n members, more than the b = 2q-n-1 that
//! may be broken. So an honest one of them is asked that has remembered the place. It may have been taken back in time
//! itself, and have forgotten. But then its successor was let in by q others, and has the place from them; of those,
//! besides the claimant and itself, at least 2(q-1)-(n-2) = 2q-n are among the claimant's answers too, so an honest one:
//! either it knew the successor when it answered, and its answer shows that the forgetful one does not count any more; or
//! it told the successor of the claim first, so that the successor notes nothing of an older ballot.
//! Promise and acceptance are apart because a claim that does not act must not hide the place of the copy that does: one
//! hostile host alone would take its enclave back (claim, with a longer private branch, until all have forgotten).
//! This is the construction of crash-consistent quorums (Michael, Ports, Sharma, Szekeres, DISC 2017) with the ballots of
//! Paxos. A model of it, explored exhaustively, is in `postern-tests`, `guard_model`: it says which parts are needed, and that
//! the check of the history before a note is taken is not, beside the others.
//!
//! Two enclaves restored from one log, heirs of one log too, are two ballots that go on from one end: a place of the one
//! is not in the other's history.
//!
//! # Power loss of all
//! If nobody acts, nobody can return: what a majority has forgotten together no rule in here brings back. So this way back
//! is the DAO's ([`Cut`](postern_shared::manifest::Cut)): an epoch lists a copy of every member, by its fresh nonce, and
//! whoever finds itself in the list acts. The cut begins an era. What was said in earlier ones counts no more, however high its
//! ballot; of a member's other copies, only those may ask again that go on from the very place of the one in the list.
//! A copy that is to be listed asks nobody and acts for nobody until then ([`Watch::await_cut`]): one that was let in by others
//! meanwhile would forget at the cut what it has noted since.
//! A DAO may let its enclaves find back by themselves when *all* others have answered
//! ([`automatic_return`](postern_shared::manifest::Agreement::automatic_return)); then ⌊n/2⌋+1 hosts that take their enclaves
//! back together are not found out.
//!
//! An enclave that takes a lost machine's place knows nothing of what the lost one noted. It asks like one that was
//! restored, with an empty history, and acts when it has learnt it.
//!
//! Notes are signed, not encrypted: there is nothing secret in them, and a signature proves to everybody what an envelope
//! would prove to one.

mod guard;

use crate::log::change::{Change, Genesis};
use postern_shared::agreement::Mark;
use postern_shared::ids::{Address, MemberId, Nonce};
use postern_shared::manifest::{Manifest, Quorum, Resumed};
use postern_shared::message::Envelope;
use postern_shared::record::{LogHead, LogId};
use postern_shared::wire::{StaleKind, StaleLog, Standing};
use postern_shared::witness::{Ballot, Claim, End, MAX_ENDS, Memory, Note, Place, SignedNote};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is remembered: part of the state.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Notes {
    own: Note,
    /// Earlier ballots of this log that acted, and where each ended.
    ends: Vec<End>,
    others: BTreeMap<MemberId, Remembered>,
    /// The epoch of the newest cut, and the copies that it has let in, with ballots of its era.
    era: u64,
    floors: BTreeMap<MemberId, Resumed>,
}

/// What is remembered of one other member.
#[derive(Clone, Serialize, Deserialize)]
struct Remembered {
    memory: Memory,
    /// Whether this enclave has seen that the acceptance is in the history of the promised ballot.
    joined: bool,
}

/// What a claim is to what is remembered of its member.
pub(crate) enum Claimed {
    /// Nothing is against it.
    Good,
    /// It is remembered already.
    Known,
    /// This one, which the member has signed itself, is.
    Refused(Box<SignedNote>),
    /// A cut has let in another copy.
    Superseded,
    /// It is of another era than this, the own one.
    OtherEra(u64),
}

/// What a note is to what is remembered of its member.
pub(crate) enum Seen {
    /// It is to be remembered.
    Newer,
    /// It, or a later place of the same copy, is remembered.
    Known,
    /// Whether the place that is remembered is in its history can't be told.
    Unknown,
    /// A later ballot, which the member has signed itself, is remembered.
    Refused(Box<SignedNote>),
    /// A cut has let in a later copy.
    Superseded,
}

/// What the own state is, as far as a note shows.
pub(crate) enum OwnState {
    /// It has everything that the note is about.
    Newest,
    /// Another copy has asked to act as this incarnation, and did not: a later one may. So it may if a cut has let in one that
    /// this one goes on from.
    Outbid(u64),
    /// It is not the newest.
    Stale(StaleKind),
}

impl Remembered {
    fn of(note: SignedNote) -> Self {
        let accepted = note.note.acting.then_some(note);
        Self { memory: Memory { promised: note, accepted }, joined: true }
    }

    fn promised(&self) -> Ballot {
        self.memory.promised.note.ballot
    }

    /// Whether the acceptance is surely in the history of the promised ballot.
    fn is_joined(&self) -> bool {
        let same = |accepted: SignedNote| accepted.note.ballot == self.promised();
        self.joined || self.memory.accepted.is_none_or(same)
    }

    /// Whether this shows more of the member than what is remembered.
    fn is_news(&self, note: &Note) -> bool {
        let newest = self.memory.accepted.map(|accepted| order(&accepted.note));
        note.ballot > self.promised() || note.acting && Some(order(note)) > newest
    }

    /// Takes what somebody else shows: of its history nothing is known.
    fn learn(&mut self, shown: SignedNote) {
        if shown.note.ballot > self.promised() {
            self.memory.promised = shown;
            self.joined = false;
        }
        let newest = self.memory.accepted.map(|accepted| order(&accepted.note));
        if shown.note.acting && Some(order(&shown.note)) > newest {
            self.memory.accepted = Some(shown);
            self.joined = false;
        }
    }
}

/// Which of two places is newer: of one ballot the later, of two the higher one's.
fn order(note: &Note) -> (Ballot, u64) {
    (note.ballot, note.place.head.number)
}

impl Notes {
    /// Of an enclave that begins: it acts when the DAO has named it ([`Session::footing`](crate::session)).
    pub(crate) fn begin(genesis: &Genesis, manifest: &Manifest) -> Self {
        let Genesis { member, machine, nonce, log, .. } = *genesis;
        let ballot = Ballot { machine, era: manifest.era(), incarnation: 0, nonce };
        let place = Place { log, head: LogHead::START };
        let own = Note { member, ballot, place, acting: false, ends: End::digest(&[]) };
        let mut notes =
            Self { own, ends: Vec::new(), others: BTreeMap::new(), era: 0, floors: BTreeMap::new() };
        notes.amend(manifest);
        notes
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Returned(incarnation, nonce) => self.begin_again(*incarnation, *nonce),
            Change::Resumed(_) => self.own.acting = true,
            Change::Promised(signed) => {
                let known = self.others.entry(signed.note.member);
                let known = known.or_insert_with(|| Remembered::of(*signed));
                (known.memory.promised, known.joined) = (*signed, true);
            }
            Change::Noted(signed) => {
                let known = self.others.entry(signed.note.member);
                let known = known.or_insert_with(|| Remembered::of(*signed));
                known.memory = Memory { promised: *signed, accepted: Some(*signed) };
                known.joined = true;
            }
            Change::Learnt(shown) => {
                for signed in shown {
                    let known = self.others.entry(signed.note.member);
                    known.or_insert_with(|| Remembered::of(*signed)).learn(*signed);
                }
            }
            _ => {}
        }
    }

    fn begin_again(&mut self, incarnation: u64, nonce: Nonce) {
        self.end();
        self.own.ballot = Ballot { era: self.era, incarnation, nonce, ..self.own.ballot };
    }

    /// Nothing that is written from here on is a place at which this ballot acts.
    fn end(&mut self) {
        if self.own.acting {
            self.ends.push(End { ballot: self.own.ballot, place: self.own.place });
            let surplus = self.ends.len().saturating_sub(MAX_ENDS);
            self.ends.drain(..surplus);
            (self.own.acting, self.own.ends) = (false, End::digest(&self.ends));
        }
    }

    /// The log goes on as another.
    pub(crate) fn take_over(&mut self, log: LogId) {
        self.end();
        self.own.place.log = log;
    }

    /// Goes by a manifest. After a new cut nothing that was remembered counts, but that the DAO has let these copies in.
    pub(crate) fn amend(&mut self, manifest: &Manifest) {
        let Some(cut) = manifest.agreement.cut.as_ref().filter(|cut| cut.epoch != self.era) else { return };
        self.era = cut.epoch;
        self.others.clear();
        self.floors.clear();
        for resumed in &cut.members {
            if resumed.member == self.own.member && self.is_let_in(resumed) {
                (self.own.ballot.era, self.own.acting) = (cut.epoch, true);
            }
            let ballot = Ballot { era: cut.epoch, ..resumed.ballot };
            self.floors.insert(resumed.member, Resumed { ballot, ..*resumed });
        }
    }

    /// Whether a cut lets in this very copy, which has asked nobody.
    fn is_let_in(&self, resumed: &Resumed) -> bool {
        let (claim, _) = self.claim();
        !self.own.acting && (resumed.ballot, resumed.place) == (claim.ballot, claim.place)
    }

    /// The copy of a member that the newest cut has let in.
    fn floor(&self, member: MemberId, ballot: Ballot) -> Option<&Resumed> {
        self.floors.get(&member).filter(|floor| floor.ballot.machine == ballot.machine)
    }

    /// The log has come to `head`. While the enclave does not act, that is nothing to claim: a host could make its log
    /// as long as it likes by starting it again and again.
    pub(crate) fn recorded(&mut self, head: LogHead) {
        if self.own.acting {
            self.own.place.head = head;
        }
    }

    pub(crate) fn own(&self) -> Note {
        self.own
    }

    pub(crate) fn is_acting(&self) -> bool {
        self.own.acting
    }

    /// What the own ballot goes on from, and the place where the last before it ended: the same however far it has come
    /// itself.
    pub(crate) fn claim(&self) -> (Note, &[End]) {
        let log = self.own.place.log;
        let start = Place { log, head: LogHead::START };
        let place = self.ends.last().map_or(start, |end| end.place);
        (Note { acting: false, place, ..self.own }, &self.ends)
    }

    /// What is remembered of others.
    pub(crate) fn memories(&self) -> impl Iterator<Item = &Memory> {
        self.others.values().map(|known| &known.memory)
    }

    /// What is remembered of a member.
    pub(crate) fn memory(&self, member: MemberId) -> Option<&Memory> {
        self.others.get(&member).map(|known| &known.memory)
    }

    /// The highest ballots of others.
    pub(crate) fn ballots(&self) -> impl Iterator<Item = (MemberId, Ballot)> {
        self.others.iter().map(|(member, known)| (*member, known.promised()))
    }

    /// Whether no later ballot of a member is known than this one of it.
    fn counts(&self, member: MemberId, ballot: Ballot) -> bool {
        ballot.era == self.era
            && self.floor(member, ballot).is_none_or(|floor| floor.ballot <= ballot)
            && self.others.get(&member).is_none_or(|known| known.promised() <= ballot)
    }

    /// What a whole claim is to what is remembered of its member.
    pub(crate) fn judge_claim(&self, claim: &Claim) -> Claimed {
        let note = &claim.note.note;
        if note.ballot.era != self.era {
            return Claimed::OtherEra(self.era);
        }
        let known = self.others.get(&note.member);
        if let Some(known) = known.filter(|known| note.ballot < known.promised()) {
            return Claimed::Refused(Box::new(known.memory.promised));
        }
        match known.and_then(|known| known.memory.accepted) {
            Some(accepted) if !claim.contains(&accepted.note) => {
                return Claimed::Refused(Box::new(accepted));
            }
            Some(_) => {}
            None if self.floors.get(&note.member).is_some_and(|floor| !claim.goes_on_from(floor)) => {
                return Claimed::Superseded;
            }
            None => {}
        }
        let same = |known: &Remembered| note.ballot == known.promised() && known.is_joined();
        if known.is_some_and(same) { Claimed::Known } else { Claimed::Good }
    }

    /// What a note of a place is to what is remembered of its member.
    pub(crate) fn judge_note(&self, note: &Note) -> Seen {
        let known = self.others.get(&note.member);
        if let Some(known) = known.filter(|known| note.ballot < known.promised()) {
            return Seen::Refused(Box::new(known.memory.promised));
        }
        let shown = known.is_some_and(|known| note.ballot == known.promised() && known.is_joined());
        match (known.and_then(|known| known.memory.accepted), self.floor(note.member, note.ballot)) {
            (Some(accepted), _) if accepted.note.ballot == note.ballot => {
                if known.is_some_and(|known| known.is_news(note)) { Seen::Newer } else { Seen::Known }
            }
            (None, Some(floor)) if note.ballot < floor.ballot => Seen::Superseded,
            (None, Some(floor)) if note.ballot == floor.ballot => Seen::Newer,
            (None, None) => Seen::Newer,
            _ if shown => Seen::Newer,
            _ => Seen::Unknown,
        }
    }

    /// Whether a note shows more of its member than is remembered.
    pub(crate) fn is_news(&self, note: &Note) -> bool {
        note.ballot.era == self.era && self.others.get(&note.member).is_none_or(|known| known.is_news(note))
    }

    /// What the own state is in the light of the newest cut, and the copy that it has let in.
    pub(crate) fn judge_cut(&self) -> Option<(OwnState, Note)> {
        let floor =
            self.floor(self.own.member, self.own.ballot).filter(|_| self.own.ballot.era != self.era)?;
        let nothing = floor.place.head == LogHead::START;
        let goes_on = nothing || self.ends.iter().any(|end| end.place == floor.place);
        let later = self.own.ballot.incarnation.max(floor.ballot.incarnation);
        let state = if goes_on { OwnState::Outbid(later) } else { OwnState::Stale(StaleKind::Superseded) };
        let Resumed { member, ballot, place } = *floor;
        Some((state, Note { member, ballot, place, acting: true, ends: End::digest(&[]) }))
    }

    /// What the own state is in the light of a note that this enclave, or another with its log, has signed.
    pub(crate) fn judge_own(&self, known: &Note) -> OwnState {
        let own = &self.own;
        // Of machines the manifest says which lives, and of eras which is in force.
        let here = |ballot: Ballot| (ballot.machine, ballot.era);
        if known.ballot == own.ballot || here(known.ballot) != here(own.ballot) {
            return OwnState::Newest;
        }
        let (at, here) = (known.place.head, own.place.head);
        if let Some(end) = self.ends.iter().find(|end| end.ballot == known.ballot) {
            let contained = !known.acting || at.number <= end.place.head.number;
            return if contained { OwnState::Newest } else { OwnState::Stale(StaleKind::RolledBack) };
        }
        if known.acting {
            // It may be one of those that were forgotten.
            let forgotten = self.ends.len() >= MAX_ENDS;
            if forgotten && self.ends.first().is_some_and(|oldest| known.ballot < oldest.ballot) {
                return OwnState::Newest;
            }
            return OwnState::Stale(if at.number > here.number {
                StaleKind::RolledBack
            } else if at.number == here.number && at.digest != here.digest {
                StaleKind::Forked
            } else {
                StaleKind::Superseded
            });
        }
        let outbid = known.ballot > own.ballot;
        if outbid { OwnState::Outbid(known.ballot.incarnation) } else { OwnState::Newest }
    }
}

/// Keeps the highest of each pool manager.
pub(crate) fn raise(marks: &mut BTreeMap<Address, Mark>, mark: Mark) {
    let contract = mark.pool.contract;
    if marks.get(&contract).is_none_or(|known| known.pool.number < mark.pool.number) {
        marks.insert(contract, mark);
    }
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
    pub(crate) returned: BTreeMap<MemberId, Claim>,
    /// Who has answered since the last tick.
    heard: BTreeSet<MemberId>,
}

/// A note on its way.
struct InFlight {
    note: Note,
    /// Outputs that it lets out, from the front.
    covers: usize,
    /// Which copy of whom remembers it.
    noted_by: BTreeMap<MemberId, Ballot>,
    /// Later ballots that were shown with it, and could not be remembered: of a log that has ended.
    later: BTreeMap<MemberId, Ballot>,
}

/// An own claim that waits for answers: which copy of whom knows of nothing against it, and whether it acts.
#[derive(Default)]
struct Returning {
    answers: BTreeMap<MemberId, (Ballot, bool)>,
    /// What those who have answered know of keys.
    marks: BTreeMap<Address, Mark>,
    /// Whether nobody is asked, and only a cut lets it in.
    for_cut: bool,
}

impl InFlight {
    /// Whether no later ballot of a member was shown with the note.
    fn counts(&self, member: MemberId, ballot: Ballot) -> bool {
        self.later.get(&member).is_none_or(|later| *later <= ballot)
    }
}

impl Watch {
    /// A note goes on its way, for so many outputs that are held back.
    pub(crate) fn send(&mut self, note: Note, covers: usize) {
        let (noted_by, later) = (BTreeMap::new(), BTreeMap::new());
        self.in_flight = Some(InFlight { note, covers, noted_by, later });
    }

    pub(crate) fn in_flight(&self) -> Option<&Note> {
        self.in_flight.as_ref().map(|in_flight| &in_flight.note)
    }

    /// Whether a member has not been heard about the note that is on its way: it is heard once, until time passes.
    pub(crate) fn waits_for(&self, by: MemberId, note: &Note) -> bool {
        let in_flight = self.in_flight.as_ref().filter(|in_flight| in_flight.note == *note);
        in_flight.is_some_and(|in_flight| !in_flight.noted_by.contains_key(&by))
    }

    /// A member remembers the note that is on its way, and has shown these later ballots.
    pub(crate) fn noted(&mut self, by: MemberId, ballot: Ballot, later: &[SignedNote]) {
        let Some(in_flight) = &mut self.in_flight else { return };
        in_flight.noted_by.insert(by, ballot);
        for SignedNote { note, .. } in later {
            let known = in_flight.later.entry(note.member).or_insert(note.ballot);
            *known = (*known).max(note.ballot);
        }
    }

    /// How many outputs may leave, if enough members remember the note that is on its way.
    pub(crate) fn may_leave(&self, notes: &Notes, quorum: Quorum) -> Option<usize> {
        let in_flight = self.in_flight.as_ref()?;
        let counting = in_flight.noted_by.iter().filter(|(member, ballot)| {
            in_flight.counts(**member, **ballot) && notes.counts(**member, **ballot)
        });
        (counting.count() >= quorum.to_act()).then_some(in_flight.covers)
    }

    /// What the note that was on its way covered has left. Not before: another note would count it once more, and let out what
    /// came after it.
    pub(crate) fn has_left(&mut self) {
        self.in_flight = None;
    }

    /// Time has passed: who has said something is heard again.
    pub(crate) fn on_tick(&mut self, notes: &Notes) {
        self.heard.clear();
        if let Some(in_flight) = &mut self.in_flight {
            let noted_by = core::mem::take(&mut in_flight.noted_by);
            let counting = noted_by.into_iter().filter(|(member, ballot)| {
                in_flight.counts(*member, *ballot) && notes.counts(*member, *ballot)
            });
            in_flight.noted_by = counting.collect();
        }
    }

    /// Whether a member is heard: its answers once, until time passes, since each may cost a record.
    pub(crate) fn hears(&mut self, member: MemberId) -> bool {
        self.heard.insert(member)
    }

    /// The log ends with this note: nothing but the envelope leaves from now on.
    pub(crate) fn end(&mut self, note: Note, envelope: Envelope) {
        self.send(note, 0);
        self.farewell = Some(envelope);
    }

    /// The log goes on, for a moment: its end has to be noted again.
    pub(crate) fn take_back_end(&mut self) {
        if self.farewell.take().is_some() {
            self.in_flight = None;
        }
    }

    /// Whether what is handed over has left.
    pub(crate) fn has_bequeathed(&self) -> bool {
        self.farewell.is_some() && self.in_flight.is_none()
    }

    /// Whether it neither asks for leave to act nor waits for a cut.
    pub(crate) fn is_idle(&self) -> bool {
        self.returning.is_none()
    }

    /// What leaves when the end is remembered, if the log has ended.
    pub(crate) fn farewell(&self) -> Option<&Envelope> {
        self.farewell.as_ref()
    }

    /// A claim goes out.
    pub(crate) fn claim(&mut self) {
        // What an earlier incarnation had on its way is of no use any more.
        self.in_flight = None;
        self.returning = Some(Returning::default());
    }

    /// The own copy is to be listed in a cut.
    pub(crate) fn await_cut(&mut self) {
        self.in_flight = None;
        self.returning = Some(Returning { for_cut: true, ..Returning::default() });
    }

    /// Whether a claim waits for answers.
    pub(crate) fn is_asking(&self) -> bool {
        self.returning.as_ref().is_some_and(|returning| !returning.for_cut)
    }

    /// Whether a claim waits for a cut.
    pub(crate) fn awaits_cut(&self) -> bool {
        self.returning.as_ref().is_some_and(|returning| returning.for_cut)
    }

    /// A member knows of nothing against the claim.
    pub(crate) fn known(&mut self, by: MemberId, ballot: Ballot, acting: bool) {
        if let Some(returning) = &mut self.returning {
            returning.answers.insert(by, (ballot, acting));
        }
    }

    /// Who has answered knows of this pool that a key was adopted.
    pub(crate) fn learn_mark(&mut self, mark: &Mark) {
        if let Some(returning) = &mut self.returning {
            raise(&mut returning.marks, mark.clone());
        }
    }

    /// The highest of each pool manager.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        self.returning.iter().flat_map(|returning| returning.marks.values().cloned()).collect()
    }

    /// Whether enough members have said that they know of nothing against the claim.
    pub(crate) fn may_act(&self, notes: &Notes, quorum: Quorum) -> bool {
        let asking = self.returning.as_ref().filter(|returning| !returning.for_cut);
        let Some(returning) = asking else { return false };
        let (acting, waiting) = returning.count(notes);
        let all = acting.saturating_add(waiting).saturating_add(1) >= quorum.members();
        acting >= quorum.to_return() || quorum.is_automatic() && all
    }

    /// The enclave acts: nothing is asked any more.
    pub(crate) fn resumed(&mut self) {
        self.returning = None;
    }

    /// Others go by other rules now: what they have said under the ones before does not count.
    pub(crate) fn amended(&mut self) {
        self.heard.clear();
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.noted_by.clear();
        }
        if let Some(returning) = &mut self.returning {
            returning.answers.clear();
        }
    }

    pub(crate) fn standing(&self, notes: &Notes, quorum: Quorum) -> Standing {
        match (&self.stale, &self.returning) {
            _ if self.farewell.is_some() => Standing::HandedOver,
            (Some(stale), _) => Standing::Stale(*stale),
            (None, Some(returning)) if returning.for_cut => Standing::AwaitingCut,
            (None, Some(returning)) => {
                let (acting, waiting) = returning.count(notes);
                // Members are few.
                let (acting, waiting, wanted) = (acting as u16, waiting as u16, quorum.to_return() as u16);
                Standing::Returning { acting, wanted, waiting, automatic: quorum.is_automatic() }
            }
            (None, None) => Standing::Acting,
        }
    }
}

impl Returning {
    /// Answers that count: of members that act, and of such that wait themselves.
    fn count(&self, notes: &Notes) -> (usize, usize) {
        let count = |wanted: bool| {
            let good = |(member, (ballot, acting)): &(&MemberId, &(Ballot, bool))| {
                *acting == wanted && notes.counts(**member, *ballot)
            };
            self.answers.iter().filter(good).count()
        };
        (count(true), count(false))
    }
}
