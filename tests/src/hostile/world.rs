//! One run under way: the DAO, what its hosts have, and what each event does to it.

use super::event::{Event, Script, Setup};
use super::invariants::{Broken, Invariant, Watch};
use super::logs::{Logs, Second};
use super::{Mishaps, Outcome};
use crate::cluster::{Cluster, Packet, deposit_requested, exit_requested, manifest, pool};
use crate::corruption::Liar;
use crate::wallets;
use postern_shared::agreement::{Attempt, Subject};
use postern_shared::codec;
use postern_shared::epoch::SignedEpoch;
use postern_shared::events::ChainEvent;
use postern_shared::hash::Transcriber;
use postern_shared::ids::{Digest, MemberId, PoolId};
use postern_shared::message::{Broadcast, Slot};
use postern_shared::wire::{Reply, Request, Standing};
use std::collections::{BTreeMap, BTreeSet};

/// Most epochs that wallets sign in a run.
const MOST_EPOCHS: usize = 4;

/// Rounds that honest hosts get to finish.
const HONEST_ROUNDS: usize = 4;
/// And more, if hosts have to find out which of their logs is the newest.
const RECOVERY_ROUNDS: usize = 12;

/// One run under way.
pub struct World {
    /// The enclaves, and all that is on its way between them.
    pub cluster: Cluster,
    /// Enclaves in the attacker's hands.
    pub(super) liars: BTreeMap<MemberId, Liar>,
    pub(super) pools: u32,
    /// What each member's host will tell its enclave, and what it has told it.
    pub(super) untold: BTreeMap<MemberId, Vec<ChainEvent>>,
    pub(super) told: BTreeMap<MemberId, BTreeSet<ChainEvent>>,
    /// All packets that were ever carried, to replay.
    pub(super) history: Vec<Packet>,
    /// Dropped; an honest host would still have them.
    pub(super) dropped: Vec<Packet>,
    /// Members that are cut off for now.
    pub(super) cut: BTreeSet<MemberId>,
    /// Whether hosts have told their enclaves to go on without members.
    pub(super) divided: bool,
    /// Counts launches of enclaves, so that each is another.
    pub(super) launches: u64,
    pub(super) mishaps: Mishaps,
    /// Every log that a member's host has; which of them its enclave runs on.
    pub(super) logs: BTreeMap<MemberId, Logs>,
    /// Members whose hosts have taken their enclaves back, and not forward again.
    pub(super) rolled_back: BTreeSet<MemberId>,
    /// Second enclaves of members, that run beside the first.
    pub(super) twins: BTreeMap<MemberId, Second>,
    /// Second first enclaves of members, that no epoch names.
    pub(super) rivals: BTreeMap<MemberId, Second>,
    /// How often hosts have told their enclaves of what never was.
    pub(super) made_up: u32,
    /// What is known of what enclaves have said and made.
    pub(super) watch: Watch,
    /// What liars have said instead of their enclaves: hosts that it was brought to keep it too.
    pub(super) lies: BTreeMap<(Slot, Digest), Broadcast>,
    /// Found while something else was done.
    pub(super) broken: Option<Broken>,
    pub(super) trace: Digest,
    /// Epochs that wallets have signed.
    pub(super) epochs: Vec<SignedEpoch>,
    /// What each enclave was to decide when the last honest round ended, and in which attempt.
    deciding: BTreeSet<(MemberId, Subject, Attempt)>,
    indexed: bool,
    wanted: bool,
}

impl World {
    pub(super) fn new(setup: &Setup) -> Self {
        let Setup { seed, members, operator, guardian, pools, ref corrupt, aim, acquainted, snapshots } =
            *setup;
        let mut manifest = manifest(members, operator, guardian);
        // The power fails everywhere at once, too.
        manifest.agreement.automatic_return = true;
        // What members agree on holds for as many broken enclaves as the quorum tolerates.
        let broken = u16::try_from(corrupt.len()).unwrap_or(members);
        manifest.agreement.quorum = (members + 1 + broken).div_ceil(2).min(members - 1);
        let mut cluster = Cluster::launch_with(manifest, seed, snapshots);
        let liars = corrupt.iter().map(|id| (*id, Liar::of(cluster.node(*id), aim))).collect();
        cluster.seen = Some(Vec::new());
        let deposits: Vec<ChainEvent> = (1..=pools).map(deposit_requested).collect();
        let untold = cluster.ids().into_iter().map(|id| (id, deposits.clone())).collect();
        let watch = Watch::new(&cluster, corrupt);
        if acquainted {
            cluster.run(0);
        }
        Self {
            cluster,
            liars,
            pools,
            untold,
            told: BTreeMap::new(),
            history: Vec::new(),
            dropped: Vec::new(),
            cut: BTreeSet::new(),
            divided: false,
            launches: 0,
            mishaps: Mishaps::default(),
            logs: BTreeMap::new(),
            rolled_back: BTreeSet::new(),
            twins: BTreeMap::new(),
            rivals: BTreeMap::new(),
            made_up: 0,
            watch,
            lies: BTreeMap::new(),
            broken: None,
            trace: Digest([0; 32]),
            epochs: Vec::new(),
            deciding: BTreeSet::new(),
            indexed: false,
            wanted: false,
        }
    }

    /// How many events a member's host has told its enclave.
    pub fn told(&self, id: MemberId) -> usize {
        self.told.get(&id).map_or(0, BTreeSet::len)
    }

    /// A member, whatever number an event gives.
    pub(super) fn member(&self, id: MemberId) -> MemberId {
        let members = self.cluster.manifest.members.len();
        self.cluster.manifest.members[usize::from(id.0.saturating_sub(1)) % members].id
    }

    /// What an event does; all invariants are checked after it.
    pub(super) fn apply(&mut self, event: &Event) -> Result<(), Broken> {
        self.index();
        match event {
            Event::Tell(id) => self.tell(self.member(*id)),
            Event::Tick(id) => drop(self.ask(self.member(*id), Request::Tick)),
            Event::Cut(id) => self.cut(self.member(*id)),
            Event::Carry(carry) => self.carry(carry),
            Event::Replay { pick, to } => self.replay(*pick, *to),
            Event::Alter(alteration) => self.alter(*alteration),
            Event::Forge { pick, other, how, to } => self.forge(*pick, *other, *how, *to),
            Event::Speak { pick, to, lie } => self.speak(*pick, *to, *lie),
            Event::Crash(id) => self.crash(self.member(*id)),
            Event::Lose(id) => self.lose(self.member(*id)),
            Event::RollBack { member, records } => self.roll_back(self.member(*member), *records),
            Event::Twin(id) => self.twin(self.member(*id)),
            Event::SwapTwins(pick) => self.swap_twins(*pick),
            Event::FeedAlone { member, times } => self.feed_alone(self.member(*member), *times),
            Event::Branch { member, pick } => self.branch(self.member(*member), usize::from(*pick)),
            Event::Rival { member, packets } => self.rival(self.member(*member), usize::from(*packets)),
            Event::PowerLoss => self.power_loss(),
            Event::GoOnWithout { member, away } => {
                self.divided = true;
                let away = away.iter().map(|id| self.member(*id)).collect();
                self.ask(self.member(*member), Request::GoOnWithout(away));
            }
            Event::GiveUp(id) => self.give_up(self.member(*id), |_| true),
            Event::Sign { twice } => self.sign_epochs(*twice),
            Event::Land { member, pick } => self.land(self.member(*member), usize::from(*pick)),
            Event::Reattest { member, about } => {
                let about = about.map(|id| self.member(id));
                self.ask(self.member(*member), Request::Reattest(about));
            }
            Event::Attest { member, nonce } => {
                let nonce = postern_shared::ids::Nonce([*nonce; 32]);
                self.ask(self.member(*member), Request::Attest(nonce));
            }
            Event::WantExits => self.want_exits(),
            Event::HonestRound(lies) => self.honest_round(*lies),
            Event::Finish(lies) => return self.finish(*lies),
        }
        self.check()
    }

    /// Honest hosts do all they can; then it must be done.
    fn finish(&mut self, lies: Option<u32>) -> Result<(), Broken> {
        for round in 0..HONEST_ROUNDS + RECOVERY_ROUNDS {
            self.index();
            self.honest_round(lies.map(|lies| lies.wrapping_add(round as u32)));
            self.check().map_err(|broken| broken.in_round(round))?;
            let over = self.released() == self.pools as usize || !self.must_finish();
            if round + 1 >= HONEST_ROUNDS && over && self.all_act() {
                break;
            }
        }
        if !self.all_act() && self.watch.all_honest() {
            let standings: Vec<_> = self.cluster.ids().into_iter().map(|id| self.standing(id)).collect();
            return Err(Invariant::Liveness.broken(format!("not all act in the end: {standings:?}")));
        }
        let (released, pools) = (self.released(), self.pools as usize);
        if self.must_finish() && released != pools {
            let what = format!("{released} of {pools} exits released though all were honest in the end");
            return Err(Invariant::Liveness.broken(what));
        }
        Ok(())
    }

    fn honest_round(&mut self, lies: Option<u32>) {
        self.cut.clear();
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
        for id in self.cluster.ids() {
            (0..self.epochs.len()).for_each(|pick| self.land(id, pick));
        }
        self.deliver_all(lies);
        for id in self.cluster.ids() {
            self.go_forward(id);
            self.serve(id);
        }
        self.lose_patience();
        self.want_exits();
    }

    /// A host has its enclave leave the attempts at these decisions.
    fn give_up(&mut self, id: MemberId, wanted: impl Fn(&(Subject, Attempt)) -> bool) {
        for (subject, _) in self.undecided(id).into_iter().filter(wanted) {
            self.ask(id, Request::GiveUp(subject));
        }
    }

    fn undecided(&mut self, id: MemberId) -> Vec<(Subject, Attempt)> {
        match self.cluster.ask(id, Request::Status) {
            Reply::Status(status) => status.undecided,
            other => panic!("no status: {other:?}"),
        }
    }

    /// Honest hosts give up what has not moved for a whole round.
    fn lose_patience(&mut self) {
        let before = std::mem::take(&mut self.deciding);
        for id in self.cluster.ids() {
            self.give_up(id, |(subject, attempt)| before.contains(&(id, *subject, *attempt)));
            let now = self.undecided(id);
            self.deciding.extend(now.into_iter().map(|(subject, attempt)| (id, subject, attempt)));
        }
    }

    /// The wallets sign the epoch after the newest that any enclave goes by.
    fn sign_epochs(&mut self, twice: bool) {
        let manifests = self.cluster.nodes.iter().filter_map(|node| node.core.manifest());
        let Some(newest) = manifests.max_by_key(|manifest| manifest.epoch).cloned() else { return };
        if self.epochs.len() >= MOST_EPOCHS {
            return;
        }
        for name in ["one", "other"].into_iter().take(if twice { 2 } else { 1 }) {
            let next = wallets::next(&newest, |next| next.name = format!("{name} {}", self.epochs.len()));
            self.epochs.push(wallets::signed(&newest, &next, self.cluster.ids()));
        }
    }

    fn land(&mut self, id: MemberId, pick: usize) {
        if let Some(epoch) = self.epochs.get(pick % self.epochs.len().max(1)).cloned() {
            self.ask(id, Request::Amend(epoch));
        }
    }

    /// Once a key is there its validator gets an index.
    fn index(&mut self) {
        let pools: Vec<PoolId> = (1..=self.pools).map(pool).collect();
        if self.indexed || pools.iter().any(|pool| self.cluster.pubkey(*pool).is_none()) {
            return;
        }
        self.indexed = true;
        for pool in pools {
            if let Some(pubkey) = self.cluster.pubkey(pool) {
                let validator_index = 1000 + u64::from(pool.number);
                self.announce(ChainEvent::ValidatorIndexed { pool, pubkey, validator_index });
            }
        }
    }

    /// Some time later the DAO wants it out.
    fn want_exits(&mut self) {
        if self.indexed && !self.wanted {
            self.wanted = true;
            (1..=self.pools).for_each(|number| self.announce(exit_requested(number)));
        }
    }

    fn announce(&mut self, event: ChainEvent) {
        self.untold.values_mut().for_each(|events| events.push(event));
    }

    pub(super) fn tell(&mut self, id: MemberId) {
        let Some(event) = self.untold.get_mut(&id).and_then(Vec::pop) else { return };
        self.told.entry(id).or_default().insert(event);
        let reply = self.ask(id, Request::Observe(event));
        if matches!(reply, Reply::Rejected(rejection) if rejection.is_transient()) {
            self.untold.entry(id).or_default().insert(0, event);
        }
    }

    pub(super) fn ask(&mut self, id: MemberId, request: Request) -> Reply {
        self.note(id, &codec::encode(&request));
        self.cluster.ask(id, request)
    }

    pub(super) fn deliver(&mut self, packet: Packet) -> Reply {
        self.note(packet.to, &packet.bytes);
        self.cluster.deliver(packet)
    }

    /// Delivers without trying again.
    pub(super) fn deliver_once(&mut self, packet: Packet) {
        self.ask(packet.to, Request::Deliver(packet.bytes));
    }

    fn note(&mut self, id: MemberId, bytes: &[u8]) {
        let hash = Transcriber::new("trace").bytes(&self.trace.0).number(id.0.into()).bytes(bytes);
        self.trace = hash.finish();
    }

    pub(super) fn standing(&mut self, id: MemberId) -> Standing {
        match self.cluster.ask(id, Request::Status) {
            Reply::Status(status) => status.standing,
            other => panic!("no status: {other:?}"),
        }
    }

    fn all_act(&mut self) -> bool {
        self.cluster.ids().into_iter().all(|id| self.standing(id) == Standing::Acting)
    }

    fn released(&self) -> usize {
        (1..=self.pools).filter(|number| !self.cluster.exits(pool(*number)).is_empty()).count()
    }

    /// Whether honest hosts must bring it to an end.
    fn must_finish(&self) -> bool {
        self.watch.all_honest()
    }

    /// Whether what members agree on must hold.
    pub(super) fn must_agree(&self) -> bool {
        self.liars.len() <= self.cluster.manifest.quorum().broken()
    }

    pub(super) fn outcome(self, script: &Script) -> Outcome {
        let released = self.released();
        let must_finish = self.must_finish() && matches!(script.events.last(), Some(Event::Finish(_)));
        let trace = Transcriber::new("trace").bytes(&self.trace.0).number(released as u64).finish();
        let sizes = self.watch.sizes();
        let pools = self.pools as usize;
        let (culprits, mishaps) = (self.watch.culprits, self.mishaps);
        Outcome { trace, released, pools, must_finish, culprits, mishaps, sizes }
    }
}
