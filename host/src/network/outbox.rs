//! Carries the enclave's messages to one other member, at least once each.

use super::{Answer, Network, Question};
use crate::backoff::doubled;
use crate::store::{LONGEST_DELAY, Outgoing, Store, StoreError};
use futures::StreamExt;
use postern_shared::ids::MemberId;
use postern_shared::wire::Rejection;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Messages taken from the store at a time.
const BATCH: usize = 64;
/// Messages on their way at a time: a distant peer's answers take long.
const AT_ONCE: usize = 4;
/// First and last wait before a refused message is tried again.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(5);
/// After so many attempts (some minutes) a message has no hurry any more.
const PATIENT_ATTEMPTS: u32 = 60;
const PATIENT_DELAY: Duration = LONGEST_DELAY;
/// After so many attempts (about a week) nobody will want it: its ceremony died with its enclave.
const MAX_ATTEMPTS: u32 = 10_000;
/// First and last wait after the peer could not be reached at all.
const FIRST_REDIAL: Duration = Duration::from_millis(100);
const LAST_REDIAL: Duration = Duration::from_secs(2);
/// Longest sleep, in case a wake-up was missed.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// What became of a batch.
enum Carried {
    /// There was nothing to carry.
    Nothing,
    /// Every message was answered.
    All,
    /// The peer could not be reached.
    Unreachable,
}

/// Runs for ever; ends only when the store fails.
pub async fn carry(store: Arc<Store>, network: Network, member: MemberId) -> StoreError {
    let mut failures = 0;
    loop {
        match carry_batch(&store, &network, member).await {
            Ok(Carried::All) => failures = 0,
            Ok(Carried::Nothing) => wait(&store, member).await,
            Ok(Carried::Unreachable) => {
                tokio::time::sleep(doubled(FIRST_REDIAL, failures, LAST_REDIAL)).await;
                failures += 1;
            }
            Err(error) => return error,
        }
    }
}

/// Tries messages that are due, oldest first.
async fn carry_batch(store: &Store, network: &Network, member: MemberId) -> Result<Carried, StoreError> {
    let due = store.due(member, now(), BATCH)?;
    if due.is_empty() {
        return Ok(Carried::Nothing);
    }
    let (mut settled, mut postponed) = (Vec::new(), Vec::new());
    let mut carried = Carried::All;
    let mut answers = futures::stream::iter(due)
        .map(|Outgoing { id, attempts, replaceable, message }| async move {
            // What can't be had again is tried for ever.
            let expired = replaceable && attempts >= MAX_ATTEMPTS;
            (id, attempts, expired, network.ask(member, Question::Deliver(message)).await)
        })
        .buffered(AT_ONCE);
    while let Some((id, attempts, expired, answer)) = answers.next().await {
        match answer {
            Ok(answer) => match verdict(&answer, attempts, expired) {
                Verdict::Settled => settled.push(id),
                Verdict::Postponed(delay) => postponed.push((id, now() + millis(delay))),
                Verdict::Dropped => {
                    tracing::info!(%member, ?answer, attempts, "a message is dropped: it was refused for good");
                    settled.push(id);
                }
            },
            Err(error) => {
                tracing::debug!(%member, %error, "not delivered");
                carried = Carried::Unreachable;
                break;
            }
        }
    }
    store.settle(&settled, &postponed)?;
    Ok(carried)
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Delivered.
    Settled,
    /// To be tried again after this time.
    Postponed(Duration),
    /// Will never be accepted.
    Dropped,
}

fn verdict(answer: &Answer, attempts: u32, expired: bool) -> Verdict {
    match answer {
        Answer::Accepted => Verdict::Settled,
        // The peer's enclave is away, which says nothing of the message.
        Answer::Unavailable => Verdict::Postponed(delay(attempts)),
        // A successor is taking its place, and may need the message: a share is given once.
        Answer::Rejected(Rejection::HandedOver) if !expired => Verdict::Postponed(delay(attempts)),
        Answer::Rejected(rejection) if rejection.is_transient() && !expired => {
            Verdict::Postponed(delay(attempts))
        }
        Answer::Rejected(_) | Answer::Records(_) | Answer::Proved(_) | Answer::Kept(_) | Answer::Exits(_) => {
            Verdict::Dropped
        }
    }
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

/// Before a refused message is tried again.
fn delay(attempts: u32) -> Duration {
    if attempts < PATIENT_ATTEMPTS { doubled(FIRST_DELAY, attempts, LAST_DELAY) } else { PATIENT_DELAY }
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
        assert_eq!(delay(PATIENT_ATTEMPTS - 1), LAST_DELAY);
        assert_eq!(delay(u32::MAX), PATIENT_DELAY);
    }

    #[test]
    fn only_a_lasting_refusal_ends_a_message() {
        assert_eq!(verdict(&Answer::Accepted, 0, false), Verdict::Settled);
        let early = Answer::Rejected(Rejection::TooEarly);
        assert_eq!(verdict(&early, 0, false), Verdict::Postponed(FIRST_DELAY));
        assert_eq!(verdict(&early, MAX_ATTEMPTS, false), Verdict::Postponed(PATIENT_DELAY));
        assert_eq!(verdict(&early, MAX_ATTEMPTS, true), Verdict::Dropped);
        assert_eq!(verdict(&Answer::Unavailable, MAX_ATTEMPTS, true), Verdict::Postponed(PATIENT_DELAY));
        assert_eq!(verdict(&Answer::Rejected(Rejection::NotAuthentic), 0, false), Verdict::Dropped);
        let between = Answer::Rejected(Rejection::HandedOver);
        assert_eq!(verdict(&between, 0, false), Verdict::Postponed(FIRST_DELAY));
        assert_eq!(verdict(&between, 0, true), Verdict::Dropped);
    }
}
