//! What is settled: pools whose key is made and whose exit is split, and that wait for the DAO to want them out.
//!
//! A settled pool is kept as few bytes, in memory and in one record, until something is asked of it; then its presign is
//! made of them again. All its presigns are kept, finished or not: another member may have finished another one, and lead a
//! release of it. An operator that was silent so far may still speak ([`Vault::silent`]); its split is kept beside the
//! packed pool until the next snapshot, which packs the pool once more. Its size grows with the number of operators times the guardians' threshold: about 1.6 KB for
//! five members of whom three act, 2.9 KB for seven of whom five do.

use crate::ceremony::keygen::SettledKeygen;
use crate::ceremony::presign::{Presign, SettledPresign};
use crate::crypto::keys::Me;
use crate::crypto::secret::SecretBytes;
use postern_shared::codec;
use postern_shared::ethereum::DepositMessage;
use postern_shared::events::ChainEvent;
use postern_shared::hash::Transcriber;
use postern_shared::identity::Roster;
use postern_shared::ids::{CeremonyId, Digest, MemberId, PoolId};
use postern_shared::message::Broadcast;
use postern_shared::wire::Rejection;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which pools are settled, as records count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VaultHead {
    pub(crate) count: u64,
    pub(crate) digest: Digest,
}

/// A settled pool, packed.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Settled {
    pub(crate) pool: PoolId,
    keygen: CeremonyId,
    presigns: Vec<Outline>,
    /// The encoding of a [`Content`].
    content: SecretBytes,
}

/// What is known of a settled presign without unpacking it.
#[derive(Clone, Serialize, Deserialize)]
struct Outline {
    ceremony: CeremonyId,
    roster: Digest,
    /// Operators whose splits have not come.
    silent: Vec<MemberId>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    keygen: SettledKeygen,
    presigns: Vec<SettledPresign>,
}

/// All settled pools.
#[derive(Default)]
pub(crate) struct Vault {
    pools: BTreeMap<PoolId, Settled>,
    ceremonies: BTreeMap<CeremonyId, PoolId>,
    rosters: BTreeMap<Digest, Roster>,
    head: Option<VaultHead>,
}

impl VaultHead {
    pub(crate) const START: Self = Self { count: 0, digest: Digest([0; 32]) };

    /// With these added.
    pub(crate) fn with(self, settled: &[Settled]) -> Self {
        settled.iter().fold(self, |head, one| Self {
            count: head.count.saturating_add(1),
            digest: Transcriber::new("postern-vault-v1")
                .bytes(&head.digest.0)
                .bytes(&codec::encode_secret(one))
                .finish(),
        })
    }
}

impl Settled {
    /// Packs a pool whose ceremonies are over.
    pub(crate) fn pack(pool: PoolId, keygen: SettledKeygen, presigns: Vec<SettledPresign>) -> Self {
        let outline = |presign: &SettledPresign| Outline {
            ceremony: presign.ceremony(),
            roster: presign.roster(),
            silent: presign.silent().collect(),
        };
        let (id, outlines) = (keygen.ceremony(), presigns.iter().map(outline).collect());
        let content = SecretBytes::of(&codec::encode_secret(&Content { keygen, presigns }));
        Self { pool, keygen: id, presigns: outlines, content }
    }

    /// Its presigns.
    pub(crate) fn presigns(&self) -> impl Iterator<Item = CeremonyId> {
        self.presigns.iter().map(|presign| presign.ceremony)
    }

    /// About as many bytes as it takes in a record.
    pub(crate) fn size(&self) -> usize {
        let outline = |outline: &Outline| 70_usize.saturating_add(outline.silent.len().saturating_mul(3));
        let outlines = self.presigns.iter().map(outline).fold(50, usize::saturating_add);
        outlines.saturating_add(self.content.expose().len())
    }

    /// Some pool that takes so many bytes and can't be unpacked.
    #[cfg(test)]
    pub(crate) fn of_size(pool: PoolId, size: usize) -> Self {
        let ceremony = |first: u8| {
            let mut id = [first; 32];
            id[..4].copy_from_slice(&pool.number.to_be_bytes());
            CeremonyId(id)
        };
        let outline = Outline { ceremony: ceremony(2), roster: Digest([3; 32]), silent: Vec::new() };
        let content = SecretBytes::of(&vec![7; size]);
        Self { pool, keygen: ceremony(1), presigns: vec![outline], content }
    }

    fn unpack(&self) -> Option<Content> {
        postcard::from_bytes(self.content.expose()).ok()
    }
}

impl Vault {
    pub(crate) fn head(&self) -> VaultHead {
        self.head.unwrap_or(VaultHead::START)
    }

    pub(crate) fn len(&self) -> usize {
        self.pools.len()
    }

    pub(crate) fn contains(&self, pool: PoolId) -> bool {
        self.pools.contains_key(&pool)
    }

    /// Whether a ceremony is over and settled.
    pub(crate) fn is_settled(&self, ceremony: CeremonyId) -> bool {
        self.ceremonies.contains_key(&ceremony)
    }

    pub(crate) fn keep(&mut self, settled: Vec<Settled>) {
        self.head = Some(self.head().with(&settled));
        for one in settled {
            self.ceremonies.insert(one.keygen, one.pool);
            self.ceremonies.extend(one.presigns.iter().map(|presign| (presign.ceremony, one.pool)));
            self.pools.insert(one.pool, one);
        }
    }

    /// Keeps whom settled ceremonies were among.
    pub(crate) fn keep_roster(&mut self, roster: &Roster) {
        self.rosters.entry(roster.digest()).or_insert_with(|| roster.clone());
    }

    pub(crate) fn rosters(&self) -> impl Iterator<Item = &Roster> {
        self.rosters.values()
    }

    /// A pool's presigns.
    pub(crate) fn presigns_of(&self, pool: PoolId) -> impl Iterator<Item = CeremonyId> {
        self.pools
            .get(&pool)
            .into_iter()
            .flat_map(|settled| &settled.presigns)
            .map(|presign| presign.ceremony)
    }

    /// The participants of a settled presign.
    pub(crate) fn roster(&self, ceremony: CeremonyId) -> Option<&Roster> {
        self.rosters.get(&self.outline(ceremony)?.roster)
    }

    /// The participants of a settled presign, if this operator's split of it has not come.
    pub(crate) fn silent(&self, ceremony: CeremonyId, operator: MemberId) -> Option<&Roster> {
        self.roster(ceremony)
            .filter(|_| self.outline(ceremony).is_some_and(|presign| presign.silent.contains(&operator)))
    }

    fn outline(&self, ceremony: CeremonyId) -> Option<&Outline> {
        let settled = self.pools.get(self.ceremonies.get(&ceremony)?)?;
        settled.presigns.iter().find(|presign| presign.ceremony == ceremony)
    }

    /// A settled presign as it was, with the splits that have come since.
    pub(crate) fn presign(&self, ceremony: CeremonyId, late: &[Broadcast], me: &Me<'_>) -> Option<Presign> {
        let settled = self.pools.get(self.ceremonies.get(&ceremony)?)?;
        let Content { keygen, presigns } = settled.unpack()?;
        let presign = presigns.into_iter().find(|presign| presign.ceremony() == ceremony)?;
        let roster = self.rosters.get(&presign.roster())?;
        Presign::revive(presign, late, &keygen.key()?, roster.clone(), me)
    }

    /// Packs a settled pool with the splits that have come since.
    pub(crate) fn repack(
        &self,
        ceremony: CeremonyId,
        late: &BTreeMap<CeremonyId, Vec<Broadcast>>,
        me: &Me<'_>,
    ) -> Option<Settled> {
        let settled = self.pools.get(self.ceremonies.get(&ceremony)?)?;
        let late = |ceremony| late.get(&ceremony).map(Vec::as_slice).unwrap_or_default();
        let presign =
            |outline: &Outline| Some(self.presign(outline.ceremony, late(outline.ceremony), me)?.settle());
        let presigns = settled.presigns.iter().map(presign).collect::<Option<_>>()?;
        Some(Settled::pack(settled.pool, settled.unpack()?.keygen, presigns))
    }

    /// What the key of a settled pool has signed first.
    pub(crate) fn deposit_message(&self, pool: PoolId) -> Option<DepositMessage> {
        Some(self.pools.get(&pool)?.unpack()?.keygen.deposit_message())
    }

    /// Whether an event is the one that a settled pool came from.
    pub(crate) fn observe(&self, event: &ChainEvent) -> Result<(), Rejection> {
        let known = |pool: &PoolId| self.pools.get(pool).and_then(Settled::unpack);
        let same = match event {
            ChainEvent::DepositRequested(request) => {
                known(&request.pool).is_some_and(|content| content.keygen.request() == request)
            }
            ChainEvent::ValidatorIndexed { pool, pubkey, validator_index } => {
                known(pool).is_some_and(|content| {
                    content.keygen.pubkey() == *pubkey
                        && content
                            .presigns
                            .iter()
                            .any(|presign| presign.validator_index() == *validator_index)
                })
            }
            ChainEvent::ExitRequested { .. } => true,
        };
        if same { Ok(()) } else { Err(Rejection::ContradictoryEvent) }
    }
}
