//! `postern simulated-enclave`: one enclave core on a software secure processor. It protects nothing.

use std::path::PathBuf;

/// Runs a simulated enclave, which protects nothing, until it is killed.
#[derive(Debug, Clone, clap::Args)]
pub struct SimulatedEnclaveArguments {
    /// Unix socket to listen on.
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// Description of the simulated machine: `name = hexadecimal`, a line for each.
    #[arg(long, value_name = "FILE")]
    pub machine: PathBuf,
}

/// Why a simulated enclave ended.
#[derive(Debug, thiserror::Error)]
#[error("simulated enclave at {socket}: {reason}", socket = socket.display())]
pub struct EnclaveError {
    /// Its socket.
    pub socket: PathBuf,
    /// What was wrong.
    pub reason: String,
}

impl SimulatedEnclaveArguments {
    /// Serves the host until killed.
    pub fn run(&self) -> Result<(), EnclaveError> {
        postern_simulation::process::run(&self.socket, &self.machine)
            .map_err(|error| EnclaveError { socket: self.socket.clone(), reason: error.to_string() })
    }
}
