//! The execution node: blocks, logs, fees and the errors of real nodes.

mod support;

use alloy::consensus::BlockHeader as _;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::network::{EthereumWallet, NetworkTransactionBuilder as _, TransactionBuilder as _};
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::providers::Provider as _;
use alloy::rpc::types::{Filter, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolEvent as _;
use postern_devnet::{Clock, Config};
use serde_json::json;
use std::time::Duration;
use support::{ETHER, Net, PoolManager};

async fn raw(net: &Net, signer: &PrivateKeySigner, change: impl FnOnce(&mut TransactionRequest)) -> Bytes {
    use alloy::eips::Encodable2718 as _;
    let mut request = TransactionRequest::default()
        .with_chain_id(net.config.chain_id)
        .with_nonce(0)
        .with_to(Address::repeat_byte(0x42))
        .with_value(U256::from(1))
        .with_gas_limit(21_000)
        .with_max_fee_per_gas(10_000_000_000)
        .with_max_priority_fee_per_gas(1_000_000_000);
    change(&mut request);
    request.build(&EthereumWallet::from(signer.clone())).await.unwrap().encoded_2718().into()
}

#[tokio::test]
async fn refused_transactions_get_the_texts_of_real_nodes() {
    let net = Net::start().await;
    let send = async |raw: Bytes| net.rpc("eth_sendRawTransaction", json!([raw])).await;
    let refused = async |raw: Bytes, text: &str| {
        let answer = send(raw).await;
        assert_eq!(answer["error"]["code"], -32000, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.starts_with(text), "{message}");
    };
    let owner = &net.owner;
    let first = raw(&net, owner, |_| {}).await;
    assert!(send(first.clone()).await["result"].is_string());
    refused(first, "already known").await;
    let other = |request: &mut TransactionRequest| request.value = Some(U256::from(2));
    refused(raw(&net, owner, other).await, "replacement transaction underpriced").await;
    let better = raw(&net, owner, |request| {
        request.max_fee_per_gas = Some(11_000_000_000);
        request.max_priority_fee_per_gas = Some(1_100_000_000);
    });
    assert!(send(better.await).await["result"].is_string());
    let pending = net.rpc("eth_getTransactionCount", json!([owner.address(), "pending"])).await;
    assert_eq!(pending["result"], "0x1");

    net.devnet.advance(1);
    refused(raw(&net, owner, |_| {}).await, "nonce too low: next nonce 1, tx nonce 0").await;
    let poor = PrivateKeySigner::random();
    refused(raw(&net, &poor, |_| {}).await, "insufficient funds for gas * price + value").await;
    let next = |change: fn(&mut TransactionRequest)| {
        raw(&net, owner, move |request| {
            request.nonce = Some(1);
            change(request);
        })
    };
    refused(next(|request| request.gas = Some(20_000)).await, "intrinsic gas too low").await;
    refused(next(|request| request.gas = Some(40_000_000)).await, "exceeds block gas limit").await;
    refused(next(|request| request.chain_id = Some(1)).await, "invalid chain id for signer").await;
    refused(Bytes::from_static(&[1, 2, 3]), "rlp: ").await;

    // A transaction with a gap before it waits.
    let late = raw(&net, owner, |request| request.nonce = Some(2)).await;
    let hash = send(late).await["result"].clone();
    net.devnet.advance(1);
    assert!(net.rpc("eth_getTransactionByHash", json!([hash])).await["result"]["blockNumber"].is_null());
    assert!(send(raw(&net, owner, |request| request.nonce = Some(1)).await).await["result"].is_string());
    net.devnet.advance(1);
    assert_eq!(net.rpc("eth_getTransactionReceipt", json!([hash])).await["result"]["status"], "0x1");
}

#[tokio::test]
async fn blocks_decode_and_hash_to_their_hash() {
    let net = Net::start().await;
    let provider = net.provider(&net.owner);
    assert_eq!(provider.get_chain_id().await.unwrap(), net.config.chain_id);
    let transfer =
        TransactionRequest::default().with_to(net.stranger.address()).with_value(U256::from(ETHER));
    let pending = provider.send_transaction(transfer).await.unwrap();
    net.devnet.advance(1);
    let receipt = pending.get_receipt().await.unwrap();
    assert_eq!((receipt.status(), receipt.gas_used, receipt.block_number), (true, 21_000, Some(1)));
    assert_eq!(provider.get_balance(net.stranger.address()).await.unwrap(), U256::from(101 * ETHER));
    let before = provider.get_balance(net.stranger.address()).block_id(BlockId::earliest()).await.unwrap();
    assert_eq!(before, U256::from(100 * ETHER));

    net.devnet.advance(3);
    for number in 0..=4u64 {
        let block = provider.get_block_by_number(number.into()).full().await.unwrap().unwrap();
        assert_eq!(block.header.inner.hash_slow(), block.header.hash);
        assert_eq!(block.transactions.len(), usize::from(number == 1));
        let same = provider.get_block_by_hash(block.header.hash).await.unwrap().unwrap();
        assert_eq!(same.header, block.header);
        if number > 0 {
            let parent = provider.get_block_by_number((number - 1).into()).await.unwrap().unwrap();
            assert_eq!(block.header.parent_hash(), parent.header.hash);
        }
    }
    assert!(provider.get_block_by_number(5.into()).await.unwrap().is_none());
    let fees = provider.estimate_eip1559_fees().await.unwrap();
    assert!(fees.max_fee_per_gas > fees.max_priority_fee_per_gas);
    let history = provider.get_fee_history(2, BlockNumberOrTag::Latest, &[50.0]).await.unwrap();
    assert_eq!((history.base_fee_per_gas.len(), history.oldest_block), (3, 3));
}

#[tokio::test]
async fn logs_can_be_asked_for_by_block_address_and_topic() {
    let net = Net::start().await;
    let (manager, _) = net.deploy_manager().await;
    let provider = net.provider(&net.owner);
    let _pending = manager.stake().value(U256::from(65 * ETHER)).send().await.unwrap();
    net.devnet.advance(1);
    let requested = PoolManager::PoolDepositRequested::SIGNATURE_HASH;
    let staked = PoolManager::Staked::SIGNATURE_HASH;
    let count = async |filter: Filter| provider.get_logs(&filter).await.unwrap().len();

    let all = Filter::new().from_block(0).address(*manager.address());
    // The governor, three enclaves and the epoch; three contributions, two pools and the stake.
    assert_eq!(count(all.clone()).await, 11);
    assert_eq!(count(all.clone().event_signature(requested)).await, 2);
    assert_eq!(count(all.clone().event_signature(vec![requested, staked])).await, 3);
    let staker = net.owner.address().into_word();
    assert_eq!(count(all.clone().topic1(staker)).await, 1);
    assert_eq!(count(all.clone().topic1(B256::ZERO)).await, 1);
    let strangers = vec![Address::repeat_byte(1), *manager.address()];
    assert_eq!(count(Filter::new().from_block(3).to_block(3).address(strangers)).await, 6);
    let head = provider.get_block_by_number(3.into()).await.unwrap().unwrap().header.hash;
    let logs =
        provider.get_logs(&Filter::new().at_block_hash(head).event_signature(requested)).await.unwrap();
    assert_eq!(logs.iter().map(|log| log.log_index.unwrap()).collect::<Vec<_>>(), [1, 3]);

    // What is not final is not in the finalised range; genesis is final from the start.
    let finalized = all.clone().to_block(BlockNumberOrTag::Finalized);
    assert_eq!(count(finalized.clone()).await, 0);
    let genesis = provider.get_block_by_number(BlockNumberOrTag::Finalized).await.unwrap().unwrap();
    assert_eq!(genesis.header.number, 0);
    net.advance_epochs(4);
    assert_eq!(count(finalized).await, 11);
    let number = async |tag| provider.get_block_by_number(tag).await.unwrap().unwrap().header.number;
    assert_eq!(number(BlockNumberOrTag::Latest).await, 19);
    assert_eq!(number(BlockNumberOrTag::Safe).await, 12);
    assert_eq!(number(BlockNumberOrTag::Finalized).await, 8);

    let answer = net.rpc("eth_getLogs", json!([{ "fromBlock": "0x5", "toBlock": "0x3" }])).await;
    assert_eq!(answer["error"]["code"], -32000);
    let answer = net.rpc("eth_getLogs", json!([{ "blockHash": keccak256("nothing") }])).await;
    assert_eq!(answer["error"]["message"], "unknown block");
    assert_eq!(net.rpc("eth_getLogs", json!([{ "fromBlock": "0xffff" }])).await["result"], json!([]));
}

#[tokio::test]
async fn requests_that_are_none_get_an_answer_too() {
    let net = Net::start().await;
    let code = |answer: serde_json::Value| answer["error"]["code"].clone();
    assert_eq!(code(net.rpc("eth_mining", json!([])).await), -32601);
    assert_eq!(code(net.rpc("eth_getBalance", json!([])).await), -32602);
    assert_eq!(code(net.rpc("eth_getBalance", json!(["nobody"])).await), -32602);
    assert_eq!(code(net.rpc("eth_getBalance", json!([Address::ZERO, "0x99"])).await), -32000);
    assert_eq!(code(net.rpc("eth_call", json!([{}, "latest", { "0x00": {} }])).await), -32602);
    assert_eq!(code(net.rpc_body("{".into()).await), -32700);
    assert_eq!(code(net.rpc_body("[]".into()).await), -32600);
    assert_eq!(code(net.rpc_body("7".into()).await), -32600);
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" },
        { "jsonrpc": "2.0", "method": "eth_chainId" },
        { "jsonrpc": "2.0", "id": "two", "method": "nonsense", "params": [] },
    ]);
    let answers = net.rpc_body(batch.to_string()).await;
    assert_eq!(answers.as_array().unwrap().len(), 2);
    assert_eq!((&answers[0]["result"], &answers[1]["id"]), (&json!("0x1142c"), &json!("two")));
}

#[tokio::test]
async fn a_failing_transaction_is_mined_and_says_so() {
    let net = Net::start().await;
    let (manager, _) = net.deploy_manager().await;
    // Gas given by hand: an estimate would refuse it.
    let stranger = net.as_stranger(&manager);
    let pending =
        stranger.requestPoolExits(vec![1], "because".into(), Bytes::new()).gas(200_000).send().await.unwrap();
    net.devnet.advance(1);
    let receipt = pending.get_receipt().await.unwrap();
    assert!(!receipt.status());
    assert!(receipt.inner.logs().is_empty());
}

#[tokio::test]
async fn the_clock_makes_blocks_by_itself() {
    let config = Config { clock: Clock::Interval, slot: Duration::from_millis(20), ..Config::default() };
    let net = Net::start_with(config).await;
    let provider = net.provider(&net.owner);
    let transfer = TransactionRequest::default().with_to(net.stranger.address()).with_value(U256::from(1));
    let receipt = provider.send_transaction(transfer).await.unwrap().get_receipt().await.unwrap();
    assert!(receipt.status());
    net.devnet.shutdown().await;
}

#[tokio::test]
async fn the_precompiles_of_prague_are_there() {
    let net = Net::start().await;
    // EIP-2537: the sum of two points at infinity in G1 and in G2.
    for (precompile, input, output) in [(0x0b, 256, 128), (0x0d, 512, 256)] {
        let address = Address::with_last_byte(precompile);
        let call = json!([{ "to": address, "data": Bytes::from(vec![0; input]) }, "latest"]);
        assert_eq!(net.rpc("eth_call", call).await["result"], json!(Bytes::from(vec![0; output])));
    }
}
