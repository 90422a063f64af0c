//! The state transition: from one slot's state to the next one's. A pure function, without clock or node.

use super::deposits::{self, DepositRequest, PendingDeposit};
use super::exits;
use super::registry;
use super::ssz::Chunk;
use super::state::{BeaconState, Checkpoint};
use super::withdrawal_requests::{self, WithdrawalRequest};
use super::withdrawals;
use crate::Config;
use alloy::eips::eip4895::Withdrawal;
use postern_shared::ethereum::SignedVoluntaryExit;
use std::sync::Arc;

/// `MAX_VOLUNTARY_EXITS` of one block.
pub const MAX_VOLUNTARY_EXITS: usize = 16;

/// What a block brings.
#[derive(Debug, Clone, Default)]
pub struct BlockInputs {
    /// The execution block.
    pub execution_block_hash: Chunk,
    /// Deposits in the execution block.
    pub deposits: Vec<DepositRequest>,
    /// Exits that withdrawal addresses asked for in the execution block.
    pub withdrawal_requests: Vec<WithdrawalRequest>,
    /// Voluntary exits; those that are not valid are passed over.
    pub exits: Vec<SignedVoluntaryExit>,
}

/// The state at the next slot, from the state at this one, the root of its block, and the next block.
pub fn next_slot(
    config: &Config,
    state: &BeaconState,
    block_root: Chunk,
    block: &BlockInputs,
) -> BeaconState {
    let mut next = process_slot(config, state, block_root);
    process_block(config, &mut next, block);
    next
}

/// What the block at the next slot pays out. The execution block comes first, so it has to know.
pub fn next_withdrawals(config: &Config, state: &BeaconState, block_root: Chunk) -> Vec<Withdrawal> {
    withdrawals::expected(config, &process_slot(config, state, block_root))
}

/// `process_slots`, up to the next slot.
fn process_slot(config: &Config, state: &BeaconState, block_root: Chunk) -> BeaconState {
    let mut next = state.clone();
    if state.slot.is_multiple_of(config.slots_per_epoch) {
        next.epoch_start_root = block_root;
    }
    if (state.slot + 1).is_multiple_of(config.slots_per_epoch) {
        process_epoch(config, &mut next);
    }
    next.slot += 1;
    next
}

/// `process_epoch`, in the order of the specification; what nobody here does (attest, slash, sync) is left out.
fn process_epoch(config: &Config, state: &mut BeaconState) {
    process_justification_and_finalization(config, state);
    registry::process_updates(config, state);
    deposits::process_pending(config, state);
    registry::process_effective_balances(state);
}

/// Everybody attests to everything: the epoch that ends is justified, and with it the one before becomes final.
fn process_justification_and_finalization(config: &Config, state: &mut BeaconState) {
    let epoch = state.epoch(config);
    if epoch <= 1 {
        // `GENESIS_EPOCH + 1`: the specification lets the first two epochs pass.
        return;
    }
    state.previous_justified = state.justified;
    state.justified = Checkpoint { epoch, root: state.epoch_start_root };
    if state.previous_justified.epoch + 1 == epoch {
        state.finalized = state.previous_justified;
    }
}

fn process_block(config: &Config, state: &mut BeaconState, block: &BlockInputs) {
    withdrawals::process(config, state);
    state.execution_block_hash = block.execution_block_hash;
    for exit in block.exits.iter().take(MAX_VOLUNTARY_EXITS) {
        // A proposer takes only what is valid; what is not changes nothing.
        let _ = exits::process(config, state, exit);
    }
    if !block.deposits.is_empty() {
        let slot = state.slot;
        let pending = block.deposits.iter().map(|request| PendingDeposit { request: request.clone(), slot });
        Arc::make_mut(&mut state.pending_deposits).extend(pending);
    }
    for request in &block.withdrawal_requests {
        withdrawal_requests::process(config, state, request);
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain;
    use super::*;

    fn run(config: &Config, state: &BeaconState, slots: u64, first: BlockInputs) -> BeaconState {
        (0..slots)
            .fold((state.clone(), first), |(state, block), _| {
                (next_slot(config, &state, [state.slot as u8; 32], &block), BlockInputs::default())
            })
            .0
    }

    #[test]
    fn finality_follows_two_epochs_behind_after_the_first_ones() {
        let config = Config::default();
        let mut state = chain::genesis_state(&config, [0; 32]);
        let mut seen = Vec::new();
        for _ in 0..7 {
            seen.push((state.epoch(&config), state.justified.epoch, state.finalized.epoch));
            state = run(&config, &state, config.slots_per_epoch, BlockInputs::default());
        }
        let expected = [(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 2, 0), (4, 3, 2), (5, 4, 3), (6, 5, 4)];
        assert_eq!(seen, expected);
        // The checkpoint's root is that of the block at the epoch's first slot.
        assert_eq!(state.finalized.root, [(state.finalized.epoch * config.slots_per_epoch) as u8; 32]);
    }

    #[test]
    fn a_deposit_with_a_bad_proof_of_possession_makes_no_validator() {
        let config = Config::default();
        let state = chain::genesis_state(&config, [0; 32]);
        let deposit = DepositRequest {
            pubkey: [7; 48],
            withdrawal_credentials: [1; 32],
            amount: 32_000_000_000,
            signature: [7; 96],
            index: 0,
        };
        let block = BlockInputs { deposits: vec![deposit], ..BlockInputs::default() };
        let after = run(&config, &state, 1, block);
        assert_eq!(after.pending_deposits.len(), 1);
        let after = run(&config, &after, 8 * config.slots_per_epoch, BlockInputs::default());
        assert!(after.pending_deposits.is_empty());
        assert_eq!(after.validators.len(), state.validators.len());
    }

    #[test]
    fn the_exit_queue_fills_epoch_by_epoch() {
        let churn = 64_000_000_000; // Two validators an epoch.
        let config = Config {
            min_per_epoch_churn_limit: churn,
            max_per_epoch_activation_exit_churn_limit: churn,
            ..Config::default()
        };
        let mut state = chain::genesis_state(&config, [0; 32]);
        (0..5).for_each(|index| registry::initiate_exit(&config, &mut state, index));
        let epochs: Vec<u64> =
            state.validators.iter().take(5).map(|validator| validator.exit_epoch).collect();
        let first = 1 + config.max_seed_lookahead;
        assert_eq!(epochs, [first, first, first + 1, first + 1, first + 2]);
        assert_eq!(
            state.validators[0].withdrawable_epoch,
            first + config.min_validator_withdrawability_delay
        );
    }
}
