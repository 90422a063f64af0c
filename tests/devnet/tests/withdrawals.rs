//! What the beacon chain pays out, and how the execution chain shows it.

mod support;

use alloy::consensus::constants::EMPTY_WITHDRAWALS;
use alloy::consensus::proofs::calculate_withdrawals_root;
use alloy::eips::BlockId;
use alloy::eips::eip4895::Withdrawal;
use alloy::primitives::{Address, U256};
use alloy::providers::Provider as _;
use postern_devnet::beacon::chain::genesis_key;
use postern_devnet::{Clock, Config};
use serde_json::json;
use support::{DepositContract, ETHER, Key, Net, STAKE_GWEI, credentials, exit_json};

/// Nobody's address: what it has, the beacon chain paid.
const PAYEE: Address = Address::repeat_byte(0x77);

/// Deposits this much for a key, in a block of its own.
async fn deposit(net: &Net, key: &Key, credentials: [u8; 32], gwei: u64) {
    let contract = DepositContract::new(net.config.deposit_contract, net.provider(&net.owner));
    let data = key.deposit(&net.config, credentials, gwei);
    let call = contract.deposit(
        data.message.pubkey.0.to_vec().into(),
        credentials.to_vec().into(),
        data.signature.0.to_vec().into(),
        data.hash_tree_root().0.into(),
    );
    net.mined(call.value(U256::from(gwei) * U256::from(1_000_000_000))).await;
}

/// Makes slots until the validator has this status.
async fn until(net: &Net, validator: &str, status: &str) {
    for _ in 0..100 {
        if net.status(validator).await == status {
            return;
        }
        net.devnet.advance(1);
    }
    panic!("validator {validator} is {} and never {status}", net.status(validator).await);
}

async fn leave(net: &Net, key: &Key, validator: u64) {
    let (path, exit) = ("/eth/v1/beacon/pool/voluntary_exits", key.exit(net, 0, validator));
    assert_eq!(net.post_beacon(path, &exit_json(&exit)).await.0, 200);
    net.devnet.advance(1);
}

/// Brings validators that were just deposited to the epoch from which on they may leave.
async fn grow_up(net: &Net, validator: &str) {
    until(net, validator, "active_ongoing").await;
    net.advance_epochs(net.config.shard_committee_period);
}

async fn balance(net: &Net, validator: &str) -> String {
    let (_, answer) = net.beacon(&format!("/eth/v1/beacon/states/head/validators/{validator}")).await;
    answer["data"]["balance"].as_str().unwrap().to_owned()
}

async fn ether_of(net: &Net, address: Address, block: BlockId) -> U256 {
    net.provider(&net.owner).get_balance(address).block_id(block).await.unwrap()
}

/// Every withdrawal so far, with the number of its block. Checks each block's commitment to them.
async fn withdrawals(net: &Net) -> Vec<(u64, Withdrawal)> {
    let provider = net.provider(&net.owner);
    let mut all = Vec::new();
    for number in 0..=net.devnet.slot() {
        let block = provider.get_block_by_number(number.into()).await.unwrap().unwrap();
        assert_eq!(block.header.inner.hash_slow(), block.header.hash);
        let withdrawals = block.withdrawals.unwrap();
        let root = block.header.inner.withdrawals_root.unwrap();
        assert_eq!(root, calculate_withdrawals_root(&withdrawals));
        assert_eq!(root == EMPTY_WITHDRAWALS, withdrawals.is_empty());
        all.extend(withdrawals.iter().map(|withdrawal| (number, *withdrawal)));
    }
    all
}

#[tokio::test]
async fn a_validator_that_has_left_is_paid_in_full_without_a_transaction() {
    let net = Net::start().await;
    let key = Key::new(1);
    deposit(&net, &key, credentials(PAYEE), STAKE_GWEI).await;
    grow_up(&net, "16").await;
    leave(&net, &key, 16).await;
    until(&net, "16", "exited_unslashed").await;
    assert_eq!(balance(&net, "16").await, "32000000000");
    assert_eq!(withdrawals(&net).await, []);
    let (_, answer) = net.beacon("/eth/v1/beacon/states/head/validators/16").await;
    let withdrawable = answer["data"]["validator"]["withdrawable_epoch"].as_str().unwrap();
    let withdrawable = withdrawable.parse::<u64>().unwrap() * net.config.slots_per_epoch;

    until(&net, "16", "withdrawal_done").await;
    assert_eq!(balance(&net, "16").await, "0");
    let paid = withdrawals(&net).await;
    let expected = Withdrawal { index: 0, validator_index: 16, address: PAYEE, amount: STAKE_GWEI };
    let [(number, withdrawal)] = paid[..] else { panic!("{paid:?}") };
    assert_eq!(withdrawal, expected);
    // 17 validators, of which a block visits 16.
    assert!((withdrawable..withdrawable + 2).contains(&number), "{number} {withdrawable}");

    // The ether is there from that block on, and nothing else in the block tells of it.
    assert_eq!(ether_of(&net, PAYEE, (number - 1).into()).await, U256::ZERO);
    assert_eq!(ether_of(&net, PAYEE, number.into()).await, U256::from(32 * ETHER));
    let block =
        net.rpc("eth_getBlockByNumber", json!([format!("{number:#x}"), true])).await["result"].clone();
    assert_eq!(block["transactions"], json!([]));
    assert_eq!(
        block["withdrawals"],
        json!([{ "index": "0x0", "validatorIndex": "0x10", "address": PAYEE, "amount": "0x773594000" }])
    );
    let filter = json!([{ "address": PAYEE, "fromBlock": "0x0", "toBlock": "latest" }]);
    assert_eq!(net.rpc("eth_getLogs", filter).await["result"], json!([]));
    let parent = net.rpc("eth_getBlockByNumber", json!([format!("{:#x}", number - 1), false])).await;
    assert_ne!(block["stateRoot"], parent["result"]["stateRoot"]);

    // More balance for a validator that is gone comes back too.
    deposit(&net, &key, credentials(PAYEE), 1_000_000_000).await;
    net.advance_epochs(5);
    assert_eq!(net.status("16").await, "withdrawal_done");
    let paid: Vec<_> = withdrawals(&net).await.iter().map(|(_, paid)| (paid.index, paid.amount)).collect();
    assert_eq!(paid, [(0, STAKE_GWEI), (1, 1_000_000_000)]);
    assert_eq!(ether_of(&net, PAYEE, BlockId::latest()).await, U256::from(33 * ETHER));
    let spec = net.beacon("/eth/v1/config/spec").await.1["data"].clone();
    assert_eq!(spec["MAX_WITHDRAWALS_PER_PAYLOAD"], "4");
    assert_eq!(spec["MAX_VALIDATORS_PER_WITHDRAWALS_SWEEP"], "16");
}

#[tokio::test]
async fn what_a_validator_on_duty_has_above_its_stake_is_paid_and_it_stays_on_duty() {
    let net = Net::start().await;
    let key = Key(genesis_key(5));
    deposit(&net, &key, [9; 32], 3_000_000_000).await;
    net.advance_epochs(6);
    assert_eq!(net.status("5").await, "active_ongoing");
    assert_eq!(balance(&net, "5").await, "32000000000");
    // To the address in the validator's credentials, whatever those of the second deposit were.
    let mut own = [0; 20];
    own[19] = 5;
    let expected =
        Withdrawal { index: 0, validator_index: 5, address: Address::from(own), amount: 3_000_000_000 };
    let paid = withdrawals(&net).await;
    assert_eq!(paid.iter().map(|(_, withdrawal)| *withdrawal).collect::<Vec<_>>(), [expected]);
    assert_eq!(ether_of(&net, Address::from(own), BlockId::latest()).await, U256::from(3 * ETHER));
}

#[tokio::test]
async fn a_validator_without_a_withdrawal_address_is_not_paid() {
    let net = Net::start().await;
    let (bls, mut unusable) = (Key::new(1), credentials(PAYEE));
    unusable[0] = 0;
    deposit(&net, &bls, unusable, STAKE_GWEI + 1_000_000_000).await;
    grow_up(&net, "16").await;
    assert_eq!(balance(&net, "16").await, "33000000000");
    leave(&net, &bls, 16).await;
    until(&net, "16", "withdrawal_possible").await;
    net.advance_epochs(4);
    assert_eq!(net.status("16").await, "withdrawal_possible");
    assert_eq!(balance(&net, "16").await, "33000000000");
    assert_eq!(withdrawals(&net).await, []);
    assert_eq!(ether_of(&net, PAYEE, BlockId::latest()).await, U256::ZERO);
}

#[tokio::test]
async fn two_validators_of_one_address_are_both_paid_in_one_block() {
    let everybody = Config { max_validators_per_withdrawals_sweep: 18, ..Config::default() };
    let net = Net::start_with(Config { clock: Clock::Manual, ..everybody }).await;
    let keys = [Key::new(1), Key::new(2)];
    for key in &keys {
        deposit(&net, key, credentials(PAYEE), STAKE_GWEI).await;
    }
    grow_up(&net, "17").await;
    for (key, index) in keys.iter().zip(16..) {
        let exit = exit_json(&key.exit(&net, 0, index));
        assert_eq!(net.post_beacon("/eth/v1/beacon/pool/voluntary_exits", &exit).await.0, 200);
    }
    until(&net, "17", "withdrawal_done").await;
    net.advance_epochs(1);
    let paid = withdrawals(&net).await;
    let [(first, one), (second, other)] = paid[..] else { panic!("{paid:?}") };
    assert_eq!((one.validator_index, other.validator_index, first), (16, 17, second));
    assert_eq!(ether_of(&net, PAYEE, BlockId::latest()).await, U256::from(64 * ETHER));
}
