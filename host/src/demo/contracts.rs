//! The treasury's transactions: deploys the pool manager, asks for exits.

use super::DemoError;
use super::account::{Account, Call, failed};
use super::stakers::{Staker, wei};
use crate::chain::execution::connect_provider;
use crate::chain::profile::PoolManager;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::providers::Provider;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall, SolValue};
use postern_shared::ids::PoolId;
use serde::Deserialize;

const POOL_MANAGER: &str = include_str!("../../contracts/artifacts/PoolManager.json");
/// In blocks: until anybody may have a validator leave that was asked to, until a pool without a validator is refunded, and until
/// wallets alone may put other enclaves in force.
const EXIT_DELAY: u64 = 100;
const REFUND_DELAY: u64 = 1_000;
const RECOVERY_DELAY: u64 = 2_000;

/// The treasury: governor of the pool manager.
pub(crate) struct Treasury {
    account: Account,
    pool_manager: Address,
    deployed_in: u64,
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
        wallets: Vec<Address>,
    ) -> Result<Self, DemoError> {
        const WHAT: &str = "deploying the pool manager";
        let provider = connect_provider(url, chain_id).await?;
        let artifact: Artifact = serde_json::from_str(POOL_MANAGER).map_err(|error| failed(WHAT, error))?;
        let mut code = artifact.bytecode.to_vec();
        let (governor, delays) = (signer.address(), (EXIT_DELAY, REFUND_DELAY, RECOVERY_DELAY));
        code.extend((deposit_contract, governor, wallets, delays).abi_encode_params());
        let account = Account::new(provider, chain_id, signer);
        let call = Call { what: WHAT, to: TxKind::Create, input: code, value: U256::ZERO };
        let receipt = account.send(&call).await?;
        let pool_manager = receipt.contract_address.ok_or_else(|| failed(WHAT, "no contract address"))?;
        let deployed_in = receipt.block_number.ok_or_else(|| failed(WHAT, "no block number"))?;
        Ok(Self { account, pool_manager, deployed_in })
    }

    /// Where the pool manager stands.
    pub(crate) fn pool_manager(&self) -> Address {
        self.pool_manager
    }

    /// The block of its deployment.
    pub(crate) fn deployed_in(&self) -> u64 {
        self.deployed_in
    }

    /// Hash of the code by which the pool manager creates pools.
    pub(crate) async fn pool_code(&self) -> Result<B256, DemoError> {
        let manager = PoolManager::new(self.pool_manager, self.account.provider());
        manager.poolCodeHash().call().await.map_err(|error| failed("reading the pools' code", error))
    }

    /// Somebody who stakes with this pool manager: so much ether for each pool.
    pub(super) fn staker(&self, signer: PrivateKeySigner, share: u64) -> Staker {
        Staker::new(self.account.beside(signer), self.pool_manager, wei(share))
    }

    /// What a pool holds, in wei.
    pub(super) async fn balance_of(&self, pool: PoolId) -> Result<U256, DemoError> {
        const WHAT: &str = "reading a pool's balance";
        let provider = self.account.provider();
        let address = PoolManager::new(self.pool_manager, provider).getPoolAddress(pool.number).call().await;
        let address = address.map_err(|error| failed(WHAT, error))?;
        provider.get_balance(address).await.map_err(|error| failed(WHAT, error))
    }

    /// Stakes for this many pools by itself.
    #[cfg(test)]
    pub(crate) async fn stake(&self, pools: u32) -> Result<(), DemoError> {
        let value = super::stakers::POOL_CAPACITY * U256::from(pools);
        self.send("staking", PoolManager::stakeCall {}, value).await
    }

    /// Asks for a pool's exit.
    #[cfg(test)]
    pub(crate) async fn request_exit(&self, pool: PoolId) -> Result<(), DemoError> {
        self.request_exits(&[pool]).await
    }

    /// Asks for the exits of pools, in one call.
    pub(crate) async fn request_exits(&self, pools: &[PoolId]) -> Result<(), DemoError> {
        let ids = pools.iter().map(|pool| pool.number).collect();
        let reason = "the demo's last act".to_owned();
        let call = PoolManager::requestPoolExitsCall { poolIds: ids, reason, walletProof: Bytes::new() };
        self.send("requesting an exit", call, U256::ZERO).await
    }

    async fn send(&self, what: &'static str, call: impl SolCall, value: U256) -> Result<(), DemoError> {
        let (to, input) = (TxKind::Call(self.pool_manager), call.abi_encode());
        self.account.send(&Call { what, to, input, value }).await?;
        Ok(())
    }
}
