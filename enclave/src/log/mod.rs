//! The log: what changes the state, and how that is sealed, read again and compacted.

pub(crate) mod change;
pub(crate) mod journal;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod scale;
pub(crate) mod seal;
pub(crate) mod snapshot;
