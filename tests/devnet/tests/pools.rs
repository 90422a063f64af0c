//! The whole way of a pool: stake, event, deposit through the manager, index, duty, exit.

mod support;

use alloy::primitives::{Address, U256, hex, keccak256};
use alloy::sol_types::{SolCall as _, SolError as _, SolEvent as _};
use support::{
    DepositContract, ETHER, Key, Net, Pool, PoolManager, STAKE_GWEI, credentials, exit_json, initiate,
};

/// The revert data of a failed call.
fn revert<T>(called: Result<T, alloy::contract::Error>) -> Vec<u8> {
    called.err().and_then(|error| error.as_revert_data()).expect("a revert").to_vec()
}

#[tokio::test]
async fn a_pool_goes_from_stake_to_exit() {
    let net = Net::start().await;
    let manager = net.deploy_manager().await;
    let leader = net.as_leader(&manager);

    let pending = manager.stake().value(U256::from(33 * ETHER)).send().await.unwrap();
    net.devnet.advance(1);
    let receipt = pending.get_receipt().await.unwrap();
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

    let key = Key::new(1);
    let data = key.deposit(&net.config, credentials(pool), STAKE_GWEI);
    let pending = initiate(&leader, &data).send().await.unwrap();
    net.devnet.advance(1);
    let receipt = pending.get_receipt().await.unwrap();
    assert!(receipt.status());
    let topics: Vec<_> = receipt.inner.logs().iter().filter_map(|log| log.topic0().copied()).collect();
    assert!(topics.contains(&PoolManager::PoolDepositInitiated::SIGNATURE_HASH));
    assert!(topics.contains(&PoolManager::PoolDeposited::SIGNATURE_HASH));
    assert!(topics.contains(&DepositContract::DepositEvent::SIGNATURE_HASH));
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

    // It leaves.
    let pending = manager.requestPoolExit(1).send().await.unwrap();
    net.devnet.advance(1);
    let receipt = pending.get_receipt().await.unwrap();
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
    assert_eq!(net.status("16").await, "withdrawal_possible");

    let pending = leader.reportPoolExited(1).send().await.unwrap();
    net.devnet.advance(1);
    let receipt = pending.get_receipt().await.unwrap();
    assert!(receipt.inner.logs()[0].log_decode::<PoolManager::PoolExited>().is_ok());
    net.devnet.shutdown().await;
}

#[tokio::test]
async fn the_credentials_say_which_pool_is_meant() {
    let net = Net::start().await;
    let manager = net.deploy_manager().await;
    let leader = net.as_leader(&manager);
    let _pending = manager.stake().value(U256::from(64 * ETHER)).send().await.unwrap();
    net.devnet.advance(1);
    assert_eq!(manager.poolCount().call().await.unwrap(), 2);

    // The second pool first: the ancestor of this contract took the first one that was ready.
    let second = manager.getPoolAddress(2).call().await.unwrap();
    let data = Key::new(2).deposit(&net.config, credentials(second), STAKE_GWEI);
    let _pending = initiate(&leader, &data).send().await.unwrap();
    net.devnet.advance(1);
    assert_eq!(manager.getPool(1).call().await.unwrap().status, 1);
    assert_eq!(manager.getPool(2).call().await.unwrap().status, 2);

    // Not twice, not with the same key, not for an address that is no pool.
    let again = revert(initiate(&leader, &data).call().await);
    assert!(again.starts_with(&PoolManager::WrongStatus::SELECTOR));
    let first = manager.getPoolAddress(1).call().await.unwrap();
    let same_key = Key::new(2).deposit(&net.config, credentials(first), STAKE_GWEI);
    let same_key = revert(initiate(&leader, &same_key).call().await);
    assert!(same_key.starts_with(&PoolManager::PublicKeyAlreadyUsed::SELECTOR));
    let stranger = Key::new(3).deposit(&net.config, credentials(Address::repeat_byte(9)), STAKE_GWEI);
    let stranger = revert(initiate(&leader, &stranger).call().await);
    assert!(stranger.starts_with(&PoolManager::UnknownPoolAddress::SELECTOR));
    let malformed = Key::new(3).deposit(&net.config, [0; 32], STAKE_GWEI);
    let malformed = revert(initiate(&leader, &malformed).call().await);
    assert!(malformed.starts_with(&PoolManager::WithdrawalCredentialsMalformed::SELECTOR));
}

#[tokio::test]
async fn only_the_right_caller_with_the_right_data_gets_through() {
    let net = Net::start().await;
    let manager = net.deploy_manager().await;
    let leader = net.as_leader(&manager);
    let _pending = manager.stake().value(U256::from(32 * ETHER)).send().await.unwrap();
    net.devnet.advance(1);
    let pool = manager.getPoolAddress(1).call().await.unwrap();
    let mut data = Key::new(4).deposit(&net.config, credentials(pool), STAKE_GWEI);

    let by_owner = revert(initiate(&manager, &data).call().await);
    assert!(by_owner.starts_with(&PoolManager::OnlyLeader::SELECTOR));
    let by_leader = revert(leader.requestPoolExit(1).call().await);
    assert!(by_leader.starts_with(&PoolManager::OnlyOwner::SELECTOR));
    let too_early = revert(manager.requestPoolExit(1).call().await);
    assert!(too_early.starts_with(&PoolManager::WrongStatus::SELECTOR));
    let sweep = revert(Pool::new(pool, net.provider(&net.owner)).sweep().call().await);
    assert!(sweep.starts_with(&Pool::OnlyManager::SELECTOR));

    // A root over another amount: the deposit contract recomputes it.
    let right = data;
    data.message.amount -= 1;
    let wrong_root = data.hash_tree_root();
    let mut call = initiate(&leader, &right).calldata().to_vec();
    call[4..36].copy_from_slice(&wrong_root.0);
    let answer = net
        .rpc(
            "eth_call",
            serde_json::json!([{
                "from": net.leader.address(), "to": manager.address(), "data": hex::encode_prefixed(&call),
            }, "latest"]),
        )
        .await;
    assert_eq!(answer["error"]["code"], 3);
    let text = "execution reverted: DepositContract: reconstructed DepositData does not match supplied deposit_data_root";
    assert_eq!(answer["error"]["message"], text);
    assert!(answer["error"]["data"].as_str().unwrap().starts_with("0x08c379a0"));
    assert_eq!(
        net.rpc(
            "eth_estimateGas",
            serde_json::json!([{
                "from": net.leader.address(), "to": manager.address(), "data": hex::encode_prefixed(&call),
            }])
        )
        .await["error"]["code"],
        3
    );
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
fn selectors_and_topics_are_those_of_the_documents_profile() {
    assert_eq!(PoolManager::initiatePoolDepositCall::SELECTOR, [0xab, 0x17, 0x5e, 0x06]);
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
