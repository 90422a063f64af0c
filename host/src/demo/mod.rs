//! `postern demo`: a whole DAO on one machine, from stake to payout, in seconds.
//!
//! Starts an execution and a beacon chain in this process, and for each member one simulated enclave process and one
//! host process, the same `postern run` as in production. Then it does what users do: two stakers bring 32 ETH for each
//! pool, and the demo waits until the pool's validator is active and its exit presigned. The treasury asks for the exit.
//! When the validator has left and the beacon chain has paid the pool, both stakers claim their ether. At the end the demo
//! checks every transcript and signature once more, knowing nothing secret.
//!
//! **The enclaves are simulated and protect nothing**: see `postern-simulation`.
//!
//! # Files
//! Below the data directory: `manifest.toml`, `pids.json`, and for each member `member-N/` with its configuration,
//! machine, data and logs.
//!
//! # Ends
//! Children get a death signal with this process, so that none lingers, however it ends. A host that dies is started
//! again, as an init system would do; an enclave that dies has lost its secrets, and the demo fails.

pub(crate) mod account;
mod arguments;
mod chaos;
mod child;
mod cluster;
pub(crate) mod contracts;
mod dao;
mod enclave;
mod milestones;
mod processes;
mod progress;
mod report;
mod scenario;
mod stakers;
mod timeline;

pub use arguments::{DemoArguments, Liar};
pub use chaos::ChaosReport;
pub use cluster::{Chains, Cluster, MemberNodes};
pub use dao::MemberFiles;
pub use enclave::{EnclaveError, SimulatedEnclaveArguments};
pub use processes::{Kind, Victim};
pub use progress::PoolProgress;
pub use report::{DemoReport, ExitReport, NetworkReport, PoolReport, Timings, TranscriptPaths};
pub use stakers::StakerReport;

use crate::chain::beacon::BeaconError;
use crate::chain::execution::ChainError;
use postern_shared::manifest::ManifestError;
use std::path::PathBuf;

/// Why the demo could not begin, or ended badly.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// What was to be said could not be written.
    #[error("{0}")]
    Output(#[from] crate::output::OutputError),
    /// A flag with a value that can't be.
    #[error("--{flag} {value}: {reason}")]
    Flag {
        /// Which.
        flag: &'static str,
        /// As given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or directory could not be made, read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A process could not be started or looked after.
    #[error("{what}: {source}")]
    Process {
        /// Which, or what about it.
        what: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A host or an enclave keeps dying by itself.
    #[error("the {what} of member {member} ended {times} times, at last with {status}; its log is {log}", log = log.display())]
    KeepsDying {
        /// Host or enclave.
        what: Kind,
        /// Whose.
        member: u16,
        /// How often.
        times: u32,
        /// How.
        status: String,
        /// Where to read more.
        log: PathBuf,
    },
    /// The embedded chains could not be started.
    #[error("the development network: {0}")]
    Devnet(#[from] postern_devnet::Error),
    /// The execution chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The beacon chain.
    #[error(transparent)]
    Beacon(#[from] BeaconError),
    /// A transaction of the demo itself.
    #[error("{what}: {reason}")]
    Transaction {
        /// What it should have done.
        what: &'static str,
        /// What was wrong.
        reason: String,
    },
    /// The generated manifest is not one.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// No randomness.
    #[error("no randomness: {0}")]
    Randomness(String),
    /// A step took too long.
    #[error("{what} did not happen within {seconds} s; the members' logs are in {data_dir}", data_dir = data_dir.display())]
    TooSlow {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
        /// Where to read more.
        data_dir: PathBuf,
    },
    /// The run ended, and what it left behind does not verify.
    #[error("{what}: {reason}")]
    Unproved {
        /// Which result.
        what: String,
        /// Why it proves nothing.
        reason: String,
    },
    /// Ctrl-C or a termination signal.
    #[error("interrupted")]
    Interrupted,
    /// Re-executing as a child failed.
    #[error("child process: {0}")]
    Child(#[source] std::io::Error),
}

/// Runs the demo to its end. MUST be polled on the main thread (as `Runtime::block_on` does): children die with the
/// thread that started them.
pub async fn run(arguments: DemoArguments) -> Result<(), DemoError> {
    if let Some(parent) = arguments.child_of {
        return Err(child::become_child(parent, &arguments.command));
    }
    arguments.validate()?;
    scenario::run(&arguments).await
}

pub(crate) fn write_file(path: &std::path::Path, content: impl AsRef<[u8]>) -> Result<(), DemoError> {
    std::fs::write(path, content).map_err(|source| DemoError::File { path: path.to_owned(), source })
}
