//! Keeps strangers from taking the room in which members' hosts connect.
//!
//! Who connects has proved nothing before a handshake, which whoever connects and says nothing never ends. What such
//! connections hold, descriptors first of all, is bounded here by where they come from. libp2p's own limits count all
//! alike: as many idle connections as they allow would lock members out.

use super::address::ip;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, ListenFailure, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::task::{Context, Poll};

/// Handshakes at a time with one address: members may share one.
const MAX_OF_ADDRESS: usize = 16;

/// Handshakes at a time with all addresses at which no member is known to be.
const MAX_OF_STRANGERS: usize = 32;

/// There are too many already.
#[derive(Debug, thiserror::Error)]
#[error("too many connections without a handshake")]
struct Crowded;

/// See the module.
pub(super) struct Crowd {
    /// Where members are.
    known: BTreeSet<IpAddr>,
    /// Handshakes that are not over.
    pending: HashMap<ConnectionId, IpAddr>,
}

impl Crowd {
    /// With members at these addresses. Those that have a name instead count as strangers until they are connected.
    pub(super) fn new<'a>(members: impl IntoIterator<Item = &'a Multiaddr>) -> Self {
        Self { known: members.into_iter().filter_map(ip).collect(), pending: HashMap::new() }
    }

    fn has_room_for(&self, from: IpAddr) -> bool {
        let same = self.pending.values().filter(|other| **other == from).count();
        let strangers = self.pending.values().filter(|other| !self.known.contains(other)).count();
        same < MAX_OF_ADDRESS && (self.known.contains(&from) || strangers < MAX_OF_STRANGERS)
    }
}

impl NetworkBehaviour for Crowd {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let from = ip(remote).unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        if !self.has_room_for(from) {
            return Err(ConnectionDenied::new(Crowded));
        }
        self.pending.insert(id, from);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&id);
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) = event {
            self.pending.remove(&connection_id);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(crowd: &mut Crowd, id: usize, from: &str) -> bool {
        let (own, from) = ("/ip4/192.0.2.9/tcp/9".parse().unwrap(), format!("/ip4/{from}/tcp/5"));
        let id = ConnectionId::new_unchecked(id);
        crowd.handle_pending_inbound_connection(id, &own, &from.parse().unwrap()).is_ok()
    }

    #[test]
    fn strangers_take_no_room_of_members_nor_one_address_all() {
        let member = "/ip4/192.0.2.1/tcp/9000".parse().unwrap();
        let mut crowd = Crowd::new([&member]);
        let taken = (0..100).filter(|id| connect(&mut crowd, *id, "198.51.100.1")).count();
        assert_eq!(taken, MAX_OF_ADDRESS);
        let taken = (100..200).filter(|id| connect(&mut crowd, *id, &format!("203.0.113.{id}"))).count();
        assert_eq!(taken, MAX_OF_STRANGERS - MAX_OF_ADDRESS);
        let taken = (200..300).filter(|id| connect(&mut crowd, *id, "192.0.2.1")).count();
        assert_eq!(taken, MAX_OF_ADDRESS);

        // A handshake that is over, well or badly, makes room.
        let (own, from) =
            (&"/ip4/192.0.2.9/tcp/9".parse().unwrap(), &"/ip4/198.51.100.1/tcp/5".parse().unwrap());
        let first = ConnectionId::new_unchecked(0);
        crowd.handle_established_inbound_connection(first, PeerId::random(), own, from).unwrap();
        assert!(connect(&mut crowd, 300, "198.51.100.1"));
        assert!(!connect(&mut crowd, 301, "198.51.100.1"));
        crowd.on_swarm_event(FromSwarm::ListenFailure(ListenFailure {
            local_addr: own,
            send_back_addr: from,
            error: &libp2p::swarm::ListenError::Aborted,
            connection_id: ConnectionId::new_unchecked(300),
            peer_id: None,
        }));
        assert!(connect(&mut crowd, 302, "198.51.100.1"));
    }
}
