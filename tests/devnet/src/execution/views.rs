//! Blocks, transactions, receipts and logs as JSON-RPC shows them.

use super::chain::Block;
use alloy::consensus::transaction::Recovered;
use alloy::consensus::{Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction as _, TxEnvelope};
use alloy::primitives::U256;
use alloy::rlp::Encodable as _;
use alloy::rpc::types::{self, BlockTransactions, Header, Log, Transaction, TransactionReceipt};

/// A block, with whole transactions or their hashes.
pub fn block(block: &Block, full: bool) -> types::Block {
    let transactions = if full {
        let all = 0..block.transactions.len();
        BlockTransactions::Full(all.filter_map(|index| included(block, index)).collect())
    } else {
        BlockTransactions::Hashes(
            block.transactions.iter().map(|transaction| *transaction.tx_hash()).collect(),
        )
    };
    let bodies: usize = block.transactions.iter().map(|transaction| transaction.inner().length()).sum();
    types::Block {
        header: Header {
            hash: block.hash(),
            inner: block.header.inner().clone(),
            total_difficulty: None,
            size: Some(U256::from(block.header.length() + bodies + block.withdrawals.length())),
        },
        uncles: Vec::new(),
        transactions,
        withdrawals: Some(block.withdrawals.clone().into()),
    }
}

/// A transaction in a block.
pub fn included(block: &Block, index: usize) -> Option<Transaction> {
    let transaction = block.transactions.get(index)?;
    Some(Transaction {
        effective_gas_price: Some(transaction.effective_gas_price(block.header.base_fee_per_gas)),
        inner: transaction.clone(),
        block_hash: Some(block.hash()),
        block_number: Some(block.header.number),
        transaction_index: Some(index as u64),
        block_timestamp: Some(block.header.timestamp),
    })
}

/// A transaction that waits for a block.
pub fn waiting(transaction: &Recovered<TxEnvelope>) -> Transaction {
    Transaction {
        effective_gas_price: Some(transaction.max_fee_per_gas()),
        inner: transaction.clone(),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        block_timestamp: None,
    }
}

/// A transaction's receipt.
pub fn receipt(block: &Block, index: usize) -> Option<TransactionReceipt> {
    let (transaction, outcome) = (block.transactions.get(index)?, block.outcomes.get(index)?);
    let with_places = ReceiptWithBloom {
        logs_bloom: *outcome.receipt.logs_bloom(),
        receipt: Receipt {
            status: outcome.receipt.status().into(),
            cumulative_gas_used: outcome.receipt.cumulative_gas_used(),
            logs: logs(block, index),
        },
    };
    let inner = match &outcome.receipt {
        ReceiptEnvelope::Legacy(_) => ReceiptEnvelope::Legacy(with_places),
        ReceiptEnvelope::Eip2930(_) => ReceiptEnvelope::Eip2930(with_places),
        ReceiptEnvelope::Eip1559(_) => ReceiptEnvelope::Eip1559(with_places),
        ReceiptEnvelope::Eip4844(_) => ReceiptEnvelope::Eip4844(with_places),
        ReceiptEnvelope::Eip7702(_) => ReceiptEnvelope::Eip7702(with_places),
    };
    Some(TransactionReceipt {
        inner,
        transaction_hash: *transaction.tx_hash(),
        transaction_index: Some(index as u64),
        block_hash: Some(block.hash()),
        block_number: Some(block.header.number),
        gas_used: outcome.gas_used,
        effective_gas_price: transaction.effective_gas_price(block.header.base_fee_per_gas),
        blob_gas_used: None,
        blob_gas_price: None,
        from: transaction.signer(),
        to: transaction.to(),
        contract_address: outcome.contract,
    })
}

/// The logs of one transaction of a block, each with its place on the chain.
pub fn logs(block: &Block, index: usize) -> Vec<Log> {
    let (Some(transaction), Some(outcome)) = (block.transactions.get(index), block.outcomes.get(index))
    else {
        return Vec::new();
    };
    let place = |(position, log): (u64, &alloy::primitives::Log)| Log {
        inner: log.clone(),
        block_hash: Some(block.hash()),
        block_number: Some(block.header.number),
        block_timestamp: Some(block.header.timestamp),
        transaction_hash: Some(*transaction.tx_hash()),
        transaction_index: Some(index as u64),
        log_index: Some(position),
        removed: false,
    };
    (outcome.first_log..).zip(outcome.receipt.logs()).map(place).collect()
}
