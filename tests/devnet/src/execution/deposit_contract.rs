//! The deposit contract: placed at genesis, and its events read as the beacon chain reads them (EIP-6110).

use super::evm::{self, Accounts};
use crate::Error;
use crate::beacon::deposits::DepositRequest;
use alloy::primitives::{Address, Bytes, Log};
use alloy::sol_types::SolEvent as _;
use revm::context::result::ExecutionResult;
use revm::context::{BlockEnv, TxEnv};
use revm::primitives::TxKind;

/// What `host/contracts/build.mjs` made of `DepositContract.sol`.
const ARTIFACT: &str = include_str!("../../../../host/contracts/artifacts/DepositContract.json");

const CREATION_GAS: u64 = 30_000_000;

alloy::sol! {
    /// One accepted deposit; integers are little-endian byte strings.
    event DepositEvent(bytes pubkey, bytes withdrawal_credentials, bytes amount, bytes signature, bytes index);
}

/// Puts the contract at `address`, with the storage that its constructor leaves. Public networks have it in their
/// genesis state too.
pub fn place(accounts: &mut Accounts, chain_id: u64, address: Address) -> Result<(), Error> {
    let damaged = |what: &dyn std::fmt::Display| Error::DepositContract(what.to_string());
    let artifact: serde_json::Value = serde_json::from_str(ARTIFACT).map_err(|error| damaged(&error))?;
    let bytecode = artifact.get("bytecode").and_then(|code| code.as_str()).unwrap_or_default();
    let creation_code: Bytes = bytecode.parse().map_err(|error| damaged(&error))?;

    // The constructor runs on a chain of its own; only the contract is taken over.
    let mut workshop = Accounts::default();
    let block = BlockEnv { gas_limit: CREATION_GAS, ..BlockEnv::default() };
    let creation = TxEnv {
        gas_limit: CREATION_GAS,
        gas_price: 0,
        kind: TxKind::Create,
        data: creation_code,
        chain_id: Some(chain_id),
        ..TxEnv::default()
    };
    let result = evm::execute(&mut workshop, chain_id, block, creation).map_err(|error| damaged(&error))?;
    let ExecutionResult::Success { .. } = result else {
        return Err(damaged(&"its constructor fails"));
    };
    let made = result.created_address().ok_or_else(|| damaged(&"its constructor makes no contract"))?;

    let mut info = evm::account(&workshop, made);
    info.code = Some(revm::bytecode::Bytecode::new_raw(evm::code(&workshop, made)));
    accounts.insert_account_info(address, info);
    let storage = workshop.cache.accounts.remove(&made).map(|account| account.storage).unwrap_or_default();
    for (slot, value) in storage {
        let Ok(()) = accounts.insert_account_storage(address, slot, value);
    }
    Ok(())
}

/// The deposits that these logs make, in their order.
pub fn deposits<'a>(contract: Address, logs: impl IntoIterator<Item = &'a Log>) -> Vec<DepositRequest> {
    let of_contract = logs.into_iter().filter(|log| log.address == contract);
    of_contract
        .filter_map(|log| DepositEvent::decode_log_data(&log.data).ok())
        .filter_map(|event| {
            Some(DepositRequest {
                pubkey: event.pubkey.as_ref().try_into().ok()?,
                withdrawal_credentials: event.withdrawal_credentials.as_ref().try_into().ok()?,
                amount: u64::from_le_bytes(event.amount.as_ref().try_into().ok()?),
                signature: event.signature.as_ref().try_into().ok()?,
                index: u64::from_le_bytes(event.index.as_ref().try_into().ok()?),
            })
        })
        .collect()
}
