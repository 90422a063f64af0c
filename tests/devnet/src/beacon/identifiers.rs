//! How requests name blocks, states and validators.

use super::api_error::ApiError;
use super::chain::{BeaconChain, Slot};
use super::state::{BeaconState, ValidatorStatus};
use crate::Config;

/// `block_id`: head, finalized, justified, genesis, a slot or a block root.
pub fn block<'a>(chain: &'a BeaconChain, config: &Config, id: &str) -> Result<&'a Slot, ApiError> {
    let found = match named_slot(chain, config, id) {
        Some(slot) => chain.slot(slot),
        None => chain.slot_by_block_root(&root(id, "block ID")?),
    };
    found.ok_or_else(|| ApiError::not_found(format!("beacon block {id} not found")))
}

/// `state_id`: head, finalized, justified, genesis, a slot or a state root.
pub fn state<'a>(chain: &'a BeaconChain, config: &Config, id: &str) -> Result<&'a Slot, ApiError> {
    let found = match named_slot(chain, config, id) {
        Some(slot) => chain.slot(slot),
        None => chain.slot_by_state_root(&root(id, "state ID")?),
    };
    found.ok_or_else(|| ApiError::not_found(format!("beacon state {id} not found")))
}

fn named_slot(chain: &BeaconChain, config: &Config, id: &str) -> Option<u64> {
    let head = chain.head();
    match id {
        "head" => Some(head.slot),
        "genesis" => Some(0),
        "finalized" => Some(config.start_slot(head.finalized.epoch)),
        "justified" => Some(config.start_slot(head.justified.epoch)),
        number => decimal(number),
    }
}

fn root(id: &str, what: &str) -> Result<[u8; 32], ApiError> {
    fixed_hex(id).ok_or_else(|| ApiError::bad_request(format!("Invalid {what}: {id}")))
}

/// How a validator is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidatorId {
    /// By its index.
    Index(u64),
    /// By its public key.
    PublicKey([u8; 48]),
}

impl ValidatorId {
    /// Reads an index or a public key.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let by_key = || fixed_hex(text).map(Self::PublicKey);
        decimal(text)
            .map(Self::Index)
            .or_else(by_key)
            .ok_or_else(|| ApiError::bad_request(format!("Invalid validator ID: {text}")))
    }

    /// The position of that validator in the registry.
    pub fn find(&self, state: &BeaconState) -> Option<usize> {
        match self {
            Self::Index(index) => {
                usize::try_from(*index).ok().filter(|index| *index < state.validators.len())
            }
            Self::PublicKey(pubkey) => state.index_of(pubkey),
        }
    }
}

/// A status or one of the four groups, as filters name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusFilter(&'static str);

const STATUSES: [&str; 13] = [
    "pending",
    "pending_initialized",
    "pending_queued",
    "active",
    "active_ongoing",
    "active_exiting",
    "active_slashed",
    "exited",
    "exited_unslashed",
    "exited_slashed",
    "withdrawal",
    "withdrawal_possible",
    "withdrawal_done",
];

impl StatusFilter {
    /// Reads a status or group.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let known = STATUSES.into_iter().find(|status| *status == text);
        known.map(Self).ok_or_else(|| ApiError::bad_request(format!("Invalid validator status: {text}")))
    }

    /// Whether a status is this one or in this group.
    pub fn admits(&self, status: ValidatorStatus) -> bool {
        let rest = status.name().strip_prefix(self.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    }
}

/// A number in decimal digits and nothing else.
pub fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Exactly `N` bytes, with `0x`.
pub fn fixed_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    hex::decode(text.strip_prefix("0x")?).ok()?.try_into().ok()
}
