//! `eth_call` and `eth_estimateGas`.

use super::chain::Block;
use super::evm::{self, Refusal};
use super::rpc_error::RpcError;
use alloy::primitives::{Bytes, TxKind, U256};
use alloy::rpc::types::TransactionRequest;
use revm::context::TxEnv;
use revm::context::result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction};

/// Runs a call on the state after `block` and gives what it returned.
pub fn call(block: &Block, chain_id: u64, request: &TransactionRequest) -> Result<Bytes, RpcError> {
    let transaction = environment(block, chain_id, request)?;
    let result = evm::call(&block.accounts, chain_id, block.environment(), transaction).map_err(refusal)?;
    returned(result)
}

/// The least gas limit with which a transaction succeeds on the state after `block`, a little rounded up.
pub fn estimate_gas(block: &Block, chain_id: u64, request: &TransactionRequest) -> Result<u64, RpcError> {
    let mut transaction = environment(block, chain_id, request)?;
    let limit = affordable(block, &transaction)?;
    let mut run = |gas_limit: u64| {
        transaction.gas_limit = gas_limit;
        evm::call(&block.accounts, chain_id, block.environment(), transaction.clone())
    };

    let mut enough = limit;
    let first = run(enough).map_err(refusal)?;
    let (gas_used, gas_spent) = (first.tx_gas_used(), first.gas().total_gas_spent());
    // A failure that no gas cures is the caller's answer.
    returned(first)?;

    // What is refunded at the end was needed on the way, and a 64th of the gas stays with each caller.
    let mut too_little = gas_used.saturating_sub(1);
    let guess = (gas_spent + 2_300).saturating_mul(64) / 63;
    if guess < enough {
        match run(guess) {
            Ok(result) if result.is_success() => enough = guess,
            _ => too_little = guess,
        }
    }
    // As go-ethereum: an error of 1.5 % is good enough.
    while too_little + 1 < enough && (enough - too_little).saturating_mul(1000) / enough > 15 {
        let middle = too_little + (enough - too_little) / 2;
        match run(middle) {
            Ok(result) if result.is_success() => enough = middle,
            _ => too_little = middle,
        }
    }
    Ok(enough)
}

/// The gas that the sender could pay for at the price offered.
fn affordable(block: &Block, transaction: &TxEnv) -> Result<u64, RpcError> {
    let limit = transaction.gas_limit;
    if transaction.gas_price == 0 {
        return Ok(limit);
    }
    let balance = evm::account(&block.accounts, transaction.caller).balance;
    let left = balance
        .checked_sub(transaction.value)
        .ok_or_else(|| RpcError::refused("insufficient funds for transfer"))?;
    let affordable = left / U256::from(transaction.gas_price);
    Ok(limit.min(u64::try_from(affordable).unwrap_or(u64::MAX)))
}

fn environment(block: &Block, chain_id: u64, request: &TransactionRequest) -> Result<TxEnv, RpcError> {
    if request.gas_price.is_some()
        && (request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some())
    {
        return Err(RpcError::refused("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"));
    }
    let caller = request.from.unwrap_or_default();
    let gas_price = request.gas_price.or(request.max_fee_per_gas).unwrap_or_default();
    Ok(TxEnv {
        tx_type: if request.gas_price.is_some() { 0 } else { 2 },
        caller,
        gas_limit: request.gas.unwrap_or(u64::MAX).min(block.header.gas_limit),
        gas_price,
        kind: request.to.unwrap_or(TxKind::Create),
        value: request.value.unwrap_or_default(),
        data: request.input.input().cloned().unwrap_or_default(),
        nonce: evm::account(&block.accounts, caller).nonce,
        chain_id: Some(request.chain_id.unwrap_or(chain_id)),
        access_list: request.access_list.clone().unwrap_or_default(),
        gas_priority_fee: (request.gas_price.is_none())
            .then(|| request.max_priority_fee_per_gas.unwrap_or_default().min(gas_price)),
        ..TxEnv::default()
    })
}

fn returned(result: ExecutionResult) -> Result<Bytes, RpcError> {
    match result {
        ExecutionResult::Success { output, .. } => Ok(output.into_data()),
        ExecutionResult::Revert { output, .. } => Err(RpcError::reverted(&output)),
        ExecutionResult::Halt { reason, .. } => Err(RpcError::refused(match reason {
            HaltReason::OutOfGas(_) => "out of gas".into(),
            HaltReason::OpcodeNotFound | HaltReason::InvalidFEOpcode => "invalid opcode".into(),
            HaltReason::OutOfFunds => "insufficient balance for transfer".into(),
            other => format!("execution failed: {other:?}"),
        })),
    }
}

fn refusal(error: Refusal) -> RpcError {
    RpcError::refused(match error {
        EVMError::Transaction(InvalidTransaction::LackOfFundForMaxFee { fee, balance }) => {
            format!("insufficient funds for gas * price + value: have {balance} want {fee}")
        }
        EVMError::Transaction(InvalidTransaction::GasPriceLessThanBasefee) => {
            "max fee per gas less than block base fee".into()
        }
        EVMError::Transaction(InvalidTransaction::InvalidChainId) => "invalid chain id for signer".into(),
        EVMError::Transaction(InvalidTransaction::CallGasCostMoreThanGasLimit { initial_gas, gas_limit }) => {
            format!("intrinsic gas too low: have {gas_limit}, want {initial_gas}")
        }
        other => other.to_string(),
    })
}
