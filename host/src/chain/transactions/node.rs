//! The questions that sending asks of one execution node, with our types on our side.

use super::decision::Receipt;
use super::fees::Market;
use super::refusal::SendRefusal;
use super::{SignedVersion, TransactionError, TransactionRow};
use crate::chain::execution::Connection;
use crate::chain::profile::{describe_revert, to_alloy};
use crate::chain::{describe_node_error, shorten};
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

/// Newest versions of a row whose receipts are asked for as long as an older one is unlikely to be mined.
const NEWEST_VERSIONS: usize = 2;

/// How a transaction may have lost its nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Another transaction took it for good.
    Used,
    /// It is too high: nothing has the one before.
    TooHigh,
}

/// What a node says of a receipt that another one has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Echo {
    /// The same, in a block that it has finalised.
    Same,
    /// That it ended so, but at another price.
    OtherCost,
    /// It has not finalised that block.
    NotYet,
    /// That it did not end so.
    Otherwise,
}

/// One execution node.
pub(super) struct Node {
    connection: Connection,
    chain_id: u64,
    wallet: AlloyAddress,
}

impl Node {
    pub(super) fn new(connection: Connection, chain_id: u64, wallet: AlloyAddress) -> Self {
        Self { connection, chain_id, wallet }
    }

    /// Whether it is asked: it is not let alone for a while, and follows the chain.
    pub(super) fn is_awake(&self) -> bool {
        !self.connection.rests() && !self.connection.stands_still()
    }

    /// It has not answered in time, and is let alone for a while.
    pub(super) fn hangs(&self, request: &'static str) -> TransactionError {
        self.connection.hangs(request);
        TransactionError::Node { request, reason: "no answer in time".to_owned() }
    }

    fn provider(&self) -> &DynProvider {
        self.connection.provider()
    }

    /// The newest block's number. One of another chain has no say.
    pub(super) async fn checked_head(&self) -> Result<u64, TransactionError> {
        self.check_chain().await?;
        self.head().await
    }

    async fn head(&self) -> Result<u64, TransactionError> {
        self.provider().get_block_number().await.map_err(|error| self.failed("head", &error))
    }

    /// The newest finalised block's number.
    pub(super) async fn finalised(&self) -> Result<u64, TransactionError> {
        self.block(BlockNumberOrTag::Finalized).await.map(|(number, _)| number)
    }

    /// How many transactions of the wallet the block's state counts.
    pub(super) async fn nonce(&self, block: BlockNumberOrTag) -> Result<u64, TransactionError> {
        let count = self.provider().get_transaction_count(self.wallet).block_id(BlockId::Number(block)).await;
        count.map_err(|error| self.failed("nonce", &error))
    }

    /// The same. One of another chain has no say.
    pub(super) async fn checked_nonce(&self, block: BlockNumberOrTag) -> Result<u64, TransactionError> {
        self.check_chain().await?;
        self.nonce(block).await
    }

    /// What the wallet has, in wei.
    pub(super) async fn balance(&self) -> Result<u128, TransactionError> {
        let balance = self.provider().get_balance(self.wallet).await;
        Ok(balance.map_err(|error| self.failed("balance", &error))?.saturating_to())
    }

    /// What it takes to be mined, as this node says. One of another chain has no say.
    pub(super) async fn market(&self) -> Result<Market, TransactionError> {
        self.check_chain().await?;
        let history = self.provider().get_fee_history(FEE_HISTORY_BLOCKS, BlockNumberOrTag::Latest, &[50.0]);
        let history = history.await.map_err(|error| self.failed("fee history", &error))?;
        let rewards: Vec<u128> =
            history.reward.iter().flatten().filter_map(|block| block.first()).copied().collect();
        // The last entry is the next block's.
        Ok(Market::new(history.base_fee_per_gas.last().copied().unwrap_or_default(), &rewards))
    }

    /// Whether a row has lost its nonce, and none of its versions is mined. One of another chain has no say.
    pub(super) async fn says_lost(&self, row: &TransactionRow, loss: Loss) -> Result<bool, TransactionError> {
        self.check_chain().await?;
        // The nonce before the receipts: in the other order, one mined in between would look lost.
        let is_lost = match loss {
            Loss::Used => self.nonce(BlockNumberOrTag::Finalized).await? > row.nonce,
            Loss::TooHigh => self.nonce(BlockNumberOrTag::Latest).await? < row.nonce,
        };
        Ok(is_lost && self.receipt(row, true).await?.is_none())
    }

    async fn check_chain(&self) -> Result<(), TransactionError> {
        let found = self.provider().get_chain_id().await.map_err(|error| self.failed("chain id", &error))?;
        if found == self.chain_id {
            return Ok(());
        }
        Err(TransactionError::Node { request: "chain id", reason: format!("it is of chain {found}") })
    }

    /// Whether the node knows a version, mined or not.
    pub(super) async fn knows(&self, version: &SignedVersion) -> Result<bool, TransactionError> {
        let found = self.provider().get_transaction_by_hash(B256::from(version.hash.0)).await;
        Ok(found.map_err(|error| self.failed("transaction", &error))?.is_some())
    }

    /// What a call would do now. One of another chain has no say.
    pub(super) async fn checked_estimate(
        &self,
        to: Address,
        calldata: &[u8],
    ) -> Result<Estimate, TransactionError> {
        self.check_chain().await?;
        self.estimate(to, calldata).await
    }

    async fn estimate(&self, to: Address, calldata: &[u8]) -> Result<Estimate, TransactionError> {
        match self.provider().estimate_gas(self.request(to, calldata)).await {
            Ok(gas) => Ok(Estimate::Gas(gas)),
            Err(error) => {
                let reason = self.revert_reason(&error).map(Estimate::Reverts);
                reason.ok_or_else(|| self.failed("gas estimate", &error))
            }
        }
    }

    /// Tells the node of a transaction.
    pub(super) async fn send(&self, raw: &[u8]) -> Result<Sent, TransactionError> {
        match self.provider().send_raw_transaction(raw).await {
            Ok(_) => Ok(Sent::Taken),
            Err(error) => match error.as_error_resp() {
                Some(refusal) => {
                    let shown = self.shown(&refusal.message);
                    Ok(Sent::Refused(SendRefusal::from_message(&refusal.message, &shown)))
                }
                None => Err(self.failed("send", &error)),
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
            let Some(receipt) = receipt.map_err(|error| self.failed("receipt", &error))? else { continue };
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

    /// What it says of another node's receipt. One of another chain has no say.
    pub(super) async fn echo(&self, row: &TransactionRow, shown: &Receipt) -> Result<Echo, TransactionError> {
        self.check_chain().await?;
        let Receipt { hash, block, success, .. } = *shown;
        if self.finalised().await? < block {
            // What it shows there may still change.
            return Ok(Echo::NotYet);
        }
        Ok(match self.receipt(row, true).await? {
            Some(own) if own == *shown => Echo::Same,
            Some(own) if (own.hash, own.block, own.success) == (hash, block, success) => Echo::OtherCost,
            _ => Echo::Otherwise,
        })
    }

    /// Why a mined call reverted, by calling it again with as much gas on the state before its block.
    pub(super) async fn replay(&self, row: &TransactionRow, gas_limit: u64, block: u64) -> String {
        let request = self.request(row.to, &row.calldata).gas_limit(gas_limit);
        let call =
            self.provider().call(request).block(BlockNumberOrTag::Number(block.saturating_sub(1)).into());
        match call.await {
            Ok(_) => "unknown: the call succeeds on the state before its block".to_owned(),
            Err(error) => {
                self.revert_reason(&error).unwrap_or_else(|| format!("unknown: {}", self.describe(&error)))
            }
        }
    }

    async fn block(&self, block: BlockNumberOrTag) -> Result<(u64, B256), TransactionError> {
        let answer =
            self.provider().get_block_by_number(block).await.map_err(|error| self.failed("block", &error))?;
        let missing =
            || TransactionError::Node { request: "block", reason: format!("the node has no block {block}") };
        let header = answer.ok_or_else(missing)?.header;
        Ok((header.number, header.hash))
    }

    fn request(&self, to: Address, calldata: &[u8]) -> TransactionRequest {
        TransactionRequest::default().from(self.wallet).to(to_alloy(to)).input(calldata.to_vec().into())
    }

    fn failed(&self, request: &'static str, error: &TransportError) -> TransactionError {
        TransactionError::Node { request, reason: self.describe(error) }
    }

    /// An error in words, without what of the URL may be an access key: some nodes repeat it.
    fn describe(&self, error: &TransportError) -> String {
        describe_node_error(self.connection.url(), error)
    }

    /// Likewise a node's words.
    fn shown(&self, words: &str) -> String {
        shorten(&self.connection.url().redact(words))
    }

    /// The contract's words, when that is what an error is about.
    fn revert_reason(&self, error: &TransportError) -> Option<String> {
        let answer = error.as_error_resp()?;
        match answer.as_revert_data() {
            Some(data) => Some(describe_revert(&data)),
            None => answer.message.to_lowercase().contains("revert").then(|| self.shown(&answer.message)),
        }
    }
}

/// The digest type that rows keep.
pub(super) fn digest(hash: B256) -> Digest {
    Digest(hash.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::test_server::TestServer;
    use crate::chain::url::NodeUrl;

    /// A node behind a server that answers everything so, with the path that it was asked for.
    async fn node(answer: fn(&str) -> (u16, String)) -> (TestServer, Node) {
        let server = TestServer::start(move |request| answer(&request.path)).await;
        let url = NodeUrl::parse(&format!("{}/SECRETKEY", server.url)).unwrap();
        (server, Node::new(Connection::unchecked(&url, 1), 1, AlloyAddress::ZERO))
    }

    #[tokio::test]
    async fn what_a_node_repeats_of_its_url_is_not_shown() {
        let (_server, page) = node(|path| (404, format!("no page {path}"))).await;
        let error = page.head().await.unwrap_err().to_string();
        assert!(error.contains("no page") && !error.contains("SECRET"), "{error}");

        let refusal = |path: &str| {
            let error = format!(r#"{{"code":-32000,"message":"reverted for key {path}"}}"#);
            (200, format!(r#"{{"jsonrpc":"2.0","id":0,"error":{error}}}"#))
        };
        let (_server, refuses) = node(refusal).await;
        let Ok(Sent::Refused(SendRefusal::Other(words))) = refuses.send(&[1]).await else {
            panic!("not refused")
        };
        assert!(words.starts_with("reverted for key") && !words.contains("SECRET"), "{words}");
        let Ok(Estimate::Reverts(words)) = refuses.estimate(Address([1; 20]), &[]).await else {
            panic!("not reverted")
        };
        assert!(words.starts_with("reverted for key") && !words.contains("SECRET"), "{words}");
    }
}
