//! An account of the demo's own, and the transactions that it sends.

use super::DemoError;
use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::Encodable2718;
use alloy::network::TxSignerSync;
use alloy::primitives::{Address, TxHash, TxKind, U256};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use std::time::Duration;

const POLL: Duration = Duration::from_millis(40);
const PATIENCE: Duration = Duration::from_secs(60);
/// The embedded chain's base fee is next to nothing.
const FEE: u128 = 100_000_000_000;

/// An account and the node that it talks to.
#[derive(Clone)]
pub(crate) struct Account {
    provider: DynProvider,
    chain_id: u64,
    signer: PrivateKeySigner,
}

/// What a transaction does.
#[derive(Clone)]
pub(crate) struct Call {
    /// In words, for errors.
    pub(crate) what: &'static str,
    /// The contract.
    pub(crate) to: TxKind,
    /// The function and its arguments.
    pub(crate) input: Vec<u8>,
    /// Ether that goes along, in wei.
    pub(crate) value: U256,
}

impl Account {
    pub(crate) fn new(provider: DynProvider, chain_id: u64, signer: PrivateKeySigner) -> Self {
        Self { provider, chain_id, signer }
    }

    /// Another account of the same chain.
    pub(crate) fn beside(&self, signer: PrivateKeySigner) -> Self {
        Self { signer, ..self.clone() }
    }

    pub(crate) fn provider(&self) -> &DynProvider {
        &self.provider
    }

    pub(crate) fn address(&self) -> Address {
        self.signer.address()
    }

    /// What it has, in wei.
    pub(crate) async fn balance(&self, what: &'static str) -> Result<U256, DemoError> {
        self.provider.get_balance(self.address()).await.map_err(|error| failed(what, error))
    }

    /// Sends a transaction and waits until it is in a block. One that reverts is an error.
    pub(crate) async fn send(&self, call: &Call) -> Result<TransactionReceipt, DemoError> {
        let gas = self.gas(call).await?;
        let hash = self.submit(call, self.nonce(call.what).await?, gas).await?;
        self.mined(call.what, hash).await
    }

    /// A gas limit for a transaction: what it would take now and a quarter more.
    pub(crate) async fn gas(&self, call: &Call) -> Result<u64, DemoError> {
        let request = TransactionRequest { to: Some(call.to), ..Default::default() };
        let request = request.from(self.address()).value(call.value).input(call.input.clone().into());
        let gas = self.provider.estimate_gas(request).await.map_err(|error| failed(call.what, error))?;
        Ok(gas + gas / 4)
    }

    /// The nonce of its next transaction, behind those that wait.
    pub(crate) async fn nonce(&self, what: &'static str) -> Result<u64, DemoError> {
        self.provider
            .get_transaction_count(self.address())
            .pending()
            .await
            .map_err(|error| failed(what, error))
    }

    /// Hands a transaction in and does not wait for its block.
    pub(crate) async fn submit(&self, call: &Call, nonce: u64, gas: u64) -> Result<TxHash, DemoError> {
        let mut transaction = TxEip1559 {
            chain_id: self.chain_id,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: FEE,
            max_priority_fee_per_gas: FEE / 100,
            to: call.to,
            value: call.value,
            access_list: Default::default(),
            input: call.input.clone().into(),
        };
        let signature =
            self.signer.sign_transaction_sync(&mut transaction).map_err(|error| failed(call.what, error))?;
        let envelope = TxEnvelope::from(transaction.into_signed(signature));
        let raw = envelope.encoded_2718();
        let pending = self.provider.send_raw_transaction(&raw).await;
        let _pending = pending.map_err(|error| failed(call.what, error))?;
        Ok(*envelope.tx_hash())
    }

    /// Waits until a transaction is in a block. One that reverted is an error.
    pub(crate) async fn mined(
        &self,
        what: &'static str,
        hash: TxHash,
    ) -> Result<TransactionReceipt, DemoError> {
        let receipt = tokio::time::timeout(PATIENCE, self.receipt(what, hash)).await;
        let receipt = receipt.map_err(|_| failed(what, "not mined in time"))??;
        if receipt.status() { Ok(receipt) } else { Err(failed(what, "the transaction reverted")) }
    }

    async fn receipt(&self, what: &'static str, hash: TxHash) -> Result<TransactionReceipt, DemoError> {
        loop {
            let receipt = self.provider.get_transaction_receipt(hash).await;
            if let Some(receipt) = receipt.map_err(|error| failed(what, error))? {
                return Ok(receipt);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Why a transaction, or what was read for it, went wrong.
pub(crate) fn failed(what: &'static str, reason: impl std::fmt::Display) -> DemoError {
    DemoError::Transaction { what, reason: reason.to_string() }
}
