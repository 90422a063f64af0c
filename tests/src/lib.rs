//! Whole-system tests of Postern: clusters of real cores whose hosts are the test.
//!
//! - [`attack`]: what corrupted enclaves say in place of their honest words, and who was convicted of it.
//! - [`cluster`]: cores on simulated machines, and a network that the test controls packet by packet.
//! - [`corruption`]: enclaves whose attested keys are in the attacker's hands.
//! - [`wallets`]: members' wallets, and the epochs that they sign.
//! - [`hostile`]: a seeded scheduler that plays all hosts at their worst, and the invariants that it checks.

pub mod attack;
pub mod cluster;
pub mod corruption;
pub mod hostile;
pub mod wallets;
