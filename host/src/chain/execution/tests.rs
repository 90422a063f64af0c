//! Against a node that says what the test wants.

use super::node::{MAX_ANSWER, MAX_SPAN};
use super::*;
use crate::chain::profile::{self, PoolManager, Profile};
use crate::chain::test_server::{TestAnswer, TestServer};
use crate::chain::url::NodeUrl;
use alloy::hex;
use alloy::primitives::{B256, Bytes, U256};
use alloy::sol_types::SolCall;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CHAIN_ID: u64 = 70_700;
const MANAGER: Address = Address([0x77; 20]);
const POOL_ADDRESS: [u8; 20] = [0x99; 20];

/// How a node refuses what it has no block for.
const UNKNOWN: &str = "unknown block";

/// What the node says.
#[derive(Clone)]
struct Script {
    chain_id: u64,
    finalised: u64,
    /// It has no blocks after this one.
    head: u64,
    /// Mixed into every block's hash from a block on.
    fork: u8,
    forked_at: u64,
    logs: Vec<Value>,
    /// Whether it answers with whatever logs it has.
    lies: bool,
    /// How many pools there are.
    pools: u64,
    /// The status of each.
    status: u8,
    /// Its answers for logs of more blocks than this are longer than any honest one.
    floods_above: u64,
    /// It has no blocks after this one any more, once it was asked for logs: another node answers at its address.
    falls_back_to: Option<u64>,
    has_fallen_back: bool,
}

impl Script {
    fn hash(&self, number: u64) -> B256 {
        let mut hash = B256::from(U256::from(number));
        if number >= self.forked_at {
            hash[0] = self.fork;
        }
        hash
    }

    fn block(&self, number: u64) -> Value {
        let zero = B256::ZERO;
        json!({
            "number": format!("{number:#x}"), "hash": self.hash(number), "parentHash": zero, "sha3Uncles": zero,
            "miner": alloy::primitives::Address::ZERO, "stateRoot": zero, "transactionsRoot": zero,
            "receiptsRoot": zero, "logsBloom": alloy::primitives::Bloom::ZERO, "difficulty": "0x0",
            "gasLimit": "0x0", "gasUsed": "0x0", "timestamp": "0x0", "extraData": "0x", "mixHash": zero,
            "nonce": "0x0000000000000000", "baseFeePerGas": "0x7", "size": "0x0", "uncles": [],
            "transactions": [],
        })
    }

    fn log(&self, block: u64, index: u64, topic: B256, pool: u64) -> Value {
        json!({
            "address": profile::to_alloy(MANAGER), "topics": [topic], "data": B256::from(U256::from(pool)),
            "blockNumber": format!("{block:#x}"), "blockHash": self.hash(block),
            "transactionHash": B256::ZERO, "transactionIndex": "0x0", "logIndex": format!("{index:#x}"),
            "removed": false,
        })
    }

    fn pool(&self) -> Bytes {
        let (pool, key) = (POOL_ADDRESS.into(), Bytes::new());
        let answer = PoolManager::getPoolReturn { pool, status: self.status, publicKey: key };
        PoolManager::getPoolCall::abi_encode_returns(&answer).into()
    }

    fn answer(&mut self, method: &str, params: &Value) -> Value {
        let number = |value: &Value| {
            let text = value.as_str().unwrap_or_default();
            u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_default()
        };
        self.has_fallen_back |= method == "eth_getLogs";
        let newest = self.falls_back_to.filter(|_| self.has_fallen_back).unwrap_or(self.head);
        match method {
            "eth_chainId" => json!(format!("{:#x}", self.chain_id)),
            "eth_blockNumber" => json!(format!("{:#x}", self.head)),
            "eth_getBlockByNumber" if params[0] == "finalized" => self.block(self.finalised),
            "eth_getBlockByNumber" if number(&params[0]) > newest => Value::Null,
            "eth_getBlockByNumber" => self.block(number(&params[0])),
            "eth_call" => {
                assert!(params[1].is_string() || params[1]["requireCanonical"] == true);
                let asked = params[0]["input"].as_str().unwrap_or_default();
                if asked.starts_with(&hex::encode_prefixed(PoolManager::getPoolCall::SELECTOR)) {
                    json!(self.pool())
                } else {
                    json!(B256::from(U256::from(self.pools)))
                }
            }
            "eth_getLogs" if params[0]["blockHash"].is_string() => {
                let hash = params[0]["blockHash"].as_str().unwrap_or_default();
                if u64::from_str_radix(&hash[50..], 16).is_ok_and(|block| block > newest) {
                    return json!(UNKNOWN);
                }
                let of = |log: &&Value| log["blockHash"] == params[0]["blockHash"];
                let asked = |log: &&Value| self.lies || params[0]["address"] == log["address"];
                json!(self.logs.iter().filter(of).filter(asked).collect::<Vec<_>>())
            }
            "eth_getLogs" => {
                let (first, last) = (number(&params[0]["fromBlock"]), number(&params[0]["toBlock"]));
                assert!(last - first < MAX_SPAN, "the span is bounded");
                if last - first >= self.floods_above {
                    return json!("0".repeat(MAX_ANSWER));
                }
                let inside = |log: &&Value| (first..=last).contains(&number(&log["blockNumber"]));
                // Only as a node that lies would: logs of an address that nobody asked for.
                let asked = |log: &&Value| self.lies || params[0]["address"] == log["address"];
                json!(self.logs.iter().filter(inside).filter(asked).collect::<Vec<_>>())
            }
            _ => Value::Null,
        }
    }
}

/// A node whose script a test can change.
async fn node(script: Script) -> (TestServer, Arc<Mutex<Script>>) {
    let script = Arc::new(Mutex::new(script));
    let shared = Arc::clone(&script);
    let server = TestServer::start(move |request| {
        let answer = |call: &Value| {
            let result = shared.lock().unwrap().answer(call["method"].as_str().unwrap(), &call["params"]);
            if result == UNKNOWN {
                let error = json!({"code": -32000, "message": UNKNOWN});
                return json!({"jsonrpc": "2.0", "id": call["id"], "error": error});
            }
            json!({"jsonrpc": "2.0", "id": call["id"], "result": result})
        };
        let asked: Value = serde_json::from_str(&request.body).unwrap();
        let answers = match asked.as_array() {
            Some(calls) => calls.iter().map(answer).collect(),
            None => answer(&asked),
        };
        (200, answers.to_string())
    });
    (server.await, script)
}

fn script() -> Script {
    Script {
        chain_id: CHAIN_ID,
        finalised: 0,
        head: u64::MAX,
        fork: 0,
        forked_at: 0,
        logs: vec![],
        lies: false,
        pools: 0,
        status: 0,
        floods_above: u64::MAX,
        falls_back_to: None,
        has_fallen_back: false,
    }
}

fn pool(number: u32) -> PoolId {
    PoolId::new(CHAIN_ID, MANAGER, number)
}

fn topic(kind: PoolEventKind) -> B256 {
    let signature = match kind {
        PoolEventKind::DepositRequested => "PoolDepositRequested(uint32)",
        PoolEventKind::Deposited => "PoolDeposited(uint32)",
        PoolEventKind::ReshareRequested => "PoolReshareRequested(uint32)",
        PoolEventKind::ExitRequested => "PoolExitRequested(uint32)",
        PoolEventKind::Exited => "PoolExited(uint32)",
    };
    alloy::primitives::keccak256(signature)
}

#[tokio::test]
async fn a_node_of_another_chain_is_refused_with_both_named() {
    let (server, _) = node(Script { chain_id: 1, ..script() }).await;
    let error = Execution::connect(&server.url, CHAIN_ID).await.unwrap_err();
    let expected = format!("the execution node {} is of chain 1, the manifest of chain 70700", server.url);
    assert_eq!(error.to_string(), expected);
    let error = Execution::connect("ws://x", CHAIN_ID).await.unwrap_err();
    assert!(matches!(error, ChainError::Url(_)), "{error}");
}

#[tokio::test]
async fn a_node_that_is_down_is_said_without_its_access_key() {
    let error = Execution::connect("http://user:password@127.0.0.1:1/v3/key", CHAIN_ID).await.unwrap_err();
    assert!(matches!(error, ChainError::Node { .. }) && error.is_transient(), "{error}");
    let text = error.to_string();
    assert!(text.contains("refused"), "{text}");
    assert!(!["v3", "key", "password"].iter().any(|secret| text.contains(secret)), "{text}");
}

#[tokio::test]
async fn events_of_one_block_arrive_all_and_in_order() {
    let (server, shared) = node(script()).await;
    {
        let mut script = shared.lock().unwrap();
        script.finalised = 6;
        let mut logs = vec![
            script.log(5, 9, topic(PoolEventKind::ExitRequested), 1),
            script.log(5, 8, topic(PoolEventKind::DepositRequested), 3),
            script.log(5, 7, topic(PoolEventKind::DepositRequested), 2),
            script.log(7, 0, topic(PoolEventKind::DepositRequested), 4),
            script.log(3, 1, topic(PoolEventKind::ReshareRequested), 1),
        ];
        script.logs.append(&mut logs);
    }
    let execution = Execution::connect(&server.url, CHAIN_ID).await.unwrap();
    let start = execution.cursor_at(0).await.unwrap();
    let (events, cursor) = execution.poll(MANAGER, start).await.unwrap();
    let seen: Vec<_> =
        events.iter().map(|event| (event.block_number, event.source.log_index, event.pool.number)).collect();
    assert_eq!(seen, [(3, 1, 1), (5, 7, 2), (5, 8, 3), (5, 9, 1)], "block 7 is not final");
    assert!(matches!(events[1].claim(), Some(ChainEvent::DepositRequested(_))));
    assert!(matches!(events[3].claim(), Some(ChainEvent::ExitRequested { pool: of, .. }) if of == pool(1)));
    assert_eq!(events[0].claim(), None);
    assert_eq!(cursor.block, 6);

    let (events, cursor) = execution.poll(MANAGER, cursor).await.unwrap();
    assert!(events.is_empty(), "nothing new");
    shared.lock().unwrap().finalised = 8;
    let (events, cursor) = execution.poll(MANAGER, cursor).await.unwrap();
    assert_eq!(events.last().unwrap().pool.number, 4, "nothing skipped");
    assert_eq!((events.len(), cursor.block), (5, 8), "and what was near is read again");
}

#[tokio::test]
async fn a_changed_final_block_is_an_error_and_not_skipped() {
    let (server, shared) = node(Script { finalised: 5, ..script() }).await;
    let execution = Execution::connect(&server.url, CHAIN_ID).await.unwrap();
    let (_, cursor) = execution.poll(MANAGER, execution.cursor_at(0).await.unwrap()).await.unwrap();
    shared.lock().unwrap().fork = 1;
    let error = execution.poll(MANAGER, cursor).await.unwrap_err();
    assert!(matches!(error, ChainError::FinalisedBlockChanged { block: 5, .. }), "{error}");
    assert!(error.to_string().starts_with("finalised block changed: block 5 was 0x00"), "{error}");
}

#[tokio::test]
async fn a_node_that_is_behind_is_told_from_one_that_lies() {
    let (server, shared) = node(Script { finalised: 5, ..script() }).await;
    let execution = Execution::connect(&server.url, CHAIN_ID).await.unwrap();
    let (_, cursor) = execution.poll(MANAGER, execution.cursor_at(0).await.unwrap()).await.unwrap();
    shared.lock().unwrap().finalised = 4;
    let error = execution.poll(MANAGER, cursor).await.unwrap_err();
    assert!(matches!(error, ChainError::Behind { finalised: 4, cursor: 5 }), "{error}");
}

#[tokio::test]
async fn a_host_far_behind_catches_up_in_bounded_steps() {
    let finalised = 3 * MAX_SPAN;
    let (server, shared) = node(Script { finalised, ..script() }).await;
    {
        let mut script = shared.lock().unwrap();
        let edges = [1, MAX_SPAN - 1, MAX_SPAN, finalised];
        script.logs =
            edges.map(|block| script.log(block, 0, topic(PoolEventKind::Deposited), block)).to_vec();
    }
    let execution = Execution::connect(&server.url, CHAIN_ID).await.unwrap();
    let (mut cursor, mut steps, mut found) =
        (execution.cursor_at(0).await.unwrap(), Vec::new(), std::collections::BTreeSet::new());
    while cursor.block < finalised {
        let (events, next) = execution.poll(MANAGER, cursor).await.unwrap();
        found.extend(events.iter().map(|event| event.block_number));
        steps.push(next.block);
        cursor = next;
    }
    assert_eq!(steps, [MAX_SPAN - 1, 2 * MAX_SPAN - 65, 3 * MAX_SPAN - 129, finalised]);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [1, MAX_SPAN - 1, MAX_SPAN, finalised]);
}

#[tokio::test]
async fn a_span_is_halved_until_its_answer_is_no_longer_than_what_is_read() {
    let (server, shared) = node(Script { finalised: MAX_SPAN, floods_above: 300, ..script() }).await;
    {
        let mut script = shared.lock().unwrap();
        script.logs = vec![script.log(200, 0, topic(PoolEventKind::Deposited), 1)];
    }
    let execution = Execution::connect(&server.url, CHAIN_ID).await.unwrap();
    let (events, cursor) = execution.poll(MANAGER, execution.cursor_at(0).await.unwrap()).await.unwrap();
    assert_eq!((events.len(), cursor.block), (1, MAX_SPAN / 4 - 1));
    // One that floods whatever it is asked is a node that does not do.
    shared.lock().unwrap().floods_above = 0;
    let error = execution.poll(MANAGER, cursor).await.unwrap_err();
    assert!(matches!(&error, ChainError::Node { request: "logs", .. }) && error.is_transient(), "{error}");
    assert!(error.to_string().ends_with(&format!("an answer of more than {MAX_ANSWER} bytes")), "{error}");
}

#[tokio::test]
async fn impossible_logs_are_errors() {
    let (server, shared) = node(Script { finalised: 5, lies: true, ..script() }).await;
    let execution = Execution::connect(&server.url, CHAIN_ID).await.unwrap();
    let start = execution.cursor_at(0).await.unwrap();
    let good = shared.lock().unwrap().log(4, 0, topic(PoolEventKind::Deposited), 1);
    let altered = |field: &str, value: Value| {
        let mut log = good.clone();
        log[field] = value;
        log
    };
    for log in [
        altered("removed", json!(true)),
        altered("address", json!(alloy::primitives::Address::ZERO)),
        altered("blockHash", Value::Null),
    ] {
        shared.lock().unwrap().logs = vec![log];
        let error = execution.poll(MANAGER, start).await.unwrap_err();
        assert!(matches!(error, ChainError::Inconsistent(_)), "{error}");
    }
    shared.lock().unwrap().logs = vec![altered("data", json!("0x01"))];
    let error = execution.poll(MANAGER, start).await.unwrap_err();
    assert!(matches!(error, ChainError::Log { block: 4, .. }), "{error}");
}

#[tokio::test]
async fn two_contracts_pools_of_one_number_are_told_apart() {
    let other = Address([0x78; 20]);
    let (server, shared) = node(Script { finalised: 5, ..script() }).await;
    {
        let mut script = shared.lock().unwrap();
        let first = script.log(4, 0, topic(PoolEventKind::ExitRequested), 1);
        let mut second = script.log(5, 0, topic(PoolEventKind::ExitRequested), 1);
        second["address"] = json!(profile::to_alloy(other));
        script.logs = vec![first, second];
    }
    let execution = Execution::connect(&server.url, CHAIN_ID).await.unwrap();
    let start = execution.cursor_at(0).await.unwrap();
    for (contract, block) in [(MANAGER, 4), (other, 5)] {
        let (events, cursor) = execution.poll(contract, start).await.unwrap();
        let found: Vec<_> = events.iter().map(|event| (event.pool, event.block_number)).collect();
        assert_eq!(found, [(PoolId::new(CHAIN_ID, contract, 1), block)]);
        assert_eq!(cursor.block, 5);
    }
    // A node that gives one contract's log for the other's is not believed.
    shared.lock().unwrap().lies = true;
    let error = execution.poll(MANAGER, start).await.unwrap_err();
    assert!(matches!(error, ChainError::Inconsistent(_)), "{error}");
}

#[tokio::test]
async fn a_pool_of_another_chain_is_not_looked_up() {
    let (server, _) = node(script()).await;
    let execution = Execution::connect(&server.url, CHAIN_ID).await.unwrap();
    let error = execution.pool(PoolId { chain: 1, ..pool(1) }, true).await.unwrap_err();
    assert!(matches!(error, ChainError::OtherPool { chain: CHAIN_ID, .. }), "{error}");
}

#[tokio::test]
async fn each_turn_begins_with_another_node() {
    let (mut servers, execution) = nodes([3, 4, 5].map(|pools| Script { pools, ..script() })).await;
    let at = execution.cursor_at(0).await.unwrap();
    let mut counts = Vec::new();
    for turn in 0..4 {
        counts.push(execution.pool_count(MANAGER, at, turn).await.unwrap());
    }
    assert_eq!(counts, [3, 4, 5, 3]);
    drop(servers.remove(1));
    assert_eq!(execution.pool_count(MANAGER, at, 1).await.unwrap(), 5, "the next one that works");
}

#[tokio::test]
async fn some_nodes_may_be_down_or_of_another_chain_but_not_all() {
    let (right, _) = node(script()).await;
    let (wrong, _) = node(Script { chain_id: 1, ..script() }).await;
    let url = |text: &str| NodeUrl::parse(text).unwrap();
    let down = || url("http://127.0.0.1:1/KEY");
    let connect = async |urls: &[NodeUrl]| Execution::connect_all(urls, CHAIN_ID, Profile::default()).await;
    let execution = connect(&[down(), url(&right.url)]).await.unwrap();
    let troubles = execution.troubles();
    assert!(troubles["http://127.0.0.1:1"].as_ref().is_some_and(|reason| !reason.contains("KEY")));
    assert_eq!(troubles[&right.url], None);
    assert_eq!(execution.finalised().await.unwrap().block, 0);
    // One node's wrong chain is that node's trouble.
    for urls in [[url(&right.url), down(), url(&wrong.url)], [url(&wrong.url), down(), url(&right.url)]] {
        let execution = connect(&urls).await.unwrap();
        let troubles = execution.troubles();
        assert!(troubles[&wrong.url].as_ref().is_some_and(|reason| reason.contains("is of chain 1,")));
        assert_eq!(execution.finalised().await.unwrap().block, 0);
    }
    let error = connect(&[url(&wrong.url), url(&wrong.url)]).await.unwrap_err();
    assert!(matches!(&error, ChainError::WrongChain { node, .. } if *node == wrong.url), "{error}");
    assert!(
        connect(&[url(&wrong.url), down()]).await.unwrap_err().is_transient(),
        "it may be of the right one"
    );
    assert!(connect(&[down(), down()]).await.unwrap_err().is_transient());
    assert!(matches!(connect(&[]).await, Err(ChainError::NoNodes)));
}

/// Several nodes with these scripts.
async fn nodes<const N: usize>(scripts: [Script; N]) -> (Vec<TestServer>, Execution) {
    let (servers, _, execution) = changing(scripts).await;
    (servers, execution)
}

/// Likewise, with the scripts to change.
async fn changing<const N: usize>(
    scripts: [Script; N],
) -> (Vec<TestServer>, Vec<Arc<Mutex<Script>>>, Execution) {
    let (mut servers, mut shared) = (Vec::new(), Vec::new());
    for script in scripts {
        let (server, script) = node(script).await;
        servers.push(server);
        shared.push(script);
    }
    let urls: Vec<NodeUrl> = servers.iter().map(|server| NodeUrl::parse(&server.url).unwrap()).collect();
    let execution = Execution::connect_all(&urls, CHAIN_ID, Profile::default()).await.unwrap();
    (servers, shared, execution.looking_every(Duration::ZERO))
}

/// Of two nodes one takes blocks for final that the other does not: forged ones, or just the newest. As long as the other follows
/// the chain, nothing of it is taken, however long finality stands still.
#[tokio::test]
async fn a_node_that_says_more_is_final_than_another_is_not_believed_alone() {
    let (ahead, honest) =
        (Script { finalised: 900, ..script() }, Script { finalised: 7, head: 100, ..script() });
    let forged = ahead.log(500, 0, topic(PoolEventKind::ExitRequested), 1);
    let ahead = Script { logs: vec![forged], ..ahead };
    for liar in [0, 1] {
        let scripts =
            if liar == 0 { [ahead.clone(), honest.clone()] } else { [honest.clone(), ahead.clone()] };
        let (_servers, scripts, execution) = changing(scripts).await;
        let mut cursor = execution.cursor_at(0).await.unwrap();
        for _ in 0..40 {
            scripts[1 - liar].lock().unwrap().head += 1;
            let (events, next) = execution.poll(MANAGER, cursor).await.unwrap();
            assert!(events.is_empty() && next.block <= 7, "{liar}: {next:?}");
            cursor = next;
        }
        assert_eq!(cursor.block, 7);
        let said = execution.troubles().into_values().flatten().collect::<Vec<_>>();
        assert!(said.len() == 1 && said[0].ends_with("and another node 900"), "{said:?}");
        // It does not follow the chain any more: of two, the other one is half.
        for _ in 0..40 {
            cursor = execution.poll(MANAGER, cursor).await.map_or(cursor, |(_, next)| next);
        }
        assert_eq!(cursor.block, 900, "{liar}");
    }
}

#[tokio::test]
async fn the_vote_of_a_node_that_lacks_a_block_is_waited_for() {
    for lacking in [0, 1] {
        let mut scripts = [Script { finalised: 9, ..script() }, Script { finalised: 9, ..script() }];
        scripts[lacking].head = 8;
        let (_servers, scripts, execution) = changing(scripts).await;
        let start = execution.cursor_at(0).await.unwrap();
        if lacking == 1 {
            let error = execution.poll(MANAGER, start).await.unwrap_err();
            assert!(matches!(&error, ChainError::Disagreement(_)), "{error}");
            assert!(error.to_string().contains("has nothing yet"), "{error}");
        }
        scripts[lacking].lock().unwrap().head = 10;
        assert_eq!(execution.poll(MANAGER, start).await.unwrap().1.block, 9);
    }
}

#[tokio::test]
async fn nothing_is_read_on_the_word_of_fewer_than_half_of_the_configured_nodes() {
    let at = || Script { finalised: 9, ..script() };
    let (mut servers, execution) = nodes([at(), at(), at()]).await;
    let start = execution.cursor_at(0).await.unwrap();
    drop(servers.pop());
    assert_eq!(execution.poll(MANAGER, start).await.unwrap().1.block, 9, "two of three");
    drop(servers.pop());
    for _ in 0..2 {
        let error = execution.poll(MANAGER, start).await.unwrap_err();
        assert!(matches!(error, ChainError::TooFew { agreed: 1, configured: 3, .. }), "{error}");
        let error = execution.cursor_at(1).await.unwrap_err();
        assert!(matches!(error, ChainError::TooFew { .. }), "{error}");
        let error = execution.pool_for_good(pool(1)).await.unwrap_err();
        assert!(matches!(error, ChainError::TooFew { .. }), "{error}");
    }
    let (mut servers, execution) = nodes([at(), at()]).await;
    drop(servers.pop());
    let start = execution.cursor_at(0).await.unwrap();
    assert_eq!(execution.poll(MANAGER, start).await.unwrap().1.block, 9, "one of two");
}

#[tokio::test]
async fn one_nodes_word_for_a_pool_is_held_against_the_others() {
    let at = |status| Script { finalised: 9, status, ..script() };
    let (_servers, two) = nodes([at(2), at(1)]).await;
    assert_eq!(two.pool(pool(1), true).await.unwrap().status, PoolStatus::Deposited, "one node's");
    for error in [two.pool_for_good(pool(1)).await, two.pool_as_most_say(pool(1)).await] {
        assert!(matches!(error, Err(ChainError::Disagreement(_))), "{error:?}");
    }
    let (_servers, three) = nodes([at(2), at(1), at(1)]).await;
    for found in [three.pool_for_good(pool(1)).await, three.pool_as_most_say(pool(1)).await] {
        assert_eq!(found.unwrap().status, PoolStatus::Ready);
    }
    let (_servers, alone) = nodes([at(2)]).await;
    assert_eq!(alone.pool_for_good(pool(1)).await.unwrap().status, PoolStatus::Deposited);
}

#[tokio::test]
async fn one_nodes_word_for_an_events_transaction_is_held_against_the_others() {
    let at = |transaction: Option<u8>| {
        let mut script = Script { finalised: 9, head: 20, ..script() };
        script.logs.extend(transaction.map(|transaction| {
            let mut log = script.log(15, 0, topic(PoolEventKind::Exited), 1);
            log["transactionHash"] = json!(B256::repeat_byte(transaction));
            log
        }));
        script
    };
    let behind = || Script { head: 4, ..at(None) };
    let found = |transaction: Option<u8>| Ok(transaction.map(|byte| Digest([byte; 32])));
    for (scripts, expected) in [
        (vec![at(Some(1))], found(Some(1))),
        (vec![at(Some(1)), at(None)], Err("disagree")),
        (vec![at(None), at(Some(1))], Err("disagree")),
        (vec![at(Some(1)), at(Some(2))], Err("disagree")),
        // One of three leaves it out, invents it, or names another.
        (vec![at(None), at(Some(1)), at(Some(1))], found(Some(1))),
        (vec![at(Some(1)), at(None), at(None)], found(None)),
        (vec![at(Some(2)), at(Some(1)), at(Some(1))], found(Some(1))),
        // One that is not so far has no say, but is waited for.
        (vec![at(None), behind()], Err("disagree")),
        (vec![at(None), behind(), at(None)], found(None)),
    ] {
        let (mut servers, mut urls) = (Vec::new(), Vec::new());
        for script in scripts {
            let (server, _) = node(script).await;
            urls.push(NodeUrl::parse(&server.url).unwrap());
            servers.push(server);
        }
        let execution = Execution::connect_all(&urls, CHAIN_ID, Profile::default()).await.unwrap();
        let said = execution.transaction_of(PoolEventKind::Exited, pool(1), 5).await;
        let said = said.map_err(|error| {
            assert!(matches!(error, ChainError::Disagreement(_)), "{error}");
            "disagree"
        });
        assert_eq!(said, expected);
    }
}

#[tokio::test]
async fn an_event_that_is_too_far_back_is_not_taken_for_none() {
    let far = 200 * MAX_SPAN;
    let (_servers, two) = nodes([0, 1].map(|_| Script { head: far, ..script() })).await;
    let error = two.transaction_of(PoolEventKind::Exited, pool(1), 5).await.unwrap_err();
    assert!(matches!(error, ChainError::TooFar(_)), "{error}");
    assert!(two.troubles().into_values().all(|trouble| trouble.is_none()), "that is nobody's fault");
    assert_eq!(two.transaction_of(PoolEventKind::Exited, pool(1), far - 5 * MAX_SPAN).await.unwrap(), None);
}

/// Some providers repeat the path that they do not know, key and all.
#[tokio::test]
async fn what_a_node_says_of_its_own_url_is_shown_to_nobody() {
    let server = TestServer::start(|request| (404, format!("no project {} at {}", "SECRET", request.path)));
    let server = server.await;
    let error =
        Execution::connect(&format!("{}/v3/SECRET?key=TOKEN", server.url), CHAIN_ID).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("no project") && !text.contains("SECRET") && !text.contains("TOKEN"), "{text}");
}

/// Scene A: a number from one node, and no logs from another that has not got that block.
#[tokio::test]
async fn no_logs_of_a_node_that_lacks_the_block_are_no_answer() {
    let (server, shared) = node(Script { finalised: 9, falls_back_to: Some(8), ..script() }).await;
    let execution = Execution::connect(&server.url, CHAIN_ID).await.unwrap();
    let start = execution.cursor_at(0).await.unwrap();
    let error = execution.poll(MANAGER, start).await.unwrap_err();
    assert!(matches!(&error, ChainError::MissingBlock(block) if block == "9"), "{error}");
    shared.lock().unwrap().falls_back_to = None;
    assert_eq!(execution.poll(MANAGER, start).await.unwrap().1.block, 9);
}

#[tokio::test]
async fn a_node_of_another_fork_leads_nobody() {
    let at = |fork, finalised| Script { fork, finalised, ..script() };
    let (_servers, execution) = nodes([at(1, 9), at(0, 9), at(0, 9)]).await;
    let start = execution.cursor_at(0).await.unwrap();
    assert_eq!(start.hash.0, at(0, 0).hash(0).0);
    assert_eq!(execution.poll(MANAGER, start).await.unwrap().1.hash.0, at(0, 0).hash(9).0);

    // Who of two is right nobody can say, whoever is asked first, and however often.
    let (_servers, execution) = nodes([at(1, 9), at(0, 9)]).await;
    for _ in 0..3 {
        let error = execution.cursor_at(0).await.unwrap_err();
        assert!(matches!(error, ChainError::Disagreement(_)), "{error}");
    }

    // One that has gone over to another fork since.
    for forked in 0..3 {
        let mut scripts = [at(0, 9), at(0, 9), at(0, 9)];
        scripts[forked] = Script { forked_at: 5, ..at(1, 12) };
        let (_servers, execution) = nodes(scripts).await;
        let start = execution.cursor_at(0).await.unwrap();
        assert_eq!(execution.poll(MANAGER, start).await.unwrap().1.hash.0, at(0, 0).hash(9).0, "{forked}");
    }
}

#[tokio::test]
async fn a_block_is_read_once_most_nodes_have_finalised_it() {
    let at = |finalised| Script { finalised, ..script() };
    for (scripts, reached) in
        [([at(900), at(7), at(8)], 8), ([at(9), at(0), at(8)], 8), ([at(8), at(8), at(0)], 8)]
    {
        let (_servers, execution) = nodes(scripts).await;
        let start = execution.cursor_at(0).await.unwrap();
        assert_eq!(execution.poll(MANAGER, start).await.unwrap().1.block, reached);
        assert_eq!(execution.finalised_as_most_say().await.unwrap(), reached);
    }
}

/// One of three has lied, and rests for minutes; then it is right, and another one lies.
#[tokio::test]
async fn a_node_that_rests_is_heard_when_those_awake_settle_nothing() {
    let honest = Script { finalised: 9, status: 1, ..script() };
    let event = honest.log(5, 0, topic(PoolEventKind::ExitRequested), 1);
    let honest = Script { logs: vec![event], ..honest };
    for liar in [1, 2] {
        let with = async |lie: Script| {
            let mut scripts = [0, 1, 2].map(|_| honest.clone());
            scripts[liar] = lie;
            let (servers, scripts, execution) = changing(scripts).await;
            execution.connections()[0].fail_often();
            (servers, scripts, execution)
        };
        let (_servers, _, execution) = with(Script { status: 2, ..honest.clone() }).await;
        for found in [execution.pool_for_good(pool(1)).await, execution.pool_as_most_say(pool(1)).await] {
            assert_eq!(found.unwrap().status, PoolStatus::Ready, "{liar}");
        }
        let (_servers, _, execution) = with(Script { logs: vec![], ..honest.clone() }).await;
        let (events, shown) = execution.events_of(MANAGER, 5).await.unwrap();
        assert!(events.len() == 1 && shown.len() == 3, "{liar}: {shown:?}");
        let (_servers, _, execution) = with(Script { finalised: 0, ..honest.clone() }).await;
        assert_eq!(execution.finalised_as_most_say().await.unwrap(), 9, "{liar}");
    }
    // A change that one of those two and the one that rests see.
    let (_servers, scripts, execution) = changing([0, 1, 2].map(|_| honest.clone())).await;
    let cursor = execution.cursor_at(9).await.unwrap();
    scripts[..2].iter().for_each(|script| script.lock().unwrap().fork = 1);
    execution.connections()[0].fail_often();
    let error = execution.poll(MANAGER, cursor).await.unwrap_err();
    assert!(matches!(error, ChainError::FinalisedBlockChanged { .. }), "{error}");
}

#[tokio::test]
async fn a_node_that_rests_and_hangs_does_not_slow_down_each_question() {
    let hangs = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (one, _) = node(Script { status: 1, ..script() }).await;
    let (other, _) = node(Script { status: 2, ..script() }).await;
    let hanging = format!("http://{}", hangs.local_addr().unwrap());
    let urls = [&hanging, &one.url, &other.url].map(|url| NodeUrl::parse(url).unwrap());
    let execution = Execution::new(&urls, CHAIN_ID, Profile::default()).unwrap();
    execution.connections()[0].fail_often();
    let mut took = Vec::new();
    for _ in 0..3 {
        let begun = std::time::Instant::now();
        let error = execution.pool_as_most_say(pool(1)).await.unwrap_err();
        assert!(matches!(error, ChainError::Disagreement(_)), "{error}");
        took.push(begun.elapsed());
    }
    let is_waited_for = took.iter().map(|took| *took >= nodes::VOTE_TIMEOUT).collect::<Vec<_>>();
    assert_eq!(is_waited_for, [true, false, false], "{took:?}");
}

/// It could have the host ask services in the member's own network.
#[tokio::test]
async fn a_node_sends_the_host_nowhere_else() {
    let elsewhere = TestServer::start(|_| (200, "{}")).await;
    let to = format!("location: {}/", elsewhere.url);
    let answer = move || TestAnswer { status: 307, headers: vec![to.clone()], ..TestAnswer::default() };
    let server = TestServer::start(move |_| answer()).await;
    Execution::connect(&server.url, CHAIN_ID).await.unwrap_err();
    assert!(server.requests().len() == 1 && elsewhere.requests().is_empty());
}
