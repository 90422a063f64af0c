//! Which addresses members' names stand for, so that the [`crowd`](super::crowd) knows members by them before they have connected.
//! Whom this host dials is looked up by the transport, at that moment.

use super::address::{is_meant, name};
use libp2p::{Multiaddr, PeerId};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often a name is looked up.
const PAUSE: Duration = Duration::from_secs(60);

/// Most addresses of one name.
const MAX_OF_NAME: usize = 8;

/// Looks them up, one after the other, until nobody wants to know any more. What can't be found now is not said.
pub(super) async fn follow(members: Vec<(PeerId, Multiaddr)>, found: mpsc::Sender<(PeerId, Vec<IpAddr>)>) {
    let members = members.iter().filter_map(|(peer, address)| Some((peer, address, name(address)?)));
    let members: Vec<_> = members.collect();
    while !members.is_empty() {
        for (peer, address, name) in &members {
            let Ok(places) = tokio::net::lookup_host((name.as_str(), 0)).await else { continue };
            let places = places.map(|place| place.ip()).filter(|ip| is_meant(address, ip));
            let places = places.take(MAX_OF_NAME).collect();
            if found.send((**peer, places)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = found.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_found_and_addresses_are_not_looked_up() {
        let [numbered, nowhere, four, six] = [1, 2, 3, 4].map(|_| PeerId::random());
        let at = |address: &str| format!("{address}/tcp/9000").parse().unwrap();
        let members = vec![
            (numbered, at("/ip4/192.0.2.1")),
            (nowhere, at("/dns/nowhere.invalid")),
            (four, at("/dns4/localhost")),
            (six, at("/dns6/127.0.0.1")),
        ];
        let (sender, mut found) = mpsc::channel(4);
        let looking = tokio::spawn(follow(members, sender));
        let (peer, places) = found.recv().await.unwrap();
        assert_eq!((peer, places.contains(&std::net::Ipv4Addr::LOCALHOST.into())), (four, true));
        assert!(places.iter().all(IpAddr::is_ipv4));
        assert_eq!(found.recv().await.unwrap(), (six, vec![]), "not what is meant");
        drop(found);
        looking.await.unwrap();
    }
}
