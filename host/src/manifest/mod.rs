//! How people change a DAO's manifest: `postern manifest propose|sign|apply|show`.
//!
//! 1. `propose` compares an edited manifest with the one in force and writes a proposal ([`Proposal`], JSON): both
//!    manifests, what changes, and what wallets are to sign.
//! 2. `sign` adds a member's signature, made with a key in a file or by any wallet that knows `eth_signTypedData_v4`.
//! 3. `apply` puts a proposal that a quorum signed into the data directory as `epochs/N.epoch` ([`apply()`]), from where
//!    [`load_epochs`] reads the chain.
//!
//! An `.epoch` file holds a [`SignedEpoch`] in its binary form and nothing else. Nobody has to trust these files: what they
//! say is verified whenever they are read ([`postern_shared::epoch`]).

pub mod addresses;
pub mod command;
mod epochs;
mod proposal;
mod show;
mod statuses;

pub use epochs::{KeptEpochs, apply, await_cut, awaits_cut, load_epochs};
pub use proposal::{Proposal, typed_data};
pub use statuses::with_statuses;

use crate::config::ConfigError;
use crate::key_file::KeyFileError;
use crate::whole_file;
use postern_shared::epoch::{ChainError, CutError, EpochError, SignedEpoch};
use postern_shared::ids::{ManifestHash, MemberId};
use postern_shared::manifest::ManifestError;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Longest file that is read: a proposal holds two manifests in hexadecimal, and its lines twice.
const MAX_FILE: usize = 1024 * 1024;

/// Why a manifest's change goes no further.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ManifestFileError {
    /// What was to be said could not be written.
    #[error("{0}")]
    Output(#[from] crate::output::OutputError),
    /// A file or folder can't be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file can't be written.
    #[error("{path}: can't be written: {source}", path = path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Longer than any file of its kind.
    #[error("{path}: longer than {MAX_FILE} bytes", path = path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
    },
    /// Somebody's signatures may be in it.
    #[error("{path}: is there already", path = path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// Not text of the wanted kind.
    #[error("{path}: not {what}: {reason}", path = path.display())]
    Text {
        /// Which.
        path: PathBuf,
        /// Of what kind.
        what: &'static str,
        /// What and where.
        reason: String,
    },
    /// A manifest or a configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Copies that can't be listed in a cut.
    #[error("no cut can be made of these: {0}")]
    Cut(#[from] CutError),
    /// A manifest can't be written as text.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It may not follow, or the wrong ones signed, or too few.
    #[error("{path}: {source}", path = path.display())]
    Epoch {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: EpochError,
    },
    /// The kept epochs do not follow each other.
    #[error("{path}: {source}", path = path.display())]
    Chain {
        /// Their folder.
        path: PathBuf,
        /// Which, and why.
        source: ChainError,
    },
    /// The edited manifest is not an edition of the one in force.
    #[error("{path}: of epoch {found} or of another history; edit the manifest of epoch {expected}", path = path.display())]
    NotAnEdition {
        /// Which file.
        path: PathBuf,
        /// The epoch in force.
        expected: u64,
        /// The file's.
        found: u64,
    },
    /// What a proposal shows is not what its manifests say.
    #[error("{path}: `{field}` is not what the proposal's manifests say: it was altered", path = path.display())]
    Altered {
        /// Which file.
        path: PathBuf,
        /// What.
        field: &'static str,
    },
    /// The file gives no key.
    #[error("{path}: {source}", path = path.display())]
    KeyFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyFileError,
    },
    /// What is in it is no wallet's key: none is 0, or as large.
    #[error("{path}: not a wallet's key", path = path.display())]
    Key {
        /// Which file.
        path: PathBuf,
    },
    /// What was typed as a signature is none.
    #[error("--signature: {0}")]
    Signature(String),
    /// Only members sign.
    #[error("{0} is no member of the epoch in force")]
    Stranger(MemberId),
    /// A file among the epochs whose name is no epoch's.
    #[error("{path}: an epoch's file is named by its number, from 1, as in `7.epoch`", path = path.display())]
    StrangeFile {
        /// Which.
        path: PathBuf,
    },
    /// An epoch is missing between others.
    #[error("epoch {missing} is missing before epoch {found}")]
    Gap {
        /// The first that is missing.
        missing: u64,
        /// What comes after.
        found: u64,
    },
    /// This epoch was settled otherwise.
    #[error("epoch {epoch} is manifest {kept} already, not {proposed}: a fork")]
    Fork {
        /// Which epoch.
        epoch: u64,
        /// What was applied.
        kept: ManifestHash,
        /// What should be.
        proposed: ManifestHash,
    },
    /// The manifest that everything starts from is not earlier than the proposal.
    #[error("epoch {found} does not come after epoch {start} of the host's manifest")]
    NotAfter {
        /// The host's manifest.
        start: u64,
        /// The proposal's.
        found: u64,
    },
}

/// Reads a file that is not too long.
fn read(path: &Path) -> Result<Vec<u8>, ManifestFileError> {
    let failed = |source| ManifestFileError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    // One byte more tells a file of the limit from a longer one.
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_FILE {
        return Err(ManifestFileError::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

fn read_epoch(path: &Path) -> Result<SignedEpoch, ManifestFileError> {
    SignedEpoch::from_bytes(&read(path)?)
        .map_err(|source| ManifestFileError::Epoch { path: path.to_owned(), source })
}

/// Writes a file that must not be there yet.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), ManifestFileError> {
    whole_file::create(path, bytes).map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => ManifestFileError::Exists { path: path.to_owned() },
        _ => ManifestFileError::Write { path: path.to_owned(), source },
    })
}

/// Writes a file, in the place of one that is there.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), ManifestFileError> {
    whole_file::replace(path, bytes)
        .map_err(|source| ManifestFileError::Write { path: path.to_owned(), source })
}
