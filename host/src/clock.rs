//! The clock that people go by, in seconds since 1970. It may be wrong, and put back.

use std::time::{SystemTime, UNIX_EPOCH};

/// What time it is.
pub(crate) fn now() -> u64 {
    seconds(SystemTime::now())
}

/// A time; 0 before 1970.
pub(crate) fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
