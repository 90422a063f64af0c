//! `postcard` with two rules added: nothing may follow the value, and the encoding must be the one that we would write.

use alloc::{vec, vec::Vec};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

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

/// Encodes what is secret: into one buffer that never grows, so that nothing is left behind, and wiped on drop.
pub fn encode_secret<T: Serialize + ?Sized>(value: &T) -> Zeroizing<Vec<u8>> {
    let size = postcard::serialize_with_flavor(value, postcard::ser_flavors::Size::default());
    let mut buffer = Zeroizing::new(vec![0; size.unwrap_or_default()]);
    let used = postcard::to_slice(value, &mut buffer).map_or(0, |used| used.len());
    buffer.truncate(used);
    buffer
}

/// Decodes what a buffer begins with, and looks at nothing after it. A format's version can be read so in every version.
pub fn decode_beginning<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, _) = postcard::take_from_bytes(bytes).map_err(|_| DecodeError::Malformed)?;
    Ok(value)
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
