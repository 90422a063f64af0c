//! The proxy that lies: it tells every lie that it has, and the truth without any.

mod support;

use alloy::primitives::hex;
use postern_devnet::liar::{BeaconLie, ExecutionLie, Liar, Lie};
use serde_json::{Value, json};
use std::time::Duration;
use support::Net;

const NODE: &str = "one";

struct Scene {
    net: Net,
    liar: Liar,
    client: reqwest::Client,
}

impl Scene {
    async fn new() -> Self {
        let net = Net::start().await;
        net.deploy_manager().await;
        net.advance_epochs(4);
        let liar = Liar::start(&net.devnet.execution_url(), &net.devnet.beacon_url()).await.unwrap();
        Self { net, liar, client: reqwest::Client::new() }
    }

    /// The result or the error of a call.
    async fn call(&self, method: &str, params: &Value) -> Value {
        let call = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        let answer = self.client.post(self.liar.url(NODE)).json(&call).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["id"], 7);
        if answer["error"].is_object() { answer["error"].clone() } else { answer["result"].clone() }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.client.get(format!("{}{path}", self.liar.url(NODE))).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.liar.url(NODE))).json(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }
}

#[tokio::test]
async fn an_execution_node_lies_in_every_way() {
    let scene = Scene::new().await;
    let head = scene.net.rpc("eth_blockNumber", json!([])).await["result"].clone();
    let head = u64::from_str_radix(&head.as_str().unwrap()[2..], 16).unwrap();
    let hex = |number: u64| json!(format!("{number:#x}"));
    let all_logs = json!([{ "fromBlock": "0x0", "toBlock": hex(head) }]);
    let logs = scene.call("eth_getLogs", &all_logs).await;
    let topic_of = |log: &Value| log["topics"][0].as_str().unwrap().to_owned();
    let topic = topic_of(&logs[0]);
    let others = logs.as_array().unwrap().iter().filter(|log| topic_of(log) != topic).count();
    let topic: [u8; 32] = hex::decode(topic).unwrap().try_into().unwrap();
    let any_hash = json!([format!("0x{}", "ab".repeat(32))]);
    let newest = scene.call("eth_getBlockByNumber", &json!([hex(head), false])).await["hash"].clone();
    let account = json!([scene.net.owner.address(), "latest"]);
    type Seen = fn(&Value) -> Value;
    let whole: Seen = Value::clone;
    let length: Seen = |logs| json!(logs.as_array().map_or(usize::MAX, Vec::len));
    let first_block: Seen = |logs| logs[0]["blockHash"].clone();
    let table: [(ExecutionLie, &str, Value, Seen, Value); 25] = [
        (ExecutionLie::NoLogs, "eth_getLogs", all_logs.clone(), length, json!(0)),
        (ExecutionLie::LogsWithout(topic), "eth_getLogs", all_logs.clone(), length, json!(others)),
        (
            ExecutionLie::LogsOfFork,
            "eth_getLogs",
            all_logs.clone(),
            first_block,
            json!(format!("0x{}", "f0".repeat(32))),
        ),
        (
            ExecutionLie::ForgedLog(json!("forged")),
            "eth_getLogs",
            all_logs.clone(),
            |logs| logs.as_array().unwrap().last().unwrap().clone(),
            json!("forged"),
        ),
        (
            ExecutionLie::MalformedLogs,
            "eth_getLogs",
            all_logs.clone(),
            |logs| json!(logs[0]["topics"].as_array().unwrap().len()),
            json!(1),
        ),
        (
            ExecutionLie::RangeLimit(5),
            "eth_getLogs",
            all_logs.clone(),
            |error| error["code"].clone(),
            json!(-32602),
        ),
        (
            ExecutionLie::RangeLimit(head + 1),
            "eth_getLogs",
            all_logs.clone(),
            |logs| json!(logs.is_array()),
            json!(true),
        ),
        (ExecutionLie::Behind(3), "eth_blockNumber", json!([]), whole, hex(head - 3)),
        (ExecutionLie::Behind(3), "eth_getBlockByNumber", json!([hex(head), false]), whole, Value::Null),
        (ExecutionLie::Behind(3), "eth_getBlockByHash", json!([newest, false]), whole, Value::Null),
        (ExecutionLie::Behind(head), "eth_getLogs", all_logs.clone(), length, json!(0)),
        (ExecutionLie::MixedBackends(head), "eth_getLogs", all_logs.clone(), length, json!(0)),
        (ExecutionLie::MixedBackends(3), "eth_blockNumber", json!([]), whole, hex(head)),
        (ExecutionLie::WrongChain(9), "eth_chainId", json!([]), whole, json!("0x9")),
        (
            ExecutionLie::OtherBlocks,
            "eth_getBlockByNumber",
            json!(["finalized", false]),
            |block| block["hash"].clone(),
            json!(format!("0x{}", "f1".repeat(32))),
        ),
        (
            ExecutionLie::NoFinalised,
            "eth_getBlockByNumber",
            json!(["finalized", false]),
            |error| error["code"].clone(),
            json!(-39001),
        ),
        (
            ExecutionLie::Estimate(60_000),
            "eth_estimateGas",
            json!([{ "to": scene.net.owner.address() }]),
            whole,
            hex(60_000),
        ),
        (
            ExecutionLie::SendSays(-32000, "no"),
            "eth_sendRawTransaction",
            json!(["0x00"]),
            |error| error["message"].clone(),
            json!("no"),
        ),
        (
            ExecutionLie::SwallowSend,
            "eth_sendRawTransaction",
            json!(["0x00"]),
            |hash| json!(hash.as_str().map(str::len)),
            json!(66),
        ),
        (
            ExecutionLie::FakeReceipt(true),
            "eth_getTransactionReceipt",
            any_hash.clone(),
            |receipt| receipt["status"].clone(),
            json!("0x1"),
        ),
        (
            ExecutionLie::FakeReceiptAtHead(true),
            "eth_getTransactionReceipt",
            any_hash.clone(),
            |receipt| receipt["blockNumber"].clone(),
            hex(head),
        ),
        (
            ExecutionLie::FinalBehind(head),
            "eth_getBlockByNumber",
            json!(["finalized", false]),
            |block| block["number"].clone(),
            json!("0x0"),
        ),
        (ExecutionLie::LatestNonce(1_000), "eth_getTransactionCount", account.clone(), whole, hex(1_000)),
        (ExecutionLie::Nonce(1_000), "eth_getTransactionCount", account.clone(), whole, hex(1_000)),
        (
            ExecutionLie::NonceAhead(1_000),
            "eth_getTransactionCount",
            account,
            |nonce| json!(u64::from_str_radix(&nonce.as_str().unwrap()[2..], 16).unwrap() >= 1_000),
            json!(true),
        ),
    ];
    for (lie, method, params, seen, wanted) in table {
        scene.liar.set(NODE, []);
        let is_true = seen(&scene.call(method, &params).await) == wanted;
        assert!(
            !is_true || matches!(lie, ExecutionLie::RangeLimit(_) | ExecutionLie::MixedBackends(_)),
            "{lie:?}"
        );
        scene.liar.set(NODE, [Lie::Execution(lie.clone())]);
        assert_eq!(seen(&scene.call(method, &params).await), wanted, "{lie:?}");
    }
}

#[tokio::test]
async fn a_market_is_made_dearer_wherever_it_is_asked_for() {
    let scene = Scene::new().await;
    let history = json!(["0x2", "latest", [50]]);
    let fees = async || scene.call("eth_feeHistory", &history).await["baseFeePerGas"][0].clone();
    let block =
        async || scene.call("eth_getBlockByNumber", &json!(["latest", false])).await["baseFeePerGas"].clone();
    let parse = |value: &Value| u64::from_str_radix(&value.as_str().unwrap()[2..], 16).unwrap();
    let (honest, of_block) = (fees().await, block().await);
    scene.liar.set(NODE, [Lie::Execution(ExecutionLie::Market(10))]);
    assert_eq!(parse(&fees().await), 10 * parse(&honest));
    assert_eq!(parse(&block().await), 10 * parse(&of_block));
}

#[tokio::test]
async fn a_beacon_node_lies_in_every_way() {
    let scene = Scene::new().await;
    let (head, finalised) =
        ("/eth/v1/beacon/states/head/validators", "/eth/v1/beacon/states/finalized/validators");
    let syncing = "/eth/v1/node/syncing";
    let exits = "/eth/v1/beacon/pool/voluntary_exits";
    type Seen = fn(&(u16, Value)) -> Value;
    let status: Seen = |answer| json!(answer.0);
    let of_first: Seen = |answer| answer.1["data"][0]["status"].clone();
    let exit = json!({});
    // With a body where it is a POST.
    let table: [(BeaconLie, &str, Option<&Value>, Seen, Value); 16] = [
        (BeaconLie::StateNotFound, head, None, status, json!(404)),
        (
            BeaconLie::ValidatorNotFound,
            head,
            None,
            |answer| json!(answer.1["data"].as_array().unwrap().len()),
            json!(0),
        ),
        (BeaconLie::ValidatorNotFound, "/eth/v1/beacon/states/head/validators/0", None, status, json!(404)),
        (BeaconLie::Syncing, syncing, None, |answer| answer.1["data"]["is_syncing"].clone(), json!(true)),
        (
            BeaconLie::Optimistic,
            syncing,
            None,
            |answer| answer.1["data"]["is_optimistic"].clone(),
            json!(true),
        ),
        (BeaconLie::Optimistic, head, None, |answer| answer.1["execution_optimistic"].clone(), json!(true)),
        (BeaconLie::HeadSays("active_exiting"), head, None, of_first, json!("active_exiting")),
        (BeaconLie::FinalSays("withdrawal_done"), finalised, None, of_first, json!("withdrawal_done")),
        (BeaconLie::OtherIndex(1), head, None, |answer| answer.1["data"][0]["index"].clone(), json!("1")),
        (BeaconLie::NumberIndex, head, None, |answer| answer.1["data"][0]["index"].clone(), json!(0)),
        (
            BeaconLie::OtherCredentials,
            head,
            None,
            |answer| answer.1["data"][0]["validator"]["withdrawal_credentials"].clone(),
            json!(format!("0x01{}", "ee".repeat(31))),
        ),
        (
            BeaconLie::NoPendingDeposits,
            "/eth/v1/beacon/states/head/pending_deposits",
            None,
            status,
            json!(404),
        ),
        (BeaconLie::NoPost, head, Some(&exit), status, json!(405)),
        (
            BeaconLie::WrongNetwork,
            "/eth/v1/beacon/genesis",
            None,
            |answer| answer.1["data"]["genesis_validators_root"].clone(),
            json!(format!("0x{}", "dd".repeat(32))),
        ),
        (BeaconLie::SwallowExit, exits, Some(&exit), status, json!(200)),
        (
            BeaconLie::ExitSays(400, "never"),
            exits,
            Some(&exit),
            |answer| answer.1["message"].clone(),
            json!("never"),
        ),
    ];
    for (lie, path, body, seen, wanted) in table {
        let ask = async || match body {
            Some(body) => scene.post(path, body).await,
            None => scene.get(path).await,
        };
        scene.liar.set(NODE, []);
        assert_ne!(seen(&ask().await), wanted, "{lie:?}");
        scene.liar.set(NODE, [Lie::Beacon(lie.clone())]);
        assert_eq!(seen(&ask().await), wanted, "{lie:?}");
    }
    let slot = async || {
        let header = scene.get("/eth/v1/beacon/headers/head").await.1;
        header["data"]["header"]["message"]["slot"].as_str().unwrap().parse::<u64>().unwrap()
    };
    scene.liar.set(NODE, []);
    let honest = slot().await;
    scene.liar.set(NODE, [Lie::Beacon(BeaconLie::Behind(2))]);
    assert_eq!(slot().await, honest - 2 * scene.net.config.slots_per_epoch);
    assert_eq!(scene.get(head).await.0, 200);
}

#[tokio::test]
async fn a_node_can_be_of_no_use_at_all_and_others_are_as_honest_as_before() {
    let scene = Scene::new().await;
    let path = "/eth/v1/node/syncing";
    scene.liar.set(NODE, [Lie::HtmlNotFound]);
    assert_eq!(scene.get(path).await, (404, Value::Null));
    scene.liar.set(NODE, [Lie::Status(503)]);
    assert_eq!(scene.get(path).await.0, 503);
    scene.liar.set(NODE, [Lie::Truncated]);
    assert_eq!(scene.get(path).await, (200, Value::Null));
    scene.liar.set(NODE, [Lie::NeedsQuery("key=secret")]);
    assert_eq!(scene.get(path).await.0, 401);
    assert_eq!(scene.get("/eth/v1/node/syncing?key=secret").await.0, 200);
    scene.liar.set(NODE, [Lie::Slow(Duration::from_millis(20))]);
    assert_eq!(scene.get(path).await.0, 200);
    scene.liar.set(NODE, [Lie::Hang]);
    assert!(tokio::time::timeout(Duration::from_millis(100), scene.get(path)).await.is_err());
    assert_eq!(scene.liar.asked(NODE, "GET /eth/v1/node/syncing"), 7);

    let other = scene.client.get(format!("{}{path}", scene.liar.url("two"))).send().await.unwrap();
    assert_eq!(other.status(), 200);
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": [] },
        { "jsonrpc": "2.0", "id": 2, "method": "eth_blockNumber", "params": [] },
    ]);
    let answers = scene.client.post(scene.liar.url("two")).json(&batch).send().await.unwrap();
    let answers: Value = answers.json().await.unwrap();
    assert_eq!(answers, scene.net.rpc_body(batch.to_string()).await);
    let asked = scene.liar.all_asked("two");
    assert_eq!((asked["eth_chainId"], asked["eth_blockNumber"]), (1, 1));
}
