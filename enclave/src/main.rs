//! The production enclave: the core on a real SEV-SNP guest, serving one host at a time over vsock.
//!
//! It dials nobody, stores nothing, and has no option but the port. As the first process of its VM it has none at all, and
//! shuts all doors before it serves. Standard error is where the VM's console is, if it has one, which the host reads: it
//! tells why the enclave did not start, or that it did, and nothing of what it then does.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    linux::end_on_panic();
    let error = match linux::run(std::env::args_os().skip(1)) {
        Err(error) => error,
        Ok(never) => match never {},
    };
    eprintln!("postern-enclave: {error}");
    ExitCode::FAILURE
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("postern-enclave: runs in Linux guests only");
    ExitCode::FAILURE
}

#[cfg(target_os = "linux")]
mod linux {
    use postern_enclave::core::Core;
    use postern_enclave::pid1::{self, Pid1Error};
    use postern_enclave::shell;
    use postern_enclave::snp::{Snp, StartError};
    use postern_enclave::vsock::{DEFAULT_PORT, Listener};
    use std::convert::Infallible;
    use std::ffi::OsString;
    use std::io::{self, Write};

    /// Exit code after a panic, as Rust's own.
    const PANICKED: i32 = 101;

    /// Why the enclave does not serve.
    #[derive(Debug, thiserror::Error)]
    pub(super) enum EnclaveError {
        /// Not our usage.
        #[error(
            "usage: postern-enclave [PORT], a vsock port below {} ({DEFAULT_PORT} if not given)",
            u32::MAX
        )]
        Usage,
        /// Not a VM of ours.
        #[error(transparent)]
        Pid1(#[from] Pid1Error),
        /// Not our machine.
        #[error(transparent)]
        Start(#[from] StartError),
        /// No listening port.
        #[error("can't listen on vsock port {port}: {reason}")]
        Listen { port: u32, reason: io::Error },
        /// A listening port that died.
        #[error("can't accept connections on vsock port {port} any more: {reason}")]
        Accept { port: u32, reason: io::Error },
    }

    /// Ends the process at a panic: no state is served that a panic left half changed. The text says where it was and
    /// not what was found there, which may be a secret.
    pub(super) fn end_on_panic() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(io::stderr(), "postern-enclave: panicked at {place}");
            std::process::exit(PANICKED);
        }));
    }

    /// Serves until no connection can be had any more.
    pub(super) fn run(arguments: impl Iterator<Item = OsString>) -> Result<Infallible, EnclaveError> {
        // A kernel hands its first process those words of its command line that it does not know itself.
        let port =
            if pid1::is_first() { DEFAULT_PORT } else { port(arguments).ok_or(EnclaveError::Usage)? };
        if pid1::is_first() {
            pid1::begin()?;
        }
        let mut core = Core::new(Snp::open()?);
        let listener = Listener::bind(port).map_err(|reason| EnclaveError::Listen { port, reason })?;
        if pid1::is_first() {
            pid1::close()?;
        }
        let _ = writeln!(io::stderr(), "postern-enclave: serving on vsock port {port}");
        let reason = shell::serve_each(&mut core, || listener.accept(), |_| {});
        Err(EnclaveError::Accept { port, reason })
    }

    /// The port to listen on. `u32::MAX` would mean any.
    fn port(mut arguments: impl Iterator<Item = OsString>) -> Option<u32> {
        let port = match arguments.next() {
            Some(port) => port.to_str()?.parse().ok()?,
            None => DEFAULT_PORT,
        };
        (port != u32::MAX && arguments.next().is_none()).then_some(port)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_port_is_the_only_argument() {
            let port = |arguments: &[&str]| port(arguments.iter().map(OsString::from));
            assert_eq!(port(&[]), Some(DEFAULT_PORT));
            assert_eq!(port(&["0"]), Some(0));
            assert_eq!(port(&["4294967294"]), Some(4_294_967_294));
            for refused in
                [&["4294967295"][..], &["-1"], &["vsock:3:5000"], &[""], &["5000", "5001"], &["--help"]]
            {
                assert_eq!(port(refused), None, "{refused:?}");
            }
        }
    }
}
