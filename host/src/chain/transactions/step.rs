//! Lets [`super::decision`] decide on one transaction and does what it says, storing first.

use super::decision::{Action, Asked, Observation, Raise, Receipt, asks, decide, on_its_way};
use super::driver::{GasMargin, Session, Tide, Transactions};
use super::node::{Loss, Sent, digest};
use super::nodes::Backing;
use super::refusal::SendRefusal;
use super::waiting::Waiting;
use super::watch::Watch;
use super::{Conclusion, SignedVersion, TransactionError, TransactionRow, TransactionState};
use crate::chain::profile::to_alloy;
use crate::clock::now;
use alloy::consensus::TxEip1559;
use alloy::eips::{BlockNumberOrTag, Encodable2718};
use alloy::primitives::{TxKind, U256};
use postern_shared::ids::Digest;
use std::ops::Range;

/// Most transactions of a gap that are sent again at a time: each is of no use before those with lower nonces are mined.
const MAX_OF_GAP: usize = 4;

impl Transactions {
    /// `is_next` says whether no open transaction has to be mined before, and is passed on for the one after.
    pub(super) async fn advance(
        &self,
        session: &mut Session,
        mut row: TransactionRow,
        tide: Tide,
        is_next: &mut bool,
    ) -> Result<TransactionState, TransactionError> {
        let asked = self.nodes.asked();
        let seen = self.observe(session, &row, tide, is_next).await?;
        match decide(&row, &seen, &self.rules) {
            Action::Stay => {}
            Action::Wait(waiting) => {
                if waiting.may_be_a_node_s_fault() {
                    self.nodes.turn_from(asked);
                }
                session.wait(&row, waiting);
            }
            Action::Send => self.send(session, &mut row, tide.head).await?,
            Action::Raise(raise) => {
                row.versions.push(self.sign(&row, raise).await?);
                self.save(session, row.clone())?;
                self.send(session, &mut row, tide.head).await?;
            }
            Action::Renumber | Action::Drop if !self.is_lost(&row, &seen).await => {
                self.nodes.turn_from(asked);
                session.wait(&row, seen.doubted());
            }
            Action::Renumber => self.renumber(session, &mut row, tide).await?,
            Action::Conclude(receipt) => {
                let waiting = match self.nodes.backing(&row, &receipt).await {
                    Backing::Agreed { is_cost_sure } => {
                        self.conclude(session, &mut row, receipt, is_cost_sure).await?;
                        return Ok(row.state);
                    }
                    Backing::TooFew => Waiting::Finality { blocks: seen.shown_for },
                    Backing::Disputed => Waiting::Disputed,
                };
                // It may have made up the receipt of what was never sent: the next one is asked what is to be done.
                self.nodes.turn_from(asked);
                session.wait(&row, waiting);
            }
            Action::Drop => {
                row.displace(now());
                row.state = TransactionState::Cancelled { block: tide.finalised };
                self.save(session, row.clone())?;
            }
        }
        Ok(row.state)
    }

    /// Whether most nodes say too that it can't be mined any more under its nonce.
    async fn is_lost(&self, row: &TransactionRow, seen: &Observation) -> bool {
        let loss = if seen.displaced_for.is_some() { Loss::Used } else { Loss::TooHigh };
        row.versions.is_empty() || self.nodes.most_say_lost(row, loss).await
    }

    async fn observe(
        &self,
        session: &mut Session,
        row: &TransactionRow,
        tide: Tide,
        is_next: &mut bool,
    ) -> Result<Observation, TransactionError> {
        let hash = row.versions.last().map_or(Digest([0; 32]), |newest| newest.hash);
        let node = self.nodes.current();
        let watch = session.watch(&row.key, hash, tide.head);
        let (newest, nonce_is_used) = (watch.look(tide.head), watch.is_nonce_used());
        let receipt = node.receipt(row, nonce_is_used || tide.nonce > row.nonce).await?;
        let shown_for = session.watch(&row.key, hash, tide.head).shown(receipt.is_some(), tide.head);
        let displaced_for = if tide.nonce > row.nonce && receipt.is_none() {
            let since = session.displaced_at.entry(row.key.clone()).or_insert(tide.head);
            // A head that was a lie is not waited for.
            *since = tide.head.min(*since);
            Some(tide.head.saturating_sub(*since))
        } else {
            session.displaced_at.remove(&row.key);
            None
        };
        let is_open = receipt.is_none() && displaced_for.is_none();
        let mut seen = Observation {
            finalised: tide.finalised,
            receipt,
            shown_for,
            displaced_for,
            is_next: is_open && std::mem::replace(is_next, *is_next && !is_open),
            newest,
            affordable: self.affordable(session, Some(row)),
            asked: None,
        };
        if let Some(version) = row.versions.last().filter(|_| asks(row, &seen, &self.rules)) {
            let (is_known, market) = (node.knows(version).await?, self.nodes.market().await?);
            let nonce = node.nonce(BlockNumberOrTag::Latest).await?;
            self.fill_gap(session, nonce..row.nonce).await?;
            let is_gap_own = session.has_open(nonce..row.nonce);
            seen.asked = Some(Asked { is_known, market, nonce, is_gap_own });
            session.watch(&row.key, hash, tide.head).looked_at(tide.head);
        }
        Ok(seen)
    }

    /// Sends again what has these nonces and is final, though the node says that they are free: it had said otherwise, or the chain
    /// broke its word. A call that was to be cancelled is not made by that; and what most nodes have final is no gap, whatever the
    /// one says.
    async fn fill_gap(&self, session: &Session, nonces: Range<u64>) -> Result<(), TransactionError> {
        let rows = session.rows.values().filter(|row| row.state.is_final() && nonces.contains(&row.nonce));
        let mut rows: Vec<&TransactionRow> = rows.filter(|row| row.has_nonce()).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let used = self.nodes.nonce(BlockNumberOrTag::Finalized).await?;
        rows.retain(|row| row.nonce >= used);
        rows.sort_unstable_by_key(|row| row.nonce);
        for newest in rows.into_iter().take(MAX_OF_GAP).filter_map(|row| row.versions.last()) {
            self.nodes.send(&newest.raw).await?;
        }
        Ok(())
    }

    /// Sends the newest version.
    async fn send(
        &self,
        session: &mut Session,
        row: &mut TransactionRow,
        head: u64,
    ) -> Result<(), TransactionError> {
        let Some(newest) = row.versions.last_mut() else { return Ok(()) };
        let asked = self.nodes.asked();
        let sent = self.nodes.send(&newest.raw).await?;
        let watch = session.watch(&row.key, newest.hash, head);
        watch.looked_at(head);
        match sent {
            Sent::Taken | Sent::Refused(SendRefusal::AlreadyKnown) => {
                watch.taken(head);
                let waiting = on_its_way(watch.look(head).age, &self.rules);
                session.wait(row, waiting);
            }
            Sent::Refused(refusal) => {
                watch.refused(refusal.clone());
                let blocks = watch.look(head).age;
                // It may be the only one that does not take it, and not tell that it is mined.
                if on_its_way(blocks, &self.rules) != Waiting::Block {
                    self.nodes.turn_from(asked);
                }
                session.wait(row, refused(refusal, blocks));
                return Ok(());
            }
        }
        let Some(newest) = row.versions.last_mut() else { return Ok(()) };
        if newest.sent_at_block.is_none() || row.state == TransactionState::Prepared {
            newest.sent_at_block.get_or_insert(head);
            row.state = TransactionState::Sent;
            self.save(session, row.clone())?;
        }
        Ok(())
    }

    /// Signs the call again under a new nonce, with no less gas. If it would revert now, it ends.
    async fn renumber(
        &self,
        session: &mut Session,
        row: &mut TransactionRow,
        tide: Tide,
    ) -> Result<(), TransactionError> {
        tracing::warn!(key = row.key, nonce = row.nonce, "the nonce can't be used: signing under another");
        let hash = row.versions.last().map_or(Digest([0; 32]), |newest| newest.hash);
        let at_least = row.versions.last().map_or(0, |newest| newest.gas_limit);
        let mut next = row.clone();
        next.displace(now());
        match self.sign_first(session, &mut next, GasMargin { at_least, ..GasMargin::default() }).await {
            Ok(()) => {
                *row = next;
                session.displaced_at.remove(&row.key);
                self.save(session, row.clone())?;
                self.send(session, row, tide.head).await
            }
            Err(TransactionError::WouldRevert { reason, .. }) => {
                let reason = format!("it has lost its nonce, and now it would revert: {reason}");
                *row = next;
                row.state = TransactionState::Reverted { hash, block: tide.finalised, reason };
                self.save(session, row.clone())
            }
            Err(TransactionError::OverBudget { .. }) => {
                session.wait(row, Waiting::Budget);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Writes down how it ended and what it has cost; if that is not sure, what it may have cost.
    async fn conclude(
        &self,
        session: &mut Session,
        row: &mut TransactionRow,
        receipt: Receipt,
        is_cost_sure: bool,
    ) -> Result<(), TransactionError> {
        let Receipt { hash, block, success, gas_used, price } = receipt;
        let Some(version) = row.versions.iter().find(|version| version.hash == hash) else { return Ok(()) };
        let gas_limit = version.gas_limit;
        let state = match (version.cancels, success) {
            (true, _) => TransactionState::Cancelled { block },
            (false, true) => TransactionState::Mined { hash, block },
            (false, false) => {
                let reason = match is_out_of_gas(gas_used, gas_limit) {
                    true => format!("out of gas: it used {gas_used} of {gas_limit}"),
                    false => self.nodes.current().replay(row, gas_limit, block).await,
                };
                TransactionState::Reverted { hash, block, reason }
            }
        };
        let cost = match is_cost_sure {
            true => price.saturating_mul(gas_used.into()),
            false => row.worst_case(),
        };
        row.state = state;
        row.conclusion = Some(Conclusion { at: now(), gas_used, cost });
        self.save(session, row.clone())
    }

    pub(super) async fn sign(
        &self,
        row: &TransactionRow,
        Raise { fees, gas_limit, why, cancels }: Raise,
    ) -> Result<SignedVersion, TransactionError> {
        let (to, input) = match cancels {
            true => (self.wallet.address(), Vec::new()),
            false => (to_alloy(row.to), row.calldata.clone()),
        };
        let transaction = TxEip1559 {
            chain_id: self.chain_id,
            nonce: row.nonce,
            gas_limit,
            max_fee_per_gas: fees.max,
            max_priority_fee_per_gas: fees.priority,
            to: TxKind::Call(to),
            value: U256::ZERO,
            access_list: Default::default(),
            input: input.into(),
        };
        let envelope = self.wallet.sign(transaction).await?;
        Ok(SignedVersion {
            hash: digest(*envelope.tx_hash()),
            raw: envelope.encoded_2718(),
            gas_limit,
            max_fee_per_gas: fees.max,
            max_priority_fee_per_gas: fees.priority,
            sent_at_block: None,
            why,
            cancels,
        })
    }
}

impl Session {
    /// What is seen of a row's newest version.
    fn watch(&mut self, key: &str, newest: Digest, head: u64) -> &mut Watch {
        let watch = self.watches.entry(key.to_owned()).or_insert_with(|| Watch::new(newest, head));
        if !watch.is_of(newest) {
            *watch = Watch::new(newest, head);
        }
        watch
    }

    /// Whether an open transaction has one of these nonces.
    fn has_open(&self, nonces: Range<u64>) -> bool {
        self.rows.values().any(|row| !row.state.is_final() && nonces.contains(&row.nonce))
    }

    fn wait(&mut self, row: &TransactionRow, waiting: Waiting) {
        self.waiting.insert(row.key.clone(), waiting);
    }
}

/// What a transaction waits for that a node does not take, so many blocks after it was signed.
fn refused(refusal: SendRefusal, blocks: u64) -> Waiting {
    match refusal {
        // Which of the two nonces it was shows in the receipts, or when the nonce is final.
        SendRefusal::NonceTooLow => Waiting::Nonce { blocks },
        SendRefusal::InsufficientFunds(words) => Waiting::Funds(words),
        refusal => Waiting::Refused(refusal.to_string()),
    }
}

/// Whether a call that failed ran out of gas. A call in a call gets all but a 64th of what is left (EIP-150), so what is left when
/// one of those ran out is little, and not always nothing.
pub fn is_out_of_gas(gas_used: u64, gas_limit: u64) -> bool {
    gas_used >= gas_limit.saturating_sub(gas_limit / 32)
}
