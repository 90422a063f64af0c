//! Fixed-size byte strings: one newtype for each meaning, hexadecimal for people, raw for machines.

use alloc::{string::String, vec::Vec};

/// Text that is not `0x` and the right number of hexadecimal digits.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// A wrong number of digits.
    #[error("expected {expected} hexadecimal digits, found {found}")]
    Length {
        /// Digits wanted.
        expected: usize,
        /// Digits found.
        found: usize,
    },
    /// Something that is not a hexadecimal digit.
    #[error("not a hexadecimal digit at position {position}")]
    Digit {
        /// Position of the first such character, counted without `0x`.
        position: usize,
    },
}

/// Writes `bytes` as `0x…`, in lower case.
pub fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    let digits = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0f)]);
    "0x".chars().chain(digits).collect()
}

/// Reads hexadecimal text, with or without `0x`.
pub fn from_hex(text: &str) -> Result<Vec<u8>, HexError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mut nibbles = Vec::with_capacity(digits.len());
    for (position, character) in digits.chars().enumerate() {
        let nibble = character.to_digit(16).ok_or(HexError::Digit { position })?;
        nibbles.push(nibble as u8);
    }
    if nibbles.len() % 2 == 1 {
        return Err(HexError::Length { expected: nibbles.len() + 1, found: nibbles.len() });
    }
    Ok(nibbles.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, nibble| byte << 4 | nibble)).collect())
}

/// Declares a newtype over `[u8; N]` whose text form is `0x…` and whose binary form is the bare bytes.
macro_rules! byte_newtype {
    ($(#[$meta:meta])* $name:ident, $size:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $size]);

        impl $name {
            /// Size in bytes.
            pub const SIZE: usize = $size;

            /// The bytes.
            pub fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(&$crate::bytes::to_hex(&self.0))
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl core::str::FromStr for $name {
            type Err = $crate::bytes::HexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let bytes = $crate::bytes::from_hex(text)?;
                let found = bytes.len() * 2;
                bytes
                    .try_into()
                    .map(Self)
                    .map_err(|_| $crate::bytes::HexError::Length { expected: $size * 2, found })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::bytes::serialize(&self.0, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::bytes::deserialize_array(deserializer).map(Self)
            }
        }
    };
}
pub(crate) use byte_newtype;

/// Bytes of any length: text is `0x…`, binary is length-prefixed. For `#[serde(with = …)]` on `Vec<u8>`.
pub mod variable {
    use alloc::vec::Vec;

    /// See the module.
    pub fn serialize<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&super::to_hex(bytes))
        } else {
            serializer.serialize_bytes(bytes)
        }
    }

    /// See the module.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        if deserializer.is_human_readable() {
            let text: alloc::string::String = serde::Deserialize::deserialize(deserializer)?;
            super::from_hex(&text).map_err(serde::de::Error::custom)
        } else {
            struct Bytes;
            impl serde::de::Visitor<'_> for Bytes {
                type Value = Vec<u8>;
                fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                    f.write_str("bytes")
                }
                fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                    Ok(bytes.to_vec())
                }
                fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                    Ok(bytes)
                }
            }
            deserializer.deserialize_byte_buf(Bytes)
        }
    }
}

/// Bytes that may not be there. For `#[serde(with = …)]` on `Option<Vec<u8>>`.
pub mod optional {
    use alloc::vec::Vec;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Bytes(#[serde(with = "super::variable")] Vec<u8>);

    /// See the module.
    pub fn serialize<S: serde::Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.clone().map(Bytes).serialize(serializer)
    }

    /// See the module.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Bytes>::deserialize(deserializer)?.map(|Bytes(bytes)| bytes))
    }
}

pub(crate) fn serialize<S: serde::Serializer, const N: usize>(
    bytes: &[u8; N],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeTuple;
    if serializer.is_human_readable() {
        serializer.serialize_str(&to_hex(bytes))
    } else {
        let mut tuple = serializer.serialize_tuple(N)?;
        for byte in bytes {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }
}

pub(crate) fn deserialize_array<'de, D: serde::Deserializer<'de>, const N: usize>(
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    struct Array<const N: usize>;
    impl<'de, const N: usize> serde::de::Visitor<'de> for Array<N> {
        type Value = [u8; N];
        fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            write!(f, "{N} bytes")
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut sequence: A) -> Result<[u8; N], A::Error> {
            let mut bytes = [0; N];
            for (position, byte) in bytes.iter_mut().enumerate() {
                *byte = sequence
                    .next_element()?
                    .ok_or_else(|| serde::de::Error::invalid_length(position, &self))?;
            }
            Ok(bytes)
        }
    }
    if deserializer.is_human_readable() {
        let text: String = serde::Deserialize::deserialize(deserializer)?;
        let bytes = from_hex(&text).map_err(serde::de::Error::custom)?;
        let found = bytes.len();
        bytes.try_into().map_err(|_| serde::de::Error::invalid_length(found, &Array::<N>))
    } else {
        deserializer.deserialize_tuple(N, Array::<N>)
    }
}
