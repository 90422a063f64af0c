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
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::task::{Context, Poll};

/// Handshakes at a time with one place: a member, wherever it is, or an address at which no member is known to be.
const MAX_OF_PLACE: usize = 16;

/// Handshakes at a time with all addresses at which no member is known to be.
const MAX_OF_STRANGERS: usize = 32;

/// There are too many already.
#[derive(Debug, thiserror::Error)]
#[error("too many connections without a handshake")]
struct Crowded;

/// See the module.
pub(super) struct Crowd {
    members: BTreeMap<PeerId, Whereabouts>,
    /// Handshakes that are not over.
    pending: HashMap<ConnectionId, IpAddr>,
}

/// Where a member's host is.
#[derive(Default)]
struct Whereabouts {
    /// By its configured address.
    configured: Option<IpAddr>,
    /// By its configured name, as it was last found.
    found: Vec<IpAddr>,
    /// From where it last proved who it is.
    met: Option<IpAddr>,
}

impl Whereabouts {
    fn is_at(&self, place: IpAddr) -> bool {
        self.found.contains(&place) || [self.configured, self.met].contains(&Some(place))
    }
}

impl Crowd {
    /// With these members, and the addresses of those that have one. Those that have a name instead count as strangers until it
    /// is found, or they have connected.
    pub(super) fn new<'a>(members: impl IntoIterator<Item = (PeerId, Option<&'a Multiaddr>)>) -> Self {
        let whereabouts = |address: Option<&Multiaddr>| Whereabouts {
            configured: address.and_then(ip),
            ..Whereabouts::default()
        };
        let members = members.into_iter().map(|(peer, address)| (peer, whereabouts(address)));
        Self { members: members.collect(), pending: HashMap::new() }
    }

    /// A member's name stands for these addresses now.
    pub(super) fn found(&mut self, peer: PeerId, places: Vec<IpAddr>) {
        if let Some(member) = self.members.get_mut(&peer) {
            member.found = places;
        }
    }

    /// A member that says it is where another one is takes no room of that one: there is room if any member that is known to be
    /// there has some left.
    fn has_room_for(&self, from: IpAddr) -> bool {
        let pending = |is_there: &dyn Fn(IpAddr) -> bool| {
            self.pending.values().filter(|place| is_there(**place)).count()
        };
        let mut there = self.members.values().filter(|member| member.is_at(from)).peekable();
        if there.peek().is_some() {
            return there.any(|member| pending(&|place| member.is_at(place)) < MAX_OF_PLACE);
        }
        let is_strange = |place| !self.members.values().any(|member| member.is_at(place));
        pending(&|place| place == from) < MAX_OF_PLACE && pending(&is_strange) < MAX_OF_STRANGERS
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
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&id);
        if let Some(member) = self.members.get_mut(&peer) {
            member.met = ip(remote);
        }
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
        let mut crowd = Crowd::new([(PeerId::random(), Some(&member))]);
        let taken = (0..100).filter(|id| connect(&mut crowd, *id, "198.51.100.1")).count();
        assert_eq!(taken, MAX_OF_PLACE);
        let taken = (100..200).filter(|id| connect(&mut crowd, *id, &format!("203.0.113.{id}"))).count();
        assert_eq!(taken, MAX_OF_STRANGERS - MAX_OF_PLACE);
        let taken = (200..300).filter(|id| connect(&mut crowd, *id, "192.0.2.1")).count();
        assert_eq!(taken, MAX_OF_PLACE);

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

    /// As many as strangers may, each from an address of its own.
    fn crowded(members: &[PeerId]) -> Crowd {
        let mut crowd = Crowd::new(members.iter().map(|peer| (*peer, None)));
        let taken = (0..100).filter(|id| connect(&mut crowd, *id, &format!("203.0.113.{id}"))).count();
        assert_eq!(taken, MAX_OF_STRANGERS);
        crowd
    }

    #[test]
    fn a_member_has_room_where_its_name_leads() {
        let (one, two) = (PeerId::random(), PeerId::random());
        let mut crowd = crowded(&[one, two]);
        let places = || vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert!(!connect(&mut crowd, 100, "192.0.2.1"));
        crowd.found(PeerId::random(), places());
        assert!(!connect(&mut crowd, 100, "192.0.2.1"), "of nobody whom we know");
        crowd.found(one, places());
        // However many addresses its name has.
        let taken = (100..200).filter(|id| connect(&mut crowd, *id, "192.0.2.1")).count();
        assert_eq!(taken, MAX_OF_PLACE);
        let from = "/ip6/2001:db8::1/tcp/5".parse().unwrap();
        let id = ConnectionId::new_unchecked(200);
        assert!(crowd.handle_pending_inbound_connection(id, &from, &from).is_err());
        // It has moved, and another one is where it was.
        crowd.found(one, vec![]);
        crowd.found(two, places());
        assert!(!connect(&mut crowd, 201, "192.0.2.1"), "those that are pending are there");
        crowd.pending.retain(|_, from| from.to_string() != "192.0.2.1");
        assert!(connect(&mut crowd, 202, "192.0.2.1"));
    }

    #[test]
    fn a_member_whose_name_leads_where_another_one_is_takes_no_room_of_that_one() {
        let (honest, own) = ("192.0.2.1", "192.0.2.66");
        let address = format!("/ip4/{honest}/tcp/9000").parse().unwrap();
        // Whichever of them comes first.
        let mut peers = [PeerId::random(), PeerId::random()];
        for _ in 0..2 {
            peers.reverse();
            let [one, hostile] = peers;
            let mut crowd = Crowd::new([(one, Some(&address)), (hostile, None)]);
            crowd.found(hostile, [honest, own].map(|place| place.parse().unwrap()).to_vec());
            let taken = (0..100).filter(|id| connect(&mut crowd, *id, own)).count();
            assert_eq!(taken, MAX_OF_PLACE);
            let taken = (100..200).filter(|id| connect(&mut crowd, *id, honest)).count();
            assert_eq!(taken, MAX_OF_PLACE);
        }
    }

    #[test]
    fn a_member_has_room_where_it_last_proved_who_it_is() {
        let (member, stranger) = (PeerId::random(), PeerId::random());
        let mut crowd = crowded(&[member]);
        let own = "/ip4/192.0.2.9/tcp/9".parse().unwrap();
        let proves = |crowd: &mut Crowd, peer, from: &str| {
            let (id, from) = (ConnectionId::new_unchecked(500), format!("/ip4/{from}/tcp/5"));
            crowd.handle_established_inbound_connection(id, peer, &own, &from.parse().unwrap()).unwrap();
        };
        proves(&mut crowd, stranger, "192.0.2.1");
        assert!(!connect(&mut crowd, 100, "192.0.2.1"));
        proves(&mut crowd, member, "192.0.2.1");
        assert!(connect(&mut crowd, 101, "192.0.2.1"));
        proves(&mut crowd, member, "192.0.2.2");
        assert!(connect(&mut crowd, 102, "192.0.2.2"));
        assert!(!connect(&mut crowd, 103, "192.0.2.1"), "only where it was last");
    }
}
