//! Pools: what has happened to them, and every ceremony that is about one.
//!
//! A pool is *open* from the first that is heard of it until its exit is presigned and packed; then it is *settled*
//! ([`vault`]). [`plan`] says what begins when, [`keys`] how a pool gets its key, [`ledger`] what is known of the chains.

mod keys;
mod ledger;
mod plan;
mod runs;
pub(crate) mod vault;

use crate::agreement::Agreement;
use crate::ceremony::keygen::Keygen;
use crate::ceremony::presign::Presign;
use crate::ceremony::release::Release;
use crate::ceremony::{Ceremony as _, Scene};
use crate::crypto::keys::Me;
use crate::dao::Dao;
use crate::effects::Effects;
use core::ops::Deref;
use ledger::Ledger;
use plan::Touched;
use postern_shared::agreement::Mark;
use postern_shared::ethereum::DepositMessage;
use postern_shared::events::ChainEvent;
use postern_shared::identity::Roster;
use postern_shared::ids::{Address, CeremonyId, MemberId, PoolId};
use postern_shared::message::{Broadcast, Envelope, Slot, Step};
use postern_shared::wire::Rejection;
use runs::{Keygens, Runs};
use std::collections::{BTreeMap, BTreeSet};
use vault::{Settled, Vault};

/// See the module.
#[derive(Default)]
pub(crate) struct Pools {
    pub(crate) ledger: Ledger,
    /// On each open pool's key.
    pub(crate) agreements: BTreeMap<PoolId, Agreement>,
    /// Of each pool manager, the highest pool of which a key was adopted, as far as this enclave knows; and up to which it
    /// does not know what the machine before it has said.
    pub(crate) marks: BTreeMap<Address, Mark>,
    pub(crate) unknown: BTreeMap<Address, u32>,
    pub(crate) keygens: Keygens,
    /// Who was convicted in runs that were given up.
    pub(crate) convicted: BTreeMap<PoolId, BTreeSet<MemberId>>,
    pub(crate) presigns: Runs<Presign>,
    pub(crate) releases: Runs<Release>,
    pub(crate) vault: Vault,
    /// Splits that came after their presigns were settled, until these are packed again.
    pub(crate) late: BTreeMap<CeremonyId, Vec<Broadcast>>,
    /// Who has come late with a split that is none. Not part of the state: what they say is refused in any case.
    refused_late: BTreeSet<(CeremonyId, MemberId)>,
    /// Not part of the state.
    touched: Touched,
}

impl Pools {
    /// Takes note of what has happened on a chain; says whether that is new.
    ///
    /// Hosts err, so an event takes the place of another one like it as long as nothing that left this enclave depends on
    /// it: a deposit until this enclave has judged a run for it, a validator's index until its exit is presigned and packed. That
    /// the DAO wants a pool out is only ever added to.
    pub(crate) fn observe(&mut self, event: &ChainEvent, own: MemberId) -> Result<bool, Rejection> {
        let may_correct = match event {
            ChainEvent::DepositRequested(request) => {
                let pool = request.pool;
                let judged = self.keygens.current(pool).is_some_and(|run| run.has_judged(own));
                let voted = self.agreements.get(&pool).is_some_and(Agreement::has_voted);
                !judged && !self.keygens.has_parked(pool) && !voted
            }
            ChainEvent::ValidatorIndexed { .. } | ChainEvent::ExitRequested { .. } => true,
        };
        self.touch(event.pool());
        if self.vault.contains(event.pool()) {
            self.vault.observe(event)?;
            self.ledger.observe_settled(event)
        } else {
            self.ledger.observe(*event, self.vault.len(), may_correct)
        }
    }

    /// Says what ceremonies wait for.
    pub(crate) fn on_tick(&mut self, dao: &Dao, effects: &mut Effects) {
        self.touch_all();
        self.tick_decided(dao, effects);
        self.keygens.all_current().for_each(|keygen| keygen.on_tick(effects));
        let scene = &mut Scene { dao, effects };
        self.presigns.iter_mut().for_each(|presign| presign.on_tick(scene));
        for release in self.releases.iter_mut().filter(|release| !release.is_finished()) {
            if let Some(presign) = presign_of(release, &self.presigns, &self.vault, &self.late, &dao.me()) {
                release.on_tick(&presign, scene);
            }
        }
    }

    /// Releases for which it is this enclave's turn to collect.
    pub(crate) fn due(&self) -> Vec<CeremonyId> {
        self.releases.iter().filter(|release| release.is_due()).map(Release::id).collect()
    }

    /// Collects for a release: this enclave's turn has come.
    pub(crate) fn collect(&mut self, ceremony: CeremonyId, dao: &Dao, effects: &mut Effects) {
        let Some(release) = self.releases.get_mut(ceremony) else { return };
        if let Some(presign) = presign_of(release, &self.presigns, &self.vault, &self.late, &dao.me()) {
            release.collect(&presign, &mut Scene { dao, effects });
        }
    }

    /// Routes a statement to its ceremony. Who speaks is told by the ceremony's own roster.
    pub(crate) fn on_statement(
        &mut self,
        statement: &Broadcast,
        dao: &Dao,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        let from = statement.slot.from;
        let ceremony = statement.slot.ceremony;
        let authentic = |roster: &Roster| match roster.get(from) {
            None => Err(Rejection::NotAMember(from)),
            Some(speaker) if statement.signed_digest().verify(speaker) => Ok(()),
            Some(_) => Err(Rejection::NotAuthentic),
        };
        // An exit that was released proves itself, whoever has said it.
        if statement.slot.step != Step::Released {
            dao.admission.not_cut_off(from)?;
        }
        if self.vault.is_settled(ceremony) {
            return self.on_late(statement, dao, effects);
        }
        let scene = &mut Scene { dao, effects };
        if let Some(keygen) = self.keygens.get_mut(ceremony) {
            let pool = keygen.pool();
            authentic(keygen.roster())?;
            // All operators make a key, or none does: with one that is cut off, it stands still.
            keygen.roster().members().try_for_each(|member| dao.admission.not_cut_off(member))?;
            let taken = keygen.on_statement(statement.clone(), scene);
            self.touch(pool);
            return taken;
        }
        if let Some(presign) = self.presigns.get_mut(ceremony) {
            let pool = presign.pool();
            authentic(presign.roster())?;
            let taken = presign.on_statement(statement.clone(), scene);
            self.touch(pool);
            return taken;
        }
        let release = self.releases.get_mut(ceremony).ok_or(Rejection::UnknownCeremony)?;
        // All that is cheap comes before a settled pool is unpacked.
        let presign = release.presign();
        let roster = roster_of(&self.presigns, &self.vault, presign).ok_or(Rejection::UnknownCeremony)?;
        authentic(roster)?;
        if release.has_heard(statement) {
            return Ok(());
        }
        if release.is_ignored(statement) {
            return Err(Rejection::Invalid);
        }
        let presign = presign_of(release, &self.presigns, &self.vault, &self.late, &dao.me())
            .ok_or(Rejection::UnknownCeremony)?;
        release.on_statement(statement.clone(), &presign, scene)
    }

    /// Of a ceremony that is settled, only a split that has not come so far is of use.
    fn on_late(&mut self, statement: &Broadcast, dao: &Dao, effects: &mut Effects) -> Result<(), Rejection> {
        let Slot { ceremony, from, .. } = statement.slot;
        let mut late = self.late.get(&ceremony).into_iter().flatten();
        let known = late.any(|said| said.slot.from == from) || self.refused_late.contains(&(ceremony, from));
        let Some(roster) = self.vault.silent(ceremony, from).filter(|_| !known) else { return Ok(()) };
        let speaker = roster.get(from).ok_or(Rejection::NotAMember(from))?;
        if !statement.signed_digest().verify(speaker) {
            return Err(Rejection::NotAuthentic);
        }
        let late = self.late.get(&ceremony).map(Vec::as_slice).unwrap_or_default();
        let presign = self.vault.presign(ceremony, late, &dao.me());
        let mut presign = presign.ok_or(Rejection::UnknownCeremony)?;
        let kept = presign.on_late_split(statement, &mut Scene { dao, effects });
        // To find that out once is enough.
        if kept.is_err() {
            self.refused_late.insert((ceremony, from));
        }
        if kept? {
            self.late.entry(ceremony).or_default().push(statement.clone());
        }
        Ok(())
    }

    /// Takes a secret that was sealed to this enclave: a guardian's share, for a release.
    pub(crate) fn on_envelope(
        &mut self,
        envelope: &Envelope,
        dao: &Dao,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        let slot = envelope.header.slot;
        if envelope.header.to != dao.own() {
            return Err(Rejection::Misdirected);
        }
        dao.admission.not_cut_off(slot.from)?;
        let release = self.releases.get_mut(slot.ceremony).ok_or(Rejection::UnknownCeremony)?;
        if !release.expects(envelope) {
            return Err(Rejection::Invalid);
        }
        // All that is cheap comes before a settled pool is unpacked.
        let presign = release.presign();
        let roster = roster_of(&self.presigns, &self.vault, presign).ok_or(Rejection::UnknownCeremony)?;
        let sender = roster.get(slot.from).ok_or(Rejection::NotAMember(slot.from))?;
        let plaintext = dao.keys.open(sender, envelope).ok_or(Rejection::NotAuthentic)?;
        if release.is_finished() {
            return Ok(());
        }
        let presign = presign_of(release, &self.presigns, &self.vault, &self.late, &dao.me())
            .ok_or(Rejection::UnknownCeremony)?;
        release.on_shares(slot.from, &plaintext, &presign, &mut Scene { dao, effects })
    }

    /// What the pool's key has to sign, once the members have agreed on the key.
    pub(crate) fn deposit_message(&self, pool: PoolId) -> Option<DepositMessage> {
        let run = self.keygens.current(pool);
        let open =
            run.and_then(|run| Some(run.terms().deposit_message(run.key()?.public.certificate.pubkey())));
        open.or_else(|| self.vault.deposit_message(pool))
    }

    /// Pools whose exit is presigned, packed, and settled ones of which more is known since; about `most` bytes of them.
    pub(crate) fn settled(&self, most: usize, me: &Me<'_>) -> Vec<Settled> {
        let settle = |keygen: &Keygen| {
            let pool = keygen.pool();
            let index = self.ledger.validator(pool)?.1;
            let finished = |presign: &Presign| {
                presign.finished().is_some() && presign.terms().exit.validator_index == index
            };
            self.presigns.of_pool(pool).find(|presign| finished(presign))?;
            let presigns = self.presigns.of_pool(pool).map(Presign::settle).collect();
            Some(Settled::pack(pool, keygen.settle()?, presigns))
        };
        let again = self.late.keys().filter_map(|ceremony| self.vault.repack(*ceremony, &self.late, me));
        let mut size = 0_usize;
        let fits = |settled: &Settled| {
            let first = size == 0;
            size = size.saturating_add(settled.size());
            first || size <= most
        };
        // A pool of which two presigns have late splits is packed with both.
        let mut seen = BTreeSet::new();
        let all = self.keygens.all_current().filter_map(settle).chain(again);
        all.filter(|settled| seen.insert(settled.pool)).take_while(fits).collect()
    }

    /// Moves settled pools out of what goes on.
    pub(crate) fn keep_settled(&mut self, settled: Vec<Settled>) {
        for one in &settled {
            self.ledger.forget(one.pool);
            self.agreements.remove(&one.pool);
            self.convicted.remove(&one.pool);
            self.keygens.forget(one.pool);
            for presign in self.presigns.remove_of_pool(one.pool) {
                self.vault.keep_roster(presign.roster());
            }
            for ceremony in one.presigns() {
                self.late.remove(&ceremony);
            }
        }
        self.vault.keep(settled);
    }

    /// Rebuilds what is not part of the state, after that was restored.
    pub(crate) fn restored(&mut self) {
        self.touch_all();
    }

    fn presign(&self, ceremony: CeremonyId, me: &Me<'_>) -> Option<Found<'_>> {
        find(&self.presigns, &self.vault, &self.late, me, ceremony)
    }
}

fn roster_of<'a>(presigns: &'a Runs<Presign>, vault: &'a Vault, ceremony: CeremonyId) -> Option<&'a Roster> {
    presigns.get(ceremony).map(Presign::roster).or_else(|| vault.roster(ceremony))
}

/// A presign that goes on, or one that was settled and is made of the vault's bytes again.
enum Found<'a> {
    Live(&'a Presign),
    Settled(Box<Presign>),
}

impl Deref for Found<'_> {
    type Target = Presign;

    fn deref(&self) -> &Presign {
        match self {
            Self::Live(presign) => presign,
            Self::Settled(presign) => presign,
        }
    }
}

/// What a release is of.
fn presign_of<'a>(
    release: &Release,
    presigns: &'a Runs<Presign>,
    vault: &Vault,
    late: &BTreeMap<CeremonyId, Vec<Broadcast>>,
    me: &Me<'_>,
) -> Option<Found<'a>> {
    find(presigns, vault, late, me, release.presign())
}

fn find<'a>(
    presigns: &'a Runs<Presign>,
    vault: &Vault,
    late: &BTreeMap<CeremonyId, Vec<Broadcast>>,
    me: &Me<'_>,
    ceremony: CeremonyId,
) -> Option<Found<'a>> {
    let settled = || {
        let late = late.get(&ceremony).map(Vec::as_slice).unwrap_or_default();
        vault.presign(ceremony, late, me).map(|presign| Found::Settled(Box::new(presign)))
    };
    presigns.get(ceremony).map(Found::Live).or_else(settled)
}
