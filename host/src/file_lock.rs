//! Locks on files that one process at a time may hold.

use std::fs::{File, TryLockError};
use std::time::Duration;

/// Whoever asks whether a lock is held holds it for a moment, and so does a child that this process starts, until it runs its
/// own program: a lock that is held for longer than this is held.
const ATTEMPTS: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(50);

/// Takes a file's lock for as long as the file is open; the operating system lets go of it when the process dies.
pub(crate) fn take(file: &File) -> Result<(), TryLockError> {
    for _ in 1..ATTEMPTS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN),
            taken => return taken,
        }
    }
    file.try_lock()
}
