//! An enclave's whole state, as a function of its changes.
//!
//! [`Session::apply`] is all that ever changes it. It asks no machine for anything, so the same changes give the same
//! state: that is how an enclave that starts again gets back what it had.

use crate::admission::{Admission, Amended};
use crate::agreement::Agreement;
use crate::ceremony::keygen::Keygen;
use crate::ceremony::presign::Presign;
use crate::ceremony::release::Release;
use crate::ceremony::{Me, Scene, Setting};
use crate::change::{Change, Genesis};
use crate::coins::Coins;
use crate::decisions::{Agreed, Candidate};
use crate::effects::Effects;
use crate::keys::IdentityKeys;
use crate::ledger::Ledger;
use crate::secret::SecretBytes;
use crate::succession::{self, Inheritance};
use crate::vault::{Settled, Vault};
use crate::witness::Notes;
use core::ops::Deref;
use postern_attestation::TrustAnchor;
use postern_shared::agreement::{Mark, Voters};
use postern_shared::codec;
use postern_shared::epoch::{self, PoolManager, SignedEpoch};
use postern_shared::ethereum::VoluntaryExit;
use postern_shared::events::{ChainEvent, EventSource};
use postern_shared::identity::{Identity, Roster};
use postern_shared::ids::{Address, CeremonyId, ManifestHash, MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::message::{Broadcast, Envelope, PeerMessage, Slot};
use postern_shared::presign::PresignTerms;
use postern_shared::record::{LogHead, LogId};
use postern_shared::release::ReleaseTerms;
use postern_shared::wire::{Notice, Output, Recipient, Rejection};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use zeroize::Zeroizing;

/// Most presigns that go on at a time.
const MAX_CEREMONIES: usize = 100_000;

/// Most presigns of one pool. Each is begun by another answer of this host, or another set of members that are there; beyond
/// that a pool stands still. They bound what a settled pool takes: at most 8 · 80 KB with 40 members, below
/// [`crate::journal::MAX_CONTENT`].
const MAX_PRESIGNS: usize = 8;

/// Presigned exits are valid from the first epoch on, so that they are ripe whenever they are needed.
const EXIT_EPOCH: u64 = 0;

/// See the module.
pub(crate) struct Session {
    pub(crate) manifest: Manifest,
    /// Every manifest so far, in canonical form: ceremonies end under the one that they began under.
    pub(crate) manifests: BTreeMap<ManifestHash, Vec<u8>>,
    /// The enclaves that manifests so far have named, by member and machine.
    pub(crate) identities: BTreeMap<(MemberId, u32), Identity>,
    /// The pool managers of every manifest so far, those before this enclave's first one too: their pools are served.
    pub(crate) pool_managers: Vec<PoolManager>,
    pub(crate) dao: ManifestHash,
    pub(crate) seed: SecretBytes,
    pub(crate) keys: IdentityKeys,
    pub(crate) coins: Coins,
    pub(crate) admission: Admission,
    anchor: TrustAnchor,
    pub(crate) ledger: Ledger,
    /// By generation, all that have voted in agreements so far.
    pub(crate) voters: BTreeMap<u64, Voters>,
    /// Epochs that may follow, to be agreed on, and the agreement.
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) succession: Option<Agreement>,
    /// By manifest, what has followed on it, for those that have missed it.
    pub(crate) agreed: BTreeMap<ManifestHash, Agreed>,
    /// On each pool's key.
    pub(crate) agreements: BTreeMap<PoolId, Agreement>,
    /// Of each pool manager, the highest pool of which a key was adopted, as far as this enclave knows; and up to which it
    /// does not know what the machine before it has said.
    pub(crate) marks: BTreeMap<Address, Mark>,
    pub(crate) unknown: BTreeMap<Address, u32>,
    /// Whether it takes a lost machine's place and has never acted.
    pub(crate) is_newcomer: bool,
    /// Whom the host wants to go on without.
    pub(crate) without: BTreeSet<MemberId>,
    /// The run of each pool's current attempt, or the one that was decided on.
    pub(crate) keygens: BTreeMap<PoolId, Keygen>,
    /// Runs of earlier attempts that this enclave has confirmed: they may yet be decided on.
    pub(crate) parked: BTreeMap<CeremonyId, Keygen>,
    /// Who was convicted in runs that were given up.
    pub(crate) convicted: BTreeMap<PoolId, BTreeSet<MemberId>>,
    pub(crate) presigns: BTreeMap<CeremonyId, Presign>,
    pub(crate) releases: BTreeMap<CeremonyId, Release>,
    /// Which releases there are: of which presign, for which wish, led by whom.
    released: BTreeSet<(CeremonyId, EventSource, MemberId)>,
    pub(crate) vault: Vault,
    /// Splits that came after their presigns were settled, until these are packed again.
    pub(crate) late: BTreeMap<CeremonyId, Vec<Broadcast>>,
    /// Who has come late with a split that is none. Not part of the state: what they say is refused in any case.
    refused_late: BTreeSet<(CeremonyId, MemberId)>,
    /// Where members' logs stand, this one's among them.
    pub(crate) notes: Notes,
    /// Who was shown the epoch that it lacks since the last tick. Not part of the state.
    pub(crate) caught_up: BTreeSet<MemberId>,
    /// Outputs that wait until enough members remember the changes that they came of.
    pub(crate) held: VecDeque<Output>,
    /// Whether all this is for a successor.
    pub(crate) handed_over: bool,
}

/// What the manifest in force says of this enclave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Footing {
    /// Nothing yet: the DAO may name it, as the first of its member or for the machine after the one in force.
    Candidate,
    /// It is the member's.
    Named,
    /// Another is the member's.
    Replaced,
}

/// Lends the parts of a session that every ceremony needs, beside the ceremony itself.
macro_rules! lend {
    ($session:ident, $effects:ident, |$scene:ident| $body:expr) => {{
        let attested = |roster: &Roster| $session.admission.attested(roster);
        let $scene = &mut Scene {
            me: Me { keys: &$session.keys, coins: &$session.coins },
            setting: Setting { manifests: &$session.manifests, attested: &attested },
            effects: &mut *$effects,
        };
        $body
    }};
}
pub(crate) use lend;

impl Session {
    /// What a genesis begins. `None` if it is none.
    pub(crate) fn begin(genesis: &Genesis, anchor: TrustAnchor) -> Option<Self> {
        let manifest = Manifest::from_canonical(&genesis.manifest).ok()?;
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(genesis.seed.expose().try_into().ok()?);
        let coins = Coins::new(seed);
        let keys = IdentityKeys::derive(&coins, genesis.member, genesis.machine);
        let own = *keys.identity();
        let notes = Notes::begin(genesis, &manifest);
        let mut session = Self {
            manifests: BTreeMap::from([(manifest.hash(), genesis.manifest.clone())]),
            pool_managers: genesis.pool_managers.clone(),
            dao: manifest.genesis(),
            seed: genesis.seed.clone(),
            admission: Admission::new(&manifest, own, anchor.clone()),
            anchor,
            manifest,
            keys,
            coins,
            ledger: Ledger::default(),
            voters: genesis.voters.iter().map(|voters| (voters.since, voters.clone())).collect(),
            candidates: Vec::new(),
            succession: None,
            agreed: BTreeMap::new(),
            agreements: BTreeMap::new(),
            marks: BTreeMap::new(),
            unknown: BTreeMap::new(),
            is_newcomer: genesis.machine > 0,
            without: BTreeSet::new(),
            keygens: BTreeMap::new(),
            parked: BTreeMap::new(),
            convicted: BTreeMap::new(),
            presigns: BTreeMap::new(),
            releases: BTreeMap::new(),
            released: BTreeSet::new(),
            vault: Vault::default(),
            late: BTreeMap::new(),
            refused_late: BTreeSet::new(),
            notes,
            identities: genesis
                .identities
                .iter()
                .map(|known| ((known.member, known.machine), *known))
                .collect(),
            caught_up: BTreeSet::new(),
            held: VecDeque::new(),
            handed_over: false,
        };
        session.name_enclaves();
        Some(session)
    }

    /// Remembers whom the manifest names.
    fn name_enclaves(&mut self) {
        let named = self.manifest.identities();
        self.identities.extend(named.map(|identity| ((identity.member, identity.machine), identity)));
    }

    pub(crate) fn own(&self) -> MemberId {
        self.keys.identity().member
    }

    pub(crate) fn me(&self) -> Me<'_> {
        Me { keys: &self.keys, coins: &self.coins }
    }

    /// Seals what a successor is given.
    pub(crate) fn bequeath(
        &self,
        successor: &Identity,
        inheritance: &Inheritance,
    ) -> Result<Envelope, Rejection> {
        succession::hand_over(&self.keys, &self.coins, self.dao, successor, inheritance)
    }

    /// Applies a change and all that follows from it. What it refuses may have changed something too: a proved cheat, say.
    pub(crate) fn apply(&mut self, change: &Change, effects: &mut Effects) -> Result<(), Rejection> {
        let result = self.apply_one(change, effects);
        self.decide(effects);
        self.start_presigns(effects);
        self.start_releases(effects);
        result
    }

    /// This is for the successor now, which writes a log of its own. Not a change: that log begins with what it comes to.
    pub(crate) fn take_over(&mut self, log: LogId) {
        self.handed_over = false;
        self.notes.take_over(log);
    }

    /// The log has come to `head`, in a change that had these outputs to hold back.
    pub(crate) fn recorded(&mut self, head: LogHead, gated: Vec<Output>) {
        self.notes.recorded(head);
        self.held.extend(gated);
    }

    /// Pools whose exit is presigned, packed, and settled ones of which more is known since; about `most` bytes of them.
    pub(crate) fn settled(&self, most: usize) -> Vec<Settled> {
        let mut presigns: BTreeMap<PoolId, Vec<&Presign>> = BTreeMap::new();
        for presign in self.presigns.values() {
            presigns.entry(presign.terms().pool).or_default().push(presign);
        }
        let settle = |(pool, keygen): (&PoolId, &Keygen)| {
            let presigns = presigns.get(pool)?;
            let index = self.ledger.validator_index(*pool)?;
            let finished = |presign: &&Presign| {
                presign.finished().is_some() && presign.terms().exit.validator_index == index
            };
            presigns.iter().find(|presign| finished(presign))?;
            let presigns = presigns.iter().map(|presign| presign.settle()).collect();
            Some(Settled::pack(*pool, keygen.settle()?, presigns))
        };
        let me = self.me();
        let again = self.late.keys().filter_map(|ceremony| self.vault.repack(*ceremony, &self.late, &me));
        let mut size = 0_usize;
        let fits = |settled: &Settled| {
            let first = size == 0;
            size = size.saturating_add(settled.size());
            first || size <= most
        };
        // A pool of which two presigns have late splits is packed with both.
        let mut seen = BTreeSet::new();
        let all = self.keygens.iter().filter_map(settle).chain(again);
        all.filter(|settled| seen.insert(settled.pool)).take_while(fits).collect()
    }

    /// Moves settled pools out of what goes on.
    pub(crate) fn keep_settled(&mut self, settled: Vec<Settled>) {
        for one in &settled {
            self.ledger.forget(one.pool);
            self.agreements.remove(&one.pool);
            self.convicted.remove(&one.pool);
            self.keygens.remove(&one.pool);
            self.parked.retain(|_, keygen| keygen.terms().request.pool != one.pool);
            for (_, presign) in self.presigns.extract_if(.., |_, presign| presign.terms().pool == one.pool) {
                self.vault.keep_roster(presign.roster());
            }
            for ceremony in one.presigns() {
                self.late.remove(&ceremony);
            }
        }
        self.vault.keep(settled);
    }

    fn apply_one(&mut self, change: &Change, effects: &mut Effects) -> Result<(), Rejection> {
        match change {
            Change::Resumed(marks) => {
                effects.change();
                self.notes.apply(change);
                self.resumed(marks);
            }
            Change::Begun(_)
            | Change::Returned(..)
            | Change::Promised(_)
            | Change::Noted(_)
            | Change::Learnt(_) => {
                effects.change();
                self.notes.apply(change);
            }
            Change::HandedOver => {
                effects.change();
                self.handed_over = true;
            }
            Change::Admitted(admitted) => {
                effects.change();
                self.admission.admit((**admitted).clone());
            }
            Change::CutOff(refused) => {
                effects.change();
                self.admission.cut_off(refused.clone());
            }
            Change::LetOut(count) => {
                for _ in 0..*count {
                    if let Some(output) = self.held.pop_front() {
                        effects.let_out(output);
                    }
                }
            }
            Change::Signed(epoch) => self.take_epoch(epoch, effects)?,
            Change::Amended(epoch) => self.amend(epoch, effects)?,
            Change::Observed(event) => {
                self.must_serve(event.pool())?;
                if self.observe(event)? {
                    effects.change();
                }
            }
            Change::Without(members) => {
                let without = members.iter().copied().collect();
                if self.without != without {
                    effects.change();
                    self.without = without;
                }
            }
            Change::GivenUp(subject) => self.give_up(*subject, effects)?,
            Change::Ticked => self.on_tick(effects),
            Change::Heard(bytes) => match codec::decode(bytes).map_err(|_| Rejection::Malformed)? {
                PeerMessage::Broadcast(statement) => self.on_statement(statement, effects)?,
                PeerMessage::Envelope(envelope) => self.on_envelope(&envelope, effects)?,
                _ => return Err(Rejection::Malformed),
            },
        }
        Ok(())
    }

    /// An event counts if it is of the DAO's chain and of a contract that the DAO has named, in whatever epoch. A pool is
    /// known by all of that: two contracts' pools of one number have nothing to do with each other.
    pub(crate) fn must_serve(&self, pool: PoolId) -> Result<(), Rejection> {
        let PoolId { chain, contract, number: _ } = pool;
        if chain != self.manifest.network.chain_id {
            return Err(Rejection::OtherChain(chain));
        }
        if self.pool_manager(contract).is_none() {
            return Err(Rejection::OtherContract(contract));
        }
        Ok(())
    }

    /// What is known of a pool manager that the DAO has named.
    pub(crate) fn pool_manager(&self, contract: Address) -> Option<&PoolManager> {
        self.pool_managers.iter().find(|manager| manager.contract == contract)
    }

    /// The manifest in force, in canonical form.
    pub(crate) fn canonical(&self) -> &[u8] {
        self.manifests.get(&self.manifest.hash()).map(Vec::as_slice).unwrap_or_default()
    }

    /// What the manifest says of this enclave.
    pub(crate) fn footing(&self) -> Footing {
        let own = self.keys.identity();
        match self.manifest.identity(own.member) {
            Some(named) if named == *own => Footing::Named,
            Some(named) if named.machine >= own.machine => Footing::Replaced,
            _ => Footing::Candidate,
        }
    }

    fn amend(&mut self, epoch: &SignedEpoch, effects: &mut Effects) -> Result<(), Rejection> {
        if self.knows(epoch) {
            return Ok(());
        }
        let manifest = self.check_epoch(epoch)?;
        effects.change();
        let decision = self.succession.take().and_then(|agreement| agreement.decision().cloned());
        self.candidates.clear();
        if let Some(next) = Voters::after(self.voters.values().next_back(), &manifest) {
            self.voters.insert(next.since, next);
        }
        let (hash, signatures) = (manifest.hash(), epoch.signatures.clone());
        self.agreed.insert(self.manifest.hash(), Agreed { manifest: hash, signatures, decision });
        self.notes.amend(&manifest);
        self.manifests.insert(hash, epoch.manifest.clone());
        epoch::follow_manager(&mut self.pool_managers, Some(&self.manifest), &manifest);
        let Amended { died, cut_off } = self.admission.amend(&manifest, self.anchor.clone());
        cut_off.into_iter().for_each(|refused| effects.notice(Notice::Refused(refused)));
        for member in died {
            // A secret that still waits to leave would go to an enclave that is nobody any more. What takes its place keeps the
            // order, by which a remembered place in the log lets outputs out.
            for output in &mut self.held {
                if matches!(output, Output::Send { to: Recipient::One(to), .. } if *to == member) {
                    *output = Output::Notice(Notice::Withheld(member));
                }
            }
        }
        self.manifest = manifest;
        self.name_enclaves();
        // Let in by a cut, untold what the machine before it has said: it knows of no pool so far that nothing was said of it.
        if self.is_newcomer && self.notes.is_acting() {
            self.is_newcomer = false;
            self.unknown = self.pool_managers.iter().map(|manager| (manager.contract, u32::MAX)).collect();
        }
        Ok(())
    }

    /// Takes note of what has happened on a chain; says whether that is new.
    ///
    /// Hosts err, so an event takes the place of another one like it as long as nothing that left this enclave depends on
    /// it: a deposit until this enclave has judged a run for it, a validator's index until its exit is presigned and packed. That
    /// the DAO wants a pool out is only ever added to.
    fn observe(&mut self, event: &ChainEvent) -> Result<bool, Rejection> {
        let own = self.own();
        let may_correct = match event {
            ChainEvent::DepositRequested(request) => {
                let pool = &request.pool;
                let judged = self.keygens.get(pool).is_some_and(|run| run.has_judged(own));
                let parked = self.parked.values().any(|run| run.terms().request.pool == *pool);
                let voted = self.agreements.get(pool).is_some_and(Agreement::has_voted);
                !judged && !parked && !voted
            }
            ChainEvent::ValidatorIndexed { .. } | ChainEvent::ExitRequested { .. } => true,
        };
        if self.vault.contains(event.pool()) {
            self.vault.observe(event)?;
            self.ledger.observe_settled(event)
        } else {
            self.ledger.observe(*event, self.vault.len(), may_correct)
        }
    }

    fn on_tick(&mut self, effects: &mut Effects) {
        self.tick_agreements(effects);
        self.tick_decided(effects);
        self.keygens.values().for_each(|keygen| keygen.on_tick(effects));
        lend!(self, effects, |scene| {
            self.presigns.values_mut().for_each(|presign| presign.on_tick(scene));
            for release in self.releases.values_mut().filter(|release| !release.is_finished()) {
                let ReleaseTerms { presign, leader, source } = release.terms();
                let wanted = self.ledger.is_wish(presign.pool, *source);
                if !wanted || self.admission.not_cut_off(*leader).is_err() {
                    continue;
                }
                if let Some(presign) =
                    find(&self.presigns, &self.vault, &self.late, &scene.me, presign.ceremony())
                    && self.admission.enclave(*leader) == presign.roster().get(*leader)
                {
                    release.on_tick(&presign, scene);
                }
            }
        });
    }

    /// Routes an authentic statement to its ceremony. Who speaks is told by the ceremony's own roster.
    fn on_statement(&mut self, statement: Broadcast, effects: &mut Effects) -> Result<(), Rejection> {
        if statement.slot.step.is_of_an_agreement() {
            return self.on_agreement(&statement, effects);
        }
        let from = statement.slot.from;
        let ceremony = statement.slot.ceremony;
        let authentic = |roster: &Roster| match roster.get(from) {
            None => Err(Rejection::NotAMember(from)),
            Some(speaker) if statement.signed_digest().verify(speaker) => Ok(()),
            Some(_) => Err(Rejection::NotAuthentic),
        };
        self.admission.not_cut_off(from)?;
        if self.vault.is_settled(ceremony) {
            return self.on_late(statement, effects);
        }
        lend!(self, effects, |scene| {
            let parked = self.parked.values_mut();
            if let Some(keygen) = self.keygens.values_mut().chain(parked).find(|run| run.id() == ceremony) {
                authentic(keygen.roster())?;
                // All operators make a key, or none does: with one that is cut off, it stands still.
                keygen.roster().members().try_for_each(|member| self.admission.not_cut_off(member))?;
                return keygen.on_statement(statement, scene);
            }
            if let Some(presign) = self.presigns.get_mut(&ceremony) {
                authentic(presign.roster())?;
                return presign.on_statement(statement, scene);
            }
            let release = self.releases.get_mut(&ceremony).ok_or(Rejection::UnknownCeremony)?;
            let ReleaseTerms { presign, leader, source } = release.terms();
            // Of a wish that the own host knows nothing of, nothing is authorised.
            if !self.ledger.is_wish(presign.pool, *source) {
                return Err(Rejection::UnknownCeremony);
            }
            // All that is cheap comes before a settled pool is unpacked.
            let presign = presign.ceremony();
            let roster = self.presigns.get(&presign).map(Presign::roster);
            let roster = roster.or_else(|| self.vault.roster(presign)).ok_or(Rejection::UnknownCeremony)?;
            authentic(roster)?;
            self.admission.not_cut_off(*leader)?;
            // A share is sealed to the enclave that the presign was among: the manifest must not have declared it dead.
            if self.admission.enclave(*leader) != roster.get(*leader) {
                return Err(Rejection::OtherEnclave(*leader));
            }
            if release.has_heard(&statement) {
                return Ok(());
            }
            let presign = find(&self.presigns, &self.vault, &self.late, &scene.me, presign)
                .ok_or(Rejection::UnknownCeremony)?;
            release.on_statement(statement, &presign, scene)
        })
    }

    /// Of a ceremony that is settled, only a split that has not come so far is of use.
    fn on_late(&mut self, statement: Broadcast, effects: &mut Effects) -> Result<(), Rejection> {
        let Slot { ceremony, from, .. } = statement.slot;
        let mut late = self.late.get(&ceremony).into_iter().flatten();
        let known = late.any(|said| said.slot.from == from) || self.refused_late.contains(&(ceremony, from));
        let Some(roster) = self.vault.silent(ceremony, from).filter(|_| !known) else { return Ok(()) };
        let speaker = roster.get(from).ok_or(Rejection::NotAMember(from))?;
        if !statement.signed_digest().verify(speaker) {
            return Err(Rejection::NotAuthentic);
        }
        let kept = lend!(self, effects, |scene| {
            let late = self.late.get(&ceremony).map(Vec::as_slice).unwrap_or_default();
            let presign = self.vault.presign(ceremony, late, &scene.me);
            let mut presign = presign.ok_or(Rejection::UnknownCeremony)?;
            presign.on_late_split(&statement, scene)
        });
        // To find that out once is enough.
        if kept.is_err() {
            self.refused_late.insert((ceremony, from));
        }
        if kept? {
            self.late.entry(ceremony).or_default().push(statement);
        }
        Ok(())
    }

    fn on_envelope(&mut self, envelope: &Envelope, effects: &mut Effects) -> Result<(), Rejection> {
        let slot = envelope.header.slot;
        if envelope.header.to != self.own() {
            return Err(Rejection::Misdirected);
        }
        self.admission.not_cut_off(slot.from)?;
        lend!(self, effects, |scene| {
            let release = self.releases.get_mut(&slot.ceremony).ok_or(Rejection::UnknownCeremony)?;
            if !release.expects(envelope) {
                return Err(Rejection::Invalid);
            }
            // All that is cheap comes before a settled pool is unpacked.
            let presign = release.terms().presign.ceremony();
            let roster = self.presigns.get(&presign).map(Presign::roster);
            let roster = roster.or_else(|| self.vault.roster(presign)).ok_or(Rejection::UnknownCeremony)?;
            let sender = roster.get(slot.from).ok_or(Rejection::NotAMember(slot.from))?;
            let plaintext = self.keys.open(sender, envelope).ok_or(Rejection::NotAuthentic)?;
            if release.is_finished() {
                return Ok(());
            }
            let presign = find(&self.presigns, &self.vault, &self.late, &scene.me, presign)
                .ok_or(Rejection::UnknownCeremony)?;
            release.on_share(slot.from, &plaintext, &presign, scene)
        })
    }

    /// Those of `members` that take part in what begins now: all but who is away.
    pub(crate) fn present(&self, members: Vec<MemberId>) -> Vec<MemberId> {
        members.into_iter().filter(|member| !self.is_away(*member)).collect()
    }

    /// Whether a member is away, by the host's word and by our own.
    pub(crate) fn is_away(&self, member: MemberId) -> bool {
        self.without.contains(&member) && self.admission.identity(member).is_none()
    }

    fn start_presigns(&mut self, effects: &mut Effects) {
        let guardians = self.present(self.manifest.guardians());
        if !self.manifest.is_guardian_committee(&guardians) {
            return;
        }
        let mut done: BTreeSet<(PoolId, u64)> = BTreeSet::new();
        let mut begun: BTreeMap<PoolId, usize> = BTreeMap::new();
        for presign in self.presigns.values() {
            let PresignTerms { pool, exit, .. } = presign.terms();
            *begun.entry(*pool).or_default() += 1;
            if presign.finished().is_some() {
                done.insert((*pool, exit.validator_index));
            }
        }
        for (pool, pubkey, validator_index) in self.ledger.validators() {
            let enough = begun.get(&pool).is_some_and(|begun| *begun >= MAX_PRESIGNS);
            if enough || done.contains(&(pool, validator_index)) || self.presigns.len() >= MAX_CEREMONIES {
                continue;
            }
            let Some(keygen) = self.keygens.get(&pool) else { continue };
            let Some(key) = keygen.key() else { continue };
            if key.certificate.pubkey() != pubkey {
                continue;
            }
            // An enclave that has taken another's place has no share of the key.
            let has_share =
                |operator: &MemberId| self.admission.enclave(*operator) == keygen.roster().get(*operator);
            let mut operators = self.present(keygen.terms().operators.clone());
            operators.retain(has_share);
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
            if !terms.operators_can_sign() {
                continue;
            }
            lend!(self, effects, |scene| {
                self.presigns
                    .entry(terms.ceremony())
                    .or_insert_with(|| Presign::start(terms, roster, key, scene));
            });
        }
    }

    fn start_releases(&mut self, effects: &mut Effects) {
        for (pool, source) in self.ledger.exits() {
            let live = self.presigns.iter().filter(|(_, presign)| presign.terms().pool == pool);
            let ceremonies: Vec<CeremonyId> =
                live.map(|(ceremony, _)| *ceremony).chain(self.vault.presigns_of(pool)).collect();
            for ceremony in ceremonies {
                let live = self.presigns.get(&ceremony).map(Presign::roster);
                let Some(roster) = live.or_else(|| self.vault.roster(ceremony)) else { continue };
                // A guardian that agrees seals its share to the enclave that the presign was among, not to another one of
                // its member, and never to one that the manifest has declared dead.
                let lives = |leader: &MemberId| {
                    let enclave = self.admission.enclave(*leader);
                    enclave.is_some() && enclave == roster.get(*leader)
                };
                let of_wish = (ceremony, source, MemberId(0))..=(ceremony, source, MemberId(u16::MAX));
                if self.released.range(of_wish).any(|(.., leader)| lives(leader)) {
                    continue;
                }
                lend!(self, effects, |scene| {
                    let presign = find(&self.presigns, &self.vault, &self.late, &scene.me, ceremony);
                    let Some(presign) = presign else { continue };
                    // The leader when the presign began; if that enclave is dead, the leader now.
                    let manifest = self.manifests.get(&presign.terms().manifest);
                    let manifest = manifest.and_then(|bytes| Manifest::from_canonical(bytes).ok());
                    let first = manifest.map(|manifest| manifest.leader);
                    let mut leaders = first.into_iter().chain([self.manifest.leader]);
                    let Some(leader) = leaders.find(lives) else { continue };
                    if self.admission.not_cut_off(leader).is_err() {
                        continue;
                    }
                    let terms = ReleaseTerms { presign: presign.terms().clone(), source, leader };
                    scene.effects.change();
                    self.released.insert((ceremony, source, leader));
                    self.releases.insert(terms.ceremony(), Release::start(terms, &presign, scene));
                });
            }
        }
    }

    /// Rebuilds the index of releases after they were restored.
    pub(crate) fn index_releases(&mut self) {
        let of = |release: &Release| {
            let ReleaseTerms { presign, source, leader } = release.terms();
            (presign.ceremony(), *source, *leader)
        };
        self.released = self.releases.values().map(of).collect();
    }
}

/// A presign that goes on, or one that was settled and is made of the vault's bytes again.
enum Found<'a> {
    Live(&'a Presign),
    Settled(Box<Presign>),
}

impl Deref for Found<'_> {
    type Target = Presign;

    fn deref(&self) -> &Presign {
        match self {
            Self::Live(presign) => presign,
            Self::Settled(presign) => presign,
        }
    }
}

fn find<'a>(
    presigns: &'a BTreeMap<CeremonyId, Presign>,
    vault: &Vault,
    late: &BTreeMap<CeremonyId, Vec<Broadcast>>,
    me: &Me<'_>,
    ceremony: CeremonyId,
) -> Option<Found<'a>> {
    let settled = || {
        let late = late.get(&ceremony).map(Vec::as_slice).unwrap_or_default();
        vault.presign(ceremony, late, me).map(|presign| Found::Settled(Box::new(presign)))
    };
    presigns.get(&ceremony).map(Found::Live).or_else(settled)
}
