//! The questions that sending asks of an execution node, with our types on our side.

use super::decision::{Fees, Receipt, market_fees};
use super::refusal::SendRefusal;
use super::{FeeRules, TransactionError, TransactionRow};
use crate::chain::describe_error;
use crate::chain::profile::{describe_revert, to_alloy};
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address as AlloyAddress, B256};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::TransactionRequest;
use alloy::transports::TransportError;
use postern_shared::ids::{Address, Digest};

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

/// An execution node.
pub(super) struct Node {
    provider: DynProvider,
    wallet: AlloyAddress,
}

impl Node {
    pub(super) fn new(provider: DynProvider, wallet: AlloyAddress) -> Self {
        Self { provider, wallet }
    }

    pub(super) async fn head(&self) -> Result<u64, TransactionError> {
        self.provider.get_block_number().await.map_err(|error| failed("head", &error))
    }

    /// The newest finalised block's number.
    pub(super) async fn finalised(&self) -> Result<u64, TransactionError> {
        self.block(BlockNumberOrTag::Finalized).await.map(|(number, _)| number)
    }

    /// How many transactions of the wallet the block's state counts.
    pub(super) async fn nonce(&self, block: BlockNumberOrTag) -> Result<u64, TransactionError> {
        let count = self.provider.get_transaction_count(self.wallet).block_id(BlockId::Number(block)).await;
        count.map_err(|error| failed("nonce", &error))
    }

    pub(super) async fn market_fees(&self, rules: &FeeRules) -> Result<Fees, TransactionError> {
        let history =
            self.provider.get_fee_history(FEE_HISTORY_BLOCKS, BlockNumberOrTag::Latest, &[50.0]).await;
        let history = history.map_err(|error| failed("fee history", &error))?;
        let rewards: Vec<u128> =
            history.reward.iter().flatten().filter_map(|block| block.first()).copied().collect();
        // The last entry is the next block's.
        let base_fee = history.base_fee_per_gas.last().copied().unwrap_or_default();
        Ok(market_fees(base_fee, &rewards, rules))
    }

    pub(super) async fn estimate(&self, to: Address, calldata: &[u8]) -> Result<Estimate, TransactionError> {
        match self.provider.estimate_gas(self.request(to, calldata)).await {
            Ok(gas) => Ok(Estimate::Gas(gas)),
            Err(error) => {
                revert_reason(&error).map(Estimate::Reverts).ok_or_else(|| failed("gas estimate", &error))
            }
        }
    }

    pub(super) async fn send(&self, raw: &[u8]) -> Result<Sent, TransactionError> {
        match self.provider.send_raw_transaction(raw).await {
            Ok(_) => Ok(Sent::Taken),
            Err(error) => match error.as_error_resp() {
                Some(refusal) => Ok(Sent::Refused(SendRefusal::from_message(&refusal.message))),
                None => Err(failed("send", &error)),
            },
        }
    }

    /// The receipt of whichever version of a row is in the canonical chain.
    pub(super) async fn receipt(&self, row: &TransactionRow) -> Result<Option<Receipt>, TransactionError> {
        for version in row.versions.iter().rev() {
            let receipt = self.provider.get_transaction_receipt(B256::from(version.hash.0)).await;
            let Some(receipt) = receipt.map_err(|error| failed("receipt", &error))? else { continue };
            let (Some(number), Some(hash)) = (receipt.block_number, receipt.block_hash) else { continue };
            // Some nodes give receipts of blocks that are not canonical (yet).
            if self.block(number.into()).await?.1 == hash {
                return Ok(Some(Receipt { hash: version.hash, block: number, success: receipt.status() }));
            }
        }
        Ok(None)
    }

    /// Why a mined call reverted, by calling it again on the state before its block.
    pub(super) async fn replay(&self, row: &TransactionRow, block: u64) -> String {
        let request = self.request(row.to, &row.calldata);
        let call =
            self.provider.call(request).block(BlockNumberOrTag::Number(block.saturating_sub(1)).into());
        match call.await {
            Ok(_) => "unknown: the call succeeds on the state before its block".to_owned(),
            Err(error) => {
                revert_reason(&error).unwrap_or_else(|| format!("unknown: {}", describe_error(&error)))
            }
        }
    }

    async fn block(&self, block: BlockNumberOrTag) -> Result<(u64, B256), TransactionError> {
        let answer =
            self.provider.get_block_by_number(block).await.map_err(|error| failed("block", &error))?;
        let missing =
            || TransactionError::Node { request: "block", reason: format!("the node has no block {block}") };
        let header = answer.ok_or_else(missing)?.header;
        Ok((header.number, header.hash))
    }

    fn request(&self, to: Address, calldata: &[u8]) -> TransactionRequest {
        TransactionRequest::default().from(self.wallet).to(to_alloy(to)).input(calldata.to_vec().into())
    }
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
