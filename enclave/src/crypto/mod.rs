//! Secrets: where they come from, and what is done with them.

pub mod coins;
pub mod keys;
pub(crate) mod secret;
pub mod sharing;
