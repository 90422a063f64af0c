//! The whole way of a pool: stake, event, deposit through the manager, index, duty, exit.

mod contracts;
mod support;

use alloy::eips::eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS;
use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, B256, Bytes, U256, hex, keccak256};
use alloy::providers::Provider as _;
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::{SolError as _, SolEvent as _};
use postern_shared::bls::Signature;
use postern_shared::ethereum::{DepositData, WithdrawalCredentials};
use support::dao::{Dao, Place};
use support::{DepositContract, ETHER, Key, Net, PoolManager, STAKE_GWEI, credentials, deposit, exit_json};

/// The revert data of a failed call.
fn revert<T>(called: Result<T, alloy::contract::Error>) -> Vec<u8> {
    called.err().and_then(|error| error.as_revert_data()).expect("a revert").to_vec()
}

/// The place of a statement about a pool of the network's manager.
fn place(net: &Net, manager: Address, dao: &Dao, pool: u32) -> Place {
    Place::of(net.config.chain_id, manager, dao).pool(pool)
}

#[tokio::test]
async fn a_pool_goes_from_stake_to_exit() {
    let net = Net::start().await;
    let (manager, dao) = net.deploy_manager().await;
    let stranger = net.as_stranger(&manager);

    let receipt = net.mined(manager.stake().value(U256::from(33 * ETHER))).await;
    let requested: Vec<_> = receipt
        .inner
        .logs()
        .iter()
        .filter_map(|log| log.log_decode::<PoolManager::PoolDepositRequested>().ok())
        .collect();
    assert_eq!(requested.len(), 1);
    assert_eq!(requested[0].inner.data.poolId, 1);
    assert_eq!(manager.unpooled().call().await.unwrap(), U256::from(ETHER));
    let pool = manager.getPoolAddress(1).call().await.unwrap();
    assert_eq!(manager.getPool(1).call().await.unwrap().pool, pool);

    // Anybody may hand the deposit in, with the enclaves' proof.
    let key = Key::new(1);
    let data = key.deposit(&net.config, credentials(pool), STAKE_GWEI);
    let place = place(&net, *manager.address(), &dao, 1);
    let proof = dao.enclave_proof(place.deposit(data.hash_tree_root().0.into()));
    let receipt = net.mined(deposit(&stranger, 1, &data, proof)).await;
    let topics: Vec<_> = receipt.inner.logs().iter().filter_map(|log| log.topic0().copied()).collect();
    assert_eq!(
        topics,
        [
            PoolManager::PoolDepositInitiated::SIGNATURE_HASH,
            PoolManager::DepositProven::SIGNATURE_HASH,
            DepositContract::DepositEvent::SIGNATURE_HASH,
            PoolManager::PoolDeposited::SIGNATURE_HASH,
        ]
    );
    let proven = receipt.inner.logs()[1].log_decode::<PoolManager::DepositProven>().unwrap().inner.data;
    assert_eq!((proven.poolId, proven.attempt, proven.signers), (1, 0, B256::with_last_byte(0b11)));
    assert_eq!(proven.publicKey.as_ref(), key.public().0);
    assert_eq!(proven.depositDataRoot.0, data.hash_tree_root().0);
    let info = manager.getPool(1).call().await.unwrap();
    assert_eq!((info.status, info.publicKey.as_ref()), (2, &key.public().0[..]));

    // The beacon chain takes it up when the deposit's block is final.
    let pubkey = hex::encode_prefixed(key.public().0);
    net.advance_epochs(1);
    assert_eq!(net.status(&pubkey).await, "none");
    let mut seen = Vec::new();
    for _ in 0..12 {
        net.advance_epochs(1);
        let status = net.status(&pubkey).await;
        if seen.last() != Some(&status) {
            seen.push(status);
        }
    }
    seen.retain(|status| status != "none");
    assert_eq!(seen, ["pending_initialized", "pending_queued", "active_ongoing"]);
    let (_, answer) = net.beacon(&format!("/eth/v1/beacon/states/finalized/validators/{pubkey}")).await;
    assert_eq!(answer["data"]["index"], "16");
    assert_eq!(answer["finalized"], true);

    // It leaves by its presigned exit.
    let receipt = net.mined(manager.requestPoolExits(vec![1], "maintenance".into(), Bytes::new())).await;
    assert!(receipt.inner.logs()[0].log_decode::<PoolManager::PoolExitRequested>().is_ok());
    let exit = key.exit(&net, 3, 16);
    let path = "/eth/v1/beacon/pool/voluntary_exits";
    assert_eq!(net.post_beacon(path, &exit_json(&exit)).await.0, 200);
    assert_eq!(net.beacon(path).await.1["data"][0], exit_json(&exit));
    net.devnet.advance(1);
    assert_eq!(net.status("16").await, "active_exiting");
    assert_eq!(net.beacon(path).await.1["data"], serde_json::json!([]));
    net.advance_epochs(2 + net.config.max_seed_lookahead);
    assert_eq!(net.status("16").await, "exited_unslashed");
    net.advance_epochs(net.config.min_validator_withdrawability_delay);
    assert_eq!(net.status("16").await, "withdrawal_done");

    // The report is a line on record. What the beacon chain paid back is the staker's.
    let report = dao.enclave_proof(place.pool_exited());
    let receipt = net.mined(stranger.reportPoolExited(1, report)).await;
    assert!(receipt.inner.logs()[0].log_decode::<PoolManager::PoolExited>().is_ok());
    let receipt = net.mined(manager.claim(1)).await;
    let claimed = receipt.inner.logs()[0].log_decode::<PoolManager::Claimed>().unwrap().inner.data;
    assert_eq!((claimed.staker, claimed.amount), (net.owner.address(), U256::from(32 * ETHER)));
    net.devnet.shutdown().await;
}

/// The beacon chain as anybody's deposit reaches it: directly at the deposit contract.
async fn deposit_directly(net: &Net, data: &DepositData, credentials: [u8; 32], ether: u128) {
    let contract = DepositContract::new(net.config.deposit_contract, net.provider(&net.stranger));
    let mut data = *data;
    data.message.withdrawal_credentials = WithdrawalCredentials(credentials);
    data.message.amount = (ether / 1_000_000_000) as u64;
    let deposit = contract.deposit(
        data.message.pubkey.0.to_vec().into(),
        credentials.to_vec().into(),
        data.signature.0.to_vec().into(),
        data.hash_tree_root().0.into(),
    );
    net.mined(deposit.value(U256::from(ether))).await;
}

#[tokio::test]
async fn a_thief_cannot_make_the_pool_pay_for_a_key_of_its_own() {
    let net = Net::start().await;
    let (manager, dao) = net.deploy_manager().await;
    let stranger = net.as_stranger(&manager);
    net.mined(manager.stake().value(U256::from(32 * ETHER))).await;
    let pool = manager.getPoolAddress(1).call().await.unwrap();
    let place = place(&net, *manager.address(), &dao, 1);
    let thief = credentials(net.stranger.address());

    // The thief's key with the thief's credentials is a validator-to-be; then the pool's stake shall go on top.
    let own = Key::new(7);
    deposit_directly(&net, &own.deposit(&net.config, thief, 1_000_000_000), thief, ETHER).await;
    let garbage = DepositData {
        signature: Signature([7; 96]),
        ..own.deposit(&net.config, credentials(pool), STAKE_GWEI)
    };
    let honest = Key::new(8).deposit(&net.config, credentials(pool), STAKE_GWEI);
    let proof = dao.enclave_proof(place.deposit(honest.hash_tree_root().0.into()));
    for data in [
        garbage,
        own.deposit(&net.config, credentials(pool), STAKE_GWEI),
        // Any key with a garbage signature burns the stake; so does the enclaves' own.
        DepositData {
            signature: Signature([9; 96]),
            ..Key::new(9).deposit(&net.config, credentials(pool), STAKE_GWEI)
        },
        DepositData { signature: Signature([9; 96]), ..honest },
        // A signature over other credentials is garbage too.
        DepositData { signature: Key::new(8).deposit(&net.config, thief, STAKE_GWEI).signature, ..honest },
    ] {
        let refused = revert(deposit(&stranger, 1, &data, proof.clone()).call().await);
        assert!(refused.starts_with(&PoolManager::ProofSignature::SELECTOR));
        let refused = revert(deposit(&stranger, 1, &data, Bytes::new()).call().await);
        assert!(refused.starts_with(&PoolManager::ProofLength::SELECTOR));
    }

    // A stranger's garbage deposit for the enclaves' key, before the pool's, neither takes the key nor blocks it.
    let mut blocking = honest;
    blocking.signature = Signature([5; 96]);
    deposit_directly(&net, &blocking, thief, ETHER).await;
    net.mined(deposit(&stranger, 1, &honest, proof)).await;
    net.advance_epochs(10);
    let (_, answer) = net
        .beacon(&format!(
            "/eth/v1/beacon/states/head/validators/{}",
            hex::encode_prefixed(honest.message.pubkey.0)
        ))
        .await;
    let validator = &answer["data"]["validator"];
    assert_eq!(validator["withdrawal_credentials"], hex::encode_prefixed(credentials(pool)));
    assert_eq!(validator["effective_balance"], "32000000000");
    assert_eq!(answer["data"]["balance"], "32000000000");
}

#[tokio::test]
async fn a_report_blocks_no_exit_and_anybody_can_trigger_one_that_was_requested() {
    let net = Net::start().await;
    let (manager, dao) = net.deploy_manager().await;
    let stranger = net.as_stranger(&manager);
    net.mined(manager.stake().value(U256::from(32 * ETHER))).await;
    let pool = manager.getPoolAddress(1).call().await.unwrap();
    let place = place(&net, *manager.address(), &dao, 1);
    let data = Key::new(1).deposit(&net.config, credentials(pool), STAKE_GWEI);
    let proof = dao.enclave_proof(place.deposit(data.hash_tree_root().0.into()));
    net.mined(deposit(&stranger, 1, &data, proof)).await;

    // Too early for the beacon chain: the request is dropped without a word, and can be repeated.
    let receipt = net.mined(manager.triggerExit(1, Bytes::new()).value(U256::from(1_000))).await;
    let triggered =
        receipt.inner.logs().iter().find_map(|log| log.log_decode::<PoolManager::ExitTriggered>().ok());
    assert_eq!(triggered.unwrap().inner.data.fee, U256::ONE);
    net.advance_epochs(10);
    assert_eq!(net.status("16").await, "active_ongoing");

    let report = dao.enclave_proof(place.pool_exited());
    net.mined(stranger.reportPoolExited(1, report)).await;
    let early = revert(stranger.triggerExit(1, Bytes::new()).value(U256::ONE).call().await);
    assert!(early.starts_with(&PoolManager::ExitNotRequested::SELECTOR));
    net.mined(manager.requestPoolExits(vec![1], "the operators are silent".into(), Bytes::new())).await;
    let early = revert(stranger.triggerExit(1, Bytes::new()).value(U256::ONE).call().await);
    assert!(early.starts_with(&PoolManager::TooEarly::SELECTOR));
    net.devnet.advance(10);
    // The validator is on duty for long enough, and the fee's rest comes back. Gas is by far the larger part.
    let before = net.provider(&net.stranger).get_balance(net.stranger.address()).await.unwrap();
    let receipt = net.mined(stranger.triggerExit(1, Bytes::new()).value(U256::from(ETHER))).await;
    let after = net.provider(&net.stranger).get_balance(net.stranger.address()).await.unwrap();
    let gas = U256::from(u128::from(receipt.gas_used) * receipt.effective_gas_price);
    assert_eq!(before - after, gas + U256::ONE);
    assert_eq!(net.status("16").await, "active_exiting");
    net.advance_epochs(8);
    assert_eq!(net.status("16").await, "withdrawal_done");
}

#[tokio::test]
async fn the_fee_of_a_withdrawal_request_rises_with_demand_and_falls_again() {
    let net = Net::start().await;
    let provider = net.provider(&net.owner);
    let fee = async || {
        let call = TransactionRequest::default().with_to(WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS);
        U256::from_be_slice(&provider.call(call).await.unwrap())
    };
    assert_eq!(fee().await, U256::ONE);
    let mut waiting = Vec::new();
    for _ in 0..40 {
        let request = TransactionRequest::default()
            .with_to(WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS)
            .with_value(U256::ONE)
            .with_gas_limit(150_000)
            .with_input(vec![1; 56]);
        waiting.push(provider.send_transaction(request).await.unwrap());
    }
    net.devnet.advance(1);
    // Two a block are free; 38 more are in excess, and e^(38/17) is 9.3.
    assert_eq!(fee().await, U256::from(9));
    for pending in waiting {
        assert!(pending.get_receipt().await.unwrap().status());
    }
    // The queue gives 16 a block: 24 are left after the first, none after the third.
    let slot = async |index: u64| {
        provider.get_storage_at(WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, U256::from(index)).await.unwrap()
    };
    assert_eq!((slot(2).await, slot(3).await), (U256::from(16), U256::from(40)));
    net.devnet.advance(2);
    assert_eq!((slot(2).await, slot(3).await), (U256::ZERO, U256::ZERO));
    net.devnet.advance(17);
    assert_eq!((slot(0).await, fee().await), (U256::ZERO, U256::ONE));
}

#[tokio::test]
async fn the_deposit_contract_behaves_like_the_one_on_mainnet() {
    let net = Net::start().await;
    let contract = DepositContract::new(net.config.deposit_contract, net.provider(&net.owner));
    // The root of the empty tree, as every network has it before its first deposit.
    let empty = hex!("d70a234731285c6804c2a4f56711ddb8c82c99740f207854891028af34e27e5e");
    assert_eq!(contract.get_deposit_root().call().await.unwrap().0, empty);
    assert_eq!(contract.get_deposit_count().call().await.unwrap().as_ref(), [0; 8]);
    for (id, known) in [(0x01ff_c9a7_u32, true), (0x8564_0907, true), (0xffff_ffff, false)] {
        assert_eq!(contract.supportsInterface(id.to_be_bytes().into()).call().await.unwrap(), known);
    }

    let data = Key::new(5).deposit(&net.config, [1; 32], STAKE_GWEI);
    let deposit = |pubkey: &[u8], wei: u128| {
        contract
            .deposit(
                pubkey.to_vec().into(),
                data.message.withdrawal_credentials.0.to_vec().into(),
                data.signature.0.to_vec().into(),
                data.hash_tree_root().0.into(),
            )
            .value(U256::from(wei))
    };
    for (pubkey, wei, reason) in [
        (&[0; 47][..], 32 * ETHER, "DepositContract: invalid pubkey length"),
        (&data.message.pubkey.0, ETHER - 1, "DepositContract: deposit value too low"),
        (&data.message.pubkey.0, ETHER + 1, "DepositContract: deposit value not multiple of gwei"),
    ] {
        let output = revert(deposit(pubkey, wei).call().await);
        assert_eq!(alloy::sol_types::Revert::abi_decode(&output).unwrap().reason, reason);
    }
    for count in 1u64..=3 {
        let _pending = deposit(&data.message.pubkey.0, 32 * ETHER).send().await.unwrap();
        net.devnet.advance(1);
        assert_eq!(contract.get_deposit_count().call().await.unwrap().as_ref(), count.to_le_bytes());
    }
    // The same three leaves in a tree built the long way.
    let leaf = data.hash_tree_root().0;
    assert_eq!(contract.get_deposit_root().call().await.unwrap().0, deposit_root(&[leaf; 3]));
}

#[test]
fn topics_are_those_of_the_documents_profile() {
    for (topic, event) in [
        (PoolManager::PoolDepositRequested::SIGNATURE_HASH, "PoolDepositRequested(uint32)"),
        (PoolManager::PoolDepositInitiated::SIGNATURE_HASH, "PoolDepositInitiated(uint32)"),
        (PoolManager::PoolDeposited::SIGNATURE_HASH, "PoolDeposited(uint32)"),
        (PoolManager::PoolExitRequested::SIGNATURE_HASH, "PoolExitRequested(uint32)"),
        (PoolManager::PoolExited::SIGNATURE_HASH, "PoolExited(uint32)"),
    ] {
        assert_eq!(topic, keccak256(event));
    }
}

/// `hash_tree_root(List[DepositData, 2**32])`, level by level.
fn deposit_root(leaves: &[[u8; 32]]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    let pair = |left: &[u8], right: &[u8]| -> [u8; 32] {
        Sha256::new().chain_update(left).chain_update(right).finalize().into()
    };
    let (mut level, mut empty) = (leaves.to_vec(), [0; 32]);
    for _ in 0..32 {
        level = level.chunks(2).map(|nodes| pair(&nodes[0], nodes.get(1).unwrap_or(&empty))).collect();
        empty = pair(&empty, &empty);
    }
    let mut count = [0; 32];
    count[..8].copy_from_slice(&(leaves.len() as u64).to_le_bytes());
    pair(&level[0], &count)
}
