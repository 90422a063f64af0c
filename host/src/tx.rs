//! `postern tx`: looks at the transactions of a host.

use crate::chain::transactions::Listed;
use crate::config::{ConfigError, read_data_dir};
use clap::{Args, Subcommand};
use std::io;
use std::path::{Path, PathBuf};

/// Where a running host writes down how its transactions are, in its data directory.
pub const TRANSACTIONS_FILE: &str = "transactions.json";

/// Which host.
#[derive(Debug, Args)]
pub struct Host {
    /// The host's configuration, TOML.
    #[arg(long)]
    config: PathBuf,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum TxCommand {
    /// List the transactions that are open, and the newest of those that are final.
    List {
        /// Which host's.
        #[command(flatten)]
        host: Host,
        /// Print the file, JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one with everything that was signed for it.
    Show {
        /// Its key, as listed.
        key: String,
        /// Which host's.
        #[command(flatten)]
        host: Host,
    },
}

/// Why the command failed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum TxError {
    /// The configuration can't be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file can't be read.
    #[error("{path}: {source} (is the host running?)", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is no list of transactions.
    #[error("{path}: {source}", path = path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What and where.
        source: serde_json::Error,
    },
    /// The list has no such transaction.
    #[error("no transaction `{0}` is listed")]
    Unknown(String),
}

impl TxCommand {
    /// Does it; what there is to print.
    pub fn run(self) -> Result<String, TxError> {
        match self {
            Self::List { host, json: true } => text(&read_data_dir(&host.config)?),
            Self::List { host, json: false } => {
                let lines: Vec<String> =
                    read(&read_data_dir(&host.config)?)?.iter().map(Listed::describe).collect();
                Ok(lines.join("\n"))
            }
            Self::Show { key, host } => {
                let listed = read(&read_data_dir(&host.config)?)?;
                let found = listed.iter().find(|one| one.key == key).ok_or(TxError::Unknown(key))?;
                Ok(found.describe_whole())
            }
        }
    }
}

fn text(data_dir: &Path) -> Result<String, TxError> {
    let path = data_dir.join(TRANSACTIONS_FILE);
    std::fs::read_to_string(&path).map_err(|source| TxError::Read { path, source })
}

fn read(data_dir: &Path) -> Result<Vec<Listed>, TxError> {
    let path = data_dir.join(TRANSACTIONS_FILE);
    serde_json::from_str(&text(data_dir)?).map_err(|source| TxError::Format { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_not_there_or_no_list_is_refused_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let said = |folder: &Path| read(folder).unwrap_err().to_string();
        assert!(said(folder.path()).ends_with("(is the host running?)"));
        std::fs::write(folder.path().join(TRANSACTIONS_FILE), "{}").unwrap();
        assert!(said(folder.path()).contains(TRANSACTIONS_FILE));
        std::fs::write(folder.path().join(TRANSACTIONS_FILE), "[]").unwrap();
        assert_eq!(read(folder.path()).unwrap(), []);
    }
}
