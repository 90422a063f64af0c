//! JSON-RPC over HTTP POST, single requests and batches.

use super::chain::{Block, ExecutionChain};
use super::rpc_error::RpcError;
use super::{evm, fees, logs, simulate, views};
use crate::world::Shared;
use alloy::eips::{BlockId, BlockNumberOrTag, RpcBlockHash};
use alloy::primitives::{Address, B256, Bytes, U64, U256};
use alloy::rpc::types::{Filter, TransactionRequest};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Requests in one batch, as in go-ethereum.
const MAX_BATCH: usize = 1000;
const CLIENT_VERSION: &str = concat!("postern-devnet/", env!("CARGO_PKG_VERSION"));

type Answer = Result<Value, RpcError>;

/// The execution node's one route.
pub fn router(world: Shared) -> Router {
    Router::new().route("/", post(handle)).with_state(world)
}

async fn handle(State(world): State<Shared>, body: axum::body::Bytes) -> Response {
    let answer = match serde_json::from_slice::<Value>(&body) {
        Err(error) => Some(failure(Value::Null, &RpcError::parse(error))),
        Ok(Value::Array(requests)) if requests.is_empty() || requests.len() > MAX_BATCH => {
            Some(failure(Value::Null, &RpcError::invalid_request()))
        }
        Ok(Value::Array(requests)) => {
            let answers: Vec<_> =
                requests.into_iter().filter_map(|request| answer(&world, request)).collect();
            (!answers.is_empty()).then(|| answers.into())
        }
        Ok(request) => answer(&world, request),
    };
    // Notifications get no answer at all.
    answer.map_or_else(|| ().into_response(), |answer| Json(answer).into_response())
}

fn answer(world: &Shared, request: Value) -> Option<Value> {
    let Value::Object(mut request) = request else {
        return Some(failure(Value::Null, &RpcError::invalid_request()));
    };
    let id = request.remove("id");
    let Some(Value::String(method)) = request.remove("method") else {
        return Some(failure(id.unwrap_or(Value::Null), &RpcError::invalid_request()));
    };
    let result = match request.remove("params").unwrap_or(Value::Null) {
        Value::Null => dispatch(&mut world.lock().execution, &method, &Params(Vec::new())),
        Value::Array(params) => dispatch(&mut world.lock().execution, &method, &Params(params)),
        _ => Err(RpcError::invalid_params("non-array args")),
    };
    let id = id?;
    Some(match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => failure(id, &error),
    })
}

fn failure(id: Value, error: &RpcError) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": error.to_json() })
}

/// Answers one request.
pub fn dispatch(chain: &mut ExecutionChain, method: &str, params: &Params) -> Answer {
    match method {
        "web3_clientVersion" => show(CLIENT_VERSION),
        "net_version" => show(chain.chain_id().to_string()),
        "eth_chainId" => show(U64::from(chain.chain_id())),
        "eth_syncing" => show(false),
        "eth_accounts" => show([(); 0]),
        "eth_blockNumber" => show(U64::from(chain.head().header.number)),
        "eth_gasPrice" => show(U256::from(fees::gas_price(chain))),
        "eth_maxPriorityFeePerGas" => show(U256::from(fees::SUGGESTED_TIP)),
        "eth_feeHistory" => fee_history(chain, params),
        "eth_getBlockByNumber" => {
            let tag: BlockNumberOrTag = params.required(0, "block number")?;
            block_view(at(chain, tag.into()), params)
        }
        "eth_getBlockByHash" => {
            let hash: B256 = params.required(0, "block hash")?;
            block_view(chain.block_by_hash(&hash), params)
        }
        "eth_getBalance" => {
            let block = state(chain, params, 1)?;
            show(evm::account(&block.accounts, params.required(0, "address")?).balance)
        }
        "eth_getCode" => {
            let block = state(chain, params, 1)?;
            show(evm::code(&block.accounts, params.required(0, "address")?))
        }
        "eth_getStorageAt" => {
            let block = state(chain, params, 2)?;
            let value =
                evm::storage(&block.accounts, params.required(0, "address")?, params.required(1, "slot")?);
            show(B256::from(value))
        }
        "eth_getTransactionCount" => transaction_count(chain, params),
        "eth_getTransactionByHash" => {
            let hash: B256 = params.required(0, "transaction hash")?;
            let included = chain.locate(&hash).and_then(|(block, index)| views::included(block, index));
            show(included.or_else(|| chain.mempool.get(&hash).map(views::waiting)))
        }
        "eth_getTransactionReceipt" => {
            let hash: B256 = params.required(0, "transaction hash")?;
            show(chain.locate(&hash).and_then(|(block, index)| views::receipt(block, index)))
        }
        "eth_getBlockReceipts" => {
            let block = at(chain, params.required(0, "block")?);
            let receipts = |block: &Block| -> Vec<_> {
                (0..block.transactions.len()).filter_map(|index| views::receipt(block, index)).collect()
            };
            show(block.map(receipts))
        }
        "eth_getLogs" => show(logs::get_logs(chain, &params.required::<Filter>(0, "filter")?)?),
        "eth_call" => {
            params.refuse_overrides()?;
            let request: TransactionRequest = params.required(0, "transaction")?;
            show(simulate::call(state(chain, params, 1)?, chain.chain_id(), &request)?)
        }
        "eth_estimateGas" => {
            params.refuse_overrides()?;
            let request: TransactionRequest = params.required(0, "transaction")?;
            show(U64::from(simulate::estimate_gas(state(chain, params, 1)?, chain.chain_id(), &request)?))
        }
        "eth_sendRawTransaction" => {
            let raw: Bytes = params.required(0, "transaction")?;
            show(chain.submit(&raw)?)
        }
        _ => Err(RpcError::unknown_method(method)),
    }
}

fn fee_history(chain: &ExecutionChain, params: &Params) -> Answer {
    // Both a hexadecimal quantity and a plain number are in use.
    let count = match params.get(0) {
        Some(Value::Number(number)) => {
            number.as_u64().ok_or_else(|| RpcError::invalid_params("block count"))?
        }
        _ => params.required::<U64>(0, "block count")?.to(),
    };
    let newest: BlockNumberOrTag = params.required(1, "newest block")?;
    let newest = at(chain, newest.into()).ok_or_else(|| RpcError::refused("request beyond head block"))?;
    let percentiles: Option<Vec<f64>> = params.optional(2, "reward percentiles")?;
    let sorted = |list: &Vec<f64>| list.is_sorted() && list.iter().all(|value| (0.0..=100.0).contains(value));
    if !percentiles.as_ref().is_none_or(sorted) {
        return Err(RpcError::refused("invalid reward percentile"));
    }
    show(fees::fee_history(chain, count, newest, percentiles.as_deref()))
}

fn transaction_count(chain: &ExecutionChain, params: &Params) -> Answer {
    let address: Address = params.required(0, "address")?;
    let nonce = evm::account(&state(chain, params, 1)?.accounts, address).nonce;
    let pending = params.optional::<BlockId>(1, "block")? == Some(BlockId::pending());
    show(U64::from(if pending { chain.mempool.next_nonce(address, nonce) } else { nonce }))
}

fn block_view(block: Option<&Block>, params: &Params) -> Answer {
    let full: bool = params.optional(1, "full transactions")?.unwrap_or(false);
    show(block.map(|block| views::block(block, full)))
}

/// The block whose state is asked for; the newest unless said otherwise.
fn state<'a>(chain: &'a ExecutionChain, params: &Params, index: usize) -> Result<&'a Block, RpcError> {
    let id: BlockId = params.optional(index, "block")?.unwrap_or(BlockId::latest());
    at(chain, id).ok_or_else(RpcError::unknown_block)
}

/// A block by hash, number or tag. The pending block is the newest one: what waits is not run before its block.
fn at(chain: &ExecutionChain, id: BlockId) -> Option<&Block> {
    match id {
        BlockId::Hash(RpcBlockHash { block_hash, .. }) => chain.block_by_hash(&block_hash),
        BlockId::Number(BlockNumberOrTag::Latest | BlockNumberOrTag::Pending) => Some(chain.head()),
        BlockId::Number(BlockNumberOrTag::Finalized) => chain.block(chain.finalized()),
        BlockId::Number(BlockNumberOrTag::Safe) => chain.block(chain.safe()),
        BlockId::Number(BlockNumberOrTag::Earliest) => chain.block(0),
        BlockId::Number(BlockNumberOrTag::Number(number)) => chain.block(number),
    }
}

/// The positional arguments of a request.
#[derive(Debug)]
pub struct Params(Vec<Value>);

impl Params {
    fn get(&self, index: usize) -> Option<&Value> {
        self.0.get(index).filter(|value| !value.is_null())
    }

    fn required<T: DeserializeOwned>(&self, index: usize, what: &str) -> Result<T, RpcError> {
        let missing =
            || RpcError::invalid_params(format!("missing value for required argument {index} ({what})"));
        self.optional(index, what)?.ok_or_else(missing)
    }

    fn optional<T: DeserializeOwned>(&self, index: usize, what: &str) -> Result<Option<T>, RpcError> {
        let Some(value) = self.get(index) else { return Ok(None) };
        T::deserialize(value)
            .map(Some)
            .map_err(|error| RpcError::invalid_params(format!("argument {index} ({what}): {error}")))
    }

    /// State and block overrides are not served; ignoring them would answer another question.
    fn refuse_overrides(&self) -> Result<(), RpcError> {
        let empty = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
        if [2, 3].iter().filter_map(|index| self.get(*index)).all(empty) {
            Ok(())
        } else {
            Err(RpcError::invalid_params("state and block overrides are not supported"))
        }
    }
}

fn show(value: impl Serialize) -> Answer {
    serde_json::to_value(value).map_err(|error| RpcError::refused(error.to_string()))
}
