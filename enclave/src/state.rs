//! An enclave's whole state, as a function of its changes.
//!
//! [`State::apply`] is all that ever changes it. It asks no machine for anything, so the same changes give the same
//! state: that is how an enclave that starts again gets back what it had.

use crate::admission::Amended;
use crate::dao::Dao;
use crate::effects::Effects;
use crate::epochs::Epochs;
use crate::log::change::{Change, Genesis, Heard};
use crate::pools::Pools;
use crate::pools::vault::Settled;
use crate::witness::{Notes, raise};
use postern_attestation::TrustAnchor;
use postern_shared::agreement::{Attempt, Content, Mark, Said, Subject};
use postern_shared::epoch::SignedEpoch;
use postern_shared::ids::MemberId;
use postern_shared::message::Broadcast;
use postern_shared::record::{LogHead, LogId};
use postern_shared::wire::{Notice, Output, Recipient, Rejection};
use std::collections::VecDeque;

/// See the module.
pub(crate) struct State {
    pub(crate) dao: Dao,
    pub(crate) epochs: Epochs,
    pub(crate) pools: Pools,
    /// Where members' logs stand, this one's among them.
    pub(crate) notes: Notes,
    /// Whether it takes a lost machine's place and has never acted.
    pub(crate) is_newcomer: bool,
    /// Outputs that wait until enough members remember the changes that they came of.
    pub(crate) held: VecDeque<Output>,
    /// Whether all this is for a successor.
    pub(crate) handed_over: bool,
}

impl State {
    /// What a genesis begins. `None` if it is none.
    pub(crate) fn begin(genesis: &Genesis, anchor: TrustAnchor) -> Option<Self> {
        let dao = Dao::begin(genesis, anchor)?;
        Some(Self {
            notes: Notes::begin(genesis, &dao.manifest),
            dao,
            epochs: Epochs::default(),
            pools: Pools::default(),
            is_newcomer: genesis.machine > 0,
            held: VecDeque::new(),
            handed_over: false,
        })
    }

    /// Applies a change and all that follows from it. What it refuses may have changed something too: a proved cheat, say.
    pub(crate) fn apply(&mut self, change: &Change, effects: &mut Effects) -> Result<(), Rejection> {
        let result = self.apply_one(change, effects);
        self.epochs.decide(&self.dao, effects);
        self.pools.go_on(&self.dao, effects);
        result
    }

    /// This is for the successor now, which writes a log of its own. Not a change: that log begins with what it comes to.
    pub(crate) fn take_over(&mut self, log: LogId) {
        self.handed_over = false;
        self.notes.take_over(log);
    }

    /// The log has come to `head`, in a change that had these outputs to hold back.
    pub(crate) fn recorded(&mut self, head: LogHead, gated: Vec<Output>) {
        self.notes.recorded(head);
        self.held.extend(gated);
    }

    /// Settled pools to pack, about `most` bytes of them: see [`Pools::settled`].
    pub(crate) fn settled(&self, most: usize) -> Vec<Settled> {
        self.pools.settled(most, &self.dao.me())
    }

    /// Whether a member shows rightly that a key was adopted.
    pub(crate) fn is_mark(&self, mark: &Mark) -> bool {
        self.dao.must_serve(mark.pool).is_ok() && mark.holds(&self.dao.voters)
    }

    /// What is to be decided, and in which attempt this enclave is; not what it can't leave.
    pub(crate) fn undecided(&self) -> impl Iterator<Item = (Subject, Attempt)> {
        let all = self.epochs.undecided().into_iter().chain(self.pools.agreements.values());
        all.filter(|agreement| agreement.may_quit(self.dao.own()))
            .map(|agreement| (agreement.subject(), agreement.at()))
    }

    fn apply_one(&mut self, change: &Change, effects: &mut Effects) -> Result<(), Rejection> {
        match change {
            Change::Resumed(marks) => {
                effects.change();
                self.notes.apply(change);
                self.resumed(marks);
            }
            Change::Begun(_)
            | Change::Returned(..)
            | Change::Promised(_)
            | Change::Noted(_)
            | Change::Learnt(_) => {
                effects.change();
                self.notes.apply(change);
            }
            Change::HandedOver => {
                effects.change();
                self.handed_over = true;
            }
            Change::Admitted(admitted) => {
                effects.change();
                self.dao.admission.admit((**admitted).clone());
                self.pools.touch_all();
            }
            Change::CutOff(refused) => {
                effects.change();
                self.dao.admission.cut_off(refused.clone());
                self.pools.touch_all();
            }
            Change::LetOut(count) => {
                for _ in 0..*count {
                    if let Some(output) = self.held.pop_front() {
                        effects.let_out(output);
                    }
                }
            }
            Change::Signed(epoch) => self.epochs.take(epoch, &self.dao, effects)?,
            Change::Amended(epoch) => self.amend(epoch, effects)?,
            Change::Observed(event) => {
                self.dao.must_serve(event.pool())?;
                if self.pools.observe(event, self.dao.own())? {
                    effects.change();
                }
            }
            Change::Without(members) => {
                let without = members.iter().copied().collect();
                if self.dao.without != without {
                    effects.change();
                    self.dao.without = without;
                    self.pools.touch_all();
                }
            }
            Change::GivenUp(Subject::Epoch(predecessor)) => {
                self.epochs.give_up(*predecessor, &self.dao, effects)?;
            }
            Change::GivenUp(Subject::Key(pool)) => self.pools.give_up(*pool, &self.dao, effects)?,
            Change::Ticked => self.on_tick(effects),
            Change::Collect(release) => self.pools.collect(*release, &self.dao, effects),
            Change::Heard(Heard::Broadcast(said)) if said.slot.step.is_of_an_agreement() => {
                self.on_agreement(said, effects)?;
            }
            Change::Heard(Heard::Broadcast(said)) => self.pools.on_statement(said, &self.dao, effects)?,
            Change::Heard(Heard::Envelope(said)) => self.pools.on_envelope(said, &self.dao, effects)?,
        }
        Ok(())
    }

    /// This enclave acts from now on. What was said in its place before, it does not know.
    fn resumed(&mut self, marks: &[Mark]) {
        if core::mem::take(&mut self.is_newcomer) {
            let Pools { marks: known, unknown, .. } = &mut self.pools;
            marks.iter().for_each(|mark| raise(known, mark.clone()));
            *unknown = marks.iter().map(|mark| (mark.pool.contract, mark.pool.number)).collect();
            self.pools.touch_all();
        }
    }

    fn amend(&mut self, epoch: &SignedEpoch, effects: &mut Effects) -> Result<(), Rejection> {
        if self.dao.knows(epoch) {
            return Ok(());
        }
        let manifest = self.dao.check_epoch(epoch)?;
        effects.change();
        self.epochs.amended(self.dao.manifest.hash(), manifest.hash(), epoch.signatures.clone());
        self.notes.amend(&manifest);
        let Amended { died, cut_off } = self.dao.amend(manifest, epoch.manifest.clone());
        cut_off.into_iter().for_each(|refused| effects.notice(Notice::Refused(refused)));
        died.into_iter().for_each(|member| self.withhold_from(member));
        // Let in by a cut, untold what the machine before it has said: it knows of no pool so far that nothing was said of it.
        if self.is_newcomer && self.notes.is_acting() {
            self.is_newcomer = false;
            let managers = self.dao.pool_managers.iter();
            self.pools.unknown = managers.map(|manager| (manager.contract, u32::MAX)).collect();
        }
        self.pools.touch_all();
        Ok(())
    }

    /// A secret that still waits to leave would go to an enclave that is nobody any more. What takes its place keeps the
    /// order, by which a remembered place in the log lets outputs out.
    fn withhold_from(&mut self, dead: MemberId) {
        for output in &mut self.held {
            if matches!(output, Output::Send { to: Recipient::One(to), .. } if *to == dead) {
                *output = Output::Notice(Notice::Withheld(dead));
            }
        }
    }

    fn on_tick(&mut self, effects: &mut Effects) {
        let Self { dao, epochs, pools, .. } = self;
        let away: Vec<MemberId> = dao.without.iter().copied().filter(|member| dao.is_away(*member)).collect();
        pools.tick_agreements(dao, effects);
        if let Some(agreement) = &mut epochs.agreement {
            agreement.leave_if_away(&away, &dao.electorate(), effects);
        }
        pools.leave_if_away(&away, dao, effects);
        pools.on_tick(dao, effects);
    }

    /// Takes a statement of an agreement.
    fn on_agreement(&mut self, statement: &Broadcast, effects: &mut Effects) -> Result<(), Rejection> {
        let Self { dao, epochs, pools, .. } = self;
        let from = statement.slot.from;
        let Said { subject, attempt, content } = Said::of(statement).ok_or(Rejection::Invalid)?;
        let now = dao.voters_now().ok_or(Rejection::TooEarly)?;
        // A decision proves itself, whoever brings it; others may have new keys by the epoch that is decided.
        if !matches!(content, Content::Decide(..)) {
            if attempt.generation > now.since {
                return Err(Rejection::TooEarly);
            }
            dao.admission.not_cut_off(from)?;
            let speaker = dao.admission.identity(from).ok_or(Rejection::NotAdmitted(from))?;
            if !statement.signed_digest().verify(speaker) {
                return Err(Rejection::NotAuthentic);
            }
        }
        match subject {
            Subject::Epoch(predecessor) => epochs.hear(statement, predecessor, &content, dao, effects),
            Subject::Key(pool) => pools.hear(statement, pool, content, dao, effects),
        }
    }
}
