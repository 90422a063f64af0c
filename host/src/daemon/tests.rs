//! Two pool managers on the embedded chain.

use super::chains::look;
use super::results::hand_in;
use crate::chain::execution::{Execution, PoolStatus};
use crate::chain::profile::to_alloy;
use crate::chain::transactions::Transactions;
use crate::demo::contracts::Treasury;
use crate::store::{Place, Store};
use alloy::primitives::U256;
use alloy::signers::local::PrivateKeySigner;
use postern_devnet::{Config, Devnet};
use postern_shared::bls::{ETHEREUM_DST, G1, G2, Scalar};
use postern_shared::ethereum::{
    DepositData, DepositMessage, ForkVersion, VALIDATOR_STAKE_GWEI, WithdrawalCredentials,
};
use postern_shared::events::ChainEvent;
use postern_shared::ids::{Address, MemberId, PoolId};
use std::sync::Arc;
use std::time::Duration;

const OWNER: [u8; 32] = [0x11; 32];
const LEADER: [u8; 32] = [0x22; 32];
/// Enough slots to make everything before final.
const FINAL: u64 = 16;

struct Bench {
    devnet: Devnet,
    execution: Execution,
    store: Arc<Store>,
    leader: Transactions,
    fork: ForkVersion,
    managers: [Treasury; 2],
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        let wallet = |key: &[u8; 32]| PrivateKeySigner::from_bytes(key.into()).unwrap();
        let prefunded =
            [OWNER, LEADER].map(|key| (wallet(&key).address(), U256::from(10).pow(U256::from(21))));
        // Blocks come by themselves while a transaction is waited for.
        let config =
            Config { slot: Duration::from_millis(20), prefunded: prefunded.to_vec(), ..Config::default() };
        let (chain, deposit, fork) =
            (config.chain_id, config.deposit_contract, ForkVersion(config.genesis_fork_version));
        let devnet = Devnet::start(config).await.unwrap();
        let (url, leader) = (devnet.execution_url(), wallet(&LEADER).address());
        let deploy = || Treasury::deploy(&url, chain, wallet(&OWNER), deposit, leader);
        let managers = [deploy().await.unwrap(), deploy().await.unwrap()];
        let execution = Execution::connect(&url, chain).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&Place::Directory(folder.path().to_owned())).unwrap());
        let provider = execution.provider().clone();
        let leader = Transactions::open(provider, chain, &LEADER, Arc::clone(&store) as _).unwrap();
        Self { devnet, execution, store, leader, fork, managers, _folder: folder }
    }

    /// The pool with number 1 of a manager.
    fn pool(&self, manager: usize) -> PoolId {
        let contract = Address(self.managers[manager].pool_manager().into_array());
        PoolId::new(Config::default().chain_id, contract, 1)
    }

    /// What the host does when it looks, with these contracts to watch; all that it has stored since it began.
    async fn seen(&self, managers: &[PoolId]) -> Vec<ChainEvent> {
        self.devnet.advance(FINAL);
        let contracts: Vec<Address> = managers.iter().map(|pool| pool.contract).collect();
        look(&self.execution, &self.store, &contracts, 0).await.unwrap();
        self.store.events_after(0).unwrap().into_iter().map(|stored| stored.event).collect()
    }

    /// A deposit for a pool, with a key of its own.
    async fn deposit(&self, pool: PoolId, secret: u64) -> DepositData {
        let secret = Scalar::from_u64(secret);
        let address = self.execution.pool(pool, false).await.unwrap().address.unwrap();
        let message = DepositMessage {
            pubkey: (G1::generator() * &secret).encode(),
            withdrawal_credentials: WithdrawalCredentials::execution(address),
            amount: VALIDATOR_STAKE_GWEI,
        };
        let signature = (G2::hash(&message.signing_root(self.fork).0, ETHEREUM_DST) * &secret).encode();
        DepositData { message, signature }
    }

    async fn hand_in(&self, pool: PoolId, data: &DepositData) {
        assert!(hand_in(&self.execution, &self.leader, pool, data, &[MemberId(1)]).await.unwrap());
        self.leader.drive().await.unwrap();
        self.devnet.advance(1);
    }
}

fn is_deposit_request(event: &ChainEvent, of: PoolId) -> bool {
    matches!(event, ChainEvent::DepositRequested(request) if request.pool == of)
}

#[tokio::test]
async fn an_epoch_that_changes_the_contract_adds_one_to_watch_and_drops_none() {
    let bench = Bench::start().await;
    let (first, second) = (bench.pool(0), bench.pool(1));
    assert_ne!(first.contract, second.contract);
    for manager in &bench.managers {
        manager.stake(1).await.unwrap();
    }
    let events = bench.seen(&[first]).await;
    assert!(matches!(&events[..], [event] if is_deposit_request(event, first)), "{events:?}");
    assert_eq!(bench.store.cursor(second.contract).unwrap(), None);

    // The epoch comes. What the new contract said before it is not lost, and the old one's words go on counting.
    let data = bench.deposit(first, 7).await;
    bench.hand_in(first, &data).await;
    bench.managers[0].request_exit(first).await.unwrap();
    let events = bench.seen(&[first, second]).await;
    let [_, ChainEvent::ExitRequested { pool, .. }, event] = &events[..] else { panic!("{events:?}") };
    assert!(*pool == first && is_deposit_request(event, second), "{events:?}");
    let wanted: Vec<_> =
        bench.store.pools().unwrap().iter().map(|status| (status.pool_id, status.exit_requested)).collect();
    assert!(wanted.contains(&(first, true)) && wanted.contains(&(second, false)), "{wanted:?}");
    let cursors = [first, second].map(|pool| bench.store.cursor(pool.contract).unwrap());
    assert!(cursors.iter().all(Option::is_some));
    // Nothing twice, from wherever each is.
    assert_eq!(bench.seen(&[first, second]).await, events);
}

#[tokio::test]
async fn a_deposit_is_handed_in_to_its_own_pools_contract() {
    let bench = Bench::start().await;
    let pools = [bench.pool(0), bench.pool(1)];
    for manager in &bench.managers {
        manager.stake(1).await.unwrap();
    }
    let deposits = [bench.deposit(pools[0], 7).await, bench.deposit(pools[1], 8).await];
    bench.hand_in(pools[1], &deposits[1]).await;
    let untouched = bench.execution.pool(pools[0], false).await.unwrap();
    assert_eq!((untouched.status, untouched.pubkey), (PoolStatus::Ready, None));
    bench.hand_in(pools[0], &deposits[0]).await;
    for (pool, data) in pools.into_iter().zip(deposits) {
        let found = bench.execution.pool(pool, false).await.unwrap();
        assert_eq!((found.status, found.pubkey), (PoolStatus::Deposited, Some(data.message.pubkey)));
        assert_ne!(to_alloy(pool.contract), to_alloy(found.address.unwrap()));
    }
}
