//! Deposits on their way to a validator: EIP-6110's requests, the pending queue, the proof of possession.

use super::registry;
use super::ssz::{self, Chunk};
use super::state::{BeaconState, FAR_FUTURE_EPOCH, Validator};
use crate::Config;
use postern_shared::bls::{PublicKey, Signature};
use postern_shared::ethereum::{DepositMessage, ForkVersion, WithdrawalCredentials};
use std::sync::Arc;

/// `MAX_PENDING_DEPOSITS_PER_EPOCH`.
const MAX_PER_EPOCH: usize = 16;

/// `DepositRequest` of EIP-6110: one event of the deposit contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepositRequest {
    /// BLS public key.
    pub pubkey: [u8; 48],
    /// Where the stake goes.
    pub withdrawal_credentials: [u8; 32],
    /// Gwei.
    pub amount: u64,
    /// Proof of possession, unchecked so far.
    pub signature: [u8; 96],
    /// Number of the deposit in the contract.
    pub index: u64,
}

impl DepositRequest {
    /// The SSZ bytes that the execution block commits to.
    pub fn encode(&self) -> Vec<u8> {
        let (amount, index) = (self.amount.to_le_bytes(), self.index.to_le_bytes());
        [&self.pubkey[..], &self.withdrawal_credentials, &amount, &self.signature, &index].concat()
    }
}

/// `PendingDeposit` of consensus-specs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingDeposit {
    /// What was deposited.
    pub request: DepositRequest,
    /// The slot of the block that carried it.
    pub slot: u64,
}

impl PendingDeposit {
    pub(super) fn root(&self) -> Chunk {
        ssz::container(&[ssz::bytes(&self.request.encode()), ssz::number(self.slot)])
    }
}

/// `is_valid_deposit_signature`: the depositor holds the key. Signed under the genesis fork, whatever the epoch.
pub fn is_valid_signature(config: &Config, deposit: &DepositRequest) -> bool {
    let message = DepositMessage {
        pubkey: PublicKey(deposit.pubkey),
        withdrawal_credentials: WithdrawalCredentials(deposit.withdrawal_credentials),
        amount: deposit.amount,
    };
    let root = message.signing_root(ForkVersion(config.genesis_fork_version));
    message.pubkey.verify(&root.0, &Signature(deposit.signature)).is_ok()
}

/// `process_pending_deposits`: takes from the queue what is final and fits this epoch's churn.
pub fn process_pending(config: &Config, state: &mut BeaconState) {
    if state.pending_deposits.is_empty() {
        state.deposit_balance_to_consume = 0;
        return;
    }
    let next_epoch = state.epoch(config) + 1;
    let available =
        state.deposit_balance_to_consume.saturating_add(registry::activation_exit_churn(config, state));
    let finalized_slot = config.start_slot(state.finalized.epoch);
    let queue = state.pending_deposits.clone();
    let (mut processed_amount, mut taken, mut churn_reached) = (0u64, 0, false);
    let mut postponed = Vec::new();

    for deposit in queue.iter().take(MAX_PER_EPOCH) {
        if deposit.slot > finalized_slot {
            break;
        }
        let known = state.index_of(&deposit.request.pubkey).and_then(|index| state.validators.get(index));
        let leaving = known.is_some_and(|validator| validator.exit_epoch < FAR_FUTURE_EPOCH);
        let withdrawn = known.is_some_and(|validator| validator.withdrawable_epoch < next_epoch);
        if withdrawn {
            apply(config, state, &deposit.request);
        } else if leaving {
            postponed.push(deposit.clone());
        } else {
            churn_reached = processed_amount.saturating_add(deposit.request.amount) > available;
            if churn_reached {
                break;
            }
            processed_amount += deposit.request.amount;
            apply(config, state, &deposit.request);
        }
        taken += 1;
    }
    if taken > 0 {
        state.pending_deposits = Arc::new(queue[taken..].iter().cloned().chain(postponed).collect());
    }
    state.deposit_balance_to_consume = if churn_reached { available - processed_amount } else { 0 };
}

/// `apply_pending_deposit`: a new validator, or more balance for one there is. A new key without a valid proof of
/// possession is passed over, and its ether is lost, as on the real chain.
fn apply(config: &Config, state: &mut BeaconState, deposit: &DepositRequest) {
    if let Some(index) = state.index_of(&deposit.pubkey) {
        if let Some(balance) = Arc::make_mut(&mut state.balances).get_mut(index) {
            *balance = balance.saturating_add(deposit.amount);
        }
    } else if is_valid_signature(config, deposit) {
        Arc::make_mut(&mut state.validators).push(new_validator(deposit));
        Arc::make_mut(&mut state.balances).push(deposit.amount);
    }
}

fn new_validator(deposit: &DepositRequest) -> Validator {
    let mut validator = Validator {
        pubkey: deposit.pubkey,
        withdrawal_credentials: deposit.withdrawal_credentials,
        effective_balance: 0,
        slashed: false,
        activation_eligibility_epoch: FAR_FUTURE_EPOCH,
        activation_epoch: FAR_FUTURE_EPOCH,
        exit_epoch: FAR_FUTURE_EPOCH,
        withdrawable_epoch: FAR_FUTURE_EPOCH,
    };
    validator.effective_balance =
        registry::whole_increments(deposit.amount).min(validator.max_effective_balance());
    validator
}

#[cfg(test)]
mod tests {
    use super::super::chain;
    use super::*;
    use postern_shared::bls::{ETHEREUM_DST, G1, G2, Scalar};

    const STAKE: u64 = 32_000_000_000;

    fn key() -> Scalar {
        Scalar::from_u64(4711)
    }

    fn signed(config: &Config, credentials: [u8; 32]) -> DepositRequest {
        let message = DepositMessage {
            pubkey: (G1::generator() * &key()).encode(),
            withdrawal_credentials: WithdrawalCredentials(credentials),
            amount: STAKE,
        };
        let root = message.signing_root(ForkVersion(config.genesis_fork_version));
        DepositRequest {
            pubkey: message.pubkey.0,
            withdrawal_credentials: credentials,
            amount: STAKE,
            signature: (G2::hash(&root.0, ETHEREUM_DST) * &key()).encode().0,
            index: 0,
        }
    }

    #[test]
    fn the_first_valid_deposit_of_a_key_decides_its_credentials_and_all_later_ones_add_to_its_balance() {
        let config = Config::default();
        let mut state = chain::genesis_state(&config, [0; 32]);
        let before = state.clone();
        let (thief, pool) = (signed(&config, [2; 32]), signed(&config, [1; 32]));

        // An invalid signature makes no validator, also with credentials that others have signed; its ether is lost.
        apply(&config, &mut state, &DepositRequest { signature: [7; 96], ..pool.clone() });
        apply(&config, &mut state, &DepositRequest { signature: thief.signature, ..pool.clone() });
        apply(&config, &mut state, &DepositRequest { amount: STAKE - 1, ..pool.clone() });
        assert_eq!(state, before);

        // A valid one makes a validator with its own credentials, whoever sent it.
        apply(&config, &mut state, &thief);
        assert_eq!(state.validators.last().unwrap().withdrawal_credentials, [2; 32]);
        assert_eq!(state.balances.last(), Some(&STAKE));

        // From then on any deposit of that key is more balance under the same credentials: valid, garbage, other amount.
        apply(&config, &mut state, &pool);
        apply(&config, &mut state, &DepositRequest { signature: [0; 96], ..pool.clone() });
        apply(&config, &mut state, &DepositRequest { amount: 5, ..pool });
        assert_eq!(state.validators.len(), before.validators.len() + 1);
        assert_eq!(state.validators.last().unwrap().withdrawal_credentials, [2; 32]);
        assert_eq!(state.balances.last(), Some(&(3 * STAKE + 5)));
    }
}
