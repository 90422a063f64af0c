//! The Beacon API's JSON: numbers as strings, bytes as `0x…`.

use super::chain::Slot;
use super::deposits::PendingDeposit;
use super::identifiers::{decimal, fixed_hex};
use super::ssz::Chunk;
use super::state::{BeaconState, Checkpoint};
use crate::Config;
use postern_shared::bls::Signature;
use postern_shared::ethereum::{SignedVoluntaryExit, VoluntaryExit};
use serde_json::{Value, json};

/// The names of the forks, all active at genesis.
const FORKS: [&str; 6] = ["GENESIS", "ALTAIR", "BELLATRIX", "CAPELLA", "DENEB", "ELECTRA"];

/// Bytes as text.
pub fn hexadecimal(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// `/eth/v1/beacon/genesis`.
pub fn genesis(config: &Config, genesis_time: u64, genesis_validators_root: &Chunk) -> Value {
    json!({
        "genesis_time": genesis_time.to_string(),
        "genesis_validators_root": hexadecimal(genesis_validators_root),
        "genesis_fork_version": hexadecimal(&config.genesis_fork_version),
    })
}

/// `/eth/v1/config/spec`. `SECONDS_PER_SLOT` is rounded up to whole seconds; `SLOT_DURATION_MS` is exact.
pub fn spec(config: &Config) -> Value {
    let mut spec = serde_json::Map::new();
    let mut put = |name: &str, value: String| spec.insert(name.into(), Value::String(value));
    put("PRESET_BASE", "minimal".into());
    put("CONFIG_NAME", "postern-devnet".into());
    put("SECONDS_PER_SLOT", config.slot.as_millis().div_ceil(1000).max(1).to_string());
    put("SLOT_DURATION_MS", config.slot.as_millis().to_string());
    put("SLOTS_PER_EPOCH", config.slots_per_epoch.to_string());
    put("SHARD_COMMITTEE_PERIOD", config.shard_committee_period.to_string());
    put("MAX_SEED_LOOKAHEAD", config.max_seed_lookahead.to_string());
    put("MIN_VALIDATOR_WITHDRAWABILITY_DELAY", config.min_validator_withdrawability_delay.to_string());
    put("MAX_WITHDRAWALS_PER_PAYLOAD", config.max_withdrawals_per_payload.to_string());
    let sweep = config.max_validators_per_withdrawals_sweep;
    put("MAX_VALIDATORS_PER_WITHDRAWALS_SWEEP", sweep.to_string());
    put("MIN_PER_EPOCH_CHURN_LIMIT_ELECTRA", config.min_per_epoch_churn_limit.to_string());
    let churn = config.max_per_epoch_activation_exit_churn_limit;
    put("MAX_PER_EPOCH_ACTIVATION_EXIT_CHURN_LIMIT", churn.to_string());
    put("CHURN_LIMIT_QUOTIENT", config.churn_limit_quotient.to_string());
    put("MIN_ACTIVATION_BALANCE", super::state::MIN_ACTIVATION_BALANCE.to_string());
    put("EFFECTIVE_BALANCE_INCREMENT", super::state::EFFECTIVE_BALANCE_INCREMENT.to_string());
    put("FAR_FUTURE_EPOCH", super::state::FAR_FUTURE_EPOCH.to_string());
    put("DEPOSIT_CHAIN_ID", config.chain_id.to_string());
    put("DEPOSIT_NETWORK_ID", config.chain_id.to_string());
    put("DEPOSIT_CONTRACT_ADDRESS", hexadecimal(config.deposit_contract.as_slice()));
    put("DOMAIN_DEPOSIT", "0x03000000".into());
    put("DOMAIN_VOLUNTARY_EXIT", "0x04000000".into());
    for (fork, name) in (0..).zip(FORKS) {
        put(&format!("{name}_FORK_VERSION"), hexadecimal(&config.fork_version(fork)));
        if fork > 0 {
            put(&format!("{name}_FORK_EPOCH"), "0".into());
        }
    }
    Value::Object(spec)
}

/// `/eth/v1/config/fork_schedule`.
pub fn fork_schedule(config: &Config) -> Value {
    let forks = 0..FORKS.len() as u8;
    forks.map(|number| fork(config, number.saturating_sub(1), number)).collect()
}

/// The fork that every state is in.
pub fn current_fork(config: &Config) -> Value {
    let newest = FORKS.len() as u8 - 1;
    fork(config, newest - 1, newest)
}

fn fork(config: &Config, previous: u8, current: u8) -> Value {
    json!({
        "previous_version": hexadecimal(&config.fork_version(previous)),
        "current_version": hexadecimal(&config.fork_version(current)),
        "epoch": "0",
    })
}

/// `/eth/v1/beacon/headers/{block_id}`. Nobody signs: the signature is the point at infinity.
pub fn header(slot: &Slot) -> Value {
    let header = &slot.header;
    let mut signature = [0; 96];
    signature[0] = 0xc0;
    json!({
        "root": hexadecimal(&slot.root),
        "canonical": true,
        "header": {
            "message": {
                "slot": header.slot.to_string(),
                "proposer_index": header.proposer_index.to_string(),
                "parent_root": hexadecimal(&header.parent_root),
                "state_root": hexadecimal(&header.state_root),
                "body_root": hexadecimal(&header.body_root),
            },
            "signature": hexadecimal(&signature),
        },
    })
}

/// `/eth/v1/beacon/states/{state_id}/finality_checkpoints`.
pub fn finality_checkpoints(state: &BeaconState) -> Value {
    let checkpoint = |checkpoint: &Checkpoint| json!({ "epoch": checkpoint.epoch.to_string(), "root": hexadecimal(&checkpoint.root) });
    json!({
        "previous_justified": checkpoint(&state.previous_justified),
        "current_justified": checkpoint(&state.justified),
        "finalized": checkpoint(&state.finalized),
    })
}

/// One validator of `/eth/v1/beacon/states/{state_id}/validators`.
pub fn validator(config: &Config, state: &BeaconState, index: usize) -> Option<Value> {
    let (validator, balance) = (state.validators.get(index)?, *state.balances.get(index)?);
    Some(json!({
        "index": index.to_string(),
        "balance": balance.to_string(),
        "status": validator.status(state.epoch(config), balance).name(),
        "validator": {
            "pubkey": hexadecimal(&validator.pubkey),
            "withdrawal_credentials": hexadecimal(&validator.withdrawal_credentials),
            "effective_balance": validator.effective_balance.to_string(),
            "slashed": validator.slashed,
            "activation_eligibility_epoch": validator.activation_eligibility_epoch.to_string(),
            "activation_epoch": validator.activation_epoch.to_string(),
            "exit_epoch": validator.exit_epoch.to_string(),
            "withdrawable_epoch": validator.withdrawable_epoch.to_string(),
        },
    }))
}

/// A deposit that waits.
pub fn pending_deposit(PendingDeposit { request, slot }: &PendingDeposit) -> Value {
    json!({
        "pubkey": hexadecimal(&request.pubkey),
        "withdrawal_credentials": hexadecimal(&request.withdrawal_credentials),
        "amount": request.amount.to_string(),
        "signature": hexadecimal(&request.signature),
        "slot": slot.to_string(),
    })
}

/// A signed exit.
pub fn exit(exit: &SignedVoluntaryExit) -> Value {
    json!({
        "message": {
            "epoch": exit.message.epoch.to_string(),
            "validator_index": exit.message.validator_index.to_string(),
        },
        "signature": hexadecimal(&exit.signature.0),
    })
}

/// Reads a signed exit; `None` when a field is missing or malformed.
pub fn parse_exit(value: &Value) -> Option<SignedVoluntaryExit> {
    let message = value.get("message")?;
    let number = |name: &str| decimal(message.get(name)?.as_str()?);
    Some(SignedVoluntaryExit {
        message: VoluntaryExit { epoch: number("epoch")?, validator_index: number("validator_index")? },
        signature: Signature(fixed_hex(value.get("signature")?.as_str()?)?),
    })
}
