//! The chain of execution blocks and the making of the next one.

use super::deposit_contract;
use super::evm::{self, Accounts};
use super::mempool::Mempool;
use super::withdrawal_requests;
use crate::beacon::deposits::DepositRequest;
use crate::beacon::withdrawal_requests::WithdrawalRequest;
use crate::{Config, Error};
use alloy::consensus::constants::{EMPTY_OMMER_ROOT_HASH, EMPTY_WITHDRAWALS};
use alloy::consensus::transaction::Recovered;
use alloy::consensus::{
    Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, Sealable as _, Sealed, Transaction as _, TxEnvelope,
    TxType, proofs,
};
use alloy::eips::eip1559::BaseFeeParams;
use alloy::eips::eip4895::Withdrawal;
use alloy::eips::eip7002::WITHDRAWAL_REQUEST_TYPE;
use alloy::primitives::{Address, B256, Bloom, U256, address, keccak256};
use revm::context::BlockEnv;
use revm::context::result::ExecutionResult;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::Arc;

/// Who gets the tips.
const BENEFICIARY: Address = address!("00000000000000000000000000000000000FEE00");
const GENESIS_BASE_FEE: u64 = 1_000_000_000;

/// A block with everything that is asked about it.
#[derive(Debug)]
pub struct Block {
    /// The header with its hash.
    pub header: Sealed<Header>,
    /// The transactions, in their order.
    pub transactions: Vec<Recovered<TxEnvelope>>,
    /// What each of them did.
    pub outcomes: Vec<Outcome>,
    /// What the beacon chain paid out in this block (EIP-4895).
    pub withdrawals: Vec<Withdrawal>,
    /// The accounts after this block; shared with the block before when nothing changed.
    pub accounts: Arc<Accounts>,
}

/// What a transaction did.
#[derive(Debug)]
pub struct Outcome {
    /// The receipt that the block commits to.
    pub receipt: ReceiptEnvelope,
    /// Gas of this transaction alone.
    pub gas_used: u64,
    /// The contract that it made.
    pub contract: Option<Address>,
    /// Number of its first log within the block.
    pub first_log: u64,
}

impl Block {
    /// The block's hash.
    pub fn hash(&self) -> B256 {
        self.header.hash()
    }

    /// Wei per gas that is burnt.
    pub fn base_fee(&self) -> u64 {
        self.header.base_fee_per_gas.unwrap_or_default()
    }

    /// The environment of calls that are to run as if in this block.
    pub fn environment(&self) -> BlockEnv {
        let header = &self.header;
        evm::block_environment(
            header.number,
            header.timestamp,
            header.beneficiary,
            header.gas_limit,
            self.base_fee(),
            header.mix_hash,
        )
    }
}

/// What a block is made from besides waiting transactions.
#[derive(Debug, Clone)]
pub struct BlockInputs {
    /// Seconds since 1970.
    pub timestamp: u64,
    /// Root of the beacon block before (EIP-4788's header field).
    pub parent_beacon_root: B256,
    /// What the beacon chain pays out.
    pub withdrawals: Vec<Withdrawal>,
}

/// What the beacon chain takes from a new block.
#[derive(Debug)]
pub struct Made {
    /// The block's hash.
    pub hash: B256,
    /// Deposits of the deposit contract, in order.
    pub deposits: Vec<DepositRequest>,
    /// What was taken off the queue of EIP-7002, in order.
    pub withdrawal_requests: Vec<WithdrawalRequest>,
}

/// The chain. Of a branch that was left nothing is kept.
#[derive(Debug)]
pub struct ExecutionChain {
    chain_id: u64,
    deposit_contract: Address,
    blocks: Vec<Block>,
    by_hash: HashMap<B256, u64>,
    transactions: HashMap<B256, (u64, usize)>,
    safe: u64,
    finalized: u64,
    /// How often blocks were taken off: those made since say so, and so have other hashes.
    branch: u64,
    /// Transactions that wait for a block.
    pub mempool: Mempool,
}

impl ExecutionChain {
    /// The chain with its genesis block.
    pub fn genesis(config: &Config, timestamp: u64) -> Result<Self, Error> {
        let mut accounts = Accounts::default();
        for (address, balance) in &config.prefunded {
            let info = revm::state::AccountInfo { balance: *balance, ..Default::default() };
            accounts.insert_account_info(*address, info);
        }
        deposit_contract::place(&mut accounts, config.chain_id, config.deposit_contract)?;
        withdrawal_requests::place(&mut accounts);
        let header = Header {
            gas_limit: config.block_gas_limit,
            timestamp,
            state_root: evm::state_root(&accounts),
            base_fee_per_gas: Some(GENESIS_BASE_FEE),
            requests_hash: Some(requests_hash(&[], &[])),
            parent_beacon_block_root: Some(B256::ZERO),
            ..empty_header()
        };
        let mut chain = Self {
            chain_id: config.chain_id,
            deposit_contract: config.deposit_contract,
            blocks: Vec::new(),
            by_hash: HashMap::new(),
            transactions: HashMap::new(),
            safe: 0,
            finalized: 0,
            branch: 0,
            mempool: Mempool::default(),
        };
        chain.append(header, Vec::new(), Vec::new(), Vec::new(), accounts.into());
        Ok(chain)
    }

    /// EIP-155 chain id.
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The newest block.
    pub fn head(&self) -> &Block {
        // Genesis is there from the start and is never taken off.
        &self.blocks[self.blocks.len() - 1]
    }

    /// The block with this number.
    pub fn block(&self, number: u64) -> Option<&Block> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    /// The block with this hash.
    pub fn block_by_hash(&self, hash: &B256) -> Option<&Block> {
        self.block(*self.by_hash.get(hash)?)
    }

    /// The block that a transaction is in, and its place there.
    pub fn locate(&self, transaction: &B256) -> Option<(&Block, usize)> {
        let (number, index) = self.transactions.get(transaction)?;
        Some((self.block(*number)?, *index))
    }

    /// Number of the newest justified block.
    pub fn safe(&self) -> u64 {
        self.safe
    }

    /// Number of the newest finalised block.
    pub fn finalized(&self) -> u64 {
        self.finalized
    }

    /// Takes over what the beacon chain says of finality.
    pub fn set_finality(&mut self, safe: u64, finalized: u64) {
        self.safe = safe;
        self.finalized = finalized;
    }

    /// What the next block will burn per gas.
    pub fn next_base_fee(&self) -> u64 {
        self.head().header.next_block_base_fee(BaseFeeParams::ethereum()).unwrap_or(GENESIS_BASE_FEE)
    }

    /// Lets a raw transaction wait for a block.
    pub fn submit(&mut self, raw: &[u8]) -> Result<B256, super::mempool::PoolError> {
        let (accounts, gas_limit) = (self.head().accounts.clone(), self.head().header.gas_limit);
        self.mempool.add(raw, &accounts, self.chain_id, gas_limit)
    }

    /// Takes the blocks after this one off the chain; gives the transactions that were in them, in the order of the chain.
    pub fn cut(&mut self, last: u64) -> Vec<Recovered<TxEnvelope>> {
        let kept = usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1);
        let dropped = self.blocks.split_off(kept.min(self.blocks.len()));
        self.branch += 1;
        let mut transactions = Vec::new();
        for block in dropped {
            self.by_hash.remove(&block.hash());
            for transaction in block.transactions {
                self.transactions.remove(transaction.tx_hash());
                transactions.push(transaction);
            }
        }
        transactions
    }

    /// Makes the next block from the transactions that wait.
    pub fn make_block(&mut self, inputs: BlockInputs) -> Made {
        let parent = self.head();
        let (parent_hash, number) = (parent.hash(), parent.header.number + 1);
        let (gas_limit, base_fee) = (parent.header.gas_limit, self.next_base_fee());
        let randao = keccak256([parent_hash.as_slice(), &number.to_be_bytes()].concat());
        let mut accounts = parent.accounts.clone();
        let environment =
            evm::block_environment(number, inputs.timestamp, BENEFICIARY, gas_limit, base_fee, randao);

        let (mut transactions, mut outcomes) = (Vec::new(), Vec::new());
        let (mut gas_used, mut log_count) = (0, 0);
        while let Some(transaction) = self.mempool.best(&accounts, base_fee, gas_limit - gas_used) {
            self.mempool.remove(transaction.tx_hash());
            let db = Arc::make_mut(&mut accounts);
            db.cache.block_hashes.insert(U256::from(number - 1), parent_hash);
            let input = evm::transaction_environment(&transaction);
            // What cannot run any more (its sender's balance went elsewhere) is dropped, as nodes do.
            let Ok(result) = evm::execute(db, self.chain_id, environment.clone(), input) else { continue };
            gas_used += result.tx_gas_used();
            let outcome = outcome(&transaction, &result, gas_used, log_count);
            log_count += outcome.receipt.logs().len() as u64;
            outcomes.push(outcome);
            transactions.push(transaction);
        }
        if !inputs.withdrawals.is_empty() {
            evm::credit(Arc::make_mut(&mut accounts), &inputs.withdrawals);
        }
        let withdrawal_requests = withdrawal_requests::dequeue(&mut accounts, self.chain_id, environment);

        let receipts: Vec<_> = outcomes.iter().map(|outcome| outcome.receipt.clone()).collect();
        let deposits = deposit_contract::deposits(
            self.deposit_contract,
            receipts.iter().flat_map(|receipt| receipt.logs()),
        );
        let envelopes: Vec<_> = transactions.iter().map(|transaction| transaction.inner().clone()).collect();
        let header = Header {
            parent_hash,
            beneficiary: BENEFICIARY,
            state_root: if Arc::ptr_eq(&accounts, &self.head().accounts) {
                self.head().header.state_root
            } else {
                evm::state_root(&accounts)
            },
            transactions_root: proofs::calculate_transaction_root(&envelopes),
            withdrawals_root: Some(proofs::calculate_withdrawals_root(&inputs.withdrawals)),
            receipts_root: proofs::calculate_receipt_root(&receipts),
            logs_bloom: receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom()),
            number,
            gas_limit,
            gas_used,
            timestamp: inputs.timestamp,
            mix_hash: randao,
            base_fee_per_gas: Some(base_fee),
            parent_beacon_block_root: Some(inputs.parent_beacon_root),
            requests_hash: Some(requests_hash(&deposits, &withdrawal_requests)),
            extra_data: self.branch.to_be_bytes().into(),
            ..empty_header()
        };
        self.append(header, transactions, outcomes, inputs.withdrawals, accounts);
        Made { hash: self.head().hash(), deposits, withdrawal_requests }
    }

    fn append(
        &mut self,
        header: Header,
        transactions: Vec<Recovered<TxEnvelope>>,
        outcomes: Vec<Outcome>,
        withdrawals: Vec<Withdrawal>,
        accounts: Arc<Accounts>,
    ) {
        let header = header.seal_slow();
        self.by_hash.insert(header.hash(), header.number);
        for (index, transaction) in transactions.iter().enumerate() {
            self.transactions.insert(*transaction.tx_hash(), (header.number, index));
        }
        self.blocks.push(Block { header, transactions, outcomes, withdrawals, accounts });
    }
}

fn outcome(
    transaction: &TxEnvelope,
    result: &ExecutionResult,
    cumulative_gas_used: u64,
    first_log: u64,
) -> Outcome {
    // Logs of a reverted transaction are no part of its receipt.
    let logs = if result.is_success() { result.logs().to_vec() } else { Vec::new() };
    let receipt: ReceiptWithBloom<Receipt> =
        Receipt { status: result.is_success().into(), cumulative_gas_used, logs }.into();
    let receipt = match transaction.tx_type() {
        TxType::Legacy => ReceiptEnvelope::Legacy(receipt),
        TxType::Eip2930 => ReceiptEnvelope::Eip2930(receipt),
        TxType::Eip1559 => ReceiptEnvelope::Eip1559(receipt),
        TxType::Eip4844 => ReceiptEnvelope::Eip4844(receipt),
        TxType::Eip7702 => ReceiptEnvelope::Eip7702(receipt),
    };
    let contract = if transaction.is_create() { result.created_address() } else { None };
    Outcome { receipt, gas_used: result.tx_gas_used(), contract, first_log }
}

/// A header with the fields that never differ.
fn empty_header() -> Header {
    Header {
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        withdrawals_root: Some(EMPTY_WITHDRAWALS),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        ..Header::default()
    }
}

/// EIP-7685: the commitment to what the block asks of the beacon chain.
fn requests_hash(deposits: &[DepositRequest], withdrawals: &[WithdrawalRequest]) -> B256 {
    let deposits: Vec<u8> = deposits.iter().flat_map(DepositRequest::encode).collect();
    let withdrawals: Vec<u8> = withdrawals.iter().flat_map(WithdrawalRequest::encode).collect();
    let mut hash = Sha256::new();
    // The types are those of EIP-6110 and EIP-7002. A type without requests is left out.
    for (kind, requests) in [(0u8, deposits), (WITHDRAWAL_REQUEST_TYPE, withdrawals)] {
        if !requests.is_empty() {
            hash.update(Sha256::new().chain_update([kind]).chain_update(requests).finalize());
        }
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest.into()
}
