//! What is settled: pools whose key is made and whose exit is split, and that wait for the DAO to want them out.
//!
//! A settled pool is kept as few bytes, in memory and in one record, until something is asked of it; then its presign is
//! made of them again. Its size grows with the number of operators times the guardians' threshold: about 1.6 KB for
//! five members of whom three act, 2.9 KB for seven of whom five do.

use crate::ceremony::keygen::SettledKeygen;
use crate::ceremony::presign::{Presign, SettledPresign};
use crate::secret::SecretBytes;
use postern_shared::codec;
use postern_shared::events::ChainEvent;
use postern_shared::hash::Transcriber;
use postern_shared::identity::Roster;
use postern_shared::ids::{CeremonyId, Digest, PoolId};
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
    presign: CeremonyId,
    /// The encoding of a [`Content`].
    content: SecretBytes,
}

#[derive(Serialize, Deserialize)]
struct Content {
    keygen: SettledKeygen,
    presign: SettledPresign,
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
    pub(crate) fn pack(pool: PoolId, keygen: SettledKeygen, presign: SettledPresign) -> Self {
        let (keygen_id, presign_id) = (keygen.ceremony(), presign.ceremony());
        let content = SecretBytes::of(&codec::encode_secret(&Content { keygen, presign }));
        Self { pool, keygen: keygen_id, presign: presign_id, content }
    }

    /// Some pool that takes so many bytes and can't be unpacked.
    #[cfg(test)]
    pub(crate) fn of_size(pool: PoolId, size: usize) -> Self {
        let ceremony = |first: u8| {
            let mut id = [first; 32];
            id[..4].copy_from_slice(&pool.number.to_be_bytes());
            CeremonyId(id)
        };
        Self { pool, keygen: ceremony(1), presign: ceremony(2), content: SecretBytes::of(&vec![7; size]) }
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
            self.ceremonies.insert(one.presign, one.pool);
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

    /// A pool's presign, and its ceremony.
    pub(crate) fn presign_of(&self, pool: PoolId) -> Option<CeremonyId> {
        self.pools.get(&pool).map(|settled| settled.presign)
    }

    /// A settled presign as it was.
    pub(crate) fn presign(&self, ceremony: CeremonyId) -> Option<Presign> {
        let settled = self.pools.get(self.ceremonies.get(&ceremony)?)?;
        let content = settled.unpack().filter(|_| settled.presign == ceremony)?;
        let key = content.keygen.key()?;
        let roster = self.rosters.get(&content.presign.roster())?;
        Presign::revive(content.presign, &key, roster.clone())
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
                    content.presign.validator_index() == *validator_index
                        && content.keygen.pubkey() == *pubkey
                })
            }
            ChainEvent::ExitRequested { .. } => true,
        };
        if same { Ok(()) } else { Err(Rejection::ContradictoryEvent) }
    }
}
