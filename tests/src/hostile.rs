//! All hosts at their worst, from one seed: they drop, delay, reorder, duplicate, replay, alter, forge and cut off; they lose
//! what enclaves want stored, give them old state back, and run two of them from the same state; the power fails everywhere
//! at once; up to t-1 enclaves are corrupted. The same seed gives the same run.
//!
//! After every step the blueprint's invariants I1 to I7 are checked on what the enclaves have said.
//!
//! Of n hosts at most ⌊n/2⌋ have taken their enclaves back at a time, and corrupted enclaves count among them: what that
//! bound is for, `postern-enclave`'s `witness` explains.

use crate::cluster::{
    Cluster, Node, Packet, SpiedMachine, ceremony, deposit_requested, deposit_requested_of, exit_requested,
    exit_requested_of, kind, manifest, pool, pubkey,
};
use crate::corruption::Corrupt;
use aho_corasick::AhoCorasick;
use postern_enclave::core::Core;
use postern_shared::codec;
use postern_shared::events::ChainEvent;
use postern_shared::hash::Transcriber;
use postern_shared::identity::Identity;
use postern_shared::ids::{CeremonyId, Digest, MemberId, Nonce, PoolId};
use postern_shared::message::{Broadcast, PeerMessage, Slot, Step};
use postern_shared::record::SealedRecord;
use postern_shared::transcript::Claim;
use postern_shared::wire::{Artifact, Notice, Reply, Request, Standing};
use std::collections::{BTreeMap, BTreeSet};

/// Steps that hosts are hostile for.
const HOSTILE_STEPS: usize = 400;
/// Rounds of ticks that honest hosts get to finish.
const HONEST_ROUNDS: usize = 4;
/// And more, if hosts have to find out which of their logs is the newest.
const RECOVERY_ROUNDS: usize = 12;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Hash over everything that happened, in order.
    pub trace: Digest,
    /// Pools whose exit was released.
    pub released: usize,
    /// Pools that there were.
    pub pools: usize,
    /// Whether every enclave was honest and none was left out: then honest hosts must have brought it to an end.
    pub must_finish: bool,
    /// Who was proved to have cheated.
    pub culprits: BTreeSet<MemberId>,
    /// What enclaves went through.
    pub mishaps: Mishaps,
}

/// How often what happened to enclaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mishaps {
    /// Restored from all that their hosts had stored.
    pub crashes: usize,
    /// Restored before their hosts had stored what they had answered last.
    pub losses: usize,
    /// Restored from less.
    pub rollbacks: usize,
    /// Two from one log at a time.
    pub twins: usize,
    /// All restored at once.
    pub power_losses: usize,
    /// Found to be old, and said so.
    pub stale: usize,
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
    /// Counts launches of enclaves, so that each is another.
    launches: u64,
    mishaps: Mishaps,
    /// Every log that a member's host has; which of them its enclave runs on.
    logs: BTreeMap<MemberId, Logs>,
    /// Members whose hosts have taken their enclaves back, and not forward again.
    rolled_back: BTreeSet<MemberId>,
    /// Second enclaves of members, that run beside the first.
    twins: BTreeMap<MemberId, Twin>,
    /// What every enclave has said in every slot: hosts keep it for those that lack it.
    said: BTreeMap<Slot, Broadcast>,
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

/// What a host has stored: branches of its enclave's log, of which one is in use and grows in `Node::records`.
#[derive(Default)]
struct Logs {
    branches: Vec<Vec<SealedRecord>>,
    current: usize,
}

/// An enclave that is not connected for now.
struct Twin {
    core: Core<SpiedMachine>,
    records: Vec<SealedRecord>,
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
    for round in 0..HONEST_ROUNDS + RECOVERY_ROUNDS {
        world.honest_round();
        world.check().map_err(|broken| format!("SEED={seed} HONEST ROUND={round}: {broken}"))?;
        let over = world.released() == world.pools as usize || !world.must_finish();
        if round + 1 >= HONEST_ROUNDS && over && world.all_act() {
            break;
        }
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
            launches: 0,
            mishaps: Mishaps::default(),
            logs: BTreeMap::new(),
            rolled_back: BTreeSet::new(),
            twins: BTreeMap::new(),
            said: BTreeMap::new(),
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
            200..203 => {
                let id = self.member();
                self.crash(id);
            }
            203..206 => self.lose(),
            206..209 => self.roll_back(),
            209 => self.twin(),
            210..213 => self.swap_twins(),
            213 if self.rng.bool() => self.power_loss(),
            213..230 => self.replay(),
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

    /// An enclave loses its memory, and gets back all that its host has stored.
    fn crash(&mut self, id: MemberId) {
        self.mishaps.crashes += 1;
        self.restore(id, self.cluster.node(id).records.clone());
    }

    fn restore(&mut self, id: MemberId, records: Vec<SealedRecord>) {
        self.launches += 1;
        let reply = self.cluster.restore(id, self.launches, &records);
        assert_eq!(reply, Reply::Done, "its own records");
        self.tell_again(id);
    }

    /// A host tells its enclave again what it may have told one that has forgotten it, or that is not this one.
    fn tell_again(&mut self, id: MemberId) {
        let told: Vec<ChainEvent> = self.told.get(&id).into_iter().flatten().copied().collect();
        self.untold.entry(id).or_default().extend(told);
    }

    /// An enclave answers, and loses its memory before its host has stored the answer.
    fn lose(&mut self) {
        let id = self.member();
        self.mishaps.losses += 1;
        let packet = self.cluster.packets.iter().find(|packet| packet.to == id);
        let request = packet.map_or(Request::Tick, |packet| Request::Deliver(packet.bytes.clone()));
        self.cluster.node_mut(id).core.handle(request);
        self.crash(id);
    }

    /// How many more hosts may take their enclaves back.
    fn may_roll_back(&self) -> bool {
        let lost = self.rolled_back.iter().chain(&self.ever_corrupt).collect::<BTreeSet<_>>();
        lost.len() < self.cluster.ids().len() / 2
    }

    /// A host gives its enclave an earlier state.
    fn roll_back(&mut self) {
        let id = self.member();
        if !self.may_roll_back() {
            return;
        }
        self.mishaps.rollbacks += 1;
        self.rolled_back.insert(id);
        let records = self.cluster.node(id).records.clone();
        let end = self.rng.usize(1..=records.len());
        let earlier = records[..end].to_vec();
        self.begin_branch(id, records);
        self.restore(id, earlier);
    }

    /// What a host has so far stays as it is; what it has from now on is another branch.
    fn begin_branch(&mut self, id: MemberId, records: Vec<SealedRecord>) {
        let logs = self.logs.entry(id).or_default();
        if logs.branches.is_empty() {
            logs.branches.push(Vec::new());
        }
        logs.branches[logs.current] = records;
        logs.current = logs.branches.len();
        logs.branches.push(Vec::new());
    }

    /// A host starts a second enclave from what it has stored, and lets the first run.
    fn twin(&mut self) {
        let id = self.member();
        if self.twins.contains_key(&id) {
            return;
        }
        self.mishaps.twins += 1;
        let records = self.cluster.node(id).records.clone();
        let idle = Core::new(self.cluster.node(id).machine_again());
        let first = std::mem::replace(&mut self.cluster.node_mut(id).core, idle);
        self.twins.insert(id, Twin { core: first, records: records.clone() });
        self.restore(id, records);
    }

    /// A host that runs two turns to the other.
    fn swap_twins(&mut self) {
        let ids: Vec<MemberId> = self.twins.keys().copied().collect();
        let Some(id) = ids.get(self.rng.usize(..ids.len().max(1))).copied() else { return };
        let (Some(twin), node) = (self.twins.get_mut(&id), self.cluster.node_mut(id)) else { return };
        std::mem::swap(&mut twin.core, &mut node.core);
        std::mem::swap(&mut twin.records, &mut node.records);
        self.tell_again(id);
    }

    /// The power fails everywhere; some hosts give their enclaves earlier states.
    fn power_loss(&mut self) {
        self.mishaps.power_losses += 1;
        // No second enclave outlives it.
        for (id, twin) in std::mem::take(&mut self.twins) {
            let records = self.cluster.node(id).records.clone();
            self.begin_branch(id, records);
            self.cluster.node_mut(id).records = twin.records;
        }
        for id in self.cluster.ids() {
            self.crash(id);
        }
        for _ in 0..self.rng.usize(..3) {
            self.roll_back();
        }
    }

    fn standing(&mut self, id: MemberId) -> Standing {
        match self.cluster.ask(id, Request::Status) {
            Reply::Status(status) => status.standing,
            other => panic!("no status: {other:?}"),
        }
    }

    fn all_act(&mut self) -> bool {
        self.cluster.ids().into_iter().all(|id| self.standing(id) == Standing::Acting)
    }

    /// Hosts give an enclave what it says it misses, and its own host what reached another branch of its log.
    fn serve(&mut self, id: MemberId) {
        let notices = std::mem::take(&mut self.cluster.node_mut(id).notices);
        let missing: BTreeSet<_> = notices
            .into_iter()
            .filter_map(|notice| match notice {
                Notice::Missing { ceremony, step, member } => Some((ceremony, step, member)),
                _ => None,
            })
            .collect();
        let wanted = self
            .said
            .values()
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

    /// A host whose enclave is old looks through its logs for the newest.
    fn go_forward(&mut self, id: MemberId) {
        if let Some(twin) = self.twins.remove(&id) {
            let records = self.cluster.node(id).records.clone();
            self.begin_branch(id, records);
            self.cluster.node_mut(id).records = twin.records.clone();
            self.cluster.node_mut(id).core = twin.core;
            self.tell_again(id);
        }
        if !matches!(self.standing(id), Standing::Stale(_)) {
            return;
        }
        self.mishaps.stale += 1;
        let records = self.cluster.node(id).records.clone();
        let logs = self.logs.entry(id).or_default();
        let Some(branch) = logs.branches.get_mut(logs.current) else { return };
        *branch = records;
        logs.current = (logs.current + 1) % logs.branches.len();
        let records = logs.branches[logs.current].clone();
        self.restore(id, records);
    }

    /// Once a key is there its validator gets an index; some time later the DAO wants it out.
    fn later_events(&mut self) {
        let pools: Vec<PoolId> = (1..=self.pools).map(pool).collect();
        if !self.indexed && pools.iter().all(|pool| self.cluster.pubkey(*pool).is_some()) {
            self.indexed = true;
            for pool in &pools {
                if let Some(pubkey) = self.cluster.pubkey(*pool) {
                    let validator_index = 1000 + u64::from(pool.number);
                    self.announce(ChainEvent::ValidatorIndexed { pool: *pool, pubkey, validator_index });
                }
            }
        }
        if self.indexed && !self.wanted && self.rng.u8(..64) == 0 {
            self.wanted = true;
            for pool in pools {
                self.announce(exit_requested_of(pool));
            }
        }
    }

    fn announce(&mut self, event: ChainEvent) {
        self.untold.values_mut().for_each(|events| events.push(event));
    }

    fn tell(&mut self, id: MemberId) {
        let Some(event) = self.untold.get_mut(&id).and_then(Vec::pop) else { return };
        self.told.entry(id).or_default().insert(event);
        let reply = self.ask(id, Request::Observe(event));
        if matches!(reply, Reply::Rejected(rejection) if rejection.is_transient()) {
            self.untold.entry(id).or_default().insert(0, event);
        }
    }

    fn ask(&mut self, id: MemberId, request: Request) -> Reply {
        self.trace = Transcriber::new("trace")
            .bytes(&self.trace.0)
            .number(id.0.into())
            .bytes(&codec::encode(&request))
            .finish();
        self.cluster.ask(id, request)
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
            for id in self.cluster.ids() {
                self.ask(id, Request::GoOnWithout(Vec::new()));
            }
        }
        for id in self.cluster.ids() {
            for _ in 0..self.untold.get(&id).map_or(0, Vec::len) {
                self.tell(id);
            }
        }
        self.cluster.run(1);
        for id in self.cluster.ids() {
            self.go_forward(id);
            self.serve(id);
        }
        if self.indexed && !self.wanted {
            self.wanted = true;
            (1..=self.pools).for_each(|number| self.announce(exit_requested(number)));
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
        // I6: what an enclave has said is what it says, whatever became of its memory.
        for statement in std::mem::take(&mut self.cluster.said) {
            let slot = statement.slot;
            let known = self.said.entry(slot).or_insert_with(|| statement.clone());
            if known.body != statement.body && !self.ever_corrupt.contains(&slot.from) {
                return Err(format!("I6: {} has said two things at {:?}", slot.from, slot.step));
            }
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
                if self.in_favour(&deposit_requested_of(*pool)) < all {
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
                if self.in_favour(&exit_requested_of(*pool)) < needed {
                    return Err(format!("I2: {pool}'s exit was released on too few hosts' word"));
                }
                if exit.message.validator_index != 1000 + u64::from(pool.number) {
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

    fn released(&self) -> usize {
        (1..=self.pools).filter(|number| !self.cluster.exits(pool(*number)).is_empty()).count()
    }

    /// Whether honest hosts must bring it to an end.
    fn must_finish(&self) -> bool {
        self.corrupt.is_empty() && !self.divided
    }

    fn outcome(mut self) -> Result<Outcome, String> {
        let pools = self.pools as usize;
        let released = self.released();
        if !self.all_act() && self.ever_corrupt.is_empty() {
            let standings: Vec<_> = self.cluster.ids().into_iter().map(|id| self.standing(id)).collect();
            return Err(format!("liveness: not all act in the end: {standings:?}"));
        }
        let must_finish = self.must_finish();
        if must_finish && released != pools {
            return Err(format!(
                "liveness: {released} of {pools} exits released though all were honest in the end"
            ));
        }
        self.trace = Transcriber::new("trace").bytes(&self.trace.0).number(released as u64).finish();
        Ok(Outcome {
            trace: self.trace,
            released,
            pools,
            must_finish,
            culprits: self.culprits,
            mishaps: self.mishaps,
        })
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
