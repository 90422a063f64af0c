//! Which key is a pool's: the runs that may make it, the members' agreement on one of them, and what is done with it then.
//! The agreement itself: [`agreement`](crate::agreement).

use super::Pools;
use crate::agreement::{Agreement, ask_for_decision};
use crate::ceremony::keygen::Keygen;
use crate::ceremony::{Ceremony as _, Scene};
use crate::dao::Dao;
use crate::effects::Effects;
use crate::witness::raise;
use postern_shared::agreement::{Attempt, Choice, Content, Made, Mark, Proposal, Run, Subject};
use postern_shared::events::DepositRequest;
use postern_shared::identity::{Identity, Roster};
use postern_shared::ids::{CeremonyId, Digest, MemberId, PoolId};
use postern_shared::keygen::KeygenTerms;
use postern_shared::manifest::Manifest;
use postern_shared::message::Broadcast;
use postern_shared::wire::Rejection;

/// Most keygens of one pool that this enclave has confirmed and that were not decided on. Each bounds what a settled pool
/// takes; of more, the oldest is forgotten.
const MAX_PARKED: usize = 8;

impl Pools {
    /// Takes a statement of the agreement on a pool's key.
    pub(crate) fn hear(
        &mut self,
        statement: &Broadcast,
        pool: PoolId,
        content: Content,
        dao: &Dao,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        self.touch(pool);
        dao.must_serve(pool)?;
        if self.vault.contains(pool) {
            return Ok(());
        }
        let agreement = self.agreements.get_mut(&pool).ok_or(Rejection::UnknownCeremony)?;
        agreement.hear(statement, &dao.electorate(), effects)?;
        let known = agreement.decision().map(|decision| decision.choice);
        if let (Content::Decide(_, Some(made)), Some(choice)) = (content, known)
            && made.certificate.digest() == choice.value
        {
            self.look_on(pool, choice.origin, &made, dao, effects);
        }
        Ok(())
    }

    /// Leaves the current attempt at deciding on a pool's key.
    pub(crate) fn give_up(
        &mut self,
        pool: PoolId,
        dao: &Dao,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        self.touch(pool);
        let agreement = self.agreements.get_mut(&pool).ok_or(Rejection::NothingToLeave)?;
        agreement.quit(&dao.electorate(), effects)
    }

    /// Goes on with a pool's key, as far as what is here allows.
    pub(super) fn go_on_with_key(&mut self, pool: PoolId, dao: &Dao, effects: &mut Effects) {
        let Some(request) = self.ledger.deposit(pool).copied() else { return };
        let is_told = self.agreements.get(&pool).is_some_and(Agreement::is_told);
        if is_told && self.keygens.current(pool).is_some_and(|run| run.key().is_some()) {
            return;
        }
        let decided = self.decide_key(&request, dao, effects);
        let is_higher = self.marks.get(&pool.contract).is_none_or(|mark| mark.pool.number < pool.number);
        if let Some(proof) = self.agreements.get(&pool).filter(|_| is_higher).and_then(Agreement::proof) {
            raise(&mut self.marks, Mark { pool, proof });
        }
        if let Some(choice) = decided {
            self.use_key(pool, choice.value, dao, effects);
            self.tell_key(pool, dao, effects);
        }
    }

    /// Goes on with a pool's key, until it is decided which it is.
    fn decide_key(&mut self, request: &DepositRequest, dao: &Dao, effects: &mut Effects) -> Option<Choice> {
        let pool = request.pool;
        let electorate = dao.electorate();
        if !self.agreements.contains_key(&pool) {
            let first = Attempt::first(dao.voters_now()?);
            let unknowing = self.unknown.get(&pool.contract).is_some_and(|mark| pool.number <= *mark);
            self.agreements.insert(pool, Agreement::new(Subject::Key(pool), first, unknowing));
            effects.change();
        }
        let agreement = self.agreements.get_mut(&pool)?;
        if let Some(decision) = agreement.decision() {
            return Some(decision.choice);
        }
        agreement.change_voters(&electorate, effects);
        let run = self.keygens.current(pool).filter(|run| run.terms().attempt == agreement.at());
        if let Some(run) = run.filter(|run| run.is_aborted()) {
            self.convicted.entry(pool).or_default().extend(run.convicted());
            // With cheats that are needed, another attempt is for the host to want: not one after the other without end.
            if self.without_cheats(pool, dao).is_some() {
                let _ = self.agreements.get_mut(&pool)?.quit(&electorate, effects);
            }
        }
        self.set_aside(pool, effects);
        self.propose_key(pool, dao, effects);
        let agreement = self.agreements.get(&pool)?;
        let origin = agreement.at();
        let (again, run) = match agreement.proposal() {
            Some(Proposal::Again(choice)) => (Some(choice), None),
            // Cheats propose themselves.
            Some(Proposal::Run(run)) if self.includes_a_cheat(pool, &run, dao) => {
                let _ = self.agreements.get_mut(&pool)?.quit(&electorate, effects);
                (None, None)
            }
            Some(Proposal::Run(run)) => (None, Some(run)),
            None if origin.number == 0 => (None, Some(self.run_of_all(pool, dao))),
            _ => (None, None),
        };
        if let Some(run) = &run {
            self.run(request, origin, run, dao, effects);
        }
        let made = self.keygens.current(pool).filter(|_| run.is_some()).and_then(Keygen::made);
        let choice = again.or(made.map(|certificate| Choice { value: certificate.digest(), origin }));
        let agreement = self.agreements.get_mut(&pool)?;
        if let Some(choice) = choice {
            agreement.vote(choice, &electorate, effects);
        }
        agreement.decision().map(|decision| decision.choice)
    }

    /// The run that this enclave would make a key by: without those that are away, and without cheats if others are enough.
    fn run_of_all(&self, pool: PoolId, dao: &Dao) -> Run {
        let all = || dao.present(dao.manifest.operators());
        let operators = self.without_cheats(pool, dao).unwrap_or_else(all);
        Run { manifest: dao.manifest.hash(), operators }
    }

    /// Whether a run has a member that was convicted in an earlier attempt, though others are enough.
    fn includes_a_cheat(&self, pool: PoolId, run: &Run, dao: &Dao) -> bool {
        let convicted = self.convicted.get(&pool);
        let is_cheat = |operator: &MemberId| convicted.is_some_and(|convicted| convicted.contains(operator));
        run.operators.iter().any(is_cheat) && self.without_cheats(pool, dao).is_some()
    }

    /// The operators that are there and were not convicted in earlier attempts, if they are enough.
    fn without_cheats(&self, pool: PoolId, dao: &Dao) -> Option<Vec<MemberId>> {
        let mut operators = dao.present(dao.manifest.operators());
        if let Some(convicted) = self.convicted.get(&pool) {
            operators.retain(|operator| !convicted.contains(operator));
        }
        dao.manifest.is_operator_committee(&operators).then_some(operators)
    }

    /// Proposes among whom to make a key, if it is this enclave's turn.
    fn propose_key(&mut self, pool: PoolId, dao: &Dao, effects: &mut Effects) {
        let electorate = dao.electorate();
        let Some(agreement) = self.agreements.get(&pool) else { return };
        let Some(opening) = agreement.opening(&electorate) else { return };
        let run = self.run_of_all(pool, dao);
        let may_run = dao.manifest.is_operator_committee(&run.operators)
            && dao.admission.roster(&run.operators).is_some();
        let fresh = may_run.then_some(Proposal::Run(run));
        if let Some(agreement) = self.agreements.get_mut(&pool) {
            agreement.propose(opening, fresh, &electorate, effects);
        }
    }

    /// Takes the run of an attempt that is left out of what goes on. What this enclave has confirmed may yet be decided on.
    fn set_aside(&mut self, pool: PoolId, effects: &mut Effects) {
        let Some(agreement) = self.agreements.get(&pool) else { return };
        let left = self.keygens.current(pool).filter(|run| run.terms().attempt != agreement.at());
        let Some(run) = left else { return };
        effects.change();
        self.convicted.entry(pool).or_default().extend(run.convicted());
        if !run.has_confirmed() {
            self.keygens.give_up(pool);
            return;
        }
        self.keygens.park(pool);
        let parked = self.keygens.parked_of(pool).map(|run| (run.terms().attempt, run.id()));
        let mut parked: Vec<(Attempt, CeremonyId)> = parked.collect();
        parked.sort_unstable();
        for (_, id) in parked.iter().rev().skip(MAX_PARKED) {
            self.keygens.forget_parked(*id);
        }
    }

    /// Begins a run, unless it has begun. Another in its place is given up, as long as nothing was said in it that depends on
    /// what was heard: what this enclave has judged it may not forget, or it would say something else.
    fn run(
        &mut self,
        request: &DepositRequest,
        attempt: Attempt,
        run: &Run,
        dao: &Dao,
        effects: &mut Effects,
    ) {
        if let Some(known) = self.keygens.current(request.pool) {
            let same = known.terms().request == *request && known.terms().operators == run.operators;
            if same || known.has_judged(dao.own()) {
                return;
            }
        }
        if let Some((terms, roster)) = terms(request, attempt, run, dao) {
            self.begin_keygen(terms, roster, dao, effects);
        }
    }

    fn begin_keygen(&mut self, terms: KeygenTerms, roster: Roster, dao: &Dao, effects: &mut Effects) {
        effects.change();
        self.keygens.begin(Keygen::start(terms, roster, &mut Scene { dao, effects }));
    }

    /// Looks on at the run that has made the key that was decided on. Its operators have all confirmed it, so this enclave can
    /// only be one of them if it has forgotten that.
    fn look_on(&mut self, pool: PoolId, attempt: Attempt, made: &Made, dao: &Dao, effects: &mut Effects) {
        let Made { manifest, certificate } = made;
        let here = self.keygens.contains(certificate.ceremony) || certificate.operators.contains(&dao.own());
        let Some(request) = self.ledger.deposit(pool).filter(|_| !here) else { return };
        let run = Run { manifest: *manifest, operators: certificate.operators.clone() };
        // As they were then: machines may have been replaced since.
        let Some((terms, roster)) = terms_among(request, attempt, &run, dao, |manifest| {
            let enclaves = run.operators.iter().map(|operator| manifest.identity(*operator));
            Some(Roster::new(enclaves.collect::<Option<_>>()?))
        }) else {
            return;
        };
        if terms.ceremony() != certificate.ceremony {
            return;
        }
        if self.keygens.current(pool).is_some_and(Keygen::has_confirmed) {
            self.keygens.park(pool);
        }
        self.begin_keygen(terms, roster, dao, effects);
    }

    /// Uses the key that was decided on, as far as the run that makes it has come.
    fn use_key(&mut self, pool: PoolId, value: Digest, dao: &Dao, effects: &mut Effects) {
        let has_made = |run: &Keygen| run.made().is_some_and(|certificate| certificate.digest() == value);
        if !self.keygens.current(pool).is_some_and(has_made) {
            let parked = self.keygens.parked_of(pool).find(|run| has_made(run)).map(Keygen::id);
            let Some(id) = parked else { return };
            effects.change();
            self.keygens.resume(id);
        }
        if let Some(run) = self.keygens.current_mut(pool).filter(|run| run.key().is_none()) {
            run.count(&mut Scene { dao, effects });
            // Now this enclave can say how the key was made.
            self.agreements.get_mut(&pool).into_iter().for_each(Agreement::tell_again);
        }
        self.keygens.forget_parked_of(pool);
    }

    fn tell_key(&mut self, pool: PoolId, dao: &Dao, effects: &mut Effects) {
        let key = self.keygens.current(pool).and_then(|run| Some((run.terms().manifest, run.key()?)));
        let made = key.map(|(manifest, key)| Made { manifest, certificate: key.public.certificate.clone() });
        if let Some(agreement) = self.agreements.get_mut(&pool) {
            agreement.tell(made, &dao.electorate(), effects);
        }
    }

    /// Says what is missing of the agreements on keys.
    pub(crate) fn tick_agreements(&self, dao: &Dao, effects: &mut Effects) {
        self.agreements.values().for_each(|agreement| agreement.on_tick(&dao.electorate(), effects));
    }

    /// Leaves attempts that wait for one of these, who are away.
    pub(crate) fn leave_if_away(&mut self, away: &[MemberId], dao: &Dao, effects: &mut Effects) {
        for agreement in self.agreements.values_mut() {
            agreement.leave_if_away(away, &dao.electorate(), effects);
        }
    }

    /// Says what is missing to learn a key that others have decided on.
    pub(super) fn tick_decided(&self, dao: &Dao, effects: &mut Effects) {
        for (pool, _) in self.agreements.iter().filter(|(_, agreement)| agreement.decision().is_some()) {
            if self.keygens.current(*pool).is_none_or(|run| run.made().is_none()) {
                // What this enclave has confirmed may lack something of others.
                self.keygens.parked_of(*pool).for_each(|run| run.on_tick(effects));
                ask_for_decision(Subject::Key(*pool), &dao.electorate(), effects);
            }
        }
    }
}

/// The terms that a proposal gives, once all of its members are admitted.
fn terms(request: &DepositRequest, attempt: Attempt, run: &Run, dao: &Dao) -> Option<(KeygenTerms, Roster)> {
    terms_among(request, attempt, run, dao, |manifest| {
        let named = |enclave: &Identity| manifest.identity(enclave.member) == Some(*enclave);
        let roster = dao.admission.roster(&run.operators)?;
        roster.identities().iter().all(named).then_some(roster)
    })
}

fn terms_among(
    request: &DepositRequest,
    attempt: Attempt,
    Run { manifest, operators }: &Run,
    dao: &Dao,
    roster: impl Fn(&Manifest) -> Option<Roster>,
) -> Option<(KeygenTerms, Roster)> {
    let manifest = dao.manifest_of(*manifest)?;
    let roster = roster(&manifest).filter(|_| manifest.is_operator_committee(operators))?;
    let terms = KeygenTerms {
        manifest: manifest.hash(),
        network: manifest.network,
        roster: roster.digest(),
        request: *request,
        pool_code: dao.pool_manager(request.pool.contract)?.pool_code,
        operators: operators.clone(),
        threshold: manifest.thresholds.operator,
        attempt,
    };
    Some((terms, roster))
}
