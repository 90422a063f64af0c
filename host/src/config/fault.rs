//! What is wrong with a configuration: every fault of it, by the name of its field. No fault repeats what may be secret, such as a
//! URL, a key or a password.

use super::ConfigError;
use crate::certificates::folder::FolderError;
use crate::certificates::kds::KdsError;
use crate::chain::transactions::SigningError;
use crate::chain::url::UrlError;
use crate::key_file::KeyFileError;
use crate::link::AddressError as EnclaveAddressError;
use crate::manifest::ManifestFileError;
use crate::network::NetworkError;
use crate::network::address::AddressError;
use crate::store::PlaceError;
use postern_shared::ids::{Address, MemberId};
use std::fmt::{Display, Formatter, Result as Written};
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("config field `{field}`: {error}")]
pub struct Fault {
    /// Path of the field, as in TOML.
    pub field: String,
    /// What is wrong with it.
    #[source]
    pub error: FieldError,
}

/// What is wrong with a field, or with the file that it names.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum FieldError {
    /// It has no value, and needs one.
    #[error("missing")]
    Missing,
    /// Nobody reads it.
    #[error("unknown")]
    Unknown,
    /// It has a value of another type.
    #[error("line {line}, column {column}: {reason}")]
    Type {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What was found, and what is wanted.
        reason: String,
    },
    /// It is a number that can't be.
    #[error("must be from 1 to {0}")]
    OutOfRange(u64),
    /// A URL where a path is wanted.
    #[error("a URL, where the path of a file is wanted")]
    NoPath,
    /// The file can't be read.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// There is no such file. What stands there instead of its path may be secret.
    #[error("the file that it names: {0}")]
    NoFile(std::io::Error),
    /// The file holds no text.
    #[error("{path}: not UTF-8 text", path = path.display())]
    NotText {
        /// Which.
        path: PathBuf,
    },
    /// The manifest can't be used.
    #[error(transparent)]
    Manifest(Box<ConfigError>),
    /// The manifest is not the DAO's first one.
    #[error("epoch {0} is not the first: enclaves follow all epochs from 0 on")]
    LaterEpoch(u64),
    /// The epochs in the data directory can't be used.
    #[error(transparent)]
    Epochs(Box<ManifestFileError>),
    /// The manifest has no such member.
    #[error("the manifest has no {0}")]
    NoMember(MemberId),
    /// The file holds no key.
    #[error("{path}: {source}", path = path.display())]
    KeyFile {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyFileError,
    },
    /// What the file holds is no seed of a host's key.
    #[error("not an Ed25519 seed")]
    NoHostKey,
    /// The key is of somebody else's host.
    #[error("not the key that the manifest names for {0}")]
    OtherHost(MemberId),
    /// The wallet can't sign.
    #[error(transparent)]
    Signer(SigningError),
    /// The key, or the address, is of another wallet.
    #[error("not {}{wallet}, the wallet that the manifest names for {member}", if *.is_key { "the key of " } else { "" })]
    OtherWallet {
        /// Whether a key is meant.
        is_key: bool,
        /// The one in the manifest.
        wallet: Address,
        /// Whose it is.
        member: MemberId,
    },
    /// Nobody signs for the wallet.
    #[error("either this or `[wallet]` is needed")]
    NoWallet,
    /// Two are to sign for it.
    #[error("not both `wallet_key` and `[wallet]`")]
    TwoWallets,
    /// The enclave can't be there.
    #[error(transparent)]
    Enclave(#[from] EnclaveAddressError),
    /// A host can't listen or be found there.
    #[error(transparent)]
    Host(#[from] AddressError),
    /// A peer's name in the list.
    #[error("not a member's number")]
    NotANumber,
    /// A peer that is no other.
    #[error("that is this member itself")]
    Itself,
    /// The manifest's key of a peer is none.
    #[error(transparent)]
    Peer(NetworkError),
    /// An empty list of nodes.
    #[error("at least one is needed")]
    NoNodes,
    /// A node's URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A node with two votes.
    #[error("{0} is listed twice")]
    Twice(String),
    /// A beacon node's URL with a part of each request.
    #[error("must end before `/eth/v1`, which every request adds")]
    BeaconPath,
    /// Neither a number nor the text of one.
    #[error("not a decimal number with at most {0} digits after the point")]
    Amount(usize),
    /// More than anybody has.
    #[error("too large")]
    TooLarge,
    /// Nothing, where that ends everything.
    #[error("must not be 0: nothing could be sent")]
    Zero,
    /// A part that is larger than the whole.
    #[error("more than `{0}`")]
    MoreThan(&'static str),
    /// The folder with certificates can't be used.
    #[error(transparent)]
    Certificates(#[from] FolderError),
    /// The key distribution service can't be asked.
    #[error(transparent)]
    Kds(#[from] KdsError),
    /// The database can't be used.
    #[error(transparent)]
    Database(#[from] PlaceError),
}

impl FieldError {
    /// A file that may hold something secret, and can't be read. Only the path of one that is there is sure to be a path.
    pub(super) fn unread(path: &Path, source: std::io::Error) -> Self {
        if path.exists() { Self::File { path: path.to_owned(), source } } else { Self::NoFile(source) }
    }
}

/// Everything that is wrong with a configuration. Shown in one line; see [`Faults::iter`].
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

/// That something is among the faults. What depends on it is left out, and is no fault of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reported(());

impl Faults {
    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one.
    pub(super) fn report(&mut self, field: &str, error: impl Into<FieldError>) -> Reported {
        self.0.push(Fault { field: field.to_owned(), error: error.into() });
        Reported(())
    }

    /// Adds what is wrong with a field, if anything is.
    pub(super) fn check<T>(
        &mut self,
        field: &str,
        result: Result<T, impl Into<FieldError>>,
    ) -> Result<T, Reported> {
        result.map_err(|error| self.report(field, error))
    }
}

impl Display for Faults {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        for (place, fault) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
