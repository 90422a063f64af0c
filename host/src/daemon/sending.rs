//! Transactions on their way.

use super::commands::Outcome;
use super::{DaemonError, RETRY, Shared};
use crate::chain::transactions::{Listed, TransactionError, TransactionState};
use crate::status::Subject;
use crate::tx::TRANSACTIONS_FILE;
use crate::whole_file;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the wallet is looked at while it pays for something or something is wrong with it, and when not.
const WALLET: Duration = Duration::from_mins(1);
const WALLET_AT_REST: Duration = Duration::from_mins(10);

/// After how many looks at the chains a call of which nothing more is heard is taken to be due no more.
const SILENCE: u32 = 20;

/// What was shown of them.
#[derive(Default)]
struct Shown {
    /// In the file.
    written: Option<Vec<Listed>>,
    /// The keys of those that something is wrong with.
    wrong: BTreeSet<String>,
    /// When the wallet was looked at.
    wallet: Option<Instant>,
    /// Whether nothing was wrong with it.
    is_sound: bool,
}

/// Sees to them for ever.
pub(super) async fn follow(shared: Arc<Shared>) -> DaemonError {
    let mut shown = Shown::default();
    loop {
        let mut changed = std::pin::pin!(shared.store.changed.notified());
        changed.as_mut().enable();
        if let Err(error) = drive(&shared).await {
            return error;
        }
        show(&shared, &mut shown).await;
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

/// What became of a command about a transaction. One that can't be done is not kept: what it was about has changed.
pub(super) fn told(done: Result<(), TransactionError>) -> Result<Outcome, DaemonError> {
    match done {
        Ok(()) => {}
        Err(error @ TransactionError::Store(_)) => return Err(error.into()),
        Err(error) => tracing::error!(%error, "a command about a transaction is not done"),
    }
    Ok(Outcome::Done)
}

/// Has people see how transactions and wallet are.
async fn show(shared: &Shared, shown: &mut Shown) {
    let listed = shared.transactions.list().await;
    let is_open = listed.iter().any(|one| !one.state.is_final());
    let wrong = listed.iter().filter(|one| one.is_wrong);
    for one in wrong.clone() {
        let reason = one.waits_for.as_deref().unwrap_or_default();
        shared.troubles.set(Subject::Transaction(one.key.clone()), reason);
    }
    let wrong: BTreeSet<String> = wrong.map(|one| one.key.clone()).collect();
    let settled = shared.turns.take_settled(shared.poll * SILENCE, Instant::now());
    for key in shown.wrong.difference(&wrong).chain(settled.iter().filter(|name| !wrong.contains(*name))) {
        shared.troubles.clear(&Subject::Transaction(key.clone()));
    }
    shown.wrong = wrong;
    if shown.written.as_ref() != Some(&listed) {
        let path = shared.data_dir.join(TRANSACTIONS_FILE);
        match whole_file::replace(&path, &serde_json::to_vec_pretty(&listed).unwrap_or_default()) {
            Ok(()) => shown.written = Some(listed),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "transactions can't be written down");
            }
        }
    }
    let is_at_rest = shown.is_sound && !is_open;
    let pause = if is_at_rest { WALLET_AT_REST } else { WALLET };
    if shown.wallet.is_none_or(|looked| looked.elapsed() >= pause) {
        (shown.wallet, shown.is_sound) = (Some(Instant::now()), look_at_wallet(shared).await);
    }
}

/// Whether nothing is wrong with it.
async fn look_at_wallet(shared: &Shared) -> bool {
    match shared.transactions.look_at_wallet().await {
        Ok(wrong) if wrong.is_empty() => {
            shared.troubles.clear(&Subject::Wallet);
            return true;
        }
        Ok(wrong) => shared.troubles.set(Subject::Wallet, wrong.join("; ")),
        Err(error) => tracing::debug!(%error, "the wallet can't be looked at now"),
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_about_a_transaction_that_can_t_be_done_is_not_kept() {
        let [unknown, last] =
            [TransactionError::Unknown, TransactionError::Final].map(|of| of("a".to_owned()));
        for done in [Ok(()), Err(unknown), Err(last)] {
            assert_eq!(told(done).unwrap(), Outcome::Done);
        }
        // It is done once the store works again.
        assert!(told(Err(TransactionError::Store("full".into()))).is_err());
    }
}
