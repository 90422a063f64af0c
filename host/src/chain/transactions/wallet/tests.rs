use super::*;
use crate::chain::test_server::{TestAnswer, TestServer};
use alloy::consensus::TxLegacy;
use alloy::eips::eip2930::{AccessList, AccessListItem};
use alloy::primitives::{Signature, TxKind, U256};

const KEY: [u8; 32] = [0x11; 32];

fn signer(key: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::from([key; 32])).unwrap()
}

fn asked() -> TxEip1559 {
    TxEip1559 {
        chain_id: 7,
        nonce: 4,
        gas_limit: 90_000,
        max_fee_per_gas: 30,
        max_priority_fee_per_gas: 2,
        to: TxKind::Call(AlloyAddress::repeat_byte(3)),
        value: U256::ZERO,
        access_list: AccessList::default(),
        input: vec![1, 2, 3].into(),
    }
}

fn signed(mut transaction: TxEip1559, key: u8) -> Vec<u8> {
    let signature = signer(key).sign_transaction_sync(&mut transaction).unwrap();
    TxEnvelope::from(transaction.into_signed(signature)).encoded_2718()
}

fn edited(edit: impl FnOnce(&mut TxEip1559)) -> Vec<u8> {
    let mut transaction = asked();
    edit(&mut transaction);
    signed(transaction, KEY[0])
}

fn legacy() -> Vec<u8> {
    let mut transaction = TxLegacy { chain_id: Some(7), nonce: 4, gas_price: 30, ..TxLegacy::default() };
    let signature = signer(KEY[0]).sign_transaction_sync(&mut transaction).unwrap();
    TxEnvelope::from(transaction.into_signed(signature)).encoded_2718()
}

/// The other value that the same signature can have, which nodes refuse.
fn high_s() -> Vec<u8> {
    let mut transaction = asked();
    let signature = signer(KEY[0]).sign_transaction_sync(&mut transaction).unwrap();
    let order = U256::from_str_radix("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16);
    let high = Signature::new(signature.r(), order.unwrap() - signature.s(), !signature.v());
    TxEnvelope::from(transaction.into_signed(high)).encoded_2718()
}

async fn answered(body: serde_json::Value) -> Result<TxEnvelope, SigningError> {
    let server = TestServer::start(move |_| (200, body.to_string())).await;
    let wallet = Address(signer(KEY[0]).address().into_array());
    Wallet::Remote(RemoteSigner::new(&server.url, wallet).unwrap()).sign(asked()).await
}

fn result(value: impl serde::Serialize) -> serde_json::Value {
    json!({"jsonrpc": "2.0", "id": 0, "result": value})
}

#[tokio::test]
async fn what_a_remote_signer_signs_is_what_the_key_would_have_signed() {
    let local = Wallet::local(&KEY).unwrap().sign(asked()).await.unwrap();
    let raw = Bytes::from(signed(asked(), KEY[0]));
    assert_eq!(answered(result(&raw)).await.unwrap(), local);
    assert_eq!(answered(result(json!({"raw": raw, "tx": {}}))).await.unwrap(), local);
}

#[tokio::test]
async fn each_lie_of_a_remote_signer_is_refused_by_name() {
    let wallet = Address(signer(KEY[0]).address().into_array());
    let access = AccessListItem { address: AlloyAddress::ZERO, storage_keys: vec![] };
    let other = |field: &str| {
        format!("the remote signer signed another transaction than it was asked to: `{field}` is another")
    };
    let unreadable = |why: &str| format!("the remote signer's answer is no EIP-1559 transaction: {why}");
    let signature = format!("the remote signer's signature is not one of {wallet} that nodes take");
    let mut longer = signed(asked(), KEY[0]);
    longer.push(0);
    for (raw, said) in [
        (edited(|asked| asked.chain_id = 1), other("chainId")),
        (edited(|asked| asked.nonce = 5), other("nonce")),
        (edited(|asked| asked.gas_limit = 91_000), other("gas")),
        (edited(|asked| asked.max_fee_per_gas = 31), other("maxFeePerGas")),
        (edited(|asked| asked.max_priority_fee_per_gas = 3), other("maxPriorityFeePerGas")),
        (edited(|asked| asked.to = TxKind::Call(AlloyAddress::ZERO)), other("to")),
        (edited(|asked| asked.to = TxKind::Create), other("to")),
        (edited(|asked| asked.value = U256::from(1)), other("value")),
        (edited(|asked| asked.access_list = AccessList(vec![access])), other("accessList")),
        (edited(|asked| asked.input = vec![1, 2].into()), other("data")),
        (signed(asked(), 0x22), signature.clone()),
        (high_s(), signature),
        (legacy(), unreadable("another type")),
        (longer, unreadable("more bytes than it needs")),
        (vec![2, 0xc0], unreadable("not decoded")),
        (vec![], unreadable("not decoded")),
    ] {
        let error = answered(result(Bytes::from(raw))).await.unwrap_err();
        assert_eq!(error.to_string(), said);
    }
}

#[tokio::test]
async fn what_is_no_answer_is_no_signature() {
    for body in [
        json!({"jsonrpc": "2.0", "id": 0, "error": {"code": -32000, "message": "no such key"}}),
        result(5),
        json!("?"),
    ] {
        let error = answered(body).await.unwrap_err();
        assert!(matches!(error, SigningError::Remote { request: "eth_signTransaction", .. }), "{error}");
    }
}

#[tokio::test]
async fn no_more_is_read_of_a_signer_than_it_can_have_to_say() {
    let error = answered(result("0".repeat(MAX_ANSWER))).await.unwrap_err();
    let said = "the remote signer, eth_signTransaction: an answer of more than 1048576 bytes";
    assert_eq!(error.to_string(), said);
}

#[tokio::test]
async fn a_signer_that_failed_is_let_be_for_a_while() {
    let server = TestServer::start(|_| (500, "")).await;
    let remote = RemoteSigner::new(&server.url, Address([1; 20])).unwrap();
    assert!(matches!(remote.sign(asked()).await, Err(SigningError::Remote { .. })));
    assert!(matches!(remote.sign(asked()).await, Err(SigningError::Resting)));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_signer_that_hangs_has_a_time_out() {
    let hangs = TestAnswer { delay: Duration::from_secs(60), ..TestAnswer::from((200, "")) };
    let server = TestServer::start(move |_| hangs.clone()).await;
    let timeout = Duration::from_millis(100);
    let remote = RemoteSigner::with_timeout(&server.url, Address([1; 20]), timeout).unwrap();
    let error = remote.sign(asked()).await.unwrap_err();
    assert_eq!(error.to_string(), "the remote signer, eth_signTransaction: no answer in time");
}

#[tokio::test]
async fn a_signer_without_the_key_is_found_out() {
    let own = AlloyAddress::repeat_byte(1);
    for (held, is_good) in [(vec![own], true), (vec![AlloyAddress::ZERO], false), (vec![], false)] {
        let body = result(&held).to_string();
        let server = TestServer::start(move |_| (200, body.clone())).await;
        let remote = RemoteSigner::new(&server.url, Address([1; 20])).unwrap();
        assert_eq!(remote.check().await.is_ok(), is_good, "{held:?}");
    }
}

#[test]
fn an_url_is_refused_without_being_repeated() {
    for url in ["ws://user:secret@signer/", "secret"] {
        let error = RemoteSigner::new(url, Address([1; 20])).err().unwrap().to_string();
        assert!(error.starts_with("the remote signer's URL: ") && !error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn what_a_signer_repeats_of_its_url_is_not_shown() {
    let server = TestServer::start(|request| (404, format!("no page {}", request.path))).await;
    let remote = RemoteSigner::new(&format!("{}/SECRETKEY", server.url), Address([1; 20])).unwrap();
    let errors = [remote.check().await.unwrap_err(), remote.sign(asked()).await.unwrap_err()];
    for error in errors.map(|error| error.to_string()) {
        assert!(error.contains("no page") && !error.contains("SECRET"), "{error}");
    }
}
