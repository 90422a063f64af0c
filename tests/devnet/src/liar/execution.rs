//! How an execution node lies, call by call.

use super::{Answer, Behind, Question};
use alloy::primitives::{hex, keccak256};
use serde_json::{Value, json};

/// One way.
#[derive(Debug, Clone, PartialEq)]
pub enum ExecutionLie {
    /// There are no logs.
    NoLogs,
    /// There are none with this first topic.
    LogsWithout([u8; 32]),
    /// Logs are in other blocks than they are.
    LogsOfFork,
    /// There is this log too, wherever logs are asked for, whatever is asked.
    ForgedLog(Value),
    /// Logs have no data.
    MalformedLogs,
    /// Logs of at most so many blocks at a time.
    RangeLimit(u64),
    /// So many blocks behind, in all that is asked.
    Behind(u64),
    /// Takes its newest block for final.
    LatestAsFinal,
    /// Takes no block for final but those that are so many blocks older than the newest final one.
    FinalBehind(u64),
    /// Answers this to every call that begins so.
    CallSays([u8; 4], Vec<u8>),
    /// Behind a load balancer: numbers and blocks are from one node, logs and states from one that is so many blocks behind, and does not
    /// say so.
    MixedBackends(u64),
    /// Another chain.
    WrongChain(u64),
    /// Blocks have other hashes.
    OtherBlocks,
    /// No block is final.
    NoFinalised,
    /// Calls take so much gas.
    Estimate(u64),
    /// Says this to every question for how much gas a call takes.
    EstimateSays(&'static str),
    /// The market's fees are so many times what they are.
    Market(u64),
    /// Takes transactions, and does nothing with them.
    SwallowSend,
    /// Does not know transactions that are not in a block.
    ForgetSent,
    /// Refuses transactions with this code and text.
    SendSays(i64, &'static str),
    /// Every transaction is in the newest final block, and was successful or reverted.
    FakeReceipt(bool),
    /// Receipts are of another transaction.
    OtherReceipts,
    /// Every transaction is in the newest block, and was successful or reverted.
    FakeReceiptAtHead(bool),
    /// Every transaction that is in a block has paid so much for each gas, in wei.
    Paid(u64),
    /// So many more transactions were sent by everybody.
    NonceAhead(u64),
    /// The same, and not finally.
    LatestNonceAhead(u64),
    /// This many transactions were sent by everybody, and not finally.
    LatestNonce(u64),
    /// The same, and finally.
    Nonce(u64),
    /// No transaction is in a block.
    NoReceipts,
    /// So many more blocks than there are.
    HeadAhead(u64),
    /// Can't say whether the transaction with this hash is in a block.
    FailReceiptOf(String),
}

/// What one call is answered.
type Told = Result<Value, (i64, String)>;

/// The methods that are called in a body.
pub(super) fn methods(body: &[u8]) -> Vec<String> {
    let method = |call: &Value| call["method"].as_str().unwrap_or("nothing").to_owned();
    match serde_json::from_slice(body) {
        Ok(Value::Array(calls)) => calls.iter().map(method).collect(),
        Ok(call) => vec![method(&call)],
        Err(_) => vec!["nothing".to_owned()],
    }
}

pub(super) async fn tell(
    behind: &Behind,
    question: &Question,
    lies: &[&ExecutionLie],
) -> Result<Answer, reqwest::Error> {
    let Ok(asked) = serde_json::from_slice::<Value>(&question.body) else {
        return behind.ask(question).await;
    };
    if lies.is_empty() {
        return behind.ask(question).await;
    }
    let answer = match &asked {
        Value::Array(calls) => {
            let mut answers = Vec::new();
            for call in calls {
                answers.push(answered(behind, call, lies).await?);
            }
            Value::Array(answers)
        }
        call => answered(behind, call, lies).await?,
    };
    Ok(Answer::json(200, &answer))
}

async fn answered(behind: &Behind, call: &Value, lies: &[&ExecutionLie]) -> Result<Value, reqwest::Error> {
    let (mut call, id) = (call.clone(), call["id"].clone());
    for lie in lies {
        if let Some(told) = before(behind, &mut call, lie).await {
            return Ok(match told {
                Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
                Err((code, message)) => {
                    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
                }
            });
        }
    }
    let question = Question { body: call.to_string().into(), ..Question::to_execution() };
    let truth = behind.ask(&question).await?;
    let mut answer: Value = serde_json::from_slice(&truth.body).unwrap_or_default();
    if let Some(result) = answer.get_mut("result") {
        lies.iter().for_each(|lie| after(&call, result, lie));
    }
    Ok(answer)
}

impl Question {
    fn to_execution() -> Self {
        Self {
            method: axum::http::Method::POST,
            path: String::new(),
            query: String::new(),
            body: Default::default(),
        }
    }
}

fn number(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

fn quantity(number: u64) -> Value {
    Value::from(format!("{number:#x}"))
}

/// Answers a call without asking anybody, or makes it another one.
async fn before(behind: &Behind, call: &mut Value, lie: &ExecutionLie) -> Option<Told> {
    let method = call["method"].as_str().unwrap_or_default().to_owned();
    match (lie, method.as_str()) {
        (ExecutionLie::RangeLimit(most), "eth_getLogs") => {
            let filter = &call["params"][0];
            let (first, last) = (number(&filter["fromBlock"])?, number(&filter["toBlock"])?);
            let refused = || Err((-32602, format!("eth_getLogs is limited to a {most} block range")));
            (last.saturating_sub(first) >= *most).then(refused)
        }
        (ExecutionLie::NoFinalised, "eth_getBlockByNumber") if call["params"][0] == "finalized" => {
            Some(Err((-39001, "Unknown block".to_owned())))
        }
        (ExecutionLie::LatestAsFinal, "eth_getBlockByNumber") if call["params"][0] == "finalized" => {
            call["params"][0] = json!("latest");
            None
        }
        (ExecutionLie::FinalBehind(blocks), "eth_getBlockByNumber") if call["params"][0] == "finalized" => {
            let finalised = behind.call("eth_getBlockByNumber", json!(["finalized", false])).await?;
            call["params"][0] = quantity(number(&finalised["number"])?.saturating_sub(*blocks));
            None
        }
        (ExecutionLie::CallSays(selector, answer), "eth_call") => {
            let asked = call["params"][0]["input"].as_str()?;
            asked
                .starts_with(&hex::encode_prefixed(selector))
                .then(|| Ok(json!(hex::encode_prefixed(answer))))
        }
        (ExecutionLie::SwallowSend, "eth_sendRawTransaction") => {
            let bytes = hex::decode(call["params"][0].as_str()?).ok()?;
            Some(Ok(Value::from(keccak256(bytes).to_string())))
        }
        (ExecutionLie::SendSays(code, text), "eth_sendRawTransaction") => {
            Some(Err((*code, (*text).to_owned())))
        }
        (ExecutionLie::EstimateSays(text), "eth_estimateGas") => Some(Err((3, (*text).to_owned()))),
        (ExecutionLie::LatestNonce(nonce), "eth_getTransactionCount") if call["params"][1] == "latest" => {
            Some(Ok(quantity(*nonce)))
        }
        (ExecutionLie::Nonce(nonce), "eth_getTransactionCount") => Some(Ok(quantity(*nonce))),
        (ExecutionLie::NoReceipts, "eth_getTransactionReceipt") => Some(Ok(Value::Null)),
        (ExecutionLie::FailReceiptOf(hash), "eth_getTransactionReceipt") if call["params"][0] == **hash => {
            Some(Err((-32000, "missing trie node".to_owned())))
        }
        (ExecutionLie::FakeReceipt(success), "eth_getTransactionReceipt") => {
            Some(Ok(receipt(behind, call["params"][0].clone(), "finalized", *success).await?))
        }
        (ExecutionLie::FakeReceiptAtHead(success), "eth_getTransactionReceipt") => {
            Some(Ok(receipt(behind, call["params"][0].clone(), "latest", *success).await?))
        }
        (ExecutionLie::Behind(blocks), _) => as_behind(behind, call, &method, *blocks).await,
        (ExecutionLie::MixedBackends(blocks), "eth_getLogs" | "eth_call") => {
            as_behind(behind, call, &method, *blocks).await
        }
        _ => None,
    }
}

async fn receipt(behind: &Behind, hash: Value, block: &str, success: bool) -> Option<Value> {
    let block = behind.call("eth_getBlockByNumber", json!([block, false])).await?;
    Some(json!({
        "type": "0x2", "status": quantity(success.into()), "cumulativeGasUsed": "0x5208", "logs": [],
        "logsBloom": format!("0x{}", "00".repeat(256)), "transactionHash": hash, "transactionIndex": "0x0",
        "blockHash": block["hash"], "blockNumber": block["number"], "gasUsed": "0x5208", "effectiveGasPrice": "0x1",
        "from": format!("0x{}", "11".repeat(20)), "to": format!("0x{}", "22".repeat(20)), "contractAddress": null,
    }))
}

/// As a node answers that has not heard of the newest blocks.
async fn as_behind(behind: &Behind, call: &mut Value, method: &str, blocks: u64) -> Option<Told> {
    let head = number(&behind.call("eth_blockNumber", json!([])).await?)?.saturating_sub(blocks);
    let finalised = behind.call("eth_getBlockByNumber", json!(["finalized", false])).await?;
    let finalised = number(&finalised["number"])?.saturating_sub(blocks);
    let at = |value: &Value| match value.as_str() {
        Some("latest" | "pending" | "safe") | None => Some(head),
        Some("finalized") => Some(finalised),
        Some("earliest") => Some(0),
        _ => number(value),
    };
    let unknown = || Some(Err((-32000, "header not found".to_owned())));
    match method {
        "eth_blockNumber" => return Some(Ok(quantity(head))),
        "eth_getBlockByNumber" => {
            let wanted = at(&call["params"][0])?;
            if wanted > head {
                return Some(Ok(Value::Null));
            }
            call["params"][0] = quantity(wanted);
        }
        "eth_getBlockByHash" => {
            let newer = is_after(behind, &call["params"][0], head).await?;
            return newer.then_some(Ok(Value::Null));
        }
        "eth_getLogs" => {
            let filter = &call["params"][0];
            if filter["blockHash"].is_string() {
                let newer = is_after(behind, &filter["blockHash"], head).await?;
                return if newer { Some(Err((-32000, "unknown block".to_owned()))) } else { None };
            }
            let (first, last) = (at(&filter["fromBlock"])?, at(&filter["toBlock"])?);
            if first > head {
                return Some(Ok(json!([])));
            }
            call["params"][0]["fromBlock"] = quantity(first);
            call["params"][0]["toBlock"] = quantity(last.min(head));
        }
        "eth_call" | "eth_getBalance" | "eth_getTransactionCount" => {
            let block = &call["params"][1];
            if block["blockHash"].is_string() {
                return if is_after(behind, &block["blockHash"], head).await? { unknown() } else { None };
            }
            let wanted = at(if block.is_object() { &block["blockNumber"] } else { block })?;
            if wanted > head {
                return unknown();
            }
            call["params"][1] = quantity(wanted);
        }
        _ => {}
    }
    None
}

async fn is_after(behind: &Behind, hash: &Value, head: u64) -> Option<bool> {
    let block = behind.call("eth_getBlockByHash", json!([hash, false])).await?;
    Some(number(&block["number"]).is_none_or(|number| number > head))
}

/// Changes what was answered.
fn after(call: &Value, result: &mut Value, lie: &ExecutionLie) {
    let method = call["method"].as_str().unwrap_or_default();
    match (lie, method) {
        (ExecutionLie::NoLogs, "eth_getLogs") => *result = json!([]),
        (ExecutionLie::LogsWithout(topic), "eth_getLogs") => {
            let topic = hex::encode_prefixed(topic);
            if let Some(logs) = result.as_array_mut() {
                logs.retain(|log| log["topics"][0] != *topic);
            }
        }
        (ExecutionLie::LogsOfFork, "eth_getLogs") => {
            let other = format!("0x{}", "f0".repeat(32));
            result.as_array_mut().into_iter().flatten().for_each(|log| log["blockHash"] = json!(other));
        }
        (ExecutionLie::MalformedLogs, "eth_getLogs") => {
            result.as_array_mut().into_iter().flatten().for_each(|log| {
                log["data"] = json!("0x");
                log["topics"].as_array_mut().into_iter().for_each(|topics| topics.truncate(1));
            });
        }
        (ExecutionLie::ForgedLog(forged), "eth_getLogs") => {
            result.as_array_mut().into_iter().for_each(|logs| logs.push(forged.clone()));
        }
        (ExecutionLie::OtherReceipts, "eth_getTransactionReceipt") if result.is_object() => {
            result["transactionHash"] = json!(format!("0x{}", "f2".repeat(32)));
        }
        (ExecutionLie::Paid(price), "eth_getTransactionReceipt") if result.is_object() => {
            result["effectiveGasPrice"] = quantity(*price);
        }
        (ExecutionLie::WrongChain(chain), "eth_chainId") => *result = quantity(*chain),
        (ExecutionLie::OtherBlocks, "eth_getBlockByNumber") if result.is_object() => {
            result["hash"] = json!(format!("0x{}", "f1".repeat(32)));
        }
        (ExecutionLie::Estimate(gas), "eth_estimateGas") => *result = quantity(*gas),
        (ExecutionLie::Market(times), "eth_gasPrice" | "eth_maxPriorityFeePerGas") => scale(result, *times),
        (ExecutionLie::Market(times), "eth_feeHistory") => {
            let fees = result["baseFeePerGas"].as_array_mut().into_iter().flatten();
            fees.for_each(|fee| scale(fee, *times));
            let rewards = result["reward"].as_array_mut().into_iter().flatten();
            rewards.filter_map(Value::as_array_mut).flatten().for_each(|reward| scale(reward, *times));
        }
        (ExecutionLie::Market(times), "eth_getBlockByNumber") if result.is_object() => {
            scale(&mut result["baseFeePerGas"], *times);
        }
        (ExecutionLie::ForgetSent, "eth_getTransactionByHash") if result["blockHash"].is_null() => {
            *result = Value::Null;
        }
        (ExecutionLie::HeadAhead(more), "eth_blockNumber")
        | (ExecutionLie::NonceAhead(more), "eth_getTransactionCount") => {
            *result = quantity(number(result).unwrap_or(0) + more);
        }
        (ExecutionLie::LatestNonceAhead(more), "eth_getTransactionCount")
            if call["params"][1] == "latest" =>
        {
            *result = quantity(number(result).unwrap_or(0) + more);
        }
        _ => {}
    }
}

fn scale(value: &mut Value, times: u64) {
    if let Some(number) = number(value) {
        *value = quantity(number.saturating_mul(times));
    }
}
