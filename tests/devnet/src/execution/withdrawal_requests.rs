//! EIP-7002: the contract that takes withdrawal requests, and the system call that ends each block.

use super::evm::{self, Accounts};
use crate::beacon::withdrawal_requests::WithdrawalRequest;
use alloy::eips::eip7002::{
    WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS as ADDRESS, WITHDRAWAL_REQUEST_PREDEPLOY_CODE as CODE,
};
use revm::DatabaseCommit as _;
use revm::bytecode::Bytecode;
use revm::context::BlockEnv;
use revm::state::AccountInfo;
use std::sync::Arc;

/// Source address, public key and amount.
const ENCODED: usize = 20 + 48 + 8;

/// Puts the contract where every network has it. The code is the runtime bytecode that the EIP prints (ethereum/EIPs,
/// `EIPS/eip-7002.md`), which alloy carries. Its storage is empty, as in go-ethereum's development genesis: the fee
/// starts at 1 wei, without the inhibitor that lasts up to a fork's first system call.
pub fn place(accounts: &mut Accounts) {
    let code = Bytecode::new_raw(CODE.clone());
    accounts.insert_account_info(ADDRESS, AccountInfo { nonce: 1, ..AccountInfo::from_bytecode(code) });
}

/// Takes the requests that are due off the contract's queue and moves its fee on. The accounts stay shared with the
/// block before if there is nothing to do.
pub fn dequeue(accounts: &mut Arc<Accounts>, chain_id: u64, block: BlockEnv) -> Vec<WithdrawalRequest> {
    let Ok(outcome) = evm::system_call(accounts, chain_id, block, ADDRESS) else { return Vec::new() };
    if !outcome.result.is_success() {
        return Vec::new();
    }
    let mut state = outcome.state;
    state.retain(|_, account| account.storage.values().any(|slot| slot.is_changed()));
    if !state.is_empty() {
        Arc::make_mut(accounts).commit(state);
    }
    let output = outcome.result.output().cloned().unwrap_or_default();
    output.chunks_exact(ENCODED).filter_map(decode).collect()
}

fn decode(request: &[u8]) -> Option<WithdrawalRequest> {
    let (source_address, rest) = request.split_first_chunk::<20>()?;
    let (pubkey, amount) = rest.split_first_chunk::<48>()?;
    Some(WithdrawalRequest {
        source_address: *source_address,
        pubkey: *pubkey,
        amount: u64::from_le_bytes(amount.try_into().ok()?),
    })
}
