//! What begins when in a pool's life: a key when its deposit was asked for, a presign when its validator has an index, a
//! release when the DAO wants it out.
//!
//! # Cost
//! Whatever happens, only pools that it is about are looked at: they are *due*. All are when the DAO changes (who is a
//! member, who is admitted, who is away), and when time passes. A pool stays due until a look at it has changed nothing:
//! looking is a function of the state, so from then on another look would change nothing either. So what is due is not
//! part of the state, and an enclave that was restored begins with all.

use super::Pools;
use crate::ceremony::presign::Presign;
use crate::ceremony::release::Release;
use crate::ceremony::{Ceremony as _, Scene};
use crate::dao::Dao;
use crate::effects::Effects;
use postern_shared::ethereum::VoluntaryExit;
use postern_shared::ids::{CeremonyId, MemberId, PoolId};
use postern_shared::presign::PresignTerms;
use postern_shared::release::ReleaseTerms;
use std::collections::BTreeSet;

/// Most presigns that go on at a time.
const MAX_CEREMONIES: usize = 100_000;

/// Most presigns of one pool. Each is begun by another answer of this host, or another set of members that are there; beyond
/// that a pool stands still. They bound what a settled pool takes: at most 8 · 80 KB with 40 members, below
/// [`crate::log::journal::MAX_CONTENT`].
const MAX_PRESIGNS: usize = 8;

/// Presigned exits are valid from the first epoch on, so that they are ripe whenever they are needed.
const EXIT_EPOCH: u64 = 0;

/// Pools that something has happened to since they were looked at.
pub(super) enum Touched {
    All,
    These(BTreeSet<PoolId>),
}

impl Default for Touched {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Pools {
    /// Something has happened that is about this pool.
    pub(crate) fn touch(&mut self, pool: PoolId) {
        if let Touched::These(pools) = &mut self.touched {
            pools.insert(pool);
        }
    }

    /// Something has happened that is about all pools.
    pub(crate) fn touch_all(&mut self) {
        self.touched = Touched::All;
    }

    /// Goes on with everything that is due: first with keys, then with presigns, then with releases.
    pub(crate) fn go_on(&mut self, dao: &Dao, effects: &mut Effects) {
        let due = match core::mem::take(&mut self.touched) {
            Touched::All => self.ledger.pools(),
            Touched::These(pools) => pools,
        };
        let mut still_due = BTreeSet::new();
        let mut look = |look_at: &mut dyn FnMut(PoolId, &mut Effects)| {
            for pool in &due {
                if effects.changed_by(|effects| look_at(*pool, effects)) {
                    still_due.insert(*pool);
                }
            }
        };
        look(&mut |pool, effects| self.go_on_with_key(pool, dao, effects));
        look(&mut |pool, effects| self.begin_presign(pool, dao, effects));
        look(&mut |pool, effects| self.begin_releases(pool, dao, effects));
        still_due.into_iter().for_each(|pool| self.touch(pool));
    }

    fn begin_presign(&mut self, pool: PoolId, dao: &Dao, effects: &mut Effects) {
        let Some((pubkey, validator_index)) = self.ledger.validator(pool) else { return };
        let guardians = dao.present(dao.manifest.guardians());
        if !dao.manifest.is_guardian_committee(&guardians) {
            return;
        }
        let is_of_validator = |presign: &Presign| presign.terms().exit.validator_index == validator_index;
        let is_done = |presign: &Presign| presign.finished().is_some() && is_of_validator(presign);
        if self.presigns.of_pool(pool).count() >= MAX_PRESIGNS || self.presigns.of_pool(pool).any(is_done) {
            return;
        }
        if self.presigns.len() >= MAX_CEREMONIES {
            // Others have to end first.
            self.touch(pool);
            return;
        }
        let Some(keygen) = self.keygens.current(pool) else { return };
        let Some(key) = keygen.key().filter(|key| key.public.certificate.pubkey() == pubkey) else { return };
        // An enclave that has taken another's place has no share of the key.
        let has_share =
            |operator: &MemberId| dao.admission.enclave(*operator) == keygen.roster().get(*operator);
        let mut operators = dao.present(keygen.terms().operators.clone());
        operators.retain(has_share);
        let all: Vec<MemberId> = operators.iter().chain(&guardians).copied().collect();
        let Some(roster) = dao.admission.roster(&all) else { return };
        let terms = PresignTerms {
            manifest: dao.manifest.hash(),
            roster: roster.digest(),
            network: dao.manifest.network,
            pool,
            certificate: key.public.certificate.clone(),
            operators,
            guardians,
            guardian_threshold: dao.manifest.thresholds.guardian,
            exit: VoluntaryExit { epoch: EXIT_EPOCH, validator_index },
        };
        if terms.operators_can_sign() && !self.presigns.contains(terms.ceremony()) {
            self.presigns.insert(Presign::start(terms, roster, key, &mut Scene { dao, effects }));
        }
    }

    fn begin_releases(&mut self, pool: PoolId, dao: &Dao, effects: &mut Effects) {
        for source in self.ledger.wishes(pool).to_vec() {
            let live = self.presigns.of_pool(pool).map(Presign::id);
            let ceremonies: Vec<CeremonyId> = live.chain(self.vault.presigns_of(pool)).collect();
            for ceremony in ceremonies {
                if self.releases.contains(ReleaseTerms::ceremony_of(ceremony, source)) {
                    continue;
                }
                let Some(presign) = self.presign(ceremony, &dao.me()) else { continue };
                let terms = ReleaseTerms { presign: presign.terms().clone(), source };
                effects.change();
                let release = Release::start(terms, &presign, &mut Scene { dao, effects });
                drop(presign);
                self.releases.insert(release);
            }
        }
    }
}
