//! Embedded execution and beacon chains for tests and demos: one process, no download, a block every few hundred
//! milliseconds, and the rules of the real chains.
//!
//! # What is real
//!
//! Contracts run in a real EVM with every check on; transactions, receipts, blocks and their roots are those of
//! Ethereum. The deposit contract's events enter the beacon chain the way of EIP-6110, when their block is final, and
//! only with a valid proof of possession. Exits that a withdrawal address asks for come in by EIP-7002's contract and the
//! system call that ends each block. Activation, the exit queue, withdrawals, finality and the EIP-7044 exit domain
//! follow `consensus-specs` at Electra. A validator with a withdrawal address is paid as EIP-4895 says: in full from its
//! withdrawable epoch on, and before that what it has above 32 ETH.
//!
//! Only the sizes are small: see [`Config`]. By default a balance can be withdrawn 4 epochs after the exit (mainnet:
//! 256); a block looks at 16 validators and pays at most 4 of them (mainnet: 16 384 and 16).
//!
//! # What is not
//!
//! There is one node and nobody else: no attestations, no slashings, no rewards, no partial withdrawals on request, no
//! reorganisations but those that a test makes ([`Devnet::reorganise`]), no fork transitions (all forks up to Electra are active at genesis), no system contracts but the
//! deposit contract and that of EIP-7002. Beacon block headers have the right form and hash, but
//! `state_root` and `body_root` commit to this crate's own contents, and nobody signs them.
//!
//! # Flow
//!
//! Each slot makes one execution block (number = slot) and one beacon block in a single pure step
//! ([`beacon::transition`]). Time only decides when the next step comes.

pub mod beacon;
mod config;
mod error;
mod execution;
pub mod liar;
mod server;
mod world;

pub use config::{Clock, Config, MAINNET_DEPOSIT_CONTRACT, RepeatedExit};
pub use error::Error;
pub use world::{Leftover, Reorganised};

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

    /// Has both chains go over to another branch, which leaves so many of their newest blocks, but none that is final. `is_lost`
    /// says what of these the node forgets; the rest waits for a block again.
    pub fn reorganise(&self, depth: u64, is_lost: impl FnMut(&Leftover) -> bool) -> Reorganised {
        self.world.lock().reorganise(depth, is_lost)
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
