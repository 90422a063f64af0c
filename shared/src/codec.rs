//! `postcard` with two rules added: nothing may follow the value, and the encoding must be the one that we would write.

use alloc::vec::Vec;
use serde::{Serialize, de::DeserializeOwned};

/// Bytes that are not the canonical encoding of the wanted type.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not an encoding of the type at all: truncated, or an unknown variant.
    #[error("malformed bytes")]
    Malformed,
    /// A value, then more.
    #[error("{count} bytes after the end of the value")]
    Trailing {
        /// Bytes left over.
        count: usize,
    },
    /// Another encoding of the value than the canonical one (an overlong number, say).
    #[error("not the canonical encoding of the value")]
    NotCanonical,
}

/// Encodes a value. Our types always encode; a type that can't gives nothing, which no decoder accepts.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).unwrap_or_default()
}

/// Decodes a whole buffer.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|_| DecodeError::Malformed)?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing { count: rest.len() });
    }
    if encode(&value) != bytes {
        return Err(DecodeError::NotCanonical);
    }
    Ok(value)
}
