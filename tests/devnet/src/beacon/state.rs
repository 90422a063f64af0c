//! What the beacon chain knows at one slot.

use super::deposits::PendingDeposit;
use super::ssz::{self, Chunk};
use crate::Config;
use std::sync::Arc;

/// An epoch that never comes.
pub const FAR_FUTURE_EPOCH: u64 = u64::MAX;
/// `MIN_ACTIVATION_BALANCE`, in Gwei.
pub const MIN_ACTIVATION_BALANCE: u64 = 32_000_000_000;
/// `EFFECTIVE_BALANCE_INCREMENT`, in Gwei.
pub const EFFECTIVE_BALANCE_INCREMENT: u64 = 1_000_000_000;
/// `VALIDATOR_REGISTRY_LIMIT` is two to this power.
const REGISTRY_DEPTH: u32 = 40;

/// `Validator` of consensus-specs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validator {
    /// BLS public key.
    pub pubkey: [u8; 48],
    /// Where the stake goes.
    pub withdrawal_credentials: [u8; 32],
    /// Gwei, in whole increments.
    pub effective_balance: u64,
    /// Never true here: nobody slashes.
    pub slashed: bool,
    /// When it joined the activation queue.
    pub activation_eligibility_epoch: u64,
    /// First epoch of duty.
    pub activation_epoch: u64,
    /// First epoch without duty.
    pub exit_epoch: u64,
    /// From when on its balance may be withdrawn.
    pub withdrawable_epoch: u64,
}

/// The life of a validator as the Beacon API names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidatorStatus {
    /// Deposited, not in the activation queue yet.
    PendingInitialized,
    /// In the activation queue.
    PendingQueued,
    /// On duty.
    ActiveOngoing,
    /// On duty, leaving.
    ActiveExiting,
    /// Off duty, balance still locked.
    ExitedUnslashed,
    /// The balance may be withdrawn.
    WithdrawalPossible,
    /// Nothing is left to withdraw.
    WithdrawalDone,
}

impl ValidatorStatus {
    /// Its name in the Beacon API.
    pub fn name(self) -> &'static str {
        match self {
            Self::PendingInitialized => "pending_initialized",
            Self::PendingQueued => "pending_queued",
            Self::ActiveOngoing => "active_ongoing",
            Self::ActiveExiting => "active_exiting",
            Self::ExitedUnslashed => "exited_unslashed",
            Self::WithdrawalPossible => "withdrawal_possible",
            Self::WithdrawalDone => "withdrawal_done",
        }
    }
}

impl Validator {
    /// `is_active_validator`.
    pub fn is_active(&self, epoch: u64) -> bool {
        self.activation_epoch <= epoch && epoch < self.exit_epoch
    }

    /// The status in an epoch, given the balance.
    pub fn status(&self, epoch: u64, balance: u64) -> ValidatorStatus {
        if epoch < self.activation_epoch {
            return if self.activation_eligibility_epoch == FAR_FUTURE_EPOCH {
                ValidatorStatus::PendingInitialized
            } else {
                ValidatorStatus::PendingQueued
            };
        }
        if epoch < self.exit_epoch {
            let leaving = self.exit_epoch != FAR_FUTURE_EPOCH;
            return if leaving { ValidatorStatus::ActiveExiting } else { ValidatorStatus::ActiveOngoing };
        }
        match (epoch < self.withdrawable_epoch, balance) {
            (true, _) => ValidatorStatus::ExitedUnslashed,
            (false, 0) => ValidatorStatus::WithdrawalDone,
            (false, _) => ValidatorStatus::WithdrawalPossible,
        }
    }

    /// `get_max_effective_balance` (EIP-7251).
    pub fn max_effective_balance(&self) -> u64 {
        if self.withdrawal_credentials[0] == 2 { 64 * MIN_ACTIVATION_BALANCE } else { MIN_ACTIVATION_BALANCE }
    }

    fn hash_tree_root(&self) -> Chunk {
        ssz::container(&[
            ssz::bytes(&self.pubkey),
            self.withdrawal_credentials,
            ssz::number(self.effective_balance),
            ssz::number(self.slashed.into()),
            ssz::number(self.activation_eligibility_epoch),
            ssz::number(self.activation_epoch),
            ssz::number(self.exit_epoch),
            ssz::number(self.withdrawable_epoch),
        ])
    }
}

/// `hash_tree_root` of the validator registry.
pub fn validators_root(validators: &[Validator]) -> Chunk {
    let roots: Vec<Chunk> = validators.iter().map(Validator::hash_tree_root).collect();
    ssz::list(&roots, REGISTRY_DEPTH)
}

/// `Checkpoint` of consensus-specs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// The epoch.
    pub epoch: u64,
    /// Root of the block at its first slot; zero for genesis, as in the specification.
    pub root: Chunk,
}

/// The state after one slot. What rarely changes is shared between states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeaconState {
    /// The slot.
    pub slot: u64,
    /// Names the chain in signatures.
    pub genesis_validators_root: Chunk,
    /// All validators there ever were; the position is the index.
    pub validators: Arc<Vec<Validator>>,
    /// Their balances in Gwei.
    pub balances: Arc<Vec<u64>>,
    /// Deposits that wait for finality and churn.
    pub pending_deposits: Arc<Vec<PendingDeposit>>,
    /// Churn left over for a deposit larger than one epoch's.
    pub deposit_balance_to_consume: u64,
    /// What of the exit queue's last epoch is not taken.
    pub exit_balance_to_consume: u64,
    /// The exit queue's last epoch.
    pub earliest_exit_epoch: u64,
    /// Number of the next withdrawal.
    pub next_withdrawal_index: u64,
    /// Where the next block's sweep begins.
    pub next_withdrawal_validator_index: u64,
    /// Root of the block at the first slot of the current epoch, once there is a block after it.
    pub epoch_start_root: Chunk,
    /// What was justified before.
    pub previous_justified: Checkpoint,
    /// What two thirds attested to.
    pub justified: Checkpoint,
    /// What can never be undone.
    pub finalized: Checkpoint,
    /// The execution block of this slot.
    pub execution_block_hash: Chunk,
}

impl BeaconState {
    /// `get_current_epoch`.
    pub fn epoch(&self, config: &Config) -> u64 {
        config.epoch_of(self.slot)
    }

    /// The index of the validator with this key.
    pub fn index_of(&self, pubkey: &[u8; 48]) -> Option<usize> {
        self.validators.iter().position(|validator| validator.pubkey == *pubkey)
    }

    /// A commitment to everything above. Not the specification's state root: this state has other fields.
    pub fn root(&self) -> Chunk {
        let balances: Vec<Chunk> = self.balances.iter().map(|balance| ssz::number(*balance)).collect();
        let deposits: Vec<Chunk> = self.pending_deposits.iter().map(PendingDeposit::root).collect();
        let checkpoint =
            |checkpoint: &Checkpoint| ssz::container(&[ssz::number(checkpoint.epoch), checkpoint.root]);
        ssz::container(&[
            ssz::number(self.slot),
            self.genesis_validators_root,
            validators_root(&self.validators),
            ssz::list(&balances, REGISTRY_DEPTH),
            ssz::list(&deposits, REGISTRY_DEPTH),
            ssz::number(self.deposit_balance_to_consume),
            ssz::number(self.exit_balance_to_consume),
            ssz::number(self.earliest_exit_epoch),
            ssz::number(self.next_withdrawal_index),
            ssz::number(self.next_withdrawal_validator_index),
            self.epoch_start_root,
            checkpoint(&self.previous_justified),
            checkpoint(&self.justified),
            checkpoint(&self.finalized),
            self.execution_block_hash,
        ])
    }
}
