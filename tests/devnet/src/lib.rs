//! Embedded execution and beacon chains for tests and demos: one process, no download, a block every few hundred
//! milliseconds, and the rules of the real chains.
//!
//! # What is real
//!
//! Contracts run in a real EVM with every check on; transactions, receipts, blocks and their roots are those of
//! Ethereum. The deposit contract's events enter the beacon chain the way of EIP-6110, when their block is final, and
//! only with a valid proof of possession. Activation, the exit queue, finality and the EIP-7044 exit domain follow
//! `consensus-specs` at Electra. Only the sizes are small: see [`Config`].
//!
//! # What is not
//!
//! There is one node and nobody else: no attestations, no slashings, no rewards, no withdrawals to the execution layer,
//! no reorganisations, no fork transitions (all forks up to Electra are active at genesis), no system contracts but the
//! deposit contract. Beacon block headers have the right form and hash, but `state_root` and `body_root` commit to this
//! crate's own contents, and nobody signs them.
//!
//! # Flow
//!
//! Each slot makes one execution block (number = slot) and one beacon block in a single pure step
//! ([`beacon::transition`]). Time only decides when the next step comes.

pub mod beacon;
mod config;
mod error;
mod execution;
mod server;
mod world;

pub use config::{Clock, Config, MAINNET_DEPOSIT_CONTRACT, RepeatedExit};
pub use error::Error;

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use world::{Shared, World};

/// A running development network. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct Devnet {
    world: Shared,
    execution: SocketAddr,
    beacon: SocketAddr,
    genesis_validators_root: [u8; 32],
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Devnet {
    /// Makes the genesis block and state and starts both nodes.
    pub async fn start(config: Config) -> Result<Self, Error> {
        config.validate()?;
        let genesis_time = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| Error::Clock)?.as_secs();
        let (execution_listener, execution) = server::listen(config.execution_port).await?;
        let (beacon_listener, beacon) = server::listen(config.beacon_port).await?;
        let (clock, slot) = (config.clock, config.slot);
        let world = World::genesis(config, genesis_time)?;
        let genesis_validators_root = world.beacon.genesis_validators_root();
        let world = Shared::new(world);

        let (stop, stopped) = watch::channel(false);
        let mut tasks = vec![
            server::serve(execution_listener, execution::rpc::router(world.clone()), stopped.clone()),
            server::serve(beacon_listener, beacon::api::router(world.clone()), stopped.clone()),
        ];
        if clock == Clock::Interval {
            tasks.push(server::tick(world.clone(), slot, stopped));
        }
        Ok(Self { world, execution, beacon, genesis_validators_root, stop, tasks })
    }

    /// Where the execution node's JSON-RPC listens.
    pub fn execution_url(&self) -> String {
        format!("http://{}", self.execution)
    }

    /// Where the beacon node's REST interface listens.
    pub fn beacon_url(&self) -> String {
        format!("http://{}", self.beacon)
    }

    /// `genesis_validators_root` of the beacon chain.
    pub fn genesis_validators_root(&self) -> [u8; 32] {
        self.genesis_validators_root
    }

    /// The newest slot.
    pub fn slot(&self) -> u64 {
        self.world.lock().beacon.head().slot
    }

    /// Makes the next `slots` slots at once, whatever the clock.
    pub fn advance(&self, slots: u64) {
        for _ in 0..slots {
            self.world.lock().advance();
        }
    }

    /// Stops both nodes and the clock and waits until they have ended.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}
