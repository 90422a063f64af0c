//! What a verifier knows of the time.

use core::{fmt, time::Duration};

use x509_cert::der::DateTime;

/// What a verifier knows of the time, in unix seconds.
///
/// An enclave has no clock that it trusts. It may know that it is not earlier than something: that its manifest was
/// written, that a block was final. That proves that a certificate has expired, and never that one has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// It is this time.
    At(u64),
    /// It is this time or later.
    NotBefore(u64),
}

/// When something is valid, in unix seconds, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// Begin.
    pub not_before: u64,
    /// End.
    pub not_after: u64,
}

impl Period {
    /// Whether it may be valid, for all that is known of the time.
    pub(crate) fn may_hold(self, time: Time) -> bool {
        match time {
            Time::At(now) => (self.not_before..=self.not_after).contains(&now),
            Time::NotBefore(bound) => bound <= self.not_after,
        }
    }
}

/// A time as people write it (RFC 3339), or its number if no calendar has it.
struct Moment(u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_unix_duration(Duration::from_secs(self.0)) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{} s after 1970", self.0),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(now) => write!(f, "it is {}", Moment(*now)),
            Self::NotBefore(bound) => write!(f, "it is {} or later", Moment(*bound)),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to {}", Moment(self.not_before), Moment(self.not_after))
    }
}
