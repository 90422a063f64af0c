//! Deposits for keys that the own enclave knows nothing of, though it takes part.
//!
//! If enough enclaves to prove a deposit are broken, they need no key that others have made. Then nobody else has anything to
//! compare with: that nothing came is all that shows.

use super::alerts::{self, Alert};
use super::{DaemonError, Shared, deposits};
use crate::chain::execution::{ChainError, Pool, PoolStatus as OnChain};
use postern_shared::ids::PoolId;
use postern_shared::wire::Standing;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// What is known of pools without a key of the own enclave's.
#[derive(Default)]
struct Pools {
    /// They had no deposit when this process looked first: what was before, a new machine's enclave is never told of.
    watched: BTreeSet<PoolId>,
    /// There is nothing more to see.
    over: BTreeSet<PoolId>,
    /// How often all were looked at: each look begins with another node.
    looks: usize,
}

impl Pools {
    /// Whether the pool has got its deposit before these eyes.
    fn has_been_deposited(&mut self, pool: PoolId, status: OnChain) -> bool {
        match status {
            OnChain::None => {}
            OnChain::Ready => drop(self.watched.insert(pool)),
            OnChain::Deposited | OnChain::ExitRequested if self.watched.contains(&pool) => return true,
            _ => drop(self.over.insert(pool)),
        }
        false
    }
}

/// Looks for them, for ever.
pub(super) async fn follow(shared: Arc<Shared>) -> DaemonError {
    let mut pools = Pools::default();
    loop {
        if let Err(error) = look(&shared, &mut pools).await {
            return error;
        }
        tokio::time::sleep(shared.turn).await;
    }
}

async fn look(shared: &Shared, pools: &mut Pools) -> Result<(), DaemonError> {
    pools.looks = pools.looks.wrapping_add(1);
    let acts = shared.enclave.status().await.is_ok_and(|status| status.standing == Standing::Acting);
    // As long as it may take until the last host has handed it in.
    let patience = shared.turn * u32::try_from(shared.manifest.members.len()).unwrap_or(u32::MAX);
    for pool in shared.store.pools_that(|pool| pool.deposit.is_none())? {
        let pool = pool.pool_id;
        if pools.over.contains(&pool) {
            continue;
        }
        let there = match there(shared, pool, pools).await {
            Ok(there) => there,
            Err(error) => {
                tracing::debug!(%pool, %error, "the pool can't be read");
                continue;
            }
        };
        let is_strange = pools.has_been_deposited(pool, there.status);
        let Some(found) = there.pubkey.filter(|_| is_strange) else { continue };
        let name = format!("stranger-{}", pool.text());
        if !acts {
            shared.turns.forget(&name);
        } else if shared.turns.has_waited(&name, patience, Instant::now()) {
            let transaction = deposits::transaction(shared, pool).await;
            alerts::raise(&shared.data_dir, &Alert::UnknownValidator { pool, found, transaction });
            pools.over.insert(pool);
        }
    }
    Ok(())
}

/// What the pool manager says of a pool for good. One node's word accuses nobody, and ends no watch nor begins one: most must say so.
async fn there(shared: &Shared, pool: PoolId, pools: &Pools) -> Result<Pool, ChainError> {
    let there = shared.execution.pool_in_turn(pool, true, pools.looks).await?;
    let is_new = there.status == OnChain::Ready && !pools.watched.contains(&pool);
    if is_new || there.status > OnChain::Ready {
        return shared.execution.pool_for_good(pool).await;
    }
    Ok(there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_shared::ids::Address;

    #[test]
    fn only_a_deposit_that_was_made_meanwhile_is_strange() {
        let [seen, before, refunded] = [1, 2, 3].map(|number| PoolId::new(1, Address([2; 20]), number));
        let mut pools = Pools::default();
        assert!(!pools.has_been_deposited(before, OnChain::Deposited), "a new machine is told nothing of it");
        assert!(pools.over.contains(&before));
        assert!(!pools.has_been_deposited(seen, OnChain::None));
        assert!(!pools.has_been_deposited(seen, OnChain::Ready));
        assert!(pools.has_been_deposited(seen, OnChain::Deposited));
        assert!(pools.has_been_deposited(seen, OnChain::ExitRequested));
        assert!(!pools.has_been_deposited(refunded, OnChain::Ready));
        assert!(!pools.has_been_deposited(refunded, OnChain::Refunded));
        assert_eq!(pools.over, [before, refunded].into());
    }
}
