//! Whole-system tests of Postern: clusters of real cores whose hosts are the test.
//!
//! - [`agreement_model`]: the rules of one agreement, all of whose states can be looked at.
//! - [`attack`]: what corrupted enclaves say in place of their honest words, and who was convicted of it.
//! - [`cluster`]: cores on simulated machines, and a network that the test controls packet by packet.
//! - [`corruption`]: enclaves whose attested keys are in the attacker's hands.
//! - [`guard_model`]: the rules of the rollback guard, all of whose states can be looked at.
//! - [`places`]: where logs stood when enclaves let something out.
//! - [`wallets`]: members' wallets, and the epochs that they sign.
//! - [`mod@search`]: breadth-first search of all states of a model.
//! - [`hostile`]: all hosts at their worst, in runs that a seed stands for or that are written down, and the invariants that
//!   are checked.

pub mod agreement_model;
pub mod attack;
pub mod cluster;
pub mod corruption;
pub mod guard_model;
pub mod hostile;
pub mod places;
pub mod search;
pub mod wallets;
