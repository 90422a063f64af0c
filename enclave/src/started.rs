//! An enclave that has a state: how requests become changes of it, and how changes become records.

use crate::admission::{Judgement, RefusedEvidence, fresh_nonce};
use crate::change::Change;
use crate::effects::{Effects, Groups};
use crate::journal::{Journal, LogName, VaultContent, fresh_salt};
use crate::platform::Platform;
use crate::session::Session;
use crate::snapshot::Cutter;
use crate::succession::{self, Inheritance};
use crate::witness::{Compared, OwnState, Watch};
use postern_shared::codec;
use postern_shared::ids::MemberId;
use postern_shared::message::{Attestation, Certificates, MAX_BODY, PeerMessage};
use postern_shared::wire::{Notice, Output, Rejection, Reply, Request, StaleLog};
use postern_shared::witness::{Known, Note, SignedNote, Witness, WitnessMessage};

/// Longest message from a peer, in bytes: evidence with the longest revocation list (`postern-attestation` takes lists of
/// 64 KiB), and everything else is far shorter.
const MAX_MESSAGE: usize = 96 << 10;

/// Most bytes of outputs that are let out with one record.
const MAX_RELEASED: usize = 1 << 20;

/// Bytes of settled pools that make a vault record; one pool may be longer by itself.
const VAULT_SIZE: usize = 256 << 10;

/// An enclave that has a state.
pub(crate) struct Started {
    pub(crate) session: Session,
    pub(crate) journal: Journal,
    pub(crate) watch: Watch,
}

impl Session {
    /// Uses other certificates; says which checks fail with them.
    pub(crate) fn renew(
        &mut self,
        certificates: Certificates,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        self.admission.renew(&self.manifest, certificates, platform).map_err(|refused| match refused {
            RefusedEvidence::Own(refused) => {
                groups.notice(Notice::Refused(refused));
                Rejection::OwnEvidence
            }
            RefusedEvidence::Other(rejection) => rejection,
        })
    }

    pub(crate) fn challenge_missing(
        &mut self,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        self.admission.challenge_missing(&self.manifest, &self.keys, platform, groups)
    }

    fn known(&self, member: MemberId) -> Result<(), Rejection> {
        self.manifest.member(member).map(|_| ()).ok_or(Rejection::NotAMember(member))
    }
}

impl Started {
    pub(crate) fn serve(
        &mut self,
        request: Request,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<Reply, Rejection> {
        if self.watch.stale.is_some() {
            return Err(Rejection::Stale);
        }
        match request {
            Request::Introduce(challenge) => {
                let Session { admission, keys, .. } = &mut self.session;
                let introduction = admission.introduce(&challenge, keys, platform)?;
                return Ok(Reply::Introduction(Box::new(introduction)));
            }
            Request::Amend(epoch) => {
                if self.watch.farewell().is_some() {
                    return Err(Rejection::HandedOver);
                }
                self.commit(Change::Amended(Box::new(epoch)), platform, groups)?;
            }
            Request::HandOver(successor) => self.hand_over(&successor, platform, groups)?,
            Request::Attest(nonce) => {
                let attestation = self.session.admission.answer(None, nonce, platform)?;
                return Ok(Reply::Attestation(Box::new(attestation)));
            }
            Request::Renew(certificates) => self.session.renew(certificates, platform, groups)?,
            Request::Reattest(member) => self.reattest(member, platform, groups)?,
            Request::Deliver(bytes) => self.on_message(bytes, platform, groups)?,
            Request::Tick => self.on_tick(platform, groups)?,
            Request::GoOnWithout(members) => {
                members.iter().try_for_each(|member| self.session.known(*member))?;
                self.act(Change::Without(members), platform, groups)?;
            }
            Request::Observe(event) => self.act(Change::Observed(event), platform, groups)?,
            Request::Retry(pool) => self.act(Change::Retried(pool), platform, groups)?,
            _ => return Err(Rejection::StartedOtherwise),
        }
        Ok(Reply::Done)
    }

    /// Applies a change, and seals it into the log if the state is another.
    pub(crate) fn commit(
        &mut self,
        change: Change,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        // First, so that a machine without randomness, or a change that no record holds, changes nothing.
        let salt = fresh_salt(platform)?;
        let content = Journal::content(&change)?;
        let mut effects = Effects::default();
        let result = self.session.apply(&change, &mut effects);
        let changed = effects.has_changed();
        let (gated, free) = effects.into_parts();
        if !changed {
            groups.outputs(free);
            return result;
        }
        let record = self.journal.change(&content, salt)?;
        self.session.recorded(record.head(), gated);
        groups.record(record, free);
        self.advance(groups);
        result
    }

    /// Commits what only an enclave that acts may do.
    fn act(
        &mut self,
        change: Change,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        self.must_act()?;
        self.commit(change, platform, groups)
    }

    fn must_act(&self) -> Result<(), Rejection> {
        if self.session.handed_over {
            return Err(Rejection::HandedOver);
        }
        if self.session.is_replaced() {
            return Err(Rejection::Replaced);
        }
        if self.session.notes.is_acting() { Ok(()) } else { Err(Rejection::Returning) }
    }

    /// Gives a successor the key to the log, of which nothing follows any more.
    fn hand_over(
        &mut self,
        successor: &Attestation,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        if !self.session.notes.is_acting() {
            return Err(Rejection::Returning);
        }
        succession::judge(&mut self.session.admission, &self.session.manifest, successor)?;
        if self.watch.farewell().is_none() {
            if !self.session.handed_over {
                self.commit(Change::HandedOver, platform, groups)?;
            }
            self.write_snapshot(platform, groups)?;
        }
        let LogName { dao, log, .. } = self.journal.name();
        let inheritance = Inheritance { log, key: self.journal.key().bequeath(), head: self.journal.head() };
        let envelope = self.session.bequeath(&successor.identity, &inheritance)?;
        let note = self.session.keys.sign_note(dao, self.session.notes.own());
        self.watch.end(note, envelope);
        self.say_to_all(Witness::Advance(note), groups);
        Ok(())
    }

    fn reattest(
        &mut self,
        member: Option<MemberId>,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        member.map_or(Ok(()), |member| self.session.known(member))?;
        let members: Vec<MemberId> = self.session.manifest.members.iter().map(|entry| entry.id).collect();
        for id in members.into_iter().filter(|id| member.is_none_or(|member| member == *id)) {
            self.session.admission.challenge(id, &self.session.keys, platform, groups)?;
        }
        Ok(())
    }

    fn on_tick(&mut self, platform: &mut impl Platform, groups: &mut Groups) -> Result<(), Rejection> {
        self.session.admission.on_tick();
        self.session.challenge_missing(platform, groups)?;
        if let Some(claim) = self.watch.claimed() {
            let claim = Witness::Return(*claim);
            self.say_to_all(claim, groups);
        }
        if let Some(note) = self.watch.in_flight() {
            let note = Witness::Advance(*note);
            self.say_to_all(note, groups);
        }
        if self.must_act().is_ok() {
            self.act(Change::Ticked, platform, groups)?;
        }
        Ok(())
    }

    fn on_message(
        &mut self,
        bytes: Vec<u8>,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Rejection::TooLong);
        }
        let own = self.session.own();
        let message = codec::decode(&bytes).map_err(|_| Rejection::Malformed)?;
        // Nothing may follow on a log that has ended.
        if self.watch.farewell().is_some() && changes_the_state(&message) {
            return Err(Rejection::HandedOver);
        }
        match message {
            PeerMessage::Challenge(challenge) => {
                let asker = challenge.from.member;
                if challenge.to != own || asker == own {
                    return Err(Rejection::Misdirected);
                }
                self.session.known(asker)?;
                let Session { admission, keys, .. } = &mut self.session;
                admission.on_challenge(&challenge, keys, platform, groups)
            }
            PeerMessage::Evidence(answer) => self.on_evidence(&answer, platform, groups),
            // As if it had not been said: nobody is convicted of it, so nobody has to prove it.
            PeerMessage::Broadcast(statement) if statement.body.len() > MAX_BODY => Err(Rejection::TooLong),
            PeerMessage::Envelope(envelope) if envelope.ciphertext.len() > MAX_BODY => {
                Err(Rejection::TooLong)
            }
            PeerMessage::Broadcast(_) | PeerMessage::Envelope(_) => {
                self.act(Change::Heard(bytes), platform, groups)
            }
            PeerMessage::Witness(message) => self.on_witness(*message, platform, groups),
        }
    }

    fn on_evidence(
        &mut self,
        answer: &Attestation,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        let member = answer.identity.member;
        match self.session.admission.on_evidence(&self.session.manifest, answer)? {
            Judgement::Known => Ok(()),
            Judgement::Admit(admitted) => {
                self.commit(Change::Admitted(admitted), platform, groups)?;
                groups.notice(Notice::Admitted(member));
                match self.watch.returned.remove(&member) {
                    Some(claim) => self.answer_return(claim, platform, groups),
                    None => Ok(()),
                }
            }
            Judgement::CutOff(refused) => {
                self.commit(Change::CutOff(refused.clone()), platform, groups)?;
                groups.notice(Notice::Refused(refused));
                Err(Rejection::Evidence)
            }
            Judgement::Refuse(refused) => {
                groups.notice(Notice::Refused(refused));
                Err(Rejection::Evidence)
            }
            Judgement::RefuseAgain => Err(Rejection::Evidence),
        }
    }

    /// Writes everything anew, so that the records before may be forgotten. If the machine fails in the middle, what was
    /// written is part of the log like any other, and of no consequence.
    pub(crate) fn write_snapshot(
        &mut self,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        loop {
            let settled = self.session.settled(VAULT_SIZE);
            if settled.is_empty() {
                break;
            }
            let salt = fresh_salt(platform)?;
            let content = VaultContent { follows: self.session.vault.head(), settled };
            let record = self.journal.vault(&content, salt)?;
            self.session.keep_settled(content.settled);
            self.session.recorded(record.head(), Vec::new());
            groups.record(record, Vec::new());
        }
        let first = self.journal.head().number.saturating_add(1);
        let mut cutter = Cutter::default();
        self.session.items().for_each(|item| cutter.add(&item));
        let mut size = 0_usize;
        for part in cutter.finish() {
            let salt = fresh_salt(platform)?;
            let record = self.journal.part(&part, salt)?;
            size = size.saturating_add(record.ciphertext.len());
            self.session.recorded(record.head(), Vec::new());
            groups.record(record, Vec::new());
        }
        let salt = fresh_salt(platform)?;
        let record = self.journal.snapshot(first, size, self.session.vault.head(), salt)?;
        self.session.recorded(record.head(), Vec::new());
        groups.record(record, Vec::new());
        Ok(())
    }
}

/// The rollback guard: see `witness`.
impl Started {
    /// Sends a note of the log's place, if outputs wait for it and none is on its way.
    fn advance(&mut self, groups: &mut Groups) {
        let waits = !self.session.held.is_empty() && self.watch.in_flight().is_none();
        if waits && self.session.notes.is_acting() {
            self.send_note(groups);
        }
    }

    fn send_note(&mut self, groups: &mut Groups) {
        let note = self.session.keys.sign_note(self.session.dao, self.session.notes.own());
        self.watch.send(note, self.session.held.len());
        self.say_to_all(Witness::Advance(note), groups);
    }

    /// Begins another incarnation, after the own one or one that it has learnt of, and asks for leave to act.
    pub(crate) fn come_back(
        &mut self,
        after: u64,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        let incarnation = after.max(self.session.notes.own().incarnation).saturating_add(1);
        let nonce = fresh_nonce(platform)?;
        self.commit(Change::Returned(incarnation, nonce), platform, groups)?;
        self.ask_leave(platform, groups)
    }

    /// Claims the place in the log at which it last acted.
    pub(crate) fn ask_leave(
        &mut self,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        let claim = self.session.keys.sign_note(self.session.dao, self.session.notes.own());
        self.watch.claim(claim);
        self.session.challenge_missing(platform, groups)?;
        self.say_to_all(Witness::Return(claim), groups);
        Ok(())
    }

    fn on_witness(
        &mut self,
        message: WitnessMessage,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        let from = message.from;
        if from == self.session.own() {
            return Err(Rejection::Misdirected);
        }
        let speaker = self.session.admission.identity(from).ok_or(Rejection::NotAdmitted(from))?;
        if !message.verify(self.session.dao, speaker) {
            return Err(Rejection::NotAuthentic);
        }
        match message.witness {
            Witness::Advance(signed) => {
                self.check_note(from, &signed)?;
                self.must_act()?;
                self.on_advance(signed, platform, groups)
            }
            Witness::Noted(note) => self.on_noted(from, &note, platform, groups),
            Witness::Return(signed) => {
                self.check_note(from, &signed)?;
                // Noted before: it has proved itself in this incarnation.
                if matches!(self.session.notes.compare(&signed.note), Compared::Same) {
                    return self.answer_return(signed, platform, groups);
                }
                // Of two claims only a later incarnation's takes the other's place: else claims that come late, or of two enclaves
                // from one log, would take turns, each would have the question asked once more, and every answer would come
                // too late.
                let waiting = self.watch.returned.get(&from).map(|waiting| waiting.note);
                if waiting.is_some_and(|waiting| {
                    waiting != signed.note && waiting.incarnation >= signed.note.incarnation
                }) {
                    return Ok(());
                }
                let is_new = self.watch.returned.insert(from, signed) != Some(signed);
                let Session { admission, keys, .. } = &mut self.session;
                admission.challenge_claimant(from, is_new, keys, platform, groups)
            }
            Witness::Known(known) => self.on_known(from, &known, platform, groups),
        }
    }

    /// A note that `from` sends of itself.
    fn check_note(&self, from: MemberId, signed: &SignedNote) -> Result<(), Rejection> {
        let speaker = self.session.admission.identity(from).ok_or(Rejection::NotAdmitted(from))?;
        if signed.verify(self.session.dao, speaker) { Ok(()) } else { Err(Rejection::NotAuthentic) }
    }

    fn on_advance(
        &mut self,
        signed: SignedNote,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        let note = signed.note;
        match self.session.notes.compare(&note) {
            // Who remembers a later place remembers this one.
            Compared::Same | Compared::Late => {}
            Compared::Newer => self.commit(Change::Noted(signed), platform, groups)?,
            Compared::Stale(_) => return self.answer_return(signed, platform, groups),
        }
        self.say(note.member, Witness::Noted(note), groups);
        Ok(())
    }

    fn on_noted(
        &mut self,
        from: MemberId,
        note: &Note,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        let members = self.session.manifest.members.len();
        let Some(mut left) = self.watch.noted(from, note, members) else { return Ok(()) };
        if let Some(envelope) = self.watch.farewell() {
            groups.output(Output::HandOver(envelope.clone()));
            return Ok(());
        }
        while left > 0 {
            let mut size = 0_usize;
            let outputs = self.session.held.iter().take(left).take_while(|output| {
                let first = size == 0;
                size = size.saturating_add(codec::encode(*output).len());
                first || size <= MAX_RELEASED
            });
            let count = outputs.count();
            // At least one is, and a log that can't be written lets out nothing.
            left = left.saturating_sub(count.max(1));
            self.commit(Change::Released(u32::try_from(count).unwrap_or(u32::MAX)), platform, groups)?;
        }
        // What has come to wait meanwhile.
        self.advance(groups);
        Ok(())
    }

    /// Says what is known of a member that claims a place in its log; remembers the claim if nothing is against it.
    fn answer_return(
        &mut self,
        signed: SignedNote,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        let claim = signed.note;
        match self.session.notes.compare(&claim) {
            Compared::Newer => self.commit(Change::Noted(signed), platform, groups)?,
            Compared::Same => {}
            Compared::Late => return Ok(()),
            Compared::Stale(kind) => {
                let known = self.session.notes.others().find(|known| known.note.member == claim.member);
                if let Some(known) = known {
                    let told_by = self.session.own();
                    let stale = StaleLog { kind, own: claim, known: known.note, told_by };
                    groups.notice(Notice::StalePeer(stale));
                }
            }
        }
        let own = self.session.keys.sign_note(self.session.dao, self.session.notes.own());
        let notes = self.session.notes.others().copied().chain([own]).collect();
        let acting = self.session.notes.is_acting();
        let epoch = self.session.manifest.epoch;
        self.say(claim.member, Witness::Known(Known { claim, acting, epoch, notes }), groups);
        Ok(())
    }

    fn on_known(
        &mut self,
        from: MemberId,
        Known { claim, acting, epoch, notes }: &Known,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        let (own, dao) = (self.session.own(), self.session.dao);
        // Whoever it comes from: what this enclave itself has signed proves it.
        let mine = notes.iter().filter(|known| known.verify(dao, self.session.keys.identity()));
        for known in mine {
            match self.session.notes.judge_own(&known.note) {
                OwnState::Newest => {}
                OwnState::Outbid(incarnation) => return self.come_back(incarnation, platform, groups),
                OwnState::Stale(kind) => {
                    let own = self.session.notes.own();
                    let stale = StaleLog { kind, own, known: known.note, told_by: from };
                    self.watch.stale = Some(stale);
                    groups.notice(Notice::Stale(stale));
                    return Ok(());
                }
            }
        }
        if self.watch.claimed().is_none_or(|own| own.note != *claim) {
            return Ok(());
        }
        // It must have proved itself to this launch: who was admitted before may have been broken since.
        if !self.session.admission.is_fresh(from) {
            return Err(Rejection::TooEarly);
        }
        if *epoch > self.session.manifest.epoch {
            return Err(Rejection::Behind(*epoch));
        }
        for known in notes.iter().filter(|known| known.note.member != own) {
            let about = self.session.admission.enclave(known.note.member);
            let genuine = about.is_some_and(|identity| known.verify(dao, identity));
            if genuine && matches!(self.session.notes.compare(&known.note), Compared::Newer) {
                self.commit(Change::Noted(*known), platform, groups)?;
            }
        }
        if self.watch.known(from, *acting, self.session.manifest.members.len()) {
            self.commit(Change::Resumed, platform, groups)?;
            groups.notice(Notice::Returned(self.session.notes.own().incarnation));
            // Even if nothing waits for it: from here on no older copy of the log can act.
            self.send_note(groups);
        }
        Ok(())
    }

    fn say(&self, to: MemberId, witness: Witness, groups: &mut Groups) {
        groups.send_to(to, &self.witness(witness));
    }

    fn say_to_all(&self, witness: Witness, groups: &mut Groups) {
        groups.send_all(&self.witness(witness));
    }

    fn witness(&self, witness: Witness) -> PeerMessage {
        PeerMessage::Witness(Box::new(self.session.keys.sign_witness(self.session.dao, witness)))
    }
}

/// Whether a message may do more than be answered.
fn changes_the_state(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Challenge(_) => false,
        PeerMessage::Witness(message) => !matches!(message.witness, Witness::Noted(_)),
        _ => true,
    }
}
