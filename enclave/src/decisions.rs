//! What members agree on, in its setting: the choices that come up, and what is done with those that are decided. The
//! agreement itself: [`agreement`](crate::agreement).

use crate::agreement::{Agreement, Electorate, ask_for_decision, told};
use crate::ceremony::keygen::Keygen;
use crate::ceremony::{Me, Scene, Setting};
use crate::effects::Effects;
use crate::session::{Footing, Session, lend};
use crate::witness::raise;
use postern_shared::agreement::{
    Attempt, Choice, Content, Decision, Fork, Made, Mark, Proposal, Run, Said, Subject, Voters,
};
use postern_shared::epoch::{SignedEpoch, WalletSignature, check_returns};
use postern_shared::events::DepositRequest;
use postern_shared::identity::{Identity, Roster};
use postern_shared::ids::{Digest, ManifestHash, MemberId, PoolId};
use postern_shared::keygen::KeygenTerms;
use postern_shared::manifest::Manifest;
use postern_shared::message::{Broadcast, PeerMessage};
use postern_shared::wire::{Artifact, Recipient, Rejection};
use serde::{Deserialize, Serialize};

/// Most keygens of one pool that this enclave has confirmed and that were not decided on. Each bounds what a settled pool
/// takes; of more, the oldest is forgotten.
const MAX_PARKED: usize = 8;

/// Most epochs that are kept to be agreed on, of which all but one were signed by somebody who signed another.
const MAX_CANDIDATES: usize = 8;

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

/// Lends what an agreement needs, beside the agreement.
macro_rules! among {
    ($session:ident, |$electorate:ident| $body:expr) => {{
        let $electorate = Electorate {
            me: Me { keys: &$session.keys, coins: &$session.coins },
            voters: &$session.voters,
            leader: $session.manifest.leader,
        };
        $body
    }};
}

impl Session {
    /// The voters of now, unless the DAO is not founded.
    fn voters_now(&self) -> Option<&Voters> {
        self.voters.last_key_value().map(|(_, voters)| voters)
    }

    /// Whether a member shows rightly that a key was adopted.
    pub(crate) fn is_mark(&self, mark: &Mark) -> bool {
        self.must_serve(mark.pool).is_ok() && mark.holds(&self.voters)
    }

    /// This enclave acts from now on. What was said in its place before, it does not know.
    pub(crate) fn resumed(&mut self, marks: &[Mark]) {
        if core::mem::take(&mut self.is_newcomer) {
            marks.iter().for_each(|mark| raise(&mut self.marks, mark.clone()));
            self.unknown = marks.iter().map(|mark| (mark.pool.contract, mark.pool.number)).collect();
        }
    }

    /// Takes an epoch to be agreed on.
    pub(crate) fn take_epoch(&mut self, epoch: &SignedEpoch, effects: &mut Effects) -> Result<(), Rejection> {
        if self.knows(epoch) || self.is_candidate(epoch) {
            return Ok(());
        }
        let candidate = Candidate { hash: self.check_epoch(epoch)?.hash(), epoch: epoch.clone() };
        let decided = self.succession.as_ref().and_then(Agreement::decision);
        let is_decided = decided.is_some_and(|decision| decision.choice.value == value(candidate.hash));
        if self.candidates.len() >= MAX_CANDIDATES && !is_decided {
            return Err(Rejection::Busy);
        }
        effects.change();
        for known in &self.candidates {
            let (manifest, one, other) = (self.canonical().to_vec(), known.epoch.clone(), epoch.clone());
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

    /// Whether an epoch is in force, or was.
    pub(crate) fn knows(&self, epoch: &SignedEpoch) -> bool {
        self.manifests.values().any(|known| *known == epoch.manifest)
    }

    /// The manifest of an epoch whose turn it is, whoever has signed it.
    pub(crate) fn due_epoch(&self, epoch: &SignedEpoch) -> Result<Manifest, Rejection> {
        let manifest = Manifest::from_canonical(&epoch.manifest).map_err(|_| Rejection::InvalidEpoch)?;
        // One after the other: the carrier keeps it until its turn comes.
        let due = self.manifest.epoch.saturating_add(1);
        if manifest.epoch > due { Err(Rejection::Behind(manifest.epoch)) } else { Ok(manifest) }
    }

    /// The manifest of an epoch that may follow.
    pub(crate) fn check_epoch(&self, epoch: &SignedEpoch) -> Result<Manifest, Rejection> {
        self.due_epoch(epoch)?;
        let manifest = epoch.verify(&self.manifest).map_err(|_| Rejection::InvalidEpoch)?;
        // Quorums of members that remember each other's logs must meet, and shares be had for all.
        if manifest.members.len() != self.manifest.members.len() {
            return Err(Rejection::NewMembers);
        }
        check_returns(self.identities.values().copied(), &self.pool_managers, &self.manifest, &manifest)
            .map_err(|_| Rejection::InvalidEpoch)?;
        Ok(manifest)
    }

    /// Whether this enclave may follow the wallets' word alone to a cut: not if it has voted for another epoch in its place, which
    /// may be in force already. The DAO makes the cut on top of that one.
    pub(crate) fn may_be_cut(&self, next: ManifestHash) -> bool {
        let voted = self.succession.as_ref().and_then(Agreement::newest_vote);
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

    /// Whether an epoch is in force as soon as the wallets have signed it. There is nobody to agree before the DAO is founded,
    /// nor if an epoch makes a cut because nobody acts; and an enclave that is not the member's has no part in it.
    pub(crate) fn is_for_wallets_alone(&self, manifest: &Manifest) -> bool {
        self.voters.is_empty() || manifest.era() == manifest.epoch || self.footing() != Footing::Named
    }

    /// The epoch that the members have decided on, if it is here.
    pub(crate) fn decided_epoch(&self) -> Option<&SignedEpoch> {
        let Decision { choice, .. } = self.succession.as_ref()?.decision()?;
        let decided = self.candidates.iter().find(|known| value(known.hash) == choice.value)?;
        Some(&decided.epoch)
    }

    /// Takes a statement of an agreement.
    pub(crate) fn on_agreement(
        &mut self,
        statement: &Broadcast,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        let from = statement.slot.from;
        let Said { subject, attempt, content } = Said::of(statement).ok_or(Rejection::Invalid)?;
        let first = Attempt::first(self.voters_now().ok_or(Rejection::TooEarly)?);
        // A decision proves itself, whoever brings it; others may have new keys by the epoch that is decided.
        if !matches!(content, Content::Decide(..)) {
            if attempt.generation > first.generation {
                return Err(Rejection::TooEarly);
            }
            self.admission.not_cut_off(from)?;
            let speaker = self.admission.identity(from).ok_or(Rejection::NotAdmitted(from))?;
            if !statement.signed_digest().verify(speaker) {
                return Err(Rejection::NotAuthentic);
            }
        }
        match subject {
            Subject::Epoch(predecessor) if predecessor == self.manifest.hash() => {
                let agreement = self.succession.get_or_insert_with(|| Agreement::new(subject, first, false));
                among!(self, |electorate| agreement.hear(statement, &electorate, effects))
            }
            Subject::Epoch(predecessor) if self.agreed.contains_key(&predecessor) => {
                let signed = statement.signed_digest();
                if from == self.own() || !self.identities.values().any(|enclave| signed.verify(enclave)) {
                    return Err(Rejection::NotAuthentic);
                }
                // An epoch is long: once for each member, until time passes.
                if !self.caught_up.insert(from) {
                    return Err(Rejection::TooOften);
                }
                // Who tells the decision may lack the epoch, and nothing else.
                let knows = matches!(content, Content::Decide(..));
                self.catch_up(from, predecessor, knows, effects);
                Ok(())
            }
            Subject::Epoch(_) => Err(Rejection::TooEarly),
            Subject::Key(pool) => {
                self.must_serve(pool)?;
                if self.vault.contains(pool) {
                    return Ok(());
                }
                let agreement = self.agreements.get_mut(&pool).ok_or(Rejection::UnknownCeremony)?;
                among!(self, |electorate| agreement.hear(statement, &electorate, effects))?;
                let known = agreement.decision().map(|decision| decision.choice);
                if let (Content::Decide(_, Some(made)), Some(choice)) = (content, known)
                    && made.certificate.digest() == choice.value
                {
                    self.look_on(pool, choice.origin, &made, effects);
                }
                Ok(())
            }
        }
    }

    /// What is to be decided, and in which attempt this enclave is; not what it can't leave.
    pub(crate) fn undecided(&self) -> impl Iterator<Item = (Subject, Attempt)> {
        // Nobody waits for an epoch that nobody has signed.
        let succession = self.succession.iter().filter(|_| !self.candidates.is_empty());
        let all = succession.chain(self.agreements.values());
        all.filter(|agreement| agreement.may_quit(self.own()))
            .map(|agreement| (agreement.subject(), agreement.at()))
    }

    /// Leaves the current attempt at a decision.
    pub(crate) fn give_up(&mut self, subject: Subject, effects: &mut Effects) -> Result<(), Rejection> {
        let agreement = match subject {
            Subject::Epoch(predecessor) if predecessor == self.manifest.hash() => self.succession.as_mut(),
            Subject::Epoch(_) => None,
            Subject::Key(pool) => self.agreements.get_mut(&pool),
        };
        let agreement = agreement.ok_or(Rejection::NothingToLeave)?;
        among!(self, |electorate| agreement.quit(&electorate, effects))
    }

    /// Goes on with what is to be decided.
    pub(crate) fn decide(&mut self, effects: &mut Effects) {
        self.decide_epoch(effects);
        let requests: Vec<DepositRequest> = self.ledger.deposits().copied().collect();
        for request in requests {
            let pool = request.pool;
            let is_told = self.agreements.get(&pool).is_some_and(Agreement::is_told);
            if is_told && self.keygens.get(&pool).is_some_and(|run| run.key().is_some()) {
                continue;
            }
            let decided = self.decide_key(&request, effects);
            let is_higher = self.marks.get(&pool.contract).is_none_or(|mark| mark.pool.number < pool.number);
            if let Some(proof) = self.agreements.get(&pool).filter(|_| is_higher).and_then(Agreement::proof) {
                raise(&mut self.marks, Mark { pool, proof });
            }
            if let Some(choice) = decided {
                self.use_key(pool, choice.value, effects);
                self.tell_key(pool, effects);
            }
        }
    }

    /// Shows a member that goes by an old manifest what has followed on it.
    fn catch_up(&self, member: MemberId, predecessor: ManifestHash, knows: bool, effects: &mut Effects) {
        let Some(Agreed { manifest, signatures, decision }) = self.agreed.get(&predecessor) else { return };
        let Some(manifest) = self.manifests.get(manifest).cloned() else { return };
        let epoch = SignedEpoch { manifest, signatures: signatures.clone() };
        effects.tell(Recipient::One(member), &PeerMessage::Epoch(Box::new(epoch)));
        if let Some(decision) = decision.clone().filter(|_| !knows) {
            let statement = told(Subject::Epoch(predecessor), decision, None, &self.me());
            effects.tell(Recipient::One(member), &PeerMessage::Broadcast(statement));
        }
    }

    /// Says what is missing of the next epoch, whether or not this enclave acts: it may not, since it has missed that.
    pub(crate) fn tick_epoch(&mut self, effects: &mut Effects) {
        self.caught_up.clear();
        let subject = Subject::Epoch(self.manifest.hash());
        among!(self, |electorate| match self.succession.as_mut() {
            Some(agreement) if agreement.decision().is_some() => {
                // Whoever hears that knows which epoch is missing here.
                agreement.tell_again();
                agreement.tell(None, &electorate, effects);
            }
            _ if !self.notes.is_acting() => ask_for_decision(subject, &electorate, effects),
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
        });
    }

    /// Says what is missing of keys, and leaves attempts that wait for somebody who is away.
    pub(crate) fn tick_agreements(&mut self, effects: &mut Effects) {
        let away: Vec<MemberId> =
            self.without.iter().copied().filter(|member| self.is_away(*member)).collect();
        let is_away = |member: MemberId| away.contains(&member);
        for agreement in self.agreements.values() {
            among!(self, |electorate| agreement.on_tick(&electorate, effects));
        }
        for agreement in self.succession.iter_mut().chain(self.agreements.values_mut()) {
            among!(self, |electorate| {
                if agreement.waits_for_one_of(is_away, &electorate) {
                    let _ = agreement.quit(&electorate, effects);
                }
            });
        }
    }

    fn decide_epoch(&mut self, effects: &mut Effects) {
        let Some(first) = self.voters_now().map(Attempt::first) else { return };
        if self.candidates.is_empty() && self.succession.is_none() {
            return;
        }
        let subject = Subject::Epoch(self.manifest.hash());
        let agreement = self.succession.get_or_insert_with(|| Agreement::new(subject, first, false));
        among!(self, |electorate| {
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
        });
    }

    /// Goes on with a pool's key, until it is decided which it is.
    fn decide_key(&mut self, request: &DepositRequest, effects: &mut Effects) -> Option<Choice> {
        let pool = request.pool;
        if !self.agreements.contains_key(&pool) {
            let first = Attempt::first(self.voters_now()?);
            let unknowing = self.unknown.get(&pool.contract).is_some_and(|mark| pool.number <= *mark);
            self.agreements.insert(pool, Agreement::new(Subject::Key(pool), first, unknowing));
            effects.change();
        }
        let agreement = self.agreements.get_mut(&pool)?;
        if let Some(decision) = agreement.decision() {
            return Some(decision.choice);
        }
        among!(self, |electorate| agreement.change_voters(&electorate, effects));
        let run = self.keygens.get(&pool).filter(|run| run.terms().attempt == agreement.at());
        if let Some(run) = run.filter(|run| run.is_aborted()) {
            self.convicted.entry(pool).or_default().extend(run.convicted());
            // With cheats that are needed, another attempt is for the host to want: not one after the other without end.
            if self.without_cheats(pool).is_some() {
                let agreement = self.agreements.get_mut(&pool)?;
                let _ = among!(self, |electorate| agreement.quit(&electorate, effects));
            }
        }
        self.set_aside(pool, effects);
        self.propose_key(pool, effects);
        let agreement = self.agreements.get(&pool)?;
        let origin = agreement.at();
        let (again, run) = match agreement.proposal() {
            Some(Proposal::Again(choice)) => (Some(choice), None),
            // Cheats propose themselves.
            Some(Proposal::Run(run)) if self.includes_a_cheat(pool, &run) => {
                let agreement = self.agreements.get_mut(&pool)?;
                let _ = among!(self, |electorate| agreement.quit(&electorate, effects));
                (None, None)
            }
            Some(Proposal::Run(run)) => (None, Some(run)),
            None if origin.number == 0 => (None, Some(self.run_of_all(pool))),
            _ => (None, None),
        };
        if let Some(run) = &run {
            self.run(request, origin, run, effects);
        }
        let made = self.keygens.get(&pool).filter(|_| run.is_some()).and_then(Keygen::made);
        let choice = again.or(made.map(|certificate| Choice { value: certificate.digest(), origin }));
        let agreement = self.agreements.get_mut(&pool)?;
        if let Some(choice) = choice {
            among!(self, |electorate| agreement.vote(choice, &electorate, effects));
        }
        agreement.decision().map(|decision| decision.choice)
    }

    /// The run that this enclave would make a key by: without those that are away, and without cheats if others are enough.
    fn run_of_all(&self, pool: PoolId) -> Run {
        let operators = self.without_cheats(pool).unwrap_or_else(|| self.present(self.manifest.operators()));
        Run { manifest: self.manifest.hash(), operators }
    }

    /// Whether a run has a member that was convicted in an earlier attempt, though others are enough.
    fn includes_a_cheat(&self, pool: PoolId, run: &Run) -> bool {
        let convicted = self.convicted.get(&pool);
        let is_cheat = |operator: &MemberId| convicted.is_some_and(|convicted| convicted.contains(operator));
        run.operators.iter().any(is_cheat) && self.without_cheats(pool).is_some()
    }

    /// The operators that are there and were not convicted in earlier attempts, if they are enough.
    fn without_cheats(&self, pool: PoolId) -> Option<Vec<MemberId>> {
        let mut operators = self.present(self.manifest.operators());
        if let Some(convicted) = self.convicted.get(&pool) {
            operators.retain(|operator| !convicted.contains(operator));
        }
        self.manifest.is_operator_committee(&operators).then_some(operators)
    }

    /// Proposes among whom to make a key, if it is this enclave's turn.
    fn propose_key(&mut self, pool: PoolId, effects: &mut Effects) {
        let Some(agreement) = self.agreements.get(&pool) else { return };
        let Some(opening) = among!(self, |electorate| agreement.opening(&electorate)) else { return };
        let run = self.run_of_all(pool);
        let may_run = self.manifest.is_operator_committee(&run.operators)
            && self.admission.roster(&run.operators).is_some();
        let fresh = may_run.then_some(Proposal::Run(run));
        if let Some(agreement) = self.agreements.get_mut(&pool) {
            among!(self, |electorate| agreement.propose(opening, fresh, &electorate, effects));
        }
    }

    /// Takes the run of an attempt that is left out of what goes on. What this enclave has confirmed may yet be decided on.
    fn set_aside(&mut self, pool: PoolId, effects: &mut Effects) {
        let Some(agreement) = self.agreements.get(&pool) else { return };
        let at = agreement.at();
        let left = self.keygens.get(&pool).is_some_and(|run| run.terms().attempt != at);
        let Some(run) = left.then(|| self.keygens.remove(&pool)).flatten() else { return };
        effects.change();
        self.convicted.entry(pool).or_default().extend(run.convicted());
        if !run.has_confirmed() {
            return;
        }
        self.parked.insert(run.id(), run);
        let of_pool = self.parked.iter().filter(|(_, run)| run.terms().request.pool == pool);
        let mut runs: Vec<_> = of_pool.map(|(id, run)| (run.terms().attempt, *id)).collect();
        runs.sort_unstable();
        for (_, id) in runs.iter().rev().skip(MAX_PARKED) {
            self.parked.remove(id);
        }
    }

    /// Begins a run, unless it has begun. Another in its place is given up, as long as nothing was said in it that depends on
    /// what was heard: what this enclave has judged it may not forget, or it would say something else.
    fn run(&mut self, request: &DepositRequest, attempt: Attempt, run: &Run, effects: &mut Effects) {
        if let Some(known) = self.keygens.get(&request.pool) {
            let same = known.terms().request == *request && known.terms().operators == run.operators;
            if same || known.has_judged(self.own()) {
                return;
            }
        }
        if let Some((terms, roster)) = self.terms(request, attempt, run) {
            self.start(terms, roster, effects);
        }
    }

    fn start(&mut self, terms: KeygenTerms, roster: Roster, effects: &mut Effects) {
        effects.change();
        let pool = terms.request.pool;
        let run = lend!(self, effects, |scene| Keygen::start(terms, roster, scene));
        self.keygens.insert(pool, run);
    }

    /// The terms that a proposal gives, once all of its members are admitted.
    fn terms(&self, request: &DepositRequest, attempt: Attempt, run: &Run) -> Option<(KeygenTerms, Roster)> {
        self.terms_among(request, attempt, run, |manifest| {
            let named = |enclave: &Identity| manifest.identity(enclave.member) == Some(*enclave);
            let roster = self.admission.roster(&run.operators)?;
            roster.identities().iter().all(named).then_some(roster)
        })
    }

    fn terms_among(
        &self,
        request: &DepositRequest,
        attempt: Attempt,
        Run { manifest, operators }: &Run,
        roster: impl Fn(&Manifest) -> Option<Roster>,
    ) -> Option<(KeygenTerms, Roster)> {
        let manifest = Manifest::from_canonical(self.manifests.get(manifest)?).ok()?;
        let roster = roster(&manifest).filter(|_| manifest.is_operator_committee(operators))?;
        let terms = KeygenTerms {
            manifest: manifest.hash(),
            network: manifest.network,
            roster: roster.digest(),
            request: *request,
            pool_code: self.pool_manager(request.pool.contract)?.pool_code,
            operators: operators.clone(),
            threshold: manifest.thresholds.operator,
            attempt,
        };
        Some((terms, roster))
    }

    /// Looks on at the run that has made the key that was decided on. Its operators have all confirmed it, so this enclave can
    /// only be one of them if it has forgotten that.
    fn look_on(&mut self, pool: PoolId, attempt: Attempt, made: &Made, effects: &mut Effects) {
        let Made { manifest, certificate } = made;
        let here =
            self.keygens.values().chain(self.parked.values()).any(|run| run.id() == certificate.ceremony);
        let request = self.ledger.deposits().find(|request| request.pool == pool).copied();
        let Some(request) = request.filter(|_| !here && !certificate.operators.contains(&self.own())) else {
            return;
        };
        let run = Run { manifest: *manifest, operators: certificate.operators.clone() };
        // As they were then: machines may have been replaced since.
        let Some((terms, roster)) = self.terms_among(&request, attempt, &run, |manifest| {
            let enclaves = run.operators.iter().map(|operator| manifest.identity(*operator));
            Some(Roster::new(enclaves.collect::<Option<_>>()?))
        }) else {
            return;
        };
        if terms.ceremony() != certificate.ceremony {
            return;
        }
        if let Some(known) = self.keygens.remove(&pool).filter(Keygen::has_confirmed) {
            self.parked.insert(known.id(), known);
        }
        self.start(terms, roster, effects);
    }

    /// Uses the key that was decided on, as far as the run that makes it has come.
    fn use_key(&mut self, pool: PoolId, value: Digest, effects: &mut Effects) {
        let has_made = |run: &Keygen| run.made().is_some_and(|certificate| certificate.digest() == value);
        if !self.keygens.get(&pool).is_some_and(has_made) {
            let of_pool = |run: &Keygen| run.terms().request.pool == pool && has_made(run);
            let parked = self.parked.iter().find(|(_, run)| of_pool(run)).map(|(id, _)| *id);
            let Some(run) = parked.and_then(|id| self.parked.remove(&id)) else { return };
            effects.change();
            self.keygens.insert(pool, run);
        }
        lend!(self, effects, |scene| {
            if let Some(run) = self.keygens.get_mut(&pool).filter(|run| run.key().is_none()) {
                run.count(scene);
                // Now this enclave can say how the key was made.
                self.agreements.get_mut(&pool).into_iter().for_each(Agreement::tell_again);
            }
        });
        self.parked.retain(|_, run| run.terms().request.pool != pool);
    }

    fn tell_key(&mut self, pool: PoolId, effects: &mut Effects) {
        let key = self.keygens.get(&pool).and_then(|run| Some((run.terms().manifest, run.key()?)));
        let made = key.map(|(manifest, key)| Made { manifest, certificate: key.certificate.clone() });
        if let Some(agreement) = self.agreements.get_mut(&pool) {
            among!(self, |electorate| agreement.tell(made, &electorate, effects));
        }
    }

    /// Says what is missing to learn a key that others have decided on.
    pub(crate) fn tick_decided(&self, effects: &mut Effects) {
        for (pool, _) in self.agreements.iter().filter(|(_, agreement)| agreement.decision().is_some()) {
            if self.keygens.get(pool).is_none_or(|run| run.made().is_none()) {
                // What this enclave has confirmed may lack something of others.
                let parked = self.parked.values().filter(|run| run.terms().request.pool == *pool);
                parked.for_each(|run| run.on_tick(effects));
                among!(self, |electorate| ask_for_decision(Subject::Key(*pool), &electorate, effects));
            }
        }
    }
}

fn value(manifest: ManifestHash) -> Digest {
    Digest(manifest.0)
}
