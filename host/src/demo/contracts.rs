//! The demo's own transactions: deploys the pool manager, stakes, asks for exits.

use super::DemoError;
use crate::chain::execution::connect_provider;
use crate::chain::profile::PoolManager;
use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::Encodable2718;
use alloy::network::TxSignerSync;
use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall, SolValue};
use postern_shared::ids::PoolId;
use serde::Deserialize;
use std::time::Duration;

const POOL_MANAGER: &str = include_str!("../../contracts/artifacts/PoolManager.json");
/// One validator's stake.
const STAKE_ETHER: u64 = 32;
const POLL: Duration = Duration::from_millis(40);
const PATIENCE: Duration = Duration::from_secs(60);
/// The embedded chain's base fee is next to nothing.
const FEE: u128 = 100_000_000_000;

/// The treasury: owner of the pool manager, and the only staker.
pub(crate) struct Treasury {
    provider: DynProvider,
    chain_id: u64,
    signer: PrivateKeySigner,
    pool_manager: Address,
}

#[derive(Deserialize)]
struct Artifact {
    bytecode: Bytes,
}

impl Treasury {
    /// Deploys a pool manager in front of a deposit contract.
    pub(crate) async fn deploy(
        url: &str,
        chain_id: u64,
        signer: PrivateKeySigner,
        deposit_contract: Address,
        leader: Address,
    ) -> Result<Self, DemoError> {
        const WHAT: &str = "deploying the pool manager";
        let provider = connect_provider(url, chain_id).await?;
        let artifact: Artifact = serde_json::from_str(POOL_MANAGER).map_err(|error| failed(WHAT, error))?;
        let mut code = artifact.bytecode.to_vec();
        code.extend((deposit_contract, leader).abi_encode_params());
        let mut treasury = Self { provider, chain_id, signer, pool_manager: Address::ZERO };
        let receipt = treasury.send(WHAT, TxKind::Create, code, U256::ZERO).await?;
        treasury.pool_manager =
            receipt.contract_address.ok_or_else(|| failed(WHAT, "no contract address"))?;
        Ok(treasury)
    }

    /// Where the pool manager stands.
    pub(crate) fn pool_manager(&self) -> Address {
        self.pool_manager
    }

    /// Stakes for this many pools in one transaction, so that their events share a block.
    pub(crate) async fn stake(&self, pools: u32) -> Result<(), DemoError> {
        let value = U256::from(STAKE_ETHER) * U256::from(pools) * U256::from(10).pow(U256::from(18));
        self.send("staking", TxKind::Call(self.pool_manager), PoolManager::stakeCall {}.abi_encode(), value)
            .await?;
        Ok(())
    }

    /// Asks for a pool's exit.
    pub(crate) async fn request_exit(&self, pool: PoolId) -> Result<(), DemoError> {
        let call = PoolManager::requestPoolExitCall { poolId: pool.number }.abi_encode();
        self.send("requesting an exit", TxKind::Call(self.pool_manager), call, U256::ZERO).await?;
        Ok(())
    }

    async fn send(
        &self,
        what: &'static str,
        to: TxKind,
        input: Vec<u8>,
        value: U256,
    ) -> Result<TransactionReceipt, DemoError> {
        let from = self.signer.address();
        let request = TransactionRequest { to: Some(to), ..Default::default() };
        let request = request.from(from).value(value).input(input.clone().into());
        let gas = self.provider.estimate_gas(request).await.map_err(|error| failed(what, error))?;
        let nonce = self.provider.get_transaction_count(from).await.map_err(|error| failed(what, error))?;
        let mut transaction = TxEip1559 {
            chain_id: self.chain_id,
            nonce,
            gas_limit: gas + gas / 4,
            max_fee_per_gas: FEE,
            max_priority_fee_per_gas: FEE / 100,
            to,
            value,
            access_list: Default::default(),
            input: input.into(),
        };
        let signature =
            self.signer.sign_transaction_sync(&mut transaction).map_err(|error| failed(what, error))?;
        let envelope = TxEnvelope::from(transaction.into_signed(signature));
        let raw = envelope.encoded_2718();
        let _pending = self.provider.send_raw_transaction(&raw).await.map_err(|error| failed(what, error))?;
        let receipt = tokio::time::timeout(PATIENCE, self.receipt(what, *envelope.tx_hash())).await;
        let receipt = receipt.map_err(|_| failed(what, "not mined in time"))??;
        if receipt.status() { Ok(receipt) } else { Err(failed(what, "the transaction reverted")) }
    }

    async fn receipt(
        &self,
        what: &'static str,
        hash: alloy::primitives::TxHash,
    ) -> Result<TransactionReceipt, DemoError> {
        loop {
            let receipt = self.provider.get_transaction_receipt(hash).await;
            if let Some(receipt) = receipt.map_err(|error| failed(what, error))? {
                return Ok(receipt);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

fn failed(what: &'static str, reason: impl std::fmt::Display) -> DemoError {
    DemoError::Transaction { what, reason: reason.to_string() }
}
