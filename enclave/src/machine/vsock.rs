//! Where hosts connect to: a listening vsock port. Nothing here can dial.
//!
//! Whoever is connected keeps all others out, so [`Door`] says who may be. A connection's context id and port are what the
//! host's kernel says they are: this keeps other users of the host's machine out, and nothing from the host itself, which
//! is not trusted anyway.

use crate::shell::Stream;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::time::Duration;

/// The port unless told otherwise.
pub const DEFAULT_PORT: u32 = 5000;

/// The word that opens [`Door::AnyPort`].
pub const ANY_PORT: &str = "any-port";

/// `VMADDR_CID_ANY`: whatever context id the VM was given.
const ANY_CID: u32 = u32::MAX;

/// `VMADDR_CID_HOST`: the machine that runs the VM. Other VMs have numbers of their own.
const HOST_CID: u32 = 2;

/// Linux lets a process bind a vsock port below this one only if it has `CAP_NET_BIND_SERVICE`, and gives none of them to
/// whoever binds no port (`LAST_RESERVED_PORT` in `net/vmw_vsock/af_vsock.c`).
const FIRST_OPEN_PORT: u32 = 1024;

/// Connections that wait while one is served; the kernel refuses more.
const BACKLOG: i32 = 4;

/// Who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The host, from a port that it lets only privileged processes have.
    Privileged,
    /// The host, from any port. QEMU's vsock device in user space numbers its connections from 0 on, whoever connects to its
    /// Unix socket, whose permissions then say who may: there, a low port says nothing, and the 1025th is refused.
    AnyPort,
}

impl Door {
    /// The door that these words ask for, which are all that the enclave was told: none for words that mean nothing.
    ///
    /// A kernel hands its first process those words of its command line that it does not know itself. They are in the
    /// launch digest: an enclave that lets any port in has another than production's.
    pub fn asked_for<W: AsRef<std::ffi::OsStr>>(words: &[W]) -> Option<Self> {
        match words {
            [] => Some(Self::Privileged),
            [word] if word.as_ref() == ANY_PORT => Some(Self::AnyPort),
            _ => None,
        }
    }

    /// Whether a connection from there is served.
    pub fn admits(self, cid: u32, port: u32) -> bool {
        cid == HOST_CID && (self == Self::AnyPort || port < FIRST_OPEN_PORT)
    }
}

/// A listening port.
pub struct Listener {
    socket: Socket,
    door: Door,
}

impl Listener {
    /// Listens on `port`, for whom `door` admits.
    pub fn bind(port: u32, door: Door) -> io::Result<Self> {
        let socket = Socket::new(Domain::VSOCK, Type::STREAM, None)?;
        socket.bind(&SockAddr::vsock(ANY_CID, port))?;
        socket.listen(BACKLOG)?;
        Ok(Self { socket, door })
    }

    /// Waits for the next connection that may be served. All others are closed: nothing is read from them, or said.
    pub fn accept(&self) -> io::Result<impl Stream + use<>> {
        loop {
            let (stream, peer) = self.socket.accept()?;
            if peer.as_vsock_address().is_some_and(|(cid, port)| self.door.admits(cid, port)) {
                return Ok(stream);
            }
        }
    }
}

impl Stream for Socket {
    fn set_read_timeout(&mut self, limit: Duration) -> io::Result<()> {
        Self::set_read_timeout(self, Some(limit))
    }

    fn set_write_timeout(&mut self, limit: Duration) -> io::Result<()> {
        Self::set_write_timeout(self, Some(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hosts_privileged_ports_are_let_in() {
        for port in [0, 1, 22, 1022, 1023] {
            assert!(Door::Privileged.admits(HOST_CID, port), "{port}");
        }
        for port in [1024, 1025, 5000, 1 << 30, u32::MAX - 1, u32::MAX] {
            assert!(!Door::Privileged.admits(HOST_CID, port), "{port}");
            assert!(Door::AnyPort.admits(HOST_CID, port), "{port}");
        }
        // Hypervisor, the VM itself, other VMs, whoever.
        for cid in [0, 1, 3, 42, u32::MAX] {
            for port in [0, 1023, 5000] {
                assert!(!Door::Privileged.admits(cid, port), "{cid}:{port}");
                assert!(!Door::AnyPort.admits(cid, port), "{cid}:{port}");
            }
        }
    }

    #[test]
    fn one_word_opens_the_door_and_no_other_is_known() {
        assert_eq!(Door::asked_for::<&str>(&[]), Some(Door::Privileged));
        assert_eq!(Door::asked_for(&["any-port"]), Some(Door::AnyPort));
        for refused in [&["any-ports"][..], &[""], &["5000"], &["any-port", "any-port"], &["quiet"]] {
            assert_eq!(Door::asked_for(refused), None, "{refused:?}");
        }
    }
}
