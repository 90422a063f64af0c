//! Withdrawals to the execution chain (EIP-4895): whom a block pays, and what becomes of the balances.
//!
//! The rules are those of Electra's `get_expected_withdrawals` and `process_withdrawals`. A sweep goes round all
//! validators, some in each block, and pays those with a withdrawal address: everything once the withdrawable epoch has
//! come, and before that what is above the maximum effective balance. The specification also serves a queue of partial
//! withdrawals that were asked for; nothing enters that queue here, see [`super::withdrawal_requests`].

use super::state::{BeaconState, Validator};
use crate::Config;
use alloy::eips::eip4895::Withdrawal;
use std::sync::Arc;

/// `get_expected_withdrawals`: what the block at this state's slot pays.
pub fn expected(config: &Config, state: &BeaconState) -> Vec<Withdrawal> {
    let (epoch, count) = (state.epoch(config), state.validators.len() as u64);
    let visited = config.max_validators_per_withdrawals_sweep.min(count);
    let mut withdrawals = Vec::new();
    for step in 0..visited {
        if withdrawals.len() as u64 == config.max_withdrawals_per_payload {
            break;
        }
        let validator_index = (state.next_withdrawal_validator_index + step) % count;
        let position = validator_index as usize;
        let (Some(validator), Some(balance)) = (state.validators.get(position), state.balances.get(position))
        else {
            continue;
        };
        let amount = payable(validator, *balance, epoch);
        if let (Some(address), 1..) = (address(validator), amount) {
            let index = state.next_withdrawal_index + withdrawals.len() as u64;
            withdrawals.push(Withdrawal { index, validator_index, address: address.into(), amount });
        }
    }
    withdrawals
}

/// `process_withdrawals`: takes what the block pays off the balances and moves the sweep on.
pub fn process(config: &Config, state: &mut BeaconState) {
    let withdrawals = expected(config, state);
    let count = (state.validators.len() as u64).max(1);
    for withdrawal in &withdrawals {
        let balances = Arc::make_mut(&mut state.balances);
        if let Some(balance) = balances.get_mut(withdrawal.validator_index as usize) {
            *balance = balance.saturating_sub(withdrawal.amount);
        }
    }
    state.next_withdrawal_index += withdrawals.len() as u64;
    // A full block continues behind the last validator that it paid.
    let next = match withdrawals.last() {
        Some(last) if withdrawals.len() as u64 == config.max_withdrawals_per_payload => {
            last.validator_index + 1
        }
        _ => state.next_withdrawal_validator_index + config.max_validators_per_withdrawals_sweep,
    };
    state.next_withdrawal_validator_index = next % count;
}

/// `is_fully_withdrawable_validator` and `is_partially_withdrawable_validator`: how much may be paid, in Gwei.
fn payable(validator: &Validator, balance: u64, epoch: u64) -> u64 {
    let maximum = validator.max_effective_balance();
    if validator.withdrawable_epoch <= epoch {
        balance
    } else if validator.effective_balance == maximum {
        balance.saturating_sub(maximum)
    } else {
        0
    }
}

/// `has_execution_withdrawal_credential`, and the address in it.
fn address(validator: &Validator) -> Option<[u8; 20]> {
    match validator.withdrawal_credentials.split_last_chunk() {
        Some(([1 | 2, ..], address)) => Some(*address),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain;
    use super::super::state::{FAR_FUTURE_EPOCH, MIN_ACTIVATION_BALANCE};
    use super::*;

    const STAKE: u64 = MIN_ACTIVATION_BALANCE;

    fn genesis(validators: u64) -> (Config, BeaconState) {
        let config = Config { genesis_validators: validators, ..Config::default() };
        let state = chain::genesis_state(&config, [0; 32]);
        (config, state)
    }

    fn change(state: &mut BeaconState, index: usize, change: impl FnOnce(&mut Validator, &mut u64)) {
        let validator = &mut Arc::make_mut(&mut state.validators)[index];
        change(validator, &mut Arc::make_mut(&mut state.balances)[index]);
    }

    /// Index of the withdrawal, of the validator, and the amount.
    fn paid(config: &Config, state: &BeaconState) -> Vec<(u64, u64, u64)> {
        let withdrawals = expected(config, state);
        let shown =
            |withdrawal: &Withdrawal| (withdrawal.index, withdrawal.validator_index, withdrawal.amount);
        withdrawals.iter().map(shown).collect()
    }

    #[test]
    fn the_balance_is_paid_from_the_withdrawable_epoch_on_and_not_before() {
        let (config, mut state) = genesis(4);
        change(&mut state, 2, |validator, _| (validator.exit_epoch, validator.withdrawable_epoch) = (1, 3));
        state.slot = config.start_slot(3) - 1;
        assert_eq!(paid(&config, &state), []);
        state.slot += 1;
        assert_eq!(paid(&config, &state), [(0, 2, STAKE)]);

        // The address is the last twenty bytes of the credentials.
        let credentials = state.validators[2].withdrawal_credentials;
        assert_eq!(expected(&config, &state)[0].address.as_slice(), &credentials[12..]);

        process(&config, &mut state);
        assert_eq!((state.balances[2], state.next_withdrawal_index), (0, 1));
        assert_eq!(state.validators[2].status(3, state.balances[2]).name(), "withdrawal_done");
        assert_eq!(paid(&config, &state), []);
    }

    #[test]
    fn only_what_exceeds_the_maximum_is_paid_to_a_validator_that_stays() {
        let (config, mut state) = genesis(4);
        change(&mut state, 1, |_, balance| *balance += 7);
        assert_eq!(paid(&config, &state), [(0, 1, 7)]);
        process(&config, &mut state);
        assert_eq!(state.balances[1], STAKE);
        assert_eq!(paid(&config, &state), []);

        // Not before the effective balance has reached the maximum.
        change(&mut state, 1, |validator, balance| {
            validator.effective_balance -= 1_000_000_000;
            *balance += 7;
        });
        assert_eq!(paid(&config, &state), []);
        // A validator with compounding credentials may grow to 2048 ETH.
        change(&mut state, 2, |validator, balance| {
            validator.withdrawal_credentials[0] = 2;
            *balance += 7;
        });
        assert_eq!(paid(&config, &state), []);
        change(&mut state, 2, |validator, balance| {
            validator.effective_balance = 64 * STAKE;
            *balance = 64 * STAKE + 9;
        });
        assert_eq!(paid(&config, &state), [(1, 2, 9)]);
    }

    #[test]
    fn credentials_without_an_address_are_never_paid() {
        let (config, mut state) = genesis(4);
        for (index, prefix) in [(0, 0), (1, 3), (2, 2), (3, 1)] {
            change(&mut state, index, |validator, balance| {
                validator.withdrawal_credentials[0] = prefix;
                validator.withdrawable_epoch = 0;
                *balance += 7;
            });
        }
        assert_eq!(paid(&config, &state), [(0, 2, STAKE + 7), (1, 3, STAKE + 7)]);
    }

    #[test]
    fn slashing_delays_a_withdrawal_and_does_not_prevent_it() {
        let (config, mut state) = genesis(4);
        change(&mut state, 0, |validator, _| {
            validator.slashed = true;
            validator.withdrawable_epoch = 8192;
        });
        assert_eq!(paid(&config, &state), []);
        state.slot = config.start_slot(8192);
        assert_eq!(paid(&config, &state), [(0, 0, STAKE)]);
    }

    #[test]
    fn the_sweep_goes_round_all_validators_in_steps() {
        let (mut config, mut state) = genesis(7);
        (config.max_withdrawals_per_payload, config.max_validators_per_withdrawals_sweep) = (2, 4);
        for index in [1, 2, 3, 6] {
            change(&mut state, index, |validator, _| validator.withdrawable_epoch = 0);
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            let validators: Vec<_> = paid(&config, &state).iter().map(|withdrawal| withdrawal.1).collect();
            seen.push((state.next_withdrawal_validator_index, validators));
            process(&config, &mut state);
        }
        // A full block stops behind the last one that it paid; any other one goes its whole length.
        assert_eq!(seen, [(0, vec![1, 2]), (3, vec![3, 6]), (0, vec![]), (4, vec![])]);
        assert_eq!(state.next_withdrawal_index, 4);
        assert_eq!(state.validators[0].withdrawable_epoch, FAR_FUTURE_EPOCH);
        assert_eq!(*state.balances, [STAKE, 0, 0, 0, STAKE, STAKE, 0]);
    }

    #[test]
    fn no_validator_is_visited_twice_in_a_block() {
        let (config, mut state) = genesis(2);
        assert!(config.max_validators_per_withdrawals_sweep > 2);
        change(&mut state, 1, |_, balance| *balance += 7);
        assert_eq!(paid(&config, &state), [(0, 1, 7)]);
    }
}
