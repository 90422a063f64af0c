//! Voluntary exits: the rules of Electra's `process_voluntary_exit`, and why one is refused.

use super::registry;
use super::state::{BeaconState, FAR_FUTURE_EPOCH};
use crate::Config;
use postern_shared::ethereum::{ForkVersion, Root, SignedVoluntaryExit};
use thiserror::Error;

/// Why an exit is refused. The texts are Lighthouse's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ExitRefusal {
    /// There is no validator with this index.
    #[error("ValidatorUnknown({0})")]
    ValidatorUnknown(u64),
    /// The validator is not on duty: not yet, or no more.
    #[error("NotActive({0})")]
    NotActive(u64),
    /// The validator is leaving already.
    #[error("AlreadyInitiatedExit({0})")]
    AlreadyInitiatedExit(u64),
    /// The exit is valid only from a later epoch on.
    #[error("FutureEpoch {{ state: Epoch({state}), exit: Epoch({exit}) }}")]
    FutureEpoch {
        /// The chain's epoch.
        state: u64,
        /// The exit's epoch.
        exit: u64,
    },
    /// The validator has not been on duty for `SHARD_COMMITTEE_PERIOD`.
    #[error(
        "TooYoungToExit {{ current_epoch: Epoch({current_epoch}), earliest_exit_epoch: Epoch({earliest_exit_epoch}) }}"
    )]
    TooYoungToExit {
        /// The chain's epoch.
        current_epoch: u64,
        /// When it may leave.
        earliest_exit_epoch: u64,
    },
    /// The signature is not the validator's, or not over this message in the exit domain.
    #[error("BadSignature")]
    BadSignature,
}

/// Whether an exit could be in the next block on this state. Changes nothing.
pub fn verify(config: &Config, state: &BeaconState, exit: &SignedVoluntaryExit) -> Result<(), ExitRefusal> {
    let index = exit.message.validator_index;
    let validator = usize::try_from(index).ok().and_then(|index| state.validators.get(index));
    let validator = validator.ok_or(ExitRefusal::ValidatorUnknown(index))?;
    let current_epoch = state.epoch(config);

    if !validator.is_active(current_epoch) {
        return Err(ExitRefusal::NotActive(index));
    }
    if validator.exit_epoch != FAR_FUTURE_EPOCH {
        return Err(ExitRefusal::AlreadyInitiatedExit(index));
    }
    if current_epoch < exit.message.epoch {
        return Err(ExitRefusal::FutureEpoch { state: current_epoch, exit: exit.message.epoch });
    }
    let earliest_exit_epoch = validator.activation_epoch.saturating_add(config.shard_committee_period);
    if current_epoch < earliest_exit_epoch {
        return Err(ExitRefusal::TooYoungToExit { current_epoch, earliest_exit_epoch });
    }
    // EIP-7044: the Capella fork for ever, whatever the current one.
    let fork_version = ForkVersion(config.capella_fork_version);
    let root = exit.message.signing_root(fork_version, Root(state.genesis_validators_root));
    let key = postern_shared::bls::PublicKey(validator.pubkey);
    key.verify(&root.0, &exit.signature).map_err(|_| ExitRefusal::BadSignature)
}

/// `process_voluntary_exit`: checks, then puts the validator into the exit queue.
pub fn process(
    config: &Config,
    state: &mut BeaconState,
    exit: &SignedVoluntaryExit,
) -> Result<(), ExitRefusal> {
    verify(config, state, exit)?;
    // The index names a validator, so it fits.
    registry::initiate_exit(config, state, exit.message.validator_index as usize);
    Ok(())
}
