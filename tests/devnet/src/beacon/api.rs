//! The standard Beacon API, as much of it as Postern's hosts and their users ask for.

use super::api_error::ApiError;
use super::chain::Slot;
use super::identifiers::{self, StatusFilter, ValidatorId};
use super::views;
use crate::world::{Shared, World};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

const VERSION: &str = concat!("postern-devnet/", env!("CARGO_PKG_VERSION"));
/// Validators named in one request.
const MAX_IDS: usize = 10_000;

type Answer = Result<Json<Value>, ApiError>;

/// All routes of the beacon node.
pub fn router(world: Shared) -> Router {
    Router::new()
        .route("/eth/v1/node/version", get(async || data(json!({ "version": VERSION }))))
        .route("/eth/v1/node/health", get(async || StatusCode::OK))
        .route("/eth/v1/node/syncing", get(syncing))
        .route("/eth/v1/beacon/genesis", get(genesis))
        .route("/eth/v1/config/spec", get(spec))
        .route("/eth/v1/config/fork_schedule", get(fork_schedule))
        .route("/eth/v1/config/deposit_contract", get(deposit_contract))
        .route("/eth/v1/beacon/headers", get(head_header))
        .route("/eth/v1/beacon/headers/{block_id}", get(header))
        .route("/eth/v1/beacon/blocks/{block_id}/root", get(block_root))
        .route("/eth/v1/beacon/states/{state_id}/root", get(state_root))
        .route("/eth/v1/beacon/states/{state_id}/fork", get(fork))
        .route("/eth/v1/beacon/states/{state_id}/finality_checkpoints", get(finality_checkpoints))
        .route("/eth/v1/beacon/states/{state_id}/validators", get(validators).post(post_validators))
        .route("/eth/v1/beacon/states/{state_id}/validators/{validator_id}", get(validator))
        .route("/eth/v1/beacon/states/{state_id}/pending_deposits", get(pending_deposits))
        .route("/eth/v1/beacon/pool/voluntary_exits", get(pooled_exits).post(post_exit))
        .fallback(async || ApiError::not_found("Route does not exist"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .with_state(world)
}

async fn syncing(State(world): State<Shared>) -> Json<Value> {
    let slot = world.lock().beacon.head().slot.to_string();
    data(json!({
        "head_slot": slot, "sync_distance": "0", "is_syncing": false, "is_optimistic": false, "el_offline": false,
    }))
}

async fn genesis(State(world): State<Shared>) -> Json<Value> {
    let World { config, beacon, .. } = &*world.lock();
    data(views::genesis(config, beacon.genesis_time(), &beacon.genesis_validators_root()))
}

async fn spec(State(world): State<Shared>) -> Json<Value> {
    data(views::spec(&world.lock().config))
}

async fn fork_schedule(State(world): State<Shared>) -> Json<Value> {
    data(views::fork_schedule(&world.lock().config))
}

async fn deposit_contract(State(world): State<Shared>) -> Json<Value> {
    let config = &world.lock().config;
    let address = views::hexadecimal(config.deposit_contract.as_slice());
    data(json!({ "chain_id": config.chain_id.to_string(), "address": address }))
}

async fn head_header(State(world): State<Shared>) -> Answer {
    with_block(&world, "head", |slot| json!([views::header(slot)]))
}

async fn header(State(world): State<Shared>, Path(id): Path<String>) -> Answer {
    with_block(&world, &id, views::header)
}

async fn block_root(State(world): State<Shared>, Path(id): Path<String>) -> Answer {
    with_block(&world, &id, |slot| json!({ "root": views::hexadecimal(&slot.root) }))
}

async fn state_root(State(world): State<Shared>, Path(id): Path<String>) -> Answer {
    with_state(&world, &id, |_, slot| Ok(json!({ "root": views::hexadecimal(&slot.header.state_root) })))
}

async fn fork(State(world): State<Shared>, Path(id): Path<String>) -> Answer {
    with_state(&world, &id, |world, _| Ok(views::current_fork(&world.config)))
}

async fn finality_checkpoints(State(world): State<Shared>, Path(id): Path<String>) -> Answer {
    with_state(&world, &id, |_, slot| Ok(views::finality_checkpoints(&slot.state)))
}

async fn validator(State(world): State<Shared>, Path((state_id, id)): Path<(String, String)>) -> Answer {
    with_state(&world, &state_id, |world, slot| {
        let index = ValidatorId::parse(&id)?.find(&slot.state);
        let found = index.and_then(|index| views::validator(&world.config, &slot.state, index));
        found.ok_or_else(|| ApiError::not_found(format!("Validator not found: {id}")))
    })
}

async fn pending_deposits(State(world): State<Shared>, Path(state_id): Path<String>) -> Answer {
    with_state(&world, &state_id, |_, slot| {
        Ok(slot.state.pending_deposits.iter().map(views::pending_deposit).collect())
    })
}

async fn validators(
    State(world): State<Shared>,
    Path(state_id): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Answer {
    // Both `?id=1&id=2` and `?id=1,2` are in use.
    let values = |name: &str| -> Vec<String> {
        let named = query.iter().filter(|(key, _)| key == name);
        named.flat_map(|(_, list)| list.split(',').map(str::to_owned)).collect()
    };
    list_validators(&world, &state_id, &values("id"), &values("status"))
}

async fn post_validators(State(world): State<Shared>, Path(state_id): Path<String>, body: Bytes) -> Answer {
    let body = parse_body(&body)?;
    let values = |name: &str| -> Result<Vec<String>, ApiError> {
        let malformed = || ApiError::bad_request(format!("Invalid request body: {name}"));
        match body.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(list)) => {
                list.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(malformed)).collect()
            }
            Some(_) => Err(malformed()),
        }
    };
    list_validators(&world, &state_id, &values("ids")?, &values("statuses")?)
}

/// Those validators that are named (all, if none is) and have one of the statuses (any, if none is given). Names that
/// nobody has are passed over, as the API says.
fn list_validators(world: &Shared, state_id: &str, ids: &[String], statuses: &[String]) -> Answer {
    if ids.len() > MAX_IDS {
        return Err(ApiError::bad_request("too many validator IDs"));
    }
    let ids = ids.iter().map(|id| ValidatorId::parse(id)).collect::<Result<Vec<_>, _>>()?;
    let filters = statuses.iter().map(|status| StatusFilter::parse(status)).collect::<Result<Vec<_>, _>>()?;
    with_state(world, state_id, |world, slot| {
        let state = &slot.state;
        let epoch = state.epoch(&world.config);
        let mut indices: Vec<usize> = if ids.is_empty() {
            (0..state.validators.len()).collect()
        } else {
            ids.iter().filter_map(|id| id.find(state)).collect()
        };
        indices.sort_unstable();
        indices.dedup();
        let admitted = |index: &usize| {
            let (Some(validator), Some(balance)) = (state.validators.get(*index), state.balances.get(*index))
            else {
                return false;
            };
            let status = validator.status(epoch, *balance);
            filters.is_empty() || filters.iter().any(|filter| filter.admits(status))
        };
        let chosen = indices.into_iter().filter(admitted);
        Ok(chosen.filter_map(|index| views::validator(&world.config, state, index)).collect())
    })
}

async fn pooled_exits(State(world): State<Shared>) -> Json<Value> {
    data(world.lock().beacon.pooled_exits().map(views::exit).collect())
}

async fn post_exit(State(world): State<Shared>, body: Bytes) -> Result<Response, ApiError> {
    let body = parse_body(&body)?;
    let exit = views::parse_exit(&body)
        .ok_or_else(|| ApiError::bad_request("Invalid request body: not a SignedVoluntaryExit"))?;
    let World { config, beacon, .. } = &mut *world.lock();
    beacon.submit_exit(config, exit)?;
    Ok(StatusCode::OK.into_response())
}

fn parse_body(body: &Bytes) -> Result<Value, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("Invalid request body: {error}")))
}

fn with_block(world: &Shared, id: &str, view: impl FnOnce(&Slot) -> Value) -> Answer {
    let world = world.lock();
    let slot = identifiers::block(&world.beacon, &world.config, id)?;
    Ok(located(&world, slot, view(slot)))
}

fn with_state(
    world: &Shared,
    id: &str,
    view: impl FnOnce(&World, &Slot) -> Result<Value, ApiError>,
) -> Answer {
    let world = world.lock();
    let slot = identifiers::state(&world.beacon, &world.config, id)?;
    Ok(located(&world, slot, view(&world, slot)?))
}

/// An answer about a place on the chain says whether that place is final.
fn located(world: &World, slot: &Slot, data: Value) -> Json<Value> {
    let finalized = slot.header.slot <= world.config.start_slot(world.beacon.head().finalized.epoch);
    Json(json!({ "execution_optimistic": false, "finalized": finalized, "data": data }))
}

fn data(data: Value) -> Json<Value> {
    Json(json!({ "data": data }))
}
