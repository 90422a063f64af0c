//! All hosts at their worst, from one seed: they drop, delay, reorder, duplicate, replay, alter, forge and cut off;
//! enclaves crash and forget; up to t-1 enclaves are corrupted. The same seed gives the same run.
//!
//! After every step the blueprint's invariants I1 to I5 are checked on what the enclaves have said.

use crate::cluster::{
    Cluster, Node, Packet, ceremony, deposit_requested, exit_requested, kind, manifest, pubkey,
};
use crate::corruption::Corrupt;
use aho_corasick::AhoCorasick;
use postern_shared::codec;
use postern_shared::events::ChainEvent;
use postern_shared::hash::Transcriber;
use postern_shared::identity::Identity;
use postern_shared::ids::{CeremonyId, Digest, MemberId, Nonce, PoolId};
use postern_shared::message::{Broadcast, PeerMessage, Step};
use postern_shared::transcript::Claim;
use postern_shared::wire::{Artifact, Request};
use std::collections::{BTreeMap, BTreeSet};

/// Steps that hosts are hostile for.
const HOSTILE_STEPS: usize = 400;
/// Rounds of ticks that honest hosts get to finish.
const HONEST_ROUNDS: usize = 4;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Hash over everything that happened, in order.
    pub trace: Digest,
    /// Pools whose exit was released.
    pub released: usize,
    /// Pools that there were.
    pub pools: usize,
    /// Whether every enclave was honest, none forgot and none was left out: then honest hosts must have brought it to an end.
    pub must_finish: bool,
    /// Who was proved to have cheated.
    pub culprits: BTreeSet<MemberId>,
}

/// One run in the making.
struct World {
    cluster: Cluster,
    rng: fastrand::Rng,
    corrupt: BTreeMap<MemberId, Corrupt>,
    ever_corrupt: BTreeSet<MemberId>,
    pools: u32,
    /// What each member's host has told its enclave, and what it will.
    untold: BTreeMap<MemberId, Vec<ChainEvent>>,
    told: BTreeMap<MemberId, BTreeSet<ChainEvent>>,
    /// All packets ever, to replay.
    history: Vec<Packet>,
    /// Dropped; an honest host would still have them.
    dropped: Vec<Packet>,
    /// Members that are cut off for now.
    cut: BTreeSet<MemberId>,
    /// Whether hosts tell their enclaves to go on without members, in this run.
    divisive: bool,
    /// Whether some have.
    divided: bool,
    crashed: u64,
    /// All identities that real enclaves ever had.
    identities: BTreeSet<Vec<u8>>,
    /// Artifacts checked so far, by member.
    checked: BTreeMap<MemberId, usize>,
    keys: BTreeMap<PoolId, (MemberId, postern_shared::bls::PublicKey)>,
    culprits: BTreeSet<MemberId>,
    /// Finds enclaves' long-lived secrets.
    secrets: AhoCorasick,
    /// Ceremonies of which a transcript was verified.
    verified: BTreeSet<(&'static str, CeremonyId)>,
    trace: Digest,
    indexed: bool,
    wanted: bool,
}

/// Runs a seed to its end and checks the invariants all along.
///
/// # Errors
/// The first broken invariant, with the seed and the step to run it again.
pub fn run(seed: u64) -> Result<Outcome, String> {
    let mut world = World::new(seed);
    for step in 0..HOSTILE_STEPS {
        world.hostile_step();
        world.check().map_err(|broken| format!("SEED={seed} STEP={step}: {broken}"))?;
    }
    for round in 0..HONEST_ROUNDS {
        world.honest_round();
        world.check().map_err(|broken| format!("SEED={seed} HONEST ROUND={round}: {broken}"))?;
    }
    world.outcome().map_err(|broken| format!("SEED={seed}: {broken}"))
}

/// Finds the long-lived secrets of all enclaves, in raw bytes and in hexadecimal.
fn secrets(cluster: &Cluster) -> AhoCorasick {
    let raw = cluster.nodes.iter().flat_map(Node::long_lived_secrets);
    let patterns =
        raw.flat_map(|secret| [postern_shared::bytes::to_hex(&secret).split_off(2).into_bytes(), secret]);
    AhoCorasick::new(patterns).expect("the patterns fit an automaton")
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let members = rng.u16(5..=7);
        let (operator, guardian) = (rng.u16(2..=members), rng.u16(2..=members));
        let mut cluster = Cluster::launch(manifest(members, operator, guardian), seed);
        let most = operator.min(guardian) - 1;
        let corrupted = if rng.bool() { rng.u16(0..=most) } else { 0 };
        let mut ids = cluster.ids();
        rng.shuffle(&mut ids);
        let corrupt: BTreeMap<MemberId, Corrupt> =
            ids.iter().take(corrupted.into()).map(|id| (*id, Corrupt::of(cluster.node(*id)))).collect();
        let pools = if rng.u8(..8) == 0 { 2 } else { 1 };
        cluster.seen = Some(Vec::new());
        let secrets = secrets(&cluster);
        let identities = cluster.nodes.iter().map(|node| node.keys().identity().to_bytes()).collect();
        let deposits: Vec<ChainEvent> = (1..=pools).map(deposit_requested).collect();
        let untold = cluster.ids().into_iter().map(|id| (id, deposits.clone())).collect();
        // Connected hosts first let the enclaves get to know each other; most of a run is then about ceremonies.
        if rng.bool() {
            cluster.run(0);
        }
        let divisive = rng.u8(..4) == 0;
        Self {
            cluster,
            rng,
            ever_corrupt: corrupt.keys().copied().collect(),
            corrupt,
            pools,
            untold,
            told: BTreeMap::new(),
            history: Vec::new(),
            dropped: Vec::new(),
            cut: BTreeSet::new(),
            divisive,
            divided: false,
            crashed: 0,
            identities,
            checked: BTreeMap::new(),
            keys: BTreeMap::new(),
            culprits: BTreeSet::new(),
            secrets,
            verified: BTreeSet::new(),
            trace: Digest([0; 32]),
            indexed: false,
            wanted: false,
        }
    }

    fn member(&mut self) -> MemberId {
        let ids = self.cluster.ids();
        ids[self.rng.usize(..ids.len())]
    }

    fn hostile_step(&mut self) {
        self.later_events();
        match self.rng.u16(..1000) {
            0..150 => {
                let id = self.member();
                self.tell(id);
            }
            150..190 => {
                let id = self.member();
                self.ask(id, Request::Tick);
            }
            190..200 => {
                let id = self.member();
                if !self.cut.remove(&id) && self.cut.len() < 2 {
                    self.cut.insert(id);
                }
            }
            200 if self.rng.u8(..8) == 0 => self.crash(),
            200..230 => self.replay(),
            230..260 => self.alter(),
            260..290 => self.forge(),
            290..300 if self.divisive => self.divide(),
            300..305 => {
                let (id, about) = (self.member(), self.member());
                let request = match self.rng.u8(..3) {
                    0 => Request::Reattest(None),
                    1 => Request::Reattest(Some(about)),
                    _ => Request::Attest(Nonce([self.rng.u8(..); 32])),
                };
                self.ask(id, request);
            }
            _ => self.carry(),
        }
    }

    /// A host wants its enclave to go on without some members, who may be there or not.
    fn divide(&mut self) {
        let id = self.member();
        let away = self.cluster.ids().into_iter().filter(|_| self.rng.u8(..3) == 0).collect();
        self.divided = true;
        self.ask(id, Request::GoOnWithout(away));
    }

    /// Carries some packet: any, not the oldest; perhaps twice, perhaps not at all, perhaps to somebody else.
    fn carry(&mut self) {
        if self.cluster.packets.is_empty() {
            let id = self.member();
            self.tell(id);
            return;
        }
        // Mostly near the front, so that a run gets somewhere.
        let reach = if self.rng.u8(..4) == 0 {
            self.cluster.packets.len()
        } else {
            self.cluster.packets.len().min(8)
        };
        let Some(mut packet) = self.cluster.packets.remove(self.rng.usize(..reach)) else { return };
        self.history.push(packet.clone());
        if self.cut.contains(&packet.from) || self.cut.contains(&packet.to) {
            self.cluster.packets.push_back(packet);
            return;
        }
        match self.rng.u8(..40) {
            0 => {
                self.dropped.push(packet);
                return;
            }
            1 => self.cluster.packets.push_back(packet.clone()),
            2 => {
                let copy = Packet { to: self.member(), ..packet.clone() };
                self.deliver(copy);
            }
            _ => {}
        }
        if let Some(corrupt) = self.corrupt.get(&packet.from)
            && self.rng.u8(..4) == 0
        {
            packet.bytes = corrupt.distort(&packet.bytes, &mut self.rng);
        }
        self.deliver(packet);
    }

    fn replay(&mut self) {
        if !self.history.is_empty() {
            let mut packet = self.history[self.rng.usize(..self.history.len())].clone();
            if self.rng.bool() {
                packet.to = self.member();
            }
            self.deliver(packet);
        }
    }

    /// A bit flips, or the end is missing, or there is more.
    fn alter(&mut self) {
        let Some(packet) = self.cluster.packets.front() else { return };
        let mut packet = packet.clone();
        match self.rng.u8(..4) {
            0 => packet.bytes.truncate(self.rng.usize(..packet.bytes.len())),
            1 => packet.bytes.push(self.rng.u8(..)),
            _ => {
                let position = self.rng.usize(..packet.bytes.len());
                packet.bytes[position] ^= 1 << self.rng.u8(..8);
            }
        }
        self.deliver_once(packet);
    }

    /// Somebody's statement in somebody else's name, at another step, or in another ceremony.
    fn forge(&mut self) {
        if self.history.is_empty() {
            return;
        }
        let packet = self.history[self.rng.usize(..self.history.len())].clone();
        let Ok(PeerMessage::Broadcast(mut statement)) = codec::decode(&packet.bytes) else { return };
        let other = self.history[self.rng.usize(..self.history.len())].clone();
        match (self.rng.u8(..4), codec::decode(&other.bytes)) {
            (0, _) => statement.slot.from = self.member(),
            (1, _) => statement.slot.step = Step::Confirm,
            (2, Ok(PeerMessage::Broadcast(Broadcast { slot, .. }))) => {
                statement.slot.ceremony = slot.ceremony
            }
            (_, Ok(PeerMessage::Broadcast(Broadcast { body, .. }))) => statement.body = body,
            _ => return,
        }
        let bytes = codec::encode(&PeerMessage::Broadcast(statement));
        let packet = Packet { from: packet.from, to: self.member(), bytes };
        self.deliver_once(packet);
    }

    /// An honest enclave loses its memory. Its member counts among those that may be lost.
    fn crash(&mut self) {
        let id = self.member();
        self.crashed += 1;
        self.corrupt.remove(&id);
        self.cluster.crash(id, self.crashed);
        self.secrets = secrets(&self.cluster);
        self.identities.insert(self.cluster.node(id).keys().identity().to_bytes());
        self.checked.remove(&id);
        let told: Vec<ChainEvent> = self.told.get(&id).into_iter().flatten().copied().collect();
        self.untold.entry(id).or_default().extend(told);
    }

    /// Once a key is there its validator gets an index; some time later the DAO wants it out.
    fn later_events(&mut self) {
        let pools: Vec<PoolId> = (1..=self.pools).map(PoolId).collect();
        if !self.indexed && pools.iter().all(|pool| self.cluster.pubkey(*pool).is_some()) {
            self.indexed = true;
            for pool in &pools {
                if let Some(pubkey) = self.cluster.pubkey(*pool) {
                    let validator_index = 1000 + u64::from(pool.0);
                    self.announce(ChainEvent::ValidatorIndexed { pool: *pool, pubkey, validator_index });
                }
            }
        }
        if self.indexed && !self.wanted && self.rng.u8(..64) == 0 {
            self.wanted = true;
            for pool in pools {
                self.announce(exit_requested(pool.0));
            }
        }
    }

    fn announce(&mut self, event: ChainEvent) {
        self.untold.values_mut().for_each(|events| events.push(event));
    }

    fn tell(&mut self, id: MemberId) {
        let Some(event) = self.untold.get_mut(&id).and_then(Vec::pop) else { return };
        self.told.entry(id).or_default().insert(event);
        self.ask(id, Request::Observe(event));
    }

    fn ask(&mut self, id: MemberId, request: Request) {
        self.trace = Transcriber::new("trace")
            .bytes(&self.trace.0)
            .number(id.0.into())
            .bytes(&codec::encode(&request))
            .finish();
        self.cluster.ask(id, request);
    }

    fn deliver(&mut self, packet: Packet) {
        self.trace = Transcriber::new("trace")
            .bytes(&self.trace.0)
            .number(packet.to.0.into())
            .bytes(&packet.bytes)
            .finish();
        self.cluster.deliver(packet);
    }

    /// Delivers without trying again.
    fn deliver_once(&mut self, packet: Packet) {
        self.ask(packet.to, Request::Deliver(packet.bytes));
    }

    fn honest_round(&mut self) {
        self.cut.clear();
        self.later_events();
        self.cluster.packets.extend(self.dropped.drain(..));
        if self.divided {
            self.cluster.ids().into_iter().for_each(|id| self.ask(id, Request::GoOnWithout(Vec::new())));
        }
        for id in self.cluster.ids() {
            while self.untold.get(&id).is_some_and(|events| !events.is_empty()) {
                self.tell(id);
            }
        }
        self.cluster.run(1);
        if self.indexed && !self.wanted {
            self.wanted = true;
            (1..=self.pools).for_each(|pool| self.announce(exit_requested(pool)));
        }
    }

    fn has_told(&self, id: MemberId, event: &ChainEvent) -> bool {
        self.told.get(&id).is_some_and(|events| events.contains(event))
    }

    /// Who is in favour of an event: hosts that told it, and enclaves that are corrupted.
    fn in_favour(&self, event: &ChainEvent) -> usize {
        let favours = |id: &MemberId| self.has_told(*id, event) || self.ever_corrupt.contains(id);
        self.cluster.ids().iter().filter(|id| favours(id)).count()
    }

    /// Checks what hosts have seen and what enclaves have published since the last time.
    fn check(&mut self) -> Result<(), String> {
        // I1, for what lives as long as an enclave; `secrecy.rs` looks for all the rest.
        let seen = self.cluster.seen.replace(Vec::new()).unwrap_or_default();
        if seen.iter().any(|bytes| self.secrets.is_match(bytes)) {
            return Err("I1: a host saw a secret".into());
        }
        for id in self.cluster.ids() {
            let from = self.checked.get(&id).copied().unwrap_or_default();
            let artifacts: Vec<Artifact> = self.cluster.node(id).artifacts[from..].to_vec();
            self.checked.insert(id, from + artifacts.len());
            for artifact in &artifacts {
                self.check_artifact(id, artifact)?;
            }
        }
        Ok(())
    }

    fn check_artifact(&mut self, id: MemberId, artifact: &Artifact) -> Result<(), String> {
        match artifact {
            Artifact::Deposit { pool, data, .. } => {
                // I2: all operators took part. I5: no two enclaves disagree on a pool's key.
                let all = self.cluster.manifest.members.len();
                if self.in_favour(&deposit_requested(pool.0)) < all {
                    return Err(format!("I2: {pool}'s deposit was signed on too few hosts' word"));
                }
                let (first, known) = *self.keys.entry(*pool).or_insert((id, data.message.pubkey));
                if known != data.message.pubkey {
                    return Err(format!("I5: {first} and {id} disagree on the key of {pool}"));
                }
                if pubkey(self.cluster.node(id), *pool) != Some(known) {
                    return Err(format!("I5: {id} has made two keys for {pool}"));
                }
            }
            Artifact::Exit { pool, exit } => {
                // I2: a threshold of guardians wanted it. I3: what is signed is what was agreed on.
                let needed = usize::from(self.cluster.manifest.thresholds.guardian);
                if self.in_favour(&exit_requested(pool.0)) < needed {
                    return Err(format!("I2: {pool}'s exit was released on too few hosts' word"));
                }
                if exit.message.validator_index != 1000 + u64::from(pool.0) {
                    return Err(format!("I3: {pool}'s exit is for another validator"));
                }
                let (_, key) = *self.keys.get(pool).ok_or("I3: an exit for a key that was never made")?;
                let network = self.cluster.manifest.network;
                let root =
                    exit.message.signing_root(network.capella_fork_version, network.genesis_validators_root);
                key.verify(&root.0, &exit.signature)
                    .map_err(|_| format!("I3: {pool}'s exit does not verify"))?;
            }
            Artifact::Transcript(transcript) => {
                // Verifying costs as much as the ceremony: always the first of a ceremony, then one in four.
                let first = self.verified.insert((kind(transcript), ceremony(transcript)));
                if !first && self.rng.u8(..4) != 0 {
                    return Ok(());
                }
                let claim = transcript.verify(Some(self.cluster.manifest.hash())).map_err(|error| {
                    format!("I5: {id} published a transcript that does not verify: {error}")
                })?;
                // I4: every participant is a real enclave.
                let real = |identity: &Identity| self.identities.contains(&identity.to_bytes());
                if !transcript.roster().iter().all(|attested| real(&attested.identity)) {
                    return Err(format!("I4: {id} took a stranger for a member"));
                }
                if let Claim::Cheated { culprit, .. } = claim {
                    if !self.ever_corrupt.contains(&culprit) {
                        return Err(format!("I5: {id} convicted {culprit}, which is honest"));
                    }
                    self.culprits.insert(culprit);
                }
            }
        }
        Ok(())
    }

    fn outcome(mut self) -> Result<Outcome, String> {
        let pools = self.pools as usize;
        let released = (1..=self.pools).filter(|pool| !self.cluster.exits(PoolId(*pool)).is_empty()).count();
        let must_finish = self.corrupt.is_empty() && self.crashed == 0 && !self.divided;
        if must_finish && released != pools {
            return Err(format!(
                "liveness: {released} of {pools} exits released though all were honest in the end"
            ));
        }
        self.trace = Transcriber::new("trace").bytes(&self.trace.0).number(released as u64).finish();
        Ok(Outcome { trace: self.trace, released, pools, must_finish, culprits: self.culprits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_for_secrets_finds_them() {
        let cluster = Cluster::launch(manifest(3, 2, 2), 1);
        let search = secrets(&cluster);
        for secret in cluster.nodes.iter().flat_map(Node::long_lived_secrets) {
            let leak = [b"before".to_vec(), secret.clone(), b"after".to_vec()].concat();
            assert!(search.is_match(&leak));
            assert!(search.is_match(postern_shared::bytes::to_hex(&secret).as_bytes()));
        }
        assert!(!search.is_match([0x42; 200].as_slice()));
    }
}
