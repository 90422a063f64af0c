//! Where the other members' hosts are.

use super::dao::Dao;
use super::fault::{Faults, FieldError, Reported};
use super::section::Section;
use crate::network::address::dialable;
use crate::network::peer_of;
use libp2p::{Multiaddr, PeerId};
use postern_shared::ids::MemberId;
use std::collections::BTreeMap;

/// `[peers]`: a member's number and the multiaddr of its host, for as many of the others as are known.
pub(super) fn read(
    file: &mut Section,
    dao: &Dao,
    faults: &mut Faults,
) -> Result<BTreeMap<MemberId, Multiaddr>, Reported> {
    let mut section = file.required_section("peers", faults)?;
    let (mut peers, mut refused) = (BTreeMap::new(), None);
    for key in section.keys() {
        let name = section.name(&key);
        let known = peer(&key, &name, dao, faults);
        // The address is judged whoever is to be there.
        let address = section.required::<String>(&key, faults);
        let address = address
            .and_then(|text| faults.check(&name, dialable(&text, known.ok().and_then(|(_, peer)| peer))));
        match (known, address) {
            (Ok((id, _)), Ok(address)) => {
                peers.insert(id, address);
            }
            (Err(reported), _) | (_, Err(reported)) => refused = Some(reported),
        }
    }
    refused.map_or(Ok(peers), Err)
}

/// Another member, and its name in the network if the manifest is known.
fn peer(
    key: &str,
    name: &str,
    dao: &Dao,
    faults: &mut Faults,
) -> Result<(MemberId, Option<PeerId>), Reported> {
    let number: Option<u16> = key.parse().ok().filter(|number: &u16| number.to_string() == key);
    let Some(id) = number.map(MemberId) else { return Err(faults.report(name, FieldError::NotANumber)) };
    if dao.member.is_ok_and(|own| own == id) {
        return Err(faults.report(name, FieldError::Itself));
    }
    let Ok(manifest) = dao.manifest() else { return Ok((id, None)) };
    let Some(member) = manifest.member(id) else {
        return Err(faults.report(name, FieldError::NoMember(id)));
    };
    let peer = faults.check(name, peer_of(member).map_err(FieldError::Peer))?;
    Ok((id, Some(peer)))
}
