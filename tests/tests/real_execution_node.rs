//! The host's execution side against a node that is not ours: anvil.
//!
//! Slow; needs `npm ci --prefix tests/peers/anvil` first. Fails when the node is missing.

use alloy::network::{EthereumWallet, TransactionBuilder};
use alloy::primitives::{Address, Bytes, U256};
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::types::TransactionRequest;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolValue;
use postern_host::chain::execution::{ChainError, Execution, PoolStatus};
use postern_host::chain::profile::{PoolEventKind, PoolManager};
use postern_host::chain::transactions::{TransactionError, TransactionState, Transactions};
use postern_host::store::Store;
use postern_shared::bls::{ETHEREUM_DST, G1, G2, Scalar};
use postern_shared::ethereum::{DepositData, DepositMessage, VALIDATOR_STAKE_GWEI, WithdrawalCredentials};
use postern_shared::ids::{self, MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_tests::cluster;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const POOL: PoolId = PoolId(1);

/// Ends with the test.
struct Anvil {
    process: Child,
    url: String,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Anvil {
    fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/anvil");
        let binary = folder.join("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
        assert!(binary.exists(), "anvil is missing: run `npm ci --prefix tests/peers/anvil` first");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // One slot an epoch: `finalized` is two blocks behind the head.
        let arguments = ["--port", &port.to_string(), "--slots-in-an-epoch", "1", "--silent"];
        let process =
            Command::new(binary).args(arguments).stdout(Stdio::null()).spawn().expect("anvil starts");
        Self { process, url: format!("http://127.0.0.1:{port}") }
    }
}

/// The n-th key of anvil's well-known mnemonic.
fn key(index: usize) -> [u8; 32] {
    let keys = [
        "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
        "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
        "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    ];
    hex::decode(keys[index]).unwrap().try_into().unwrap()
}

fn signer(index: usize) -> PrivateKeySigner {
    PrivateKeySigner::from_slice(&key(index)).unwrap()
}

async fn connect(url: &str) -> DynProvider {
    let wallet = EthereumWallet::from(signer(0));
    let provider = ProviderBuilder::new().wallet(wallet).connect_http(url.parse().unwrap()).erased();
    provider.client().set_poll_interval(Duration::from_millis(50));
    for _ in 0..200 {
        if provider.get_chain_id().await.is_ok() {
            return provider;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("anvil does not answer at {url}");
}

async fn mine(provider: &DynProvider, blocks: u64) {
    let _: serde_json::Value =
        provider.raw_request("anvil_mine".into(), [format!("{blocks:#x}")]).await.expect("anvil mines");
}

async fn deploy(provider: &DynProvider, artifact: &str, arguments: &[u8]) -> Address {
    let artifact: serde_json::Value = serde_json::from_str(artifact).unwrap();
    let bytecode: Bytes = artifact["bytecode"].as_str().unwrap().parse().unwrap();
    let code = [bytecode.to_vec(), arguments.to_vec()].concat();
    let request = TransactionRequest::default().with_deploy_code(code);
    let receipt = provider.send_transaction(request).await.unwrap().get_receipt().await.unwrap();
    assert!(receipt.status());
    receipt.contract_address.unwrap()
}

/// A real deposit of a key of our own.
fn deposit(manifest: &Manifest, credentials: WithdrawalCredentials) -> DepositData {
    let secret = Scalar::from_u64(0xdead_beef);
    let pubkey = (G1::generator() * &secret).encode();
    let message =
        DepositMessage { pubkey, withdrawal_credentials: credentials, amount: VALIDATOR_STAKE_GWEI };
    let root = message.signing_root(manifest.network.genesis_fork_version);
    DepositData { message, signature: (G2::hash(&root.0, ETHEREUM_DST) * &secret).encode() }
}

fn transactions(provider: &DynProvider, wallet: usize, folder: &Path) -> Transactions {
    let store = Arc::new(Store::open(folder).unwrap());
    Transactions::open(provider.clone(), 31337, &key(wallet), store).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: needs anvil from npm; run by the slow suites"]
async fn events_are_followed_and_deposits_handed_in_on_anvil() {
    let anvil = Anvil::start();
    let provider = connect(&anvil.url).await;
    let deposit_artifact = include_str!("../../host/contracts/artifacts/DepositContract.json");
    let manager_artifact = include_str!("../../host/contracts/artifacts/PoolManager.json");
    let deposit_contract = deploy(&provider, deposit_artifact, &[]).await;
    let arguments = (deposit_contract, signer(1).address()).abi_encode_params();
    let manager_address = deploy(&provider, manager_artifact, &arguments).await;
    let manager = PoolManager::new(manager_address, &provider);

    let mut manifest = cluster::manifest(5, 3, 3);
    manifest.network.chain_id = 31337;
    manifest.contracts.pool_manager = ids::Address(manager_address.into_array());
    manifest.contracts.deposit = ids::Address(deposit_contract.into_array());
    let mut other = manifest.clone();
    other.network.chain_id = 1;
    assert!(matches!(
        Execution::connect(&anvil.url, &other).await,
        Err(ChainError::WrongChain { expected: 1, found: 31337 })
    ));
    let execution = Execution::connect(&anvil.url, &manifest).await.unwrap();

    // Nothing is seen before it is final, everything once it is, and nothing twice.
    let stake = U256::from(32) * U256::from(10).pow(U256::from(18));
    let staked = manager.stake().value(stake).send().await.unwrap().get_receipt().await.unwrap();
    assert!(staked.status());
    let start = execution.cursor_at(0).await.unwrap();
    let (early, cursor) = execution.poll(start).await.unwrap();
    assert!(early.is_empty(), "not final yet: {early:?}");
    mine(&provider, 4).await;
    let (events, cursor) = execution.poll(cursor).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].kind, events[0].pool), (PoolEventKind::DepositRequested, POOL));
    let address = manager.getPoolAddress(POOL.0).call().await.unwrap();
    let credentials = WithdrawalCredentials::execution(ids::Address(address.into_array()));
    assert_eq!(events[0].withdrawal_credentials, Some(credentials));
    let (again, cursor) = execution.poll(cursor).await.unwrap();
    assert!(again.is_empty());

    // The leader hands the deposit in; it is restarted before anything is sent, and again afterwards.
    let data = deposit(&manifest, credentials);
    let operators: Vec<MemberId> = (1..=5).map(MemberId).collect();
    let call = execution.profile().deposit_call(&data, &operators).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = manifest.contracts.pool_manager;
    let leader = transactions(&provider, 1, folder.path());
    assert_eq!(leader.submit("deposit-1", target, call.clone()).await.unwrap(), TransactionState::Prepared);
    drop(leader);
    let leader = transactions(&provider, 1, folder.path());
    let mut outcome = None;
    for _ in 0..100 {
        if let Some(ended) = leader.drive().await.unwrap().pop() {
            outcome = Some(ended);
            break;
        }
        mine(&provider, 1).await;
    }
    assert!(matches!(outcome.expect("it ends").state, TransactionState::Mined { .. }));
    drop(leader);
    let leader = transactions(&provider, 1, folder.path());
    let state = leader.submit("deposit-1", target, call.clone()).await.unwrap();
    assert!(matches!(state, TransactionState::Mined { .. }));
    leader.drive().await.unwrap();
    let sent = provider.get_transaction_count(signer(1).address()).await.unwrap();
    assert_eq!(sent, 1, "one transaction, whatever was restarted");
    drop(leader);

    mine(&provider, 4).await;
    let (events, _) = execution.poll(cursor).await.unwrap();
    assert!(events.iter().any(|event| event.kind == PoolEventKind::Deposited && event.pool == POOL));
    let pool = execution.pool(POOL, true).await.unwrap();
    assert_eq!((pool.status, pool.pubkey), (PoolStatus::Deposited, Some(data.message.pubkey)));
    assert_eq!(provider.get_balance(deposit_contract).await.unwrap(), stake);

    // What the contract would refuse is not even signed, and says why.
    let folder = tempfile::tempdir().unwrap();
    let stranger = transactions(&provider, 2, folder.path());
    match stranger.submit("deposit-1", target, call).await {
        Err(TransactionError::WouldRevert { reason, .. }) => {
            assert!(reason.contains("OnlyLeader"), "{reason}")
        }
        other => panic!("a stranger's deposit: {other:?}"),
    }
}
