//! Where an enclave listens.

use std::path::{Path, PathBuf};

/// The vsock port on which the enclave of a VM listens.
pub const ENCLAVE_PORT: u32 = 5000;

/// See [`EnclaveAddress::parse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnclaveAddress {
    /// A VM's vsock port.
    Vsock {
        /// The VM's context id.
        cid: u32,
        /// The port.
        port: u32,
    },
    /// A Unix socket.
    Unix(PathBuf),
    /// A Unix socket that wants to be told a vsock port first (`CONNECT PORT`), as user-space vsock devices do.
    UnixConnect {
        /// The socket.
        path: PathBuf,
        /// The port behind it.
        port: u32,
    },
}

/// Text that is no address. It is not repeated: it may be something secret in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("none of vsock:CID:PORT, unix:PATH, unix-connect:PATH:PORT")]
pub struct AddressError;

impl EnclaveAddress {
    /// Reads `vsock:CID:PORT`, `unix:PATH` or `unix-connect:PATH:PORT`; relative paths lie in `folder`.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, AddressError> {
        let error = || AddressError;
        let number = |digits: &str| digits.parse::<u32>().map_err(|_| error());
        let path = |path: &str| if path.is_empty() { Err(error()) } else { Ok(folder.join(path)) };
        match text.split_once(':').ok_or_else(error)? {
            ("vsock", rest) => {
                let (cid, port) = rest.split_once(':').ok_or_else(error)?;
                Ok(Self::Vsock { cid: number(cid)?, port: number(port)? })
            }
            ("unix", rest) => Ok(Self::Unix(path(rest)?)),
            ("unix-connect", rest) => {
                let (socket, port) = rest.rsplit_once(':').ok_or_else(error)?;
                Ok(Self::UnixConnect { path: path(socket)?, port: number(port)? })
            }
            _ => Err(error()),
        }
    }
}

impl std::fmt::Display for EnclaveAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixConnect { path, port } => write!(f, "unix-connect:{}:{port}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["vsock:3:5000", "unix:/run/enclave.sock", "unix-connect:/run/v:sock:5000"] {
            assert_eq!(EnclaveAddress::parse(text, Path::new("/etc")).unwrap().to_string(), text);
        }
        let relative = EnclaveAddress::parse("unix:enclave.sock", Path::new("/etc")).unwrap();
        assert_eq!(relative, EnclaveAddress::Unix("/etc/enclave.sock".into()));
        for text in ["", "vsock:3", "vsock:x:1", "unix:", "tcp:1:2", "unix-connect:/run/v"] {
            assert!(EnclaveAddress::parse(text, Path::new("/etc")).is_err(), "{text}");
        }
    }
}
