//! The rollback guard at work: what an enclave says to others about logs, and does about what they say. The rules and why
//! they are enough: [`witness`](crate::witness).
//!
//! # What others can make this enclave do
//! Keep: a promise and an acceptance of each member, signed by that member. Each costs a record when it changes; a member
//! can change only its own, since only it signs them.
//! Sign: where its own log stands, and what it has been shown by signatures of others. Nothing of it is secret.
//! Give: whatever a member remembers of logs is told to every admitted member that claims to return, with evidence that it
//! made for this claim. It learns who was restored how often.

use crate::admission::fresh_nonce;
use crate::dao::{Dao, Footing};
use crate::effects::{Outbox, Turn};
use crate::life::Started;
use crate::log::change::Change;
use crate::machine::platform::Platform;
use crate::state::State;
use crate::witness::{Claimed, OwnState, Seen};
use postern_shared::codec;
use postern_shared::epoch::Waiting;
use postern_shared::ids::MemberId;
use postern_shared::message::PeerMessage;
use postern_shared::wire::{Notice, Output, Rejection, StaleKind, StaleLog};
use postern_shared::witness::{
    Advance, Ballot, Claim, InForce, Known, Note, Noted, SignedNote, Witness, WitnessMessage,
};

/// Most bytes of outputs that are let out with one record.
const MAX_LET_OUT: usize = 64 << 10;

/// What shows that a state is not the newest, for people.
fn stale(kind: StaleKind, own: &Note, known: &Note, told_by: MemberId) -> StaleLog {
    let (own, known, member) = (own.place.head.number, known.place.head.number, own.member);
    StaleLog { kind, member, own, known, told_by }
}

impl Dao {
    fn in_force(&self) -> InForce {
        InForce { epoch: self.manifest.epoch, manifest: self.manifest.hash() }
    }

    /// What another says counts under the manifest that it goes by.
    fn must_go_by(&self, theirs: &InForce) -> Result<(), Rejection> {
        match *theirs {
            theirs if theirs == self.in_force() => Ok(()),
            InForce { epoch, .. } if epoch > self.manifest.epoch => Err(Rejection::Behind(epoch)),
            _ => Err(Rejection::OtherManifest),
        }
    }

    fn sign(&self, note: Note) -> SignedNote {
        self.keys.sign_note(self.genesis, note)
    }

    /// Whether a member's enclave, of this machine or one before it, has signed this of itself.
    fn is_genuine(&self, shown: &SignedNote) -> bool {
        let Note { member, ballot, .. } = shown.note;
        let enclave = self.identities.get(&(member, ballot.machine));
        enclave.is_some_and(|enclave| shown.verify(self.genesis, enclave))
    }
}

impl State {
    /// Of what others show, what is news of other members, and genuine.
    fn news<'a>(&self, shown: impl Iterator<Item = &'a SignedNote>) -> Vec<SignedNote> {
        let own = self.dao.own();
        let is_news = |shown: &&SignedNote| {
            shown.note.member != own && self.notes.is_news(&shown.note) && self.dao.is_genuine(shown)
        };
        shown.filter(is_news).copied().collect()
    }
}

impl Started {
    /// Sends a note of the log's place, if outputs wait for it and none is on its way.
    pub(crate) fn advance(&mut self, outbox: &mut Outbox) {
        let waits = !self.state.held.is_empty() && self.watch.in_flight().is_none();
        if waits && self.state.notes.is_acting() {
            self.send_note(outbox);
        }
    }

    fn send_note(&mut self, outbox: &mut Outbox) {
        self.watch.send(self.state.notes.own(), self.state.held.len());
        self.repeat_note(outbox);
    }

    /// Says the note that is on its way, if there is one.
    pub(crate) fn repeat_note(&self, outbox: &mut Outbox) {
        if let Some(note) = self.watch.in_flight() {
            let ballots = self.state.notes.ballots().collect();
            let (note, in_force) = (self.state.dao.sign(*note), self.state.dao.in_force());
            self.say_to_all(Witness::Advance(Advance { note, in_force, ballots }), outbox);
        }
    }

    /// Begins another incarnation, after the own one or one that it has learnt of, and asks for leave to act.
    pub(crate) fn come_back(
        &mut self,
        after: u64,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        self.begin_ballot(after, turn)?;
        self.ask_leave(turn)
    }

    /// The same of an enclave that was restored; if a cut has let in another copy, after that one, or not at all.
    pub(crate) fn come_back_restored(&mut self, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        match self.state.notes.judge_cut() {
            Some((state, known)) => self.look_back_at(state, &known, self.state.dao.own(), turn).map(drop),
            None => self.come_back(0, turn),
        }
    }

    /// Claims the history that the own ballot goes on from.
    pub(crate) fn ask_leave(&mut self, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        self.watch.claim();
        if self.state.dao.footing() == Footing::Named {
            self.state.dao.challenge_missing(turn)?;
            self.repeat_claim(turn.outbox);
        }
        Ok(())
    }

    /// Takes a ballot with which nobody is asked, for a cut to let in.
    pub(crate) fn await_cut(&mut self, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        if self.state.dao.footing() != Footing::Named {
            return Err(Rejection::Candidate);
        }
        if self.state.is_newcomer {
            return Err(Rejection::Newcomer);
        }
        if !self.watch.awaits_cut() {
            self.begin_ballot(0, turn)?;
            self.watch.await_cut();
        }
        Ok(())
    }

    /// What the DAO has to know of a copy that it lists in a cut.
    pub(crate) fn waiting(&self) -> Waiting {
        let noted = self.state.notes.memories().filter_map(|memory| memory.accepted).collect();
        Waiting { claim: self.own_claim(), noted }
    }

    fn begin_ballot(&mut self, after: u64, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        let own = self.state.notes.own().ballot.incarnation;
        let incarnation = after.max(own).checked_add(1).ok_or(Rejection::Invalid)?;
        let nonce = fresh_nonce(turn.platform)?;
        self.commit(Change::Returned(incarnation, nonce), turn)
    }

    /// Says the claim that waits for answers, if there is one.
    pub(crate) fn repeat_claim(&self, outbox: &mut Outbox) {
        if self.watch.is_asking() && self.state.dao.footing() == Footing::Named {
            self.say_to_all(Witness::Return(self.own_claim()), outbox);
        }
    }

    fn own_claim(&self) -> Claim {
        let (note, ends) = self.state.notes.claim();
        Claim { note: self.state.dao.sign(note), ends: ends.to_vec() }
    }

    /// A new epoch is in force: nothing that was said under the one before counts, and the DAO may have named this enclave,
    /// or let it in. `before` is how it stood.
    pub(crate) fn amended(
        &mut self,
        (footing, acted): (Footing, bool),
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        self.watch.amended();
        if self.state.dao.footing() != Footing::Named {
            return Ok(());
        }
        if footing == Footing::Candidate {
            return self.begin(turn);
        }
        if let Some((state, known)) = self.state.notes.judge_cut() {
            self.look_back_at(state, &known, self.state.dao.own(), turn)?;
            return Ok(());
        }
        if self.state.notes.is_acting() && !acted {
            self.resumed(turn.outbox);
            return Ok(());
        }
        self.repeat_claim(turn.outbox);
        if self.state.notes.is_acting() && self.watch.in_flight().is_none() {
            self.send_note(turn.outbox);
        } else {
            self.repeat_note(turn.outbox);
        }
        Ok(())
    }

    /// The DAO has named this enclave. The first copy of the first one of a member has nothing to have forgotten; any other
    /// has to learn what was remembered before it.
    pub(crate) fn begin(&mut self, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        let Ballot { machine, incarnation, era, .. } = self.state.notes.own().ballot;
        // A candidate while the DAO made a cut.
        if era != self.state.dao.manifest.era() {
            return self.come_back(0, turn);
        }
        if (machine, incarnation) == (0, 0) {
            self.state.dao.challenge_missing(turn)?;
            return self.commit(Change::Resumed(Vec::new()), turn);
        }
        self.ask_leave(turn)
    }

    pub(crate) fn on_witness(
        &mut self,
        message: WitnessMessage,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        let from = message.from;
        if from == self.state.dao.own() {
            return Err(Rejection::Misdirected);
        }
        let speaker = self.state.dao.admission.identity(from).ok_or(Rejection::NotAdmitted(from))?;
        if !message.verify(self.state.dao.genesis, speaker) {
            return Err(Rejection::NotAuthentic);
        }
        match message.witness {
            Witness::Advance(advance) => self.on_advance(from, &advance, turn),
            Witness::Noted(noted) => self.on_noted(from, &noted, turn),
            Witness::Unknown(ballot) => {
                // A claim is long: once for each, until time passes.
                if ballot == self.state.notes.own().ballot && self.watch.hears(from) {
                    self.say(from, Witness::Return(self.own_claim()), turn.outbox);
                }
                Ok(())
            }
            Witness::Return(claim) => self.on_return(from, claim, turn),
            Witness::Known(known) => self.on_known(from, &known, turn),
            Witness::Refused(shown) => self.look_back(from, &shown, turn).map(drop),
        }
    }

    /// A note that `from` sends of itself: the enclave that it has now.
    fn check_note(&self, from: MemberId, signed: &SignedNote) -> Result<(), Rejection> {
        let speaker = self.state.dao.admission.identity(from).ok_or(Rejection::NotAdmitted(from))?;
        if signed.verify(self.state.dao.genesis, speaker) { Ok(()) } else { Err(Rejection::NotAuthentic) }
    }

    fn on_advance(
        &mut self,
        from: MemberId,
        Advance { note: signed, in_force, ballots }: &Advance,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        self.check_note(from, signed)?;
        self.must_act()?;
        self.state.dao.must_go_by(in_force)?;
        let note = signed.note;
        if !note.acting {
            return Err(Rejection::Invalid);
        }
        match self.state.notes.judge_note(&note) {
            // Who remembers a later place remembers this one.
            Seen::Known => {}
            Seen::Newer => self.commit(Change::Noted(*signed), turn)?,
            Seen::Unknown => {
                self.say(from, Witness::Unknown(note.ballot), turn.outbox);
                return Ok(());
            }
            Seen::Refused(shown) => {
                self.refuse(&note, *shown, turn.outbox);
                return Ok(());
            }
            Seen::Superseded => return Err(Rejection::Superseded),
        }
        let told = |member: MemberId| ballots.iter().find(|(known, _)| *known == member).map(|told| told.1);
        let memories = self.state.notes.memories();
        let promised = memories.map(|memory| memory.promised).filter(|promised| promised.note.member != from);
        let later = promised.filter(|shown| Some(shown.note.ballot) > told(shown.note.member)).collect();
        let (by, in_force) = (self.state.dao.sign(self.state.notes.own()), self.state.dao.in_force());
        self.say(from, Witness::Noted(Noted { note, in_force, by, later }), turn.outbox);
        Ok(())
    }

    fn on_noted(
        &mut self,
        from: MemberId,
        Noted { note, in_force, by, later }: &Noted,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        self.check_note(from, by)?;
        self.state.dao.must_go_by(in_force)?;
        if !by.note.acting || !self.watch.waits_for(from, note) {
            return Ok(());
        }
        // Of the speaker itself, what it has noted is remembered.
        let later = self.state.news(later.iter().filter(|shown| shown.note.member != from));
        self.watch.noted(from, by.note.ballot, &later);
        self.show_later(from, by.note.ballot, turn.outbox);
        // Nothing follows the end of a log.
        if self.watch.farewell().is_none() {
            self.learn(later, turn)?;
        }
        self.let_out(turn)
    }

    /// Lets out what enough members remember.
    fn let_out(&mut self, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        let quorum = self.state.dao.manifest.quorum();
        let Some(left) = self.watch.may_leave(&self.state.notes, quorum) else { return Ok(()) };
        if let Some(envelope) = self.watch.farewell() {
            turn.outbox.output(Output::HandOver(envelope.clone()));
            self.watch.has_left();
            return Ok(());
        }
        let result = self.let_out_first(left, turn);
        self.watch.has_left();
        // What has come to wait meanwhile.
        self.advance(turn.outbox);
        result
    }

    /// Lets out so many outputs, from the front.
    fn let_out_first(
        &mut self,
        mut left: usize,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        while left > 0 {
            let mut size = 0_usize;
            let outputs = self.state.held.iter().take(left).take_while(|output| {
                let first = size == 0;
                size = size.saturating_add(codec::encode(*output).len());
                first || size <= MAX_LET_OUT
            });
            let count = outputs.count();
            // At least one is, and a log that can't be written lets out nothing.
            left = left.saturating_sub(count.max(1));
            self.commit(Change::LetOut(u32::try_from(count).unwrap_or(u32::MAX)), turn)?;
        }
        Ok(())
    }

    fn on_return(
        &mut self,
        from: MemberId,
        claim: Claim,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        self.check_note(from, &claim.note)?;
        if !claim.is_whole() {
            return Err(Rejection::Invalid);
        }
        match self.state.notes.judge_claim(&claim) {
            Claimed::Refused(shown) => {
                self.refuse(&claim.note.note, *shown, turn.outbox);
                return Ok(());
            }
            // It has proved itself as this ballot.
            Claimed::Known => return self.answer_return(&claim, turn),
            Claimed::Superseded => return Err(Rejection::Superseded),
            Claimed::OtherEra(own) if claim.note.note.ballot.era > own => {
                return Err(Rejection::Behind(claim.note.note.ballot.era));
            }
            Claimed::OtherEra(_) => return Err(Rejection::OtherManifest),
            Claimed::Good => {}
        }
        // Of two claims only a later ballot's takes the other's place: else claims that come late, or of two enclaves
        // from one log, would take turns, each would have the question asked once more, and every answer would come
        // too late.
        let waiting = self.watch.returned.get(&from).map(|waiting| waiting.note.note);
        let note = claim.note.note;
        if waiting.is_some_and(|waiting| waiting != note && waiting.ballot >= note.ballot) {
            return Ok(());
        }
        self.watch.returned.insert(from, claim);
        let Dao { admission, keys, .. } = &mut self.state.dao;
        admission.challenge_claimant(from, waiting != Some(note), keys, turn)
    }

    /// Says what is known of all members to one that has proved itself in its new ballot; remembers the ballot.
    pub(crate) fn answer_return(
        &mut self,
        claim: &Claim,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        let memories = self.state.notes.memories().copied().collect();
        match self.state.notes.judge_claim(claim) {
            Claimed::Refused(shown) => {
                self.refuse(&claim.note.note, *shown, turn.outbox);
                return Ok(());
            }
            Claimed::Superseded | Claimed::OtherEra(_) => return Err(Rejection::Superseded),
            Claimed::Known => {}
            Claimed::Good => self.commit(Change::Promised(claim.note), turn)?,
        }
        let known = Known {
            claim: claim.note.note,
            in_force: self.state.dao.in_force(),
            by: self.state.dao.sign(self.state.notes.own()),
            memories,
            adopted: self.state.pools.marks.values().cloned().collect(),
        };
        self.say(claim.note.note.member, Witness::Known(known), turn.outbox);
        Ok(())
    }

    /// What a copy says does not count while a later one is known. It may have nothing to be noted, and never hear of it.
    fn show_later(&self, member: MemberId, ballot: Ballot, outbox: &mut Outbox) {
        let known = self.state.notes.memory(member).map(|memory| memory.promised);
        if let Some(later) = known.filter(|known| known.note.ballot > ballot) {
            self.say(member, Witness::Refused(later), outbox);
        }
    }

    /// Shows a member what it has signed itself that stands against its claim or note.
    fn refuse(&self, refused: &Note, shown: SignedNote, outbox: &mut Outbox) {
        let kind = if shown.note.acting { StaleKind::RolledBack } else { StaleKind::Superseded };
        let told_by = self.state.dao.own();
        outbox.notice(Notice::StalePeer(stale(kind, refused, &shown.note, told_by)));
        self.say(refused.member, Witness::Refused(shown), outbox);
    }

    /// What a note of this enclave itself, or of a copy of it, shows of its state. Says whether it may go on as it is.
    fn look_back(
        &mut self,
        told_by: MemberId,
        shown: &SignedNote,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<bool, Rejection> {
        // Whoever it comes from: what this enclave itself has signed proves it.
        if !shown.verify(self.state.dao.genesis, self.state.dao.keys.identity()) {
            return Ok(true);
        }
        let state = self.state.notes.judge_own(&shown.note);
        self.look_back_at(state, &shown.note, told_by, turn)
    }

    fn look_back_at(
        &mut self,
        state: OwnState,
        known: &Note,
        told_by: MemberId,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<bool, Rejection> {
        match state {
            OwnState::Newest => Ok(true),
            OwnState::Outbid(incarnation) => {
                self.come_back(incarnation, turn)?;
                Ok(false)
            }
            OwnState::Stale(kind) => {
                let own = self.state.notes.own();
                let stale = stale(kind, &own, known, told_by);
                self.watch.stale = Some(stale);
                turn.outbox.notice(Notice::Stale(stale));
                Ok(false)
            }
        }
    }

    fn on_known(
        &mut self,
        from: MemberId,
        Known { claim, in_force, by, memories, adopted }: &Known,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        self.check_note(from, by)?;
        let own = self.state.dao.own();
        let shown = || memories.iter().flat_map(|memory| [Some(memory.promised), memory.accepted]).flatten();
        for shown in shown().filter(|shown| shown.note.member == own) {
            if !self.look_back(from, &shown, turn)? {
                return Ok(());
            }
        }
        let (asked, _) = self.state.notes.claim();
        if !self.watch.is_asking() || asked != *claim {
            return Ok(());
        }
        // It must have proved itself to this launch: who was admitted before may have been broken since.
        if !self.state.dao.admission.is_fresh(from) {
            return Err(Rejection::TooEarly);
        }
        self.state.dao.must_go_by(in_force)?;
        if !self.watch.hears(from) {
            return Err(Rejection::TooOften);
        }
        // Who shows what this enclave can't judge has told it nothing.
        if self.state.is_newcomer && !adopted.iter().all(|mark| self.state.is_mark(mark)) {
            return Err(Rejection::Invalid);
        }
        let shown: Vec<SignedNote> = shown().chain([*by]).collect();
        self.learn(self.state.news(shown.iter()), turn)?;
        self.watch.known(from, by.note.ballot, by.note.acting);
        if self.state.is_newcomer {
            adopted.iter().for_each(|mark| self.watch.learn_mark(mark));
        }
        self.show_later(from, by.note.ballot, turn.outbox);
        // Others that wait may know as little as it does.
        let quorum = self.state.dao.manifest.quorum();
        let quorum = if self.state.is_newcomer { quorum.governed() } else { quorum };
        if self.watch.may_act(&self.state.notes, quorum) {
            self.resume(turn)?;
        }
        Ok(())
    }

    /// Remembers what others have shown.
    fn learn(&mut self, shown: Vec<SignedNote>, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        if shown.is_empty() { Ok(()) } else { self.commit(Change::Learnt(shown), turn) }
    }

    fn resume(&mut self, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        self.commit(Change::Resumed(self.watch.marks()), turn)?;
        self.resumed(turn.outbox);
        Ok(())
    }

    fn resumed(&mut self, outbox: &mut Outbox) {
        self.watch.resumed();
        outbox.notice(Notice::Returned(self.state.notes.own().ballot.incarnation));
        // Even if nothing waits for it: from here on no older copy of the log can act.
        self.send_note(outbox);
    }

    fn say(&self, to: MemberId, witness: Witness, outbox: &mut Outbox) {
        outbox.send_to(to, &self.witness(witness));
    }

    fn say_to_all(&self, witness: Witness, outbox: &mut Outbox) {
        outbox.send_all(&self.witness(witness));
    }

    fn witness(&self, witness: Witness) -> PeerMessage {
        PeerMessage::Witness(Box::new(self.state.dao.keys.sign_witness(self.state.dao.genesis, witness)))
    }
}
