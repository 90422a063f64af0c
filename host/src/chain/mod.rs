//! The chains, as the host sees them through nodes that may be down, behind or lying.
//!
//! - [`profile`]: the pool manager's events and calls, in each contract's own words.
//! - [`execution`]: pool events from finalised blocks, in order, each exactly once.
//! - [`transactions`]: sends the leader's transactions; survives restarts without ever sending one twice.
//! - [`beacon`]: validators, the network's identity, and posting of exits, over several beacon nodes.

pub mod beacon;
pub mod execution;
pub mod profile;
pub mod transactions;

#[cfg(test)]
mod test_server;
