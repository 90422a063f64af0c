//! Transactions waiting for a block, and the rules for letting one in, with the texts that go-ethereum answers.

use super::evm::{self, Accounts};
use alloy::consensus::transaction::{Recovered, SignerRecoverable as _};
use alloy::consensus::{Transaction as _, TxEnvelope, Typed2718 as _};
use alloy::eips::Decodable2718 as _;
use alloy::primitives::{Address, B256, U256};
use std::collections::{BTreeMap, HashMap};
use thiserror::Error;

/// Transactions one sender may have waiting.
const MAX_PER_SENDER: usize = 1024;
/// Bytes of one transaction (as in go-ethereum).
const MAX_SIZE: usize = 128 * 1024;
/// EIP-3860.
const MAX_INIT_CODE: usize = 2 * 24_576;
/// A replacement pays at least this many percent more.
const REPLACEMENT_BUMP: u128 = 10;

/// Why a transaction was not let in. The texts are those of go-ethereum, for programs that read them.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PoolError {
    /// Not a transaction.
    #[error("rlp: {0}")]
    Malformed(String),
    /// Blobs and set-code transactions are not served here.
    #[error("transaction type not supported")]
    TypeNotSupported,
    /// The very same transaction is waiting already.
    #[error("already known")]
    AlreadyKnown,
    /// The signature gives no sender.
    #[error("invalid sender")]
    InvalidSender,
    /// Signed for another chain.
    #[error("invalid chain id for signer: have {have} want {want}")]
    WrongChain {
        /// The transaction's.
        have: u64,
        /// The chain's.
        want: u64,
    },
    /// A legacy transaction without a chain id.
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    NotReplayProtected,
    /// Too many bytes.
    #[error("oversized data: transaction size {size}, limit {MAX_SIZE}")]
    Oversized {
        /// Its size.
        size: usize,
    },
    /// Too much creation code.
    #[error("max initcode size exceeded: code size {size}, limit {MAX_INIT_CODE}")]
    InitCode {
        /// Its size.
        size: usize,
    },
    /// More gas than a block has.
    #[error("exceeds block gas limit")]
    GasLimit,
    /// The tip is above the whole fee.
    #[error(
        "max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: {tip}, maxFeePerGas: {fee}"
    )]
    TipAboveFee {
        /// Tip offered.
        tip: u128,
        /// Fee offered.
        fee: u128,
    },
    /// The data alone costs more gas than is offered.
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas {
        /// Offered.
        gas: u64,
        /// Needed.
        needed: u64,
    },
    /// EIP-7623.
    #[error("insufficient gas for floor data gas cost: gas {gas}, minimum needed {needed}")]
    FloorGas {
        /// Offered.
        gas: u64,
        /// Needed.
        needed: u64,
    },
    /// The nonce was used in a block.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow {
        /// The account's.
        next: u64,
        /// The transaction's.
        nonce: u64,
    },
    /// The account cannot pay.
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {overshot}"
    )]
    InsufficientFunds {
        /// What the account has.
        balance: U256,
        /// What the transaction may cost.
        cost: U256,
        /// The difference.
        overshot: U256,
    },
    /// Another transaction with this nonce waits and pays nearly as much or more.
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    /// This sender has too many transactions waiting.
    #[error("account limit exceeded")]
    AccountLimit,
}

/// A transaction that waits.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The transaction with its sender.
    pub transaction: Recovered<TxEnvelope>,
    /// Order of arrival: of two that pay the same, the first goes first.
    arrival: u64,
}

/// All transactions that wait for a block.
#[derive(Debug, Default)]
pub struct Mempool {
    by_sender: BTreeMap<Address, BTreeMap<u64, Waiting>>,
    places: HashMap<B256, (Address, u64)>,
    arrivals: u64,
}

impl Mempool {
    /// Lets a raw transaction in and gives its hash.
    pub fn add(
        &mut self,
        raw: &[u8],
        accounts: &Accounts,
        chain_id: u64,
        block_gas_limit: u64,
    ) -> Result<B256, PoolError> {
        if raw.len() > MAX_SIZE {
            return Err(PoolError::Oversized { size: raw.len() });
        }
        let mut rest = raw;
        let envelope =
            TxEnvelope::decode_2718(&mut rest).map_err(|error| PoolError::Malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(PoolError::Malformed("input contains more than one value".into()));
        }
        let hash = *envelope.tx_hash();
        if self.places.contains_key(&hash) {
            return Err(PoolError::AlreadyKnown);
        }
        check_alone(&envelope, chain_id, block_gas_limit)?;
        let transaction = envelope.try_into_recovered().map_err(|_| PoolError::InvalidSender)?;
        check_account(&transaction, accounts)?;
        self.insert(transaction)
    }

    /// Lets a transaction wait again whose block was taken off the chain, unless one that pays more has its place. What can never
    /// be in a block is dropped when one is made.
    pub fn take_back(&mut self, transaction: Recovered<TxEnvelope>) {
        // As nodes do: who sent it is not told.
        let _ = self.insert(transaction);
    }

    /// The transaction with this hash, if it waits.
    pub fn get(&self, hash: &B256) -> Option<&Recovered<TxEnvelope>> {
        let (sender, nonce) = self.places.get(hash)?;
        Some(&self.by_sender.get(sender)?.get(nonce)?.transaction)
    }

    /// The nonce that follows the account's own and those waiting without a gap.
    pub fn next_nonce(&self, sender: Address, account_nonce: u64) -> u64 {
        let Some(queue) = self.by_sender.get(&sender) else { return account_nonce };
        (account_nonce..).find(|nonce| !queue.contains_key(nonce)).unwrap_or(account_nonce)
    }

    /// The transaction that pays the block's maker best of those that can run now.
    pub fn best(&self, accounts: &Accounts, base_fee: u64, gas_left: u64) -> Option<Recovered<TxEnvelope>> {
        let ready = self.by_sender.iter().filter_map(|(sender, queue)| {
            let waiting = queue.get(&evm::account(accounts, *sender).nonce)?;
            let tip = waiting.transaction.effective_tip_per_gas(base_fee)?;
            (waiting.transaction.gas_limit() <= gas_left).then_some((tip, waiting))
        });
        let best = ready.max_by_key(|(tip, waiting)| (*tip, std::cmp::Reverse(waiting.arrival)));
        best.map(|(_, waiting)| waiting.transaction.clone())
    }

    /// Forgets a transaction: it is in a block, or can never be.
    pub fn remove(&mut self, hash: &B256) {
        let Some((sender, nonce)) = self.places.remove(hash) else { return };
        if let Some(queue) = self.by_sender.get_mut(&sender) {
            queue.remove(&nonce);
            if queue.is_empty() {
                self.by_sender.remove(&sender);
            }
        }
    }

    fn insert(&mut self, transaction: Recovered<TxEnvelope>) -> Result<B256, PoolError> {
        let (hash, sender, nonce) = (*transaction.tx_hash(), transaction.signer(), transaction.nonce());
        let queue = self.by_sender.entry(sender).or_default();
        match queue.get(&nonce) {
            Some(old) if !replaces(&transaction, &old.transaction) => {
                return Err(PoolError::ReplacementUnderpriced);
            }
            Some(old) => {
                self.places.remove(old.transaction.tx_hash());
            }
            None if queue.len() >= MAX_PER_SENDER => return Err(PoolError::AccountLimit),
            None => {}
        }
        self.arrivals += 1;
        queue.insert(nonce, Waiting { transaction, arrival: self.arrivals });
        self.places.insert(hash, (sender, nonce));
        Ok(hash)
    }
}

/// Both the fee and the tip must rise by a tenth.
fn replaces(new: &TxEnvelope, old: &TxEnvelope) -> bool {
    let bumped = |price: u128| price.saturating_mul(100 + REPLACEMENT_BUMP) / 100;
    let tip = |transaction: &TxEnvelope| {
        transaction.max_priority_fee_per_gas().unwrap_or(transaction.max_fee_per_gas())
    };
    new.max_fee_per_gas() > old.max_fee_per_gas()
        && tip(new) > tip(old)
        && new.max_fee_per_gas() >= bumped(old.max_fee_per_gas())
        && tip(new) >= bumped(tip(old))
}

/// What can be said of a transaction without looking at the sender's account.
fn check_alone(transaction: &TxEnvelope, chain_id: u64, block_gas_limit: u64) -> Result<(), PoolError> {
    if transaction.ty() > 2 {
        return Err(PoolError::TypeNotSupported);
    }
    match transaction.chain_id() {
        None => return Err(PoolError::NotReplayProtected),
        Some(have) if have != chain_id => return Err(PoolError::WrongChain { have, want: chain_id }),
        Some(_) => {}
    }
    if transaction.is_create() && transaction.input().len() > MAX_INIT_CODE {
        return Err(PoolError::InitCode { size: transaction.input().len() });
    }
    let gas = transaction.gas_limit();
    if gas > block_gas_limit {
        return Err(PoolError::GasLimit);
    }
    let (fee, tip) = (transaction.max_fee_per_gas(), transaction.max_priority_fee_per_gas().unwrap_or(0));
    if tip > fee {
        return Err(PoolError::TipAboveFee { tip, fee });
    }
    let (needed, floor) = minimum_gas(transaction);
    if gas < needed {
        return Err(PoolError::IntrinsicGas { gas, needed });
    }
    if gas < floor {
        return Err(PoolError::FloorGas { gas, needed: floor });
    }
    Ok(())
}

fn check_account(transaction: &Recovered<TxEnvelope>, accounts: &Accounts) -> Result<(), PoolError> {
    let account = evm::account(accounts, transaction.signer());
    let nonce = transaction.nonce();
    if nonce < account.nonce {
        return Err(PoolError::NonceTooLow { next: account.nonce, nonce });
    }
    let gas_cost =
        U256::from(transaction.gas_limit()).saturating_mul(U256::from(transaction.max_fee_per_gas()));
    let cost = gas_cost.saturating_add(transaction.value());
    match cost.checked_sub(account.balance) {
        Some(overshot) if !overshot.is_zero() => {
            Err(PoolError::InsufficientFunds { balance: account.balance, cost, overshot })
        }
        _ => Ok(()),
    }
}

/// Gas that goes before the first instruction, and the floor for data of EIP-7623.
fn minimum_gas(transaction: &TxEnvelope) -> (u64, u64) {
    let data = transaction.input();
    let zeros = data.iter().filter(|byte| **byte == 0).count() as u64;
    let tokens = zeros + 4 * (data.len() as u64 - zeros);
    let creation = if transaction.is_create() { 32_000 + 2 * (data.len() as u64).div_ceil(32) } else { 0 };
    let access = transaction
        .access_list()
        .map_or(0, |list| list.iter().map(|item| 2_400 + 1_900 * item.storage_keys.len() as u64).sum());
    (21_000 + 4 * tokens + creation + access, 21_000 + 10 * tokens)
}
