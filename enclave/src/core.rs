//! The one door: a request in, a response out.
//!
//! Whoever drives the core MUST store the outputs of a response durably, all of them in one transaction, before it acts on
//! them, MUST act on them in their order, and MAY repeat any request at any time. A refusal changes nothing but what it
//! says in a notice.
//!
//! # How a request becomes a change
//! It is judged, with the machine's help where that is needed, and becomes a [`Change`] or is refused. The change is
//! applied to the [`State`]; if that is another than before, the change is sealed into the log, and its record goes out
//! first. What others may rely on is held back until enough of them remember the record (`witness`).

use crate::admission::fresh_nonce;
use crate::ceremony::keygen::Keygen;
use crate::change::{Change, Genesis};
use crate::dao::Footing;
use crate::effects::{Effects, Outbox, OutputQueue, Turn};
use crate::journal::{Content, Journal, LogName, Reader, VaultContent, fresh_salt};
use crate::platform::Platform;
use crate::pools::vault::Vault;
use crate::seal::{LogKeys, OwnLaunch};
use crate::secret::SecretBytes;
use crate::started::Started;
use crate::state::State;
use crate::succession::Heir;
use crate::witness::Watch;
use postern_attestation::ReportData;
use postern_shared::agreement::Voters;
use postern_shared::epoch::{self, SignedEpoch};
use postern_shared::identity::Identity;
use postern_shared::ids::{Digest, MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::message::{Certificates, Envelope};
use postern_shared::policy::Trust;
use postern_shared::record::{
    KeySlot, LogHead, LogId, RECORD_VERSION, SealedError, SealedRecord, SlotHeader,
};
use postern_shared::snp::RawTcb;
use postern_shared::wire::{
    MAX_FRAME, MAX_UNDECIDED, Output, Record, Rejection, Reply, Request, Response, Standing, Status,
};
use postern_shared::witness::Memory;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Bytes that the log grows by at least between two snapshots, unless told otherwise.
const SNAPSHOT_AFTER: usize = 4 << 20;

/// An enclave.
pub struct Core<P> {
    platform: P,
    life: Life,
    outputs: OutputQueue,
    snapshot_after: usize,
}

enum Life {
    Idle,
    Restoring(Box<Restoring>),
    Succeeding(Box<Heir>),
    Started(Box<Started>),
}

/// An enclave that gets its state back.
struct Restoring {
    certificates: Certificates,
    /// The TCB that its slot is sealed at; none before there is a slot.
    tcb: Option<RawTcb>,
    /// Where the log was handed over, if it was.
    handed_over: Option<LogHead>,
    reader: Reader,
    /// Until there is a state to take it.
    vault: Vault,
    state: Option<State>,
}

impl<P: Platform> Core<P> {
    /// A core that waits to be started or restored.
    pub fn new(platform: P) -> Self {
        let (life, outputs, snapshot_after) = (Life::Idle, OutputQueue::default(), SNAPSHOT_AFTER);
        Self { platform, life, outputs, snapshot_after }
    }

    /// Writes a snapshot when the log has grown by so many bytes, and by twice the size of the last.
    pub fn with_snapshots_after(self, bytes: usize) -> Self {
        Self { snapshot_after: bytes, ..self }
    }

    /// A host's connection begins: whoever drives the core MUST say so before the first request that comes over it. What
    /// was handed out before, perhaps to another host, can't be acknowledged on it until it was handed out on it too.
    pub fn connected(&mut self) {
        self.outputs.connect();
    }

    /// Whether this machine is of no more use ([`Platform::is_lost`]): whoever drives the core ends it then.
    pub fn is_lost(&self) -> bool {
        self.platform.is_lost()
    }

    /// Applies one request. Never blocks, never panics; bounded work, bounded output.
    pub fn handle(&mut self, request: Request) -> Response {
        let mut groups = Outbox::default();
        let reply = match self.apply(request, &mut groups) {
            Ok(reply) => reply,
            Err(rejection) => Reply::Rejected(rejection),
        };
        self.outputs.append(groups);
        // Half a frame leaves room for everything else in it, and for one group that is longer.
        let (outputs, more) = self.outputs.next(MAX_FRAME / 2);
        Response { reply, outputs, more }
    }

    /// The keygen of a pool, to look at.
    pub fn keygen(&self, pool: PoolId) -> Option<&Keygen> {
        match &self.life {
            Life::Started(started) => started.state.pools.keygens.current(pool),
            _ => None,
        }
    }

    /// The manifest that this enclave goes by, to look at.
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.life {
            Life::Started(started) => Some(&started.state.dao.manifest),
            _ => None,
        }
    }

    /// What this enclave remembers of a member's log, to look at.
    pub fn memory(&self, member: MemberId) -> Option<&Memory> {
        match &self.life {
            Life::Started(started) => started.state.notes.memory(member),
            _ => None,
        }
    }

    /// The enclave that was admitted for a member, to look at.
    pub fn enclave(&self, member: MemberId) -> Option<&Identity> {
        match &self.life {
            Life::Started(started) => started.state.dao.admission.enclave(member),
            _ => None,
        }
    }

    fn apply(&mut self, request: Request, outbox: &mut Outbox) -> Result<Reply, Rejection> {
        match request {
            Request::Status => return Ok(Reply::Status(Box::new(self.status()))),
            Request::Resume => {
                self.outputs.repeat();
                return Ok(Reply::Done);
            }
            Request::Acknowledge(through) => {
                return self.outputs.acknowledge(through).map(|()| Reply::Done);
            }
            _ if !self.outputs.has_room() => return Err(Rejection::Busy),
            // Over zeros, which no identity hashes to: a host that chose the data could pose as an enclave.
            Request::Report => {
                let report = self.platform.report(&ReportData([0; 64])).map_err(|_| Rejection::Platform)?;
                return Ok(Reply::Report(report));
            }
            Request::Start { manifest, epochs, member, certificates } => {
                return self.start(&manifest, &epochs, member, certificates, outbox);
            }
            Request::Restore { slot, certificates } => return self.restore(&slot, certificates),
            Request::Records(records) => return self.read(&records, outbox),
            Request::Restored => return self.restored(outbox),
            Request::Succeed { manifest, epochs, member, certificates } => {
                return self.succeed(&manifest, &epochs, member, certificates, outbox);
            }
            Request::Meet(introduction) => {
                let Life::Succeeding(heir) = &mut self.life else { return Err(Rejection::NoSuccession) };
                let attestation = heir.meet(&introduction, &mut self.platform)?;
                return Ok(Reply::Attestation(Box::new(attestation)));
            }
            Request::TakeOver(envelope) => return self.take_over(&envelope),
            _ => {}
        }
        let Life::Started(started) = &mut self.life else { return Err(Rejection::NotStarted) };
        let result = started.serve(request, &mut Turn { platform: &mut self.platform, outbox });
        if started.state.notes.is_acting() && started.journal.wants_snapshot(self.snapshot_after) {
            // What was asked is done in any case; a snapshot that failed is tried again.
            let _ = started.write_snapshot(&mut Turn { platform: &mut self.platform, outbox });
        }
        result
    }

    fn status(&self) -> Status {
        let mut status = Status {
            identity: None,
            manifest: None,
            epoch: 0,
            admitted: Vec::new(),
            refused: Vec::new(),
            newest_output: self.outputs.newest(),
            standing: Standing::Idle,
            incarnation: 0,
            head: LogHead::START,
            waiting: None,
            undecided: Vec::new(),
        };
        match &self.life {
            Life::Idle => {}
            Life::Succeeding(_) => status.standing = Standing::Succeeding,
            Life::Restoring(restoring) => {
                status.standing = Standing::Restoring { next: restoring.reader.next() };
                status.head = restoring.reader.head();
            }
            Life::Started(started) => {
                let Started { state, journal, watch } = &**started;
                status.identity = Some(*state.dao.keys.identity());
                status.manifest = Some(state.dao.manifest.hash());
                status.epoch = state.dao.manifest.epoch;
                status.admitted = state.dao.admission.members();
                status.refused = state.dao.admission.refused().cloned().collect();
                status.standing = match state.dao.footing() {
                    Footing::Candidate => Standing::Candidate,
                    Footing::Named => watch.standing(&state.notes, state.dao.manifest.quorum()),
                    Footing::Replaced => Standing::Replaced,
                };
                status.undecided = state.undecided().take(MAX_UNDECIDED).collect();
                status.waiting = watch.awaits_cut().then(|| Box::new(started.waiting()));
                status.incarnation = state.notes.own().ballot.incarnation;
                status.head = journal.head();
            }
        }
        status
    }

    fn start(
        &mut self,
        first: &[u8],
        epochs: &[SignedEpoch],
        member: MemberId,
        certificates: Certificates,
        outbox: &mut Outbox,
    ) -> Result<Reply, Rejection> {
        let chain = self.check_manifest(first, epochs, member)?;
        let manifest = chain.last().ok_or(Rejection::InvalidManifest)?;
        if let Life::Started(started) = &mut self.life {
            if started.state.dao.genesis != manifest.genesis() || started.state.dao.own() != member {
                return Err(Rejection::StartedOtherwise);
            }
            return started
                .state
                .dao
                .renew(certificates, &mut Turn { platform: &mut self.platform, outbox })
                .map(|()| Reply::Done);
        }
        let failed = |_| Rejection::Platform;
        let mut seed = Zeroizing::new([0; 32]);
        self.platform.fill_random(&mut seed[..]).map_err(failed)?;
        let (mut log, nonce) = ([0; 32], fresh_nonce(&mut self.platform)?);
        self.platform.fill_random(&mut log).map_err(failed)?;
        // If the member has an enclave, this one can only be for the machine after it.
        let machine = match manifest.identity(member) {
            Some(named) => named.machine.checked_add(1).ok_or(Rejection::InvalidManifest)?,
            None => 0,
        };
        let (manifest, seed) = (manifest.to_canonical(), SecretBytes::of(&seed[..]));
        let (pool_managers, voters) = (epoch::pool_managers(&chain), Voters::of_all(&chain));
        let log = LogId(log);
        let named = chain.iter().flat_map(Manifest::identities);
        let identities: BTreeMap<_, _> = named.map(|named| ((named.member, named.machine), named)).collect();
        let identities = identities.into_values().collect();
        let genesis =
            Genesis { manifest, member, machine, seed, nonce, log, pool_managers, voters, identities };
        let mut state =
            State::begin(&genesis, self.platform.trust_anchor().clone()).ok_or(Rejection::InvalidManifest)?;
        state.dao.renew(certificates, &mut Turn { platform: &mut self.platform, outbox })?;
        let name = LogName { dao: state.dao.genesis, member, log };
        let keys = LogKeys::draw(&mut self.platform).map_err(failed)?;
        let journal = Journal::new(keys, name, LogHead::START);
        outbox.output(make_slot(&journal, &mut self.platform)?);
        let mut started = Started { state, journal, watch: Watch::default() };
        started
            .commit(Change::Begun(Box::new(genesis)), &mut Turn { platform: &mut self.platform, outbox })?;
        self.life = Life::Started(Box::new(started));
        Ok(Reply::Done)
    }

    /// All manifests of a DAO that this member is in, the newest last.
    fn check_manifest(
        &self,
        first: &[u8],
        epochs: &[SignedEpoch],
        member: MemberId,
    ) -> Result<Vec<Manifest>, Rejection> {
        let first = Manifest::from_canonical(first).map_err(|_| Rejection::InvalidManifest)?;
        // What has happened under manifests before it, this enclave could not judge: who voted in agreements, for one.
        if first.history.is_some() {
            return Err(Rejection::InvalidManifest);
        }
        let manifests = epoch::chain(&first, epochs).map_err(|_| Rejection::InvalidEpoch)?;
        let newest = manifests.last().unwrap_or(&first);
        newest.member(member).ok_or(Rejection::NotAMember(member))?;
        self.check_trust(newest)?;
        Ok(manifests)
    }

    fn check_trust(&self, manifest: &Manifest) -> Result<(), Rejection> {
        let anchor = self.platform.trust_anchor();
        let trusted = match manifest.attestation.trust {
            Trust::Amd => anchor.is_amd(),
            Trust::Simulation { root } => !anchor.is_amd() && Digest(anchor.fingerprint()) == root,
        };
        if trusted { Ok(()) } else { Err(Rejection::WrongTrust) }
    }

    fn restore(&mut self, slot: &KeySlot, certificates: Certificates) -> Result<Reply, Rejection> {
        // A state that is known to be old may be replaced; one that is not, never.
        if matches!(&self.life, Life::Started(started) if started.watch.stale.is_none()) {
            return Err(Rejection::StartedOtherwise);
        }
        let own = OwnLaunch::read(&mut self.platform).map_err(|_| Rejection::Platform)?;
        let keys = LogKeys::from_slot(slot, &own, &mut self.platform).map_err(Rejection::Sealed)?;
        let reader = Reader::new(keys, LogName::of(&slot.header));
        let (tcb, handed_over) = (Some(slot.header.tcb), None);
        self.life = Life::Restoring(Box::new(Restoring {
            certificates,
            tcb,
            handed_over,
            reader,
            vault: Vault::default(),
            state: None,
        }));
        Ok(Reply::Done)
    }

    fn succeed(
        &mut self,
        first: &[u8],
        epochs: &[SignedEpoch],
        member: MemberId,
        certificates: Certificates,
        outbox: &mut Outbox,
    ) -> Result<Reply, Rejection> {
        if matches!(self.life, Life::Started(_)) {
            return Err(Rejection::StartedOtherwise);
        }
        let manifest = self.check_manifest(first, epochs, member)?.pop().ok_or(Rejection::InvalidManifest)?;
        let heir =
            Heir::new(manifest, member, certificates, &mut Turn { platform: &mut self.platform, outbox })?;
        let challenge = heir.challenge();
        self.life = Life::Succeeding(Box::new(heir));
        Ok(Reply::Challenge(challenge))
    }

    fn take_over(&mut self, envelope: &Envelope) -> Result<Reply, Rejection> {
        let Life::Succeeding(heir) = &self.life else { return Err(Rejection::NoSuccession) };
        let (name, inheritance) = heir.open(envelope)?;
        let keys = LogKeys::restore(&inheritance.keys).ok_or(Rejection::Malformed)?;
        self.life = Life::Restoring(Box::new(Restoring {
            certificates: heir.certificates.clone(),
            tcb: None,
            handed_over: Some(inheritance.head),
            reader: Reader::new(keys, name),
            vault: Vault::default(),
            state: None,
        }));
        Ok(Reply::Done)
    }

    fn read(&mut self, records: &[SealedRecord], outbox: &mut Outbox) -> Result<Reply, Rejection> {
        for record in records {
            let Life::Restoring(restoring) = &mut self.life else { return Err(Rejection::NotRestoring) };
            if let Err(rejection) = restoring.read(record, &mut Turn { platform: &mut self.platform, outbox })
            {
                self.life = Life::Idle;
                return Err(rejection);
            }
        }
        Ok(Reply::Done)
    }

    fn restored(&mut self, outbox: &mut Outbox) -> Result<Reply, Rejection> {
        let restoring = match core::mem::replace(&mut self.life, Life::Idle) {
            Life::Restoring(restoring) => *restoring,
            other => {
                self.life = other;
                return Err(Rejection::NotRestoring);
            }
        };
        let Restoring { tcb, handed_over, reader, state, .. } = restoring;
        if let Some(end) = handed_over.filter(|end| *end != reader.head()) {
            let (expected, found) = (end.number, reader.head().number);
            return Err(Rejection::Sealed(SealedError::HandedOverAt { expected, found }));
        }
        let (journal, vault) = reader.finish().map_err(Rejection::Sealed)?;
        let state = state.ok_or(Rejection::Sealed(SealedError::Incomplete))?;
        if state.pools.vault.head() != vault {
            let (expected, found) = (vault.count, state.pools.vault.head().count);
            return Err(Rejection::Sealed(SealedError::Vault { expected, found }));
        }
        self.check_trust(&state.dao.manifest)?;
        let mut started = Started { state, journal, watch: Watch::default() };
        if handed_over.is_some() {
            started = started.take_over(&mut Turn { platform: &mut self.platform, outbox })?;
        } else {
            let own = OwnLaunch::read(&mut self.platform).map_err(|_| Rejection::Platform)?;
            if tcb != Some(own.committed_tcb) {
                // Firmware was updated: what is older must not open the log for ever.
                outbox.output(make_slot(&started.journal, &mut self.platform)?);
            }
        }
        started.come_back_restored(&mut Turn { platform: &mut self.platform, outbox })?;
        self.life = Life::Started(Box::new(started));
        Ok(Reply::Done)
    }
}

/// The keys to a log, sealed to this enclave.
pub(crate) fn make_slot(journal: &Journal, platform: &mut impl Platform) -> Result<Output, Rejection> {
    let own = OwnLaunch::read(platform).map_err(|_| Rejection::Platform)?;
    let name = journal.name();
    let header = SlotHeader {
        version: RECORD_VERSION,
        dao: name.dao,
        member: name.member,
        log: name.log,
        measurement: own.measurement,
        policy: own.policy,
        tcb: own.committed_tcb,
        salt: fresh_salt(platform)?,
    };
    let slot = journal.keys().to_slot(header, platform).map_err(|_| Rejection::Platform)?;
    Ok(Output::Store(Record::Slot(Box::new(slot))))
}

impl Restoring {
    fn read(&mut self, record: &SealedRecord, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        let number = record.header.number;
        let incomplete = Rejection::Sealed(SealedError::Incomplete);
        let mut gated = Vec::new();
        match self.reader.read(record).map_err(Rejection::Sealed)? {
            Content::Nothing => {}
            // Another build's changes: only what it packed for us is ours to read.
            Content::Change(_) if self.handed_over.is_some() => return Err(incomplete),
            Content::Change(change) => {
                if let (Change::Begun(genesis), None) = (&*change, &self.state) {
                    let state = State::begin(genesis, turn.platform.trust_anchor().clone());
                    self.begin(state.ok_or(incomplete)?, turn)?;
                }
                let state = self.state.as_mut().ok_or(incomplete)?;
                let mut effects = Effects::default();
                // What it refused then it refuses now.
                let _ = state.apply(&change, &mut effects);
                gated = effects.into_parts().0;
            }
            Content::Vault(VaultContent { settled, .. }) => match &mut self.state {
                Some(state) => state.pools.keep_settled(settled),
                None => self.vault.keep(settled),
            },
            Content::Snapshot(items) => {
                let vault = core::mem::take(&mut self.vault);
                let state = State::restore(items, vault, turn.platform.trust_anchor().clone());
                let state = state.ok_or(Rejection::Sealed(SealedError::Content { number }))?;
                self.begin(state, turn)?;
            }
        }
        // Like when it was written: every record of an enclave that acts is a place that it has come to.
        if let Some(state) = &mut self.state {
            state.recorded(self.reader.head(), gated);
        }
        Ok(())
    }

    /// From here on there is an identity: with its evidence, what is restored can be shown to others.
    fn begin(&mut self, mut state: State, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        state.dao.renew(self.certificates.clone(), turn)?;
        self.state = Some(state);
        Ok(())
    }
}
