//! The wallet's transactions: takes calls in, drives all that are open, and says how they are.

use super::budget;
use super::decision::Raise;
use super::listing::Listed;
use super::nodes::{Asked, Estimates, Nodes};
use super::waiting::Waiting;
use super::wallet::Wallet;
use super::watch::Watch;
use super::{
    FeeRules, Outcome, TRANSFER_GAS, TransactionError, TransactionRow, TransactionState, TransactionStore,
    Why,
};
use crate::chain::execution::Connection;
use crate::clock::now;
use alloy::eips::BlockNumberOrTag;
use postern_shared::ids::Address;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::Mutex;

/// No transaction may have more gas (EIP-7825).
const MAX_GAS: u64 = 1 << 24;

/// Most transactions that are final and still listed.
const LISTED: usize = 200;

/// A call that did not fit in the budget and was not asked for again between so many looks at the wallet is due no more.
const LOOKS: u32 = 3;

/// One wallet's transactions. Nothing else may send from the wallet meanwhile; if something does, nonces are lost to it
/// and calls go out again under new ones.
pub struct Transactions {
    pub(super) nodes: Nodes,
    pub(super) chain_id: u64,
    pub(super) wallet: Wallet,
    pub(super) rules: FeeRules,
    pub(super) store: Arc<dyn TransactionStore>,
    session: Mutex<Session>,
}

/// What this process knows.
pub(super) struct Session {
    /// As stored.
    pub(super) rows: BTreeMap<String, TransactionRow>,
    /// Of open rows, what this process has seen of the newest version.
    pub(super) watches: HashMap<String, Watch>,
    /// The head when a row's nonce was first seen used by something else.
    pub(super) displaced_at: HashMap<String, u64>,
    /// What open rows wait for.
    pub(super) waiting: HashMap<String, Waiting>,
    /// The last call that did not fit in the budget.
    refused: Option<Refused>,
}

/// A call that did not fit in the budget.
struct Refused {
    key: String,
    /// What it may have cost.
    cost: u128,
    /// How often the wallet was looked at since.
    looks: u32,
}

/// The chain at the beginning of a drive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tide {
    /// As most nodes show it, so that a node which stands still does not stop all patience.
    pub(super) head: u64,
    /// As one node shows it, like the nonce.
    pub(super) finalised: u64,
    /// The wallet's nonce in the finalised state.
    pub(super) nonce: u64,
}

/// How much more gas a transaction may use than a node estimates: the state may differ when it is mined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GasMargin {
    /// More by so much.
    pub percent: u64,
    /// And no less than this, whatever is estimated.
    pub at_least: u64,
}

impl Default for GasMargin {
    fn default() -> Self {
        Self { percent: 25, at_least: 0 }
    }
}

impl GasMargin {
    pub(super) fn limit(self, estimate: u64) -> u64 {
        let more = u128::from(estimate) * u128::from(self.percent) / 100;
        let limit = estimate.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        limit.max(self.at_least).min(MAX_GAS)
    }
}

impl Transactions {
    /// Reads the stored rows. Of `nodes` the first is asked as long as it answers.
    pub fn open(
        nodes: Vec<Connection>,
        chain_id: u64,
        wallet: Wallet,
        rules: FeeRules,
        store: Arc<dyn TransactionStore>,
    ) -> Result<Self, TransactionError> {
        let rows = store.load().map_err(TransactionError::Store)?;
        let session = Session {
            rows: rows.into_iter().map(|row| (row.key.clone(), row)).collect(),
            watches: HashMap::new(),
            displaced_at: HashMap::new(),
            waiting: HashMap::new(),
            refused: None,
        };
        let nodes = Nodes::new(nodes, chain_id, wallet.address())?;
        Ok(Self { nodes, chain_id, wallet, rules, store, session: Mutex::new(session) })
    }

    /// Everything about an intent; `None` when it was never submitted.
    pub async fn row(&self, key: &str) -> Option<TransactionRow> {
        self.session.lock().await.rows.get(key).cloned()
    }

    /// Prepares a call (signed and stored; [`Self::drive`] sends it). Idempotent for a key.
    pub async fn submit(
        &self,
        key: &str,
        to: Address,
        calldata: Vec<u8>,
    ) -> Result<TransactionState, TransactionError> {
        self.submit_with(key, to, calldata, GasMargin::default()).await
    }

    /// The same, with another margin of gas.
    pub async fn submit_with(
        &self,
        key: &str,
        to: Address,
        calldata: Vec<u8>,
        margin: GasMargin,
    ) -> Result<TransactionState, TransactionError> {
        let mut session = self.session.lock().await;
        if let Some(row) = session.rows.get(key) {
            if row.to != to || row.calldata != calldata {
                return Err(TransactionError::KeyReused(key.to_owned()));
            }
            return Ok(row.state.clone());
        }
        let mut row = TransactionRow::new(key, to, calldata, 0);
        row.submitted_at = now();
        let asked = self.nodes.turn_to_awake();
        let signed = self.sign_first(&mut session, &mut row, margin).await;
        self.turned(asked, signed)?;
        session.waiting.insert(row.key.clone(), Waiting::Sending);
        self.save(&mut session, row)?;
        Ok(TransactionState::Prepared)
    }

    /// Signs the first version under a new nonce, if it may cost that much.
    pub(super) async fn sign_first(
        &self,
        session: &mut Session,
        row: &mut TransactionRow,
        margin: GasMargin,
    ) -> Result<(), TransactionError> {
        let gas = match self.nodes.estimate(row).await? {
            Estimates::Gas(middle) => middle.map(|gas| margin.limit(gas).max(least_gas(&row.calldata))),
            Estimates::Reverts(reason) => {
                return Err(TransactionError::WouldRevert { key: row.key.clone(), reason });
            }
        };
        let fees = self.nodes.market().await?.offer(&self.rules);
        let left = self.affordable(session, Some(row));
        // Of two in the middle, one that fits in no budget may be a lie.
        let [lower, higher] = gas;
        let gas = if fees.worst_case(higher) > left { lower } else { higher };
        let cost = fees.worst_case(gas);
        if cost > left {
            session.refused = Some(Refused { key: row.key.clone(), cost, looks: 0 });
            return Err(TransactionError::OverBudget { cost, left });
        }
        let nonce = self.next_nonce(session).await?;
        let first = TransactionRow { nonce, versions: Vec::new(), ..row.clone() };
        let version =
            self.sign(&first, Raise { fees, gas_limit: gas, why: Why::First, cancels: false }).await?;
        *row = TransactionRow { versions: vec![version], state: TransactionState::Prepared, ..first };
        session.refused.take_if(|refused| refused.key == row.key);
        Ok(())
    }

    /// Advances every open transaction by one step; gives those that have become final.
    ///
    /// What keeps one transaction from advancing is kept for [`Self::list`], and keeps no other from it.
    pub async fn drive(&self) -> Result<Vec<Outcome>, TransactionError> {
        let mut session = self.session.lock().await;
        let mut open: Vec<TransactionRow> =
            session.rows.values().filter(|row| !row.state.is_final()).cloned().collect();
        if open.is_empty() {
            return Ok(Vec::new());
        }
        open.sort_by_key(|row| row.nonce);
        let head = self.nodes.head().await?;
        let asked = self.nodes.asked();
        let mut tide = self.turned(asked, self.tide(head).await)?;
        let mut outcomes = Vec::new();
        let mut is_next = true;
        for row in open {
            let (key, asked) = (row.key.clone(), self.nodes.asked());
            let advanced = self.advance(&mut session, row, tide, &mut is_next).await;
            match self.turned(asked, advanced) {
                Ok(state) if state.is_final() => {
                    session.forget(&key);
                    outcomes.push(Outcome { key, state });
                }
                Ok(_) => (),
                Err(TransactionError::Store(error)) => return Err(TransactionError::Store(error)),
                Err(error) => {
                    tracing::debug!(key, %error, "the transaction does not advance");
                    session.waiting.insert(key, Waiting::Failure(error.to_string()));
                    // It may be the one that has to be mined before.
                    is_next = false;
                }
            }
            if self.nodes.asked() != asked {
                // What the next node says of rows does not fit with what the one before has said.
                let asked = self.nodes.asked();
                let Ok(next) = self.turned(asked, self.tide(tide.head).await) else { break };
                tide = next;
            }
        }
        Ok(outcomes)
    }

    async fn tide(&self, head: u64) -> Result<Tide, TransactionError> {
        // The nonce before the receipts: in the other order, one mined in between would look lost.
        let node = self.nodes.current();
        let nonce = node.nonce(BlockNumberOrTag::Finalized).await?;
        Ok(Tide { head, finalised: node.finalised().await?, nonce })
    }

    /// After what may be one node's fault the next one is asked.
    fn turned<T>(&self, asked: Asked, done: Result<T, TransactionError>) -> Result<T, TransactionError> {
        if done.as_ref().is_err_and(TransactionError::is_of_a_node) {
            self.nodes.turn_from(asked);
        }
        done
    }

    /// Open transactions, by nonce, and after them the newest of those that are final.
    pub async fn list(&self) -> Vec<Listed> {
        let session = self.session.lock().await;
        let mut rows: Vec<&TransactionRow> = session.rows.values().collect();
        rows.sort_unstable_by_key(|row| (row.state.is_final(), row.nonce));
        let open = rows.partition_point(|row| !row.state.is_final());
        let old = rows.len().saturating_sub(open).saturating_sub(LISTED);
        rows.drain(open..open.saturating_add(old));
        rows.into_iter().map(|row| Listed::new(row, session.waiting.get(&row.key))).collect()
    }

    /// What is wrong with the wallet: that it can't pay what open transactions may cost, is used by others, or does not sign; or
    /// that the day's budget is used up.
    pub async fn look_at_wallet(&self) -> Result<Vec<String>, TransactionError> {
        let asked = self.nodes.turn_to_awake();
        let (open, over, nonces) = {
            let mut session = self.session.lock().await;
            let open = session.rows.values().filter(|row| !row.state.is_final());
            let open = open.map(TransactionRow::worst_case).fold(0, u128::saturating_add);
            let left = self.affordable(&session, None);
            let over = session.refused_cost().filter(|cost| *cost > left);
            let over = over.map(|cost| TransactionError::OverBudget { cost, left });
            (open, over, self.turned(asked, self.next_nonce(&session).await))
        };
        let mut wrong: Vec<String> = over.map(|error| error.to_string()).into_iter().collect();
        match nonces {
            Ok(_) => {}
            Err(error @ TransactionError::Foreign { .. }) => wrong.push(error.to_string()),
            Err(error) => return Err(error),
        }
        let asked = self.nodes.asked();
        let balance = self.turned(asked, self.nodes.current().balance().await)?;
        if balance < open {
            wrong.push(format!("has {balance} wei, and open transactions may cost {open} wei"));
        }
        wrong.extend(self.wallet.check().await.err().map(|error| error.to_string()));
        Ok(wrong)
    }

    /// Cancels an open transaction, by one that transfers nothing to the wallet itself under the same nonce. It ends as
    /// [`TransactionState::Cancelled`], unless it is mined before.
    pub async fn cancel(&self, key: &str) -> Result<(), TransactionError> {
        let mut session = self.session.lock().await;
        let mut row = session.known(key)?;
        if row.state.is_final() {
            return Err(TransactionError::Final(key.to_owned()));
        }
        row.cancel = true;
        self.save(&mut session, row)
    }

    /// Has the call of a transaction that ended made again if it is still due, as if it had not been tried; sends one that is open
    /// again at once.
    pub async fn retry(&self, key: &str) -> Result<(), TransactionError> {
        let mut session = self.session.lock().await;
        let mut row = session.known(key)?;
        match row.state {
            TransactionState::Prepared | TransactionState::Sent if !row.cancel => {
                session.watches.remove(key);
                Ok(())
            }
            TransactionState::Prepared | TransactionState::Sent => {
                Err(TransactionError::NotToRetry(key.to_owned()))
            }
            _ => {
                row.retried = true;
                self.save(&mut session, row)
            }
        }
    }

    /// What a row, or any new one, may cost at most.
    pub(super) fn affordable(&self, session: &Session, row: Option<&TransactionRow>) -> u128 {
        budget::left(session.rows.values(), row, now(), &self.rules)
    }

    /// The first nonce that neither the chain has, as most nodes say, nor a row. What others have sent from the wallet is waited for
    /// until it is final: one node's word for a nonce that is far ahead would have every later transaction wait for those before it.
    pub(super) async fn next_nonce(&self, session: &Session) -> Result<u64, TransactionError> {
        let latest = self.nodes.nonce(BlockNumberOrTag::Latest).await?;
        let finalised = self.nodes.nonce(BlockNumberOrTag::Finalized).await?;
        // Finished rows count too: the node that answers may be behind the one that showed them mined.
        let taken = session.rows.values().filter(|row| row.has_nonce());
        let taken: HashSet<u64> = taken.map(|row| row.nonce).collect();
        next_nonce(latest, finalised, &taken)
    }

    pub(super) fn save(&self, session: &mut Session, row: TransactionRow) -> Result<(), TransactionError> {
        self.store.save(&row).map_err(TransactionError::Store)?;
        session.rows.insert(row.key.clone(), row);
        Ok(())
    }

    #[cfg(all(test, feature = "devnet"))]
    pub(super) async fn sign_for_test(&self, row: &TransactionRow) -> super::SignedVersion {
        let fees = super::fees::Fees { max: 100_000_000_000, priority: 1_000_000_000 };
        let raise = Raise { fees, gas_limit: 100_000, why: Why::First, cancels: false };
        self.sign(row, raise).await.expect("a sound key signs")
    }
}

impl Session {
    fn known(&self, key: &str) -> Result<TransactionRow, TransactionError> {
        self.rows.get(key).cloned().ok_or_else(|| TransactionError::Unknown(key.to_owned()))
    }

    /// What the last call that did not fit in the budget may have cost, as long as it is asked for.
    fn refused_cost(&mut self) -> Option<u128> {
        let refused = self.refused.as_mut()?;
        refused.looks = refused.looks.saturating_add(1);
        let cost = refused.cost;
        self.refused.take_if(|refused| refused.looks > LOOKS).is_none().then_some(cost)
    }

    /// What is only of use while it is open.
    fn forget(&mut self, key: &str) {
        self.watches.remove(key);
        self.displaced_at.remove(key);
        self.waiting.remove(key);
    }
}

/// Without so much gas no node takes a transaction with this calldata (EIP-7623), whatever another one has estimated.
fn least_gas(calldata: &[u8]) -> u64 {
    calldata.iter().map(|byte| if *byte == 0 { 10 } else { 40 }).fold(TRANSFER_GAS, u64::saturating_add)
}

/// The first nonce from `latest` on that is not `taken`. All before it are final, or taken by this host's transactions.
fn next_nonce(latest: u64, finalised: u64, taken: &HashSet<u64>) -> Result<u64, TransactionError> {
    let free = |from: u64| (from..).find(|nonce| !taken.contains(nonce)).unwrap_or(u64::MAX);
    let known = free(finalised);
    if latest > known { Err(TransactionError::Foreign { latest, known }) } else { Ok(free(latest)) }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn a_nonce_is_the_first_that_is_free_and_no_node_s_word_for_one_far_ahead_counts() {
        for (latest, finalised, taken, next) in [
            (0, 0, &[][..], Some(0)),
            (0, 0, &[0, 1], Some(2)),
            (2, 0, &[0, 1], Some(2)),
            (1, 0, &[0, 1, 2], Some(3)),
            (7, 7, &[], Some(7)),
            (7, 7, &[3, 4], Some(7)),
            // A row that was signed by a lie leaves those before it free.
            (0, 0, &[5, 6], Some(0)),
            (5, 4, &[4, 6], Some(5)),
            // Others' transactions are waited for.
            (9, 0, &[0, 1], None),
            (1, 0, &[], None),
        ] {
            let taken: HashSet<u64> = taken.iter().copied().collect();
            assert_eq!(next_nonce(latest, finalised, &taken).ok(), next, "{latest} {finalised} {taken:?}");
        }
    }

    #[test]
    fn a_margin_of_gas_is_kept_within_what_a_transaction_may_have() {
        for (percent, at_least, estimate, limit) in [
            (25, 0, 100_000, 125_000),
            (400, 0, 100_000, 500_000),
            (25, 300_000, 100_000, 300_000),
            (25, u64::MAX, 100_000, MAX_GAS),
            (u64::MAX, 0, u64::MAX, MAX_GAS),
            (25, 0, 20_000_000, MAX_GAS),
        ] {
            assert_eq!(GasMargin { percent, at_least }.limit(estimate), limit, "{percent} {estimate}");
        }
    }
}
