//! Against the embedded chain, whose blocks come when the test says so.

use super::*;
use crate::chain::execution::{Connection, connect_provider};
use crate::chain::url::NodeUrl;
use alloy::primitives::U256;
use alloy::providers::DynProvider;
use alloy::signers::local::PrivateKeySigner;
use postern_devnet::liar::{ExecutionLie, Liar, Lie};
use postern_devnet::{Clock, Config, Devnet};
use std::sync::{Arc, Mutex};

const WALLET: [u8; 32] = [0x11; 32];
/// Where nothing stands: every call succeeds.
const NOBODY: Address = Address([0x22; 20]);
/// Enough slots to make everything before final.
const FINAL: u64 = 16;
/// The node that may lie.
const NODE: &str = "node";
const GWEI: u128 = 1_000_000_000;
const RULES: FeeRules = FeeRules {
    max_fee_per_gas: 200 * GWEI,
    max_priority_fee_per_gas: 5 * GWEI,
    min_priority_fee_per_gas: GWEI / 10,
    raise_after_blocks: 3,
    budget_per_day: 100_000_000 * GWEI,
};

#[derive(Default)]
struct MemoryStore(Mutex<Vec<TransactionRow>>);

impl TransactionStore for MemoryStore {
    fn load(&self) -> Result<Vec<TransactionRow>, StoreError> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn save(&self, row: &TransactionRow) -> Result<(), StoreError> {
        let mut rows = self.0.lock().unwrap();
        rows.retain(|other| other.key != row.key);
        rows.push(row.clone());
        Ok(())
    }
}

impl MemoryStore {
    fn row(&self, key: &str) -> TransactionRow {
        self.0.lock().unwrap().iter().find(|row| row.key == key).unwrap().clone()
    }
}

struct Bench {
    devnet: Devnet,
    liar: Liar,
    provider: DynProvider,
    store: Arc<MemoryStore>,
    chain_id: u64,
    deposit_contract: Address,
}

impl Bench {
    async fn start() -> Self {
        let wallet = PrivateKeySigner::from_bytes(&WALLET.into()).unwrap().address();
        let prefunded = vec![(wallet, U256::from(10).pow(U256::from(21)))];
        let config = Config { clock: Clock::Manual, prefunded, ..Config::default() };
        let (chain_id, deposit_contract) = (config.chain_id, Address(config.deposit_contract.into_array()));
        let devnet = Devnet::start(config).await.unwrap();
        devnet.advance(1);
        let liar = Liar::start(&devnet.execution_url(), &devnet.beacon_url()).await.unwrap();
        let provider = connect_provider(&liar.url(NODE), chain_id).await.unwrap();
        Self { devnet, liar, provider, store: Arc::default(), chain_id, deposit_contract }
    }

    /// How the node lies from now on.
    fn lie(&self, lies: &[ExecutionLie]) {
        self.liar.set(NODE, lies.iter().cloned().map(Lie::Execution).collect::<Vec<_>>());
    }

    fn sends(&self) -> usize {
        self.liar.asked(NODE, "eth_sendRawTransaction")
    }

    /// Lets blocks come, one by one, and looks after each; all that ended.
    async fn drive(&self, transactions: &Transactions, blocks: u64) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for _ in 0..blocks {
            self.devnet.advance(1);
            outcomes.extend(transactions.drive().await.unwrap());
        }
        outcomes
    }

    /// As a process would begin: with nothing but the store.
    fn open(&self) -> Transactions {
        self.open_with(RULES, Wallet::local(&WALLET).unwrap())
    }

    fn open_with(&self, rules: FeeRules, wallet: Wallet) -> Transactions {
        let store: Arc<dyn TransactionStore> = self.store.clone();
        Transactions::open(vec![self.node()], self.chain_id, wallet, rules, store).unwrap()
    }

    /// The node that may lie.
    fn node(&self) -> Connection {
        self.node_of(NODE)
    }

    fn node_of(&self, name: &str) -> Connection {
        Connection::unchecked(&NodeUrl::parse(&self.liar.url(name)).unwrap(), self.chain_id)
    }

    /// Another process with the same wallet and no knowledge of this one's rows is faster.
    async fn intrude(&self) {
        let (wallet, store) = (Wallet::local(&WALLET).unwrap(), Arc::new(MemoryStore::default()));
        let store: Arc<dyn TransactionStore> = store;
        let intruder = Transactions::open(vec![self.node()], self.chain_id, wallet, RULES, store).unwrap();
        intruder.submit("x", NOBODY, vec![9]).await.unwrap();
        intruder.drive().await.unwrap();
    }

    /// With it, and with others.
    fn open_of(&self, others: &[&str]) -> Transactions {
        let others = others.iter().map(|other| self.node_of(other));
        self.open_at(std::iter::once(self.node()).chain(others).collect())
    }

    fn open_at(&self, nodes: Vec<Connection>) -> Transactions {
        let (wallet, store) = (Wallet::local(&WALLET).unwrap(), Arc::clone(&self.store));
        Transactions::open(nodes, self.chain_id, wallet, RULES, store as Arc<dyn TransactionStore>).unwrap()
    }
}

#[tokio::test]
async fn a_call_is_mined_once_and_reported_when_it_is_final() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    assert_eq!(transactions.submit("a", NOBODY, vec![1]).await.unwrap(), TransactionState::Prepared);
    assert_eq!(bench.store.row("a").versions.len(), 1, "stored before it is sent");
    assert_eq!(transactions.drive().await.unwrap(), []);
    assert_eq!(transactions.row("a").await.map(|row| row.state), Some(TransactionState::Sent));
    bench.devnet.advance(1);
    assert_eq!(transactions.drive().await.unwrap(), [], "mined is not final");
    bench.devnet.advance(FINAL);
    let outcomes = transactions.drive().await.unwrap();
    assert!(
        matches!(&outcomes[..], [Outcome { key, state: TransactionState::Mined { block: 2, .. } }] if key == "a")
    );
    assert_eq!(transactions.drive().await.unwrap(), []);
    assert_eq!(transactions.submit("a", NOBODY, vec![1]).await.unwrap(), outcomes[0].state);
    let other = transactions.submit("a", NOBODY, vec![2]).await;
    assert!(matches!(other, Err(TransactionError::KeyReused(key)) if key == "a"));
}

#[tokio::test]
async fn several_calls_get_nonces_in_a_row() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    for key in ["a", "b", "c"] {
        transactions.submit(key, NOBODY, vec![]).await.unwrap();
    }
    assert_eq!(["a", "b", "c"].map(|key| bench.store.row(key).nonce), [0, 1, 2]);
    transactions.drive().await.unwrap();
    bench.devnet.advance(FINAL);
    assert_eq!(transactions.drive().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_restart_sends_the_same_bytes() {
    let bench = Bench::start().await;
    bench.open().submit("a", NOBODY, vec![1]).await.unwrap();
    let before = bench.store.row("a");
    let restarted = bench.open();
    assert_eq!(restarted.submit("a", NOBODY, vec![1]).await.unwrap(), TransactionState::Prepared);
    restarted.drive().await.unwrap();
    assert_eq!(bench.store.row("a").versions[0].raw, before.versions[0].raw);

    // Crashed after sending: the node knows it already, or has mined it.
    let again = bench.open();
    again.drive().await.unwrap();
    bench.devnet.advance(1);
    bench.open().drive().await.unwrap();
    bench.devnet.advance(FINAL);
    let outcomes = bench.open().drive().await.unwrap();
    assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]));
    assert_eq!(bench.store.row("a").versions.len(), 1);
}

#[tokio::test]
async fn a_call_that_would_revert_is_not_signed() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    let error = transactions.submit("a", bench.deposit_contract, vec![1, 2, 3, 4]).await.unwrap_err();
    assert!(matches!(error, TransactionError::WouldRevert { .. }), "{error}");
    assert_eq!(transactions.row("a").await, None);
    assert_eq!(bench.store.load().unwrap(), []);
}

#[tokio::test]
async fn a_mined_revert_is_the_end_and_says_why() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    transactions.submit("a", NOBODY, vec![1, 2, 3, 4]).await.unwrap();
    // As if the state had changed between estimate and block: the same call, where it reverts.
    let mut row = bench.store.row("a");
    row.to = bench.deposit_contract;
    let signed = transactions.sign_for_test(&row).await;
    row.versions = vec![signed];
    bench.store.save(&row).unwrap();
    let restarted = bench.open();
    restarted.drive().await.unwrap();
    bench.devnet.advance(FINAL);
    let outcomes = restarted.drive().await.unwrap();
    let [Outcome { state: TransactionState::Reverted { reason, .. }, .. }] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert!(!reason.is_empty() && !reason.starts_with("unknown"), "{reason}");
    assert_eq!(restarted.drive().await.unwrap(), [], "not tried again");
}

#[tokio::test]
async fn a_nonce_lost_to_another_sender_is_replaced() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    bench.intrude().await;
    bench.devnet.advance(FINAL);
    for _ in 0..3 {
        assert_eq!(transactions.drive().await.unwrap(), []);
        assert_eq!(bench.store.row("a").nonce, 0, "not before the loss is certain");
        bench.devnet.advance(1);
    }
    transactions.drive().await.unwrap();
    assert_eq!(bench.store.row("a").nonce, 1);
    bench.devnet.advance(FINAL);
    let outcomes = transactions.drive().await.unwrap();
    assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]));
}

mod lies;
mod several;
