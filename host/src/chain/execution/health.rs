//! Whether a node is asked now. Time decides only whom to ask, never what to believe.

use crate::backoff::rest;
use std::time::{Duration, Instant};

/// A node that has shown the same head so many times in a row, while another had more, stands still.
const STILL_LOOKS: u32 = 10;

/// A node that was asked out of its rest and did not answer is not asked so again for this many times as long as it was waited for: so
/// one that hangs takes a tenth of the time at most.
const VAIN_PAUSES: u32 = 10;

/// But no sooner than after this.
const SHORTEST_VAIN_PAUSE: Duration = Duration::from_secs(1);

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) finalised: u64,
    pub(super) head: u64,
}

/// How a node is.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    rests_until: Option<Instant>,
    /// Until when it is not asked out of its rest either.
    sleeps_until: Option<Instant>,
    /// What it last failed with, until it works again.
    trouble: Option<String>,
    /// Whether it has shown what it must since it last failed.
    is_checked: bool,
    /// The newest block that it has finalised, as it said last.
    finalised: u64,
    lag: Option<Lag>,
    /// What it said last that is not as the manifests say and is no reason not to believe it: none if it was not asked.
    remarks: Option<Vec<String>>,
}

/// What a node shows that is far behind another: whether it follows the chain all the same.
#[derive(Debug)]
struct Lag {
    shown: Reached,
    /// How often it has shown the same since.
    looks: u32,
    looked: Instant,
    /// For people.
    others: u64,
}

impl Health {
    /// It has failed.
    pub(super) fn failed(&mut self, now: Instant, trouble: String) {
        self.rests_until = now.checked_add(rest(self.failures));
        self.failures = self.failures.saturating_add(1);
        (self.trouble, self.is_checked) = (Some(trouble), false);
    }

    /// It has done what it was asked to.
    pub(super) fn worked(&mut self) {
        (self.failures, self.rests_until, self.sleeps_until, self.trouble) = (0, None, None, None);
    }

    /// Whether it has not failed since it last worked.
    pub(super) fn works(&self) -> bool {
        self.trouble.is_none()
    }

    /// It has shown that it is of the right chain, and that the pool manager is there.
    pub(super) fn checked(&mut self) {
        self.is_checked = true;
    }

    /// It is to show more than it has.
    pub(super) fn unchecked(&mut self) {
        self.is_checked = false;
    }

    /// Whether it has shown what it must before it is believed. When it is new or has failed, it has not: another may have taken its
    /// place.
    pub(super) fn is_checked(&self) -> bool {
        self.is_checked
    }

    /// Until when it is let alone; `None` if it may be asked.
    pub(super) fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.rests_until.filter(|until| now < *until)
    }

    /// Whether it may be asked out of its rest, when nothing is settled without it.
    pub(super) fn may_be_woken(&self, now: Instant) -> bool {
        self.sleeps_until.is_none_or(|until| until <= now)
    }

    /// It was asked out of its rest, and has not answered.
    pub(super) fn woken_in_vain(&mut self, asked: Instant, now: Instant) {
        let waited = now.saturating_duration_since(asked);
        let pause = waited.saturating_mul(VAIN_PAUSES).max(SHORTEST_VAIN_PAUSE);
        self.sleeps_until = now.checked_add(pause);
    }

    /// It is far behind another, which says that it has finalised block `others`. How often it shows the same counts, but not
    /// more often than once in this pause: else it would only count how often it is asked.
    pub(super) fn lags(&mut self, shown: Reached, others: u64, now: Instant, pause: Duration) {
        match self.lag.as_mut().filter(|lag| lag.shown == shown) {
            Some(lag) => {
                lag.others = others;
                if now.duration_since(lag.looked) >= pause {
                    (lag.looks, lag.looked) = (lag.looks.saturating_add(1), now);
                }
            }
            None => self.lag = Some(Lag { shown, looks: 0, looked: now, others }),
        }
    }

    /// It is with the others.
    pub(super) fn keeps_up(&mut self) {
        self.lag = None;
    }

    /// Whether it is far behind another.
    pub(super) fn is_lagging(&self) -> bool {
        self.lag.is_some()
    }

    /// Whether it does not follow the chain: others do without it. One whose head moves does, however far back finality is.
    pub(super) fn stands_still(&self) -> bool {
        self.lag.as_ref().is_some_and(|lag| lag.looks >= STILL_LOOKS)
    }

    /// It says that it has finalised this block. Whether that counts: not if a later one was final already, or if it stands still.
    pub(super) fn counts(&mut self, finalised: u64, already_final: u64) -> bool {
        self.finalised = finalised;
        self.is_waited_for(already_final)
    }

    /// Whether nothing is done without it, as long as it answers.
    pub(super) fn is_waited_for(&self, already_final: u64) -> bool {
        self.finalised >= already_final && !self.stands_still()
    }

    /// It was asked what is not as the manifests say.
    pub(super) fn remarked(&mut self, remarks: Vec<String>) {
        self.remarks = Some(remarks);
    }

    /// Whether that is known, and nothing.
    pub(super) fn is_as_said(&self) -> bool {
        self.remarks.as_ref().is_some_and(Vec::is_empty)
    }

    /// What is wrong with it, if it does not work, others say that there is more, or it says something else than the manifests.
    pub(super) fn trouble(&self) -> Option<String> {
        let lag = self.lag.as_ref().map(|Lag { shown, others, .. }| {
            format!("says that block {} is the newest final one, and another node {others}", shown.finalised)
        });
        let remarks =
            || self.remarks.as_ref().map(|remarks| remarks.join("; ")).filter(|all| !all.is_empty());
        self.trouble.clone().or(lag).or_else(remarks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::FIRST_REST;

    #[test]
    fn a_node_rests_longer_with_each_failure_and_not_at_all_once_it_works() {
        let (mut health, now) = (Health::default(), Instant::now());
        assert!(health.rests_until(now).is_none() && !health.is_checked());
        health.checked();
        let rests = [1, 2, 4, 8, 16, 32, 64, 120, 120].map(Duration::from_secs);
        for rest in rests {
            health.failed(now, "down".to_owned());
            assert_eq!(health.rests_until(now), Some(now + rest));
            assert_eq!(health.rests_until(now + rest), None);
            assert_eq!(health.trouble().as_deref(), Some("down"));
            assert!(!health.is_checked(), "it must show again which chain it is of");
        }
        health.checked();
        health.worked();
        assert!(health.is_checked() && health.trouble().is_none() && health.rests_until(now).is_none());
        health.failed(now, "down".to_owned());
        assert_eq!(health.rests_until(now), Some(now + FIRST_REST));
    }

    #[test]
    fn a_node_that_hangs_when_it_is_woken_takes_a_tenth_of_the_time() {
        let (mut health, start) = (Health::default(), Instant::now());
        health.failed(start, "down".to_owned());
        assert!(health.may_be_woken(start));
        let answered = start + Duration::from_secs(5);
        health.woken_in_vain(start, answered);
        assert!(!health.may_be_woken(answered + Duration::from_secs(49)));
        assert!(health.may_be_woken(answered + Duration::from_secs(50)));
        // One that says no at once is asked again soon, and not all the time.
        health.woken_in_vain(answered, answered);
        assert!(!health.may_be_woken(answered) && health.may_be_woken(answered + SHORTEST_VAIN_PAUSE));
        health.woken_in_vain(start, answered);
        health.worked();
        assert!(health.may_be_woken(answered));
    }

    #[test]
    fn only_a_node_whose_head_does_not_move_for_long_stands_still() {
        const PAUSE: Duration = Duration::from_secs(12);
        let (mut health, start) = (Health::default(), Instant::now());
        let look = |health: &mut Health, head, at: u32| {
            health.lags(Reached { finalised: 7, head }, 900, start + PAUSE * at, PAUSE);
        };
        // Asked however often, it is one look.
        (0..100).for_each(|_| look(&mut health, 70, 0));
        assert!(health.is_lagging() && !health.stands_still());
        assert!(health.trouble().is_some_and(|trouble| trouble.contains("and another node 900")));
        // Finality stands still, and the chain goes on.
        (1..100).for_each(|at| look(&mut health, 70 + u64::from(at), at));
        assert!(!health.stands_still());
        (100..=98 + STILL_LOOKS).for_each(|at| look(&mut health, 169, at));
        assert!(!health.stands_still());
        look(&mut health, 169, 99 + STILL_LOOKS);
        assert!(health.stands_still());
        health.worked();
        assert!(health.stands_still(), "that it answers does not say that it moves");
        look(&mut health, 170, 200);
        assert!(!health.stands_still() && health.is_lagging());
        health.keeps_up();
        assert!(!health.is_lagging() && health.trouble().is_none());
    }
}
