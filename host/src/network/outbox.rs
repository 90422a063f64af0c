//! Carries the enclave's messages to one other member, at least once each.

use super::{Answer, Network, Question};
use crate::store::{Store, StoreError};
use postern_shared::ids::MemberId;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Messages taken from the store at a time.
const BATCH: usize = 64;
/// First and last wait before a message is tried again.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(5);
/// Wait after the peer could not be reached at all.
const UNREACHABLE_DELAY: Duration = Duration::from_millis(250);
/// Longest sleep, in case a wake-up was missed.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// Runs for ever; ends only when the store or the network fails for good.
pub async fn carry(store: Arc<Store>, network: Network, member: MemberId) -> StoreError {
    loop {
        match carry_batch(&store, &network, member).await {
            Ok(true) => {}
            Ok(false) => wait(&store, member).await,
            Err(error) => return error,
        }
    }
}

/// Tries all messages that are due; whether to go on at once.
async fn carry_batch(store: &Store, network: &Network, member: MemberId) -> Result<bool, StoreError> {
    let due = store.due(member, now(), BATCH)?;
    let full = !due.is_empty();
    let (mut delivered, mut postponed) = (Vec::new(), Vec::new());
    for message in due {
        match network.ask(member, Question::Deliver(message.message)).await {
            Ok(Answer::Accepted) => delivered.push(message.id),
            Ok(Answer::Rejected { transient: true }) => {
                postponed.push((message.id, now() + millis(delay(message.attempts))));
            }
            Ok(_) => {
                // A duplicate that came too late, say; its recipient will never want it.
                tracing::debug!(%member, "a message was refused for good");
                delivered.push(message.id);
            }
            Err(error) => {
                tracing::debug!(%member, %error, "not delivered");
                store.settle(&delivered, &postponed)?;
                tokio::time::sleep(UNREACHABLE_DELAY).await;
                return Ok(true);
            }
        }
    }
    store.settle(&delivered, &postponed)?;
    Ok(full)
}

async fn wait(store: &Store, member: MemberId) {
    // Listens before it looks, so that nothing that comes in between is slept through.
    let mut changed = std::pin::pin!(store.changed.notified());
    changed.as_mut().enable();
    let until_due = match store.next_due(member) {
        Ok(Some(at)) => Duration::from_millis(u64::try_from(at - now()).unwrap_or(0)),
        _ => LONGEST_SLEEP,
    };
    tokio::select! {
        () = changed => {}
        () = tokio::time::sleep(until_due.min(LONGEST_SLEEP)) => {}
    }
}

/// Doubles with every attempt.
fn delay(attempts: u32) -> Duration {
    FIRST_DELAY.saturating_mul(2u32.saturating_pow(attempts.min(16))).min(LAST_DELAY)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn now() -> i64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        assert_eq!(delay(0), FIRST_DELAY);
        assert_eq!(delay(1), FIRST_DELAY * 2);
        assert_eq!(delay(u32::MAX), LAST_DELAY);
    }
}
