//! Addresses that a host can listen on, and find others at: TCP, by IP address or, of others, by name.

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use std::net::IpAddr;

/// Why an address is of no use. One that is no place in a network is not repeated: it may be something secret in the wrong place.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not even a multiaddr.
    #[error("not a multiaddr, which is like /ip4/192.0.2.1/tcp/9000")]
    Syntax,
    /// No transport can listen there.
    #[error("hosts listen on TCP, as in /ip4/0.0.0.0/tcp/9000 or /ip6/::/tcp/9000")]
    Listen,
    /// No transport can dial it.
    #[error("hosts are found by TCP, as in /dns4/host.example.org/tcp/9000 or /ip4/192.0.2.1/tcp/9000")]
    Dial,
    /// It names another peer.
    #[error("`{address}` names another peer than {expected}, whose key the manifest has")]
    OtherPeer {
        /// What was given.
        address: Multiaddr,
        /// Whom it must name, if anybody.
        expected: PeerId,
    },
}

fn parse(text: &str) -> Result<Multiaddr, AddressError> {
    text.parse().map_err(|_| AddressError::Syntax)
}

/// An address to listen on. Port 0 takes a free one.
pub fn listenable(text: &str) -> Result<Multiaddr, AddressError> {
    let address = parse(text)?;
    match address.iter().collect::<Vec<_>>()[..] {
        [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Tcp(_)] => Ok(address),
        _ => Err(AddressError::Listen),
    }
}

/// An address of another host; if it names a peer, it must be this one, as far as that is known.
pub fn dialable(text: &str, peer: Option<PeerId>) -> Result<Multiaddr, AddressError> {
    let address = parse(text)?;
    let parts: Vec<Protocol> = address.iter().collect();
    let (place, named) = match &parts[..] {
        [place @ .., Protocol::P2p(named)] => (place, Some(named)),
        place => (place, None),
    };
    let is_place = |host: &Protocol, port: u16| {
        let name = matches!(host, Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_));
        (name || matches!(host, Protocol::Ip4(_) | Protocol::Ip6(_))) && port != 0
    };
    match place {
        [host, Protocol::Tcp(port)] if is_place(host, *port) => {}
        _ => return Err(AddressError::Dial),
    }
    if let (Some(named), Some(expected)) = (named, peer)
        && *named != expected
    {
        return Err(AddressError::OtherPeer { address, expected });
    }
    Ok(place.iter().cloned().collect())
}

/// Whether it has to be looked up first.
pub(super) fn is_name(address: &Multiaddr) -> bool {
    name(address).is_some()
}

/// The name in it.
pub(super) fn name(address: &Multiaddr) -> Option<String> {
    address.iter().find_map(|part| match part {
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => Some(name.into_owned()),
        _ => None,
    })
}

/// Whether what its name stands for may be such an address.
pub(super) fn is_meant(address: &Multiaddr, ip: &IpAddr) -> bool {
    address.iter().all(|part| match part {
        Protocol::Dns4(_) => ip.is_ipv4(),
        Protocol::Dns6(_) => ip.is_ipv6(),
        _ => true,
    })
}

/// The IP address in it.
pub(super) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_listen_where_a_transport_can() {
        for text in ["/ip4/0.0.0.0/tcp/9000", "/ip6/::/tcp/9000", "/ip4/127.0.0.1/tcp/0"] {
            assert_eq!(listenable(text).map(|address| address.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "/dns4/localhost/tcp/9000",
            "/ip4/0.0.0.0/udp/9000/quic-v1",
            "/ip4/0.0.0.0",
            "/ip4/0.0.0.0/tcp/9000/ws",
            "/tcp/9000",
        ] {
            assert!(matches!(listenable(text), Err(AddressError::Listen)), "{text}");
        }
        assert_eq!(listenable("localhost:9000"), Err(AddressError::Syntax));
    }

    #[test]
    fn hosts_are_found_where_a_transport_can() {
        let (peer, other) = (PeerId::random(), PeerId::random());
        for text in [
            "/ip4/192.0.2.1/tcp/9000",
            "/ip6/2001:db8::1/tcp/9000",
            "/dns/host.example.org/tcp/9000",
            "/dns4/host.example.org/tcp/9000",
            "/dns6/host.example.org/tcp/9000",
        ] {
            let found = |text: &str| dialable(text, Some(peer)).map(|address| address.to_string());
            assert_eq!(found(text), Ok(text.to_owned()));
            assert_eq!(found(&format!("{text}/p2p/{peer}")), Ok(text.to_owned()));
            let wrong = dialable(&format!("{text}/p2p/{other}"), Some(peer));
            assert!(matches!(wrong, Err(AddressError::OtherPeer { .. })), "{wrong:?}");
            assert!(dialable(&format!("{text}/p2p/{other}"), None).is_ok(), "whose it is is not known");
        }
        for text in [
            "/ip4/192.0.2.1/udp/9000/quic-v1",
            "/ip4/192.0.2.1/tcp/0",
            "/dnsaddr/host.example.org",
            "/dns4/host.example.org",
            "/dns4/host.example.org/tcp/443/wss",
        ] {
            assert!(matches!(dialable(text, Some(peer)), Err(AddressError::Dial)), "{text}");
        }
    }
}
