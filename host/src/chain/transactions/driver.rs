//! Lets [`super::decision`] decide and does what it says, storing first.

use super::decision::{Action, Fees, Observation, decide, raised_fees};
use super::node::{Estimate, Node, Sent, digest};
use super::refusal::SendRefusal;
use super::{
    FeeRules, Outcome, SignedVersion, TransactionError, TransactionRow, TransactionState, TransactionStore,
};
use crate::chain::profile::to_alloy;
use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::{BlockNumberOrTag, Encodable2718};
use alloy::network::TxSignerSync;
use alloy::primitives::{B256, TxKind, U256};
use alloy::providers::DynProvider;
use alloy::signers::local::PrivateKeySigner;
use postern_shared::ids::{Address, Digest};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::Mutex;

/// One wallet's transactions. Nothing else may send from the wallet meanwhile; if something does, nonces are lost to it
/// and calls go out again under new ones.
pub struct Transactions {
    node: Node,
    chain_id: u64,
    wallet: PrivateKeySigner,
    rules: FeeRules,
    store: Arc<dyn TransactionStore>,
    session: Mutex<Session>,
}

/// What this process knows.
struct Session {
    /// As stored.
    rows: BTreeMap<String, TransactionRow>,
    /// Versions that this process has sent.
    sent: HashSet<Digest>,
    /// The head when a row's nonce was first seen used by something else.
    displaced_at: HashMap<String, u64>,
}

/// The chain at the beginning of a drive.
struct Tide {
    head: u64,
    finalised: u64,
    /// The wallet's nonce in the finalised state.
    nonce: u64,
}

impl Transactions {
    /// Reads the stored rows. `wallet` is the account's secret key; `provider` comes from
    /// [`crate::chain::execution::Execution::provider`], which has checked the chain.
    pub fn open(
        provider: DynProvider,
        chain_id: u64,
        wallet: &[u8; 32],
        store: Arc<dyn TransactionStore>,
    ) -> Result<Self, TransactionError> {
        let wallet =
            PrivateKeySigner::from_bytes(&B256::from(*wallet)).map_err(|_| TransactionError::Wallet)?;
        let rows = store.load().map_err(TransactionError::Store)?;
        let rows = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        let session = Mutex::new(Session { rows, sent: HashSet::new(), displaced_at: HashMap::new() });
        let node = Node::new(provider, wallet.address());
        Ok(Self { node, chain_id, wallet, rules: FeeRules::default(), store, session })
    }

    /// With other fee rules.
    pub fn with_rules(self, rules: FeeRules) -> Self {
        Self { rules, ..self }
    }

    /// The wallet's address.
    pub fn wallet(&self) -> Address {
        Address(self.wallet.address().into_array())
    }

    /// How far an intent is; `None` when it was never submitted.
    pub async fn state(&self, key: &str) -> Option<TransactionState> {
        self.session.lock().await.rows.get(key).map(|row| row.state.clone())
    }

    /// Prepares a call (signed and stored; [`Self::drive`] sends it). Idempotent for a key.
    pub async fn submit(
        &self,
        key: &str,
        to: Address,
        calldata: Vec<u8>,
    ) -> Result<TransactionState, TransactionError> {
        let mut session = self.session.lock().await;
        if let Some(row) = session.rows.get(key) {
            if row.to != to || row.calldata != calldata {
                return Err(TransactionError::KeyReused(key.to_owned()));
            }
            return Ok(row.state.clone());
        }
        let gas = match self.node.estimate(to, &calldata).await? {
            // The state may differ a little when it is mined.
            Estimate::Gas(gas) => gas.saturating_add(gas / 4),
            Estimate::Reverts(reason) => {
                return Err(TransactionError::WouldRevert { key: key.to_owned(), reason });
            }
        };
        let fees = self.node.market_fees(&self.rules).await?;
        let nonce = self.next_nonce(&session).await?;
        let state = TransactionState::Prepared;
        let mut row =
            TransactionRow { key: key.to_owned(), to, calldata, nonce, versions: Vec::new(), state };
        row.versions.push(self.sign(&row, gas, fees)?);
        self.save(&mut session, row)?;
        Ok(TransactionState::Prepared)
    }

    /// Advances every open transaction by one step; gives those that have become final.
    ///
    /// What keeps one transaction from advancing is logged and keeps no other from it.
    pub async fn drive(&self) -> Result<Vec<Outcome>, TransactionError> {
        let mut session = self.session.lock().await;
        let mut open: Vec<TransactionRow> =
            session.rows.values().filter(|row| !row.state.is_final()).cloned().collect();
        if open.is_empty() {
            return Ok(Vec::new());
        }
        open.sort_by_key(|row| row.nonce);
        // The nonce before the receipts: in the other order, one mined in between would look lost.
        let nonce = self.node.nonce(BlockNumberOrTag::Finalized).await?;
        let tide = Tide { head: self.node.head().await?, finalised: self.node.finalised().await?, nonce };
        let mut outcomes = Vec::new();
        for row in open {
            let key = row.key.clone();
            match self.advance(&mut session, row, &tide).await {
                Ok(state) if state.is_final() => outcomes.push(Outcome { key, state }),
                Ok(_) => (),
                Err(TransactionError::Store(error)) => return Err(TransactionError::Store(error)),
                Err(error) => tracing::warn!(key, %error, "the transaction does not advance"),
            }
        }
        Ok(outcomes)
    }

    async fn advance(
        &self,
        session: &mut Session,
        mut row: TransactionRow,
        tide: &Tide,
    ) -> Result<TransactionState, TransactionError> {
        let seen = self.observe(session, &row, tide).await?;
        match decide(&row, &seen, &self.rules) {
            Action::Wait => {}
            Action::Send => self.send(session, &mut row, tide.head).await?,
            Action::Raise => self.raise(session, &mut row, tide.head).await?,
            Action::Renumber => {
                tracing::warn!(key = row.key, nonce = row.nonce, "another transaction took the nonce");
                let gas = row.versions.last().map_or(0, |version| version.gas_limit);
                let fees = self.node.market_fees(&self.rules).await?;
                row.nonce = self.next_nonce(session).await?;
                row.versions = vec![self.sign(&row, gas, fees)?];
                row.state = TransactionState::Prepared;
                session.displaced_at.remove(&row.key);
                self.save(session, row.clone())?;
                self.send(session, &mut row, tide.head).await?;
            }
            Action::Conclude(receipt) => {
                row.state = if receipt.success {
                    TransactionState::Mined { hash: receipt.hash, block: receipt.block }
                } else {
                    let reason = self.node.replay(&row, receipt.block).await;
                    TransactionState::Reverted { hash: receipt.hash, block: receipt.block, reason }
                };
                self.save(session, row.clone())?;
            }
        }
        Ok(row.state)
    }

    async fn observe(
        &self,
        session: &mut Session,
        row: &TransactionRow,
        tide: &Tide,
    ) -> Result<Observation, TransactionError> {
        let receipt = self.node.receipt(row).await?;
        let displaced_for = if tide.nonce > row.nonce && receipt.is_none() {
            let since = *session.displaced_at.entry(row.key.clone()).or_insert(tide.head);
            Some(tide.head.saturating_sub(since))
        } else {
            session.displaced_at.remove(&row.key);
            None
        };
        let sent_by_us = row.versions.last().is_some_and(|version| session.sent.contains(&version.hash));
        Ok(Observation { head: tide.head, finalised: tide.finalised, receipt, displaced_for, sent_by_us })
    }

    /// Sends the newest version. A refusal that asks for more fees is answered at once, once.
    async fn send(
        &self,
        session: &mut Session,
        row: &mut TransactionRow,
        head: u64,
    ) -> Result<(), TransactionError> {
        if let Err(refusal) = self.send_newest(session, row, head).await? {
            match refusal {
                SendRefusal::ReplacementUnderpriced | SendRefusal::FeesTooLow(_) => {
                    self.raise(session, row, head).await?;
                }
                // Which of the two nonces it was shows in the receipts, or when the nonce is final.
                SendRefusal::NonceTooLow => {}
                refusal => {
                    tracing::warn!(key = row.key, %refusal, "the execution node refuses the transaction")
                }
            }
        }
        Ok(())
    }

    /// Signs the same call with higher fees under the same nonce, stores it, sends it.
    async fn raise(
        &self,
        session: &mut Session,
        row: &mut TransactionRow,
        head: u64,
    ) -> Result<(), TransactionError> {
        let market = self.node.market_fees(&self.rules).await?;
        let Some(newest) = row.versions.last() else { return Ok(()) };
        let old = Fees { max: newest.max_fee_per_gas, priority: newest.max_priority_fee_per_gas };
        match raised_fees(old, market, &self.rules) {
            Some(fees) => {
                let gas = newest.gas_limit;
                row.versions.push(self.sign(row, gas, fees)?);
                self.save(session, row.clone())?;
            }
            None => {
                tracing::warn!(key = row.key, limit = self.rules.max_fee_per_gas, "the fee limit is reached")
            }
        }
        if let Err(refusal) = self.send_newest(session, row, head).await? {
            tracing::warn!(key = row.key, %refusal, "the execution node refuses the transaction");
        }
        Ok(())
    }

    async fn send_newest(
        &self,
        session: &mut Session,
        row: &mut TransactionRow,
        head: u64,
    ) -> Result<Result<(), SendRefusal>, TransactionError> {
        let Some(newest) = row.versions.last_mut() else { return Ok(Ok(())) };
        match self.node.send(&newest.raw).await? {
            Sent::Taken | Sent::Refused(SendRefusal::AlreadyKnown) => {}
            Sent::Refused(refusal) => return Ok(Err(refusal)),
        }
        session.sent.insert(newest.hash);
        if newest.sent_at_block.is_none() || row.state == TransactionState::Prepared {
            newest.sent_at_block.get_or_insert(head);
            row.state = TransactionState::Sent;
            self.save(session, row.clone())?;
        }
        Ok(Ok(()))
    }

    /// The first nonce that neither the chain nor an open row has.
    async fn next_nonce(&self, session: &Session) -> Result<u64, TransactionError> {
        let chain = self.node.nonce(BlockNumberOrTag::Latest).await?;
        // Finished rows count too: the node that answers may be behind the one that showed them mined.
        let rows = session.rows.values().map(|row| row.nonce.saturating_add(1)).max().unwrap_or_default();
        Ok(chain.max(rows))
    }

    fn sign(
        &self,
        row: &TransactionRow,
        gas_limit: u64,
        fees: Fees,
    ) -> Result<SignedVersion, TransactionError> {
        let mut transaction = TxEip1559 {
            chain_id: self.chain_id,
            nonce: row.nonce,
            gas_limit,
            max_fee_per_gas: fees.max,
            max_priority_fee_per_gas: fees.priority,
            to: TxKind::Call(to_alloy(row.to)),
            value: U256::ZERO,
            access_list: Default::default(),
            input: row.calldata.clone().into(),
        };
        let signature = self.wallet.sign_transaction_sync(&mut transaction);
        let signature = signature.map_err(|error| TransactionError::Signing(error.to_string()))?;
        let envelope = TxEnvelope::from(transaction.into_signed(signature));
        Ok(SignedVersion {
            hash: digest(*envelope.tx_hash()),
            raw: envelope.encoded_2718(),
            gas_limit,
            max_fee_per_gas: fees.max,
            max_priority_fee_per_gas: fees.priority,
            sent_at_block: None,
        })
    }

    fn save(&self, session: &mut Session, row: TransactionRow) -> Result<(), TransactionError> {
        self.store.save(&row).map_err(TransactionError::Store)?;
        session.rows.insert(row.key.clone(), row);
        Ok(())
    }

    #[cfg(all(test, feature = "devnet"))]
    pub(super) fn sign_for_test(&self, row: &TransactionRow) -> SignedVersion {
        let fees = Fees { max: 100_000_000_000, priority: 1_000_000_000 };
        self.sign(row, 100_000, fees).expect("a sound key signs")
    }
}
