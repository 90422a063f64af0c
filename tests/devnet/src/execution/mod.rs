//! The execution chain: an EVM, its blocks, and a node's JSON-RPC in front of it.

pub mod chain;
mod deposit_contract;
mod evm;
mod fees;
mod logs;
mod mempool;
pub mod rpc;
mod rpc_error;
mod simulate;
mod views;
mod withdrawal_requests;
