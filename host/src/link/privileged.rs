//! Connecting to a VM from a port that only privileged processes have: enclaves serve nobody else.

use super::LinkError;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use tokio_vsock::{VMADDR_CID_ANY, VsockStream};

/// Linux lets a process bind these only if it has `CAP_NET_BIND_SERVICE`.
const PORTS: RangeInclusive<u32> = 1..=1023;

/// Connects to a VM's port.
pub(super) async fn connect(cid: u32, port: u32) -> Result<VsockStream, LinkError> {
    // The kernel itself gives up after two seconds: so long a thread may wait.
    let socket = tokio::task::spawn_blocking(move || dial(cid, port)).await.map_err(io::Error::other)??;
    Ok(VsockStream::new(OwnedFd::from(socket).into())?)
}

fn dial(cid: u32, port: u32) -> Result<Socket, LinkError> {
    let socket = Socket::new(Domain::VSOCK, Type::STREAM, None)?;
    bind(|own| socket.bind(&SockAddr::vsock(VMADDR_CID_ANY, own)))?;
    socket.connect(&SockAddr::vsock(cid, port))?;
    Ok(socket)
}

/// Takes the highest that is free: a port stays in use for some seconds after a connection.
fn bind(mut take: impl FnMut(u32) -> io::Result<()>) -> Result<u32, LinkError> {
    for port in PORTS.rev() {
        match take(port) {
            Ok(()) => return Ok(port),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(LinkError::NotPrivileged);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(LinkError::NoPrivilegedPort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_taken_that_only_privileged_processes_have_and_nobody_uses() {
        let used = |most| move |port| if port > most { Err(io::ErrorKind::AddrInUse.into()) } else { Ok(()) };
        assert_eq!(bind(used(1023)).unwrap(), 1023);
        assert_eq!(bind(used(700)).unwrap(), 700);
        assert_eq!(bind(used(1)).unwrap(), 1);
        assert!(matches!(bind(used(0)), Err(LinkError::NoPrivilegedPort)));
        let failed = bind(|_| Err(io::ErrorKind::AddrNotAvailable.into())).unwrap_err();
        assert!(matches!(failed, LinkError::Transport(_)), "{failed}");
    }

    #[test]
    fn a_process_without_the_capability_is_told_its_name() {
        let mut asked = 0;
        let refused = bind(|_| {
            asked += 1;
            Err(io::Error::from_raw_os_error(13))
        });
        assert_eq!(asked, 1);
        assert!(refused.unwrap_err().to_string().contains("CAP_NET_BIND_SERVICE"));
    }
}
