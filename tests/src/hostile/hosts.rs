//! What hostile hosts do to messages, and what corrupted enclaves say.

use super::event::{Alteration, Carry, Fate, Forgery};
use super::world::World;
use crate::cluster::Packet;
use crate::corruption::Scene;
use postern_shared::codec;
use postern_shared::ids::{Digest, MemberId};
use postern_shared::message::{Broadcast, PeerMessage, Slot, Step};
use postern_shared::wire::{Reply, Request};
use std::collections::{BTreeMap, BTreeSet};

/// How near to the front most packets are taken.
const NEAR: usize = 8;

/// Keeps a statement of a liar's, for those that lack it.
fn keep(lies: &mut BTreeMap<(Slot, Digest), Broadcast>, bytes: &[u8]) {
    if let Ok(PeerMessage::Broadcast(said)) = codec::decode(bytes) {
        lies.insert((said.slot, Broadcast::digest_of(&said.body)), said);
    }
}

impl World {
    pub(super) fn cut(&mut self, id: MemberId) {
        if !self.cut.remove(&id) && self.cut.len() < 2 {
            self.cut.insert(id);
        }
    }

    pub(super) fn carry(&mut self, carry: &Carry) {
        let waiting = self.cluster.packets.len();
        if waiting == 0 {
            self.tell(self.member(MemberId(carry.pick)));
            return;
        }
        let reach = if carry.far { waiting } else { waiting.min(NEAR) };
        let Some(packet) = self.cluster.packets.remove(usize::from(carry.pick) % reach) else { return };
        self.history.push(packet.clone());
        if self.cut.contains(&packet.from) || self.cut.contains(&packet.to) {
            self.cluster.packets.push_back(packet);
            return;
        }
        match carry.fate {
            Fate::Arrives => {}
            Fate::Dropped => {
                self.dropped.push(packet);
                return;
            }
            Fate::Twice => self.cluster.packets.push_back(packet.clone()),
            Fate::AlsoTo(id) => drop(self.deliver(Packet { to: self.member(id), ..packet.clone() })),
        }
        self.deliver_said(packet, carry.lie);
    }

    /// Delivers a packet, or what a corrupted enclave says in its place.
    fn deliver_said(&mut self, mut packet: Packet, lie: Option<u32>) -> Reply {
        let Some(liar) = self.liars.get_mut(&packet.from) else { return self.deliver(packet) };
        let scene = Scene { cluster: &self.cluster, heard: &self.watch.said, lies: &self.lies };
        let mut said = liar.say(&packet.bytes, &scene, lie);
        said.iter().filter(|bytes| **bytes != packet.bytes).for_each(|bytes| keep(&mut self.lies, bytes));
        // The last is what comes again if it may be accepted later.
        if let Some(last) = said.pop() {
            said.into_iter().for_each(|bytes| self.deliver_once(Packet { bytes, ..packet.clone() }));
            packet.bytes = last;
        }
        self.deliver(packet)
    }

    /// Delivers everything until nothing moves, before and after a tick.
    pub(super) fn deliver_all(&mut self, lies: Option<u32>) {
        let mut rng = lies.map(|lies| fastrand::Rng::with_seed(lies.into()));
        for tick in [true, false] {
            let mut idle = 0;
            while idle <= self.cluster.packets.len() {
                let Some(packet) = self.cluster.packets.pop_front() else { break };
                let lie = rng.as_mut().and_then(|rng| rng.bool().then(|| rng.u32(..)));
                let waits = match self.deliver_said(packet, lie) {
                    Reply::Rejected(rejection) => rejection.is_transient(),
                    _ => false,
                };
                idle = if waits { idle + 1 } else { 0 };
                // So that liars can pass off what was said a moment ago.
                self.listen();
            }
            if tick {
                self.cluster.ids().into_iter().for_each(|id| drop(self.ask(id, Request::Tick)));
            }
        }
    }

    pub(super) fn speak(&mut self, pick: u16, to: MemberId, lie: u32) {
        let count = self.liars.len().max(1);
        let to = self.member(to);
        let Some((id, liar)) = self.liars.iter_mut().nth(usize::from(pick) % count) else { return };
        let scene = Scene { cluster: &self.cluster, heard: &self.watch.said, lies: &self.lies };
        let (from, bytes) = (*id, liar.volunteer(&scene, lie));
        if let Some(bytes) = bytes {
            keep(&mut self.lies, &bytes);
            self.deliver_once(Packet { from, to, bytes });
        }
    }

    fn of_history(&self, pick: u32) -> Option<Packet> {
        self.history.get(pick as usize % self.history.len().max(1)).cloned()
    }

    pub(super) fn replay(&mut self, pick: u32, to: Option<MemberId>) {
        if let Some(mut packet) = self.of_history(pick) {
            packet.to = to.map_or(packet.to, |id| self.member(id));
            self.deliver(packet);
        }
    }

    pub(super) fn alter(&mut self, alteration: Alteration) {
        let Some(packet) = self.cluster.packets.front() else { return };
        let mut packet = packet.clone();
        let length = packet.bytes.len();
        match alteration {
            Alteration::Cut(length_left) => packet.bytes.truncate(length_left as usize % length),
            Alteration::Longer(byte) => packet.bytes.push(byte),
            Alteration::Flipped(bit) => {
                let bit = bit as usize % (8 * length);
                packet.bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        self.deliver_once(packet);
    }

    pub(super) fn forge(&mut self, pick: u32, other: u32, how: Forgery, to: MemberId) {
        let (Some(packet), Some(other)) = (self.of_history(pick), self.of_history(other)) else { return };
        let Ok(PeerMessage::Broadcast(mut statement)) = codec::decode(&packet.bytes) else { return };
        match (how, codec::decode(&other.bytes)) {
            (Forgery::Speaker(id), _) => statement.slot.from = self.member(id),
            (Forgery::Step, _) => statement.slot.step = Step::Confirm,
            (Forgery::Ceremony, Ok(PeerMessage::Broadcast(Broadcast { slot, .. }))) => {
                statement.slot.ceremony = slot.ceremony
            }
            (Forgery::Body, Ok(PeerMessage::Broadcast(Broadcast { body, .. }))) => statement.body = body,
            _ => return,
        }
        let bytes = codec::encode(&PeerMessage::Broadcast(statement));
        self.deliver_once(Packet { from: packet.from, to: self.member(to), bytes });
    }

    /// Hosts give an enclave what it says it misses, and its own host what reached another branch of its log.
    pub(super) fn serve(&mut self, id: MemberId) {
        let notices = std::mem::take(&mut self.cluster.node_mut(id).notices);
        let missing: BTreeSet<_> = notices
            .into_iter()
            .filter_map(|notice| match notice {
                postern_shared::wire::Notice::Missing { ceremony, step, member } => {
                    Some((ceremony, step, member))
                }
                _ => None,
            })
            .collect();
        let wanted = self
            .watch
            .said
            .values()
            .chain(self.lies.values())
            .filter(|said| missing.contains(&(said.slot.ceremony, said.slot.step, said.slot.from)));
        let found = wanted.map(|said| Packet {
            from: said.slot.from,
            to: id,
            bytes: codec::encode(&PeerMessage::Broadcast(said.clone())),
        });
        self.cluster.packets.extend(found);
        if self.logs.contains_key(&id) {
            let again = self.history.iter().filter(|packet| packet.to == id).cloned();
            self.cluster.packets.extend(again);
        }
    }
}
