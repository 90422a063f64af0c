//! Which members' hosts can't be reached, and how many strangers have knocked.

use postern_shared::ids::MemberId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One that was not reached for so long is worth a word: hosts restart.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the log speaks of strangers.
const SAY_AGAIN: Duration = Duration::from_secs(600);

/// What is known of members' hosts. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Reach(Arc<Mutex<BTreeMap<MemberId, Unreached>>>);

struct Unreached {
    since: Instant,
    reason: String,
}

impl Reach {
    fn unreached(&self) -> MutexGuard<'_, BTreeMap<MemberId, Unreached>> {
        // Nothing is done under the lock that could leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to a member's host has been made, or something came from it.
    pub(super) fn connected(&self, member: MemberId) {
        self.unreached().remove(&member);
    }

    /// There is none, or nothing comes by it.
    pub(super) fn failed(&self, member: MemberId, now: Instant, reason: String) {
        let mut unreached = self.unreached();
        unreached.entry(member).or_insert(Unreached { since: now, reason: String::new() }).reason = reason;
    }

    /// Those that have not been reached for a while, and why.
    pub(super) fn lost(&self, now: Instant) -> BTreeMap<MemberId, String> {
        let unreached = self.unreached();
        let lost = unreached.iter().filter(|(_, host)| now.saturating_duration_since(host.since) >= PATIENCE);
        lost.map(|(member, host)| (*member, host.reason.clone())).collect()
    }
}

/// Who has connected and is no member, or said nothing.
#[derive(Default)]
pub(super) struct Strangers {
    count: u64,
    said: Option<Instant>,
}

impl Strangers {
    /// One more. How many there were, if it is time to say so.
    pub(super) fn knock(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < SAY_AGAIN) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_lost_that_is_not_reached_for_a_while() {
        let (reach, start, one) = (Reach::default(), Instant::now(), MemberId(1));
        reach.failed(one, start, "refused".to_owned());
        reach.failed(one, start + PATIENCE / 2, "no route".to_owned());
        assert_eq!(reach.lost(start + PATIENCE / 2), BTreeMap::new());
        assert_eq!(reach.lost(start + PATIENCE), BTreeMap::from([(one, "no route".to_owned())]));
        reach.connected(one);
        assert_eq!(reach.lost(start + PATIENCE), BTreeMap::new());
    }

    #[test]
    fn strangers_do_not_fill_the_log() {
        let (mut strangers, start) = (Strangers::default(), Instant::now());
        assert_eq!(strangers.knock(start), Some(1));
        assert!((0..1_000).all(|_| strangers.knock(start).is_none()));
        assert_eq!(strangers.knock(start + SAY_AGAIN), Some(1_001));
    }
}
