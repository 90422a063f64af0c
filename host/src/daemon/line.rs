//! Calls of which many come due at once: seen to some at a time and in order, and left to the host that is at work on them.
//!
//! A host whose turn comes because a call was not made in time may find that the one before it has not failed, but has much to do.
//! It sees so by the calls that came due before: as long as others make them, that one's turn will come too.

use futures::future::join_all;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How many are seen to at a time: others' hosts may take seconds to answer for each.
const AT_ONCE: usize = 8;

/// Sees to all that is due, some at a time, and takes what comes of it, in the order in which it is due; until one of them has to wait: so
/// do those behind it.
pub(super) async fn see_to<D, T, E, A, B>(
    due: impl IntoIterator<Item = D>,
    see_to: impl Fn(D) -> A,
    mut take: impl FnMut(T) -> B,
) -> Result<(), E>
where
    A: Future<Output = Result<Option<T>, E>>,
    B: Future<Output = Result<ControlFlow<()>, E>>,
{
    let mut due = due.into_iter();
    loop {
        let some: Vec<A> = due.by_ref().take(AT_ONCE).map(&see_to).collect();
        if some.is_empty() {
            return Ok(());
        }
        // Waited for to the end, each of them: a question to the enclave that is given up takes the connection with it.
        for seen in join_all(some).await {
            let Some(seen) = seen? else { continue };
            if take(seen).await?.is_break() {
                return Ok(());
            }
        }
    }
}

/// What other hosts have made: when that was seen, by when it had come due here. What came due no later and was seen later says more,
/// so nothing else is kept.
#[derive(Debug, Default)]
pub(super) struct MadeByOthers(BTreeMap<Instant, Instant>);

impl MadeByOthers {
    /// A call that had come due then was made by another host.
    pub(super) fn note(&mut self, due: Instant, now: Instant) {
        drop(self.0.split_off(&due));
        self.0.insert(due, now);
    }

    /// Whether other hosts have made what came due no later than this one, and lately.
    pub(super) fn are_at_work(&self, due: Instant, lately: Duration, now: Instant) -> bool {
        let last = self.0.range(..=due).next_back();
        last.is_some_and(|(_, seen)| now.saturating_duration_since(*seen) < lately)
    }
}

#[cfg(test)]
mod tests;
