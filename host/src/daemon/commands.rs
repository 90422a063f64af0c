//! What an operator tells a host that runs, or that will: files in `commands/`, each done and then removed.
//!
//! The store is locked while the host runs, so another process can only leave word. A file is there whole or not at all, and is
//! removed once it is done; a host that ends in between does it again. Whoever removes the file of one that waits withdraws it.

use super::troubles::Troubles;
use super::{DaemonError, RETRY, Shared, events, sending};
use crate::status::Subject;
use crate::{blocking, whole_file};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
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

/// What a command is about: of two about the same the later one comes after the earlier one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Events,
    Transaction(String),
}

impl Command {
    fn about(&self) -> About {
        match self {
            Self::Rescan { .. } => About::Events,
            Self::RetryTransaction { key } | Self::CancelTransaction { key } => {
                About::Transaction(key.clone())
            }
        }
    }
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
    let execute = |command| {
        let shared = Arc::clone(&shared);
        async move { execute(&shared, &command).await }
    };
    serve(&shared.data_dir, &shared.troubles, execute).await
}

async fn execute(shared: &Shared, command: &Command) -> Result<Outcome, DaemonError> {
    match command {
        Command::Rescan { from } => Ok(events::rescan(shared, *from).await?),
        Command::RetryTransaction { key } => sending::told(shared.transactions.retry(key).await),
        Command::CancelTransaction { key } => sending::told(shared.transactions.cancel(key).await),
    }
}

/// Has all commands that are left executed, for ever: those about one thing in the order in which they were left, and each of
/// them by itself otherwise, so that one that takes long or has to wait keeps no other from being done.
async fn serve<F: Future<Output = Result<Outcome, DaemonError>>>(
    data_dir: &Path,
    troubles: &Troubles,
    execute: impl Fn(Command) -> F,
) -> DaemonError {
    let mut doing = FuturesUnordered::new();
    let mut begun: BTreeMap<PathBuf, About> = BTreeMap::new();
    // Another user's file, which this host may not remove, is done once all the same.
    let mut over = BTreeSet::new();
    let mut unread: BTreeSet<PathBuf> = BTreeSet::new();
    loop {
        let mut busy: BTreeSet<About> = begun.values().cloned().collect();
        let left = blocking::run(|| waiting(data_dir));
        over.retain(|path| left.contains(path));
        let unread_before = std::mem::take(&mut unread);
        for path in left {
            if over.contains(&path) || begun.contains_key(&path) {
                continue;
            }
            match blocking::run(|| read(&path)) {
                Ok(command) => {
                    if busy.insert(command.about()) {
                        tracing::info!(?command, "a command");
                        begun.insert(path.clone(), command.about());
                        doing.push(carry_out(path, command, troubles, &execute));
                    }
                }
                Err(Unread::Unknown(error)) => {
                    blocking::run(|| refuse(&path, &error));
                    over.insert(path);
                }
                // It was withdrawn.
                Err(Unread::File(error)) if error.kind() == io::ErrorKind::NotFound => {}
                // It is tried again.
                Err(error) => {
                    troubles.set(subject(&path), &error);
                    unread.insert(path);
                }
            }
        }
        unread_before.difference(&unread).for_each(|path| troubles.clear(&subject(path)));
        tokio::select! {
            Some((path, carried_out)) = doing.next() => {
                if let Err(error) = carried_out {
                    return error;
                }
                begun.remove(&path);
                over.insert(path);
            }
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Executes one until it is done, or a person has removed its file.
async fn carry_out<F: Future<Output = Result<Outcome, DaemonError>>>(
    path: PathBuf,
    command: Command,
    troubles: &Troubles,
    execute: impl Fn(Command) -> F,
) -> (PathBuf, Result<(), DaemonError>) {
    let subject = subject(&path);
    let ended = loop {
        match execute(command.clone()).await {
            Ok(Outcome::Done) => {
                blocking::run(|| done(&path));
                break Ok(());
            }
            Ok(Outcome::Later(reason)) => troubles.set(subject.clone(), format!("waits: {reason}")),
            Err(error) => break Err(error),
        }
        tokio::time::sleep(PAUSE).await;
        if matches!(blocking::run(|| path.try_exists()), Ok(false)) {
            tracing::info!(path = %path.display(), "the command was withdrawn");
            break Ok(());
        }
    };
    troubles.clear(&subject);
    (path, ended)
}

/// Why a file is not a command.
#[derive(Debug, thiserror::Error)]
enum Unread {
    /// It can't be read now.
    #[error("can't be read: {0}")]
    File(#[from] io::Error),
    /// It is no command of this version.
    #[error("not a command that this host knows: {0}")]
    Unknown(#[from] serde_json::Error),
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

fn subject(path: &Path) -> Subject {
    Subject::Command(path.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

fn read(path: &Path) -> Result<Command, Unread> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MOST).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Puts aside what is no command of this version, for a person to see.
fn refuse(path: &Path, error: &serde_json::Error) {
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
    use std::sync::Mutex;

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

    fn retry(key: &str) -> Command {
        Command::RetryTransaction { key: key.to_owned() }
    }

    fn cancel(key: &str) -> Command {
        Command::CancelTransaction { key: key.to_owned() }
    }

    /// Serves until no command is left but these, of which the first one has to wait; what was done, in its order.
    async fn served(folder: &Path, troubles: &Troubles, held: &[Command]) -> Vec<Command> {
        let executed = Mutex::new(Vec::new());
        let execute = |command: Command| {
            let executed = &executed;
            async move {
                if held.first() == Some(&command) {
                    return Ok(Outcome::Later("the node is away".to_owned()));
                }
                executed.lock().unwrap().push(command);
                Ok(Outcome::Done)
            }
        };
        let left = async {
            while waiting(folder).iter().any(|path| !held.contains(&read(path).unwrap())) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            error = serve(folder, troubles, execute) => panic!("{error}"),
            () = left => {}
            () = tokio::time::sleep(Duration::from_secs(120)) => panic!("not done: {:?}", waiting(folder)),
        }
        executed.into_inner().unwrap()
    }

    #[tokio::test]
    async fn a_command_that_waits_holds_up_no_other_and_is_kept() {
        let (folder, troubles) = (tempfile::tempdir().unwrap(), Troubles::default());
        let rescan = Command::Rescan { from: 7 };
        let left = leave(folder.path(), &rescan).unwrap();
        for command in [retry("a"), retry("b")] {
            leave(folder.path(), &command).unwrap();
        }
        let mut done = served(folder.path(), &troubles, std::slice::from_ref(&rescan)).await;
        done.sort_by_key(|command| command.about());
        assert_eq!(done, [retry("a"), retry("b")]);
        let name = left.file_name().unwrap().to_string_lossy().into_owned();
        let said: Vec<_> =
            troubles.all().into_iter().map(|trouble| (trouble.subject, trouble.reason)).collect();
        assert_eq!(said, [(Subject::Command(name), "waits: the node is away".to_owned())]);
        // The host was stopped meanwhile: the next one finds it.
        assert_eq!(served(folder.path(), &troubles, &[]).await, [rescan]);
        assert_eq!(waiting(folder.path()), [""; 0].map(PathBuf::from));
    }

    #[tokio::test]
    async fn commands_about_one_thing_are_done_in_order() {
        let (folder, troubles) = (tempfile::tempdir().unwrap(), Troubles::default());
        let of_a = [cancel("a"), retry("a"), cancel("a")];
        let rescans = [7, 3, 5].map(|from| Command::Rescan { from });
        for command in of_a.iter().chain(&rescans) {
            leave(folder.path(), command).unwrap();
        }
        let done = served(folder.path(), &troubles, &[]).await;
        let of = |about: About| done.iter().filter(move |command| command.about() == about).cloned();
        assert_eq!(of(About::Transaction("a".to_owned())).collect::<Vec<_>>(), of_a);
        assert_eq!(of(About::Events).collect::<Vec<_>>(), rescans);
        // One that waits holds up those that are about the same.
        for command in of_a.iter().take(2).chain([&retry("b")]) {
            leave(folder.path(), command).unwrap();
        }
        assert_eq!(served(folder.path(), &troubles, &of_a[..2]).await, [retry("b")]);
    }

    #[tokio::test]
    async fn one_that_takes_long_holds_up_no_other() {
        let (folder, troubles) = (tempfile::tempdir().unwrap(), Troubles::default());
        leave(folder.path(), &Command::Rescan { from: 7 }).unwrap();
        leave(folder.path(), &retry("a")).unwrap();
        let (retried, is_retried) = tokio::sync::oneshot::channel();
        let retried = Mutex::new(Some(retried));
        let execute = |command: Command| {
            let retried = &retried;
            async move {
                match command {
                    Command::Rescan { .. } => std::future::pending().await,
                    _ => retried.lock().unwrap().take().unwrap().send(()).unwrap(),
                }
                Ok(Outcome::Done)
            }
        };
        tokio::select! {
            error = serve(folder.path(), &troubles, execute) => panic!("{error}"),
            done = is_retried => done.unwrap(),
            () = tokio::time::sleep(Duration::from_secs(120)) => panic!("not done"),
        }
    }

    #[tokio::test]
    async fn a_command_that_waits_can_be_withdrawn() {
        let (folder, troubles) = (tempfile::tempdir().unwrap(), Troubles::default());
        let path = leave(folder.path(), &Command::Rescan { from: 7 }).unwrap();
        let withdrawn = async {
            while troubles.all().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            std::fs::remove_file(&path).unwrap();
            while !troubles.all().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let execute = async |_| Ok(Outcome::Later("the node is away".to_owned()));
        tokio::select! {
            error = serve(folder.path(), &troubles, execute) => panic!("{error}"),
            () = withdrawn => {}
            () = tokio::time::sleep(Duration::from_secs(120)) => panic!("not withdrawn"),
        }
    }

    #[tokio::test]
    async fn a_command_that_can_not_be_read_is_kept_and_read_later() {
        let (folder, troubles) = (tempfile::tempdir().unwrap(), Troubles::default());
        let path = leave(folder.path(), &retry("a")).unwrap();
        let text = std::fs::read(&path).unwrap();
        // A folder can be opened, and not be read.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let readable = async {
            while troubles.all().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(troubles.all()[0].reason.contains("can't be read"), "{:?}", troubles.all());
            std::fs::remove_dir(&path).unwrap();
            whole_file::replace(&path, &text).unwrap();
            while path.exists() || !troubles.all().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let executed = Mutex::new(Vec::new());
        let execute = async |command| {
            executed.lock().unwrap().push(command);
            Ok(Outcome::Done)
        };
        tokio::select! {
            error = serve(folder.path(), &troubles, execute) => panic!("{error}"),
            () = readable => {}
            () = tokio::time::sleep(Duration::from_secs(120)) => panic!("not done"),
        }
        assert_eq!(executed.into_inner().unwrap(), [retry("a")]);
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
            let Err(Unread::Unknown(error)) = read(&path) else { panic!("known: {text:.40}") };
            refuse(&path, &error);
            assert_eq!(waiting(folder.path()), [""; 0].map(PathBuf::from), "{text:.40}");
            assert!(path.with_extension("refused").exists());
        }
    }
}
