//! Reorganisations: what is final stays, all else may come again, or not.

mod support;

use alloy::network::{EthereumWallet, NetworkTransactionBuilder as _, TransactionBuilder as _};
use alloy::primitives::{Address, Bytes, U256, keccak256};
use alloy::rpc::types::TransactionRequest;
use postern_devnet::beacon::chain::genesis_key;
use postern_devnet::{Leftover, Reorganised};
use serde_json::{Value, json};
use support::{Key, Net, exit_json};

const EXITS: &str = "/eth/v1/beacon/pool/voluntary_exits";

async fn transfer(net: &Net, nonce: u64) -> Bytes {
    use alloy::eips::Encodable2718 as _;
    let request = TransactionRequest::default()
        .with_chain_id(net.config.chain_id)
        .with_nonce(nonce)
        .with_to(Address::repeat_byte(0x42))
        .with_value(U256::from(1))
        .with_gas_limit(21_000)
        .with_max_fee_per_gas(10_000_000_000)
        .with_max_priority_fee_per_gas(1_000_000_000);
    request.build(&EthereumWallet::from(net.owner.clone())).await.unwrap().encoded_2718().into()
}

async fn call(net: &Net, method: &str, params: Value) -> Value {
    net.rpc(method, params).await["result"].clone()
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

#[tokio::test]
async fn transactions_of_the_branch_that_is_left_wait_again_or_are_lost() {
    let net = Net::start().await;
    net.advance_epochs(4);
    let raw = [transfer(&net, 0).await, transfer(&net, 1).await];
    for raw in &raw {
        assert!(call(&net, "eth_sendRawTransaction", json!([raw])).await.is_string());
    }
    net.devnet.advance(2);
    let hashes = raw.each_ref().map(|raw| keccak256(raw).to_string());
    let receipt = async |place: usize| call(&net, "eth_getTransactionReceipt", json!([hashes[place]])).await;
    let mined = receipt(0).await["blockHash"].clone();
    let finalised = async || call(&net, "eth_getBlockByNumber", json!(["finalized", false])).await;
    let (head, before) = (net.devnet.slot(), finalised().await);

    // One that was lost is the other's predecessor.
    let owner = net.owner.address();
    let lost = hashes[0].clone();
    let done = net.devnet.reorganise(3, |leftover| match leftover {
        Leftover::Transaction { sender, hash } => {
            assert_eq!(*sender, owner);
            hash.to_string() == lost
        }
        Leftover::Exit { .. } => panic!("there was none"),
    });
    assert_eq!(done, Reorganised { depth: 3, returned: 1, lost: 1 });
    assert_eq!(net.devnet.slot(), head + 1, "the branch is longer");
    assert_eq!(call(&net, "eth_getBlockByHash", json!([mined, false])).await, Value::Null);
    for place in 0..2 {
        assert_eq!(receipt(place).await, Value::Null);
    }
    let known = async |place: usize| call(&net, "eth_getTransactionByHash", json!([hashes[place]])).await;
    assert_eq!(known(0).await, Value::Null);
    assert_eq!(known(1).await["blockHash"], Value::Null);
    assert!(known(1).await.is_object());
    assert_eq!(call(&net, "eth_getTransactionCount", json!([owner, "latest"])).await, "0x0");

    // It waits for the one before it, which its sender tells the node again.
    net.devnet.advance(1);
    assert_eq!(receipt(1).await, Value::Null);
    call(&net, "eth_sendRawTransaction", json!([raw[0]])).await;
    net.devnet.advance(1);
    assert_eq!(receipt(0).await["blockHash"], receipt(1).await["blockHash"]);
    assert_ne!(receipt(0).await["blockHash"], mined);
    // What was final is.
    let number_before = before["number"].clone();
    assert_eq!(
        call(&net, "eth_getBlockByNumber", json!([number_before, false])).await["hash"],
        before["hash"]
    );
    assert!(number(&finalised().await["number"]) >= number(&before["number"]));
}

#[tokio::test]
async fn an_exit_of_the_branch_that_is_left_waits_again_or_is_lost() {
    let net = Net::start().await;
    net.advance_epochs(3);
    let exit = Key(genesis_key(0)).exit(&net, 0, 0);
    for lost in [false, true] {
        assert_eq!(net.post_beacon(EXITS, &exit_json(&exit)).await.0, 200);
        net.devnet.advance(1);
        assert_eq!(net.status("0").await, "active_exiting");
        let done = net.devnet.reorganise(1, |leftover| {
            assert_eq!(*leftover, Leftover::Exit { validator: 0 });
            lost
        });
        assert_eq!((done.lost, done.returned), (lost.into(), (!lost).into()));
        assert_eq!(net.status("0").await, "active_ongoing");
        net.devnet.advance(1);
        let expected = if lost { "active_ongoing" } else { "active_exiting" };
        assert_eq!(net.status("0").await, expected);
        // Left again, for the next round.
        net.devnet.reorganise(1, |_| true);
    }
}

#[tokio::test]
async fn nothing_that_is_final_is_ever_left() {
    let net = Net::start().await;
    net.advance_epochs(6);
    for _ in 0..10 {
        let (head, block) =
            (net.devnet.slot(), call(&net, "eth_getBlockByNumber", json!(["finalized", false])).await);
        let root = async |slot: u64| {
            net.beacon(&format!("/eth/v1/beacon/blocks/{slot}/root")).await.1["data"].clone()
        };
        let finalised = number(&block["number"]);
        let (root_before, next_before) = (root(finalised).await, root(finalised + 1).await);
        let done = net.devnet.reorganise(u64::MAX, |_| false);
        assert_eq!(done.depth, head - finalised, "all that is not final");
        assert_eq!(root(finalised).await, root_before);
        assert_ne!(root(finalised + 1).await, next_before);
        let now = call(&net, "eth_getBlockByNumber", json!(["finalized", false])).await;
        assert!(number(&now["number"]) >= finalised);
        net.devnet.advance(1);
    }
}
