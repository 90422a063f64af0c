//! The chain of beacon states and blocks, and the pool of exits that wait for a block.

use super::exits::{self, ExitRefusal};
use super::ssz::{self, Chunk};
use super::state::{
    BeaconState, Checkpoint, FAR_FUTURE_EPOCH, MIN_ACTIVATION_BALANCE, Validator, validators_root,
};
use super::transition::{self, BlockInputs, MAX_VOLUNTARY_EXITS};
use crate::{Config, RepeatedExit};
use alloy::eips::eip4895::Withdrawal;
use postern_shared::bls::{G1, Scalar};
use postern_shared::ethereum::SignedVoluntaryExit;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `BeaconBlockHeader` of consensus-specs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// The slot.
    pub slot: u64,
    /// Whose turn it is: in order of the index.
    pub proposer_index: u64,
    /// Root of the block before.
    pub parent_root: Chunk,
    /// [`BeaconState::root`].
    pub state_root: Chunk,
    /// A commitment to [`BlockInputs`].
    pub body_root: Chunk,
}

impl BlockHeader {
    /// `hash_tree_root`: the block's root.
    pub fn root(&self) -> Chunk {
        ssz::container(&[
            ssz::number(self.slot),
            ssz::number(self.proposer_index),
            self.parent_root,
            self.state_root,
            self.body_root,
        ])
    }
}

/// A slot of the chain: there is a block in each.
#[derive(Debug)]
pub struct Slot {
    /// The block's header.
    pub header: BlockHeader,
    /// Its root.
    pub root: Chunk,
    /// The state after the block.
    pub state: Arc<BeaconState>,
    /// The exits in the block.
    exits: Vec<SignedVoluntaryExit>,
}

/// What became of an exit that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitOutcome {
    /// It waits for the next block.
    Pooled,
    /// It is known already; nothing changed.
    Known,
}

/// Why an exit was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitError {
    /// The rules say no.
    Refused(ExitRefusal),
    /// It is known, and this node minds.
    AlreadyExists,
}

/// The chain. Every state since genesis is kept, but for those of branches that were left; they share what did not change.
#[derive(Debug)]
pub struct BeaconChain {
    genesis_time: u64,
    slots: Vec<Slot>,
    pool: BTreeMap<u64, SignedVoluntaryExit>,
    /// Every exit that was ever taken, by validator.
    taken: BTreeMap<u64, SignedVoluntaryExit>,
}

impl BeaconChain {
    /// The chain with its genesis state.
    pub fn genesis(config: &Config, genesis_time: u64, execution_block_hash: Chunk) -> Self {
        let mut chain =
            Self { genesis_time, slots: Vec::new(), pool: BTreeMap::new(), taken: BTreeMap::new() };
        chain.append(genesis_state(config, execution_block_hash), [0; 32], [0; 32], Vec::new());
        chain
    }

    /// Seconds since 1970.
    pub fn genesis_time(&self) -> u64 {
        self.genesis_time
    }

    /// Names the chain in signatures.
    pub fn genesis_validators_root(&self) -> Chunk {
        self.head().genesis_validators_root
    }

    /// The newest state.
    pub fn head(&self) -> &BeaconState {
        &self.newest().state
    }

    /// The root of the newest block.
    pub fn head_root(&self) -> Chunk {
        self.newest().root
    }

    /// The slot with this number, if it has been.
    pub fn slot(&self, slot: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(slot).ok()?)
    }

    /// The slot whose block has this root.
    pub fn slot_by_block_root(&self, root: &Chunk) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.root == *root)
    }

    /// The slot whose state has this root.
    pub fn slot_by_state_root(&self, root: &Chunk) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.header.state_root == *root)
    }

    /// The exits that wait for a block.
    pub fn pooled_exits(&self) -> impl Iterator<Item = &SignedVoluntaryExit> {
        self.pool.values()
    }

    /// Takes an exit into the pool, if the rules allow it on the newest state.
    pub fn submit_exit(
        &mut self,
        config: &Config,
        exit: SignedVoluntaryExit,
    ) -> Result<ExitOutcome, ExitError> {
        let index = exit.message.validator_index;
        if self.taken.get(&index) == Some(&exit) {
            return match config.repeated_exit {
                RepeatedExit::Accepted => Ok(ExitOutcome::Known),
                RepeatedExit::Refused => Err(ExitError::AlreadyExists),
            };
        }
        exits::verify(config, self.head(), &exit).map_err(ExitError::Refused)?;
        if self.pool.contains_key(&index) {
            // A second valid exit of the same validator adds nothing.
            return match config.repeated_exit {
                RepeatedExit::Accepted => Ok(ExitOutcome::Known),
                RepeatedExit::Refused => Err(ExitError::AlreadyExists),
            };
        }
        self.pool.insert(index, exit);
        self.taken.insert(index, exit);
        Ok(ExitOutcome::Pooled)
    }

    /// What the next block pays out. Its execution block MUST contain exactly these withdrawals.
    pub fn next_withdrawals(&self, config: &Config) -> Vec<Withdrawal> {
        transition::next_withdrawals(config, self.head(), self.head_root())
    }

    /// Makes the next block, with the exits that wait.
    pub fn make_block(&mut self, config: &Config, mut block: BlockInputs) {
        let due: Vec<u64> = self.pool.keys().copied().take(MAX_VOLUNTARY_EXITS).collect();
        block.exits.extend(due.iter().filter_map(|index| self.pool.remove(index)));
        let parent_root = self.head_root();
        let state = transition::next_slot(config, self.head(), parent_root, &block);
        self.append(state, parent_root, body_root(&block), block.exits);
    }

    /// Takes the blocks after this slot off the chain; gives the exits that were in them.
    pub fn cut(&mut self, last: u64) -> Vec<SignedVoluntaryExit> {
        let kept = usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1);
        let dropped = self.slots.split_off(kept.min(self.slots.len()));
        dropped.into_iter().flat_map(|slot| slot.exits).collect()
    }

    /// Lets an exit wait again whose block was taken off the chain.
    pub fn take_back(&mut self, exit: SignedVoluntaryExit) {
        self.pool.insert(exit.message.validator_index, exit);
    }

    /// Knows nothing any more of an exit whose block was taken off the chain.
    pub fn forget(&mut self, exit: &SignedVoluntaryExit) {
        self.taken.remove(&exit.message.validator_index);
    }

    fn newest(&self) -> &Slot {
        // Genesis is there from the start and is never taken off.
        &self.slots[self.slots.len() - 1]
    }

    fn append(
        &mut self,
        state: BeaconState,
        parent_root: Chunk,
        body_root: Chunk,
        exits: Vec<SignedVoluntaryExit>,
    ) {
        let active = state.validators.len().max(1) as u64;
        let header = BlockHeader {
            slot: state.slot,
            proposer_index: state.slot % active,
            parent_root,
            state_root: state.root(),
            body_root,
        };
        self.slots.push(Slot { header, root: header.root(), state: state.into(), exits });
    }
}

/// The state at slot 0: made-up validators, all on duty.
pub fn genesis_state(config: &Config, execution_block_hash: Chunk) -> BeaconState {
    let validators: Vec<Validator> = (0..config.genesis_validators).map(genesis_validator).collect();
    BeaconState {
        slot: 0,
        genesis_validators_root: validators_root(&validators),
        balances: Arc::new(vec![MIN_ACTIVATION_BALANCE; validators.len()]),
        validators: Arc::new(validators),
        pending_deposits: Arc::default(),
        deposit_balance_to_consume: 0,
        exit_balance_to_consume: 0,
        earliest_exit_epoch: 0,
        next_withdrawal_index: 0,
        next_withdrawal_validator_index: 0,
        epoch_start_root: [0; 32],
        previous_justified: Checkpoint::default(),
        justified: Checkpoint::default(),
        finalized: Checkpoint::default(),
        execution_block_hash,
    }
}

/// The secret key of a genesis validator: the interop key of that number, known to everybody.
pub fn genesis_key(index: u64) -> Scalar {
    let mut preimage = [0; 32];
    preimage[..8].copy_from_slice(&index.to_le_bytes());
    // The hash, read as a little-endian number, modulo the order: `from_wide` reads little-endian too.
    let mut wide = [0; 64];
    wide[..32].copy_from_slice(&Sha256::digest(preimage));
    Scalar::from_wide(&wide)
}

fn genesis_validator(index: u64) -> Validator {
    let key = genesis_key(index);
    let mut withdrawal_credentials = [0; 32];
    withdrawal_credentials[0] = 1;
    withdrawal_credentials[24..].copy_from_slice(&index.to_be_bytes());
    Validator {
        pubkey: (G1::generator() * &key).encode().0,
        withdrawal_credentials,
        effective_balance: MIN_ACTIVATION_BALANCE,
        slashed: false,
        activation_eligibility_epoch: 0,
        activation_epoch: 0,
        exit_epoch: FAR_FUTURE_EPOCH,
        withdrawable_epoch: FAR_FUTURE_EPOCH,
    }
}

fn body_root(block: &BlockInputs) -> Chunk {
    let deposits: Vec<Chunk> = block.deposits.iter().map(|deposit| ssz::bytes(&deposit.encode())).collect();
    let exits: Vec<Chunk> = block
        .exits
        .iter()
        .map(|exit| ssz::hash_pair(&exit.message.hash_tree_root().0, &ssz::bytes(&exit.signature.0)))
        .collect();
    let requests = block.withdrawal_requests.iter();
    let requests: Vec<Chunk> = requests.map(|request| ssz::bytes(&request.encode())).collect();
    ssz::container(&[
        block.execution_block_hash,
        ssz::list(&deposits, 13),
        ssz::list(&requests, 4),
        ssz::list(&exits, 4),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn genesis_validators_have_the_interop_keys() {
        // The first key of the interop mock start, as every client derives it.
        let first = "a99a76ed7796f7be22d5b7e85deeb7c5677e88e511e0b337618f8c4eb61349b4bf2d153f649f7b53359fe8b94a38e44c";
        assert_eq!(hex::encode(genesis_validator(0).pubkey), first);
    }
}
