//! The production enclave: the core on a real SEV-SNP guest, serving one host at a time over vsock.
//!
//! It dials nobody, stores nothing, and has no option but the port. As the first process of its VM it has no option but the
//! word that lets hosts in from any port, which the launch digest shows, and shuts all doors before it serves. Standard error is where the VM's console is, if it has one, which the host reads: it
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
    use postern_enclave::shell::{self, Ended, Limits};
    use postern_enclave::snp::{Snp, StartError};
    use postern_enclave::vsock::{ANY_PORT, DEFAULT_PORT, Door, Listener};
    use std::convert::Infallible;
    use std::ffi::{OsStr, OsString};
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
        /// A word on the kernel's command line that neither the kernel knows nor we do.
        #[error("the kernel's command line may tell the enclave nothing but `{ANY_PORT}`, it says `{0}`")]
        Words(String),
        /// Not a VM of ours.
        #[error(transparent)]
        Pid1(#[from] Pid1Error),
        /// Not our machine.
        #[error(transparent)]
        Start(#[from] StartError),
        /// No listening port.
        #[error("can't listen on vsock port {port}: {reason}")]
        Listen { port: u32, reason: io::Error },
        /// It served, and can no more.
        #[error(transparent)]
        Ended(#[from] Ended),
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
        let (port, door) = if pid1::is_first() { first(arguments)? } else { ordinary(arguments)? };
        if pid1::is_first() {
            pid1::begin()?;
        }
        let mut core = Core::new(Snp::open()?);
        let listener = Listener::bind(port, door).map_err(|reason| EnclaveError::Listen { port, reason })?;
        if pid1::is_first() {
            pid1::close()?;
        }
        let _ = writeln!(io::stderr(), "postern-enclave: serving on vsock port {port}");
        Err(shell::serve_each(&mut core, &Limits::default(), || listener.accept(), |_| {}).into())
    }

    /// Where to listen, and for whom, as the first process of a VM.
    fn first(words: impl Iterator<Item = OsString>) -> Result<(u32, Door), EnclaveError> {
        let words: Vec<OsString> = words.collect();
        let unknown = || EnclaveError::Words(words.join(OsStr::new(" ")).to_string_lossy().into_owned());
        Ok((DEFAULT_PORT, Door::asked_for(&words).ok_or_else(unknown)?))
    }

    /// The same, as any other process.
    fn ordinary(arguments: impl Iterator<Item = OsString>) -> Result<(u32, Door), EnclaveError> {
        Ok((port(arguments).ok_or(EnclaveError::Usage)?, Door::Privileged))
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
        fn a_vms_first_process_is_told_nothing_but_who_may_connect() {
            let first = |words: &[&str]| first(words.iter().map(OsString::from));
            assert_eq!(first(&[]).unwrap(), (DEFAULT_PORT, Door::Privileged));
            assert_eq!(first(&["any-port"]).unwrap(), (DEFAULT_PORT, Door::AnyPort));
            for refused in [&["5001"][..], &["any-port", "5000"], &["anyport"], &["single"], &[""]] {
                let error = first(refused).unwrap_err().to_string();
                assert!(error.contains(&format!("`{}`", refused.join(" "))), "{error}");
            }
        }

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
