//! Released exits on their way to the beacon chain.

use super::{DaemonError, Shared};
use postern_shared::ethereum::SignedVoluntaryExit;
use postern_shared::ids::PoolId;

/// Posts an exit until the validator is seen leaving.
pub(super) async fn post(
    shared: &Shared,
    pool: PoolId,
    exit: &SignedVoluntaryExit,
) -> Result<bool, DaemonError> {
    if let Some(pubkey) = shared.store.pool(pool)?.and_then(|known| known.pubkey) {
        match shared.beacon.head_validator(&pubkey).await {
            Ok(Some(validator)) if validator.status.is_leaving() => {
                shared.store.change_pool(pool, |status| {
                    status.beacon_status = Some(validator.status);
                })?;
                return Ok(true);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%pool, %error, "the beacon chain can't be read"),
        }
    }
    match shared.beacon.post_exit(exit).await {
        Ok(posted) => tracing::info!(%pool, nodes = posted.accepted.len(), "the exit is posted"),
        Err(error) => tracing::warn!(%pool, %error, "the exit is not taken; trying again"),
    }
    Ok(false)
}
