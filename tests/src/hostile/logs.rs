//! What hosts do to the memory of their enclaves: lose it, take it back, and run two from one.

use super::invariants::Invariant;
use super::world::World;
use crate::cluster::{Heir, Node, Packet, SpiedMachine, deposit_requested};
use postern_enclave::core::Core;
use postern_shared::events::ChainEvent;
use postern_shared::ids::MemberId;
use postern_shared::record::{KeySlot, LogHead, SealedRecord};
use postern_shared::wire::{Reply, Request, Standing};
use std::collections::BTreeSet;

/// Pools from here on were never asked for.
const MADE_UP: u32 = 1_000_000;

/// What a host has stored: branches of its enclave's log, of which one is in use and grows in `Node::records`.
#[derive(Default)]
pub(super) struct Logs {
    branches: Vec<Vec<SealedRecord>>,
    current: usize,
}

/// An enclave that is not connected for now.
pub(super) struct Second {
    core: Core<SpiedMachine>,
    records: Vec<SealedRecord>,
    slot: Option<KeySlot>,
    noted: Option<LogHead>,
}

impl Second {
    fn swap(&mut self, node: &mut Node) {
        std::mem::swap(&mut self.core, &mut node.core);
        std::mem::swap(&mut self.records, &mut node.records);
        std::mem::swap(&mut self.slot, &mut node.slot);
        std::mem::swap(&mut self.noted, &mut node.noted);
    }
}

impl World {
    pub(super) fn crash(&mut self, id: MemberId) {
        self.mishaps.crashes += 1;
        self.restore(id, self.cluster.node(id).records.clone());
    }

    fn restore(&mut self, id: MemberId, records: Vec<SealedRecord>) {
        self.launches += 1;
        let reply = self.cluster.restore(id, self.launches, &records);
        if reply != Reply::Done {
            let what = format!("{id} does not take its own records: {reply:?}");
            self.broken.get_or_insert(Invariant::I6.broken(what));
        }
        self.tell_again(id);
    }

    /// A host tells its enclave again what it may have told one that has forgotten it, or that is not this one.
    fn tell_again(&mut self, id: MemberId) {
        let told: Vec<ChainEvent> = self.told.get(&id).into_iter().flatten().copied().collect();
        self.untold.entry(id).or_default().extend(told);
    }

    pub(super) fn lose(&mut self, id: MemberId) {
        self.mishaps.losses += 1;
        let packet = self.cluster.packets.iter().find(|packet| packet.to == id);
        let request = packet.map_or(Request::Tick, |packet| Request::Deliver(packet.bytes.clone()));
        self.cluster.node_mut(id).core.handle(request);
        self.crash(id);
    }

    /// Whose hosts have taken their enclaves back, or are corrupted. Two enclaves of one log count as that: where enclaves find
    /// back by themselves when all others answer, more than half of the hosts with two each have two DAOs, and nobody is in both.
    fn lost(&self) -> BTreeSet<MemberId> {
        self.rolled_back.iter().chain(self.liars.keys()).chain(self.twins.keys()).copied().collect()
    }

    /// Whether one more host may take its enclave back.
    fn may_take_back(&self) -> bool {
        self.lost().len() < self.cluster.ids().len() / 2
    }

    pub(super) fn roll_back(&mut self, id: MemberId, left: u16) {
        if !self.may_take_back() {
            return;
        }
        self.mishaps.rollbacks += 1;
        self.rolled_back.insert(id);
        let records = self.cluster.node(id).records.clone();
        let earlier = records[..1 + usize::from(left) % records.len()].to_vec();
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

    pub(super) fn twin(&mut self, id: MemberId) {
        if self.twins.contains_key(&id) || !self.lost().contains(&id) && !self.may_take_back() {
            return;
        }
        self.mishaps.twins += 1;
        let records = self.cluster.node(id).records.clone();
        let idle = Core::new(self.cluster.node(id).machine_again());
        let first = std::mem::replace(&mut self.cluster.node_mut(id).core, idle);
        let Node { slot, noted, .. } = self.cluster.node(id);
        let (slot, noted) = (slot.clone(), *noted);
        self.twins.insert(id, Second { core: first, records: records.clone(), slot, noted });
        self.restore(id, records);
    }

    pub(super) fn swap_twins(&mut self, pick: u16) {
        let ids: Vec<MemberId> = self.twins.keys().copied().collect();
        let Some(id) = ids.get(usize::from(pick) % ids.len().max(1)).copied() else { return };
        let (Some(twin), node) = (self.twins.get_mut(&id), self.cluster.node_mut(id)) else { return };
        twin.swap(node);
        self.tell_again(id);
    }

    pub(super) fn power_loss(&mut self) {
        self.mishaps.power_losses += 1;
        // No second enclave outlives it.
        for (id, mut twin) in std::mem::take(&mut self.twins) {
            twin.swap(self.cluster.node_mut(id));
            self.begin_branch(id, twin.records);
        }
        for id in self.cluster.ids() {
            self.crash(id);
        }
    }

    /// A host whose enclave is old looks through its logs for the newest.
    pub(super) fn go_forward(&mut self, id: MemberId) {
        if let Some(mut twin) = self.twins.remove(&id) {
            twin.swap(self.cluster.node_mut(id));
            self.begin_branch(id, twin.records);
            self.tell_again(id);
        }
        if !matches!(self.standing(id), Standing::Stale(_)) {
            return;
        }
        self.mishaps.stale += 1;
        let next = self.logs.get(&id).map_or(0, |logs| logs.current + 1);
        self.turn_to(id, next);
    }

    /// A host goes on with another of the logs that it has.
    fn turn_to(&mut self, id: MemberId, pick: usize) {
        let records = self.cluster.node(id).records.clone();
        let logs = self.logs.entry(id).or_default();
        let Some(branch) = logs.branches.get_mut(logs.current) else { return };
        *branch = records;
        logs.current = pick % logs.branches.len();
        let records = logs.branches[logs.current].clone();
        self.restore(id, records);
    }

    pub(super) fn branch(&mut self, id: MemberId, pick: usize) {
        if !self.logs.contains_key(&id) || !self.lost().contains(&id) && !self.may_take_back() {
            return;
        }
        self.mishaps.branches += 1;
        self.rolled_back.insert(id);
        self.turn_to(id, pick);
    }

    pub(super) fn feed_alone(&mut self, id: MemberId, times: u8) {
        self.mishaps.fed_alone += 1;
        let waiting = self.cluster.packets.len();
        for _ in 0..times {
            self.made_up += 1;
            self.ask(id, Request::Observe(deposit_requested(MADE_UP + self.made_up)));
        }
        self.ask(id, Request::Tick);
        // They may come later.
        self.history.extend(self.cluster.packets.drain(waiting..));
    }

    /// The rival has all that its host has: the epochs, the events, the packets that wait for its member.
    pub(super) fn rival(&mut self, id: MemberId, packets: usize) {
        let known = self.rivals.remove(&id);
        let is_new = known.is_none();
        let mut rival = known.unwrap_or_else(|| {
            self.mishaps.rivals += 1;
            self.launches += 1;
            let heir = Heir::launch(self.cluster.node(id).machine, self.launches);
            Second { core: heir.core, records: Vec::new(), slot: None, noted: None }
        });
        rival.swap(self.cluster.node_mut(id));
        if is_new {
            let (manifest, certificates) =
                (self.cluster.genesis.to_canonical(), self.cluster.node(id).certificates());
            self.ask(id, Request::Start { manifest, epochs: Vec::new(), member: id, certificates });
        }
        for epoch in [&self.cluster.epochs[..], &self.epochs[..]].concat() {
            self.ask(id, Request::Amend(epoch));
        }
        for event in self.told.get(&id).cloned().unwrap_or_default() {
            self.ask(id, Request::Observe(event));
        }
        self.ask(id, Request::Tick);
        let waiting: Vec<Packet> =
            self.cluster.packets.iter().filter(|packet| packet.to == id).take(packets).cloned().collect();
        waiting.into_iter().for_each(|packet| self.deliver_once(packet));
        rival.swap(self.cluster.node_mut(id));
        self.rivals.insert(id, rival);
    }
}
