//! Two pool managers on the embedded chains, and a thief.

use super::commands::Outcome;
use super::deposits::other_credentials;
use super::events::{Followed, Follower};
use super::troubles::Troubles;
use crate::chain::beacon::{BeaconNodes, StateId};
use crate::chain::execution::{Execution, PoolStatus};
use crate::chain::profile::{PoolEventKind, to_alloy};
use crate::chain::transactions::{FeeRules, Transactions, Wallet};
use crate::chain::url::NodeUrl;
use crate::demo::account::{Account, Call};
use crate::demo::contracts::Treasury;
use crate::store::{Place, Store};
use alloy::primitives::{TxKind, U256};
use alloy::providers::Provider;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use postern_devnet::{Clock, Config, Devnet};
use postern_shared::bls::{ETHEREUM_DST, G1, G2, Scalar};
use postern_shared::ecdsa::EthereumSignature;
use postern_shared::eip712::Domain;
use postern_shared::epoch::{EpochMessage, PoolManager};
use postern_shared::ethereum::{
    DepositData, DepositMessage, ForkVersion, Network, Root, VALIDATOR_STAKE_GWEI, WithdrawalCredentials,
};
use postern_shared::events::ChainEvent;
use postern_shared::ids::{Address, Digest, ManifestHash, MemberId, PoolId};
use postern_shared::proof::{Council, Proof, Statement};
use std::sync::Arc;
use std::time::Duration;

mod lying_beacon_nodes;
mod scenes;

alloy::sol! {
    function deposit(bytes pubkey, bytes withdrawal_credentials, bytes signature, bytes32 deposit_data_root);
}

const OWNER: [u8; 32] = [0x11; 32];
const LEADER: [u8; 32] = [0x22; 32];
const THIEF: [u8; 32] = [0x66; 32];
/// Enough slots to make everything before final.
const FINAL: u64 = 16;

/// Of three members: their wallets, and their enclaves.
const GOVERNORS: [[u8; 32]; 3] = [[0x33; 32], [0x34; 32], [0x35; 32]];
const ENCLAVES: [[u8; 32]; 3] = [[0x43; 32], [0x44; 32], [0x45; 32]];

fn account(key: &[u8; 32]) -> Address {
    Address(PrivateKeySigner::from_bytes(key.into()).unwrap().address().into_array())
}

fn domain(pool: PoolId) -> Domain {
    Domain { chain_id: pool.chain, verifying_contract: pool.contract }
}

/// A proof by keys that these accounts belong to.
fn proof(digest: &[u8; 32], keys: &[[u8; 32]], accounts: &[Address], wanted: usize) -> Proof {
    let sign = |key: &[u8; 32]| {
        let signer = PrivateKeySigner::from_bytes(key.into()).unwrap();
        EthereumSignature(signer.sign_hash_sync(&digest.into()).unwrap().as_bytes())
    };
    let signatures = (1..).map(MemberId).zip(keys.iter().map(sign)).collect();
    Proof::collect(digest, accounts, wanted, &signatures).unwrap()
}

struct Bench {
    devnet: Devnet,
    execution: Execution,
    store: Arc<Store>,
    leader: Transactions,
    fork: ForkVersion,
    managers: [Treasury; 2],
    folder: tempfile::TempDir,
}

impl Bench {
    /// Blocks come by themselves while a transaction is waited for.
    async fn start() -> Self {
        Self::start_with(Clock::Interval).await
    }

    async fn start_with(clock: Clock) -> Self {
        let wallet = |key: &[u8; 32]| PrivateKeySigner::from_bytes(key.into()).unwrap();
        let prefunded =
            [OWNER, LEADER, THIEF].map(|key| (wallet(&key).address(), U256::from(10).pow(U256::from(21))));
        let slot = Duration::from_millis(20);
        let config = Config { clock, slot, prefunded: prefunded.to_vec(), ..Config::default() };
        let (chain, deposit, fork) =
            (config.chain_id, config.deposit_contract, ForkVersion(config.genesis_fork_version));
        let devnet = Devnet::start(config).await.unwrap();
        let url = devnet.execution_url();
        let governors: Vec<_> = GOVERNORS.iter().map(|key| wallet(key).address()).collect();
        let deploy = || Treasury::deploy(&url, chain, wallet(&OWNER), deposit, governors.clone());
        let managers = [mined(&devnet, deploy()).await.unwrap(), mined(&devnet, deploy()).await.unwrap()];
        let execution = Execution::connect(&url, chain).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&Place::Directory(folder.path().to_owned())).unwrap());
        let (wallet, rules) = (Wallet::local(&LEADER).unwrap(), FeeRules::default());
        let leader =
            Transactions::open(execution.connections(), chain, wallet, rules, Arc::clone(&store) as _);
        let leader = leader.unwrap();
        let bench = Self { devnet, execution, store, leader, fork, managers, folder };
        bench.found(0).await;
        bench.found(1).await;
        bench
    }

    /// Tells a pool manager of an epoch that names three enclaves.
    async fn found(&self, manager: usize) {
        let accounts = |keys: &[[u8; 32]; 3]| keys.iter().map(account).collect();
        let council = Council {
            quorum: 2,
            wallet_quorum: 2,
            wallets: accounts(&GOVERNORS),
            signers: accounts(&ENCLAVES),
        };
        let pool = self.pool(manager);
        let (predecessor, manifest) = (ManifestHash([1; 32]), ManifestHash([2; 32]));
        let (dao, changes) = ("a DAO".to_owned(), "founded".to_owned());
        let domain = domain(pool);
        let council_digest = council.digest();
        let message =
            EpochMessage { domain, dao, epoch: 1, predecessor, manifest, council: council_digest, changes };
        let wallets = proof(&message.digest(), &GOVERNORS, &council.wallets, 3);
        let call = self.execution.profile().epoch_call(&message, &council, &wallets, None).unwrap();
        self.leader.submit(&format!("epoch-{manager}"), pool.contract, call).await.unwrap();
        self.leader.drive().await.unwrap();
        self.devnet.advance(1);
        assert_eq!(self.execution.in_force_at(pool.contract).await.unwrap().epoch, 1);
    }

    /// The chain's one beacon node.
    fn beacon(&self) -> BeaconNodes {
        let config = Config::default();
        let network = Network {
            chain_id: config.chain_id,
            genesis_fork_version: self.fork,
            capella_fork_version: ForkVersion(config.capella_fork_version),
            genesis_validators_root: Root(self.devnet.genesis_validators_root()),
        };
        BeaconNodes::new(&[NodeUrl::parse(&self.devnet.beacon_url()).unwrap()], network).unwrap()
    }

    /// The pool with number 1 of a manager.
    fn pool(&self, manager: usize) -> PoolId {
        let contract = Address(self.managers[manager].pool_manager().into_array());
        PoolId::new(Config::default().chain_id, contract, 1)
    }

    /// A manager, as an epoch names it.
    fn named(&self, manager: usize) -> PoolManager {
        PoolManager {
            contract: self.pool(manager).contract,
            pool_code: Digest([0; 32]),
            start_block: self.managers[manager].deployed_in(),
            since: 0,
            epoch: 0,
        }
    }

    /// What the host does when it looks, with these managers to watch; all that it has stored since it began.
    async fn seen(&self, managers: &[PoolManager]) -> Vec<ChainEvent> {
        self.devnet.advance(FINAL);
        let follower = Follower {
            execution: &self.execution,
            store: &self.store,
            troubles: &Troubles::default(),
            data_dir: self.folder.path(),
            followed: &Followed::default(),
        };
        follower.look(managers).await.unwrap();
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

    /// What anybody can do with ether of their own.
    async fn send(&self, data: &DepositData) {
        let call = depositCall {
            pubkey: data.message.pubkey.0.into(),
            withdrawal_credentials: data.message.withdrawal_credentials.0.into(),
            signature: data.signature.0.into(),
            deposit_data_root: data.hash_tree_root().0.into(),
        };
        let value = U256::from(data.message.amount) * U256::from(1_000_000_000);
        let config = Config::default();
        let provider = self.execution.provider().clone();
        let thief = Account::new(provider, config.chain_id, PrivateKeySigner::from_slice(&THIEF).unwrap());
        let to = TxKind::Call(config.deposit_contract);
        thief.send(&Call { what: "depositing", to, input: call.abi_encode(), value }).await.unwrap();
    }

    async fn hand_in(&self, pool: PoolId, data: &DepositData) {
        let statement = Statement::Deposit { pool: pool.number, attempt: 0, root: data.hash_tree_root() };
        let accounts: Vec<Address> = ENCLAVES.iter().map(account).collect();
        let proof = proof(&statement.digest(&domain(pool), 1), &ENCLAVES, &accounts, 2);
        let call = self.execution.profile().deposit_call(pool.number, data, &proof).unwrap();
        self.leader.submit(&format!("deposit-{}", pool.text()), pool.contract, call).await.unwrap();
        self.leader.drive().await.unwrap();
        self.devnet.advance(1);
    }
}

/// Makes blocks until something is done that waits for some.
async fn mined<T>(devnet: &Devnet, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(Duration::from_millis(20)) => devnet.advance(1),
        }
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
    let events = bench.seen(&[bench.named(0)]).await;
    assert!(matches!(&events[..], [event] if is_deposit_request(event, first)), "{events:?}");
    assert_eq!(bench.store.cursor(second.contract).unwrap(), None);

    // The epoch comes. What the new contract said before it is not lost, and the old one's words go on counting.
    let data = bench.deposit(first, 7).await;
    bench.hand_in(first, &data).await;
    bench.managers[0].request_exit(first).await.unwrap();
    let events = bench.seen(&[bench.named(0), bench.named(1)]).await;
    let [_, ChainEvent::ExitRequested { pool, .. }, event] = &events[..] else { panic!("{events:?}") };
    assert!(*pool == first && is_deposit_request(event, second), "{events:?}");
    let wanted: Vec<_> =
        bench.store.pools().unwrap().iter().map(|status| (status.pool_id, status.exit_requested)).collect();
    assert!(wanted.contains(&(first, true)) && wanted.contains(&(second, false)), "{wanted:?}");
    let cursors = [first, second].map(|pool| bench.store.cursor(pool.contract).unwrap());
    assert!(cursors.iter().all(Option::is_some));
    // Nothing twice, from wherever each is.
    assert_eq!(bench.seen(&[bench.named(0), bench.named(1)]).await, events);
}

#[tokio::test]
async fn each_pool_manager_is_followed_from_its_own_start_block_and_none_is_waited_for() {
    let bench = Bench::start_with(Clock::Manual).await;
    bench.devnet.advance(FINAL);
    let final_now = bench.execution.finalised().await.unwrap().block;
    let own = bench.named(0).start_block;
    assert_eq!(bench.execution.cursor_before(own).await.unwrap().block, own - 1);
    assert_eq!(bench.execution.cursor_before(0).await.unwrap().block, 0);
    for late in [final_now + 2, 1 << 40] {
        assert_eq!(bench.execution.cursor_before(late).await.unwrap().block, final_now);
    }
    let late = PoolManager { start_block: 1 << 40, ..bench.named(1) };
    bench.seen(&[bench.named(0), late]).await;
    let begun = bench.store.cursor(late.contract).unwrap().expect("a cursor").block;
    // What comes from then on is read.
    mined(&bench.devnet, bench.managers[1].stake(1)).await.unwrap();
    let events = bench.seen(&[bench.named(0), late]).await;
    assert!(matches!(&events[..], [event] if is_deposit_request(event, bench.pool(1))), "{events:?}");
    assert!(bench.store.cursor(late.contract).unwrap().is_some_and(|cursor| cursor.block > begun));
}

#[tokio::test]
async fn a_rescan_ends_the_rest() {
    let bench = Bench::start().await;
    bench.devnet.advance(FINAL);
    let (troubles, followed) = (Troubles::default(), Followed::default());
    let follower = Follower {
        execution: &bench.execution,
        store: &bench.store,
        troubles: &troubles,
        data_dir: bench.folder.path(),
        followed: &followed,
    };
    follower.look(&[bench.named(0)]).await.unwrap();
    assert_eq!(follower.rescan(&[bench.named(0)], 1).await.unwrap(), Outcome::Done);
    let rest = followed.rest(Duration::from_hours(24));
    tokio::time::timeout(Duration::from_secs(60), rest).await.expect("a rest that ends");
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

/// What a thief can send to the deposit contract before the pool manager does, and when a host sees it: while it waits already.
#[tokio::test]
async fn a_deposit_that_would_take_the_stake_is_seen_before_it_is_applied() {
    let bench = Bench::start().await;
    let (pool, fork) = (bench.pool(0), bench.fork);
    bench.managers[0].stake(1).await.unwrap();
    let beacon = bench.beacon();
    let seen = async |own: &DepositData| {
        let key = own.message.pubkey;
        let waiting = beacon.pending_deposits(&[key].into()).await.unwrap();
        let found = beacon.validators(StateId::Finalized, &[key]).await.unwrap();
        other_credentials(&found[&key], fork, &own.message, &waiting).unwrap()
    };
    let thiefs = WithdrawalCredentials::execution(Address([0x66; 20]));
    let [honest, garbage, stolen] = [bench.deposit(pool, 7), bench.deposit(pool, 8), bench.deposit(pool, 9)];
    let (honest, garbage, stolen) = (honest.await, garbage.await, stolen.await);
    let with = |own: &DepositData, secret: Option<u64>| {
        let message = DepositMessage { withdrawal_credentials: thiefs, amount: 1_000_000_000, ..own.message };
        let sign = |secret| {
            let key = Scalar::from_u64(secret);
            (G2::hash(&message.signing_root(fork).0, ETHEREUM_DST) * &key).encode()
        };
        DepositData { message, signature: secret.map_or(own.signature, sign) }
    };
    // Nobody else can sign for these keys: of the second one the signature is of something else.
    bench.send(&with(&garbage, None)).await;
    bench.send(&with(&stolen, Some(9))).await;
    bench.devnet.advance(1);
    assert_eq!(seen(&honest).await, None);
    assert_eq!(seen(&garbage).await, None, "the chain will drop it");
    assert_eq!(seen(&stolen).await, Some(thiefs), "it waits");
    // The pool's own deposit comes behind it, and is a top-up.
    bench.hand_in(pool, &stolen).await;
    // Until the validator is the thief's for good, there is no moment at which nothing shows.
    for slot in 0..8 * FINAL {
        assert_eq!(seen(&stolen).await, Some(thiefs), "after {slot} slots");
        bench.devnet.advance(1);
    }
    assert!(beacon.validator(StateId::Finalized, &stolen.message.pubkey).await.unwrap().is_some());
    assert_eq!(seen(&garbage).await, None);
}

#[tokio::test]
async fn the_transaction_that_made_a_deposit_is_found_and_no_others() {
    let bench = Bench::start().await;
    let pool = bench.pool(0);
    bench.managers[0].stake(1).await.unwrap();
    let found = async |pool| bench.execution.transaction_of(PoolEventKind::Deposited, pool, 0).await.unwrap();
    assert_eq!(found(pool).await, None);
    let data = bench.deposit(pool, 7).await;
    bench.hand_in(pool, &data).await;
    let rows = bench.leader.row(&format!("deposit-{}", pool.text())).await;
    assert!(rows.is_some());
    let hash = found(pool).await.expect("a transaction");
    let provider = bench.execution.provider();
    let receipt = provider.get_transaction_receipt(hash.0.into()).await.unwrap().expect("a receipt");
    assert_eq!(receipt.to, Some(to_alloy(pool.contract)));
    assert_eq!(found(PoolId { number: 2, ..pool }).await, None);
}

#[tokio::test]
async fn that_a_validator_has_left_is_put_on_record_by_proof_and_read_from_it() {
    let bench = Bench::start().await;
    let (pool, other) = (bench.pool(0), bench.pool(1));
    for manager in &bench.managers {
        manager.stake(1).await.unwrap();
    }
    for (pool, secret) in [(pool, 7), (other, 8)] {
        let data = bench.deposit(pool, secret).await;
        bench.hand_in(pool, &data).await;
    }
    bench.seen(&[bench.named(0), bench.named(1)]).await;
    let reported = |pool| bench.store.pool(pool).unwrap().is_some_and(|known| known.exit_reported);
    let on_chain = async |pool| bench.execution.transaction_of(PoolEventKind::Exited, pool, 0).await.unwrap();
    assert!(!reported(pool) && on_chain(pool).await.is_none());

    let accounts: Vec<Address> = ENCLAVES.iter().map(account).collect();
    let digest = Statement::PoolExited { pool: pool.number }.digest(&domain(pool), 1);
    let call = |proof| bench.execution.profile().exited_call(pool.number, &proof).unwrap();
    // Of the other pool manager it proves nothing.
    let strange = Statement::PoolExited { pool: pool.number }.digest(&domain(other), 1);
    let strange = call(proof(&strange, &ENCLAVES, &accounts, 2));
    assert!(bench.leader.submit("strange", pool.contract, strange).await.is_err());
    let good = call(proof(&digest, &ENCLAVES, &accounts, 2));
    bench.leader.submit("exited", pool.contract, good).await.unwrap();
    bench.leader.drive().await.unwrap();
    bench.devnet.advance(1);
    assert!(on_chain(pool).await.is_some() && on_chain(other).await.is_none());
    let events = bench.seen(&[bench.named(0), bench.named(1)]).await;
    assert!(reported(pool) && !reported(other));
    assert!(!events.iter().any(|event| matches!(event, ChainEvent::ExitRequested { .. })), "{events:?}");
}
