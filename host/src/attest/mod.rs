//! `postern attest`: looks at evidence as an enclave would, and says what it finds.
//!
//! - [`evidence`]: from a file, a folder, or an enclave.
//! - [`judge`]: by the manifest's rules, or by the built-in ones as far as they go.
//! - [`show`] and [`floors`]: for people; [`Verdict`]: for scripts.
//! - [`command`]: the command line.

pub mod command;
mod container;
pub mod evidence;
mod floors;
mod judge;
mod show;
mod verdict;

pub use container::ContainerError;
pub use floors::floors;
pub use judge::{Judgement, Question, explain, judge};
pub use show::show;
pub use verdict::Verdict;

use crate::config::ConfigError;
use crate::link::{AddressError, LinkError};
use crate::verify::UnknownSimulation;
use postern_shared::wire::Rejection;
use std::path::PathBuf;

/// What to do about an enclave that does not answer.
fn busy(error: &LinkError) -> &'static str {
    match error {
        LinkError::Timeout(_) => {
            " (it serves one host at a time; a running host leaves its evidence in `evidence.json` of its data directory)"
        }
        _ => "",
    }
}

/// Why there is nothing to judge.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// What was to be said could not be written.
    #[error("{0}")]
    Output(#[from] crate::output::OutputError),
    /// A file can't be read, or not be written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is too long for what it should hold.
    #[error("{path}: {found} bytes, at most {limit} wanted", path = path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// The limit.
        limit: u64,
        /// Its length.
        found: u64,
    },
    /// A file holds something that should have a report, and has none.
    #[error("{path}: {source}", path = path.display())]
    Container {
        /// Which file.
        path: PathBuf,
        /// What it is instead.
        source: ContainerError,
    },
    /// A file holds no evidence.
    #[error("{path}: neither an attestation report (1184 bytes, binary, hexadecimal or base64; a firmware's answer; a blob of Azure's HCL) nor evidence in JSON: {reason}", path = path.display())]
    NoEvidence {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        reason: String,
    },
    /// The manifest can't be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder of certificates can't be read or written.
    #[error(transparent)]
    Folder(#[from] crate::certificates::folder::FolderError),
    /// The manifest trusts a root that this build does not know.
    #[error(transparent)]
    Simulation(#[from] UnknownSimulation),
    /// No address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The enclave can't be reached, or does not make sense.
    #[error("enclave at {address}: {source}{}", busy(.source))]
    Link {
        /// Where.
        address: String,
        /// Why.
        source: LinkError,
    },
    /// The enclave gives no evidence.
    #[error("enclave at {address}: {rejection}")]
    Rejected {
        /// Where.
        address: String,
        /// Why.
        rejection: Rejection,
    },
    /// The enclave answers something else than it was asked.
    #[error("enclave at {address}: an answer to another question")]
    Protocol {
        /// Where.
        address: String,
    },
    /// No randomness for a nonce.
    #[error("no randomness: {0}")]
    Randomness(String),
    /// A member that the manifest does not have.
    #[error("the manifest has no {0}")]
    NotAMember(postern_shared::ids::MemberId),
    /// A report without certificates can be shown, not verified.
    #[error("a bare report needs --certs")]
    NoCertificates,
    /// A text that is no time.
    #[error("`{0}` is no time: unix seconds, or YYYY-MM-DDThh:mm:ssZ")]
    Time(String),
    /// A nonce of a length that can't be.
    #[error("a nonce of {found} bytes: 32 wanted for evidence, 1 to 64 for a bare report")]
    NonceLength {
        /// Its length.
        found: usize,
    },
}
