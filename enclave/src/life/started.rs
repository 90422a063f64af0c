//! An enclave that has a state: how requests are judged and become changes of it. How changes become
//! records: [`recording`](super::recording).

use super::succession::{self, Inheritance};
use crate::admission::Judgement;
use crate::dao::{Dao, Footing};
use crate::effects::{Effects, Turn};
use crate::epochs::decides_an_epoch;
use crate::log::change::{Change, Heard};
use crate::log::journal::{Journal, LogName};
use crate::machine::platform::Platform;
use crate::state::State;

use crate::witness::Watch;
use postern_shared::codec;
use postern_shared::epoch::{MAX_SIGNED_EPOCH, SignedEpoch};
use postern_shared::ids::MemberId;
use postern_shared::message::{Attestation, MAX_BODY, PeerMessage};
use postern_shared::wire::{Notice, Rejection, Reply, Request};
use postern_shared::witness::Witness;

/// Longest message from a peer, in bytes: a signed epoch. Evidence with the longest revocation list (`postern-attestation`
/// takes lists of 64 KiB) is shorter, and everything else far shorter.
const MAX_MESSAGE: usize = MAX_SIGNED_EPOCH + 64;

/// An enclave that has a state.
pub(crate) struct Started {
    pub(crate) state: State,
    pub(crate) journal: Journal,
    pub(crate) watch: Watch,
}

impl Started {
    pub(crate) fn serve(
        &mut self,
        request: Request,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<Reply, Rejection> {
        if self.watch.stale.is_some() {
            return Err(Rejection::Stale);
        }
        let result = self.answer(request, turn);
        // Whatever made it so: what the members have decided on is in force.
        while let Some(epoch) = self.state.epochs.decided().cloned() {
            self.amend(epoch, turn)?;
        }
        result
    }

    fn answer(&mut self, request: Request, turn: &mut Turn<'_, impl Platform>) -> Result<Reply, Rejection> {
        match request {
            Request::Introduce(challenge) => {
                let Dao { admission, keys, .. } = &mut self.state.dao;
                let introduction = admission.introduce(&challenge, keys, turn.platform)?;
                return Ok(Reply::Introduction(Box::new(introduction)));
            }
            Request::Amend(epoch) => self.on_epoch(epoch, turn)?,
            Request::AwaitCut => self.await_cut(turn)?,
            Request::HandOver(successor) => self.hand_over(&successor, turn)?,
            Request::Attest(nonce) => {
                let attestation = self.state.dao.admission.answer(None, nonce, turn.platform)?;
                return Ok(Reply::Attestation(Box::new(attestation)));
            }
            Request::Prove(what) => return self.prove(&what).map(Reply::Proved),
            Request::Renew(certificates) => self.state.dao.renew(certificates, turn)?,
            Request::Reattest(member) => self.reattest(member, turn)?,
            Request::Deliver(bytes) => self.on_message(&bytes, turn)?,
            Request::Tick => self.on_tick(turn)?,
            Request::GoOnWithout(members) => {
                members.iter().try_for_each(|member| self.state.dao.known(*member))?;
                self.act(Change::Without(members), turn)?;
            }
            Request::Observe(event) => self.act(Change::Observed(event), turn)?,
            Request::GiveUp(subject) => self.act(Change::GivenUp(subject), turn)?,
            _ => return Err(Rejection::StartedOtherwise),
        }
        Ok(Reply::Done)
    }

    /// Takes an epoch that wallets have signed.
    fn on_epoch(&mut self, epoch: SignedEpoch, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        if self.state.dao.knows(&epoch) || self.state.epochs.is_candidate(&epoch) {
            return Ok(());
        }
        if self.watch.has_bequeathed() {
            return Err(Rejection::HandedOver);
        }
        let mut manifest = self.state.dao.due_epoch(&epoch);
        if let (Err(Rejection::Behind(_)), Some(before)) =
            (&manifest, self.state.epochs.cut_goes_on_from(&epoch))
        {
            self.amend(before, turn)?;
            manifest = self.state.dao.due_epoch(&epoch);
        }
        let manifest = manifest?;
        if self.state.dao.is_for_wallets_alone(&manifest) {
            if !self.state.epochs.may_be_cut(manifest.hash()) {
                return Err(Rejection::VotedOtherwise);
            }
            return self.amend(epoch, turn);
        }
        let head = self.journal.head();
        self.commit(Change::Signed(Box::new(epoch)), turn)?;
        if self.journal.head() != head {
            // It takes the end of the log back: it has to be handed over again.
            self.watch.take_back_end();
        }
        Ok(())
    }

    fn amend(&mut self, epoch: SignedEpoch, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        let before = (self.state.dao.footing(), self.state.notes.is_acting());
        self.commit(Change::Amended(Box::new(epoch)), turn)?;
        self.watch.take_back_end();
        self.amended(before, turn)
    }

    /// Commits what only an enclave that acts may do.
    fn act(&mut self, change: Change, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        self.must_act()?;
        self.commit(change, turn)
    }

    pub(crate) fn must_act(&self) -> Result<(), Rejection> {
        if self.state.handed_over {
            return Err(Rejection::HandedOver);
        }
        match self.state.dao.footing() {
            Footing::Candidate => return Err(Rejection::Candidate),
            Footing::Named => {}
            Footing::Replaced => return Err(Rejection::Replaced),
        }
        if self.state.notes.is_acting() { Ok(()) } else { Err(Rejection::Returning) }
    }

    /// Gives a successor the key to the log, of which nothing follows any more.
    fn hand_over(
        &mut self,
        successor: &Attestation,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        if !self.state.notes.is_acting() {
            return Err(Rejection::Returning);
        }
        succession::judge(&mut self.state.dao, successor)?;
        if self.watch.farewell().is_none() {
            if !self.state.handed_over {
                self.commit(Change::HandedOver, turn)?;
            }
            self.write_snapshot(turn)?;
        }
        let LogName { log, .. } = self.journal.name();
        let inheritance = Inheritance { log, keys: self.journal.keys().save(), head: self.journal.head() };
        let envelope = succession::hand_over(&self.state.dao, &successor.identity, &inheritance)?;
        self.watch.end(self.state.notes.own(), envelope);
        self.repeat_note(turn.outbox);
        Ok(())
    }

    fn reattest(
        &mut self,
        member: Option<MemberId>,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        member.map_or(Ok(()), |member| self.state.dao.known(member))?;
        let members: Vec<MemberId> = self.state.dao.manifest.members.iter().map(|entry| entry.id).collect();
        for id in members.into_iter().filter(|id| member.is_none_or(|member| member == *id)) {
            self.state.dao.admission.challenge(id, &self.state.dao.keys, turn)?;
        }
        Ok(())
    }

    fn on_tick(&mut self, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        self.state.dao.admission.on_tick();
        self.watch.on_tick(&self.state.notes);
        if self.state.dao.footing() != Footing::Named {
            return Ok(());
        }
        // Named, and interrupted before it began.
        if !self.state.notes.is_acting() && self.watch.is_idle() {
            self.begin(turn)?;
        }
        self.state.dao.challenge_missing(turn)?;
        self.repeat_claim(turn.outbox);
        self.repeat_note(turn.outbox);
        let mut effects = Effects::default();
        let State { dao, epochs, notes, .. } = &mut self.state;
        epochs.on_tick(notes.is_acting(), dao, &mut effects);
        turn.outbox.outputs(effects.into_parts().1);
        if self.must_act().is_ok() {
            self.act(Change::Ticked, turn)?;
            for release in self.state.pools.due() {
                self.act(Change::Collect(release), turn)?;
            }
        }
        Ok(())
    }

    fn on_message(&mut self, bytes: &[u8], turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Rejection::TooLong);
        }
        if self.state.dao.footing() == Footing::Candidate {
            return Err(Rejection::Candidate);
        }
        let own = self.state.dao.own();
        let message = codec::decode(bytes).map_err(|_| Rejection::Malformed)?;
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
                self.state.dao.known(asker)?;
                let Dao { admission, keys, .. } = &mut self.state.dao;
                admission.on_challenge(&challenge, keys, turn)
            }
            PeerMessage::Evidence(answer) => self.on_evidence(&answer, turn),
            // As if it had not been said: nobody is convicted of it, so nobody has to prove it.
            PeerMessage::Broadcast(statement) if statement.body.len() > MAX_BODY => Err(Rejection::TooLong),
            PeerMessage::Envelope(envelope) if envelope.ciphertext.len() > MAX_BODY => {
                Err(Rejection::TooLong)
            }
            // Who waits to be let in may be waiting for just this: nobody lets in an enclave that goes by an old manifest.
            PeerMessage::Broadcast(statement) if decides_an_epoch(&statement) => {
                self.commit(Change::Heard(Heard::Broadcast(statement)), turn)
            }
            PeerMessage::Broadcast(said) => self.act(Change::Heard(Heard::Broadcast(said)), turn),
            PeerMessage::Envelope(said) => self.act(Change::Heard(Heard::Envelope(said)), turn),
            PeerMessage::Epoch(epoch) => self.on_epoch(*epoch, turn),
            PeerMessage::Witness(message) => self.on_witness(*message, turn),
        }
    }

    fn on_evidence(
        &mut self,
        answer: &Attestation,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        let member = answer.identity.member;
        match self.state.dao.admission.on_evidence(&self.state.dao.manifest, answer)? {
            Judgement::Known => Ok(()),
            Judgement::Admit(admitted) => {
                self.commit(Change::Admitted(admitted), turn)?;
                turn.outbox.notice(Notice::Admitted(member));
                match self.watch.returned.remove(&member) {
                    Some(claim) => self.answer_return(&claim, turn),
                    None => Ok(()),
                }
            }
            Judgement::CutOff(refused) => {
                self.commit(Change::CutOff(refused.clone()), turn)?;
                turn.outbox.notice(Notice::Refused(refused));
                Err(Rejection::Evidence)
            }
            Judgement::Refuse(refused) => {
                turn.outbox.notice(Notice::Refused(refused));
                Err(Rejection::Evidence)
            }
            Judgement::RefuseAgain => Err(Rejection::Evidence),
        }
    }
}

/// Whether a message may do more than be answered.
fn changes_the_state(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Challenge(_) => false,
        PeerMessage::Witness(message) => !matches!(message.witness, Witness::Noted(_) | Witness::Unknown(_)),
        _ => true,
    }
}
