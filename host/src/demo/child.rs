//! Children that die with the demo, even if it is killed.
//!
//! The demo starts `postern demo --child-of PID -- ARGUMENTS`, which asks the kernel for a death signal and then becomes
//! `postern ARGUMENTS`: the request outlives `execve`, and the process id stays.

use super::DemoError;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Turns this process into the child. Returns only if that fails.
pub(super) fn become_child(parent: u32, command: &[OsString]) -> DemoError {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return DemoError::Child(error.into());
    }
    // The demo may have died before the request.
    let found = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if found != Some(parent) {
        return DemoError::Child(std::io::Error::other("the demo has ended"));
    }
    match std::env::current_exe() {
        Ok(program) => DemoError::Child(Command::new(program).args(command).exec()),
        Err(error) => DemoError::Child(error),
    }
}
