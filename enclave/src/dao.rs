//! The DAO as this enclave knows it, and this enclave as one of its members: what everything that goes on goes by.

use crate::admission::{Admission, Amended, RefusedEvidence};
use crate::agreement::Electorate;
use crate::crypto::coins::Coins;
use crate::crypto::keys::{IdentityKeys, Me};
use crate::crypto::secret::SecretBytes;
use crate::effects::Turn;
use crate::log::change::Genesis;
use crate::machine::platform::Platform;
use postern_attestation::TrustAnchor;
use postern_shared::agreement::Voters;
use postern_shared::epoch::{self, PoolManager, SignedEpoch, check_returns};
use postern_shared::identity::Identity;
use postern_shared::ids::{Address, ManifestHash, MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::message::Certificates;
use postern_shared::wire::{Notice, Rejection};
use std::collections::{BTreeMap, BTreeSet};
use zeroize::Zeroizing;

/// See the module.
pub(crate) struct Dao {
    /// The first manifest: it never changes.
    pub(crate) genesis: ManifestHash,
    /// The manifest in force.
    pub(crate) manifest: Manifest,
    /// Every manifest so far, in canonical form: ceremonies end under the one that they began under.
    pub(crate) manifests: BTreeMap<ManifestHash, Vec<u8>>,
    /// The enclaves that manifests so far have named, by member and machine.
    pub(crate) identities: BTreeMap<(MemberId, u32), Identity>,
    /// The pool managers of every manifest so far, those before this enclave's first one too: their pools are served.
    pub(crate) pool_managers: Vec<PoolManager>,
    /// By generation, all that have voted in agreements so far.
    pub(crate) voters: BTreeMap<u64, Voters>,
    pub(crate) seed: SecretBytes,
    pub(crate) keys: IdentityKeys,
    pub(crate) coins: Coins,
    pub(crate) admission: Admission,
    anchor: TrustAnchor,
    /// Whom the host wants to go on without.
    pub(crate) without: BTreeSet<MemberId>,
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

impl Dao {
    /// As an enclave begins to know it. `None` if the genesis is none.
    pub(crate) fn begin(genesis: &Genesis, anchor: TrustAnchor) -> Option<Self> {
        let manifest = Manifest::from_canonical(&genesis.manifest).ok()?;
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(genesis.seed.expose().try_into().ok()?);
        let coins = Coins::new(seed);
        let keys = IdentityKeys::derive(&coins, genesis.member, genesis.machine);
        let identities = genesis.identities.iter().map(|known| ((known.member, known.machine), *known));
        let mut dao = Self {
            genesis: manifest.genesis(),
            manifests: BTreeMap::from([(manifest.hash(), genesis.manifest.clone())]),
            identities: identities.collect(),
            pool_managers: genesis.pool_managers.clone(),
            voters: genesis.voters.iter().map(|voters| (voters.since, voters.clone())).collect(),
            seed: genesis.seed.clone(),
            admission: Admission::new(&manifest, *keys.identity(), anchor.clone()),
            anchor,
            manifest,
            keys,
            coins,
            without: BTreeSet::new(),
        };
        dao.name_enclaves();
        Some(dao)
    }

    /// Remembers whom the manifest names.
    fn name_enclaves(&mut self) {
        let named = self.manifest.identities();
        self.identities.extend(named.map(|identity| ((identity.member, identity.machine), identity)));
    }

    /// Goes by a new manifest, which `canonical` encodes. Says whom that takes out.
    pub(crate) fn amend(&mut self, manifest: Manifest, canonical: Vec<u8>) -> Amended {
        if let Some(next) = Voters::after(self.voters.values().next_back(), &manifest) {
            self.voters.insert(next.since, next);
        }
        self.manifests.insert(manifest.hash(), canonical);
        epoch::follow_manager(&mut self.pool_managers, Some(&self.manifest), &manifest);
        let amended = self.admission.amend(&manifest, self.anchor.clone());
        self.manifest = manifest;
        self.name_enclaves();
        amended
    }

    /// Uses other certificates; says which checks fail with them.
    pub(crate) fn renew(
        &mut self,
        certificates: Certificates,
        turn: &mut Turn<'_, impl Platform>,
    ) -> Result<(), Rejection> {
        self.admission.renew(&self.manifest, certificates, turn.platform).map_err(|refused| match refused {
            RefusedEvidence::Own(refused) => {
                turn.outbox.notice(Notice::Refused(refused));
                Rejection::OwnEvidence
            }
            RefusedEvidence::Other(rejection) => rejection,
        })
    }

    /// Asks every member that has not proved itself to this launch for evidence.
    pub(crate) fn challenge_missing(&mut self, turn: &mut Turn<'_, impl Platform>) -> Result<(), Rejection> {
        self.admission.challenge_missing(&self.manifest, &self.keys, turn)
    }

    pub(crate) fn own(&self) -> MemberId {
        self.keys.identity().member
    }

    pub(crate) fn me(&self) -> Me<'_> {
        Me { keys: &self.keys, coins: &self.coins }
    }

    /// Whom agreements are among, at the moment.
    pub(crate) fn electorate(&self) -> Electorate<'_> {
        Electorate { me: self.me(), voters: &self.voters, leader: self.manifest.leader }
    }

    /// The voters of now, unless the DAO is not founded.
    pub(crate) fn voters_now(&self) -> Option<&Voters> {
        self.voters.last_key_value().map(|(_, voters)| voters)
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

    /// The manifest in force, in canonical form.
    pub(crate) fn canonical(&self) -> &[u8] {
        self.manifests.get(&self.manifest.hash()).map(Vec::as_slice).unwrap_or_default()
    }

    /// A manifest so far.
    pub(crate) fn manifest_of(&self, hash: ManifestHash) -> Option<Manifest> {
        Manifest::from_canonical(self.manifests.get(&hash)?).ok()
    }

    /// Refuses whoever is no member.
    pub(crate) fn known(&self, member: MemberId) -> Result<(), Rejection> {
        self.manifest.member(member).map(|_| ()).ok_or(Rejection::NotAMember(member))
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

    /// Those of `members` that take part in what begins now: all but who is away.
    pub(crate) fn present(&self, members: Vec<MemberId>) -> Vec<MemberId> {
        members.into_iter().filter(|member| !self.is_away(*member)).collect()
    }

    /// Whether a member is away, by the host's word and by our own.
    pub(crate) fn is_away(&self, member: MemberId) -> bool {
        self.without.contains(&member) && self.admission.identity(member).is_none()
    }

    /// Whether an epoch is in force, or was.
    pub(crate) fn knows(&self, epoch: &SignedEpoch) -> bool {
        self.manifests.values().any(|known| *known == epoch.manifest)
    }

    /// The manifest of an epoch whose turn it is, whoever has signed it.
    pub(crate) fn due_epoch(&self, epoch: &SignedEpoch) -> Result<Manifest, Rejection> {
        let manifest = Manifest::from_canonical(&epoch.manifest).map_err(|_| Rejection::InvalidEpoch)?;
        // One after the other: the carrier keeps it until its turn comes.
        let due = self.manifest.epoch.saturating_add(1);
        if manifest.epoch > due { Err(Rejection::Behind(manifest.epoch)) } else { Ok(manifest) }
    }

    /// The manifest of an epoch that may follow.
    pub(crate) fn check_epoch(&self, epoch: &SignedEpoch) -> Result<Manifest, Rejection> {
        self.due_epoch(epoch)?;
        let manifest = epoch.verify(&self.manifest).map_err(|_| Rejection::InvalidEpoch)?;
        // Quorums of members that remember each other's logs must meet, and shares be had for all.
        if manifest.members.len() != self.manifest.members.len() {
            return Err(Rejection::NewMembers);
        }
        check_returns(self.identities.values().copied(), &self.pool_managers, &self.manifest, &manifest)
            .map_err(|_| Rejection::InvalidEpoch)?;
        Ok(manifest)
    }

    /// Whether an epoch is in force as soon as the wallets have signed it. There is nobody to agree before the DAO is founded,
    /// nor if an epoch makes a cut because nobody acts; and an enclave that is not the member's has no part in it.
    pub(crate) fn is_for_wallets_alone(&self, manifest: &Manifest) -> bool {
        self.voters.is_empty() || manifest.era() == manifest.epoch || self.footing() != Footing::Named
    }
}
