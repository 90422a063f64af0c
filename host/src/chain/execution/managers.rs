//! What pool managers say of themselves and of their pools.

use super::error::ChainError;
use super::node::Node;
use super::{Cursor, InForce, Pool, PoolStatus, Recovery};
use crate::chain::profile::{self, PoolManager};
use alloy::eips::BlockNumberOrTag;
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::{SyncStatus, TransactionRequest};
use alloy::sol_types::SolCall;
use futures::future::join_all;
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

    /// What is wrong with this node: its chain, or what it says of the newest manifest's pool manager, by which it is checked from now on
    /// whenever it has failed.
    pub(super) async fn check(&self, newest: Option<&Contracts>) -> Result<(), ChainError> {
        if let Some(contracts) = newest {
            self.expect_manager(contracts);
        }
        self.check_chain().await
    }

    /// What is not as the manifests say, and keeps nobody from beginning: of pool managers that an epoch has replaced, and of where
    /// the newest one's events begin. All are asked about at the same time.
    pub(super) async fn remarks(&self, newest: &Contracts, earlier: &[Contracts]) -> Vec<ChainError> {
        let earlier = join_all(earlier.iter().map(|contracts| self.check_manager(contracts)));
        let (start, earlier) = tokio::join!(self.check_start(newest), earlier);
        earlier.into_iter().chain([start]).filter_map(Result::err).collect()
    }

    /// Whether a pool manager that is there has no past before its first block.
    async fn check_start(&self, contracts: &Contracts) -> Result<(), ChainError> {
        let Contracts { pool_manager: contract, start_block, .. } = *contracts;
        let head = self.provider.get_block_number().await.map_err(|error| self.refused("head", error))?;
        if head < start_block {
            return Err(ChainError::StartBlock { contract, start_block, head });
        }
        Ok(())
    }

    /// Whether the pool manager is what the manifest says: in front of that deposit contract, with that code for pools.
    pub(super) async fn check_manager(&self, contracts: &Contracts) -> Result<(), ChainError> {
        let Contracts { pool_manager: contract, pool_code, start_block, deposit } = *contracts;
        let manager = self.manager(contract);
        let head = self.provider.get_block_number().await.map_err(|error| self.refused("head", error))?;
        let code = self.provider.get_code_at(*manager.address()).number(head).await;
        if code.map_err(|error| self.refused("code", error))?.is_empty() {
            let is_syncing = self.provider.syncing().await.map_err(|error| self.refused("syncing", error))?;
            let is_early = head < start_block || matches!(is_syncing, SyncStatus::Info(_));
            return Err(if is_early {
                ChainError::NoContractYet(contract)
            } else {
                ChainError::NoContract(contract)
            });
        }
        let found = manager.depositContract().call().await;
        let found = found.map_err(|error| self.unanswered(contract, "depositContract", error))?;
        let code = manager.poolCodeHash().call().await;
        let code = code.map_err(|error| self.unanswered(contract, "poolCodeHash", error))?;
        let found = (Address(found.into_array()), Digest(code.0));
        if found == (deposit, pool_code) {
            return Ok(());
        }
        let (deposit, code) = found;
        Err(ChainError::OtherManager { contract, deposit, code })
    }

    /// A call that every pool manager answers: the contract is another one, or the node does not answer.
    fn unanswered(&self, contract: Address, call: &'static str, error: alloy::contract::Error) -> ChainError {
        use alloy::contract::Error;
        let is_refused = match &error {
            Error::ZeroData(..) | Error::AbiError(_) => true,
            Error::TransportError(error) => error.as_error_resp().is_some_and(|answer| {
                answer.as_revert_data().is_some() || answer.message.to_lowercase().contains("revert")
            }),
            _ => false,
        };
        if is_refused { ChainError::NoManager { contract, call } } else { self.refused(call, error) }
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
