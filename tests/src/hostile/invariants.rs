//! What must hold after every event, as far as one can tell from what enclaves have said and made.

use super::world::World;
use crate::cluster::{Cluster, Node, ceremony, deposit_requested_of, exit_requested_of, kind, pubkey};
use crate::corruption::disclosed::Adversary;
use aho_corasick::AhoCorasick;
use postern_shared::bls::PublicKey;
use postern_shared::codec;
use postern_shared::events::ChainEvent;
use postern_shared::identity::Identity;
use postern_shared::ids::{CeremonyId, ManifestHash, MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::message::{Broadcast, EnvelopeHeader, Slot, Step};
use postern_shared::record::{RecordKind, SealedRecord};
use postern_shared::transcript::{Claim, Transcript};
use postern_shared::wire::{Artifact, MAX_FRAME};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Formatter, Result as Written};

/// A record may be that long at most: many fit a frame, whatever others send.
const MOST_RECORD: usize = MAX_FRAME / 4;
/// What a host keeps of its enclave's log may be that long at most, in a run of so few pools.
const MOST_LOG: usize = 16 << 20;

/// What must hold: the blueprint's, by number, and what the simulation adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Secrets stay secret.
    I1,
    /// Fewer than t can do nothing.
    I2,
    /// What is signed is what was agreed on.
    I3,
    /// Secrets go to real enclaves only.
    I4,
    /// Honest enclaves agree, and convict nobody honest.
    I5,
    /// What an enclave has answered for survives.
    I6,
    /// Old state does nothing.
    I7,
    /// Whatever others send, a record fits a frame several times.
    RecordSize,
    /// Whatever others send, a log stays short.
    LogSize,
    /// Honest hosts bring what nobody has spoiled to an end.
    Liveness,
    /// Nothing that comes makes an enclave panic.
    Panic,
    /// What a test adds.
    Planted,
}

impl Display for Invariant {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        match self {
            Self::RecordSize => write!(f, "record size"),
            Self::LogSize => write!(f, "log size"),
            Self::Liveness => write!(f, "liveness"),
            Self::Panic => write!(f, "panic"),
            Self::Planted => write!(f, "planted"),
            numbered => write!(f, "{numbered:?}"),
        }
    }
}

impl Invariant {
    /// This one does not hold.
    pub fn broken(self, what: impl Into<String>) -> Broken {
        Broken { invariant: self, what: what.into(), round: None }
    }
}

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub invariant: Invariant,
    /// How that shows.
    pub what: String,
    /// In which round of honest hosts, if they were to finish.
    pub round: Option<usize>,
}

impl Broken {
    pub(super) fn in_round(self, round: usize) -> Self {
        Self { round: Some(round), ..self }
    }
}

impl Display for Broken {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// The most that any honest enclave has made its host keep, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// In one record.
    pub record: usize,
    /// In one log.
    pub log: usize,
}

/// What is known of what enclaves have said and made.
pub(super) struct Watch {
    /// What every enclave has said in every slot: hosts keep it for those that lack it.
    pub said: BTreeMap<Slot, Broadcast>,
    /// Who was proved to have cheated.
    pub culprits: BTreeSet<MemberId>,
    corrupt: BTreeSet<MemberId>,
    /// All identities that real enclaves ever had.
    identities: BTreeSet<Vec<u8>>,
    /// Artifacts checked so far, by member.
    checked: BTreeMap<MemberId, usize>,
    /// The last record that was measured, by member, and the longest of all.
    measured: BTreeMap<MemberId, usize>,
    sizes: Sizes,
    keys: BTreeMap<PoolId, (MemberId, PublicKey)>,
    /// The manifests that were in force anywhere, by epoch.
    epochs: BTreeMap<u64, ManifestHash>,
    /// Finds enclaves' long-lived secrets.
    secrets: AhoCorasick,
    adversary: Adversary,
    /// Ceremonies of which a transcript was verified.
    verified: BTreeSet<(&'static str, CeremonyId)>,
    transcripts: usize,
}

/// Finds the long-lived secrets of all enclaves, in raw bytes and in hexadecimal.
fn secrets(cluster: &Cluster) -> AhoCorasick {
    let raw = cluster.nodes.iter().flat_map(Node::long_lived_secrets);
    let patterns =
        raw.flat_map(|secret| [postern_shared::bytes::to_hex(&secret).split_off(2).into_bytes(), secret]);
    AhoCorasick::new(patterns).expect("the patterns fit an automaton")
}

/// The length of what an honest host keeps of a log.
fn kept(records: &[SealedRecord]) -> usize {
    let first = records.iter().rev().find_map(|record| match record.header.kind {
        RecordKind::Snapshot { first } => Some(first),
        _ => None,
    });
    let kept = records.iter().filter(|record| {
        record.header.kind == RecordKind::Vault || record.header.number >= first.unwrap_or_default()
    });
    kept.map(|record| record.ciphertext.len()).sum()
}

impl Watch {
    pub fn new(cluster: &Cluster, corrupt: &[MemberId]) -> Self {
        let corrupt: BTreeSet<MemberId> = corrupt.iter().copied().collect();
        Self {
            said: BTreeMap::new(),
            culprits: BTreeSet::new(),
            adversary: Adversary::new(cluster, corrupt.clone()),
            corrupt,
            identities: cluster.nodes.iter().map(|node| node.keys().identity().to_bytes()).collect(),
            checked: BTreeMap::new(),
            measured: BTreeMap::new(),
            sizes: Sizes::default(),
            keys: BTreeMap::new(),
            epochs: BTreeMap::new(),
            secrets: secrets(cluster),
            verified: BTreeSet::new(),
            transcripts: 0,
        }
    }

    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    pub fn all_honest(&self) -> bool {
        self.corrupt.is_empty()
    }

    /// I1, for what lives as long as an enclave; `secrecy.rs` looks for all the rest.
    fn hear(&self, seen: &[Vec<u8>]) -> Result<(), Broken> {
        if seen.iter().any(|bytes| self.secrets.is_match(bytes)) {
            return Err(Invariant::I1.broken("a host saw a secret"));
        }
        Ok(())
    }

    /// I6: what an enclave has said is what it says, whatever became of its memory. I1: nothing that honest enclaves
    /// say opens what they have dealt to each other.
    fn listen(&mut self, statement: Broadcast) -> Result<(), Broken> {
        let slot = statement.slot;
        if let Some(known) = self.said.get(&slot) {
            // A decision proves itself, by whichever signatures were here.
            let decides = slot.step == Step::Decide;
            if known.body != statement.body && !decides && !self.corrupt.contains(&slot.from) {
                let what = format!("{} has said two things at {:?}", slot.from, slot.step);
                return Err(Invariant::I6.broken(what));
            }
            return Ok(());
        }
        let opened = self.adversary.learn(&statement);
        self.said.insert(slot, statement);
        match opened {
            Some(opened) => Err(Invariant::I1.broken(opened.to_string())),
            None => Ok(()),
        }
    }

    /// I2: a guardian gives its shares of an exit when a threshold has authorised it in public, itself among them.
    fn may_give(&self, header: &EnvelopeHeader, threshold: usize) -> Result<(), Broken> {
        let Slot { ceremony, from, step, .. } = header.slot;
        if step != Step::Share || self.corrupt.contains(&from) {
            return Ok(());
        }
        let first = Slot { ceremony, from: MemberId(0), step: Step::Commit, item: 0 };
        let of_ceremony = self.said.range(first..).take_while(|(slot, _)| slot.ceremony == ceremony);
        let said = of_ceremony.filter(|(slot, _)| slot.step == Step::Authorise).map(|(slot, _)| slot.from);
        let authorised: BTreeSet<MemberId> = said.chain(self.corrupt.iter().copied()).collect();
        if authorised.len() < threshold || !authorised.contains(&from) {
            let what = format!("{from} has given shares of an exit that {} had authorised", authorised.len());
            return Err(Invariant::I2.broken(what));
        }
        Ok(())
    }

    fn measure(&mut self, id: MemberId, records: &[SealedRecord]) -> Result<(), Broken> {
        let measured = self.measured.insert(id, records.len()).unwrap_or_default();
        if self.corrupt.contains(&id) || measured == records.len() {
            return Ok(());
        }
        // A log that was taken back is measured from its start.
        let from = if measured < records.len() { measured } else { 0 };
        let longest =
            records[from..].iter().map(|record| codec::encode(record).len()).max().unwrap_or_default();
        self.sizes.record = self.sizes.record.max(longest);
        if longest >= MOST_RECORD {
            let what = format!("{id} has sealed a record of {longest} bytes; {MOST_RECORD} are too many");
            return Err(Invariant::RecordSize.broken(what));
        }
        let log = kept(records);
        self.sizes.log = self.sizes.log.max(log);
        if log > MOST_LOG {
            let what = format!("{id} has a log of {log} bytes; {MOST_LOG} are enough");
            return Err(Invariant::LogSize.broken(what));
        }
        Ok(())
    }
}

impl World {
    /// Checks what hosts have seen and what enclaves have published since the last time.
    pub(super) fn check(&mut self) -> Result<(), Broken> {
        self.listen();
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        let forgetful = self.cluster.places.forgetful();
        if let Some((id, slot)) = forgetful.filter(|(id, _)| !self.watch.corrupt.contains(id)) {
            let what =
                format!("{id} has spoken at {:?} from a log that lacks what it has answered for", slot.step);
            return Err(Invariant::I7.broken(what));
        }
        let seen = self.cluster.seen.replace(Vec::new()).unwrap_or_default();
        self.watch.hear(&seen)?;
        self.check_manifests()?;
        for id in self.cluster.ids() {
            self.watch.measure(id, &self.cluster.node(id).records)?;
            let from = self.watch.checked.get(&id).copied().unwrap_or_default();
            let artifacts: Vec<Artifact> = self.cluster.node(id).artifacts[from..].to_vec();
            self.watch.checked.insert(id, from + artifacts.len());
            for artifact in &artifacts {
                self.check_artifact(id, artifact)?;
            }
        }
        Ok(())
    }

    /// I5: one epoch follows on another, wherever it is in force.
    fn check_manifests(&mut self) -> Result<(), Broken> {
        let agree = self.must_agree();
        for node in &self.cluster.nodes {
            let Some(manifest) = node.core.manifest() else { continue };
            let known = *self.watch.epochs.entry(manifest.epoch).or_insert(manifest.hash());
            if known != manifest.hash() && agree {
                let what = format!("two manifests are in force in epoch {}", manifest.epoch);
                return Err(Invariant::I5.broken(what));
            }
        }
        Ok(())
    }

    /// Hears what enclaves have said since the last time.
    pub(super) fn listen(&mut self) {
        for statement in std::mem::take(&mut self.cluster.said) {
            if let Err(broken) = self.watch.listen(statement) {
                self.broken.get_or_insert(broken);
            }
        }
        let threshold = usize::from(self.cluster.manifest.thresholds.guardian);
        for header in std::mem::take(&mut self.cluster.sealed) {
            if let Err(broken) = self.watch.may_give(&header, threshold) {
                self.broken.get_or_insert(broken);
            }
        }
    }

    /// Who is in favour of an event: hosts that told it, and enclaves that are corrupted.
    fn in_favour(&self, event: &ChainEvent) -> usize {
        let told = |id: &MemberId| self.told.get(id).is_some_and(|events| events.contains(event));
        let favours = |id: &MemberId| told(id) || self.watch.corrupt.contains(id);
        self.cluster.ids().iter().filter(|id| favours(id)).count()
    }

    fn check_artifact(&mut self, id: MemberId, artifact: &Artifact) -> Result<(), Broken> {
        match artifact {
            Artifact::Deposit { pool, data, .. } => {
                // I2: a committee took part. I5: no two enclaves disagree on a pool's key.
                let (all, threshold) = {
                    let Manifest { members, thresholds, .. } = &self.cluster.manifest;
                    (members.len(), usize::from(thresholds.operator))
                };
                if self.in_favour(&deposit_requested_of(*pool)) < (all + threshold).div_ceil(2) {
                    let what = format!("{pool}'s deposit was signed on too few hosts' word");
                    return Err(Invariant::I2.broken(what));
                }
                let (first, known) = *self.watch.keys.entry(*pool).or_insert((id, data.message.pubkey));
                if known != data.message.pubkey && self.must_agree() {
                    return Err(
                        Invariant::I5.broken(format!("{first} and {id} disagree on the key of {pool}"))
                    );
                }
                if pubkey(self.cluster.node(id), *pool) != Some(known) {
                    return Err(Invariant::I5.broken(format!("{id} has made two keys for {pool}")));
                }
            }
            Artifact::Exit { pool, exit } => {
                // I2: a threshold of guardians wanted it. I3: what is signed is what was agreed on.
                let needed = usize::from(self.cluster.manifest.thresholds.guardian);
                if self.in_favour(&exit_requested_of(*pool)) < needed {
                    let what = format!("{pool}'s exit was released on too few hosts' word");
                    return Err(Invariant::I2.broken(what));
                }
                if exit.message.validator_index != 1000 + u64::from(pool.number) {
                    return Err(Invariant::I3.broken(format!("{pool}'s exit is for another validator")));
                }
                let Some((_, key)) = self.watch.keys.get(pool) else {
                    return Err(Invariant::I3.broken("an exit for a key that was never made"));
                };
                let network = self.cluster.manifest.network;
                let root =
                    exit.message.signing_root(network.capella_fork_version, network.genesis_validators_root);
                key.verify(&root.0, &exit.signature)
                    .map_err(|_| Invariant::I3.broken(format!("{pool}'s exit does not verify")))?;
            }
            Artifact::Transcript(transcript) => self.check_transcript(id, transcript)?,
            Artifact::Fork(fork) => {
                if fork.culprits().is_empty() {
                    return Err(Invariant::I5.broken("a fork that convicts nobody"));
                }
            }
        }
        Ok(())
    }

    fn check_transcript(&mut self, id: MemberId, transcript: &Transcript) -> Result<(), Broken> {
        // Verifying costs as much as the ceremony: always the first of a ceremony, then one in four.
        self.watch.transcripts += 1;
        let first = self.watch.verified.insert((kind(transcript), ceremony(transcript)));
        if !first && !self.watch.transcripts.is_multiple_of(4) {
            return Ok(());
        }
        let in_force = transcript.manifest().is_ok_and(|manifest| {
            self.watch.epochs.get(&manifest.epoch).is_some_and(|hash| *hash == manifest.hash())
        });
        if !in_force && self.must_agree() {
            return Err(
                Invariant::I5.broken(format!("{id} has a transcript of a manifest that is not in force"))
            );
        }
        let claim = transcript.verify().map_err(|error| {
            Invariant::I5.broken(format!("{id} published a transcript that does not verify: {error}"))
        })?;
        // I4: every participant is a real enclave.
        let real = |identity: &Identity| self.watch.identities.contains(&identity.to_bytes());
        if !transcript.roster().iter().all(|attested| real(&attested.identity)) {
            return Err(Invariant::I4.broken(format!("{id} took a stranger for a member")));
        }
        if let Claim::Cheated { culprit, .. } = claim {
            if !self.watch.corrupt.contains(&culprit) {
                return Err(Invariant::I5.broken(format!("{id} convicted {culprit}, which is honest")));
            }
            self.watch.culprits.insert(culprit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::manifest;

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
