//! Cores on simulated machines, and what their hosts would see.

use crate::places::Places;
use crate::wallets;
use postern_attestation::ReportData;
use postern_enclave::coins::Coins;
use postern_enclave::core::Core;
use postern_enclave::keys::IdentityKeys;
use postern_enclave::platform::{DerivedKey, KeyRequest, Platform, PlatformError};
use postern_shared::agreement::{Said, Subject};
use postern_shared::bls::PublicKey;
use postern_shared::codec;
use postern_shared::epoch::SignedEpoch;
use postern_shared::ethereum::{DepositData, ForkVersion, Network, Root, SignedVoluntaryExit};
use postern_shared::events::{ChainEvent, DepositRequest, EventSource};
use postern_shared::identity::EnclaveKeys;
use postern_shared::ids::{Address, CeremonyId, ChipId, Digest, Measurement, MemberId, PoolId};
use postern_shared::manifest::{
    Agreement, Contracts, HostKey, MANIFEST_VERSION, Manifest, Member, Thresholds,
};
use postern_shared::message::{Broadcast, Certificates, Envelope, EnvelopeHeader, PeerMessage};
use postern_shared::policy::{AllowedMeasurement, AttestationRules, Trust};
use postern_shared::proof::{Council, Proof, ProofRequest, Provable};
use postern_shared::record::{KeySlot, LogHead, RecordKind, SealedRecord};
use postern_shared::transcript::{Claim, Transcript};
use postern_shared::wire::{
    Artifact, Notice, Output, Recipient, Record as Stored, Rejection, Reply, Request, Response, Standing,
};
use postern_simulation::{Machine, SoftwarePsp, trust_anchor};
use std::collections::{BTreeMap, VecDeque};
use zeroize::Zeroizing;

/// The chain of all test manifests.
pub const CHAIN_ID: u64 = 31337;

/// The pool manager of test manifests.
pub const POOL_MANAGER: Address = Address([0xaa; 20]);

/// What the pool manager of test manifests creates pools by.
pub const POOL_CODE: Digest = Digest([0xc0; 32]);

/// The launch measurement of all simulated enclaves.
pub const MEASUREMENT: [u8; 48] = [0x5a; 48];

/// A simulated machine that lets the test know what randomness it gave: the test can then compute every secret.
pub struct SpiedMachine {
    psp: SoftwarePsp,
    /// What was given, in order; the first after a start is the seed of all coins.
    pub given: Given,
}

/// What a machine gave, in order.
pub type Given = std::rc::Rc<std::cell::RefCell<Vec<Vec<u8>>>>;

impl Platform for SpiedMachine {
    fn report(&mut self, data: &ReportData) -> Result<Vec<u8>, PlatformError> {
        self.psp.report(data)
    }

    fn derive_key(&mut self, request: &KeyRequest) -> Result<DerivedKey, PlatformError> {
        self.psp.derive_key(request)
    }

    fn fill_random(&mut self, out: &mut [u8]) -> Result<(), PlatformError> {
        self.psp.fill_random(out)?;
        self.given.borrow_mut().push(out.to_vec());
        Ok(())
    }

    fn trust_anchor(&self) -> &postern_attestation::TrustAnchor {
        self.psp.trust_anchor()
    }
}

/// One member: its enclave, and what its host keeps.
pub struct Node {
    /// Which member.
    pub id: MemberId,
    /// The enclave.
    pub core: Core<SpiedMachine>,
    /// The chip.
    pub machine: Machine,
    /// Which of its member's machines, as the manifest counts them.
    pub number: u32,
    /// What all its coins come from: the first that its machine gave.
    seed: [u8; 32],
    /// Every record that its host ever stored.
    pub records: Vec<SealedRecord>,
    /// The newest key to them.
    pub slot: Option<KeySlot>,
    /// Everything that the enclave published.
    pub artifacts: Vec<Artifact>,
    /// Everything that it noticed.
    pub notices: Vec<Notice>,
    /// What it has handed over.
    pub handed_over: Option<Envelope>,
    /// The place of its log that it has last asked others to note.
    pub noted: Option<LogHead>,
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// From whose host.
    pub from: MemberId,
    /// To whose enclave.
    pub to: MemberId,
    /// The message.
    pub bytes: Vec<u8>,
}

/// A DAO of simulated enclaves.
pub struct Cluster {
    /// Its first constitution, for which its enclaves were made.
    pub genesis: Manifest,
    /// The epochs since; the first founds the DAO.
    pub epochs: Vec<SignedEpoch>,
    /// Its constitution now.
    pub manifest: Manifest,
    /// Its members, in order.
    pub nodes: Vec<Node>,
    /// Messages on their way.
    pub packets: VecDeque<Packet>,
    /// Statements that enclaves have said since somebody has last taken them.
    pub said: Vec<Broadcast>,
    /// Where secrets belong that enclaves have sealed to each other since it was last looked at.
    pub sealed: Vec<EnvelopeHeader>,
    /// Where logs stood when that was said.
    pub places: Places,
    /// Every byte that any host has seen, if recording.
    pub seen: Option<Vec<Vec<u8>>>,
    /// After how many bytes enclaves that are launched or restored write a snapshot, if not after as many as by default.
    pub snapshots_after: Option<usize>,
    seed: u64,
}

/// A manifest of `members` members on simulated machines.
pub fn manifest(members: u16, operator: u16, guardian: u16) -> Manifest {
    Manifest {
        version: MANIFEST_VERSION,
        name: "test".into(),
        epoch: 0,
        leader: MemberId(1),
        history: None,
        network: Network {
            chain_id: CHAIN_ID,
            genesis_fork_version: ForkVersion([0x10, 0, 0, 0x38]),
            capella_fork_version: ForkVersion([0x40, 0, 0, 0x38]),
            genesis_validators_root: Root([0x77; 32]),
        },
        contracts: Contracts {
            pool_manager: POOL_MANAGER,
            pool_code: POOL_CODE,
            start_block: 1,
            deposit: Address([0xdd; 20]),
        },
        thresholds: Thresholds { operator, guardian, proof: operator.max(guardian).max(members / 2 + 1) },
        agreement: Agreement { quorum: members / 2 + 1, automatic_return: false, cut: None },
        attestation: AttestationRules {
            measurements: vec![AllowedMeasurement::new("simulated enclave", Measurement(MEASUREMENT))],
            ..AttestationRules::strict(Trust::Simulation { root: Digest(trust_anchor().fingerprint()) })
        },
        members: (1..=members)
            .map(|id| Member {
                id: MemberId(id),
                name: format!("member {id}"),
                wallet: Address([id as u8; 20]),
                governance: wallets::address(MemberId(id)),
                host_key: HostKey([id as u8; 32]),
                machine: 0,
                enclave: None,
                chip_ids: vec![ChipId(machine(id).chip_id())],
                operator: true,
                guardian: true,
            })
            .collect(),
    }
}

fn machine(id: u16) -> Machine {
    Machine { chip_seed: [id as u8; 32], measurement: MEASUREMENT, ..Machine::default() }
}

/// A core on a machine, and what that machine gave it.
pub fn core(machine: Machine, seed: [u8; 32]) -> (Core<SpiedMachine>, Given) {
    let given = Given::default();
    let psp = SoftwarePsp::new(machine).seeded(seed);
    (Core::new(SpiedMachine { psp, given: std::rc::Rc::clone(&given) }), given)
}

impl Node {
    /// The chip's chain.
    pub fn certificates(&self) -> Certificates {
        SoftwarePsp::new(self.machine).certificates()
    }

    /// Its machine, for an enclave that is never started on it.
    pub fn machine_again(&self) -> SpiedMachine {
        SpiedMachine { psp: SoftwarePsp::new(self.machine), given: Given::default() }
    }

    /// How far this enclave knows another member's log to have come.
    pub fn known_head(&self, member: MemberId) -> Option<u64> {
        self.core.memory(member)?.accepted.map(|accepted| accepted.note.place.head.number)
    }

    /// All of the enclave's coins: knowing them is knowing all its secrets.
    pub fn coins(&self) -> Coins {
        Coins::new(Zeroizing::new(self.seed))
    }

    /// What all else of the enclave derives from, and the secret keys of its identity.
    pub fn long_lived_secrets(&self) -> Vec<Vec<u8>> {
        let coins = self.coins();
        let dealing = coins.scalar("postern-key-dealing-v2", b"").to_bytes();
        let mut proving = [0; 32];
        rand_core::Rng::fill_bytes(&mut coins.stream("postern-key-proving-v1", b""), &mut proving);
        vec![
            self.seed.to_vec(),
            coins.bytes("postern-key-signing-v1", b"").to_vec(),
            coins.bytes("postern-key-agreement-v1", b"").to_vec(),
            proving.to_vec(),
            dealing.to_vec(),
            dealing.iter().rev().copied().collect(),
        ]
    }

    /// The enclave's identity keys.
    pub fn keys(&self) -> IdentityKeys {
        IdentityKeys::derive(&self.coins(), self.id, self.number)
    }

    /// The transcripts that the enclave published.
    pub fn transcripts(&self) -> impl Iterator<Item = &Transcript> {
        self.artifacts.iter().filter_map(|artifact| match artifact {
            Artifact::Transcript(transcript) => Some(&**transcript),
            _ => None,
        })
    }
}

/// An enclave that is to take another's place.
pub struct Heir {
    /// It.
    pub core: Core<SpiedMachine>,
    /// What it runs on.
    pub machine: Machine,
    /// What that gave it.
    pub given: Given,
}

impl Heir {
    /// An enclave that knows nothing.
    pub fn launch(machine: Machine, seed: u64) -> Self {
        let mut bytes = [0x4e; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let (core, given) = core(machine, bytes);
        Self { core, machine, given }
    }

    /// The chip's chain.
    pub fn certificates(&self) -> Certificates {
        SoftwarePsp::new(self.machine).certificates()
    }

    fn seed(&self) -> [u8; 32] {
        self.given.borrow()[0].as_slice().try_into().expect("a seed has 32 bytes")
    }

    /// Its keys, as this machine of this member.
    pub fn keys(&self, member: MemberId, machine: u32) -> EnclaveKeys {
        IdentityKeys::derive(&Coins::new(Zeroizing::new(self.seed())), member, machine).identity().keys()
    }
}

impl Cluster {
    /// Launches and starts all enclaves, and founds the DAO; nothing is delivered yet.
    pub fn launch(genesis: Manifest, seed: u64) -> Self {
        Self::launch_with(genesis, seed, None)
    }

    /// The same, of enclaves that write a snapshot after so many bytes.
    pub fn launch_with(genesis: Manifest, seed: u64, snapshots_after: Option<usize>) -> Self {
        let mut cluster = Self::launch_candidates(genesis, seed, snapshots_after);
        let founding = cluster.founding();
        cluster.amend(&founding);
        cluster
    }

    /// The same, but the DAO is not founded yet.
    pub fn launch_candidates(genesis: Manifest, seed: u64, snapshots_after: Option<usize>) -> Self {
        let ids: Vec<MemberId> = genesis.members.iter().map(|member| member.id).collect();
        let mut cluster = Self {
            manifest: genesis.clone(),
            epochs: Vec::new(),
            genesis,
            nodes: Vec::new(),
            packets: VecDeque::new(),
            said: Vec::new(),
            sealed: Vec::new(),
            places: Places::default(),
            seen: None,
            snapshots_after,
            seed,
        };
        for id in ids {
            cluster.begin(id);
        }
        cluster
    }

    /// An enclave that has never been, on a member's machine.
    fn begin(&mut self, id: MemberId) {
        let machine = Machine { host_data: self.genesis.hash().0, ..machine(id.0) };
        let (core, given) = core(machine, self.machine_seed(id, 0));
        self.nodes.push(Node {
            id,
            number: 0,
            core,
            machine,
            seed: [0; 32],
            records: Vec::new(),
            slot: None,
            artifacts: Vec::new(),
            notices: Vec::new(),
            handed_over: None,
            noted: None,
        });
        self.set_snapshots(id);
        let certificates = self.node(id).certificates();
        let manifest = self.genesis.to_canonical();
        assert_eq!(
            self.ask(id, Request::Start { manifest, epochs: Vec::new(), member: id, certificates }),
            Reply::Done
        );
        self.node_mut(id).seed = given.borrow()[0].as_slice().try_into().expect("a seed has 32 bytes");
    }

    /// From now on a member has this enclave, which has begun; gives back the one that it had.
    pub fn adopt(&mut self, id: MemberId, heir: Heir) -> Core<SpiedMachine> {
        let node = self.node_mut(id);
        node.machine = heir.machine;
        let old = std::mem::replace(&mut node.core, heir.core);
        node.noted = None;
        self.ask(id, Request::Resume);
        old
    }

    /// The epoch that names every member's enclave.
    pub fn founding(&self) -> Manifest {
        wallets::next(&self.genesis, |next| {
            for (member, node) in next.members.iter_mut().zip(&self.nodes) {
                member.enclave = Some(node.keys().identity().keys());
            }
        })
    }

    /// All wallets sign a next epoch, all hosts tell their enclaves, and these agree on it. What else is on its way waits.
    pub fn amend(&mut self, next: &Manifest) {
        let epoch = self.sign(next);
        for id in self.ids() {
            assert_eq!(self.ask(id, Request::Amend(epoch.clone())), Reply::Done, "{id}");
        }
        self.deliver_only(|packet| match codec::decode(&packet.bytes) {
            Ok(PeerMessage::Witness(_) | PeerMessage::Epoch(_)) => true,
            Ok(PeerMessage::Broadcast(statement)) => {
                Said::of(&statement).is_some_and(|said| matches!(said.subject, Subject::Epoch(_)))
            }
            _ => false,
        });
    }

    /// Delivers these and what comes of them; what else is on its way waits.
    pub fn deliver_only(&mut self, passes: impl Fn(&Packet) -> bool) {
        let mut idle = 0;
        while idle <= self.packets.iter().filter(|packet| passes(packet)).count()
            && let Some(position) = self.packets.iter().position(&passes)
        {
            let packet = self.packets.remove(position).expect("it is there");
            let waits =
                matches!(self.deliver(packet), Reply::Rejected(rejection) if rejection.is_transient());
            idle = if waits { idle + 1 } else { 0 };
        }
    }

    /// All wallets sign a next epoch, which no host knows yet.
    pub fn sign(&mut self, next: &Manifest) -> SignedEpoch {
        let epoch = wallets::signed(&self.manifest, next, self.ids());
        self.epochs.push(epoch.clone());
        self.manifest = next.clone();
        epoch
    }

    /// A second enclave of a member, restored from all that the first has had stored; nothing that it says leaves yet.
    pub fn twin(&self, id: MemberId, launch: u64) -> Heir {
        let node = self.node(id);
        let mut twin = Heir::launch(Machine { launch, ..node.machine }, launch);
        let slot = Box::new(node.slot.clone().expect("an enclave that was started has a slot"));
        let restore = Request::Restore { slot, certificates: node.certificates() };
        let records = node.records.chunks(64).map(|some| Request::Records(some.to_vec()));
        let epochs = self.epochs.iter().cloned().map(Request::Amend);
        for request in [restore].into_iter().chain(records).chain([Request::Restored]).chain(epochs) {
            assert_eq!(twin.core.handle(request).reply, Reply::Done);
        }
        twin
    }

    /// An enclave that is made for a member by the same genesis, and that knows these epochs.
    pub fn another(&self, id: MemberId, launch: u64, epochs: &[SignedEpoch]) -> Heir {
        let mut other = Heir::launch(Machine { launch, ..self.node(id).machine }, launch);
        let (manifest, certificates) = (self.genesis.to_canonical(), other.certificates());
        let start = Request::Start { manifest, epochs: epochs.to_vec(), member: id, certificates };
        assert_eq!(other.core.handle(start).reply, Reply::Done);
        other
    }

    /// Hosts deliver what `passes` lets through, and drop the rest; then all tick. So many times.
    pub fn carry(&mut self, rounds: usize, passes: impl Fn(&Packet) -> bool) {
        for _ in 0..rounds {
            let mut idle = 0;
            while idle <= self.packets.len() {
                let Some(packet) = self.packets.pop_front() else { break };
                if !passes(&packet) {
                    continue;
                }
                let waits =
                    matches!(self.deliver(packet), Reply::Rejected(rejection) if rejection.is_transient());
                idle = if waits { idle + 1 } else { 0 };
            }
            for id in self.ids() {
                self.ask(id, Request::Tick);
            }
        }
        self.packets.clear();
    }

    /// How a member's enclave stands.
    pub fn standing(&mut self, id: MemberId) -> Standing {
        match self.ask(id, Request::Status) {
            Reply::Status(status) => status.standing,
            other => panic!("no status: {other:?}"),
        }
    }

    /// A member's host forgets everything and starts an enclave that has never been: a candidate for the machine after the
    /// one that the manifest names.
    pub fn launch_anew(&mut self, id: MemberId, launch: u64) {
        let heir = self.another(id, launch, &self.epochs);
        let number = self.manifest.identity(id).map_or(0, |named| named.machine + 1);
        self.take_place(id, number, heir);
    }

    /// A member's machine is lost, with all that its host had, and another enclave is there, for the machine of this number.
    pub fn take_place(&mut self, id: MemberId, number: u32, heir: Heir) {
        let node = self.node_mut(id);
        (node.seed, node.number) = (heir.seed(), number);
        (node.records, node.slot) = (Vec::new(), None);
        self.adopt(id, heir);
    }

    /// The manifest after this one, in which a member's new enclave takes its lost one's place.
    pub fn replacement(&self, id: MemberId) -> Manifest {
        let node = self.node(id);
        let (keys, number) = (node.keys().identity().keys(), node.number);
        wallets::next(&self.manifest, |next| {
            let entry = &mut next.members[usize::from(id.0) - 1];
            (entry.enclave, entry.machine) = (Some(keys), number);
        })
    }

    /// A member's machine is lost, and the DAO names another.
    pub fn replace(&mut self, id: MemberId, launch: u64) {
        self.launch_anew(id, launch);
        let next = self.replacement(id);
        self.amend(&next);
    }

    /// The beacon chain gives a pool's validator an index, and every host sees it.
    pub fn index(&mut self, pool: PoolId) {
        let pubkey = self.pubkey(pool).expect("a key");
        self.observe(ChainEvent::ValidatorIndexed {
            pool,
            pubkey,
            validator_index: 1000 + u64::from(pool.number),
        });
    }

    /// The manifest that an enclave goes by.
    pub fn newest_manifest(&self, id: MemberId) -> Manifest {
        self.node(id).core.manifest().cloned().expect("it was started")
    }

    fn machine_seed(&self, id: MemberId, launch: u64) -> [u8; 32] {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&launch.to_le_bytes());
        seed[16..18].copy_from_slice(&id.0.to_le_bytes());
        seed
    }

    /// An enclave loses all its memory and is restored from what its host has stored.
    pub fn crash(&mut self, id: MemberId, launch: u64) {
        let records = self.node(id).records.clone();
        assert_eq!(self.restore(id, launch, &records), Reply::Done);
    }

    /// An enclave loses all its memory and is restored from these records.
    pub fn restore(&mut self, id: MemberId, launch: u64, records: &[SealedRecord]) -> Reply {
        let seed = self.machine_seed(id, launch);
        let node = self.node_mut(id);
        node.machine.launch = launch;
        node.core = core(node.machine, seed).0;
        node.noted = None;
        self.set_snapshots(id);
        let node = self.node_mut(id);
        let certificates = node.certificates();
        let slot = Box::new(node.slot.clone().expect("an enclave that was started has a slot"));
        let reply = self.ask(id, Request::Restore { slot, certificates });
        if reply != Reply::Done {
            return reply;
        }
        for some in records.chunks(64) {
            let reply = self.ask(id, Request::Records(some.to_vec()));
            if reply != Reply::Done {
                return reply;
            }
        }
        // What it is restored from is what its host has from now on.
        self.node_mut(id).records = records.to_vec();
        let reply = self.ask(id, Request::Restored);
        if reply == Reply::Done {
            // It may have forgotten them; if it has not, that is harmless.
            for epoch in self.epochs.clone() {
                self.ask(id, Request::Amend(epoch));
            }
        }
        reply
    }

    /// Lets an enclave write its snapshots as this cluster's do.
    fn set_snapshots(&mut self, id: MemberId) {
        let Some(bytes) = self.snapshots_after else { return };
        let node = self.node_mut(id);
        let idle = core(node.machine, [0; 32]).0;
        node.core = std::mem::replace(&mut node.core, idle).with_snapshots_after(bytes);
    }

    /// What an honest host would have kept of its records.
    pub fn kept(&self, id: MemberId) -> Vec<SealedRecord> {
        let records = &self.node(id).records;
        let first = records.iter().rev().find_map(|record| match record.header.kind {
            RecordKind::Snapshot { first } => Some(first),
            _ => None,
        });
        let kept = |record: &&SealedRecord| {
            record.header.kind == RecordKind::Vault || record.header.number >= first.unwrap_or(0)
        };
        records.iter().filter(kept).cloned().collect()
    }

    /// A member.
    pub fn node(&self, id: MemberId) -> &Node {
        &self.nodes[usize::from(id.0) - 1]
    }

    /// A member.
    pub fn node_mut(&mut self, id: MemberId) -> &mut Node {
        &mut self.nodes[usize::from(id.0) - 1]
    }

    /// All members.
    pub fn ids(&self) -> Vec<MemberId> {
        self.manifest.members.iter().map(|member| member.id).collect()
    }

    /// Asks an enclave as its host would, and sends what it wants sent.
    pub fn ask(&mut self, id: MemberId, request: Request) -> Reply {
        if let Some(seen) = &mut self.seen {
            seen.push(codec::encode(&request));
        }
        let mut response = self.node_mut(id).core.handle(request);
        let reply = response.reply.clone();
        loop {
            let more = response.more;
            self.keep(id, response);
            if !more {
                return reply;
            }
            response = self.node_mut(id).core.handle(Request::Resume);
        }
    }

    /// Stores what an enclave wants stored, then sends what it wants sent.
    pub fn keep(&mut self, id: MemberId, response: Response) {
        if let Some(seen) = &mut self.seen {
            seen.push(codec::encode(&response));
        }
        if let Some(last) = response.outputs.last() {
            self.node_mut(id).core.handle(Request::Acknowledge(last.sequence));
        }
        let everyone = self.ids();
        for numbered in response.outputs {
            match numbered.output {
                Output::Store(Stored::Sealed(record)) => self.node_mut(id).records.push(*record),
                Output::Store(Stored::Slot(slot)) => self.node_mut(id).slot = Some(*slot),
                Output::Store(Stored::Broadcast(_)) => {}
                Output::Publish(artifact) => self.node_mut(id).artifacts.push(artifact),
                Output::Notice(notice) => self.node_mut(id).notices.push(notice),
                Output::HandOver(envelope) => self.node_mut(id).handed_over = Some(envelope),
                Output::Send { to, message } => {
                    self.listen(id, &message);
                    let recipients = match to {
                        Recipient::One(member) => vec![member],
                        Recipient::Everyone => {
                            everyone.iter().copied().filter(|other| *other != id).collect()
                        }
                    };
                    for to in recipients {
                        self.packets.push_back(Packet { from: id, to, bytes: message.clone() });
                    }
                }
            }
        }
    }

    /// Delivers one packet as an honest host would: what another member than the one that brings it must have sent, it
    /// does not hand on, and what may be accepted later goes to the end of the line.
    pub fn deliver(&mut self, packet: Packet) -> Reply {
        let message: Option<PeerMessage> = codec::decode(&packet.bytes).ok();
        if message.and_then(|message| message.sender()).is_some_and(|sender| sender != packet.from) {
            return Reply::Rejected(Rejection::NotAuthentic);
        }
        let reply = self.ask(packet.to, Request::Deliver(packet.bytes.clone()));
        if matches!(reply, Reply::Rejected(rejection) if rejection.is_transient()) {
            self.packets.push_back(packet);
        }
        reply
    }

    /// Honest hosts: delivers everything until nothing moves, and ticks `ticks` times.
    pub fn run(&mut self, ticks: usize) {
        for tick in 0..=ticks {
            let mut idle = 0;
            while idle <= self.packets.len() {
                let Some(packet) = self.packets.pop_front() else { break };
                match self.deliver(packet) {
                    Reply::Rejected(rejection) if rejection.is_transient() => {
                        idle += 1;
                    }
                    _ => idle = 0,
                }
            }
            if tick < ticks {
                for id in self.ids() {
                    self.ask(id, Request::Tick);
                }
            }
        }
    }

    /// Carries only what members remember for each other, until nothing of it is left: what waited for it is then on its way.
    pub fn remember(&mut self) {
        let is_witness =
            |packet: &Packet| matches!(codec::decode(&packet.bytes), Ok(PeerMessage::Witness(_)));
        while let Some(position) = self.packets.iter().position(is_witness) {
            if let Some(packet) = self.packets.remove(position) {
                self.ask(packet.to, Request::Deliver(packet.bytes));
            }
        }
    }

    /// Every host tells its enclave.
    pub fn observe(&mut self, event: ChainEvent) {
        for id in self.ids() {
            self.ask(id, Request::Observe(event));
        }
    }

    /// The first key that any enclave published for a pool.
    pub fn pubkey(&self, pool: PoolId) -> Option<PublicKey> {
        self.nodes.iter().find_map(|node| pubkey(node, pool))
    }

    /// A pool's signed deposit.
    pub fn deposit(&self, wanted: PoolId) -> Option<DepositData> {
        let artifacts = self.nodes.iter().flat_map(|node| &node.artifacts);
        artifacts.into_iter().find_map(|artifact| match artifact {
            Artifact::Deposit { pool, data, .. } if *pool == wanted => Some(*data),
            _ => None,
        })
    }

    /// The enclaves' proof that this deposit is the pool's, if enough of them say so.
    pub fn prove_deposit(&mut self, pool: PoolId, data: &DepositData) -> Option<Proof> {
        self.prove(Provable::Deposit { pool, data: *data })
    }

    /// The enclaves' proof in the epoch in force, if enough of them say so.
    pub fn prove(&mut self, what: Provable) -> Option<Proof> {
        let asked = ProofRequest { epoch: self.manifest.epoch, what };
        let digest = what.statement().digest(&self.manifest.domain(), asked.epoch);
        let council = Council::of(&self.manifest);
        let mut signatures = BTreeMap::new();
        for id in self.ids() {
            if let Reply::Proved(signature) = self.ask(id, Request::Prove(asked)) {
                signatures.insert(id, signature);
            }
        }
        Proof::collect(&digest, &council.signers, council.quorum.into(), &signatures)
    }

    /// Checks every transcript that was published.
    pub fn claims(&self) -> Vec<Claim> {
        let genesis = self.genesis.hash();
        let claim = |transcript: &Transcript| {
            assert_eq!(transcript.manifest().expect("a manifest").genesis(), genesis);
            transcript.verify().expect("published transcripts verify")
        };
        self.nodes.iter().flat_map(Node::transcripts).map(claim).collect()
    }

    /// The different exits that were released for a pool. Whoever hears of one publishes it.
    pub fn exits(&self, wanted: PoolId) -> Vec<SignedVoluntaryExit> {
        let mut exits = Vec::new();
        for artifact in self.nodes.iter().flat_map(|node| &node.artifacts) {
            match artifact {
                Artifact::Exit { pool, exit } if *pool == wanted && !exits.contains(exit) => {
                    exits.push(*exit);
                }
                _ => {}
            }
        }
        exits
    }
}

/// The key that an enclave signed a deposit for.
pub fn pubkey(node: &Node, wanted: PoolId) -> Option<PublicKey> {
    node.artifacts.iter().find_map(|artifact| match artifact {
        Artifact::Deposit { pool, data, .. } if *pool == wanted => Some(data.message.pubkey),
        _ => None,
    })
}

/// A pool of the test manifests' contract.
pub const fn pool(number: u32) -> PoolId {
    PoolId::new(CHAIN_ID, POOL_MANAGER, number)
}

/// `PoolDepositRequested` of a pool of the test manifests' contract.
pub fn deposit_requested(number: u32) -> ChainEvent {
    deposit_requested_of(pool(number))
}

/// `PoolDepositRequested` of any pool.
pub fn deposit_requested_of(pool: PoolId) -> ChainEvent {
    ChainEvent::DepositRequested(DepositRequest {
        source: EventSource { block: Digest([pool.number as u8; 32]), log_index: 0 },
        pool,
    })
}

/// `PoolExitRequested` of a pool of the test manifests' contract.
pub fn exit_requested(number: u32) -> ChainEvent {
    exit_requested_of(pool(number))
}

/// `PoolExitRequested` of any pool.
pub fn exit_requested_of(pool: PoolId) -> ChainEvent {
    let source = EventSource { block: Digest([0x80 | pool.number as u8; 32]), log_index: 1 };
    ChainEvent::ExitRequested { source, pool }
}

/// Which protocol a transcript is of, for assertions.
pub fn kind(transcript: &Transcript) -> &'static str {
    transcript.record.name()
}

/// Which run a transcript is of.
pub fn ceremony(transcript: &Transcript) -> CeremonyId {
    transcript.record.terms().ceremony()
}
