//! Pool events from finalised blocks of the execution layer.
//!
//! # State and restart
//! [`Execution::poll`] is a function of contract and cursor. The caller stores the events and the contract's new cursor
//! together (one database transaction); then every event arrives exactly once, whatever crashes in between.

use super::describe_error;
use super::profile::{self, LogError, PoolEventKind, PoolManager, Profile};
use alloy::eips::BlockNumberOrTag;
use alloy::network::Ethereum;
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::{Filter, Log};
use alloy::transports::http::Http;
use postern_shared::bls::PublicKey;
use postern_shared::events::{ChainEvent, DepositRequest, EventSource};
use postern_shared::ids::{Address, Digest, ManifestHash, PoolId};
use postern_shared::manifest::Contracts;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most blocks that one request for logs spans: public nodes refuse wider ones.
const MAX_SPAN: u64 = 1_000;
/// Most spans that one call of [`Execution::poll`] walks, so that a host far behind makes progress in stored steps.
const MAX_SPANS_PER_POLL: u64 = 20;
/// Most spans that are searched backwards: about three weeks.
const MAX_SPANS_BACK: u64 = 150;
/// How long a node may take to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The last finalised block whose events, of one contract, were all processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Its number.
    pub block: u64,
    /// Its hash.
    pub hash: Digest,
}

/// An event of a pool manager in a finalised block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolEvent {
    /// The log.
    pub source: EventSource,
    /// The block's number.
    pub block_number: u64,
    /// The pool.
    pub pool: PoolId,
    /// What happened.
    pub kind: PoolEventKind,
}

/// What the pool manager says about a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The pool contract; `None` when there is no such pool.
    pub address: Option<Address>,
    /// Where it is in its life.
    pub status: PoolStatus,
    /// Its validator, once deposited.
    pub pubkey: Option<PublicKey>,
}

/// Where a pool is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PoolStatus {
    /// There is no such pool.
    None,
    /// Full, without a validator.
    Ready,
    /// Its deposit was made.
    Deposited,
    /// The DAO wants its validator out.
    ExitRequested,
    /// It never got a validator, and its stake went back.
    Refunded,
}

/// Why the execution layer could not be read.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The URL is none.
    #[error("execution node URL `{url}`: {reason}")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The node serves another chain.
    #[error("the execution node is of chain {found}, the manifest of chain {expected}")]
    WrongChain {
        /// The manifest's chain id.
        expected: u64,
        /// The node's.
        found: u64,
    },
    /// The node can't be reached, or refused.
    #[error("execution node, {request}: {reason}")]
    Node {
        /// What was asked.
        request: &'static str,
        /// What came instead of an answer.
        reason: String,
    },
    /// The node has no block that it says it has.
    #[error("the execution node does not have block {0}")]
    MissingBlock(String),
    /// A block that was final has changed: the node lies, or finality was broken. A person must look.
    #[error("finalised block changed: block {block} was {expected}, the node now says {found}")]
    FinalisedBlockChanged {
        /// The cursor's block.
        block: u64,
        /// The hash stored with the cursor.
        expected: Digest,
        /// The node's.
        found: Digest,
    },
    /// The node's newest finalised block is before the cursor: it is behind, ask again later.
    #[error("the execution node's finalised block {finalised} is before the cursor's block {cursor}")]
    Behind {
        /// The node's newest finalised block.
        finalised: u64,
        /// The cursor's.
        cursor: u64,
    },
    /// The node's answer contradicts itself or the request.
    #[error("inconsistent answer of the execution node: {0}")]
    Inconsistent(String),
    /// The pool manager is not what the manifest says.
    #[error(
        "the pool manager {contract} deposits at {deposit} and creates pools by code {code}: not what the manifest says"
    )]
    OtherManager {
        /// Which.
        contract: Address,
        /// Where it deposits.
        deposit: Address,
        /// Hash of its code for pools.
        code: Digest,
    },
    /// A log of the pool manager that is not what its topic says.
    #[error("pool manager log in block {block}: {error}")]
    Log {
        /// Where.
        block: u64,
        /// What is wrong.
        error: LogError,
    },
}

impl ChainError {
    /// Whether the same question may be answered later, by the same node.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Node { .. } | Self::MissingBlock(_) | Self::Behind { .. } | Self::Inconsistent(_)
        )
    }
}

/// A connection to an execution node.
#[derive(Debug, Clone)]
pub struct Execution {
    provider: DynProvider,
    chain_id: u64,
    profile: Profile,
}

impl PoolEvent {
    /// The claim to make to the enclave; `None` for events that enclaves have no use for.
    pub fn claim(&self) -> Option<ChainEvent> {
        let Self { source, pool, kind, .. } = *self;
        match kind {
            PoolEventKind::DepositRequested => {
                Some(ChainEvent::DepositRequested(DepositRequest { source, pool }))
            }
            PoolEventKind::ExitRequested => Some(ChainEvent::ExitRequested { source, pool }),
            _ => None,
        }
    }
}

impl Execution {
    /// Connects with the `documents` profile. Refuses a node of another chain than the manifest's.
    pub async fn connect(url: &str, chain_id: u64) -> Result<Self, ChainError> {
        Self::connect_with(url, chain_id, Profile::default()).await
    }

    /// Connects with another contract profile.
    pub async fn connect_with(url: &str, chain_id: u64, profile: Profile) -> Result<Self, ChainError> {
        let provider = connect_provider(url, chain_id).await?;
        Ok(Self { provider, chain_id, profile })
    }

    /// The connection, for [`super::transactions::Transactions`].
    pub fn provider(&self) -> &DynProvider {
        &self.provider
    }

    /// The contract profile.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Where to begin when nothing was processed yet: after `block` (0: from the chain's start).
    pub async fn cursor_at(&self, block: u64) -> Result<Cursor, ChainError> {
        let hash = self.block_hash(block).await?;
        Ok(Cursor { block, hash })
    }

    /// A contract's events of finalised blocks after the cursor, in the chain's order, and the new cursor.
    ///
    /// Far behind, it returns after a bounded number of requests; call again until the cursor stays.
    pub async fn poll(
        &self,
        contract: Address,
        cursor: Cursor,
    ) -> Result<(Vec<PoolEvent>, Cursor), ChainError> {
        let found = self.block_hash(cursor.block).await?;
        if found != cursor.hash {
            return Err(ChainError::FinalisedBlockChanged {
                block: cursor.block,
                expected: cursor.hash,
                found,
            });
        }
        let finalised = self.finalised().await?;
        if finalised.block < cursor.block {
            return Err(ChainError::Behind { finalised: finalised.block, cursor: cursor.block });
        }
        let mut events = Vec::new();
        let mut reached = cursor;
        for _ in 0..MAX_SPANS_PER_POLL {
            if reached.block >= finalised.block {
                break;
            }
            let last = finalised.block.min(reached.block.saturating_add(MAX_SPAN));
            let next = if last == finalised.block { finalised } else { self.cursor_at(last).await? };
            events.extend(self.events(contract, reached.block + 1, last).await?);
            reached = next;
        }
        Ok((events, reached))
    }

    /// The newest finalised block.
    pub async fn finalised(&self) -> Result<Cursor, ChainError> {
        let block = self.provider.get_block_by_number(BlockNumberOrTag::Finalized).await;
        let block = block.map_err(|error| node("newest finalised block", error))?;
        let header = block.ok_or_else(|| ChainError::MissingBlock("`finalized`".to_owned()))?.header;
        Ok(Cursor { block: header.number, hash: Digest(header.hash.0) })
    }

    /// What a pool's own pool manager says about it, at the newest finalised block (`finalised`) or at the head.
    pub async fn pool(&self, pool: PoolId, finalised: bool) -> Result<Pool, ChainError> {
        let tag = if finalised { BlockNumberOrTag::Finalized } else { BlockNumberOrTag::Latest };
        let manager = self.manager_of(pool)?;
        let answer = manager
            .getPool(pool.number)
            .block(tag.into())
            .call()
            .await
            .map_err(|error| node("getPool", error))?;
        let status = match answer.status {
            0 => PoolStatus::None,
            1 => PoolStatus::Ready,
            2 => PoolStatus::Deposited,
            3 => PoolStatus::ExitRequested,
            4 => PoolStatus::Refunded,
            other => return Err(ChainError::Inconsistent(format!("status {other} of {pool}"))),
        };
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

    /// The contract that a pool is one of.
    fn manager_of(&self, pool: PoolId) -> Result<PoolManager::PoolManagerInstance<&DynProvider>, ChainError> {
        if pool.chain != self.chain_id {
            return Err(ChainError::WrongChain { expected: pool.chain, found: self.chain_id });
        }
        Ok(PoolManager::new(profile::to_alloy(pool.contract), &self.provider))
    }

    async fn block_hash(&self, number: u64) -> Result<Digest, ChainError> {
        let block = self.provider.get_block_by_number(number.into()).await;
        let block = block.map_err(|error| node("block by number", error))?;
        let header = block.ok_or_else(|| ChainError::MissingBlock(number.to_string()))?.header;
        if header.number != number {
            let text = format!("block {} where {number} was asked", header.number);
            return Err(ChainError::Inconsistent(text));
        }
        Ok(Digest(header.hash.0))
    }

    async fn events(&self, contract: Address, first: u64, last: u64) -> Result<Vec<PoolEvent>, ChainError> {
        let filter = Filter::new()
            .address(profile::to_alloy(contract))
            .event_signature(self.profile.topics())
            .from_block(first)
            .to_block(last);
        let mut logs = self.provider.get_logs(&filter).await.map_err(|error| node("logs", error))?;
        logs.sort_by_key(|log| (log.block_number, log.log_index));
        let mut events = Vec::with_capacity(logs.len());
        for log in &logs {
            events.extend(self.event(contract, log, first, last).await?);
        }
        Ok(events)
    }

    async fn event(
        &self,
        contract: Address,
        log: &Log,
        first: u64,
        last: u64,
    ) -> Result<Option<PoolEvent>, ChainError> {
        let (Some(block_number), Some(block), Some(log_index)) =
            (log.block_number, log.block_hash, log.log_index)
        else {
            return Err(ChainError::Inconsistent("a log without its place in a finalised block".to_owned()));
        };
        let emitted_by = Address(log.address().into_array());
        if log.removed || emitted_by != contract || !(first..=last).contains(&block_number) {
            let text = format!("a log of block {block_number} that was not asked for ({first} to {last})");
            return Err(ChainError::Inconsistent(text));
        }
        let decoded = self.profile.decode(log.data());
        let Some((kind, number)) = decoded.map_err(|error| ChainError::Log { block: block_number, error })?
        else {
            return Ok(None);
        };
        let pool = PoolId::new(self.chain_id, contract, number);
        if kind == PoolEventKind::ReshareRequested {
            tracing::warn!(%pool, block_number, "the pool asks for a reshare, which is not supported yet");
        }
        let source = EventSource { block: Digest(block.0), log_index };
        Ok(Some(PoolEvent { source, block_number, pool, kind }))
    }

    /// Whether the pool manager is what the manifest says: in front of that deposit contract, with that code for pools.
    pub async fn check_manager(&self, contracts: &Contracts) -> Result<(), ChainError> {
        let manager = PoolManager::new(profile::to_alloy(contracts.pool_manager), &self.provider);
        let deposit =
            manager.depositContract().call().await.map_err(|error| node("depositContract", error))?;
        let code = manager.poolCodeHash().call().await.map_err(|error| node("poolCodeHash", error))?;
        let (deposit, code) = (Address(deposit.into_array()), Digest(code.0));
        if (deposit, code) == (contracts.deposit, contracts.pool_code) {
            return Ok(());
        }
        Err(ChainError::OtherManager { contract: contracts.pool_manager, deposit, code })
    }

    /// The transaction of a pool's newest event of a kind: looked for from the head back to block `first`, but not for ever.
    pub async fn transaction_of(
        &self,
        kind: PoolEventKind,
        pool: PoolId,
        first: u64,
    ) -> Result<Option<Digest>, ChainError> {
        let wanted = (kind, pool.number);
        let mut last = self.provider.get_block_number().await.map_err(|error| node("block number", error))?;
        for _ in 0..MAX_SPANS_BACK {
            let from = last.saturating_sub(MAX_SPAN - 1).max(first);
            let filter = Filter::new()
                .address(profile::to_alloy(pool.contract))
                .event_signature(self.profile.topics())
                .from_block(from)
                .to_block(last);
            let logs = self.provider.get_logs(&filter).await.map_err(|error| node("logs", error))?;
            let found = logs.iter().rev().find(|log| self.profile.decode(log.data()) == Ok(Some(wanted)));
            if let Some(hash) = found.and_then(|log| log.transaction_hash) {
                return Ok(Some(Digest(hash.0)));
            }
            if from <= first {
                break;
            }
            last = from - 1;
        }
        Ok(None)
    }

    /// Which members a pool manager knows now, and whether wallets want others.
    pub async fn in_force_at(&self, contract: Address) -> Result<InForce, ChainError> {
        let manager = PoolManager::new(profile::to_alloy(contract), &self.provider);
        // All of one block.
        let block = self.provider.get_block_number().await.map_err(|error| node("block number", error))?;
        let at = block.into();
        let epoch = manager.epoch().block(at).call().await.map_err(|error| node("epoch", error))?;
        let manifest = manager.manifestHash().block(at).call().await;
        let manifest = manifest.map_err(|error| node("manifestHash", error))?;
        let found = manager.pendingRecovery().block(at).call().await;
        let found = found.map_err(|error| node("pendingRecovery", error))?;
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

/// Which members a pool manager knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    /// The epoch that it goes by: 0 until the DAO is founded there.
    pub epoch: u64,
    /// The manifest of that epoch.
    pub manifest: ManifestHash,
    /// That wallets want others.
    pub recovery: Option<Recovery>,
}

/// That wallets want other members at a pool manager, without their enclaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// Counts what was ever proposed there.
    pub number: u32,
    /// From which block on anybody may put it in force.
    pub ready_at: u64,
    /// The epoch that would be in force.
    pub epoch: u64,
    /// The manifest that names the members.
    pub manifest: ManifestHash,
    /// What the pool manager has to know of it ([`postern_shared::proof::Council::digest`]).
    pub council: Digest,
}

/// Connects to a node and checks that it is of the right chain.
pub(crate) async fn connect_provider(url: &str, chain_id: u64) -> Result<DynProvider, ChainError> {
    let invalid = |reason: String| ChainError::Url { url: url.to_owned(), reason };
    let parsed: reqwest::Url = url.parse().map_err(|error| invalid(format!("{error}")))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(invalid(format!("scheme `{}`, not http or https", parsed.scheme())));
    }
    let client = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build();
    let client = client.map_err(|error| invalid(format!("{error}")))?;
    let rpc = RpcClient::new(Http::with_client(client, parsed), false);
    let provider = ProviderBuilder::new_with_network::<Ethereum>().connect_client(rpc).erased();
    let found = provider.get_chain_id().await.map_err(|error| node("chain id", error))?;
    if found != chain_id {
        return Err(ChainError::WrongChain { expected: chain_id, found });
    }
    Ok(provider)
}

fn node(request: &'static str, error: impl std::error::Error + 'static) -> ChainError {
    ChainError::Node { request, reason: describe_error(&error) }
}

#[cfg(test)]
mod tests;
