//! Transactions on their way.

use super::{DaemonError, RETRY, Shared};
use crate::chain::transactions::{TransactionError, TransactionState};
use std::sync::Arc;

/// Sees to them for ever.
pub(super) async fn follow(shared: Arc<Shared>) -> DaemonError {
    loop {
        let mut changed = std::pin::pin!(shared.store.changed.notified());
        changed.as_mut().enable();
        if let Err(error) = drive(&shared).await {
            return error;
        }
        tokio::select! {
            () = changed => tokio::time::sleep(RETRY.min(shared.poll)).await,
            () = tokio::time::sleep(shared.poll) => {}
        }
    }
}

/// Advances open transactions and reports those that ended.
async fn drive(shared: &Shared) -> Result<(), DaemonError> {
    match shared.transactions.drive().await {
        Ok(outcomes) => {
            for outcome in outcomes {
                match outcome.state {
                    TransactionState::Reverted { reason, hash, .. } => {
                        // Another host may have made the call first; if it is still due, it is made again.
                        tracing::warn!(key = outcome.key, %hash, reason, "a transaction was reverted");
                    }
                    state => tracing::info!(key = outcome.key, ?state, "a transaction ended"),
                }
            }
            Ok(())
        }
        Err(error @ TransactionError::Store(_)) => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "transactions can't be advanced now");
            Ok(())
        }
    }
}
