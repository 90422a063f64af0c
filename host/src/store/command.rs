//! `postern store`: looks after what a host has stored.

use super::{Store, StoreError};
use crate::config::{ConfigError, read_data_dir};
use std::path::PathBuf;

/// Looks after what a host has stored.
#[derive(Debug, clap::Subcommand)]
pub enum StoreCommand {
    /// Checks that the enclave could be restored from its log: every record is there and in its place. The host must not run.
    Check {
        /// The host's configuration.
        #[arg(long)]
        config: PathBuf,
    },
}

/// Why a store could not be looked at, or is not whole.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StoreCommandError {
    /// The configuration can't be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is wrong was printed.
    #[error("the enclave's log is not whole")]
    Broken,
}

impl StoreCommand {
    /// Does it.
    pub fn run(self) -> Result<(), StoreCommandError> {
        let Self::Check { config } = self;
        let check = Store::open(&read_data_dir(&config)?)?.check_log()?;
        println!(
            "{} records up to number {}, {} of them of settled pools",
            check.records, check.head.number, check.settled
        );
        for fault in &check.faults {
            println!("  {fault}");
        }
        if check.faults.is_empty() { Ok(()) } else { Err(StoreCommandError::Broken) }
    }
}
