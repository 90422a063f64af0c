//! The EVM and the accounts it works on.

use alloy::consensus::constants::KECCAK_EMPTY;
use alloy::consensus::transaction::Recovered;
use alloy::consensus::{Transaction as _, TxEnvelope, Typed2718 as _};
use alloy::eips::eip4895::Withdrawal;
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::trie::{TrieAccount, root};
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction, ResultAndState};
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::database::{AccountState, CacheDB, InMemoryDB};
use revm::database_interface::DatabaseCommitExt as _;
use revm::primitives::eip4844::BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE;
use revm::primitives::hardfork::SpecId;
use revm::state::AccountInfo;
use revm::{
    DatabaseRef as _, ExecuteCommitEvm as _, ExecuteEvm as _, MainBuilder as _, MainContext as _,
    SystemCallEvm as _,
};
use std::convert::Infallible;

/// All accounts, with code, storage and the hashes of past blocks.
pub type Accounts = InMemoryDB;

/// Why the EVM would not even begin with a transaction.
pub type Refusal = EVMError<Infallible, InvalidTransaction>;

/// Runs a transaction with every check on and keeps what it did.
pub fn execute(
    accounts: &mut Accounts,
    chain_id: u64,
    block: BlockEnv,
    transaction: TxEnv,
) -> Result<ExecutionResult, Refusal> {
    Context::mainnet()
        .with_db(accounts)
        .modify_cfg_chained(|cfg| configure(cfg, chain_id))
        .with_block(block)
        .build_mainnet()
        .transact_commit(transaction)
}

/// Runs a call of the system at the end of a block. Nobody pays for it, and the caller decides what is kept of it.
pub fn system_call(
    accounts: &Accounts,
    chain_id: u64,
    block: BlockEnv,
    contract: Address,
) -> Result<ResultAndState, Refusal> {
    Context::mainnet()
        .with_db(CacheDB::new(accounts))
        .modify_cfg_chained(|cfg| configure(cfg, chain_id))
        .with_block(block)
        .build_mainnet()
        .system_call(contract, Bytes::new())
}

/// EIP-4895: adds what the beacon chain pays out to the balances. No code runs, and nothing is logged.
pub fn credit(accounts: &mut Accounts, withdrawals: &[Withdrawal]) {
    for withdrawal in withdrawals {
        // One after the other: an address may be paid several times in a block.
        let payment = (withdrawal.address, withdrawal.amount_wei().saturating_to());
        let Ok(()) = accounts.increment_balances([payment]);
    }
}

/// Runs a call and forgets what it did. As nodes do for `eth_call`: the nonce does not matter, contracts may be senders,
/// and who offers no gas price pays none.
pub fn call(
    accounts: &Accounts,
    chain_id: u64,
    block: BlockEnv,
    transaction: TxEnv,
) -> Result<ExecutionResult, Refusal> {
    let free = transaction.gas_price == 0;
    let result = Context::mainnet()
        .with_db(CacheDB::new(accounts))
        .modify_cfg_chained(|cfg| {
            configure(cfg, chain_id);
            cfg.disable_nonce_check = true;
            cfg.disable_eip3607 = true;
            cfg.disable_base_fee = free;
        })
        .with_block(block)
        .build_mainnet()
        .transact(transaction)?;
    Ok(result.result)
}

fn configure(cfg: &mut CfgEnv, chain_id: u64) {
    cfg.chain_id = chain_id;
    cfg.set_spec_and_mainnet_gas_params(SpecId::PRAGUE);
}

/// The block a transaction runs in.
pub fn block_environment(
    number: u64,
    timestamp: u64,
    beneficiary: Address,
    gas_limit: u64,
    base_fee: u64,
    randao: B256,
) -> BlockEnv {
    let mut block = BlockEnv {
        number: U256::from(number),
        beneficiary,
        timestamp: U256::from(timestamp),
        gas_limit,
        basefee: base_fee,
        prevrandao: Some(randao),
        ..BlockEnv::default()
    };
    block.set_blob_excess_gas_and_price(0, BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE);
    block
}

/// A signed transaction as the EVM takes it.
pub fn transaction_environment(transaction: &Recovered<TxEnvelope>) -> TxEnv {
    TxEnv {
        tx_type: transaction.ty(),
        caller: transaction.signer(),
        gas_limit: transaction.gas_limit(),
        gas_price: transaction.max_fee_per_gas(),
        kind: transaction.kind(),
        value: transaction.value(),
        data: transaction.input().clone(),
        nonce: transaction.nonce(),
        chain_id: transaction.chain_id(),
        access_list: transaction.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: transaction.max_priority_fee_per_gas(),
        ..TxEnv::default()
    }
}

/// An account; one that was never touched is empty.
pub fn account(accounts: &Accounts, address: Address) -> AccountInfo {
    let Ok(info) = accounts.basic_ref(address);
    info.unwrap_or_default()
}

/// One storage slot.
pub fn storage(accounts: &Accounts, address: Address, slot: U256) -> U256 {
    let Ok(value) = accounts.storage_ref(address, slot);
    value
}

/// An account's code.
pub fn code(accounts: &Accounts, address: Address) -> Bytes {
    let info = account(accounts, address);
    if info.code_hash == KECCAK_EMPTY {
        return Bytes::new();
    }
    let Ok(code) = accounts.code_by_hash_ref(info.code_hash);
    code.original_bytes()
}

/// The root of the state trie.
pub fn state_root(accounts: &Accounts) -> B256 {
    let existing = accounts.cache.accounts.iter().filter(|(_, account)| {
        // EIP-161: an empty account is no account.
        account.account_state != AccountState::NotExisting && !account.info.is_empty()
    });
    root::state_root_unhashed(existing.map(|(address, account)| {
        let slots = account.storage.iter().filter(|(_, value)| !value.is_zero());
        let storage_root =
            root::storage_root_unhashed(slots.map(|(slot, value)| (B256::from(*slot), *value)));
        let info = &account.info;
        (
            *address,
            TrieAccount { nonce: info.nonce, balance: info.balance, storage_root, code_hash: info.code_hash },
        )
    }))
}
