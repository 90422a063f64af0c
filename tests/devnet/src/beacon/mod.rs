//! The beacon chain: Electra's rules for deposits, activations, exits, withdrawals and finality, and a node's REST
//! interface.

pub mod api;
mod api_error;
pub mod chain;
pub mod deposits;
pub mod exits;
mod identifiers;
pub mod registry;
mod ssz;
pub mod state;
pub mod transition;
mod views;
pub mod withdrawal_requests;
pub mod withdrawals;
