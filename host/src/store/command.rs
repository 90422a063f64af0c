//! `postern store`: looks after what a host has stored.

use super::{NumberedPools, Store, StoreError, TransferError};
use crate::config::{ConfigError, read_manifest_of, read_store};
use crate::output::say;
use postern_shared::manifest::Manifest;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Looks after what a host has stored. The host must not run.
#[derive(Debug, clap::Subcommand)]
pub enum StoreCommand {
    /// Checks that the enclave could be restored from its log: every record is there, in its place, and of this build's version.
    ///
    /// Tables of an earlier version are upgraded first, for good: builds of that version do not open the store any more.
    Check {
        /// The host's configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// Writes all of it to a file: for another kind of database, another machine, or a backup. Only builds with tables of this
    /// build's version import it.
    ///
    /// Tables of an earlier version are upgraded first, for good: builds of that version do not open the store any more. For a backup to
    /// go back to, export it with such a build.
    Export {
        /// The host's configuration.
        #[arg(long)]
        config: PathBuf,
        /// The file, which must not be there yet.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Takes over what was exported by a build with tables of the same version, into a store that is empty.
    Import {
        /// The host's configuration.
        #[arg(long)]
        config: PathBuf,
        /// The file.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
}

/// Why a store could not be looked at, or is not whole.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StoreCommandError {
    /// What was to be said could not be written.
    #[error("{0}")]
    Output(#[from] crate::output::OutputError),
    /// The configuration can't be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It could not be copied.
    #[error("{path}: {source}", path = path.display())]
    Transfer {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: TransferError,
    },
    /// What is wrong was printed.
    #[error("the enclave's log is not whole")]
    Broken,
}

impl StoreCommand {
    /// Does it.
    pub fn run(self) -> Result<(), StoreCommandError> {
        match self {
            Self::Check { config } => check(&open(&config)?),
            Self::Export { config, out } => {
                let store = open(&config)?;
                let rows = export(&store, &out)
                    .map_err(|source| StoreCommandError::Transfer { path: out.clone(), source })?;
                say(format_args!("{rows} rows written to {}\n", out.display()))?;
                Ok(())
            }
            Self::Import { config, from } => {
                let store = open(&config)?;
                let rows = File::open(&from)
                    .map_err(TransferError::from)
                    .and_then(|file| store.import(&mut BufReader::new(file)))
                    .map_err(|source| StoreCommandError::Transfer { path: from.clone(), source })?;
                say(format_args!("{rows} rows read from {}\n", from.display()))?;
                check(&store)
            }
        }
    }
}

/// The store of a configuration; one of an earlier version is made into one of this build's.
fn open(config: &Path) -> Result<Store, StoreCommandError> {
    let Manifest { network, contracts, .. } = read_manifest_of(config)?;
    let pools = NumberedPools { chain: network.chain_id, contract: contracts.pool_manager };
    Ok(Store::open_of(&read_store(config)?, pools)?)
}

/// On the disk when this returns; a file that could not be finished does not stay.
fn export(store: &Store, path: &Path) -> Result<u64, TransferError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut writer = BufWriter::new(file);
    let written = store.export(&mut writer).and_then(|rows| {
        writer.get_ref().sync_all()?;
        // And its name.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(rows)
    });
    if written.is_err() {
        // What went wrong first is what matters.
        let _ = std::fs::remove_file(path);
    }
    written
}

fn check(store: &Store) -> Result<(), StoreCommandError> {
    let check = store.check_log()?;
    say(format_args!(
        "{} records up to number {}, {} of them of settled pools\n",
        check.records, check.head.number, check.settled
    ))?;
    for fault in &check.faults {
        say(format_args!("  {fault}\n"))?;
    }
    if check.faults.is_empty() { Ok(()) } else { Err(StoreCommandError::Broken) }
}
