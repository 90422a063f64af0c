//! SHA-256 over labelled, length-prefixed parts, so that no two different inputs hash the same bytes.

use crate::ids::Digest;
use sha2::Digest as _;

/// A hash in the making. Begins with a domain label, one for each use.
pub struct Transcriber(sha2::Sha256);

impl Transcriber {
    /// Starts a hash for the use that `label` names.
    pub fn new(label: &'static str) -> Self {
        Self(sha2::Sha256::new()).bytes(label.as_bytes())
    }

    /// Adds a byte string.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a number.
    pub fn number(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}
