//! Exits that the withdrawal address asks for (EIP-7002): the rules of Electra's `process_withdrawal_request`.

use super::registry;
use super::state::{BeaconState, FAR_FUTURE_EPOCH};
use crate::Config;

/// `FULL_EXIT_REQUEST_AMOUNT`.
const FULL_EXIT: u64 = 0;

/// `WithdrawalRequest` of EIP-7002.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WithdrawalRequest {
    /// Who called the contract.
    pub source_address: [u8; 20],
    /// The validator that is meant.
    pub pubkey: [u8; 48],
    /// Gwei; zero is a full exit.
    pub amount: u64,
}

impl WithdrawalRequest {
    /// The SSZ bytes that the execution block commits to.
    pub fn encode(&self) -> Vec<u8> {
        [&self.source_address[..], &self.pubkey, &self.amount.to_le_bytes()].concat()
    }
}

/// `process_withdrawal_request`. What cannot be followed is dropped without an answer. Partial withdrawals always are:
/// nothing here makes validators with compounding credentials, and others cannot have any.
pub fn process(config: &Config, state: &mut BeaconState, request: &WithdrawalRequest) {
    let Some(index) = state.index_of(&request.pubkey) else { return };
    let Some(validator) = state.validators.get(index) else { return };
    let epoch = state.epoch(config);
    let (prefix, address) = validator.withdrawal_credentials.split_at(12);
    let is_owner = matches!(prefix.first(), Some(1 | 2)) && address == request.source_address;
    let is_old_enough = epoch >= validator.activation_epoch.saturating_add(config.shard_committee_period);
    if is_owner
        && validator.is_active(epoch)
        && validator.exit_epoch == FAR_FUTURE_EPOCH
        && is_old_enough
        && request.amount == FULL_EXIT
    {
        registry::initiate_exit(config, state, index);
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain;
    use super::super::transition::{BlockInputs, next_slot};
    use super::*;
    use std::sync::Arc;

    /// A state in which validator 0 may leave, and the request that makes it.
    fn ready(config: &Config) -> (BeaconState, WithdrawalRequest) {
        let mut state = chain::genesis_state(config, [0; 32]);
        state.slot = config.start_slot(config.shard_committee_period);
        let validator = &state.validators[0];
        let source_address = validator.withdrawal_credentials[12..].try_into().unwrap();
        let request = WithdrawalRequest { source_address, pubkey: validator.pubkey, amount: FULL_EXIT };
        (state, request)
    }

    fn exits(config: &Config, state: &BeaconState, request: WithdrawalRequest) -> bool {
        let mut after = state.clone();
        process(config, &mut after, &request);
        let changed = after.validators != state.validators;
        assert_eq!(changed, after != *state);
        changed
    }

    #[test]
    fn the_withdrawal_address_brings_its_validator_out() {
        let config = Config::default();
        let (state, request) = ready(&config);
        let block = BlockInputs { withdrawal_requests: vec![request], ..BlockInputs::default() };
        let after = next_slot(&config, &state, [0; 32], &block);
        let expected = state.epoch(&config) + 1 + config.max_seed_lookahead;
        assert_eq!(after.validators[0].exit_epoch, expected);
        assert!(after.validators[1..].iter().all(|validator| validator.exit_epoch == FAR_FUTURE_EPOCH));
        // Once more changes nothing.
        assert!(!exits(&config, &after, request));
    }

    #[test]
    fn what_cannot_be_followed_is_dropped() {
        let config = Config::default();
        let (state, request) = ready(&config);
        assert!(exits(&config, &state, request));
        assert!(!exits(&config, &state, WithdrawalRequest { pubkey: [7; 48], ..request }));
        assert!(!exits(&config, &state, WithdrawalRequest { source_address: [7; 20], ..request }));
        assert!(!exits(&config, &state, WithdrawalRequest { amount: 1, ..request }));

        let changed = |change: fn(&mut super::super::state::Validator)| {
            let mut state = state.clone();
            change(&mut Arc::make_mut(&mut state.validators)[0]);
            state
        };
        // A withdrawal address counts only as such: a BLS credential may end in the same bytes.
        assert!(!exits(&config, &changed(|validator| validator.withdrawal_credentials[0] = 0), request));
        assert!(exits(&config, &changed(|validator| validator.withdrawal_credentials[0] = 2), request));
        assert!(!exits(&config, &changed(|validator| validator.activation_epoch = 9), request));
        assert!(!exits(&config, &changed(|validator| validator.activation_epoch = 1), request));
        assert!(!exits(&config, &changed(|validator| validator.exit_epoch = 9), request));
        assert!(!exits(&config, &changed(|validator| validator.exit_epoch = 1), request));
    }
}
