//! The one door: a request in, a response out.
//!
//! Whoever drives the core MUST store the outputs of a response durably before it acts on them, MUST act on them in
//! their order, and MAY repeat any request at any time. A refusal changes nothing but what it says in a notice.

use crate::admission::Admission;
use crate::ceremony::keygen::Keygen;
use crate::ceremony::presign::Presign;
use crate::ceremony::release::Release;
use crate::ceremony::{Me, Setting};
use crate::coins::Coins;
use crate::effects::{Effects, OutputQueue};
use crate::keys::IdentityKeys;
use crate::ledger::Ledger;
use crate::platform::Platform;
use postern_attestation::ReportData;
use postern_shared::codec;
use postern_shared::ethereum::VoluntaryExit;
use postern_shared::identity::Roster;
use postern_shared::ids::{CeremonyId, Digest, MemberId, PoolId};
use postern_shared::keygen::KeygenTerms;
use postern_shared::manifest::Manifest;
use postern_shared::message::{Broadcast, Certificates, Envelope, PeerMessage};
use postern_shared::policy::Trust;
use postern_shared::presign::PresignTerms;
use postern_shared::release::ReleaseTerms;
use postern_shared::wire::{MAX_FRAME, Rejection, Reply, Request, Response, Status};
use std::collections::{BTreeMap, BTreeSet};
use zeroize::Zeroizing;

/// Most presigns and releases that are kept.
const MAX_CEREMONIES: usize = 100_000;

/// Longest message from a peer, in bytes.
const MAX_MESSAGE: usize = 1 << 20;

/// Presigned exits are valid from the first epoch on, so that they are ripe whenever they are needed.
const EXIT_EPOCH: u64 = 0;

/// An enclave's whole state.
pub struct Core<P> {
    platform: P,
    session: Option<Session>,
    outputs: OutputQueue,
}

/// An enclave that has been started.
struct Session {
    manifest: Manifest,
    canonical: Vec<u8>,
    keys: IdentityKeys,
    coins: Coins,
    admission: Admission,
    ledger: Ledger,
    attempts: BTreeMap<PoolId, u32>,
    /// Whom the host wants to go on without.
    without: BTreeSet<MemberId>,
    /// Pools of which a replaced keygen was confirmed.
    confirmed: BTreeSet<PoolId>,
    keygens: BTreeMap<PoolId, Keygen>,
    presigns: BTreeMap<CeremonyId, Presign>,
    releases: BTreeMap<CeremonyId, Release>,
}

impl<P: Platform> Core<P> {
    /// A core that waits to be started.
    pub fn new(platform: P) -> Self {
        Self { platform, session: None, outputs: OutputQueue::default() }
    }

    /// Applies one request. Never blocks, never panics; bounded work, bounded output.
    pub fn handle(&mut self, request: Request) -> Response {
        let repeats = matches!(request, Request::Resume);
        let mut effects = Effects::default();
        let reply = match self.apply(request, &mut effects) {
            Ok(reply) => reply,
            Err(rejection) => Reply::Rejected(rejection),
        };
        let outputs = if repeats {
            // Half a frame leaves room for everything else in it.
            self.outputs.repeat(MAX_FRAME / 2)
        } else {
            self.outputs.append(effects)
        };
        Response { reply, outputs }
    }

    /// The keygen of a pool, to look at.
    pub fn keygen(&self, pool: PoolId) -> Option<&Keygen> {
        self.session.as_ref()?.keygens.get(&pool)
    }

    fn apply(&mut self, request: Request, effects: &mut Effects) -> Result<Reply, Rejection> {
        match request {
            Request::Status => return Ok(Reply::Status(self.status())),
            Request::Resume => return Ok(Reply::Done),
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
                return self.start(manifest, member, certificates, effects);
            }
            _ => {}
        }
        let session = self.session.as_mut().ok_or(Rejection::NotStarted)?;
        let result = match request {
            Request::Attest(nonce) => {
                let attestation =
                    session.admission.attest_to_anybody(&session.keys, nonce, &mut self.platform)?;
                return Ok(Reply::Attestation(Box::new(attestation)));
            }
            Request::Renew(certificates) => session.renew(certificates, &mut self.platform, effects),
            Request::GoOnWithout(members) => session.go_on_without(members),
            Request::Reattest(member) => session.reattest(member, &mut self.platform, effects),
            Request::Observe(event) => session.ledger.observe(event),
            Request::Deliver(bytes) => session.on_message(&bytes, &mut self.platform, effects),
            Request::Retry(pool) => session.retry(pool, effects),
            _ => session.on_tick(&mut self.platform, effects),
        };
        session.advance(effects);
        result.map(|()| Reply::Done)
    }

    fn status(&self) -> Status {
        let session = self.session.as_ref();
        Status {
            identity: session.map(|session| *session.keys.identity()),
            manifest: session.map(|session| session.manifest.hash()),
            admitted: session.map(|session| session.admission.members().collect()).unwrap_or_default(),
            refused: session
                .map(|session| session.admission.refused().cloned().collect())
                .unwrap_or_default(),
            newest_output: self.outputs.newest(),
        }
    }

    fn start(
        &mut self,
        canonical: Vec<u8>,
        member: MemberId,
        certificates: Certificates,
        effects: &mut Effects,
    ) -> Result<Reply, Rejection> {
        if let Some(session) = &mut self.session {
            if session.canonical != canonical || session.keys.identity().member != member {
                return Err(Rejection::StartedOtherwise);
            }
            session.renew(certificates, &mut self.platform, effects)?;
            return Ok(Reply::Done);
        }
        let manifest = Manifest::from_canonical(&canonical).map_err(|_| Rejection::InvalidManifest)?;
        manifest.member(member).ok_or(Rejection::NotAMember(member))?;
        let anchor = self.platform.trust_anchor();
        let trusted = match manifest.attestation.trust {
            Trust::Amd => anchor.is_amd(),
            Trust::Simulation { root } => !anchor.is_amd() && Digest(anchor.fingerprint()) == root,
        };
        if !trusted {
            return Err(Rejection::WrongTrust);
        }
        let mut seed = Zeroizing::new([0; 32]);
        self.platform.fill_random(&mut seed[..]).map_err(|_| Rejection::Platform)?;
        let coins = Coins::new(seed);
        let keys = IdentityKeys::derive(&coins, member);
        let admission = Admission::start(&manifest, certificates, &keys, &mut self.platform, effects)?;
        let mut session = Session {
            manifest,
            canonical,
            keys,
            coins,
            admission,
            ledger: Ledger::default(),
            attempts: BTreeMap::new(),
            without: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            keygens: BTreeMap::new(),
            presigns: BTreeMap::new(),
            releases: BTreeMap::new(),
        };
        session.admission.challenge_missing(&session.manifest, &session.keys, &mut self.platform, effects)?;
        self.session = Some(session);
        Ok(Reply::Done)
    }
}

/// Lends the parts of a session that every ceremony needs, beside the ceremony itself.
macro_rules! lend {
    ($session:ident, |$me:ident, $setting:ident| $body:expr) => {{
        let $me = Me { keys: &$session.keys, coins: &$session.coins };
        let attested = |roster: &Roster| $session.admission.attested(roster);
        let $setting = Setting { manifest: &$session.canonical, attested: &attested };
        $body
    }};
}

impl Session {
    fn on_tick(&mut self, platform: &mut impl Platform, effects: &mut Effects) -> Result<(), Rejection> {
        self.admission.challenge_missing(&self.manifest, &self.keys, platform, effects)?;
        self.keygens.values().for_each(|keygen| keygen.on_tick(effects));
        lend!(self, |me, setting| {
            self.presigns.values_mut().for_each(|presign| presign.on_tick(&setting, effects));
            for release in self.releases.values_mut() {
                if self.admission.not_cut_off(release.terms().leader).is_err() {
                    continue;
                }
                if let Some(presign) = self.presigns.get(&release.terms().presign.ceremony()) {
                    release.on_tick(presign, &me, effects);
                }
            }
        });
        Ok(())
    }

    fn on_message(
        &mut self,
        bytes: &[u8],
        platform: &mut impl Platform,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Rejection::Malformed);
        }
        let own = self.keys.identity().member;
        match codec::decode(bytes).map_err(|_| Rejection::Malformed)? {
            PeerMessage::Challenge(challenge) => {
                let asker = challenge.from.member;
                if challenge.to != own || asker == own {
                    return Err(Rejection::Misdirected);
                }
                self.manifest.member(asker).ok_or(Rejection::NotAMember(asker))?;
                self.admission.on_challenge(&challenge, &self.keys, platform, effects)
            }
            PeerMessage::Evidence(answer) => {
                self.admission.on_evidence(&self.manifest, *answer, &self.keys, effects)
            }
            PeerMessage::Broadcast(statement) => self.on_statement(statement, effects),
            PeerMessage::Envelope(envelope) => self.on_envelope(&envelope, effects),
        }
    }

    fn renew(
        &mut self,
        certificates: Certificates,
        platform: &mut impl Platform,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        self.admission.renew(&self.manifest, certificates, &self.keys, platform, effects)
    }

    fn reattest(
        &mut self,
        member: Option<MemberId>,
        platform: &mut impl Platform,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        if let Some(stranger) = member.filter(|member| self.manifest.member(*member).is_none()) {
            return Err(Rejection::NotAMember(stranger));
        }
        for id in self.manifest.members.iter().map(|entry| entry.id) {
            if member.is_none_or(|member| member == id) {
                self.admission.challenge(id, &self.keys, platform, effects)?;
            }
        }
        Ok(())
    }

    fn go_on_without(&mut self, members: Vec<MemberId>) -> Result<(), Rejection> {
        let stranger = members.iter().find(|member| self.manifest.member(**member).is_none());
        if let Some(stranger) = stranger {
            return Err(Rejection::NotAMember(*stranger));
        }
        self.without = members.into_iter().collect();
        Ok(())
    }

    /// Routes an authentic statement to its ceremony. Who speaks is told by the ceremony's own roster.
    fn on_statement(&mut self, statement: Broadcast, effects: &mut Effects) -> Result<(), Rejection> {
        let from = statement.slot.from;
        let ceremony = statement.slot.ceremony;
        let authentic = |roster: &Roster| match roster.get(from) {
            None => Err(Rejection::NotAMember(from)),
            Some(speaker) if statement.signed_digest().verify(speaker) => Ok(()),
            Some(_) => Err(Rejection::NotAuthentic),
        };
        self.admission.not_cut_off(from)?;
        lend!(self, |me, setting| {
            if let Some(keygen) = self.keygens.values_mut().find(|keygen| keygen.id() == ceremony) {
                authentic(keygen.roster())?;
                // All operators make a key, or none does: with one that is cut off, it stands still.
                keygen.roster().members().try_for_each(|member| self.admission.not_cut_off(member))?;
                return keygen.on_statement(statement, &me, &setting, effects);
            }
            if let Some(presign) = self.presigns.get_mut(&ceremony) {
                authentic(presign.roster())?;
                return presign.on_statement(statement, &me, &setting, effects);
            }
            let release = self.releases.get_mut(&ceremony).ok_or(Rejection::UnknownCeremony)?;
            let presign =
                self.presigns.get(&release.terms().presign.ceremony()).ok_or(Rejection::UnknownCeremony)?;
            authentic(presign.roster())?;
            self.admission.not_cut_off(release.terms().leader)?;
            release.on_statement(statement, presign, &me, &setting, effects)
        })
    }

    fn on_envelope(&mut self, envelope: &Envelope, effects: &mut Effects) -> Result<(), Rejection> {
        let slot = envelope.header.slot;
        if envelope.header.to != self.keys.identity().member {
            return Err(Rejection::Misdirected);
        }
        self.admission.not_cut_off(slot.from)?;
        lend!(self, |me, setting| {
            let release = self.releases.get_mut(&slot.ceremony).ok_or(Rejection::UnknownCeremony)?;
            let presign =
                self.presigns.get(&release.terms().presign.ceremony()).ok_or(Rejection::UnknownCeremony)?;
            if !release.expects(envelope) {
                return Err(Rejection::Invalid);
            }
            let sender = presign.roster().get(slot.from).ok_or(Rejection::NotAMember(slot.from))?;
            let plaintext = self.keys.open(sender, envelope).ok_or(Rejection::NotAuthentic)?;
            release.on_share(slot.from, &plaintext, presign, &me, &setting, effects)
        })
    }

    fn retry(&mut self, pool: PoolId, effects: &mut Effects) -> Result<(), Rejection> {
        if !self.keygens.get(&pool).is_some_and(Keygen::is_retryable) {
            return Err(Rejection::NothingToRetry);
        }
        let attempt = self.attempts.entry(pool).or_default();
        *attempt = attempt.saturating_add(1);
        if self.keygens.remove(&pool).is_some_and(|keygen| keygen.has_confirmed()) {
            self.confirmed.insert(pool);
        }
        self.start_keygens(effects);
        Ok(())
    }

    /// Starts every ceremony whose cause is known and whose participants are admitted.
    fn advance(&mut self, effects: &mut Effects) {
        self.start_keygens(effects);
        self.start_presigns(effects);
        self.start_releases(effects);
    }

    /// Those of `members` that take part in what begins now: all but who is away, by the host's word and by our own.
    fn present(&self, members: Vec<MemberId>) -> Vec<MemberId> {
        let away =
            |member: &MemberId| self.without.contains(member) && self.admission.identity(*member).is_none();
        members.into_iter().filter(|member| !away(member)).collect()
    }

    fn start_keygens(&mut self, effects: &mut Effects) {
        let operators = self.present(self.manifest.operators());
        if !self.manifest.is_operator_committee(&operators) {
            return;
        }
        let Some(roster) = self.admission.roster(&operators) else { return };
        let all = operators == self.manifest.operators();
        let me = Me { keys: &self.keys, coins: &self.coins };
        for request in self.ledger.deposits() {
            let mut confirmed = self.confirmed.contains(&request.pool);
            if let Some(keygen) = self.keygens.get(&request.pool) {
                let terms = keygen.terms();
                let known = self.admission.roster(&terms.operators).map(|roster| roster.digest());
                // An unfinished run of enclaves that are gone is replaced, a key that counts never.
                let lives = known == Some(terms.roster);
                if keygen.key().is_some() || lives && (terms.operators == operators || keygen.has_confirmed())
                {
                    continue;
                }
                confirmed |= keygen.has_confirmed();
            }
            // Some operator may have a key by the run that this enclave confirmed. With all of them, it prevents another.
            if confirmed && !all {
                continue;
            }
            if confirmed {
                self.confirmed.insert(request.pool);
            }
            let terms = KeygenTerms {
                manifest: self.manifest.hash(),
                network: self.manifest.network,
                roster: roster.digest(),
                request: *request,
                operators: operators.clone(),
                threshold: self.manifest.thresholds.operator,
                attempt: self.attempts.get(&request.pool).copied().unwrap_or_default(),
            };
            self.keygens.insert(request.pool, Keygen::start(terms, roster.clone(), &me, effects));
        }
    }

    fn start_presigns(&mut self, effects: &mut Effects) {
        let guardians = self.present(self.manifest.guardians());
        if !self.manifest.is_guardian_committee(&guardians) {
            return;
        }
        for (pool, pubkey, validator_index) in self.ledger.validators() {
            let Some(keygen) = self.keygens.get(&pool) else { continue };
            let Some(key) = keygen.key() else { continue };
            let of_pool = |presign: &&Presign| presign.terms().pool == pool;
            let done = self.presigns.values().filter(of_pool).any(|presign| presign.finished().is_some());
            if key.certificate.pubkey() != pubkey || done || self.presigns.len() >= MAX_CEREMONIES {
                continue;
            }
            let operators = self.present(keygen.terms().operators.clone());
            if !self.manifest.is_operator_committee(&operators) {
                continue;
            }
            let all: Vec<MemberId> = operators.iter().chain(&guardians).copied().collect();
            let Some(roster) = self.admission.roster(&all) else { continue };
            let terms = PresignTerms {
                manifest: self.manifest.hash(),
                roster: roster.digest(),
                network: self.manifest.network,
                pool,
                certificate: key.certificate.clone(),
                operators,
                guardians: guardians.clone(),
                guardian_threshold: self.manifest.thresholds.guardian,
                exit: VoluntaryExit { epoch: EXIT_EPOCH, validator_index },
            };
            lend!(self, |me, setting| {
                self.presigns
                    .entry(terms.ceremony())
                    .or_insert_with(|| Presign::start(terms, roster, key, &me, &setting, effects));
            });
        }
    }

    fn start_releases(&mut self, effects: &mut Effects) {
        let me = Me { keys: &self.keys, coins: &self.coins };
        // A guardian that agrees seals its share to the leader.
        if self.admission.not_cut_off(self.manifest.leader).is_err() {
            return;
        }
        for presign in self.presigns.values() {
            let Some(source) = self.ledger.exit(presign.terms().pool) else { continue };
            let terms =
                ReleaseTerms { presign: presign.terms().clone(), source, leader: self.manifest.leader };
            let ceremony = terms.ceremony();
            self.releases.entry(ceremony).or_insert_with(|| Release::start(terms, presign, &me, effects));
        }
    }
}
