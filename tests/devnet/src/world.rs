//! Both chains in step: slot by slot, one execution block and one beacon block.

use crate::beacon::chain::BeaconChain;
use crate::beacon::transition::BlockInputs;
use crate::execution::chain::{BlockInputs as ExecutionInputs, ExecutionChain};
use crate::{Config, Error};
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
