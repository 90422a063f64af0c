//! Where hosts connect to: a listening vsock port. Nothing here can dial.

use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, Read, Write};

/// The port unless told otherwise.
pub const DEFAULT_PORT: u32 = 5000;

/// `VMADDR_CID_ANY`: whatever context id the VM was given.
const ANY_CID: u32 = u32::MAX;

/// Connections that wait while one is served; the kernel refuses more.
const BACKLOG: i32 = 4;

/// A listening port.
pub struct Listener {
    socket: Socket,
}

impl Listener {
    /// Listens on `port`, for whoever can reach the VM: hosts are not trusted anyway.
    pub fn bind(port: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::VSOCK, Type::STREAM, None)?;
        socket.bind(&SockAddr::vsock(ANY_CID, port))?;
        socket.listen(BACKLOG)?;
        Ok(Self { socket })
    }

    /// Waits for the next connection.
    pub fn accept(&self) -> io::Result<impl Read + Write + use<>> {
        self.socket.accept().map(|(stream, _)| stream)
    }
}
