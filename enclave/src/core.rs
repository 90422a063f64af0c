//! The one door: a request in, a response out.
//!
//! Whoever drives the core MUST store the outputs of a response durably, all of them in one transaction, before it acts on
//! them, MUST act on them in their order, and MAY repeat any request at any time. A refusal changes nothing but what it
//! says in a notice.
//!
//! # How a request becomes a change
//! It is judged, with the machine's help where that is needed, and becomes a [`Change`] or is refused. The change is
//! applied to the [`Session`]; if that is another than before, the change is sealed into the log, and its record goes out
//! first. What others may rely on is held back until enough of them remember the record (`witness`).

use crate::admission::{Judgement, RefusedEvidence, fresh_nonce};
use crate::ceremony::keygen::Keygen;
use crate::change::{Change, Genesis};
use crate::effects::{Effects, Groups, OutputQueue};
use crate::journal::{Content, Journal, LogName, Reader, VaultContent, fresh_salt};
use crate::platform::Platform;
use crate::seal::{LogKey, OwnLaunch};
use crate::secret::SecretBytes;
use crate::session::Session;
use crate::vault::Vault;
use crate::witness::{Compared, Watch};
use postern_attestation::ReportData;
use postern_shared::codec;
use postern_shared::ids::{Digest, MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::message::{Attestation, Certificates, PeerMessage};
use postern_shared::policy::Trust;
use postern_shared::record::{
    KeySlot, LogHead, LogId, RECORD_VERSION, SealedError, SealedRecord, SlotHeader,
};
use postern_shared::wire::{
    MAX_FRAME, Notice, Output, Record, Rejection, Reply, Request, Response, StaleLog, Standing, Status,
};
use postern_shared::witness::{Note, SignedNote, Witness, WitnessMessage};
use zeroize::Zeroizing;

/// Longest message from a peer, in bytes.
const MAX_MESSAGE: usize = 1 << 20;

/// Most bytes of outputs that are let out with one record.
const MAX_RELEASED: usize = 1 << 20;

/// Bytes that the log grows by at least between two snapshots, unless told otherwise.
const SNAPSHOT_AFTER: usize = 4 << 20;

/// Bytes of items, as encoded, that make a part of a snapshot, and pools that make a vault record.
const PART_SIZE: usize = 256 << 10;
const POOLS_IN_RECORD: usize = 64;

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
    Started(Box<Started>),
}

/// An enclave that gets its state back.
struct Restoring {
    certificates: Certificates,
    /// What its slot says the slot is sealed at.
    slot: SlotHeader,
    reader: Reader,
    /// Until there is a session to take it.
    vault: Vault,
    session: Option<Session>,
}

/// An enclave that has a state.
struct Started {
    session: Session,
    journal: Journal,
    watch: Watch,
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

    /// Applies one request. Never blocks, never panics; bounded work, bounded output.
    pub fn handle(&mut self, request: Request) -> Response {
        let mut groups = Groups::default();
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
            Life::Started(started) => started.session.keygens.get(&pool),
            _ => None,
        }
    }

    fn apply(&mut self, request: Request, groups: &mut Groups) -> Result<Reply, Rejection> {
        match request {
            Request::Status => return Ok(Reply::Status(self.status())),
            Request::Resume => {
                self.outputs.repeat();
                return Ok(Reply::Done);
            }
            Request::Acknowledge(through) => {
                self.outputs.acknowledge(through);
                return Ok(Reply::Done);
            }
            _ if !self.outputs.has_room() => return Err(Rejection::Busy),
            // Over zeros, which no identity hashes to: a host that chose the data could pose as an enclave.
            Request::Report => {
                let report = self.platform.report(&ReportData([0; 64])).map_err(|_| Rejection::Platform)?;
                return Ok(Reply::Report(report));
            }
            Request::Start { manifest, member, certificates } => {
                return self.start(manifest, member, certificates, groups);
            }
            Request::Restore { slot, certificates } => return self.restore(&slot, certificates),
            Request::Records(records) => return self.read(&records, groups),
            Request::Restored => return self.restored(groups),
            _ => {}
        }
        let Life::Started(started) = &mut self.life else { return Err(Rejection::NotStarted) };
        let result = started.serve(request, &mut self.platform, groups);
        if started.session.notes.is_acting() && started.journal.wants_snapshot(self.snapshot_after) {
            started.write_snapshot(&mut self.platform, groups)?;
        }
        result
    }

    fn status(&self) -> Status {
        let mut status = Status {
            identity: None,
            manifest: None,
            admitted: Vec::new(),
            refused: Vec::new(),
            newest_output: self.outputs.newest(),
            standing: Standing::Idle,
            incarnation: 0,
            head: LogHead::START,
        };
        match &self.life {
            Life::Idle => {}
            Life::Restoring(restoring) => {
                status.standing = Standing::Restoring { next: restoring.reader.next() };
                status.head = restoring.reader.head();
            }
            Life::Started(started) => {
                let Started { session, journal, watch } = &**started;
                status.identity = Some(*session.keys.identity());
                status.manifest = Some(session.manifest.hash());
                status.admitted = session.admission.members();
                status.refused = session.admission.refused().cloned().collect();
                status.standing = watch.standing(session.manifest.members.len());
                status.incarnation = session.notes.own().incarnation;
                status.head = journal.head();
            }
        }
        status
    }

    fn start(
        &mut self,
        canonical: Vec<u8>,
        member: MemberId,
        certificates: Certificates,
        groups: &mut Groups,
    ) -> Result<Reply, Rejection> {
        if let Life::Started(started) = &mut self.life {
            if started.session.canonical != canonical || started.session.own() != member {
                return Err(Rejection::StartedOtherwise);
            }
            return started.session.renew(certificates, &mut self.platform, groups).map(|()| Reply::Done);
        }
        let manifest = Manifest::from_canonical(&canonical).map_err(|_| Rejection::InvalidManifest)?;
        manifest.member(member).ok_or(Rejection::NotAMember(member))?;
        self.check_trust(&manifest)?;
        let failed = |_| Rejection::Platform;
        let mut seed = Zeroizing::new([0; 32]);
        self.platform.fill_random(&mut seed[..]).map_err(failed)?;
        let (mut log, nonce) = ([0; 32], fresh_nonce(&mut self.platform)?);
        self.platform.fill_random(&mut log).map_err(failed)?;
        let genesis = Genesis { manifest: canonical, member, seed: SecretBytes::of(&seed[..]), nonce };
        let mut session = Session::begin(&genesis, self.platform.trust_anchor().clone())
            .ok_or(Rejection::InvalidManifest)?;
        session.renew(certificates, &mut self.platform, groups)?;
        let name = LogName { dao: session.dao, member, log: LogId(log) };
        let key = LogKey::draw(&mut self.platform).map_err(failed)?;
        let own = OwnLaunch::read(&mut self.platform).map_err(failed)?;
        let slot = make_slot(&key, name, &own, &mut self.platform)?;
        groups.output(Output::Store(Record::Slot(Box::new(slot))));
        let journal = Journal::new(key, name, LogHead::START);
        let mut started = Started { session, journal, watch: Watch::default() };
        started.commit(Change::Begun(Box::new(genesis)), &mut self.platform, groups)?;
        started.session.challenge_missing(&mut self.platform, groups)?;
        self.life = Life::Started(Box::new(started));
        Ok(Reply::Done)
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
        let key = LogKey::from_slot(slot, &own, &mut self.platform).map_err(Rejection::Sealed)?;
        let reader = Reader::new(key, LogName::of(&slot.header));
        let (slot, vault, session) = (slot.header, Vault::default(), None);
        self.life = Life::Restoring(Box::new(Restoring { certificates, slot, reader, vault, session }));
        Ok(Reply::Done)
    }

    fn read(&mut self, records: &[SealedRecord], groups: &mut Groups) -> Result<Reply, Rejection> {
        for record in records {
            let Life::Restoring(restoring) = &mut self.life else { return Err(Rejection::NotRestoring) };
            if let Err(rejection) = restoring.read(record, &mut self.platform, groups) {
                self.life = Life::Idle;
                return Err(rejection);
            }
        }
        Ok(Reply::Done)
    }

    fn restored(&mut self, groups: &mut Groups) -> Result<Reply, Rejection> {
        let restoring = match core::mem::replace(&mut self.life, Life::Idle) {
            Life::Restoring(restoring) => *restoring,
            other => {
                self.life = other;
                return Err(Rejection::NotRestoring);
            }
        };
        let Restoring { slot, reader, session, .. } = restoring;
        let (journal, vault) = reader.finish().map_err(Rejection::Sealed)?;
        let session = session.ok_or(Rejection::Sealed(SealedError::Incomplete))?;
        if session.vault.head() != vault {
            let (expected, found) = (vault.count, session.vault.head().count);
            return Err(Rejection::Sealed(SealedError::Vault { expected, found }));
        }
        self.check_trust(&session.manifest)?;
        let own = OwnLaunch::read(&mut self.platform).map_err(|_| Rejection::Platform)?;
        if slot.tcb != own.committed_tcb {
            // Firmware was updated: older firmware must not open the log for ever.
            let slot = make_slot(journal.key(), journal.name(), &own, &mut self.platform)?;
            groups.output(Output::Store(Record::Slot(Box::new(slot))));
        }
        let mut started = Started { session, journal, watch: Watch::default() };
        started.come_back(&mut self.platform, groups)?;
        self.life = Life::Started(Box::new(started));
        Ok(Reply::Done)
    }
}

fn make_slot(
    key: &LogKey,
    name: LogName,
    own: &OwnLaunch,
    platform: &mut impl Platform,
) -> Result<KeySlot, Rejection> {
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
    key.to_slot(header, platform).map_err(|_| Rejection::Platform)
}

impl Restoring {
    fn read(
        &mut self,
        record: &SealedRecord,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        let number = record.header.number;
        let incomplete = Rejection::Sealed(SealedError::Incomplete);
        match self.reader.read(record).map_err(Rejection::Sealed)? {
            Content::Nothing => {}
            Content::Change(change) => {
                if let (Change::Begun(genesis), None) = (&*change, &self.session) {
                    let session = Session::begin(genesis, platform.trust_anchor().clone());
                    self.begin(session.ok_or(incomplete)?, platform, groups)?;
                }
                let session = self.session.as_mut().ok_or(incomplete)?;
                let mut effects = Effects::default();
                // What it refused then it refuses now.
                let _ = session.apply(&change, &mut effects);
                session.recorded(self.reader.head(), effects.into_parts().0);
            }
            Content::Vault(VaultContent { settled, .. }) => match &mut self.session {
                Some(session) => {
                    session.keep_settled(settled);
                    session.recorded(self.reader.head(), Vec::new());
                }
                None => self.vault.keep(settled),
            },
            Content::Snapshot(items) => {
                let vault = core::mem::take(&mut self.vault);
                let session = Session::restore(items, vault, platform.trust_anchor().clone());
                let session = session.ok_or(Rejection::Sealed(SealedError::Content { number }))?;
                self.begin(session, platform, groups)?;
            }
        }
        Ok(())
    }

    /// From here on there is an identity: with its evidence, what is restored can be shown to others.
    fn begin(
        &mut self,
        mut session: Session,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        session.renew(self.certificates.clone(), platform, groups)?;
        self.session = Some(session);
        Ok(())
    }
}

impl Session {
    /// Uses other certificates; says which checks fail with them.
    fn renew(
        &mut self,
        certificates: Certificates,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        self.admission.renew(&self.manifest, certificates, platform).map_err(|refused| match refused {
            RefusedEvidence::Own(refused) => {
                groups.notice(Notice::Refused(refused));
                Rejection::OwnEvidence
            }
            RefusedEvidence::Other(rejection) => rejection,
        })
    }

    fn challenge_missing(
        &mut self,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        self.admission.challenge_missing(&self.manifest, platform, groups)
    }

    fn known(&self, member: MemberId) -> Result<(), Rejection> {
        self.manifest.member(member).map(|_| ()).ok_or(Rejection::NotAMember(member))
    }
}

impl Started {
    fn serve(
        &mut self,
        request: Request,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<Reply, Rejection> {
        if self.watch.stale.is_some() {
            return Err(Rejection::Stale);
        }
        match request {
            Request::Attest(nonce) => {
                let attestation = self.session.admission.answer(None, nonce, platform)?;
                return Ok(Reply::Attestation(Box::new(attestation)));
            }
            Request::Renew(certificates) => self.session.renew(certificates, platform, groups)?,
            Request::Reattest(member) => self.reattest(member, platform, groups)?,
            Request::Deliver(bytes) => self.on_message(bytes, platform, groups)?,
            Request::Tick => self.on_tick(platform, groups)?,
            Request::GoOnWithout(members) => {
                members.iter().try_for_each(|member| self.session.known(*member))?;
                self.act(Change::Without(members), platform, groups)?;
            }
            Request::Observe(event) => self.act(Change::Observed(event), platform, groups)?,
            Request::Retry(pool) => self.act(Change::Retried(pool), platform, groups)?,
            _ => return Err(Rejection::StartedOtherwise),
        }
        Ok(Reply::Done)
    }

    /// Applies a change, and seals it into the log if the state is another.
    fn commit(
        &mut self,
        change: Change,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        // First, so that a machine without randomness changes nothing.
        let salt = fresh_salt(platform)?;
        let mut effects = Effects::default();
        let result = self.session.apply(&change, &mut effects);
        let changed = effects.has_changed();
        let (gated, free) = effects.into_parts();
        if !changed {
            groups.outputs(free);
            return result;
        }
        let record = self.journal.change(&change, salt)?;
        self.session.recorded(record.head(), gated);
        groups.record(record, free);
        self.advance(groups);
        result
    }

    /// Commits what only an enclave that acts may do.
    fn act(
        &mut self,
        change: Change,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        self.must_act()?;
        self.commit(change, platform, groups)
    }

    fn must_act(&self) -> Result<(), Rejection> {
        if self.session.notes.is_acting() { Ok(()) } else { Err(Rejection::Returning) }
    }

    fn reattest(
        &mut self,
        member: Option<MemberId>,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        member.map_or(Ok(()), |member| self.session.known(member))?;
        let members: Vec<MemberId> = self.session.manifest.members.iter().map(|entry| entry.id).collect();
        for id in members.into_iter().filter(|id| member.is_none_or(|member| member == *id)) {
            self.session.admission.challenge(id, platform, groups)?;
        }
        Ok(())
    }

    fn on_tick(&mut self, platform: &mut impl Platform, groups: &mut Groups) -> Result<(), Rejection> {
        self.session.challenge_missing(platform, groups)?;
        if let Some(claim) = self.watch.claimed() {
            let claim = Witness::Return(*claim);
            self.say_to_all(claim, groups);
        }
        if let Some(note) = self.watch.in_flight() {
            let note = Witness::Advance(*note);
            self.say_to_all(note, groups);
        }
        if self.session.notes.is_acting() {
            self.act(Change::Ticked, platform, groups)?;
        }
        Ok(())
    }

    fn on_message(
        &mut self,
        bytes: Vec<u8>,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Rejection::Malformed);
        }
        let own = self.session.own();
        match codec::decode(&bytes).map_err(|_| Rejection::Malformed)? {
            PeerMessage::Challenge(challenge) => {
                let asker = challenge.from.member;
                if challenge.to != own || asker == own {
                    return Err(Rejection::Misdirected);
                }
                self.session.known(asker)?;
                self.session.admission.on_challenge(&challenge, platform, groups)
            }
            PeerMessage::Evidence(answer) => self.on_evidence(&answer, platform, groups),
            PeerMessage::Broadcast(_) | PeerMessage::Envelope(_) => {
                self.act(Change::Heard(bytes), platform, groups)
            }
            PeerMessage::Witness(message) => self.on_witness(*message, platform, groups),
        }
    }

    fn on_evidence(
        &mut self,
        answer: &Attestation,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        let member = answer.identity.member;
        match self.session.admission.on_evidence(&self.session.manifest, answer)? {
            Judgement::Known => Ok(()),
            Judgement::Admit(admitted) => {
                self.commit(Change::Admitted(admitted), platform, groups)?;
                groups.notice(Notice::Admitted(member));
                match self.watch.returned.remove(&member) {
                    Some(claim) => self.answer_return(claim, platform, groups),
                    None => Ok(()),
                }
            }
            Judgement::Refuse(refused) => {
                if refused.cut_off {
                    self.commit(Change::CutOff(refused.clone()), platform, groups)?;
                }
                groups.notice(Notice::Refused(refused));
                Err(Rejection::Evidence)
            }
        }
    }

    /// Writes everything anew, so that the records before may be forgotten.
    fn write_snapshot(&mut self, platform: &mut impl Platform, groups: &mut Groups) -> Result<(), Rejection> {
        loop {
            let settled = self.session.settled(POOLS_IN_RECORD);
            if settled.is_empty() {
                break;
            }
            let salt = fresh_salt(platform)?;
            let content = VaultContent { follows: self.session.vault.head(), settled };
            let record = self.journal.vault(&content, salt)?;
            self.session.keep_settled(content.settled);
            self.session.recorded(record.head(), Vec::new());
            groups.record(record, Vec::new());
        }
        let first = self.journal.head().number.saturating_add(1);
        let (mut part, mut part_size, mut size) = (Vec::new(), 0, 0_usize);
        let mut items = self.session.items().peekable();
        let mut records = Vec::new();
        while let Some(item) = items.next() {
            part_size += codec::encode_secret(&item).len();
            part.push(item);
            if part_size >= PART_SIZE || items.peek().is_none() {
                let record = self.journal.part(&core::mem::take(&mut part), fresh_salt(platform)?)?;
                size = size.saturating_add(record.ciphertext.len());
                part_size = 0;
                records.push(record);
            }
        }
        drop(items);
        let vault = self.session.vault.head();
        records.push(self.journal.snapshot(first, size, vault, fresh_salt(platform)?)?);
        for record in records {
            self.session.recorded(record.head(), Vec::new());
            groups.record(record, Vec::new());
        }
        Ok(())
    }
}

/// The rollback guard: see `witness`.
impl Started {
    /// Sends a note of the log's place, if outputs wait for it and none is on its way.
    fn advance(&mut self, groups: &mut Groups) {
        let covers = self.session.held.len();
        if covers == 0 || !self.session.notes.is_acting() || self.watch.in_flight().is_some() {
            return;
        }
        let note = self.session.keys.sign_note(self.session.dao, self.session.notes.own());
        self.watch.send(note, covers);
        self.say_to_all(Witness::Advance(note), groups);
    }

    /// Begins another incarnation and asks for leave to act.
    fn come_back(&mut self, platform: &mut impl Platform, groups: &mut Groups) -> Result<(), Rejection> {
        let nonce = fresh_nonce(platform)?;
        self.commit(Change::Returned(nonce), platform, groups)?;
        let claim = self.session.keys.sign_note(self.session.dao, self.session.notes.own());
        self.watch.claim(claim);
        self.session.challenge_missing(platform, groups)?;
        self.say_to_all(Witness::Return(claim), groups);
        Ok(())
    }

    fn on_witness(
        &mut self,
        message: WitnessMessage,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        let from = message.from;
        if from == self.session.own() {
            return Err(Rejection::Misdirected);
        }
        let speaker = self.session.admission.identity(from).ok_or(Rejection::NotAdmitted(from))?;
        if !message.verify(self.session.dao, speaker) {
            return Err(Rejection::NotAuthentic);
        }
        match message.witness {
            Witness::Advance(signed) => {
                self.check_note(from, &signed)?;
                self.must_act()?;
                self.on_advance(signed, platform, groups)
            }
            Witness::Noted(note) => self.on_noted(from, &note, platform, groups),
            Witness::Return(signed) => {
                self.check_note(from, &signed)?;
                // Noted before: it has proved itself in this incarnation.
                if matches!(self.session.notes.compare(&signed.note), Compared::Same) {
                    return self.answer_return(signed, platform, groups);
                }
                if self.watch.returned.insert(from, signed) != Some(signed) {
                    self.session.admission.forget_challenge(from);
                }
                self.session.admission.challenge(from, platform, groups)
            }
            Witness::Known { claim, acting, notes } => {
                self.on_known(from, &claim, acting, &notes, platform, groups)
            }
        }
    }

    /// A note that `from` sends of itself.
    fn check_note(&self, from: MemberId, signed: &SignedNote) -> Result<(), Rejection> {
        let speaker = self.session.admission.identity(from).ok_or(Rejection::NotAdmitted(from))?;
        if signed.verify(self.session.dao, speaker) { Ok(()) } else { Err(Rejection::NotAuthentic) }
    }

    fn on_advance(
        &mut self,
        signed: SignedNote,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        let note = signed.note;
        match self.session.notes.compare(&note) {
            Compared::Late => return Ok(()),
            Compared::Same => {}
            Compared::Newer => self.commit(Change::Noted(signed), platform, groups)?,
            Compared::Stale(_) => return self.answer_return(signed, platform, groups),
        }
        self.say(note.member, Witness::Noted(note), groups);
        Ok(())
    }

    fn on_noted(
        &mut self,
        from: MemberId,
        note: &Note,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        let members = self.session.manifest.members.len();
        let Some(mut left) = self.watch.noted(from, note, members) else { return Ok(()) };
        while left > 0 {
            let mut size = 0_usize;
            let outputs = self.session.held.iter().take(left).take_while(|output| {
                let first = size == 0;
                size = size.saturating_add(codec::encode(*output).len());
                first || size <= MAX_RELEASED
            });
            let count = outputs.count();
            // At least one is, and a log that can't be written lets out nothing.
            left = left.saturating_sub(count.max(1));
            self.commit(Change::Released(u32::try_from(count).unwrap_or(u32::MAX)), platform, groups)?;
        }
        Ok(())
    }

    /// Says what is known of a member that claims a place in its log; remembers the claim if nothing is against it.
    fn answer_return(
        &mut self,
        signed: SignedNote,
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        let claim = signed.note;
        match self.session.notes.compare(&claim) {
            Compared::Newer => self.commit(Change::Noted(signed), platform, groups)?,
            Compared::Same => {}
            Compared::Late => return Ok(()),
            Compared::Stale(kind) => {
                let known = self.session.notes.others().find(|known| known.note.member == claim.member);
                if let Some(known) = known {
                    let told_by = self.session.own();
                    let stale = StaleLog { kind, own: claim, known: known.note, told_by };
                    groups.notice(Notice::StalePeer(stale));
                }
            }
        }
        let own = self.session.keys.sign_note(self.session.dao, self.session.notes.own());
        let notes = self.session.notes.others().copied().chain([own]).collect();
        let acting = self.session.notes.is_acting();
        self.say(claim.member, Witness::Known { claim, acting, notes }, groups);
        Ok(())
    }

    fn on_known(
        &mut self,
        from: MemberId,
        claim: &Note,
        acting: bool,
        notes: &[SignedNote],
        platform: &mut impl Platform,
        groups: &mut Groups,
    ) -> Result<(), Rejection> {
        let (own, dao) = (self.session.own(), self.session.dao);
        // Whoever it comes from: what this enclave itself has signed proves it.
        let mine = notes.iter().filter(|known| known.verify(dao, self.session.keys.identity()));
        for known in mine {
            if let Some(kind) = self.session.notes.own_staleness(&known.note) {
                let stale =
                    StaleLog { kind, own: self.session.notes.own(), known: known.note, told_by: from };
                self.watch.stale = Some(stale);
                groups.notice(Notice::Stale(stale));
                return Ok(());
            }
        }
        if self.watch.claimed().is_none_or(|own| own.note != *claim) {
            return Ok(());
        }
        // It must have proved itself to this launch: who was admitted before may have been broken since.
        if !self.session.admission.is_fresh(from) {
            return Err(Rejection::TooEarly);
        }
        for known in notes.iter().filter(|known| known.note.member != own) {
            let about = self.session.admission.enclave(known.note.member);
            let genuine = about.is_some_and(|identity| known.verify(dao, identity));
            if genuine && matches!(self.session.notes.compare(&known.note), Compared::Newer) {
                self.commit(Change::Noted(*known), platform, groups)?;
            }
        }
        if self.watch.known(from, acting, self.session.manifest.members.len()) {
            self.commit(Change::Resumed, platform, groups)?;
            groups.notice(Notice::Returned(self.session.notes.own().incarnation));
            self.advance(groups);
        }
        Ok(())
    }

    fn say(&self, to: MemberId, witness: Witness, groups: &mut Groups) {
        groups.send_to(to, &self.witness(witness));
    }

    fn say_to_all(&self, witness: Witness, groups: &mut Groups) {
        groups.send_all(&self.witness(witness));
    }

    fn witness(&self, witness: Witness) -> PeerMessage {
        PeerMessage::Witness(Box::new(self.session.keys.sign_witness(self.session.dao, witness)))
    }
}
