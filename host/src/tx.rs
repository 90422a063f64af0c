//! `postern tx`: looks at the transactions of a host, and tells it what to do about one.

use crate::chain::transactions::Listed;
use crate::config::{ConfigError, read_data_dir};
use crate::daemon::commands::{self, Command};
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
    /// Have the call of a transaction that ended made once more, if it is still due; send one that is open again.
    Retry {
        /// Its key, as listed.
        key: String,
        /// Which host's.
        #[command(flatten)]
        host: Host,
    },
    /// Cancel a transaction that is open, by a transfer of nothing to the wallet itself under the same nonce. The call is not made
    /// again by itself; a pool's deposit is after the next epoch, which has its own proof of it.
    Cancel {
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
    /// The command can't be written.
    #[error("the command can't be left for the host: {0}")]
    Command(#[source] io::Error),
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
            Self::Retry { key, host } => {
                tell(&read_data_dir(&host.config)?, &key, |key| Command::RetryTransaction { key })
            }
            Self::Cancel { key, host } => {
                tell(&read_data_dir(&host.config)?, &key, |key| Command::CancelTransaction { key })
            }
        }
    }
}

/// Leaves a command about a transaction that is listed.
fn tell(data_dir: &Path, key: &str, command: impl FnOnce(String) -> Command) -> Result<String, TxError> {
    if !read(data_dir)?.iter().any(|one| one.key == key) {
        return Err(TxError::Unknown(key.to_owned()));
    }
    commands::tell(data_dir, &command(key.to_owned())).map_err(TxError::Command)
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

    #[test]
    fn a_command_is_left_for_a_transaction_that_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let row = r#"[{"key":"a","to":"0x0101010101010101010101010101010101010101","nonce":1,"state":"sent","versions":[],
            "since":0,"waits_for":null,"is_wrong":false,"cost":null,"cancel":false,"retried":false}]"#;
        std::fs::write(folder.path().join(TRANSACTIONS_FILE), row).unwrap();
        let tell = |key: &str| tell(folder.path(), key, |key| Command::CancelTransaction { key });
        assert!(matches!(tell("b"), Err(TxError::Unknown(key)) if key == "b"));
        assert!(!folder.path().join("commands").exists());
        let said = tell("a").unwrap();
        let path = said.split_once(": ").unwrap().0;
        assert_eq!(std::fs::read_to_string(path).unwrap(), r#"{"cancel_transaction":{"key":"a"}}"#);
    }
}
