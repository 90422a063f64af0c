//! A proxy in front of both nodes that lies in one way at a time, or in several.
//!
//! It stands for as many nodes as wanted, each at an address of its own ([`Liar::url`]), each with its own lies
//! ([`Liar::set`]); without any, they are as honest as what is behind them. What they were asked is counted
//! ([`Liar::asked`]), so that a test can also say what must not be asked, or how often.

mod beacon;
mod execution;

pub use beacon::BeaconLie;
pub use execution::ExecutionLie;

use crate::{Error, server};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// One way to lie.
#[derive(Debug, Clone, PartialEq)]
pub enum Lie {
    /// Takes the question and never answers.
    Hang,
    /// Answers this late.
    Slow(Duration),
    /// Answers everything with this status and some text.
    Status(u16),
    /// Knows no such page, as a web server says that has nothing to do with it.
    HtmlNotFound,
    /// Answers end in the middle.
    Truncated,
    /// Wants this in the query of every request.
    NeedsQuery(&'static str),
    /// As an execution node.
    Execution(ExecutionLie),
    /// As a beacon node.
    Beacon(BeaconLie),
}

/// An answer, from what is behind or made up.
#[derive(Debug, Clone)]
struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Answer {
    fn json(status: u16, body: &Value) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, body: body.to_string().into() }
    }
}

/// What the proxy is asked.
#[derive(Debug, Clone)]
struct Question {
    method: Method,
    /// After the node's name; empty for execution nodes.
    path: String,
    query: String,
    body: Bytes,
}

/// What is behind the proxy.
#[derive(Debug)]
struct Behind {
    client: reqwest::Client,
    execution: String,
    beacon: String,
}

impl Behind {
    async fn ask(&self, question: &Question) -> Result<Answer, reqwest::Error> {
        let Question { method, path, query, body } = question;
        let node = if path.is_empty() { &self.execution } else { &self.beacon };
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        let request = self.client.request(method.clone(), format!("{node}{path}{query}"));
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        let answer = request.send().await?;
        Ok(Answer { status: answer.status(), body: answer.bytes().await? })
    }

    /// One call of the execution node.
    async fn call(&self, method: &str, params: Value) -> Option<Value> {
        let call = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let body = call.to_string().into();
        let question = Question { method: Method::POST, path: String::new(), query: String::new(), body };
        let answer: Value = serde_json::from_slice(&self.ask(&question).await.ok()?.body).ok()?;
        answer.get("result").cloned()
    }

    /// What the beacon node says at a path.
    async fn get(&self, path: &str) -> Option<Value> {
        let (path, query, body) = (path.to_owned(), String::new(), Bytes::new());
        let answer = self.ask(&Question { method: Method::GET, path, query, body }).await.ok()?;
        serde_json::from_slice(&answer.body).ok()
    }
}

#[derive(Debug, Default)]
struct Node {
    lies: Vec<Lie>,
    asked: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Shared {
    behind: Behind,
    nodes: Mutex<BTreeMap<String, Node>>,
}

impl Shared {
    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a question, and says how it is to be answered.
    fn hear(&self, name: &str, question: &Question) -> Vec<Lie> {
        let mut nodes = self.nodes();
        let node = nodes.entry(name.to_owned()).or_default();
        let what = if question.path.is_empty() {
            execution::methods(&question.body)
        } else {
            vec![format!("{} {}", question.method, question.path)]
        };
        what.into_iter().for_each(|what| *node.asked.entry(what).or_default() += 1);
        node.lies.clone()
    }
}

/// A running proxy. Dropping it stops it.
#[derive(Debug)]
pub struct Liar {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Its end is the signal.
    _stop: watch::Sender<bool>,
    _task: JoinHandle<()>,
}

impl Liar {
    /// Stands in front of an execution node and a beacon node, given by their URLs without a path.
    pub async fn start(execution: &str, beacon: &str) -> Result<Self, Error> {
        let (listener, address) = server::listen(0).await?;
        let [execution, beacon] = [execution, beacon].map(|url| url.trim_end_matches('/').to_owned());
        let behind = Behind { client: reqwest::Client::new(), execution, beacon };
        let shared = Arc::new(Shared { behind, nodes: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let (stop, stopped) = watch::channel(false);
        Ok(Self { address, shared, _stop: stop, _task: server::serve(listener, router, stopped) })
    }

    /// Where a node of this name is, an execution node and a beacon node in one.
    pub fn url(&self, node: &str) -> String {
        format!("http://{}/{node}", self.address)
    }

    /// How a node lies from now on.
    pub fn set(&self, node: &str, lies: impl Into<Vec<Lie>>) {
        self.shared.nodes().entry(node.to_owned()).or_default().lies = lies.into();
    }

    /// How often a node was asked something: a JSON-RPC method's name, or such as `GET /eth/v1/node/syncing`.
    pub fn asked(&self, node: &str, what: &str) -> usize {
        self.shared.nodes().get(node).and_then(|node| node.asked.get(what)).copied().unwrap_or(0)
    }

    /// All that a node was asked, and how often; the calls of a batch one by one.
    pub fn all_asked(&self, node: &str) -> BTreeMap<String, usize> {
        self.shared.nodes().get(node).map(|node| node.asked.clone()).unwrap_or_default()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let path = uri.path().trim_start_matches('/');
    let (name, path) = path.split_once('/').unwrap_or((path, ""));
    let path = if path.is_empty() { String::new() } else { format!("/{path}") };
    let question = Question { method, path, query: uri.query().unwrap_or_default().to_owned(), body };
    let lies = shared.hear(name, &question);
    for lie in &lies {
        match lie {
            Lie::Hang => std::future::pending().await,
            Lie::Slow(time) => tokio::time::sleep(*time).await,
            _ => {}
        }
    }
    let truth = tell(&shared.behind, &question, &lies).await;
    let mut answer = truth
        .unwrap_or_else(|error| Answer { status: StatusCode::BAD_GATEWAY, body: error.to_string().into() });
    if lies.contains(&Lie::Truncated) {
        answer.body.truncate(answer.body.len() / 2);
    }
    let html = lies.contains(&Lie::HtmlNotFound);
    let content = HeaderValue::from_static(if html { "text/html" } else { "application/json" });
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(header::CONTENT_TYPE, content);
    response
}

/// What these lies make of the truth.
async fn tell(behind: &Behind, question: &Question, lies: &[Lie]) -> Result<Answer, reqwest::Error> {
    for lie in lies {
        match lie {
            Lie::Status(status) => return Ok(Answer::json(*status, &Value::from("not now"))),
            Lie::HtmlNotFound => {
                let body = "<html><h1>404 Not Found</h1></html>".into();
                return Ok(Answer { status: StatusCode::NOT_FOUND, body });
            }
            Lie::NeedsQuery(wanted) if !question.query.split('&').any(|given| given == *wanted) => {
                return Ok(Answer::json(401, &Value::from("who are you?")));
            }
            _ => {}
        }
    }
    if question.path.is_empty() {
        let lies = lies.iter().filter_map(|lie| if let Lie::Execution(lie) = lie { Some(lie) } else { None });
        execution::tell(behind, question, &lies.collect::<Vec<_>>()).await
    } else {
        let lies = lies.iter().filter_map(|lie| if let Lie::Beacon(lie) = lie { Some(lie) } else { None });
        beacon::tell(behind, question, &lies.collect::<Vec<_>>()).await
    }
}
