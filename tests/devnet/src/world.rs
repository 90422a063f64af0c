//! Both chains in step: slot by slot, one execution block and one beacon block.

use crate::beacon::chain::BeaconChain;
use crate::beacon::transition::BlockInputs;
use crate::execution::chain::{BlockInputs as ExecutionInputs, ExecutionChain};
use crate::{Config, Error};
use alloy::primitives::{Address, B256};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The two chains and their configuration.
#[derive(Debug)]
pub struct World {
    /// What the network is made of.
    pub config: Config,
    /// The execution chain.
    pub execution: ExecutionChain,
    /// The beacon chain.
    pub beacon: BeaconChain,
}

impl World {
    /// Both chains at slot 0.
    pub fn genesis(config: Config, genesis_time: u64) -> Result<Self, Error> {
        let execution = ExecutionChain::genesis(&config, genesis_time)?;
        let beacon = BeaconChain::genesis(&config, genesis_time, execution.head().hash().0);
        Ok(Self { config, execution, beacon })
    }

    /// Makes the next slot.
    pub fn advance(&mut self) {
        let slot = self.beacon.head().slot + 1;
        let elapsed = self.config.slot.as_millis().saturating_mul(u128::from(slot)) / 1000;
        let made = self.execution.make_block(ExecutionInputs {
            timestamp: self.beacon.genesis_time().saturating_add(elapsed as u64),
            parent_beacon_root: self.beacon.head_root().into(),
            withdrawals: self.beacon.next_withdrawals(&self.config),
        });
        self.beacon.make_block(
            &self.config,
            BlockInputs {
                execution_block_hash: made.hash.0,
                deposits: made.deposits,
                withdrawal_requests: made.withdrawal_requests,
                exits: Vec::new(),
            },
        );
        // One block a slot, from genesis on: block numbers are slots.
        let head = self.beacon.head();
        self.execution.set_finality(
            self.config.start_slot(head.justified.epoch),
            self.config.start_slot(head.finalized.epoch),
        );
    }
}

/// What was in a block that was taken off the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// A transaction.
    Transaction {
        /// Who has signed it.
        sender: Address,
        /// Its hash.
        hash: B256,
    },
    /// An exit on the beacon chain.
    Exit {
        /// Of the validator with this index.
        validator: u64,
    },
}

/// What a reorganisation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reorganised {
    /// How many blocks of each chain were replaced.
    pub depth: u64,
    /// How many transactions and exits wait again for a block.
    pub returned: usize,
    /// How many were lost.
    pub lost: usize,
}

impl World {
    /// Goes over to another branch, one slot longer than the one that is left. What was in the blocks that are left is in none of the
    /// new ones: it waits again, or is lost. Nothing that is final changes, and nobody sees the branch while it is made.
    pub fn reorganise(&mut self, depth: u64, mut is_lost: impl FnMut(&Leftover) -> bool) -> Reorganised {
        let head = self.beacon.head();
        let finalized = self.config.start_slot(head.finalized.epoch);
        let depth = depth.min(head.slot.saturating_sub(finalized));
        if depth == 0 {
            return Reorganised::default();
        }
        let last = head.slot - depth;
        let (transactions, exits) = (self.execution.cut(last), self.beacon.cut(last));
        (0..=depth).for_each(|_| self.advance());
        let mut done = Reorganised { depth, ..Reorganised::default() };
        let mut is_lost = |leftover: &Leftover| {
            let lost = is_lost(leftover);
            *if lost { &mut done.lost } else { &mut done.returned } += 1;
            lost
        };
        for transaction in transactions {
            let (sender, hash) = (transaction.signer(), *transaction.tx_hash());
            if !is_lost(&Leftover::Transaction { sender, hash }) {
                self.execution.mempool.take_back(transaction);
            }
        }
        for exit in exits {
            match is_lost(&Leftover::Exit { validator: exit.message.validator_index }) {
                true => self.beacon.forget(&exit),
                false => self.beacon.take_back(exit),
            }
        }
        done
    }
}

/// The world as the servers and the clock share it.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<World>>);

impl Shared {
    /// Shares a world.
    pub fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    /// Takes the world for oneself. A panic of another holder is no reason to stop serving tests.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
