//! Nodes of a chain on which there are thousands of pools at rest, each with its validator: made up as they are asked about, in front of the
//! embedded chains, which answer the rest. Before they are told to, the nodes only hand everything on.

use alloy::primitives::keccak256;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use postern_devnet::Devnet;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Slots of an epoch, as on mainnet.
const SLOTS: u64 = 32;
/// The head when the crowd appears: further than the embedded chain ever gets.
const FIRST: u64 = 1_000_000;
/// Validators that were there before.
const OTHERS: u64 = 16;

/// What is behind the nodes, and what they make up.
#[derive(Debug)]
pub struct Crowd {
    client: reqwest::Client,
    execution: String,
    beacon: String,
    pub pools: u32,
    pub slot: Duration,
    since: Mutex<Option<Instant>>,
}

/// How often a node was asked what.
#[derive(Debug, Default, Clone)]
pub struct Asked {
    /// By what comes in one HTTP request.
    pub requests: BTreeMap<String, usize>,
    /// Calls, of a batch each.
    pub calls: usize,
}

/// One node, an execution node and a beacon node in one.
#[derive(Debug, Clone)]
pub struct Node {
    crowd: Arc<Crowd>,
    asked: Arc<Mutex<Asked>>,
    pub url: String,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The key of a pool's validator.
pub fn key_of(number: u32) -> [u8; 48] {
    let mut key = [0xab; 48];
    key[44..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Its index on the beacon chain.
pub fn index_of(number: u32) -> u64 {
    OTHERS + u64::from(number)
}

pub fn hash_of(block: u64) -> [u8; 32] {
    keccak256(block.to_be_bytes()).0
}

impl Crowd {
    pub fn new(devnet: &Devnet, pools: u32, slot: Duration) -> Arc<Self> {
        let (execution, beacon) = (devnet.execution_url(), devnet.beacon_url());
        let (client, since) = (reqwest::Client::new(), Mutex::default());
        Arc::new(Self { client, execution, beacon, pools, slot, since })
    }

    /// From now on the pools are there.
    pub fn appear(&self) {
        *lock(&self.since) = Some(Instant::now());
    }

    /// The head, once the pools are there.
    fn head(&self) -> Option<u64> {
        let since = (*lock(&self.since))?;
        let passed = since.elapsed().as_millis() / self.slot.as_millis().max(1);
        Some(FIRST + u64::try_from(passed).unwrap_or_default())
    }

    /// The newest final block.
    pub fn finalised(&self) -> Option<u64> {
        self.head().map(|head| (head / SLOTS - 2) * SLOTS)
    }

    async fn ask(&self, method: Method, url: String, body: impl Into<reqwest::Body>) -> (StatusCode, Value) {
        let request = self.client.request(method, url).header(header::CONTENT_TYPE, "application/json");
        let answer = request.body(body).send().await.expect("the embedded chain answers");
        let status = answer.status();
        (status, answer.json().await.unwrap_or_default())
    }

    async fn call(&self, mut call: Value) -> Value {
        let Some((head, finalised)) = self.head().zip(self.finalised()) else {
            return self.ask(Method::POST, self.execution.clone(), call.to_string()).await.1;
        };
        let method = call["method"].as_str().unwrap_or_default().to_owned();
        let result = match method.as_str() {
            "eth_blockNumber" => json!(format!("{head:#x}")),
            "eth_getBlockByNumber" => {
                let wanted = match call["params"][0].as_str().unwrap_or_default() {
                    "finalized" => finalised,
                    "latest" => head,
                    number => u64::from_str_radix(number.trim_start_matches("0x"), 16).expect("a number"),
                };
                json!({ "number": format!("{wanted:#x}"), "hash": hex_of(&hash_of(wanted)) })
            }
            "eth_getLogs" => json!([]),
            _ => match self.of_pools(&call) {
                Some(answer) => answer,
                // Of accounts and the DAO: whatever block is meant, the newest of the embedded chain.
                None => {
                    if let Some(block) = call["params"].get_mut(1) {
                        *block = json!("latest");
                    }
                    return self.ask(Method::POST, self.execution.clone(), call.to_string()).await.1;
                }
            },
        };
        json!({ "jsonrpc": "2.0", "id": call["id"], "result": result })
    }

    /// What the pool manager says of pools.
    fn of_pools(&self, call: &Value) -> Option<Value> {
        let input = hex::decode(call["params"][0]["input"].as_str()?.trim_start_matches("0x")).ok()?;
        let (selector, arguments) = input.split_first_chunk::<4>()?;
        let is = |signature: &str| keccak256(signature)[..4] == selector[..];
        let number = arguments.last_chunk::<4>().map_or(0, |number| u32::from_be_bytes(*number));
        let words: Vec<[u8; 32]> = if is("poolCount()") {
            vec![word(self.pools.into())]
        } else if is("getPool(uint32)") {
            let key = key_of(number);
            let (mut first, mut last) = ([0; 32], [0; 32]);
            first.copy_from_slice(&key[..32]);
            last[..16].copy_from_slice(&key[32..]);
            // The pool's address, `Deposited`, where the key is, how long it is, the key.
            vec![word(number.into()), word(2), word(96), word(48), first, last]
        } else {
            return None;
        };
        Some(json!(hex_of(&words.concat())))
    }

    async fn of_beacon(&self, method: Method, path: &str, body: Bytes) -> (StatusCode, Value) {
        let Some((head, finalised)) = self.head().zip(self.finalised()) else {
            return self.ask(method, format!("{}{path}", self.beacon), body).await;
        };
        if path.ends_with("/validators") && method == Method::POST {
            let asked: Value = serde_json::from_slice(&body).expect("JSON");
            let ids = asked["ids"].as_array().expect("ids").iter().filter_map(Value::as_str);
            let data: Vec<Value> = ids.map(validator).collect();
            return (StatusCode::OK, json!({ "execution_optimistic": false, "data": data }));
        }
        let data = match path {
            "/eth/v1/node/syncing" => json!({ "head_slot": head.to_string(), "is_syncing": false }),
            "/eth/v1/beacon/headers/finalized" => {
                json!({ "header": { "message": { "slot": finalised.to_string() } } })
            }
            _ => {
                let (status, mut answer) = self.ask(method, format!("{}{path}", self.beacon), body).await;
                if path == "/eth/v1/config/spec" {
                    answer["data"]["SLOT_DURATION_MS"] = json!(self.slot.as_millis().to_string());
                    answer["data"]["SLOTS_PER_EPOCH"] = json!(SLOTS.to_string());
                }
                return (status, answer);
            }
        };
        (StatusCode::OK, json!({ "execution_optimistic": false, "data": data }))
    }
}

fn validator(id: &str) -> Value {
    let of_key = |key: Vec<u8>| key.last_chunk::<4>().map(|number| index_of(u32::from_be_bytes(*number)));
    let key = hex::decode(id.trim_start_matches("0x")).ok().filter(|key| key.len() == 48);
    let index = key.and_then(of_key).unwrap_or_default();
    let pubkey = if index == 0 { hex_of(&[1; 48]) } else { id.to_owned() };
    json!({
        "index": index.to_string(), "status": "active_ongoing", "balance": "32000000000",
        "validator": { "pubkey": pubkey, "withdrawal_credentials": hex_of(&[1; 32]) },
    })
}

fn word(number: u64) -> [u8; 32] {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&number.to_be_bytes());
    word
}

fn hex_of(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

impl Node {
    /// Serves until the runtime ends.
    pub async fn start(crowd: &Arc<Crowd>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let node = Self { crowd: Arc::clone(crowd), asked: Arc::default(), url };
        let router = Router::new().fallback(answer).with_state(node.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        node
    }

    pub fn asked(&self) -> Asked {
        lock(&self.asked).clone()
    }

    /// Counts from now on.
    pub fn forget(&self) {
        *lock(&self.asked) = Asked::default();
    }

    fn hear(&self, what: String, calls: usize) {
        let mut asked = lock(&self.asked);
        *asked.requests.entry(what).or_default() += 1;
        asked.calls += calls;
    }
}

async fn answer(State(node): State<Node>, method: Method, uri: Uri, body: Bytes) -> Response {
    let crowd = &node.crowd;
    if uri.path() != "/" {
        node.hear(format!("{method} {}", uri.path()), 1);
        let (status, answer) = crowd.of_beacon(method, uri.path(), body).await;
        return (status, [(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response();
    }
    let asked: Value = serde_json::from_slice(&body).expect("JSON");
    let name = |call: &Value| call["method"].as_str().unwrap_or_default().to_owned();
    let answer = match asked {
        Value::Array(calls) => {
            node.hear(format!("a batch that begins with {}", name(&calls[0])), calls.len());
            let mut answers = Vec::with_capacity(calls.len());
            for call in calls {
                answers.push(crowd.call(call).await);
            }
            Value::Array(answers)
        }
        call => {
            node.hear(name(&call), 1);
            crowd.call(call).await
        }
    };
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}
