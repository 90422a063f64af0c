//! What an enclave is at the moment: nothing yet, somebody that gets its state back, somebody that is to take over, or an
//! enclave that has a state.

mod recording;
mod restoring;
mod started;
mod succession;

pub(crate) use started::Started;

use crate::admission::fresh_nonce;
use crate::crypto::secret::SecretBytes;
use crate::dao::Footing;
use crate::effects::Turn;
use crate::log::change::{Change, Genesis};
use crate::log::journal::{Journal, LogName};
use crate::log::seal::LogKeys;
use crate::machine::platform::Platform;
use crate::state::State;
use crate::witness::Watch;
use postern_attestation::ReportData;
use postern_shared::agreement::Voters;
use postern_shared::epoch::{self, SignedEpoch};
use postern_shared::ids::{Digest, MemberId};
use postern_shared::manifest::Manifest;
use postern_shared::message::{Certificates, Envelope};
use postern_shared::policy::Trust;
use postern_shared::record::{KeySlot, LogHead, LogId, SealedRecord};
use postern_shared::wire::{MAX_UNDECIDED, Rejection, Reply, Request, Standing, Status};
use restoring::Restoring;
use std::collections::BTreeMap;
use succession::Heir;
use zeroize::Zeroizing;

/// See the module.
pub(crate) enum Life {
    Idle,
    Restoring(Box<Restoring>),
    Succeeding(Box<Heir>),
    Started(Box<Started>),
}

impl Life {
    /// Serves a request. An enclave that has a state writes a snapshot when its log has grown by `snapshot_after` bytes.
    pub(crate) fn serve(
        &mut self,
        request: Request,
        snapshot_after: usize,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<Reply, Rejection> {
        match request {
            // Over zeros, which no identity hashes to: a host that chose the data could pose as an enclave.
            Request::Report => {
                let report = turn.platform.report(&ReportData([0; 64])).map_err(|_| Rejection::Platform)?;
                Ok(Reply::Report(report))
            }
            Request::Start { manifest, epochs, member, certificates } => {
                self.start(&manifest, &epochs, member, certificates, turn)
            }
            Request::Restore { slot, certificates } => self.restore(&slot, certificates, turn),
            Request::Records(records) => self.read(&records, turn),
            Request::Restored => self.restored(turn),
            Request::Succeed { manifest, epochs, member, certificates } => {
                self.succeed(&manifest, &epochs, member, certificates, turn)
            }
            Request::Meet(introduction) => {
                let Self::Succeeding(heir) = self else { return Err(Rejection::NoSuccession) };
                let attestation = heir.meet(&introduction, turn.platform)?;
                Ok(Reply::Attestation(Box::new(attestation)))
            }
            Request::TakeOver(envelope) => self.take_over(&envelope),
            request => {
                let Self::Started(started) = self else { return Err(Rejection::NotStarted) };
                let result = started.serve(request, turn);
                started.write_snapshot_if_due(snapshot_after, turn);
                result
            }
        }
    }

    /// What people are shown of it, beside the number of the newest output.
    pub(crate) fn status(&self, newest_output: u64) -> Status {
        let mut status = Status {
            identity: None,
            manifest: None,
            epoch: 0,
            admitted: Vec::new(),
            refused: Vec::new(),
            newest_output,
            standing: Standing::Idle,
            incarnation: 0,
            head: LogHead::START,
            waiting: None,
            undecided: Vec::new(),
        };
        match self {
            Self::Idle => {}
            Self::Succeeding(_) => status.standing = Standing::Succeeding,
            Self::Restoring(restoring) => {
                let (next, head) = restoring.progress();
                (status.standing, status.head) = (Standing::Restoring { next }, head);
            }
            Self::Started(started) => {
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
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<Reply, Rejection> {
        let chain = check_manifest(first, epochs, member, turn.platform)?;
        let manifest = chain.last().ok_or(Rejection::InvalidManifest)?;
        if let Self::Started(started) = self {
            if started.state.dao.genesis != manifest.genesis() || started.state.dao.own() != member {
                return Err(Rejection::StartedOtherwise);
            }
            return started.state.dao.renew(certificates, turn).map(|()| Reply::Done);
        }
        let failed = |_| Rejection::Platform;
        let mut seed = Zeroizing::new([0; 32]);
        turn.platform.fill_random(&mut seed[..]).map_err(failed)?;
        let (mut log, nonce) = ([0; 32], fresh_nonce(turn.platform)?);
        turn.platform.fill_random(&mut log).map_err(failed)?;
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
            State::begin(&genesis, turn.platform.trust_anchor().clone()).ok_or(Rejection::InvalidManifest)?;
        state.dao.renew(certificates, turn)?;
        let name = LogName { dao: state.dao.genesis, member, log };
        let keys = LogKeys::draw(turn.platform).map_err(failed)?;
        let journal = Journal::new(keys, name, LogHead::START);
        turn.outbox.output(journal.make_slot(turn.platform)?);
        let mut started = Started { state, journal, watch: Watch::default() };
        started.commit(Change::Begun(Box::new(genesis)), turn)?;
        *self = Self::Started(Box::new(started));
        Ok(Reply::Done)
    }

    fn restore(
        &mut self,
        slot: &KeySlot,
        certificates: Certificates,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<Reply, Rejection> {
        // A state that is known to be old may be replaced; one that is not, never.
        if matches!(self, Self::Started(started) if started.watch.stale.is_none()) {
            return Err(Rejection::StartedOtherwise);
        }
        *self = Self::Restoring(Box::new(Restoring::of(slot, certificates, turn.platform)?));
        Ok(Reply::Done)
    }

    fn succeed(
        &mut self,
        first: &[u8],
        epochs: &[SignedEpoch],
        member: MemberId,
        certificates: Certificates,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<Reply, Rejection> {
        if matches!(self, Self::Started(_)) {
            return Err(Rejection::StartedOtherwise);
        }
        let manifest =
            check_manifest(first, epochs, member, turn.platform)?.pop().ok_or(Rejection::InvalidManifest)?;
        let heir = Heir::new(manifest, member, certificates, turn)?;
        let challenge = heir.challenge();
        *self = Self::Succeeding(Box::new(heir));
        Ok(Reply::Challenge(challenge))
    }

    fn take_over(&mut self, envelope: &Envelope) -> Result<Reply, Rejection> {
        let Self::Succeeding(heir) = self else { return Err(Rejection::NoSuccession) };
        *self = Self::Restoring(Box::new(Restoring::inherited(heir, envelope)?));
        Ok(Reply::Done)
    }

    fn read(
        &mut self,
        records: &[SealedRecord],
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<Reply, Rejection> {
        for record in records {
            let Self::Restoring(restoring) = self else { return Err(Rejection::NotRestoring) };
            if let Err(rejection) = restoring.read(record, turn) {
                *self = Self::Idle;
                return Err(rejection);
            }
        }
        Ok(Reply::Done)
    }

    fn restored(&mut self, turn: &mut Turn<'_, impl Platform>) -> Result<Reply, Rejection> {
        let restoring = match core::mem::replace(self, Self::Idle) {
            Self::Restoring(restoring) => *restoring,
            other => {
                *self = other;
                return Err(Rejection::NotRestoring);
            }
        };
        *self = Self::Started(Box::new(restoring.finish(turn)?));
        Ok(Reply::Done)
    }
}

/// All manifests of a DAO that this member is in, the newest last.
fn check_manifest(
    first: &[u8],
    epochs: &[SignedEpoch],
    member: MemberId,
    platform: &impl Platform,
) -> Result<Vec<Manifest>, Rejection> {
    let first = Manifest::from_canonical(first).map_err(|_| Rejection::InvalidManifest)?;
    // What has happened under manifests before it, this enclave could not judge: who voted in agreements, for one.
    if first.history.is_some() {
        return Err(Rejection::InvalidManifest);
    }
    let manifests = epoch::chain(&first, epochs).map_err(|_| Rejection::InvalidEpoch)?;
    let newest = manifests.last().unwrap_or(&first);
    newest.member(member).ok_or(Rejection::NotAMember(member))?;
    check_trust(newest, platform)?;
    Ok(manifests)
}

/// Evidence is judged by the root that the manifest says, which must be the machine's.
pub(super) fn check_trust(manifest: &Manifest, platform: &impl Platform) -> Result<(), Rejection> {
    let anchor = platform.trust_anchor();
    let trusted = match manifest.attestation.trust {
        Trust::Amd => anchor.is_amd(),
        Trust::Simulation { root } => !anchor.is_amd() && Digest(anchor.fingerprint()) == root,
    };
    if trusted { Ok(()) } else { Err(Rejection::WrongTrust) }
}
