//! What an operator tells a host that runs, or that will: files in `commands/`, each done and then removed.
//!
//! The store is locked while the host runs, so another process can only leave word. A file is there whole or not at all, and is
//! removed once it is done; a host that ends in between does it again.

use super::{DaemonError, RETRY, Shared, events, sending};
use crate::{blocking, whole_file};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Where they are, in the data directory.
const FOLDER: &str = "commands";
/// Most bytes of one.
const MOST: u64 = 64 * 1024;
/// How often to look for some.
const PAUSE: Duration = RETRY.saturating_mul(2);

/// What a host can be told to do. Hosts of other versions know a command by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Read the events of all pool managers again.
    Rescan {
        /// From this block on.
        from: u64,
    },
    /// Make the call of a transaction that ended again, if it is still due; send one that is open again.
    RetryTransaction {
        /// Which.
        key: String,
    },
    /// Take an open transaction's nonce for one that does nothing.
    CancelTransaction {
        /// Which.
        key: String,
    },
}

/// What became of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is done.
    Done,
    /// It can't be done now, and why.
    Later(String),
}

/// Leaves a command for the host with this data directory. Where it is.
fn leave(data_dir: &Path, command: &Command) -> io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // In the order of their names they are done.
    let name = format!("{:020}-{}.json", now.as_nanos(), std::process::id());
    let folder = data_dir.join(FOLDER);
    let path = folder.join(name);
    whole_file::make_folder(&folder)?;
    whole_file::replace(&path, &serde_json::to_vec(command)?)?;
    Ok(path)
}

/// Leaves a command for the host with this data directory. What there is to say of it.
pub fn tell(data_dir: &Path, command: &Command) -> io::Result<String> {
    let left = leave(data_dir, command)?;
    let what = "the host does it now if it runs, and else when it starts; then the file is gone";
    Ok(format!("{}: {what}", left.display()))
}

/// Does what is told, for ever.
pub(super) async fn follow(shared: Arc<Shared>) -> DaemonError {
    let (mut seen, mut said) = (BTreeSet::new(), None);
    loop {
        for path in blocking::run(|| waiting(&shared.data_dir)) {
            // Another user's file, which this host may not remove, is done once all the same.
            if seen.contains(&path) {
                continue;
            }
            match blocking::run(|| read(&path)) {
                Ok(command) => match execute(&shared, &command).await {
                    Ok(Outcome::Done) => blocking::run(|| done(&path)),
                    Ok(Outcome::Later(reason)) => {
                        if said.as_ref() != Some(&path) {
                            tracing::warn!(path = %path.display(), reason, "a command can't be done now");
                            said = Some(path);
                        }
                        // Those after it may depend on it.
                        break;
                    }
                    Err(error) => return error,
                },
                Err(error) => blocking::run(|| refuse(&path, &error)),
            }
            seen.insert(path);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn execute(shared: &Shared, command: &Command) -> Result<Outcome, DaemonError> {
    tracing::info!(?command, "a command");
    match command {
        Command::Rescan { from } => Ok(events::rescan(shared, *from).await?),
        Command::RetryTransaction { key } => sending::told(shared.transactions.retry(key).await),
        Command::CancelTransaction { key } => sending::told(shared.transactions.cancel(key).await),
    }
}

/// All that were left, in the order in which they were.
fn waiting(data_dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(data_dir.join(FOLDER)) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect();
    paths.sort_unstable();
    paths
}

fn read(path: &Path) -> io::Result<Command> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MOST).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Puts aside what is no command of this version, for a person to see.
fn refuse(path: &Path, error: &io::Error) {
    tracing::error!(path = %path.display(), %error, "not a command that this host knows");
    if let Err(error) = std::fs::rename(path, path.with_extension("refused")) {
        tracing::warn!(path = %path.display(), %error, "it can't be put aside");
    }
}

fn done(path: &Path) {
    match std::fs::remove_file(path) {
        Ok(()) => tracing::info!(path = %path.display(), "the command is done"),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a command that is done can't be removed")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_whole_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(waiting(folder.path()), [""; 0].map(PathBuf::from));
        let left: Vec<PathBuf> =
            [7, 3].map(|from| leave(folder.path(), &Command::Rescan { from }).unwrap()).to_vec();
        // One that is being written.
        std::fs::write(folder.path().join(FOLDER).join("0.new"), "{").unwrap();
        assert_eq!(waiting(folder.path()), left);
        let commands: Vec<Command> = left.iter().map(|path| read(path).unwrap()).collect();
        assert_eq!(commands, [7, 3].map(|from| Command::Rescan { from }));
        done(&left[0]);
        assert_eq!(waiting(folder.path()), left[1..]);
    }

    #[test]
    fn a_command_is_known_by_its_name() {
        let text = serde_json::to_string(&Command::Rescan { from: 7 }).unwrap();
        assert_eq!(text, r#"{"rescan":{"from":7}}"#);
    }

    #[test]
    fn what_is_no_command_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = leave(folder.path(), &Command::Rescan { from: 7 }).unwrap();
        let long = format!("{}{{\"rescan\":{{\"from\":7}}}}", " ".repeat(70_000));
        for text in
            ["", "{}", "{\"rescan\":{}}", "{\"dance\":{}}", "{\"rescan\":{\"from\":7,\"to\":8}}", &long]
        {
            std::fs::write(&path, text).unwrap();
            refuse(&path, &read(&path).unwrap_err());
            assert_eq!(waiting(folder.path()), [""; 0].map(PathBuf::from), "{text:.40}");
            assert!(path.with_extension("refused").exists());
        }
    }
}
