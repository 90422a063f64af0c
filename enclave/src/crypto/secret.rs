//! Bytes that must not be seen: wiped on drop, never printed, serialized only into what is sealed.

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// See the module.
#[derive(Clone, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
pub(crate) struct SecretBytes(Box<[u8]>);

impl SecretBytes {
    /// Takes a copy: the caller wipes its own.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}
