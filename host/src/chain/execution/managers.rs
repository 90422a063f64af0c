//! What pool managers say of themselves and of their pools.

use super::error::ChainError;
use super::node::Node;
use super::{Cursor, InForce, Pool, PoolStatus, Recovery};
use crate::chain::profile::{self, PoolManager};
use alloy::eips::BlockNumberOrTag;
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolCall;
use postern_shared::bls::PublicKey;
use postern_shared::ids::{Address, Digest, ManifestHash, PoolId};
use postern_shared::manifest::Contracts;

/// The blocks of a pool's first events: 0 for what did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolBlocks {
    /// In which the pool was full, and its deposit requested.
    pub ready_at: u64,
    /// Of the first request to exit.
    pub exit_requested_at: u64,
}

impl Node {
    fn manager(&self, contract: Address) -> PoolManager::PoolManagerInstance<&DynProvider> {
        PoolManager::new(profile::to_alloy(contract), &self.provider)
    }

    /// What a pool's own pool manager says about it.
    pub(super) async fn pool(&self, pool: PoolId, at: BlockNumberOrTag) -> Result<Pool, ChainError> {
        let answer = self.manager(pool.contract).getPool(pool.number).block(at.into()).call().await;
        read(pool, &answer.map_err(|error| self.refused("getPool", error))?)
    }

    /// What it said at one block, which must be in the chain.
    pub(super) async fn pool_at(&self, pool: PoolId, at: Cursor) -> Result<Pool, ChainError> {
        let call = PoolManager::getPoolCall { poolId: pool.number };
        let answer = self.calls(pool.contract, at, &[call]).await?.pop();
        read(pool, &answer.ok_or_else(|| ChainError::Inconsistent("no answer to getPool".to_owned()))?)
    }

    /// How many pools a pool manager has; none before it was deployed, when nothing answers.
    pub(super) async fn pool_count(&self, contract: Address, at: Cursor) -> Result<u32, ChainError> {
        let call = TransactionRequest::default()
            .to(profile::to_alloy(contract))
            .input(PoolManager::poolCountCall {}.abi_encode().into());
        let answer = self.provider.call(call).block(at.canonical()).await;
        let answer = answer.map_err(|error| self.refused("poolCount", error))?;
        if answer.is_empty() {
            return Ok(0);
        }
        let wrong = |error| ChainError::Inconsistent(format!("answer to poolCount: {error}"));
        PoolManager::poolCountCall::abi_decode_returns(&answer).map_err(wrong)
    }

    /// The statuses of pools, in the order asked.
    pub(super) async fn statuses(
        &self,
        contract: Address,
        at: Cursor,
        numbers: &[u32],
    ) -> Result<Vec<PoolStatus>, ChainError> {
        let calls: Vec<_> =
            numbers.iter().map(|&number| PoolManager::getPoolCall { poolId: number }).collect();
        let answers = self.calls(contract, at, &calls).await?;
        answers.into_iter().map(|answer| status(answer.status)).collect()
    }

    /// The blocks of pools' first events, in the order asked.
    pub(super) async fn blocks_of(
        &self,
        contract: Address,
        at: Cursor,
        numbers: &[u32],
    ) -> Result<Vec<PoolBlocks>, ChainError> {
        let calls: Vec<_> =
            numbers.iter().map(|&number| PoolManager::blocksOfCall { poolId: number }).collect();
        let answers = self.calls(contract, at, &calls).await?.into_iter();
        let blocks = answers
            .map(|answer| PoolBlocks { ready_at: answer.readyAt, exit_requested_at: answer.exitRequestedAt });
        Ok(blocks.collect())
    }

    /// Whether the pool manager is what the manifest says.
    pub(super) async fn check_manager(&self, contracts: &Contracts) -> Result<(), ChainError> {
        let manager = self.manager(contracts.pool_manager);
        let code = self.provider.get_code_at(*manager.address()).await;
        if code.map_err(|error| self.refused("code", error))?.is_empty() {
            return Err(ChainError::NoContract(contracts.pool_manager));
        }
        let deposit =
            manager.depositContract().call().await.map_err(|error| self.refused("depositContract", error))?;
        let code =
            manager.poolCodeHash().call().await.map_err(|error| self.refused("poolCodeHash", error))?;
        let (deposit, code) = (Address(deposit.into_array()), Digest(code.0));
        if (deposit, code) == (contracts.deposit, contracts.pool_code) {
            return Ok(());
        }
        Err(ChainError::OtherManager { contract: contracts.pool_manager, deposit, code })
    }

    /// Which members a pool manager knows now, and whether wallets want others.
    pub(super) async fn in_force_at(&self, contract: Address) -> Result<InForce, ChainError> {
        let manager = self.manager(contract);
        // All of one block.
        let block = self.provider.get_block_number().await.map_err(|error| self.refused("head", error))?;
        let at = block.into();
        let epoch = manager.epoch().block(at).call().await.map_err(|error| self.refused("epoch", error))?;
        let manifest = manager.manifestHash().block(at).call().await;
        let manifest = manifest.map_err(|error| self.refused("manifestHash", error))?;
        let found = manager.pendingRecovery().block(at).call().await;
        let found = found.map_err(|error| self.refused("pendingRecovery", error))?;
        let recovery = Recovery {
            number: found.number,
            ready_at: found.readyAt,
            epoch: found.epoch,
            manifest: ManifestHash(found.manifest.0),
            council: Digest(found.council.0),
        };
        let recovery = (found.number != 0).then_some(recovery);
        Ok(InForce { epoch, manifest: ManifestHash(manifest.0), recovery })
    }
}

fn read(pool: PoolId, answer: &PoolManager::getPoolReturn) -> Result<Pool, ChainError> {
    let status = status(answer.status)?;
    let pubkey = match answer.publicKey.as_ref() {
        [] => None,
        bytes => {
            let length = bytes.len();
            let wrong = |_| ChainError::Inconsistent(format!("public key of {length} bytes for {pool}"));
            Some(PublicKey(bytes.try_into().map_err(wrong)?))
        }
    };
    let address = (!answer.pool.is_zero()).then_some(Address(answer.pool.into_array()));
    Ok(Pool { address, status, pubkey })
}

fn status(number: u8) -> Result<PoolStatus, ChainError> {
    match number {
        0 => Ok(PoolStatus::None),
        1 => Ok(PoolStatus::Ready),
        2 => Ok(PoolStatus::Deposited),
        3 => Ok(PoolStatus::ExitRequested),
        4 => Ok(PoolStatus::Refunded),
        other => Err(ChainError::Inconsistent(format!("pool status {other}"))),
    }
}
