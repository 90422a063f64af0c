//! The questions that sending asks of an execution node, with our types on our side.

use super::decision::Receipt;
use super::fees::Market;
use super::refusal::SendRefusal;
use super::{SignedVersion, TransactionError, TransactionRow};
use crate::chain::describe_error;
use crate::chain::profile::{describe_revert, to_alloy};
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address as AlloyAddress, B256};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::TransactionRequest;
use alloy::transports::TransportError;
use futures::future::join_all;
use postern_shared::ids::{Address, Digest};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Blocks whose fees are looked at.
const FEE_HISTORY_BLOCKS: u64 = 10;

/// What a call would do now.
pub(super) enum Estimate {
    /// It would use this much gas.
    Gas(u64),
    /// The contract would refuse it.
    Reverts(String),
}

/// What became of sending.
pub(super) enum Sent {
    /// The node has it.
    Taken,
    /// The node does not want it.
    Refused(SendRefusal),
}

/// Newest versions of a row whose receipts are asked for as long as an older one is unlikely to be mined.
const NEWEST_VERSIONS: usize = 2;

/// How long a node may take to say what the market is, if others are asked too.
const MARKET_TIMEOUT: Duration = Duration::from_secs(5);

/// The execution nodes. All that is asked together is asked of one of them: of two, one may be behind.
pub(super) struct Node {
    first: DynProvider,
    others: Vec<DynProvider>,
    /// The place of the one that is asked now.
    current: AtomicUsize,
    wallet: AlloyAddress,
}

impl Node {
    /// Of nodes, the first of which is asked as long as it answers.
    pub(super) fn new(providers: Vec<DynProvider>, wallet: AlloyAddress) -> Result<Self, TransactionError> {
        let mut providers = providers.into_iter();
        let first = providers.next().ok_or(TransactionError::NoNode)?;
        Ok(Self { first, others: providers.collect(), current: AtomicUsize::new(0), wallet })
    }

    /// From now on the next one is asked.
    pub(super) fn turn_to_next(&self) {
        self.current.fetch_add(1, Relaxed);
    }

    fn all(&self) -> impl Iterator<Item = &DynProvider> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The place of the one that is asked now, and it.
    fn current(&self) -> (usize, &DynProvider) {
        let place = self.current.load(Relaxed) % (self.others.len() + 1);
        (place, self.all().nth(place).unwrap_or(&self.first))
    }

    fn provider(&self) -> &DynProvider {
        self.current().1
    }

    pub(super) async fn head(&self) -> Result<u64, TransactionError> {
        self.provider().get_block_number().await.map_err(|error| failed("head", &error))
    }

    /// The newest finalised block's number.
    pub(super) async fn finalised(&self) -> Result<u64, TransactionError> {
        self.block(BlockNumberOrTag::Finalized).await.map(|(number, _)| number)
    }

    /// How many transactions of the wallet the block's state counts.
    pub(super) async fn nonce(&self, block: BlockNumberOrTag) -> Result<u64, TransactionError> {
        let count = self.provider().get_transaction_count(self.wallet).block_id(BlockId::Number(block)).await;
        count.map_err(|error| failed("nonce", &error))
    }

    /// What the wallet has, in wei.
    pub(super) async fn balance(&self) -> Result<u128, TransactionError> {
        let balance = self.provider().get_balance(self.wallet).await;
        Ok(balance.map_err(|error| failed("balance", &error))?.saturating_to())
    }

    /// What it takes to be mined: the middle one of what nodes say, so that no single one of several makes it.
    pub(super) async fn market(&self) -> Result<Market, TransactionError> {
        let answers = join_all(self.all().map(market_of)).await;
        let said: Vec<Market> = answers.iter().filter_map(|answer| answer.as_ref().ok().copied()).collect();
        match (Market::middle(&said), answers.into_iter().next()) {
            (Some(market), _) => Ok(market),
            (None, Some(Err(error))) => Err(error),
            (None, _) => Err(TransactionError::NoNode),
        }
    }

    /// Whether the node knows a version, mined or not.
    pub(super) async fn knows(&self, version: &SignedVersion) -> Result<bool, TransactionError> {
        let found = self.provider().get_transaction_by_hash(B256::from(version.hash.0)).await;
        Ok(found.map_err(|error| failed("transaction", &error))?.is_some())
    }

    pub(super) async fn estimate(&self, to: Address, calldata: &[u8]) -> Result<Estimate, TransactionError> {
        match self.provider().estimate_gas(self.request(to, calldata)).await {
            Ok(gas) => Ok(Estimate::Gas(gas)),
            Err(error) => {
                revert_reason(&error).map(Estimate::Reverts).ok_or_else(|| failed("gas estimate", &error))
            }
        }
    }

    /// Tells all nodes of a transaction. What the one says that is asked now counts; nobody waits for the others.
    pub(super) async fn send(&self, raw: &[u8]) -> Result<Sent, TransactionError> {
        let (place, current) = self.current();
        for (_, other) in self.all().enumerate().filter(|(other, _)| *other != place) {
            let (other, raw) = (other.clone(), raw.to_vec());
            tokio::spawn(async move { other.send_raw_transaction(&raw).await.map(drop) });
        }
        match current.send_raw_transaction(raw).await {
            Ok(_) => Ok(Sent::Taken),
            Err(error) => match error.as_error_resp() {
                Some(refusal) => Ok(Sent::Refused(SendRefusal::from_message(&refusal.message))),
                None => Err(failed("send", &error)),
            },
        }
    }

    /// The receipt of whichever version of a row is in the canonical chain; of the newest ones, unless `all` are to be looked for.
    pub(super) async fn receipt(
        &self,
        row: &TransactionRow,
        all: bool,
    ) -> Result<Option<Receipt>, TransactionError> {
        let count = if all { row.versions.len() } else { NEWEST_VERSIONS };
        for version in row.versions.iter().rev().take(count) {
            let wanted = B256::from(version.hash.0);
            let receipt = self.provider().get_transaction_receipt(wanted).await;
            let Some(receipt) = receipt.map_err(|error| failed("receipt", &error))? else { continue };
            let (Some(number), Some(hash)) = (receipt.block_number, receipt.block_hash) else { continue };
            // Some nodes give receipts of blocks that are not canonical (yet).
            if receipt.transaction_hash == wanted && self.block(number.into()).await?.1 == hash {
                return Ok(Some(Receipt {
                    hash: version.hash,
                    block: number,
                    success: receipt.status(),
                    gas_used: receipt.gas_used,
                    price: receipt.effective_gas_price,
                }));
            }
        }
        Ok(None)
    }

    /// Why a mined call reverted, by calling it again with as much gas on the state before its block.
    pub(super) async fn replay(&self, row: &TransactionRow, gas_limit: u64, block: u64) -> String {
        let request = self.request(row.to, &row.calldata).gas_limit(gas_limit);
        let call =
            self.provider().call(request).block(BlockNumberOrTag::Number(block.saturating_sub(1)).into());
        match call.await {
            Ok(_) => "unknown: the call succeeds on the state before its block".to_owned(),
            Err(error) => {
                revert_reason(&error).unwrap_or_else(|| format!("unknown: {}", describe_error(&error)))
            }
        }
    }

    async fn block(&self, block: BlockNumberOrTag) -> Result<(u64, B256), TransactionError> {
        let answer =
            self.provider().get_block_by_number(block).await.map_err(|error| failed("block", &error))?;
        let missing =
            || TransactionError::Node { request: "block", reason: format!("the node has no block {block}") };
        let header = answer.ok_or_else(missing)?.header;
        Ok((header.number, header.hash))
    }

    fn request(&self, to: Address, calldata: &[u8]) -> TransactionRequest {
        TransactionRequest::default().from(self.wallet).to(to_alloy(to)).input(calldata.to_vec().into())
    }
}

async fn market_of(provider: &DynProvider) -> Result<Market, TransactionError> {
    let late = |_| TransactionError::Node { request: "fee history", reason: "no answer in time".to_owned() };
    let history = provider.get_fee_history(FEE_HISTORY_BLOCKS, BlockNumberOrTag::Latest, &[50.0]);
    let history = tokio::time::timeout(MARKET_TIMEOUT, history).await.map_err(late)?;
    let history = history.map_err(|error| failed("fee history", &error))?;
    let rewards: Vec<u128> =
        history.reward.iter().flatten().filter_map(|block| block.first()).copied().collect();
    // The last entry is the next block's.
    Ok(Market::new(history.base_fee_per_gas.last().copied().unwrap_or_default(), &rewards))
}

/// The digest type that rows keep.
pub(super) fn digest(hash: B256) -> Digest {
    Digest(hash.0)
}

fn failed(request: &'static str, error: &TransportError) -> TransactionError {
    TransactionError::Node { request, reason: describe_error(error) }
}

/// The contract's words, when that is what an error is about.
fn revert_reason(error: &TransportError) -> Option<String> {
    let answer = error.as_error_resp()?;
    match answer.as_revert_data() {
        Some(data) => Some(describe_revert(&data)),
        None => answer.message.to_lowercase().contains("revert").then(|| answer.message.to_string()),
    }
}
