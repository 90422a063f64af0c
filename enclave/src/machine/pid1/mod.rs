//! The enclave as the first and only process of its VM.
//!
//! [`begin`] makes a machine of what the kernel leaves to its first process. Then the enclave opens what it needs: the
//! secure processor, randomness, a listening port. [`close`] shuts every door behind it, for good: no path can be opened, no
//! socket made, no program started; and looks whether that is so. Whatever fails ends the process, and a kernel whose first
//! process ends panics, which ends the VM (`CONFIG_PANIC_TIMEOUT=-1`, and QEMU's `-no-reboot`).
//!
//! Doors of the kernel that are shut by construction are not looked for here: the image's kernel has no modules, no kexec, no
//! BPF and io_uring, no 32-bit calls, no `/proc/sys` and no `/dev/mem` (`enclave/image/kernel/config`), and `tests/tests/vm.rs`
//! tries them.

mod filter;

use rustix::io::Errno;
use rustix::mm::MlockAllFlags;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};

/// What is mounted, until the doors are closed.
const MOUNTS: [(&str, &CStr); 2] = [("/dev", c"devtmpfs"), ("/proc", c"proc")];

/// Files that may be open at once: devices, the listening port, one host, and a few to spare.
const MAX_FILES: u64 = 32;

/// What must be read of the process when all is closed.
const CLOSED: [(&str, &str); 8] = [
    ("CapInh", "0000000000000000"),
    ("CapPrm", "0000000000000000"),
    ("CapEff", "0000000000000000"),
    ("CapBnd", "0000000000000000"),
    ("CapAmb", "0000000000000000"),
    ("NoNewPrivs", "1"),
    ("Seccomp", "2"),
    ("Threads", "1"),
];

/// What could not be done. The VM ends.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Pid1Error {
    /// A file system.
    #[error("can't mount or unmount {place}: {source}")]
    Mount {
        /// Where.
        place: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Something that the process gives up.
    #[error("can't give up {what}: {source}")]
    GiveUp {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The filter of system calls.
    #[error("can't filter system calls: {0}")]
    Filter(String),
    /// A door that is open after all.
    #[error("`{name}` is `{found}` where `{expected}` was wanted")]
    Open {
        /// A line of the process's status.
        name: &'static str,
        /// What it says.
        found: String,
        /// What it should.
        expected: &'static str,
    },
}

/// Whether this process is a VM's first.
pub fn is_first() -> bool {
    std::process::id() == 1
}

/// Mounts what is needed until the doors are closed.
pub fn begin() -> Result<(), Pid1Error> {
    for (place, kind) in MOUNTS {
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        mount(kind, place, kind, flags, None)
            .map_err(|error| Pid1Error::Mount { place, source: error.into() })?;
    }
    Ok(())
}

/// Shuts all doors, and looks whether they are shut.
pub fn close() -> Result<(), Pid1Error> {
    let mut status = shut()?;
    filter::apply()?;
    let mut text = String::new();
    status.read_to_string(&mut text).map_err(|source| Pid1Error::GiveUp { what: "its status", source })?;
    check(&text)
}

/// All doors but the filter of system calls; the process's status, to be read when that is there too.
pub fn shut() -> Result<File, Pid1Error> {
    let status =
        File::open("/proc/self/status").map_err(|source| Pid1Error::GiveUp { what: "its status", source })?;
    for (place, _) in MOUNTS {
        unmount(place, UnmountFlags::DETACH)
            .map_err(|error| Pid1Error::Mount { place, source: error.into() })?;
    }
    let give_up = |what: &'static str| move |error: Errno| Pid1Error::GiveUp { what, source: error.into() };
    let limit = |most| Rlimit { current: most, maximum: most };
    // Memory is never written anywhere else; there is nowhere that it could be.
    setrlimit(Resource::Memlock, limit(None)).map_err(give_up("a limit of locked memory"))?;
    rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
        .map_err(give_up("unlocked memory"))?;
    setrlimit(Resource::Core, limit(Some(0))).map_err(give_up("core dumps"))?;
    setrlimit(Resource::Nofile, limit(Some(MAX_FILES))).map_err(give_up("open files"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(give_up("being dumped"))?;
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // The kernel knows no more of them.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(give_up("capabilities")(error)),
        }
    }
    clear_ambient_capability_set().map_err(give_up("capabilities"))?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(give_up("capabilities"))?;
    set_no_new_privs(true).map_err(give_up("new privileges"))?;
    Ok(status)
}

/// What the kernel itself says about the process.
fn check(status: &str) -> Result<(), Pid1Error> {
    for (name, expected) in CLOSED {
        let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        if found != Some(expected) {
            let found = found.unwrap_or_default().to_owned();
            return Err(Pid1Error::Open { name, found, expected });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_that_is_open_or_not_told_of_is_found() {
        let closed: String = CLOSED.iter().map(|(name, expected)| format!("{name}:\t{expected}\n")).collect();
        check(&closed).unwrap();
        for (name, expected) in CLOSED {
            let line = format!("{name}:\t{expected}\n");
            for instead in ["", &format!("{name}:\t{expected}0\n"), &format!("{name}:\t0000000000000400\n")] {
                let refused = check(&closed.replace(&line, instead)).unwrap_err();
                assert!(matches!(refused, Pid1Error::Open { name: found, .. } if found == name), "{refused}");
            }
        }
        // As this very process: it has filters and limits of its own, or none.
        assert!(check(&std::fs::read_to_string("/proc/self/status").unwrap()).is_err());
    }
}
