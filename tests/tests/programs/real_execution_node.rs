//! The host's execution side against a node that is not ours: anvil.
//!
//! Blocks come when the tests say so; `finalized` is two epochs of 32 blocks behind the head. Needs
//! `npm ci --ignore-scripts --prefix tests/peers/anvil` first. Fails when the node is missing.

use super::peer::{Peer, installed};
use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall, SolValue};
use postern_host::chain::execution::{ChainError, Cursor, Execution, Pool, PoolEvent, PoolStatus, Recovery};
use postern_host::chain::profile::{PoolEventKind, PoolManager};
use postern_host::chain::transactions::{
    FeeRules, Outcome, TransactionError, TransactionRow, TransactionState, TransactionStore, Transactions,
    Wallet,
};
use postern_host::store::{Place, Store};
use postern_shared::bls::{PublicKey, Signature};
use postern_shared::epoch::EpochMessage;
use postern_shared::ethereum::{DepositData, DepositMessage};
use postern_shared::events::ChainEvent;
use postern_shared::ids::{self, PoolId};
use postern_shared::manifest::{Contracts, Manifest};
use postern_shared::proof::{Council, Proof, Provable};
use postern_tests::cluster::{Cluster, deposit_requested_of, manifest};
use postern_tests::wallets;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const CHAIN: u64 = 31337;
/// The only pool's number.
const POOL: u32 = 1;
/// Blocks by which `finalized` is behind.
const FINALITY: u64 = 64;
/// Wallets of ours, known to anvil by their balance only.
const LEADER: [u8; 32] = [0x11; 32];
const STRANGER: [u8; 32] = [0x22; 32];
/// The nonce of a wallet's first transaction.
const FIRST: u64 = 0;
const RULES: FeeRules = FeeRules {
    raise_after_blocks: 3,
    max_fee_per_gas: 1_000_000_000_000,
    max_priority_fee_per_gas: 5_000_000_000,
    min_priority_fee_per_gas: 100_000_000,
    budget_per_day: 10_000_000_000_000_000_000,
};

alloy::sol! {
    struct Terms {
        uint16 quorum;
        uint16 walletQuorum;
        address[] wallets;
        address[] signers;
    }

    struct RecoveryTerms {
        uint64 epoch;
        bytes32 manifest;
        Terms terms;
    }

    function get_deposit_count() external view returns (bytes memory);
    function proposeRecovery(RecoveryTerms calldata proposal, bytes calldata walletProof) external;
}

fn ether(amount: u64) -> U256 {
    U256::from(amount) * U256::from(10).pow(U256::from(18))
}

fn address(key: &[u8; 32]) -> Address {
    PrivateKeySigner::from_slice(key).expect("a scalar").address()
}

fn start_anvil() -> (Peer, String) {
    let binary = installed("anvil", "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
    let arguments = ["--port", "0", "--no-mining", "--chain-id", &CHAIN.to_string()];
    Peer::start(&binary, &arguments, Duration::from_secs(30), |line| {
        line.trim().strip_prefix("Listening on ").map(|place| format!("http://{place}"))
    })
}

/// The chain, and an account that anvil signs for.
struct Chain {
    provider: DynProvider,
    owner: Address,
}

impl Chain {
    async fn rpc(&self, method: &'static str, parameters: Value) -> Value {
        let answer = self.provider.raw_request::<_, Value>(method.into(), parameters).await;
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Sends from the owner's account and mines it.
    async fn send(&self, request: TransactionRequest) -> TransactionReceipt {
        let sent = self.provider.send_transaction(request.from(self.owner)).await.expect("anvil takes it");
        let hash = *sent.tx_hash();
        self.rpc("anvil_mine", json!(["0x1"])).await;
        let receipt = self.provider.get_transaction_receipt(hash).await.expect("an answer");
        receipt.expect("a receipt")
    }

    async fn deploy(&self, artifact: &str, arguments: &[u8]) -> Address {
        let artifact: Value = serde_json::from_str(artifact).expect("JSON");
        let code: Bytes = artifact["bytecode"].as_str().expect("text").parse().expect("hexadecimal");
        let code = Bytes::from([code.as_ref(), arguments].concat());
        let request =
            TransactionRequest { to: Some(alloy::primitives::TxKind::Create), ..Default::default() };
        let receipt = self.send(request.input(code.into())).await;
        assert!(receipt.status());
        receipt.contract_address.expect("a contract")
    }
}

/// A chain with our contracts and a full pool, a DAO of simulated enclaves, a host that pays for transactions, and its store.
struct Bench {
    execution: Execution,
    cluster: Cluster,
    /// Of an account that anvil signs for: pays, stakes, governs the pool manager.
    owner: Address,
    manager: Address,
    deposit_contract: Address,
    folder: TempDir,
    peer: Peer,
}

impl Bench {
    async fn start() -> Self {
        let (peer, url) = start_anvil();
        let mut manifest = manifest(5, 3, 3);
        manifest.network.chain_id = CHAIN;
        let folder = tempfile::tempdir().expect("a directory");
        let execution = Execution::connect(&url, manifest.network.chain_id).await.expect("anvil answers");
        let accounts = execution.provider().get_accounts().await.expect("accounts");
        let owner = *accounts.first().expect("an account");
        let setting_up = Chain { provider: execution.provider().clone(), owner };
        for key in [&LEADER, &STRANGER] {
            setting_up.rpc("anvil_setBalance", json!([address(key), ether(10)])).await;
        }
        let deposit_contract = setting_up
            .deploy(include_str!("../../../host/contracts/artifacts/DepositContract.json"), &[])
            .await;
        let wallets: Vec<Address> =
            manifest.members.iter().map(|member| Address::from(member.governance.0)).collect();
        let arguments = (deposit_contract, owner, wallets, (100_u64, 100_u64, 200_u64)).abi_encode_params();
        let manager = setting_up
            .deploy(include_str!("../../../host/contracts/artifacts/PoolManager.json"), &arguments)
            .await;
        let code = PoolManager::new(manager, execution.provider()).poolCodeHash().call().await;
        manifest.contracts = Contracts {
            pool_manager: ids::Address(manager.into_array()),
            pool_code: ids::Digest(code.expect("an answer").0),
            start_block: 0,
            deposit: ids::Address(deposit_contract.into_array()),
        };
        let found = execution.check(std::slice::from_ref(&manifest.contracts)).await;
        let is_right = found.iter().all(|node| node.error.is_none() && node.remarks.is_empty());
        assert!(is_right, "what the manifest says: {found:?}");
        let mut cluster = Cluster::launch(manifest, 7);
        cluster.run(1);
        let bench = Self { execution, cluster, owner, manager, deposit_contract, folder, peer };
        bench.found().await;
        let receipt = bench.call(PoolManager::stakeCall {}.abi_encode(), ether(32)).await;
        assert!(receipt.status());
        bench
    }

    fn provider(&self) -> &DynProvider {
        self.execution.provider()
    }

    fn chain(&self) -> Chain {
        Chain { provider: self.provider().clone(), owner: self.owner }
    }

    async fn rpc(&self, method: &'static str, parameters: Value) -> Value {
        self.chain().rpc(method, parameters).await
    }

    /// Tells the pool manager of the founding epoch, which all wallets have signed.
    async fn found(&self) {
        let (first, epoch) = (&self.cluster.genesis, &self.cluster.epochs[0]);
        let message = EpochMessage::new(first, &self.cluster.manifest).expect("an epoch");
        let council = Council::of(first);
        let signatures = epoch.signatures.iter().map(|signed| (signed.member, signed.signature)).collect();
        let wallets = Proof::collect(&message.digest(), &council.wallets, council.wallets.len(), &signatures);
        let after = Council::of(&self.cluster.manifest);
        let call = self.execution.profile().epoch_call(&message, &after, &wallets.expect("all"), None);
        assert!(self.call(call.expect("a call"), U256::ZERO).await.status());
        let there =
            self.execution.in_force_at(self.manifest().contracts.pool_manager).await.expect("an answer");
        assert_eq!((there.epoch, there.manifest), (1, self.manifest().hash()));
    }

    fn manifest(&self) -> &Manifest {
        &self.cluster.manifest
    }

    async fn mine(&self, blocks: u64) {
        self.rpc("anvil_mine", json!([format!("{blocks:#x}")])).await;
    }

    /// Makes everything so far final.
    async fn finalise(&self) {
        self.mine(FINALITY + 1).await;
    }

    async fn call(&self, calldata: Vec<u8>, value: U256) -> TransactionReceipt {
        let request = TransactionRequest::default().to(self.manager).value(value);
        self.chain().send(request.input(Bytes::from(calldata).into())).await
    }

    /// As a process would begin: with nothing but the store's file.
    fn open(&self, wallet: &[u8; 32]) -> (Transactions, Arc<Store>) {
        let store = Arc::new(
            Store::open(&Place::Directory(self.folder.path().to_owned()))
                .expect("a store that nobody else has open"),
        );
        let rows: Arc<dyn TransactionStore> = store.clone();
        let wallet = Wallet::local(wallet).expect("a key");
        let transactions = Transactions::open(self.execution.connections(), CHAIN, wallet, RULES, rows);
        (transactions.expect("transactions"), store)
    }

    fn id(&self) -> PoolId {
        self.manifest().pool(POOL)
    }

    async fn pool(&self) -> Pool {
        self.execution.pool(self.id(), false).await.expect("an answer")
    }

    /// The pool's deposit, of a key that the enclaves make, and the call that hands it in with their proof.
    fn deposit(&mut self) -> (DepositData, Vec<u8>) {
        self.cluster.observe(deposit_requested_of(self.id()));
        self.cluster.run(1);
        let data = self.cluster.deposit(self.id()).expect("a deposit");
        let proof = self.cluster.prove_deposit(self.id(), &data).expect("a proof");
        (data, self.execution.profile().deposit_call(POOL, &data, &proof).expect("a call"))
    }

    async fn submit(&self, transactions: &Transactions, call: &[u8]) -> TransactionState {
        let target = self.manifest().contracts.pool_manager;
        transactions.submit("deposit-1", target, call.to_vec()).await.expect("a good call")
    }

    async fn nonce(&self, wallet: &[u8; 32]) -> u64 {
        self.provider().get_transaction_count(address(wallet)).await.expect("an answer")
    }

    /// What is new after the cursor: what was near before it is given again.
    async fn poll(&self, cursor: Cursor) -> (Vec<(PoolEventKind, u32)>, Cursor) {
        let (events, next) =
            self.execution.poll(self.manifest().contracts.pool_manager, cursor).await.expect("events");
        let new = events.iter().filter(|event| event.block_number > cursor.block);
        (new.map(|event| (event.kind, event.pool.number)).collect(), next)
    }
}

fn row(store: &Store) -> TransactionRow {
    let mut rows = store.load().expect("rows");
    assert_eq!(rows.len(), 1);
    rows.pop().expect("a row")
}

fn assert_mined(outcomes: &[Outcome], hash: ids::Digest) {
    match outcomes {
        [Outcome { key, state: TransactionState::Mined { hash: found, .. } }] => {
            assert_eq!((key.as_str(), *found), ("deposit-1", hash));
        }
        other => panic!("not mined: {other:?}"),
    }
}

#[tokio::test]
#[ignore = "needs anvil from npm; run by the slow suites"]
async fn a_node_of_another_chain_is_refused() {
    let (_peer, url) = start_anvil();
    let mut manifest = manifest(5, 3, 3);
    manifest.network.chain_id = CHAIN;
    Execution::connect(&url, manifest.network.chain_id).await.expect("our chain");
    manifest.network.chain_id = 1;
    let refused = Execution::connect(&url, manifest.network.chain_id).await;
    assert!(
        matches!(refused, Err(ChainError::WrongChain { expected: 1, found: CHAIN, .. })),
        "{:?}",
        refused.err()
    );
}

#[tokio::test]
#[ignore = "needs anvil from npm; run by the slow suites"]
async fn a_pool_is_followed_from_its_stake_to_its_validators_end() {
    let mut bench = Bench::start().await;
    let mut cursor = bench.execution.cursor_at(0).await.expect("block 0");

    // Nothing is seen before it is final, everything once it is, and nothing twice.
    let head = bench.provider().get_block_number().await.expect("a number");
    bench.mine(FINALITY - 1).await;
    let (events, next) = bench.poll(cursor).await;
    assert_eq!((events, next.block), (vec![], head - 1));
    cursor = next;
    bench.mine(1).await;
    let (events, next) =
        bench.execution.poll(bench.manifest().contracts.pool_manager, cursor).await.expect("events");
    let [PoolEvent { source, block_number, pool, kind: PoolEventKind::DepositRequested, .. }] = events[..]
    else {
        panic!("one request: {events:?}")
    };
    assert_eq!(block_number, head);
    let block = bench.provider().get_block_by_number(head.into()).await.expect("an answer").expect("a block");
    assert_eq!(source.block.0, block.header.hash.0);
    match events[0].claim() {
        Some(ChainEvent::DepositRequested(request)) => {
            assert_eq!((request.pool, pool), (bench.id(), bench.id()));
            assert_eq!(request.source, source);
        }
        other => panic!("no request: {other:?}"),
    }
    cursor = next;
    assert_eq!(bench.poll(cursor).await, (vec![], cursor));

    // The deposit goes in; mined is not final.
    let (data, call) = bench.deposit();
    data.message
        .pubkey
        .verify(&data.message.signing_root(bench.manifest().network.genesis_fork_version).0, &data.signature)
        .expect("a good signature");
    let (leader, store) = bench.open(&LEADER);
    assert_eq!(bench.submit(&leader, &call).await, TransactionState::Prepared);
    assert_eq!(leader.drive().await.expect("a step"), []);
    bench.mine(1).await;
    assert_eq!(leader.drive().await.expect("a step"), []);
    assert_eq!(bench.pool().await.status, PoolStatus::Deposited);
    let finalised = bench.execution.pool(bench.id(), true).await.expect("an answer");
    assert_eq!((finalised.status, finalised.pubkey), (PoolStatus::Ready, None), "mined is not final");
    bench.finalise().await;
    assert_mined(&leader.drive().await.expect("a step"), row(&store).versions[0].hash);
    assert_eq!(leader.drive().await.expect("a step"), [], "an outcome is reported once");

    // The contracts took it.
    let (events, next) = bench.poll(cursor).await;
    assert_eq!(events, [(PoolEventKind::Deposited, POOL)]);
    cursor = next;
    let pool = bench.execution.pool(bench.id(), true).await.expect("an answer");
    assert_eq!((pool.status, pool.pubkey), (PoolStatus::Deposited, Some(data.message.pubkey)));
    assert_eq!(bench.provider().get_balance(bench.deposit_contract).await.expect("an answer"), ether(32));
    let count = TransactionRequest::default().to(bench.deposit_contract);
    let count = count.input(Bytes::from(get_deposit_countCall {}.abi_encode()).into());
    let count = bench.provider().call(count).await.expect("an answer");
    let count = get_deposit_countCall::abi_decode_returns(&count).expect("bytes");
    assert_eq!(count.as_ref(), 1_u64.to_le_bytes());
    let receipt = bench.provider().get_transaction_receipt(B256::from(row(&store).versions[0].hash.0)).await;
    let receipt = receipt.expect("an answer").expect("a receipt");
    let topic = keccak256("DepositEvent(bytes,bytes,bytes,bytes,bytes)");
    let logs = receipt.logs();
    let log = logs.iter().find(|log| log.topic0() == Some(&topic)).expect("the deposit contract's own event");
    let data_of_log = log.data().data.as_ref();
    assert!(data_of_log.windows(48).any(|bytes| bytes == data.message.pubkey.0));
    assert!(data_of_log.windows(96).any(|bytes| bytes == data.signature.0));

    let address = pool.address.expect("an address");
    assert_eq!(address, bench.id().address(&bench.manifest().contracts.pool_code), "as enclaves work it out");

    // The DAO wants it out, and says so again.
    for _ in 0..2 {
        let request = PoolManager::requestPoolExitsCall {
            poolIds: vec![POOL],
            reason: "it is time".into(),
            walletProof: Bytes::new(),
        };
        assert!(bench.call(request.abi_encode(), U256::ZERO).await.status());
    }
    bench.finalise().await;
    let (events, next) = bench.poll(cursor).await;
    assert_eq!(events, [(PoolEventKind::ExitRequested, POOL); 2]);
    assert_eq!(
        bench.execution.pool(bench.id(), true).await.expect("an answer").status,
        PoolStatus::ExitRequested
    );
    assert_eq!(bench.poll(next).await.0, []);
    assert_eq!(bench.nonce(&LEADER).await, FIRST + 1);
}
#[tokio::test]
#[ignore = "needs anvil from npm; run by the slow suites"]
async fn what_the_contract_refuses_is_not_signed_or_ends_with_its_reason() {
    let mut bench = Bench::start().await;
    let (data, call) = bench.deposit();
    let target = bench.manifest().contracts.pool_manager;

    // Refused already, whoever says so: nothing is signed. The thefts that a leader's wallet was enough for: a signature that
    // the beacon chain will drop, and a key of its own, with or without a deposit of its own before.
    let proof = bench.cluster.prove_deposit(bench.id(), &data).expect("a proof");
    let own = PublicKey([0x0a; 48]);
    let thefts = [
        DepositData { signature: Signature([0x55; 96]), ..data },
        DepositData { message: DepositMessage { pubkey: own, ..data.message }, ..data },
    ];
    let (stranger, store) = bench.open(&STRANGER);
    for stolen in thefts {
        let call = bench.execution.profile().deposit_call(POOL, &stolen, &proof).expect("a call");
        match stranger.submit("deposit-1", target, call).await {
            Err(TransactionError::WouldRevert { key, reason }) => {
                assert_eq!((key.as_str(), reason.as_str()), ("deposit-1", "ProofSignature { member: 1 }"));
            }
            other => panic!("a theft: {other:?}"),
        }
    }
    assert_eq!(store.load().expect("rows"), []);
    drop((stranger, store));

    // Refused when it is mined, because somebody else has landed the same before: the end, with the contract's reason. The pool
    // has what it was to have.
    let (leader, store) = bench.open(&LEADER);
    bench.submit(&leader, &call).await;
    assert!(bench.call(call.clone(), U256::ZERO).await.status());
    leader.drive().await.expect("a step");
    bench.finalise().await;
    let outcomes = leader.drive().await.expect("a step");
    let [Outcome { state: TransactionState::Reverted { hash, reason, .. }, .. }] = &outcomes[..] else {
        panic!("not reverted: {outcomes:?}")
    };
    assert_eq!(*hash, row(&store).versions[0].hash);
    assert!(reason.starts_with("WrongStatus"), "{reason}");
    let pool = bench.pool().await;
    assert_eq!((pool.status, pool.pubkey), (PoolStatus::Deposited, Some(data.message.pubkey)));

    // It is not tried again, not after a restart either.
    let ended = outcomes[0].state.clone();
    drop((leader, store));
    let (leader, _store) = bench.open(&LEADER);
    assert_eq!(bench.submit(&leader, &call).await, ended);
    assert_eq!(leader.drive().await.expect("a step"), []);
    bench.finalise().await;
    assert_eq!(bench.nonce(&LEADER).await, FIRST + 1);
}

#[tokio::test]
#[ignore = "needs anvil from npm; run by the slow suites"]
async fn restarts_at_every_step_send_one_transaction() {
    let mut bench = Bench::start().await;
    let (data, call) = bench.deposit();

    let signed = {
        let (leader, store) = bench.open(&LEADER);
        assert_eq!(bench.submit(&leader, &call).await, TransactionState::Prepared);
        row(&store)
    };
    assert_eq!((signed.nonce, signed.versions.len()), (FIRST, 1));
    assert_eq!(bench.nonce(&LEADER).await, FIRST, "stored before it is sent");

    // Sent, and the process died before it could write that down.
    let _ = bench.provider().send_raw_transaction(&signed.versions[0].raw).await.expect("anvil takes it");
    for _ in 0..2 {
        let (leader, store) = bench.open(&LEADER);
        let state = bench.submit(&leader, &call).await;
        assert!(!state.is_final(), "{state:?}");
        assert_eq!(leader.drive().await.expect("a step"), []);
        assert_eq!(row(&store).state, TransactionState::Sent, "known already is as good as sent");
    }
    // Forgotten by the node, remembered by us.
    bench.rpc("anvil_dropAllTransactions", json!([])).await;
    {
        let (leader, _store) = bench.open(&LEADER);
        leader.drive().await.expect("a step");
    }
    bench.mine(1).await;
    assert_eq!(bench.pool().await.pubkey, Some(data.message.pubkey));
    {
        let (leader, _store) = bench.open(&LEADER);
        assert_eq!(leader.drive().await.expect("a step"), [], "mined is not final");
    }
    bench.finalise().await;
    {
        let (leader, store) = bench.open(&LEADER);
        assert_mined(&leader.drive().await.expect("a step"), signed.versions[0].hash);
        assert_eq!(row(&store).versions.len(), 1);
        assert_eq!(row(&store).versions[0].raw, signed.versions[0].raw);
    }
    assert_eq!(bench.nonce(&LEADER).await, FIRST + 1, "one transaction, whatever was restarted");

    // The next one has the next nonce.
    let (leader, store) = bench.open(&LEADER);
    leader.submit("other-1", ids::Address(bench.owner.into_array()), vec![1]).await.expect("a good call");
    let nonces: Vec<u64> = store.load().expect("rows").iter().map(|row| row.nonce).collect();
    assert_eq!(nonces, [FIRST, FIRST + 1]);
}

#[tokio::test]
#[ignore = "needs anvil from npm; run by the slow suites"]
async fn fees_are_raised_under_the_same_nonce() {
    let mut bench = Bench::start().await;
    let (_, call) = bench.deposit();
    let (leader, store) = bench.open(&LEADER);
    bench.submit(&leader, &call).await;
    leader.drive().await.expect("a step");
    // The market leaves the first version behind.
    let first = row(&store).versions[0].clone();
    let base_fee = first.max_fee_per_gas * 4;
    // Anvil forgets what has become too cheap: once patience is over it is told again, and says why it does not want it.
    for _ in 0..=RULES.raise_after_blocks {
        bench.rpc("anvil_setNextBlockBaseFeePerGas", json!([format!("{base_fee:#x}")])).await;
        bench.mine(1).await;
        leader.drive().await.expect("a step");
    }
    assert_eq!(bench.nonce(&LEADER).await, FIRST, "too cheap to be mined");
    let raised = row(&store);
    assert_eq!((raised.nonce, raised.versions.len()), (FIRST, 2));
    assert!(raised.versions[1].max_fee_per_gas > base_fee);
    assert_eq!(raised.state, TransactionState::Sent, "anvil takes the replacement");
    bench.finalise().await;
    assert_mined(&leader.drive().await.expect("a step"), raised.versions[1].hash);
    assert_eq!(bench.nonce(&LEADER).await, FIRST + 1);
}

#[tokio::test]
#[ignore = "needs anvil from npm; run by the slow suites"]
async fn a_nonce_lost_to_another_program_is_replaced_once_that_is_final() {
    let mut bench = Bench::start().await;
    let (data, call) = bench.deposit();
    let (leader, store) = bench.open(&LEADER);
    bench.submit(&leader, &call).await;
    // Something else with the same wallet is faster.
    let other = TransactionRequest::default().from(address(&LEADER)).to(bench.owner).value(U256::ONE);
    bench.rpc("anvil_impersonateAccount", json!([address(&LEADER)])).await;
    let _ = bench.provider().send_transaction(other).await.expect("anvil takes it");
    bench.mine(1).await;
    leader.drive().await.expect("a step");
    assert_eq!(row(&store).nonce, FIRST, "`nonce too low` alone says nothing: it may be our own");
    bench.finalise().await;
    for _ in 0..RULES.raise_after_blocks {
        leader.drive().await.expect("a step");
        assert_eq!(row(&store).nonce, FIRST, "not before patience is over");
        bench.mine(1).await;
    }
    leader.drive().await.expect("a step");
    let renumbered = row(&store);
    assert_eq!((renumbered.nonce, renumbered.state.clone()), (FIRST + 1, TransactionState::Sent));
    bench.finalise().await;
    assert_mined(&leader.drive().await.expect("a step"), renumbered.versions[0].hash);
    assert_eq!(bench.pool().await.pubkey, Some(data.message.pubkey));
}

#[tokio::test]
#[ignore = "needs anvil from npm; run by the slow suites"]
async fn a_finalised_block_that_changes_is_told_from_a_dead_node() {
    let bench = Bench::start().await;
    let manager = bench.manifest().contracts.pool_manager;
    bench.finalise().await;
    let start = bench.execution.cursor_at(0).await.expect("block 0");
    let (events, cursor) = bench.poll(start).await;
    assert_eq!(events.len(), 1);

    // A reorganisation of what is not final yet changes nothing.
    bench.rpc("anvil_reorg", json!([FINALITY / 2, []])).await;
    let (events, cursor) = bench.poll(cursor).await;
    assert_eq!(events, []);

    // One of what was final: a person must look.
    bench.rpc("anvil_reorg", json!([FINALITY + 1, []])).await;
    match bench.execution.poll(bench.manifest().contracts.pool_manager, cursor).await {
        Err(error @ ChainError::FinalisedBlockChanged { .. }) => assert!(!error.is_transient(), "{error}"),
        other => panic!("a finalised block has changed: {other:?}"),
    }
    assert_eq!(bench.execution.finalised().await.expect("a block").block, finalised_by_tag(&bench).await);

    drop(bench.peer);
    let error = bench.execution.poll(manager, cursor).await.expect_err("the node is dead");
    assert!(error.is_transient(), "{error}");
}

async fn finalised_by_tag(bench: &Bench) -> u64 {
    let block = bench.provider().get_block_by_number(BlockNumberOrTag::Finalized).await;
    block.expect("an answer").expect("a block").header.number
}

/// Wallets alone want others in the enclaves' place. The enclaves are there, and object.
#[tokio::test]
#[ignore = "needs anvil from npm; run by the slow suites"]
async fn a_recovery_that_wallets_propose_is_cancelled_by_the_enclaves() {
    let mut bench = Bench::start().await;
    let contract = bench.manifest().contracts.pool_manager;
    assert_eq!(bench.execution.in_force_at(contract).await.expect("an answer").recovery, None);

    let council = Council::of(bench.manifest());
    let others =
        Council { signers: (1..=5).map(|byte| ids::Address([0xe0 | byte; 20])).collect(), ..council.clone() };
    let wanted = ids::ManifestHash([7; 32]);
    let digest = bench.manifest().domain().digest(
        "Recovery(uint64 epoch,uint32 number,uint64 next,bytes32 manifest,bytes32 council)",
        &[word(1), word(1), word(5), wanted.0, others.digest().0],
    );
    let signatures = bench.cluster.ids().into_iter().map(|id| (id, wallets::sign(id, &digest))).collect();
    let proof = Proof::collect(&digest, &council.wallets, council.wallet_quorum.into(), &signatures);
    let accounts = |of: &[ids::Address]| of.iter().map(|account| Address::from(account.0)).collect();
    let proposal = proposeRecoveryCall {
        proposal: RecoveryTerms {
            epoch: 5,
            manifest: B256::from(wanted.0),
            terms: Terms {
                quorum: others.quorum,
                walletQuorum: others.wallet_quorum,
                wallets: accounts(&others.wallets),
                signers: accounts(&others.signers),
            },
        },
        walletProof: Bytes::copy_from_slice(proof.expect("a quorum").as_bytes()),
    };
    assert!(bench.call(proposal.abi_encode(), U256::ZERO).await.status());
    let found = bench.execution.in_force_at(contract).await.expect("an answer").recovery.expect("a recovery");
    assert_eq!((found.number, found.epoch, found.manifest, found.council), (1, 5, wanted, others.digest()));

    let Recovery { number, manifest, council, .. } = found;
    let objection = Provable::CancelRecovery { contract, number, manifest, council };
    let proof = bench.cluster.prove(objection).expect("a proof");
    let call = bench.execution.profile().cancel_call(&proof).expect("a call");
    assert!(bench.call(call, U256::ZERO).await.status());
    assert_eq!(bench.execution.in_force_at(contract).await.expect("an answer").recovery, None);
}

fn word(number: u8) -> [u8; 32] {
    let mut word = [0; 32];
    word[31] = number;
    word
}
