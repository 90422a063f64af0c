//! Who may come and go, and how fast: churn, activation and exit queue, effective balances.

use super::state::{
    BeaconState, EFFECTIVE_BALANCE_INCREMENT, FAR_FUTURE_EPOCH, MIN_ACTIVATION_BALANCE, Validator,
};
use crate::Config;
use std::sync::Arc;

/// `compute_activation_exit_epoch`: when what is decided now takes effect.
pub fn activation_exit_epoch(config: &Config, epoch: u64) -> u64 {
    epoch.saturating_add(1).saturating_add(config.max_seed_lookahead)
}

/// A balance rounded down to whole increments.
pub fn whole_increments(balance: u64) -> u64 {
    balance - balance % EFFECTIVE_BALANCE_INCREMENT
}

/// `get_activation_exit_churn_limit`: how much stake, in Gwei, may come or go in one epoch.
pub fn activation_exit_churn(config: &Config, state: &BeaconState) -> u64 {
    let epoch = state.epoch(config);
    let active = state.validators.iter().filter(|validator| validator.is_active(epoch));
    let total: u64 = active.map(|validator| validator.effective_balance).sum();
    let churn = config.min_per_epoch_churn_limit.max(total / config.churn_limit_quotient.max(1));
    whole_increments(churn)
        .min(config.max_per_epoch_activation_exit_churn_limit)
        .max(EFFECTIVE_BALANCE_INCREMENT)
}

/// `process_registry_updates`: who has enough joins the activation queue; who is in it, and final, gets an epoch.
/// (Nobody loses balance here, so nobody is ejected.)
pub fn process_updates(config: &Config, state: &mut BeaconState) {
    let epoch = state.epoch(config);
    let finalized = state.finalized.epoch;
    let joins = |validator: &Validator| {
        validator.activation_eligibility_epoch == FAR_FUTURE_EPOCH
            && validator.effective_balance >= MIN_ACTIVATION_BALANCE
    };
    let activates = |validator: &Validator| {
        validator.activation_epoch == FAR_FUTURE_EPOCH && validator.activation_eligibility_epoch <= finalized
    };
    if !state.validators.iter().any(|validator| joins(validator) || activates(validator)) {
        return;
    }
    for validator in Arc::make_mut(&mut state.validators) {
        if joins(validator) {
            validator.activation_eligibility_epoch = epoch + 1;
        } else if activates(validator) {
            validator.activation_epoch = activation_exit_epoch(config, epoch);
        }
    }
}

/// `initiate_validator_exit`: puts a validator at the end of the exit queue. Does nothing if it is in it.
pub fn initiate_exit(config: &Config, state: &mut BeaconState, index: usize) {
    let Some(validator) = state.validators.get(index) else { return };
    if validator.exit_epoch != FAR_FUTURE_EPOCH {
        return;
    }
    let exit_epoch = next_exit_epoch(config, state, validator.effective_balance);
    if let Some(validator) = Arc::make_mut(&mut state.validators).get_mut(index) {
        validator.exit_epoch = exit_epoch;
        validator.withdrawable_epoch = exit_epoch.saturating_add(config.min_validator_withdrawability_delay);
    }
}

/// `compute_exit_epoch_and_update_churn`.
fn next_exit_epoch(config: &Config, state: &mut BeaconState, exit_balance: u64) -> u64 {
    let churn = activation_exit_churn(config, state);
    let mut epoch = state.earliest_exit_epoch.max(activation_exit_epoch(config, state.epoch(config)));
    let mut left = if state.earliest_exit_epoch < epoch { churn } else { state.exit_balance_to_consume };
    if exit_balance > left {
        let more_epochs = (exit_balance - left).div_ceil(churn);
        epoch += more_epochs;
        left += more_epochs * churn;
    }
    state.exit_balance_to_consume = left - exit_balance;
    state.earliest_exit_epoch = epoch;
    epoch
}

/// `process_effective_balance_updates`, with the specification's hysteresis.
pub fn process_effective_balances(state: &mut BeaconState) {
    let downward = EFFECTIVE_BALANCE_INCREMENT / 4;
    let upward = EFFECTIVE_BALANCE_INCREMENT / 4 * 5;
    let moved = |validator: &Validator, balance: u64| {
        let moves = balance + downward < validator.effective_balance
            || validator.effective_balance + upward < balance;
        let target = whole_increments(balance).min(validator.max_effective_balance());
        (moves && target != validator.effective_balance).then_some(target)
    };
    let balances = state.balances.clone();
    if !state
        .validators
        .iter()
        .zip(balances.iter())
        .any(|(validator, balance)| moved(validator, *balance).is_some())
    {
        return;
    }
    for (validator, balance) in Arc::make_mut(&mut state.validators).iter_mut().zip(balances.iter()) {
        if let Some(target) = moved(validator, *balance) {
            validator.effective_balance = target;
        }
    }
}
