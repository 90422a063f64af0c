//! Runs of ceremonies, found by their id and by their pool: however many there are, what is said in one costs the same.

use crate::ceremony::Ceremony;
use crate::ceremony::keygen::Keygen;
use postern_shared::ids::{CeremonyId, PoolId};
use std::collections::{BTreeMap, BTreeSet};

/// Runs of one kind of ceremony.
pub(crate) struct Runs<T> {
    by_id: BTreeMap<CeremonyId, T>,
    of_pool: BTreeMap<PoolId, BTreeSet<CeremonyId>>,
}

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), of_pool: BTreeMap::new() }
    }
}

impl<T: Ceremony> Runs<T> {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn contains(&self, id: CeremonyId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(crate) fn get(&self, id: CeremonyId) -> Option<&T> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: CeremonyId) -> Option<&mut T> {
        self.by_id.get_mut(&id)
    }

    /// Adds a run, in the place of one with its id.
    pub(crate) fn insert(&mut self, run: T) {
        self.of_pool.entry(run.pool()).or_default().insert(run.id());
        self.by_id.insert(run.id(), run);
    }

    pub(crate) fn remove(&mut self, id: CeremonyId) -> Option<T> {
        let run = self.by_id.remove(&id)?;
        if let Some(ids) = self.of_pool.get_mut(&run.pool()) {
            ids.remove(&id);
            if ids.is_empty() {
                self.of_pool.remove(&run.pool());
            }
        }
        Some(run)
    }

    /// All runs of a pool, in the order of their ids.
    pub(crate) fn of_pool(&self, pool: PoolId) -> impl Iterator<Item = &T> {
        let ids = self.of_pool.get(&pool).into_iter().flatten();
        ids.filter_map(|id| self.by_id.get(id))
    }

    pub(crate) fn remove_of_pool(&mut self, pool: PoolId) -> Vec<T> {
        let ids = self.of_pool.remove(&pool).into_iter().flatten();
        ids.filter_map(|id| self.by_id.remove(&id)).collect()
    }

    /// All, in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.by_id.values()
    }

    /// All, in the order of their ids.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.by_id.values_mut()
    }
}

/// Keygens of pools that are open: of each, the run of the current attempt or the one that was decided on, and beside it
/// runs of earlier attempts that this enclave has confirmed. These are parked: they may yet be decided on.
#[derive(Default)]
pub(crate) struct Keygens {
    current: BTreeMap<PoolId, CeremonyId>,
    runs: Runs<Keygen>,
}

impl Keygens {
    /// The run that goes on for a pool.
    pub(crate) fn current(&self, pool: PoolId) -> Option<&Keygen> {
        self.runs.get(*self.current.get(&pool)?)
    }

    pub(crate) fn current_mut(&mut self, pool: PoolId) -> Option<&mut Keygen> {
        self.runs.get_mut(*self.current.get(&pool)?)
    }

    /// Any run, parked ones too.
    pub(crate) fn get_mut(&mut self, id: CeremonyId) -> Option<&mut Keygen> {
        self.runs.get_mut(id)
    }

    pub(crate) fn contains(&self, id: CeremonyId) -> bool {
        self.runs.contains(id)
    }

    /// Whether any run of a pool is parked.
    pub(crate) fn has_parked(&self, pool: PoolId) -> bool {
        self.parked_of(pool).next().is_some()
    }

    pub(crate) fn parked_of(&self, pool: PoolId) -> impl Iterator<Item = &Keygen> {
        let current = self.current.get(&pool).copied();
        self.runs.of_pool(pool).filter(move |run| Some(run.id()) != current)
    }

    /// Those that go on, in the order of their pools.
    pub(crate) fn all_current(&self) -> impl Iterator<Item = &Keygen> {
        self.current.values().filter_map(|id| self.runs.get(*id))
    }

    /// Those that are parked, in the order of their ids.
    pub(crate) fn all_parked(&self) -> impl Iterator<Item = &Keygen> {
        self.runs.iter().filter(|run| self.current.get(&run.pool()) != Some(&run.id()))
    }

    /// From now on this run goes on for its pool; the one before is given up.
    pub(crate) fn begin(&mut self, run: Keygen) {
        self.give_up(run.pool());
        self.current.insert(run.pool(), run.id());
        self.runs.insert(run);
    }

    /// Gives up the run that goes on for a pool.
    pub(crate) fn give_up(&mut self, pool: PoolId) {
        if let Some(id) = self.current.remove(&pool) {
            self.runs.remove(id);
        }
    }

    /// Parks the run that goes on for a pool.
    pub(crate) fn park(&mut self, pool: PoolId) {
        self.current.remove(&pool);
    }

    /// Adds a run that is parked.
    pub(crate) fn add_parked(&mut self, run: Keygen) {
        self.runs.insert(run);
    }

    /// Has a parked run go on for its pool; the one before is given up.
    pub(crate) fn resume(&mut self, id: CeremonyId) {
        let Some(pool) = self.runs.get(id).map(Ceremony::pool) else { return };
        self.give_up(pool);
        self.current.insert(pool, id);
    }

    pub(crate) fn forget_parked(&mut self, id: CeremonyId) {
        self.runs.remove(id);
    }

    /// Forgets all runs of a pool but the one that goes on.
    pub(crate) fn forget_parked_of(&mut self, pool: PoolId) {
        let parked: Vec<CeremonyId> = self.parked_of(pool).map(Ceremony::id).collect();
        parked.into_iter().for_each(|id| self.forget_parked(id));
    }

    /// Forgets all runs of a pool.
    pub(crate) fn forget(&mut self, pool: PoolId) {
        self.current.remove(&pool);
        self.runs.remove_of_pool(pool);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_shared::ids::Address;

    /// Of which pool, and which run.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Dummy(u32, u8);

    impl Ceremony for Dummy {
        fn id(&self) -> CeremonyId {
            CeremonyId([self.1; 32])
        }

        fn pool(&self) -> PoolId {
            PoolId::new(1, Address([0; 20]), self.0)
        }
    }

    fn of_pool(runs: &Runs<Dummy>, pool: u32) -> Vec<u8> {
        runs.of_pool(Dummy(pool, 0).pool()).map(|run| run.1).collect()
    }

    #[test]
    fn a_run_is_found_by_its_id_and_by_its_pool_until_it_is_gone() {
        let mut runs = Runs::default();
        for run in [Dummy(1, 3), Dummy(1, 1), Dummy(2, 2)] {
            runs.insert(run);
        }
        assert_eq!((of_pool(&runs, 1), of_pool(&runs, 2)), (vec![1, 3], vec![2]));
        assert_eq!(runs.iter().map(|run| run.1).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(runs.remove(Dummy(1, 3).id()), Some(Dummy(1, 3)));
        assert_eq!((runs.get(Dummy(1, 3).id()), of_pool(&runs, 1)), (None, vec![1]));
        assert_eq!(runs.remove(Dummy(1, 3).id()), None);
        assert_eq!(runs.remove_of_pool(Dummy(1, 0).pool()), [Dummy(1, 1)]);
        assert_eq!((runs.len(), of_pool(&runs, 1), of_pool(&runs, 2)), (1, vec![], vec![2]));
        // A pool that comes again begins with nothing of what it had.
        runs.insert(Dummy(1, 4));
        assert_eq!(of_pool(&runs, 1), [4]);
    }
}
