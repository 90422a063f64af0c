//! Which epoch follows on the manifest in force: those that wallets have signed, the members' agreement on one of them, and
//! what others that have missed it are shown. The agreement itself: [`agreement`](crate::agreement).

use crate::agreement::{Agreement, ask_for_decision, told};
use crate::dao::Dao;
use crate::effects::Effects;
use postern_shared::agreement::{Attempt, Choice, Content, Decision, Fork, Proposal, Said, Subject};
use postern_shared::epoch::{SignedEpoch, WalletSignature};
use postern_shared::ids::{Digest, ManifestHash, MemberId};
use postern_shared::manifest::Manifest;
use postern_shared::message::{Broadcast, PeerMessage, Step};
use postern_shared::wire::{Artifact, Recipient, Rejection};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most epochs that are kept to be agreed on, of which all but one were signed by somebody who signed another.
const MAX_CANDIDATES: usize = 8;

/// See the module.
#[derive(Default)]
pub(crate) struct Epochs {
    /// Epochs that may follow, to be agreed on.
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) agreement: Option<Agreement>,
    /// By manifest, what has followed on it, for those that have missed it.
    pub(crate) agreed: BTreeMap<ManifestHash, Agreed>,
    /// Who was shown the epoch that it lacks since the last tick. Not part of the state.
    caught_up: BTreeSet<MemberId>,
}

/// An epoch that may follow on the manifest: wallets have signed it.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) epoch: SignedEpoch,
    hash: ManifestHash,
}

impl Candidate {
    /// `None` if there is no manifest in it.
    pub(crate) fn new(epoch: SignedEpoch) -> Option<Self> {
        let hash = Manifest::from_canonical(&epoch.manifest).ok()?.hash();
        Some(Self { epoch, hash })
    }
}

/// What has made a manifest follow on another.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Agreed {
    pub(crate) manifest: ManifestHash,
    pub(crate) signatures: Vec<WalletSignature>,
    /// None if wallets alone did.
    pub(crate) decision: Option<Decision>,
}

impl Epochs {
    /// Takes an epoch to be agreed on.
    pub(crate) fn take(
        &mut self,
        epoch: &SignedEpoch,
        dao: &Dao,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        if dao.knows(epoch) || self.is_candidate(epoch) {
            return Ok(());
        }
        let candidate = Candidate { hash: dao.check_epoch(epoch)?.hash(), epoch: epoch.clone() };
        let decided = self.agreement.as_ref().and_then(Agreement::decision);
        let is_decided = decided.is_some_and(|decision| decision.choice.value == value(candidate.hash));
        if self.candidates.len() >= MAX_CANDIDATES && !is_decided {
            return Err(Rejection::Busy);
        }
        effects.change();
        for known in &self.candidates {
            let (manifest, one, other) = (dao.canonical().to_vec(), known.epoch.clone(), epoch.clone());
            effects.publish(Artifact::Fork(Box::new(Fork { manifest, one, other })));
        }
        effects.tell(Recipient::Everyone, &PeerMessage::Epoch(Box::new(epoch.clone())));
        self.candidates.push(candidate);
        Ok(())
    }

    /// Whether an epoch waits to be agreed on.
    pub(crate) fn is_candidate(&self, epoch: &SignedEpoch) -> bool {
        self.candidates.iter().any(|known| known.epoch.manifest == epoch.manifest)
    }

    /// Whether this enclave may follow the wallets' word alone to a cut: not if it has voted for another epoch in its place, which
    /// may be in force already. The DAO makes the cut on top of that one.
    pub(crate) fn may_be_cut(&self, next: ManifestHash) -> bool {
        let voted = self.agreement.as_ref().and_then(Agreement::newest_vote);
        voted.is_none_or(|choice| choice.value == value(next))
    }

    /// The epoch on top of which this one makes a cut, if that one waits to be agreed on: with the cut, both are in force.
    pub(crate) fn cut_goes_on_from(&self, cut: &SignedEpoch) -> Option<SignedEpoch> {
        let follows = |known: &&Candidate| {
            let before = Manifest::from_canonical(&known.epoch.manifest);
            let next = before.ok().and_then(|before| cut.verify(&before).ok());
            next.is_some_and(|next| next.era() == next.epoch) && self.may_be_cut(known.hash)
        };
        self.candidates.iter().find(follows).map(|known| known.epoch.clone())
    }

    /// The epoch that the members have decided on, if it is here.
    pub(crate) fn decided(&self) -> Option<&SignedEpoch> {
        let Decision { choice, .. } = self.agreement.as_ref()?.decision()?;
        let decided = self.candidates.iter().find(|known| value(known.hash) == choice.value)?;
        Some(&decided.epoch)
    }

    /// An epoch is in force: this manifest follows on `before`, and what may follow on it is to be agreed on.
    pub(crate) fn amended(
        &mut self,
        before: ManifestHash,
        manifest: ManifestHash,
        signatures: Vec<WalletSignature>,
    ) {
        let decision = self.agreement.take().and_then(|agreement| agreement.decision().cloned());
        self.candidates.clear();
        self.agreed.insert(before, Agreed { manifest, signatures, decision });
    }

    /// Takes a statement of the agreement on what follows on this manifest.
    pub(crate) fn hear(
        &mut self,
        statement: &Broadcast,
        predecessor: ManifestHash,
        content: &Content,
        dao: &Dao,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        if predecessor == dao.manifest.hash() {
            let first = Attempt::first(dao.voters_now().ok_or(Rejection::TooEarly)?);
            let subject = Subject::Epoch(predecessor);
            let agreement = self.agreement.get_or_insert_with(|| Agreement::new(subject, first, false));
            return agreement.hear(statement, &dao.electorate(), effects);
        }
        if !self.agreed.contains_key(&predecessor) {
            return Err(Rejection::TooEarly);
        }
        let from = statement.slot.from;
        let signed = statement.signed_digest();
        if from == dao.own() || !dao.identities.values().any(|enclave| signed.verify(enclave)) {
            return Err(Rejection::NotAuthentic);
        }
        // An epoch is long: once for each member, until time passes.
        if !self.caught_up.insert(from) {
            return Err(Rejection::TooOften);
        }
        // Who tells the decision may lack the epoch, and nothing else.
        let knows = matches!(content, Content::Decide(..));
        self.catch_up(from, predecessor, knows, dao, effects);
        Ok(())
    }

    /// Shows a member that goes by an old manifest what has followed on it.
    fn catch_up(
        &self,
        member: MemberId,
        predecessor: ManifestHash,
        knows: bool,
        dao: &Dao,
        effects: &mut Effects,
    ) {
        let Some(Agreed { manifest, signatures, decision }) = self.agreed.get(&predecessor) else { return };
        let Some(manifest) = dao.manifests.get(manifest).cloned() else { return };
        let epoch = SignedEpoch { manifest, signatures: signatures.clone() };
        effects.tell(Recipient::One(member), &PeerMessage::Epoch(Box::new(epoch)));
        if let Some(decision) = decision.clone().filter(|_| !knows) {
            let statement = told(Subject::Epoch(predecessor), decision, None, &dao.me());
            effects.tell(Recipient::One(member), &PeerMessage::Broadcast(statement));
        }
    }

    /// The agreement that is to be decided: nobody waits for an epoch that nobody has signed.
    pub(crate) fn undecided(&self) -> Option<&Agreement> {
        self.agreement.as_ref().filter(|_| !self.candidates.is_empty())
    }

    /// Leaves the current attempt at deciding what follows on this manifest.
    pub(crate) fn give_up(
        &mut self,
        predecessor: ManifestHash,
        dao: &Dao,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        let agreement = self.agreement.as_mut().filter(|_| predecessor == dao.manifest.hash());
        agreement.ok_or(Rejection::NothingToLeave)?.quit(&dao.electorate(), effects)
    }

    /// Says what is missing of the next epoch, whether or not this enclave acts: it may not, since it has missed that.
    pub(crate) fn on_tick(&mut self, is_acting: bool, dao: &Dao, effects: &mut Effects) {
        self.caught_up.clear();
        let subject = Subject::Epoch(dao.manifest.hash());
        let electorate = dao.electorate();
        match self.agreement.as_mut() {
            Some(agreement) if agreement.decision().is_some() => {
                // Whoever hears that knows which epoch is missing here.
                agreement.tell_again();
                agreement.tell(None, &electorate, effects);
            }
            _ if !is_acting => ask_for_decision(subject, &electorate, effects),
            Some(agreement) if !self.candidates.is_empty() => {
                agreement.on_tick(&electorate, effects);
                // Whoever has an epoch that was proposed makes sure that others have it.
                if let Some(Proposal::Epoch(proposed)) = agreement.proposal()
                    && let Some(known) = self.candidates.iter().find(|known| known.hash == proposed)
                {
                    let epoch = PeerMessage::Epoch(Box::new(known.epoch.clone()));
                    effects.tell(Recipient::Everyone, &epoch);
                }
            }
            _ => {}
        }
    }

    /// Goes on with what follows on this manifest.
    pub(crate) fn decide(&mut self, dao: &Dao, effects: &mut Effects) {
        let Some(first) = dao.voters_now().map(Attempt::first) else { return };
        if self.candidates.is_empty() && self.agreement.is_none() {
            return;
        }
        let subject = Subject::Epoch(dao.manifest.hash());
        let agreement = self.agreement.get_or_insert_with(|| Agreement::new(subject, first, false));
        let electorate = dao.electorate();
        if let Some(opening) = agreement.opening(&electorate) {
            let fresh = self.candidates.first().map(|known| Proposal::Epoch(known.hash));
            agreement.propose(opening, fresh, &electorate, effects);
        }
        let fresh = |known: &Candidate| Choice { value: value(known.hash), origin: agreement.at() };
        let choice = match agreement.proposal() {
            Some(Proposal::Again(choice)) => Some(choice),
            Some(Proposal::Epoch(proposed)) => {
                self.candidates.iter().find(|known| known.hash == proposed).map(fresh)
            }
            None if agreement.at().number == 0 => self.candidates.first().map(fresh),
            _ => None,
        };
        if let Some(choice) = choice {
            agreement.vote(choice, &electorate, effects);
        }
        agreement.tell(None, &electorate, effects);
    }
}

/// Whether a statement tells which epoch was decided on.
pub(crate) fn decides_an_epoch(statement: &Broadcast) -> bool {
    let is_epoch = |said: Said| matches!(said.subject, Subject::Epoch(_));
    statement.slot.step == Step::Decide && Said::of(statement).is_some_and(is_epoch)
}

fn value(manifest: ManifestHash) -> Digest {
    Digest(manifest.0)
}
