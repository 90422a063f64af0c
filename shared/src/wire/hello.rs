//! The first frame in each direction. Its layout never changes, so that even strangers can tell each other's versions.

use alloc::vec::Vec;

/// The protocol version of this build.
pub const PROTOCOL_VERSION: u16 = 7;

const MAGIC: &[u8; 8] = b"postern\0";

/// A side's protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The version that the sender speaks.
    pub version: u16,
}

/// Why two sides can't talk.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The other side does not speak Postern.
    #[error("the other side does not speak Postern's protocol")]
    Foreign,
    /// The other side speaks another version.
    #[error("this side speaks protocol version {ours}, the other side version {theirs}")]
    Version {
        /// Ours.
        ours: u16,
        /// Theirs.
        theirs: u16,
    },
}

impl Hello {
    /// The hello of this build.
    pub const OURS: Self = Self { version: PROTOCOL_VERSION };

    /// The body of the frame.
    pub fn encode(self) -> Vec<u8> {
        MAGIC.iter().copied().chain(self.version.to_le_bytes()).collect()
    }

    /// Reads the other side's hello and refuses a version that is not ours.
    pub fn check(body: &[u8]) -> Result<(), HelloError> {
        let version =
            body.strip_prefix(MAGIC).and_then(|rest| rest.try_into().ok()).ok_or(HelloError::Foreign)?;
        match u16::from_le_bytes(version) {
            PROTOCOL_VERSION => Ok(()),
            theirs => Err(HelloError::Version { ours: PROTOCOL_VERSION, theirs }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_refused_with_both_numbers() {
        assert_eq!(Hello::check(&Hello::OURS.encode()), Ok(()));
        for other in [1, 3, 6] {
            let error = Hello::check(&Hello { version: other }.encode()).unwrap_err();
            assert_eq!(
                alloc::format!("{error}"),
                alloc::format!("this side speaks protocol version 7, the other side version {other}")
            );
        }
        assert_eq!(Hello::check(b"GET / HTTP/1.1"), Err(HelloError::Foreign));
    }
}
