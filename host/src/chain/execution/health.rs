//! Whether a node is asked now. Time decides only whom to ask, never what to believe.

use std::time::{Duration, Instant};

/// How long a node is let alone after its first failure. It doubles with each further one.
const FIRST_REST: Duration = Duration::from_secs(1);
/// And never for longer.
const LONGEST_REST: Duration = Duration::from_secs(120);

/// How a node is.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    rests_until: Option<Instant>,
    /// What it last failed with, until it works again.
    trouble: Option<String>,
    /// Whether it has shown which chain it is of since it last failed.
    is_checked: bool,
}

impl Health {
    /// It has failed.
    pub(super) fn failed(&mut self, now: Instant, trouble: String) {
        let rest = FIRST_REST.saturating_mul(1 << self.failures.min(16)).min(LONGEST_REST);
        self.failures = self.failures.saturating_add(1);
        self.rests_until = now.checked_add(rest);
        (self.trouble, self.is_checked) = (Some(trouble), false);
    }

    /// It has done what it was asked to.
    pub(super) fn worked(&mut self) {
        *self = Self { is_checked: self.is_checked, ..Self::default() };
    }

    /// It has shown that it is of the right chain.
    pub(super) fn checked(&mut self) {
        self.is_checked = true;
    }

    /// Whether it must show which chain it is of before it is believed: when it is new or has failed, another may have
    /// taken its place.
    pub(super) fn is_checked(&self) -> bool {
        self.is_checked
    }

    /// Until when it is let alone; `None` if it may be asked.
    pub(super) fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.rests_until.filter(|until| now < *until)
    }

    /// What is wrong with it, if it does not work.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(health.trouble(), Some("down"));
            assert!(!health.is_checked(), "it must show again which chain it is of");
        }
        health.checked();
        health.worked();
        assert!(health.is_checked() && health.trouble().is_none() && health.rests_until(now).is_none());
        health.failed(now, "down".to_owned());
        assert_eq!(health.rests_until(now), Some(now + FIRST_REST));
    }
}
