//! Whether a member's host runs: it holds a lock in its data directory for as long as it lives, whatever store it has.

use crate::file_lock;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// The file's name in the data directory.
const LOCK_FILE: &str = "host.lock";

/// Held by a host that runs; the operating system lets go of it when the process dies.
#[derive(Debug)]
pub struct Presence(#[expect(dead_code, reason = "held, not looked at")] File);

/// Why a host can't run.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum PresenceError {
    /// The lock can't be made or taken.
    #[error("{0}")]
    File(#[from] io::Error),
    /// Two hosts of a member would get in each other's way.
    #[error("another host runs with this data directory")]
    Running,
}

/// Says that a host runs here, if none does.
pub fn take(data_dir: &Path) -> Result<Presence, PresenceError> {
    std::fs::create_dir_all(data_dir)?;
    let file = File::create(data_dir.join(LOCK_FILE))?;
    file_lock::take(&file).map_err(|error| match error {
        TryLockError::WouldBlock => PresenceError::Running,
        TryLockError::Error(error) => error.into(),
    })?;
    Ok(Presence(file))
}

/// Whether a host runs here.
pub fn is_there(data_dir: &Path) -> io::Result<bool> {
    let file = match File::open(data_dir.join(LOCK_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_there_while_it_holds_the_lock_and_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        assert!(!is_there(&data_dir).unwrap());
        let presence = take(&data_dir).unwrap();
        assert!(is_there(&data_dir).unwrap());
        assert!(matches!(take(&data_dir), Err(PresenceError::Running)));
        drop(presence);
        assert!(!is_there(&data_dir).unwrap());
        // Who only asks is in nobody's way for long.
        let asking = File::open(data_dir.join(LOCK_FILE)).unwrap();
        asking.lock_shared().unwrap();
        let starting = std::thread::spawn(move || take(&data_dir).map(drop));
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(asking);
        starting.join().unwrap().unwrap();
    }
}
