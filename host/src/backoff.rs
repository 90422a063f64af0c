//! How long to wait before something that failed is tried again.

use std::time::Duration;

/// `first`, and twice as long with each attempt before, but never longer than `last`.
pub(crate) fn doubled(first: Duration, attempts: u32, last: Duration) -> Duration {
    first.saturating_mul(2u32.saturating_pow(attempts.min(16))).min(last)
}

/// How long a node of a chain is let alone that has failed, after so many failures before.
pub(crate) fn rest(failures: u32) -> Duration {
    doubled(FIRST_REST, failures, LONGEST_REST)
}

/// The first and the longest rest of a node.
pub(crate) const FIRST_REST: Duration = Duration::from_secs(1);
pub(crate) const LONGEST_REST: Duration = Duration::from_secs(120);
