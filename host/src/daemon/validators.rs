//! The pools' validators on the beacon chain: their index once final, and how they are.

use super::alerts::{self, Alert};
use super::{DaemonError, Shared};
use crate::chain::beacon::Validator;
use crate::status::PoolStatus;
use crate::store::StoreError;
use postern_shared::bls::PublicKey;
use postern_shared::ethereum::DepositData;
use postern_shared::events::ChainEvent;
use std::sync::Arc;

/// Looks for ever.
pub(super) async fn follow(shared: Arc<Shared>) -> DaemonError {
    loop {
        if let Err(error) = look(&shared).await {
            return error.into();
        }
        tokio::time::sleep(shared.poll).await;
    }
}

/// Looks at all of them.
async fn look(shared: &Shared) -> Result<(), StoreError> {
    for pool in shared.store.pools()? {
        let Some(pubkey) = pool.pubkey else { continue };
        if pool.validator_index.is_none() {
            match shared.beacon.finalized_validator(&pubkey).await {
                // With a validator whose stake goes elsewhere, nothing goes on.
                Ok(Some(validator)) if !is_own(shared, &pool, &validator) => {}
                Ok(Some(validator)) => {
                    let validator_index = validator.index;
                    let event = ChainEvent::ValidatorIndexed { pool: pool.pool_id, pubkey, validator_index };
                    tracing::info!(pool = %pool.pool_id, validator_index, "the validator has its index");
                    shared.store.keep_events(&[event], None)?;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the beacon chain can't be read"),
            }
        }
        let at_head = match shared.beacon.head_validator(&pubkey).await {
            Ok(found) => found.map(|validator| validator.status),
            Err(error) => {
                tracing::debug!(%error, "the beacon chain can't be read");
                continue;
            }
        };
        let Some(at_head) = at_head else { continue };
        // Any one node can say so of the head.
        let has_left = pool.has_left || at_head.has_exited() && has_left(shared, &pubkey).await;
        shared.store.change_pool(pool.pool_id, |status| {
            (status.beacon_status, status.has_left) = (Some(at_head), has_left);
        })?;
    }
    Ok(())
}

/// Whether a validator has left, for good.
async fn has_left(shared: &Shared, pubkey: &PublicKey) -> bool {
    match shared.beacon.finalized_validator(pubkey).await {
        Ok(found) => found.is_some_and(|validator| validator.status.has_exited()),
        Err(error) => {
            tracing::warn!(%error, "the beacon chain can't be read");
            false
        }
    }
}

/// Whether the stake of a pool's validator goes where the enclaves wanted it to.
fn is_own(shared: &Shared, pool: &PoolStatus, validator: &Validator) -> bool {
    let Some(DepositData { message, .. }) = pool.deposit else { return true };
    let (found, made) = (validator.withdrawal_credentials, message.withdrawal_credentials);
    if found != made {
        let (pool, validator) = (pool.pool_id, message.pubkey);
        alerts::raise(&shared.data_dir, &Alert::OtherCredentials { pool, validator, found, made });
    }
    found == made
}
