//! One execution node: its blocks, and the pool managers' logs in them.

use super::error::ChainError;
use super::health::{Health, Reached};
use super::spans::{self, Refusal, Span};
use super::{Cursor, PoolEvent};
use crate::chain::describe_node_error;
use crate::chain::profile::{self, PoolEventKind, Profile};
use crate::chain::transport::Http;
use crate::chain::url::NodeUrl;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::network::Ethereum;
use alloy::primitives::{B256, Bytes, U64};
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::client::{BatchRequest, RpcClient};
use alloy::rpc::types::{Filter, Log, TransactionRequest};
use alloy::sol_types::SolCall;
use alloy::transports::TransportError;
use postern_shared::events::EventSource;
use postern_shared::ids::{Address, Digest, PoolId};
use postern_shared::manifest::Contracts;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Most blocks that one request for logs spans: public nodes refuse wider ones.
pub(super) const MAX_SPAN: u64 = 1_000;
/// Most logs of one answer. More than that in one block fit in no block.
const MAX_LOGS: usize = 20_000;
/// Most bytes of one answer. The longest honest one is a batch that has the logs of a single full block twice, since less can't be
/// asked for: an event is a log of less than 700 bytes in JSON, and takes at least 6,500 gas (a slot of storage and the log), so that
/// even a block of 150 million gas fits. A span of blocks whose answer is longer is halved.
pub(super) const MAX_ANSWER: usize = 32 * 1024 * 1024;
/// Most requests by which a transaction is searched backwards: about three weeks, if the node takes the widest.
const MAX_SPANS_BACK: usize = 150;
/// Most calls in one batch, as in go-ethereum.
pub(super) const MAX_BATCH: u64 = 1_000;
/// How long a node may take to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a node may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// An execution node.
#[derive(Debug)]
pub(super) struct Node {
    url: NodeUrl,
    pub(super) provider: DynProvider,
    pub(super) chain_id: u64,
    pub(super) profile: Profile,
    /// How many blocks of logs it gives at a time.
    span: Mutex<Span>,
    /// How many calls it takes at a time.
    batch: Mutex<Span>,
    health: Mutex<Health>,
    /// The pool manager that it must have, once it was asked about one.
    manager: OnceLock<Contracts>,
}

/// What is read of a block.
#[derive(Debug, Deserialize)]
struct Header {
    number: U64,
    hash: B256,
}

/// Why a request that can be narrowed has failed.
enum Stopped {
    /// So many blocks or calls may be too much.
    At(u64, ChainError),
    /// Less would not help.
    For(ChainError),
}

impl From<ChainError> for Stopped {
    fn from(error: ChainError) -> Self {
        Self::For(error)
    }
}

impl Stopped {
    /// Of a node's request for so much, up to a block.
    fn of(node: &Node, asked: u64, block: u64, request: &'static str, error: TransportError) -> Self {
        match Refusal::of(&error) {
            Refusal::TooMuch => Self::At(asked, node.refused(request, error)),
            Refusal::NoBlock => Self::For(ChainError::MissingBlock(block.to_string())),
            Refusal::Other => Self::For(node.refused(request, error)),
        }
    }
}

impl Node {
    /// Does not connect yet.
    pub(super) fn new(url: &NodeUrl, chain_id: u64, profile: Profile) -> Result<Self, ChainError> {
        let client = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        let client = client.build().map_err(|error| ChainError::Client(error.to_string()))?;
        let rpc = RpcClient::new(Http::new(client, url.expose().clone(), MAX_ANSWER), false);
        let provider = ProviderBuilder::new_with_network::<Ethereum>().connect_client(rpc).erased();
        let (span, batch) = (Mutex::new(Span::new(MAX_SPAN)), Mutex::new(Span::new(MAX_BATCH)));
        let health = Mutex::new(Health::default());
        Ok(Self {
            url: url.clone(),
            provider,
            chain_id,
            profile,
            span,
            batch,
            health,
            manager: OnceLock::new(),
        })
    }

    /// Where it is.
    pub(super) fn url(&self) -> &NodeUrl {
        &self.url
    }

    /// Scheme, host and port.
    pub(super) fn name(&self) -> &str {
        self.url.name()
    }

    /// How it is.
    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        lock(&self.health)
    }

    /// Notes that it has failed, so that it is let alone for a while.
    pub(super) fn failed(&self, error: &ChainError) {
        self.health().failed(Instant::now(), error.to_string());
    }

    /// A request that has failed, in words that hold no part of its URL.
    pub(super) fn refused(
        &self,
        request: &'static str,
        error: impl std::error::Error + 'static,
    ) -> ChainError {
        ChainError::Node { request, reason: describe_node_error(&self.url, &error) }
    }

    /// From now on it must have this pool manager. The first one counts: it is a part of what the node was made for.
    pub(super) fn expect_manager(&self, contracts: &Contracts) {
        if self.manager.set(contracts.clone()).is_ok() {
            self.health().unchecked();
        }
    }

    /// Refuses a node of another chain, or with another pool manager than the manifest's if it was ever asked about that; if it has not
    /// shown both since it last failed.
    pub(super) async fn check_chain(&self) -> Result<(), ChainError> {
        if self.health().is_checked() {
            return Ok(());
        }
        let found = self.provider.get_chain_id().await.map_err(|error| self.refused("chain id", error))?;
        if found != self.chain_id {
            return Err(ChainError::WrongChain {
                node: self.name().to_owned(),
                expected: self.chain_id,
                found,
            });
        }
        if let Some(contracts) = self.manager.get() {
            self.check_manager(contracts).await?;
        }
        self.health().checked();
        Ok(())
    }

    /// Its newest finalised block.
    pub(super) async fn finalised(&self) -> Result<Cursor, ChainError> {
        self.block(BlockNumberOrTag::Finalized).await
    }

    /// How far it is, beyond what it has finalised.
    pub(super) async fn reached(&self, finalised: u64) -> Result<Reached, ChainError> {
        let head = self.provider.get_block_number().await.map_err(|error| self.refused("head", error))?;
        Ok(Reached { finalised, head })
    }

    /// A block by its number.
    pub(super) async fn cursor_at(&self, number: u64) -> Result<Cursor, ChainError> {
        let found = self.block(number.into()).await?;
        if found.block != number {
            let text = format!("block {} where {number} was asked", found.block);
            return Err(ChainError::Inconsistent(text));
        }
        Ok(found)
    }

    async fn block(&self, at: BlockNumberOrTag) -> Result<Cursor, ChainError> {
        let header: Option<Header> = self
            .provider
            .client()
            .request("eth_getBlockByNumber", (at, false))
            .await
            .map_err(|error| self.refused("block", error))?;
        let missing = || match at {
            BlockNumberOrTag::Number(number) => ChainError::MissingBlock(number.to_string()),
            tag => ChainError::MissingBlock(format!("`{tag}`")),
        };
        Ok(header.ok_or_else(missing)?.into())
    }

    /// A contract's events after the cursor, some before it again, and the cursor behind them; `finalised` is after the cursor.
    ///
    /// An answer for logs proves nothing by itself: a node that has not got the blocks yet answers that there are none. So one
    /// batch, which one node answers, asks for the logs, for those of the last block by its hash, and for the last block.
    pub(super) async fn events(
        &self,
        contract: Address,
        cursor: Cursor,
        finalised: Cursor,
    ) -> Result<(Vec<PoolEvent>, Cursor), ChainError> {
        self.check_cursor(cursor).await?;
        let mut attempt = Attempt::new(&self.span);
        let (logs, first, next) = loop {
            let (first, last) = spans::range(cursor.block, finalised.block, attempt.width);
            let next = if last == finalised.block { finalised } else { self.cursor_at(last).await? };
            match self.logs_between(contract, first, next, cursor).await {
                Ok(logs) => {
                    attempt.answered(last - first + 1);
                    break (logs, first, next);
                }
                Err(stopped) => attempt.refused(stopped)?,
            }
        };
        let mut events = Vec::with_capacity(logs.len());
        for log in &logs {
            match self.event(contract, log, first, next.block) {
                // It was passed over before, or a person has said that it is to be.
                Err(ChainError::Log { block, .. }) if block <= cursor.block => {}
                event => events.extend(event?),
            }
        }
        self.check_places(&events).await?;
        events.sort_unstable_by_key(|event| (event.block_number, event.source.log_index));
        Ok((events, next))
    }

    /// The logs from block `first` to `last`, from a node that has `last`, and `cursor`, after it has given them.
    async fn logs_between(
        &self,
        contract: Address,
        first: u64,
        last: Cursor,
        cursor: Cursor,
    ) -> Result<Vec<Log>, Stopped> {
        let asked = last.block - first + 1;
        let failed = |request| move |error| Stopped::of(self, asked, last.block, request, error);
        let filter = self.filter(contract);
        let all = filter.clone().from_block(first).to_block(last.block);
        let of_last = filter.at_block_hash(B256::from(last.hash.0));
        let mut batch = BatchRequest::new(self.provider.client());
        let logs = batch.add_call("eth_getLogs", &(all,)).map_err(failed("logs"))?;
        let logs_of_last = batch.add_call("eth_getLogs", &(of_last,)).map_err(failed("logs"))?;
        let number = (BlockNumberOrTag::Number(last.block), false);
        let block = batch.add_call("eth_getBlockByNumber", &number).map_err(failed("block"))?;
        batch.send().await.map_err(failed("logs"))?;
        let logs: Vec<Log> = logs.await.map_err(failed("logs"))?;
        // Most nodes refuse this if they lack the block.
        let logs_of_last: Vec<Log> = logs_of_last.await.map_err(failed("logs"))?;
        if logs.iter().filter(|log| log.block_number == Some(last.block)).count() != logs_of_last.len() {
            return Err(ChainError::Inconsistent(format!(
                "two answers for the logs of block {}",
                last.block
            ))
            .into());
        }
        if hash_of(block.await.map_err(failed("block"))?, last.block)? != last.hash {
            let text = format!("block {} is another than a moment ago", last.block);
            return Err(ChainError::Inconsistent(text).into());
        }
        self.check_cursor(cursor).await?;
        if logs.len() > MAX_LOGS {
            let text = format!("{} logs of {asked} blocks", logs.len());
            return Err(Stopped::At(asked, ChainError::Inconsistent(text)));
        }
        Ok(logs)
    }

    /// Refuses if the cursor's block is another now. Asked twice, because a single answer may come from elsewhere than the others.
    pub(super) async fn check_cursor(&self, cursor: Cursor) -> Result<(), ChainError> {
        if self.cursor_at(cursor.block).await? == cursor {
            return Ok(());
        }
        let found = self.cursor_at(cursor.block).await?;
        if found == cursor {
            return Err(ChainError::Inconsistent(format!("block {} is two blocks", cursor.block)));
        }
        Err(ChainError::FinalisedBlockChanged {
            block: cursor.block,
            expected: cursor.hash,
            found: found.hash,
        })
    }

    /// Refuses events of blocks that are not in the chain: a log's word for where it is may be of a fork.
    async fn check_places(&self, events: &[PoolEvent]) -> Result<(), ChainError> {
        let places: BTreeSet<(u64, Digest)> =
            events.iter().map(|event| (event.block_number, event.source.block)).collect();
        for (block, hash) in places {
            if self.cursor_at(block).await?.hash != hash {
                return Err(ChainError::Inconsistent(format!("a log of another block {block}")));
            }
        }
        Ok(())
    }

    /// A contract's events of one block. A node that lacks it must refuse.
    pub(super) async fn events_of(
        &self,
        contract: Address,
        block: Cursor,
    ) -> Result<Vec<PoolEvent>, ChainError> {
        let filter = self.filter(contract).at_block_hash(B256::from(block.hash.0));
        let logs = self.provider.get_logs(&filter).await.map_err(|error| match Refusal::of(&error) {
            Refusal::NoBlock => ChainError::MissingBlock(block.block.to_string()),
            Refusal::TooMuch | Refusal::Other => self.refused("logs", error),
        })?;
        let mut events = Vec::new();
        for log in logs.iter().take(MAX_LOGS) {
            events.extend(self.event(contract, log, block.block, block.block)?);
        }
        if events.iter().any(|event| event.source.block != block.hash) {
            return Err(ChainError::Inconsistent(format!("a log of another block {}", block.block)));
        }
        Ok(events)
    }

    fn filter(&self, contract: Address) -> Filter {
        Filter::new().address(profile::to_alloy(contract)).event_signature(self.profile.topics())
    }

    fn event(
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
        let source = EventSource { block: Digest(block.0), log_index };
        Ok(Some(PoolEvent { source, block_number, pool, kind }))
    }

    /// The transaction of a pool's newest event of a kind, if it has one from block `first` on: looked for from the head back. Refuses
    /// if that takes too many requests.
    pub(super) async fn transaction_of(
        &self,
        kind: PoolEventKind,
        pool: PoolId,
        first: u64,
    ) -> Result<Option<Digest>, ChainError> {
        let mut last = self.provider.get_block_number().await.map_err(|error| self.refused("head", error))?;
        if last < first {
            return Err(ChainError::MissingBlock(first.to_string()));
        }
        for _ in 0..MAX_SPANS_BACK {
            let (logs, from) = self.logs_back(pool.contract, first, last).await?;
            let wanted = (kind, pool.number);
            let found = logs.iter().rev().find(|log| self.profile.decode(log.data()) == Ok(Some(wanted)));
            if let Some(hash) = found.and_then(|log| log.transaction_hash) {
                return Ok(Some(Digest(hash.0)));
            }
            if from <= first {
                return Ok(None);
            }
            last = from - 1;
        }
        Err(ChainError::TooFar(last))
    }

    /// The logs up to block `last` and not before `first`, and where they begin.
    async fn logs_back(
        &self,
        contract: Address,
        first: u64,
        last: u64,
    ) -> Result<(Vec<Log>, u64), ChainError> {
        let mut attempt = Attempt::new(&self.span);
        loop {
            let from = last.saturating_sub(attempt.width - 1).max(first);
            let asked = last - from + 1;
            let filter = self.filter(contract).from_block(from).to_block(last);
            match self.provider.get_logs(&filter).await {
                Ok(logs) => {
                    attempt.answered(asked);
                    return Ok((logs, from));
                }
                Err(error) => attempt.refused(Stopped::of(self, asked, last, "logs", error))?,
            }
        }
    }

    /// The answers to calls of a contract, in their order, in the state of one block that must be in the chain.
    pub(super) async fn calls<C: SolCall>(
        &self,
        contract: Address,
        at: Cursor,
        calls: &[C],
    ) -> Result<Vec<C::Return>, ChainError> {
        let mut answers = Vec::with_capacity(calls.len());
        let mut attempt = Attempt::new(&self.batch);
        while let Some(rest) = calls.get(answers.len()..).filter(|rest| !rest.is_empty()) {
            let width = usize::try_from(attempt.width).unwrap_or(usize::MAX);
            let some = rest.get(..width).unwrap_or(rest);
            match self.batch_of(contract, at, some).await {
                Ok(more) => {
                    attempt.answered(some.len() as u64);
                    answers.extend(more);
                }
                Err(stopped) => attempt.refused(stopped)?,
            }
        }
        Ok(answers)
    }

    async fn batch_of<C: SolCall>(
        &self,
        contract: Address,
        at: Cursor,
        calls: &[C],
    ) -> Result<Vec<C::Return>, Stopped> {
        let number = at.block;
        let failed = |error| Stopped::of(self, calls.len() as u64, number, C::SIGNATURE, error);
        let at = at.canonical();
        let mut batch = BatchRequest::new(self.provider.client());
        let mut waiting = Vec::with_capacity(calls.len());
        for call in calls {
            let call =
                TransactionRequest::default().to(profile::to_alloy(contract)).input(call.abi_encode().into());
            waiting.push(batch.add_call::<_, Bytes>("eth_call", &(call, at)).map_err(failed)?);
        }
        batch.send().await.map_err(failed)?;
        let mut answers = Vec::with_capacity(calls.len());
        for answer in waiting {
            let bytes = answer.await.map_err(failed)?;
            let wrong = |error| ChainError::Inconsistent(format!("answer to {}: {error}", C::SIGNATURE));
            answers.push(C::abi_decode_returns(&bytes).map_err(wrong)?);
        }
        Ok(answers)
    }
}

impl Cursor {
    /// For calls in the state of this block, which a node must refuse if it is not in its chain.
    pub(super) fn canonical(&self) -> BlockId {
        BlockId::from((B256::from(self.hash.0), Some(true)))
    }
}

impl From<Header> for Cursor {
    fn from(header: Header) -> Self {
        Self { block: header.number.to(), hash: Digest(header.hash.0) }
    }
}

/// Asking for as much as the node has shown to give, and for less as long as it refuses.
struct Attempt<'a> {
    span: &'a Mutex<Span>,
    width: u64,
    has_refused: bool,
}

impl<'a> Attempt<'a> {
    fn new(span: &'a Mutex<Span>) -> Self {
        Self { span, width: lock(span).width(), has_refused: false }
    }

    /// It has given so much.
    fn answered(&mut self, asked: u64) {
        let mut span = lock(self.span);
        span.answered(asked, self.has_refused);
        (self.width, self.has_refused) = (span.width(), false);
    }

    /// It has refused: there is less to ask for, or that was it.
    fn refused(&mut self, stopped: Stopped) -> Result<(), ChainError> {
        match stopped {
            Stopped::For(error) => Err(error),
            Stopped::At(asked, error) => {
                (self.width, self.has_refused) = (spans::narrower(asked).ok_or(error)?, true);
                Ok(())
            }
        }
    }
}

fn hash_of(header: Option<Header>, wanted: u64) -> Result<Digest, ChainError> {
    let found: Cursor = header.ok_or_else(|| ChainError::MissingBlock(wanted.to_string()))?.into();
    if found.block != wanted {
        return Err(ChainError::Inconsistent(format!("block {} where {wanted} was asked", found.block)));
    }
    Ok(found.hash)
}

/// Nothing is done under these locks that could leave it half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
