//! An enclave's whole state, as a function of its changes.
//!
//! [`Session::apply`] is all that ever changes it. It asks no machine for anything, so the same changes give the same
//! state: that is how an enclave that starts again gets back what it had.

use crate::admission::Admission;
use crate::ceremony::keygen::Keygen;
use crate::ceremony::presign::Presign;
use crate::ceremony::release::Release;
use crate::ceremony::{Me, Setting};
use crate::change::{Change, Genesis};
use crate::coins::Coins;
use crate::effects::Effects;
use crate::keys::IdentityKeys;
use crate::ledger::Ledger;
use crate::secret::SecretBytes;
use crate::succession::{self, Inheritance};
use crate::vault::{Settled, Vault};
use crate::witness::Notes;
use core::ops::Deref;
use postern_attestation::TrustAnchor;
use postern_shared::codec;
use postern_shared::epoch::SignedEpoch;
use postern_shared::ethereum::VoluntaryExit;
use postern_shared::identity::{Identity, Roster};
use postern_shared::ids::{Address, CeremonyId, ManifestHash, MemberId, PoolId};
use postern_shared::keygen::KeygenTerms;
use postern_shared::manifest::Manifest;
use postern_shared::message::{Broadcast, Envelope, PeerMessage};
use postern_shared::presign::PresignTerms;
use postern_shared::record::LogHead;
use postern_shared::release::ReleaseTerms;
use postern_shared::wire::{Output, Rejection};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use zeroize::Zeroizing;

/// Most presigns and releases that go on at a time.
const MAX_CEREMONIES: usize = 100_000;

/// Presigned exits are valid from the first epoch on, so that they are ripe whenever they are needed.
const EXIT_EPOCH: u64 = 0;

/// See the module.
pub(crate) struct Session {
    pub(crate) manifest: Manifest,
    /// Every manifest so far, in canonical form: ceremonies end under the one that they began under.
    pub(crate) manifests: BTreeMap<ManifestHash, Vec<u8>>,
    /// The pool managers of every manifest so far, those before this enclave's first one too: their pools are served.
    pub(crate) pool_managers: BTreeSet<Address>,
    /// Which of the member's machines this is.
    pub(crate) machine: u32,
    pub(crate) dao: ManifestHash,
    pub(crate) seed: SecretBytes,
    pub(crate) keys: IdentityKeys,
    coins: Coins,
    pub(crate) admission: Admission,
    anchor: TrustAnchor,
    pub(crate) ledger: Ledger,
    pub(crate) attempts: BTreeMap<PoolId, u32>,
    /// Whom the host wants to go on without.
    pub(crate) without: BTreeSet<MemberId>,
    /// Pools of which a replaced keygen was confirmed.
    pub(crate) confirmed: BTreeSet<PoolId>,
    pub(crate) keygens: BTreeMap<PoolId, Keygen>,
    pub(crate) presigns: BTreeMap<CeremonyId, Presign>,
    pub(crate) releases: BTreeMap<CeremonyId, Release>,
    /// Presigns of which there is a release.
    released: BTreeSet<CeremonyId>,
    pub(crate) vault: Vault,
    /// Where members' logs stand, this one's among them.
    pub(crate) notes: Notes,
    /// Outputs that wait until enough members remember the changes that they came of.
    pub(crate) held: VecDeque<Output>,
    /// Whether all this is for a successor.
    pub(crate) handed_over: bool,
}

/// Lends the parts of a session that every ceremony needs, beside the ceremony itself.
macro_rules! lend {
    ($session:ident, |$me:ident, $setting:ident| $body:expr) => {{
        let $me = Me { keys: &$session.keys, coins: &$session.coins };
        let attested = |roster: &Roster| $session.admission.attested(roster);
        let $setting = Setting { manifests: &$session.manifests, attested: &attested };
        $body
    }};
}

impl Session {
    /// What a genesis begins. `None` if it is none.
    pub(crate) fn begin(genesis: &Genesis, anchor: TrustAnchor) -> Option<Self> {
        let manifest = Manifest::from_canonical(&genesis.manifest).ok()?;
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(genesis.seed.expose().try_into().ok()?);
        let coins = Coins::new(seed);
        let keys = IdentityKeys::derive(&coins, genesis.member);
        let own = *keys.identity();
        Some(Self {
            manifests: BTreeMap::from([(manifest.hash(), genesis.manifest.clone())]),
            pool_managers: genesis.pool_managers.iter().copied().collect(),
            machine: genesis.machine,
            dao: manifest.genesis(),
            seed: genesis.seed.clone(),
            admission: Admission::new(&manifest, own, anchor.clone()),
            anchor,
            manifest,
            keys,
            coins,
            ledger: Ledger::default(),
            attempts: BTreeMap::new(),
            without: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            keygens: BTreeMap::new(),
            presigns: BTreeMap::new(),
            releases: BTreeMap::new(),
            released: BTreeSet::new(),
            vault: Vault::default(),
            notes: Notes::begin(genesis.member, genesis.machine, genesis.nonce),
            held: VecDeque::new(),
            handed_over: false,
        })
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
        self.start_keygens(effects);
        self.start_presigns(effects);
        self.start_releases(effects);
        result
    }

    /// The log has come to `head`, in a change that had these outputs to hold back.
    pub(crate) fn recorded(&mut self, head: LogHead, gated: Vec<Output>) {
        self.notes.recorded(head);
        self.held.extend(gated);
    }

    /// Pools whose ceremonies are over, packed; at most `most`.
    pub(crate) fn settled(&self, most: usize) -> Vec<Settled> {
        let mut presigns: BTreeMap<PoolId, Vec<&Presign>> = BTreeMap::new();
        for presign in self.presigns.values() {
            presigns.entry(presign.terms().pool).or_default().push(presign);
        }
        let settle = |(pool, keygen): (&PoolId, &Keygen)| {
            // Of several, another than ours may be the leader's.
            let [presign] = presigns.get(pool)?.as_slice() else { return None };
            Some(Settled::pack(*pool, keygen.settle()?, presign.settle()?))
        };
        self.keygens.iter().filter_map(settle).take(most).collect()
    }

    /// Moves settled pools out of what goes on.
    pub(crate) fn keep_settled(&mut self, settled: Vec<Settled>) {
        for one in &settled {
            self.ledger.forget(one.pool);
            self.attempts.remove(&one.pool);
            self.confirmed.remove(&one.pool);
            self.keygens.remove(&one.pool);
            for (_, presign) in self.presigns.extract_if(.., |_, presign| presign.terms().pool == one.pool) {
                self.vault.keep_roster(presign.roster());
            }
        }
        self.vault.keep(settled);
    }

    fn apply_one(&mut self, change: &Change, effects: &mut Effects) -> Result<(), Rejection> {
        match change {
            Change::Begun(_) | Change::Returned(..) | Change::Resumed | Change::Noted(_) => {
                effects.change();
                self.notes.apply(change);
            }
            Change::HandedOver | Change::TakenOver => {
                effects.change();
                self.handed_over = matches!(change, Change::HandedOver);
            }
            Change::Admitted(admitted) => {
                effects.change();
                let identity = &admitted.attestation.identity;
                if self.admission.enclave(identity.member) != Some(identity) {
                    self.notes.forget(identity.member);
                }
                self.admission.admit((**admitted).clone());
            }
            Change::CutOff(refused) => {
                effects.change();
                self.admission.cut_off(refused.clone());
            }
            Change::Released(count) => {
                for _ in 0..*count {
                    if let Some(output) = self.held.pop_front() {
                        effects.let_out(output);
                    }
                }
            }
            Change::Amended(epoch) => self.amend(epoch, effects)?,
            Change::Observed(event) if self.vault.contains(event.pool()) => {
                self.vault.observe(event)?;
                if self.ledger.observe_settled(event)? {
                    effects.change();
                }
            }
            Change::Observed(event) => {
                self.must_serve(event.pool())?;
                if self.ledger.observe(*event, self.vault.len())? {
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
            Change::Retried(pool) => self.retry(*pool, effects)?,
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
    fn must_serve(&self, pool: PoolId) -> Result<(), Rejection> {
        let PoolId { chain, contract, number: _ } = pool;
        if chain != self.manifest.network.chain_id {
            return Err(Rejection::OtherChain(chain));
        }
        if !self.pool_managers.contains(&contract) {
            return Err(Rejection::OtherContract(contract));
        }
        Ok(())
    }

    /// The manifest in force, in canonical form.
    pub(crate) fn canonical(&self) -> &[u8] {
        self.manifests.get(&self.manifest.hash()).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether the manifest has given this enclave's machine up.
    pub(crate) fn is_replaced(&self) -> bool {
        self.manifest.member(self.own()).is_none_or(|entry| entry.machine != self.machine)
    }

    fn amend(&mut self, epoch: &SignedEpoch, effects: &mut Effects) -> Result<(), Rejection> {
        if self.manifests.values().any(|known| *known == epoch.manifest) {
            return Ok(());
        }
        let manifest = epoch.verify(&self.manifest).map_err(|_| Rejection::InvalidEpoch)?;
        // Quorums of members that remember each other's logs must meet, and shares be had for all.
        if manifest.members.len() != self.manifest.members.len() {
            return Err(Rejection::NewMembers);
        }
        effects.change();
        self.manifests.insert(manifest.hash(), epoch.manifest.clone());
        self.pool_managers.insert(manifest.contracts.pool_manager);
        self.admission.amend(&manifest, self.anchor.clone());
        self.manifest = manifest;
        Ok(())
    }

    fn on_tick(&mut self, effects: &mut Effects) {
        self.keygens.values().for_each(|keygen| keygen.on_tick(effects));
        lend!(self, |me, setting| {
            self.presigns.values_mut().for_each(|presign| presign.on_tick(&setting, effects));
            for release in self.releases.values_mut().filter(|release| !release.is_finished()) {
                if self.admission.not_cut_off(release.terms().leader).is_err() {
                    continue;
                }
                let presign = release.terms().presign.ceremony();
                if let Some(presign) = find(&self.presigns, &self.vault, presign) {
                    release.on_tick(&presign, &me, effects);
                }
            }
        });
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
        // Late, of a ceremony that is over: whatever it says, nothing depends on it any more.
        if self.vault.is_settled(ceremony) {
            return Ok(());
        }
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
            let presign = find(&self.presigns, &self.vault, release.terms().presign.ceremony())
                .ok_or(Rejection::UnknownCeremony)?;
            authentic(presign.roster())?;
            self.admission.not_cut_off(release.terms().leader)?;
            release.on_statement(statement, &presign, &me, &setting, effects)
        })
    }

    fn on_envelope(&mut self, envelope: &Envelope, effects: &mut Effects) -> Result<(), Rejection> {
        let slot = envelope.header.slot;
        if envelope.header.to != self.own() {
            return Err(Rejection::Misdirected);
        }
        self.admission.not_cut_off(slot.from)?;
        lend!(self, |me, setting| {
            let release = self.releases.get_mut(&slot.ceremony).ok_or(Rejection::UnknownCeremony)?;
            let presign = find(&self.presigns, &self.vault, release.terms().presign.ceremony())
                .ok_or(Rejection::UnknownCeremony)?;
            if !release.expects(envelope) {
                return Err(Rejection::Invalid);
            }
            let sender = presign.roster().get(slot.from).ok_or(Rejection::NotAMember(slot.from))?;
            let plaintext = self.keys.open(sender, envelope).ok_or(Rejection::NotAuthentic)?;
            release.on_share(slot.from, &plaintext, &presign, &me, &setting, effects)
        })
    }

    fn retry(&mut self, pool: PoolId, effects: &mut Effects) -> Result<(), Rejection> {
        if !self.keygens.get(&pool).is_some_and(Keygen::is_retryable) {
            return Err(Rejection::NothingToRetry);
        }
        effects.change();
        let attempt = self.attempts.entry(pool).or_default();
        *attempt = attempt.saturating_add(1);
        if self.keygens.remove(&pool).is_some_and(|keygen| keygen.has_confirmed()) {
            self.confirmed.insert(pool);
        }
        Ok(())
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
        let finished = self.presigns.values().filter(|presign| presign.finished().is_some());
        let done: BTreeSet<PoolId> = finished.map(|presign| presign.terms().pool).collect();
        for (pool, pubkey, validator_index) in self.ledger.validators() {
            if done.contains(&pool) || self.presigns.len() >= MAX_CEREMONIES {
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
        for (pool, source) in self.ledger.exits() {
            let live = self.presigns.iter().filter(|(_, presign)| presign.terms().pool == pool);
            let ceremonies: Vec<CeremonyId> =
                live.map(|(ceremony, _)| *ceremony).chain(self.vault.presign_of(pool)).collect();
            for ceremony in ceremonies {
                if self.released.contains(&ceremony) {
                    continue;
                }
                let Some(presign) = find(&self.presigns, &self.vault, ceremony) else { continue };
                // A release ends under the manifest that its presign began under.
                let manifest = self.manifests.get(&presign.terms().manifest);
                let Some(manifest) = manifest.and_then(|bytes| Manifest::from_canonical(bytes).ok()) else {
                    continue;
                };
                let leader = manifest.leader;
                // A guardian that agrees seals its share to the leader.
                if self.admission.not_cut_off(leader).is_err() {
                    continue;
                }
                let terms = ReleaseTerms { presign: presign.terms().clone(), source, leader };
                effects.change();
                self.released.insert(ceremony);
                self.releases.insert(terms.ceremony(), Release::start(terms, &presign, &me, effects));
            }
        }
    }

    /// Finds again, after the releases were restored, of what they are.
    pub(crate) fn index_releases(&mut self) {
        self.released = self.releases.values().map(|release| release.terms().presign.ceremony()).collect();
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
    ceremony: CeremonyId,
) -> Option<Found<'a>> {
    let settled = || vault.presign(ceremony).map(|presign| Found::Settled(Box::new(presign)));
    presigns.get(&ceremony).map(Found::Live).or_else(settled)
}
